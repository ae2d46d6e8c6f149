//! Reading from clients: a portion at a time, handed to the handshake, the request or the session.

use std::io::ErrorKind;

use arrayvec::ArrayVec;

use crate::close::CloseReason;
use crate::delivery::keys::WatcherKey;
use crate::metrics::{CLOSED_BY_CLIENT, LOST};
use crate::net::shard::clients::{Clients, context_of};
use crate::net::shard::connection::{Phase, Sides};
use crate::net::shard::transport::Incoming;
use crate::session::context::Verdict;
use crate::session::limits::{IS_ECHO, UNSENT_ANSWERS_MAX};
use crate::wire::frame;
use crate::wire::message_reader::{Flow, Message};

/// Parts of TLS handshakes in one turn: each may cost as much as ten thousand deliveries, and connected clients keep
/// their latency.
const HANDSHAKES_PER_TURN: u32 = 8;

/// What the bytes of one read led to.
enum Outcome {
    Continue,
    Close(CloseReason),
    Echo(Option<u16>),
}

impl Clients {
    /// Something came, or the peer has gone: a portion is read in this turn.
    pub(super) fn handle_readable(&mut self, key: WatcherKey) {
        self.reads.add(key, self.connections.at(key));
    }

    /// Reads what came before the connection was accepted.
    pub(super) fn read_first(&mut self, key: WatcherKey) {
        let mut scratch = std::mem::take(&mut self.reads.scratch);
        self.read(key, &mut scratch);
        self.reads.scratch = scratch;
    }

    /// Reads a portion from each connection that has more.
    pub(super) fn read_on(&mut self) {
        let mut scratch = std::mem::take(&mut self.reads.scratch);
        let mut handshakes = 0;
        for _ in 0..self.reads.unread.len() {
            let Some(key) = self.reads.unread.pop_front() else {
                break;
            };
            if !self.is_there(key) {
                continue;
            }
            let connection = self.connections.at(key);
            if let Phase::Shaking = connection.phase {
                handshakes += 1;
                if handshakes > HANDSHAKES_PER_TURN {
                    self.reads.unread.push_back(key);
                    continue;
                }
            }
            if std::mem::take(&mut connection.has_more) {
                self.read(key, &mut scratch);
            }
        }
        self.reads.scratch = scratch;
    }

    fn read(&mut self, key: WatcherKey, scratch: &mut [u8]) {
        if self.watchers.watchers[key].waiting() > UNSENT_ANSWERS_MAX {
            self.reads.muted.push(key);
            return;
        }
        if !self.has_room_or_waits(key) {
            return;
        }
        let bytes_max = scratch.len().min(self.watchers.read_bytes_max(key));
        match self.sockets.read(key, &mut scratch[..bytes_max]) {
            Ok(Incoming::Bytes { count, is_full }) => {
                let connection = self.connections.at(key);
                connection.silence.end();
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

    /// The peer has ended its side. That ends a WebSocket, and a request that is not whole. A client that has asked
    /// something and shuts only its own side still gets the answer.
    fn handle_end(&mut self, key: WatcherKey) {
        let connection = self.connections.at(key);
        match (&connection.phase, connection.sides) {
            // What is missing of its body will never come.
            (Phase::Publishing(publishing), _) if !publishing.is_whole() => self.drop_connection(key),
            (
                Phase::Publishing(_) | Phase::Asking(_) | Phase::Answering { .. } | Phase::Closing,
                Sides::Open | Sides::TheirsShut,
            ) => {
                connection.sides = Sides::TheirsShut;
            }
            // It has all that it asked for. TLS has a closing alert of its own.
            (Phase::Idle, Sides::Open) => {
                connection.sides = Sides::TheirsShut;
                self.end(key);
            }
            // It is told that there was no room, whatever it would have asked.
            (Phase::Head(_), Sides::Open) if connection.turn_away.is_some() => {
                connection.sides = Sides::TheirsShut;
                self.handle_due(key);
            }
            _ => self.drop_connection(key),
        }
    }

    /// How a connection has ended without a goodbye. A client of a stream over plain HTTP has no other way.
    pub(super) fn manner_of_end(&self, key: WatcherKey) -> usize {
        let phase = self.connections.get(key).map(|connection| &connection.phase);
        let is_plain = matches!(phase, Some(Phase::Open(session)) if session.is_plain());
        match is_plain && !self.sockets.has_failed(key) {
            true => CLOSED_BY_CLIENT,
            false => LOST,
        }
    }

    pub(super) fn handle_bytes(&mut self, key: WatcherKey, bytes: &mut [u8]) {
        let bytes_max = self.live_config().limits.pipelined_bytes_max();
        match &mut self.connections.at(key).phase {
            Phase::Shaking => self.handle_handshake(key, bytes),
            Phase::Head(_) => self.handle_head(key, bytes),
            // Records of TLS itself are no request.
            Phase::Idle if bytes.is_empty() => {}
            Phase::Idle => self.handle_next(key, bytes),
            Phase::Open(_) => self.handle_frames(key, bytes),
            Phase::Publishing(_) => self.handle_body(key, bytes),
            phase @ (Phase::Asking(_) | Phase::Answering { .. }) => {
                phase.keep_back(bytes, bytes_max);
            }
            // Bytes after the end are read only so that no reset destroys the answer.
            Phase::Closing => {}
        }
    }

    pub(super) fn handle_frames(&mut self, key: WatcherKey, bytes: &mut [u8]) {
        let connection = self.connections.at(key);
        let Phase::Open(session) = &mut connection.phase else {
            return;
        };
        if session.is_plain() {
            // Whatever it sends while its answer goes on is not read.
            return;
        }
        let mut context =
            context_of(key, &mut self.watchers, &mut self.sockets, &self.environment, self.moment);
        let mut outcome = Outcome::Continue;
        // Only the newest of many pings is answered (RFC 6455, 5.5.3).
        let mut ping: Option<ArrayVec<u8, 125>> = None;
        let limits = &self.environment.live_config.limits.messages;
        let inflater = session.is_compressed().then_some(&mut self.reads.inflater);
        let read = connection.reader.read(bytes, limits, inflater, &mut |message| {
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

    /// Logs what a client found too big. It will reconnect and meet the same again, and nobody would know why.
    fn log_too_big(&mut self, key: WatcherKey) {
        let code = CloseReason::TooBig.code();
        let Some(unlogged) =
            self.environment.admission.note_refusal((code, "client"), self.moment.now.millis)
        else {
            return;
        };
        let address = self.connections.at(key).address();
        let met = match self.watchers.largest_sent_lately(key) {
            Some(bytes) => format!("the largest one that it was sent lately has {bytes} bytes"),
            None => "it was sent no event".to_owned(),
        };
        tracing::info!(%address, code, unlogged, "a client has ended over a message too big for it: {met}");
    }

    /// Clients that have taken their answers are read from again.
    pub(super) fn unmute(&mut self) {
        let mut muted = std::mem::take(&mut self.reads.muted);
        muted.retain(|&key| {
            let is_there = self.is_there(key);
            if is_there && self.watchers.watchers[key].waiting() <= UNSENT_ANSWERS_MAX {
                self.handle_readable(key);
                return false;
            }
            is_there
        });
        self.reads.muted = muted;
    }
}
