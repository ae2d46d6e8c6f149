//! The gate before the upgrade: which web pages may connect, who a connection belongs to, and how many come at once.

use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use socket2::{Domain, SockRef, Socket, Type};

use crate::harness::client::{Frame, Refused, masked_frame};
use crate::harness::{Daemon, PATIENCE, Raw, Scratch, wait_until};

const EVENTS: &str = "/api/ws/events";
/// Without tokens, permission for everybody behind the proxy to watch.
const BEHIND_A_PROXY: [&str; 3] = ["--allow-anonymous", "--trusted-proxies", "127.0.0.1"];

/// A correct request to upgrade with these further fields; a `Host` among them replaces the usual one.
fn request_with(path: &str, fields: &[&str]) -> String {
    let request = Raw::upgrade_request(path);
    let request = match fields.iter().any(|field| field.starts_with("Host:")) {
        true => request.replace("Host: localhost\r\n", ""),
        false => request,
    };
    let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
    request.replace("\r\n\r\n", &format!("\r\n{fields}\r\n"))
}

/// A connection that was accepted, or the refusal.
fn knock(address: SocketAddr, path: &str, fields: &[&str]) -> Result<Raw, Refused> {
    let mut raw = Raw::connect(address);
    raw.send(request_with(path, fields).as_bytes());
    while !raw.buffer.windows(4).any(|bytes| bytes == b"\r\n\r\n") {
        assert!(raw.fill() > 0, "an answer");
    }
    match raw.buffer.starts_with(b"HTTP/1.1 101 ") {
        true => {
            raw.read_head();
            Ok(raw)
        }
        false => Err(raw.read_answer()),
    }
}

/// Status and word of the refusal; 101 for an accepted connection.
fn verdict(address: SocketAddr, path: &str, fields: &[&str]) -> (u16, String) {
    match knock(address, path, fields) {
        Ok(_) => (101, String::new()),
        Err(refused) => (refused.status, refused.code()),
    }
}

#[test]
fn refusals_of_other_origins_name_the_setting_that_allows_them() {
    let daemon = Daemon::start(&["--allowed-origins", "https://app.example", "--allowed-origins", "null"]);
    let port = daemon.address.port();
    let own = format!("Origin: http://localhost:{port}");
    let host = format!("Host: localhost:{port}");
    let table: [(&[&str], u16); 8] = [
        (&[], 101),
        (&[&host, &own], 101),
        (&["Origin: https://app.example"], 101),
        (&["Origin: null"], 101),
        (&[&host, "Origin: http://localhost:1"], 403),
        (&["Origin: http://app.example"], 403),
        (&["Origin: https://evil.example"], 403),
        (&["Origin: https://evil.example", "X-Forwarded-Host: evil.example"], 403),
    ];
    for path in
        [EVENTS, "/api/v1/ws/jobs/j/monitor", "/api/ws/jobs/j/debug", "/api/ws/flows/f/monitor", "/api/v1/ws"]
    {
        for (fields, status) in table {
            assert_eq!(verdict(daemon.address, path, fields).0, status, "{path} {fields:?}");
        }
    }
    // Only one of several refusals in a second is logged, so this test has its own daemon.
    let daemon = Daemon::start(&[]);
    let refused = knock(daemon.address, EVENTS, &["Origin: https://evil.example"]).err().expect("a refusal");
    assert_eq!(refused.code(), "forbidden_origin");
    for word in ["https://evil.example", "allowed_origins"] {
        assert!(refused.body.contains(word), "{}", refused.body);
        daemon.wait_for_log(word);
    }
    let anyone = Daemon::start(&["--allowed-origins", "*"]);
    assert_eq!(verdict(anyone.address, EVENTS, &["Origin: https://evil.example"]).0, 101);
}

#[test]
fn the_origin_comes_after_path_and_method_and_before_id_and_parameters() {
    let daemon = Daemon::start(&[]);
    let evil = "Origin: https://evil.example";
    assert_eq!(verdict(daemon.address, "/nowhere", &[evil]).0, 404);
    assert_eq!(verdict(daemon.address, "/api/ws/jobs/%/monitor", &[evil]).1, "forbidden_origin");
    assert_eq!(verdict(daemon.address, "/api/ws/events?since=x", &[evil]).1, "forbidden_origin");
    let post = request_with(EVENTS, &[evil]).replace("GET", "POST");
    assert_eq!(daemon.raw().request(&post).status, 405);
    let health = request_with("/healthz", &[evil]);
    assert_eq!(daemon.raw().request(&health).status, 200);
}

