//! The thread of the past ([`crate::stream::past`]): it makes passes over the shared stream for watchers that ask for more
//! than memory has. Without such watchers it sleeps.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use mio::{Events, Poll};

use crate::bus::numbers::{Epochs, PLACES, Position};
use crate::bus::pace::Pace;
use crate::bus::verdict::Standing;
use crate::metrics::Counters;
use crate::net::bus::handle::{Beginning, BusHandle, Command, Report};
use crate::net::clock::Clock;
use crate::net::ingest::follower::Follower;
use crate::net::ingest::handle::IngestWaker;
use crate::net::shard::handle::ShardHandle;
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

/// Connects to the stream and reads from a message on. The thread that does it ends with the handle.
pub type Connect = Box<dyn Fn(u64, &Arc<IngestWaker>) -> io::Result<BusHandle> + Send>;

/// What shards know of the thread.
#[derive(Clone)]
pub struct PastHandle {
    pub past: Arc<Past>,
    /// Wakes it.
    pub waker: Arc<IngestWaker>,
}

/// What the thread is made of.
pub struct PastParts {
    pub poll: Poll,
    pub handle: PastHandle,
    /// What memory has.
    pub directory: Arc<Directory>,
    pub shards: Vec<ShardHandle>,
    pub counters: Arc<Counters>,
    pub clock: Clock,
    pub connect: Connect,
    pub epochs: Epochs,
    /// `bus_past_bytes`.
    pub window_bytes: usize,
    pub line_bytes_max: usize,
    pub depth_max: usize,
    pub is_stopping: Arc<AtomicBool>,
}

pub struct PastThread {
    parts: PastParts,
    pass: Option<Pass>,
    passes: u64,
    /// Since when somebody waits.
    waiting_since: Option<u64>,
    rest_until: u64,
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

impl PastThread {
    pub fn new(parts: PastParts) -> Self {
        Self { parts, pass: None, passes: 0, waiting_since: None, rest_until: 0 }
    }

    /// Runs until `is_stopping` is set.
    pub fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(8);
        while !self.parts.is_stopping.load(Ordering::Acquire) {
            match self.parts.poll.poll(&mut events, self.timeout()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                result => result?,
            }
            self.turn()?;
        }
        Ok(())
    }

    fn timeout(&self) -> Option<Duration> {
        match &self.pass {
            Some(pass) if !pass.is_standing && !pass.handle.reports.is_empty() => Some(Duration::ZERO),
            Some(_) => Some(LOOK),
            None => self.waiting_since.map(|_| LOOK),
        }
    }

    fn turn(&mut self) -> io::Result<()> {
        let demand = self.parts.handle.past.demand();
        self.parts.counters.bus.past_watchers.set(demand.watchers);
        let moment = self.parts.clock.read().now;
        let now = moment.millis;
        match &mut self.pass {
            Some(pass) => {
                let has_moved = pass.go_on(&self.parts, &demand, moment);
                let is_complete = pass.open.as_ref().is_some_and(|open| open.complete_to > 0);
                let is_over = pass.has_failed || pass.pace.is_over(now, &demand, is_complete);
                if is_over {
                    self.end_pass(now);
                }
                if has_moved || is_over {
                    self.wake_shards();
                }
                Ok(())
            }
            None => self.begin_pass(now, &demand),
        }
    }

    fn wake_shards(&self) {
        let waiting = self.parts.handle.past.shards();
        waiting.into_iter().filter_map(|shard| self.parts.shards.get(shard)).for_each(ShardHandle::wake);
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
        self.passes += 1;
        self.parts.counters.bus.past_passes.add(1);
        tracing::debug!("past: pass {} from number {asked} on, message {message}", self.passes);
        self.pass = Some(Pass {
            id: self.passes,
            began_at: now,
            asked,
            message,
            handle: (self.parts.connect)(message, &self.parts.handle.waker)?,
            pace: Pace::new(self.passes, self.parts.window_bytes),
            open: None,
            is_standing: false,
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
        self.parts.handle.past.set_window(None);
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
    /// Takes what has come, as far as its readers let it. Returns whether they have something new to read.
    fn go_on(&mut self, parts: &PastParts, demand: &Demand, now: Now) -> bool {
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
            open.publish(keep_from, now);
            parts.handle.past.note_move();
        }
        is_any
    }

    /// Returns how many bytes of the stream it was.
    fn take(&mut self, report: Report, now: Now, parts: &PastParts) -> u64 {
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
    fn new(beginning: &Beginning, parts: &PastParts) -> Self {
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
        let mut sequencer = Sequencer::new(directory.clone(), Vec::new(), limits);
        sequencer.is_shared = true;
        Self {
            epochs: epochs.clone(),
            follower: Follower::new(*accounts_millis, parts.line_bytes_max),
            sequencer,
            directory,
            window: None,
            complete_to: 0,
            swept_at: 0,
        }
    }

    /// Lets watchers read it.
    fn show(&mut self, pass: u64, asked: u64, begins: u64, parts: &PastParts) {
        let (directory, complete_to) = (self.directory.clone(), AtomicU64::new(0));
        let is_restart = matches!(self.epochs.position(asked + 1), Position::Lost { .. });
        let window = Arc::new(Window { pass, asked, begins, is_restart, directory, complete_to });
        parts.handle.past.set_window(Some(window.clone()));
        self.window = Some(window);
    }

    fn publish(&mut self, keep_from: u64, now: Now) {
        self.sequencer.keep_from = keep_from;
        self.sequencer.end_turn();
        while self.sequencer.step() != Step::Done {}
        if now.millis >= self.swept_at + SWEEP_MILLIS {
            self.swept_at = now.millis;
            self.sequencer.sweep(now);
        }
        if let Some(window) = &self.window {
            window.complete_to.store(self.complete_to, Ordering::SeqCst);
        }
    }
}
