//! The daemon's memory: the real sequencer, which follows the stream, moved on by one lock or one store at a time.

use std::sync::Arc;

use luxcast::bus::numbers::LAG_MAX;
use luxcast::net::ingest::follower::Follower;
use luxcast::stream::directory::{Directory, EarlierRuns};
use luxcast::stream::link::Link;
use luxcast::stream::now::Now;
use luxcast::stream::sequencer::{Limits, Sequencer, Step};

use crate::consumer::{Consumer, Told};
use crate::plan::Plan;
use crate::simulated::rng::Rng;
use crate::stream::Stream;

pub const LINE_BYTES_MAX: usize = 4096;
pub const DEPTH_MAX: usize = 8;

pub struct Memory {
    pub directory: Arc<Directory>,
    sequencer: Sequencer,
    follower: Follower,
    consumer: Consumer,
    is_publishing: bool,
    /// All that the stream had was taken.
    has_all: bool,
    /// Shards that were offered a batch while they slept.
    pub is_woken: Vec<bool>,
}

impl Memory {
    /// It begins with message `first`.
    pub fn new(plan: &Plan, first: u64, stream: &Stream, links: Vec<Arc<Link>>) -> Self {
        let run_start = stream.number(first, 0) - 1;
        let earlier = match first > 1 {
            true => EarlierRuns::lost(stream.first_number(), run_start),
            false => EarlierRuns::none(run_start),
        };
        let directory =
            Arc::new(Directory::with_earlier(run_start, EarlierRuns { is_shared: true, ..earlier }, 1000));
        let limits = Limits {
            history_bytes: plan.history_bytes,
            history_millis: plan.history_millis,
            job_idle_millis: 1 << 40,
            metrics_millis: 0,
            jobs_max: 100,
            depth_max: DEPTH_MAX,
        };
        let is_woken = vec![false; links.len()];
        let sequencer = Sequencer::new(directory.clone(), links, limits);
        Self {
            directory,
            sequencer,
            follower: Follower::new(1 << 40, LINE_BYTES_MAX),
            consumer: Consumer::new(first, stream),
            is_publishing: false,
            has_all: false,
            is_woken,
        }
    }

    /// It has all that the stream has, and shows it.
    pub fn is_idle(&self, stream: &Stream) -> bool {
        !self.is_publishing && self.has_all && self.directory.newest_possible() == possible(stream)
    }

    pub fn step(&mut self, stream: &Stream, now: Now, rng: &mut Rng) {
        if self.is_publishing {
            return self.publish();
        }
        if rng.chance(20) {
            self.sequencer.sweep(now);
        }
        for _ in 0..rng.between(1, 6) {
            match self.consumer.next(stream) {
                Some(Told::Message(received)) => {
                    self.follower.take(&received, now, &mut self.sequencer);
                }
                Some(Told::Skip(hole, _)) => self.follower.skip(hole, &mut self.sequencer),
                Some(Told::Complete(_)) | None => {
                    self.has_all = true;
                    self.directory.set_newest_possible(possible(stream));
                    self.directory.note_newest_given(stream.newest());
                    break;
                }
            }
            self.has_all = false;
        }
        self.sequencer.end_turn();
        self.is_publishing = true;
    }

    fn publish(&mut self) {
        match self.sequencer.step() {
            Step::Offered { shard, is_asleep } => self.is_woken[shard] |= is_asleep,
            Step::Done => self.is_publishing = false,
            Step::Appended | Step::Published | Step::Evicted => {}
        }
    }

    /// The daemon has its history back before it listens.
    pub fn catch_up(&mut self, stream: &Stream, now: Now, rng: &mut Rng) {
        while !self.is_idle(stream) {
            self.step(stream, now, rng);
        }
        self.is_woken.fill(false);
    }
}

/// Other daemons may know of an epoch more.
fn possible(stream: &Stream) -> u64 {
    stream.newest() + 2 * LAG_MAX
}