/// A connection that comes from this loopback address.
fn from(source: [u8; 4], address: SocketAddr) -> Raw {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from((source, 0)).into()).expect("all of 127.0.0.0/8 is ours");
    socket.connect(&address.into()).expect("the daemon listens");
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).expect("a TCP socket");
    Raw { stream, buffer: Vec::new() }
}

/// Sends all these requests before it reads an answer; returns those that are accepted. The others are refused with
/// 429.
fn crowd(address: SocketAddr, count: usize, fields: &[&str]) -> Vec<Raw> {
    let mut all: Vec<Raw> = (0..count).map(|_| Raw::connect(address)).collect();
    for raw in &mut all {
        raw.send(request_with(EVENTS, fields).as_bytes());
    }
    let is_in = |raw: &mut Raw| {
        let head = raw.read_head();
        let is_in = head.starts_with("HTTP/1.1 101 ");
        assert!(is_in || head.starts_with("HTTP/1.1 429 ") && head.contains("\r\nRetry-After: "), "{head}");
        is_in
    };
    all.retain_mut(is_in);
    all
}

#[test]
fn the_origin_and_the_limits_of_an_address_come_before_the_token() {
    let scratch = Scratch::new();
    let tokens = scratch.path().join("tokens");
    std::fs::write(&tokens, "secret-of-one jobs=a\n").unwrap();
    let tokens = tokens.to_str().unwrap();
    let flags =
        ["--token-file", tokens, "--trusted-proxies", "127.0.0.1", "--connections-per-address-max", "1"];
    let daemon = Daemon::start(&flags);
    let path = "/api/ws/jobs/a/monitor";
    let client = "X-Forwarded-For: 192.0.2.1";
    let token = "X-API-Key: secret-of-one";
    assert_eq!(
        verdict(daemon.address, path, &[client, "Origin: https://evil.example"]).1,
        "forbidden_origin"
    );
    assert_eq!(verdict(daemon.address, path, &[client]).1, "unauthorized");
    let _only = wait_for_entry(&daemon, path, &[client, token]);
    assert_eq!(
        verdict(daemon.address, path, &[client, "Origin: https://evil.example"]).1,
        "forbidden_origin"
    );
    assert_eq!(verdict(daemon.address, path, &[client]).1, "too_many_requests");
    assert_eq!(verdict(daemon.address, "/api/ws/jobs/%/monitor", &[client, token]).1, "too_many_requests");
    assert_eq!(verdict(daemon.address, path, &["X-Forwarded-For: 192.0.2.2"]).1, "unauthorized");
}

/// Earlier refused connections may still be closing.
fn wait_for_entry(daemon: &Daemon, path: &str, fields: &[&str]) -> Raw {
    let mut entered = None;
    wait_until("room", || {
        entered = knock(daemon.address, path, fields).ok();
        entered.is_some()
    });
    entered.expect("it was waited for")
}

#[test]
fn trusted_proxies_name_the_client() {
    let daemon = Daemon::start(&[&BEHIND_A_PROXY[..], &["--trusted-proxies", "10.0.0.0/8"]].concat());
    let told = |address: &str| {
        let rows = daemon.connections();
        rows.iter().any(|row| row["address"].as_str() == Some(address))
    };
    let table: [(&[&str], &str); 5] = [
        (&["X-Forwarded-For: 192.0.2.1"], "192.0.2.1"),
        (&["X-Forwarded-For: 1.1.1.1, 192.0.2.2, 10.0.0.7"], "192.0.2.2"),
        (
            &["X-Forwarded-For: 1.1.1.1", "X-Forwarded-For: 192.0.2.3:99", "x-forwarded-for: 10.0.0.7"],
            "192.0.2.3",
        ),
        (&["X-Forwarded-For: [2001:db8::4]:99"], "2001:db8::4"),
        (&["X-Forwarded-For: 1.1.1.1, somebody, 10.0.0.9"], "10.0.0.9"),
    ];
    for (fields, client) in table {
        let raw = knock(daemon.address, EVENTS, fields).expect("let in");
        wait_until(&format!("{fields:?} is {client} in /connections"), || told(client));
        drop(raw);
        daemon.wait_for_connections(0);
    }
    // An untrusted proxy is not believed.
    let mut stranger = from([127, 0, 0, 9], daemon.address);
    let peer = stranger.stream.local_addr().unwrap().to_string();
    stranger.send(request_with(EVENTS, &["X-Forwarded-For: 192.0.2.1"]).as_bytes());
    assert!(stranger.read_head().starts_with("HTTP/1.1 101 "));
    assert!(told(&peer), "{:?}", daemon.connections());
    // The log names the client, not the proxy.
    assert_eq!(verdict(daemon.address, "/nowhere", &["X-Forwarded-For: 192.0.2.5"]).0, 404);
    daemon.wait_for_log("address=192.0.2.5");
}

