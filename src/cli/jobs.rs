//! `luxcast jobs`: lists the jobs that the daemon knows.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{ColorChoice, ValueEnum, ValueHint};

use crate::cli;
use crate::cli::backoff::Backoff;
use crate::cli::connection::Way;
use crate::cli::daemon_args::{DaemonArgs, variable};
use crate::cli::event_line::visible;
use crate::cli::job_list::{Job, JobList, Wanted};
use crate::cli::outlet::Outlet;
use crate::cli::palette::Palette;
use crate::cli::refusal::Refused;
use crate::cli::span::span;
use crate::cli::watch_args::id;
use crate::stream::jobs::JobStatus;

/// With `--watch`, the list is asked for as often, or as seldom as it takes ten times its own time.
const LOOK: Duration = Duration::from_secs(1);
const PAUSE_FACTOR: u32 = 10;

const COLUMNS: [&str; 6] = ["JOB", "STATUS", "FLOW", "STARTED", "DURATION", "EVENTS"];
const GAP: usize = 2;

#[derive(Debug, clap::Args)]
pub struct JobsArgs {
    /// Only jobs with these statuses, separated by commas: running, paused, completed, failed, cancelled, lost
    #[arg(long, value_name = "STATUSES", value_delimiter = ',', value_parser = status)]
    status: Vec<JobStatus>,
    /// Only jobs of this flow
    #[arg(long, value_name = "ID", allow_hyphen_values = true, value_parser = id, value_hint = ValueHint::Other)]
    flow: Option<String>,
    /// At most so many jobs, those that began last [default: all]
    #[arg(long, short = 'n', value_name = "N", value_parser = clap::value_parser!(u32).range(1..), conflicts_with = "watch")]
    limit: Option<u32>,
    /// Go on, and show each job again when it comes or its status changes
    #[arg(long, short)]
    watch: bool,
    /// How jobs are shown
    #[arg(long, short, value_name = "HOW", value_enum, default_value_t)]
    output: Output,
    /// Use colours: auto (if the terminal shows them), always or never
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    color: ColorChoice,
    #[command(flatten)]
    daemon: DaemonArgs,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Output {
    /// A row for each job
    #[default]
    Table,
    /// The list as one JSON object
    Json,
    /// A JSON object in each line
    Ndjson,
}

fn status(text: &str) -> Result<JobStatus, String> {
    let found = JobStatus::ALL.into_iter().find(|status| status.as_str() == text);
    found.ok_or_else(|| "must be running, paused, completed, failed, cancelled or lost".to_owned())
}

/// Exit code 0: they are on standard output. 1: refused, or the daemon could not be reached. 2: wrong usage.
pub fn run(mut args: JobsArgs) -> ExitCode {
    let outlet = Outlet::of(&io::stdout());
    let usage = |problem: &str| {
        cli::say(&format!("luxcast jobs: {problem}"));
        ExitCode::from(cli::EXIT_USAGE)
    };
    if args.watch && args.output == Output::Json {
        return usage(
            "--watch has no end, so that its output cannot be one JSON object: use --output ndjson",
        );
    }
    let way = args.daemon.complete(variable).and_then(|_| args.daemon.way(outlet));
    let way = match way {
        Ok(way) => way,
        Err(problem) => return usage(&problem),
    };
    let result = match args.watch {
        true => watch(&args, &way),
        false => show_once(&args, &way),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            cli::say(&format!("luxcast jobs: {problem}"));
            ExitCode::FAILURE
        }
    }
}

/// A daemon is asked for one status; of several, and when jobs are watched, all jobs are asked for.
fn wanted(args: &JobsArgs) -> Wanted {
    let one = match args.status[..] {
        [status] if !args.watch => Some(status),
        _ => None,
    };
    let has_all = one.is_some() || args.status.is_empty();
    let limit = args.limit.filter(|_| has_all).map(|limit| limit as usize);
    Wanted { job: None, flow: args.flow.clone(), status: one, limit }
}

fn show_once(args: &JobsArgs, way: &Way) -> Result<(), String> {
    let mut list = JobList::read(way, &wanted(args)).map_err(|refused| refused.to_string())?;
    let jobs = list.parsed()?;
    let mut is_shown = jobs.iter().map(|job| is_asked_for(args, job));
    list.jobs.retain(|_| is_shown.next().expect("there are as many"));
    list.jobs.truncate(args.limit.map_or(usize::MAX, |limit| limit as usize));
    let mut text = String::new();
    match args.output {
        Output::Table if list.jobs.is_empty() => cli::say("luxcast jobs: there are none"),
        Output::Table => {
            let rows: Vec<_> = list.parsed()?.iter().map(|job| row(&list, job)).collect();
            let widths = widths(rows.iter());
            text.push_str(&line(COLUMNS.map(str::to_owned), &widths, &Palette::plain()));
            let palette = Palette::chosen(args.color, &io::stdout());
            rows.into_iter().for_each(|row| text.push_str(&line(row, &widths, &palette)));
        }
        Output::Json => text = serde_json::to_string(&list).expect("a list is plain data") + "\n",
        Output::Ndjson => list.jobs.iter().for_each(|job| text.push_str(&format!("{job}\n"))),
    }
    put(&text).map(drop)
}

