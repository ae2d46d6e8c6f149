//! What the daemon knows of a job: the fold of its events, in order.

use serde::{Deserialize, Serialize};

use crate::event::Meaning;
use crate::wire::watcher_message::Metrics;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum JobStatus {
    #[default]
    Running,
    Paused,
    Completed,
    Failed,
    Cancelled,
    /// Silent for `job_idle_seconds`. The next event ends this.
    Lost,
}

impl JobStatus {
    pub const ALL: [JobStatus; 6] =
        [Self::Running, Self::Paused, Self::Completed, Self::Failed, Self::Cancelled, Self::Lost];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Lost => "lost",
        }
    }

    /// Whether it has ended. A later event may change this.
    pub fn is_over(self) -> bool {
        !matches!(self, Self::Running | Self::Paused)
    }
}

/// The state of one job after the events folded so far. Times are Unix microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobFold {
    /// By the latest `job_*` event.
    status: JobStatus,
    is_lost: bool,
    /// There was an event. The fields that need one are no `Option`s, to save memory: there are as many folds as jobs.
    has_begun: bool,
    /// Time of the latest `job_started`, else of the first event.
    start_micros: i64,
    /// Time of the terminal event, or when the job was called lost; without meaning while the job is not over.
    end_micros: i64,
    /// All but `metrics`.
    pub total_events: u64,
    pub total_slot_calls: u64,
    pub total_event_emits: u64,
    /// The job's first event was its `job_started`, so none came before.
    pub is_complete: bool,
    /// Number of the first `job_started`, 0 if there was none.
    pub first_started_seq: u64,
    /// Number of the latest terminal event, 0 if there was none.
    pub last_terminal_seq: u64,
}

impl JobFold {
    /// Takes one event in. `time_micros` is the event's own time; it matters for the first event, starts and ends.
    pub fn fold(&mut self, meaning: Meaning, seq: u64, is_first: bool, time_micros: i64) {
        self.is_lost = false;
        if meaning != Meaning::Metrics {
            self.total_events += 1;
        }
        if is_first {
            self.begin(time_micros);
            self.is_complete = meaning == Meaning::Started;
        }
        match meaning {
            Meaning::SlotCall => self.total_slot_calls += 1,
            Meaning::EventEmit => self.total_event_emits += 1,
            Meaning::Started => {
                if self.first_started_seq == 0 || self.status.is_over() {
                    self.begin(time_micros);
                }
                if self.first_started_seq == 0 {
                    self.first_started_seq = seq;
                }
                self.status = JobStatus::Running;
            }
            Meaning::Paused => self.status = JobStatus::Paused,
            Meaning::Resumed => self.status = JobStatus::Running,
            Meaning::Completed => self.end(JobStatus::Completed, seq, time_micros),
            Meaning::Failed => self.end(JobStatus::Failed, seq, time_micros),
            Meaning::Cancelled => self.end(JobStatus::Cancelled, seq, time_micros),
            Meaning::Metrics | Meaning::Other => {}
        }
    }

    pub fn status(&self) -> JobStatus {
        if self.is_lost { JobStatus::Lost } else { self.status }
    }

    /// Calls the job lost: it was silent for too long. A job that is over stays as it ended.
    pub fn lose(&mut self, now_micros: i64) {
        if !self.status.is_over() {
            self.is_lost = true;
            self.end_micros = now_micros;
        }
    }

    fn begin(&mut self, time_micros: i64) {
        self.has_begun = true;
        self.start_micros = time_micros;
    }

    fn end(&mut self, status: JobStatus, seq: u64, time_micros: i64) {
        self.status = status;
        self.end_micros = time_micros;
        self.last_terminal_seq = seq;
    }

    pub fn start_micros(&self) -> Option<i64> {
        self.has_begun.then_some(self.start_micros)
    }

    /// None while it runs.
    pub fn end_micros(&self) -> Option<i64> {
        self.status().is_over().then_some(self.end_micros)
    }

    /// The job's figures for watchers.
    pub fn metrics(&self, now_micros: i64) -> Metrics {
        Metrics {
            start_unix_micros: self.start_micros(),
            end_unix_micros: self.end_micros(),
            duration_seconds: self.duration_seconds(now_micros),
            total_events: self.total_events,
            total_slot_calls: self.total_slot_calls,
            total_event_emits: self.total_event_emits,
            is_lost: self.is_lost,
        }
    }

    /// From start to end, or to now while it runs, in seconds; never negative.
    pub fn duration_seconds(&self, now_micros: i64) -> Option<f64> {
        let end = self.end_micros().unwrap_or(now_micros);
        self.start_micros().map(|start| end.saturating_sub(start).max(0) as f64 / 1e6)
    }
}

#[cfg(test)]
mod tests {
    use super::{JobFold, JobStatus};
    use crate::event::Meaning;

    fn folded(events: &[(Meaning, i64)]) -> JobFold {
        let mut fold = JobFold::default();
        for (index, &(meaning, time)) in events.iter().enumerate() {
            fold.fold(meaning, 100 + index as u64, index == 0, time);
        }
        fold
    }

    #[test]
    fn a_job_runs_and_ends() {
        let fold = folded(&[
            (Meaning::Started, 1_000_000),
            (Meaning::SlotCall, 1_500_000),
            (Meaning::Metrics, 1_600_000),
            (Meaning::EventEmit, 1_700_000),
            (Meaning::Failed, 3_500_000),
        ]);
        assert_eq!(fold.status(), JobStatus::Failed);
        assert_eq!((fold.total_events, fold.total_slot_calls, fold.total_event_emits), (4, 1, 1));
        assert_eq!(fold.duration_seconds(9_000_000), Some(2.5));
        assert_eq!((fold.first_started_seq, fold.last_terminal_seq), (100, 104));
        assert!(fold.is_complete);
    }

    #[test]
    fn a_job_first_seen_in_its_middle_is_not_complete() {
        let fold = folded(&[
            (Meaning::Other, 2_000_000),
            (Meaning::Started, 5_000_000),
            (Meaning::Paused, 6_000_000),
        ]);
        assert!(!fold.is_complete);
        assert_eq!(fold.status(), JobStatus::Paused);
        assert_eq!(fold.start_micros(), Some(5_000_000));
        assert_eq!(fold.duration_seconds(7_000_000), Some(2.0));
    }

    #[test]
    fn a_job_that_starts_again_runs_again() {
        let fold = folded(&[(Meaning::Started, 1), (Meaning::Completed, 2), (Meaning::Started, 1_000_000)]);
        assert_eq!(
            (fold.status(), fold.end_micros(), fold.start_micros()),
            (JobStatus::Running, None, Some(1_000_000))
        );
        assert_eq!(fold.first_started_seq, 100);
    }

    #[test]
    fn a_silent_job_is_lost_until_the_next_event() {
        let mut fold = folded(&[(Meaning::Started, 1_000_000), (Meaning::Paused, 2_000_000)]);
        fold.lose(9_000_000);
        assert_eq!((fold.status(), fold.end_micros()), (JobStatus::Lost, Some(9_000_000)));
        assert_eq!(fold.duration_seconds(20_000_000), Some(8.0));
        fold.fold(Meaning::Other, 102, false, 0);
        assert_eq!((fold.status(), fold.end_micros()), (JobStatus::Paused, None));
        let mut over = folded(&[(Meaning::Started, 1), (Meaning::Completed, 2)]);
        over.lose(9);
        assert_eq!((over.status(), over.end_micros()), (JobStatus::Completed, Some(2)));
    }
}
