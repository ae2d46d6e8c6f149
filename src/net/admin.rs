//! The admin listener: plain HTTP for operators, one request a connection, answered one after the other.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;
use parking_lot::Mutex;

use crate::hub::endpoint::permit;
use crate::metrics::{self, Counters, Figures, GAPS, REFUSALS, Words};
use crate::net::admin::process::read_process;
use crate::net::clock::unix_micros;
use crate::net::inbox::{Command, Report, ShardHandle, Terms};
use crate::net::listener::Door;
use crate::stream::directory::Directory;
use crate::wire::http::{Head, HeadLimits, Refusal, Request, parse_head, write_refusal, write_response};
use crate::wire::line::LineError;
use crate::wire::notice::GapReason;

mod process;

/// A request has to be there, and its answer taken, within this time.
const PATIENCE: Duration = Duration::from_secs(2);
const HEAD_BYTES_MAX: usize = 8 << 10;
/// Of Prometheus' text format.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

const _: () = assert!(Refusal::CODES.len() == REFUSALS);
const _: () = assert!(GapReason::ALL.len() == GAPS);

pub struct Admin {
    pub listener: TcpListener,
    /// On loopback nobody is asked for a token.
    pub is_open: bool,
    pub shards: Vec<ShardHandle>,
    pub door: Arc<Door>,
    pub terms: Arc<Mutex<Arc<Terms>>>,
    pub directory: Arc<Directory>,
    pub counters: Arc<Counters>,
    pub history_bytes_max: usize,
    /// When the daemon began, in Unix time.
    pub start_unix_micros: i64,
    pub is_stopping: Arc<AtomicBool>,
}

impl Admin {
    /// Answers until it is told to stop; whoever tells it connects once more.
    pub fn run(self) -> io::Result<()> {
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
                    std::thread::sleep(Duration::from_millis(100));
                }
            }
        }
    }

    fn answer(&self, mut socket: TcpStream) -> io::Result<()> {
        let until = Instant::now() + PATIENCE;
        socket.set_write_timeout(Some(PATIENCE))?;
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
        socket.write_all(&out)?;
        socket.shutdown(Shutdown::Write)
    }

    fn respond(&self, request: &Request<'_>, out: &mut Vec<u8>) -> Result<(), Refusal> {
        let path = Path::find(request.path).ok_or_else(|| Refusal {
            message: "the paths here are /healthz, /readyz, /metrics and /connections".to_owned(),
            ..Refusal::not_found().of_method(request.method)
        })?;
        if request.method != "GET" {
            return Err(Refusal::method_not_allowed().of_method(request.method));
        }
        match path {
            Path::Health => write_response(out, 200, "text/plain", b"ok\n"),
            Path::Ready if self.door.is_draining() => return Err(Refusal::draining()),
            Path::Ready => write_response(out, 200, "text/plain", b"ready\n"),
            Path::Metrics => {
                self.check(request)?;
                write_response(out, 200, METRICS_TYPE, self.metrics().as_bytes());
            }
            Path::Connections => {
                self.check(request)?;
                let listing = Listing::parse(request.query.unwrap_or_default())?;
                let reports = listing.apply(self.reports());
                let mut body = serde_json::to_vec(&reports).expect("reports are plain data");
                body.push(b'\n');
                write_response(out, 200, "application/json", &body);
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
            counters: &self.counters,
            words: Words { refusals: &Refusal::CODES, gaps: &gaps, line_errors: &line_errors },
            process: read_process(self.start_unix_micros),
            is_draining: self.door.is_draining(),
            sockets: self.door.connections() as u64,
            sockets_max: self.door.connections_max() as u64,
            topics: self.directory.len() as u64,
            history_bytes_max: self.history_bytes_max as u64,
        };
        let mut text = String::new();
        metrics::write(&figures, &mut text);
        text
    }

    fn reports(&self) -> Vec<Report> {
        let (sender, receiver) = bounded(self.shards.len());
        for shard in &self.shards {
            shard.send(Command::Report(sender.clone()));
        }
        drop(sender);
        let mut reports = Vec::new();
        while let Ok(mut of_shard) = receiver.recv_timeout(PATIENCE) {
            reports.append(&mut of_shard);
        }
        reports
    }
}

/// What there is to ask for.
#[derive(Clone, Copy)]
enum Path {
    Health,
    Ready,
    Metrics,
    Connections,
}

impl Path {
    fn find(path: &str) -> Option<Path> {
        match path {
            "/healthz" => Some(Path::Health),
            "/readyz" => Some(Path::Ready),
            "/metrics" => Some(Path::Metrics),
            "/connections" => Some(Path::Connections),
            _ => None,
        }
    }
}

/// `?sort=lag|bytes|position` and `?limit=N`.
#[derive(Default)]
struct Listing<'a> {
    sort: Option<&'a str>,
    limit: Option<usize>,
}

impl<'a> Listing<'a> {
    fn parse(query: &'a str) -> Result<Self, Refusal> {
        let mut listing = Self::default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("sort", by @ ("lag" | "bytes" | "position"))) => listing.sort = Some(by),
                Some(("sort", _)) => {
                    return Err(Refusal::bad_parameter("sort is lag, bytes or position"));
                }
                Some(("limit", limit)) => {
                    let limit = limit.parse().map_err(|_| Refusal::bad_parameter("limit is a number"))?;
                    listing.limit = Some(limit);
                }
                _ => {}
            }
        }
        Ok(listing)
    }

    fn apply(&self, mut reports: Vec<Report>) -> Vec<Report> {
        match self.sort {
            Some("lag") => {
                reports.sort_by_key(|report| std::cmp::Reverse((report.lag_events, report.lag_bytes)))
            }
            Some("bytes") => reports.sort_by_key(|report| std::cmp::Reverse(report.bytes_out)),
            Some(_) => reports.sort_by_key(|report| report.position),
            None => {}
        }
        reports.truncate(self.limit.unwrap_or(usize::MAX));
        reports
    }
}
