//! What the log of a daemon says of a stream and of servers that are not as they should be.

use rustix::process::Signal;
use serde_json::json;

use crate::BASE;
use crate::commands::luxcast;
use crate::desk::{Desk, USUAL_WINDOW};
use crate::engines::line;
use crate::fleet::{create, serve};
use crate::harness::{Daemon, Feed, wait_until};
use crate::recipes::promised;
use crate::server::{NEWEST, NatsServer};

#[test]
fn differences_that_keep_nobody_away_are_logged_as_bus_check_names_them() {
    let server = NatsServer::start(NEWEST, "");
    let desk = Desk::new(vec![server.url()]);
    desk.create(BASE, USUAL_WINDOW / 10);
    desk.update(|config| config["max_msgs"] = 1_000.into());
    let (code, shown, _) = luxcast(&["bus", "check", "--bus", &server.url()]);
    let named: Vec<&str> = shown.lines().filter_map(|line| line.strip_prefix("warning: LUXCAST: ")).collect();
    assert!(code == 0 && named.len() >= 6, "{shown}");
    for word in
        ["max_msgs is 1000", "duplicate_window is", "deny_delete is", "it has no luxcast.line_bytes_max"]
    {
        assert!(named.iter().any(|what| what.contains(word)), "{word}: {named:?}");
    }
    let daemon = serve(&[server.url()], &[]);
    daemon.wait_for_log("has started");
    let log = daemon.stderr();
    for what in named {
        assert_eq!(log.matches(&format!("WARN bus: LUXCAST: {what}")).count(), 1, "{what}: {log}");
    }
}

#[test]
fn who_waits_since_a_chunk_is_refused_is_told_why_and_when_it_is_over() {
    let server = NatsServer::start(NEWEST, "");
    let desk = Desk::new(vec![server.url()]);
    desk.create(BASE, USUAL_WINDOW);
    let daemon = serve(&[server.url()], &[]);
    let mut feed = daemon.acked_feed();
    feed.publish([line("e", 1).as_str()]);
    for (name, value, why) in [
        ("subjects", json!(["other"]), "no stream takes luxcast.events"),
        ("max_msg_size", json!(10), "message size exceeds maximum allowed"),
    ] {
        let before = desk.info()["config"][name].clone();
        desk.update(|config| config[name] = value);
        let said = daemon.stderr().len();
        let mut waiting = Feed::connect(&daemon.ingest);
        waiting.line(&line(name, 1));
        let refused = format!("{}, and publishers wait: ", promised("the stream does not take lines"));
        daemon.wait_for_log(why);
        desk.update(|config| config[name] = before);
        feed.publish([line("e", 2).as_str()]);
        wait_until("it is over", || {
            daemon.stderr()[said..].contains(promised("the stream takes lines again"))
        });
        let log = daemon.stderr()[said..].to_owned();
        assert!(log.matches(&refused).count() == 1 && log.contains("see luxcast bus check"), "{log}");
    }
}

#[test]
fn a_stream_that_forbids_its_consumers_is_named_with_the_reason() {
    let server = NatsServer::start(NEWEST, "");
    let desk = Desk::new(vec![server.url()]);
    desk.create(BASE, USUAL_WINDOW);
    desk.update(|config| config["consumer_limits"] = json!({"inactive_threshold": 10_000_000_000_u64}));
    let (code, _, said) = luxcast(&[
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--admin",
        "off",
        "--ingest",
        "/nowhere/ingest.sock",
        "--bus",
        &server.url(),
        "--bus-start-seconds",
        "8",
    ]);
    assert!(code == 1 && said.contains("cannot be read: no consumer: "), "{said}");
    assert!(said.contains("inactive threshold"), "{said}");
    assert!(
        said.matches("no consumer: ").count() == 1 && !said.contains("the connection has ended"),
        "{said}"
    );
}

#[test]
fn a_line_that_was_too_long_for_the_server_goes_when_it_takes_more() {
    let server = NatsServer::start(NEWEST, "");
    create(&server.url(), &["--replicas", "1"]);
    let daemon = serve(&[server.url()], &[]);
    server.configure("max_payload: 65536");
    server.signal(Signal::HUP);
    wait_until("the server has read it", || server.log_text().contains("Reloaded: max_payload"));
    let mut feed = daemon.acked_feed();
    let long = line("long", 1).replace('}', &format!(",\"filler\":\"{}\"}}", "x".repeat(200_000)));
    feed.line(&long);
    daemon.wait_for_log("long lines wait until this is mended: the server takes 65536 bytes (max_payload)");
    server.configure("");
    server.signal(Signal::HUP);
    daemon.wait_for_log("long lines go through again: max_payload is 1048576");
    while feed.answer()["op"] != "ack" {}
}

#[test]
fn a_publisher_whose_lines_the_stream_has_lost_is_named() {
    let server = NatsServer::start(NEWEST, "");
    let desk = Desk::new(vec![server.url()]);
    desk.create(BASE, USUAL_WINDOW);
    let publish = |daemon: &Daemon| {
        let mut feed = Feed::connect(&daemon.ingest);
        feed.line(r#"{"op":"hello","publisher":"lost","ack":true,"dedupe":true}"#);
        assert_eq!(feed.answer()["accepted"], 0);
        feed.line(&line("lost", 1));
        feed
    };
    let mut daemon = serve(&[server.url()], &[]);
    let mut feed = publish(&daemon);
    while feed.answer()["op"] != "ack" {}
    daemon.kill();
    desk.ask_stream("STREAM.PURGE", "");
    let daemon = serve(&[server.url()], &[]);
    let _feed = publish(&daemon);
    daemon.wait_for_log(promised("a publisher waits for up to"));
    let log = daemon.stderr();
    assert!(log.contains("120s (duplicate_window): the server has had lost:1 before"), "{log}");
}

#[test]
fn a_stream_that_is_gone_is_told_once_and_so_is_its_return() {
    let server = NatsServer::start(NEWEST, "");
    create(&server.url(), &["--replicas", "1"]);
    let desk = Desk::new(vec![server.url()]);
    let daemon = serve(&[server.url(), "nats://127.0.0.1:1".to_owned()], &[]);
    daemon.wait_for_log("has started");
    let newest = daemon.acked_feed().publish([line("e", 1).as_str()]);
    let said = daemon.stderr().len();
    desk.ask_stream("STREAM.DELETE", "");
    wait_until("the stream is missed", || {
        daemon.stderr()[said..].contains(promised("no word of the stream"))
    });
    assert!(daemon.stderr()[said..].contains(promised("stream not found")), "{}", daemon.stderr());
    create(&server.url(), &["--replicas", "1", "--after", &(newest + 1_000_000).to_string()]);
    wait_until("it is there again", || daemon.stderr()[said..].contains("there is word of the stream"));
    // Meanwhile it has gone from server to server in search of it.
    let log = &daemon.stderr()[said..];
    for word in ["no word of the stream", "bus: connected to", "nats://127.0.0.1:1: "] {
        assert!(log.matches(word).count() <= 1, "{word}: {log}");
    }
}
