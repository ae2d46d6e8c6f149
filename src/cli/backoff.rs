//! How long to wait before connecting again.

use std::time::Duration;

/// The wait before the first new attempt; it doubles with each failure.
const BACKOFF_FIRST: Duration = Duration::from_millis(500);
const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// The longest wait that the daemon can ask for.
const REQUESTED_MAX: Duration = Duration::from_secs(300);

/// Doubling waits, spread at random so that clients do not all return together.
#[derive(Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The next wait: what the daemon requested and a little more, else between half and all of the doubled wait.
    /// `random` is in 0.0..1.0.
    pub fn next(&mut self, requested: Option<Duration>, random: f64) -> Duration {
        if let Some(requested) = requested {
            return requested.min(REQUESTED_MAX) + BACKOFF_FIRST.mul_f64(random);
        }
        let whole = BACKOFF_FIRST.saturating_mul(1 << self.failures.min(16)).min(BACKOFF_MAX);
        self.failures += 1;
        whole.mul_f64(0.5 + random / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{BACKOFF_FIRST, BACKOFF_MAX, Backoff, REQUESTED_MAX};

    #[test]
    fn waits_double_within_bounds() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.next(None, 0.0), BACKOFF_FIRST / 2);
        assert_eq!(backoff.next(None, 0.0), BACKOFF_FIRST);
        assert_eq!(backoff.next(None, 0.5), BACKOFF_FIRST * 3);
        let requested = Duration::from_millis(700);
        assert_eq!(backoff.next(Some(requested), 0.0), requested);
        assert!(backoff.next(Some(Duration::MAX), 0.9) < REQUESTED_MAX + BACKOFF_FIRST);
        for _ in 0..100 {
            let wait = backoff.next(None, fastrand::f64());
            assert!(wait >= BACKOFF_FIRST && wait <= BACKOFF_MAX);
        }
    }
}
