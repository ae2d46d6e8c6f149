//! The daemons: one, or several on one stream. They are stopped for moments; in a fleet they are killed as well, and so
//! are the servers that keep the stream.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use fastrand::Rng;
use mio::{Interest, Registry, Token};
use rustix::process::Signal;

use crate::Outcome;
use crate::choice::one_in;
use crate::daemon::{Daemon, Usage};
use crate::nats::Servers;
use crate::publisher::{Door, Shared};
use crate::reference::Reference;
use crate::stream::Stream;

/// The token of the first daemon's reference; the others follow.
pub const REFERENCES: usize = usize::MAX - 64;
/// How often a daemon is stopped, for up to a second.
const STOP_EVERY: Duration = Duration::from_secs(5);
/// How often a daemon of a fleet is killed. Never the first: its memory is judged.
const KILL_EVERY: Duration = Duration::from_secs(45);
/// How often a server is killed, and when for the first time, so that a short run sees it too.
const SERVER_EVERY: Duration = Duration::from_secs(30);
const SERVER_FIRST: Duration = Duration::from_secs(8);

struct Place {
    daemon: Option<Daemon>,
    reference: Option<Reference>,
    starting: Option<JoinHandle<Outcome<(Daemon, Reference)>>>,
    /// Whether its start is to wait a little, as an operator does.
    start_at: Option<Instant>,
    go_on_at: Option<Instant>,
}

/// What has happened to it.
#[derive(Clone, Debug, Default)]
pub struct Mishaps {
    pub stops: u64,
    pub kills: u64,
    pub server_kills: u64,
}

pub struct Fleet {
    pub stream: Stream,
    pub mishaps: Mishaps,
    flags: Vec<String>,
    places: Vec<Place>,
    servers: Option<Servers>,
    copies: usize,
    /// The server that was killed, and when it starts again.
    server_down: Option<(usize, Instant)>,
    /// Descriptors of a daemon with nobody there.
    pub descriptors: u64,
    stop_at: Instant,
    kill_at: Instant,
    server_at: Instant,
}

impl Fleet {
    /// Starts `count` daemons, with `servers` (a program, and how many copies of the stream) under them or alone.
    pub fn start(count: usize, servers: Option<(&Path, usize)>, flags: &[String]) -> Outcome<Self> {
        let copies = servers.map_or(0, |(_, copies)| copies);
        let servers = servers.map(|(program, copies)| Servers::start(program, &[], copies)).transpose()?;
        let bus = servers.as_ref().map_or(Vec::new(), Servers::flags);
        let flags = [flags, &bus].concat();
        let mut places = Vec::new();
        for _ in 0..count {
            let daemon = Daemon::start(&flags)?;
            let reference = Reference::open(daemon.address, None)?;
            places.push(Place {
                daemon: Some(daemon),
                reference: Some(reference),
                starting: None,
                start_at: None,
                go_on_at: None,
            });
        }
        let mut fleet = Self {
            stream: Stream::new(0),
            mishaps: Mishaps::default(),
            flags,
            places,
            servers,
            copies,
            server_down: None,
            descriptors: 0,
            stop_at: Instant::now() + STOP_EVERY,
            kill_at: Instant::now() + KILL_EVERY,
            server_at: Instant::now() + SERVER_FIRST,
        };
        let greetings: Vec<u64> = fleet.references().map(|reference| reference.position).collect();
        if greetings.iter().any(|greeting| *greeting != greetings[0]) {
            return Err(format!("the daemons of an empty stream greet at {greetings:?}").into());
        }
        fleet.stream = Stream::new(greetings[0]);
        fleet.descriptors = fleet.usages()?.iter().map(|usage| usage.descriptors).max().unwrap_or(0);
        Ok(fleet)
    }

    pub fn is_fleet(&self) -> bool {
        self.servers.is_some()
    }

    fn references(&self) -> impl Iterator<Item = &Reference> {
        self.places.iter().filter_map(|place| place.reference.as_ref())
    }

    fn daemons(&self) -> impl Iterator<Item = &Daemon> {
        self.places.iter().filter_map(|place| place.daemon.as_ref())
    }

    /// Where publishers connect, for each place; none while its daemon does not run.
    pub fn doors(&self) -> Vec<Option<Door>> {
        self.places.iter().map(|place| place.daemon.as_ref().map(Daemon::door)).collect()
    }

    /// A daemon that runs, and its place.
    pub fn choose(&self, random: &mut Rng) -> (usize, &Daemon) {
        let running = self.places.iter().enumerate();
        let running: Vec<_> = running.filter_map(|(at, place)| Some((at, place.daemon.as_ref()?))).collect();
        running[random.usize(..running.len())]
    }

    /// The memory of the first daemon, and the descriptors of one on average, as watchers move among them.
    pub fn usage(&self) -> Outcome<Usage> {
        let usages = self.usages()?;
        let first = usages.first().ok_or("no daemon runs")?;
        let descriptors = usages.iter().map(|usage| usage.descriptors).sum::<u64>() / usages.len() as u64;
        Ok(Usage { descriptors, ..*first })
    }

    pub fn usages(&self) -> Outcome<Vec<Usage>> {
        self.daemons().map(Daemon::usage).collect()
    }

    pub fn register(&mut self, registry: &Registry) -> Outcome<()> {
        for (at, place) in self.places.iter_mut().enumerate() {
            if let Some(reference) = &mut place.reference {
                registry.register(&mut reference.socket, Token(REFERENCES + at), Interest::READABLE)?;
            }
        }
        Ok(())
    }

