//! When a connection's heartbeats are due, and how long its client has been silent.

use crate::tick::{Tick, is_reached};

/// The golden ratio, as a part of the interval, spreads any number of connections evenly over it.
const STEP: u32 = 0x9e37_79b9;
/// The square root of two keeps the connections of different shards apart: no multiple of one step is near one of the
/// other.
const SHARD_STEP: u32 = 0x6a09_e667;

/// Spreads the heartbeats of a shard's connections over the interval, whatever comes when.
pub struct Spread(u32);

impl Spread {
    /// Each shard begins elsewhere.
    pub fn new(shard: usize) -> Self {
        Self(SHARD_STEP.wrapping_mul(shard as u32))
    }

    /// Ticks until the first heartbeat of a connection that opens now: 1 to `interval`.
    pub fn first(&mut self, interval: Tick) -> Tick {
        self.0 = self.0.wrapping_add(STEP);
        ((u64::from(interval) * u64::from(self.0)) >> 32) as Tick + 1
    }
}

/// When the heartbeat after the one due at `due` is due. It keeps its place in the interval, unless this one comes so
/// late that the next is due as well.
pub fn next(due: Tick, interval: Tick, now: Tick) -> Tick {
    let next = due.wrapping_add(interval);
    if is_reached(next, now) { now.wrapping_add(interval) } else { next }
}

/// How long nothing has come from a client: the ends of heartbeat intervals since its last byte. The first one ends an
/// interval in which something came.
#[derive(Default)]
pub struct Silence(u16);

impl Silence {
    /// Something came from the client.
    pub fn end(&mut self) {
        self.0 = 0;
    }

    /// An interval is over. Returns whether the client has been silent for `intervals_max` whole ones.
    pub fn is_too_long(&mut self, intervals_max: u16) -> bool {
        let is_too_long = self.0 >= intervals_max;
        self.0 = self.0.saturating_add(1);
        is_too_long
    }
}

#[cfg(test)]
mod tests {
    use super::{Silence, Spread, next};

    #[test]
    fn first_heartbeats_fill_the_interval_evenly() {
        let mut spread = Spread::new(1);
        let mut tenths = [0; 10];
        for _ in 0..10_000 {
            let first = spread.first(1_500);
            assert!((1..=1_500).contains(&first));
            tenths[(first as usize - 1) / 150] += 1;
        }
        assert!(tenths.iter().all(|count| (950..1_050).contains(count)), "{tenths:?}");
        assert_eq!(Spread::new(0).first(1), 1);
    }

    #[test]
    fn connections_of_different_shards_do_not_tick_together() {
        for shards in [2, 3, 4, 8, 64] {
            let interval = 1 << 24;
            let of_shard = |shard| {
                let mut spread = Spread::new(shard);
                (0..8).map(move |_| spread.first(interval))
            };
            let mut all: Vec<u32> = (0..shards).flat_map(of_shard).collect();
            all.sort_unstable();
            let even = interval / all.len() as u32;
            let nearest = all.windows(2).map(|two| two[1] - two[0]).min().unwrap();
            let farthest = all.windows(2).map(|two| two[1] - two[0]).max().unwrap();
            assert!(nearest > even / 20 && farthest < 4 * even, "{shards}: {nearest}, {farthest} of {even}");
        }
    }

    #[test]
    fn a_heartbeat_keeps_its_place_unless_it_is_a_whole_interval_late() {
        assert_eq!(next(100, 50, 100), 150);
        assert_eq!(next(100, 50, 149), 150);
        assert_eq!(next(100, 50, 150), 200);
        assert_eq!(next(100, 50, 1_000), 1_050);
        assert_eq!(next(u32::MAX, 50, u32::MAX), 49, "ticks wrap around");
    }

    #[test]
    fn silence_counts_whole_intervals_and_ends_with_a_byte() {
        let mut silence = Silence::default();
        assert!(!silence.is_too_long(2), "the first interval began with the request");
        assert!(!silence.is_too_long(2));
        silence.end();
        assert!(!silence.is_too_long(2));
        assert!(!silence.is_too_long(2));
        assert!(silence.is_too_long(2));
        let is_too_long = |_: &u32| silence.is_too_long(u16::MAX);
        assert_eq!((3..=70_000).find(is_too_long), Some(65_535), "the longest that can be set");
    }
}
