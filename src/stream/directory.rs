//! What the ingest thread and the shards share: the map of topics, the newest published number, the types.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use foldhash::fast::RandomState;
use parking_lot::Mutex;
use slab::Slab;

use crate::event::TypeTable;
use crate::stream::topic::{Topic, TopicKey, TopicKind};

/// No topic can be added: `topics_max` are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirectoryFull;

/// A job's name and a flow's, of those that are not known yet.
pub(super) type Names<'a> = [Option<&'a str>; 2];

struct Topics {
    jobs: HashMap<Arc<str>, u32, RandomState>,
    flows: HashMap<Arc<str>, u32, RandomState>,
    slots: Slab<Entry>,
    generation: u32,
    /// Jobs and flows that are known and have watchers.
    watched_jobs: usize,
    watched_flows: usize,
}

struct Entry {
    topic: Arc<Topic>,
    /// The sequencer has taken it in; until then it is there for its watchers only.
    is_known: bool,
}

pub struct Directory {
    pub types: TypeTable,
    /// The topic of all events; its log is the list of batches, the history itself.
    pub all: Arc<Topic>,
    /// The number before the first of this run.
    pub run_start: u64,
    published: AtomicU64,
    /// The greatest number in a topic that was dropped altogether.
    dropped_max: AtomicU64,
    /// What the frames in the other dialect cost, made by shards, paid for by the history.
    dialect_bytes: AtomicUsize,
    topics_max: usize,
    topics: Mutex<Topics>,
}

impl Directory {
    pub fn new(run_start: u64, topics_max: usize) -> Self {
        let all = Arc::new(Topic::new(TopicKey::ALL, TopicKind::All, "".into()));
        let mut slots = Slab::new();
        slots.insert(Entry { topic: all.clone(), is_known: true });
        let topics = Topics {
            jobs: HashMap::default(),
            flows: HashMap::default(),
            slots,
            generation: 0,
            watched_jobs: 0,
            watched_flows: 0,
        };
        Self {
            types: TypeTable::new(),
            all,
            run_start,
            published: AtomicU64::new(run_start),
            dropped_max: AtomicU64::new(0),
            dialect_bytes: AtomicUsize::new(0),
            topics_max,
            topics: Mutex::new(topics),
        }
    }

    /// The newest number that every watcher may see.
    pub fn published(&self) -> u64 {
        self.published.load(Ordering::SeqCst)
    }

    pub(super) fn publish(&self, seq: u64) {
        self.published.store(seq, Ordering::SeqCst);
    }

    pub fn dropped_max(&self) -> u64 {
        self.dropped_max.load(Ordering::SeqCst)
    }

