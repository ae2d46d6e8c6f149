//! A watcher that hops from daemon to daemon and goes on where it was: what it must see, and what it must never be told.

use std::collections::{BTreeMap, HashSet};

use luxcast::bus::numbers::Epochs;
use luxcast::bus::verdict::Hole;
use luxcast::delivery::keys::WatcherKey;
use serde_json::Value;

use crate::daemon::Daemon;
use crate::judge::{Judge, job_of, key_of};

/// A connection to a daemon.
#[derive(Clone, Copy, Debug)]
pub struct Seat {
    pub daemon: usize,
    pub key: WatcherKey,
}

#[derive(Default)]
pub struct Hopper {
    /// The job that it watches. None: everything.
    pub job: Option<String>,
    pub seat: Option<Seat>,
    /// The last number that it knows, for `since`. None: it has not watched yet.
    pub position: Option<u64>,
    /// The number behind which it began.
    pub begun: u64,
    /// What it was sent, by number.
    seen: BTreeMap<u64, String>,
    gaps: Vec<(u64, u64)>,
    /// The greatest number that it was told of in any way.
    told: u64,
    /// Of the frame that has not come whole.
    buffer: Vec<u8>,
}

impl Hopper {
    pub fn new(job: Option<String>) -> Self {
        Self { job, ..Self::default() }
    }

    /// It has hung up, or its daemon is gone.
    pub fn leave(&mut self) {
        self.seat = None;
        self.buffer.clear();
    }

    /// Its socket took these bytes.
    pub fn receive(&mut self, bytes: &[u8], daemon: &Daemon, judge: &mut Judge) {
        self.buffer.extend_from_slice(bytes);
        let buffer = std::mem::take(&mut self.buffer);
        let mut rest = &buffer[..];
        while let Some((header, length)) =
            frame(rest).filter(|(header, length)| header + length <= rest.len())
        {
            if rest[0] == 0x81 {
                self.handle_text(&rest[header..header + length], daemon, judge);
            }
            rest = &rest[header + length..];
        }
        self.buffer = rest.to_vec();
    }

    fn handle_text(&mut self, text: &[u8], daemon: &Daemon, judge: &mut Judge) {
        let text = std::str::from_utf8(text).expect("it is text");
        if let Some(rest) = text.strip_prefix("{\"stream_seq\":") {
            let (number, line) = rest.split_once(',').expect("an event has more members");
            return self.handle_event(number.parse().expect("a number"), format!("{{{line}"), daemon);
        }
        let value: Value = serde_json::from_str(text).expect("a notice is JSON");
        let number = |name: &str| value[name].as_u64().expect("it is a number");
        match value["type"].as_str().expect("it has a type") {
            "connection:status" => self.handle_greeting(number("stream_seq"), judge),
            "ping" => self.handle_position(number("stream_seq"), daemon, judge),
            "stream:gap" => self.handle_gap(number("from"), number("to"), daemon, judge),
            "metrics" => {}
            other => panic!("nobody asked for {other}"),
        }
    }

    fn handle_greeting(&mut self, newest: u64, judge: &Judge) {
        match self.position {
            // It did not ask for the past.
            None => (self.begun, self.position, self.told) = (newest, Some(newest), newest),
            Some(position) => {
                let is_right = newest >= position || judge.has_given_again();
                assert!(is_right, "at {position}, it is greeted with {newest}");
            }
        }
    }

    fn handle_event(&mut self, number: u64, line: String, daemon: &Daemon) {
        let position = self.position.expect("it was greeted");
        assert!(number > position, "at {position}, it is sent {number}");
        assert_eq!(daemon.delivered.get(&number), Some(&line), "event {number}");
        assert!(self.job.is_none() || self.job.as_deref() == job_of(&line), "it is sent {line}");
        self.seen.insert(number, line);
        self.position = Some(number);
    }

