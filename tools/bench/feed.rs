//! The publisher: sends events in the form that a server takes, and never waits for it.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use mio::net::UnixStream;
use mio::{Interest, Poll, Token};

use crate::Outcome;
use crate::crowd::{FEED_TOKENS, PATIENCE};
use crate::wire::{Shape, Template, topic_name};

const HELLO: &[u8] = b"{\"op\":\"hello\",\"publisher\":\"luxcast-bench\",\"ack\":true}\n";

/// How a server is fed.
#[derive(Clone, Debug)]
pub enum Inlet {
    /// luxcast: a line of JSON an event, over a Unix socket.
    Lines(PathBuf),
    /// Topic, tab, then what every watcher gets: a peer needs to parse no JSON.
    Tabbed(PathBuf),
    /// The floor: the number of the topic (four bytes, big-endian), then the frame.
    Frames(PathBuf),
    /// A WebSocket connection a topic, a message an event.
    Web(SocketAddr),
}

enum Socket {
    Unix(UnixStream),
    Tcp(mio::net::TcpStream),
}

/// One connection of the publisher, and what it still has to send.
struct Channel {
    socket: Socket,
    waiting: Vec<u8>,
    sent: usize,
    /// The last line that luxcast has acknowledged on it, if asked to.
    acknowledged: u64,
}

pub struct Feed {
    inlet: Inlet,
    shape: Shape,
    templates: Vec<Template>,
    prefixes: Vec<Vec<u8>>,
    channels: Vec<Channel>,
    /// The number of each topic's next event; the first is 1.
    next: Vec<u64>,
    pub published: u64,
}

impl Feed {
    pub fn open(inlet: Inlet, shape: Shape, topics: usize, poll: &Poll) -> Outcome<Self> {
        let count = if let Inlet::Web(_) = inlet { topics } else { 1 };
        Self::over(count, inlet, shape, topics, poll)
    }

    /// So many publishers, each with a connection and a topic of its own.
    pub fn of_publishers(count: usize, inlet: Inlet, shape: Shape, poll: &Poll) -> Outcome<Self> {
        Self::over(count, inlet, shape, count, poll)
    }

    fn over(count: usize, inlet: Inlet, shape: Shape, topics: usize, poll: &Poll) -> Outcome<Self> {
        let channels = (0..count).map(|topic| connect(&inlet, topic)).collect::<Outcome<Vec<_>>>()?;
        let mut feed = Self {
            templates: (0..topics).map(|topic| shape.template(topic)).collect(),
            prefixes: (0..topics).map(|topic| format!("{}\t", topic_name(topic)).into_bytes()).collect(),
            channels,
            next: vec![1; topics],
            published: 0,
            inlet,
            shape,
        };
        for (place, channel) in feed.channels.iter_mut().enumerate() {
            let interest = Interest::READABLE | Interest::WRITABLE;
            let token = Token(FEED_TOKENS + place);
            match &mut channel.socket {
                Socket::Unix(socket) => poll.registry().register(socket, token, interest)?,
                Socket::Tcp(socket) => poll.registry().register(socket, token, interest)?,
            }
        }
        Ok(feed)
    }

    pub fn topics(&self) -> usize {
        self.templates.len()
    }

    /// The number of the topic's next event.
    pub fn next_of(&self, topic: usize) -> u64 {
        self.next[topic]
    }

    /// Queues one event of a topic; returns its number.
    pub fn publish(&mut self, topic: usize) -> u64 {
        let number = self.next[topic];
        self.next[topic] += 1;
        self.published += 1;
        let template = &mut self.templates[topic];
        template.set(number);
        let place = if self.channels.len() > 1 { topic } else { 0 };
        let out = &mut self.channels[place].waiting;
        match self.inlet {
            Inlet::Lines(_) => {
                out.extend_from_slice(template.line());
                out.push(b'\n');
            }
            Inlet::Tabbed(_) => {
                out.extend_from_slice(&self.prefixes[topic]);
                template.write_payload(out);
                out.push(b'\n');
            }
            Inlet::Frames(_) => {
                out.extend_from_slice(&(topic as u32).to_be_bytes());
                template.write_frame(&self.shape, out);
            }
            Inlet::Web(_) => template.write_masked(&self.shape, out),
        }
        number
    }

    /// Queues an event of a topic that is not part of this feed.
    pub fn publish_elsewhere(&mut self, template: &Template) {
        let out = &mut self.channels[0].waiting;
        out.extend_from_slice(template.line());
        out.push(b'\n');
    }

    /// Makes luxcast acknowledge lines from now on, this one of each connection first.
    pub fn ask_for_acks(&mut self) {
        self.channels.iter_mut().for_each(|channel| channel.waiting.extend_from_slice(HELLO));
    }

