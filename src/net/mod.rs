//! Sockets, threads, clocks. Decides nothing: verdicts come from `access`, `delivery` and `session`.

pub mod clock;
pub mod host;
pub mod ingest;
pub mod listen;
pub mod report;
pub mod shard;
