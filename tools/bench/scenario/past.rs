//! Many watchers ask a daemon on a bus for events that only the stream still has.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::Outcome;
use crate::crowd::Crowd;
use crate::feed::Feed;
use crate::format;
use crate::lab::{BYTES_PER_SECOND, CATCH_UP, Findings, Kind, Lab, P99, P99_BEFORE, latency_figures};
use crate::load::{Load, Pace};
use crate::result::{Better, Scenario};
use crate::scenario::Options;
use crate::scenario::bus::{SHARED, Setting, contestant};
use crate::scenario::scrape::ask;
use crate::scenario::setting::{Size, scenario, target_at_most, target_times_within};
use crate::server::{Server, free_port};
use crate::tally::Tally;

const ABOUT: &str = "A daemon with a small memory has taken events in. Then many watchers come at the same moment and ask \
    for events from before that memory (since=): the daemon reads them from the stream again, for all at once, while \
    others watch live. The time runs until all are live.";

const SAME: &str = "luxcast on a bus, all from one place";
const OWN: &str = "luxcast on a bus, each from its own place";
/// Live watchers, whose latency is measured.
const LIVE: usize = 10;
/// All watchers of their crowd.
const LIVE_GROUP: u8 = 0;
/// Events a second while that is measured.
const RATE: f64 = 1_000.0;
const STEADY_EVENTS: u64 = 3_000;
/// While the stock is published.
const WINDOW: u64 = 1_024;
/// Watchers begin at one of so many places, in the oldest tenth of the stock.
const PLACES: u64 = 20;
const OLDEST_SHARE: u64 = 10;
/// Eight of the longest lines, which is the least that a daemon on this stream may keep.
const MEMORY_BYTES: u64 = 8_000_000;
/// A part of the stock, so that it slides.
const PAST_BYTES: u64 = 8 << 20;
/// All of the stock to each of a thousand is much.
const PATIENCE: Duration = Duration::from_secs(180);
/// Events behind the newest: who is so near is live.
const NEAR: u64 = 20;
/// The priority of the thread that reads the past.
const NICE: i32 = 10;
/// For those who come while the first one is under way, and some that a busy machine costs.
const PASSES_MAX: f64 = 10.0;

const READ_PER_SECOND: Kind = Kind {
    name: "past_bytes_per_second",
    label: "read from the stream",
    unit: "B/s",
    better: Better::Higher,
};
const PASSES: Kind =
    Kind { name: "past_passes", label: "times that the stream was read", unit: "", better: Better::Lower };

pub fn run(lab: &Lab, options: &Options) -> Outcome<Scenario> {
    let size = Size::new(options, 1_000, 1, WINDOW)?;
    Size { watchers: size.watchers + LIVE, ..size }.check(lab)?;
    let events = options.events.unwrap_or(100_000);
    let contestants = [SAME, OWN].map(|name| contestant(name, events));
    let results = lab.compare("bus-past", &contestants, |contestant, watch| {
        measure(lab, size, contestant.events, contestant.name == OWN, watch)
    });
    let number = |count: u64| format::number(count as f64);
    let parameters = vec![
        ("watchers that ask for the past".to_owned(), number(size.watchers as u64)),
        ("watchers that are live".to_owned(), number(LIVE as u64)),
        ("events since the oldest place".to_owned(), number(events)),
        ("of it as frames".to_owned(), format::bytes(events * size.shape.frame_bytes as u64)),
        ("of it in memory, at most".to_owned(), format::bytes(MEMORY_BYTES)),
        ("memory for the past".to_owned(), format::bytes(PAST_BYTES)),
        ("events a second meanwhile".to_owned(), number(RATE as u64)),
    ];
    let targets = [
        target_at_most(PASSES, &results, SAME, PASSES_MAX),
        target_at_most(PASSES, &results, OWN, PASSES_MAX),
        target_times_within(P99, P99_BEFORE, &results, SAME, 2.0),
    ];
    let title = "The past beyond memory";
    let mut found = scenario("bus-past", title, ABOUT, parameters, CATCH_UP, results);
    found.targets.extend(targets.into_iter().flatten());
    found.notes.push(format!("{SHARED} The stream has one copy, and each run a new one."));
    Ok(found)
}

fn measure(
    lab: &Lab,
    size: Size,
    events: u64,
    has_own_places: bool,
    watch: &mut dyn FnMut(f64),
) -> Outcome<Findings> {
    let admin = SocketAddr::from(([127, 0, 0, 1], free_port()?));
    let setting = start(lab, admin)?;
    let mut load = begin(&setting, size)?;
    let places = publish(&mut load, &setting, events, watch)?;
    load.pace = Pace::PerSecond(RATE);
    load.time_messages(0, LIVE_GROUP);
    load.run(&setting.daemons[0], STEADY_EVENTS, watch)?;
    let before = latency_figures(&load.latency()?);
    let read_before = Read::of(admin)?;
    load.time_messages(0, LIVE_GROUP);
    let (seconds, tally) = go_back(&mut load, &setting.daemons[0], size, |watcher| {
        places[if has_own_places { watcher % places.len() } else { 0 }]
    })?;
    let histogram = load.latency()?;
    let read = Read::of(admin)?;
    if read.passes == read_before.passes {
        return Err("memory had all of it".into());
    }
    let mut figures = vec![
        (CATCH_UP, seconds),
        (READ_PER_SECOND, (read.bytes - read_before.bytes) / seconds),
        (BYTES_PER_SECOND, tally.bytes as f64 / seconds),
        (PASSES, read.passes - read_before.passes),
    ];
    figures.extend(latency_figures(&histogram));
    figures.extend(before.iter().filter(|(kind, _)| *kind == P99).map(|(_, value)| (P99_BEFORE, *value)));
    Ok(Findings {
        figures,
        latency: Some(histogram),
        complaint: load.crowd.tally.complaint().or(tally.complaint()),
    })
}

