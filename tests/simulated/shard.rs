//! One shard of the daemon: the real watchers, inlet and sessions, with simulated sockets. What a turn consists of and
//! what clients ask for is up to each simulation.

use std::cell::RefCell;

use luxcast::delivery::keys::WatcherKey;
use luxcast::delivery::watcher::Flags;
use luxcast::delivery::watchers::Watchers;
use luxcast::session::context::{SessionContext, Verdict};
use luxcast::session::conversation::Session;
use luxcast::session::endpoint::Opening;
use luxcast::session::limits::SessionLimits;
use luxcast::stream::link::Inlet;
use luxcast::wire::frame;
use luxcast::wire::message_reader::Message;

use super::conversation::RETRY_MILLIS;
use super::decoder::Decoder;
use super::others::Others;
use super::port::Port;
use super::rng::Rng;
use super::socket::{Client, Socket};
use super::socket_plan::SocketPlan;

pub struct Shard<C: Client> {
    pub watchers: Watchers,
    pub inlet: Inlet,
    /// By the watcher's key.
    pub sockets: Vec<Option<Socket<C>>>,
    limits: SessionLimits,
    is_asleep: bool,
    /// Positions of clients when they left.
    pub left_at: Vec<u64>,
    pub notes: C::Notes,
}

macro_rules! context {
    ($shard:ident, $key:expr, $port:expr) => {
        &mut SessionContext {
            key: $key,
            watchers: &mut $shard.watchers,
            sink: $port,
            limits: &$shard.limits,
            tick: 0,
            unix_micros: 0,
        }
    };
}

/// Only the jobs of a connection are limited.
fn limits() -> SessionLimits {
    SessionLimits {
        messages: SessionLimits::message_limits(1 << 20),
        head_bytes_max: 8192,
        messages_per_second: 1_000_000,
        messages_burst: 1_000_000,
        jobs_max: 1000,
        heartbeat: 1000,
        silent_heartbeats: 3,
        handshake: 100,
        stalled: 3_000,
    }
}

impl<C: Client> Shard<C> {
    pub fn new(watchers: Watchers, inlet: Inlet) -> Self {
        Self {
            watchers,
            inlet,
            sockets: Vec::new(),
            limits: limits(),
            is_asleep: false,
            left_at: Vec::new(),
            notes: C::Notes::default(),
        }
    }

    /// Whether the shard would run: it is awake, was woken, a socket has an edge for it, or it has to send of the past.
    pub fn is_runnable(&self, others: &RefCell<C::Others>) -> bool {
        let has_edge = || self.sockets.iter().flatten().any(|socket| socket.has_edge);
        let is_woken = others.borrow().is_woken(self.watchers.shard);
        !self.is_asleep || is_woken || has_edge() || self.watchers.has_past_to_send()
    }

    pub fn wake(&mut self, others: &RefCell<C::Others>) {
        if self.is_asleep {
            others.borrow().trace(|| format!("  shard {} wakes", self.watchers.shard));
            self.inlet.wake_up();
            self.is_asleep = false;
        }
        others.borrow_mut().clear_woken(self.watchers.shard);
    }

    /// A turn of the shard's loop begins: it looks after its sockets.
    pub fn begin_turn(&mut self, others: &RefCell<C::Others>) {
        self.wake(others);
        for key in self.keys() {
            let socket = self.socket(key);
            if socket.has_edge {
                socket.has_edge = false;
                self.watchers.handle_writable(key);
                others.borrow_mut().interleave();
            }
        }
    }

