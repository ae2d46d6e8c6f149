//! A watcher of any number of jobs: one cursor for each, merged by number into one order, in the Overseer
//! dialect.

use std::io::ErrorKind;
use std::mem;

use arrayvec::ArrayVec;
use slab::Slab;

use crate::hub::cursor::{self, Cursor, Gathered, Missed, Portion, place_behind};
use crate::hub::filter::{Filter, Selector};
use crate::hub::outlet::Outlet;
use crate::hub::watcher::{LAGS, Place};
use crate::hub::watchers::Watchers;
use crate::stream::dialect;
use crate::stream::directory::DirectoryFull;
use crate::stream::topic::{Handle, Log, TopicKind};
use crate::wire::action::Since;
use crate::wire::notice::{self, Gap, GapReason};

/// What one job adds to a merge, and what a merge sends, at most.
const JOB_PORTION: Portion = Portion { handles: 64, pieces: 64, bytes: 64 << 10 };
const HANDLES_MAX: usize = 512;
const MERGE_BYTES_MAX: usize = 256 << 10;

pub struct Many {
    pub selector: Selector,
    subscriptions: Slab<Subscription>,
    /// Subscriptions for which something may have come.
    marked: Vec<u32>,
    /// The one order of all jobs has come to this number.
    passed: u64,
}

struct Subscription {
    local: u32,
    cursor: Cursor,
    is_marked: bool,
    /// It sends its past up to this number before anything else goes out.
    replay_to: Option<u64>,
    /// Kept events to go out, if they are still wanted, before what the log has: two of now, and an end that a later
    /// one has replaced since.
    ahead: ArrayVec<Handle, 3>,
    /// What was lost up to here has been told of, or was not asked for.
    told: u64,
}

impl Subscription {
    /// Goes on to the number `passed`: nothing that was wanted so far is left before it. Returns the gap, if
    /// something that `selector` wants is lost behind it.
    fn move_to(&mut self, passed: u64, selector: &Selector, log: &Log) -> Option<Gap> {
        let index = log.index_after(passed);
        if index > log.base() || self.cursor.index >= log.base() {
            self.cursor = Cursor { index: index.max(self.cursor.index), seq: passed };
            return None;
        }
        let missed = Missed::of(log, None, passed, selector);
        self.cursor = Cursor { seq: passed.max(missed.behind.seq), ..missed.behind };
        let gap = missed.gap(passed, GapReason::Overrun);
        self.take_ahead(missed.kept, gap.as_ref());
        gap
    }

    fn take_ahead(&mut self, kept: ArrayVec<Handle, 2>, gap: Option<&Gap>) {
        self.ahead = kept.into_iter().collect();
        self.told = gap.map_or(0, |gap| gap.to);
    }

    /// Something else is wanted from the first event ahead on, if there is one: what the log has lost there is looked
    /// at again, but for what a gap has told of.
    fn step_back(&mut self) {
        let Some(first) = self.ahead.first() else { return };
        let seq = self.told.max(first.batch.first_seq() - 1);
        self.ahead.retain(|handle| handle.batch.first_seq() <= seq);
        self.cursor = Cursor::by_number(seq);
    }
}

/// One event of a merge.
struct Merged {
    seq: u64,
    /// Place in [`Merge::sources`].
    source: u32,
    /// Place in [`Merge::handles`].
    handle: u32,
    event: u32,
}

/// What one subscription adds to a merge.
struct Source {
    subscription: u32,
    /// Where it stands, after the events that have gone out.
    at: Cursor,
    next: Cursor,
    is_all: bool,
}

/// Scratch of one merge, used again for the next.
#[derive(Default)]
pub struct Merge {
    sources: Vec<Source>,
    handles: Vec<Handle>,
    merged: Vec<Merged>,
    ends: Vec<usize>,
}

impl Many {
    /// All of every job's events with numbers up to the answer went out; `tail` where none is missing.
    pub fn position(&self, tail: u64) -> u64 {
        let waiting = self.subscriptions.iter().map(|(_, subscription)| subscription);
        let lowest = |subscription: &Subscription| {
            let ahead = subscription.ahead.first().map_or(u64::MAX, |handle| handle.batch.first_seq() - 1);
            // The one order may have come further than the last event of this job.
            let passed = if subscription.replay_to.is_none() { self.passed } else { 0 };
            subscription.cursor.seq.max(passed).min(ahead)
        };
        waiting.map(lowest).min().unwrap_or(tail)
    }

    /// Each job's place in the shard and the index where it stands.
    pub fn places(&self) -> impl Iterator<Item = (u32, u64)> {
        self.subscriptions.iter().map(|(_, subscription)| (subscription.local, subscription.cursor.index))
    }

