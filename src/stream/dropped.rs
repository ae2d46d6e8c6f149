//! The last number of each dropped topic, by name, in memory of a fixed size.
//!
//! This is a count-min sketch (Cormode and Muthukrishnan 2005) with the maximum in place of the sum. A name has one
//! cell in each of four rows; the least of its four cells is its number. That is never below the true number: nothing
//! dropped is ever denied. It is above it only if names with greater numbers share all four cells. After a thousand
//! names were dropped behind a number, one other name in 70,000 seems dropped there too.

use std::hash::BuildHasher;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use foldhash::fast::FixedState;

use crate::stream::topic::TopicKind;

const ROWS: usize = 4;
/// Cells of eight bytes in a row: 512 KiB in all, allocated when the first topic is dropped.
const CELLS: usize = 1 << 14;
/// The same in every run, since a snapshot keeps the cells.
const SEED: u64 = 0x6c75_7863_6173_7421;

#[derive(Default)]
pub struct Dropped {
    /// Any topic may have been dropped with a number up to here.
    floor: AtomicU64,
    cells: OnceLock<Box<[AtomicU64]>>,
}

impl Dropped {
    /// Takes over what an earlier run knew: nothing up to `floor`, and the cells beyond that.
    pub fn restore(floor: u64, cells: &[(u32, u64)]) -> Self {
        let dropped = Self { floor: AtomicU64::new(floor), cells: OnceLock::new() };
        for &(place, seq) in cells {
            if let Some(cell) = dropped.cells().get(place as usize) {
                cell.store(seq, Ordering::Relaxed);
            }
        }
        dropped
    }

    /// The floor and the cells in use.
    pub fn save(&self) -> (u64, Vec<(u32, u64)>) {
        let cells = self.cells.get().into_iter().flat_map(|cells| cells.iter().enumerate());
        let used = cells.map(|(place, cell)| (place as u32, cell.load(Ordering::Relaxed)));
        (self.floor.load(Ordering::SeqCst), used.filter(|&(_, seq)| seq > 0).collect())
    }

    /// Notes that a topic with the last number `seq` was dropped.
    pub fn note(&self, kind: TopicKind, name: &str, seq: u64) {
        let cells = self.cells();
        for place in places(kind, name) {
            cells[place].fetch_max(seq, Ordering::SeqCst);
        }
    }

    /// The last number that a dropped topic of this name may have had; 0: none was dropped.
    pub fn last(&self, kind: TopicKind, name: &str) -> u64 {
        let known = match self.cells.get() {
            Some(cells) => places(kind, name).map(|place| cells[place].load(Ordering::SeqCst)).min(),
            None => None,
        };
        known.unwrap_or(0).max(self.floor.load(Ordering::SeqCst))
    }

    fn cells(&self) -> &[AtomicU64] {
        self.cells.get_or_init(|| (0..ROWS * CELLS).map(|_| AtomicU64::new(0)).collect())
    }
}

/// The cells of a name, one in each row.
fn places(kind: TopicKind, name: &str) -> impl Iterator<Item = usize> {
    let hash = FixedState::with_seed(SEED).hash_one((kind == TopicKind::Flow, name));
    // Two halves of one hash make as many hashes as needed (Kirsch and Mitzenmacher 2006).
    let (first, step) = (hash as u32, (hash >> 32) as u32 | 1);
    (0..ROWS).map(move |row| row * CELLS + first.wrapping_add(step.wrapping_mul(row as u32)) as usize % CELLS)
}

#[cfg(test)]
mod tests {
    use super::{Dropped, TopicKind};

    #[test]
    fn nothing_dropped_is_denied_and_little_else_is_suspected() {
        let dropped = Dropped::default();
        assert_eq!(dropped.last(TopicKind::Job, "a"), 0);
        for n in 0..1000 {
            dropped.note(TopicKind::Job, &format!("job-{n}"), 5_000 + n);
        }
        for n in 0..1000 {
            assert!(dropped.last(TopicKind::Job, &format!("job-{n}")) >= 5_000 + n);
        }
        let suspected = (0..1000).filter(|n| dropped.last(TopicKind::Job, &format!("other-{n}")) > 0);
        assert!(suspected.count() <= 2);
        let flows = (0..1000).filter(|n| dropped.last(TopicKind::Flow, &format!("job-{n}")) > 0);
        assert!(flows.count() <= 2, "a flow is not the job of its name");
    }

    #[test]
    fn the_greatest_number_counts_and_a_snapshot_keeps_it() {
        let dropped = Dropped::default();
        dropped.note(TopicKind::Job, "a", 9);
        dropped.note(TopicKind::Job, "a", 7);
        dropped.note(TopicKind::Flow, "b", 8);
        let (floor, cells) = dropped.save();
        let restored = Dropped::restore(floor, &cells);
        assert_eq!(restored.last(TopicKind::Job, "a"), 9);
        assert_eq!(restored.last(TopicKind::Flow, "b"), 8);
        assert_eq!(restored.last(TopicKind::Job, "b"), 0);
        assert_eq!(Dropped::restore(5, &cells).last(TopicKind::Job, "b"), 5);
    }
}
