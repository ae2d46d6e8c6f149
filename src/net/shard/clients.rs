//! A shard's clients: each connection with its socket and its watcher, from accept to end.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use socket2::SockRef;

use crate::access::admission::{Admission, Counted, NewConnection, TurnAway};
use crate::close::CloseReason;
use crate::delivery::counts::DeliveryCounts;
use crate::delivery::keys::{WatcherKey, WatcherSlot};
use crate::delivery::slow_consumers::SlowConsumers;
use crate::delivery::watchers::Watchers;
use crate::metrics::{Counter, Counters, ShardCounters};
use crate::net::clock::{Clock, Moment};
use crate::net::ingest::handle::IngestWaker;
use crate::net::report::inquiry::Inquiries;
use crate::net::shard::connection::{Connection, Connections, Phase, Sides};
use crate::net::shard::handle::ShardHandle;
use crate::net::shard::live_config::LiveConfig;
use crate::net::shard::reads::Reads;
use crate::net::shard::send_queue::unacknowledged;
use crate::net::shard::sockets::Sockets;
use crate::session::context::SessionContext;
use crate::session::endpoint::Offer;
use crate::session::heartbeat::Spread;
use crate::session::operators::Operators;
use crate::session::timer_wheel::Wheel;
use crate::stream::directory::Directory;
use crate::stream::link::Needs;
use crate::tick::{Tick, ticks};
use crate::wire::frame;
use crate::wire::head_buffer::HeadBuffer;

/// How long a connection that ends may take to read its last bytes.
const LINGER: Duration = Duration::from_secs(5);
/// The same for one that watched nothing while the daemon drains, which nobody is to delay; and how long a handshake of
/// TLS may then take.
const LINGER_IN_DRAIN: Duration = Duration::from_secs(1);
/// How long the request of a client may take for which there is no room. The refusal names the page that may read it, so
/// the request is waited for; but the place is one of few.
const TURNED_AWAY: Duration = Duration::from_secs(1);

/// What a shard's clients share with the rest of the daemon.
pub struct Environment {
    /// Of the shard.
    pub index: usize,
    pub registry: Registry,
    /// For answers that take longer to make than a turn.
    pub inquiries: Inquiries,
    pub admission: Arc<Admission>,
    pub counters: Arc<Counters>,
    pub live_config: Arc<LiveConfig>,
    /// The endpoints of the admin listener.
    pub to_operators: Offer,
    /// This shard's connections, as the listener counts them.
    pub count: Arc<AtomicUsize>,
    /// The shard that accepts. It may wait for a descriptor.
    pub acceptor: ShardHandle,
    /// Takes what is published over HTTP.
    pub ingest: Arc<IngestWaker>,
    pub line_bytes_max: usize,
}

/// Watchers, sockets and connections have the same keys.
pub struct Clients {
    pub(super) environment: Environment,
    pub(super) watchers: Watchers,
    pub(super) sockets: Sockets,
    pub(super) connections: Connections,
    pub(super) reads: Reads,
    pub(super) wheel: Wheel<WatcherSlot>,
    pub(super) due: Vec<(WatcherSlot, Tick)>,
    pub(super) heartbeats: Spread,
    /// The stream that this daemon shares with others is away: watchers are told when they come.
    pub(super) is_stream_away: bool,
    pub(super) slow_consumers: SlowConsumers,
    pub(super) operators: Operators<WatcherKey>,
    /// When this turn began.
    pub(super) moment: Moment,
    /// Nothing of the past beyond memory is sent before.
    past_rest_until: Instant,
}

/// So many times as long as it sends of the past beyond memory, a shard rests from that. With all on one core and 300
/// watchers of the past, the 99th percentile of live latency was 4.3 times that of before without it, and 1.4 times with it.
const PAST_REST: u32 = 3;

fn token_of(key: WatcherKey) -> Token {
    Token(key.to_bits() as usize)
}

/// What the session of `key` works on. It borrows only some fields, so that the session may lie in another.
pub(super) fn context_of<'a>(
    key: WatcherKey,
    watchers: &'a mut Watchers,
    sink: &'a mut Sockets,
    environment: &'a Environment,
    moment: Moment,
) -> SessionContext<'a, Sockets> {
    let (tick, unix_micros) = (moment.tick(), moment.now.unix_micros);
    SessionContext { key, watchers, sink, limits: &environment.live_config.limits, tick, unix_micros }
}

/// Bytes that the peer has acknowledged.
fn acknowledged(sockets: &mut Sockets, watchers: &Watchers, key: WatcherKey) -> u64 {
    let out = sockets.sealed_bytes_out(key).unwrap_or(watchers.watchers[key].bytes_out);
    let unacknowledged = sockets.get(key).and_then(|socket| unacknowledged(&*socket).ok());
    out.saturating_sub(u64::from(unacknowledged.unwrap_or(0)))
}

