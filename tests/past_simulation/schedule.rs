//! One random schedule: clients come, go, read and change their filters, while all others do something between any two of
//! their steps.

use std::cell::RefCell;

use luxcast::delivery::watchers::Watchers;
use luxcast::stream::link::link_of;
use luxcast::wire::client_action::Since;
use luxcast::wire::framing::Framing;

use crate::memory::Memory;
use crate::plan::Plan;
use crate::shard::{Request, Shard};
use crate::simulated::filter::Filter;
use crate::simulated::others::Others;
use crate::simulated::rng::Rng;
use crate::stream::Stream;
use crate::topic::TopicId;
use crate::world::World;

/// Rounds until everything must be at rest.
const ROUNDS_MAX: usize = 200_000;

/// What schedules did, so that a run can show that it did something.
#[derive(Default, Clone, Copy, Debug)]
pub struct Tally {
    pub made: u64,
    pub clients: u64,
    pub events: u64,
    pub gaps: u64,
    pub passes: u64,
    pub failures: u64,
    /// Turns in which a pass went on without somebody who reads it.
    pub steps_ahead: u64,
    /// How often a shard reported a watcher of the past.
    pub readers: u64,
    /// Live watchers that memory has overtaken.
    pub overtaken: u64,
    /// How often a watcher of many jobs was found that waits for a past that it has asked for, and one that has all of
    /// its jobs in the past together.
    pub asked: u64,
    pub together: u64,
}

impl Tally {
    pub fn add(&mut self, other: Self) {
        self.made += other.made;
        self.clients += other.clients;
        self.events += other.events;
        self.gaps += other.gaps;
        self.passes += other.passes;
        self.failures += other.failures;
        self.steps_ahead += other.steps_ahead;
        self.readers += other.readers;
        self.overtaken += other.overtaken;
        self.asked += other.asked;
        self.together += other.together;
    }

    pub fn is_broad(&self) -> bool {
        let Self { gaps, passes, failures, steps_ahead, readers, overtaken, asked, together, .. } = *self;
        let all = [gaps, passes, failures, steps_ahead, readers, overtaken, asked, together];
        self.events > self.gaps && all.iter().all(|&count| count > 0)
    }
}

pub struct Schedule {
    world: RefCell<World>,
    shards: Vec<Shard>,
    rng: Rng,
    plan: Plan,
    clients: usize,
}

/// Runs the schedule of a seed. Panics if the daemon breaks a promise.
pub fn run(seed: u64, is_tracing: bool) -> Tally {
    let mut rng = Rng::new(seed);
    let plan = Plan::new(&mut rng);
    let mut schedule = Schedule::new(plan, rng, is_tracing);
    for _ in 0..schedule.plan.operations {
        schedule.operate();
    }
    schedule.finish()
}

impl Schedule {
    fn new(plan: Plan, mut rng: Rng, is_tracing: bool) -> Self {
        if is_tracing {
            eprintln!("{plan:#?}");
        }
        let mut others = rng.split();
        let mut stream = Stream::new(&plan, &mut others);
        (0..plan.before).for_each(|_| stream.publish(&plan, &mut others));
        let (links, inlets): (Vec<_>, Vec<_>) = (0..plan.shards).map(|_| link_of(plan.channel)).unzip();
        let first = (plan.before + 1 - plan.in_memory) as u64;
        let memory = Memory::new(&plan, first, &stream, links);
        let mut world = World::new(plan.clone(), others, stream, memory);
        world.is_tracing = is_tracing;
        let World { memory, stream, rng: of_world, now, .. } = &mut world;
        memory.catch_up(stream, *now, of_world);
        let shards = inlets.into_iter().enumerate().map(|(shard, inlet)| {
            let mut watchers = Watchers::new(shard, world.memory.directory.clone());
            watchers.read_past(world.thread.past.clone());
            Shard::new(watchers, inlet)
        });
        let shards = shards.collect();
        Self { world: RefCell::new(world), shards, rng, plan, clients: 0 }
    }

    fn operate(&mut self) {
        let shard = self.rng.below(self.shards.len());
        match self.rng.below(100) {
            0..35 => {
                let steps = self.rng.between(1, self.plan.steps_max);
                (0..steps).for_each(|_| self.world.borrow_mut().step());
            }
            35..50 => self.join(shard),
            50..75 => self.shards[shard].read_some(self.plan.sockets, &mut self.rng),
            75..80 => self.leave(shard),
            _ => self.act(shard),
        }
        let world = &self.world;
        world.borrow_mut().pass_time();
        world.borrow_mut().interleave();
        for shard in &mut self.shards {
            if self.rng.chance(60) && shard.is_runnable(world) {
                shard.turn(world);
            }
        }
    }

    fn web_socket(&mut self) -> Framing {
        match self.rng.chance(self.plan.compressed_percent) {
            true => *self.rng.pick(&[Framing::Deflate, Framing::Deflate, Framing::DeflateAlone]),
            false => Framing::WebSocket,
        }
    }

