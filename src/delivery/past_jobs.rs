//! Jobs of a watcher of many that are read from the past ([`crate::delivery::past`]). While one of them is, memory sends the
//! watcher nothing but another past that it asked for.
//!
//! First come the pasts that were asked for, merged with each other, each up to the number in its `subscribed`. If memory
//! has all behind the places of all jobs then, they go on there. Else all of them go on in the past together, in one strict
//! order: nothing is sent beyond the least number up to which all are known. So does a slow watcher that memory has
//! overtaken.

use std::mem;
use std::sync::Arc;

use crate::delivery::cursor::{Cursor, Portion};
use crate::delivery::keys::{SubscriptionSlot, WatcherKey};
use crate::delivery::merge::Merge;
use crate::delivery::multi_job_flush::{HANDLES_MAX, JOB_PORTION};
use crate::delivery::past_readers::Next;
use crate::delivery::sink::Sink;
use crate::delivery::start::{self, Start};
use crate::delivery::subscription::Subscription;
use crate::delivery::watcher::{Flags, Watched};
use crate::delivery::watchers::Watchers;
use crate::stream::topic::Topic;
use crate::wire::client_action::Since;

/// What a look at one job has found.
enum Looked {
    /// What was gathered, if anything, is in the merge.
    Gathered,
    /// Nothing can be read of it now.
    Nothing,
    /// It has gone on, or the pass has: it is to be looked at again.
    Again,
}

impl Watchers {
    /// From now on a job is read from the past: all that the watcher wants of it up to `seq` was sent.
    pub(super) fn read_job_from_past(
        &mut self,
        key: WatcherKey,
        place: SubscriptionSlot,
        seq: u64,
        is_from_start: bool,
    ) {
        let (seq, reader) = self.place_in_past(seq, is_from_start);
        self.many(key).read_from_past(place, seq, reader);
        self.watchers[key].set(Flags::READS_PAST);
        self.past.readers.entry(key).or_default();
        self.enqueue_reader(key);
        // It may have come within a pass.
        self.past.moves = u64::MAX;
    }

    /// Memory has lost what comes next of a job. True: it goes on in the past.
    pub(super) fn leave_memory(&mut self, key: WatcherKey, place: SubscriptionSlot) -> bool {
        let many = self.many(key);
        let passed = many.passed;
        let seq = many.subscriptions[place].sent_to(passed);
        if !self.can_read_past(seq) {
            return false;
        }
        let seq = self.many(key).subscriptions[place].place_in_past(passed);
        self.read_job_from_past(key, place, seq, false);
        true
    }

    /// Which jobs have their turn may have changed.
    pub(super) fn note_jobs_of_past(&mut self, key: WatcherKey) {
        if !self.watchers[key].is(Flags::READS_PAST) {
            return;
        }
        if self.many(key).reads_past() {
            self.enqueue_reader(key);
        } else {
            self.leave_past(key);
            self.enqueue(key);
        }
    }

    /// Sends a portion of the past to a watcher of many jobs.
    pub(super) fn serve_jobs_of_past(&mut self, key: WatcherKey, sink: &mut impl Sink) {
        let watcher = &mut self.watchers[key];
        watcher.unset(Flags::PAST_QUEUED);
        if !watcher.is(Flags::READS_PAST) || watcher.is(Flags::BLOCKED | Flags::BROKEN) {
            return;
        }
        let is_together = !self.many(key).is_replaying();
        if is_together {
            self.take_others_along(key);
            if self.go_on_with_all(key) {
                return;
            }
        }
        let mut merge = mem::take(&mut self.merge);
        let mut has_more = self.gather_jobs_of_past(key, is_together, &mut merge);
        if let Some(complete_to) = merge.sources.iter().map(|source| source.next.seq).min() {
            merge.merged.sort_unstable_by_key(|event| event.seq);
            // What was gathered is of one window.
            let window = self.past.window.clone();
            let directory = window.as_deref().map(|window| &*window.directory);
            let passed_to = self.send_merged(key, &mut merge, complete_to, directory, sink);
            let many = self.many(key);
            has_more |= passed_to < complete_to;
            for source in &merge.sources {
                has_more |= many.move_on_in_past(source, passed_to);
            }
            if is_together {
                many.passed = many.passed.max(passed_to);
            }
        }
        merge.clear();
        self.merge = merge;
        if has_more && self.watchers[key].is(Flags::READS_PAST) {
            self.enqueue_reader(key);
        }
    }