    pub fn len(&self) -> usize {
        self.subscriptions.len()
    }

    pub fn is_empty(&self) -> bool {
        self.subscriptions.is_empty()
    }
}

impl Watchers {
    /// Begins to watch no job yet, any number later.
    pub fn watch_many(&mut self, key: u32, filter: Filter) {
        let filter = self.share(filter);
        let selector = self.selector(filter.as_ref());
        let many = Many { selector, subscriptions: Slab::new(), marked: Vec::new(), passed: 0 };
        let watcher = &mut self.watchers[key as usize];
        watcher.place = Place::Many(Box::new(many));
        watcher.filter = filter;
        watcher.set(LAGS);
    }

    fn many(&mut self, key: u32) -> &mut Many {
        match &mut self.watchers[key as usize].place {
            Place::Many(many) => many,
            _ => panic!("the connection watches many jobs"),
        }
    }

    /// The subscription to a job, if there is one.
    fn subscription(&mut self, key: u32, job_id: &str) -> Option<u32> {
        let Place::Many(many) = &self.watchers[key as usize].place else {
            return None;
        };
        let found = many
            .subscriptions
            .iter()
            .find(|(_, subscription)| *self.topics[subscription.local as usize].topic.name == *job_id);
        found.map(|(place, _)| place as u32)
    }

    /// How many jobs the connection watches.
    pub fn job_count(&mut self, key: u32) -> usize {
        self.many(key).len()
    }

    pub fn is_subscribed(&mut self, key: u32, job_id: &str) -> bool {
        self.subscription(key, job_id).is_some()
    }

    /// Adds a job. `greet` is told the newest number at that moment.
    pub fn subscribe_job(
        &mut self,
        key: u32,
        job_id: &str,
        since: Since,
        published: impl FnOnce() -> u64,
        greet: impl FnOnce(u64, &mut Vec<u8>),
    ) -> Result<(), DirectoryFull> {
        let topic = self.directory.watch(TopicKind::Job, job_id)?;
        let local = self.local(&topic);
        topic.set_interest(self.shard);
        let newest = published();
        if self.types != self.directory.types.generation() {
            self.renew_masks();
        }
        let selector = self.many(key).selector.clone();
        let start = cursor::start(&topic, &self.directory, since, newest, &selector);
        let replay_to = (!matches!(since, Since::Now)).then_some(newest);
        let mut subscription = Subscription {
            local,
            cursor: start.cursor,
            is_marked: false,
            replay_to,
            ahead: ArrayVec::new(),
            told: 0,
        };
        subscription.take_ahead(start.kept, start.gap.as_ref());
        if let Since::Last(_) = since {
            subscription.told = start.cursor.seq;
        }
        let place = self.many(key).subscriptions.insert(subscription) as u32;
        self.topics[local as usize].many.push((key, place));
        let now = self.now;
        self.say(key, |out| {
            greet(newest, out);
            if let Some(gap) = &start.gap {
                notice::gap(out, &now, gap, Some(job_id));
            }
        });
        self.count_gap(start.gap.as_ref());
        self.mark_subscription(key, place);
        Ok(())
    }

    /// Ends a job's events at once. False: the connection does not watch it.
    pub fn unsubscribe_job(&mut self, key: u32, job_id: &str) -> bool {
        let Some(place) = self.subscription(key, job_id) else {
            return false;
        };
        let many = self.many(key);
        let subscription = many.subscriptions.remove(place as usize);
        many.marked.retain(|&marked| marked != place);
        self.let_go(key, place, &subscription);
        true
    }

    pub(super) fn leave_many(&mut self, key: u32, many: Many) {
        for (place, subscription) in &many.subscriptions {
            self.let_go(key, place as u32, subscription);
        }
    }

    fn let_go(&mut self, key: u32, place: u32, subscription: &Subscription) {
        let holders = &mut self.topics[subscription.local as usize].many;
        let at = holders.iter().position(|&holder| holder == (key, place));
        holders.swap_remove(at.expect("a topic knows its subscriptions"));
        self.release(subscription.local);
    }

    pub(super) fn mark_subscription(&mut self, key: u32, place: u32) {
        let many = self.many(key);
        let subscription = &mut many.subscriptions[place as usize];
        if !subscription.is_marked {
            subscription.is_marked = true;
            many.marked.push(place);
        }
        self.enqueue(key);
    }

    pub(super) fn mark_subscriptions(&mut self, key: u32) {
        let many = self.many(key);
        for (place, subscription) in many.subscriptions.iter_mut() {
            if !subscription.is_marked {
                subscription.is_marked = true;
                many.marked.push(place as u32);
            }
        }
    }

