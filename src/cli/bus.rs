//! `luxcast bus create | check | new-epoch`: the stream that daemons on many hosts share. A daemon never changes it.

use std::env;
use std::fmt::Write;
use std::io;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};
use serde_json::{Value, json};

use super::bus_check::{Finding, findings};
use super::{EXIT_USAGE, say};
use crate::bus::chunk::Bounds;
use crate::bus::numbers::{Epochs, LAG_MAX, NumbersError, PLACES};
use crate::config::{self, Config};
use crate::net::bus::admin::{Admin, UNAVAILABLE};
use crate::net::bus::connect::BusConfig;
use crate::net::bus::stream_config::{
    self, MAX_AGE_SECONDS_MIN, NewStream, age_fault, epochs, faults, shown,
};
use crate::net::clock::unix_micros;

#[derive(Debug, Args)]
struct CreateArgs {
    /// Servers that keep a copy of the stream: 3, or 1 where there is only one [default: 3]
    #[arg(long, value_name = "COPIES", value_parser = clap::value_parser!(u64).range(1..=5))]
    replicas: Option<u64>,
    /// Drop events that are older. With less than 1200, a publisher that comes back late may have lines taken twice
    /// [default: none is too old]
    #[arg(
        long,
        value_name = "SECONDS",
        value_parser = clap::value_parser!(u64).range(MAX_AGE_SECONDS_MIN..=1 << 32)
    )]
    max_age: Option<u64>,
    /// Drop the oldest events when the stream is larger [default: no limit]
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u64).range(1 << 20..=1 << 60))]
    max_bytes: Option<u64>,
    /// Number events above this one: the newest that watchers have, of one daemon or of a stream that was here before. At over
    /// 977 messages a second a stream gets ahead of the time [default: the time in microseconds]
    #[arg(long, value_name = "STREAM_SEQ", value_parser = clap::value_parser!(u64).range(..1 << 53))]
    after: Option<u64>,
}

#[derive(Debug, Args)]
struct NewEpochArgs {
    /// Number events above this one, the newest that any daemon has given
    #[arg(long, value_name = "STREAM_SEQ", value_parser = clap::value_parser!(u64).range(..1 << 53))]
    after: u64,
    /// First message with new numbers, and of another stream 1: watchers get what comes from there on as new [default: the
    /// next message]
    #[arg(long, value_name = "MESSAGE", value_parser = clap::value_parser!(u64).range(1..))]
    from: Option<u64>,
    /// Begin it also where the numbers are above --after already, as in a stream that has lost nothing: watchers may see
    /// events again
    #[arg(long)]
    force: bool,
}

/// The command with its three subcommands.
pub fn command() -> Command {
    let create = Command::new("create").about("Make the stream, or see that it is right");
    let check =
        Command::new("check").about("Show what of the servers and the stream is right and what is not");
    let new_epoch =
        Command::new("new-epoch").about("Begin with larger numbers, after the stream has lost its end");
    let yes =
        Arg::new("yes").long("yes").action(ArgAction::SetTrue).help("Do it; without this, only show it");
    Command::new("bus")
        .about("Make and check the stream that daemons on many hosts share")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(config::add_bus_flags(CreateArgs::augment_args(create)))
        .subcommand(config::add_bus_flags(check))
        .subcommand(config::add_bus_flags(NewEpochArgs::augment_args(new_epoch).arg(yes)))
}

/// Whoever has read the stream before this one wrote to it has written by then.
const OTHERS_PAUSE: Duration = Duration::from_secs(1);

/// How a subcommand ends that had no success.
enum Failure {
    /// Wrong usage or settings.
    Usage(String),
    Failed(String),
}

impl From<String> for Failure {
    fn from(words: String) -> Self {
        Self::Failed(words)
    }
}

/// Exit code 0: the stream is as it should be. 1: it is not, or no server answers. 2: a flag or a setting is wrong.
pub fn run(matches: &ArgMatches) -> ExitCode {
    let (name, flags) = matches.subcommand().expect("clap lets nothing else pass");
    let done = run_one(name, flags).and_then(|text| print(&text));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Usage(words)) => {
            say(&format!("luxcast bus {name}: {words}"));
            ExitCode::from(EXIT_USAGE)
        }
        Err(Failure::Failed(words)) => {
            say(&format!("luxcast bus {name}: {words}"));
            ExitCode::FAILURE
        }
    }
}

