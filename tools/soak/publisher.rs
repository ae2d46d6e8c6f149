//! Publishers that come and go, by the Unix socket and over HTTP. Most have a name under which the daemon takes each line once, however often it is
//! sent; others live once. Many are cut off in the middle of a line.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use parking_lot::Mutex;
use serde_json::Value;

use crate::lines::{NAMELESS, last_good, write_line};
use crate::{Outcome, PATIENCE, poster};

/// Lines of a publisher that may be in transit: together, publishers never run far ahead of a watcher that reads.
pub const CHUNK_LINES_MAX: u64 = 40;
/// After an absence longer than this share of `history_seconds`, a publisher takes another name: the daemon may have
/// forgotten the old one.
const AWAY_SHARE: u32 = 4;

/// Where publishers reach a daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Door {
    pub socket: PathBuf,
    /// For HTTP.
    pub address: SocketAddr,
}

/// What publishers share with the rest.
pub struct Shared {
    /// Where publishers reach each daemon; none while it does not run. A daemon that starts again has another.
    pub doors: Mutex<Vec<Option<Door>>>,
    /// Daemons are killed, and publishers come back through others.
    pub is_fleet: bool,
    pub history_seconds: Duration,
    /// Lines a second of each publisher.
    pub lines_per_second: u64,
    /// The newest event of the reference: a watcher far behind it is slow by its own fault.
    pub reference: AtomicU64,
    pub is_over: AtomicBool,
    pub violations: Mutex<Vec<String>>,
    pub links: AtomicU64,
    pub cut_off: AtomicU64,
    /// Requests over HTTP that were answered.
    pub posts: AtomicU64,
    /// Requests that a full daemon refused, and those of which nothing was heard.
    pub refused: AtomicU64,
    pub lost: AtomicU64,
    /// For publishers that left: their number, and the last line that must have been taken.
    pub promised: Mutex<Vec<(u32, u64)>>,
    /// Numbers for publishers without a name, and for those that took another.
    pub next_publisher: AtomicU32,
}

impl Shared {
    pub fn blame(&self, violation: String) {
        self.violations.lock().push(violation);
    }

    pub fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    pub fn note_link(&self) {
        self.links.fetch_add(1, Ordering::Relaxed);
    }

    pub fn note_cut_off(&self) {
        self.cut_off.fetch_add(1, Ordering::Relaxed);
    }

    pub fn note_post(&self) {
        self.posts.fetch_add(1, Ordering::Relaxed);
    }

