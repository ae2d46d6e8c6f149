//! The daemon's own figures: the counters of each thread, and their output as text.
#![doc = include_str!("README.md")]

mod counters;
mod figures;
pub mod table;
mod text;

pub use counters::{
    ACTION_ERRORS, BOUNDS_MICROS, BusCounters, CLOSED_BY_CLIENT, Counter, Counters, ENDPOINTS, GAPS, Gauge,
    Histogram, IngestCounters, LINE_ERRORS, LOST, OBEYED, PROTOCOL, REFUSALS, RESULTS, ShardCounters,
};
pub use figures::{Figures, Process, Words};
pub use text::write;
