//! One random schedule: clients come, go, read and change their filters, while the sequencer runs between any two of
//! their steps.

use std::cell::RefCell;
use std::sync::Arc;

use luxcast::access::keyring::{Auth, Keyring};
use luxcast::access::rights::Permit;
use luxcast::access::token_file;
use luxcast::delivery::keys::WatcherKey;
use luxcast::delivery::watchers::Watchers;
use luxcast::stream::directory::Directory;
use luxcast::stream::link::link_of;
use luxcast::stream::numbers::SEQ_MIN;
use luxcast::wire::client_action::Since;
use luxcast::wire::framing::Framing;

use crate::client::Kind;
use crate::feed::Feed;
use crate::oracle::{ALL, TopicId};
use crate::plan::Plan;
use crate::shard::{Request, Seen, Shard};
use crate::simulated::filter::Filter;
use crate::simulated::others::Others;
use crate::simulated::rng::Rng;
use crate::wish::Wish;

/// Turns until everything must be at rest.
const TURNS_MAX: usize = 50_000;

/// What schedules did, so that a run can show that it did something.
#[derive(Default, Clone, Copy, Debug)]
pub struct Tally {
    pub lines: u64,
    pub clients: u64,
    pub seen: Seen,
    pub restarts: u64,
    /// Turns that did not begin because of watchers (`overrun = wait`).
    pub waits: u64,
    /// Events of the daemon's own.
    pub own: u64,
}

impl Tally {
    pub fn add(&mut self, other: Tally) {
        self.lines += other.lines;
        self.clients += other.clients;
        self.seen.add(other.seen);
        self.restarts += other.restarts;
        self.waits += other.waits;
        self.own += other.own;
    }
}

pub struct Schedule {
    feed: RefCell<Feed>,
    shards: Vec<Shard>,
    rng: Rng,
    plan: Plan,
    clients: usize,
    restarts: u64,
    /// Everything but `debug`.
    no_breakpoints: Permit,
}

/// Runs the schedule of a seed. Panics if the core breaks a promise.
pub fn run(seed: u64, is_tracing: bool) -> Tally {
    let mut rng = Rng::new(seed);
    let plan = Plan::new(&mut rng);
    run_with(plan, rng, is_tracing)
}

/// Runs the schedule that these choices make: first its kind, then its operations. It is short, since a fuzzer learns
/// from many.
pub fn run_choices(choices: &[u8]) -> Tally {
    let mut rng = Rng::of_choices(choices);
    let plan = Plan::new(&mut rng).shortened();
    run_with(plan, rng, false)
}

fn run_with(plan: Plan, rng: Rng, is_tracing: bool) -> Tally {
    let mut schedule = Schedule::new(plan, rng);
    schedule.feed.get_mut().is_tracing = is_tracing;
    schedule.feed.borrow().trace(|| format!("{:#?}", schedule.plan));
    for _ in 0..schedule.plan.crowd {
        schedule.join_crowd();
    }
    for _ in 0..schedule.plan.operations {
        schedule.operate();
    }
    schedule.finish()
}

fn no_breakpoints() -> Permit {
    let tokens = token_file::parse("token all").expect("it is a valid file");
    Auth::On(Keyring::new(tokens, None)).admit(Some("token"), 0).expect("it is a valid token")
}

impl Schedule {
    fn new(plan: Plan, mut rng: Rng) -> Self {
        let directory = Arc::new(Directory::new(SEQ_MIN + 1000, plan.topics_max));
        let (links, inlets): (Vec<_>, Vec<_>) = (0..plan.shards).map(|_| link_of(plan.channel)).unzip();
        let shards = inlets.into_iter().enumerate();
        let shards =
            shards.map(|(shard, inlet)| Shard::new(Watchers::new(shard, directory.clone()), inlet)).collect();
        let feed = RefCell::new(Feed::new(plan.clone(), rng.split(), links, directory));
        Self { feed, shards, rng, plan, clients: 0, restarts: 0, no_breakpoints: no_breakpoints() }
    }

    /// The daemon ends, cleanly or not, and another one goes on: with all it saved, with the newest batches, or with
    /// nothing.
    fn restart(&mut self) {
        let (links, inlets): (Vec<_>, Vec<_>) =
            (0..self.plan.shards).map(|_| link_of(self.plan.channel)).unzip();
        let batches = if self.rng.chance(60) { usize::MAX } else { self.rng.below(6) };
        let jump = *self.rng.pick(&[0, 0, 1, 7]);
        match self.rng.chance(25) {
            true => self.feed.borrow_mut().restart_anew(jump, links),
            false => self.feed.borrow_mut().restart(batches, jump, links),
        }
        self.restarts += 1;
        let directory = self.feed.borrow().directory.clone();
        for (index, inlet) in inlets.into_iter().enumerate() {
            self.shards[index].restart(Watchers::new(index, directory.clone()), inlet, &self.feed);
        }
    }

