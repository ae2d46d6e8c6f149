//! Where a watcher begins: the place that `since` asks for, and what it is sent first.

use arrayvec::ArrayVec;

use crate::delivery::cursor::{Cursor, Missed, place_behind};
use crate::delivery::filter::Selector;
use crate::stream::directory::Directory;
use crate::stream::numbers::SEQ_MIN;
use crate::stream::topic::{Handle, Log, Topic, TopicKind};
use crate::wire::client_action::Since;
use crate::wire::watcher_message::{Gap, GapReason};

/// Handles and events that one step of a search looks at under a log's lock, at most: some microseconds.
const LOOKS_MAX: u32 = 4096;

/// Where a watcher begins.
pub struct Start {
    pub cursor: Cursor,
    pub gap: Option<Gap>,
    /// Losses up to this number are settled: the gap reports them, or they were not asked for.
    pub settled_to: u64,
    /// Kept events, sent after the gap and before the log's events.
    pub kept: ArrayVec<Handle, 2>,
    /// What still has to be found out, if anything.
    pub pending: Option<Pending>,
}

/// What has to be found out before a watcher gets its first event.
#[derive(Clone, Copy, Debug)]
pub enum Pending {
    /// An earlier life of the job, dropped since, had numbers up to `earlier_to`. The next life's first event shows
    /// whether they are missed: a job that begins with its `job_started` misses nothing.
    Earlier { earlier_to: u64 },
    /// The place of the last matching events.
    Last(Search),
    /// The watcher named a number that others may have given and that has not come here yet. It gets nothing up to there.
    /// `answers`: how often the stream had said by then which number is its newest.
    Stands { answers: u64 },
}

impl Start {
    pub(super) fn at(cursor: Cursor) -> Self {
        Self { cursor, gap: None, settled_to: 0, kept: ArrayVec::new(), pending: None }
    }

    fn with_gap(self, gap: Option<Gap>) -> Self {
        Self { settled_to: gap.map_or(0, |gap| gap.to), gap, ..self }
    }
}

/// The gap for an earlier life with numbers up to `earlier_to`, now that the job has an event. None: the job is whole.
pub fn earlier_gap(earlier_to: u64, log: &Log) -> Option<Gap> {
    let to = log.first_seq().map_or(earlier_to, |first| earlier_to.min(first - 1));
    let gap = Gap { from: 1, to, missed: None, reason: GapReason::Expired };
    (!log.job.is_complete).then_some(gap)
}

/// Where a watcher goes on that stood at `cursor`, whose number has come by now. None: what is behind it may be lost.
pub fn find(log: &Log, cursor: Cursor) -> Option<Cursor> {
    let is_there = cursor.seq >= log.base_seq() || cursor.index >= log.base();
    is_there.then(|| Cursor { index: cursor.index.max(log.index_after(cursor.seq)), ..cursor })
}

/// The place in `topic` that `since` asks for. `newest` was loaded after the shard's interest was set.
pub fn start(topic: &Topic, directory: &Directory, since: Since, newest: u64, selector: &Selector) -> Start {
    Place::with(topic, directory, newest, selector, |place| match since {
        Since::Now => Start::at(place.live).with_gap(place.dropped_early(newest)),
        Since::Last(count) => place.last(count),
        Since::Start => place.all_retained(),
        Since::After(seq) if seq > newest && seq <= directory.newest_possible() => place.stand(seq),
        Since::After(seq) if seq > newest => place.beyond_newest(seq),
        Since::After(seq) => place.after(seq),
    })
}

/// The place of a watcher that stood at a number which nobody can have given it.
pub fn start_anew(topic: &Topic, directory: &Directory, seq: u64, newest: u64, selector: &Selector) -> Start {
    Place::with(topic, directory, newest, selector, |place| place.beyond_newest(seq))
}

/// A topic and its log, while a watcher looks for its place in it.
struct Place<'a> {
    topic: &'a Topic,
    log: &'a Log,
    directory: &'a Directory,
    selector: &'a Selector,
    /// The place behind the newest number.
    live: Cursor,
}

