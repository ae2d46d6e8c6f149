//! Messages with headers that no client can read: they end the connection of whoever gets them. No daemon loses anything.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use async_nats::{ConnectOptions, Event};
use futures_util::StreamExt;
use luxcast::bus::header_block::HeaderBlock;
use luxcast::bus::verdict::Standing;
use nkeys::KeyPair;
use tokio::sync::mpsc;

use crate::desk::{Desk, USUAL_WINDOW};
use crate::fleet::{Fleet, create, metric, serve};
use crate::harness::Scratch;
use crate::judge::check;
use crate::recipes::promised;
use crate::server::{NEWEST, NatsServer, VERSIONS};
use crate::stock::{Stock, WINDOW};
use crate::watchers::Watcher;
use crate::{BASE, Bus, block_on};

/// Of three daemons, with those that connections left behind which such headers have ended.
const CONSUMERS_MAX: usize = 40;

/// Headers, and whether a client can read them.
const BLOCKS: [(&[u8], bool); 22] = [
    (b"NATS/1.0\r\nA: b\rc\r\n\r\n", false),
    (b"NATS/1.0\r\nLuxcast-From: \xff\r\n\r\n", false),
    (b"NATS/1.0\r\nLuxcast-From: \xc3\xa9\r\n\r\n", true),
    (b"NATS/1.0\r\nA\r\n\r\n", false),
    (b"NATS/1.0\r\nA b: c\r\n\r\n", false),
    (b"NATS/1.0\r\nNats-Msg-Id: p:1\r\nLuxcast-Lines: 1\r\n\xc3\xa9: x\r\n\r\n", false),
    (b"NATS/1.0\r\nNats-Msg-Id: q:1\r\nLuxcast-Lines: 1\r\n\r\n", true),
    (b"NATS/1.0\r\nA: b\r\n folded\r\n\r\n", true),
    (b"NATS/1.0\r\n folded: x\r\n\r\n", false),
    (b"NATS/1.0\r\n\x7f: x\r\n\r\n", false),
    (b"NATS/1.0\r\n: x\r\n\r\n", true),
    (b"NATS/1.1\r\n\r\n", false),
    (b"nats/1.0\r\n\r\n", false),
    (b"NATS/1.0 99\r\n\r\n", false),
    // As if the server said something.
    (b"NATS/1.0 503\r\n\r\n", true),
    (b"NATS/1.0 100 Idle Heartbeat\r\n\r\n", true),
    (b"NATS/1.0 409 Consumer Deleted\r\n\r\n", true),
    (b"NATS/1.0 409 Message Size Exceeds MaxBytes\r\nNats-Pending-Bytes: 1\r\n\r\n", true),
    (b"NATS/1.0", true),
    (b"\r\n\r\n", false),
    (b"garbage", false),
    (b"\xff\xff\xff", false),
];

/// A program that sends any bytes as headers.
struct Raw(BufReader<TcpStream>);

impl Raw {
    fn connect(address: SocketAddr) -> Self {
        let mut raw = Self(BufReader::new(TcpStream::connect(address).expect("the server is there")));
        raw.send(b"CONNECT {\"headers\":true,\"verbose\":false}\r\n");
        raw.settle();
        raw
    }

    fn send(&mut self, bytes: &[u8]) {
        self.0.get_mut().write_all(bytes).expect("the server reads");
    }

    /// Waits until the server has read all.
    fn settle(&mut self) {
        self.send(b"PING\r\n");
        let mut line = String::new();
        while line != "PONG\r\n" {
            line.clear();
            assert!(self.0.read_line(&mut line).expect("the server writes") > 0, "it hangs up");
            assert!(!line.starts_with("-ERR"), "{line}");
        }
    }

    fn publish(&mut self, block: &[u8], payload: &str) {
        let head = format!("HPUB luxcast.events {} {}\r\n", block.len(), block.len() + payload.len());
        self.send(&[head.as_bytes(), block, payload.as_bytes(), b"\r\n"].concat());
    }
}

fn event(word: &str, n: usize) -> String {
    format!("{{\"type\":\"t\",\"job_id\":\"j\",\"{word}\":{n}}}")
}

