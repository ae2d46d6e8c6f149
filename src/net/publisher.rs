//! One publisher's connection: the incomplete line it left off in, the answers it has not read.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Write};

use mio::net::UnixStream;

use crate::wire::line::{Control, LineError, trim, write_ack, write_error};

/// Errors held for a publisher that does not read; the rest are counted.
const ERRORS_MAX: usize = 64;

/// An incomplete line up to this long is copied in front of the next read; a longer one has a buffer of its own,
/// so that a line sent byte by byte costs no quadratic work.
pub const SHORT_REST_MAX: usize = 16 << 10;

pub struct Publisher {
    pub socket: UnixStream,
    /// `buffer[..held]` is the incomplete line at the end of what was read.
    pub buffer: Vec<u8>,
    pub held: usize,
    /// The line is over the limit: its remainder is passed over.
    pub skips: bool,
    /// Number of the last line, complete or being skipped.
    pub line: u64,
    pub has_begun: bool,
    pub wants_acks: bool,
    /// The account of its name: under it lines are taken once.
    pub account: Option<usize>,
    /// In line to be read.
    pub is_ready: bool,
    out: Vec<u8>,
    sent: usize,
    ack: Option<(u64, u64)>,
    /// The last line that an ack was made for.
    acked: u64,
    errors: VecDeque<(u64, LineError)>,
}

impl Publisher {
    pub fn new(socket: UnixStream) -> Self {
        Self {
            socket,
            buffer: Vec::new(),
            held: 0,
            skips: false,
            line: 0,
            has_begun: false,
            wants_acks: false,
            account: None,
            is_ready: false,
            out: Vec::new(),
            sent: 0,
            ack: None,
            acked: 0,
            errors: VecDeque::new(),
        }
    }

    /// Writes answer lines of the daemon's own choosing.
    pub fn answer(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.out);
    }

    /// One pending ack: the newest covers the ones before.
    pub fn acknowledge(&mut self, stream_seq: u64) {
        if self.wants_acks && self.acked != self.line {
            self.acked = self.line;
            self.ack = Some((self.line, stream_seq));
        }
    }

    /// The next line is `line + 1`; lines up to there need no ack.
    pub fn number_from(&mut self, line: u64) {
        self.line = line;
        self.acked = line;
    }

    /// Says why a line was refused. False: too many answers wait already.
    pub fn refuse(&mut self, line: u64, error: LineError) -> bool {
        let has_room = self.errors.len() < ERRORS_MAX;
        if has_room {
            self.errors.push_back((line, error));
        }
        has_room
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
                if let Some((line, stream_seq)) = self.ack.take() {
                    write_ack(&mut self.out, line, stream_seq);
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
    /// With a name, lines are taken once.
    Hello {
        name: Option<Box<str>>,
        acks: bool,
    },
    From {
        line: u64,
    },
}

impl Request {
    pub fn of(control: Control<'_>) -> Self {
        match control {
            Control::Hello { publisher, ack, dedupe } => {
                Request::Hello { name: publisher.filter(|_| dedupe).map(Into::into), acks: ack }
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