    /// How many lines luxcast has acknowledged, those that ask for it among them.
    pub fn acknowledged(&self) -> u64 {
        self.channels.iter().map(|channel| channel.acknowledged).sum()
    }

    /// Bytes that wait for the connection of one topic, where each has its own.
    pub fn waiting_bytes_of(&self, topic: usize) -> usize {
        self.channels[topic].waiting_bytes()
    }

    pub fn waiting_bytes(&self) -> usize {
        self.channels.iter().map(Channel::waiting_bytes).sum()
    }

    pub fn is_flushed(&self) -> bool {
        self.channels.iter().all(|channel| channel.waiting.is_empty())
    }

    /// Writes what the sockets take. True: everything.
    pub fn flush(&mut self) -> Outcome<bool> {
        let mut is_all = true;
        for channel in &mut self.channels {
            is_all &= channel.flush()?;
        }
        Ok(is_all)
    }

    /// Reads and drops what a server sends to its publisher.
    pub fn listen(&mut self, token: usize) -> Outcome<()> {
        let Some(channel) = self.channels.get_mut(token - FEED_TOKENS) else { return Ok(()) };
        let mut block = [0; 16 << 10];
        loop {
            let result = match &mut channel.socket {
                Socket::Unix(socket) => socket.read(&mut block),
                Socket::Tcp(socket) => socket.read(&mut block),
            };
            match result {
                Ok(0) => return Err("the server closed its feed".into()),
                Ok(count) if block[..count].starts_with(b"{\"op\":\"error\"") => {
                    return Err(String::from_utf8_lossy(&block[..count]).into_owned().into());
                }
                Ok(count) => {
                    if let Some(line) = last_ack(&block[..count]) {
                        channel.acknowledged = line;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(format!("the feed: {error}").into()),
            }
        }
    }
}

/// The line of the last complete acknowledgement.
fn last_ack(bytes: &[u8]) -> Option<u64> {
    const START: &[u8] = br#"{"op":"ack","line":"#;
    let at = memchr::memmem::rfind(&bytes[..memchr::memrchr(b'\n', bytes)?], START)?;
    let digits = bytes[at + START.len()..].iter().take_while(|byte| byte.is_ascii_digit());
    Some(digits.fold(0, |line, digit| line * 10 + u64::from(digit - b'0')))
}

impl Channel {
    fn waiting_bytes(&self) -> usize {
        self.waiting.len() - self.sent
    }

    fn flush(&mut self) -> Outcome<bool> {
        while self.sent < self.waiting.len() {
            let result = match &mut self.socket {
                Socket::Unix(socket) => socket.write(&self.waiting[self.sent..]),
                Socket::Tcp(socket) => socket.write(&self.waiting[self.sent..]),
            };
            match result {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(format!("the feed: {error}").into()),
            }
        }
        self.waiting.clear();
        self.sent = 0;
        Ok(true)
    }
}

fn connect(inlet: &Inlet, topic: usize) -> Outcome<Channel> {
    let socket = match inlet {
        Inlet::Lines(path) | Inlet::Tabbed(path) | Inlet::Frames(path) => {
            let begin = Instant::now();
            loop {
                match UnixStream::connect(path) {
                    Ok(socket) => break Socket::Unix(socket),
                    Err(_) if begin.elapsed() < PATIENCE => thread::sleep(Duration::from_millis(10)),
                    Err(error) => return Err(format!("{}: {error}", path.display()).into()),
                }
            }
        }
        Inlet::Web(address) => {
            let mut socket = TcpStream::connect(address)?;
            socket.set_nodelay(true)?;
            socket.set_read_timeout(Some(PATIENCE))?;
            socket.write_all(&handshake(*address, &format!("/p/{}", topic_name(topic)), None))?;
            let mut seen = Vec::new();
            while !seen.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                socket.read_exact(&mut byte)?;
                seen.push(byte[0]);
            }
            if !seen.starts_with(b"HTTP/1.1 101 ") {
                return Err(format!("the publisher was refused: {}", String::from_utf8_lossy(&seen)).into());
            }
            socket.set_nonblocking(true)?;
            Socket::Tcp(mio::net::TcpStream::from_std(socket))
        }
    };
    Ok(Channel { socket, waiting: Vec::new(), sent: 0, acknowledged: 0 })
}

/// The request head of a WebSocket client that offers this extension.
pub fn handshake(address: SocketAddr, path: &str, extension: Option<&str>) -> Vec<u8> {
    let offer = extension.map_or(String::new(), |offer| format!("Sec-WebSocket-Extensions: {offer}\r\n"));
    format!(
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{offer}\r\n"
    )
    .into_bytes()
}

/// The request head of a client that reads a stream over plain HTTP.
pub fn stream_request(address: SocketAddr, path: &str, media_type: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nAccept: {media_type}\r\n\r\n").into_bytes()
}
