//! The real corpus through the daemon: several publishers at once, clients of all kinds that come and go, and a naive
//! oracle.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use fastrand::Rng;
use serde_json::Value;

use crate::harness::http_feed::HttpFeed;
use crate::harness::http_stream::HttpStream;
use crate::harness::oracle::{Names, Seen, Topic, overseer, read_stream};
use crate::harness::transcript::Transcript;
use crate::harness::{Client, Daemon, numbered, seq_of};

/// One line of the corpus.
#[derive(Clone)]
pub struct Line {
    pub text: String,
    pub job_id: String,
}

/// Events of real Routilux runs.
pub fn corpus() -> Vec<Line> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/events.ndjson");
    let text = fs::read_to_string(path).expect("the corpus is part of the project");
    let lines = text.lines().map(|line| {
        let event: Value = serde_json::from_str(line).expect("the corpus is JSON");
        Line { text: line.to_owned(), job_id: event["job_id"].as_str().expect("a job").to_owned() }
    });
    lines.collect()
}

const PUBLISHERS: usize = 4;
/// How often the corpus is published.
const ROUNDS: usize = 4;
/// Watchers that come and go.
const GUESTS: u64 = 8;

/// Each job's lines go to one publisher, so that their order is kept.
fn publisher_of(job_id: &str) -> usize {
    job_id.bytes().map(usize::from).sum::<usize>() % PUBLISHERS
}

/// The names that filters are made of.
const NAMES: [&str; 12] = [
    "job_started",
    "job_completed",
    "job_failed",
    "routine_started",
    "routine_completed",
    "execution_event",
    "slot_call",
    "event_emit",
    "error",
    "breakpoint_hit",
    "metrics",
    "never_seen",
];

#[test]
fn every_client_gets_what_a_naive_oracle_computes() {
    let corpus = corpus();
    let mut daemon = Daemon::start(&[
        "--heartbeat-seconds",
        "0.5",
        "--metrics-seconds",
        "0.3",
        "--http-publish",
        "anyone",
    ]);
    let address = daemon.address;
    let topics = Arc::new(topics(&corpus));

    let mut all = daemon.watch("/api/ws/events");
    let before = all.connected();
    let reader = thread::spawn(move || all.until_close());
    let residents = start_residents(address, &topics);
    let readers = start_readers(address, &topics);
    let many = start_many(address, &corpus);
    let foreign = start_foreign(address, &topics);
    // All except the guests are there before the first event.
    daemon.wait_for_connections(1 + residents.len() + readers.len() + many.len() + foreign.len());

    let is_over = Arc::new(AtomicBool::new(false));
    let guests: Vec<_> = (0..GUESTS)
        .map(|guest| {
            let (topics, is_over) = (topics.clone(), is_over.clone());
            thread::spawn(move || visit(address, &topics, before, guest, &is_over))
        })
        .collect();
    let publishers: Vec<_> = (0..PUBLISHERS).map(|publisher| publish(&daemon, &corpus, publisher)).collect();
    publishers.into_iter().for_each(|publisher| publisher.join().unwrap());
    is_over.store(true, Ordering::SeqCst);
    let mut transcripts: Vec<Transcript> =
        guests.into_iter().flat_map(|guest| guest.join().unwrap()).collect();
    let visits = transcripts.len();
    daemon.terminate();

    let (texts, _) = reader.join().unwrap();
    let texts: Vec<String> = texts.into_iter().filter(|text| seq_of(text).is_some()).collect();
    let stream = read_stream(&texts);
    check_publishers(&stream, before, &corpus);
    transcripts
        .extend(residents.into_iter().chain(readers).chain(foreign).map(|resident| resident.join().unwrap()));
    let failures: Vec<String> =
        transcripts.iter().filter_map(|transcript| transcript.check(&stream).err()).collect();
    assert!(failures.is_empty(), "{} of {}:\n{}", failures.len(), transcripts.len(), failures.join("\n"));
    for client in many {
        check_many(&stream, &client.join().unwrap());
    }
    assert!(visits > 3 * GUESTS as usize, "{visits} visits only");
    assert_eq!(daemon.wait().code(), Some(0), "{}", daemon.stderr());
}