    /// A ping names its position.
    fn handle_position(&mut self, number: u64, daemon: &Daemon, judge: &Judge) {
        let position = self.position.expect("it was greeted");
        assert!(number >= position, "at {position}, it is told of {number}");
        let newest = daemon.published().max(self.told).max(position);
        assert!(number <= newest || judge.has_given_again(), "it is told of {number}, behind {newest}");
        self.position = Some(number);
    }

    fn handle_gap(&mut self, from: u64, to: u64, daemon: &Daemon, judge: &mut Judge) {
        let position = self.position.expect("it was greeted");
        // Whoever asks for a job from its start may learn late that it has lost its first events.
        let is_of_start = from == 1 && self.seen.is_empty() && self.job.is_some();
        let is_behind = position < from || is_of_start;
        assert!(is_behind && from <= to, "at {position}, it is told of a gap from {from} to {to}");
        judge.tally.hop_gaps += 1;
        if from == to && from > daemon.published() {
            // The number was never given, says the daemon.
            assert!(judge.has_given_again(), "{from} was called unknown, and it was given");
            (self.position, self.told) = (Some(0), 0);
            self.seen.clear();
            self.begun = u64::MAX;
            return;
        }
        let run_start = daemon.run_start();
        let is_lost = |hole: &Hole| from <= hole.to && to >= hole.from.min(hole.to);
        let is_right = from <= run_start || daemon.holes.iter().any(is_lost);
        assert!(is_right, "a gap from {from} to {to}, and nothing is lost at daemon {}", daemon.index);
        let end = daemon.holes.iter().map(|hole| hole.to).max().unwrap_or(0).max(run_start);
        assert!(to <= end, "a gap from {from} to {to}, and what is lost ends at {end}");
        self.gaps.push((from, to));
        (self.position, self.told) = (Some(to.max(position)), self.told.max(to));
    }

    /// It has been sent everything: each event that any daemon showed came once, or with a gap.
    pub fn check_end(&self, judge: &Judge, epochs: &Epochs, last: u64) {
        let position = self.position.expect("it was greeted");
        // What it has seen of the numbers before may be lost.
        for message in (2..=last).filter(|message| epochs.begins_at(*message)) {
            let first = epochs.number(message, 0).expect("it is in range");
            let is_told = self.gaps.iter().any(|(from, to)| (from..=to).contains(&&(first - 1)));
            let is_passed = self.begun < first - 1 && first <= position;
            assert!(is_told || !is_passed, "now at {position}, it was not told of the epoch from {first} on");
        }
        // What the stream has lost, and got again, is new to those who had not seen it.
        let is_new = |line: &str| key_of(line).is_none_or(|key| !judge.lost.contains(key));
        for (number, line) in
            judge.events().filter(|(number, line)| self.wants(**number, line) && is_new(line))
        {
            let is_told = self.gaps.iter().any(|(from, to)| (from..=to).contains(&number));
            let is_there = self.seen.get(number) == Some(line);
            assert!(
                is_there || is_told || judge.is_blurred(*number),
                "{:?}, now at {position}, was not sent {number}: {line}",
                self.job
            );
        }
        let mut keys = HashSet::new();
        let is_once = !judge.has_given_again() && !judge.is_ancient;
        for line in self.seen.values().filter(|line| is_new(line) && is_once) {
            assert!(key_of(line).is_none_or(|key| keys.insert(key)), "it was sent {line} twice");
        }
    }

    fn wants(&self, number: u64, line: &str) -> bool {
        number > self.begun && self.job.as_deref().is_none_or(|job| job_of(line) == Some(job))
    }
}

/// Length of the header and of the payload of the frame that begins here. None: too little of it has come.
fn frame(bytes: &[u8]) -> Option<(usize, usize)> {
    match *bytes.get(1)? {
        length @ ..126 => Some((2, usize::from(length))),
        126 => Some((4, usize::from(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?])))),
        _ => panic!("no frame is so long"),
    }
}
