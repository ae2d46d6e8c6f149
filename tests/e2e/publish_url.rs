//! `publish --url`, `replay --url` and `sim --url`: before a server that speaks as the daemon does and fails in every way
//! it can, and before the daemon itself.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::corpus::corpus;
use crate::harness::middle::{Manner, Middle};
use crate::harness::tls::Certificates;
use crate::harness::tool::Tool;
use crate::harness::{Daemon, Scratch, luxcast, wait_until};

/// What the server does with a request that carries lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    /// Takes nothing, and says so.
    Draining,
    TooMany,
    /// Takes nothing; a proxy says so.
    BadGateway,
    /// Takes all or half, and closes without an answer.
    Mute,
    MuteHalf,
    /// Takes all and answers half.
    CutAnswer,
    /// Takes all and answers something else.
    Nonsense,
    /// Takes half and answers for it.
    Half,
    /// Answers, and closes the connection without having said so.
    Close,
}

const FAULTS: [Fault; 9] = [
    Fault::Draining,
    Fault::Mute,
    Fault::TooMany,
    Fault::MuteHalf,
    Fault::CutAnswer,
    Fault::BadGateway,
    Fault::Nonsense,
    Fault::Half,
    Fault::Close,
];

/// A daemon's `POST /api/v1/events`, as far as publishers can tell.
#[derive(Default)]
struct State {
    /// The lines taken.
    taken: Vec<String>,
    /// The last line accepted under each name.
    names: HashMap<String, u64>,
    /// What comes next; then there are none.
    faults: Vec<Fault>,
    connections: usize,
    /// How many lines each request had.
    requests: Vec<usize>,
}

struct Server {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Server {
    fn start(faults: &[Fault]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let faults = faults.iter().rev().copied().collect();
        let state = Arc::new(Mutex::new(State { faults, ..State::default() }));
        let own = state.clone();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let own = own.clone();
                own.lock().connections += 1;
                thread::spawn(move || {
                    let mut stream = BufReader::new(stream);
                    while serve(&mut stream, &own).is_some() {}
                });
            }
        });
        Self { address, state }
    }

    fn publish(&self, command: &str, arguments: &[&str]) -> Tool {
        let mut publish = luxcast();
        publish.args([command, "--url", &format!("http://{}", self.address)]).args(arguments);
        Tool::start(&mut publish)
    }

    fn taken(&self) -> Vec<String> {
        self.state.lock().taken.clone()
    }
}

