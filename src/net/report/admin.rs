//! The admin listener: plain HTTP for operators, one request a connection, a thread for each, so that nobody waits for
//! anybody.

pub mod connections;
pub mod guests;
pub mod jobs;
pub mod process;
pub mod visit;

use std::io;
use std::net::{IpAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, unbounded};
use parking_lot::Mutex;
use rustix::process::setpriority_process;

use crate::access::redaction;
use crate::metrics::{self, ACTION_ERRORS, Figures, GAPS, REFUSALS, Words};
use crate::net::clock::{Clock, unix_micros};
use crate::net::ingest::maintenance::JobReport;
use crate::net::listen::listener::Admission;
use crate::net::report::admin::guests::Guests;
use crate::net::report::admin::process::read_process;
use crate::net::report::liveness::Liveness;
use crate::net::shard::IngestWaker;
use crate::net::shard::handle::{Command, LiveConfig, ShardHandle};
use crate::net::shard::survey::ConnectionReport;
use crate::session::endpoint::permit;
use crate::stream::directory::Directory;
use crate::tick::TICK_MILLIS;
use crate::wire::action::ActionError;
use crate::wire::asked::Asked;
use crate::wire::http::{HeadLimits, Refusal, Request, Status, write_ok, write_refusal};
use crate::wire::line::LineError;
use crate::wire::notice::GapReason;

/// What is asked of a thread has to be there within this time.
const PATIENCE: Duration = Duration::from_secs(2);
/// At the end of the daemon, whoever has asked has so long to take the answer.
const GOODBYE: Duration = Duration::from_millis(100);
/// Of the thread of one request: the lists are on the heap.
const STACK_BYTES: usize = 256 << 10;
/// A thread that was woken has begun its next turn by then, however loaded the machine is.
const TURN_MAX: Duration = Duration::from_secs(1);
/// Of the threads that tell how things stand, beside those that serve.
pub const NICENESS: i32 = 10;
/// Of a list.
const ROWS_MAX: usize = 1_000_000;
/// Of Prometheus' text format.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

const _: () = assert!(Refusal::CODES.len() == REFUSALS);
const _: () = assert!(GapReason::ALL.len() == GAPS);
const _: () = assert!(ActionError::CODES.len() == ACTION_ERRORS);

pub struct Admin {
    pub listener: TcpListener,
    /// On loopback nobody is asked for a token.
    pub is_open: bool,
    pub pulse: Liveness,
    pub live_config: Arc<Mutex<Arc<LiveConfig>>>,
    pub directory: Arc<Directory>,
    pub history_bytes_max: usize,
    pub clock: Clock,
    /// When the daemon began, in Unix time.
    pub start_unix_micros: i64,
    pub is_stopping: Arc<AtomicBool>,
}

impl Admin {
    /// Answers until it is told to stop; whoever tells it connects once more.
    pub fn run(self) -> io::Result<()> {
        // Whoever watches goes first. Of the calling thread and those that it starts (setpriority(2), NOTES); without it
        // nothing is wrong.
        let _ = setpriority_process(None, NICENESS);
        let admin = Arc::new(self);
        let guests = Arc::new(Guests::default());
        for id in 0.. {
            let accepted = admin.listener.accept();
            if admin.is_stopping.load(Ordering::Acquire) {
                break;
            }
            let received = accepted.and_then(|(socket, address)| {
                let socket = Arc::new(socket);
                guests.enter(id, socket.clone());
                admin.clone().spawn(guests.clone(), id, socket, address.ip())
            });
            if let Err(error) = received {
                tracing::warn!("cannot take in an admin connection: {error}");
                guests.leave(id);
                thread::sleep(Duration::from_millis(100));
            }
        }
        guests.send_away(Instant::now() + GOODBYE);
        Ok(())
    }

