//! Section 1: what each path delivers, and how wrong requests are refused.

use std::net::{Shutdown, SocketAddr};

use crate::harness::client::Raw;
use crate::harness::{Client, Daemon, Feed, numbered, wait_until};

/// A job among neighbours of two flows: the letters of the lines say which watchers receive them.
const LINES: [&str; 10] = [
    r#"{"type":"job_started","job_id":"a","flow_id":"f"}"#,
    r#"{"type":"routine_started","job_id":"a"}"#,
    r#"{"type":"job_started","job_id":"b","data":{"flow_id":"f"}}"#,
    r#"{"type":"made_up","job_id":"b"}"#,
    r#"{"type":"job_started","job_id":"c","flow_id":"g"}"#,
    r#"{"type":"note","flow_id":"f"}"#,
    r#"{"type":"metrics","job_id":"a"}"#,
    r#"{"type":"execution_event","job_id":"a","event":{"event_type":"slot_call"}}"#,
    r#"{"type":"job_custom","job_id":"a","flow_id":null}"#,
    r#"{"type":"breakpoint_hit","job_id":"a","flow_id":"g"}"#,
];

fn publish_lines(feed: &mut Feed) -> Vec<String> {
    let newest = feed.publish(LINES);
    let first = newest + 1 - LINES.len() as u64;
    (first..).zip(LINES).map(|(seq, line)| numbered(line, seq)).collect()
}

fn pick(all: &[String], indexes: &[usize]) -> Vec<String> {
    indexes.iter().map(|index| all[*index].clone()).collect()
}

