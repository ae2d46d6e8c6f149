//! The only writer to watchers: sends the events between a watcher's cursor and the tail, and control bytes between
//! frames.
//!
//! Members of a cohort at one place share one gather. A lone watcher is served by itself: one that lags, has an outbox,
//! or watches many jobs.

use std::io::IoSlice;
use std::mem;

use arrayvec::ArrayVec;

use crate::delivery::compressor::Reader;
use crate::delivery::copy_or_sendfile::SendMethod;
use crate::delivery::cursor::{Cursor, Gathered, Portion};
use crate::delivery::effort::{EFFORT_FOR_LONE_WATCHERS, EFFORT_PER_PORTION};
use crate::delivery::filter::Selector;
use crate::delivery::framed::{COHORT_BYTES_MAX, Outgoing, SLICES_MAX};
use crate::delivery::keys::{CohortSlot, WatcherKey};
use crate::delivery::pending::Found;
use crate::delivery::sink::Sink;
use crate::delivery::watcher::{Flags, Watched};
use crate::delivery::watchers::Watchers;
use crate::stream::link::Arrival;
use crate::stream::topic::Topic;

/// Sends between two loads of the tail: while a shard is busy, events keep arriving, and later sends carry more.
/// The tail is not loaded for every watcher: then no two would be at the same place, and no gather would be shared.
const SENDS_PER_TAIL: u64 = 64;
/// Rounds between two looks at arrivals and time, where rounds find nothing to send.
const ROUNDS_PER_LOOK: u32 = 64;

/// One gather for a cohort, at most: several times a socket's buffer.
const COHORT_PORTION: Portion =
    Portion { handles: SLICES_MAX, pieces: SLICES_MAX, bytes: 1 << 20, block: u64::MAX };
/// One gather for a lone watcher, at most.
pub(super) const REPLAY_PORTION: Portion =
    Portion { handles: SLICES_MAX, pieces: SLICES_MAX, bytes: 256 << 10, block: u64::MAX };
/// The same where events are put into another form: whoever reads the same past comes to the same borders, and what was
/// made for one serves all.
const BLOCK_PORTION: Portion = Portion { block: 512, ..REPLAY_PORTION };

/// From this many slices and watchers on, one copy costs less than walking the slices for each watcher.
const FLAT_SLICES_MIN: usize = 2;
const FLAT_WATCHERS_MIN: usize = 3;
/// From this many bytes and watchers on, one copy into a memory file may cost less than one into each socket: see
/// [`crate::delivery::copy_or_sendfile`].
const STAGE_BYTES_MIN: usize = 16 << 10;
const STAGE_WATCHERS_MIN: usize = 16;

/// A member with one of these flags is served alone, not with its cohort.
const SERVED_ALONE: Flags = Flags::BLOCKED
    .union(Flags::QUEUED)
    .union(Flags::ENDING)
    .union(Flags::BROKEN)
    .union(Flags::LAGS)
    .union(Flags::PENDING)
    .union(Flags::IN_PAST);

/// Rounds that [`Watchers::flush_one`] gives one watcher, at most.
const SETTLE_ROUNDS_MAX: usize = 64;

impl Watchers {
    /// Takes in what has arrived. Then serves by turns the lone watchers, each once, and the cohorts in the run queue,
    /// until nothing is left or the time is up.
    pub fn flush(&mut self, sink: &mut impl Sink) {
        self.refresh(sink);
        let mut lone = self.watcher_queue.len();
        let mut look = self.effort.spent() + EFFORT_PER_PORTION;
        let mut rounds = 0;
        while lone > 0 || !self.cohort_queue.is_empty() {
            lone = self.serve_lone_watchers(lone, sink);
            self.serve_next_cohort(sink);
            rounds += 1;
            if self.effort.spent() >= look || rounds % ROUNDS_PER_LOOK == 0 {
                look = self.effort.spent() + EFFORT_PER_PORTION;
                if sink.is_time_up() {
                    return;
                }
                self.refresh(sink);
            }
        }
    }

    /// Serves at most `count` watchers of `watcher_queue`, until their share of effort is used up. Returns how many are
    /// left.
    fn serve_lone_watchers(&mut self, count: usize, sink: &mut impl Sink) -> usize {
        let end = self.effort.spent() + EFFORT_FOR_LONE_WATCHERS;
        for served in 0..count {
            if self.effort.spent() >= end {
                return count - served;
            }
            let Some(key) = self.watcher_queue.pop_front() else { break };
            self.serve_alone(key, sink);
        }
        0
    }

