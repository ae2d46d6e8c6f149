//! The whole daemon: it binds its addresses, starts the threads, reloads, drains and ends.
#![doc = include_str!("README.md")]

mod claim;
pub mod forecast;
mod listeners;
mod persistence;
mod reload_report;
mod shared;
mod start_error;
mod threads;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use jiff::Timestamp;
use mio::{Poll, Waker};
use parking_lot::{Condvar, Mutex};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustls::ServerConfig;

use crate::access::address_limits::AddressLimits;
use crate::access::admission::{Admission, AdmissionLimits};
use crate::access::allowed_hosts::Hosts;
use crate::access::client_address::Proxies;
use crate::config::Config;
use crate::delivery::progress::Patience;
use crate::metrics::Counters;
use crate::net::clock::{self, Clock};
use crate::net::host::auth_files;
use crate::net::host::service_manager;
use crate::net::host::state_dir::{FinalState, NumberMark};
use crate::net::ingest::dedupe::Dedupe;
use crate::net::ingest::handle::IngestWaker;
use crate::net::ingest::shared_stream::SharedStream;
use crate::net::ingest::{self, Ingest, IngestParts};
use crate::net::listen::certificate::{self, Certificate};
use crate::net::listen::listener::Listener;
use crate::net::report::Reporter;
use crate::net::report::inquiry;
use crate::net::report::inquiry::{Inbox, Inquiries};
use crate::net::report::liveness::Liveness;
use crate::net::shard::handle::{Command, ShardHandle};
use crate::net::shard::live_config::LiveConfig;
use crate::net::shard::{self, Shard, ShardParts};
use crate::session::drain::DrainOrder;
use crate::session::limits::SessionLimits;
use crate::stream::directory::Directory;
use crate::stream::link::{Link, link};
use crate::stream::sequencer::{Limits, Sequencer};
use crate::tick::ticks;
use listeners::{Leftover, Listeners};
use persistence::{Persistence, PreviousRun};
use shared::Joining;
use threads::{ThreadHandle, join, spawn};

pub use start_error::StartError;

/// Descriptors reserved for all but connections: listeners, wakers, publishers, memory files, refusals in progress.
const DESCRIPTORS_RESERVED: u64 = 128;
/// The part of the drain time that is kept for the `disconnected` messages.
const GOODBYE: Duration = Duration::from_secs(1);

pub struct Server {
    listening: Vec<SocketAddr>,
    admin: Option<SocketAddr>,
    ingest: PathBuf,
    leftover: Leftover,
    shards: Vec<ShardHandle>,
    admission: Arc<Admission>,
    live_config: Arc<Mutex<Arc<LiveConfig>>>,
    is_ingest_stopping: Arc<AtomicBool>,
    ingest_waker: Arc<IngestWaker>,
    drain_seconds: Duration,
    persistence: Persistence,
    threads: Mutex<Threads>,
    begins_draining: Condvar,
    pub counters: Arc<Counters>,
}

#[derive(Default)]
struct Threads {
    ingest: Option<ThreadHandle<FinalState>>,
    mark: Option<ThreadHandle<()>>,
    shards: Vec<ThreadHandle<()>>,
    drain_began: Option<Instant>,
}

/// What there is before anything has an address.
struct Prepared {
    poll: Poll,
    common: Common,
    parts: Vec<ShardParts>,
    handles: Vec<ShardHandle>,
    links: Vec<Arc<Link>>,
    mark: NumberMark,
    mark_requests: Receiver<u64>,
    sequencer: Sequencer,
    dedupe: Dedupe,
    clock: Clock,
    /// The shared stream, and the thread that speaks to its servers.
    shared: Option<(SharedStream, ThreadHandle<()>)>,
}

/// What all threads share.
struct Common {
    directory: Arc<Directory>,
    counters: Arc<Counters>,
    admission: Arc<Admission>,
    live_config: Arc<Mutex<Arc<LiveConfig>>>,
    ingest_waker: Arc<IngestWaker>,
    inquiries: (Inquiries, Inbox),
    clock: Clock,
}

