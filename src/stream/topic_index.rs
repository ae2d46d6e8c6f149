//! The sequencer's index of topics: keys by name, the flow of each job, and which topics are dropped when there are
//! too many or their time is over.

use std::sync::Arc;

use arrayvec::ArrayVec;

use crate::stream::directory::{Directory, Names};
use crate::stream::names::TopicsByName;
use crate::stream::silence::{Look, Silence, Standing};
use crate::stream::topic::{Topic, TopicKind};
use crate::stream::topic_key::{FlowKey, JobKey, TopicKey};
use crate::wire::line::LineError;

/// Topics that one sweep drops, and jobs that it calls lost, at most: some milliseconds.
const SWEEP_MAX: usize = 4096;

/// Topics that leave at once, at most: one for a job and one for a flow.
const LEAVING_MAX: usize = 2;

pub struct Entry {
    pub topic: Arc<Topic>,
    /// Index of the topic's next event.
    pub next_at: u64,
    /// A job's flow.
    pub flow: Option<FlowKey>,
    /// How many of a flow's jobs are in the index.
    pub jobs: u32,
    /// Number of the newest event taken in, which may not be published yet; 0 before the first.
    pub last_seq: u64,
    /// The publisher sends `metrics` itself.
    pub has_metrics: bool,
    /// A `metrics` event of the daemon's is due for it.
    pub is_due: bool,
}

/// What a sweep drops, by the time of the last event, in milliseconds of the daemon's clock.
#[derive(Clone, Copy)]
pub struct SweepTimes {
    /// Ended jobs and flows whose last event was before this are dropped.
    pub ended_before: u64,
    /// Running jobs whose last event was before this are lost.
    pub idle_before: u64,
    /// Lost jobs whose last event was before this are dropped.
    pub lost_before: u64,
}

pub struct TopicIndex {
    jobs: TopicsByName,
    flows: TopicsByName,
    entries: Vec<Option<Entry>>,
    silence: Silence,
    jobs_max: usize,
    /// The job of the last event: most often the next event's job too.
    last_job: Option<JobKey>,
    /// The time of the turn, for the order of silence.
    pub now_millis: u64,
    /// Jobs dropped because there were too many, since the start.
    pub jobs_displaced: u64,
    /// Topics that were added so far.
    pub added: u64,
    /// How often an event had no room for its job or flow, since the start ([`TopicIndex::add_or_drop`]).
    pub crowded_out: u64,
}

impl TopicIndex {
    pub fn new(jobs_max: usize) -> Self {
        Self {
            jobs: TopicsByName::default(),
            flows: TopicsByName::default(),
            entries: Vec::new(),
            silence: Silence::default(),
            jobs_max,
            last_job: None,
            now_millis: 0,
            jobs_displaced: 0,
            added: 0,
            crowded_out: 0,
        }
    }

    pub fn jobs(&self) -> usize {
        self.jobs.len()
    }

    pub fn flows(&self) -> usize {
        self.flows.len()
    }

    /// The entry of a topic that is in the index.
    pub fn entry(&self, key: impl Into<TopicKey>) -> &Entry {
        self.find(key.into()).expect("the topic is in the index")
    }

    pub fn entry_mut(&mut self, key: impl Into<TopicKey>) -> &mut Entry {
        self.find_mut(key.into()).expect("the topic is in the index")
    }

    /// The entry of a topic, unless it was dropped.
    pub fn find(&self, key: TopicKey) -> Option<&Entry> {
        let entry = self.entries.get(key.slot as usize)?.as_ref()?;
        (entry.topic.key == key).then_some(entry)
    }

    pub fn find_mut(&mut self, key: TopicKey) -> Option<&mut Entry> {
        let entry = self.entries.get_mut(key.slot as usize)?.as_mut()?;
        (entry.topic.key == key).then_some(entry)
    }

    fn at(&self, slot: u32) -> &Entry {
        self.entries[slot as usize].as_ref().expect("the slot is that of a topic in the index")
    }

    /// The jobs in the `count` slots from `slot` on, each with its flow, and the next slot, if there is one.
    pub fn jobs_from(&self, slot: u32, count: usize) -> (Vec<(&Entry, Option<&Entry>)>, Option<u32>) {
        let end = (slot as usize + count).min(self.entries.len());
        let entries = self.entries.get(slot as usize..end).unwrap_or_default().iter().flatten();
        let jobs = entries.filter(|entry| entry.topic.kind == TopicKind::Job);
        let with_flow = jobs.map(|job| (job, job.flow.map(|flow| self.entry(flow))));
        (with_flow.collect(), (end < self.entries.len()).then_some(end as u32))
    }

