//! What the ingest thread and the shards share: topics by name, the newest published number, the types.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::event::TypeTable;
use crate::stream::dropped::Dropped;
use crate::stream::holes::{Holes, Kept};
use crate::stream::names::TopicsByName;
use crate::stream::snapshot::RunSpan;
use crate::stream::topic::{Log, Topic, TopicKind};
use crate::stream::topic_key::TopicKey;

/// No topic can be added for a watcher: there are `topics_max` already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirectoryFull;

/// The name of a job and of a flow; each None unless it is new.
pub(super) type Names<'a> = [Option<&'a str>; 2];

struct Topics {
    jobs: TopicsByName,
    flows: TopicsByName,
    /// Slots below `slots_used` that no topic has.
    vacant: Vec<u32>,
    slots_used: u32,
    generation: u32,
    /// Jobs and flows that an event has named: `known <= topics_max`, unless more are watched. The others exist for their
    /// watchers alone, and displace none of these.
    known: usize,
    /// Known jobs, and known flows, that have watchers.
    watched_jobs: usize,
    watched_flows: usize,
    /// Known topics whose last watcher has left since [`Directory::take_unwatched`].
    unwatched: Vec<TopicKey>,
}

pub struct Directory {
    pub types: Arc<TypeTable>,
    /// The topic of all events; its log is the list of batches, the history itself.
    pub all: Arc<Topic>,
    /// The number before the first of this run.
    pub run_start: u64,
    /// The runs whose history was restored, and this run last. All events since the first of them are known to be here
    /// or lost. Never empty.
    pub(super) runs: Box<[RunSpan]>,
    /// Up to this number, the numbers of this run have no jump, so that they count its events.
    dense_to: AtomicU64,
    /// The last number that was in the history when the run before ended and was not restored; 0: there is none.
    pub missing_to: u64,
    /// All numbers come from a stream that daemons share.
    pub is_shared: bool,
    published: AtomicU64,
    /// The greatest number that may have been given, here or elsewhere: a watcher may name it before this daemon has
    /// come so far. Below `published` it means nothing.
    newest_possible: AtomicU64,
    /// How often the stream was asked for its newest number, and what it said last.
    newest_given: Mutex<(u64, u64)>,
    pub holes: Holes,
    /// The last numbers of topics that were dropped.
    pub dropped: Dropped,
    /// Bytes of frames in the other dialect: shards make them, and they count as history.
    dialect_bytes: AtomicUsize,
    topics_max: usize,
    topics: Mutex<Topics>,
}

/// What is known of earlier runs.
#[derive(Default)]
pub struct EarlierRuns {
    pub runs: Vec<RunSpan>,
    pub holes: Holes,
    pub dropped: Dropped,
    pub missing_to: u64,
    /// All numbers come from a stream that daemons share.
    pub is_shared: bool,
}

impl EarlierRuns {
    /// Nothing is known of numbers up to `run_start`.
    pub fn none(run_start: u64) -> Self {
        Self { runs: vec![RunSpan::begun(run_start, 0)], ..Self::default() }
    }

    /// Numbers from `first` to `run_start` were given, and none of their events is here.
    pub fn lost(first: u64, run_start: u64) -> Self {
        let lost = RunSpan { seq: first - 1, end: run_start, index: 0 };
        Self {
            runs: vec![lost, RunSpan::begun(run_start, 0)],
            holes: Holes::restore(Kept { forgotten_to: run_start, ..Kept::default() }),
            dropped: Dropped::restore(run_start, &[]),
            missing_to: 0,
            is_shared: false,
        }
    }
}

impl Directory {
    /// Nothing is known of numbers up to `run_start`.
    pub fn new(run_start: u64, topics_max: usize) -> Self {
        Self::with_earlier(run_start, EarlierRuns::none(run_start), topics_max)
    }

    /// The last of `earlier.runs` is this run.
    pub fn with_earlier(run_start: u64, earlier: EarlierRuns, topics_max: usize) -> Self {
        assert_eq!(earlier.runs.last().map(|run| run.seq), Some(run_start), "this run is the last");
        let all = Arc::new(Topic::new(TopicKey::ALL, TopicKind::All, "".into()));
        let topics = Topics {
            jobs: TopicsByName::default(),
            flows: TopicsByName::default(),
            vacant: Vec::new(),
            // The first slot is that of all events.
            slots_used: 1,
            generation: 0,
            known: 0,
            watched_jobs: 0,
            watched_flows: 0,
            unwatched: Vec::new(),
        };
        Self {
            types: Arc::default(),
            all,
            run_start,
            runs: earlier.runs.into(),
            dense_to: AtomicU64::new(u64::MAX),
            missing_to: earlier.missing_to,
            is_shared: earlier.is_shared,
            published: AtomicU64::new(run_start),
            newest_possible: AtomicU64::new(0),
            newest_given: Mutex::default(),
            holes: earlier.holes,
            dropped: earlier.dropped,
            dialect_bytes: AtomicUsize::new(0),
            topics_max,
            topics: Mutex::new(topics),
        }
    }

