//! A watcher of many jobs: a cursor for each job, and how far their merged order was sent.

use std::collections::HashMap;
use std::mem;
use std::sync::Arc;

use foldhash::fast::RandomState;

use crate::delivery::cursor::Cursor;
use crate::delivery::filter::Selector;
use crate::delivery::keys::{LocalTopicSlot, SubscriptionSlot};
use crate::delivery::merge::Source;
use crate::delivery::past_readers::Reader;
use crate::delivery::start::Start;
use crate::delivery::subscription::Subscription;
use crate::delivery::table::Table;
use crate::stream::names::ByName;
use crate::stream::topic::Topic;

pub struct MultiJob {
    pub selector: Selector,
    pub(super) subscriptions: Table<Subscription>,
    by_name: HashMap<ByName, SubscriptionSlot, RandomState>,
    /// Subscriptions that may have new events.
    pub(super) marked: Vec<SubscriptionSlot>,
    /// The merged order of all jobs was sent up to this number.
    pub(super) passed: u64,
    /// So many jobs are read from what is older than memory, or wait for it.
    past: usize,
}

impl MultiJob {
    /// The number up to which all events of all jobs were sent; `tail` without jobs.
    pub fn position(&self, tail: u64) -> u64 {
        let waiting = self.subscriptions.iter().map(|(_, subscription)| subscription);
        let lowest = |subscription: &Subscription| {
            let ahead = subscription.ahead.first().map_or(u64::MAX, |handle| handle.batch.first_seq() - 1);
            subscription.sent_to(self.passed).min(ahead)
        };
        waiting.map(lowest).min().unwrap_or(tail)
    }

    /// Whether some job's past is still being sent.
    pub fn is_replaying(&self) -> bool {
        self.subscriptions.iter().any(|(_, subscription)| subscription.replay_to.is_some())
    }

    /// Each job's topic in the shard, and its cursor's index.
    pub fn places(&self) -> impl Iterator<Item = (LocalTopicSlot, u64)> {
        self.subscriptions.iter().map(|(_, subscription)| (subscription.local, subscription.cursor.index))
    }

    pub fn len(&self) -> usize {
        self.subscriptions.len()
    }

    pub fn is_empty(&self) -> bool {
        self.subscriptions.is_empty()
    }

    /// Watches no job yet.
    pub fn new(selector: Selector) -> Self {
        Self {
            selector,
            subscriptions: Table::new(),
            by_name: HashMap::default(),
            marked: Vec::new(),
            passed: 0,
            past: 0,
        }
    }

    /// The subscription to a job, if there is one.
    pub fn find(&self, job_id: &str) -> Option<SubscriptionSlot> {
        self.by_name.get(job_id).copied()
    }

    /// Adds the subscription that `make` makes from its generation. The job is not watched yet.
    pub fn add(&mut self, topic: Arc<Topic>, make: impl FnOnce(u32) -> Subscription) -> SubscriptionSlot {
        let slot = self.subscriptions.insert(make).slot;
        self.by_name.insert(ByName(topic), slot);
        slot
    }

    /// Removes the subscription to a job. None: it is not watched.
    pub fn remove(&mut self, job_id: &str) -> Option<Subscription> {
        let slot = self.by_name.remove(job_id)?;
        let subscription = self.subscriptions.remove(self.subscriptions.key(slot));
        if subscription.is_marked {
            self.marked.retain(|&marked| marked != slot);
        }
        self.past -= usize::from(subscription.past.is_some());
        Some(subscription)
    }

    /// Marks a subscription that may have new events.
    pub fn mark(&mut self, slot: SubscriptionSlot) {
        if self.subscriptions[slot].mark() {
            self.marked.push(slot);
        }
    }

    pub fn mark_all(&mut self) {
        for (key, subscription) in self.subscriptions.iter_mut() {
            if subscription.mark() {
                self.marked.push(key.slot);
            }
        }
    }

    /// From now on a job is read from the past, behind the number `seq`.
    pub(super) fn read_from_past(&mut self, slot: SubscriptionSlot, seq: u64, reader: Reader) {
        let subscription = &mut self.subscriptions[slot];
        if mem::take(&mut subscription.is_marked) {
            self.marked.retain(|&marked| marked != slot);
        }
        subscription.cursor = Cursor::by_number(seq);
        subscription.past = Some(Box::new(reader));
        self.past += 1;
    }

