//! One publisher's connection: its incomplete line, and the answers that it has not read.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Write};
use std::net::IpAddr;
use std::sync::Arc;

use mio::net::UnixStream;
use rustix::net::sockopt::socket_peercred;
use rustix::process::Pid;

use crate::access::patterns::Patterns;
use crate::bus::writer::LaneKey;
use crate::net::ingest::posted::Posted;
use crate::wire::line::{Control, LINE_NUMBER_MAX, LineError, trim, write_ack, write_error};
use crate::wire::receipt::Receipt;

/// Most errors held for a publisher that does not read. Errors beyond that are only counted.
const ERRORS_MAX: usize = 64;

/// An incomplete line shorter than this is copied in front of the next read. A longer one has a buffer of its own, so
/// that a line sent byte by byte costs no quadratic work.
pub const SHORT_REST_MAX: usize = 16 << 10;

/// Which control line a publisher may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Greeting {
    /// Only empty lines have come: `hello` is allowed.
    New,
    /// `hello` gave a name with `dedupe`, and no line has come since: `from` is allowed.
    Named,
    /// A line has come: neither is allowed.
    Begun,
}

/// Where a publisher's lines come from.
pub enum Source {
    Socket(UnixStream),
    /// A request over HTTP.
    Posted(Arc<Posted>),
}

impl Source {
    /// The name under which lines are taken once.
    pub fn account_of(&self, name: &str) -> Box<str> {
        match self {
            Source::Socket(_) => name.into(),
            Source::Posted(posted) => posted.account_of(name),
        }
    }

    /// The jobs and flows that lines may be for; None: all.
    pub fn covered(&self) -> Option<&Patterns> {
        match self {
            Source::Socket(_) => None,
            Source::Posted(posted) => posted.covered(),
        }
    }
}

pub struct Publisher {
    pub source: Source,
    /// `buffer[..held]` is the incomplete line at the end of what was read.
    pub buffer: Vec<u8>,
    pub held: usize,
    /// The line is over the limit: the rest of it is skipped.
    pub skips: bool,
    /// It has one of the places for long half lines.
    pub has_place: bool,
    /// So many bytes of it may be read at once: its share of a turn's work. 0: it has not been read yet.
    pub share: usize,
    /// When the last bytes came, in milliseconds of the daemon's clock.
    pub heard_at: u64,
    /// Number of the last line, complete or being skipped; one over [`LINE_NUMBER_MAX`] for all lines behind that.
    pub line: u64,
    /// Number of its `hello`; 0 without one, and under a name, where it has none.
    pub hello_line: u64,
    pub greeting: Greeting,
    /// Control lines to come that it has not sent: they stand for fields of its request.
    unsent_orders: usize,
    pub wants_acks: bool,
    /// It counts its lines itself: `hello` gave a name with `dedupe`.
    pub is_named: bool,
    /// It sends nothing more.
    pub has_ended: bool,
    /// The name in `hello`.
    pub name: Option<Box<str>>,
    /// The account of its name, if `hello` has `dedupe`.
    pub account: Option<usize>,
    /// With `bus`: where its lines wait until they are in the stream.
    pub lane: Option<LaneKey>,
    /// Since when its `hello` waits, with all that it has sent behind that, until the daemon knows what the stream has of
    /// its lines.
    pub greets_since: Option<u64>,
    /// Its `hello` need not wait any more: there are whole lines in the buffer.
    pub greeted_since: Option<u64>,
    /// It is in the queue to be read, or in the one for a place.
    pub is_ready: bool,
    /// Lines that are events, or were before under its name.
    pub accepted: u64,
    /// Lines refused so far.
    refused: u64,
    out: Vec<u8>,
    sent: usize,
    ack: Option<Ack>,
    /// The line and the count of refusals in the newest ack.
    acked: (u64, u64),
    errors: VecDeque<(u64, LineError)>,
}

struct Ack {
    line: u64,
    stream_seq: u64,
    refused: u64,
}

impl Publisher {
    pub fn new(source: Source) -> Self {
        let unsent_orders = match &source {
            Source::Socket(_) => 0,
            Source::Posted(posted) => posted.from.greeting_lines,
        };
        Self {
            source,
            unsent_orders,
            buffer: Vec::new(),
            held: 0,
            skips: false,
            has_place: false,
            share: 0,
            heard_at: 0,
            line: 0,
            hello_line: 0,
            greeting: Greeting::New,
            wants_acks: false,
            is_named: false,
            has_ended: false,
            name: None,
            account: None,
            lane: None,
            greets_since: None,
            greeted_since: None,
            is_ready: false,
            accepted: 0,
            refused: 0,
            out: Vec::new(),
            sent: 0,
            ack: None,
            acked: (0, 0),
            errors: VecDeque::new(),
        }
    }

