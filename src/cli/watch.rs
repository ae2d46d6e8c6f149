//! Watches the daemon for the commands that do: connects, follows the events, and reconnects after the last one when
//! the connection ends.

use std::io::{self, ErrorKind};
use std::mem;
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::cli::backoff::Backoff;
use crate::cli::connection::{SILENCE, Way};
use crate::cli::ending::{Ending, JobEnd, is_lost};
use crate::cli::messages::{Heard, Messages};
use crate::cli::outlet::Outlet;
use crate::cli::refusal::Refused;
use crate::cli::transport::{Transport, connect};
use crate::cli::watch_args::WatchArgs;
use crate::wire::client_action::Since;

/// After a connection of this length, the waits start over.
const BACKOFF_FORGOTTEN: Duration = Duration::from_secs(10);

/// What a command does with the events.
pub trait Viewer {
    /// An event as it came; one without a number is the snapshot of a job's metrics.
    fn show(&mut self, event: &str, stream_seq: Option<u64>) -> io::Result<()>;

    /// A line for people.
    fn say(&mut self, line: &str);

    /// Events were lost.
    fn note_gap(&mut self) {}

    /// Connected, or no longer connected.
    fn note_connection(&mut self, _is_connected: bool) {}

    /// What the daemon reports about itself at the start of a connection.
    fn note_daemon(&mut self, _newest: u64, _server_time: Option<&str>) {}

    /// Where the events go; when it closes, the watch ends.
    fn outlet(&self) -> Outlet {
        Outlet::default()
    }
}

/// How a watch ended.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// Nobody reads the output any more.
    OutputClosed,
    /// With `once`: the connection ended.
    Disconnected,
    /// With `until_end`: the job ended.
    Job(JobEnd),
    /// With `timeout`: the time is up.
    TimedOut,
}

/// The time of a watch, which tests replace.
pub trait Clock {
    fn now(&self) -> Instant;

    /// Sleeps up to `limit`; returns whether the output was closed, which ends the sleep.
    fn sleep(&mut self, limit: Duration, outlet: &Outlet) -> bool;
}

pub struct RealClock;

impl Clock for RealClock {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn sleep(&mut self, limit: Duration, outlet: &Outlet) -> bool {
        outlet.sleep(limit)
    }
}

/// How to reach the daemon, by these arguments.
///
/// # Errors
/// With TLS: no authority to trust.
pub fn way(args: &WatchArgs, outlet: Outlet) -> Result<Way, String> {
    args.daemon.way(outlet)
}

/// Watches until there is an end.
///
/// # Errors
/// Why the daemon cannot be watched, or the output cannot be written.
pub fn watch(
    args: &WatchArgs,
    since: Since,
    viewer: &mut dyn Viewer,
    clock: &mut dyn Clock,
) -> Result<End, String> {
    let way = way(args, viewer.outlet())?;
    let timeout = args.timeout.and_then(|limit| clock.now().checked_add(limit));
    let mut watch = Watch::new(args, &way, since, timeout);
    let mut backoff = Backoff::default();
    let mut has_been_connected = false;
    // The deadline for giving up, counted from when the daemon went.
    let limit = args.give_up.or(args.give_up_later);
    let later = |from: Instant| limit.and_then(|limit| from.checked_add(limit));
    let mut given_up = later(clock.now());
    loop {
        let began = clock.now();
        let until = [timeout, given_up].into_iter().flatten().min();
        let (reason, told) = match watch.connect(until, viewer) {
            Ok(mut messages) => {
                if has_been_connected {
                    viewer.say("connected again");
                }
                has_been_connected = true;
                viewer.note_connection(true);
                let end = watch.follow(&mut messages, viewer);
                viewer.note_connection(false);
                let now = clock.now();
                given_up = later(now);
                if now.duration_since(began) >= BACKOFF_FORGOTTEN {
                    backoff = Backoff::default();
                }
                match end {
                    Stop::End(end) => return Ok(end),
                    Stop::OutputFailed(error) => return Err(format!("output: {error}")),
                    Stop::Lost(_) if args.once => return Ok(End::Disconnected),
                    Stop::Lost(reason) => (reason, watch.retry_after.take()),
                }
            }
            Err(Refused::OutputClosed) => return Ok(End::OutputClosed),
            Err(Refused::ForGood(reason)) => return Err(reason),
            Err(Refused::NoUpgrade(_)) => unreachable!("it means another refusal to a watch"),
            Err(Refused::ForNow { .. }) if is_over(timeout, clock) => return Ok(End::TimedOut),
            Err(Refused::ForNow { reason, .. }) if args.once => return Err(reason),
            // There may never be a daemon, so only an explicit limit makes us wait.
            Err(Refused::ForNow { reason, retry_after: None })
                if !has_been_connected && args.give_up.is_none() =>
            {
                return Err(reason);
            }
            Err(Refused::ForNow { reason, retry_after }) => (reason, retry_after),
        };
        if is_over(given_up, clock) {
            return Err(format!("{reason}; given up"));
        }
        // The last attempt is made at the deadline, not before.
        let ends = [timeout, given_up].into_iter().flatten();
        let left = ends.map(|end| end.saturating_duration_since(clock.now())).min();
        let wait = backoff.next(told, fastrand::f64()).min(left.unwrap_or(Duration::MAX));
        viewer.say(&format!("{reason}; connecting again in {:.1} s", wait.as_secs_f64()));
        if clock.sleep(wait, &way.outlet) {
            return Ok(End::OutputClosed);
        }
        if is_over(timeout, clock) {
            return Ok(End::TimedOut);
        }
    }
}

