//! The bench tool as a user runs it, and its verdict on a server that loses or repeats a message, or miscounts lines.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use serde_json::Value;

use crate::harness::{Daemon, Scratch, Setup};

/// What happens to one message in the middle of one watcher's stream.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    None,
    Lose,
    Double,
    /// An SSE has another's id.
    Mark,
    /// Every answer counts a line too much.
    Miscount,
}

/// The faulty message's position: well after the greeting and the bench tool's warm-up.
const PLACE: usize = 60;

/// Length of the WebSocket frame that begins here, if it is whole.
fn frame_bytes(bytes: &[u8]) -> Option<usize> {
    let (header, payload) = match *bytes.get(1)? {
        126 => (4, usize::from(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?]))),
        short => (2, usize::from(short)),
    };
    (bytes.len() >= header + payload).then_some(header + payload)
}

/// Length of the chunk that begins here, if it is whole.
fn chunk_bytes(bytes: &[u8]) -> Option<usize> {
    let line = bytes.windows(2).position(|two| two == b"\r\n")?;
    let digits = str::from_utf8(&bytes[..line]).expect("text");
    let length = line + 2 + usize::from_str_radix(digits, 16).expect("a length in hexadecimal") + 2;
    (bytes.len() >= length).then_some(length)
}

/// Reads up to the blank line; returns what came.
fn read_head(from: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        from.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    Ok(head)
}

/// Forwards what the server sends, except for the one message.
fn hand_on(
    mut from: TcpStream,
    mut to: TcpStream,
    fault: Fault,
    length: fn(&[u8]) -> Option<usize>,
) -> std::io::Result<()> {
    to.write_all(&read_head(&mut from)?)?;
    let (mut held, mut block) = (Vec::new(), [0; 16_384]);
    let mut count = 0;
    loop {
        let read = from.read(&mut block)?;
        if read == 0 {
            return Ok(());
        }
        held.extend_from_slice(&block[..read]);
        while let Some(bytes) = length(&held) {
            count += 1;
            let times = match fault {
                Fault::Lose if count == PLACE => 0,
                Fault::Double if count == PLACE => 2,
                _ => 1,
            };
            if fault == Fault::Mark && count == PLACE {
                let at = held.windows(4).position(|four| four == b"id: ").expect("an id") + 4;
                held[at] = b'9';
            }
            for _ in 0..times {
                to.write_all(&held[..bytes])?;
            }
            held.drain(..bytes);
        }
    }
}

/// Forwards answers to a publisher that say one line more.
fn miscount(mut from: TcpStream, mut to: TcpStream) -> std::io::Result<()> {
    let mut block = [0; 16_384];
    loop {
        let read = from.read(&mut block)?;
        if read == 0 {
            return Ok(());
        }
        let answer =
            String::from_utf8_lossy(&block[..read]).replace("\"accepted\":1000", "\"accepted\":1001");
        to.write_all(answer.as_bytes())?;
    }
}

/// A relay to the daemon; the first connection gets the fault whose request has these words.
fn relay(daemon: SocketAddr, fault: Fault, words: &'static str) -> SocketAddr {
    relay_with(daemon, fault, words, 1)
}

/// The same where as many such connections come, the faulty one among them.
fn relay_with(daemon: SocketAddr, fault: Fault, words: &'static str, connections: usize) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a port");
    let address = listener.local_addr().unwrap();
    let left = Arc::new(AtomicUsize::new(connections));
    thread::spawn(move || {
        for client in listener.incoming() {
            let (client, server) = (client.unwrap(), TcpStream::connect(daemon).unwrap());
            let left = left.clone();
            // Both sides end when one of them does.
            thread::spawn(move || connect(client, server, fault, words, &left));
        }
    });
    address
}

