//! One schedule: three daemons, their publishers, the server, and what goes wrong between them.

mod faults;
mod hops;

use std::collections::BTreeMap;
use std::sync::Arc;

use luxcast::bus::accounts::Accounts;
use luxcast::bus::lane::NewLine;
use luxcast::bus::verdict::{Action, Arrival, HoleReason, Info, Standing, Stop};
use luxcast::bus::writer::{LaneKey, Outgoing};

use self::hops::job_of_hopper;
use crate::daemon::Daemon;
use crate::hopper::Hopper;
use crate::judge::{Judge, Tally, flow_of, job_of};
use crate::plan::Plan;
use crate::publisher::{Connection, Publisher, line};
use crate::rng::Rng;
use crate::server::{Consumer, Message, Server, Stored};

const DAEMONS: usize = 3;
const BASE: u64 = 1_700_000_000_000_000;
/// Until nobody answers, a request is as good as lost.
const TIMEOUT_MILLIS: u64 = 2_000;
/// No server lags for so long.
const LAG_MILLIS_MAX: u64 = 5_000;
/// Lines of a publisher on their way, at most.
const UNACKED_MAX: u64 = 40;
/// Beyond the window: how long it may take to come to rest. Messages that are read alone need an answer each.
const REST_MILLIS: u64 = 600_000;
/// By then, readers have noticed what has happened to them.
const NOTICE_MILLIS: u64 = 12_000;

enum Request {
    Ask { question: u64 },
    Create { attempt: u64, from: u64 },
    ReadAlone { attempt: u64, from: u64 },
    Pull { attempt: u64, bytes: u64 },
    Remove { attempt: u64 },
    Publish { key: LaneKey, serial: u64, message: Arc<Message> },
}

enum Answer {
    Info { question: u64, info: Info },
    NoInfo { question: u64 },
    Created { attempt: u64, pending: u64 },
    NotCreated { attempt: u64 },
    Message { arrival: Arrival, stored: Arc<Stored>, is_alone: bool },
    NoneAlone { attempt: u64 },
    NotAlone { attempt: u64 },
    Alive { attempt: u64 },
    PullEnded { attempt: u64, left: u64, is_too_large: bool },
    Gone { attempt: u64 },
    Stored { key: LaneKey, serial: u64, seq: u64, is_duplicate: bool },
    Failed { key: LaneKey, serial: u64 },
}

enum Event {
    /// Of a daemon's run and connection.
    Request(usize, (u64, u64), Request),
    Answer(usize, (u64, u64), Answer),
    Wake(usize),
    Connect(usize),
    Disconnect(usize, (u64, u64)),
    Release(usize, u64, u64),
    /// A copy of a message from somewhere in the network.
    Copy(Arc<Message>),
    Publisher(usize),
    Hopper(usize),
    Step,
    Beat,
    ServerUp,
}

pub struct World {
    now: u64,
    ties: u64,
    events: BTreeMap<(u64, u64), Event>,
    rng: Rng,
    plan: Plan,
    server: Server,
    daemons: Vec<Daemon>,
    publishers: Vec<Publisher>,
    hoppers: Vec<Hopper>,
    judge: Judge,
    is_chaotic: bool,
    foreign: u64,
    /// The greatest number that any run of a daemon has told.
    newest: u64,
    is_tracing: bool,
}

/// Runs the schedule of a seed. Panics if a promise is broken.
pub fn run(seed: u64, is_tracing: bool) -> Tally {
    let mut rng = Rng::new(seed);
    let plan = Plan::new(&mut rng);
    let world = World::new(plan, rng, is_tracing);
    world.trace(|world| format!("{:#?}", world.plan));
    world.run()
}

