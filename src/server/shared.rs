//! The start of a daemon that shares its stream with others (`bus`): it has its history back before it listens.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::{Events, Poll};

use crate::bus::chunk::Bounds;
use crate::bus::numbers::Epochs;
use crate::bus::verdict::Standing;
use crate::config::Config;
use crate::metrics::BusCounters;
use crate::net::bus::handle::{Beginning, BusHandle, Report};
use crate::net::bus::said::Said;
use crate::net::clock::Clock;
use crate::net::ingest::handle::IngestWaker;
use crate::net::ingest::shared_stream::{SharedParts, SharedStream};
use crate::server::start_error::StartError;
use crate::server::threads::{ThreadHandle, join};
use crate::stream::directory::{Directory, EarlierRuns};
use crate::stream::sequencer::{Sequencer, Step};

/// Opens the files that the bus needs, before anything is started.
///
/// # Errors
/// What is wrong with one of them.
#[cfg(feature = "bus")]
pub(super) fn check_files(config: &Config) -> Result<(), StartError> {
    use crate::net::bus::connect::BusConfig;

    BusConfig::new(config).map_or(Ok(()), |bus| bus.check()).map_err(StartError::Setting)
}

/// Without the feature the settings have been refused.
#[cfg(not(feature = "bus"))]
pub(super) fn check_files(_: &Config) -> Result<(), StartError> {
    Ok(())
}

/// Between two looks at whether the start is still wanted.
const LOOK: Duration = Duration::from_millis(100);

/// A start that waits for the stream.
pub(super) struct Joining<'a, F> {
    config: &'a Config,
    pub poll: Poll,
    /// The clock of the ingest thread.
    clock: Clock,
    until: Instant,
    must_stop: F,
    /// The last word about what is wrong.
    trouble: Option<String>,
    said: Said,
}

/// The stream has been found.
pub(super) struct Joined {
    handle: BusHandle,
    thread: ThreadHandle<()>,
    nonce: String,
    beginning: Box<Beginning>,
}

impl Joined {
    pub fn epochs(&self) -> &Epochs {
        &self.beginning.epochs
    }

    /// The number before the first one of this run.
    pub fn run_start(&self) -> u64 {
        let first = self.beginning.epochs.number(self.beginning.passed_from, 0);
        first.expect("a stream whose numbers are used up has been refused") - 1
    }

    /// The settings with the bounds of the stream's lines: what this daemon takes in, all others have to take as well.
    pub fn bounded(&self, config: &Config) -> Config {
        let Bounds { line_bytes_max, depth_max } = self.beginning.bounds;
        Config { line_bytes_max, depth_max, ..config.clone() }
    }

    /// What the stream had before this run was there, and is not here.
    pub fn directory(&self, topics_max: usize) -> Directory {
        let Beginning { epochs, has_older, .. } = &*self.beginning;
        let first = epochs.number(1, 0).expect("epochs have a first number");
        let run_start = self.run_start();
        let earlier = match *has_older {
            true => EarlierRuns::lost(first, run_start),
            false => EarlierRuns::none(run_start),
        };
        Directory::with_earlier(run_start, EarlierRuns { is_shared: true, ..earlier }, topics_max)
    }
}

impl<'a, F: FnMut() -> bool> Joining<'a, F> {
    pub fn new(config: &'a Config, poll: Poll, clock: Clock, must_stop: F) -> Self {
        Self {
            config,
            poll,
            clock,
            until: Instant::now() + config.bus_start_seconds,
            must_stop,
            trouble: None,
            said: Said::default(),
        }
    }

    /// Finds the stream. None: the settings name no bus.
    ///
    /// # Errors
    /// Why it cannot be used, or that nobody answered.
    pub fn join(&mut self, waker: &Arc<IngestWaker>) -> Result<Option<Joined>, StartError> {
        if self.config.bus.is_empty() {
            return Ok(None);
        }
        let nonce = format!("{:016x}", fastrand::u64(..));
        let bytes_max = self.config.history_bytes as u64;
        let wanted = Wanted { name: "luxcast", nonce: &nonce, message: 1, bytes_max };
        let (handle, thread) = start_thread(self.config, &wanted, waker, self.clock)?;
        loop {
            match handle.reports.recv_timeout(LOOK) {
                Ok(Report::Begun(beginning)) => {
                    for what in &beginning.differences {
                        tracing::warn!("bus: {}: {what}", self.config.bus_stream);
                    }
                    return Ok(Some(Joined { handle, thread, nonce, beginning }));
                }
                Ok(Report::Unfit(why)) => {
                    return Err(StartError::System(io::Error::other(format!("bus: {why}"))));
                }
                Ok(Report::Trouble(words)) => self.note_trouble(words),
                Ok(_) => {}
                Err(error) if error.is_disconnected() => {
                    join(thread)?;
                    return Err(StartError::System(io::Error::other("bus: its thread has ended")));
                }
                Err(_) => {}
            }
            self.check()?;
        }
    }

