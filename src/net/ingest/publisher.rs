//! One publisher's connection: the incomplete line it left off in, the answers it has not read.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Write};

use mio::net::UnixStream;
use rustix::net::sockopt::socket_peercred;
use rustix::process::Pid;

use crate::wire::line::{Control, LineError, trim, write_ack, write_error};

/// Errors held for a publisher that does not read; the rest are counted.
const ERRORS_MAX: usize = 64;

/// An incomplete line shorter than this is copied in front of the next read; a longer one has a buffer of its own,
/// so that a line sent byte by byte costs no quadratic work.
pub const SHORT_REST_MAX: usize = 16 << 10;

/// What a publisher may still say of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Greeting {
    /// Nothing but empty lines has come: `hello` may.
    New,
    /// `hello` gave a name under which lines are taken once, and no line has come since: `from` may.
    Named,
    Begun,
}

pub struct Publisher {
    pub socket: UnixStream,
    /// `buffer[..held]` is the incomplete line at the end of what was read.
    pub buffer: Vec<u8>,
    pub held: usize,
    /// The line is over the limit: its remainder is passed over.
    pub skips: bool,
    /// It has one of the places for long half lines.
    pub has_place: bool,
    /// When something came last, in milliseconds of the daemon's clock.
    pub heard_at: u64,
    /// Number of the last line, complete or being skipped.
    pub line: u64,
    /// Number of its `hello`; 0 without one, and under a name, where it has none.
    pub hello_line: u64,
    pub greeting: Greeting,
    pub wants_acks: bool,
    /// What `hello` said.
    pub name: Option<Box<str>>,
    /// The account of its name: under it lines are taken once.
    pub account: Option<usize>,
    /// In line to be read, or for a place.
    pub is_ready: bool,
    /// Lines that were refused so far.
    refused: u64,
    out: Vec<u8>,
    sent: usize,
    ack: Option<Ack>,
    /// The line and the refusals that an ack was made for last.
    acked: (u64, u64),
    errors: VecDeque<(u64, LineError)>,
}

struct Ack {
    line: u64,
    stream_seq: u64,
    refused: u64,
}

impl Publisher {
    pub fn new(socket: UnixStream) -> Self {
        Self {
            socket,
            buffer: Vec::new(),
            held: 0,
            skips: false,
            has_place: false,
            heard_at: 0,
            line: 0,
            hello_line: 0,
            greeting: Greeting::New,
            wants_acks: false,
            name: None,
            account: None,
            is_ready: false,
            refused: 0,
            out: Vec::new(),
            sent: 0,
            ack: None,
            acked: (0, 0),
            errors: VecDeque::new(),
        }
    }

    /// Writes answer lines of the daemon's own choosing.
    pub fn answer(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.out);
    }

    /// One pending ack: the newest covers the ones before. It counts the refusals, since answers about them may be
    /// dropped.
    pub fn acknowledge(&mut self, stream_seq: u64) {
        if self.wants_acks && self.acked != (self.line, self.refused) {
            self.acked = (self.line, self.refused);
            self.ack = Some(Ack { line: self.line, stream_seq, refused: self.refused });
        }
    }

    /// The next line is `line + 1`; lines up to there need no ack.
    pub fn number_from(&mut self, line: u64) {
        self.line = line;
        self.acked = (line, self.refused);
    }

    /// Says why a line was refused. False: too many answers wait already.
    pub fn refuse(&mut self, line: u64, error: LineError) -> bool {
        self.refused += 1;
        let has_room = self.errors.len() < ERRORS_MAX;
        if has_room {
            self.errors.push_back((line, error));
        }
        has_room
    }

    /// Who it is, for the log: its name, and its process as the kernel noted it when it connected.
    pub fn describe(&self) -> (&str, i32) {
        let pid = socket_peercred(&self.socket).map_or(0, |peer| Pid::as_raw(Some(peer.pid)));
        (self.name.as_deref().unwrap_or(""), pid)
    }

    /// Something waits to be read by it.
    pub fn has_answers(&self) -> bool {
        self.sent < self.out.len() || self.ack.is_some() || !self.errors.is_empty()
    }

    /// Writes what it takes, never waiting. Err: nobody reads there any more.
    pub fn flush(&mut self) -> io::Result<()> {
        loop {
            if self.sent == self.out.len() {
                self.out.clear();
                self.sent = 0;
                for (line, error) in self.errors.drain(..) {
                    write_error(&mut self.out, line, error);
                }
                if let Some(Ack { line, stream_seq, refused }) = self.ack.take() {
                    write_ack(&mut self.out, line, stream_seq, refused);
                }
                if self.out.is_empty() {
                    return Ok(());
                }
            }
            match self.socket.write(&self.out[self.sent..]) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// A control line, by value.
pub enum Request {
    Hello {
        name: Option<Box<str>>,
        acks: bool,
        /// Lines are taken once under the name.
        is_once: bool,
    },
    From {
        line: u64,
    },
}

impl Request {
    pub fn of(control: Control<'_>) -> Self {
        match control {
            Control::Hello { publisher, ack, dedupe } => {
                Request::Hello { name: publisher.map(Into::into), acks: ack, is_once: dedupe }
            }
            Control::From { line } => Request::From { line },
        }
    }
}

/// Whether a line, or what has come of it, is over the limit: its object, or all of it with blanks twice. The same
/// however it was split.
pub fn is_too_long(line: &[u8], line_bytes_max: usize) -> bool {
    line.len() > line_bytes_max && (line.len() / 2 > line_bytes_max || trim(line).len() > line_bytes_max)
}
