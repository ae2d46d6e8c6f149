//! The bus thread: does what the reader wants done, and hands back what comes of it.
#![doc = include_str!("README.md")]

#[cfg(feature = "bus")]
pub mod admin;
#[cfg(feature = "bus")]
mod alone;
#[cfg(feature = "bus")]
mod arrivals;
#[cfg(feature = "bus")]
pub mod begin;
#[cfg(feature = "bus")]
pub mod client;
#[cfg(feature = "bus")]
pub mod connect;
pub mod handle;
#[cfg(feature = "bus")]
mod log;
#[cfg(feature = "bus")]
mod pull;
pub mod said;
#[cfg(feature = "bus")]
mod sign_in;
#[cfg(feature = "bus")]
pub mod stream_config;
#[cfg(feature = "bus")]
pub mod stream_info;
#[cfg(feature = "bus")]
pub mod thread;
#[cfg(feature = "bus")]
mod trouble;
#[cfg(feature = "bus")]
mod words;
