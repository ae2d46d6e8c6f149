//! Every limit on a connection, and the verdicts.

use crate::tick::Tick;
use crate::wire::message::MessageLimits;

/// The test build: its sessions send messages back. Its suite also wants each ping
/// answered, where clients are promised the answer to the newest.
pub const IS_ECHO: bool = cfg!(feature = "echo");
/// Messages in a row that could not be obeyed before the connection ends.
pub const GARBAGE_MAX: u8 = 16;
/// Jobs endpoint: a page subscribes to all it shows at once.
pub const MULTI_JOB_BURST: u32 = 2048;
/// Fragments of one message: a client that needs more sends bytes one by one.
const FRAGMENTS_MAX: u32 = if IS_ECHO { u32::MAX } else { 1024 };
/// Bytes of unsent answers from which on nothing more is read from a client.
pub const UNSENT_ANSWERS_MAX: usize = 32 << 10;

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
}

impl SessionLimits {
    pub fn message_limits(message_bytes_max: usize) -> MessageLimits {
        MessageLimits { message_bytes_max, fragments_max: FRAGMENTS_MAX }
    }
}
