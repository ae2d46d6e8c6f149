//! Everything that papers show works as written: their commands, programs and configurations run word for word, and
//! every message looks as documented.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::thread;

use parking_lot::Mutex;
use rustix::process::Signal;
use serde_json::Value;

use crate::harness::http_feed::{HttpFeed, LINES};
use crate::harness::stage::{Actor, Stage};
use crate::harness::tool::{Tool, publish};
use crate::harness::{Client, Daemon, PATIENCE, wait_until};

/// Lines of `sh` samples that begin with this are not run, for this reason.
const NOT_RUN: [(&str, &str); 20] = [
    ("cargo build", "it takes minutes; the programs under test are what it builds"),
    ("cargo install", "it takes minutes, and changes this machine"),
    ("cargo test", "it runs this test"),
    ("cargo run --release --bin luxcast-soak", "it takes long; tools/test runs it"),
    ("tools/test", "it runs this test"),
    ("tools/package", "it needs a machine to boot; what it makes is looked at in package.rs"),
    ("pip install", "it needs the network; tools/python/check installs the package"),
    ("apt install", "it changes this machine; tools/packaging/installed does it in an overlay"),
    ("adduser", "it changes this machine's users"),
    ("systemctl", "it needs a booted systemd; tools/packaging/installed has one"),
    ("journalctl", "it needs a booted systemd"),
    ("docker", "it needs an engine for containers; container.rs starts what the image starts"),
    ("sudo chown", "the file is made by a container, which is not run"),
    ("promtool test rules", "it takes long; prometheus.rs runs it"),
    ("luxcast bus", "it needs servers of NATS; tests/nats has some"),
    ("sudo -u luxcast luxcast bus", "it needs servers of NATS; tests/nats has some"),
    ("nats-server", "it is such a server"),
    ("nats --server", "it is a program of others, which asks such a server"),
    ("luxcast serve --demo --bus", "it needs servers of NATS; tests/nats has some"),
    ("luxcast-bench", "it measures for minutes; bench.rs runs it with small figures"),
];

/// Python samples that contain this are run where Routilux is installed, by tools/python/tests/test_routilux.py.
const ROUTILUX: &str = "import luxcast.routilux";

/// `text` samples that no program writes or reads: the paper, and a part of them.
const DRAWINGS: [(&str, &str); 3] = [
    ("src/delivery/README.md", "publishers ══"),
    ("tools/packaging/many-hosts/README.md", "   engine"),
    (".github/CONTRIBUTING.md", "event close config"),
];

/// The lines of an endless feed, so that whatever a sample watches soon has events.
const FEED: [&str; 4] = [
    r#"{"type":"job_started","job_id":"etl-1","flow_id":"etl_flow"}"#,
    r#"{"type":"job_failed","job_id":"etl-1","data":{"error":"ValueError: bad row"}}"#,
    r#"{"type":"routine_started","job_id":"demo-job","flow_id":"etl_flow","routine_id":"load"}"#,
    r#"{"type":"job_failed","job_id":"demo-job","data":{"error":"ValueError: bad row"}}"#,
];

/// A job that has run and ended.
const NIGHTLY: [&str; 2] = [
    r#"{"type":"job_started","job_id":"nightly","timestamp":"2026-11-23T10:00:00Z"}"#,
    r#"{"type":"job_completed","job_id":"nightly","timestamp":"2026-11-23T10:00:01Z"}"#,
];

/// Workers that run samples side by side.
const WORKERS: usize = 4;

/// A fenced block of a paper.
#[derive(Debug, Clone)]
struct Sample {
    /// Its path from the project's directory.
    paper: String,
    line: usize,
    /// The words after the fence: a language, and for JSON who sends it.
    kind: String,
    text: String,
}

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All our papers, by their path from the project's directory.
fn papers() -> Vec<String> {
    fn collect(directory: &Path, papers: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(directory).expect("a directory") {
            let path = entry.expect("readable").path();
            let name = path.file_name().expect("it has one").to_string_lossy().into_owned();
            if path.is_dir() && !name.starts_with('.') && name != "node_modules" {
                collect(&path, papers);
            } else if name.ends_with(".md") {
                papers.push(path);
            }
        }
    }
    let mut papers = vec![project().join("README.md")];
    for directory in [".github", "src", "tests", "tools"] {
        collect(&project().join(directory), &mut papers);
    }
    let own = papers.iter().map(|path| path.strip_prefix(project()).expect("it was found there"));
    own.map(|path| path.display().to_string()).collect()
}