    /// Serves one connection in a thread of its own.
    fn spawn(
        self: Arc<Self>,
        guests: Arc<Guests>,
        id: u64,
        socket: Arc<TcpStream>,
        peer: IpAddr,
    ) -> io::Result<()> {
        let thread = thread::Builder::new().name("admin".to_owned()).stack_size(STACK_BYTES);
        thread.spawn(move || {
            let limits = self.live_config.lock().limits.clone();
            let head_limits = HeadLimits { head_bytes_max: limits.head_bytes_max };
            let until = Instant::now() + Duration::from_millis(u64::from(limits.handshake) * TICK_MILLIS);
            let served = visit::receive(&socket, head_limits, until, |request, head| {
                guests.note_asked(id);
                self.answer(request, head, peer)
            });
            if let Err(error) = served {
                tracing::debug!("an admin request failed: {error}");
            }
            guests.leave(id);
        })?;
        Ok(())
    }

    /// The whole answer to a request, or to one whose head is not good.
    fn answer(&self, request: Result<Request<'_>, Refusal>, head: &[u8], peer: IpAddr) -> Vec<u8> {
        let mut out = Vec::new();
        let (refusal, asked) = match request {
            Err(refusal) => (refusal, Asked::in_part_of(head)),
            Ok(request) => match self.respond(&request, peer) {
                Ok((content_type, body)) => {
                    write_ok(&mut out, request.method, content_type, &body, unix_micros());
                    return out;
                }
                Err(refusal) => (refusal.of_method(request.method), Some(Asked::of(&request))),
            },
        };
        self.log_refusal(&refusal, asked, peer);
        write_refusal(&mut out, &refusal, unix_micros());
        out
    }

    /// As those of watchers are logged, and together with them.
    fn log_refusal(&self, refusal: &Refusal, asked: Option<Asked<'_>>, address: IpAddr) {
        let Refusal { code, message, .. } = refusal;
        let now = self.clock.read().now;
        let Some(unlogged) = self.pulse.admission.note_refusal(refusal.reason(), now.millis) else {
            return;
        };
        let live_config = self.live_config.lock().clone();
        let asked = asked.map_or(String::new(), |asked| {
            redaction::describe(&asked, Path::find(asked.path).is_some(), &live_config.auth, now.unix_micros)
        });
        tracing::info!(%address, code, unlogged, "refused a request of an operator: {message}{asked}");
    }

    /// Type and body of the answer.
    fn respond(&self, request: &Request<'_>, peer: IpAddr) -> Result<(&'static str, Vec<u8>), Refusal> {
        let path = Path::find(request.path).ok_or_else(|| Refusal {
            message: "the paths here are /healthz, /readyz, /metrics, /connections and /jobs".into(),
            ..Refusal::not_found()
        })?;
        if !matches!(request.method, "GET" | "HEAD") {
            return Err(Refusal::neither_get_nor_head());
        }
        if !matches!(path, Path::Health | Path::Ready) {
            self.check(request, peer)?;
        }
        match path {
            Path::Health => Ok(("text/plain", b"ok\n".to_vec())),
            Path::Ready if self.pulse.admission.is_draining() => Err(Refusal::draining()),
            Path::Ready => match self.stalled_thread() {
                Some(thread) => Err(stalled(&thread)),
                None => Ok(("text/plain", b"ready\n".to_vec())),
            },
            Path::Metrics => Ok((METRICS_TYPE, self.metrics().into_bytes())),
            Path::Connections => {
                let listing = connections::Listing::parse(request.query)?;
                Ok(("application/json", listing.write(sights_of(&self.pulse.shards)?)))
            }
            Path::Jobs => {
                let listing = jobs::Listing::parse(request.query)?;
                Ok(("application/json", listing.write(&jobs_of(&self.pulse.ingest, &self.pulse.admission)?)))
            }
        }
    }