/// Everything, each flow, and some jobs in both forms.
fn topics(corpus: &[Line]) -> Vec<Topic> {
    let mut topics = vec![Topic::All];
    let mut jobs: Vec<&String> = corpus.iter().map(|line| &line.job_id).collect();
    jobs.sort_unstable();
    jobs.dedup();
    for (index, job) in jobs.into_iter().enumerate() {
        topics.push(if index % 3 == 0 { Topic::Debug(job.clone()) } else { Topic::Job(job.clone()) });
    }
    for line in corpus {
        let event: Value = serde_json::from_str(&line.text).unwrap();
        if let Some(flow) = event["flow_id"].as_str()
            && !topics.iter().any(|topic| matches!(topic, Topic::Flow(known) if known == flow))
        {
            topics.push(Topic::Flow(flow.to_owned()));
        }
    }
    topics
}

fn publish(daemon: &Daemon, corpus: &[Line], publisher: usize) -> JoinHandle<()> {
    let own = corpus.iter().filter(|line| publisher_of(&line.job_id) == publisher);
    let lines: Vec<String> = own.map(|line| line.text.clone()).collect();
    let mut random = Rng::with_seed(publisher as u64);
    if publisher % 2 == 1 {
        // Requests of any size, one behind the other on one connection.
        let mut feed = HttpFeed::connect(daemon.address);
        return thread::spawn(move || {
            for _ in 0..ROUNDS {
                let mut lines = lines.as_slice();
                while !lines.is_empty() {
                    let (now, later) = lines.split_at((1 + random.usize(..200)).min(lines.len()));
                    feed.publish(now.iter().map(String::as_str));
                    lines = later;
                    thread::sleep(Duration::from_millis(random.u64(..80)));
                }
            }
        });
    }
    let mut feed = daemon.acked_feed();
    thread::spawn(move || {
        for _ in 0..ROUNDS {
            let mut lines = lines.as_slice();
            while !lines.is_empty() {
                let (now, later) = lines.split_at((1 + random.usize(..80)).min(lines.len()));
                feed.lines(now.iter().map(String::as_str));
                lines = later;
                // The pace of an engine, so that clients come and go meanwhile.
                thread::sleep(Duration::from_millis(random.u64(..40)));
            }
        }
        assert!(feed.sync().is_empty());
    })
}

