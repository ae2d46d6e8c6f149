//! What publishers may take: places, memory for half lines.

use std::io::Write;
use std::net::Shutdown;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::http_feed::{HttpFeed, LINES};
use crate::harness::{Daemon, Feed, wait_until};

const MIB: u64 = 1 << 20;

fn metric(daemon: &Daemon, name: &str) -> u64 {
    let (_, text) = daemon.admin_get("/metrics");
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.expect("the metric is there").parse().expect("a number")
}

#[test]
fn publishers_beyond_the_limit_are_refused_with_a_reason() {
    let daemon = Daemon::start(&["--publishers-max", "3"]);
    let mut feeds: Vec<Feed> = (0..3).map(|_| daemon.acked_feed()).collect();
    for number in 1..=5 {
        let mut refused = daemon.feed();
        // It may already have been refused.
        let _ = refused.stream.write_all(b"{\"op\":\"hello\",\"ack\":true}\n");
        let answer = refused.answer();
        assert_eq!((&answer["op"], &answer["line"]), (&Value::from("error"), &Value::from(0)), "{answer}");
        assert_eq!(answer["code"], "too_many_publishers");
        assert!(answer["message"].as_str().is_some_and(|text| text.contains("publishers_max")), "{answer}");
        assert!(refused.try_answer().is_none());
        assert_eq!(metric(&daemon, "luxcast_publishers_refused_total"), number);
    }
    daemon.wait_for_log("publishers_max");
    // Those that are there notice nothing, and each one that leaves makes room.
    for feed in &mut feeds {
        feed.publish([r#"{"type":"x","job_id":"j"}"#]);
    }
    assert_eq!(metric(&daemon, "luxcast_publishers"), 3);
    feeds.pop();
    wait_until("there is room", || metric(&daemon, "luxcast_publishers") == 2);
    daemon.acked_feed().publish([r#"{"type":"x","job_id":"j"}"#]);
}

#[test]
fn half_lines_of_many_publishers_cost_bounded_memory_and_stop_nobody() {
    const PUBLISHERS: usize = 300;
    let daemon = Daemon::start(&["--history-bytes", "67108864"]);
    let before = daemon.memory_bytes("VmHWM");
    let half = format!(r#"{{"type":"x","job_id":"half","x":"{}"#, "x".repeat(900_000));
    let mut feeds: Vec<Feed> = (0..PUBLISHERS).map(|_| daemon.acked_feed()).collect();
    for feed in &mut feeds {
        feed.bytes(half.as_bytes());
    }
    // Whole lines continue meanwhile, even long ones.
    let mut other = daemon.acked_feed();
    let long = format!(r#"{{"type":"x","job_id":"long","x":"{}"}}"#, "x".repeat(900_000));
    for line in [r#"{"type":"x","job_id":"short"}"#, long.as_str()] {
        other.publish([line]);
    }
    let held = metric(&daemon, "luxcast_feed_half_line_bytes");
    assert!(held < 32 * MIB, "{held} bytes are held");
    let grown = daemon.memory_bytes("VmHWM") - before;
    println!("{PUBLISHERS} half lines of 900,000 bytes: {:.1} MiB more at most", grown as f64 / MIB as f64);
    // An eighth of the history, 16 KiB or twice as much for each, and the two long events with what they were parsed in.
    assert!(grown < 96 * MIB, "{grown} bytes");
    // Each learns what became of its line, and the next line is accepted in any case.
    let mut refused = 0;
    for feed in &mut feeds {
        feed.line("\"}");
        feed.line(r#"{"type":"x","job_id":"next"}"#);
        let errors = feed.sync();
        assert!(errors.len() <= 1 && errors.iter().all(|error| error["code"] == "too_long"), "{errors:?}");
        assert_eq!(feed.refused, errors.len() as u64);
        refused += errors.len();
    }
    assert!(refused > 0, "all of them had room");
    assert_eq!(metric(&daemon, "luxcast_feed_lines_total{result=\"too_long\"}"), refused as u64);
    drop(feeds);
    wait_until("nothing is held", || metric(&daemon, "luxcast_feed_half_line_bytes") < MIB);
}

#[test]
fn long_lines_of_many_publishers_arrive_although_few_have_a_place_at_once() {
    const PUBLISHERS: usize = 12;
    const LINES: usize = 6;
    // Room for one long half line.
    let daemon = Daemon::start(&["--history-bytes", "8388608", "--overrun", "wait"]);
    let mut watcher = daemon.watch("/api/ws/events");
    watcher.connected();
    thread::scope(|scope| {
        for publisher in 0..PUBLISHERS {
            let daemon = &daemon;
            scope.spawn(move || {
                let mut feed = daemon.acked_feed();
                for number in 0..LINES {
                    let pad = "x".repeat(300_000 + 20_000 * publisher);
                    let line =
                        format!(r#"{{"type":"x","job_id":"j","p":{publisher},"n":{number},"x":"{pad}"}}"#);
                    feed.line(&line);
                }
                assert!(feed.sync().is_empty());
                // Closed in the middle of a line: its place is free again.
                feed.bytes(&[b'x'; 100_000]);
                let _ = feed.stream.shutdown(Shutdown::Both);
            });
        }
        let mut next = [0; PUBLISHERS];
        for _ in 0..PUBLISHERS * LINES {
            let event: Value = serde_json::from_str(&watcher.event()).expect("JSON");
            let publisher = event["p"].as_u64().expect("a number") as usize;
            assert_eq!(event["n"], next[publisher], "the order of {publisher}");
            next[publisher] += 1;
        }
    });
    daemon.acked_feed().publish([r#"{"type":"x","job_id":"j"}"#]);
}

/// Bodies that have sent so much of a line and then nothing.
fn stopped_bodies(daemon: &Daemon, count: usize, bytes: usize) -> Vec<HttpFeed> {
    let half = format!(r#"{{"type":"x","job_id":"half","x":"{}"#, "x".repeat(bytes));
    let begin = |_| {
        let mut feed = HttpFeed::connect(daemon.address);
        let head = feed.head(LINES, &format!("Content-Length: {}\r\n", 2 * bytes));
        feed.raw.send([head.as_bytes(), half.as_bytes()].concat().as_slice());
        feed
    };
    (0..count).map(begin).collect()
}

#[test]
fn bodies_that_stop_within_a_line_delay_no_socket_and_other_bodies_for_a_short_time() {
    const BODIES: usize = 60;
    // Room for one long half line of each kind. One after the other, the bodies would hold it for half a minute.
    let daemon = Daemon::start(&["--history-bytes", "8388608", "--http-publish", "anyone"]);
    let long = format!(r#"{{"type":"x","job_id":"long","x":"{}"}}"#, "x".repeat(300_000));
    let short = Duration::from_secs(15);
    let stopped = stopped_bodies(&daemon, BODIES, 100_000);
    let given_up = || metric(&daemon, "luxcast_feed_lines_total{result=\"too_long\"}");
    wait_until("some wait for the place", || given_up() > 0);
    let start = Instant::now();
    HttpFeed::connect(daemon.address).publish([long.as_str()]);
    assert!(start.elapsed() < short, "{:?}", start.elapsed());
    drop(stopped);
    let before = given_up();
    let _stopped = stopped_bodies(&daemon, BODIES, 600_000);
    wait_until("some wait for the place", || given_up() > before);
    let start = Instant::now();
    daemon.acked_feed().publish([long.as_str()]);
    assert!(start.elapsed() < short, "{:?}", start.elapsed());
}
