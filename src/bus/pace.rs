//! How fast a pass over the past may go: as fast as its readers, but not slower than those can bear who have to wait.

use crate::stream::link::NOTHING_NEEDED;
use crate::stream::past::Demand;

/// So long somebody with room waits for others that read, at most.
const PATIENCE_MILLIS: u64 = 3_000;
/// So long it waits for one that does not move at all. Half as long for the next one that does not, and so on.
const PATIENCE_WITH_STUCK_MILLIS: u64 = 512;
const PATIENCE_WITH_STUCK_MILLIS_MIN: u64 = 16;
/// Who stands before a pass that has read all there is waits so long for those that hold it up.
const PATIENCE_AT_END_MILLIS: u64 = 1_000;
/// After that the pass goes on by one part in this many of what it has. Whoever falls out of it waits for the next.
const STEP: usize = 4;

/// The pace of one pass.
pub struct Pace {
    pass: u64,
    /// Bytes that the pass may have at a time.
    limit: usize,
    starving_since: Option<u64>,
    /// What held the pass up last, and since when.
    held_at: (u64, u64),
    /// It has not moved since the pass went on without others.
    is_after_step: bool,
    patience_with_stuck: u64,
    /// Since when somebody waits for the next pass though this one has nothing more to read.
    waiting_since: Option<u64>,
    /// Bytes that may be taken whoever is left behind.
    free: usize,
}

impl Pace {
    pub fn new(pass: u64, limit: usize) -> Self {
        Self {
            pass,
            limit,
            starving_since: None,
            held_at: (0, 0),
            is_after_step: true,
            patience_with_stuck: PATIENCE_WITH_STUCK_MILLIS,
            waiting_since: None,
            free: 0,
        }
    }

    /// The least number that must not be dropped now. None: the pass stands still. `would_drop` says whether going on
    /// would drop events from some number on.
    pub fn keep_from(
        &mut self,
        now_millis: u64,
        demand: &Demand,
        would_drop: impl FnOnce(u64) -> bool,
    ) -> Option<u64> {
        let needed = match demand.reading {
            // Nobody has looked at this pass yet.
            _ if demand.watchers > 0 && demand.pass != self.pass => 0,
            Some(seq) => seq + 1,
            None => NOTHING_NEEDED,
        };
        if !would_drop(needed) {
            self.starving_since = None;
            return Some(needed);
        }
        if self.free > 0 {
            return Some(NOTHING_NEEDED);
        }
        if self.held_at.0 != needed {
            if !self.is_after_step {
                self.patience_with_stuck = PATIENCE_WITH_STUCK_MILLIS;
            }
            (self.held_at, self.is_after_step) = ((needed, now_millis), false);
        }
        if !demand.is_starving || needed == 0 {
            self.starving_since = None;
            return None;
        }
        let since = *self.starving_since.get_or_insert(now_millis);
        let is_stuck = now_millis >= self.held_at.1.max(since) + self.patience_with_stuck;
        if !is_stuck && now_millis < since + PATIENCE_MILLIS {
            return None;
        }
        if is_stuck {
            self.patience_with_stuck = (self.patience_with_stuck / 2).max(PATIENCE_WITH_STUCK_MILLIS_MIN);
        }
        (self.starving_since, self.is_after_step) = (None, true);
        self.free = self.limit / STEP;
        Some(NOTHING_NEEDED)
    }

    /// So many bytes were taken.
    pub fn note_taken(&mut self, bytes: usize) {
        self.free = self.free.saturating_sub(bytes);
    }

    /// Nobody reads this pass any more, or it only waits for those who are slower than others can bear. `is_complete`: all
    /// that the stream has was read.
    pub fn is_over(&mut self, now_millis: u64, demand: &Demand, is_complete: bool) -> bool {
        if demand.watchers == 0 || demand.pass == self.pass && demand.reading.is_none() {
            return true;
        }
        if !is_complete || demand.waiting.is_none() {
            self.waiting_since = None;
            return false;
        }
        now_millis >= *self.waiting_since.get_or_insert(now_millis) + PATIENCE_AT_END_MILLIS
    }
}

#[cfg(test)]
mod tests {
    use super::Pace;
    use crate::stream::link::NOTHING_NEEDED;
    use crate::stream::past::Demand;

    fn demand(pass: u64, reading: Option<u64>, is_starving: bool) -> Demand {
        Demand { pass, waiting: None, reading, is_starving, watchers: 2 }
    }

    #[test]
    fn it_waits_for_those_who_read_and_not_too_long_if_others_wait() {
        let mut pace = Pace::new(2, 1_000);
        let reads = |needed| needed <= 500;
        assert_eq!(pace.keep_from(0, &demand(2, Some(600), false), reads), Some(601));
        // However slow the only ones are who read.
        for now in [0, 10_000, 20_000] {
            assert_eq!(pace.keep_from(now, &demand(2, Some(400), false), reads), None);
        }
        // Others wait, and somebody reads on, if slowly.
        let starving = |seq| demand(2, Some(seq), true);
        for step in 0..10 {
            assert_eq!(pace.keep_from(30_000 + 300 * step, &starving(400 + step), reads), None);
        }
        assert_eq!(pace.keep_from(33_000, &starving(410), reads), Some(NOTHING_NEEDED));
        pace.note_taken(200);
        assert_eq!(pace.keep_from(33_001, &starving(410), reads), Some(NOTHING_NEEDED));
        pace.note_taken(50);
        assert_eq!(pace.keep_from(33_002, &starving(411), reads), None);
    }

    #[test]
    fn those_who_do_not_read_hold_it_up_for_a_second_together() {
        let mut pace = Pace::new(2, 1_000);
        let mut now = 0;
        let mut step = |seq: u64| {
            let begin = now;
            while pace.keep_from(now, &demand(2, Some(seq), true), |needed| needed < 99)
                != Some(NOTHING_NEEDED)
            {
                now += 1;
            }
            pace.note_taken(1_000);
            now - begin
        };
        assert_eq!([1, 2, 3, 4].map(&mut step), [512, 256, 128, 64]);
        assert_eq!([5, 6, 7, 8, 9].map(&mut step), [32, 16, 16, 16, 16]);
    }

    #[test]
    fn nothing_is_dropped_before_all_have_looked_and_it_ends_with_its_readers() {
        let mut pace = Pace::new(2, 1_000);
        let never_dropped = |needed| needed == 0;
        assert_eq!(pace.keep_from(0, &demand(1, None, true), never_dropped), None);
        assert_eq!(pace.keep_from(60_000, &demand(1, None, true), never_dropped), None);
        assert_eq!(pace.keep_from(0, &demand(2, None, true), never_dropped), Some(NOTHING_NEEDED));
        let mut is_over = |now, demand, is_complete| pace.is_over(now, &demand, is_complete);
        assert!(!is_over(0, demand(1, None, true), false) && !is_over(0, demand(2, Some(5), true), false));
        assert!(is_over(0, demand(2, None, true), false) && is_over(0, Demand::default(), false));
        // Somebody waits for the next one, and others hold this one up.
        let both = |waiting| Demand { waiting, ..demand(2, Some(5), true) };
        assert!(!is_over(10_000, both(Some(3)), false) && !is_over(20_000, both(Some(3)), true));
        assert!(!is_over(20_999, both(Some(3)), true) && is_over(21_000, both(Some(3)), true));
        assert!(!is_over(24_000, both(None), true) && !is_over(30_000, both(Some(3)), true));
    }
}
