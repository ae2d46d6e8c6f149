//! The watchers: all sockets of the load in one event loop; every message is checked in the read buffer.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use socket2::SockRef;

use crate::Outcome;
use crate::layout::{AnyLayout, Transport};
use crate::result::Role;
use crate::sealed::{Sealed, Trust};
use crate::server::Server;
use crate::tally::{NUMBERS_MAX, Stream, Tally, Times};
use crate::wire::Shape;
use crate::witness::Witness;

const READ_BYTES: usize = 512 << 10;
/// Handshakes in progress at once while a crowd gathers.
const OPENING_MAX: usize = 128;
/// One of this many watchers reads every byte, if events have the text of real ones; at least so many do.
const WITNESS_EACH: usize = 50;
const WITNESSES_MIN: usize = 4;
/// A run without any progress for this long has failed.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// The group whose sockets are read before all others.
pub const PROMPT_GROUP: u8 = 1;
/// Bytes read from the others before the prompt group has its turn.
const PROMPT_BYTES: u64 = 64 << 10;
/// Tokens from here on belong to the feed, not to watchers.
pub const FEED_TOKENS: usize = usize::MAX / 2;

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Connecting,
    Asked,
    Open,
    Closed,
}

struct Watcher {
    socket: Option<TcpStream>,
    tls: Option<Box<Sealed>>,
    state: State,
    /// The request head, until it is sent.
    request: Vec<u8>,
    /// The incomplete message at the end of the last read.
    rest: Vec<u8>,
    /// The next number expected; 0: any number may be first.
    next: u64,
    /// One group of watchers is timed: see [`Times`].
    group: u8,
    witness: Option<Box<Witness>>,
}

pub struct Crowd {
    pub poll: Poll,
    /// Polls the timed group: see [`Crowd::turn`].
    prompt: Poll,
    events: Events,
    watchers: Vec<Watcher>,
    block: Vec<u8>,
    shape: Shape,
    layout: AnyLayout,
    pub tally: Tally,
    pub times: Option<Times>,
    /// The feed's socket has room again.
    pub is_feed_writable: bool,
    prompt_events: Events,
    /// Some watcher is in the prompt group.
    has_prompt: bool,
    /// Polls without sleeping: the load has its own core.
    spins: bool,
    /// How watchers speak TLS, if they do.
    trust: Option<Trust>,
    /// Connections of the feed on which the server has sent something.
    pub feed_tokens: Vec<usize>,
    /// The number that luxcast gave to the newest message read.
    pub stream_seq: u64,
    /// Jobs among which the watchers are spread in turn, if each counts or reads what it gets.
    topics: Option<usize>,
}

impl Crowd {
    pub fn new(shape: Shape, spins: bool) -> Outcome<Self> {
        Ok(Self {
            poll: Poll::new()?,
            prompt: Poll::new()?,
            events: Events::with_capacity(1024),
            watchers: Vec::new(),
            block: vec![0; READ_BYTES],
            shape,
            layout: AnyLayout::new(Transport::WebSocket, true, shape),
            prompt_events: Events::with_capacity(1024),
            has_prompt: false,
            tally: Tally::default(),
            times: None,
            is_feed_writable: true,
            spins,
            trust: None,
            feed_tokens: Vec::new(),
            stream_seq: 0,
            topics: None,
        })
    }

    /// Watchers that speak as this server does.
    pub fn of(server: &Server, shape: Shape, spins: bool) -> Outcome<Self> {
        let mut crowd = Self::new(shape, spins)?;
        crowd.trust.clone_from(&server.trust);
        crowd.layout = AnyLayout::new(server.transport, server.role == Role::Luxcast, shape);
        Ok(crowd)
    }

    pub fn len(&self) -> usize {
        self.watchers.len()
    }

