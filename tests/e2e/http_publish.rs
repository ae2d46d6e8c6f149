//! Publishing over HTTP: bodies of all forms and cuts, rights, repeated requests, and bodies that lie.

use std::net::Shutdown;
use std::process::Command;
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use luxcast::access::jwt::{Claims, Publish, sign};
use luxcast::config::JwtAlgorithm;
use serde_json::{Value, json};

use crate::corpus::{corpus, python_running, script};
use crate::harness::http_feed::{HttpFeed, JSON, LINES};
use crate::harness::tool::go;
use crate::harness::{Client, Daemon, Feed, Raw, Scratch, Setup, numbered, wait_until};

const EVENTS: &str = "/api/v1/ws/events";
const TOKENS: &str = "every publish\nsome publish=a,b*\nsame publish=b*,a,a\nwider publish=a,b*,c\nwatcher all\n\
                      boss all admin publish\n";

/// Whoever may connect may publish.
fn open_daemon(flags: &[&str]) -> Daemon {
    Setup::default().flags(&["--http-publish", "anyone"]).flags(flags).start()
}

fn of_job(n: u64) -> String {
    format!("{{\"type\":\"t\",\"job_id\":\"job\",\"n\":{n}}}")
}

fn refused(answer: &Value) -> Vec<(u64, &str)> {
    let lines = answer["refused"].as_array().expect("a list").iter();
    lines
        .map(|row| (row["line"].as_u64().expect("a number"), row["code"].as_str().expect("a word")))
        .collect()
}

#[test]
fn each_line_of_a_body_is_an_event_or_refused_alone() {
    let daemon = open_daemon(&[]);
    let mut watcher = daemon.watch(EVENTS);
    let before = watcher.connected();
    let mut feed = HttpFeed::connect(daemon.address);
    let body = format!("{}\r\n\nnope\n{{\"type\":\"t\"}}\n  {}  \n{}", of_job(1), of_job(2), of_job(3));
    let (status, answer) = feed.post(LINES, &body);
    assert_eq!((status, &answer["accepted"], &answer["stream_seq"]), (200, &json!(3), &json!(before + 3)));
    assert_eq!(
        (refused(&answer), &answer["refused_total"]),
        (vec![(3, "bad_json"), (4, "no_id")], &json!(2))
    );
    assert_eq!(answer.get("accepted_line"), None);
    for (n, seq) in (1..=3).zip(before + 1..) {
        assert_eq!(watcher.event(), numbered(&of_job(n), seq));
    }
    // What is answered is visible.
    let mut late = daemon.watch(&format!("{EVENTS}?since=start"));
    assert_eq!(late.event(), numbered(&of_job(1), before + 1));
    let (status, answer) = feed.post(LINES, &"nope\n".repeat(100));
    assert_eq!((status, refused(&answer).len(), &answer["refused_total"]), (422, 64, &json!(100)));
    assert_eq!((&answer["accepted"], &answer["stream_seq"]), (&json!(0), &json!(before + 3)));
    for (body, is_told) in [("[{\"a\":1}]", true), ("\n [\n{}\n]", true), ("{}\n[]", false)] {
        let (_, answer) = feed.post(LINES, body);
        let said = answer["refused"].to_string();
        assert_eq!(said.contains("Content-Type: application/json"), is_told, "{said}");
    }
    for body in ["", "\n\n \r\n"] {
        let (status, answer) = feed.post(LINES, body);
        let counts = [&answer["accepted"], &answer["refused_total"]];
        assert_eq!((status, counts), (200, [&json!(0), &json!(0)]), "{body:?}");
    }
    let mut alias = daemon.raw();
    let text = of_job(4);
    let length = text.len();
    alias.send(
        format!(
            "POST /api/events HTTP/1.0\r\nContent-Type: application/jsonl\r\nContent-Length: {length}\r\n\r\n{text}"
        )
        .as_bytes(),
    );
    let last = alias.read_answer();
    assert_eq!((last.status, last.is_last()), (200, true), "{last:?}");
    // How long the body is, nobody says.
    let mut endless = daemon.raw();
    endless.send(
        format!("POST /api/events HTTP/1.0\r\nContent-Type: application/jsonl\r\n\r\n{text}").as_bytes(),
    );
    assert_eq!(endless.read_answer().status, 400);
}

