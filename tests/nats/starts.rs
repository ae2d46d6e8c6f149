//! A daemon that starts: it has the stream before it listens, or it says why not and ends.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::thread;

use nkeys::KeyPair;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::BASE;
use crate::commands::luxcast;
use crate::desk::{Desk, USUAL_WINDOW};
use crate::engines::line;
use crate::fleet::{create, serve};
use crate::harness::{Daemon, Feed, Scratch, wait_until};
use crate::judge::check;
use crate::recipes::promised;
use crate::server::{NEWEST, NatsServer};
use crate::stock::Stock;
use crate::watchers::Watcher;

/// Starts one that must end by itself; returns its code and its last words.
fn ends(url: &str, more: &[&str]) -> (i32, String) {
    let scratch = Scratch::new();
    let ingest = scratch.path().join("ingest.sock");
    let flags =
        ["serve", "--listen", "127.0.0.1:0", "--admin", "off", "--ingest", ingest.to_str().expect("UTF-8")];
    let (code, shown, said) = luxcast(&[&flags[..], &["--bus", url], more].concat());
    assert_eq!(shown, "", "nobody was told that it listens");
    assert!(!ingest.exists(), "nothing is left behind");
    (code, said)
}

#[test]
fn a_daemon_without_a_stream_that_it_can_use_says_why_and_ends() {
    let server = NatsServer::start(NEWEST, "max_payload: 65536");
    let desk = Desk::new(vec![server.url()]);
    let (code, said) = ends(&server.url(), &[]);
    assert!(
        code == 1 && said.contains("there is no stream LUXCAST") && said.contains("luxcast bus create"),
        "{said}"
    );
    desk.create(BASE, USUAL_WINDOW);
    let (code, said) = ends(&server.url(), &[]);
    assert!(code == 1 && said.contains("max_payload") && said.contains("line_bytes_max"), "{said}");
    desk.update(|config| config["metadata"]["luxcast.line_bytes_max"] = "50000".into());
    let (code, said) = ends(&server.url(), &["--line-bytes-max", "40000"]);
    assert!(code == 1 && said.contains("luxcast.line_bytes_max is 50000"), "{said}");
    desk.update(|config| config["allow_rollup_hdrs"] = true.into());
    let (code, said) = ends(&server.url(), &["--line-bytes-max", "50000"]);
    assert!(code == 1 && said.contains("allow_rollup_hdrs is true"), "{said}");
    desk.update(|config| config["max_msg_size"] = 1_000.into());
    let (_, said) = ends(&server.url(), &["--line-bytes-max", "50000"]);
    assert!(said.contains("allow_rollup_hdrs is true") && said.contains("max_msg_size is 1000"), "{said}");
    let (code, said) = ends("nats://127.0.0.1:1", &["--bus-start-seconds", "0.5"]);
    let last = said.lines().last().expect("it says why");
    assert!(code == 1 && last.contains("bus_start_seconds"), "{said}");
    assert!(last.contains("nats://127.0.0.1:1: ") && last.contains("refused"), "{said}");
}

#[test]
fn a_file_of_the_bus_that_is_no_good_is_a_wrong_setting() {
    let scratch = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = scratch.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let no_certificate =
        write("odd.pem", "-----BEGIN CERTIFICATE-----\nMANhYmM=\n-----END CERTIFICATE-----\n");
    let half = write("half.pem", "-----BEGIN CERTIFICATE-----\nMANhYmM=\n");
    for (flag, file, words) in [
        ("--bus-ca-file", no_certificate.as_str(), "a certificate in it cannot be understood"),
        ("--bus-ca-file", &half, "a -----BEGIN line in it has no -----END line"),
        ("--bus-nkey-file", "/nowhere/key", "bus_nkey_file: cannot read /nowhere/key"),
        ("--bus-credentials-file", "/dev/null", "bus_credentials_file: /dev/null: no NATS USER JWT in it"),
        ("--bus-ca-file", "/dev/null", "bus_ca_file: /dev/null: no certificate in it"),
    ] {
        let (code, said) = ends("tls://127.0.0.1:1", &[flag, file]);
        assert!(code == 2 && said.lines().count() == 1 && said.contains(words), "{said}");
    }
}