    fn since(&mut self, shard: usize) -> Since {
        let world = self.world.borrow();
        let stream = &world.stream;
        let first = stream.first_number();
        let newest = stream.newest();
        let left_at = &self.shards[shard].left_at;
        match self.rng.below(12) {
            0 | 1 => Since::Now,
            2 | 3 => Since::Start,
            4..6 if !left_at.is_empty() => Since::After(*self.rng.pick(left_at)),
            4..9 if !stream.events.is_empty() => {
                let near = self.rng.pick(&stream.events).number;
                Since::After(near - 1 + self.rng.below(3) as u64)
            }
            9 => Since::After(first - 3 + self.rng.below(5) as u64),
            10 => Since::Last(self.rng.between(1, 30) as u64),
            _ => Since::After(first + self.rng.below(newest.saturating_sub(first) as usize + 1) as u64),
        }
    }

    fn join(&mut self, shard: usize) {
        if self.shards[shard].count() >= self.plan.watchers_max {
            return;
        }
        self.clients += 1;
        let mut filter = Filter::default();
        if self.rng.chance(self.plan.filter_percent) {
            filter = Filter::only(self.plan.names(&mut self.rng));
        }
        let request = if self.rng.chance(self.plan.many_percent) {
            let framing = self.web_socket();
            Request { topic: None, since: Since::Now, filter, framing }
        } else {
            let topic = match self.rng.below(10) {
                0..4 => TopicId::All,
                4..6 if self.plan.flows > 0 => TopicId::Flow(self.rng.below(self.plan.flows)),
                // Of some jobs there is no event.
                _ => TopicId::Job(self.rng.below(self.plan.jobs + 1)),
            };
            let framing = match self.rng.chance(self.plan.http_percent) {
                true => *self.rng.pick(&[Framing::Sse, Framing::Ndjson]),
                false => self.web_socket(),
            };
            Request { topic: Some(topic), since: self.since(shard), filter, framing }
        };
        let room = self.plan.sockets.room(&mut self.rng);
        self.shards[shard].join(self.clients, request, room, &self.world);
    }

    fn leave(&mut self, shard: usize) {
        let Some(key) = self.shards[shard].any(&mut self.rng) else { return };
        match self.rng.below(3) {
            0 => self.shards[shard].socket(key).is_broken = true,
            1 => self.shards[shard].hang_up(key, &self.world),
            _ => self.shards[shard].end(key, &self.world),
        }
    }

    fn act(&mut self, shard: usize) {
        let Some(key) = self.shards[shard].any(&mut self.rng) else { return };
        if self.shards[shard].socket(key).client.is_many && self.rng.chance(50) {
            let job = self.rng.below(self.plan.jobs + 1);
            return match self.rng.chance(75) {
                true => {
                    let since = self.since(shard);
                    self.shards[shard].subscribe(key, job, since, &self.world);
                }
                false => self.shards[shard].unsubscribe(key, job, &self.world),
            };
        }
        let is_http = self.shards[shard].socket(key).decoder.is_http();
        if !is_http && self.rng.chance(self.plan.filter_percent) {
            let mut filter = self.shards[shard].socket(key).client.filters.asked().clone();
            let names = self.plan.names(&mut self.rng);
            let text = filter.change(names, &mut self.rng);
            return self.shards[shard].change(key, &text, filter, &self.world);
        }
        self.shards[shard].ping(key, &self.world);
    }

    /// Lets everything come to rest, then checks every client.
    fn finish(mut self) -> Tally {
        let world = &self.world;
        world.borrow().trace(|| "to rest".into());
        world.borrow_mut().calm_down();
        for round in 0.. {
            assert!(round < ROUNDS_MAX, "it never comes to rest: {}", world.borrow().state());
            let mut is_quiet = world.borrow().is_idle();
            (0..self.rng.between(1, 8)).for_each(|_| world.borrow_mut().step());
            world.borrow_mut().now.millis += self.rng.below(10) as u64;
            for shard in &mut self.shards {
                shard.sockets.iter_mut().flatten().for_each(|socket| socket.read(1 << 20));
                if shard.is_runnable(world) {
                    is_quiet = false;
                    shard.turn(world);
                }
            }
            let world = &mut *world.borrow_mut();
            if is_quiet && world.is_idle() {
                // The stream has told all that it has.
                let (before, now) = (world.thread.is_woken, world.now.millis);
                (0..3).for_each(|_| world.thread.serve(&world.stream, &world.plan, &mut world.rng));
                if before == world.thread.is_woken {
                    if world.thread.is_asleep() {
                        break;
                    }
                    world.now.millis = now + 20;
                }
            }
        }
        for shard in &mut self.shards {
            shard.check_rest(world);
        }
        self.shards.iter().for_each(|shard| {
            let of_past = world.borrow().thread.past.shards();
            assert!(!of_past.contains(&shard.watchers.shard));
        });
        world.borrow_mut().thread.check_rest();
        self.tally()
    }

    fn tally(&self) -> Tally {
        let world = self.world.borrow();
        let mut tally = Tally {
            made: world.stream.events.len() as u64,
            clients: self.clients as u64,
            passes: world.thread.passes_made,
            failures: world.thread.failures,
            steps_ahead: world.thread.steps_ahead,
            ..Tally::default()
        };
        for shard in &self.shards {
            tally.events += shard.notes.events;
            tally.gaps += shard.notes.gaps;
            tally.readers += shard.notes.readers;
            tally.overtaken += shard.notes.overtaken;
            tally.asked += shard.notes.asked;
            tally.together += shard.notes.together;
            for socket in shard.sockets.iter().flatten() {
                tally.events += socket.client.events;
                tally.gaps += socket.client.gaps;
            }
        }
        tally
    }
}
