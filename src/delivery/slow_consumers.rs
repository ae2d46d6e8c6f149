//! The watchers of one shard whose sockets were found full: which still read, which have stalled.
//!
//! Times are milliseconds of one monotonic clock.

use crate::delivery::keys::WatcherKey;
use crate::delivery::progress::{Patience, Progress, SlowConsumer};
use crate::delivery::watcher::Flags;
use crate::delivery::watchers::Watchers;

/// Between two looks at newcomers.
const PROBE_MILLIS: u64 = 50;

#[derive(Default)]
pub struct SlowConsumers {
    all: Vec<SlowConsumer>,
    review_at: u64,
    /// When newcomers are looked at next (`overrun = wait`).
    probe_at: u64,
}

/// What a review found.
#[derive(Default)]
pub struct Review {
    /// Their peers have taken something since the last review.
    pub reading: Vec<WatcherKey>,
    /// They have taken nothing for `stalled_seconds`: the caller ends them.
    pub stalled: Vec<WatcherKey>,
    /// How far the last of them is behind, in events.
    pub lag_events_max: u64,
}

impl SlowConsumers {
    /// Takes in the watchers that were found blocked since the last call. `taken`: bytes that a watcher's peer has
    /// acknowledged; so in the other methods.
    pub fn take_in(
        &mut self,
        watchers: &mut Watchers,
        now: u64,
        patience: Patience,
        mut taken: impl FnMut(&Watchers, WatcherKey) -> u64,
    ) {
        while let Some(key) = watchers.blocked.pop() {
            let Some(watcher) = watchers.watchers.get(key) else { continue };
            let (has_read, framing) = (watcher.is(Flags::READS), watcher.framing());
            if self.all.is_empty() {
                self.review_at = now + patience.check_millis;
            }
            self.all.push(SlowConsumer::new(key, taken(watchers, key), now, has_read, framing));
        }
    }

    /// A watcher has gone.
    pub fn remove(&mut self, key: WatcherKey) {
        self.all.retain(|slow| slow.key != key);
    }

    pub fn clear(&mut self) {
        self.all.clear();
    }

    pub fn len(&self) -> usize {
        self.all.len()
    }

    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &SlowConsumer> {
        self.all.iter()
    }

    /// Milliseconds until the next review. None: there is nobody to review.
    pub fn until_review(&self, now: u64) -> Option<u64> {
        (!self.all.is_empty()).then(|| self.review_at.saturating_sub(now))
    }

    /// Looks whether newcomers have read by now, more often than at the others: publishers wait for them on credit.
    pub fn probe_newcomers(
        &mut self,
        watchers: &mut Watchers,
        now: u64,
        mut taken: impl FnMut(&Watchers, WatcherKey) -> u64,
    ) {
        if now < self.probe_at || self.all.iter().all(SlowConsumer::has_read) {
            return;
        }
        self.probe_at = now + PROBE_MILLIS;
        for slow in self.all.iter_mut().filter(|slow| !slow.has_read()) {
            slow.probe(taken(watchers, slow.key), now);
            if slow.has_read() {
                watchers.watchers[slow.key].set(Flags::READS);
            }
        }
    }

