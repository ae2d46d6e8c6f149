//! Clients of others that compress: each is told what is published, through changes of its filter, on its way back and
//! behind a gap.

use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::corpus::{corpus, python_running, script};
use crate::harness::tool::{Tool, go};
use crate::harness::{Daemon, Feed, numbered, seq_of, wait_until};

const EVENTS: &str = "/api/ws/events";
const COUNT: usize = 10_000;
/// What a change of the filter hides.
const HIDDEN: &str = "routine_started";
const HIDE: &str = r#"{"action":"unsubscribe","events":["routine_started"]}"#;
const HIDE_NOTHING: &str = r#"{"action":"subscribe_all"}"#;
/// More than the corpus takes, and far less than what is published while nobody reads.
const HISTORY_BYTES: usize = 8_000_000;

/// A library of others, and what it is answered.
const OTHERS: [(&str, &str); 6] = [
    ("websockets", ""),
    ("window", "; server_no_context_takeover; server_max_window_bits=9"),
    ("aiohttp", ""),
    ("ws", ""),
    ("undici", ""),
    ("gorilla", "; server_no_context_takeover"),
];

/// A program of another language that writes what it is told.
struct Other {
    name: &'static str,
    tool: Tool,
    told: Vec<String>,
}

impl Other {
    /// All of them at this path; all have agreed on compression.
    fn start_all(daemon: &Daemon, path: &str) -> Vec<Self> {
        let tools =
            OTHERS.map(|(name, _)| Tool::start(command(name).arg(format!("ws://{}{path}", daemon.address))));
        let others = OTHERS.into_iter().zip(tools).map(|((name, answer), tool)| {
            let agreed = format!("agreed permessage-deflate; client_no_context_takeover{answer}");
            assert_eq!(tool.line(), agreed, "{name}");
            Self { name, tool, told: Vec::new() }
        });
        let others = others.collect();
        let rows = daemon.connections();
        assert!(
            rows.len() == OTHERS.len() && rows.iter().all(|row| row["is_compressed"] == true),
            "{rows:?}"
        );
        others
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.tool.child.id().cast_signed()).expect("the child has a pid");
        kill_process(pid, signal).expect("the child can be signalled");
    }

    /// Reads up to the message that contains `marker`.
    fn read_until(&mut self, marker: &str) {
        while !self.told.last().is_some_and(|text| text.contains(marker)) {
            self.told.push(self.tool.line());
        }
    }

    /// Lets it close, which it must do in order.
    fn end(self) {
        assert_eq!(self.tool.finish(b""), (0, String::new()), "{}", self.name);
    }
}

fn command(name: &str) -> Command {
    let [program, script, library] = match name {
        "gorilla" => return Command::new(build_in_go()),
        "ws" | "undici" => {
            ["node".to_owned(), script("node_compressed.mjs").display().to_string(), name.to_owned()]
        }
        _ => {
            let [python, script] =
                python_running("python_compressed.py").try_into().expect("a program and a script");
            [python, script, name.to_owned()]
        }
    };
    let mut command = Command::new(program);
    command.args([script, library]);
    command
}

fn build_in_go() -> String {
    let program = concat!(env!("CARGO_TARGET_TMPDIR"), "/go_watcher");
    let status = go().current_dir(script("go_watcher")).args(["build", "-o", program, "."]).status();
    assert!(status.is_ok_and(|status| status.success()), "go_watcher is built");
    program.to_owned()
}

/// All that was published, as it must be told.
struct Published {
    feed: Feed,
    events: Vec<String>,
}

impl Published {
    fn publish(&mut self, lines: &[String]) {
        let last = self.feed.publish(lines.iter().map(String::as_str));
        self.events
            .extend(lines.iter().zip(last + 1 - lines.len() as u64..).map(|(line, seq)| numbered(line, seq)));
    }

    fn mark(&mut self, marker: &str) {
        self.publish(&[format!("{{\"type\":\"mark\",\"job_id\":\"j\",\"name\":\"{marker}\"}}")]);
    }