impl World {
    fn new(plan: Plan, rng: Rng, is_tracing: bool) -> Self {
        let daemons = (0..DAEMONS).map(|index| Daemon::new(index, 0, &plan, 1, 1)).collect();
        let publishers = (0..plan.publishers).map(|index| {
            let is_named = index * 100 < plan.named_percent * plan.publishers;
            Publisher::new(index, is_named.then(|| format!("p{}", index % plan.names)))
        });
        let hoppers = (0..plan.hoppers).map(|index| Hopper::new(job_of_hopper(index))).collect();
        let mut judge = Judge::default();
        // A server that lags may hide what was stored.
        judge.is_unclean = plan.is_wild || plan.stale > 0;
        judge.is_ancient = plan.is_ancient;
        judge.forgets_flows = plan.forgets_flows;
        let mut world = Self {
            now: 1_000_000,
            ties: 0,
            events: BTreeMap::new(),
            server: Server::new(BASE, plan.window_millis),
            publishers: publishers.collect(),
            hoppers,
            daemons,
            judge,
            rng,
            plan,
            is_chaotic: true,
            foreign: 0,
            newest: 0,
            is_tracing,
        };
        for daemon in 0..DAEMONS {
            world.after(1, Event::Connect(daemon));
        }
        for publisher in 0..world.publishers.len() {
            world.after(10, Event::Publisher(publisher));
        }
        for hopper in 0..world.hoppers.len() {
            world.after(20, Event::Hopper(hopper));
        }
        world.after(100, Event::Step);
        world.after(1_000, Event::Beat);
        world
    }

    fn trace(&self, text: impl FnOnce(&Self) -> String) {
        if self.is_tracing {
            println!("{:>9} {}", self.now - 1_000_000, text(self));
        }
    }

    fn at(&mut self, time: u64, event: Event) {
        self.ties += 1;
        self.events.insert((time, self.ties), event);
    }

    fn after(&mut self, millis: u64, event: Event) {
        self.at(self.now + millis, event);
    }

    fn per_mille(&mut self, rate: usize) -> bool {
        self.is_chaotic && rate > 0 && self.rng.below(1_000) < rate
    }

    fn run(mut self) -> Tally {
        let chaos_until = self.now + self.plan.chaos_millis;
        let rest_until = chaos_until + 2 * self.plan.window_millis + REST_MILLIS;
        while let Some((&(time, tie), _)) = self.events.first_key_value() {
            let event = self.events.remove(&(time, tie)).expect("it is there");
            self.now = time;
            if self.is_chaotic && self.now > chaos_until {
                self.is_chaotic = false;
                self.trace(|_| "to rest".into());
                self.server.is_up = true;
            }
            self.handle(event);
            let has_noticed = self.now > chaos_until + NOTICE_MILLIS;
            if has_noticed && matches!(self.now % 64, 0) && self.is_at_rest() {
                break;
            }
            if self.now > rest_until {
                self.complain();
            }
        }
        self.finish()
    }

    fn complain(&self) {
        for daemon in &self.daemons {
            println!(
                "daemon {}: {:?}, at {} of {}, connected: {}, writer holds {} bytes, due {:?} {:?}",
                daemon.index,
                daemon.reader.standing(),
                daemon.reader.last(),
                self.server.last,
                daemon.is_connected,
                daemon.writer.bytes(),
                daemon.reader.due(),
                daemon.writer.due(),
            );
        }
        for publisher in &self.publishers {
            println!(
                "{}: {} of {}, {:?}",
                publisher.word, publisher.acked, publisher.lines, publisher.connection
            );
        }
        panic!("it never comes to rest");
    }

    fn is_at_rest(&self) -> bool {
        let daemons = self.daemons.iter().all(|daemon| {
            daemon.reader.standing() == Standing::Following
                && daemon.reader.epochs() == Some(&self.server.epochs)
                && daemon.reader.last() == self.server.last
                && daemon.writer.is_idle()
        });
        let is_done = |publisher: &Publisher| match publisher.connection {
            Some(connection) => publisher.acked >= connection.sent && connection.sent >= publisher.lines,
            None => publisher.name.is_none() || publisher.acked >= publisher.lines,
        };
        daemons && self.publishers.iter().all(is_done)
    }

