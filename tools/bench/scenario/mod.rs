//! The scenarios: one file each, one row each in the table.

mod bus;
mod fair;
mod fanout;
mod filter;
mod grow;
mod idle;
mod ingest;
mod ingest_http;
mod latency;
mod many;
mod past;
mod resume;
mod scrape;
pub mod setting;
mod single;
mod slow;
mod storm;
mod tls;
mod topics;

use clap::Args;

use crate::Outcome;
use crate::lab::Lab;
use crate::layout::Transport;
use crate::result::Scenario;

/// Options of the command line; each scenario has its own defaults and takes what its row says.
#[derive(Args, Clone, Debug, Default)]
pub struct Options {
    /// Number of watchers
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub watchers: Option<u64>,
    /// Number of jobs
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub topics: Option<u64>,
    /// Events for luxcast; floor and peers get a share, so that each run takes a few seconds
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub events: Option<u64>,
    /// Bytes of a delivered frame [default: 260, with --deflate 347]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(200..=65_000))]
    pub bytes: Option<u64>,
    /// Most events in transit at once
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub window: Option<u64>,
    /// Events a second
    #[arg(long, value_name = "N", value_delimiter = ',', value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub rates: Option<Vec<u64>>,
    /// Duration of each measurement in seconds
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=3_600))]
    pub seconds: Option<u64>,
    /// What watchers speak, separated by commas; luxcast over WebSocket is always beside it [default: websocket]
    #[arg(long, value_name = "NAMES", value_delimiter = ',', value_enum)]
    pub transport: Option<Vec<Transport>>,
    /// Publish over HTTP as well, beside the Unix socket
    #[arg(long)]
    pub http: bool,
    /// Compress as well, beside each server that can; all publish the text of real events. A daemon that is already running
    /// needs metrics_seconds = 0
    #[arg(long)]
    pub deflate: bool,
}

impl Row {
    /// Needs the program that keeps a stream.
    pub fn has_bus(&self) -> bool {
        self.name.starts_with(BUS)
    }
}

type Run = fn(&Lab, &Options) -> Outcome<Scenario>;

pub struct Row {
    pub name: &'static str,
    pub help: &'static str,
    /// The options that it takes, besides `bytes`.
    pub takes: &'static [&'static str],
    pub run: Run,
}

/// What the names of the scenarios begin with that need a bus; that word alone means all of them.
pub const BUS: &str = "bus";

