//! `luxcast serve`: runs the daemon in the foreground, from its settings to its exit code.

use std::env;
use std::io::{self, IsTerminal, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{self, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use clap::ArgMatches;
use crossbeam_channel::{Sender, bounded};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::signal_name;
use tracing::Level;

use super::EXIT_USAGE;
use super::logging::{LevelSwitch, Logging};
use super::reload::Reload;
use super::sim::{demo_job, run_demo};
use crate::config::{self, Loaded};
use crate::net::host::service_manager;
use crate::net::shard::live_config::LiveConfig;
use crate::server::{self, Server, StartError};
use crate::sim::MAIN_FLOW;

/// How long a last line may take to be written.
const LAST_LINE: Duration = Duration::from_millis(100);

/// Runs until the daemon has drained.
pub fn run(flags: &ArgMatches) -> ExitCode {
    let loaded = match config::load(flags, env::vars_os()) {
        Ok(loaded) => loaded,
        Err(error) => {
            super::say(&format!("luxcast: {error}"));
            return ExitCode::from(EXIT_USAGE);
        }
    };
    let (logging, level) = Logging::start(loaded.config.log_level, loaded.config.log_format);
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let live_config = match server::live_config(&loaded.config) {
        Ok(live_config) => live_config,
        Err(error) => {
            logging.say(Level::ERROR, &format!("luxcast: {error}\n"));
            return ExitCode::from(EXIT_USAGE);
        }
    };
    let served = serve(flags, loaded, live_config, &logging, level);
    let unreported = logging.dropped.take_unreported();
    if unreported > 0 {
        tracing::warn!("{unreported} log lines were dropped");
    }
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let level = if matches!(error, StartError::Interrupted) { Level::INFO } else { Level::ERROR };
            logging.say(level, &format!("luxcast: {error}\n"));
            match error {
                StartError::Interrupted => ExitCode::SUCCESS,
                StartError::Setting(_) => ExitCode::from(EXIT_USAGE),
                StartError::System(_) => ExitCode::FAILURE,
            }
        }
    }
}

fn serve(
    flags: &ArgMatches,
    loaded: Loaded,
    live_config: LiveConfig,
    logging: &Logging,
    level: LevelSwitch,
) -> Result<(), StartError> {
    // Before anything can be reached, so that from then on no signal has its default action.
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    let (is_demo, shares_stream) = (loaded.config.demo, !loaded.config.bus.is_empty());
    let asks_for_tokens = loaded.config.asks_for_tokens();
    let must_stop = || signals.pending().any(|signal| signal != SIGHUP);
    let server = Arc::new(Server::start(loaded.config.clone(), live_config, must_stop)?);
    let dropped = logging.dropped.clone();
    server.counters.count_dropped_lines(move || dropped.lines() as u64);
    let stopping = Arc::new(AtomicBool::new(false));
    // One place: a waiting request will see the newest settings, so no other needs to wait.
    let (reload_wanted, reload_requests) = bounded(1);
    let reload = Reload { flags: flags.clone(), loaded, server: server.clone(), level };
    spawn("reload", move || reload.run(reload_requests))?;
    spawn("signals", {
        let (server, stopping) = (server.clone(), stopping.clone());
        move || obey(signals, &server, &stopping, &reload_wanted)
    })?;
    tracing::info!("{}", started(&server));
    if let Err(error) = announce(&server, &mut io::stdout().lock()) {
        tracing::warn!("nobody reads the ready lines: {error}");
    }
    service_manager::ready();
    if is_demo {
        let ingest = server.ingest().to_path_buf();
        let program = env::args_os().next().map_or(PathBuf::from("luxcast"), PathBuf::from);
        let job = demo_job(shares_stream);
        let program = program.display().to_string();
        let hint = demo_hint(&program, server.scheme(), server.listening()[0], &job, asks_for_tokens);
        spawn("demo", move || run_demo(ingest, job, stopping))?;
        logging.say(Level::INFO, &hint);
    }
    Ok(server.wait()?)
}

/// One line about the start, easy to find in a log of many runs.
fn started(server: &Server) -> String {
    let mut line = format!("luxcast {} has started:", env!("CARGO_PKG_VERSION"));
    for address in server.listening() {
        line.push_str(&format!(" {}://{address},", server.scheme()));
    }
    if let Some(address) = server.admin() {
        line.push_str(&format!(" admin http://{address},"));
    }
    line.push_str(&format!(" ingest {}", server.ingest().display()));
    line
}