    /// Serves the next cohort of the run queue, a portion at most. One that is not done is queued again.
    fn serve_next_cohort(&mut self, sink: &mut impl Sink) {
        self.renew_masks();
        let Some(key) = self.cohort_queue.pop(self.effort.spent(), EFFORT_PER_PORTION) else { return };
        if !self.audience.cohorts.contains(key) {
            return;
        }
        let at = key.slot;
        let is_done = self.serve_cohort(at, sink);
        let cohort = &mut self.audience.cohorts[at];
        cohort.is_served = !is_done;
        if !is_done || cohort.is_marked {
            self.cohort_queue.push_begun(key);
        }
    }

    /// Marks what has arrived, then loads the tail, so that the tail is never older than a mark.
    #[inline]
    pub(super) fn refresh(&mut self, sink: &mut impl Sink) {
        while let Some(arrival) = sink.next_arrival() {
            self.renew_masks();
            self.mark(&arrival);
            let arrived = match arrival {
                Arrival::Batch(batch) => batch.last_seq(),
                Arrival::ScanAll => sink.published(),
            };
            self.arrived = self.arrived.max(arrived);
        }
        self.tail = sink.published();
        self.note_holes(self.tail);
        self.look_at_past();
        self.renew_masks();
    }

    /// Serves one watcher by itself: its outbox, then its events.
    fn serve_alone(&mut self, key: WatcherKey, sink: &mut impl Sink) {
        let Some(watcher) = self.watchers.get_mut(key) else {
            return;
        };
        if !watcher.is(Flags::QUEUED) {
            return;
        }
        watcher.unset(Flags::QUEUED);
        if watcher.is(Flags::BLOCKED | Flags::BROKEN | Flags::ENDED) || !self.send_outbox(key, sink) {
            return;
        }
        let watcher = &mut self.watchers[key];
        if watcher.is(Flags::ENDING | Flags::IN_PAST) {
            return self.end_or_wait(key);
        }
        match watcher.watched {
            Watched::Nothing => {}
            Watched::Cohort { .. } => {
                if self.catch_up(key, sink) {
                    self.enqueue(key);
                }
            }
            Watched::MultiJob(_) => self.serve_many(key, self.arrived, sink),
        }
    }

    /// The outbox is sent of a watcher that gets no more, or reads the past, which has a queue of its own.
    #[cold]
    fn end_or_wait(&mut self, key: WatcherKey) {
        if self.watchers[key].is(Flags::ENDING) {
            self.watchers[key].set(Flags::ENDED);
            self.gone.push(key);
        } else {
            self.enqueue(key);
        }
    }

    /// Brings a watcher to an exact position: it was sent everything up to the tail, or its socket is full, or more is
    /// left than fits in a turn.
    pub fn flush_one(&mut self, key: WatcherKey, sink: &mut impl Sink) {
        self.refresh(sink);
        if self.watchers[key].is(Flags::BLOCKED | Flags::BROKEN | Flags::ENDING) {
            self.detach(key);
            return;
        }
        if !self.send_outbox(key, sink) {
            return;
        }
        if let Watched::MultiJob(_) = self.watchers[key].watched {
            self.mark_subscriptions(key);
            self.serve_many(key, self.tail, sink);
            return;
        }
        if self.watchers[key].is(Flags::IN_PAST) {
            // It is where it is, and goes on from there.
            self.enqueue(key);
            return;
        }
        if let Watched::Cohort { .. } = self.watchers[key].watched {
            for _ in 0..SETTLE_ROUNDS_MAX {
                if self.catch_up(key, sink) {
                    continue;
                }
                // A gap that was just found is sent, and then the events behind it.
                let watcher = &self.watchers[key];
                let has_gap = watcher.outbox.is_some() && !watcher.is(Flags::BLOCKED | Flags::BROKEN);
                if !has_gap || !self.send_outbox(key, sink) {
                    return;
                }
            }
            self.enqueue(key);
        }
    }

    pub(super) fn detach_if_waiting(&mut self, key: WatcherKey) {
        if self.watchers[key].outbox.is_some() {
            self.detach(key);
        }
    }

