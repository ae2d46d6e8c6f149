//! Sockets, threads and clocks. This module decides nothing: `access`, `delivery` and `session` do.
#![doc = include_str!("README.md")]

pub mod bus;
pub mod clock;
pub mod host;
pub mod ingest;
pub mod listen;
pub mod passes;
pub mod past;
pub mod report;
pub mod shard;
