//! The counters of each thread, which only that thread writes.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use crate::close::CloseReason;

/// A number that only grows.
#[derive(Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// For the one thread that writes it: a plain addition in memory.
    pub fn add(&self, count: u64) {
        self.0.store(self.get().wrapping_add(count), Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that goes up and down.
#[derive(Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Upper bounds of the buckets of every histogram, in microseconds: a loaded shard's turn takes two milliseconds.
pub const BOUNDS_MICROS: [u64; 14] =
    [50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000, 5_000_000];

/// How long something takes.
#[derive(Default)]
pub struct Histogram {
    /// The last one is for all beyond the bounds.
    counts: [Counter; BOUNDS_MICROS.len() + 1],
    sum_micros: Counter,
}

impl Histogram {
    pub fn note(&self, micros: u64) {
        self.counts[BOUNDS_MICROS.partition_point(|&bound| bound < micros)].add(1);
        self.sum_micros.add(micros);
    }

    /// Each bucket's count, and the sum.
    pub fn read(&self) -> ([u64; BOUNDS_MICROS.len() + 1], u64) {
        (self.counts.each_ref().map(Counter::get), self.sum_micros.get())
    }
}

/// What can be watched, as the label `endpoint`.
pub const ENDPOINTS: [&str; 5] = ["job_monitor", "job_debug", "flow_monitor", "events", "multi_job"];
/// How many reasons there are to refuse a request before the upgrade.
pub const REFUSALS: usize = 18;
/// How many reasons there are to refuse a line of the feed.
pub const LINE_ERRORS: usize = 17;
/// How many reasons there are not to obey a client's message.
pub const ACTION_ERRORS: usize = 10;
/// Other results of a message: it was obeyed, or was a protocol ping, pong or close frame.
pub const OBEYED: usize = ACTION_ERRORS;
pub const PROTOCOL: usize = OBEYED + 1;
pub const RESULTS: usize = PROTOCOL + 1;
/// How many reasons there are for a gap.
pub const GAPS: usize = 3;
/// Ends of a connection for other reasons than the daemon's.
pub const CLOSED_BY_CLIENT: usize = CloseReason::ALL.len();
pub const LOST: usize = CLOSED_BY_CLIENT + 1;
const ENDS: usize = LOST + 1;

/// What one shard counts. It has its own cache lines, so that no other thread's writing slows it down.
#[derive(Default)]
#[repr(align(128))]
pub struct ShardCounters {
    /// Counted when they begin.
    pub turns: Counter,
    pub turn_micros: Histogram,
    pub delay_micros: Histogram,
    pub messages: Counter,
    pub sent_bytes: Counter,
    /// Frames of events that were sent compressed: as they would be otherwise, and as they were.
    pub compressed_from_bytes: Counter,
    pub compressed_to_bytes: Counter,
    pub accepted: Counter,
    pub accepts_failed: Counter,
    pub heartbeats: Counter,
    pub tls_handshakes: Counter,
    /// By the endpoint's place in [`ENDPOINTS`].
    pub opened: [Counter; ENDPOINTS.len()],
    pub ended: [Counter; ENDPOINTS.len()],
    /// By the reason's place in its table; [`CLOSED_BY_CLIENT`] and [`LOST`].
    pub closed: [Counter; ENDS],
    pub refusals: [Counter; REFUSALS],
    pub gaps: [Counter; GAPS],
    /// Messages from clients, by the error's place in its table; [`OBEYED`] and [`PROTOCOL`].
    pub received: [Counter; RESULTS],
    pub lagging: Gauge,
    pub lag_events_max: Gauge,
}

/// What the ingest thread counts.
#[derive(Default)]
#[repr(align(128))]
pub struct IngestCounters {
    pub turns: Counter,
    pub turn_micros: Histogram,
    pub events: Counter,
    /// Of `events`, the daemon's own.
    pub own_events: Counter,
    /// Lines that were taken before, under the same publisher's name.
    pub repeated_lines: Counter,
    pub control_lines: Counter,
    pub line_errors: [Counter; LINE_ERRORS],
    pub received_bytes: Counter,
    pub waits: Counter,
    pub publishers_accepted: Counter,
    /// Requests over HTTP that publish, and those that are not over.
    pub requests: Counter,
    pub open_requests: Gauge,
    pub publishers: Gauge,
    pub publishers_refused: Counter,
    /// Bytes held of lines whose end has not come.
    pub half_line_bytes: Gauge,
    /// Answers that a publisher did not read in time.
    pub answers_dropped: Counter,
    pub jobs: Gauge,
    pub flows: Gauge,
    pub jobs_displaced: Gauge,
    pub history_bytes: Gauge,
    pub history_events: Gauge,
    /// When the oldest kept event was read, in microseconds since the daemon started; 0: none is kept.
    pub history_oldest_micros: Gauge,
}

/// Of the stream that this daemon shares with others.
#[derive(Default)]
pub struct BusCounters {
    /// 1 if there is a bus at all.
    pub is_used: Gauge,
    /// 1 while the stream is read.
    pub connected: Gauge,
    /// The last message that was taken, and when the stream took it, in Unix milliseconds.
    pub last_message: Gauge,
    pub last_message_millis: Gauge,
    /// The newest message of the stream, as the server said last.
    pub newest_message: Gauge,
    /// Lines of this daemon's own publishers that were taken for the stream.
    pub lines_out: Counter,
    pub messages: Counter,
    pub bytes: Counter,
    pub messages_out: Counter,
    pub bytes_out: Counter,
    /// Bytes of lines that are not in the stream yet.
    pub waiting_bytes: Gauge,
    /// Messages that were sent again.
    pub retries: Gauge,
    /// Lines that the stream has twice, and that were left out.
    pub duplicate_lines: Counter,
    /// Lines of the stream that no daemon can take, and headers that no client can read.
    pub refused_lines: Counter,
    /// How often an event of the stream had no room for its job or flow, because all that are known are watched.
    pub displaced_lines: Counter,
    pub reader_restarts: Counter,
    pub holes: Counter,
    /// Passes over the stream for watchers who asked for what is older than memory, and the bytes read in them.
    pub past_passes: Counter,
    pub past_bytes: Counter,
    /// Watchers who are served in a pass, or wait for one.
    pub past_watchers: Gauge,
}

pub struct Counters {
    pub shards: Box<[ShardCounters]>,
    pub ingest: IngestCounters,
    pub bus: BusCounters,
    /// When the listeners' certificate expires, in Unix seconds; 0: they do not speak TLS.
    pub certificate_until: Gauge,
    /// Set by the keeper of `state_dir` once it fails to read or write it.
    state_failed: OnceLock<Arc<AtomicBool>>,
    /// The log's writer counts what it could not write.
    dropped_lines: OnceLock<Box<dyn Fn() -> u64 + Send + Sync>>,
}

impl Counters {
    pub fn new(shards: usize) -> Self {
        Self {
            shards: (0..shards).map(|_| ShardCounters::default()).collect(),
            ingest: IngestCounters::default(),
            bus: BusCounters::default(),
            certificate_until: Gauge::default(),
            state_failed: OnceLock::new(),
            dropped_lines: OnceLock::new(),
        }
    }

    /// Sets the function that counts dropped lines of the log. Call it once.
    pub fn count_dropped_lines(&self, count: impl Fn() -> u64 + Send + Sync + 'static) {
        let is_first = self.dropped_lines.set(Box::new(count)).is_ok();
        assert!(is_first, "there is one log");
    }

    /// Sets the flag that says whether `state_dir` could not be read or written. Call it once.
    pub fn note_state(&self, has_failed: Arc<AtomicBool>) {
        let is_first = self.state_failed.set(has_failed).is_ok();
        assert!(is_first, "there is one state_dir");
    }

    pub(super) fn has_state_failed(&self) -> bool {
        self.state_failed.get().is_some_and(|has_failed| has_failed.load(Ordering::Relaxed))
    }

    pub(super) fn dropped_lines(&self) -> u64 {
        self.dropped_lines.get().map_or(0, |count| count())
    }

    pub(super) fn sum(&self, of_shard: impl Fn(&ShardCounters) -> u64) -> u64 {
        self.shards.iter().map(of_shard).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::{BOUNDS_MICROS, Histogram};

    #[test]
    fn a_duration_falls_into_the_first_bucket_that_holds_it() {
        let histogram = Histogram::default();
        for micros in [0, 50, 51, 5_000_000, 5_000_001] {
            histogram.note(micros);
        }
        let (counts, sum) = histogram.read();
        assert_eq!((counts[0], counts[1], sum), (2, 1, 10_000_102));
        assert_eq!(counts[BOUNDS_MICROS.len() - 1..], [1, 1]);
    }

    #[test]
    fn no_two_threads_write_into_one_cache_line() {
        let counters = super::Counters::new(2);
        for shard in &counters.shards {
            assert_eq!(std::ptr::from_ref(shard).addr() % 128, 0);
        }
        assert_eq!(std::ptr::from_ref(&counters.ingest).addr() % 128, 0);
    }
}