    /// Sends a portion to one watcher from its own cursor on. True: more can be sent at once.
    fn catch_up(&mut self, key: WatcherKey, sink: &mut impl Sink) -> bool {
        self.detach(key);
        let (selector, topic) = self.wanted(key);
        if self.watchers[key].is(Flags::PENDING) {
            match self.resolve_pending(key, &selector, &topic) {
                Found::Nothing => {}
                Found::Queued => return false,
                Found::NotYet => return true,
                Found::Waits => {
                    self.watchers[key].unset(Flags::LAGS);
                    return false;
                }
            }
        }
        let from = self.watchers[key].cursor();
        let Some(tail) = self.reach(key, from, &selector, &topic) else { return false };
        let mut gathered = mem::take(&mut self.gathered);
        let place = (&*topic, &self.directory.holes);
        let is_framed = self.watchers[key].is(Flags::FORM);
        let portion = if is_framed { BLOCK_PORTION } else { REPLAY_PORTION };
        if gathered.gather(place, from, &selector, tail, portion).is_err() {
            self.gathered = gathered;
            if self.can_read_past(from.seq) {
                self.enter_past(key, false);
                return true;
            }
            self.tell_missed(key, Some(from.index), &selector, &topic);
            return false;
        }
        let is_all = self.send_gathered(key, gathered, (&topic, &selector), from, sink) && tail == self.tail;
        let watcher = &mut self.watchers[key];
        if watcher.is(Flags::BLOCKED | Flags::BROKEN) {
            return false;
        }
        if is_all {
            watcher.unset(Flags::LAGS);
        }
        !is_all
    }

    /// Sends what was gathered to one watcher at `from`. Returns whether that was all up to the tail.
    pub(super) fn send_gathered(
        &mut self,
        key: WatcherKey,
        mut gathered: Gathered,
        (topic, selector): (&Topic, &Selector),
        from: Cursor,
        sink: &mut impl Sink,
    ) -> bool {
        let watcher = &self.watchers[key];
        let is_all = if !watcher.is(Flags::FORM) || gathered.pieces.is_empty() {
            self.send_alone(key, &Outgoing::plain(&gathered), from, sink) && gathered.is_all
        } else {
            let Watched::Cohort { cohort, .. } = watcher.watched else { panic!("it watches one topic") };
            let reader = Reader {
                cohort: self.audience.cohorts.key(cohort),
                topic,
                selector,
                compressed_from: (!watcher.is(Flags::IN_PAST)).then(|| watcher.compressed_from()),
            };
            let framing = watcher.framing();
            let mut blocks = mem::take(&mut self.framed_alone);
            let framed = blocks.pick(&gathered, framing, &reader);
            let outgoing = Outgoing::of(&gathered, framing, framed, &mut self.compressor, &reader);
            self.effort.add_compressed(outgoing.compressed);
            let is_sent = self.send_alone(key, &outgoing, from, sink);
            blocks.trim();
            self.framed_alone = blocks;
            is_sent && gathered.is_all
        };
        gathered.clear();
        self.gathered = gathered;
        is_all
    }

    fn send_alone(
        &mut self,
        key: WatcherKey,
        outgoing: &Outgoing<'_>,
        from: Cursor,
        sink: &mut impl Sink,
    ) -> bool {
        // The list of slices is large: who gets nothing, like most with each heartbeat, does without.
        let result = match outgoing.bytes {
            0 => Ok(0),
            bytes => {
                let mut slices = ArrayVec::new();
                outgoing.add_slices(&mut slices);
                self.send(key, SendMethod::Slices, &slices, bytes, sink)
            }
        };
        self.record(key, result, outgoing, from)
    }

    /// Serves the members of a cohort. False: the portion was used up first.
    fn serve_cohort(&mut self, at: CohortSlot, sink: &mut impl Sink) -> bool {
        let cohort = &mut self.audience.cohorts[at];
        if !cohort.is_served {
            cohort.is_served = true;
            cohort.is_marked = false;
            cohort.resume = 0;
        }
        let start = cohort.start;
        let selector = cohort.selector.clone();
        let portion = if cohort.framing.is_compressed() { REPLAY_PORTION } else { COHORT_PORTION };
        let topic = self.audience.topics[cohort.topic].topic.clone();
        let end = self.effort.spent() + EFFORT_PER_PORTION;
        loop {
            let cohort = &self.audience.cohorts[at];
            let Some(&slot) = cohort.members.get(cohort.resume as usize) else {
                return true;
            };
            let (key, watcher) = (self.watchers.key(slot), &self.watchers[slot]);
            if watcher.is(SERVED_ALONE) || watcher.outbox.is_some() {
                // It is served alone, from its own cursor: the cohort's `start` may move past its place.
                self.detach(key);
                // What is new is of no use to it yet, if it reads the past.
                if !self.watchers[key].is(Flags::IN_PAST) {
                    self.enqueue(key);
                }
                self.audience.cohorts[at].resume += 1;
                continue;
            }
            let from = watcher.cursor().max(start);
            let mut gathered = mem::take(&mut self.gathered);
            let place = (&*topic, &self.directory.holes);
            let is_behind = gathered.gather(place, from, &selector, self.tail, portion).is_err();
            if is_behind {
                self.detach(key);
                self.enqueue(key);
                self.audience.cohorts[at].resume += 1;
            } else {
                self.counts.note_delivery(gathered.handles.first());
                self.send_to_members(at, (&topic, &selector), (start, from.index), &gathered, end, sink);
            }
            gathered.clear();
            self.gathered = gathered;
            if self.effort.spent() >= end || self.masks.are_stale(&self.directory.types) {
                return false;
            }
        }
    }

