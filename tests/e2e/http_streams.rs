//! Streams over plain HTTP: Server-Sent Events and lines of JSON, beside a WebSocket of the same topic.

use serde_json::Value;

use crate::corpus::corpus;
use crate::harness::client::Refused;
use crate::harness::http_stream::{HttpStream, Told};
use crate::harness::{Client, Daemon, Raw, seq_of, wait_until};

const EVENTS: &str = "/api/v1/ws/events";

fn of_job(n: u64) -> String {
    format!("{{\"type\":\"t\",\"job_id\":\"job\",\"n\":{n}}}")
}

fn sse(daemon: &Daemon, path: &str) -> HttpStream {
    HttpStream::open(daemon.address, path, "Accept: text/event-stream\r\n")
}

fn ndjson(daemon: &Daemon, path: &str) -> HttpStream {
    HttpStream::open(daemon.address, path, "Accept: application/x-ndjson\r\n")
}

#[test]
fn three_forms_of_a_stream_tell_the_same() {
    let daemon = Daemon::start(&[]);
    let lines: Vec<String> = corpus().into_iter().take(2_000).map(|line| line.text).collect();
    let job = corpus()[0].job_id.clone();
    let paths = [
        EVENTS.to_owned(),
        format!("{EVENTS}?events=routine_started,job_completed"),
        format!("/api/ws/jobs/{job}/monitor"),
        format!("/api/ws/jobs/{job}/debug"),
    ];
    let mut watchers: Vec<(Client, HttpStream, HttpStream)> =
        paths.iter().map(|path| (daemon.watch(path), sse(&daemon, path), ndjson(&daemon, path))).collect();
    // A CR is a blank in JSON, and would end a line for many readers.
    daemon.acked_feed().publish([&*format!("{{\"type\":\"job_started\",\r\"job_id\":\"{job}\"}}")]);
    daemon.acked_feed().publish(lines.iter().map(String::as_str));
    daemon
        .acked_feed()
        .publish([&*format!("{{\"type\":\"job_completed\",\"job_id\":\"{job}\",\"last\":1}}")]);
    for (path, (socket, sse, ndjson)) in paths.iter().zip(&mut watchers) {
        let is_debug = path.ends_with("debug");
        let expected = match is_debug {
            // It has no job_completed.
            true => socket.events(20),
            false => socket.events_until("\"last\":1"),
        };
        assert!(expected.len() >= 20, "{path}");
        let in_lines: Vec<String> = expected.iter().map(|text| text.replace('\r', " ")).collect();
        assert!(ndjson.events(expected.len()) == in_lines, "{path}");
        for (text, in_line) in expected.iter().zip(in_lines) {
            let told = sse.event();
            assert_eq!(told.text, in_line, "{path}");
            assert_eq!(told.id(), seq_of(text));
        }
    }
    let rows = daemon.connections();
    let transports = |name: &str| rows.iter().filter(|row| row["transport"] == name).count();
    assert_eq!(["websocket", "sse", "ndjson"].map(transports), [4, 4, 4]);
}

#[test]
fn a_reader_that_comes_back_goes_on_where_it_was() {
    let daemon = Daemon::start(&[]);
    daemon.acked_feed().publish((0..100).map(of_job).collect::<Vec<_>>().iter().map(String::as_str));
    let mut first = sse(&daemon, &format!("{EVENTS}?since=start"));
    let greeting = first.next().expect("a greeting");
    assert_eq!(greeting.id(), None, "its number is no position of a reader that asks for the past");
    let told: Vec<Told> = (0..50).map(|_| first.event()).collect();
    drop(first);
    let last = told[49].id().expect("a number");
    // The browser sends the same address again.
    let field = format!("Accept: text/event-stream\r\nLast-Event-ID: {last}\r\n");
    let mut second = HttpStream::open(daemon.address, &format!("{EVENTS}?since=start"), &field);
    assert_eq!(second.event().id(), Some(last + 1));
    let mut live = sse(&daemon, EVENTS);
    let newest = live.next().expect("a greeting").id().expect("it stands at the newest");
    assert_eq!(newest, last + 50);
    daemon.acked_feed().publish([&*of_job(100)]);
    assert_eq!(live.event().id(), Some(newest + 1));
}

#[test]
fn an_answer_ends_in_order_when_the_daemon_ends() {
    let daemon = Daemon::start(&["--heartbeat-seconds", "0.2"]);
    let [mut events, mut lines] = [sse(&daemon, EVENTS), ndjson(&daemon, EVENTS)];
    daemon.acked_feed().publish([&*of_job(0)]);
    let seq = events.event().id().expect("a number");
    let ping = events.next().expect("a heartbeat");
    assert!(ping.text.starts_with("{\"type\":\"ping\"") && ping.id() == Some(seq), "{ping:?}");
    daemon.terminate();
    for stream in [&mut events, &mut lines] {
        let goodbye = loop {
            let told = stream.next().expect("a goodbye");
            if told.text.contains("disconnected") {
                break told;
            }
        };
        let value: Value = serde_json::from_str(&goodbye.text).expect("JSON");
        assert_eq!((&value["status"], &value["stream_seq"]), (&"disconnected".into(), &seq.into()));
        if stream.is_sse {
            assert_eq!(goodbye.fields, format!("retry: {}\nid: {seq}\n", value["retry_after_ms"]));
        }
        assert_eq!(stream.next(), None);
    }
}

