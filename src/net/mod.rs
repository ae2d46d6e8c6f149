//! Sockets, threads, clocks. Decides nothing: verdicts come from `access`, `delivery` and `session`.
#![doc = include_str!("README.md")]

pub mod clock;
pub mod host;
pub mod ingest;
pub mod listen;
pub mod report;
pub mod shard;