    /// Sends one gather to the members from `resume` on, up to the first that is not at `from`.
    fn send_to_members(
        &mut self,
        at: CohortSlot,
        (topic, selector): (&Topic, &Selector),
        (start, from): (Cursor, u64),
        gathered: &Gathered,
        end: u64,
        sink: &mut impl Sink,
    ) {
        let cohort = &self.audience.cohorts[at];
        let count = cohort.members.len() - cohort.resume as usize;
        let mut flat = mem::take(&mut self.flat);
        let mut framed = mem::take(&mut self.framed);
        let first = cohort.members[cohort.resume as usize];
        let reader = Reader {
            cohort: self.audience.cohorts.key(at),
            topic,
            selector,
            compressed_from: Some(self.watchers[first].compressed_from()),
        };
        let outgoing = Outgoing::of(gathered, cohort.framing, &mut framed, &mut self.compressor, &reader);
        self.effort.add_compressed(outgoing.compressed);
        let mut slices = ArrayVec::new();
        outgoing.add_slices(&mut slices);
        let bytes = outgoing.bytes;
        let is_large = bytes >= STAGE_BYTES_MIN && count >= STAGE_WATCHERS_MIN;
        let begin = if is_large { sink.cpu_nanos() } else { 0 };
        let method = if is_large && self.send_methods.is_staged(bytes) && sink.stage(&slices, bytes) {
            SendMethod::Staged
        } else if slices.len() >= FLAT_SLICES_MIN && count >= FLAT_WATCHERS_MIN {
            flat.clear();
            slices.iter().for_each(|slice| flat.extend_from_slice(slice));
            slices.clear();
            slices.push(IoSlice::new(&flat));
            SendMethod::Flat
        } else {
            SendMethod::Slices
        };
        let mut served = 0;
        while self.effort.spent() < end {
            let cohort = &mut self.audience.cohorts[at];
            let Some(&slot) = cohort.members.get(cohort.resume as usize) else {
                break;
            };
            let (key, watcher) = (self.watchers.key(slot), &self.watchers[slot]);
            let is_alone = watcher.is(SERVED_ALONE) || watcher.outbox.is_some();
            let place = watcher.cursor().max(start);
            if is_alone || place.index != from || !outgoing.suits(watcher) {
                break;
            }
            cohort.resume += 1;
            let result = self.send(key, method, &slices, bytes, sink);
            served += u64::from(self.record(key, result, &outgoing, place));
            if !gathered.is_all {
                // The gather was cut short for all of them: the cohort is served once more, from their new places.
                self.audience.cohorts[at].is_marked = true;
            } else if self.effort.sends().is_multiple_of(SENDS_PER_TAIL) && self.take_newer_tail(sink) {
                break;
            }
        }
        if is_large && served >= STAGE_WATCHERS_MIN as u64 {
            let nanos = sink.cpu_nanos().saturating_sub(begin);
            self.send_methods.note(method == SendMethod::Staged, bytes, served, nanos);
        }
        drop(slices);
        flat.clear();
        self.flat = flat;
        framed.trim(COHORT_BYTES_MAX);
        self.framed = framed;
    }

    /// Takes the newest tail, unless new types or a hole came with it: then masks have to be renewed first, or watchers
    /// made to stand alone. True: the tail has moved.
    fn take_newer_tail(&mut self, sink: &mut impl Sink) -> bool {
        let tail = sink.published();
        let is_newer =
            tail != self.tail && !self.masks.are_stale(&self.directory.types) && self.has_seen_all_holes();
        if is_newer {
            self.tail = tail;
        }
        is_newer
    }
}
