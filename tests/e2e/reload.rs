//! SIGHUP: what changes in a running daemon, what does not, and that it disconnects nobody.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use rustix::process::Signal;

use crate::harness::daemon::is_there;
use crate::harness::{Client, Daemon, Raw, Scratch, Setup, luxcast, wait_until};

const EVENTS: &str = "/api/ws/events";

/// A daemon with a settings file that a test rewrites.
struct Reloadable {
    daemon: Daemon,
    file: PathBuf,
    _scratch: Scratch,
}

impl Reloadable {
    fn start(text: &str) -> Self {
        Self::with(Setup::default(), text)
    }

    fn with(setup: Setup, text: &str) -> Self {
        let scratch = Scratch::new();
        let file = scratch.path().join("luxcast.toml");
        fs::write(&file, text).unwrap();
        let daemon = setup.flags(&["--config", file.to_str().unwrap()]).start();
        Self { daemon, file, _scratch: scratch }
    }

    /// Reloads with this file and waits for the outcome; returns the log lines since.
    fn reload(&self, text: &str) -> String {
        fs::write(&self.file, text).unwrap();
        self.hang_up()
    }

    fn hang_up(&self) -> String {
        self.daemon.reload()
    }
}

/// Checks that these watchers are still served, in order, by the same connection.
fn assert_served(daemon: &Daemon, watchers: &mut [Client]) {
    let newest = daemon.acked_feed().publish([r#"{"type":"x","job_id":"j"}"#]);
    for watcher in watchers {
        assert!(watcher.event().starts_with(&format!("{{\"stream_seq\":{newest},")));
    }
}

#[test]
fn shorter_times_hold_at_once_for_open_connections() {
    let reloadable = Reloadable::start("heartbeat_seconds = 86400\nhandshake_seconds = 3600\n");
    let daemon = &reloadable.daemon;
    let mut watchers: Vec<Client> = (0..5).map(|_| daemon.watch(EVENTS)).collect();
    let (mut half, mut idle) = (daemon.raw(), daemon.raw());
    half.send(b"GET /hea");
    let healthz = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    assert_eq!(idle.request(healthz).status, 200);
    let log = reloadable.reload("heartbeat_seconds = 0.2\nhandshake_seconds = 0.3\n");
    assert!(log.contains("reloaded; changed: heartbeat_seconds, handshake_seconds"), "{log}");
    for watcher in &mut watchers {
        watcher.json_of("ping");
    }
    assert_eq!(half.read_answer().code(), "timeout");
    assert_eq!((idle.fill(), idle.buffer.len()), (0, 0), "it is closed");
}

#[test]
fn limits_change_for_everybody_and_nobody_is_disconnected() {
    let reloadable = Reloadable::with(
        Setup::default().flags(&["--shards", "3"]),
        "messages_per_second = 1000\nconnections_max = 100\n",
    );
    let daemon = &reloadable.daemon;
    let mut watchers: Vec<Client> = (0..9).map(|_| daemon.watch(EVENTS)).collect();
    assert_served(daemon, &mut watchers);

    let log = reloadable.reload(
        "messages_per_second = 1000\nconnections_max = 10\nmessage_bytes_max = 200\nheartbeat_seconds = 0.1\n",
    );
    assert!(
        log.contains("reloaded; changed: heartbeat_seconds, message_bytes_max, connections_max"),
        "{log}"
    );
    assert_served(daemon, &mut watchers);
    // New limits hold for new connections, in each shard, and for present ones.
    let tenth = daemon.watch(EVENTS);
    assert_eq!(daemon.refuse(EVENTS).code(), "full");
    drop(tenth);
    wait_until("room for another", || Client::try_connect(daemon.address, EVENTS).is_ok());
    for watcher in &mut watchers {
        let fits = format!(r#"{{"action":"pong","pad":"{}"}}"#, "x".repeat(150));
        watcher.send(&fits);
        assert_eq!(watcher.ask(r#"{"action":"ping"}"#)["type"], "pong");
        watcher.send(&fits.replace("pad\":\"", &format!("pad\":\"{}", "y".repeat(50))));
        assert_eq!(watcher.close_code(), 1009);
    }
    // From the limit of 10 back to what the file limit allows.
    let log = reloadable.reload("");
    assert!(log.contains("connections_max"), "{log}");
    let _crowd: Vec<Client> = (0..20).map(|_| daemon.watch(EVENTS)).collect();
}

#[test]
fn connections_from_before_a_limit_per_address_count() {
    let reloadable = Reloadable::start("");
    let daemon = &reloadable.daemon;
    let mut watchers: Vec<Client> = (0..3).map(|_| daemon.watch(EVENTS)).collect();
    reloadable.reload("connections_per_address_max = 3\n");
    assert_eq!(daemon.refuse(EVENTS).code(), "too_many_requests");
    watchers.pop();
    wait_until("room for another", || Client::try_connect(daemon.address, EVENTS).is_ok());
    assert_served(daemon, &mut watchers);
    // Lowered below the present number: nobody leaves, nobody gets in.
    reloadable.reload("connections_per_address_max = 1\n");
    assert_served(daemon, &mut watchers);
    assert_eq!(daemon.refuse(EVENTS).code(), "too_many_requests");
}

#[test]
fn a_bad_file_changes_nothing_and_is_named_with_line_and_key() {
    let reloadable = Reloadable::start("connections_max = 1\n");
    let daemon = &reloadable.daemon;
    let mut only = [daemon.watch(EVENTS)];
    let name = reloadable.file.to_str().unwrap();
    let table = [
        ("connections_max = 5\nconnection_max = 5\n", format!("{name}:2: connection_max: ")),
        ("connections_max = 5\n\nmessage_bytes_max = 1\n", format!("{name}:3: message_bytes_max: ")),
        ("connections_max = 5\nlog_level = \"loud\"\n", format!("{name}:2: log_level: ")),
        ("connections_max = 5\nbroken\n", format!("{name}:2: ")),
    ];
    for (text, place) in table {
        let log = reloadable.reload(text);
        assert!(log.contains("nothing was reloaded, the old settings stay"), "{log}");
        assert!(log.contains("ERROR") && log.contains(&place), "no {place} in {log}");
        assert_eq!(daemon.refuse(EVENTS).code(), "full", "after {text:?}");
        assert_served(daemon, &mut only);
    }
    fs::remove_file(&reloadable.file).unwrap();
    let log = reloadable.hang_up();
    assert!(log.contains(&format!("--config: cannot read {name}")), "{log}");
    assert_eq!(daemon.refuse(EVENTS).code(), "full");
    // Corrected, it is accepted.
    reloadable.reload("connections_max = 2\n");
    let _second = daemon.watch(EVENTS);
}

#[test]
fn what_needs_a_restart_is_named_in_one_warning_and_the_rest_is_taken() {
    let reloadable = Reloadable::start("");
    let daemon = &reloadable.daemon;
    let mut watchers = [daemon.watch(EVENTS)];
    let text = "connections_max = 1\nhistory_seconds = 5\noverrun = \"wait\"\n";
    for _ in 0..2 {
        let log = reloadable.reload(text);
        assert!(log.contains("changed, but needs a restart: history_seconds, overrun"), "{log}");
        assert_eq!(log.matches("WARN").count(), 1, "{log}");
        assert_eq!(daemon.refuse(EVENTS).code(), "full");
    }
    assert_served(daemon, &mut watchers);
}

#[test]
fn flags_still_go_before_the_file() {
    let reloadable = Reloadable::with(Setup::default().flags(&["--connections-max", "1"]), "");
    let log = reloadable.reload("connections_max = 5\n");
    assert!(log.contains("no setting has changed"), "{log}");
    let _only = reloadable.daemon.watch(EVENTS);
    assert_eq!(reloadable.daemon.refuse(EVENTS).code(), "full");
}

#[test]
fn the_log_level_changes_and_each_change_is_seen() {
    let reloadable = Reloadable::start("");
    let quiet = reloadable.reload("log_level = \"error\"\n");
    assert!(quiet.contains("reloaded; changed: log_level"), "{quiet}");
    // A refused request is no longer logged.
    let before = reloadable.daemon.stderr().len();
    assert_eq!(reloadable.daemon.refuse("/nowhere").status, 404);
    let debug = reloadable.reload("log_level = \"debug\"\n");
    assert!(debug.contains("reloaded; changed: log_level"), "{debug}");
    assert!(!reloadable.daemon.stderr()[before..].contains("refused"), "{}", reloadable.daemon.stderr());
    let mut raw = reloadable.daemon.raw();
    raw.upgrade(EVENTS);
    // A reserved opcode ends the connection, which only debugging shows.
    raw.send(&[0x83]);
    assert_eq!(raw.read_close(), Some(1002));
    reloadable.daemon.wait_for_log("DEBUG");
}

#[test]
fn proxies_are_trusted_from_a_reload_on() {
    let reloadable =
        Reloadable::with(Setup::default().flags(&["--allow-anonymous"]), "connections_per_address_max = 1\n");
    let daemon = &reloadable.daemon;
    let mut proxy = [daemon.watch(EVENTS)];
    let status = || {
        let mut raw = daemon.raw();
        let field = "\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n";
        raw.send(Raw::upgrade_request(EVENTS).replace("\r\n\r\n", field).as_bytes());
        raw.read_head()[9..12].to_owned()
    };
    assert_eq!(status(), "429", "the proxy's address is full");
    reloadable.reload("connections_per_address_max = 1\ntrusted_proxies = [\"127.0.0.1\"]\n");
    assert_eq!(status(), "101", "the client's is not");
    assert_served(daemon, &mut proxy);
    reloadable.reload("connections_per_address_max = 1\n");
    assert_eq!(status(), "429");
    let log = reloadable.reload("trusted_proxies = [\"127.0.0.1/8\"]\n");
    assert!(log.contains("did you mean 127.0.0.0/8?"), "{log}");
    assert_eq!(status(), "429");
}

#[test]
fn a_proxy_without_tokens_is_refused_by_a_reload_too() {
    let reloadable = Reloadable::start("");
    let log = reloadable.reload("trusted_proxies = [\"127.0.0.1\"]\n");
    assert!(log.contains("nothing was reloaded") && log.contains(":1: trusted_proxies: "), "{log}");
    let log = reloadable.reload("trusted_proxies = [\"127.0.0.1\"]\nallow_anonymous = true\n");
    assert!(log.contains("reloaded; changed: trusted_proxies, allow_anonymous"), "{log}");
}

#[test]
fn an_origin_that_is_open_to_all_is_warned_of_once() {
    let reloadable = Reloadable::start("");
    let log = reloadable.reload("allowed_origins = [\"null\", \"*\"]\n");
    assert!(log.contains("null is as open as *") && log.contains("* without tokens"), "{log}");
    assert_eq!(log.matches("WARN").count(), 2, "{log}");
}

#[test]
fn many_signals_at_once_are_fine() {
    let reloadable = Reloadable::start("connections_max = 100\n");
    let daemon = &reloadable.daemon;
    let mut watchers: Vec<Client> = (0..3).map(|_| daemon.watch(EVENTS)).collect();
    fs::write(&reloadable.file, "connections_max = 3\n").unwrap();
    for _ in 0..200 {
        daemon.signal(Signal::HUP);
    }
    wait_until("the last one is obeyed", || {
        Client::try_connect(daemon.address, EVENTS).is_err_and(|refused| refused.code() == "full")
    });
    assert_served(daemon, &mut watchers);
}

/// Runs the program in its own terminal, and hangs up twice: with the terminal there, and with it closed.
const IN_A_TERMINAL: &str = r#"
import os, pty, signal, subprocess, sys
terminal, inside = pty.openpty()
daemon = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=inside)
os.close(inside)
while not daemon.stdout.readline().startswith(b"ingest "):
    pass
daemon.send_signal(signal.SIGHUP)
log = b""
while b"reloaded" not in log:
    log += os.read(terminal, 4096)
os.close(terminal)
daemon.send_signal(signal.SIGHUP)
print("ended with", daemon.wait())
"#;

#[test]
fn a_daemon_whose_terminal_was_closed_ends() {
    let scratch = Scratch::new();
    let socket = scratch.path().join("ingest.sock");
    let mut command = Command::new("python3");
    command.args(["-c", IN_A_TERMINAL, luxcast().get_program().to_str().unwrap(), "serve"]);
    command.args(["--listen", "127.0.0.1:0", "--admin", "off", "--ingest", socket.to_str().unwrap()]);
    let output = command.output().expect("python3 is there");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "ended with 0\n", "{output:?}");
    assert!(!is_there(&socket));
}

#[test]
fn a_reload_that_hangs_does_not_keep_the_daemon_from_ending() {
    let mut reloadable = Reloadable::start("");
    // A pipe in place of the file: opening it waits for a writer.
    fs::remove_file(&reloadable.file).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, &reloadable.file, rustix::fs::Mode::RWXU).unwrap();
    reloadable.daemon.signal(Signal::HUP);
    reloadable.daemon.signal(Signal::HUP);
    let mut watchers = [reloadable.daemon.watch(EVENTS)];
    assert_served(&reloadable.daemon, &mut watchers);
    drop(watchers);
    reloadable.daemon.stop();
}

#[test]
fn origins_are_let_in_and_shut_out_by_a_reload() {
    let reloadable = Reloadable::start("allowed_origins = [\"https://a.example\"]\n");
    let status = |origin: &str| {
        let mut raw = reloadable.daemon.raw();
        let field = format!("\r\nOrigin: {origin}\r\n\r\n");
        raw.send(Raw::upgrade_request(EVENTS).replace("\r\n\r\n", &field).as_bytes());
        raw.read_head()[9..12].to_owned()
    };
    assert_eq!((status("https://a.example"), status("https://b.example")), ("101".into(), "403".into()));
    let log = reloadable.reload("allowed_origins = [\"https://b.example\"]\n");
    assert!(log.contains("reloaded; changed: allowed_origins"), "{log}");
    assert_eq!((status("https://a.example"), status("https://b.example")), ("403".into(), "101".into()));
    let log = reloadable.reload("allowed_origins = [\"https://a.example\", \"b.example\"]\n");
    assert!(log.contains(":1: allowed_origins: `b.example` is not an origin"), "{log}");
    assert_eq!((status("https://a.example"), status("https://b.example")), ("403".into(), "101".into()));
    reloadable.reload("");
    assert_eq!((status("https://a.example"), status("https://b.example")), ("403".into(), "403".into()));
}
