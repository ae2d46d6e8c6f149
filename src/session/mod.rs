//! One client's conversation: its requests, their limits, and the answers. Pure state: no sockets and no clock.
#![doc = include_str!("README.md")]

pub mod context;
pub mod conversation;
pub mod drain;
pub mod echo;
pub mod endpoint;
pub mod heartbeat;
pub mod limits;
pub mod operators;
pub mod publishing;
pub mod questions;
pub mod request;
pub mod stream_query;
pub mod timer_wheel;
