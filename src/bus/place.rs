//! The reader's place in the stream: which stream it is, what was passed on of it, and whether it is still the same.

use std::collections::VecDeque;

use crate::bus::numbers::{Epochs, PLACES};
use crate::bus::verdict::{Arrival, Hole, HoleReason, Info, Stop, Verdict};

/// Marks of the past that may have to be folded again.
const MARKS: u64 = 16;

/// A hole, and the last message in it.
pub(super) type Skipped = Option<(Hole, u64)>;

#[derive(Debug, Default)]
pub(super) struct Place {
    /// The stream, as it was when it was asked about last.
    known: Option<Info>,
    /// The last message that was passed on, folded, or passed over.
    pub message: u64,
    /// When the stream took it. None: it was not seen, so another one cannot be told from it.
    time_nanos: Option<u64>,
    /// The greatest number that may have been used; 0: nobody was told any.
    pub number: u64,
    /// This message was missing once.
    doubted: Option<u64>,
    /// Messages before this one are only folded.
    fold_before: u64,
    /// How much of the past, in nanoseconds of the stream's time, decides what is known of publishers.
    fold_nanos: u64,
    /// Times and messages, some apart, of the last `fold_nanos`.
    marks: VecDeque<(u64, u64)>,
    /// Since when the stream has been shorter than what was passed on.
    pub short_since: Option<u64>,
    /// It was shorter for too long. Only the message that was passed on last can prove that it is whole again.
    pub has_lost_tail: bool,
}

impl Place {
    pub fn new(from: u64, passed_from: u64, fold_millis: u64) -> Self {
        Self {
            message: from.max(1) - 1,
            fold_before: passed_from,
            fold_nanos: fold_millis.saturating_mul(1_000_000),
            ..Self::default()
        }
    }

    pub fn epochs(&self) -> Option<&Epochs> {
        self.known.as_ref().map(|info| &info.epochs)
    }

    /// Whether it is the stream that was asked about last.
    pub fn is_in(&self, info: &Info) -> bool {
        let is_same = |known: &Info| known.created_nanos == info.created_nanos && known.epochs == info.epochs;
        self.known.as_ref().is_some_and(is_same)
    }

    /// Whether the last message can be compared with what the stream has in its place.
    pub fn can_match(&self, info: &Info) -> bool {
        self.time_nanos.is_some() && info.first <= self.message
    }

    /// None: it is another message than the last one. Else whether that is still the same.
    pub fn matches(&self, arrival: &Arrival) -> Option<bool> {
        let is_there = arrival.message == self.message;
        is_there.then_some(self.time_nanos == Some(arrival.time_nanos))
    }

    /// Message `missing` should have come, and did not. True: another consumer may find it.
    pub fn doubt(&mut self, missing: u64) -> bool {
        self.doubted.replace(missing) != Some(missing)
    }

    pub fn is_next(&self, arrival: &Arrival) -> bool {
        arrival.message == self.message + 1
    }

    /// Passes a message on that comes behind the last one.
    pub fn take(&mut self, arrival: &Arrival) -> Result<Verdict, Stop> {
        let epochs = self.epochs().expect("a consumer was made for them");
        let ends = [0, PLACES - 1].map(|place| epochs.number(arrival.message, place));
        let [Ok(first), Ok(last)] = ends else { return Err(Stop::Full) };
        let is_new_epoch = epochs.begins_at(arrival.message);
        let is_next = self.is_next(arrival);
        self.mark(arrival);
        (self.message, self.time_nanos) = (arrival.message, Some(arrival.time_nanos));
        if arrival.message < self.fold_before {
            return Ok(Verdict::Fold);
        }
        let is_hole = (is_new_epoch || !is_next) && self.number + 1 < first;
        let why = if is_new_epoch { HoleReason::Restart } else { HoleReason::Expired };
        let hole = Hole { from: self.number + 1, to: first - 1, why };
        // Nobody was told anything before the first message.
        let hole = Some(hole).filter(|_| is_hole && self.number > 0);
        self.number = last;
        Ok(Verdict::Take(hole))
    }

    /// Notes where `fold_nanos` before the newest message begin.
    fn mark(&mut self, arrival: &Arrival) {
        let time = arrival.time_nanos;
        let apart = self.fold_nanos / MARKS;
        if self.marks.back().is_none_or(|mark| mark.0 + apart <= time) {
            self.marks.push_back((time, arrival.message));
        }
        while self.marks.get(1).is_some_and(|mark| mark.0 + self.fold_nanos <= time) {
            self.marks.pop_front();
        }
    }

    /// Takes the stream for the one to be read, or says why it cannot be.
    pub fn identify(&mut self, info: &Info) -> Result<Skipped, Stop> {
        let known = self.known.get_or_insert_with(|| info.clone());
        let is_other = known.created_nanos != info.created_nanos;
        let begins_before = |from: u64| from <= self.message;
        let why = match info.epochs.first_new(&known.epochs) {
            _ if is_other => Stop::OtherStream,
            _ if !info.epochs.continues(&known.epochs) => return Err(Stop::OtherNumbers),
            Some(from) if begins_before(from) => Stop::OtherNumbers,
            _ if self.has_lost_tail => Stop::LostTail,
            first_new => {
                // It may begin where messages are only folded.
                self.fold_before = first_new.unwrap_or(u64::MAX).min(self.fold_before);
                known.clone_from(info);
                return Ok(None);
            }
        };
        // What was passed on is lost, or the end of it. What has greater numbers can follow.
        let Some(next) = info.epochs.first_above(self.number + 1) else {
            return if why == Stop::LostTail { Ok(None) } else { Err(why) };
        };
        known.clone_from(info);
        let first = info.epochs.number(next, 0).map_err(|_| Stop::Full)?;
        let hole = Hole { from: self.number + 1, to: first - 1, why: HoleReason::Restart };
        let skipped = (self.number > 0).then_some((hole, next - 1));
        self.number = if self.number > 0 { first - 1 } else { 0 };
        let mark = self.marks.front().filter(|mark| !is_other && mark.1 < next);
        let fold_from = mark.map_or(if is_other { 1 } else { next }, |mark| mark.1);
        self.marks.clear();
        self.fold_before = next;
        (self.message, self.time_nanos) = (fold_from - 1, None);
        (self.has_lost_tail, self.short_since) = (false, None);
        Ok(skipped)
    }

    /// The stream does not have the messages up to `last`.
    pub fn skip_to(&mut self, last: u64) -> Result<Skipped, Stop> {
        let epochs = self.epochs().expect("the server has answered");
        let to = epochs.number(last, PLACES - 1).map_err(|_| Stop::Full)?;
        (self.message, self.time_nanos) = (last, None);
        if self.number == 0 || last < self.fold_before {
            return Ok(None);
        }
        let hole = Hole { from: self.number + 1, to, why: HoleReason::Expired };
        self.number = to;
        Ok(Some((hole, last)))
    }
}