#[test]
fn connections_are_bounded_for_each_client_behind_a_proxy() {
    let flags = ["--connections-per-address-max", "2", "--shards", "3"];
    let flags = [&BEHIND_A_PROXY[..], &flags].concat();
    let daemon = Daemon::start(&flags);
    let clients = [
        ["192.0.2.1", "::ffff:192.0.2.1", "192.0.2.1"],
        ["2001:db8::1", "2001:db8::2", "2001:db8::ffff:3"],
        ["2001:db8:0:1::1", "2001:db8:0:1::1", "2001:db8:0:1::1"],
    ];
    let mut all = Vec::new();
    for [first, second, third] in
        clients.map(|client| client.map(|address| format!("X-Forwarded-For: {address}")))
    {
        all.push(knock(daemon.address, EVENTS, &[&first]).expect("the first"));
        all.push(knock(daemon.address, EVENTS, &[&second]).expect("the second"));
        assert_eq!(verdict(daemon.address, EVENTS, &[&third]), (429, "too_many_requests".into()), "{third}");
    }
    // The proxy itself is another client; requests without an upgrade are free.
    all.push(knock(daemon.address, EVENTS, &[]).expect("the proxy's own"));
    let health = request_with("/healthz", &["X-Forwarded-For: 192.0.2.1"]);
    assert_eq!(daemon.raw().request(&health).status, 200);
    // Each one that leaves makes room for one.
    drop(all.remove(0));
    let field = "X-Forwarded-For: 192.0.2.1";
    wait_until("room for another", || match knock(daemon.address, EVENTS, &[field]) {
        Ok(raw) => {
            all.push(raw);
            true
        }
        Err(_) => false,
    });
    assert_eq!(verdict(daemon.address, EVENTS, &[field]).0, 429);
}

#[test]
fn an_address_gets_each_place_back_once_however_its_connection_ended() {
    const PLACES: usize = 6;
    let flags = ["--connections-per-address-max", "6", "--handshake-seconds", "1", "--shards", "3"];
    let daemon = Daemon::start(&flags);
    for _ in 0..3 {
        let mut inside: Vec<Raw> = Vec::new();
        // Refused ones take no place, so all places are free once the last round has ended.
        wait_until("all places can be had", || {
            if let Ok(raw) = knock(daemon.address, EVENTS, &[]) {
                inside.push(raw);
            }
            inside.len() == PLACES
        });
        for _ in 0..3 {
            assert_eq!(verdict(daemon.address, EVENTS, &[]), (429, "too_many_requests".into()));
        }
        // Another address has places of its own.
        let mut other = from([127, 0, 0, 2], daemon.address);
        other.upgrade(EVENTS);
        let [mut closes, mut breaks, resets, half, mut garbage, leaves] =
            inside.try_into().ok().expect("six");
        closes.send(&masked_frame(0x8, true, &1000_u16.to_be_bytes()));
        assert_eq!(closes.read_close(), Some(1000));
        breaks.send(&[0x83]);
        assert_eq!(breaks.read_close(), Some(1002));
        SockRef::from(&resets.stream).set_linger(Some(Duration::ZERO)).unwrap();
        drop(resets);
        half.stream.shutdown(Shutdown::Write).unwrap();
        for _ in 0..20 {
            garbage.send(&masked_frame(0x1, true, b"?"));
        }
        drop(leaves);
        // Five that never become watchers: a slow head, a bad one, a refused one, a probe, one that leaves at once.
        let slow = daemon.raw();
        assert_eq!(daemon.raw().request("BAD\r\n\r\n").status, 400);
        assert_eq!(verdict(daemon.address, "/nowhere", &[]).0, 404);
        assert_eq!(daemon.raw().request(&request_with("/healthz", &[])).status, 200);
        drop(daemon.raw());
        let mut slow = slow;
        assert_eq!(slow.read_answer().status, 408);
        drop((half, garbage));
    }
}