impl Server {
    /// Reads what the previous run left, or what the shared stream has, binds everything, then starts the threads.
    /// `must_stop` is asked while the start waits for the stream.
    ///
    /// # Errors
    /// What could not be bound or started, and why; nothing is left behind.
    pub fn start(
        config: Config,
        live_config: LiveConfig,
        must_stop: impl FnMut() -> bool,
    ) -> Result<Server, StartError> {
        raise_file_limit()?;
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), ingest::WAKER)?;
        let waker = Arc::new(IngestWaker::new(waker, config.publishers_max));
        let clock = Clock::new();
        let mut joining = Joining::new(&config, poll, clock.with_past(), must_stop);
        let joined = joining.join(&waker)?;
        let persistence = Persistence::open(&config)?;
        let previous = match &joined {
            Some(joined) => PreviousRun { restored: None, run_start: joined.run_start() },
            None => persistence.begin(),
        };
        let common =
            Common::new(&config, live_config, joining.directory(&previous, joined.as_ref()), waker, clock);
        let (parts, handles, links) = shard_parts(&config, &common)?;
        let (mark, mark_requests) = previous.mark(&persistence);
        let (mut sequencer, dedupe, clock) = take_over(previous, &common, &links, &config);
        let shared = joined.map(|joined| joining.catch_up(joined, &common, &mut sequencer)).transpose()?;
        let bound = Listeners::new(&config).inspect_err(|_| persistence.cancel())?;
        let leftover = bound.leftover.clone();
        let prepared = Prepared {
            poll: joining.poll,
            common,
            parts,
            handles,
            links,
            mark,
            mark_requests,
            sequencer,
            dedupe,
            clock,
            shared,
        };
        let server = Self::run(&config, prepared, bound, persistence.clone()).inspect_err(|_| {
            leftover.remove();
            persistence.cancel();
        })?;
        server.counters.note_state(persistence.has_failed);
        server.note_certificate();
        Ok(server)
    }

    fn run(
        config: &Config,
        prepared: Prepared,
        bound: Listeners,
        persistence: Persistence,
    ) -> io::Result<Server> {
        let Prepared {
            poll,
            common,
            mut parts,
            handles,
            links,
            mark,
            mark_requests,
            sequencer,
            dedupe,
            clock,
            shared,
        } = prepared;
        let Listeners { sockets, feed, ingest, leftover } = bound;
        let addresses = |is_of_operators: bool| {
            let wanted = sockets.iter().filter(move |one| one.offer.is_of_operators() == is_of_operators);
            wanted.map(|one| one.socket.local_addr()).collect::<io::Result<Vec<_>>>()
        };
        let (listening, admin) = (addresses(false)?, addresses(true)?.pop());
        parts[0].listener = Some(Listener::new(sockets, handles.clone(), common.admission.clone()));
        let (shared, bus_thread) = shared.unzip();
        let is_ingest_stopping = Arc::new(AtomicBool::new(false));
        let liveness = common.liveness(&handles);
        let ingest_thread = Ingest::new(IngestParts {
            poll,
            listener: feed,
            sequencer,
            dedupe,
            mark,
            shards: handles.clone(),
            links,
            counters: common.counters.clone(),
            clock,
            waker: common.ingest_waker.clone(),
            is_stopping: is_ingest_stopping.clone(),
            overrun: config.overrun,
            history_bytes: config.history_bytes,
            history_millis: config.history_seconds.as_millis() as u64,
            line_bytes_max: config.line_bytes_max,
            depth_max: config.depth_max,
            shared: shared.map(|shared| (shared, config.drain_seconds / 2)),
        })?;
        let shards = parts.into_iter().map(Shard::new).collect::<io::Result<Vec<_>>>()?;
        let mut threads = Threads::default();
        for (index, shard) in shards.into_iter().enumerate() {
            threads.shards.push(spawn(format!("shard-{index}"), move || shard.run())?);
        }
        threads.shards.push(common.start_reporter(liveness.clone(), config)?);
        threads.shards.extend(bus_thread);
        threads.mark = persistence.start(mark_requests)?;
        threads.ingest = Some(spawn("ingest".to_owned(), move || ingest_thread.run())?);
        start_watchdog(liveness)?;
        Ok(Server {
            listening,
            admin,
            ingest,
            leftover,
            shards: handles,
            admission: common.admission,
            live_config: common.live_config,
            is_ingest_stopping,
            ingest_waker: common.ingest_waker,
            drain_seconds: config.drain_seconds,
            persistence,
            threads: Mutex::new(threads),
            begins_draining: Condvar::new(),
            counters: common.counters,
        })
    }

    pub fn listening(&self) -> &[SocketAddr] {
        &self.listening
    }

    fn note_certificate(&self) {
        let until =
            self.live_config.lock().certificate.map_or(0, |certificate| certificate.good_until.as_second());
        self.counters.certificate_until.set(until.max(0) as u64);
    }

    fn speaks_tls(&self) -> bool {
        self.live_config.lock().tls.is_some()
    }

    /// `wss` or `ws`.
    pub fn scheme(&self) -> &'static str {
        if self.speaks_tls() { "wss" } else { "ws" }
    }

    pub fn admin(&self) -> Option<SocketAddr> {
        self.admin
    }

    pub fn ingest(&self) -> &Path {
        &self.ingest
    }

    /// Applies the settings that can change without a restart to the running daemon. New limits disconnect no client.
    /// Returns what was found in the files that the settings name.
    ///
    /// # Errors
    /// What is wrong with such a file; nothing has changed then.
    pub fn reload(&self, config: &Config) -> io::Result<Vec<String>> {
        let live_config = Arc::new(live_config(config)?);
        if live_config.tls.is_some() != self.speaks_tls() {
            // The ready lines have announced the scheme.
            let message = "switching TLS on or off needs a restart (tls_certificate_file, tls_key_file)";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let before = std::mem::replace(&mut *self.live_config.lock(), live_config.clone());
        self.note_certificate();
        self.admission.set_limits(admission_limits(config));
        self.ingest_waker.publishers_max.store(config.publishers_max, Ordering::Relaxed);
        for shard in &self.shards {
            shard.send(Command::Renew(live_config.clone()));
        }
        Ok(reload_report::describe(config, &before, &live_config))
    }

    /// Starts to drain. The daemon takes no new connections and no more lines, sends the events that have numbers, then
    /// disconnects all watchers.
    pub fn drain(&self) {
        self.admission.drain();
        self.threads.lock().drain_began.get_or_insert_with(Instant::now);
        self.begins_draining.notify_all();
    }

    /// Waits until [`Server::drain`] is called and the daemon has drained.
    ///
    /// # Errors
    /// A thread failed, or the state was not saved.
    pub fn wait(&self) -> io::Result<()> {
        let (began, Threads { ingest, mark, shards, .. }) = {
            let mut threads = self.threads.lock();
            loop {
                if let Some(began) = threads.drain_began {
                    break (began, std::mem::take(&mut *threads));
                }
                self.begins_draining.wait(&mut threads);
            }
        };
        self.is_ingest_stopping.store(true, Ordering::Release);
        self.ingest_waker.waker.wake()?;
        let final_state = join(ingest.expect("`wait` is called once"))?;
        // The next daemon may read the feed while this one sends its last events.
        self.leftover.remove();
        let connections = self.admission.connections();
        let goodbye = GOODBYE.min(self.drain_seconds / 2);
        let order = DrainOrder {
            serve_millis: (self.drain_seconds - goodbye).as_millis() as u64,
            linger_millis: goodbye.as_millis() as u64,
            connections,
            shards: self.shards.len(),
        };
        for shard in &self.shards {
            shard.send(Command::Drain(order));
        }
        let saved = self.persistence.save(final_state, mark, began, self.drain_seconds)?;
        let mut result = Ok(());
        for shard in shards {
            result = result.and(join(shard));
        }
        let saved = self.persistence.await_saved(&saved, began + self.drain_seconds);
        result.and(saved)
    }
}

