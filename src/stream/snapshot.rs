//! A snapshot: what `state_dir` keeps over a clean restart. It has the history, the jobs, the publishers' accepted
//! lines and the numbering. This module turns state into bytes and back; the files are handled elsewhere.
//!
//! A snapshot is `MAGIC` and then records, each with its kind, its length and two checksums (`record`). They are the
//! head, the topics, and the batches from the newest to the oldest. Of batches that there was no time for, they have
//! the events that jobs keep, and the last numbers by type.
//!
//! So whatever is cut off or damaged, the newest batches are left, up to the first bad one. Each topic says how many
//! events of each type its log had. So what was in the other batches is known by topic and type, and counts as lost.

mod load;
mod parts;
mod record;
mod restore;
mod save;

pub use load::{Damage, Restored, Unusable, load};
pub use parts::{PublisherPart, RunSpan};
pub use save::Saver;

/// The last two bytes are the version, now 3. It changes with the records and with the documented types.
const MAGIC: &[u8; 16] = b"luxcast state\n\x00\x03";

/// Runs that are remembered, at most. A client that comes back from before them gets a gap with `restart`.
const RUNS_MAX: usize = 64;

#[cfg(test)]
mod tests;
