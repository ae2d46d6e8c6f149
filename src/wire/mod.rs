//! Parsing and writing of every format: lines, HTTP, WebSocket frames, messages. No sockets and no clock.
#![doc = include_str!("README.md")]

pub mod action;
pub mod answer;
pub mod asked;
pub mod fault;
pub mod forwarded;
pub mod frame;
pub mod handshake;
pub mod head_buffer;
pub mod header;
pub mod http;
pub mod line;
pub mod members;
pub mod message;
pub mod notice;
mod number;
pub mod page;
pub mod query;
pub mod reply;
pub mod stamp;
pub mod text;
