//! Keys and slots of one shard's tables. A key may outlive its entry, and then finds nothing. A slot is held only where
//! it goes together with the entry.

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
