//! A stream that has far more than daemons keep, and watchers that read only when the test says so.

use std::net::SocketAddr;

use serde_json::Value;
use socket2::{Domain, Socket, Type};
use tungstenite::{Error, Message};

use crate::BASE;
use crate::desk::{Desk, Truth, USUAL_WINDOW};
use crate::fleet::{Fleet, metric};
use crate::harness::{Client, seq_of, wait_until};
use crate::judge::{Gap, Visit, check};
use crate::server::{NEWEST, NatsServer};
use crate::watchers::{EVERYTHING, Watcher, with_since};

/// Long ones make megabytes fast.
const LINE_BYTES: usize = 6_000;
/// Of a message, which so has 240 kB.
const LINES: u64 = 40;

/// Daemons keep a tiny part of the stock.
pub const SMALL: [&str; 4] = ["--history-bytes", "1048576", "--line-bytes-max", "65536"];
/// The least that a pass can have in memory.
pub const WINDOW: [&str; 2] = ["--bus-past-bytes", "4194304"];
/// So that pings come soon, and nobody is missed.
pub const LIVELY: [&str; 4] = ["--heartbeat-seconds", "0.3", "--silent-heartbeats", "1000"];

pub const STOCK_1: &str = "/api/ws/jobs/stock-1/monitor";
pub const RARE: &str = "/api/ws/jobs/rare/monitor";

/// Which events a watcher is to get.
pub type Wants = fn(&str) -> bool;

pub fn all(_: &str) -> bool {
    true
}

pub fn of_stock_1(text: &str) -> bool {
    text.contains("\"job_id\":\"stock-1\"")
}

pub fn of_rare(text: &str) -> bool {
    text.contains("\"job_id\":\"rare\"")
}

/// Four jobs of two flows, and a job with few and short events.
fn stock_line(n: u64) -> String {
    let kind = ["routine_started", "routine_completed", "note"][n as usize % 3];
    if n % 50 == 7 {
        return format!("{{\"type\":\"{kind}\",\"job_id\":\"rare\",\"by\":\"stock\",\"n\":{n}}}");
    }
    let (job, flow, text) = (n % 4, n % 2, "x".repeat(LINE_BYTES));
    format!(
        "{{\"type\":\"{kind}\",\"job_id\":\"stock-{job}\",\"flow_id\":\"flow-{flow}\",\"by\":\"stock\",\"n\":{n},\
         \"text\":\"{text}\"}}"
    )
}

/// One server, and two daemons with small memories. The first saw all of the stock come; the second began behind it.
pub struct Stock {
    pub fleet: Fleet,
    pub server: NatsServer,
    pub desk: Desk,
    /// The first message of the stock, and how many it has.
    first: u64,
    messages: u64,
}

impl Stock {
    /// Still without any stock.
    pub fn empty(more: &[&str]) -> Self {
        let server = NatsServer::start(NEWEST, "");
        let desk = Desk::new(vec![server.url()]);
        desk.create(BASE, USUAL_WINDOW);
        let fleet = Fleet::start(vec![vec![server.url()]; 2], &[&SMALL, more].concat());
        Self { fleet, server, desk, first: 0, messages: 0 }
    }

    /// With so many messages.
    pub fn start(messages: u64, more: &[&str]) -> Self {
        let mut stock = Self::empty(more);
        stock.fill(messages);
        stock
    }

    /// Puts so many messages into it, and has the second daemon begin anew.
    pub fn fill(&mut self, messages: u64) {
        self.publish(messages);
        self.fleet.kill(1);
        self.fleet.restart(1);
    }

    /// Puts so many messages behind what there is, and waits until the daemons have them.
    pub fn publish(&mut self, messages: u64) {
        let payload = |message: u64| {
            let lines: Vec<String> = (message * LINES..(message + 1) * LINES).map(stock_line).collect();
            lines.join("\n")
        };
        let first = self.desk.publish_all((self.messages..self.messages + messages).map(payload));
        // All of them are in a row.
        self.first = first - self.messages;
        self.messages += messages;
        for daemon in self.fleet.running() {
            wait_until("it has all", || daemon.watch(EVERYTHING).connected() >= self.last());
        }
    }

    /// The sequence of this message of the stock, from 0.
    pub fn message(&self, place: u64) -> u64 {
        self.first + place
    }

    /// The number of the first event of this message of the stock.
    pub fn number(&self, place: u64) -> u64 {
        BASE + self.message(place) * 1_024
    }

    /// The number of the stock's last event.
    pub fn last(&self) -> u64 {
        self.number(self.messages - 1) + LINES - 1
    }

