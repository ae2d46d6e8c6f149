//! Passes over the shared stream ([`crate::stream::past`]), for watchers that ask for more than memory has. Without such
//! watchers there is none.
//!
//! [`crate::net::past`] runs them in a thread. All that other threads can see happens in [`Passes::begin_turn`] and
//! [`Passes::step`], so that a test can put other threads' work between any two steps.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::bus::numbers::{Epochs, PLACES, Position};
use crate::bus::pace::Pace;
use crate::bus::verdict::Standing;
use crate::metrics::Counters;
use crate::net::bus::handle::{Beginning, BusHandle, Command, Report};
use crate::net::ingest::follower::Follower;
use crate::stream::directory::Directory;
use crate::stream::link::NOTHING_NEEDED;
use crate::stream::now::Now;
use crate::stream::past::{Demand, Past, Window};
use crate::stream::sequencer::{Limits, Sequencer, Step};

/// While there is something to do: between two looks, if nothing comes.
const LOOK: Duration = Duration::from_millis(20);
/// Those who come back at the same moment share a pass.
const GATHER_MILLIS: u64 = 100;
/// Between two passes it rests for as long as the one before took, within these bounds: nobody who asks again and again
/// makes it run all the time.
const REST_MILLIS: (u64, u64) = (500, 5_000);
/// Bytes of messages that are taken in one turn, and one part in this many of the memory of a pass.
const TURN_BYTES: usize = 1 << 20;
const TURN_SHARE: usize = 8;
/// What a byte of the stream may cost there, unless lines are very short.
const COST_PER_BYTE: usize = 2;
/// A job or flow of a pass takes less than this.
const TOPIC_BYTES: usize = 512;
/// More of them than two turns bring, so that none is forgotten before its watchers have looked.
const TOPICS_MIN: usize = 1 << 16;
/// Jobs that have ended and flows without jobs are forgotten after so long.
const FORGET_MILLIS: u64 = 10_000;
/// A job that is silent is not lost in the past.
const IDLE_MILLIS: u64 = 1 << 40;
const SWEEP_MILLIS: u64 = 1_000;

/// Connects to the stream and reads from a message on. What does it ends with the handle.
pub type Connect = Box<dyn Fn(u64) -> io::Result<BusHandle> + Send>;

/// What passes are made of.
pub struct PassParts {
    /// What shards read, and what they ask for.
    pub past: Arc<Past>,
    /// What memory has.
    pub directory: Arc<Directory>,
    pub counters: Arc<Counters>,
    pub connect: Connect,
    pub wake_shard: Box<dyn Fn(usize) + Send>,
    pub epochs: Epochs,
    /// `bus_past_bytes`.
    pub window_bytes: usize,
    pub line_bytes_max: usize,
    pub depth_max: usize,
}

pub struct Passes {
    parts: PassParts,
    pass: Option<Pass>,
    count: u64,
    turn: Option<Turn>,
    /// Since when somebody waits.
    waiting_since: Option<u64>,
    rest_until: u64,
}

/// A turn that is not over.
struct Turn {
    now: Now,
    demand: Demand,
    /// Something came, which is to be published.
    is_any: bool,
}

/// One pass over the stream.
struct Pass {
    id: u64,
    began_at: u64,
    /// For watchers behind this number; the message that the next one is in.
    asked: u64,
    message: u64,
    handle: BusHandle,
    pace: Pace,
    /// Once the stream is found.
    open: Option<Open>,
    /// It stands still until its readers have come further.
    is_standing: bool,
    /// It is ahead of memory, which had come to this number: beyond that, nobody is shown anything.
    ahead_of: Option<u64>,
    /// It cannot go on.
    has_failed: bool,
    /// The stream's numbers, where they are not those that the pass began with.
    other_epochs: Option<Epochs>,
}

/// What a pass has read.
struct Open {
    epochs: Epochs,
    follower: Follower,
    sequencer: Sequencer,
    directory: Arc<Directory>,
    /// From the first message on that has something for watchers.
    window: Option<Arc<Window>>,
    /// All that the stream has up to this number was taken.
    complete_to: u64,
    swept_at: u64,
}

impl Passes {
    pub fn new(parts: PassParts) -> Self {
        Self { parts, pass: None, count: 0, turn: None, waiting_since: None, rest_until: 0 }
    }

    /// How long until the next turn, if nothing comes before. None: it is wanted only when something comes.
    pub fn until_look(&self) -> Option<Duration> {
        match &self.pass {
            Some(pass) if !pass.is_standing && !pass.handle.reports.is_empty() => Some(Duration::ZERO),
            Some(_) => Some(LOOK),
            None => self.waiting_since.map(|_| LOOK),
        }
    }

