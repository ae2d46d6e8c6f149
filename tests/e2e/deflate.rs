//! Compression (RFC 7692) as far as the agreement and what clients send: offers of every kind, good messages in every form,
//! and bad ones.

use std::time::Instant;

use luxcast::wire::permessage_deflate::WINDOW_BITS;
use serde_json::json;
use zlib_rs::{Deflate, DeflateFlush};

use crate::harness::client::{Frame, Raw, masked_frame};
use crate::harness::{Daemon, Scratch, Setup, wait_until};

const PATH: &str = "/api/ws/events";
const PING: &[u8] = br#"{"action":"ping"}"#;
const PONG: &[u8] = br#"{"type":"pong"}"#;
const RSV1: u8 = 0x40;
/// What a deflater ends a flush with, and a sender leaves out (RFC 7692, 7.2.1).
const TAIL: &[u8] = b"\x00\x00\xff\xff";

/// A connection that has offered this, and the value of the answer's extensions.
fn offer(daemon: &Daemon, lines: &str) -> (Raw, Option<String>) {
    let mut raw = daemon.raw();
    let fields = lines.lines().map(|line| format!("Sec-WebSocket-Extensions: {line}\r\n"));
    let fields = format!("\r\n{}", fields.collect::<String>());
    raw.send(Raw::upgrade_request(PATH).replacen("\r\n", &fields, 1).as_bytes());
    let head = raw.read_head();
    assert!(head.starts_with("HTTP/1.1 101 "), "{lines}\n{head}");
    let extensions: Vec<&str> =
        head.lines().filter_map(|line| line.strip_prefix("Sec-WebSocket-Extensions: ")).collect();
    assert!(extensions.len() <= 1, "{head}");
    (raw, extensions.first().map(|value| (*value).to_owned()))
}

/// An open connection with compression, its greeting read.
fn open(daemon: &Daemon) -> Raw {
    let (mut raw, answer) = offer(daemon, "permessage-deflate; client_max_window_bits");
    assert_eq!(answer.as_deref(), Some("permessage-deflate; client_no_context_takeover"));
    raw.read_frame_of(0x1);
    raw
}

fn deflated(level: i32, text: &[u8]) -> Vec<u8> {
    let mut deflate = Deflate::new(level, false, 15);
    let mut out = vec![0; text.len() + text.len() / 4 + 100];
    deflate.compress(text, &mut out, DeflateFlush::SyncFlush).expect("there is room");
    out.truncate(deflate.total_out() as usize);
    out.strip_suffix(TAIL).expect("a flush").to_vec()
}

/// A whole compressed message in one frame.
fn message(payload: &[u8]) -> Vec<u8> {
    compressed(0x1, true, payload)
}

fn compressed(opcode: u8, is_final: bool, payload: &[u8]) -> Vec<u8> {
    let mut frame = masked_frame(opcode, is_final, payload);
    frame[0] |= RSV1;
    frame
}

#[test]
fn the_first_offer_that_can_be_kept_is_answered() {
    let daemon = Daemon::start(&[]);
    let base = "permessage-deflate; client_no_context_takeover";
    let alone = format!("{base}; server_no_context_takeover");
    let rows = [
        ("permessage-deflate", base.to_owned()),
        ("permessage-deflate; client_max_window_bits", base.to_owned()),
        ("permessage-deflate; client_no_context_takeover; client_max_window_bits=10", base.to_owned()),
        ("permessage-deflate; server_no_context_takeover", alone.clone()),
        (
            "permessage-deflate; server_max_window_bits=15",
            format!("{base}; server_max_window_bits={WINDOW_BITS}"),
        ),
        ("permessage-deflate; server_max_window_bits=\"9\"", format!("{alone}; server_max_window_bits=9")),
        ("x, permessage-deflate; y, permessage-deflate; server_no_context_takeover", alone.clone()),
        ("permessage-deflate; server_max_window_bits=7\npermessage-deflate", base.to_owned()),
    ];
    for (lines, expected) in rows {
        assert_eq!(offer(&daemon, lines).1, Some(expected), "{lines}");
    }
}

