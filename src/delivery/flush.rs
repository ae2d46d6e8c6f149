//! The only writer: what stands between a watcher's cursor and the tail goes out here, control bytes between
//! frames.

use std::io::{self, ErrorKind, IoSlice};
use std::mem;

use arrayvec::ArrayVec;

use crate::delivery::copy_or_sendfile::SendMethod;
use crate::delivery::cursor::{Cursor, Gathered, Missed, Portion};
use crate::delivery::effort::{EFFORT_PER_PORTION, EFFORT_PER_QUEUE};
use crate::delivery::filter::Selector;
use crate::delivery::keys::{CohortSlot, WatcherKey};
use crate::delivery::sink::Sink;
use crate::delivery::start::{Pending, earlier_gap};
use crate::delivery::watcher::{Flags, Watched};
use crate::delivery::watchers::{Watchers, tell};
use crate::stream::link::Arrival;
use crate::stream::topic::Topic;
use crate::wire::notice::GapReason;

/// Sends between two looks at the tail: while a shard is busy, more comes in, and each next send carries more.
/// Not for every watcher: then no two would stand at the same place, and nothing would be shared.
const SENDS_PER_TAIL: u64 = 64;
/// The same for rounds that find nothing to send.
const ROUNDS_PER_LOOK: u32 = 64;

/// Slices in one write at most; the kernel takes 1,024.
const SLICES_MAX: usize = 256;
/// What a cohort is sent at once: several times a socket's buffer.
const COHORT_PORTION: Portion = Portion { handles: SLICES_MAX, pieces: SLICES_MAX, bytes: 1 << 20 };
/// What one lagging watcher is sent a turn.
const REPLAY_PORTION: Portion = Portion { handles: SLICES_MAX, pieces: SLICES_MAX, bytes: 256 << 10 };

/// From this many slices and watchers on, one copy costs less than walking the slices for each.
const FLAT_SLICES_MIN: usize = 2;
const FLAT_WATCHERS_MIN: usize = 3;
/// From this many bytes and watchers on, one copy into a memory file may cost less than one into each socket: see
/// [`crate::delivery::copy_or_sendfile`].
const STAGE_BYTES_MIN: usize = 16 << 10;
const STAGE_WATCHERS_MIN: usize = 16;

/// Who is not served with the cohort.
const SERVED_ALONE: Flags = Flags::BLOCKED
    .union(Flags::QUEUED)
    .union(Flags::ENDING)
    .union(Flags::BROKEN)
    .union(Flags::LAGS)
    .union(Flags::PENDING);

/// Rounds of search that a watcher is given at once to find where it stands.
const SETTLE_ROUNDS_MAX: usize = 64;

/// What a step of finding out has brought.
enum Found {
    /// Nothing that has to be told: events may go out.
    Nothing,
    /// It is in the outbox, and goes before any event.
    Told,
    NotYet,
}

