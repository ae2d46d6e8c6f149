//! Section 9: starting, settings, ending.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::process::{Command, Output, Stdio};

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::daemon::{Gathered, Setup, is_there};
use crate::harness::{Client, Daemon, Scratch, luxcast, wait_until};

/// Runs the program to its end.
fn run(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = luxcast();
    command.args(arguments).envs(variables.iter().copied()).stdin(Stdio::null());
    command.output().expect("the program can be started")
}

fn error_text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn the_ready_lines_are_all_that_standard_output_gets() {
    let mut daemon = Daemon::start(&["--listen", "127.0.0.1:0", "--listen", "[::1]:0"]);
    let lines = daemon.ready_lines.clone();
    assert_eq!(lines.len(), 4, "{lines:?}");
    assert!(lines[0].starts_with("listening ws://127.0.0.1:"), "{lines:?}");
    assert!(lines[1].starts_with("listening ws://[::1]:"), "{lines:?}");
    assert!(lines[2].starts_with("admin http://127.0.0.1:"), "{lines:?}");
    assert!(lines[3].starts_with("ingest /"), "{lines:?}");
    assert!(!lines[..3].iter().any(|line| line.ends_with(":0")), "a real port is named: {lines:?}");
    let second = lines[1].strip_prefix("listening ws://").unwrap().parse().unwrap();
    let mut watcher = Client::connect(second, "/api/ws/events");
    watcher.connected();
    daemon.acked_feed().publish([r#"{"type":"x","job_id":"j"}"#]);
    watcher.event();
    drop(watcher);
    daemon.stop();
    assert_eq!(daemon.stdout(), format!("{}\n", lines.join("\n")));
}

#[test]
fn the_admin_listener_can_be_switched_off() {
    let daemon = Daemon::start(&["--admin", "off"]);
    assert_eq!(daemon.admin, None);
    assert_eq!(daemon.ready_lines.len(), 2, "{:?}", daemon.ready_lines);
}

#[test]
fn wrong_usage_and_wrong_settings_end_with_2_and_name_what_is_wrong() {
    type Case<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)], &'a [&'a str]);
    // Arguments, variables, and words that the error must contain.
    let table: [Case<'_>; 13] = [
        (&["serve", "--no-such-flag"], &[], &["--no-such-flag"]),
        (&["dance"], &[], &["dance"]),
        (&[], &[], &["Usage"]),
        (&["serve", "--heartbeat-seconds", "0.05"], &[], &["--heartbeat-seconds"]),
        (&["check-config", "--history-bytes", "65535"], &[], &["--history-bytes"]),
        (&["check-config", "--overrun", "drop"], &[], &["--overrun", "gap", "wait"]),
        (&["check-config", "--listen", "everywhere"], &[], &["--listen"]),
        (&["check-config"], &[("LUXCAST_SHARDS", "many")], &["LUXCAST_SHARDS"]),
        (&["serve", "--listen", "0.0.0.0:0"], &[], &["--listen", "allow_anonymous"]),
        // A proxy on this machine stands for all clients behind it.
        (&["serve", "--trusted-proxies", "127.0.0.1"], &[], &["--trusted-proxies", "allow_anonymous"]),
        (&["check-config"], &[("LUXCAST_TRUSTED_PROXIES", "::1")], &["LUXCAST_TRUSTED_PROXIES"]),
        (&["serve", "--config", "/no/such/file.toml"], &[], &["/no/such/file.toml"]),
        (&["tail", "--job", "a b"], &[], &["--job"]),
    ];
    for (arguments, variables, words) in table {
        let output = run(arguments, variables);
        assert_eq!(output.status.code(), Some(2), "{arguments:?} {}", error_text(&output));
        for word in words {
            assert!(
                error_text(&output).contains(word),
                "{arguments:?}: no {word} in {}",
                error_text(&output)
            );
        }
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
    for arguments in [&["--help"][..], &["--version"], &["serve", "--help"], &["tail", "--help"]] {
        let output = run(arguments, &[]);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert!(!output.stdout.is_empty(), "{arguments:?}");
    }
}

