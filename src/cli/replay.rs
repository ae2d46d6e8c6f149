//! `luxcast replay`: sends recorded events to the daemon, as far apart as their timestamps say.

use std::io::{self, BufRead, BufReader, Read};
use std::mem;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::ValueHint;

use crate::cli::feed_url::FeedUrl;
use crate::cli::outlet::Outlet;
use crate::cli::publish::{self, PublishArgs};
use crate::cli::watch_args::seconds;
use crate::wire::members::members;
use crate::wire::stamp::read_json;

/// Due lines are sent together, up to this many bytes.
const BLOCK_BYTES: usize = 64 << 10;

/// How much of a line is held at once. Longer lines pass in pieces; the daemon judges them.
const PIECE_BYTES_MAX: u64 = 1 << 20;

#[derive(Debug, clap::Args)]
pub struct ReplayArgs {
    /// File with the events, one JSON object a line; - is standard input
    #[arg(value_name = "FILE", default_value = "-", value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
    /// Speed: 1 keeps the recorded pace, 10 is ten times as fast, max does not wait
    #[arg(long, value_name = "FACTOR", default_value = "1", value_parser = speed, value_hint = ValueHint::Other)]
    pub speed: f64,
    /// Longest pause between two events [default: no limit]
    #[arg(long, value_name = "SECONDS", value_parser = seconds, value_hint = ValueHint::Other)]
    pub pause_max: Option<Duration>,
    /// The daemon's ingest socket [default: LUXCAST_INGEST, else the first of $XDG_RUNTIME_DIR/luxcast.sock and
    /// /run/luxcast/ingest.sock where a daemon listens]
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub ingest: Option<PathBuf>,
    #[command(flatten)]
    pub http: FeedUrl,
    /// With --url: try again for as long as it takes, also when the connection is lost. No line comes twice
    #[arg(long, requires = "url")]
    pub retry: bool,
    /// Show no progress bar
    #[arg(long)]
    pub no_progress: bool,
}

fn speed(text: &str) -> Result<f64, String> {
    if text == "max" {
        return Ok(f64::INFINITY);
    }
    let factor = text.parse::<f64>().ok().filter(|factor| *factor > 0.0 && factor.is_finite());
    factor.ok_or_else(|| "must be a number above 0, or max".to_owned())
}

/// The exit codes are those of `publish`.
pub fn run(args: ReplayArgs) -> ExitCode {
    let timetable = Timetable::new(args.speed, args.pause_max.unwrap_or(Duration::MAX));
    let publish = PublishArgs {
        file: args.file,
        ingest: args.ingest,
        http: args.http,
        retry: args.retry,
        publisher: None,
        dedupe: false,
        no_progress: args.no_progress,
        is_quiet: false,
    };
    publish::run_as("replay", publish, |input, outlet| {
        let time = RealTime { began: Instant::now(), outlet };
        Box::new(Paced::new(input, timetable, time))
    })
}

/// When each line is due, counted from the first.
struct Timetable {
    speed: f64,
    pause_max: Duration,
    /// The latest timestamp so far: a line with an earlier one does not wait.
    latest_micros: Option<i64>,
    due: Duration,
}

impl Timetable {
    fn new(speed: f64, pause_max: Duration) -> Self {
        Self { speed, pause_max, latest_micros: None, due: Duration::ZERO }
    }

    /// When this line is due. One without a timestamp is due with the line before it.
    fn next(&mut self, line: &[u8]) -> Duration {
        let Some(micros) = time_of(line) else { return self.due };
        let latest = self.latest_micros.unwrap_or(micros);
        let passed = Duration::from_micros(micros.saturating_sub(latest).max(0).unsigned_abs());
        let pause = Duration::try_from_secs_f64(passed.as_secs_f64() / self.speed).unwrap_or(Duration::MAX);
        self.due = self.due.saturating_add(pause.min(self.pause_max));
        self.latest_micros = Some(micros.max(latest));
        self.due
    }
}

fn time_of(line: &[u8]) -> Option<i64> {
    let [timestamp] = members(std::str::from_utf8(line).ok()?, &["timestamp"])?;
    read_json(timestamp?)
}

/// A clock that begins at zero and can be waited for.
trait Time {
    fn now(&self) -> Duration;
    fn wait(&mut self, duration: Duration);
}

struct RealTime {
    began: Instant,
    /// When the daemon closes it, waiting ends.
    outlet: Outlet,
}

impl Time for RealTime {
    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    fn wait(&mut self, duration: Duration) {
        self.outlet.sleep(duration);
    }
}

/// Hands out lines when they are due, several at once if several are.
struct Paced<R, T> {
    input: BufReader<R>,
    timetable: Timetable,
    time: T,
    /// Due lines, handed out up to `taken`.
    block: Vec<u8>,
    taken: usize,
    /// The line after them, or a piece of it, and when it is due.
    next: Vec<u8>,
    next_due: Duration,
    is_at_line_start: bool,
}

impl<R: Read, T: Time> Paced<R, T> {
    fn new(input: R, timetable: Timetable, time: T) -> Self {
        Self {
            input: BufReader::with_capacity(BLOCK_BYTES, input),
            timetable,
            time,
            block: Vec::new(),
            taken: 0,
            next: Vec::new(),
            next_due: Duration::ZERO,
            is_at_line_start: true,
        }
    }

