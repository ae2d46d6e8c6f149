//! `luxcast sim`: runs the simulated workflow engine at a chosen rate, into the ingest socket, over HTTP or to standard
//! output.

use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::ValueHint;
use fastrand::Rng;

use super::connection::Way;
use super::feed::Places;
use super::feed_url::FeedUrl;
use super::outlet::Outlet;
use super::posting::{Posting, Unsettled, name_of_run};
use super::{EXIT_USAGE, say};
use crate::sim::pacer::Pacer;
use crate::sim::{Engine, Options};

#[derive(Debug, clap::Args)]
pub struct SimArgs {
    /// The daemon's ingest socket [default: LUXCAST_INGEST, else the first of $XDG_RUNTIME_DIR/luxcast.sock and
    /// /run/luxcast/ingest.sock where a daemon listens]
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub ingest: Option<PathBuf>,
    #[command(flatten)]
    pub http: FeedUrl,
    /// Events a second, evenly spaced; 0 = as fast as they are taken
    #[arg(long, value_name = "RATE", default_value = "50", value_parser = read_rate, value_hint = ValueHint::Other)]
    pub events_per_second: f64,
    /// Jobs running at the same time
    #[arg(long, value_name = "N", default_value = "8",
          value_parser = clap::value_parser!(u32).range(1..=JOBS_MAX), value_hint = ValueHint::Other)]
    pub jobs: u32,
    /// Seed: the same one makes the same jobs [default: random, and printed]
    #[arg(long, value_name = "NUMBER", value_hint = ValueHint::Other)]
    pub seed: Option<u64>,
    /// Stop after this many events [default: never]
    #[arg(long, value_name = "EVENTS", value_hint = ValueHint::Other)]
    pub count: Option<u64>,
    /// Share of jobs that fail, from 0 to 1
    #[arg(long, value_name = "SHARE", default_value = "0.1", value_parser = read_share, value_hint = ValueHint::Other)]
    pub failure_rate: f64,
    /// Write the events to standard output instead
    #[arg(long, conflicts_with_all = ["ingest", "url"])]
    pub stdout: bool,
}

/// Each running job costs a few hundred bytes.
const JOBS_MAX: i64 = 1_000_000;

/// The job of `serve --demo` that never ends; its id is easy to type.
const DEMO_JOB: &str = "demo-job";

/// Enough to see activity, slow enough to read along.
const DEMO_EVENTS_PER_SECOND: f64 = 25.0;

/// Most events written at once: about 300 KB.
const PORTION_EVENTS_MAX: u64 = 1_000;

/// How often a waiting thread checks whether to stop.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// Pauses between two attempts to reach the daemon: the first, and the longest after doubling.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_LONGEST: Duration = Duration::from_secs(5);

