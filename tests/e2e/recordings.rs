//! `record` and `replay`: what a publisher wrote, in a file and back again.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::corpus::corpus;
use crate::harness::tool::Tool;
use crate::harness::{Daemon, Scratch, luxcast, wait_until};

fn record(daemon: &Daemon, file: &Path, arguments: &[&str]) -> Tool {
    let mut command = luxcast();
    command.arg("record").arg(file).args(["--url", &format!("ws://{}", daemon.address)]).args(arguments);
    Tool::start(&mut command)
}

fn replay(daemon: &Daemon, file: &Path, arguments: &[&str]) -> Tool {
    let mut command = luxcast();
    command.arg("replay").arg(file).arg("--ingest").arg(&daemon.ingest).args(arguments);
    Tool::start(&mut command)
}

/// Interrupts it as a user at the terminal does.
fn interrupt(tool: &mut Tool) -> (i32, String) {
    let pid = Pid::from_raw(tool.child.id().cast_signed()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    tool.end()
}

fn lines_in(file: &Path) -> usize {
    fs::read(file).map_or(0, |bytes| bytes.iter().filter(|byte| **byte == b'\n').count())
}

#[test]
fn a_recording_is_the_feed_byte_for_byte_and_can_be_replayed() {
    let scratch = Scratch::new();
    let [first, second] = ["first.ndjson", "second.ndjson"].map(|name| scratch.path().join(name));
    // Without metrics of its own, which would be among the events.
    let daemon = Daemon::start(&["--metrics-seconds", "0"]);
    let lines = corpus();
    daemon.acked_feed().publish(lines.iter().map(|line| line.text.as_str()));
    let mut recorder = record(&daemon, &first, &[]);
    wait_until("all is recorded", || lines_in(&first) >= lines.len());
    let (code, text) = interrupt(&mut recorder);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains(&format!("{} events recorded", lines.len())), "{text}");
    let expected: String = lines.iter().map(|line| line.text.clone() + "\n").collect();
    assert!(fs::read_to_string(&first).unwrap() == expected, "the recording differs from the feed");

    let other = Daemon::start(&["--metrics-seconds", "0"]);
    let mut recorder = record(&other, &second, &["--since", "now"]);
    other.wait_for_connections(1);
    let (code, text) = replay(&other, &first, &["--speed", "max"]).end();
    assert_eq!(code, 0, "{text}");
    wait_until("all is recorded again", || lines_in(&second) >= lines.len());
    assert_eq!(interrupt(&mut recorder).0, 0);
    assert!(fs::read_to_string(&second).unwrap() == expected, "the replay differs from the recording");
}

