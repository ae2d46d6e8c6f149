//! Watchers of what is older than memory ([`crate::stream::past`]). Each is served alone, from the log of its topic in the
//! window of the pass, with its own filter and outbox. When it stands where memory begins, it goes on like all others.

use std::mem;
use std::sync::Arc;

use crate::delivery::cursor::Cursor;
use crate::delivery::effort::EFFORT_PER_PORTION;
use crate::delivery::filter::Selector;
use crate::delivery::flush::REPLAY_PORTION;
use crate::delivery::keys::WatcherKey;
use crate::delivery::past_readers::{Next, Reader, begin};
use crate::delivery::sink::Sink;
use crate::delivery::start::{self, Start};
use crate::delivery::watcher::{Flags, Watched};
use crate::delivery::watchers::{Watchers, write_gap};
use crate::stream::past::{Demand, Past, Window};
use crate::stream::topic::{Topic, TopicKind};
use crate::wire::client_action::Since;
use crate::wire::watcher_message::Gap;

impl Watchers {
    /// From now on what is older than memory can be read here.
    pub fn read_past(&mut self, past: Arc<Past>) {
        self.past.past = past;
    }

    /// Begins in the past rather than in memory, if memory has lost what is asked for.
    pub(super) fn begin_in_past(&self, topic: &Topic, since: Since, start: &Start) -> Option<Start> {
        begin(&self.past.past, topic.kind, self.memory_from(topic), since, start)
    }

    /// Whether what a watcher at this number has missed can be had from the past.
    pub(super) fn can_read_past(&self, seq: u64) -> bool {
        self.past.past.first().is_some() && seq < self.directory.whole_from()
    }

    /// Memory has all of a topic behind this number. An earlier life of it may have been dropped.
    pub(super) fn memory_from(&self, topic: &Topic) -> u64 {
        let whole_from = self.directory.whole_from();
        match topic.kind {
            TopicKind::All => whole_from,
            kind => whole_from.max(self.directory.dropped.last(kind, &topic.name)),
        }
    }

    /// Where somebody at the number `seq` begins there. Who has asked for all that memory has may stand before all numbers.
    pub(super) fn place_in_past(&self, seq: u64, is_from_start: bool) -> (u64, Reader) {
        let before_all = self.past.past.first().map_or(0, |first| first - 1);
        let is_from_start = is_from_start || seq < before_all;
        (seq.max(before_all), Reader { is_from_start, ..Reader::default() })
    }

    /// Puts a watcher among those that read the past.
    pub(super) fn enter_past(&mut self, key: WatcherKey, is_from_start: bool) {
        let (seq, reader) = self.place_in_past(self.watchers[key].cursor().seq, is_from_start);
        let watcher = &mut self.watchers[key];
        watcher.set(Flags::IN_PAST | Flags::LAGS);
        watcher.jump_to(Cursor::by_number(seq));
        self.past.readers.insert(key, reader);
        self.enqueue(key);
        // It may have come within a pass.
        self.past.moves = u64::MAX;
    }

    pub(super) fn leave_past(&mut self, key: WatcherKey) {
        self.watchers[key].unset(Flags::IN_PAST | Flags::READS_PAST);
        self.past.readers.remove(&key);
        if self.past.readers.is_empty() {
            self.past.window = None;
        }
    }

    /// Looks at what can be read now. The types of all events in it are in the table after that.
    #[inline]
    pub(super) fn look_at_past(&mut self) {
        if !self.past.readers.is_empty() {
            self.look_for_readers();
        }
    }

    #[cold]
    fn look_for_readers(&mut self) {
        let past = &mut self.past;
        let moves = past.past.moves();
        // The window may reach beyond what this shard could show when it looked.
        let is_let_on = past.tail > past.shown_to && self.tail > past.shown_to;
        if moves == past.moves && !is_let_on {
            return;
        }
        (past.moves, past.shown_to) = (moves, self.tail);
        past.window = past.past.window();
        past.tail = past.window.as_ref().map_or(0, |window| window.tail());
        let keys: Vec<WatcherKey> = past.readers.keys().copied().collect();
        for key in keys {
            self.release_others(key);
            self.enqueue_reader(key);
        }
    }

