//! The one table of metrics: name, kind, label, help, and where the figures come from. What `/metrics` answers and the
//! table in the README.md of `net::report` are made from it.
//!
//! Names follow Prometheus: base units (seconds, bytes), the unit last, counters end in `_total`. The metrics of
//! every process have their usual names, `process_...`.

use std::fmt::Write;

use crate::close::CloseReason;
use crate::metrics::counters::{
    BusCounters, CLOSED_BY_CLIENT, ENDPOINTS, LOST, OBEYED, PROTOCOL, ShardCounters,
};
use crate::metrics::figures::{Figures, Series, seconds};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Kind {
    pub fn word(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

pub struct Metric {
    pub name: &'static str,
    pub kind: Kind,
    /// The name of its label; empty if it has none.
    pub label: &'static str,
    pub help: &'static str,
    pub(super) read: fn(&Figures<'_>, &mut Series<'_>),
}

const fn row(
    name: &'static str,
    kind: Kind,
    label: &'static str,
    help: &'static str,
    read: fn(&Figures<'_>, &mut Series<'_>),
) -> Metric {
    Metric { name, kind, label, help, read }
}

/// In the order of the output: the connections, what is sent, what is received, what is kept, the process.
#[rustfmt::skip]
pub static METRICS: [Metric; 63] = [
    row("luxcast_build_info", Kind::Gauge, "version", "Always 1; the version is in the label",
        |_, series| series.labelled(env!("CARGO_PKG_VERSION"), 1)),
    row("luxcast_draining", Kind::Gauge, "", "1 while the daemon drains, before it ends",
        |figures, series| series.value(u64::from(figures.is_draining))),
    row("luxcast_connections", Kind::Gauge, "endpoint", "Connections that watch",
        |figures, series| for (place, endpoint) in ENDPOINTS.iter().enumerate() {
            let ended = figures.sum(|shard| shard.ended[place].get());
            let opened = figures.sum(|shard| shard.opened[place].get());
            series.labelled(endpoint, opened.saturating_sub(ended));
        }),
    row("luxcast_connections_opened_total", Kind::Counter, "endpoint", "Connections that began to watch",
        |figures, series| series.of_each(&ENDPOINTS, |place| figures.sum(|shard| shard.opened[place].get()))),
    row("luxcast_connections_closed_total", Kind::Counter, "reason", "Connections that have ended their watch. Why: \
        the daemon's reason (silent: no answer to heartbeats), client (a close frame, or the end of a stream over plain \
        HTTP), or lost (any other end of the socket)",
        |figures, series| {
            let of = |place: usize| figures.sum(|shard| shard.closed[place].get());
            for reason in CloseReason::ALL {
                series.labelled(reason.word(), of(reason as usize));
            }
            series.labelled("client", of(CLOSED_BY_CLIENT));
            series.labelled("lost", of(LOST));
        }),
    row("luxcast_sockets", Kind::Gauge, "", "Sockets of clients that take a place: open connections, requests that \
        are being read, answers that are being sent. Idle connections and refusals take none",
        |figures, series| series.value(figures.sockets)),
    row("luxcast_sockets_max", Kind::Gauge, "", "Places for sockets of clients: connections_max, as far as the file \
        limit allows",
        |figures, series| series.value(figures.sockets_max)),
    row("luxcast_sockets_accepted_total", Kind::Counter, "", "Sockets accepted from clients",
        |figures, series| series.value(figures.sum(|shard| shard.accepted.get()))),
    row("luxcast_accepts_failed_total", Kind::Counter, "", "Accepts that failed because no descriptor or memory was \
        left",
        |figures, series| series.value(figures.sum(|shard| shard.accepts_failed.get()))),
    row("luxcast_refusals_total", Kind::Counter, "reason", "Requests refused before the upgrade, by the error word of \
        the answer; tls: failed TLS handshakes. Without operators' requests",
        |figures, series| series.of_each(figures.words.refusals, |place| {
            figures.sum(|shard| shard.refusals[place].get())
        })),
    row("luxcast_tls_handshakes_total", Kind::Counter, "", "TLS handshakes completed",
        |figures, series| series.value(figures.sum(|shard| shard.tls_handshakes.get()))),
    row("luxcast_certificate_expiry_timestamp_seconds", Kind::Gauge, "", "When the listeners' certificate expires, in \
        Unix time; 0 without TLS",
        |figures, series| series.value(figures.counters.certificate_until.get())),
    row("luxcast_heartbeats_total", Kind::Counter, "", "Pings sent, one per connection and heartbeat",
        |figures, series| series.value(figures.sum(|shard| shard.heartbeats.get()))),
    row("luxcast_messages_received_total", Kind::Counter, "result", "Messages from clients: obeyed, protocol (pings, \
        pongs and close frames), or the code of the error that answered them",
        |figures, series| {
            let of = |place: usize| figures.sum(|shard| shard.received[place].get());
            series.labelled("obeyed", of(OBEYED));
            series.labelled("protocol", of(PROTOCOL));
            series.of_each(figures.words.action_errors, of);
        }),
    row("luxcast_messages_sent_total", Kind::Counter, "shard", "Events delivered: one event to ten watchers counts ten",
        |figures, series| of_shards(figures, series, |shard| shard.messages.get())),
    row("luxcast_sent_bytes_total", Kind::Counter, "shard", "Bytes of frames handed to clients' sockets, before \
        encryption",
        |figures, series| of_shards(figures, series, |shard| shard.sent_bytes.get())),
    row("luxcast_compressed_bytes_total", Kind::Counter, "stage", "Bytes of frames that were sent compressed: before, \
        as they would be for others, and after. Each watcher counts",
        |figures, series| {
            series.labelled("before", figures.sum(|shard| shard.compressed_from_bytes.get()));
            series.labelled("after", figures.sum(|shard| shard.compressed_to_bytes.get()));
        }),
    row("luxcast_delivery_delay_seconds", Kind::Histogram, "", "Time from reading an event to writing it to watchers \
        that keep up. One sample for each turn of a shard that delivers: the oldest event sent, at the turn's end",
        |figures, series| series.histogram(None, figures.counters.shards.iter().map(|shard| &shard.delay_micros))),
    row("luxcast_lagging_connections", Kind::Gauge, "", "Watchers whose socket was full and that have not caught up \
        yet",
        |figures, series| series.value(figures.sum(|shard| shard.lagging.get()))),
    row("luxcast_lag_events_max", Kind::Gauge, "", "How far the slowest of these is behind, in events of the whole \
        daemon; measured once a second",
        |figures, series| {
            let lags = figures.counters.shards.iter().map(|shard| shard.lag_events_max.get());
            series.value(lags.max().unwrap_or(0));
        }),
    row("luxcast_gaps_total", Kind::Counter, "reason", "Gaps reported to watchers (stream:gap): events that they did \
        not get",
        |figures, series| series.of_each(figures.words.gaps, |place| figures.sum(|shard| shard.gaps[place].get()))),
    row("luxcast_turn_duration_seconds", Kind::Histogram, "thread", "Duration of a turn of a thread's loop",
        |figures, series| {
            let mut thread = String::new();
            for (index, shard) in figures.counters.shards.iter().enumerate() {
                thread.clear();
                write!(thread, "shard-{index}").expect("a String takes everything");
                series.histogram(Some(&thread), [&shard.turn_micros].into_iter());
            }
            series.histogram(Some("ingest"), [&figures.counters.ingest.turn_micros].into_iter());
        }),
    row("luxcast_publishers", Kind::Gauge, "", "Publishers connected to the ingest socket",
        |figures, series| series.value(figures.counters.ingest.publishers.get())),
    row("luxcast_http_publishers", Kind::Gauge, "", "HTTP requests that publish and are not answered yet",
        |figures, series| series.value(figures.counters.ingest.open_requests.get())),
    row("luxcast_publish_requests_total", Kind::Counter, "", "HTTP requests that publish, as far as something of them came",
        |figures, series| series.value(figures.counters.ingest.requests.get())),
    row("luxcast_publishers_accepted_total", Kind::Counter, "", "Connections accepted from publishers",
        |figures, series| series.value(figures.counters.ingest.publishers_accepted.get())),
    row("luxcast_publishers_refused_total", Kind::Counter, "", "Connections of publishers refused, because \
        publishers_max were connected",
        |figures, series| series.value(figures.counters.ingest.publishers_refused.get())),
    row("luxcast_feed_half_line_bytes", Kind::Gauge, "", "Memory for lines whose end has not come",
        |figures, series| series.value(figures.counters.ingest.half_line_bytes.get())),
    row("luxcast_feed_lines_total", Kind::Counter, "result", "Lines of the feed: accepted, repeated (taken before \
        under the same name), control, or the code of the error that refused them",
        |figures, series| {
            let ingest = &figures.counters.ingest;
            let accepted = match figures.counters.bus.is_used.get() {
                0 => ingest.events.get().saturating_sub(ingest.own_events.get()),
                _ => figures.counters.bus.lines_out.get(),
            };
            series.labelled("accepted", accepted);
            series.labelled("repeated", ingest.repeated_lines.get());
            series.labelled("control", ingest.control_lines.get());
            series.of_each(figures.words.line_errors, |place| ingest.line_errors[place].get());
        }),
    row("luxcast_feed_received_bytes_total", Kind::Counter, "", "Bytes read from publishers",
        |figures, series| series.value(figures.counters.ingest.received_bytes.get())),
    row("luxcast_feed_waits_total", Kind::Counter, "", "Times that publishers had to wait for watchers (overrun = wait)",
        |figures, series| series.value(figures.counters.ingest.waits.get())),
    row("luxcast_publisher_answers_dropped_total", Kind::Counter, "", "Answers that a publisher did not read in time",
        |figures, series| series.value(figures.counters.ingest.answers_dropped.get())),
    row("luxcast_events_total", Kind::Counter, "", "Events numbered, the daemon's own metrics events included",
        |figures, series| series.value(figures.counters.ingest.events.get())),
    row("luxcast_history_bytes", Kind::Gauge, "", "Memory that the kept events take",
        |figures, series| series.value(figures.counters.ingest.history_bytes.get())),
    row("luxcast_history_max_bytes", Kind::Gauge, "", "The setting history_bytes",
        |figures, series| series.value(figures.history_bytes_max)),
    row("luxcast_history_events", Kind::Gauge, "", "Events kept for /events",
        |figures, series| series.value(figures.counters.ingest.history_events.get())),
    row("luxcast_history_age_seconds", Kind::Gauge, "", "Time since the oldest event kept for /events was read, or \
        since the daemon started, if it is from an earlier run; 0 while none is kept",
        |figures, series| {
            let oldest = figures.counters.ingest.history_oldest_micros.get();
            let age = if oldest == 0 { 0 } else { figures.now_micros.saturating_sub(oldest) };
            series.value(seconds(age));
        }),
    row("luxcast_jobs", Kind::Gauge, "", "Jobs known",
        |figures, series| series.value(figures.counters.ingest.jobs.get())),
    row("luxcast_flows", Kind::Gauge, "", "Flows known",
        |figures, series| series.value(figures.counters.ingest.flows.get())),
    row("luxcast_topics", Kind::Gauge, "", "Jobs and flows that have events or watchers",
        |figures, series| series.value(figures.topics)),
    row("luxcast_jobs_displaced_total", Kind::Counter, "", "Jobs forgotten before their time, because jobs_max were \
        known; with bus, also events that had no room for their job or flow",
        |figures, series| {
            let counters = figures.counters;
            series.value(counters.ingest.jobs_displaced.get() + counters.bus.displaced_lines.get());
        }),
    row("luxcast_state_failed", Kind::Gauge, "", "1 once state_dir could not be read or written in this run: the next \
        start may lack a part of the state",
        |figures, series| series.value(u64::from(figures.counters.has_state_failed()))),
    row("luxcast_bus_connected", Kind::Gauge, "", "With bus: 1 while the stream is read, 0 while it is away or has stopped",
        |figures, series| of_bus(figures, series, |bus| bus.connected.get())),
    row("luxcast_bus_last_message", Kind::Gauge, "", "With bus: the last message of the stream that was taken",
        |figures, series| of_bus(figures, series, |bus| bus.last_message.get())),
    row("luxcast_bus_last_message_timestamp_seconds", Kind::Gauge, "", "With bus: when the stream took that message, in \
        Unix time",
        |figures, series| if figures.counters.bus.is_used.get() > 0 {
            series.value(seconds(figures.counters.bus.last_message_millis.get() * 1_000));
        }),
    row("luxcast_bus_lag_messages", Kind::Gauge, "", "With bus: messages of the stream that are not taken yet, as the \
        server said in the last five seconds",
        |figures, series| of_bus(figures, series, |bus| {
            bus.newest_message.get().saturating_sub(bus.last_message.get())
        })),
    row("luxcast_bus_messages_total", Kind::Counter, "direction", "With bus: messages of the stream taken (in) and \
        published (out), those that were sent again included",
        |figures, series| of_bus_ways(figures, series, |bus| [bus.messages.get(), bus.messages_out.get()])),
    row("luxcast_bus_bytes_total", Kind::Counter, "direction", "With bus: bytes of those messages",
        |figures, series| of_bus_ways(figures, series, |bus| [bus.bytes.get(), bus.bytes_out.get()])),
    row("luxcast_bus_waiting_bytes", Kind::Gauge, "", "With bus: bytes of publishers' lines that are not in the stream yet",
        |figures, series| of_bus(figures, series, |bus| bus.waiting_bytes.get())),
    row("luxcast_bus_retries_total", Kind::Counter, "", "With bus: messages that were sent again",
        |figures, series| of_bus(figures, series, |bus| bus.retries.get())),
    row("luxcast_bus_duplicate_lines_total", Kind::Counter, "", "With bus: lines that came into the stream twice and count \
        once",
        |figures, series| of_bus(figures, series, |bus| bus.duplicate_lines.get())),
    row("luxcast_bus_refused_lines_total", Kind::Counter, "", "With bus: lines of the stream that are no good events, \
        or longer or deeper than it allows, and messages with unreadable headers: another program has put them there",
        |figures, series| of_bus(figures, series, |bus| bus.refused_lines.get())),
    row("luxcast_bus_reader_restarts_total", Kind::Counter, "", "With bus: times that the reader began again where it was",
        |figures, series| of_bus(figures, series, |bus| bus.reader_restarts.get())),
    row("luxcast_bus_holes_total", Kind::Counter, "", "With bus: times that events were lost before they came here: every \
        watcher was sent a gap",
        |figures, series| of_bus(figures, series, |bus| bus.holes.get())),
    row("luxcast_bus_past_passes_total", Kind::Counter, "", "With bus: passes over the stream for watchers who asked for \
        events older than memory",
        |figures, series| of_bus(figures, series, |bus| bus.past_passes.get())),
    row("luxcast_bus_past_bytes_total", Kind::Counter, "", "With bus: bytes of the stream read in those passes",
        |figures, series| of_bus(figures, series, |bus| bus.past_bytes.get())),
    row("luxcast_bus_past_watchers", Kind::Gauge, "", "With bus: watchers who get events older than memory, or wait for \
        the pass that brings them",
        |figures, series| of_bus(figures, series, |bus| bus.past_watchers.get())),
    row("luxcast_log_lines_dropped_total", Kind::Counter, "", "Lines of the log that standard error did not take",
        |figures, series| series.value(figures.counters.dropped_lines())),
    row("process_cpu_seconds_total", Kind::Counter, "", "CPU time of the process",
        |figures, series| series.value(figures.process.cpu_seconds)),
    row("process_resident_memory_bytes", Kind::Gauge, "", "Memory of the process in RAM",
        |figures, series| series.value(figures.process.resident_bytes)),
    row("process_open_fds", Kind::Gauge, "", "File descriptors in use",
        |figures, series| series.value(figures.process.open_files)),
    row("process_max_fds", Kind::Gauge, "", "Most file descriptors allowed",
        |figures, series| series.value(figures.process.files_max)),
    row("process_start_time_seconds", Kind::Gauge, "", "When the daemon started, in Unix time",
        |figures, series| series.value(figures.process.start_seconds)),
];

fn of_shards(figures: &Figures<'_>, series: &mut Series<'_>, read: fn(&ShardCounters) -> u64) {
    let mut index = String::new();
    for (place, shard) in figures.counters.shards.iter().enumerate() {
        index.clear();
        write!(index, "{place}").expect("a String takes everything");
        series.labelled(&index, read(shard));
    }
}

/// A daemon without a bus has none of its figures.
fn of_bus(figures: &Figures<'_>, series: &mut Series<'_>, read: fn(&BusCounters) -> u64) {
    if figures.counters.bus.is_used.get() > 0 {
        series.value(read(&figures.counters.bus));
    }
}

fn of_bus_ways(figures: &Figures<'_>, series: &mut Series<'_>, read: fn(&BusCounters) -> [u64; 2]) {
    if figures.counters.bus.is_used.get() > 0 {
        let [taken, published] = read(&figures.counters.bus);
        series.labelled("in", taken);
        series.labelled("out", published);
    }
}

/// The table in the README.md of `net::report`.
pub fn metrics_markdown() -> String {
    let mut text = "| metric | kind | label | meaning |\n| --- | --- | --- | --- |\n".to_owned();
    for Metric { name, kind, label, help, .. } in &METRICS {
        let label = if label.is_empty() { String::new() } else { format!("`{label}`") };
        writeln!(text, "| `{name}` | {} | {label} | {help} |", kind.word())
            .expect("a String takes everything");
    }
    text
}
