//! The budget of the history: counts the bytes of all that is kept, pools batches, says when the oldest must go.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::stream::batch::{Batch, Run};
use crate::stream::topic::{ChunkPool, Keep, Log};

/// Frames of one batch, at most: what one read takes in.
const BATCH_BYTES_MAX: usize = 256 << 10;
/// The smallest buffer: one short event a turn must not cost more.
const BATCH_BYTES_MIN: usize = 512;
const CLASSES: usize = (BATCH_BYTES_MAX / BATCH_BYTES_MIN).ilog2() as usize + 1;

/// So many of the newest batches are never evicted: a watcher that keeps up must not be overtaken by eviction.
pub const NEWEST_KEPT: usize = 4;

pub struct History {
    /// `history_bytes`.
    limit: usize,
    /// Bytes of everything: batches, logs, kept events, pool. `used <= limit` after each turn, except for the newest
    /// batches.
    used: usize,
    /// The part of `used` in kept events.
    kept: usize,
    /// The part of `used` in pooled batches.
    pooled: usize,
    /// Bytes of frames in the other dialect, freed with recycled batches.
    dialect_freed: usize,
    /// Live batches, and the events in them.
    batches: usize,
    events: u64,
    pool: [Vec<Arc<Batch>>; CLASSES],
    /// Evicted batches that a shard still holds: no more than its channel has room for. They are not in `used`, or a
    /// slow shard would shorten the past of all watchers.
    retired: VecDeque<Arc<Batch>>,
    pub chunks: ChunkPool,
}