#[test]
fn a_check_reports_what_would_keep_the_daemon_from_starting_here() {
    let scratch = Scratch::new();
    let path = |name: &str| scratch.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("file"), "precious").unwrap();
    let (good, none, file) = (path("ingest.sock"), path("none/ingest.sock"), path("file"));
    let check = |ingest: &str, state: &str, more: &[&str]| {
        let words = ["check-config", "--ingest", ingest, "--state-dir", state];
        let output = run(&[&words[..], more].concat(), &[]);
        assert_eq!(output.status.code(), Some(0), "a warning is no error");
        (error_text(&output), output.stdout)
    };
    let (errors, listing) = check(&good, &path("state"), &[]);
    assert!(errors.is_empty() && !listing.is_empty(), "{errors}");
    let (errors, listing) = check(&none, &file, &["--quiet"]);
    assert!(
        errors.contains(&format!("luxcast: warning: ingest: no socket can be made at {none}")),
        "{errors}"
    );
    assert!(errors.contains(&format!("luxcast: warning: the state_dir {file} cannot be used")), "{errors}");
    assert!(listing.is_empty());
    let (errors, _) = check(&file, &path("state"), &["--allowed-origins", "null"]);
    assert!(errors.contains("is not a socket") && errors.contains("null is as open as *"), "{errors}");
    let (errors, _) = check("/proc/x.sock", "/proc/x", &[]);
    assert!(
        errors.contains(
            "cannot lock /proc/x.sock.lock, for the socket /proc/x.sock (--ingest names another place): No such"
        ),
        "{errors}"
    );
    assert!(errors.contains("the state_dir /proc/x cannot be used: No such"), "{errors}");
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 1, "nothing was made");
    // Useless tokens are reported, and never shown.
    fs::write(path("tokens"), "of-all all\nof-nobody\nof-nobody-too debug\n").unwrap();
    let (errors, _) = check(&good, &path("state"), &["--token-file", &path("tokens")]);
    let place = format!("luxcast: warning: {}:2: the token has none of the scopes", path("tokens"));
    assert!(errors.contains(&place) && errors.contains("(and 1 more such)"), "{errors}");
    assert!(!errors.contains("of-nobody"), "{errors}");
}

#[test]
fn health_is_that_of_a_daemon_with_the_same_settings() {
    let mut daemon = Daemon::start(&[]);
    let (admin, listen) = (daemon.admin.unwrap().to_string(), daemon.address.to_string());
    let health = |arguments: &[&str], variables: &[(&str, &str)]| {
        let output = run(&[&["health"], arguments].concat(), variables);
        (output.status.code(), error_text(&output))
    };
    let anonymous = ("LUXCAST_ALLOW_ANONYMOUS", "true");
    let everywhere = admin.replace("127.0.0.1", "0.0.0.0");
    assert_eq!(health(&["--admin", &admin], &[]), (Some(0), String::new()));
    assert_eq!(health(&[], &[("LUXCAST_ADMIN", &everywhere), anonymous]), (Some(0), String::new()));
    assert_eq!(health(&["--admin", "off", "--listen", &listen], &[]), (Some(0), String::new()));
    assert_eq!(health(&["--admin", "127.0.0.1:0"], &[]).0, Some(2));
    assert_eq!(health(&["--shards", "0"], &[]).0, Some(2));
    // The port of another program.
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let elsewhere = other.local_addr().unwrap().to_string();
    let answers = std::thread::spawn(move || {
        let (mut socket, _) = other.accept().unwrap();
        std::io::Write::write_all(&mut socket, b"220 mail.example\r\n").unwrap();
    });
    assert_eq!(health(&["--admin", &elsewhere], &[]).0, Some(1));
    answers.join().unwrap();
    daemon.stop();
    let (code, error) = health(&["--admin", &admin], &[]);
    assert!(code == Some(1) && error.contains(&admin), "{error}");
}

#[test]
fn the_log_begins_with_the_version() {
    let daemon = Daemon::start(&[]);
    let started = format!("luxcast {} has started: ws://{}", env!("CARGO_PKG_VERSION"), daemon.address);
    daemon.wait_for_log(&started);
}

