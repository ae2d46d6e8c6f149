//! What a shard's connections bring: adopted, read, ended. Their requests are in `requests`, what is due to them in
//! `upkeep`.

use std::io::ErrorKind;
use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arrayvec::ArrayVec;
use mio::net::TcpStream;
use mio::{Interest, Token};
use socket2::SockRef;

use crate::access::admission::{Counted, NewConnection, TurnAway};
use crate::close::CloseReason;
use crate::delivery::keys::WatcherKey;
use crate::metrics::{CLOSED_BY_CLIENT, LOST};
use crate::net::shard::connection::{Connection, Phase, Sides};
use crate::net::shard::transport::Incoming;
use crate::net::shard::{Shard, context_of};
use crate::session::context::Verdict;
use crate::session::endpoint::Offer;
use crate::session::limits::IS_ECHO;
use crate::session::limits::UNSENT_ANSWERS_MAX;
use crate::tick::ticks;
use crate::wire::frame;
use crate::wire::message::{Flow, Message};

/// How long a connection that was told to end may take to read that.
const LINGER: Duration = Duration::from_secs(5);
/// Parts of TLS handshakes in one turn: each may cost as much as ten thousand deliveries, and connected clients keep
/// their latency.
const HANDSHAKES_PER_TURN: u32 = 8;

fn token_of(key: WatcherKey) -> Token {
    Token(key.to_bits() as usize)
}

/// What the bytes of one read led to.
enum Outcome {
    Continue,
    Close(CloseReason),
    Echo(Option<u16>),
}

impl Shard {
    /// Takes in a new connection: reads what has come, which is most often the whole request, and only then has the
    /// socket watched. An emptied socket that is not watched for room is no event.
    pub(super) fn accept_connection(&mut self, socket: TcpStream, guest: NewConnection) {
        let is_of_operator = guest.counted == Counted::AsOperator;
        if !is_of_operator {
            self.counters().accepted.add(1);
        }
        if let (Counted::Not, Some(turn_away)) = (guest.counted, guest.turn_away) {
            return self.turn_off(&socket, guest.address, turn_away);
        }
        let key = self.watchers.add();
        if self.connections.len() <= key.index() {
            self.connections.resize_with(key.index() + 1, || None);
        }
        let now = self.moment.tick();
        let due = now.wrapping_add(self.parts.live_config.limits.handshake);
        // Operators are spoken to plainly.
        let tls = self.parts.live_config.tls.as_ref().filter(|_| !is_of_operator);
        let speaks_tls = tls.is_some();
        let phase = match tls {
            Some(_) => Phase::Shaking(guest.turn_away),
            None => Phase::Head(Vec::new()),
        };
        self.connections[key.index()] = Some(Connection::new(guest, now, phase, due));
        self.sockets.insert(key, socket, tls);
        if is_of_operator && let Some(gone) = self.operators.enter(key) {
            self.drop_connection(gone);
        }
        match guest.turn_away {
            // A handshake costs much: it waits for its turn.
            _ if speaks_tls => self.handle_readable(key),
            None => self.read_first(key),
            Some(turn_away) => self.refuse(key, &turn_away.refusal(), None),
        }
        let Some(socket) = self.sockets.get(key) else {
            return;
        };
        if let Some(Connection { phase: Phase::Shaking(_) | Phase::Head(_), .. }) =
            self.connections[key.index()]
        {
            self.wheel.schedule(key.slot, due);
        }
        let interest = Interest::READABLE | Interest::PRIORITY;
        if let Err(error) = self.parts.poll.registry().register(socket, token_of(key), interest) {
            tracing::warn!("cannot watch a new connection's socket: {error}");
            self.drop_connection(key);
        }
    }

    /// Resets a socket that there is no place to refuse from.
    fn turn_off(&mut self, socket: &TcpStream, address: IpAddr, turn_away: TurnAway) {
        self.note_refusal(Offer::Watchers, address, &turn_away.refusal(), None);
        // Otherwise the kernel would go through the whole of an ordinary end (RFC 9293, 3.6).
        let _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
    }

    /// Has the sockets that were found full watched for room as well, from now on: few ever are, and each interest
    /// is an event. Room that has come meanwhile is told of at once (epoll_ctl(2)).
    pub(super) fn await_room(&mut self) {
        let full = std::mem::take(&mut self.sockets.full);
        for &key in self.watchers.blocked.iter().chain(&full) {
            if !self.watchers.watchers.contains(key) {
                continue;
            }
            let connection = self.connections[key.index()].as_mut().expect("each watcher has a connection");
            let Some(socket) = self.sockets.get(key) else {
                continue;
            };
            if !connection.awaits_room {
                connection.awaits_room = true;
                let interest = Interest::READABLE | Interest::PRIORITY | Interest::WRITABLE;
                let token = token_of(key);
                let watched = self.parts.poll.registry().reregister(socket, token, interest);
                watched.expect("a socket that is watched can be watched for more");
            }
        }
    }

