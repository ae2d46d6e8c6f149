//! How watchers pass a hole in the numbers ([`crate::stream::holes`]): each is sent what is before it, then a gap, then
//! what is behind it.
//!
//! Once a hole is seen, every watcher stands alone, so that no cohort's `start` carries one past it. Nobody is served up
//! to a tail behind a hole before that. A batch from behind a hole moves no `start` either: the hole comes as a scan, which
//! has marked all cohorts by then.

use std::mem;
use std::sync::Arc;

use crate::delivery::cursor::{Cursor, gap_of};
use crate::delivery::filter::Selector;
use crate::delivery::keys::{SubscriptionSlot, WatcherKey};
use crate::delivery::watcher::Watched;
use crate::delivery::watchers::Watchers;
use crate::stream::holes::Hole;
use crate::stream::topic::Topic;
use crate::wire::watcher_message;

impl Watchers {
    /// Notes the holes that end at the number `until` or before.
    #[inline]
    pub(super) fn note_holes(&mut self, until: u64) {
        if !self.has_seen_all_holes() {
            self.note_new_holes(until);
        }
    }

    #[cold]
    fn note_new_holes(&mut self, until: u64) {
        let newest_to = self.directory.holes.newest_until(until);
        if newest_to > self.holes_to {
            self.holes_to = newest_to;
            self.stand_alone();
        }
    }

    #[inline]
    pub(super) fn has_seen_all_holes(&self) -> bool {
        self.directory.holes.newest_to() <= self.holes_to
    }

    fn stand_alone(&mut self) {
        let keys: Vec<WatcherKey> = self.watchers.iter().map(|(key, _)| key).collect();
        for key in keys {
            match self.watchers[key].watched {
                Watched::Nothing => continue,
                Watched::Cohort { .. } => self.detach(key),
                Watched::MultiJob(_) => self.mark_subscriptions(key),
            }
            self.enqueue(key);
        }
    }

    /// How far a watcher of one topic may be served. None: it stood at a hole, and was told of it.
    #[inline]
    pub(super) fn reach(
        &mut self,
        key: WatcherKey,
        from: Cursor,
        selector: &Selector,
        topic: &Topic,
    ) -> Option<u64> {
        if self.holes_to <= from.seq { Some(self.tail) } else { self.reach_hole(key, from, selector, topic) }
    }

    #[cold]
    fn reach_hole(
        &mut self,
        key: WatcherKey,
        from: Cursor,
        selector: &Selector,
        topic: &Topic,
    ) -> Option<u64> {
        match self.directory.holes.ahead(from.seq, self.tail) {
            None => Some(self.tail),
            Some(hole) if hole.from > from.seq + 1 => Some(hole.from - 1),
            Some(hole) => {
                self.tell_hole(key, hole, selector, topic);
                None
            }
        }
    }

    /// Tells a watcher of one topic of the hole that it stands at.
    fn tell_hole(&mut self, key: WatcherKey, hole: Hole, selector: &Selector, topic: &Topic) {
        let from = self.watchers[key].cursor();
        if hole.from == 0 && from.index < topic.log.lock().base() {
            // The hole went with the history, and so did events of this topic: one gap for all of it.
            if self.can_read_past(from.seq) {
                return self.enter_past(key, false);
            }
            self.tell_missed(key, Some(from.index), selector, topic);
            return;
        }
        let gap = gap_of(hole, from.seq);
        let now = self.now;
        self.enqueue_control(key, |out| watcher_message::gap(out, &now, &gap, None));
        self.counts.add_gap(Some(&gap));
        self.watchers[key].go_on_to(Cursor { seq: hole.to, ..from });
    }

    /// How far one job of a watcher of many may be served, up to `tail`; everything of it up to `passed` was sent. Tells
    /// of the holes that it stands at, once nothing older is to be sent or to be found any more.
    pub(super) fn reach_of(
        &mut self,
        key: WatcherKey,
        place: SubscriptionSlot,
        passed: u64,
        tail: u64,
    ) -> u64 {
        loop {
            if self.directory.holes.newest_to() <= self.many(key).subscriptions[place].cursor.seq.max(passed)
            {
                return tail;
            }
            if self.many(key).subscriptions[place].pending.is_some() {
                self.resolve_pending_of(key, place, tail);
            }
            let subscription = &self.many(key).subscriptions[place];
            let seq = subscription.cursor.seq.max(passed);
            if subscription.past.is_some() {
                return tail;
            }
            if subscription.has_older() {
                return tail.min(seq);
            }
            match self.directory.holes.ahead(seq, tail) {
                None => return tail,
                Some(_) if seq > tail => return tail,
                Some(hole) if hole.from > seq + 1 => return hole.from - 1,
                Some(hole) => self.tell_hole_of(key, place, hole, seq),
            }
        }
    }

    /// How far the merged order of the marked jobs may be sent, up to `tail`.
    pub(super) fn reach_of_all(&mut self, key: WatcherKey, tail: u64) -> u64 {
        let newest_to = self.directory.holes.newest_to();
        let many = self.many(key);
        let (passed, mut reach) = (many.passed, tail);
        if newest_to > passed {
            let marked = mem::take(&mut many.marked);
            for &place in &marked {
                reach = reach.min(self.reach_of(key, place, passed, tail));
            }
            self.many(key).marked = marked;
        }
        reach
    }

    #[cold]
    fn tell_hole_of(&mut self, key: WatcherKey, place: SubscriptionSlot, hole: Hole, seq: u64) {
        let subscription = &self.many(key).subscriptions[place];
        let (local, index) = (subscription.local, subscription.cursor.index);
        let topic = Arc::clone(&self.audience.topics[local].topic);
        // The hole went with the history, and so did events of this job: one gap for all of it.
        let is_overtaken = hole.from == 0 && index < topic.log.lock().base();
        if is_overtaken && self.leave_memory(key, place) {
            return;
        }
        let directory = self.directory.clone();
        let many = self.many(key);
        let (subscription, selector) = (&mut many.subscriptions[place], &many.selector);
        let log = topic.log.lock();
        let gap = match is_overtaken {
            true => subscription.miss(None, seq, selector, &log, &directory.holes),
            false => {
                subscription.pass(hole, &log);
                Some(gap_of(hole, seq))
            }
        };
        drop(log);
        let (now, gap) = (self.now, gap.expect("a hole is passed"));
        self.enqueue_control(key, |out| watcher_message::gap(out, &now, &gap, Some(&topic.name)));
        self.counts.add_gap(Some(&gap));
    }
}
