//! Section 9: `publish`, `tail` and `sim` against a real daemon.

use std::fs;

use serde_json::Value;

use crate::harness::tool::{Tool, publish};
use crate::harness::{Daemon, Scratch, luxcast, numbered, seq_of, wait_until};

#[test]
fn publish_sends_a_file_and_reports_each_refused_line_by_its_number() {
    let daemon = Daemon::start(&[]);
    let scratch = Scratch::new();
    let file = scratch.path().join("events.ndjson");
    let good = |number: u32| format!(r#"{{"type":"x","job_id":"j","n":{number}}}"#);
    fs::write(&file, format!("{}\nnonsense\n\n{}\n{{\"type\":\"x\"}}\n{}", good(1), good(2), good(3)))
        .unwrap();
    let file = file.to_str().unwrap();
    let (code, text) = publish(&daemon, &[file]).finish(b"");
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("line 2: bad_json") && text.contains("line 5: no_id"), "{text}");
    assert!(text.contains("3 lines accepted") && text.contains("2 refused"), "{text}");
    let mut watcher = daemon.watch("/api/ws/events?since=start");
    let first = watcher.connected() - 2;
    let expected: Vec<String> =
        (first..).zip(1..=3).map(|(seq, number)| numbered(&good(number), seq)).collect();
    assert_eq!(watcher.events(3), expected);
    let (code, text) = publish(&daemon, &["/no/such/file"]).finish(b"");
    assert_eq!(code, 2, "{text}");
    assert!(text.contains("/no/such/file"), "{text}");
    let (code, text) = publish(&daemon, &["/tmp"]).finish(b"");
    assert!(code == 2 && text.contains("/tmp: is a directory"), "{text}");
}

