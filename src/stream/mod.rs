//! Events, topics and their logs: numbering, routing, history and snapshots. Pure state: no sockets and no clock.
#![doc = include_str!("README.md")]

pub mod batch;
pub mod dialect;
pub mod directory;
pub mod dropped;
pub mod gate;
pub mod history;
pub mod holes;
pub mod jobs;
mod jumps;
pub mod link;
mod membership;
pub mod metrics_schedule;
pub mod names;
pub mod now;
pub mod numbers;
mod own_events;
pub mod past;
mod recall;
mod reserve;
mod routing;
pub mod sequencer;
pub mod silence;
pub mod snapshot;
pub mod told;
pub mod topic;
pub mod topic_index;
pub mod topic_key;
