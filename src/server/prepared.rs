//! What there is before anything has an address: the parts of all threads, and what the daemon knows of the time before.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use mio::net::UnixListener;
use mio::{Poll, Waker};
use parking_lot::Mutex;
use rustix::process::{Resource, getrlimit};

use crate::access::address_limits::AddressLimits;
use crate::access::admission::{Admission, AdmissionLimits};
use crate::bus::chunk::Bounds;
use crate::config::Config;
use crate::metrics::Counters;
use crate::net::clock::{self, Clock};
use crate::net::host::state_dir::NumberMark;
use crate::net::ingest::dedupe::Dedupe;
use crate::net::ingest::handle::IngestWaker;
use crate::net::ingest::shared_stream::SharedStream;
use crate::net::ingest::{self, IngestParts};
use crate::net::past::PastHandle;
use crate::net::report::Reporter;
use crate::net::report::inquiry::{self, Inbox, Inquiries};
use crate::net::report::liveness::Liveness;
use crate::net::shard::handle::ShardHandle;
use crate::net::shard::live_config::LiveConfig;
use crate::net::shard::{self, ShardParts};
use crate::server::listeners;
use crate::server::past::PastStart;
use crate::server::persistence::{Persistence, PreviousRun};
use crate::server::shared::{Joined, Joining};
use crate::server::start_error::StartError;
use crate::server::threads::{ThreadHandle, spawn};
use crate::stream::directory::Directory;
use crate::stream::link::{Link, link};
use crate::stream::sequencer::{Limits, Sequencer};

/// Descriptors reserved for all but connections: listeners, wakers, publishers, memory files, refusals in progress.
const DESCRIPTORS_RESERVED: u64 = 128;

/// What there is before anything has an address.
pub(super) struct Prepared {
    pub common: Common,
    pub parts: Vec<ShardParts>,
    pub handles: Vec<ShardHandle>,
    /// The number before the first of this run.
    pub run_start: u64,
    pub feeding: Feeding,
    /// Speaks to the servers of the shared stream.
    pub bus_thread: Option<ThreadHandle<()>>,
    /// Reads again what is older than memory.
    pub past: Option<PastStart>,
}

/// What the ingest thread begins with.
pub(super) struct Feeding {
    poll: Poll,
    links: Vec<Arc<Link>>,
    sequencer: Sequencer,
    dedupe: Dedupe,
    clock: Clock,
    bounds: Bounds,
    shared: Option<SharedStream>,
}

/// What all threads share.
pub(super) struct Common {
    pub directory: Arc<Directory>,
    pub counters: Arc<Counters>,
    pub admission: Arc<Admission>,
    pub live_config: Arc<Mutex<Arc<LiveConfig>>>,
    pub ingest_waker: Arc<IngestWaker>,
    pub inquiries: (Inquiries, Inbox),
    pub clock: Clock,
}

impl Prepared {
    /// Reads what the previous run left, or what the shared stream has. `must_stop` is asked while it waits for the stream.
    ///
    /// # Errors
    /// What is missing or cannot be used.
    pub fn new(
        config: &Config,
        live_config: LiveConfig,
        persistence: &Persistence,
        must_stop: impl FnMut() -> bool,
    ) -> Result<Self, StartError> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), ingest::WAKER)?;
        let waker = Arc::new(IngestWaker::new(waker, config.publishers_max));
        let clock = Clock::new();
        let mut joining = Joining::new(config, poll, clock.with_past(), must_stop);
        let joined = joining.join(&waker)?;
        let bounded = joined.as_ref().map(|joined| joined.bounded(config));
        let config = bounded.as_ref().unwrap_or(config);
        let previous = match &joined {
            Some(joined) => PreviousRun { restored: None, run_start: joined.run_start() },
            None => persistence.begin(),
        };
        let directory = match &joined {
            Some(joined) => joined.directory(config.topics_max),
            None => previous.directory(config.topics_max),
        };
        let common = Common::new(config, live_config, directory, waker, clock);
        let past = joined.as_ref().map(|joined| common.past(config, joined)).transpose()?.flatten();
        let (parts, handles, links) = shard_parts(config, &common, past.as_ref().map(PastStart::handle))?;
        let run_start = previous.run_start;
        let (mut sequencer, dedupe, clock) = take_over(previous, &common, &links, config);
        let shared = joined
            .map(|joined| joining.catch_up(joined, &common.directory, &common.counters.bus, &mut sequencer));
        let (shared, bus_thread) = shared.transpose()?.unzip();
        let poll = joining.poll;
        let bounds = Bounds { line_bytes_max: config.line_bytes_max, depth_max: config.depth_max };
        let feeding = Feeding { poll, links, sequencer, dedupe, clock, bounds, shared };
        Ok(Self { common, parts, handles, run_start, feeding, bus_thread, past })
    }
}

impl Feeding {
    pub fn ingest_parts(
        self,
        config: &Config,
        common: &Common,
        listener: UnixListener,
        shards: &[ShardHandle],
        mark: NumberMark,
        is_stopping: Arc<AtomicBool>,
    ) -> IngestParts {
        let Self { poll, links, sequencer, dedupe, clock, bounds, shared } = self;
        IngestParts {
            poll,
            listener,
            sequencer,
            dedupe,
            mark,
            shards: shards.to_vec(),
            links,
            counters: common.counters.clone(),
            clock,
            waker: common.ingest_waker.clone(),
            is_stopping,
            overrun: config.overrun,
            history_bytes: config.history_bytes,
            history_millis: config.history_seconds.as_millis() as u64,
            line_bytes_max: bounds.line_bytes_max,
            depth_max: bounds.depth_max,
            shared: shared.map(|shared| (shared, config.drain_seconds / 2)),
        }
    }
}