/// SIGHUP reloads, unless it came because the daemon's terminal was closed: then it ends the daemon as the other
/// signals do. The first of those drains, the second ends the process at once.
fn obey(mut signals: Signals, server: &Server, stopping: &AtomicBool, reload_wanted: &Sender<()>) {
    let has_terminal = || io::stderr().is_terminal();
    let had_terminal = has_terminal();
    for signal in signals.forever() {
        if signal == SIGHUP && had_terminal == has_terminal() {
            // Full: a reload is requested already.
            let _ = reload_wanted.try_send(());
            continue;
        }
        if stopping.swap(true, Ordering::Relaxed) {
            tracing::warn!("ending at once on a second signal");
            // The log has a thread of its own.
            thread::sleep(LAST_LINE);
            // The exit code of a runtime failure: work in progress was cut off.
            process::exit(1);
        }
        tracing::info!("draining on {}", signal_name(signal).unwrap_or("a signal"));
        service_manager::stopping();
        server.drain();
    }
}

/// The ready lines: a program that starts the daemon may read addresses and path from them. Nothing else is ever
/// written there.
fn announce(server: &Server, out: &mut impl Write) -> io::Result<()> {
    for address in server.listening() {
        writeln!(out, "listening {}://{address}", server.scheme())?;
    }
    if let Some(address) = server.admin() {
        writeln!(out, "admin http://{address}")?;
    }
    writeln!(out, "ingest {}", server.ingest().display())?;
    out.flush()
}

/// Says where to look, and what to type in another terminal.
fn demo_hint(program: &str, scheme: &str, listening: SocketAddr, job: &str, asks_for_tokens: bool) -> String {
    let mut further = Vec::new();
    if scheme == "wss" {
        further.push(
            "a name that is in the certificate, as --url wss://NAME:PORT, and --ca FILE if it signs itself",
        );
    }
    if asks_for_tokens {
        further.push("a token in LUXCAST_TOKEN");
    }
    let further = match further.is_empty() {
        true => String::new(),
        false => format!("These commands need {}.\n\n", further.join("; and ")),
    };
    let url = format!("{scheme}://{}", reachable(listening));
    let page = url.replacen("ws", "http", 1);
    format!(
        "\nA simulated workflow engine feeds this daemon. Watch it in a browser:\n\
         \n    {page}/console/\n\
         \nor from another terminal:\n\
         \n    everything         {program} tail --all --url {url}\
         \n    one running job    {program} tail --job {job} --url {url}\
         \n    one flow           {program} tail --flow {MAIN_FLOW} --url {url}\n\n{further}"
    )
}

/// An address to connect to: loopback if the daemon listens on all addresses.
pub(super) fn reachable(listening: SocketAddr) -> SocketAddr {
    let ip = match listening.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, listening.port())
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().name(name.to_string()).spawn(work).map(drop)
}

#[cfg(test)]
mod tests {
    use super::{demo_hint, reachable};

    #[test]
    fn the_hint_has_commands_to_copy() {
        let address = "127.0.0.1:20555".parse().unwrap();
        let hint = demo_hint("target/release/luxcast", "ws", address, "demo-job", false);
        for command in [
            "target/release/luxcast tail --all --url ws://127.0.0.1:20555\n",
            "target/release/luxcast tail --job demo-job --url ws://127.0.0.1:20555\n",
            "target/release/luxcast tail --flow etl_flow --url ws://127.0.0.1:20555\n",
        ] {
            assert!(hint.contains(command), "{hint}");
        }
        assert!(!hint.contains("need"), "{hint}");
        let hint = demo_hint("luxcast", "wss", address, "demo-job", true);
        assert!(hint.contains("--ca FILE") && hint.contains("LUXCAST_TOKEN"), "{hint}");
    }

    #[test]
    fn nobody_connects_to_all_addresses() {
        for (listening, expected) in [
            ("0.0.0.0:1", "127.0.0.1:1"),
            ("[::]:2", "[::1]:2"),
            ("192.0.2.1:3", "192.0.2.1:3"),
            ("[::1]:4", "[::1]:4"),
        ] {
            assert_eq!(reachable(listening.parse().unwrap()), expected.parse().unwrap());
        }
    }
}
