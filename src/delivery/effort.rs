//! Effort: what a shard has spent on deliveries. It decides when the next cohort or watcher has its turn.

/// Effort for one cohort before the next one in the run queue has its turn, and before sockets are looked after:
/// about half a millisecond to a millisecond.
pub const EFFORT_PER_PORTION: u64 = 128;
/// A send counts once, and once more for each 64 KiB, up to this.
const EFFORT_PER_SEND_MAX: u64 = 4;
/// Effort for lone watchers before a marked cohort has its turn: a quiet job waits for a few watchers that read a long
/// past, not for all of them.
pub const EFFORT_FOR_LONE_WATCHERS: u64 = 32;
const BYTES_PER_EFFORT: usize = 64 << 10;

/// Bytes that are compressed for what a small send costs.
const BYTES_COMPRESSED_PER_EFFORT: usize = 8 << 10;

/// What a step of a search costs; a small send costs 1.
const EFFORT_PER_SEARCH: u64 = 16;

/// Jobs of a watcher of many that are looked at in the past for what a small send costs.
const JOBS_PER_EFFORT: usize = 32;

/// It only grows; only differences have a meaning.
#[derive(Clone, Copy, Debug, Default)]
pub struct Effort {
    sends: u64,
    spent: u64,
}

impl Effort {
    /// Adds a send of `bytes` bytes.
    pub fn add_send(&mut self, bytes: usize) {
        self.sends += 1;
        self.spent += (1 + (bytes / BYTES_PER_EFFORT) as u64).min(EFFORT_PER_SEND_MAX);
    }

    /// Adds the compressing of so many bytes.
    pub fn add_compressed(&mut self, bytes: usize) {
        self.spent += bytes.div_ceil(BYTES_COMPRESSED_PER_EFFORT) as u64;
    }

    /// Adds a step of the search for a watcher's first place.
    pub fn add_search(&mut self) {
        self.spent += EFFORT_PER_SEARCH;
    }

    /// Adds a look at so many jobs of one watcher.
    pub fn add_jobs(&mut self, count: usize) {
        self.spent += (count / JOBS_PER_EFFORT) as u64;
    }

    pub fn sends(&self) -> u64 {
        self.sends
    }

    pub fn spent(&self) -> u64 {
        self.spent
    }
}

#[cfg(test)]
mod tests {
    use super::Effort;

    #[test]
    fn a_large_send_counts_up_to_four_times() {
        let mut effort = Effort::default();
        let spent = [0, 1, 65_535, 65_536, 200_000, 10_000_000].map(|bytes| {
            let before = effort.spent();
            effort.add_send(bytes);
            effort.spent() - before
        });
        assert_eq!(spent, [1, 1, 1, 2, 4, 4]);
        assert_eq!(effort.sends(), 6);
    }
}