/// Returns what goes to standard output.
fn run_one(name: &str, flags: &ArgMatches) -> Result<String, Failure> {
    let loaded = config::load(flags, env::vars_os()).map_err(|error| Failure::Usage(error.to_string()))?;
    let config = &loaded.config;
    let bus =
        BusConfig::new(config).ok_or_else(|| Failure::Usage("bus is not set: which servers?".to_owned()))?;
    bus.check().map_err(|error| Failure::Usage(error.to_string()))?;
    bus.open_files().iter().for_each(|words| say(&format!("luxcast bus {name}: warning: {words}")));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("no runtime: {error}"))?;
    runtime.block_on(async {
        let servers: Vec<String> = bus.servers.iter().map(ToString::to_string).collect();
        let admin = match Admin::connect(bus.clone()).await {
            Ok(admin) => admin,
            Err(error) => {
                let words = format!("{}: {error}", servers.join(", "));
                if name == "check" {
                    // Each line of its answer begins so.
                    print(&format!("{}\n", Finding::Error(words.clone())))?;
                }
                return Err(words.into());
            }
        };
        let done = match name {
            "create" => create(&admin, config, &arguments(flags)).await,
            "new-epoch" => new_epoch(&admin, config, &arguments(flags), flags.get_flag("yes")).await,
            _ => return check(&admin, &bus, config).await,
        };
        done.map_err(|failure| match failure {
            // The settings of a daemon have the key of a daemon.
            Failure::Failed(words) if words.contains("Permissions Violation") => Failure::Failed(format!(
                "{words}: it needs the operator's key (--bus-nkey-file, --bus-credentials-file)"
            )),
            other => other,
        })
    })
}

fn arguments<A: FromArgMatches>(flags: &ArgMatches) -> A {
    A::from_arg_matches(flags).unwrap_or_else(|error| error.exit())
}

fn bounds(config: &Config) -> Bounds {
    Bounds { line_bytes_max: config.line_bytes_max, depth_max: config.depth_max }
}

async fn create(admin: &Admin, config: &Config, args: &CreateArgs) -> Result<String, Failure> {
    super::bus_check::check_version(&admin.server_info().version)?;
    let stream = &config.bus_stream;
    if let Some(info) = admin.info().await? {
        warn_of_age(&info["config"]);
        let differences = differences(&info["config"], config, args);
        return match differences.is_empty() {
            true => Ok(format!("the stream {stream} is there, and as it should be\n")),
            false => Err(Failure::Failed(format!(
                "the stream {stream} is there and was not changed, but it is not as it should be: {}",
                differences.join("; ")
            ))),
        };
    }
    let base = args.after.unwrap_or(0).max(unix_micros() as u64);
    let epochs =
        Epochs::new(base).map_err(|error| Failure::Usage(format!("--after: {}", words_of(error))))?;
    let new = NewStream {
        name: stream,
        subject: &config.bus_subject,
        replicas: args.replicas.unwrap_or(3),
        max_age_nanos: nanos(args),
        max_bytes: args.max_bytes,
        bounds: bounds(config),
    };
    let wanted = new.config(&epochs);
    warn_of_age(&wanted);
    let made = admin.create(&wanted).await.map_err(|error| {
        let hint = match () {
            () if error.contains("non-clustered") => ": try --replicas 1",
            () if error.contains(UNAVAILABLE) => {
                ": most of the servers are away, or do not find each other (the port of their routes, 6222, and the \
                 certificate for it)"
            }
            () => "",
        };
        format!("the server does not make the stream {stream}: {error}{hint}")
    })?;
    if args.max_age.is_none() && args.max_bytes.is_none() {
        say("luxcast bus create: warning: without --max-age or --max-bytes the stream grows for ever");
    }
    let copies = match made["config"]["num_replicas"].as_u64() {
        Some(1) => "1 copy".to_owned(),
        count => format!("{} copies", count.unwrap_or(0)),
    };
    let first = base + PLACES as u64;
    Ok(format!("made the stream {stream} on {}: {copies}, numbers from {first} on\n", config.bus_subject))
}

fn warn_of_age(stream: &Value) {
    if let Some(fault) = age_fault(stream) {
        say(&format!("luxcast bus create: warning: {}", fault.what));
    }
}

fn nanos(args: &CreateArgs) -> Option<u64> {
    args.max_age.map(|seconds| seconds * 1_000_000_000)
}

