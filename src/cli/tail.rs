//! `luxcast tail`: shows the events of a job, a flow or everything as they come.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::{ColorChoice, ValueHint};

use crate::cli;
use crate::cli::arrivals::Arrivals;
use crate::cli::ending::JobEnd;
use crate::cli::event_line::event_line;
use crate::cli::outlet::Outlet;
use crate::cli::palette::Palette;
use crate::cli::status_line::StatusLine;
use crate::cli::watch::{End, RealClock, Viewer, watch, way};
use crate::cli::watch_args::{WatchArgs, since};
use crate::wire::client_action::Since;
use crate::wire::stamp::parse_unix_micros;

/// How long the daemon may be away before the job's end counts as unknown.
const GIVE_UP: Duration = Duration::from_secs(60);

/// How the job ended is unknown.
pub const EXIT_UNKNOWN: u8 = 3;

#[derive(Debug, clap::Args)]
pub struct TailArgs {
    #[command(flatten)]
    pub watch: WatchArgs,
    /// Where to begin: N (after event number N), start (all kept events), -100 (the last 100), or now [default: now;
    /// with --until-end start]
    #[arg(long, value_name = "N|start|-100|now", allow_hyphen_values = true, value_parser = since,
          value_hint = ValueHint::Other)]
    pub since: Option<Since>,
    /// Print the events as the daemon sends them, one JSON object a line
    #[arg(long)]
    pub json: bool,
    /// With --until-end: exit with 0 if the job completed, 1 if it failed or was cancelled, 3 if its end is unknown.
    /// Unknown: it is lost, the time is up, the daemon refused, or was away for longer than --give-up (60 if not given)
    #[arg(long, requires = "until_end")]
    pub exit_status: bool,
    /// Use colours: auto (if the terminal shows them), always or never
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub color: ColorChoice,
    /// Show no status line; there is one if standard output is a terminal
    #[arg(long)]
    pub no_status: bool,
}

/// Exit code 0: standard output was closed, the job ended, the time was up or, with `--once`, the connection ended.
/// 1: refused, or the daemon could not be reached. 3, with `--until-end`: the job is lost, or the time was up before
/// its end. `--exit-status` has its own codes.
pub fn run(mut args: TailArgs) -> ExitCode {
    if let Err(problem) = args.watch.complete() {
        cli::say(&format!("luxcast tail: {problem}"));
        return ExitCode::from(cli::EXIT_USAGE);
    }
    args.watch.give_up_later = args.exit_status.then_some(GIVE_UP);
    let mut screen = Screen::new(&args);
    let outcome = watch(&args.watch, first(&args), &mut screen, &mut RealClock);
    screen.status.clear();
    match &outcome {
        Err(message) => screen.say(message),
        Ok(End::Job(JobEnd::Lost)) => screen.say(LOST),
        Ok(End::TimedOut) if args.watch.until_end => screen.say(TIMED_OUT),
        Ok(_) => {}
    }
    ExitCode::from(exit_code(&outcome, args.watch.until_end, args.exit_status))
}

/// Messages for a watch that ends before the job does.
pub const LOST: &str = "the job is lost: its publisher has been silent for too long";
pub const TIMED_OUT: &str = "the time is up, and the job has not ended";

/// Where to begin: in the past if the job may have ended already.
fn first(args: &TailArgs) -> Since {
    let usual = if args.watch.until_end { Since::Start } else { Since::Now };
    args.since.or(args.watch.pasted_since).unwrap_or(usual)
}

fn exit_code(outcome: &Result<End, String>, waits_for_job: bool, tells_job: bool) -> u8 {
    match outcome {
        Ok(End::Job(JobEnd::Lost)) => EXIT_UNKNOWN,
        Ok(End::TimedOut) if waits_for_job => EXIT_UNKNOWN,
        Ok(End::Job(JobEnd::Failed | JobEnd::Cancelled)) if tells_job => 1,
        Ok(End::Job(_)) => 0,
        Ok(_) | Err(_) if tells_job => EXIT_UNKNOWN,
        Ok(_) => 0,
        Err(_) => 1,
    }
}

/// Events on standard output, the rest on standard error.
struct Screen<O> {
    out: O,
    /// Usually both are the same terminal: then the status line hides for each event.
    shares_terminal: bool,
    is_json: bool,
    palette: Palette,
    connections: u64,
    status: StatusLine,
    arrivals: Arrivals,
    outlet: Outlet,
}

impl Screen<io::StdoutLock<'static>> {
    fn new(args: &TailArgs) -> Self {
        let out = io::stdout().lock();
        let palette = Palette::chosen(args.color, &out);
        let is_terminal = out.is_terminal();
        let outlet = Outlet::of(&out);
        Self {
            shares_terminal: is_terminal,
            out,
            is_json: args.json,
            palette,
            connections: 0,
            // Beside a pipe it would mix with the next program's output at the terminal.
            status: StatusLine::new(&args.watch, args.no_status || !is_terminal),
            // The watch itself reports what is wrong with the address.
            arrivals: Arrivals::of(way(&args.watch, outlet.clone()).ok()),
            outlet,
        }
    }
}

