//! What all scenarios share: the contestants, the number of runs, and how runs become figures.

use std::net::SocketAddr;
use std::path::PathBuf;

use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressStyle};

use crate::Outcome;
use crate::layout::Transport;
use crate::machine::Pinning;
use crate::peers::Peer;
use crate::result::{Better, Figure, Latency, Role, ServerResult};
use crate::server::{Server, Which};

/// The meaning of a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    pub name: &'static str,
    pub label: &'static str,
    pub unit: &'static str,
    pub better: Better,
}

const fn kind(name: &'static str, label: &'static str, unit: &'static str, better: Better) -> Kind {
    Kind { name, label, unit, better }
}

pub const CPU_PER_MESSAGE: Kind = kind("cpu_micros_per_message", "CPU per message", "µs", Better::Lower);
pub const CPU_PER_EVENT: Kind = kind("cpu_micros_per_event", "CPU per event", "µs", Better::Lower);
pub const CPU_PER_REQUEST: Kind = kind("cpu_micros_per_request", "CPU per request", "µs", Better::Lower);
pub const CPU_PER_HANDSHAKE: Kind =
    kind("cpu_micros_per_handshake", "CPU per handshake", "µs", Better::Lower);
pub const CPU_PER_HEARTBEAT: Kind =
    kind("cpu_micros_per_heartbeat", "CPU per heartbeat", "µs", Better::Lower);
pub const CPU_SHARE: Kind = kind("cpu_percent", "CPU in use", "%", Better::Lower);
pub const BYTES_PER_MESSAGE: Kind =
    kind("bytes_per_message", "bytes on the wire per message", "B", Better::Lower);
pub const MESSAGES_PER_SECOND: Kind = kind("messages_per_second", "messages delivered", "/s", Better::Higher);
pub const BYTES_PER_SECOND: Kind = kind("bytes_per_second", "bytes delivered", "B/s", Better::Higher);
pub const EVENTS_PER_SECOND: Kind = kind("events_per_second", "events taken in", "/s", Better::Higher);
pub const REQUESTS_PER_SECOND: Kind = kind("requests_per_second", "requests answered", "/s", Better::Higher);
pub const HANDSHAKES_PER_SECOND: Kind = kind("handshakes_per_second", "handshakes", "/s", Better::Higher);
pub const SYSCALLS_PER_MESSAGE: Kind =
    kind("syscalls_per_message", "system calls per message", "", Better::Lower);
pub const BYTES_PER_CONNECTION: Kind =
    kind("resident_bytes_per_connection", "memory per connection", "B", Better::Lower);
pub const BYTES_PER_TOPIC: Kind = kind("resident_bytes_per_topic", "memory per job", "B", Better::Lower);
pub const MEMORY_GROWN: Kind = kind("memory_grown_mb", "memory grown meanwhile", "MB", Better::Lower);
pub const P99_BEFORE: Kind =
    kind("latency_p99_ms_before", "latency before, 99 % below", "ms", Better::Neither);
pub const P50: Kind = kind("latency_p50_ms", "latency, half below", "ms", Better::Lower);
pub const P99: Kind = kind("latency_p99_ms", "latency, 99 % below", "ms", Better::Lower);
pub const P999: Kind = kind("latency_p99_9_ms", "latency, 99.9 % below", "ms", Better::Lower);
pub const LATENCY_MAX: Kind = kind("latency_max_ms", "latency, greatest", "ms", Better::Lower);
pub const CATCH_UP: Kind = kind("catch_up_seconds", "until all are live again", "s", Better::Lower);
pub const NEXT_EVENT: Kind = kind("next_event_seconds", "until the next event came", "s", Better::Lower);

/// A participant of a scenario.
#[derive(Clone, Debug)]
pub struct Contestant {
    pub name: String,
    pub role: Role,
    pub which: Which,
    /// What its watchers speak.
    pub transport: Transport,
    /// Number of events, chosen so that a run ends in a few seconds.
    pub events: u64,
}

impl Contestant {
    /// The same with watchers that speak this, which its name says.
    pub fn over(self, transport: Transport) -> Self {
        match transport {
            Transport::WebSocket => self,
            _ => Self { name: format!("{}, {}", self.name, transport.title()), transport, ..self },
        }
    }

    /// Starts its server.
    pub fn start(&self, pinning: &Pinning) -> Outcome<Server> {
        Ok(Server::start(&self.which, pinning)?.over(self.transport))
    }
}

/// The result of one run of one contestant.
#[derive(Default)]
pub struct Findings {
    pub figures: Vec<(Kind, f64)>,
    pub latency: Option<Histogram<u64>>,
    /// What was lost, repeated or out of order.
    pub complaint: Option<String>,
}

