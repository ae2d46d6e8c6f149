//! Looks at the stream while the reader follows it: whether the consumer brings all that there is.

use crate::bus::reader::{LOOK_MILLIS, Reader, State};
use crate::bus::verdict::{Info, Restart};

/// Ends of the stream that are waited for at once.
const ENDS_MAX: usize = 8;

impl Reader {
    /// Somebody waits for all that the stream has by now. [`crate::bus::verdict::Action::Complete`] will say when that was
    /// passed on.
    pub fn hurry(&mut self, now: u64) {
        match (self.state, self.looking) {
            (State::Following, None) => self.look(now),
            (State::Following, Some(_)) => self.looks_again = true,
            // A question is to come.
            _ => {}
        }
    }

    pub(super) fn look(&mut self, now: u64) {
        self.look_at = now + LOOK_MILLIS;
        self.looking = Some((now, self.place.message));
        self.looks_again = false;
        self.ask();
    }

    /// Compares the stream with what has come of it. `passed` was passed on when it was asked about.
    pub(super) fn compare(&mut self, now: u64, info: &Info, asked_at: u64, passed: u64) {
        if !self.place.is_in(info) || info.last < passed {
            return self.begin(now, Restart::Changed);
        }
        let was_still =
            self.consumer.looked_at.replace(passed) == Some(passed) && passed == self.place.message;
        let has_more = self.consumer.must_match || passed < info.last;
        if was_still && has_more && self.credit.is_awaited() {
            let is_delivered = self.consumer.useful >= self.consumer.pending;
            let is_there = self.consumer.end <= info.last;
            if !is_delivered || !is_there {
                return self.begin(now, Restart::Stalled);
            }
            // The consumer was made later than its end was asked for, and has delivered all: the rest was removed.
            self.consumer.must_match = false;
            if passed < self.consumer.end {
                match self.place.skip_to(self.consumer.end) {
                    Ok(skipped) => self.skip(skipped),
                    Err(why) => {
                        self.stop(now, why);
                        return;
                    }
                }
            }
            if self.place.message < info.last {
                return self.begin(now, Restart::Stalled);
            }
        }
        if self.ends.len() == ENDS_MAX {
            // Whoever waits for this one is content with a later one.
            self.ends.pop_back();
        }
        // The consumer may know of more than the server that answered.
        let last = info.last.max(self.place.message + self.consumer.remaining);
        if was_still {
            // What was there and has not come is gone.
            self.ends.iter_mut().for_each(|end| end.1 = end.1.min(last));
        }
        self.ends.push_back((asked_at, last));
        self.check_end();
        if self.looks_again {
            self.look(now);
        }
    }
}
