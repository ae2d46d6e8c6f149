//! `luxcast completions` and `luxcast man`, made from the same definitions as `--help`.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Command, ValueHint};
use clap_complete::Shell;

use crate::cli;

#[derive(Debug, clap::Args)]
pub struct CompletionsArgs {
    /// Shell to complete for
    #[arg(value_name = "SHELL")]
    pub shell: Shell,
}

#[derive(Debug, clap::Args)]
pub struct ManArgs {
    /// Command whose page to print [default: luxcast itself]
    #[arg(value_name = "COMMAND", value_hint = ValueHint::Other)]
    pub command: Option<String>,
}

/// Exit code 0: printed. 1: standard output failed.
pub fn complete(args: CompletionsArgs, mut command: Command) -> ExitCode {
    let mut script = Vec::new();
    let name = command.get_name().to_owned();
    clap_complete::generate(args.shell, &mut command, name, &mut script);
    print("completions", &script)
}

/// Exit code 0: printed. 1: standard output failed. 2: there is no such command.
pub fn man(args: ManArgs, command: &Command) -> ExitCode {
    match page(command, args.command.as_deref()) {
        Ok(page) => print("man", &page),
        Err(problem) => {
            cli::say(&format!("luxcast man: {problem}"));
            ExitCode::from(cli::EXIT_USAGE)
        }
    }
}

fn print(command: &str, text: &[u8]) -> ExitCode {
    match io::stdout().lock().write_all(text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            cli::say(&format!("luxcast {command}: cannot write on standard output: {error}"));
            ExitCode::from(1)
        }
    }
}

/// In roff. A subcommand's page is named `luxcast-NAME`, and shows the command as `luxcast NAME`.
fn page(command: &Command, subcommand: Option<&str>) -> Result<Vec<u8>, String> {
    let mut command = command.clone().disable_help_subcommand(true);
    // Adds the options that all subcommands share.
    command.build();
    let wanted = match subcommand {
        None => command,
        Some(name) => {
            let (words, found) = find(&command, name).ok_or_else(|| format!("there is no command {name}"))?;
            let program = command.get_name();
            found.clone().name(format!("{program}-{name}")).bin_name(format!("{program} {words}"))
        }
    };
    let mut page = Vec::new();
    let rendered = clap_mangen::Man::new(wanted).render(&mut page);
    rendered.map(|()| page).map_err(|error| error.to_string())
}

/// A command by the name of its page, `bus-create`, and as it is typed, `bus create`.
fn find<'a>(command: &'a Command, name: &str) -> Option<(String, &'a Command)> {
    if let Some(found) = command.find_subcommand(name) {
        return Some((name.to_owned(), found));
    }
    command.get_subcommands().find_map(|outer| {
        let inner = name.strip_prefix(outer.get_name())?.strip_prefix('-')?;
        let (words, found) = find(outer, inner)?;
        Some((format!("{} {words}", outer.get_name()), found))
    })
}

#[cfg(test)]
mod tests {
    use clap::{Arg, Command};

    use super::page;

    fn command() -> Command {
        let watch =
            Command::new("watch").about("Watch it").arg(Arg::new("job").long("job").help("Only this job"));
        let program = Command::new("program").about("Streams events").version("1.2.3");
        let fast = Command::new("fast").about("Fly fast");
        program.propagate_version(true).subcommand(watch.subcommand(fast))
    }

    #[test]
    fn each_command_has_its_page() {
        let text = |name| String::from_utf8(page(&command(), name).unwrap()).unwrap();
        let own = text(None);
        assert!(own.contains(".TH program 1") && own.contains("program\\-watch(1)"), "{own}");
        let watch = text(Some("watch"));
        assert!(watch.contains(".TH program-watch 1") && watch.contains("Only this job"), "{watch}");
        assert!(watch.contains(r"\fBprogram watch\fR") && watch.contains("1.2.3"), "{watch}");
        let fast = text(Some("watch-fast"));
        assert!(
            fast.contains(".TH program-watch-fast 1") && fast.contains(r"\fBprogram watch fast\fR"),
            "{fast}"
        );
        for name in ["fly", "watch-", "watch-slow", "watchfast"] {
            assert!(page(&command(), Some(name)).is_err(), "{name}");
        }
    }
}
