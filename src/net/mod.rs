//! Sockets, threads, clocks. Decides nothing: verdicts come from `hub`.

pub mod accounts;
pub mod activation;
pub mod admin;
pub mod certificate;
pub mod clerk;
pub mod clock;
pub mod connection;
pub mod connections;
mod handshakes;
pub mod housekeeping;
pub mod inbox;
pub mod ingest;
pub mod keys;
pub mod listener;
pub mod outq;
pub mod publisher;
pub mod pulse;
pub mod requests;
pub mod service;
pub mod shard;
pub mod sockets;
pub mod state_dir;
pub mod survey;
pub mod transport;
pub mod upkeep;
