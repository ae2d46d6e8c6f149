//! Section 5: the multi-job endpoint, which the Overseer UI opens today.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::corpus::corpus;
use crate::harness::oracle::overseer;
use crate::harness::{Client, Daemon, numbered};

const PATH: &str = "/api/v1/websocket";

fn open(daemon: &Daemon) -> Client {
    let mut client = daemon.watch(PATH);
    assert_eq!(client.json()["type"], "connected");
    client
}

/// Subscribes; returns the number from which on the job is watched.
fn subscribe(client: &mut Client, job_id: &str) -> u64 {
    let answer = client.ask(&format!(r#"{{"type":"subscribe","job_id":"{job_id}"}}"#));
    assert_eq!(answer["type"], "subscribed", "{answer}");
    assert_eq!(answer["job_id"], job_id);
    assert!(answer["subscriber_id"].as_str().is_some_and(|id| !id.is_empty()), "{answer}");
    answer["stream_seq"].as_u64().expect("the newest number")
}

#[test]
fn jobs_are_watched_and_released_with_the_answers_of_the_table() {
    let daemon = Daemon::start(&[]);
    let mut feed = daemon.acked_feed();
    let mut client = open(&daemon);
    let before = feed.publish([r#"{"type":"x","job_id":"a","n":0}"#]);
    assert_eq!(subscribe(&mut client, "a"), before);
    assert_eq!(
        client.ask(r#"{"type":"subscribe","job_id":"a"}"#),
        json!({"type": "already_subscribed", "job_id": "a"})
    );
    subscribe(&mut client, "unknown");
    feed.publish([
        r#"{"type":"x","job_id":"a","n":1}"#,
        r#"{"type":"x","job_id":"b","n":2}"#,
        r#"{"type":"x","job_id":"unknown","n":3}"#,
    ]);
    assert_eq!(client.json()["n"], 1);
    assert_eq!(client.json()["n"], 3);
    assert_eq!(
        client.ask(r#"{"type":"unsubscribe","job_id":"a"}"#),
        json!({"type": "unsubscribed", "job_id": "a"})
    );
    for job in ["a", "b"] {
        assert_eq!(
            client.ask(&format!(r#"{{"type":"unsubscribe","job_id":"{job}"}}"#)),
            json!({"type": "not_subscribed", "job_id": job})
        );
    }
    feed.publish([r#"{"type":"x","job_id":"a","n":4}"#, r#"{"type":"x","job_id":"unknown","n":5}"#]);
    assert_eq!(client.json()["n"], 5);
    assert_eq!(client.ask(r#"{"type":"ping"}"#), json!({"type": "pong"}));
}

#[test]
fn nothing_of_a_job_comes_after_it_is_released_even_at_full_speed() {
    // The client asks as fast as it is answered.
    let daemon = Daemon::start(&["--messages-per-second", "1000000"]);
    let mut feed = daemon.acked_feed();
    let mut client = open(&daemon);
    let publisher = std::thread::spawn(move || {
        for start in 0..100 {
            let lines: Vec<String> = (0..200)
                .map(|number| {
                    format!(
                        r#"{{"type":"x","job_id":"{}","n":{}}}"#,
                        ["a", "b"][number % 2],
                        start * 200 + number
                    )
                })
                .collect();
            feed.publish(lines.iter().map(String::as_str));
        }
        feed.publish([r#"{"type":"end","job_id":"b"}"#]);
    });
    subscribe(&mut client, "b");
    let mut is_on = false;
    let mut last = 0;
    let mut of_b = Vec::new();
    let mut changes = 0;
    client.send(r#"{"type":"subscribe","job_id":"a"}"#);
    loop {
        let message = client.json();
        match message["type"].as_str().expect("a type") {
            "subscribed" => {
                is_on = true;
                changes += 1;
                client.send(r#"{"type":"unsubscribe","job_id":"a"}"#);
            }
            "unsubscribed" => {
                is_on = false;
                client.send(r#"{"type":"subscribe","job_id":"a"}"#);
            }
            "end" => break,
            "x" => {
                let seq = message["stream_seq"].as_u64().unwrap();
                assert!(seq > last, "{seq} after {last}");
                last = seq;
                if message["job_id"] == "a" {
                    assert!(is_on, "{message}");
                } else {
                    of_b.push(message["n"].as_u64().unwrap());
                }
            }
            other => panic!("{other}"),
        }
    }
    publisher.join().unwrap();
    assert!(changes > 1);
    assert!(of_b.windows(2).all(|pair| pair[1] == pair[0] + 2), "the other job has no hole");
    assert_eq!(of_b.last(), Some(&19_999));
}

#[test]
fn an_error_is_answered_with_its_job() {
    let daemon = Daemon::start(&["--jobs-per-connection-max", "2"]);
    let mut client = open(&daemon);
    let table = [
        (r#"{"type":"subscribe"}"#, "bad_job_id", Value::Null),
        (r#"{"type":"subscribe","job_id":7}"#, "bad_job_id", Value::Null),
        (r#"{"type":"subscribe","job_id":"a b"}"#, "bad_job_id", json!("a b")),
        (r#"{"type":"unsubscribe","job_id":""}"#, "bad_job_id", json!("")),
        (r#"{"type":"subscribe","job_id":"a","since":"then"}"#, "bad_since", json!("a")),
        (r#"{"type":"subscribe","job_id":"a","since":1.5}"#, "bad_since", json!("a")),
        (r#"{"type":"dance"}"#, "unknown_action", Value::Null),
    ];
    for (message, code, job_id) in table {
        let answer = client.ask(message);
        assert_eq!((&answer["code"], &answer["job_id"]), (&json!(code), &job_id), "{message}");
    }
    subscribe(&mut client, "a");
    subscribe(&mut client, "b");
    let answer = client.ask(r#"{"type":"subscribe","job_id":"c"}"#);
    assert_eq!((&answer["code"], &answer["job_id"]), (&json!("too_many_jobs"), &json!("c")));
    assert_eq!(client.ask(r#"{"type":"unsubscribe","job_id":"a"}"#)["type"], "unsubscribed");
    subscribe(&mut client, "c");
}

#[test]
fn a_page_may_subscribe_to_a_thousand_jobs_at_once() {
    let daemon = Daemon::start(&[]);
    let mut feed = daemon.acked_feed();
    let mut client = open(&daemon);
    for job in 0..1024 {
        client.send(&format!(r#"{{"type":"subscribe","job_id":"job-{job}"}}"#));
    }
    let mut subscribers = BTreeSet::new();
    for _ in 0..1024 {
        let answer = client.json();
        assert_eq!(answer["type"], "subscribed", "{answer}");
        subscribers.insert(answer["subscriber_id"].as_str().unwrap().to_owned());
    }
    assert_eq!(client.ask(r#"{"type":"subscribe","job_id":"one-more"}"#)["code"], "too_many_jobs");
    let lines: Vec<String> =
        (0..1024).rev().map(|job| format!(r#"{{"type":"x","job_id":"job-{job}"}}"#)).collect();
    feed.publish(lines.iter().map(String::as_str));
    for job in (0..1024).rev() {
        assert_eq!(client.json()["job_id"], format!("job-{job}"));
    }
}

#[test]
fn each_shape_comes_in_the_dialect_of_the_ui() {
    let daemon = Daemon::start(&[]);
    let mut feed = daemon.acked_feed();
    let mut client = open(&daemon);
    subscribe(&mut client, "j");
    let table = [
        (
            r#"{"type":"execution_event","job_id":"j","event":{"event_id":"e","routine_id":"r","event_type":"slot_call","data":{"slot_name":"s"}}}"#,
            "slot_called",
            json!({"slot_name": "s", "routine_id": "r", "event_id": "e"}),
        ),
        (
            r#"{"type":"execution_event","job_id":"j","event":{"event_id":"e","routine_id":"r","event_type":"event_emit","data":{"event_name":"n"}}}"#,
            "event_emitted",
            json!({"event_name": "n", "routine_id": "r", "event_id": "e"}),
        ),
        (
            r#"{"type":"execution_event","job_id":"j","event":{"event_id":"e","event_type":"error","data":{"error":"bad"}},"routine_id":"outer"}"#,
            "execution_event",
            json!({"error": "bad", "routine_id": "outer", "event_id": "e"}),
        ),
        (
            r#"{"type":"breakpoint_hit","job_id":"j","breakpoint":{"breakpoint_id":"b","type":"routine","routine_id":"r","slot_name":"s","event_name":"n"},"context":{"routine_id":"r","variables":{"x":1e400}},"data":{"gone":true}}"#,
            "breakpoint_hit",
            Value::Null,
        ),
        (r#"{"type":"breakpoint_hit","job_id":"j","data":{"kept":1}}"#, "breakpoint_hit", json!({"kept": 1})),
        (
            r#"{"type":"slot_called","job_id":"j","routine_id":"r","data":[]}"#,
            "slot_called",
            json!({"routine_id": "r"}),
        ),
        (r#"{"type":"job_resumed","job_id":"j"}"#, "job_resumed", json!({})),
        (
            r#"{"type":"routine_failed","job_id":"j","routine_id":null,"data":null}"#,
            "routine_failed",
            json!({}),
        ),
        (
            r#"{"type":"routine_started","job_id":"j","routine_id":"r","data":{"routine_id":"own"}}"#,
            "routine_started",
            json!({"routine_id": "own"}),
        ),
    ];
    for (line, kind, data) in &table {
        let seq = feed.publish([*line]);
        let text = client.text();
        assert!(
            text.starts_with(&format!("{{\"stream_seq\":{seq},\"type\":\"{kind}\",\"job_id\":\"j\"")),
            "{text}"
        );
        if data.is_null() {
            // A number beyond any parser here: compared as text.
            assert!(
                text.contains(r#""data":{"breakpoint_id":"b","routine_id":"r","slot_name":"s","event_name":"n","variables":{"x":1e400}}"#),
                "{text}"
            );
        } else {
            let event: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(event["data"], *data, "{line}");
        }
    }
}

#[test]
fn every_event_of_the_corpus_comes_as_the_dialect_says() {
    let daemon = Daemon::start(&[]);
    let mut feed = daemon.acked_feed();
    let corpus = corpus();
    let jobs: BTreeSet<String> = corpus.iter().map(|line| line.job_id.clone()).collect();
    let mut client = open(&daemon);
    for job in &jobs {
        subscribe(&mut client, job);
    }
    let newest = feed.publish(corpus.iter().map(|line| line.text.as_str()));
    let first = newest + 1 - corpus.len() as u64;
    let mut shapes: BTreeMap<String, u64> = BTreeMap::new();
    for (seq, line) in (first..).zip(&corpus) {
        let text = client.event();
        let plain = numbered(&line.text, seq);
        let original: Value = serde_json::from_str(&plain).unwrap();
        let translated: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(translated, overseer(&original), "{}", line.text);
        if translated == original {
            assert_eq!(text, plain, "what is in the dialect already keeps its bytes");
        }
        assert!(text.starts_with(&format!("{{\"stream_seq\":{seq},")), "{text}");
        *shapes.entry(translated["type"].to_string()).or_default() += 1;
    }
    for kind in [
        "\"slot_called\"",
        "\"event_emitted\"",
        "\"breakpoint_hit\"",
        "\"routine_started\"",
        "\"job_failed\"",
    ] {
        assert!(shapes.contains_key(kind), "the corpus has {shapes:?}");
    }
}

#[test]
fn the_past_of_a_job_comes_whole_before_anything_else() {
    let daemon = Daemon::start(&[]);
    let mut feed = daemon.acked_feed();
    let lines: Vec<String> = (0..3_000)
        .map(|number| format!(r#"{{"type":"x","job_id":"{}","n":{number}}}"#, ["a", "b", "c"][number % 3]))
        .collect();
    let newest = feed.publish(lines.iter().map(String::as_str));
    let mut client = open(&daemon);
    subscribe(&mut client, "c");
    client.send(r#"{"type":"subscribe","job_id":"a","since":"start"}"#);
    client.send(&format!(r#"{{"type":"subscribe","job_id":"b","since":{}}}"#, newest - 300));
    feed.publish(lines.iter().map(String::as_str));
    let mut past: BTreeMap<String, u64> = BTreeMap::new();
    let mut order = Vec::new();
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    while counts.values().sum::<u64>() < 1_000 + 100 + 3_000 {
        let message = client.json();
        let job = message["job_id"].as_str().expect("a job").to_owned();
        match message["type"].as_str() {
            Some("subscribed") => {
                past.insert(job, message["stream_seq"].as_u64().unwrap());
            }
            Some("x") => {
                *counts.entry(job.clone()).or_default() += 1;
                order.push((job, message["stream_seq"].as_u64().unwrap()));
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(counts["a"], 2_000);
    assert_eq!(counts["b"], 1_100);
    assert_eq!(counts["c"], 1_000);
    // Each job's own order always holds; after the pasts there is one order for all.
    let replayed_to = past.values().copied().max().unwrap();
    let live: Vec<u64> = order.iter().map(|(_, seq)| *seq).filter(|seq| *seq > replayed_to).collect();
    assert!(live.is_sorted());
    for job in ["a", "b", "c"] {
        let own: Vec<u64> = order.iter().filter(|(of, _)| of == job).map(|(_, seq)| *seq).collect();
        assert!(own.windows(2).all(|pair| pair[0] < pair[1]), "{job}");
    }
    let first_of_c = order.iter().position(|(job, _)| job == "c").expect("c's events");
    let past_of_a = order
        .iter()
        .take_while(|(job, seq)| job != "a" || *seq <= past["a"])
        .filter(|(job, _)| job == "a")
        .count();
    let last_past_of_a =
        order.iter().rposition(|(job, seq)| job == "a" && *seq <= past["a"]).expect("a's past");
    assert!(past_of_a >= 1_000);
    // c was subscribed first, so it may have had live events before the replay began, but none within it.
    let within = order[..last_past_of_a].iter().skip_while(|(job, _)| job == "c");
    assert!(
        within.clone().all(|(job, _)| job != "c"),
        "c at {first_of_c} within a's past up to {last_past_of_a}"
    );
}

#[test]
fn filters_go_across_all_jobs_and_names_match_in_either_dialect() {
    let daemon = Daemon::start(&[]);
    let mut feed = daemon.acked_feed();
    let mut client = open(&daemon);
    subscribe(&mut client, "a");
    subscribe(&mut client, "b");
    let slot_call = |job: &str| {
        format!(r#"{{"type":"execution_event","job_id":"{job}","event":{{"event_type":"slot_call"}}}}"#)
    };
    let lines = [
        slot_call("a"),
        slot_call("b"),
        r#"{"type":"slot_called","job_id":"a"}"#.to_owned(),
        r#"{"type":"x","job_id":"b"}"#.to_owned(),
    ];
    let table: [(&str, &[usize]); 4] = [
        (r#"["slot_called"]"#, &[0, 1, 2]),
        (r#"["slot_call"]"#, &[0, 1, 2]),
        (r#"["execution_event"]"#, &[0, 1]),
        (r#"["x"]"#, &[3]),
    ];
    for (names, expected) in table {
        client.ask(r#"{"action":"subscribe_all"}"#);
        client.ask(&format!(r#"{{"action":"subscribe","events":{names}}}"#));
        let newest = feed.publish(lines.iter().map(String::as_str));
        for index in expected {
            assert_eq!(client.json()["stream_seq"], newest - 3 + *index as u64, "{names}");
        }
    }
    let mut client = daemon.watch("/api/v1/ws?events=x");
    client.json();
    subscribe(&mut client, "b");
    feed.publish(lines.iter().map(String::as_str));
    assert_eq!(client.json()["type"], "x");
}

#[test]
fn a_gap_names_its_job() {
    let daemon = Daemon::start(&["--history-bytes", "65536"]);
    let mut feed = daemon.acked_feed();
    let line = format!(r#"{{"type":"x","job_id":"a","pad":"{}"}}"#, "x".repeat(1_000));
    let first = feed.publish([line.as_str()]);
    (0..20).for_each(|_| {
        feed.publish([line.as_str(); 10]);
    });
    let mut client = open(&daemon);
    client.send(r#"{"type":"subscribe","job_id":"a","since":"start"}"#);
    assert_eq!(client.json()["type"], "subscribed");
    let gap = client.json();
    assert_eq!(
        (&gap["type"], &gap["reason"], &gap["job_id"]),
        (&json!("stream:gap"), &json!("expired"), &json!("a"))
    );
    assert_eq!(gap["from"], 1);
    let next = client.json()["stream_seq"].as_u64().unwrap();
    assert_eq!(gap["to"], next - 1);
    assert_eq!(gap["missed"], next - first);
}