#[test]
fn a_json_body_is_one_object_or_an_array_of_them() {
    let daemon = open_daemon(&["--line-bytes-max", "1000"]);
    let mut watcher = daemon.watch(EVENTS);
    let before = watcher.connected();
    let mut feed = HttpFeed::connect(daemon.address);
    let spread = "{\n  \"type\": \"t\",\n  \"job_id\": \"job\",\n  \"text\": \"a, ] }\\\" b\"\n}\n";
    assert_eq!(feed.post(JSON, spread).0, 200);
    assert_eq!(watcher.event(), numbered(&spread.trim().replace('\n', " "), before + 1));
    let (status, answer) = feed.post(JSON, &format!(" [{} ,\n{}, 7, {{}}]", of_job(2), of_job(3)));
    let expected = vec![(3, "not_an_object"), (4, "no_type")];
    assert_eq!((status, &answer["accepted"], refused(&answer)), (200, &json!(2), expected));
    for (n, seq) in (2..=3).zip(before + 2..) {
        assert_eq!(watcher.event().trim_end(), numbered(&of_job(n), seq));
    }
    for body in ["[]", ""] {
        let (status, answer) = feed.post(JSON, body);
        assert_eq!((status, &answer["accepted"], refused(&answer)), (200, &json!(0), vec![]), "{body}");
    }
    // What stands where a comma must ends the list.
    let (status, answer) = feed.post(JSON, &format!("[{}{},{}]", of_job(4), of_job(5), of_job(6)));
    assert_eq!((status, &answer["accepted"], refused(&answer)), (200, &json!(1), vec![(2, "bad_json")]));
    for body in [" \n", "[", "{\"type\":", "[{}", "{} {}", "\"a\nb\""] {
        let (status, answer) = feed.post(JSON, body);
        let codes: Vec<&str> = refused(&answer).into_iter().map(|(_, code)| code).collect();
        assert_eq!((status, &answer["accepted"]), (422, &json!(0)), "{body}");
        assert!(codes.contains(&"bad_json"), "{body}: {answer}");
    }
    // A later one is refused alone: those before it are taken.
    let long = format!("{{\"type\":\"t\",\"job_id\":\"j\",\"x\":\"{}\"}}", "x".repeat(1_000));
    let (status, answer) = feed.post(JSON, &format!("[{},{long},{}]", of_job(4), of_job(5)));
    assert_eq!((status, &answer["accepted"], refused(&answer)), (200, &json!(2), vec![(2, "too_long")]));
    let (status, answer) = feed.post(JSON, &long);
    assert_eq!((status, &answer["error"]), (413, &json!("too_large")));
}

#[test]
fn publishing_needs_a_token_for_it_and_covers_only_its_ids() {
    let scratch = Scratch::new();
    let file = scratch.path().join("tokens");
    std::fs::write(&file, TOKENS).expect("the directory is ours");
    let flags = ["--token-file", file.to_str().expect("UTF-8")];
    let daemon = Setup::default().flags(&flags).start();
    let post = |token: &str, body: &str| {
        let fields =
            if token.is_empty() { String::new() } else { format!("Authorization: Bearer {token}\r\n") };
        HttpFeed::with(daemon.address, &fields).post(LINES, body)
    };
    let of = |ids: &str| format!("{{\"type\":\"t\",{ids}}}\n");
    for (token, status, code) in
        [("", 401, "unauthorized"), ("unknown", 401, "unauthorized"), ("watcher", 403, "forbidden_scope")]
    {
        let (got, answer) = post(token, &of_job(1));
        assert_eq!((got, &answer["error"]), (status, &json!(code)), "{token}");
    }
    assert_eq!(post("every", &of_job(1)).0, 200);
    let allowed = [
        "\"job_id\":\"a\"",
        "\"job_id\":\"b1\",\"flow_id\":\"a\"",
        "\"flow_id\":\"b\"",
        "\"job_id\":\"a\",\"flow_id\":null",
    ];
    assert_eq!(post("some", &allowed.map(of).concat()).1["accepted"], 4);
    let others = [
        "\"job_id\":\"aa\"",
        "\"job_id\":\"a\",\"flow_id\":\"c\"",
        "\"job_id\":\"a\",\"data\":{\"flow_id\":\"c\"}",
        "\"flow_id\":\"c\"",
    ];
    let (status, answer) = post("some", &others.map(of).concat());
    assert_eq!((status, &answer["refused_total"]), (422, &json!(4)));
    assert!(refused(&answer).iter().all(|(_, code)| *code == "forbidden"), "{answer}");
    // What nobody may publish is in no stream, and makes no job known.
    let mut all = Client::connect(daemon.address, &format!("{EVENTS}?since=start&token=watcher"));
    let told: Vec<String> = all.events(5);
    assert!(!told.iter().any(|text| text.contains("\"c\"") || text.contains("\"aa\"")), "{told:?}");
    let jobs = daemon
        .raw()
        .request("GET /console/jobs?token=watcher HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    assert!(!jobs.body.contains("\"aa\""), "{}", jobs.body);
    // A token that is taken back ends a request in the middle of its body.
    let mut slow = HttpFeed::with(daemon.address, "X-API-Key: every\r\n");
    let head = slow.head(LINES, "Content-Length: 1000\r\n");
    slow.raw.send(format!("{head}{}\n", of_job(2)).as_bytes());
    wait_until("the line is taken", || {
        daemon.admin_get("/metrics").1.contains("luxcast_publish_requests_total 4")
    });
    std::fs::write(&file, "watcher all\n").expect("the directory is ours");
    daemon.reload();
    assert_eq!(slow.answer().0, 401);
}