    pub fn add_dialect_bytes(&self, bytes: usize) {
        self.dialect_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn sub_dialect_bytes(&self, bytes: usize) {
        self.dialect_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub(super) fn dialect_bytes(&self) -> usize {
        self.dialect_bytes.load(Ordering::Relaxed)
    }

    /// Topics known, jobs and flows together.
    pub fn len(&self) -> usize {
        self.topics.lock().slots.len() - 1
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Finds or makes the topic for one more watcher, which keeps it from being dropped.
    pub fn watch(&self, kind: TopicKind, name: &str) -> Result<Arc<Topic>, DirectoryFull> {
        let mut topics = self.topics.lock();
        let slot = match topics.find(kind, name) {
            Some(slot) => slot,
            None => topics.add(kind, name, self.topics_max)?,
        };
        let entry = &topics.slots[slot as usize];
        let topic = entry.topic.clone();
        if topic.watchers.fetch_add(1, Ordering::AcqRel) == 0 && entry.is_known {
            topics.count_watched(kind, 1);
        }
        Ok(topic)
    }

    /// One watcher less. A topic that no event ever named goes with its last one.
    pub fn unwatch(&self, topic: &Topic) {
        let mut topics = self.topics.lock();
        if topic.watchers.fetch_sub(1, Ordering::AcqRel) == 1 {
            match topics.slots[topic.key.slot as usize].is_known {
                true => topics.count_watched(topic.kind, -1),
                false => topics.remove(topic),
            }
        }
    }

    /// How many topics would be too many with these.
    pub(super) fn shortage(&self, names: Names<'_>) -> usize {
        self.topics.lock().shortage(names, self.topics_max)
    }

    /// Finds or makes the topics that an event names for the first time, all or none.
    pub(super) fn know(&self, names: Names<'_>) -> Result<[Option<Arc<Topic>>; 2], DirectoryFull> {
        let mut topics = self.topics.lock();
        if topics.shortage(names, self.topics_max) > 0 {
            return Err(DirectoryFull);
        }
        let [job, flow] = names;
        let mut know = |kind, name| topics.know(kind, name, self.topics_max);
        Ok([
            job.map(|name| know(TopicKind::Job, name)).transpose()?,
            flow.map(|name| know(TopicKind::Flow, name)).transpose()?,
        ])
    }

    /// Drops a topic unless it has a watcher.
    pub(super) fn forget(&self, topic: &Topic, last_seq: u64) -> bool {
        let mut topics = self.topics.lock();
        if topic.is_watched() {
            return false;
        }
        // Stored before the name is free: whoever finds the topic gone finds the number.
        self.dropped_max.fetch_max(last_seq, Ordering::SeqCst);
        topics.remove(topic);
        true
    }

    /// How many known topics of a kind have watchers.
    pub(super) fn watched(&self, kind: TopicKind) -> usize {
        let topics = self.topics.lock();
        match kind {
            TopicKind::All => 0,
            TopicKind::Job => topics.watched_jobs,
            TopicKind::Flow => topics.watched_flows,
        }
    }
}

impl Topics {
    fn find(&self, kind: TopicKind, name: &str) -> Option<u32> {
        match kind {
            TopicKind::All => Some(0),
            TopicKind::Job => self.jobs.get(name).copied(),
            TopicKind::Flow => self.flows.get(name).copied(),
        }
    }

    fn shortage(&self, names: Names<'_>, topics_max: usize) -> usize {
        let kinds = [TopicKind::Job, TopicKind::Flow];
        let is_new = |&(kind, name): &(TopicKind, Option<&str>)| {
            name.is_some_and(|name| self.find(kind, name).is_none())
        };
        let new = kinds.into_iter().zip(names).filter(is_new).count();
        // One of the slots is that of all events.
        (self.slots.len() - 1 + new).saturating_sub(topics_max)
    }

    fn know(&mut self, kind: TopicKind, name: &str, topics_max: usize) -> Result<Arc<Topic>, DirectoryFull> {
        let slot = match self.find(kind, name) {
            Some(slot) => slot,
            None => self.add(kind, name, topics_max)?,
        };
        let entry = &mut self.slots[slot as usize];
        entry.is_known = true;
        let topic = entry.topic.clone();
        if topic.is_watched() {
            self.count_watched(kind, 1);
        }
        Ok(topic)
    }

    fn add(&mut self, kind: TopicKind, name: &str, topics_max: usize) -> Result<u32, DirectoryFull> {
        if self.slots.len() > topics_max {
            return Err(DirectoryFull);
        }
        self.generation += 1;
        let vacant = self.slots.vacant_entry();
        let key = TopicKey { slot: vacant.key() as u32, generation: self.generation };
        let name: Arc<str> = name.into();
        let topic = Arc::new(Topic::new(key, kind, name.clone()));
        vacant.insert(Entry { topic, is_known: false });
        match kind {
            TopicKind::Flow => self.flows.insert(name, key.slot),
            _ => self.jobs.insert(name, key.slot),
        };
        Ok(key.slot)
    }

    fn remove(&mut self, topic: &Topic) {
        match topic.kind {
            TopicKind::All => return,
            TopicKind::Job => self.jobs.remove(&topic.name),
            TopicKind::Flow => self.flows.remove(&topic.name),
        };
        self.slots.remove(topic.key.slot as usize);
    }

    fn count_watched(&mut self, kind: TopicKind, change: isize) {
        match kind {
            TopicKind::All => {}
            TopicKind::Job => self.watched_jobs = self.watched_jobs.strict_add_signed(change),
            TopicKind::Flow => self.watched_flows = self.watched_flows.strict_add_signed(change),
        }
    }
}
