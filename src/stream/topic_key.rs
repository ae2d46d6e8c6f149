//! Keys of topics. A slot is reused, a generation is not: a key that has outlived its topic finds nothing. A job's key
//! and a flow's are two types, since a job and a flow may share a name.

/// Names a topic for as long as it lives: its place in tables, and which of the topics at that place it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct TopicKey {
    pub slot: u32,
    /// Counts topics, and wraps around: no key is held while four billion topics are made.
    pub generation: u32,
}

impl TopicKey {
    /// The topic of all events.
    pub const ALL: TopicKey = TopicKey { slot: 0, generation: 0 };
    /// No topic.
    pub const NONE: TopicKey = TopicKey { slot: u32::MAX, generation: 0 };
}

/// Names a job's topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct JobKey(TopicKey);

/// Names a flow's topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowKey(TopicKey);

impl JobKey {
    /// `key` is that of a job.
    pub(super) fn new(key: TopicKey) -> Self {
        Self(key)
    }
}

impl FlowKey {
    /// `key` is that of a flow.
    pub(super) fn new(key: TopicKey) -> Self {
        Self(key)
    }
}

impl From<JobKey> for TopicKey {
    fn from(key: JobKey) -> Self {
        key.0
    }
}

impl From<FlowKey> for TopicKey {
    fn from(key: FlowKey) -> Self {
        key.0
    }
}