    fn operate(&mut self) {
        if self.rng.chance(self.plan.restart_percent) {
            return self.restart();
        }
        let shard = self.rng.below(self.shards.len());
        match self.rng.below(100) {
            0..25 => {
                (0..self.rng.between(1, self.plan.steps_max)).for_each(|_| self.feed.borrow_mut().step())
            }
            25..40 => self.join(shard),
            40..60 => self.shards[shard].read_some(self.plan.sockets, &mut self.rng),
            60..63 => self.leave(shard),
            _ => self.act(shard),
        }
        self.feed.borrow_mut().interleave();
        if self.plan.crowd > 0 && self.rng.chance(30) {
            // This may be in the middle of a pass.
            self.leave(shard);
        }
        for shard in 0..self.shards.len() {
            if self.rng.chance(60) && self.shards[shard].is_runnable(&self.feed) {
                self.shards[shard].turn(&self.feed);
            }
        }
    }

    fn room(&mut self) -> usize {
        self.plan.sockets.room(&mut self.rng)
    }

    fn since(&mut self, shard: usize) -> Since {
        let feed = self.feed.borrow();
        let newest = feed.published();
        let left_at = &self.shards[shard].left_at;
        match self.rng.below(10) {
            0..3 => Since::Now,
            3 => Since::Start,
            4 | 5 if !left_at.is_empty() => Since::After(*self.rng.pick(left_at)),
            4..6 if !feed.oracle.events.is_empty() => {
                let near = self.rng.pick(&feed.oracle.events).seq;
                Since::After(near - 1 + self.rng.below(3) as u64)
            }
            6 if feed.directory.newest_possible() > newest => {
                let beyond = (feed.directory.newest_possible() - newest) as usize;
                let beyond = *self.rng.pick(&[beyond.min(4), beyond.min(40), beyond]);
                Since::After(newest + self.rng.between(1, beyond + 1) as u64)
            }
            4..8 => {
                let first = feed.oracle.run_start - 2;
                Since::After(first + self.rng.below((newest - first + 3) as usize) as u64)
            }
            _ => Since::Last(self.rng.between(1, 30) as u64),
        }
    }

    fn wish(&mut self, is_debug: bool, is_overseer: bool) -> Wish {
        let hides_breakpoints = !is_debug && self.rng.chance(20);
        let mut wish = Wish { is_debug, is_overseer, hides_breakpoints, ..Wish::default() };
        if self.rng.chance(self.plan.filter_percent) {
            wish.filter = Filter::only(self.plan.names(&mut self.rng));
        }
        wish
    }

    fn permit(&self, wish: &Wish) -> Permit {
        if wish.hides_breakpoints { self.no_breakpoints.clone() } else { Permit::Everything }
    }

    fn job(&mut self) -> TopicId {
        1 + self.rng.below(self.plan.jobs)
    }

    fn join(&mut self, shard: usize) {
        if self.shards[shard].count() >= self.plan.watchers_max {
            return;
        }
        self.clients += 1;
        let (id, room) = (self.clients, self.room());
        if self.rng.chance(self.plan.many_percent) {
            let wish = self.wish(false, true);
            let permit = self.permit(&wish);
            let is_reader = self.is_reader();
            let framing = Framing::WebSocket;
            let request = Request { topic: None, wish, permit, since: Since::Now, is_reader, framing };
            self.shards[shard].join(id, request, room, &self.feed);
            return;
        }
        let topic = match self.rng.below(10) {
            0 | 1 => ALL,
            2..5 if self.plan.flows > 0 => 1 + self.plan.jobs + self.rng.below(self.plan.flows),
            _ => self.job(),
        };
        let is_job = (1..=self.plan.jobs).contains(&topic);
        let is_debug = is_job && self.rng.chance(20);
        let wish = self.wish(is_debug, false);
        let (permit, since) = (self.permit(&wish), self.since(shard));
        let (is_reader, framing) = (self.is_reader(), self.framing());
        let request = Request { topic: Some(topic), wish, permit, since, is_reader, framing };
        self.shards[shard].join(id, request, room, &self.feed);
    }

    fn framing(&mut self) -> Framing {
        match self.rng.chance(self.plan.http_percent) {
            true => *self.rng.pick(&[Framing::Sse, Framing::Ndjson]),
            false => Framing::WebSocket,
        }
    }

