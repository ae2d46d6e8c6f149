//! Connections that stay open for another request.

use std::net::{Shutdown, SocketAddr};
use std::time::Instant;

use serde_json::Value;
use socket2::SockRef;

use crate::harness::client::masked_frame;
use crate::harness::{Client, Daemon, PATIENCE, Raw, seq_of, wait_until};

const EVENTS: &str = "/api/ws/events";

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")
}

/// Paths of both listeners whose answers are complete.
fn plain_paths(daemon: &Daemon) -> Vec<(SocketAddr, &'static [&'static str])> {
    let admin = daemon.admin.expect("it is on");
    vec![
        (
            daemon.address,
            &["/healthz", "/", "/console/", "/console/console.js", "/console/jobs", "/console/daemon"],
        ),
        (admin, &["/healthz", "/", "/readyz", "/metrics", "/connections", "/jobs"]),
    ]
}

/// A connection that has its answer and is idle.
fn rested(address: SocketAddr) -> Raw {
    let mut raw = Raw::connect(address);
    raw.send(get("/healthz").as_bytes());
    let answer = raw.read_next(false);
    assert!(answer.status == 200 && answer.header("connection").is_none(), "{answer:?}");
    raw
}

fn metric(daemon: &Daemon, name: &str) -> f64 {
    let (_, text) = daemon.admin_get("/metrics");
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
    line.expect("the metric is there").parse().expect("a number")
}

