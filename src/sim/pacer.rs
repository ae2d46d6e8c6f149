//! Computes how many events are due: an even rate, however irregularly it is asked.

use std::time::Duration;

/// Events are made in batches, so that a high rate does not cost one wake-up an event.
const PORTION: Duration = Duration::from_millis(2);

/// Lateness beyond this is dropped and not made up for: a stall is not followed by a burst. It covers the delays of a
/// busy machine's scheduler.
const LATENESS_MAX: Duration = Duration::from_millis(20);

/// A rate and the part of it still owed. It has no clock; the caller says how much time has passed.
#[derive(Debug)]
pub struct Pacer {
    per_second: f64,
    /// The part of the next event that is already due; `0.0 <= owed <= 1.0`.
    owed: f64,
    /// The duration that `wait` returned.
    asked: Duration,
}

impl Pacer {
    /// `per_second` is finite and greater than 0. The first event is due at once.
    pub fn new(per_second: f64) -> Pacer {
        assert!(per_second.is_finite() && per_second > 0.0, "a rate of {per_second} events");
        Pacer { per_second, owed: 1.0, asked: Duration::ZERO }
    }

    /// How many events are due now, after `passed` since the last call.
    pub fn take(&mut self, passed: Duration) -> u64 {
        let counted = passed.min(self.asked + LATENESS_MAX);
        let due = self.owed + counted.as_secs_f64() * self.per_second;
        self.owed = due.fract();
        due as u64
    }

    /// How long to wait before the next `take`.
    pub fn wait(&mut self) -> Duration {
        let until_next = (1.0 - self.owed) / self.per_second;
        // A rate of one event in a thousand years must not panic.
        let until_next = Duration::try_from_secs_f64(until_next).unwrap_or(Duration::MAX / 2);
        self.asked = until_next.max(PORTION);
        self.asked
    }
}

#[cfg(test)]
mod tests {
    use super::Pacer;
    use std::time::Duration;

    /// Counts the events taken in this time, with each call late by `late`.
    fn events_in(seconds: f64, per_second: f64, late: Duration) -> u64 {
        let mut pacer = Pacer::new(per_second);
        let (mut time, mut events) = (0.0, pacer.take(Duration::ZERO));
        while time < seconds {
            let passed = pacer.wait() + late;
            time += passed.as_secs_f64();
            events += pacer.take(passed);
        }
        events
    }

    #[test]
    fn the_rate_is_kept_although_each_wake_up_is_late() {
        for per_second in [0.5, 1.0, 7.0, 100.0, 333.3, 5_000.0, 1e6] {
            for late in [Duration::ZERO, Duration::from_micros(100), Duration::from_millis(3)] {
                let events = events_in(100.0, per_second, late) as f64;
                let expected = per_second * 100.0;
                let is_near = (events - expected).abs() <= expected * 0.001 + 1.0;
                assert!(is_near, "{per_second} a second, {late:?} late: {events}");
            }
        }
    }

    #[test]
    fn a_stall_is_not_made_up_for() {
        for per_second in [1.0, 1_000.0, 100_000.0] {
            let mut pacer = Pacer::new(per_second);
            pacer.take(Duration::ZERO);
            let asked = pacer.wait();
            let most = per_second * (asked.as_secs_f64() + 0.020) + 1.0;
            assert!(pacer.take(Duration::from_secs(3_600)) as f64 <= most, "{per_second}");
        }
    }

    #[test]
    fn slow_rates_are_even() {
        let mut pacer = Pacer::new(100.0);
        assert_eq!(pacer.take(Duration::ZERO), 1);
        for _ in 0..1_000 {
            let wait = pacer.wait();
            let events = pacer.take(wait);
            assert!(events <= 1, "{events}");
        }
    }

    #[test]
    fn a_tiny_rate_only_waits() {
        let mut pacer = Pacer::new(1e-300);
        assert_eq!(pacer.take(Duration::ZERO), 1);
        assert!(pacer.wait() > Duration::from_secs(1 << 40));
    }
}