pub struct Lab {
    pub pinning: Pinning,
    pub runs: usize,
    pub peers: Vec<Peer>,
    /// A daemon that is already running, measured instead of one of our own.
    pub running: Option<(SocketAddr, PathBuf)>,
    /// The program that keeps the stream of daemons on a bus.
    pub nats_server: Option<PathBuf>,
    /// Connections that the file limit allows.
    pub room: usize,
    pub bar: ProgressBar,
}

impl Lab {
    /// Whether the load has its own core and need not sleep.
    pub fn spins(&self) -> bool {
        self.pinning.server.is_some()
    }

    /// luxcast as it is measured: one shard on its one core; the feed waits for watchers that read.
    pub fn luxcast(&self, name: &str, events: u64, flags: &[&str]) -> Contestant {
        let which = match &self.running {
            Some((address, ingest)) => Which::Running { address: *address, ingest: ingest.clone() },
            None => {
                let usual = [["--shards", "1"], ["--overrun", "wait"]];
                let usual = usual.iter().filter(|[name, _]| !flags.contains(name)).flatten();
                Which::Luxcast(usual.chain(flags).map(|&flag| flag.to_owned()).collect())
            }
        };
        Contestant {
            name: name.to_owned(),
            role: Role::Luxcast,
            which,
            transport: Transport::WebSocket,
            events,
        }
    }

    /// Measures each contestant once a run, one after the other, and collects the results.
    pub fn compare(
        &self,
        scenario: &str,
        contestants: &[Contestant],
        mut measure: impl FnMut(&Contestant, &mut dyn FnMut(f64)) -> Outcome<Findings>,
    ) -> Vec<ServerResult> {
        let mut results: Vec<ServerResult> = contestants.iter().map(empty_result).collect();
        let mut histograms: Vec<Option<Histogram<u64>>> = contestants.iter().map(|_| None).collect();
        for run in 0..self.runs {
            for (place, contestant) in contestants.iter().enumerate() {
                let result = &mut results[place];
                if result.error.is_some() {
                    continue;
                }
                let what = format!("{scenario}: {}, run {} of {}", contestant.name, run + 1, self.runs);
                self.bar.set_message(what);
                self.bar.set_position(0);
                match measure(contestant, &mut |part| self.bar.set_position((part * 1000.0) as u64)) {
                    Ok(findings) => note(result, &mut histograms[place], findings),
                    Err(error) => result.error = Some(error.to_string()),
                }
            }
        }
        for (result, histogram) in results.iter_mut().zip(&histograms) {
            result.latency = histogram.as_ref().map(latency);
        }
        results
    }
}

pub fn progress_bar() -> ProgressBar {
    let bar = ProgressBar::new(1000);
    let style = ProgressStyle::with_template("{bar:24} {msg}").expect("the template is valid");
    bar.set_style(style);
    bar
}

fn empty_result(contestant: &Contestant) -> ServerResult {
    ServerResult {
        name: contestant.name.clone(),
        role: contestant.role,
        figures: Vec::new(),
        latency: None,
        error: None,
    }
}

fn note(result: &mut ServerResult, histogram: &mut Option<Histogram<u64>>, findings: Findings) {
    for (kind, value) in findings.figures {
        match result.figures.iter_mut().find(|figure| figure.name == kind.name) {
            Some(figure) => figure.values.push(value),
            None => result.figures.push(Figure {
                name: kind.name.to_owned(),
                label: kind.label.to_owned(),
                unit: kind.unit.to_owned(),
                better: kind.better,
                values: vec![value],
            }),
        }
    }
    match (histogram, findings.latency) {
        (Some(sum), Some(more)) => sum.add(&more).expect("all histograms have the same bounds"),
        (histogram, more) => *histogram = more,
    }
    result.error = findings.complaint;
}

/// The figures of a histogram of nanoseconds.
pub fn latency_figures(histogram: &Histogram<u64>) -> Vec<(Kind, f64)> {
    let at = |quantile| millis(histogram.value_at_quantile(quantile));
    vec![(P50, at(0.5)), (P99, at(0.99)), (P999, at(0.999)), (LATENCY_MAX, millis(histogram.max()))]
}

fn latency(histogram: &Histogram<u64>) -> Latency {
    let curve = histogram
        .iter_quantiles(4)
        .map(|step| (step.quantile_iterated_to() * 100.0, millis(step.value_iterated_to())))
        .filter(|(percentile, _)| *percentile < 100.0)
        .collect();
    Latency { count: histogram.len(), max_ms: millis(histogram.max()), curve }
}

fn millis(nanos: u64) -> f64 {
    nanos as f64 / 1e6
}

/// The ratio of one server's figure to another's in each run; returns the median.
pub fn ratio(kind: Kind, of: &ServerResult, to: &ServerResult) -> Option<f64> {
    let (of, to) = (of.figure(kind.name)?, to.figure(kind.name)?);
    let mut ratios: Vec<f64> = of.values.iter().zip(&to.values).map(|(of, to)| of / to).collect();
    ratios.sort_by(f64::total_cmp);
    ratios.get(ratios.len() / 2).copied()
}