#[test]
fn a_bad_offer_is_passed_over_and_the_connection_is_plain() {
    let daemon = Daemon::start(&[]);
    for lines in [
        "x-webkit-deflate-frame",
        "Permessage-Deflate",
        "permessage-deflate;",
        "permessage-deflate; unknown",
        "permessage-deflate; server_no_context_takeover=1",
        "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
        "permessage-deflate; server_max_window_bits",
        "permessage-deflate; server_max_window_bits=7",
        "permessage-deflate; server_max_window_bits=16",
        "permessage-deflate; server_max_window_bits=010",
        "permessage-deflate; client_max_window_bits=99999999999999999999",
        "permessage-deflate; client_max_window_bits=\"10",
        ";=;, ,\"",
    ] {
        let (mut raw, answer) = offer(&daemon, lines);
        assert_eq!(answer, None, "{lines}");
        raw.send(&masked_frame(0x1, true, PING));
        raw.read_frame_of(0x1);
        assert_eq!(raw.read_frame_of(0x1).payload, PONG, "{lines}");
        // Nothing was agreed on.
        raw.send(&[0xc1]);
        assert_eq!(raw.read_close(), Some(1002), "{lines}");
    }
}

#[test]
fn compressed_messages_are_obeyed_in_every_form() {
    let daemon = Daemon::start(&["--heartbeat-seconds", "86400"]);
    let mut raw = open(&daemon);
    let ping = deflated(6, PING);
    let mut finished = vec![0; 100];
    let mut deflate = Deflate::new(6, false, 9);
    deflate.compress(PING, &mut finished, DeflateFlush::Finish).expect("there is room");
    finished.truncate(deflate.total_out() as usize);
    let flushed = [&deflated(6, &PING[..5])[..], TAIL, &deflated(0, &PING[5..])].concat();
    let fragments = |payload: &[u8], size: usize| {
        let mut pieces = payload.chunks(size);
        let first = compressed(0x1, false, pieces.next().expect("it is not empty"));
        let rest = pieces.flat_map(|piece| masked_frame(0x0, false, piece));
        [first, rest.collect(), masked_frame(0x0, true, b"")].concat()
    };
    let forms = [
        message(&ping),
        message(&deflated(0, PING)),
        message(&deflated(1, PING)),
        message(&deflated(9, PING)),
        message(&finished),
        message(&[&finished[..], b"\x00"].concat()),
        message(&flushed),
        fragments(&ping, 1),
        fragments(&flushed, 3),
        // Not everything is worth it.
        masked_frame(0x1, true, PING),
    ];
    for form in &forms {
        raw.send(form);
        assert_eq!(raw.read_frame_of(0x1).payload, PONG, "{}", form.escape_ascii());
    }
    // All of them at once, and byte by byte, a control frame between fragments.
    let all =
        [&forms.concat()[..], &compressed(0x1, false, &ping[..4]), &masked_frame(0x9, true, b"x")].concat();
    for piece in [&all[..], &masked_frame(0x0, true, &ping[4..])] {
        raw.send(piece);
    }
    for byte in &forms[8] {
        raw.send(&[*byte]);
    }
    let (mut pongs, mut frames) = (0, 0);
    while pongs < forms.len() + 2 {
        let Frame { opcode, payload } = raw.read_frame().expect("an answer");
        match opcode {
            0x1 => pongs += usize::from(payload == PONG),
            _ => frames += usize::from(payload == b"x"),
        }
    }
    assert_eq!(frames, 1);
    // A message of no bytes, and one that is no text.
    for payload in [&b"\x00"[..], b""] {
        raw.send(&message(payload));
        let answer = String::from_utf8(raw.read_frame_of(0x1).payload).expect("text");
        assert!(answer.contains("\"code\":\"bad_json\""), "{answer}");
    }
    raw.send(&compressed(0x2, true, &ping));
    let answer = String::from_utf8(raw.read_frame_of(0x1).payload).expect("text");
    assert!(answer.contains("\"code\":\"binary\""), "{answer}");
}

