//! One shard of the daemon: the real watchers and inlet, sockets that take what they like, and a session of a
//! few lines for each client.

use std::cell::RefCell;
use std::io::{self, ErrorKind, IoSlice};

use luxcast::hub::filter::Filter;
use luxcast::hub::outlet::Outlet;
use luxcast::hub::watcher::{BLOCKED, BROKEN, ENDED, ENDING};
use luxcast::hub::watchers::Watchers;
use luxcast::stream::link::{Arrival, Inlet};
use luxcast::stream::topic::TopicKey;
use luxcast::wire::action::Since;
use luxcast::wire::{frame, notice};

use crate::client::{Client, Kind};
use crate::feed::Feed;
use crate::oracle::{TopicId, Wish};
use crate::rng::Rng;

pub struct Socket {
    pub client: Client,
    /// Bytes that it takes before it is full.
    room: usize,
    /// It was full: the next read makes an edge.
    wants_edge: bool,
    has_edge: bool,
    pub is_broken: bool,
    is_ending: bool,
    filter: Filter,
    /// What it watches, in which life of the topic.
    pub watched: Vec<(TopicId, TopicKey)>,
}

pub struct Shard {
    pub watchers: Watchers,
    inlet: Inlet,
    /// By the watcher's key.
    pub sockets: Vec<Option<Socket>>,
    is_asleep: bool,
    /// Positions that clients had when they went.
    pub left_at: Vec<u64>,
    pub events: u64,
    pub gaps: u64,
}

struct Port<'a> {
    feed: &'a RefCell<Feed>,
    inlet: &'a Inlet,
    sockets: &'a mut [Option<Socket>],
    staged: Vec<u8>,
    calls: usize,
}

/// Calls of the outlet in one turn: more means that it never ends.
const CALLS_MAX: usize = 200_000;

