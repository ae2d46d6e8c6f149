//! Routes a valid line: finds its type's bit, its job and its flows, and the runs of the open batch that it joins.

use crate::access::patterns::Patterns;
use crate::event::{Meaning, OVERFLOW_BIT, TypeLookup};
use crate::stream::batch::Batch;
use crate::stream::directory::Directory;
use crate::stream::history::History;
use crate::stream::now::Now;
use crate::stream::topic::Topic;
use crate::stream::topic_index::TopicIndex;
use crate::stream::topic_key::TopicKey;
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

/// What is needed to give a valid line its topics and its number.
pub struct Placing<'a> {
    pub directory: &'a Directory,
    pub types: &'a mut TypeLookup,
    pub topic_index: &'a mut TopicIndex,
    pub history: &'a mut History,
    pub marks: &'a mut Vec<LifeMark>,
    pub runs: &'a mut OpenRuns,
    pub now: Now,
    pub seq: u64,
    /// The ids that the line may have; None: all.
    pub covered: Option<&'a Patterns>,
}

impl Placing<'_> {
    /// Makes the frame just written to `batch` an event, in the runs of its topics.
    pub fn place(self, batch: &mut Batch, line: &EventFields<'_>) -> Result<(), LineError> {
        let Self { directory, types, topic_index, history, marks, runs, now, seq, covered } = self;
        let ids = [line.job_id, line.flow_id, line.data_flow_id];
        if covered.is_some_and(|patterns| !patterns.cover_all(ids)) {
            return Err(LineError::Forbidden);
        }
        let mut release = |topic: &Topic| release(history, topic);
        let mut job = line.job_id.and_then(|name| topic_index.find_job(name));
        // The first flow that a job's events name is the job's.
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
        // An inner type that is no valid name gets no row: there may be any number of them, of any length.
        let is_named = line.inner.is_none_or(is_type_name);
        let (bit, meaning) = match is_named {
            true => types.bit(&directory.types, line.kind, line.inner),
            false => (OVERFLOW_BIT, Meaning::Other),
        };
        batch.push(bit, line.kind, line.inner);
        let mut job_flow = None;
        if let Some(job) = job {
            let entry = topic_index.entry_mut(job);
            if entry.last_seq == 0 || meaning == Meaning::Started || meaning.is_terminal() {
                let micros = line.timestamp.and_then(Timestamp::unix_micros).unwrap_or(now.unix_micros);
                marks.push(LifeMark { seq, micros });
            }
            entry.last_seq = seq;
            entry.has_metrics |= meaning == Meaning::Metrics;
            job_flow = entry.flow;
            runs.job = Some(batch.extend_run(runs.job, entry.topic.key));
        }
        let flows = [own_flow.or(job_flow), job_flow.filter(|_| own_flow.is_some() && own_flow != job_flow)];
        for (open, flow) in runs.flows.iter_mut().zip(flows) {
            if let Some(flow) = flow {
                let entry = topic_index.entry_mut(flow);
                entry.last_seq = seq;
                *open = Some(batch.extend_run(*open, entry.topic.key));
            }
        }
        Ok(())
    }
}