    /// Lets it go of all windows but the one to be read now. If its socket is full, it is not served for long.
    fn release_others(&mut self, key: WatcherKey) {
        let window = self.past.window.as_ref();
        match &mut self.watchers[key].watched {
            Watched::MultiJob(many) => many.readers().for_each(|reader| reader.release_others(window)),
            _ => self.past.readers.get_mut(&key).into_iter().for_each(|reader| reader.release_others(window)),
        }
    }

    /// Something of the past may be there for it.
    pub(super) fn enqueue_reader(&mut self, key: WatcherKey) {
        let watcher = &mut self.watchers[key];
        if !watcher.is(Flags::READS_PAST) {
            self.enqueue(key);
        } else if !watcher.is(Flags::PAST_QUEUED | Flags::BLOCKED) {
            watcher.set(Flags::PAST_QUEUED);
            self.past.queue.push_back(key);
        }
    }

    /// Whether something of the past may be there to send.
    pub fn has_past_to_send(&self) -> bool {
        !self.past.queue.is_empty()
    }

    /// Sends of the past, a portion to each watcher in turn, for about a millisecond. Live events are sent by
    /// [`Watchers::flush`], and wait for no more than this.
    pub fn flush_past(&mut self, sink: &mut impl Sink) {
        self.refresh(sink);
        let end = self.effort.spent() + EFFORT_PER_PORTION;
        for _ in 0..self.past.queue.len() {
            let Some(key) = self.past.queue.pop_front() else { break };
            self.serve_reader(key, sink);
            if self.effort.spent() >= end {
                break;
            }
        }
    }

    fn serve_reader(&mut self, key: WatcherKey, sink: &mut impl Sink) {
        if self.watchers.get(key).is_some_and(|watcher| watcher.is(Flags::PAST_QUEUED)) {
            return self.serve_jobs_of_past(key, sink);
        }
        let Some(watcher) = self.watchers.get_mut(key).filter(|watcher| watcher.is(Flags::QUEUED)) else {
            return;
        };
        watcher.unset(Flags::QUEUED);
        let is_of_past = watcher.is(Flags::IN_PAST) && !watcher.is(Flags::ENDING) && watcher.outbox.is_none();
        if watcher.is(Flags::BLOCKED | Flags::BROKEN) {
            return;
        }
        // A ping may have come meanwhile, or the end.
        if !is_of_past || self.serve_past(key, sink) {
            self.enqueue(key);
        }
    }

    /// Sends a portion to a watcher of the past. True: more can be sent at once.
    fn serve_past(&mut self, key: WatcherKey, sink: &mut impl Sink) -> bool {
        let (selector, topic) = self.wanted(key);
        let seq = self.watchers[key].cursor().seq;
        let memory_from = self.memory_from(&topic);
        if seq >= memory_from {
            self.go_on_in_memory(key, &selector, &topic);
            return true;
        }
        let tail = self.past_tail();
        let reader = self.past.readers.get_mut(&key).expect("it is among the readers");
        let Some((window, held)) = reader.find(self.past.window.as_ref(), &topic, seq) else {
            reader.hold = None;
            return false;
        };
        let reach = match reader.next(&window, seq, tail, memory_from) {
            Next::Gap(gap) => {
                self.pass_gap(key, gap);
                return false;
            }
            Next::Nothing => return false,
            Next::Elsewhere => return true,
            Next::Events(reach) => reach,
        };
        let from = Cursor { index: held.log.lock().index_after(seq), seq };
        let mut gathered = mem::take(&mut self.gathered);
        let place = (&*held, &window.directory.holes);
        if gathered.gather(place, from, &selector, reach, REPLAY_PORTION).is_err() {
            // The pass has just gone on without it.
            self.gathered = gathered;
            return true;
        }
        let is_all = self.send_gathered(key, gathered, (&held, &selector), from, sink);
        let watcher = &mut self.watchers[key];
        // The index is another log's.
        watcher.jump_to(Cursor::by_number(watcher.cursor().seq));
        let (seq, is_done) = (watcher.cursor().seq, is_all && reach == tail);
        !watcher.is(Flags::BLOCKED | Flags::BROKEN) && (!is_done || seq >= self.memory_from(&topic))
    }

