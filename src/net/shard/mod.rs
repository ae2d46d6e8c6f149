//! A shard: one thread, one event loop, the connections that it owns from accept to end.
#![doc = include_str!("README.md")]

mod announcement;
pub mod bodies;
pub mod clients;
pub mod connection;
pub mod connection_report;
pub mod handle;
pub mod live_config;
pub mod publishing;
pub mod reading;
pub mod reads;
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
use mio::{Events, Poll, Token, Waker};

use crate::access::admission::Admission;
use crate::config::Overrun;
use crate::delivery::keys::WatcherKey;
use crate::metrics::Counters;
use crate::net::clock::Clock;
use crate::net::ingest::handle::IngestWaker;
use crate::net::listen::acceptor::Acceptor;
use crate::net::listen::listener::Listener;
use crate::net::past::PastHandle;
use crate::net::report::inquiry::Inquiries;
use crate::net::shard::announcement::Announcement;
use crate::net::shard::clients::{Clients, Environment};
use crate::net::shard::handle::{Command, ShardHandle};
use crate::net::shard::live_config::LiveConfig;
use crate::net::shard::sockets::Sockets;
use crate::net::shard::survey::Survey;
use crate::session::drain::{Drain, StillThere};
use crate::session::endpoint::Offer;
use crate::stream::directory::Directory;
use crate::stream::link::Inlet;
use crate::tick::TICK_MILLIS;

const WAKER: Token = Token(usize::MAX);
const LISTENERS: usize = usize::MAX - 64;
const EVENTS_MAX: usize = 1024;

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
    pub line_bytes_max: usize,
    /// Wakes the ingest thread when it waits for watchers.
    pub ingest: Arc<IngestWaker>,
    /// With `bus`: what is older than memory, if it can be had.
    pub past: Option<PastHandle>,
    pub clock: Clock,
    /// Shard 0 accepts.
    pub listener: Option<Listener>,
    /// The endpoints of the admin listener.
    pub to_operators: Offer,
    /// This shard's connections, as the listener counts them.
    pub count: Arc<AtomicUsize>,
    /// The shard that accepts. It may wait for a descriptor.
    pub acceptor: ShardHandle,
}

pub struct Shard {
    poll: Poll,
    commands: Receiver<Command>,
    clock: Clock,
    overrun: Overrun,
    ingest: Arc<IngestWaker>,
    /// Wakes the thread of the past.
    past_waker: Option<Arc<IngestWaker>>,
    clients: Clients,
    /// Shard 0 accepts.
    acceptor: Option<Acceptor>,
    drain: Option<Drain>,
    /// Lists of connections that are being made.
    surveys: VecDeque<Survey>,
    /// Watchers are being told how the shared stream stands.
    announcement: Option<Announcement>,
    /// The turn's duration was not counted yet.
    is_in_turn: bool,
}

/// Registers a waker on a shard's poll.
pub fn waker(poll: &Poll) -> io::Result<Arc<Waker>> {
    Ok(Arc::new(Waker::new(poll.registry(), WAKER)?))
}

/// A wait of whole milliseconds.
fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

impl Shard {
    pub fn new(parts: ShardParts) -> io::Result<Self> {
        let ShardParts { poll, commands, clock, overrun, ingest, admission, .. } = parts;
        let acceptor = match parts.listener {
            Some(listener) => {
                let registry = poll.registry().try_clone()?;
                Some(Acceptor::new(listener, registry, admission.clone(), LISTENERS)?)
            }
            None => None,
        };
        let environment = Environment {
            index: parts.index,
            registry: poll.registry().try_clone()?,
            inquiries: parts.inquiries,
            admission,
            counters: parts.counters,
            live_config: parts.live_config,
            to_operators: parts.to_operators,
            count: parts.count,
            acceptor: parts.acceptor,
            ingest: ingest.clone(),
            line_bytes_max: parts.line_bytes_max,
        };
        let sockets = Sockets::new(parts.inlet, parts.directory.clone());
        let mut clients = Clients::new(environment, sockets, parts.directory, clock.read());
        let (past, past_waker) = parts.past.map(|handle| (handle.past, handle.waker)).unzip();
        past.into_iter().for_each(|past| clients.watchers.read_past(past));
        Ok(Self {
            poll,
            commands,
            clock,
            overrun,
            ingest,
            past_waker,
            clients,
            acceptor,
            drain: None,
            surveys: VecDeque::new(),
            announcement: None,
            is_in_turn: false,
        })
    }

