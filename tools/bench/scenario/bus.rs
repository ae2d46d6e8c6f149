//! What it costs that several daemons share one stream of NATS JetStream: the feed, the latency, the way back.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::Outcome;
use crate::crowd::{Crowd, PATIENCE};
use crate::feed::Feed;
use crate::format;
use crate::lab::{
    CATCH_UP, CPU_PER_EVENT, Contestant, EVENTS_PER_SECOND, Findings, Kind, Lab, NEXT_EVENT, P50, P99,
    latency_figures,
};
use crate::layout::Transport;
use crate::load::{Load, Pace};
use crate::nats::Servers;
use crate::result::{Role, Scenario, ServerResult, Target};
use crate::scenario::Options;
use crate::scenario::ingest::{feed_alone, lines};
use crate::scenario::setting::{scenario, shape, target_at_least_times, target_at_most, target_at_most_more};
use crate::server::{Server, Which};
use crate::wire::Shape;

const RATES: [u64; 2] = [50, 1_000];
const NO_BUS: &str = "luxcast alone";
const ONE_COPY: &str = "luxcast on a bus, 1 copy";
const THREE_COPIES: &str = "luxcast on a bus, 3 copies";
const SAME: &str = "luxcast on a bus";
const OTHER: &str = "luxcast on a bus, through another daemon";
/// All of the history that a daemon has by default.
const HISTORY_BYTES: u64 = 256 << 20;
/// Away for so long that its server and its reader have noticed.
const AWAY: Duration = Duration::from_secs(6);
/// Events a second beside a server's end.
const QUIET_RATE: f64 = 50.0;

/// Daemons and the servers under them. The daemons end first.
pub(super) struct Setting {
    pub daemons: Vec<Server>,
    pub flags: Vec<String>,
    servers: Option<Servers>,
}

impl Setting {
    /// The servers have the daemons' core. Without copies there is no bus.
    pub fn start(lab: &Lab, copies: usize, daemons: usize) -> Outcome<Self> {
        let core = lab.pinning.server.map(|core| core.to_string());
        let prefix: Vec<&str> = core.iter().flat_map(|core| ["taskset", "-c", core]).collect();
        let program = lab.nats_server.as_deref().ok_or("a bus needs --nats-server")?;
        let servers = (copies > 0).then(|| Servers::start(program, &prefix, copies)).transpose()?;
        // That a server has gone is no news here.
        let mut flags = ["--shards", "1", "--log-level", "error"].map(str::to_owned).to_vec();
        flags.extend(servers.as_ref().map_or(Vec::new(), Servers::flags));
        let mut setting = Self { daemons: Vec::new(), flags, servers };
        (0..daemons).try_for_each(|_| setting.add(lab))?;
        Ok(setting)
    }

    /// Starts one more daemon; it listens as soon as it has its history.
    pub fn add(&mut self, lab: &Lab) -> Outcome<()> {
        self.daemons.push(Server::start(&Which::Luxcast(self.flags.clone()), &lab.pinning)?);
        Ok(())
    }

    /// Publishes through the first daemon to one watcher of the last.
    fn begin(&self, shape: Shape, lab: &Lab) -> Outcome<Load> {
        let last = self.daemons.last().ok_or("there is no daemon")?;
        let mut crowd = Crowd::of(last, shape, lab.spins())?;
        crowd.gather(1, last.address, 0, |_| last.request(0, ""))?;
        let feed = Feed::open(self.daemons[0].inlet.clone(), shape, 1, &crowd.poll)?;
        let mut load = Load::new(crowd, feed, vec![1], Pace::PerSecond(QUIET_RATE));
        load.warm_up()?;
        Ok(load)
    }
}

pub(super) fn contestant(name: &str, events: u64) -> Contestant {
    Contestant {
        name: name.to_owned(),
        role: Role::Luxcast,
        which: Which::Luxcast(Vec::new()),
        transport: Transport::WebSocket,
        events,
    }
}

pub(super) const SHARED: &str = "nats-server has the daemons' core, all on this machine.";

/// Of each publisher one chunk at a time is on its way: more publishers have more chunks there.
const PUBLISHERS: [usize; 3] = [1, 4, 16];