impl Clients {
    pub fn new(
        environment: Environment,
        sockets: Sockets,
        directory: Arc<Directory>,
        moment: Moment,
    ) -> Self {
        let mut watchers = Watchers::new(environment.index, directory);
        watchers.now = moment.stamp();
        Self {
            watchers,
            sockets,
            connections: Connections::default(),
            reads: Reads::new(),
            wheel: Wheel::new(moment.tick()),
            due: Vec::new(),
            heartbeats: Spread::new(environment.index),
            is_stream_away: false,
            slow_consumers: SlowConsumers::default(),
            operators: Operators::default(),
            past_rest_until: moment.instant,
            moment,
            environment,
        }
    }

    pub(super) fn counters(&self) -> &ShardCounters {
        &self.environment.counters.shards[self.environment.index]
    }

    pub(super) fn live_config(&self) -> &LiveConfig {
        &self.environment.live_config
    }

    /// False: the connection has gone, and its slot may be another's.
    pub(super) fn is_there(&self, key: WatcherKey) -> bool {
        self.watchers.watchers.contains(key)
    }

    /// All connections there are now.
    pub(super) fn keys(&self) -> Vec<WatcherKey> {
        self.watchers.watchers.iter().map(|(key, _)| key).collect()
    }

    pub fn is_busy(&self) -> bool {
        self.watchers.is_busy() || self.reads.is_busy()
    }

    pub fn begin_turn(&mut self, moment: Moment) {
        self.counters().turns.add(1);
        let before = std::mem::replace(&mut self.moment, moment);
        self.sockets.turn_began = moment.instant;
        if moment.unix_millis() != before.unix_millis() {
            self.watchers.now = moment.stamp();
        }
    }

    /// Notes what the turn that ends at `now` took, and how old the oldest event was that it delivered.
    pub fn note_turn(&mut self, now: Instant, clock: &Clock) {
        let turn = now.saturating_duration_since(self.moment.instant).as_micros() as u64;
        self.counters().turn_micros.note(turn);
        if let Some(read) = self.watchers.counts.oldest_read.take() {
            let delay = clock.micros(now).saturating_sub(read);
            self.counters().delay_micros.note(delay);
        }
    }

    /// A socket has an edge.
    pub fn handle_event(&mut self, key: WatcherKey, event: &Event) {
        if event.is_writable() && self.is_there(key) {
            self.handle_writable(key);
        }
        if !self.is_there(key) {
            return;
        }
        let is_closed = event.is_read_closed() || event.is_error();
        if event.is_error() && event.is_read_closed() && event.is_write_closed() {
            // Reset or timed out: nothing can be read or sent any more.
            self.drop_connection(key);
        } else if event.is_readable() || event.is_priority() || is_closed {
            let connection = self.connections.at(key);
            connection.reads_to_end |= event.is_priority() || is_closed;
            self.reads.add(key, connection);
        }
    }

    /// Sends what is to be sent, then looks after the sockets: those that broke, connections whose last bytes are sent,
    /// clients that take their answers again, watchers whose sockets are full.
    pub fn flush(&mut self) {
        self.watchers.flush(&mut self.sockets);
        self.flush_past();
        self.await_room();
        while let Some(key) = self.watchers.gone.pop() {
            if !self.is_there(key) {
                continue;
            }
            match self.watchers.is_ended(key) {
                true => self.finish(key),
                false => self.drop_connection(key),
            }
        }
        self.unmute();
        if !self.watchers.blocked.is_empty() {
            let (now, patience) = (self.moment.now.millis, self.live_config().patience);
            let sockets = &mut self.sockets;
            let taken = |watchers: &Watchers, key| acknowledged(sockets, watchers, key);
            self.slow_consumers.take_in(&mut self.watchers, now, patience, taken);
        }
        self.note_figures();
    }

    /// What the watchers counted in this turn.
    fn note_figures(&mut self) {
        let oldest_read = self.watchers.counts.oldest_read;
        let fresh = DeliveryCounts { oldest_read, ..DeliveryCounts::default() };
        let counts = std::mem::replace(&mut self.watchers.counts, fresh);
        let lagging = self.slow_consumers.len() as u64;
        let counters = self.counters();
        counters.messages.add(counts.messages);
        counters.sent_bytes.add(counts.sent_bytes);
        counters.compressed_from_bytes.add(counts.compressed_from_bytes);
        counters.compressed_to_bytes.add(counts.compressed_to_bytes);
        add_each(&counters.gaps, &counts.gaps);
        add_each(&counters.received, &counts.received);
        counters.lagging.set(lagging);
        if lagging == 0 {
            counters.lag_events_max.set(0);
        }
    }