/// One daemon with little memory.
fn start(lab: &Lab, admin: SocketAddr) -> Outcome<Setting> {
    let mut setting = Setting::start(lab, 1, 0)?;
    for (name, value) in [
        ("--admin", admin.to_string()),
        ("--history-bytes", MEMORY_BYTES.to_string()),
        ("--bus-past-bytes", PAST_BYTES.to_string()),
    ] {
        setting.flags.extend([name.to_owned(), value]);
    }
    setting.add(lab)?;
    Ok(setting)
}

/// Opens the live watchers, and the feed.
fn begin(setting: &Setting, size: Size) -> Outcome<Load> {
    let daemon = &setting.daemons[0];
    // Who spins would leave no time to those who read the past.
    let mut crowd = Crowd::of(daemon, size.shape, false)?;
    crowd.gather(LIVE, daemon.address, LIVE_GROUP, |_| daemon.request(0, ""))?;
    let feed = Feed::open(daemon.inlet.clone(), size.shape, 1, &crowd.poll)?;
    let mut load = Load::new(crowd, feed, vec![LIVE as u64], Pace::Window(size.window));
    load.warm_up()?;
    Ok(load)
}

/// Where a watcher begins.
#[derive(Clone, Copy)]
struct Place {
    since: u64,
    /// The number within the job that it must get first.
    next: u64,
}

/// Publishes the stock; returns places in its oldest part, the oldest first.
fn publish(
    load: &mut Load,
    setting: &Setting,
    events: u64,
    watch: &mut dyn FnMut(f64),
) -> Outcome<Vec<Place>> {
    let mut places = Vec::new();
    let part = (events / OLDEST_SHARE / PLACES).max(1);
    for _ in 0..PLACES {
        places.push(Place { since: load.crowd.stream_seq, next: load.feed.next_of(0) });
        load.run(&setting.daemons[0], part, watch)?;
    }
    load.run(&setting.daemons[0], events.saturating_sub(part * PLACES).max(1), watch)?;
    Ok(places)
}

/// All come at once, in a thread of their own, which gives way to the one of the live watchers: what is to be seen is the
/// daemon, not the load. Returns how long it takes until all are live, and the bytes that they got.
fn go_back(
    load: &mut Load,
    daemon: &Server,
    size: Size,
    place: impl Fn(usize) -> Place,
) -> Outcome<(f64, Tally)> {
    let mut crowd = Crowd::of(daemon, size.shape, false)?;
    let begin = Instant::now();
    for watcher in 0..size.watchers {
        let Place { since, next } = place(watcher);
        let request = daemon.request(0, &format!("?since={since}"));
        let key = crowd.open(daemon.address, request, 0)?;
        crowd.expect(key, next);
    }
    let newest = AtomicU64::new(load.feed.next_of(0));
    thread::scope(|scope| {
        let readers = scope.spawn(|| read_all(crowd, &newest));
        load.keep_pace_within(PATIENCE, begin, RATE, |_, next| {
            newest.store(next, Ordering::Relaxed);
            readers.is_finished()
        })?;
        let tally = readers.join().expect("readers do not panic")?;
        Ok((begin.elapsed().as_secs_f64(), tally))
    })
}

/// Reads until all are where the live ones are.
fn read_all(mut crowd: Crowd, newest: &AtomicU64) -> Result<Tally, String> {
    // Without the right to do so, it is as urgent as the others.
    let _ = rustix::process::nice(NICE);
    let is_live = |crowd: &Crowd, key: usize| {
        crowd.is_open(key) && crowd.next_of(key) + NEAR >= newest.load(Ordering::Relaxed)
    };
    let begin = Instant::now();
    while !(0..crowd.len()).all(|key| is_live(&crowd, key)) {
        crowd.turn(Duration::from_millis(1)).map_err(|error| error.to_string())?;
        if begin.elapsed() > PATIENCE {
            return Err("not all watchers have caught up".into());
        }
    }
    Ok(crowd.tally)
}

/// What the daemon has read from the stream again.
#[derive(Clone, Copy)]
struct Read {
    passes: f64,
    bytes: f64,
}

impl Read {
    fn of(admin: SocketAddr) -> Outcome<Self> {
        let answer = String::from_utf8(ask(admin, "/metrics")?)?;
        let value = |name: &str| -> Outcome<f64> {
            let value = answer.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            Ok(value.ok_or_else(|| format!("the daemon has no {name}"))?.parse()?)
        };
        Ok(Self {
            passes: value("luxcast_bus_past_passes_total")?,
            bytes: value("luxcast_bus_past_bytes_total")?,
        })
    }
}
