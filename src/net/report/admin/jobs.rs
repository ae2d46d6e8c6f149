//! `/jobs`: what the daemon knows of jobs.

use std::cmp::Reverse;

use serde::Serialize;

use crate::net::ingest::maintenance::JobReport;
use crate::net::report::admin::ROWS_MAX;
use crate::stream::jobs::JobStatus;
use crate::wire::http::Refusal;
use crate::wire::query;

/// Which jobs, and how many.
pub struct Listing {
    flow: Option<String>,
    state: Option<JobStatus>,
    limit: usize,
}

#[derive(Serialize)]
struct Row<'a> {
    job: &'a str,
    flow: Option<&'a str>,
    state: &'static str,
    first_seq: u64,
    last_seq: u64,
    total_events: u64,
    events_kept: u64,
    watchers: u32,
}

impl Listing {
    /// # Errors
    /// What is wrong with a parameter.
    pub fn parse(query: Option<&str>) -> Result<Self, Refusal> {
        let [flow, state, limit] = query::read(query, ["flow", "state", "limit"])?;
        let states = JobStatus::ALL.map(|status| (status.as_str(), status));
        Ok(Self {
            flow: flow.map(Into::into),
            state: query::word("state", state.as_deref(), states)?,
            limit: query::limit(limit.as_deref(), ROWS_MAX)?,
        })
    }

    /// The jobs that are wanted, as JSON: the one with the newest event first.
    pub fn write(&self, sights: &[JobReport]) -> Vec<u8> {
        let mut rows: Vec<Row<'_>> = sights.iter().filter_map(|sight| self.row(sight)).collect();
        rows.sort_by_key(|row| Reverse(row.last_seq));
        rows.truncate(self.limit);
        let mut body = serde_json::to_vec(&rows).expect("rows are plain data");
        body.push(b'\n');
        body
    }

    fn row<'a>(&self, sight: &'a JobReport) -> Option<Row<'a>> {
        let flow = sight.flow.as_ref().map(|flow| &*flow.name);
        if self.flow.is_some() && self.flow.as_deref() != flow {
            return None;
        }
        let log = sight.topic.log.lock();
        if self.state.is_some_and(|state| state != log.job.status()) {
            return None;
        }
        Some(Row {
            job: &sight.topic.name,
            flow,
            state: log.job.status().as_str(),
            // Its first event is not published yet.
            first_seq: log.first_seq()?,
            last_seq: log.last_seq(),
            total_events: log.job.total_events,
            events_kept: log.head() - log.base() + log.kept_after(0).count() as u64,
            watchers: sight.topic.watcher_count(),
        })
    }
}
