//! `luxcast tail`: shows the events of a job, a flow or everything as they come, and comes back
//! by itself where it left off when the connection ends.

use std::env;
use std::io::{self, ErrorKind, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use clap::builder::{OsStringValueParser, TypedValueParser};
use serde::Deserialize;
use tungstenite::http::Uri;
use tungstenite::{Message, WebSocket};

use crate::cli;
use crate::cli::backoff::{Backoff, random_unit};
use crate::cli::connection::{Refused, Stream, Token, connect, trust};
use crate::cli::event_line::event_line;
use crate::config::TOKEN_VARIABLE;
use crate::wire::action::Since;
use crate::wire::line::{is_id, is_type_name};

/// A connection that lasted so long was a good one: the waits begin anew.
const BACKOFF_FORGOTTEN: Duration = Duration::from_secs(10);

#[derive(Debug, clap::Args)]
pub struct TailArgs {
    /// Only this job
    #[arg(long, value_name = "ID", value_parser = id, group = "what")]
    pub job: Option<String>,
    /// Only this flow, with all its jobs
    #[arg(long, value_name = "ID", value_parser = id, group = "what")]
    pub flow: Option<String>,
    /// Every event of the daemon (the default)
    #[arg(long, group = "what")]
    pub all: bool,
    /// Where the daemon listens
    #[arg(long, value_name = "URL", default_value = "ws://127.0.0.1:20555", value_parser = base_url)]
    pub url: String,
    /// For wss://: PEM file with the authority to trust [default: those that this system trusts]
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Only these types of events, with commas between them
    #[arg(long, value_name = "TYPES", value_delimiter = ',', value_parser = type_name)]
    pub events: Vec<String>,
    /// Where to begin: behind event number N, at the start of what is kept, with the last 100, or now
    #[arg(long, value_name = "N|start|-100|now", default_value = "now", allow_hyphen_values = true, value_parser = since)]
    pub since: Since,
    /// With --job: only the events that debuggers use (jobs, routines, breakpoints, execution)
    #[arg(long, requires = "job", conflicts_with_all = ["flow", "all"])]
    pub debug: bool,
    /// The events as the daemon sends them, one JSON object a line
    #[arg(long)]
    pub json: bool,
    /// End when the connection ends, instead of connecting again
    #[arg(long)]
    pub once: bool,
    /// What the daemon lets us in for [default: LUXCAST_TOKEN, which other users of this machine cannot see]
    #[arg(long, value_name = "TOKEN", allow_hyphen_values = true, value_parser = OsStringValueParser::new().map(Token::new))]
    pub token: Option<Token>,
}

impl TailArgs {
    fn speaks_tls(&self) -> bool {
        self.url.starts_with("wss:")
    }
}

fn id(text: &str) -> Result<String, String> {
    if is_id(text) {
        return Ok(text.to_owned());
    }
    Err("must be 1 to 128 characters out of A-Z a-z 0-9 _ . : -".to_owned())
}

fn type_name(text: &str) -> Result<String, String> {
    if is_type_name(text) {
        return Ok(text.to_owned());
    }
    Err("a type is 1 to 64 characters out of A-Z a-z 0-9 _ . : -".to_owned())
}

/// A base without a slash at its end, to which the path of the endpoint is added.
fn base_url(text: &str) -> Result<String, String> {
    let uri: Uri = text.parse().map_err(|error| format!("{error}"))?;
    if !matches!(uri.scheme_str(), Some("ws" | "wss")) {
        return Err("must begin with ws:// or wss://".to_owned());
    }
    if uri.host().is_none_or(str::is_empty) || uri.query().is_some() || text.contains('#') {
        return Err("must be like ws://HOST:PORT".to_owned());
    }
    Ok(text.trim_end_matches('/').to_owned())
}

fn since(text: &str) -> Result<Since, String> {
    let since = Since::parse(text);
    since.ok_or_else(|| "must be a stream_seq, start, now, or -100 for the last 100".to_owned())
}

/// Exit code 0: standard output was closed (or, with `--once`, the connection). 1: refused, or
/// the daemon could not be reached in the first place.
pub fn run(mut args: TailArgs) -> ExitCode {
    let mut out = io::stdout().lock();
    let mut say = |line: &str| cli::say(&format!("luxcast tail: {line}"));
    if args.token.is_none() {
        args.token = env::var_os(TOKEN_VARIABLE).filter(|text| !text.is_empty()).map(Token::new);
    }
    if let Some(Err(problem)) = args.token.as_ref().map(Token::header) {
        say(&problem);
        return ExitCode::from(cli::EXIT_USAGE);
    }
    if args.ca.is_some() && !args.speaks_tls() {
        say("--ca goes with a URL that begins with wss://");
        return ExitCode::from(cli::EXIT_USAGE);
    }
    match tail(&args, &mut out, &mut say, thread::sleep) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            say(&message);
            ExitCode::from(1)
        }
    }
}

