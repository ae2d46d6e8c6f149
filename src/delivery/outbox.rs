//! An outbox: bytes that are sent to one watcher before any further event. And the pool of empty ones.

use crate::delivery::owned_body::Body;

/// Empty outboxes kept for the next control frame, and the capacity that one may keep: room for several control
/// frames or the rest of a usual event. All watchers use them in turn, so in time each one has that capacity.
const SPARE_OUTBOXES_MAX: usize = 256;
pub(super) const SPARE_OUTBOX_BYTES_MAX: usize = 4 << 10;

/// What the rest of a frame is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestForm {
    AsItIs,
    /// Of the batch in the other dialect.
    Dialect,
    /// Blanks stand for its carriage returns.
    WithoutReturns,
}

/// Bytes to send before any further event: the rest of a frame, control frames, or an HTTP answer.
#[derive(Default)]
pub struct Outbox {
    pub bytes: Vec<u8>,
    /// Bytes to send that are not copied into this outbox, if there are any.
    elsewhere: Option<Box<Elsewhere>>,
    /// `sent <= rest + bytes + body`, in bytes.
    pub sent: usize,
}

#[derive(Default)]
struct Elsewhere {
    /// Sent before the bytes: the rest of a large frame.
    rest: Body,
    /// Its carriage returns are sent as blanks.
    changes_returns: bool,
    /// Sent after the bytes: the body of an answer.
    body: Body,
}

impl Outbox {
    /// Sets what is sent before the bytes. `changes_returns`: carriage returns in it are sent as blanks.
    pub fn set_rest(&mut self, rest: Body, changes_returns: bool) {
        let elsewhere = self.elsewhere.get_or_insert_default();
        (elsewhere.rest, elsewhere.changes_returns) = (rest, changes_returns);
    }

    /// Whether carriage returns in the first part of each portion are sent as blanks.
    pub fn changes_returns(&self) -> bool {
        self.elsewhere.as_ref().is_some_and(|elsewhere| elsewhere.changes_returns)
    }

    /// Sets what is sent after the bytes.
    pub fn set_body(&mut self, body: Body) {
        if !body.is_empty() {
            self.elsewhere.get_or_insert_default().body = body;
        }
    }

    pub fn has_body(&self) -> bool {
        self.elsewhere.as_ref().is_some_and(|elsewhere| !elsewhere.body.is_empty())
    }

    /// How many bytes are unsent.
    pub fn waiting(&self) -> usize {
        let elsewhere = self.elsewhere.as_ref().map_or(0, |other| other.rest.len() + other.body.len());
        self.bytes.len() + elsewhere - self.sent
    }

    /// The next unsent bytes, `bytes_max` at most, in three parts.
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

/// Empty outboxes, used again: a control frame allocates nothing.
#[derive(Default)]
pub struct OutboxPool {
    /// Boxed, as a watcher holds them: a watcher without one pays a pointer.
    #[expect(clippy::vec_box)]
    spares: Vec<Box<Outbox>>,
}

impl OutboxPool {
    /// The outbox in `place`, put there if there is none.
    pub fn outbox_in<'a>(&mut self, place: &'a mut Option<Box<Outbox>>) -> &'a mut Outbox {
        place.get_or_insert_with(|| self.spares.pop().unwrap_or_default())
    }

    /// Keeps an outbox for the next watcher, unless there are enough or it has grown large.
    pub fn take_back(&mut self, mut outbox: Box<Outbox>) {
        if self.spares.len() < SPARE_OUTBOXES_MAX && outbox.bytes.capacity() <= SPARE_OUTBOX_BYTES_MAX {
            outbox.clear();
            self.spares.push(outbox);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Outbox, OutboxPool, SPARE_OUTBOX_BYTES_MAX};
    use crate::delivery::owned_body::Body;

    #[test]
    fn unsent_bytes_are_sent_in_portions_and_in_order() {
        for portion_bytes in 1..16 {
            let mut outbox = Outbox { bytes: b"head".to_vec(), ..Outbox::default() };
            outbox.set_rest(Body::Static(b"rest"), false);
            outbox.set_body(Body::Static(b"bodybody"));
            let mut sent = Vec::new();
            while outbox.waiting() > 0 {
                let portion = outbox.portion(portion_bytes).concat();
                assert_eq!(portion.len(), outbox.waiting().min(portion_bytes));
                sent.extend_from_slice(&portion);
                outbox.sent += portion.len();
            }
            assert_eq!(sent, b"restheadbodybody", "{portion_bytes}");
            outbox.clear();
            assert_eq!((outbox.waiting(), outbox.portion(9)), (0, [&b""[..]; 3]));
        }
    }

    #[test]
    fn an_outbox_is_reused_empty_unless_it_is_large() {
        let mut pool = OutboxPool::default();
        let mut place = None;
        pool.outbox_in(&mut place).bytes.extend_from_slice(b"waiting");
        assert_eq!(pool.outbox_in(&mut place).waiting(), 7, "the same outbox is found again");
        let capacity = place.as_ref().expect("it was put there").bytes.capacity();
        pool.take_back(place.take().expect("it was put there"));
        let outbox = pool.outbox_in(&mut place);
        assert_eq!((outbox.waiting(), outbox.bytes.capacity()), (0, capacity));
        outbox.bytes.reserve(SPARE_OUTBOX_BYTES_MAX + 1);
        pool.take_back(place.take().expect("it was put there"));
        assert_eq!(pool.outbox_in(&mut place).bytes.capacity(), 0);
    }
}
