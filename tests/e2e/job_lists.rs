//! `luxcast jobs` and `luxcast status`, which show the daemon's list of jobs.

use std::process::{Command, Output};

use serde_json::Value;

use crate::harness::daemon::Setup;
use crate::harness::tool::Tool;
use crate::harness::{Daemon, Scratch, luxcast, wait_until};

fn line(kind: &str, job: &str, flow: &str) -> String {
    format!(r#"{{"type":"{kind}","job_id":"{job}","flow_id":"{flow}","timestamp":"2026-11-23T07:35:32Z"}}"#)
}

/// A daemon with three jobs: "a" has completed, "b" failed, "c" runs.
fn daemon(flags: &[&str]) -> Daemon {
    let daemon = Daemon::start(flags);
    publish(&daemon);
    daemon
}

fn publish(daemon: &Daemon) {
    let lines = [
        line("job_started", "a", "f"),
        line("job_completed", "a", "f"),
        line("job_started", "b", "f"),
        line("job_failed", "b", "f"),
        line("job_started", "c", "g"),
    ];
    daemon.acked_feed().publish(lines.iter().map(String::as_str));
}

fn command(daemon: &Daemon, arguments: &[&str]) -> Command {
    let mut command = luxcast();
    command.args(arguments).args(["--url", &daemon.address.to_string()]);
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

fn run(daemon: &Daemon, arguments: &[&str]) -> Output {
    command(daemon, arguments).output().expect("it can be started")
}

/// The words of each line of the table: job, status, flow.
fn table(output: &Output) -> Vec<String> {
    let shown = text(&output.stdout);
    let cells = |line: &str| line.split_whitespace().take(3).map(str::to_owned).collect::<Vec<_>>().join(" ");
    shown.lines().map(cells).collect()
}

#[test]
fn jobs_are_listed_the_newest_first() {
    let daemon = daemon(&[]);
    let all = run(&daemon, &["jobs"]);
    assert_eq!(table(&all), ["JOB STATUS FLOW", "c running g", "b failed f", "a completed f"]);
    assert_eq!((all.status.code(), all.stderr.len()), (Some(0), 0));
    for (arguments, expected) in [
        (&["--status", "failed"][..], &["b failed f"][..]),
        (&["--status", "failed,running"], &["c running g", "b failed f"]),
        (&["--flow", "f", "-n", "1"], &["b failed f"]),
        (&["--status", "failed,completed", "-n", "1"], &["b failed f"]),
    ] {
        let shown = table(&run(&daemon, &[&["jobs"], arguments].concat()));
        assert_eq!(shown[1..], *expected, "{arguments:?}");
    }
    let none = run(&daemon, &["jobs", "--flow", "nobody"]);
    assert_eq!((none.status.code(), text(&none.stdout).as_str()), (Some(0), ""));
    assert!(text(&none.stderr).contains("there are none"));
    let coloured = text(&run(&daemon, &["jobs", "--color", "always"]).stdout);
    assert!(coloured.contains("\x1b[1m\x1b[31mfailed\x1b[0m"), "{coloured:?}");
}

#[test]
fn programs_get_json() {
    let daemon = daemon(&[]);
    let whole: Value =
        serde_json::from_slice(&run(&daemon, &["jobs", "-o", "json", "--status", "failed,lost"]).stdout)
            .unwrap();
    assert_eq!(whole["jobs"].as_array().map(Vec::len), Some(1));
    assert_eq!(whole["jobs"][0]["job_id"], "b");
    let lines = text(&run(&daemon, &["jobs", "-o", "ndjson"]).stdout);
    let jobs: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(jobs.iter().map(|job| job["job_id"].as_str().unwrap()).collect::<Vec<_>>(), ["c", "b", "a"]);
    let status: Value = serde_json::from_slice(&run(&daemon, &["status", "b", "--json"]).stdout).unwrap();
    assert_eq!((&status["status"], &status["total_events"]), (&Value::from("failed"), &Value::from(2)));
}

#[test]
fn more_jobs_than_a_page_has_are_all_listed() {
    let daemon = Daemon::start(&[]);
    let lines: Vec<String> =
        (0..2_345).map(|number| line("job_started", &format!("j{number}"), "f")).collect();
    daemon.acked_feed().publish(lines.iter().map(String::as_str));
    let shown = table(&run(&daemon, &["jobs"]));
    assert_eq!((shown.len(), shown[1].as_str()), (2_346, "j2344 running f"));
    assert_eq!(shown.last().unwrap(), "j0 running f");
    assert_eq!(table(&run(&daemon, &["jobs", "-n", "1500"])).len(), 1_501);
    // Not among the first of them.
    let status = text(&run(&daemon, &["status", "j7"]).stdout);
    assert!(status.starts_with("Job       j7\nStatus    running\nFlow      f\n"), "{status}");
}

#[test]
fn watched_jobs_are_shown_when_they_change_also_after_a_restart() {
    let mut daemon = Daemon::start(&[]);
    let mut jobs = Tool::start(&mut command(&daemon, &["jobs", "--watch"]));
    assert!(jobs.line().starts_with("JOB"));
    let mut feed = daemon.acked_feed();
    feed.publish([line("job_started", "a", "f").as_str()]);
    assert!(jobs.line().starts_with("a    running"));
    feed.publish([line("job_failed", "a", "f").as_str()]);
    assert!(jobs.line().starts_with("a    failed"));
    daemon.stop();
    wait_until("it is missed", || jobs.stderr.so_far().contains("trying again"));
    daemon = Setup::default().flags(&["--listen", &daemon.address.to_string()]).start();
    daemon.acked_feed().publish([line("job_started", "b", "f").as_str()]);
    assert!(jobs.line().starts_with("b    running"), "{}", jobs.stderr.so_far());
    let said = jobs.stderr.so_far();
    assert!(said.contains("the daemon is there again"), "{said}");
    assert_eq!(jobs.child.try_wait().unwrap(), None);
}

#[test]
fn the_exit_code_says_what_became_of_a_job() {
    let daemon = daemon(&[]);
    for (job, code) in [("a", 0), ("b", 1), ("c", 3), ("d", 3)] {
        let output = run(&daemon, &["status", job, "--exit-status"]);
        assert_eq!(output.status.code(), Some(code), "{job}: {}", text(&output.stderr));
    }
    let unknown = run(&daemon, &["status", "d"]);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(text(&unknown.stderr).contains("no job d is known"), "{}", text(&unknown.stderr));
}

#[test]
fn who_may_see_some_jobs_is_shown_these() {
    let scratch = Scratch::new();
    let file = scratch.path().join("tokens");
    std::fs::write(&file, "secret-of-one jobs=a\nsecret-of-all all\n").unwrap();
    let daemon = Setup::default().flags(&["--token-file", file.to_str().unwrap()]).start();
    publish(&daemon);
    let with = |token: &str, arguments: &[&str]| run(&daemon, &[arguments, &["--token", token]].concat());
    assert_eq!(table(&with("secret-of-one", &["jobs"])), ["JOB STATUS FLOW", "a completed f"]);
    assert_eq!(table(&with("secret-of-all", &["jobs"])).len(), 4);
    let other = with("secret-of-one", &["status", "b"]);
    assert_eq!(other.status.code(), Some(1));
    assert!(text(&other.stderr).contains("the token may not see it"));
    let refused = run(&daemon, &["jobs"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("401 unauthorized"), "{}", text(&refused.stderr));
}

#[test]
fn what_is_no_daemon_is_said() {
    let daemon = daemon(&[]);
    let away = luxcast().args(["jobs", "--url", "127.0.0.1:1"]).output().unwrap();
    assert_eq!(away.status.code(), Some(1));
    assert!(text(&away.stderr).contains("no daemon listens there"));
    for arguments in [
        &["jobs", "--status", "done"][..],
        &["jobs", "--watch", "-o", "json"],
        &["jobs", "--watch", "-n", "1"],
        &["jobs", "-n", "0"],
        &["jobs", "--flow", "a/b"],
        &["status"],
        &["status", "a b"],
        &["status", "a", "--ca", "file"],
    ] {
        let output = run(&daemon, arguments);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{arguments:?}");
    }
}