    fn finish(mut self) -> Tally {
        self.trace(|_| "the end".into());
        for daemon in &self.daemons {
            self.judge.tally.duplicates += daemon.writer.duplicates;
            self.judge.tally.retries += daemon.writer.retries;
        }
        self.judge.check_end(&self.server, &self.daemons);
        self.check_hoppers();
        for publisher in self.publishers.iter().filter(|publisher| publisher.name.is_some()) {
            for number in 1..=publisher.lines {
                let Some(text) = line(&publisher.word, number) else { continue };
                let key = crate::judge::key_of(&text).expect("it has one");
                assert!(self.judge.stored.contains(key), "{key} never came into the stream");
            }
        }
        self.judge.tally
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Request(index, link, request) => self.serve(index, link, request),
            Event::Answer(index, link, answer) => {
                let daemon = &self.daemons[index];
                if (daemon.life, daemon.link) == link && daemon.is_connected {
                    self.take_answer(index, answer);
                    self.drain(index);
                }
            }
            Event::Wake(index) => {
                self.daemons[index].wakes_at = u64::MAX;
                self.daemons[index].reader.handle_due(self.now);
                self.drain(index);
            }
            Event::Connect(index) => self.connect(index),
            Event::Disconnect(index, link) => {
                if (self.daemons[index].life, self.daemons[index].link) == link {
                    self.disconnect(index);
                }
            }
            Event::Release(index, life, bytes) => {
                if self.daemons[index].life == life {
                    self.daemons[index].reader.handle_released(self.now, bytes);
                    self.drain(index);
                }
            }
            Event::Copy(message) => {
                if self.server.is_up {
                    self.trace(|_| format!("a late copy of {:?}", message.id));
                    self.store(&message);
                }
            }
            Event::Publisher(index) => self.let_publish(index),
            Event::Hopper(index) => self.let_hop(index),
            Event::Step => self.step(),
            Event::Beat => self.beat(),
            Event::ServerUp => {
                self.trace(|_| "the server is up".into());
                self.server.is_up = true;
            }
        }
    }

    fn connect(&mut self, index: usize) {
        if self.daemons[index].is_connected {
            return;
        }
        if !self.server.is_up {
            return self.after(500, Event::Connect(index));
        }
        self.trace(|_| format!("daemon {index} connects"));
        let now = self.now;
        let daemon = &mut self.daemons[index];
        daemon.is_connected = true;
        daemon.link += 1;
        daemon.writer.set_away(false);
        daemon.reader.handle_connected(now);
        self.drain(index);
    }

    fn disconnect(&mut self, index: usize) {
        self.trace(|_| format!("daemon {index} is disconnected"));
        let daemon = &mut self.daemons[index];
        let link = daemon.link;
        daemon.is_connected = false;
        daemon.link += 1;
        daemon.is_astray = false;
        daemon.writer.set_away(true);
        daemon.reader.handle_disconnected();
        self.server.consumers.retain(|key, _| (key.0, key.1) != (index, link));
        let is_cut_off = std::mem::take(&mut self.daemons[index].is_cut_off);
        let most = if is_cut_off { self.plan.window_millis as usize * 3 / 2 } else { 1_500 };
        let pause = self.rng.between(100, most) as u64;
        self.after(pause, Event::Connect(index));
        self.drain(index);
    }

    /// Does what a daemon wants done.
    fn drain(&mut self, index: usize) {
        while let Some(action) = self.daemons[index].reader.next_action() {
            self.trace(|_| format!("daemon {index}: {action:?}"));
            self.act(index, action);
        }
        loop {
            let now = self.now;
            let Daemon { writer, flows, core, .. } = &mut self.daemons[index];
            let Some(outgoing) = writer.next(now, Daemon::flow_of(flows, core)) else { break };
            self.publish(index, outgoing);
        }
        self.serve_hoppers(index);
        while let Some(ack) = self.daemons[index].writer.next_ack() {
            self.acknowledge(index, ack.key, ack.line, ack.stream_seq);
        }
        let daemon = &mut self.daemons[index];
        self.newest = self.newest.max(daemon.reader.newest());
        let due = [daemon.reader.due(), daemon.writer.due()].into_iter().flatten().min();
        if let Some(due) = due.map(|due| due.max(self.now + 1)).filter(|due| *due < daemon.wakes_at) {
            daemon.wakes_at = due;
            self.at(due, Event::Wake(index));
        }
    }

    fn act(&mut self, index: usize, action: Action) {
        let now = self.now;
        match action {
            Action::Ask { question } => self.send(index, Request::Ask { question }),
            Action::Create { attempt, from } => self.send(index, Request::Create { attempt, from }),
            Action::ReadAlone { attempt, from } => self.send(index, Request::ReadAlone { attempt, from }),
            Action::Pull { attempt, bytes } => self.send(index, Request::Pull { attempt, bytes }),
            Action::Remove { attempt, .. } => self.send(index, Request::Remove { attempt }),
            Action::Reconnect if self.daemons[index].is_connected => self.disconnect(index),
            Action::Reconnect => {}
            Action::Skip { hole, last } => {
                let Self { daemons, plan, judge, .. } = self;
                daemons[index].tell(hole, judge);
                if hole.why == HoleReason::Restart {
                    // What is left of the stream comes again.
                    daemons[index].accounts = Accounts::new(plan.history_millis);
                }
                daemons[index].writer.handle_hole(now, last);
            }
            Action::Complete { asked_at, .. } => {
                let daemon = &mut self.daemons[index];
                daemon.writer.handle_complete(now, asked_at);
                daemon.begin(daemon.reader.newest() + 1);
                while let Some(&(since, publisher)) = self.daemons[index].greeting.front()
                    && since <= asked_at
                {
                    self.daemons[index].greeting.pop_front();
                    self.welcome(index, publisher);
                }
            }
            Action::Stand(_) => {}
        }
    }

    fn send(&mut self, index: usize, request: Request) {
        if !self.daemons[index].is_connected {
            return;
        }
        let delay = self.rng.between(1, self.plan.delay_max) as u64;
        let daemon = &mut self.daemons[index];
        daemon.sent_until = daemon.sent_until.max(self.now + delay);
        let link = (daemon.life, daemon.link);
        let at = daemon.sent_until;
        self.at(at, Event::Request(index, link, request));
    }

    fn answer(&mut self, index: usize, link: (u64, u64), answer: Answer) {
        let delay = self.rng.between(1, self.plan.delay_max) as u64;
        let daemon = &mut self.daemons[index];
        daemon.heard_until = daemon.heard_until.max(self.now + delay);
        let at = daemon.heard_until;
        self.at(at, Event::Answer(index, link, answer));
    }

    fn publish(&mut self, index: usize, outgoing: Outgoing) {
        self.trace(|_| {
            format!(
                "daemon {index}: publishes {} {} again: {}",
                outgoing.message_id, outgoing.lines, outgoing.is_again
            )
        });
        let message = Message {
            id: Some(outgoing.message_id.to_string()),
            lines: Some(outgoing.lines.to_string()),
            from: Some(format!("host-{index}.1")),
            payload: outgoing.payload.clone(),
            is_odd: false,
        };
        assert!(message.payload.len() <= self.plan.chunk_bytes_max + 400, "the chunk is too large");
        let message = Arc::new(message);
        if self.per_mille(self.plan.late) {
            let most = match self.plan.is_wild {
                true if self.plan.is_ancient => 2 * self.plan.history_millis,
                true => (3 * self.plan.window_millis).min(self.plan.history_millis / 10 * 9),
                false => self.plan.window_millis / 3,
            };
            let late = self.rng.between(10, most as usize) as u64;
            self.after(late, Event::Copy(message.clone()));
        }
        self.send(index, Request::Publish { key: outgoing.key, serial: outgoing.serial, message });
    }

    /// Takes a message as a server does. Returns its sequence, and whether it has one with that id.
    fn store(&mut self, message: &Arc<Message>) -> (u64, bool) {
        if let Some(seq) = message.id.as_deref().and_then(|id| self.server.known(id, self.now)) {
            return (seq, true);
        }
        let stored = self.server.store(message, self.now);
        self.judge.handle_stored(&message.payload);
        let lines = String::from_utf8_lossy(&message.payload).lines().count();
        self.trace(|_| {
            format!("message {} is {:?} {:?}, {lines} lines", stored.seq, message.id, message.lines)
        });
        self.pump_all();
        (stored.seq, false)
    }

    fn serve(&mut self, index: usize, link: (u64, u64), request: Request) {
        let daemon = &self.daemons[index];
        let is_current = (daemon.life, daemon.link) == link && daemon.is_connected;
        let is_heard = !(is_current && daemon.is_astray);
        let reaches = self.server.is_up && is_heard && (is_current || self.rng.chance(50));
        match request {
            Request::Ask { question } if !reaches => {
                self.after(TIMEOUT_MILLIS, Event::Answer(index, link, Answer::NoInfo { question }))
            }
            Request::Create { attempt, .. } if !reaches => {
                self.after(TIMEOUT_MILLIS, Event::Answer(index, link, Answer::NotCreated { attempt }))
            }
            Request::ReadAlone { attempt, .. } if !reaches => {
                self.after(TIMEOUT_MILLIS, Event::Answer(index, link, Answer::NotAlone { attempt }))
            }
            Request::ReadAlone { attempt, from } => self.serve_alone(index, link, attempt, from),
            Request::Ask { question } => {
                let mut info = self.server.info();
                let lagged_at = self.daemons[index].lags_since.unwrap_or(self.now);
                let may_lag = self.now - lagged_at < LAG_MILLIS_MAX;
                self.daemons[index].lags_since = None;
                if self.per_mille(self.plan.stale) && may_lag {
                    // As another server knew it, which lags.
                    self.daemons[index].lags_since = Some(lagged_at);
                    info.last = info.last.saturating_sub(self.rng.between(1, 3) as u64);
                    info.first = info.first.min(info.last + 1);
                }
                self.answer(index, link, Answer::Info { question, info });
            }
            Request::Create { attempt, from } => {
                if self.per_mille(self.plan.failed) {
                    return self.answer(index, link, Answer::NotCreated { attempt });
                }
                let consumer = Consumer { next: from, delivered: 0, credit: 0, is_stuck: false };
                self.server.consumers.insert((index, link.1, attempt), consumer);
                self.daemons[index].consumers += 1;
                self.judge.tally.consumers += 1;
                let pending = self.server.pending(from);
                self.answer(index, link, Answer::Created { attempt, pending });
            }
            Request::Pull { attempt, bytes } if reaches => {
                if let Some(consumer) = self.server.consumers.get_mut(&(index, link.1, attempt)) {
                    consumer.credit += bytes;
                    self.pump_all();
                }
            }
            Request::Remove { attempt } => drop(self.server.consumers.remove(&(index, link.1, attempt))),
            Request::Publish { key, serial, message } if reaches => {
                self.serve_publish(index, link, (key, serial), &message)
            }
            Request::Pull { .. } | Request::Publish { .. } => {}
        }
    }

    fn serve_alone(&mut self, index: usize, link: (u64, u64), attempt: u64, from: u64) {
        if self.per_mille(self.plan.failed) {
            return self.answer(index, link, Answer::NotAlone { attempt });
        }
        let found = self.server.log.range(from..).next().map(|(_, stored)| stored.clone());
        let answer = match found.filter(|_| !self.per_mille(self.plan.stale)) {
            None => Answer::NoneAlone { attempt },
            Some(stored) => {
                let (bytes, time_nanos) = (stored.bytes(), stored.time_nanos);
                let arrival =
                    Arrival { attempt, delivery: 1, message: stored.seq, time_nanos, pending: 0, bytes };
                Answer::Message { arrival, stored, is_alone: true }
            }
        };
        self.answer(index, link, answer);
    }

    fn serve_publish(
        &mut self,
        index: usize,
        link: (u64, u64),
        name: (LaneKey, u64),
        message: &Arc<Message>,
    ) {
        let (key, serial) = name;
        if self.per_mille(self.plan.lost) {
            return self.trace(|_| format!("{:?} is lost", message.id));
        }
        if self.per_mille(self.plan.failed) {
            return self.answer(index, link, Answer::Failed { key, serial });
        }
        let id = message.id.as_deref().expect("daemons give ids");
        if self.per_mille(self.plan.false_duplicate)
            && self.server.known(id, self.now).is_none()
            && self.server.last > 0
        {
            let seq = self.rng.between(1, self.server.last as usize) as u64;
            self.trace(|_| format!("{id} is falsely called a duplicate"));
            self.server.remember(id, seq, self.now);
        }
        let (seq, is_duplicate) = self.store(message);
        if !self.per_mille(self.plan.answer_lost) {
            self.answer(index, link, Answer::Stored { key, serial, seq, is_duplicate });
        }
    }

    /// Lets each consumer deliver what it has credit for.
    fn pump_all(&mut self) {
        let keys: Vec<_> = self.server.consumers.keys().copied().collect();
        for key in keys {
            while self.pump(key) {}
        }
    }

    fn pump(&mut self, key: (usize, u64, u64)) -> bool {
        let (index, link, attempt) = key;
        let consumer = self.server.consumers.get_mut(&key).expect("it is there");
        if consumer.is_stuck || consumer.credit == 0 {
            return false;
        }
        let Some((_, stored)) = self.server.log.range(consumer.next..).next() else { return false };
        let (stored, bytes) = (stored.clone(), stored.bytes());
        let link = (self.daemons[index].life, link);
        if bytes > consumer.credit {
            let left = std::mem::take(&mut consumer.credit);
            self.answer(index, link, Answer::PullEnded { attempt, left, is_too_large: true });
            return false;
        }
        let (skips, drops, repeats) = (
            self.per_mille(self.plan.skipped),
            self.per_mille(self.plan.dropped),
            self.per_mille(self.plan.repeated),
        );
        let consumer = self.server.consumers.get_mut(&key).expect("it is there");
        consumer.next = stored.seq + 1;
        // No two consumers in a row pass over messages as if they were not there, and none over one that another did.
        let daemon = &mut self.daemons[index];
        let is_honest = daemon.consumers == daemon.skipper + 1 || daemon.skipped.contains(&stored.seq);
        if skips && !is_honest {
            daemon.skipper = daemon.consumers;
            daemon.skipped.insert(stored.seq);
            return true;
        }
        if stored.message.is_odd {
            return self.end_connection(key);
        }
        let consumer = self.server.consumers.get_mut(&key).expect("it is there");
        consumer.credit -= bytes;
        consumer.delivered += 1;
        let delivery = consumer.delivered;
        let pending = self.server.pending(stored.seq + 1);
        let arrival =
            Arrival { attempt, delivery, message: stored.seq, time_nanos: stored.time_nanos, pending, bytes };
        if !drops {
            self.answer(index, link, Answer::Message { arrival, stored: stored.clone(), is_alone: false });
        }
        if repeats {
            let consumer = self.server.consumers.get_mut(&key).expect("it is there");
            consumer.delivered += self.rng.below(2) as u64;
            let delivery = consumer.delivered;
            let arrival = Arrival { delivery, ..arrival };
            self.answer(index, link, Answer::Message { arrival, stored, is_alone: false });
        }
        true
    }

    /// The consumer brings a message that its daemon's client cannot read. What came before is read.
    fn end_connection(&mut self, key: (usize, u64, u64)) -> bool {
        let (index, link, _) = key;
        self.server.consumers.remove(&key);
        let daemon = &self.daemons[index];
        let at = daemon.heard_until.max(self.now + 1);
        let link = (daemon.life, link);
        self.at(at, Event::Disconnect(index, link));
        false
    }

    fn beat(&mut self) {
        self.after(1_000, Event::Beat);
        if !self.server.is_up {
            return;
        }
        let waiting = self.server.consumers.iter().filter(|(_, consumer)| consumer.credit > 0);
        let keys: Vec<_> = waiting.map(|(key, _)| *key).collect();
        for (index, link, attempt) in keys {
            let link = (self.daemons[index].life, link);
            self.answer(index, link, Answer::Alive { attempt });
        }
        self.operate();
    }

    /// The operator looks after readers that have stopped.
    fn operate(&mut self) {
        let is_stopped = |daemon: &Daemon| {
            matches!(
                daemon.reader.standing(),
                Standing::Stopped(Stop::LostTail | Stop::OtherStream | Stop::OtherNumbers)
            )
        };
        let is_time = !self.is_chaotic || self.rng.chance(20);
        let knows = |daemon: &Daemon| daemon.reader.epochs() == Some(&self.server.epochs);
        let is_new =
            self.daemons.iter().any(|daemon| is_stopped(daemon) && (knows(daemon) || self.judge.is_replaced));
        if is_new && is_time && self.server.is_up {
            let from = self.server.last + 1;
            let seen = self.newest.max(self.server.epochs.number(from, 0).expect("it is in range"));
            self.server.epochs = self.server.epochs.with_epoch_above(from, seen).expect("it is in range");
            self.judge.tally.epochs += 1;
            self.trace(|world| format!("a new epoch from {from}: {}", world.server.epochs.later_text()));
        }
    }

    fn take_answer(&mut self, index: usize, answer: Answer) {
        let now = self.now;
        let daemon = &mut self.daemons[index];
        match answer {
            Answer::Info { question, info } => daemon.reader.handle_info(now, question, info),
            Answer::NoInfo { question } => daemon.reader.handle_no_info(now, question),
            Answer::Created { attempt, pending } => daemon.reader.handle_created(now, attempt, pending),
            Answer::NotCreated { attempt } => daemon.reader.handle_not_created(now, attempt),
            Answer::Alive { attempt } => daemon.reader.handle_alive(now, attempt),
            Answer::PullEnded { attempt, left, is_too_large } => {
                daemon.reader.handle_pull_ended(now, attempt, left, is_too_large)
            }
            Answer::Gone { attempt } => daemon.reader.handle_gone(now, attempt),
            Answer::Stored { key, serial, seq, is_duplicate } => {
                daemon.writer.handle_stored(now, key, serial, seq, is_duplicate)
            }
            Answer::Failed { key, serial } => daemon.writer.handle_failed(now, key, serial),
            Answer::NoneAlone { attempt } => daemon.reader.handle_none_alone(now, attempt),
            Answer::NotAlone { attempt } => daemon.reader.handle_not_alone(now, attempt),
            Answer::Message { arrival, stored, is_alone } => {
                let before = daemon.held;
                let Self { daemons, judge, server, is_tracing, .. } = self;
                judge.note_epochs(&server.epochs);
                if *is_tracing {
                    println!("{:>9} daemon {index}: {arrival:?}", now - 1_000_000);
                }
                let shown = daemons[index].delivered.len();
                daemons[index].handle_message(now, (arrival, &stored, is_alone), judge);
                let daemon = &daemons[index];
                if *is_tracing && daemon.held > before {
                    println!(
                        "{:>9} daemon {index}: shows {} of it",
                        now - 1_000_000,
                        daemon.delivered.len() - shown
                    );
                }
                let (bytes, life) = (daemon.held - before, daemon.life);
                if bytes > 0 {
                    let pause = self.rng.between(1, 50) as u64;
                    self.after(pause, Event::Release(index, life, bytes));
                }
            }
        }
    }
}