    /// The key of a job, if it is known.
    pub fn find_job(&mut self, name: &str) -> Option<JobKey> {
        let last = self
            .last_job
            .filter(|&last| self.find(last.into()).is_some_and(|entry| *entry.topic.name == *name));
        if last.is_some() {
            return last;
        }
        self.last_job = self.jobs.find(name).map(|topic| JobKey::new(topic.key));
        self.last_job
    }

    /// The key of a flow, if it is known.
    pub fn find_flow(&self, name: &str) -> Option<FlowKey> {
        self.flows.find(name).map(|topic| FlowKey::new(topic.key))
    }

    /// Whether [`TopicIndex::add`] would add these, if it were called now.
    ///
    /// # Errors
    /// Why it would not.
    pub fn check_room(
        &mut self,
        names: Names<'_>,
        spared: [Option<TopicKey>; 2],
        directory: &Directory,
    ) -> Result<(), LineError> {
        self.reconsider(directory);
        let jobs_over = usize::from(names[0].is_some() && self.jobs.len() >= self.jobs_max);
        let topics_over = directory.shortage(names);
        if jobs_over > 0 || topics_over > 0 {
            let count = jobs_over.max(topics_over).min(LEAVING_MAX);
            self.find_leaving(jobs_over, count, spared, directory)?;
        }
        Ok(())
    }

    /// Adds the job and the flow that a line names for the first time: both or, without room, neither. The topics
    /// silent for longest are dropped for room, except those `spared`, which the line names too.
    #[cold]
    pub fn add(
        &mut self,
        names: Names<'_>,
        spared: [Option<TopicKey>; 2],
        directory: &Directory,
        drop: &mut impl FnMut(&Topic),
    ) -> Result<(Option<JobKey>, Option<FlowKey>), LineError> {
        self.reconsider(directory);
        loop {
            let jobs_over = usize::from(names[0].is_some() && self.jobs.len() >= self.jobs_max);
            let topics_over = directory.shortage(names);
            if jobs_over == 0 && topics_over == 0 {
                let [job, flow] = directory.know(names);
                self.added += u64::from(job.is_some()) + u64::from(flow.is_some());
                let job = job.map(|job| JobKey::new(self.enter(job, Standing::Running)));
                let flow = flow.map(|flow| FlowKey::new(self.enter(flow, Standing::Flow)));
                return Ok((job, flow));
            }
            // All are found before any is dropped, so that a refused line drops nothing.
            let count = jobs_over.max(topics_over).min(LEAVING_MAX);
            let leaving = self.find_leaving(jobs_over, count, spared, directory)?;
            for (place, slot) in leaving.into_iter().enumerate() {
                let is_dropped = self.try_drop(slot, directory, drop);
                self.jobs_displaced += u64::from(is_dropped && place < jobs_over);
            }
        }
    }

    /// The same for a line of the number `seq` that cannot be refused. What there is no room for is known if it is watched,
    /// and otherwise counts as dropped.
    #[cold]
    pub fn add_or_drop(
        &mut self,
        names: Names<'_>,
        spared: [Option<TopicKey>; 2],
        directory: &Directory,
        seq: u64,
        drop: &mut impl FnMut(&Topic),
    ) -> (Option<JobKey>, Option<FlowKey>) {
        if let Ok(added) = self.add(names, spared, directory, drop) {
            return added;
        }
        let [job, flow] = names;
        let job = job.and_then(|name| match self.add([Some(name), None], spared, directory, drop) {
            Ok(added) => added.0,
            Err(_) => self.know_or_drop(TopicKind::Job, name, directory, seq).map(JobKey::new),
        });
        let spared = if let Some(job) = job { [Some(job.into()), spared[1]] } else { spared };
        let flow = flow.and_then(|name| match self.add([None, Some(name)], spared, directory, drop) {
            Ok(added) => added.1,
            Err(_) => self.know_or_drop(TopicKind::Flow, name, directory, seq).map(FlowKey::new),
        });
        (job, flow)
    }

    fn know_or_drop(
        &mut self,
        kind: TopicKind,
        name: &str,
        directory: &Directory,
        seq: u64,
    ) -> Option<TopicKey> {
        let topic = directory.know_or_drop(kind, name, seq);
        self.crowded_out += u64::from(topic.is_none());
        let standing = if kind == TopicKind::Flow { Standing::Flow } else { Standing::Running };
        Some(self.enter(topic?, standing))
    }

