//! The live page over HTTP: its files, the data it asks for, what goes with each answer, and what it must not do to
//! those who watch.

use std::collections::HashMap;
use std::io::Read;
use std::time::{Duration, Instant};

use flate2::read::GzDecoder;
use serde_json::{Value, json};
use socket2::SockRef;

use crate::harness::{Daemon, Raw, Scratch, Setup, wait_until};
use crate::overrun::waits;

/// An answer, whatever it is: status, fields in lower case, body as it came.
struct Answer {
    status: u16,
    fields: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Answer {
    fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|field| field.0 == name).map(|field| field.1.as_str())
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a body of text")
    }
}

fn read(mut raw: Raw) -> Answer {
    let head = raw.read_head();
    raw.read_to_end();
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")).expect("an HTTP answer");
    let fields = lines.filter_map(|line| line.split_once(": "));
    Answer {
        status: status[..3].parse().expect("a status"),
        fields: fields.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect(),
        body: raw.buffer,
    }
}

fn ask(daemon: &Daemon, method: &str, target: &str, fields: &str) -> Answer {
    let mut raw = daemon.raw();
    raw.send(format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n").as_bytes());
    read(raw)
}

fn get(daemon: &Daemon, target: &str) -> Answer {
    ask(daemon, "GET", target, "")
}

/// Path and type of everything that the page is made of.
const FILES: [(&str, &str); 6] = [
    ("/console/", "text/html; charset=utf-8"),
    ("/console/index.html", "text/html; charset=utf-8"),
    ("/console/console.css", "text/css; charset=utf-8"),
    ("/console/console.js", "text/javascript; charset=utf-8"),
    ("/console/luxcast.js", "text/javascript; charset=utf-8"),
    ("/console/icon.svg", "image/svg+xml"),
];

#[test]
fn each_file_of_the_page_comes_with_its_type_and_keeps_browsers_strict() {
    let daemon = Daemon::start(&[]);
    for (path, content_type) in FILES {
        let answer = get(&daemon, path);
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(answer.field("content-type"), Some(content_type), "{path}");
        assert_eq!(answer.field("content-length"), Some(answer.body.len().to_string().as_str()), "{path}");
        assert!(!answer.body.is_empty(), "{path}");
        assert_eq!(answer.field("cache-control"), Some("no-cache"));
        assert_eq!(answer.field("vary"), Some("Accept-Encoding"));
        assert_strict(&answer, path);
    }
}

fn assert_strict(answer: &Answer, path: &str) {
    let policy = answer.field("content-security-policy").unwrap_or_else(|| panic!("{path} has no policy"));
    let directives: Vec<&str> = policy.split("; ").collect();
    let expected = [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ];
    assert_eq!(directives, expected, "{path}");
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
    ] {
        assert_eq!(answer.field(name), Some(value), "{path}");
    }
}

#[test]
fn a_client_that_takes_gzip_gets_the_same_in_fewer_bytes() {
    let daemon = Daemon::start(&[]);
    for (path, _) in FILES {
        let plain = get(&daemon, path);
        assert_eq!(plain.field("content-encoding"), None);
        let packed = ask(&daemon, "GET", path, "Accept-Encoding: gzip, deflate, br\r\n");
        assert_eq!(packed.field("content-encoding"), Some("gzip"));
        assert_eq!(packed.field("content-length"), Some(packed.body.len().to_string().as_str()));
        let mut unpacked = Vec::new();
        GzDecoder::new(&packed.body[..]).read_to_end(&mut unpacked).expect("gzip");
        assert!(unpacked == plain.body, "{path}");
        assert!(packed.body.len() < plain.body.len(), "{path}");
        let refused = ask(&daemon, "GET", path, "Accept-Encoding: gzip;q=0\r\n");
        assert!(refused.field("content-encoding").is_none() && refused.body == plain.body, "{path}");
    }
}