impl Place<'_> {
    fn with(
        topic: &Topic,
        directory: &Directory,
        newest: u64,
        selector: &Selector,
        find: impl FnOnce(Place<'_>) -> Start,
    ) -> Start {
        let log = topic.log.lock();
        let live = Cursor { index: log.index_after(newest), seq: newest };
        find(Place { topic, log: &log, directory, selector, live })
    }

    /// Whether this life of the job began with its `job_started`.
    fn is_whole(&self) -> bool {
        self.topic.kind == TopicKind::Job && self.log.job.is_complete
    }

    /// The last number that a dropped, earlier life of this topic may have had; 0: there was none.
    fn earlier_to(&self) -> u64 {
        if self.topic.kind == TopicKind::All {
            return 0;
        }
        let before = self.log.first_seq().map_or(u64::MAX, |first| first - 1);
        self.directory.dropped.last(self.topic.kind, &self.topic.name).min(before)
    }

    /// The gap for a topic that was dropped before its newest events were published: beyond `seq` they would be live.
    fn dropped_early(&self, seq: u64) -> Option<Gap> {
        let to = self.earlier_to();
        (to > seq).then_some(Gap { from: seq + 1, to, missed: None, reason: GapReason::Expired })
    }

    /// Begins at a number that this daemon has not come to.
    fn stand(&self, seq: u64) -> Start {
        let cursor = Cursor { seq, ..self.live };
        let pending = Some(Pending::Stands { answers: self.directory.answers() });
        Start { pending, ..Start::at(cursor).with_gap(self.dropped_early(seq)) }
    }

    /// Begins with all that is retained. An earlier life is missed only if this one is not whole, and so is what a hole
    /// had before it.
    fn all_retained(&self) -> Start {
        let holes = &self.directory.holes;
        if self.is_whole() {
            let before = self.log.first_seq().map_or(0, |first| first - 1);
            let mut start = self.behind(0, holes.passed(before, self.log.base_seq()), 0, 0);
            start.cursor.seq = start.cursor.seq.max(before.min(self.live.seq));
            return start;
        }
        let earlier_to = self.earlier_to();
        let is_unsure = self.topic.kind == TopicKind::Job && self.log.first_seq().is_none();
        if is_unsure {
            let earlier_to = earlier_to.max(holes.newest_until(self.live.seq));
            let pending = (earlier_to > 0).then_some(Pending::Earlier { earlier_to });
            return Start { pending, ..Start::at(self.live) };
        }
        self.behind(0, holes.passed(0, self.log.base_seq()), earlier_to, 0)
    }

    /// Begins with what is retained beyond `seq`. A whole job does not excuse an earlier life: the watcher may have
    /// seen a part of that, in this run or another one. Only a number that no run can have given excludes this.
    fn after(&self, seq: u64) -> Start {
        let was_never_given = seq < SEQ_MIN && self.is_whole();
        let unknown_to = if was_never_given { 0 } else { self.directory.unknown_to(seq) };
        let hole_to = self.directory.holes.passed(seq, self.log.base_seq());
        self.behind(seq, hole_to, self.earlier_to(), unknown_to)
    }

    /// Begins after a number that no run has given: nothing that is kept is skipped.
    fn beyond_newest(&self, seq: u64) -> Start {
        let start = self.all_retained();
        if self.is_whole() && start.gap.is_none() {
            return start;
        }
        let next = seq.saturating_add(1);
        let gap = Gap { from: next, to: next, missed: None, reason: GapReason::Restart };
        Start { gap: Some(gap), pending: None, ..start }
    }

    /// Begins with what is retained beyond `seq`. Before that the last hole passed ended with `hole_to` (0: there was
    /// none). An earlier life may have had numbers up to `earlier_to`. Nothing is known up to `unknown_to`, since an
    /// unknown run has given `seq` (0: the run is known).
    fn behind(&self, seq: u64, hole_to: u64, earlier_to: u64, unknown_to: u64) -> Start {
        let log = self.log;
        let index = log.index_after(seq);
        // In the log of all events, the number may give the index.
        let is_known_of_all = self.topic.kind == TopicKind::All && unknown_to == 0;
        let by_number = if is_known_of_all { self.directory.index_of_all(seq) } else { None };
        let place = by_number.or((index > log.base()).then_some(index));
        let missed = Missed::beside(log, hole_to, place, seq, self.selector);
        let lost_to = missed.to.unwrap_or(0);
        let gap = if unknown_to > 0 || earlier_to > seq {
            let reason = if unknown_to > 0 { GapReason::Restart } else { GapReason::Expired };
            Some(Gap { from: seq + 1, to: lost_to.max(unknown_to).max(earlier_to), missed: None, reason })
        } else {
            let is_of_restart = seq > 0 && seq < self.directory.missing_to;
            missed.gap(seq, if is_of_restart { GapReason::Restart } else { GapReason::Expired })
        };
        // The watcher is past what the gap reports and past all that the log has lost.
        let reported_to = gap.map_or(0, |gap| gap.to);
        let before = if index == log.base() { missed.behind.seq } else { 0 };
        let cursor = Cursor { index, seq: seq.max(reported_to.max(before).min(self.live.seq)) };
        Start { kept: missed.kept, ..Start::at(cursor).with_gap(gap) }
    }

    /// The place before everything in the log.
    fn before_all(&self) -> Cursor {
        let first = self.log.seq_at(self.log.base()).unwrap_or(u64::MAX);
        Cursor { index: self.log.base(), seq: self.live.seq.min(first - 1) }
    }

    /// Begins with the last `count` events that match. There is no gap, since nothing older was asked for.
    fn last(&self, count: u64) -> Start {
        let mut search = Search { left: count, newest: self.live.seq, at: self.live.index };
        let start = match search.step(self.log, self.selector) {
            Some(start) => start,
            None => Start { pending: Some(Pending::Last(search)), ..Start::at(self.before_all()) },
        };
        let settled_to = start.cursor.seq;
        Start { settled_to, ..start.with_gap(self.dropped_early(self.live.seq)) }
    }
}

