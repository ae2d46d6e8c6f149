//! Lines that `publish` has sent and the daemon has not judged yet, kept to show where a refused one is at fault, as
//! the daemon's log does.

use std::collections::VecDeque;

use crate::wire::line::LineError;
use crate::wire::line_fault::{Rules, describe};

/// More than the socket and the daemon hold of unjudged lines. Beyond it the oldest lines are forgotten, and only
/// their place of fault is not shown.
const BYTES_MAX: usize = 1 << 20;

/// What a line costs beyond its bytes.
const RECORD_BYTES: usize = size_of::<(u64, usize)>();

#[derive(Default)]
pub struct Unjudged {
    /// Number and length, in order.
    lines: VecDeque<(u64, usize)>,
    bytes: VecDeque<u8>,
}

impl Unjudged {
    /// Adds a trimmed line, whose number is greater than all before.
    pub fn push(&mut self, number: u64, line: &[u8]) {
        let cost = line.len() + RECORD_BYTES;
        if cost > BYTES_MAX {
            return;
        }
        while self.bytes.len() + self.lines.len() * RECORD_BYTES + cost > BYTES_MAX {
            self.pop();
        }
        self.lines.push_back((number, line.len()));
        self.bytes.extend(line);
    }

    /// Forgets the lines before this one, which the daemon has judged.
    pub fn forget_before(&mut self, number: u64) {
        while self.lines.front().is_some_and(|(first, _)| *first < number) {
            self.pop();
        }
    }

    /// Where this line is at fault, to append to the daemon's message. Lines are judged in order.
    pub fn place(&mut self, number: u64, code: &str) -> String {
        self.forget_before(number);
        let Some((_, length)) = self.lines.front().filter(|(first, _)| *first == number) else {
            return String::new();
        };
        // The deepest nesting is a setting of the daemon.
        let error = LineError::ALL.into_iter().find(|error| error.code() == code);
        let Some(error) = error.filter(|error| *error != LineError::TooDeep) else {
            return String::new();
        };
        let line: Vec<u8> = self.bytes.range(..*length).copied().collect();
        place(&line, error, 0)
    }

    fn pop(&mut self) {
        if let Some((_, length)) = self.lines.pop_front() {
            self.bytes.drain(..length);
        }
    }
}

/// Where a line is at fault, after a colon; empty if the message says it all.
pub fn place(line: &[u8], error: LineError, depth_max: usize) -> String {
    match describe(line, error, &Rules::of_depth(depth_max)) {
        place if place.is_empty() => place,
        place => format!(": {place}"),
    }
}

#[cfg(test)]
mod tests {
    use super::{BYTES_MAX, Unjudged};

    #[test]
    fn a_refused_line_is_reported_with_its_fault_while_it_is_kept() {
        let mut lines = Unjudged::default();
        lines.push(2, b"{}");
        lines.push(5, br#"{"type":"x","job_id":"etl/7"}"#);
        lines.push(6, b"[]");
        assert_eq!(lines.place(5, "bad_id"), ": job_id: character 4 is '/'");
        assert_eq!(lines.place(5, "of_a_later_version"), "");
        assert_eq!(lines.place(5, "too_deep"), "");
        assert_eq!(lines.place(6, "not_an_object"), ": it begins with '['");
        assert_eq!(lines.place(7, "not_an_object"), "");
    }

    #[test]
    fn what_is_held_is_bounded() {
        let mut lines = Unjudged::default();
        for number in 0..1_000_000 {
            lines.push(number, b"[");
        }
        assert!(lines.lines.len() < BYTES_MAX && lines.bytes.len() == lines.lines.len());
        assert_eq!(lines.place(0, "not_an_object"), "");
        assert_eq!(lines.place(999_999, "not_an_object"), ": it begins with '['");
        lines.push(1_000_000, &vec![b'['; BYTES_MAX]);
        assert_eq!(lines.place(1_000_000, "not_an_object"), "");
    }
}
