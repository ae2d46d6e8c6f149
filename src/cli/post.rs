//! Posts lines of the feed to the daemon over HTTP, one request after the other on a kept connection.

use std::fmt;
use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::cli::answer::read_all;
use crate::cli::connection::{AskError, Request, Stream, Way, patient};
use crate::cli::outlet::Woken;
use crate::cli::refusal::{Refusal, Refused};

/// Limit for an answer. The daemon answers when the lines are numbered, which takes long only while it takes none.
const ANSWER_SECONDS: Duration = Duration::from_secs(120);

/// An unused connection is not kept for longer: most servers and proxies keep theirs for at least 5 s.
const IDLE_MAX: Duration = Duration::from_secs(3);

/// What the daemon says when it has dealt with all lines of a request.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Receipt {
    pub accepted: u64,
    /// The first refused lines.
    pub refused: Vec<RefusedLine>,
    pub refused_total: u64,
    /// The last line accepted under the publisher's name.
    pub accepted_line: Option<u64>,
}

#[derive(Debug, PartialEq, Eq, Deserialize)]
pub struct RefusedLine {
    pub line: u64,
    pub code: String,
    pub message: String,
}

/// Why a request has no receipt.
#[derive(Debug, PartialEq, Eq)]
pub struct Unposted {
    pub reason: String,
    /// As the server asked.
    pub retry_after: Option<Duration>,
    /// The same would be refused again.
    pub is_final: bool,
    /// Lines of it may have been taken.
    pub is_in_doubt: bool,
    /// The kept connection ended without a word, as a server may end one that was unused.
    pub is_worn_out: bool,
}

impl Unposted {
    fn new(reason: impl fmt::Display, is_in_doubt: bool) -> Self {
        let reason = reason.to_string();
        Self { reason, retry_after: None, is_final: false, is_in_doubt, is_worn_out: false }
    }

    /// The receipt does not fit the request.
    pub fn misfit(reason: impl fmt::Display) -> Self {
        Self::new(reason, true)
    }

    fn for_good(self) -> Self {
        Self { is_final: true, ..self }
    }
}

/// A way to the daemon with the connection that the last request has left.
pub struct Post {
    way: Way,
    kept: Option<(Stream, Instant)>,
}

impl Post {
    pub fn new(way: Way) -> Self {
        Self { way, kept: None }
    }

    /// Posts these lines, each with its end. `fields` are lines of the request's head.
    pub fn send(&mut self, fields: &str, lines: &[u8]) -> Result<Receipt, Unposted> {
        let kept = self.kept.take().and_then(still_good);
        let is_kept = kept.is_some();
        let mut stream = match kept {
            Some(stream) => stream,
            None => self.way.open(None).map_err(unopened)?,
        };
        (patient(&mut stream).until, patient(&mut stream).patience) = (None, ANSWER_SECONDS);
        let fields =
            format!("Content-Type: application/x-ndjson\r\nContent-Length: {}\r\n{fields}", lines.len());
        let request = Request { method: "POST", target: "/api/v1/events", fields: &fields, body: lines };
        let answer = self.way.ask(&mut stream, &request).map_err(|error| match error {
            AskError::Token(problem) => Unposted::new(problem, false).for_good(),
            AskError::Io(error) => Unposted {
                is_worn_out: is_kept && is_end(&error),
                ..Unposted::new(self.way.problem(&error), true)
            },
        })?;
        if answer.status != 200 && answer.status != 422 {
            return Err(refused(Refusal::read(answer, &mut stream)));
        }
        let keeps_alive = answer.keeps_alive();
        let (mut body, mut bytes) = (answer.into_body(), Vec::new());
        let read = read_all(&mut body, &mut stream, &mut bytes);
        read.map_err(|error| Unposted::new(self.way.problem(&error), true))?;
        let receipt = serde_json::from_slice(&bytes);
        let receipt =
            receipt.map_err(|_| Unposted::new("something other than luxcast answered the events", true))?;
        if keeps_alive && body.is_whole() {
            self.kept = Some((stream, Instant::now()));
        }
        Ok(receipt)
    }
}

/// A kept connection that can be used again. One that has something to read has ended, or says that it will.
fn still_good((mut stream, since): (Stream, Instant)) -> Option<Stream> {
    let patient = patient(&mut stream);
    let woken = patient.outlet.wait(Some(patient.socket.as_fd()), Duration::ZERO);
    (since.elapsed() < IDLE_MAX && matches!(woken, Ok(Woken::Elapsed))).then_some(stream)
}

fn is_end(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
}

fn unopened(refused: Refused) -> Unposted {
    let unposted = Unposted::new(&refused, false);
    match refused {
        Refused::ForGood(_) => unposted.for_good(),
        _ => unposted,
    }
}

fn refused(refusal: Refusal) -> Unposted {
    Unposted {
        retry_after: refusal.retry_after,
        is_final: !refusal.may_pass(),
        ..Unposted::new(refusal.reason(), refusal.leaves_doubt())
    }
}