    /// Begins a turn: takes what has come, or begins a pass. [`Passes::step`] does the rest of it.
    ///
    /// # Errors
    /// There is no thread to be had for a pass.
    pub fn begin_turn(&mut self, now: Now) -> io::Result<()> {
        let demand = self.parts.past.demand();
        self.parts.counters.bus.past_watchers.set(demand.watchers);
        let Some(pass) = &mut self.pass else { return self.begin_pass(now.millis, &demand) };
        let is_any = pass.go_on(&self.parts, &demand, now);
        self.turn = Some(Turn { now, demand, is_any });
        Ok(())
    }

    /// Takes the next step of the turn: one lock or one store of the sequencer. False: the turn is over.
    pub fn step(&mut self) -> bool {
        let (Some(turn), Some(pass)) = (&self.turn, &mut self.pass) else { return false };
        if turn.is_any
            && let Some(open) = &mut pass.open
            && open.sequencer.step() != Step::Done
        {
            return true;
        }
        self.end_turn();
        false
    }

    fn end_turn(&mut self) {
        let (Some(turn), Some(pass)) = (self.turn.take(), &mut self.pass) else { return };
        let Turn { now, demand, is_any } = turn;
        if let Some(open) = &mut pass.open
            && is_any
        {
            open.finish(now);
            self.parts.past.note_move();
        }
        let newest = self.parts.directory.published();
        let is_shown_more = pass.ahead_of.is_some_and(|before| before < newest);
        let window = pass.open.as_ref().and_then(|open| open.window.as_ref());
        pass.ahead_of = window.is_some_and(|window| window.tail() > newest).then_some(newest);
        let is_complete = pass.open.as_ref().is_some_and(|open| open.complete_to > 0);
        let is_over = pass.has_failed || pass.pace.is_over(now.millis, &demand, is_complete);
        if is_over {
            self.end_pass(now.millis);
        }
        if is_any || is_over || is_shown_more {
            self.parts.past.shards().into_iter().for_each(&self.parts.wake_shard);
        }
    }

    /// Begins a pass for those who wait, if it is time.
    fn begin_pass(&mut self, now: u64, demand: &Demand) -> io::Result<()> {
        let Some(asked) = demand.waiting else {
            self.waiting_since = None;
            return Ok(());
        };
        let since = *self.waiting_since.get_or_insert(now);
        if now < self.rest_until.max(since + GATHER_MILLIS) {
            return Ok(());
        }
        let message = message_behind(&self.parts.epochs, asked);
        self.count += 1;
        self.parts.counters.bus.past_passes.add(1);
        tracing::debug!("past: pass {} from number {asked} on, message {message}", self.count);
        self.pass = Some(Pass {
            id: self.count,
            began_at: now,
            asked,
            message,
            handle: (self.parts.connect)(message)?,
            pace: Pace::new(self.count, self.parts.window_bytes),
            open: None,
            is_standing: false,
            ahead_of: None,
            has_failed: false,
            other_epochs: None,
        });
        Ok(())
    }

    fn end_pass(&mut self, now: u64) {
        let pass = self.pass.take().expect("there is one");
        tracing::debug!("past: pass {} has ended", pass.id);
        let (least, most) = REST_MILLIS;
        let rest = if pass.has_failed { most } else { (now - pass.began_at).clamp(least, most) };
        self.rest_until = now + rest;
        if let Some(epochs) = pass.other_epochs {
            self.parts.epochs = epochs;
            self.rest_until = now;
        }
        self.waiting_since = Some(now);
        self.parts.past.set_window(None);
    }
}

/// The message that the first number behind this one is in, or would be.
fn message_behind(epochs: &Epochs, number: u64) -> u64 {
    match epochs.position(number + 1) {
        Position::Before => 1,
        Position::At { message, .. } => message,
        Position::Lost { next } => next,
    }
}

impl Pass {
    /// Takes what has come, as far as its readers let it. Returns whether there was something.
    fn go_on(&mut self, parts: &PassParts, demand: &Demand, now: Now) -> bool {
        let turn_bytes = TURN_BYTES.min(parts.window_bytes / TURN_SHARE);
        let mut keep_from = NOTHING_NEEDED;
        if let Some(open) = &self.open {
            let would_drop = |needed| open.sequencer.would_drop(needed, turn_bytes * COST_PER_BYTE);
            let may_go_on = self.pace.keep_from(now.millis, demand, would_drop);
            self.is_standing = may_go_on.is_none();
            let Some(needed) = may_go_on else { return false };
            keep_from = needed;
        }
        let (mut bytes, mut is_any) = (0, false);
        while bytes < turn_bytes as u64 && !self.has_failed {
            match self.handle.reports.try_recv() {
                Ok(report) => bytes += self.take(report, now, parts),
                Err(error) => {
                    self.has_failed = error.is_disconnected();
                    break;
                }
            }
            is_any = true;
        }
        self.pace.note_taken(bytes as usize);
        parts.counters.bus.past_bytes.add(bytes);
        if let Some(open) = &mut self.open
            && is_any
        {
            open.begin_publishing(keep_from);
        }
        is_any
    }