fn read(paper: &str) -> String {
    fs::read_to_string(project().join(paper)).expect("the paper is there")
}

fn samples() -> Vec<Sample> {
    let mut samples = Vec::new();
    for paper in papers() {
        let text = read(&paper);
        let mut open: Option<(Sample, usize)> = None;
        for (place, line) in text.lines().enumerate() {
            let indent = line.len() - line.trim_start().len();
            match (line.trim_start().strip_prefix("```"), &mut open) {
                (Some(kind), None) => {
                    let (paper, kind) = (paper.clone(), kind.to_owned());
                    open = Some((Sample { paper, line: place + 1, kind, text: String::new() }, indent));
                }
                (Some(_), Some(_)) => samples.extend(open.take().map(|(sample, _)| sample)),
                (None, Some((sample, indent))) => {
                    sample.text += line.get(*indent..).unwrap_or_default();
                    sample.text += "\n";
                }
                (None, None) => {}
            }
        }
        assert!(open.is_none(), "{paper}: a sample without an end");
    }
    samples
}

#[test]
fn every_sample_runs_as_it_is_written() {
    let queue = Mutex::new(samples());
    assert!(queue.lock().len() > 40, "the samples are found");
    let skipped = Mutex::new(BTreeSet::new());
    let failed = Mutex::new(Vec::new());
    let work = || {
        while let Some(sample) = next(&queue) {
            let attempt = AssertUnwindSafe(|| try_sample(&sample, &skipped));
            if catch_unwind(attempt).is_err() {
                failed.lock().push(format!("{}:{}", sample.paper, sample.line));
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(work);
        }
    });
    assert_eq!(*failed.lock(), [""; 0], "samples that do not do what their paper says");
    let unused: Vec<&str> =
        NOT_RUN.iter().map(|(start, _)| *start).filter(|start| !skipped.lock().contains(start)).collect();
    assert_eq!(unused, [""; 0], "reasons that no sample needs");
}

fn next(queue: &Mutex<Vec<Sample>>) -> Option<Sample> {
    queue.lock().pop()
}

fn try_sample(sample: &Sample, skipped: &Mutex<BTreeSet<&'static str>>) {
    match sample.kind.as_str() {
        "sh" if sample.text.starts_with("#!") => run_script(sample),
        "sh" => run_lines(sample, skipped),
        "python" if sample.text.contains(ROUTILUX) => {}
        "python" => run_program(sample, &["/mnt/venv/bin/python", "sample.py"], "sample.py", ""),
        "javascript" if sample.text.contains("import ") => {
            run_program(sample, &["node", "sample.mjs"], "sample.mjs", "");
        }
        // As a browser sends it.
        "javascript" => {
            let browser = "import ws from 'ws';\nimport { EventSource } from 'undici';\n\
                           Object.assign(globalThis, { WebSocket: ws, EventSource });\n";
            run_program(sample, &["node", "--no-warnings", "sample.mjs"], "sample.mjs", browser);
        }
        "toml" => {
            let stage = Stage::start();
            // A setting that needs another one gets it.
            stage.write("sample.toml", &sample.text);
            stage.finish(&["luxcast", "check-config", "--config", "sample.toml"]);
        }
        "nginx" => {
            let stage = Stage::start();
            // What stands before an empty line belongs to `http`.
            let (outside, inside) = sample.text.split_once("\n\n").unwrap_or(("", &sample.text));
            let server = format!("server {{ listen 8080; location / {{\n{inside}}} }}");
            stage.write(
                "nginx.conf",
                &format!("user root;\npid /run/nginx.pid;\nevents {{}}\nhttp {{\n{outside}\n{server} }}\n"),
            );
            stage.finish(&["nginx", "-t", "-e", "stderr", "-c", "/mnt/scratch/work/nginx.conf"]);
        }
        "haproxy" => {
            let stage = Stage::start();
            let pem = "cat /etc/luxcast/fullchain.pem /etc/luxcast/privkey.pem > workflows.pem";
            stage.finish(&["sh", "-c", pem]);
            stage.write("haproxy.cfg", &sample.text.replace("/etc/haproxy/", "/mnt/scratch/work/"));
            stage.finish(&["haproxy", "-c", "-f", "haproxy.cfg"]);
        }
        "text" => try_text(sample),
        // The tests below.
        "json from-publisher" | "json from-server" => {}
        other => panic!("{}:{}: nobody tries a sample of {other:?}", sample.paper, sample.line),
    }
}

