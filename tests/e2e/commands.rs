//! The commands in everyday use: in pipes, stopped and continued, with copied addresses.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::tool::{Tool, publish};
use crate::harness::{Daemon, PATIENCE, Scratch, luxcast, seq_of, wait_until};

fn line(number: u32) -> String {
    format!(r#"{{"type":"x","job_id":"j","n":{number}}}"#)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// `tail` or `record` of this daemon.
fn watching(daemon: &Daemon, command: &str, arguments: &[&str]) -> Command {
    let mut watching = luxcast();
    watching.arg(command).args(arguments).args(["--url", &daemon.address.to_string()]);
    watching
}

fn wait_for_state(child: &Child, state: &str) {
    let stat = format!("/proc/{}/stat", child.id());
    wait_until(&format!("state {state}"), || {
        fs::read_to_string(&stat).is_ok_and(|stat| stat.rsplit_once(") ").unwrap().1.starts_with(state))
    });
}

#[test]
fn a_stopped_command_continues_as_if_nothing_had_happened() {
    let daemon = Daemon::start(&[]);
    let tools = [("tail", &["--json", "--once"][..]), ("record", &["-", "--once", "--since", "now"])];
    let mut tools = tools.map(|(command, arguments)| Tool::start(&mut watching(&daemon, command, arguments)));
    daemon.wait_for_connections(2);
    wait_until("both are let in", || daemon.connections().iter().all(|row| row["phase"] == "open"));
    let mut feed = daemon.acked_feed();
    for number in 0..3 {
        for tool in &tools {
            let pid = Pid::from_raw(tool.child.id().cast_signed()).unwrap();
            kill_process(pid, Signal::STOP).unwrap();
            wait_for_state(&tool.child, "T");
            kill_process(pid, Signal::CONT).unwrap();
        }
        feed.publish([line(number).as_str()]);
        for tool in &mut tools {
            assert!(tool.line().contains(&format!("\"n\":{number}")), "{}", tool.stderr.so_far());
        }
    }
    for tool in &mut tools {
        assert_eq!(tool.child.try_wait().unwrap(), None);
        assert_eq!(tool.stderr.so_far(), "");
    }
}

/// Starts it with its standard output in a pipe, reads one line, and closes the pipe.
fn read_one_line(command: &mut Command) -> (String, Output) {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
    let began = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if began.elapsed() > PATIENCE {
            let _ = child.kill();
            panic!("it does not end");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    (first, child.wait_with_output().unwrap())
}

#[test]
fn an_output_that_nobody_reads_any_more_is_noticed_while_nothing_comes() {
    let daemon = Daemon::start(&[]);
    daemon.acked_feed().publish([line(1).as_str()]);
    for (command, arguments) in [
        ("tail", &["--json", "--since", "-1"][..]),
        ("tail", &["--since", "-1"]),
        ("record", &["-", "--since", "-1"]),
    ] {
        let (first, output) = read_one_line(&mut watching(&daemon, command, arguments));
        assert!(first.contains("n") && output.status.code() == Some(0), "{command} {first} {output:?}");
    }
    let mut sim = luxcast();
    let (first, output) = read_one_line(sim.args(["sim", "--stdout", "--events-per-second", "0.01"]));
    assert!(first.starts_with('{') && output.status.code() == Some(0), "{first} {output:?}");
}

#[test]
fn a_daemon_that_goes_while_there_is_nothing_to_send_is_noticed() {
    let scratch = Scratch::new();
    let slow = scratch.path().join("slow.ndjson");
    let at = |seconds: u32| format!("{{\"type\":\"x\",\"job_id\":\"j\",\"timestamp\":{seconds}}}\n");
    fs::write(&slow, at(0) + &at(1_000)).unwrap();
    let mut daemon = Daemon::start(&[]);
    let mut watcher = daemon.watch("/api/ws/events");
    watcher.connected();
    let mut publish = publish(&daemon, &["-"]);
    // Its input stays open while this is held.
    let mut input = publish.child.stdin.take().unwrap();
    input.write_all(format!("{}\n", line(1)).as_bytes()).unwrap();
    let mut replay = luxcast();
    let mut replay = Tool::start(replay.arg("replay").arg(&slow).arg("--ingest").arg(&daemon.ingest));
    watcher.events(2);
    daemon.kill();
    for tool in [&mut publish, &mut replay] {
        let (code, said) = tool.end();
        assert!(code == 1 && said.contains("the daemon went away"), "{said}");
    }
}

#[test]
fn a_status_line_is_shown_only_under_events_on_its_own_terminal() {
    let daemon = Daemon::start(&[]);
    daemon.acked_feed().publish([line(1).as_str()]);
    let program = env!("CARGO_BIN_EXE_luxcast");
    let tail = format!("{program} tail --since -1 --timeout 1 --url {}", daemon.address);
    let at_terminal = |line: &str| {
        let output = Command::new("script").args(["-qec", line, "/dev/null"]).output().unwrap();
        text(&output.stdout)
    };
    assert!(at_terminal(&tail).contains("events"));
    for elsewhere in [format!("{tail} | cat"), format!("{tail} --json | cat"), format!("{tail} > /dev/null")]
    {
        let shown = at_terminal(&elsewhere);
        assert!(!shown.contains('\u{1b}') && !shown.contains("events"), "{elsewhere}: {shown:?}");
    }
}

fn run(command: &mut Command) -> (i32, String, String) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    (output.status.code().expect("it ends by itself"), text(&output.stdout), text(&output.stderr))
}

#[test]
fn an_address_is_taken_as_it_was_copied() {
    let daemon = Daemon::start(&[]);
    let newest = daemon.acked_feed().publish([line(1).as_str(), r#"{"type":"y","job_id":"k"}"#]);
    let address = daemon.address;
    for (url, seq) in [
        (format!("ws://{address}"), newest),
        (format!("http://{address}/"), newest),
        (address.to_string(), newest),
        (format!("http://{address}/console/"), newest),
        (format!("http://{address}/console/#job=j"), newest - 1),
        (format!("ws://{address}/api/ws/jobs/j/monitor"), newest - 1),
        (format!("ws://{address}/api/v1/ws/events?events=x"), newest - 1),
    ] {
        for by_variable in [false, true] {
            let mut tail = luxcast();
            tail.args(["tail", "--json", "--since", "-1", "--timeout", "1"]);
            match by_variable {
                true => tail.env("LUXCAST_URL", &url),
                false => tail.args(["--url", &url]),
            };
            let (code, shown, said) = run(&mut tail);
            assert_eq!((code, seq_of(&shown)), (0, Some(seq)), "{url}: {shown} {said}");
        }
    }
    for url in ["ws://127.0.0.1:99999", "ws://127.0.0.1:", "ftp://127.0.0.1", "ws://me:secret@127.0.0.1:1"] {
        for command in ["tail", "record"] {
            let (code, _, said) = run(luxcast().args([command, "--url", url]));
            assert!(code == 2 && said.contains("--url") && !said.contains("secret"), "{url}: {said}");
            let (code, _, said) = run(luxcast().arg(command).env("LUXCAST_URL", url));
            assert!(code == 2 && said.contains("LUXCAST_URL"), "{url}: {said}");
        }
    }
}

#[test]
fn every_command_reports_a_mistyped_variable() {
    let nowhere = "/nonexistent/ingest.sock";
    for arguments in [
        &["tail", "--url", "127.0.0.1:1"][..],
        &["record", "--url", "127.0.0.1:1"],
        &["publish", "--ingest", nowhere],
        &["replay", "--ingest", nowhere],
        &["sim", "--stdout", "--count", "0"],
        &["health", "--admin", "127.0.0.1:1"],
        &["token", "--all"],
        &["bus", "check", "--bus", "nats://127.0.0.1:1"],
        &["completions", "bash"],
        &["man"],
        &["check-config"],
        &["serve", "--listen", "127.0.0.1:0", "--admin", "off", "--ingest", nowhere],
    ] {
        let mut command = luxcast();
        command.args(arguments).env("LUXCAST_INGST", "x").env("LUXCAST_DISABLED", "1");
        let (_, _, said) = run(command.env("LUXCAST_TOKEN", "t"));
        let warnings: Vec<&str> = said.lines().filter(|line| line.contains("the variable")).collect();
        assert!(warnings.len() == 1 && warnings[0].contains("LUXCAST_INGST"), "{arguments:?} {said}");
    }
}

#[test]
fn both_places_where_a_daemon_may_be_are_tried_and_named() {
    let scratch = Scratch::new();
    let own = scratch.path().join("luxcast.sock");
    let publish = || {
        let mut publish = luxcast();
        publish.args(["publish", "/dev/null"]).env("XDG_RUNTIME_DIR", scratch.path());
        run(&mut publish)
    };
    if !Path::new("/run/luxcast/ingest.sock").exists() {
        let (code, _, said) = publish();
        let names_both = said.contains(own.to_str().unwrap()) && said.contains("/run/luxcast/ingest.sock");
        assert!(code == 1 && names_both, "{said}");
    }
    let _daemon = Daemon::start(&["--ingest", own.to_str().unwrap()]);
    assert_eq!(publish().0, 0);
}

#[test]
fn a_place_where_nobody_is_and_a_directory_that_is_missing_are_named_as_such() {
    let scratch = Scratch::new();
    let missing = scratch.path().join("missing/feed.sock");
    let missing = missing.to_str().expect("UTF-8");
    let off = ["--listen", "127.0.0.1:0", "--admin", "off", "--ingest", missing];
    for (arguments, words) in [
        (
            &["publish", "/dev/null", "--ingest", missing][..],
            &["no daemon takes events at", missing, "LUXCAST_INGEST"][..],
        ),
        (&["tail", "--url", "127.0.0.1:1"], &["no daemon listens there"]),
        (&[&["serve"], &off[..]].concat(), &["missing does not exist", "--ingest"]),
    ] {
        let (code, _, said) = run(luxcast().args(arguments));
        assert!(code == 1 && words.iter().all(|words| said.contains(words)), "{arguments:?}: {said}");
    }
}

#[test]
fn nothing_panics_when_nobody_reads_the_output() {
    let full = || Stdio::from(fs::OpenOptions::new().write(true).open("/dev/full").unwrap());
    for (arguments, code) in [
        (&["sim", "--stdout", "--count", "3"][..], 0),
        (&["check-config"], 0),
        (&["check-config", "--ingest", "/no/such/directory/socket"], 0),
        (&["health", "--admin", "127.0.0.1:1"], 1),
        (&["check-config", "--shards", "many"], 2),
        (&["serve", "--shards", "many"], 2),
        (&["tail", "--url", "127.0.0.1:1"], 1),
        (&["publish", "/no/such/file"], 2),
        (&["token"], 2),
        (&["man", "fly"], 2),
    ] {
        let mut command = luxcast();
        let status = command
            .args(arguments)
            .env("LUXCAST_UNKNOWN", "x")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(full())
            .status();
        assert_eq!(status.unwrap().code(), Some(code), "{arguments:?}");
    }
}

/// What the page of the commands lists: each command with each exit code that it may end with.
fn documented_codes() -> BTreeSet<(String, i32)> {
    let page = include_str!("../../src/cli/README.md");
    let (_, table) = page.split_once("## Exit codes").expect("it has this part");
    let rows =
        table.lines().skip_while(|line| !line.starts_with("| `")).take_while(|line| line.starts_with('|'));
    let mut codes = BTreeSet::new();
    for row in rows {
        let cells: Vec<&str> = row.split('|').skip(1).map(str::trim).collect();
        for name in cells[0].split('`').skip(1).step_by(2) {
            let filled = (0..).zip(&cells[1..]).filter(|(_, cell)| !cell.is_empty());
            codes.extend(filled.map(|(code, _)| (name.to_owned(), code)));
        }
    }
    codes
}

#[test]
fn each_command_ends_with_the_exit_codes_that_its_page_lists() {
    let mut daemon = Daemon::start(&[]);
    let (here, admin) = (daemon.address.to_string(), daemon.admin.expect("it has one").to_string());
    let ingest = daemon.ingest.to_str().expect("UTF-8").to_owned();
    let nowhere = "/nonexistent/ingest.sock";
    let (port, watch) = (["--url", "127.0.0.1:1"], ["--url", &here, "--timeout", "0.1"]);
    let until_end = [&watch[..], &["--job", "j", "--until-end"]].concat();
    let mut seen = BTreeSet::new();
    for (command, arguments, is_full, code) in [
        ("serve", &["--listen", &here, "--admin", "off", "--ingest", nowhere][..], false, 1),
        ("serve", &["--shards", "many"], false, 2),
        ("check-config", &[], false, 0),
        ("check-config", &[], true, 1),
        ("check-config", &["--shards", "many"], false, 2),
        ("health", &["--admin", &admin], false, 0),
        ("health", &["--admin", "127.0.0.1:1"], false, 1),
        ("health", &["--admin", "127.0.0.1:0"], false, 2),
        ("publish", &["/dev/null", "--ingest", &ingest], false, 0),
        ("publish", &["/dev/null", "--ingest", nowhere], false, 1),
        ("publish", &["/no/such/file"], false, 2),
        ("replay", &["/dev/null", "--ingest", &ingest], false, 0),
        ("replay", &["/dev/null", "--ingest", nowhere], false, 1),
        ("replay", &["/no/such/file"], false, 2),
        ("event", &["x", "--job", "j", "--ingest", &ingest], false, 0),
        ("event", &["x", "--job", "j", "--ingest", nowhere], false, 1),
        ("event", &["x", "--job", "a b"], false, 2),
        ("jobs", &["--url", &here], false, 0),
        ("jobs", &["--url", &here], true, 1),
        ("jobs", &["--status", "done"], false, 2),
        ("run", &["--job", "k", "--ingest", nowhere, "true"], false, 0),
        ("run", &["--job", "k", "--ingest", nowhere, "false"], false, 1),
        ("run", &["--job", "k"], false, 2),
        ("run", &["--job", "k", "--ingest", nowhere, "sh", "-c", "exit 3"], false, 3),
        ("status", &["j", "--url", &here], false, 0),
        ("status", &["k", "--url", &here], false, 1),
        ("status", &[], false, 2),
        ("tail", &watch, false, 0),
        ("tail", &port, false, 1),
        ("tail", &["--url", "ftp://127.0.0.1"], false, 2),
        ("tail", &until_end, false, 3),
        ("record", &watch, false, 0),
        ("record", &port, false, 1),
        ("record", &["/no/such/directory/file"], false, 2),
        ("record", &until_end, false, 3),
        ("token", &["--all"], false, 0),
        ("token", &["--all"], true, 1),
        ("token", &[], false, 2),
        ("sim", &["--stdout", "--count", "1"], false, 0),
        ("sim", &["--stdout"], true, 1),
        ("sim", &["--count", "x"], false, 2),
        ("completions", &["bash"], false, 0),
        ("completions", &["bash"], true, 1),
        ("completions", &["dos"], false, 2),
        ("man", &[], false, 0),
        ("man", &[], true, 1),
        ("man", &["fly"], false, 2),
    ] {
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = if is_full { Stdio::from(full) } else { Stdio::null() };
        let mut run = luxcast();
        run.arg(command).args(arguments).stdin(Stdio::null()).stdout(output).stderr(Stdio::null());
        let status = run.status().expect("it starts");
        assert_eq!(status.code(), Some(code), "{command} {arguments:?}");
        seen.insert((command.to_owned(), code));
    }
    daemon.terminate();
    daemon.wait();
    seen.insert(("serve".to_owned(), 0));
    let documented = documented_codes();
    // `tests/nats` has the servers that it needs.
    let others = documented.iter().filter(|(name, _)| name != "bus").cloned();
    assert_eq!(seen, others.collect());
    let help = run(luxcast().arg("--help")).1;
    let list =
        help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let commands: BTreeSet<&str> =
        list.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help").collect();
    let named: BTreeSet<&str> = documented.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(commands, named);
}

#[test]
fn a_refused_line_has_the_same_number_in_the_log_as_in_its_file() {
    let daemon = Daemon::start(&[]);
    let (code, said) = publish(&daemon, &[]).finish(format!("{}\n\n{{\n", line(1)).as_bytes());
    assert!(code == 1 && said.contains("line 3: bad_json"), "{said}");
    daemon.wait_for_log("line 3 after hello of a publisher refused");
    // Without `hello`, and under a name, all lines count.
    let mut socket = UnixStream::connect(&daemon.ingest).expect("it listens");
    socket.write_all(b"\n[]\n").expect("it reads");
    daemon.wait_for_log("line 2 of a publisher refused");
    let named = ["--publisher", "nightly", "--dedupe"];
    let (_, said) = publish(&daemon, &named).finish(b"{\"type\":\"x\",\"job_id\":\"j\"}\n{\"type\":\"x\"}\n");
    assert!(said.contains("line 2: no_id"), "{said}");
    daemon.wait_for_log("line 2 of a publisher refused: the event has neither");
    // The code alone would not say which member of a control line is at fault.
    let mut socket = UnixStream::connect(&daemon.ingest).expect("it listens");
    socket.write_all(b"{\"op\":\"hello\",\"dedupe\":true}\n").expect("it reads");
    daemon.wait_for_log(": dedupe needs publisher");
}

#[test]
fn the_manual_lists_what_can_be_typed() {
    let page = |name: &str| run(luxcast().args(["man", name])).1;
    for name in
        ["serve", "health", "tail", "record", "replay", "publish", "sim", "token", "bus", "check-config"]
    {
        let (code, version, _) = run(luxcast().args([name, "-V"]));
        assert!(code == 0 && version.contains(env!("CARGO_PKG_VERSION")), "{name} {version}");
        let page = page(name).replace(r"\-", "-");
        assert!(page.contains(&format!(".TH luxcast-{name} 1")), "{page}");
        let synopsis = page.split(".SH SYNOPSIS").nth(1).and_then(|rest| rest.split(".SH").next()).unwrap();
        assert!(
            synopsis.contains(&format!("luxcast {name}")) && !page.contains(&format!("luxcast-{name} ["))
        );
        assert!(page.contains("--version"), "{page}");
    }
}

/// What bash suggests for the last of these words.
fn offered(script: &Path, words: &[&str]) -> String {
    let complete = r#"source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); compopt() { :; }
        _luxcast luxcast "${@: -1}" "${@: -2:1}"; echo "${COMPREPLY[@]}""#;
    let mut bash = Command::new("bash");
    let output = bash.args(["-c", complete, "bash"]).arg(script).args(words).current_dir("/").output();
    text(&output.unwrap().stdout).trim().to_owned()
}

#[test]
fn completions_offer_words_for_words_and_only_files_for_files() {
    let scratch = Scratch::new();
    let script = scratch.path().join("luxcast.bash");
    fs::write(&script, run(luxcast().args(["completions", "bash"])).1).unwrap();
    let offered = |words: &[&str]| offered(&script, words);
    assert_eq!(offered(&["luxcast", "serve", "--overrun", ""]), "gap wait");
    assert_eq!(offered(&["luxcast", "check-config", "--log-format", "j"]), "json");
    for flag in ["--token-file", "--config", "--tls-key-file", "--ingest"] {
        assert!(offered(&["luxcast", "serve", flag, ""]).contains("etc"), "{flag}");
    }
    for (command, flag) in [
        ("serve", "--listen"),
        ("serve", "--shards"),
        ("serve", "--drain-seconds"),
        ("tail", "--job"),
        ("tail", "--events"),
        ("tail", "--since"),
        ("tail", "--timeout"),
        ("record", "--give-up"),
        ("publish", "--publisher"),
        ("replay", "--speed"),
        ("sim", "--seed"),
        ("token", "--jobs"),
    ] {
        assert!(!offered(&["luxcast", command, flag, ""]).contains("etc"), "{command} {flag}");
    }
}

#[test]
fn lines_accepted_earlier_are_distinguished_from_those_never_accepted() {
    let daemon = Daemon::start(&[]);
    let scratch = Scratch::new();
    let [half, other, long] = ["half", "other", "long"].map(|name| scratch.path().join(name));
    let bad = r#"{"type":"x","job_id":"etl/7"}"#;
    fs::write(&half, (0..40).map(|number| format!("{bad}\n{}\n", line(number))).collect::<String>()).unwrap();
    fs::write(&other, (0..80).map(|number| line(number) + "\n").collect::<String>()).unwrap();
    fs::write(&long, fs::read_to_string(&other).unwrap() + &line(80)).unwrap();
    let run = |file: &Path, name: &str| {
        publish(&daemon, &[file.to_str().unwrap(), "--publisher", name, "--dedupe"]).finish(b"")
    };
    let (code, said) = run(&half, "d");
    assert!(code == 1 && said.contains("40 lines accepted now, 40 refused"), "{said}");
    assert!(said.contains("line 1: bad_id") && said.contains(": job_id: character 4 is '/'\n"), "{said}");
    let (code, said) = run(&half, "d");
    assert!(code == 1 && said.contains("0 lines accepted now, 0 refused"), "{said}");
    assert!(
        said.contains("40 lines accepted earlier under the name d, skipped; 40 never accepted"),
        "{said}"
    );
    assert!(said.contains("line 1: bad_id") && !said.contains("line 2:"), "{said}");
    let place = "job_id: character 4 is '/' (never accepted)";
    assert!(said.contains(place) && said.contains("another file needs another name"), "{said}");
    // Another file under the same name.
    let (code, said) = run(&other, "d");
    assert!(code == 0 && said.contains("nothing was sent"), "{said}");
    let (code, said) = run(&long, "d");
    assert!(
        code == 0 && said.contains("1 line accepted now") && !said.contains("nothing was sent"),
        "{said}"
    );
    assert!(said.contains("another file needs another name"), "{said}");
    let (code, said) = run(&long, "e");
    assert!(code == 0 && said.contains("81 lines accepted now") && !said.contains("earlier"), "{said}");
}

#[test]
fn an_event_without_a_time_of_its_own_shows_when_it_came() {
    let daemon = Daemon::start(&[]);
    let tail = Tool::tail(&daemon, &["--job", "j", "--color", "never"]);
    daemon.wait_for_connections(1);
    wait_until("it is let in", || daemon.connections()[0]["phase"] == "open");
    let lines = [
        r#"{"type":"x","job_id":"j"}"#,
        r#"{"type":"x","job_id":"j","timestamp":"step 3"}"#,
        r#"{"type":"x","job_id":"j","timestamp":1736937000123}"#,
    ];
    daemon.acked_feed().publish(lines);
    let check = |tail: &Tool| {
        let shown = [(); 3].map(|()| tail.line());
        let clock = jiff::Timestamp::now();
        for line in &shown[..2] {
            let (time, rest) = line.split_once(' ').unwrap();
            let away = clock.as_second() - time.parse::<jiff::Timestamp>().expect(line).as_second();
            assert!((-5..=60).contains(&away) && rest.starts_with("j x"), "{line}");
        }
        assert!(shown[1].contains("timestamp=\"step 3\""), "{}", shown[1]);
        assert_eq!(shown[2], "2025-01-15T10:30:00.123Z j x");
    };
    check(&tail);
    // Of the past, the daemon knows it.
    let tail = Tool::tail(&daemon, &["--job", "j", "--color", "never", "--since", "start"]);
    assert!(tail.line().contains("j metrics"));
    check(&tail);
}

#[test]
fn a_timeout_ends_the_command_on_time() {
    let daemon = Daemon::start(&[]);
    let limit = Duration::from_millis(500);
    for (command, arguments, code) in [
        ("tail", &["--timeout", "0.5"][..], 0),
        ("tail", &["--timeout", "0.5", "--job", "j", "--until-end"], 3),
        ("tail", &["--timeout", "0.5", "--job", "j", "--until-end", "--exit-status"], 3),
        ("record", &["-", "--timeout", "0.5"], 0),
        ("record", &["-", "--timeout", "0.5", "--job", "j", "--until-end"], 3),
    ] {
        let began = Instant::now();
        let (found, _, said) = run(&mut watching(&daemon, command, arguments));
        assert_eq!(found, code, "{command} {arguments:?} {said}");
        assert!(began.elapsed() >= limit, "{:?}", began.elapsed());
    }
    let mut gone = Daemon::start(&[]);
    let mut tail = Tool::tail(&gone, &["--give-up", "1.5"]);
    gone.wait_for_connections(1);
    gone.kill();
    let began = Instant::now();
    let (code, said) = tail.end();
    assert!(code == 1 && said.contains("given up"), "{said}");
    assert!(began.elapsed() >= Duration::from_millis(1_400), "{:?} {said}", began.elapsed());
}

#[test]
fn one_event_is_sent_without_json_by_hand() {
    let daemon = Daemon::start(&["--http-publish", "anyone", "--depth-max", "3"]);
    let mut watcher = daemon.watch("/api/ws/jobs/j/monitor");
    let event = |arguments: &[&str]| -> (Option<i32>, String) {
        let output = luxcast().arg("event").args(arguments).output().unwrap();
        assert_eq!(output.stdout.len(), 0);
        (output.status.code(), text(&output.stderr))
    };
    let ingest = ["--ingest", daemon.ingest.to_str().unwrap()];
    let url = format!("http://{}", daemon.address);
    let words = ["job_failed", "--job", "j", "error=it \"broke\"\nbadly", "attempts:=[3]"];
    for way in [&ingest[..], &["--url", &url]] {
        assert_eq!(event(&[&words[..], way].concat()), (Some(0), String::new()));
        let seen: serde_json::Value = serde_json::from_str(&watcher.event()).unwrap();
        assert_eq!((&seen["type"], &seen["job_id"]), (&"job_failed".into(), &"j".into()));
        assert_eq!(seen["data"], serde_json::json!({"error": "it \"broke\"\nbadly", "attempts": [3]}));
        assert!(seen["timestamp"].as_str().is_some_and(|time| time.ends_with('Z')));
        let (code, said) = event(&[&["x", "--job", "j", "deep:=[[[1]]]"], way].concat());
        assert!(code == Some(1) && said.contains("too_deep"), "{code:?} {said}");
    }
    assert_eq!(event(&["x", "--job", "j", "--ingest", "/no/such/socket"]).0, Some(1));
    let (code, said) = event(&["x", "--job", "j", "no-value"]);
    assert!(code == Some(2) && said.contains("KEY=TEXT or KEY:=JSON"), "{said}");
}
