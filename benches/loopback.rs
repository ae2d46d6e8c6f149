//! Measures whether serving a group together pays off, even a small one: `cargo bench --bench loopback`.
//!
//! It uses real sockets of this machine, one thread that sends and one that reads. Jobs of 10, 30, 100 and 300
//! watchers get the same events twice: from the shard's own flush, and from a bare loop. The loop does one `writev`
//! for each watcher, with slices that are ready: the least that a server without groups could do. It compares the CPU
//! time of the sending thread.

#[expect(dead_code, reason = "the other benches use the rest")]
#[path = "pieces/rig.rs"]
mod rig;

use std::io::{ErrorKind, IoSlice, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use luxcast::delivery::keys::WatcherKey;
use luxcast::delivery::sink::Sink;
use luxcast::net::shard::sockets::Sockets;
use luxcast::stream::topic::TopicKind;
use luxcast::wire::client_action::Since;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use rustix::thread::sched_yield;
use socket2::SockRef;

use crate::rig::{Rig, USUAL_BYTES, usual_line};

const GROUPS: [usize; 4] = [10, 30, 100, 300];
const EVENTS_A_TURN: [usize; 4] = [1, 4, 16, 64];
/// In all groups together, so that every size does the same work.
const WATCHERS: usize = 3_000;
const FRAME_BYTES: usize = 260;
const HISTORY_BYTES: usize = 64 << 20;
/// Pairs of measurements; their median counts.
const PAIRS: usize = 5;
/// Messages of one measurement.
const MESSAGES: usize = 200_000;
/// The daemon's own choice; a turn of either method fits.
const SEND_BUFFER_BYTES: usize = 256 << 10;

/// Reads everything, on a thread of its own.
struct Reader {
    bytes: Arc<AtomicU64>,
}

impl Reader {
    fn start(mut sockets: Vec<TcpStream>) -> Self {
        let bytes = Arc::new(AtomicU64::new(0));
        let read = bytes.clone();
        thread::spawn(move || {
            let mut poll = Poll::new().expect("a poll");
            for (place, socket) in sockets.iter_mut().enumerate() {
                let watched = poll.registry().register(socket, Token(place), Interest::READABLE);
                watched.expect("a socket can be watched");
            }
            let (mut events, mut scratch) = (Events::with_capacity(1_024), vec![0; 256 << 10]);
            loop {
                poll.poll(&mut events, None).expect("the poll works");
                for event in &events {
                    loop {
                        match sockets[event.token().0].read(&mut scratch) {
                            Ok(0) => return,
                            Ok(count) => read.fetch_add(count as u64, Ordering::Release),
                            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                            Err(error) => panic!("{error}"),
                        };
                    }
                }
            }
        });
        Self { bytes }
    }

    fn wait_for(&self, bytes: u64) {
        while self.bytes.load(Ordering::Acquire) < bytes {
            sched_yield();
        }
    }
}

/// Makes `count` connections: the sending ends, and a reader of the other ends.
fn connect(count: usize) -> (Vec<TcpStream>, Reader) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback has a port");
    let address = listener.local_addr().expect("it is bound");
    listener.set_nonblocking(true).expect("a listener");
    let listener = TcpListener::from_std(listener);
    let (mut senders, mut readers) = (Vec::new(), Vec::new());
    for _ in 0..count {
        readers.push(TcpStream::from_std({
            let socket = std::net::TcpStream::connect(address).expect("the listener accepts");
            socket.set_nonblocking(true).expect("a socket");
            socket
        }));
        let (socket, _) = listener.accept().expect("a connection is there");
        SockRef::from(&socket).set_tcp_nodelay(true).expect("a socket");
        SockRef::from(&socket).set_send_buffer_size(SEND_BUFFER_BYTES).expect("a socket");
        senders.push(socket);
    }
    (senders, Reader::start(readers))
}

fn name(job: usize) -> String {
    format!("job-{job:03}")
}