    /// Queues answer lines that `write` appends.
    pub fn answer(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.out);
    }

    /// Makes the pending ack for the lines up to `line`, which replaces an older one. It counts the refusals, since answers
    /// about them may be dropped.
    pub fn acknowledge(&mut self, line: u64, stream_seq: u64) {
        if self.must_be_told() && self.acked != (line, self.refused) {
            self.acked = (line, self.refused);
            self.ack = Some(Ack { line, stream_seq, refused: self.refused });
        }
    }

    /// Makes the ack for those of its lines up to `dealt`, if there are more than before, or all.
    pub fn acknowledge_to(&mut self, dealt: u64, stream_seq: u64) {
        let line = self.line.min(dealt);
        if line > self.acked.0 || line == self.line {
            self.acknowledge(line, stream_seq);
        }
    }

    /// It has asked for acks, or its request has an answer.
    fn must_be_told(&self) -> bool {
        self.wants_acks || matches!(self.source, Source::Posted(_))
    }

    /// Whether the last line has no ack yet.
    pub fn awaits_ack(&self) -> bool {
        self.must_be_told() && self.acked != (self.line, self.refused)
    }

    /// Whether the other side is closed, and not only for writing.
    pub fn is_gone(&mut self) -> bool {
        match &mut self.source {
            Source::Socket(socket) => {
                socket.write(&[]).is_err_and(|error| error.kind() != ErrorKind::WouldBlock)
            }
            Source::Posted(_) => false,
        }
    }

    /// Whether the control line that is obeyed now is one of its own lines.
    pub fn has_sent_order(&mut self) -> bool {
        let is_sent = self.unsent_orders == 0;
        self.unsent_orders = self.unsent_orders.saturating_sub(1);
        is_sent
    }

    /// Gives the next line its number.
    pub fn count_line(&mut self) -> u64 {
        self.line = (self.line + 1).min(LINE_NUMBER_MAX + 1);
        self.line
    }

    /// Makes `line + 1` the number of the next line. Lines up to `line` need no ack.
    pub fn number_from(&mut self, line: u64) {
        self.line = line;
        self.acked = (line, self.refused);
    }

    /// Queues an answer that says why a line is refused. False: too many answers wait already.
    pub fn refuse(&mut self, line: u64, error: LineError) -> bool {
        self.refused += 1;
        let has_room = self.errors.len() < ERRORS_MAX;
        if has_room {
            self.errors.push_back((line, error));
        }
        has_room
    }

    /// The process that connected (0: unknown), or the address that its request is from, for the log.
    pub fn describe(&self) -> (Option<i32>, Option<IpAddr>) {
        match &self.source {
            Source::Socket(socket) => {
                (Some(socket_peercred(socket).map_or(0, |peer| Pid::as_raw(Some(peer.pid)))), None)
            }
            Source::Posted(posted) => (None, Some(posted.from.address)),
        }
    }

    /// What became of the lines of a request, once it is over and all of them were dealt with.
    pub fn receipt(&mut self, stream_seq: u64, accepted_line: Option<u64>) -> Receipt {
        let stream_seq = self.ack.take().map_or(stream_seq, |ack| ack.stream_seq);
        let refused = self.errors.drain(..).collect();
        Receipt {
            accepted: self.accepted,
            refused,
            refused_total: self.refused,
            stream_seq,
            accepted_line,
            is_array: false,
        }
    }

    /// Whether some answer is not sent yet.
    pub fn has_answers(&self) -> bool {
        self.sent < self.out.len() || self.ack.is_some() || !self.errors.is_empty()
    }

    /// Writes what the socket takes, without waiting.
    ///
    /// # Errors
    /// The publisher reads no answers any more.
    pub fn flush(&mut self) -> io::Result<()> {
        let Source::Socket(socket) = &mut self.source else { return Ok(()) };
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
            match socket.write(&self.out[self.sent..]) {
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
        /// `dedupe`: a line is taken once under the name.
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

/// Whether a line, or its received part, is too long: its object is over the limit, or all of it with blanks is over
/// twice the limit. The result does not depend on how reads split the line.
pub fn is_too_long(line: &[u8], line_bytes_max: usize) -> bool {
    line.len() > line_bytes_max && (line.len() / 2 > line_bytes_max || trim(line).len() > line_bytes_max)
}