pub fn run_ingest(lab: &Lab, options: &Options) -> Outcome<Scenario> {
    const ABOUT: &str = "Publishers write lines as fast as they are taken, and nobody watches. On a bus each line goes \
        to nats-server and comes back before it counts: an ack means that it is in the stream.";
    let shape = shape(options)?;
    let events = options.events.unwrap_or(1_000_000);
    let cases = PUBLISHERS.iter().flat_map(|&count| [(NO_BUS, count), (ONE_COPY, count)]);
    let cases: Vec<(String, (&str, usize))> =
        cases.map(|(name, count)| (with_publishers(name, count), (name, count))).collect();
    let contestants: Vec<Contestant> = cases.iter().map(|(name, _)| contestant(name, events)).collect();
    let results = lab.compare("bus-ingest", &contestants, |contestant, watch| {
        let case = cases.iter().find(|(name, _)| *name == contestant.name);
        let (_, (name, publishers)) = case.ok_or("it is one of these")?;
        let setting = Setting::start(lab, usize::from(*name == ONE_COPY), 1)?;
        let figures = feed_alone(&setting.daemons[0], contestant.events, *publishers, shape, lab, watch)?;
        Ok(Findings { figures, latency: None, complaint: None })
    });
    let targets = PUBLISHERS.iter().filter_map(|&count| {
        let [on_bus, alone] = [ONE_COPY, NO_BUS].map(|name| with_publishers(name, count));
        target_at_least_times(EVENTS_PER_SECOND, &results, &on_bus, &alone, 0.3)
    });
    let targets: Vec<Target> = targets.collect();
    let parameters = lines(events, shape);
    let mut found =
        scenario("bus-ingest", "The feed, alone and on a bus", ABOUT, parameters, EVENTS_PER_SECOND, results);
    found.targets.extend(targets);
    found.notes.push(format!("{SHARED} {} is the daemon's alone.", CPU_PER_EVENT.label));
    Ok(found)
}

fn with_publishers(name: &str, count: usize) -> String {
    match count {
        1 => format!("{name}, 1 publisher"),
        _ => format!("{name}, {count} publishers"),
    }
}

pub fn run_latency(lab: &Lab, options: &Options) -> Outcome<Scenario> {
    const ABOUT: &str = "Events come at a steady rate; the way of each from the publisher's write to a watcher's read \
        is timed: without a bus, on one through the same daemon, and on one through another daemon.";
    let shape = shape(options)?;
    let seconds = options.seconds.unwrap_or(5);
    let rates = options.rates.clone().unwrap_or_else(|| RATES.to_vec());
    let mut contestants = Vec::new();
    for rate in &rates {
        let named = |name| contestant(&at_rate(name, *rate), rate * seconds);
        contestants.extend([NO_BUS, SAME, OTHER].map(named));
    }
    let results = lab.compare("bus-latency", &contestants, |contestant, watch| {
        let copies = usize::from(!contestant.name.starts_with(NO_BUS));
        let daemons = 1 + usize::from(contestant.name.starts_with(OTHER));
        let setting = Setting::start(lab, copies, daemons)?;
        let mut load = setting.begin(shape, lab)?;
        load.pace = Pace::PerSecond(contestant.events as f64 / seconds as f64);
        load.time_messages(0, 0);
        load.run(&setting.daemons[0], contestant.events, watch)?;
        let histogram = load.latency()?;
        let figures = latency_figures(&histogram);
        Ok(Findings { figures, latency: Some(histogram), complaint: load.crowd.tally.complaint() })
    });
    let targets = latency_targets(&rates, &results);
    let parameters = vec![("seconds".to_owned(), seconds.to_string())];
    let title = "Publish to receive, alone and on a bus";
    let mut found = scenario("bus-latency", title, ABOUT, parameters, P99, results);
    found.targets = targets;
    found.notes.push(format!("{SHARED} The stream has one copy, and each run a new one."));
    Ok(found)
}

fn latency_targets(rates: &[u64], results: &[ServerResult]) -> Vec<Target> {
    let mut targets = Vec::new();
    for rate in rates {
        let alone = at_rate(NO_BUS, *rate);
        for (name, more_max) in [(SAME, 1.0), (OTHER, 1.0)] {
            targets.extend(target_at_most_more(P50, results, &at_rate(name, *rate), &alone, more_max));
        }
    }
    targets
}

fn at_rate(name: &str, rate: u64) -> String {
    format!("{name}, {}/s", format::number(rate as f64))
}

const STOPPED: &str = "luxcast, stopped for a while";
const ANEW: &str = "luxcast, started with an empty memory";
const TAKEOVER: &str = "luxcast, when the leader of three servers is killed";

