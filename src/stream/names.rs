//! Finds topics by name. A name is stored once, in its topic.

use std::borrow::Borrow;
use std::collections::HashSet;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use foldhash::fast::RandomState;

use crate::stream::topic::Topic;

/// Topics of one kind.
#[derive(Default)]
pub struct TopicsByName {
    topics: HashSet<ByName, RandomState>,
}

impl TopicsByName {
    pub fn find(&self, name: &str) -> Option<&Arc<Topic>> {
        self.topics.get(name).map(|found| &found.0)
    }

    /// Adds a topic. There is none of its name yet.
    pub fn insert(&mut self, topic: Arc<Topic>) {
        assert!(self.topics.insert(ByName(topic)), "a name has one topic");
    }

    pub fn remove(&mut self, name: &str) {
        self.topics.remove(name);
    }

    pub fn len(&self) -> usize {
        self.topics.len()
    }

    pub fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }
}

/// A topic that compares and hashes by its name.
pub struct ByName(pub Arc<Topic>);

impl Borrow<str> for ByName {
    fn borrow(&self) -> &str {
        &self.0.name
    }
}

impl Hash for ByName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.name.hash(state);
    }
}

impl PartialEq for ByName {
    fn eq(&self, other: &Self) -> bool {
        self.0.name == other.0.name
    }
}

impl Eq for ByName {}
