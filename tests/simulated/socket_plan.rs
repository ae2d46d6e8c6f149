//! What sockets do in one schedule: how much they take, and how often a write does not go as it might.

use super::rng::Rng;

#[derive(Clone, Copy, Debug)]
pub struct SocketPlan {
    /// Bytes that a socket takes before its reader has read, on average.
    pub bytes: usize,
    pub short_percent: usize,
    pub interrupted_percent: usize,
    /// Chance that the shard has to look after its sockets again.
    pub time_up_percent: usize,
    pub stage_percent: usize,
}

impl SocketPlan {
    pub fn new(rng: &mut Rng) -> Self {
        Self {
            bytes: *rng.pick(&[20, 300, 2000, 20_000, 1 << 20]),
            short_percent: *rng.pick(&[0, 5, 30]),
            interrupted_percent: *rng.pick(&[0, 0, 3, 20]),
            time_up_percent: *rng.pick(&[0, 10, 50]),
            stage_percent: *rng.pick(&[0, 50, 100]),
        }
    }

    /// How much there is room for, in a new socket or in one whose reader reads.
    pub fn room(&self, rng: &mut Rng) -> usize {
        match rng.below(5) {
            0 => 0,
            1 => rng.below(64),
            2 => 1 << 30,
            _ => rng.below(2 * self.bytes),
        }
    }
}