    /// Starts to connect one more watcher that will send `request`.
    pub fn open(&mut self, address: SocketAddr, request: Vec<u8>, group: u8) -> Outcome<usize> {
        let key = self.watchers.len();
        self.has_prompt |= group == PROMPT_GROUP;
        self.watchers.push(Watcher {
            socket: None,
            tls: None,
            state: State::Closed,
            request: Vec::new(),
            rest: Vec::with_capacity(2 * self.shape.frame_bytes),
            next: 0,
            group,
            witness: None,
        });
        self.reopen(key, address, request)?;
        Ok(key)
    }

    /// Connects a watcher again; its stream continues where it was.
    pub fn reopen(&mut self, key: usize, address: SocketAddr, request: Vec<u8>) -> Outcome<()> {
        let mut socket =
            TcpStream::connect(address).map_err(|error| format!("watcher {key} cannot connect: {error}"))?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll_of(self.watchers[key].group).registry().register(&mut socket, Token(key), interest)?;
        let watcher = &mut self.watchers[key];
        watcher.rest.clear();
        if let Some(witness) = &mut watcher.witness {
            witness.begin_anew();
        }
        watcher.request = request;
        watcher.state = State::Connecting;
        watcher.socket = Some(socket);
        let tls = match &watcher.tls {
            Some(before) => Some(before.again()),
            None => self.trust.as_ref().map(Sealed::new),
        };
        watcher.tls = tls.transpose()?.map(Box::new);
        Ok(())
    }

    /// Opens `count` watchers, a bounded number at once, and waits until all are accepted.
    pub fn gather(
        &mut self,
        count: usize,
        address: SocketAddr,
        group: u8,
        request: impl Fn(usize) -> Vec<u8>,
    ) -> Outcome<()> {
        let before = self.tally.opened;
        let mut begun = 0;
        let mut patience = Instant::now();
        while self.tally.opened - before < count as u64 {
            let opened = self.tally.opened;
            while begun < count && begun as u64 - (opened - before) < OPENING_MAX as u64 {
                self.open(address, request(begun), group)?;
                begun += 1;
            }
            self.turn(Duration::from_millis(1))?;
            if self.tally.opened > opened {
                patience = Instant::now();
            } else if patience.elapsed() > PATIENCE {
                let seen = self.tally.opened - before;
                return Err(format!("only {seen} of {count} watchers were accepted").into());
            }
        }
        Ok(())
    }

    /// Makes a sample of the watchers read every byte, and the others of a compressed crowd count from a known number
    /// on. All have been opened, job by job in turn.
    pub fn appoint_witnesses(&mut self, topics: usize) {
        if !self.shape.has_text() {
            return;
        }
        self.topics = Some(topics);
        let each = (self.watchers.len() / WITNESSES_MIN).clamp(1, WITNESS_EACH);
        for (key, watcher) in self.watchers.iter_mut().enumerate().step_by(each) {
            watcher.witness = Some(Box::new(Witness::new(&self.shape, key % topics)));
        }
    }

    /// Watchers that only count expect the number that comes next in their topic: they have had all before.
    pub fn begin_counts(&mut self, next_of: impl Fn(usize) -> u64) {
        let Some(topics) = self.topics else { return };
        for (key, watcher) in self.watchers.iter_mut().enumerate().filter(|(_, watcher)| watcher.next == 0) {
            watcher.next = next_of(key % topics);
        }
    }

    /// Compares what each open watcher has counted with what was published: it expects the number that comes next.
    pub fn compare_counts(&mut self, next_of: impl Fn(usize) -> u64) {
        let Some(topics) = self.topics else { return };
        for (key, watcher) in self.watchers.iter_mut().enumerate() {
            if watcher.state == State::Open {
                let next = next_of(key % topics);
                self.tally.note_count(watcher.next, next);
                watcher.next = next;
            }
        }
    }

    /// The number that a watcher must get first.
    pub fn expect(&mut self, key: usize, next: u64) {
        self.watchers[key].next = next;
    }

