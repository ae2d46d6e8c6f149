//! How many bytes of messages may be asked for.

use crate::bus::verdict::CREDIT_BYTES;

/// Behind a pull that ended before anything came of it: the next one may end like it.
const PAUSE_MILLIS: u64 = 100;
/// Bytes of one pull at most: the largest message that a server can be set to take.
const PULL_BYTES_MAX: u64 = 128 << 20;

/// Bytes that were asked for, and that are held by those who take the messages.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Credit {
    asked: u64,
    held: u64,
    /// A message did not fit into a whole pull: at least so much is asked for until one comes.
    floor: u64,
    /// A message has come since a pull last ended.
    has_come: bool,
    /// A pull ended with nothing: nothing is pulled before.
    rests_until: u64,
}

impl Credit {
    /// Something was asked for, and has not come.
    pub fn is_awaited(&self) -> bool {
        self.asked > 0
    }

    /// When the next pull can be made, if there is room for one.
    pub fn due(&self) -> Option<u64> {
        let has_room = 2 * (self.asked + self.held) <= self.total();
        has_room.then_some(self.rests_until)
    }

    fn total(&self) -> u64 {
        CREDIT_BYTES.max(self.floor)
    }

    /// Bytes to be pulled now.
    pub fn pull(&mut self, now: u64) -> Option<u64> {
        self.due().filter(|due| *due <= now)?;
        let bytes = self.total() - self.asked - self.held;
        self.asked += bytes;
        Some(bytes)
    }

    pub fn handle_message(&mut self, bytes: u64) {
        self.asked = self.asked.saturating_sub(bytes);
        self.floor = 0;
        self.has_come = true;
    }

    /// A message is passed on.
    pub fn hold(&mut self, bytes: u64) {
        self.held += bytes;
    }

    pub fn release(&mut self, bytes: u64) {
        self.held = self.held.saturating_sub(bytes);
    }

    /// A pull has ended with `left` bytes of it unused.
    pub fn handle_end(&mut self, now: u64, left: u64, is_too_large: bool) {
        self.asked = self.asked.saturating_sub(left);
        // A full pull ends like this too, with less left than the next message needs.
        if std::mem::take(&mut self.has_come) {
            return;
        }
        if is_too_large && self.held == 0 {
            self.floor = (2 * self.total()).min(PULL_BYTES_MAX);
        }
        // A full pull ends like this too, with less left than the next message needs.
        if !std::mem::take(&mut self.has_come) {
            self.rests_until = now + PAUSE_MILLIS;
        }
    }

    /// Nothing of what was asked for will come.
    pub fn reset(&mut self) {
        (self.asked, self.has_come, self.rests_until) = (0, false, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::{CREDIT_BYTES, Credit, PULL_BYTES_MAX};

    #[test]
    fn no_more_is_asked_for_than_there_is_room_for() {
        let mut credit = Credit::default();
        assert_eq!(credit.pull(5), Some(CREDIT_BYTES));
        assert_eq!((credit.pull(5), credit.due(), credit.is_awaited()), (None, None, true));
        credit.handle_message(CREDIT_BYTES);
        credit.hold(CREDIT_BYTES);
        assert_eq!((credit.pull(6), credit.is_awaited()), (None, false));
        credit.release(CREDIT_BYTES / 2 - 1);
        assert_eq!(credit.pull(7), None);
        credit.release(1);
        assert_eq!(credit.pull(7), Some(CREDIT_BYTES / 2));
    }

    #[test]
    fn only_a_pull_that_nothing_came_of_is_followed_by_a_rest() {
        let mut credit = Credit::default();
        let asked = credit.pull(5).unwrap();
        credit.handle_message(asked - 9);
        credit.handle_end(6, 9, true);
        assert_eq!(credit.pull(6), Some(CREDIT_BYTES));
        credit.handle_end(7, CREDIT_BYTES, false);
        assert_eq!((credit.pull(7), credit.due()), (None, Some(107)));
        assert_eq!(credit.pull(107), Some(CREDIT_BYTES));
    }

    #[test]
    fn more_is_asked_for_where_a_message_does_not_fit() {
        let mut credit = Credit::default();
        let mut asked = credit.pull(0).unwrap();
        for turn in 1..10 {
            credit.handle_end(turn * 1_000, asked, true);
            assert_eq!(credit.pull(turn * 1_000), None, "it rests first");
            asked = credit.pull(turn * 1_000 + 100).unwrap();
        }
        assert_eq!(asked, PULL_BYTES_MAX);
        credit.handle_message(100 << 20);
        credit.handle_end(20_000, asked - (100 << 20), false);
        assert_eq!(credit.pull(30_000), Some(CREDIT_BYTES));
    }
}
