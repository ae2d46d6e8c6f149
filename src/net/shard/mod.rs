//! A shard: one thread, one event loop, the connections that it owns from accept to end.
//!
//! A turn is: poll → commands, accepts, reads, writable edges → flush → deadlines. What a connection's bytes
//! lead to is in `connections` and `requests`, what is due to them in `timers`.

pub mod connection;
pub mod connection_report;
pub mod connections;
pub mod handle;
pub mod live_config;
pub mod requests;
pub mod send_queue;
pub mod sockets;
pub mod survey;
pub mod timers;
pub mod tls_handshakes;
pub mod transport;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use mio::{Events, Interest, Poll, Registry, Token, Waker};

use crate::access::admission::Admission;
use crate::config::Overrun;
use crate::delivery::keys::{WatcherKey, WatcherSlot};
use crate::delivery::progress::SlowConsumer;
use crate::delivery::watchers::Watchers;
use crate::metrics::{Counters, ShardCounters};
use crate::net::clock::{Clock, Moment};
use crate::net::ingest::handle::IngestWaker;
use crate::net::listen::listener::{Accepted, Listener};
use crate::net::report::inquiry::Inquiries;
use crate::net::shard::connection::Connection;
use crate::net::shard::connection_report::Survey;
use crate::net::shard::handle::{Command, ShardHandle};
use crate::net::shard::live_config::LiveConfig;
use crate::net::shard::sockets::Sockets;
use crate::session::context::SessionContext;
use crate::session::endpoint::Offer;
use crate::session::operators::Operators;
use crate::session::timer_wheel::Wheel;
use crate::stream::directory::Directory;
use crate::stream::link::Inlet;
use crate::tick::{TICK_MILLIS, Tick};

const WAKER: Token = Token(usize::MAX);
const LISTENERS: usize = usize::MAX - 64;
const EVENTS_MAX: usize = 1024;
/// Read from one client at once, and in one turn: the others keep their latency.
const READ_BYTES: usize = 64 << 10;
/// Accepting is tried again so long after the descriptors have run out.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);
/// That they have run out is logged at most so often.
const EXHAUSTED_LOG_MILLIS: u64 = 1_000;
/// In a storm, whoever comes within so long is taken in together: one wake for all instead of one for each.
const STORM_PAUSE: Duration = Duration::from_millis(1);
/// A shard that has said goodbye looks so often whether the others' connections have left as well.
const DRAIN_LOOK: Duration = Duration::from_millis(50);

/// Entries in the wheel beyond four a connection before those that mean nothing are looked for.
const WHEEL_SPARE: usize = 4096;

/// What every shard is made of.
pub struct ShardParts {
    pub index: usize,
    pub poll: Poll,
    pub inlet: Inlet,
    pub commands: Receiver<Command>,
    /// For answers that take longer to make than a turn.
    pub inquiries: Inquiries,
    pub directory: Arc<Directory>,
    pub admission: Arc<Admission>,
    pub counters: Arc<Counters>,
    pub live_config: Arc<LiveConfig>,
    pub overrun: Overrun,
    /// Wakes the ingest thread when it waits for watchers.
    pub ingest: Arc<IngestWaker>,
    pub clock: Clock,
    /// Shard 0 accepts.
    pub listener: Option<Listener>,
    /// What operators are offered who come to it.
    pub to_operators: Offer,
    /// Connections of this shard, as the listener counts them.
    pub count: Arc<AtomicUsize>,
    /// The shard that accepts, and may wait for a descriptor to do so.
    pub acceptor: ShardHandle,
}

pub struct Shard {
    parts: ShardParts,
    watchers: Watchers,
    sockets: Sockets,
    connections: Vec<Option<Connection>>,
    wheel: Wheel<WatcherSlot>,
    moment: Moment,
    /// Connections with more to read than one turn takes.
    unread: VecDeque<WatcherKey>,
    /// Clients that are not read from while they do not take their answers.
    muted: Vec<WatcherKey>,
    scratch: Vec<u8>,
    /// Spreads heartbeats evenly whatever comes when.
    spread: u32,
    laggards: Vec<SlowConsumer>,
    review_at: u64,
    /// When newcomers among the laggards are looked at (`overrun = wait`).
    probe_at: u64,
    drain: Option<Drain>,
    operators: Operators<WatcherKey>,
    /// Lists of connections that are wanted.
    surveys: VecDeque<Survey>,
    accept_at: Option<Instant>,
    /// It waits for a descriptor; any that a connection gives back will do.
    is_exhausted: bool,
    exhausted_log_at: u64,
    may_accept: bool,
    /// The listeners are not watched: a storm is on, and they are looked at by the clock.
    is_storm: bool,
    accepted_at: Option<Instant>,
    due: Vec<(WatcherSlot, Tick)>,
    /// The turn's end was not noted yet.
    is_in_turn: bool,
}

