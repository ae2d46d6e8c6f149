//! The sequencer's own book of topics: names to slots, which job belongs to which flow, and who has been
//! silent for longest.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;

use crate::stream::directory::Directory;
use crate::stream::topic::{Topic, TopicKind};
use crate::wire::line::LineError;

/// Topics dropped by one sweep at most: some milliseconds.
const DROPS_MAX: usize = 4096;

/// No slot.
pub const NONE: u32 = u32::MAX;

/// In which order of silence a topic stands. Each list is sorted by the time of the last event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Running,
    Ended,
    Flow,
}

pub struct Entry {
    pub topic: Arc<Topic>,
    /// Index of the topic's next event.
    pub next_at: u64,
    /// A job's flow, else [`NONE`].
    pub flow: u32,
    /// A flow's jobs that are kept.
    pub jobs: u32,
    /// Number of the newest event taken in, perhaps not yet published; 0 before the first.
    pub last_seq: u64,
    /// The publisher sends `metrics` itself.
    pub has_metrics: bool,
    /// Waits for its `metrics` to be made.
    pub is_due: bool,
    standing: Standing,
    /// Milliseconds of the daemon's clock at the last event.
    stamp: u64,
    previous: u32,
    next: u32,
}

#[derive(Clone, Copy)]
struct List {
    oldest: u32,
    newest: u32,
}

pub struct Ledger {
    jobs: HashMap<Arc<str>, u32, RandomState>,
    flows: HashMap<Arc<str>, u32, RandomState>,
    entries: Vec<Option<Entry>>,
    lists: [List; 3],
    jobs_max: usize,
    /// Topics of the line being placed: not to be dropped for each other.
    pinned: [u32; 3],
    /// The job of the last event: most often the next one's too.
    last_job: u32,
    /// The time of the turn, for the order of silence.
    pub now_millis: u64,
    /// Jobs that went because there were too many, ever.
    pub jobs_displaced: u64,
}

impl Ledger {
    pub fn new(jobs_max: usize) -> Self {
        Self {
            jobs: HashMap::default(),
            flows: HashMap::default(),
            entries: Vec::new(),
            lists: [List { oldest: NONE, newest: NONE }; 3],
            jobs_max,
            pinned: [NONE; 3],
            last_job: NONE,
            now_millis: 0,
            jobs_displaced: 0,
        }
    }

    pub fn jobs(&self) -> usize {
        self.jobs.len()
    }

    pub fn flows(&self) -> usize {
        self.flows.len()
    }

    /// The entry of a live topic.
    pub fn entry(&self, slot: u32) -> &Entry {
        self.entries[slot as usize].as_ref().expect("the slot is that of a topic in the book")
    }

    pub fn entry_mut(&mut self, slot: u32) -> &mut Entry {
        self.entries[slot as usize].as_mut().expect("the slot is that of a topic in the book")
    }

    /// The entry in `slot`, if it is still that of the topic with this `generation`.
    pub fn find(&self, slot: u32, generation: u32) -> Option<&Entry> {
        let entry = self.entries.get(slot as usize)?.as_ref()?;
        (entry.topic.key.generation == generation).then_some(entry)
    }

    /// The job of the last event, if it has this name.
    pub fn last_job(&self, name: &str) -> Option<u32> {
        let entry = self.entries.get(self.last_job as usize)?.as_ref()?;
        (*entry.topic.name == *name).then_some(self.last_job)
    }

    /// The next names belong to another line.
    pub fn begin_line(&mut self) {
        self.pinned = [NONE; 3];
    }

    /// The slot of a job, a new one if need be: then the job silent for longest may have to go.
    pub fn job(
        &mut self,
        name: &str,
        directory: &Directory,
        drop: &mut impl FnMut(&Topic),
    ) -> Result<u32, LineError> {
        let slot = match self.last_job(name).or_else(|| self.jobs.get(name).copied()) {
            Some(slot) => slot,
            None => {
                if self.jobs.len() >= self.jobs_max {
                    self.displace_job(directory, drop).ok_or(LineError::TooManyJobs)?;
                    self.jobs_displaced += 1;
                }
                self.add(TopicKind::Job, name, directory, drop)?
            }
        };
        self.last_job = slot;
        self.pinned[0] = slot;
        Ok(slot)
    }

    /// The slot of a flow, a new one if need be.
    pub fn flow(
        &mut self,
        name: &str,
        directory: &Directory,
        drop: &mut impl FnMut(&Topic),
    ) -> Result<u32, LineError> {
        let slot = match self.flows.get(name) {
            Some(&slot) => slot,
            None => self.add(TopicKind::Flow, name, directory, drop)?,
        };
        self.pinned.rotate_right(1);
        self.pinned[0] = slot;
        Ok(slot)
    }