impl History {
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            used: 0,
            kept: 0,
            pooled: 0,
            dialect_freed: 0,
            batches: 0,
            events: 0,
            pool: Default::default(),
            retired: VecDeque::new(),
            chunks: ChunkPool::default(),
        }
    }

    /// Frames of one batch, at most: an eighth of the history.
    pub fn batch_bytes_max(&self) -> usize {
        BATCH_BYTES_MAX.min(self.limit / 8)
    }

    pub fn used(&self) -> usize {
        self.used
    }

    pub fn limit(&self) -> usize {
        self.limit
    }

    pub fn batches(&self) -> usize {
        self.batches
    }

    /// Events in live batches.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// An empty batch that nobody else holds, with room for `bytes` of frames. Beyond the largest class, the buffer is
    /// made to measure.
    pub fn take(&mut self, bytes: usize) -> Arc<Batch> {
        self.reclaim();
        let capacity = bytes.next_power_of_two().max(BATCH_BYTES_MIN);
        if let Some(class) = class_of(capacity)
            && let Some(batch) = self.pool[class].pop()
        {
            self.pooled -= batch.cost();
            self.used -= batch.cost();
            return batch;
        }
        let capacity = if capacity > BATCH_BYTES_MAX { bytes } else { capacity };
        Arc::new(Batch::with_capacity(capacity))
    }

    /// Takes back a batch that stayed empty.
    pub fn give_back(&mut self, batch: Arc<Batch>) {
        self.recycle(batch);
    }

    /// Counts a batch that is in the logs now.
    pub fn add_batch(&mut self, batch: &Batch) {
        self.used += batch.cost();
        self.batches += 1;
        self.events += batch.len() as u64;
    }

    /// Recycles a batch that has left the logs.
    pub fn remove_batch(&mut self, batch: Arc<Batch>) {
        self.batches -= 1;
        self.events -= batch.len() as u64;
        self.used -= batch.cost();
        self.recycle(batch);
    }

    pub fn add(&mut self, bytes: usize) {
        self.used += bytes;
    }

    pub fn sub(&mut self, bytes: usize) {
        self.used -= bytes;
    }

    /// Keeps a copy of event `seq` if it is in `run` and there is room. Returns `seq` then, else 0.
    pub(super) fn keep(&mut self, log: &mut Log, batch: &Batch, run: &Run, place: Keep, seq: u64) -> u64 {
        let first = batch.seq(run.first);
        if !(first..first + u64::from(run.count)).contains(&seq) {
            return 0;
        }
        let offset = (seq - first) as u32;
        let copy = batch.copy_event(run.first + offset, Run { at: run.at + u64::from(offset), ..*run });
        let cost = copy.cost();
        if !self.has_room_to_keep(cost) {
            return 0;
        }
        self.add_kept(cost);
        self.sub_kept(log.keep(place, copy));
        seq
    }

    /// Whether there is room for a kept event of `bytes`: all of them cost at most a quarter of the history.
    pub fn has_room_to_keep(&self, bytes: usize) -> bool {
        self.kept + bytes <= self.limit / 4
    }

    pub fn add_kept(&mut self, bytes: usize) {
        self.kept += bytes;
        self.used += bytes;
    }

    pub fn sub_kept(&mut self, bytes: usize) {
        self.kept -= bytes;
        self.used -= bytes;
    }

    /// Whether the oldest batch has to go. `elsewhere` is what others hold that counts as history.
    pub fn is_over(&self, elsewhere: usize) -> bool {
        self.batches > NEWEST_KEPT && self.taken_up() + elsewhere > self.limit
    }

    /// What counts against the limit. The pool counts with its full share, whether it is full or not. So a batch that
    /// goes there makes room at once; else eviction would move the whole past into the pool before it freed a byte.
    pub fn taken_up(&self) -> usize {
        self.used - self.pooled + self.pooled.max(self.pooled_max())
    }

    fn pooled_max(&self) -> usize {
        self.limit / 16
    }

    /// Bytes of the other dialect freed since the last call.
    pub fn take_dialect_freed(&mut self) -> usize {
        std::mem::take(&mut self.dialect_freed)
    }

    /// Recycles evicted batches that no shard holds any more.
    fn reclaim(&mut self) {
        for _ in 0..2 {
            let Some(batch) = self.retired.pop_front() else {
                return;
            };
            self.recycle(batch);
        }
    }

    fn recycle(&mut self, mut batch: Arc<Batch>) {
        let cost = batch.cost();
        // In a small history a batch may be larger than the pool's share: then it alone is the pool.
        let is_first = self.pooled == 0 && cost <= self.limit / 4;
        let has_room = is_first || self.pooled + cost <= self.pooled_max();
        match Arc::get_mut(&mut batch) {
            None => self.retired.push_back(batch),
            Some(free) => {
                self.dialect_freed += free.dialect_cost();
                free.clear();
                if let Some(class) = class_of(free.capacity())
                    && has_room
                {
                    self.pooled += cost;
                    self.used += cost;
                    self.pool[class].push(batch);
                }
            }
        }
    }
}

fn class_of(capacity: usize) -> Option<usize> {
    let is_class = capacity.is_power_of_two() && (BATCH_BYTES_MIN..=BATCH_BYTES_MAX).contains(&capacity);
    is_class.then(|| (capacity / BATCH_BYTES_MIN).ilog2() as usize)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::History;

    #[test]
    fn a_free_batch_is_reused_and_one_in_use_is_not() {
        let mut history = History::new(1 << 20);
        let batch = history.take(600);
        assert_eq!(batch.capacity(), 1024);
        history.add_batch(&batch);
        let held = batch.clone();
        let address = Arc::as_ptr(&batch);
        history.remove_batch(batch);
        assert_ne!(Arc::as_ptr(&history.take(600)), address, "a shard still holds it");
        drop(held);
        let _ = history.take(100_000);
        assert_eq!(Arc::as_ptr(&history.take(600)), address);
    }

    #[test]
    fn every_byte_is_counted_until_it_is_free() {
        let mut history = History::new(1 << 16);
        for bytes in [100, 5_000, 8_000, 3_000] {
            let batch = history.take(bytes);
            history.add_batch(&batch);
            history.remove_batch(batch);
        }
        assert!(history.used() <= (1 << 16) / 16, "{}", history.used());
        assert_eq!(history.batches(), 0);
    }
}