    /// Returns how many bytes of the stream it was.
    fn take(&mut self, report: Report, now: Now, parts: &PassParts) -> u64 {
        match (report, &mut self.open) {
            (Report::Begun(beginning), _) => {
                if message_behind(&beginning.epochs, self.asked) != self.message {
                    self.other_epochs = Some(beginning.epochs.clone());
                    self.has_failed = true;
                }
                self.open = Some(Open::new(&beginning, parts));
            }
            (Report::Message(received), Some(open)) => {
                if !received.is_folded && open.window.is_none() {
                    // Else that message is gone, or its numbers are others now.
                    let is_asked = received.message <= self.message && open.directory.run_start <= self.asked;
                    let begins = if is_asked { self.asked } else { received.first - 1 };
                    open.show(self.id, self.asked, begins, parts);
                }
                open.follower.take(&received, now, &mut open.sequencer);
                self.handle.send(Command::Release(received.bytes));
                return received.bytes;
            }
            (Report::Skip { hole, .. }, Some(open)) => open.follower.skip(hole, &mut open.sequencer),
            (Report::Complete { last, .. }, Some(open)) => {
                let complete_to = open.epochs.number(last, PLACES - 1).unwrap_or(0);
                if open.window.is_none() {
                    // There is nothing behind the place that was asked for.
                    let begins = complete_to.max(self.asked).max(parts.directory.whole_from());
                    open.show(self.id, self.asked, begins, parts);
                }
                open.complete_to = complete_to;
            }
            (Report::Standing(Standing::Stopped(why)), _) => {
                tracing::warn!("past: a pass over the stream ends early: {why}");
                self.has_failed = true;
            }
            (Report::Unfit(why), _) => {
                tracing::warn!("past: the stream cannot be read: {why}");
                self.has_failed = true;
            }
            (Report::Trouble(words), _) => tracing::debug!("past: {words}"),
            _ => {}
        }
        0
    }
}

impl Open {
    fn new(beginning: &Beginning, parts: &PassParts) -> Self {
        let Beginning { epochs, passed_from, accounts_millis, .. } = beginning;
        let first = epochs.number(*passed_from, 0).expect("a stream's numbers are in range");
        // Each topic in it has at least one of its watchers or events.
        let directory = Arc::new(parts.directory.beside(first - 1, usize::MAX));
        let limits = Limits {
            history_bytes: parts.window_bytes,
            history_millis: FORGET_MILLIS,
            job_idle_millis: IDLE_MILLIS,
            metrics_millis: 0,
            jobs_max: (parts.window_bytes / TOPIC_BYTES).max(TOPICS_MIN),
            depth_max: parts.depth_max,
        };
        let sequencer = Sequencer::new(directory.clone(), Vec::new(), limits);
        Self {
            epochs: epochs.clone(),
            follower: Follower::of_pass(*accounts_millis, parts.line_bytes_max),
            sequencer,
            directory,
            window: None,
            complete_to: 0,
            swept_at: 0,
        }
    }

    /// Lets watchers read it.
    fn show(&mut self, pass: u64, asked: u64, begins: u64, parts: &PassParts) {
        let (directory, complete_to) = (self.directory.clone(), AtomicU64::new(0));
        let is_restart = matches!(self.epochs.position(asked + 1), Position::Lost { .. });
        let window = Arc::new(Window { pass, asked, begins, is_restart, directory, complete_to });
        parts.past.set_window(Some(window.clone()));
        self.window = Some(window);
    }

    fn begin_publishing(&mut self, keep_from: u64) {
        self.sequencer.keep_from = keep_from;
        self.sequencer.end_turn();
    }

    /// All that was taken is published.
    fn finish(&mut self, now: Now) {
        if now.millis >= self.swept_at + SWEEP_MILLIS {
            self.swept_at = now.millis;
            self.sequencer.sweep(now);
        }
        if let Some(window) = &self.window {
            window.complete_to.store(self.complete_to, Ordering::SeqCst);
        }
    }
}
