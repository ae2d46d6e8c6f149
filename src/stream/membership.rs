//! Which flow a job belongs to, where daemons share a stream: one says it in the stream, and all go by that, whatever they
//! remember.

use crate::stream::routing::release;
use crate::stream::sequencer::Sequencer;
use crate::stream::topic::Topic;
use crate::stream::topic_key::TopicKey;
use crate::wire::line::LineError;

impl Sequencer {
    /// The flow of a job: the first that its events named.
    pub fn flow_of(&mut self, job: &str) -> Option<Box<str>> {
        let job = self.topic_index.find_job(job)?;
        let flow = self.topic_index.entry(job).flow?;
        Some(self.topic_index.entry(flow).topic.name.clone())
    }

    /// Whether there is room for an event of this job and flow.
    ///
    /// # Errors
    /// All jobs or topics that may be known are watched.
    pub fn check_room(&mut self, job: Option<&str>, flow: Option<&str>) -> Result<(), LineError> {
        let job_key = job.and_then(|job| self.topic_index.find_job(job));
        let flow_key = flow.and_then(|flow| self.topic_index.find_flow(flow));
        let new = [job.filter(|_| job_key.is_none()), flow.filter(|_| flow_key.is_none())];
        if new == [None, None] {
            return Ok(());
        }
        let spared = [job_key.map(TopicKey::from), flow_key.map(TopicKey::from)];
        self.topic_index.check_room(new, spared, &self.directory)
    }

    /// Makes this the job's flow, unless it has one. The events that follow are to be the job's, or both stay empty.
    pub fn join_flow(&mut self, job: &str, flow: &str) {
        let (mut job_key, mut flow_key) = (self.topic_index.find_job(job), self.topic_index.find_flow(flow));
        let new = [Some(job).filter(|_| job_key.is_none()), Some(flow).filter(|_| flow_key.is_none())];
        if new != [None, None] {
            let spared = [job_key.map(TopicKey::from), flow_key.map(TopicKey::from)];
            let history = &mut self.history;
            let mut release = |topic: &Topic| release(history, topic);
            // No room: the events will be refused too.
            let Ok(added) = self.topic_index.add(new, spared, &self.directory, &mut release) else { return };
            (job_key, flow_key) = (job_key.or(added.0), flow_key.or(added.1));
        }
        if let (Some(job), Some(flow)) = (job_key, flow_key) {
            self.topic_index.join_flow(job, flow);
        }
    }
}