    /// A history beside this one, of other events with the same types.
    pub fn beside(&self, run_start: u64, topics_max: usize) -> Self {
        let is_shared = self.is_shared;
        Self { types: self.types.clone(), is_shared, ..Self::new(run_start, topics_max) }
    }

    /// Whether a job may have had events before those that this daemon has read of a shared stream: then what the daemon
    /// knows of the job is a part. No job is such a part that began with its `job_started`.
    pub fn knows_part_of(&self, job: &Topic, log: &Log) -> bool {
        let before = log.first_seq().map_or(0, |first| first - 1);
        self.is_shared && !log.job.is_complete && self.dropped.last(job.kind, &job.name).min(before) > 0
    }

    /// Every event behind this number is here, or in a hole: the history has lost none of them.
    pub fn whole_from(&self) -> u64 {
        self.run_start.max(self.all.log.lock().base_seq())
    }

    /// The newest number that every watcher may see.
    pub fn published(&self) -> u64 {
        self.published.load(Ordering::SeqCst)
    }

    pub(super) fn publish(&self, seq: u64) {
        self.published.store(seq, Ordering::SeqCst);
    }

    /// If no known run gave the number `seq`: the number up to which nothing is known of the events behind it. 0: a
    /// known run gave it.
    pub fn unknown_to(&self, seq: u64) -> u64 {
        let next = self.runs.partition_point(|run| run.seq <= seq);
        let Some(after) = self.runs.get(next) else { return 0 };
        let was_given = next.checked_sub(1).is_some_and(|run| seq <= self.runs[run].end);
        if was_given { 0 } else { after.seq }
    }

    /// Index in the log of all events of the first event beyond `seq`, also where the log has lost that. None: numbers
    /// jump there, and do not tell.
    pub fn index_of_all(&self, seq: u64) -> Option<u64> {
        let next = self.runs.partition_point(|run| run.seq <= seq);
        let run = self.runs[next.checked_sub(1)?];
        let is_dense = match self.runs.get(next) {
            Some(after) => run.end - run.seq == after.index - run.index,
            None => seq <= self.dense_to.load(Ordering::SeqCst),
        };
        (is_dense || seq == run.seq).then(|| run.index + (seq - run.seq))
    }

    /// How many events of all there are beyond `seq`. Where numbers do not tell how many the history has lost, only
    /// those count that it has.
    pub fn events_beyond(&self, seq: u64) -> u64 {
        let log = self.all.log.lock();
        let lost = if seq < log.base_seq() { self.index_of_all(seq) } else { None };
        log.head().saturating_sub(lost.unwrap_or_else(|| log.index_after(seq)))
    }

    /// Numbers jump behind `seq`, the last one given.
    pub(super) fn note_jump(&self, seq: u64) {
        self.dense_to.fetch_min(seq, Ordering::SeqCst);
    }

    /// The greatest number that a watcher may have seen elsewhere, without a fault of its own.
    pub fn newest_possible(&self) -> u64 {
        self.newest_possible.load(Ordering::SeqCst)
    }

    /// Where numbers come from elsewhere: numbers up to `seq` may have been given there.
    pub fn set_newest_possible(&self, seq: u64) {
        self.newest_possible.store(seq, Ordering::SeqCst);
    }

    /// Where numbers come from elsewhere: asked just now, the stream says that none beyond `seq` was given anywhere.
    pub fn note_newest_given(&self, seq: u64) {
        let mut newest = self.newest_given.lock();
        *newest = (newest.0 + 1, seq);
    }

    /// How often that was said.
    pub fn answers(&self) -> u64 {
        self.newest_given.lock().0
    }

