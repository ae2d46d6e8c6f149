//! The daemon's own figures: what each thread counts, and how all of it is told.
#![doc = include_str!("README.md")]

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
