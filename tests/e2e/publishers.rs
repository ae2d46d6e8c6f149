//! Section 8: publishers, from hello to the last ack.

use std::collections::BTreeMap;
use std::net::Shutdown;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Daemon, Feed, numbered, seq_of, wait_until};

#[test]
fn hello_is_welcomed_and_lines_are_acknowledged() {
    let daemon = Daemon::start(&[]);
    let newest = daemon.watch("/api/ws/events").connected();
    let mut feed = daemon.feed();
    feed.line(r#"{"op":"hello","publisher":"p","ack":true}"#);
    assert_eq!(feed.answer(), json!({"op": "welcome", "stream_seq": newest}));
    feed.lines([r#"{"type":"x","job_id":"j"}"#; 3]);
    let mut last = Value::Null;
    while last["line"] != 4 {
        let ack = feed.answer();
        assert_eq!(ack["op"], "ack", "{ack}");
        assert!(ack["line"].as_u64() > last["line"].as_u64(), "{ack} after {last}");
        last = ack;
    }
    assert_eq!(last, json!({"op": "ack", "line": 4, "stream_seq": newest + 3, "refused": 0}));
    // An ack passes refused and empty lines too.
    feed.lines(["nonsense", "", "  "]);
    assert_eq!(feed.sync().len(), 1);
    // Without ack in hello there is none.
    let mut quiet = daemon.feed();
    quiet.line(r#"{"op":"hello","publisher":"q"}"#);
    assert_eq!(quiet.answer()["op"], "welcome");
    quiet.lines([r#"{"type":"x","job_id":"j"}"#, "nonsense"]);
    let answer = quiet.answer();
    assert_eq!(
        (&answer["op"], &answer["line"], &answer["code"]),
        (&json!("error"), &json!(3), &json!("bad_json"))
    );
}

#[test]
fn an_ack_counts_refused_lines_even_without_an_answer_for_them() {
    let daemon = Daemon::start(&[]);
    let mut feed = daemon.acked_feed();
    // More than are answered one by one.
    feed.lines([r#"{"type":"x","job_id":"etl/7"}"#; 1_000]);
    let named = feed.sync().len();
    assert!((64..=1_000).contains(&named), "{named}");
    assert_eq!(feed.refused, 1_000);
    feed.lines([r#"{"type":"x","job_id":"j"}"#, "", "nonsense", r#"{"op":"dance"}"#]);
    assert_eq!((feed.sync().len(), feed.refused), (2, 1_002));
    // Of this connection, not of the daemon.
    let mut other = daemon.acked_feed();
    other.publish([r#"{"type":"x","job_id":"j"}"#]);
    assert_eq!(other.refused, 0);
    let (_, metrics) = daemon.admin_get("/metrics");
    let line = metrics.lines().find(|line| line.starts_with("luxcast_publisher_answers_dropped_total"));
    assert_eq!(line, Some(format!("luxcast_publisher_answers_dropped_total {}", 1_000 - named).as_str()));
}

#[test]
fn bad_lines_are_refused_alone_with_their_number_and_reason() {
    let daemon = Daemon::start(&[]);
    let mut watcher = daemon.watch("/api/ws/events");
    let before = watcher.connected();
    let mut feed = daemon.feed();
    let deep = format!(r#"{{"type":"x","job_id":"j","deep":{}1{}}}"#, "[".repeat(64), "]".repeat(64));
    let long = format!(r#"{{"type":"x","job_id":"j","long":"{}"}}"#, "x".repeat(1_000_000));
    let table = [
        ("nonsense", "bad_json"),
        (r#"{"type":"x","job_id":"j"} {}"#, "bad_json"),
        (r#"{"type":"x","job_id":"j","lone":"\ud800"}"#, "bad_json"),
        (deep.as_str(), "too_deep"),
        ("[1]", "not_an_object"),
        (r#"{"job_id":"j"}"#, "no_type"),
        (r#"{"type":"a b","job_id":"j"}"#, "bad_type"),
        (r#"{"type":7,"job_id":"j"}"#, "bad_type"),
        (r#"{"type":"x"}"#, "no_id"),
        (r#"{"type":"x","job_id":null}"#, "no_id"),
        (r#"{"type":"x","job_id":"a b"}"#, "bad_id"),
        (r#"{"type":"x","flow_id":7}"#, "bad_id"),
        (r#"{"type":"x","job_id":"j","\u006aob_id":"k"}"#, "duplicate_key"),
        (r#"{"type":"x","job_id":"j","stream_seq":1}"#, "reserved"),
        (r#"{"type":"stream:gap","job_id":"j"}"#, "reserved"),
        (long.as_str(), "too_long"),
        (r#"{"op":"dance"}"#, "bad_op"),
        (r#"{"op":"from","line":1}"#, "bad_op"),
    ];
    for (index, (bad, code)) in table.iter().enumerate() {
        let good = format!(r#"{{"type":"good","job_id":"j","n":{index}}}"#);
        feed.lines([good.as_str(), bad]);
        let answer = feed.answer();
        assert_eq!(
            (&answer["op"], &answer["line"], &answer["code"]),
            (&json!("error"), &json!(2 * index + 2), &json!(code)),
            "{}",
            &bad[..bad.len().min(80)]
        );
        assert!(answer["message"].as_str().is_some_and(|text| !text.is_empty()), "{answer}");
        assert_eq!(watcher.event(), numbered(&good, before + 1 + index as u64));
    }
    feed.bytes(b"{\"type\":\"x\",\"job_id\":\"j\",\"bad\":\"\xff\"}\n");
    assert_eq!(feed.answer()["code"], "bad_utf8");
    // A line cut off by the end is discarded.
    feed.bytes(br#"{"type":"x","job_id":"j","cut":"#);
    drop(feed);
    let mut next = daemon.acked_feed();
    let last = next.publish([r#"{"type":"end","job_id":"j"}"#]);
    assert_eq!(seq_of(&watcher.event()), Some(last));
    assert_eq!(last, before + 1 + table.len() as u64);
    daemon.wait_for_log("refused");
}

#[test]
fn events_are_sent_byte_for_byte_except_surrounding_blanks() {
    let daemon = Daemon::start(&[]);
    let mut watcher = daemon.watch("/api/ws/jobs/j/monitor");
    let before = watcher.connected();
    let mut feed = daemon.feed();
    let odd = r#"{ "type" : "x" , "job_id":"\u006a", "n":[1e400,-0,123456789012345678901234567890,0.10], "t":"ü\u0000\/", "op":"x" }"#;
    let longest = format!(r#"{{"type":"x","job_id":"j","long":"{}"}}"#, "é".repeat(499_981));
    assert!((999_990..=1_000_000).contains(&longest.len()), "{}", longest.len());
    feed.bytes(format!("\r\n \t{odd}\t \r\n{longest}\r\n{odd}\n").as_bytes());
    for (index, line) in [odd, longest.as_str(), odd].iter().enumerate() {
        assert!(watcher.event() == numbered(line, before + 1 + index as u64), "line {index}");
    }
}

#[test]
fn each_publisher_keeps_its_order_whatever_the_others_do() {
    const PUBLISHERS: usize = 20;
    const EVENTS: usize = 500;
    let daemon = Daemon::start(&[]);
    let mut watcher = daemon.watch("/api/ws/events");
    let before = watcher.connected();
    let publishers: Vec<_> = (0..PUBLISHERS)
        .map(|publisher| {
            let mut feed = daemon.acked_feed();
            thread::spawn(move || {
                for number in 0..EVENTS {
                    // Some lines in pieces, some many in one write.
                    let line = format!(r#"{{"type":"x","job_id":"shared","p":{publisher},"n":{number}}}"#);
                    let (start, end) = line.split_at(number % line.len());
                    if number % 7 == publisher % 7 {
                        feed.bytes(start.as_bytes());
                        thread::yield_now();
                        feed.bytes(format!("{end}\n").as_bytes());
                        feed.lines += 1;
                    } else {
                        feed.line(&line);
                    }
                }
                assert!(feed.sync().is_empty());
            })
        })
        .collect();
    let mut next: BTreeMap<u64, u64> = BTreeMap::new();
    for index in 0..(PUBLISHERS * EVENTS) as u64 {
        let text = watcher.event();
        assert_eq!(seq_of(&text), Some(before + 1 + index), "numbers have no holes");
        let event: Value = serde_json::from_str(&text).unwrap();
        let number = next.entry(event["p"].as_u64().unwrap()).or_default();
        assert_eq!(event["n"], *number);
        *number += 1;
    }
    publishers.into_iter().for_each(|publisher| publisher.join().unwrap());
}

/// Says hello with dedupe; returns what was accepted before.
fn hello_again(feed: &mut Feed, name: &str) -> u64 {
    feed.line(&format!(r#"{{"op":"hello","publisher":"{name}","ack":true,"dedupe":true}}"#));
    let welcome = feed.answer();
    assert_eq!(welcome["op"], "welcome", "{welcome}");
    welcome["accepted"].as_u64().expect("the last line accepted")
}

fn wait_for_ack(feed: &mut Feed, line: u64) {
    loop {
        let answer = feed.answer();
        assert_eq!(answer["op"], "ack", "{answer}");
        if answer["line"].as_u64() >= Some(line) {
            return;
        }
    }
}

fn line(number: u64) -> String {
    format!(r#"{{"type":"x","job_id":"j","n":{number}}}"#)
}

fn count_lines(daemon: &Daemon) -> Vec<u64> {
    let mut watcher = daemon.watch("/api/ws/events?since=start");
    watcher.connected();
    daemon.acked_feed().publish([r#"{"type":"end","job_id":"end"}"#]);
    let events = watcher.events_until("\"end\"");
    let numbers =
        events.iter().map(|event| serde_json::from_str::<Value>(event).unwrap()["n"].as_u64().unwrap());
    numbers.collect()
}

#[test]
fn a_publisher_that_has_only_shut_its_writing_side_reads_the_last_ack() {
    let daemon = Daemon::start(&[]);
    let mut feed = daemon.acked_feed();
    // One by one, so that its socket is full of unread acks.
    for _ in 0..20_000 {
        feed.line(r#"{"type":"x","job_id":"j"}"#);
    }
    feed.bytes(b"half a line");
    feed.stream.shutdown(Shutdown::Write).unwrap();
    let newest = daemon.acked_feed().publish([r#"{"type":"x","job_id":"j"}"#]);
    let mut answers = Vec::new();
    while let Some(answer) = feed.try_answer() {
        answers.push(answer);
    }
    let acks: Vec<&Value> = answers.iter().filter(|answer| answer["op"] == "ack").collect();
    assert!(acks.len() < 20_000, "its socket was never full");
    let last = json!({"op": "ack", "line": 20_001, "stream_seq": newest - 1, "refused": 0});
    assert_eq!(acks.last(), Some(&&last), "of {} answers", answers.len());
    let errors = answers.iter().filter(|answer| answer["op"] == "error");
    assert_eq!(errors.map(|error| &error["code"]).collect::<Vec<_>>(), ["truncated"]);
}

#[test]
fn lines_sent_again_under_a_name_are_taken_once() {
    let daemon = Daemon::start(&[]);
    let mut feed = daemon.feed();
    assert_eq!(hello_again(&mut feed, "p"), 0);
    (1..=5).for_each(|number| feed.line(&line(number)));
    wait_for_ack(&mut feed, 5);
    drop(feed);
    // From the beginning.
    let mut feed = daemon.feed();
    assert_eq!(hello_again(&mut feed, "p"), 5);
    feed.line(r#"{"op":"from","line":1}"#);
    (1..=8).for_each(|number| feed.line(&line(number)));
    wait_for_ack(&mut feed, 8);
    drop(feed);
    // Where it left off: without `from` the first line is accepted + 1.
    let mut feed = daemon.feed();
    assert_eq!(hello_again(&mut feed, "p"), 8);
    feed.line(&line(9));
    wait_for_ack(&mut feed, 9);
    // Another name has its own numbers.
    let mut other = daemon.feed();
    assert_eq!(hello_again(&mut other, "q"), 0);
    other.line(&line(10));
    wait_for_ack(&mut other, 1);
    assert_eq!(count_lines(&daemon), (1..=10).collect::<Vec<_>>());
}

#[test]
fn from_counts_also_when_another_connection_went_further_under_the_same_name() {
    let daemon = Daemon::start(&[]);
    let mut late = daemon.feed();
    assert_eq!(hello_again(&mut late, "p"), 0);
    // What the earlier connection had still in transit is accepted only now.
    let mut early = daemon.feed();
    assert_eq!(hello_again(&mut early, "p"), 0);
    (1..=4).for_each(|number| early.line(&line(number)));
    wait_for_ack(&mut early, 4);
    late.line(r#"{"op":"from","line":1}"#);
    (1..=6).for_each(|number| late.line(&line(number)));
    wait_for_ack(&mut late, 6);
    assert_eq!(count_lines(&daemon), (1..=6).collect::<Vec<_>>());
}

/// The answer to an invalid order, or one at the wrong time.
fn expect_bad_op(feed: &mut Feed, order: &str) {
    feed.line(order);
    loop {
        let answer = feed.answer();
        if answer["op"] != "ack" {
            assert_eq!(
                (&answer["op"], &answer["code"]),
                (&json!("error"), &json!("bad_op")),
                "{order}: {answer}"
            );
            return;
        }
    }
}

#[test]
fn numbers_are_bounded_and_a_refused_order_under_a_name_has_none() {
    let daemon = Daemon::start(&[]);
    let mut feed = daemon.feed();
    assert_eq!(hello_again(&mut feed, "p"), 0);
    for number in
        ["18446744073709551615", "9007199254740992", "18446744073709551616", "0", "-1", "1.5", "\"1\""]
    {
        expect_bad_op(&mut feed, &format!(r#"{{"op":"from","line":{number}}}"#));
    }
    // The numbers continue as if they had not come.
    feed.line(&line(1));
    wait_for_ack(&mut feed, 1);
    // `from` after an event, and a second hello.
    expect_bad_op(&mut feed, r#"{"op":"from","line":1}"#);
    expect_bad_op(&mut feed, r#"{"op":"hello","publisher":"q","dedupe":true}"#);
    expect_bad_op(&mut feed, r#"{"op":"dance"}"#);
    feed.line(&line(2));
    wait_for_ack(&mut feed, 2);
    drop(feed);
    // A bad order under a name does not block the name.
    let mut feed = daemon.feed();
    assert_eq!(hello_again(&mut feed, "p"), 2);
    feed.line(r#"{"op":"from","line":9007199254740991}"#);
    feed.line(&line(3));
    wait_for_ack(&mut feed, 9_007_199_254_740_991);
    drop(feed);
    let mut feed = daemon.feed();
    assert_eq!(hello_again(&mut feed, "p"), 9_007_199_254_740_991);
    // No number is left for these.
    for _ in 0..2 {
        feed.line(&line(4));
        let answer = feed.answer();
        assert_eq!((&answer["code"], &answer["line"]), (&"bad_line_number".into(), &json!(1_u64 << 53)));
        assert_eq!(feed.answer()["line"], 1_u64 << 53, "it is dealt with");
    }
    drop(feed);
    let mut feed = daemon.feed();
    assert_eq!(hello_again(&mut feed, "p"), 9_007_199_254_740_991);
    feed.line(r#"{"op":"from","line":9007199254740991}"#);
    feed.line(&line(3));
    feed.line(&line(4));
    let mut answer = feed.answer();
    if answer["op"] == "ack" {
        // The two lines came in two turns.
        assert_eq!(answer["line"], 9_007_199_254_740_991_u64);
        answer = feed.answer();
    }
    assert_eq!(answer["code"], "bad_line_number");
    assert_eq!(count_lines(&daemon), [1, 2, 3]);
}

#[test]
fn orders_are_obeyed_only_in_their_place() {
    let daemon = Daemon::start(&["--line-bytes-max", "2000"]);
    let long = "x".repeat(2_001);
    let hello = r#"{"op":"hello","publisher":"p","ack":true,"dedupe":true}"#;
    for before in ["nonsense", long.as_str(), r#"{"op":"dance"}"#, r#"{"op":"from","line":3}"#, &line(0)] {
        // Whole, and so that a line is too long before its end has come.
        for is_split in [false, true] {
            let mut feed = daemon.feed();
            let (start, end) = before.split_at(if is_split { before.len() } else { 0 });
            feed.bytes(start.as_bytes());
            if is_split && before == long {
                assert_eq!(feed.answer()["code"], "too_long");
            }
            feed.line(end);
            feed.line(hello);
            let codes = if before == line(0) { 1 } else { 2 - usize::from(is_split && before == long) };
            let last = (0..codes).map(|_| feed.answer()).last().expect("an answer");
            assert_eq!((&last["code"], &last["line"]), (&json!("bad_op"), &json!(2)), "{before}: {last}");
        }
    }
    // Empty lines are ignored; but under a name they have numbers, and then it is too late.
    let mut feed = daemon.feed();
    feed.lines(["", " \t"]);
    assert_eq!(hello_again(&mut feed, "fresh"), 0);
    feed.line(r#"{"op":"from","line":1}"#);
    feed.line("");
    expect_bad_op(&mut feed, r#"{"op":"from","line":1}"#);
    feed.line(&line(1));
    wait_for_ack(&mut feed, 2);
    // Without dedupe there is nothing to number.
    expect_bad_op(&mut daemon.acked_feed(), r#"{"op":"from","line":1}"#);
}

/// The same for a line that is too long, in one piece or not.
#[test]
fn a_repeated_line_is_not_refused_for_what_it_was_refused_for_before() {
    let daemon = Daemon::start(&["--line-bytes-max", "2000"]);
    let long = "x".repeat(2_001);
    let mut feed = daemon.feed();
    assert_eq!(hello_again(&mut feed, "p"), 0);
    feed.lines([long.as_str(), &line(2)]);
    assert_eq!(
        (feed.answer()["code"].as_str(), feed.answer()["refused"].as_u64()),
        (Some("too_long"), Some(1))
    );
    drop(feed);
    for is_split in [false, true] {
        let mut feed = daemon.feed();
        assert_eq!(hello_again(&mut feed, "p"), 2);
        feed.line(r#"{"op":"from","line":1}"#);
        feed.bytes(long.as_bytes());
        if is_split {
            // An ack confirms that it was skipped.
            wait_for_ack(&mut feed, 1);
        }
        feed.line("");
        feed.line(&line(2));
        wait_for_ack(&mut feed, 2);
    }
}

#[test]
fn the_log_names_each_kind_of_refused_line_and_who_sent_it_and_where_it_is_at_fault() {
    let daemon = Daemon::start(&[]);
    let mut noisy = daemon.feed();
    let mut nightly = daemon.feed();
    nightly.line(r#"{"op":"hello","publisher":"nightly","ack":true}"#);
    for _ in 0..1_000 {
        noisy.line("nonsense");
    }
    nightly.line(r#"{"type":"x","job_id":"etl/7"}"#);
    nightly.line(r#"{"type":"x","job_id":"j"} }"#);
    daemon.wait_for_log("job_id: character 4 is '/'");
    let log = daemon.stderr();
    let line =
        log.lines().find(|line| line.contains("etl") || line.contains("character 4")).expect("it is there");
    let pid = format!("pid={}", std::process::id());
    for word in ["line 1 after hello ", "bad_id", "\"nightly\"", pid.as_str()] {
        assert!(line.contains(word), "{word} is not in {line}");
    }
    assert_eq!(log.matches("character 4").count(), 1, "{log}");
    // A flood of one kind is logged once a second, and none of it is forgotten.
    wait_until("the rest is logged", || daemon.stderr().contains("refused more lines"));
    let of_kind = |line: &&str| line.contains("bad_json");
    assert!(daemon.stderr().lines().filter(of_kind).count() < 20, "{}", daemon.stderr());
}

#[test]
fn names_are_remembered_for_history_seconds_after_the_publisher_left() {
    let daemon = Daemon::start(&["--history-seconds", "0.3"]);
    let mut feed = daemon.feed();
    hello_again(&mut feed, "p");
    feed.line(&line(1));
    wait_for_ack(&mut feed, 1);
    thread::sleep(Duration::from_secs(1));
    assert_eq!(hello_again(&mut daemon.feed(), "p"), 1, "it is there while the publisher is");
    drop(feed);
    wait_until("the name is forgotten", || {
        thread::sleep(Duration::from_millis(500));
        hello_again(&mut daemon.feed(), "p") == 0
    });
}

#[test]
fn past_jobs_max_the_job_silent_for_longest_without_a_watcher_goes() {
    let daemon = Daemon::start(&["--jobs-max", "3"]);
    let mut feed = daemon.acked_feed();
    let event = |job: &str| format!(r#"{{"type":"x","job_id":"{job}"}}"#);
    feed.publish([event("watched").as_str(), event("silent").as_str(), event("busy").as_str()]);
    let mut watched = daemon.watch("/api/ws/jobs/watched/monitor");
    watched.connected();
    feed.publish([event("busy").as_str(), event("new").as_str()]);
    let is_known = |job: &str| {
        let mut watcher = daemon.watch(&format!("/api/ws/jobs/{job}/monitor"));
        watcher.connected();
        watcher.send(r#"{"action":"ping"}"#);
        watcher.json()["type"] == "metrics"
    };
    assert_eq!(["watched", "silent", "busy", "new"].map(is_known), [true, false, true, true]);
    // While all are watched, a new one is refused, and known ones continue.
    daemon.wait_for_connections(1);
    let _others = ["busy", "new"].map(|job| daemon.watch(&format!("/api/ws/jobs/{job}/monitor")));
    feed.lines([event("one-more").as_str(), event("watched").as_str()]);
    let errors = feed.sync();
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert_eq!(errors[0]["code"], "too_many_jobs");
    watched.json_of("x");
}

#[test]
fn the_socket_is_for_owner_and_group_alone_and_goes_with_the_daemon() {
    use std::os::unix::fs::PermissionsExt;
    let mut daemon = Daemon::start(&[]);
    let mode = std::fs::metadata(&daemon.ingest).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    daemon.stop();
    assert!(!daemon.ingest.exists());
}

#[test]
fn one_job_or_topic_at_a_time_is_enough_for_any_number_in_turn() {
    for flags in [["--jobs-max", "1"], ["--topics-max", "1"]] {
        let daemon = Daemon::start(&flags);
        let mut all = daemon.watch("/api/ws/events");
        let before = all.connected();
        let mut feed = daemon.acked_feed();
        let lines: Vec<String> =
            (0..100).map(|number| format!(r#"{{"type":"x","job_id":"j{}"}}"#, number % 3)).collect();
        // One by one, and many in one turn.
        lines.iter().for_each(|line| assert!(feed.publish([line.as_str()]) > before));
        feed.publish(lines.iter().map(String::as_str));
        let expected = (before + 1..).zip(lines.iter().chain(&lines)).map(|(seq, line)| numbered(line, seq));
        assert_eq!(all.events(200), expected.collect::<Vec<_>>());
    }
}
