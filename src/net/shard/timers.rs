//! What is due to a shard's connections: heartbeats, the watch over those that lag, goodbye.

use std::sync::Arc;
use std::time::Duration;

use crate::access::rights::Permit;
use crate::close::CloseReason;
use crate::delivery::counts::DeliveryCounts;
use crate::delivery::keys::WatcherKey;
use crate::delivery::progress::{Progress, SlowConsumer};
use crate::delivery::watcher::Flags;
use crate::metrics::Counter;
use crate::net::shard::connection::{Connection, Phase};
use crate::net::shard::live_config::LiveConfig;
use crate::net::shard::send_queue::unacknowledged;
use crate::net::shard::sockets::Sockets;
use crate::net::shard::{Shard, context_of};
use crate::session::context::SessionContext;
use crate::session::conversation::Session;
use crate::session::limits::UNSENT_ANSWERS_MAX;
use crate::tick::is_reached;
use crate::tick::ticks;
use crate::wire::asked::Asked;
use crate::wire::http::Refusal;

/// The least and the usual greatest wait before reconnecting after a drain, in milliseconds.
const RETRY_MILLIS_MIN: u64 = 500;
const RETRY_MILLIS_SPREAD_MIN: u64 = 4_500;

/// At the end of the daemon, operators who have asked have so long to take the answer.
const OPERATORS_GOODBYE: Duration = Duration::from_millis(100);

/// Between two looks at newcomers that lag.
const PROBE_MILLIS: u64 = 50;

impl Shard {
    /// After a flush: sockets that broke, connections whose last bytes have gone out, clients that take their
    /// answers again, watchers whose sockets are full.
    pub(super) fn look_after(&mut self) {
        while let Some(key) = self.watchers.gone.pop() {
            if !self.is_there(key) {
                continue;
            }
            match self.watchers.is_ended(key) {
                true => self.finish(key),
                false => self.drop_connection(key),
            }
        }
        if !self.muted.is_empty() {
            self.unmute();
        }
        while let Some(key) = self.watchers.blocked.pop() {
            if !self.is_there(key) {
                continue;
            }
            let taken = self.taken(key);
            let has_read = self.watchers.watchers[key].is(Flags::READS);
            self.laggards.push(SlowConsumer::new(key, taken, self.moment.now.millis, has_read));
            if self.laggards.len() == 1 {
                self.review_at = self.moment.now.millis + self.parts.live_config.patience.check_millis;
            }
        }
        self.note_figures();
    }

    /// What the watchers counted in this turn.
    fn note_figures(&mut self) {
        let oldest_read = self.watchers.counts.oldest_read;
        let fresh = DeliveryCounts { oldest_read, ..DeliveryCounts::default() };
        let DeliveryCounts { messages, sent_bytes, gaps, received, .. } =
            std::mem::replace(&mut self.watchers.counts, fresh);
        let lagging = self.laggards.len() as u64;
        let counters = self.counters();
        counters.messages.add(messages);
        counters.sent_bytes.add(sent_bytes);
        add_each(&counters.gaps, &gaps);
        add_each(&counters.received, &received);
        counters.lagging.set(lagging);
        if lagging == 0 {
            counters.lag_events_max.set(0);
        }
    }

    /// Clients that have taken their answers are read from again.
    fn unmute(&mut self) {
        let mut muted = std::mem::take(&mut self.muted);
        muted.retain(|&key| {
            let is_there = self.is_there(key);
            if is_there && self.watchers.watchers[key].waiting() <= UNSENT_ANSWERS_MAX {
                self.handle_readable(key);
                return false;
            }
            is_there
        });
        self.muted = muted;
    }

    /// Bytes that the peer has acknowledged.
    fn taken(&mut self, key: WatcherKey) -> u64 {
        let watcher = &self.watchers.watchers[key];
        let out = self.sockets.sealed_bytes_out(key).unwrap_or(watcher.bytes_out);
        let unacknowledged = self.sockets.get(key).and_then(|socket| unacknowledged(&*socket).ok());
        out.saturating_sub(u64::from(unacknowledged.unwrap_or(0)))
    }

