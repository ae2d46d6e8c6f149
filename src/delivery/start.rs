//! Where a watcher begins: the place that `since` asks for, and what it has to be told first.

use arrayvec::ArrayVec;

use crate::delivery::cursor::{Cursor, Missed, place_behind};
use crate::delivery::filter::Selector;
use crate::stream::directory::Directory;
use crate::stream::numbers::SEQ_MIN;
use crate::stream::topic::{Handle, Log, Topic, TopicKind};
use crate::wire::action::Since;
use crate::wire::notice::{Gap, GapReason};

/// Handles and events that one step of a search looks at under a log's lock: some microseconds.
const LOOKS_MAX: u32 = 4096;

/// Where a watcher begins.
pub struct Start {
    pub cursor: Cursor,
    pub gap: Option<Gap>,
    /// What was lost up to here is told of by the gap, or was not asked for.
    pub told: u64,
    /// Goes out after the gap, before what the log has.
    pub kept: ArrayVec<Handle, 2>,
    /// It cannot be said yet.
    pub pending: Option<Pending>,
}

/// What has to be found out before a watcher gets its first event.
#[derive(Clone, Copy, Debug)]
pub enum Pending {
    /// An earlier life of the job, dropped since, had numbers up to `earlier_to`. Whether they are missed shows with the
    /// next life's first event: a job that is whole from its `job_started` on misses nothing.
    Earlier { earlier_to: u64 },
    /// The place of the last so many events that match.
    Last(Search),
}

impl Start {
    fn at(cursor: Cursor) -> Self {
        Self { cursor, gap: None, told: 0, kept: ArrayVec::new(), pending: None }
    }

    fn with_gap(self, gap: Option<Gap>) -> Self {
        Self { told: gap.map_or(0, |gap| gap.to), gap, ..self }
    }
}

/// The gap that a watcher has to be told of now that the job has an event, if an earlier life had numbers up to
/// `earlier_to`.
pub fn earlier_gap(earlier_to: u64, log: &Log) -> Option<Gap> {
    let to = log.first_seq().map_or(earlier_to, |first| earlier_to.min(first - 1));
    let gap = Gap { from: 1, to, missed: None, reason: GapReason::Expired };
    (!log.job.is_complete).then_some(gap)
}

/// The place in `topic` that `since` asks for, where `newest` was loaded after the shard's interest was set.
pub fn start(topic: &Topic, directory: &Directory, since: Since, newest: u64, selector: &Selector) -> Start {
    let log = topic.log.lock();
    let place = Place {
        topic,
        log: &log,
        directory,
        selector,
        live: Cursor { index: log.index_after(newest), seq: newest },
    };
    match since {
        Since::Now => Start::at(place.live).with_gap(place.dropped_early()),
        Since::Last(count) => place.last(count),
        Since::Start => place.all_retained(),
        Since::After(seq) if seq > newest => place.beyond_newest(seq),
        Since::After(seq) => place.after(seq),
    }
}

/// A topic and its log, while a watcher looks for its place in it.
struct Place<'a> {
    topic: &'a Topic,
    log: &'a Log,
    directory: &'a Directory,
    selector: &'a Selector,
    live: Cursor,
}

