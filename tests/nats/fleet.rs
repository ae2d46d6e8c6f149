//! Several daemons on one stream.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::commands::luxcast;
use crate::engines::Engine;
use crate::harness::{Daemon, Setup, wait_until};
use crate::watchers::{Places, Watcher};

pub struct Fleet {
    daemons: Vec<Option<Daemon>>,
    /// Of each daemon: the servers that it knows.
    urls: Vec<Vec<String>>,
    flags: Vec<String>,
    addresses: Places<SocketAddr>,
    sockets: Places<PathBuf>,
}

impl Fleet {
    /// One daemon for each list of servers.
    pub fn start(urls: Vec<Vec<String>>, flags: &[&str]) -> Self {
        let count = urls.len();
        let mut fleet = Self {
            daemons: (0..count).map(|_| None).collect(),
            urls,
            flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
            addresses: Arc::new(Mutex::new(vec![None; count])),
            sockets: Arc::new(Mutex::new(vec![None; count])),
        };
        (0..count).for_each(|place| fleet.restart(place));
        fleet
    }

    /// Three daemons that know the same servers.
    pub fn three(urls: &[String]) -> Self {
        Self::start(vec![urls.to_vec(); 3], &[])
    }

    /// Starts the daemon of this place again, after its end, and waits until it listens.
    pub fn restart(&mut self, place: usize) {
        let daemon = serve(&self.urls[place], &self.flags);
        self.addresses.lock()[place] = Some(daemon.address);
        self.sockets.lock()[place] = Some(daemon.ingest.clone());
        self.daemons[place] = Some(daemon);
    }

    /// Kills it like `kill -9`.
    pub fn kill(&mut self, place: usize) {
        self.addresses.lock()[place] = None;
        self.sockets.lock()[place] = None;
        self.daemons[place].take().expect("it runs").kill();
    }

    /// Ends it as an operator does; returns its log.
    pub fn stop(&mut self, place: usize) -> String {
        self.addresses.lock()[place] = None;
        self.sockets.lock()[place] = None;
        let mut daemon = self.daemons[place].take().expect("it runs");
        daemon.stop();
        daemon.stderr()
    }

    pub fn daemon(&self, place: usize) -> &Daemon {
        self.daemons[place].as_ref().expect("it runs")
    }

    pub fn running(&self) -> impl Iterator<Item = &Daemon> {
        self.daemons.iter().flatten()
    }

    /// A watcher that stays with one daemon.
    pub fn watch(&self, place: usize, since: &str) -> Watcher {
        Watcher::stay(self.daemon(place).address, since)
    }

    /// One that goes from daemon to daemon, with all that there is at this path.
    pub fn hopper(&self, path: &str) -> Watcher {
        Watcher::hop(self.addresses.clone(), path)
    }

    /// A publisher that goes from daemon to daemon.
    pub fn engine(&self, name: &str) -> Engine {
        Engine::start(name, self.sockets.clone())
    }

    /// All are ready, whether they can reach the stream or not.
    pub fn check_health(&self) {
        for daemon in self.running() {
            assert_eq!(daemon.admin_get("/readyz").0, 200);
        }
    }

    /// Waits until all can reach the stream, and say so.
    pub fn wait_until_connected(&self) {
        for daemon in self.running() {
            wait_until("a daemon is connected", || metric(daemon, "luxcast_bus_connected") == 1.0);
        }
    }
}

/// Starts one, and waits until it listens.
pub fn serve(urls: &[String], flags: &[String]) -> Daemon {
    let mut all: Vec<&str> = urls.iter().flat_map(|url| ["--bus", url]).collect();
    all.extend(flags.iter().map(String::as_str));
    Setup::default().flags(&all).start()
}

/// The value of a metric without labels, or with these: `name{label="x"}`.
pub fn metric(daemon: &Daemon, name: &str) -> f64 {
    let (status, text) = daemon.admin_get("/metrics");
    assert_eq!(status, 200, "{text}");
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("no {name}")).parse().expect("a number")
}

/// Has `luxcast bus create` make the stream.
pub fn create(url: &str, more: &[&str]) {
    let (code, shown, said) = luxcast(&[&["bus", "create", "--bus", url], more].concat());
    assert_eq!(code, 0, "{shown}{said}");
}
