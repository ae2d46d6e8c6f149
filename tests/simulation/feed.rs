//! The feed: the real sequencer with random lines, moved on by one lock or one store at a time.

use std::sync::Arc;

use luxcast::stream::directory::Directory;
use luxcast::stream::gate::Gate;
use luxcast::stream::history::NEWEST_KEPT;
use luxcast::stream::holes::Hole;
use luxcast::stream::link::Link;
use luxcast::stream::now::Now;
use luxcast::stream::numbers::{BadNumber, SEQ_MIN};
use luxcast::stream::sequencer::{Limits, Sequencer, Step, Taken as TakenLine};
use luxcast::stream::snapshot::{self, Saver};
use luxcast::stream::topic::{Topic, TopicKind};
use luxcast::stream::topic_key::TopicKey;
use luxcast::wire::line::{LineError, PADDING};

use crate::join::Moment;
use crate::oracle::{Oracle, Taken, TopicId, TopicRecord};
use crate::plan::Plan;
use crate::simulated::others::Others;
use crate::simulated::rng::Rng;
use crate::simulated::socket_plan::SocketPlan;
use crate::wait::{Promise, gate};

pub struct Feed {
    pub sequencer: Sequencer,
    pub directory: Arc<Directory>,
    pub oracle: Oracle,
    pub rng: Rng,
    pub plan: Plan,
    /// Shards that were offered a batch while they slept.
    pub is_woken: Vec<bool>,
    /// Lines still to be fed.
    pub lines_left: usize,
    pub is_tracing: bool,
    pub gate: Gate,
    pub promise: Promise,
    pub state: State,
    pub now: Now,
    /// The next line, if it was made already.
    pub next: Option<Line>,
    pub waits: u64,
    pub own: u64,
    new_types: usize,
    /// Kept events could cost more than a quarter of the history.
    pub may_fail_to_keep: bool,
    kept_bytes_max: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum State {
    Idle,
    Taking {
        left: usize,
    },
    /// `left` publishers may still be read from in this turn; `taken` bytes were read.
    Reading {
        left: usize,
        taken: usize,
    },
    Stepping,
}

/// A line, and what it contains.
pub struct Line {
    pub text: String,
    /// Bytes of it that are held already, as a half line.
    pub held: usize,
    kind: String,
    inner: Option<String>,
    job: Option<TopicId>,
    flow: Option<TopicId>,
    in_data: bool,
}

/// The key of the topic that the directory has now for a record.
pub fn key_of(directory: &Directory, record: &TopicRecord) -> TopicKey {
    if record.kind == TopicKind::All {
        return TopicKey::ALL;
    }
    let Ok(topic) = directory.watch(record.kind, &record.name) else {
        return TopicKey { slot: u32::MAX, generation: 0 };
    };
    directory.unwatch(&topic);
    topic.key
}

fn limits(plan: &Plan) -> Limits {
    Limits {
        metrics_millis: plan.metrics_millis,
        history_bytes: plan.history_bytes,
        history_millis: plan.history_millis,
        job_idle_millis: plan.history_millis,
        jobs_max: plan.jobs_max,
        depth_max: 64,
    }
}

impl Others for Feed {
    fn rng(&mut self) -> &mut Rng {
        &mut self.rng
    }

    fn sockets(&self) -> SocketPlan {
        self.plan.sockets
    }

    /// Runs some steps of the sequencer, or none.
    fn interleave(&mut self) {
        while self.rng.chance(self.plan.interleave_percent) {
            self.step();
        }
    }

    fn published(&self) -> u64 {
        self.directory.published()
    }

    fn is_woken(&self, shard: usize) -> bool {
        self.is_woken[shard]
    }

    fn clear_woken(&mut self, shard: usize) {
        self.is_woken[shard] = false;
    }

    fn trace(&self, text: impl FnOnce() -> String) {
        if self.is_tracing {
            eprintln!("{}", text());
        }
    }
}

impl Feed {
    pub fn new(plan: Plan, rng: Rng, links: Vec<Arc<Link>>, directory: Arc<Directory>) -> Self {
        let mut topics = vec![(TopicKind::All, String::new())];
        // Jobs and flows have the same names, and these differ in one byte.
        topics.extend((0..plan.jobs).map(|job| (TopicKind::Job, format!("run-{job}.a"))));
        topics.extend((0..plan.flows).map(|flow| (TopicKind::Flow, format!("run-{flow}.a"))));
        Self {
            is_woken: vec![false; links.len()],
            gate: gate(&plan, &links),
            promise: Promise::default(),
            next: None,
            waits: 0,
            own: 0,
            sequencer: Sequencer::new(directory.clone(), links, limits(&plan)),
            oracle: Oracle::new(directory.run_start, topics),
            directory,
            rng,
            lines_left: plan.lines,
            is_tracing: false,
            state: State::Idle,
            now: Now { millis: 1, unix_micros: SEQ_MIN as i64 },
            new_types: 0,
            may_fail_to_keep: false,
            kept_bytes_max: 0,
            plan,
        }
    }