    /// What the client was told is what was published from this place on, but for what its filter hides and its gaps name.
    /// Returns how many events were hidden, and how many missed.
    fn judge(&self, other: &Other, mut place: usize) -> (usize, usize) {
        let (mut hidden, mut missed) = (0, 0);
        // It hides now, or did so since the last event.
        let (mut is_hiding, mut has_hidden) = (false, false);
        for text in &other.told {
            if seq_of(text).is_some() {
                has_hidden |= is_hiding;
                while has_hidden && self.events[place].contains(HIDDEN) && self.events[place] != *text {
                    place += 1;
                    hidden += 1;
                }
                assert_eq!(self.events[place], *text, "{}", other.name);
                place += 1;
                has_hidden = false;
                continue;
            }
            let message: Value = serde_json::from_str(text).expect("JSON");
            match message["type"].as_str().expect("a type") {
                "subscription:confirmed" => {
                    has_hidden |= is_hiding;
                    is_hiding = message["action"] == "unsubscribe";
                }
                "stream:gap" => {
                    assert_eq!(
                        message["from"].as_u64(),
                        seq_of(&self.events[place]),
                        "{}: {message}",
                        other.name
                    );
                    let count = message["missed"].as_u64().expect("it was there throughout") as usize;
                    place += count;
                    missed += count;
                    assert_eq!(
                        message["to"].as_u64(),
                        seq_of(&self.events[place - 1]),
                        "{}: {message}",
                        other.name
                    );
                }
                "connection:status" | "ping" => {}
                _ => panic!("{}: {text}", other.name),
            }
        }
        assert_eq!(place, self.events.len(), "{}", other.name);
        (hidden, missed)
    }
}

#[test]
fn clients_of_others_read_compressed_what_is_published() {
    // However slow the machine is, nobody is ended for a stop.
    let daemon = Daemon::start(&["--history-bytes", &HISTORY_BYTES.to_string(), "--stalled-seconds", "3600"]);
    let lines: Vec<String> = corpus().into_iter().cycle().take(COUNT).map(|line| line.text).collect();
    let mut published = Published { feed: daemon.acked_feed(), events: Vec::new() };
    let mut others = Other::start_all(&daemon, EVENTS);
    for (number, some) in lines.chunks(500).enumerate() {
        published.publish(some);
        if number % 4 == 3 {
            let change = if number % 8 == 3 { HIDE } else { HIDE_NOTHING };
            others.iter_mut().for_each(|other| other.tool.write_line(change));
        }
        if number == 3 {
            // Of the next ones some are hidden in any case.
            others.iter_mut().for_each(|other| other.read_until("subscription:confirmed"));
        }
    }
    published.mark("first");
    for mut other in others {
        other.read_until("\"first\"");
        let (hidden, missed) = published.judge(&other, 0);
        assert!(hidden > 0 && missed == 0, "{}: {hidden} hidden, {missed} missed", other.name);
        other.end();
    }

    daemon.wait_for_connections(0);
    let place = COUNT / 2;
    let since = seq_of(&published.events[place - 1]).expect("an event");
    let mut others = Other::start_all(&daemon, &format!("{EVENTS}?since={since}"));
    others.iter_mut().for_each(|other| other.read_until("\"first\""));
    others.iter().for_each(|other| other.signal(Signal::STOP));
    let noise = || {
        let text: String = (0..20_000).map(|_| char::from(fastrand::u8(b'0'..=b'Z'))).collect();
        format!("{{\"type\":\"noise\",\"job_id\":\"n\",\"text\":\"{}\"}}", text.replace('\\', "/"))
    };
    let noise: Vec<String> = (0..50).map(|_| noise()).collect();
    wait_until("nobody takes anything any more", || {
        published.publish(&noise);
        daemon.connections().iter().all(|row| row["is_blocked"] == true)
    });
    for _ in 0..2 * HISTORY_BYTES / (50 * 20_000) {
        published.publish(&noise);
    }
    others.iter().for_each(|other| other.signal(Signal::CONT));
    published.publish(&lines[..2_000]);
    published.mark("second");
    for mut other in others {
        other.read_until("\"second\"");
        let (hidden, missed) = published.judge(&other, place);
        assert!(hidden == 0 && missed > 0, "{}: {missed} missed", other.name);
        other.end();
    }
}
