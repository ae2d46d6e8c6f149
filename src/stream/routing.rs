//! Routes a valid line: finds its type's bit, its job and its flows, and the runs of the open batch that it joins.

use crate::access::patterns::Patterns;
use crate::event::{Meaning, OVERFLOW_BIT, TypeLookup};
use crate::stream::batch::Batch;
use crate::stream::directory::Directory;
use crate::stream::history::History;
use crate::stream::now::Now;
use crate::stream::told::Told;
use crate::stream::topic::Topic;
use crate::stream::topic_index::TopicIndex;
use crate::stream::topic_key::{FlowKey, JobKey, TopicKey};
use crate::wire::line::{EventFields, LineError, Timestamp, is_type_name};

/// The time of an event that starts or ends its job.
pub struct LifeMark {
    pub seq: u64,
    pub micros: i64,
}

/// The runs that the next event may extend.
#[derive(Default)]
pub struct OpenRuns {
    job: Option<u32>,
    flows: [Option<u32>; 2],
}

/// Gives the bytes of a dropped topic's log back to the history.
pub fn release(history: &mut History, topic: &Topic) {
    let mut log = topic.log.lock();
    history.sub_kept(log.kept_cost());
    history.sub(log.clear());
}

/// The time of event `seq`: its mark, else now.
pub fn time_of(marks: &[LifeMark], seq: u64, now: Now) -> i64 {
    marks.binary_search_by_key(&seq, |mark| mark.seq).map_or(now.unix_micros, |place| marks[place].micros)
}

/// The topics of an event, beside that of all events.
pub(super) struct Topics {
    pub job: Option<JobKey>,
    own_flow: Option<FlowKey>,
    job_flow: Option<FlowKey>,
}

impl Topics {
    /// The flow that the event names itself, and its job's; each flow once.
    pub fn flows(&self) -> [Option<FlowKey>; 2] {
        let &Self { own_flow, job_flow, .. } = self;
        [own_flow.or(job_flow), job_flow.filter(|_| own_flow.is_some() && own_flow != job_flow)]
    }
}

/// What is needed to find the topics of a line, and to make those that are new.
pub(super) struct Finding<'a> {
    pub directory: &'a Directory,
    pub topic_index: &'a mut TopicIndex,
    pub history: &'a mut History,
    /// The line is of a shared stream. None: it is this daemon's own.
    pub told: Option<&'a mut Told>,
    pub seq: u64,
}

impl Finding<'_> {
    pub fn find(&mut self, line: &EventFields<'_>) -> Result<Topics, LineError> {
        match self.told.take() {
            None => self.find_by_memory(line),
            Some(told) => Ok(self.find_by_stream(line, told)),
        }
    }

    /// The first flow that a job's events name is the job's.
    fn find_by_memory(&mut self, line: &EventFields<'_>) -> Result<Topics, LineError> {
        let Self { directory, topic_index, history, .. } = self;
        let mut release = |topic: &Topic| release(history, topic);
        let mut job = line.job_id.and_then(|name| topic_index.find_job(name));
        let has_flow = job.is_some_and(|job| topic_index.entry(job).flow.is_some());
        let of_data = line.data_flow_id.filter(|_| line.job_id.is_some() && !has_flow);
        let flow_id = line.flow_id.or(of_data);
        let mut flow = flow_id.and_then(|name| topic_index.find_flow(name));
        let new = [line.job_id.filter(|_| job.is_none()), flow_id.filter(|_| flow.is_none())];
        if new != [None, None] {
            let spared = [job.map(TopicKey::from), flow.map(TopicKey::from)];
            let added = topic_index.add(new, spared, directory, &mut release)?;
            (job, flow) = (job.or(added.0), flow.or(added.1));
        }
        if let (Some(job), Some(flow)) = (job, flow) {
            topic_index.join_flow(job, flow);
        }
        let own_flow = flow.filter(|_| line.flow_id.is_some());
        Ok(Topics { job, own_flow, job_flow: job.and_then(|job| topic_index.entry(job).flow) })
    }

    /// All daemons place the line alike: by what it names itself, and by what its chunk says of its job. What this daemon
    /// remembers of the job does not count. Others have the line, so it cannot be refused.
    fn find_by_stream(&mut self, line: &EventFields<'_>, told: &mut Told) -> Topics {
        let said = line.job_id.and_then(|job| told.flow_of(job));
        let of_data = line.data_flow_id.filter(|_| line.job_id.is_some());
        let of_job = said.or(line.flow_id).or(of_data);
        let (job, job_flow) = self.enter([line.job_id, of_job], [None, None]);
        if let (Some(job), Some(flow)) = (job, job_flow) {
            match said {
                Some(_) => self.topic_index.move_to_flow(job, flow),
                None => self.topic_index.join_flow(job, flow),
            }
        }
        let own_flow = match line.flow_id {
            own if own.is_none() || own == of_job => job_flow,
            own => self.enter([None, own], [job.map(TopicKey::from), job_flow.map(TopicKey::from)]).1,
        };
        Topics { job, own_flow, job_flow }
    }

    /// Finds a job and a flow, or makes them. A topic that there is no room for counts as dropped, unless it is watched.
    fn enter(
        &mut self,
        [job, flow]: [Option<&str>; 2],
        spared: [Option<TopicKey>; 2],
    ) -> (Option<JobKey>, Option<FlowKey>) {
        let Self { directory, topic_index, history, seq, .. } = self;
        let (job_key, flow_key) = (
            job.and_then(|name| topic_index.find_job(name)),
            flow.and_then(|name| topic_index.find_flow(name)),
        );
        let new = [job.filter(|_| job_key.is_none()), flow.filter(|_| flow_key.is_none())];
        if new == [None, None] {
            return (job_key, flow_key);
        }
        let found = [job_key.map(TopicKey::from), flow_key.map(TopicKey::from)];
        let spared = if found == [None, None] { spared } else { found };
        let mut release = |topic: &Topic| release(history, topic);
        let added = topic_index.add_or_drop(new, spared, directory, *seq, &mut release);
        (job_key.or(added.0), flow_key.or(added.1))
    }
}