    /// Wants something else from here on: from the same place in the one order for every job, kept events included.
    pub(super) fn select(&mut self, key: u32, selector: Selector) {
        let Place::Many(many) = &mut self.watchers[key as usize].place else { return };
        if many.selector == selector {
            return;
        }
        let mut gaps = Vec::new();
        for (_, subscription) in many.subscriptions.iter_mut() {
            subscription.step_back();
            if subscription.replay_to.is_none() && subscription.cursor.seq < many.passed {
                let topic = &self.topics[subscription.local as usize].topic;
                let gap = subscription.move_to(many.passed, &selector, &topic.log.lock());
                gaps.extend(gap.map(|gap| (gap, topic.clone())));
            }
        }
        many.selector = selector;
        gaps.iter().for_each(|(gap, _)| self.count_gap(Some(gap)));
        let now = self.now;
        self.say(key, |out| {
            gaps.iter().for_each(|(gap, topic)| notice::gap(out, &now, gap, Some(&topic.name)))
        });
    }

    /// Sends a portion: of the first past that is asked for, else of all marked jobs up to `tail`, merged by number.
    pub(super) fn serve_many(&mut self, key: u32, tail: u64, outlet: &mut impl Outlet) {
        let mut merge = mem::take(&mut self.merge);
        let (tail, is_live) = self.gather_marked(key, tail, &mut merge);
        merge.merged.sort_unstable_by_key(|event| event.seq);
        if is_live && !self.is_reviewed(key) {
            let first = merge.merged.first().map(|event| &merge.handles[event.handle as usize]);
            self.note_delivery(first);
        }
        // Beyond what was gathered of one job, its next event may stand before another's.
        let complete_to =
            merge.sources.iter().filter(|source| !source.is_all).map(|source| source.next.seq).min();
        let complete_to = complete_to.map_or(tail, |to| to.min(tail));
        let end = merge.merged.partition_point(|event| event.seq <= complete_to);
        let sent = self.send_merged(key, &mut merge, end, outlet);
        let passed_to = match merge.merged[..sent].last() {
            _ if sent == end => complete_to,
            Some(last) => last.seq,
            None => 0,
        };
        for event in &merge.merged[..sent] {
            let at = place_behind(&merge.handles[event.handle as usize], event.event);
            let source = &mut merge.sources[event.source as usize];
            // A kept event stands before the place that was taken after its gap.
            if at.seq > source.at.seq {
                source.at = at;
            }
        }
        for source in &merge.sources {
            self.move_subscription(key, source, passed_to, tail);
        }
        merge.clear();
        self.merge = merge;
        if !self.many(key).marked.is_empty() {
            self.enqueue(key);
        }
    }

    /// Gathers from the first subscription that still replays, else from all marked ones. Returns the number up to
    /// which was looked, and whether it is not the past.
    fn gather_marked(&mut self, key: u32, tail: u64, merge: &mut Merge) -> (u64, bool) {
        let many = self.many(key);
        let replay_of = |place: u32| many.subscriptions[place as usize].replay_to;
        let replay = many.marked.iter().find_map(|&place| replay_of(place).map(|to| (place, to)));
        if let Some((place, to)) = replay {
            self.gather_subscription(key, place, to, JOB_PORTION, merge);
            return (to, false);
        }
        let marked = mem::take(&mut many.marked);
        let handles = (HANDLES_MAX / marked.len().max(1)).clamp(1, JOB_PORTION.handles);
        for &place in &marked {
            self.gather_subscription(key, place, tail, Portion { handles, ..JOB_PORTION }, merge);
        }
        self.many(key).marked = marked;
        (tail, true)
    }

    fn gather_subscription(&mut self, key: u32, place: u32, tail: u64, portion: Portion, merge: &mut Merge) {
        let many = self.many(key);
        let (selector, passed) = (many.selector.clone(), many.passed);
        let subscription = &many.subscriptions[place as usize];
        let has_passed = subscription.replay_to.is_none();
        let (local, from, has_ahead) =
            (subscription.local, subscription.cursor, !subscription.ahead.is_empty());
        let topic = self.topics[local as usize].topic.clone();
        let mut gathered = mem::take(&mut self.gathered);
        let mut at = from;
        if has_ahead {
            // What the log has comes behind it, and so would the next gap.
            gathered.next = from;
            gathered.is_all = false;
        } else if gathered.gather(&topic, from, &selector, tail, portion).is_err() {
            // The one order may have come further than this job's last event.
            let stands = if has_passed { from.seq.max(passed) } else { from.seq };
            let is_counted = from.index > 0 && (selector.is_all() || stands == from.seq);
            let index = is_counted.then_some(from.index);
            let missed = Missed::of(&topic.log.lock(), index, stands, &selector);
            at = Cursor { seq: from.seq.max(missed.behind.seq), ..missed.behind };
            let gap = missed.gap(stands, GapReason::Overrun);
            if let Some(gap) = &gap {
                let now = self.now;
                self.say(key, |out| notice::gap(out, &now, gap, Some(&topic.name)));
                self.count_gap(Some(gap));
            }
            let subscription = &mut self.many(key).subscriptions[place as usize];
            subscription.cursor = at;
            subscription.take_ahead(missed.kept, gap.as_ref());
            gathered.next = at;
            gathered.is_all = false;
        } else {
            at = gathered.from;
        }
        let ahead = &self.many(key).subscriptions[place as usize].ahead;
        merge.add(place, at, ahead.iter().filter(|handle| selector.wants(&handle.batch, 0)), &gathered);
        gathered.clear();
        self.gathered = gathered;
    }