    /// False: the connection has gone, and its slot may be another's.
    pub(super) fn is_there(&self, key: WatcherKey) -> bool {
        self.watchers.watchers.contains(key)
    }

    pub(super) fn connection(&mut self, key: WatcherKey) -> &mut Connection {
        self.connections[key.index()].as_mut().expect("the key is that of a connection")
    }

    /// Something came, or the peer is gone: reads a portion.
    pub(super) fn handle_readable(&mut self, key: WatcherKey) {
        let connection = self.connection(key);
        if !connection.has_more {
            connection.has_more = true;
            self.unread.push_back(key);
        }
    }

    /// Reads what came before the connection was accepted.
    fn read_first(&mut self, key: WatcherKey) {
        let mut scratch = std::mem::take(&mut self.scratch);
        self.read(key, &mut scratch);
        self.scratch = scratch;
    }

    /// Reads on from everybody who has more, a portion each.
    pub(super) fn read_on(&mut self) {
        let mut scratch = std::mem::take(&mut self.scratch);
        let mut handshakes = 0;
        for _ in 0..self.unread.len() {
            let Some(key) = self.unread.pop_front() else {
                break;
            };
            if !self.is_there(key) {
                continue;
            }
            let connection = self.connection(key);
            if let Phase::Shaking(_) = connection.phase {
                handshakes += 1;
                if handshakes > HANDSHAKES_PER_TURN {
                    self.unread.push_back(key);
                    continue;
                }
            }
            if std::mem::take(&mut connection.has_more) {
                self.read(key, &mut scratch);
            }
        }
        self.scratch = scratch;
    }

    fn read(&mut self, key: WatcherKey, scratch: &mut [u8]) {
        if self.watchers.watchers[key].waiting() > UNSENT_ANSWERS_MAX {
            self.muted.push(key);
            return;
        }
        let bytes_max = scratch.len().min(self.watchers.read_bytes_max(key));
        match self.sockets.read(key, &mut scratch[..bytes_max]) {
            Ok(Incoming::Bytes { count, is_full }) => {
                let connection = self.connection(key);
                connection.is_heard = true;
                // A read that could have taken more has emptied the socket, and what comes later is an edge of its
                // own (epoll(7)).
                let has_more = is_full || connection.reads_to_end;
                self.handle_bytes(key, &mut scratch[..count]);
                if has_more && self.is_there(key) {
                    self.handle_readable(key);
                }
            }
            Ok(Incoming::End) => self.handle_end(key),
            Ok(Incoming::PlainRequest) => self.refuse_plain(key),
            Ok(Incoming::Fault(fault)) => self.break_tls(key, &fault),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => self.handle_readable(key),
            Err(_) => self.drop_connection(key),
        }
    }

    /// The peer says no more. That ends a WebSocket, and a request that is not whole; who has asked something and shuts
    /// only its own side still gets the answer.
    fn handle_end(&mut self, key: WatcherKey) {
        let connection = self.connection(key);
        match (&connection.phase, connection.sides) {
            (
                Phase::Asking { .. } | Phase::Answering { .. } | Phase::Closing,
                Sides::Open | Sides::TheirsShut,
            ) => {
                connection.sides = Sides::TheirsShut;
            }
            // It has all that it asked for, and TLS has its own goodbye.
            (Phase::Idle, Sides::Open) => {
                connection.sides = Sides::TheirsShut;
                self.end(key);
            }
            _ => self.drop_connection(key),
        }
    }

    pub(super) fn handle_bytes(&mut self, key: WatcherKey, bytes: &mut [u8]) {
        let head_bytes_max = self.parts.live_config.limits.head_bytes_max;
        match &mut self.connection(key).phase {
            Phase::Shaking(_) => self.handle_handshake(key, bytes),
            Phase::Head(_) => self.handle_head(key, bytes),
            // Records of TLS itself begin no request.
            Phase::Idle if bytes.is_empty() => {}
            Phase::Idle => self.handle_next(key, bytes),
            Phase::Open(_) => self.handle_frames(key, bytes),
            phase @ (Phase::Asking { .. } | Phase::Answering { .. }) => {
                phase.keep_back(bytes, head_bytes_max);
            }
            // What comes after the end is read only so that the answer is not lost to a reset.
            Phase::Closing => {}
        }
    }