#[test]
fn publish_reads_standard_input_and_takes_each_line_once_with_dedupe() {
    let daemon = Daemon::start(&[]);
    let lines: String =
        (0..50_000).map(|number| format!("{{\"type\":\"x\",\"job_id\":\"j\",\"n\":{number}}}\n")).collect();
    for _ in 0..2 {
        let (code, text) = publish(&daemon, &["-", "--publisher", "p", "--dedupe"]).finish(lines.as_bytes());
        assert_eq!(code, 0, "{text}");
        assert!(text.contains("50000 lines accepted") && text.contains("0 refused"), "{text}");
    }
    let mut watcher = daemon.watch("/api/ws/events?since=start");
    watcher.connected();
    daemon.acked_feed().publish([r#"{"type":"end","job_id":"j"}"#]);
    assert_eq!(watcher.events_until("\"end\"").len(), 50_000);
}

#[test]
fn publish_says_when_there_is_no_daemon() {
    let mut daemon = Daemon::start(&[]);
    daemon.stop();
    let mut command = luxcast();
    command.args(["publish", "-", "--ingest"]).arg(&daemon.ingest);
    let mut tool = Tool::start(&mut command);
    let code = tool.child.wait().unwrap().code();
    assert_eq!(code, Some(1), "{}", tool.stderr.so_far());
    wait_until("the reason", || tool.stderr.so_far().contains(daemon.ingest.to_str().unwrap()));
}

#[test]
fn tail_shows_events_as_they_came_or_for_people() {
    let daemon = Daemon::start(&[]);
    let mut feed = daemon.acked_feed();
    let line = |kind: &str, job: &str| {
        format!(
            r#"{{"type":"{kind}","job_id":"{job}","flow_id":"f","timestamp":"2026-11-23T07:35:32.390Z"}}"#
        )
    };
    let lines = [
        line("job_started", "j"),
        line("routine_started", "j"),
        line("job_started", "k"),
        line("made_up", "j"),
    ];
    let newest = feed.publish(lines.iter().map(String::as_str));
    let number = |index: usize| numbered(&lines[index], newest - 3 + index as u64);
    let after = (newest - 2).to_string();
    let table: [(&[&str], &[usize]); 7] = [
        (&["--all", "--since", "start"], &[0, 1, 2, 3]),
        (&["--since", "-2"], &[2, 3]),
        (&["--job", "j", "--since", "start"], &[0, 1, 3]),
        (&["--job", "j", "--debug", "--since", "start"], &[0, 1]),
        (&["--flow", "f", "--since", &after], &[2, 3]),
        (&["--all", "--events", "job_started,end", "--since", "start"], &[0, 2]),
        (&["--job", "k", "--since", "start"], &[2]),
    ];
    for (arguments, expected) in table {
        let tail = Tool::tail(&daemon, &[arguments, &["--json"]].concat());
        for index in expected {
            assert_eq!(tail.line(), number(*index), "{arguments:?}");
        }
    }
    let tail = Tool::tail(&daemon, &["--job", "j", "--since", "start"]);
    let human: Vec<String> = (0..4).map(|_| tail.line()).collect();
    assert!(human.iter().any(|line| line.contains("job_started") && !line.starts_with('{')), "{human:?}");
}

#[test]
fn tail_resumes_by_itself_across_a_restart_of_the_daemon() {
    let scratch = Scratch::new();
    let ingest = scratch.path().join("ingest.sock");
    let ingest = ingest.to_str().unwrap().to_owned();
    let mut daemon = Daemon::start(&["--ingest", &ingest]);
    let address = daemon.address.to_string();
    let tail = Tool::tail(&daemon, &["--all", "--json"]);
    daemon.wait_for_connections(1);
    let last = daemon.acked_feed().publish([r#"{"type":"x","job_id":"j","n":1}"#]);
    assert_eq!(seq_of(&tail.line()), Some(last));
    daemon.stop();
    let daemon = Daemon::start(&["--ingest", &ingest, "--listen", &address]);
    let next = daemon.acked_feed().publish([r#"{"type":"x","job_id":"j","n":2}"#]);
    assert_eq!(seq_of(&tail.line()), Some(next), "{}", tail.stderr.so_far());
    wait_until("it says what happened", || {
        let text = tail.stderr.so_far();
        text.contains("goodbye") && text.contains("restart")
    });
}

#[test]
fn tail_ends_for_good_when_refused_or_asked_to() {
    let mut daemon = Daemon::start(&[]);
    let mut once = Tool::tail(&daemon, &["--all", "--once", "--json"]);
    daemon.wait_for_connections(1);
    daemon.stop();
    assert_eq!(once.child.wait().unwrap().code(), Some(0), "{}", once.stderr.so_far());
    let mut late = Tool::tail(&daemon, &["--all"]);
    assert_eq!(late.child.wait().unwrap().code(), Some(1), "{}", late.stderr.so_far());
}

#[test]
fn sim_makes_whole_jobs_that_the_daemon_takes() {
    let daemon = Daemon::start(&[]);
    let mut watcher = daemon.watch("/api/ws/events");
    watcher.connected();
    let mut command = luxcast();
    command.args([
        "sim",
        "--events-per-second",
        "0",
        "--count",
        "3000",
        "--seed",
        "7",
        "--jobs",
        "4",
        "--ingest",
    ]);
    let (code, text) = Tool::start(command.arg(&daemon.ingest)).finish(b"");
    assert_eq!(code, 0, "{text}");
    let events: Vec<Value> =
        watcher.events(3_000).iter().map(|event| serde_json::from_str(event).unwrap()).collect();
    let count = |kind: &str| events.iter().filter(|event| event["type"] == kind).count();
    for kind in [
        "job_started",
        "job_completed",
        "job_failed",
        "routine_started",
        "routine_completed",
        "execution_event",
    ] {
        assert!(count(kind) > 0, "no {kind}");
    }
    // The same seed makes the same jobs, on standard output too.
    let output = luxcast()
        .args([
            "sim",
            "--events-per-second",
            "0",
            "--count",
            "3000",
            "--seed",
            "7",
            "--jobs",
            "4",
            "--stdout",
        ])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.lines().count(), 3_000);
    for (line, event) in text.lines().zip(&events) {
        let line: Value = serde_json::from_str(line).unwrap();
        assert_eq!((&line["type"], &line["job_id"]), (&event["type"], &event["job_id"]));
    }
}

#[test]
fn sim_keeps_its_rate() {
    let daemon = Daemon::start(&[]);
    let mut watcher = daemon.watch("/api/ws/events");
    watcher.connected();
    let mut command = luxcast();
    command.args(["sim", "--events-per-second", "200", "--count", "400", "--ingest"]);
    let began = std::time::Instant::now();
    let (code, text) = Tool::start(command.arg(&daemon.ingest)).finish(b"");
    assert_eq!(code, 0, "{text}");
    let elapsed = began.elapsed().as_secs_f64();
    println!("400 events at 200 a second: {elapsed:.2} s");
    // It may come late, and is never early.
    assert!(elapsed > 1.5, "{elapsed}");
    watcher.events(400);
}
