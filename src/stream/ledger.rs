//! The sequencer's own book of topics: names to slots, which job belongs to which flow, and who has been
//! silent for longest.

use std::iter;
use std::sync::Arc;

use arrayvec::ArrayVec;
use serde::{Deserialize, Serialize};

use crate::stream::directory::{Directory, Names};
use crate::stream::names::TopicsByName;
use crate::stream::topic::{Topic, TopicKind};
use crate::wire::line::LineError;

/// Topics dropped by one sweep at most: some milliseconds.
const DROPS_MAX: usize = 4096;

/// No slot.
pub const NONE: u32 = u32::MAX;

/// In which order of silence a topic stands. Each list is sorted by the time of the last event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    pub(super) standing: Standing,
    /// Milliseconds of the daemon's clock at the last event.
    pub(super) stamp: u64,
    previous: u32,
    next: u32,
}

#[derive(Clone, Copy)]
struct List {
    oldest: u32,
    newest: u32,
}

pub struct Ledger {
    jobs: TopicsByName,
    flows: TopicsByName,
    entries: Vec<Option<Entry>>,
    lists: [List; 3],
    jobs_max: usize,
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
            jobs: TopicsByName::default(),
            flows: TopicsByName::default(),
            entries: Vec::new(),
            lists: [List { oldest: NONE, newest: NONE }; 3],
            jobs_max,
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

    /// The jobs in the `count` slots from `slot` on, each with its flow; and the slot behind them, if there is one.
    pub fn jobs_from(&self, slot: u32, count: usize) -> (Vec<(&Entry, Option<&Entry>)>, Option<u32>) {
        let end = (slot as usize + count).min(self.entries.len());
        let entries = self.entries.get(slot as usize..end).unwrap_or_default().iter().flatten();
        let jobs = entries.filter(|entry| entry.topic.kind == TopicKind::Job);
        let with_flow = jobs.map(|job| (job, (job.flow != NONE).then(|| self.entry(job.flow))));
        (with_flow.collect(), (end < self.entries.len()).then_some(end as u32))
    }

    /// The slot of a job, if it is known.
    pub fn find_job(&mut self, name: &str) -> Option<u32> {
        let last = self.entries.get(self.last_job as usize).and_then(Option::as_ref);
        if last.is_some_and(|entry| *entry.topic.name == *name) {
            return Some(self.last_job);
        }
        self.last_job = self.jobs.find(name)?.key.slot;
        Some(self.last_job)
    }

    /// The slot of a flow, if it is known.
    pub fn find_flow(&self, name: &str) -> Option<u32> {
        self.flows.find(name).map(|topic| topic.key.slot)
    }

    /// Takes in the job and the flow that a line names for the first time: both or, where there is no room, neither.
    /// The topics silent for longest make room, but not those `spared`, which the line names too.
    #[cold]
    pub fn add(
        &mut self,
        names: Names<'_>,
        spared: [Option<u32>; 2],
        directory: &Directory,
        drop: &mut impl FnMut(&Topic),
    ) -> Result<[Option<u32>; 2], LineError> {
        loop {
            let jobs_over = usize::from(names[0].is_some() && self.jobs.len() >= self.jobs_max);
            let topics_over = directory.shortage(names);
            if jobs_over == 0 && topics_over == 0 {
                if let Ok(topics) = directory.know(names) {
                    return Ok(topics.map(|topic| topic.map(|topic| self.enter(topic))));
                }
                // A watcher was faster.
                continue;
            }
            // Found before any is dropped, so that a line that is refused costs nobody anything.
            let leaving = self.silent(jobs_over, jobs_over.max(topics_over), spared, directory)?;
            for (place, slot) in leaving.into_iter().enumerate() {
                let is_dropped = self.try_drop(slot, directory, drop);
                self.jobs_displaced += u64::from(is_dropped && place < jobs_over);
            }
        }
    }

