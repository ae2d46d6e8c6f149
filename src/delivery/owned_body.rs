//! Bytes that go out from where they lie: of the program, made for one client's answer, or the rest of a frame in a batch.
//! All answers that are on their way together have a bound, since a slow client keeps its own for as long as it reads.

use std::ops::{Deref, Range};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::stream::batch::Batch;
use crate::stream::dialect;

/// Of all answers on their way: the longest list of jobs has a few MiB, so this is room for a dozen slow readers of such.
pub const AFLOAT_BYTES_MAX: usize = 64 << 20;

/// How many bytes are on their way.
#[derive(Clone, Default)]
pub struct InFlightBudget(Arc<AtomicUsize>);

pub struct OwnedBody {
    bytes: Vec<u8>,
    afloat: InFlightBudget,
}

impl OwnedBody {
    /// None: too many bytes are on their way already.
    pub fn new(bytes: Vec<u8>, afloat: &InFlightBudget) -> Option<Self> {
        let parcel = Self { bytes, afloat: afloat.clone() };
        let before = afloat.0.fetch_add(parcel.bytes.capacity(), Ordering::Relaxed);
        (before + parcel.bytes.capacity() <= AFLOAT_BYTES_MAX).then_some(parcel)
    }
}

impl Drop for OwnedBody {
    fn drop(&mut self) {
        self.afloat.0.fetch_sub(self.bytes.capacity(), Ordering::Relaxed);
    }
}

pub enum Body {
    /// It is part of the program.
    Static(&'static [u8]),
    Made(OwnedBody),
    /// Of a batch's frames.
    Frames(Arc<Batch>, Range<u32>),
    /// Of a batch's frames in the other dialect.
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
            Body::Made(parcel) => &parcel.bytes,
            Body::Frames(batch, range) => &batch.bytes()[range.start as usize..range.end as usize],
            Body::Dialect(batch, range) => {
                // It was made before a part of it could go out.
                let made = batch.dialect(dialect::of_batch, |_| {});
                &made.bytes[range.start as usize..range.end as usize]
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{AFLOAT_BYTES_MAX, InFlightBudget, OwnedBody};

    #[test]
    fn what_is_on_its_way_is_bounded_and_room_comes_back() {
        let afloat = InFlightBudget::default();
        let half = || OwnedBody::new(Vec::with_capacity(AFLOAT_BYTES_MAX / 2), &afloat);
        let first = half().unwrap();
        let second = half().unwrap();
        assert!(OwnedBody::new(vec![0], &afloat).is_none());
        drop(first);
        assert!(OwnedBody::new(vec![0], &afloat).is_some());
        let third = half().unwrap();
        drop((second, third));
        assert_eq!(afloat.0.load(std::sync::atomic::Ordering::Relaxed), 0);
    }
}