    /// Has the sockets that were found full watched for room as well, from now on: few ever are, and each interest
    /// is an event. If room has come meanwhile, there is an event at once (epoll_ctl(2)).
    pub fn await_room(&mut self) {
        let full = std::mem::take(&mut self.sockets.full);
        for &key in self.watchers.blocked.iter().chain(&full) {
            if !self.watchers.watchers.contains(key) {
                continue;
            }
            let Some(socket) = self.sockets.get(key) else {
                continue;
            };
            let connection = self.connections.at(key);
            if !connection.awaits_room {
                connection.awaits_room = true;
                let interest = Interest::READABLE | Interest::PRIORITY | Interest::WRITABLE;
                let watched = self.environment.registry.reregister(socket, token_of(key), interest);
                watched.expect("a socket that is watched can be watched for more");
            }
        }
    }

    /// Looks at the progress of all that lag, and ends those that have stalled.
    pub(super) fn review_slow_consumers(&mut self) {
        let (now, patience) = (self.moment.now.millis, self.live_config().patience);
        let sockets = &mut self.sockets;
        let taken = |watchers: &Watchers, key| acknowledged(sockets, watchers, key);
        let Some(review) = self.slow_consumers.review(&mut self.watchers, now, patience, taken) else {
            return;
        };
        self.counters().lag_events_max.set(review.lag_events_max);
        for key in review.reading {
            self.connections.at(key).silence.end();
        }
        for key in review.stalled {
            self.reset(key, CloseReason::Stalled);
        }
    }

    /// Sends of the past, a part of the time: live watchers are not to feel it.
    fn flush_past(&mut self) {
        if self.watchers.has_past_to_send() && self.moment.instant >= self.past_rest_until {
            let begin = Instant::now();
            self.watchers.flush_past(&mut self.sockets);
            let end = Instant::now();
            self.past_rest_until = end + (end - begin) * PAST_REST;
        }
    }

    /// How long until the past is sent on. None: there is nothing of it to send.
    pub fn until_past(&self, now: Instant) -> Option<Duration> {
        let has_some = self.watchers.has_past_to_send();
        has_some.then(|| self.past_rest_until.saturating_duration_since(now))
    }

    /// What the watchers still need from the history (`overrun = wait`).
    pub fn needs(&mut self) -> Needs {
        let now = self.moment.now.millis;
        let sockets = &mut self.sockets;
        let taken = |watchers: &Watchers, key| acknowledged(sockets, watchers, key);
        self.slow_consumers.probe_newcomers(&mut self.watchers, now, taken);
        self.watchers.needs(&self.slow_consumers, now)
    }

    /// The edge-trigger law: a client with bytes to send waits for an edge, or in line.
    pub fn assert_nobody_forgotten(&self) {
        if cfg!(debug_assertions) {
            self.watchers.assert_nobody_forgotten();
        }
    }

    /// Takes in a new connection. What has come is read first, most often the whole request, and only then is the socket
    /// watched: an emptied socket that is not watched for room is no event.
    pub(super) fn accept(&mut self, socket: TcpStream, newcomer: NewConnection) {
        let is_of_operator = newcomer.counted == Counted::AsOperator;
        if !is_of_operator {
            self.counters().accepted.add(1);
        }
        if let (Counted::Not, Some(turn_away)) = (newcomer.counted, newcomer.turn_away) {
            return self.turn_off(&socket, newcomer.address, turn_away);
        }
        let key = self.watchers.add();
        let now = self.moment.tick();
        // The admin listener speaks no TLS.
        let tls = self.environment.live_config.tls.as_ref().filter(|_| !is_of_operator);
        let speaks_tls = tls.is_some();
        let phase = match tls {
            Some(_) => Phase::Shaking,
            None => Phase::Head(HeadBuffer::default()),
        };
        let time = match phase {
            Phase::Head(_) => self.head_ticks(newcomer.turn_away),
            _ => self.handshake_ticks(),
        };
        let due = now.wrapping_add(time);
        self.connections.insert(key, Connection::new(newcomer, now, phase, due));
        self.sockets.insert(key, socket, tls);
        if is_of_operator && let Some(gone) = self.operators.enter(key) {
            self.drop_connection(gone);
        }
        match speaks_tls {
            // A handshake costs much: it waits for its turn.
            true => self.handle_readable(key),
            false => self.read_first(key),
        }
        let Some(socket) = self.sockets.get(key) else {
            return;
        };
        if let Some(Connection { phase: Phase::Shaking | Phase::Head(_), .. }) = self.connections.get(key) {
            self.wheel.schedule(key.slot, due);
        }
        let interest = Interest::READABLE | Interest::PRIORITY;
        if let Err(error) = self.environment.registry.register(socket, token_of(key), interest) {
            tracing::warn!("cannot watch a new connection's socket: {error}");
            self.drop_connection(key);
        }
    }

