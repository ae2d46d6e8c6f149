//! `luxcast run`: runs a program as a job. Its output passes through as it comes, and the daemon is told of it line by line;
//! signals and the exit code are the program's.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::ValueHint;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, getpgrp, kill_process, waitid};
use rustix::termios::tcgetpgrp;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals;

use crate::cli::feed::Places;
use crate::cli::feed_url::FeedUrl;
use crate::cli::job_events::{Ending, JobEvents, LineCutter, Stream};
use crate::cli::teller::{Teller, To, Untold};
use crate::cli::watch_args::id;
use crate::cli::{EXIT_USAGE, say};

/// As shells exit where a program is not found, or cannot be started.
const EXIT_NOT_FOUND: u8 = 127;
const EXIT_NOT_STARTED: u8 = 126;
/// What shells add to the number of the signal that killed a program.
const EXIT_KILLED: i32 = 128;

/// The program has ended, and others may still hold its output: it is read for so long.
const OUTPUT_PATIENCE: Duration = Duration::from_secs(2);
const BLOCK_BYTES: usize = 64 << 10;

/// Signals that are passed on.
const SIGNALS: [i32; 6] = [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2];

#[derive(Debug, clap::Args)]
pub struct RunArgs {
    /// The job that the program is
    #[arg(long, value_name = "ID", allow_hyphen_values = true, value_parser = id, value_hint = ValueHint::Other)]
    job: String,
    /// The flow of the job
    #[arg(long, value_name = "ID", allow_hyphen_values = true, value_parser = id, value_hint = ValueHint::Other)]
    flow: Option<String>,
    /// The routine of the job that the program is
    #[arg(long, value_name = "NAME", allow_hyphen_values = true, value_hint = ValueHint::Other)]
    routine: Option<String>,
    /// The daemon's ingest socket [default: LUXCAST_INGEST, else the first of $XDG_RUNTIME_DIR/luxcast.sock and
    /// /run/luxcast/ingest.sock where a daemon listens]
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath)]
    ingest: Option<PathBuf>,
    #[command(flatten)]
    http: FeedUrl,
    /// Do not say at the end what the daemon was not told
    #[arg(long, short)]
    quiet: bool,
    /// The program and its arguments
    #[arg(value_name = "COMMAND", required = true, trailing_var_arg = true, allow_hyphen_values = true,
          value_hint = ValueHint::CommandWithArguments)]
    command: Vec<String>,
}

/// The exit code is the program's. 126: it cannot be started. 127: it is not there. 2: wrong usage.
pub fn run(args: RunArgs) -> ExitCode {
    let wrong = |problem: &str| {
        say(&format!("luxcast run: {problem}"));
        ExitCode::from(EXIT_USAGE)
    };
    let to = match args.http.way() {
        Ok(None) => To::Socket(Places::new(args.ingest.clone())),
        Ok(Some(way)) => To::Http(way),
        Err(problem) => return wrong(&problem),
    };
    let started = Teller::start(to, "run").and_then(|teller| Ok((teller, Signals::new(SIGNALS)?)));
    let (teller, signals) = match started {
        Ok(started) => started,
        Err(error) => return wrong(&error.to_string()),
    };
    let events = JobEvents { job: args.job.clone(), flow: args.flow.clone(), routine: args.routine.clone() };
    let began = Instant::now();
    events.started(&args.command, unix_millis()).into_iter().for_each(|line| teller.tell(line));
    let (ending, code, teller) = match spawn(&args.command) {
        Ok(child) => {
            let teller = Arc::new(teller);
            let ending = attend(child, signals, &events, &teller);
            let code = match &ending {
                Ending::Killed(signal) => EXIT_KILLED + signal,
                Ending::Exit(code) => *code,
                Ending::NotStarted(_) => i32::from(EXIT_NOT_STARTED),
            };
            (ending, code as u8, teller)
        }
        Err(error) => {
            let why = format!("cannot start {}: {error}", args.command[0]);
            say(&format!("luxcast run: {why}"));
            let is_there = error.kind() != ErrorKind::NotFound;
            let code = if is_there { EXIT_NOT_STARTED } else { EXIT_NOT_FOUND };
            (Ending::NotStarted(why), code, Arc::new(teller))
        }
    };
    let now = unix_millis();
    let untold =
        teller.finish(|lines| events.dropped(lines, now), events.ended(&ending, began.elapsed(), now));
    if !args.quiet
        && let Some(words) = words_of(&untold)
    {
        say(&format!("luxcast run: {words}"));
    }
    ExitCode::from(code)
}

