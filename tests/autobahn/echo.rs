//! The daemon as an echo server, for the Autobahn suite: what the feature `echo` swaps is in `session::echo`.

use std::process::ExitCode;

use clap::Command;
use luxcast::cli::serve;
use luxcast::config;

fn main() -> ExitCode {
    serve::run(&config::add_flags(Command::new("echo")).get_matches())
}