impl Port<'_> {
    fn pass(&mut self) {
        self.calls += 1;
        assert!(self.calls < CALLS_MAX, "a turn that never ends");
        self.feed.borrow_mut().interleave();
    }

    fn take(&mut self, key: u32, slices: &[&[u8]]) -> io::Result<usize> {
        self.pass();
        let feed = &mut *self.feed.borrow_mut();
        let length: usize = slices.iter().map(|slice| slice.len()).sum();
        assert!(length > 0, "nothing is written");
        let socket = self.sockets[key as usize].as_mut().expect("only a watcher's socket is written to");
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

impl Outlet for Port<'_> {
    fn write(&mut self, watcher: u32, bytes: &[u8]) -> io::Result<usize> {
        let result = self.take(watcher, &[bytes]);
        self.pass();
        result
    }

    fn write_vectored(&mut self, watcher: u32, slices: &[IoSlice<'_>]) -> io::Result<usize> {
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

    fn write_staged(&mut self, watcher: u32) -> io::Result<usize> {
        let staged = std::mem::take(&mut self.staged);
        let result = self.take(watcher, &[&staged]);
        self.staged = staged;
        self.pass();
        result
    }

    fn cpu_nanos(&mut self) -> u64 {
        // Either way may seem the cheaper one at any time.
        self.feed.borrow_mut().rng.below(1_000_000) as u64
    }

    fn published(&mut self) -> u64 {
        self.pass();
        let published = self.feed.borrow().published();
        self.pass();
        published
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
        }
    };
}

impl Shard {
    pub fn new(watchers: Watchers, inlet: Inlet) -> Self {
        Self {
            watchers,
            inlet,
            sockets: Vec::new(),
            is_asleep: false,
            left_at: Vec::new(),
            events: 0,
            gaps: 0,
        }
    }

    /// The daemon was started anew: everybody is gone.
    pub fn restart(&mut self, watchers: Watchers, inlet: Inlet, feed: &RefCell<Feed>) {
        for key in 0..self.sockets.len() as u32 {
            if self.sockets[key as usize].is_some() {
                self.remove(key, feed);
            }
        }
        self.watchers = watchers;
        self.inlet = inlet;
        self.sockets.clear();
        self.is_asleep = false;
    }

    /// Whether the shard would run: it does not sleep, was woken, or a socket has something for it.
    pub fn is_runnable(&self, feed: &RefCell<Feed>) -> bool {
        let has_edge = || self.sockets.iter().flatten().any(|socket| socket.has_edge);
        !self.is_asleep || feed.borrow().is_woken[self.watchers.shard] || has_edge()
    }

    /// One turn of the shard's loop, up to where it would sleep.
    pub fn turn(&mut self, feed: &RefCell<Feed>) {
        self.wake(feed);
        for key in 0..self.sockets.len() {
            if let Some(socket) = self.sockets[key].as_mut().filter(|socket| socket.has_edge) {
                socket.has_edge = false;
                self.watchers.handle_writable(key as u32);
                feed.borrow_mut().interleave();
            }
        }
        self.watchers.flush(port!(self, feed));
        self.bury(feed);
        feed.borrow_mut().interleave();
        if !self.watchers.is_busy() {
            self.check_rest();
            if self.inlet.fall_asleep() {
                feed.borrow().trace(|| format!("  shard {} sleeps", self.watchers.shard));
                self.is_asleep = true;
            } else {
                feed.borrow_mut().interleave();
                self.inlet.wake_up();
            }
        }
    }

    fn wake(&mut self, feed: &RefCell<Feed>) {
        if self.is_asleep {
            feed.borrow().trace(|| format!("  shard {} wakes", self.watchers.shard));
            self.inlet.wake_up();
            self.is_asleep = false;
        }
        feed.borrow_mut().is_woken[self.watchers.shard] = false;
    }

    /// The edge-trigger law: bytes that wait, wait for an edge.
    fn check_rest(&self) {
        for (key, watcher) in &self.watchers.watchers {
            let is_stuck = watcher.waiting() > 0 && !watcher.is(BLOCKED | BROKEN);
            assert!(!is_stuck, "watcher {key} has bytes to send and waits for nothing");
            let socket = self.sockets[key].as_ref().expect("each watcher has a socket");
            let waits = socket.wants_edge || socket.has_edge;
            assert!(!watcher.is(BLOCKED) || waits, "watcher {key} waits for an edge that will not come");
        }
    }

    /// Forgets the watchers that are gone.
    fn bury(&mut self, feed: &RefCell<Feed>) {
        for key in std::mem::take(&mut self.watchers.gone) {
            let watcher = self.watchers.watchers.get(key as usize);
            if watcher.is_some_and(|watcher| watcher.is(BROKEN | ENDED)) {
                let socket = self.sockets[key as usize].as_ref().expect("each watcher has a socket");
                assert!(
                    socket.is_broken || socket.client.is_closed,
                    "client {} has no end",
                    socket.client.id
                );
                self.remove(key, feed);
            }
        }
    }

    pub fn remove(&mut self, key: u32, feed: &RefCell<Feed>) {
        self.watchers.remove(key);
        let socket = self.sockets[key as usize].take().expect("each watcher has a socket");
        feed.borrow().trace(|| format!("  client {} is gone", socket.client.id));
        self.left_at.extend(socket.client.position);
        self.events += socket.client.events;
        self.gaps += socket.client.gaps;
    }

    pub fn count(&self) -> usize {
        self.sockets.iter().flatten().count()
    }

    /// Some client's key that is still fully there.
    pub fn any(&self, rng: &mut Rng) -> Option<u32> {
        let is_open = |key: &usize| {
            self.sockets[*key].as_ref().is_some_and(|socket| !socket.is_ending && !socket.is_broken)
        };
        let keys: Vec<usize> = (0..self.sockets.len()).filter(is_open).collect();
        (!keys.is_empty()).then(|| *rng.pick(&keys) as u32)
    }

    pub fn socket(&mut self, key: u32) -> &mut Socket {
        self.sockets[key as usize].as_mut().expect("each watcher has a socket")
    }

    fn add(&mut self, id: usize, kind: Kind, wish: Wish, filter: Filter, room: usize) -> u32 {
        let key = self.watchers.add();
        if self.sockets.len() <= key as usize {
            self.sockets.resize_with(key as usize + 1, || None);
        }
        self.sockets[key as usize] = Some(Socket {
            client: Client::new(id, kind, wish),
            room,
            wants_edge: false,
            has_edge: false,
            is_broken: false,
            is_ending: false,
            filter,
            watched: Vec::new(),
        });
        key
    }

    /// A client of one topic. False: there is no room for its topic.
    #[allow(clippy::too_many_arguments)]
    pub fn join(
        &mut self,
        id: usize,
        topic: TopicId,
        wish: Wish,
        filter: Filter,
        since: Since,
        room: usize,
        feed: &RefCell<Feed>,
    ) -> bool {
        self.wake(feed);
        let (kind, name) = {
            let feed = feed.borrow();
            feed.trace(|| {
                format!(
                    "  shard {}: client {id} joins {topic} since {since:?}: {wish:?}",
                    self.watchers.shard
                )
            });
            (feed.oracle.topics[topic].kind, feed.oracle.topics[topic].name.clone())
        };
        let key = self.add(id, Kind::One, wish.clone(), filter.clone(), room);
        let mut expected = None;
        let published = || ask_published(feed);
        let wanted = luxcast::hub::watchers::Wish { kind, name: &name, filter, since };
        let result = self.watchers.watch(key, wanted, published, |found, newest, _, out| {
            let moment = feed.borrow().moment(found, newest);
            let join = feed.borrow().oracle.join(topic, &moment, since, &wish);
            feed.borrow().trace(|| format!("    expects {join:?}"));
            expected = Some((newest, found.key, join));
            feed.borrow_mut().interleave();
            notice::connected(out, &luxcast::wire::stamp::Stamp::from_unix_millis(0), newest);
        });
        if result.is_err() {
            self.remove(key, feed);
            return false;
        }
        let (newest, life, join) = expected.expect("it was greeted");
        let socket = self.socket(key);
        socket.client.expect_join(topic, newest, join);
        socket.watched.push((topic, life));
        true
    }

    /// A client of many jobs, of none yet.
    pub fn join_many(&mut self, id: usize, wish: Wish, filter: Filter, room: usize, feed: &RefCell<Feed>) {
        self.wake(feed);
        feed.borrow()
            .trace(|| format!("  shard {}: client {id} joins for many jobs: {wish:?}", self.watchers.shard));
        let key = self.add(id, Kind::Many, wish, filter.clone(), room);
        self.watchers.watch_many(key, filter);
        let published = ask_published(feed);
        self.watchers.say(key, |out| notice::multi_connected(out, published));
    }

    pub fn subscribe(&mut self, key: u32, topic: TopicId, since: Since, feed: &RefCell<Feed>) {
        self.wake(feed);
        let name = feed.borrow().oracle.topics[topic].name.clone();
        if self.watchers.is_subscribed(key, &name) {
            self.watchers.say(key, |out| notice::already_subscribed(out, &name));
            return;
        }
        let wish = self.socket(key).client.wish.clone();
        let id = self.socket(key).client.id;
        feed.borrow().trace(|| format!("  client {id} subscribes {name} since {since:?}"));
        let mut expected = None;
        let published = || ask_published(feed);
        let result = self.watchers.subscribe_job(key, &name, since, published, |newest, out| {
            let found = feed.borrow().find(topic).expect("it is watched");
            let moment = feed.borrow().moment(&found, newest);
            let join = feed.borrow().oracle.join(topic, &moment, since, &wish);
            feed.borrow().trace(|| format!("    expects {join:?}"));
            expected = Some((newest, found.key, join));
            feed.borrow_mut().interleave();
            notice::subscribed(out, &name, "s", newest);
        });
        if result.is_ok() {
            let (newest, life, join) = expected.expect("it was greeted");
            let socket = self.socket(key);
            socket.client.expect_join(topic, newest, join);
            socket.watched.push((topic, life));
        }
    }

    pub fn unsubscribe(&mut self, key: u32, topic: TopicId, feed: &RefCell<Feed>) {
        self.wake(feed);
        let name = feed.borrow().oracle.topics[topic].name.clone();
        let id = self.socket(key).client.id;
        feed.borrow().trace(|| format!("  client {id} unsubscribes {name}"));
        let was_there = self.watchers.unsubscribe_job(key, &name);
        self.watchers.say(key, |out| match was_there {
            true => notice::unsubscribed(out, &name),
            false => notice::not_subscribed(out, &name),
        });
        self.socket(key).watched.retain(|&(watched, _)| watched != topic);
    }

    /// A filter change, as a session does it.
    pub fn change(&mut self, key: u32, change: impl FnOnce(&mut Wish, &mut Filter), feed: &RefCell<Feed>) {
        self.wake(feed);
        self.watchers.settle(key, port!(self, feed));
        let socket = self.socket(key);
        change(&mut socket.client.wish, &mut socket.filter);
        feed.borrow().trace(|| format!("  client {} wants {:?}", socket.client.id, socket.client.wish));
        socket.client.expect_change(feed.borrow().published());
        let filter = socket.filter.clone();
        self.watchers.say(key, |out| notice::confirmed(out, "subscribe", "[]"));
        self.watchers.set_filter(key, filter);
        self.bury(feed);
    }

    /// A heartbeat: where the client stands, and a protocol ping.
    pub fn ping(&mut self, key: u32, feed: &RefCell<Feed>) {
        self.wake(feed);
        self.watchers.settle(key, port!(self, feed));
        let (position, now) = (self.watchers.position(key), self.watchers.now);
        let id = self.socket(key).client.id;
        feed.borrow().trace(|| format!("  client {id} is pinged at {position}"));
        self.watchers.say(key, |out| {
            notice::ping(out, &now, position);
            frame::write_ping(out, b"");
        });
        self.bury(feed);
    }

    /// Control bytes that change nothing.
    pub fn chat(&mut self, key: u32, feed: &RefCell<Feed>) {
        self.wake(feed);
        self.watchers.say(key, notice::pong);
    }

    pub fn chat_with_all(&mut self, feed: &RefCell<Feed>) {
        for key in 0..self.sockets.len() {
            if self.sockets[key].as_ref().is_some_and(|socket| !socket.is_ending) {
                self.chat(key as u32, feed);
            }
        }
    }

    /// The daemon drains: `disconnected`, then the close frame.
    pub fn end(&mut self, key: u32, feed: &RefCell<Feed>) {
        self.wake(feed);
        self.watchers.settle(key, port!(self, feed));
        let (position, now) = (self.watchers.position(key), self.watchers.now);
        let socket = self.socket(key);
        socket.is_ending = true;
        feed.borrow().trace(|| format!("  client {} is closed at {position}", socket.client.id));
        self.watchers.say(key, |out| {
            notice::disconnected(out, &now, position, "drain", 500);
            frame::write_close(out, 1012, "drain");
        });
        self.watchers.end(key);
        self.bury(feed);
    }

    /// Every client asks for a heartbeat with everything read: each stands at the newest event.
    pub fn check_positions(&mut self, feed: &RefCell<Feed>) {
        for key in 0..self.sockets.len() as u32 {
            if self.sockets[key as usize].is_none()
                || self.watchers.watchers[key as usize].is(ENDING | BROKEN)
            {
                continue;
            }
            self.ping(key, feed);
            if let Some(socket) = &self.sockets[key as usize] {
                let position = self.watchers.position(key);
                let is_right = socket.is_broken || socket.wants_edge || position == feed.borrow().published();
                assert!(is_right, "client {} stands at {position} when all is quiet", socket.client.id);
            }
        }
    }
}

fn ask_published(feed: &RefCell<Feed>) -> u64 {
    feed.borrow_mut().interleave();
    let published = feed.borrow().published();
    feed.borrow_mut().interleave();
    published
}

impl Socket {
    /// The client reads: there is room again.
    pub fn read(&mut self, bytes: usize) {
        self.room = self.room.saturating_add(bytes);
        if self.wants_edge {
            self.wants_edge = false;
            self.has_edge = true;
        }
    }

    /// An edge that means nothing.
    pub fn nudge(&mut self) {
        self.has_edge |= !self.wants_edge;
    }
}
