//! The ways in: listeners, certificates, who is let in at all.
#![doc = include_str!("README.md")]

pub mod accept_error;
pub mod acceptor;
pub mod certificate;
pub mod inherited;
pub mod listener;
