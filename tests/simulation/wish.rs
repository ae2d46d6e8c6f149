//! What a client wants: the types that its filter, its endpoint and its token let through.

use crate::oracle::Event;
use crate::simulated::filter::Filter;

/// What a client asked for, as the specification puts it.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    pub is_debug: bool,
    pub is_overseer: bool,
    /// Its token lacks `debug`.
    pub hides_breakpoints: bool,
    pub filter: Filter,
}

impl Wish {
    pub fn is_all(&self) -> bool {
        let Filter { is_only, names } = &self.filter;
        !self.is_debug && !self.hides_breakpoints && !is_only && names.is_empty()
    }

    pub fn wants(&self, event: &Event) -> bool {
        const DEBUG: [&str; 6] = [
            "breakpoint_hit",
            "breakpoint_resumed",
            "execution_event",
            "routine_started",
            "routine_completed",
            "routine_failed",
        ];
        if self.is_debug && !DEBUG.contains(&&*event.kind) && !event.kind.starts_with("job_") {
            return false;
        }
        let inner = event.inner.as_deref();
        let is_breakpoint = |name: &str| name.starts_with("breakpoint_");
        if self.hides_breakpoints && (is_breakpoint(&event.kind) || inner.is_some_and(is_breakpoint)) {
            return false;
        }
        let other = match (&*event.kind, inner) {
            ("execution_event", Some("slot_call")) => Some("slot_called"),
            ("execution_event", Some("event_emit")) => Some("event_emitted"),
            ("slot_called", None) => Some("slot_call"),
            ("event_emitted", None) => Some("event_emit"),
            _ => None,
        };
        let names = &self.filter.names;
        let is_listed = names.contains(&event.kind)
            || inner.is_some_and(|name| names.contains(name))
            || self.is_overseer && other.is_some_and(|name| names.contains(name));
        self.filter.lets_through(is_listed)
    }
}