fn is_over(end: Option<Instant>, clock: &dyn Clock) -> bool {
    end.is_some_and(|end| end <= clock.now())
}

/// Why reading from a connection stopped.
enum Stop {
    End(End),
    OutputFailed(io::Error),
    Lost(String),
}

/// The state that outlasts a connection.
struct Watch<'a> {
    args: &'a WatchArgs,
    way: &'a Way,
    /// Where the next connection begins, so that nothing is repeated or left out.
    since: Since,
    ending: Ending,
    /// The wait that the daemon asked for in its goodbye.
    retry_after: Option<Duration>,
    /// On this connection the daemon has said so.
    waits_for_stream: bool,
    /// The deadline of `timeout`.
    timeout: Option<Instant>,
    /// That of the connection.
    transport: Transport,
    /// It was said that WebSocket does not get through.
    has_told_fallback: bool,
}

/// The members of a message that move our position. An event has a number and no type of the daemon's own.
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
    server_time: Option<String>,
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
    fn new(args: &'a WatchArgs, way: &'a Way, since: Since, timeout: Option<Instant>) -> Self {
        Self {
            args,
            way,
            since,
            ending: Ending::default(),
            retry_after: None,
            waits_for_stream: false,
            timeout,
            transport: args.transport,
            has_told_fallback: false,
        }
    }

    /// Each connection tries WebSocket first again, if any transport will do.
    fn connect(&mut self, until: Option<Instant>, viewer: &mut dyn Viewer) -> Result<Messages, Refused> {
        let target = self.args.target(self.since);
        let has_told = &mut self.has_told_fallback;
        let mut tell = |reason: &str| {
            if !mem::replace(has_told, true) {
                viewer.say(&format!("no WebSocket gets through ({reason}): the events come over plain HTTP"));
            }
        };
        let (messages, transport) = connect(self.way, self.args.transport, &target, until, &mut tell)?;
        self.transport = transport;
        Ok(messages)
    }

    /// Reads until the connection, the output, the time or the job ends.
    fn follow(&mut self, messages: &mut Messages, viewer: &mut dyn Viewer) -> Stop {
        let mut is_probed = false;
        self.waits_for_stream = false;
        loop {
            if self.is_timed_out() {
                return Stop::End(End::TimedOut);
            }
            match messages.hear(self.patience(), self.timeout) {
                Heard::Message(text) => match self.handle(&text, viewer) {
                    Ok(None) => {}
                    Ok(Some(end)) => return Stop::End(End::Job(end)),
                    Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                        return Stop::End(End::OutputClosed);
                    }
                    Err(error) => return Stop::OutputFailed(error),
                },
                Heard::Other => {}
                Heard::Silence if self.is_timed_out() => continue,
                Heard::Silence => {
                    if let Some(end) = self.pending_end() {
                        return Stop::End(End::Job(end));
                    }
                    if is_probed || !messages.probe() {
                        return Stop::Lost("the daemon is silent".to_owned());
                    }
                    is_probed = true;
                    continue;
                }
                Heard::OutputClosed => return Stop::End(End::OutputClosed),
                Heard::End(reason) => return Stop::Lost(reason),
            }
            is_probed = false;
        }
    }

    fn is_timed_out(&self) -> bool {
        self.timeout.is_some_and(|end| end <= Instant::now())
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

    /// Handles a message; returns how the job ended, if that is awaited. Errors are those of the output.
    fn handle(&mut self, text: &str, viewer: &mut dyn Viewer) -> io::Result<Option<JobEnd>> {
        let Ok(envelope) = serde_json::from_str::<Envelope<'_>>(text) else {
            viewer.say("the daemon sent a message that is not understood");
            return Ok(None);
        };
        match envelope.kind.as_ref() {
            "connection:status" => self.handle_status(text, viewer),
            // The connection's own position: all its events up to there were sent before.
            "ping" => {
                self.stand_at(envelope.stream_seq);
                return Ok(self.lost_behind_debug());
            }
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
                    Some(stream_seq) => self.ending.note_event(kind, stream_seq, text),
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

    /// `/debug` carries no metrics, and only they show a lost job: they are asked for elsewhere, at each heartbeat.
    fn lost_behind_debug(&self) -> Option<JobEnd> {
        let job = self.args.job.as_ref().filter(|_| self.args.debug && self.args.until_end)?;
        let target = format!("/api/v1/ws/jobs/{job}/monitor?events=metrics");
        let connected = connect(self.way, self.transport, &target, self.timeout, &mut |_| {});
        let (mut messages, _) = connected.ok()?;
        let mut next = || loop {
            match messages.hear(Ending::QUIET, self.timeout) {
                Heard::Message(text) => return Some(text),
                Heard::Other => {}
                _ => return None,
            }
        };
        // The greeting, and the snapshot if the job is known.
        let mut texts = std::iter::from_fn(&mut next).take(2);
        texts.any(|text| is_lost(&text)).then_some(JobEnd::Lost)
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
                let newest = status.stream_seq.unwrap_or(0);
                self.ending.note_connected(newest);
                viewer.note_daemon(newest, status.server_time.as_deref());
                if mem::take(&mut self.waits_for_stream) {
                    viewer.say("the stream is there again");
                }
                // The newest event of all. A requested past is yet to come.
                if self.since == Since::Now {
                    self.stand_at(status.stream_seq);
                }
            }
            "disconnected" => {
                self.stand_at(status.stream_seq);
                self.retry_after = status.retry_after_ms.map(Duration::from_millis);
                viewer.say(&format!("the daemon says goodbye: {}", status.reason));
            }
            "reconnecting" => {
                self.waits_for_stream = true;
                viewer.say("the daemon waits for the stream that it shares with others");
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
    use std::io::{self, ErrorKind, Read, Write};
    use std::net::TcpListener;
    use std::sync::mpsc;
    use std::thread;
    use std::time::{Duration, Instant};

    use tungstenite::Message;
    use tungstenite::handshake::server::{Request, Response};

    use super::{Clock, End, JobEnd, Outlet, Since, Viewer, Watch, WatchArgs, way};
    use crate::cli::watch_args::tests::args;

    /// Sleeping takes no time; after this many sleeps the output counts as closed.
    struct FakeClock {
        real: Instant,
        slept: Vec<Duration>,
        sleeps_max: usize,
    }

    impl FakeClock {
        fn new(sleeps_max: usize) -> Self {
            Self { real: Instant::now(), slept: Vec::new(), sleeps_max }
        }
    }

    impl Clock for FakeClock {
        fn now(&self) -> Instant {
            self.real + self.slept.iter().sum::<Duration>()
        }

        fn sleep(&mut self, limit: Duration, _: &Outlet) -> bool {
            self.slept.push(limit);
            self.slept.len() == self.sleeps_max
        }
    }

    /// For tests in which nothing is waited for.
    fn watch(args: &WatchArgs, since: Since, notes: &mut Notes) -> Result<End, String> {
        super::watch(args, since, notes, &mut FakeClock::new(0))
    }

    /// Remembers what it gets.
    #[derive(Default)]
    struct Notes {
        shown: Vec<String>,
        said: Vec<String>,
        gaps: usize,
        /// `show` fails with this.
        broken: Option<ErrorKind>,
        outlet: Outlet,
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

        fn outlet(&self) -> Outlet {
            self.outlet.clone()
        }
    }

    /// Hands messages to a watch with these arguments, until one ends it.
    fn handle(words: &[&str], since: Since, messages: &[&str]) -> (Since, Notes, Option<JobEnd>) {
        let args = args(words).unwrap();
        let way = way(&args, Outlet::default()).unwrap();
        let mut watch = Watch::new(&args, &way, since, None);
        let mut notes = Notes::default();
        let end = messages.iter().find_map(|message| watch.handle(message, &mut notes).unwrap());
        (watch.since, notes, end.or_else(|| watch.pending_end()))
    }

    /// Hands messages to a watch; returns its position and what it said.
    fn watched(since: Since, messages: &[&str]) -> (Since, Notes) {
        let (stands, notes, end) = handle(&[], since, messages);
        assert_eq!(end, None);
        (stands, notes)
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
    fn a_jump_of_the_numbers_is_no_loss() {
        let connected = r#"{"type":"connection:status","status":"connected","stream_seq":50}"#;
        let [one, other] = [r#"{"stream_seq":51,"type":"x"}"#, r#"{"stream_seq":1099511627776,"type":"x"}"#];
        let (stands, notes) = watched(Since::Now, &[connected, one, other]);
        assert_eq!(stands, Since::After(1 << 40));
        assert_eq!((notes.shown, notes.said, notes.gaps), (vec![one.into(), other.into()], vec![], 0));
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
            let (_, notes, found) = handle(words, Since::Start, &[connected, wanted, failed]);
            assert_eq!(found, end, "{words:?}");
            assert_eq!(notes.shown, shown);
        }
    }

    #[test]
    fn a_job_that_is_lost_has_ended_until_something_comes() {
        let connected = r#"{"type":"connection:status","status":"connected","stream_seq":50}"#;
        let snapshot = |status: &str| {
            format!(r#"{{"type":"metrics","job_id":"j","metrics":{{"end_time":null{status}}}}}"#)
        };
        let (running, lost) = (snapshot(""), snapshot(r#","status":"lost""#));
        let live_lost = lost.replacen('{', r#"{"stream_seq":52,"#, 1);
        let started = r#"{"stream_seq":40,"type":"job_started","job_id":"j"}"#;
        let live = r#"{"stream_seq":51,"type":"x","job_id":"j"}"#;
        let words = ["--job", "j", "--until-end"];
        for (messages, end) in [
            (vec![connected, &lost, started], Some(JobEnd::Lost)),
            (vec![connected, &running, started], None),
            (vec![connected, &lost, started, live], None),
            (vec![connected, &running, started, live, &live_lost], Some(JobEnd::Lost)),
            (vec![connected, &lost.replacen('{', r#"{"stream_seq":49,"#, 1), live], None),
        ] {
            assert_eq!(handle(&words, Since::Start, &messages).2, end, "{messages:?}");
        }
    }

    #[test]
    fn an_outage_of_the_stream_is_told_and_its_end_too() {
        let status =
            |word: &str| format!(r#"{{"type":"connection:status","status":"{word}","stream_seq":5}}"#);
        let (connected, waiting) = (status("connected"), status("reconnecting"));
        let (_, notes) = watched(Since::Now, &[&connected, &waiting, &connected, &connected]);
        let there = "the stream is there again";
        assert_eq!(notes.said, ["the daemon waits for the stream that it shares with others", there]);
    }

    #[test]
    fn other_messages_are_reported() {
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
                "the daemon sent a message that is not understood"
            ]
        );
    }

    /// A daemon that plays one script a connection: it sends these messages and hangs up. Reports the requests it
    /// got.
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
        let mut notes = Notes::default();
        // After the third connection nobody listens any more; the clock ends the watch then.
        let mut clock = FakeClock::new(4);
        assert_eq!(super::watch(&args, Since::Now, &mut notes, &mut clock), Ok(End::OutputClosed));
        let waits = clock.slept;
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
        assert_eq!(watch(&once, Since::Now, &mut notes), Ok(End::Disconnected));
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
        let end = watch(&args, Since::Start, &mut Notes::default());
        assert_eq!(end, Ok(End::Job(JobEnd::Completed)));
    }

    #[test]
    fn a_daemon_that_stays_away_is_given_up() {
        let (url, _requests) = play(vec![vec![r#"{"stream_seq":1,"type":"x"}"#.to_owned()]]);
        let args = args(&["--url", &url, "--give-up", "5"]).unwrap();
        let mut clock = FakeClock::new(100);
        let end = super::watch(&args, Since::Now, &mut Notes::default(), &mut clock);
        assert!(end.unwrap_err().ends_with("; given up"));
        // Neither earlier nor later, whatever the waits add up to.
        assert_eq!(clock.slept.iter().sum::<Duration>(), Duration::from_secs(5));
    }

    #[test]
    fn the_time_is_up_whatever_happens() {
        let url = hold(vec![r#"{"stream_seq":1,"type":"x"}"#.to_owned()]);
        let quiet = args(&["--url", &url, "--timeout", "0.2"]).unwrap();
        let mut notes = Notes::default();
        assert_eq!(watch(&quiet, Since::Now, &mut notes), Ok(End::TimedOut));
        assert_eq!(notes.shown.len(), 1);
        let (url, _requests) = play(vec![vec![r#"{"stream_seq":1,"type":"x"}"#.to_owned()]]);
        let away = args(&["--url", &url, "--timeout", "60"]).unwrap();
        let mut clock = FakeClock::new(100);
        let end = super::watch(&away, Since::Now, &mut Notes::default(), &mut clock);
        assert_eq!(end, Ok(End::TimedOut));
        assert!(clock.slept.iter().sum::<Duration>() >= Duration::from_secs(60) - Duration::from_millis(900));
    }

    #[test]
    fn a_proxy_that_answers_in_the_daemons_place_is_waited_out() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("ws://{}", listener.local_addr().unwrap());
        let event = r#"{"stream_seq":7,"type":"x"}"#;
        thread::spawn(move || {
            let greet = |message: &str| {
                let mut socket = tungstenite::accept(listener.accept().unwrap().0).unwrap();
                socket.send(Message::text(message)).unwrap();
            };
            greet(r#"{"type":"ping","stream_seq":6}"#);
            for status in ["404 Not Found", "401 Unauthorized", "302 Found"] {
                let mut stream = listener.accept().unwrap().0;
                let answer = format!(
                    "HTTP/1.1 {status}
Content-Length: 6

<html>"
                );
                stream.write_all(answer.as_bytes()).unwrap();
                let _ = stream.shutdown(std::net::Shutdown::Write);
                let _ = io::copy(&mut stream, &mut io::sink());
            }
            greet(event);
            let mut stream = listener.accept().unwrap().0;
            let body = r#"{"error":"unauthorized","message":"no"}"#;
            let answer = format!(
                "HTTP/1.1 401 x
Content-Length: {}

{body}",
                body.len()
            );
            stream.write_all(answer.as_bytes()).unwrap();
            let _ = io::copy(&mut stream, &mut io::sink());
        });
        let args = args(&["--url", &url, "--transport", "websocket"]).unwrap();
        let mut notes = Notes::default();
        let end = super::watch(&args, Since::Now, &mut notes, &mut FakeClock::new(100));
        assert_eq!(end.unwrap_err(), "refused: 401 unauthorized: no");
        assert_eq!(notes.shown, [event]);
        let proxied =
            notes.said.iter().filter(|line| line.starts_with("something other than luxcast answered"));
        assert_eq!(proxied.count(), 3, "{:?}", notes.said);
    }

    /// Answers one request after the other, always the same.
    fn answer_always(answer: String) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("ws://{}", listener.local_addr().unwrap());
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let _ = stream.write_all(answer.as_bytes());
                let _ = stream.shutdown(std::net::Shutdown::Write);
                let _ = io::copy(&mut stream, &mut io::sink());
            }
        });
        url
    }

    #[test]
    fn temporary_refusals_are_waited_out_from_the_first_attempt_on_request() {
        let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let answers = [
            ("502 Bad Gateway", "<html>"),
            ("302 Found", ""),
            ("200 OK", "<html>"),
            ("503 x", r#"{"error":"full","message":"m"}"#),
            ("503 x", r#"{"error":"draining","message":"m"}"#),
        ];
        let answers = answers.map(|(status, body)| {
            answer_always(format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len()))
        });
        for url in answers.into_iter().chain([format!("ws://{nobody}")]) {
            let patient = args(&["--url", &url, "--give-up", "5"]).unwrap();
            let mut usual = args(&["--url", &url]).unwrap();
            usual.give_up_later = Some(Duration::from_secs(5));
            let mut clock = FakeClock::new(100);
            let end = super::watch(&patient, Since::Now, &mut Notes::default(), &mut clock);
            assert!(end.unwrap_err().ends_with("; given up"), "{url}");
            assert_eq!(clock.slept.iter().sum::<Duration>(), Duration::from_secs(5));
            let mut clock = FakeClock::new(100);
            let end = super::watch(&usual, Since::Now, &mut Notes::default(), &mut clock);
            assert!(!end.unwrap_err().contains("given up"));
            assert!(clock.slept.is_empty(), "{url}");
        }
        let body = r#"{"error":"forbidden_host","message":"no"}"#;
        let url = answer_always(format!("HTTP/1.1 421 x\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
        let refused = args(&["--url", &url, "--give-up", "5"]).unwrap();
        let end = super::watch(&refused, Since::Now, &mut Notes::default(), &mut FakeClock::new(100));
        assert_eq!(end.unwrap_err(), "refused: 421 forbidden_host: no");
    }

    /// Answers these one by one, each on a connection of its own, and says what the requests were.
    fn answer_each(answers: Vec<String>) -> (String, mpsc::Receiver<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("ws://{}", listener.local_addr().unwrap());
        let (sender, requests) = mpsc::channel();
        thread::spawn(move || {
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    stream.read_exact(&mut byte).unwrap();
                    request.extend_from_slice(&byte);
                }
                sender.send(String::from_utf8(request).unwrap()).unwrap();
                stream.write_all(answer.as_bytes()).unwrap();
                let _ = stream.shutdown(std::net::Shutdown::Write);
                let _ = io::copy(&mut stream, &mut io::sink());
            }
        });
        (url, requests)
    }

    fn chunks(kind: &str, messages: &[&str], end: &str) -> String {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n");
        let chunks = messages.iter().map(|message| format!("{:x}\r\n{message}\r\n", message.len()));
        head + &chunks.collect::<String>() + end
    }

    #[test]
    fn what_takes_the_upgrade_away_is_told_once_and_websocket_is_tried_again() {
        let event = |number: u64| format!("{{\"stream_seq\":{number},\"type\":\"x\"}}\n");
        let goodbye = "{\"type\":\"connection:status\",\"status\":\"disconnected\",\"stream_seq\":7,\"reason\":\"drain\",\"retry_after_ms\":900}\n";
        let own = |status: u16, error: &str| {
            let body = format!(r#"{{"error":"{error}","message":"m"}}"#);
            format!("HTTP/1.1 {status} x\r\nContent-Length: {}\r\n\r\n{body}", body.len())
        };
        let lines = |messages: &[&str], end: &str| chunks("application/x-ndjson", messages, end);
        let (url, requests) = answer_each(vec![
            own(426, "upgrade_required"),
            // The last one is cut off.
            lines(&[&event(5), &event(6), "{\"stream_seq\":7,\"ty"], "5\r\npe"),
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_owned(),
            lines(&[&event(7), goodbye], "0\r\n\r\n"),
            String::new(),
            own(403, "forbidden_scope"),
        ]);
        let args = args(&["--url", &url, "--token", "t"]).unwrap();
        let mut notes = Notes::default();
        let mut clock = FakeClock::new(100);
        let end = super::watch(&args, Since::Now, &mut notes, &mut clock);
        assert_eq!(end.unwrap_err(), "refused: 403 forbidden_scope: m");
        assert_eq!(notes.shown, [5, 6, 7].map(|number| event(number).trim_end().to_owned()));
        let told = notes.said.iter().filter(|line| line.contains("no WebSocket gets through")).count();
        assert_eq!(told, 1, "{:?}", notes.said);
        let cut = notes.said.iter().filter(|line| line.starts_with("the connection was cut off")).count();
        let ended =
            notes.said.iter().filter(|line| line.starts_with("the daemon has ended the stream")).count();
        assert_eq!((cut, ended), (1, 1), "{:?}", notes.said);
        assert!(clock.slept[1] >= Duration::from_millis(900));
        let requests: Vec<String> = requests.try_iter().collect();
        for (place, since) in [0, 0, 6, 6, 7, 7].into_iter().enumerate() {
            let (request, is_upgrade) = (&requests[place], place % 2 == 0);
            let since = if since == 0 { "since=now ".to_owned() } else { format!("since={since} ") };
            assert!(request.contains(&since) && request.contains("Authorization: Bearer t\r\n"), "{request}");
            assert_eq!(request.contains("Upgrade: websocket\r\n"), is_upgrade, "{request}");
            assert_eq!(request.contains("Accept: application/x-ndjson\r\n"), !is_upgrade, "{request}");
        }
    }

    #[test]
    fn each_transport_can_be_asked_for() {
        let event = "{\"stream_seq\":5,\"type\":\"x\"}";
        for (transport, kind, message) in [
            ("sse", "text/event-stream", format!("id: 5\ndata: {event}\n\n")),
            ("ndjson", "application/x-ndjson", format!("{event}\n")),
        ] {
            let (url, requests) = answer_each(vec![chunks(kind, &[&message], "0\r\n\r\n")]);
            let asked = args(&["--url", &url, "--once", "--transport", transport]).unwrap();
            let mut notes = Notes::default();
            assert_eq!(watch(&asked, Since::Now, &mut notes), Ok(End::Disconnected));
            assert_eq!((notes.shown, notes.said), (vec![event.to_owned()], vec![]), "{transport}");
            assert!(requests.recv().unwrap().contains(&format!("Accept: {kind}\r\n")));
            // A page in the place of a stream is none.
            let (url, _requests) = answer_each(vec![chunks("text/html", &["<html>"], "0\r\n\r\n")]);
            let asked = args(&["--url", &url, "--transport", transport]).unwrap();
            let end = watch(&asked, Since::Now, &mut Notes::default());
            assert_eq!(end.unwrap_err(), "something other than luxcast answered: 200");
        }
        let body = r#"{"error":"upgrade_required","message":"m"}"#;
        let answer = format!("HTTP/1.1 426 x\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let (url, _requests) = answer_each(vec![answer]);
        let only = args(&["--url", &url, "--transport", "websocket"]).unwrap();
        let end = watch(&only, Since::Now, &mut Notes::default());
        assert_eq!(end.unwrap_err(), "refused: 426 upgrade_required: m");
    }

    #[test]
    fn an_output_that_is_closed_meanwhile_ends_it() {
        let (reader, writer) = io::pipe().unwrap();
        let url = hold(vec![]);
        let args = args(&["--url", &url]).unwrap();
        let mut notes = Notes { outlet: Outlet::of(&writer), ..Notes::default() };
        let closing = thread::spawn(move || {
            thread::sleep(Duration::from_millis(50));
            drop(reader);
        });
        assert_eq!(watch(&args, Since::Now, &mut notes), Ok(End::OutputClosed));
        closing.join().unwrap();
    }

    #[test]
    fn with_debug_a_lost_job_is_looked_for_in_the_metrics() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("ws://{}", listener.local_addr().unwrap());
        thread::spawn(move || {
            let greeting = r#"{"type":"connection:status","status":"connected","stream_seq":1}"#;
            let ping = r#"{"type":"ping","stream_seq":1}"#;
            let lost = r#"{"type":"metrics","job_id":"j","metrics":{"status":"lost"}}"#;
            let mut sockets = Vec::new();
            for messages in [[greeting, ping], [greeting, lost]] {
                let mut socket = tungstenite::accept(listener.accept().unwrap().0).unwrap();
                messages.into_iter().for_each(|message| socket.send(Message::text(message)).unwrap());
                sockets.push(socket);
            }
            thread::sleep(Duration::from_secs(60));
        });
        let args = args(&["--url", &url, "--job", "j", "--debug", "--until-end"]).unwrap();
        let end = watch(&args, Since::Now, &mut Notes::default());
        assert_eq!(end, Ok(End::Job(JobEnd::Lost)));
    }

    #[test]
    fn nobody_there_at_first_is_an_error() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("ws://{}", listener.local_addr().unwrap());
        drop(listener);
        let args = args(&["--url", &url]).unwrap();
        let result = watch(&args, Since::Now, &mut Notes::default());
        assert!(result.unwrap_err().contains("refused"));
    }

    #[test]
    fn a_closed_output_ends_it_quietly_and_a_broken_one_does_not() {
        let broken = |kind| {
            let (url, _requests) = play(vec![vec![r#"{"stream_seq":1,"type":"x"}"#.to_owned()]]);
            let args = args(&["--url", &url]).unwrap();
            let mut notes = Notes { broken: Some(kind), ..Notes::default() };
            watch(&args, Since::Now, &mut notes)
        };
        assert_eq!(broken(ErrorKind::BrokenPipe), Ok(End::OutputClosed));
        assert!(broken(ErrorKind::StorageFull).unwrap_err().starts_with("output: "));
    }
}
