//! Who is told of what arrives: batches mark cohorts, new types renew masks.

use crate::delivery::cursor::Cursor;
use crate::delivery::watcher::Watched;
use crate::delivery::watchers::Watchers;
use crate::stream::batch::Batch;
use crate::stream::link::Arrival;

impl Watchers {
    /// Marks what an arrival may bring something for.
    pub(super) fn mark(&mut self, arrival: &Arrival) {
        match arrival {
            Arrival::Batch(batch) => self.mark_batch(batch),
            Arrival::ScanAll => self.mark_all(),
        }
    }

    fn mark_batch(&mut self, batch: &Batch) {
        for run in batch.runs() {
            let Some(&Some(local)) = self.by_slot.get(run.topic.slot as usize) else {
                continue;
            };
            if self.topics[local].topic.key != run.topic {
                continue;
            }
            let topic = &self.topics[local];
            for &at in &topic.cohorts {
                let cohort = &mut self.cohorts[at];
                if cohort.selector.mask & run.types == 0 || cohort.is_marked {
                    continue;
                }
                cohort.is_marked = true;
                if !cohort.is_served {
                    // All that these members want and have not got begins here.
                    cohort.start = cohort.start.max(Cursor { index: run.at, seq: batch.seq(run.first) - 1 });
                    self.line.push_new(self.cohorts.key(at));
                }
            }
            for place in 0..topic.many.len() {
                let (watcher, subscription) = self.topics[local].many[place];
                self.mark_subscription(self.watchers.key(watcher), subscription);
            }
        }
    }

    fn mark_all(&mut self) {
        for (at, cohort) in self.cohorts.iter_mut() {
            if !cohort.is_marked {
                cohort.is_marked = true;
                if !cohort.is_served {
                    self.line.push_new(at);
                }
            }
        }
        let many = self.topics.iter().flat_map(|(_, topic)| topic.many.iter().copied());
        for (watcher, subscription) in many.collect::<Vec<_>>() {
            self.mark_subscription(self.watchers.key(watcher), subscription);
        }
    }

    /// Rows have been added to the table of types: each mask learns what its filter makes of them, and of nothing else.
    /// A cohort's members have one filter, so it stays one cohort.
    pub(super) fn renew_masks(&mut self) {
        self.types = self.directory.types.generation();
        let rows = self.directory.types.rows_from(self.rows);
        for (_, cohort) in self.cohorts.iter_mut() {
            cohort.selector.learn(self.rows, &rows);
        }
        for (_, watcher) in self.watchers.iter_mut() {
            if let Watched::MultiJob(many) = &mut watcher.watched {
                many.selector.learn(self.rows, &rows);
            }
        }
        self.rows += rows.len();
    }
}
