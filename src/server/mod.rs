//! The whole daemon: it binds its addresses, starts the threads, reloads, drains and ends.
#![doc = include_str!("README.md")]

mod claim;
pub mod forecast;
mod listeners;
mod past;
mod persistence;
mod prepared;
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

use jiff::Timestamp;
use parking_lot::{Condvar, Mutex};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustls::ServerConfig;

use crate::access::admission::Admission;
use crate::access::allowed_hosts::Hosts;
use crate::access::client_address::Proxies;
use crate::config::{Compression, Config};
use crate::delivery::progress::Patience;
use crate::metrics::Counters;
use crate::net::host::auth_files;
use crate::net::host::service_manager;
use crate::net::host::state_dir::FinalState;
use crate::net::ingest::Ingest;
use crate::net::ingest::handle::IngestWaker;
use crate::net::listen::certificate::{self, Certificate};
use crate::net::listen::listener::Listener;
use crate::net::report::liveness::Liveness;
use crate::net::shard::Shard;
use crate::net::shard::handle::{Command, ShardHandle};
use crate::net::shard::live_config::LiveConfig;
use crate::session::drain::DrainOrder;
use crate::session::limits::SessionLimits;
use crate::tick::ticks;
use listeners::{Leftover, Listeners};
use past::RunningPast;
use persistence::Persistence;
use prepared::{Prepared, admission_limits};
use threads::{ThreadHandle, join, spawn};

pub use start_error::StartError;

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
    past: Option<RunningPast>,
    drain_began: Option<Instant>,
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
        shared::check_files(&config)?;
        let persistence = Persistence::open(&config)?;
        let prepared = Prepared::new(&config, live_config, &persistence, must_stop)?;
        let bound = Listeners::new(&config).inspect_err(|_| persistence.cancel())?;
        let leftover = bound.leftover.clone();
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
        let Listeners { sockets, feed, ingest, leftover } = bound;
        let addresses = |is_of_operators: bool| {
            let wanted = sockets.iter().filter(move |one| one.offer.is_of_operators() == is_of_operators);
            wanted.map(|one| one.socket.local_addr()).collect::<io::Result<Vec<_>>>()
        };
        let (listening, admin) = (addresses(false)?, addresses(true)?.pop());
        let Prepared { common, mut parts, handles, run_start, feeding, bus_thread, past } = prepared;
        parts[0].listener = Some(Listener::new(sockets, handles.clone(), common.admission.clone()));
        let is_ingest_stopping = Arc::new(AtomicBool::new(false));
        let (mark, mark_requests) = persistence.mark(run_start);
        let liveness = common.liveness(&handles);
        let ingest_thread = Ingest::new(feeding.ingest_parts(
            config,
            &common,
            feed,
            &handles,
            mark,
            is_ingest_stopping.clone(),
        ))?;
        let shards = parts.into_iter().map(Shard::new).collect::<io::Result<Vec<_>>>()?;
        let mut threads = Threads::default();
        for (index, shard) in shards.into_iter().enumerate() {
            threads.shards.push(spawn(format!("shard-{index}"), move || shard.run())?);
        }
        threads.shards.push(common.start_reporter(liveness.clone(), config)?);
        threads.shards.extend(bus_thread);
        threads.past = past.map(|past| past.run(handles.clone())).transpose()?;
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
        let (began, Threads { ingest, mark, shards, past, .. }) = {
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
        if let Some(past) = past {
            result = result.and(join(past.stop()));
        }
        let saved = self.persistence.await_saved(&saved, began + self.drain_seconds);
        result.and(saved)
    }
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
        stalled: ticks(config.stalled_seconds),
    };
    let (tls, certificate) = tls(config)?.unzip();
    Ok(LiveConfig {
        auth: auth_files::read(config)?,
        limits,
        patience: Patience::new(config.stalled_seconds),
        allowed_origins: config.allowed_origins.clone(),
        http_publish: config.http_publish,
        compresses: config.compression == Compression::On,
        hosts: Hosts::new(&config.allowed_hosts, &config.allowed_origins),
        tls,
        certificate,
        proxies: Proxies::new(config.trusted_proxies.clone()),
    })
}

/// Raises the soft file limit to the hard one.
fn raise_file_limit() -> io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    }
    Ok(())
}
