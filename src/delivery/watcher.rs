//! One watcher: where it stands, what waits for it beside the stream.

use std::sync::Arc;

use crate::delivery::cursor::Cursor;
use crate::delivery::filter::Filter;
use crate::delivery::keys::{CohortSlot, WatcherTag};
use crate::delivery::multi_job::MultiJob;
use crate::delivery::owned_body::Body;
use crate::delivery::table::Entry;

/// Bytes that go out before any further event: the rest of a frame, control frames; or an answer in HTTP.
#[derive(Default)]
pub struct Outbox {
    pub bytes: Vec<u8>,
    /// What lies elsewhere and is not copied, where there is something.
    elsewhere: Option<Box<Elsewhere>>,
    /// `sent <= rest + bytes + body`, in bytes.
    pub sent: usize,
}

#[derive(Default)]
struct Elsewhere {
    /// Goes out before the bytes: the rest of a large frame.
    rest: Body,
    /// Goes out behind the bytes: the body of an answer.
    body: Body,
}

impl Outbox {
    /// This goes out before the bytes.
    pub fn set_rest(&mut self, rest: Body) {
        self.elsewhere.get_or_insert_default().rest = rest;
    }

    /// This goes out behind the bytes.
    pub fn set_body(&mut self, body: Body) {
        if !body.is_empty() {
            self.elsewhere.get_or_insert_default().body = body;
        }
    }

    pub fn has_body(&self) -> bool {
        self.elsewhere.as_ref().is_some_and(|elsewhere| !elsewhere.body.is_empty())
    }

    /// How many bytes have not gone out.
    pub fn waiting(&self) -> usize {
        let elsewhere = self.elsewhere.as_ref().map_or(0, |other| other.rest.len() + other.body.len());
        self.bytes.len() + elsewhere - self.sent
    }

    /// The next of them, `bytes_max` at most.
    pub fn portion(&self, bytes_max: usize) -> [&[u8]; 3] {
        let Some(elsewhere) = &self.elsewhere else {
            let unsent = &self.bytes[self.sent..];
            return [&[], &unsent[..unsent.len().min(bytes_max)], &[]];
        };
        let (mut sent, mut left) = (self.sent, bytes_max);
        [&*elsewhere.rest, &self.bytes, &*elsewhere.body].map(|part| {
            let unsent = &part[sent.min(part.len())..];
            sent = sent.saturating_sub(part.len());
            let taken = &unsent[..unsent.len().min(left)];
            left -= taken.len();
            taken
        })
    }

    pub fn clear(&mut self) {
        self.bytes.clear();
        self.elsewhere = None;
        self.sent = 0;
    }
}

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
    use super::{Outbox, Watcher};
    use crate::delivery::owned_body::Body;

    #[test]
    fn what_waits_goes_out_in_portions_and_in_order() {
        for portion_bytes in 1..16 {
            let mut outbox = Outbox { bytes: b"head".to_vec(), ..Outbox::default() };
            outbox.set_rest(Body::Static(b"rest"));
            outbox.set_body(Body::Static(b"bodybody"));
            let mut gone = Vec::new();
            while outbox.waiting() > 0 {
                let portion = outbox.portion(portion_bytes).concat();
                assert_eq!(portion.len(), outbox.waiting().min(portion_bytes));
                gone.extend_from_slice(&portion);
                outbox.sent += portion.len();
            }
            assert_eq!(gone, b"restheadbodybody", "{portion_bytes}");
            outbox.clear();
            assert_eq!((outbox.waiting(), outbox.portion(9)), (0, [&b""[..]; 3]));
        }
    }

    #[test]
    fn a_watcher_is_a_cache_line() {
        // Ten thousand of them are idle most of the time.
        assert!(size_of::<Watcher>() <= 64);
    }
}