/// A search for the place of the last events that match, from the newest backwards, a portion at a time.
#[derive(Clone, Copy, Debug)]
pub struct Search {
    /// Matching events still to be found.
    left: u64,
    /// The newest number when the search began.
    newest: u64,
    /// The events from this index on have been looked at.
    at: u64,
}

impl Search {
    /// Searches a portion. None: it has to search further.
    pub fn step(&mut self, log: &Log, selector: &Selector) -> Option<Start> {
        if selector.is_all() {
            let there = self.at.saturating_sub(log.base());
            self.at -= self.left.min(there);
            self.left -= self.left.min(there);
        }
        let mut looks = LOOKS_MAX;
        if self.left > 0 && self.at > log.base() {
            self.look_back(log, selector, &mut looks);
        }
        let is_done = self.left == 0 || looks > 0;
        is_done.then(|| self.finish(log, selector))
    }

    fn look_back(&mut self, log: &Log, selector: &Selector, looks: &mut u32) {
        let passed = log.walk_back(self.at, selector.mask, looks, |handle, looks| {
            let run = handle.run();
            let end = run.first + run.count.min(self.at.saturating_sub(run.at) as u32);
            for event in (run.first..end).rev() {
                if *looks == 0 {
                    return false;
                }
                *looks -= 1;
                self.at = place_behind(handle, event).index - 1;
                self.left -= u64::from(selector.wants(&handle.batch, event));
                if self.left == 0 {
                    return false;
                }
            }
            true
        });
        self.at = self.at.min(passed);
    }

    fn finish(&self, log: &Log, selector: &Selector) -> Start {
        let mut kept: ArrayVec<Handle, 2> = ArrayVec::new();
        let mut cursor = Cursor { index: self.at.max(log.base()), seq: self.newest };
        if self.left > 0 {
            cursor.index = log.base();
            let matching: ArrayVec<Handle, 2> =
                log.kept_after(0).filter(|handle| selector.wants(&handle.batch, 0)).collect();
            let passed = matching.len().saturating_sub(self.left as usize);
            kept.extend(matching.into_iter().skip(passed));
        }
        if let Some(seq) = log.seq_at(cursor.index) {
            cursor.seq = cursor.seq.min(seq - 1);
        }
        Start { kept, settled_to: cursor.seq, ..Start::at(cursor) }
    }
}
