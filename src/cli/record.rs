//! `luxcast record`: writes the events of a job, a flow or everything to a file, as their publisher wrote them, for
//! `replay`, `publish` and bug reports.

use std::io::{self, ErrorKind, Write};
use std::path::PathBuf;
use std::process::{self, ExitCode};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use clap::ValueHint;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::cli;
use crate::cli::ending::JobEnd;
use crate::cli::outlet::Outlet;
use crate::cli::recording::{Recording, hold};
use crate::cli::tail::{EXIT_UNKNOWN, LOST, TIMED_OUT};
use crate::cli::watch::{End, RealClock, Viewer, watch};
use crate::cli::watch_args::{WatchArgs, since};
use crate::wire::client_action::Since;
use crate::wire::members::members;

#[derive(Debug, clap::Args)]
pub struct RecordArgs {
    /// File for the events, one JSON object a line; - is standard output
    #[arg(value_name = "FILE", default_value = "-", value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
    #[command(flatten)]
    pub watch: WatchArgs,
    /// Where to begin: start (all kept events), N (after event number N), -100 (the last 100), or now [default:
    /// start]
    #[arg(long, value_name = "N|start|-100|now", allow_hyphen_values = true, value_parser = since,
          value_hint = ValueHint::Other)]
    pub since: Option<Since>,
    /// Leave out events of type metrics, which the daemon makes for jobs whose publisher sends none
    #[arg(long)]
    pub without_metrics: bool,
    /// Replace an existing file, once the first event arrives
    #[arg(long)]
    pub force: bool,
}

/// Exit code 0: the file holds everything up to a signal, the job's end or, with `--once`, the connection's end. 1:
/// something is missing. 2: wrong usage, or the file cannot be made. 3, with `--until-end`: the job is lost, or the
/// time was up before its end.
pub fn run(mut args: RecordArgs) -> ExitCode {
    let problem = args.watch.complete().err();
    let recording = problem.map_or_else(|| Recording::open(&args.file, args.force), Err);
    let recording = match recording {
        Ok(recording) => recording,
        Err(problem) => {
            cli::say(&format!("luxcast record: {problem}"));
            return ExitCode::from(cli::EXIT_USAGE);
        }
    };
    let tally = Arc::new(Tally::default());
    if let Err(error) = end_by_signal(tally.clone(), recording.replacing()) {
        cli::say(&format!("luxcast record: {error}"));
        return ExitCode::from(1);
    }
    let outlet = recording.outlet();
    let mut recorder =
        Recorder { out: recording, outlet, tally: tally.clone(), leaves_metrics_out: args.without_metrics };
    let first = args.since.or(args.watch.pasted_since).unwrap_or(Since::Start);
    let outcome = watch(&args.watch, first, &mut recorder, &mut RealClock);
    let code = match &outcome {
        Err(message) => {
            recorder.say(message);
            1
        }
        Ok(End::Job(JobEnd::Lost)) => {
            recorder.say(LOST);
            EXIT_UNKNOWN
        }
        Ok(End::TimedOut) if args.watch.until_end => {
            recorder.say(TIMED_OUT);
            EXIT_UNKNOWN
        }
        Ok(_) => 0,
    };
    if outcome.is_err() && tally.events.load(Ordering::Relaxed) == 0 {
        // An empty file must not block the next attempt.
        recorder.out.abandon();
    }
    ExitCode::from(tally.report().max(code))
}

/// SIGINT and SIGTERM end a recording without another end. Each event is written at once, so nothing is left to
/// write.
fn end_by_signal(tally: Arc<Tally>, replacing: Arc<Mutex<()>>) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    thread::spawn(move || {
        if signals.forever().next().is_some() {
            let _held = hold(&replacing);
            process::exit(tally.report().into());
        }
    });
    Ok(())
}

#[derive(Default)]
struct Tally {
    events: AtomicU64,
    gaps: AtomicU64,
}

impl Tally {
    /// Reports what was recorded; returns the exit code for it.
    fn report(&self) -> u8 {
        let (events, gaps) = (self.events.load(Ordering::Relaxed), self.gaps.load(Ordering::Relaxed));
        cli::say(&summary(events, gaps));
        u8::from(gaps > 0)
    }
}