fn try_text(sample: &Sample) {
    let is_drawing = |drawing: &(&str, &str)| sample.paper == drawing.0 && sample.text.starts_with(drawing.1);
    if DRAWINGS.iter().any(is_drawing) {
        return;
    }
    match sample.paper.as_str() {
        "src/access/README.md" | "src/session/README.md" => {
            let stage = Stage::start();
            stage.write("tokens", &sample.text);
            let settings = stage.finish(&["luxcast", "check-config", "--token-file", "tokens"]);
            assert!(settings.contains("token_file"), "{settings}");
        }
        "src/cli/README.md" => {
            let stage = Stage::start();
            let _around = start_demo(&stage, "");
            let words = |text: &str| {
                text.lines().next().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            };
            assert_eq!(words(&stage.finish(&["luxcast", "jobs"])), words(&sample.text));
        }
        "src/server/README.md" => {
            let daemon = Daemon::start(&[]);
            let word = |line: &str| line.split(['/', '1']).next().unwrap_or_default().to_owned();
            let documented: Vec<String> = sample.text.lines().map(word).collect();
            let real: Vec<String> = daemon.ready_lines.iter().map(|line| word(line)).collect();
            assert_eq!(documented, real);
        }
        other => panic!("{other}:{}: nobody tries this text", sample.line),
    }
}

/// A daemon that feeds itself and is fed.
fn start_demo(stage: &Stage, prelude: &str) -> [Actor; 2] {
    let serve = format!(
        "{prelude}exec luxcast serve --demo --http-publish anyone --ingest \"${{LUXCAST_INGEST:-/mnt/scratch/run/luxcast.sock}}\""
    );
    let mut daemon = stage.run(&["bash", "-c", &serve]);
    wait_for_ready(&mut daemon);
    [daemon, start_feed(stage, prelude)]
}

fn wait_for_ready(daemon: &mut Actor) {
    let ended = daemon.wait_until(|daemon| daemon.stdout().contains("ingest "));
    assert!(ended.is_none(), "{daemon}");
}

fn start_feed(stage: &Stage, prelude: &str) -> Actor {
    stage.write("nightly.feed", &(NIGHTLY.join("\n") + "\n"));
    stage.write("feed", &(FEED.join("\n") + "\n").repeat(10));
    stage.finish(&["bash", "-c", &format!("{prelude}luxcast publish nightly.feed")]);
    let feed = "while sleep 0.1; do cat feed; done | luxcast publish --no-progress";
    stage.run(&["bash", "-c", &format!("{prelude}{feed}")])
}

fn run_lines(sample: &Sample, skipped: &Mutex<BTreeSet<&'static str>>) {
    let reason = |line: &str| NOT_RUN.iter().map(|(start, _)| *start).find(|start| begins(line, start));
    // A backslash at the end of a line continues it.
    let text = sample.text.replace("\\\n", "");
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let (left, lines): (Vec<&str>, Vec<&str>) = lines.partition(|line| reason(line).is_some());
    skipped.lock().extend(left.into_iter().filter_map(reason));
    if lines.is_empty() {
        return;
    }
    let stage = Stage::start();
    // What `cargo run --release` builds and starts.
    let cargo = "#!/bin/sh\n[ \"$1 $2 $3\" = 'run --release --' ] && shift 3 && exec luxcast \"$@\"\n";
    stage.write("../bin/cargo", cargo);
    stage.finish(&["chmod", "+x", "/mnt/scratch/bin/cargo"]);
    let mut prelude = String::new();
    let mut around: Vec<Actor> = Vec::new();
    let mut own = None;
    if !lines.iter().any(|line| is_daemon(line)) {
        // The daemon beside it has the variables that the sample sets first.
        let exports = lines.iter().take_while(|line| line.starts_with("export "));
        around.extend(start_demo(&stage, &exports.map(|line| format!("{line}\n")).collect::<String>()));
    }
    for line in lines {
        if ["export ", "cd "].iter().any(|start| line.starts_with(start)) {
            prelude += &format!("{line}\n");
        } else if is_daemon(line) {
            let mut daemon = stage.run(&["bash", "-c", &format!("{prelude}exec {line}")]);
            wait_for_ready(&mut daemon);
            let said = daemon.stdout();
            let ingest =
                said.lines().find_map(|line| line.strip_prefix("ingest ")).expect("it was just seen");
            around.push(start_feed(&stage, &format!("export LUXCAST_INGEST={ingest}\n")));
            own = Some(daemon);
        } else {
            run_line(&stage, &prelude, line);
        }
    }
    drop(around);
    if let Some(mut daemon) = own {
        daemon.signal(Signal::TERM);
        let status = daemon.wait();
        assert!(status.success(), "{}:{}: {status}: {daemon}", sample.paper, sample.line);
    }
}

