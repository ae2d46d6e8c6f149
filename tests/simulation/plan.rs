//! The kind of schedule that a seed makes: how many of everything, how large, how often.

use crate::simulated::rng::Rng;
use crate::simulated::socket_plan::SocketPlan;

#[derive(Clone, Debug)]
pub struct Plan {
    pub shards: usize,
    /// Batches that a shard's channel holds.
    pub channel: usize,
    pub history_bytes: usize,
    pub jobs: usize,
    pub flows: usize,
    pub lines: usize,
    pub lines_per_turn: usize,
    pub operations: usize,
    pub watchers_max: usize,
    /// Chance of one more sequencer step, wherever one can come between.
    pub interleave_percent: usize,
    pub flow_percent: usize,
    pub new_type_percent: usize,
    /// The table of types is full from the start.
    pub is_overflowing: bool,
    /// Topics may be dropped.
    pub has_churn: bool,
    pub jobs_max: usize,
    pub topics_max: usize,
    pub history_millis: u64,
    pub millis_per_turn: usize,
    pub pad_max: usize,
    pub pad_percent: usize,
    /// Bytes of a line, at most: an eighth of the history.
    pub line_bytes_max: usize,
    pub sockets: SocketPlan,
    pub filter_percent: usize,
    pub many_percent: usize,
    /// Watchers whose stream is an HTTP answer.
    pub http_percent: usize,
    /// Of the other watchers, those that compression was agreed on with.
    pub compressed_percent: usize,
    /// Number of watchers of one topic that join at the start.
    pub crowd: usize,
    /// Steps of the sequencer in one operation, at most.
    pub steps_max: usize,
    /// Chance that the daemon is restarted instead of any other operation.
    pub restart_percent: usize,
    /// `overrun = wait`, with many publishers; and events of the daemon's own.
    pub is_waiting: bool,
    pub metrics_millis: u64,
    /// Chance that a watcher is known to read.
    pub reader_percent: usize,
    /// Chance that the next number is not the last one plus 1, and then that the numbers between are a hole.
    pub jump_percent: usize,
    pub hole_percent: usize,
    /// Chance that numbers beyond the newest become possible: watchers may come from other daemons.
    pub ahead_percent: usize,
}

impl Plan {
    pub fn new(rng: &mut Rng) -> Self {
        let size = *rng.pick(&[0, 0, 0, 1, 1, 1, 1, 1, 2, 3]);
        let has_churn = rng.chance(20);
        let jobs = rng.between(1, 5);
        let flows = rng.below(4);
        let history_bytes = *rng.pick(&[8, 16, 16, 32, 32, 64, 64, 128, 256]) << 10;
        let special = rng.below(200);
        let mut plan = Self {
            shards: rng.between(1, 3),
            channel: *rng.pick(&[1, 1, 2, 3, 8, 64]),
            history_bytes,
            jobs,
            flows,
            lines: *rng.pick(&[10, 60, 150, 500][size..][..1]),
            lines_per_turn: *rng.pick(&[1, 2, 4, 8, 30]),
            operations: *rng.pick(&[20, 60, 120, 300][size..][..1]),
            watchers_max: *rng.pick(&[1, 2, 4, 8, 12]),
            interleave_percent: *rng.pick(&[5, 20, 40, 60]),
            flow_percent: *rng.pick(&[5, 30, 70]),
            new_type_percent: *rng.pick(&[0, 0, 3, 15]),
            is_overflowing: rng.chance(8),
            has_churn,
            jobs_max: if has_churn { rng.between(1, jobs) } else { 100 },
            topics_max: if has_churn { rng.between(1, jobs + flows + 1) } else { 1000 },
            history_millis: if has_churn { 50 } else { 1 << 40 },
            millis_per_turn: *rng.pick(&[1, 10, 60]),
            pad_max: *rng.pick(&[20, 100, 600, 3000]),
            pad_percent: *rng.pick(&[0, 20, 50, 90]),
            line_bytes_max: history_bytes / 8,
            sockets: SocketPlan::new(rng),
            filter_percent: *rng.pick(&[0, 30, 60]),
            many_percent: *rng.pick(&[0, 20, 100]),
            http_percent: *rng.pick(&[0, 30, 70]),
            compressed_percent: *rng.pick(&[0, 60, 90]),
            crowd: 0,
            steps_max: 40,
            restart_percent: *rng.pick(&[0, 0, 0, 2, 6]),
            is_waiting: false,
            metrics_millis: 0,
            reader_percent: 0,
            jump_percent: *rng.pick(&[0, 0, 2, 10, 50]),
            hole_percent: *rng.pick(&[0, 10, 50]),
            ahead_percent: *rng.pick(&[0, 5, 30]),
        };
        if plan.is_overflowing {
            plan.lines += 130;
        }
        match special {
            0 | 1 => plan.crowd(rng),
            2 | 3 => plan.burst(rng),
            4..24 => plan.wait(rng),
            _ => {}
        }
        plan
    }

    /// A plan of the same kind, cut to what a few hundred choices can fill.
    pub fn shortened(self) -> Self {
        Self {
            lines: self.lines.min(60),
            operations: self.operations.min(60),
            crowd: self.crowd.min(4),
            watchers_max: self.watchers_max.min(8),
            pad_max: self.pad_max.min(600),
            is_overflowing: false,
            ..self
        }
    }

