//! `luxcast publish`: sends a file or standard input to the daemon's socket and reports the lines that it refuses.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use clap::ValueHint;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Deserialize;

use crate::cli::earlier::Earlier;
use crate::cli::feed::Places;
use crate::cli::feed_url::FeedUrl;
use crate::cli::outlet::{Outlet, Waiting, is_output_closed};
use crate::cli::publish_http::{self, OverHttp};
use crate::cli::summary::Summary;
use crate::cli::unjudged::Unjudged;
use crate::cli::{EXIT_USAGE, say};
use crate::wire::line::{is_id, trim};
use crate::wire::members::is_control_line;

/// Bytes read at once, and sent at once.
const BLOCK_BYTES: usize = 64 * 1024;

/// How much of a line is held at once. Longer lines pass in pieces; the daemon judges them.
const PIECE_BYTES_MAX: u64 = 1024 * 1024;

/// How long the daemon may take to answer `hello`.
const WELCOME_SECONDS: Duration = Duration::from_secs(10);

#[derive(Debug, clap::Args)]
pub struct PublishArgs {
    /// File with the events, one JSON object a line; - is standard input
    #[arg(value_name = "FILE", default_value = "-", value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
    /// The daemon's ingest socket [default: LUXCAST_INGEST, else the first of $XDG_RUNTIME_DIR/luxcast.sock and
    /// /run/luxcast/ingest.sock where a daemon listens]
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub ingest: Option<PathBuf>,
    #[command(flatten)]
    pub http: FeedUrl,
    /// With --url: try again for as long as it takes, also when the connection is lost. No line comes twice
    #[arg(long, requires = "url")]
    pub retry: bool,
    /// Name of this publisher, for --dedupe
    #[arg(long, value_name = "NAME", allow_hyphen_values = true, value_parser = publisher_name,
          value_hint = ValueHint::Other)]
    pub publisher: Option<String>,
    /// Skip the lines up to the last one that was accepted under this name: sends the same input again after a
    /// failure. Another input needs another name
    #[arg(long, requires = "publisher")]
    pub dedupe: bool,
    /// Show no progress bar
    #[arg(long)]
    pub no_progress: bool,
    /// Says nothing if all lines were accepted.
    #[arg(skip)]
    pub is_quiet: bool,
}

fn publisher_name(text: &str) -> Result<String, String> {
    if is_id(text) {
        return Ok(text.to_owned());
    }
    Err("must be 1 to 128 characters from A-Z a-z 0-9 _ . : -".to_owned())
}

/// Exit code 0: all accepted, as far as it shows: with `--dedupe` an earlier run may have been told of lines that only the
/// daemon knew to refuse. 1: some refused now, some that no daemon takes, or no daemon. 2: no input, or wrong usage.
pub fn run(args: PublishArgs) -> ExitCode {
    run_as("publish", args, |input, _| input)
}

/// The same for another command. `through` passes the input on, and gets the outlet to the daemon.
pub fn run_as(
    name: &str,
    args: PublishArgs,
    through: impl FnOnce(Box<dyn Read>, Outlet) -> Box<dyn Read>,
) -> ExitCode {
    let way = match args.http.way() {
        Ok(way) => way,
        Err(problem) => {
            say(&format!("luxcast {name}: {problem}"));
            return ExitCode::from(EXIT_USAGE);
        }
    };
    let opened = match args.file == Path::new("-") {
        true => io::stdin().as_fd().try_clone_to_owned().map(File::from),
        false => File::open(&args.file),
    };
    let readable = opened.and_then(|file| match file.metadata()? {
        metadata if metadata.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
        metadata => Ok((file, metadata)),
    });
    let (file, metadata) = match readable {
        Ok(readable) => readable,
        Err(error) => {
            say(&format!("luxcast {name}: {}: {error}", args.file.display()));
            return ExitCode::from(EXIT_USAGE);
        }
    };
    let size = metadata.is_file().then_some(metadata.len());
    // The daemon may go while there is nothing to send.
    let outlet = Outlet::default();
    let input = Box::new(Waiting { input: file, outlet: outlet.clone() });
    let bar = progress_bar(size, args.no_progress);
    let say_above_bar = |line: &str| bar.suspend(|| say(line));
    let input = through(input, outlet.clone());
    let outcome = match way {
        None => publish(&args, input, &outlet, &say_above_bar, &bar),
        Some(way) => {
            let args = OverHttp {
                way,
                dedupe_as: args.publisher.clone().filter(|_| args.dedupe),
                retries: args.retry,
                file: &args.file,
            };
            publish_http::publish(args, input, &say_above_bar, &bar)
        }
    };
    bar.finish_and_clear();
    match outcome {
        Ok(summary) => {
            let is_bad = summary.refused + summary.never_accepted > 0;
            if is_bad || !args.is_quiet {
                say(&summary.text(args.publisher.as_deref().filter(|_| args.dedupe)));
            }
            ExitCode::from(u8::from(is_bad))
        }
        Err(error) => {
            say(&format!("luxcast {name}: {error}"));
            ExitCode::from(1)
        }
    }
}