impl Place<'_> {
    /// Nothing of this life of the job was before its `job_started`.
    fn is_whole(&self) -> bool {
        self.topic.kind == TopicKind::Job && self.log.job.is_complete
    }

    /// The last number that an earlier life of this topic may have had when it was dropped; 0: there was none.
    fn earlier_to(&self) -> u64 {
        if self.topic.kind == TopicKind::All {
            return 0;
        }
        let before = self.log.first_seq().map_or(u64::MAX, |first| first - 1);
        self.directory.dropped.last(self.topic.kind, &self.topic.name).min(before)
    }

    /// A topic that was dropped before its newest events were published has lost what would be live.
    fn dropped_early(&self) -> Option<Gap> {
        let (newest, to) = (self.live.seq, self.earlier_to());
        (to > newest).then_some(Gap { from: newest + 1, to, missed: None, reason: GapReason::Expired })
    }

    /// All that is retained. An earlier life is missed only by a topic that is not whole by itself.
    fn all_retained(&self) -> Start {
        let earlier_to = if self.is_whole() { 0 } else { self.earlier_to() };
        let is_unsure = self.topic.kind == TopicKind::Job && self.log.first_seq().is_none();
        if earlier_to > 0 && is_unsure {
            return Start { pending: Some(Pending::Earlier { earlier_to }), ..Start::at(self.live) };
        }
        self.behind(0, earlier_to, 0)
    }

    /// What is retained beyond `seq`. That a job is whole from its start on says nothing of an earlier life that the
    /// watcher may have seen a part of, in this run or in another one; unless no run can have given that number.
    fn after(&self, seq: u64) -> Start {
        let was_never_given = seq < SEQ_MIN && self.is_whole();
        let unknown_to = if was_never_given { 0 } else { self.directory.unknown_to(seq) };
        self.behind(seq, self.earlier_to(), unknown_to)
    }

    /// No run of this daemon has given that number: nothing that is kept is skipped.
    fn beyond_newest(&self, seq: u64) -> Start {
        let start = self.all_retained();
        if self.is_whole() && start.gap.is_none() {
            return start;
        }
        let next = seq.saturating_add(1);
        let gap = Gap { from: next, to: next, missed: None, reason: GapReason::Restart };
        Start { gap: Some(gap), pending: None, ..start }
    }

    /// What is retained beyond `seq`, where an earlier life may have had numbers up to `earlier_to`, and nothing is known
    /// up to `unknown_to`, since another run has given `seq` (0: it is known).
    fn behind(&self, seq: u64, earlier_to: u64, unknown_to: u64) -> Start {
        let log = self.log;
        let index = log.index_after(seq);
        // In the log of all, the place follows from the number.
        let by_number =
            (self.topic.kind == TopicKind::All && unknown_to == 0).then(|| self.directory.index_of_all(seq));
        let missed = Missed::of(log, by_number.or((index > log.base()).then_some(index)), seq, self.selector);
        let lost_to = missed.to.unwrap_or(0);
        let gap = if unknown_to > 0 || earlier_to > seq {
            let reason = if unknown_to > 0 { GapReason::Restart } else { GapReason::Expired };
            Some(Gap { from: seq + 1, to: lost_to.max(unknown_to).max(earlier_to), missed: None, reason })
        } else {
            let is_of_restart = seq > 0 && seq < self.directory.missing_to;
            missed.gap(seq, if is_of_restart { GapReason::Restart } else { GapReason::Expired })
        };
        // What the gap tells of is over, and so is all that the log has lost.
        let told = gap.map_or(0, |gap| gap.to);
        let before = if index == log.base() { missed.behind.seq } else { 0 };
        let cursor = Cursor { index, seq: seq.max(told.max(before).min(self.live.seq)) };
        Start { kept: missed.kept, ..Start::at(cursor).with_gap(gap) }
    }

    /// Before all that the log has: where a watcher stands that has got nothing of it yet.
    fn before_all(&self) -> Cursor {
        let first = self.log.seq_at(self.log.base()).unwrap_or(u64::MAX);
        Cursor { index: self.log.base(), seq: self.live.seq.min(first - 1) }
    }

    /// The last `count` events that match: no gap, since nothing more was asked for.
    fn last(&self, count: u64) -> Start {
        let mut search = Search { left: count, newest: self.live.seq, at: self.live.index };
        let start = match search.step(self.log, self.selector) {
            Some(start) => start,
            None => Start { pending: Some(Pending::Last(search)), ..Start::at(self.before_all()) },
        };
        let told = start.cursor.seq;
        Start { told, ..start.with_gap(self.dropped_early()) }
    }
}

/// Looks for the place of the last events that match, from the newest backwards, a portion at a time.
#[derive(Clone, Copy, Debug)]
pub struct Search {
    /// So many more are wanted.
    left: u64,
    /// The newest number when it was asked for.
    newest: u64,
    /// The events from this index on have been looked at.
    at: u64,
}

impl Search {
    /// Looks on. None: it has to look further.
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
        Start { kept, told: cursor.seq, ..Start::at(cursor) }
    }
}
