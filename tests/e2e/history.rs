//! Section 4: what is kept, how watchers return, and what losses are reported.

use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Client, Daemon, numbered, seq_of, wait_until};

/// A line of about a kilobyte, so that the smallest history is soon full.
fn long_line(job: &str, kind: &str, number: u64) -> String {
    format!(r#"{{"type":"{kind}","job_id":"{job}","n":{number},"pad":"{}"}}"#, "x".repeat(1_000))
}

/// Connects at a place in the past; also returns the newest number at that moment.
fn open(daemon: &Daemon, path: &str) -> (Client, u64) {
    let mut watcher = daemon.watch(path);
    let newest = watcher.connected();
    (watcher, newest)
}

/// The next message, which must be a gap, without its timestamp.
fn gap(watcher: &mut Client) -> Value {
    loop {
        let mut message = watcher.json();
        match message["type"].as_str() {
            Some("metrics") if message["stream_seq"].is_null() => {}
            Some("stream:gap") => {
                let at = message.as_object_mut().unwrap().remove("timestamp").expect("a timestamp");
                assert!(at.as_str().is_some_and(|at| at.len() == 24), "{at}");
                return message;
            }
            _ => panic!("expected a gap, got {message}"),
        }
    }
}

/// The numbers of the next events; no gap may come before them.
fn numbers(watcher: &mut Client, count: usize) -> Vec<u64> {
    let mut numbers = Vec::new();
    while numbers.len() < count {
        let text = watcher.text();
        assert!(!text.contains("\"stream:gap\""), "{text}");
        numbers.extend(seq_of(&text));
    }
    numbers
}

#[test]
fn a_watcher_starts_where_it_asks_to() {
    let daemon = Daemon::start(&[]);
    let mut feed = daemon.acked_feed();
    let lines: Vec<String> = (0..30)
        .map(|number| {
            format!(r#"{{"type":"{}","job_id":"{}"}}"#, ["x", "y", "z"][number % 3], ["j", "k"][number % 2])
        })
        .collect();
    let newest = feed.publish(lines.iter().map(String::as_str));
    let first = newest - 29;
    let of = |wanted: &dyn Fn(u64) -> bool| {
        (0..30).filter(|index| wanted(*index)).map(|index| first + index).collect::<Vec<_>>()
    };
    let of_j = of(&|index| index % 2 == 0);
    let x_of_j = of(&|index| index % 6 == 0);
    let all = of(&|_| true);
    let live = newest + 1;
    let table = [
        ("events?since=start".to_owned(), all.clone()),
        (format!("events?since={}", newest - 5), all[25..].to_vec()),
        (format!("events?since={newest}"), vec![]),
        ("events?since=now".to_owned(), vec![]),
        ("events".to_owned(), vec![]),
        ("events?since=-7".to_owned(), all[23..].to_vec()),
        ("events?since=-1000".to_owned(), all.clone()),
        ("jobs/j/monitor?since=start".to_owned(), of_j.clone()),
        (format!("jobs/j/monitor?since={}", first + 3), of_j[2..].to_vec()),
        ("jobs/j/monitor?since=-3".to_owned(), of_j[12..].to_vec()),
        ("jobs/j/monitor?since=-3&events=x,end".to_owned(), x_of_j[2..].to_vec()),
        ("jobs/j/monitor?since=start&events=x,end".to_owned(), x_of_j.clone()),
        (format!("jobs/j/monitor?since={}&events=x,end", first), x_of_j[1..].to_vec()),
    ];
    let mut watchers: Vec<_> = table
        .iter()
        .map(|(path, expected)| (path, open(&daemon, &format!("/api/ws/{path}")), expected))
        .collect();
    assert_eq!(feed.publish([r#"{"type":"end","job_id":"j"}"#]), live);
    for (path, (watcher, told), expected) in &mut watchers {
        assert_eq!(*told, newest, "{path}");
        let expected: Vec<u64> = expected.iter().copied().chain([live]).collect();
        assert_eq!(numbers(watcher, expected.len()), expected, "{path}");
    }
}

#[test]
fn a_gap_for_evicted_events_has_exact_fields() {
    let daemon = Daemon::start(&["--history-bytes", "65536"]);
    let mut feed = daemon.acked_feed();
    let first = feed.publish([long_line("j", "x", 0).as_str()]);
    for number in 1..300 {
        // Every third is another job's, so that numbers and counts differ.
        let job = if number % 3 == 0 { "other" } else { "j" };
        feed.publish([long_line(job, "x", number).as_str()]);
    }
    let newest = first + 299;
    let is_of_j = |seq: u64| seq == first || !(seq - first).is_multiple_of(3);
    let path = "/api/ws/jobs/j/monitor";
    for (since, from, after) in
        [("start".to_owned(), 1, 0), ((first + 10).to_string(), first + 11, first + 10)]
    {
        let (mut watcher, told) = open(&daemon, &format!("{path}?since={since}"));
        assert_eq!(told, newest);
        let mut told = gap(&mut watcher);
        let to = told["to"].as_u64().expect("a number");
        let missed = (first..=to).filter(|seq| *seq > after && is_of_j(*seq)).count();
        if after > 0 && told["missed"].is_null() {
            // How many of the lost ones came before this place is no longer known.
            told["missed"] = json!(missed);
        }
        assert_eq!(
            told,
            json!({"type": "stream:gap", "from": from, "to": to, "missed": missed, "reason": "expired"})
        );
        assert!(is_of_j(to), "the end of a gap is an event of this watcher");
        let rest: Vec<u64> = (to + 1..=newest).filter(|seq| is_of_j(*seq)).collect();
        assert!(rest.len() > 10, "{rest:?}");
        assert_eq!(numbers(&mut watcher, rest.len()), rest);
    }
    // The last N need no gap, however many are requested, and neither do events that are still there.
    let (mut watcher, _) = open(&daemon, &format!("{path}?since=-1000"));
    assert!(numbers(&mut watcher, 1)[0] > first);
    let (mut watcher, _) = open(&daemon, &format!("{path}?since={}", newest - 6));
    let last: Vec<u64> = (newest - 5..=newest).filter(|seq| is_of_j(*seq)).collect();
    assert_eq!(numbers(&mut watcher, last.len()), last);
}

#[test]
fn the_first_start_and_the_last_end_of_a_noisy_job_stay() {
    let daemon = Daemon::start(&["--history-bytes", "65536"]);
    let mut feed = daemon.acked_feed();
    let started = r#"{"type":"job_started","job_id":"j"}"#;
    let failed = r#"{"type":"job_failed","job_id":"j"}"#;
    let first = feed.publish([started]);
    for number in 0..100 {
        feed.publish([long_line("j", "x", number).as_str()]);
    }
    let end = feed.publish([failed]);
    for number in 0..100 {
        feed.publish([long_line("j", "x", number).as_str()]);
    }
    let newest = end + 100;
    let (mut watcher, _) = open(&daemon, "/api/ws/jobs/j/monitor?since=start");
    let told = gap(&mut watcher);
    let to = told["to"].as_u64().unwrap();
    assert_eq!(
        told,
        json!({"type": "stream:gap", "from": 1, "to": to, "missed": to - first + 1 - 2, "reason": "expired"})
    );
    assert_eq!(watcher.event(), numbered(started, first));
    assert_eq!(watcher.event(), numbered(failed, end));
    assert_eq!(numbers(&mut watcher, (newest - to) as usize), (to + 1..=newest).collect::<Vec<_>>());
    // They are kept on job endpoints; if only they are requested, nothing was lost.
    let (mut watcher, _) = open(&daemon, "/api/ws/jobs/j/debug?since=start&events=job_started,job_failed");
    assert_eq!(numbers(&mut watcher, 2), [first, end]);
    let (mut watcher, _) = open(&daemon, "/api/ws/jobs/j/monitor?since=-200");
    let last = numbers(&mut watcher, (newest - to) as usize + 2);
    assert_eq!(&last[..2], [first, end]);
    let (mut watcher, _) = open(&daemon, "/api/ws/events?since=start");
    assert_eq!(gap(&mut watcher)["missed"], to - first + 1);
    assert_eq!(numbers(&mut watcher, 1), [to + 1]);
}

#[test]
fn numbers_of_another_run_lead_to_a_restart_gap_unless_the_job_is_complete() {
    let daemon = Daemon::start(&[]);
    let (mut first, start) = open(&daemon, "/api/ws/events?since=start");
    let mut feed = daemon.acked_feed();
    feed.publish([
        r#"{"type":"job_started","job_id":"complete"}"#,
        r#"{"type":"x","job_id":"partial"}"#,
        r#"{"type":"end","job_id":"partial"}"#,
    ]);
    assert_eq!(numbers(&mut first, 3), [start + 1, start + 2, start + 3], "start is no gap");
    // Of an earlier run.
    for path in ["events", "jobs/partial/monitor"] {
        let (mut watcher, _) = open(&daemon, &format!("/api/ws/{path}?since=1000"));
        assert_eq!(
            gap(&mut watcher),
            json!({"type": "stream:gap", "from": 1001, "to": start, "missed": null, "reason": "restart"})
        );
        let expected = if path == "events" { start + 1 } else { start + 2 };
        assert_eq!(numbers(&mut watcher, 1), [expected]);
    }
    let (mut watcher, _) = open(&daemon, "/api/ws/jobs/complete/monitor?since=1000");
    assert_eq!(numbers(&mut watcher, 1), [start + 1]);
    // Beyond the newest.
    let beyond = start + 1_000_000;
    let (mut watcher, _) = open(&daemon, &format!("/api/ws/jobs/partial/monitor?since={beyond}"));
    assert_eq!(
        gap(&mut watcher),
        json!({"type": "stream:gap", "from": beyond + 1, "to": beyond + 1, "missed": null, "reason": "restart"})
    );
    let (mut complete, _) = open(&daemon, &format!("/api/ws/jobs/complete/monitor?since={beyond}"));
    feed.publish([r#"{"type":"live","job_id":"partial"}"#, r#"{"type":"live","job_id":"complete"}"#]);
    assert_eq!(
        numbers(&mut watcher, 3),
        [start + 2, start + 3, start + 4],
        "nothing that is kept is skipped"
    );
    assert_eq!(numbers(&mut complete, 2), [start + 1, start + 5]);
    // A watcher that has seen part of an earlier life may have missed the rest, in another run or in this one.
    let (mut watcher, _) =
        open(&daemon, &format!("/api/ws/jobs/complete/monitor?since={}", start - 1_000_000));
    assert_eq!(
        gap(&mut watcher),
        json!({"type": "stream:gap", "from": start - 999_999, "to": start, "missed": null, "reason": "restart"})
    );
    assert_eq!(numbers(&mut watcher, 1), [start + 1]);
}

/// Waits until the daemon has forgotten a job.
fn await_forgotten(daemon: &Daemon, job: &str) {
    while is_known(daemon, job) {
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_job_that_lives_again_excuses_nothing_that_its_earlier_life_had() {
    let daemon = Daemon::start(&["--history-seconds", "0.2", "--metrics-seconds", "0"]);
    let mut feed = daemon.acked_feed();
    let end = feed.publish([
        r#"{"type":"job_started","job_id":"nightly"}"#,
        r#"{"type":"e1","job_id":"nightly"}"#,
        r#"{"type":"e2","job_id":"nightly"}"#,
        r#"{"type":"job_completed","job_id":"nightly"}"#,
    ]);
    await_forgotten(&daemon, "nightly");
    // These come before the next life: one asks for everything, one was in the last life.
    let (mut early, _) = open(&daemon, "/api/ws/jobs/nightly/monitor?since=start");
    let told = json!({"type": "stream:gap", "from": end - 1, "to": end, "missed": null, "reason": "expired"});
    let (mut stood, _) = open(&daemon, &format!("/api/ws/jobs/nightly/monitor?since={}", end - 2));
    assert_eq!(gap(&mut stood), told);
    let (mut other, _) = open(&daemon, "/api/ws/jobs/other/monitor?since=start");
    let (mut others_past, _) = open(&daemon, &format!("/api/ws/jobs/other/monitor?since={}", end - 3));
    feed.publish([
        r#"{"type":"job_started","job_id":"nightly"}"#,
        r#"{"type":"e3","job_id":"nightly"}"#,
        r#"{"type":"job_started","job_id":"other"}"#,
    ]);
    let (mut late, _) = open(&daemon, "/api/ws/jobs/nightly/monitor?since=start");
    for watcher in [&mut early, &mut late, &mut stood] {
        assert_eq!(numbers(watcher, 2), [end + 1, end + 2], "it is whole from its start on");
    }
    for watcher in [&mut other, &mut others_past] {
        assert_eq!(numbers(watcher, 1), [end + 3], "another job was dropped, not this one");
    }
    let (mut back, _) = open(&daemon, &format!("/api/ws/jobs/nightly/monitor?since={}", end - 2));
    assert_eq!(gap(&mut back), told);
    assert_eq!(numbers(&mut back, 2), [end + 1, end + 2]);
}

#[test]
fn a_loss_before_a_job_is_reported_with_its_first_event_unless_that_starts_it() {
    let daemon = Daemon::start(&["--history-seconds", "0.2", "--metrics-seconds", "0"]);
    let mut feed = daemon.acked_feed();
    let end =
        feed.publish([r#"{"type":"job_started","job_id":"j"}"#, r#"{"type":"job_completed","job_id":"j"}"#]);
    await_forgotten(&daemon, "j");
    let (mut one, _) = open(&daemon, "/api/ws/jobs/j/monitor?since=start");
    let mut multi = daemon.watch("/api/v1/websocket");
    assert_eq!(multi.json()["type"], "connected");
    multi.send(r#"{"type":"subscribe","job_id":"j","since":"start"}"#);
    assert_eq!(multi.json()["type"], "subscribed");
    // It is not reported before it is known.
    for watcher in [&mut one, &mut multi] {
        watcher.send(r#"{"type":"ping"}"#);
        assert_eq!(watcher.json()["type"], "pong");
    }
    feed.publish([r#"{"type":"note","job_id":"j"}"#]);
    for watcher in [&mut one, &mut multi] {
        let gap = watcher.json();
        assert_eq!((&gap["type"], &gap["from"], &gap["to"]), (&json!("stream:gap"), &json!(1), &json!(end)));
        assert_eq!(watcher.json()["stream_seq"], end + 1);
    }
}

/// Whether the daemon knows the job: then a monitor begins with its metrics.
fn is_known(daemon: &Daemon, job: &str) -> bool {
    let (mut watcher, _) = open(daemon, &format!("/api/ws/jobs/{job}/monitor?since=start&events=metrics"));
    // The answer to a ping comes after the start of the connection.
    watcher.send(r#"{"action":"ping"}"#);
    watcher.json()["type"] == "metrics"
}

#[test]
fn a_job_goes_history_seconds_after_its_end_and_leaves_a_gap_behind() {
    let daemon = Daemon::start(&["--history-seconds", "0.5"]);
    let mut feed = daemon.acked_feed();
    let first = feed.publish([r#"{"type":"x","job_id":"over"}"#]);
    let end = feed.publish([r#"{"type":"job_completed","job_id":"over"}"#]);
    let running = feed.publish([r#"{"type":"x","job_id":"running"}"#]);
    let watched = feed.publish([r#"{"type":"job_completed","job_id":"watched"}"#]);
    let _keeps = daemon.watch("/api/ws/jobs/watched/monitor");
    assert!(is_known(&daemon, "over"));
    wait_until("the job goes", || {
        // This look is a watcher, which keeps the topic while it is there.
        thread::sleep(Duration::from_millis(200));
        !is_known(&daemon, "over")
    });
    assert!(is_known(&daemon, "running"));
    assert!(is_known(&daemon, "watched"));
    let (mut watcher, _) = open(&daemon, &format!("/api/ws/jobs/over/monitor?since={}", first - 1));
    let told = gap(&mut watcher);
    assert_eq!(
        told,
        json!({"type": "stream:gap", "from": first, "to": end, "missed": null, "reason": "expired"})
    );
    for (job, seq) in [("running", running), ("watched", watched)] {
        let (mut watcher, _) = open(&daemon, &format!("/api/ws/jobs/{job}/monitor?since={}", seq - 1));
        if job == "running" {
            assert_eq!(numbers(&mut watcher, 1), [seq], "{job}");
        } else {
            assert!(watcher.event().starts_with(&format!("{{\"stream_seq\":{seq},")));
        }
    }
    // All of it is still in the stream of everything.
    let (mut watcher, _) = open(&daemon, &format!("/api/ws/events?since={}", first - 1));
    assert_eq!(numbers(&mut watcher, 2), [first, end]);
}

#[test]
fn a_job_without_events_counts_as_ended_after_job_idle_seconds() {
    let daemon = Daemon::start(&["--history-seconds", "0.2", "--job-idle-seconds", "0.3"]);
    let mut feed = daemon.acked_feed();
    feed.publish([r#"{"type":"job_started","job_id":"idle"}"#]);
    wait_until("the job goes", || {
        thread::sleep(Duration::from_millis(100));
        !is_known(&daemon, "idle")
    });
}

#[test]
fn changed_jobs_that_are_watched_get_metrics_events_of_the_daemon() {
    let daemon = Daemon::start(&["--metrics-seconds", "0.4"]);
    let mut feed = daemon.acked_feed();
    let (mut of_job, _) = open(&daemon, "/api/ws/jobs/j/monitor");
    let (mut of_flow, _) = open(&daemon, "/api/ws/flows/f/monitor?events=metrics");
    let (mut own, _) = open(&daemon, "/api/ws/jobs/own/monitor");
    let (mut all, _) = open(&daemon, "/api/ws/events");
    let newest = feed.publish([
        r#"{"type":"job_started","job_id":"j","timestamp":"2026-11-23T07:35:32.390Z"}"#,
        r#"{"type":"job_started","job_id":"k","flow_id":"f"}"#,
        r#"{"type":"metrics","job_id":"own"}"#,
        r#"{"type":"x","job_id":"unwatched"}"#,
    ]);
    let metrics = of_job.json_of("metrics");
    assert!(metrics["stream_seq"].as_u64() > Some(newest), "{metrics}");
    assert_eq!(metrics["job_id"], "j");
    assert_eq!(metrics["metrics"]["start_time"], "2026-11-23T07:35:32.390Z");
    assert_eq!(metrics["metrics"]["total_events"], 1);
    assert_eq!(of_flow.json_of("metrics")["job_id"], "k");
    // The next one comes only with the next change; it is an event like any other, numbered and kept.
    let second = feed.publish([r#"{"type":"x","job_id":"j"}"#, r#"{"type":"x","job_id":"own"}"#]);
    assert_eq!(of_job.json()["type"], "x");
    let metrics = of_job.json();
    assert_eq!(metrics["metrics"]["total_events"], 2);
    let seq = metrics["stream_seq"].as_u64().unwrap();
    assert!(seq > second);
    let (mut past, _) = open(&daemon, &format!("/api/ws/jobs/j/monitor?since={}&events=metrics", seq - 1));
    past.json();
    assert_eq!(past.json(), metrics);
    // Nothing for a publisher that sends its own, nor for unwatched jobs.
    feed.publish([r#"{"type":"end","job_id":"own"}"#]);
    let of_own: Vec<String> = own.events_until("\"end\"");
    assert_eq!(of_own.iter().filter(|event| event.contains("\"metrics\"")).count(), 1, "{of_own:?}");
    let everything = all.events_until("\"end\"");
    assert!(!everything.iter().any(|event| event.contains("\"metrics\"") && event.contains("unwatched")));
}

#[test]
fn a_watcher_left_behind_learns_exactly_what_it_missed() {
    let daemon = Daemon::start(&["--history-bytes", "65536"]);
    let mut feed = daemon.acked_feed();
    let (mut watcher, before) = open(&daemon, "/api/ws/jobs/j/monitor");
    // Far more than the sockets hold.
    let block: Vec<String> =
        (0..30).map(|number| long_line(if number % 3 == 0 { "k" } else { "j" }, "x", number)).collect();
    let mut newest = before;
    for _ in 0..800 {
        newest = feed.publish(block.iter().map(String::as_str));
    }
    let newest_of_j = newest;
    let is_of_j = |seq: u64| !(seq - before - 1).is_multiple_of(3);
    let mut position = before;
    let mut gaps = 0;
    while position < newest_of_j {
        let message = watcher.json();
        if message["type"] == "stream:gap" {
            gaps += 1;
            let (from, to) = (message["from"].as_u64().unwrap(), message["to"].as_u64().unwrap());
            assert_eq!(message["reason"], "overrun");
            assert!(
                from > position && (position + 1..from).all(|seq| !is_of_j(seq)),
                "{message} at {position}"
            );
            assert!(to <= newest && is_of_j(to), "{message}");
            let missed = (from..=to).filter(|seq| is_of_j(*seq)).count();
            assert_eq!(message["missed"], missed, "{message} at {position}");
            position = to;
        } else {
            let seq = message["stream_seq"].as_u64().expect("an event");
            assert!((position + 1..seq).all(|seq| !is_of_j(seq)), "a hole between {position} and {seq}");
            position = seq;
        }
    }
    assert!(gaps > 0);
    let next = feed.publish([r#"{"type":"live","job_id":"j"}"#]);
    assert_eq!(numbers(&mut watcher, 1), [next]);
}