    /// Enters a new topic in the book.
    pub(super) fn enter(&mut self, topic: Arc<Topic>) -> u32 {
        let slot = topic.key.slot;
        let standing = match topic.kind {
            TopicKind::Flow => {
                self.flows.insert(topic.clone());
                Standing::Flow
            }
            _ => {
                self.jobs.insert(topic.clone());
                self.last_job = slot;
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
        slot
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

    /// The topics of a list, silent for longest first.
    pub(super) fn slots(&self, standing: Standing) -> impl Iterator<Item = u32> {
        let follow = |slot: u32| (slot != NONE).then_some(slot);
        let oldest = follow(self.lists[standing as usize].oldest);
        iter::successors(oldest, move |&slot| follow(self.entry(slot).next))
    }

    /// Whether anything could ever be swept.
    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty() && self.flows.is_empty()
    }

    /// `count` topics that may go, those silent for longest: `jobs` jobs first, then jobs before flows.
    fn silent(
        &self,
        jobs: usize,
        count: usize,
        spared: [Option<u32>; 2],
        directory: &Directory,
    ) -> Result<ArrayVec<u32, 2>, LineError> {
        let mut leaving = ArrayVec::new();
        while leaving.len() < count {
            let oldest = |standing| self.oldest(standing, &leaving, spared);
            let is_any_unwatched = directory.watched(TopicKind::Job) < self.jobs.len();
            let of_jobs = [Standing::Ended, Standing::Running].into_iter().filter(|_| is_any_unwatched);
            let job = of_jobs.filter_map(oldest).min_by_key(|&slot| self.entry(slot).stamp);
            let found = match leaving.len() < jobs {
                true => job.ok_or(LineError::TooManyJobs)?,
                false => job.or_else(|| oldest(Standing::Flow)).ok_or(LineError::TooManyTopics)?,
            };
            leaving.push(found);
        }
        Ok(leaving)
    }

    /// The topic of a list that is silent for longest and may go once those `leaving` are gone.
    fn oldest(&self, standing: Standing, leaving: &[u32], spared: [Option<u32>; 2]) -> Option<u32> {
        self.slots(standing).find(|slot| {
            let entry = self.entry(*slot);
            let jobs_leaving = leaving.iter().filter(|&&job| self.entry(job).flow == *slot).count();
            entry.jobs as usize == jobs_leaving
                && !leaving.contains(slot)
                && !spared.contains(&Some(*slot))
                && !entry.topic.is_watched()
        })
    }

    /// False: the topic has a watcher, or is a flow that has jobs.
    fn try_drop(&mut self, slot: u32, directory: &Directory, drop: &mut impl FnMut(&Topic)) -> bool {
        let entry = self.entry(slot);
        let topic = entry.topic.clone();
        if entry.jobs > 0 || !directory.forget(&topic, entry.last_seq) {
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

#[cfg(test)]
mod tests {
    use super::{Ledger, Standing};
    use crate::stream::directory::Directory;
    use crate::stream::topic::TopicKind;
    use crate::wire::line::LineError;

    /// What a line with these new names leads to.
    fn add(
        ledger: &mut Ledger,
        directory: &Directory,
        job: Option<&str>,
        flow: Option<&str>,
    ) -> Result<(), LineError> {
        let added = ledger.add([job, flow], [None, None], directory, &mut |_| {})?;
        if let [Some(job), Some(flow)] = added {
            ledger.join_flow(job, flow);
        }
        Ok(())
    }

    fn known(ledger: &mut Ledger, jobs: &[&str]) -> Vec<bool> {
        jobs.iter().map(|job| ledger.find_job(job).is_some()).collect()
    }

    #[test]
    fn a_job_and_its_flow_come_in_together_or_not_at_all() {
        let directory = Directory::new(0, 3);
        let mut ledger = Ledger::new(100);
        directory.watch(TopicKind::Job, "watched").unwrap();
        directory.watch(TopicKind::Flow, "watched").unwrap();
        add(&mut ledger, &directory, Some("old"), None).unwrap();
        let refused = add(&mut ledger, &directory, Some("new"), Some("new"));
        assert_eq!(refused, Err(LineError::TooManyTopics));
        assert_eq!(
            known(&mut ledger, &["old", "new"]),
            [true, false],
            "nobody went for a line that was refused"
        );
        add(&mut ledger, &directory, Some("new"), Some("watched")).unwrap();
        assert_eq!(known(&mut ledger, &["old", "new"]), [false, true]);
        assert_eq!(directory.len(), 3);
    }

    #[test]
    fn a_flow_goes_with_its_last_job() {
        let directory = Directory::new(0, 2);
        let mut ledger = Ledger::new(100);
        add(&mut ledger, &directory, Some("old"), Some("old")).unwrap();
        add(&mut ledger, &directory, Some("new"), Some("new")).unwrap();
        assert_eq!(known(&mut ledger, &["old", "new"]), [false, true]);
        assert!(ledger.find_flow("old").is_none() && ledger.find_flow("new").is_some());
    }

    #[test]
    fn the_job_that_goes_is_the_one_silent_for_longest_running_or_ended() {
        let directory = Directory::new(0, 100);
        let mut ledger = Ledger::new(3);
        for (millis, job) in [(1, "watched"), (2, "running"), (3, "ended")] {
            ledger.now_millis = millis;
            add(&mut ledger, &directory, Some(job), None).unwrap();
            if job != "running" {
                let slot = ledger.find_job(job).unwrap();
                ledger.touch(slot, Standing::Ended);
            }
        }
        directory.watch(TopicKind::Job, "watched").unwrap();
        add(&mut ledger, &directory, Some("new"), None).unwrap();
        assert_eq!(known(&mut ledger, &["watched", "running", "ended", "new"]), [true, false, true, true]);
        assert_eq!(ledger.jobs_displaced, 1);
    }
}