    /// Sends the first `end` events in order, as many as fit. Returns how many are on their way.
    fn send_merged(&mut self, key: u32, merge: &mut Merge, end: usize, outlet: &mut impl Outlet) -> usize {
        // A gap that was just found goes first.
        if end == 0 || !self.send_outbox(key, outlet) {
            return 0;
        }
        let mut flat = mem::take(&mut self.flat);
        flat.clear();
        for event in &merge.merged[..end] {
            if flat.len() >= MERGE_BYTES_MAX {
                break;
            }
            let batch = &merge.handles[event.handle as usize].batch;
            let dialect = batch.dialect(dialect::of_batch, |bytes| self.directory.add_dialect_bytes(bytes));
            flat.extend_from_slice(&dialect.bytes[dialect.span(event.event..event.event + 1)]);
            merge.ends.push(flat.len());
        }
        self.sends += 1;
        self.effort += 1;
        let taken = match outlet.write(key, &flat) {
            Ok(taken) => taken,
            Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => {
                if error.kind() == ErrorKind::WouldBlock {
                    self.block(key);
                }
                flat.clear();
                0
            }
            Err(_) => {
                self.break_off(key);
                flat.clear();
                0
            }
        };
        let watcher = &mut self.watchers[key as usize];
        watcher.bytes_out += taken as u64;
        self.sent_bytes += taken as u64;
        if taken < flat.len() {
            self.block(key);
        }
        let mut sent = merge.ends.partition_point(|&end| end <= taken);
        let border = sent.checked_sub(1).map_or(0, |last| merge.ends[last]);
        if taken > border {
            self.say(key, |out| out.extend_from_slice(&flat[taken..merge.ends[sent]]));
            sent += 1;
        }
        self.messages += sent as u64;
        self.flat = flat;
        sent
    }

    /// All of this job's events up to `passed_to` are on their way.
    fn move_subscription(&mut self, key: u32, source: &Source, passed_to: u64, tail: u64) {
        let many = self.many(key);
        let subscription = &mut many.subscriptions[source.subscription as usize];
        if subscription.replay_to.is_none() {
            many.passed = many.passed.max(passed_to);
        }
        subscription.ahead.retain(|handle| handle.batch.first_seq() > passed_to);
        subscription.cursor = if source.next.seq <= passed_to { source.next } else { source.at };
        let is_past = subscription.ahead.first().is_none_or(|handle| handle.batch.first_seq() > tail);
        let is_done = subscription.cursor.seq >= tail && is_past;
        // A past that has gone out is followed by what came meanwhile.
        if is_done && subscription.replay_to.take().is_none() {
            subscription.is_marked = false;
            many.marked.retain(|&marked| marked != source.subscription);
        }
    }
}

impl Merge {
    fn add<'a>(
        &mut self,
        subscription: u32,
        at: Cursor,
        ahead: impl Iterator<Item = &'a Handle>,
        gathered: &Gathered,
    ) {
        let source = self.sources.len() as u32;
        for handle in ahead {
            let seq = handle.batch.first_seq();
            self.merged.push(Merged { seq, source, handle: self.handles.len() as u32, event: 0 });
            self.handles.push(handle.clone());
        }
        let first = self.handles.len() as u32;
        self.handles.extend(gathered.handles.iter().cloned());
        for piece in &gathered.pieces {
            let batch = &gathered.handles[piece.handle as usize].batch;
            let events = (piece.first..=piece.last).map(|event| (batch.seq(event), event));
            let handle = first + piece.handle;
            self.merged.extend(events.map(|(seq, event)| Merged { seq, source, handle, event }));
        }
        self.sources.push(Source { subscription, at, next: gathered.next, is_all: gathered.is_all });
    }

    fn clear(&mut self) {
        self.sources.clear();
        self.handles.clear();
        self.merged.clear();
        self.ends.clear();
    }
}