/// The shard with its watchers, and what both methods send in a turn.
struct Bench {
    rig: Rig<Sockets>,
    keys: Vec<WatcherKey>,
    reader: Reader,
    sent: u64,
    jobs: usize,
    group: usize,
    events: usize,
    /// The frames of a turn, job by job as they lie in a batch, for the bare loop.
    frames: Vec<u8>,
}

impl Bench {
    fn new(group: usize, events: usize) -> Self {
        let (senders, reader) = connect(WATCHERS);
        let jobs = WATCHERS / group;
        let kind = "routine_completed";
        let lines: Vec<_> =
            (0..jobs * events).map(|at| usual_line(kind, &name(at % jobs), USUAL_BYTES)).collect();
        let mut rig = Rig::over(HISTORY_BYTES, lines, Sockets::new);
        let mut keys = Vec::new();
        for (at, socket) in senders.into_iter().enumerate() {
            let key = rig.watch(TopicKind::Job, &name(at % jobs), None, Since::Now);
            rig.sink.insert(key, socket, None);
            keys.push(key);
        }
        let frames = vec![b'x'; FRAME_BYTES * jobs * events];
        let mut bench = Self { rig, keys, reader, sent: 0, jobs, group, events, frames };
        bench.turn_of_flush();
        bench
    }

    fn messages_a_turn(&self) -> usize {
        self.jobs * self.group * self.events
    }

    fn await_reader(&mut self) {
        self.sent += (self.messages_a_turn() * FRAME_BYTES) as u64;
        self.reader.wait_for(self.sent);
    }

    /// CPU nanoseconds of one turn of the shard's flush.
    fn turn_of_flush(&mut self) -> u64 {
        self.rig.publish();
        self.rig.sink.turn_began = Instant::now();
        let begin = self.rig.sink.cpu_nanos();
        let messages = self.rig.flush();
        let nanos = self.rig.sink.cpu_nanos() - begin;
        assert_eq!(messages as usize, self.messages_a_turn(), "no socket was full");
        self.await_reader();
        nanos
    }

    /// The same for the bare loop.
    fn turn_of_writev(&mut self) -> u64 {
        let begin = self.rig.sink.cpu_nanos();
        for job in 0..self.jobs {
            let slices: Vec<IoSlice<'_>> = (0..self.events)
                .map(|event| {
                    let from = (event * self.jobs + job) * FRAME_BYTES;
                    IoSlice::new(&self.frames[from..from + FRAME_BYTES])
                })
                .collect();
            for member in 0..self.group {
                let key = self.keys[member * self.jobs + job];
                let taken = self.rig.sink.write_vectored(key, &slices).expect("the socket has room");
                assert_eq!(taken, self.events * FRAME_BYTES);
            }
        }
        let nanos = self.rig.sink.cpu_nanos() - begin;
        self.await_reader();
        nanos
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    println!("CPU microseconds of the sending thread per message, median of {PAIRS} pairs");
    println!("watchers a job   events a turn and job     flush   writev alone   ratio");
    for group in GROUPS {
        for events in EVENTS_A_TURN {
            let mut bench = Bench::new(group, events);
            let turns = (MESSAGES / bench.messages_a_turn()).max(4);
            let micros =
                |nanos: u64, bench: &Bench| nanos as f64 / 1e3 / (turns * bench.messages_a_turn()) as f64;
            let (mut flush, mut writev, mut ratio) = (Vec::new(), Vec::new(), Vec::new());
            for _ in 0..PAIRS {
                let (mut of_flush, mut of_writev) = (0, 0);
                // Turn by turn: what disturbs one disturbs the other.
                for _ in 0..turns {
                    of_flush += bench.turn_of_flush();
                    of_writev += bench.turn_of_writev();
                }
                flush.push(micros(of_flush, &bench));
                writev.push(micros(of_writev, &bench));
                ratio.push(of_flush as f64 / of_writev as f64);
            }
            println!(
                "{group:>14}   {events:>21}   {:>7.4}   {:>12.4}   {:>5.2}",
                median(flush),
                median(writev),
                median(ratio)
            );
        }
    }
}
