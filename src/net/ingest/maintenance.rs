//! What the ingest thread does by the clock, its figures, and its list of jobs for operators.

use std::time::Instant;

use crate::metrics::IngestCounters;
use crate::net::ingest::Ingest;
use crate::net::ingest::handle::{JobReport, JobsRequest};

/// Bounds of the interval at which expired topics are looked for.
const SWEEP_MILLIS_MAX: u64 = 1_000;
const SWEEP_MILLIS_MIN: u64 = 20;

/// Slots of jobs that are looked at in one turn: some microseconds.
const SLOTS_PER_TURN: usize = 256;

impl Ingest {
    pub(super) fn begin_turn(&mut self) {
        let moment = self.parts.clock.read();
        self.end_turn(moment.instant);
        self.is_in_turn = true;
        self.counters().turns.add(1);
        self.moment = moment;
        self.parts.sequencer.read_micros = self.parts.clock.micros(moment.instant);
    }

    /// Notes how long the turn took. If the next turn follows at once, its start is the end of this one: the clock is not
    /// read once more.
    pub(super) fn end_turn(&mut self, now: Instant) {
        if std::mem::take(&mut self.is_in_turn) {
            let turn = now.saturating_duration_since(self.moment.instant).as_micros() as u64;
            self.counters().turn_micros.note(turn);
        }
    }

    pub(super) fn counters(&self) -> &IngestCounters {
        &self.parts.counters.ingest
    }

    /// Answers the next slice of a request for all jobs.
    pub(super) fn report_jobs(&mut self) {
        if self.jobs_request.is_none() {
            let pending = self.parts.waker.pending_requests.try_recv().ok();
            self.jobs_request = pending.map(|answer| JobsRequest { next: 0, answer });
        }
        let Some(mut request) = self.jobs_request.take() else { return };
        let (jobs, next) = self.parts.sequencer.topic_index.jobs_from(request.next, SLOTS_PER_TURN);
        let reports = jobs.into_iter().map(|(job, flow)| JobReport {
            topic: job.topic.clone(),
            flow: flow.map(|flow| flow.topic.clone()),
        });
        // The other side may have given up.
        if request.answer.send(reports.collect()).is_ok()
            && let Some(next) = next
        {
            request.next = next;
            self.jobs_request = Some(request);
        }
    }

    /// Does what is due by the clock: metrics, expired topics and names of publishers, the log of refused lines.
    pub(super) fn do_housekeeping(&mut self) {
        let now = self.moment.now;
        if self.parts.sequencer.metrics_due_at().is_some_and(|at| at <= now.millis) && !self.is_waiting {
            self.take_metrics();
        }
        if now.millis >= self.sweep_at {
            let history = self.parts.history_millis;
            self.sweep_at = now.millis + (history / 8).clamp(SWEEP_MILLIS_MIN, SWEEP_MILLIS_MAX);
            self.parts.sequencer.sweep(now);
            self.parts.dedupe.forget_before(now.millis.saturating_sub(history));
        }
        while let Some((error, count)) = self.refused_line_log.take_rest(now.millis) {
            tracing::warn!(code = error.code(), count, "refused more lines of publishers since then");
        }
        self.note_figures();
    }

    /// Makes `metrics` events. They wait for watchers as publishers' events do.
    fn take_metrics(&mut self) {
        if !self.gate.may_take_own(&self.parts.sequencer) {
            self.is_waiting = true;
            return;
        }
        let mut own = std::mem::take(&mut self.own);
        let events_max = self.gate.own_events_max();
        let taken = self.parts.sequencer.take_metrics(self.moment.now, &mut own, events_max);
        self.counters().own_events.add(taken as u64);
        self.own = own;
        self.publish();
    }

    /// Sets the gauges at the end of a turn.
    fn note_figures(&self) {
        let (counters, sequencer) = (self.counters(), &self.parts.sequencer);
        counters.publishers.set((self.publishers.len() - self.requests) as u64);
        counters.open_requests.set(self.requests as u64);
        counters.half_line_bytes.set((self.half_lines.bytes() + self.parts.waker.posted.bytes()) as u64);
        counters.jobs.set(sequencer.topic_index.jobs() as u64);
        counters.flows.set(sequencer.topic_index.flows() as u64);
        counters.jobs_displaced.set(sequencer.topic_index.jobs_displaced);
        counters.history_bytes.set(sequencer.history_bytes() as u64);
        counters.history_events.set(sequencer.history_events());
        counters.history_oldest_micros.set(sequencer.oldest_read_micros().unwrap_or(0));
    }
}