    /// Looks whether newcomers among those who lag have read by now, more often than at the others: publishers wait for
    /// them on credit.
    pub(super) fn probe_newcomers(&mut self) {
        let now = self.moment.now.millis;
        if now < self.probe_at || self.laggards.iter().all(SlowConsumer::has_read) {
            return;
        }
        self.probe_at = now + PROBE_MILLIS;
        let mut laggards = std::mem::take(&mut self.laggards);
        for laggard in laggards.iter_mut().filter(|laggard| !laggard.has_read()) {
            if self.is_there(laggard.key) {
                laggard.probe(self.taken(laggard.key), now);
            }
            if laggard.has_read() {
                self.watchers.watchers[laggard.key].set(Flags::READS);
            }
        }
        self.laggards = laggards;
    }

    /// Looks at the progress of everybody who lags.
    pub(super) fn review_laggards(&mut self) {
        let now = self.moment.now.millis;
        if self.laggards.is_empty() || now < self.review_at {
            return;
        }
        self.review_at = now + self.parts.live_config.patience.check_millis;
        let mut laggards = std::mem::take(&mut self.laggards);
        let mut stalled = Vec::new();
        laggards.retain_mut(|laggard| {
            let key = laggard.key;
            if !self.watchers.stays_reviewed(key) {
                return false;
            }
            match laggard.check(self.taken(key), now, self.parts.live_config.patience) {
                Progress::Reads => self.connection(key).is_heard = true,
                Progress::Pauses => {}
                Progress::Stalled if self.watchers.is_blocked(key) => stalled.push(key),
                Progress::Stalled => {}
            }
            true
        });
        let tail = self.watchers.tail();
        let lags = laggards.iter().map(|laggard| tail.saturating_sub(self.watchers.position(laggard.key)));
        self.counters().lag_events_max.set(lags.max().unwrap_or(0));
        self.laggards = laggards;
        for key in stalled {
            self.reset(key, CloseReason::Stalled);
        }
    }

    /// A connection's deadline has come.
    pub(super) fn handle_due(&mut self, key: WatcherKey) {
        match self.connection(key).phase {
            Phase::Shaking(_) => {
                self.break_tls(key, "the handshake of TLS took longer than handshake_seconds")
            }
            Phase::Head(ref mut held) => {
                let head = std::mem::take(held);
                self.refuse(key, &Refusal::timeout(), Asked::in_part_of(&head));
            }
            Phase::Open(_) => self.beat(key),
            Phase::Asking { .. } => {
                self.refuse(key, &Refusal::full("the answer could not be made in time"), None);
            }
            // Of the request; it was kept.
            Phase::Answering { .. } => {}
            // Nothing was asked that could be answered.
            Phase::Idle => self.end(key),
            Phase::Closing => self.drop_connection(key),
        }
    }

    /// Has the wheel tell of the moment when a connection's token expires, if that comes before its next heartbeat.
    /// The wall clock may be set at any time: what it says is looked at again with each heartbeat, and the entry comes
    /// beside the one that `due` names, which keeps its time.
    pub(super) fn note_expiry(&mut self, key: WatcherKey) {
        let Some(expires_at) = self.permit(key).and_then(Permit::expires_at) else {
            return;
        };
        let left = expires_at.saturating_sub(self.moment.now.unix_micros).max(0) as u64;
        // Two ticks more: this one has begun already, and the last of the span is not a whole one.
        let left = ticks(Duration::from_micros(left)).saturating_add(2);
        if left <= self.parts.live_config.limits.heartbeat {
            self.wheel.schedule(key.slot, self.moment.tick().wrapping_add(left));
        }
    }

    /// All connections there are now.
    fn keys(&self) -> Vec<WatcherKey> {
        self.watchers.watchers.iter().map(|(key, _)| key).collect()
    }

