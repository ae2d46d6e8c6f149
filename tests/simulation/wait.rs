//! The feed under `overrun = wait`: many publishers, and events of the daemon's own, as far as the real gate lets them
//! in.

use std::sync::Arc;

use luxcast::config::Overrun;
use luxcast::stream::gate::{Ahead, Gate};
use luxcast::stream::link::Link;
use luxcast::stream::topic::TopicKind;
use serde_json::Value;

use crate::feed::{Feed, State};
use crate::oracle::Taken;
use crate::plan::Plan;
use crate::simulated::others::Others;

pub fn gate(plan: &Plan, links: &[Arc<Link>]) -> Gate {
    let overrun = if plan.is_waiting { Overrun::Wait } else { Overrun::Gap };
    Gate::new(overrun, links.to_vec(), plan.history_bytes)
}

/// The promise to check: what was let in beside all that is needed does not make the history exceed its limit. A
/// watcher that comes meanwhile and needs more voids it.
#[derive(Default)]
pub struct Promise {
    /// The oldest number needed when room was last found, or the first of this turn.
    needed: u64,
    is_void: bool,
    /// Each jump begins a batch, which costs more than a line may. The promise is for numbers without any.
    pub has_jumped: bool,
}

impl Feed {
    /// Voids the promise if a watcher needs what none needed before.
    fn note_needs(&mut self) {
        self.promise.is_void |= self.gate.keep_from() < self.promise.needed;
    }

    fn promise(&mut self) {
        let needed = self.gate.keep_from().min(self.sequencer.published() + 1);
        self.promise = Promise { needed, is_void: false, ..self.promise };
    }

    pub fn is_promise_kept(&mut self) -> bool {
        self.note_needs();
        let is_lost_in_jump = self.plan.is_waiting && self.promise.has_jumped;
        !self.promise.is_void && !is_lost_in_jump
    }

    pub fn begin_reading(&mut self) {
        let held = (self.lines_left > 0).then(|| self.held());
        let is_own_due = self.sequencer.metrics_due_at().is_some_and(|at| at <= self.now.millis);
        let ahead = Ahead { held, is_own_due };
        let Self { gate, sequencer, is_woken, .. } = self;
        if gate.must_wait(sequencer, ahead, self.now.millis, || is_woken.fill(true)) {
            self.trace(|| "    the feed waits".into());
            self.waits += 1;
            return;
        }
        self.promise();
        let publishers = self.rng.between(1, self.plan.lines_per_turn);
        self.state = State::Reading { left: publishers, taken: 0 };
    }

    /// How many bytes are held of the next line.
    fn held(&mut self) -> usize {
        if self.next.is_none() {
            let mut line = self.make_line();
            let length = line.text.len() + 1;
            // What cannot be read at once is held already.
            let least = length.saturating_sub(self.gate.read_bytes());
            line.held = if self.rng.chance(50) { self.rng.between(least, length - 1) } else { least };
            self.next = Some(line);
        }
        self.next.as_ref().map_or(0, |line| line.held)
    }

    /// Reads once from the next of `left` publishers.
    pub fn read(&mut self, left: usize, taken: usize) {
        self.note_needs();
        let has_more = left > 0 && self.lines_left > 0 && taken < self.gate.read_bytes();
        let held = if has_more { self.held() } else { 0 };
        if !has_more || !self.gate.may_read(&self.sequencer, held) {
            self.sequencer.end_turn();
            self.state = State::Stepping;
            return;
        }
        if taken > 0 {
            self.promise();
        }
        if self.rng.chance(3) {
            // A false alarm: there was nothing to read.
            self.gate.note_read(held, 0);
            self.state = State::Reading { left: left - 1, taken };
            return;
        }
        let mut bytes = 0;
        loop {
            let held_of_this = self.held();
            let line = self.next.as_ref().expect("it was just made");
            let more = line.text.len() + 1 - if bytes == 0 { held } else { 0 };
            let is_over = bytes > 0 && (held_of_this > 0 || bytes + more > self.gate.read_bytes());
            if is_over || self.lines_left == 0 {
                break;
            }
            bytes += more;
            self.lines_left -= 1;
            self.sequencer.begin_turn(self.now, more);
            self.take_line();
            if self.rng.chance(30) {
                break;
            }
        }
        self.gate.note_read(held, bytes);
        self.state = State::Reading { left: left - 1, taken: taken + bytes };
    }

    /// After a turn, takes in the daemon's own events, if they are due and there is room for them.
    pub fn take_own(&mut self) {
        let is_due = self.sequencer.metrics_due_at().is_some_and(|at| at <= self.now.millis);
        if !is_due || !self.gate.may_take_own(&self.sequencer) {
            return;
        }
        self.promise();
        self.sequencer.take_metrics(self.now, &mut Vec::new(), self.gate.own_events_max());
        self.sequencer.end_turn();
        self.state = State::Stepping;
    }

    /// Notes the daemon's own events for the oracle. They are in the log of all, and no watcher can see them yet.
    pub fn note_own(&mut self) {
        let mut noted = self.oracle.before();
        if noted >= self.sequencer.seq() {
            return;
        }
        let mut handles = Vec::new();
        {
            let log = self.directory.all.log.lock();
            log.copy(log.index_after(noted), u64::MAX - 1, u128::MAX, usize::MAX, &mut handles);
        }
        for handle in handles {
            let run = handle.run();
            for event in run.first..run.first + run.count {
                if handle.batch.seq(event) > noted {
                    noted += 1;
                    assert_eq!(handle.batch.seq(event), noted);
                    self.take_own_event(noted, handle.batch.object(event));
                }
            }
        }
    }

    fn take_own_event(&mut self, seq: u64, object: &[u8]) {
        self.own += 1;
        let text = std::str::from_utf8(object).expect("it is text");
        self.trace(|| format!("    own event {text}"));
        let value: Value = serde_json::from_str(text).expect("it is JSON");
        let job = self
            .oracle
            .topics
            .iter()
            .position(|record| record.kind == TopicKind::Job && value["job_id"] == *record.name);
        let line = format!("{{{}", &text[format!("{{\"stream_seq\":{seq},").len()..]);
        let taken =
            Taken { seq, line: &line, kind: "metrics", inner: None, job, own_flow: None, data_flow: None };
        let Self { oracle, directory, .. } = self;
        oracle.take(&taken, |record| crate::feed::key_of(directory, record));
    }
}
