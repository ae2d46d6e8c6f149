//! Before the request, where TLS is spoken: the handshake, and clients that fail at it.

use crate::delivery::keys::WatcherKey;
use crate::net::shard::clients::Clients;
use crate::net::shard::connection::Phase;
use crate::wire::head_buffer::HeadBuffer;
use crate::wire::http::Refusal;

impl Clients {
    /// A part of the handshake has come. Once that is done, the request has a time of its own.
    pub(super) fn handle_handshake(&mut self, key: WatcherKey, bytes: &mut [u8]) {
        if self.sockets.is_shaking_hands(key) {
            return;
        }
        self.counters().tls_handshakes.add(1);
        self.connections.at(key).phase = Phase::Head(HeadBuffer::default());
        self.await_head(key);
        if !bytes.is_empty() {
            self.handle_bytes(key, bytes);
        }
    }

    /// A client speaks plain HTTP where TLS is spoken: it is refused in plain HTTP.
    pub(super) fn refuse_plain(&mut self, key: WatcherKey) {
        self.sockets.speak_plainly(key);
        let message = "this port speaks TLS: use wss:// in place of ws://, https:// in place of http://";
        self.refuse(key, &Refusal::bad_request(message), None);
    }

    /// TLS has failed. The alert is on its way, if there is one; nothing else can be sent.
    pub(super) fn break_tls(&mut self, key: WatcherKey, fault: &str) {
        match self.connections.at(key).phase {
            Phase::Shaking => {
                self.counters().refusals[Refusal::place("tls")].add(1);
                if let Some(unlogged) =
                    self.environment.admission.note_refusal((0, "tls"), self.moment.now.millis)
                {
                    let address = self.connections.at(key).address();
                    tracing::info!(%address, code = "tls", unlogged, "refused a client: {fault}");
                }
                self.sockets.silence(key);
                self.end(key);
            }
            Phase::Head(_)
            | Phase::Idle
            | Phase::Open(_)
            | Phase::Asking(_)
            | Phase::Publishing(_)
            | Phase::Answering { .. }
            | Phase::Closing => {
                tracing::debug!(address = %self.connections.at(key).address(), "TLS broke: {fault}");
                self.drop_connection(key);
            }
        }
    }
}