    /// Looks at the progress of all, if it is time. Those that do not lag any more are forgotten.
    pub fn review(
        &mut self,
        watchers: &mut Watchers,
        now: u64,
        patience: Patience,
        mut taken: impl FnMut(&Watchers, WatcherKey) -> u64,
    ) -> Option<Review> {
        if self.all.is_empty() || now < self.review_at {
            return None;
        }
        self.review_at = now + patience.check_millis;
        let mut review = Review::default();
        let mut slowest = None;
        self.all.retain_mut(|slow| {
            let key = slow.key;
            if !watchers.stays_reviewed(key) {
                return false;
            }
            match slow.check(taken(watchers, key), now, patience) {
                Progress::Reads => review.reading.push(key),
                Progress::Stalled if watchers.is_blocked(key) => review.stalled.push(key),
                Progress::Pauses | Progress::Stalled => {}
            }
            let position = watchers.position(key);
            slowest = Some(slowest.map_or(position, |slowest: u64| slowest.min(position)));
            true
        });
        // Numbers may jump, so they do not count events.
        review.lag_events_max = slowest.map_or(0, |position| watchers.directory.events_beyond(position));
        Some(review)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::SlowConsumers;
    use crate::delivery::keys::WatcherKey;
    use crate::delivery::progress::Patience;
    use crate::delivery::watcher::Flags;
    use crate::delivery::watchers::Watchers;
    use crate::stream::directory::Directory;
    use crate::stream::numbers::SEQ_MIN;
    use crate::wire::framing::Framing;

    const PATIENCE: Patience = Patience { check_millis: 100, idle_checks_max: 2 };

    fn watchers() -> Watchers {
        Watchers::new(0, Arc::new(Directory::new(SEQ_MIN, 1)))
    }

    fn add_blocked(watchers: &mut Watchers) -> WatcherKey {
        let key = watchers.add();
        watchers.block(key);
        key
    }

    #[test]
    fn who_takes_something_reads_and_who_takes_nothing_has_stalled() {
        let (mut watchers, mut slow) = (watchers(), SlowConsumers::default());
        let [reader, stalled] = [(); 2].map(|()| add_blocked(&mut watchers));
        slow.take_in(&mut watchers, 1_000, PATIENCE, |_, _| 0);
        assert_eq!((slow.len(), slow.until_review(1_040)), (2, Some(60)));
        let review = |watchers: &mut Watchers, slow: &mut SlowConsumers, now| {
            slow.review(watchers, now, PATIENCE, |_, key| if key == reader { now } else { 0 })
        };
        assert!(review(&mut watchers, &mut slow, 1_099).is_none(), "it is not time");
        let first = review(&mut watchers, &mut slow, 1_100).unwrap();
        assert_eq!((first.reading, first.stalled), (vec![reader], vec![]));
        let second = review(&mut watchers, &mut slow, 1_200).unwrap();
        assert_eq!((second.reading, second.stalled), (vec![reader], vec![stalled]));
        slow.remove(stalled);
        assert_eq!(slow.len(), 1);
    }

    #[test]
    fn whoever_is_sent_compressed_messages_reads_as_many_events_with_fewer_bytes() {
        let (mut watchers, mut slow) = (watchers(), SlowConsumers::default());
        let [plain, compressed] = [(); 2].map(|()| add_blocked(&mut watchers));
        watchers.watchers[compressed].set_framing(Framing::Deflate);
        slow.take_in(&mut watchers, 0, PATIENCE, |_, _| 0);
        for second in 1..=20 {
            slow.review(&mut watchers, second * 1_000, PATIENCE, |_, _| second * 5_000);
        }
        assert_eq!(slow.len(), 2);
        for slow in slow.iter() {
            assert_eq!(slow.is_reading(20_000), slow.key == compressed, "{:?}, plain is {plain:?}", slow.key);
        }
    }

    #[test]
    fn who_has_caught_up_or_gone_is_reviewed_no_more() {
        let (mut watchers, mut slow) = (watchers(), SlowConsumers::default());
        let [back, gone] = [(); 2].map(|()| add_blocked(&mut watchers));
        watchers.remove(gone);
        slow.take_in(&mut watchers, 0, PATIENCE, |_, _| 0);
        assert_eq!(slow.len(), 1, "it had gone before");
        watchers.watchers[back].unset(Flags::BLOCKED | Flags::LAGS);
        slow.review(&mut watchers, 100, PATIENCE, |_, _| 0);
        assert!(slow.is_empty() && slow.until_review(100).is_none());
        watchers.block(back);
        slow.take_in(&mut watchers, 100, PATIENCE, |_, _| 0);
        assert_eq!(slow.len(), 1, "it is full again");
    }

    #[test]
    fn a_newcomer_that_is_seen_to_read_is_known_as_a_reader_from_then_on() {
        let (mut watchers, mut slow) = (watchers(), SlowConsumers::default());
        let key = add_blocked(&mut watchers);
        slow.take_in(&mut watchers, 0, PATIENCE, |_, _| 0);
        slow.probe_newcomers(&mut watchers, 100, |_, _| 1 << 20);
        assert!(watchers.watchers[key].is(Flags::READS));
        slow.probe_newcomers(&mut watchers, 200, |_, _| panic!("there is no newcomer left"));
    }
}