    /// A job goes on in memory as `start` says. None: it has something to find out, and stays where it is until then.
    pub(super) fn read_from_memory(&mut self, slot: SubscriptionSlot, start: Option<Start>) {
        let subscription = &mut self.subscriptions[slot];
        if let Some(start) = start {
            subscription.cursor = start.cursor;
            subscription.take_ahead(start.kept, start.settled_to);
            subscription.pending = subscription.pending.take().or(start.pending.map(Box::new));
        }
        subscription.past = None;
        self.past -= 1;
        self.mark(slot);
    }

    /// Whether jobs are read from the past, or wait for it.
    pub fn reads_past(&self) -> bool {
        self.past > 0
    }

    /// The jobs whose turn it is to be read from the past: those whose past was asked for, and if there are none, all.
    pub(super) fn of_past(&self) -> impl Iterator<Item = (SubscriptionSlot, &Subscription)> {
        let all = || self.subscriptions.iter().map(|(key, subscription)| (key.slot, subscription));
        let in_past = move || all().filter(|(_, subscription)| subscription.past.is_some());
        let is_asked_for = |subscription: &Subscription| subscription.replay_to.is_some();
        let are_others = in_past().any(|(_, subscription)| is_asked_for(subscription));
        in_past().filter(move |(_, subscription)| !are_others || is_asked_for(subscription))
    }

    /// The jobs that are not read from the past.
    pub(super) fn of_memory(&self) -> impl Iterator<Item = SubscriptionSlot> {
        let all = self.subscriptions.iter();
        all.filter(|(_, subscription)| subscription.past.is_none()).map(|(key, _)| key.slot)
    }

    /// Whether a marked job may be served from memory: while others are in the past, only one whose past was asked for.
    pub(super) fn has_turn(&self) -> bool {
        let is_asked_for = |&slot: &SubscriptionSlot| self.subscriptions[slot].replay_to.is_some();
        !self.marked.is_empty() && (!self.reads_past() || self.marked.iter().any(is_asked_for))
    }

    pub(super) fn readers(&mut self) -> impl Iterator<Item = &mut Reader> {
        self.subscriptions.iter_mut().filter_map(|(_, subscription)| subscription.past.as_deref_mut())
    }

    /// Takes subscriptions that are done off the list of marked ones.
    pub fn retain_marked(&mut self) {
        let subscriptions = &self.subscriptions;
        self.marked.retain(|&slot| subscriptions[slot].is_marked);
    }

    /// The same for a job that is read from the past. True: it has moved.
    pub(super) fn move_on_in_past(&mut self, source: &Source, passed_to: u64) -> bool {
        let subscription = &mut self.subscriptions[source.subscription];
        let (seq, ahead) = (subscription.cursor.seq, subscription.ahead.len());
        subscription.ahead.retain(|handle| handle.batch.first_seq() > passed_to);
        subscription.cursor = Cursor::by_number(source.at.seq.max(passed_to));
        subscription.cursor.seq > seq || subscription.ahead.len() < ahead
    }

    /// Moves a job's cursor: its events up to `passed_to` were sent, and the merge looked up to `tail`.
    pub fn move_on(&mut self, source: &Source, passed_to: u64, tail: u64) {
        let subscription = &mut self.subscriptions[source.subscription];
        if subscription.replay_to.is_none() {
            self.passed = self.passed.max(passed_to);
        }
        subscription.ahead.retain(|handle| handle.batch.first_seq() > passed_to);
        subscription.cursor = if source.next.seq <= passed_to { source.next } else { source.at };
        let is_none_ahead = subscription.ahead.first().is_none_or(|handle| handle.batch.first_seq() > tail);
        let is_done = subscription.cursor.seq >= tail && is_none_ahead;
        // After its past, a job stays marked for what came meanwhile.
        if is_done && !subscription.is_searching() && subscription.replay_to.take().is_none() {
            subscription.is_marked = false;
        }
    }
}