#[test]
fn each_path_delivers_its_events_under_both_prefixes() {
    let daemon = Daemon::start(&[]);
    let mut feed = daemon.acked_feed();
    let expected: [(&str, &[usize]); 7] = [
        ("jobs/a/monitor", &[0, 1, 6, 7, 8, 9]),
        ("jobs/a/debug", &[0, 1, 7, 8, 9]),
        ("jobs/b/monitor", &[2, 3]),
        ("flows/f/monitor", &[0, 1, 2, 3, 5, 6, 7, 8, 9]),
        ("flows/g/monitor", &[4, 9]),
        ("jobs/%61/monitor", &[0, 1, 6, 7, 8, 9]),
        ("events", &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
    ];
    let mut watchers = Vec::new();
    for prefix in ["/api/ws", "/api/v1/ws"] {
        for (path, indexes) in expected {
            let mut watcher = daemon.watch(&format!("{prefix}/{path}"));
            watcher.connected();
            watchers.push((path, watcher, indexes));
        }
    }
    let all = publish_lines(&mut feed);
    // One more event of each, so that nothing else can have come before it.
    let end = r#"{"type":"job_end_of_test","job_id":"JOB","flow_id":"FLOW"}"#;
    let ends =
        [("a", "f"), ("b", "f"), ("c", "g")].map(|(job, flow)| end.replace("JOB", job).replace("FLOW", flow));
    feed.publish(ends.iter().map(String::as_str));
    for (path, watcher, indexes) in &mut watchers {
        assert_eq!(watcher.events_until("end_of_test"), pick(&all, indexes), "{path}");
    }
}

#[test]
fn the_past_is_the_same_as_the_present() {
    let daemon = Daemon::start(&[]);
    let mut feed = daemon.acked_feed();
    let all = publish_lines(&mut feed);
    let expected: [(&str, &[usize]); 4] = [
        ("jobs/a/monitor", &[0, 1, 6, 7, 8, 9]),
        ("jobs/a/debug", &[0, 1, 7, 8, 9]),
        ("flows/f/monitor", &[0, 1, 2, 3, 5, 6, 7, 8, 9]),
        ("events", &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
    ];
    for (path, indexes) in expected {
        let mut watcher = daemon.watch(&format!("/api/ws/{path}?since=start"));
        watcher.connected();
        assert_eq!(watcher.events(indexes.len()), pick(&all, indexes), "{path}");
    }
}

#[test]
fn a_flow_gets_jobs_that_start_later_and_each_event_once() {
    let daemon = Daemon::start(&[]);
    let mut feed = daemon.acked_feed();
    let mut watcher = daemon.watch("/api/ws/flows/f/monitor");
    watcher.connected();
    feed.publish([
        r#"{"type":"before","job_id":"j"}"#,
        r#"{"type":"joins","job_id":"j","flow_id":"f"}"#,
        r#"{"type":"belongs","job_id":"j"}"#,
        r#"{"type":"other_flow","job_id":"j","data":{"flow_id":"g"}}"#,
        r#"{"type":"both","job_id":"j","flow_id":"f"}"#,
        r#"{"type":"end","flow_id":"f"}"#,
    ]);
    let types: Vec<_> = watcher.events_until(r#""type":"end""#).iter().map(|event| kind(event)).collect();
    assert_eq!(types, ["joins", "belongs", "other_flow", "both"]);
}

#[test]
fn the_greeting_is_exact_and_has_the_newest_number() {
    let daemon = Daemon::start(&[]);
    let mut feed = daemon.acked_feed();
    let newest = feed.publish([LINES[0]]);
    for path in
        ["/api/ws/jobs/new/monitor", "/api/ws/jobs/a/debug", "/api/ws/flows/f/monitor", "/api/v1/ws/events"]
    {
        let text = daemon.watch(path).text();
        let at = timestamp_in(&text);
        assert_eq!(
            text,
            format!(
                "{{\"type\":\"connection:status\",\"status\":\"connected\",\"timestamp\":\"{at}\",\
                 \"server_time\":\"{at}\",\"stream_seq\":{newest}}}"
            )
        );
    }
    for path in ["/api/v1/websocket", "/api/v1/ws"] {
        let greeting = daemon.watch(path).json();
        assert_eq!(greeting["type"], "connected");
        assert!(greeting["message"].is_string());
        assert_eq!(greeting["stream_seq"], newest);
    }
}

/// The first timestamp in a message, checked for its form: `2026-11-23T07:35:32.390Z`.
fn timestamp_in(text: &str) -> String {
    let (_, rest) = text.split_once("\"timestamp\":\"").expect("a timestamp");
    let at = &rest[..24];
    let form: String = at.chars().map(|letter| if letter.is_ascii_digit() { '0' } else { letter }).collect();
    assert_eq!(form, "0000-00-00T00:00:00.000Z");
    at.to_owned()
}

fn kind(event: &str) -> String {
    let event: serde_json::Value = serde_json::from_str(event).expect("JSON");
    event["type"].as_str().expect("a type").to_owned()
}

#[test]
fn a_known_job_begins_with_its_metrics_and_an_unknown_one_does_not() {
    let daemon = Daemon::start(&[]);
    let mut feed = daemon.acked_feed();
    feed.publish([
        r#"{"type":"job_started","job_id":"j","timestamp":"2026-11-23T07:35:32.390Z"}"#,
        r#"{"type":"execution_event","job_id":"j","event":{"event_type":"slot_call"}}"#,
        r#"{"type":"slot_called","job_id":"j"}"#,
        r#"{"type":"event_emitted","job_id":"j"}"#,
        r#"{"type":"metrics","job_id":"j"}"#,
        r#"{"type":"job_completed","job_id":"j","timestamp":"2026-11-23T07:35:34.890"}"#,
        r#"{"type":"job_started","job_id":"k","timestamp":"2026-11-23T07:35:32.390Z"}"#,
    ]);
    let mut watcher = daemon.watch("/api/ws/jobs/j/monitor");
    watcher.connected();
    let text = watcher.text();
    let at = timestamp_in(&text);
    assert_eq!(
        text,
        format!(
            "{{\"type\":\"metrics\",\"job_id\":\"j\",\"timestamp\":\"{at}\",\"metrics\":{{\
             \"start_time\":\"2026-11-23T07:35:32.390Z\",\"end_time\":\"2026-11-23T07:35:34.890Z\",\
             \"duration\":2.5,\"total_events\":5,\"total_slot_calls\":2,\"total_event_emits\":1}}}}"
        )
    );
    let running = second_message(&daemon, "/api/ws/jobs/k/monitor");
    assert_eq!(running["metrics"]["end_time"], serde_json::Value::Null);
    // Filtered out, not a monitor of a job, or unknown: the next message is an event.
    for path in [
        "/api/ws/jobs/unknown/monitor",
        "/api/ws/jobs/j/monitor?events=job_started,end",
        "/api/ws/jobs/j/debug?events=job_end",
        "/api/ws/flows/f/monitor",
    ] {
        let mut watcher = daemon.watch(path);
        watcher.connected();
        let ends = [
            r#"{"type":"end","job_id":"j"}"#,
            r#"{"type":"job_end","job_id":"j"}"#,
            r#"{"type":"end","job_id":"unknown"}"#,
            r#"{"type":"end","flow_id":"f"}"#,
        ];
        feed.publish(ends);
        assert!(watcher.text().starts_with("{\"stream_seq\":"), "{path}");
    }
}

fn second_message(daemon: &Daemon, path: &str) -> serde_json::Value {
    let mut watcher = daemon.watch(path);
    watcher.connected();
    watcher.json()
}

#[test]
fn a_wrong_address_is_refused_with_its_code() {
    let daemon = Daemon::start(&[]);
    let long = format!("/api/ws/jobs/{}/monitor", "x".repeat(129));
    let many_names: Vec<String> = (0..129).map(|number| format!("n{number}")).collect();
    let many_names = format!("/api/ws/events?events={}", many_names.join(","));
    let long_name = format!("/api/ws/events?events={}", "x".repeat(65));
    let table = [
        ("/", 404, "not_found"),
        ("/api/ws", 404, "not_found"),
        ("/api/v2/ws/events", 404, "not_found"),
        ("/api/ws/events/", 404, "not_found"),
        ("/api/ws/jobs/j", 404, "not_found"),
        ("/api/ws/jobs/j/monitor/", 404, "not_found"),
        ("/api/ws/jobs/j/other", 404, "not_found"),
        ("/api/ws/flows/f/debug", 404, "not_found"),
        ("/api/ws/jobs//monitor", 400, "bad_id"),
        ("/api/ws/jobs/a%20b/monitor", 400, "bad_id"),
        ("/api/ws/jobs/%C3%BC/monitor", 400, "bad_id"),
        ("/api/ws/jobs/%zz/debug", 400, "bad_id"),
        ("/api/ws/flows/a%2Fb/monitor", 400, "bad_id"),
        (long.as_str(), 400, "bad_id"),
        ("/api/ws/events?since=", 400, "bad_parameter"),
        ("/api/ws/events?since=yesterday", 400, "bad_parameter"),
        ("/api/ws/events?since=-0", 400, "bad_parameter"),
        ("/api/ws/events?since=+5", 400, "bad_parameter"),
        ("/api/ws/events?since=9007199254740992", 400, "bad_parameter"),
        ("/api/ws/events?since=1&since=1", 400, "bad_parameter"),
        ("/api/ws/events?events=a,,b", 400, "bad_parameter"),
        ("/api/ws/events?events=a&events=b", 400, "bad_parameter"),
        ("/api/ws/events?events=%zz", 400, "bad_parameter"),
        ("/api/ws/events?token=a&token=b", 400, "bad_parameter"),
        (many_names.as_str(), 400, "bad_parameter"),
        (long_name.as_str(), 400, "bad_parameter"),
        ("/api/v1/websocket?since=never", 400, "bad_parameter"),
    ];
    for (path, status, code) in table {
        let refused = daemon.refuse(path);
        assert_eq!((refused.status, refused.code().as_str()), (status, code), "{path}");
    }
}

#[test]
fn unusual_but_clear_addresses_are_accepted() {
    let daemon = Daemon::start(&[]);
    let longest = format!("/api/ws/jobs/{}/monitor", "x".repeat(128));
    for path in [
        longest.as_str(),
        "/api/ws/jobs/A-z_0.9:x/monitor",
        "/api/ws/events?unknown=1&unknown=%zz&since=now",
        "/api/ws/events?events=&since=-100",
        "/api/ws/events?events=a%2Cb",
        "/api/ws/events?since=start&token=x&api_key=y",
        "/api/v1/ws?events=a",
    ] {
        daemon.watch(path);
    }
}

#[test]
fn the_events_parameter_starts_with_only_these() {
    let daemon = Daemon::start(&[]);
    let mut feed = daemon.acked_feed();
    let mut watcher = daemon.watch("/api/ws/jobs/a/monitor?events=routine_started,slot_call,job_custom");
    watcher.connected();
    let all = publish_lines(&mut feed);
    assert_eq!(watcher.events(3), pick(&all, &[1, 7, 8]));
    let mut past = daemon.watch("/api/ws/flows/f/monitor?events=note&since=start");
    past.connected();
    assert_eq!(past.events(1), pick(&all, &[5]));
}

#[test]
fn refusals_of_the_request_itself_carry_what_the_client_needs() {
    let daemon = Daemon::start(&["--request-head-bytes-max", "1024"]);
    let good = Raw::upgrade_request("/api/ws/events");
    let without = |field: &str| {
        good.lines()
            .filter(|line| !line.starts_with(field))
            .map(|line| format!("{line}\r\n"))
            .collect::<String>()
    };
    let long_head = good.replace("\r\n\r\n", &format!("\r\nX-Long: {}\r\n\r\n", "x".repeat(1024)));
    let table = [
        (good.replace("GET", "POST"), 405, "method_not_allowed"),
        (good.replace("HTTP/1.1", "HTTP/1.0"), 505, "http_version"),
        (without("Host"), 400, "bad_request"),
        (without("Upgrade"), 426, "upgrade_required"),
        (without("Connection"), 426, "upgrade_required"),
        (without("Sec-WebSocket-Version"), 426, "upgrade_required"),
        (good.replace("Version: 13", "Version: 8"), 426, "upgrade_required"),
        (without("Sec-WebSocket-Key"), 400, "bad_request"),
        (good.replace("dGhlIHNhbXBsZSBub25jZQ==", "c2hvcnQ="), 400, "bad_request"),
        (good.replace("Host:", "Host :"), 400, "bad_request"),
        (long_head, 431, "too_large"),
    ];
    for (request, status, code) in table {
        let refused = daemon.raw().request(&request);
        assert_eq!((refused.status, refused.code().as_str()), (status, code), "{request}");
        assert_eq!(refused.header("content-type"), Some("application/json"), "{request}");
        match status {
            405 => assert_eq!(refused.header("allow"), Some("GET, OPTIONS")),
            431 => assert!(refused.body.contains("1024 bytes (request_head_bytes_max)"), "{}", refused.body),
            426 => {
                assert_eq!(refused.header("upgrade"), Some("websocket"));
                assert_eq!(refused.header("sec-websocket-version"), Some("13"));
                assert!(
                    refused.headers.iter().any(|(name, value)| name == "connection" && value == "Upgrade")
                );
            }
            _ => {}
        }
    }
    let daemon = Daemon::start(&[]);
    // Cookies set by other programs on this host.
    let cookies = format!("Cookie: {}\r\nHost:", "c=0123456789; ".repeat(860));
    assert!(cookies.len() > 12_000);
    let mut raw = daemon.raw();
    raw.send(good.replace("Host:", &cookies).as_bytes());
    assert!(raw.read_head().starts_with("HTTP/1.1 101 "));
    let long_target = daemon.refuse(&format!("/api/ws/events?x={}", "x".repeat(4096)));
    assert_eq!((long_target.status, long_target.code().as_str()), (414, "too_large"));
}

/// The answer to these bytes: its head, and what came after it.
fn answer_to(address: SocketAddr, request: &str) -> (String, Vec<u8>) {
    let mut raw = Raw::connect(address);
    raw.send(request.as_bytes());
    let head = raw.read_head();
    raw.read_to_end();
    (head, raw.buffer)
}

fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut fields = head.lines().filter_map(|line| line.split_once(": "));
    fields.find(|(given, _)| given.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

/// Every path with a complete answer, on both listeners.
fn plain_paths(daemon: &Daemon) -> Vec<(SocketAddr, &'static str)> {
    let admin = daemon.admin.expect("the admin listener is on");
    let of_watchers = [
        "/healthz",
        "/console/",
        "/console/console.js",
        "/console/luxcast.js",
        "/console/jobs",
        "/console/arrivals?from=1&to=2",
        "/console/daemon",
    ];
    let of_operators = ["/healthz", "/readyz", "/metrics", "/connections", "/jobs"];
    let of_watchers = of_watchers.map(|path| (daemon.address, path));
    of_watchers.into_iter().chain(of_operators.map(|path| (admin, path))).collect()
}

#[test]
fn a_head_request_is_answered_as_a_get_without_the_body_wherever_that_ends() {
    let daemon = Daemon::start(&[]);
    let admin = daemon.admin.expect("the admin listener is on");
    // A job that is over: the duration of a running one grows.
    let ends = ["job_started", "job_completed"]
        .map(|kind| format!(r#"{{"type":"{kind}","job_id":"a","timestamp":"2026-11-23T07:35:32Z"}}"#));
    daemon.acked_feed().publish(ends.iter().map(String::as_str));
    let ask = |address, method: &str, path: &str| {
        answer_to(address, &format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
    };
    for (address, path) in plain_paths(&daemon) {
        let (head, body) = ask(address, "HEAD", path);
        assert!(head.starts_with("HTTP/1.1 200 "), "{path}: {head}");
        assert_eq!(body, b"", "{path}");
        let length = field(&head, "content-length").expect("the length of a GET's body");
        let (of_get, body) = ask(address, "GET", path);
        assert_eq!(field(&head, "content-type"), field(&of_get, "content-type"), "{path}");
        assert_eq!(field(&of_get, "content-length"), Some(body.len().to_string().as_str()), "{path}");
        // These count the requests themselves, or show the time.
        if !["/metrics", "/connections", "/console/daemon"].contains(&path) {
            assert_eq!(length, body.len().to_string(), "{path}");
        }
        let (refused, _) = ask(address, "POST", path);
        assert!(refused.starts_with("HTTP/1.1 405 "), "{path}: {refused}");
        let allowed = if address == admin { "GET, HEAD" } else { "GET, HEAD, OPTIONS" };
        assert_eq!(field(&refused, "allow"), Some(allowed), "{path}");
    }
    for (address, path, status) in [
        (daemon.address, "/nothing", "404"),
        (daemon.address, "/console/jobs?limit=x", "400"),
        (admin, "/nothing", "404"),
        (admin, "/jobs?limit=x", "400"),
    ] {
        let (head, body) = ask(address, "HEAD", path);
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")) && body.is_empty(), "{head}");
        let (_, body) = ask(address, "GET", path);
        assert_eq!(field(&head, "content-length"), Some(body.len().to_string().as_str()), "{path}");
    }
    // A stream does not end, so a HEAD of it could not be answered like a GET.
    for path in ["/api/ws/events", "/api/v1/websocket", "/api/ws/jobs/a/monitor"] {
        let (head, body) = ask(daemon.address, "HEAD", path);
        assert!(head.starts_with("HTTP/1.1 405 ") && body.is_empty(), "{head}");
        assert_eq!(
            (field(&head, "allow"), field(&head, "content-length")),
            (Some("GET, OPTIONS"), None),
            "{path}"
        );
    }
    // The head itself may be at fault.
    for (rest, status) in [
        (format!("/{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "x".repeat(5_000)), 414),
        ("/ HTTP/1.1\r\nHost: localhost\r\nA : b\r\n\r\n".to_owned(), 400),
        ("/ HTTP/2.0\r\nHost: localhost\r\n\r\n".to_owned(), 505),
    ] {
        let (head, body) = answer_to(daemon.address, &format!("HEAD {rest}"));
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")) && body.is_empty(), "{head}{body:?}");
    }
}

#[test]
fn plain_paths_are_served_in_every_version_of_http_1_and_streams_say_what_they_need() {
    let daemon = Daemon::start(&[]);
    for (address, path) in plain_paths(&daemon) {
        for request in [
            format!("GET {path} HTTP/1.0\r\n\r\n"),
            format!("GET {path} HTTP/1.0\r\nHost: localhost\r\nConnection: close\r\n\r\n"),
            format!("HEAD {path} HTTP/1.0\r\n\r\n"),
            format!("GET {path} HTTP/1.2\r\nHost: localhost\r\n\r\n"),
            format!("GET {path} HTTP/1.9\r\nHost: localhost\r\n\r\n"),
            // As Java's client asks for a plain path, in the hope of HTTP/2.
            format!(
                "GET {path} HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\nContent-Length: 0\r\n\
                 Host: localhost\r\nHTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA\r\nUpgrade: h2c\r\n\r\n"
            ),
        ] {
            let (head, body) = answer_to(address, &request);
            assert!(head.starts_with("HTTP/1.1 200 "), "{request}: {head}");
            assert_eq!(body.is_empty(), request.starts_with("HEAD"), "{request}");
        }
        for version in ["2.0", "3.0", "0.9"] {
            let (head, _) =
                answer_to(address, &format!("GET {path} HTTP/{version}\r\nHost: localhost\r\n\r\n"));
            assert!(head.starts_with("HTTP/1.1 505 "), "{path}: {head}");
        }
        let (head, _) = answer_to(address, &format!("GET {path} HTTP/1.2\r\n\r\n"));
        assert!(head.starts_with("HTTP/1.1 400 "), "only HTTP/1.0 may do without Host: {head}");
    }
    let upgrade = Raw::upgrade_request("/api/ws/events");
    for (request, status) in [
        ("GET /api/ws/events HTTP/1.0\r\n\r\n".to_owned(), 505),
        (upgrade.replace("HTTP/1.1", "HTTP/1.0"), 505),
        ("GET /api/ws/events HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".to_owned(), 426),
        ("GET /api/ws/events HTTP/1.2\r\nHost: localhost\r\n\r\n".to_owned(), 426),
    ] {
        let refused = daemon.raw().request(&request);
        assert_eq!(refused.status, status, "{request}");
        assert!(refused.body.contains("proxy_http_version"), "{}", refused.body);
    }
}

#[test]
fn every_answer_has_its_date_and_no_cache_keeps_it() {
    let daemon = Daemon::start(&["--connections-per-address-max", "1000"]);
    let admin = daemon.admin.expect("the admin listener is on");
    let plain = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let mut requests: Vec<(SocketAddr, String)> =
        plain_paths(&daemon).into_iter().map(|(address, path)| (address, plain(path))).collect();
    for address in [daemon.address, admin] {
        requests.extend([
            (address, plain("/nothing")),
            (address, "POST /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned()),
            (address, "GET / HTTP/1.1\r\n\r\n".to_owned()),
            (address, "GET /healthz HTTP/2.0\r\n\r\n".to_owned()),
            (address, "HEAD /nothing HTTP/1.0\r\n\r\n".to_owned()),
            (address, format!("GET /{}", "x".repeat(5000))),
        ]);
    }
    requests.push((daemon.address, plain("/console")));
    requests.push((daemon.address, plain("/console/").replace("GET", "OPTIONS")));
    requests.push((daemon.address, plain("/api/ws/events")));
    requests.push((daemon.address, plain("/api/ws/jobs/%/monitor")));
    for (address, request) in requests {
        let (head, _) = answer_to(address, &request);
        let date = field(&head, "date").unwrap_or_else(|| panic!("no date: {head}"));
        // RFC 9110, 5.6.7.
        let form: String =
            date.chars().map(|letter| if letter.is_ascii_digit() { '0' } else { letter }).collect();
        assert!(
            form[3..].starts_with(", 00 ") && form.ends_with(" 0000 00:00:00 GMT") && form.len() == 29,
            "{date}"
        );
        // The files of the page may be stored, and are revalidated each time.
        let is_file = request.contains("/console")
            && !request.contains("/console/jobs")
            && !request.contains("/console/arrivals")
            && !request.contains("/console/daemon")
            && !request.starts_with("OPTIONS");
        let expected = if is_file { "no-cache" } else { "no-store" };
        assert_eq!(field(&head, "cache-control"), Some(expected), "{request}: {head}");
    }
}

#[test]
fn a_client_that_shuts_only_its_own_side_still_gets_the_answer() {
    let daemon = Daemon::start(&[]);
    let mut feed = daemon.acked_feed();
    let long = "x".repeat(100);
    let lines: Vec<String> = (0..2_000)
        .map(|n| format!(r#"{{"type":"tick","job_id":"{n}-{long}","flow_id":"{long}"}}"#))
        .collect();
    feed.publish(lines.iter().map(String::as_str));
    let ask = |address, request: &str| {
        let mut raw = Raw::connect(address);
        raw.send(request.as_bytes());
        raw.stream.shutdown(Shutdown::Write).expect("it is open");
        let head = raw.read_head();
        while raw.fill() > 0 {}
        (head, raw.buffer)
    };
    let mut paths = plain_paths(&daemon);
    paths.push((daemon.address, "/console/jobs?limit=2000"));
    for (address, path) in paths {
        for _ in 0..5 {
            let (head, body) = ask(address, &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
            assert!(head.starts_with("HTTP/1.1 200 "), "{path}: {head}");
            assert_eq!(field(&head, "content-length"), Some(body.len().to_string().as_str()), "{path}");
        }
    }
    for (request, status) in [
        ("GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
        ("GET /api/ws/events HTTP/1.1\r\nHost: localhost\r\n\r\n", 426),
        ("BAD\r\n\r\n", 400),
    ] {
        let (head, body) = ask(daemon.address, request);
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")) && !body.is_empty(), "{request}: {head}");
    }
    // Nothing of them is left.
    daemon.wait_for_connections(0);
}

#[test]
fn a_slow_request_head_ends_at_an_absolute_deadline() {
    let daemon = Daemon::start(&["--handshake-seconds", "0.5"]);
    let mut silent = daemon.raw();
    let refused = silent.read_answer();
    assert_eq!((refused.status, refused.code().as_str()), (408, "timeout"));
    // A byte now and then does not move the deadline.
    let mut slow = daemon.raw();
    let request = Raw::upgrade_request("/api/ws/events");
    let mut bytes = request.bytes();
    slow.stream.set_read_timeout(Some(std::time::Duration::from_millis(50))).unwrap();
    wait_until("408 for a head that comes byte by byte", || {
        use std::io::{Read, Write};
        let mut chunk = [0; 1024];
        match slow.stream.read(&mut chunk) {
            Ok(count) => {
                slow.buffer.extend_from_slice(&chunk[..count]);
                true
            }
            Err(_) => {
                let byte = bytes.next().expect("the head is not sent to its end before the deadline");
                slow.stream.write_all(&[byte]).is_err()
            }
        }
    });
    assert!(slow.buffer.starts_with(b"HTTP/1.1 408 "), "{:?}", String::from_utf8_lossy(&slow.buffer));
}

#[test]
fn a_full_daemon_says_when_to_return() {
    let daemon = Daemon::start(&["--connections-max", "2"]);
    let _first = daemon.watch("/api/ws/events");
    let second = daemon.watch("/api/ws/events");
    let refused = daemon.refuse("/api/ws/events");
    assert_eq!((refused.status, refused.code().as_str()), (503, "full"));
    assert!(refused.header("retry-after").is_some_and(|value| value.parse::<u32>().is_ok()));
    drop(second);
    wait_until("room for another", || Client::try_connect(daemon.address, "/api/ws/events").is_ok());

    let daemon = Daemon::start(&["--connections-per-address-max", "1"]);
    let _only = daemon.watch("/api/ws/events");
    let refused = daemon.refuse("/api/ws/events");
    assert_eq!((refused.status, refused.code().as_str()), (429, "too_many_requests"));
    assert!(refused.header("retry-after").is_some());
}

#[test]
fn watchers_of_topics_beyond_topics_max_are_refused() {
    let daemon = Daemon::start(&["--topics-max", "2"]);
    let mut first = daemon.watch("/api/ws/jobs/a/monitor");
    let second = daemon.watch("/api/ws/flows/f/monitor");
    let refused = daemon.refuse("/api/ws/jobs/b/monitor");
    assert_eq!((refused.status, refused.code().as_str()), (503, "full"));
    assert!(refused.header("retry-after").is_some());
    let _same = daemon.watch("/api/ws/jobs/a/monitor");
    let _all = daemon.watch("/api/ws/events");
    let mut many = daemon.watch("/api/v1/websocket");
    many.json();
    let error = many.ask(r#"{"type":"subscribe","job_id":"b"}"#);
    assert_eq!((&error["code"], &error["job_id"]), (&"too_many_jobs".into(), &"b".into()));
    // Topics that only watchers asked for take no room from the feed.
    let mut feed = daemon.acked_feed();
    feed.lines([r#"{"type":"x","job_id":"b"}"#, r#"{"type":"x","job_id":"a"}"#]);
    assert!(feed.sync().is_empty());
    // The feed has no room either once all its topics are watched; known topics continue.
    let b = daemon.watch("/api/ws/jobs/b/monitor");
    feed.lines([r#"{"type":"x","job_id":"c"}"#, r#"{"type":"y","job_id":"a"}"#]);
    let errors = feed.sync();
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert_eq!((&errors[0]["line"], &errors[0]["code"]), (&4.into(), &"too_many_topics".into()));
    // With room for one of two, neither is accepted.
    drop((b, second));
    daemon.wait_for_connections(4);
    feed.line(r#"{"type":"x","job_id":"c","flow_id":"g"}"#);
    assert_eq!(feed.sync()[0]["code"], "too_many_topics");
    first.connected();
    assert!(first.event().contains("\"type\":\"x\",\"job_id\":\"a\""));
}

#[test]
fn health_is_served_on_both_listeners_and_connections_on_the_admin_one() {
    let daemon = Daemon::start(&[]);
    let answer = daemon.raw().request("GET /healthz?probe=1 HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!((answer.status, answer.body.as_str()), (200, "ok\n"));
    assert_eq!(daemon.admin_get("/healthz"), (200, "ok\n".to_owned()));
    assert_eq!(daemon.admin_get("/nothing").0, 404);
    assert_eq!(daemon.admin_get("/connections?sort=name").0, 400);

    let mut feed = daemon.acked_feed();
    let mut watcher = daemon.watch("/api/ws/jobs/j/monitor?events=x");
    watcher.connected();
    let newest = feed.publish([r#"{"type":"x","job_id":"j"}"#]);
    watcher.event();
    let row = || daemon.connections().pop().expect("a connection");
    wait_until("the position moves on", || row()["position"].as_u64() == Some(newest));
    let row = row();
    assert_eq!(row["topics"], serde_json::json!(["job:j"]));
    assert_eq!(row["lag_events"], 0);
    assert_eq!(row["phase"], "open");
    assert!(row["filter"].as_str().is_some_and(|filter| filter.contains('x')), "{row}");
    assert!(row["bytes_out"].as_u64() > Some(0), "{row}");
}
