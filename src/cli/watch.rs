//! Watching the daemon, for the commands that do: connects, follows the events, and comes back by itself behind the
//! last one when the connection ends.

use std::env;
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::builder::{OsStringValueParser, TypedValueParser};
use serde::Deserialize;
use tungstenite::http::Uri;
use tungstenite::{Message, WebSocket};

use crate::cli::backoff::{Backoff, random_unit};
use crate::cli::connection::{Refused, SILENCE, Stream, Token, connect, set_patience, trust};
use crate::cli::ending::{Ending, JobEnd};
use crate::config::TOKEN_VARIABLE;
use crate::wire::action::Since;
use crate::wire::line::{is_id, is_type_name};

/// A connection that lasted so long was a good one: the waits begin anew.
const BACKOFF_FORGOTTEN: Duration = Duration::from_secs(10);

/// What must be known to tell how a job ends. Those that were not asked for are not shown.
const ENDING_TYPES: &[&str] =
    &["job_started", "job_resumed", "job_completed", "job_failed", "job_cancelled", "metrics"];

#[derive(Debug, clap::Args)]
pub struct WatchArgs {
    /// Only this job, also if it has not begun yet
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
    /// With --job: only the events that debuggers use (jobs, routines, breakpoints, execution)
    #[arg(long, requires = "job", conflicts_with_all = ["flow", "all"])]
    pub debug: bool,
    /// With --job: end when the job does, or at once if it has ended
    #[arg(long, requires = "job", conflicts_with_all = ["flow", "all"])]
    pub until_end: bool,
    /// End when the connection ends, instead of connecting again
    #[arg(long)]
    pub once: bool,
    /// For how many seconds to try to connect again, once the daemon has gone
    #[arg(long, value_name = "SECONDS", conflicts_with = "once", value_parser = seconds)]
    pub give_up: Option<Duration>,
    /// What the daemon lets us in for [default: LUXCAST_TOKEN, which other users of this machine cannot see]
    #[arg(long, value_name = "TOKEN", allow_hyphen_values = true, value_parser = OsStringValueParser::new().map(Token::new))]
    pub token: Option<Token>,
}

impl WatchArgs {
    /// Takes the token from where it is if no flag gives it.
    ///
    /// # Errors
    /// What is wrong with the arguments.
    pub fn complete(&mut self) -> Result<(), String> {
        if self.token.is_none() {
            self.token = env::var_os(TOKEN_VARIABLE).filter(|text| !text.is_empty()).map(Token::new);
        }
        if let Some(token) = &self.token {
            token.header()?;
        }
        if self.ca.is_some() && !self.speaks_tls() {
            return Err("--ca goes with a URL that begins with wss://".to_owned());
        }
        Ok(())
    }

    fn speaks_tls(&self) -> bool {
        self.url.starts_with("wss:")
    }

    /// Whether such an event was asked for, and not only needed to know how the job ends.
    fn asks_for(&self, kind: &str) -> bool {
        self.events.is_empty() || !ENDING_TYPES.contains(&kind) || self.events.iter().any(|name| name == kind)
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

pub fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds.ok_or_else(|| "must be a number of seconds, 0 or more".to_owned())
}

pub fn since(text: &str) -> Result<Since, String> {
    let since = Since::parse(text);
    since.ok_or_else(|| "must be a stream_seq, start, now, or -100 for the last 100".to_owned())
}

/// What somebody does with what is watched.
pub trait Viewer {
    /// An event as it came; without a number it is the snapshot of a job's metrics.
    fn show(&mut self, event: &str, stream_seq: Option<u64>) -> io::Result<()>;

    /// A line for people.
    fn say(&mut self, line: &str);

    /// Events were lost.
    fn note_gap(&mut self) {}

    /// Connected, or not any more.
    fn note_connection(&mut self, _is_connected: bool) {}
}

/// How a watch ended.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// Nobody reads the output any more.
    OutputClosed,
    /// With `once`: the connection did.
    Disconnected,
    /// With `until_end`: the job did.
    Job(JobEnd),
}

