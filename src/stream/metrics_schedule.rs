//! When the `metrics` of each changed job are due: once an interval, with the jobs spread over it.

use crate::stream::topic_index::Entry;
use crate::stream::topic_key::TopicKey;

/// Parts of an interval; each job belongs to one.
const PARTS: usize = 64;

pub struct MetricsSchedule {
    interval_millis: u64,
    /// Jobs that have changed, by the part of the interval in which they are due.
    parts: Vec<Vec<TopicKey>>,
    waiting: usize,
    /// The next part to look at; all before it are done.
    next: u64,
}

impl MetricsSchedule {
    /// `interval_millis` 0: never.
    pub fn new(interval_millis: u64) -> Self {
        Self { interval_millis, parts: vec![Vec::new(); PARTS], waiting: 0, next: 0 }
    }

    /// Notes that the job's figures have changed.
    pub fn note_change(&mut self, entry: &mut Entry, now_millis: u64) {
        if self.interval_millis == 0 || entry.is_due {
            return;
        }
        entry.is_due = true;
        if self.waiting == 0 {
            self.next = now_millis * PARTS as u64 / self.interval_millis;
        }
        self.waiting += 1;
        // The factor has no divisor in common with the number of parts, so neighbours are spread.
        let key = entry.topic.key;
        self.parts[key.slot as usize * 37 % PARTS].push(key);
    }

    /// When the next job is due, in milliseconds. None: no job is.
    pub fn due_at(&self) -> Option<u64> {
        let first = (0..PARTS as u64).find(|ahead| !self.part(self.next + ahead).is_empty());
        first.map(|ahead| self.end_of(self.next + ahead))
    }

    /// Takes a job that is due at `now_millis`.
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
