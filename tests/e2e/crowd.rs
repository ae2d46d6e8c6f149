//! Hundreds of watchers in one thread: each stream is checked number by number, frame border by frame border.

use std::collections::VecDeque;
use std::fs;
use std::io::{ErrorKind, Read};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use serde_json::Value;

use crate::harness::{Daemon, PATIENCE, Raw};

const READ_BYTES: usize = 256 << 10;
/// `{"stream_seq":`
const MEMBER_BYTES: usize = 14;
const DIGITS: usize = 16;

pub struct Crowd {
    poll: Poll,
    pub members: Vec<Member>,
    block: Vec<u8>,
}

/// One watcher of a stream without missing numbers: one publisher, one job, no filter.
pub struct Member {
    socket: TcpStream,
    rest: Vec<u8>,
    is_reading: bool,
    /// Its position.
    pub last: u64,
    pub received: u64,
    pub gaps: Vec<Value>,
    /// When the daemon says that it sent each ping, and when it arrived.
    pub pings: Vec<(String, Instant)>,
    /// Control messages except gaps and pings.
    pub others: VecDeque<String>,
    pub end: Option<Result<(), ErrorKind>>,
}

impl Crowd {
    pub fn new() -> Self {
        Self { poll: Poll::new().expect("a poll"), members: Vec::new(), block: vec![0; READ_BYTES] }
    }

    /// Adds watchers that read.
    pub fn join(&mut self, address: SocketAddr, path: &str, count: usize) {
        self.join_silent(address, path, count);
        let first = self.members.len() - count;
        (first..self.members.len()).for_each(|place| self.resume(place));
    }

    /// Adds watchers that stop reading after the daemon's greeting.
    pub fn join_silent(&mut self, address: SocketAddr, path: &str, count: usize) {
        for _ in 0..count {
            let mut raw = Raw::connect(address);
            raw.upgrade(path);
            let greeting = raw.read_frame().expect("the daemon greets");
            let greeting: Value = serde_json::from_slice(&greeting.payload).expect("JSON");
            assert_eq!(greeting["status"], "connected", "{greeting}");
            raw.stream.set_nonblocking(true).expect("a TCP socket");
            self.members.push(Member {
                socket: TcpStream::from_std(raw.stream),
                rest: raw.buffer,
                is_reading: false,
                last: greeting["stream_seq"].as_u64().expect("a number"),
                received: 0,
                gaps: Vec::new(),
                pings: Vec::new(),
                others: VecDeque::new(),
                end: None,
            });
        }
    }

    /// Makes a silent watcher read.
    pub fn resume(&mut self, place: usize) {
        let member = &mut self.members[place];
        assert!(!member.is_reading);
        member.is_reading = true;
        let registry = self.poll.registry();
        registry.register(&mut member.socket, Token(place), Interest::READABLE).expect("it can be watched");
    }

    /// Reads what comes until `is_done`, which is called after each wait.
    pub fn read_until(&mut self, what: &str, is_done: impl FnMut(&[Member]) -> bool) {
        let is_done = self.read_for(PATIENCE, is_done);
        assert!(is_done, "waited in vain: {what}; {}", self.describe());
    }

    /// The same, for at most `span`. Returns whether it is done.
    pub fn read_for(&mut self, span: Duration, mut is_done: impl FnMut(&[Member]) -> bool) -> bool {
        let until = Instant::now() + span;
        let mut events = Events::with_capacity(1024);
        while !is_done(&self.members) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            self.poll.poll(&mut events, Some(left.min(Duration::from_millis(20)))).expect("a poll");
            for event in &events {
                self.members[event.token().0].read(&mut self.block);
            }
        }
        true
    }

    /// Reads until every reading watcher that was not cut off has received everything up to `seq`, or a gap for it.
    pub fn read_to(&mut self, seq: u64) {
        self.read_until(&format!("everybody at {seq}"), |members| {
            members.iter().all(|member| !member.is_reading || member.end.is_some() || member.last >= seq)
        });
    }

    fn describe(&self) -> String {
        let reading = || self.members.iter().filter(|member| member.is_reading);
        let (lowest, highest) = (
            reading().map(|member| member.last).min().unwrap_or(0),
            reading().map(|member| member.last).max().unwrap_or(0),
        );
        format!("{} reading stand between {lowest} and {highest}", reading().count())
    }
}

