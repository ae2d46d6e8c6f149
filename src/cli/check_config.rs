//! `luxcast check-config`: the settings in force, and where each comes from.

use std::env;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::ArgMatches;

use super::EXIT_USAGE;
use crate::config::{self, Loaded};
use crate::server;

/// Prints on standard output one line a setting; warnings and errors go to standard error.
pub fn run(flags: &ArgMatches) -> ExitCode {
    let loaded = match config::load(flags, env::vars_os()) {
        Ok(loaded) => loaded,
        Err(error) => {
            eprintln!("luxcast: {error}");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    for warning in &loaded.warnings {
        eprintln!("luxcast: warning: {warning}");
    }
    if let Err(error) = server::terms(&loaded.config) {
        eprintln!("luxcast: {error}");
        return ExitCode::from(EXIT_USAGE);
    }
    match io::stdout().write_all(listing(&loaded).as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read it has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("luxcast: cannot write the settings: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Columns: setting, value, where it comes from.
fn listing(loaded: &Loaded) -> String {
    let rows: Vec<[String; 3]> = loaded
        .effective()
        .map(|(setting, value, source)| [setting.name.to_string(), value, source.place(setting)])
        .collect();
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let (name_width, value_width) = (width(0), width(1));
    let lines = rows
        .iter()
        .map(|[name, value, place]| format!("{name:name_width$}  {value:value_width$}  {place}\n"));
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::listing;
    use crate::config::{add_flags, load};

    #[test]
    fn each_setting_has_a_line_with_its_value_and_source() {
        let command = add_flags(clap::Command::new("check-config"));
        let flags = command.get_matches_from(["check-config", "--listen", "[::1]:1"]);
        let text = listing(&load(&flags, [("LUXCAST_SHARDS".into(), "3".into())]).unwrap());
        let row = |name: &str| -> Vec<&str> {
            let row = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
            row.into_iter().find(|words| words[0] == name).expect(name)
        };
        assert_eq!(row("listen"), ["listen", "[::1]:1", "--listen"]);
        assert_eq!(row("shards"), ["shards", "3", "LUXCAST_SHARDS"]);
        assert_eq!(row("overrun"), ["overrun", "gap", "default"]);
    }
}