impl Watchers {
    /// Takes in what has arrived, then serves by turns the watchers that stand alone, each once, and the marked
    /// cohorts, first in first out, until nothing is left or the time is up.
    pub fn flush(&mut self, sink: &mut impl Sink) {
        self.refresh(sink);
        let mut alone = self.watcher_queue.len();
        let mut look = self.effort.spent() + EFFORT_PER_PORTION;
        let mut rounds = 0;
        while alone > 0 || !self.cohort_queue.is_empty() {
            alone = self.serve_queue(alone, sink);
            self.serve_line(sink);
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

    /// Serves at most `alone` watchers that stand alone, until a share of effort is used up. Returns how many are
    /// left.
    fn serve_queue(&mut self, alone: usize, sink: &mut impl Sink) -> usize {
        let end = self.effort.spent() + EFFORT_PER_QUEUE;
        for served in 0..alone {
            if self.effort.spent() >= end {
                return alone - served;
            }
            let Some(key) = self.watcher_queue.pop_front() else { break };
            self.serve(key, sink);
        }
        0
    }

    /// Serves the first cohort in the line, a portion at most; one that is not done goes to the back.
    fn serve_line(&mut self, sink: &mut impl Sink) {
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

    /// Marks what has arrived, then loads the tail: so the tail is never older than a mark.
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
        self.renew_masks();
    }

    /// Serves one watcher by itself.
    fn serve(&mut self, key: WatcherKey, sink: &mut impl Sink) {
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
        if watcher.is(Flags::ENDING) {
            watcher.set(Flags::ENDED);
            self.gone.push(key);
            return;
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

    /// Brings a watcher to where it can be said to stand: everything up to the tail has gone out, or its socket
    /// is full, or more is left than fits in a turn.
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
        if let Watched::Cohort { .. } = self.watchers[key].watched {
            for _ in 0..SETTLE_ROUNDS_MAX {
                if self.catch_up(key, sink) {
                    continue;
                }
                // A gap that was just found goes out, and then what is behind it.
                let watcher = &self.watchers[key];
                let is_told = watcher.outbox.is_some() && !watcher.is(Flags::BLOCKED | Flags::BROKEN);
                if !is_told || !self.send_outbox(key, sink) {
                    return;
                }
            }
            self.enqueue(key);
        }
    }

    /// Sends what waits in the outbox. False: it did not all go out.
    pub(super) fn send_outbox(&mut self, key: WatcherKey, sink: &mut impl Sink) -> bool {
        self.detach_if_waiting(key);
        let watcher = &mut self.watchers[key];
        let Some(mut outbox) = watcher.outbox.take() else {
            return true;
        };
        let portion = outbox.portion(REPLAY_PORTION.bytes);
        let offered = portion.iter().map(|part| part.len()).sum();
        self.effort.add_send(offered);
        let result = match portion {
            [[], bytes, []] => sink.write(key, bytes),
            all => sink.write_vectored(key, &all.map(IoSlice::new)),
        };
        let taken = *result.as_ref().unwrap_or(&0);
        outbox.sent += taken;
        watcher.bytes_out += taken as u64;
        self.counts.sent_bytes += taken as u64;
        if outbox.waiting() == 0 {
            self.outboxes.take_back(outbox);
            return true;
        }
        watcher.outbox = Some(outbox);
        match result {
            // The others have their turn before the next portion of a long answer.
            Ok(taken) if taken == offered => self.enqueue(key),
            Ok(_) => self.block(key),
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.block(key),
            Err(error) if error.kind() == ErrorKind::Interrupted => self.enqueue(key),
            Err(_) => self.break_off(key),
        }
        false
    }

    fn detach_if_waiting(&mut self, key: WatcherKey) {
        if self.watchers[key].outbox.is_some() {
            self.detach(key);
        }
    }

    pub(super) fn break_off(&mut self, key: WatcherKey) {
        let watcher = &mut self.watchers[key];
        if !watcher.is(Flags::BROKEN) {
            watcher.set(Flags::BROKEN | Flags::LAGS);
            self.gone.push(key);
        }
    }

    /// Sends a portion to one watcher from its own place on. True: it may go on at once.
    fn catch_up(&mut self, key: WatcherKey, sink: &mut impl Sink) -> bool {
        self.detach(key);
        let (selector, topic) = self.wanted(key);
        if self.watchers[key].is(Flags::PENDING) {
            match self.find_out(key, &selector, &topic) {
                Found::Nothing => {}
                Found::Told => return false,
                Found::NotYet => return true,
            }
        }
        let from = self.watchers[key].cursor;
        let mut gathered = mem::take(&mut self.gathered);
        let is_behind = gathered.gather(&topic, from, &selector, self.tail, REPLAY_PORTION).is_err();
        let mut is_sent = false;
        if is_behind {
            let missed = Missed::of(&topic.log.lock(), Some(from.index), from.seq, &selector);
            let gap = missed.gap(from.seq, GapReason::Overrun);
            let now = self.now;
            self.enqueue_control(key, |out| tell(&now, gap.as_ref(), &missed.kept, out));
            self.counts.add_gap(gap.as_ref());
            self.watchers[key].cursor = Cursor { seq: from.seq.max(missed.behind.seq), ..missed.behind };
        } else {
            let slices: ArrayVec<IoSlice<'_>, SLICES_MAX> =
                gathered.pieces.iter().map(|piece| IoSlice::new(gathered.slice_of(piece))).collect();
            let result = self.send(key, SendMethod::Slices, &slices, gathered.bytes, sink);
            is_sent = self.record(key, result, &gathered, from);
        }
        let is_all = is_sent && gathered.is_all;
        gathered.clear();
        self.gathered = gathered;
        let watcher = &mut self.watchers[key];
        if is_behind || watcher.is(Flags::BLOCKED | Flags::BROKEN) {
            return false;
        }
        if is_all {
            watcher.unset(Flags::LAGS);
        }
        !is_all
    }

    /// Finds out what a watcher waits for, as far as one step goes.
    fn find_out(&mut self, key: WatcherKey, selector: &Selector, topic: &Topic) -> Found {
        let pending = self.pending.get_mut(&key).expect("who is flagged waits for something");
        let log = topic.log.lock();
        let (gap, kept) = match pending {
            // Nothing has come yet: it waits like everybody else.
            Pending::Earlier { .. } if log.first_seq().is_none() => return Found::Nothing,
            Pending::Earlier { earlier_to } => (earlier_gap(*earlier_to, &log), ArrayVec::new()),
            Pending::Last(search) => {
                self.effort.add_search();
                let Some(start) = search.step(&log, selector) else { return Found::NotYet };
                self.watchers[key].cursor = start.cursor;
                (None, start.kept)
            }
        };
        drop(log);
        self.pending.remove(&key);
        self.watchers[key].unset(Flags::PENDING);
        if gap.is_some() || !kept.is_empty() {
            let now = self.now;
            self.enqueue_control(key, |out| tell(&now, gap.as_ref(), &kept, out));
            self.counts.add_gap(gap.as_ref());
            return Found::Told;
        }
        Found::Nothing
    }

    /// Serves the members of a cohort. False: the portion was used up before all were served.
    fn serve_cohort(&mut self, at: CohortSlot, sink: &mut impl Sink) -> bool {
        let cohort = &mut self.audience.cohorts[at];
        if !cohort.is_served {
            cohort.is_served = true;
            cohort.is_marked = false;
            cohort.resume = 0;
        }
        let start = cohort.start;
        let selector = cohort.selector.clone();
        let topic = self.audience.topics[cohort.topic].topic.clone();
        let end = self.effort.spent() + EFFORT_PER_PORTION;
        loop {
            let cohort = &self.audience.cohorts[at];
            let Some(&slot) = cohort.members.get(cohort.resume as usize) else {
                return true;
            };
            let (key, watcher) = (self.watchers.key(slot), &self.watchers[slot]);
            if watcher.is(SERVED_ALONE) || watcher.outbox.is_some() {
                // It is served by itself; the cohort's start must not move on without it.
                self.detach(key);
                self.enqueue(key);
                self.audience.cohorts[at].resume += 1;
                continue;
            }
            let from = watcher.cursor.max(start);
            let mut gathered = mem::take(&mut self.gathered);
            let is_behind = gathered.gather(&topic, from, &selector, self.tail, COHORT_PORTION).is_err();
            if is_behind {
                self.detach(key);
                self.enqueue(key);
                self.audience.cohorts[at].resume += 1;
            } else {
                self.counts.note_delivery(gathered.handles.first());
                self.send_to_members(at, start, from.index, &gathered, end, sink);
            }
            gathered.clear();
            self.gathered = gathered;
            if self.effort.spent() >= end || self.masks.are_stale(&self.directory.types) {
                return false;
            }
        }
    }

    /// Sends one gather to all members from `resume` on that stand at `from`, until one does not.
    fn send_to_members(
        &mut self,
        at: CohortSlot,
        start: Cursor,
        from: u64,
        gathered: &Gathered,
        end: u64,
        sink: &mut impl Sink,
    ) {
        let cohort = &self.audience.cohorts[at];
        let count = cohort.members.len() - cohort.resume as usize;
        let mut flat = mem::take(&mut self.flat);
        let mut slices: ArrayVec<IoSlice<'_>, SLICES_MAX> =
            gathered.pieces.iter().map(|piece| IoSlice::new(gathered.slice_of(piece))).collect();
        let is_large = gathered.bytes >= STAGE_BYTES_MIN && count >= STAGE_WATCHERS_MIN;
        let begin = if is_large { sink.cpu_nanos() } else { 0 };
        let way =
            if is_large && self.send_methods.is_staged(gathered.bytes) && sink.stage(&slices, gathered.bytes)
            {
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
            let place = watcher.cursor.max(start);
            if is_alone || place.index != from {
                break;
            }
            cohort.resume += 1;
            let result = self.send(key, way, &slices, gathered.bytes, sink);
            served += u64::from(self.record(key, result, gathered, place));
            if !gathered.is_all {
                // The portion was cut short for all of them: once more around, from where they stand now.
                self.audience.cohorts[at].is_marked = true;
            } else if self.effort.sends().is_multiple_of(SENDS_PER_TAIL) && !self.is_tail_newest(sink) {
                break;
            }
        }
        if is_large && served >= STAGE_WATCHERS_MIN as u64 {
            let nanos = sink.cpu_nanos().saturating_sub(begin);
            self.send_methods.note(way == SendMethod::Staged, gathered.bytes, served, nanos);
        }
        drop(slices);
        flat.clear();
        self.flat = flat;
    }

    /// Takes the newest tail, unless types came with it: then the masks come first. True: nothing is new.
    fn is_tail_newest(&mut self, sink: &mut impl Sink) -> bool {
        let tail = sink.published();
        if tail != self.tail && !self.masks.are_stale(&self.directory.types) {
            self.tail = tail;
            return false;
        }
        true
    }

    fn send(
        &mut self,
        key: WatcherKey,
        way: SendMethod,
        slices: &[IoSlice<'_>],
        bytes: usize,
        sink: &mut impl Sink,
    ) -> io::Result<usize> {
        if bytes == 0 {
            return Ok(0);
        }
        self.effort.add_send(bytes);
        match (way, slices) {
            (SendMethod::Staged, _) => sink.write_staged(key),
            (SendMethod::Flat, _) | (SendMethod::Slices, [_]) => sink.write(key, &slices[0]),
            (SendMethod::Slices, _) => sink.write_vectored(key, slices),
        }
    }

    /// Notes where a watcher that stood at `from` stands after a send. True: all of it went out.
    fn record(
        &mut self,
        key: WatcherKey,
        result: io::Result<usize>,
        gathered: &Gathered,
        from: Cursor,
    ) -> bool {
        let watcher = &mut self.watchers[key];
        match result {
            Ok(taken) if taken == gathered.bytes => {
                watcher.cursor = Cursor { seq: gathered.next.seq.max(from.seq), ..gathered.next };
                watcher.bytes_out += taken as u64;
                self.counts.sent_bytes += taken as u64;
                self.counts.messages += gathered.messages;
                return true;
            }
            Ok(taken) => {
                let stopped = gathered.stopped_at(from, taken);
                watcher.cursor = stopped.cursor;
                watcher.bytes_out += taken as u64;
                self.counts.sent_bytes += taken as u64;
                self.block(key);
                self.counts.messages += stopped.messages;
                if let Some((batch, rest)) = stopped.rest {
                    self.enqueue_rest(key, batch, rest, false);
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                watcher.cursor = from;
                self.block(key);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {
                watcher.cursor = from;
                watcher.set(Flags::LAGS);
                self.enqueue(key);
            }
            Err(_) => self.break_off(key),
        }
        false
    }
}
