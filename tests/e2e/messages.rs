//! Section 3: what clients may send, and how connections live and end.

use std::net::Shutdown;
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::SendFlags;
use serde_json::json;
use tungstenite::Message;
use tungstenite::protocol::CloseFrame;
use tungstenite::protocol::frame::coding::CloseCode;

use crate::harness::client::{Frame, Raw, masked_frame};
use crate::harness::oracle::{Names, Section, check_sections, read_stream};
use crate::harness::{Client, Daemon, Feed, seq_of};

/// A daemon, a publisher and one watcher of job `j`, greeted.
struct Stage {
    daemon: Daemon,
    feed: Feed,
    watcher: Client,
}

impl Stage {
    fn new(flags: &[&str], path: &str) -> Self {
        let daemon = Daemon::start(flags);
        let feed = daemon.acked_feed();
        let mut watcher = daemon.watch(path);
        watcher.connected();
        Self { daemon, feed, watcher }
    }

    fn on_job() -> Self {
        Self::new(&[], "/api/ws/jobs/j/monitor")
    }

    /// Publishes an event of each type (`type/inner` with an inner type), and reads as many events as `expected`,
    /// which must match. Extra events show in the next call.
    fn check(&mut self, published: &[&str], expected: &[&str]) {
        let lines: Vec<String> = published
            .iter()
            .map(|name| match name.split_once('/') {
                None => format!(r#"{{"type":"{name}","job_id":"j"}}"#),
                Some((kind, inner)) => {
                    format!(r#"{{"type":"{kind}","job_id":"j","event":{{"event_type":"{inner}"}}}}"#)
                }
            })
            .collect();
        self.feed.publish(lines.iter().map(String::as_str));
        let received: Vec<String> = expected.iter().map(|_| name(&self.watcher.event())).collect();
        assert_eq!(received, expected, "of {published:?}");
    }

    /// Sends a filter message that must be confirmed with just this text.
    fn confirm(&mut self, message: &str, action: &str, events: &str) {
        self.watcher.send(message);
        let confirmation =
            format!("{{\"type\":\"subscription:confirmed\",\"action\":\"{action}\",\"events\":{events}}}");
        assert_eq!(self.watcher.text(), confirmation);
    }
}

fn name(event: &str) -> String {
    let event: serde_json::Value = serde_json::from_str(event).expect("JSON");
    let kind = event["type"].as_str().expect("a type");
    match event["event"]["event_type"].as_str() {
        Some(inner) => format!("{kind}/{inner}"),
        None => kind.to_owned(),
    }
}

#[test]
fn the_first_subscribe_narrows_and_later_ones_add() {
    let mut stage = Stage::on_job();
    stage.check(&["a", "b", "c"], &["a", "b", "c"]);
    stage.confirm(r#"{"action":"subscribe","events":["a"]}"#, "subscribe", r#"["a"]"#);
    stage.check(&["a", "b", "c", "a"], &["a", "a"]);
    stage.confirm(r#"{"action":"subscribe","events":["b","b"]}"#, "subscribe", r#"["b","b"]"#);
    stage.check(&["c", "b", "a"], &["b", "a"]);
    stage.confirm(r#"{"action":"unsubscribe","events":["a"]}"#, "unsubscribe", r#"["a"]"#);
    stage.check(&["a", "b", "c"], &["b"]);
    stage.confirm(r#"{"action":"unsubscribe","events":["b"]}"#, "unsubscribe", r#"["b"]"#);
    stage.check(&["a", "b", "c"], &[]);
    stage.confirm(r#"{"action":"subscribe_all"}"#, "subscribe_all", "[]");
    stage.check(&["c", "b", "a"], &["c", "b", "a"]);
}

#[test]
fn unsubscribe_from_all_leaves_all_but_these() {
    let mut stage = Stage::on_job();
    stage.confirm(r#"{"action":"unsubscribe","events":["a","b"]}"#, "unsubscribe", r#"["a","b"]"#);
    stage.check(&["a", "b", "c"], &["c"]);
    stage.confirm(r#"{"action":"unsubscribe"}"#, "unsubscribe", "[]");
    stage.check(&["a", "b", "c"], &["c"]);
    stage.confirm(r#"{"action":"unsubscribe","events":["c"]}"#, "unsubscribe", r#"["c"]"#);
    stage.check(&["a", "b", "c", "d"], &["d"]);
    stage.confirm(r#"{"action":"subscribe","events":["a"]}"#, "subscribe", r#"["a"]"#);
    stage.check(&["a", "b", "c", "d"], &["a"]);
}

#[test]
fn an_empty_list_at_first_means_nothing() {
    let mut stage = Stage::on_job();
    stage.confirm(r#"{"action":"subscribe","events":[]}"#, "subscribe", "[]");
    stage.check(&["a", "job_started", "metrics"], &[]);
    stage.confirm(r#"{"action":"subscribe","events":["a"]}"#, "subscribe", r#"["a"]"#);
    stage.confirm(r#"{"action":"subscribe","events":[]}"#, "subscribe", "[]");
    stage.check(&["b", "a"], &["a"]);
}

#[test]
fn inner_types_are_names_too() {
    let mut stage = Stage::on_job();
    let all = [
        "execution_event/slot_call",
        "execution_event/event_emit",
        "execution_event/error",
        "execution_event",
    ];
    stage.confirm(r#"{"action":"subscribe","events":["slot_call"]}"#, "subscribe", r#"["slot_call"]"#);
    stage.check(&all, &all[..1]);
    stage.confirm(r#"{"action":"subscribe","events":["error"]}"#, "subscribe", r#"["error"]"#);
    stage.check(&all, &[all[0], all[2]]);
    stage.confirm(r#"{"action":"subscribe_all"}"#, "subscribe_all", "[]");
    stage.confirm(r#"{"action":"unsubscribe","events":["event_emit"]}"#, "unsubscribe", r#"["event_emit"]"#);
    stage.check(&all, &[all[0], all[2], all[3]]);
    stage.confirm(
        r#"{"action":"subscribe","events":["execution_event"]}"#,
        "subscribe",
        r#"["execution_event"]"#,
    );
    stage.check(&all, &all);
}

#[test]
fn a_name_works_from_the_moment_its_event_appears_however_many_types_there_are() {
    let mut stage = Stage::on_job();
    let wanted = r#"["type_3","type_199","never \u00fc"]"#;
    let message = format!(r#"{{"action":"subscribe","events":{wanted}}}"#);
    let echo = stage.watcher.ask(&message);
    assert_eq!(echo["events"], json!(["type_3", "type_199", "never ü"]));
    let types: Vec<String> = (0..250).map(|number| format!("type_{number}")).collect();
    let types: Vec<&str> = types.iter().map(String::as_str).collect();
    stage.check(&types, &["type_3", "type_199"]);
    stage.confirm(r#"{"action":"subscribe_all"}"#, "subscribe_all", "[]");
    stage.confirm(r#"{"action":"unsubscribe","events":["type_240"]}"#, "unsubscribe", r#"["type_240"]"#);
    stage.check(&["type_240", "type_241", "type_3"], &["type_241", "type_3"]);
}

#[test]
fn on_debug_all_is_the_debug_set() {
    let mut stage = Stage::new(&[], "/api/ws/jobs/j/debug");
    let set = ["job_x", "routine_failed", "execution_event/other", "breakpoint_resumed"];
    stage.check(&[set[0], "metrics", "made_up", set[1], "slot_called", set[2], set[3]], &set);
    stage.confirm(
        r#"{"action":"subscribe","events":["made_up","job_x"]}"#,
        "subscribe",
        r#"["made_up","job_x"]"#,
    );
    stage.check(&["made_up", "job_x", "routine_failed"], &["job_x"]);
    stage.confirm(r#"{"action":"subscribe_all"}"#, "subscribe_all", "[]");
    stage.check(&["metrics", "made_up", "job_x"], &["job_x"]);
}

#[test]
fn names_of_control_messages_are_echoed_and_hide_nothing() {
    let mut stage = Stage::on_job();
    let names = r#"["ping","pong","connection:status","stream:gap","subscription:confirmed"]"#;
    stage.confirm(&format!(r#"{{"action":"unsubscribe","events":{names}}}"#), "unsubscribe", names);
    assert_eq!(stage.watcher.ask(r#"{"action":"ping"}"#), json!({"type": "pong"}));
    stage.check(&["a"], &["a"]);
}

#[test]
fn a_message_that_cannot_be_obeyed_is_answered_with_its_code_and_changes_nothing() {
    let mut stage = Stage::on_job();
    let names: Vec<String> = (0..129).map(|number| format!("\"n{number}\"")).collect();
    let too_many = format!(r#"{{"action":"subscribe","events":[{}]}}"#, names.join(","));
    let too_long = format!(r#"{{"action":"subscribe","events":["{}"]}}"#, "x".repeat(65));
    let table = [
        ("", "bad_json"),
        ("{", "bad_json"),
        ("ping", "bad_json"),
        ("[]", "not_an_object"),
        ("\"ping\"", "not_an_object"),
        ("{}", "unknown_action"),
        (r#"{"action":"dance"}"#, "unknown_action"),
        (r#"{"action":1}"#, "unknown_action"),
        (r#"{"type":"subscribe","job_id":"j"}"#, "unknown_action"),
        (r#"{"action":"subscribe"}"#, "bad_events"),
        (r#"{"action":"subscribe","events":null}"#, "bad_events"),
        (r#"{"action":"subscribe","events":"a"}"#, "bad_events"),
        (r#"{"action":"unsubscribe","events":["a",1]}"#, "bad_events"),
        (too_long.as_str(), "bad_events"),
        (too_many.as_str(), "too_many_names"),
    ];
    for (message, code) in table {
        let answer = stage.watcher.ask(message);
        assert_eq!((&answer["type"], &answer["code"]), (&json!("error"), &json!(code)), "{message}");
        assert!(answer["message"].as_str().is_some_and(|text| !text.is_empty()), "{answer}");
    }
    // The series of bad messages ends here; one more would have been the last.
    assert_eq!(stage.watcher.ask(r#"{"type":"ping"}"#), json!({"type": "pong"}));
    stage.watcher.socket.send(Message::binary(vec![1, 2, 3])).unwrap();
    assert_eq!(stage.watcher.json()["code"], "binary");
    stage.check(&["a", "n1"], &["a", "n1"]);
}

#[test]
fn a_filter_has_at_most_128_names() {
    let mut stage = Stage::on_job();
    let list = |range: std::ops::Range<u32>| {
        let names: Vec<String> = range.map(|number| format!("\"n{number}\"")).collect();
        format!(r#"{{"action":"subscribe","events":[{}]}}"#, names.join(","))
    };
    assert_eq!(stage.watcher.ask(&list(0..100))["type"], "subscription:confirmed");
    assert_eq!(stage.watcher.ask(&list(90..128))["type"], "subscription:confirmed");
    assert_eq!(stage.watcher.ask(&list(127..129))["code"], "too_many_names");
    stage.check(&["n128", "n127"], &["n127"]);
}

#[test]
fn sixteen_bad_messages_in_a_row_end_the_connection() {
    let mut stage = Stage::on_job();
    for obeyed in [r#"{"type":"pong"}"#, r#"{"action":"unsubscribe"}"#] {
        for _ in 0..15 {
            assert_eq!(stage.watcher.ask("nonsense")["code"], "bad_json");
        }
        stage.watcher.send(obeyed);
    }
    stage.watcher.json_of("subscription:confirmed");
    (0..16).for_each(|_| stage.watcher.send("nonsense"));
    let (texts, close) = stage.watcher.until_close();
    assert_eq!(texts.len(), 16);
    let close = close.expect("a close frame");
    assert_eq!(u16::from(close.code), 1008);
    assert!(!close.reason.is_empty());
}

#[test]
fn a_message_over_the_limit_closes_with_1009_and_one_at_it_is_obeyed() {
    let mut stage = Stage::on_job();
    let message = |length: usize| {
        let shell = r#"{"action":"ping","pad":""}"#;
        shell.replace("\"\"", &format!("\"{}\"", "x".repeat(length - shell.len())))
    };
    assert_eq!(stage.watcher.ask(&message(65_536)), json!({"type": "pong"}));
    stage.watcher.send(&message(65_537));
    assert_eq!(stage.watcher.close_code(), 1009);
    let mut stage = Stage::new(&["--message-bytes-max", "200"], "/api/ws/events");
    stage.watcher.send(&message(201));
    assert_eq!(stage.watcher.close_code(), 1009);
}

#[test]
fn a_flood_of_messages_closes_with_1008() {
    let mut stage = Stage::on_job();
    // A burst is fine.
    for _ in 0..150 {
        stage.watcher.send(r#"{"action":"ping"}"#);
    }
    for _ in 0..150 {
        assert_eq!(stage.watcher.json(), json!({"type": "pong"}));
    }
    let mut raw = stage.daemon.raw();
    raw.upgrade("/api/ws/events");
    let flood: Vec<u8> = (0..5_000).flat_map(|_| masked_frame(0x1, true, br#"{"action":"ping"}"#)).collect();
    raw.send(&flood);
    assert_eq!(raw.read_close(), Some(1008));
}

#[test]
fn pings_of_both_kinds_are_answered() {
    let stage = Stage::on_job();
    let mut raw = stage.daemon.raw();
    raw.upgrade("/api/ws/events");
    raw.read_frame_of(0x1);
    raw.send(&masked_frame(0x9, true, b"payload"));
    assert_eq!(raw.read_frame(), Some(Frame { opcode: 0xa, payload: b"payload".to_vec() }));
    for ping in [r#"{"type":"ping"}"#, r#"{"action":"ping"}"#] {
        raw.send(&masked_frame(0x1, true, ping.as_bytes()));
        assert_eq!(raw.read_frame(), Some(Frame { opcode: 0x1, payload: br#"{"type":"pong"}"#.to_vec() }));
    }
    // A pong of either form has no answer: the next answer belongs to the ping after them.
    raw.send(&masked_frame(0x1, true, br#"{"type":"pong"}"#));
    raw.send(&masked_frame(0x1, true, br#"{"action":"pong"}"#));
    raw.send(&masked_frame(0xa, true, b"unasked"));
    raw.send(&masked_frame(0x9, true, b""));
    assert_eq!(raw.read_frame(), Some(Frame { opcode: 0xa, payload: Vec::new() }));
}

#[test]
fn a_message_may_come_in_fragments_with_pings_between_them() {
    let stage = Stage::on_job();
    let mut raw = stage.daemon.raw();
    raw.upgrade("/api/ws/events");
    raw.read_frame_of(0x1);
    raw.send(&masked_frame(0x1, false, br#"{"acti"#));
    raw.send(&masked_frame(0x9, true, b"between"));
    raw.send(&masked_frame(0x0, false, br#"on":"pi"#));
    raw.send(&masked_frame(0x0, true, br#"ng"}"#));
    // Either may be answered first: of several protocol pings only the newest needs an answer (RFC 6455, 5.5.3).
    let mut answers = [raw.read_frame(), raw.read_frame()].map(|frame| frame.expect("an answer"));
    answers.sort_by_key(|frame| frame.opcode);
    assert_eq!(answers[0], Frame { opcode: 0x1, payload: br#"{"type":"pong"}"#.to_vec() });
    assert_eq!(answers[1], Frame { opcode: 0xa, payload: b"between".to_vec() });
}

#[test]
fn what_follows_urgent_data_is_read() {
    let stage = Stage::on_job();
    let mut raw = stage.daemon.raw();
    raw.upgrade("/api/ws/events");
    raw.read_frame_of(0x1);
    let text = masked_frame(0x1, true, br#"{"action":"ping"}"#);
    for round in 0_u8..50 {
        // A read stops before an urgent byte, which is not part of the stream, even if more has come (tcp(7)).
        raw.send(&text);
        rustix::net::send(&raw.stream, b"!", SendFlags::OOB).unwrap();
        raw.send(&masked_frame(0x9, true, &[round]));
        assert_eq!(raw.read_frame_of(0xa).payload, [round]);
    }
}

#[test]
fn the_end_is_noticed_whatever_comes_before_it() {
    let stage = Stage::on_job();
    let request = Raw::upgrade_request("/api/ws/events").into_bytes();
    let frame = masked_frame(0x9, true, b"x");
    for round in 0..50 {
        for (is_open, bytes) in [(true, &frame[..]), (false, &request[..]), (false, &request[..40])] {
            let mut raw = stage.daemon.raw();
            if is_open {
                raw.upgrade("/api/ws/events");
                raw.read_frame_of(0x1);
            }
            if round % 2 == 0 {
                // In one segment with the bytes.
                rustix::net::send(&raw.stream, bytes, SendFlags::MORE).unwrap();
            } else {
                raw.send(bytes);
                thread::sleep(Duration::from_micros(round * 10));
            }
            raw.stream.shutdown(Shutdown::Write).unwrap();
            while raw.fill() > 0 {}
        }
    }
    stage.daemon.wait_for_connections(1);
}

#[test]
fn the_clients_own_close_code_comes_back() {
    let stage = Stage::on_job();
    for code in [1000, 1001, 1011, 1014, 3000, 4999] {
        let mut watcher = stage.daemon.watch("/api/ws/events");
        let frame = CloseFrame { code: CloseCode::from(code), reason: "bye".into() };
        watcher.socket.close(Some(frame)).unwrap();
        assert_eq!(watcher.close_code(), code);
    }
    let mut raw = stage.daemon.raw();
    raw.upgrade("/api/ws/events");
    raw.send(&masked_frame(0x8, true, b""));
    assert_eq!(raw.read_close(), None);
    stage.daemon.wait_for_connections(1);
}

#[test]
fn a_heartbeat_has_the_position_and_a_protocol_ping_beside_it() {
    let daemon = Daemon::start(&["--heartbeat-seconds", "0.3"]);
    let mut feed = daemon.acked_feed();
    let newest = feed.publish([r#"{"type":"x","job_id":"elsewhere"}"#]);
    for path in ["/api/ws/jobs/j/monitor", "/api/ws/events?events=y"] {
        let mut raw = daemon.raw();
        raw.upgrade(path);
        raw.read_frame_of(0x1);
        let text = String::from_utf8(raw.read_frame_of(0x1).payload).unwrap();
        let (start, end) = text.split_once("\"timestamp\":\"").expect("a timestamp");
        assert_eq!(start, r#"{"type":"ping","#);
        assert_eq!(&end[24..], format!("\",\"stream_seq\":{newest}}}"));
        assert_eq!(raw.read_frame().map(|frame| frame.opcode), Some(0x9));
    }
    let mut many = daemon.watch("/api/v1/websocket");
    many.json_of("ping");
    assert_eq!(many.json(), json!({"type": "pong"}));
}

#[test]
fn heartbeats_keep_their_interval() {
    let daemon = Daemon::start(&["--heartbeat-seconds", "0.5"]);
    let began = Instant::now();
    let mut watcher = daemon.watch("/api/ws/events");
    (0..5).for_each(|_| drop(watcher.json_of("ping")));
    let elapsed = began.elapsed();
    println!("five heartbeats, one each half second: {elapsed:.2?}");
    // Late ones may come at once, early ones never.
    assert!(elapsed > Duration::from_millis(1_900), "{elapsed:?}");
}

#[test]
fn a_silent_peer_is_ended_with_1011_and_one_that_answers_pings_is_not() {
    let daemon = Daemon::start(&["--heartbeat-seconds", "0.3"]);
    let mut answering = daemon.watch("/api/ws/events");
    let mut silent = daemon.raw();
    silent.upgrade("/api/ws/events");
    let mut pings = 0;
    // The client library answers protocol pings while it reads.
    let mut close = None;
    silent.stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    while close.is_none() {
        answering.json_of("ping");
        pings += 1;
        assert!(pings < 100, "the silent peer is still there");
        let rows = daemon.connections();
        if rows.iter().filter(|row| row["phase"] == "open").count() == 1 {
            close = silent.read_close();
        }
    }
    assert_eq!(close, Some(1011));
    (0..5).for_each(|_| drop(answering.json_of("ping")));
    assert_eq!(answering.ask(r#"{"action":"ping"}"#), json!({"type": "pong"}));
}

#[test]
fn a_confirmed_filter_holds_between_two_events_also_at_full_speed() {
    const EVENTS: u64 = 40_000;
    const CHANGES: usize = 60;
    let Stage { daemon, mut feed, mut watcher } = Stage::new(&[], "/api/ws/jobs/j/monitor?events=a");
    let mut all = daemon.watch("/api/ws/events");
    let before = all.connected();
    let publisher = thread::spawn(move || {
        for start in (0..EVENTS).step_by(200) {
            let lines: Vec<String> = (start..start + 200)
                .map(|number| {
                    let kind = if number % 3 == 0 { "a" } else { "b" };
                    format!(r#"{{"type":"{kind}","job_id":"j","n":{number}}}"#)
                })
                .collect();
            feed.publish(lines.iter().map(String::as_str));
        }
        feed.publish([r#"{"type":"end","job_id":"j"}"#]);
    });
    let reader = thread::spawn(move || all.events_until("\"end\""));
    // Only a, a and b, only b, b and a, only a, …: each confirmation starts the next section.
    let filters = [vec!["a"], vec!["a", "b"], vec!["b"], vec!["a", "b"]];
    let mut received: Vec<Vec<String>> = vec![Vec::new()];
    loop {
        let text = watcher.text();
        let section = received.len() - 1;
        if text.contains("\"end\"") && seq_of(&text).is_some() {
            break;
        }
        if seq_of(&text).is_none() {
            assert!(text.starts_with("{\"type\":\"subscription:confirmed\""), "{text}");
            received.push(Vec::new());
            continue;
        }
        received[section].push(text);
        if section.is_multiple_of(2) && section < CHANGES && received[section].len() == 150 {
            let (wanted, unwanted) = if section.is_multiple_of(4) { ("b", "a") } else { ("a", "b") };
            watcher.send(&format!(r#"{{"action":"subscribe","events":["{wanted}","end"]}}"#));
            watcher.send(&format!(r#"{{"action":"unsubscribe","events":["{unwanted}"]}}"#));
        }
    }
    publisher.join().unwrap();
    let stream = read_stream(&reader.join().unwrap());
    assert!(received.len() > 4, "the filter changed {} times only", received.len() - 1);
    let sections: Vec<Section<'_>> = received
        .into_iter()
        .enumerate()
        .map(|(index, received)| {
            let names = Names::only(&filters[index % 4]);
            Section { received, wants: Box::new(move |event| names.want(event)) }
        })
        .collect();
    check_sections(&stream, before, &sections).unwrap();
}

/// A client library has its own limit, and would meet the same message again: only the log can say why.
#[test]
fn a_client_that_finds_a_message_too_big_is_logged_with_its_size() {
    let small = r#"{"type":"x","job_id":"j"}"#;
    let huge = format!(r#"{{"type":"big","job_id":"j","data":"{}"}}"#, "x".repeat(600_000));
    let slot_call = format!(
        r#"{{"type":"execution_event","job_id":"j","event":{{"event_type":"slot_call","data":{{"v":"{}"}}}}}}"#,
        "x".repeat(600_000)
    );
    for (path, line, is_sent) in [
        ("/api/ws/jobs/j/monitor", &huge, true),
        ("/api/ws/events", &huge, true),
        ("/api/ws/jobs/j/monitor?events=x", &huge, false),
        ("/api/v1/websocket", &slot_call, true),
    ] {
        let daemon = Daemon::start(&[]);
        let mut raw = daemon.raw();
        raw.upgrade(path);
        raw.read_frame_of(0x1);
        if path == "/api/v1/websocket" {
            raw.send(&masked_frame(0x1, true, br#"{"type":"subscribe","job_id":"j"}"#));
            raw.read_frame_of(0x1);
        }
        let mut feed = daemon.acked_feed();
        feed.publish([small, line, small]);
        let mut largest = 0;
        for _ in 0..if is_sent { 3 } else { 2 } {
            largest = largest.max(raw.read_frame_of(0x1).payload.len());
        }
        raw.send(&masked_frame(0x8, true, &1009_u16.to_be_bytes()));
        assert_eq!(raw.read_close(), Some(1009));
        daemon.wait_for_log("code=1009");
        daemon.wait_for_log(&format!("has {largest} bytes"));
        assert!(!is_sent || largest > 600_000, "{path}");
    }
    // Other ends are not logged.
    let daemon = Daemon::start(&[]);
    let mut raw = daemon.raw();
    raw.upgrade("/api/ws/events");
    raw.send(&masked_frame(0x8, true, &1000_u16.to_be_bytes()));
    assert_eq!(raw.read_close(), Some(1000));
    daemon.wait_for_connections(0);
    assert!(!daemon.stderr().contains("too big"), "{}", daemon.stderr());
}