    fn add(
        &mut self,
        kind: TopicKind,
        name: &str,
        directory: &Directory,
        drop: &mut impl FnMut(&Topic),
    ) -> Result<u32, LineError> {
        let topic = match directory.know(kind, name) {
            Ok(topic) => topic,
            Err(_) => {
                self.displace_job(directory, drop)
                    .or_else(|| self.displace(Standing::Flow, directory, drop))
                    .ok_or(LineError::TooManyTopics)?;
                directory.know(kind, name).map_err(|_| LineError::TooManyTopics)?
            }
        };
        let slot = topic.key.slot;
        let name = topic.name.clone();
        let standing = match kind {
            TopicKind::Flow => {
                self.flows.insert(name, slot);
                Standing::Flow
            }
            _ => {
                self.jobs.insert(name, slot);
                Standing::Running
            }
        };
        if self.entries.len() <= slot as usize {
            self.entries.resize_with(slot as usize + 1, || None);
        }
        self.entries[slot as usize] = Some(Entry {
            topic,
            next_at: 0,
            flow: NONE,
            jobs: 0,
            last_seq: 0,
            has_metrics: false,
            is_due: false,
            standing,
            stamp: self.now_millis,
            previous: NONE,
            next: NONE,
        });
        self.link_newest(slot);
        Ok(slot)
    }

    /// The job belongs to the flow from now on; the first flow seen wins.
    pub fn join_flow(&mut self, job: u32, flow: u32) {
        if self.entry(job).flow == NONE {
            self.entry_mut(job).flow = flow;
            self.entry_mut(flow).jobs += 1;
        }
    }

    /// The topic has an event of now.
    pub fn touch(&mut self, slot: u32, standing: Standing) {
        let now_millis = self.now_millis;
        let entry = self.entry_mut(slot);
        entry.stamp = now_millis;
        if entry.standing == standing && entry.next == NONE {
            return;
        }
        self.unlink(slot);
        self.entry_mut(slot).standing = standing;
        self.link_newest(slot);
    }

    /// Drops the topics whose time is over: last event before `ended_before` for what has ended, before
    /// `running_before` for jobs still running.
    pub fn sweep(
        &mut self,
        directory: &Directory,
        ended_before: u64,
        running_before: u64,
        drop: &mut impl FnMut(&Topic),
    ) {
        self.begin_line();
        let limits = [
            (Standing::Ended, ended_before),
            (Standing::Running, running_before),
            (Standing::Flow, ended_before),
        ];
        let mut left = DROPS_MAX;
        for (standing, before) in limits {
            let mut at = self.lists[standing as usize].oldest;
            while at != NONE && self.entry(at).stamp < before && left > 0 {
                let next = self.entry(at).next;
                left -= usize::from(self.try_drop(at, directory, drop));
                at = next;
            }
        }
    }

    /// Whether anything could ever be swept.
    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty() && self.flows.is_empty()
    }

    /// Drops the job silent for longest that nobody watches.
    fn displace_job(&mut self, directory: &Directory, drop: &mut impl FnMut(&Topic)) -> Option<()> {
        if directory.watched(TopicKind::Job) >= self.jobs.len() {
            return None;
        }
        let stamp = |ledger: &Self, standing: Standing| {
            let oldest = ledger.lists[standing as usize].oldest;
            if oldest == NONE { u64::MAX } else { ledger.entry(oldest).stamp }
        };
        let is_ended_first = stamp(self, Standing::Ended) <= stamp(self, Standing::Running);
        let order = match is_ended_first {
            true => [Standing::Ended, Standing::Running],
            false => [Standing::Running, Standing::Ended],
        };
        order.into_iter().find_map(|standing| self.displace(standing, directory, drop))
    }

    fn displace(
        &mut self,
        standing: Standing,
        directory: &Directory,
        drop: &mut impl FnMut(&Topic),
    ) -> Option<()> {
        let mut at = self.lists[standing as usize].oldest;
        while at != NONE {
            let next = self.entry(at).next;
            if self.try_drop(at, directory, drop) {
                return Some(());
            }
            at = next;
        }
        None
    }

    /// False: the topic has a watcher, or is a flow that has jobs, or the line being placed needs it.
    fn try_drop(&mut self, slot: u32, directory: &Directory, drop: &mut impl FnMut(&Topic)) -> bool {
        let entry = self.entry(slot);
        let topic = entry.topic.clone();
        if entry.jobs > 0 || self.pinned.contains(&slot) || !directory.forget(&topic, entry.last_seq) {
            return false;
        }
        self.unlink(slot);
        let entry = self.entries[slot as usize].take().expect("it was just looked at");
        match topic.kind {
            TopicKind::Flow => self.flows.remove(&topic.name),
            _ => self.jobs.remove(&topic.name),
        };
        if entry.flow != NONE {
            self.entry_mut(entry.flow).jobs -= 1;
        }
        drop(&topic);
        true
    }

    fn unlink(&mut self, slot: u32) {
        let (previous, next, list) = {
            let entry = self.entry(slot);
            (entry.previous, entry.next, entry.standing as usize)
        };
        match previous {
            NONE => self.lists[list].oldest = next,
            previous => self.entry_mut(previous).next = next,
        }
        match next {
            NONE => self.lists[list].newest = previous,
            next => self.entry_mut(next).previous = previous,
        }
    }

    fn link_newest(&mut self, slot: u32) {
        let list = self.entry(slot).standing as usize;
        let previous = self.lists[list].newest;
        self.lists[list].newest = slot;
        match previous {
            NONE => self.lists[list].oldest = slot,
            previous => self.entry_mut(previous).next = slot,
        }
        let entry = self.entry_mut(slot);
        entry.previous = previous;
        entry.next = NONE;
    }
}
