//! One shard of the daemon: what a turn of it consists of, and what clients ask of it.

use std::cell::RefCell;

use luxcast::access::rights::Permit;
use luxcast::delivery::keys::WatcherKey;
use luxcast::delivery::watcher::{Flags, Watched};
use luxcast::session::endpoint::{Endpoint, Opening};
use luxcast::stream::past::Demand;
use luxcast::wire::client_action::Since;
use luxcast::wire::framing::Framing;

use crate::client::Client;
use crate::simulated;
use crate::simulated::filter::Filter;
use crate::simulated::others::Others;
use crate::topic::{TopicId, job_name};
use crate::track::Track;
use crate::world::World;

pub type Shard = simulated::shard::Shard<Client>;

/// What is kept for each shard.
#[derive(Default)]
pub struct Notes {
    /// What clients that are gone have seen.
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

/// What a new client asks for.
pub struct Request {
    /// None: many jobs, none of them named yet.
    pub topic: Option<TopicId>,
    pub since: Since,
    pub filter: Filter,
    pub framing: Framing,
}

impl Shard {
    /// One turn of the shard's loop, up to the point where it would sleep.
    pub fn turn(&mut self, world: &RefCell<World>) {
        world.borrow_mut().note_look(self.watchers.shard);
        self.begin_turn(world);
        self.flush(world, |watchers, port| watchers.flush(port));
        let rests = {
            let world = &mut *world.borrow_mut();
            world.rng.chance(world.plan.rest_percent)
        };
        if self.watchers.has_past_to_send() && !rests {
            self.flush(world, |watchers, port| watchers.flush_past(port));
        }
        self.bury(world);
        world.borrow_mut().interleave();
        self.report_past(world);
        world.borrow_mut().interleave();
        self.end_turn(world);
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
        self.notes.readers += watchers;
        for (key, watcher) in self.watchers.watchers.iter() {
            let socket = self.sockets[key.index()].as_mut().expect("each watcher has a socket");
            let is_live = !watcher.is(of_past);
            let was_live = std::mem::replace(&mut socket.client.is_live, is_live);
            self.notes.overtaken += u64::from(was_live && !is_live);
            if let Watched::MultiJob(many) = &watcher.watched
                && many.reads_past()
            {
                self.notes.asked += u64::from(many.is_replaying());
                self.notes.together += u64::from(!many.is_replaying() && many.len() > 1);
            }
        }
    }

    /// The client is gone, which wakes the shard.
    pub fn hang_up(&mut self, key: WatcherKey, world: &RefCell<World>) {
        self.wake(world);
        self.remove(key, world);
    }

    pub fn join(&mut self, id: usize, request: Request, room: usize, world: &RefCell<World>) {
        let Request { topic, since, filter, framing } = request;
        world.borrow().trace(|| {
            format!(
                "  shard {}: client {id} joins {topic:?} since {since:?}, {framing:?}: {filter:?}",
                self.watchers.shard
            )
        });
        let endpoint = match topic {
            None => Endpoint::MultiJob,
            Some(TopicId::All) => Endpoint::Events,
            Some(topic @ TopicId::Flow(_)) => Endpoint::FlowMonitor(topic.name()),
            Some(topic @ TopicId::Job(_)) => Endpoint::JobMonitor(topic.name()),
        };
        let events = filter.asked();
        let opening = Opening { endpoint, events, since, framing, permit: Permit::Everything };
        let client = Client::new(id, topic.is_none(), framing.is_http(), filter);
        let opened = self.open(client, &opening, Flags::empty(), room, world);
        let (key, newest) = opened.expect("there is room for all");
        if let Some(topic) = topic {
            let track = self.track(topic, since, newest, world);
            self.socket(key).client.expect(track);
        }
    }

    fn track(&self, topic: TopicId, since: Since, newest: u64, world: &RefCell<World>) -> Track {
        let world = world.borrow();
        Track::new(topic, since, newest, world.memory.directory.whole_from(), &world.stream)
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

    /// The client changes its filter with this message, and wants `filter` from then on.
    pub fn change(&mut self, key: WatcherKey, text: &str, filter: Filter, world: &RefCell<World>) {
        self.send(key, text, world);
        let client = &self.socket(key).client;
        // Each of many jobs has its own place.
        let limit = if client.is_many { world.borrow().published() } else { self.watchers.position(key) };
        self.socket(key).client.filters.change(limit, filter);
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
                socket.check_rest();
                socket.client.finish(&world.borrow().sight());
                let position = self.watchers.position(key);
                assert!(position >= published, "client {id} is at {position} when all is at rest");
            }
        }
    }
}