/// `say` takes whole lines for people. Returns when there is nobody to write to any more.
fn tail(
    args: &TailArgs,
    out: &mut dyn Write,
    say: &mut dyn FnMut(&str),
    mut sleep: impl FnMut(Duration),
) -> Result<(), String> {
    let trust = args.speaks_tls().then(|| trust(args.ca.as_deref())).transpose()?;
    let mut watch = Watch::new(args.since, args.json);
    let mut backoff = Backoff::default();
    loop {
        let url = endpoint_url(args, watch.since);
        let (reason, told) = match connect(&url, args.token.as_ref(), trust.as_ref()) {
            Ok(mut socket) => {
                if watch.connections > 0 {
                    say("connected again");
                }
                watch.connections += 1;
                let began = Instant::now();
                let end = follow(&mut socket, &mut watch, out, say);
                if began.elapsed() >= BACKOFF_FORGOTTEN {
                    backoff = Backoff::default();
                }
                match end {
                    End::OutputClosed => return Ok(()),
                    End::OutputFailed(error) => return Err(format!("standard output: {error}")),
                    End::Lost(_) if args.once => return Ok(()),
                    End::Lost(reason) => (reason, watch.retry_after.take()),
                }
            }
            Err(Refused::ForGood(reason)) => return Err(reason),
            Err(Refused::ForNow { reason, .. }) if args.once => return Err(reason),
            Err(Refused::ForNow { reason, retry_after: None }) if watch.connections == 0 => {
                return Err(reason);
            }
            Err(Refused::ForNow { reason, retry_after }) => (reason, retry_after),
        };
        let wait = backoff.next(told, random_unit());
        say(&format!("{reason}; connecting again in {:.1} s", wait.as_secs_f64()));
        sleep(wait);
    }
}

fn endpoint_url(args: &TailArgs, since: Since) -> String {
    let base = &args.url;
    let mut url = match (&args.job, &args.flow) {
        (Some(job), _) if args.debug => format!("{base}/api/v1/ws/jobs/{job}/debug"),
        (Some(job), _) => format!("{base}/api/v1/ws/jobs/{job}/monitor"),
        (None, Some(flow)) => format!("{base}/api/v1/ws/flows/{flow}/monitor"),
        (None, None) => format!("{base}/api/v1/ws/events"),
    };
    url.push_str(&format!("?since={since}"));
    if !args.events.is_empty() {
        // Names of types need no escaping in a query (RFC 3986 section 3.4).
        url.push_str(&format!("&events={}", args.events.join(",")));
    }
    url
}

/// How a connection ended.
enum End {
    OutputClosed,
    OutputFailed(io::Error),
    Lost(String),
}

/// Reads until the connection or the output ends.
fn follow(
    socket: &mut WebSocket<Stream>,
    watch: &mut Watch,
    out: &mut dyn Write,
    say: &mut dyn FnMut(&str),
) -> End {
    let mut is_probed = false;
    let mut close = None;
    loop {
        match socket.read() {
            Ok(Message::Text(text)) => match watch.handle(&text, out, say) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::BrokenPipe => return End::OutputClosed,
                Err(error) => return End::OutputFailed(error),
            },
            Ok(Message::Close(Some(frame))) => {
                close = Some(format!("closed: {} {}", frame.code, frame.reason));
            }
            Ok(_) => {}
            Err(tungstenite::Error::Io(error))
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
            {
                if is_probed || socket.send(Message::Ping(Default::default())).is_err() {
                    return End::Lost("the daemon is silent".to_owned());
                }
                is_probed = true;
                continue;
            }
            Err(error) => return End::Lost(close.unwrap_or_else(|| error.to_string())),
        }
        is_probed = false;
    }
}

/// What is known across connections.
struct Watch {
    /// Where the next connection begins, so that nothing is repeated and nothing left out.
    since: Since,
    is_json: bool,
    connections: u64,
    /// What the daemon asked for when it took its leave.
    retry_after: Option<Duration>,
}

/// What matters of a message to where we stand. An event has a number and no type of the
/// daemon's own.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(rename = "type", borrow)]
    kind: std::borrow::Cow<'a, str>,
    stream_seq: Option<u64>,
}