#[test]
fn handshakes_are_bounded_by_the_second_for_each_client_and_this_machine_is_free() {
    let flags = ["--handshakes-per-second", "3", "--shards", "3"];
    let flags = [&BEHIND_A_PROXY[..], &flags].concat();
    let daemon = Daemon::start(&flags);
    for client in ["X-Forwarded-For: 192.0.2.1", "X-Forwarded-For: 2001:db8::1"] {
        let began = Instant::now();
        let inside = crowd(daemon.address, 40, &[client]).len();
        let seconds = began.elapsed().as_secs_f64();
        // Three at once, and three more for each elapsed second.
        assert!(inside >= 3 && inside as f64 <= 3.0 + 3.0 * seconds + 1.0, "{inside} in {seconds} s");
        assert!(inside < 40 || seconds > 10.0, "nobody was refused");
        // Later it may come again.
        wait_until("a handshake comes free", || knock(daemon.address, EVENTS, &[client]).is_ok());
    }
    // From the same IPv6 network, and refused for the same reason.
    let rest = crowd(daemon.address, 40, &["X-Forwarded-For: 2001:db8::ffff"]).len();
    assert!(rest < 40, "a /64 counts as one address");
    let refused = wait_for_refusal(&daemon, "X-Forwarded-For: 192.0.2.1");
    assert!(refused.body.contains("handshakes_per_second"), "{}", refused.body);
    // Loopback itself, also as the proxy's client.
    for fields in [&[][..], &["X-Forwarded-For: 127.0.0.1"], &["X-Forwarded-For: ::1"]] {
        assert_eq!(crowd(daemon.address, 40, fields).len(), 40, "{fields:?}");
    }
}

fn wait_for_refusal(daemon: &Daemon, field: &str) -> Refused {
    let mut refused = None;
    wait_until("a refusal", || {
        refused = knock(daemon.address, EVENTS, &[field]).err();
        refused.is_some()
    });
    refused.expect("it was waited for")
}

#[test]
fn zero_handshakes_per_second_is_no_limit() {
    let daemon = Daemon::start(&[&BEHIND_A_PROXY[..], &["--handshakes-per-second", "0"]].concat());
    assert_eq!(crowd(daemon.address, 300, &["X-Forwarded-For: 192.0.2.1"]).len(), 300);
}

#[test]
fn a_head_of_just_so_many_bytes_is_read_and_one_more_is_not() {
    let daemon = Daemon::start(&["--request-head-bytes-max", "1024"]);
    let padded = |bytes: usize| {
        let request = request_with(EVENTS, &["X-Padding: "]);
        let padding = "x".repeat(bytes - request.len());
        request.replace("X-Padding: ", &format!("X-Padding: {padding}"))
    };
    let mut raw = daemon.raw();
    raw.send(padded(1024).as_bytes());
    assert!(raw.read_head().starts_with("HTTP/1.1 101 "));
    let refused = daemon.raw().request(&padded(1025));
    assert_eq!((refused.status, refused.code().as_str()), (431, "too_large"));
}

