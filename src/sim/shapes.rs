//! The JSON of each event, member for member as Routilux writes it, spaces included.
//! All texts come from this program and need no escaping.

use std::fmt::{self, Write};

use super::moment::Moment;

/// What every event has.
#[derive(Clone, Copy)]
pub struct EventHead<'a> {
    pub job_id: &'a str,
    pub now: Moment,
}

/// The content of an `execution_event`.
pub struct Execution<'a> {
    pub head: EventHead<'a>,
    /// Counts all execution events of the engine.
    pub number: u64,
    pub routine_id: &'a str,
}

/// What went wrong in a routine.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    pub error_type: &'static str,
    pub message: String,
}

/// What a job has done so far.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    pub events: u64,
    pub slot_calls: u64,
    pub event_emits: u64,
}

/// Where a breakpoint is: on a slot of the routine, or on an event that it emits.
pub struct BreakpointAt<'a> {
    pub breakpoint_id: &'a str,
    pub routine_id: &'a str,
    pub slot_name: Option<&'a str>,
    pub event_name: Option<&'a str>,
}

pub fn job_started(out: &mut String, head: EventHead, flow_id: &str, entry: &str, params: &str) {
    let EventHead { job_id, now } = head;
    line(
        out,
        format_args!(
            r#"{{"type": "job_started", "job_id": "{job_id}", "flow_id": "{flow_id}", "timestamp": "{}", "data": {{"entry_routine": "{entry}", "params": {params}}}}}"#,
            now.zulu()
        ),
    );
}

pub fn job_completed(out: &mut String, head: EventHead, flow_id: &str, duration: f64, events: u64) {
    let EventHead { job_id, now } = head;
    line(
        out,
        format_args!(
            r#"{{"type": "job_completed", "job_id": "{job_id}", "flow_id": "{flow_id}", "timestamp": "{}", "data": {{"duration": {duration:?}, "total_events": {events}}}}}"#,
            now.zulu()
        ),
    );
}

pub fn job_failed(out: &mut String, head: EventHead, flow_id: &str, routine: &str, failure: &Failure) {
    let EventHead { job_id, now } = head;
    let Failure { error_type, message } = failure;
    line(
        out,
        format_args!(
            r#"{{"type": "job_failed", "job_id": "{job_id}", "flow_id": "{flow_id}", "timestamp": "{}", "data": {{"error": "{error_type}: {message}", "error_type": "{error_type}", "routine_id": "{routine}"}}}}"#,
            now.zulu()
        ),
    );
}

pub fn job_paused(out: &mut String, head: EventHead) {
    with_reason(out, head, "job_paused", "Paused via API");
}

pub fn job_cancelled(out: &mut String, head: EventHead) {
    with_reason(out, head, "job_cancelled", "Cancelled via API");
}

fn with_reason(out: &mut String, head: EventHead, kind: &str, reason: &str) {
    let EventHead { job_id, now } = head;
    line(
        out,
        format_args!(
            r#"{{"type": "{kind}", "job_id": "{job_id}", "timestamp": "{}", "data": {{"reason": "{reason}"}}}}"#,
            now.zulu()
        ),
    );
}