#[derive(Deserialize)]
struct Status {
    status: String,
    stream_seq: Option<u64>,
    #[serde(default)]
    reason: String,
    retry_after_ms: Option<u64>,
}

#[derive(Deserialize)]
struct Gap {
    from: u64,
    to: u64,
    missed: Option<u64>,
    reason: String,
}

#[derive(Deserialize)]
struct Fault {
    code: String,
    message: String,
}

impl Watch {
    fn new(since: Since, is_json: bool) -> Self {
        Self { since, is_json, connections: 0, retry_after: None }
    }

    /// An error is one of `out`.
    fn handle(&mut self, text: &str, out: &mut dyn Write, say: &mut dyn FnMut(&str)) -> io::Result<()> {
        let Ok(envelope) = serde_json::from_str::<Envelope<'_>>(text) else {
            say("a message that is not understood");
            return Ok(());
        };
        match envelope.kind.as_ref() {
            "connection:status" => self.handle_status(text, say),
            // The connection's own position: all its events up to there went out before.
            "ping" => self.stand_at(envelope.stream_seq),
            "pong" | "subscription:confirmed" => {}
            // Not a position: kept events from inside the gap may still follow.
            "stream:gap" => {
                if let Ok(gap) = serde_json::from_str(text) {
                    say(&gap_line(&gap));
                }
            }
            "error" => {
                if let Ok(Fault { code, message }) = serde_json::from_str(text) {
                    say(&format!("{code}: {message}"));
                }
            }
            _ => {
                self.write_event(text, envelope.stream_seq, out)?;
                self.stand_at(envelope.stream_seq);
            }
        }
        Ok(())
    }

    fn stand_at(&mut self, stream_seq: Option<u64>) {
        if let Some(stream_seq) = stream_seq {
            self.since = Since::After(stream_seq);
        }
    }

    fn handle_status(&mut self, text: &str, say: &mut dyn FnMut(&str)) {
        let Ok(status) = serde_json::from_str::<Status>(text) else {
            return;
        };
        match status.status.as_str() {
            // The newest event of all. Where the past was asked for, that is yet to come.
            "connected" if self.since == Since::Now => self.stand_at(status.stream_seq),
            "disconnected" => {
                self.stand_at(status.stream_seq);
                self.retry_after = status.retry_after_ms.map(Duration::from_millis);
                say(&format!("the daemon says goodbye: {}", status.reason));
            }
            _ => {}
        }
    }

    fn write_event(&self, text: &str, stream_seq: Option<u64>, out: &mut dyn Write) -> io::Result<()> {
        // Without a number: the snapshot of a job's metrics, which each connection begins with.
        let is_wanted = stream_seq.is_some() || (!self.is_json && self.connections <= 1);
        if !is_wanted {
            return Ok(());
        }
        let line = match self.is_json {
            true => None,
            false => event_line(text),
        };
        let mut line = line.unwrap_or_else(|| text.to_owned());
        line.push('\n');
        out.write_all(line.as_bytes())?;
        out.flush()
    }
}