/// Compares without the directory in which it was built.
fn begins(line: &str, start: &str) -> bool {
    line.strip_prefix("target/release/").unwrap_or(line).starts_with(start)
}

fn is_daemon(line: &str) -> bool {
    line.starts_with("luxcast serve") || line.contains(" serve --demo")
}

/// A command that ends by itself must succeed. Any other is ended once it has shown something.
fn run_line(stage: &Stage, prelude: &str, line: &str) {
    let watches = ["luxcast tail", "luxcast record", "curl -N"].iter().any(|command| line.contains(command));
    let is_endless = (watches && !line.contains("--until-end"))
        || (line.contains("luxcast sim") && !line.contains("--count"));
    let file = line.split(' ').find(|word| word.ends_with(".ndjson")).filter(|_| line.contains("record"));
    let mut actor = stage.run(&["bash", "-o", "pipefail", "-c", &format!("{prelude}{line}")]);
    let is_shown = |actor: &Actor| {
        let written = file.and_then(|name| fs::metadata(stage.path(name)).ok());
        is_endless && (!actor.stdout().is_empty() || written.is_some_and(|file| file.len() > 0))
            || is_endless && line.contains("luxcast sim") && !actor.stderr().is_empty()
    };
    match actor.wait_until(is_shown) {
        Some(status) => {
            assert!(status.success() && !is_endless, "{status}: {actor}");
            let publishes = line.starts_with("curl") && line.contains("/api/v1/events");
            let is_taken =
                |said: &str| said.starts_with("{\"accepted\":") && said.contains("\"refused_total\":0");
            assert!(!publishes || is_taken(&actor.stdout()), "{actor}");
        }
        None => actor.interrupt(),
    }
}

/// A whole script, such as a hook: what it would send to systemd goes to a program that records it.
fn run_script(sample: &Sample) {
    let stage = Stage::start();
    stage.write("../bin/systemctl", "#!/bin/sh\necho systemctl \"$@\"\n");
    stage.write("script", &sample.text);
    let run = "chmod +x /mnt/scratch/bin/systemctl script; mkdir lineage; cp /etc/luxcast/*.pem lineage/; \
               rm /etc/luxcast/*.pem; RENEWED_LINEAGE=/mnt/scratch/work/lineage ./script";
    let said = stage.finish(&["sh", "-c", run]);
    assert_eq!(said, "systemctl reload luxcast\n");
    let flags = [
        "--tls-certificate-file",
        "/etc/luxcast/fullchain.pem",
        "--tls-key-file",
        "/etc/luxcast/privkey.pem",
    ];
    stage.finish(&[&["luxcast", "check-config", "--quiet"][..], &flags].concat());
}

/// A program that ends by itself succeeds and complains of nothing; any other soon shows something.
fn run_program(sample: &Sample, words: &[&str], file: &str, before: &str) {
    let stage = Stage::start();
    let _around = start_demo(&stage, "export LUXCAST_INGEST=/tmp/luxcast.sock\n");
    stage.write(file, &format!("{before}{}", sample.text));
    let run = ["env", "LUXCAST_INGEST=/tmp/luxcast.sock"];
    let mut actor = stage.run(&[&run, words].concat());
    let ended = actor.wait_until(|actor| actor.stdout().contains('\n'));
    let place = format!("{}:{}", sample.paper, sample.line);
    assert!(ended.is_none_or(|status| status.success()), "{place}: {actor}");
    assert_eq!(actor.stderr(), "", "{place}: {actor}");
}

