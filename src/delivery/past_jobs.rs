//! Jobs of a watcher of many that are read from the past ([`crate::delivery::past`]), while its other jobs go on in memory.
//! Those that the window has come to are merged by number.

use std::mem;
use std::sync::Arc;

use crate::delivery::cursor::{Cursor, Portion};
use crate::delivery::keys::{SubscriptionSlot, WatcherKey};
use crate::delivery::merge::Merge;
use crate::delivery::multi_job_flush::{HANDLES_MAX, JOB_PORTION};
use crate::delivery::past_readers::Next;
use crate::delivery::sink::Sink;
use crate::delivery::start;
use crate::delivery::watcher::{Flags, Watched};
use crate::delivery::watchers::Watchers;
use crate::stream::topic::Topic;
use crate::wire::client_action::Since;
use crate::wire::watcher_message::{self, Gap};

impl Watchers {
    /// From now on a job is read from the past: all that the watcher wants of it up to `seq` was sent.
    pub(super) fn read_job_from_past(
        &mut self,
        key: WatcherKey,
        place: SubscriptionSlot,
        seq: u64,
        is_from_start: bool,
    ) {
        let (tail, (seq, reader)) = (self.tail, self.place_in_past(seq, is_from_start));
        self.many(key).read_from_past(place, seq, tail, reader);
        self.watchers[key].set(Flags::READS_PAST);
        self.past.readers.entry(key).or_default();
        self.enqueue_reader(key);
        // It may have come within a pass.
        self.past.moves = u64::MAX;
    }

    /// A job is read from the past no more, or the watcher has left it. That may have been the last one.
    pub(super) fn note_jobs_of_past(&mut self, key: WatcherKey) {
        if self.watchers[key].is(Flags::READS_PAST) && !self.many(key).reads_past() {
            self.leave_past(key);
        }
    }

    /// Sends a portion of the past to a watcher of many jobs.
    pub(super) fn serve_jobs_of_past(&mut self, key: WatcherKey, sink: &mut impl Sink) {
        let watcher = &mut self.watchers[key];
        watcher.unset(Flags::PAST_QUEUED);
        if !watcher.is(Flags::READS_PAST) || watcher.is(Flags::BLOCKED | Flags::BROKEN) {
            return;
        }
        let mut merge = mem::take(&mut self.merge);
        let mut has_more = self.gather_jobs_of_past(key, &mut merge);
        // What was gathered is of one window.
        let window = self.past.window.clone();
        let complete_to = merge.sources.iter().map(|source| source.next.seq).min();
        if let (Some(complete_to), Some(window)) = (complete_to, window) {
            merge.merged.sort_unstable_by_key(|event| event.seq);
            let passed_to = self.send_merged(key, &mut merge, complete_to, Some(&window.directory), sink);
            let whole_from = self.directory.whole_from();
            for source in &merge.sources {
                let seq = source.at.seq.max(passed_to);
                self.many(key).subscriptions[source.subscription].cursor = Cursor::by_number(seq);
                has_more |= !source.is_all || seq < source.next.seq || seq >= whole_from;
            }
        }
        merge.clear();
        self.merge = merge;
        if has_more && self.watchers[key].is(Flags::READS_PAST) {
            self.enqueue_reader(key);
        }
    }

    /// Gathers from all jobs that the window has come to. True: there may be more for some of them.
    fn gather_jobs_of_past(&mut self, key: WatcherKey, merge: &mut Merge) -> bool {
        let mut places = mem::take(&mut self.past.places);
        places.extend(self.many(key).of_past().map(|(place, _)| place));
        let handles = (HANDLES_MAX / places.len().max(1)).clamp(1, JOB_PORTION.handles);
        let mut has_more = false;
        for place in places.drain(..) {
            has_more |= self.gather_job_of_past(key, place, Portion { handles, ..JOB_PORTION }, merge);
        }
        self.past.places = places;
        has_more
    }

    fn gather_job_of_past(
        &mut self,
        key: WatcherKey,
        place: SubscriptionSlot,
        portion: Portion,
        merge: &mut Merge,
    ) -> bool {
        let local = self.many(key).subscriptions[place].local;
        let topic = self.audience.topics[local].topic.clone();
        let (tail, memory_from) = (self.past_tail(), self.memory_from(&topic));
        loop {
            let Watched::MultiJob(many) = &mut self.watchers[key].watched else { return false };
            let subscription = &mut many.subscriptions[place];
            let seq = subscription.cursor.seq;
            if seq >= memory_from {
                self.go_on_with_job(key, place, &topic);
                return true;
            }
            let reader = subscription.past.as_mut().expect("it reads the past");
            let Some((window, held)) = reader.find(self.past.window.as_ref(), &topic, seq) else {
                reader.hold = None;
                return false;
            };
            let reach = match reader.next(&window, seq, tail, memory_from) {
                Next::Gap(gap) => {
                    subscription.cursor = Cursor::by_number(gap.to);
                    self.tell_gap_of(key, &topic, &gap);
                    continue;
                }
                Next::Nothing => return false,
                Next::Elsewhere => return true,
                Next::Events(reach) => reach,
            };
            let from = Cursor { index: held.log.lock().index_after(seq), seq };
            let place_in_log = (&*held, &window.directory.holes);
            let mut gathered = mem::take(&mut self.gathered);
            let result = gathered.gather(place_in_log, from, &many.selector, reach, portion);
            if result.is_ok() {
                merge.add(place, from, [].iter(), &gathered);
            }
            gathered.clear();
            self.gathered = gathered;
            // Else the pass has just gone on without it.
            return result.is_err();
        }
    }

    /// A job has come to where memory begins.
    fn go_on_with_job(&mut self, key: WatcherKey, place: SubscriptionSlot, topic: &Arc<Topic>) {
        let tail = self.tail;
        let many = self.many(key);
        let (since, selector) = (Since::After(many.subscriptions[place].cursor.seq), many.selector.clone());
        let start = start::start(topic, &self.directory, since, tail, &selector);
        if self.begin_in_past(topic, since, &start).is_some() {
            // Memory has just lost what it had.
            return;
        }
        let gap = start.gap;
        self.many(key).read_from_memory(place, tail, start);
        self.note_jobs_of_past(key);
        if let Some(gap) = &gap {
            self.tell_gap_of(key, topic, gap);
        }
        self.enqueue(key);
    }

    fn tell_gap_of(&mut self, key: WatcherKey, topic: &Topic, gap: &Gap) {
        let now = self.now;
        self.enqueue_control(key, |out| watcher_message::gap(out, &now, gap, Some(&topic.name)));
        self.counts.add_gap(Some(gap));
    }
}
