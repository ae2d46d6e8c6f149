//! How publishers and watchers affect each other when the history is too small for both: `overrun`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::crowd::{Crowd, line_of};
use crate::harness::{Daemon, Raw, Setup, seq_of};

const PATH: &str = "/api/ws/jobs/j/monitor";
const LINE_BYTES: usize = 1_000;

fn start(overrun: &str) -> Daemon {
    let flags = ["--overrun", overrun, "--history-bytes", "2097152", "--metrics-seconds", "0"];
    Setup::default()
        .flags(&flags)
        .flags(&["--heartbeat-seconds", "3600", "--stalled-seconds", "3600"])
        .start()
}

/// Ends the work beside a test, however the test ends.
struct Beside(AtomicBool);

impl Beside {
    fn is_over(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn until_dropped(&self) -> impl Drop {
        struct End<'a>(&'a AtomicBool);
        impl Drop for End<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        End(&self.0)
    }
}

/// With a smaller history than many publishers have at hand at once.
fn start_small(flags: &[&str]) -> Daemon {
    let small = ["--overrun", "wait", "--history-bytes", "65536", "--heartbeat-seconds", "3600"];
    Setup::default().flags(&small).flags(&["--stalled-seconds", "3600"]).flags(flags).start()
}

/// How often a publisher had to wait for watchers so far.
pub fn waits(daemon: &Daemon) -> u64 {
    figure(daemon, "luxcast_feed_waits_total")
}

fn figure(daemon: &Daemon, name: &str) -> u64 {
    let (_, metrics) = daemon.admin_get("/metrics");
    let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.expect("it is counted").parse().expect("a number")
}

/// Many publishers at once, with lines of all lengths, each with its own job and flow. Returns the number of the last
/// event.
fn publish_from_many(daemon: &Daemon, publishers: usize, events: usize) -> u64 {
    let publish = |publisher: usize| {
        let mut feed = daemon.acked_feed();
        for number in 0..events {
            let pad = "x".repeat([0, 10, 200, 1_500, 7_000][(number + publisher) % 5]);
            let job = number % 7;
            feed.line(&format!(
                r#"{{"type":"x","job_id":"j{publisher}-{job}","flow_id":"f{publisher}","pad":"{pad}"}}"#
            ));
        }
        assert!(feed.sync().is_empty());
        feed.acked_seq
    };
    thread::scope(|scope| {
        let publishers: Vec<_> =
            (0..publishers).map(|publisher| scope.spawn(move || publish(publisher))).collect();
        publishers.into_iter().map(|publisher| publisher.join().expect("it publishes")).max().expect("some")
    })
}

/// Publishes as fast as it is accepted. Returns the number of the last event, and the time it took.
fn publish(daemon: &Daemon, events: usize) -> (u64, Duration) {
    let mut feed = daemon.acked_feed();
    let block = (line_of(LINE_BYTES, "j") + "\n").repeat(50);
    let begin = Instant::now();
    for _ in 0..events / 50 {
        feed.bytes(block.as_bytes());
        feed.lines += 50;
    }
    assert!(feed.sync().is_empty());
    (feed.acked_seq, begin.elapsed())
}

/// Reads a portion, pauses, and reads again, up to the event with number `to`. Returns how many events came; none may
/// be missing.
fn read_slowly(mut raw: Raw, to: impl Fn() -> Option<u64>) -> u64 {
    let mut last = 0;
    let mut count = 0;
    let mut since_pause = 0;
    while to().is_none_or(|to| last < to) {
        let frame = raw.read_frame().expect("a watcher that reads is not ended");
        let text = String::from_utf8(frame.payload).expect("text");
        since_pause += text.len();
        if let Some(seq) = seq_of(&text) {
            assert!(last == 0 || seq == last + 1, "{last}, then {seq}");
            last = seq;
            count += 1;
        } else {
            assert!(!text.contains("stream:gap"), "{text}");
        }
        if since_pause > 256 << 10 {
            since_pause = 0;
            thread::sleep(Duration::from_millis(50));
        }
    }
    count
}

/// Slow readers on their own threads; each ends with the event that `to` names.
fn slow_readers(daemon: &Daemon, count: usize, to: &Arc<OnceLock<u64>>) -> Vec<JoinHandle<u64>> {
    slow_readers_of(daemon, PATH, count, to)
}

fn slow_readers_of(
    daemon: &Daemon,
    path: &str,
    count: usize,
    to: &Arc<OnceLock<u64>>,
) -> Vec<JoinHandle<u64>> {
    let reader = |_| {
        let mut raw = Raw::connect(daemon.address);
        raw.upgrade(path);
        raw.read_frame().expect("the daemon greets");
        let to = to.clone();
        thread::spawn(move || read_slowly(raw, || to.get().copied()))
    };
    (0..count).map(reader).collect()
}