    /// Waits until the next line is due, and takes along lines that are also due and already buffered.
    fn fill(&mut self) -> io::Result<()> {
        self.block.clear();
        self.taken = 0;
        if self.next.is_empty() {
            self.read_next()?;
        }
        let wait = self.next_due.saturating_sub(self.time.now());
        if !self.next.is_empty() && wait > Duration::ZERO {
            self.time.wait(wait);
        }
        mem::swap(&mut self.block, &mut self.next);
        // Lines that are not buffered yet come later.
        while self.block.len() < BLOCK_BYTES && !self.input.buffer().is_empty() {
            self.read_next()?;
            if self.next_due > self.time.now() {
                break;
            }
            self.block.append(&mut self.next);
        }
        Ok(())
    }

    fn read_next(&mut self) -> io::Result<()> {
        (&mut self.input).take(PIECE_BYTES_MAX).read_until(b'\n', &mut self.next)?;
        if self.is_at_line_start {
            self.next_due = self.timetable.next(&self.next);
        }
        self.is_at_line_start = self.next.ends_with(b"\n");
        Ok(())
    }
}

impl<R: Read, T: Time> Read for Paced<R, T> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.taken == self.block.len() {
            self.fill()?;
        }
        let count = (&self.block[self.taken..]).read(into)?;
        self.taken += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::io::{BufRead, BufReader, Read};
    use std::rc::Rc;
    use std::time::Duration;

    use super::{PIECE_BYTES_MAX, Paced, Time, Timetable, speed};

    /// Waiting takes no time here.
    #[derive(Clone, Default)]
    struct FakeTime(Rc<RefCell<Duration>>);

    impl Time for FakeTime {
        fn now(&self) -> Duration {
            *self.0.borrow()
        }

        fn wait(&mut self, duration: Duration) {
            *self.0.borrow_mut() += duration;
        }
    }

    fn line(time: &str) -> String {
        format!("{{\"type\":\"x\",\"job_id\":\"j\",\"timestamp\":\"2025-01-15T10:30:{time}\"}}\n")
    }

    /// Each line with the millisecond at which it came.
    fn replayed(input: &[u8], speed: f64, pause_max: Duration) -> Vec<(u128, String)> {
        let time = FakeTime::default();
        let paced = Paced::new(input, Timetable::new(speed, pause_max), time.clone());
        let mut reader = BufReader::new(paced);
        let mut found = Vec::new();
        loop {
            let mut text = Vec::new();
            if reader.read_until(b'\n', &mut text).unwrap() == 0 {
                return found;
            }
            found.push((time.now().as_millis(), String::from_utf8_lossy(&text).into_owned()));
        }
    }

    #[test]
    fn lines_come_as_far_apart_as_they_say() {
        let lines = [line("00"), line("01.250Z"), "nonsense\n".to_owned(), line("00.5"), line("03")];
        let input = lines.concat();
        let times = |speed, pause_max| -> Vec<u128> {
            let found = replayed(input.as_bytes(), speed, pause_max);
            assert_eq!(found.iter().map(|(_, text)| text.as_str()).collect::<String>(), input);
            found.into_iter().map(|(time, _)| time).collect()
        };
        assert_eq!(times(1.0, Duration::MAX), [0, 1250, 1250, 1250, 3000]);
        assert_eq!(times(0.5, Duration::MAX), [0, 2500, 2500, 2500, 6000]);
        assert_eq!(times(1.0, Duration::from_secs(1)), [0, 1000, 1000, 1000, 2000]);
        assert_eq!(times(f64::INFINITY, Duration::MAX), [0; 5]);
    }

    #[test]
    fn numbers_are_times_too() {
        let input = r#"{"timestamp":1736937000}
{"timestamp":1736937001.5}
{"timestamp":"2025-01-15T10:30:02Z"}
{"timestamp":1736937004000}
{"timestamp":1736937004250000}
"#;
        let found = replayed(input.as_bytes(), 1.0, Duration::MAX);
        assert_eq!(found.iter().map(|(time, _)| *time).collect::<Vec<_>>(), [0, 1500, 2000, 4000, 4250]);
    }

    #[test]
    fn the_bytes_are_those_of_the_input() {
        let long = format!("{{\"a\":\"{}\"}}\n", "x".repeat(2 * PIECE_BYTES_MAX as usize + 7));
        let many = line("00").repeat(5_000);
        for input in [String::new(), "\n\n".to_owned(), "no end".to_owned(), many, long + &line("09") + "end"]
        {
            let time = FakeTime::default();
            let mut paced = Paced::new(input.as_bytes(), Timetable::new(2.0, Duration::MAX), time);
            let mut output = String::new();
            paced.read_to_string(&mut output).unwrap();
            assert!(output == input, "{} bytes became {}", input.len(), output.len());
        }
    }

    #[test]
    fn times_far_apart_do_no_harm() {
        let input = r#"{"timestamp":"1970-01-01T00:00:00Z"}
{"timestamp":"9000-12-31T23:59:59Z"}
{"timestamp":true}
{"timestamp":5}
"#;
        let found = replayed(input.as_bytes(), 1e-300, Duration::from_millis(5));
        assert_eq!(found.iter().map(|(time, _)| *time).collect::<Vec<_>>(), [0, 5, 5, 5]);
    }

    #[test]
    fn a_speed_is_a_number_above_nothing() {
        assert_eq!(speed("2.5"), Ok(2.5));
        assert_eq!(speed("max"), Ok(f64::INFINITY));
        for wrong in ["0", "-1", "inf", "NaN", "fast", ""] {
            assert!(speed(wrong).is_err(), "{wrong}");
        }
    }
}