#[test]
fn completions_and_man_pages_know_what_help_knows() {
    let scratch = Scratch::new();
    let script = scratch.path().join("luxcast.bash");
    fs::write(&script, run(&["completions", "bash"], &[]).stdout).unwrap();
    let complete = "source $1; COMP_WORDS=(luxcast tail --until); COMP_CWORD=2; _luxcast luxcast --until tail; \
        echo ${COMPREPLY[@]}";
    let output = Command::new("bash").args(["-c", complete, "bash"]).arg(&script).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "--until-end", "{output:?}");
    for shell in ["zsh", "fish"] {
        let script = String::from_utf8(run(&["completions", shell], &[]).stdout).unwrap();
        assert!(script.contains("history-bytes") && script.contains("until-end"), "{shell}");
    }
    let page = |arguments: &[&str]| String::from_utf8(run(arguments, &[]).stdout).unwrap();
    assert!(page(&["man"]).contains(r"luxcast\-replay(1)"));
    let serve = page(&["man", "serve"]);
    let help = page(&["serve", "--help"]);
    for flag in help.split_whitespace().filter_map(|word| word.strip_prefix("--")) {
        let flag = flag.replace('-', r"\-");
        assert!(serve.contains(&flag), "{flag} in the manual page");
    }
    assert_eq!(run(&["man", "fly"], &[]).status.code(), Some(2));
    assert_eq!(run(&["completions", "dos"], &[]).status.code(), Some(2));
}

