//! `luxcast check-config`: shows the settings in force and where each comes from. It opens the files that they name,
//! as a start does, and reports what would keep the daemon from starting here.

use std::env;
use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::ArgMatches;
use tracing::level_filters::LevelFilter;
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::{EXIT_USAGE, say};
use crate::config::{self, Loaded};
#[cfg(feature = "bus")]
use crate::net::bus::connect::BusConfig;
use crate::server::{self, forecast};

/// The flag that leaves out the list of settings.
pub const QUIET: &str = "quiet";

/// Prints one line a setting on standard output, unless it is to be quiet; warnings and errors go to standard error.
pub fn run(flags: &ArgMatches) -> ExitCode {
    let loaded = match config::load(flags, env::vars_os()) {
        Ok(loaded) => loaded,
        Err(error) => {
            say(&format!("luxcast: {error}"));
            return ExitCode::from(EXIT_USAGE);
        }
    };
    for warning in &loaded.warnings {
        say(&format!("luxcast: warning: {warning}"));
    }
    // Warnings about files go to the log, which prints them here in the same form.
    let warnings = tracing_subscriber::fmt()
        .with_max_level(LevelFilter::WARN)
        .event_format(Warning)
        .with_writer(|| Lenient)
        .finish();
    let live_config = tracing::subscriber::with_default(warnings, || server::live_config(&loaded.config));
    if let Err(error) = live_config.map(drop).and_then(|()| check_bus(&loaded)) {
        say(&format!("luxcast: {error}"));
        return ExitCode::from(EXIT_USAGE);
    }
    for warning in forecast::warnings(&loaded.config) {
        say(&format!("luxcast: warning: {warning}"));
    }
    if flags.get_flag(QUIET) {
        return ExitCode::SUCCESS;
    }
    match io::stdout().write_all(listing(&loaded).as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        // The reader has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("luxcast check-config: cannot write on standard output: {error}"));
            ExitCode::FAILURE
        }
    }
}

#[cfg(feature = "bus")]
fn check_bus(loaded: &Loaded) -> io::Result<()> {
    let Some(bus) = BusConfig::new(&loaded.config) else { return Ok(()) };
    bus.check()?;
    bus.open_files().iter().for_each(|words| say(&format!("luxcast: warning: {words}")));
    Ok(())
}

/// Without the feature the settings have been refused.
#[cfg(not(feature = "bus"))]
fn check_bus(_: &Loaded) -> io::Result<()> {
    Ok(())
}

/// Standard error, whose failures are ignored: the subscriber would fail with them.
struct Lenient;

impl Write for Lenient {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = io::stderr().write_all(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Formats a log line like a warning about the settings.
struct Warning;

impl<S, N> FormatEvent<S, N> for Warning
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        write!(writer, "luxcast: warning: ")?;
        context.format_fields(writer.by_ref(), event)?;
        writeln!(writer)
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
