//! Which flow a job belongs to, where daemons share a stream: one says it in the stream, and all go by that, whatever they
//! remember.

use crate::stream::sequencer::Sequencer;
use crate::stream::told::Flow;
use crate::stream::topic_key::TopicKey;
use crate::wire::line::LineError;

impl Sequencer {
    /// The lines that follow, up to the next call, are of these flows beside those that they name themselves. Of a shared
    /// stream, no line is placed by anything else.
    pub fn tell_flows(&mut self, flows: Vec<Flow>) {
        self.told.set(flows);
    }

    /// The flow of a job: the first that its events named, or the last that the shared stream has told.
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
}