pub fn run_return(lab: &Lab, options: &Options) -> Outcome<Scenario> {
    const ABOUT: &str = "A daemon that only watches was away, while others took events in. Stopped: it goes on, and the \
        time runs until its watcher has all. Started: the time runs until it listens, with its history back from the \
        stream. Killed: the server that leads is gone, and the time runs until the next event that was published then \
        has come.";
    let shape = shape(options)?;
    let events = options.events.unwrap_or(HISTORY_BYTES / shape.frame_bytes as u64);
    let contestants = [contestant(STOPPED, events), contestant(ANEW, events), contestant(TAKEOVER, events)];
    let results = lab.compare("bus-return", &contestants, |contestant, watch| match &*contestant.name {
        STOPPED => catch_up(lab, shape, events, watch),
        ANEW => start_anew(lab, shape, events, watch),
        _ => take_over(lab, shape),
    });
    let target = target_at_most(NEXT_EVENT, &results, TAKEOVER, 10.0);
    let parameters = vec![
        ("events missed".to_owned(), format::number(events as f64)),
        ("of it as frames".to_owned(), format::bytes(events * shape.frame_bytes as u64)),
    ];
    let mut found = scenario("bus-return", "Back on a bus", ABOUT, parameters, CATCH_UP, results);
    found.targets.extend(target);
    found.notes.push(format!("{SHARED} {THREE_COPIES} where a server is killed, otherwise one."));
    Ok(found)
}

/// What came, over the time that it took.
fn caught_up(events: u64, seconds: f64) -> Findings {
    let figures: Vec<(Kind, f64)> = vec![(CATCH_UP, seconds), (FOLLOWED, events as f64 / seconds)];
    Findings { figures, latency: None, complaint: None }
}

const FOLLOWED: Kind = Kind { label: "events caught up with", ..EVENTS_PER_SECOND };

/// One daemon is stopped while another takes events in.
fn catch_up(lab: &Lab, shape: Shape, events: u64, watch: &mut dyn FnMut(f64)) -> Outcome<Findings> {
    let setting = Setting::start(lab, 1, 2)?;
    let mut load = setting.begin(shape, lab)?;
    let follower = &setting.daemons[1];
    follower.signal(Signal::STOP)?;
    let away = Instant::now();
    feed_alone(&setting.daemons[0], events, 1, shape, lab, watch)?;
    while away.elapsed() < AWAY {
        load.crowd.turn(Duration::from_millis(1))?;
    }
    let before = load.crowd.tally.messages;
    let begin = Instant::now();
    follower.signal(Signal::CONT)?;
    let mut progress = (before, begin);
    // The feed's numbers begin at 1 again: only how many come is looked at.
    while load.crowd.tally.messages - before < events {
        load.crowd.turn(Duration::from_millis(1))?;
        if load.crowd.tally.messages > progress.0 {
            progress = (load.crowd.tally.messages, Instant::now());
        } else if progress.1.elapsed() > PATIENCE {
            let came = progress.0 - before;
            let gaps = load.crowd.tally.gaps;
            return Err(format!("{came} of {events} events came, with {gaps} gaps").into());
        }
    }
    Ok(caught_up(events, begin.elapsed().as_secs_f64()))
}

/// One daemon is started when another has taken events in.
fn start_anew(lab: &Lab, shape: Shape, events: u64, watch: &mut dyn FnMut(f64)) -> Outcome<Findings> {
    let mut setting = Setting::start(lab, 1, 1)?;
    feed_alone(&setting.daemons[0], events, 1, shape, lab, watch)?;
    let begin = Instant::now();
    setting.add(lab)?;
    Ok(caught_up(events, begin.elapsed().as_secs_f64()))
}

/// The server that leads is killed beside a quiet feed.
fn take_over(lab: &Lab, shape: Shape) -> Outcome<Findings> {
    let mut setting = Setting::start(lab, 3, 2)?;
    let mut load = setting.begin(shape, lab)?;
    load.keep_pace(Instant::now(), QUIET_RATE, |_, next| next > 2 * QUIET_RATE as u64)?;
    let servers = setting.servers.as_mut().ok_or("there is a bus")?;
    let leader = servers.leader().ok_or("no server leads")?;
    servers.kill(leader)?;
    let (killed_at, first) = (Instant::now(), load.feed.next_of(0));
    load.keep_pace(killed_at, QUIET_RATE, |crowd, _| crowd.next_of(0) > first)?;
    let figures = vec![(NEXT_EVENT, killed_at.elapsed().as_secs_f64())];
    Ok(Findings { figures, latency: None, complaint: load.crowd.tally.complaint() })
}