    /// The number that a watcher expects next.
    pub fn next_of(&self, key: usize) -> u64 {
        self.watchers[key].next
    }

    pub fn is_open(&self, key: usize) -> bool {
        self.watchers[key].state == State::Open
    }

    /// Times one group of watchers from now on. Watchers that change their group must be opened again.
    pub fn time(&mut self, group: u8) {
        self.times = Some(Times::new(NUMBERS_MAX, group));
    }

    /// A watcher that is cut off and opened again is then in this group.
    pub fn set_group(&mut self, key: usize, group: u8) {
        assert!(self.watchers[key].socket.is_none(), "an open watcher stays in its group");
        self.watchers[key].group = group;
    }

    fn poll_of(&self, group: u8) -> &Poll {
        if group == PROMPT_GROUP { &self.prompt } else { &self.poll }
    }

    /// Cuts a watcher off without a goodbye.
    pub fn cut(&mut self, key: usize) {
        let watcher = &mut self.watchers[key];
        watcher.state = State::Closed;
        if let Some(socket) = watcher.socket.take() {
            reset(&socket);
        }
    }

    /// Makes a watcher stop reading for good.
    pub fn mute(&mut self, key: usize) -> Outcome<()> {
        if let Some(socket) = &mut self.watchers[key].socket {
            self.poll.registry().deregister(socket)?;
        }
        Ok(())
    }

    /// Checks all sockets once and reads what is there. The sockets of [`PROMPT_GROUP`] are checked again after every
    /// few others, so that their times show the server and not the load's own backlog.
    pub fn turn(&mut self, sleep_max: Duration) -> Outcome<()> {
        let timeout = if self.spins { Duration::ZERO } else { sleep_max };
        let mut block = std::mem::take(&mut self.block);
        let mut events = std::mem::replace(&mut self.events, Events::with_capacity(1));
        self.look_promptly(&mut block)?;
        match self.poll.poll(&mut events, Some(timeout)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => result?,
        }
        let mut bytes = self.tally.bytes;
        for event in &events {
            self.handle(event, &mut block)?;
            if self.has_prompt && self.tally.bytes - bytes > PROMPT_BYTES {
                bytes = self.tally.bytes;
                self.look_promptly(&mut block)?;
            }
        }
        self.events = events;
        self.block = block;
        Ok(())
    }

    /// Reads what is there for the prompt group.
    fn look_promptly(&mut self, block: &mut [u8]) -> Outcome<()> {
        if !self.has_prompt {
            return Ok(());
        }
        let mut events = std::mem::replace(&mut self.prompt_events, Events::with_capacity(1));
        match self.prompt.poll(&mut events, Some(Duration::ZERO)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => result?,
        }
        for event in &events {
            self.handle(event, block)?;
        }
        self.prompt_events = events;
        Ok(())
    }

    fn handle(&mut self, event: &Event, block: &mut [u8]) -> Outcome<()> {
        let key = event.token().0;
        if key >= FEED_TOKENS {
            self.is_feed_writable |= event.is_writable();
            if event.is_readable() {
                self.feed_tokens.push(key);
            }
            return Ok(());
        }
        if self.watchers[key].state == State::Connecting && event.is_writable() {
            self.ask(key)?;
        }
        if event.is_readable() {
            self.read(key, block)?;
        }
        Ok(())
    }

    /// The connection is made: sends the request.
    fn ask(&mut self, key: usize) -> Outcome<()> {
        let watcher = &mut self.watchers[key];
        let Some(socket) = &mut watcher.socket else { return Ok(()) };
        if let Some(error) = socket.take_error()? {
            return Err(format!("watcher {key} cannot connect: {error}").into());
        }
        let written = match &mut watcher.tls {
            Some(tls) => tls.ask(socket, &watcher.request).map(|()| watcher.request.len()),
            None => socket.write(&watcher.request),
        };
        match written {
            Ok(count) if count == watcher.request.len() => {
                watcher.request = Vec::new();
                watcher.state = State::Asked;
                Ok(())
            }
            Ok(_) => Err("a request did not fit into a new socket's buffer".into()),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => Ok(()),
            Err(error) => Err(format!("watcher {key}: {error}").into()),
        }
    }

