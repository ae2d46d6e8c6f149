//! The daemon's own events: `metrics` of jobs that have changed or were lost.

use crate::stream::jobs::JobStatus;
use crate::stream::now::Now;
use crate::stream::sequencer::{Sequencer, Taken};
use crate::stream::topic::Topic;
use crate::stream::topic_key::TopicKey;
use crate::wire::line::PADDING;
use crate::wire::stamp::Stamp;
use crate::wire::watcher_message;

impl Sequencer {
    /// When [`Sequencer::take_metrics`] has something to do, in milliseconds of the daemon's clock.
    pub fn metrics_due_at(&self) -> Option<u64> {
        if self.lost.is_empty() { self.metrics_schedule.due_at() } else { Some(0) }
    }

    /// Takes in a `metrics` event for each watched job that is due or was lost meanwhile, `events_max` at most. Returns
    /// how many. Not called in the middle of a turn.
    pub fn take_metrics(&mut self, now: Now, object: &mut Vec<u8>, events_max: usize) -> usize {
        let mut taken = 0;
        while taken < events_max
            && let Some(key) = self.lost.pop()
        {
            let is_lost = |job: &Topic| job.log.lock().job.status() == JobStatus::Lost;
            if self.topic_index.find(key.into()).is_some_and(|entry| is_lost(&entry.topic)) {
                taken += usize::from(self.take_metrics_of(key.into(), now, object));
            }
        }
        while taken < events_max
            && let Some(key) = self.metrics_schedule.next_due(now.millis)
        {
            let Some(entry) = self.topic_index.find_mut(key) else {
                continue;
            };
            entry.is_due = false;
            if !entry.has_metrics {
                taken += usize::from(self.take_metrics_of(key, now, object));
            }
        }
        taken
    }

    /// False: nobody watches the job, so no event was made.
    fn take_metrics_of(&mut self, key: TopicKey, now: Now, object: &mut Vec<u8>) -> bool {
        let entry = self.topic_index.entry(key);
        let (topic, has_metrics) = (entry.topic.clone(), entry.has_metrics);
        let is_flow_watched = entry.flow.is_some_and(|flow| self.topic_index.entry(flow).topic.is_watched());
        if !topic.is_watched() && !is_flow_watched {
            return false;
        }
        let metrics = topic.log.lock().job.metrics(now.unix_micros);
        let at = Stamp::from_unix_millis(now.unix_micros.div_euclid(1000));
        object.clear();
        watcher_message::metrics_line(object, &at, &topic.name, &metrics);
        self.begin_turn(now, object.len());
        self.own_from = self.own_from.min(self.seq() + 1);
        self.take_own(object);
        // Taking it in has set the flag, but it is the daemon's event, not the publisher's.
        self.topic_index.entry_mut(key).has_metrics = has_metrics;
        true
    }

    /// Takes in an event of the daemon's own, written as a publisher would write it.
    fn take_own(&mut self, object: &mut Vec<u8>) {
        let length = object.len();
        object.resize(length + PADDING, 0);
        let taken = self.take_line(object, length);
        assert!(matches!(taken, Ok(Taken::Event(_))), "the daemon's own event is valid");
    }
}