/// Publishes them with an event each, in front of ordinary ones.
fn publish(server: &NatsServer, desk: &Desk, word: &str, blocks: &[&[u8]]) {
    let mut raw = Raw::connect(server.address);
    for (n, block) in blocks.iter().enumerate() {
        raw.publish(block, &event(&format!("{word}-odd"), n));
        raw.settle();
        if !word.ends_with("run") {
            desk.publish(&event(&format!("{word}-good"), n));
        }
    }
}

fn odd() -> Vec<&'static [u8]> {
    BLOCKS.iter().filter(|(_, is_read)| !is_read).map(|(block, _)| *block).collect()
}

/// All daemons show all that the stream has, with the same numbers, and are well.
fn check_fleet(fleet: &Fleet, desk: &Desk, watchers: &[Watcher]) {
    let truth = desk.truth();
    let last = *truth.last_key_value().expect("much was published").0;
    watchers.iter().for_each(|watcher| watcher.wait_for_number(last));
    for watcher in watchers {
        assert_eq!(check(&watcher.visits(), &truth), []);
    }
    fleet.wait_until_connected();
    fleet.check_health();
    // The server removes those whose daemon did not hear of them, after a while.
    let consumers = desk.consumers();
    assert!(consumers.len() <= CONSUMERS_MAX, "{consumers:?}");
}

#[test]
fn headers_that_no_client_can_read_stop_nobody() {
    for version in VERSIONS {
        let server = NatsServer::start(version, "");
        let desk = Desk::new(vec![server.url()]);
        desk.create(BASE, USUAL_WINDOW);
        let mut fleet = Fleet::start(vec![vec![server.url()]; 3], &[]);
        fleet.stop(2);
        let mut watchers: Vec<Watcher> = (0..2).map(|place| fleet.watch(place, "start")).collect();
        let all: Vec<&[u8]> = BLOCKS.iter().map(|(block, _)| *block).collect();
        publish(&server, &desk, "all", &all);
        publish(&server, &desk, "run", &odd().repeat(20));
        // They stand at the beginning, between others, and at the end.
        fleet.restart(2);
        watchers.push(fleet.watch(2, "start"));
        check_fleet(&fleet, &desk, &watchers);
        fleet.daemon(0).acked_feed().publish([event("own", 1).as_str()]);
        publish(&server, &desk, "last", &odd()[..2]);
        check_fleet(&fleet, &desk, &watchers);
        publish(&server, &desk, "very-last-run", &odd()[..1]);
        check_fleet(&fleet, &desk, &watchers);
        let refused: BTreeSet<u64> =
            fleet.running().map(|daemon| metric(daemon, "luxcast_bus_refused_lines_total") as u64).collect();
        // The server takes the one with an id once, and may have mended others.
        assert!(
            refused.len() == 1 && refused.first() > Some(&200),
            "each daemon counts the same: {refused:?}"
        );
        for daemon in fleet.running() {
            daemon.wait_for_log(promised("has headers that no client can read"));
        }
        // The last message is one of them when connections end, and when a daemon starts.
        fleet.kill(1);
        fleet.restart(1);
        watchers.push(fleet.watch(1, "start"));
        watchers.swap_remove(1);
        check_fleet(&fleet, &desk, &watchers);
    }
}

#[test]
fn a_server_that_ends_behind_such_a_message_is_followed_again() {
    let mut server = NatsServer::start(NEWEST, "");
    let desk = Desk::new(vec![server.url()]);
    desk.create(BASE, USUAL_WINDOW);
    let fleet = Fleet::start(vec![vec![server.url()]; 2], &[]);
    let watchers: Vec<Watcher> = (0..2).map(|place| fleet.watch(place, "start")).collect();
    publish(&server, &desk, "run", &odd());
    for round in 0..3 {
        check_fleet(&fleet, &desk, &watchers);
        server.stop();
        watchers.iter().for_each(|watcher| watcher.wait_for_reconnecting());
        server.restart();
        fleet.wait_until_connected();
        if round == 1 {
            desk.publish(&event("good", round));
        }
    }
    check_fleet(&fleet, &desk, &watchers);
}

