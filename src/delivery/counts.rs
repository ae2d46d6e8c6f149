//! What a shard has delivered since its figures were last collected, once a turn.

use crate::metrics::RESULTS;
use crate::stream::topic::Handle;
use crate::wire::watcher_message::{Gap, GapReason};

/// Frames that are compressed, in bytes: as they would be for others, and as they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Saving {
    pub before: usize,
    pub after: usize,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeliveryCounts {
    /// Messages delivered.
    pub messages: u64,
    /// Bytes handed to sockets.
    pub sent_bytes: u64,
    /// Frames of events that were sent compressed, in bytes: as they would be otherwise, and as they were.
    pub compressed_from_bytes: u64,
    pub compressed_to_bytes: u64,
    /// Gaps sent, by [`GapReason`].
    pub gaps: [u64; GapReason::ALL.len()],
    /// Messages from clients, by their result.
    pub received: [u64; RESULTS],
    /// When the oldest event sent to watchers that keep up was read, in microseconds since the daemon began.
    pub oldest_read: Option<u64>,
}

impl DeliveryCounts {
    pub fn add_saving(&mut self, saving: Saving) {
        self.compressed_from_bytes += saving.before as u64;
        self.compressed_to_bytes += saving.after as u64;
    }

    pub fn add_gap(&mut self, gap: Option<&Gap>) {
        if let Some(gap) = gap {
            self.gaps[gap.reason as usize] += 1;
        }
    }

    /// Notes that events from `first` on are sent to watchers that keep up.
    pub fn note_delivery(&mut self, first: Option<&Handle>) {
        if let Some(read) = first.and_then(|handle| handle.batch.read_micros()) {
            self.oldest_read = Some(self.oldest_read.map_or(read, |oldest| oldest.min(read)));
        }
    }
}