/// Drawn on standard error, and only where that is a terminal.
fn progress_bar(size: Option<u64>, is_hidden: bool) -> ProgressBar {
    let target = if is_hidden { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
    let template = match size {
        Some(_) => "{wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {msg}",
        None => "{spinner} {bytes} {bytes_per_sec} {msg}",
    };
    let style = ProgressStyle::with_template(template).expect("a fixed template");
    let bar = ProgressBar::with_draw_target(size, target);
    bar.set_style(style);
    bar
}

/// An answer of the daemon. Unknown words are for later versions.
#[derive(Debug, Deserialize)]
#[serde(tag = "op", rename_all = "lowercase")]
enum Answer {
    Welcome {
        #[serde(default)]
        accepted: u64,
    },
    Ack {
        line: u64,
        /// Lines refused so far. Older daemons do not send it.
        #[serde(default)]
        refused: u64,
    },
    Error {
        line: u64,
        code: String,
        message: String,
    },
    #[serde(other)]
    Other,
}

/// Shared by the thread that reads the answers and the one that sends.
#[derive(Default)]
struct Answers {
    seen: Mutex<Seen>,
    changed: Condvar,
    unjudged: Mutex<Unjudged>,
}

#[derive(Default)]
struct Seen {
    /// Lines of the input up to this one are settled.
    acknowledged: u64,
    /// Refused lines that the daemon named: it drops errors rather than wait for us.
    named: u64,
    /// Refused lines by the daemon's count.
    refused: u64,
    /// Why no more answers come.
    end: Option<String>,
}

impl Seen {
    fn refused(&self) -> u64 {
        self.refused.max(self.named)
    }
}

impl Answers {
    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Seen)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    fn unjudged(&self) -> MutexGuard<'_, Unjudged> {
        self.unjudged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until all lines up to `line` are acknowledged or no more answers come.
    fn wait_for(&self, line: u64) -> MutexGuard<'_, Seen> {
        let is_pending = |seen: &mut Seen| seen.acknowledged < line && seen.end.is_none();
        self.changed.wait_while(self.lock(), is_pending).unwrap_or_else(PoisonError::into_inner)
    }
}

/// `outlet` is opened on the daemon's socket; `say` takes whole lines for people.
fn publish(
    args: &PublishArgs,
    input: impl Read,
    outlet: &Outlet,
    say: &(dyn Fn(&str) + Sync),
    bar: &ProgressBar,
) -> Result<Summary, String> {
    let places = Places::new(args.ingest.clone());
    let (mut socket, path) = places.connect()?;
    let fail = |error: io::Error| format!("{}: {error}", path.display());
    outlet.open(&socket);
    let mut reader = BufReader::new(socket.try_clone().map_err(fail)?);
    let accepted_before = greet(args, &mut socket, &mut reader).map_err(fail)?;
    // Without `dedupe`, the daemon counts `hello` as line 1.
    let hello_lines = u64::from(!args.dedupe);

    let answers = Answers::default();
    answers.change(|seen| seen.acknowledged = accepted_before);
    let mut earlier = Earlier::new(accepted_before);
    let sent = std::thread::scope(|scope| {
        scope.spawn(|| read_answers(reader, hello_lines, &answers, say));
        let sent = send(input, &socket, &mut earlier, &answers, say, bar);
        if let Ok(Sent { last_line, .. }) = &sent {
            drop(answers.wait_for(*last_line));
        }
        // Ends the other thread, if it still runs. All that matters has been said.
        let _ = socket.shutdown(std::net::Shutdown::Both);
        sent
    });

    let seen = answers.lock();
    let gone = |reason: &str| {
        format!(
            "the daemon went away ({reason}); lines up to {} are acknowledged, {} refused",
            seen.acknowledged,
            seen.refused()
        )
    };
    let sent = sent.map_err(|error| match error {
        SendError::Input(error) if is_output_closed(&error) => gone("end of stream"),
        SendError::Input(error) => format!("{}: {error}", args.file.display()),
        SendError::Socket(error) => gone(&error.to_string()),
    })?;
    if seen.acknowledged < sent.last_line {
        return Err(gone(seen.end.as_deref().unwrap_or("end of stream")));
    }
    if earlier.unnamed() > 0 {
        say(&format!("{} more lines never accepted, not named", earlier.unnamed()));
    }
    let refused = seen.refused() + sent.withheld;
    Ok(Summary {
        accepted: sent.lines.saturating_sub(refused),
        refused,
        unnamed: seen.refused() - seen.named,
        accepted_earlier: earlier.skipped - earlier.never_accepted,
        never_accepted: earlier.never_accepted,
    })
}

