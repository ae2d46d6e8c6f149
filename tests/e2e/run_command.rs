//! `luxcast run`, which makes a job of any program.

use std::fs;
use std::process::{Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::harness::daemon::Setup;
use crate::harness::tool::Tool;
use crate::harness::{Client, Daemon, Scratch, luxcast, wait_until};

fn run(daemon: &Daemon, arguments: &[&str]) -> Command {
    let mut command = luxcast();
    command.args(["run", "--job", "j", "--ingest"]).arg(&daemon.ingest).args(arguments);
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

fn output(mut command: Command) -> Output {
    command.stdin(Stdio::null()).output().expect("it can be started")
}

/// The events up to the end of the job.
fn events(watcher: &mut Client) -> Vec<Value> {
    let mut events: Vec<Value> = Vec::new();
    while !events
        .last()
        .is_some_and(|event| ["job_completed", "job_failed"].contains(&event["type"].as_str().unwrap()))
    {
        events.push(serde_json::from_str(&watcher.event()).unwrap());
    }
    events
}

/// What programs wrote on this stream.
fn texts<'a>(events: &'a [Value], stream: &str) -> Vec<&'a str> {
    let of_stream = events.iter().filter(|event| event["data"]["stream"] == stream);
    of_stream.map(|event| event["data"]["text"].as_str().unwrap()).collect()
}

fn watch(daemon: &Daemon) -> Client {
    daemon.watch("/api/ws/jobs/j/monitor?since=start")
}

#[test]
fn a_program_is_a_job_and_its_output_passes_through() {
    let daemon = Daemon::start(&["--http-publish", "anyone"]);
    let url = format!("http://{}", daemon.address);
    let script = "printf 'one\\ntw'; printf 'o\\nno end'; echo bad >&2; exit 3";
    for way in [&["--ingest", daemon.ingest.to_str().unwrap()][..], &["--url", &url]] {
        let mut watcher = daemon.watch("/api/ws/jobs/j/monitor");
        let mut command = luxcast();
        command
            .args(["run", "--job", "j", "--flow", "f", "--routine", "r"])
            .args(way)
            .args(["--", "sh", "-c", script]);
        let done = output(command);
        assert_eq!((done.status.code(), text(&done.stdout).as_str()), (Some(3), "one\ntwo\nno end"));
        assert_eq!(text(&done.stderr), "bad\n");
        let events = events(&mut watcher);
        let kinds: Vec<&str> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
        assert_eq!(kinds[..2], ["job_started", "routine_started"]);
        assert_eq!(kinds[kinds.len() - 2..], ["routine_failed", "job_failed"]);
        assert_eq!(
            (texts(&events, "stdout"), texts(&events, "stderr")),
            (vec!["one", "two", "no end"], vec!["bad"])
        );
        assert!(events.iter().all(|event| event["flow_id"] == "f"));
        let end = &events.last().unwrap()["data"];
        assert_eq!((&end["exit_code"], &end["error"]), (&3.into(), &"exit code 3".into()));
        assert_eq!(events[2]["routine_id"], "r");
    }
}

