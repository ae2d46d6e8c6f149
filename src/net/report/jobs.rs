//! `/console/jobs`: the jobs that the client may see, page by page; and `/jobs`, all jobs with more members, for operators.
//!
//! Jobs are ordered by their first events, the newest first. That order never changes, and no two jobs share an event. So a
//! client that reads page by page gets each job that exists throughout exactly once.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Not;

use serde::Serialize;

use crate::net::ingest::handle::JobReport;
use crate::session::questions::{JobsBy, JobsWanted};
use crate::stream::directory::Directory;
use crate::stream::jobs::JobFold;
use crate::wire::stamp::Stamp;

#[derive(Serialize)]
struct Page<'a> {
    timestamp: String,
    stream_seq: u64,
    jobs: Vec<Row<'a>>,
    /// The value of `after` for the next page.
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
    #[serde(skip_serializing_if = "Not::not")]
    is_partial: bool,
    first_seq: u64,
    stream_seq: u64,
    watchers: u32,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    of_operators: Option<OfOperators<'a>>,
}

/// Members for operators only.
#[derive(Serialize)]
struct OfOperators<'a> {
    events_kept: u64,
    /// The old names of `job_id`, `flow_id`, `status` and `stream_seq`, from before 0.1.0. 0.2.0 removes them.
    job: &'a str,
    flow: Option<&'a str>,
    state: &'static str,
    last_seq: u64,
}

/// A job as it was when its log was read.
struct Found {
    first_seq: u64,
    last_seq: u64,
    fold: JobFold,
    /// The job may have had events before those that are known.
    is_partial: bool,
    /// Only for an operator.
    events_kept: Option<u64>,
    /// Its index in the list of reports.
    index: usize,
}

/// One page as JSON. Each log is locked only while its figures are copied.
pub fn write(
    wanted: &JobsWanted,
    reports: &[JobReport],
    directory: &Directory,
    (newest, unix_micros): (u64, i64),
) -> Vec<u8> {
    let found = find(wanted, reports, directory);
    let next = (found.len() > wanted.limit).then(|| found[wanted.limit - 1].first_seq);
    let rows = found.iter().take(wanted.limit).map(|job| row(job, &reports[job.index], unix_micros));
    let page = Page { timestamp: stamp(unix_micros), stream_seq: newest, jobs: rows.collect(), next };
    let mut body = serde_json::to_vec(&page).expect("rows are plain data");
    body.push(b'\n');
    body
}

/// The jobs of the page, and the next one if there is one.
fn find(wanted: &JobsWanted, reports: &[JobReport], directory: &Directory) -> Vec<Found> {
    // The oldest of the jobs kept so far is on top.
    let mut heap: BinaryHeap<Reverse<(u64, usize)>> = BinaryHeap::new();
    for (index, report) in reports.iter().enumerate().filter(|(_, report)| is_wanted(wanted, report)) {
        let (first_seq, status) = {
            let log = report.topic.log.lock();
            (log.first_seq(), log.job.status())
        };
        // None: its first event is not published yet.
        let Some(first_seq) = first_seq else { continue };
        let is_behind = wanted.after.is_none_or(|after| first_seq < after);
        if is_behind && wanted.status.is_none_or(|wanted| wanted == status) {
            heap.push(Reverse((first_seq, index)));
            if heap.len() > wanted.limit + 1 {
                heap.pop();
            }
        }
    }
    let is_of_operator = matches!(wanted.by, JobsBy::Operator);
    let kept = heap.into_sorted_vec().into_iter();
    kept.map(|Reverse((first_seq, index))| {
        let log = reports[index].topic.log.lock();
        let events_kept = is_of_operator.then(|| log.head() - log.base() + log.kept_after(0).count() as u64);
        let is_partial = directory.knows_part_of(&reports[index].topic, &log);
        Found { first_seq, last_seq: log.last_seq(), fold: log.job, is_partial, events_kept, index }
    })
    .collect()
}

/// Whether a job is the wanted one or in the wanted flow, and the client may see the job or its flow.
fn is_wanted(wanted: &JobsWanted, report: &JobReport) -> bool {
    let flow = report.flow.as_ref().map(|flow| &*flow.name);
    let is_of_flow = wanted.flow.is_none() || wanted.flow.as_deref() == flow;
    let is_it = wanted.job.as_ref().is_none_or(|job| **job == *report.topic.name);
    is_it
        && is_of_flow
        && match &wanted.by {
            JobsBy::Operator => true,
            JobsBy::Watcher(permit) => {
                permit.may_watch_job(&report.topic.name)
                    || flow.is_some_and(|flow| permit.may_watch_flow(flow))
            }
        }
}

fn row<'a>(found: &Found, report: &'a JobReport, unix_micros: i64) -> Row<'a> {
    let &Found { first_seq, last_seq, fold, is_partial, events_kept, .. } = found;
    let (job_id, flow_id) = (&*report.topic.name, report.flow.as_ref().map(|flow| &*flow.name));
    let status = fold.status().as_str();
    Row {
        job_id,
        flow_id,
        status,
        start_time: fold.start_micros().filter(|_| !is_partial).map(stamp),
        end_time: fold.end_micros().map(stamp),
        duration: fold.duration_seconds(unix_micros).filter(|_| !is_partial),
        total_events: fold.total_events,
        total_slot_calls: fold.total_slot_calls,
        total_event_emits: fold.total_event_emits,
        is_partial,
        first_seq,
        stream_seq: last_seq,
        watchers: report.topic.watcher_count(),
        of_operators: events_kept.map(|events_kept| OfOperators {
            events_kept,
            job: job_id,
            flow: flow_id,
            state: status,
            last_seq,
        }),
    }
}

fn stamp(unix_micros: i64) -> String {
    Stamp::from_unix_millis(unix_micros.div_euclid(1000)).as_str().to_owned()
}
