//! The life around the daemons: watchers and vandals come and go in one loop, also from daemon to daemon, and everything
//! received is judged once a reference has seen it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use fastrand::Rng;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use slab::Slab;

use crate::check::{NAMES, Names, Said, Since, Topic};
use crate::choice::{self, one_in};
use crate::fleet::{Fleet, REFERENCES};
use crate::judge::{Entry, Judge};
use crate::publisher::Shared;
use crate::vandal::{self, Vandal};
use crate::watcher::{Asked, Ending, Form, Over, Pace, Plan, Watcher, Wish, list};
use crate::{Outcome, PATIENCE};

const VANDALS: usize = 1 << 32;
const BLOCK_BYTES: usize = 256 << 10;
/// The beat of the one loop: slow watchers read, new ones come.
const BEAT: Duration = Duration::from_millis(20);
const SLOW_BEAT: Duration = Duration::from_millis(100);
const COMERS_PER_BEAT: usize = 5;
const VANDALS_MAX: usize = 12;
/// Connections that come together, send nothing, and go together.
const BURST: usize = 100;
const BURST_EVERY: Duration = Duration::from_secs(7);
const BURST_LIFE: Duration = Duration::from_secs(1);
/// From a burst on, a daemon may be full for so long: it may be stopped for a second before it sees the burst go.
const FULL_FOR: Duration = Duration::from_secs(4);
/// Jobs that one connection of the multi-job endpoint watches.
const JOBS_MAX: usize = 12;
const COMEBACKS_MAX: usize = 200;

/// What has happened so far.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    pub connections: u64,
    /// Of them streams over plain HTTP.
    pub plain: u64,
    pub refused_full: u64,
    pub deliveries: u64,
    pub gaps: u64,
    /// Overruns of watchers that read as fast as they can: the machine was busy.
    pub overruns_of_fast: u64,
    pub changes: u64,
    pub comebacks: u64,
    pub vandals: u64,
    pub bursts: u64,
    pub resets: u64,
    pub silenced: u64,
}

pub struct Life {
    pub fleet: Fleet,
    pub counts: Counts,
    shared: Arc<Shared>,
    poll: Poll,
    random: Rng,
    watchers: Slab<Watcher>,
    vandals: Slab<Vandal>,
    /// Of watchers that left, until the stream is known far enough.
    judges: Vec<Judge>,
    /// Of watchers to which the daemon said goodbye.
    drained: Vec<Judge>,
    /// Topics and positions of watchers that left, for others to return to.
    comebacks: Vec<(Topic, u64)>,
    burst: Vec<TcpStream>,
    block: Vec<u8>,
    population: usize,
    beat_at: Instant,
    slow_at: Instant,
    burst_at: Instant,
    full_until: Instant,
}

impl Life {
    pub fn begin(mut fleet: Fleet, shared: Arc<Shared>, seed: u64) -> Outcome<Self> {
        let poll = Poll::new()?;
        fleet.register(poll.registry())?;
        let now = Instant::now();
        Ok(Self {
            fleet,
            counts: Counts::default(),
            shared,
            poll,
            random: Rng::with_seed(seed),
            watchers: Slab::new(),
            vandals: Slab::new(),
            judges: Vec::new(),
            drained: Vec::new(),
            comebacks: Vec::new(),
            burst: Vec::new(),
            block: vec![0; BLOCK_BYTES],
            population: 0,
            beat_at: now,
            slow_at: now,
            burst_at: now + BURST_EVERY,
            full_until: now,
        })
    }

    /// Sets the number of watchers from now on; with none, vandals and faults end too.
    pub fn set_population(&mut self, population: usize) {
        self.population = population;
    }

    pub fn open(&self) -> usize {
        self.watchers.len() + self.vandals.len()
    }

    /// Watchers that have been greeted.
    pub fn greeted(&self) -> usize {
        self.watchers.iter().filter(|(_, watcher)| watcher.has_greeting).count()
    }

