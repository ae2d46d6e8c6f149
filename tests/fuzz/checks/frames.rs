//! Frames of a client: the reader against itself however the stream is cut, and against tungstenite.

use std::io::{Cursor, Read, Write};

use fastrand::Rng;
use luxcast::close::CloseReason;
use luxcast::wire::inflate::Inflater;
use luxcast::wire::message_reader::{Flow, Message, MessageLimits, MessageReader};
use tungstenite::error::ProtocolError;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::OpCode;
use tungstenite::protocol::{Role, WebSocket, WebSocketConfig};
use tungstenite::{Error, Message as Theirs};

use super::random;

/// Small, so that short streams reach them.
pub const LIMITS: MessageLimits = MessageLimits { message_bytes_max: 300, fragments_max: 8 };
/// What a reader may hold beside the message: its state, and a control frame.
const HELD_BESIDE_BYTES: usize = 512;
/// What it may hold beside that to inflate: codes, and room that doubles.
const HELD_TO_INFLATE_BYTES: usize = 16 << 10;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Got {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>),
}

/// What a stream gives.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    pub messages: Vec<Got>,
    pub verdict: Result<(), CloseReason>,
}

/// How the two readers agree about a stream. All but `Same` are rules by which ours is the stricter one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Agreement {
    /// The same messages and the same end.
    Same,
    /// Ours fails at the first bad byte; tungstenite waits for more.
    FailsFast,
    /// A close code that must not be sent: tungstenite makes a proper close of it, ours is a protocol error.
    CloseCode,
    /// Ours knows 1014, which tungstenite takes for one that must not be sent.
    BadGateway,
    /// tungstenite has no limit on the number of fragments.
    Fragments,
    /// A length that is not in the fewest bytes (RFC 6455, 5.2): tungstenite takes it.
    LongLength,
}

impl Agreement {
    pub const ALL: [Agreement; 6] = [
        Agreement::Same,
        Agreement::FailsFast,
        Agreement::CloseCode,
        Agreement::BadGateway,
        Agreement::Fragments,
        Agreement::LongLength,
    ];
}

/// Reads `stream` in every way and compares. Panics where something does not hold.
pub fn check(stream: &[u8]) -> Agreement {
    let whole = read(&[stream], None);
    let bytes: Vec<&[u8]> = stream.chunks(1).collect();
    assert_eq!(read(&bytes, None), whole, "byte by byte");
    let mut random = random::of(stream);
    for _ in 0..2 {
        let pieces = random::cut(&mut random, stream);
        assert_eq!(read(&pieces, None), whole, "cut into {:?}", pieces.iter().map(|piece| piece.len()));
    }
    check_messages(&whole.messages);
    compare(stream, &whole)
}

/// With an inflater, compression was agreed on.
pub fn read(pieces: &[&[u8]], mut inflater: Option<&mut Inflater>) -> Outcome {
    let held_beside = HELD_BESIDE_BYTES + if inflater.is_some() { HELD_TO_INFLATE_BYTES } else { 0 };
    let mut reader = MessageReader::new();
    let mut messages = Vec::new();
    for piece in pieces {
        let mut piece = piece.to_vec();
        let verdict = reader.read(&mut piece, &LIMITS, inflater.as_deref_mut(), &mut |message| {
            messages.push(match message {
                Message::Text(text) => Got::Text(text.to_owned()),
                Message::Binary(bytes) => Got::Binary(bytes.to_vec()),
                Message::Ping(payload) => Got::Ping(payload.to_vec()),
                Message::Pong(payload) => Got::Pong(payload.to_vec()),
                Message::Close(code) => Got::Close(code),
            });
            Flow::Continue
        });
        assert!(reader.held_bytes() <= LIMITS.message_bytes_max + held_beside);
        if verdict.is_err() {
            assert_eq!(reader.held_bytes(), 0, "nothing is held after the end");
            return Outcome { messages, verdict };
        }
    }
    Outcome { messages, verdict: Ok(()) }
}