    /// Whether nobody can have been given the number `seq` that was named when there were so many answers. The next one
    /// may have been under way then.
    pub fn was_never_given(&self, seq: u64, answers: u64) -> bool {
        let (count, newest) = *self.newest_given.lock();
        count >= answers + 2 && seq > newest
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

    /// Number of topics, jobs and flows together.
    pub fn len(&self) -> usize {
        self.topics.lock().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Finds or makes the topic for one more watcher, which keeps it from being dropped.
    ///
    /// # Errors
    /// The topic is new, and there are `topics_max` topics already, including those that exist for watchers alone.
    pub fn watch(&self, kind: TopicKind, name: &str) -> Result<Arc<Topic>, DirectoryFull> {
        let mut topics = self.topics.lock();
        let found = if kind == TopicKind::All { Some(&self.all) } else { topics.find(kind, name) };
        let topic = match found.cloned() {
            Some(topic) => topic,
            None if topics.len() >= self.topics_max => return Err(DirectoryFull),
            None => topics.add(kind, name),
        };
        if topic.watchers.fetch_add(1, Ordering::AcqRel) == 0 && topic.is_known() {
            topics.count_watched(kind, 1);
        }
        Ok(topic)
    }

    /// Removes one watcher. A topic that no event has named is removed with its last watcher.
    pub fn unwatch(&self, topic: &Topic) {
        let mut topics = self.topics.lock();
        if topic.watchers.fetch_sub(1, Ordering::AcqRel) == 1 {
            match topic.is_known() {
                true => {
                    topics.count_watched(topic.kind, -1);
                    topics.unwatched.push(topic.key);
                }
                false => topics.remove(topic),
            }
        }
    }

    /// Takes the known topics whose last watcher has left since the last call.
    pub(super) fn take_unwatched(&self) -> Vec<TopicKey> {
        std::mem::take(&mut self.topics.lock().unwatched)
    }

    /// How many known topics would be too many if these were added.
    pub(super) fn shortage(&self, names: Names<'_>) -> usize {
        let new = names.into_iter().flatten().count();
        (self.topics.lock().known + new).saturating_sub(self.topics_max)
    }

    /// Finds or makes the topics that an event names for the first time. There is room for them.
    pub(super) fn know(&self, names: Names<'_>) -> [Option<Arc<Topic>>; 2] {
        let mut topics = self.topics.lock();
        let [job, flow] = names;
        [
            job.map(|name| topics.know(TopicKind::Job, name)),
            flow.map(|name| topics.know(TopicKind::Flow, name)),
        ]
    }

    /// Makes a topic known that there is no room for, if it is watched: it is here anyway. Otherwise it counts as dropped
    /// with the number `seq`, and whoever comes to watch it learns that.
    pub(super) fn know_or_drop(&self, kind: TopicKind, name: &str, seq: u64) -> Option<Arc<Topic>> {
        let mut topics = self.topics.lock();
        if topics.find(kind, name).is_some() {
            return Some(topics.know(kind, name));
        }
        self.dropped.note(kind, name, seq);
        None
    }

    /// Drops a topic unless it has a watcher.
    pub(super) fn forget(&self, topic: &Topic, last_seq: u64) -> bool {
        let mut topics = self.topics.lock();
        if topic.is_watched() {
            return false;
        }
        // Stored before the name is free: a thread that finds the topic gone also finds the number.
        self.dropped.note(topic.kind, &topic.name, last_seq);
        topics.remove(topic);
        topics.known -= 1;
        true
    }

    pub(super) fn topics_max(&self) -> usize {
        self.topics_max
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
    fn len(&self) -> usize {
        self.jobs.len() + self.flows.len()
    }

    fn of_kind(&mut self, kind: TopicKind) -> &mut TopicsByName {
        match kind {
            TopicKind::Flow => &mut self.flows,
            _ => &mut self.jobs,
        }
    }

    fn find(&self, kind: TopicKind, name: &str) -> Option<&Arc<Topic>> {
        match kind {
            TopicKind::Flow => self.flows.find(name),
            _ => self.jobs.find(name),
        }
    }

    fn know(&mut self, kind: TopicKind, name: &str) -> Arc<Topic> {
        let topic = match self.find(kind, name).cloned() {
            Some(topic) => topic,
            None => self.add(kind, name),
        };
        topic.set_known();
        self.known += 1;
        if topic.is_watched() {
            self.count_watched(kind, 1);
        }
        topic
    }

    fn add(&mut self, kind: TopicKind, name: &str) -> Arc<Topic> {
        self.generation = self.generation.wrapping_add(1);
        let slot = self.vacant.pop().unwrap_or(self.slots_used);
        self.slots_used = self.slots_used.max(slot + 1);
        let key = TopicKey { slot, generation: self.generation };
        let topic = Arc::new(Topic::new(key, kind, name.into()));
        self.of_kind(kind).insert(topic.clone());
        topic
    }

    fn remove(&mut self, topic: &Topic) {
        if topic.kind != TopicKind::All {
            self.of_kind(topic.kind).remove(&topic.name);
            self.vacant.push(topic.key.slot);
        }
    }

    fn count_watched(&mut self, kind: TopicKind, change: isize) {
        match kind {
            TopicKind::All => {}
            TopicKind::Job => self.watched_jobs = self.watched_jobs.strict_add_signed(change),
            TopicKind::Flow => self.watched_flows = self.watched_flows.strict_add_signed(change),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Directory;
    use crate::stream::numbers::SEQ_MIN;
    use crate::stream::topic::TopicKind;

    #[test]
    fn a_topic_that_gets_a_watcher_just_before_it_is_dropped_stays() {
        let directory = Directory::new(SEQ_MIN, 10);
        let [job, _] = directory.know([Some("j"), None]);
        let job = job.expect("it was named");
        let watched = directory.watch(TopicKind::Job, "j").expect("there is room");
        assert_eq!(watched.key, job.key);
        assert!(!directory.forget(&job, SEQ_MIN));
        directory.unwatch(&watched);
        assert!(directory.forget(&job, SEQ_MIN));
    }
}
