//! Pages of other origins: what they may read over plain HTTP, and what a browser asks before it lets them.

use std::fs;
use std::net::SocketAddr;

use crate::harness::client::Refused;
use crate::harness::{Daemon, Raw, Scratch, Setup, wait_until};

const EVENTS: &str = "/api/v1/ws/events";
const PUBLISH: &str = "POST /api/v1/events";
const PAGE: &str = "https://ui.example";
const EVIL: &str = "https://evil.example";

/// A daemon that asks for tokens and lets in pages of [`PAGE`].
fn guarded(flags: &[&str]) -> (Daemon, Scratch) {
    let scratch = Scratch::new();
    let file = scratch.path().join("tokens");
    fs::write(&file, "boss all admin\nsome jobs=a\npen publish=a\n").expect("the directory can be written");
    let file = file.to_str().expect("UTF-8");
    (Setup::default().flags(&["--token-file", file, "--allowed-origins", PAGE]).flags(flags).start(), scratch)
}

/// The answer to a request with these fields: its head.
fn ask(address: SocketAddr, line: &str, fields: &[&str]) -> Refused {
    let mut raw = Raw::connect(address);
    raw.send(text(line, fields).as_bytes());
    Refused::of_head(&raw.read_head())
}

fn text(line: &str, fields: &[&str]) -> String {
    let host =
        if fields.iter().any(|field| field.starts_with("Host: ")) { "" } else { "Host: localhost\r\n" };
    let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
    format!("{line} HTTP/1.1\r\n{host}{fields}\r\n")
}

fn origin(of: &str) -> String {
    format!("Origin: {of}")
}

/// The page that may read the answer.
fn reader(answer: &Refused) -> Option<&str> {
    answer.header("access-control-allow-origin")
}

fn varies(answer: &Refused) -> bool {
    answer.headers.iter().any(|(name, value)| name == "vary" && value == "Origin")
}

/// Lines, fields, and the status for a page that may read the answer.
fn plain_requests() -> Vec<(String, Vec<&'static str>, u16)> {
    let boss = "Authorization: Bearer boss";
    let some = "X-API-Key: some";
    let (pen, lines) = ("X-API-Key: pen", "Content-Type: application/jsonl");
    let get = |path: &str| format!("GET {path}");
    vec![
        (get("/healthz"), vec![], 200),
        (get("/"), vec![], 308),
        (get("/console"), vec![], 308),
        (get("/console/"), vec![], 200),
        (get("/console/luxcast.js"), vec![], 200),
        (get("/console/luxcast.js"), vec!["If-None-Match: *"], 304),
        ("HEAD /console/luxcast.js".to_owned(), vec![], 200),
        (get("/console/jobs"), vec![some], 200),
        ("HEAD /console/jobs".to_owned(), vec![some], 200),
        (get("/console/arrivals?from=1&to=2"), vec![some], 200),
        (get("/console/daemon"), vec![boss], 200),
        (get(EVENTS), vec![boss, "Accept: text/event-stream"], 200),
        (PUBLISH.to_owned(), vec![pen, lines, "Content-Length: 0"], 200),
        (PUBLISH.to_owned(), vec![some, lines, "Content-Length: 0"], 403),
        (PUBLISH.to_owned(), vec![lines, "Content-Length: 0"], 401),
        (PUBLISH.to_owned(), vec![pen, "Content-Type: text/plain", "Content-Length: 0"], 415),
        (PUBLISH.replace("POST", "GET"), vec![pen], 405),
        (get("/api/ws/jobs/a/debug"), vec![some], 403),
        (get(EVENTS), vec![some], 403),
        (get("/console/daemon"), vec![some], 403),
        (get("/console/jobs"), vec![], 401),
        (get("/console/jobs"), vec!["X-API-Key: wrong"], 401),
        (get("/console/jobs?limit=x"), vec![some], 400),
        (get("/console/jobs?token=some"), vec![some], 400),
        (get("/api/ws/jobs/%/monitor"), vec![some], 400),
        (get("/nowhere"), vec![], 404),
        ("POST /console/jobs".to_owned(), vec!["Content-Length: 1"], 405),
        (format!("HEAD {EVENTS}"), vec![boss], 405),
        (get(EVENTS), vec![boss], 426),
        (get("/console/jobs"), vec!["Content-Length: 1"], 400),
        (get("/console/jobs"), vec!["X-API-Key: \u{fc}"], 401),
        (get("/console/jobs"), vec!["Bad : field"], 400),
        (get("/console/jobs"), vec!["Host: evil.example"], 421),
        (get(&format!("{EVENTS}?events={}", "a,".repeat(2_500))), vec![boss], 414),
    ]
}