    /// All jobs are in the past from now on, each at its place.
    fn take_others_along(&mut self, key: WatcherKey) {
        let many = self.many(key);
        let (passed, others) = (many.passed, many.of_memory().collect::<Vec<_>>());
        for place in others {
            let seq = self.many(key).subscriptions[place].place_in_past(passed);
            let (seq, reader) = self.place_in_past(seq, false);
            self.many(key).read_from_past(place, seq, reader);
        }
    }

    /// Gathers from all jobs that have their turn. True: there may be more for some of them.
    fn gather_jobs_of_past(&mut self, key: WatcherKey, is_together: bool, merge: &mut Merge) -> bool {
        let mut places = mem::take(&mut self.past.places);
        let of_past = self.many(key).of_past();
        let has_turn = of_past.filter(|(_, job)| is_together || job.replay_to.is_some());
        places.extend(has_turn.map(|(place, _)| place));
        self.effort.add_jobs(places.len());
        let handles = (HANDLES_MAX / places.len().max(1)).clamp(1, JOB_PORTION.handles);
        let portion = Portion { handles, ..JOB_PORTION };
        let mut has_more = false;
        for place in places.drain(..) {
            let looked = self.gather_job_of_past(key, place, is_together, portion, merge);
            has_more |= matches!(looked, Looked::Again);
            if !matches!(looked, Looked::Gathered) {
                self.gather_ahead(key, place, is_together, merge);
            }
        }
        self.past.places = places;
        has_more
    }

    /// Nothing more is known of a job than up to its place. If all are in one order, none goes beyond that.
    fn gather_ahead(
        &mut self,
        key: WatcherKey,
        place: SubscriptionSlot,
        is_together: bool,
        merge: &mut Merge,
    ) {
        let many = self.many(key);
        let (subscription, selector) = (&many.subscriptions[place], &many.selector);
        if subscription.past.is_some() && (is_together || !subscription.ahead.is_empty()) {
            let ahead = subscription.ahead.iter().filter(|handle| selector.wants(&handle.batch, 0));
            merge.add_ahead(place, subscription.cursor, ahead);
        }
    }