#[test]
fn an_error_in_the_file_names_file_line_and_key() {
    let scratch = Scratch::new();
    let path = scratch.path().join("luxcast.toml");
    let name = path.to_str().unwrap();
    let table = [
        ("shards = 2\n\nheart_beat = 3\n", "3", "heart_beat"),
        ("# comment\nshards = \"two\"\n", "2", "shards"),
        ("demo = 1\n", "1", "demo"),
        ("shards = 1\nhistory_bytes = 1\n", "2", "history_bytes"),
        ("shards = 1\nshards = 2\n", "2", "shards"),
        ("[server]\nshards = 1\n", "1", "server"),
    ];
    for (text, line, key) in table {
        fs::write(&path, text).unwrap();
        let output = run(&["check-config", "--config", name], &[]);
        let error = error_text(&output);
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains(&format!("{name}:{line}")) && error.contains(key), "{text:?}: {error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

#[test]
fn flags_go_before_variables_and_those_before_the_file() {
    let scratch = Scratch::new();
    let path = scratch.path().join("luxcast.toml");
    fs::write(&path, "shards = 3\ndrain_seconds = 7.5\nmetrics_seconds = 4\ndemo = true\nlisten = [\"127.0.0.1:1\", \"[::1]:2\"]\n").unwrap();
    let name = path.to_str().unwrap();
    let output = run(
        &["check-config", "--config", name, "--shards", "1"],
        &[
            ("LUXCAST_SHARDS", "2"),
            ("LUXCAST_METRICS_SECONDS", "6"),
            ("LUXCAST_ADMIN", ""),
            ("LUXCAST_UNKNOWN", "x"),
        ],
    );
    assert_eq!(output.status.code(), Some(0), "{}", error_text(&output));
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let row = |setting: &str| -> Vec<String> {
        let mut rows =
            text.lines().map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        rows.find(|row| row[0] == setting).unwrap_or_else(|| panic!("no {setting} in {text}"))
    };
    assert_eq!(row("shards"), ["shards", "1", "--shards"]);
    assert_eq!(row("metrics_seconds"), ["metrics_seconds", "6", "LUXCAST_METRICS_SECONDS"]);
    assert_eq!(row("drain_seconds"), ["drain_seconds", "7.5", &format!("{name}:2")]);
    assert_eq!(row("demo"), ["demo", "true", &format!("{name}:4")]);
    assert!(row("listen").join(" ").contains("127.0.0.1:1"), "{text}");
    assert_eq!(row("admin")[2], "default");
    assert!(error_text(&output).contains("LUXCAST_UNKNOWN"), "an unknown variable is warned of");
    // A variable can name the file, and the daemon obeys all three.
    fs::write(&path, "heartbeat_seconds = 0.2\nconnections_max = 1\n").unwrap();
    let daemon = Setup::default()
        .variable("LUXCAST_CONFIG", name)
        .variable("LUXCAST_CONNECTIONS_MAX", "5")
        .flags(&["--connections-max", "2"])
        .start();
    let mut watcher = daemon.watch("/api/ws/events");
    let _second = daemon.watch("/api/ws/events");
    assert_eq!(daemon.refuse("/api/ws/events").status, 503);
    watcher.json_of("ping");
}

#[test]
fn a_port_in_use_ends_with_1_and_leaves_nothing_behind() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for flag in ["--listen", "--admin"] {
        let scratch = Scratch::new();
        let socket = scratch.path().join("ingest.sock");
        let other = if flag == "--listen" { "--admin" } else { "--listen" };
        let arguments = ["serve", flag, &address, other, "127.0.0.1:0", "--ingest", socket.to_str().unwrap()];
        let output = run(&arguments, &[]);
        assert_eq!(output.status.code(), Some(1), "{}", error_text(&output));
        assert!(error_text(&output).contains(&address), "{}", error_text(&output));
        assert_eq!(error_text(&output).lines().count(), 1, "{}", error_text(&output));
        assert!(output.stdout.is_empty());
        assert!(!is_there(&socket), "{flag}");
    }
}

#[test]
fn the_log_can_be_json_one_object_a_line_and_each_refusal_is_in_it() {
    let mut daemon = Daemon::start(&["--log-format", "json", "--log-level", "debug"]);
    for _ in 0..20 {
        assert_eq!(daemon.refuse("/api/ws/jobs/a%20b/monitor?token=s3cret").status, 400);
    }
    daemon.feed().line("nonsense");
    daemon.wait_for_log("bad_json");
    daemon.stop();
    let log = daemon.stderr();
    let lines: Vec<Value> =
        log.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect();
    for line in &lines {
        for member in ["timestamp", "level", "message"] {
            assert!(line[member].is_string(), "{member} in {line}");
        }
    }
    // One a second at level info, the others at debug.
    let refusals: Vec<&Value> = lines.iter().filter(|line| line["code"] == "bad_id").collect();
    assert_eq!(refusals.len(), 20, "{log}");
    assert!(
        refusals
            .iter()
            .all(|line| line["address"].as_str().is_some_and(|address| address.starts_with("127.0.0.1")))
    );
    assert!(refusals.iter().any(|line| line["level"] == "INFO") && !log.contains("s3cret"), "{log}");
}

#[test]
fn a_fault_that_ends_the_daemon_is_json_too() {
    let daemon = Daemon::start(&[]);
    let address = daemon.address.to_string();
    let output = run(&["serve", "--listen", &address, "--log-format", "json"], &[]);
    assert_eq!(output.status.code(), Some(1));
    let text = error_text(&output);
    let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!(last["level"], "ERROR");
    assert!(last["message"].as_str().unwrap().contains(&address), "{text}");
}

#[test]
fn a_live_socket_and_a_foreign_file_are_never_removed_and_a_stale_socket_is() {
    let scratch = Scratch::new();
    let path = scratch.path().join("ingest.sock");
    let name = path.to_str().unwrap().to_owned();
    let serve = || run(&["serve", "--listen", "127.0.0.1:0", "--admin", "off", "--ingest", &name], &[]);
    // Another daemon's.
    let mut daemon = Daemon::start(&["--ingest", &name]);
    let output = serve();
    assert_eq!(output.status.code(), Some(1), "{}", error_text(&output));
    assert!(error_text(&output).contains(&name), "{}", error_text(&output));
    daemon.acked_feed().publish([r#"{"type":"x","job_id":"j"}"#]);
    // Left behind by kill -9.
    daemon.kill();
    assert!(is_there(&path));
    let mut daemon = Daemon::start(&["--ingest", &name]);
    daemon.acked_feed().publish([r#"{"type":"x","job_id":"j"}"#]);
    daemon.stop();
    assert!(!is_there(&path));
    // No socket at all.
    fs::write(&path, "precious").unwrap();
    let output = serve();
    assert_eq!(output.status.code(), Some(1), "{}", error_text(&output));
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    // A link, also to a stale socket.
    let target = scratch.path().join("target.sock");
    drop(UnixListener::bind(&target).unwrap());
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink(&target, &path).unwrap();
    let output = serve();
    assert_eq!(output.status.code(), Some(1), "{}", error_text(&output));
    assert!(is_there(&path) && is_there(&target));
    // A directory that is not there.
    let output =
        run(&["serve", "--listen", "127.0.0.1:0", "--admin", "off", "--ingest", "/no/such/dir/i.sock"], &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(error_text(&output).contains("/no/such/dir/i.sock"), "{}", error_text(&output));
}

#[test]
fn the_numbers_keep_growing_after_kill_and_restart() {
    let scratch = Scratch::new();
    let path = scratch.path().join("ingest.sock");
    let flags = ["--ingest", path.to_str().unwrap()];
    let mut newest = 0;
    for _ in 0..3 {
        let mut daemon = Daemon::start(&flags);
        let next = daemon.acked_feed().publish([r#"{"type":"x","job_id":"j"}"#; 100]);
        assert!(next >= newest + 100 && next < 1 << 53, "{next} after {newest}");
        newest = next;
        daemon.kill();
    }
}

#[test]
fn sigterm_drains_sends_numbered_events_and_says_when_to_return() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut daemon = Daemon::start(&[]);
        let mut feed = daemon.acked_feed();
        let lines: Vec<String> = (0..20_000)
            .map(|number| format!(r#"{{"type":"x","job_id":"j","n":{number},"pad":"{}"}}"#, "x".repeat(200)))
            .collect();
        let newest = feed.publish(lines.iter().map(String::as_str));
        let mut watchers: Vec<Client> =
            (0..20).map(|_| daemon.watch("/api/ws/jobs/j/monitor?since=start")).collect();
        let mut many = daemon.watch("/api/v1/websocket");
        daemon.wait_for_connections(21);
        daemon.signal(signal);
        let readers: Vec<_> =
            watchers.drain(..).map(|mut watcher| std::thread::spawn(move || watcher.until_close())).collect();
        let mut waits = Vec::new();
        for reader in readers {
            let (texts, close) = reader.join().unwrap();
            assert_eq!(texts.len(), 1 + 1 + 20_000 + 1, "greeting, metrics, all that was numbered, goodbye");
            assert_eq!(u16::from(close.expect("a close frame").code), 1012);
            waits.push(goodbye(texts.last().unwrap(), newest));
        }
        let (texts, close) = many.until_close();
        assert_eq!(u16::from(close.expect("a close frame").code), 1012);
        waits.push(goodbye(texts.last().unwrap(), newest));
        assert!(waits.iter().all(|wait| (500..=5_500).contains(wait)), "{waits:?}");
        waits.sort_unstable();
        let steps = waits.windows(2).map(|pair| pair[1] - pair[0]);
        assert!(
            steps.clone().max() < Some(1_000) && waits[20] - waits[0] > 3_500,
            "spread evenly: {waits:?}"
        );
        assert_eq!(daemon.wait().code(), Some(0), "{}", daemon.stderr());
        assert!(!is_there(&daemon.ingest));
    }
}

/// Checks a `disconnected` and returns its `retry_after_ms`.
fn goodbye(text: &str, newest: u64) -> u64 {
    let message: Value = serde_json::from_str(text).unwrap();
    assert_eq!(message["type"], "connection:status", "{text}");
    assert_eq!(message["status"], "disconnected");
    assert_eq!(message["stream_seq"], newest);
    assert_eq!(message["timestamp"], message["server_time"]);
    assert!(message["reason"].is_string());
    message["retry_after_ms"].as_u64().expect("a number")
}

#[test]
fn a_draining_daemon_refuses_and_ends_in_time_and_a_second_signal_ends_it_at_once() {
    let mut daemon = Daemon::start(&["--drain-seconds", "3"]);
    // It never answers the close frame, so that draining takes long.
    let mut stuck = daemon.raw();
    stuck.upgrade("/api/ws/events");
    daemon.terminate();
    assert_eq!(stuck.read_frame_of(0x8).payload[..2], 1012_u16.to_be_bytes());
    let refused = daemon.refuse("/api/ws/events");
    assert_eq!((refused.status, refused.code().as_str()), (503, "draining"));
    assert!(refused.header("retry-after").is_some());
    // An `EventSource` that comes back would give up for good at this: it is told to come again.
    for (fields, status) in [
        ("Accept: text/event-stream\r\nLast-Event-ID: 7\r\n", 200),
        ("Accept: text/event-stream\r\n", 503),
        ("Accept: application/jsonl\r\nLast-Event-ID: 7\r\n", 503),
    ] {
        let mut raw = daemon.raw();
        raw.send(format!("GET /api/v1/ws/events HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n").as_bytes());
        let answer = raw.read_next(false);
        assert_eq!((answer.status, answer.is_last()), (status, true), "{fields}");
        if status == 200 {
            assert_eq!(answer.header("content-type"), Some("text/event-stream"));
            let millis = answer.body.strip_prefix("retry: ").and_then(|rest| rest.strip_suffix("\n\n"));
            let millis: u64 = millis.expect("nothing else").parse().expect("milliseconds");
            assert!((1_000..=6_000).contains(&millis), "{millis}");
        }
    }
    assert_eq!(daemon.wait().code(), Some(0), "{}", daemon.stderr());

    let mut daemon = Daemon::start(&["--drain-seconds", "3000"]);
    let mut stuck = daemon.raw();
    stuck.upgrade("/api/ws/events");
    daemon.terminate();
    stuck.read_frame_of(0x8);
    assert!(daemon.is_running());
    daemon.terminate();
    assert_eq!(daemon.wait().code(), Some(1));
}

#[test]
fn a_draining_daemon_reads_no_more_of_the_feed() {
    let mut daemon = Daemon::start(&["--drain-seconds", "3"]);
    let mut feed = daemon.acked_feed();
    let newest = feed.publish([r#"{"type":"x","job_id":"j"}"#]);
    let mut stuck = daemon.raw();
    stuck.upgrade("/api/ws/events");
    daemon.terminate();
    stuck.read_frame_of(0x8);
    let _ = std::io::Write::write(&mut feed.stream, b"{\"type\":\"late\",\"job_id\":\"j\"}\n");
    assert_eq!(daemon.wait().code(), Some(0));
    while let Some(answer) = feed.try_answer() {
        assert!(answer["stream_seq"].as_u64() <= Some(newest), "{answer}");
    }
}

#[test]
fn a_demo_feeds_itself_in_a_private_place_and_leaves_it_clean() {
    let mut child = luxcast()
        .args(["serve", "--demo", "--listen", "127.0.0.1:0", "--admin", "off"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stderr = Gathered::start(child.stderr.take().unwrap());
    let lines: Vec<String> =
        BufReader::new(child.stdout.take().unwrap()).lines().take(2).map(Result::unwrap).collect();
    let address = lines[0].strip_prefix("listening ws://").unwrap().parse().unwrap();
    let ingest = std::path::PathBuf::from(lines[1].strip_prefix("ingest ").unwrap());
    let directory = ingest.parent().unwrap();
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(fs::metadata(directory).unwrap().permissions().mode() & 0o777, 0o700);
    wait_until("the hint", || {
        stderr
            .so_far()
            .contains(&format!("tail --all --url {}", lines[0].strip_prefix("listening ").unwrap()))
    });
    for path in ["/api/ws/events", "/api/ws/jobs/demo-job/monitor", "/api/ws/flows/etl_flow/monitor"] {
        let mut watcher = Client::connect(address, path);
        watcher.connected();
        let event: Value = serde_json::from_str(&watcher.event()).unwrap();
        assert!(event["timestamp"].is_string(), "{event}");
    }
    let pid = rustix::process::Pid::from_raw(child.id().cast_signed()).unwrap();
    rustix::process::kill_process(pid, Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{}", stderr.wait_for_all());
    assert!(!is_there(directory), "{}", directory.display());
}
