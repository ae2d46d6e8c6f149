//! What names the things of one shard. A key names one for as long as it lives; a slot is for those that end with it.

use crate::delivery::table::{Key, Slot};

pub enum WatcherTag {}
pub enum CohortTag {}
pub enum LocalTopicTag {}
pub enum SubscriptionTag {}

pub type WatcherKey = Key<WatcherTag>;
pub type WatcherSlot = Slot<WatcherTag>;
pub type CohortKey = Key<CohortTag>;
pub type CohortSlot = Slot<CohortTag>;
pub type LocalTopicSlot = Slot<LocalTopicTag>;
pub type SubscriptionSlot = Slot<SubscriptionTag>;