#[test]
fn a_reader_that_is_slow_loses_nothing_and_a_cut_is_none_of_an_end() {
    let daemon = Daemon::start(&[]);
    let mut slow = [sse(&daemon, EVENTS), ndjson(&daemon, EVENTS)];
    let pad = "x".repeat(3_000);
    let line = |n: u64| format!("{{\"type\":\"t\",\"job_id\":\"j\",\"n\":{n},\"pad\":\"{pad}\"}}");
    let lines: Vec<String> = (0..5_000).map(line).collect();
    daemon.acked_feed().publish(lines.iter().map(String::as_str));
    wait_until("somebody is full", || daemon.connections().iter().all(|row| row["is_blocked"] == true));
    for stream in &mut slow {
        for n in 0..5_000 {
            let told = stream.event();
            assert!(told.text.contains(&format!("\"n\":{n},")), "{n}: {}", &told.text[..60]);
        }
    }
    // The client goes: nobody else notices.
    let [gone, mut stays] = slow;
    drop(gone);
    daemon.acked_feed().publish([&*of_job(1)]);
    assert!(stays.event().text.contains("\"job_id\":\"job\""));
}

#[test]
fn who_asks_wrongly_is_told_how_to() {
    let daemon = Daemon::start(&[]);
    let ask = |line: &str, fields: &str| {
        Raw::connect(daemon.address).request(&format!("{line}\r\nHost: localhost\r\n{fields}\r\n"))
    };
    let get = |path: &str, fields: &str| ask(&format!("GET {path} HTTP/1.1"), fields);
    for fields in ["", "Accept: */*\r\n", "Accept: text/html\r\n", "Accept: text/event-stream;q=0\r\n"] {
        let refused = get(EVENTS, fields);
        let is_right = refused.status == 426
            && refused.body.contains("text/event-stream")
            && refused.body.contains("application/x-ndjson");
        assert!(is_right, "{refused:?}");
    }
    let accept = "Accept: text/event-stream\r\n";
    assert_eq!(get("/api/v1/websocket", accept).status, 426);
    assert_eq!(get("/api/v1/websocket?format=sse", "").status, 426);
    assert_eq!(get(&format!("{EVENTS}?format=xml"), accept).code(), "bad_parameter");
    assert_eq!(get(EVENTS, &format!("{accept}Last-Event-ID: x\r\n")).code(), "bad_parameter");
    assert_eq!(get("/api/ws/jobs/%/monitor", accept).code(), "bad_id");
    assert_eq!(get(EVENTS, &format!("{accept}Origin: http://evil.example\r\n")).code(), "forbidden_origin");
    assert_eq!(ask(&format!("GET {EVENTS} HTTP/1.0"), accept).status, 505);
    let mut raw = daemon.raw();
    raw.send(format!("HEAD {EVENTS} HTTP/1.1\r\nHost: localhost\r\n{accept}\r\n").as_bytes());
    assert_eq!(Refused::of_head(&raw.read_head()).status, 405);
    for method in ["POST", "DELETE"] {
        assert_eq!(ask(&format!("{method} {EVENTS} HTTP/1.1"), accept).status, 405, "{method}");
    }
    let of_page = HttpStream::open(daemon.address, EVENTS, &format!("{accept}Origin: http://localhost\r\n"));
    let allowed = of_page.head.header("access-control-allow-origin");
    assert_eq!((allowed, of_page.head.header("vary")), (Some("http://localhost"), Some("Origin")));
    assert_eq!(sse(&daemon, EVENTS).head.header("access-control-allow-origin"), None);
    // An upgrade is stronger than what is accepted.
    let mut socket = Raw::connect(daemon.address);
    socket.send(Raw::upgrade_request(EVENTS).replace("Host", "Accept: text/event-stream\r\nHost").as_bytes());
    assert!(socket.read_head().starts_with("HTTP/1.1 101 "));
    // What a client sends behind its request is none of a next one.
    let mut chatty = ndjson(&daemon, EVENTS);
    chatty.next().expect("a greeting");
    chatty.raw.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n\x81\x00");
    daemon.acked_feed().publish([&*of_job(7)]);
    assert!(chatty.event().text.contains("\"job_id\":\"job\""));
}

#[test]
fn a_client_that_closes_its_stream_is_no_loss() {
    let daemon = Daemon::start(&[]);
    let closed = |reason: &str| {
        let (_, text) = daemon.admin_get("/metrics");
        let name = format!("luxcast_connections_closed_total{{reason=\"{reason}\"}} ");
        let line = text.lines().find_map(|line| line.strip_prefix(&*name));
        line.expect("the metric is there").parse::<u64>().expect("a number")
    };
    let pad = "x".repeat(100_000);
    let line = format!("{{\"type\":\"t\",\"job_id\":\"job\",\"pad\":\"{pad}\"}}");
    daemon.acked_feed().publish((0..200).map(|_| line.as_str()));
    let (mut sse, mut ndjson) = (sse(&daemon, EVENTS), ndjson(&daemon, EVENTS));
    sse.next();
    ndjson.next();
    drop((sse, ndjson));
    wait_until("both have gone", || closed("client") == 2);
    // What is on its way is met by a reset.
    drop(self::ndjson(&daemon, &format!("{EVENTS}?since=start")));
    wait_until("it has gone", || closed("client") == 3);
    assert_eq!(closed("lost"), 0);
    let socket = daemon.watch(EVENTS);
    drop(socket);
    wait_until("a WebSocket without a close frame is lost", || closed("lost") == 1);
}
