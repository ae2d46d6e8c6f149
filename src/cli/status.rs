//! `luxcast status`: shows one job as the daemon knows it now.

use std::io;
use std::process::ExitCode;

use clap::ValueHint;

use crate::cli;
use crate::cli::daemon_args::{DaemonArgs, variable};
use crate::cli::event_line::visible;
use crate::cli::job_list::{Job, JobList, Wanted};
use crate::cli::jobs::put;
use crate::cli::outlet::Outlet;
use crate::cli::span::span;
use crate::cli::tail::EXIT_UNKNOWN;
use crate::cli::watch_args::id;
use crate::stream::jobs::JobStatus;

#[derive(Debug, clap::Args)]
pub struct StatusArgs {
    /// The job
    #[arg(value_name = "JOB", allow_hyphen_values = true, value_parser = id, value_hint = ValueHint::Other)]
    job: String,
    /// Print the job as one line of JSON
    #[arg(long)]
    json: bool,
    /// Exit with 0 if the job has completed, 1 if it failed or was cancelled, 3 if it has not ended, is lost or not known,
    /// or if the daemon does not answer
    #[arg(long)]
    exit_status: bool,
    #[command(flatten)]
    daemon: DaemonArgs,
}

/// Exit code 0: the job is on standard output. 1: it is not known, refused, or the daemon could not be reached. 2: wrong
/// usage. `--exit-status` has its own codes.
pub fn run(mut args: StatusArgs) -> ExitCode {
    let way = args.daemon.complete(variable).and_then(|_| args.daemon.way(Outlet::of(&io::stdout())));
    let way = match way {
        Ok(way) => way,
        Err(problem) => {
            cli::say(&format!("luxcast status: {problem}"));
            return ExitCode::from(cli::EXIT_USAGE);
        }
    };
    let wanted = Wanted { job: Some(args.job.clone()), limit: Some(1), ..Wanted::default() };
    let found = JobList::read(&way, &wanted).map_err(|refused| refused.to_string());
    let shown = found.and_then(|list| show(&list, &args));
    match shown {
        Ok(status) if args.exit_status => ExitCode::from(code_of(&status)),
        Ok(_) => ExitCode::SUCCESS,
        Err(problem) => {
            cli::say(&format!("luxcast status: {problem}"));
            ExitCode::from(if args.exit_status { EXIT_UNKNOWN } else { 1 })
        }
    }
}

/// Returns the status of the job.
fn show(list: &JobList, args: &StatusArgs) -> Result<String, String> {
    // A daemon of an older version does not choose by the job.
    let jobs = list.parsed()?;
    let place = jobs.iter().position(|job| job.job_id == args.job);
    let place = place.ok_or_else(|| format!("no job {} is known, or the token may not see it", args.job))?;
    match args.json {
        true => put(&format!("{}\n", list.jobs[place]))?,
        false => put(&text(list, &jobs[place]))?,
    };
    Ok(jobs[place].status.clone())
}

fn text(list: &JobList, job: &Job) -> String {
    let instant = |instant: &Option<String>, otherwise: &str| match instant {
        None => otherwise.to_owned(),
        Some(instant) => match list.seconds_since(instant) {
            Some(seconds) => format!("{} ({} ago)", visible(instant), span(seconds)),
            None => visible(instant),
        },
    };
    let unknown = if job.is_partial { "not known: the daemon has a part of the job" } else { "not known" };
    let events = match (job.total_slot_calls, job.total_event_emits) {
        (0, 0) => job.total_events.to_string(),
        (calls, emits) => format!("{} ({calls} slot calls, {emits} emitted)", job.total_events),
    };
    let lines = [
        ("Job", visible(&job.job_id)),
        ("Status", visible(&job.status)),
        ("Flow", job.flow_id.as_deref().map_or_else(|| "none".to_owned(), visible)),
        ("Started", instant(&job.start_time, unknown)),
        ("Ended", instant(&job.end_time, "no")),
        ("Duration", job.duration.map_or_else(|| unknown.to_owned(), span)),
        ("Events", events),
        ("Watchers", job.watchers.to_string()),
    ];
    lines.iter().map(|(name, value)| format!("{name:<9} {value}\n")).collect()
}

fn code_of(status: &str) -> u8 {
    let is = |one: JobStatus| one.as_str() == status;
    match () {
        () if is(JobStatus::Completed) => 0,
        () if is(JobStatus::Failed) || is(JobStatus::Cancelled) => 1,
        () => EXIT_UNKNOWN,
    }
}

#[cfg(test)]
mod tests {
    use super::{Job, JobList, code_of, text};

    fn job() -> Job {
        Job {
            job_id: "nightly".to_owned(),
            flow_id: None,
            status: "failed".to_owned(),
            start_time: Some("2026-12-01T00:00:00.000Z".to_owned()),
            end_time: Some("2026-12-01T00:01:00.000Z".to_owned()),
            duration: Some(60.0),
            total_events: 12,
            total_slot_calls: 3,
            total_event_emits: 2,
            is_partial: false,
            watchers: 0,
        }
    }

    #[test]
    fn a_job_is_shown_line_by_line() {
        let list =
            JobList { timestamp: "2026-12-01T00:03:00.000Z".to_owned(), stream_seq: 1, jobs: Vec::new() };
        let shown = text(&list, &job());
        assert!(shown.contains("Status    failed\n") && shown.contains("Flow      none\n"), "{shown}");
        assert!(shown.contains("Started   2026-12-01T00:00:00.000Z (3m ago)\n"), "{shown}");
        assert!(shown.contains("Events    12 (3 slot calls, 2 emitted)\n"), "{shown}");
        let partial = Job { is_partial: true, start_time: None, duration: None, end_time: None, ..job() };
        let shown = text(&list, &partial);
        assert!(shown.contains("Started   not known: the daemon has a part of the job\n"), "{shown}");
        assert!(shown.contains("Ended     no\n"), "{shown}");
    }

    #[test]
    fn the_exit_status_tells_the_end() {
        let codes = ["completed", "failed", "cancelled", "running", "paused", "lost"].map(code_of);
        assert_eq!(codes, [0, 1, 1, 3, 3, 3]);
    }
}
