//! The topics of this simulation, and their names.

use crate::stream::Event;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopicId {
    All,
    Job(usize),
    Flow(usize),
}

impl TopicId {
    pub fn has(self, event: &Event) -> bool {
        match self {
            Self::All => true,
            Self::Job(job) => event.job == Some(job),
            Self::Flow(flow) => event.flow == Some(flow),
        }
    }

    pub fn name(self) -> String {
        match self {
            Self::All => String::new(),
            Self::Job(number) => job_name(number),
            Self::Flow(number) => flow_name(number),
        }
    }
}

/// Jobs and flows have the same names, and these differ in one byte.
pub fn job_name(number: usize) -> String {
    format!("run-{number}.a")
}

/// The job with this name.
pub fn job_of(name: &str) -> usize {
    let number = name.strip_prefix("run-").and_then(|rest| rest.strip_suffix(".a"));
    number.and_then(|number| number.parse().ok()).expect("it is one of ours")
}

pub fn flow_name(number: usize) -> String {
    format!("run-{number}.a")
}