impl Common {
    fn new(
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

    /// Starts the report thread. It ends when all shards have ended.
    fn start_reporter(&self, liveness: Liveness, config: &Config) -> io::Result<ThreadHandle<()>> {
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

    fn liveness(&self, shards: &[ShardHandle]) -> Liveness {
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

fn shard_parts(config: &Config, common: &Common) -> io::Result<Shards> {
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
            ingest: common.ingest_waker.clone(),
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

/// Starts the watchdog if the service manager asks for signs of life.
fn start_watchdog(liveness: Liveness) -> io::Result<()> {
    if let Some(patience) = service_manager::patience() {
        spawn("watchdog".to_owned(), move || service_manager::watch_over(&liveness, patience))?;
    }
    Ok(())
}

/// The configuration of TLS handshakes, if certificate and key are given.
fn tls(config: &Config) -> io::Result<Option<(Arc<ServerConfig>, Certificate)>> {
    let Some((certificate, key)) = config.tls_files() else {
        return Ok(None);
    };
    certificate::load(certificate, key, Timestamp::now()).map(Some).map_err(io::Error::other)
}

/// Makes the settings that a reload can change. Reads the files that they name, so that a reload takes over all or nothing.
///
/// # Errors
/// What is wrong with one of the files.
pub fn live_config(config: &Config) -> io::Result<LiveConfig> {
    let limits = SessionLimits {
        messages: SessionLimits::message_limits(config.message_bytes_max),
        head_bytes_max: config.request_head_bytes_max,
        messages_per_second: config.messages_per_second as u32,
        messages_burst: config.messages_burst() as u32,
        jobs_max: config.jobs_per_connection_max,
        heartbeat: ticks(config.heartbeat_seconds),
        silent_heartbeats: config.silent_heartbeats as u16,
        handshake: ticks(config.handshake_seconds),
    };
    let (tls, certificate) = tls(config)?.unzip();
    Ok(LiveConfig {
        auth: auth_files::read(config)?,
        limits,
        patience: Patience::new(config.stalled_seconds),
        allowed_origins: config.allowed_origins.clone(),
        hosts: Hosts::new(&config.allowed_hosts, &config.allowed_origins),
        tls,
        certificate,
        proxies: Proxies::new(config.trusted_proxies.clone()),
    })
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

/// Raises the soft file limit to the hard one.
fn raise_file_limit() -> io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    }
    Ok(())
}

/// How many connections there may be: as many as requested, and as the file limit allows.
fn admission_limits(config: &Config) -> AdmissionLimits {
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
