//! The bus thread with the real server: what goes into the stream comes back, once and in order, with its numbers.

mod bounds;
mod cluster;
mod commands;
mod desk;
mod engines;
mod fleet;
#[path = "../e2e/harness/mod.rs"]
#[expect(dead_code, reason = "the other tests need the rest")]
mod harness;
mod judge;
mod keys;
mod link;
mod log;
mod losses;
mod odd;
mod one_stream;
mod outages;
mod past;
mod past_readers;
mod recipes;
mod server;
mod starts;
mod stock;
mod watchers;

use std::collections::HashMap;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use async_nats::jetstream::{self, stream};
use crossbeam_channel::RecvTimeoutError;
use harness::{PATIENCE, Raw};
use luxcast::bus::chunk::Bounds;
use luxcast::bus::lane::NewLine;
use luxcast::bus::numbers::Epochs;
use luxcast::bus::verdict::Standing;
use luxcast::bus::writer::{LaneKey, Writer};
use luxcast::config::BusUrl;
use luxcast::net::bus::begin::BeginAt;
use luxcast::net::bus::connect::BusConfig;
use luxcast::net::bus::handle::{BusHandle, Command, Received, Report};
use luxcast::net::bus::thread::{self as bus_thread, BusParts};
use luxcast::net::clock::Clock;
use luxcast::net::ingest::handle::IngestWaker;
use mio::{Poll, Token};
use rustix::process::Signal;
use server::{NEWEST, NatsServer, VERSIONS, free_address};

const BASE: u64 = 1_700_000_000_000_000;

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(future)
}

fn create_stream(server: &NatsServer) {
    block_on(async {
        let client = async_nats::connect(server.url()).await.unwrap();
        let metadata = HashMap::from([
            ("luxcast.format".to_owned(), "1".to_owned()),
            ("luxcast.base".to_owned(), BASE.to_string()),
        ]);
        let config = stream::Config {
            name: "LUXCAST".to_owned(),
            subjects: vec!["luxcast.events".to_owned()],
            metadata,
            ..stream::Config::default()
        };
        jetstream::new(client).create_stream(config).await.unwrap();
    });
}

/// One daemon's bus thread, and the writer that an ingest thread would have.
struct Bus {
    handle: Option<BusHandle>,
    thread: Option<JoinHandle<()>>,
    writer: Writer,
    clock: Clock,
    _poll: Poll,
    standing: Standing,
    /// (message, payload)
    received: Vec<(u64, String)>,
    /// Messages before them.
    folded: Vec<u64>,
}

impl Bus {
    fn start(server: &NatsServer, nonce: &str) -> Self {
        Self::start_at(server, "luxcast", nonce, 1, 1 << 30)
    }

    /// Begins with a message, or later if there are more bytes behind it.
    fn start_at(server: &NatsServer, name: &'static str, nonce: &str, message: u64, bytes_max: u64) -> Self {
        let poll = Poll::new().unwrap();
        let waker = mio::Waker::new(poll.registry(), Token(0)).unwrap();
        let clock = Clock::new();
        let config = BusConfig {
            servers: vec![BusUrl::parse(&server.url()).unwrap()],
            stream: "LUXCAST".to_owned(),
            subject: "luxcast.events".to_owned(),
            ..BusConfig::default()
        };
        let parts = BusParts {
            config,
            name,
            begin_at: BeginAt {
                message,
                bytes_max,
                bounds: Bounds { line_bytes_max: 1 << 16, depth_max: 64 },
            },
            nonce: nonce.to_owned(),
            host: "host".to_owned(),
            ingest: Arc::new(IngestWaker::new(waker, 1)),
            clock,
        };
        let (handle, work) = bus_thread::new(parts);
        let thread = thread::spawn(move || work.run().unwrap());
        Self {
            handle: Some(handle),
            thread: Some(thread),
            writer: Writer::new(120_000, 256 << 10),
            clock,
            _poll: poll,
            standing: Standing::Away,
            received: Vec::new(),
            folded: Vec::new(),
        }
    }

    fn handle(&self) -> &BusHandle {
        self.handle.as_ref().unwrap()
    }

    /// Does what an ingest thread does until `is_done`.
    fn run_until(&mut self, what: &str, mut is_done: impl FnMut(&Self) -> bool) {
        let until = std::time::Instant::now() + PATIENCE;
        loop {
            let now = self.clock.read().now.millis;
            self.writer.set_away(matches!(self.standing, Standing::Away));
            while let Some(outgoing) = self.writer.next(now, |_| None) {
                self.handle().send(Command::Publish(outgoing));
            }
            while self.writer.next_ack().is_some() {}
            if is_done(self) {
                return;
            }
            assert!(std::time::Instant::now() < until, "waited in vain: {what}; {:?}", self.standing);
            match self.handle().reports.recv_timeout(std::time::Duration::from_millis(10)) {
                Ok(report) => self.take(report),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => panic!("the bus thread has ended"),
            }
        }
    }

    fn take(&mut self, report: Report) {
        let now = self.clock.read().now.millis;
        match report {
            Report::Message(received) => self.receive(now, &received),
            Report::Skip { hole, last } => panic!("a hole: {hole:?} {last}"),
            Report::Complete { asked_at, .. } => self.writer.handle_complete(now, asked_at),
            Report::Stored { key, serial, message, is_duplicate } => {
                self.writer.handle_stored(now, key, serial, message, is_duplicate);
            }
            Report::Failed { key, serial } => self.writer.handle_failed(now, key, serial),
            Report::Standing(standing) => self.standing = standing,
            Report::Unfit(why) => panic!("{why}"),
            Report::Begun(_) | Report::Newest { .. } | Report::Restarted(_) | Report::Trouble(_) => {}
        }
    }

