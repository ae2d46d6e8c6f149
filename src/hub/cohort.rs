//! A cohort: watchers of one topic that want the same of it. What goes out is gathered once for all that
//! stand at one place.

use std::sync::Arc;

use crate::hub::cursor::Cursor;
use crate::hub::filter::Selector;
use crate::stream::topic::Topic;

pub struct Cohort {
    /// The topic as this shard knows it.
    pub topic: u32,
    pub selector: Selector,
    /// No member that does not lag wants any event before this place that it has not got.
    pub start: Cursor,
    /// Something may have come for it: it is in the line, or being served and to be put there again.
    pub is_marked: bool,
    /// It is being served, in portions; `start` stays until all have been.
    pub is_served: bool,
    /// The next member to be served.
    pub resume: u32,
    pub members: Vec<u32>,
}

/// A topic that has watchers in this shard.
pub struct LocalTopic {
    pub topic: Arc<Topic>,
    pub cohorts: Vec<u32>,
    /// Watchers of many jobs, this one among them, and the place of this one in their list.
    pub many: Vec<(u32, u32)>,
}

impl LocalTopic {
    pub fn is_empty(&self) -> bool {
        self.cohorts.is_empty() && self.many.is_empty()
    }
}
