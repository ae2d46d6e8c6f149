//! What one schedule may do, and how often.

use crate::rng::Rng;

#[derive(Clone, Debug)]
pub struct Plan {
    /// How long things go wrong.
    pub chaos_millis: u64,
    /// One way between a daemon and the server, at most.
    pub delay_max: usize,
    /// The server knows ids again for so long.
    pub window_millis: u64,
    pub history_millis: u64,
    /// Daemons have their sequencers.
    pub is_real: bool,
    /// Each of them knows a few jobs only, and so the flows of others than the rest.
    pub forgets_flows: bool,
    /// Watchers that hop between them.
    pub hoppers: usize,
    pub chunk_bytes_max: usize,
    /// The percentage of publishers that have a name.
    pub named_percent: usize,
    /// The names; with one, several daemons have lines of it.
    pub names: usize,
    pub publishers: usize,
    pub lines_max: usize,
    /// Of a thousand publishes: lost, their answers lost, copied late, refused, falsely called duplicates.
    pub lost: usize,
    pub answer_lost: usize,
    pub late: usize,
    pub failed: usize,
    pub false_duplicate: usize,
    /// Late copies may come when the server has forgotten the id.
    pub is_wild: bool,
    /// And when the daemons have forgotten the publisher: then lines come twice, but at all daemons alike.
    pub is_ancient: bool,
    /// Of a thousand deliveries: passed over as if deleted, lost on the way, sent twice.
    pub skipped: usize,
    pub dropped: usize,
    pub repeated: usize,
    /// Of a thousand steps of the world, each a fault.
    pub faults: usize,
    /// Faults that take messages away again after they were read.
    pub loses_tail: bool,
    pub replaces_stream: bool,
    pub deletes: bool,
    pub kills: bool,
    /// Of a thousand steps of the world: messages of other programs, and the percentage of them that no consumer can bring.
    pub foreign: usize,
    pub odd_percent: usize,
    /// Questions are answered by a server that lags.
    pub stale: usize,
}

impl Plan {
    pub fn new(rng: &mut Rng) -> Self {
        let is_calm = rng.chance(15);
        let rate = |rng: &mut Rng, most: usize| if is_calm || rng.chance(40) { 0 } else { rng.below(most) };
        let window_millis = *rng.pick(&[16_000, 30_000, 120_000]);
        let names = rng.between(1, 3);
        let named_percent = *rng.pick(&[0, 50, 100, 100]);
        let loses_tail = rng.chance(30);
        let histories = window_millis * *rng.pick(&[2, 5]);
        let is_real = rng.chance(25);
        let forgets_flows = is_real && rng.chance(40);
        let is_wild = rng.chance(25);
        // Where the message passed on last was deleted, nobody can tell it from another one.
        let deletes = !loses_tail && rng.chance(40);
        let plan = Self {
            chaos_millis: *rng.pick(&[2_000, 5_000, 10_000, 20_000, 40_000]),
            delay_max: *rng.pick(&[2, 20, 400]),
            window_millis,
            is_real,
            forgets_flows,
            hoppers: if is_real && !forgets_flows { rng.between(1, 5) } else { 0 },
            // Who was silent for longer, and comes back, has to know where it was. Nor does a daemon know its chunk again
            // that was deleted unread.
            history_millis: if named_percent > 0 || deletes { 1_000_000 } else { histories },
            chunk_bytes_max: *rng.pick(&[100, 300, 1_000]),
            named_percent,
            names,
            publishers: rng.between(1, 4),
            lines_max: *rng.pick(&[1, 4, 9]),
            lost: rate(rng, 300),
            answer_lost: rate(rng, 300),
            late: rate(rng, 300),
            failed: rate(rng, 300),
            false_duplicate: rate(rng, 200),
            is_wild,
            is_ancient: is_wild && named_percent == 0 && rng.chance(50),
            skipped: rate(rng, 50),
            dropped: rate(rng, 50),
            repeated: rate(rng, 50),
            faults: if is_calm { 0 } else { *rng.pick(&[0, 5, 20, 60]) },
            loses_tail,
            replaces_stream: rng.chance(8),
            deletes,
            kills: rng.chance(50),
            stale: rate(rng, 200),
            foreign: *rng.pick(&[5, 5, 50]),
            odd_percent: *rng.pick(&[0, 30, 100]),
        };
        if rng.chance(10) { plan.contested() } else { plan }
    }

    /// How many jobs a run of a daemon can know.
    pub fn jobs_max(&self, daemon: usize, life: u64) -> usize {
        if self.forgets_flows { 1 + (daemon + life as usize) % 3 } else { 1 << 20 }
    }

    /// All publishers have one name, and daemons that are cut off come back with chunks of which others sent a part.
    fn contested(self) -> Self {
        Self {
            chaos_millis: 40_000,
            delay_max: 20,
            window_millis: 16_000,
            history_millis: 1_000_000,
            named_percent: 100,
            names: 1,
            publishers: 4,
            failed: 250,
            false_duplicate: 0,
            is_wild: false,
            is_ancient: false,
            faults: 60,
            loses_tail: false,
            replaces_stream: false,
            deletes: false,
            kills: false,
            stale: 0,
            ..self
        }
    }
}
