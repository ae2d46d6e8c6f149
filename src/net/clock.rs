//! The monotonic clock and the clock of Unix time, read once per turn.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::stream::now::Now;
use crate::tick::{TICK_MILLIS, Tick};
use crate::wire::stamp::Stamp;

/// How long before the start a restored job may have had its last event: three years, more than any setting allows.
const PAST_MILLIS: u64 = 3 * 365 * 24 * 3_600_000;

/// The origin of the daemon's own time.
#[derive(Clone, Copy)]
pub struct Clock {
    start: Instant,
    /// The daemon's own time at `start`.
    start_millis: u64,
}

/// One reading of both clocks.
#[derive(Clone, Copy)]
pub struct Moment {
    pub now: Now,
    pub instant: Instant,
}

impl Clock {
    pub fn new() -> Self {
        Self { start: Instant::now(), start_millis: 0 }
    }

    /// The same clock with a later count, so that times before the start are not negative.
    pub fn with_past(self) -> Self {
        Self { start_millis: PAST_MILLIS, ..self }
    }

    /// Microseconds from the start to `instant`, at least one.
    pub fn micros(&self, instant: Instant) -> u64 {
        instant.saturating_duration_since(self.start).as_micros().max(1) as u64
    }

    pub fn read(&self) -> Moment {
        let instant = Instant::now();
        let since_start = instant.saturating_duration_since(self.start).as_millis() as u64;
        let millis = self.start_millis + since_start;
        Moment { now: Now { millis, unix_micros: unix_micros() }, instant }
    }
}

impl Moment {
    pub fn tick(&self) -> Tick {
        (self.now.millis / TICK_MILLIS) as Tick
    }

    pub fn unix_millis(&self) -> i64 {
        self.now.unix_micros.div_euclid(1000)
    }

    pub fn stamp(&self) -> Stamp {
        Stamp::from_unix_millis(self.unix_millis())
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

/// Unix time in microseconds; a clock before 1970 counts as 1970.
pub fn unix_micros() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_micros() as i64
}
