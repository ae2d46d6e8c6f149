#![deny(unsafe_code)]
//! luxcast
pub mod cli;
pub mod close;
pub mod config;
pub mod event;
pub mod hub;
pub mod metrics;
pub mod net;
pub mod server;
pub mod sim;
pub mod stream;
pub mod wire;