fn summary(events: u64, gaps: u64) -> String {
    let events = if events == 1 { "1 event".to_owned() } else { format!("{events} events") };
    match gaps {
        0 => format!("{events} recorded"),
        1 => format!("{events} recorded, with 1 gap: some events are missing"),
        _ => format!("{events} recorded, with {gaps} gaps: some events are missing"),
    }
}

struct Recorder<O> {
    out: O,
    outlet: Outlet,
    tally: Arc<Tally>,
    leaves_metrics_out: bool,
}

impl<O: Write> Viewer for Recorder<O> {
    fn show(&mut self, event: &str, stream_seq: Option<u64>) -> io::Result<()> {
        // An event without a number is the daemon's own.
        if stream_seq.is_none() || (self.leaves_metrics_out && is_metrics(event)) {
            return Ok(());
        }
        let Some(mut line) = as_published(event) else {
            return Err(io::Error::new(
                ErrorKind::InvalidData,
                "this daemon numbers its events in another way",
            ));
        };
        line.push('\n');
        // In one write, so that a signal never cuts a line.
        self.out.write_all(line.as_bytes())?;
        self.out.flush()?;
        self.tally.events.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn say(&mut self, line: &str) {
        cli::say(&format!("luxcast record: {line}"));
    }

    fn note_gap(&mut self) {
        self.tally.gaps.fetch_add(1, Ordering::Relaxed);
    }

    fn outlet(&self) -> Outlet {
        self.outlet.clone()
    }
}

fn is_metrics(event: &str) -> bool {
    members(event, &["type"]).is_some_and(|[kind]| kind == Some(r#""metrics""#))
}

/// The event without the number that the daemon put first; the rest is the publisher's, byte for byte.
fn as_published(event: &str) -> Option<String> {
    let (_, rest) = event.strip_prefix(r#"{"stream_seq":"#)?.split_once(',')?;
    Some(format!("{{{rest}"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Outlet, Recorder, Tally, Viewer, as_published, summary};

    #[test]
    fn lines_are_the_publishers_byte_for_byte() {
        let line = r#"{ "type" : "x", "job_id":"j","n":1e400, "s":"a,\u00e9" }"#;
        let event = line.replacen('{', r#"{"stream_seq":1764064800000001,"#, 1);
        assert_eq!(as_published(&event).as_deref(), Some(line));
        assert_eq!(as_published(line), None);
    }

    #[test]
    fn numbered_events_are_written_and_counted() {
        let tally = Arc::new(Tally::default());
        let (out, outlet) = (Vec::new(), Outlet::default());
        let mut recorder = Recorder { out, outlet, tally: tally.clone(), leaves_metrics_out: true };
        let metrics = r#"{"type":"metrics","job_id":"j","metrics":{}}"#;
        recorder.show(metrics, None).unwrap();
        recorder.show(&metrics.replacen('{', r#"{"stream_seq":5,"#, 1), Some(5)).unwrap();
        // A jump of the numbers is no loss.
        recorder.show(r#"{"stream_seq":1099511627776,"type":"x","job_id":"j"}"#, Some(1 << 40)).unwrap();
        assert_eq!(recorder.out, b"{\"type\":\"x\",\"job_id\":\"j\"}\n");
        assert_eq!(tally.report(), 0);
        recorder.note_gap();
        assert_eq!(tally.report(), 1);
        recorder.leaves_metrics_out = false;
        recorder.show(&metrics.replacen('{', r#"{"stream_seq":7,"#, 1), Some(7)).unwrap();
        assert!(recorder.out.ends_with(format!("{metrics}\n").as_bytes()));
        assert!(recorder.show(r#"{"type":"x","stream_seq":8}"#, Some(8)).is_err());
    }

    #[test]
    fn the_summary_reads_well() {
        assert_eq!(summary(1, 0), "1 event recorded");
        assert_eq!(summary(9, 2), "9 events recorded, with 2 gaps: some events are missing");
    }
}
