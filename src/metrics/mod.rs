//! The daemon's own figures: what each thread counts, and how all of it is told.
//!
//! A thread has counters of its own, which it alone writes, once a turn or for a connection, never for a message. Whoever
//! asks reads them as they stand: no lock, no order between them, nothing that a thread would have to wait for.

mod counters;
mod figures;
pub mod table;
mod text;

pub use counters::{
    ACTION_ERRORS, BOUNDS_MICROS, CLOSED_BY_CLIENT, Counter, Counters, ENDPOINTS, GAPS, Gauge, Histogram,
    IngestCounters, LINE_ERRORS, LOST, OBEYED, PROTOCOL, REFUSALS, RESULTS, ShardCounters,
};
pub use figures::{Figures, Process, Words};
pub use text::write;