fn gap_line(gap: &Gap) -> String {
    let Gap { from, to, missed, reason } = gap;
    let count = match missed {
        Some(1) => "1 event".to_owned(),
        Some(count) => format!("{count} events"),
        None => "an unknown number of events".to_owned(),
    };
    format!("gap: {count} lost between {from} and {to} ({reason})")
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    use clap::{Args, Command, FromArgMatches};
    use tungstenite::Message;
    use tungstenite::handshake::server::{Request, Response};

    use super::{Since, TailArgs, Watch, base_url, endpoint_url, since, tail};

    fn args(words: &[&str]) -> Result<TailArgs, clap::Error> {
        let command = TailArgs::augment_args(Command::new("tail").no_binary_name(true));
        TailArgs::from_arg_matches(&command.try_get_matches_from(words)?)
    }

    #[test]
    fn the_url_names_what_is_watched() {
        let url = |words: &[&str]| {
            let args = args(words).unwrap();
            endpoint_url(&args, args.since)
        };
        let base = "ws://127.0.0.1:20555/api/v1/ws";
        assert_eq!(url(&[]), format!("{base}/events?since=now"));
        assert_eq!(url(&["--all", "--since", "-100"]), format!("{base}/events?since=-100"));
        assert_eq!(
            url(&["--job", "a:1", "--since=start", "--events", "job_started,x"]),
            format!("{base}/jobs/a:1/monitor?since=start&events=job_started,x")
        );
        assert_eq!(url(&["--job", "a", "--debug", "--since", "17"]), format!("{base}/jobs/a/debug?since=17"));
        assert_eq!(
            url(&["--flow", "f", "--url", "ws://[::1]:9/"]),
            "ws://[::1]:9/api/v1/ws/flows/f/monitor?since=now"
        );
    }

    #[test]
    fn wrong_arguments_are_usage_errors() {
        for words in [
            &["--job", "a/b"][..],
            &["--job", "a", "--flow", "f"],
            &["--job", "a", "--all"],
            &["--flow", "f", "--debug"],
            &["--debug"],
            &["--since", "soon"],
            &["--since", "-"],
            &["--since", "+5"],
            &["--since", "99999999999999999999"],
            &["--since", "9007199254740992"],
            &["--since", "-0"],
            &["--events", "a,"],
            &["--url", "https://host"],
            &["--url", "host:1"],
            &["--url", "ws://host?token=x"],
            &["--token"],
        ] {
            let error = args(words).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{words:?}");
        }
    }

    #[test]
    fn a_token_goes_into_the_request_and_is_shown_nowhere() {
        let given = args(&["--token", "-secret"]).unwrap();
        let token = given.token.clone().unwrap();
        assert!(!format!("{given:?}").contains("secret"));
        assert_eq!(token.header().unwrap(), "Bearer -secret");
        for bad in ["sec ret", "secret\n", "sécret"] {
            let token = args(&["--token", bad]).unwrap().token.unwrap();
            assert_eq!(token.header(), Err("the token has a character that no token has".to_owned()));
        }
    }

    #[test]
    fn since_reads_back() {
        for text in ["now", "start", "-100", "0", "1736937000000000"] {
            assert_eq!(since(text).unwrap().to_string(), text);
        }
        assert_eq!(base_url("ws://h:1//").unwrap(), "ws://h:1");
    }

    /// Hands messages to a watch; returns where it then stands, what it wrote and what it said.
    fn watched(since: Since, is_json: bool, messages: &[&str]) -> (Since, String, Vec<String>) {
        let mut watch = Watch::new(since, is_json);
        watch.connections = 1;
        let (mut out, mut said) = (Vec::new(), Vec::new());
        for message in messages {
            watch.handle(message, &mut out, &mut |line| said.push(line.to_owned())).unwrap();
        }
        (watch.since, String::from_utf8(out).unwrap(), said)
    }

    #[test]
    fn the_position_follows_what_was_delivered() {
        let connected = r#"{"type":"connection:status","status":"connected","stream_seq":50}"#;
        let event = r#"{"stream_seq":20,"type":"x","job_id":"j","n":1e400}"#;
        let ping = r#"{"type":"ping","stream_seq":30}"#;
        let gap = r#"{"type":"stream:gap","from":21,"to":40,"missed":3,"reason":"overrun"}"#;
        let goodbye = r#"{"type":"connection:status","status":"disconnected","stream_seq":60,"reason":"drain","retry_after_ms":700}"#;
        let snapshot = r#"{"type":"metrics","job_id":"j","metrics":{}}"#;
        let stands_at = |since, messages: &[&str]| watched(since, true, messages).0;
        assert_eq!(stands_at(Since::Now, &[]), Since::Now);
        assert_eq!(stands_at(Since::Now, &[connected]), Since::After(50));
        for past in [Since::Start, Since::Last(5), Since::After(7)] {
            assert_eq!(stands_at(past, &[connected, snapshot, gap]), past);
            assert_eq!(stands_at(past, &[connected, event]), Since::After(20));
            assert_eq!(stands_at(past, &[connected, event, gap]), Since::After(20));
            assert_eq!(stands_at(past, &[connected, ping]), Since::After(30));
        }
        assert_eq!(stands_at(Since::Start, &[ping, goodbye]), Since::After(60));
        let (_, out, said) = watched(Since::Now, true, &[connected, event, gap, snapshot, goodbye]);
        assert_eq!(out, format!("{event}\n"));
        assert_eq!(
            said,
            ["gap: 3 events lost between 21 and 40 (overrun)", "the daemon says goodbye: drain"]
        );
    }

    #[test]
    fn people_get_lines_and_the_snapshot_once() {
        let snapshot = r#"{"type":"metrics","job_id":"j","metrics":{"total_events":2}}"#;
        let event = r#"{"stream_seq":20,"type":"x","job_id":"j"}"#;
        let (_, out, _) = watched(Since::Now, false, &[snapshot, event]);
        assert_eq!(out, "- j metrics events=2\n- j x\n");
        let mut watch = Watch::new(Since::Now, false);
        watch.connections = 2;
        let mut out = Vec::new();
        watch.handle(snapshot, &mut out, &mut |_| {}).unwrap();
        assert!(out.is_empty());
    }

    #[test]
    fn other_messages_are_told() {
        let messages = [
            r#"{"type":"error","code":"bad_json","message":"no"}"#,
            r#"{"type":"stream:gap","from":1,"to":9,"missed":null,"reason":"expired"}"#,
            r#"{"type":"pong"}"#,
            "nonsense",
        ];
        let (_, out, said) = watched(Since::Now, true, &messages);
        assert_eq!(out, "");
        assert_eq!(
            said,
            [
                "bad_json: no",
                "gap: an unknown number of events lost between 1 and 9 (expired)",
                "a message that is not understood"
            ]
        );
    }

    /// A daemon that plays one script a connection: the messages it sends before it hangs up.
    /// Reports the requests it got.
    fn play(scripts: Vec<Vec<String>>) -> (String, mpsc::Receiver<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("ws://{}", listener.local_addr().unwrap());
        let (sender, requests) = mpsc::channel();
        thread::spawn(move || {
            for script in scripts {
                let (stream, _) = listener.accept().unwrap();
                #[allow(clippy::result_large_err)]
                let note = |request: &Request, response: Response| {
                    sender.send(request.uri().to_string()).unwrap();
                    Ok(response)
                };
                let mut socket = tungstenite::accept_hdr(stream, note).unwrap();
                for message in script {
                    socket.send(Message::text(message)).unwrap();
                }
            }
        });
        (url, requests)
    }

    #[test]
    fn comes_back_where_it_left_off() {
        let connected = |stream_seq: u64| {
            format!(r#"{{"type":"connection:status","status":"connected","stream_seq":{stream_seq}}}"#)
        };
        let event = |stream_seq: u64| format!(r#"{{"stream_seq":{stream_seq},"type":"x"}}"#);
        let goodbye = r#"{"type":"connection:status","status":"disconnected","stream_seq":9,"reason":"drain","retry_after_ms":700}"#;
        let (url, requests) = play(vec![
            vec![connected(4), event(5), event(7)],
            vec![connected(8), event(8), goodbye.to_owned()],
            vec![connected(9), event(10)],
        ]);
        let args = args(&["--url", &url, "--json"]).unwrap();
        let (mut out, mut said, mut waits) = (Vec::new(), Vec::new(), Vec::new());
        // After the third connection nobody listens any more, which is no reason to give up;
        // so this ends it.
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            tail(&args, &mut out, &mut |line| said.push(line.to_owned()), |wait| {
                waits.push(wait);
                if waits.len() == 4 {
                    std::panic::resume_unwind(Box::new("enough"));
                }
            })
        }));
        assert!(result.is_err());
        let events: String = [5, 7, 8, 10].map(|number| event(number) + "\n").concat();
        assert_eq!(String::from_utf8(out).unwrap(), events);
        let requests: Vec<String> = requests.try_iter().collect();
        assert_eq!(
            requests,
            ["/api/v1/ws/events?since=now", "/api/v1/ws/events?since=7", "/api/v1/ws/events?since=9"]
        );
        assert!(waits[0] <= Duration::from_millis(500));
        assert!(waits[1] >= Duration::from_millis(700));
        let again = said.iter().filter(|line| *line == "connected again").count();
        assert_eq!(again, 2);
    }

    #[test]
    fn once_ends_with_the_connection() {
        let (url, _requests) = play(vec![vec![r#"{"stream_seq":1,"type":"x"}"#.to_owned()]]);
        let once = args(&["--url", &url, "--json", "--once"]).unwrap();
        let mut out = Vec::new();
        assert_eq!(tail(&once, &mut out, &mut |_| {}, |_| unreachable!()), Ok(()));
        assert_eq!(out, b"{\"stream_seq\":1,\"type\":\"x\"}\n");
    }

    #[test]
    fn nobody_there_at_first_is_an_error() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("ws://{}", listener.local_addr().unwrap());
        drop(listener);
        let args = args(&["--url", &url]).unwrap();
        let result = tail(&args, &mut Vec::new(), &mut |_| {}, |_| unreachable!());
        assert!(result.unwrap_err().contains("refused"));
    }

    #[test]
    fn a_closed_output_ends_it_quietly() {
        struct Closed;
        impl std::io::Write for Closed {
            fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
                Err(std::io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let (url, _requests) = play(vec![vec![r#"{"stream_seq":1,"type":"x"}"#.to_owned()]]);
        let args = args(&["--url", &url]).unwrap();
        assert_eq!(tail(&args, &mut Closed, &mut |_| {}, |_| unreachable!()), Ok(()));
    }
}