/// Within the limits, nothing after a close, and the same again once they are written and read.
fn check_messages(messages: &[Got]) {
    let mut stream = Vec::new();
    for (place, message) in messages.iter().enumerate() {
        let (opcode, payload) = match message {
            Got::Text(text) => (1, text.as_bytes().to_vec()),
            Got::Binary(bytes) => (2, bytes.clone()),
            Got::Ping(payload) => (9, payload.clone()),
            Got::Pong(payload) => (10, payload.clone()),
            Got::Close(code) => {
                assert_eq!(place + 1, messages.len(), "a message after the close");
                (8, code.map_or(Vec::new(), |code| code.to_be_bytes().to_vec()))
            }
        };
        assert!(payload.len() <= if opcode < 8 { LIMITS.message_bytes_max } else { 125 });
        stream.extend(frame(0x80 | opcode, &payload, [place as u8, 1, 0xff, 7]));
    }
    assert_eq!(read(&[&stream], None), Outcome { messages: messages.to_vec(), verdict: Ok(()) });
}

/// A masked frame with the length in the fewest bytes, its header by tungstenite.
pub fn frame(first: u8, payload: &[u8], mask: [u8; 4]) -> Vec<u8> {
    let header = FrameHeader {
        is_final: first & 0x80 != 0,
        opcode: OpCode::from(first & 0xf),
        mask: Some(mask),
        ..FrameHeader::default()
    };
    let mut out = Vec::new();
    header.format(payload.len() as u64, &mut out).expect("a Vec takes everything");
    out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
    out
}

/// How tungstenite ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    RanOut,
    Closed,
    Failed,
}

fn read_theirs(stream: &[u8]) -> (Vec<Got>, End) {
    let config = WebSocketConfig::default()
        .read_buffer_size(1 << 10)
        .max_message_size(Some(LIMITS.message_bytes_max))
        .max_frame_size(Some(LIMITS.message_bytes_max));
    let mut socket = WebSocket::from_raw_socket(Pipe(Cursor::new(stream)), Role::Server, Some(config));
    let mut messages = Vec::new();
    loop {
        messages.push(match socket.read() {
            Ok(Theirs::Text(text)) => Got::Text(text.as_str().to_owned()),
            Ok(Theirs::Binary(bytes)) => Got::Binary(bytes.to_vec()),
            Ok(Theirs::Ping(payload)) => Got::Ping(payload.to_vec()),
            Ok(Theirs::Pong(payload)) => Got::Pong(payload.to_vec()),
            Ok(Theirs::Close(close)) => {
                messages.push(Got::Close(close.map(|close| close.code.into())));
                return (messages, End::Closed);
            }
            Ok(Theirs::Frame(_)) => unreachable!("read gives no raw frames"),
            Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => {
                return (messages, End::RanOut);
            }
            Err(_) => return (messages, End::Failed),
        });
    }
}

fn compare(stream: &[u8], ours: &Outcome) -> Agreement {
    let (theirs, end) = read_theirs(stream);
    let is_same = ours.messages == theirs;
    let is_beginning = theirs.starts_with(&ours.messages);
    let is_close_after = is_beginning
        && end == End::Closed
        && matches!(&theirs[ours.messages.len()..], [Got::Close(Some(1002))]);
    match (ours.verdict, end) {
        (Ok(()), End::Closed) if is_same && matches!(ours.messages.last(), Some(Got::Close(_))) => {
            Agreement::Same
        }
        (Ok(()), End::RanOut) if is_same => Agreement::Same,
        (Err(_), End::Failed) if is_same => Agreement::Same,
        (Err(_), End::RanOut) if is_same => Agreement::FailsFast,
        (Err(CloseReason::ProtocolError), _) if is_close_after => Agreement::CloseCode,
        (Ok(()), End::Closed) if is_bad_gateway(&ours.messages, &theirs) => Agreement::BadGateway,
        (Err(CloseReason::Fragments), _) if is_beginning => Agreement::Fragments,
        (Err(CloseReason::ProtocolError | CloseReason::TooBig), _)
            if is_beginning && has_long_length(stream) =>
        {
            Agreement::LongLength
        }
        _ => panic!("ours {ours:?}\ntheirs {theirs:?} {end:?}\n{stream:02x?}"),
    }
}