    fn note_trouble(&mut self, words: String) {
        if self.said.is_new(&words) {
            tracing::warn!("bus: {words}; trying again");
        }
        self.trouble = Some(words);
    }

    fn check(&mut self) -> Result<(), StartError> {
        if (self.must_stop)() {
            return Err(StartError::Interrupted);
        }
        if Instant::now() < self.until {
            return Ok(());
        }
        let mut words = format!(
            "bus: the stream was not read to its end within {:?} (bus_start_seconds)",
            self.config.bus_start_seconds
        );
        if let Some(trouble) = &self.trouble {
            words.push_str(&format!(": {trouble}"));
        }
        Err(StartError::System(io::Error::other(words)))
    }

    /// Reads the stream to its end.
    ///
    /// # Errors
    /// It took too long, or the start is not wanted any more.
    pub fn catch_up(
        &mut self,
        joined: Joined,
        directory: &Arc<Directory>,
        counters: &BusCounters,
        sequencer: &mut Sequencer,
    ) -> Result<(SharedStream, ThreadHandle<()>), StartError> {
        let Joined { handle, thread, nonce, beginning } = joined;
        counters.is_used.set(1);
        let mut shared =
            SharedStream::new(SharedParts { handle, beginning, directory: directory.clone(), nonce });
        let mut events = Events::with_capacity(1);
        while shared.standing() != Standing::Following || shared.is_busy() {
            if !shared.is_busy() {
                match self.poll.poll(&mut events, Some(LOOK)) {
                    Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error.into()),
                    _ => {}
                }
            }
            let moment = self.clock.read();
            sequencer.read_micros = self.clock.micros(moment.instant);
            if shared.take_reports(moment.now, sequencer, counters) {
                sequencer.end_turn();
                while sequencer.step() != Step::Done {}
            }
            self.check()?;
        }
        tracing::info!(
            "bus: {} events are back from the stream, up to {}",
            sequencer.history_events(),
            sequencer.seq()
        );
        Ok((shared, thread))
    }
}

/// Starts to read the stream again from a message on, as far as `bus_replay_bytes` allow. The thread ends with the handle.
///
/// # Errors
/// There is no thread to be had.
pub(super) fn start_pass(
    config: &Config,
    message: u64,
    waker: &Arc<IngestWaker>,
    clock: Clock,
) -> io::Result<BusHandle> {
    let nonce = format!("{:016x}", fastrand::u64(..));
    let bytes_max = config.bus_replay_bytes as u64;
    let wanted = Wanted { name: PASS, nonce: &nonce, message, bytes_max };
    Ok(start_thread(config, &wanted, waker, clock)?.0)
}

/// The connection of a pass. If that fails, the daemon goes on, and the next pass may have more luck.
const PASS: &str = "luxcast-past";

/// What a bus thread is to read.
#[cfg_attr(not(feature = "bus"), expect(dead_code, reason = "without the feature there is no such thread"))]
struct Wanted<'a> {
    /// Of its connections.
    name: &'static str,
    nonce: &'a str,
    message: u64,
    bytes_max: u64,
}

#[cfg(feature = "bus")]
fn start_thread(
    config: &Config,
    wanted: &Wanted<'_>,
    waker: &Arc<IngestWaker>,
    clock: Clock,
) -> io::Result<(BusHandle, ThreadHandle<()>)> {
    use crate::net::bus::begin::BeginAt;
    use crate::net::bus::connect::BusConfig;
    use crate::net::bus::thread::{self, BusParts};
    use crate::server::threads::spawn;

    let &Wanted { name, nonce, message, bytes_max } = wanted;
    let bounds = Bounds { line_bytes_max: config.line_bytes_max, depth_max: config.depth_max };
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let bus = BusConfig::new(config).expect("a bus is set");
    // A pass has the same files.
    for words in bus.open_files().iter().filter(|_| name != PASS) {
        tracing::warn!("{words}");
    }
    let (handle, thread) = thread::new(BusParts {
        config: bus,
        name,
        begin_at: BeginAt { message, bytes_max, bounds },
        nonce: nonce.to_owned(),
        host,
        ingest: waker.clone(),
        clock,
    });
    let run = move || match thread.run() {
        Err(error) if name == PASS => {
            tracing::warn!("past: {error}");
            Ok(())
        }
        result => result,
    };
    Ok((handle, spawn(name.replace("luxcast", "bus"), run)?))
}

#[cfg(not(feature = "bus"))]
fn start_thread(
    _: &Config,
    _: &Wanted<'_>,
    _: &Arc<IngestWaker>,
    _: Clock,
) -> io::Result<(BusHandle, ThreadHandle<()>)> {
    Err(io::Error::other("this luxcast was built without the feature bus of its Cargo.toml"))
}