impl<O: Write> Viewer for Screen<O> {
    fn show(&mut self, event: &str, stream_seq: Option<u64>) -> io::Result<()> {
        // Without a number it is the snapshot of a job's metrics, which begins each connection.
        let is_wanted = stream_seq.is_some() || (!self.is_json && self.connections <= 1);
        if !is_wanted {
            return Ok(());
        }
        let line = match self.is_json {
            true => None,
            false => {
                let arrivals = &mut self.arrivals;
                event_line(event, &self.palette, || arrivals.of_event(stream_seq?))
            }
        };
        let mut line = line.unwrap_or_else(|| event.to_owned());
        line.push('\n');
        let out = &mut self.out;
        let mut write = || {
            out.write_all(line.as_bytes())?;
            out.flush()
        };
        match self.shares_terminal {
            true => self.status.make_way(write)?,
            false => write()?,
        }
        if stream_seq.is_some() {
            self.status.count_event(event);
        }
        Ok(())
    }

    fn say(&mut self, line: &str) {
        self.status.make_way(|| cli::say(&format!("luxcast tail: {line}")));
    }

    fn note_gap(&mut self) {
        self.status.count_gap();
    }

    fn note_connection(&mut self, is_connected: bool) {
        self.connections += u64::from(is_connected);
        self.status.set_connected(is_connected);
    }

    fn note_daemon(&mut self, newest: u64, server_time: Option<&str>) {
        let server_unix_ms = server_time.and_then(parse_unix_micros).map(|micros| micros.div_euclid(1000));
        self.arrivals.note_connected(newest, server_unix_ms);
    }

    fn outlet(&self) -> Outlet {
        self.outlet.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clap::{Args, Command, FromArgMatches};

    use super::{
        Arrivals, End, JobEnd, Outlet, Palette, Screen, Since, StatusLine, TailArgs, Viewer, exit_code, first,
    };

    fn args(words: &[&str]) -> Result<TailArgs, clap::Error> {
        let command = TailArgs::augment_args(Command::new("tail").no_binary_name(true));
        TailArgs::from_arg_matches(&command.try_get_matches_from(words)?)
    }

    fn screen(is_json: bool, connections: u64) -> Screen<Vec<u8>> {
        let watch = args(&[]).unwrap().watch;
        Screen {
            out: Vec::new(),
            shares_terminal: false,
            is_json,
            palette: Palette::plain(),
            connections,
            status: StatusLine::new(&watch, true),
            arrivals: Arrivals::new(Box::new(|_, _| Some(vec![(10, 1_736_937_000_000)]))),
            outlet: Outlet::default(),
        }
    }

    const SNAPSHOT: &str = r#"{"type":"metrics","job_id":"j","metrics":{"total_events":2}}"#;
    const EVENT: &str = r#"{"stream_seq":20,"type":"x","job_id":"j"}"#;

    #[test]
    fn people_get_lines_and_the_snapshot_once() {
        let mut people = screen(false, 1);
        people.show(SNAPSHOT, None).unwrap();
        people.note_daemon(20, Some("2025-01-15T10:30:00.000Z"));
        people.show(EVENT, Some(20)).unwrap();
        people.note_connection(true);
        people.show(SNAPSHOT, None).unwrap();
        assert_eq!(
            String::from_utf8(people.out).unwrap(),
            "- j metrics events=2\n2025-01-15T10:30:00.000Z j x\n"
        );
    }

    #[test]
    fn programs_get_numbered_events_as_they_came() {
        let mut program = screen(true, 1);
        program.show(SNAPSHOT, None).unwrap();
        program.show(EVENT, Some(20)).unwrap();
        assert_eq!(String::from_utf8(program.out).unwrap(), format!("{EVENT}\n"));
    }

    #[test]
    fn where_to_begin() {
        let begin = |words: &[&str]| first(&args(words).unwrap());
        assert_eq!(begin(&[]), Since::Now);
        assert_eq!(begin(&["--job", "j", "--until-end"]), Since::Start);
        assert_eq!(begin(&["--job", "j", "--until-end", "--since", "7"]), Since::After(7));
        assert!(args(&["--job", "j", "--exit-status"]).is_err());
        let given = args(&["--job", "j", "--until-end", "--exit-status", "--give-up", "1.5"]).unwrap();
        assert_eq!(given.watch.give_up, Some(Duration::from_millis(1500)));
    }

    #[test]
    fn exit_codes_say_how_it_ended() {
        let table = [
            (Ok(End::Job(JobEnd::Completed)), [0, 0, 0]),
            (Ok(End::Job(JobEnd::Failed)), [0, 0, 1]),
            (Ok(End::Job(JobEnd::Cancelled)), [0, 0, 1]),
            (Ok(End::Job(JobEnd::Lost)), [3, 3, 3]),
            (Ok(End::TimedOut), [0, 3, 3]),
            (Ok(End::Disconnected), [0, 0, 3]),
            (Ok(End::OutputClosed), [0, 0, 3]),
            (Err("refused".to_owned()), [1, 1, 3]),
        ];
        for (outcome, codes) in table {
            let found = [(false, false), (true, false), (true, true)]
                .map(|(waits_for_job, tells_job)| exit_code(&outcome, waits_for_job, tells_job));
            assert_eq!(found, codes, "{outcome:?}");
        }
    }
}
