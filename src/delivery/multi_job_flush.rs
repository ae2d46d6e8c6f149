//! Serves watchers of many jobs: the events of all their jobs, merged by number, in the Overseer dialect.

use std::mem;

use crate::delivery::cursor::Portion;
use crate::delivery::filter::{Filter, Selector};
use crate::delivery::keys::{SubscriptionSlot, WatcherKey};
use crate::delivery::merge::Merge;
use crate::delivery::multi_job::MultiJob;
use crate::delivery::pending::Found;
use crate::delivery::sink::Sink;
use crate::delivery::start;
use crate::delivery::subscription::{LostBehind, Subscription};
use crate::delivery::watcher::{Flags, Watched};
use crate::delivery::watchers::Watchers;
use crate::stream::directory::DirectoryFull;
use crate::stream::topic::{Topic, TopicKind};
use crate::wire::client_action::Since;
use crate::wire::framing::Framing;
use crate::wire::watcher_message::{self, Gap};

/// What one job adds to a merge, at most.
pub(super) const JOB_PORTION: Portion = Portion { handles: 64, pieces: 64, bytes: 64 << 10, block: u64::MAX };
/// Handles in a merge, shared by its jobs; each job may have one.
pub(super) const HANDLES_MAX: usize = 512;
/// Read from a connection at once, divided by an eighth of the number of its jobs: with a thousand jobs a dozen
/// messages.
const READ_BYTES_OF_JOBS: usize = 64 << 10;
const READ_BYTES_MIN: usize = 512;

/// What a merge was gathered from.
struct Looked {
    /// It is to go up to this number in the end...
    tail: u64,
    /// ...and goes up to this one for now: the next is a hole's, or `reach == tail`.
    reach: u64,
    is_live: bool,
}

impl Watchers {
    /// Makes a watcher of many jobs, with no job yet.
    pub fn watch_many(&mut self, key: WatcherKey, filter: Filter, framing: Framing) {
        let filter = self.share(filter);
        let selector = self.selector(filter.as_ref());
        let many = MultiJob::new(selector);
        let watcher = &mut self.watchers[key];
        watcher.watched = Watched::MultiJob(Box::new(many));
        watcher.filter = filter;
        watcher.set(Flags::LAGS);
        watcher.set_framing(framing);
    }

    pub(super) fn many(&mut self, key: WatcherKey) -> &mut MultiJob {
        match &mut self.watchers[key].watched {
            Watched::MultiJob(many) => many,
            _ => panic!("the connection watches many jobs"),
        }
    }

    /// Bytes of messages that are read from the connection in one turn. A filter change costs time for each job
    /// watched, so the more jobs, the fewer bytes: other connections have their turn in between.
    pub fn read_bytes_max(&self, key: WatcherKey) -> usize {
        match &self.watchers[key].watched {
            Watched::MultiJob(many) => (READ_BYTES_OF_JOBS / (many.len() / 8).max(1)).max(READ_BYTES_MIN),
            _ => usize::MAX,
        }
    }

    /// How many jobs the connection watches.
    pub fn job_count(&mut self, key: WatcherKey) -> usize {
        self.many(key).len()
    }

    pub fn is_subscribed(&self, key: WatcherKey, job_id: &str) -> bool {
        let Watched::MultiJob(many) = &self.watchers[key].watched else {
            return false;
        };
        many.find(job_id).is_some()
    }

    /// Adds a job. `greet` gets the newest number at that moment and writes the answer.
    pub fn subscribe_job(
        &mut self,
        key: WatcherKey,
        job_id: &str,
        since: Since,
        published: impl FnOnce() -> u64,
        greet: impl FnOnce(u64, &mut Vec<u8>),
    ) -> Result<(), DirectoryFull> {
        let topic = self.directory.watch(TopicKind::Job, job_id)?;
        let local = self.audience.find_or_add(&topic);
        topic.set_interest(self.shard);
        let newest = published();
        self.renew_masks();
        let selector = self.many(key).selector.clone();
        let start = start::start(&topic, &self.directory, since, newest, &selector);
        let in_past = self.begin_in_past(&topic, since, &start);
        let (is_in_past, start) = (in_past.is_some(), in_past.unwrap_or(start));
        let replay_to = (!matches!(since, Since::Now)).then_some(newest);
        let holder = self.audience.topics[local].many.len() as u32;
        let make = |generation| Subscription {
            local,
            holder,
            cursor: start.cursor,
            is_marked: false,
            replay_to,
            ahead: start.kept.into_iter().collect(),
            settled_to: start.settled_to,
            pending: start.pending.map(Box::new),
            past: None,
            generation,
        };
        let place = self.many(key).add(topic, make);
        self.audience.topics[local].many.push((key.slot, place));
        let now = self.now;
        self.enqueue_control(key, |out| {
            greet(newest.max(start.cursor.seq), out);
            if let Some(gap) = &start.gap {
                watcher_message::gap(out, &now, gap, Some(job_id));
            }
        });
        self.counts.add_gap(start.gap.as_ref());
        match is_in_past {
            true => self.read_job_from_past(key, place, start.cursor.seq, since == Since::Start),
            false => self.mark_subscription(key, place),
        }
        Ok(())
    }

