//! The ingest thread: publishers' bytes to the sequencer, a batch a turn, and answers back.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use mio::net::UnixListener;
use mio::{Events, Interest, Poll, Token};
use slab::Slab;

use crate::config::Overrun;
use crate::metrics::{Counters, LINE_ERRORS};
use crate::net::accounts::Accounts;
use crate::net::clock::{Clock, Moment};
use crate::net::housekeeping::Roll;
use crate::net::inbox::{ShardHandle, is_out_of_descriptors, is_transient};
use crate::net::publisher::{Publisher, Request, SHORT_REST_MAX, is_too_long};
use crate::net::shard::IngestWaker;
use crate::net::state_dir::{Mark, Remains};
use crate::stream::link::Link;
use crate::stream::sequencer::{Sequencer, Step, Taken};
use crate::wire::line::{LineError, PADDING, trim, write_welcome};
use crate::wire::members::is_control_line;

const LISTENER: Token = Token(usize::MAX);
pub const WAKER: Token = Token(usize::MAX - 1);
const EVENTS_MAX: usize = 256;

/// Read from one publisher at once: its share of a turn, and a batch.
const READ_BYTES: usize = 256 << 10;
/// Read from all of them before what came is published.
const TURN_BYTES_MAX: usize = READ_BYTES;

const _: () = assert!(LineError::ALL.len() == LINE_ERRORS);

/// What a byte of lines may cost in the history: the shortest events have more records than text.
const COST_PER_BYTE_MAX: usize = 8;

/// After a smaller read that met a busy shard, the next read waits a moment, like a network card that
/// coalesces: on one core, ingest would otherwise pre-empt the shard for every few events. The pause is shorter
/// than what fills a publisher's socket buffer.
const SMALL_READ_BYTES: usize = 5_000;
const PAUSE: Duration = Duration::from_millis(1);

/// After descriptors have run out, accepting is tried again so often.
const SHORTAGE_MILLIS: u64 = 100;
/// While watchers are waited for, it looks again so often.
const WAIT: Duration = Duration::from_millis(5);
/// Bad lines are logged at most so often.
pub(super) const COMPLAINT_MILLIS: u64 = 1_000;

pub struct IngestParts {
    pub poll: Poll,
    pub listener: UnixListener,
    pub sequencer: Sequencer,
    pub accounts: Accounts,
    pub mark: Mark,
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
}

pub struct Ingest {
    pub(super) parts: IngestParts,
    pub(super) publishers: Slab<Publisher>,
    /// Publishers with something to read, each once, served in turn.
    ready: VecDeque<usize>,
    /// Publishers that had lines in this turn.
    answering: Vec<usize>,
    block: Vec<u8>,
    /// Read from one publisher at once: not more than a small history has room for.
    read_bytes: usize,
    pub(super) moment: Moment,
    accepts: bool,
    pub(super) sweep_at: u64,
    pub(super) complaint_at: u64,
    shortage_at: u64,
    pub(super) complaints: u64,
    pub(super) own: Vec<u8>,
    /// The turn's end was not noted yet.
    pub(super) is_in_turn: bool,
    /// A request for all jobs that is being answered.
    pub(super) roll: Option<Roll>,
}

impl Ingest {
    pub fn new(mut parts: IngestParts) -> io::Result<Self> {
        parts.poll.registry().register(&mut parts.listener, LISTENER, Interest::READABLE)?;
        let block = vec![0; SHORT_REST_MAX + READ_BYTES + PADDING];
        let moment = parts.clock.read();
        let read_bytes = READ_BYTES.min(parts.history_bytes / (2 * COST_PER_BYTE_MAX));
        Ok(Self {
            parts,
            publishers: Slab::new(),
            ready: VecDeque::new(),
            answering: Vec::new(),
            block,
            read_bytes,
            moment,
            accepts: true,
            sweep_at: 0,
            complaint_at: 0,
            shortage_at: 0,
            complaints: 0,
            own: Vec::new(),
            is_in_turn: false,
            roll: None,
        })
    }

