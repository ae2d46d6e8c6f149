//! Bytes sent without a copy: part of the program, made for one client's answer, or the rest of a frame in a batch.
//! All answers in flight share a bound, since a slow client holds its answer until it has read it.

use std::ops::{Deref, Range};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::stream::batch::Batch;
use crate::stream::dialect;

/// Bytes of all answers in flight: the longest list of jobs has a few MiB, so there is room for a dozen slow readers.
pub const IN_FLIGHT_BYTES_MAX: usize = 64 << 20;

/// How many bytes of answers are in flight.
#[derive(Clone, Default)]
pub struct InFlightBudget(Arc<AtomicUsize>);

pub struct OwnedBody {
    bytes: Vec<u8>,
    in_flight: InFlightBudget,
}

impl OwnedBody {
    /// None: too many bytes are in flight already.
    pub fn new(bytes: Vec<u8>, in_flight: &InFlightBudget) -> Option<Self> {
        let body = Self { bytes, in_flight: in_flight.clone() };
        let before = in_flight.0.fetch_add(body.bytes.capacity(), Ordering::Relaxed);
        (before + body.bytes.capacity() <= IN_FLIGHT_BYTES_MAX).then_some(body)
    }
}

impl Drop for OwnedBody {
    fn drop(&mut self) {
        self.in_flight.0.fetch_sub(self.bytes.capacity(), Ordering::Relaxed);
    }
}

pub enum Body {
    /// Part of the program.
    Static(&'static [u8]),
    /// Made for one answer.
    Made(OwnedBody),
    /// A byte range of a batch's frames.
    Frames(Arc<Batch>, Range<u32>),
    /// A byte range of a batch's frames in the other dialect.
    Dialect(Arc<Batch>, Range<u32>),
}

impl Default for Body {
    fn default() -> Self {
        Body::Static(&[])
    }
}

impl Deref for Body {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Body::Static(bytes) => bytes,
            Body::Made(body) => &body.bytes,
            Body::Frames(batch, range) => &batch.bytes()[range.start as usize..range.end as usize],
            Body::Dialect(batch, range) => {
                // It exists already: a part of it was sent.
                let made = batch.dialect(dialect::of_batch, |_| {});
                &made.bytes[range.start as usize..range.end as usize]
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{IN_FLIGHT_BYTES_MAX, InFlightBudget, OwnedBody};

    #[test]
    fn bytes_in_flight_are_bounded_and_room_comes_back() {
        let in_flight = InFlightBudget::default();
        let half = || OwnedBody::new(Vec::with_capacity(IN_FLIGHT_BYTES_MAX / 2), &in_flight);
        let first = half().unwrap();
        let second = half().unwrap();
        assert!(OwnedBody::new(vec![0], &in_flight).is_none());
        drop(first);
        assert!(OwnedBody::new(vec![0], &in_flight).is_some());
        let third = half().unwrap();
        drop((second, third));
        assert_eq!(in_flight.0.load(std::sync::atomic::Ordering::Relaxed), 0);
    }
}