/// Shows jobs when they come and when their status changes, until nobody reads that any more.
fn watch(args: &JobsArgs, way: &Way) -> Result<(), String> {
    let mut changes = Changes::default();
    let mut backoff = Backoff::default();
    let palette = Palette::chosen(args.color, &io::stdout());
    loop {
        let began = Instant::now();
        let pause = match JobList::read(way, &wanted(args)) {
            Ok(list) => {
                if std::mem::take(&mut changes.is_away) {
                    cli::say("luxcast jobs: the daemon is there again");
                }
                backoff = Backoff::default();
                if !put(&changes.text(args, &list, &palette)?)? {
                    return Ok(());
                }
                LOOK.max(began.elapsed() * PAUSE_FACTOR)
            }
            Err(Refused::OutputClosed) => return Ok(()),
            Err(refused) if !changes.has_seen || matches!(refused, Refused::ForGood(_)) => {
                return Err(refused.to_string());
            }
            Err(refused) => {
                if !std::mem::replace(&mut changes.is_away, true) {
                    cli::say(&format!("luxcast jobs: {refused}; trying again"));
                }
                backoff.next(None, fastrand::f64())
            }
        };
        if way.outlet.sleep(pause) {
            return Ok(());
        }
    }
}

/// What was seen of the jobs.
#[derive(Default)]
struct Changes {
    /// The status of each job.
    statuses: HashMap<String, String>,
    widths: [usize; COLUMNS.len()],
    has_seen: bool,
    is_away: bool,
}

impl Changes {
    /// What is new in this list, the oldest job first.
    fn text(&mut self, args: &JobsArgs, list: &JobList, palette: &Palette) -> Result<String, String> {
        let jobs = list.parsed()?;
        let mut changed = Vec::new();
        for (job, raw) in jobs.iter().zip(&list.jobs).rev() {
            let before = self.statuses.get(&job.job_id).filter(|before| **before != job.status);
            let was_shown = before.is_some_and(|before| args.status.iter().any(|one| one.as_str() == before));
            let is_new = !self.statuses.contains_key(&job.job_id);
            if (is_new || before.is_some()) && (was_shown || is_asked_for(args, job)) {
                changed.push((job, raw));
            }
        }
        // Jobs that the daemon has forgotten come anew, if they come again.
        self.statuses = jobs.iter().map(|job| (job.job_id.clone(), job.status.clone())).collect();
        let mut text = String::new();
        if args.output == Output::Ndjson {
            changed.iter().for_each(|(_, raw)| text.push_str(&format!("{raw}\n")));
            self.has_seen = true;
            return Ok(text);
        }
        let rows: Vec<_> = changed.iter().map(|(job, _)| row(list, job)).collect();
        let needed = widths(rows.iter());
        self.widths = std::array::from_fn(|place| self.widths[place].max(needed[place]));
        if !std::mem::replace(&mut self.has_seen, true) {
            text.push_str(&line(COLUMNS.map(str::to_owned), &self.widths, &Palette::plain()));
        }
        rows.into_iter().for_each(|row| text.push_str(&line(row, &self.widths, palette)));
        Ok(text)
    }
}

fn is_asked_for(args: &JobsArgs, job: &Job) -> bool {
    args.status.is_empty() || args.status.iter().any(|status| status.as_str() == job.status)
}

fn row(list: &JobList, job: &Job) -> [String; COLUMNS.len()] {
    let ago = |instant: &String| Some(format!("{} ago", span(list.seconds_since(instant)?)));
    let unknown = || "-".to_owned();
    [
        visible(&job.job_id),
        visible(&job.status),
        job.flow_id.as_deref().map_or_else(unknown, visible),
        job.start_time.as_ref().and_then(ago).unwrap_or_else(unknown),
        job.duration.map_or_else(unknown, span),
        job.total_events.to_string(),
    ]
}

fn widths<'a>(rows: impl Iterator<Item = &'a [String; COLUMNS.len()]>) -> [usize; COLUMNS.len()] {
    rows.fold(COLUMNS.map(str::len), |widths, row| {
        std::array::from_fn(|place| widths[place].max(row[place].chars().count()))
    })
}