#[test]
fn requests_follow_each_other_on_one_connection() {
    let daemon = Daemon::start(&["--shards", "2"]);
    for (address, paths) in plain_paths(&daemon) {
        let mut raw = Raw::connect(address);
        for round in 0..3 {
            for path in paths {
                raw.send(get(path).as_bytes());
                let answer = raw.read_next(false);
                let status = if answer.header("location").is_some() { 308 } else { 200 };
                assert_eq!((answer.status, answer.header("connection")), (status, None), "{path} {round}");
                raw.send(get(path).replace("GET", "HEAD").as_bytes());
                let of_head = raw.read_next(true);
                assert_eq!((of_head.status, of_head.body.as_str()), (status, ""), "{path} {round}");
            }
        }
        raw.send(get("/healthz").replace("Host", "Connection: close\r\nHost").as_bytes());
        let answer = raw.read_next(false);
        assert!(answer.is_last() && answer.body == "ok\n", "{answer:?}");
        assert_eq!((raw.fill(), raw.buffer.len()), (0, 0), "the daemon closes");
        let mut old = Raw::connect(address);
        old.send(b"GET /healthz HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        assert!(old.read_next(false).is_last());
        assert_eq!(old.fill(), 0);
    }
}

#[test]
fn what_a_client_has_is_not_sent_again_on_the_same_connection() {
    let daemon = Daemon::start(&[]);
    let mut raw = daemon.raw();
    raw.send(get("/console/console.js").as_bytes());
    let tag = raw.read_next(false).header("etag").expect("a tag").to_owned();
    let again = get("/console/console.js").replace("Host", &format!("If-None-Match: {tag}\r\nHost"));
    for _ in 0..3 {
        raw.send(again.as_bytes());
        let answer = raw.read_next(false);
        assert_eq!((answer.status, answer.header("content-length")), (304, None));
    }
}

#[test]
fn requests_that_come_at_once_are_answered_in_their_order() {
    let daemon = Daemon::start(&["--shards", "2"]);
    daemon.acked_feed().publish([r#"{"type":"job_started","job_id":"a"}"#]);
    for (address, paths) in plain_paths(&daemon) {
        for cut in [1, 7, 100, 4096] {
            let mut requests: Vec<String> = paths.iter().flat_map(|path| [get(path), get(path)]).collect();
            let last = get("/healthz?last").replace("Host", "Connection: close\r\nHost");
            requests.push(last);
            // After the last answer, nothing counts as a request.
            requests.push(get("/healthz"));
            let mut raw = Raw::connect(address);
            let mut together = requests.concat().into_bytes();
            if cut == 1 {
                together.truncate(600);
                // As slowly as possible.
                together.chunks(1).for_each(|byte| raw.send(byte));
            } else {
                together.chunks(cut).for_each(|part| raw.send(part));
            }
            let whole = String::from_utf8(together).expect("ASCII").matches("\r\n\r\n").count();
            for path in paths.iter().flat_map(|path| [path, path]).take(whole) {
                let answer = raw.read_next(false);
                let expected = match *path {
                    "/healthz" => answer.body == "ok\n",
                    "/readyz" => answer.body == "ready\n",
                    "/metrics" => answer.body.starts_with("# HELP"),
                    "/connections" => answer.body.starts_with('['),
                    "/jobs" | "/console/jobs" => answer.body.contains(r#""job_id":"a""#),
                    "/console/daemon" => answer.body.contains("uptime_seconds"),
                    "/" => answer.status == 308 || answer.body.contains("/readyz"),
                    _ => answer.status == 200 && answer.body.len() > 1_000,
                };
                assert!(expected, "{path} in parts of {cut}: {answer:?}");
            }
            if cut > 1 {
                assert!(raw.read_next(false).is_last());
                assert_eq!((raw.fill(), raw.buffer.len()), (0, 0), "nothing comes behind the last answer");
            }
        }
    }
}

#[test]
fn a_client_that_shuts_its_own_side_gets_all_requested_answers() {
    let daemon = Daemon::start(&[]);
    for address in [daemon.address, daemon.admin.expect("it is on")] {
        let mut raw = Raw::connect(address);
        raw.send([get("/healthz"), get("/healthz"), get("/healthz")[..9].to_owned()].concat().as_bytes());
        raw.read_to_end();
        let text = String::from_utf8(raw.buffer).expect("text");
        assert_eq!(text.matches("\r\n\r\nok\n").count(), 2, "{text}");
    }
    daemon.wait_for_connections(0);
}

#[test]
fn a_client_may_ask_first_and_then_watch() {
    let daemon = Daemon::start(&["--heartbeat-seconds", "0.2"]);
    let mut feed = daemon.acked_feed();
    let raw = rested(daemon.address);
    let mut watcher = Client::handshake(raw.stream, daemon.address, EVENTS).expect("it is let in");
    watcher.connected();
    let newest = feed.publish([r#"{"type":"x","job_id":"j"}"#]);
    assert_eq!(seq_of(&watcher.event()), Some(newest));
    watcher.json_of("ping");
    // In one write, with a frame after it.
    let mut raw = daemon.raw();
    let mut together = [get("/console/jobs"), Raw::upgrade_request(EVENTS)].concat().into_bytes();
    together.extend(masked_frame(0x1, true, br#"{"action":"subscribe","events":["y"]}"#));
    raw.send(&together);
    assert!(raw.read_next(false).body.contains("\"j\""));
    assert!(raw.read_head().starts_with("HTTP/1.1 101 "));
    wait_until("the confirmation", || {
        let payload = raw.read_frame_of(0x1).payload;
        let message: Value = serde_json::from_slice(&payload).expect("JSON");
        message["type"] == "subscription:confirmed"
    });
    daemon.wait_for_connections(2);
}

#[test]
fn a_refusal_is_the_last_answer() {
    let daemon = Daemon::start(&[]);
    let admin = daemon.admin.expect("it is on");
    for (address, request, status) in [
        (daemon.address, get("/nowhere"), 404),
        (daemon.address, get("/console/jobs?limit=x"), 400),
        (daemon.address, get(EVENTS), 426),
        (daemon.address, get("/healthz").replace("GET", "BREW"), 405),
        (admin, get("/nowhere"), 404),
        (admin, get("/jobs?limit=x"), 400),
        (admin, get("/jobs").replace("localhost", "evil.example"), 421),
        (admin, get("/healthz").replace("Host: localhost", "Host : localhost"), 400),
    ] {
        let mut raw = rested(address);
        raw.send([request.clone(), get("/healthz")].concat().as_bytes());
        let refused = raw.read_next(false);
        assert!(refused.status == status && refused.is_last(), "{request}: {refused:?}");
        assert_eq!((raw.fill(), raw.buffer.len()), (0, 0), "{request}");
    }
}

/// Bytes that one reader takes for a body and another for a request.
#[test]
fn nothing_is_smuggled_in_as_a_body() {
    let daemon = Daemon::start(&[]);
    let hidden = get("/console/jobs");
    let length = hidden.len();
    for (method, fields, status) in [
        ("GET", format!("Content-Length: {length}\r\n"), 400),
        ("HEAD", format!("Content-Length: {length}\r\n"), 400),
        ("GET", format!("Content-Length: 0\r\nContent-Length: {length}\r\n"), 400),
        ("GET", "Content-Length: +0\r\n".to_owned(), 400),
        ("GET", "Transfer-Encoding: chunked\r\n".to_owned(), 400),
        ("GET", format!("Transfer-Encoding: chunked\r\nContent-Length: {length}\r\n"), 400),
        ("GET", "Transfer-Encoding: identity\r\n".to_owned(), 400),
        ("OPTIONS", format!("Content-Length: {length}\r\n"), 400),
        ("OPTIONS", "Transfer-Encoding: chunked\r\n".to_owned(), 400),
        ("POST", format!("Content-Length: {length}\r\n"), 405),
        ("POST", "Transfer-Encoding: chunked\r\n".to_owned(), 405),
        ("PUT", String::new(), 405),
    ] {
        for address in [daemon.address, daemon.admin.expect("it is on")] {
            let mut raw = rested(address);
            let request = format!("{method} /healthz HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n{hidden}");
            raw.send(request.as_bytes());
            let refused = raw.read_next(method == "HEAD");
            assert!(refused.status == status && refused.is_last(), "{request}: {refused:?}");
            assert_eq!((raw.fill(), raw.buffer.len()), (0, 0), "{request}");
        }
    }
    // A body of length 0 is none.
    let mut raw = daemon.raw();
    let empty = get("/healthz").replace("Host", "Content-Length: 0\r\nHost");
    raw.send([empty.clone(), empty].concat().as_bytes());
    assert_eq!([raw.read_next(false).body, raw.read_next(false).body].concat(), "ok\nok\n");
}

#[test]
fn of_what_follows_a_request_at_most_a_head_is_kept() {
    let daemon = Daemon::start(&["--request-head-bytes-max", "1024"]);
    for address in [daemon.address, daemon.admin.expect("it is on")] {
        // The answer and the end, not one answer for each.
        let mut raw = Raw::connect(address);
        raw.send(get("/healthz").repeat(200).as_bytes());
        let mut answers = 0;
        loop {
            let answer = raw.read_next(false);
            assert_eq!(answer.body, "ok\n");
            answers += 1;
            if answer.is_last() {
                break;
            }
        }
        assert!(answers < 200, "{answers}");
        assert_eq!((raw.fill(), raw.buffer.len()), (0, 0));
    }
}

#[test]
fn a_connection_idle_for_too_long_is_closed_silently() {
    let daemon = Daemon::start(&["--handshake-seconds", "0.5"]);
    for address in [daemon.address, daemon.admin.expect("it is on")] {
        let mut raw = rested(address);
        assert_eq!((raw.fill(), raw.buffer.len()), (0, 0), "the end, and no refusal of what was not asked");
        // A client that has begun to ask gets an answer.
        let mut raw = rested(address);
        raw.send(b"GET /hea");
        let refused = raw.read_answer();
        assert_eq!((refused.status, refused.code().as_str()), (408, "timeout"));
    }
}

#[test]
fn an_idle_connection_takes_nobodys_place_and_needs_one_to_continue() {
    let flags =
        ["--connections-max", "4", "--connections-per-address-max", "4", "--handshake-seconds", "3600"];
    let daemon = Daemon::start(&flags);
    let mut resting: Vec<Raw> = (0..20).map(|_| rested(daemon.address)).collect();
    let watchers: Vec<Client> = (0..4).map(|_| daemon.watch(EVENTS)).collect();
    assert_eq!(daemon.refuse(EVENTS).status, 503);
    wait_until("four have a place", || metric(&daemon, "luxcast_sockets") == 4.0);
    let mut next = resting.pop().expect("twenty");
    next.send(get("/healthz").as_bytes());
    let refused = next.read_answer();
    assert_eq!((refused.status, refused.code().as_str()), (503, "full"));
    drop(watchers);
    daemon.wait_for_connections(19);
    for mut raw in resting {
        raw.send(get("/healthz").as_bytes());
        assert_eq!(raw.read_next(false).status, 200);
    }
    daemon.wait_for_connections(0);
}

/// It is unknown which request belongs to which client.
#[test]
fn a_connection_of_a_trusted_proxy_has_one_request() {
    let daemon = Daemon::start(&["--allow-anonymous", "--trusted-proxies", "127.0.0.1"]);
    for path in ["/healthz", "/console/", "/console/jobs"] {
        let mut raw = daemon.raw();
        let request = get(path).replace("Host", "X-Forwarded-For: 192.0.2.1\r\nHost");
        raw.send([request, get("/healthz")].concat().as_bytes());
        assert!(raw.read_next(false).is_last(), "{path}");
        assert_eq!((raw.fill(), raw.buffer.len()), (0, 0), "{path}");
    }
}

#[test]
fn an_idle_connection_does_not_delay_the_daemons_end() {
    let mut daemon =
        Daemon::start(&["--drain-seconds", "3600", "--handshake-seconds", "3600", "--shards", "2"]);
    let admin = daemon.admin.expect("it is on");
    let mut of_watchers: Vec<Raw> = (0..10).map(|_| rested(daemon.address)).collect();
    let of_operators: Vec<Raw> = (0..10).map(|_| rested(admin)).collect();
    let _says_nothing = [Raw::connect(admin), Raw::connect(admin)];
    let mut slow = Raw::connect(admin);
    slow.send(b"GET /metr");
    let begin = Instant::now();
    daemon.terminate();
    for raw in &mut of_watchers {
        assert_eq!((raw.fill(), raw.buffer.len()), (0, 0), "closed without a word");
    }
    // They never close their side, and are not waited for.
    assert_eq!(daemon.wait().code(), Some(0));
    assert!(begin.elapsed() < PATIENCE);
    drop((of_watchers, of_operators, slow));
}

#[test]
fn a_request_that_came_early_is_answered_even_if_no_connection_may_rest() {
    let daemon = Daemon::start(&[]);
    // More than may rest: the last ones are closed, and hold nothing.
    let _resting: Vec<Raw> = (0..64).map(|_| rested(daemon.address)).collect();
    let mut raw = daemon.raw();
    raw.send(format!("{}{}", get("/healthz"), get("/console/daemon")).as_bytes());
    assert_eq!(raw.read_next(false).body, "ok\n");
    let answer = raw.read_next(false);
    assert!(answer.status == 200 && answer.body.starts_with('{'), "{answer:?}");
}

/// The client's end comes while an earlier request is being answered; the upgrade is behind that.
#[test]
fn a_websocket_whose_client_has_ended_already_ends() {
    let daemon = Daemon::start(&[]);
    for _ in 0..10 {
        let mut raw = daemon.raw();
        raw.send(format!("{}{}", get("/console/jobs"), Raw::upgrade_request(EVENTS)).as_bytes());
        raw.stream.shutdown(Shutdown::Write).expect("it is open");
        assert_eq!(raw.read_next(false).status, 200);
        while raw.fill() > 0 {}
    }
    daemon.wait_for_connections(0);
}

/// What a list's reader does not take is nothing that a watcher misses.
#[test]
fn the_goodbye_waits_for_no_reader_of_a_list() {
    const JOBS: usize = 20_000;
    let daemon = Daemon::start(&["--shards", "1", "--drain-seconds", "3600", "--stalled-seconds", "3600"]);
    let mut watcher = daemon.watch("/api/ws/jobs/quiet/monitor");
    watcher.connected();
    let lines: Vec<String> =
        (0..JOBS).map(|n| format!(r#"{{"type":"job_started","job_id":"job-{n}"}}"#)).collect();
    daemon.acked_feed().publish(lines.iter().map(String::as_str));
    let mut readers = Vec::new();
    for (address, path) in [
        (daemon.address, "/console/jobs?limit=10000"),
        (daemon.admin.expect("it is on"), "/jobs?limit=1000000"),
    ] {
        let mut reader = Raw::connect(address);
        SockRef::from(&reader.stream).set_recv_buffer_size(4096).expect("a TCP socket");
        reader.send(get(path).as_bytes());
        reader.read_head();
        readers.push(reader);
    }
    daemon.terminate();
    while !watcher.text().contains("disconnected") {}
}
