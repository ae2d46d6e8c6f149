//! One reader of the stream: what the bus thread hands over, in its order.

use luxcast::bus::numbers::{Epochs, PLACES};
use luxcast::bus::verdict::{Hole, HoleReason};
use luxcast::net::bus::handle::Received;

use crate::stream::Stream;

pub struct Consumer {
    /// The next message.
    next: u64,
    /// Nothing is to be told up to this number.
    number: u64,
    epochs: Epochs,
    /// The last message when all that the stream had was told.
    complete_to: Option<u64>,
}

pub enum Told {
    Message(Box<Received>),
    Skip(Hole, u64),
    Complete(u64),
}

impl Consumer {
    pub fn new(next: u64, stream: &Stream) -> Self {
        Self { next, number: stream.number(next, 0) - 1, epochs: stream.epochs.clone(), complete_to: None }
    }

    /// What it only folds, before what it passes on.
    pub fn fold(message: u64, stream: &Stream) -> Option<Box<Received>> {
        received(message, None, stream).map(|received| Box::new(Received { is_folded: true, ..*received }))
    }

    pub fn next(&mut self, stream: &Stream) -> Option<Told> {
        if stream.epochs != self.epochs {
            let first_new = stream.epochs.first_new(&self.epochs).expect("there is one more");
            self.epochs.clone_from(&stream.epochs);
            if first_new < self.next {
                let to = stream.number(first_new, 0) - 1;
                self.next = first_new;
                let hole = Hole { from: self.number + 1, to, why: HoleReason::Restart };
                self.number = to;
                return Some(Told::Skip(hole, first_new - 1));
            }
        }
        let last = stream.last();
        let Some(message) = (self.next..=last).find(|&message| stream.message(message).is_some()) else {
            return self.end(last, stream);
        };
        let first = stream.number(message, 0);
        let is_new_epoch = (self.next..=message).any(|one| self.epochs.begins_at(one));
        let why = if is_new_epoch { HoleReason::Restart } else { HoleReason::Expired };
        let is_hole = (is_new_epoch || message > self.next) && self.number + 1 < first;
        let hole = is_hole.then_some(Hole { from: self.number + 1, to: first - 1, why });
        self.next = message + 1;
        self.number = stream.number(message, PLACES - 1);
        received(message, hole, stream).map(Told::Message)
    }

    /// There is nothing more.
    fn end(&mut self, last: u64, stream: &Stream) -> Option<Told> {
        if self.next <= last {
            self.next = last + 1;
            let to = stream.number(last, PLACES - 1);
            let hole = Hole { from: self.number + 1, to, why: HoleReason::Expired };
            self.number = to;
            return Some(Told::Skip(hole, last));
        }
        let is_new = self.complete_to.replace(last) != Some(last);
        is_new.then_some(Told::Complete(last))
    }
}

fn received(message: u64, hole: Option<Hole>, stream: &Stream) -> Option<Box<Received>> {
    let found = stream.message(message)?;
    Some(Box::new(Received {
        message,
        first: found.first,
        time_nanos: message * 1_000_000_000,
        bytes: found.payload.len() as u64,
        is_folded: false,
        hole,
        headers: Some(Default::default()),
        payload: Box::new(found.payload.clone()),
    }))
}
