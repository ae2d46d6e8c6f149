//! What is due to a shard's clients: heartbeats, deadlines, the end of their tokens, goodbye.

use std::sync::Arc;
use std::time::Duration;

use crate::access::admission::TurnAway;
use crate::access::rights::Permit;
use crate::close::CloseReason;
use crate::delivery::keys::WatcherKey;
use crate::net::shard::clients::{Clients, context_of};
use crate::net::shard::connection::{Connection, Phase};
use crate::net::shard::live_config::LiveConfig;
use crate::net::shard::sockets::Sockets;
use crate::session::context::SessionContext;
use crate::session::conversation::Session;
use crate::session::heartbeat;
use crate::session::limits::UNSENT_ANSWERS_MAX;
use crate::tick::{Tick, ticks};
use crate::wire::http::Refusal;
use crate::wire::request_for_log::Asked;

/// Entries in the wheel beyond four a connection before outdated ones are looked for.
const WHEEL_SPARE: usize = 4096;

impl Clients {
    pub fn handle_deadlines(&mut self) {
        let mut due = std::mem::take(&mut self.due);
        self.wheel.advance(self.moment.tick(), &mut due);
        for (slot, deadline) in due.drain(..) {
            let Some(key) = self.watchers.watchers.key_at(slot) else {
                continue;
            };
            if self.connections.at(key).due == deadline {
                self.handle_due(key);
            } else if !self.end_expired(key) {
                // It may have been the entry of a token, before a clock was put back.
                self.note_expiry(key);
            }
        }
        self.due = due;
        self.forget_deadlines();
        self.review_slow_consumers();
    }

    /// Forgets the deadlines of connections that have gone, once they are most of all: a heartbeat may be a day away.
    fn forget_deadlines(&mut self) {
        if self.wheel.len() <= WHEEL_SPARE + 4 * self.watchers.watchers.len() {
            return;
        }
        let connections = &self.connections;
        self.wheel.retain(|slot, due| {
            connections
                .by_index(slot.index())
                .is_some_and(|connection| connection.due == due || connection.may_expire())
        });
    }

    /// A connection's deadline has come.
    pub(super) fn handle_due(&mut self, key: WatcherKey) {
        match self.connections.at(key).phase {
            Phase::Shaking => self.break_tls(key, "the handshake of TLS took longer than handshake_seconds"),
            Phase::Head(ref mut held) => {
                let head = std::mem::take(held);
                let turn_away = self.connections.at(key).turn_away;
                let refusal = turn_away.map_or_else(Refusal::timeout, TurnAway::refusal);
                self.refuse(key, &refusal, Asked::in_part_of(head.bytes()));
            }
            Phase::Open(_) => self.beat(key),
            Phase::Publishing(_) => self.check_body(key),
            Phase::Asking(_) => {
                self.refuse(key, &Refusal::full("the answer could not be made in time"), None);
            }
            // This deadline was the request's, and that came in time.
            Phase::Answering { .. } => {}
            // There is no request to answer.
            Phase::Idle => self.end(key),
            Phase::Closing => self.drop_connection(key),
        }
    }

    /// Schedules the moment when a connection's token expires, if that comes before its next heartbeat. The wall clock may
    /// be set at any time, so this is computed again with each heartbeat. The entry is beside the one for `due`.
    pub(super) fn note_expiry(&mut self, key: WatcherKey) {
        let Some(expires_at) = self.permit(key).and_then(Permit::expires_at) else {
            return;
        };
        let left = expires_at.saturating_sub(self.moment.now.unix_micros).max(0) as u64;
        // Two ticks more: this one has begun already, and the last of the span is not a whole one.
        let left = ticks(Duration::from_micros(left)).saturating_add(2);
        if left <= self.environment.live_config.limits.heartbeat {
            self.wheel.schedule(key.slot, self.moment.tick().wrapping_add(left));
        }
    }

    /// What the client of an open connection may do.
    fn permit(&self, key: WatcherKey) -> Option<&Permit> {
        match self.connections.get(key) {
            Some(Connection { phase: Phase::Open(session), .. }) => Some(session.permit()),
            _ => None,
        }
    }

    /// Ends a connection whose token has expired. False: it has not.
    pub(super) fn end_expired(&mut self, key: WatcherKey) -> bool {
        let now = self.moment.now.unix_micros;
        let is_expired = self.permit(key).is_some_and(|permit| permit.is_expired(now));
        if is_expired {
            self.close(key, CloseReason::Expired);
        }
        is_expired
    }

