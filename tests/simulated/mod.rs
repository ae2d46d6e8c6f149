//! What the simulations of watchers share: shards of the daemon with sockets that take as much as they like, and what
//! reads the bytes that these took.

pub mod chunks;
mod conversation;
pub mod decoder;
pub mod filter;
mod frames;
mod inflater;
pub mod message;
pub mod others;
mod port;
// Only the fuzzer gives choices.
#[allow(dead_code)]
pub mod rng;
pub mod shard;
pub mod socket;
pub mod socket_plan;