    /// Reads what all daemons say of all events.
    pub fn read(&mut self, block: &mut [u8]) -> Outcome<()> {
        for (at, place) in self.places.iter_mut().enumerate() {
            let read = place.reference.as_mut().map(|reference| reference.read(block, &mut self.stream));
            read.transpose().map_err(|error| format!("daemon {}: {error}", at + 1))?;
        }
        Ok(())
    }

    /// All run, and none is stopped.
    pub fn is_whole(&self) -> bool {
        let are_there = self.places.iter().all(|place| place.daemon.is_some() && place.go_on_at.is_none());
        are_there && self.server_down.is_none()
    }

    /// Every daemon has named everything that any of them has.
    pub fn is_level(&self) -> bool {
        self.references().all(|reference| reference.position >= self.stream.newest())
    }

    /// Lets go on what was stopped, and starts what was killed.
    pub fn mend(&mut self, shared: &Arc<Shared>, registry: &Registry, now: Instant) -> Outcome<()> {
        if let Some((server, at)) = self.server_down
            && let Some(servers) = &mut self.servers
            && now >= at
        {
            servers.restart(server)?;
            self.server_down = None;
        }
        for (at, place) in self.places.iter_mut().enumerate() {
            if place.go_on_at.is_some_and(|at| now >= at) {
                place.go_on_at = None;
                place.daemon.as_ref().map(|daemon| daemon.signal(Signal::CONT)).transpose()?;
            }
            if place.start_at.is_some_and(|at| now >= at) {
                place.start_at = None;
                let (flags, shared) = (self.flags.clone(), shared.clone());
                place.starting = Some(thread::spawn(move || {
                    let daemon = Daemon::start(&flags)?;
                    // It may not have read so far: then it must stand there.
                    let since = shared.reference.load(Ordering::Acquire);
                    let reference = Reference::open(daemon.address, Some(since))?;
                    Ok((daemon, reference))
                }));
            }
            if let Some(starting) = place.starting.take_if(|starting| starting.is_finished()) {
                let started = starting.join().map_err(|_| "a start panicked")?;
                let (daemon, mut reference) =
                    started.map_err(|error| format!("daemon {} again: {error}", at + 1))?;
                registry.register(&mut reference.socket, Token(REFERENCES + at), Interest::READABLE)?;
                shared.doors.lock()[at] = Some(daemon.door());
                (place.daemon, place.reference) = (Some(daemon), Some(reference));
            }
            if let Some(daemon) = &mut place.daemon
                && let Some(status) = daemon.has_ended()?
                && place.reference.as_ref().is_some_and(|reference| reference.goodbye.is_none())
            {
                return Err(format!("daemon {} ended: {status}", at + 1).into());
            }
        }
        Ok(())
    }

    /// Stops or kills something, if it is time. Returns the place whose daemon is gone.
    pub fn trouble(&mut self, shared: &Shared, random: &mut Rng, now: Instant) -> Outcome<Option<usize>> {
        let at = random.usize(..self.places.len());
        let place = &mut self.places[at];
        if now >= self.stop_at && place.go_on_at.is_none() && place.daemon.is_some() {
            self.stop_at = now + STOP_EVERY;
            self.mishaps.stops += 1;
            place.daemon.as_ref().map(|daemon| daemon.signal(Signal::STOP)).transpose()?;
            place.go_on_at = Some(now + Duration::from_millis(200 + random.u64(..800)));
        }
        let Some(servers) = &mut self.servers else { return Ok(None) };
        if now >= self.server_at && self.server_down.is_none() {
            self.server_at = now + SERVER_EVERY;
            self.mishaps.server_kills += 1;
            let any = random.usize(..self.copies);
            // The leader's end costs most.
            let server = servers.leader().filter(|_| one_in(random, 2)).unwrap_or(any);
            servers.kill(server)?;
            self.server_down = Some((server, now + Duration::from_millis(200 + random.u64(..5_000))));
        }
        let are_all_there = self.places.iter().all(|place| place.daemon.is_some());
        let place = &mut self.places[at];
        if now < self.kill_at || !are_all_there || at == 0 || place.go_on_at.is_some() {
            return Ok(None);
        }
        self.kill_at = now + KILL_EVERY;
        self.mishaps.kills += 1;
        // First: so a publisher that is cut off knows why.
        shared.doors.lock()[at] = None;
        (place.daemon, place.reference) = (None, None);
        place.start_at = Some(now + Duration::from_millis(random.u64(..3_000)));
        Ok(Some(at))
    }

    /// Asks all daemons to end.
    pub fn end(&self) -> Outcome<()> {
        self.daemons().try_for_each(|daemon| daemon.signal(Signal::TERM))
    }

    /// All have said goodbye to their references.
    pub fn has_ended(&self) -> bool {
        self.references().all(|reference| reference.has_ended)
    }

    /// Waits for their ends. Returns what was wrong with the goodbyes.
    pub fn wait(&mut self) -> Outcome<Vec<String>> {
        let last = self.stream.newest();
        let goodbyes = self.references().map(|reference| reference.goodbye).collect::<Vec<_>>();
        let wrong = goodbyes.iter().filter(|goodbye| **goodbye != Some(last));
        let mut wrong: Vec<String> =
            wrong.map(|goodbye| format!("a goodbye says {goodbye:?}, the last event is {last}")).collect();
        for place in &mut self.places {
            let status = place.daemon.as_mut().ok_or("a daemon does not run")?.wait()?;
            if !status.success() {
                wrong.push(format!("a daemon ended with {status}"));
            }
        }
        Ok(wrong)
    }
}
