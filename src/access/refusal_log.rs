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
}