impl Common {
    pub fn new(
        config: &Config,
        live_config: LiveConfig,
        directory: Directory,
        ingest_waker: Arc<IngestWaker>,
        clock: Clock,
    ) -> Self {
        Self {
            directory: Arc::new(directory),
            counters: Arc::new(Counters::new(config.shards)),
            admission: Arc::new(Admission::new(admission_limits(config))),
            live_config: Arc::new(Mutex::new(Arc::new(live_config))),
            ingest_waker,
            inquiries: inquiry::inquiries(),
            clock,
        }
    }

    fn past(&self, config: &Config, joined: &Joined) -> io::Result<Option<PastStart>> {
        let clock = self.clock.with_past();
        PastStart::new(config, joined, self.directory.clone(), self.counters.clone(), clock)
    }

    /// Starts the report thread. It ends when all shards have ended.
    pub fn start_reporter(&self, liveness: Liveness, config: &Config) -> io::Result<ThreadHandle<()>> {
        let reporter = Reporter {
            inbox: self.inquiries.1.clone(),
            liveness,
            directory: self.directory.clone(),
            history_bytes_max: config.history_bytes,
            clock: self.clock,
            start: Instant::now(),
            start_unix_micros: clock::unix_micros(),
        };
        spawn("report".to_owned(), move || reporter.run())
    }

    pub fn liveness(&self, shards: &[ShardHandle]) -> Liveness {
        Liveness {
            shards: shards.to_vec(),
            ingest: self.ingest_waker.clone(),
            counters: self.counters.clone(),
            admission: self.admission.clone(),
        }
    }
}

/// The parts of every shard, and the outer ends of each shard's channels.
type Shards = (Vec<ShardParts>, Vec<ShardHandle>, Vec<Arc<Link>>);

fn shard_parts(config: &Config, common: &Common, past: Option<&PastHandle>) -> io::Result<Shards> {
    let mut shards: Shards = Default::default();
    let live_config = common.live_config.lock().clone();
    for index in 0..config.shards {
        let poll = Poll::new()?;
        let (handle, commands) = ShardHandle::new(shard::waker(&poll)?);
        let (link, inlet) = link();
        shards.0.push(ShardParts {
            index,
            poll,
            inlet,
            commands,
            inquiries: common.inquiries.0.clone(),
            directory: common.directory.clone(),
            admission: common.admission.clone(),
            counters: common.counters.clone(),
            live_config: live_config.clone(),
            overrun: config.overrun,
            line_bytes_max: config.line_bytes_max,
            ingest: common.ingest_waker.clone(),
            past: past.cloned(),
            clock: common.clock,
            listener: None,
            to_operators: listeners::to_operators(config),
            count: handle.connections.clone(),
            acceptor: shards.1.first().unwrap_or(&handle).clone(),
        });
        shards.1.push(handle);
        shards.2.push(link);
    }
    Ok(shards)
}

/// The start state of the ingest thread, and the clock of the times in it.
fn take_over(
    previous: PreviousRun,
    common: &Common,
    links: &[Arc<Link>],
    config: &Config,
) -> (Sequencer, Dedupe, Clock) {
    let mut sequencer = Sequencer::new(common.directory.clone(), links.to_vec(), limits(config));
    let clock = common.clock.with_past();
    let mut dedupe = Dedupe::default();
    if let Some(restored) = previous.restored {
        let now = clock.read().now;
        dedupe = Dedupe::restored(restored.publishers(now.unix_micros), now.millis);
        sequencer.restore(restored, now);
    }
    (sequencer, dedupe, clock)
}

fn limits(config: &Config) -> Limits {
    Limits {
        history_bytes: config.history_bytes,
        history_millis: config.history_seconds.as_millis() as u64,
        job_idle_millis: config.job_idle_seconds.as_millis() as u64,
        // With a bus, each daemon would make its own.
        metrics_millis: if config.bus.is_empty() { config.metrics_seconds.as_millis() as u64 } else { 0 },
        jobs_max: config.jobs_max,
        depth_max: config.depth_max,
    }
}

/// How many connections there may be: as many as requested, and as the file limit allows.
pub(super) fn admission_limits(config: &Config) -> AdmissionLimits {
    let wanted = if config.connections_max == 0 { usize::MAX } else { config.connections_max };
    let mut connections_max = wanted;
    if let Some(files) = getrlimit(Resource::Nofile).current {
        let room = files.saturating_sub(DESCRIPTORS_RESERVED.min(files / 2)) as usize;
        if config.connections_max > room {
            tracing::warn!("connections_max lowered to {room}: the file limit is {files}");
        }
        connections_max = wanted.min(room);
    }
    let of_address = AddressLimits {
        connections_max: config.connections_per_address_max,
        handshakes_per_second: config.handshakes_per_second as u32,
    };
    AdmissionLimits { connections_max, of_address }
}
