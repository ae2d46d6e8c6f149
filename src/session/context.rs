//! What a session works on, and the verdict on a message.

use crate::close::CloseReason;
use crate::delivery::keys::WatcherKey;
use crate::delivery::watchers::Watchers;
use crate::session::limits::SessionLimits;
use crate::tick::Tick;

/// What happens to the connection after a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Continue,
    /// The daemon ends the connection.
    Close(CloseReason),
    /// The client ends it; its close code is sent back.
    Echo(Option<u16>),
}

/// What a session works on.
pub struct SessionContext<'a, O> {
    pub key: WatcherKey,
    pub watchers: &'a mut Watchers,
    pub sink: &'a mut O,
    pub limits: &'a SessionLimits,
    /// Ticks of the monotonic clock.
    pub tick: Tick,
    pub unix_micros: i64,
}

impl<O> SessionContext<'_, O> {
    /// Counts a message by its result.
    pub(super) fn count(&mut self, result: usize) {
        self.watchers.counts.received[result] += 1;
    }
}