#[test]
fn publishers_wait_for_watchers_that_read() {
    const EVENTS: usize = 20_000;
    let daemon = start("wait");
    let last = Arc::new(OnceLock::new());
    let mut crowd = Crowd::new();
    crowd.join(daemon.address, PATH, 5);
    let slow = slow_readers(&daemon, 3, &last);
    thread::scope(|scope| {
        scope.spawn(|| {
            let (seq, took) = publish(&daemon, EVENTS);
            println!("{EVENTS} events of {LINE_BYTES} bytes past slow readers: {took:.2?}");
            last.set(seq).expect("set once");
        });
        crowd.read_until("everything", |members| {
            members.iter().all(|member| last.get().is_some_and(|&last| member.last == last))
        });
    });
    for reader in slow {
        assert_eq!(reader.join().expect("it reads to the end"), EVENTS as u64);
    }
    assert!(crowd.members.iter().all(|member| member.gaps.is_empty() && member.received == EVENTS as u64));
}

#[test]
fn a_watcher_that_stops_reading_holds_publishers_for_three_seconds() {
    const EVENTS: usize = 20_000;
    let daemon = start("wait");
    let mut crowd = Crowd::new();
    crowd.join(daemon.address, PATH, 2);
    crowd.join_silent(daemon.address, PATH, 1);
    let joined_at = crowd.members[2].last;
    let published = OnceLock::new();
    thread::scope(|scope| {
        scope.spawn(|| published.set(publish(&daemon, EVENTS)).expect("set once"));
        crowd.read_until("everything", |members| {
            published.get().is_some_and(|&(last, _)| members[..2].iter().all(|member| member.last == last))
        });
    });
    let &(last, took) = published.get().expect("it was waited for");
    println!("held by one that does not read for {took:.2?}");
    // Publishers waited while it might only have paused, and then no longer: the next ones are not held again.
    assert!(took >= Duration::from_secs(2), "{took:?}");
    assert!(crowd.members[..2].iter().all(|member| member.gaps.is_empty()));
    let begin = Instant::now();
    let published = OnceLock::new();
    thread::scope(|scope| {
        scope.spawn(|| published.set(publish(&daemon, EVENTS)).expect("set once"));
        crowd.read_until("everything", |members| {
            published.get().is_some_and(|&(last, _)| members[..2].iter().all(|member| member.last == last))
        });
    });
    println!("the same once it does not count: {:.2?}", begin.elapsed());
    assert!(crowd.members[..2].iter().all(|member| member.gaps.is_empty()));
    let &(last_of_all, _) = published.get().expect("it was waited for");
    assert!(last_of_all > last);
    // It reads again: one gap.
    crowd.resume(2);
    crowd.read_to(last_of_all);
    let member = &crowd.members[2];
    assert_eq!(member.gaps.len(), 1, "{:?}", member.gaps);
    assert_eq!(member.received + member.missed(), last_of_all - joined_at);
}

/// Nobody waits for a watcher of another job, and a watcher whose filter lets nothing through never lags.
#[test]
fn a_watcher_that_needs_nothing_holds_nobody() {
    let daemon = start("wait");
    let mut crowd = Crowd::new();
    crowd.join_silent(daemon.address, "/api/ws/jobs/other/monitor", 4);
    publish(&daemon, 20_000);
    assert_eq!(waits(&daemon), 0);
    crowd.join_silent(daemon.address, "/api/ws/jobs/j/monitor?events=nothing", 4);
    let (_, took) = publish(&daemon, 20_000);
    println!("past eight who want nothing: {took:.2?}, {} waits for shards", waits(&daemon));
    // A lagging watcher that does not read stays lagging.
    assert_eq!(figure(&daemon, "luxcast_lagging_connections"), 0);
    (0..8).for_each(|place| crowd.resume(place));
    crowd.read_for(Duration::from_millis(100), |_| false);
    assert!(crowd.members.iter().all(|member| member.gaps.is_empty() && member.received == 0));
}

#[test]
fn under_gap_nobody_slows_a_publisher() {
    const EVENTS: usize = 40_000;
    let daemon = start("gap");
    let (_, alone) = publish(&daemon, EVENTS);
    let mut crowd = Crowd::new();
    crowd.join_silent(daemon.address, PATH, 20);
    let joined_at = crowd.members[0].last;
    let (last, beside) = publish(&daemon, EVENTS);
    println!("{EVENTS} events with nobody: {alone:.2?}, beside 20 that do not read: {beside:.2?}");
    assert_eq!(waits(&daemon), 0);
    (0..20).for_each(|place| crowd.resume(place));
    crowd.read_to(last);
    for member in &crowd.members {
        // The number depends on how late the daemon itself was.
        assert!(!member.gaps.is_empty());
        assert_eq!(member.received + member.missed(), last - joined_at, "{:?}", member.gaps);
    }
}

