//! Who gets what: pure state, no sockets, no clock.

pub mod batch;
pub mod dialect;
pub mod directory;
pub mod history;
pub mod jobs;
pub mod ledger;
pub mod link;
pub mod metronome;
mod names;
mod placing;
pub mod sequencer;
pub mod snapshot;
pub mod topic;
