//! What the ingest thread does by the clock, and its figures.

use crate::net::ingest::{COMPLAINT_MILLIS, Ingest};

/// Topics whose time is over are looked for so often, at most.
const SWEEP_MILLIS_MAX: u64 = 1_000;
const SWEEP_MILLIS_MIN: u64 = 20;

impl Ingest {
    /// What is due by the clock: metrics, topics whose time is over, publishers' names, complaints.
    pub(super) fn keep_house(&mut self) {
        let now = self.moment.now;
        if self.parts.sequencer.metrics_due_at().is_some_and(|at| at <= now.millis) {
            let mut own = std::mem::take(&mut self.own);
            let before = self.parts.sequencer.seq();
            self.parts.sequencer.take_metrics(now, &mut own);
            self.counters().own_events.add(self.parts.sequencer.seq() - before);
            self.own = own;
            self.publish();
        }
        if now.millis >= self.sweep_at {
            let history = self.parts.history_millis;
            self.sweep_at = now.millis + (history / 8).clamp(SWEEP_MILLIS_MIN, SWEEP_MILLIS_MAX);
            self.parts.sequencer.sweep(now);
            self.parts.accounts.forget_before(now.millis.saturating_sub(history));
        }
        if self.complaints > 0 && now.millis >= self.complaint_at {
            tracing::warn!(
                "{} more refused lines of publishers since then",
                std::mem::take(&mut self.complaints)
            );
            self.complaint_at = now.millis + COMPLAINT_MILLIS;
        }
        self.note_figures();
    }

    /// How things stand at the end of a turn.
    fn note_figures(&self) {
        let (counters, sequencer) = (self.counters(), &self.parts.sequencer);
        counters.publishers.set(self.publishers.len() as u64);
        counters.jobs.set(sequencer.ledger.jobs() as u64);
        counters.flows.set(sequencer.ledger.flows() as u64);
        counters.jobs_displaced.set(sequencer.ledger.jobs_displaced);
        counters.history_bytes.set(sequencer.history_bytes() as u64);
        counters.history_events.set(sequencer.history_events());
    }
}