/// Checks that the stream is what the publishers wrote, each in its order, and the daemon's own metrics.
fn check_publishers(stream: &[Seen], before: u64, corpus: &[Line]) {
    let mut expected: Vec<_> = (0..PUBLISHERS)
        .map(|publisher| {
            let own = corpus.iter().filter(move |line| publisher_of(&line.job_id) == publisher);
            let own: Vec<&Line> = own.collect();
            (0..ROUNDS).flat_map(move |_| own.clone()).peekable()
        })
        .collect();
    let mut own_metrics = 0;
    for (seq, event) in (before + 1..).zip(stream) {
        assert_eq!(event.seq, seq, "numbers have no holes");
        let job = event.job_id.as_ref().expect("each line of the corpus has a job");
        let publisher = &mut expected[publisher_of(job)];
        if publisher.next_if(|line| numbered(&line.text, seq) == event.text).is_none() {
            assert!(event.text.contains(r#","type":"metrics","job_id":""#), "{}", event.text);
            own_metrics += 1;
        }
    }
    assert!(expected.iter_mut().all(|publisher| publisher.peek().is_none()), "lines are missing");
    assert!(own_metrics > 0);
}

/// Watchers that stay from the first event to the last, some of which change their filters.
fn start_residents(address: SocketAddr, topics: &Arc<Vec<Topic>>) -> Vec<JoinHandle<Transcript>> {
    let openings = [
        (0, Names::All),
        (0, Names::only(&["job_failed", "error"])),
        (1, Names::All),
        (2, Names::All),
        (3, Names::only(&["slot_call", "routine_failed"])),
        (4, Names::Only(vec!["metrics".to_owned()])),
    ];
    let flows = topics.iter().enumerate().filter(|(_, topic)| matches!(topic, Topic::Flow(_)));
    let flows: Vec<_> = flows.map(|(index, _)| (index, Names::All)).collect();
    let resident = |(index, (topic, names)): (usize, (usize, Names))| {
        let topics = topics.clone();
        thread::spawn(move || {
            let topic = topics[topic].clone();
            let mut client = Client::connect(address, &path_of(&topic, &names));
            let mut random = Rng::with_seed(100 + index as u64);
            let mut texts = Vec::new();
            // Every second one keeps its filter.
            let mut until_change = if index % 2 == 0 { 50 + random.u64(..300) } else { u64::MAX };
            loop {
                match client.read() {
                    Ok(tungstenite::Message::Text(text)) => texts.push(text.as_str().to_owned()),
                    Ok(_) => {}
                    Err(tungstenite::Error::ConnectionClosed) => break,
                    Err(error) => panic!("{error}"),
                }
                until_change = until_change.saturating_sub(1);
                if until_change == 0 {
                    until_change = 50 + random.u64(..300);
                    // From the daemon's goodbye on, it accepts nothing.
                    let _ = client.socket.send(tungstenite::Message::text(filter_change(&mut random)));
                }
            }
            Transcript { name: format!("resident {index}"), topic, names, since: None, texts, is_whole: true }
        })
    };
    openings.into_iter().chain(flows).enumerate().map(resident).collect()
}

/// Watchers over plain HTTP that stay, in both forms, each with a filter of its own.
fn start_readers(address: SocketAddr, topics: &[Topic]) -> Vec<JoinHandle<Transcript>> {
    let openings = [
        (0, Names::All),
        (0, Names::only(&["slot_call", "job_completed"])),
        (1, Names::All),
        (2, Names::only(&["error", "routine_completed"])),
    ];
    let flow = topics.iter().position(|topic| matches!(topic, Topic::Flow(_))).expect("a flow");
    let openings = openings.into_iter().chain([(flow, Names::All)]);
    let reader = |(topic, names): (usize, Names), form: &'static str| {
        let topic = topics[topic].clone();
        thread::spawn(move || {
            let accept = format!("Accept: {form}\r\n");
            let mut stream = HttpStream::open(address, &path_of(&topic, &names), &accept);
            let texts = std::iter::from_fn(|| stream.next().map(|told| told.text)).collect();
            let name = format!("reader of {form}");
            Transcript { name, topic, names, since: None, texts, is_whole: true }
        })
    };
    let forms = ["text/event-stream", "application/x-ndjson"];
    openings.flat_map(|opening| forms.map(|form| reader(opening.clone(), form))).collect()
}

fn path_of(topic: &Topic, names: &Names) -> String {
    match names {
        Names::Only(names) => format!("{}?events={}", topic.path(), names.join(",")),
        _ => topic.path(),
    }
}

fn filter_change(random: &mut Rng) -> String {
    let names: Vec<&str> = (0..random.u64(..4)).map(|_| NAMES[random.usize(..NAMES.len())]).collect();
    match random.u64(..3) {
        0 => r#"{"action":"subscribe_all"}"#.to_owned(),
        1 => format!(r#"{{"action":"subscribe","events":{}}}"#, serde_json::json!(names)),
        _ => format!(r#"{{"action":"unsubscribe","events":{}}}"#, serde_json::json!(names)),
    }
}

/// A client that comes, watches for a while, and leaves, again and again.
fn visit(
    address: SocketAddr,
    topics: &[Topic],
    before: u64,
    guest: u64,
    is_over: &AtomicBool,
) -> Vec<Transcript> {
    let mut random = Rng::with_seed(1_000 + guest);
    let mut transcripts = Vec::new();
    let mut newest = before;
    while !is_over.load(Ordering::SeqCst) {
        let topic = topics[random.usize(..topics.len())].clone();
        let names = match random.u64(..3) {
            0 => Names::Only((0..3).map(|_| NAMES[random.usize(..NAMES.len())].to_owned()).collect()),
            _ => Names::All,
        };
        let since = match random.u64(..3) {
            0 => None,
            1 => Some(0),
            _ => Some(before + random.u64(..newest - before + 1)),
        };
        let mut path = path_of(&topic, &names);
        let separator = if path.contains('?') { '&' } else { '?' };
        match since {
            None => {}
            Some(0) => path.push_str(&format!("{separator}since=start")),
            Some(number) => path.push_str(&format!("{separator}since={number}")),
        }
        let form = ["text/event-stream", "application/x-ndjson", ""][random.usize(..3)];
        if !form.is_empty() {
            let mut stream = HttpStream::open(address, &path, &format!("Accept: {form}\r\n"));
            let until = Instant::now() + Duration::from_millis(random.u64(..500));
            let mut texts = Vec::new();
            while texts.len() < 1_500 && Instant::now() < until {
                texts.push(stream.next().expect("the stream goes on").text);
            }
            newest = texts.iter().filter_map(|text| seq_of(text)).fold(newest, u64::max);
            let name = format!("guest {guest}, visit {} with {form}", transcripts.len());
            transcripts.push(Transcript { name, topic, names, since, texts, is_whole: false });
            continue;
        }
        let mut client = Client::connect(address, &path);
        let mut texts = vec![client.text()];
        let mut left = random.u64(..1_500);
        let until = Instant::now() + Duration::from_millis(random.u64(..500));
        let change_at = if random.u64(..3) == 0 { random.u64(..500) } else { u64::MAX };
        // A ping comes with each heartbeat at the latest, so no wait is long.
        while left > 0 && Instant::now() < until {
            if left == change_at {
                client.send(&filter_change(&mut random));
            }
            let text = client.text();
            newest = seq_of(&text).unwrap_or(newest).max(newest);
            texts.push(text);
            left -= 1;
        }
        if random.bool() {
            let _ = client.socket.close(None);
        }
        let name = format!("guest {guest}, visit {}", transcripts.len());
        transcripts.push(Transcript { name, topic, names, since, texts, is_whole: false });
    }
    transcripts
}

/// Clients with other libraries, in other languages.
fn start_foreign(address: SocketAddr, topics: &[Topic]) -> Vec<JoinHandle<Transcript>> {
    let flow = topics.iter().find(|topic| matches!(topic, Topic::Flow(_))).expect("a flow");
    let debug = topics.iter().find(|topic| matches!(topic, Topic::Debug(_))).expect("a job");
    let table = [
        (Topic::All, Names::All, vec![]),
        (flow.clone(), Names::only(&["job_started", "slot_call"]), vec![]),
        (
            debug.clone(),
            Names::All,
            vec![
                r#"{"action":"unsubscribe","events":["slot_call"]}"#,
                r#"{"type":"pong"}"#,
                r#"{"action":"subscribe","events":["error","routine_failed","never_seen"]}"#,
            ],
        ),
    ];
    let mut clients = Vec::new();
    for (topic, names, messages) in table {
        for program in [python(), node()] {
            let url = format!("ws://{address}{}", path_of(&topic, &names));
            let (topic, names) = (topic.clone(), names.clone());
            let mut command = Command::new(&program[0]);
            command
                .args(&program[1..])
                .arg(url)
                .args(&messages)
                .stdin(Stdio::null())
                .stderr(Stdio::inherit());
            clients.push(thread::spawn(move || {
                let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
                assert!(output.status.success(), "{command:?}");
                let text = String::from_utf8(output.stdout).expect("UTF-8");
                let mut texts: Vec<String> = text.lines().map(str::to_owned).collect();
                assert_eq!(texts.pop().as_deref(), Some("closed 1012"), "{command:?}");
                Transcript { name: format!("{command:?}"), topic, names, since: None, texts, is_whole: true }
            }));
        }
    }
    clients
}

pub fn python() -> Vec<String> {
    python_running("python_watcher.py")
}

/// Where `tools/test` puts the Python environment: beside the builds.
pub fn python_running(name: &str) -> Vec<String> {
    let target = Path::new(env!("CARGO_BIN_EXE_luxcast")).ancestors().nth(2).expect("the target directory");
    let python = target.join("e2e-venv/bin/python");
    assert!(python.exists(), "{} is not there: run tools/test, which makes it", python.display());
    vec![python.display().to_string(), script(name).display().to_string()]
}

pub fn node() -> Vec<String> {
    assert!(
        script("node_modules/ws").exists(),
        "the Node library ws is not there: run tools/test, which installs it"
    );
    vec!["node".to_owned(), script("node_watcher.mjs").display().to_string()]
}

pub fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e").join(name)
}

/// Clients of the multi-job endpoint that stay; the second subscribes to its jobs one by one, with their past.
fn start_many(address: SocketAddr, corpus: &[Line]) -> Vec<JoinHandle<Vec<String>>> {
    let mut jobs: Vec<String> = corpus.iter().map(|line| line.job_id.clone()).collect();
    jobs.sort_unstable();
    jobs.dedup();
    [false, true]
        .map(|is_late| {
            let jobs = jobs.clone();
            thread::spawn(move || {
                let mut client = Client::connect(address, "/api/v1/websocket");
                let mut jobs = jobs.iter().step_by(2);
                let mut subscribe = |client: &mut Client| {
                    if let Some(job) = jobs.next() {
                        let since = if is_late { r#","since":"start""# } else { "" };
                        client.send(&format!(r#"{{"type":"subscribe","job_id":"{job}"{since}}}"#));
                        return true;
                    }
                    false
                };
                if is_late {
                    subscribe(&mut client);
                } else {
                    while subscribe(&mut client) {}
                }
                let mut texts = Vec::new();
                loop {
                    match client.read() {
                        Ok(tungstenite::Message::Text(text)) => texts.push(text.as_str().to_owned()),
                        Ok(_) => {}
                        Err(tungstenite::Error::ConnectionClosed) => return texts,
                        Err(error) => panic!("{error}"),
                    }
                    if is_late && texts.len() % 40 == 0 {
                        subscribe(&mut client);
                    }
                }
            })
        })
        .into()
}

fn check_many(stream: &[Seen], texts: &[String]) {
    let mut jobs: BTreeMap<String, (Option<u64>, Vec<Value>)> = BTreeMap::new();
    let mut last = 0;
    let mut replayed_to = 0;
    for text in texts {
        let message: Value = serde_json::from_str(text).unwrap();
        let job = message["job_id"].as_str().unwrap_or_default().to_owned();
        match (message["type"].as_str().expect("a type"), seq_of(text)) {
            ("subscribed", _) => {
                let newest = message["stream_seq"].as_u64().unwrap();
                replayed_to = newest;
                assert!(jobs.insert(job, (Some(newest), Vec::new())).is_none());
            }
            (_, Some(seq)) => {
                let (_, received) = jobs.get_mut(&job).unwrap_or_else(|| panic!("not subscribed: {text}"));
                received.push(message);
                if seq > replayed_to {
                    assert!(seq > last, "{seq} after {last}");
                    last = seq;
                }
            }
            ("connected" | "ping" | "pong" | "connection:status", None) => {}
            _ => panic!("{text}"),
        }
    }
    let is_late =
        jobs.values().any(|(newest, _)| *newest > jobs.values().map(|(newest, _)| *newest).min().unwrap());
    for (job, (newest, received)) in &jobs {
        let from = if is_late { 0 } else { newest.unwrap() };
        let of_job = stream.iter().filter(|event| event.job_id.as_ref() == Some(job) && event.seq > from);
        let expected: Vec<Value> =
            of_job.map(|event| overseer(&serde_json::from_str(&event.text).unwrap())).collect();
        let difference = received.iter().zip(&expected).position(|(received, expected)| received != expected);
        assert_eq!((difference, received.len()), (None, expected.len()), "{job}");
    }
    assert!(jobs.len() > 20);
}
