//! The ingest thread: it reads lines from publishers, gives the sequencer one batch per turn, and sends answers.
#![doc = include_str!("README.md")]

pub mod dedupe;
pub mod follower;
mod following;
pub mod half_lines;
pub mod handle;
pub mod lines;
pub mod maintenance;
pub mod posted;
mod posted_lines;
pub mod publisher;
pub mod refused_lines;
pub mod share;
pub mod shared_stream;

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use mio::net::{UnixListener, UnixStream};
use mio::{Events, Interest, Poll, Token};
use slab::Slab;

use crate::config::Overrun;
use crate::metrics::{Counters, LINE_ERRORS};
use crate::net::clock::{Clock, Moment};
use crate::net::host::state_dir::{FinalState, NumberMark};
use crate::net::ingest::dedupe::Dedupe;
use crate::net::ingest::half_lines::HalfLines;
use crate::net::ingest::handle::{IngestWaker, JobsRequest};
use crate::net::ingest::publisher::{Publisher, SHORT_REST_MAX, Source};
use crate::net::ingest::refused_lines::RefusedLineLog;
use crate::net::ingest::shared_stream::SharedStream;
use crate::net::listen::accept_error::{is_out_of_descriptors, is_transient};
use crate::net::shard::handle::ShardHandle;
use crate::stream::gate::{Ahead, Gate, READ_BYTES_MAX};
use crate::stream::link::Link;
use crate::stream::sequencer::{Sequencer, Step};
use crate::wire::line::{LineError, PADDING};
use crate::wire::publisher_answer::write_full;

const LISTENER: Token = Token(usize::MAX);
pub const WAKER: Token = Token(usize::MAX - 1);
const EVENTS_MAX: usize = 256;

const _: () = assert!(LineError::ALL.len() == LINE_ERRORS);

/// After a read smaller than this, if a shard was awake, the next read waits for [`PAUSE`], as a network card coalesces
/// interrupts. Otherwise, on one core, ingest would pre-empt the shard for every few events. A publisher's socket buffer
/// does not fill within the pause.
const SMALL_READ_BYTES: usize = 5_000;
const PAUSE: Duration = Duration::from_millis(1);

/// Time until the next accept after descriptors have run out.
const SHORTAGE_MILLIS: u64 = 100;
/// Time between two checks while the feed waits for watchers.
const WAIT: Duration = Duration::from_millis(5);
/// Time between two checks while publishers wait for places for half lines.
const PLACE_MILLIS: u64 = 50;
/// Most publishers accepted or turned away in one turn.
const ACCEPTS_MAX: usize = 64;
/// Least time between two log lines about publishers that cannot be accepted or are turned away.
const TROUBLE_LOG_MILLIS: u64 = 1_000;

pub struct IngestParts {
    pub poll: Poll,
    pub listener: UnixListener,
    pub sequencer: Sequencer,
    pub dedupe: Dedupe,
    pub mark: NumberMark,
    pub shards: Vec<ShardHandle>,
    pub links: Vec<Arc<Link>>,
    pub counters: Arc<Counters>,
    pub clock: Clock,
    pub waker: Arc<IngestWaker>,
    pub is_stopping: Arc<AtomicBool>,
    pub overrun: Overrun,
    pub history_bytes: usize,
    pub history_millis: u64,
    pub line_bytes_max: usize,
    pub depth_max: usize,
    /// The stream that is shared with other daemons (`bus`), and how long the last lines may take into it in the end.
    pub shared: Option<(SharedStream, Duration)>,
}

pub struct Ingest {
    parts: IngestParts,
    publishers: Slab<Publisher>,
    /// How many of them are requests over HTTP.
    requests: usize,
    /// Publishers that may have something to read, each once, served in turn.
    ready: VecDeque<usize>,
    /// Publishers that may get an answer in this turn.
    answering: Vec<usize>,
    block: Vec<u8>,
    half_lines: HalfLines,
    gate: Gate,
    /// The feed and the daemon's own events wait for watchers.
    is_waiting: bool,
    moment: Moment,
    /// The listener may have connections to accept.
    accepts: bool,
    /// More connections may wait than one turn accepts.
    has_more_to_accept: bool,
    sweep_at: u64,
    refused_line_log: RefusedLineLog,
    trouble_log_at: u64,
    /// Publishers turned away since the last log line about them.
    turned_away: u64,
    own: Vec<u8>,
    /// The duration of the turn is not noted yet.
    is_in_turn: bool,
    /// With `bus`, lines become events only once they have come back through it.
    shared: Option<SharedStream>,
    /// How long the last lines may take into the shared stream.
    end_limit: Duration,
    /// A request for all jobs that is being answered.
    jobs_request: Option<JobsRequest>,
}

