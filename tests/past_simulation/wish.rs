//! What a client wants: a topic, and the types that its filter lets through.

use std::collections::BTreeSet;

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

/// A filter, as the specification puts it.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    pub is_only: bool,
    pub names: BTreeSet<String>,
}

impl Wish {
    pub fn wants(&self, event: &Event) -> bool {
        self.names.contains(&event.kind) == self.is_only
    }

    /// Changes it as one message does, which is returned.
    pub fn change(&mut self, choice: usize, names: Vec<String>) -> String {
        let list = serde_json::to_string(&names).expect("names are text");
        match choice {
            0 | 1 => {
                if !self.is_only {
                    self.names.clear();
                }
                self.is_only = true;
                self.names.extend(names);
                format!(r#"{{"action":"subscribe","events":{list}}}"#)
            }
            2 => {
                match self.is_only {
                    true => self.names.retain(|name| !names.contains(name)),
                    false => self.names.extend(names),
                }
                format!(r#"{{"action":"unsubscribe","events":{list}}}"#)
            }
            _ => {
                self.is_only = false;
                self.names.clear();
                r#"{"action":"subscribe_all"}"#.to_owned()
            }
        }
    }
}
