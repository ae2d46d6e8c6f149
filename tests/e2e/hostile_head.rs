//! Request heads that no good client sends, and good ones that look odd.

use std::io::ErrorKind;
use std::time::Duration;

use crate::harness::Daemon;
use crate::harness::client::{Client, Frame, Raw, masked_frame};

const PATH: &str = "/api/ws/events";

fn with_field(field: &str) -> String {
    Raw::upgrade_request(PATH).replacen("\r\n", &format!("\r\n{field}\r\n"), 1)
}

fn without(name: &str) -> String {
    let good = Raw::upgrade_request(PATH);
    good.lines().filter(|line| !line.starts_with(name)).map(|line| format!("{line}\r\n")).collect()
}

/// Status line and fields of the answer to these bytes, also of an upgrade.
fn head_of_answer(daemon: &Daemon, request: &str) -> String {
    let mut raw = daemon.raw();
    raw.send(request.as_bytes());
    raw.read_head()
}

#[test]
fn a_bad_byte_is_answered_at_once_without_waiting_for_the_rest() {
    // If the daemon waited for more, the answer would be 408.
    let daemon = Daemon::start(&["--handshake-seconds", "3600"]);
    let start = format!("GET {PATH} HTTP/1.1\r\nHost: localhost");
    let many = format!("{start}\r\n{}", "X: y\r\n".repeat(64));
    let long_head = format!("{start}\r\nX: {}", "x".repeat(16384));
    let long_target = format!("GET {PATH}?{}", "x".repeat(4096));
    let table: [(&[u8], u16, &str); 26] = [
        (b"GET / HTTP/1.1\n", 400, "bad_request"),
        (b"GET / HTTP/1.1\r\nHost: a\n", 400, "bad_request"),
        (b"GET / HTTP/1.1\rH", 400, "bad_request"),
        (b"GET / HTTP/1.1\r\nHost: a\rb", 400, "bad_request"),
        (b"GET / HTTP/1.1\r\nHost: a\0", 400, "bad_request"),
        (b"GET / HTTP/1.1\r\nHost: a\x1b", 400, "bad_request"),
        (b"GET / HTTP/1.1\r\nHost: a\r\n folded", 400, "bad_request"),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\tfolded", 400, "bad_request"),
        (b"GET / HTTP/1.1\r\nHost ", 400, "bad_request"),
        (b"GET /\0", 400, "bad_request"),
        (b"GET  ", 400, "bad_request"),
        (b"{\"type\":", 400, "bad_request"),
        (b"\0\x01\x02", 400, "bad_request"),
        (b"\x16\x03\x01\x02\x00", 400, "bad_request"),
        (b"GET / HTTP/0", 505, "http_version"),
        (b"GET / HTTP/2", 505, "http_version"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "http_version"),
        (b"GET /api/ws/events HTTP/1.0\r\n\r\n", 505, "http_version"),
        (b"GET / HTTP/1.0\r\nHost : a", 400, "bad_request"),
        (b"GET / HTTP/1.2\r\nHost: a\r\n folded", 400, "bad_request"),
        (many.as_bytes(), 431, "too_large"),
        (long_head.as_bytes(), 431, "too_large"),
        (long_target.as_bytes(), 414, "too_large"),
        (b"POST /nowhere HTTP/1.1\r\nHost: a\r\n\r\n", 404, "not_found"),
        (b"POST /api/ws/events HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n", 405, "method_not_allowed"),
        (b"PUT /healthz HTTP/1.1\r\nHost: a\r\n\r\n", 405, "method_not_allowed"),
    ];
    for (bytes, status, code) in table {
        let mut raw = daemon.raw();
        raw.send(bytes);
        let refused = raw.read_answer();
        assert_eq!((refused.status, refused.code().as_str()), (status, code), "{}", bytes.escape_ascii());
        let allowed = if bytes.starts_with(b"PUT /healthz") { "GET, HEAD, OPTIONS" } else { "GET, OPTIONS" };
        assert_eq!(refused.header("allow"), (status == 405).then_some(allowed));
    }
    // Nothing of it has done harm.
    daemon.watch(PATH);
}