/// The way to the end.
struct Drain {
    /// Goodbye is said then, whoever still lags.
    pub serve_until: Instant,
    pub end_at: Instant,
    pub has_said_goodbye: bool,
    /// Operators who have asked have their answers until then.
    pub operators_until: Instant,
    pub connections: usize,
    pub of: usize,
}

/// Registers a waker on a shard's poll.
pub fn waker(poll: &Poll) -> io::Result<Arc<Waker>> {
    Ok(Arc::new(Waker::new(poll.registry(), WAKER)?))
}

fn watch_listeners(listener: &mut Listener, registry: &Registry) -> io::Result<()> {
    for (place, socket) in listener.sockets.iter_mut().enumerate() {
        registry.register(&mut socket.socket, Token(LISTENERS + place), Interest::READABLE)?;
    }
    Ok(())
}

/// What the session of `key` works on: parts of a shard, so that the session itself may be one of its others.
fn context_of<'a>(
    key: WatcherKey,
    watchers: &'a mut Watchers,
    sink: &'a mut Sockets,
    live_config: &'a LiveConfig,
    moment: Moment,
) -> SessionContext<'a, Sockets> {
    let (tick, unix_micros) = (moment.tick(), moment.now.unix_micros);
    SessionContext { key, watchers, sink, limits: &live_config.limits, tick, unix_micros }
}

impl Shard {
    pub fn new(mut parts: ShardParts) -> io::Result<Self> {
        let directory = parts.directory.clone();
        let (inlet, index) = (parts.inlet.clone(), parts.index);
        if let Some(listener) = &mut parts.listener {
            watch_listeners(listener, parts.poll.registry())?;
        }
        let moment = parts.clock.read();
        let mut watchers = Watchers::new(index, directory.clone());
        watchers.now = moment.stamp();
        Ok(Self {
            watchers,
            sockets: Sockets::new(inlet, directory),
            connections: Vec::new(),
            wheel: Wheel::new(moment.tick()),
            moment,
            unread: VecDeque::new(),
            muted: Vec::new(),
            scratch: vec![0; READ_BYTES],
            spread: index as u32,
            laggards: Vec::new(),
            review_at: 0,
            probe_at: 0,
            drain: None,
            operators: Operators::default(),
            surveys: VecDeque::new(),
            accept_at: None,
            is_exhausted: false,
            exhausted_log_at: 0,
            may_accept: false,
            is_storm: false,
            accepted_at: None,
            due: Vec::new(),
            is_in_turn: false,
            parts,
        })
    }

