//! Tells the daemon of events on a thread of its own, over the socket or over HTTP, each once. Whoever has the events never
//! waits: where the daemon is away or slow, they are kept up to a bound, and beyond that they are dropped and counted.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use serde::Deserialize;

use crate::cli::backoff::Backoff;
use crate::cli::connection::Way;
use crate::cli::feed::Places;
use crate::cli::posting::{Posting, behind, name_of_run};

/// So much is kept while the daemon does not take it.
const KEPT_BYTES_MAX: usize = 8 << 20;
/// So much is sent at once.
const BATCH_BYTES_MAX: usize = 256 << 10;
/// At the end, for a daemon that takes events, and for one of which nothing is known yet.
const END_PATIENCE: Duration = Duration::from_secs(5);
const END_PATIENCE_UNKNOWN: Duration = Duration::from_secs(1);

/// The way to the daemon.
pub enum To {
    Socket(Places),
    Http(Way),
}

pub struct Teller(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    lines: VecDeque<String>,
    bytes: usize,
    /// Lines that are being sent.
    sending: u64,
    dropped: u64,
    refused: u64,
    is_over: bool,
    contact: Contact,
    /// Why the daemon was not reached last, or why it refuses lines.
    problem: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Contact {
    #[default]
    Unknown,
    There,
    Away,
    /// It never takes these events.
    Refused,
}

/// What the daemon was not told.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Untold {
    pub lines: u64,
    pub refused: u64,
    pub problem: Option<String>,
}

impl Teller {
    /// `command` is a part of the name under which the daemon knows this publisher.
    pub fn start(to: To, command: &str) -> io::Result<Self> {
        let shared: Arc<Shared> = Arc::default();
        let (own, name) = (shared.clone(), name_of_run(command));
        thread::Builder::new().name("teller".to_owned()).spawn(move || tell(&own, to, &name))?;
        Ok(Self(shared))
    }

    /// Hands a line over. It is dropped if too much is kept already.
    pub fn tell(&self, line: String) {
        let mut state = self.0.state.lock();
        match state.bytes + line.len() <= KEPT_BYTES_MAX && state.contact != Contact::Refused {
            true => state.push(line),
            false => state.dropped += 1,
        }
        self.0.changed.notify_all();
    }

    /// Hands the last lines over, whatever is kept. `of_dropped` makes a line that tells how many were dropped.
    pub fn finish(&self, of_dropped: impl FnOnce(u64) -> String, last: Vec<String>) -> Untold {
        let mut state = self.0.state.lock();
        if state.dropped > 0 {
            let line = of_dropped(state.dropped);
            state.push(line);
        }
        last.into_iter().for_each(|line| state.push(line));
        state.is_over = true;
        // It may be there again: whoever sleeps tries once more.
        if state.contact == Contact::Away {
            state.contact = Contact::Unknown;
        }
        self.0.changed.notify_all();
        let began = Instant::now();
        while state.untold() > 0 {
            let patience = match state.contact {
                Contact::Unknown => END_PATIENCE_UNKNOWN,
                Contact::There => END_PATIENCE,
                Contact::Away | Contact::Refused => break,
            };
            let left = patience.saturating_sub(began.elapsed());
            if left.is_zero() {
                break;
            }
            self.0.changed.wait_for(&mut state, left);
        }
        Untold {
            lines: state.untold() + state.dropped,
            refused: state.refused,
            problem: state.problem.take(),
        }
    }
}

impl State {
    fn push(&mut self, line: String) {
        self.bytes += line.len();
        self.lines.push_back(line);
    }

    fn untold(&self) -> u64 {
        self.lines.len() as u64 + self.sending
    }
}

impl Shared {
    /// The next lines to send, and how many. None: there will be no more.
    fn next(&self) -> Option<(Vec<u8>, u64)> {
        let mut state = self.state.lock();
        while state.lines.is_empty() {
            if state.is_over {
                return None;
            }
            self.changed.wait(&mut state);
        }
        let mut batch = Vec::new();
        while let Some(line) = state.lines.front()
            && (batch.is_empty() || batch.len() + line.len() <= BATCH_BYTES_MAX)
        {
            batch.extend_from_slice(line.as_bytes());
            state.lines.pop_front();
            state.sending += 1;
        }
        Some((batch, state.sending))
    }

    fn note_settled(&self, refused: u64, problem: Option<String>) {
        let mut state = self.state.lock();
        // What is being sent counts as kept until then.
        state.bytes = state.lines.iter().map(String::len).sum();
        (state.sending, state.contact) = (0, Contact::There);
        state.refused += refused;
        state.problem = problem.or(state.problem.take().filter(|_| state.refused > 0));
        self.changed.notify_all();
    }

    /// Between two attempts. The end is no time to sleep.
    fn sleep(&self, duration: Duration) {
        let until = Instant::now() + duration;
        let mut state = self.state.lock();
        while !state.is_over && !self.changed.wait_until(&mut state, until).timed_out() {}
    }

