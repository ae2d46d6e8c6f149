//! What happens to a shard's connections: adopted, read, opened, told, ended.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arrayvec::ArrayVec;
use mio::net::TcpStream;
use mio::{Interest, Token};
use socket2::SockRef;
use std::io::{ErrorKind, Read};
use std::net::Shutdown;

use crate::close::CloseReason;
use crate::hub::endpoint::{Endpoint, Opening, route};
use crate::hub::laggard::{Laggard, Progress};
use crate::hub::policy::{UNSENT_ANSWERS_MAX, ticks};
use crate::hub::session::{Scene, Session, Verdict};
use crate::net::connection::{Connection, Phase};
use crate::net::inbox::{Report, TurnAway};
use crate::net::outq::unacknowledged;
use crate::net::shard::Shard;
use crate::wire::frame;
use crate::wire::handshake::{accept_key, write_switching};
use crate::wire::http::{Head, HeadLimits, Refusal, parse_head, write_refusal, write_response};
use crate::wire::message::{Flow, Message};
use crate::wire::notice;

/// How long a connection that was told to end may take to read that.
const LINGER: Duration = Duration::from_secs(5);
/// The least and the usual greatest wait before reconnecting after a drain, in milliseconds.
const RETRY_MILLIS_MIN: u64 = 500;
const RETRY_MILLIS_SPREAD_MIN: u64 = 4_500;

/// Between two log lines about refused requests; those in between are counted in the next.
const REFUSAL_LOG_MILLIS: u64 = 1_000;

/// What the bytes of one read led to.
enum Outcome {
    Continue,
    Close(CloseReason),
    Echo(Option<u16>),
}

impl Shard {
    pub(super) fn adopt(&mut self, mut socket: TcpStream, address: SocketAddr, turn_away: Option<TurnAway>) {
        self.parts.counters.connections.add(1);
        self.generation = self.generation.wrapping_add(1);
        let key = self.watchers.add();
        let token = Token(key as usize | (self.generation as usize & 0x7fff_ffff) << 32);
        let generation = self.generation & 0x7fff_ffff;
        let interest = Interest::READABLE | Interest::WRITABLE;
        if let Err(error) = self.registry().register(&mut socket, token, interest) {
            tracing::warn!("cannot watch a new connection's socket: {error}");
            self.watchers.remove(key);
            self.count_out(address.ip());
            return;
        }
        if self.connections.len() <= key as usize {
            self.connections.resize_with(key as usize + 1, || None);
        }
        let due = self.moment.tick().wrapping_add(self.parts.policy.handshake);
        self.connections[key as usize] = Some(Connection::new(address.ip(), generation, due));
        self.sockets.insert(key, socket);
        self.wheel.schedule(key, due);
        match turn_away {
            None => self.handle_readable(key),
            Some(TurnAway::Draining) => self.refuse(key, &Refusal::draining()),
            Some(TurnAway::Full) => {
                self.refuse(key, &Refusal::full("no room for another connection (connections_max)"))
            }
            Some(TurnAway::AddressFull) => {
                let message = "too many connections from this address (connections_per_address_max)";
                self.refuse(key, &Refusal::too_many_requests(message));
            }
        }
    }

    fn connection(&mut self, key: u32) -> &mut Connection {
        self.connections[key as usize].as_mut().expect("the key is that of a connection")
    }

    /// Something came, or the peer is gone: reads a portion.
    pub(super) fn handle_readable(&mut self, key: u32) {
        let connection = self.connection(key);
        if !connection.has_more {
            connection.has_more = true;
            self.unread.push_back(key);
        }
    }

    /// Reads on from everybody who has more, a portion each.
    pub(super) fn read_on(&mut self) {
        let mut scratch = std::mem::take(&mut self.scratch);
        for _ in 0..self.unread.len() {
            let Some(key) = self.unread.pop_front() else {
                break;
            };
            let Some(connection) = self.connections.get_mut(key as usize).and_then(Option::as_mut) else {
                continue;
            };
            if std::mem::take(&mut connection.has_more) {
                self.read(key, &mut scratch);
            }
        }
        self.scratch = scratch;
    }

