//! One simulated job: each call makes one event, from `job_started` to the job's end.

use std::collections::VecDeque;

use fastrand::Rng;

use super::flows::{Flow, Message, Routine};
use super::moment::Moment;
use super::plan::Plan;
use super::shapes::{self, BreakpointAt, Counts, EventHead, Execution, Failure};

/// What all jobs of an engine share.
pub struct World {
    pub random: Rng,
    pub now: Moment,
    /// Events made so far: the engine's own time.
    pub tick: u64,
    /// Execution events made so far: their ids.
    pub executions: u64,
    /// Probability that a call fails once and is repeated.
    pub repeat_chance: f64,
}

/// The name of the one slot that every routine has.
const SLOT: &str = "input";

/// Waiting calls beyond which the source makes no more records.
const WAITING_MAX: usize = 6;

/// A call that fails this often fails for good.
const ATTEMPTS_MAX: u32 = 3;

/// Events of a job between two of its own metrics events.
const EVENTS_PER_METRICS: u64 = 60;

/// Shortest and longest time that a pause or a breakpoint holds a job, in events of the engine.
const HOLD_TICKS: (u64, u64) = (10, 60);

pub struct Job {
    id: String,
    flow: &'static Flow,
    plan: Plan,
    stage: Stage,
    /// The tick at which it continues.
    held_until: u64,
    started: Moment,
    counts: Counts,
    events_since_metrics: u64,
    source: SourceState,
    waiting: VecDeque<Call>,
    running: Option<Running>,
}