    fn receive(&mut self, now: u64, received: &Received) {
        assert!(received.hole.is_none());
        if received.is_folded {
            self.folded.push(received.message);
            return self.handle().send(Command::Release(received.bytes));
        }
        let payload = String::from_utf8((*received.payload).as_ref().to_vec()).unwrap();
        self.received.push((received.message, payload));
        let number = Epochs::new(BASE).unwrap().number(received.message, 1023).unwrap();
        let token = received.headers().message_id.and_then(|id| id.rsplit_once(':')).map(|(token, _)| token);
        let last =
            received.headers().lines.map(|lines| lines.rsplit(['-', ',']).next().unwrap().parse().unwrap());
        let passed = luxcast::bus::writer::Passed {
            message: received.message,
            stream_seq: number,
            source: token.zip(last),
        };
        self.writer.handle_passed(now, passed);
        self.handle().send(Command::Release(received.bytes));
    }

    fn push(&mut self, lane: LaneKey, number: u64) {
        let text = format!("{{\"type\":\"x\",\"job_id\":\"j\",\"n\":{number}}}");
        self.writer.push(lane, &NewLine { number, text: text.as_bytes(), job: Some("j"), flow: None });
    }

    fn lines(&self) -> Vec<u64> {
        let numbers = self.received.iter().flat_map(|(_, payload)| payload.lines());
        numbers.map(|line| line.rsplit_once(':').unwrap().1.trim_end_matches('}').parse().unwrap()).collect()
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        self.handle = None;
        let result = self.thread.take().unwrap().join();
        assert!(thread::panicking() || result.is_ok());
    }
}

#[test]
fn lines_come_back_once_and_in_order_with_every_version() {
    for version in VERSIONS {
        let server = NatsServer::start(version, "");
        create_stream(&server);
        let (mut one, mut other) = (Bus::start(&server, "a"), Bus::start(&server, "b"));
        one.run_until("it follows", |bus| bus.standing == Standing::Following);
        let lane = one.writer.open("engine", 0);
        (1..=5_000).for_each(|number| one.push(lane, number));
        one.run_until("all is in the stream", |bus| bus.writer.is_idle());
        let all: Vec<u64> = (1..=5_000).collect();
        assert!(one.lines() == all, "{version}");
        other.run_until("the other has all", |bus| bus.lines().len() == 5_000);
        assert!(other.lines() == all && other.received == one.received, "{version}");
    }
}

#[test]
fn a_second_reader_begins_where_it_is_told_and_folds_what_is_before() {
    let monitor = free_address();
    let server = NatsServer::start(NEWEST, &format!("http: \"{monitor}\""));
    create_stream(&server);
    let mut one = Bus::start(&server, "a");
    one.run_until("it follows", |bus| bus.standing == Standing::Following);
    let lane = one.writer.open("engine", 0);
    for number in 1..=5 {
        one.push(lane, number);
        one.run_until("it is in the stream", |bus| bus.writer.is_idle());
    }
    let (all, little) = (1 << 30, 1);
    for (place, (message, bytes_max, first)) in
        [(1, all, 1), (3, all, 3), (5, all, 5), (9, all, 5), (2, little, 5)].into_iter().enumerate()
    {
        let mut pass = Bus::start_at(&server, "luxcast-past", &format!("b{place}"), message, bytes_max);
        pass.run_until("it follows", |bus| bus.standing == Standing::Following);
        assert_eq!(pass.lines(), (first..=5).collect::<Vec<u64>>(), "{message}, {bytes_max}");
        assert_eq!(pass.folded, (1..first).collect::<Vec<u64>>(), "{message}, {bytes_max}");
        let mut connections = Raw::connect(monitor);
        connections.send(b"GET /connz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        connections.read_to_end();
        let connections = String::from_utf8(connections.buffer).unwrap();
        for name in ["luxcast", "luxcast-past"] {
            assert!(connections.contains(&format!("\"name\": \"{name}\"")), "{connections}");
        }
    }
}

#[test]
fn a_server_that_is_killed_or_stopped_costs_no_line() {
    let mut server = NatsServer::start(NEWEST, "");
    create_stream(&server);
    let mut bus = Bus::start(&server, "a");
    bus.run_until("it follows", |bus| bus.standing == Standing::Following);
    let lane = bus.writer.open("engine", 0);
    let mut next = 1;
    for round in 0..4 {
        (next..next + 2_000).for_each(|number| bus.push(lane, number));
        next += 2_000;
        match round {
            0 | 2 => {
                server.kill();
                bus.run_until("it is away", |bus| bus.standing == Standing::Away);
                server.restart();
            }
            _ => {
                server.signal(Signal::STOP);
                bus.run_until("it is away", |bus| bus.standing == Standing::Away);
                server.signal(Signal::CONT);
            }
        }
        bus.run_until("all is in the stream", |bus| bus.writer.is_idle());
    }
    bus.run_until("it follows", |bus| bus.standing == Standing::Following);
    assert!(bus.lines() == (1..next).collect::<Vec<u64>>());
}