    /// Up to where the past can be told of: beyond its own tail a shard tells nobody anything. A batch of the window that
    /// reaches beyond that is not read at all, since memory may have cut the same events into others.
    pub(super) fn past_tail(&self) -> u64 {
        match &self.past.window {
            Some(window) if self.past.tail > self.tail => window.directory.all.log.lock().whole_to(self.tail),
            _ => self.past.tail,
        }
    }

    /// Tells a watcher of the past what it has passed.
    fn pass_gap(&mut self, key: WatcherKey, gap: Gap) {
        let now = self.now;
        self.watchers[key].jump_to(Cursor::by_number(gap.to));
        self.enqueue_control(key, |out| write_gap(&now, Some(&gap), &[], out));
        self.counts.add_gap(Some(&gap));
    }

    /// A watcher has come to where memory begins.
    fn go_on_in_memory(&mut self, key: WatcherKey, selector: &Selector, topic: &Topic) {
        let since = Since::After(self.watchers[key].cursor().seq);
        let start = start::start(topic, &self.directory, since, self.tail, selector);
        if self.begin_in_past(topic, since, &start).is_some() {
            // Memory has just lost what it had.
            return;
        }
        self.leave_past(key);
        self.watchers[key].jump_to(start.cursor);
        if start.gap.is_some() || !start.kept.is_empty() {
            let now = self.now;
            self.enqueue_control(key, |out| write_gap(&now, start.gap.as_ref(), &start.kept, out));
            self.counts.add_gap(start.gap.as_ref());
        }
    }

    /// Tells the thread of the past what watchers here need. True: that has changed, so that the thread is to be woken.
    pub fn report_past(&mut self) -> bool {
        if self.past.readers.is_empty() && self.past.reported == Demand::default() {
            return false;
        }
        let past = &self.past;
        let window = past.window.as_deref();
        let covered_from = window.map(Window::covered_from);
        let mut demand = Demand { pass: window.map_or(0, |window| window.pass), ..Demand::default() };
        for (&key, reader) in &past.readers {
            let watcher = &self.watchers[key];
            let mut lowest_seq = u64::MAX;
            let mut add = |reader: &Reader, seq: u64| {
                let is_covered =
                    reader.lost_in != demand.pass && covered_from.is_some_and(|from| seq >= from);
                let lowest = if is_covered { &mut demand.reading } else { &mut demand.waiting };
                *lowest = Some(lowest.map_or(seq, |lowest| lowest.min(seq)));
                demand.is_starving |= !is_covered;
                lowest_seq = lowest_seq.min(seq);
            };
            match &watcher.watched {
                Watched::MultiJob(many) => many.of_past().for_each(|(_, job)| {
                    add(job.past.as_ref().expect("it reads the past"), job.cursor.seq);
                }),
                _ => add(reader, watcher.cursor().seq),
            }
            demand.is_starving |= lowest_seq >= past.tail && !watcher.is(Flags::BLOCKED);
            demand.watchers += 1;
        }
        if demand.watchers == 0 {
            demand = Demand::default();
        }
        let is_new = demand != past.reported;
        if is_new {
            past.past.report(self.shard, demand);
            self.past.reported = demand;
        }
        is_new
    }

    /// What was told last.
    pub fn reported_past(&self) -> Demand {
        self.past.reported
    }
}

#[cfg(test)]
mod tests;