#[test]
fn a_replay_takes_the_time_that_it_took_divided_by_speed() {
    let daemon = Daemon::start(&[]);
    let scratch = Scratch::new();
    let file = scratch.path().join("events.ndjson");
    let line =
        |second: u32| format!(r#"{{"type":"x","job_id":"j","timestamp":"2026-11-23T07:35:{second:02}Z"}}"#);
    fs::write(&file, [line(0), line(10), line(9), line(20), line(50)].join("\n")).unwrap();
    let mut watcher = daemon.watch("/api/ws/jobs/j/monitor");
    watcher.connected();
    // 0, 1, 1, 2 and 3 seconds after the first.
    let began = Instant::now();
    let mut replay = replay(&daemon, &file, &["--speed", "10", "--pause-max", "1"]);
    watcher.events(2);
    let second = began.elapsed();
    watcher.events(3);
    let last = began.elapsed();
    assert!(second >= Duration::from_millis(990), "{second:?}");
    assert!(last >= Duration::from_millis(2990), "{last:?}");
    assert_eq!(replay.end().0, 0);
}

#[test]
fn a_recording_with_a_gap_says_so() {
    let daemon = Daemon::start(&["--history-bytes", "65536"]);
    let lines: Vec<String> =
        (0..2_000).map(|n| format!(r#"{{"type":"x","job_id":"j","n":{n},"pad":"{:0>100}"}}"#, n)).collect();
    daemon.acked_feed().publish(lines.iter().map(String::as_str));
    let scratch = Scratch::new();
    let file = scratch.path().join("events.ndjson");
    let mut recorder = record(&daemon, &file, &["--job", "j"]);
    wait_until("the newest event", || {
        fs::read_to_string(&file).is_ok_and(|text| text.ends_with(&format!("{}\n", lines[1_999])))
    });
    let (code, text) = interrupt(&mut recorder);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("expired") && text.contains("with 1 gap"), "{text}");
    let mut again = record(&daemon, &file, &["--job", "j"]);
    let (code, text) = again.end();
    assert_eq!(code, 2, "{text}");
    assert!(text.contains("--force"), "{text}");
}

#[test]
fn a_recording_can_end_with_its_job() {
    let daemon = Daemon::start(&["--metrics-seconds", "0"]);
    let scratch = Scratch::new();
    let file = scratch.path().join("events.ndjson");
    let mut recorder = record(&daemon, &file, &["--job", "j", "--until-end"]);
    daemon.wait_for_connections(1);
    let lines = ["job_started", "routine_started", "job_completed"]
        .map(|kind| format!(r#"{{"type":"{kind}","job_id":"j"}}"#));
    daemon.acked_feed().publish(lines.iter().map(String::as_str));
    let (code, text) = recorder.end();
    assert_eq!(code, 0, "{text}");
    assert_eq!(fs::read_to_string(&file).unwrap(), lines.join("\n") + "\n");
}

#[test]
fn a_recording_that_never_began_leaves_no_file() {
    let mut daemon = Daemon::start(&[]);
    daemon.stop();
    let scratch = Scratch::new();
    let file = scratch.path().join("events.ndjson");
    let (code, text) = record(&daemon, &file, &[]).end();
    assert_eq!(code, 1, "{text}");
    assert!(!file.exists());
}

#[test]
fn an_old_recording_outlives_every_attempt_that_brings_nothing() {
    let mut daemon = Daemon::start(&[]);
    daemon.acked_feed().publish([r#"{"type":"x","job_id":"j"}"#]);
    let scratch = Scratch::new();
    let [file, link] = ["old.ndjson", "link"].map(|name| scratch.path().join(name));
    fs::write(&file, "old\n").unwrap();
    std::os::unix::fs::symlink(&file, &link).unwrap();
    let is_untouched = |what: &str| {
        assert_eq!(fs::read_to_string(&file).unwrap(), "old\n", "{what}");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink(), "{what}");
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 2, "{what}");
    };
    // No event of this job, and a link is not followed.
    let (code, text) = record(&daemon, &file, &["--force", "--job", "k", "--timeout", "0.3"]).end();
    assert_eq!(code, 0, "{text}");
    is_untouched("no event");
    let (code, text) = record(&daemon, &link, &["--force", "--timeout", "0.3"]).end();
    assert!(code == 2 && text.contains("is a link"), "{text}");
    is_untouched("a link");
    // Not one more byte on this disk.
    let mut full = Command::new("sh");
    full.args([
        "-c",
        "trap '' XFSZ; ulimit -f 0; exec \"$@\"",
        "sh",
        env!("CARGO_BIN_EXE_luxcast"),
        "record",
    ]);
    full.arg(&file).args(["--force", "--url", &daemon.address.to_string()]);
    let (code, text) = Tool::start(&mut full).end();
    assert!(code == 1 && text.contains("output: "), "{text}");
    is_untouched("a full disk");
    for device in ["/dev/full", "/dev/null"] {
        let (code, text) = record(&daemon, Path::new(device), &["--force", "--timeout", "1"]).end();
        assert_eq!(code, i32::from(device == "/dev/full"), "{text}");
        assert!(Path::new(device).exists());
    }
    daemon.stop();
    for target in [&file, Path::new("/dev/null")] {
        let (code, text) = record(&daemon, target, &["--force"]).end();
        assert!(code == 1 && target.exists(), "{text}");
    }
    is_untouched("no daemon");
    let pipe = scratch.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let (code, text) = record(&daemon, &pipe, &["--force"]).end();
    assert!(code == 1 && fs::symlink_metadata(&pipe).unwrap().file_type().is_fifo(), "{text}");
    let other = Daemon::start(&[]);
    let line = r#"{"type":"x","job_id":"j"}"#;
    other.acked_feed().publish([line]);
    let mut recorder = record(&other, &pipe, &[]);
    let mut first = String::new();
    BufReader::new(fs::File::open(&pipe).unwrap()).read_line(&mut first).unwrap();
    let (code, text) = recorder.end();
    assert_eq!((code, first), (0, format!("{line}\n")), "{text}");
    let (code, text) = record(&other, &file, &["--force", "--timeout", "1"]).end();
    assert_eq!((code, fs::read_to_string(&file).unwrap()), (0, format!("{line}\n")), "{text}");
}

#[test]
fn wrong_use_of_either_is_a_usage_error() {
    for arguments in [
        &["replay", "--speed", "0"][..],
        &["replay", "--pause-max", "-1"],
        &["replay", "/no/such/file"],
        &["record", "--job", "a b"],
        &["record", "/no/such/directory/file"],
        &["record", "--until-end"],
    ] {
        let mut command: Command = luxcast();
        let output = command.args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?} {output:?}");
    }
}
