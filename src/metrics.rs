//! The daemon's counters: who came, what was refused and why. One row each; shared by all threads, written
//! once a turn or per connection, never per message.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::close::CloseReason;

/// A number that only grows.
#[derive(Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Reasons to refuse a line of the feed.
pub const LINE_ERRORS: usize = 15;

#[derive(Default)]
pub struct Counters {
    pub events: Counter,
    /// Answers that a publisher did not read in time.
    pub answers_dropped: Counter,
    pub connections: Counter,
    /// Requests refused before the upgrade.
    pub refusals: Counter,
    pub accepts_failed: Counter,
    pub messages: Counter,
    pub gaps: Counter,
    pub jobs_displaced: Counter,
    closed: [Counter; CloseReason::ALL.len()],
    /// Lines of the feed refused, by the reason's place in its table.
    pub line_errors: [Counter; LINE_ERRORS],
}

impl Counters {
    pub fn count_close(&self, reason: CloseReason) {
        self.closed[reason as usize].add(1);
    }

    pub fn closed(&self, reason: CloseReason) -> u64 {
        self.closed[reason as usize].get()
    }
}
