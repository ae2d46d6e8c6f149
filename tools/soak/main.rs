//! luxcast-soak: runs with one daemon, or with several on one stream, for a chosen time and verifies everything that it sends.
#![doc = include_str!("README.md")]
#![forbid(unsafe_code)]

mod check;
mod choice;
mod chunk;
mod daemon;
mod flat;
mod fleet;
mod frame;
mod judge;
mod life;
mod lines;
#[path = "../bench/nats.rs"]
mod nats;
mod poster;
mod publisher;
mod reference;
mod stream;
mod vandal;
mod watcher;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use fastrand::Rng;
use mio::Events;
use parking_lot::Mutex;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::flat::Samples;
use crate::fleet::Fleet;
use crate::life::Life;
use crate::publisher::{Shared, run_named, run_nameless};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// How long to wait for what must come. It only bounds hanging.
const PATIENCE: Duration = Duration::from_secs(60);
/// Small, so that the history is full early and slow watchers fall off its end.
const HISTORY_BYTES: usize = 4 << 20;
const HISTORY_SECONDS: Duration = Duration::from_secs(8);
/// The least in which lines of a stream's usual length may come.
const FLEET_HISTORY_BYTES: usize = 8 << 20;
/// Longer than the stream may be away, in which publishers wait and are not to be forgotten.
const FLEET_HISTORY_SECONDS: Duration = Duration::from_secs(60);
const NAMED: u64 = 4;
const NAMELESS: u64 = 2;
/// Connections beyond the watchers: vandals and bursts. Further ones are refused for lack of room.
const ROOM: usize = 40;
/// Watchers to which the daemon says goodbye at its end.
const STEADY: usize = 50;
const PROGRESS: Duration = Duration::from_secs(5);
const VIOLATIONS_SHOWN: usize = 20;
const EXIT_USAGE: u8 = 2;

/// Run with the daemon for a chosen time; check every stream, memory and descriptors
#[derive(Parser)]
#[command(version, after_help = "Exit codes: 0 no faults; 1 faults found; 2 wrong usage.")]
struct Arguments {
    /// Duration
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u64).range(15..))]
    seconds: u64,
    /// Seed for who does what; the order of events depends on the machine
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// Watchers at a time
    #[arg(long, value_name = "N", default_value_t = 150)]
    watchers: usize,
    /// Events a second, about
    #[arg(long, value_name = "N", default_value_t = 1_500, value_parser = clap::value_parser!(u64).range(100..))]
    events_per_second: u64,
    /// Daemons on one stream of NATS JetStream, among which watchers and publishers move
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=16))]
    daemons: u64,
    /// The program that keeps the stream; tools/test installs one as target/nats/VERSION/nats-server
    #[arg(long, value_name = "PATH")]
    nats_server: Option<PathBuf>,
    /// Servers, each with a copy of the stream
    #[arg(long, value_name = "N", default_value = "3", value_parser = ["1", "3"], requires = "nats_server")]
    replicas: String,
}

impl Arguments {
    /// The program under a fleet and the copies of its stream, if it is one.
    fn servers(&self) -> Result<Option<(&Path, usize)>, String> {
        match &self.nats_server {
            None if self.daemons > 1 => Err(format!(
                "--daemons {} needs --nats-server PATH, the program that keeps their stream; tools/test installs one as \
                 target/nats/VERSION/nats-server",
                self.daemons
            )),
            Some(program) if !program.is_file() => {
                Err(format!("--nats-server {}: no such file", program.display()))
            }
            program => {
                Ok(program.as_deref().map(|program| (program, if self.replicas == "1" { 1 } else { 3 })))
            }
        }
    }

    fn fleet_words(&self) -> String {
        self.nats_server.as_ref().map_or(String::new(), |program| {
            let program = program.display();
            format!(" --daemons {} --replicas {} --nats-server {program}", self.daemons, self.replicas)
        })
    }

    fn history_bytes(&self) -> usize {
        if self.nats_server.is_some() { FLEET_HISTORY_BYTES } else { HISTORY_BYTES }
    }

