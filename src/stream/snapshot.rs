//! What `state_dir` keeps over a clean restart: the history, the jobs, the publishers' accepted lines, the numbering.
//! Bytes to state and back; the files themselves are elsewhere.
//!
//! A snapshot is `MAGIC` and then records, each with its kind, its length and two checksums (`record`): the head,
//! the topics, the batches from the newest to the oldest, and of those that there was no time for the events that
//! their jobs keep and the last numbers by type. So whatever is cut off or damaged, the newest part in one piece is what is left: the batches up to
//! the first bad one. What was in the others is known by topic and type, since each topic says how many events of
//! each type its log had, and counts as lost.

mod load;
mod parts;
mod record;
mod restore;
mod save;

pub use load::{Damage, Restored, Unusable, load};
pub use parts::{PublisherPart, RunStart};
pub use save::Saver;

/// The last two bytes are the version: 2 is this one. It changes with the records, and with the documented types.
const MAGIC: &[u8; 16] = b"luxcast state\n\x00\x02";

/// The table of runs has so many rows at most; who comes back from before them gets a gap with `restart`.
const RUNS_MAX: usize = 64;

#[cfg(test)]
mod tests;