#[test]
fn a_client_may_send_four_seconds_worth_of_messages_at_once_and_no_more() {
    let daemon = Daemon::start(&["--messages-per-second", "2"]);
    let message = masked_frame(0x1, true, br#"{"action":"ping"}"#);
    let pongs_and_code = |count: usize| {
        let mut raw = daemon.raw();
        raw.upgrade(EVENTS);
        // In one write, so that they arrive together.
        raw.send(&message.repeat(count));
        raw.send(&masked_frame(0x8, true, b""));
        let mut pongs = 0;
        loop {
            match raw.read_frame().expect("a close frame") {
                Frame { opcode: 0x1, payload } if payload.starts_with(br#"{"type":"pong""#) => pongs += 1,
                Frame { opcode: 0x8, payload } => {
                    return (pongs, payload.get(..2).map(|code| u16::from_be_bytes([code[0], code[1]])));
                }
                _ => {}
            }
        }
    };
    // The client's own close is a message too: the ninth may come half a second later.
    assert_eq!(pongs_and_code(7), (7, None));
    assert_eq!(pongs_and_code(9), (8, Some(1008)));
}

#[test]
fn the_multi_job_endpoint_takes_a_page_full_of_subscriptions_at_once_and_no_flood() {
    const BURST: usize = 2048;
    let daemon = Daemon::start(&["--messages-per-second", "1"]);
    let send = |count: usize| {
        let mut raw = daemon.raw();
        raw.upgrade("/api/v1/websocket");
        let mut writer = raw.stream.try_clone().expect("a socket");
        let writing = std::thread::spawn(move || {
            // The daemon may close before all is written.
            let _ = writer.write_all(&masked_frame(0x1, true, br#"{"type":"ping"}"#).repeat(count));
        });
        (raw, writing)
    };
    let (mut page, writing) = send(BURST);
    for _ in 0..BURST {
        while !page.read_frame_of(0x1).payload.starts_with(br#"{"type":"pong"}"#) {}
    }
    writing.join().unwrap();
    let (mut flood, writing) = send(10 * BURST);
    assert_eq!(flood.read_close(), Some(1008));
    writing.join().unwrap();
}

#[test]
fn control_characters_of_clients_never_reach_the_log() {
    let daemon = Daemon::start(&[]);
    let send = |text: &str| {
        let mut raw = daemon.raw();
        raw.send(text.as_bytes());
        raw.read_answer()
    };
    let request = Raw::upgrade_request("/nowhere");
    // What HTTP forbids is refused entirely.
    for (place, bad) in
        [("/nowhere", "/a\u{1B}[31mb"), ("localhost", "a\u{1B}]0;x\u{7}"), ("/nowhere", "/a\rb")]
    {
        assert_eq!(send(&request.replace(place, bad)).status, 400, "{bad:?}");
    }
    for field in ["User-Agent: a\u{1B}[2J", "Origin: http://a\u{1B}[2J", "User-Agent: a\rb", "Origin: a\nb"] {
        assert_eq!(
            send(&request.replace("\r\n\r\n", &format!("\r\n{field}\r\n\r\n"))).status,
            400,
            "{field:?}"
        );
    }
    // What HTTP allows is escaped: the eight-bit control sequence introducer, and a change of direction.
    let sly = "User-Agent: agent\u{9B}31m\u{202E}\r\n\r\n";
    assert_eq!(send(&request.replace("\r\n\r\n", &format!("\r\n{sly}"))).status, 404);
    daemon.wait_for_log(r#"(asked: GET /nowhere by "agent\u{9b}31m\u{202e}")"#);
    let origin = "Origin: http://origin\u{9B}31m\u{202E}\r\n\r\n";
    let refused = send(&Raw::upgrade_request(EVENTS).replace("\r\n\r\n", &format!("\r\n{origin}")));
    assert_eq!(refused.code(), "forbidden_origin");
    assert!(refused.body.is_ascii(), "{}", refused.body);
    daemon.wait_for_log(r#"http://origin\u{9b}31m\u{202e}"#);
    let encoded = send(&Raw::upgrade_request("/api/ws/jobs/%0d%0a%1b%5b31m/monitor"));
    assert_eq!(encoded.code(), "bad_id");
    daemon.wait_for_log("%0d%0a%1b%5b31m");
    let log = daemon.stderr();
    assert!(log.chars().all(|letter| letter == '\n' || letter.is_ascii() && !letter.is_control()), "{log:?}");
    assert!(log.lines().all(|line| line.starts_with("20")), "each line begins with its time: {log}");
}

#[test]
fn a_flood_of_one_refusal_is_one_line_a_second_and_hides_no_other() {
    let daemon = Daemon::start(&["--shards", "1"]);
    let began = Instant::now();
    for _ in 0..300 {
        assert_eq!(daemon.refuse("/nowhere").status, 404);
    }
    let mut tls = daemon.raw();
    tls.send(&[0x16, 0x03, 0x01, 0x02, 0x00, 0x01]);
    assert_eq!(tls.read_answer().status, 400);
    daemon.wait_for_log("TLS on a plain port");
    let seconds = began.elapsed().as_secs() as usize;
    let lines = daemon.stderr().matches("not_found").count();
    assert!((1..=seconds + 2).contains(&lines), "{lines} lines in {seconds} s");
}

/// Status and body of the answer to a plain GET with this Host.
fn ask_as(address: SocketAddr, path: &str, host: &str) -> Refused {
    Raw::connect(address).request(&format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"))
}

/// A page on the internet whose name points here: Host and Origin agree.
#[test]
fn over_loopback_no_page_reads_the_daemon_by_a_name_of_its_own() {
    let daemon = Daemon::start(&["--trusted-proxies", "127.0.0.1", "--allow-anonymous"]);
    let admin = daemon.admin.expect("it is on");
    let port = daemon.address.port();
    for evil in ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "10.1.2.3"] {
        let (host, origin) = (format!("Host: {evil}:{port}"), format!("Origin: http://{evil}:{port}"));
        for path in [EVENTS, "/api/v1/websocket", "/api/ws/jobs/j/monitor", "/api/v1/ws/flows/f/monitor"] {
            for fields in [&[&*host, &*origin][..], &[&host], &[&host, "X-Forwarded-For: 192.0.2.1"]] {
                let refused = knock(daemon.address, path, fields).err().expect("a refusal");
                assert_eq!(
                    (refused.status, refused.code().as_str()),
                    (421, "forbidden_host"),
                    "{evil} {path}"
                );
                assert!(
                    refused.body.contains("allowed_hosts") && refused.body.contains(evil),
                    "{}",
                    refused.body
                );
            }
        }
        for (address, path) in [
            (daemon.address, "/console/jobs"),
            (daemon.address, "/console/daemon"),
            (daemon.address, "/console/"),
            (admin, "/jobs"),
            (admin, "/connections"),
            (admin, "/metrics"),
        ] {
            let refused = ask_as(address, path, &format!("{evil}:{}", address.port()));
            assert_eq!((refused.status, refused.code().as_str()), (421, "forbidden_host"), "{evil} {path}");
            // The target's authority counts as Host, whatever the field says.
            let target = format!("http://{evil}:{}{path}", address.port());
            assert_eq!(ask_as(address, &target, "localhost").status, 421, "{target}");
        }
        // Nothing can be read there, and probes use any name.
        for (address, path) in [(daemon.address, "/healthz"), (admin, "/healthz"), (admin, "/readyz")] {
            assert_eq!(ask_as(address, path, evil).status, 200, "{path}");
        }
    }
    daemon.wait_for_log("forbidden_host");
    for own in ["localhost", "LOCALHOST", "127.0.0.1", "127.1.2.3", "[::1]", "0.0.0.0"] {
        for host in [own.to_owned(), format!("{own}:{port}")] {
            assert_eq!(verdict(daemon.address, EVENTS, &[&format!("Host: {host}")]).0, 101, "{host}");
            assert_eq!(ask_as(admin, "/connections", &host).status, 200, "{host}");
        }
    }
}

#[test]
fn settings_name_the_hosts_that_a_proxy_on_loopback_passes_on() {
    let scratch = Scratch::new();
    let file = scratch.path().join("luxcast.toml");
    let write = |text: &str| std::fs::write(&file, text).expect("the disk has room");
    write("allowed_hosts = [\"workflows.example\"]\nallowed_origins = [\"https://ui.example:3000\"]\n");
    let daemon = Daemon::start(&["--config", file.to_str().unwrap()]);
    let admin = daemon.admin.expect("it is on");
    let status = |host: &str| {
        let of_watchers = verdict(daemon.address, EVENTS, &[&format!("Host: {host}")]).0;
        let of_operators = ask_as(admin, "/jobs", host).status;
        assert_eq!(of_watchers == 101, of_operators == 200, "{host}");
        of_watchers
    };
    for (host, expected) in [
        ("workflows.example", 101),
        ("Workflows.Example:443", 101),
        ("ui.example", 101),
        ("localhost", 101),
        ("x.workflows.example", 421),
        ("other.example", 421),
    ] {
        assert_eq!(status(host), expected, "{host}");
    }
    let from_page = ["Host: workflows.example", "Origin: https://workflows.example"];
    assert_eq!(verdict(daemon.address, EVENTS, &from_page).0, 101);
    write("allowed_hosts = [\"other.example\"]\n");
    assert!(daemon.reload().contains("allowed_hosts"));
    assert_eq!((status("workflows.example"), status("ui.example"), status("other.example")), (421, 421, 101));
    write("allowed_hosts = [\"*\"]\n");
    daemon.reload();
    assert_eq!(status("workflows.example"), 101);
}

/// `Origin` as sent by libraries that are not browsers.
#[test]
fn a_program_that_sends_its_own_host_as_origin_comes_in() {
    let daemon = Daemon::start(&[]);
    let port = daemon.address.port();
    let host = format!("Host: localhost:{port}");
    for (origin, status) in [
        (format!("localhost:{port}"), 101),
        (format!("localhost:{port}/"), 101),
        (format!("http://localhost:{port}/"), 101),
        (format!("ws://localhost:{port}"), 101),
        (format!("http://localhost:{port}//"), 403),
        (format!("http://localhost:{port}/x"), 403),
        ("localhost".to_owned(), 403),
        ("http://localhost/".to_owned(), 403),
        (format!("localhost:{}", port ^ 1), 403),
        (format!("127.0.0.1:{port}"), 403),
        ("null".to_owned(), 403),
    ] {
        assert_eq!(
            verdict(daemon.address, EVENTS, &[&host, &format!("Origin: {origin}")]).0,
            status,
            "{origin}"
        );
    }
    for origin in ["Origin: localhost", "Origin: http://localhost/"] {
        assert_eq!(verdict(daemon.address, EVENTS, &["Host: localhost", origin]).0, 101, "{origin}");
    }
}

#[test]
fn a_refused_client_takes_nobodys_place() {
    let flags = ["--connections-max", "50", "--connections-per-address-max", "5", "--shards", "2"];
    let daemon = Daemon::start(&flags);
    let mut greedy: Vec<Raw> = (0..300).map(|_| Raw::connect(daemon.address)).collect();
    let (mut inside, mut told, mut reset) = (0, 0, 0);
    for raw in &mut greedy {
        raw.stream.set_nonblocking(true).expect("a TCP socket");
    }
    // All but five are answered, or not even that, and none of them closes.
    wait_until("each is accepted, refused or reset", || {
        (inside, told, reset) = (0, 0, 0);
        for raw in &mut greedy {
            use std::io::{ErrorKind, Read};
            let mut chunk = [0; 1024];
            match raw.stream.read(&mut chunk) {
                Ok(count) => raw.buffer.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset && raw.buffer.is_empty() => {
                    raw.buffer.push(b'R');
                }
                Err(_) => {}
            }
            match raw.buffer.first() {
                Some(b'R') => reset += 1,
                Some(_) => told += 1,
                None => inside += 1,
            }
        }
        inside == 5
    });
    assert!(told >= 30 && reset >= 100, "{told} were refused, {reset} reset");
    for n in 2..40 {
        let mut other = from([127, 0, 0, n], daemon.address);
        other.upgrade(EVENTS);
        greedy.push(other);
    }
}

/// Whatever they are refused for, including those that got an answer and stay.
#[test]
fn a_finished_client_takes_nobodys_place() {
    let daemon = Daemon::start(&["--connections-max", "20", "--connections-per-address-max", "20"]);
    let mut done = Vec::new();
    for path in ["/nowhere", "/healthz", "/console/", "/console/jobs"] {
        for _ in 0..12 {
            let mut raw = daemon.raw();
            let fields = "Host: localhost\r\nConnection: close\r\n";
            raw.send(format!("GET {path} HTTP/1.1\r\n{fields}\r\n").as_bytes());
            let head = raw.read_head();
            assert!(head.starts_with("HTTP/1.1 200 ") || head.starts_with("HTTP/1.1 404 "), "{path}: {head}");
            while raw.fill() > 0 {}
            done.push(raw);
        }
    }
    let _inside: Vec<Raw> =
        (0..20).map(|_| knock(daemon.address, EVENTS, &[]).expect("all places are free")).collect();
    assert_eq!(verdict(daemon.address, EVENTS, &[]).0, 503);
}

#[test]
fn the_log_has_each_reason_once_a_second_whatever_the_shard() {
    let daemon = Daemon::start(&["--shards", "4"]);
    let began = Instant::now();
    let good = Raw::upgrade_request(EVENTS);
    let floods = [
        good.replace("Sec-WebSocket-Key", "X-Key"),
        good.replace("Host: localhost", "Host : localhost"),
        good.replace("HTTP/1.1", "HTTP/1.7 "),
    ];
    for _ in 0..100 {
        for flood in &floods {
            assert_eq!(daemon.raw().request(flood).status, 400);
        }
    }
    let words = ["Sec-WebSocket-Key is missing", "no colon or a blank before it", "does not end with CR LF"];
    let seconds = began.elapsed().as_secs() as usize;
    for word in words {
        daemon.wait_for_log(word);
        let lines = daemon.stderr().matches(word).count();
        // One more may count those that were left out.
        assert!((1..=seconds + 3).contains(&lines), "{lines} lines in {seconds} s: {word}");
    }
}

#[test]
fn the_log_names_path_and_program_even_for_a_faulty_head() {
    let daemon = Daemon::start(&["--handshake-seconds", "1"]);
    let head = |path: &str, agent: &str, rest: &str| {
        format!("GET {path}?token=secret HTTP/1.1\r\nUser-Agent: {agent}\r\nHost: localhost\r\n{rest}")
    };
    let many = "X: y\r\n".repeat(64);
    let long = format!("X: {}", "x".repeat(20_000));
    let cases = [
        (head("/api/ws/events", "blank", "X : y\r\n\r\n"), 400),
        (head("/api/ws/jobs/j/monitor", "control", "X: \u{1}\r\n\r\n"), 400),
        (head("/healthz", "length", "Content-Length: 7\r\n\r\n"), 400),
        (head("/nowhere", "twice", "Host: localhost\r\n\r\n"), 400),
        (head("/console/", "version", "\r\n").replace("HTTP/1.1", "HTTP/2.0"), 505),
        (head("/console/jobs", "fields", &many), 431),
        (head("/api/v1/ws", "bytes", &long), 431),
        (head("/api/v1/websocket", "slow", "X: "), 408),
        (head("http://user:secret@localhost/api/ws/flows/f/monitor", "target", "\r\n"), 400),
    ];
    for (request, status) in &cases {
        let mut raw = daemon.raw();
        raw.send(request.as_bytes());
        assert_eq!(raw.read_answer().status, *status, "{request}");
    }
    for (path, agent) in [
        ("/api/ws/events", "blank"),
        ("/api/ws/jobs/j/monitor", "control"),
        ("/healthz", "length"),
        ("/nowhere", "twice"),
        ("/console/", "version"),
        ("/console/jobs", "fields"),
        ("/api/v1/ws", "bytes"),
        ("/api/v1/websocket", "slow"),
        ("/api/ws/flows/f/monitor", "target"),
    ] {
        daemon.wait_for_log(&format!(r#"(asked: GET {path} by "{agent}")"#));
    }
    assert!(!daemon.stderr().contains("secret"), "{}", daemon.stderr());
}

#[test]
fn what_may_be_a_token_in_a_path_is_not_logged() {
    let scratch = Scratch::new();
    let tokens = scratch.path().join("tokens");
    std::fs::write(&tokens, "hidden-good all\n").unwrap();
    let asking = Daemon::start(&["--log-level", "debug", "--token-file", tokens.to_str().unwrap()]);
    let open = Daemon::start(&["--log-level", "debug"]);
    let long = format!("hidden-{}", "x".repeat(30));
    let paths = |token: &str| {
        [
            format!("/api/ws/jobs/{token}"),
            format!("/api/v1/ws/flows/{token}"),
            format!("/api/{token}"),
            format!("/api/ws/events&token={token}"),
            format!("/api/ws/events%3Ftoken%3D{token}"),
            format!("/api/v1/websocket/{token}"),
        ]
    };
    let mut asked = 0;
    for daemon in [&asking, &open] {
        for path in paths("hidden-good").into_iter().chain(paths("hidden-bad")).chain(paths(&long)) {
            assert_eq!(daemon.refuse(&path).status, 404, "{path}");
            asked += 1;
        }
    }
    for path in [
        "/hidden-good".to_owned(),
        "/api/ws/jobs/hidden-good/monitor".to_owned(),
        "/api/ws/flows/%68idden-good/monitor".to_owned(),
        format!("/{long}"),
        format!("/api/ws/jobs/{long}/debug"),
    ] {
        asking.refuse(&path);
        asked += 1;
    }
    let admin = asking.admin.expect("it is on");
    for token in ["hidden-good", &long] {
        assert_eq!(ask_as(admin, &format!("/{token}"), "localhost").status, 404);
    }
    let lines = || asking.stderr().matches("(asked: ").count() + open.stderr().matches("(asked: ").count();
    wait_until("all is logged", || lines() >= asked);
    for daemon in [&asking, &open] {
        assert!(!daemon.stderr().contains("idden"), "{}", daemon.stderr());
    }
}
