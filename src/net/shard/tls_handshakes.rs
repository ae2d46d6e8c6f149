//! What goes before the request where TLS is spoken: its handshake, those that come to nothing, and sockets that have
//! records of TLS left to send.

use crate::delivery::keys::WatcherKey;
use crate::net::shard::Shard;
use crate::net::shard::connection::{Phase, Sides};
use crate::wire::http::Refusal;

impl Shard {
    /// A part of the handshake has come. Once it is done, the request has its own time.
    pub(super) fn handle_handshake(&mut self, key: WatcherKey, bytes: &mut [u8]) {
        if self.sockets.is_shaking_hands(key) {
            return;
        }
        self.counters().tls_handshakes.add(1);
        let due = self.moment.tick().wrapping_add(self.parts.live_config.limits.handshake);
        let connection = self.connection(key);
        let before = std::mem::replace(&mut connection.phase, Phase::Head(Vec::new()));
        connection.due = due;
        self.wheel.schedule(key.slot, due);
        match before {
            Phase::Shaking(Some(turn_away)) => self.refuse(key, &turn_away.refusal(), None),
            _ if bytes.is_empty() => {}
            _ => self.handle_bytes(key, bytes),
        }
    }

    /// Somebody speaks plain HTTP here and can be told so.
    pub(super) fn refuse_plain(&mut self, key: WatcherKey) {
        self.sockets.speak_plainly(key);
        let message = "this port speaks TLS: use wss:// in place of ws://, https:// in place of http://";
        self.refuse(key, &Refusal::bad_request(message), None);
    }

    /// The alert is on its way, if there is one; nothing else can be said.
    pub(super) fn break_tls(&mut self, key: WatcherKey, fault: &str) {
        match self.connection(key).phase {
            Phase::Shaking(_) => {
                self.counters().refusals[Refusal::place("tls")].add(1);
                if let Some(unlogged) = self.parts.admission.note_refusal((0, "tls"), self.moment.now.millis)
                {
                    let address = self.connection(key).address();
                    tracing::info!(%address, code = "tls", unlogged, "refused a client: {fault}");
                }
                self.sockets.silence(key);
                self.end(key);
            }
            Phase::Head(_)
            | Phase::Idle
            | Phase::Open(_)
            | Phase::Asking { .. }
            | Phase::Answering { .. }
            | Phase::Closing => {
                tracing::debug!(address = %self.connection(key).address(), "TLS broke: {fault}");
                self.drop_connection(key);
            }
        }
    }

    /// The socket has room again.
    pub(super) fn handle_writable(&mut self, key: WatcherKey) {
        if !self.sockets.push(key) {
            return;
        }
        self.watchers.handle_writable(key);
        if self.watchers.is_ended(key) {
            self.shut(key);
        }
    }

    /// The last bytes of a connection have been handed over: shuts the write side behind them. That is the end of a
    /// peer that has shut its own.
    pub(super) fn shut(&mut self, key: WatcherKey) {
        if self.connection(key).sides == Sides::OursShut {
            return;
        }
        if let Phase::Answering { .. } = self.connection(key).phase {
            self.linger(key);
        }
        match self.sockets.shut(key) {
            Ok(false) => {}
            Ok(true) if self.connection(key).sides == Sides::Open => {
                self.connection(key).sides = Sides::OursShut;
            }
            Ok(true) | Err(_) => self.drop_connection(key),
        }
    }
}