#[test]
fn a_watcher_that_reads_misses_nothing_however_much_publishers_hold() {
    let daemon = start_small(&["--metrics-seconds", "0"]);
    let last = Arc::new(OnceLock::new());
    let readers = slow_readers_of(&daemon, "/api/ws/events", 2, &last);
    let seq = publish_from_many(&daemon, 60, 150);
    last.set(seq).expect("set once");
    for reader in readers {
        assert_eq!(reader.join().expect("it reads to the end"), 60 * 150);
    }
}

/// Its first event is the oldest one kept when it came; from there on nothing is missing, while the feed continues.
#[test]
fn a_watcher_that_begins_in_the_past_misses_nothing_from_there_on() {
    let daemon = start("wait");
    publish(&daemon, 4_000);
    let beside = Beside(AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            while !beside.is_over() {
                publish(&daemon, 1_000);
            }
        });
        let _end = beside.until_dropped();
        for _ in 0..20 {
            let newest = daemon.watch(PATH).connected();
            let mut raw = Raw::connect(daemon.address);
            raw.upgrade(&format!("{PATH}?since=start"));
            let (mut last, mut gaps) = (0, 0);
            while last < newest + 500 {
                let frame = raw.read_frame().expect("a watcher that reads is not ended");
                let text = String::from_utf8(frame.payload).expect("text");
                assert!(!text.contains("overrun"), "{text}");
                gaps += usize::from(text.contains("stream:gap"));
                if let Some(seq) = seq_of(&text) {
                    // A kept first event stands alone.
                    assert!(last == 0 || seq == last + 1, "{last}, then {seq}");
                    last = seq;
                }
            }
            assert_eq!(gaps, 1, "what went before it came");
        }
    });
}

#[test]
fn the_daemons_own_events_wait_for_watchers_too() {
    const JOBS: usize = 1_000;
    let daemon = start_small(&["--metrics-seconds", "0.1", "--message-bytes-max", "1000000"]);
    // Watches all of them and reads only its own.
    let mut crowd = Crowd::new();
    let mut jobs = Vec::new();
    for job in 0..JOBS {
        let mut raw = Raw::connect(daemon.address);
        raw.upgrade(&format!("/api/ws/jobs/j{job}/monitor?events=nothing"));
        jobs.push(raw);
    }
    crowd.join(daemon.address, "/api/ws/jobs/none/monitor", 1);
    let last = Arc::new(OnceLock::new());
    let readers = slow_readers_of(&daemon, "/api/ws/events", 2, &last);
    let mut feed = daemon.acked_feed();
    let mut seq = 0;
    for _ in 0..10 {
        let lines: Vec<String> =
            (0..JOBS).map(|job| format!(r#"{{"type":"x","job_id":"j{job}"}}"#)).collect();
        seq = feed.publish(lines.iter().map(String::as_str));
    }
    last.set(seq).expect("set once");
    for reader in readers {
        assert!(reader.join().expect("it reads to the end") > 10 * JOBS as u64, "metrics are events as well");
    }
}

#[test]
fn one_that_comes_again_and_again_and_never_reads_does_not_stop_the_feed() {
    let daemon = start("wait");
    let beside = Beside(AtomicBool::new(false));
    let last = Arc::new(OnceLock::new());
    let reader = slow_readers(&daemon, 1, &last);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut silent = Vec::new();
            while !beside.is_over() {
                let mut raw = Raw::connect(daemon.address);
                raw.upgrade("/api/ws/events");
                silent.push(raw);
                if silent.len() > 20 {
                    silent.remove(0);
                }
                thread::sleep(Duration::from_millis(300));
            }
        });
        // This does not end while publishers wait for somebody who came within the last three seconds.
        let _end = beside.until_dropped();
        let mut took = Vec::new();
        let mut seq = 0;
        for _ in 0..4 {
            let (newest, span) = publish(&daemon, 10_000);
            took.push(span);
            seq = newest;
        }
        println!("10,000 events each, beside watchers that come and never read: {took:.2?}");
        last.set(seq).expect("set once");
    });
    // And publishers wait all the while for a watcher that reads.
    for reader in reader {
        assert_eq!(reader.join().expect("it reads to the end"), 40_000);
    }
}