/// Before the loop of a paper: says how long the program wants to wait, and waits for a moment only.
const WITHOUT_PAUSES: &str = r#"
import asyncio, sys
pause_for = asyncio.sleep
def sleep(seconds, *result):
    # The library waits too, for its own reasons.
    if sys._getframe(1).f_globals is not globals():
        return pause_for(seconds, *result)
    print("wait", seconds, flush=True)
    return pause_for(0.01)
asyncio.sleep = sleep
"#;

/// The waits that such a program has said.
fn waits(actor: &Actor) -> Vec<f64> {
    let said = actor.stdout();
    let complete = said.rsplit_once('\n').map_or("", |(lines, _)| lines);
    let waits = complete.lines().filter_map(|line| line.strip_prefix("wait "));
    waits.map(|seconds| seconds.parse().expect("a number")).collect()
}

#[test]
fn the_loop_that_comes_back_waits_longer_after_each_failure_and_as_the_daemon_says() {
    let is_loop = |sample: &Sample| sample.kind == "python" && sample.text.contains("since=");
    let mut samples = samples().into_iter().filter(|sample| sample.paper == "src/stream/README.md");
    let sample = samples.find(is_loop).expect("the paper has it");
    let stage = Stage::start();
    stage.write("sample.py", &format!("{WITHOUT_PAUSES}{}", sample.text));
    let mut actor = stage.run(&["/mnt/venv/bin/python", "sample.py"]);
    // Nobody is there.
    assert!(actor.wait_until(|actor| waits(actor).len() >= 10).is_none(), "{actor}");
    for (failures, wait) in waits(&actor).into_iter().take(10).enumerate() {
        let most = f64::min(0.5 * f64::from(1 << failures), 30.0);
        assert!((most / 2.0..=most).contains(&wait), "{wait} after {failures} failures: {actor}");
    }
    // A daemon whose first heartbeat shows that the connection holds, and that then drains.
    let serve = ["luxcast", "serve", "--demo", "--heartbeat-seconds", "0.1"];
    let mut daemon = stage.run(&serve);
    assert!(actor.wait_until(|actor| actor.stdout().contains("job_started")).is_none(), "{actor}");
    let events = |actor: &Actor| actor.stdout().lines().filter(|line| line.starts_with("17")).count();
    let before = events(&actor);
    assert!(actor.wait_until(|actor| events(actor) > before + 10).is_none(), "{actor}");
    let failed = waits(&actor).len();
    daemon.signal(Signal::TERM);
    daemon.wait();
    assert!(actor.wait_until(|actor| waits(actor).len() > failed + 1).is_none(), "{actor}");
    let [asked, own] = waits(&actor)[failed..failed + 2] else { unreachable!("both are there") };
    assert!((0.5..=5.0).contains(&asked), "{asked}: {actor}");
    assert!((0.25..=0.5).contains(&own), "begins small again: {own}: {actor}");
    assert_eq!(actor.stderr(), "", "{actor}");
}

/// Checks each row of "send this, see that" of the front page.
#[test]
fn what_is_sent_is_seen_as_the_front_page_shows_it() {
    let page = read("README.md");
    let rows = page.lines().filter(|line| line.starts_with("| `{"));
    let daemon = Daemon::start(&[]);
    let tail = Tool::tail(&daemon, &["--all", "--since", "start"]);
    let mut count = 0;
    for row in rows {
        let quoted: Vec<&str> = row.split('`').skip(1).step_by(2).collect();
        let [sent, seen] = quoted[..] else { panic!("{row}") };
        let (code, said) = publish(&daemon, &[]).finish(format!("{sent}\n").as_bytes());
        if seen.starts_with('2') {
            assert_eq!((code, tail.line().as_str()), (0, seen), "{said}");
        } else {
            assert_eq!(code, 1, "{said}");
            assert!(said.contains(seen), "{said}");
        }
        count += 1;
    }
    assert!(count >= 5, "the rows are found");
}