    fn gather_job_of_past(
        &mut self,
        key: WatcherKey,
        place: SubscriptionSlot,
        is_together: bool,
        portion: Portion,
        merge: &mut Merge,
    ) -> Looked {
        let local = self.many(key).subscriptions[place].local;
        let topic = self.audience.topics[local].topic.clone();
        let (tail, memory_from) = (self.past_tail(), self.memory_from(&topic));
        if self.many(key).subscriptions[place].pending.is_some() {
            let newest = self.tail;
            self.resolve_pending_of(key, place, newest);
        }
        let mut idle = Looked::Nothing;
        loop {
            let Watched::MultiJob(many) = &mut self.watchers[key].watched else { return idle };
            let subscription = &mut many.subscriptions[place];
            let seq = subscription.cursor.seq;
            if !is_together && (seq >= memory_from || subscription.has_replayed()) {
                return match subscription.ahead.is_empty() {
                    true => self.go_on_with_job(key, place, &topic),
                    false => idle,
                };
            }
            let reader = subscription.past.as_mut().expect("it reads the past");
            let Some((window, held)) = reader.find(self.past.window.as_ref(), &topic, seq) else {
                reader.hold = None;
                return idle;
            };
            if seq >= memory_from && seq < window.begins {
                // Memory has what this pass has not.
                return idle;
            }
            let reach = match reader.next(&window, seq, tail, memory_from) {
                Next::Gap(gap) => {
                    subscription.cursor = Cursor::by_number(gap.to);
                    self.tell_gap_of(key, &topic, &gap);
                    idle = Looked::Again;
                    continue;
                }
                Next::Nothing => return idle,
                Next::Elsewhere => return Looked::Again,
                Next::Events(reach) => subscription.replay_to.map_or(reach, |to| reach.min(to)),
            };
            let from = Cursor { index: held.log.lock().index_after(seq), seq };
            let place_in_log = (&*held, &window.directory.holes);
            let mut gathered = mem::take(&mut self.gathered);
            let result = gathered.gather(place_in_log, from, &many.selector, reach, portion);
            if result.is_ok() {
                let ahead = subscription.ahead.iter().filter(|handle| many.selector.wants(&handle.batch, 0));
                merge.add(place, from, ahead, &gathered);
            }
            gathered.clear();
            self.gathered = gathered;
            // Else the pass has just gone on without it.
            return if result.is_ok() { Looked::Gathered } else { Looked::Again };
        }
    }

    /// A job has come to the end of the past that was asked for, or to where memory begins.
    fn go_on_with_job(&mut self, key: WatcherKey, place: SubscriptionSlot, topic: &Arc<Topic>) -> Looked {
        match self.start_in_memory(key, place) {
            Some(start) => {
                let gap = start.gap;
                self.many(key).read_from_memory(place, Some(start));
                self.note_jobs_of_past(key);
                if let Some(gap) = &gap {
                    self.tell_gap_of(key, topic, gap);
                }
                self.enqueue(key);
            }
            // Memory has lost what comes next, or just did. If nothing more was asked for, it waits for the others.
            None => {
                let subscription = &mut self.many(key).subscriptions[place];
                if subscription.has_replayed() {
                    subscription.replay_to = None;
                }
            }
        }
        Looked::Again
    }

    /// Where a job goes on in memory. None: memory has lost what comes next.
    fn start_in_memory(&mut self, key: WatcherKey, place: SubscriptionSlot) -> Option<Start> {
        let many = self.many(key);
        let (selector, subscription) = (many.selector.clone(), &many.subscriptions[place]);
        let (since, local) = (Since::After(subscription.cursor.seq), subscription.local);
        let topic = &self.audience.topics[local].topic;
        let start = start::start(topic, &self.directory, since, self.tail, &selector);
        self.begin_in_past(topic, since, &start).is_none().then_some(start)
    }

    /// If all jobs have come to where memory begins, they go on there, in the order that they have. False: they have not.
    fn go_on_with_all(&mut self, key: WatcherKey) -> bool {
        let whole_from = self.directory.whole_from();
        let is_behind = |job: &Subscription| job.cursor.seq < whole_from || !job.ahead.is_empty();
        if self.many(key).of_past().any(|(_, job)| is_behind(job)) {
            return false;
        }
        let tail = self.tail;
        let places: Vec<_> = self.many(key).of_past().map(|(place, _)| place).collect();
        let mut starts = Vec::with_capacity(places.len());
        for place in places {
            if self.many(key).subscriptions[place].stands_beyond(tail) {
                starts.push((place, None));
                continue;
            }
            match self.start_in_memory(key, place) {
                None => return false,
                start => starts.push((place, start)),
            }
        }
        for (place, start) in starts {
            let gap = start.as_ref().and_then(|start| start.gap);
            let many = self.many(key);
            many.read_from_memory(place, start);
            if let Some(gap) = &gap {
                let local = many.subscriptions[place].local;
                let topic = self.audience.topics[local].topic.clone();
                self.tell_gap_of(key, &topic, gap);
            }
        }
        self.note_jobs_of_past(key);
        true
    }
}
