//! Keeps all masks of a shard up to date with the table of types.

use crate::delivery::cohort::Cohort;
use crate::delivery::table::Table;
use crate::delivery::watcher::{Watched, Watcher};
use crate::event::TypeTable;

/// The state of the table of types that the masks were made for.
#[derive(Clone, Copy, Debug)]
pub struct Masks {
    generation: u64,
    rows: usize,
}

impl Masks {
    pub fn new(types: &TypeTable) -> Self {
        Self { generation: types.generation(), rows: types.rows_from(0).len() }
    }

    /// Whether rows were added since.
    pub fn are_stale(&self, types: &TypeTable) -> bool {
        self.generation != types.generation()
    }

    /// Lets each mask judge the rows added since, and no others. A cohort's members have one filter, so they stay one
    /// cohort.
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
