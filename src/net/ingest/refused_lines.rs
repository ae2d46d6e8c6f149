//! Which refused lines are logged: one per second and kind of error, so that a flood of one kind neither fills the log
//! nor hides another kind.

use crate::metrics::LINE_ERRORS;
use crate::wire::line::LineError;

/// Least time between two log lines about one kind. The refused lines in between are counted in the next.
const PAUSE_MILLIS: u64 = 1_000;

#[derive(Clone, Copy, Default)]
struct Kind {
    /// Nothing is logged before this time, in milliseconds.
    next_at: u64,
    unlogged: u64,
}

#[derive(Default)]
pub struct RefusedLineLog {
    kinds: [Kind; LINE_ERRORS],
}

impl RefusedLineLog {
    /// Notes a refused line. Some: it is to be logged, with the number of its kind that were not logged since the last.
    pub fn note(&mut self, error: LineError, now_millis: u64) -> Option<u64> {
        let kind = &mut self.kinds[error as usize];
        if now_millis < kind.next_at {
            kind.unlogged += 1;
            return None;
        }
        kind.next_at = now_millis + PAUSE_MILLIS;
        Some(std::mem::take(&mut kind.unlogged))
    }

    /// A kind that has stopped coming with some lines not logged, and their number.
    pub fn take_rest(&mut self, now_millis: u64) -> Option<(LineError, u64)> {
        let index =
            self.kinds.iter().position(|kind| kind.is_over_at().is_some_and(|at| at <= now_millis))?;
        Some((LineError::ALL[index], std::mem::take(&mut self.kinds[index].unlogged)))
    }

    /// When [`RefusedLineLog::take_rest`] returns the next kind.
    pub fn rest_at(&self) -> Option<u64> {
        self.kinds.iter().filter_map(Kind::is_over_at).min()
    }
}

impl Kind {
    /// When the kind counts as stopped, if some of it are not logged. Until then the next log line can count them.
    fn is_over_at(&self) -> Option<u64> {
        (self.unlogged > 0).then_some(self.next_at + PAUSE_MILLIS)
    }
}

#[cfg(test)]
mod tests {
    use super::RefusedLineLog;
    use crate::wire::line::LineError::{BadId, BadJson};

    #[test]
    fn each_kind_is_logged_once_a_second_and_every_line_is_counted() {
        let mut log = RefusedLineLog::default();
        assert_eq!(log.note(BadJson, 5), Some(0));
        assert_eq!(log.note(BadJson, 300), None);
        assert_eq!(log.note(BadId, 300), Some(0), "another kind is not hidden");
        assert_eq!(log.note(BadJson, 1_005), Some(1));
        assert_eq!((log.rest_at(), log.take_rest(9_000)), (None, None));
        assert_eq!(log.note(BadJson, 1_006), None);
        assert_eq!(log.rest_at(), Some(3_005));
        assert_eq!(log.take_rest(3_004), None);
        assert_eq!(log.take_rest(3_005), Some((BadJson, 1)));
        assert_eq!(log.take_rest(3_005), None);
    }
}
