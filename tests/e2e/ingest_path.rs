//! The path of the feed's socket: one daemon at a time, whatever happens to the file.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::daemon::is_there;
use crate::harness::{Daemon, PATIENCE, Scratch, luxcast, wait_until};

const LINE: &str = r#"{"type":"x","job_id":"j"}"#;

fn start(path: &Path, flags: &[&str]) -> Daemon {
    Daemon::start(&[&["--ingest", path.to_str().expect("UTF-8")], flags].concat())
}

fn serve(path: &Path) -> Command {
    let mut command = luxcast();
    command.args(["serve", "--listen", "127.0.0.1:0", "--admin", "off", "--ingest"]).arg(path);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Waits for a process that must end by itself.
fn run(mut command: Command) -> Output {
    let mut child = command.spawn().expect("it starts");
    let until = Instant::now() + PATIENCE;
    while child.try_wait().expect("it is ours").is_none() {
        if Instant::now() > until {
            let _ = child.kill();
        }
        thread::sleep(Duration::from_millis(5));
    }
    child.wait_with_output().expect("it has ended")
}

/// Another daemon must not get the path.
fn expect_refused(output: &Output, path: &Path) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(
        text.contains("another daemon takes lines at") && text.contains(path.to_str().expect("UTF-8")),
        "{text}"
    );
}

fn files(directory: &Path) -> Vec<PathBuf> {
    fs::read_dir(directory).expect("it is there").map(|entry| entry.expect("a file").path()).collect()
}

#[test]
fn the_next_daemon_takes_the_feed_while_the_one_before_still_drains() {
    let scratch = Scratch::new();
    let path = scratch.path().join("feed.sock");
    let mut before = start(&path, &["--drain-seconds", "5"]);
    before.acked_feed().publish([LINE]);
    // It never answers the close frame, so that draining takes long.
    let mut stuck = before.raw();
    stuck.upgrade("/api/ws/events");
    before.terminate();
    stuck.read_frame_of(0x8);
    let mut next = start(&path, &[]);
    next.acked_feed().publish([LINE]);
    assert!(before.is_running(), "it still drains");
    assert_eq!(before.wait().code(), Some(0));
    next.acked_feed().publish([LINE]);
    next.stop();
    assert_eq!(files(scratch.path()), [] as [PathBuf; 0]);
}

#[test]
fn removing_the_socket_does_not_free_its_path() {
    let scratch = Scratch::new();
    let path = scratch.path().join("feed.sock");
    let mut daemon = start(&path, &[]);
    let mut feed = daemon.acked_feed();
    fs::remove_file(&path).expect("it is there");
    expect_refused(&run(serve(&path)), &path);
    feed.publish([LINE]);
    // The daemon must not remove another program's file.
    let _other = UnixListener::bind(&path).expect("the path is free");
    daemon.stop();
    UnixStream::connect(&path).expect("the other still listens there");
    assert_eq!(files(scratch.path()), [path]);
}

#[test]
fn after_kill_the_next_one_gets_the_path() {
    let scratch = Scratch::new();
    let path = scratch.path().join("feed.sock");
    for is_removed in [false, true] {
        let mut daemon = start(&path, &[]);
        daemon.kill();
        assert!(is_there(&path));
        if is_removed {
            fs::remove_file(&path).expect("it is there");
        }
        let mut next = start(&path, &[]);
        next.acked_feed().publish([LINE]);
        next.stop();
        assert_eq!(files(scratch.path()), [] as [PathBuf; 0]);
    }
}

#[test]
fn of_several_that_start_at_once_one_gets_the_path() {
    let scratch = Scratch::new();
    let path = scratch.path().join("feed.sock");
    // Beside a stale socket that one of them must replace.
    drop(UnixListener::bind(&path).expect("the path is free"));
    let mut children: Vec<_> = (0..5).map(|_| serve(&path).spawn().expect("it starts")).collect();
    wait_until("all but one have ended", || {
        children.iter_mut().filter_map(|child| child.try_wait().expect("it is ours")).count() == 4
    });
    wait_until("one listens", || UnixStream::connect(&path).is_ok());
    for mut child in children {
        match child.try_wait().expect("it is ours") {
            Some(_) => expect_refused(&child.wait_with_output().expect("it has ended"), &path),
            None => {
                let pid = rustix::process::Pid::from_child(&child);
                rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it runs");
                assert_eq!(child.wait().expect("it is ours").code(), Some(0));
            }
        }
    }
    assert_eq!(files(scratch.path()), [] as [PathBuf; 0]);
}

/// A process without the right to write lines never gets in: the socket has its mode before it listens.
#[test]
fn the_socket_has_its_mode_before_it_listens() {
    let scratch = Scratch::new();
    let path = scratch.path().join("feed.sock");
    let trace = scratch.path().join("trace");
    let calls = "trace=bind,listen,chmod,fchmodat,fchmod";
    let under = [
        "sh",
        "-c",
        "umask 0; exec \"$@\"",
        "sh",
        "strace",
        // The daemon is our child; strace is not in between.
        "-D",
        "-f",
        "-o",
        trace.to_str().expect("UTF-8"),
        "-e",
        calls,
    ];
    let flags = ["--ingest", path.to_str().expect("UTF-8")];
    let daemon = crate::harness::Setup::default().flags(&flags).under(&under).start();
    assert_eq!(fs::metadata(&path).expect("it is there").permissions().mode() & 0o777, 0o660);
    daemon.acked_feed().publish([LINE]);
    let text = fs::read_to_string(&trace).expect("strace writes");
    let name = path.to_str().expect("UTF-8");
    let place = |what: &str, is_it: &dyn Fn(&str) -> bool| {
        text.lines().position(is_it).unwrap_or_else(|| panic!("{what} is not in\n{text}"))
    };
    let first_mode = place("fchmod", &|line| line.contains("fchmod(") && line.contains("0660"));
    let bind = place("bind", &|line| line.contains("bind(") && line.contains(name));
    let mode = place("chmod", &|line| line.contains("chmod") && line.contains(name) && line.contains("0660"));
    let listen = bind + place("listen", &|line| line.contains("listen(") && line.contains("1024"));
    assert!(first_mode < bind && bind < mode, "{text}");
    assert!(mode < listen, "{text}");
}