/// Publishers.
impl World {
    fn acknowledge(&mut self, index: usize, key: LaneKey, line: u64, stream_seq: u64) {
        for publisher in &mut self.publishers {
            let connection = publisher.connection.filter(|it| it.daemon == index && it.lane == key);
            let Some(connection) = connection else { continue };
            let through = line.min(connection.sent);
            if through > publisher.acked {
                let daemon = &self.daemons[index];
                self.judge.check_ack(daemon, &publisher.word, publisher.acked, through, stream_seq);
                publisher.acked = through;
            }
        }
    }

    fn let_publish(&mut self, index: usize) {
        let pause = self.rng.between(5, 800) as u64;
        self.after(pause, Event::Publisher(index));
        let publisher = &mut self.publishers[index];
        let Some(connection) = publisher.connection else {
            if publisher.waits_for.is_none() && (self.is_chaotic || publisher.name.is_some()) {
                self.greet(index);
            }
            return;
        };
        if self.is_chaotic && self.rng.chance(4) {
            self.trace(|world| format!("{} hangs up", world.publishers[index].word));
            return self.hang_up(index);
        }
        for _ in 0..self.rng.between(1, self.plan.lines_max) {
            let publisher = &mut self.publishers[index];
            let connection = publisher.connection.as_mut().expect("it is connected");
            let is_over = match self.is_chaotic {
                true => connection.sent >= publisher.acked + UNACKED_MAX,
                false => connection.sent >= publisher.lines,
            };
            if is_over || !self.daemons[connection.daemon].writer.has_room_for(connection.lane) {
                break;
            }
            connection.sent += 1;
            publisher.lines = publisher.lines.max(connection.sent);
            let number = connection.sent;
            let writer = &mut self.daemons[connection.daemon].writer;
            let Some(text) = line(&publisher.word, number) else {
                writer.note(connection.lane, number);
                continue;
            };
            let new = NewLine { number, text: text.as_bytes(), job: job_of(&text), flow: flow_of(&text) };
            writer.push(connection.lane, &new);
        }
        self.drain(connection.daemon);
        // What was there before needs no chunk, and so no other word.
        let daemon = &self.daemons[connection.daemon];
        let (dealt, newest) = (daemon.writer.dealt(connection.lane), u64::MAX);
        self.acknowledge(connection.daemon, connection.lane, dealt, newest);
    }