#[test]
fn each_fault_of_a_compressed_message_ends_its_connection() {
    // The rest is never sent, and the daemon would wait for it for a day.
    let daemon = Daemon::start(&["--heartbeat-seconds", "86400"]);
    let ping = deflated(6, PING);
    let begun = compressed(0x1, false, &ping[..5]);
    let after = |bytes: &[u8]| [begun.as_slice(), bytes].concat();
    let bomb = deflated(9, &vec![b' '; 50 << 20]);
    let longest = deflated(9, &[b' '; 65_537]);
    assert!(bomb.len() < 52_000 && longest.len() < 200);
    let stored = |text: &[u8]| {
        let length = u16::try_from(text.len()).expect("a short text");
        [&[0][..], &length.to_le_bytes(), &(!length).to_le_bytes(), text].concat()
    };
    let table: Vec<(&str, Vec<u8>, u16)> = vec![
        ("reserved bit 1 on a continuation", after(&[0xc0]), 1002),
        ("reserved bit 1 on a last continuation", after(&[0x40]), 1002),
        ("reserved bit 1 on a ping", vec![0xc9], 1002),
        ("reserved bit 1 on a pong", after(&[0xca]), 1002),
        ("reserved bit 1 on a close", vec![0xc8], 1002),
        ("reserved bits 1 and 2", vec![0xe1], 1002),
        ("reserved bits 1 and 3", vec![0xd2], 1002),
        ("reserved bit 2", vec![0xa1], 1002),
        ("reserved bit 3", vec![0x91], 1002),
        ("new data inside a message", after(&[0xc1]), 1002),
        ("a block of no kind", compressed(0x1, false, b"\x06"), 1007),
        ("garbage", compressed(0x1, false, b"\xff\xff\xff\xff"), 1007),
        ("a stored block that lies", compressed(0x1, false, b"\x00\x05\x00\x05\x00"), 1007),
        ("before the beginning", compressed(0x1, false, b"\x02\x03\x00"), 1007),
        ("of the message before", [message(&ping), message(b"\xf2\x00\x11\x00\x00")].concat(), 1007),
        ("cut off", message(&ping[..ping.len() - 3]), 1007),
        ("garbage behind a last block", compressed(0x1, false, b"\xf3\x48\xcd\xc9\xc9\x07\x00\x06"), 1007),
        ("not UTF-8", compressed(0x1, false, &stored(b"a\xff")), 1007),
        ("a surrogate", compressed(0x1, false, &stored(b"\xed\xa0")), 1007),
        ("half a character", message(&[&stored(b"\xe2\x82")[..], b"\x00"].concat()), 1007),
        ("one byte too many", compressed(0x1, false, &longest), 1009),
        ("a bomb", compressed(0x2, false, &bomb), 1009),
        ("a bomb that is whole", message(&bomb), 1009),
        ("compressed bytes without end", b"\xc1\xff\0\0\0\0\x01".to_vec(), 1009),
        ("blocks without end", compressed(0x1, false, &b"\x03\x00".repeat(129)), 1008),
        ("fragments without end", after(&masked_frame(0x0, false, b"").repeat(1023)), 0),
    ];
    let raws = table.iter().map(|(_, bytes, _)| {
        let mut raw = open(&daemon);
        raw.send(bytes);
        raw
    });
    let mut raws: Vec<Raw> = raws.collect();
    for ((what, bytes, code), raw) in table.iter().zip(&mut raws) {
        if *code == 0 {
            raw.send(&[0x00]);
        }
        let expected = if *code == 0 { 1008 } else { *code };
        let shown = &bytes[..bytes.len().min(24)];
        assert_eq!(raw.read_close(), Some(expected), "{what}: {}", shown.escape_ascii());
    }
    daemon.wait_for_connections(0);
}

