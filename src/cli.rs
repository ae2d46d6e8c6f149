//! The subcommands, one file each. A subcommand returns the exit code of the process: 0 clean, 1 runtime failure,
//! 2 usage or configuration.

mod backoff;
pub mod check_config;
mod connection;
mod ending;
mod event_line;
pub mod health;
mod logging;
pub mod publish;
pub mod record;
pub mod reference;
mod reload;
pub mod replay;
pub mod serve;
pub mod sim;
mod status_line;
pub mod tail;
pub mod token;
mod watch;

use std::env;
use std::io::Write;
use std::panic;
use std::path::PathBuf;
use std::process;
use std::thread;
use std::time::Duration;

use crate::config::default_ingest_path;

/// Wrong usage or configuration. (sysexits.h has other ideas; clap exits like this.)
const EXIT_USAGE: u8 = 2;

/// How long a panic may take to be reported: its message must not keep the process alive when nobody reads
/// standard error.
const PANIC_REPORT_LIMIT: Duration = Duration::from_secs(1);

/// From now on a panic in any thread ends the whole process, with its message and exit code 1: half a server
/// would be worse than none.
pub fn end_process_on_panic() {
    let report = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
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

/// Where publishers find the daemon unless told otherwise: `LUXCAST_INGEST`, as for the daemon itself, else the
/// path that it would choose.
pub fn default_ingest() -> PathBuf {
    let variable = env::var_os("LUXCAST_INGEST").filter(|path| !path.is_empty());
    variable.map_or_else(default_ingest_path, PathBuf::from)
}

/// One line on standard error. That nobody reads there is no reason to fail.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{}", event_line::visible(line));
}