/// Says hello and waits for the welcome: how many lines of this name were accepted before.
fn greet(args: &PublishArgs, socket: &mut UnixStream, reader: &mut BufReader<UnixStream>) -> io::Result<u64> {
    let mut hello = String::from(r#"{"op":"hello","ack":true"#);
    if let Some(name) = &args.publisher {
        hello.push_str(&format!(r#","publisher":"{name}""#));
    }
    // With `dedupe`, the first line sent is the one after the last accepted, with the same number here and there.
    hello.push_str(if args.dedupe { ",\"dedupe\":true}\n" } else { "}\n" });
    socket.write_all(hello.as_bytes())?;
    socket.set_read_timeout(Some(WELCOME_SECONDS))?;
    let mut answer = String::new();
    match reader.read_line(&mut answer) {
        Ok(0) => return Err(io::Error::other("closed by the daemon before its welcome")),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            return Err(io::Error::other("no welcome from the daemon"));
        }
        other => other?,
    };
    socket.set_read_timeout(None)?;
    match serde_json::from_str(&answer) {
        Ok(Answer::Welcome { accepted }) => Ok(accepted),
        Ok(Answer::Error { message, .. }) => Err(io::Error::other(message)),
        _ => Err(io::Error::other("this is not a luxcast feed")),
    }
}

fn read_answers(reader: impl BufRead, hello_lines: u64, answers: &Answers, say: &(dyn Fn(&str) + Sync)) {
    let mut end = "end of stream".to_owned();
    for line in reader.lines() {
        match line {
            Ok(line) => match serde_json::from_str(&line) {
                Ok(Answer::Ack { line, refused }) => {
                    let line = line.saturating_sub(hello_lines);
                    answers.unjudged().forget_before(line.saturating_add(1));
                    answers.change(|seen| {
                        seen.acknowledged = seen.acknowledged.max(line);
                        seen.refused = seen.refused.max(refused);
                    });
                }
                Ok(Answer::Error { line, code, message }) => {
                    let line = line.saturating_sub(hello_lines);
                    let place = answers.unjudged().place(line, &code);
                    say(&format!("line {line}: {code}: {message}{place}"));
                    answers.change(|seen| seen.named += 1);
                }
                _ => {}
            },
            Err(error) => {
                end = error.to_string();
                break;
            }
        }
    }
    answers.change(|seen| seen.end = Some(end));
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Sent {
    /// Lines that are not blank and were not accepted earlier.
    lines: u64,
    /// The number of the last of these.
    last_line: u64,
    /// Lines of these that were not sent, since they are control lines and not events.
    withheld: u64,
}

enum SendError {
    Input(io::Error),
    Socket(io::Error),
}

/// Sends all lines but the earlier ones, each with its newline. Blank and withheld lines are sent empty, so that the
/// numbers stay those of the input.
fn send(
    input: impl Read,
    socket: impl Write,
    earlier: &mut Earlier,
    answers: &Answers,
    say: &(dyn Fn(&str) + Sync),
    bar: &ProgressBar,
) -> Result<Sent, SendError> {
    let mut input = BufReader::with_capacity(BLOCK_BYTES, input);
    let mut socket = BufWriter::with_capacity(BLOCK_BYTES, socket);
    let mut sent = Sent::default();
    let (mut number, mut last_line) = (1, 0);
    let mut piece = Vec::new();
    let mut is_line_start = true;
    let mut bytes = 0;
    loop {
        piece.clear();
        let length =
            (&mut input).take(PIECE_BYTES_MAX).read_until(b'\n', &mut piece).map_err(SendError::Input)?;
        let is_line_end = piece.ends_with(b"\n");
        if length == 0 {
            break;
        }
        bytes += length as u64;
        let is_whole = is_line_start && (is_line_end || length < PIECE_BYTES_MAX as usize);
        let text = piece.strip_suffix(b"\n").unwrap_or(&piece);
        let is_first_of_line = !trim(text).is_empty() && last_line != number;
        if is_first_of_line {
            last_line = number;
        }
        if earlier.has(number) {
            if is_first_of_line && let Some(news) = earlier.note(number, text, is_whole) {
                say(&news);
            }
            piece.clear();
        } else if is_first_of_line {
            sent.lines += 1;
            sent.last_line = number;
            if is_whole {
                answers.unjudged().push(number, &text[trim(text)]);
            }
        }
        // The daemon would take it for `hello` or `from`, and our count would be wrong: a file made for `socat` may
        // begin with one.
        if is_line_start && is_control_line(&piece) {
            say(&format!("line {number}: bad_op: not sent: a control line, not an event"));
            sent.withheld += 1;
            piece.clear();
            piece.push(b'\n');
        }
        socket.write_all(&piece).map_err(SendError::Socket)?;
        number += u64::from(is_line_end);
        is_line_start = is_line_end;
        // The next read may wait for a slow writer: what is here is sent first.
        if input.buffer().is_empty() {
            socket.flush().map_err(SendError::Socket)?;
            bar.set_position(bytes);
            bar.set_message(format!("{} refused", answers.lock().refused()));
        }
    }
    if !is_line_start && !earlier.has(number) {
        socket.write_all(b"\n").map_err(SendError::Socket)?;
    }
    socket.flush().map_err(SendError::Socket)?;
    Ok(sent)
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::path::{Path, PathBuf};
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::thread;

    use indicatif::ProgressBar;

    use super::{
        Answers, Earlier, FeedUrl, Outlet, PIECE_BYTES_MAX, PublishArgs, Sent, Summary, is_control_line,
        publish, publisher_name, send,
    };
    use crate::wire::line::{LineError, write_error, write_welcome};

    fn sent(input: &[u8]) -> (Sent, Vec<u8>) {
        let mut out = Vec::new();
        let bar = ProgressBar::hidden();
        let result = send(input, &mut out, &mut Earlier::new(0), &Answers::default(), &|_| {}, &bar);
        (result.ok().unwrap(), out)
    }

    #[test]
    fn counts_lines_and_ends_the_last_one() {
        let (counted, out) = sent(b"{\"a\":1}\n\n  \r\n{\"b\":2}");
        assert_eq!(counted, Sent { lines: 2, last_line: 4, withheld: 0 });
        assert_eq!(out, b"{\"a\":1}\n\n  \r\n{\"b\":2}\n");
        assert_eq!(sent(b""), (Sent::default(), Vec::new()));
        assert_eq!(sent(b"\n\n"), (Sent::default(), b"\n\n".to_vec()));
    }

    #[test]
    fn a_line_longer_than_a_piece_is_one_line() {
        let mut input = vec![b'x'; 2 * PIECE_BYTES_MAX as usize + 5];
        input.extend_from_slice(b"\ny\n");
        let (counted, out) = sent(&input);
        assert_eq!((counted.lines, counted.last_line), (2, 2));
        assert_eq!(out, input);
    }

    #[test]
    fn control_lines_are_withheld() {
        let (counted, out) = sent(b"{\"op\":\"hello\",\"ack\":false}\n{\"type\":\"x\"}\n");
        assert_eq!(counted, Sent { lines: 2, last_line: 2, withheld: 1 });
        assert_eq!(out, b"\n{\"type\":\"x\"}\n");
        assert!(is_control_line(b" {\"a\":1,\"op\":null}\r\n"));
        for other in
            [&br#"{"op":"hello","type":"x"}"#[..], br#"{"data":{"op":1}}"#, br#"["op"]"#, br#"{"op":"#]
        {
            assert!(!is_control_line(other));
        }
    }

    #[test]
    fn names_of_publishers() {
        assert!(publisher_name("engine-1").is_ok());
        assert!(publisher_name("a b").is_err() && publisher_name("").is_err());
    }

    /// A directory for each test, removed afterwards.
    struct Directory(PathBuf);

    impl Directory {
        fn new() -> Self {
            static COUNT: AtomicU32 = AtomicU32::new(0);
            let name =
                format!("luxcast-publish-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
            let path = std::env::temp_dir().join(name);
            std::fs::create_dir(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn args(socket: &Path, dedupe: bool) -> PublishArgs {
        PublishArgs {
            file: PathBuf::from("-"),
            ingest: Some(socket.to_owned()),
            http: FeedUrl::default(),
            retry: false,
            publisher: dedupe.then(|| "p1".to_owned()),
            dedupe,
            no_progress: true,
            is_quiet: false,
        }
    }

    /// Publishes to a daemon played by `daemon`; returns the outcome and what was said.
    fn publish_to(
        dedupe: bool,
        input: impl Read,
        daemon: impl FnOnce(BufReader<UnixStream>, UnixStream) + Send,
    ) -> (Result<Summary, String>, Vec<String>) {
        let directory = Directory::new();
        let path = directory.0.join("ingest.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let said = Mutex::new(Vec::new());
        let outcome = thread::scope(|scope| {
            scope.spawn(|| {
                let (socket, _) = listener.accept().unwrap();
                daemon(BufReader::new(socket.try_clone().unwrap()), socket);
            });
            let say = |line: &str| said.lock().unwrap().push(line.to_owned());
            publish(&args(&path, dedupe), input, &Outlet::default(), &say, &ProgressBar::hidden())
        });
        (outcome, said.into_inner().unwrap())
    }

    /// As older daemons send it, without a count of refused lines.
    fn write_ack(out: &mut Vec<u8>, line: u64, stream_seq: u64) {
        let ack = format!(r#"{{"op":"ack","line":{line},"stream_seq":{stream_seq}}}"#);
        out.extend_from_slice(format!("{ack}\n").as_bytes());
    }

    fn line(reader: &mut BufReader<UnixStream>) -> String {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        line
    }

    fn answer(socket: &mut UnixStream, write: impl FnOnce(&mut Vec<u8>)) {
        let mut out = Vec::new();
        write(&mut out);
        socket.write_all(&out).unwrap();
    }

    #[test]
    fn refused_lines_are_reported_by_their_number_in_the_file() {
        let input = &b"{\"n\":1}\n\nbad\n{\"n\":4}"[..];
        let (outcome, said) = publish_to(false, input, |mut reader, mut socket| {
            assert_eq!(line(&mut reader), "{\"op\":\"hello\",\"ack\":true}\n");
            answer(&mut socket, |out| write_welcome(out, 9, None));
            for expected in ["{\"n\":1}\n", "\n", "bad\n", "{\"n\":4}\n"] {
                assert_eq!(line(&mut reader), expected);
            }
            answer(&mut socket, |out| {
                write_error(out, 4, LineError::BadJson);
                write_ack(out, 4, 10);
                out.extend_from_slice(b"{\"op\":\"news\"}\n");
                write_ack(out, 5, 11);
            });
            assert_eq!(line(&mut reader), "");
        });
        let expected = Summary { accepted: 2, refused: 1, ..Summary::default() };
        assert_eq!(outcome, Ok(expected));
        assert_eq!(said, ["line 3: bad_json: the line is not one valid JSON value: byte 1"]);
    }

    #[test]
    fn with_dedupe_the_numbers_are_the_files_own_and_what_was_accepted_is_not_sent() {
        let input = &b"{\"type\":\"x\",\"job_id\":\"j\"}\nbad\n\n{\"n\":4}\n\nworse"[..];
        let (outcome, said) = publish_to(true, input, |mut reader, mut socket| {
            assert_eq!(
                line(&mut reader),
                "{\"op\":\"hello\",\"ack\":true,\"publisher\":\"p1\",\"dedupe\":true}\n"
            );
            answer(&mut socket, |out| write_welcome(out, 9, Some(3)));
            assert_eq!([0; 3].map(|_| line(&mut reader)), ["{\"n\":4}\n", "\n", "worse\n"]);
            answer(&mut socket, |out| {
                write_error(out, 6, LineError::BadJson);
                write_ack(out, 6, 10);
            });
            assert_eq!(line(&mut reader), "");
        });
        let expected =
            Summary { accepted: 1, refused: 1, unnamed: 0, accepted_earlier: 1, never_accepted: 1 };
        assert_eq!(outcome, Ok(expected));
        let reason = "bad_json: the line is not one valid JSON value: byte 1";
        assert_eq!(said, [format!("line 2: {reason} (never accepted)"), format!("line 6: {reason}")]);
    }

    #[test]
    fn an_input_that_was_accepted_to_its_end_is_not_sent() {
        for input in ["{\"type\":\"x\",\"job_id\":\"j\"}\n", "{\"type\":\"x\",\"job_id\":\"j\"}"] {
            let (outcome, said) = publish_to(true, input.as_bytes(), |mut reader, mut socket| {
                line(&mut reader);
                answer(&mut socket, |out| write_welcome(out, 9, Some(1)));
                assert_eq!(line(&mut reader), "");
            });
            assert_eq!(outcome, Ok(Summary { accepted_earlier: 1, ..Summary::default() }));
            assert!(said.is_empty(), "{said:?}");
        }
    }

    #[test]
    fn refused_lines_that_are_not_named_are_counted_by_the_ack() {
        let input = "bad\n".repeat(1_000);
        let (outcome, said) = publish_to(false, input.as_bytes(), |mut reader, mut socket| {
            line(&mut reader);
            answer(&mut socket, |out| write_welcome(out, 9, None));
            (0..1_000).for_each(|_| drop(line(&mut reader)));
            answer(&mut socket, |out| {
                (2..66).for_each(|number| write_error(out, number, LineError::BadJson));
                let ack = r#"{"op":"ack","line":1001,"stream_seq":9,"refused":1000}"#;
                out.extend_from_slice(format!("{ack}\n").as_bytes());
            });
            assert_eq!(line(&mut reader), "");
        });
        let expected = Summary { refused: 1_000, unnamed: 936, ..Summary::default() };
        assert_eq!((outcome, said.len()), (Ok(expected), 64));
    }

    #[test]
    fn a_daemon_that_goes_away_is_an_error() {
        let (outcome, _) = publish_to(false, &b"{}\n{}\n"[..], |mut reader, mut socket| {
            line(&mut reader);
            answer(&mut socket, |out| {
                write_welcome(out, 9, None);
                write_ack(out, 2, 10);
            });
            // Ends with nothing unread, so that the daemon sees an end and not a reset.
            line(&mut reader);
            line(&mut reader);
        });
        assert_eq!(
            outcome.unwrap_err(),
            "the daemon went away (end of stream); lines up to 1 are acknowledged, 0 refused"
        );
        let (outcome, _) = publish_to(false, std::io::repeat(b'\n'), |mut reader, mut socket| {
            line(&mut reader);
            answer(&mut socket, |out| write_welcome(out, 9, None));
        });
        assert!(outcome.unwrap_err().starts_with("the daemon went away ("));
        let (outcome, _) = publish_to(false, &b""[..], |mut reader, _| {
            line(&mut reader);
        });
        assert!(outcome.unwrap_err().ends_with("before its welcome"));
    }

    #[test]
    fn nothing_to_send_is_no_error() {
        let (outcome, said) = publish_to(false, &b"\n \n"[..], |mut reader, mut socket| {
            line(&mut reader);
            answer(&mut socket, |out| write_welcome(out, 9, None));
            while !line(&mut reader).is_empty() {}
        });
        assert_eq!((outcome, said), (Ok(Summary::default()), Vec::new()));
    }

    #[test]
    fn answers_are_read_while_lines_are_sent() {
        // Neither side's socket buffer would hold all of this.
        let input = "x\n".repeat(200_000);
        let (outcome, said) = publish_to(false, input.as_bytes(), |reader, mut socket| {
            answer(&mut socket, |out| write_welcome(out, 9, None));
            for number in (1..).zip(reader.lines()).map(|(number, _)| number).skip(1) {
                answer(&mut socket, |out| {
                    write_error(out, number, LineError::BadJson);
                    if number == 200_001 {
                        write_ack(out, number, 9);
                    }
                });
            }
        });
        assert_eq!(outcome.map(|summary| summary.refused), Ok(200_000));
        assert_eq!(said.len(), 200_000);
    }
}
