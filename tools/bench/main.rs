//! luxcast-bench: measures the daemon, a floor (the least that any server could do), and other servers that people
//! use for the same work. Every message is checked.
//!
//! `lab` compares contestants run by run; a `scenario` says what is measured; `load` is one measurement: a `crowd` of
//! watchers, a `feed`, a `server` between them. `result` holds the outcome, for `table`, JSON and `report`.
#![doc = include_str!("README.md")]
#![forbid(unsafe_code)]

mod crowd;
mod feed;
mod floor;
mod format;
mod lab;
mod layout;
mod load;
mod machine;
mod nats;
mod peers;
mod plan;
mod posts;
mod process;
mod report;
mod result;
mod scenario;
mod sealed;
mod server;
mod table;
mod tally;
mod text;
mod wire;
mod witness;

use std::error::Error;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::floor::FloorArgs;
use crate::lab::{Lab, progress_bar};
use crate::machine::Pinning;
use crate::peers::{PEERS, Peer};
use crate::plan::PlanArgs;
use crate::result::Report;
use crate::scenario::{BUS, Options, ROWS, Row};

type Outcome<T> = Result<T, Box<dyn Error>>;

const EXIT_USAGE: u8 = 2;

/// Measure luxcast, a floor and other servers; check every message
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true, after_help = scenario_help())]
struct CommandLine {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    bench: BenchArgs,
}

#[derive(Subcommand)]
enum Command {
    /// Estimate what a machine needs for a load, from figures measured on this one
    Plan(PlanArgs),
    #[command(hide = true)]
    FloorServer(FloorArgs),
    #[command(hide = true)]
    DoorServer,
}

#[derive(Args)]
struct BenchArgs {
    /// Scenarios to run (see below), or all, or bus
    #[arg(required = true, value_name = "SCENARIO")]
    scenarios: Vec<String>,
    #[command(flatten)]
    options: Options,
    /// Runs of each measurement; figures are medians
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=100))]
    runs: u64,
    /// Other servers to measure: all, none, or their names, separated by commas
    #[arg(long, value_name = "NAMES", default_value = "none", value_delimiter = ',')]
    peers: Vec<String>,
    /// Measure a running daemon, given as ws://HOST:PORT, with --ingest
    #[arg(long, requires = "ingest", value_parser = parse_url)]
    url: Option<SocketAddr>,
    /// The Unix socket of the running daemon
    #[arg(long, value_name = "PATH", requires = "url")]
    ingest: Option<PathBuf>,
    /// The program under the scenarios that begin with bus; tools/test installs one as target/nats/VERSION/nats-server
    #[arg(long, value_name = "PATH")]
    nats_server: Option<PathBuf>,
    /// Write the result as JSON; - is standard output, in place of the table
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the result as an HTML page
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

fn scenario_help() -> String {
    let rows = ROWS.iter().map(|row| {
        let takes: Vec<String> = row.takes.iter().map(|option| format!("--{option}")).collect();
        format!("  {:<11} {} [{}]\n", row.name, row.help, takes.join(" "))
    });
    let peers: Vec<&str> = PEERS.iter().map(|peer| peer.name).collect();
    format!(
        "Scenarios, and the options that each takes besides --bytes:\n{}\n\
         bus means the four that begin with it. They need --nats-server; without it, all leaves them out.\n\nPeers: {}.\n\
         Exit codes: 0 measured; 1 something was lost, doubled or failed; 2 wrong usage.",
        rows.collect::<String>(),
        peers.join(", ")
    )
}

fn parse_url(text: &str) -> Result<SocketAddr, String> {
    let address = text.strip_prefix("ws://").unwrap_or(text).trim_end_matches('/');
    let mut addresses = address.to_socket_addrs().map_err(|error| error.to_string())?;
    addresses.next().ok_or_else(|| "no address".to_owned())
}

