//! Who watches what in one shard: its topics, and for each the cohorts of watchers that want the same of it.

use std::sync::Arc;

use crate::delivery::cohort::{Cohort, LocalTopic};
use crate::delivery::filter::Selector;
use crate::delivery::keys::{CohortSlot, LocalTopicSlot, WatcherKey};
use crate::delivery::table::Table;
use crate::delivery::watcher::{Watched, Watcher};
use crate::stream::topic::Topic;
use crate::stream::topic_key::TopicKey;

#[derive(Default)]
pub struct Audience {
    pub(super) cohorts: Table<Cohort>,
    pub(super) topics: Table<LocalTopic>,
    /// Place in `topics`, by the slot of the topic's key.
    by_slot: Vec<Option<LocalTopicSlot>>,
}

impl Audience {
    /// The topic as this shard knows it. None: it has no watcher here.
    pub fn find(&self, key: TopicKey) -> Option<LocalTopicSlot> {
        let local = (*self.by_slot.get(key.slot as usize)?)?;
        (self.topics[local].topic.key == key).then_some(local)
    }

    /// Finds the topic, or adds it for a watcher that is about to join.
    pub fn find_or_add(&mut self, topic: &Arc<Topic>) -> LocalTopicSlot {
        let slot = topic.key.slot as usize;
        if self.by_slot.len() <= slot {
            self.by_slot.resize(slot + 1, None);
        }
        *self.by_slot[slot].get_or_insert_with(|| {
            let make = |generation| LocalTopic::new(topic.clone(), generation);
            self.topics.insert(make).slot
        })
    }

    /// Removes a topic that has no watcher left in this shard. False: it still has one.
    pub fn forget_if_empty(&mut self, local: LocalTopicSlot) -> bool {
        let is_empty = self.topics[local].is_empty();
        if is_empty {
            let topic = self.topics.remove(self.topics.key(local));
            self.by_slot[topic.topic.key.slot as usize] = None;
        }
        is_empty
    }

    /// Puts a watcher into the topic's cohort with the same selector and framing, which is made if there is none.
    pub fn join(
        &mut self,
        watchers: &mut Table<Watcher>,
        key: WatcherKey,
        local: LocalTopicSlot,
        selector: Selector,
    ) {
        let cohorts = &self.topics[local].cohorts;
        let framing = watchers[key].framing();
        let is_same = |cohort: &Cohort| cohort.framing == framing && cohort.selector == selector;
        let same = cohorts.iter().copied().find(|&cohort| is_same(&self.cohorts[cohort]));
        let cohort = same.unwrap_or_else(|| {
            let make = |generation| Cohort::new(local, selector, framing, generation);
            let cohort = self.cohorts.insert(make).slot;
            self.topics[local].cohorts.push(cohort);
            cohort
        });
        let members = &mut self.cohorts[cohort].members;
        watchers[key].watched = Watched::Cohort { cohort, member: members.len() as u32 };
        members.push(key.slot);
    }

    /// Takes a watcher out of its cohort. The topic stays until the caller releases it.
    ///
    /// # Panics
    ///
    /// If the watcher is in no cohort.
    pub fn leave(&mut self, watchers: &mut Table<Watcher>, key: WatcherKey) {
        let Watched::Cohort { cohort: at, member } =
            std::mem::replace(&mut watchers[key].watched, Watched::Nothing)
        else {
            panic!("the watcher is in a cohort");
        };
        let cohort = &mut self.cohorts[at];
        cohort.members.swap_remove(member as usize);
        if let Some(&moved) = cohort.members.get(member as usize) {
            watchers[moved].watched = Watched::Cohort { cohort: at, member };
            // The last member moved to this place, perhaps before its turn: the cohort is served once more.
            if cohort.is_served {
                cohort.is_marked = true;
            }
        }
        if cohort.members.is_empty() {
            self.remove_cohort(at);
        }
    }

    fn remove_cohort(&mut self, at: CohortSlot) {
        // The run queue may still hold its key, which then finds nothing.
        let cohort = self.cohorts.remove(self.cohorts.key(at));
        self.topics[cohort.topic].cohorts.retain(|&other| other != at);
    }

    pub fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }
}