    fn greet(&mut self, index: usize) {
        let daemon = self.rng.below(DAEMONS);
        let now = self.now;
        if self.publishers[index].name.is_none() {
            self.publishers[index].begin_anew(index);
            return self.welcome(daemon, index);
        }
        self.publishers[index].waits_for = Some(daemon);
        self.daemons[daemon].greeting.push_back((now + 1, index));
        self.daemons[daemon].reader.hurry(now + 1);
        self.drain(daemon);
    }

    fn welcome(&mut self, daemon: usize, index: usize) {
        let publisher = &mut self.publishers[index];
        let Daemon { writer, accounts, life, .. } = &mut self.daemons[daemon];
        let token = publisher.token(daemon, *life, index);
        let accepted = accounts.accepted(&token);
        let lane = writer.open(&token, accepted);
        let accepted = accepted.max(writer.accepted(lane));
        let mut sent = accepted;
        // Some go on where they know that they were.
        if publisher.acked > accepted || self.rng.chance(30) {
            sent = publisher.acked;
            writer.number_from(lane, sent + 1);
        }
        publisher.connection = Some(Connection { daemon, lane, sent });
        publisher.waits_for = None;
        self.trace(|world| {
            format!(
                "{} is at daemon {daemon}: accepted {accepted}, sent {sent}",
                world.publishers[index].word
            )
        });
    }

    fn hang_up(&mut self, index: usize) {
        if let Some(connection) = self.publishers[index].connection.take() {
            self.daemons[connection.daemon].writer.close(connection.lane);
        }
    }
}