fn main() -> ExitCode {
    let command_line = CommandLine::parse();
    let done = match &command_line.command {
        Some(Command::Plan(arguments)) => plan::run(arguments).map(|()| true),
        Some(Command::FloorServer(arguments)) => floor::serve(arguments).map(|()| true),
        Some(Command::DoorServer) => floor::serve_door().map(|()| true),
        None => match rows(&command_line.bench) {
            Ok(rows) => bench(&command_line.bench, &rows),
            Err(message) => {
                eprintln!("luxcast-bench: {message}");
                return ExitCode::from(EXIT_USAGE);
            }
        },
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("luxcast-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The requested scenarios.
fn rows(arguments: &BenchArgs) -> Result<Vec<&'static Row>, String> {
    let mut rows = Vec::new();
    for name in &arguments.scenarios {
        if name == "all" {
            rows.extend(ROWS.iter().filter(|row| arguments.nats_server.is_some() || !row.has_bus()));
            continue;
        }
        if name == BUS {
            rows.extend(ROWS.iter().filter(|row| row.has_bus()));
            continue;
        }
        let row = ROWS.iter().find(|row| row.name == name);
        rows.push(row.ok_or_else(|| format!("there is no scenario {name}; --help lists them"))?);
    }
    // With several scenarios, an option applies to those that take it.
    if let [row] = rows[..]
        && let Some(option) = arguments.options.foreign_to(row).first()
    {
        return Err(format!("{} does not take --{option}", row.name));
    }
    if let Some(row) = rows.iter().find(|row| row.has_bus()) {
        match &arguments.nats_server {
            None => return Err(format!("{} needs --nats-server PATH; tools/test installs one", row.name)),
            Some(path) if !path.is_file() => {
                return Err(format!("--nats-server {}: no such file", path.display()));
            }
            Some(_) if arguments.url.is_some() => return Err(format!("{} takes no --url", row.name)),
            Some(_) => {}
        }
    }
    peers(&arguments.peers).map(|_| rows)
}

fn peers(names: &[String]) -> Result<Vec<Peer>, String> {
    match names {
        [one] if one == "none" => Ok(Vec::new()),
        [one] if one == "all" => Ok(PEERS.to_vec()),
        names => names
            .iter()
            .map(|name| {
                let peer = PEERS.iter().find(|peer| peer.name == name);
                peer.copied().ok_or_else(|| format!("there is no peer {name}; --help lists them"))
            })
            .collect(),
    }
}

/// Measures and reports. False: something was lost, repeated or failed.
fn bench(arguments: &BenchArgs, rows: &[&'static Row]) -> Outcome<bool> {
    let begun = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let cores = machine::cores();
    let mut lab = Lab {
        // Installation may use all cores, so it comes first.
        peers: set_up(&peers(&arguments.peers)?),
        room: machine::raise_file_limit()?,
        pinning: Pinning::apply(),
        runs: arguments.runs as usize,
        nats_server: arguments.nats_server.clone(),
        running: arguments.url.zip(arguments.ingest.clone()),
        bar: progress_bar(),
    };
    if lab.running.is_some() {
        lab.pinning.server = None;
    }
    let mut report = Report {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        begun,
        command: std::env::args().collect::<Vec<_>>().join(" "),
        machine: machine::describe(&lab.pinning, cores),
        runs: lab.runs,
        scenarios: Vec::new(),
    };
    for row in rows {
        report.scenarios.push((row.run)(&lab, &arguments.options.of(row))?);
    }
    lab.bar.finish_and_clear();
    write_results(arguments, &report)?;
    let mut servers = report.scenarios.iter().flat_map(|scenario| &scenario.servers);
    Ok(servers.all(|server| server.error.is_none()))
}

/// The peers that are present or could be installed; the others are named.
fn set_up(peers: &[Peer]) -> Vec<Peer> {
    let mut able = Vec::new();
    for peer in peers {
        eprintln!("setting up {}", peer.title);
        match peer.set_up() {
            Ok(()) => able.push(*peer),
            Err(error) => eprintln!("luxcast-bench: {} is left out: {error}", peer.title),
        }
    }
    able
}

fn write_results(arguments: &BenchArgs, report: &Report) -> Outcome<()> {
    if let Some(path) = &arguments.report {
        let mut file = create(path)?;
        report::write_html(report, &mut file)?;
        file.flush()?;
    }
    if let Some(path) = &arguments.json {
        let mut text = serde_json::to_string_pretty(report)?;
        text.push('\n');
        if path.as_os_str() == "-" {
            return Ok(io::stdout().write_all(text.as_bytes())?);
        }
        let mut file = create(path)?;
        file.write_all(text.as_bytes())?;
        file.flush()?;
    }
    Ok(table::write(report, &mut io::stdout().lock())?)
}

fn create(path: &PathBuf) -> Outcome<BufWriter<File>> {
    let file = File::create(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(BufWriter::new(file))
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::{CommandLine, ROWS, rows};

    #[test]
    fn the_command_line_is_consistent_and_names_each_scenario() {
        CommandLine::command().debug_assert();
        let help = CommandLine::command().render_help().to_string();
        assert!(ROWS.iter().all(|row| help.contains(row.name)));
    }

    #[test]
    fn an_option_applies_to_the_scenarios_that_take_it() {
        let words = ["luxcast-bench", "fanout", "filter", "--topics", "5", "--deflate", "--events", "7"];
        let bench = CommandLine::parse_from(words).bench;
        let [fanout, filter] = rows(&bench).expect("each is taken by one")[..] else {
            panic!("two scenarios")
        };
        let of = |row| bench.options.of(row);
        assert_eq!((of(fanout).topics, of(fanout).events, of(fanout).deflate), (None, Some(7), true));
        assert_eq!((of(filter).events, of(filter).deflate), (Some(7), false));
    }

    #[test]
    fn a_bus_needs_the_program_that_keeps_its_stream() {
        let of = |words: &[&str]| {
            let command_line = CommandLine::parse_from([&["luxcast-bench"], words].concat());
            rows(&command_line.bench).map(|rows| rows.len())
        };
        assert!(of(&["bus"]).is_err_and(|error| error.contains("--nats-server")));
        assert!(of(&["bus", "--nats-server", "/nowhere"]).is_err_and(|error| error.contains("/nowhere")));
        let own = std::env::current_exe().expect("a running test is a file");
        let own = own.to_str().expect("its path is text");
        assert_eq!(of(&["bus", "--nats-server", own]), Ok(4));
        assert_eq!(of(&["all", "--nats-server", own]), Ok(ROWS.len()));
        assert_eq!(of(&["all"]), Ok(ROWS.len() - 4));
        let elsewhere =
            ["bus-ingest", "--nats-server", own, "--url", "ws://127.0.0.1:1", "--ingest", "/nowhere"];
        assert!(of(&elsewhere).is_err_and(|error| error.contains("--url")));
    }
}