impl Member {
    fn read(&mut self, block: &mut [u8]) {
        while self.end.is_none() {
            let held = self.rest.len();
            block[..held].copy_from_slice(&self.rest);
            match self.socket.read(&mut block[held..]) {
                Ok(0) => self.end = Some(Ok(())),
                Ok(count) => {
                    let used = self.take(&block[..held + count]);
                    self.rest.clear();
                    self.rest.extend_from_slice(&block[used..held + count]);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => self.end = Some(Err(error.kind())),
            }
        }
    }

    /// Takes all whole frames; returns their length in bytes.
    fn take(&mut self, bytes: &[u8]) -> usize {
        let mut start = 0;
        while let Some((opcode, payload, end)) = frame(bytes, start) {
            match opcode {
                0x1 => self.take_text(payload),
                0x8 | 0x9 => {}
                other => panic!("a frame with opcode {other}"),
            }
            start = end;
        }
        start
    }

    fn take_text(&mut self, text: &[u8]) {
        if text.starts_with(b"{\"stream_seq\":") {
            let digits = &text[MEMBER_BYTES..MEMBER_BYTES + DIGITS];
            let seq = digits.iter().fold(0, |seq, digit| seq * 10 + u64::from(digit - b'0'));
            assert_eq!(seq, self.last + 1, "lost, doubled or out of order");
            self.last = seq;
            self.received += 1;
            return;
        }
        let message: Value = serde_json::from_slice(text).expect("JSON");
        match message["type"].as_str() {
            Some("stream:gap") => {
                assert_eq!(message["from"], self.last + 1, "{message}");
                self.last = message["to"].as_u64().expect("a number");
                self.gaps.push(message);
            }
            Some("ping") => {
                let at = message["timestamp"].as_str().expect("a time").to_owned();
                let position = message["stream_seq"].as_u64().expect("a number");
                // The feed may be older than the greeting.
                assert!(position >= self.last, "{message}, but it got {}", self.last);
                self.pings.push((at, Instant::now()));
            }
            _ => self.others.push_back(message.to_string()),
        }
    }

    /// How many events were reported to it as missed.
    pub fn missed(&self) -> u64 {
        self.gaps.iter().map(|gap| gap["missed"].as_u64().expect("the count is known")).sum()
    }
}

/// Opcode and payload of the frame at `start`, and where it ends, once it is whole.
fn frame(bytes: &[u8], start: usize) -> Option<(u8, &[u8], usize)> {
    let head = bytes.get(start..start + 2)?;
    let (from, length) = match head[1] {
        126 => {
            let length = bytes.get(start + 2..start + 4)?;
            (start + 4, usize::from(u16::from_be_bytes([length[0], length[1]])))
        }
        127 => (start + 10, u64::from_be_bytes(bytes.get(start + 2..start + 10)?.try_into().ok()?) as usize),
        length => (start + 2, usize::from(length)),
    };
    assert_eq!(head[0] & 0xf0, 0x80, "a frame border was lost");
    Some((head[0] & 0xf, bytes.get(from..from + length)?, from + length))
}

/// A line of this many bytes, without its newline.
pub fn line_of(bytes: usize, job: &str) -> String {
    let mut line = format!(r#"{{"type":"tick","job_id":"{job}","x":""#);
    while line.len() + 2 < bytes {
        line.push('x');
    }
    line.push_str("\"}");
    line
}

/// CPU time of all threads of the daemon so far.
pub fn cpu(daemon: &Daemon) -> Duration {
    let tasks = fs::read_dir(format!("/proc/{}/task", daemon.id())).expect("the daemon lives");
    let nanos = tasks.map(|task| {
        let path = task.expect("a thread").path().join("schedstat");
        let text = fs::read_to_string(path).expect("the kernel counts");
        text.split(' ').next().and_then(|nanos| nanos.parse::<u64>().ok()).expect("nanoseconds")
    });
    Duration::from_nanos(nanos.sum())
}