/// The bit of an event's type, and what that means for its job.
pub(super) fn type_of(
    directory: &Directory,
    types: &mut TypeLookup,
    line: &EventFields<'_>,
) -> (u8, Meaning) {
    // An inner type that is no valid name gets no row: there may be any number of them, of any length.
    let is_named = line.inner.is_none_or(is_type_name);
    match is_named {
        true => types.bit(&directory.types, line.kind, line.inner),
        false => (OVERFLOW_BIT, Meaning::Other),
    }
}

/// The time of an event: its own, else now.
pub(super) fn micros_of(line: &EventFields<'_>, now: Now) -> i64 {
    line.timestamp.and_then(Timestamp::unix_micros).unwrap_or(now.unix_micros)
}

/// What is needed to give a valid line its topics and its number.
pub(super) struct Placing<'a> {
    pub finding: Finding<'a>,
    pub types: &'a mut TypeLookup,
    pub marks: &'a mut Vec<LifeMark>,
    pub runs: &'a mut OpenRuns,
    pub now: Now,
    /// The ids that the line may have; None: all.
    pub covered: Option<&'a Patterns>,
}

impl Placing<'_> {
    /// Makes the frame just written to `batch` an event, in the runs of its topics.
    pub fn place(self, batch: &mut Batch, line: &EventFields<'_>) -> Result<(), LineError> {
        let Self { mut finding, types, marks, runs, now, covered } = self;
        let ids = [line.job_id, line.flow_id, line.data_flow_id];
        if covered.is_some_and(|patterns| !patterns.cover_all(ids)) {
            return Err(LineError::Forbidden);
        }
        let topics = finding.find(line)?;
        let Finding { directory, topic_index, seq, .. } = finding;
        let (bit, meaning) = type_of(directory, types, line);
        batch.push(bit, line.kind, line.inner);
        if let Some(job) = topics.job {
            let entry = topic_index.entry_mut(job);
            if entry.last_seq == 0 || meaning == Meaning::Started || meaning.is_terminal() {
                marks.push(LifeMark { seq, micros: micros_of(line, now) });
            }
            entry.last_seq = seq;
            entry.has_metrics |= meaning == Meaning::Metrics;
            runs.job = Some(batch.extend_run(runs.job, entry.topic.key));
        }
        for (open, flow) in runs.flows.iter_mut().zip(topics.flows()) {
            if let Some(flow) = flow {
                let entry = topic_index.entry_mut(flow);
                entry.last_seq = seq;
                *open = Some(batch.extend_run(*open, entry.topic.key));
            }
        }
        Ok(())
    }
}