    /// No page that has rebound its name reads the daemon's figures, and beyond loopback they are for those who have the
    /// scope for them.
    fn check(&self, request: &Request<'_>, peer: IpAddr) -> Result<(), Refusal> {
        let live_config = self.live_config.lock().clone();
        live_config.hosts.check(request, peer)?;
        if self.is_open {
            return Ok(());
        }
        match permit(request, &live_config.auth, unix_micros())?.is_admin() {
            true => Ok(()),
            false => Err(Refusal::forbidden_scope("admin")),
        }
    }

    fn metrics(&self) -> String {
        let line_errors = LineError::ALL.map(LineError::code);
        let gaps = GapReason::ALL.map(GapReason::text);
        let figures = Figures {
            counters: &self.pulse.counters,
            words: Words {
                refusals: &Refusal::CODES,
                gaps: &gaps,
                action_errors: &ActionError::CODES,
                line_errors: &line_errors,
            },
            process: read_process(self.start_unix_micros),
            is_draining: self.pulse.admission.is_draining(),
            sockets: self.pulse.admission.connections() as u64,
            sockets_max: self.pulse.admission.connections_max() as u64,
            topics: self.directory.len() as u64,
            history_bytes_max: self.history_bytes_max as u64,
            now_micros: self.clock.micros(Instant::now()),
        };
        let mut text = String::new();
        metrics::write(&figures, &mut text);
        text
    }

    /// The first thread that does not begin a turn when it is woken.
    fn stalled_thread(&self) -> Option<String> {
        let before = self.pulse.turns();
        self.pulse.wake();
        let until = Instant::now() + TURN_MAX;
        loop {
            let silent = self.pulse.silent_since(&before).into_iter().next()?;
            if Instant::now() >= until {
                return Some(silent);
            }
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// What the shards see, each slice as it comes.
///
/// # Errors
/// A shard has not told in time.
pub fn sights_of(shards: &[ShardHandle]) -> Result<Vec<ConnectionReport>, Refusal> {
    let (sender, receiver) = unbounded();
    for shard in shards {
        shard.send(Command::Survey(sender.clone()));
    }
    drop(sender);
    gather(&receiver, "of a shard")
}

/// The jobs that the ingest thread knows, each slice as it comes.
///
/// # Errors
/// It has not told in time, or the daemon drains: it ends before everybody else.
pub fn jobs_of(ingest: &IngestWaker, admission: &Admission) -> Result<Vec<JobReport>, Refusal> {
    if admission.is_draining() {
        return Err(Refusal::draining());
    }
    let (sender, receiver) = unbounded();
    // The ingest thread is there for as long as its waker.
    let _ = ingest.ask.send(sender);
    ingest.wake();
    gather(&receiver, "ingest")
}

/// All that comes until everybody who was asked is done.
fn gather<T>(receiver: &Receiver<Vec<T>>, thread: &str) -> Result<Vec<T>, Refusal> {
    let mut all = Vec::new();
    loop {
        match receiver.recv_timeout(PATIENCE) {
            Ok(mut slice) => all.append(&mut slice),
            Err(RecvTimeoutError::Disconnected) => return Ok(all),
            Err(RecvTimeoutError::Timeout) => return Err(stalled(thread)),
        }
    }
}

/// What there is to ask for.
#[derive(Clone, Copy)]
enum Path {
    Health,
    Ready,
    Metrics,
    Connections,
    Jobs,
}

impl Path {
    fn find(path: &str) -> Option<Path> {
        match path {
            "/healthz" => Some(Path::Health),
            "/readyz" => Some(Path::Ready),
            "/metrics" => Some(Path::Metrics),
            "/connections" => Some(Path::Connections),
            "/jobs" => Some(Path::Jobs),
            _ => None,
        }
    }
}

/// 503: a thread does not do its work.
fn stalled(thread: &str) -> Refusal {
    let message = format!("the thread {thread} does not turn");
    Refusal { status: Status::Unavailable, code: "stalled", message: message.into(), is_of_head: false }
}
