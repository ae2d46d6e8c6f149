//! One watcher: where it stands, what waits for it beside the stream.

use std::sync::Arc;

use crate::delivery::cursor::Cursor;
use crate::delivery::filter::Filter;
use crate::delivery::keys::{CohortSlot, WatcherTag};
use crate::delivery::multi_job::MultiJob;
use crate::delivery::outbox::Outbox;
use crate::delivery::table::Entry;

/// What a connection watches.
pub enum Watched {
    /// Nothing: its request is still coming in, or it is on its way out.
    Nothing,
    /// One topic, together with others that want the same of it.
    Cohort { cohort: CohortSlot, member: u32 },
    /// Any number of jobs.
    MultiJob(Box<MultiJob>),
}

/// The socket is full: nothing is written until it says that it has room.
pub const BLOCKED: u16 = 1;
/// It stands where its own cursor says, not where its cohort stands.
pub const LAGS: u16 = 2;
/// It is in the line of those to be served one by one.
pub const QUEUED: u16 = 4;
/// Events are over: the outbox is the last that goes out.
pub const ENDING: u16 = 8;
/// The outbox of an ending connection has gone out.
pub const ENDED: u16 = 16;
/// Its socket failed: nothing is written to it any more.
pub const BROKEN: u16 = 32;

/// It is on the list of those whose progress is looked at.
pub const REVIEWED: u16 = 64;
/// Something has to be found out before it gets an event.
pub const PENDING: u16 = 128;
/// It has taken more than kernels hold: somebody reads.
pub const READS: u16 = 256;

pub struct Watcher {
    pub watched: Watched,
    pub cursor: Cursor,
    pub outbox: Option<Box<Outbox>>,
    pub filter: Option<Arc<Filter>>,
    /// Bytes handed to the socket so far.
    pub bytes_out: u64,
    generation: u32,
    flags: u16,
}

impl Entry for Watcher {
    type Tag = WatcherTag;

    fn generation(&self) -> u32 {
        self.generation
    }
}

impl Watcher {
    /// Watches nothing yet.
    pub fn new(generation: u32) -> Self {
        Self {
            watched: Watched::Nothing,
            cursor: Cursor::default(),
            outbox: None,
            filter: None,
            bytes_out: 0,
            generation,
            flags: 0,
        }
    }

    pub fn is(&self, flags: u16) -> bool {
        self.flags & flags != 0
    }

    pub fn set(&mut self, flags: u16) {
        self.flags |= flags;
    }

    pub fn unset(&mut self, flags: u16) {
        self.flags &= !flags;
    }

    /// Bytes in the outbox.
    pub fn waiting(&self) -> usize {
        self.outbox.as_ref().map_or(0, |outbox| outbox.waiting())
    }
}

#[cfg(test)]
mod tests {
    use super::Watcher;

    #[test]
    fn a_watcher_is_a_cache_line() {
        // Ten thousand of them are idle most of the time.
        assert!(size_of::<Watcher>() <= 64);
    }
}
