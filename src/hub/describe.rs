//! A watcher in words and numbers, for operators.

use crate::hub::watcher::{BLOCKED, Place};
use crate::hub::watchers::Watchers;
use crate::stream::topic::{Topic, TopicKind};

pub struct Description {
    pub topics: Vec<String>,
    pub filter: String,
    pub position: u64,
    /// Events of its topics that it has not passed yet.
    pub lag_events: u64,
    pub waiting_bytes: usize,
    pub bytes_out: u64,
    pub is_blocked: bool,
}

impl Watchers {
    pub fn describe(&self, key: u32) -> Description {
        let watcher = &self.watchers[key as usize];
        let locals: Vec<(u32, u64)> = match &watcher.place {
            Place::Nowhere => Vec::new(),
            Place::Cohort { cohort, .. } => {
                let cohort = &self.cohorts[*cohort as usize];
                let index = self.standing(key).map_or(watcher.cursor.index, |cursor| cursor.index);
                vec![(cohort.topic, index)]
            }
            Place::Many(many) => many.places().collect(),
        };
        let topics = locals.iter().map(|&(local, _)| name(&self.topics[local as usize].topic));
        let lag = locals
            .iter()
            .map(|&(local, index)| self.topics[local as usize].topic.log.lock().head().saturating_sub(index));
        Description {
            topics: topics.collect(),
            filter: watcher.filter.as_ref().map_or("all".to_owned(), |filter| filter.describe()),
            position: self.position(key),
            lag_events: lag.sum(),
            waiting_bytes: watcher.waiting(),
            bytes_out: watcher.bytes_out,
            is_blocked: watcher.is(BLOCKED),
        }
    }
}

fn name(topic: &Topic) -> String {
    match topic.kind {
        TopicKind::All => "all".to_owned(),
        TopicKind::Job => format!("job:{}", topic.name),
        TopicKind::Flow => format!("flow:{}", topic.name),
    }
}
