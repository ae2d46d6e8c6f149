//! Which types all masks of a shard are made of, and how they learn of new ones.

use crate::delivery::cohort::Cohort;
use crate::delivery::table::Table;
use crate::delivery::watcher::{Watched, Watcher};
use crate::event::TypeTable;

/// Where the table of types stood when the masks were made.
#[derive(Clone, Copy, Debug)]
pub struct Masks {
    generation: u64,
    rows: usize,
}

impl Masks {
    pub fn new(types: &TypeTable) -> Self {
        Self { generation: types.generation(), rows: types.rows_from(0).len() }
    }

    /// Rows have been added since.
    pub fn are_stale(&self, types: &TypeTable) -> bool {
        self.generation != types.generation()
    }

    /// Each mask learns what its filter makes of the rows added since, and of nothing else. A cohort's members have one
    /// filter, so it stays one cohort.
    pub fn renew(&mut self, types: &TypeTable, cohorts: &mut Table<Cohort>, watchers: &mut Table<Watcher>) {
        self.generation = types.generation();
        let rows = types.rows_from(self.rows);
        for (_, cohort) in cohorts.iter_mut() {
            cohort.selector.learn(self.rows, &rows);
        }
        for (_, watcher) in watchers.iter_mut() {
            if let Watched::MultiJob(many) = &mut watcher.watched {
                many.selector.learn(self.rows, &rows);
            }
        }
        self.rows += rows.len();
    }
}
