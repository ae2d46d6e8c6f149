//! Parsing and writing of every format. No sockets and no clock.
//!
//! | from whom, to whom | files |
//! | --- | --- |
//! | from publishers | [`mod@line`], with [`members`] and `number`; [`line_fault`] finds for the log what is wrong |
//! | over HTTP | [`body`] for what is around the content, [`json_lines`] for JSON that is no line |
//! | to publishers | [`publisher_answer`]: errors, welcomes, acks; [`receipt`]: the answer over HTTP |
//! | HTTP from clients | [`head_buffer`], [`http`], [`field`], [`accept`], [`query`], [`forwarded`], [`handshake`]; [`request_for_log`] |
//! | HTTP to clients | [`http_answer`], [`refusal`] (every refusal is a row there), [`page`], [`methods`], [`cross_origin`] |
//! | WebSocket from clients | [`permessage_deflate`] agrees on compression; [`frame_header`], [`message_reader`], [`inflate`], [`client_action`] |
//! | WebSocket to clients | [`frame`] for headers and control frames, [`deflater`], [`watcher_message`] for the daemon's own messages |
//! | plain HTTP to clients that watch | [`framing`]: chunks with Server-Sent Events or lines of JSON |
//! | in all of them | [`stamp`] for times, [`text`] for pieces of text |
#![doc = include_str!("README.md")]

pub mod accept;
pub mod body;
pub mod client_action;
pub mod cross_origin;
pub mod deflater;
pub mod field;
pub mod forwarded;
pub mod frame;
pub mod frame_header;
pub mod framing;
pub mod handshake;
pub mod head_buffer;
pub mod http;
pub mod http_answer;
pub mod inflate;
pub mod json_lines;
pub mod line;
pub mod line_fault;
pub mod members;
pub mod message_reader;
pub mod methods;
mod number;
pub mod page;
pub mod permessage_deflate;
pub mod publisher_answer;
pub mod query;
pub mod receipt;
pub mod refusal;
pub mod request_for_log;
pub mod stamp;
pub mod text;
pub mod watcher_message;