    /// Enters a new topic in the index.
    pub(super) fn enter(&mut self, topic: Arc<Topic>, standing: Standing) -> TopicKey {
        let key = topic.key;
        match topic.kind {
            TopicKind::Flow => self.flows.insert(topic.clone()),
            _ => {
                self.jobs.insert(topic.clone());
                self.last_job = Some(JobKey::new(key));
            }
        }
        let slot = key.slot as usize;
        if self.entries.len() <= slot {
            self.entries.resize_with(slot + 1, || None);
        }
        self.entries[slot] = Some(Entry {
            topic,
            next_at: 0,
            flow: None,
            jobs: 0,
            last_seq: 0,
            has_metrics: false,
            is_due: false,
        });
        self.silence.enter(key.slot, standing, self.now_millis);
        key
    }

    /// Puts the job into the flow. The first flow seen wins.
    pub fn join_flow(&mut self, job: JobKey, flow: FlowKey) {
        if self.entry(job).flow.is_none() {
            self.entry_mut(job).flow = Some(flow);
            self.entry_mut(flow).jobs += 1;
        }
    }

    /// Puts the job into the flow, whichever it was in.
    pub fn move_to_flow(&mut self, job: JobKey, flow: FlowKey) {
        let before = self.entry_mut(job).flow.replace(flow);
        if before == Some(flow) {
            return;
        }
        self.entry_mut(flow).jobs += 1;
        before.into_iter().for_each(|before| self.leave_flow(before));
    }

    fn leave_flow(&mut self, flow: FlowKey) {
        let entry = self.entry_mut(flow);
        entry.jobs -= 1;
        if entry.jobs == 0 {
            self.silence.reconsider(TopicKey::from(flow).slot);
        }
    }

    /// Notes that the topic has an event now.
    pub fn touch(&mut self, key: TopicKey, standing: Standing) {
        self.silence.touch(key.slot, standing, self.now_millis);
    }

    /// Drops the topics whose time is over. Returns the running jobs that are lost now.
    pub fn sweep(
        &mut self,
        directory: &Directory,
        times: SweepTimes,
        drop: &mut impl FnMut(&Topic),
    ) -> Vec<JobKey> {
        self.reconsider(directory);
        let lost = self.find_lost(times.idle_before);
        let limits = [
            (Standing::Ended, times.ended_before),
            (Standing::Lost, times.lost_before),
            (Standing::Flow, times.ended_before),
        ];
        let mut left = SWEEP_MAX;
        for (standing, before) in limits {
            while left > 0
                && let Some(slot) = self.oldest(&[standing], before, &[], [None, None])
            {
                left -= 1;
                self.try_drop(slot, directory, drop);
            }
        }
        lost
    }

    fn find_lost(&mut self, idle_before: u64) -> Vec<JobKey> {
        let idle =
            self.silence.slots(Standing::Running).take_while(|&slot| self.silence.stamp(slot) < idle_before);
        let lost: Vec<u32> = idle.take(SWEEP_MAX).collect();
        lost.iter().for_each(|&slot| self.silence.change(slot, Standing::Lost));
        lost.into_iter().map(|slot| JobKey::new(self.at(slot).topic.key)).collect()
    }

    /// The topics of one standing, each with the time of its last event, silent for longest first.
    pub(super) fn silent_keys(&self, standing: Standing) -> impl Iterator<Item = (TopicKey, u64)> {
        self.silence.slots(standing).map(|slot| (self.at(slot).topic.key, self.silence.stamp(slot)))
    }

    pub(super) fn standing(&self, key: TopicKey) -> Standing {
        self.silence.standing(key.slot)
    }

