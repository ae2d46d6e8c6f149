//! When each changed job's `metrics` are due: once an interval, spread over it.

use crate::stream::topic_index::Entry;
use crate::stream::topic_key::TopicKey;

/// Parts of an interval; each job has its own.
const PARTS: usize = 64;

pub struct MetricsSchedule {
    interval_millis: u64,
    /// Jobs that have changed, by the part of the interval in which they are due.
    parts: Vec<Vec<TopicKey>>,
    waiting: usize,
    /// The next part to be looked at; all before it are done.
    next: u64,
}

impl MetricsSchedule {
    /// `interval_millis` 0: never.
    pub fn new(interval_millis: u64) -> Self {
        Self { interval_millis, parts: vec![Vec::new(); PARTS], waiting: 0, next: 0 }
    }

    /// The job's figures are not those that were last told.
    pub fn note_change(&mut self, entry: &mut Entry, now_millis: u64) {
        if self.interval_millis == 0 || entry.is_due {
            return;
        }
        entry.is_due = true;
        if self.waiting == 0 {
            self.next = now_millis * PARTS as u64 / self.interval_millis;
        }
        self.waiting += 1;
        // A step that is prime to the number of parts spreads neighbours.
        let key = entry.topic.key;
        self.parts[key.slot as usize * 37 % PARTS].push(key);
    }

    pub fn due_at(&self) -> Option<u64> {
        let first = (0..PARTS as u64).find(|ahead| !self.part(self.next + ahead).is_empty());
        first.map(|ahead| self.end_of(self.next + ahead))
    }

    /// A job that is due at `now_millis`.
    pub fn next_due(&mut self, now_millis: u64) -> Option<TopicKey> {
        if self.waiting == 0 {
            return None;
        }
        while self.end_of(self.next) <= now_millis {
            if let Some(key) = self.parts[self.next as usize % PARTS].pop() {
                self.waiting -= 1;
                return Some(key);
            }
            self.next += 1;
            if self.waiting == 0 {
                return None;
            }
        }
        None
    }

    /// When part `at` is over, in milliseconds: rounded up, so that the interval as a whole is exact.
    fn end_of(&self, at: u64) -> u64 {
        ((at + 1) * self.interval_millis).div_ceil(PARTS as u64)
    }

    fn part(&self, at: u64) -> &Vec<TopicKey> {
        &self.parts[at as usize % PARTS]
    }
}
