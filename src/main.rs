//! The command line of `luxcast`.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Args, Command};
use luxcast::cli::event::EventArgs;
use luxcast::cli::jobs::JobsArgs;
use luxcast::cli::publish::PublishArgs;
use luxcast::cli::record::RecordArgs;
use luxcast::cli::reference::{self, CompletionsArgs, ManArgs};
use luxcast::cli::replay::ReplayArgs;
use luxcast::cli::run::RunArgs;
use luxcast::cli::sim::SimArgs;
use luxcast::cli::status::StatusArgs;
use luxcast::cli::tail::TailArgs;
use luxcast::cli::token::TokenArgs;
use luxcast::cli::{
    check_config, end_process_on_panic, event, health, jobs, publish, record, replay, run, serve, sim,
    status, tail, token, warn_of_variables,
};
use luxcast::config;

fn main() -> ExitCode {
    end_process_on_panic();
    let matches = command().get_matches();
    if let Some((name, _)) =
        matches.subcommand().filter(|(name, _)| !["serve", "check-config"].contains(name))
    {
        warn_of_variables(name);
    }
    match matches.subcommand() {
        Some(("serve", flags)) => serve::run(flags),
        Some(("check-config", flags)) => check_config::run(flags),
        Some(("health", flags)) => health::run(flags),
        Some(("publish", flags)) => publish::run(arguments::<PublishArgs>(flags)),
        Some(("run", flags)) => run::run(arguments::<RunArgs>(flags)),
        Some(("event", flags)) => event::run(arguments::<EventArgs>(flags)),
        Some(("tail", flags)) => tail::run(arguments::<TailArgs>(flags)),
        Some(("jobs", flags)) => jobs::run(arguments::<JobsArgs>(flags)),
        Some(("status", flags)) => status::run(arguments::<StatusArgs>(flags)),
        Some(("record", flags)) => record::run(arguments::<RecordArgs>(flags)),
        Some(("replay", flags)) => replay::run(arguments::<ReplayArgs>(flags)),
        Some(("sim", flags)) => sim::run(arguments::<SimArgs>(flags)),
        Some(("completions", flags)) => reference::complete(arguments::<CompletionsArgs>(flags), command()),
        Some(("man", flags)) => reference::man(arguments::<ManArgs>(flags), &command()),
        Some(("token", flags)) => token::run(arguments::<TokenArgs>(flags)),
        #[cfg(feature = "bus")]
        Some(("bus", flags)) => luxcast::cli::bus::run(flags),
        _ => unreachable!("clap lets no other subcommand pass"),
    }
}

fn command() -> Command {
    let serve = Command::new("serve").about("Run the daemon");
    let check_config =
        Command::new("check-config").about("Show the settings in force and where each comes from");
    let quiet = Arg::new(check_config::QUIET)
        .long(check_config::QUIET)
        .action(ArgAction::SetTrue)
        .help("Only check for errors; print no settings");
    let health = Command::new("health").about("Check whether the daemon with these settings is up");
    let publish = Command::new("publish").about("Send events from a file or standard input to the daemon");
    let run = Command::new("run").about("Run a program as a job");
    let event = Command::new("event").about("Send one event that is put together from the arguments");
    let tail = Command::new("tail").about("Watch a job, a flow or everything");
    let jobs = Command::new("jobs").about("List the jobs that the daemon knows");
    let status = Command::new("status").about("Show a job as it is now");
    let record = Command::new("record").about("Write the events of a job, a flow or everything to a file");
    let replay = Command::new("replay").about("Send recorded events to the daemon at their recorded pace");
    let sim = Command::new("sim").about("Simulate a workflow engine that feeds the daemon");
    let token = Command::new("token").about("Make a token, or sign a JSON Web Token");
    let completions = Command::new("completions").about("Print a shell completion script");
    let man = Command::new("man").about("Print a manual page");
    let luxcast = Command::new("luxcast")
        .about("Streams the live events of workflow jobs to any number of watchers, over WebSocket and plain HTTP")
        .version(env!("CARGO_PKG_VERSION"))
        .propagate_version(true)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(config::add_flags(serve))
        .subcommand(config::add_flags(check_config).arg(quiet))
        .subcommand(config::add_flags(health))
        .subcommand(PublishArgs::augment_args(publish))
        .subcommand(RunArgs::augment_args(run))
        .subcommand(EventArgs::augment_args(event))
        .subcommand(TailArgs::augment_args(tail))
        .subcommand(JobsArgs::augment_args(jobs))
        .subcommand(StatusArgs::augment_args(status))
        .subcommand(RecordArgs::augment_args(record))
        .subcommand(ReplayArgs::augment_args(replay))
        .subcommand(SimArgs::augment_args(sim))
        .subcommand(TokenArgs::augment_args(token));
    #[cfg(feature = "bus")]
    let luxcast = luxcast.subcommand(luxcast::cli::bus::command());
    luxcast.subcommand(CompletionsArgs::augment_args(completions)).subcommand(ManArgs::augment_args(man))
}

/// Values that clap refuses end the process with exit code 2, as all wrong usage does.
fn arguments<A: Args>(matches: &ArgMatches) -> A {
    A::from_arg_matches(matches).unwrap_or_else(|error| error.exit())
}

#[cfg(test)]
mod tests {
    use super::command;

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn arguments_do_not_bring_another_title() {
        for subcommand in command().get_subcommands() {
            let about = subcommand.get_about().map(ToString::to_string);
            let begins = [
                "List ",
                "Run ",
                "Show ",
                "Send ",
                "Watch ",
                "Write ",
                "Simulate ",
                "Make ",
                "Print ",
                "Check ",
            ];
            assert!(about.is_some_and(|about| begins.iter().any(|begin| about.starts_with(begin))));
        }
    }

    #[test]
    fn every_subcommand_says_what_it_does() {
        let luxcast = command();
        let of_all =
            luxcast.get_subcommands().flat_map(|one| std::iter::once(one).chain(one.get_subcommands()));
        for subcommand in of_all {
            assert!(subcommand.get_about().is_some(), "{}", subcommand.get_name());
            for argument in subcommand.get_arguments() {
                let has_help = argument.get_help().is_some();
                assert!(has_help, "{} {}", subcommand.get_name(), argument.get_id());
            }
        }
    }
}
