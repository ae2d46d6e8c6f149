//! What the log says of refused lines: of each kind of error one line a second, so that a flood of one neither fills
//! the log nor hides another.

use crate::metrics::LINE_ERRORS;
use crate::wire::line::LineError;

/// Between two lines about one kind; those in between are counted in the next.
const PAUSE_MILLIS: u64 = 1_000;

#[derive(Clone, Copy, Default)]
struct Kind {
    /// Before this moment nothing more is said.
    next_at: u64,
    unlogged: u64,
}

#[derive(Default)]
pub struct RefusedLineLog {
    kinds: [Kind; LINE_ERRORS],
}

impl RefusedLineLog {
    /// Notes one. If it is to be logged, this gives how many of its kind were not since the last.
    pub fn note(&mut self, error: LineError, now_millis: u64) -> Option<u64> {
        let kind = &mut self.kinds[error as usize];
        if now_millis < kind.next_at {
            kind.unlogged += 1;
            return None;
        }
        kind.next_at = now_millis + PAUSE_MILLIS;
        Some(std::mem::take(&mut kind.unlogged))
    }

    /// A kind of which some were not logged and none came for a while, and how many those were.
    pub fn take_rest(&mut self, now_millis: u64) -> Option<(LineError, u64)> {
        let index =
            self.kinds.iter().position(|kind| kind.is_over_at().is_some_and(|at| at <= now_millis))?;
        Some((LineError::ALL[index], std::mem::take(&mut self.kinds[index].unlogged)))
    }

    /// When [`RefusedLineLog::take_rest`] has something to tell.
    pub fn rest_at(&self) -> Option<u64> {
        self.kinds.iter().filter_map(Kind::is_over_at).min()
    }
}

impl Kind {
    /// While a flood goes on, its next line tells of those before it; only then does nobody.
    fn is_over_at(&self) -> Option<u64> {
        (self.unlogged > 0).then_some(self.next_at + PAUSE_MILLIS)
    }
}

#[cfg(test)]
mod tests {
    use super::RefusedLineLog;
    use crate::wire::line::LineError::{BadId, BadJson};

    #[test]
    fn each_kind_is_told_of_once_a_second_and_none_is_forgotten() {
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