    /// Takes over new settings, and ends every connection that they would not let in. Shorter times hold at once.
    pub(super) fn renew(&mut self, live_config: Arc<LiveConfig>) {
        self.environment.live_config = live_config.clone();
        for key in self.keys() {
            if self.permit(key).is_some_and(|permit| !live_config.auth.upholds(permit)) {
                self.close(key, CloseReason::Revoked);
                continue;
            }
            match self.connections.at(key).phase {
                Phase::Shaking | Phase::Head(_) | Phase::Idle => {
                    self.hasten(key, live_config.limits.handshake)
                }
                Phase::Open(_) => {
                    let interval = live_config.limits.heartbeat;
                    if self.ticks_left(key) > interval {
                        let first = self.heartbeats.first(interval);
                        self.hasten(key, first);
                    }
                }
                Phase::Publishing(_) => self.refuse_revoked(key),
                Phase::Asking(_) | Phase::Answering { .. } | Phase::Closing => {}
            }
        }
    }

    /// Ticks until a connection's deadline.
    fn ticks_left(&mut self, key: WatcherKey) -> Tick {
        let due = self.connections.at(key).due;
        (due.wrapping_sub(self.moment.tick()) as i32).max(0) as Tick
    }

    /// Brings a connection's deadline forward: it has at most `span` from now on.
    fn hasten(&mut self, key: WatcherKey, span: Tick) {
        if self.ticks_left(key) > span {
            self.schedule(key, self.moment.tick().wrapping_add(span));
        }
    }

    /// Sets a connection's deadline.
    pub(super) fn schedule(&mut self, key: WatcherKey, due: Tick) {
        self.connections.at(key).due = due;
        self.wheel.schedule(key.slot, due);
    }

    /// A heartbeat is due: ends a client that is silent, or sends it its position.
    fn beat(&mut self, key: WatcherKey) {
        if self.end_expired(key) {
            return;
        }
        let (silent_max, interval, tick) = (
            self.environment.live_config.limits.silent_heartbeats,
            self.environment.live_config.limits.heartbeat,
            self.moment.tick(),
        );
        let connection = self.connections.at(key);
        let is_plain = matches!(&connection.phase, Phase::Open(session) if session.is_plain());
        if connection.silence.is_too_long(silent_max) && !is_plain {
            return self.close(key, CloseReason::Silent);
        }
        let due = heartbeat::next(connection.due, interval, tick);
        connection.due = due;
        self.wheel.schedule(key.slot, due);
        self.note_expiry(key);
        if self.watchers.watchers[key].waiting() > UNSENT_ANSWERS_MAX {
            return;
        }
        self.counters().heartbeats.add(1);
        self.with_session(key, |session, context| session.beat(context));
    }

    /// Tells a watcher whether the shared stream is away. One that does not read hears of it no more than of heartbeats.
    pub(super) fn tell_standing(&mut self, key: WatcherKey) {
        let is_open = matches!(self.connections.get(key), Some(Connection { phase: Phase::Open(_), .. }));
        if is_open && self.watchers.watchers[key].waiting() <= UNSENT_ANSWERS_MAX {
            let is_away = self.is_stream_away;
            self.with_session(key, |session, context| session.tell_standing(is_away, context));
        }
    }

    /// Lets an open connection's session do something of its own.
    fn with_session(
        &mut self,
        key: WatcherKey,
        act: impl FnOnce(&Session, &mut SessionContext<'_, Sockets>),
    ) {
        if let Some(Connection { phase: Phase::Open(session), .. }) = self.connections.get(key) {
            let mut context =
                context_of(key, &mut self.watchers, &mut self.sockets, &self.environment, self.moment);
            act(session, &mut context);
        }
    }

    /// Says goodbye to everybody; each is asked to reconnect after its number of milliseconds.
    pub fn say_goodbye(&mut self, mut retries: impl Iterator<Item = u64>) {
        for key in self.keys() {
            if self.offer(key).is_of_operators() {
                // They are answered for as long as a shard is there to answer.
                continue;
            }
            match self.connections.at(key).phase {
                Phase::Open(_) => {
                    let retry = retries.next().unwrap_or(0);
                    self.with_session(key, |session, context| session.say_goodbye(retry, context));
                    self.close(key, CloseReason::Drain);
                }
                Phase::Head(ref mut held) => {
                    let head = std::mem::take(held);
                    self.refuse(key, &Refusal::draining(), Asked::in_part_of(head.bytes()));
                }
                Phase::Asking(_) | Phase::Publishing(_) => self.refuse(key, &Refusal::draining(), None),
                // It has its answer, and the end of the connection is waited for by nobody.
                Phase::Idle => {
                    let _ = self.sockets.shut(key);
                    self.drop_connection(key);
                }
                // Its request will be refused, if it comes soon.
                Phase::Shaking => self.hasten(key, self.handshake_ticks()),
                Phase::Answering { .. } | Phase::Closing => {}
            }
        }
        // There may be no further turn.
        self.watchers.flush(&mut self.sockets);
    }
}
