//! A token bucket: a rate limit that allows bursts.

use crate::close::CloseReason;
use crate::tick::{TICK_MILLIS, Tick, is_reached};

/// A bucket of at most `burst` tokens that fills at the allowed rate. Each use takes one.
#[derive(Clone, Copy, Debug)]
pub struct TokenBucket {
    /// In thousandths of a token: each millisecond brings as many of these as a second brings tokens. `<= burst *
    /// 1000 <= u32::MAX`
    credit: u32,
    filled_at: Tick,
}

const TOKEN: u32 = 1000;

impl TokenBucket {
    pub fn new(burst: u32, now: Tick) -> Self {
        Self { credit: burst * TOKEN, filled_at: now }
    }

    /// Takes one token.
    pub fn spend(&mut self, now: Tick, per_second: u32, burst: u32) -> Result<(), CloseReason> {
        let credit = self.credit_at(now, per_second, burst);
        // Another thread's clock may be a little behind.
        if is_reached(self.filled_at, now) {
            self.filled_at = now;
        }
        self.credit = credit;
        self.credit = credit.checked_sub(TOKEN).ok_or(CloseReason::Flood)?;
        Ok(())
    }

    /// Whether all tokens are back.
    pub fn is_full(&self, now: Tick, per_second: u32, burst: u32) -> bool {
        self.credit_at(now, per_second, burst) == burst * TOKEN
    }

    fn credit_at(&self, now: Tick, per_second: u32, burst: u32) -> u32 {
        let ticks = if is_reached(self.filled_at, now) { now.wrapping_sub(self.filled_at) } else { 0 };
        let fresh = u64::from(ticks) * TICK_MILLIS * u64::from(per_second);
        (u64::from(self.credit) + fresh).min(u64::from(burst * TOKEN)) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::TokenBucket;
    use crate::close::CloseReason;

    #[test]
    fn a_burst_is_allowed_and_then_the_rate() {
        let mut bucket = TokenBucket::new(4, 0);
        for _ in 0..4 {
            assert_eq!(bucket.spend(0, 50, 4), Ok(()));
        }
        assert_eq!(bucket.spend(0, 50, 4), Err(CloseReason::Flood));
        assert_eq!(bucket.spend(1, 50, 4), Ok(()), "50 a second are one a tick");
        assert_eq!(bucket.spend(1, 50, 4), Err(CloseReason::Flood));
        for _ in 0..4 {
            assert_eq!(bucket.spend(1000, 50, 4), Ok(()));
        }
        assert_eq!(bucket.spend(1000, 50, 4), Err(CloseReason::Flood));
    }

    #[test]
    fn no_rate_loses_what_a_tick_brings_beyond_whole_tokens() {
        for per_second in [1, 3, 49, 50, 60, 99, 200, 1_000_000] {
            let mut bucket = TokenBucket::new(per_second, 0);
            let mut spent = 0;
            for tick in 0..=500 {
                while bucket.spend(tick, per_second, per_second).is_ok() {
                    spent += 1;
                }
            }
            assert_eq!(spent, per_second * 11, "the burst of one second, and ten seconds");
        }
    }

    #[test]
    fn it_is_full_again_after_a_second_of_rest() {
        let mut bucket = TokenBucket::new(10, 0);
        assert!(bucket.is_full(0, 10, 10));
        (0..10).for_each(|_| bucket.spend(0, 10, 10).unwrap());
        assert!(!bucket.is_full(49, 10, 10));
        assert!(bucket.is_full(50, 10, 10));
        assert!(bucket.is_full(0, 0, 0), "without a rate there is nothing to remember");
    }
}