/// As long as a message may be, and compressed longer than that.
#[test]
fn a_message_at_the_limit_is_obeyed_however_it_is_compressed() {
    let daemon = Daemon::start(&[]);
    let mut raw = open(&daemon);
    let shell = r#"{"action":"ping","pad":""}"#;
    let pad = "x".repeat(65_536 - shell.len());
    let longest = shell.replace("\"\"", &format!("\"{pad}\""));
    for level in [0, 1, 9] {
        let payload = deflated(level, longest.as_bytes());
        assert_eq!(level == 0, payload.len() > 65_536);
        raw.send(&message(&payload));
        assert_eq!(raw.read_frame_of(0x1).payload, PONG);
    }
}

/// Blocks are what costs: so many as a message may have at once, as often as a client may send.
#[test]
fn the_worst_messages_cost_little() {
    let daemon = Daemon::start(&["--messages-per-second", "1000"]);
    let mut raw = open(&daemon);
    let worst = message(&b"\x03\x00".repeat(128));
    let begin = Instant::now();
    for _ in 0..1_000 {
        raw.send(&worst);
        let answer = raw.read_frame_of(0x1).payload;
        // The 16th that cannot be obeyed in a row ends the connection.
        assert!(answer.starts_with(br#"{"type":"error","code":"bad_json""#));
        raw.send(&masked_frame(0x1, true, PING));
        assert_eq!(raw.read_frame_of(0x1).payload, PONG);
    }
    println!("{:?} a message of 128 blocks", begin.elapsed() / 1_000);
}

#[test]
fn the_setting_holds_for_new_connections_and_the_list_says_who_has_it() {
    let scratch = Scratch::new();
    let file = scratch.path().join("luxcast.toml");
    let write = |text: &str| std::fs::write(&file, text).expect("the directory is ours");
    write("");
    let daemon = Setup::default().flags(&["--config", file.to_str().expect("UTF-8")]).start();
    let seen = || {
        let mut seen: Vec<_> = daemon.connections().iter().map(|row| row["is_compressed"].clone()).collect();
        seen.sort_by_key(|row| row.as_bool());
        seen
    };
    let mut first = open(&daemon);
    assert_eq!(seen(), [json!(true)]);
    write("compression = \"off\"\n");
    daemon.reload();
    let (mut second, answer) = offer(&daemon, "permessage-deflate");
    assert_eq!(answer, None);
    second.read_frame_of(0x1);
    assert_eq!(seen(), [json!(false), json!(true)]);
    // What was agreed on stays.
    first.send(&message(&deflated(6, PING)));
    assert_eq!(first.read_frame_of(0x1).payload, PONG);
    second.send(&message(&deflated(6, PING)));
    assert_eq!(second.read_close(), Some(1002));
    write("compression = \"on\"\n");
    daemon.reload();
    let third = open(&daemon);
    drop((first, second));
    wait_until("only the third is there", || seen() == [json!(true)]);
    drop(third);
}

/// Nothing is kept for a connection between its messages; half a message is let go with its connection.
#[test]
fn connections_with_compression_are_as_small_as_others() {
    const COUNT: usize = 400;
    let daemon = Setup::default().flags(&["--shards", "1"]).start();
    let memory = || daemon.memory_bytes("VmRSS") as i64;
    let ping = message(&deflated(6, PING));
    let served = |mut raw: Raw| {
        raw.send(&ping);
        raw.read_frame_of(0x1);
        raw
    };
    // What the first ones cost beside themselves.
    let warm: Vec<Raw> = (0..COUNT).map(|_| served(open(&daemon))).collect();
    let before = memory();
    let more: Vec<Raw> = (0..COUNT).map(|_| served(open(&daemon))).collect();
    let each = (memory() - before) / COUNT as i64;
    println!("{each} bytes each");
    assert!(each < 4 << 10, "{each} bytes each");
    drop((warm, more));
    daemon.wait_for_connections(0);
}
