//! How a watched job ends. An event that says so may be from the past, and the job may have started again since.

use std::borrow::Cow;
use std::time::Duration;

use serde::Deserialize;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobEnd {
    Completed,
    Failed,
    Cancelled,
    /// Unknown: its publisher has been silent for too long.
    Lost,
}

/// What is known of the job on this connection.
#[derive(Default)]
pub struct Ending {
    /// The newest event when the connection began: later ones are live.
    newest: u64,
    /// The job was running at that moment.
    was_running: bool,
    /// The latest end in the past; later events show whether the job started again.
    past: Option<JobEnd>,
    /// The daemon reports the job as lost, and nothing live has come since.
    is_lost: bool,
}

/// Whether a `metrics` message says that the job is lost.
pub fn is_lost(text: &str) -> bool {
    let snapshot = serde_json::from_str::<Snapshot<'_>>(text);
    snapshot.is_ok_and(|snapshot| snapshot.metrics.status.as_deref() == Some("lost"))
}

#[derive(Deserialize)]
struct Snapshot<'a> {
    #[serde(borrow)]
    metrics: Times<'a>,
}

#[derive(Deserialize)]
struct Times<'a> {
    #[serde(borrow)]
    end_time: Option<Cow<'a, str>>,
    #[serde(borrow)]
    status: Option<Cow<'a, str>>,
}

impl Ending {
    /// After this silence, no more past events are expected.
    pub const QUIET: Duration = Duration::from_millis(500);

    pub fn note_connected(&mut self, newest: u64) {
        *self = Self { newest, ..Self::default() };
    }

    /// Takes the job's metrics as of the start of the connection.
    pub fn note_snapshot(&mut self, text: &str) {
        let snapshot = serde_json::from_str::<Snapshot<'_>>(text);
        self.was_running = snapshot.is_ok_and(|snapshot| snapshot.metrics.end_time.is_none());
        self.is_lost = is_lost(text);
    }

    /// How the job ended, if this event settles it.
    pub fn note_event(&mut self, kind: &str, stream_seq: u64, text: &str) -> Option<JobEnd> {
        self.is_lost &= stream_seq <= self.newest;
        let end = match kind {
            // A past event is outdated: the snapshot gives the current state.
            "metrics" if stream_seq > self.newest && is_lost(text) => JobEnd::Lost,
            "job_completed" => JobEnd::Completed,
            "job_failed" => JobEnd::Failed,
            "job_cancelled" => JobEnd::Cancelled,
            "job_started" | "job_resumed" => {
                self.past = None;
                return None;
            }
            _ => return None,
        };
        if stream_seq > self.newest {
            return Some(end);
        }
        self.past = Some(end).filter(|_| !self.was_running);
        None
    }

    /// How the job ended, if no further event follows.
    pub fn pending(&self) -> Option<JobEnd> {
        Some(JobEnd::Lost).filter(|_| self.is_lost).or(self.past)
    }
}

#[cfg(test)]
mod tests {
    use super::{Ending, JobEnd};

    const RUNNING: &str = r#"{"type":"metrics","job_id":"j","metrics":{"end_time":null,"duration":1.5}}"#;
    const ENDED: &str =
        r#"{"type":"metrics","job_id":"j","metrics":{"end_time":"2025-01-15T10:30:00.000Z"}}"#;

    fn connected(snapshot: Option<&str>) -> Ending {
        let mut ending = Ending::default();
        ending.note_connected(10);
        if let Some(snapshot) = snapshot {
            ending.note_snapshot(snapshot);
        }
        ending
    }

    #[test]
    fn a_live_end_is_certain() {
        let mut ending = connected(None);
        assert_eq!(ending.note_event("job_started", 11, ""), None);
        assert_eq!(ending.note_event("routine_failed", 12, ""), None);
        assert_eq!(ending.pending(), None);
        assert_eq!(ending.note_event("job_failed", 13, ""), Some(JobEnd::Failed));
        assert_eq!(ending.note_event("job_cancelled", 14, ""), Some(JobEnd::Cancelled));
    }

    #[test]
    fn of_the_past_the_latest_end_counts() {
        let mut ending = connected(Some(ENDED));
        for (kind, pending) in [
            ("job_failed", Some(JobEnd::Failed)),
            ("job_started", None),
            ("job_completed", Some(JobEnd::Completed)),
            ("execution_event", Some(JobEnd::Completed)),
        ] {
            assert_eq!(ending.note_event(kind, 9, ""), None);
            assert_eq!(ending.pending(), pending);
        }
    }

    #[test]
    fn a_job_that_runs_again_has_not_ended() {
        let mut ending = connected(Some(RUNNING));
        assert_eq!(ending.note_event("job_failed", 8, ""), None);
        assert_eq!(ending.pending(), None, "the job started again, and the kept past may begin after that");
        assert_eq!(ending.note_event("job_completed", 11, ""), Some(JobEnd::Completed));
    }
}
