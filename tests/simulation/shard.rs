//! One shard of the daemon: what a turn of it consists of, and what clients ask of it.

use std::cell::RefCell;

use luxcast::access::rights::Permit;
use luxcast::delivery::keys::WatcherKey;
use luxcast::delivery::progress::Patience;
use luxcast::delivery::slow_consumers::SlowConsumers;
use luxcast::delivery::watcher::Flags;
use luxcast::delivery::watchers::Watchers;
use luxcast::session::endpoint::{Endpoint, Opening};
use luxcast::stream::link::Inlet;
use luxcast::stream::topic::TopicKind;
use luxcast::wire::client_action::Since;
use luxcast::wire::framing::Framing;

use crate::client::{Client, Kind};
use crate::feed::Feed;
use crate::oracle::{TopicId, TopicRecord};
use crate::simulated;
use crate::simulated::others::Others;
use crate::wish::Wish;

pub type Shard = simulated::shard::Shard<Client>;

/// What is kept for each shard.
#[derive(Default)]
pub struct Notes {
    pub slow_consumers: SlowConsumers,
    /// What clients that are gone have seen.
    pub seen: Seen,
}

/// What clients have seen.
#[derive(Default, Clone, Copy, Debug)]
pub struct Seen {
    pub events: u64,
    pub gaps: u64,
    /// Gaps for holes alone.
    pub hole_gaps: u64,
    /// Clients that stood at a number that had not come.
    pub stood: u64,
}

impl Seen {
    pub fn add(&mut self, other: Self) {
        self.events += other.events;
        self.gaps += other.gaps;
        self.hole_gaps += other.hole_gaps;
        self.stood += other.stood;
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
    /// The daemon was restarted: all clients are gone.
    pub fn restart(&mut self, watchers: Watchers, inlet: Inlet, feed: &RefCell<Feed>) {
        for key in self.keys() {
            self.remove(key, feed);
        }
        let mut other = Self::new(watchers, inlet);
        other.left_at = std::mem::take(&mut self.left_at);
        other.notes.seen = self.notes.seen;
        *self = other;
    }

    /// One turn of the shard's loop, up to the point where it would sleep.
    pub fn turn(&mut self, feed: &RefCell<Feed>) {
        self.begin_turn(feed);
        self.flush(feed, |watchers, port| watchers.flush(port));
        self.bury(feed);
        feed.borrow_mut().interleave();
        self.report_needs(feed);
        feed.borrow_mut().interleave();
        self.end_turn(feed);
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
        let slow_consumers = &mut self.notes.slow_consumers;
        slow_consumers.take_in(&mut self.watchers, 0, patience, |_, _| 0);
        if is_review {
            slow_consumers.review(&mut self.watchers, 0, patience, |_, _| 0);
        }
        let needs = self.watchers.needs(slow_consumers, 0);
        feed.borrow().trace(|| format!("  shard {}: {needs:?}", self.watchers.shard));
        self.inlet.link.report_needs(needs);
    }

    /// Adds a client, if there is room for its topic.
    pub fn join(&mut self, id: usize, request: Request, room: usize, feed: &RefCell<Feed>) {
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
        let opening = Opening { endpoint, events: wish.filter.asked(), since, framing, permit };
        let kind = if topic.is_some() { Kind::One } else { Kind::Many };
        let client = Client::new(id, (kind, framing.is_http()), wish, is_reader);
        let flags = if is_reader { Flags::READS } else { Flags::empty() };
        let opened = self.open(client, &opening, flags, room, feed);
        if let (Some((key, newest)), Some(topic)) = (opened, topic) {
            self.expect_join(key, topic, newest, since, feed);
        }
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
        let client = &mut self.socket(key).client;
        let feed = feed.borrow();
        let found = feed.find(topic).expect("it is watched");
        let moment = feed.moment(&found, newest);
        let join = feed.oracle.join(topic, &moment, since, &client.wish);
        feed.trace(|| format!("    expects {join:?}"));
        client.expect_join(topic, join);
        client.watched.push((topic, found.key));
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
        self.socket(key).client.watched.retain(|&(watched, _)| watched != topic);
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

    /// The client sends a message that changes nothing.
    pub fn chat(&mut self, key: WatcherKey, feed: &RefCell<Feed>) {
        self.send(key, r#"{"action":"ping"}"#, feed);
    }

    pub fn chat_with_all(&mut self, feed: &RefCell<Feed>) {
        for key in self.keys() {
            if !self.socket(key).is_ending && !self.socket(key).decoder.is_http() {
                self.chat(key, feed);
            }
        }
    }

    /// Sends every client a heartbeat, once everything is read: each must be at the newest event.
    pub fn check_positions(&mut self, feed: &RefCell<Feed>) {
        // An interrupted write is tried again in the next turn, which does not come.
        feed.borrow_mut().plan.sockets.interrupted_percent = 0;
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
