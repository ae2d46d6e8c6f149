//! Who gets what: pure state, no sockets, no clock.

pub mod batch;
pub mod dialect;
pub mod directory;
pub mod dropped;
pub mod gate;
pub mod history;
pub mod jobs;
pub mod key;
pub mod ledger;
pub mod link;
pub mod metronome;
pub mod names;
mod own_events;
mod placing;
mod reserve;
pub mod sequencer;
pub mod silence;
pub mod snapshot;
pub mod topic;
