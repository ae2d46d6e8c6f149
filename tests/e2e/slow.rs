//! Watchers that do not read: their cost for the daemon, their effect on others, and what they receive.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use crate::crowd::{Crowd, cpu, line_of};
use crate::harness::{Daemon, Feed, Setup, wait_until};

const PATH: &str = "/api/ws/jobs/j/monitor";
/// For `stalled_seconds`: longer than any test.
const NEVER: &str = "3600";
const MIB: usize = 1 << 20;
/// What the daemon may use beside its history.
const BESIDE_HISTORY: usize = 64 * MIB;

fn start(history_bytes: usize, stalled_seconds: &str) -> Daemon {
    let history = history_bytes.to_string();
    let flags = ["--history-bytes", &history, "--metrics-seconds", "0", "--heartbeat-seconds", "3600"];
    Setup::default().flags(&flags).flags(&["--stalled-seconds", stalled_seconds]).start()
}

/// A publisher that stays ahead of a crowd by no more than the history holds, so that only a watcher that does not
/// read can lose events, however slow the machine.
struct Paced {
    feed: Feed,
    line: String,
    lines_per_write: usize,
    lines_per_step: usize,
}

impl Paced {
    fn new(daemon: &Daemon, line_bytes: usize, lines_per_write: usize, lines_per_step: usize) -> Self {
        let line = line_of(line_bytes, "j") + "\n";
        Self { feed: daemon.acked_feed(), line, lines_per_write, lines_per_step }
    }

    /// Publishes this many events while the crowd reads them. Returns the daemon's CPU time.
    fn run(&mut self, daemon: &Daemon, crowd: &mut Crowd, events: usize) -> Duration {
        let before = cpu(daemon);
        let block = self.line.repeat(self.lines_per_write);
        for _ in 0..events / self.lines_per_step {
            for _ in 0..self.lines_per_step / self.lines_per_write {
                self.feed.bytes(block.as_bytes());
                self.feed.lines += self.lines_per_write as u64;
            }
            assert!(self.feed.sync().is_empty());
            crowd.read_to(self.feed.acked_seq);
        }
        cpu(daemon) - before
    }
}

fn assert_memory(daemon: &Daemon, history_bytes: usize, before: u64) {
    let peak = daemon.memory_bytes("VmHWM");
    println!(
        "history {} MiB: {:.1} MiB resident at start, {:.1} MiB at most: {:.1} MiB over the history",
        history_bytes / MIB,
        before as f64 / MIB as f64,
        peak as f64 / MIB as f64,
        (peak as f64 - history_bytes as f64) / MIB as f64,
    );
    assert!(peak <= (history_bytes + BESIDE_HISTORY) as u64, "{peak} bytes for a history of {history_bytes}");
}

/// One watcher stands still beside 200 that read.
fn one_stands_still(history_bytes: usize, line_bytes: usize, lines_per_write: usize, events: usize) {
    let daemon = start(history_bytes, NEVER);
    let before = daemon.memory_bytes("VmRSS");
    let mut crowd = Crowd::new();
    crowd.join(daemon.address, PATH, 200);
    let lines_per_step = (history_bytes / 8 / (line_bytes + 400)).min(2_000);
    let mut publisher = Paced::new(&daemon, line_bytes, lines_per_write, lines_per_step / 8 * 8);
    let alone = publisher.run(&daemon, &mut crowd, events / 4);
    crowd.join_silent(daemon.address, PATH, 1);
    let beside = publisher.run(&daemon, &mut crowd, events);
    println!(
        "{events} events of {line_bytes} bytes: {beside:.2?}; a quarter with nobody standing still: {alone:.2?}"
    );
    assert!(beside < alone * 4 * 2, "{beside:?} against four times {alone:?}");
    assert_memory(&daemon, history_bytes, before);
    for member in &crowd.members[..200] {
        assert!(member.gaps.is_empty() && member.end.is_none());
    }
    // It reads again: what the sockets held, one gap with the exact count, and the rest of the history.
    let joined_at = crowd.members[200].last;
    crowd.resume(200);
    crowd.read_to(publisher.feed.acked_seq);
    let slow = &crowd.members[200];
    assert_eq!(slow.gaps.len(), 1, "{:?}", slow.gaps);
    assert_eq!(slow.gaps[0]["reason"], "overrun");
    assert_eq!(slow.received + slow.missed(), publisher.feed.acked_seq - joined_at);
    // And continues like all others.
    publisher.run(&daemon, &mut crowd, lines_per_step * 2);
    assert_eq!(crowd.members[200].gaps.len(), 1);
}

#[test]
fn one_that_never_reads_beside_two_hundred() {
    one_stands_still(8 * MIB, 260, 8, 200_000);
}