#[test]
fn a_pass_over_the_past_reads_such_messages() {
    let mut stock = Stock::empty(&WINDOW);
    stock.publish(6);
    let before = stock.desk.info()["state"]["last_seq"].as_u64().expect("the server counts");
    publish(&stock.server, &stock.desk, "past", &odd());
    stock.fill(12);
    let truth = stock.desk.truth();
    let last = *truth.last_key_value().expect("much was published").0;
    for daemon in stock.fleet.running() {
        // In front of such a message, and far before it.
        for message in [before, before - 3, before + 1] {
            let since = stock.desk.number(message) + 1_023;
            let watcher = Watcher::stay(daemon.address, &since.to_string());
            watcher.wait_for_number(last);
            assert_eq!(check(&watcher.end(), &truth), [], "{message}");
        }
        assert!(metric(daemon, "luxcast_bus_past_passes_total") >= 1.0);
    }
}

#[test]
fn a_reader_may_begin_at_such_a_message() {
    for version in VERSIONS {
        let server = NatsServer::start(version, "");
        let desk = Desk::new(vec![server.url()]);
        desk.create(BASE, USUAL_WINDOW);
        publish(&server, &desk, "run", &odd()[..3]);
        desk.publish(&event("good", 4));
        publish(&server, &desk, "run", &odd()[3..5]);
        for (message, bytes_max, first) in [(2, 1 << 30, 2), (5, 1 << 30, 5), (9, 1 << 30, 6), (1, 1, 6)] {
            let nonce = format!("n{message}");
            let mut bus = Bus::start_at(&server, "luxcast-past", &nonce, message, bytes_max);
            bus.run_until("it follows", |bus| bus.standing == Standing::Following);
            let received: Vec<u64> = bus.received.iter().map(|(message, _)| *message).collect();
            assert_eq!(received, (first..=6).collect::<Vec<u64>>(), "{version} {message}");
            assert_eq!(bus.folded, (1..first).collect::<Vec<u64>>(), "{version} {message}");
        }
    }
}

#[test]
fn the_right_that_is_missing_is_named() {
    let [operator, daemon] = [(); 2].map(|()| KeyPair::new_user());
    let rights = r#"publish: ["luxcast.events", "$JS.API.STREAM.INFO.LUXCAST", "$JS.API.CONSUMER.>"]"#;
    let users = format!(
        "authorization {{ users: [ {{ nkey: {} }}, {{ user: raw, password: raw }}, {{ nkey: {}, permissions: {{ {rights} }} }} ] }}
         no_auth_user: raw",
        operator.public_key(),
        daemon.public_key()
    );
    let server = NatsServer::start(NEWEST, &users);
    let scratch = Scratch::new();
    let file = |name: &str, key: &KeyPair| {
        let path = scratch.path().join(name).display().to_string();
        fs::write(&path, key.seed().expect("it is new")).expect("the test's own directory");
        path
    };
    create(&server.url(), &["--replicas", "1", "--bus-nkey-file", &file("operator", &operator)]);
    let flags = ["--bus-nkey-file".to_owned(), file("daemon", &daemon)];
    let daemon = serve(&[server.url()], &flags);
    let watcher = Watcher::stay(daemon.address, "start");
    let desk = Desk::new(vec![server.url()]);
    publish(&server, &desk, "lacking-run", &odd()[1..2]);
    daemon.wait_for_log("cannot be read alone either");
    daemon.wait_for_log("it needs the right to publish to $JS.API.STREAM.MSG.GET.LUXCAST");
    watcher.wait_for_reconnecting();
    // It is given.
    server.configure(
        &users
            .replace("\"$JS.API.CONSUMER.>\"", "\"$JS.API.CONSUMER.>\", \"$JS.API.STREAM.MSG.GET.LUXCAST\""),
    );
    server.signal(rustix::process::Signal::HUP);
    desk.publish(&event("good", 1));
    watcher.wait_for("good");
    assert_eq!(check(&watcher.end(), &desk.truth()), []);
}

