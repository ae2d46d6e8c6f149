//! One watcher: what it watches, its cursor, its outbox, its state.

use std::sync::Arc;

use bitflags::bitflags;

use crate::delivery::cursor::Cursor;
use crate::delivery::filter::Filter;
use crate::delivery::keys::{CohortSlot, WatcherTag};
use crate::delivery::multi_job::MultiJob;
use crate::delivery::outbox::Outbox;
use crate::delivery::table::Entry;
use crate::wire::framing::Framing;

/// What a connection watches.
pub enum Watched {
    /// Nothing: its request is still coming in, or it is on its way out.
    Nothing,
    /// One topic, in a cohort with others that want the same of it.
    Cohort { cohort: CohortSlot, member: u32 },
    /// Any number of jobs.
    MultiJob(Box<MultiJob>),
}

bitflags! {
    /// A watcher's state, as far as serving depends on it.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Flags: u16 {
        /// The socket is full: nothing is written until it reports room.
        const BLOCKED = 1 << 0;
        /// Its place is its own cursor, whatever its cohort's `start`.
        const LAGS = 1 << 1;
        /// It is in `watcher_queue`, to be served alone.
        const QUEUED = 1 << 2;
        /// It gets no more events: the outbox is the last that is sent.
        const ENDING = 1 << 3;
        /// It was ending, and its outbox is sent.
        const ENDED = 1 << 4;
        /// Its socket failed: nothing is written to it any more.
        const BROKEN = 1 << 5;
        /// Its progress is under review.
        const REVIEWED = 1 << 6;
        /// Something has to be found out before its first event.
        const PENDING = 1 << 7;
        /// It has taken more than kernel buffers hold: a program reads.
        const READS = 1 << 8;
        /// It reads what is older than memory, or waits for it: its cursor has only a number.
        const IN_PAST = 1 << 9;
        /// It watches many jobs, and some of them are read from what is older than memory.
        const READS_PAST = 1 << 10;
        /// Of such a watcher: it is in the queue of the past, beside `watcher_queue`.
        const PAST_QUEUED = 1 << 11;
        /// It is sent Server-Sent Events.
        const SSE = 1 << 12;
        /// It is sent lines of JSON.
        const NDJSON = 1 << 13;
        /// It is sent compressed messages, with what it was sent before as the dictionary.
        const DEFLATE = 1 << 14;
        /// It is sent messages that are compressed each by itself.
        const DEFLATE_ALONE = 1 << 15;
        const FORM = Self::SSE.bits() | Self::NDJSON.bits() | Self::DEFLATE.bits() | Self::DEFLATE_ALONE.bits();
    }
}

const FRAMINGS: [(Flags, Framing); 5] = [
    (Flags::empty(), Framing::WebSocket),
    (Flags::DEFLATE, Framing::Deflate),
    (Flags::DEFLATE_ALONE, Framing::DeflateAlone),
    (Flags::SSE, Framing::Sse),
    (Flags::NDJSON, Framing::Ndjson),
];

pub struct Watcher {
    pub watched: Watched,
    cursor: Cursor,
    pub outbox: Option<Box<Outbox>>,
    pub filter: Option<Arc<Filter>>,
    /// Bytes handed to the socket so far.
    pub bytes_out: u64,
    generation: u32,
    flags: Flags,
    /// How far before the cursor, by index of the log, it was sent all that it wants compressed, and nothing since it last
    /// jumped was left out: as much of the log as its window is known to hold.
    known: u16,
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
            flags: Flags::empty(),
            known: 0,
        }
    }

    pub fn is(&self, flags: Flags) -> bool {
        self.flags.intersects(flags)
    }

    pub fn set(&mut self, flags: Flags) {
        self.flags.insert(flags);
    }

    pub fn unset(&mut self, flags: Flags) {
        self.flags.remove(flags);
    }

    pub fn cursor(&self) -> Cursor {
        self.cursor
    }

    /// Moves on in its log: all that it wants of what lies between was sent to it as events are, or will be before anything
    /// else is.
    pub fn go_on_to(&mut self, cursor: Cursor) {
        if self.is(Flags::DEFLATE) {
            let passed = cursor.index.saturating_sub(self.cursor.index);
            self.known = u64::from(self.known).saturating_add(passed).min(u16::MAX.into()) as u16;
        }
        self.cursor = cursor;
    }

    /// Moves elsewhere: what lies between may not have been sent, or otherwise.
    pub fn jump_to(&mut self, cursor: Cursor) {
        self.cursor = cursor;
        self.forget_window();
    }

    /// Nothing that it was sent is used as a dictionary any more.
    pub fn forget_window(&mut self) {
        self.known = 0;
    }

    /// From this index of its log on, it was sent all that it wants compressed.
    pub fn compressed_from(&self) -> u64 {
        self.cursor.index - u64::from(self.known)
    }

    /// How messages stand on its connection.
    #[inline]
    pub fn framing(&self) -> Framing {
        if !self.is(Flags::FORM) {
            return Framing::WebSocket;
        }
        let form = self.flags & Flags::FORM;
        FRAMINGS.into_iter().find_map(|(flag, framing)| (flag == form).then_some(framing)).unwrap_or_default()
    }

    pub fn set_framing(&mut self, framing: Framing) {
        let flag = FRAMINGS.into_iter().find_map(|(flag, known)| (known == framing).then_some(flag));
        self.unset(Flags::FORM);
        self.set(flag.unwrap_or(Flags::empty()));
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
    fn a_watcher_fits_in_a_cache_line() {
        // Ten thousand of them are idle most of the time.
        assert!(size_of::<Watcher>() <= 64);
    }
}