/// Each stopped within a frame of 900 kB: the rest of it is kept once for all of them.
#[test]
fn two_hundred_that_never_read_within_large_frames() {
    let history_bytes = 8 * MIB;
    let daemon = start(history_bytes, NEVER);
    let before = daemon.memory_bytes("VmRSS");
    let mut crowd = Crowd::new();
    crowd.join_silent(daemon.address, PATH, 200);
    let mut feed = daemon.acked_feed();
    for _ in 0..30 {
        feed.publish([line_of(900_000, "j").as_str()]);
    }
    assert_memory(&daemon, history_bytes, before);
    (0..200).for_each(|place| crowd.resume(place));
    crowd.read_to(feed.acked_seq);
}

#[test]
fn one_that_never_reads_and_a_long_history() {
    one_stands_still(64 * MIB, 1_000, 8, 200_000);
}

#[test]
fn one_that_never_reads_and_lines_of_45_bytes_written_one_by_one() {
    one_stands_still(4 * MIB, 45, 1, 100_000);
}

/// Each event is published before the next is written: a batch of its own.
#[test]
fn one_event_a_turn() {
    const HISTORY: usize = 4 * MIB;
    let daemon = start(HISTORY, NEVER);
    let before = daemon.memory_bytes("VmRSS");
    let mut crowd = Crowd::new();
    crowd.join(daemon.address, PATH, 20);
    crowd.join_silent(daemon.address, PATH, 1);
    let joined_at = crowd.members[20].last;
    let mut publisher = Paced::new(&daemon, 400, 1, 1);
    publisher.run(&daemon, &mut crowd, 16_000);
    assert_memory(&daemon, HISTORY, before);
    crowd.resume(20);
    crowd.read_to(publisher.feed.acked_seq);
    let slow = &crowd.members[20];
    assert_eq!(slow.gaps.len(), 1, "{:?}", slow.gaps);
    assert_eq!(slow.received + slow.missed(), publisher.feed.acked_seq - joined_at);
    assert!(crowd.members[..20].iter().all(|member| member.received == 16_000));
}

#[test]
fn a_thousand_that_stand_still_at_different_places() {
    const HISTORY: usize = 8 * MIB;
    const STEPS: usize = 20;
    let daemon = start(HISTORY, NEVER);
    let before = daemon.memory_bytes("VmRSS");
    let mut crowd = Crowd::new();
    crowd.join(daemon.address, PATH, 50);
    let mut publisher = Paced::new(&daemon, 900, 8, 800);
    for _ in 0..STEPS {
        crowd.join_silent(daemon.address, PATH, 1_000 / STEPS);
        publisher.run(&daemon, &mut crowd, 2_400);
    }
    // Long enough for the last to stop within a frame too.
    publisher.run(&daemon, &mut crowd, 24_000);
    assert_memory(&daemon, HISTORY, before);
    assert!(crowd.members[..50].iter().all(|member| member.gaps.is_empty()));
    let joined_at: Vec<u64> = crowd.members.iter().map(|member| member.last).collect();
    (50..1_050).for_each(|place| crowd.resume(place));
    crowd.read_to(publisher.feed.acked_seq);
    for (member, joined_at) in crowd.members.iter().zip(joined_at).skip(50) {
        assert_eq!(member.gaps.len(), 1, "{:?}", member.gaps);
        assert_eq!(member.received + member.missed(), publisher.feed.acked_seq - joined_at);
    }
    assert_memory(&daemon, HISTORY, before);
}

#[test]
fn a_watcher_that_takes_no_byte_is_reset_and_counted_and_one_that_takes_some_is_not() {
    let daemon = start(8 * MIB, "1");
    let mut crowd = Crowd::new();
    crowd.join(daemon.address, PATH, 3);
    crowd.join_silent(daemon.address, PATH, 1);
    let mut publisher = Paced::new(&daemon, 900, 8, 800);
    let begin = Instant::now();
    publisher.run(&daemon, &mut crowd, 16_000);
    wait_until("the one that stands still is gone", || daemon.connections().len() == 3);
    assert!(begin.elapsed() >= Duration::from_millis(900), "{:?}", begin.elapsed());
    daemon.wait_for_log("1013");
    crowd.resume(3);
    crowd.read_until("the end", |members| members[3].end.is_some());
    // No close frame could pass: what the sockets held, then a reset.
    assert_eq!(crowd.members[3].end, Some(Err(ErrorKind::ConnectionReset)));
    // Watchers with nothing to take are not stalled.
    std::thread::sleep(Duration::from_millis(2_500));
    publisher.run(&daemon, &mut crowd, 800);
    assert!(crowd.members[..3].iter().all(|member| member.end.is_none() && member.gaps.is_empty()));
}