    /// Reads all that is there: each edge is reported once.
    fn read(&mut self, key: usize, block: &mut [u8]) -> Outcome<()> {
        loop {
            let watcher = &mut self.watchers[key];
            let Some(socket) = &mut watcher.socket else { return Ok(()) };
            let held = watcher.rest.len();
            block[..held].copy_from_slice(&watcher.rest);
            let read = match &mut watcher.tls {
                Some(tls) => tls.read(socket, &mut block[held..]),
                None => socket.read(&mut block[held..]),
            };
            match read {
                Ok(0) => {
                    self.close(key);
                    return Ok(());
                }
                Ok(count) => {
                    let end = held + count;
                    self.tally.bytes += watcher.tls.as_mut().map_or(count as u64, |tls| tls.received());
                    let start = match watcher.state {
                        State::Open => 0,
                        _ => match self.be_let_in(key, &block[..end])? {
                            Some(start) => start,
                            None => continue,
                        },
                    };
                    let used = self.take(key, &block[start..end])?;
                    let rest = &mut self.watchers[key].rest;
                    rest.clear();
                    rest.extend_from_slice(&block[start + used..end]);
                    // Less than there was room for: the socket is empty, and new bytes make a new edge. TLS returns
                    // less than it has.
                    if end < block.len() && self.watchers[key].tls.is_none() {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                    self.close(key);
                    return Ok(());
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn close(&mut self, key: usize) {
        self.watchers[key].socket = None;
        self.watchers[key].state = State::Closed;
        self.tally.closed += 1;
    }

    /// Handles the answer to the request, if it is complete; returns where the messages after it begin.
    fn be_let_in(&mut self, key: usize, bytes: &[u8]) -> Outcome<Option<usize>> {
        let watcher = &mut self.watchers[key];
        let Some(end) = memchr::memmem::find(bytes, b"\r\n\r\n") else {
            watcher.rest.clear();
            watcher.rest.extend_from_slice(bytes);
            return Ok(None);
        };
        if !self.layout.admits(&bytes[..end + 4]) {
            let answer = String::from_utf8_lossy(&bytes[..bytes.len().min(400)]).into_owned();
            return Err(format!("watcher {key} was refused: {answer}").into());
        }
        watcher.state = State::Open;
        self.tally.opened += 1;
        Ok(Some(end + 4))
    }

    /// Checks the whole messages of `bytes`; returns their length.
    fn take(&mut self, key: usize, bytes: &[u8]) -> Outcome<usize> {
        let watcher = &mut self.watchers[key];
        let stream = Stream {
            shape: &self.shape,
            tally: &mut self.tally,
            times: self.times.as_mut().filter(|times| times.group == watcher.group),
            next: &mut watcher.next,
            witness: watcher.witness.as_deref_mut(),
            stream_seq: &mut self.stream_seq,
        };
        let taken = match &self.layout {
            AnyLayout::Frames(frames) => stream.take(frames, bytes),
            AnyLayout::Compressed(frames, _) => stream.take_compressed(frames, bytes),
            AnyLayout::Chunks(chunks) => stream.take(chunks, bytes),
            AnyLayout::Events(events) => stream.take(events, bytes),
        };
        Ok(taken.map_err(|error| format!("watcher {key}: {error}"))?)
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.watchers.iter().filter_map(|watcher| watcher.socket.as_ref()).for_each(reset);
    }
}

/// Frees the port at once: ten thousand ports in TIME_WAIT would be missing in the next run.
fn reset(socket: &TcpStream) {
    let _: io::Result<()> = SockRef::from(socket).set_linger(Some(Duration::ZERO));
}