    /// Many watchers of one topic, so that cohorts are served in portions.
    fn crowd(&mut self, rng: &mut Rng) {
        self.restart_percent = 0;
        self.crowd = if rng.chance(30) { rng.between(20, 100) } else { rng.between(258, 340) };
        self.watchers_max = self.crowd;
        self.operations = rng.between(20, 60);
        self.lines = rng.between(20, 100);
        self.pad_max = *rng.pick(&[20, 100, 3000]);
        self.sockets.bytes = *rng.pick(&[20_000, 1 << 20, 1 << 30]);
        self.shards = 1;
        self.interleave_percent = *rng.pick(&[1, 5]);
        self.sockets.short_percent = 0;
        self.sockets.interrupted_percent = 0;
        self.filter_percent = *rng.pick(&[0, 0, 5]);
        self.many_percent = 0;
        self.sockets.time_up_percent = *rng.pick(&[10, 50, 90]);
    }

    /// More events at once than one gather takes: many runs, or many pieces of one run.
    fn burst(&mut self, rng: &mut Rng) {
        self.history_bytes = 2 << 20;
        self.line_bytes_max = 1000;
        self.lines = rng.between(600, 1500);
        self.lines_per_turn = *rng.pick(&[1, 1500]);
        self.steps_max = *rng.pick(&[200, 5000]);
        self.operations = rng.between(20, 60);
        self.interleave_percent = 5;
        self.pad_percent = 0;
        self.jobs = 1;
        self.flows = self.flows.min(1);
        self.has_churn = false;
        (self.jobs_max, self.topics_max, self.history_millis) = (100, 1000, 1 << 40);
        self.sockets.bytes = *rng.pick(&[20_000, 1 << 20]);
    }

    /// The feed waits for watchers: many publishers have more lines than a small history has room for, and many jobs
    /// change at once.
    fn wait(&mut self, rng: &mut Rng) {
        self.is_waiting = true;
        self.history_bytes = *rng.pick(&[8, 8, 16, 32, 64]) << 10;
        self.line_bytes_max = self.history_bytes / 8;
        self.lines = self.lines.max(60);
        self.lines_per_turn = *rng.pick(&[8, 30, 60]);
        self.jobs = *rng.pick(&[self.jobs, 12, 40]);
        self.has_churn = false;
        (self.jobs_max, self.topics_max, self.history_millis) = (100, 1000, 1 << 40);
        self.metrics_millis = *rng.pick(&[0, 1, 30, 300]);
        self.reader_percent = *rng.pick(&[20, 60, 100]);
        self.pad_max = self.pad_max.max(600);
    }

    pub fn pad(&self, rng: &mut Rng) -> usize {
        if !rng.chance(self.pad_percent) {
            return 0;
        }
        let longest = if rng.chance(2) { self.line_bytes_max } else { self.pad_max };
        rng.below(longest).min(self.line_bytes_max - 400)
    }

    /// Type and inner type of the next event.
    pub fn kind(&self, rng: &mut Rng, new_types: &mut usize) -> (String, Option<String>) {
        const PLAIN: [&str; 16] = [
            "job_started",
            "job_started",
            "job_completed",
            "job_failed",
            "job_paused",
            "metrics",
            "metrics",
            "routine_started",
            "routine_started",
            "routine_completed",
            "breakpoint_hit",
            "slot_called",
            "custom_a",
            "job_b",
            "custom_c",
            "custom_d",
        ];
        const INNER: [&str; 10] = [
            "slot_call",
            "slot_call",
            "event_emit",
            "event_emit",
            "error",
            "inner_x",
            "slot call",
            "breakpoint_hit",
            "breakpoint_hit\0",
            "breakpoint_of_a_name_that_is_longer_than_any_that_a_filter_can_list_as_sixty_four_bytes",
        ];
        if self.is_overflowing && *new_types < 120 || rng.chance(self.new_type_percent) {
            *new_types += 1;
            return (new_type(*new_types), None);
        }
        match rng.below(10) {
            0..2 => ("execution_event".into(), Some((*rng.pick(&INNER)).into())),
            2 if *new_types > 0 => (new_type(rng.between(1, *new_types)), None),
            _ => match *rng.pick(&PLAIN) {
                // The daemon makes no metrics for a job whose publisher sends them.
                "metrics" if self.metrics_millis > 0 => ("custom_a".into(), None),
                kind => (kind.into(), None),
            },
        }
    }

    /// Names for a filter: some are not seen yet, some never will be.
    pub fn names(&self, rng: &mut Rng) -> Vec<String> {
        const NAMES: [&str; 15] = [
            "slot call",
            "job_started",
            "job_completed",
            "job_failed",
            "metrics",
            "routine_started",
            "routine_completed",
            "execution_event",
            "slot_call",
            "slot_called",
            "event_emit",
            "custom_a",
            "custom_c",
            "job_b",
            "never_seen",
        ];
        let count = rng.between(0, 4);
        let name = |rng: &mut Rng| match self.new_type_percent > 0 || self.is_overflowing {
            true if rng.chance(40) => new_type(rng.between(1, 130)),
            _ => (*rng.pick(&NAMES)).to_owned(),
        };
        (0..count).map(|_| name(rng)).collect()
    }
}

/// The name of the `number`th type after the documented ones.
fn new_type(number: usize) -> String {
    if number.is_multiple_of(7) { format!("breakpoint_{number}") } else { format!("new_{number}") }
}
