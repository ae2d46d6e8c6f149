//! What can be asked of a shard's watchers: where each stands, whether it lags, how it looks to an operator.

use crate::hub::cursor::Cursor;
use crate::hub::outlet::Outlet;
use crate::hub::watcher::{BLOCKED, BROKEN, ENDED, LAGS, Place, QUEUED, REVIEWED};
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
    /// Number up to which all events of this watcher went out; exact once it is [`Watchers::settle`]d.
    pub fn position(&self, key: u32) -> u64 {
        let watcher = &self.watchers[key as usize];
        match &watcher.place {
            // It misses nothing.
            Place::Nowhere => self.tail,
            Place::Many(many) => many.position(self.tail),
            Place::Cohort { .. } => watcher.cursor.seq,
        }
    }

    /// Where a watcher of one topic stands: at its own place, or where its cohort stands.
    pub fn standing(&self, key: u32) -> Option<Cursor> {
        let watcher = &self.watchers[key as usize];
        let Place::Cohort { cohort, .. } = watcher.place else {
            return None;
        };
        let start = self.cohorts[cohort as usize].start;
        Some(if watcher.is(LAGS) { watcher.cursor } else { watcher.cursor.max(start) })
    }

    /// The newest number that is delivered.
    pub fn tail(&self) -> u64 {
        self.tail
    }

    /// Somebody watches something here.
    pub fn is_watching(&self) -> bool {
        !self.topics.is_empty()
    }

    pub fn is_blocked(&self, key: u32) -> bool {
        self.watchers[key as usize].is(BLOCKED)
    }

    /// The last bytes of an ending watcher have gone out.
    pub fn is_ended(&self, key: u32) -> bool {
        self.watchers.get(key as usize).is_some_and(|watcher| watcher.is(ENDED))
    }

    /// Whether its progress is looked at.
    pub fn is_reviewed(&self, key: u32) -> bool {
        self.watchers[key as usize].is(REVIEWED)
    }

    /// Whether a watcher still lags; one that does not is off the list of those whose progress is looked at.
    pub fn stays_reviewed(&mut self, key: u32) -> bool {
        let Some(watcher) = self.watchers.get_mut(key as usize) else {
            return false;
        };
        let stays =
            watcher.is(REVIEWED) && watcher.is(BLOCKED | LAGS) && !matches!(watcher.place, Place::Many(_));
        let stays = stays || watcher.is(BLOCKED);
        if !stays {
            watcher.unset(REVIEWED);
        }
        stays
    }

    /// Nobody has anything left to get up to the newest number.
    pub fn is_served(&mut self, outlet: &mut impl Outlet) -> bool {
        self.refresh(outlet);
        !self.is_busy() && !self.watchers.iter().any(|(_, watcher)| watcher.is(BLOCKED))
    }

    /// The edge-trigger law: a watcher with bytes to send waits for an edge or is in line.
    pub fn assert_nobody_forgotten(&self) {
        for (key, watcher) in &self.watchers {
            let has_bytes =
                watcher.waiting() > 0 || (watcher.is(LAGS) && matches!(watcher.place, Place::Cohort { .. }));
            let is_in_line = watcher.is(QUEUED | BLOCKED | BROKEN | ENDED);
            assert!(!has_bytes || is_in_line, "watcher {key} is forgotten");
        }
    }

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