#[test]
fn each_end_has_its_exit_code() {
    let daemon = Daemon::start(&[]);
    for (command, code, kind) in [
        (&["true"][..], 0, "job_completed"),
        (&["sh", "-c", "exit 200"], 200, "job_failed"),
        (&["sh", "-c", "kill -9 $$"], 137, "job_failed"),
        (&["/no/such/program"], 127, "job_failed"),
        (&["/etc/hostname"], 126, "job_failed"),
    ] {
        let mut watcher = daemon.watch("/api/ws/jobs/j/monitor");
        assert_eq!(output(run(&daemon, command)).status.code(), Some(code), "{command:?}");
        assert_eq!(events(&mut watcher).last().unwrap()["type"], kind, "{command:?}");
    }
    for arguments in [&["--job", "j"][..], &["--", "true"], &["--job", "a b", "--", "true"]] {
        let done = luxcast().arg("run").args(arguments).output().unwrap();
        assert_eq!(done.status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn signals_are_the_programs() {
    let daemon = Daemon::start(&[]);
    let script =
        "trap 'echo usr1' USR1; trap 'echo int; exit 7' INT; echo ready; while :; do sleep 0.05; done";
    let mut tool = Tool::start(&mut run(&daemon, &["--", "sh", "-c", script]));
    assert_eq!(tool.line(), "ready");
    let pid = Pid::from_raw(tool.child.id().cast_signed()).unwrap();
    kill_process(pid, Signal::USR1).unwrap();
    assert_eq!(tool.line(), "usr1");
    kill_process(pid, Signal::INT).unwrap();
    assert_eq!(tool.line(), "int");
    assert_eq!(tool.end().0, 7);
    let mut tool = Tool::start(&mut run(&daemon, &["--", "sh", "-c", "echo ready; exec sleep 1000"]));
    assert_eq!(tool.line(), "ready");
    kill_process(Pid::from_raw(tool.child.id().cast_signed()).unwrap(), Signal::TERM).unwrap();
    assert_eq!(tool.end().0, 128 + 15);
    let ends = events(&mut watch(&daemon));
    assert_eq!(ends.last().unwrap()["data"]["exit_code"], 7);
}

#[test]
fn a_daemon_that_is_away_holds_nothing_up_and_is_told_when_it_comes() {
    let scratch = Scratch::new();
    let ingest = scratch.path().join("ingest.sock");
    let ingest = ingest.to_str().unwrap();
    let went = scratch.path().join("go-on");
    let away = |arguments: &[&str]| {
        let mut command = luxcast();
        command.args(["run", "--job", "j", "--ingest", ingest]).args(arguments);
        command
    };
    // More than is kept.
    let done = output(away(&["--", "sh", "-c", "seq 1 200000; exit 5"]));
    assert_eq!((done.status.code(), done.stdout.len()), (Some(5), 1_288_895));
    // The start, the end, and the one that tells of dropped lines are among them.
    let said = text(&done.stderr);
    assert!(said.contains("the daemon was not told 200003 events: no daemon takes events at"), "{said}");
    assert_eq!(text(&output(away(&["--quiet", "--", "true"])).stderr), "");
    let script = format!("seq 1 150000; until [ -e {} ]; do sleep 0.05; done; echo end", went.display());
    let mut tool = Tool::start(&mut away(&["--", "sh", "-c", &script]));
    (0..150_000).for_each(|_| drop(tool.line()));
    let daemon = Setup::default().flags(&["--ingest", ingest]).start();
    let mut watcher = daemon.watch("/api/ws/jobs/j/monitor?since=start&events=output");
    let first: Value = serde_json::from_str(&watcher.event()).unwrap();
    assert_eq!(first["data"]["text"], "1");
    fs::write(&went, "").unwrap();
    assert_eq!(tool.line(), "end");
    let (code, said) = tool.end();
    assert_eq!(code, 0);
    let mut all = daemon.watch("/api/ws/jobs/j/monitor?since=-2");
    let dropped: Value = serde_json::from_str(&all.event()).unwrap();
    let lines = dropped["data"]["dropped_lines"].as_u64().unwrap();
    assert!(lines > 50_000 && said.contains(&format!("was not told {lines} events")), "{lines} {said}");
    let end: Value = serde_json::from_str(&all.event()).unwrap();
    assert_eq!(end["type"], "job_completed");
}

#[test]
fn a_restart_of_the_daemon_loses_and_doubles_nothing() {
    let scratch = Scratch::new();
    let state = scratch.path().join("state");
    let flags = ["--state-dir", state.to_str().unwrap()];
    let mut daemon = Daemon::start(&flags);
    let ingest = daemon.ingest.clone();
    let mut tool =
        Tool::start(&mut run(&daemon, &["--", "sh", "-c", "read go; seq 1 50000; read go; seq 50001 60000"]));
    tool.write_line("go");
    (0..20_000).for_each(|_| drop(tool.line()));
    daemon.stop();
    (0..30_000).for_each(|_| drop(tool.line()));
    let daemon = Setup::default().flags(&flags).flags(&["--ingest", ingest.to_str().unwrap()]).start();
    tool.write_line("go");
    (0..10_000).for_each(|_| drop(tool.line()));
    assert_eq!(tool.end(), (0, String::new()));
    let events = events(&mut watch(&daemon));
    let numbers: Vec<u32> = texts(&events, "stdout").iter().map(|text| text.parse().unwrap()).collect();
    assert!(numbers == (1..=60_000).collect::<Vec<_>>(), "{}", numbers.len());
}

#[test]
fn whoever_stops_reading_stops_the_program() {
    let daemon = Daemon::start(&[]);
    let mut tool = run(&daemon, &["--quiet", "--", "yes"]);
    let mut child = tool.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    wait_until("it ends", || child.try_wait().unwrap().is_some());
    let code = child.wait().unwrap().code();
    // SIGPIPE, or an error of its own about the closed pipe.
    assert!(code == Some(128 + 13) || code == Some(1), "{code:?}");
}