/// What of a stream that is there is not as these settings and flags would make it. A flag that was not given is the
/// operator's to say at another time.
fn differences(found: &Value, config: &Config, args: &CreateArgs) -> Vec<String> {
    let mut faults = faults(found, &config.bus_subject, bounds(config));
    // How old events get is the operator's to say too.
    let age = age_fault(found);
    faults.retain(|fault| Some(fault) != age.as_ref());
    let mut differences: Vec<String> = faults.into_iter().map(|fault| fault.what).collect();
    for (name, wanted) in
        [("num_replicas", args.replicas), ("max_age", nanos(args)), ("max_bytes", args.max_bytes)]
    {
        if let Some(wanted) = wanted
            && found[name] != json!(wanted)
        {
            let [found, wanted] = [&found[name], &json!(wanted)].map(|value| shown(name, value));
            differences.push(format!("{name} is {found}, not {wanted}"));
        }
    }
    if let (Some(after), Ok(epochs)) = (args.after, epochs(found)) {
        let first = epochs.number(1, 0).unwrap_or(0);
        if first <= after {
            differences.push(format!("its numbers begin at {first}, not above {after}"));
        }
    }
    differences
}

async fn check(admin: &Admin, bus: &BusConfig, config: &Config) -> Result<String, Failure> {
    let findings = findings(admin, bus, config, bounds(config)).await;
    let mut text = String::new();
    for finding in &findings {
        writeln!(text, "{finding}").expect("a String takes everything");
    }
    let bad = findings.iter().filter(|finding| finding.is_error()).count();
    if bad == 0 {
        return Ok(text);
    }
    print(&text)?;
    Err(Failure::Failed(format!("a daemon cannot use this: {bad} of these are errors")))
}

fn print(text: &str) -> Result<(), Failure> {
    let written = io::Write::write_all(&mut io::stdout(), text.as_bytes());
    written.map_err(|error| Failure::Failed(format!("standard output: {error}")))
}

async fn new_epoch(
    admin: &Admin,
    config: &Config,
    args: &NewEpochArgs,
    is_wanted: bool,
) -> Result<String, Failure> {
    let stream = &config.bus_stream;
    let info = admin.info().await?.ok_or_else(|| format!("there is no stream {stream}"))?;
    let epochs = epochs(&info["config"]).map_err(|what| format!("the stream {stream}: {what}"))?;
    let last = info["state"]["last_seq"]
        .as_u64()
        .ok_or("the server does not say how long the stream is".to_owned())?;
    let next_message = last.saturating_add(1);
    let from = args.from.unwrap_or(next_message);
    if from > next_message {
        return Err(Failure::Usage(format!("--from: the stream ends with message {last}")));
    }
    if !args.force
        && let Some(why) = why_needless(&epochs, from, args)
    {
        return Err(Failure::Usage(format!("nothing was changed: {why}")));
    }
    let next = begin(&epochs, from, last, args.after)
        .map_err(|error| Failure::Usage(format!("no epoch can follow: {}", words_of(error))))?;
    let first = next.number(from, 0).map_err(|error| Failure::Usage(words_of(error).to_owned()))?;
    let what = format!("from message {from} on the numbers of {stream} begin at {first}");
    if let Some(words) = told_of_messages(&info["state"], from) {
        say(&format!("luxcast bus new-epoch: warning: {words}"));
    }
    if !is_wanted {
        return Err(Failure::Usage(format!("nothing was changed; with --yes, {what}")));
    }
    let changed = stream_config::with_epochs(&info["config"], &next);
    admin.update(&changed).await.map_err(|error| format!("the server does not change {stream}: {error}"))?;
    // Another one that began at the same time may have written after this.
    tokio::time::sleep(OTHERS_PAUSE).await;
    let after = admin.info().await?.ok_or_else(|| format!("there is no stream {stream} any more"))?;
    match stream_config::epochs(&after["config"]) {
        Ok(stored) if stored.continues(&next) => Ok(format!("{what}\n")),
        _ => Err(Failure::Failed(format!(
            "the numbers of {stream} were changed by somebody else at the same time: look with luxcast bus check"
        ))),
    }
}

/// Why nobody needs an epoch from message `from` on: its numbers are greater already than all that were given.
fn why_needless(epochs: &Epochs, from: u64, args: &NewEpochArgs) -> Option<String> {
    let first = epochs.number(from, 0).ok()?;
    match args.from {
        None if first > args.after => Some(format!(
            "the next number is {first} and so above --after, as in a stream that has lost nothing. One that has lost its \
             end and grown again needs --from and the first message that came after the loss. With --force it is done all \
             the same, and watchers may see events again"
        )),
        // Who says where has looked. Only what is done already is not done twice.
        Some(_) if first >= args.after.saturating_add(LAG_MAX) => Some(format!(
            "the numbers of message {from} begin at {first}, far above --after: that epoch is there already. With --force \
             one more begins, and watchers see events again"
        )),
        _ => None,
    }
}

