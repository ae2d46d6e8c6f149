//! Which of a shard's clients are to be read from.

use std::collections::VecDeque;

use crate::delivery::keys::WatcherKey;
use crate::net::shard::connection::Connection;
use crate::wire::inflate::Inflater;

/// Read from one client at once, and in one turn: the others keep their latency.
pub const READ_BYTES: usize = 64 << 10;

/// Who is to be read from.
pub struct Reads {
    /// Connections that may have something to read.
    pub unread: VecDeque<WatcherKey>,
    /// Clients that take no answers, and are not read from until they do.
    pub muted: Vec<WatcherKey>,
    pub scratch: Vec<u8>,
    /// For the compressed messages of all of them.
    pub inflater: Inflater,
}

impl Reads {
    pub fn new() -> Self {
        Self {
            unread: VecDeque::new(),
            muted: Vec::new(),
            scratch: vec![0; READ_BYTES],
            inflater: Inflater::default(),
        }
    }

    pub fn is_busy(&self) -> bool {
        !self.unread.is_empty()
    }

    /// Something has come from this client, or it has gone: it will be read from.
    pub fn add(&mut self, key: WatcherKey, connection: &mut Connection) {
        if !connection.has_more {
            connection.has_more = true;
            self.unread.push_back(key);
        }
    }
}

impl Default for Reads {
    fn default() -> Self {
        Self::new()
    }
}