    pub fn note_turned_away(&self, without_answer: bool) {
        let count = if without_answer { &self.lost } else { &self.refused };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// Waits until the reference has seen this event.
    pub fn wait_until_seen(&self, seq: u64) -> Outcome<()> {
        let begin = Instant::now();
        while self.reference.load(Ordering::Acquire) < seq {
            if begin.elapsed() > PATIENCE {
                return Err(format!("event {seq} was acknowledged and never seen").into());
            }
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Waits as long as so many lines of a publisher are to take.
    pub fn rest_after(&self, lines: u64) {
        thread::sleep(Duration::from_millis(lines * 1_000 / self.lines_per_second));
    }

    /// Whether the daemon with this door was killed.
    fn is_gone(&self, door: &Door) -> bool {
        !self.doors.lock().iter().flatten().any(|running| running == door)
    }

    fn choose(&self, random: &mut Rng) -> Door {
        let doors = self.doors.lock();
        let running: Vec<_> = doors.iter().flatten().collect();
        running[random.usize(..running.len())].clone()
    }

    fn new_publisher(&self) -> u32 {
        self.next_publisher.fetch_add(1, Ordering::Relaxed)
    }
}

/// One connection to the daemon's socket.
struct Link {
    stream: UnixStream,
    answers: BufReader<UnixStream>,
}

impl Link {
    fn open(shared: &Shared, socket: &Path) -> Outcome<Self> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let answers = BufReader::new(stream.try_clone()?);
        shared.note_link();
        Ok(Self { stream, answers })
    }

    fn hello(&mut self, publisher: u32, has_name: bool) -> Outcome<u64> {
        writeln!(
            self.stream,
            r#"{{"op":"hello","publisher":"p{publisher}","ack":true,"dedupe":{has_name}}}"#
        )?;
        let welcome = self.answer()?;
        if welcome["op"] != "welcome" {
            return Err(format!("expected a welcome: {welcome}").into());
        }
        Ok(welcome["accepted"].as_u64().unwrap_or(0))
    }

    fn answer(&mut self) -> Outcome<Value> {
        let mut line = String::new();
        if self.answers.read_line(&mut line)? == 0 {
            return Err("the daemon closed a publisher's connection".into());
        }
        Ok(serde_json::from_str(&line)?)
    }

    /// Waits until this line is acknowledged; returns the newest event then.
    fn wait_for_ack(&mut self, line: u64) -> Outcome<u64> {
        loop {
            let answer = self.answer()?;
            match answer["op"].as_str() {
                Some("error") if answer["code"] == "bad_json" => {}
                Some("ack") if answer["line"].as_u64() >= Some(line) => {
                    return Ok(answer["stream_seq"].as_u64().unwrap_or(0));
                }
                Some("ack") => {}
                _ => return Err(format!("an unexpected answer: {answer}").into()),
            }
        }
    }

    /// Writes lines `from` to `until`, and waits until all their events have been seen.
    fn publish(&mut self, shared: &Shared, publisher: u32, numbers: (u64, u64), offset: u64) -> Outcome<()> {
        let mut text = String::new();
        (numbers.0..=numbers.1).for_each(|n| write_line(publisher, n, &mut text));
        self.stream.write_all(text.as_bytes())?;
        let seq = self.wait_for_ack(numbers.1 + offset)?;
        shared.wait_until_seen(seq)
    }

    /// Writes some lines and a part of the next; the answers are never read.
    fn cut_off(mut self, publisher: u32, from: u64, until: u64, random: &mut Rng) -> Outcome<()> {
        let mut text = String::new();
        (from..=until).for_each(|n| write_line(publisher, n, &mut text));
        let whole = text.len();
        write_line(publisher, until + 1, &mut text);
        let end = whole + random.usize(..text.len() - whole - 1);
        Ok(self.stream.write_all(&text.as_bytes()[..end])?)
    }
}

/// Publishes under one name after another until the run is over, with pauses. Under each name every good line must be
/// taken exactly once.
pub fn run_named(shared: &Shared, mut random: Rng) {
    while !shared.is_over() {
        let publisher = shared.new_publisher();
        match live_under_name(shared, publisher, &mut random) {
            Ok(acknowledged) => {
                shared.promised.lock().push((publisher, last_good(publisher, acknowledged)));
            }
            Err(error) => {
                shared.blame(format!("publisher {publisher}: {error}"));
                return;
            }
        }
    }
}

/// What is known of a named publisher's lines.
#[derive(Default)]
pub struct Lines {
    pub acknowledged: u64,
    pub written: u64,
}

/// Returns the last line that was acknowledged.
fn live_under_name(shared: &Shared, publisher: u32, random: &mut Rng) -> Outcome<u64> {
    let mut lines = Lines::default();
    loop {
        let door = shared.choose(random);
        // It comes now by the socket, now over HTTP.
        let visited = match random.bool() {
            true => poster::visit(shared, &door, publisher, &mut lines, random),
            false => visit(shared, &door.socket, publisher, &mut lines, random),
        };
        match visited {
            Err(error) if !shared.is_gone(&door) => return Err(error),
            _ => {}
        }
        let left = Instant::now();
        thread::sleep(Duration::from_millis(random.u64(..500)));
        if shared.is_over() || left.elapsed() > shared.history_seconds / AWAY_SHARE {
            return Ok(lines.acknowledged);
        }
    }
}

/// Publishes through one connection for a while.
fn visit(shared: &Shared, socket: &Path, publisher: u32, lines: &mut Lines, random: &mut Rng) -> Outcome<()> {
    let mut link = Link::open(shared, socket)?;
    let accepted = link.hello(publisher, true)?;
    if accepted < last_good(publisher, lines.acknowledged) || accepted > lines.written {
        let known = format!("{} lines are acknowledged, {} were written", lines.acknowledged, lines.written);
        shared.blame(format!("publisher {publisher}: the daemon has accepted {accepted}; {known}"));
    }
    // Some accepted lines are sent again.
    let mut next = accepted + 1;
    if random.bool() {
        next = (lines.acknowledged + 1).min(next).saturating_sub(random.u64(..30)).max(1);
        writeln!(link.stream, r#"{{"op":"from","line":{next}}}"#)?;
    }
    let last = next + random.u64(..2_000);
    let is_flood = random.u64(..10) == 0;
    while next <= last && !shared.is_over() {
        let until = last.min(next + random.u64(..CHUNK_LINES_MAX));
        lines.written = lines.written.max(until);
        link.publish(shared, publisher, (next, until), 0)?;
        lines.acknowledged = lines.acknowledged.max(until);
        if !is_flood {
            shared.rest_after(until + 1 - next);
        }
        next = until + 1;
    }
    if !shared.is_over() && random.bool() {
        shared.note_cut_off();
        let until = next + random.u64(..CHUNK_LINES_MAX);
        lines.written = lines.written.max(until);
        link.cut_off(publisher, next, until, random)?;
    }
    Ok(())
}

/// Runs nameless publishers one after another; each is cut off.
pub fn run_nameless(shared: &Shared, mut random: Rng) {
    while !shared.is_over() {
        let publisher = NAMELESS + shared.new_publisher();
        match live_once(shared, publisher, &mut random) {
            Ok(whole) => shared.promised.lock().push((publisher, last_good(publisher, whole))),
            Err(error) => {
                shared.blame(format!("publisher {publisher}: {error}"));
                return;
            }
        }
        thread::sleep(Duration::from_millis(random.u64(..300)));
    }
}

/// Returns the last line that must be taken.
fn live_once(shared: &Shared, publisher: u32, random: &mut Rng) -> Outcome<u64> {
    let door = shared.choose(random);
    let mut acknowledged = 0;
    let published = match random.bool() {
        // What a request that breaks off has brought is not to be known.
        true => {
            poster::publish_once(shared, &door, publisher, &mut acknowledged, random).map(|()| acknowledged)
        }
        false => publish_once(shared, &door.socket, publisher, &mut acknowledged, random),
    };
    match published {
        Err(error) if !shared.is_gone(&door) => Err(error),
        // A daemon that is killed takes along what it has not acknowledged.
        Ok(_) if shared.is_fleet => Ok(acknowledged),
        Err(_) => Ok(acknowledged),
        whole => whole,
    }
}

/// Returns the last line that was written whole.
fn publish_once(
    shared: &Shared,
    socket: &Path,
    publisher: u32,
    acknowledged: &mut u64,
    random: &mut Rng,
) -> Outcome<u64> {
    let mut link = Link::open(shared, socket)?;
    link.hello(publisher, false)?;
    let last = random.u64(..1_000);
    let mut next = 1;
    while next <= last && !shared.is_over() {
        let until = last.min(next + random.u64(..CHUNK_LINES_MAX));
        // The hello was line 1.
        link.publish(shared, publisher, (next, until), 1)?;
        *acknowledged = until;
        shared.rest_after(until + 1 - next);
        next = until + 1;
    }
    let until = next + random.u64(..CHUNK_LINES_MAX);
    shared.note_cut_off();
    link.cut_off(publisher, next, until, random)?;
    Ok(until)
}
