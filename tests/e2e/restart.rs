//! Restarts: a clean one with `state_dir` is not noticed; after any other, every loss is reported.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::Value;
use tungstenite::Message;

use crate::harness::daemon::is_there;
use crate::harness::oracle::{Topic, read_stream};
use crate::harness::{Client, Daemon, PATIENCE, Scratch, Setup, luxcast, seq_of, wait_until};

/// A place for successive daemons: state and socket stay.
struct Home {
    scratch: Scratch,
}

impl Home {
    fn new() -> Self {
        Self { scratch: Scratch::new() }
    }

    fn state(&self) -> std::path::PathBuf {
        self.scratch.path().join("state")
    }

    fn flags(&self) -> Vec<String> {
        let (state, ingest) = (self.state(), self.scratch.path().join("ingest.sock"));
        let path = |path: &Path| path.to_str().expect("the path is UTF-8").to_owned();
        vec!["--state-dir".to_owned(), path(&state), "--ingest".to_owned(), path(&ingest)]
    }

    fn start(&self, flags: &[&str]) -> Daemon {
        let own = self.flags();
        let all: Vec<&str> = own.iter().map(String::as_str).chain(flags.iter().copied()).collect();
        Setup::default().flags(&all).start()
    }
}

fn line(number: u64) -> String {
    format!(r#"{{"type":"x","job_id":"j","n":{number}}}"#)
}

fn publish(daemon: &Daemon, numbers: std::ops::Range<u64>) -> u64 {
    let lines: Vec<String> = numbers.map(line).collect();
    daemon.acked_feed().publish(lines.iter().map(String::as_str))
}

/// The `n` of each event, and the gaps, up to the number `newest`.
fn read_up_to(watcher: &mut Client, newest: u64) -> (Vec<u64>, Vec<Value>) {
    let (mut numbers, mut gaps) = (Vec::new(), Vec::new());
    let mut last = 0;
    while last < newest {
        let text = watcher.text();
        let message: Value = serde_json::from_str(&text).expect("JSON");
        match seq_of(&text) {
            Some(seq) => {
                last = seq;
                numbers.extend(message["n"].as_u64());
            }
            None if message["type"] == "stream:gap" => gaps.push(message),
            None => {}
        }
    }
    (numbers, gaps)
}

/// Publishes lines 1 to `total` under a name, each once, whatever happens to the daemon. `progress` is the last
/// acknowledged line.
fn publish_through_restarts(ingest: &Path, name: &str, total: u64, progress: &AtomicU64) {
    let mut accepted = 0;
    while accepted < total {
        match UnixStream::connect(ingest) {
            Ok(stream) => publish_on(stream, name, total, &mut accepted, progress),
            Err(_) => thread::sleep(Duration::from_millis(5)),
        }
    }
}

fn publish_on(mut stream: UnixStream, name: &str, total: u64, accepted: &mut u64, progress: &AtomicU64) {
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    let mut answers = BufReader::new(stream.try_clone().expect("a socket"));
    let mut answer = || {
        let mut line = String::new();
        let is_there = answers.read_line(&mut line).is_ok_and(|count| count > 0);
        is_there.then(|| serde_json::from_str::<Value>(&line).expect("answers are JSON"))
    };
    let hello = format!("{{\"op\":\"hello\",\"publisher\":\"{name}\",\"ack\":true,\"dedupe\":true}}\n");
    if stream.write_all(hello.as_bytes()).is_err() {
        return;
    }
    let Some(welcome) = answer() else { return };
    let known = welcome["accepted"].as_u64().expect("the last line accepted");
    assert!(known >= *accepted, "{name}: line {accepted} was acknowledged, {known} is known");
    *accepted = known;
    while *accepted < total {
        let last = (*accepted + 50).min(total);
        let lines = (*accepted + 1..=last).map(|number| {
            let job = number % 10;
            let kind = if number % 3 == 0 { "y" } else { "x" };
            format!("{{\"type\":\"{kind}\",\"job_id\":\"job-{job}\",\"flow_id\":\"flow\",\"p\":\"{name}\",\"n\":{number}}}\n")
        });
        let text: String = lines.collect();
        if stream.write_all(text.as_bytes()).is_err() {
            return;
        }
        while *accepted < last {
            let Some(ack) = answer() else { return };
            assert_eq!(ack["op"], "ack", "{ack}");
            *accepted = ack["line"].as_u64().expect("a line");
            progress.fetch_max(*accepted, Ordering::SeqCst);
        }
        // Long enough for restarts in between.
        thread::sleep(Duration::from_millis(2));
    }
}

/// Watches from `last` on over any number of connections, until an event contains this text. Returns all events.
fn watch_through_restarts(address: &Mutex<SocketAddr>, path: &str, mut last: u64, end: &str) -> Vec<String> {
    let mut texts: Vec<String> = Vec::new();
    loop {
        let to = *address.lock();
        let Ok(stream) = std::net::TcpStream::connect(to) else {
            thread::sleep(Duration::from_millis(5));
            continue;
        };
        // During a restart the connection may end before there is an answer.
        let Ok(Ok(mut watcher)) = Client::try_handshake(stream, to, &format!("{path}?since={last}")) else {
            thread::sleep(Duration::from_millis(20));
            continue;
        };
        while let Ok(message) = watcher.read() {
            let Message::Text(text) = message else { continue };
            let text = text.as_str().to_owned();
            assert!(!text.contains("stream:gap"), "{path} since {last}: {text}");
            if let Some(seq) = seq_of(&text) {
                assert!(seq > last, "{path}: {seq} after {last}");
                last = seq;
                let is_end = text.contains(end);
                texts.push(text);
                if is_end {
                    return texts;
                }
            } else if text.contains("\"disconnected\"") || text.starts_with("{\"type\":\"ping\"") {
                let message: Value = serde_json::from_str(&text).expect("JSON");
                let position = message["stream_seq"].as_u64().expect("a position");
                assert!(position >= last, "{path}: {text} after {last}");
                last = position;
            }
        }
    }
}

#[test]
fn two_hundred_watchers_and_two_publishers_do_not_notice_clean_restarts() {
    const LINES: u64 = 8_000;
    const RESTARTS: u64 = 3;
    let home = Home::new();
    let mut daemon = home.start(&["--heartbeat-seconds", "0.5"]);
    let start = daemon.watch("/api/ws/events").connected();
    let address = Arc::new(Mutex::new(daemon.address));
    let mut topics = vec![Topic::All, Topic::Flow("flow".to_owned())];
    topics.extend((0..10).map(|job| Topic::Job(format!("job-{job}"))));
    let watchers: Vec<_> = (0..200)
        .map(|place| {
            let topic = topics[if place < 20 { place % 2 } else { 2 + place % 10 }].clone();
            let address = address.clone();
            let thread = thread::Builder::new().stack_size(256 << 10);
            let watch = move || {
                let texts = watch_through_restarts(&address, &topic.path(), start, "\"the_end\"");
                (topic, texts)
            };
            thread.spawn(watch).expect("a thread")
        })
        .collect();
    let ingest = daemon.ingest.clone();
    let progress = Arc::new(AtomicU64::new(0));
    let publishers: Vec<_> = ["p", "q"]
        .into_iter()
        .map(|name| {
            let (ingest, progress) = (ingest.clone(), progress.clone());
            thread::spawn(move || publish_through_restarts(&ingest, name, LINES, &progress))
        })
        .collect();
    for restart in 1..=RESTARTS {
        let threshold = LINES * restart / (RESTARTS + 1);
        wait_until("lines are taken in", || progress.load(Ordering::SeqCst) >= threshold);
        daemon.stop();
        daemon = home.start(&["--heartbeat-seconds", "0.5"]);
        *address.lock() = daemon.address;
    }
    publishers.into_iter().for_each(|publisher| publisher.join().unwrap());
    let ends: Vec<String> =
        (0..10).map(|job| format!(r#"{{"type":"the_end","job_id":"job-{job}"}}"#)).collect();
    // One by one: a watch of several jobs stops at the first.
    let mut feed = daemon.acked_feed();
    let newest = feed.publish(ends.iter().map(String::as_str));
    let mut all = daemon.watch("/api/ws/events?since=start");
    let mut texts = Vec::new();
    while texts.last().and_then(|text: &String| seq_of(text)) != Some(newest) {
        let text = all.text();
        assert!(!text.contains("stream:gap"), "{text}");
        texts.extend(seq_of(&text).map(|_| text));
    }
    let stream = read_stream(&texts);
    assert!(stream.windows(2).all(|pair| pair[0].seq < pair[1].seq), "the numbers grow");
    for name in ["p", "q"] {
        let lines = texts.iter().filter_map(|text| {
            let event: Value = serde_json::from_str(text).expect("JSON");
            (event["p"] == name).then(|| event["n"].as_u64().expect("a number"))
        });
        assert!(lines.eq(1..=LINES), "each line of {name} was taken once, in order");
    }
    for watcher in watchers {
        let (topic, received) = watcher.join().unwrap();
        let expected: Vec<&String> =
            stream.iter().filter(|event| topic.has(event)).map(|event| &event.text).collect();
        let end = expected.iter().position(|text| text.contains("\"the_end\"")).expect("an end") + 1;
        let difference =
            received.iter().zip(&expected).position(|(received, expected)| received != *expected);
        assert_eq!((received.len(), difference), (end, None), "{topic:?}");
    }
}

#[test]
fn jobs_flows_and_positions_go_on_after_a_clean_restart() {
    let home = Home::new();
    let mut daemon = home.start(&[]);
    let mut feed = daemon.acked_feed();
    let lines = [
        r#"{"type":"job_started","job_id":"a","flow_id":"f","timestamp":"2026-01-01T00:00:00Z"}"#,
        r#"{"type":"slot_called","job_id":"a","n":1}"#,
        r#"{"type":"custom_type","job_id":"a","n":2}"#,
        r#"{"type":"job_failed","job_id":"b","flow_id":"f","n":3}"#,
    ];
    let newest = feed.publish(lines);
    daemon.stop();
    let daemon = home.start(&[]);
    daemon.wait_for_log("read 4 events, 2 jobs and 1 flow");
    // The job is known.
    let mut job = daemon.watch(&format!("/api/ws/jobs/a/monitor?since={}", newest - 2));
    assert!(job.connected() >= newest);
    let metrics = job.json();
    assert_eq!(metrics["type"], "metrics");
    assert_eq!(metrics["metrics"]["start_time"], "2026-01-01T00:00:00.000Z");
    assert_eq!(
        (&metrics["metrics"]["total_events"], &metrics["metrics"]["total_slot_calls"]),
        (&3.into(), &1.into())
    );
    assert_eq!(job.json()["n"], 2, "its past goes on where it was left");
    // Filters know the earlier types; the last N are there.
    let mut filtered = daemon.watch("/api/ws/events?events=custom_type,job_failed&since=start");
    filtered.connected();
    assert_eq!([filtered.json(), filtered.json()].map(|event| event["n"].clone()), [2, 3]);
    let mut last = daemon.watch("/api/ws/flows/f/monitor?since=-2");
    last.connected();
    assert_eq!([last.json(), last.json()].map(|event| event["n"].clone()), [2, 3]);
    // The multi-job endpoint.
    let mut many = daemon.watch("/api/v1/websocket");
    many.json_of("connected");
    many.send(&format!(r#"{{"type":"subscribe","job_id":"a","since":{}}}"#, newest - 3));
    many.json_of("subscribed");
    assert_eq!([many.json(), many.json()].map(|event| event["n"].clone()), [1, 2]);
    // The job still belongs to its flow.
    let next = daemon.acked_feed().publish([r#"{"type":"x","job_id":"a","n":4}"#]);
    assert!(next > newest);
    for watcher in [&mut job, &mut last, &mut many] {
        let event = watcher.json_of("x");
        assert_eq!((event["n"].as_u64(), event["stream_seq"].as_u64()), (Some(4), Some(next)));
    }
}

#[test]
fn after_kill_the_numbers_keep_growing_and_losses_show_as_a_gap() {
    let home = Home::new();
    let mut daemon = home.start(&[]);
    let first = publish(&daemon, 0..10);
    daemon.stop();
    // A snapshot serves one start.
    let mut daemon = home.start(&[]);
    let second = publish(&daemon, 10..20);
    assert!(second >= first + 10, "{second} after {first}");
    daemon.kill();
    let mut daemon = home.start(&[]);
    let third = publish(&daemon, 20..30);
    assert!(third >= second + 10 && third < 1 << 53, "{third} after {second}");
    for path in ["/api/ws/jobs/j/monitor", "/api/ws/events"] {
        for since in [first - 5, first, second - 5, second] {
            let mut watcher = daemon.watch(&format!("{path}?since={since}"));
            let (numbers, gaps) = read_up_to(&mut watcher, third);
            assert_eq!(numbers, (20..30).collect::<Vec<_>>(), "{path} since {since}");
            assert_eq!(gaps.len(), 1, "{path} since {since}: {gaps:?}");
            assert_eq!((&gaps[0]["reason"], &gaps[0]["missed"]), (&"restart".into(), &Value::Null));
            assert_eq!(gaps[0]["from"], since + 1);
            assert!(gaps[0]["to"].as_u64() >= Some(second) && gaps[0]["to"].as_u64() < Some(third - 9));
        }
    }
    daemon.stop();
    let daemon = home.start(&[]);
    let mut watcher = daemon.watch(&format!("/api/ws/events?since={}", third - 5));
    assert_eq!(read_up_to(&mut watcher, third), ((25..30).collect(), Vec::new()), "the next snapshot counts");
}

#[test]
fn numbers_begin_past_the_mark_even_if_the_clock_is_behind() {
    let home = Home::new();
    fs::create_dir(home.state()).unwrap();
    fs::set_permissions(home.state(), fs::Permissions::from_mode(0o700)).unwrap();
    let mark = 1u64 << 52;
    let text = format!("luxcast mark 1 {mark}");
    fs::write(home.state().join("mark"), format!("{text} {:08x}\n", crc32fast::hash(text.as_bytes())))
        .unwrap();
    let mut newest = mark;
    for ends_clean in [false, true, false] {
        let mut daemon = home.start(&[]);
        let next = publish(&daemon, 0..10);
        assert!(next >= newest + 10 && next < mark + (1 << 32), "{next} after {newest}");
        newest = next;
        if ends_clean { daemon.stop() } else { daemon.kill() }
    }
}

#[test]
fn a_damaged_snapshot_loses_a_part_and_is_reported() {
    let home = Home::new();
    let mut daemon = home.start(&[]);
    // In several batches.
    let start = publish(&daemon, 0..1) - 1;
    let newest = (0..40).fold(start, |_, turn| publish(&daemon, 1 + turn * 10..11 + turn * 10));
    daemon.stop();
    let snapshot = home.state().join("snapshot");
    let whole = fs::read(&snapshot).unwrap();
    let cut = whole.len() * 2 / 3;
    let mut flipped = whole.clone();
    flipped[cut] ^= 0x10;
    let mut foreign = whole.clone();
    foreign[0] ^= 1;
    let mut version = whole.clone();
    version[15] += 1;
    let table = [
        (whole[..cut].to_vec(), true, "is damaged"),
        (flipped, true, "is damaged"),
        (whole[..50].to_vec(), false, "its head is damaged"),
        (foreign, false, "no snapshot of luxcast"),
        (version, false, "another version"),
        (Vec::new(), false, "no snapshot of luxcast"),
    ];
    for (bytes, is_usable, words) in table {
        fs::write(&snapshot, bytes).unwrap();
        let mut daemon = home.start(&[]);
        daemon.wait_for_log(words);
        assert_eq!(daemon.stderr().matches("ERROR").count(), 1, "{}", daemon.stderr());
        let next = publish(&daemon, 500..501);
        assert!(next > newest);
        let mut watcher = daemon.watch(&format!("/api/ws/jobs/j/monitor?since={start}"));
        let (numbers, gaps) = read_up_to(&mut watcher, next);
        assert_eq!(gaps.len(), 1, "{words}: {gaps:?}");
        assert_eq!(gaps[0]["reason"], "restart");
        let kept = numbers.len() as u64 - 1;
        assert_eq!(kept > 0, is_usable, "{words}: {numbers:?}");
        // The newest in one piece, and the gap covers exactly the rest.
        assert!(numbers.iter().copied().eq((401 - kept..401).chain([500])), "{words}: {numbers:?}");
        if is_usable {
            assert_eq!(
                (gaps[0]["missed"].as_u64(), gaps[0]["to"].as_u64()),
                (Some(401 - kept), Some(newest - kept))
            );
        }
        daemon.kill();
    }
}

#[test]
fn a_full_disk_costs_the_state_and_nothing_else() {
    let home = Home::new();
    let own = home.flags();
    let flags: Vec<&str> = own.iter().map(String::as_str).collect();
    // No file may become larger than 64 KiB. The signal for that is ignored, since a full disk sends none.
    let limited = "trap '' XFSZ; ulimit -f 128; exec \"$0\" \"$@\"";
    let mut daemon = Setup::default().flags(&flags).under(&["/bin/sh", "-c", limited]).start();
    let lines: Vec<String> = (0..2_000)
        .map(|n| format!(r#"{{"type":"x","job_id":"j","n":{n},"pad":"{}"}}"#, "x".repeat(100)))
        .collect();
    let newest = daemon.acked_feed().publish(lines.iter().map(String::as_str));
    let mut watcher = daemon.watch("/api/ws/jobs/j/monitor?since=start");
    // An old snapshot that this run could not use: the next must not use it either.
    fs::write(home.state().join("snapshot"), "an old past").unwrap();
    daemon.terminate();
    let (texts, close) = watcher.until_close();
    assert_eq!(texts.iter().filter(|text| seq_of(text).is_some()).count(), 2_000);
    assert_eq!(u16::from(close.expect("a close frame").code), 1012);
    // The requested state is lost, so the end is not clean.
    assert_eq!(daemon.wait().code(), Some(1), "{}", daemon.stderr());
    daemon.wait_for_log("luxcast: cannot save the state, so the next start begins without it: ");
    assert!(!is_there(&daemon.ingest), "{}", daemon.stderr());
    let mut left: Vec<_> =
        fs::read_dir(home.state()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["lock", "mark"], "no half of a snapshot is left");
    let daemon = home.start(&[]);
    daemon.wait_for_log("its history, jobs and publishers' names are lost");
    let next = publish(&daemon, 1..2);
    assert!(next > newest);
    let mut watcher = daemon.watch(&format!("/api/ws/jobs/j/monitor?since={newest}"));
    let (numbers, gaps) = read_up_to(&mut watcher, next);
    assert_eq!((numbers, gaps.len(), &gaps[0]["reason"]), (vec![1], 1, &"restart".into()));
}

#[test]
fn a_state_that_there_is_no_time_to_save_makes_the_end_unclean() {
    let home = Home::new();
    let own = home.flags();
    let flags: Vec<&str> = own.iter().map(String::as_str).chain(["--drain-seconds", "0.05"]).collect();
    // A slow disk.
    let slow = ["strace", "-D", "-f", "-q", "-o", "/dev/null", "-e", "inject=fsync:delay_enter=2000000"];
    let mut daemon = Setup::default().flags(&flags).under(&slow).start();
    publish(&daemon, 0..10);
    daemon.terminate();
    assert_eq!(daemon.wait().code(), Some(1), "{}", daemon.stderr());
    daemon.wait_for_log("luxcast: the state was not saved within drain_seconds");
    assert!(!home.state().join("snapshot").exists());
    // The half-written file is gone at the next start, which reports the loss; a first start has nothing to report.
    let mut next = home.start(&[]);
    next.wait_for_log("WARN the run before did not end clean");
    assert!(!home.state().join("snapshot.new").exists());
    next.stop();
    let after = home.start(&[]);
    after.wait_for_log("read 0 events");
    assert!(!after.stderr().contains("the run before"), "{}", after.stderr());
    let first = Home::new().start(&[]);
    first.wait_for_log("has started");
    assert!(!first.stderr().contains("the run before"), "{}", first.stderr());
}

#[test]
fn a_directory_that_cannot_be_used_as_it_is_set_is_an_error_at_the_start() {
    let scratch = Scratch::new();
    let file = scratch.path().join("file");
    fs::write(&file, "precious").unwrap();
    let open = scratch.path().join("open");
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
    let socket = scratch.path().join("ingest.sock");
    for path in [&file, &file.join("below"), &open, Path::new("/proc/luxcast")] {
        let mut command = luxcast();
        command.args(["serve", "--listen", "127.0.0.1:0", "--admin", "off", "--ingest"]).arg(&socket);
        let output = command.arg("--state-dir").arg(path).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), error.lines().count()), (Some(2), 1), "{error}");
        let words = format!("luxcast: the state_dir {} cannot be used: ", path.display());
        assert!(error.starts_with(&words), "{error}");
        assert!(!is_there(&socket) && output.stdout.is_empty());
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
    assert_eq!(fs::read_dir(&open).unwrap().count(), 0);
    // As Kubernetes makes volumes: of the daemon's group, which may write.
    fs::set_permissions(&open, fs::Permissions::from_mode(0o2770)).unwrap();
    let mut daemon = Daemon::start(&["--state-dir", open.to_str().unwrap()]);
    publish(&daemon, 0..3);
    daemon.stop();
    assert!(open.join("snapshot").exists());
}

#[test]
fn a_disk_without_room_for_the_directory_is_reported_and_not_used() {
    let home = Home::new();
    let own = home.flags();
    let flags: Vec<&str> = own.iter().map(String::as_str).collect();
    let state = home.state();
    let full = ["strace", "-D", "-f", "-q", "-o", "/dev/null", "-P", state.to_str().unwrap()];
    let full = [&full[..], &["-e", "inject=mkdir:error=ENOSPC"]].concat();
    let mut daemon = Setup::default().flags(&flags).under(&full).start();
    daemon.wait_for_log("cannot be written, so no state will be kept: ");
    publish(&daemon, 0..3);
    let (_, metrics) = daemon.admin_get("/metrics");
    assert!(metrics.contains("\nluxcast_state_failed 1\n"), "{metrics}");
    daemon.stop();
}

#[test]
fn a_directory_has_one_daemon_and_its_files_are_the_owners_alone() {
    let home = Home::new();
    let mut daemon = home.start(&[]);
    publish(&daemon, 0..3);
    let output = luxcast()
        .args(["serve", "--listen", "127.0.0.1:0", "--admin", "off", "--state-dir"])
        .arg(home.state())
        .arg("--ingest")
        .arg(home.scratch.path().join("other.sock"))
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), error.lines().count()), (Some(1), 1), "{error}");
    assert!(error.contains("another daemon") && error.contains(home.state().to_str().unwrap()), "{error}");
    daemon.stop();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&home.state()), 0o700);
    for name in ["lock", "mark", "snapshot"] {
        assert_eq!(mode(&home.state().join(name)), 0o600, "{name}");
    }
}

#[test]
fn a_start_that_fails_does_not_use_the_snapshot_up() {
    let home = Home::new();
    let mut daemon = home.start(&[]);
    let newest = publish(&daemon, 0..10);
    daemon.stop();
    let mark = fs::read(home.state().join("mark")).unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let output = luxcast()
        .args(["serve", "--admin", "off", "--listen", &taken.local_addr().unwrap().to_string()])
        .args(home.flags())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(fs::read(home.state().join("mark")).unwrap(), mark, "no number was given");
    let daemon = home.start(&[]);
    let mut watcher = daemon.watch(&format!("/api/ws/events?since={}", newest - 4));
    assert_eq!(read_up_to(&mut watcher, newest), ((6..10).collect(), Vec::new()));
}
