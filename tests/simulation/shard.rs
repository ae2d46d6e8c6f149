//! One shard of the daemon: the real watchers, inlet and sessions, with sockets that take as much as they like.

use std::cell::RefCell;
use std::io::{self, ErrorKind, IoSlice};

use luxcast::access::rights::Permit;
use luxcast::delivery::keys::WatcherKey;
use luxcast::delivery::progress::Patience;
use luxcast::delivery::sink::Sink;
use luxcast::delivery::slow_consumers::SlowConsumers;
use luxcast::delivery::watcher::Flags;
use luxcast::delivery::watchers::Watchers;
use luxcast::session::context::{SessionContext, Verdict};
use luxcast::session::conversation::Session;
use luxcast::session::endpoint::{Endpoint, Opening};
use luxcast::session::limits::SessionLimits;
use luxcast::stream::link::{Arrival, Inlet};
use luxcast::stream::topic::TopicKind;
use luxcast::stream::topic_key::TopicKey;
use luxcast::wire::client_action::Since;
use luxcast::wire::frame;
use luxcast::wire::framing::Framing;
use luxcast::wire::message_reader::Message;

use crate::client::{Client, Kind};
use crate::feed::Feed;
use crate::oracle::{TopicId, TopicRecord, Wish};
use crate::rng::Rng;

pub struct Socket {
    pub client: Client,
    /// Bytes that it takes before it is full.
    room: usize,
    /// It was full, so the next read makes an edge.
    wants_edge: bool,
    has_edge: bool,
    pub is_broken: bool,
    is_ending: bool,
    session: Option<Session>,
    /// What it watches, and in which life of the topic.
    pub watched: Vec<(TopicId, TopicKey)>,
}

pub struct Shard {
    pub watchers: Watchers,
    limits: SessionLimits,
    inlet: Inlet,
    /// By the watcher's key.
    pub sockets: Vec<Option<Socket>>,
    is_asleep: bool,
    slow_consumers: SlowConsumers,
    /// Positions of clients when they left.
    pub left_at: Vec<u64>,
    pub events: u64,
    pub gaps: u64,
    pub hole_gaps: u64,
    pub stood: u64,
}

struct Port<'a> {
    feed: &'a RefCell<Feed>,
    inlet: &'a Inlet,
    sockets: &'a mut [Option<Socket>],
    staged: Vec<u8>,
    calls: usize,
    /// The last answer to [`Sink::published`].
    newest: u64,
}

/// Calls of the sink in one turn, at most: a turn with more never ends.
const CALLS_MAX: usize = 200_000;

impl Port<'_> {
    fn pass(&mut self) {
        self.calls += 1;
        assert!(self.calls < CALLS_MAX, "a turn that never ends");
        self.feed.borrow_mut().interleave();
    }

    fn take(&mut self, key: WatcherKey, slices: &[&[u8]]) -> io::Result<usize> {
        self.pass();
        let feed = &mut *self.feed.borrow_mut();
        let length: usize = slices.iter().map(|slice| slice.len()).sum();
        assert!(length > 0, "nothing is written");
        let socket = self.sockets[key.index()].as_mut().expect("only a watcher's socket is written to");
        if socket.is_broken {
            return Err(ErrorKind::ConnectionReset.into());
        }
        if feed.rng.chance(feed.plan.interrupted_percent) {
            return Err(ErrorKind::Interrupted.into());
        }
        if socket.room == 0 {
            socket.wants_edge = true;
            return Err(ErrorKind::WouldBlock.into());
        }
        let mut taken = length.min(socket.room);
        if feed.rng.chance(feed.plan.short_percent) {
            taken = feed.rng.between(1, taken);
        }
        socket.room -= taken;
        if taken < length {
            socket.wants_edge = true;
            socket.room = 0;
        }
        feed.trace(|| format!("        client {} takes {taken} of {length}", socket.client.id));
        let mut left = taken;
        for slice in slices {
            let part = left.min(slice.len());
            socket.client.receive(&slice[..part], feed);
            left -= part;
        }
        Ok(taken)
    }
}