    /// How long a handshake of TLS, or a request head, may take that begins now.
    pub(super) fn handshake_ticks(&self) -> Tick {
        let limit = self.live_config().limits.handshake;
        if self.environment.admission.is_draining() { limit.min(ticks(LINGER_IN_DRAIN)) } else { limit }
    }

    /// How long a request head may take that begins now.
    pub(super) fn head_ticks(&self, turn_away: Option<TurnAway>) -> Tick {
        match turn_away {
            None => self.handshake_ticks(),
            // Others wait for its descriptor.
            Some(TurnAway::NoDescriptor) => 0,
            Some(_) => self.handshake_ticks().min(ticks(TURNED_AWAY)),
        }
    }

    /// Resets a socket for which there is no place to send a refusal from.
    fn turn_off(&mut self, socket: &TcpStream, address: IpAddr, turn_away: TurnAway) {
        self.note_refusal(Offer::Watchers, address, &turn_away.refusal(), None);
        // Otherwise the kernel would go through the whole of an ordinary end (RFC 9293, 3.6).
        let _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
    }

    /// The endpoints of the listener that a connection came by.
    pub(super) fn offer(&self, key: WatcherKey) -> Offer {
        match self.connections.get(key) {
            Some(Connection { counted: Counted::AsOperator, .. }) => self.environment.to_operators,
            Some(_) | None => Offer::Watchers,
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

    /// Counts the end of an open connection, once.
    pub(super) fn note_end(&mut self, key: WatcherKey, reason: usize) {
        let connection = self.connections.at(key);
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
        tracing::debug!(address = %self.connections.at(key).address(), "closing: {}", reason.text());
        self.watchers.enqueue_control(key, |out| frame::write_close(out, reason.code(), reason.text()));
        self.watchers.end(key);
        self.linger_for(key, LINGER);
    }

    pub(super) fn end(&mut self, key: WatcherKey) {
        self.watchers.end(key);
        self.linger(key);
    }

    /// The kernel has the last bytes, or soon will: the peer has a moment to read them, and its place is free.
    pub(super) fn linger(&mut self, key: WatcherKey) {
        let is_draining = self.environment.admission.is_draining();
        self.linger_for(key, if is_draining { LINGER_IN_DRAIN } else { LINGER });
    }

    fn linger_for(&mut self, key: WatcherKey, span: Duration) {
        let due = self.moment.tick().wrapping_add(ticks(span));
        let connection = self.connections.at(key);
        connection.counted = self.environment.admission.free_place(connection.counted, connection.address());
        connection.phase = Phase::Closing;
        connection.due = due;
        self.wheel.schedule(key.slot, due);
        self.operators.note_served(key, false);
    }

    /// Ends a connection that takes no bytes at all: a close frame would wait behind its full buffer.
    pub(super) fn reset(&mut self, key: WatcherKey, reason: CloseReason) {
        self.note_end(key, reason as usize);
        tracing::info!(address = %self.connections.at(key).address(), code = reason.code(), "reset: {}", reason.text());
        if let Some(socket) = self.sockets.get(key) {
            // Without this the kernel would keep the unsent bytes for as long as the peer does not read.
            let _ = SockRef::from(&*socket).set_linger(Some(Duration::ZERO));
        }
        self.drop_connection(key);
    }

    /// The kernel has the last bytes of a connection: shuts the write side behind them. If the peer has shut its own, the
    /// connection is over.
    pub(super) fn shut(&mut self, key: WatcherKey) {
        if self.connections.at(key).sides == Sides::OursShut {
            return;
        }
        if let Phase::Answering { .. } = self.connections.at(key).phase {
            self.linger(key);
        }
        match self.sockets.shut(key) {
            Ok(false) => {}
            Ok(true) if self.connections.at(key).sides == Sides::Open => {
                self.connections.at(key).sides = Sides::OursShut;
            }
            Ok(true) | Err(_) => self.drop_connection(key),
        }
    }

    pub(super) fn drop_connection(&mut self, key: WatcherKey) {
        if self.connections.get(key).is_some() {
            self.note_end(key, self.manner_of_end(key));
        }
        let Some(connection) = self.connections.remove(key) else {
            return;
        };
        if self.watchers.is_reviewed(key) {
            self.slow_consumers.remove(key);
        }
        self.watchers.remove(key);
        drop(self.sockets.remove(key));
        if connection.counted == Counted::AsOperator {
            self.operators.leave(key);
        }
        if self.environment.admission.leave(connection.counted, connection.address()) {
            self.environment.acceptor.wake();
        }
        self.environment.count.fetch_sub(1, Ordering::Relaxed);
    }
}

fn add_each(counters: &[Counter], counts: &[u64]) {
    counters.iter().zip(counts).filter(|(_, more)| **more > 0).for_each(|(counter, more)| counter.add(*more));
}