pub const ROWS: [Row; 19] = [
    Row {
        name: "fanout",
        help: "1,000 watchers of one job, events as fast as they are delivered",
        takes: &["watchers", "events", "window", "transport", "deflate"],
        run: fanout::run,
    },
    Row {
        name: "latency",
        help: "1,000 watchers of one job at 50, 500, 2,000 and 10,000 events a second",
        takes: &["watchers", "rates", "seconds", "transport", "deflate"],
        run: latency::run,
    },
    Row {
        name: "single",
        help: "one watcher of one job at 100 events a second: nothing can be shared",
        takes: &["rates", "seconds", "deflate"],
        run: single::run,
    },
    Row {
        name: "topics",
        help: "10,000 watchers of 1,000 jobs, events round robin",
        takes: &["watchers", "topics", "events", "window", "deflate"],
        run: topics::run,
    },
    Row {
        name: "idle",
        help: "10,000 connections with nothing but heartbeats",
        takes: &["watchers", "seconds", "deflate"],
        run: idle::run,
    },
    Row {
        name: "filter",
        help: "1,000 and 10,000 watchers of one job, of which 10 want the events",
        takes: &["events", "window"],
        run: filter::run,
    },
    Row {
        name: "storm",
        help: "handshakes as fast as they are answered",
        takes: &["events"],
        run: storm::run,
    },
    Row {
        name: "tls",
        help: "what TLS costs: per handshake, per connection, per message",
        takes: &["watchers", "events", "deflate"],
        run: tls::run,
    },
    Row {
        name: "slow",
        help: "1,000 watchers of which 10 never read",
        takes: &["watchers", "events", "window", "seconds"],
        run: slow::run,
    },
    Row {
        name: "resume",
        help: "1,000 watchers come back at once with 10,000 events to catch up, beside 1,000 live ones",
        takes: &["watchers", "events", "transport", "deflate"],
        run: resume::run,
    },
    Row {
        name: "fair",
        help: "a quiet job's watcher beside a job with 10,000 watchers under load",
        takes: &["watchers", "seconds", "window"],
        run: fair::run,
    },
    Row {
        name: "scrape",
        help: "10,000 watchers while an operator asks for every connection each second, and without",
        takes: &["watchers", "topics", "rates", "seconds"],
        run: scrape::run,
    },
    Row {
        name: "many",
        help: "100,000 jobs known: what each costs, and that delivery costs no more",
        takes: &["topics", "events", "window"],
        run: many::run,
    },
    Row {
        name: "ingest",
        help: "events through one Unix socket with nobody watching; with --http over HTTP too, and beside watchers",
        takes: &["watchers", "events", "seconds", "http"],
        run: ingest::run,
    },
    Row {
        name: "grow",
        help: "how the cost of a message grows with watchers, with jobs, and with a second shard",
        takes: &["events", "window"],
        run: grow::run,
    },
    Row {
        name: "bus-ingest",
        help: "the feed of a daemon alone and of one on a bus",
        takes: &["events"],
        run: bus::run_ingest,
    },
    Row {
        name: "bus-latency",
        help: "alone, on a bus, and through another daemon at 50 and 1,000 events a second",
        takes: &["rates", "seconds"],
        run: bus::run_latency,
    },
    Row {
        name: "bus-return",
        help: "a daemon on a bus that was stopped, or starts with 256 MiB to read; a server that is killed",
        takes: &["events"],
        run: bus::run_return,
    },
    Row {
        name: "bus-past",
        help: "1,000 watchers ask for what the daemon has only in the stream, beside live ones",
        takes: &["watchers", "events"],
        run: past::run,
    },
];

impl Options {
    pub fn has(&self, transport: Transport) -> bool {
        match &self.transport {
            Some(transports) => transports.contains(&transport),
            None => transport == Transport::WebSocket,
        }
    }

    /// What of plain HTTP is to be measured.
    pub fn streams(&self) -> impl Iterator<Item = Transport> {
        [Transport::Sse, Transport::Ndjson].into_iter().filter(|transport| self.has(*transport))
    }

    /// Those that a scenario takes, where several are run.
    pub fn of(&self, row: &Row) -> Self {
        let takes = |name| row.takes.contains(&name);
        Self {
            watchers: self.watchers.filter(|_| takes("watchers")),
            topics: self.topics.filter(|_| takes("topics")),
            events: self.events.filter(|_| takes("events")),
            bytes: self.bytes,
            window: self.window.filter(|_| takes("window")),
            rates: self.rates.clone().filter(|_| takes("rates")),
            seconds: self.seconds.filter(|_| takes("seconds")),
            transport: self.transport.clone().filter(|_| takes("transport")),
            http: self.http && takes("http"),
            deflate: self.deflate && takes("deflate"),
        }
    }

    /// The given options that a scenario does not take.
    pub fn foreign_to(&self, row: &Row) -> Vec<&'static str> {
        let given = [
            ("watchers", self.watchers.is_some()),
            ("topics", self.topics.is_some()),
            ("events", self.events.is_some()),
            ("window", self.window.is_some()),
            ("rates", self.rates.is_some()),
            ("seconds", self.seconds.is_some()),
            ("transport", self.transport.is_some()),
            ("http", self.http),
            ("deflate", self.deflate),
        ];
        let foreign = given.iter().filter(|(name, is_given)| *is_given && !row.takes.contains(name));
        foreign.map(|(name, _)| *name).collect()
    }
}