#[derive(Debug, PartialEq)]
enum Stage {
    New,
    Working,
    Paused,
    AtBreakpoint,
    /// Failed in this routine; its last metrics come before that.
    Failing(&'static str, Failure),
    /// Only its last event is left: it finished, or failed in this routine.
    Ending(Option<(&'static str, Failure)>),
    /// This many more events of unfinished work.
    Cancelled(u64),
    Over,
}

/// The routine that makes the records; it works beside the others.
struct SourceState {
    made: u64,
    is_done: bool,
}

struct Call {
    routine: usize,
    message: Message,
    attempt: u32,
}

struct Running {
    call: Call,
    began: Moment,
    emitted: u64,
    next: Step,
}

enum Step {
    Slot,
    BreakOnSlot,
    Work,
    BreakOnEvent(&'static str, Message),
    Complete,
    Fail(Failure),
}

impl Job {
    pub fn new(id: String, flow: &'static Flow, plan: Plan) -> Job {
        Job {
            id,
            flow,
            plan,
            stage: Stage::New,
            held_until: 0,
            started: Moment::from_unix_micros(0),
            counts: Counts::default(),
            events_since_metrics: 0,
            source: SourceState { made: 0, is_done: false },
            waiting: VecDeque::new(),
            running: None,
        }
    }

    /// Before this tick it waits to be resumed.
    pub fn held_until(&self) -> u64 {
        self.held_until
    }

    pub fn is_over(&self) -> bool {
        self.stage == Stage::Over
    }

    /// Appends its next event. Must not be called once the job is over.
    pub fn next(&mut self, world: &mut World, out: &mut String) {
        let stage = std::mem::replace(&mut self.stage, Stage::Working);
        match stage {
            Stage::New => self.start(world, out),
            Stage::Working => self.work(world, out),
            Stage::Paused => {
                self.count_event();
                shapes::job_resumed(out, self.head(world));
            }
            Stage::AtBreakpoint => self.resume_from_breakpoint(world, out),
            Stage::Failing(routine, failure) => {
                self.report(Some(world.now), world, out);
                self.stage = Stage::Ending(Some((routine, failure)));
            }
            Stage::Ending(failure) => self.end(failure.as_ref(), world, out),
            Stage::Cancelled(left) => {
                let has_more = self.call_routines(world, out);
                assert!(has_more, "a cancelled job without unfinished work is over");
                self.wind_down(left - 1);
            }
            Stage::Over => unreachable!("a job that is over makes no events"),
        }
    }

    fn start(&mut self, world: &World, out: &mut String) {
        self.started = world.now;
        self.count_event();
        let Plan { label, records, .. } = &self.plan;
        let params = self.flow.source.params(label, *records);
        shapes::job_started(out, self.head(world), self.flow.id, self.entry().id, &params);
    }

    /// One event of a job that is neither held nor at its end.
    fn work(&mut self, world: &mut World, out: &mut String) {
        if self.plan.pauses_at.is_some_and(|events| events <= self.counts.events) {
            return self.pause(world, out);
        }
        if self.plan.cancelled_at.is_some_and(|events| events <= self.counts.events) {
            return self.cancel(world, out);
        }
        if self.events_since_metrics >= EVENTS_PER_METRICS {
            return self.report(None, world, out);
        }
        let has_calls = self.running.is_some() || !self.waiting.is_empty();
        let source_may_go = !self.source.is_done && self.waiting.len() < WAITING_MAX;
        if source_may_go && (!has_calls || (world.random.f64() < 0.3)) {
            return self.make_record(world, out);
        }
        if !self.call_routines(world, out) {
            self.report(Some(world.now), world, out);
            self.stage = Stage::Ending(None);
        }
    }

    fn pause(&mut self, world: &mut World, out: &mut String) {
        self.plan.pauses_at = self.plan.is_endless.then(|| self.counts.events + 400);
        self.count_event();
        shapes::job_paused(out, self.head(world));
        self.hold(Stage::Paused, world);
    }

    /// Unfinished work still makes events when a job is cancelled, but only a few.
    fn cancel(&mut self, world: &mut World, out: &mut String) {
        self.count_event();
        shapes::job_cancelled(out, self.head(world));
        self.source.is_done = true;
        // It stops no more: nobody would resume it.
        self.plan.breakpoint = None;
        if let Some(running) = &mut self.running {
            running.next = match std::mem::replace(&mut running.next, Step::Complete) {
                Step::BreakOnSlot => Step::Work,
                Step::BreakOnEvent(..) => Step::Complete,
                next => next,
            };
        }
        let left = world.random.u64(..5);
        self.wind_down(left);
    }

    fn wind_down(&mut self, left: u64) {
        let has_work = self.running.is_some() || !self.waiting.is_empty();
        self.stage = if left > 0 && has_work { Stage::Cancelled(left) } else { Stage::Over };
    }

    fn end(&mut self, failure: Option<&(&str, Failure)>, world: &World, out: &mut String) {
        self.count_event();
        let (head, flow) = (self.head(world), self.flow.id);
        match failure {
            Some((routine, failure)) => shapes::job_failed(out, head, flow, routine, failure),
            None => {
                let duration = world.now.seconds_since(self.started);
                shapes::job_completed(out, head, flow, duration, self.counts.events);
            }
        }
        self.stage = Stage::Over;
    }

    fn report(&mut self, end: Option<Moment>, world: &World, out: &mut String) {
        self.events_since_metrics = 0;
        shapes::metrics(out, self.head(world), self.started, end, self.counts);
    }

    fn make_record(&mut self, world: &mut World, out: &mut String) {
        let entry = self.entry();
        if self.source.made == self.plan.records {
            self.source.is_done = true;
            self.count_event();
            let duration = world.now.seconds_since(self.started);
            let made = self.source.made;
            return shapes::routine_completed(out, self.head(world), entry.id, duration, made);
        }
        let (source, record) = (self.flow.source, self.source.made);
        let message = source.make(&self.plan.label, record, entry.class, world.now);
        self.source.made += 1;
        self.emit(entry, "output", &message, world, out);
    }

    /// One event of the routines after the source; returns false, without an event, if nothing is left to do.
    fn call_routines(&mut self, world: &mut World, out: &mut String) -> bool {
        let Some(mut running) = self.running.take() else {
            let Some(call) = self.waiting.pop_front() else {
                return false;
            };
            self.count_event();
            let routine = &self.flow.routines[call.routine];
            let data = &call.message.json;
            shapes::routine_started(out, self.head(world), routine.id, SLOT, data);
            self.running = Some(Running { call, began: world.now, emitted: 0, next: Step::Slot });
            return true;
        };
        match std::mem::replace(&mut running.next, Step::Complete) {
            Step::Slot => self.call_slot(running, world, out),
            Step::BreakOnSlot => {
                let variables = running.call.message.json.clone();
                running.next = Step::Work;
                self.hit_breakpoint(running, None, &variables, world, out);
            }
            Step::Work => self.perform(running, world, out),
            Step::BreakOnEvent(event, message) => {
                self.hit_breakpoint(running, Some(event), &message.json, world, out);
            }
            Step::Complete => self.complete(&running, world, out),
            Step::Fail(failure) => self.fail(running.call, failure, world, out),
        }
        true
    }

    fn call_slot(&mut self, mut running: Running, world: &mut World, out: &mut String) {
        let routine = &self.flow.routines[running.call.routine];
        self.count_event();
        self.counts.slot_calls += 1;
        let execution = self.execution(routine, world);
        shapes::slot_call(out, &execution, SLOT, &running.call.message.json);
        let stops = self.stops_at(running.call.routine, true, &mut world.random);
        running.next = if stops { Step::BreakOnSlot } else { Step::Work };
        self.running = Some(running);
    }

    /// Lets the routine work: it fails, emits, or finishes without an event of its own.
    fn perform(&mut self, mut running: Running, world: &mut World, out: &mut String) {
        let call = &running.call;
        let routine = &self.flow.routines[call.routine];
        if self.goes_wrong(call, world) {
            let failure = failure_of(routine, &call.message, &mut world.random);
            self.count_event();
            shapes::error(out, &self.execution(routine, world), &failure);
            running.next = Step::Fail(failure);
            self.running = Some(running);
            return;
        }
        let Some((event, message)) = routine.work.perform(&call.message, routine.class, world.now) else {
            return self.complete(&running, world, out);
        };
        running.emitted += 1;
        self.emit(routine, event, &message, world, out);
        if self.stops_at(running.call.routine, false, &mut world.random) {
            running.next = Step::BreakOnEvent(event, message);
        }
        self.running = Some(running);
    }

    fn emit(
        &mut self,
        routine: &Routine,
        event: &str,
        message: &Message,
        world: &mut World,
        out: &mut String,
    ) {
        self.count_event();
        self.counts.event_emits += 1;
        shapes::event_emit(out, &self.execution(routine, world), event, &message.json);
        // Nothing listens to the event for a bad record.
        if event != "invalid" {
            let call = |target: &usize| Call { routine: *target, message: message.clone(), attempt: 0 };
            self.waiting.extend(routine.targets.iter().map(call));
        }
    }

    fn complete(&mut self, running: &Running, world: &World, out: &mut String) {
        let routine = &self.flow.routines[running.call.routine];
        self.count_event();
        let duration = world.now.seconds_since(running.began);
        shapes::routine_completed(out, self.head(world), routine.id, duration, running.emitted);
    }

    /// Repeats a failed call before anything else; after the last attempt the job has failed.
    fn fail(&mut self, mut call: Call, failure: Failure, world: &World, out: &mut String) {
        let routine = &self.flow.routines[call.routine];
        self.count_event();
        shapes::routine_failed(out, self.head(world), routine.id, SLOT, &failure);
        call.attempt += 1;
        if call.attempt < ATTEMPTS_MAX {
            self.waiting.push_front(call);
        } else {
            self.stage = Stage::Failing(routine.id, failure);
        }
    }

    fn goes_wrong(&self, call: &Call, world: &mut World) -> bool {
        // A bad record breaks the first routine after the source.
        let is_fatal = self.plan.fails_at_record == Some(call.message.record) && call.routine == 1;
        is_fatal || (call.attempt == 0 && (world.random.f64() < world.repeat_chance))
    }

    fn stops_at(&mut self, routine: usize, on_slot: bool, random: &mut Rng) -> bool {
        let Some(breakpoint) = &mut self.plan.breakpoint else {
            return false;
        };
        let is_here = breakpoint.routine == routine && breakpoint.is_on_slot == on_slot;
        if !is_here || breakpoint.hits_left == 0 || random.f64() >= 0.2 {
            return false;
        }
        breakpoint.hits_left -= 1;
        true
    }

    /// Without an event, it stopped at the slot.
    fn hit_breakpoint(
        &mut self,
        running: Running,
        event: Option<&str>,
        variables: &str,
        world: &mut World,
        out: &mut String,
    ) {
        let breakpoint = self.plan.breakpoint.as_ref().expect("it stopped at one");
        let at = BreakpointAt {
            breakpoint_id: &breakpoint.id,
            routine_id: self.flow.routines[breakpoint.routine].id,
            slot_name: event.is_none().then_some(SLOT),
            event_name: event,
        };
        shapes::breakpoint_hit(out, self.head(world), &at, variables);
        self.count_event();
        self.running = Some(running);
        self.hold(Stage::AtBreakpoint, world);
    }

    fn resume_from_breakpoint(&mut self, world: &mut World, out: &mut String) {
        let breakpoint = self.plan.breakpoint.as_ref().expect("it stopped at one");
        let step_mode = ["over", "into", "continue"][world.random.usize(..3)];
        shapes::breakpoint_resumed(out, self.head(world), &breakpoint.id, step_mode);
        self.count_event();
    }

    fn hold(&mut self, stage: Stage, world: &mut World) {
        let (least, most) = HOLD_TICKS;
        self.stage = stage;
        self.held_until = world.tick + least + world.random.u64(..most - least);
    }

    fn entry(&self) -> &'static Routine {
        &self.flow.routines[0]
    }

    fn head(&self, world: &World) -> EventHead<'_> {
        EventHead { job_id: &self.id, now: world.now }
    }

    fn execution(&self, routine: &Routine, world: &mut World) -> Execution<'_> {
        world.executions += 1;
        Execution { head: self.head(world), number: world.executions, routine_id: routine.id }
    }

    /// Metrics do not count `metrics` events.
    fn count_event(&mut self) {
        self.counts.events += 1;
        self.events_since_metrics += 1;
    }
}

fn failure_of(routine: &Routine, message: &Message, random: &mut Rng) -> Failure {
    let (error_type, message) = match random.usize(..3) {
        0 => ("ValueError", format!("Invalid data format: index {}", message.index)),
        1 => {
            let class = routine.class;
            let missing = "missing 1 required positional argument: 'data'";
            ("TypeError", format!("{class}.process() {missing}"))
        }
        _ => ("RuntimeError", format!("{} gave up on record {}", routine.class, message.index)),
    };
    Failure { error_type, message }
}