/// The first values of the headers that daemons know. None: the client's connection has ended.
async fn read_by_client(block: &[u8]) -> Option<[Option<String>; 3]> {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
    let address = listener.local_addr().expect("it is bound");
    let bytes = block.to_vec();
    thread::spawn(move || serve_block(&listener, &bytes));
    let (sender, mut events) = mpsc::unbounded_channel();
    let sender = Arc::new(sender);
    let options = ConnectOptions::new().event_callback(move |event| {
        let sender = sender.clone();
        async move { drop(sender.send(event)) }
    });
    let client = options.connect(address.to_string()).await.expect("it answers");
    let mut subscriber = client.subscribe("s").await.expect("it is connected");
    let message = loop {
        tokio::select! {
            biased;
            message = subscriber.next() => break message,
            event = events.recv() => match event {
                None | Some(Event::Disconnected) => break None,
                Some(_) => {}
            },
        }
    };
    drop((subscriber, client));
    let headers = message?.headers.expect("it has some");
    Some(
        ["Nats-Msg-Id", "Luxcast-Lines", "Luxcast-From"]
            .map(|name| headers.get(name).map(ToString::to_string)),
    )
}

/// As a server: sends one message to the first subscription.
fn serve_block(listener: &TcpListener, block: &[u8]) {
    let (mut stream, _) = listener.accept().expect("the client connects");
    let info = r#"INFO {"server_id":"x","server_name":"x","version":"2.11.0","go":"","host":"h","port":1,"headers":true,
        "max_payload":1048576,"proto":1}"#;
    stream.write_all(format!("{}\r\n", info.replace('\n', "")).as_bytes()).expect("the client reads");
    let mut reader = BufReader::new(stream.try_clone().expect("one more descriptor"));
    let mut line = String::new();
    while reader.read_line(&mut line).is_ok_and(|count| count > 0) {
        if line.starts_with("PING") {
            let _ = stream.write_all(b"PONG\r\n");
        }
        if let Some(rest) = line.strip_prefix("SUB s ") {
            let head = format!("HMSG s {} {} {}\r\n", rest.trim(), block.len(), block.len() + 2);
            let _ = stream.write_all(&[head.as_bytes(), block, b"{}\r\n"].concat());
        }
        line.clear();
    }
}

#[test]
fn headers_are_read_as_the_client_reads_them() {
    const PIECES: [&[u8]; 26] = [
        b"NATS/1.0",
        b"\r\n",
        b"\r\n",
        b"\r\n",
        b"\n",
        b"\r",
        b" ",
        b"\t",
        b":",
        b": ",
        b"Nats-Msg-Id",
        b"Luxcast-Lines: ",
        b"Luxcast-From:",
        b"A: b",
        b"x",
        b"503",
        b" 100 Idle",
        b"\xc2\x85",
        b"\xe2\x80\x83",
        b"\xc3\xa9",
        b"\xff",
        b"\0",
        b"\x7f",
        b"\x0b",
        b"\r\nNats-Msg-Id: p:1\r\n",
        b"\r\nluxcast-from: h\r\n",
    ];
    let mut blocks: Vec<Vec<u8>> = BLOCKS.iter().map(|(block, _)| block.to_vec()).collect();
    let mut rng = fastrand::Rng::with_seed(7);
    for _ in 0..1_500 {
        let mut block = if rng.u8(..5) > 0 { b"NATS/1.0\r\n".to_vec() } else { Vec::new() };
        for _ in 0..rng.usize(1..10) {
            block.extend_from_slice(PIECES[rng.usize(..PIECES.len())]);
        }
        block.extend_from_slice(if rng.u8(..5) > 0 { b"\r\n\r\n" } else { b"" });
        blocks.push(block);
    }
    let mut read = 0;
    block_on(async {
        for block in &blocks {
            let ours = HeaderBlock::read(block);
            let ours = ours.map(|block| {
                [block.message_id, block.lines, block.from].map(|value| value.map(String::from))
            });
            read += usize::from(ours.is_some());
            let text = String::from_utf8_lossy(block);
            assert_eq!(ours, read_by_client(block).await, "{text:?}");
        }
    });
    assert!(read > blocks.len() / 10 && read < blocks.len() / 10 * 9, "{read} can be read");
    for (block, is_read) in BLOCKS {
        assert_eq!(HeaderBlock::read(block).is_some(), is_read, "{:?}", String::from_utf8_lossy(block));
    }
}
