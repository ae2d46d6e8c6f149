//! Every limit on a connection.

use crate::tick::Tick;
use crate::wire::message_reader::MessageLimits;

/// Whether this is the test build, whose sessions send messages back. Its suite wants each ping answered; clients are
/// promised an answer only to the newest.
pub const IS_ECHO: bool = cfg!(feature = "echo");
/// So many messages in a row that could not be obeyed end the connection.
pub const GARBAGE_MAX: u8 = 16;
/// Burst of messages on the multi-job endpoint: a page subscribes at once to all it shows.
pub const MULTI_JOB_BURST: u32 = 2048;
/// Fragments of one message, at most: a client that needs more sends bytes one by one.
const FRAGMENTS_MAX: u32 = if IS_ECHO { u32::MAX } else { 1024 };
/// From this many bytes of unsent answers on, nothing more is read from a client.
pub const UNSENT_ANSWERS_MAX: usize = 32 << 10;
/// Bytes kept behind a request before that is answered, at most: each of the requests in them copies the rest once.
const PIPELINED_BYTES_MAX: usize = 16 << 10;

/// The limits of this daemon.
#[derive(Clone, Debug)]
pub struct SessionLimits {
    pub messages: MessageLimits,
    pub head_bytes_max: usize,
    pub messages_per_second: u32,
    pub messages_burst: u32,
    pub jobs_max: usize,
    pub heartbeat: Tick,
    pub silent_heartbeats: u16,
    pub handshake: Tick,
    /// How long nothing of a body may come.
    pub stalled: Tick,
}

impl SessionLimits {
    /// Bytes kept behind a request before that is answered.
    pub fn pipelined_bytes_max(&self) -> usize {
        self.head_bytes_max.min(PIPELINED_BYTES_MAX)
    }

    pub fn message_limits(message_bytes_max: usize) -> MessageLimits {
        MessageLimits { message_bytes_max, fragments_max: FRAGMENTS_MAX }
    }
}
