//! Limits the log of refusals to one line a second per reason, so that a flood of one neither fills the log nor hides
//! another.

/// Least time between two lines about refusals for the same reason; those in between are counted in the next line.
const PAUSE_MILLIS: u64 = 1_000;

#[derive(Default)]
pub struct RefusalLog {
    /// Few: reasons are words of the program, never a client's.
    reasons: Vec<Reason>,
}

struct Reason {
    /// From [`Refusal::reason`](crate::wire::http::Refusal::reason).
    reason: (u16, &'static str),
    next_at: u64,
    unlogged: u64,
}

impl RefusalLog {
    /// Notes a refusal. If it should be logged, returns how many of its kind were not logged since the last.
    pub fn note(&mut self, reason: (u16, &'static str), now_millis: u64) -> Option<u64> {
        let next_at = now_millis + PAUSE_MILLIS;
        let Some(reason) = self.reasons.iter_mut().find(|known| known.reason == reason) else {
            self.reasons.push(Reason { reason, next_at, unlogged: 0 });
            return Some(0);
        };
        if now_millis < reason.next_at {
            reason.unlogged += 1;
            return None;
        }
        reason.next_at = next_at;
        Some(std::mem::take(&mut reason.unlogged))
    }

    /// A reason that has stopped coming with some refusals not logged, and their number.
    pub fn take_rest(&mut self, now_millis: u64) -> Option<((u16, &'static str), u64)> {
        let is_over = |reason: &&mut Reason| reason.is_over_at().is_some_and(|at| at <= now_millis);
        let reason = self.reasons.iter_mut().find(is_over)?;
        Some((reason.reason, std::mem::take(&mut reason.unlogged)))
    }

    /// When [`RefusalLog::take_rest`] returns the next reason.
    pub fn rest_at(&self) -> Option<u64> {
        self.reasons.iter().filter_map(Reason::is_over_at).min()
    }
}

impl Reason {
    /// When it counts as stopped, if some of it are not logged. Until then the next log line can count them.
    fn is_over_at(&self) -> Option<u64> {
        (self.unlogged > 0).then_some(self.next_at + PAUSE_MILLIS)
    }
}

#[cfg(test)]
mod tests {
    use super::RefusalLog;

    #[test]
    fn one_line_a_second_for_each_reason() {
        let mut log = RefusalLog::default();
        assert_eq!(log.note((404, "not_found"), 5), Some(0));
        assert_eq!(log.note((404, "not_found"), 5), None);
        assert_eq!(log.note((404, "not_found"), 1_004), None);
        assert_eq!(log.note((400, "bad_request"), 1_004), Some(0), "a flood of others does not hide it");
        assert_eq!(log.note((404, "not_found"), 1_005), Some(2));
        assert_eq!(log.note((404, "not_found"), 1_006), None);
        assert_eq!(log.note((404, "not_found"), 9_000), Some(1));
        assert_eq!(log.note((400, "bad_request"), 9_000), Some(0));
        assert_eq!(log.note((400, "another"), 9_000), Some(0));
    }

    #[test]
    fn what_was_not_logged_is_counted_once_it_has_stopped() {
        let mut log = RefusalLog::default();
        log.note((404, "not_found"), 5);
        assert_eq!((log.rest_at(), log.take_rest(9_000)), (None, None));
        log.note((404, "not_found"), 6);
        log.note((404, "not_found"), 7);
        assert_eq!(log.rest_at(), Some(2_005));
        assert_eq!(log.take_rest(2_004), None);
        assert_eq!(log.take_rest(2_005), Some(((404, "not_found"), 2)));
        assert_eq!((log.rest_at(), log.take_rest(2_005)), (None, None));
    }
}
