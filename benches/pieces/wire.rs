//! Bytes to values and back: lines of the feed, frames of clients, request heads.

use std::hint::black_box;
use std::ops::Range;

use luxcast::access::rights::Permit;
use luxcast::session::endpoint::{Offer, find};
use luxcast::session::limits::SessionLimits;
use luxcast::wire::client_action::parse_action;
use luxcast::wire::frame::{PING, PONG, TEXT};
use luxcast::wire::handshake::{accept_key, write_switching};
use luxcast::wire::http::{HeadLimits, HeadResult, Request, parse_head};
use luxcast::wire::line::{Line, LineReader, PADDING};
use luxcast::wire::message_reader::{Flow, MessageLimits, MessageReader};

use crate::pieces::Piece;
use crate::pieces::rig::{COUNT, corpus_of, usual_line};

/// Lines in one block, as they are read from a publisher's socket, each with its padding.
struct Lines {
    reader: LineReader,
    originals: Vec<Vec<u8>>,
    block: Vec<u8>,
}

fn parse(originals: Vec<Vec<u8>>) -> Piece {
    let bytes = originals.iter().map(|line| line.len() + PADDING).sum();
    let lines = Lines { reader: LineReader::new(64), block: vec![0; bytes], originals };
    Piece::new(
        lines.originals.len() as u64,
        lines,
        |lines| {
            let mut rest = &mut lines.block[..];
            for line in &lines.originals {
                rest[..line.len()].copy_from_slice(line);
                rest = &mut rest[line.len() + PADDING..];
            }
        },
        |lines| {
            let mut rest = &mut lines.block[..];
            let mut events = 0;
            for line in &lines.originals {
                let (block, behind) = rest.split_at_mut(line.len() + PADDING);
                rest = behind;
                let read = lines.reader.read(block, line.len(), &line[1..]);
                events += u64::from(matches!(black_box(read), Ok(Line::Event(_))));
            }
            events
        },
    )
}

pub fn parse_short_lines() -> Piece {
    parse(vec![usual_line("tick", "j", 45); COUNT])
}

pub fn parse_routine_events() -> Piece {
    parse(corpus_of("routine_completed"))
}

pub fn parse_execution_events() -> Piece {
    parse(corpus_of("execution_event"))
}

/// Numbers that simd-json can't hold: each line is parsed twice.
pub fn parse_wide_numbers() -> Piece {
    let widen = |line: Vec<u8>| {
        let text = String::from_utf8(line).expect("the corpus is text");
        text.replacen('{', r#"{"wide": 1e400, "#, 1).into_bytes()
    };
    parse(corpus_of("routine_completed").into_iter().map(widen).collect())
}

/// What clients send, one read for each of `reads`.
struct Frames {
    reader: MessageReader,
    limits: MessageLimits,
    original: Vec<u8>,
    bytes: Vec<u8>,
    reads: Vec<Range<usize>>,
}

/// A frame as a client masks it.
fn masked(opcode: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];
    let mut frame = vec![0x80 | opcode];
    match payload.len() {
        length @ 0..=125 => frame.push(0x80 | length as u8),
        length => {
            frame.push(0x80 | 126);
            frame.extend((length as u16).to_be_bytes());
        }
    }
    frame.extend(MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}

fn decode(frames: usize, frame: &[u8], read_bytes: usize) -> Piece {
    let original = frame.repeat(frames);
    let starts = (0..original.len()).step_by(read_bytes);
    let reads = starts.map(|start| start..start + read_bytes).collect();
    let limits = SessionLimits::message_limits(64 << 10);
    let frames = Frames { reader: MessageReader::new(), limits, bytes: original.clone(), original, reads };
    Piece::new(
        (frames.original.len() / frame.len()) as u64,
        frames,
        |frames| frames.bytes.copy_from_slice(&frames.original),
        |frames| {
            let mut messages = 0;
            for read in &frames.reads {
                let bytes = &mut frames.bytes[read.clone()];
                let verdict = frames.reader.read(bytes, &frames.limits, None, &mut |message| {
                    black_box(message);
                    messages += 1;
                    Flow::Continue
                });
                assert!(verdict.is_ok());
            }
            messages
        },
    )
}

const SUBSCRIBE: &str = r#"{"action":"subscribe","events":["job_started","job_completed","job_failed","routine_failed","breakpoint_hit"]}"#;

pub fn decode_subscribes() -> Piece {
    let frame = masked(TEXT, SUBSCRIBE.as_bytes());
    decode(COUNT, &frame, frame.len())
}

pub fn decode_pongs() -> Piece {
    let frame = masked(PONG, b"");
    decode(COUNT, &frame, frame.len())
}

pub fn decode_pings() -> Piece {
    let frame = masked(PING, b"keepalive");
    decode(COUNT, &frame, frame.len())
}

/// The worst that a client can do: every byte comes alone.
pub fn decode_byte_by_byte() -> Piece {
    decode(COUNT / 10, &masked(TEXT, SUBSCRIBE.as_bytes()), 1)
}

pub fn read_actions() -> Piece {
    const ACTIONS: [&str; 4] = [
        SUBSCRIBE,
        r#"{"action":"unsubscribe","events":["metrics"]}"#,
        r#"{"action":"ping"}"#,
        r#"{"type":"pong"}"#,
    ];
    let texts: Vec<&str> = ACTIONS.into_iter().cycle().take(COUNT).collect();
    Piece::new(
        COUNT as u64,
        texts,
        |_| (),
        |texts| texts.iter().map(|text| u64::from(black_box(parse_action(text, false)).is_ok())).sum(),
    )
}

/// As a browser sends it.
const HEAD: &[u8] = b"GET /api/ws/jobs/e252f57c-97aa-4ee1-b74b-92d7d6d6a195/monitor?events=job_started,job_failed&since=-100 HTTP/1.1\r\n\
    Host: events.example.com:20555\r\n\
    Connection: Upgrade\r\n\
    Pragma: no-cache\r\n\
    Cache-Control: no-cache\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36\r\n\
    Upgrade: websocket\r\n\
    Origin: https://overseer.example.com\r\n\
    Sec-WebSocket-Version: 13\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\n\
    Accept-Language: en-US,en;q=0.9\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n";

fn request(head: &[u8]) -> Request<'_> {
    match parse_head(head, HeadLimits { head_bytes_max: 8192 }) {
        Ok(HeadResult::Complete { request, .. }) => request,
        other => panic!("a good request: {other:?}"),
    }
}

/// Parses the head and finds what it asks for.
pub fn parse_heads() -> Piece {
    Piece::new(
        COUNT as u64,
        (),
        |()| (),
        |()| {
            let heads = std::iter::repeat_n(HEAD, COUNT);
            let is_good = |request: Request<'_>| {
                find(Offer::Watchers, &request)
                    .and_then(|place| place.open(&request, Permit::Everything))
                    .is_ok()
            };
            heads.map(|head| u64::from(is_good(request(black_box(head))))).sum()
        },
    )
}

pub fn answer_handshakes() -> Piece {
    struct Handshakes {
        request: Request<'static>,
        out: Vec<u8>,
    }
    Piece::new(
        COUNT as u64,
        Handshakes { request: request(HEAD), out: Vec::new() },
        |_| (),
        |Handshakes { request, out }| {
            let mut answers = 0;
            for _ in 0..COUNT {
                let accept = accept_key(black_box(request)).expect("a good key");
                out.clear();
                write_switching(out, &accept, false, None);
                answers += u64::from(out.ends_with(b"\r\n\r\n"));
            }
            answers
        },
    )
}