    /// One that reads as fast as it can, with what there is at the path behind the start of this message of the stock.
    pub fn watch(&self, daemon: usize, path: &str, place: u64) -> Watcher {
        Watcher::stay_at(self.address(daemon), path, &self.number(place).to_string())
    }

    /// One that reads when it is told to.
    pub fn reader(&self, daemon: usize, path: &str, place: u64) -> Reader {
        Reader::start(self.address(daemon), path, self.number(place))
    }

    pub fn address(&self, daemon: usize) -> SocketAddr {
        self.fleet.daemon(daemon).address
    }

    /// How often the daemon has begun to read the past.
    pub fn passes(&self, daemon: usize) -> f64 {
        metric(self.fleet.daemon(daemon), "luxcast_bus_past_passes_total")
    }

    /// Who waits for the past or gets it now.
    pub fn past_watchers(&self, daemon: usize) -> f64 {
        metric(self.fleet.daemon(daemon), "luxcast_bus_past_watchers")
    }

    /// Nobody has the past any more.
    pub fn wait_until_all_are_live(&self) {
        for daemon in 0..2 {
            wait_until("nobody is in the past", || self.past_watchers(daemon) == 0.0);
        }
    }
}

pub fn select(truth: &Truth, wants: Wants) -> Truth {
    let wanted = truth.iter().filter(|(_, text)| wants(text));
    wanted.map(|(number, text)| (*number, text.clone())).collect()
}

pub fn last_of(truth: &Truth) -> u64 {
    *truth.last_key_value().expect("there is something").0
}

/// Waits until it has all that it is to get, and ends it. Returns the gaps, and what it was told.
pub fn judged(watcher: Watcher, truth: &Truth, wants: Wants) -> (Vec<Gap>, Vec<Visit>) {
    let wanted = select(truth, wants);
    watcher.wait_for_number(last_of(&wanted));
    let visits = watcher.end();
    (check(&visits, &wanted), visits)
}

/// It got all of it, once and in order.
pub fn check_whole(watcher: Watcher, truth: &Truth, wants: Wants) {
    assert_eq!(judged(watcher, truth, wants).0, []);
}

/// What its first message says is live.
pub fn greeted_with(visit: &Visit) -> u64 {
    let greeting: Value = serde_json::from_str(&visit.texts[0]).expect("JSON");
    assert_eq!(greeting["status"], "connected", "{greeting}");
    greeting["stream_seq"].as_u64().expect("a number")
}

/// The first event that it was given.
pub fn first_event(visits: &[Visit]) -> u64 {
    visits.iter().flat_map(|visit| &visit.texts).find_map(|text| seq_of(text)).expect("an event")
}

/// A watcher with a small receive buffer, of which nothing is read until the test does.
pub struct Reader {
    client: Client,
    pub visit: Visit,
}

impl Reader {
    const RECEIVE_BYTES: usize = 16 << 10;

    pub fn start(address: SocketAddr, path: &str, since: u64) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.set_recv_buffer_size(Self::RECEIVE_BYTES).expect("a TCP socket");
        socket.connect(&address.into()).expect("the daemon listens");
        let client = Client::handshake(socket.into(), address, &with_since(path, &since.to_string()));
        let client = client.unwrap_or_else(|refused| panic!("{path}: {refused:?}"));
        Self { client, visit: Visit { since: Some(since), texts: Vec::new() } }
    }

    pub fn send(&mut self, text: &str) {
        self.client.send(text);
    }

    pub fn position(&self) -> u64 {
        self.visit.position().expect("it began with a number")
    }

    /// Reads one message. False: the daemon has ended it.
    pub fn read(&mut self) -> bool {
        match self.client.read() {
            Ok(Message::Text(text)) => self.visit.texts.push(text.as_str().to_owned()),
            Ok(_) => {}
            Err(Error::ConnectionClosed | Error::AlreadyClosed) => return false,
            Err(error) => panic!("{error} behind {}", self.position()),
        }
        true
    }

    /// Reads until it stands at this number or behind it.
    pub fn read_until(&mut self, number: u64) {
        while self.position() < number {
            assert!(self.read(), "it was ended at {}", self.position());
        }
    }

    /// Reads until a message with this word has come.
    pub fn read_until_told(&mut self, word: &str) {
        while !self.visit.texts.last().is_some_and(|text| text.contains(word)) {
            assert!(self.read(), "it was ended at {}", self.position());
        }
    }

    /// Reads all that it is to get, and judges.
    pub fn finish(mut self, truth: &Truth, wants: Wants) -> Vec<Gap> {
        let wanted = select(truth, wants);
        self.read_until(last_of(&wanted));
        check(&[self.visit], &wanted)
    }
}
