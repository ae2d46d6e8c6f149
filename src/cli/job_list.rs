//! The daemon's list of jobs, read page by page.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::cli::connection::Way;
use crate::cli::refusal::Refused;
use crate::stream::jobs::JobStatus;
use crate::wire::stamp::parse_unix_micros;

/// Jobs in one answer: some hundred KiB.
const PAGE_JOBS: usize = 1_000;
/// Limit for each answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// Which jobs; all that the token may see, if nothing is said.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    pub job: Option<String>,
    pub flow: Option<String>,
    pub status: Option<JobStatus>,
    /// At most so many, the newest.
    pub limit: Option<usize>,
}

/// A list of jobs at one moment, the newest job first.
#[derive(Debug, Serialize)]
pub struct JobList {
    /// The daemon's time.
    pub timestamp: String,
    pub stream_seq: u64,
    pub jobs: Vec<Box<RawValue>>,
}

/// What is shown of a job.
#[derive(Debug, Deserialize)]
pub struct Job {
    pub job_id: String,
    pub flow_id: Option<String>,
    pub status: String,
    pub start_time: Option<String>,
    pub end_time: Option<String>,
    pub duration: Option<f64>,
    pub total_events: u64,
    pub total_slot_calls: u64,
    pub total_event_emits: u64,
    #[serde(default)]
    pub is_partial: bool,
    pub watchers: u64,
}

#[derive(Deserialize)]
struct Page {
    timestamp: String,
    stream_seq: u64,
    jobs: Vec<Box<RawValue>>,
    next: Option<u64>,
}

impl JobList {
    /// Asks the daemon.
    ///
    /// # Errors
    /// Why it does not say.
    pub fn read(way: &Way, wanted: &Wanted) -> Result<Self, Refused> {
        Self::gather(wanted, |target| {
            let body = way.get(target, Instant::now() + ANSWER_LIMIT)?;
            let page = serde_json::from_slice(&body);
            page.map_err(|_| {
                Refused::for_now(format!("{}: what answers is no list of jobs of luxcast", way.address))
            })
        })
    }

    fn gather(wanted: &Wanted, ask: impl Fn(&str) -> Result<Page, Refused>) -> Result<Self, Refused> {
        let mut left = wanted.limit.unwrap_or(usize::MAX);
        let Page { timestamp, stream_seq, mut jobs, mut next } = ask(&target(wanted, left, None))?;
        left = left.saturating_sub(jobs.len());
        while let Some(after) = next.filter(|_| left > 0) {
            let page = ask(&target(wanted, left, Some(after)))?;
            left = left.saturating_sub(page.jobs.len());
            jobs.extend(page.jobs);
            // Another server could send the same page for ever.
            next = page.next.filter(|next| *next < after);
        }
        Ok(Self { timestamp, stream_seq, jobs })
    }

    /// What is shown of each job.
    ///
    /// # Errors
    /// An entry is none of a job.
    pub fn parsed(&self) -> Result<Vec<Job>, String> {
        let jobs = self.jobs.iter().map(|job| serde_json::from_str(job.get()));
        jobs.collect::<Result<_, _>>()
            .map_err(|error| format!("the list has an entry that is no job: {error}"))
    }

    /// How long ago this instant was for the daemon, in seconds.
    pub fn seconds_since(&self, instant: &str) -> Option<f64> {
        let micros = parse_unix_micros(&self.timestamp)?.checked_sub(parse_unix_micros(instant)?)?;
        Some(micros.max(0) as f64 / 1e6)
    }
}

fn target(wanted: &Wanted, left: usize, after: Option<u64>) -> String {
    let Wanted { job, flow, status, .. } = wanted;
    let mut target = format!("/console/jobs?limit={}", left.clamp(1, PAGE_JOBS));
    // Ids need no escaping in a query (RFC 3986, 3.4).
    let status = status.map(|status| status.as_str().to_owned());
    let members = [("job", job.clone()), ("flow", flow.clone()), ("status", status)];
    let members = members.into_iter().chain([("after", after.map(|after| after.to_string()))]);
    for (name, value) in members.filter_map(|(name, value)| Some((name, value?))) {
        target.push_str(&format!("&{name}={value}"));
    }
    target
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::{JobList, Page, Wanted};
    use crate::stream::jobs::JobStatus;

    fn page(count: usize, next: Option<u64>) -> Page {
        let job = || serde_json::from_str("{}").unwrap();
        let jobs = (0..count).map(|_| job()).collect();
        Page { timestamp: "2026-12-01T00:00:10.000Z".to_owned(), stream_seq: 7, jobs, next }
    }

    #[test]
    fn all_pages_are_read_as_far_as_they_are_wanted() {
        let asked = RefCell::new(Vec::new());
        let read = |wanted: &Wanted, pages: Vec<Page>| {
            let pages = RefCell::new(pages.into_iter());
            let list = JobList::gather(wanted, |target| {
                asked.borrow_mut().push(target.to_owned());
                Ok(pages.borrow_mut().next().unwrap())
            });
            list.unwrap().jobs.len()
        };
        let wanted = Wanted { flow: Some("f".to_owned()), ..Wanted::default() };
        assert_eq!(read(&wanted, vec![page(1_000, Some(50)), page(3, None)]), 1_003);
        let wanted = Wanted { limit: Some(1_002), status: Some(JobStatus::Failed), ..Wanted::default() };
        assert_eq!(read(&wanted, vec![page(1_000, Some(50)), page(2, Some(4))]), 1_002);
        assert_eq!(
            asked.into_inner(),
            [
                "/console/jobs?limit=1000&flow=f",
                "/console/jobs?limit=1000&flow=f&after=50",
                "/console/jobs?limit=1000&status=failed",
                "/console/jobs?limit=2&status=failed&after=50",
            ]
        );
    }

    #[test]
    fn a_server_that_goes_back_is_not_asked_for_ever() {
        let list = JobList::gather(&Wanted::default(), |_| Ok(page(1, Some(9)))).unwrap();
        assert_eq!(list.jobs.len(), 2);
        assert!(list.parsed().is_err());
        assert_eq!(list.seconds_since("2026-12-01T00:00:08.500Z"), Some(1.5));
        assert_eq!(list.seconds_since("2026-12-01T00:00:12Z"), Some(0.0));
        assert_eq!(list.seconds_since("yesterday"), None);
    }
}
