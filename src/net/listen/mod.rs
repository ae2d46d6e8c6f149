//! Listeners, certificates, and sockets from the service manager.
#![doc = include_str!("README.md")]

pub mod accept_error;
pub mod acceptor;
pub mod certificate;
pub mod inherited;
pub mod listener;