/// Runs until `count` events are written, or for ever. Exit code 1: standard output failed, or the daemon refuses all
/// events over HTTP. 2: wrong usage.
pub fn run(args: SimArgs) -> ExitCode {
    let way = match args.http.way() {
        Ok(way) => way,
        Err(problem) => {
            say(&format!("luxcast sim: {problem}"));
            return ExitCode::from(EXIT_USAGE);
        }
    };
    let seed = args.seed.unwrap_or_else(|| {
        let seed = unix_micros() as u64;
        say(&format!("luxcast sim: seed {seed}"));
        seed
    });
    let jobs = usize::try_from(args.jobs).expect("a u32 fits");
    let options = Options { jobs, failure_rate: args.failure_rate, endless_job: None };
    let pacer = (args.events_per_second > 0.0).then(|| Pacer::new(args.events_per_second));
    let left = args.count.unwrap_or(u64::MAX);
    let outlet = if args.stdout { Outlet::of(&io::stdout()) } else { Outlet::default() };
    let simulation = Simulation { engine: Engine::new(seed, options), pacer, left, outlet };

    let stop = Arc::new(AtomicBool::new(false));
    if let Some(way) = way {
        return post(simulation, &stop, way);
    }
    let written = if args.stdout {
        let mut out = io::stdout().lock();
        simulation.run(&stop, |lines| out.write_all(lines).and_then(|()| out.flush()))
    } else {
        let places = Places::new(args.ingest);
        let mut publisher =
            Publisher::new(places, stop.clone(), |news: &str| say(&format!("luxcast sim: {news}")));
        simulation.run(&stop, |lines| {
            publisher.send(lines);
            Ok(())
        })
    };
    match written {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read it has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("luxcast sim: cannot write on standard output: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Posts all events over HTTP, and tries again until the daemon takes them or refuses them for good.
fn post(simulation: Simulation, stop: &AtomicBool, way: Way) -> ExitCode {
    let say = |news: &str| say(&format!("luxcast sim: {news}"));
    let mut posting = Posting::new(way, Some(name_of_run("sim")), true, &say, &thread::sleep);
    let (mut first, mut refused) = (1, 0);
    let fail = |unsettled: Unsettled| io::Error::other(unsettled.reason);
    let posted = posting.greet().map_err(fail).and_then(|_| {
        simulation.run(stop, |lines| {
            let settled = posting.send(first, lines).map_err(fail)?;
            first += lines.iter().filter(|byte| **byte == b'\n').count() as u64;
            if let Some(line) = settled.refused.first().filter(|_| refused == 0) {
                say(&format!("events are refused: {}: {}", line.code, line.message));
            }
            refused += settled.refused_total;
            Ok(())
        })
    });
    match posted {
        Ok(()) if refused == 0 => ExitCode::SUCCESS,
        Ok(()) => {
            say(&format!("{refused} events were refused"));
            ExitCode::FAILURE
        }
        Err(error) => {
            say(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

/// The job of `serve --demo` that never ends. Daemons that share a stream have one each, so that no job has two engines.
pub fn demo_job(shares_stream: bool) -> String {
    if !shares_stream {
        return DEMO_JOB.to_owned();
    }
    format!("{DEMO_JOB}-{:08x}", Rng::new().u32(..))
}

/// Runs the engine of `serve --demo`: a few jobs and one that never ends, slow enough to read along. Returns soon
/// after `stop` is set.
pub fn run_demo(ingest: PathBuf, endless_job: String, stop: Arc<AtomicBool>) {
    let options = Options { jobs: 5, endless_job: Some(endless_job), ..Options::default() };
    let engine = Engine::new(unix_micros() as u64, options);
    let pacer = Some(Pacer::new(DEMO_EVENTS_PER_SECOND));
    let simulation = Simulation { engine, pacer, left: u64::MAX, outlet: Outlet::default() };
    let mut publisher =
        Publisher::new(Places::new(Some(ingest)), stop.clone(), |news| tracing::warn!("demo: {news}"));
    let written = simulation.run(&stop, |lines| {
        publisher.send(lines);
        Ok(())
    });
    written.expect("a publisher reports no errors, it tries again");
}

/// An engine, its rate (none: as fast as lines are taken) and how many events it still makes.
struct Simulation {
    engine: Engine,
    pacer: Option<Pacer>,
    left: u64,
    /// Where the lines go, if that can close while no line is due.
    outlet: Outlet,
}

impl Simulation {
    /// Runs until no event is left or `stop` is set. `write` may be slow: missed events are not made up for.
    fn run(mut self, stop: &AtomicBool, mut write: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let mut lines = String::new();
        let mut last = Instant::now();
        while self.left > 0 && !stop.load(Ordering::Relaxed) {
            let now = Instant::now();
            let due = match &mut self.pacer {
                Some(pacer) => pacer.take(now - last),
                None => PORTION_EVENTS_MAX,
            };
            last = now;
            let due = due.min(PORTION_EVENTS_MAX).min(self.left);
            self.left -= due;
            lines.clear();
            let time = unix_micros();
            for _ in 0..due {
                self.engine.next(time, &mut lines);
            }
            write(lines.as_bytes())?;
            if let Some(pacer) = &mut self.pacer
                && self.left > 0
                && sleep(pacer.wait(), stop, &self.outlet)
            {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
        }
        Ok(())
    }
}

/// A connection to the ingest socket that is made again when it is lost.
struct Publisher<F> {
    places: Places,
    stream: Option<UnixStream>,
    stop: Arc<AtomicBool>,
    /// Called once when the daemon is out of reach, and once when it is back.
    report: F,
    is_out_of_reach: bool,
}

impl<F: FnMut(&str)> Publisher<F> {
    fn new(places: Places, stop: Arc<AtomicBool>, report: F) -> Publisher<F> {
        Publisher { places, stream: None, stop, report, is_out_of_reach: false }
    }

    /// Writes these whole lines, on several connections if needed: a line that was cut off is sent again from its
    /// start. Gives up only when `stop` is set.
    fn send(&mut self, lines: &[u8]) {
        let mut sent = 0;
        while sent < lines.len() && !self.stop.load(Ordering::Relaxed) {
            let Some(stream) = &mut self.stream else {
                self.connect();
                continue;
            };
            match stream.write(&lines[sent..]) {
                Ok(length) if length > 0 => sent += length,
                Err(error) if is_momentary(&error) => {}
                Ok(_) | Err(_) => {
                    self.stream = None;
                    sent = line_start(lines, sent);
                }
            }
        }
    }

    /// Tries until the daemon is there, with a longer pause each time.
    fn connect(&mut self) {
        let mut pause = RETRY_FIRST;
        while !self.stop.load(Ordering::Relaxed) {
            match open(&self.places) {
                Ok(stream) => {
                    self.stream = Some(stream);
                    if std::mem::take(&mut self.is_out_of_reach) {
                        (self.report)("connected again");
                    }
                    return;
                }
                Err(error) => {
                    if !std::mem::replace(&mut self.is_out_of_reach, true) {
                        (self.report)(&format!("{error}; trying again"));
                    }
                    sleep(pause, &self.stop, &Outlet::default());
                    pause = (pause * 2).min(RETRY_LONGEST);
                }
            }
        }
    }
}

fn open(places: &Places) -> Result<UnixStream, String> {
    let (stream, _) = places.connect()?;
    // A daemon that takes nothing must not keep us from seeing `stop`.
    stream.set_write_timeout(Some(LOOK_INTERVAL)).map_err(|error| error.to_string())?;
    Ok(stream)
}

fn is_momentary(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), Interrupted | TimedOut | WouldBlock)
}

/// Where the line that contains this place begins.
fn line_start(lines: &[u8], place: usize) -> usize {
    lines[..place].iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1)
}

/// Sleeps, but ends soon after `stop` is set or the output closes. Returns whether the output was closed.
fn sleep(duration: Duration, stop: &AtomicBool, outlet: &Outlet) -> bool {
    let start = Instant::now();
    loop {
        let left = duration.saturating_sub(start.elapsed());
        if left.is_zero() || stop.load(Ordering::Relaxed) {
            return false;
        }
        if outlet.sleep(left.min(LOOK_INTERVAL)) {
            return true;
        }
    }
}

/// 0 for a clock before 1970.
fn unix_micros() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

fn read_rate(text: &str) -> Result<f64, String> {
    let rate = text.parse::<f64>().ok().filter(|rate| rate.is_finite() && *rate >= 0.0);
    rate.ok_or("must be a number, 0 or more".to_string())
}

fn read_share(text: &str) -> Result<f64, String> {
    let share = text.parse::<f64>().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or("must be a number from 0 to 1".to_string())
}

#[cfg(test)]
mod tests {
    use super::{
        Outlet, Places, Publisher, Simulation, demo_job, line_start, read_rate, read_share, run_demo,
    };
    use crate::sim::pacer::Pacer;
    use crate::sim::{Engine, Options};
    use std::io::{BufRead, BufReader, Read};
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::path::PathBuf;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::sync::mpsc;
    use std::thread;
    use std::time::{Duration, Instant};

    fn socket_path() -> PathBuf {
        static SOCKETS: AtomicUsize = AtomicUsize::new(0);
        let number = SOCKETS.fetch_add(1, Ordering::Relaxed);
        let name = format!("luxcast-sim-{}-{number}.sock", std::process::id());
        std::env::temp_dir().join(name)
    }

    #[test]
    fn no_two_demos_on_one_stream_have_the_same_endless_job() {
        let jobs: Vec<String> = (0..3).map(|_| demo_job(true)).collect();
        assert!(jobs.iter().all(|job| job.starts_with("demo-job-") && job.len() == 17), "{jobs:?}");
        assert!(jobs[0] != jobs[1] && jobs[1] != jobs[2], "{jobs:?}");
        assert_eq!(demo_job(false), "demo-job", "as the samples have it");
    }

    #[test]
    fn so_many_events_are_written_and_no_more() {
        for (pacer, count) in [(None, 2_500), (Some(Pacer::new(1e6)), 2_500), (None, 0)] {
            let engine = Engine::new(1, Options::default());
            let mut lines = 0;
            let stop = AtomicBool::new(false);
            let simulation = Simulation { engine, pacer, left: count, outlet: Outlet::default() };
            let written = simulation.run(&stop, |text| {
                lines += text.iter().filter(|byte| **byte == b'\n').count() as u64;
                Ok(())
            });
            assert!(written.is_ok());
            assert_eq!(lines, count);
        }
    }

    #[test]
    fn a_line_that_was_cut_off_is_sent_again() {
        let path = socket_path();
        let listener = UnixListener::bind(&path).unwrap();
        let (report, news) = mpsc::channel::<String>();
        // Too long for the socket's buffer.
        let long = format!("{}\n", "x".repeat(8 << 20));
        let lines = format!("first\n{long}last\n");
        let publisher = thread::spawn({
            let (path, lines) = (path.clone(), lines.clone());
            move || {
                let stop = Arc::new(AtomicBool::new(false));
                let mut publisher = Publisher::new(Places::new(Some(path)), stop, move |news| {
                    let _ = report.send(news.to_string());
                });
                publisher.send(lines.as_bytes());
            }
        });
        let (mut stream, _) = listener.accept().unwrap();
        let mut start = vec![0; 1_000];
        stream.read_exact(&mut start).unwrap();
        assert!(start.starts_with(b"first\nxxx"));
        drop(listener);
        std::fs::remove_file(&path).unwrap();
        drop(stream);
        let said = news.recv().unwrap();
        let is_whole = said.starts_with("no daemon takes events at ") && said.ends_with("; trying again");
        assert!(is_whole, "{said}");

        let listener = UnixListener::bind(&path).unwrap();
        let (mut stream, _) = listener.accept().unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert!(text == format!("{long}last\n"), "{} bytes", text.len());
        assert_eq!(news.recv().unwrap(), "connected again");
        publisher.join().unwrap();
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn the_demo_has_a_job_with_a_known_id_and_stops_when_asked() {
        let path = socket_path();
        let listener = UnixListener::bind(&path).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let demo = thread::spawn({
            let (path, stop) = (path.clone(), stop.clone());
            move || run_demo(path, demo_job(false), stop)
        });
        let (stream, _) = listener.accept().unwrap();
        let mut lines = BufReader::new(stream).lines().map(Result::unwrap);
        assert!(lines.any(|line| line.contains(r#""job_id": "demo-job""#)));
        stop.store(true, Ordering::Relaxed);
        demo.join().unwrap();
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_daemon_that_takes_nothing_does_not_keep_us_from_stopping() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        ours.set_write_timeout(Some(super::LOOK_INTERVAL)).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let mut publisher = Publisher::new(Places::new(Some(PathBuf::new())), stop.clone(), |_: &str| {});
        publisher.stream = Some(ours);
        let sending = thread::spawn(move || publisher.send(&vec![b'x'; 8 << 20]));
        stop.store(true, Ordering::Relaxed);
        sending.join().unwrap();
    }

    #[test]
    fn a_stall_of_the_reader_is_followed_by_no_burst() {
        let engine = Engine::new(1, Options::default());
        let simulation =
            Simulation { engine, pacer: Some(Pacer::new(1_000.0)), left: 300, outlet: Outlet::default() };
        let stop = AtomicBool::new(false);
        let (mut largest, mut writes) = (0, 0);
        let start = Instant::now();
        let written = simulation.run(&stop, |text| {
            largest = largest.max(text.iter().filter(|byte| **byte == b'\n').count());
            writes += 1;
            if writes == 10 {
                thread::sleep(Duration::from_millis(500));
            }
            Ok(())
        });
        assert!(written.is_ok());
        // Two milliseconds requested and twenty tolerated, at one event a millisecond.
        assert!(largest <= 23, "{largest} at once");
        assert!(start.elapsed() >= Duration::from_millis(700), "{:?}", start.elapsed());
    }

    #[test]
    fn an_output_that_is_closed_while_nothing_is_due_ends_it() {
        let (reader, writer) = std::io::pipe().unwrap();
        let engine = Engine::new(1, Options::default());
        let simulation =
            Simulation { engine, pacer: Some(Pacer::new(0.001)), left: 2, outlet: Outlet::of(&writer) };
        drop(reader);
        let written = simulation.run(&AtomicBool::new(false), |_| Ok(()));
        assert_eq!(written.unwrap_err().kind(), std::io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn where_a_line_begins() {
        assert_eq!(line_start(b"ab\ncd\n", 0), 0);
        assert_eq!(line_start(b"ab\ncd\n", 2), 0);
        assert_eq!(line_start(b"ab\ncd\n", 3), 3);
        assert_eq!(line_start(b"ab\ncd\n", 5), 3);
        assert_eq!(line_start(b"ab\ncd\n", 6), 6);
    }

    #[test]
    fn impossible_numbers_are_refused() {
        for text in ["-1", "NaN", "inf", "1e400", "", "fast"] {
            assert!(read_rate(text).is_err(), "{text}");
            assert!(read_share(text).is_err(), "{text}");
        }
        assert_eq!((read_rate("0"), read_share("1")), (Ok(0.0), Ok(1.0)));
        assert!(read_share("1.01").is_err());
    }
}