    /// Ends the turn, saves at most `batches` batches, and continues from what was saved. The numbers of the new run
    /// begin `jump` further on.
    pub fn restart(&mut self, batches: usize, jump: u64, links: Vec<Arc<Link>>) {
        while self.state != State::Idle {
            self.step();
        }
        let lives: Vec<TopicKey> =
            self.oracle.topics.iter().map(|record| key_of(&self.directory, record)).collect();
        let mut saver = Saver::new(&self.sequencer, Vec::new(), self.now);
        let mut bytes = Vec::new();
        let (mut written, mut length) = (0, 0);
        while saver.write_next(&mut bytes, written >= batches) {
            // Kind 3 is a batch.
            written += usize::from(bytes.len() > length && bytes[length] == 3);
            length = bytes.len();
        }
        let restored = snapshot::load(&bytes[..], bytes.len() as u64).expect("it is whole");
        assert!(!restored.damage.is_damaged);
        let run_start = restored.seq() + jump;
        self.trace(|| {
            format!(
                "  restart with {written} batches, {} events not saved, from {run_start}",
                restored.damage.events
            )
        });
        let directory =
            Directory::with_earlier(run_start, restored.earlier_runs(run_start), self.plan.topics_max);
        self.directory = Arc::new(directory);
        self.is_woken = vec![false; links.len()];
        self.gate = gate(&self.plan, &links);
        self.sequencer = Sequencer::new(self.directory.clone(), links, limits(&self.plan));
        self.sequencer.restore(restored, self.now);
        let directory = &self.directory;
        self.oracle
            .resume(false, run_start, directory.missing_to, &lives, |record| key_of(directory, record));
    }

    /// The daemon is killed. The next one knows nothing but where its numbers begin.
    pub fn restart_anew(&mut self, jump: u64, links: Vec<Arc<Link>>) {
        while self.state != State::Idle {
            self.step();
        }
        let run_start = self.sequencer.seq() + jump;
        self.trace(|| format!("  a new run from {run_start}"));
        self.directory = Arc::new(Directory::new(run_start, self.plan.topics_max));
        self.is_woken = vec![false; links.len()];
        self.gate = gate(&self.plan, &links);
        self.sequencer = Sequencer::new(self.directory.clone(), links, limits(&self.plan));
        let lives = vec![TopicKey::NONE; self.oracle.topics.len()];
        let directory = &self.directory;
        self.oracle.resume(true, run_start, 0, &lives, |record| key_of(directory, record));
    }

    pub fn is_idle(&self) -> bool {
        self.state == State::Idle && self.lines_left == 0 && self.sequencer.metrics_due_at().is_none()
    }

    pub fn step(&mut self) {
        match self.state {
            State::Idle if self.is_idle() => {}
            State::Idle => self.begin(),
            State::Taking { left: 0 } => {
                self.disturb();
                self.sequencer.end_turn();
                self.state = State::Stepping;
            }
            State::Taking { left } => {
                self.state = State::Taking { left: left - 1 };
                self.take_line();
            }
            State::Reading { left, taken } => self.read(left, taken),
            State::Stepping => self.publish(),
        }
    }

    fn begin(&mut self) {
        self.now.millis += self.rng.below(self.plan.millis_per_turn + 1) as u64;
        self.now.unix_micros += 1;
        if self.rng.chance(20) {
            self.sequencer.sweep(self.now);
        }
        if self.plan.is_waiting {
            return self.begin_reading();
        }
        let lines = self.rng.between(1, self.plan.lines_per_turn).min(self.lines_left);
        self.lines_left -= lines;
        let bytes = lines * self.rng.below(200);
        self.sequencer.begin_turn(self.now, bytes);
        self.state = State::Taking { left: lines };
    }

    fn publish(&mut self) {
        let step = self.gate.step(&mut self.sequencer);
        if self.is_tracing {
            eprintln!("    step {step:?} published {}", self.published());
        }
        match step {
            Step::Offered { shard, is_asleep } => self.is_woken[shard] |= is_asleep,
            Step::Done => {
                self.state = State::Idle;
                if self.is_promise_kept() {
                    self.check_bound();
                }
                self.take_own();
            }
            Step::Appended => self.note_own(),
            Step::Published | Step::Evicted => {}
        }
    }

