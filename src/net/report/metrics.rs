//! `/metrics`: the current counters of all threads, in Prometheus' text format. No thread has to answer for it.

use std::time::Instant;

use crate::metrics::{self, ACTION_ERRORS, Figures, GAPS, REFUSALS, Words};
use crate::net::clock::Clock;
use crate::net::report::liveness::Liveness;
use crate::net::report::process::read_process;
use crate::stream::directory::Directory;
use crate::wire::client_action::ActionError;
use crate::wire::http::Refusal;
use crate::wire::line::LineError;
use crate::wire::watcher_message::GapReason;

const _: () = assert!(Refusal::CODES.len() == REFUSALS);
const _: () = assert!(GapReason::ALL.len() == GAPS);
const _: () = assert!(ActionError::CODES.len() == ACTION_ERRORS);

/// The sources of the figures, the threads' counters included.
pub struct Sources<'a> {
    pub liveness: &'a Liveness,
    pub directory: &'a Directory,
    pub history_bytes_max: usize,
    pub clock: Clock,
    /// When the daemon started, in Unix time.
    pub start_unix_micros: i64,
}

pub fn write(sources: &Sources<'_>) -> Vec<u8> {
    let line_errors = LineError::ALL.map(LineError::code);
    let gaps = GapReason::ALL.map(GapReason::text);
    let admission = &sources.liveness.admission;
    let figures = Figures {
        counters: &sources.liveness.counters,
        words: Words {
            refusals: &Refusal::CODES,
            gaps: &gaps,
            action_errors: &ActionError::CODES,
            line_errors: &line_errors,
        },
        process: read_process(sources.start_unix_micros),
        is_draining: admission.is_draining(),
        sockets: admission.places_taken() as u64,
        sockets_max: admission.connections_max() as u64,
        topics: sources.directory.len() as u64,
        history_bytes_max: sources.history_bytes_max as u64,
        now_micros: sources.clock.micros(Instant::now()),
    };
    let mut text = String::new();
    metrics::write(&figures, &mut text);
    text.into_bytes()
}