#[test]
fn a_server_without_jetstream_is_named_as_such() {
    let mut server = NatsServer::prepare(NEWEST, "plain", "");
    server.configure_with(&format!("listen: \"{}\"", server.address), &[]);
    server.restart();
    let (code, said) = ends(&server.url(), &["--bus-start-seconds", "2"]);
    assert!(code == 1 && said.contains("JetStream is off"), "{said}");
    for what in ["check", "create"] {
        let (code, shown, said) = luxcast(&["bus", what, "--bus", &server.url()]);
        assert!(code == 1 && format!("{shown}{said}").contains("JetStream is off"), "{shown}{said}");
    }
    let (code, shown, _) = luxcast(&["bus", "check", "--bus", "nats://127.0.0.1:1"]);
    assert!(code == 1 && shown.starts_with("error: nats://127.0.0.1:1: "), "{shown}");
}

#[test]
fn a_stream_whose_sequences_are_out_of_range_is_refused() {
    let server = NatsServer::start(NEWEST, "");
    let desk = Desk::new(vec![server.url()]);
    let config = |first: u64| {
        let metadata = json!({"luxcast.format": "1", "luxcast.base": BASE.to_string()});
        let rest = json!({"name": "LUXCAST", "subjects": ["luxcast.events"], "metadata": metadata, "first_seq": first});
        rest.to_string()
    };
    for first in [1 << 44, 1 << 63, u64::MAX] {
        desk.ask_stream("STREAM.CREATE", &config(first));
        let (code, said) = ends(&server.url(), &[]);
        assert!(code == 1 && said.contains("its numbers are used up"), "{first}: {said}");
        let (code, shown, _) = luxcast(&["bus", "check", "--bus", &server.url()]);
        assert!(code == 1 && shown.contains("error: the numbers of this stream are used up"), "{shown}");
        let (code, _, said) = luxcast(&["bus", "new-epoch", "--bus", &server.url(), "--after", "1", "--yes"]);
        assert!(code == 2 && said.contains("no epoch can follow"), "{said}");
        desk.ask_stream("STREAM.DELETE", "");
    }
}

#[test]
fn lines_of_all_lengths_go_through_a_server_that_takes_little() {
    let server = NatsServer::start(NEWEST, "max_payload: 65536");
    create(&server.url(), &["--replicas", "1", "--line-bytes-max", "60000"]);
    let flags = ["--line-bytes-max", "60000"].map(str::to_owned);
    let daemons = [0, 1].map(|_| serve(&[server.url()], &flags));
    let watcher = Watcher::stay(daemons[1].address, "start");
    let long = |n: u64, bytes: usize| {
        let short = line("long", n);
        let filler = "x".repeat(bytes - short.len() - 12);
        short.replace('}', &format!(",\"filler\":\"{filler}\"}}"))
    };
    let mut lines: Vec<String> = (1..=3_000).map(|n| line("long", n)).collect();
    lines.extend([60_000, 30_000, 59_999, 40_000, 100].iter().zip(3_001..).map(|(bytes, n)| long(n, *bytes)));
    assert!(lines.iter().all(|line| line.len() <= 60_000) && lines[3_000].len() == 60_000);
    daemons[0].acked_feed().publish(lines.iter().map(String::as_str));
    let truth = Desk::new(vec![server.url()]).truth();
    assert!(
        truth
            .values()
            .map(|text| text.split_once(',').expect("a number").1)
            .eq(lines.iter().map(|line| &line[1..]))
    );
    watcher.wait_for_number(*truth.last_key_value().expect("3,005 lines").0);
    assert_eq!(check(&watcher.end(), &truth), []);
}

