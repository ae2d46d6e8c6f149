//! `luxcast event`: publishes one event that is put together from its arguments.

use std::io::Cursor;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::ValueHint;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use crate::cli::feed_url::FeedUrl;
use crate::cli::publish::{self, PublishArgs};
use crate::cli::watch_args::{id, type_name};
use crate::cli::{EXIT_USAGE, say};
use crate::wire::stamp::Stamp;

#[derive(Debug, clap::Args)]
pub struct EventArgs {
    /// Type of the event, such as job_started, job_completed or a word of your own
    #[arg(value_name = "TYPE", value_parser = type_name, value_hint = ValueHint::Other)]
    kind: String,
    /// Members of the event's data: KEY=TEXT, or KEY:=JSON for a number, true, null, a list or an object
    #[arg(value_name = "KEY=VALUE", value_parser = member, value_hint = ValueHint::Other)]
    data: Vec<Member>,
    /// The job that the event is of
    #[arg(long, value_name = "ID", allow_hyphen_values = true, value_parser = id, value_hint = ValueHint::Other)]
    job: Option<String>,
    /// The flow that the event is of
    #[arg(long, value_name = "ID", allow_hyphen_values = true, value_parser = id, value_hint = ValueHint::Other)]
    flow: Option<String>,
    /// The routine that the event is of
    #[arg(long, value_name = "NAME", allow_hyphen_values = true, value_hint = ValueHint::Other)]
    routine: Option<String>,
    /// The daemon's ingest socket [default: LUXCAST_INGEST, else the first of $XDG_RUNTIME_DIR/luxcast.sock and
    /// /run/luxcast/ingest.sock where a daemon listens]
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath)]
    ingest: Option<PathBuf>,
    #[command(flatten)]
    http: FeedUrl,
    /// With --url: try again for as long as it takes, also when the connection is lost. The event does not come twice
    #[arg(long, requires = "url")]
    retry: bool,
}

/// A member of the event's data: its name, and a JSON text without ends of lines.
#[derive(Clone, Debug)]
struct Member(String, Box<RawValue>);

fn member(text: &str) -> Result<Member, String> {
    let (name, value) = text.split_once('=').ok_or("must be KEY=TEXT or KEY:=JSON")?;
    let (name, raw) = match name.strip_suffix(':') {
        // A JSON text has ends of lines between its tokens only.
        Some(name) => (name, value.replace(['\n', '\r'], " ")),
        None => (name, serde_json::to_string(value).expect("a text is plain data")),
    };
    if name.is_empty() {
        return Err("has no key before the =".to_owned());
    }
    let raw = RawValue::from_string(raw.trim().to_owned());
    raw.map(|raw| Member(name.to_owned(), raw)).map_err(|error| format!("is no JSON behind the := ({error})"))
}

#[derive(Serialize)]
struct Event<'a> {
    r#type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    job_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    flow_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    routine_id: Option<&'a str>,
    timestamp: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty", serialize_with = "object")]
    data: &'a [Member],
}

fn object<S: Serializer>(members: &[Member], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(members.iter().map(|Member(name, value)| (name, value)))
}

/// The event as a line of the feed.
fn line(args: &EventArgs, unix_millis: i64) -> Result<String, String> {
    if let Some(place) =
        (1..args.data.len()).find(|&place| args.data[..place].iter().any(|one| one.0 == args.data[place].0))
    {
        return Err(format!("{} is there twice", args.data[place].0));
    }
    let timestamp = Stamp::from_unix_millis(unix_millis);
    let event = Event {
        r#type: &args.kind,
        job_id: args.job.as_deref(),
        flow_id: args.flow.as_deref(),
        routine_id: args.routine.as_deref(),
        timestamp: timestamp.as_str(),
        data: &args.data,
    };
    Ok(serde_json::to_string(&event).expect("an event is plain data") + "\n")
}

/// Exit code 0: the daemon has accepted it. 1: refused, or no daemon. 2: wrong usage.
pub fn run(args: EventArgs) -> ExitCode {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let line = match line(&args, i64::try_from(now).unwrap_or(i64::MAX)) {
        Ok(line) => line,
        Err(problem) => {
            say(&format!("luxcast event: {problem}"));
            return ExitCode::from(EXIT_USAGE);
        }
    };
    let publish = PublishArgs {
        file: "-".into(),
        ingest: args.ingest,
        http: args.http,
        retry: args.retry,
        publisher: None,
        dedupe: false,
        no_progress: true,
        is_quiet: true,
    };
    publish::run_as("event", publish, |_, _| Box::new(Cursor::new(line)))
}

#[cfg(test)]
mod tests {
    use clap::{Args, Command, FromArgMatches};

    use super::{EventArgs, line};

    fn of(words: &[&str]) -> Result<String, String> {
        let command = EventArgs::augment_args(Command::new("event").no_binary_name(true));
        let matches = command.try_get_matches_from(words).map_err(|error| error.to_string())?;
        line(&EventArgs::from_arg_matches(&matches).map_err(|error| error.to_string())?, 1_000)
    }

    #[test]
    fn an_event_is_put_together_in_the_order_of_its_arguments() {
        let time = "\"timestamp\":\"1970-01-01T00:00:01.000Z\"";
        assert_eq!(
            of(&["x", "--job", "-j"]).unwrap(),
            format!("{{\"type\":\"x\",\"job_id\":\"-j\",{time}}}\n")
        );
        let words = [
            "job_failed",
            "--job",
            "j",
            "--flow",
            "f",
            "--routine",
            "my load",
            "error=a \"b\"\n=c",
            "n:= 1e400",
            "a:b=",
        ];
        let data = r#""data":{"error":"a \"b\"\n=c","n":1e400,"a:b":""}"#;
        let head = r#"{"type":"job_failed","job_id":"j","flow_id":"f","routine_id":"my load","#;
        assert_eq!(of(&words).unwrap(), format!("{head}{time},{data}}}\n"));
        let lines = of(&["x", "--flow", "f", "list:=[1,\n\r\n 2]"]).unwrap();
        assert!(lines.ends_with("\"data\":{\"list\":[1,    2]}}\n"), "{lines}");
    }

    #[test]
    fn what_is_no_event_is_wrong_usage() {
        for words in [
            &[][..],
            &["a b"],
            &["x", "novalue"],
            &["x", "=value"],
            &["x", ":=1"],
            &["x", "n:=1 2"],
            &["x", "n:="],
            &["x", "a=1", "a=2"],
            &["x", "--job", "a/b"],
            &["x", "--token", "t"],
        ] {
            assert!(of(words).is_err(), "{words:?}");
        }
    }
}