impl Ingest {
    pub fn new(mut parts: IngestParts) -> io::Result<Self> {
        parts.poll.registry().register(&mut parts.listener, LISTENER, Interest::READABLE)?;
        let block = vec![0; SHORT_REST_MAX + READ_BYTES_MAX + PADDING];
        let moment = parts.clock.read();
        let half_lines = HalfLines::new(parts.history_bytes, parts.line_bytes_max);
        let gate = Gate::new(parts.overrun, parts.links.clone(), parts.history_bytes);
        let (shared, end_limit) = parts.shared.take().unzip();
        Ok(Self {
            parts,
            publishers: Slab::new(),
            requests: 0,
            ready: VecDeque::new(),
            answering: Vec::new(),
            block,
            half_lines,
            gate,
            is_waiting: false,
            moment,
            accepts: true,
            has_more_to_accept: false,
            sweep_at: 0,
            refused_line_log: RefusedLineLog::default(),
            trouble_log_at: 0,
            turned_away: 0,
            own: Vec::new(),
            is_in_turn: false,
            shared,
            end_limit: end_limit.unwrap_or_default(),
            jobs_request: None,
        })
    }

    /// Takes lines until `is_stopping` is set. What was taken by then is published.
    pub fn run(mut self) -> io::Result<FinalState> {
        let mut events = Events::with_capacity(EVENTS_MAX);
        while !self.parts.is_stopping.load(Ordering::Acquire) {
            let timeout = self.timeout();
            match self.parts.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                result => result?,
            }
            self.begin_turn();
            for event in &events {
                match event.token() {
                    LISTENER => self.accepts = true,
                    WAKER => {}
                    Token(key) if self.publishers.contains(key) => {
                        if event.is_writable() {
                            self.answer(key);
                        }
                        self.make_ready(key);
                    }
                    Token(_) => {}
                }
            }
            self.accept();
            self.accept_posted();
            self.follow();
            self.give_places();
            self.is_waiting = self.must_wait();
            if !self.is_waiting {
                self.turn();
            }
            self.send_chunks();
            self.report_jobs();
            self.do_housekeeping();
        }
        self.finish_chunks(&mut events)?;
        self.end_requests();
        let now = self.parts.clock.read().now;
        Ok(FinalState { sequencer: self.parts.sequencer, dedupe: self.parts.dedupe, now })
    }

    fn timeout(&mut self) -> Option<Duration> {
        // The wake for a pending request may have ended in an earlier turn, before the request was seen.
        let is_busy = self.jobs_request.is_some()
            || !self.parts.waker.pending_requests.is_empty()
            || !self.parts.waker.posted.pending.is_empty()
            || self.has_more_to_accept
            || self.shared.as_ref().is_some_and(SharedStream::is_busy)
            || (!self.is_waiting && !self.ready.is_empty());
        if is_busy {
            return Some(Duration::ZERO);
        }
        let now = self.parts.clock.read();
        self.end_turn(now.instant);
        if self.is_waiting {
            return Some(WAIT);
        }
        let now = now.now.millis;
        let sweep = (!self.parts.sequencer.topic_index.is_empty() || !self.parts.dedupe.is_empty())
            .then_some(self.sweep_at);
        let metrics = self.parts.sequencer.metrics_due_at();
        let accept = self.accepts.then_some(now + SHORTAGE_MILLIS);
        let place = self.half_lines.has_parked().then_some(now + PLACE_MILLIS);
        let shared = self.shared.as_ref().and_then(SharedStream::due);
        let next = [sweep, metrics, accept, place, shared, self.refused_line_log.rest_at()];
        let next = next.into_iter().flatten().min()?;
        Some(Duration::from_millis(next.saturating_sub(now)))
    }

    fn accept(&mut self) {
        self.has_more_to_accept = false;
        if !self.accepts {
            return;
        }
        let publishers_max = self.parts.waker.publishers_max.load(Ordering::Relaxed);
        for _ in 0..ACCEPTS_MAX {
            match self.parts.listener.accept() {
                Ok((socket, _)) if self.publishers.len() - self.requests >= publishers_max => {
                    self.turn_away(socket)
                }
                Ok((socket, _)) => self.welcome(socket),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.accepts = false;
                    return;
                }
                Err(error) if is_transient(&error) => {}
                Err(error) => {
                    if self.may_log_trouble() {
                        match is_out_of_descriptors(&error) {
                            true => tracing::warn!("no descriptor is left for a publisher; trying again"),
                            false => tracing::warn!("cannot accept a publisher: {error}; trying again"),
                        }
                    }
                    return;
                }
            }
        }
        self.has_more_to_accept = true;
    }

    fn welcome(&mut self, mut socket: UnixStream) {
        let entry = self.publishers.vacant_entry();
        let key = entry.key();
        let interest = Interest::READABLE | Interest::WRITABLE;
        match self.parts.poll.registry().register(&mut socket, Token(key), interest) {
            Ok(()) => {
                let publisher = entry.insert(Publisher::new(Source::Socket(socket)));
                publisher.lane = self.shared.as_mut().map(|shared| shared.enter(key));
                self.counters().publishers_accepted.add(1);
                self.make_ready(key);
            }
            Err(error) => tracing::warn!("cannot register a publisher's socket: {error}"),
        }
    }

    /// Refuses a publisher because `publishers_max` are connected. It gets an answer if its socket takes that at once.
    fn turn_away(&mut self, socket: UnixStream) {
        let mut publisher = Publisher::new(Source::Socket(socket));
        publisher.answer(write_full);
        // The publisher may have closed its socket already.
        let _ = publisher.flush();
        self.counters().publishers_refused.add(1);
        self.turned_away += 1;
        if self.may_log_trouble() {
            let (pid, _) = publisher.describe();
            let count = std::mem::take(&mut self.turned_away);
            tracing::warn!(
                pid,
                count,
                "turned a publisher away: {} are connected (publishers_max)",
                self.publishers.len() - self.requests
            );
        }
    }

    fn may_log_trouble(&mut self) -> bool {
        let may = self.moment.now.millis >= self.trouble_log_at;
        if may {
            self.trouble_log_at = self.moment.now.millis + TROUBLE_LOG_MILLIS;
        }
        may
    }

    fn make_ready(&mut self, key: usize) {
        if !self.publishers[key].is_ready && self.publishers[key].greets_since.is_none() {
            self.publishers[key].is_ready = true;
            self.ready.push_back(key);
        }
    }

    /// Whether the next events would evict some that a reading watcher still needs (`overrun = wait`).
    fn must_wait(&mut self) -> bool {
        let now = self.moment.now.millis;
        let ahead = Ahead {
            held: self.ready.front().map(|&key| self.publishers[key].held),
            is_own_due: self.parts.sequencer.metrics_due_at().is_some_and(|at| at <= now),
        };
        let Self { gate, parts, .. } = self;
        let must_wait = gate.must_wait(&parts.sequencer, ahead, now, || {
            parts.waker.is_waiting.store(true, Ordering::SeqCst);
            parts.shards.iter().for_each(ShardHandle::wake);
        });
        self.counters().waits.add(u64::from(must_wait));
        must_wait
    }

    /// Reads from the publishers that are ready, one after the other, and publishes.
    fn turn(&mut self) {
        let (mut taken, mut work) = (0, 0);
        for _ in 0..self.ready.len() {
            let Some(&key) = self.ready.front() else {
                break;
            };
            let held = self.publishers[key].held;
            if !self.gate.may_read(&self.parts.sequencer, held) {
                break;
            }
            self.ready.pop_front();
            if !self.has_room_or_parks(key) {
                continue;
            }
            let bytes_max = self.read_bytes_max(key);
            if bytes_max == 0 {
                self.half_lines.of_mut(&self.publishers[key].source).park(key);
                continue;
            }
            self.publishers[key].is_ready = false;
            let reading = self.read(key, bytes_max);
            self.gate.note_read(held, reading.bytes);
            taken += reading.bytes;
            work += reading.cost();
            if work >= self.gate.read_bytes() {
                break;
            }
        }
        if taken == 0 && self.answering.is_empty() {
            return;
        }
        self.publish();
        if taken < SMALL_READ_BYTES && self.parts.sequencer.met_awake_shard {
            thread::sleep(PAUSE);
        }
    }

    fn publish(&mut self) {
        let before = self.parts.sequencer.events();
        let seq = self.parts.sequencer.seq();
        // First: no number that is seen may be given again by the next run.
        self.parts.mark.note(seq);
        self.parts.sequencer.end_turn();
        loop {
            match self.gate.step(&mut self.parts.sequencer) {
                Step::Done => break,
                Step::Offered { shard, is_asleep: true } => self.parts.shards[shard].wake(),
                _ => {}
            }
        }
        self.counters().events.add(self.parts.sequencer.events() - before);
        while let Some(key) = self.answering.pop() {
            if let Some(publisher) = self.publishers.get_mut(key) {
                match (&self.shared, publisher.lane) {
                    (Some(shared), Some(lane)) => publisher.acknowledge_to(shared.dealt(lane), seq),
                    _ => publisher.acknowledge(publisher.line, seq),
                }
                self.answer(key);
            }
        }
    }

    fn answer(&mut self, key: usize) {
        if let Source::Posted(_) = self.publishers[key].source {
            return self.give_receipt(key);
        }
        // If the publisher does not read its answers any more, its socket may still hold lines; those are read.
        let _ = self.publishers[key].flush();
    }
}