    /// Checks that the history costs no more than its limit, except for the newest batches.
    fn check_bound(&self) {
        let history = self.sequencer.history();
        if history.used() <= history.limit() {
            return;
        }
        if self.plan.is_waiting && history.batches() > NEWEST_KEPT {
            // An evicted batch leaves kept events, and may itself stay in the pool: a quarter each. What is still needed
            // stays beside what the turn took in, for which there is another quarter.
            let most = history.limit() + history.limit() * 3 / 4;
            let is_within = history.used() <= most || history.used() <= most + self.logs_cost();
            assert!(is_within, "the history costs {} bytes, {most} are allowed beside logs", history.used());
            return;
        }
        let newest = if history.batches() <= NEWEST_KEPT { self.batches_cost() } else { 0 };
        // Beside live batches: kept events and the pool, a quarter each, and the handles of each run of events.
        let others = history.limit() / 4 + history.limit() / 4 + self.logs_cost();
        assert!(
            history.batches() <= NEWEST_KEPT && history.used() <= newest + others.max(history.limit()),
            "the history costs {} bytes in {} batches, {} are allowed",
            history.used(),
            history.batches(),
            history.limit()
        );
    }

    fn batches_cost(&self) -> usize {
        let mut handles = Vec::new();
        let log = self.directory.all.log.lock();
        log.copy(log.base(), u64::MAX - 1, u128::MAX, usize::MAX, &mut handles);
        handles.iter().map(|handle| handle.batch.cost()).sum()
    }

    fn logs_cost(&self) -> usize {
        let topics = 0..self.oracle.topics.len();
        let logs = topics.filter_map(|topic| self.find(topic)).map(|topic| topic.log.lock().cost());
        logs.sum::<usize>() + self.directory.holes.save().holes.len() * size_of::<Hole>()
    }

    /// Makes the next line.
    pub fn make_line(&mut self) -> Line {
        let Self { rng, plan, oracle, new_types, .. } = self;
        let (kind, inner) = plan.kind(rng, new_types);
        let job = rng.chance(90).then(|| 1 + rng.below(plan.jobs));
        let must_flow = job.is_none();
        let has_flow = plan.flows > 0 && (must_flow || rng.chance(plan.flow_percent));
        let job = if has_flow { job } else { job.or(Some(1)) };
        let flow = has_flow.then(|| 1 + plan.jobs + rng.below(plan.flows));
        let in_data = job.is_some() && rng.chance(30);
        let text = Self::line(rng, plan, oracle, &kind, inner.as_deref(), job, flow, in_data);
        Line { text, held: 0, kind, inner, job, flow, in_data }
    }

    /// Makes the numbers jump, or says that some were lost. Now and then the daemon learns how far others are.
    fn disturb(&mut self) {
        if self.rng.chance(self.plan.ahead_percent) {
            let distance = self.distance();
            self.directory.set_newest_possible(self.published() + distance);
        }
        if !self.rng.chance(self.plan.jump_percent) {
            return;
        }
        self.promise.has_jumped = true;
        let before = self.oracle.before();
        assert_eq!(self.sequencer.begin_at(before), Err(BadNumber));
        let number = before + self.distance();
        assert_eq!(self.sequencer.begin_at(number), Ok(()));
        self.oracle.jump(number);
        if self.rng.chance(self.plan.hole_percent) {
            let to = number - 1 + self.distance();
            self.trace(|| format!("    numbers from {number} to {to} are lost"));
            assert_eq!(self.sequencer.lose_to(to), Ok(()));
            self.oracle.lose(to);
        }
    }

    /// A distance between two numbers, most often a small one.
    fn distance(&mut self) -> u64 {
        let most = 1 << if self.rng.chance(70) { self.rng.below(5) } else { self.rng.below(41) };
        1 + self.rng.below(most) as u64
    }

