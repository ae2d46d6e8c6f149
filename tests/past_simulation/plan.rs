//! The kind of schedule that a seed makes: how many of everything, how large, how often.

use crate::simulated::rng::Rng;
use crate::simulated::socket_plan::SocketPlan;

#[derive(Clone, Debug)]
pub struct Plan {
    pub shards: usize,
    /// Batches that a shard's channel holds.
    pub channel: usize,
    pub history_bytes: usize,
    /// `bus_past_bytes`.
    pub window_bytes: usize,
    pub jobs: usize,
    pub flows: usize,
    /// Messages that the stream had before the daemon began, and those of them that it has in memory.
    pub before: usize,
    pub in_memory: usize,
    /// Messages that come later.
    pub messages: usize,
    pub lines_max: usize,
    pub operations: usize,
    pub watchers_max: usize,
    /// Chance that something else happens, wherever it can come between.
    pub interleave_percent: usize,
    /// Chance that memory does nothing when it could: then passes are ahead of it.
    pub memory_rest_percent: usize,
    /// Steps of the others in one operation, at most.
    pub steps_max: usize,
    /// Milliseconds that pass in one operation, at most.
    pub millis_max: usize,
    pub pad_max: usize,
    pub pad_percent: usize,
    pub new_type_percent: usize,
    pub sockets: SocketPlan,
    pub filter_percent: usize,
    /// Chance that a watcher is one of many jobs.
    pub many_percent: usize,
    /// Watchers whose stream is an HTTP answer, of those of one topic.
    pub http_percent: usize,
    /// Of the other watchers, those that compression was agreed on with.
    pub compressed_percent: usize,
    /// Chance that a shard still rests from what it has sent of the past.
    pub rest_percent: usize,
    /// Topics that have ended are dropped from memory after so long.
    pub history_millis: u64,
    /// Chance that a message is lost before anybody has read it.
    pub hole_percent: usize,
    /// Chance that an operation drops the oldest messages of the stream.
    pub retention_percent: usize,
    /// Messages that one pass may read (`bus_replay_bytes`).
    pub replay: u64,
    /// Chance that a pass fails with the next thing that it would bring.
    pub fail_percent: usize,
    /// Bytes that a pass has on the way.
    pub credit: u64,
    /// Chance that an operation begins a new epoch of the stream, whose end is lost.
    pub epoch_percent: usize,
}

impl Plan {
    pub fn new(rng: &mut Rng) -> Self {
        let size = *rng.pick(&[0, 0, 0, 1, 1, 1, 2, 2, 3]);
        let before = rng.below([20, 60, 150, 300][size]);
        let may_lose = rng.chance(60);
        let lossy = |rng: &mut Rng, choices: &[usize]| if may_lose { *rng.pick(choices) } else { 0 };
        Self {
            shards: rng.between(1, 3),
            channel: *rng.pick(&[1, 2, 8, 64]),
            history_bytes: *rng.pick(&[8, 8, 8, 16, 32]) << 10,
            window_bytes: *rng.pick(&[8, 8, 16, 16, 32, 128]) << 10,
            jobs: rng.between(1, 4),
            flows: rng.below(3),
            before,
            in_memory: rng.below(8).min(before),
            messages: [10, 40, 80, 200][size],
            lines_max: *rng.pick(&[1, 3, 10]),
            operations: [20, 60, 120, 250][size],
            watchers_max: *rng.pick(&[1, 2, 4, 8, 12]),
            interleave_percent: *rng.pick(&[5, 20, 50, 70]),
            memory_rest_percent: *rng.pick(&[0, 0, 0, 50, 95]),
            steps_max: *rng.pick(&[10, 40, 100]),
            millis_max: *rng.pick(&[5, 50, 300, 3000]),
            pad_max: *rng.pick(&[20, 200, 900]),
            pad_percent: *rng.pick(&[0, 30, 90]),
            new_type_percent: *rng.pick(&[0, 0, 5, 20]),
            sockets: SocketPlan::new(rng),
            filter_percent: *rng.pick(&[0, 30, 60]),
            many_percent: *rng.pick(&[0, 30, 30, 100]),
            http_percent: *rng.pick(&[0, 30, 70]),
            compressed_percent: *rng.pick(&[0, 60, 90]),
            rest_percent: *rng.pick(&[0, 50, 80]),
            history_millis: *rng.pick(&[1 << 40, 1 << 40, 1_000]),
            hole_percent: lossy(rng, &[0, 0, 3, 20]),
            retention_percent: lossy(rng, &[0, 0, 5, 20]),
            replay: if may_lose && rng.chance(30) { rng.between(1, 60) as u64 } else { u64::MAX },
            fail_percent: *rng.pick(&[0, 0, 0, 2, 10]),
            credit: *rng.pick(&[1, 2_000, 20_000, 1 << 20]),
            epoch_percent: lossy(rng, &[0, 0, 0, 2]),
        }
    }

    /// Type of the next event. Some come up late.
    pub fn kind(&self, rng: &mut Rng, new_types: &mut usize) -> String {
        if *new_types < 90 && rng.chance(self.new_type_percent) {
            *new_types += 1;
            return format!("new_{new_types}");
        }
        match rng.below(8) {
            0 if *new_types > 0 => format!("new_{}", rng.between(1, *new_types)),
            1 => "job_completed".to_owned(),
            2 => "routine_started".to_owned(),
            3 | 4 => "custom_b".to_owned(),
            _ => "custom_a".to_owned(),
        }
    }

    /// Names for a filter: some are not seen yet, some never will be.
    pub fn names(&self, rng: &mut Rng) -> Vec<String> {
        const NAMES: [&str; 5] = ["custom_a", "custom_b", "job_completed", "routine_started", "never_seen"];
        let name = |rng: &mut Rng| match self.new_type_percent > 0 && rng.chance(50) {
            true => format!("new_{}", rng.between(1, 90)),
            false => (*rng.pick(&NAMES)).to_owned(),
        };
        (0..rng.below(4)).map(|_| name(rng)).collect()
    }
}
