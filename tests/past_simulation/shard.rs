//! One shard of the daemon: the real watchers, inlet and sessions, with sockets that take as much as they like.

use std::cell::RefCell;
use std::io::{self, ErrorKind, IoSlice};

use luxcast::access::rights::Permit;
use luxcast::delivery::keys::WatcherKey;
use luxcast::delivery::sink::Sink;
use luxcast::delivery::watcher::{Flags, Watched};
use luxcast::delivery::watchers::Watchers;
use luxcast::session::context::{SessionContext, Verdict};
use luxcast::session::conversation::Session;
use luxcast::session::endpoint::{Endpoint, Opening};
use luxcast::session::limits::SessionLimits;
use luxcast::stream::link::{Arrival, Inlet};
use luxcast::stream::past::Demand;
use luxcast::wire::client_action::Since;
use luxcast::wire::frame;
use luxcast::wire::framing::Framing;
use luxcast::wire::message_reader::Message;

use crate::client::Client;
use crate::rng::Rng;
use crate::track::Track;
use crate::wish::{TopicId, Wish, job_name};
use crate::world::World;

pub struct Socket {
    pub client: Client,
    /// Bytes that it takes before it is full.
    room: usize,
    /// It was full, so the next read makes an edge.
    wants_edge: bool,
    has_edge: bool,
    pub is_broken: bool,
    is_ending: bool,
    /// It was last seen among those that are served from memory.
    is_live: bool,
    session: Option<Session>,
}

pub struct Shard {
    pub watchers: Watchers,
    limits: SessionLimits,
    inlet: Inlet,
    /// By the watcher's key.
    pub sockets: Vec<Option<Socket>>,
    is_asleep: bool,
    /// Positions of clients when they left.
    pub left_at: Vec<u64>,
    pub events: u64,
    pub gaps: u64,
    /// How often a watcher was found among those that read the past.
    pub readers: u64,
    /// How often memory has overtaken one.
    pub overtaken: u64,
    /// How often one of many jobs was found that waits for a past that it has asked for, and one all of whose jobs are in
    /// the past together.
    pub asked: u64,
    pub together: u64,
}