    /// Runs one turn of the loop.
    pub fn turn(&mut self, events: &mut Events) -> Outcome<()> {
        match self.poll.poll(events, Some(BEAT)) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            polled => polled?,
        }
        self.read_references()?;
        for event in &*events {
            match event.token() {
                Token(token) if token >= REFERENCES => {}
                Token(token) if token >= VANDALS => self.read_vandal(token - VANDALS),
                Token(key) => self.read_watcher(key, usize::MAX),
            }
        }
        self.read_references()?;
        self.judge();
        let now = Instant::now();
        if now >= self.beat_at {
            self.beat_at = now + BEAT;
            self.beat()?;
        }
        self.fleet.mend(&self.shared, self.poll.registry(), now)
    }

    fn read_references(&mut self) -> Outcome<()> {
        self.fleet.read(&mut self.block)?;
        self.shared.reference.store(self.fleet.stream.newest(), Ordering::Release);
        Ok(())
    }

    fn beat(&mut self) -> Outcome<()> {
        let now = Instant::now();
        let is_slow_beat = now >= self.slow_at;
        if is_slow_beat {
            self.slow_at = now + SLOW_BEAT;
        }
        let keys: Vec<usize> = self.watchers.iter().map(|(key, _)| key).collect();
        for key in keys {
            if let Pace::Slow(bytes) = self.watchers[key].plan.pace
                && is_slow_beat
            {
                self.read_watcher(key, bytes);
            }
            if self.watchers.contains(key) {
                self.look_after(key);
            }
        }
        let keys: Vec<usize> = self.vandals.iter().map(|(key, _)| key).collect();
        keys.into_iter().for_each(|key| self.read_vandal(key));
        if self.population > 0 { self.provoke(now) } else { Ok(()) }
    }

    /// Brings new watchers, and trouble.
    fn provoke(&mut self, now: Instant) -> Outcome<()> {
        for _ in 0..COMERS_PER_BEAT {
            if self.watchers.len() < self.population {
                let before = self.comebacks.len();
                let plan = choice::plan(&mut self.random, &self.fleet.stream, &mut self.comebacks);
                self.counts.comebacks += (before - self.comebacks.len()) as u64;
                self.join(plan)?;
            }
        }
        if self.vandals.len() < VANDALS_MAX && one_in(&mut self.random, 4) {
            self.counts.vandals += 1;
            self.counts.connections += 1;
            let kind = self.random.usize(..vandal::KINDS);
            let (place, daemon) = self.fleet.choose(&mut self.random);
            let mut vandal = Vandal::open(daemon.address, place, kind)?;
            let entry = self.vandals.vacant_entry();
            let token = Token(VANDALS + entry.key());
            self.poll.registry().register(&mut vandal.socket, token, Interest::READABLE)?;
            entry.insert(vandal);
        }
        if now >= self.burst_at {
            self.burst_at = now + BURST_EVERY;
            self.full_until = now + FULL_FOR;
            self.counts.bursts += 1;
            let (_, daemon) = self.fleet.choose(&mut self.random);
            let sockets = (0..BURST).map(|_| TcpStream::connect(daemon.address));
            self.burst = sockets.collect::<Result<_, _>>()?;
            self.counts.connections += BURST as u64;
        }
        if now + BURST_EVERY >= self.burst_at + BURST_LIFE {
            self.burst.clear();
        }
        if let Some(place) = self.fleet.trouble(&self.shared, &mut self.random, now)? {
            self.abandon(place);
        }
        Ok(())
    }

    /// The daemon of this place was killed: what its watchers had until then is judged, and they may go elsewhere.
    fn abandon(&mut self, place: usize) {
        self.vandals.retain(|_, vandal| vandal.place != place);
        let keys = self.watchers.iter().filter(|(_, watcher)| watcher.place == place);
        for key in keys.map(|(key, _)| key).collect::<Vec<_>>() {
            if let Err(error) = self.watchers[key].read(&mut self.block, usize::MAX) {
                self.shared.blame(format!("{:?}: {error}", self.watchers[key].plan));
            }
            self.leave(key);
        }
    }

    fn join(&mut self, plan: Plan) -> Outcome<()> {
        self.counts.connections += 1;
        self.counts.plain += u64::from(plan.form != Form::WebSocket);
        let name = format!("watcher {}", self.counts.connections);
        let (place, daemon) = self.fleet.choose(&mut self.random);
        let mut watcher = Watcher::open(daemon.address, place, plan, name)?;
        let entry = self.watchers.vacant_entry();
        if watcher.plan.pace == Pace::Fast {
            self.poll.registry().register(&mut watcher.socket, Token(entry.key()), Interest::READABLE)?;
        }
        entry.insert(watcher);
        Ok(())
    }

    /// Adds a watcher that reads and stays.
    pub fn join_steady(&mut self) -> Outcome<()> {
        let plan = choice::steady(&mut self.random, &self.fleet.stream);
        self.join(plan)
    }

    fn read_vandal(&mut self, key: usize) {
        let Some(vandal) = self.vandals.get_mut(key) else { return };
        match vandal.read(&mut self.block, self.full_until) {
            Ok(false) => return,
            Ok(true) => {}
            Err(violation) => self.shared.blame(violation),
        }
        self.vandals.remove(key);
    }

    fn read_watcher(&mut self, key: usize, limit: usize) {
        let Some(watcher) = self.watchers.get_mut(key) else { return };
        match watcher.read(&mut self.block, limit) {
            Ok(None) => {}
            Ok(Some(over)) => self.part(key, over),
            Err(error) => {
                self.shared.blame(format!("{:?}: {error}", watcher.plan));
                self.leave(key);
            }
        }
    }

    /// The daemon has ended a connection: checks that it should have.
    fn part(&mut self, key: usize, over: Over) {
        let watcher = &self.watchers[key];
        let (plan, is_ending) = (&watcher.plan, watcher.ends_at.is_some());
        let is_right = match over {
            Over::Refused(503) => {
                self.counts.refused_full += 1;
                true
            }
            Over::Refused(_) => false,
            Over::Closed(Some(1012)) => watcher.goodbye.is_some(),
            Over::Complete if watcher.goodbye.is_some() => true,
            // It was ended for reading nothing.
            Over::Complete => plan.pace == Pace::Never,
            Over::Closed(Some(1011)) if plan.is_mute || plan.pace == Pace::Never => {
                self.counts.silenced += 1;
                true
            }
            // The close frame came after what was never read.
            Over::Closed(None) if plan.pace == Pace::Never => true,
            Over::Closed(Some(1000)) => is_ending && plan.ending == Ending::Close,
            Over::Closed(None) => is_ending && plan.ending == Ending::HalfClose,
            Over::Closed(_) => false,
            Over::Reset => {
                self.counts.resets += 1;
                // A full daemon has a few places to say so from; beyond these it resets those who have no answer yet.
                plan.pace != Pace::Fast || !watcher.is_open
            }
        };
        if !is_right {
            let lived = watcher.born.elapsed();
            self.shared.blame(format!("{over:?} after {lived:.1?}, ending: {is_ending}: {plan:?}"));
        }
        self.leave(key);
    }

    fn leave(&mut self, key: usize) {
        let watcher = self.watchers.remove(key);
        self.counts.deliveries += watcher.judge.events;
        self.counts.gaps += watcher.judge.gaps;
        if watcher.plan.pace == Pace::Fast {
            self.counts.overruns_of_fast += watcher.judge.overruns;
        }
        // A watcher that never changed its filter knows it.
        if let Wish::One { topic, names: Names::ALL, .. } = watcher.plan.wish
            && watcher.names == Names::ALL
            && watcher.asked.is_empty()
            && watcher.position > 0
            && self.comebacks.len() < COMEBACKS_MAX
        {
            self.comebacks.push((topic, watcher.position));
        }
        let is_drained = watcher.goodbye.is_some();
        if is_drained { self.drained.push(watcher.judge) } else { self.judges.push(watcher.judge) }
    }

    fn judge(&mut self) {
        let stream = &self.fleet.stream;
        let watching = self.watchers.iter_mut().map(|(_, watcher)| &mut watcher.judge);
        for judge in watching.chain(&mut self.judges) {
            if let Err(violation) = judge.judge(stream) {
                self.shared.blame(violation);
            }
        }
        self.judges.retain(|judge| !judge.is_done());
    }

    fn look_after(&mut self, key: usize) {
        let now = Instant::now();
        let watcher = &mut self.watchers[key];
        watcher.flush();
        if let Some(at) = watcher.ends_at {
            if now > at + PATIENCE {
                self.shared.blame(format!("not released: {:?}", watcher.plan));
                self.leave(key);
            }
            return;
        }
        if watcher.is_over_due() {
            if watcher.plan.is_mute && self.population > 0 {
                self.shared.blame(format!("silent and still there: {:?}", watcher.plan));
            }
            return self.end(key);
        }
        let may_act = watcher.is_open
            && watcher.plan.form == Form::WebSocket
            && watcher.plan.pace != Pace::Never
            && !watcher.plan.is_mute;
        if may_act && now >= watcher.next_act {
            watcher.next_act = now + Duration::from_millis(100 + self.random.u64(..2_000));
            self.act(key);
        }
    }

    fn end(&mut self, key: usize) {
        if self.watchers[key].plan.pace != Pace::Fast {
            // What is in its socket was sent, and is judged too.
            self.read_watcher(key, usize::MAX);
        }
        let Some(watcher) = self.watchers.get_mut(key) else { return };
        match watcher.end(&mut self.block) {
            Ok(true) => {}
            Ok(false) => self.leave(key),
            Err(error) => {
                self.shared.blame(format!("{:?}: {error}", watcher.plan));
                self.leave(key);
            }
        }
    }

    /// Sends a message of the watcher's own.
    fn act(&mut self, key: usize) {
        let (random, watcher) = (&mut self.random, &mut self.watchers[key]);
        let is_many = matches!(watcher.plan.wish, Wish::Many);
        match random.u64(..if is_many { 12 } else { 6 }) {
            0 => watcher.send_text(r#"{"type":"ping"}"#),
            1 => watcher.ask(r#"{"action":"dance"}"#, Asked::Bad),
            2 if !is_many => {
                self.counts.changes += 1;
                watcher.names = Names::ALL;
                watcher.ask(r#"{"action":"subscribe_all"}"#, Asked::Filter(Names::ALL));
            }
            3..=5 => {
                self.counts.changes += 1;
                let names = choice::names(random);
                let (action, changed) = match one_in(random, 2) {
                    true => ("subscribe", watcher.names.subscribe(names)),
                    false => ("unsubscribe", watcher.names.unsubscribe(names)),
                };
                watcher.names = changed;
                let list = serde_json::to_string(&list(names)).expect("a list of names");
                watcher.ask(&format!(r#"{{"action":"{action}","events":{list}}}"#), Asked::Filter(changed));
            }
            _ if watcher.jobs.len() < JOBS_MAX && !one_in(random, 4) => {
                let job = choice::job(random, &self.fleet.stream);
                if watcher.jobs.contains(&job) {
                    return;
                }
                watcher.jobs.push(job);
                let (since, text) = match one_in(random, 2) {
                    true => (Since::Now, String::new()),
                    false => (Since::Start, r#","since":"start""#.to_owned()),
                };
                watcher.ask(
                    &format!(r#"{{"type":"subscribe","job_id":"{job}"{text}}}"#),
                    Asked::Join(job, since),
                );
            }
            _ if !watcher.jobs.is_empty() => {
                let job = watcher.jobs.swap_remove(random.usize(..watcher.jobs.len()));
                watcher.ask(&format!(r#"{{"type":"unsubscribe","job_id":"{job}"}}"#), Asked::Leave(job));
            }
            _ => {}
        }
    }

    /// Ends every connection, and waits until all are gone.
    pub fn send_home(&mut self, events: &mut Events) -> Outcome<()> {
        self.set_population(0);
        self.burst.clear();
        self.watchers.iter_mut().for_each(|(_, watcher)| watcher.plan.life = Duration::ZERO);
        let begin = Instant::now();
        while self.open() > 0 || !self.fleet.is_whole() {
            self.turn(events)?;
            if begin.elapsed() > PATIENCE * 2 {
                return Err(
                    format!("{} connections do not end, or a daemon does not start", self.open()).into()
                );
            }
        }
        Ok(())
    }

    /// The daemons have been asked to drain: reads to the end, and judges the goodbyes.
    pub fn drain(&mut self, events: &mut Events) -> Outcome<()> {
        let begin = Instant::now();
        while self.open() > 0 || !self.fleet.has_ended() {
            self.turn(events)?;
            if begin.elapsed() > PATIENCE {
                return Err("the daemon does not drain".into());
            }
        }
        let last = self.fleet.stream.newest();
        self.fleet.wait()?.into_iter().for_each(|wrong| self.shared.blame(wrong));
        for mut judge in std::mem::take(&mut self.drained) {
            // Watchers that kept reading have received everything.
            judge.hear(Entry::Said(None, Said::Position(last)));
            if let Err(violation) = judge.finish(&self.fleet.stream) {
                self.shared.blame(violation);
            }
        }
        Ok(())
    }
}

/// Every name of [`NAMES`] has its bit.
const _: () = assert!(NAMES.len() <= 16);
