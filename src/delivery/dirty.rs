//! Marks what an arrival may have events for: cohorts, and subscriptions of watchers of many jobs.

use crate::delivery::cursor::Cursor;
use crate::delivery::watchers::Watchers;
use crate::stream::batch::Batch;
use crate::stream::link::Arrival;

impl Watchers {
    /// Marks the cohorts and subscriptions that this arrival may have events for.
    pub(super) fn mark(&mut self, arrival: &Arrival) {
        match arrival {
            Arrival::Batch(batch) => self.mark_batch(batch),
            Arrival::ScanAll => self.mark_all(),
        }
    }

    fn mark_batch(&mut self, batch: &Batch) {
        for run in batch.runs() {
            let Some(local) = self.audience.find(run.topic) else {
                continue;
            };
            let topic = &self.audience.topics[local];
            for &at in &topic.cohorts {
                let cohort = &mut self.audience.cohorts[at];
                if cohort.selector.mask & run.types == 0 || cohort.is_marked {
                    continue;
                }
                cohort.is_marked = true;
                if !cohort.is_served {
                    // Before this run, members have all they want.
                    cohort.start = cohort.start.max(Cursor { index: run.at, seq: batch.seq(run.first) - 1 });
                    self.cohort_queue.push_new(self.audience.cohorts.key(at));
                }
            }
            for place in 0..topic.many.len() {
                let (watcher, subscription) = self.audience.topics[local].many[place];
                self.mark_subscription(self.watchers.key(watcher), subscription);
            }
        }
    }

    fn mark_all(&mut self) {
        for (at, cohort) in self.audience.cohorts.iter_mut() {
            if !cohort.is_marked {
                cohort.is_marked = true;
                if !cohort.is_served {
                    self.cohort_queue.push_new(at);
                }
            }
        }
        let many = self.audience.topics.iter().flat_map(|(_, topic)| topic.many.iter().copied());
        for (watcher, subscription) in many.collect::<Vec<_>>() {
            self.mark_subscription(self.watchers.key(watcher), subscription);
        }
    }
}