    fn read(&mut self, key: u32, scratch: &mut [u8]) {
        if self.watchers.watchers[key as usize].waiting() > UNSENT_ANSWERS_MAX {
            self.muted.push(key);
            return;
        }
        let Some(socket) = self.sockets.get(key) else {
            return;
        };
        match socket.read(scratch) {
            Ok(0) => self.drop_connection(key),
            Ok(count) => {
                let connection = self.connection(key);
                connection.is_heard = true;
                self.handle_bytes(key, &mut scratch[..count]);
                if self.connections[key as usize].is_some() {
                    self.handle_readable(key);
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => self.handle_readable(key),
            Err(_) => self.drop_connection(key),
        }
    }

    fn handle_bytes(&mut self, key: u32, bytes: &mut [u8]) {
        match &mut self.connection(key).phase {
            Phase::Head(_) => self.handle_head(key, bytes),
            Phase::Open(_) => self.handle_frames(key, bytes),
            // What comes after the end is read only so that the answer is not lost to a reset.
            Phase::Closing => {}
        }
    }

    fn handle_head(&mut self, key: u32, bytes: &mut [u8]) {
        let limits = HeadLimits { head_bytes_max: self.parts.policy.head_bytes_max };
        let Phase::Head(held) = &mut self.connection(key).phase else {
            return;
        };
        let mut head = std::mem::take(held);
        let before = head.len();
        head.extend_from_slice(&bytes[..bytes.len().min(limits.head_bytes_max + 1)]);
        let (opening, accept, length) = match parse_head(&head, limits) {
            Ok(Head::Partial) => {
                if let Phase::Head(held) = &mut self.connection(key).phase {
                    *held = head;
                }
                return;
            }
            Ok(Head::Complete { request, length }) => match route(&request) {
                Ok(opening) if opening.endpoint == Endpoint::Health => {
                    return self.answer_health(key);
                }
                Ok(opening) => match accept_key(&request) {
                    Ok(accept) => (opening, accept, length),
                    Err(refusal) => return self.refuse(key, &refusal),
                },
                Err(refusal) => return self.refuse(key, &refusal),
            },
            Err(refusal) => return self.refuse(key, &refusal),
        };
        if self.parts.door.is_draining() {
            return self.refuse(key, &Refusal::draining());
        }
        self.open(key, &opening, &accept);
        // Frames may stand right behind the request.
        let used = length - before;
        if matches!(self.connection(key).phase, Phase::Open(_)) && used < bytes.len() {
            self.handle_frames(key, &mut bytes[used..]);
        }
    }

    fn open(&mut self, key: u32, opening: &Opening, accept: &str) {
        let mut scene = Scene {
            key,
            watchers: &mut self.watchers,
            outlet: &mut self.sockets,
            policy: &self.parts.policy,
            tick: self.moment.tick(),
            unix_micros: self.moment.now.unix_micros,
        };
        match Session::open(opening, &mut scene, |out| write_switching(out, accept)) {
            Err(refusal) => self.refuse(key, &refusal),
            Ok(session) => {
                // The golden ratio spreads any number of connections evenly over the interval.
                self.spread = self.spread.wrapping_add(0x9e37_79b9);
                let heartbeat = u64::from(self.parts.policy.heartbeat);
                let first = ((heartbeat * u64::from(self.spread)) >> 32) as u32 + 1;
                let due = self.moment.tick().wrapping_add(first);
                let connection = self.connection(key);
                connection.phase = Phase::Open(session);
                connection.due = due;
                self.wheel.schedule(key, due);
            }
        }
    }

    fn handle_frames(&mut self, key: u32, bytes: &mut [u8]) {
        let connection = self.connections[key as usize].as_mut().expect("the key is that of a connection");
        let Phase::Open(session) = &mut connection.phase else {
            return;
        };
        let mut scene = Scene {
            key,
            watchers: &mut self.watchers,
            outlet: &mut self.sockets,
            policy: &self.parts.policy,
            tick: self.moment.tick(),
            unix_micros: self.moment.now.unix_micros,
        };
        let mut outcome = Outcome::Continue;
        // One slot: of many pings the newest is answered (RFC 6455, 5.5.3).
        let mut ping: Option<ArrayVec<u8, 125>> = None;
        let limits = &self.parts.policy.messages;
        let read = connection.reader.read(bytes, limits, &mut |message| {
            if let Message::Ping(payload) = &message {
                ping = payload.iter().copied().collect::<ArrayVec<u8, 125>>().into();
            }
            outcome = match session.handle_message(&message, &mut scene) {
                Verdict::Continue => return Flow::Continue,
                Verdict::Close(reason) => Outcome::Close(reason),
                Verdict::Echo(code) => Outcome::Echo(code),
            };
            Flow::Stop
        });
        if let Some(payload) = ping {
            self.watchers.say(key, |out| frame::write_pong(out, &payload));
        }
        match (read, outcome) {
            (Err(reason), _) | (Ok(()), Outcome::Close(reason)) => self.close(key, reason),
            (Ok(()), Outcome::Echo(code)) => {
                self.watchers.say(key, |out| match code {
                    Some(code) => frame::write_close(out, code, ""),
                    None => frame::write_close_empty(out),
                });
                self.end(key);
            }
            (Ok(()), Outcome::Continue) => {}
        }
    }

    fn answer_health(&mut self, key: u32) {
        self.watchers.say(key, |out| write_response(out, 200, "text/plain", b"ok\n"));
        self.end(key);
    }

    /// Answers a request with why not, and lets the client read that.
    fn refuse(&mut self, key: u32, refusal: &Refusal) {
        self.parts.counters.refusals.add(1);
        self.log_refusal(key, refusal);
        self.watchers.say(key, |out| write_refusal(out, refusal));
        self.end(key);
    }

    /// At most one line a second: a peer could flood the log.
    fn log_refusal(&mut self, key: u32, refusal: &Refusal) {
        let now = self.moment.now.millis;
        if now < self.refusal_log_at {
            self.refusals_unlogged += 1;
            return;
        }
        self.refusal_log_at = now + REFUSAL_LOG_MILLIS;
        let unlogged = std::mem::take(&mut self.refusals_unlogged);
        let address = self.connection(key).address;
        tracing::info!(%address, code = refusal.code, unlogged, "refused a request: {}", refusal.message);
    }

    /// Ends a connection with a close frame that says why.
    pub(super) fn close(&mut self, key: u32, reason: CloseReason) {
        self.parts.counters.count_close(reason);
        tracing::debug!(address = %self.connection(key).address, "closing: {}", reason.text());
        self.watchers.say(key, |out| frame::write_close(out, reason.code(), reason.text()));
        self.end(key);
    }

    fn end(&mut self, key: u32) {
        self.watchers.end(key);
        let due = self.moment.tick().wrapping_add(ticks(LINGER));
        let connection = self.connection(key);
        connection.phase = Phase::Closing;
        connection.due = due;
        self.wheel.schedule(key, due);
    }

    /// Ends a connection that takes no bytes at all: a close frame would wait behind its full buffer.
    fn reset(&mut self, key: u32, reason: CloseReason) {
        self.parts.counters.count_close(reason);
        tracing::info!(address = %self.connection(key).address, code = reason.code(), "reset: {}", reason.text());
        if let Some(socket) = self.sockets.get(key) {
            // Without this the kernel would keep the unsent bytes for as long as the peer does not read.
            let _ = SockRef::from(&*socket).set_linger(Some(Duration::ZERO));
        }
        self.drop_connection(key);
    }

    pub(super) fn drop_connection(&mut self, key: u32) {
        let Some(connection) = self.connections[key as usize].take() else {
            return;
        };
        if self.watchers.is_reviewed(key) {
            self.laggards.retain(|laggard| laggard.key != key);
        }
        self.watchers.remove(key);
        drop(self.sockets.remove(key));
        self.count_out(connection.address);
    }

    fn count_out(&mut self, address: std::net::IpAddr) {
        self.parts.door.leave(address);
        self.parts.count.fetch_sub(1, Ordering::Relaxed);
    }

    /// After a flush: sockets that broke, connections whose last bytes have gone out, clients that take their
    /// answers again, watchers whose sockets are full.
    pub(super) fn look_after(&mut self) {
        while let Some(key) = self.watchers.gone.pop() {
            let Some(Some(connection)) = self.connections.get_mut(key as usize) else {
                continue;
            };
            if !self.watchers.is_ended(key) {
                self.drop_connection(key);
            } else if !connection.is_shut {
                connection.is_shut = true;
                let is_shut =
                    self.sockets.get(key).is_some_and(|socket| socket.shutdown(Shutdown::Write).is_ok());
                if !is_shut {
                    self.drop_connection(key);
                }
            }
        }
        if !self.muted.is_empty() {
            self.unmute();
        }
        while let Some(key) = self.watchers.blocked.pop() {
            if self.connections[key as usize].is_none() {
                continue;
            }
            let taken = self.taken(key);
            self.laggards.push(Laggard::new(key, taken, self.moment.now.millis));
            if self.laggards.len() == 1 {
                self.review_at = self.moment.now.millis + self.parts.patience.check_millis;
            }
        }
        self.parts.counters.messages.add(std::mem::take(&mut self.watchers.messages));
        self.parts.counters.gaps.add(std::mem::take(&mut self.watchers.gaps));
    }

    /// Clients that have taken their answers are read from again.
    fn unmute(&mut self) {
        let mut muted = std::mem::take(&mut self.muted);
        muted.retain(|&key| {
            let is_there = self.connections.get(key as usize).is_some_and(Option::is_some);
            if is_there && self.watchers.watchers[key as usize].waiting() <= UNSENT_ANSWERS_MAX {
                self.handle_readable(key);
                return false;
            }
            is_there
        });
        self.muted = muted;
    }

    /// Bytes that the peer has acknowledged.
    fn taken(&mut self, key: u32) -> u64 {
        let out = self.watchers.watchers[key as usize].bytes_out;
        let unacknowledged = self.sockets.get(key).and_then(|socket| unacknowledged(&*socket).ok());
        out.saturating_sub(u64::from(unacknowledged.unwrap_or(0)))
    }

    /// Looks at the progress of everybody who lags.
    pub(super) fn review_laggards(&mut self) {
        let now = self.moment.now.millis;
        if self.laggards.is_empty() || now < self.review_at {
            return;
        }
        self.review_at = now + self.parts.patience.check_millis;
        let mut laggards = std::mem::take(&mut self.laggards);
        let mut stalled = Vec::new();
        laggards.retain_mut(|laggard| {
            let key = laggard.key;
            if !self.watchers.stays_reviewed(key) {
                return false;
            }
            match laggard.check(self.taken(key), now, self.parts.patience) {
                Progress::Reads => self.connection(key).is_heard = true,
                Progress::Pauses => {}
                Progress::Stalled if self.watchers.is_blocked(key) => stalled.push(key),
                Progress::Stalled => {}
            }
            true
        });
        self.laggards = laggards;
        for key in stalled {
            self.reset(key, CloseReason::Stalled);
        }
    }

    /// A connection's deadline has come.
    pub(super) fn handle_due(&mut self, key: u32) {
        match self.connection(key).phase {
            Phase::Head(_) => self.refuse(key, &Refusal::timeout()),
            Phase::Open(_) => self.beat(key),
            Phase::Closing => self.drop_connection(key),
        }
    }

    /// A heartbeat: judges the silence, then says where the connection stands.
    fn beat(&mut self, key: u32) {
        let (silent_max, heartbeat, tick) =
            (self.parts.policy.silent_heartbeats, self.parts.policy.heartbeat, self.moment.tick());
        let connection = self.connection(key);
        connection.silent = if std::mem::take(&mut connection.is_heard) { 0 } else { connection.silent + 1 };
        if connection.silent >= silent_max {
            return self.close(key, CloseReason::Silent);
        }
        // The beat keeps its place in the interval, unless it comes very late.
        let next = connection.due.wrapping_add(heartbeat);
        let due = if crate::hub::wheel::is_reached(next, tick) { tick.wrapping_add(heartbeat) } else { next };
        connection.due = due;
        let Phase::Open(session) = &connection.phase else {
            return;
        };
        let is_multi_job = session.is_multi_job();
        self.wheel.schedule(key, due);
        if self.watchers.watchers[key as usize].waiting() > UNSENT_ANSWERS_MAX {
            return;
        }
        self.watchers.settle(key, &mut self.sockets);
        let (at, position) = (self.watchers.now, self.watchers.position(key));
        self.watchers.say(key, |out| {
            notice::ping(out, &at, position);
            if is_multi_job {
                notice::pong(out);
            }
            frame::write_ping(out, b"");
        });
    }

    /// While draining: says goodbye to everybody once all is served, or the time for that is over.
    pub(super) fn say_goodbye(&mut self) {
        let Some(drain) = &mut self.drain else { return };
        let is_time = self.moment.instant >= drain.serve_until;
        if drain.has_said_goodbye || (!is_time && !self.watchers.is_served(&mut self.sockets)) {
            return;
        }
        drain.has_said_goodbye = true;
        let spread = RETRY_MILLIS_SPREAD_MIN.max(drain.connections as u64 / 2);
        let (of, connections) = (drain.of as u64, drain.connections.max(1) as u64);
        let mut order = self.parts.index as u64;
        for key in 0..self.connections.len() as u32 {
            let Some(Some(connection)) = self.connections.get(key as usize) else {
                continue;
            };
            match connection.phase {
                Phase::Open(_) => {
                    let retry = RETRY_MILLIS_MIN + spread * (order % connections) / connections;
                    order += of;
                    self.watchers.settle(key, &mut self.sockets);
                    let (at, position) = (self.watchers.now, self.watchers.position(key));
                    self.watchers.say(key, |out| notice::disconnected(out, &at, position, "draining", retry));
                    self.close(key, CloseReason::Drain);
                }
                Phase::Head(_) => self.refuse(key, &Refusal::draining()),
                Phase::Closing => {}
            }
        }
    }

    /// Everybody has left, or the time is up.
    pub(super) fn has_drained(&self) -> bool {
        let is_empty = || self.connections.iter().all(Option::is_none);
        self.drain.as_ref().is_some_and(|drain| {
            drain.has_said_goodbye && (self.moment.instant >= drain.end_at || is_empty())
        })
    }

    /// Every connection, for operators.
    pub(super) fn report(&mut self) -> Vec<Report> {
        let mut reports = Vec::new();
        for key in 0..self.connections.len() as u32 {
            let Some(Some(connection)) = self.connections.get(key as usize) else {
                continue;
            };
            let phase = match connection.phase {
                Phase::Head(_) => "opening",
                Phase::Open(_) => "open",
                Phase::Closing => "closing",
            };
            let address = self.sockets.get(key).and_then(|socket| socket.peer_addr().ok());
            let watched = self.watchers.describe(key);
            reports.push(Report {
                address: address.map(|address| address.to_string()),
                shard: self.parts.index,
                phase,
                topics: watched.topics,
                filter: watched.filter,
                position: watched.position,
                lag_events: watched.lag_events,
                lag_bytes: watched.waiting_bytes,
                bytes_out: watched.bytes_out,
                is_blocked: watched.is_blocked,
            });
        }
        reports
    }
}