/// Checks that lines of the feed in papers are accepted.
#[test]
fn the_lines_of_the_feed_in_papers_are_taken() {
    let samples: Vec<Sample> =
        samples().into_iter().filter(|sample| sample.kind == "json from-publisher").collect();
    assert!(samples.len() >= 2, "they are found");
    for sample in samples {
        let daemon = Daemon::start(&[]);
        let mut feed = daemon.feed();
        let has_hello = sample.text.contains("\"hello\"");
        if !has_hello {
            feed.hello();
        }
        for line in sample.text.lines() {
            feed.line(line);
        }
        // Under a name, control lines have no number.
        let events = sample.text.lines().filter(|line| !line.contains("\"op\"")).count();
        let last = if has_hello { events } else { events + 1 };
        let last = last.to_string();
        wait_until("all lines are acknowledged", || {
            let answer = feed.answer();
            assert_ne!(answer["op"], "error", "{answer}: {sample:?}");
            answer["op"] == "ack" && format!("{}", answer["line"]) == last
        });
    }
}

/// A publisher that hears answers as they are written.
struct Publisher(BufReader<UnixStream>);

impl Publisher {
    fn connect(daemon: &Daemon) -> Self {
        let stream = UnixStream::connect(&daemon.ingest).expect("the daemon listens to publishers");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        Self(BufReader::new(stream))
    }

    /// Writes a line, and returns the next answer. A refused publisher may find its socket closed.
    fn ask(&mut self, line: &str) -> String {
        let _ = self.0.get_mut().write_all(format!("{line}\n").as_bytes());
        let mut answer = String::new();
        self.0.read_line(&mut answer).expect("the daemon answers");
        answer
    }
}