    /// Serves until it has drained.
    pub fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS_MAX);
        loop {
            let timeout = self.timeout();
            match self.parts.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                result => result?,
            }
            self.sockets.inlet().wake_up();
            self.begin_turn();
            self.handle_events(&events);
            self.handle_commands();
            self.accept();
            self.read_on();
            self.watchers.flush(&mut self.sockets);
            self.await_room();
            self.look_after();
            self.tell_sights();
            self.handle_deadlines();
            // Heartbeats and goodbyes are sent as well.
            self.await_room();
            self.note_needed();
            self.assert_nobody_forgotten();
            if self.has_drained() {
                return Ok(());
            }
        }
    }

    /// How long to sleep: not at all while something is left to do.
    fn timeout(&mut self) -> Option<Duration> {
        let is_busy = self.watchers.is_busy()
            || !self.unread.is_empty()
            || !self.surveys.is_empty()
            || (self.may_accept && self.accept_at.is_none());
        if is_busy || !self.sockets.inlet().fall_asleep() {
            return Some(Duration::ZERO);
        }
        let now = self.parts.clock.read();
        self.end_turn(now.instant);
        let wheel = self
            .wheel
            .until_next(now.tick())
            .map(|ticks| Duration::from_millis(u64::from(ticks) * TICK_MILLIS));
        let review = (!self.laggards.is_empty())
            .then(|| Duration::from_millis(self.review_at.saturating_sub(now.now.millis)));
        let accept = self.accept_at.map(|at| at.saturating_duration_since(now.instant));
        let drain = self.drain.as_ref().map(|drain| match drain.has_said_goodbye {
            true => drain.end_at.saturating_duration_since(now.instant).min(DRAIN_LOOK),
            false => drain.serve_until.saturating_duration_since(now.instant),
        });
        [wheel, review, accept, drain].into_iter().flatten().min()
    }

    fn begin_turn(&mut self) {
        let moment = self.parts.clock.read();
        self.end_turn(moment.instant);
        self.is_in_turn = true;
        self.counters().turns.add(1);
        let before = std::mem::replace(&mut self.moment, moment);
        self.sockets.turn_began = self.moment.instant;
        if self.moment.unix_millis() != before.unix_millis() {
            self.watchers.now = self.moment.stamp();
        }
    }

    /// Notes what the turn took, and how old the oldest event was by its end that it delivered. A turn that is followed
    /// by the next at once has ended when that begins: the clock is not read for this.
    fn end_turn(&mut self, now: Instant) {
        if !std::mem::take(&mut self.is_in_turn) {
            return;
        }
        let turn = now.saturating_duration_since(self.moment.instant).as_micros() as u64;
        self.counters().turn_micros.note(turn);
        if let Some(read) = self.watchers.counts.oldest_read.take() {
            let delay = self.parts.clock.micros(now).saturating_sub(read);
            self.counters().delay_micros.note(delay);
        }
    }

    fn counters(&self) -> &ShardCounters {
        &self.parts.counters.shards[self.parts.index]
    }

    fn handle_events(&mut self, events: &Events) {
        for event in events {
            match event.token() {
                WAKER => {}
                Token(token) if token >= LISTENERS => self.may_accept = true,
                Token(token) => {
                    let key = WatcherKey::from_bits(token as u64);
                    if !self.is_there(key) {
                        continue;
                    }
                    if event.is_writable() {
                        self.handle_writable(key);
                        if !self.is_there(key) {
                            continue;
                        }
                    }
                    let is_closed = event.is_read_closed() || event.is_error();
                    if event.is_error() && event.is_read_closed() && event.is_write_closed() {
                        // Reset or timed out: nothing can be read or sent any more.
                        self.drop_connection(key);
                    } else if event.is_readable() || event.is_priority() || is_closed {
                        self.connection(key).reads_to_end |= event.is_priority() || is_closed;
                        self.handle_readable(key);
                    }
                }
            }
        }
    }

    fn handle_commands(&mut self) {
        while let Ok(command) = self.parts.commands.try_recv() {
            match command {
                Command::Accept(socket, guest) => self.accept_connection(socket, guest),
                Command::Survey(answer) => self.surveys.push_back(Survey::new(answer)),
                Command::Answer { key, answer } => self.handle_answer(key, answer),
                Command::Renew(live_config) => self.renew(live_config),
                Command::Drain { serve, linger, connections, of } => {
                    let serve_until = self.moment.instant + serve;
                    let end_at = serve_until + linger;
                    self.drain = Some(Drain {
                        serve_until,
                        end_at,
                        has_said_goodbye: false,
                        operators_until: end_at,
                        connections,
                        of,
                    });
                }
            }
        }
    }

    fn accept(&mut self) {
        let has_room = self.is_exhausted && !self.parts.admission.is_short();
        if has_room || self.accept_at.is_some_and(|at| at <= self.moment.instant) {
            self.accept_at = None;
            self.is_exhausted = false;
            self.may_accept = true;
        }
        if !self.may_accept || self.accept_at.is_some() {
            return;
        }
        let Some(mut listener) = self.parts.listener.take() else {
            return;
        };
        let (live_config, now) = (self.parts.live_config.clone(), self.moment.tick());
        let accepted =
            listener.accept(&live_config.proxies, now, |socket, guest| self.accept_connection(socket, guest));
        match accepted {
            Accepted::Nobody => {
                self.may_accept = false;
                self.end_storm(&mut listener);
            }
            Accepted::All => {
                self.may_accept = false;
                self.pause_in_storm(&mut listener);
            }
            Accepted::More => {}
            Accepted::Exhausted => {
                self.is_exhausted = self.parts.admission.is_short();
                self.accept_at = Some(self.moment.instant + EXHAUSTED_PAUSE);
                self.counters().accepts_failed.add(1);
                if self.moment.now.millis >= self.exhausted_log_at {
                    self.exhausted_log_at = self.moment.now.millis + EXHAUSTED_LOG_MILLIS;
                    let failed = self.counters().accepts_failed.get();
                    tracing::warn!(
                        failed,
                        "no descriptor or memory is left for new connections; trying again"
                    );
                }
            }
        }
        self.parts.listener = Some(listener);
    }

    /// When people come in quick succession, the listeners are left alone for a moment.
    fn pause_in_storm(&mut self, listener: &mut Listener) {
        let now = self.moment.instant;
        let last = self.accepted_at.replace(now);
        if !self.is_storm && last.is_some_and(|last| now < last + STORM_PAUSE) {
            self.is_storm = true;
            for socket in &mut listener.sockets {
                let watched = self.parts.poll.registry().deregister(&mut socket.socket);
                watched.expect("a listener is watched");
            }
        }
        if self.is_storm {
            self.accept_at = Some(now + STORM_PAUSE);
        }
    }

    /// Has the listeners watched again; whoever has come meanwhile is told of at once (epoll_ctl(2)).
    fn end_storm(&mut self, listener: &mut Listener) {
        if !self.is_storm {
            return;
        }
        let registry = self.parts.poll.registry();
        match watch_listeners(listener, registry) {
            Ok(()) => self.is_storm = false,
            Err(error) => {
                // Until then they are looked at by the clock. One of several may be watched already.
                tracing::warn!("cannot watch the listeners again: {error}; trying again");
                for socket in &mut listener.sockets {
                    let _ = registry.deregister(&mut socket.socket);
                }
                self.accept_at = Some(self.moment.instant + EXHAUSTED_PAUSE);
            }
        }
    }

    fn handle_deadlines(&mut self) {
        let mut due = std::mem::take(&mut self.due);
        self.wheel.advance(self.moment.tick(), &mut due);
        for (slot, deadline) in due.drain(..) {
            let Some(key) = self.watchers.watchers.key_at(slot) else {
                continue;
            };
            if self.connection(key).due == deadline {
                self.handle_due(key);
            } else if !self.end_expired(key) {
                // It may have been the entry of a token, before a clock was put back.
                self.note_expiry(key);
            }
        }
        self.due = due;
        self.forget_deadlines();
        self.review_laggards();
        self.say_goodbye();
    }

    /// Forgets the deadlines of connections that have gone, once they are most of all: a heartbeat may be a day away.
    fn forget_deadlines(&mut self) {
        if self.wheel.len() <= WHEEL_SPARE + 4 * self.watchers.watchers.len() {
            return;
        }
        let connections = &self.connections;
        self.wheel.retain(|slot, due| {
            let connection = connections.get(slot.index()).and_then(Option::as_ref);
            connection.is_some_and(|connection| connection.due == due || connection.may_expire())
        });
    }

    /// Tells the sequencer what must not be dropped yet (`overrun = wait`).
    fn note_needed(&mut self) {
        if self.parts.overrun != Overrun::Wait {
            return;
        }
        self.probe_newcomers();
        let needs = self.watchers.needs(&self.laggards, self.moment.now.millis);
        if self.parts.inlet.link.say(needs) {
            let ingest = &self.parts.ingest;
            if ingest.is_waiting.swap(false, Ordering::SeqCst) {
                ingest.waker.wake().expect("the ingest thread's waker works");
            }
        }
    }

    /// The edge-trigger law: whoever has bytes to send waits for an edge or is in line.
    fn assert_nobody_forgotten(&self) {
        if cfg!(debug_assertions) {
            self.watchers.assert_nobody_forgotten();
        }
    }
}
