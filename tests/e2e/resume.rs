//! Watchers that are cut off at random and come back, while events flow as fast as they are taken.

use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use fastrand::Rng;
use serde_json::Value;

use crate::harness::oracle::{Names, Seen, Topic, read_stream};
use crate::harness::{Client, Daemon, seq_of};

const PUBLISHERS: u64 = 3;
const EVENTS_EACH: u64 = 150_000;
const JOBS: u64 = 5;

/// Watches from `last` on, is cut off again and again, and returns everything up to `end`.
fn watch_in_pieces(
    address: std::net::SocketAddr,
    path: &str,
    mut last: u64,
    seed: u64,
    is_over: &AtomicBool,
) -> (Vec<String>, u64) {
    let mut random = Rng::with_seed(seed);
    let mut texts = Vec::new();
    let mut cuts = 0;
    loop {
        let separator = if path.contains('?') { '&' } else { '?' };
        // The end is read first: what is requested after it is everything.
        let is_last = is_over.load(Ordering::SeqCst);
        let mut watcher = Client::connect(address, &format!("{path}{separator}since={last}"));
        let newest = watcher.connected();
        let mut left = if is_last { u64::MAX } else { random.u64(..3_000) };
        while left > 0 && (is_last || !is_over.load(Ordering::SeqCst)) {
            if is_last && last >= newest {
                return (texts, cuts);
            }
            let text = watcher.text();
            assert!(!text.contains("\"type\":\"stream:gap\""), "{path}: {text}");
            if let Some(seq) = seq_of(&text) {
                last = seq;
                texts.push(text);
            } else if text.starts_with("{\"type\":\"ping\"") {
                // Everything up to there was sent: as good a place as an event to return to.
                last =
                    serde_json::from_str::<Value>(&text).unwrap()["stream_seq"].as_u64().unwrap().max(last);
            }
            left -= 1;
        }
        cuts += 1;
        match random.u64(..3) {
            0 => drop(watcher.socket.close(None)),
            1 => drop(watcher.socket.get_ref().shutdown(Shutdown::Both)),
            _ => {}
        }
    }
}

#[test]
fn the_pieces_of_a_returning_watcher_have_no_gap_and_no_duplicate() {
    let daemon = Daemon::start(&["--heartbeat-seconds", "0.2"]);
    let mut all = daemon.watch("/api/ws/events");
    let start = all.connected();
    let is_over = Arc::new(AtomicBool::new(false));
    let watched: Vec<(Topic, Names)> = vec![
        (Topic::All, Names::All),
        (Topic::Job("job-0".to_owned()), Names::All),
        (Topic::Job("job-1".to_owned()), Names::only(&["x", "end"])),
        (Topic::Flow("flow".to_owned()), Names::only(&["rare", "end"])),
        (Topic::Debug("job-2".to_owned()), Names::All),
        (Topic::Flow("flow".to_owned()), Names::All),
    ];
    let watchers: Vec<_> = (1..)
        .zip(&watched)
        .map(|(seed, (topic, names))| {
            let (address, is_over) = (daemon.address, is_over.clone());
            let path = match names {
                Names::Only(names) => format!("{}?events={}", topic.path(), names.join(",")),
                _ => topic.path(),
            };
            thread::spawn(move || watch_in_pieces(address, &path, start, seed * 7_919, &is_over))
        })
        .collect();
    let reader = thread::spawn(move || all.events((PUBLISHERS * EVENTS_EACH + JOBS) as usize));
    let publishers: Vec<_> = (0..PUBLISHERS)
        .map(|publisher| {
            let mut feed = daemon.acked_feed();
            thread::spawn(move || {
                let mut random = Rng::with_seed(publisher + 1);
                let mut number = 0;
                while number < EVENTS_EACH {
                    let count = (1 + random.u64(..400)).min(EVENTS_EACH - number);
                    let lines: Vec<String> = (number..number + count)
                        .map(|number| {
                            let job = random.u64(..JOBS);
                            let kind = ["x", "y", "job_x", "x", "rare"][if number % 50 == 0 { 4 } else { number as usize % 4 }];
                            format!(r#"{{"type":"{kind}","job_id":"job-{job}","flow_id":"flow","p":{publisher},"n":{number}}}"#)
                        })
                        .collect();
                    feed.lines(lines.iter().map(String::as_str));
                    number += count;
                }
                assert!(feed.sync().is_empty());
            })
        })
        .collect();
    publishers.into_iter().for_each(|publisher| publisher.join().unwrap());
    let ends: Vec<String> =
        (0..JOBS).map(|job| format!(r#"{{"type":"end","job_id":"job-{job}","flow_id":"flow"}}"#)).collect();
    let newest = daemon.acked_feed().publish(ends.iter().map(String::as_str));
    is_over.store(true, Ordering::SeqCst);
    let stream: Vec<Seen> = read_stream(&reader.join().unwrap());
    assert_eq!(stream.last().map(|event| event.seq), Some(newest));
    let mut total_cuts = 0;
    for ((topic, names), watcher) in watched.iter().zip(watchers) {
        let (received, cuts) = watcher.join().unwrap();
        let expected: Vec<&String> = stream
            .iter()
            .filter(|event| topic.has(event) && names.want(event))
            .map(|event| &event.text)
            .collect();
        let difference =
            received.iter().zip(&expected).position(|(received, expected)| received != *expected);
        assert_eq!(difference, None, "{topic:?} {names:?}");
        assert_eq!(received.len(), expected.len(), "{topic:?} {names:?}");
        total_cuts += cuts;
    }
    println!("{total_cuts} cuts");
    assert!(total_cuts > 50, "{total_cuts} cuts only");
}
