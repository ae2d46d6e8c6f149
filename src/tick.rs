//! Time in ticks, the unit of shards for heartbeats, deadlines and rates.

use std::time::Duration;

/// Length of a tick in milliseconds: fine enough for the shortest heartbeat, coarse enough to share wake-ups.
pub const TICK_MILLIS: u64 = 20;

/// A time in ticks. Times are compared by their difference, so that the count may wrap around after years.
pub type Tick = u32;

/// Whether `left` is at or before `right`.
pub fn is_reached(left: Tick, right: Tick) -> bool {
    right.wrapping_sub(left) as i32 >= 0
}

/// A span of time in ticks, at least one.
pub fn ticks(span: Duration) -> Tick {
    (span.as_millis() as u64 / TICK_MILLIS).clamp(1, i32::MAX as u64) as Tick
}