#[test]
fn what_a_browser_has_is_not_sent_again() {
    let daemon = Daemon::start(&[]);
    for (path, _) in FILES {
        let first = get(&daemon, path);
        let tag = first.field("etag").expect("a tag");
        for fields in [format!("If-None-Match: {tag}\r\n"), format!("If-None-Match: \"x\", {tag}\r\n")] {
            let again = ask(&daemon, "GET", path, &format!("{fields}Accept-Encoding: gzip\r\n"));
            assert_eq!((again.status, again.field("etag")), (304, Some(tag)), "{path}");
            assert!(again.body.is_empty() && again.field("content-length").is_none(), "{path}");
            assert_strict(&again, path);
        }
        let other = ask(&daemon, "GET", path, "If-None-Match: W/\"of-another-version\"\r\n");
        assert!(other.status == 200 && other.body == first.body, "{path}");
    }
}

#[test]
fn a_head_request_is_answered_like_a_get_without_its_body() {
    let daemon = Daemon::start(&[]);
    for (path, _) in FILES {
        for fields in ["", "Accept-Encoding: gzip\r\n"] {
            let of_get = ask(&daemon, "GET", path, fields);
            let of_head = ask(&daemon, "HEAD", path, fields);
            let fields = |answer: &Answer| {
                let fields = answer.fields.iter().filter(|(name, _)| name != "date");
                fields.cloned().collect::<Vec<_>>()
            };
            assert_eq!((of_head.status, fields(&of_head)), (200, fields(&of_get)), "{path}");
            assert!(of_head.body.is_empty(), "{path}");
        }
    }
    let missing = ask(&daemon, "HEAD", "/console/missing.js", "");
    assert!(missing.status == 404 && missing.body.is_empty());
}