    /// What an open connection may do.
    fn permit(&self, key: WatcherKey) -> Option<&Permit> {
        match &self.connections[key.index()] {
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

    /// Judges by these live_config from now on, and ends every connection that they would not let in as it is.
    pub(super) fn renew(&mut self, live_config: Arc<LiveConfig>) {
        self.parts.live_config = live_config.clone();
        for key in self.keys() {
            if self.permit(key).is_some_and(|permit| !live_config.auth.upholds(permit)) {
                self.close(key, CloseReason::Revoked);
            }
        }
    }

    /// A heartbeat: judges the silence, then says where the connection stands.
    fn beat(&mut self, key: WatcherKey) {
        if self.end_expired(key) {
            return;
        }
        let (silent_max, heartbeat, tick) = (
            self.parts.live_config.limits.silent_heartbeats,
            self.parts.live_config.limits.heartbeat,
            self.moment.tick(),
        );
        let connection = self.connection(key);
        connection.silent = if std::mem::take(&mut connection.is_heard) { 0 } else { connection.silent + 1 };
        if connection.silent >= silent_max {
            return self.close(key, CloseReason::Silent);
        }
        // The beat keeps its place in the interval, unless it comes very late.
        let next = connection.due.wrapping_add(heartbeat);
        let due = if is_reached(next, tick) { tick.wrapping_add(heartbeat) } else { next };
        connection.due = due;
        self.wheel.schedule(key.slot, due);
        self.note_expiry(key);
        if self.watchers.watchers[key].waiting() > UNSENT_ANSWERS_MAX {
            return;
        }
        self.counters().heartbeats.add(1);
        self.with_session(key, |session, context| session.beat(context));
    }

    /// Lets an open connection's session do something of its own.
    fn with_session(
        &mut self,
        key: WatcherKey,
        act: impl FnOnce(&Session, &mut SessionContext<'_, Sockets>),
    ) {
        if let Some(Connection { phase: Phase::Open(session), .. }) = &self.connections[key.index()] {
            let mut context =
                context_of(key, &mut self.watchers, &mut self.sockets, &self.parts.live_config, self.moment);
            act(session, &mut context);
        }
    }

    /// While draining: says goodbye to everybody once all is served, or the time for that is over.
    pub(super) fn say_goodbye(&mut self) {
        let Some(drain) = &mut self.drain else { return };
        let is_time = self.moment.instant >= drain.serve_until;
        if drain.has_said_goodbye || (!is_time && !self.watchers.is_served(&mut self.sockets)) {
            return;
        }
        drain.has_said_goodbye = true;
        drain.operators_until = drain.end_at.min(self.moment.instant + OPERATORS_GOODBYE);
        let spread = RETRY_MILLIS_SPREAD_MIN.max(drain.connections as u64 / 2);
        let (of, connections) = (drain.of as u64, drain.connections.max(1) as u64);
        let mut order = self.parts.index as u64;
        for key in self.keys() {
            if self.offer(key).is_of_operators() {
                // They are told how things stand for as long as there is somebody who can.
                continue;
            }
            match self.connection(key).phase {
                Phase::Open(_) => {
                    let retry = RETRY_MILLIS_MIN + spread * (order % connections) / connections;
                    order += of;
                    self.with_session(key, |session, context| session.say_goodbye(retry, context));
                    self.close(key, CloseReason::Drain);
                }
                Phase::Head(_) | Phase::Asking { .. } => self.refuse(key, &Refusal::draining(), None),
                Phase::Idle => self.end(key),
                // Its request will be refused.
                Phase::Shaking(_) | Phase::Answering { .. } | Phase::Closing => {}
            }
        }
        // There may be no further turn.
        self.watchers.flush(&mut self.sockets);
    }

    /// Everybody has left, the other shards' connections too, or the time is up. Until then somebody has to accept
    /// those who come and to tell them why they cannot stay.
    pub(super) fn has_drained(&self) -> bool {
        let now = self.moment.instant;
        self.drain.as_ref().is_some_and(|drain| {
            let is_empty = || {
                self.parts.admission.connections() == 0
                    && (now >= drain.operators_until || !self.operators.is_any_served())
            };
            drain.has_said_goodbye && (now >= drain.end_at || is_empty())
        })
    }
}

fn add_each(counters: &[Counter], counts: &[u64]) {
    counters.iter().zip(counts).filter(|(_, more)| **more > 0).for_each(|(counter, more)| counter.add(*more));
}