    fn history_seconds(&self) -> Duration {
        if self.nats_server.is_some() { FLEET_HISTORY_SECONDS } else { HISTORY_SECONDS }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let servers = match arguments.servers() {
        Ok(servers) => servers,
        Err(message) => {
            eprintln!("luxcast-soak: {message}");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    println!(
        "luxcast-soak --seconds {} --seed {}{}",
        arguments.seconds,
        arguments.seed,
        arguments.fleet_words()
    );
    match soak(&arguments, servers) {
        Ok(violations) if violations.is_empty() => {
            println!("nothing was wrong");
            ExitCode::SUCCESS
        }
        Ok(violations) => {
            violations.iter().take(VIOLATIONS_SHOWN).for_each(|violation| println!("WRONG: {violation}"));
            println!("{} things were wrong", violations.len());
            ExitCode::FAILURE
        }
        Err(error) => {
            println!("WRONG: {error}");
            ExitCode::FAILURE
        }
    }
}

fn soak(arguments: &Arguments, servers: Option<(&Path, usize)>) -> Outcome<Vec<String>> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    let fleet = Fleet::start(arguments.daemons as usize, servers, &flags(arguments))?;
    let shared = Arc::new(Shared {
        doors: Mutex::new(fleet.doors()),
        is_fleet: fleet.is_fleet(),
        history_seconds: arguments.history_seconds(),
        lines_per_second: arguments.events_per_second / (NAMED + NAMELESS),
        reference: AtomicU64::new(fleet.stream.newest()),
        is_over: AtomicBool::new(false),
        violations: Mutex::default(),
        links: AtomicU64::new(0),
        cut_off: AtomicU64::new(0),
        posts: AtomicU64::new(0),
        refused: AtomicU64::new(0),
        lost: AtomicU64::new(0),
        promised: Mutex::default(),
        next_publisher: AtomicU32::new(1),
    });
    let publishers: Vec<_> = (0..NAMED + NAMELESS)
        .map(|place| {
            let (shared, random) = (shared.clone(), Rng::with_seed(arguments.seed ^ (place + 1) << 32));
            let run = if place < NAMED { run_named } else { run_nameless };
            thread::spawn(move || run(&shared, random))
        })
        .collect();
    let mut life = Life::begin(fleet, shared.clone(), arguments.seed)?;
    let mut events = Events::with_capacity(1024);
    let lived = live(&mut life, &shared, arguments, &mut events);
    shared.is_over.store(true, Ordering::Relaxed);
    let samples = lived?;
    life.send_home(&mut events)?;
    while !publishers.iter().all(thread::JoinHandle::is_finished) {
        life.turn(&mut events)?;
    }
    check_promises(&mut life, &shared, &mut events)?;
    check_descriptors(&mut life, &shared, &mut events)?;
    say_goodbye(&mut life, &mut events)?;
    print!("{}", samples.table(12));
    println!("{}", progress(&life, &shared, Duration::from_secs(arguments.seconds)));
    let mut violations = std::mem::take(&mut *shared.violations.lock());
    if life.fleet.stream.holes() > 0 {
        violations.push(format!("{} holes, but nothing is lost here", life.fleet.stream.holes()));
    }
    for verdict in samples.verdicts(arguments.daemons > 1) {
        match verdict {
            Ok(line) => println!("{line}"),
            Err(violation) => violations.push(violation),
        }
    }
    Ok(violations)
}

fn flags(arguments: &Arguments) -> Vec<String> {
    // Publishers that are cut off leave jobs that never end.
    let seconds = arguments.history_seconds().as_secs();
    let flags = format!(
        "--http-publish anyone --history-bytes {} --history-seconds {seconds} --job-idle-seconds {seconds} \
         --heartbeat-seconds 2 --silent-heartbeats 4 --stalled-seconds 5 --handshake-seconds 3 \
         --metrics-seconds 1 --drain-seconds 30 --connections-max {}",
        arguments.history_bytes(),
        // One of a fleet may be down.
        arguments.watchers / (arguments.daemons as usize - 1).max(1) + ROOM
    );
    // Small as well, so that the past that is read again is soon as large as it gets.
    let past = if arguments.daemons > 1 { "--bus-past-bytes 4194304" } else { "" };
    flags.split_whitespace().chain(past.split_whitespace()).map(str::to_owned).collect()
}

/// The main phase: a sample each second, a progress line now and then. Ends early if something is wrong.
fn live(life: &mut Life, shared: &Shared, arguments: &Arguments, events: &mut Events) -> Outcome<Samples> {
    life.set_population(arguments.watchers);
    let begin = Instant::now();
    let mut samples = Samples::default();
    let (mut sample_at, mut progress_at) = (Duration::ZERO, PROGRESS);
    while begin.elapsed() < Duration::from_secs(arguments.seconds) {
        life.turn(events)?;
        let now = begin.elapsed();
        if now >= sample_at {
            sample_at += Duration::from_secs(1);
            // While a daemon is away, the others have its watchers.
            if life.fleet.is_whole() || !life.fleet.is_fleet() {
                samples.add(now, life.fleet.usage()?);
            }
        }
        if now >= progress_at {
            progress_at += PROGRESS;
            println!("{}", progress(life, shared, now));
        }
        if shared.violations.lock().len() >= VIOLATIONS_SHOWN {
            break;
        }
    }
    Ok(samples)
}

fn progress(life: &Life, shared: &Shared, now: Duration) -> String {
    let (counts, mishaps) = (&life.counts, &life.fleet.mishaps);
    let usage = life.fleet.usage().unwrap_or_default();
    format!(
        "{:>5} s: {} connections ({} over plain HTTP, {} open, {} came back, {} full, {} silenced, {} reset), {} vandals, \
         {} filter changes, {} publishers ({} cut off, {} requests over HTTP, {} refused and {} lost), {} events, {} delivered, {} gaps ({} where a fast reader was left behind), \
         {} bursts, {} stops, {} daemons and {} servers killed; {:.1} MiB, {} descriptors",
        now.as_secs(),
        counts.connections,
        counts.plain,
        life.open(),
        counts.comebacks,
        counts.refused_full,
        counts.silenced,
        counts.resets,
        counts.vandals,
        counts.changes,
        shared.links.load(Ordering::Relaxed),
        shared.cut_off.load(Ordering::Relaxed),
        shared.posts.load(Ordering::Relaxed),
        shared.refused.load(Ordering::Relaxed),
        shared.lost.load(Ordering::Relaxed),
        life.fleet.stream.taken(),
        counts.deliveries,
        counts.gaps,
        counts.overruns_of_fast,
        counts.bursts,
        mishaps.stops,
        mishaps.kills,
        mishaps.server_kills,
        usage.resident_bytes as f64 / f64::from(1 << 20),
        usage.descriptors,
    )
}

/// Lines that were acknowledged, or certainly written, must be in the stream.
fn check_promises(life: &mut Life, shared: &Shared, events: &mut Events) -> Outcome<()> {
    let promised = std::mem::take(&mut *shared.promised.lock());
    let begin = Instant::now();
    for (publisher, line) in promised {
        while life.fleet.stream.last_line(publisher) < line && begin.elapsed() < PATIENCE {
            life.turn(events)?;
        }
        let last = life.fleet.stream.last_line(publisher);
        if last < line {
            shared
                .blame(format!("publisher {publisher}: line {line} was taken, and {last} is the last seen"));
        }
    }
    Ok(())
}

/// After all connections have ended, no daemon has more descriptors than before, except the memory file of each shard.
fn check_descriptors(life: &mut Life, shared: &Shared, events: &mut Events) -> Outcome<()> {
    let shards = thread::available_parallelism().map_or(1, usize::from) as u64;
    let empty = life.fleet.descriptors;
    let begin = Instant::now();
    loop {
        let most = life.fleet.usages()?.iter().map(|usage| usage.descriptors).max().unwrap_or(0);
        if most <= empty + shards {
            return Ok(());
        }
        life.turn(events)?;
        if begin.elapsed() > PATIENCE {
            shared.blame(format!("{most} descriptors with nobody there; {empty} at the start"));
            return Ok(());
        }
    }
}

/// The daemons end: watchers that keep reading get everything, and goodbye.
fn say_goodbye(life: &mut Life, events: &mut Events) -> Outcome<()> {
    for _ in 0..STEADY {
        life.join_steady()?;
    }
    let begin = Instant::now();
    while (life.greeted() < STEADY || !life.fleet.is_level()) && begin.elapsed() < PATIENCE {
        life.turn(events)?;
    }
    life.fleet.end()?;
    life.drain(events)
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::Arguments;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_fleet_needs_the_program_that_keeps_its_stream() {
        let of = |words: &[&str]| Arguments::try_parse_from([&["luxcast-soak"], words].concat());
        let alone = of(&[]).expect("it is right");
        assert_eq!(alone.servers(), Ok(None));
        let three = of(&["--daemons", "3"]).expect("it is known only later what is missing");
        assert!(three.servers().is_err_and(|error| error.contains("--nats-server")));
        let nowhere = of(&["--daemons", "3", "--nats-server", "/nowhere"]).expect("it may be there");
        assert!(nowhere.servers().is_err_and(|error| error.contains("/nowhere")));
        let own = std::env::current_exe().expect("a running test is a file");
        let words = ["--replicas", "1", "--nats-server", own.to_str().expect("its path is text")];
        assert_eq!(of(&words).expect("it is right").servers(), Ok(Some((own.as_path(), 1))));
        assert!(of(&["--replicas", "1"]).is_err(), "of what?");
    }
}
