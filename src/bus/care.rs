//! Whether the next message may be one that no consumer can bring.

/// The connection has to end so often before one message; once, if there was one before that no consumer could bring.
const ENDS_MIN: (u32, u32) = (2, 1);
/// Messages that are read alone behind one that had to be, at most.
const SPAN_MAX: u64 = 1 << 12;
/// Another one within so many times the last span makes the span longer.
const SPANS_APART: u64 = 8;

/// Where the connection ended, and what had to be read alone.
#[derive(Debug, Default)]
pub(super) struct Care {
    /// What was passed on when the connection ended last, and how often it has ended there.
    ended_at: u64,
    ends: u32,
    /// It ended before the message came that the consumer had to begin with.
    is_unmatched: bool,
    /// The last message that no consumer can bring.
    odd: Option<u64>,
    /// So many good messages are read alone behind it. They get more where such messages are many.
    span: u64,
    /// Up to here messages are read alone.
    until: u64,
}

impl Care {
    pub fn note_end(&mut self, passed: u64, is_unmatched: bool) {
        if self.ended_at != passed {
            (self.ended_at, self.ends) = (passed, 0);
        }
        self.ends += 1;
        self.is_unmatched = is_unmatched;
    }

    /// Whether a consumer may end the connection. `passed` was passed on, and is to come once more if `must_match`; `last`
    /// is the newest message.
    pub fn is_needed(&self, passed: u64, last: u64, must_match: bool) -> bool {
        if self.odd == Some(passed) && must_match {
            return true;
        }
        let ends_min = if self.odd.is_some() { ENDS_MIN.1 } else { ENDS_MIN.0 };
        let is_something_to_come = passed < last || self.is_unmatched;
        self.ended_at == passed && self.ends >= ends_min && is_something_to_come
    }

    /// Whether no consumer can bring the message that was passed on last.
    pub fn is_odd(&self, passed: u64) -> bool {
        self.odd == Some(passed) || self.ended_at == passed && self.ends >= ENDS_MIN.0 && self.is_unmatched
    }

    /// A message was read alone. Returns whether the next one is to be.
    pub fn note_read(&mut self, message: u64, is_odd: bool) -> bool {
        if is_odd && self.odd != Some(message) {
            let is_near = |_: &u64| message <= self.until + SPANS_APART * self.span;
            self.span = match self.odd.filter(is_near) {
                // One run of them says nothing of others.
                Some(odd) if odd + 1 == message => self.span,
                Some(_) => (2 * self.span).min(SPAN_MAX),
                None => 1,
            };
            (self.odd, self.until) = (Some(message), message + self.span);
        }
        message < self.until
    }

    /// There is nothing to be read alone. What there is may come through a consumer all the same.
    pub fn give_up(&mut self) {
        self.ends = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::{Care, SPAN_MAX};

    #[test]
    fn where_such_messages_are_many_more_are_read_alone() {
        let mut care = Care::default();
        assert!(care.note_read(100, true) && !care.note_read(101, false), "one behind the first");
        assert!(care.note_read(105, true) && care.note_read(106, false) && !care.note_read(107, false));
        for message in (110..100_000).step_by(10) {
            care.note_read(message, true);
        }
        assert_eq!(care.span, SPAN_MAX);
        assert!(care.note_read(1_000_000, true) && !care.note_read(1_000_001, false), "they were few");
    }
}
