//! Watchers in threads of their own: one that stays with its daemon, and one that hops between daemons.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::Value;
use tungstenite::{Error, Message};

use crate::harness::{Client, seq_of, wait_until};
use crate::judge::Visit;

/// Between two looks at whether the watcher is to end, or to go elsewhere.
const LOOK: Duration = Duration::from_millis(50);
/// A hopper goes elsewhere after so many messages, or looks without one.
const VISIT_MESSAGES: usize = 40;
const VISIT_LOOKS: usize = 8;

pub const EVERYTHING: &str = "/api/v1/ws/events";

/// Where daemons are now; None: it does not run.
pub type Places<T> = Arc<Mutex<Vec<Option<T>>>>;

pub struct Watcher {
    visits: Arc<Mutex<Vec<Visit>>>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    /// One that stays as long as its daemon does. `since` is what stands behind `?since=`.
    pub fn stay(address: SocketAddr, since: &str) -> Self {
        Self::stay_at(address, EVERYTHING, since)
    }

    /// The same with what there is at this path.
    pub fn stay_at(address: SocketAddr, path: &str, since: &str) -> Self {
        Self::start(Arc::new(Mutex::new(vec![Some(address)])), path, since, false)
    }

    /// One of everything, or of this path, that goes from daemon to daemon with its position.
    pub fn hop(places: Places<SocketAddr>, path: &str) -> Self {
        Self::start(places, path, "start", true)
    }

    fn start(places: Places<SocketAddr>, path: &str, since: &str, hops: bool) -> Self {
        let visits = Arc::new(Mutex::new(Vec::new()));
        let is_over = Arc::new(AtomicBool::new(false));
        let path = path.to_owned();
        let parts = Run { places, path, visits: visits.clone(), is_over: is_over.clone(), hops };
        let since = since.to_owned();
        let thread = Some(thread::spawn(move || parts.run(since)));
        Self { visits, is_over, thread }
    }

    /// What it has been told so far, visit by visit.
    pub fn visits(&self) -> Vec<Visit> {
        self.visits.lock().clone()
    }

    /// All messages so far, of all visits.
    pub fn texts(&self) -> Vec<String> {
        self.visits.lock().iter().flat_map(|visit| visit.texts.clone()).collect()
    }

    pub fn has(&self, word: &str) -> bool {
        self.visits.lock().iter().any(|visit| visit.texts.iter().any(|text| text.contains(word)))
    }

    /// Waits for a message with this word in it.
    pub fn wait_for(&self, word: &str) {
        wait_until(&format!("{word} comes to a watcher"), || self.has(word));
    }

    /// Waits until it has passed this number.
    pub fn wait_for_number(&self, number: u64) {
        wait_until(&format!("{number} comes to a watcher"), || {
            self.visits.lock().iter().any(|visit| visit.position().is_some_and(|position| position >= number))
        });
    }

    /// What `connection:status` messages behind the greetings said, in order.
    pub fn statuses(&self) -> Vec<String> {
        let visits = self.visits.lock();
        let later = visits.iter().flat_map(|visit| visit.texts.iter().skip(1));
        later.filter_map(|text| status_of(text)).collect()
    }

    /// Waits until it is told that the stream is away.
    pub fn wait_for_reconnecting(&self) {
        wait_until("a watcher is told that the stream is away", || {
            self.statuses().last().is_some_and(|status| status == "reconnecting")
        });
    }

    /// Waits until it is told that the stream is there again.
    pub fn wait_for_connected(&self) {
        wait_until("a watcher is told that the stream is there", || {
            self.statuses().last().is_some_and(|status| status == "connected")
        });
    }

    /// Ends it, and gives all that it was told.
    pub fn end(mut self) -> Vec<Visit> {
        self.join();
        self.visits()
    }

    fn join(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let result = thread.join();
            assert!(result.is_ok() || thread::panicking());
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.join();
    }
}

struct Run {
    places: Places<SocketAddr>,
    path: String,
    visits: Arc<Mutex<Vec<Visit>>>,
    is_over: Arc<AtomicBool>,
    hops: bool,
}

impl Run {
    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    fn run(&self, mut since: String) {
        let mut next = 0;
        while !self.is_over() {
            let address = {
                let places = self.places.lock();
                next = (next + 1) % places.len();
                places[next]
            };
            if let Some(address) = address
                && let Some(client) = connect(address, &self.path, &since)
            {
                self.visit(client, &since);
                let visits = self.visits.lock();
                if let Some(position) = visits.last().and_then(Visit::position) {
                    since = position.to_string();
                }
            }
            if !self.hops {
                return;
            }
            thread::sleep(LOOK / 10);
        }
    }

    fn visit(&self, mut client: Client, since: &str) {
        self.visits.lock().push(Visit { since: since.parse().ok(), texts: Vec::new() });
        let (mut count, mut looks) = (0, 0);
        while !self.is_over() && !(self.hops && (count >= VISIT_MESSAGES || looks >= VISIT_LOOKS)) {
            match client.read() {
                Ok(Message::Text(text)) => {
                    count += 1;
                    self.visits.lock().last_mut().expect("pushed above").texts.push(text.as_str().to_owned());
                }
                Ok(_) => {}
                Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => looks += 1,
                // The daemon has ended.
                Err(_) => return,
            }
        }
    }
}

fn status_of(text: &str) -> Option<String> {
    let is_status = text.starts_with("{\"type\":\"connection:status\"");
    let message: Value = serde_json::from_str(text).ok().filter(|_| is_status)?;
    Some(message["status"].as_str().expect("a word").to_owned())
}

/// None: nobody listens there any more.
fn connect(address: SocketAddr, path: &str, since: &str) -> Option<Client> {
    let stream = TcpStream::connect(address).ok()?;
    let client = Client::try_handshake(stream, address, &with_since(path, since));
    let client = client.ok()?.ok()?;
    client.socket.get_ref().set_read_timeout(Some(LOOK)).ok()?;
    Some(client)
}

/// The path, which may have a query, with where to begin.
pub fn with_since(path: &str, since: &str) -> String {
    format!("{path}{}since={since}", if path.contains('?') { '&' } else { '?' })
}

/// The number of an event, or the position that a `ping` or the last word of a daemon names.
pub fn position_of(text: &str) -> Option<u64> {
    if let Some(seq) = seq_of(text) {
        return Some(seq);
    }
    let message: Value = serde_json::from_str(text).expect("JSON");
    let is_position = message["type"] == "ping" || message["status"] == "disconnected";
    is_position.then(|| message["stream_seq"].as_u64().expect("a number"))
}
