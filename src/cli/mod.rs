//! The subcommands, one file each. A subcommand returns the exit code of the process: 0 for success, 1 for a runtime
//! failure, 2 for wrong usage or configuration, 3 if how a job ended is unknown.
#![doc = include_str!("README.md")]

mod address;
mod answer;
mod arrivals;
mod backoff;
mod body;
#[cfg(feature = "bus")]
pub mod bus;
#[cfg(feature = "bus")]
mod bus_check;
pub mod check_config;
mod connection;
mod daemon_args;
mod earlier;
mod ending;
pub mod event;
mod event_line;
mod feed;
mod feed_url;
pub mod health;
mod input_lines;
mod job_events;
mod job_list;
pub mod jobs;
mod logging;
mod messages;
mod outlet;
mod palette;
mod post;
mod posting;
pub mod publish;
mod publish_http;
pub mod record;
mod recording;
pub mod reference;
mod refusal;
mod reload;
pub mod replay;
pub mod run;
pub mod serve;
pub mod sim;
mod span;
pub mod status;
mod status_line;
mod summary;
pub mod tail;
mod teller;
pub mod token;
mod transport;
mod trust;
mod unjudged;
mod watch;
mod watch_args;

use std::env;
use std::io::Write;
use std::panic;
use std::process;
use std::thread;
use std::time::Duration;

use crate::config::unknown_variables;

/// Wrong usage or configuration, as clap exits. (sysexits.h differs.)
const EXIT_USAGE: u8 = 2;

/// How long a panic may take to be reported: its message must not keep the process alive when nobody reads
/// standard error.
const PANIC_REPORT_LIMIT: Duration = Duration::from_secs(1);

/// From now on a panic in any thread ends the whole process, with its message and exit code 1: half a server
/// would be worse than none. Only the client of the bus may die, and is made anew.
pub fn end_process_on_panic() {
    let report = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        #[cfg(feature = "bus")]
        if crate::net::bus::client::outlives(panic) {
            return;
        }
        let watchdog = thread::Builder::new().spawn(|| {
            thread::sleep(PANIC_REPORT_LIMIT);
            process::exit(1);
        });
        if watchdog.is_ok() {
            report(panic);
        }
        process::exit(1);
    }));
}

/// Warns of unknown variables, which may be mistyped ones. `serve` and `check-config` report them with their settings.
pub fn warn_of_variables(command: &str) {
    for warning in unknown_variables(&env::vars_os().collect::<Vec<_>>()) {
        say(&format!("luxcast {command}: warning: {warning}"));
    }
}

/// Writes one line to standard error; a failure is ignored.
fn say(line: &str) {
    let mut text = event_line::visible(line);
    text.push('\n');
    // In one write, so that no other line comes in between.
    let _ = std::io::stderr().write_all(text.as_bytes());
}