/// What becomes of the messages that the stream has, if the epoch begins with message `from`.
fn told_of_messages(state: &Value, from: u64) -> Option<String> {
    let number = |name: &str| state[name].as_u64().unwrap_or(0);
    let (first, last) = (number("first_seq"), number("last_seq"));
    match () {
        () if number("messages") == 0 => None,
        () if from <= last => Some(format!(
            "messages {} to {last} get new numbers: watchers who have seen them see them again",
            from.max(first)
        )),
        () => Some(format!(
            "messages {first} to {last} keep their numbers: watchers who have seen others with these do not see them; \
             --from M gives new ones from message M on"
        )),
    }
}

/// The same epochs and one more, above `after` and all that the stream has.
fn begin(epochs: &Epochs, from: u64, last: u64, after: u64) -> Result<Epochs, NumbersError> {
    let newest = epochs.number(last.max(1), PLACES - 1)?;
    epochs.with_epoch_above(from, newest.max(after))
}

fn words_of(error: NumbersError) -> &'static str {
    match error {
        NumbersError::Malformed => "the stream's metadata are not what luxcast writes",
        NumbersError::OutOfOrder => "the numbers would not be larger than those before",
        NumbersError::OutOfRange => "the numbers would not have sixteen digits",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{NewEpochArgs, begin, told_of_messages, why_needless};
    use crate::bus::numbers::{Epochs, LAG_MAX};

    #[test]
    fn what_becomes_of_messages_is_told() {
        let state = json!({"messages": 5, "first_seq": 3, "last_seq": 7});
        let told = |from: u64| told_of_messages(&state, from).unwrap();
        assert!(told(1).starts_with("messages 3 to 7 get new numbers: "), "{}", told(1));
        assert!(told(7).starts_with("messages 7 to 7 get new numbers: "), "{}", told(7));
        assert!(told(8).starts_with("messages 3 to 7 keep their numbers: "), "{}", told(8));
        assert_eq!(told_of_messages(&json!({"messages": 0, "first_seq": 8, "last_seq": 7}), 8), None);
    }

    #[test]
    fn an_epoch_is_needless_where_the_numbers_are_above_all_that_were_given() {
        let first = Epochs::new(1_700_000_000_000_000).unwrap();
        let number = |message: u64, place: usize| first.number(message, place).unwrap();
        let is_needless = |epochs: &Epochs, last: u64, from: Option<u64>, after: u64| {
            let args = NewEpochArgs { after, from, force: false };
            why_needless(epochs, from.unwrap_or(last + 1), &args).is_some()
        };
        // All is there, or the last message is lost, of which any line may have been the last.
        for place in [0, 1, 1_023] {
            assert!(is_needless(&first, 100, None, number(100, place)));
            assert!(!is_needless(&first, 99, None, number(100, place)));
        }
        // It has grown again, or another one stands in its place whose first number is just too low.
        for from in [1, 90, 100] {
            assert!(!is_needless(&first, 200, Some(from), number(100, 7)));
        }
        assert!(!is_needless(&first, 3, Some(1), number(1, 0) - 1));
        // A second time.
        for from in [1, 100, 101] {
            let begun = begin(&first, from, 100, number(150, 0)).unwrap();
            assert!(is_needless(&begun, 100, Some(from), number(150, 0)));
            assert!(is_needless(&begun, 100, None, number(150, 0)));
            // That one loses its end too.
            let seen = begun.number(120, 0).unwrap();
            assert!(!is_needless(&begun, 110, None, seen) && !is_needless(&begun, 119, Some(111), seen));
        }
    }

    #[test]
    fn an_epoch_begins_above_all_that_was_seen() {
        const BASE: u64 = 1_700_000_000_000_000;
        let first = Epochs::new(BASE).unwrap();
        for (from, last, after) in [(1, 0, 0), (101, 100, BASE), (101, 100, BASE + (1 << 40)), (51, 100, 0)] {
            let next = begin(&first, from, last, after).unwrap();
            let begins = next.number(from, 0).unwrap();
            assert!(begins >= after + LAG_MAX && begins > first.number(last.max(1), 1023).unwrap());
            assert!(next.continues(&first) && next.first_new(&first) == Some(from));
        }
        assert!(begin(&first, 101, 100, (1 << 53) - 1).is_err());
    }
}