    /// Serves until it has drained.
    pub fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS_MAX);
        loop {
            let timeout = self.timeout();
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                result => result?,
            }
            self.clients.sockets.inlet().wake_up();
            self.begin_turn();
            self.handle_events(&events);
            self.handle_commands();
            self.accept();
            self.clients.read_on();
            self.clients.flush();
            self.answer_surveys();
            self.announce();
            self.clients.handle_deadlines();
            self.clients.log_refusals();
            self.say_goodbye();
            // Heartbeats and goodbyes are sent as well.
            self.clients.await_room();
            self.note_needed();
            self.report_past();
            self.clients.assert_nobody_forgotten();
            if self.has_drained() {
                return Ok(());
            }
        }
    }

    /// How long to sleep: not at all while something is left to do.
    fn timeout(&mut self) -> Option<Duration> {
        let is_busy = self.clients.is_busy()
            || !self.surveys.is_empty()
            || self.announcement.is_some()
            || self.acceptor.as_ref().is_some_and(Acceptor::is_busy);
        if is_busy || !self.clients.sockets.inlet().fall_asleep() {
            return Some(Duration::ZERO);
        }
        let now = self.clock.read();
        self.end_turn(now.instant);
        let wheel =
            self.clients.wheel.until_next(now.tick()).map(|ticks| millis(u64::from(ticks) * TICK_MILLIS));
        let review = self.clients.slow_consumers.until_review(now.now.millis).map(millis);
        let accept = self.acceptor.as_ref().and_then(|acceptor| acceptor.until_look(now.instant));
        let drain = self.drain.as_ref().map(|drain| millis(drain.until_next(now.now.millis)));
        let past = self.clients.until_past(now.instant);
        let refusals = self.clients.environment.admission.refusal_rest_at();
        let refusals = refusals.map(|at| millis(at.saturating_sub(now.now.millis)));
        [wheel, review, accept, drain, past, refusals].into_iter().flatten().min()
    }

    fn begin_turn(&mut self) {
        let moment = self.clock.read();
        self.end_turn(moment.instant);
        self.is_in_turn = true;
        self.clients.begin_turn(moment);
    }

    /// Counts how long the turn took. If the next turn follows at once, its beginning is the end of this one, which saves
    /// a look at the clock.
    fn end_turn(&mut self, now: Instant) {
        if std::mem::take(&mut self.is_in_turn) {
            self.clients.note_turn(now, &self.clock);
        }
    }

    fn handle_events(&mut self, events: &Events) {
        for event in events {
            match event.token() {
                WAKER => {}
                Token(token) if token >= LISTENERS => {
                    if let Some(acceptor) = &mut self.acceptor {
                        acceptor.note_event();
                    }
                }
                Token(token) => self.clients.handle_event(WatcherKey::from_bits(token as u64), event),
            }
        }
    }

    fn handle_commands(&mut self) {
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::Accept(socket, newcomer) => self.clients.accept(socket, newcomer),
                Command::Survey(answer) => self.surveys.push_back(Survey::new(answer)),
                Command::Answer { key, answer } => self.clients.handle_answer(key, answer),
                Command::Room { key } => self.clients.handle_room(key),
                Command::Published { key, answer } => self.clients.handle_published(key, answer),
                Command::Announce { is_away } => {
                    self.clients.is_stream_away = is_away;
                    self.announcement = Some(Announcement::default());
                }
                Command::Renew(live_config) => self.clients.renew(live_config),
                Command::Drain(order) => self.drain = Some(Drain::new(order, self.clients.moment.now.millis)),
            }
        }
    }

    fn accept(&mut self) {
        let Some(acceptor) = &mut self.acceptor else { return };
        let clients = &mut self.clients;
        if !acceptor.is_due(clients.moment.instant) {
            return;
        }
        let (live_config, counters) =
            (clients.environment.live_config.clone(), clients.environment.counters.clone());
        let counters = &counters.shards[clients.environment.index];
        acceptor.accept(&live_config.proxies, clients.moment, counters, |socket, newcomer| {
            clients.accept(socket, newcomer)
        });
    }

    /// Makes the next slice of the first list.
    fn answer_surveys(&mut self) {
        let Some(mut survey) = self.surveys.pop_front() else { return };
        if survey.answer_slice(&mut self.clients) {
            self.surveys.push_back(survey);
        }
    }

    /// Tells the next slice of watchers how the shared stream stands.
    fn announce(&mut self) {
        let clients = &mut self.clients;
        self.announcement.take_if(|announcement| !announcement.tell_slice(clients));
    }

    /// Tells the sequencer what must not be dropped yet (`overrun = wait`).
    fn note_needed(&mut self) {
        if self.overrun != Overrun::Wait {
            return;
        }
        let needs = self.clients.needs();
        if self.clients.sockets.inlet().link.report_needs(needs)
            && self.ingest.is_waiting.swap(false, Ordering::SeqCst)
        {
            self.ingest.waker.wake().expect("the ingest thread's waker works");
        }
    }

    /// Tells the thread of the past who waits for it, and how far the others are.
    fn report_past(&mut self) {
        if let Some(waker) = &self.past_waker
            && self.clients.watchers.report_past()
        {
            waker.wake();
        }
    }

    /// While draining: says goodbye to everybody once all is served, or the time for that is over.
    fn say_goodbye(&mut self) {
        let Some(drain) = &mut self.drain else { return };
        let clients = &mut self.clients;
        if drain.is_goodbye(clients.moment.now.millis, || clients.watchers.is_served(&mut clients.sockets)) {
            let retries = drain.retries(clients.environment.index);
            clients.say_goodbye(retries);
        }
    }

    /// Everybody has left, the other shards' connections too, or the time is up.
    fn has_drained(&self) -> bool {
        let clients = &self.clients;
        let still_there = || StillThere {
            connections: clients.environment.admission.connections(),
            is_operator_served: clients.operators.is_any_served(),
        };
        self.drain.as_ref().is_some_and(|drain| drain.is_over(clients.moment.now.millis, still_there))
    }
}