#[test]
fn unknown_files_and_other_methods_are_refused_as_everywhere() {
    let daemon = Daemon::start(&[]);
    for path in ["/console/missing.js", "/console/page/", "/console//", "/console/%63onsole.js", "/consoles"]
    {
        let answer = get(&daemon, path);
        assert_eq!(answer.status, 404, "{path}");
        assert!(answer.text().starts_with(r#"{"error":"not_found","message":""#), "{path}");
    }
    for method in ["POST", "PUT", "DELETE", "PATCH"] {
        let answer = ask(&daemon, method, "/console/console.js", "Content-Length: 0\r\n");
        assert_eq!((answer.status, answer.field("allow")), (405, Some("GET, HEAD, OPTIONS")), "{method}");
        assert!(answer.text().starts_with(r#"{"error":"method_not_allowed","#), "{method}");
    }
}

#[test]
fn heads_are_judged_by_the_same_rules_on_the_page() {
    let daemon = Daemon::start(&["--handshake-seconds", "3600"]);
    let table: [(&str, u16); 10] = [
        ("GET /console/ HTTP/1.1\n", 400),
        ("GET /console/ HTTP/1.1\r\nHost: a\r\n folded", 400),
        ("GET /console/ HTTP/1.1\r\nAccept: x\r\n\r\n", 400),
        ("GET /console/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        ("GET /console/ HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n", 400),
        ("GET /console/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n", 200),
        ("HEAD /console/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        ("GET /console/ HTTP/2", 505),
        ("GET /console/\u{1}", 400),
        ("GET /console/#x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ];
    for (text, status) in table {
        let mut raw = daemon.raw();
        raw.send(text.as_bytes());
        assert_eq!(read(raw).status, status, "{text:?}");
    }
    let long = format!("GET /console/?{}", "x".repeat(4096));
    let mut raw = daemon.raw();
    raw.send(long.as_bytes());
    assert_eq!(read(raw).status, 414);
    assert_eq!(get(&daemon, "/console/?x=%zz&token=y").status, 200, "a query means nothing here");
    assert_eq!(get(&daemon, "http://localhost/console/").status, 200);
}

/// Resolves a relative address as a browser does (RFC 3986, 5.2.3).
fn resolve(base: &str, reference: &str) -> String {
    let directory = &base[..=base.rfind('/').expect("a path has a slash")];
    format!("{directory}{}", reference.trim_start_matches("./"))
}

#[test]
fn the_page_works_below_any_path_of_a_proxy() {
    let daemon = Daemon::start(&[]);
    for prefix in ["", "/tools/live"] {
        // The prefix that the proxy removes before it asks the daemon.
        let through =
            |path: &str| get(&daemon, path.strip_prefix(prefix).expect("it stays below the prefix"));
        let entrance = through(&format!("{prefix}/console?job=a"));
        assert_eq!((entrance.status, entrance.text()), (308, ""));
        assert_strict(&entrance, "/console");
        let location = entrance.field("location").expect("it leads somewhere");
        let page_path = resolve(&format!("{prefix}/console"), location);
        assert_eq!(page_path, format!("{prefix}/console/?job=a"));
        let page_path = page_path.trim_end_matches("?job=a");
        let page = through(page_path);
        assert_eq!(page.status, 200);
        let links = ["src=\"", "href=\""].into_iter().flat_map(|link| page.text().split(link).skip(1));
        let links: Vec<&str> = links.map(|rest| rest.split('"').next().expect("it ends")).collect();
        assert!(links.len() >= 3, "{links:?}");
        // A fragment of the page itself is not an address.
        for link in links.into_iter().filter(|link| !link.starts_with('#')) {
            assert!(!link.starts_with('/') && !link.contains(':'), "{link} leaves the page's place");
            assert_eq!(through(&resolve(page_path, link)).status, 200, "{link}");
        }
    }
}

#[test]
fn the_page_is_open_where_tokens_are_asked_for_and_counts_as_a_visit() {
    let (_scratch, daemon) =
        daemon_with_tokens(&["--trusted-proxies", "127.0.0.1", "--handshakes-per-second", "2"]);
    let visit = |client: &str| {
        ask(&daemon, "GET", "/console/", &format!("X-Forwarded-For: {client}\r\nOrigin: http://other\r\n"))
    };
    let statuses: Vec<u16> = (0..30).map(|_| visit("203.0.113.7").status).collect();
    assert_eq!(statuses[0], 200, "neither token nor origin is looked at");
    assert!(statuses.contains(&429), "{statuses:?}");
    assert_eq!(visit("203.0.113.8").status, 200, "others are not affected");
}

fn page_of_jobs(daemon: &Daemon, query: &str, token: &str) -> Value {
    let fields = if token.is_empty() { String::new() } else { format!("Authorization: Bearer {token}\r\n") };
    let answer = ask(daemon, "GET", &format!("/console/jobs{query}"), &fields);
    assert_eq!(
        (answer.status, answer.field("content-type")),
        (200, Some("application/json")),
        "{}",
        answer.text()
    );
    assert_eq!(answer.field("cache-control"), Some("no-store"));
    assert_strict(&answer, "/console/jobs");
    serde_json::from_str(answer.text()).expect("JSON")
}

fn ids(page: &Value) -> Vec<&str> {
    let jobs = page["jobs"].as_array().expect("a list");
    jobs.iter().map(|job| job["job_id"].as_str().expect("an id")).collect()
}

#[test]
fn a_job_is_listed_in_its_current_state() {
    let daemon = Daemon::start(&[]);
    assert_eq!(page_of_jobs(&daemon, "", "")["jobs"], json!([]));
    let mut feed = daemon.acked_feed();
    let first = feed
        .publish([r#"{"type":"job_started","job_id":"a","flow_id":"f","timestamp":"2026-01-01T00:00:00Z"}"#]);
    let newest = feed.publish([
        r#"{"type":"execution_event","job_id":"a","event":{"event_type":"slot_call"}}"#,
        r#"{"type":"execution_event","job_id":"a","event":{"event_type":"event_emit"}}"#,
        r#"{"type":"job_failed","job_id":"a","timestamp":"2026-01-01T00:00:02.5Z"}"#,
        r#"{"type":"tick","job_id":"b"}"#,
    ]);
    let _watcher = daemon.watch("/api/ws/jobs/a/monitor");
    let page = page_of_jobs(&daemon, "", "");
    assert_eq!(
        (ids(&page), &page["stream_seq"], &page["next"]),
        (vec!["b", "a"], &json!(newest), &Value::Null)
    );
    let expected = json!({
        "job_id": "a", "flow_id": "f", "status": "failed", "duration": 2.5,
        "start_time": "2026-01-01T00:00:00.000Z", "end_time": "2026-01-01T00:00:02.500Z",
        "total_events": 4, "total_slot_calls": 1, "total_event_emits": 1,
        "first_seq": first, "stream_seq": newest - 1, "watchers": 1,
    });
    assert_eq!(page["jobs"][1], expected);
    let other = &page["jobs"][0];
    assert_eq!(
        (&other["status"], &other["flow_id"], &other["end_time"]),
        (&json!("running"), &json!(null), &json!(null))
    );
    assert_eq!(ids(&page_of_jobs(&daemon, "?status=failed", "")), ["a"]);
    assert_eq!(ids(&page_of_jobs(&daemon, "?flow=f&status=running", "")), Vec::<&str>::new());
    assert_eq!(ids(&page_of_jobs(&daemon, "?limit=1", "")), ["b"]);
    for query in ["?limit=0", "?limit=10001", "?after=x", "?status=gone", "?flow=a&flow=a"] {
        let answer = get(&daemon, &format!("/console/jobs{query}"));
        assert_eq!(answer.status, 400, "{query}");
        assert!(answer.text().starts_with(r#"{"error":"bad_parameter","#), "{query}");
    }
    assert_eq!(ask(&daemon, "POST", "/console/jobs", "").field("allow"), Some("GET, HEAD, OPTIONS"));
}

const TOKENS: &str = "every all\none jobs=a1,b*\nflow flows=f1\nnothing debug\nfigures admin\n";

fn daemon_with_tokens(flags: &[&str]) -> (Scratch, Daemon) {
    let scratch = Scratch::new();
    let file = scratch.path().join("tokens");
    std::fs::write(&file, TOKENS).expect("the directory can be written");
    let file = file.to_str().expect("the path is UTF-8");
    let daemon = Setup::default().flags(&["--token-file", file]).flags(flags).start();
    (scratch, daemon)
}

#[test]
fn every_client_sees_the_jobs_of_its_token() {
    let (_scratch, daemon) = daemon_with_tokens(&[]);
    let mut feed = daemon.acked_feed();
    feed.publish([
        r#"{"type":"tick","job_id":"a1","flow_id":"f1"}"#,
        r#"{"type":"tick","job_id":"a2","flow_id":"f1"}"#,
        r#"{"type":"tick","job_id":"b1","flow_id":"f2"}"#,
        r#"{"type":"tick","job_id":"c1"}"#,
    ]);
    let of = |token| page_of_jobs(&daemon, "", token);
    assert_eq!(ids(&of("every")), ["c1", "b1", "a2", "a1"]);
    assert_eq!(ids(&of("one")), ["b1", "a1"]);
    assert_eq!(ids(&of("flow")), ["a2", "a1"]);
    assert_eq!(ids(&page_of_jobs(&daemon, "?flow=f1", "one")), ["a1"]);
    let verdict = |path: &str, fields: &str| {
        let answer = ask(&daemon, "GET", path, fields);
        let body: Value = serde_json::from_str(answer.text()).expect("JSON");
        (answer.status, body["error"].as_str().unwrap_or_default().to_owned())
    };
    let refused = |status: u16, code: &str| (status, code.to_owned());
    for path in ["/console/jobs", "/console/daemon"] {
        assert_eq!(verdict(path, ""), refused(401, "unauthorized"));
        assert_eq!(verdict(path, "X-API-Key: wrong\r\n"), refused(401, "unauthorized"));
        assert_eq!(verdict(path, "X-API-Key: nothing\r\n"), refused(403, "forbidden_scope"));
        assert_eq!(
            verdict(path, "X-API-Key: every\r\nOrigin: http://other\r\n"),
            refused(403, "forbidden_origin")
        );
    }
    assert_eq!(verdict("/console/jobs?limit=x", ""), refused(401, "unauthorized"), "the token comes first");
    assert_eq!(verdict("/console/jobs", "X-API-Key: figures\r\n"), refused(403, "forbidden_scope"));
    assert_eq!(verdict("/console/daemon", "X-API-Key: every\r\n"), refused(403, "forbidden_scope"));
    assert_eq!(verdict("/console/daemon?token=figures", "").0, 200);
    assert_eq!(verdict("/console/jobs", "X-API-Key: one\r\nOrigin: http://localhost\r\n").0, 200);
}

#[test]
fn page_after_page_has_each_job_that_stays_once_whatever_changes() {
    const JOBS: usize = 5_000;
    let daemon = Daemon::start(&["--history-seconds", "3600", "--jobs-max", "5600"]);
    let mut feed = daemon.acked_feed();
    // Some jobs must go when others come, and some stay because they have newer events.
    let named = |prefix: &str, range: std::ops::Range<usize>| -> Vec<String> {
        range
            .map(|n| format!(r#"{{"type":"job_started","job_id":"{prefix}{n}","flow_id":"f{}"}}"#, n % 7))
            .collect()
    };
    for lines in [named("goes", 0..600), named("stays", 0..JOBS)] {
        feed.publish(lines.iter().map(String::as_str));
    }
    let mut seen: HashMap<String, usize> = HashMap::new();
    let (mut query, mut pages) = ("?limit=333".to_owned(), 0);
    loop {
        let page = page_of_jobs(&daemon, &query, "");
        let rows = page["jobs"].as_array().expect("a list");
        assert!(rows.len() <= 333);
        let order: Vec<u64> = rows.iter().map(|row| row["first_seq"].as_u64().expect("a number")).collect();
        assert!(order.is_sorted_by(|one, other| one > other), "the latest to begin comes first");
        ids(&page).into_iter().for_each(|id| *seen.entry(id.to_owned()).or_default() += 1);
        pages += 1;
        // New jobs come and push out old ones; those that stay have events and ends.
        let news = named(&format!("new{pages}-"), 0..30);
        let events = (0..JOBS).step_by(pages + 1).map(|n| {
            let kind = if n % 3 == 0 { "job_completed" } else { "tick" };
            format!(r#"{{"type":"{kind}","job_id":"stays{n}"}}"#)
        });
        let lines: Vec<String> = events.chain(news).collect();
        feed.publish(lines.iter().map(String::as_str));
        match page["next"].as_u64() {
            Some(next) => query = format!("?limit=333&after={next}"),
            None => break,
        }
    }
    assert!(pages >= 15, "{pages}");
    assert!(seen.values().all(|&times| times == 1), "a job came twice");
    let missing: Vec<usize> = (0..JOBS).filter(|n| !seen.contains_key(&format!("stays{n}"))).collect();
    assert!(missing.is_empty(), "missing: {missing:?}");
}

/// Long ids make a long list: about 4 MB.
fn publish_long_list(daemon: &Daemon) {
    let mut feed = daemon.acked_feed();
    let long = "x".repeat(100);
    for block in 0..10 {
        let lines: Vec<String> = (0..1_000)
            .map(|n| format!(r#"{{"type":"tick","job_id":"{block}-{n}-{long}","flow_id":"{long}"}}"#))
            .collect();
        feed.publish(lines.iter().map(String::as_str));
    }
}

#[test]
fn a_long_answer_to_a_slow_reader_comes_whole_and_disturbs_nobody() {
    // Longer than a connection may linger, and with publishers that wait for watchers that read.
    let flags = ["--overrun", "wait", "--stalled-seconds", "3600", "--history-bytes", "33554432"];
    let daemon = Daemon::start(&flags);
    publish_long_list(&daemon);
    let mut slow = daemon.raw();
    SockRef::from(&slow.stream).set_recv_buffer_size(64 << 10).expect("a TCP socket");
    slow.send(b"GET /console/jobs?limit=10000 HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let head = slow.read_head();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let mut watcher = daemon.watch("/api/ws/jobs/live/monitor");
    watcher.connected();
    let mut feed = daemon.acked_feed();
    let begin = Instant::now();
    let mut rounds = 0;
    while begin.elapsed() < Duration::from_secs(7) {
        let line = format!(r#"{{"type":"tick","job_id":"live","round":{rounds}}}"#);
        // Much more than the history holds: nothing waits for a client that watches nothing.
        let filler = format!(r#"{{"type":"tick","job_id":"other","filler":"{}"}}"#, "y".repeat(100_000));
        feed.publish([filler.as_str(), filler.as_str(), filler.as_str(), line.as_str()]);
        assert!(watcher.event().contains(&format!(r#""round":{rounds}}}"#)));
        rounds += 1;
        let mut little = [0; 1024];
        let count = slow.stream.read(&mut little).expect("there is more to read");
        slow.buffer.extend_from_slice(&little[..count]);
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(waits(&daemon), 0, "nobody needs what the history drops");
    println!("{rounds} rounds beside a reader that has {} bytes", slow.buffer.len());
    assert!(slow.buffer.len() < 3_000_000, "it is a slow reader");
    slow.read_to_end();
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).expect("a length");
    assert_eq!(slow.buffer.len().to_string(), length);
    assert!(slow.buffer.len() > 3_000_000, "{}", slow.buffer.len());
    let page: Value = serde_json::from_slice(&slow.buffer).expect("JSON");
    assert_eq!(ids(&page).len(), 10_000);
}

#[test]
fn a_client_that_takes_nothing_of_a_long_answer_is_reset_after_stalled_seconds() {
    let daemon = Daemon::start(&["--stalled-seconds", "1"]);
    publish_long_list(&daemon);
    let mut raw = daemon.raw();
    SockRef::from(&raw.stream).set_recv_buffer_size(4096).expect("a TCP socket");
    raw.send(b"GET /console/jobs?limit=10000 HTTP/1.1\r\nHost: localhost\r\n\r\n");
    raw.read_head();
    wait_until("the reset", || daemon.stderr().contains("reset: "));
    let mut broken = daemon.raw();
    assert!(broken.request("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").status == 200);
}

#[test]
fn the_daemon_reports_its_own_figures() {
    let daemon = Daemon::start(&["--shards", "2", "--history-bytes", "1048576"]);
    let figures = || -> Value {
        let answer = get(&daemon, "/console/daemon");
        assert_eq!((answer.status, answer.field("content-type")), (200, Some("application/json")));
        assert_eq!(answer.field("cache-control"), Some("no-store"));
        assert_strict(&answer, "/console/daemon");
        serde_json::from_str(answer.text()).expect("JSON")
    };
    let mut watchers = ["/api/ws/events", "/api/ws/events", "/api/ws/jobs/a/monitor", "/api/v1/websocket"]
        .map(|path| daemon.watch(path));
    let mut feed = daemon.acked_feed();
    let newest = feed.publish([r#"{"type":"tick","job_id":"a","flow_id":"f"}"#]);
    watchers[..3].iter_mut().for_each(|watcher| drop(watcher.event()));
    daemon.refuse("/api/ws/nowhere");
    wait_until("the figures", || figures()["deliveries_total"] == 3);
    let told = figures();
    assert_eq!(told["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(told["stream_seq"], newest);
    let watched = json!({"events": 2, "job_monitor": 1, "multi_job": 1, "flow_monitor": 0, "job_debug": 0});
    assert_eq!(told["watchers"], watched);
    assert_eq!((&told["jobs"], &told["flows"], &told["publishers"]), (&json!(1), &json!(1), &json!(1)));
    assert_eq!((&told["events_total"], &told["history"]["bytes_max"]), (&json!(1), &json!(1_048_576)));
    assert_eq!(
        (&told["refusals_total"]["not_found"], &told["gaps_total"]["overrun"]),
        (&json!(1), &json!(0))
    );
    assert!(told["uptime_seconds"].as_f64() > Some(0.0) && told["history"]["bytes"].as_u64() > Some(0));
    assert_eq!((&told["lagging"], &told["slowest"]), (&json!(0), &json!([])));
    // A watcher that does not read is among the slowest.
    let filler = format!(r#"{{"type":"tick","job_id":"slow","filler":"{}"}}"#, "y".repeat(50_000));
    let mut slow = daemon.raw();
    slow.upgrade("/api/ws/jobs/slow/monitor");
    wait_until("a slow watcher", || {
        feed.publish([filler.as_str(); 20]);
        let told = figures();
        told["slowest"]
            .as_array()
            .is_some_and(|rows| rows.iter().any(|row| row["topics"] == json!(["job:slow"])))
    });
    assert!(figures()["lagging"].as_u64() >= Some(1));
}