/// Watches until there is an end.
///
/// # Errors
/// Why the daemon cannot be watched, or the output cannot be written.
pub fn watch(
    args: &WatchArgs,
    since: Since,
    viewer: &mut dyn Viewer,
    mut sleep: impl FnMut(Duration),
) -> Result<End, String> {
    let trust = args.speaks_tls().then(|| trust(args.ca.as_deref())).transpose()?;
    let mut watch = Watch::new(args, since);
    let mut backoff = Backoff::default();
    let mut has_been_connected = false;
    let mut lost_for = Duration::ZERO;
    loop {
        let url = endpoint_url(args, watch.since);
        let began = Instant::now();
        let (reason, told) = match connect(&url, args.token.as_ref(), trust.as_ref()) {
            Ok(mut socket) => {
                if has_been_connected {
                    viewer.say("connected again");
                }
                has_been_connected = true;
                lost_for = Duration::ZERO;
                viewer.note_connection(true);
                let end = watch.follow(&mut socket, viewer);
                viewer.note_connection(false);
                if began.elapsed() >= BACKOFF_FORGOTTEN {
                    backoff = Backoff::default();
                }
                match end {
                    Stop::End(end) => return Ok(end),
                    Stop::OutputFailed(error) => return Err(format!("output: {error}")),
                    Stop::Lost(_) if args.once => return Ok(End::Disconnected),
                    Stop::Lost(reason) => (reason, watch.retry_after.take()),
                }
            }
            Err(Refused::ForGood(reason)) => return Err(reason),
            Err(Refused::ForNow { reason, .. }) if args.once => return Err(reason),
            Err(Refused::ForNow { reason, retry_after: None }) if !has_been_connected => {
                return Err(reason);
            }
            Err(Refused::ForNow { reason, retry_after }) => {
                lost_for += began.elapsed();
                (reason, retry_after)
            }
        };
        let wait = backoff.next(told, random_unit());
        lost_for += wait;
        if args.give_up.is_some_and(|limit| lost_for > limit) {
            return Err(format!("{reason}; given up"));
        }
        viewer.say(&format!("{reason}; connecting again in {:.1} s", wait.as_secs_f64()));
        sleep(wait);
    }
}

fn endpoint_url(args: &WatchArgs, since: Since) -> String {
    let base = &args.url;
    let mut url = match (&args.job, &args.flow) {
        (Some(job), _) if args.debug => format!("{base}/api/v1/ws/jobs/{job}/debug"),
        (Some(job), _) => format!("{base}/api/v1/ws/jobs/{job}/monitor"),
        (None, Some(flow)) => format!("{base}/api/v1/ws/flows/{flow}/monitor"),
        (None, None) => format!("{base}/api/v1/ws/events"),
    };
    url.push_str(&format!("?since={since}"));
    if !args.events.is_empty() {
        let needed = ENDING_TYPES.iter().filter(|kind| args.until_end && !args.asks_for(kind));
        let names: Vec<&str> = args.events.iter().map(String::as_str).chain(needed.copied()).collect();
        // Names of types need no escaping in a query (RFC 3986 section 3.4).
        url.push_str(&format!("&events={}", names.join(",")));
    }
    url
}

/// Why nothing more is read from a connection.
enum Stop {
    End(End),
    OutputFailed(io::Error),
    Lost(String),
}

/// What is known across connections.
struct Watch<'a> {
    args: &'a WatchArgs,
    /// Where the next connection begins, so that nothing is repeated and nothing left out.
    since: Since,
    ending: Ending,
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

impl<'a> Watch<'a> {
    fn new(args: &'a WatchArgs, since: Since) -> Self {
        Self { args, since, ending: Ending::default(), retry_after: None }
    }

