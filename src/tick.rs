//! Time in ticks, in which shards count: heartbeats, deadlines, rates.

use std::time::Duration;

/// Length of a tick in milliseconds: fine enough for the shortest heartbeat, coarse enough to share wake-ups.
pub const TICK_MILLIS: u64 = 20;

/// Time in ticks; compared by difference, so that it may wrap around after years.
pub type Tick = u32;

/// Whether `left` comes before `right` or at the same tick.
pub fn is_reached(left: Tick, right: Tick) -> bool {
    right.wrapping_sub(left) as i32 >= 0
}

/// A span of time in ticks, at least one.
pub fn ticks(span: Duration) -> Tick {
    (span.as_millis() as u64 / TICK_MILLIS).clamp(1, i32::MAX as u64) as Tick
}