fn is_bad_gateway(ours: &[Got], theirs: &[Got]) -> bool {
    match (ours.split_last(), theirs.split_last()) {
        (Some((Got::Close(Some(1014)), before)), Some((Got::Close(Some(1002)), others))) => before == others,
        _ => false,
    }
}

/// Whether a frame's length is not in the fewest bytes, looked for the naive way: header by header.
fn has_long_length(stream: &[u8]) -> bool {
    let mut rest = stream;
    loop {
        let Some((length, header, is_long)) = length_of(rest) else {
            return false;
        };
        if is_long {
            return true;
        }
        let Some(next) = usize::try_from(length).ok().and_then(|length| rest.get(header + length..)) else {
            return false;
        };
        rest = next;
    }
}

/// Of a masked frame: its payload's length, that of its header, and whether the former takes more bytes than need be.
pub fn length_of(frame: &[u8]) -> Option<(u64, usize, bool)> {
    Some(match frame.get(1)? & 0x7f {
        126 => {
            let length = u64::from(u16::from_be_bytes(frame.get(2..4)?.try_into().ok()?));
            (length, 8, length < 126)
        }
        127 => {
            let mut bytes = [0; 8];
            // What is missing at the end of the stream cannot make it shorter.
            let there = &frame[2..frame.len().min(10)];
            bytes[..there.len()].copy_from_slice(there);
            let is_whole = there.len() >= 6;
            let length = u64::from_be_bytes(bytes);
            (length, 14, is_whole && length < 0x1_0000)
        }
        length => (u64::from(length), 6, false),
    })
}

/// Reads from a slice, and swallows the answers.
struct Pipe<'a>(Cursor<&'a [u8]>);

impl Read for Pipe<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Pipe<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Frames that mostly make sense, then perhaps mutated.
pub fn stream(random: &mut Rng) -> Vec<u8> {
    let mut stream = Vec::new();
    let mut is_inside = false;
    for _ in 0..1 + random.usize(..8) {
        let fin = [0, 0, 0x80][random.usize(..3)];
        if is_inside && random.usize(..30) == 0 {
            (0..LIMITS.fragments_max).for_each(|_| stream.extend(frame(0, b"x", [0; 4])));
        }
        let length = [0, 0, 1, 2, 3, 7, 20, 124, 125, 126, 130, 299, 300, 301][random.usize(..14)];
        let (first, length) = match random.usize(..9) {
            0 => (0x89, length.min(125)),
            1 => (0x8a, length.min(125)),
            2 if random.usize(..3) == 0 => (0x88, length.min(125)),
            _ if is_inside => (fin, length),
            3..=6 => (fin | 1, length),
            _ => (fin | 2, length),
        };
        if first & 8 == 0 {
            is_inside = first & 0x80 == 0;
        }
        let mut payload = payload(random, length);
        if first == 0x88 && length >= 2 {
            let code: u16 = [1000, 1001, 1005, 1014, 1015, 2999, 3000, 4999, 5000][random.usize(..9)];
            payload[..2].copy_from_slice(&code.to_be_bytes());
        }
        let mask = random.u32(..).to_be_bytes();
        stream.extend(match random.usize(..12) {
            0 => long_frame(first, &payload, mask),
            _ => frame(first, &payload, mask),
        });
    }
    random::mutate(random, &mut stream);
    stream
}

fn payload(random: &mut Rng, length: usize) -> Vec<u8> {
    match random.usize(..4) {
        0 => (0..length).map(|_| random.u8(..)).collect(),
        1 | 2 => "aä€💩".bytes().cycle().skip(random.usize(..10)).take(length).collect(),
        _ => vec![b'x'; length],
    }
}

/// With the length in eight bytes, whatever it is.
fn long_frame(first: u8, payload: &[u8], mask: [u8; 4]) -> Vec<u8> {
    let mut out = vec![first, 0xff];
    out.extend((payload.len() as u64).to_be_bytes());
    out.extend(mask);
    out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
    out
}