fn connect(
    mut client: TcpStream,
    mut server: TcpStream,
    fault: Fault,
    words: &str,
    left: &AtomicUsize,
) -> std::io::Result<()> {
    let request = read_head(&mut client)?;
    server.write_all(&request)?;
    let request = String::from_utf8(request).expect("text");
    let is_faulty = request.contains(words) && left.fetch_sub(1, Ordering::Relaxed) == 1;
    let of_watcher = if is_faulty { fault } else { Fault::None };
    let (down, up) = (server.try_clone()?, client.try_clone()?);
    thread::spawn(move || {
        let is_post = request.starts_with("POST ");
        let (from, to) = (down.try_clone()?, up.try_clone()?);
        let done = match request.contains("Upgrade") {
            _ if is_post && fault == Fault::Miscount => miscount(from, to),
            _ if is_post => std::io::copy(&mut &down, &mut &up).map(drop),
            true => hand_on(from, to, of_watcher, frame_bytes),
            false => hand_on(from, to, of_watcher, chunk_bytes),
        };
        up.shutdown(Shutdown::Both)?;
        done
    });
    std::io::copy(&mut client, &mut server)?;
    server.shutdown(Shutdown::Both)
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

fn bench_through(address: SocketAddr, ingest: &Path, words: &str) -> (i32, String, String) {
    let (url, ingest) = (format!("ws://{address}"), ingest.display().to_string());
    let words: Vec<&str> = words.split(' ').collect();
    bench(&[&words[..], &["--runs", "1", "--url", &url, "--ingest", &ingest]].concat())
}

/// The servers of a scenario, none of which has an error.
fn servers(json: &str, place: usize) -> Vec<Value> {
    let found: Value = serde_json::from_str(json).expect("--json - prints JSON and nothing else");
    let servers = found["scenarios"][place]["servers"].as_array().unwrap().clone();
    for server in &servers {
        assert_eq!(server["error"], Value::Null, "{server}");
    }
    servers
}

fn figure(server: &Value, name: &str) -> f64 {
    let figures = server["figures"].as_array().unwrap();
    let figure = figures.iter().find(|figure| figure["name"] == name);
    figure.unwrap_or_else(|| panic!("{name} of {server}"))["values"][0].as_f64().unwrap()
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
    let (web, sse, ndjson) = ("Upgrade", "text/event-stream", "application/x-ndjson");
    let cases = [
        (Fault::None, web, 0, ""),
        (Fault::Lose, web, 1, "lost"),
        (Fault::Double, web, 1, "doubled"),
        (Fault::None, sse, 0, ""),
        (Fault::Lose, sse, 1, "lost"),
        (Fault::Mark, sse, 1, "lost"),
        (Fault::Double, ndjson, 1, "doubled"),
    ];
    // One after the other, since they would receive each other's events.
    for (fault, form, expected, word) in cases {
        let words = "fanout --watchers 3 --events 500 --transport sse,ndjson";
        let (code, table, errors) = bench_through(relay(daemon.address, fault, form), &daemon.ingest, words);
        assert_eq!(code, expected, "{form}: {table}{errors}");
        assert!(errors.contains(word) || table.contains(word), "{word}: {table}{errors}");
    }
}

#[test]
fn luxcast_bench_fails_a_server_whose_compressed_messages_are_lost_or_doubled() {
    // Of 40 watchers, four inflate what they get. The others count.
    let daemon = Daemon::start(&[]);
    for (fault, connections, expected) in
        [(Fault::None, 1, 0), (Fault::Lose, 1, 1), (Fault::Double, 1, 1), (Fault::Double, 6, 1)]
    {
        let address = relay_with(daemon.address, fault, "permessage-deflate", connections);
        let words = "fanout --watchers 40 --events 500 --deflate";
        let (code, table, errors) = bench_through(address, &daemon.ingest, words);
        assert_eq!(code, expected, "connection {connections}: {table}{errors}");
        let verdicts = ["inflated", "ends in the wrong place", "doubled", "messages came"];
        assert_eq!(verdicts.iter().any(|word| table.contains(word)), code == 1, "{table}");
    }
}

#[test]
fn luxcast_bench_fails_a_daemon_that_miscounts_what_is_posted() {
    let daemon = Setup::default().flags(&["--http-publish", "anyone"]).start();
    for (fault, expected) in [(Fault::None, 0), (Fault::Miscount, 1)] {
        let address = relay(daemon.address, fault, "nobody");
        let words = "ingest --http --events 12000 --watchers 3 --seconds 1";
        let (code, table, errors) = bench_through(address, &daemon.ingest, words);
        assert_eq!(code, expected, "{table}{errors}");
        assert_eq!(table.contains("1000 lines were posted, and the answer is"), code == 1, "{table}");
    }
}

#[test]
fn luxcast_bench_measures_plain_http_beside_websocket() {
    let words = "fanout latency resume --watchers 10 --events 300 --rates 200 --seconds 1 --runs 1 \
                 --transport sse,ndjson --json -";
    let (code, json, errors) = bench(&words.split_whitespace().collect::<Vec<_>>());
    assert_eq!(code, 0, "{errors}");
    for (place, after) in ["", ", 200/s", ""].into_iter().enumerate() {
        let servers = servers(&json, place);
        let names: Vec<_> = servers.iter().map(|server| server["name"].as_str().unwrap()).collect();
        let expected = ["luxcast", "luxcast, SSE", "luxcast, NDJSON"].map(|name| format!("{name}{after}"));
        assert_eq!(names, expected);
    }
    let found: Value = serde_json::from_str(&json).unwrap();
    let targets = found["scenarios"][0]["targets"].as_array().unwrap().iter();
    let texts: Vec<_> = targets.map(|target| target["text"].as_str().unwrap()).collect();
    assert_eq!(
        texts,
        ["SSE", "NDJSON"]
            .map(|form| format!("luxcast, {form}: CPU per message at most 1.2 times that of luxcast"))
    );
    assert_eq!(bench(&["storm", "--transport", "sse"]).0, 2, "it has nothing to do with that");
}

#[test]
fn luxcast_bench_measures_the_feed_over_http_beside_the_socket() {
    let words = "ingest --http --watchers 5 --events 30000 --seconds 1 --runs 1 --json -";
    let (code, json, errors) = bench(&words.split(' ').collect::<Vec<_>>());
    assert_eq!(code, 0, "{errors}");
    let servers = servers(&json, 0);
    assert_eq!(servers.len(), 5);
    for server in &servers {
        assert!(figure(server, "events_per_second") > 0.0, "{server}");
    }
    assert!(figure(&servers[1], "cpu_micros_per_event") > 0.0);
    assert!(figure(&servers[2], "requests_per_second") > 0.0);
    for server in &servers[3..] {
        assert!(figure(server, "latency_p99_ms") > 0.0 && figure(server, "latency_p99_ms_before") > 0.0);
    }
}

#[test]
fn luxcast_bench_measures_compression_beside_plain() {
    let words = "fanout latency single topics resume tls --deflate --watchers 20 --topics 5 --events 400 --rates 200 \
                 --seconds 1 --runs 1 --json -";
    let (code, json, errors) = bench(&words.split_whitespace().collect::<Vec<_>>());
    assert_eq!(code, 0, "{errors}");
    let sealed = "luxcast, TLS";
    for (place, (name, after)) in [
        ("luxcast", ""),
        ("luxcast", ", 200/s"),
        ("luxcast", ""),
        ("luxcast", ""),
        ("luxcast", ""),
        (sealed, ""),
    ]
    .into_iter()
    .enumerate()
    {
        let servers = servers(&json, place);
        let bytes = |name: String| {
            let server = servers.iter().find(|server| server["name"] == name.as_str());
            figure(server.unwrap_or_else(|| panic!("{name} in scenario {place}")), "bytes_per_message")
        };
        // Other messages and the records of TLS come on top.
        let (plain, deflated) = (bytes(format!("{name}{after}")), bytes(format!("{name}, deflate{after}")));
        assert!((347.0..400.0).contains(&plain), "{plain} in scenario {place}");
        assert!(deflated < plain / 3.0, "{deflated} of {plain} in scenario {place}");
    }
    let resumed = servers(&json, 4);
    assert_eq!(resumed[3]["name"], "luxcast, deflate, each to its own place");
    assert_eq!(bench(&["storm", "--deflate"]).0, 2, "it sends nothing");
    assert_eq!(
        bench(&["fanout", "--deflate", "--bytes", "260", "--runs", "1"]).0,
        1,
        "no real events are that long"
    );
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