/// What the daemon sends to a publisher and to watchers, in every way that a paper describes.
fn everything_said() -> Vec<String> {
    let mut said = Vec::new();
    let flags = ["--heartbeat-seconds", "0.1", "--publishers-max", "2", "--http-publish", "anyone"];
    let mut daemon = Daemon::start(&flags);
    let posted = HttpFeed::connect(daemon.address).post(LINES, r#"{"type":"job_started","job_id":"job-2"}"#);
    said.push(posted.1.to_string());
    let mut feed = Publisher::connect(&daemon);
    said.push(feed.ask(r#"{"op":"hello","publisher":"nightly","ack":true,"dedupe":true}"#));
    said.push(feed.ask(r#"{"type":"job_started","job_id":"job-1","flow_id":"flow-1"}"#));
    said.push(feed.ask("{"));
    let _second = daemon.acked_feed();
    said.push(Publisher::connect(&daemon).ask(""));
    let console = |path: &str| {
        daemon
            .raw()
            .request(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"))
            .body
    };
    said.push(console("/console/jobs"));
    said.push(console("/console/arrivals"));
    said.push(daemon.refuse("/api/ws/jobs/a,b/monitor").body);
    let mut lost = daemon.watch("/api/ws/events?since=1000000000000000");
    lost.connected();
    said.push(lost.text());
    let mut watcher = daemon.watch("/api/ws/jobs/job-1/monitor?since=start");
    let mut many = daemon.watch("/api/v1/websocket");
    let listen = |watcher: &mut Client, until: &str, said: &mut Vec<String>| loop {
        let text = watcher.text();
        let is_last = text.contains(until);
        said.push(text);
        if is_last {
            return;
        }
    };
    listen(&mut watcher, "\"job_started\"", &mut said);
    for (asked, until) in [
        (r#"{"action":"subscribe","events":["a","b"]}"#, "confirmed"),
        (r#"{"type":"ping"}"#, "pong"),
        ("{", "error"),
    ] {
        watcher.send(asked);
        listen(&mut watcher, until, &mut said);
    }
    for (asked, until) in [
        (r#"{"type":"subscribe","job_id":"job-1"}"#, "\"subscribed"),
        (r#"{"type":"subscribe","job_id":"job-1"}"#, "already"),
        (r#"{"type":"unsubscribe","job_id":"job-1"}"#, "unsubscribed"),
        (r#"{"type":"unsubscribe","job_id":"job-1"}"#, "not_subscribed"),
    ] {
        many.send(asked);
        listen(&mut many, until, &mut said);
    }
    listen(&mut watcher, "{\"type\":\"ping\"", &mut said);
    daemon.terminate();
    listen(&mut watcher, "disconnected", &mut said);
    let _ = watcher.socket.close(None);
    drop((many, lost));
    daemon.wait();
    said
}

/// In papers a value is a capital letter, `{...}` or `[...]`; the rest of a message is exactly what the daemon sends.
#[test]
fn messages_look_as_they_are_documented() {
    let said = everything_said();
    let mut unseen = Vec::new();
    let mut count = 0;
    for documented in quoted("src/wire/README.md") {
        if said.iter().any(|real| is_like(&documented, real)) {
            count += 1;
        } else {
            unseen.push(documented);
        }
    }
    assert!(count >= 10, "{count} messages are found");
    let daemon = Daemon::start(&[]);
    let mut watcher = daemon.watch("/api/ws/events");
    watcher.connected();
    let mut many = daemon.watch("/api/v1/websocket");
    many.json();
    // What no client hears is sent by a client or a publisher.
    for said_by_client in unseen {
        let text = said_by_client.replace(":J", ":\"job-1\"").replace(":N", ":1");
        if text.contains("\"op\"") {
            let mut feed = Publisher::connect(&daemon);
            feed.ask(r#"{"op":"hello","publisher":"x","dedupe":true}"#);
            // The line after it is the first to be refused.
            let answer = feed.ask(&format!("{text}\n{{"));
            assert!(answer.contains("\"line\":1,\"code\":\"bad_json\""), "{text}: {answer}");
            continue;
        }
        let client = if text.contains("job_id") { &mut many } else { &mut watcher };
        client.send(&text);
        // Accepted without an answer of its own.
        if text.contains("pong") {
            client.send(r#"{"type":"ping"}"#);
        }
        let answer = client.json();
        assert_ne!(answer["type"], "error", "{said_by_client}: {answer}");
    }
}

#[test]
fn answers_look_as_they_are_shown() {
    let said = everything_said();
    let samples = samples().into_iter().filter(|sample| sample.kind == "json from-server");
    let lines: Vec<String> =
        samples.flat_map(|sample| sample.text.lines().map(str::to_owned).collect::<Vec<_>>()).collect();
    assert!(lines.len() >= 5, "{lines:?}");
    for line in lines {
        let shown: Value = serde_json::from_str(&line).expect("a sample is JSON");
        let is_alike =
            |real: &String| serde_json::from_str(real).is_ok_and(|real: Value| same_shape(&shown, &real));
        assert!(said.iter().any(is_alike), "{line}");
    }
}

/// Whole messages in a paper, among its text.
fn quoted(paper: &str) -> BTreeSet<String> {
    let text = read(paper);
    let lines = text.lines().filter(|line| !line.starts_with('{'));
    let quoted = lines.flat_map(|line| line.split('`').skip(1).step_by(2));
    quoted.filter(|text| text.starts_with("{\"") && text.ends_with('}')).map(str::to_owned).collect()
}

/// Whether the real message has the documented members in the same order, and the documented words.
fn is_like(documented: &str, real: &str) -> bool {
    let (mut documented, mut real) = (documented, real.trim_end());
    while !documented.is_empty() {
        if let Some(rest) = without_placeholder(documented) {
            let mut values = serde_json::Deserializer::from_str(real).into_iter::<Value>();
            if !matches!(values.next(), Some(Ok(_))) {
                return false;
            }
            real = &real[values.byte_offset()..];
            documented = rest;
            continue;
        }
        let letter = documented.chars().next().expect("it is not empty");
        let Some(rest) = real.strip_prefix(letter) else { return false };
        (documented, real) = (&documented[letter.len_utf8()..], rest);
    }
    real.is_empty()
}

fn without_placeholder(documented: &str) -> Option<&str> {
    let long = ["{...}", "[...]"].iter().find_map(|long| documented.strip_prefix(long));
    let letter = || documented.strip_prefix(|letter: char| letter.is_ascii_uppercase());
    long.or_else(|| letter().filter(|rest| rest.starts_with([',', '}'])))
}

/// The same members with values of the same kinds, and the same words if they name the message.
fn same_shape(shown: &Value, real: &Value) -> bool {
    match (shown, real) {
        (Value::Object(shown), Value::Object(real)) => {
            let is_word = |name: &str| ["op", "type", "error", "code"].contains(&name);
            shown.len() == real.len()
                && shown.iter().all(|(name, value)| {
                    real.get(name)
                        .is_some_and(|other| same_shape(value, other) && (!is_word(name) || value == other))
                })
        }
        (Value::Array(shown), Value::Array(real)) => {
            shown.iter().zip(real).all(|(shown, real)| same_shape(shown, real))
                && shown.is_empty() == real.is_empty()
        }
        (shown, real) => std::mem::discriminant(shown) == std::mem::discriminant(real),
    }
}