#[test]
fn a_page_that_may_connect_reads_every_answer_and_no_other_page_reads_any() {
    let (daemon, _scratch) = guarded(&[]);
    for (line, fields, status) in plain_requests() {
        let with = |origin: &str| ask(daemon.address, &line, &[&[origin][..], &fields].concat());
        let answer = with(&origin(PAGE));
        assert_eq!((answer.status, reader(&answer)), (status, Some(PAGE)), "{line}: {answer:?}");
        assert!(varies(&answer), "{line}: {answer:?}");
        assert_eq!(answer.header("access-control-allow-credentials"), None, "{line}");
        let exposed = answer.header("access-control-expose-headers").unwrap_or_default();
        for name in ["retry-after", "www-authenticate", "allow", "accept-post", "sec-websocket-version"] {
            let is_exposed = exposed.to_lowercase().split(", ").any(|word| word == name);
            assert_eq!(is_exposed, answer.header(name).is_some(), "{line}: {name} in {answer:?}");
        }
        for other in [EVIL, "null", "https://ui.example.evil", "http://ui.example", "*", ""] {
            let answer = with(&origin(other));
            assert!(varies(&answer), "{line}: {answer:?}");
            let is_told = answer.headers.iter().any(|(name, _)| name.starts_with("access-control-"));
            assert!(!is_told, "{line} of {other}: {answer:?}");
        }
        // A cache is not to give what a program was answered to a page.
        let answer = ask(daemon.address, &line, &fields);
        assert!(varies(&answer) && reader(&answer).is_none(), "{line}: {answer:?}");
    }
}

#[test]
fn the_own_page_may_read_too_and_a_name_that_is_not_the_daemons_makes_no_page_its_own() {
    let daemon = Daemon::start(&[]);
    let own = ask(daemon.address, "GET /console/jobs", &["Origin: http://localhost"]);
    assert_eq!((own.status, reader(&own)), (200, Some("http://localhost")));
    let rebound = ["Host: evil.example", "Origin: http://evil.example"];
    let refused = ask(daemon.address, "GET /console/jobs", &rebound);
    assert_eq!((refused.status, reader(&refused)), (421, None));
    // A browser takes a star for every page; it is never sent.
    let anyone = Daemon::start(&["--allowed-origins", "*"]);
    for given in [EVIL, "null"] {
        assert_eq!(reader(&ask(anyone.address, "GET /console/jobs", &[&origin(given)])), Some(given));
    }
    for odd in ["a b", "a\tb", "\u{fc}", "http://a, http://b"] {
        assert_eq!(reader(&ask(anyone.address, "GET /console/jobs", &[&origin(odd)])), None, "{odd}");
    }
    let none = ask(anyone.address, "GET /console/jobs", &[]);
    assert!(reader(&none).is_none() && varies(&none));
}