    pub(super) fn handle_frames(&mut self, key: WatcherKey, bytes: &mut [u8]) {
        let connection = self.connections[key.index()].as_mut().expect("the key is that of a connection");
        let Phase::Open(session) = &mut connection.phase else {
            return;
        };
        let mut context =
            context_of(key, &mut self.watchers, &mut self.sockets, &self.parts.live_config, self.moment);
        let mut outcome = Outcome::Continue;
        // One slot: of many pings the newest is answered (RFC 6455, 5.5.3).
        let mut ping: Option<ArrayVec<u8, 125>> = None;
        let limits = &self.parts.live_config.limits.messages;
        let read = connection.reader.read(bytes, limits, &mut |message| {
            if let Message::Ping(payload) = &message
                && !IS_ECHO
            {
                ping = payload.iter().copied().collect::<ArrayVec<u8, 125>>().into();
            }
            outcome = match session.handle_message(&message, &mut context) {
                Verdict::Continue => return Flow::Continue,
                Verdict::Close(reason) => Outcome::Close(reason),
                Verdict::Echo(code) => Outcome::Echo(code),
            };
            Flow::Stop
        });
        if let Some(payload) = ping {
            self.watchers.enqueue_control(key, |out| frame::write_pong(out, &payload));
        }
        match (read, outcome) {
            (Err(reason), _) | (Ok(()), Outcome::Close(reason)) => self.close(key, reason),
            (Ok(()), Outcome::Echo(code)) => {
                self.note_end(key, CLOSED_BY_CLIENT);
                if code == Some(CloseReason::TooBig.code()) {
                    self.log_too_big(key);
                }
                self.watchers.enqueue_control(key, |out| match code {
                    Some(code) => frame::write_close(out, code, ""),
                    None => frame::write_close_empty(out),
                });
                self.end(key);
            }
            (Ok(()), Outcome::Continue) => {}
        }
    }

    /// Says what a client has found too big: it comes back, meets the same again, and nobody would know why.
    fn log_too_big(&mut self, key: WatcherKey) {
        let code = CloseReason::TooBig.code();
        let Some(unlogged) = self.parts.admission.note_refusal((code, "client"), self.moment.now.millis)
        else {
            return;
        };
        let address = self.connection(key).address();
        let met = match self.watchers.largest_sent_lately(key) {
            Some(bytes) => format!("the largest one that it was sent lately has {bytes} bytes"),
            None => "it was sent no event".to_owned(),
        };
        tracing::info!(%address, code, unlogged, "a client has ended over a message too big for it: {met}");
    }

    /// Counts the end of a connection that is open, once.
    fn note_end(&mut self, key: WatcherKey, reason: usize) {
        let connection = self.connections[key.index()].as_mut().expect("the key is that of a connection");
        if let Phase::Open(session) = &connection.phase {
            let view = session.view();
            connection.phase = Phase::Closing;
            self.counters().ended[view as usize].add(1);
            self.counters().closed[reason].add(1);
        }
    }

    /// Ends a connection with a close frame that says why.
    pub(super) fn close(&mut self, key: WatcherKey, reason: CloseReason) {
        self.note_end(key, reason as usize);
        tracing::debug!(address = %self.connection(key).address(), "closing: {}", reason.text());
        self.watchers.enqueue_control(key, |out| frame::write_close(out, reason.code(), reason.text()));
        self.end(key);
    }

    pub(super) fn end(&mut self, key: WatcherKey) {
        self.watchers.end(key);
        self.linger(key);
    }

    /// The last bytes are handed over, or as good as that: the peer has a moment to read them, and its place is another's.
    pub(super) fn linger(&mut self, key: WatcherKey) {
        let due = self.moment.tick().wrapping_add(ticks(LINGER));
        let connection = self.connections[key.index()].as_mut().expect("the key is that of a connection");
        connection.counted = self.parts.admission.step_aside(connection.counted, connection.address());
        connection.phase = Phase::Closing;
        connection.due = due;
        self.wheel.schedule(key.slot, due);
        self.operators.note_served(key, false);
    }

    /// Ends a connection that takes no bytes at all: a close frame would wait behind its full buffer.
    pub(super) fn reset(&mut self, key: WatcherKey, reason: CloseReason) {
        self.note_end(key, reason as usize);
        tracing::info!(address = %self.connection(key).address(), code = reason.code(), "reset: {}", reason.text());
        if let Some(socket) = self.sockets.get(key) {
            // Without this the kernel would keep the unsent bytes for as long as the peer does not read.
            let _ = SockRef::from(&*socket).set_linger(Some(Duration::ZERO));
        }
        self.drop_connection(key);
    }

    pub(super) fn drop_connection(&mut self, key: WatcherKey) {
        if self.connections[key.index()].is_some() {
            self.note_end(key, LOST);
        }
        let Some(connection) = self.connections[key.index()].take() else {
            return;
        };
        if self.watchers.is_reviewed(key) {
            self.laggards.retain(|laggard| laggard.key != key);
        }
        self.watchers.remove(key);
        drop(self.sockets.remove(key));
        if connection.counted == Counted::AsOperator {
            self.operators.leave(key);
        }
        if self.parts.admission.leave(connection.counted, connection.address()) {
            self.parts.acceptor.wake();
        }
        self.parts.count.fetch_sub(1, Ordering::Relaxed);
    }
}