    /// Takes lines until it is told to stop; what was taken by then is published.
    pub fn run(mut self) -> io::Result<Remains> {
        let mut events = Events::with_capacity(EVENTS_MAX);
        let mut is_waiting = false;
        while !self.parts.is_stopping.load(Ordering::Acquire) {
            let timeout = self.timeout(is_waiting);
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
            is_waiting = self.must_wait();
            if !is_waiting {
                self.turn();
            }
            self.tell_jobs();
            self.keep_house();
        }
        let now = self.parts.clock.read().now;
        Ok(Remains { sequencer: self.parts.sequencer, accounts: self.parts.accounts, now })
    }

    fn timeout(&mut self, is_waiting: bool) -> Option<Duration> {
        // The wake of one who asked may have gone to another's request, or to a turn that was under way.
        let is_asked = self.roll.is_some() || !self.parts.waker.asked.is_empty();
        if is_asked || (!is_waiting && !self.ready.is_empty()) {
            return Some(Duration::ZERO);
        }
        let now = self.parts.clock.read();
        self.end_turn(now.instant);
        if is_waiting {
            return Some(WAIT);
        }
        let now = now.now.millis;
        let sweep = (!self.parts.sequencer.ledger.is_empty() || !self.parts.accounts.is_empty())
            .then_some(self.sweep_at);
        let metrics = self.parts.sequencer.metrics_due_at();
        let accept = self.accepts.then_some(now + SHORTAGE_MILLIS);
        let complaint = (self.complaints > 0).then_some(self.complaint_at);
        let next = [sweep, metrics, accept, complaint].into_iter().flatten().min()?;
        Some(Duration::from_millis(next.saturating_sub(now)))
    }