pub fn job_resumed(out: &mut String, head: EventHead) {
    let EventHead { job_id, now } = head;
    line(
        out,
        format_args!(r#"{{"type": "job_resumed", "job_id": "{job_id}", "timestamp": "{}"}}"#, now.zulu()),
    );
}

pub fn routine_started(out: &mut String, head: EventHead, routine: &str, slot: &str, event_data: &str) {
    let data = format_args!(r#"{{"slot_name": "{slot}", "event_data": {event_data}}}"#);
    of_a_routine(out, head, "routine_started", routine, data);
}

pub fn routine_completed(out: &mut String, head: EventHead, routine: &str, duration: f64, emitted: u64) {
    let data = format_args!(r#"{{"duration": {duration:?}, "events_emitted": {emitted}}}"#);
    of_a_routine(out, head, "routine_completed", routine, data);
}

pub fn routine_failed(out: &mut String, head: EventHead, routine: &str, slot: &str, failure: &Failure) {
    let Failure { error_type, message } = failure;
    let data = format_args!(
        r#"{{"error": "{error_type}: {message}", "error_type": "{error_type}", "slot_name": "{slot}"}}"#
    );
    of_a_routine(out, head, "routine_failed", routine, data);
}

fn of_a_routine(out: &mut String, head: EventHead, kind: &str, routine: &str, data: fmt::Arguments) {
    let EventHead { job_id, now } = head;
    line(
        out,
        format_args!(
            r#"{{"type": "{kind}", "job_id": "{job_id}", "routine_id": "{routine}", "timestamp": "{}", "data": {data}}}"#,
            now.zulu()
        ),
    );
}

pub fn slot_call(out: &mut String, execution: &Execution, slot: &str, arguments: &str) {
    let data = format_args!(r#"{{"slot_name": "{slot}", "arguments": {arguments}}}"#);
    execution_event(out, execution, "slot_call", data);
}

pub fn event_emit(out: &mut String, execution: &Execution, event: &str, data: &str) {
    let data = format_args!(r#"{{"event_name": "{event}", "data": {data}}}"#);
    execution_event(out, execution, "event_emit", data);
}

pub fn error(out: &mut String, execution: &Execution, failure: &Failure) {
    let Failure { error_type, message } = failure;
    let data = format_args!(r#"{{"error": "{message}", "error_type": "{error_type}"}}"#);
    execution_event(out, execution, "error", data);
}

fn execution_event(out: &mut String, execution: &Execution, inner: &str, data: fmt::Arguments) {
    let Execution { head: EventHead { job_id, now }, number, routine_id } = execution;
    let now = now.zulu();
    line(
        out,
        format_args!(
            r#"{{"type": "execution_event", "job_id": "{job_id}", "timestamp": "{now}", "event": {{"event_id": "evt_{number:06x}", "routine_id": "{routine_id}", "event_type": "{inner}", "timestamp": "{now}", "data": {data}}}}}"#
        ),
    );
}

pub fn breakpoint_hit(out: &mut String, head: EventHead, at: &BreakpointAt, variables: &str) {
    let EventHead { job_id, now } = head;
    let BreakpointAt { breakpoint_id, routine_id, slot_name, event_name } = at;
    let kind = if slot_name.is_some() { "slot" } else { "event" };
    line(
        out,
        format_args!(
            r#"{{"type": "breakpoint_hit", "job_id": "{job_id}", "timestamp": "{}", "breakpoint": {{"breakpoint_id": "{breakpoint_id}", "type": "{kind}", "routine_id": "{routine_id}", "slot_name": {}, "event_name": {}}}, "context": {{"routine_id": "{routine_id}", "variables": {variables}}}}}"#,
            now.zulu(),
            OrNull(*slot_name),
            OrNull(*event_name)
        ),
    );
}

pub fn breakpoint_resumed(out: &mut String, head: EventHead, breakpoint_id: &str, step_mode: &str) {
    let EventHead { job_id, now } = head;
    line(
        out,
        format_args!(
            r#"{{"type": "breakpoint_resumed", "job_id": "{job_id}", "breakpoint_id": "{breakpoint_id}", "timestamp": "{}", "data": {{"step_mode": "{step_mode}"}}}}"#,
            now.zulu()
        ),
    );
}

/// `end` is absent while the job runs.
pub fn metrics(out: &mut String, head: EventHead, start: Moment, end: Option<Moment>, counts: Counts) {
    let EventHead { job_id, now } = head;
    let Counts { events, slot_calls, event_emits } = counts;
    let (end_time, duration) = match end {
        Some(end) => (OrNull(Some(end.naive())).to_string(), format!("{:?}", end.seconds_since(start))),
        None => ("null".to_string(), "null".to_string()),
    };
    line(
        out,
        format_args!(
            r#"{{"type": "metrics", "job_id": "{job_id}", "timestamp": "{}", "metrics": {{"start_time": "{}", "end_time": {end_time}, "duration": {duration}, "total_events": {events}, "total_slot_calls": {slot_calls}, "total_event_emits": {event_emits}}}}}"#,
            now.zulu(),
            start.naive()
        ),
    );
}

/// A JSON string or `null`.
struct OrNull<T>(Option<T>);

impl<T: fmt::Display> fmt::Display for OrNull<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(value) => write!(formatter, "\"{value}\""),
            None => formatter.write_str("null"),
        }
    }
}

fn line(out: &mut String, object: fmt::Arguments) {
    writeln!(out, "{object}").expect("a String takes everything");
}
