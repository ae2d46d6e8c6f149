//! A cohort: the watchers of one topic with the same selector and framing. Events are gathered once for all members at one
//! place.

use std::sync::Arc;

use crate::delivery::cursor::Cursor;
use crate::delivery::filter::Selector;
use crate::delivery::keys::{
    CohortSlot, CohortTag, LocalTopicSlot, LocalTopicTag, SubscriptionSlot, WatcherSlot,
};
use crate::delivery::table::Entry;
use crate::stream::topic::Topic;
use crate::wire::framing::Framing;

pub struct Cohort {
    /// The topic as this shard knows it.
    pub topic: LocalTopicSlot,
    pub selector: Selector,
    pub framing: Framing,
    /// Members that do not lag have every event they want before this place.
    pub start: Cursor,
    /// It may have new events: it is in the run queue, or is being served and will be queued again.
    pub is_marked: bool,
    /// It is being served, in portions. `start` stays until every member is served.
    pub is_served: bool,
    /// The next member to be served.
    pub resume: u32,
    pub members: Vec<WatcherSlot>,
    generation: u32,
}

/// A topic that has watchers in this shard.
pub struct LocalTopic {
    pub topic: Arc<Topic>,
    pub cohorts: Vec<CohortSlot>,
    /// Watchers of many jobs that watch this one too, each with its subscription.
    pub many: Vec<(WatcherSlot, SubscriptionSlot)>,
    generation: u32,
}

impl Cohort {
    /// A cohort without members yet.
    pub fn new(topic: LocalTopicSlot, selector: Selector, framing: Framing, generation: u32) -> Self {
        Self {
            topic,
            selector,
            framing,
            start: Cursor::default(),
            is_marked: false,
            is_served: false,
            resume: 0,
            members: Vec::new(),
            generation,
        }
    }
}

impl Entry for Cohort {
    type Tag = CohortTag;

    fn generation(&self) -> u32 {
        self.generation
    }
}

impl LocalTopic {
    pub fn new(topic: Arc<Topic>, generation: u32) -> Self {
        Self { topic, cohorts: Vec::new(), many: Vec::new(), generation }
    }

    pub fn is_empty(&self) -> bool {
        self.cohorts.is_empty() && self.many.is_empty()
    }
}

impl Entry for LocalTopic {
    type Tag = LocalTopicTag;

    fn generation(&self) -> u32 {
        self.generation
    }
}