#[test]
fn fields_that_must_be_unique_and_valid_are_refused_otherwise() {
    let daemon = Daemon::start(&[]);
    let good = Raw::upgrade_request(PATH);
    let key = "dGhlIHNhbXBsZSBub25jZQ==";
    let table = [
        (without("Host"), 400),
        (with_field("Host: localhost"), 400),
        (good.replace("Host: localhost", "Host: user@localhost"), 400),
        (with_field("Content-Length: 00"), 400),
        (with_field("Content-Length: 0, 0"), 400),
        (with_field("Content-Length: 0\r\nContent-Length: 0"), 400),
        (with_field("Content-Length: 0\r\nTransfer-Encoding: chunked"), 400),
        (with_field("Content-Length: 5"), 400),
        (with_field("Transfer-Encoding: chunked"), 400),
        (with_field("Origin: http://localhost\r\nOrigin: http://localhost"), 400),
        (without("Sec-WebSocket-Key"), 400),
        (good.replace(key, "c2hvcnQ="), 400),
        (good.replace(key, "dGhlIHNhbXBsZSBub25jZ*=="), 400),
        (good.replace(key, "dGhlIHNhbXBsZSBub25jZSEh"), 400),
        (with_field(&format!("Sec-WebSocket-Key: {key}")), 400),
        (with_field("Sec-WebSocket-Version: 13"), 400),
        (good.replace("Version: 13", "Version: 13, 8"), 400),
        (good.replace("Version: 13", "Version: 8"), 426),
        (without("Sec-WebSocket-Version"), 426),
        (good.replace("Upgrade: websocket", "Upgrade: h2c"), 426),
        (without("Upgrade"), 426),
        (without("Connection"), 426),
    ];
    for (request, status) in table {
        let refused = daemon.raw().request(&request);
        assert_eq!(refused.status, status, "{request}");
        if status == 426 {
            let has = |name: &str, value: &str| refused.headers.contains(&(name.into(), value.into()));
            assert!(has("upgrade", "websocket") && has("connection", "Upgrade"), "{refused:?}");
            assert!(has("sec-websocket-version", "13"), "{refused:?}");
        }
    }
}