    /// Ends a job's events at once. False: the connection does not watch it.
    pub fn unsubscribe_job(&mut self, key: WatcherKey, job_id: &str) -> bool {
        let Some(subscription) = self.many(key).remove(job_id) else {
            return false;
        };
        self.drop_subscription(&subscription);
        drop(subscription);
        self.note_jobs_of_past(key);
        true
    }

    pub(super) fn leave_many(&mut self, many: MultiJob) {
        for (_, subscription) in many.subscriptions.iter() {
            self.drop_subscription(subscription);
        }
    }

    /// Takes a removed subscription off its topic's list, and releases the topic.
    fn drop_subscription(&mut self, subscription: &Subscription) {
        let holders = &mut self.audience.topics[subscription.local].many;
        holders.swap_remove(subscription.holder as usize);
        if let Some(&(key, place)) = holders.get(subscription.holder as usize)
            && let Watched::MultiJob(many) = &mut self.watchers[key].watched
        {
            many.subscriptions[place].holder = subscription.holder;
        }
        self.release(subscription.local);
    }

    pub(super) fn mark_subscription(&mut self, key: WatcherKey, place: SubscriptionSlot) {
        self.many(key).mark(place);
        self.enqueue(key);
    }

    pub(super) fn mark_subscriptions(&mut self, key: WatcherKey) {
        self.many(key).mark_all();
    }

    /// Changes the selector from here on: at the same place of the merged order for every job, kept events included.
    pub(super) fn select(&mut self, key: WatcherKey, selector: Selector) {
        let passed = self.many(key).passed;
        let can_read_past = self.can_read_past(passed);
        let Watched::MultiJob(many) = &mut self.watchers[key].watched else { return };
        if many.selector == selector {
            return;
        }
        let mut gaps = Vec::new();
        for (_, subscription) in many.subscriptions.iter_mut() {
            if subscription.past.is_some() {
                continue;
            }
            subscription.step_back();
            if subscription.replay_to.is_some() || subscription.cursor.seq >= passed {
                continue;
            }
            let topic = &self.audience.topics[subscription.local].topic;
            let log = topic.log.lock();
            // Whom memory has overtaken goes on in the past, behind `passed`, once it is served.
            if subscription.move_to(passed, &log) || can_read_past {
                continue;
            }
            let gap = subscription.miss(None, passed, &selector, &log, &self.directory.holes);
            gaps.extend(gap.map(|gap| (gap, topic.clone())));
        }
        many.selector = selector;
        gaps.iter().for_each(|(gap, _)| self.counts.add_gap(Some(gap)));
        let now = self.now;
        self.enqueue_control(key, |out| {
            gaps.iter().for_each(|(gap, topic)| watcher_message::gap(out, &now, gap, Some(&topic.name)))
        });
    }

    /// Sends a portion: of the first job whose past is not sent yet, else of all marked jobs up to `tail`, merged by
    /// number.
    pub(super) fn serve_many(&mut self, key: WatcherKey, tail: u64, sink: &mut impl Sink) {
        let mut merge = mem::take(&mut self.merge);
        let Looked { tail, reach, is_live } = self.gather_marked(key, tail, &mut merge);
        merge.merged.sort_unstable_by_key(|event| event.seq);
        if is_live && !self.is_reviewed(key) {
            let first = merge.merged.first().map(|event| &merge.handles[event.handle as usize]);
            self.counts.note_delivery(first);
        }
        // Beyond what was gathered of one job, its next event may come before another job's.
        let complete_to =
            merge.sources.iter().filter(|source| !source.is_all).map(|source| source.next.seq).min();
        let complete_to = complete_to.map_or(reach, |to| to.min(reach));
        let passed_to = self.send_merged(key, &mut merge, complete_to, None, sink);
        for source in &merge.sources {
            self.many(key).move_on(source, passed_to, tail);
        }
        merge.clear();
        self.merge = merge;
        let many = self.many(key);
        many.retain_marked();
        if many.has_turn() {
            self.enqueue(key);
        } else if !is_live {
            // The last past that was asked for may be over.
            self.note_jobs_of_past(key);
        }
    }