    /// Reads until the connection, the output or the job ends.
    fn follow(&mut self, socket: &mut WebSocket<Stream>, viewer: &mut dyn Viewer) -> Stop {
        let mut is_probed = false;
        let mut close = None;
        let mut patience = SILENCE;
        loop {
            let wanted = self.patience();
            if wanted != patience {
                patience = wanted;
                if let Err(error) = set_patience(socket, patience) {
                    return Stop::Lost(error.to_string());
                }
            }
            match socket.read() {
                Ok(Message::Text(text)) => match self.handle(&text, viewer) {
                    Ok(None) => {}
                    Ok(Some(end)) => return Stop::End(End::Job(end)),
                    Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                        return Stop::End(End::OutputClosed);
                    }
                    Err(error) => return Stop::OutputFailed(error),
                },
                Ok(Message::Close(Some(frame))) => {
                    close = Some(format!("closed: {} {}", frame.code, frame.reason));
                }
                Ok(_) => {}
                Err(tungstenite::Error::Io(error))
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    if let Some(end) = self.pending_end() {
                        return Stop::End(End::Job(end));
                    }
                    if is_probed || socket.send(Message::Ping(Default::default())).is_err() {
                        return Stop::Lost("the daemon is silent".to_owned());
                    }
                    is_probed = true;
                    continue;
                }
                Err(error) => return Stop::Lost(close.unwrap_or_else(|| error.to_string())),
            }
            is_probed = false;
        }
    }

    fn pending_end(&self) -> Option<JobEnd> {
        self.ending.pending().filter(|_| self.args.until_end)
    }

    fn patience(&self) -> Duration {
        match self.pending_end() {
            Some(_) => Ending::QUIET,
            None => SILENCE,
        }
    }

    /// How the job ended, if that is what is waited for. An error is one of the output.
    fn handle(&mut self, text: &str, viewer: &mut dyn Viewer) -> io::Result<Option<JobEnd>> {
        let Ok(envelope) = serde_json::from_str::<Envelope<'_>>(text) else {
            viewer.say("a message that is not understood");
            return Ok(None);
        };
        match envelope.kind.as_ref() {
            "connection:status" => self.handle_status(text, viewer),
            // The connection's own position: all its events up to there went out before.
            "ping" => self.stand_at(envelope.stream_seq),
            "pong" | "subscription:confirmed" => {}
            // Not a position: kept events from inside the gap may still follow.
            "stream:gap" => {
                viewer.note_gap();
                if let Ok(gap) = serde_json::from_str(text) {
                    viewer.say(&gap_line(&gap));
                }
            }
            "error" if envelope.stream_seq.is_none() => {
                if let Ok(Fault { code, message }) = serde_json::from_str(text) {
                    viewer.say(&format!("{code}: {message}"));
                }
            }
            kind => {
                if self.args.asks_for(kind) {
                    viewer.show(text, envelope.stream_seq)?;
                }
                self.stand_at(envelope.stream_seq);
                let end = match envelope.stream_seq {
                    Some(stream_seq) => self.ending.note_event(kind, stream_seq),
                    None => {
                        self.ending.note_snapshot(text);
                        None
                    }
                };
                return Ok(end.filter(|_| self.args.until_end));
            }
        }
        Ok(None)
    }

    fn stand_at(&mut self, stream_seq: Option<u64>) {
        if let Some(stream_seq) = stream_seq {
            self.since = Since::After(stream_seq);
        }
    }

    fn handle_status(&mut self, text: &str, viewer: &mut dyn Viewer) {
        let Ok(status) = serde_json::from_str::<Status>(text) else {
            return;
        };
        match status.status.as_str() {
            "connected" => {
                self.ending.note_connected(status.stream_seq.unwrap_or(0));
                // The newest event of all. Where the past was asked for, that is yet to come.
                if self.since == Since::Now {
                    self.stand_at(status.stream_seq);
                }
            }
            "disconnected" => {
                self.stand_at(status.stream_seq);
                self.retry_after = status.retry_after_ms.map(Duration::from_millis);
                viewer.say(&format!("the daemon says goodbye: {}", status.reason));
            }
            _ => {}
        }
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
    use std::io::{self, ErrorKind};
    use std::net::TcpListener;
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    use clap::{Args, Command, FromArgMatches};
    use tungstenite::Message;
    use tungstenite::handshake::server::{Request, Response};

    use super::{
        End, JobEnd, Since, Viewer, Watch, WatchArgs, base_url, endpoint_url, seconds, since, watch,
    };

    fn args(words: &[&str]) -> Result<WatchArgs, clap::Error> {
        let command = WatchArgs::augment_args(Command::new("tail").no_binary_name(true));
        WatchArgs::from_arg_matches(&command.try_get_matches_from(words)?)
    }

    #[test]
    fn the_url_names_what_is_watched() {
        let url = |words: &[&str], since| endpoint_url(&args(words).unwrap(), since);
        let base = "ws://127.0.0.1:20555/api/v1/ws";
        assert_eq!(url(&[], Since::Now), format!("{base}/events?since=now"));
        assert_eq!(url(&["--all"], Since::Last(100)), format!("{base}/events?since=-100"));
        let filtered = format!("{base}/jobs/a:1/monitor?since=start&events=job_failed,x");
        let words = ["--job", "a:1", "--events", "job_failed,x", "--until-end"];
        assert_eq!(url(&words[..4], Since::Start), filtered);
        assert_eq!(
            url(&words, Since::Start),
            format!("{filtered},job_started,job_resumed,job_completed,job_cancelled,metrics")
        );
        assert_eq!(
            url(&["--job", "a", "--debug"], Since::After(17)),
            format!("{base}/jobs/a/debug?since=17")
        );
        assert_eq!(
            url(&["--flow", "f", "--url", "ws://[::1]:9/"], Since::Now),
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
            &["--until-end"],
            &["--flow", "f", "--until-end"],
            &["--give-up", "-1"],
            &["--give-up", "soon"],
            &["--give-up", "1", "--once"],
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
        for wrong in ["soon", "-", "+5", "99999999999999999999", "9007199254740992", "-0"] {
            assert!(since(wrong).is_err(), "{wrong}");
        }
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        assert_eq!(base_url("ws://h:1//").unwrap(), "ws://h:1");
    }

    /// Remembers what it was given.
    #[derive(Default)]
    struct Notes {
        shown: Vec<String>,
        said: Vec<String>,
        gaps: usize,
        /// Shows fail with this.
        broken: Option<ErrorKind>,
    }

    impl Viewer for Notes {
        fn show(&mut self, event: &str, _: Option<u64>) -> io::Result<()> {
            if let Some(kind) = self.broken {
                return Err(kind.into());
            }
            self.shown.push(event.to_owned());
            Ok(())
        }

        fn say(&mut self, line: &str) {
            self.said.push(line.to_owned());
        }

        fn note_gap(&mut self) {
            self.gaps += 1;
        }
    }

    /// Hands messages to a watch; returns where it then stands, and what it told.
    fn watched(since: Since, messages: &[&str]) -> (Since, Notes) {
        let args = args(&[]).unwrap();
        let mut watch = Watch::new(&args, since);
        let mut notes = Notes::default();
        for message in messages {
            assert_eq!(watch.handle(message, &mut notes).unwrap(), None);
        }
        (watch.since, notes)
    }

    #[test]
    fn the_position_follows_what_was_delivered() {
        let connected = r#"{"type":"connection:status","status":"connected","stream_seq":50}"#;
        let event = r#"{"stream_seq":20,"type":"x","job_id":"j","n":1e400}"#;
        let ping = r#"{"type":"ping","stream_seq":30}"#;
        let gap = r#"{"type":"stream:gap","from":21,"to":40,"missed":3,"reason":"overrun"}"#;
        let goodbye = r#"{"type":"connection:status","status":"disconnected","stream_seq":60,"reason":"drain","retry_after_ms":700}"#;
        let snapshot = r#"{"type":"metrics","job_id":"j","metrics":{}}"#;
        let stands_at = |since, messages: &[&str]| watched(since, messages).0;
        assert_eq!(stands_at(Since::Now, &[]), Since::Now);
        assert_eq!(stands_at(Since::Now, &[connected]), Since::After(50));
        for past in [Since::Start, Since::Last(5), Since::After(7)] {
            assert_eq!(stands_at(past, &[connected, snapshot, gap]), past);
            assert_eq!(stands_at(past, &[connected, event]), Since::After(20));
            assert_eq!(stands_at(past, &[connected, event, gap]), Since::After(20));
            assert_eq!(stands_at(past, &[connected, ping]), Since::After(30));
        }
        assert_eq!(stands_at(Since::Start, &[ping, goodbye]), Since::After(60));
        let (_, notes) = watched(Since::Now, &[connected, event, gap, snapshot, goodbye]);
        assert_eq!(notes.shown, [event, snapshot]);
        assert_eq!(
            notes.said,
            ["gap: 3 events lost between 21 and 40 (overrun)", "the daemon says goodbye: drain"]
        );
        assert_eq!(notes.gaps, 1);
    }

    #[test]
    fn the_end_of_the_job_is_the_end() {
        let connected = r#"{"type":"connection:status","status":"connected","stream_seq":50}"#;
        let failed = r#"{"stream_seq":51,"type":"job_failed","job_id":"j"}"#;
        let wanted = r#"{"stream_seq":50,"type":"x","job_id":"j"}"#;
        for (words, end, shown) in [
            (&["--job", "j"][..], None, vec![wanted, failed]),
            (&["--job", "j", "--until-end"], Some(JobEnd::Failed), vec![wanted, failed]),
            (&["--job", "j", "--until-end", "--events", "x"], Some(JobEnd::Failed), vec![wanted]),
        ] {
            let args = args(words).unwrap();
            let mut watch = Watch::new(&args, Since::Start);
            let mut notes = Notes::default();
            assert_eq!(watch.handle(connected, &mut notes).unwrap(), None);
            assert_eq!(watch.handle(wanted, &mut notes).unwrap(), None);
            assert_eq!(watch.handle(failed, &mut notes).unwrap(), end, "{words:?}");
            assert_eq!(notes.shown, shown);
        }
    }

    #[test]
    fn other_messages_are_told() {
        let messages = [
            r#"{"type":"error","code":"bad_json","message":"no"}"#,
            r#"{"type":"stream:gap","from":1,"to":9,"missed":null,"reason":"expired"}"#,
            r#"{"type":"pong"}"#,
            "nonsense",
        ];
        let (_, notes) = watched(Since::Now, &messages);
        assert!(notes.shown.is_empty());
        assert_eq!(
            notes.said,
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
        let args = args(&["--url", &url]).unwrap();
        let (mut notes, mut waits) = (Notes::default(), Vec::new());
        // After the third connection nobody listens any more, which is no reason to give up;
        // so this ends it.
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            watch(&args, Since::Now, &mut notes, |wait| {
                waits.push(wait);
                if waits.len() == 4 {
                    std::panic::resume_unwind(Box::new("enough"));
                }
            })
        }));
        assert!(result.is_err());
        assert_eq!(notes.shown, [5, 7, 8, 10].map(event));
        let requests: Vec<String> = requests.try_iter().collect();
        assert_eq!(
            requests,
            ["/api/v1/ws/events?since=now", "/api/v1/ws/events?since=7", "/api/v1/ws/events?since=9"]
        );
        assert!(waits[0] <= Duration::from_millis(500));
        assert!(waits[1] >= Duration::from_millis(700));
        let again = notes.said.iter().filter(|line| *line == "connected again").count();
        assert_eq!(again, 2);
    }

    /// Sends one script and stays.
    fn hold(script: Vec<String>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("ws://{}", listener.local_addr().unwrap());
        thread::spawn(move || {
            let mut socket = tungstenite::accept(listener.accept().unwrap().0).unwrap();
            for message in script {
                socket.send(Message::text(message)).unwrap();
            }
            while socket.read().is_ok() {}
        });
        url
    }

    #[test]
    fn once_ends_with_the_connection() {
        let event = r#"{"stream_seq":1,"type":"x"}"#;
        let (url, _requests) = play(vec![vec![event.to_owned()]]);
        let once = args(&["--url", &url, "--once"]).unwrap();
        let mut notes = Notes::default();
        assert_eq!(watch(&once, Since::Now, &mut notes, |_| unreachable!()), Ok(End::Disconnected));
        assert_eq!(notes.shown, [event]);
    }

    #[test]
    fn a_job_that_ended_before_is_seen_as_soon_as_nothing_follows() {
        let messages = [
            r#"{"type":"connection:status","status":"connected","stream_seq":9}"#,
            r#"{"stream_seq":5,"type":"job_failed","job_id":"j"}"#,
            r#"{"stream_seq":6,"type":"job_started","job_id":"j"}"#,
            r#"{"stream_seq":9,"type":"job_completed","job_id":"j"}"#,
        ];
        let url = hold(messages.map(str::to_owned).to_vec());
        let args = args(&["--url", &url, "--job", "j", "--until-end"]).unwrap();
        let end = watch(&args, Since::Start, &mut Notes::default(), |_| unreachable!());
        assert_eq!(end, Ok(End::Job(JobEnd::Completed)));
    }

    #[test]
    fn a_daemon_that_stays_away_is_given_up() {
        let (url, _requests) = play(vec![vec![r#"{"stream_seq":1,"type":"x"}"#.to_owned()]]);
        let args = args(&["--url", &url, "--give-up", "5"]).unwrap();
        let mut waits = Duration::ZERO;
        let end = watch(&args, Since::Now, &mut Notes::default(), |wait| waits += wait);
        assert!(end.unwrap_err().ends_with("; given up"));
        assert!(waits > Duration::from_secs(1) && waits <= Duration::from_secs(5), "{waits:?}");
    }

    #[test]
    fn nobody_there_at_first_is_an_error() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("ws://{}", listener.local_addr().unwrap());
        drop(listener);
        let args = args(&["--url", &url]).unwrap();
        let result = watch(&args, Since::Now, &mut Notes::default(), |_| unreachable!());
        assert!(result.unwrap_err().contains("refused"));
    }

    #[test]
    fn a_closed_output_ends_it_quietly_and_a_broken_one_does_not() {
        let broken = |kind| {
            let (url, _requests) = play(vec![vec![r#"{"stream_seq":1,"type":"x"}"#.to_owned()]]);
            let args = args(&["--url", &url]).unwrap();
            let mut notes = Notes { broken: Some(kind), ..Notes::default() };
            watch(&args, Since::Now, &mut notes, |_| unreachable!())
        };
        assert_eq!(broken(ErrorKind::BrokenPipe), Ok(End::OutputClosed));
        assert!(broken(ErrorKind::StorageFull).unwrap_err().starts_with("output: "));
    }
}