struct Port<'a> {
    world: &'a RefCell<World>,
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
        self.world.borrow_mut().interleave();
    }

    fn take(&mut self, key: WatcherKey, slices: &[&[u8]]) -> io::Result<usize> {
        self.pass();
        let world = &mut *self.world.borrow_mut();
        let length: usize = slices.iter().map(|slice| slice.len()).sum();
        assert!(length > 0, "nothing is written");
        let socket = self.sockets[key.index()].as_mut().expect("only a watcher's socket is written to");
        if socket.is_broken {
            return Err(ErrorKind::ConnectionReset.into());
        }
        if world.rng.chance(world.plan.interrupted_percent) {
            return Err(ErrorKind::Interrupted.into());
        }
        if socket.room == 0 {
            socket.wants_edge = true;
            return Err(ErrorKind::WouldBlock.into());
        }
        let mut taken = length.min(socket.room);
        if world.rng.chance(world.plan.short_percent) {
            taken = world.rng.between(1, taken);
        }
        socket.room -= taken;
        if taken < length {
            socket.wants_edge = true;
            socket.room = 0;
        }
        let sight = world.sight();
        let mut left = taken;
        for slice in slices {
            let part = left.min(slice.len());
            socket.client.receive(&slice[..part], &sight, |text| world.trace(|| text));
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
        let slices: Vec<&[u8]> = slices.iter().map(|slice| &**slice).collect();
        let result = self.take(watcher, &slices);
        self.pass();
        result
    }

    fn stage(&mut self, slices: &[IoSlice<'_>], _: usize) -> bool {
        self.pass();
        let world = &mut *self.world.borrow_mut();
        let can = world.rng.chance(world.plan.stage_percent);
        if can {
            self.staged = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
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
        self.world.borrow_mut().rng.below(1_000_000) as u64
    }

    fn published(&mut self) -> u64 {
        self.pass();
        self.newest = self.world.borrow().published();
        self.pass();
        self.newest
    }

    fn hold_history(&mut self) {
        self.pass();
    }

    fn next_arrival(&mut self) -> Option<Arrival> {
        self.pass();
        self.inlet.next()
    }

    fn is_time_up(&mut self) -> bool {
        self.pass();
        let world = &mut *self.world.borrow_mut();
        world.rng.chance(world.plan.time_up_percent)
    }
}

macro_rules! port {
    ($shard:ident, $world:ident) => {
        &mut Port {
            world: $world,
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

impl Shard {
    pub fn new(watchers: Watchers, inlet: Inlet) -> Self {
        Self {
            watchers,
            limits: limits(),
            inlet,
            sockets: Vec::new(),
            is_asleep: false,
            left_at: Vec::new(),
            events: 0,
            gaps: 0,
            readers: 0,
            overtaken: 0,
            asked: 0,
            together: 0,
        }
    }

    /// Whether the shard would run: it is awake, was woken, a socket has an edge for it, or it has to send of the past.
    pub fn is_runnable(&self, world: &RefCell<World>) -> bool {
        let has_edge = || self.sockets.iter().flatten().any(|socket| socket.has_edge);
        let is_woken = world.borrow().is_woken(self.watchers.shard);
        !self.is_asleep || is_woken || has_edge() || self.watchers.has_past_to_send()
    }

    /// One turn of the shard's loop, up to the point where it would sleep.
    pub fn turn(&mut self, world: &RefCell<World>) {
        self.wake(world);
        world.borrow_mut().note_look(self.watchers.shard);
        for key in self.keys() {
            let socket = self.socket(key);
            if socket.has_edge {
                socket.has_edge = false;
                self.watchers.handle_writable(key);
                world.borrow_mut().interleave();
            }
        }
        self.watchers.flush(port!(self, world));
        let rests = {
            let world = &mut *world.borrow_mut();
            world.rng.chance(world.plan.rest_percent)
        };
        if self.watchers.has_past_to_send() && !rests {
            self.watchers.flush_past(port!(self, world));
        }
        self.bury(world);
        world.borrow_mut().interleave();
        self.report_past(world);
        world.borrow_mut().interleave();
        self.watchers.assert_nobody_forgotten();
        if !self.watchers.is_busy() {
            self.check_edges();
            if self.inlet.fall_asleep() {
                world.borrow().trace(|| format!("  shard {} sleeps", self.watchers.shard));
                self.is_asleep = true;
            } else {
                world.borrow_mut().interleave();
                self.inlet.wake_up();
            }
        }
        world.borrow_mut().check_windows();
    }

    /// What is reported is what watchers wait for and read.
    fn report_past(&mut self, world: &RefCell<World>) {
        let is_new = self.watchers.report_past();
        let Demand { waiting, reading, watchers, .. } = self.watchers.reported_past();
        if is_new {
            let world = &mut *world.borrow_mut();
            world.thread.is_woken = true;
            world.trace(|| {
                format!("  shard {} reports {:?}", self.watchers.shard, self.watchers.reported_past())
            });
        }
        let of_past = Flags::IN_PAST | Flags::READS_PAST;
        let keys = self.keys().into_iter().filter(|&key| self.watchers.watchers[key].is(of_past));
        let (many, one): (Vec<_>, Vec<_>) =
            keys.partition(|&key| self.watchers.watchers[key].is(Flags::READS_PAST));
        let lowest_of = |keys: &[WatcherKey]| keys.iter().map(|&key| self.watchers.position(key)).min();
        let lowest = waiting.into_iter().chain(reading).min();
        assert_eq!(watchers as usize, many.len() + one.len());
        if many.is_empty() {
            assert_eq!(lowest, lowest_of(&one));
        } else {
            // Of many jobs, those that wait may be before those that have their turn.
            let least = lowest_of(&many).into_iter().chain(lowest_of(&one)).min();
            assert!(lowest >= least && lowest_of(&one).is_none_or(|one| lowest <= Some(one)));
        }
        self.readers += watchers;
        for (key, watcher) in self.watchers.watchers.iter() {
            let socket = self.sockets[key.index()].as_mut().expect("each watcher has a socket");
            let was_live = std::mem::replace(&mut socket.is_live, !watcher.is(of_past));
            self.overtaken += u64::from(was_live && !socket.is_live);
            if let Watched::MultiJob(many) = &watcher.watched
                && many.reads_past()
            {
                self.asked += u64::from(many.is_replaying());
                self.together += u64::from(!many.is_replaying() && many.len() > 1);
            }
        }
    }

    fn wake(&mut self, world: &RefCell<World>) {
        if self.is_asleep {
            world.borrow().trace(|| format!("  shard {} wakes", self.watchers.shard));
            self.inlet.wake_up();
            self.is_asleep = false;
        }
        world.borrow_mut().clear_woken(self.watchers.shard);
    }

    /// Checks the edge-trigger law: unsent bytes wait for an edge.
    fn check_edges(&self) {
        for (key, watcher) in self.watchers.watchers.iter() {
            // One that reads the past may have its turn with that.
            let waits = Flags::BLOCKED | Flags::BROKEN | Flags::QUEUED;
            let is_stuck = watcher.waiting() > 0 && !watcher.is(waits);
            assert!(!is_stuck, "watcher {key:?} has bytes to send and waits for nothing");
            let socket = self.sockets[key.index()].as_ref().expect("each watcher has a socket");
            let waits = socket.wants_edge || socket.has_edge;
            assert!(!watcher.is(Flags::BLOCKED) || waits, "watcher {key:?} waits for no edge");
        }
    }

    /// Removes the watchers that are gone.
    fn bury(&mut self, world: &RefCell<World>) {
        for key in std::mem::take(&mut self.watchers.gone) {
            let watcher = self.watchers.watchers.get(key);
            if watcher.is_some_and(|watcher| watcher.is(Flags::BROKEN | Flags::ENDED)) {
                let socket = self.socket(key);
                assert!(socket.is_broken || socket.client.is_closed, "it is gone without its end");
                self.remove(key, world);
            }
        }
    }

    /// The client is gone, which wakes the shard.
    pub fn hang_up(&mut self, key: WatcherKey, world: &RefCell<World>) {
        self.wake(world);
        self.remove(key, world);
    }

    fn remove(&mut self, key: WatcherKey, world: &RefCell<World>) {
        self.watchers.remove(key);
        let socket = self.sockets[key.index()].take().expect("each watcher has a socket");
        world.borrow().trace(|| format!("  client {} is gone", socket.client.id));
        self.left_at.extend(socket.client.position);
        self.events += socket.client.events;
        self.gaps += socket.client.gaps;
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

    pub fn socket(&mut self, key: WatcherKey) -> &mut Socket {
        self.sockets[key.index()].as_mut().expect("each watcher has a socket")
    }

    pub fn join(
        &mut self,
        id: usize,
        (topic, since, wish): (TopicId, Since, Wish),
        room: usize,
        world: &RefCell<World>,
    ) {
        self.wake(world);
        world.borrow().trace(|| {
            format!("  shard {}: client {id} joins {topic:?} since {since:?}: {wish:?}", self.watchers.shard)
        });
        let endpoint = match topic {
            TopicId::All => Endpoint::Events,
            TopicId::Flow(_) => Endpoint::FlowMonitor(topic.name()),
            TopicId::Job(_) => Endpoint::JobMonitor(topic.name()),
        };
        let client = Client::new(id, false, wish);
        let (key, newest) = self.open(client, endpoint, since, room, world);
        let track = self.track(topic, since, newest, world);
        self.socket(key).client.expect(track);
    }

    /// A client for many jobs, of which it names none yet.
    pub fn join_many(&mut self, id: usize, wish: Wish, room: usize, world: &RefCell<World>) {
        self.wake(world);
        world
            .borrow()
            .trace(|| format!("  shard {}: client {id} joins for many jobs: {wish:?}", self.watchers.shard));
        let client = Client::new(id, true, wish);
        self.open(client, Endpoint::MultiJob, Since::Now, room, world);
    }

    fn track(&self, topic: TopicId, since: Since, newest: u64, world: &RefCell<World>) -> Track {
        let world = world.borrow();
        Track::new(topic, since, newest, world.memory.directory.whole_from(), &world.stream)
    }

    /// Returns the newest number that it was told of, too.
    fn open(
        &mut self,
        client: Client,
        endpoint: Endpoint,
        since: Since,
        room: usize,
        world: &RefCell<World>,
    ) -> (WatcherKey, u64) {
        let wish = client.filters.wish();
        let events = wish.is_only.then(|| wish.names.iter().cloned().collect());
        let framing = Framing::WebSocket;
        let opening = Opening { endpoint, events, since, framing, permit: Permit::Everything };
        let key = self.watchers.add();
        if self.sockets.len() <= key.index() {
            self.sockets.resize_with(key.index() + 1, || None);
        }
        self.sockets[key.index()] = Some(Socket {
            client,
            room,
            wants_edge: false,
            has_edge: false,
            is_broken: false,
            is_ending: false,
            is_live: false,
            session: None,
        });
        let port = port!(self, world);
        let opened = Session::open(&opening, context!(self, key, port), |_| {});
        let newest = port.newest;
        let socket = self.socket(key);
        socket.session = opened.ok();
        assert!(socket.session.is_some(), "there is room for all");
        (key, newest)
    }

    pub fn subscribe(&mut self, key: WatcherKey, job: usize, since: Since, world: &RefCell<World>) {
        if self.watchers.is_subscribed(key, &job_name(job)) {
            return;
        }
        let since_text = match since {
            Since::Now => "now".to_owned(),
            Since::Start => "start".to_owned(),
            Since::After(seq) => seq.to_string(),
            Since::Last(count) => format!("-{count}"),
        };
        let text = format!(r#"{{"type":"subscribe","job_id":"{}","since":"{since_text}"}}"#, job_name(job));
        let newest = self.send(key, &text, world);
        let track = self.track(TopicId::Job(job), since, newest, world);
        self.socket(key).client.expect(track);
    }

    pub fn unsubscribe(&mut self, key: WatcherKey, job: usize, world: &RefCell<World>) {
        if self.watchers.is_subscribed(key, &job_name(job)) {
            self.send(key, &format!(r#"{{"type":"unsubscribe","job_id":"{}"}}"#, job_name(job)), world);
        }
    }

    /// The client sends a message. Returns the newest number that the daemon has looked up for that.
    fn send(&mut self, key: WatcherKey, text: &str, world: &RefCell<World>) -> u64 {
        self.wake(world);
        let socket = self.socket(key);
        let mut session = socket.session.take().expect("it is open");
        world.borrow().trace(|| format!("  client {} sends {text}", socket.client.id));
        let port = port!(self, world);
        let verdict = session.handle_message(&Message::Text(text), context!(self, key, port));
        assert_eq!(verdict, Verdict::Continue, "{text}");
        let newest = port.newest;
        self.socket(key).session = Some(session);
        newest
    }

    /// The client changes its filter with this message, and wants `wish` from then on.
    pub fn change(&mut self, key: WatcherKey, text: &str, wish: Wish, world: &RefCell<World>) {
        self.send(key, text, world);
        let client = &self.socket(key).client;
        // Each of many jobs has its own place.
        let limit = if client.is_many { world.borrow().published() } else { self.watchers.position(key) };
        self.socket(key).client.filters.change(limit, wish);
        self.bury(world);
    }

    /// The daemon sends a heartbeat: the client's position, and a protocol ping.
    pub fn ping(&mut self, key: WatcherKey, world: &RefCell<World>) {
        self.wake(world);
        let session = self.socket(key).session.take().expect("it is open");
        session.beat(context!(self, key, port!(self, world)));
        self.socket(key).session = Some(session);
        self.bury(world);
    }

    /// The daemon drains: `disconnected`, then the close frame.
    pub fn end(&mut self, key: WatcherKey, world: &RefCell<World>) {
        self.wake(world);
        let socket = self.socket(key);
        socket.is_ending = true;
        let session = socket.session.take().expect("it is open");
        session.say_goodbye(500, context!(self, key, port!(self, world)));
        self.watchers.enqueue_control(key, |out| frame::write_close(out, 1012, "drain"));
        self.watchers.end(key);
        self.bury(world);
    }

    /// Once all is at rest and read: each watcher is at the newest event, and gets it from memory.
    pub fn check_rest(&mut self, world: &RefCell<World>) {
        let published = world.borrow().published();
        for key in self.keys() {
            let watcher = &self.watchers.watchers[key];
            if watcher.is(Flags::ENDING | Flags::BROKEN) {
                continue;
            }
            let is_behind = watcher.is(Flags::IN_PAST | Flags::READS_PAST | Flags::BLOCKED);
            let id = self.socket(key).client.id;
            assert!(!is_behind, "client {id} waits when all is at rest");
            self.ping(key, world);
            if let Some(socket) = &mut self.sockets[key.index()] {
                socket.client.finish(&world.borrow().sight());
                let position = self.watchers.position(key);
                assert!(position >= published, "client {id} is at {position} when all is at rest");
            }
        }
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