fn words_of(untold: &Untold) -> Option<String> {
    let events = |count: u64| if count == 1 { "1 event".to_owned() } else { format!("{count} events") };
    let why = untold.problem.as_ref().map_or_else(String::new, |problem| format!(": {problem}"));
    match (untold.lines, untold.refused) {
        (0, 0) => None,
        (0, refused) => Some(format!("the daemon refused {}{why}", events(refused))),
        (lines, _) => Some(format!("the daemon was not told {}{why}", events(lines))),
    }
}

fn unix_millis() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn spawn(command: &[String]) -> io::Result<Child> {
    let mut program = Command::new(&command[0]);
    program.args(&command[1..]).stdout(Stdio::piped()).stderr(Stdio::piped());
    program.spawn()
}

/// Passes output and signals on until the program has ended.
fn attend(mut child: Child, signals: Signals, events: &JobEvents, teller: &Arc<Teller>) -> Ending {
    let (done, ended) = mpsc::channel();
    let out = child.stdout.take().expect("it is piped");
    let err = child.stderr.take().expect("it is piped");
    pump(out, io::stdout(), (Stream::Stdout, events, teller), done.clone());
    pump(err, io::stderr(), (Stream::Stderr, events, teller), done);
    let handle = signals.handle();
    let pid = Pid::from_child(&child);
    let passing = thread::Builder::new().name("signals".to_owned()).spawn(move || pass_signals(signals, pid));
    // It keeps its number until it is looked at, so that no signal goes to another process.
    let _ = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
    handle.close();
    if let Ok(passing) = passing {
        let _ = passing.join();
    }
    let status = child.wait();
    await_output(&ended);
    match status {
        Ok(status) => ending_of(status),
        Err(error) => Ending::NotStarted(format!("its end cannot be awaited: {error}")),
    }
}

fn ending_of(status: ExitStatus) -> Ending {
    match (status.code(), status.signal()) {
        (Some(code), _) => Ending::Exit(code),
        (None, signal) => Ending::Killed(signal.unwrap_or(0)),
    }
}

/// Waits until both outputs have ended.
fn await_output(ended: &Receiver<()>) {
    let until = Instant::now() + OUTPUT_PATIENCE;
    for _ in 0..2 {
        let left = until.saturating_duration_since(Instant::now());
        if ended.recv_timeout(left).is_err() {
            return;
        }
    }
}

/// Passes an output on, on a thread of its own. If nobody reads it any more, the program is told so by the end of its pipe.
fn pump(
    mut from: impl Read + Send + 'static,
    mut to: impl Write + Send + 'static,
    (stream, events, teller): (Stream, &JobEvents, &Arc<Teller>),
    done: Sender<()>,
) {
    let (events, teller) = (events.clone(), teller.clone());
    let run = move || {
        let mut cutter = LineCutter::default();
        let mut block = vec![0; BLOCK_BYTES];
        let tell = |text: &str| teller.tell(events.output(stream, text, unix_millis()));
        loop {
            let count = match from.read(&mut block) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => break,
            };
            cutter.take(&block[..count], tell);
            if to.write_all(&block[..count]).and_then(|()| to.flush()).is_err() {
                break;
            }
        }
        drop(from);
        cutter.finish(tell);
        drop(teller);
        let _ = done.send(());
    };
    let name = format!("{stream:?}").to_lowercase();
    thread::Builder::new().name(name).spawn(run).expect("a thread can be started");
}

/// Passes signals on until the program has ended. The keyboard's go to the whole group of processes anyway.
fn pass_signals(mut signals: Signals, child: Pid) {
    for signal in signals.forever() {
        let is_of_keyboard = matches!(signal, SIGINT | SIGQUIT) && is_in_foreground();
        if !is_of_keyboard && let Some(signal) = Signal::from_named_raw(signal) {
            let _ = kill_process(child, signal);
        }
    }
}

/// Whether this is what the keyboard of its terminal stops.
fn is_in_foreground() -> bool {
    let group = tcgetpgrp(io::stdin().as_fd()).or_else(|_| tcgetpgrp(io::stderr().as_fd()));
    group.is_ok_and(|group| group == getpgrp())
}
