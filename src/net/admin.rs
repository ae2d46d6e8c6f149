//! The admin listener: plain HTTP for operators, one request a connection, answered one after the other.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, unbounded};
use parking_lot::Mutex;
use rustix::process::setpriority_process;

use crate::hub::endpoint::permit;
use crate::metrics::{self, ACTION_ERRORS, Figures, GAPS, REFUSALS, Words};
use crate::net::admin::process::read_process;
use crate::net::clock::{Clock, unix_micros};
use crate::net::housekeeping::JobSight;
use crate::net::inbox::{Command, ShardHandle, Terms};
use crate::net::listener::Door;
use crate::net::pulse::Pulse;
use crate::net::shard::IngestWaker;
use crate::net::survey::Sight;
use crate::stream::directory::Directory;
use crate::wire::action::ActionError;
use crate::wire::http::{
    Head, HeadLimits, Refusal, Request, Status, parse_head, write_refusal, write_response,
};
use crate::wire::line::LineError;
use crate::wire::notice::GapReason;

pub mod connections;
mod jobs;
mod process;
pub mod query;

/// A request has to be there within this time, and what it asks of a thread.
const PATIENCE: Duration = Duration::from_secs(2);
/// Its answer has to be taken within this.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// A thread that was woken has begun its next turn by then, however loaded the machine is.
const TURN_MAX: Duration = Duration::from_secs(1);
/// Of the threads that tell how things stand, beside those that serve.
pub const NICENESS: i32 = 10;
const HEAD_BYTES_MAX: usize = 8 << 10;
/// Of Prometheus' text format.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

const _: () = assert!(Refusal::CODES.len() == REFUSALS);
const _: () = assert!(GapReason::ALL.len() == GAPS);
const _: () = assert!(ActionError::CODES.len() == ACTION_ERRORS);

pub struct Admin {
    pub listener: TcpListener,
    /// On loopback nobody is asked for a token.
    pub is_open: bool,
    pub pulse: Pulse,
    pub terms: Arc<Mutex<Arc<Terms>>>,
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
        // Whoever watches goes first. Of the calling thread alone (setpriority(2), NOTES); without it nothing is wrong.
        let _ = setpriority_process(None, NICENESS);
        loop {
            let accepted = self.listener.accept();
            if self.is_stopping.load(Ordering::Acquire) {
                return Ok(());
            }
            match accepted {
                Ok((socket, _)) => {
                    if let Err(error) = self.answer(socket) {
                        tracing::debug!("an admin request failed: {error}");
                    }
                }
                Err(error) => {
                    tracing::warn!("cannot accept an admin connection: {error}");
                    thread::sleep(Duration::from_millis(100));
                }
            }
        }
    }

    fn answer(&self, mut socket: TcpStream) -> io::Result<()> {
        let until = Instant::now() + PATIENCE;
        let mut head = Vec::new();
        let mut out = Vec::new();
        let mut chunk = [0; 1024];
        loop {
            match parse_head(&head, HeadLimits { head_bytes_max: HEAD_BYTES_MAX }) {
                Ok(Head::Complete { request, .. }) => {
                    match self.respond(&request, &mut out) {
                        Ok(()) => {}
                        Err(refusal) => write_refusal(&mut out, &refusal),
                    }
                    break;
                }
                Err(refusal) => {
                    write_refusal(&mut out, &refusal);
                    break;
                }
                Ok(Head::Partial) => {}
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                write_refusal(&mut out, &Refusal::timeout());
                break;
            }
            socket.set_read_timeout(Some(left))?;
            match socket.read(&mut chunk) {
                Ok(0) => return Ok(()),
                Ok(count) => head.extend_from_slice(&chunk[..count]),
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                }
                Err(error) => return Err(error),
            }
        }
        write_until(&mut socket, &out, Instant::now() + ANSWER_MAX)?;
        socket.shutdown(Shutdown::Write)
    }

    fn respond(&self, request: &Request<'_>, out: &mut Vec<u8>) -> Result<(), Refusal> {
        let path = Path::find(request.path).ok_or_else(|| Refusal {
            message: "the paths here are /healthz, /readyz, /metrics, /connections and /jobs".to_owned(),
            ..Refusal::not_found().of_method(request.method)
        })?;
        if request.method != "GET" {
            return Err(Refusal::method_not_allowed().of_method(request.method));
        }
        if !matches!(path, Path::Health | Path::Ready) {
            self.check(request)?;
        }
        match path {
            Path::Health => write_response(out, 200, "text/plain", b"ok\n"),
            Path::Ready if self.pulse.door.is_draining() => return Err(Refusal::draining()),
            Path::Ready => match self.stalled_thread() {
                Some(thread) => return Err(stalled(&thread)),
                None => write_response(out, 200, "text/plain", b"ready\n"),
            },
            Path::Metrics => write_response(out, 200, METRICS_TYPE, self.metrics().as_bytes()),
            Path::Connections => {
                let listing = connections::Listing::parse(request.query)?;
                write_response(out, 200, "application/json", &listing.write(sights_of(&self.pulse.shards)?));
            }
            Path::Jobs => {
                let listing = jobs::Listing::parse(request.query)?;
                write_response(
                    out,
                    200,
                    "application/json",
                    &listing.write(&jobs_of(&self.pulse.ingest, &self.pulse.door)?),
                );
            }
        }
        Ok(())
    }

    /// Beyond loopback the daemon's figures are for those who have the scope for them.
    fn check(&self, request: &Request<'_>) -> Result<(), Refusal> {
        if self.is_open {
            return Ok(());
        }
        let terms = self.terms.lock().clone();
        match permit(request, &terms.auth, unix_micros())?.is_admin() {
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
            is_draining: self.pulse.door.is_draining(),
            sockets: self.pulse.door.connections() as u64,
            sockets_max: self.pulse.door.connections_max() as u64,
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
pub fn sights_of(shards: &[ShardHandle]) -> Result<Vec<Sight>, Refusal> {
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
pub fn jobs_of(ingest: &IngestWaker, door: &Door) -> Result<Vec<JobSight>, Refusal> {
    if door.is_draining() {
        return Err(Refusal::draining());
    }
    let (sender, receiver) = unbounded();
    // The ingest thread is there for as long as its waker.
    let _ = ingest.ask.send(sender);
    ingest.wake();
    gather(&receiver, "ingest")
}

/// Writes all, however slowly it is taken, but not beyond `until`.
fn write_until(socket: &mut TcpStream, mut bytes: &[u8], until: Instant) -> io::Result<()> {
    while !bytes.is_empty() {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        socket.set_write_timeout(Some(left))?;
        match socket.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
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
    Refusal { status: Status::Unavailable, code: "stalled", message, asked: String::new(), is_of_head: false }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::time::{Duration, Instant};

    use super::write_until;

    #[test]
    fn an_answer_that_nobody_takes_ends_in_time() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let _silent = listener.accept().unwrap();
        write_until(&mut ours, b"short", Instant::now() + Duration::from_secs(60)).unwrap();
        let answer = vec![0; 64 << 20];
        let began = Instant::now();
        write_until(&mut ours, &answer, began + Duration::from_millis(200)).unwrap_err();
        assert!(began.elapsed() < Duration::from_secs(30));
    }
}