    fn note_problem(&self, contact: Contact, problem: &str) {
        let mut state = self.state.lock();
        state.contact = contact;
        state.problem = Some(problem.to_owned());
        self.changed.notify_all();
    }
}

/// Sends lines until there will be no more, or the daemon never takes them.
fn tell(shared: &Shared, to: To, name: &str) {
    let away = |problem: &str| shared.note_problem(Contact::Away, problem);
    let sleep = |duration: Duration| shared.sleep(duration);
    let mut first = 1;
    match to {
        To::Socket(places) => {
            let mut feed = SocketFeed { places, name, connection: None, away: &away, sleep: &sleep };
            while let Some((lines, count)) = shared.next() {
                let (refused, problem) = feed.send(first, &lines, count);
                shared.note_settled(refused, problem);
                first += count;
            }
        }
        To::Http(way) => {
            let mut posting = Posting::new(way, Some(name.to_owned()), true, &away, &sleep);
            while let Some((lines, count)) = shared.next() {
                match posting.send(first, &lines) {
                    Ok(settled) => {
                        let problem =
                            settled.refused.first().map(|line| format!("{}: {}", line.code, line.message));
                        shared.note_settled(settled.refused_total, problem);
                    }
                    Err(unsettled) => return shared.note_problem(Contact::Refused, &unsettled.reason),
                }
                first += count;
            }
        }
    }
}

/// A publisher on the daemon's socket that comes back until each line is dealt with.
struct SocketFeed<'a> {
    places: Places,
    name: &'a str,
    connection: Option<Connection>,
    away: &'a dyn Fn(&str),
    sleep: &'a dyn Fn(Duration),
}

struct Connection {
    writer: UnixStream,
    answers: BufReader<UnixStream>,
    /// The number of the next line that is written.
    next: u64,
    refused: u64,
    problem: Option<String>,
}

/// What the daemon says. Unknown words are for later versions.
#[derive(Deserialize)]
#[serde(tag = "op", rename_all = "lowercase")]
enum Answer {
    Welcome {
        accepted: u64,
    },
    Ack {
        line: u64,
        refused: u64,
    },
    Error {
        code: String,
        message: String,
    },
    #[serde(other)]
    Other,
}

impl SocketFeed<'_> {
    /// Returns how many of these lines were refused, and why.
    fn send(&mut self, first: u64, lines: &[u8], count: u64) -> (u64, Option<String>) {
        let mut backoff = Backoff::default();
        loop {
            match self.try_send(first, lines, count) {
                Ok(settled) => return settled,
                Err(problem) => {
                    self.connection = None;
                    (self.away)(&problem);
                    (self.sleep)(backoff.next(None, fastrand::f64()));
                }
            }
        }
    }

    fn try_send(&mut self, first: u64, lines: &[u8], count: u64) -> Result<(u64, Option<String>), String> {
        if self.connection.is_none() {
            let (socket, _) = self.places.connect()?;
            self.connection =
                Some(Connection::greet(socket, self.name, first).map_err(|error| error.to_string())?);
        }
        let connection = self.connection.as_mut().expect("it was just made");
        connection.send(first, lines, count).map_err(|error| error.to_string())
    }
}

impl Connection {
    /// `first` is the first line that may be new to the daemon.
    fn greet(socket: UnixStream, name: &str, first: u64) -> io::Result<Self> {
        let answers = BufReader::new(socket.try_clone()?);
        let mut connection = Self { writer: socket, answers, next: first, refused: 0, problem: None };
        let hello = serde_json::json!({"op": "hello", "publisher": name, "ack": true, "dedupe": true});
        connection.writer.write_all(format!("{hello}\n").as_bytes())?;
        loop {
            match connection.answer()? {
                Answer::Welcome { accepted } => {
                    connection.next = first.max(accepted + 1);
                    let from = format!("{{\"op\":\"from\",\"line\":{}}}\n", connection.next);
                    connection.writer.write_all(from.as_bytes())?;
                    return Ok(connection);
                }
                Answer::Error { message, .. } => return Err(io::Error::other(message)),
                Answer::Ack { .. } | Answer::Other => {}
            }
        }
    }

    fn answer(&mut self) -> io::Result<Answer> {
        let mut line = String::new();
        if self.answers.read_line(&mut line)? == 0 {
            return Err(io::Error::other("the daemon has closed the connection"));
        }
        serde_json::from_str(&line).map_err(|_| io::Error::other("what answers there is not luxcast"))
    }

    fn send(&mut self, first: u64, lines: &[u8], count: u64) -> io::Result<(u64, Option<String>)> {
        let last = first + count - 1;
        let before = self.refused;
        if self.next <= last {
            self.writer.write_all(behind(lines, self.next - first))?;
            self.next = last + 1;
            loop {
                match self.answer()? {
                    Answer::Ack { line, refused } => {
                        self.refused = refused;
                        if line >= last {
                            break;
                        }
                    }
                    Answer::Error { code, message } => self.problem = Some(format!("{code}: {message}")),
                    Answer::Welcome { .. } | Answer::Other => {}
                }
            }
        }
        Ok((self.refused - before, self.problem.take()))
    }
}
