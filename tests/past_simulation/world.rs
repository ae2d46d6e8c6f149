//! Everything but the shards: the stream, memory, the thread of the past, and who is to do something next.

use std::sync::atomic::Ordering;

use luxcast::bus::numbers::LAG_MAX;
use luxcast::stream::now::Now;
use luxcast::stream::numbers::SEQ_MIN;

use crate::client::Sight;
use crate::memory::Memory;
use crate::plan::Plan;
use crate::simulated::others::Others;
use crate::simulated::rng::Rng;
use crate::simulated::socket_plan::SocketPlan;
use crate::stream::Stream;
use crate::thread::PastThread;

pub struct World {
    pub plan: Plan,
    pub rng: Rng,
    pub stream: Stream,
    pub memory: Memory,
    pub thread: PastThread,
    pub now: Now,
    /// Messages still to be published.
    left: usize,
    /// Shards that have not looked since another window came or went.
    has_to_look: Vec<bool>,
    pub is_tracing: bool,
}

impl Others for World {
    fn rng(&mut self) -> &mut Rng {
        &mut self.rng
    }

    fn sockets(&self) -> SocketPlan {
        self.plan.sockets
    }

    fn interleave(&mut self) {
        while self.rng.chance(self.plan.interleave_percent) {
            self.step();
        }
    }

    fn published(&self) -> u64 {
        self.memory.directory.published()
    }

    fn is_woken(&self, shard: usize) -> bool {
        self.memory.is_woken[shard] || self.thread.woken_shards[shard].load(Ordering::Relaxed)
    }

    fn clear_woken(&mut self, shard: usize) {
        self.memory.is_woken[shard] = false;
        self.thread.woken_shards[shard].store(false, Ordering::Relaxed);
    }

    fn trace(&self, text: impl FnOnce() -> String) {
        if self.is_tracing {
            eprintln!("{}", text());
        }
    }
}

impl World {
    pub fn new(plan: Plan, rng: Rng, stream: Stream, memory: Memory) -> Self {
        Self {
            thread: PastThread::new(&plan, &stream, memory.directory.clone()),
            rng,
            stream,
            memory,
            now: Now { millis: 1_000, unix_micros: SEQ_MIN as i64 },
            left: plan.messages,
            has_to_look: vec![false; plan.shards],
            is_tracing: false,
            plan,
        }
    }

    pub fn sight(&self) -> Sight<'_> {
        let (stream, published) = (&self.stream, self.published());
        Sight { stream, published, replay_from: self.thread.replay_from }
    }

    pub fn step(&mut self) {
        match self.rng.below(10) {
            0..3 if self.rng.chance(self.plan.memory_rest_percent) => {}
            0..3 => self.remember(),
            3 => self.publish(),
            4..7 => self.turn_past(),
            _ => self.thread.serve(&self.stream, &self.plan, &mut self.rng),
        }
    }

    pub fn remember(&mut self) {
        if !self.memory.is_idle(&self.stream) {
            self.memory.step(&self.stream, self.now, &mut self.rng);
        }
    }

    fn publish(&mut self) {
        if self.left > 0 {
            self.left -= 1;
            self.stream.publish(&self.plan, &mut self.rng);
            self.trace(|| format!("    message {} is published", self.stream.last()));
        }
    }

    fn turn_past(&mut self) {
        if self.thread.step(self.now) {
            self.has_to_look.fill(true);
            self.trace(|| match self.thread.past.window() {
                Some(window) => {
                    let (pass, asked, begins) = (window.pass, window.asked, window.begins);
                    format!("    pass {pass} is shown: asked {asked}, begins {begins}")
                }
                None => "    the pass is over".to_owned(),
            });
        }
    }

    /// A shard looks at what there is to read.
    pub fn note_look(&mut self, shard: usize) {
        self.has_to_look[shard] = false;
    }

    pub fn check_windows(&mut self) {
        if !self.has_to_look.contains(&true) {
            self.thread.check_windows();
        }
    }

    /// Retention, operators and time.
    pub fn pass_time(&mut self) {
        self.now.millis += self.rng.below(self.plan.millis_max) as u64;
        if self.rng.chance(self.plan.retention_percent) {
            let count = self.rng.between(1, 8) as u64;
            self.stream.drop_oldest(count);
            self.trace(|| format!("  the stream begins with message {}", self.stream.first));
        }
        // Whoever asks for a number of this epoch is believed, but not if the daemon does not know of the one before.
        let next = self.stream.number(self.stream.last() + 1, 0);
        let is_known = self.memory.directory.newest_possible() > next + LAG_MAX;
        if is_known && self.rng.chance(self.plan.epoch_percent) {
            let lost = self.rng.below(5) as u64;
            self.stream.begin_epoch(lost);
            self.trace(|| format!("  a new epoch begins behind message {}", self.stream.last()));
        }
    }

    /// No more messages come, and nothing fails any more.
    pub fn calm_down(&mut self) {
        // Until a new epoch has a message, watchers may stand where the one before ends.
        self.left = 1;
        self.publish();
        self.plan.fail_percent = 0;
        self.plan.sockets.interrupted_percent = 0;
    }

    /// What may be of interest if it goes on for ever.
    pub fn state(&self) -> String {
        let window = self.thread.past.window();
        let window = window.map(|window| (window.pass, window.covered_from(), window.tail()));
        let memory =
            (self.memory.directory.whole_from(), self.published(), self.memory.is_idle(&self.stream));
        format!("demand {:?}, window {window:?}, memory {memory:?}", self.thread.past.demand())
    }

    /// Nothing but time makes it go on.
    pub fn is_idle(&self) -> bool {
        self.memory.is_idle(&self.stream) && !self.thread.is_runnable(self.now.millis)
    }
}