impl Sink for Port<'_> {
    fn write(&mut self, watcher: WatcherKey, bytes: &[u8]) -> io::Result<usize> {
        let result = self.take(watcher, &[bytes]);
        self.pass();
        result
    }

    fn write_vectored(&mut self, watcher: WatcherKey, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        assert!(slices.len() <= 1024);
        let slices: Vec<&[u8]> = slices.iter().map(|slice| &**slice).collect();
        let result = self.take(watcher, &slices);
        self.pass();
        result
    }

    fn stage(&mut self, slices: &[IoSlice<'_>], bytes: usize) -> bool {
        self.pass();
        let feed = &mut *self.feed.borrow_mut();
        let can = feed.rng.chance(feed.plan.stage_percent);
        if can {
            self.staged = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
            assert_eq!(self.staged.len(), bytes);
        }
        can
    }

    fn write_staged(&mut self, watcher: WatcherKey) -> io::Result<usize> {
        let staged = std::mem::take(&mut self.staged);
        let result = self.take(watcher, &[&staged]);
        self.staged = staged;
        self.pass();
        result
    }

    fn cpu_nanos(&mut self) -> u64 {
        // Either method may seem cheaper at any time.
        self.feed.borrow_mut().rng.below(1_000_000) as u64
    }

    fn published(&mut self) -> u64 {
        self.pass();
        self.newest = self.feed.borrow().published();
        self.pass();
        self.newest
    }

    fn hold_history(&mut self) {
        self.inlet.link.hold();
        self.pass();
    }

    fn next_arrival(&mut self) -> Option<Arrival> {
        self.pass();
        self.inlet.next()
    }

    fn is_time_up(&mut self) -> bool {
        self.pass();
        let feed = &mut *self.feed.borrow_mut();
        feed.rng.chance(feed.plan.time_up_percent)
    }
}