    /// Gathers from the first subscription that still replays its past, else from all marked ones. Nothing, if memory is
    /// not what they are read from.
    fn gather_marked(&mut self, key: WatcherKey, tail: u64, merge: &mut Merge) -> Looked {
        let many = self.many(key);
        let replay_of = |place: SubscriptionSlot| many.subscriptions[place].replay_to;
        let replay = many.marked.iter().find_map(|&place| replay_of(place).map(|to| (place, to)));
        if let Some((place, tail)) = replay {
            let reach = self.reach_of(key, place, 0, tail);
            self.gather_subscription(key, place, reach, JOB_PORTION, merge);
            return Looked { tail, reach, is_live: false };
        }
        let nothing = Looked { tail, reach: tail, is_live: true };
        if many.reads_past() {
            return nothing;
        }
        let reach = self.reach_of_all(key, tail);
        let marked = mem::take(&mut self.many(key).marked);
        let handles = (HANDLES_MAX / marked.len().max(1)).clamp(1, JOB_PORTION.handles);
        for &place in &marked {
            self.gather_subscription(key, place, reach, Portion { handles, ..JOB_PORTION }, merge);
        }
        let many = self.many(key);
        many.marked = marked;
        if many.reads_past() {
            // Memory has overtaken one of them, and all go on in the past.
            merge.clear();
            return nothing;
        }
        Looked { tail, reach, is_live: true }
    }

    fn gather_subscription(
        &mut self,
        key: WatcherKey,
        place: SubscriptionSlot,
        tail: u64,
        portion: Portion,
        merge: &mut Merge,
    ) {
        let many = self.many(key);
        let (selector, passed) = (many.selector.clone(), many.passed);
        let found = match many.subscriptions[place].pending {
            None => Found::Nothing,
            Some(_) => self.resolve_pending_of(key, place, tail),
        };
        let subscription = &self.many(key).subscriptions[place];
        if subscription.past.is_some() {
            return;
        }
        let (local, from, position, has_ahead) = (
            subscription.local,
            subscription.cursor,
            subscription.sent_to(passed),
            !subscription.ahead.is_empty(),
        );
        let topic = self.audience.topics[local].topic.clone();
        let mut gathered = mem::take(&mut self.gathered);
        let mut at = from;
        if has_ahead || matches!(found, Found::NotYet) {
            // The log's events come behind what is ahead or still searched for, and so would the next gap.
            gathered.next = from;
            gathered.is_all = false;
        } else if matches!(found, Found::Waits) {
            gathered.next = from;
            gathered.is_all = true;
        } else if gathered.gather((&topic, &self.directory.holes), from, &selector, tail, portion).is_err() {
            if self.leave_memory(key, place) {
                self.gathered = gathered;
                return;
            }
            let is_counted = from.index > 0 && (selector.is_all() || position == from.seq);
            let index = is_counted.then_some(from.index);
            let directory = self.directory.clone();
            let subscription = &mut self.many(key).subscriptions[place];
            let log = topic.log.lock();
            let gap = subscription.miss(index, position, &selector, &log, &directory.holes);
            drop(log);
            at = subscription.cursor;
            if let Some(gap) = &gap {
                self.tell_gap_of(key, &topic, gap);
            }
            gathered.next = at;
            gathered.is_all = false;
        } else {
            at = gathered.from;
        }
        let ahead = &self.many(key).subscriptions[place].ahead;
        merge.add(place, at, ahead.iter().filter(|handle| selector.wants(&handle.batch, 0)), &gathered);
        gathered.clear();
        self.gathered = gathered;
    }

    /// Tells of a gap in a job.
    pub(super) fn tell_gap_of(&mut self, key: WatcherKey, topic: &Topic, gap: &Gap) {
        let now = self.now;
        self.enqueue_control(key, |out| watcher_message::gap(out, &now, gap, Some(&topic.name)));
        self.counts.add_gap(Some(gap));
    }

    /// Looks, one step further, for what a pending subscription has to be sent first, and queues its gap.
    #[cold]
    pub(super) fn resolve_pending_of(
        &mut self,
        key: WatcherKey,
        place: SubscriptionSlot,
        tail: u64,
    ) -> Found {
        let directory = self.directory.clone();
        let many = self.many(key);
        let (selector, passed, local) = (many.selector.clone(), many.passed, many.subscriptions[place].local);
        let topic = self.audience.topics[local].topic.clone();
        let newest = self.tail;
        let subscription = &mut self.many(key).subscriptions[place];
        if subscription.past.is_none() && subscription.is_of_another_stream(&directory, newest) {
            let start = start::start_anew(&topic, &directory, subscription.cursor.seq, newest, &selector);
            let gap = start.gap;
            subscription.begin_anew(start, newest);
            if let Some(gap) = &gap {
                self.tell_gap_of(key, &topic, gap);
            }
            return Found::NotYet;
        }
        let resolved = subscription.resolve_pending(&selector, &topic.log.lock(), (passed, tail));
        let gap = match resolved {
            Ok(gap) => gap,
            Err(LostBehind(_)) if self.leave_memory(key, place) => return Found::Waits,
            Err(LostBehind(seq)) => {
                let subscription = &mut self.many(key).subscriptions[place];
                subscription.miss(None, seq, &selector, &topic.log.lock(), &directory.holes)
            }
        };
        let subscription = &self.many(key).subscriptions[place];
        let found = match subscription.is_searching() {
            true => Found::NotYet,
            false if subscription.stands_beyond(tail) => Found::Waits,
            false => Found::Nothing,
        };
        if let Some(gap) = &gap {
            self.tell_gap_of(key, &topic, gap);
        }
        found
    }
}