    fn is_reader(&mut self) -> bool {
        self.plan.is_waiting && self.rng.chance(self.plan.reader_percent)
    }

    fn join_crowd(&mut self) {
        self.clients += 1;
        let wish = self.wish(false, false);
        let since = if self.rng.chance(90) { Since::Now } else { Since::Start };
        let room = if self.rng.chance(95) { 1 << 30 } else { self.room() };
        let (permit, framing) = (self.permit(&wish), self.framing());
        let request = Request { topic: Some(1), permit, wish, since, is_reader: false, framing };
        self.shards[0].join(self.clients, request, room, &self.feed);
    }

    fn leave(&mut self, shard: usize) {
        let Some(key) = self.shards[shard].any(&mut self.rng) else { return };
        match self.rng.below(3) {
            0 => self.shards[shard].socket(key).is_broken = true,
            1 => self.shards[shard].remove(key, &self.feed),
            _ => self.shards[shard].end(key, &self.feed),
        }
    }

    fn act(&mut self, shard: usize) {
        let Some(key) = self.shards[shard].any(&mut self.rng) else { return };
        let socket = self.shards[shard].socket(key);
        let (is_many, is_http) = (socket.client.kind == Kind::Many, socket.decoder.is_http());
        match self.rng.below(10) {
            3..5 if is_many && self.rng.chance(self.plan.filter_percent) => self.change(shard, key),
            0..5 if is_many => {
                let (topic, since) = (self.job(), self.since(shard));
                self.shards[shard].subscribe(key, topic, since, &self.feed);
            }
            5 if is_many => {
                let topic = self.job();
                self.shards[shard].unsubscribe(key, topic, &self.feed);
            }
            6..8 => self.shards[shard].ping(key, &self.feed),
            _ if is_http => {}
            8 if self.plan.crowd > 0 => self.shards[shard].chat_with_all(&self.feed),
            8 => self.shards[shard].chat(key, &self.feed),
            _ if self.rng.chance(self.plan.filter_percent) => self.change(shard, key),
            _ => {}
        }
    }

    fn change(&mut self, shard: usize, key: WatcherKey) {
        let names = self.plan.names(&mut self.rng);
        let mut wish = self.shards[shard].socket(key).client.wish.clone();
        let text = wish.filter.change(names, &mut self.rng);
        self.shards[shard].change(key, &text, wish, &self.feed);
    }

    /// Lets everything come to rest, then checks every client.
    fn finish(mut self) -> Tally {
        self.feed.borrow().trace(|| "to rest".into());
        for turn in 0.. {
            assert!(turn < TURNS_MAX, "it never comes to rest");
            let mut is_quiet = self.feed.borrow().is_idle();
            (0..self.rng.between(0, 4)).for_each(|_| self.feed.borrow_mut().step());
            for shard in 0..self.shards.len() {
                for key in 0..self.shards[shard].sockets.len() {
                    if let Some(socket) = &mut self.shards[shard].sockets[key] {
                        // Some read everything at once, others bit by bit.
                        let bytes = if key % 2 == 0 || turn > 500 { 1 << 40 } else { 1000 };
                        socket.read(bytes);
                    }
                }
                if self.shards[shard].is_runnable(&self.feed) {
                    is_quiet = false;
                    self.shards[shard].turn(&self.feed);
                }
            }
            if is_quiet {
                break;
            }
        }
        self.check()
    }

    fn check(mut self) -> Tally {
        let (clients, restarts) = (self.clients as u64, self.restarts);
        let mut tally = Tally { clients, restarts, ..Tally::default() };
        self.feed.borrow().check_kept();
        for shard in &mut self.shards {
            let feed = &self.feed;
            for socket in shard.sockets.iter_mut().flatten().filter(|socket| !socket.is_broken) {
                socket.check_rest();
                socket.client.finish(&feed.borrow());
                for &(topic, life) in &socket.client.watched {
                    let is_same = feed.borrow().key_of(topic) == life;
                    assert!(is_same, "client {}: its topic {topic} was dropped", socket.client.id);
                }
                let watched: Vec<TopicId> = socket.client.watched.iter().map(|&(topic, _)| topic).collect();
                assert!(socket.client.topics().all(|topic| watched.contains(&topic)));
                tally.seen.add(socket.client.seen());
            }
            shard.check_positions(feed);
            tally.seen.add(shard.notes.seen);
        }
        let feed = self.feed.borrow();
        (tally.lines, tally.waits, tally.own) = (feed.oracle.events.len() as u64, feed.waits, feed.own);
        tally
    }
}