/// Serves one request; none: the connection ends.
fn serve(stream: &mut BufReader<TcpStream>, state: &Mutex<State>) -> Option<()> {
    let mut fields = HashMap::new();
    let mut request = String::new();
    stream.read_line(&mut request).ok().filter(|count| *count > 0)?;
    assert_eq!(request, "POST /api/v1/events HTTP/1.1\r\n");
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        fields.insert(name.to_lowercase(), value.to_owned());
    }
    assert_eq!(fields["content-type"], "application/x-ndjson");
    let mut body = vec![0; fields["content-length"].parse().unwrap()];
    stream.read_exact(&mut body).ok()?;
    let body = String::from_utf8(body).unwrap();
    let lines: Vec<&str> = body.lines().collect();

    let mut state = state.lock();
    let fault = if body.is_empty() { Fault::None } else { state.faults.pop().unwrap_or(Fault::None) };
    if !body.is_empty() {
        state.requests.push(lines.len());
    }
    let stream = stream.get_mut();
    let mut answer = |status: u16, body: &str| {
        let head = format!("HTTP/1.1 {status} x\r\nContent-Length: {}\r\nRetry-After: 0\r\n\r\n", body.len());
        let whole = head + body;
        let part = if fault == Fault::CutAnswer { whole.len() - body.len() / 2 } else { whole.len() };
        let _ = stream.write_all(&whole.as_bytes()[..part]);
    };
    match fault {
        Fault::Draining => answer(503, r#"{"error":"draining","message":"it drains"}"#),
        Fault::TooMany => answer(429, r#"{"error":"too_many_requests","message":"slower"}"#),
        Fault::BadGateway => answer(502, "<html>"),
        _ => {
            let half = matches!(fault, Fault::MuteHalf | Fault::Half);
            let count = if half { lines.len().div_ceil(2) } else { lines.len() };
            let receipt = take(&mut state, &fields, &lines[..count]);
            let is_refused = receipt["accepted"] == 0 && receipt["refused_total"] != 0;
            match fault {
                Fault::Mute | Fault::MuteHalf => return None,
                Fault::Nonsense => answer(200, "{\"accepted\":\"all\"}"),
                _ => answer(if is_refused { 422 } else { 200 }, &receipt.to_string()),
            }
            if matches!(fault, Fault::CutAnswer | Fault::Close) {
                return None;
            }
        }
    }
    Some(())
}

fn take(state: &mut State, fields: &HashMap<String, String>, lines: &[&str]) -> Value {
    let name = fields.get("luxcast-publisher");
    let mark = name.and_then(|name| state.names.get(name)).copied().unwrap_or(0);
    let first = fields.get("luxcast-line").map_or(1, |line| line.parse().unwrap());
    let (mut accepted, mut refused, mut last) = (0, Vec::new(), mark);
    for (number, line) in (first..).zip(lines).filter(|(_, line)| !line.trim().is_empty()) {
        let is_known = name.is_some() && number <= mark;
        if !is_known && !line.contains("\"type\"") {
            refused.push(json!({"line": number, "code": "no_type", "message": "the event has no type"}));
            continue;
        }
        if !is_known {
            state.taken.push((*line).to_owned());
            last = number;
        }
        accepted += 1;
    }
    let total = refused.len();
    refused.truncate(64);
    let mut receipt =
        json!({"accepted": accepted, "refused": refused, "refused_total": total, "stream_seq": 9});
    if let Some(name) = name {
        state.names.insert(name.clone(), last);
        receipt["accepted_line"] = json!(last);
    }
    receipt
}

fn line(number: u32) -> String {
    format!(r#"{{"type":"x","job_id":"j","n":{number}}}"#)
}

fn write_corpus(scratch: &Scratch) -> (String, Vec<String>) {
    let lines: Vec<String> = corpus().into_iter().map(|line| line.text).collect();
    let file = scratch.path().join("events.ndjson");
    fs::write(&file, lines.join("\n") + "\n").unwrap();
    (file.to_str().unwrap().to_owned(), lines)
}

#[test]
fn whatever_fails_each_line_comes_once_and_in_order() {
    let scratch = Scratch::new();
    let (file, lines) = write_corpus(&scratch);
    let server = Server::start(&FAULTS);
    let (code, said) = server.publish("publish", &[&file, "--retry"]).end();
    assert_eq!(code, 0, "{said}");
    assert!(said.ends_with(&format!("\n{} lines accepted, 0 refused\n", lines.len())), "{said}");
    assert!(server.taken() == lines, "{said}");
    assert!(server.state.lock().faults.is_empty());
    for words in
        ["refused: 503 draining: it drains; trying again in", "refused: 429", "answered: 502", "is about"]
    {
        assert!(said.contains(words), "{words}: {said}");
    }
    // The same under the user's own name: a second run sends nothing.
    let server = Server::start(&FAULTS);
    let named = [file.as_str(), "--retry", "--dedupe", "--publisher", "nightly"];
    assert_eq!(server.publish("publish", &named).end().0, 0);
    let (code, said) = server.publish("publish", &named).end();
    assert!(code == 0 && said.contains("nothing was sent"), "{said}");
    assert!(server.taken() == lines, "{said}");
}

#[test]
fn refused_lines_are_named_once_by_their_number_in_the_input() {
    let input = format!("{}\n\n{{\"job_id\":\"j\"}}\n{{\"op\":\"hello\"}}\n{}\n{{}}\n", line(1), line(5));
    for (faults, arguments) in [
        (&[][..], &[][..]),
        (&[], &["--retry"]),
        (&[Fault::Draining], &["--retry"]),
        (&[Fault::Close], &[]),
        (&[Fault::Mute], &["--retry"]),
    ] {
        let server = Server::start(faults);
        let (code, said) = server.publish("publish", arguments).finish(input.as_bytes());
        assert_eq!(code, 1, "{said}");
        for words in ["line 3: no_type: ", "line 4: bad_op: not sent: ", "line 6: no_type: "] {
            assert_eq!(said.matches(words).count(), 1, "{faults:?} {arguments:?} {words}: {said}");
        }
        assert!(said.ends_with("2 lines accepted, 3 refused\n"), "{faults:?}: {said}");
        assert_eq!(server.taken(), [line(1), line(5)]);
    }
    // All of them: the daemon answers 422.
    let server = Server::start(&[]);
    let (code, said) = server.publish("publish", &[]).finish("{}\n".repeat(100).as_bytes());
    assert!(
        code == 1 && said.contains("0 lines accepted, 100 refused (64 named above, 36 more, not named)"),
        "{said}"
    );
}

#[test]
fn without_retry_a_failure_says_up_to_where_it_is_sure() {
    let scratch = Scratch::new();
    let (file, _) = write_corpus(&scratch);
    let server = Server::start(&[Fault::None, Fault::MuteHalf]);
    let (code, said) = server.publish("publish", &[&file]).end();
    let first = server.state.lock().requests[0];
    let sure =
        format!("lines up to {first} are acknowledged, 0 refused; lines behind them may have been taken\n");
    assert!(code == 1 && said.ends_with(&sure), "{said}");
    let server = Server::start(&[Fault::None, Fault::TooMany]);
    let (code, said) = server.publish("publish", &[&file]).end();
    let sure =
        format!("refused: 429 too_many_requests: slower; lines up to {first} are acknowledged, 0 refused\n");
    assert!(code == 1 && said.ends_with(&sure), "{said}");
    let (code, said) = server.publish("publish", &["/no/such/file"]).end();
    assert!(code == 2 && said.contains("/no/such/file"), "{said}");
    let mut nobody = luxcast();
    let (code, said) = Tool::start(nobody.args(["publish", "--url", "127.0.0.1:1"])).end();
    assert!(code == 1 && said.contains("no daemon listens there"), "{said}");
}

#[test]
fn a_slow_trickle_goes_out_line_by_line_on_one_connection() {
    let server = Server::start(&[]);
    let mut publish = server.publish("publish", &[]);
    let mut input = publish.child.stdin.take().unwrap();
    for number in 0..20 {
        input.write_all(format!("{}\n", line(number)).as_bytes()).unwrap();
        wait_until("the line is there", || server.taken().len() == number as usize + 1);
    }
    // Half a line waits for its end, and the last one needs none.
    input.write_all(&line(20).as_bytes()[..9]).unwrap();
    input.write_all(&line(20).as_bytes()[9..]).unwrap();
    drop(input);
    let (code, said) = publish.end();
    assert_eq!((code, said.as_str()), (0, "21 lines accepted, 0 refused\n"));
    let state = server.state.lock();
    assert_eq!((state.requests.len(), state.connections), (21, 1));
}

#[test]
fn what_is_there_goes_in_bounded_requests() {
    let server = Server::start(&[]);
    let scratch = Scratch::new();
    let (file, lines) = write_corpus(&scratch);
    assert_eq!(server.publish("publish", &[&file]).end().0, 0);
    let state = server.state.lock();
    let requests = state.requests.clone();
    assert!(
        requests.iter().all(|count| *count <= 2_000) && requests.len() < lines.len() / 500,
        "{requests:?}"
    );
    assert_eq!(state.connections, 1);
}

#[test]
fn replay_and_sim_publish_over_http_too() {
    let scratch = Scratch::new();
    let (file, lines) = write_corpus(&scratch);
    let server = Server::start(&FAULTS);
    let (code, said) = server.publish("replay", &[&file, "--speed", "max", "--retry"]).end();
    assert_eq!(code, 0, "{said}");
    assert!(server.taken() == lines, "{said}");
    let server = Server::start(&FAULTS);
    let arguments = ["--seed", "1", "--count", "3000", "--events-per-second", "0", "--jobs", "3"];
    let (code, said) = server.publish("sim", &arguments).end();
    assert_eq!(code, 0, "{said}");
    let taken = server.taken();
    assert_eq!(taken.len(), 3_000);
    let mut distinct = taken.clone();
    distinct.sort();
    distinct.dedup();
    let mut sim = luxcast();
    let alone = Tool::start(sim.args(["sim", "--stdout"]).args(arguments));
    let without_time = |line: &str| {
        let mut event: Value = serde_json::from_str(line).unwrap();
        event["timestamp"] = Value::Null;
        (event["type"].clone(), event["job_id"].clone())
    };
    let kinds: Vec<_> = (0..3_000).map(|_| without_time(&alone.line()).0).collect();
    assert!(taken.iter().map(|line| without_time(line).0).eq(kinds), "the order is the engine's");
}

#[test]
fn wrong_arguments_are_usage_errors() {
    for arguments in [
        &["publish", "--url", "ftp://h"][..],
        &["publish", "--url", "http://h", "--ingest", "/s"],
        &["publish", "--retry"],
        &["publish", "--token", "t"],
        &["publish", "--url", "http://h", "--ca", "f"],
        &["publish", "--url", "http://h", "--token", "a b"],
        &["replay", "--url", "http://h/api/v1/jobs"],
        &["sim", "--url", "http://h", "--stdout"],
        &["sim", "--url", "http://:1"],
    ] {
        let (code, said) = Tool::start(luxcast().args(arguments)).end();
        assert_eq!(code, 2, "{arguments:?}: {said}");
    }
}

const EVENTS: &str = "/api/ws/events";
const TOKEN: &str = "token-of-the-engine";

/// A file of tokens: one that may publish, one for some jobs, and one that only watches.
fn write_tokens(scratch: &Scratch) -> String {
    let file = scratch.path().join("tokens");
    fs::write(
        &file,
        format!("{TOKEN} publish all debug\nsome-token-some publish=j\nwatch-token-watch all\n"),
    )
    .unwrap();
    file.to_str().unwrap().to_owned()
}

/// The events that the daemon keeps, without their numbers.
fn kept(daemon: &Daemon, count: usize) -> Vec<String> {
    let mut watcher = daemon.watch(&format!("{EVENTS}?since=start&token={TOKEN}"));
    let events = watcher.events(count);
    assert!(events.is_sorted_by_key(|event| crate::harness::seq_of(event)));
    events.iter().map(|event| format!("{{{}", event.split_once(',').unwrap().1)).collect()
}

#[test]
fn a_restart_and_cuts_in_the_middle_lose_and_double_nothing() {
    let scratch = Scratch::new();
    let (_, lines) = write_corpus(&scratch);
    let tokens = write_tokens(&scratch);
    let state = scratch.path().join("state");
    let start = || Daemon::start(&["--token-file", &tokens, "--state-dir", state.to_str().unwrap()]);
    let mut daemon = start();
    let middle = Middle::start(daemon.address, Manner::Pass);
    let mut publish = luxcast();
    publish.args(["publish", "--retry", "--url", &format!("http://{}/", middle.address)]);
    let mut publish = Tool::start(publish.env("LUXCAST_TOKEN", TOKEN));
    let mut input = publish.child.stdin.take().unwrap();
    let parts: Vec<&[String]> = lines.chunks(lines.len() / 6).collect();
    let mut written = 0;
    for (round, part) in parts.iter().enumerate() {
        let text: String = part.iter().map(|line| format!("{line}\n")).collect();
        // Half of it is on its way when the connection ends, or the daemon.
        let (first, second) = text.split_at(text.len() / 2);
        input.write_all(first.as_bytes()).unwrap();
        match round % 2 {
            0 => middle.cut(),
            _ => {
                daemon.stop();
                input.write_all(&second.as_bytes()[..1_000]).unwrap();
                daemon = start();
                middle.lead_to(daemon.address);
            }
        }
        input.write_all(&second.as_bytes()[if round % 2 == 0 { 0 } else { 1_000 }..]).unwrap();
        written += part.len();
        assert!(kept(&daemon, written) == lines[..written], "round {round}\n{}", publish.stderr.so_far());
    }
    drop(input);
    let (code, said) = publish.end();
    assert_eq!(code, 0, "{said}");
    assert!(said.ends_with(&format!("{} lines accepted, 0 refused\n", lines.len())), "{said}");
    assert!(kept(&daemon, lines.len()) == lines, "{said}");
    let newest = daemon.watch(&format!("{EVENTS}?token={TOKEN}")).connected();
    let last = daemon.watch(&format!("{EVENTS}?since=-1&token={TOKEN}")).event();
    assert_eq!(crate::harness::seq_of(&last), Some(newest), "nothing comes behind the last line");
}

#[test]
fn the_daemon_takes_a_corpus_from_each_command() {
    let scratch = Scratch::new();
    let (file, lines) = write_corpus(&scratch);
    let tokens = write_tokens(&scratch);
    for arguments in [
        &["publish", &file][..],
        &["publish", &file, "--dedupe", "--publisher", "ci"],
        &["replay", &file, "--speed", "max", "--retry"],
    ] {
        let daemon = Daemon::start(&["--token-file", &tokens]);
        let mut command = luxcast();
        command.args(arguments).args(["--token", TOKEN, "--url", &daemon.address.to_string()]);
        let (code, said) = Tool::start(&mut command).end();
        assert_eq!(code, 0, "{arguments:?}: {said}");
        assert!(kept(&daemon, lines.len()) == lines, "{arguments:?}");
    }
    // The same name by the socket and over HTTP is one publisher.
    let daemon = Daemon::start(&["--token-file", &tokens]);
    let named = ["publish", &file, "--dedupe", "--publisher", "ci"];
    let mut socket = luxcast();
    let by_socket = Tool::start(socket.args(named).arg("--ingest").arg(&daemon.ingest)).end();
    let mut http = luxcast();
    http.args(named).args(["--token", TOKEN, "--url", &daemon.address.to_string()]);
    let over_http = Tool::start(&mut http).end();
    assert_eq!((by_socket.0, over_http.0), (0, 0), "{over_http:?}");
    assert!(over_http.1.contains("nothing was sent"), "{}", over_http.1);
    assert!(kept(&daemon, lines.len()) == lines);
}

#[test]
fn the_daemons_words_reach_the_user() {
    let scratch = Scratch::new();
    let tokens = write_tokens(&scratch);
    let daemon = Daemon::start(&["--token-file", &tokens]);
    let off = Daemon::start(&["--http-publish", "off"]);
    let plain = Daemon::start(&[]);
    let publish = |daemon: &Daemon, command: &str, token: &str, input: &str| {
        let mut publish = luxcast();
        publish.args([command, "--url", &daemon.address.to_string()]);
        if !token.is_empty() {
            publish.args(["--token", token]);
        }
        let mut tool = Tool::start(&mut publish);
        // It may have ended before it reads.
        let _ = tool.child.stdin.take().unwrap().write_all(input.as_bytes());
        tool.end()
    };
    for command in ["publish", "replay", "sim"] {
        for (daemon, token, words) in [
            (&daemon, "", "refused: 401 unauthorized"),
            (&daemon, "unknown-token", "refused: 401 unauthorized"),
            (&daemon, "watch-token-watch", "refused: 403 forbidden_scope"),
            (&off, "", "refused: 404 not_found: nothing is published over HTTP here (http_publish = off)"),
            (&plain, "", "refused: 401 unauthorized: publishing needs a token with the scope publish"),
        ] {
            let (code, said) = publish(daemon, command, token, &line(1));
            assert!(code == 1 && said.contains(words), "{command}: {said}");
            assert!(!said.contains("token-watch") && !said.contains("unknown-token"), "{said}");
        }
    }
    // For one job alone, and a fault with its place.
    let input = format!(
        "{}\n{{\"type\":\"x\",\"job_id\":\"k\"}}\n{{\"type\":\"x\",\"job_id\":\"etl/7\"}}\n",
        line(1)
    );
    let (code, said) = publish(&daemon, "publish", "some-token-some", &input);
    assert_eq!(code, 1, "{said}");
    for words in [
        "line 2: forbidden: ",
        "line 3: bad_id: ",
        ": job_id: character 4 is '/'\n",
        "1 line accepted, 2 refused\n",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
}

#[test]
fn publishing_is_encrypted_where_the_address_says_so() {
    let scratch = Scratch::new();
    let tokens = write_tokens(&scratch);
    let certificates = Certificates::new();
    let daemon = certificates.setup().flags(&["--token-file", &tokens]).start();
    let url = format!("https://localhost:{}/api/v1/events", daemon.address.port());
    let publish = |arguments: &[&str]| {
        let mut publish = luxcast();
        publish.args(["publish", "/dev/null", "--url", &url]).args(arguments);
        Tool::start(publish.env("LUXCAST_TOKEN", TOKEN)).end()
    };
    let (code, said) = publish(&["--ca", &certificates.text_path("ca.pem")]);
    assert_eq!((code, said.as_str()), (0, "0 lines accepted, 0 refused\n"));
    let (code, said) = publish(&[]);
    assert!(code == 1 && said.contains("certificate"), "{said}");
}