/// A line of the table, with its end. The status has its colour.
fn line(row: [String; COLUMNS.len()], widths: &[usize; COLUMNS.len()], palette: &Palette) -> String {
    let mut line = String::new();
    for (place, cell) in row.iter().enumerate() {
        let is_last = place + 1 == row.len();
        let blanks = if is_last { 0 } else { widths[place] + GAP - cell.chars().count() };
        match COLUMNS[place] {
            "STATUS" => line.push_str(&palette.status(cell)),
            _ => line.push_str(cell),
        }
        line.extend(std::iter::repeat_n(' ', blanks));
    }
    line.push('\n');
    line
}

/// Writes to standard output. False: nobody reads it any more.
pub fn put(text: &str) -> Result<bool, String> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(format!("output: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use clap::{Args, Command, FromArgMatches};
    use serde_json::value::RawValue;

    use super::{Changes, JobsArgs, Palette, line, row, wanted, widths};
    use crate::cli::job_list::JobList;
    use crate::stream::jobs::JobStatus;

    fn args(words: &[&str]) -> JobsArgs {
        let command = JobsArgs::augment_args(Command::new("jobs").no_binary_name(true));
        JobsArgs::from_arg_matches(&command.try_get_matches_from(words).unwrap()).unwrap()
    }

    /// A list of jobs: id, status, flow.
    fn list(jobs: &[(&str, &str, Option<&str>)]) -> JobList {
        let job = |(job, status, flow): &(&str, &str, Option<&str>)| {
            let flow = serde_json::to_string(flow).unwrap();
            RawValue::from_string(format!(
                "{{\"job_id\":\"{job}\",\"status\":\"{status}\",\"flow_id\":{flow},\
                 \"start_time\":\"2026-12-01T00:00:00.000Z\",\"end_time\":null,\"duration\":184.5,\
                 \"total_events\":12,\"total_slot_calls\":0,\"total_event_emits\":0,\"watchers\":0}}"
            ))
        };
        let jobs = jobs.iter().map(|entry| job(entry).unwrap()).collect();
        JobList { timestamp: "2026-12-01T00:05:00.000Z".to_owned(), stream_seq: 1, jobs }
    }

    #[test]
    fn a_row_is_as_wide_as_its_column() {
        let list = list(&[("nightly", "running", Some("etl")), ("j", "cancelled", None)]);
        let rows: Vec<_> = list.parsed().unwrap().iter().map(|job| row(&list, job)).collect();
        let widths = widths(rows.iter());
        let lines: Vec<_> = rows.into_iter().map(|row| line(row, &widths, &Palette::plain())).collect();
        assert_eq!(
            lines,
            [
                "nightly  running    etl   5m ago   3m4s      12\n",
                "j        cancelled  -     5m ago   3m4s      12\n"
            ]
        );
    }

    #[test]
    fn one_status_is_asked_for_and_several_are_chosen_from_all() {
        let one = wanted(&args(&["--status", "failed", "-n", "3"]));
        assert_eq!((one.status, one.limit), (Some(JobStatus::Failed), Some(3)));
        let two = wanted(&args(&["--status", "failed,lost", "-n", "3", "--flow", "f"]));
        assert_eq!((two.status, two.limit, two.flow.as_deref()), (None, None, Some("f")));
        assert_eq!(wanted(&args(&["--status", "failed", "--watch"])).status, None);
        assert_eq!(wanted(&args(&["-n", "3"])).limit, Some(3));
    }

    #[test]
    fn a_job_is_shown_again_when_its_status_changes() {
        let mut changes = Changes::default();
        let args = args(&["--watch", "--status", "running"]);
        let mut shown = |jobs: &[(&str, &str, Option<&str>)]| {
            let text = changes.text(&args, &list(jobs), &Palette::plain()).unwrap();
            let firsts =
                text.lines().map(|line| line.split_whitespace().take(2).collect::<Vec<_>>().join(" "));
            firsts.collect::<Vec<_>>()
        };
        assert_eq!(shown(&[("b", "failed", None), ("a", "running", None)]), ["JOB STATUS", "a running"]);
        assert_eq!(shown(&[("b", "failed", None), ("a", "running", None)]), [""; 0]);
        // It was shown before, so its end is told.
        assert_eq!(shown(&[("b", "running", None), ("a", "failed", None)]), ["a failed", "b running"]);
        assert_eq!(shown(&[("b", "running", None)]), [""; 0]);
        assert_eq!(shown(&[("a", "running", None), ("b", "running", None)]), ["a running"]);
    }
}
