//! Every limit on a connection, and the verdicts.

use std::time::Duration;

use crate::close::CloseReason;
use crate::hub::echo;
use crate::hub::wheel::{TICK_MILLIS, Tick};
use crate::wire::message::MessageLimits;

/// Messages in a row that could not be obeyed before the connection ends.
pub const GARBAGE_MAX: u8 = 16;
/// Jobs endpoint: a page subscribes to all it shows at once.
pub const MULTI_JOB_BURST: u32 = 2048;
/// Fragments of one message: a client that needs more sends bytes one by one.
const FRAGMENTS_MAX: u32 = if echo::IS_ON { u32::MAX } else { 1024 };
/// Bytes of unsent answers from which on nothing more is read from a client.
pub const UNSENT_ANSWERS_MAX: usize = 32 << 10;

/// The limits of this daemon.
#[derive(Clone, Debug)]
pub struct Policy {
    pub messages: MessageLimits,
    pub head_bytes_max: usize,
    pub messages_per_second: u32,
    pub messages_burst: u32,
    pub jobs_max: usize,
    pub heartbeat: Tick,
    pub silent_heartbeats: u16,
    pub handshake: Tick,
}

impl Policy {
    pub fn message_limits(message_bytes_max: usize) -> MessageLimits {
        MessageLimits { message_bytes_max, fragments_max: FRAGMENTS_MAX }
    }
}

/// A span of time in ticks, at least one.
pub fn ticks(span: Duration) -> Tick {
    (span.as_millis() as u64 / TICK_MILLIS).clamp(1, i32::MAX as u64) as Tick
}

/// How many more messages a client may send now: a bucket of `burst` tokens that fills at the allowed rate.
#[derive(Clone, Copy, Debug)]
pub struct Allowance {
    tokens: u32,
    filled_at: Tick,
}

impl Allowance {
    pub fn new(burst: u32, now: Tick) -> Self {
        Self { tokens: burst, filled_at: now }
    }

    /// Takes one message in.
    pub fn spend(&mut self, now: Tick, per_second: u32, burst: u32) -> Result<(), CloseReason> {
        let ticks = u64::from(now.wrapping_sub(self.filled_at));
        let fresh = ticks * TICK_MILLIS * u64::from(per_second) / 1000;
        if fresh > 0 {
            self.tokens = (u64::from(self.tokens) + fresh).min(u64::from(burst)) as u32;
            self.filled_at = now;
        }
        self.tokens = self.tokens.checked_sub(1).ok_or(CloseReason::Flood)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Allowance;
    use crate::close::CloseReason;

    #[test]
    fn a_burst_is_allowed_and_then_the_rate() {
        let mut allowance = Allowance::new(4, 0);
        for _ in 0..4 {
            assert_eq!(allowance.spend(0, 50, 4), Ok(()));
        }
        assert_eq!(allowance.spend(0, 50, 4), Err(CloseReason::Flood));
        assert_eq!(allowance.spend(1, 50, 4), Ok(()), "50 a second are one a tick");
        assert_eq!(allowance.spend(1, 50, 4), Err(CloseReason::Flood));
        for _ in 0..4 {
            assert_eq!(allowance.spend(1000, 50, 4), Ok(()));
        }
        assert_eq!(allowance.spend(1000, 50, 4), Err(CloseReason::Flood));
    }
}