macro_rules! port {
    ($shard:ident, $feed:ident) => {
        &mut Port {
            feed: $feed,
            inlet: &$shard.inlet,
            sockets: &mut $shard.sockets,
            staged: Vec::new(),
            calls: 0,
            newest: 0,
        }
    };
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

/// What a new client asks for.
pub struct Request {
    /// None: many jobs, none of them named yet.
    pub topic: Option<TopicId>,
    pub wish: Wish,
    pub permit: Permit,
    pub since: Since,
    /// It is known to read: under `overrun = wait` it misses nothing.
    pub is_reader: bool,
    pub framing: Framing,
}

impl Shard {
    pub fn new(watchers: Watchers, inlet: Inlet) -> Self {
        Self {
            watchers,
            limits: limits(),
            inlet,
            sockets: Vec::new(),
            is_asleep: false,
            slow_consumers: SlowConsumers::default(),
            left_at: Vec::new(),
            events: 0,
            gaps: 0,
            hole_gaps: 0,
            stood: 0,
        }
    }

    /// The daemon was restarted: all clients are gone.
    pub fn restart(&mut self, watchers: Watchers, inlet: Inlet, feed: &RefCell<Feed>) {
        for key in self.keys() {
            self.remove(key, feed);
        }
        self.watchers = watchers;
        self.inlet = inlet;
        self.sockets.clear();
        self.slow_consumers.clear();
        self.is_asleep = false;
    }

    /// Whether the shard would run: it is awake, was woken, or a socket has an edge for it.
    pub fn is_runnable(&self, feed: &RefCell<Feed>) -> bool {
        let has_edge = || self.sockets.iter().flatten().any(|socket| socket.has_edge);
        !self.is_asleep || feed.borrow().is_woken[self.watchers.shard] || has_edge()
    }

    /// One turn of the shard's loop, up to the point where it would sleep.
    pub fn turn(&mut self, feed: &RefCell<Feed>) {
        self.wake(feed);
        for key in self.keys() {
            let socket = self.socket(key);
            if socket.has_edge {
                socket.has_edge = false;
                self.watchers.handle_writable(key);
                feed.borrow_mut().interleave();
            }
        }
        self.watchers.flush(port!(self, feed));
        self.bury(feed);
        feed.borrow_mut().interleave();
        self.report_needs(feed);
        feed.borrow_mut().interleave();
        if !self.watchers.is_busy() {
            self.check_edges();
            if self.inlet.fall_asleep() {
                feed.borrow().trace(|| format!("  shard {} sleeps", self.watchers.shard));
                self.is_asleep = true;
            } else {
                feed.borrow_mut().interleave();
                self.inlet.wake_up();
            }
        }
    }

    /// Reports what the watchers here need, as the daemon does. None pauses for long.
    fn report_needs(&mut self, feed: &RefCell<Feed>) {
        let is_review = {
            let feed = &mut *feed.borrow_mut();
            feed.plan.is_waiting.then(|| feed.rng.chance(30))
        };
        let Some(is_review) = is_review else { return };
        // Nobody takes a byte, and a review at the beginning of time finds nobody stalled.
        let patience = Patience { check_millis: 0, idle_checks_max: u32::MAX };
        self.slow_consumers.take_in(&mut self.watchers, 0, patience, |_, _| 0);
        if is_review {
            self.slow_consumers.review(&mut self.watchers, 0, patience, |_, _| 0);
        }
        let needs = self.watchers.needs(&self.slow_consumers, 0);
        feed.borrow().trace(|| format!("  shard {}: {needs:?}", self.watchers.shard));
        self.inlet.link.report_needs(needs);
    }

    fn wake(&mut self, feed: &RefCell<Feed>) {
        if self.is_asleep {
            feed.borrow().trace(|| format!("  shard {} wakes", self.watchers.shard));
            self.inlet.wake_up();
            self.is_asleep = false;
        }
        feed.borrow_mut().is_woken[self.watchers.shard] = false;
    }

    /// Checks the edge-trigger law: unsent bytes wait for an edge.
    fn check_edges(&self) {
        for (key, watcher) in self.watchers.watchers.iter() {
            let is_stuck = watcher.waiting() > 0 && !watcher.is(Flags::BLOCKED | Flags::BROKEN);
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
    fn bury(&mut self, feed: &RefCell<Feed>) {
        for key in std::mem::take(&mut self.watchers.gone) {
            let watcher = self.watchers.watchers.get(key);
            if watcher.is_some_and(|watcher| watcher.is(Flags::BROKEN | Flags::ENDED)) {
                let socket = self.sockets[key.index()].as_ref().expect("each watcher has a socket");
                assert!(
                    socket.is_broken || socket.client.is_closed,
                    "client {} is gone without its end",
                    socket.client.id
                );
                self.remove(key, feed);
            }
        }
    }

    pub fn remove(&mut self, key: WatcherKey, feed: &RefCell<Feed>) {
        self.watchers.remove(key);
        self.slow_consumers.remove(key);
        let socket = self.sockets[key.index()].take().expect("each watcher has a socket");
        feed.borrow().trace(|| format!("  client {} is gone", socket.client.id));
        self.left_at.extend(socket.client.position);
        self.events += socket.client.events;
        self.gaps += socket.client.gaps;
        self.hole_gaps += socket.client.hole_gaps;
        self.stood += u64::from(socket.client.stood_at > 0);
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
    fn keys(&self) -> Vec<WatcherKey> {
        self.watchers.watchers.iter().map(|(key, _)| key).collect()
    }

    pub fn socket(&mut self, key: WatcherKey) -> &mut Socket {
        self.sockets[key.index()].as_mut().expect("each watcher has a socket")
    }

    /// Adds a client. False: there is no room for its topic.
    pub fn join(&mut self, id: usize, request: Request, room: usize, feed: &RefCell<Feed>) -> bool {
        self.wake(feed);
        let Request { topic, wish, permit, since, is_reader, framing } = request;
        let endpoint = {
            let feed = feed.borrow();
            feed.trace(|| {
                format!(
                    "  shard {}: client {id} joins {topic:?} since {since:?}: {wish:?}",
                    self.watchers.shard
                )
            });
            endpoint(topic.map(|topic| &feed.oracle.topics[topic]), wish.is_debug)
        };
        let events = wish.is_only.then(|| wish.names.iter().cloned().collect());
        let opening = Opening { endpoint, events, since, framing, permit };
        let kind = if topic.is_some() { Kind::One } else { Kind::Many };
        let key = self.watchers.add();
        if is_reader {
            self.watchers.watchers[key].set(Flags::READS);
        }
        if self.sockets.len() <= key.index() {
            self.sockets.resize_with(key.index() + 1, || None);
        }
        self.sockets[key.index()] = Some(Socket {
            client: Client::new(id, kind, wish.clone(), is_reader).with_framing(framing, since),
            room,
            wants_edge: false,
            has_edge: false,
            is_broken: false,
            is_ending: false,
            session: None,
            watched: Vec::new(),
        });
        let port = port!(self, feed);
        let opened = Session::open(&opening, context!(self, key, port), |_| {});
        let newest = port.newest;
        let Ok(session) = opened else {
            self.remove(key, feed);
            return false;
        };
        self.socket(key).session = Some(session);
        if let Some(topic) = topic {
            self.expect_join(key, topic, newest, since, feed);
        }
        true
    }

    /// Notes what the client must see first. It was given `newest` when it found its place, and nothing has happened
    /// since.
    fn expect_join(
        &mut self,
        key: WatcherKey,
        topic: TopicId,
        newest: u64,
        since: Since,
        feed: &RefCell<Feed>,
    ) {
        let socket = self.socket(key);
        let feed = feed.borrow();
        let found = feed.find(topic).expect("it is watched");
        let moment = feed.moment(&found, newest);
        let join = feed.oracle.join(topic, &moment, since, &socket.client.wish);
        feed.trace(|| format!("    expects {join:?}"));
        socket.client.expect_join(topic, join);
        socket.watched.push((topic, found.key));
    }

    /// The client sends a message. Returns the newest number that the daemon loaded for it.
    fn send(&mut self, key: WatcherKey, text: &str, feed: &RefCell<Feed>) -> u64 {
        self.wake(feed);
        let socket = self.socket(key);
        let mut session = socket.session.take().expect("it is open");
        feed.borrow().trace(|| format!("  client {} sends {text}", socket.client.id));
        let port = port!(self, feed);
        let verdict = session.handle_message(&Message::Text(text), context!(self, key, port));
        let newest = port.newest;
        assert_eq!(verdict, Verdict::Continue, "{text}");
        self.socket(key).session = Some(session);
        newest
    }

    pub fn subscribe(&mut self, key: WatcherKey, topic: TopicId, since: Since, feed: &RefCell<Feed>) {
        let name = feed.borrow().oracle.topics[topic].name.clone();
        let was_there = self.watchers.is_subscribed(key, &name);
        let since_text = match since {
            Since::Now => String::new(),
            Since::Start => r#","since":"start""#.to_owned(),
            Since::After(seq) => format!(r#","since":{seq}"#),
            Since::Last(count) => format!(r#","since":-{count}"#),
        };
        let text = format!(r#"{{"type":"subscribe","job_id":"{name}"{since_text}}}"#);
        let newest = self.send(key, &text, feed);
        if was_there {
            return;
        }
        match self.watchers.is_subscribed(key, &name) {
            true => self.expect_join(key, topic, newest, since, feed),
            // Many refusals with nothing good between them would close the connection.
            false => self.chat(key, feed),
        }
    }

    pub fn unsubscribe(&mut self, key: WatcherKey, topic: TopicId, feed: &RefCell<Feed>) {
        let name = feed.borrow().oracle.topics[topic].name.clone();
        self.send(key, &format!(r#"{{"type":"unsubscribe","job_id":"{name}"}}"#), feed);
        self.socket(key).watched.retain(|&(watched, _)| watched != topic);
    }

    /// The client changes its filter with this message, and wants `wish` from then on.
    pub fn change(&mut self, key: WatcherKey, text: &str, wish: Wish, feed: &RefCell<Feed>) {
        let newest = feed.borrow().published();
        self.send(key, text, feed);
        let published = feed.borrow().published();
        // The new filter holds from a full socket's position on. It may match events that were lost while the old one
        // left them out.
        let is_settled = self.watchers.position(key) >= newest;
        let client = &mut self.socket(key).client;
        client.is_reader &= is_settled;
        client.wish = wish;
        client.expect_change(published);
        self.bury(feed);
    }

    /// The daemon sends a heartbeat: the client's position, and a protocol ping.
    pub fn ping(&mut self, key: WatcherKey, feed: &RefCell<Feed>) {
        self.wake(feed);
        let socket = self.socket(key);
        let session = socket.session.take().expect("it is open");
        feed.borrow().trace(|| format!("  client {} is pinged", socket.client.id));
        session.beat(context!(self, key, port!(self, feed)));
        self.socket(key).session = Some(session);
        self.bury(feed);
    }

    /// The client sends a message that changes nothing.
    pub fn chat(&mut self, key: WatcherKey, feed: &RefCell<Feed>) {
        self.send(key, r#"{"action":"ping"}"#, feed);
    }

    pub fn chat_with_all(&mut self, feed: &RefCell<Feed>) {
        for key in self.keys() {
            if !self.socket(key).is_ending && !self.socket(key).client.is_http() {
                self.chat(key, feed);
            }
        }
    }

    /// The daemon drains: `disconnected`, then the close frame.
    pub fn end(&mut self, key: WatcherKey, feed: &RefCell<Feed>) {
        self.wake(feed);
        let socket = self.socket(key);
        socket.is_ending = true;
        let session = socket.session.take().expect("it is open");
        feed.borrow().trace(|| format!("  client {} is closed", socket.client.id));
        session.say_goodbye(500, context!(self, key, port!(self, feed)));
        self.watchers.enqueue_control(key, |out| frame::write_close(out, 1012, "drain"));
        self.watchers.end(key);
        self.bury(feed);
    }

    /// Sends every client a heartbeat, once everything is read: each must be at the newest event.
    pub fn check_positions(&mut self, feed: &RefCell<Feed>) {
        // An interrupted write is tried again in the next turn, which does not come.
        feed.borrow_mut().plan.interrupted_percent = 0;
        for key in self.keys() {
            if self.watchers.watchers[key].is(Flags::ENDING | Flags::BROKEN) {
                continue;
            }
            self.ping(key, feed);
            if let Some(socket) = &self.sockets[key.index()] {
                let position = self.watchers.position(key);
                let newest = feed.borrow().published();
                let is_standing = position > newest && position <= socket.client.stood_at;
                // A gap that was found just now may have been interrupted.
                let is_late = socket.wants_edge || self.watchers.watchers[key].is(Flags::QUEUED);
                let is_right = socket.is_broken || is_late || position == newest || is_standing;
                assert!(is_right, "client {} is at {position} when all is at rest", socket.client.id);
            }
        }
    }
}

fn endpoint(topic: Option<&TopicRecord>, is_debug: bool) -> Endpoint {
    let Some(TopicRecord { kind, name, .. }) = topic else { return Endpoint::MultiJob };
    match kind {
        TopicKind::All => Endpoint::Events,
        TopicKind::Flow => Endpoint::FlowMonitor(name.clone()),
        TopicKind::Job if is_debug => Endpoint::JobDebug(name.clone()),
        TopicKind::Job => Endpoint::JobMonitor(name.clone()),
    }
}

impl Socket {
    /// The client reads, so there is room again.
    pub fn read(&mut self, bytes: usize) {
        self.room = self.room.saturating_add(bytes);
        if self.wants_edge {
            self.wants_edge = false;
            self.has_edge = true;
        }
    }

    /// Makes an edge without room.
    pub fn nudge(&mut self) {
        self.has_edge |= !self.wants_edge;
    }
}
