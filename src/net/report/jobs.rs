//! `/console/jobs`: what the daemon knows of the jobs that somebody may see, a page at a time.
//!
//! The order is that of their first events, the newest first. It never changes, and no two jobs share an event, so
//! whoever asks page by page meets each job that was there throughout once, whatever comes and goes meanwhile.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use serde::Serialize;

use crate::access::rights::Permit;
use crate::net::ingest::maintenance::JobReport;
use crate::stream::jobs::{JobFold, JobStatus};
use crate::wire::http::Refusal;
use crate::wire::query;
use crate::wire::stamp::Stamp;

/// Some MiB.
const ROWS_MAX: usize = 10_000;

/// Which jobs, and how many.
pub struct Listing {
    status: Option<JobStatus>,
    flow: Option<String>,
    /// Only jobs whose first event has a smaller number.
    after: Option<u64>,
    limit: usize,
}

#[derive(Serialize)]
struct Page<'a> {
    timestamp: String,
    stream_seq: u64,
    jobs: Vec<Row<'a>>,
    /// What `after` has to be for the jobs behind these.
    next: Option<u64>,
}

#[derive(Serialize)]
struct Row<'a> {
    job_id: &'a str,
    flow_id: Option<&'a str>,
    status: &'static str,
    start_time: Option<String>,
    end_time: Option<String>,
    duration: Option<f64>,
    total_events: u64,
    total_slot_calls: u64,
    total_event_emits: u64,
    first_seq: u64,
    stream_seq: u64,
    watchers: u32,
}

/// A job as it was when its log was looked at.
struct Found {
    first_seq: u64,
    last_seq: u64,
    fold: JobFold,
    /// In the list of sights.
    place: usize,
}

impl Listing {
    /// # Errors
    /// What is wrong with a parameter.
    pub fn parse(query: Option<&str>) -> Result<Self, Refusal> {
        let [status, flow, after, limit] = query::read(query, ["status", "flow", "after", "limit"])?;
        let statuses = JobStatus::ALL.map(|status| (status.as_str(), status));
        Ok(Self {
            status: query::word("status", status.as_deref(), statuses)?,
            flow: flow.map(Into::into),
            after: after.map(|after| query::number("after", &after, u64::MAX)).transpose()?,
            limit: query::limit(limit.as_deref(), ROWS_MAX)?,
        })
    }

    /// One page as JSON. Each log is locked for as long as a copy of its figures takes.
    pub fn write(&self, sights: &[JobReport], permit: &Permit, newest: u64, unix_micros: i64) -> Vec<u8> {
        let found = self.find(sights, permit);
        let next = (found.len() > self.limit).then(|| found[self.limit - 1].first_seq);
        let rows = found.iter().take(self.limit).map(|job| row(job, &sights[job.place], unix_micros));
        let page = Page { timestamp: stamp(unix_micros), stream_seq: newest, jobs: rows.collect(), next };
        let mut body = serde_json::to_vec(&page).expect("rows are plain data");
        body.push(b'\n');
        body
    }

    /// The jobs of the page, and one more if there is one.
    fn find(&self, sights: &[JobReport], permit: &Permit) -> Vec<Found> {
        // The oldest of those that are kept is on top.
        let mut heap: BinaryHeap<Reverse<(u64, usize)>> = BinaryHeap::new();
        let wanted = sights.iter().enumerate().filter(|(_, sight)| self.is_wanted(sight, permit));
        for (place, sight) in wanted {
            let (first_seq, status) = {
                let log = sight.topic.log.lock();
                (log.first_seq(), log.job.status())
            };
            // None: its first event is not published yet.
            let Some(first_seq) = first_seq else { continue };
            let is_behind = self.after.is_none_or(|after| first_seq < after);
            if !is_behind || self.status.is_some_and(|wanted| wanted != status) {
                continue;
            }
            heap.push(Reverse((first_seq, place)));
            if heap.len() > self.limit + 1 {
                heap.pop();
            }
        }
        let kept = heap.into_sorted_vec().into_iter();
        kept.map(|Reverse((first_seq, place))| {
            let log = sights[place].topic.log.lock();
            Found { first_seq, last_seq: log.last_seq(), fold: log.job, place }
        })
        .collect()
    }

    /// Whether a job is of the flow, and open to the asker by itself or with its flow.
    fn is_wanted(&self, sight: &JobReport, permit: &Permit) -> bool {
        let flow = sight.flow.as_ref().map(|flow| &*flow.name);
        let is_of_flow = self.flow.is_none() || self.flow.as_deref() == flow;
        is_of_flow
            && (permit.may_watch_job(&sight.topic.name)
                || flow.is_some_and(|flow| permit.may_watch_flow(flow)))
    }
}

fn row<'a>(found: &Found, sight: &'a JobReport, unix_micros: i64) -> Row<'a> {
    let Found { first_seq, last_seq, fold, .. } = found;
    Row {
        job_id: &sight.topic.name,
        flow_id: sight.flow.as_ref().map(|flow| &*flow.name),
        status: fold.status().as_str(),
        start_time: fold.start_micros().map(stamp),
        end_time: fold.end_micros().map(stamp),
        duration: fold.duration_seconds(unix_micros),
        total_events: fold.total_events,
        total_slot_calls: fold.total_slot_calls,
        total_event_emits: fold.total_event_emits,
        first_seq: *first_seq,
        stream_seq: *last_seq,
        watchers: sight.topic.watcher_count(),
    }
}

fn stamp(unix_micros: i64) -> String {
    Stamp::from_unix_millis(unix_micros.div_euclid(1000)).as_str().to_owned()
}

#[cfg(test)]
mod tests {
    use super::Listing;
    use crate::stream::jobs::JobStatus;
    use crate::wire::query::ROWS;

    #[test]
    fn what_is_wanted_is_read() {
        let listing = Listing::parse(None).unwrap();
        assert_eq!((listing.limit, listing.after, listing.status, listing.flow), (ROWS, None, None, None));
        let listing =
            Listing::parse(Some("limit=10000&after=17&status=failed&flow=a%3Ab&x=%&token=t")).unwrap();
        assert_eq!((listing.limit, listing.after), (10_000, Some(17)));
        assert_eq!((listing.status, listing.flow.as_deref()), (Some(JobStatus::Failed), Some("a:b")));
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for query in [
            "limit=0",
            "limit=10001",
            "limit=",
            "limit=x",
            "limit=+1",
            "limit=1&limit=1",
            "after=",
            "after=-1",
            "after=0",
            "after=99999999999999999999",
            "status=",
            "status=Running",
            "flow=%",
            "flow=%ff",
            "flow=a&flow=a",
        ] {
            let refusal = Listing::parse(Some(query)).err().expect(query);
            assert_eq!((refusal.status.code(), refusal.code), (400, "bad_parameter"), "{query}");
        }
    }
}