    /// Flushes in one of the ways that watchers can be.
    pub fn flush(
        &mut self,
        others: &RefCell<C::Others>,
        flush: impl FnOnce(&mut Watchers, &mut Port<'_, C>),
    ) {
        flush(&mut self.watchers, &mut Port::new(others, &self.inlet, &mut self.sockets));
    }

    /// The turn ends: it sleeps if it can.
    pub fn end_turn(&mut self, others: &RefCell<C::Others>) {
        self.watchers.assert_nobody_forgotten();
        if self.watchers.is_busy() {
            return;
        }
        self.check_edges();
        if self.inlet.fall_asleep() {
            others.borrow().trace(|| format!("  shard {} sleeps", self.watchers.shard));
            self.is_asleep = true;
        } else {
            others.borrow_mut().interleave();
            self.inlet.wake_up();
        }
    }

    /// Checks the edge-trigger law: unsent bytes wait for an edge.
    fn check_edges(&self) {
        for (key, watcher) in self.watchers.watchers.iter() {
            // Who reads the past, or has just come from there, may have its turn with that.
            let has_turn = self.watchers.has_past_to_send() && watcher.is(Flags::QUEUED);
            let is_stuck = watcher.waiting() > 0 && !has_turn && !watcher.is(Flags::BLOCKED | Flags::BROKEN);
            assert!(!is_stuck, "watcher {key:?} has bytes to send and waits for nothing");
            let socket = self.sockets[key.index()].as_ref().expect("each watcher has a socket");
            let waits = socket.wants_edge || socket.has_edge;
            assert!(
                !watcher.is(Flags::BLOCKED) || waits,
                "watcher {key:?} waits for an edge that will not come"
            );
        }
    }

    /// Removes the watchers that are gone.
    pub fn bury(&mut self, others: &RefCell<C::Others>) {
        for key in std::mem::take(&mut self.watchers.gone) {
            let watcher = self.watchers.watchers.get(key);
            if watcher.is_some_and(|watcher| watcher.is(Flags::BROKEN | Flags::ENDED)) {
                let socket = self.socket(key);
                assert!(socket.has_end(), "client {} is gone without its end", socket.client.id());
                self.remove(key, others);
            }
        }
    }

    pub fn remove(&mut self, key: WatcherKey, others: &RefCell<C::Others>) {
        self.watchers.remove(key);
        let socket = self.sockets[key.index()].take().expect("each watcher has a socket");
        others.borrow().trace(|| format!("  client {} is gone", socket.client.id()));
        self.left_at.extend(socket.client.position());
        socket.client.leave(key, &mut self.notes);
    }

    pub fn count(&self) -> usize {
        self.sockets.iter().flatten().count()
    }

    /// The key of some client that is not on its way out.
    pub fn any(&self, rng: &mut Rng) -> Option<WatcherKey> {
        let is_open = |key: &WatcherKey| {
            let socket = self.sockets[key.index()].as_ref();
            socket.is_some_and(|socket| !socket.is_ending && !socket.is_broken)
        };
        let keys: Vec<WatcherKey> = self.keys().into_iter().filter(is_open).collect();
        (!keys.is_empty()).then(|| *rng.pick(&keys))
    }

    /// The keys of all watchers.
    pub fn keys(&self) -> Vec<WatcherKey> {
        self.watchers.watchers.iter().map(|(key, _)| key).collect()
    }

    pub fn socket(&mut self, key: WatcherKey) -> &mut Socket<C> {
        self.sockets[key.index()].as_mut().expect("each watcher has a socket")
    }

    /// Some clients read, or the system wakes the daemon for nothing.
    pub fn read_some(&mut self, plan: SocketPlan, rng: &mut Rng) {
        for _ in 0..rng.between(1, 6) {
            let room = plan.room(rng);
            let Some(key) = self.any(rng) else { continue };
            if rng.chance(5) {
                self.socket(key).nudge();
            } else if room > 0 {
                self.socket(key).read(room);
            }
        }
    }

    /// Adds a client whose watcher has these flags. Also returns the newest number that the daemon has looked up for it.
    /// None: there is no room for its topic.
    pub fn open(
        &mut self,
        client: C,
        opening: &Opening,
        flags: Flags,
        room: usize,
        others: &RefCell<C::Others>,
    ) -> Option<(WatcherKey, u64)> {
        self.wake(others);
        let key = self.watchers.add();
        self.watchers.watchers[key].set(flags);
        if self.sockets.len() <= key.index() {
            self.sockets.resize_with(key.index() + 1, || None);
        }
        let decoder = Decoder::new(opening.framing, opening.since);
        self.sockets[key.index()] = Some(Socket::new(client, decoder, room));
        let port = &mut Port::new(others, &self.inlet, &mut self.sockets);
        let opened = Session::open(opening, context!(self, key, port), |_| {});
        let newest = port.newest;
        let Ok(session) = opened else {
            self.remove(key, others);
            return None;
        };
        self.socket(key).session = Some(session);
        Some((key, newest))
    }

    /// The client sends a message. Returns the newest number that the daemon has looked up for that.
    pub fn send(&mut self, key: WatcherKey, text: &str, others: &RefCell<C::Others>) -> u64 {
        self.wake(others);
        let socket = self.socket(key);
        let mut session = socket.session.take().expect("it is open");
        socket.conversation.say(text);
        others.borrow().trace(|| format!("  client {} sends {text}", socket.client.id()));
        let port = &mut Port::new(others, &self.inlet, &mut self.sockets);
        let verdict = session.handle_message(&Message::Text(text), context!(self, key, port));
        let newest = port.newest;
        assert_eq!(verdict, Verdict::Continue, "{text}");
        self.socket(key).session = Some(session);
        newest
    }

    /// The daemon sends a heartbeat: the client's position, and a protocol ping.
    pub fn ping(&mut self, key: WatcherKey, others: &RefCell<C::Others>) {
        self.wake(others);
        let socket = self.socket(key);
        let session = socket.session.take().expect("it is open");
        others.borrow().trace(|| format!("  client {} is pinged", socket.client.id()));
        let port = &mut Port::new(others, &self.inlet, &mut self.sockets);
        session.beat(context!(self, key, port));
        self.socket(key).session = Some(session);
        self.bury(others);
    }

    /// The daemon drains: `disconnected`, then the close frame.
    pub fn end(&mut self, key: WatcherKey, others: &RefCell<C::Others>) {
        self.wake(others);
        let socket = self.socket(key);
        socket.is_ending = true;
        let session = socket.session.take().expect("it is open");
        others.borrow().trace(|| format!("  client {} is closed", socket.client.id()));
        let port = &mut Port::new(others, &self.inlet, &mut self.sockets);
        session.say_goodbye(RETRY_MILLIS, context!(self, key, port));
        self.watchers.enqueue_control(key, |out| frame::write_close(out, 1012, "drain"));
        self.watchers.end(key);
        self.bury(others);
    }
}