#[test]
fn a_daemon_waits_for_its_servers_and_can_be_ended_meanwhile() {
    let mut server = NatsServer::prepare(NEWEST, "one", "");
    let url = server.url();
    // The stream is there before, and its server is not.
    server.restart();
    create(&url, &["--replicas", "1"]);
    let number = {
        let desk = Desk::new(vec![url.clone()]);
        desk.number(desk.publish(r#"{"type":"x","job_id":"j"}"#))
    };
    server.stop();
    let mut waiting = wait_in_vain(&url);
    let pid = Pid::from_child(&waiting);
    let starting = {
        let url = url.clone();
        thread::spawn(move || serve(&[url], &[]))
    };
    // It has said that nobody answers.
    kill_process(pid, Signal::TERM).expect("it is a child of this test");
    let status = waiting.wait().expect("it is a child of this test");
    assert_eq!(status.code(), Some(0));
    server.restart();
    let daemon = starting.join().expect("it listens");
    // What the stream has is there before anybody can ask.
    let mut watcher = daemon.watch("/api/ws/jobs/j/monitor?since=-1");
    assert!(watcher.connected() >= number);
    assert!(watcher.event().starts_with(&format!("{{\"stream_seq\":{number},")));
}

/// What a daemon knows of a job: what `/console/jobs` has, without what grows by itself.
fn known(daemon: &Daemon, job: &str) -> Value {
    let mut raw = daemon.raw();
    raw.send(b"GET /console/jobs HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let jobs: Value = serde_json::from_str(&raw.read_answer().body).expect("JSON");
    let rows = jobs["jobs"].as_array().expect("a list");
    let mut row = rows.iter().find(|row| row["job_id"] == job).cloned().unwrap_or_default();
    row.as_object_mut().into_iter().for_each(|row| drop(row.remove("duration")));
    row
}

/// Memory has lost a quiet job, and the one that restarts has it from what it reads back.
#[test]
fn a_daemon_that_comes_back_knows_and_places_what_the_others_do() {
    let mut stock = Stock::empty(&[]);
    let feed =
        |stock: &Stock, daemon: usize, text: &str| stock.fleet.daemon(daemon).acked_feed().publish([text]);
    let started =
        feed(&stock, 0, r#"{"type":"job_started","job_id":"quiet","flow_id":"quiet-flow","timestamp":7}"#);
    stock.fill(40);
    stock.fleet.stop(1);
    stock.fleet.restart(1);
    let [one, other] = [0, 1].map(|place| known(stock.fleet.daemon(place), "quiet"));
    assert_eq!(one, other);
    assert!(other["total_events"] == 1 && other["flow_id"] == "quiet-flow", "{other}");
    assert!(other["first_seq"] == started && other.get("is_partial").is_none(), "{other}");

    let watch = |stock: &Stock, daemon: usize, since: &str| {
        let path = format!("/api/v1/ws/flows/quiet-flow/monitor?since={since}");
        stock.fleet.daemon(daemon).watch(&path)
    };
    let mut live = [0, 1].map(|daemon| watch(&stock, daemon, "now"));
    for watcher in &mut live {
        watcher.connected();
    }
    let numbers = [1, 0].map(|daemon| feed(&stock, daemon, r#"{"type":"x","job_id":"quiet"}"#));
    let is = |event: &str, number: u64| event.starts_with(&format!("{{\"stream_seq\":{number},"));
    for watcher in &mut live {
        numbers.iter().for_each(|number| assert!(is(&watcher.event(), *number)));
    }
    // Another program says nothing of the flow, and so it is in none.
    stock.desk.publish(r#"{"type":"x","job_id":"quiet"}"#);
    stock.desk.publish(r#"{"type":"last","flow_id":"quiet-flow"}"#);
    for daemon in [0, 1] {
        for (since, expected) in
            [("start".to_owned(), &[started, numbers[0], numbers[1]][..]), (started.to_string(), &numbers)]
        {
            let mut watcher = watch(&stock, daemon, &since);
            watcher.connected();
            expected.iter().for_each(|number| assert!(is(&watcher.event(), *number), "{daemon} {since}"));
            assert!(watcher.event().contains("\"last\""), "{daemon} {since}");
        }
    }
}

/// One that has found nobody.
fn wait_in_vain(url: &str) -> Child {
    let scratch = Scratch::new();
    let (ingest, log) = (scratch.path().join("ingest.sock"), scratch.path().join("log"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_luxcast"));
    command
        .args(["serve", "--listen", "127.0.0.1:0", "--admin", "off", "--bus", url])
        .arg("--ingest")
        .arg(ingest);
    let file = fs::File::create(&log).expect("the test's own directory");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
    let child = command.spawn().expect("it starts");
    wait_until("it says that nobody answers", || {
        let why = format!("bus: {url}: ");
        fs::read_to_string(&log).is_ok_and(|text| text.contains(&why) && text.contains("refused"))
    });
    child
}

#[test]
fn wrong_keys_are_named_and_stay_secret() {
    let [operator, daemon, reader] = [(); 3].map(|()| KeyPair::new_user());
    let rights = r#""$JS.API.STREAM.INFO.LUXCAST", "$JS.API.STREAM.MSG.GET.LUXCAST", "$JS.API.CONSUMER.CREATE.LUXCAST.>",
        "$JS.API.CONSUMER.MSG.NEXT.LUXCAST.>",
        "$JS.API.CONSUMER.DELETE.LUXCAST.>""#;
    let user = |key: &KeyPair, more: &str| {
        let key = key.public_key();
        format!(
            "{{ nkey: {key}, permissions: {{ publish: [{more} {rights}], subscribe: \"_INBOX_luxcast.>\" }} }}"
        )
    };
    let users = [user(&daemon, "\"luxcast.events\","), user(&reader, "")];
    let server = NatsServer::start(
        NEWEST,
        &format!(
            "authorization {{ users: [ {{ nkey: {} }}, {} ] }}",
            operator.public_key(),
            users.join(", ")
        ),
    );
    let scratch = Scratch::new();
    let file = |name: &str, key: &KeyPair| {
        let path = scratch.path().join(name).display().to_string();
        fs::write(&path, key.seed().expect("it is new")).expect("the test's own directory");
        path
    };
    create(&server.url(), &["--replicas", "1", "--bus-nkey-file", &file("operator", &operator)]);
    let stranger = KeyPair::new_user();
    let (code, said) =
        ends(&server.url(), &["--bus-start-seconds", "1", "--bus-nkey-file", &file("stranger", &stranger)]);
    assert!(code == 1 && said.to_lowercase().contains(promised("authorization violation")), "{said}");
    assert!(!said.contains(&stranger.seed().expect("it is new")));
    let flags = |name: &str, key: &KeyPair| {
        let path = file(name, key);
        let mode = if name == "daemon" { 0o640 } else { 0o644 };
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("it is ours");
        ["--bus-nkey-file".to_owned(), path]
    };
    let whole = serve(&[server.url()], &flags("daemon", &daemon));
    let half = serve(&[server.url()], &flags("reader", &reader));
    // It shows what others publish, and says why its own publishers wait.
    let mut feed = Feed::connect(&half.ingest);
    feed.line(&line("refused", 1));
    half.wait_for_log(promised("Permissions Violation"));
    let mut watcher = half.watch("/api/ws/jobs/shown/monitor?since=start");
    whole.acked_feed().publish([r#"{"type":"x","job_id":"shown"}"#]);
    watcher.event();
    for log in [whole.stderr(), half.stderr()] {
        let seeds = [&daemon, &reader].map(|key| key.seed().expect("it is new"));
        assert!(seeds.iter().all(|seed| !log.contains(seed)), "{log}");
    }
    assert!(!whole.stderr().contains("Violation"), "{}", whole.stderr());
    // Who else may read a key is told as for tokens.
    let open = "reader: everybody on this machine may use it (mode 0644)";
    assert_eq!((whole.stderr().matches("everybody").count(), half.stderr().matches(open).count()), (0, 1));
    for (command, code) in [(&["check-config"][..], 0), (&["bus", "check"], 1)] {
        for (name, key, is_open) in [("reader", &reader, true), ("daemon", &daemon, false)] {
            let [flag, path] = flags(name, key);
            let (found, _, said) = luxcast(&[command, &["--bus", &server.url(), &flag, &path]].concat());
            let expected = if is_open { code } else { 0 };
            assert_eq!((found, said.contains(open)), (expected, is_open), "{command:?} {name}: {said}");
            assert!(!is_open || said.contains("warning: "), "{said}");
        }
    }
}
