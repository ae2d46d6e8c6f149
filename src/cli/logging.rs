//! The daemon's log: lines on standard error, for people or in JSON, written by a thread of their own.
//!
//! Nothing waits for standard error. Lines that it does not take are dropped and counted; when it takes lines again,
//! a line reports how many were dropped.

use std::io::{self, IsTerminal, Write};
use std::mem;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::json;
use tracing::Level;
use tracing::level_filters::LevelFilter;
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::Registry;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::layer;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::LogFormat;
use crate::wire::stamp::Stamp;

/// Lines that may wait for standard error: a minute's worth under the worst load, in about 2 MB.
const LINES_MAX: usize = 16_384;
/// Shortest time between two reports of dropped lines.
const DROPPED_PAUSE: Duration = Duration::from_secs(5);

/// Lines that were not written.
#[derive(Default)]
pub struct Dropped {
    /// Those for which the queue had no room, once there is a queue.
    queue: OnceLock<ErrorCounter>,
    failed_writes: AtomicUsize,
    /// Those already reported: `reported <= lines`.
    reported: AtomicUsize,
}

impl Dropped {
    /// All dropped so far.
    pub fn lines(&self) -> usize {
        let of_queue = self.queue.get().map_or(0, ErrorCounter::dropped_lines);
        of_queue + self.failed_writes.load(Ordering::Relaxed)
    }

    /// Takes the number of lines not yet reported; from now on they count as reported.
    pub fn take_unreported(&self) -> usize {
        let lines = self.lines();
        lines.saturating_sub(self.reported.swap(lines, Ordering::Relaxed))
    }

    fn put_back(&self, unreported: usize) {
        self.reported.fetch_sub(unreported, Ordering::Relaxed);
    }
}

/// The log. When it is dropped, waiting lines are written if standard error takes them within a second.
pub struct Logging {
    writer: NonBlocking,
    /// Taken when dropped.
    guard: Option<WorkerGuard>,
    pub dropped: Arc<Dropped>,
    format: LogFormat,
}

impl Logging {
    /// Installs the log of the process; returns it with a switch for its level. Call it once.
    pub fn start(level: LevelFilter, format: LogFormat) -> (Logging, LevelSwitch) {
        let logging = Logging::to(io::stderr(), format);
        let (filter, switch) = reload::Layer::new(level);
        let lines = layer().with_writer(logging.writer.clone()).with_target(false);
        // The bus thread says itself what comes of its connection.
        let own = filter_fn(|metadata| !metadata.target().starts_with("async_nats"));
        let registry = tracing_subscriber::registry().with(filter).with(own);
        match format {
            LogFormat::Human => registry.with(lines.with_ansi(io::stderr().is_terminal())).init(),
            LogFormat::Json => registry.with(lines.json().flatten_event(true)).init(),
        }
        (logging, LevelSwitch(switch))
    }

    fn to(output: impl Write + Send + 'static, format: LogFormat) -> Logging {
        let dropped = Arc::new(Dropped::default());
        let output = Counting { output, dropped: dropped.clone(), format, reported_at: None };
        let (writer, guard) = NonBlockingBuilder::default()
            .lossy(true)
            .buffered_lines_limit(LINES_MAX)
            .thread_name("log")
            .finish(output);
        dropped.queue.get_or_init(|| writer.error_counter());
        Logging { writer, guard: Some(guard), dropped, format }
    }

    /// Writes this text as it is, whatever the log level: for a person at the terminal. In the JSON format it is one
    /// line like all others.
    pub fn say(&self, level: Level, text: &str) {
        let taken = match self.format {
            LogFormat::Human => self.writer.clone().write_all(text.as_bytes()),
            LogFormat::Json => self.writer.clone().write_all(json_line(level, text).as_bytes()),
        };
        taken.expect("a lossy writer takes or drops everything");
    }
}

fn now() -> Stamp {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Stamp::from_unix_millis(now.as_millis() as i64)
}

fn json_line(level: Level, text: &str) -> String {
    let timestamp = now();
    let line = json!({"timestamp": timestamp.as_str(), "level": level.as_str(), "message": text.trim()});
    format!("{line}\n")
}

/// Changes the level of the running log.
pub struct LevelSwitch(reload::Handle<LevelFilter, Registry>);

impl LevelSwitch {
    pub fn set(&self, level: LevelFilter) {
        self.0.reload(level).expect("the log lives as long as the process");
    }
}

impl Drop for Logging {
    fn drop(&mut self) {
        // If its queue is full, the guard waits in vain and then prints a complaint on standard output, where only
        // the ready lines may appear. An empty line shows whether the queue is full.
        let dropped = self.writer.error_counter().dropped_lines();
        self.writer.write_all(b"").expect("a lossy writer takes or drops everything");
        if self.writer.error_counter().dropped_lines() > dropped {
            mem::forget(self.guard.take());
        }
    }
}

/// Counts the lines that the output refuses, as on a full disk, and later reports them there.
struct Counting<W> {
    output: W,
    dropped: Arc<Dropped>,
    format: LogFormat,
    reported_at: Option<Instant>,
}