#[test]
fn odd_but_legal_requests_are_accepted() {
    let daemon = Daemon::start(&[]);
    let good = Raw::upgrade_request(PATH);
    let host = daemon.address;
    let requests = [
        good.replace("Connection: Upgrade", "Connection: keep-alive\r\ncOnnEction: x , uPgrade"),
        good.replace("Upgrade: websocket", "Upgrade: h2c, WebSocket"),
        good.replace("Upgrade: websocket", "Upgrade: h2c\r\nUPGRADE: websocket"),
        good.replace("Sec-WebSocket", "SEC-wEBsOCKET"),
        good.replace("Host: localhost", "hOST:\t localhost \t"),
        good.replace(PATH, &format!("http://{host}{PATH}")),
        // The target's authority counts as Host (RFC 9112, 3.2.2).
        without("Host").replace(PATH, &format!("ws://{host}{PATH}")),
        format!("\r\n\r\n{good}"),
        // As the client of Java 11 to 18 sends it.
        with_field("Content-Length: 0"),
        good.replace("HTTP/1.1", "HTTP/1.2"),
    ];
    for request in requests {
        let head = head_of_answer(&daemon, &request);
        assert!(head.starts_with("HTTP/1.1 101 "), "{request}\n{head}");
        assert!(head.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{head}");
    }
}

#[test]
fn offers_are_left_out_of_the_answer() {
    let daemon = Daemon::start(&[]);
    for field in [
        "Sec-WebSocket-Protocol: chat, superchat",
        "Sec-WebSocket-Protocol: , ;;\"",
        "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits=7, x-webkit-deflate-frame",
        "Sec-WebSocket-Extensions: ;=;\r\nSec-WebSocket-Extensions: x",
    ] {
        let head = head_of_answer(&daemon, &with_field(field));
        assert!(head.starts_with("HTTP/1.1 101 "), "{field}\n{head}");
        let is_chosen = ["protocol:", "extensions:"].iter().any(|name| head.to_lowercase().contains(name));
        assert!(!is_chosen, "{head}");
    }
}

/// Many clients close if they have offered a subprotocol and none is chosen.
#[test]
fn the_own_subprotocol_is_chosen_and_no_other() {
    let daemon = Daemon::start(&[]);
    for path in [PATH, "/api/v1/websocket"] {
        for offer in ["luxcast.v1", "chat, luxcast.v1", "chat\r\nSec-WebSocket-Protocol: luxcast.v1"] {
            let field = format!("Host: localhost\r\nSec-WebSocket-Protocol: {offer}");
            let request = Raw::upgrade_request(path).replace("Host: localhost", &field);
            let head = head_of_answer(&daemon, &request);
            assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
            assert!(head.contains("\r\nSec-WebSocket-Protocol: luxcast.v1\r\n"), "{offer}: {head}");
        }
    }
    for offer in ["luxcast", "luxcast.v2", "LUXCAST.v1", "graphql-ws"] {
        let head = head_of_answer(&daemon, &with_field(&format!("Sec-WebSocket-Protocol: {offer}")));
        assert!(head.starts_with("HTTP/1.1 101 ") && !head.contains("Protocol:"), "{offer}: {head}");
    }
    // A client that would notice.
    let offer = ("Sec-WebSocket-Protocol", "luxcast.v1");
    assert!(Client::try_connect_with(daemon.address, PATH, &[offer]).is_ok());
}

#[test]
fn frames_right_behind_the_request_are_answered() {
    let daemon = Daemon::start(&[]);
    let mut bytes = Raw::upgrade_request(PATH).into_bytes();
    bytes.extend(masked_frame(0x1, true, br#"{"action":"ping"}"#));
    bytes.extend(masked_frame(0x9, true, b"payload"));
    bytes.extend(&masked_frame(0x1, true, br#"{"type":"ping"}"#)[..7]);
    let mut raw = daemon.raw();
    raw.send(&bytes);
    assert!(raw.read_head().starts_with("HTTP/1.1 101 "));
    let greeting = String::from_utf8(raw.read_frame_of(0x1).payload).expect("text");
    assert!(greeting.contains("\"connected\""), "{greeting}");
    let pong = Frame { opcode: 0x1, payload: br#"{"type":"pong"}"#.to_vec() };
    assert_eq!(raw.read_frame(), Some(pong));
    assert_eq!(raw.read_frame(), Some(Frame { opcode: 0xa, payload: b"payload".to_vec() }));
    raw.send(&masked_frame(0x1, true, br#"{"type":"ping"}"#)[7..]);
    assert_eq!(raw.read_frame_of(0x1).payload, br#"{"type":"pong"}"#);
}

#[test]
fn tls_on_a_plain_port_is_answered_and_logged_as_what_it_is() {
    let daemon = Daemon::start(&[]);
    let mut raw = daemon.raw();
    // As curl begins with https://.
    raw.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03");
    let refused = raw.read_answer();
    assert_eq!((refused.status, refused.code().as_str()), (400, "bad_request"));
    assert!(refused.body.contains("TLS"), "{}", refused.body);
    daemon.wait_for_log("TLS on a plain port");
}

/// Nothing that controls a terminal reaches the log from a client: CR, LF, ESC, the C1 controls.
#[test]
fn what_a_client_sends_is_escaped_in_logs() {
    let daemon = Daemon::start(&["--log-level", "trace"]);
    let good = Raw::upgrade_request(PATH);
    let nasty = "x\x1b[2J\u{9b}31m";
    let requests = [
        good.replace(PATH, "/api/ws/jobs/a%0d%0a%1b[2J/monitor"),
        good.replace(PATH, "/api/ws/events?since=%1b[2J%0aforged"),
        good.replace(PATH, "/api/ws/events?events=%1b[2J&events=%1b"),
        good.replace(PATH, &format!("/{nasty}")),
        good.replace("GET", nasty),
        with_field(&format!("Origin: http://{nasty}")),
        with_field(&format!("User-Agent: {nasty}")),
        with_field(&format!("X{nasty}: y")),
        with_field("Origin: http://a\u{9b}31m"),
        with_field("User-Agent: a\u{9b}31m"),
        with_field("Origin: http://elsewhere\u{85}forged"),
    ];
    for request in &requests {
        let mut raw = daemon.raw();
        raw.send(request.as_bytes());
        raw.read_head();
    }
    let mut watcher = daemon.watch(PATH);
    watcher.connected();
    watcher.ask("{\"action\":\"\\u001b[2J\\u000aforged\"}");
    // The log is written in order: once this is in it, everything before is too.
    let mut raw = daemon.raw();
    raw.send(b"\x16");
    raw.read_answer();
    std::thread::sleep(Duration::from_millis(50));
    let log = daemon.stderr();
    let lines = log.lines().filter(|line| line.starts_with("forged") || line.chars().any(char::is_control));
    assert_eq!(lines.collect::<Vec<_>>(), Vec::<&str>::new(), "{log:?}");
}

#[test]
fn pending_heads_hold_no_more_than_their_limit() {
    const CONNECTIONS: usize = 1_000;
    const HEAD_BYTES_MAX: usize = 16384;
    let daemon = Daemon::start(&["--handshake-seconds", "3600"]);
    let begin = Raw::upgrade_request(PATH).replace("\r\n\r\n", "\r\nX: ");
    let head = format!("{begin}{}", "x".repeat(HEAD_BYTES_MAX - 1 - begin.len()));
    let mut raws: Vec<Raw> = (0..CONNECTIONS).map(|_| daemon.raw()).collect();
    daemon.wait_for_connections(CONNECTIONS);
    let before = daemon.memory_bytes("VmRSS");
    // In pieces, to detect a buffer that doubles beyond the limit.
    for piece in head.as_bytes().chunks(4090) {
        raws.iter_mut().for_each(|raw| raw.send(piece));
    }
    // All of it has been read once these, sent last, are complete.
    for raw in &mut raws {
        raw.send(b"x");
        assert_eq!(raw.read_answer().status, 431);
    }
    let most = daemon.memory_bytes("VmHWM").saturating_sub(before) as usize;
    // Plus the answer, and memory that the allocator cannot reuse meanwhile.
    assert!(most < CONNECTIONS * (HEAD_BYTES_MAX + 4096) + (4 << 20), "{most} bytes");
}

#[test]
fn bytes_behind_a_refusal_do_not_lose_it() {
    let daemon = Daemon::start(&[]);
    for _ in 0..20 {
        let mut raw = daemon.raw();
        raw.send(b"GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n");
        // A client that sends without reading: closing a socket with unread bytes would reset it, and the answer
        // would be lost.
        for _ in 0..20 {
            use std::io::Write;
            if let Err(error) = raw.stream.write_all(&[b'x'; 4096]) {
                assert!(
                    matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset),
                    "{error}"
                );
                break;
            }
        }
        raw.stream.shutdown(std::net::Shutdown::Write).ok();
        assert_eq!(raw.read_answer().status, 404);
    }
}

#[test]
fn refusals_that_were_not_logged_one_by_one_are_counted_in_the_log() {
    let daemon = Daemon::start(&[]);
    for _ in 0..30 {
        assert_eq!(daemon.refuse("/nowhere").status, 404);
    }
    daemon.wait_for_log("refused more requests since then");
    let log = daemon.stderr();
    let counts = |name: &str| {
        let found = log.lines().filter(|line| line.contains("no such path")).filter_map(|line| {
            let (_, rest) = line.split_once(name)?;
            rest.split(|letter: char| !letter.is_ascii_digit()).next()?.parse::<u64>().ok()
        });
        found.sum::<u64>()
    };
    let lines = log
        .lines()
        .filter(|line| line.contains("refused a request") && line.contains("no such path"))
        .count();
    assert_eq!(lines as u64 + counts("unlogged=") + counts("count="), 30, "{log}");
}
