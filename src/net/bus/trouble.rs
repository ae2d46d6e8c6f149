//! Trouble that the log is told of once it has lasted, now and then while it lasts, and when it is over. Most of it is over
//! before anybody could read of it.

use std::collections::HashMap;
use std::hash::Hash;

/// It is told of when it has lasted for so long,
const LASTS_MILLIS: u64 = 3_000;
/// and again after so long.
const AGAIN_MILLIS: u64 = 60_000;
/// What has gone wrong is tried again sooner than that. If not, nobody wants it any more.
const STALE_MILLIS: u64 = 15_000;

/// Trouble of one kind, with some of those who can have it.
#[derive(Debug)]
pub(super) struct Trouble<K> {
    /// Since when each has it, and when it was there last.
    troubled: HashMap<K, (u64, u64), foldhash::fast::RandomState>,
    told_at: Option<u64>,
}

impl<K> Default for Trouble<K> {
    fn default() -> Self {
        Self { troubled: HashMap::default(), told_at: None }
    }
}

impl<K: Eq + Hash> Trouble<K> {
    /// This one has failed. True: the log is to be told of it.
    pub fn handle_bad(&mut self, now: u64, key: K) -> bool {
        self.forget(now);
        let (since, last) = self.troubled.entry(key).or_insert((now, now));
        *last = now;
        let has_lasted = now - *since >= LASTS_MILLIS;
        let is_due = has_lasted && self.told_at.is_none_or(|at| now - at >= AGAIN_MILLIS);
        if is_due {
            self.told_at = Some(now);
        }
        is_due
    }

    /// This one has not failed. True: the log was told of trouble, and now there is none.
    pub fn handle_good(&mut self, now: u64, key: &K) -> bool {
        if self.troubled.is_empty() && self.told_at.is_none() {
            return false;
        }
        self.troubled.remove(key);
        self.forget(now);
        self.troubled.is_empty() && self.told_at.take().is_some()
    }

    fn forget(&mut self, now: u64) {
        self.troubled.retain(|_, (_, last)| now - *last <= STALE_MILLIS);
    }
}

#[cfg(test)]
mod tests {
    use super::{AGAIN_MILLIS, LASTS_MILLIS, STALE_MILLIS, Trouble};

    #[test]
    fn what_lasts_is_told_once_a_minute_and_when_it_is_over() {
        let mut trouble = Trouble::default();
        assert!(!trouble.handle_good(0, &'a') && !trouble.handle_bad(0, 'a'));
        assert!(!trouble.handle_good(10, &'a'), "nobody was told");
        let told: Vec<u64> =
            (20..2 * AGAIN_MILLIS).step_by(500).filter(|&now| trouble.handle_bad(now, 'a')).collect();
        assert_eq!(told, [20 + LASTS_MILLIS, 20 + LASTS_MILLIS + AGAIN_MILLIS]);
        let now = 2 * AGAIN_MILLIS;
        assert!(!trouble.handle_good(now, &'b'), "the other one still has it");
        assert!(trouble.handle_good(now, &'a') && !trouble.handle_good(now, &'a'));
    }

    #[test]
    fn who_has_gone_away_has_no_trouble() {
        let mut trouble = Trouble::default();
        assert!(!trouble.handle_bad(0, 'a') && trouble.handle_bad(LASTS_MILLIS, 'a'));
        let later = LASTS_MILLIS + STALE_MILLIS;
        assert!(!trouble.handle_good(later, &'b') && trouble.handle_good(later + 1, &'b'));
        assert!(!trouble.handle_bad(later + 2, 'a'), "that is another time");
    }
}