/// Its answer comes when the whole body was dealt with, or does not come in.
#[test]
fn a_page_reads_what_became_of_what_it_published() {
    let (daemon, _scratch) = guarded(&["--line-bytes-max", "1000"]);
    let publish = |content_type: &str, body: &str, page: &str| {
        let fields = [
            "X-API-Key: pen",
            &format!("Content-Type: {content_type}"),
            &format!("Content-Length: {}", body.len()),
            &origin(page),
        ];
        let mut raw = daemon.raw();
        raw.send((text(PUBLISH, &fields) + body).as_bytes());
        Refused::of_head(&raw.read_head())
    };
    let long = format!(r#"{{"type":"x","job_id":"a","long":"{}"}}"#, "x".repeat(2_000));
    for (content_type, body, status) in [
        ("application/json", r#"{"type":"x","job_id":"a"}"#, 200),
        ("application/jsonl", "{\"type\":\"x\",\"job_id\":\"b\"}\n", 422),
        ("application/json", &*long, 413),
    ] {
        let answer = publish(content_type, body, PAGE);
        assert_eq!((answer.status, reader(&answer), varies(&answer)), (status, Some(PAGE), true), "{body}");
        let answer = publish(content_type, body, EVIL);
        assert_eq!((answer.status, reader(&answer), varies(&answer)), (403, None, true), "{body}");
    }
    let (none, _scratch) = guarded(&["--http-publish", "off"]);
    for method in ["OPTIONS", "POST"] {
        assert_eq!(ask(none.address, &PUBLISH.replace("POST", method), &[]).status, 404, "{method}");
    }
}

/// A picture or a script of a page brings no origin.
#[test]
fn no_page_embeds_what_it_may_not_read() {
    let (daemon, _scratch) = guarded(&[]);
    for (path, accept) in [
        (EVENTS, "Accept: text/event-stream"),
        (EVENTS, "Accept: application/x-ndjson"),
        ("/console/jobs", "Accept: */*"),
        ("/console/arrivals?from=1&to=2", "Accept: */*"),
        ("/console/daemon", "Accept: */*"),
    ] {
        let answer = ask(daemon.address, &format!("GET {path}"), &["X-API-Key: boss", accept]);
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(answer.header("cross-origin-resource-policy"), Some("same-origin"), "{path}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}");
    }
}

/// The request may come a moment after the connection.
#[test]
fn a_page_for_which_there_is_no_room_reads_why() {
    for (flags, status) in [(["--connections-max", "1"], 503), (["--connections-per-address-max", "1"], 429)]
    {
        let (daemon, _scratch) = guarded(&flags);
        let mut watcher = daemon.raw();
        watcher.upgrade(&format!("{EVENTS}?token=boss"));
        wait_until("the refusal names the page", || {
            let refused = ask(daemon.address, "GET /console/jobs", &[&origin(PAGE)]);
            assert_eq!(refused.status, status);
            assert!(refused.header("retry-after").is_some());
            let is_exposed = refused.header("access-control-expose-headers") == Some("Retry-After");
            reader(&refused) == Some(PAGE) && is_exposed
        });
        let refused = ask(daemon.address, "GET /console/jobs", &[&origin(EVIL)]);
        assert_eq!((refused.status, reader(&refused), varies(&refused)), (status, None, true));
        // Who says nothing, half of a request or something else is told the same.
        let mut silent =
            [&b""[..], b"GET /console/jobs HTTP/1.1\r\nOrig", b"\x16\x03\x01", b"\r\n\n"].map(|said| {
                let mut raw = daemon.raw();
                raw.send(said);
                raw
            });
        let mut ended = daemon.raw();
        ended.read_to_end();
        for answer in [String::from_utf8(ended.buffer).expect("text")]
            .into_iter()
            .chain(silent.iter_mut().map(Raw::read_head))
        {
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        }
        let mut raw = daemon.raw();
        raw.send(text("HEAD /healthz", &[]).as_bytes());
        raw.read_to_end();
        let answer = String::from_utf8(raw.buffer).expect("text");
        assert!(answer.ends_with("\r\n\r\n"), "a HEAD has no body: {answer}");
    }
}

#[test]
fn a_page_reads_that_the_daemon_ends() {
    let (daemon, _scratch) = guarded(&["--drain-seconds", "3600"]);
    // It never answers the close frame.
    let mut stuck = daemon.raw();
    stuck.upgrade(&format!("{EVENTS}?token=boss"));
    let mut asks = daemon.raw();
    asks.send(format!("GET {EVENTS} HTTP/1.1\r\nHost: localhost\r\nOrigin: {PAGE}\r\nX-").as_bytes());
    daemon.wait_for_connections(2);
    daemon.terminate();
    let refused = Refused::of_head(&asks.read_head());
    assert_eq!((refused.status, reader(&refused)), (503, Some(PAGE)), "{refused:?}");
    assert_eq!(refused.header("access-control-expose-headers"), Some("Retry-After"));
}

/// What a browser asks before it lets a page send its token.
fn preflight(page: &str) -> Vec<String> {
    vec![
        origin(page),
        "Access-Control-Request-Method: GET".to_owned(),
        "Access-Control-Request-Headers: authorization,x-api-key".to_owned(),
        "Access-Control-Request-Private-Network: true".to_owned(),
    ]
}

#[test]
fn a_browser_may_ask_what_a_page_may_send() {
    let (daemon, _scratch) = guarded(&[]);
    let options = |path: &str, fields: &[String]| {
        let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
        ask(daemon.address, &format!("OPTIONS {path}"), &fields)
    };
    for (path, methods) in [
        ("/", "GET, HEAD, OPTIONS"),
        ("/healthz", "GET, HEAD, OPTIONS"),
        ("/console/", "GET, HEAD, OPTIONS"),
        ("/console/luxcast.js", "GET, HEAD, OPTIONS"),
        ("/console/jobs?limit=x", "GET, HEAD, OPTIONS"),
        ("/console/daemon", "GET, HEAD, OPTIONS"),
        (EVENTS, "GET, OPTIONS"),
        ("/api/ws/jobs/%/monitor?since=x", "GET, OPTIONS"),
        ("/api/v1/websocket", "GET, OPTIONS"),
        ("/api/v1/events", "POST, OPTIONS"),
        ("/api/events", "POST, OPTIONS"),
        ("http://localhost/console/jobs", "GET, HEAD, OPTIONS"),
    ] {
        let answer = options(path, &preflight(PAGE));
        assert_eq!((answer.status, reader(&answer)), (204, Some(PAGE)), "{path}: {answer:?}");
        assert!(varies(&answer), "{path}");
        for (name, expected) in [
            ("allow", methods),
            ("access-control-allow-methods", methods),
            ("access-control-max-age", "7200"),
            ("access-control-allow-private-network", "true"),
            (
                "access-control-allow-headers",
                "Authorization, X-API-Key, Content-Type, Last-Event-ID, Luxcast-Publisher, Luxcast-Line",
            ),
        ] {
            assert_eq!(answer.header(name), Some(expected), "{path}");
        }
        for name in ["content-length", "transfer-encoding", "content-type", "connection"] {
            assert_eq!(answer.header(name), None, "{path}: {name}");
        }
        let refused = options(path, &preflight(EVIL));
        assert_eq!((refused.status, refused.header("allow")), (403, None), "{path}: {refused:?}");
        assert!(!refused.headers.iter().any(|(name, _)| name.starts_with("access-control-")), "{refused:?}");
        let plain = options(path, &[]);
        assert_eq!(
            (plain.status, plain.header("allow"), varies(&plain)),
            (204, Some(methods), true),
            "{path}"
        );
        assert!(!plain.headers.iter().any(|(name, _)| name.starts_with("access-control-")), "{plain:?}");
    }
    for path in ["*", "/nowhere", "/console/jobs/", "/metrics"] {
        let refused = options(path, &preflight(PAGE));
        assert_eq!((refused.status, refused.header("allow")), (404, None), "{path}");
    }
    let mut elsewhere = preflight(PAGE);
    elsewhere.push("Host: evil.example".to_owned());
    assert_eq!(options("/console/jobs", &elsewhere).status, 421);
}

#[test]
fn what_a_browser_asks_first_is_limited_and_hides_nothing_behind_it() {
    let (daemon, _scratch) = guarded(&["--connections-per-address-max", "1"]);
    let fields = preflight(PAGE);
    let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
    let asked = text("OPTIONS /console/jobs", &fields);
    // The request of the page comes on the same connection, as soon as it may.
    let mut raw = daemon.raw();
    let request = text("GET /console/jobs", &[&origin(PAGE), "X-API-Key: some"]);
    raw.send([asked.clone(), asked.clone(), request.clone(), asked.clone()].concat().as_bytes());
    for status in [204, 204, 200, 204] {
        let answer = raw.read_next(false);
        assert_eq!((answer.status, reader(&answer), answer.is_last()), (status, Some(PAGE), false));
    }
    let mut watcher = daemon.raw();
    watcher.upgrade(&format!("{EVENTS}?token=boss"));
    assert_eq!(ask(daemon.address, "OPTIONS /console/jobs", &fields).status, 429);
    raw.send(asked.as_bytes());
    assert_eq!(raw.read_answer().status, 429);
    drop(watcher);
    daemon.wait_for_connections(0);
    // A body would be the next request to whoever reads none.
    for field in [
        format!("Content-Length: {}", request.len()),
        "Transfer-Encoding: chunked".to_owned(),
        "Content-Length: 0\r\nContent-Length: 0".to_owned(),
        "Content-Length: 00".to_owned(),
    ] {
        let mut raw = daemon.raw();
        let with_body = text("OPTIONS /console/jobs", &[&fields[..], &[&field]].concat());
        raw.send([with_body, request.clone()].concat().as_bytes());
        assert_eq!(raw.read_answer().status, 400, "{field}");
        daemon.wait_for_connections(0);
    }
    let mut empty = daemon.raw();
    empty.send(text("OPTIONS /console/jobs", &["Content-Length: 0"]).as_bytes());
    assert_eq!(empty.read_next(false).status, 204);
}

#[test]
fn what_operators_ask_is_for_no_page() {
    let daemon = Daemon::start(&["--allowed-origins", "*"]);
    let admin = daemon.admin.expect("it is on");
    for path in ["/healthz", "/", "/readyz", "/metrics", "/connections", "/jobs", "/nowhere"] {
        for method in ["GET", "HEAD", "OPTIONS", "POST"] {
            let answer = ask(admin, &format!("{method} {path}"), &[&origin(PAGE)]);
            let is_told = answer.headers.iter().any(|(name, _)| name.starts_with("access-control-"));
            assert!(!is_told && !varies(&answer), "{method} {path}: {answer:?}");
            let is_refused = answer.status == 405 && answer.header("allow") == Some("GET, HEAD");
            let expected = path != "/nowhere" && matches!(method, "OPTIONS" | "POST");
            assert_eq!(is_refused, expected, "{method} {path}: {answer:?}");
        }
    }
}
