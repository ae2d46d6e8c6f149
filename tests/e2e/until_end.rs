//! `tail --until-end --exit-status`, by which a shell script waits for a job.

use crate::harness::tool::Tool;
use crate::harness::{Daemon, Scratch, luxcast, wait_until};

fn line(kind: &str) -> String {
    format!(r#"{{"type":"{kind}","job_id":"j","timestamp":"2026-11-23T07:35:32Z"}}"#)
}

fn publish(daemon: &Daemon, kinds: &[&str]) {
    let lines: Vec<String> = kinds.iter().map(|kind| line(kind)).collect();
    daemon.acked_feed().publish(lines.iter().map(String::as_str));
}

fn wait(daemon: &Daemon, arguments: &[&str]) -> Tool {
    Tool::tail(daemon, &[&["--job", "j", "--until-end", "--exit-status", "--json"], arguments].concat())
}

#[test]
fn the_exit_code_is_how_the_job_ended() {
    for (end, code) in [("job_completed", 0), ("job_failed", 1), ("job_cancelled", 1)] {
        let daemon = Daemon::start(&[]);
        // Not started yet.
        let mut early = wait(&daemon, &[]);
        daemon.wait_for_connections(1);
        publish(&daemon, &["job_started", "routine_failed", end]);
        assert_eq!(early.end().0, code, "{end}");
        // Already ended.
        let mut late = wait(&daemon, &[]);
        assert_eq!(late.end().0, code, "{end}");
        let shown: Vec<String> = late.lines.try_iter().collect();
        assert!(shown.last().is_some_and(|event| event.contains(end)), "{shown:?}");
    }
}

#[test]
fn a_job_that_was_started_again_is_waited_for() {
    let daemon = Daemon::start(&[]);
    publish(&daemon, &["job_started", "job_failed", "job_started"]);
    let mut tail = wait(&daemon, &["--events", "x"]);
    daemon.wait_for_connections(1);
    // When it shows this, it has passed the failure in the past.
    publish(&daemon, &["x"]);
    assert!(tail.line().contains(r#""type":"x""#));
    assert_eq!(tail.child.try_wait().unwrap(), None, "{}", tail.stderr.so_far());
    publish(&daemon, &["job_completed"]);
    assert_eq!(tail.end().0, 0);
    assert_eq!(tail.lines.try_iter().count(), 0, "only what was asked for is shown");
}

#[test]
fn without_exit_status_the_end_is_success() {
    let daemon = Daemon::start(&[]);
    publish(&daemon, &["job_started", "job_failed"]);
    assert_eq!(Tool::tail(&daemon, &["--job", "j", "--until-end"]).end().0, 0);
}

#[test]
fn a_daemon_that_went_away_for_good_gives_exit_code_3() {
    let mut daemon = Daemon::start(&[]);
    publish(&daemon, &["job_started"]);
    let mut tail = wait(&daemon, &["--give-up", "2"]);
    daemon.wait_for_connections(1);
    daemon.kill();
    let (code, text) = tail.end();
    assert_eq!(code, 3, "{text}");
    assert!(text.contains("given up"), "{text}");
    let (code, text) = wait(&daemon, &[]).end();
    assert_eq!(code, 3, "{text}");
}

#[test]
fn a_restart_in_between_is_waited_out() {
    let scratch = Scratch::new();
    let ingest = scratch.path().join("ingest.sock");
    let ingest = ingest.to_str().unwrap().to_owned();
    let mut daemon = Daemon::start(&["--ingest", &ingest]);
    let address = daemon.address.to_string();
    publish(&daemon, &["job_started"]);
    let mut tail = wait(&daemon, &[]);
    daemon.wait_for_connections(1);
    daemon.stop();
    wait_until("it knows", || tail.stderr.so_far().contains("connecting again"));
    let daemon = Daemon::start(&["--ingest", &ingest, "--listen", &address]);
    publish(&daemon, &["job_failed"]);
    let (code, text) = tail.end();
    assert_eq!(code, 1, "{text}");
}

#[test]
fn a_lost_job_gives_exit_code_3() {
    let daemon = Daemon::start(&["--job-idle-seconds", "2", "--heartbeat-seconds", "0.5"]);
    publish(&daemon, &["job_started", "routine_started"]);
    let watching = |command: &str, arguments: &[&str]| {
        let mut watching = luxcast();
        watching.args([command, "--job", "j", "--until-end", "--url", &daemon.address.to_string()]);
        Tool::start(watching.args(arguments))
    };
    let early = [watching("tail", &["--json"]), watching("record", &["-"])];
    let debug = watching("tail", &["--json", "--debug"]);
    let filtered = watching("tail", &["--json", "--events", "routine_started", "--exit-status"]);
    let mut tools: Vec<Tool> = early.into_iter().chain([debug, filtered]).collect();
    // Lost before it begins.
    let late = |arguments: &[&str]| {
        let mut tail = watching("tail", arguments);
        let (code, text) = tail.end();
        assert!(code == 3 && text.contains("the job is lost"), "{text}");
        tail.lines.try_iter().collect::<Vec<String>>()
    };
    for tool in &mut tools {
        let (code, text) = tool.end();
        assert!(code == 3 && text.contains("the job is lost"), "{text}");
        assert!(tool.lines.try_iter().any(|event| event.contains("routine_started")), "{text}");
    }
    assert!(late(&["--color", "never"])[0].contains("metrics status=lost"));
    assert_eq!(late(&["--json", "--events", "job_started"]).len(), 1);
    // Until another event comes.
    let mut again = watching("tail", &["--exit-status", "--json", "--since", "now"]);
    wait_until("it is let in", || daemon.connections().iter().any(|row| row["phase"] == "open"));
    publish(&daemon, &["routine_completed", "job_completed"]);
    assert_eq!(again.end().0, 0);
}