#[test]
fn settings_say_who_may_publish() {
    let plain = Daemon::start(&[]);
    let (status, answer) = HttpFeed::connect(plain.address).post(LINES, &of_job(1));
    assert_eq!((status, &answer["error"]), (401, &json!("unauthorized")));
    assert!(
        answer["message"].as_str().is_some_and(|text| text.contains("http_publish = anyone")),
        "{answer}"
    );
    let off = Setup::default().flags(&["--http-publish", "off"]).start();
    assert_eq!(HttpFeed::connect(off.address).post(LINES, &of_job(1)).0, 404);
    let open = open_daemon(&[]);
    let get = open.raw().request("GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!((get.status, get.header("allow")), (405, Some("POST, OPTIONS")));
}

#[test]
fn no_page_of_another_site_and_no_form_publishes() {
    let daemon = open_daemon(&["--allowed-origins", "https://good.example"]);
    let mut watcher = daemon.watch(EVENTS);
    let post = |fields: &str| {
        let body = of_job(1);
        let length = body.len();
        let request = format!(
            "POST /api/v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n{fields}\r\n{body}"
        );
        daemon.raw().request(&request.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n")).status
    };
    let ndjson = "Content-Type: application/x-ndjson\r\n";
    assert_eq!(post(&format!("{ndjson}Origin: https://evil.example\r\n")), 403);
    assert_eq!(post(&format!("{ndjson}Origin: null\r\n")), 403);
    let rebound = daemon.raw().request(&format!(
        "POST /api/v1/events HTTP/1.1\r\nHost: evil.example\r\n{ndjson}Content-Length: 0\r\n\r\n"
    ));
    assert_eq!(rebound.status, 421);
    for form in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"] {
        assert_eq!(post(&format!("Content-Type: {form}\r\n")), 415, "{form}");
        assert_eq!(post(&format!("Content-Type: {form}\r\nOrigin: https://good.example\r\n")), 415, "{form}");
    }
    assert_eq!(post(""), 415);
    assert_eq!(post(&format!("{ndjson}Content-Encoding: gzip\r\n")), 415);
    assert_eq!(post(&format!("{ndjson}Expect: something\r\n")), 417);
    assert_eq!(post(&format!("{ndjson}Origin: https://good.example\r\n")), 200);
    assert_eq!(watcher.event().matches("\"n\":1").count(), 1, "it is the first and only one");
}

#[test]
fn a_request_may_be_repeated_under_a_name() {
    let scratch = Scratch::new();
    let state = scratch.path().join("state").display().to_string();
    let ingest = scratch.path().join("s.sock").display().to_string();
    let flags = ["--state-dir", &*state, "--ingest", &*ingest];
    let mut daemon = open_daemon(&flags);
    let body: String = (1..=3).map(|n| of_job(n) + "\n").collect();
    let named = |daemon: &Daemon, line: u64, body: &str| {
        let fields = format!("Luxcast-Publisher: ci\r\nLuxcast-Line: {line}\r\n");
        HttpFeed::with(daemon.address, &fields).post(LINES, body)
    };
    let (_, first) = named(&daemon, 1, &body);
    assert_eq!((&first["accepted"], &first["accepted_line"]), (&json!(3), &json!(3)));
    let (_, again) = named(&daemon, 1, &body);
    assert_eq!(again, first, "nothing is taken twice");
    let (_, overlap) = named(&daemon, 3, &(1..=2).map(|n| of_job(n + 2) + "\n").collect::<String>());
    assert_eq!((&overlap["accepted"], &overlap["accepted_line"]), (&json!(2), &json!(4)));
    // Without a number the lines follow those that were accepted.
    let mut feed = HttpFeed::with(daemon.address, "Luxcast-Publisher: ci\r\n");
    assert_eq!(feed.post(LINES, &of_job(5)).1["accepted_line"], 5);
    // Who comes by the socket is the same publisher.
    let mut socket = Feed::connect(&daemon.ingest);
    socket.line(r#"{"op":"hello","publisher":"ci","ack":true,"dedupe":true}"#);
    assert_eq!(socket.answer()["accepted"], 5);
    drop(socket);
    daemon.stop();
    let daemon = open_daemon(&flags);
    let (_, answer) = named(&daemon, 5, &(5..=6).map(|n| of_job(n) + "\n").collect::<String>());
    assert_eq!((&answer["accepted"], &answer["accepted_line"]), (&json!(2), &json!(6)));
    let mut all = daemon.watch("/api/ws/jobs/job/monitor?since=start");
    for n in 1..=6 {
        assert!(all.event().ends_with(&of_job(n)[1..]), "{n}");
    }
    for fields in
        ["Luxcast-Publisher: a b\r\n", "Luxcast-Line: 1\r\n", "Luxcast-Publisher: a\r\nLuxcast-Line: 0\r\n"]
    {
        assert_eq!(HttpFeed::with(daemon.address, fields).post(LINES, "").0, 400, "{fields}");
    }
}

#[test]
fn no_line_of_a_request_gets_a_number_that_a_reader_of_json_cannot_hold() {
    let daemon = open_daemon(&[]);
    let last = (1_u64 << 53) - 1;
    let mut feed =
        HttpFeed::with(daemon.address, &format!("Luxcast-Publisher: far\r\nLuxcast-Line: {}\r\n", last - 1));
    let body: String = (1..=4).map(|n| of_job(n) + "\n").collect();
    for _ in 0..2 {
        let (status, answer) = feed.post(LINES, &body);
        assert_eq!((status, &answer["accepted"], &answer["accepted_line"]), (200, &json!(2), &json!(last)));
        let over = (last + 1, "bad_line_number");
        assert_eq!((refused(&answer), &answer["refused_total"]), (vec![over, over], &json!(2)));
    }
    // Under the name nothing more can be taken, and that is said.
    let mut behind = HttpFeed::with(daemon.address, "Luxcast-Publisher: far\r\n");
    let (status, answer) = behind.post(LINES, &of_job(5));
    assert_eq!((status, refused(&answer)), (422, vec![(last + 1, "bad_line_number")]));
}

#[test]
fn a_request_under_a_name_is_answered_while_nothing_else_happens() {
    let daemon = open_daemon(&["--admin", "off"]);
    let mut feed = HttpFeed::with(daemon.address, "Luxcast-Publisher: ci\r\n");
    for (form, body, line) in
        [(LINES, "", 0), (JSON, "", 0), (LINES, &*of_job(1), 1), (LINES, "", 1), (JSON, "", 1)]
    {
        let (status, answer) = feed.post(form, body);
        assert_eq!((status, &answer["accepted_line"]), (200, &json!(line)), "{body}");
    }
}

#[test]
fn lines_under_a_name_have_the_same_numbers_on_both_doors() {
    let daemon = open_daemon(&[]);
    let hello = r#"{"op":"hello","publisher":"P","ack":true,"dedupe":true}"#;
    let controls = ["{\"op\":\"nope\"}", hello, "{\"op\":\"from\",\"line\":0}", "{\"op\":5}"];
    for (place, control) in controls.into_iter().enumerate() {
        let (by_http, by_socket) = (format!("http-{place}"), format!("socket-{place}"));
        let mut feed = HttpFeed::with(daemon.address, &format!("Luxcast-Publisher: {by_http}\r\n"));
        let body = [&*of_job(1), control, &of_job(2)].join("\n");
        let (_, answer) = feed.post(LINES, &body);
        assert_eq!((&answer["accepted"], &answer["accepted_line"]), (&json!(2), &json!(2)), "{control}");
        assert_eq!(refused(&answer), [(2, "bad_op")], "{control}");
        let mut socket = Feed::connect(&daemon.ingest);
        socket.line(&hello.replace('P', &by_socket));
        assert_eq!(socket.answer()["accepted"], 0);
        body.lines().for_each(|line| socket.line(line));
        let answers = std::iter::from_fn(|| Some(socket.answer()));
        let error = answers.into_iter().find(|answer| answer["op"] == "error").expect("it is refused");
        assert_eq!((&error["line"], &error["code"]), (&json!(2), &json!("bad_op")), "{control}");
        // Whoever goes on by the other door, from the beginning of its file, loses no line.
        let mut socket = Feed::connect(&daemon.ingest);
        socket.line(&hello.replace('P', &by_http));
        assert_eq!(socket.answer()["accepted"], 2, "{control}");
        socket.line("{\"op\":\"from\",\"line\":1}");
        let before = daemon.watch(EVENTS).connected();
        body.lines().for_each(|line| socket.line(line));
        socket.line(&of_job(3));
        let mut answers = std::iter::from_fn(|| Some(socket.answer()));
        let ack =
            answers.find(|answer| answer["op"] == "ack" && answer["line"] == 3).expect("all are dealt with");
        assert_eq!(ack["stream_seq"], before + 1, "{control}");
    }
}

#[test]
fn requests_that_publish_are_counted_while_they_go_on_and_only_lines_that_were_sent_as_lines() {
    let daemon = open_daemon(&[]);
    let metric = |name: &str| {
        let (_, text) = daemon.admin_get("/metrics");
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.expect("the metric is there").parse::<u64>().expect("a number")
    };
    let control = || metric("luxcast_feed_lines_total{result=\"control\"}");
    let mut named = HttpFeed::with(daemon.address, "Luxcast-Publisher: ci\r\nLuxcast-Line: 1\r\n");
    assert_eq!(named.post(LINES, &of_job(1)).1["accepted"], 1);
    wait_until("it is over", || metric("luxcast_http_publishers") == 0);
    assert_eq!(control(), 0, "fields of a head are no lines");
    let hello = r#"{"op":"hello","publisher":"x","dedupe":true}"#;
    let mut unnamed = HttpFeed::connect(daemon.address);
    let body = format!("{hello}\n{{\"op\":\"from\",\"line\":1}}\n{}", of_job(2));
    assert_eq!(unnamed.post(LINES, &body).1["accepted"], 1);
    wait_until("its orders are counted", || control() == 2);
    let mut open = HttpFeed::connect(daemon.address);
    let head = open.head(LINES, "Content-Length: 1000\r\n");
    open.raw.send(format!("{head}{}\n", of_job(3)).as_bytes());
    wait_until("it goes on", || metric("luxcast_http_publishers") == 1);
    assert_eq!(metric("luxcast_publishers"), 0);
    drop(open);
    wait_until("it is over", || metric("luxcast_http_publishers") == 0);
}

#[test]
fn a_token_for_some_ids_touches_no_other_publishers_lines() {
    let scratch = Scratch::new();
    let file = scratch.path().join("tokens");
    std::fs::write(&file, TOKENS).expect("the directory is ours");
    let flags = ["--token-file", file.to_str().expect("UTF-8")];
    let daemon = Setup::default().flags(&flags).start();
    let post_as = |token: &str, name: &str, line: u64| {
        let fields = format!("X-API-Key: {token}\r\nLuxcast-Publisher: {name}\r\nLuxcast-Line: {line}\r\n");
        HttpFeed::with(daemon.address, &fields).post(LINES, r#"{"type":"t","job_id":"a"}"#).1
    };
    let post = |token: &str, line: u64| post_as(token, "engine", line);
    // A list is the same however it is written.
    let run = post_as("some", "run", 1);
    assert_eq!(post_as("same", "run", 1), run, "it is taken once");
    assert_ne!(post_as("wider", "run", 1), run);
    assert_eq!(post("some", 1_000_000)["accepted_line"], 1_000_000);
    let first = post("every", 1);
    assert_eq!((&first["accepted"], &first["accepted_line"]), (&json!(1), &json!(1)));
    let mut socket = Feed::connect(&daemon.ingest);
    socket.line(r#"{"op":"hello","publisher":"engine","ack":true,"dedupe":true}"#);
    assert_eq!(
        socket.answer()["accepted"],
        1,
        "whoever may publish everything shares the names of the socket"
    );
    assert_eq!(post("some", 1_000_000)["stream_seq"], first["stream_seq"], "it is taken once");
}

#[test]
fn a_request_ends_with_its_token_and_when_the_door_is_closed() {
    let scratch = Scratch::new();
    let path = |name: &str| scratch.path().join(name).display().to_string();
    std::fs::write(path("key"), [b'k'; 40]).expect("the directory is ours");
    std::fs::write(path("config"), "http_publish = \"scope\"\n").expect("the directory is ours");
    let (key, config) = (path("key"), path("config"));
    let flags = ["--jwt-key-file", &*key, "--jwt-algorithm", "HS256", "--config", &*config];
    let daemon = Setup::default().flags(&flags).start();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let begin = |seconds: u64| {
        let claims =
            Claims { publish: Publish::All(true), exp: Some((now + seconds).into()), ..Claims::default() };
        let token = sign(JwtAlgorithm::Hs256, &[b'k'; 40], &claims).expect("a good key");
        let mut feed = HttpFeed::with(daemon.address, &format!("Authorization: Bearer {token}\r\n"));
        let head = feed.head(LINES, "Content-Length: 1000\r\n");
        feed.raw.send(format!("{head}{}\n", of_job(1)).as_bytes());
        feed
    };
    let (mut short, mut long) = (begin(3), begin(600));
    // Nothing else would end it for half a minute.
    let (status, answer) = short.answer();
    assert_eq!((status, &answer["error"]), (401, &json!("unauthorized")), "{answer}");
    assert_eq!((&answer["accepted"], &answer["refused_total"]), (&json!(1), &json!(0)), "{answer}");
    let late = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    assert!((now + 3..now + 25).contains(&late), "{late} after {now}");
    std::fs::write(path("config"), "http_publish = \"off\"\n").expect("the directory is ours");
    daemon.reload();
    assert_eq!(long.answer().0, 404);
    let get = daemon.raw().request("GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(get.status, 404);
}

#[test]
fn a_body_is_read_alike_however_it_is_cut() {
    let daemon = open_daemon(&[]);
    let mut watcher = daemon.watch(EVENTS);
    let mut feed = HttpFeed::connect(daemon.address);
    let body: String = (1..=3).map(|n| of_job(n) + "\n").collect();
    let chunked = |size: usize| {
        let chunks = body.as_bytes().chunks(size).map(|chunk| {
            format!("{:X};ext=\"1\"\r\n{}\r\n", chunk.len(), str::from_utf8(chunk).expect("ASCII"))
        });
        chunks.chain(["0\r\nTrailer: x\r\n\r\n".to_owned()]).collect::<String>()
    };
    let head = feed.head(LINES, "Transfer-Encoding: chunked\r\n");
    let with_length = feed.head(LINES, &format!("Content-Length: {}\r\n", body.len())) + &body;
    let requests = [head.clone() + &chunked(7), head.clone() + &chunked(1_000), with_length];
    for request in &requests {
        for piece in [1, 3, 64, request.len()] {
            request.as_bytes().chunks(piece).for_each(|piece| feed.raw.send(piece));
            assert_eq!(feed.answer().1["accepted"], 3);
        }
    }
    // One behind the other in one piece.
    feed.raw.send(requests.concat().as_bytes());
    (0..3).for_each(|_| assert_eq!(feed.answer().1["accepted"], 3));
    for round in 0..15 {
        for n in 1..=3 {
            assert!(watcher.event().ends_with(&of_job(n)[1..]), "{round}");
        }
    }
    let mut asks = HttpFeed::with(daemon.address, "Expect: 100-continue\r\n");
    let head = asks.head(LINES, &format!("Content-Length: {}\r\n", body.len()));
    asks.raw.send(head.as_bytes());
    assert_eq!(asks.raw.read_head(), "HTTP/1.1 100 Continue\r\n\r\n");
    asks.raw.send(body.as_bytes());
    assert_eq!(asks.answer().0, 200);
    // Who may not publish is told before it sends anything.
    let mut refused =
        HttpFeed::with(daemon.address, "Expect: 100-continue\r\nOrigin: http://evil.example\r\n");
    let head = refused.head(LINES, "Content-Length: 1000000\r\n");
    refused.raw.send(head.as_bytes());
    assert_eq!(refused.answer().0, 403);
    // A client that shuts its own side behind the body gets the answer.
    let mut half = HttpFeed::connect(daemon.address);
    half.send(LINES, &body);
    half.raw.stream.shutdown(Shutdown::Write).expect("it is open");
    assert_eq!(half.answer().0, 200);
}

#[test]
fn publishers_keep_their_connections_however_many_they_are() {
    let daemon = open_daemon(&["--handshake-seconds", "0.2"]);
    let mut feeds: Vec<HttpFeed> = (0..150).map(|_| HttpFeed::connect(daemon.address)).collect();
    for round in 0..3 {
        for feed in &mut feeds {
            let (status, answer) = feed.post(LINES, &of_job(round));
            assert_eq!((status, &answer["accepted"]), (200, &json!(1)));
        }
        // Longer than another connection may rest.
        thread::sleep(std::time::Duration::from_millis(400));
    }
    let short = open_daemon(&["--stalled-seconds", "0.3", "--handshake-seconds", "60"]);
    let mut feed = HttpFeed::connect(short.address);
    assert_eq!(feed.post(LINES, &of_job(1)).0, 200);
    assert_eq!(feed.raw.fill(), 0, "it does not rest for ever");
}

#[test]
fn of_a_body_that_breaks_off_whole_lines_are_taken() {
    let daemon = open_daemon(&[]);
    let mut watcher = daemon.watch(EVENTS);
    let cut = &of_job(99)[..20];
    for more in ["Content-Length: 1000\r\n", "Transfer-Encoding: chunked\r\n"] {
        let mut feed = HttpFeed::connect(daemon.address);
        let body = format!("{}\n{cut}", of_job(1));
        let body = if more.starts_with('T') { format!("{:x}\r\n{body}\r\n", body.len()) } else { body };
        let head = feed.head(LINES, more);
        feed.raw.send([head, body].concat().as_bytes());
        assert!(watcher.event().contains("\"n\":1"), "a line is taken as soon as it is there");
        drop(feed);
    }
    let is_both = |line: &str| line.contains("\"truncated\"") && line.ends_with(" 2");
    wait_until("both are counted", || daemon.admin_get("/metrics").1.lines().any(is_both));
    daemon.acked_feed().publish([&*of_job(2)]);
    assert!(watcher.event().contains("\"n\":2"), "nothing of the cut lines is there");
}

#[test]
fn bodies_that_lie_are_refused_and_the_connection_ends() {
    let daemon = open_daemon(&[]);
    let mut watcher = daemon.watch(EVENTS);
    let hidden = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let chunked = "Transfer-Encoding: chunked\r\n";
    for (more, body) in [
        ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
        ("Content-Length: 5\r\nContent-Length: 5\r\n", "12345"),
        ("Content-Length: 5, 5\r\n", "12345"),
        ("Content-Length: +5\r\n", "12345"),
        ("Content-Length: 0x5\r\n", "12345"),
        ("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"),
        ("Transfer-Encoding: identity\r\n", ""),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
        (chunked, "zz\r\n"),
        (chunked, "-1\r\n"),
        (chunked, "1\r\nab\r\n0\r\n\r\n"),
        (chunked, "1\na\n0\n\n"),
        (chunked, "ffffffffffffffff1\r\n"),
        (chunked, "0\r\nX: y\n\r\n"),
        (chunked, "0\r\nGET /healthz HTTP/1.1\r\n\r\n"),
    ] {
        let mut feed = HttpFeed::connect(daemon.address);
        let head = feed.head(LINES, more);
        feed.raw.send(format!("{head}{body}{hidden}").as_bytes());
        let (status, answer) = feed.answer();
        assert_eq!((status, &answer["error"]), (400, &json!("bad_request")), "{more}{body:?}");
        // What the head says is judged before anything is taken.
        assert_eq!(answer.get("accepted"), (more == chunked).then_some(&json!(0)), "{more}{body:?}");
        feed.raw.read_to_end();
        assert!(feed.raw.buffer.is_empty(), "nothing is smuggled in: {more}{body:?}");
    }
    daemon.acked_feed().publish([&*of_job(1)]);
    assert!(watcher.event().contains("\"n\":1"));
}

#[test]
fn a_silent_body_ends_in_time_and_an_ending_daemon_answers() {
    let mut daemon = open_daemon(&["--stalled-seconds", "0.3"]);
    let fields = "Luxcast-Publisher: nightly\r\nUser-Agent: curl/8\r\n";
    let mut feed = HttpFeed::with(daemon.address, fields);
    let head = feed.head(LINES, "Content-Length: 1000\r\n");
    feed.raw.send(format!("{head}{}\nnope\n{}", of_job(1), &of_job(2)[..20]).as_bytes());
    let (status, answer) = feed.answer();
    assert_eq!((status, &answer["error"]), (408, &json!("timeout")));
    assert_eq!((&answer["accepted"], &answer["accepted_line"]), (&json!(1), &json!(1)), "{answer}");
    assert_eq!(refused(&answer), [(2, "bad_json"), (3, "truncated")]);
    let mut watcher = daemon.watch(&format!("{EVENTS}?since=start"));
    assert!(watcher.event().starts_with(&format!("{{\"stream_seq\":{},", answer["stream_seq"])));
    daemon.wait_for_log("(asked: POST /api/v1/events by \"curl/8\" as nightly)");
    drop(daemon);
    daemon = open_daemon(&[]);
    let mut watcher = daemon.watch(EVENTS);
    let mut open = HttpFeed::connect(daemon.address);
    let head = open.head(LINES, "Transfer-Encoding: chunked\r\n");
    let line = of_job(1);
    open.raw.send(format!("{head}{:x}\r\n{line}\n\r\n", line.len() + 1).as_bytes());
    assert!(watcher.event().contains("\"n\":1"));
    daemon.terminate();
    let (status, answer) = open.answer();
    assert_eq!((status, &answer["error"]), (503, &json!("draining")));
    assert!(answer["message"].as_str().is_some_and(|text| text.contains("accepted 1 lines")), "{answer}");
    assert_eq!((&answer["accepted"], &answer["refused"]), (&json!(1), &json!([])), "{answer}");
    assert_eq!(daemon.wait().code(), Some(0));
}

/// Each posts the corpus in all forms and every batch twice, checks the answers, and compares what comes back.
#[test]
fn clients_of_others_publish_the_corpus_once_and_read_it_back() {
    let daemon = open_daemon(&[]);
    let corpus_file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/events.ndjson");
    let url = format!("http://{}", daemon.address);
    let python = |library: &str| {
        let program = python_running("python_poster.py");
        let mut command = Command::new(&program[0]);
        command.args([&*program[1], library]);
        command
    };
    let mut node = Command::new("node");
    node.arg(script("node_poster.mjs"));
    let mut in_go = go();
    in_go.arg("run").arg(script("go_poster.go"));
    for mut command in [python("requests"), python("httpx"), node, in_go] {
        command.args([&*url, corpus_file]);
        let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let said = String::from_utf8_lossy(&output.stdout);
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert_eq!(said, format!("posted {}\n", corpus().len()), "{command:?}: {complaint}");
        assert_eq!((output.status.success(), &*complaint), (true, ""), "{command:?}");
    }
}

#[test]
fn a_body_larger_than_what_may_wait_is_taken_as_it_comes() {
    let daemon = open_daemon(&["--history-bytes", "4000000", "--line-bytes-max", "400000"]);
    let lines: Vec<String> = corpus().into_iter().map(|line| line.text).collect();
    let body = lines.join("\n");
    let before = daemon.memory_bytes("VmHWM");
    let senders: Vec<_> = (0..4)
        .map(|_| {
            let (address, body, count) = (daemon.address, body.clone(), lines.len());
            thread::spawn(move || {
                for _ in 0..5 {
                    let (status, answer) = HttpFeed::connect(address).post(LINES, &body);
                    assert_eq!((status, &answer["accepted"]), (200, &json!(count)));
                }
            })
        })
        .collect();
    senders.into_iter().for_each(|sender| sender.join().expect("all is taken"));
    let grown = daemon.memory_bytes("VmHWM").saturating_sub(before);
    assert!(grown < 16 << 20, "{grown} bytes for {} of bodies", 20 * body.len());
}

#[test]
fn a_body_waits_while_the_feed_waits_and_then_goes_on() {
    let daemon =
        open_daemon(&["--history-bytes", "1000000", "--line-bytes-max", "100000", "--overrun", "wait"]);
    let mut slow = Raw::connect(daemon.address);
    slow.upgrade(EVENTS);
    let line = format!("{{\"type\":\"t\",\"job_id\":\"j\",\"pad\":\"{}\"}}\n", "x".repeat(3_000));
    let sender = {
        let (address, body) = (daemon.address, line.repeat(5_000));
        thread::spawn(move || HttpFeed::connect(address).post(LINES, &body))
    };
    wait_until("the feed waits", || crate::overrun::waits(&daemon) > 0);
    for _ in 0..5_000 {
        let frame = slow.read_frame_of(1);
        assert!(frame.payload.len() > 3_000 || frame.payload.starts_with(b"{\"type\":\"connection"));
    }
    let (status, answer) = sender.join().expect("it is answered");
    assert_eq!((status, &answer["accepted"]), (200, &json!(5_000)));
}
