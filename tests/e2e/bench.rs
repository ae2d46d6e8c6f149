//! The bench tool as a user runs it, and its verdict on a server that loses or repeats a message.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::Value;

use crate::harness::{Daemon, Scratch};

/// What happens to one frame in the middle of one watcher's stream.
#[derive(Clone, Copy)]
enum Fault {
    None,
    Lose,
    Double,
}

/// The faulty frame's position: well after the greeting and the bench tool's warm-up.
const PLACE: usize = 60;

/// Length of the frame that begins here, if it is whole.
fn frame_bytes(bytes: &[u8]) -> Option<usize> {
    let (header, payload) = match *bytes.get(1)? {
        126 => (4, usize::from(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?]))),
        short => (2, usize::from(short)),
    };
    (bytes.len() >= header + payload).then_some(header + payload)
}

/// Forwards what the server sends, except for the one frame.
fn hand_on(mut from: TcpStream, mut to: TcpStream, fault: Fault) -> std::io::Result<()> {
    let (mut held, mut block) = (Vec::new(), [0; 16_384]);
    let (mut is_open, mut count) = (false, 0);
    loop {
        let read = from.read(&mut block)?;
        if read == 0 {
            return Ok(());
        }
        held.extend_from_slice(&block[..read]);
        if !is_open {
            let Some(end) = held.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { continue };
            to.write_all(&held[..end + 4])?;
            held.drain(..end + 4);
            is_open = true;
        }
        while let Some(bytes) = frame_bytes(&held) {
            count += 1;
            let times = match fault {
                Fault::Lose if count == PLACE => 0,
                Fault::Double if count == PLACE => 2,
                _ => 1,
            };
            for _ in 0..times {
                to.write_all(&held[..bytes])?;
            }
            held.drain(..bytes);
        }
    }
}

/// A relay to the daemon; the first watcher gets the fault.
fn relay(daemon: SocketAddr, fault: Fault) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a port");
    let address = listener.local_addr().unwrap();
    let is_first = Arc::new(AtomicBool::new(true));
    thread::spawn(move || {
        for client in listener.incoming() {
            let (mut client, mut server) = (client.unwrap(), TcpStream::connect(daemon).unwrap());
            let fault = if is_first.swap(false, Ordering::Relaxed) { fault } else { Fault::None };
            let (down, up) = (server.try_clone().unwrap(), client.try_clone().unwrap());
            // Both end with the bench tool's connection.
            thread::spawn(move || hand_on(down, up, fault));
            thread::spawn(move || std::io::copy(&mut client, &mut server));
        }
    });
    address
}

fn bench(arguments: &[&str]) -> (i32, String, String) {
    // Of a package of its own, which cargo does not build for this test.
    let program = Path::new(env!("CARGO_BIN_EXE_luxcast")).with_file_name("luxcast-bench");
    let shown = program.display();
    assert!(
        program.exists(),
        "{shown} is missing: build the workspace first, in the same profile (cargo build)"
    );
    let output = Command::new(program).args(arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("it writes text");
    (output.status.code().expect("it ends by itself"), text(output.stdout), text(output.stderr))
}

fn bench_through(address: SocketAddr, ingest: &Path) -> (i32, String, String) {
    let (url, ingest) = (format!("ws://{address}"), ingest.display().to_string());
    bench(&[
        "fanout",
        "--watchers",
        "3",
        "--events",
        "500",
        "--runs",
        "1",
        "--url",
        &url,
        "--ingest",
        &ingest,
    ])
}

#[test]
fn luxcast_bench_measures_and_says_what_it_measured() {
    let scratch = Scratch::new();
    let report = scratch.path().join("report.html");
    assert_eq!(bench(&["fan-out"]).0, 2, "wrong usage is told apart from a run that failed");
    let arguments = ["fanout", "--watchers", "40", "--events", "400"];
    let output = ["--runs", "1", "--json", "-", "--report", report.to_str().unwrap()];
    let (code, json, errors) = bench(&[&arguments[..], &output].concat());
    assert_eq!(code, 0, "{errors}");
    let found: Value = serde_json::from_str(&json).expect("--json - prints JSON and nothing else");
    let servers = found["scenarios"][0]["servers"].as_array().unwrap();
    let names: Vec<_> = servers.iter().map(|server| server["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["luxcast", "floor, 1 event a send", "floor, 16 events a send"]);
    for server in servers {
        assert_eq!(server["error"], Value::Null);
        let figures = server["figures"].as_array().unwrap();
        let cost = figures.iter().find(|figure| figure["name"] == "cpu_micros_per_message").unwrap();
        assert!(cost["values"][0].as_f64().unwrap() > 0.0, "{cost}");
    }
    let page = fs::read_to_string(report).expect("the report was written");
    assert!(page.contains("floor, 1 event a send") && !page.contains("src=\"http"), "self-contained");
}

#[test]
fn luxcast_bench_fails_a_server_that_loses_or_doubles_a_message() {
    let daemon = Daemon::start(&[]);
    let cases = [(Fault::None, 0, ""), (Fault::Lose, 1, "lost"), (Fault::Double, 1, "doubled")];
    // One after the other, since they would receive each other's events.
    for (fault, expected, word) in cases {
        let (code, table, errors) = bench_through(relay(daemon.address, fault), &daemon.ingest);
        assert_eq!(code, expected, "{table}{errors}");
        assert!(errors.contains(word) || table.contains(word), "{word}: {table}{errors}");
    }
}

#[test]
fn luxcast_bench_measures_what_tls_costs_beside_plain() {
    let arguments = ["tls", "--watchers", "20", "--events", "100", "--runs", "1", "--json", "-"];
    let (code, json, errors) = bench(&arguments);
    assert_eq!(code, 0, "{errors}");
    let found: Value = serde_json::from_str(&json).expect("--json - prints JSON and nothing else");
    let servers = found["scenarios"][0]["servers"].as_array().unwrap();
    let figures = |place: usize| servers[place]["figures"].as_array().unwrap().len();
    assert_eq!((servers.len(), figures(0), figures(1), figures(2)), (3, 4, 4, 1));
    for server in servers {
        assert_eq!(server["error"], Value::Null, "{server}");
    }
}