    pub fn take_line(&mut self) {
        self.disturb();
        let line = self.next.take().unwrap_or_else(|| self.make_line());
        let Line { text: line, kind, inner, job, flow, in_data, .. } = line;
        let mut block = line.clone().into_bytes();
        let length = block.len();
        block.resize(length + PADDING, 0);
        let seq = match self.sequencer.take_line(&mut block, length) {
            Ok(TakenLine::Event(seq)) => seq,
            Ok(TakenLine::Control(_)) => panic!("{line} is no control line"),
            Err(LineError::TooManyJobs | LineError::TooManyTopics) if self.plan.has_churn => {
                self.trace(|| format!("    refused {line}"));
                return;
            }
            Err(error) => panic!("{line} was refused: {error:?}"),
        };
        self.trace(|| format!("    line {seq} {:.120}", line));
        let (own_flow, data_flow) = if in_data { (None, flow) } else { (flow, None) };
        let taken =
            Taken { seq, line: &line, kind: &kind, inner: inner.as_deref(), job, own_flow, data_flow };
        let directory = &self.directory;
        self.oracle.take(&taken, |record| key_of(directory, record));
        self.kept_bytes_max = self.kept_bytes_max.max(line.len() + 700);
        self.may_fail_to_keep = 2 * self.plan.jobs * self.kept_bytes_max > self.plan.history_bytes / 4;
    }

    #[allow(clippy::too_many_arguments)]
    fn line(
        rng: &mut Rng,
        plan: &Plan,
        oracle: &Oracle,
        kind: &str,
        inner: Option<&str>,
        job: Option<TopicId>,
        flow: Option<TopicId>,
        in_data: bool,
    ) -> String {
        let name = |topic: TopicId| &oracle.topics[topic].name;
        let mut line = format!("{{\"type\":\"{kind}\"");
        if let Some(job) = job {
            line += &format!(",\"job_id\":\"{}\"", name(job));
        }
        match flow {
            Some(flow) if in_data => line += &format!(",\"data\":{{\"flow_id\":\"{}\"}}", name(flow)),
            Some(flow) => line += &format!(",\"flow_id\":\"{}\"", name(flow)),
            None => {}
        }
        if let Some(inner) = inner {
            let inner = serde_json::to_string(inner).expect("it is text");
            line += &format!(
                ",\"event\":{{\"event_type\":{inner},\"event_id\":7,\"data\":{{\"slot_name\":\"s\"}}}}"
            );
        }
        let pad = plan.pad(rng);
        if pad > 0 {
            // A CR is a blank of JSON.
            let blank = if rng.chance(30) { "\r" } else { "" };
            line += &format!(",{blank}\"pad\":\"{}\"{blank}", "x".repeat(pad));
        }
        line.push('}');
        line
    }

    pub fn key_of(&self, topic: TopicId) -> TopicKey {
        key_of(&self.directory, &self.oracle.topics[topic])
    }

    /// The state of `topic` while a watcher that was given `newest` looks for its place in it.
    pub fn moment(&self, topic: &Topic, newest: u64) -> Moment {
        let horizon = {
            let all = self.directory.all.log.lock();
            // Nothing is left, or nothing has come yet.
            let beyond = if all.head() > 0 { self.directory.run_start + 1 } else { 0 };
            all.seq_at(all.base()).unwrap_or(beyond)
        };
        let log = topic.log.lock();
        Moment {
            newest,
            newest_possible: self.directory.newest_possible(),
            horizon,
            key: topic.key,
            is_complete: log.job.is_complete,
            first_seq: log.first_seq(),
            kept: log.kept_after(0).map(|handle| handle.batch.first_seq()).collect(),
        }
    }

    /// The topic that the directory has for a name, made if there is none.
    pub fn find(&self, topic: TopicId) -> Option<Arc<Topic>> {
        let record = &self.oracle.topics[topic];
        let found = self.directory.watch(record.kind, &record.name).ok()?;
        self.directory.unwatch(&found);
        Some(found)
    }

    /// Once everything is published, checks that each job keeps its first start and its latest end.
    pub fn check_kept(&self) {
        for topic in 0..self.oracle.topics.len() {
            let record = &self.oracle.topics[topic];
            let Some(life) =
                record.life.filter(|life| record.kind == TopicKind::Job && life.key == self.key_of(topic))
            else {
                continue;
            };
            let Some(found) = self.find(topic) else { continue };
            let moment = self.moment(&found, self.published());
            let mut expected = vec![life.first_started, life.last_terminal];
            expected.retain(|&seq| seq > 0 && seq < moment.horizon);
            expected.sort_unstable();
            let is_right = match self.may_fail_to_keep {
                true => moment.kept.iter().all(|seq| expected.contains(seq)),
                false => moment.kept == expected,
            };
            assert!(is_right, "{}: {:?} are kept, not {expected:?}", record.name, moment.kept);
            assert_eq!(moment.is_complete, life.is_complete, "{}: complete from its start", record.name);
        }
    }
}