impl<W: Write> Counting<W> {
    /// Nothing is reported while the output refuses lines.
    fn report_dropped(&mut self) {
        if self.reported_at.is_some_and(|at| at.elapsed() < DROPPED_PAUSE) {
            return;
        }
        let unreported = self.dropped.take_unreported();
        if unreported == 0 {
            return;
        }
        let text = format!("{unreported} log lines were dropped");
        let line = match self.format {
            LogFormat::Human => format!("{}  WARN {text}\n", now().as_str()),
            LogFormat::Json => json_line(Level::WARN, &text),
        };
        match self.output.write_all(line.as_bytes()) {
            Ok(()) => self.reported_at = Some(Instant::now()),
            Err(_) => self.dropped.put_back(unreported),
        }
    }
}

impl<W: Write> Write for Counting<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.report_dropped();
        if self.output.write_all(line).is_err() {
            self.dropped.failed_writes.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::{Counting, Dropped, LINES_MAX, Level, LogFormat, Logging, json_line};
    use std::io::{self, Read, Write};
    use std::sync::Arc;
    use std::sync::atomic::Ordering;
    use std::time::{Duration, Instant};

    #[test]
    fn pending_lines_are_written_at_the_end() {
        let (mut reader, writer) = io::pipe().unwrap();
        let logging = Logging::to(writer, LogFormat::Human);
        logging.say(Level::INFO, "one\n");
        logging.say(Level::INFO, "two\n");
        assert_eq!(logging.dropped.lines(), 0);
        drop(logging);
        let mut text = [0; 8];
        reader.read_exact(&mut text).unwrap();
        assert_eq!(&text, b"one\ntwo\n");
    }

    #[test]
    fn in_json_each_is_one_line() {
        let line = json_line(Level::ERROR, "luxcast: \"x\"\nis gone\n");
        assert!(line.ends_with('\n') && line.matches('\n').count() == 1, "{line}");
        let read: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&read["level"], &read["message"]), (&"ERROR".into(), &"luxcast: \"x\"\nis gone".into()));
        assert!(read["timestamp"].as_str().unwrap().ends_with('Z'));
    }

    #[test]
    fn a_blocked_output_stalls_nobody_and_the_dropped_are_counted() {
        let (_reader, writer) = io::pipe().unwrap();
        let logging = Logging::to(writer, LogFormat::Human);
        let start = Instant::now();
        let line = format!("{}\n", "x".repeat(1_000));
        for _ in 0..LINES_MAX + 1_000 {
            logging.say(Level::INFO, &line);
        }
        // The pipe takes 64 KiB, the writer holds one line, the queue holds its maximum.
        assert!((900..=1_000).contains(&logging.dropped.lines()), "{}", logging.dropped.lines());
        drop(logging);
        assert!(start.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn what_is_said_after_lines_were_dropped_is_written_at_the_end() {
        let (mut reader, writer) = io::pipe().unwrap();
        let logging = Logging::to(writer, LogFormat::Human);
        let line = format!("{}\n", "x".repeat(1_000));
        for _ in 0..LINES_MAX + 1_000 {
            logging.say(Level::INFO, &line);
        }
        assert!(logging.dropped.lines() > 0);
        let (drained, is_drained) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut text = vec![0; LINES_MAX * line.len()];
            reader.read_exact(&mut text).unwrap();
            drained.send(String::new()).unwrap();
            let mut rest = String::new();
            reader.read_to_string(&mut rest).unwrap();
            drained.send(rest).unwrap();
        });
        let patience = Duration::from_secs(60);
        is_drained.recv_timeout(patience).unwrap();
        logging.say(Level::INFO, "last\n");
        drop(logging);
        // The log ends only after it had time to write.
        let rest = is_drained.recv_timeout(patience).expect("the log does not end");
        assert!(rest.ends_with("last\n"), "{rest}");
    }

    #[test]
    fn refused_lines_are_counted() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let logging = Logging::to(Full, LogFormat::Human);
        logging.say(Level::INFO, "lost\n");
        let dropped = logging.dropped.clone();
        drop(logging);
        assert_eq!((dropped.lines(), dropped.take_unreported(), dropped.take_unreported()), (1, 1, 0));
    }

    #[test]
    fn an_output_that_takes_lines_again_gets_one_count_of_the_missed() {
        /// Refuses this many writes at first.
        struct Recovering(usize, Vec<u8>);
        impl Write for Recovering {
            fn write(&mut self, line: &[u8]) -> io::Result<usize> {
                if self.0 > 0 {
                    self.0 -= 1;
                    return Err(io::ErrorKind::StorageFull.into());
                }
                self.1.write(line)
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        for format in [LogFormat::Human, LogFormat::Json] {
            let dropped = Arc::new(Dropped::default());
            // One line, then two that each follow a report.
            let output = Recovering(5, Vec::new());
            let mut output = Counting { output, dropped: dropped.clone(), format, reported_at: None };
            for line in ["one\n", "two\n", "three\n", "four\n", "five\n"] {
                output.write_all(line.as_bytes()).unwrap();
            }
            dropped.failed_writes.fetch_add(1, Ordering::Relaxed);
            output.write_all(b"six\n").unwrap();
            let text = String::from_utf8(output.output.1).unwrap();
            let lines: Vec<&str> = text.lines().collect();
            assert!(lines[0].contains("WARN") && lines[0].contains("3 log lines were dropped"), "{text}");
            assert_eq!(lines[1..], ["four", "five", "six"], "reported again too soon");
            assert_eq!((dropped.lines(), dropped.take_unreported()), (4, 1));
        }
    }
}
