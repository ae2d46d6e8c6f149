//! The daemon's log: lines for people on standard error, written by a thread of their own.
//!
//! Nothing waits for standard error. Lines that it does not take are dropped and counted.

use std::io::{self, IsTerminal, Write};
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tracing::level_filters::LevelFilter;
use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::Registry;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;

/// Lines that may wait for standard error: a minute of a very bad day, in about 2 MB.
const LINES_MAX: usize = 16_384;

/// The log; when it is dropped, what waits is written, if standard error takes it within a second.
pub struct Logging {
    writer: NonBlocking,
    /// Taken when dropped.
    guard: Option<WorkerGuard>,
    failed_writes: Arc<AtomicUsize>,
}

impl Logging {
    /// Makes it the log of the process, whose level can be changed. To be called once.
    pub fn start(level: LevelFilter) -> (Logging, LevelSwitch) {
        let logging = Logging::to(io::stderr());
        let (filter, switch) = reload::Layer::new(level);
        let lines = tracing_subscriber::fmt::layer()
            .with_writer(logging.writer.clone())
            .with_ansi(io::stderr().is_terminal())
            .with_target(false);
        tracing_subscriber::registry().with(filter).with(lines).init();
        (logging, LevelSwitch(switch))
    }

    fn to(output: impl Write + Send + 'static) -> Logging {
        let failed_writes = Arc::new(AtomicUsize::new(0));
        let output = Counting { output, failed_writes: failed_writes.clone() };
        let (writer, guard) = NonBlockingBuilder::default()
            .lossy(true)
            .buffered_lines_limit(LINES_MAX)
            .thread_name("log")
            .finish(output);
        Logging { writer, guard: Some(guard), failed_writes }
    }

    /// Writes this text as it stands, whatever the log level: for what a person at the terminal must see.
    pub fn say(&self, text: &str) {
        let taken = self.writer.clone().write_all(text.as_bytes());
        taken.expect("a lossy writer takes or drops everything");
    }

    /// Lines that did not get out so far.
    pub fn dropped_lines(&self) -> usize {
        self.writer.error_counter().dropped_lines() + self.failed_writes.load(Ordering::Relaxed)
    }
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
        // If its queue is full, the guard waits in vain and then prints a complaint on standard output, where
        // only the ready lines may stand.
        if self.writer.error_counter().dropped_lines() > 0 {
            mem::forget(self.guard.take());
        }
    }
}

/// Counts the lines that the output refuses, such as those for a full disk.
struct Counting<W> {
    output: W,
    failed_writes: Arc<AtomicUsize>,
}

impl<W: Write> Write for Counting<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.output.write_all(line).is_err() {
            self.failed_writes.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::{LINES_MAX, Logging};
    use std::io::{self, Read, Write};
    use std::time::{Duration, Instant};

    #[test]
    fn what_was_said_is_written_at_the_end() {
        let (mut reader, writer) = io::pipe().unwrap();
        let logging = Logging::to(writer);
        logging.say("one\n");
        logging.say("two\n");
        assert_eq!(logging.dropped_lines(), 0);
        drop(logging);
        let mut text = [0; 8];
        reader.read_exact(&mut text).unwrap();
        assert_eq!(&text, b"one\ntwo\n");
    }

    #[test]
    fn a_blocked_output_stalls_nobody_and_the_dropped_are_counted() {
        let (_reader, writer) = io::pipe().unwrap();
        let logging = Logging::to(writer);
        let start = Instant::now();
        let line = format!("{}\n", "x".repeat(1_000));
        for _ in 0..LINES_MAX + 1_000 {
            logging.say(&line);
        }
        // The pipe takes 64 KiB, one line is in the writer's hands, the queue holds its maximum.
        assert!((900..=1_000).contains(&logging.dropped_lines()), "{}", logging.dropped_lines());
        drop(logging);
        assert!(start.elapsed() < Duration::from_secs(10));
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
        let logging = Logging::to(Full);
        logging.say("lost\n");
        let failed_writes = logging.failed_writes.clone();
        drop(logging);
        assert_eq!(failed_writes.load(std::sync::atomic::Ordering::Relaxed), 1);
    }
}