    /// Whether anything could ever be swept.
    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty() && self.flows.is_empty()
    }

    /// Lets topics whose last watcher has left be dropped again.
    fn reconsider(&mut self, directory: &Directory) {
        for key in directory.take_unwatched() {
            if self.find(key).is_some() && !self.silence.is_all_unseen() {
                self.silence.reconsider(key.slot);
            }
        }
    }

    /// Finds `count` topics to drop, those silent for longest: `jobs` jobs first, then jobs before flows.
    fn find_leaving(
        &mut self,
        jobs: usize,
        count: usize,
        spared: [Option<TopicKey>; 2],
        directory: &Directory,
    ) -> Result<ArrayVec<u32, LEAVING_MAX>, LineError> {
        let mut leaving = ArrayVec::new();
        while leaving.len() < count {
            let is_any_unwatched = directory.watched(TopicKind::Job) < self.jobs.len();
            let standings = if is_any_unwatched { &Standing::OF_JOBS[..] } else { &[] };
            let job = self.oldest(standings, u64::MAX, &leaving, spared);
            let found = match leaving.len() < jobs {
                true => job.ok_or(LineError::TooManyJobs)?,
                false => {
                    job.or_else(|| self.oldest_flow(&leaving, spared)).ok_or(LineError::TooManyTopics)?
                }
            };
            leaving.push(found);
        }
        Ok(leaving)
    }

    /// Of these standings, the topic silent for longest that may be dropped.
    fn oldest(
        &mut self,
        standings: &[Standing],
        before: u64,
        leaving: &[u32],
        spared: [Option<TopicKey>; 2],
    ) -> Option<u32> {
        let entries = &self.entries;
        self.silence.oldest(standings, before, |slot| {
            let entry = entries[slot as usize].as_ref().expect("only topics in the index are silent");
            if entry.topic.is_watched() || entry.jobs > 0 {
                Look::Stays
            } else if leaving.contains(&slot) || spared.contains(&Some(entry.topic.key)) {
                Look::StaysNow
            } else {
                Look::Goes
            }
        })
    }

    /// The flow silent for longest that may be dropped once the jobs `leaving` are.
    fn oldest_flow(&mut self, leaving: &[u32], spared: [Option<TopicKey>; 2]) -> Option<u32> {
        let idle = self.oldest(&[Standing::Flow], u64::MAX, leaving, spared);
        let emptied =
            leaving.iter().filter_map(|&job| self.at(job).flow).map(TopicKey::from).filter(|&flow| {
                let of_flow = |&&job: &&u32| self.at(job).flow.map(TopicKey::from) == Some(flow);
                let entry = self.entry(flow);
                entry.jobs as usize == leaving.iter().filter(of_flow).count()
                    && !leaving.contains(&flow.slot)
                    && !spared.contains(&Some(flow))
                    && !entry.topic.is_watched()
            });
        idle.into_iter().chain(emptied.map(|flow| flow.slot)).min_by_key(|&slot| self.silence.stamp(slot))
    }

    /// Drops a topic. False: it has a watcher, or is a flow with jobs.
    fn try_drop(&mut self, slot: u32, directory: &Directory, drop: &mut impl FnMut(&Topic)) -> bool {
        let entry = self.at(slot);
        let topic = entry.topic.clone();
        if entry.jobs > 0 || !directory.forget(&topic, entry.last_seq) {
            return false;
        }
        self.silence.leave(slot);
        let entry = self.entries[slot as usize].take().expect("it was just looked at");
        match topic.kind {
            TopicKind::Flow => self.flows.remove(&topic.name),
            _ => self.jobs.remove(&topic.name),
        };
        entry.flow.into_iter().for_each(|flow| self.leave_flow(flow));
        drop(&topic);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::{SweepTimes, TopicIndex};
    use crate::stream::directory::Directory;
    use crate::stream::silence::Standing;
    use crate::stream::topic::TopicKind;
    use crate::stream::topic_key::TopicKey;
    use crate::wire::line::LineError;

    /// Adds these new names, as a line with them does.
    fn add(
        index: &mut TopicIndex,
        directory: &Directory,
        job: Option<&str>,
        flow: Option<&str>,
    ) -> Result<(), LineError> {
        let added = index.add([job, flow], [None, None], directory, &mut |_| {})?;
        if let (Some(job), Some(flow)) = added {
            index.join_flow(job, flow);
        }
        Ok(())
    }

    fn known(index: &mut TopicIndex, jobs: &[&str]) -> Vec<bool> {
        jobs.iter().map(|job| index.find_job(job).is_some()).collect()
    }

    #[test]
    fn a_job_and_its_flow_are_added_together_or_not_at_all() {
        let directory = Directory::new(0, 3);
        let mut index = TopicIndex::new(100);
        add(&mut index, &directory, Some("watched"), Some("watched")).unwrap();
        directory.watch(TopicKind::Job, "watched").unwrap();
        directory.watch(TopicKind::Flow, "watched").unwrap();
        add(&mut index, &directory, Some("old"), None).unwrap();
        let refused = add(&mut index, &directory, Some("new"), Some("new"));
        assert_eq!(refused, Err(LineError::TooManyTopics));
        assert_eq!(known(&mut index, &["old", "new"]), [true, false], "a refused line drops nothing");
        add(&mut index, &directory, Some("new"), None).unwrap();
        assert_eq!(known(&mut index, &["old", "new"]), [false, true]);
        assert_eq!(directory.len(), 3);
    }

    #[test]
    fn a_job_and_a_flow_of_one_name_are_two_topics_even_in_reused_slots() {
        let directory = Directory::new(0, 100);
        let mut index = TopicIndex::new(100);
        add(&mut index, &directory, Some("a"), None).unwrap();
        let times = SweepTimes { ended_before: 10, idle_before: 10, lost_before: 10 };
        index.sweep(&directory, times, &mut |_| {});
        assert!(index.is_empty(), "it was lost, and its time was over");
        add(&mut index, &directory, None, Some("a")).unwrap();
        assert!(index.find_job("a").is_none(), "the flow has the slot that the job had");
        add(&mut index, &directory, Some("a"), None).unwrap();
        let (job, flow) = (index.find_job("a").unwrap(), index.find_flow("a").unwrap());
        assert_ne!(TopicKey::from(job), TopicKey::from(flow));
        assert_eq!(index.entry(job).topic.kind, TopicKind::Job);
        assert_eq!(index.entry(flow).topic.kind, TopicKind::Flow);
    }

    #[test]
    fn topics_that_only_watchers_ask_for_displace_nothing() {
        let directory = Directory::new(0, 4);
        let mut index = TopicIndex::new(100);
        add(&mut index, &directory, Some("old"), None).unwrap();
        let asked: Vec<_> = (0..10).map(|n| directory.watch(TopicKind::Job, &format!("w{n}"))).collect();
        assert_eq!(asked.iter().filter(|asked| asked.is_ok()).count(), 3);
        for job in ["a", "b", "c"] {
            add(&mut index, &directory, Some(job), None).unwrap();
        }
        assert_eq!(known(&mut index, &["old", "a", "b", "c"]), [true; 4]);
        add(&mut index, &directory, Some("w0"), None).unwrap();
        assert_eq!(known(&mut index, &["old", "a", "b", "c", "w0"]), [false, true, true, true, true]);
    }

    #[test]
    fn a_topic_is_dropped_in_its_turn_once_its_last_watcher_has_left() {
        let directory = Directory::new(0, 100);
        let mut index = TopicIndex::new(3);
        for (millis, job) in [(1, "watched"), (2, "b"), (3, "c")] {
            index.now_millis = millis;
            add(&mut index, &directory, Some(job), None).unwrap();
        }
        let topic = directory.watch(TopicKind::Job, "watched").unwrap();
        add(&mut index, &directory, Some("d"), None).unwrap();
        assert_eq!(known(&mut index, &["watched", "b", "c", "d"]), [true, false, true, true]);
        directory.unwatch(&topic);
        add(&mut index, &directory, Some("e"), None).unwrap();
        assert_eq!(known(&mut index, &["watched", "c", "d", "e"]), [false, true, true, true]);
    }

    #[test]
    fn a_flow_is_dropped_with_its_last_job() {
        let directory = Directory::new(0, 2);
        let mut index = TopicIndex::new(100);
        add(&mut index, &directory, Some("old"), Some("old")).unwrap();
        add(&mut index, &directory, Some("new"), Some("new")).unwrap();
        assert_eq!(known(&mut index, &["old", "new"]), [false, true]);
        assert!(index.find_flow("old").is_none() && index.find_flow("new").is_some());
    }

    #[test]
    fn the_job_silent_for_longest_is_dropped_running_or_ended() {
        let directory = Directory::new(0, 100);
        let mut index = TopicIndex::new(3);
        for (millis, job) in [(1, "watched"), (2, "running"), (3, "ended")] {
            index.now_millis = millis;
            add(&mut index, &directory, Some(job), None).unwrap();
            if job != "running" {
                let key = index.find_job(job).unwrap();
                index.touch(key.into(), Standing::Ended);
            }
        }
        directory.watch(TopicKind::Job, "watched").unwrap();
        add(&mut index, &directory, Some("new"), None).unwrap();
        assert_eq!(known(&mut index, &["watched", "running", "ended", "new"]), [true, false, true, true]);
        assert_eq!(index.jobs_displaced, 1);
    }
}