    fn accept(&mut self) {
        while self.accepts {
            match self.parts.listener.accept() {
                Ok((mut socket, _)) => {
                    let entry = self.publishers.vacant_entry();
                    let interest = Interest::READABLE | Interest::WRITABLE;
                    match self.parts.poll.registry().register(&mut socket, Token(entry.key()), interest) {
                        Ok(()) => {
                            let key = entry.key();
                            entry.insert(Publisher::new(socket));
                            self.counters().publishers_accepted.add(1);
                            self.make_ready(key);
                        }
                        Err(error) => tracing::warn!("cannot watch a publisher's socket: {error}"),
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.accepts = false,
                Err(error) if is_transient(&error) => {}
                Err(error) => {
                    if self.moment.now.millis >= self.shortage_at {
                        self.shortage_at = self.moment.now.millis + COMPLAINT_MILLIS;
                        match is_out_of_descriptors(&error) {
                            true => tracing::warn!("no descriptor is left for a publisher; trying again"),
                            false => tracing::warn!("cannot accept a publisher: {error}; trying again"),
                        }
                    }
                    return;
                }
            }
        }
    }

    fn make_ready(&mut self, key: usize) {
        if !self.publishers[key].is_ready {
            self.publishers[key].is_ready = true;
            self.ready.push_back(key);
        }
    }

    /// Whether what may be read next would push out what a reading watcher still needs (`overrun = wait`).
    fn must_wait(&mut self) -> bool {
        if self.parts.overrun != Overrun::Wait || self.ready.is_empty() {
            return false;
        }
        let needed = || self.parts.links.iter().map(|link| link.needed()).min();
        let reserve = self.read_bytes * COST_PER_BYTE_MAX;
        let would_drop = |needed: Option<u64>| {
            needed.is_some_and(|needed| self.parts.sequencer.would_drop(needed, reserve))
        };
        if !would_drop(needed()) {
            return false;
        }
        // Shards that sleep say what they need only when they look.
        self.parts.waker.is_waiting.store(true, Ordering::SeqCst);
        self.parts.shards.iter().for_each(ShardHandle::wake);
        let must_wait = would_drop(needed());
        self.counters().waits.add(u64::from(must_wait));
        must_wait
    }

    /// Reads from the publishers that are ready, each in its turn, and publishes.
    fn turn(&mut self) {
        let mut taken = 0;
        for _ in 0..self.ready.len() {
            let Some(key) = self.ready.pop_front() else {
                break;
            };
            self.publishers[key].is_ready = false;
            let count = self.read(key);
            taken += count;
            if taken >= TURN_BYTES_MAX {
                break;
            }
        }
        if taken == 0 {
            return;
        }
        self.publish();
        if taken < SMALL_READ_BYTES && self.parts.sequencer.met_awake_shard {
            thread::sleep(PAUSE);
        }
    }

    pub(super) fn publish(&mut self) {
        let before = self.parts.sequencer.published();
        self.parts.sequencer.end_turn();
        loop {
            match self.parts.sequencer.step() {
                Step::Told { shard, is_asleep: true } => self.parts.shards[shard].wake(),
                Step::Done => break,
                _ => {}
            }
        }
        let seq = self.parts.sequencer.seq();
        self.parts.mark.note(seq);
        self.counters().events.add(seq - before);
        while let Some(key) = self.answering.pop() {
            if let Some(publisher) = self.publishers.get_mut(key) {
                publisher.acknowledge(seq);
                self.answer(key);
            }
        }
    }

    fn answer(&mut self, key: usize) {
        // A publisher that hung up on its answers may still have lines in its socket: those are read to the end.
        let _ = self.publishers[key].flush();
    }

    /// Reads once from a publisher. Returns the bytes read.
    fn read(&mut self, key: usize) -> usize {
        let mut block = std::mem::take(&mut self.block);
        let publisher = &mut self.publishers[key];
        let held = publisher.held;
        // A long line stays in its publisher's own buffer: sent byte by byte, it would be copied as often.
        let mut own = std::mem::take(&mut publisher.buffer);
        let is_long = held > SHORT_REST_MAX;
        let buffer = if is_long {
            if own.len() < held + SHORT_REST_MAX + PADDING {
                own.resize(2 * held + SHORT_REST_MAX + PADDING, 0);
            }
            &mut own
        } else {
            block[..held].copy_from_slice(&own[..held]);
            &mut block
        };
        let end = (buffer.len() - PADDING).min(held + self.read_bytes);
        let result = publisher.socket.read(&mut buffer[held..end]);
        let count = *result.as_ref().unwrap_or(&0);
        self.counters().received_bytes.add(count as u64);
        let used = if count > 0 { self.take_lines(key, buffer, held, held + count) } else { 0 };
        let left = held + count - used;
        if !is_long {
            own.clear();
            own.extend_from_slice(&block[used..used + left]);
        } else if left > SHORT_REST_MAX {
            own.copy_within(used..used + left, 0);
        } else {
            own = own[used..used + left].to_vec();
        }
        self.publishers[key].buffer = own;
        self.publishers[key].held = left;
        self.block = block;
        self.judge_length(key);
        match result {
            Ok(0) => self.leave(key),
            Ok(_) => self.make_ready(key),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => self.make_ready(key),
            Err(error) => {
                tracing::debug!("a publisher's socket failed: {error}");
                self.leave(key);
            }
        }
        count
    }

    /// A line that is too long before its end has come is refused then, and its remainder passed over.
    fn judge_length(&mut self, key: usize) {
        let publisher = &mut self.publishers[key];
        if !is_too_long(&publisher.buffer[..publisher.held], self.parts.line_bytes_max) {
            return;
        }
        publisher.skips = true;
        publisher.buffer = Vec::new();
        publisher.held = 0;
        publisher.line += 1;
        let line = publisher.line;
        self.refuse(key, line, LineError::TooLong);
    }

    /// Takes the complete lines of `buffer[..end]`, of which `buffer[..searched]` holds no newline. Returns where
    /// the incomplete one begins.
    fn take_lines(&mut self, key: usize, buffer: &mut [u8], searched: usize, end: usize) -> usize {
        self.parts.sequencer.begin_turn(self.moment.now, end);
        self.answering.push(key);
        let mut start = 0;
        let mut from = searched;
        while let Some(found) = memchr::memchr(b'\n', &buffer[from..end]) {
            let newline = from + found;
            if std::mem::take(&mut self.publishers[key].skips) {
                // The end of a line that was refused when it grew too long.
            } else {
                self.take_line(key, &mut buffer[start..newline + PADDING]);
            }
            start = newline + 1;
            from = start;
        }
        if self.publishers[key].skips { end } else { start }
    }

    /// Takes one line; `block` is the line and the padding behind it.
    fn take_line(&mut self, key: usize, block: &mut [u8]) {
        let publisher = &mut self.publishers[key];
        publisher.line += 1;
        let line = publisher.line;
        let raw = block.len() - PADDING;
        let is_too_long = is_too_long(&block[..raw], self.parts.line_bytes_max);
        let object = trim(&block[..raw]);
        if object.is_empty() && !is_too_long {
            return;
        }
        let account = publisher.account;
        // An order is obeyed whatever its number: another connection may have gone further under the same name.
        if account.is_some_and(|account| line <= self.parts.accounts.accepted(account))
            && !is_control_line(&block[object.clone()])
        {
            return self.counters().repeated_lines.add(1);
        }
        if is_too_long {
            return self.refuse(key, line, LineError::TooLong);
        }
        let length = object.len();
        match self.parts.sequencer.take_line(&mut block[object.start..], length) {
            Ok(Taken::Event(_)) => {
                publisher.has_begun = true;
                if let Some(account) = account {
                    self.parts.accounts.accept(account, line);
                }
            }
            Ok(Taken::Control(control)) => {
                let request = Request::of(control);
                match self.obey(key, request) {
                    Ok(()) => self.counters().control_lines.add(1),
                    Err(error) => self.refuse(key, line, error),
                }
            }
            Err(error) => {
                publisher.has_begun = true;
                self.refuse(key, line, error);
            }
        }
    }

    fn refuse(&mut self, key: usize, line: u64, error: LineError) {
        self.counters().line_errors[error as usize].add(1);
        if !self.publishers[key].refuse(line, error) {
            self.counters().answers_dropped.add(1);
        }
        if self.complaints == 0 && self.moment.now.millis >= self.complaint_at {
            tracing::warn!("line {line} of a publisher refused: {}: {}", error.code(), error.message());
            self.complaint_at = self.moment.now.millis + COMPLAINT_MILLIS;
        } else {
            self.complaints += 1;
        }
    }

    fn obey(&mut self, key: usize, request: Request) -> Result<(), LineError> {
        let seq = self.parts.sequencer.seq();
        let publisher = &mut self.publishers[key];
        match request {
            Request::Hello { name, acks } => {
                if publisher.has_begun {
                    return Err(LineError::BadOp);
                }
                publisher.wants_acks = acks;
                publisher.number_from(publisher.line);
                let mut accepted = None;
                if let Some(name) = name {
                    let account = self.parts.accounts.open(name);
                    publisher.account = Some(account);
                    publisher.number_from(self.parts.accounts.accepted(account));
                    accepted = Some(self.parts.accounts.accepted(account));
                }
                publisher.answer(|out| write_welcome(out, seq, accepted));
            }
            Request::From { line } => {
                if publisher.account.is_none() {
                    return Err(LineError::BadOp);
                }
                publisher.number_from(line - 1);
            }
        }
        publisher.has_begun = true;
        if !self.answering.contains(&key) {
            self.answering.push(key);
        }
        Ok(())
    }

    /// A publisher has ended: the line it did not finish is discarded, which it is told if it still listens. One that
    /// only shut its writing side stays until it has read what is held for it, or hangs up.
    fn leave(&mut self, key: usize) {
        let publisher = &mut self.publishers[key];
        let rest = std::mem::take(&mut publisher.held);
        if !trim(&publisher.buffer[..rest]).is_empty() {
            publisher.line += 1;
            let line = publisher.line;
            self.refuse(key, line, LineError::Truncated);
        }
        let publisher = &mut self.publishers[key];
        if publisher.flush().is_ok() && publisher.has_answers() {
            return;
        }
        let publisher = self.publishers.remove(key);
        if publisher.is_ready {
            self.ready.retain(|&ready| ready != key);
        }
        self.answering.retain(|&answering| answering != key);
        if let Some(account) = publisher.account {
            self.parts.accounts.close(account, self.moment.now.millis);
        }
    }
}
