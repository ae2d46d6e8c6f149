//! Client bytes to messages: an incremental decoder for RFC 6455 and RFC 7692 that fails at the first bad byte.
//!
//! It gives the same messages and the same verdict however the stream is split into reads. It holds heap memory only
//! while a message is incomplete: a frame that arrives whole is unmasked and passed on in place.

use std::mem;

use crate::close::CloseReason;
use crate::wire::frame::{CLOSE, PING, PONG, TEXT};
use crate::wire::frame_header::{Header, HeaderReader, Room, is_control};
use crate::wire::inflate::{Inflater, Inflating, deflated_bytes_max};

/// Limits of one message, in however many frames it comes.
#[derive(Clone, Copy, Debug)]
pub struct MessageLimits {
    /// Bytes of payload in one message, inflated if it is compressed; more is [`CloseReason::TooBig`].
    pub message_bytes_max: usize,
    /// Frames in one message; more is [`CloseReason::Fragments`]. Empty frames cost the sender six bytes each and add
    /// nothing to the size, so the size alone would never end a message.
    pub fragments_max: u32,
}

/// One message from the client, unmasked; text is checked.
#[derive(Debug, PartialEq, Eq)]
pub enum Message<'a> {
    Text(&'a str),
    Binary(&'a [u8]),
    Ping(&'a [u8]),
    Pong(&'a [u8]),
    /// The code to echo, already checked; `None`: the frame was empty, and so is the answer.
    Close(Option<u16>),
}

/// What the handler of a message wants next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    Continue,
    /// The connection has ended: ignore every byte that follows, now and later.
    Stop,
}

/// Turns the bytes of one client into messages.
#[derive(Debug, Default)]
pub struct MessageReader {
    state: State,
}

#[derive(Debug, Default)]
enum State {
    /// Between two messages.
    #[default]
    Idle,
    /// Inside a frame or between the fragments of a message.
    Incomplete(Box<Decoder>),
    /// After a close frame, an error or [`Flow::Stop`]: bytes are ignored (RFC 6455, 1.4).
    Closed,
}

impl MessageReader {
    pub fn new() -> Self {
        Self::default()
    }

    /// Heap bytes held for an incomplete message; 0 between messages. At most `message_bytes_max` plus a few hundred, or
    /// plus 13,000 if it is compressed.
    pub fn held_bytes(&self) -> usize {
        match &self.state {
            State::Idle | State::Closed => 0,
            State::Incomplete(decoder) => size_of::<Decoder>() + decoder.held_bytes(),
        }
    }

    /// Takes the next bytes of the stream, unmasks them in place and calls `handle` for each message that they
    /// complete, in order. It ends at a close frame, at [`Flow::Stop`] and at an error; all bytes after that, in this
    /// call and later ones, are ignored. `inflater`: none if no compression was agreed on, the same in all calls.
    ///
    /// # Errors
    /// Why the connection must be closed, at the first byte that shows it; messages completed
    /// before that byte have been handled.
    pub fn read(
        &mut self,
        bytes: &mut [u8],
        limits: &MessageLimits,
        inflater: Option<&mut Inflater>,
        handle: &mut dyn FnMut(Message<'_>) -> Flow,
    ) -> Result<(), CloseReason> {
        // The state stays `Closed` unless it is set below, so an early return needs no care.
        let mut decoder = match mem::replace(&mut self.state, State::Closed) {
            State::Idle => Decoder::default(),
            State::Incomplete(decoder) => *decoder,
            State::Closed => return Ok(()),
        };
        if decoder.read(bytes, limits, inflater, handle)? == Flow::Continue {
            self.state = if decoder.is_idle() { State::Idle } else { State::Incomplete(Box::new(decoder)) };
        }
        Ok(())
    }
}

/// The position in the stream: in a header (`frame` is none), in a payload, and perhaps inside a message.
#[derive(Debug, Default)]
struct Decoder {
    header: HeaderReader,
    frame: Option<Frame>,
    message: Option<Assembly>,
    /// Payload so far of a control frame that came in several reads; at most 125 bytes.
    control: Vec<u8>,
}

impl Decoder {
    fn held_bytes(&self) -> usize {
        self.control.capacity() + self.message.as_ref().map_or(0, |message| message.payload.held_bytes())
    }

    fn is_idle(&self) -> bool {
        self.frame.is_none() && self.message.is_none() && self.header.is_empty()
    }

    /// What the next frame may be, and how long.
    fn room(&self, limits: &MessageLimits, may_compress: bool) -> Room {
        let MessageLimits { message_bytes_max, fragments_max } = *limits;
        let room = Room {
            is_inside: false,
            fragments: fragments_max,
            bytes: message_bytes_max,
            deflated_bytes: may_compress.then(|| deflated_bytes_max(message_bytes_max)),
        };
        match &self.message {
            None => room,
            Some(message) => Room {
                is_inside: true,
                fragments: fragments_max.saturating_sub(message.fragments),
                bytes: match &message.payload {
                    Payload::Plain(bytes) => message_bytes_max.saturating_sub(bytes.len()),
                    Payload::Compressed(inflating) => {
                        deflated_bytes_max(message_bytes_max).saturating_sub(inflating.taken())
                    }
                },
                deflated_bytes: None,
            },
        }
    }

    fn read(
        &mut self,
        bytes: &mut [u8],
        limits: &MessageLimits,
        mut inflater: Option<&mut Inflater>,
        handle: &mut dyn FnMut(Message<'_>) -> Flow,
    ) -> Result<Flow, CloseReason> {
        let mut rest = bytes;
        loop {
            if self.frame.is_none() {
                let Some((byte, tail)) = rest.split_first_mut() else {
                    return Ok(Flow::Continue);
                };
                rest = tail;
                let header = self.header.push(*byte, self.room(limits, inflater.is_some()))?;
                self.frame = header.map(|header| Frame { header, received: 0 });
            }
            let Some(frame) = &mut self.frame else {
                continue;
            };
            if rest.is_empty() && !frame.is_complete() {
                return Ok(Flow::Continue);
            }
            let length = rest.len().min(frame.header.length - frame.received);
            let (payload, tail) = mem::take(&mut rest).split_at_mut(length);
            rest = tail;
            unmask(payload, frame.header.mask, frame.received);
            frame.received += length;
            let frame = *frame;
            if frame.is_complete() {
                self.frame = None;
            }
            let flow = if is_control(frame.header.opcode) {
                self.handle_control(&frame, payload, handle)?
            } else {
                self.handle_data(&frame, payload, limits, inflater.as_deref_mut(), handle)?
            };
            if flow == Flow::Stop {
                return Ok(Flow::Stop);
            }
        }
    }

    /// The next `payload` bytes of a control frame have arrived, perhaps the last ones.
    fn handle_control(
        &mut self,
        frame: &Frame,
        payload: &[u8],
        handle: &mut dyn FnMut(Message<'_>) -> Flow,
    ) -> Result<Flow, CloseReason> {
        let opcode = frame.header.opcode;
        if payload.len() == frame.header.length {
            return deliver_control(opcode, payload, handle);
        }
        self.control.extend_from_slice(payload);
        if frame.is_complete() {
            return deliver_control(opcode, &mem::take(&mut self.control), handle);
        }
        if opcode == CLOSE {
            check_close(&self.control)?;
        }
        Ok(Flow::Continue)
    }

    /// The next `payload` bytes of a data frame have arrived, perhaps the last ones.
    fn handle_data(
        &mut self,
        frame: &Frame,
        payload: &[u8],
        limits: &MessageLimits,
        mut inflater: Option<&mut Inflater>,
        handle: &mut dyn FnMut(Message<'_>) -> Flow,
    ) -> Result<Flow, CloseReason> {
        let Header { opcode, is_final, is_compressed, length, .. } = frame.header;
        if self.message.is_none() && is_final && payload.len() == length && !is_compressed {
            return deliver_data(opcode, payload, handle);
        }
        let mut message = match (self.message.take(), &mut inflater) {
            (Some(message), _) => message,
            (None, Some(inflater)) if is_compressed => {
                Assembly::new(opcode, Payload::Compressed(inflater.begin()))
            }
            (None, _) => Assembly::new(opcode, Payload::Plain(Vec::new())),
        };
        message.push(payload, limits.message_bytes_max)?;
        if frame.is_complete() && is_final {
            message.end(limits.message_bytes_max)?;
            let flow = deliver_data(message.opcode, message.payload.bytes(), handle);
            if let (Payload::Compressed(inflating), Some(inflater)) = (message.payload, inflater) {
                inflater.take_back(inflating);
            }
            return flow;
        }
        message.fragments += u32::from(frame.is_complete());
        self.message = Some(message);
        Ok(Flow::Continue)
    }
}

/// A frame whose payload may still be arriving.
#[derive(Clone, Copy, Debug)]
struct Frame {
    header: Header,
    /// Bytes of payload that have arrived; `received <= header.length`.
    received: usize,
}

impl Frame {
    fn is_complete(&self) -> bool {
        self.received == self.header.length
    }
}

/// A data message in several pieces, or a compressed one.
#[derive(Debug)]
struct Assembly {
    /// Text or binary.
    opcode: u8,
    /// Frames that have ended.
    fragments: u32,
    /// `valid_up_to <= payload.bytes().len()`. In a text at most three bytes follow it: the start of one character.
    valid_up_to: usize,
    payload: Payload,
}

/// What has come of a message.
#[derive(Debug)]
enum Payload {
    Plain(Vec<u8>),
    Compressed(Box<Inflating>),
}

impl Payload {
    /// Inflated, as far as that can be.
    fn bytes(&self) -> &[u8] {
        match self {
            Payload::Plain(bytes) => bytes,
            Payload::Compressed(inflating) => inflating.text(),
        }
    }

    fn held_bytes(&self) -> usize {
        match self {
            Payload::Plain(bytes) => bytes.capacity(),
            Payload::Compressed(inflating) => inflating.held_bytes(),
        }
    }
}

impl Assembly {
    fn new(opcode: u8, payload: Payload) -> Self {
        Assembly { opcode, fragments: 0, valid_up_to: 0, payload }
    }

    /// Adds bytes, and fails at the first that cannot be UTF-8 (RFC 6455, 8.1). Each byte is
    /// checked once, but for up to three at the end, so small pieces cost no quadratic work.
    fn push(&mut self, bytes: &[u8], message_bytes_max: usize) -> Result<(), CloseReason> {
        let pushed = match &mut self.payload {
            Payload::Plain(payload) => {
                reserve(payload, bytes.len(), message_bytes_max);
                payload.extend_from_slice(bytes);
                Ok(())
            }
            Payload::Compressed(inflating) => inflating.push(bytes, message_bytes_max),
        };
        // What is wrong in the text came before what is wrong behind it.
        self.check_text()?;
        pushed
    }

    /// All of it has come. That a text ends within a character shows when it is delivered.
    fn end(&mut self, message_bytes_max: usize) -> Result<(), CloseReason> {
        match &mut self.payload {
            Payload::Plain(_) => Ok(()),
            Payload::Compressed(inflating) => {
                let ended = inflating.end(message_bytes_max);
                self.check_text()?;
                ended
            }
        }
    }

    fn check_text(&mut self) -> Result<(), CloseReason> {
        if self.opcode == TEXT {
            self.valid_up_to += valid_prefix(&self.payload.bytes()[self.valid_up_to..])?;
        }
        Ok(())
    }
}

/// Grows with what has arrived, not with what the header announces. It doubles, but not beyond the limit.
fn reserve(payload: &mut Vec<u8>, additional: usize, message_bytes_max: usize) {
    let needed = payload.len() + additional;
    if needed > payload.capacity() {
        let doubled = (2 * payload.capacity()).min(message_bytes_max);
        payload.reserve_exact(doubled.max(needed) - payload.len());
    }
}

/// Unmasks bytes (RFC 6455, 5.3); `received` payload bytes of the frame came before these.
fn unmask(payload: &mut [u8], mut mask: [u8; 4], received: usize) {
    mask.rotate_left(received % 4);
    let word = u64::from_ne_bytes([mask[0], mask[1], mask[2], mask[3], mask[0], mask[1], mask[2], mask[3]]);
    let (chunks, tail) = payload.as_chunks_mut::<8>();
    for chunk in chunks {
        *chunk = (u64::from_ne_bytes(*chunk) ^ word).to_ne_bytes();
    }
    for (byte, key) in tail.iter_mut().zip(mask.into_iter().cycle()) {
        *byte ^= key;
    }
}

/// Counts the bytes at the front that are whole valid characters. The rest, at most three bytes, may still become a
/// character; if it cannot, that is an error.
fn valid_prefix(bytes: &[u8]) -> Result<usize, CloseReason> {
    match simdutf8::compat::from_utf8(bytes) {
        Ok(text) => Ok(text.len()),
        Err(error) if error.error_len().is_none() => Ok(error.valid_up_to()),
        Err(_) => Err(CloseReason::BadUtf8),
    }
}

fn deliver_data(
    opcode: u8,
    payload: &[u8],
    handle: &mut dyn FnMut(Message<'_>) -> Flow,
) -> Result<Flow, CloseReason> {
    if opcode != TEXT {
        return Ok(handle(Message::Binary(payload)));
    }
    match simdutf8::basic::from_utf8(payload) {
        Ok(text) => Ok(handle(Message::Text(text))),
        Err(_) => Err(CloseReason::BadUtf8),
    }
}

fn deliver_control(
    opcode: u8,
    payload: &[u8],
    handle: &mut dyn FnMut(Message<'_>) -> Flow,
) -> Result<Flow, CloseReason> {
    match opcode {
        PING => Ok(handle(Message::Ping(payload))),
        PONG => Ok(handle(Message::Pong(payload))),
        _ => {
            let code = check_close(payload)?;
            let reason = payload.get(size_of::<u16>()..).unwrap_or_default();
            if valid_prefix(reason)? < reason.len() {
                return Err(CloseReason::BadUtf8);
            }
            handle(Message::Close(code));
            Ok(Flow::Stop)
        }
    }
}

/// The code of a close body. The body may be incomplete, but so far nothing in it may be wrong (RFC 6455, 5.5.1).
fn check_close(body: &[u8]) -> Result<Option<u16>, CloseReason> {
    let Some((code, reason)) = body.split_first_chunk() else {
        return Ok(None);
    };
    let code = u16::from_be_bytes(*code);
    if !is_close_code(code) {
        return Err(CloseReason::ProtocolError);
    }
    valid_prefix(reason)?;
    Ok(Some(code))
}

/// Whether a close frame may carry this code: RFC 6455, 7.4.1 and 7.4.2, and IANA's registry of
/// close codes, which has 1012 to 1014.
fn is_close_code(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

#[cfg(test)]
mod tests {
    use super::{Decoder, Flow, MessageLimits, MessageReader, is_close_code, unmask};
    use crate::close::CloseReason;
    use crate::wire::frame::{BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT};
    use crate::wire::inflate::Inflater;
    use fastrand::Rng;
    use tungstenite::protocol::frame::coding::CloseCode;

    const LIMITS: MessageLimits = MessageLimits { message_bytes_max: 300, fragments_max: 8 };
    const FIN: u8 = 0x80;

    /// The result of a stream: its messages as text, and the verdict.
    type Outcome = (Vec<String>, Result<(), CloseReason>);

    fn read_pieces<'a>(
        limits: &MessageLimits,
        mut inflater: Option<&mut Inflater>,
        pieces: impl Iterator<Item = &'a [u8]>,
    ) -> Outcome {
        let mut reader = MessageReader::new();
        let mut messages = Vec::new();
        for piece in pieces {
            let mut piece = piece.to_vec();
            let verdict = reader.read(&mut piece, limits, inflater.as_deref_mut(), &mut |message| {
                messages.push(format!("{message:?}"));
                Flow::Continue
            });
            if verdict.is_err() {
                return (messages, verdict);
            }
        }
        (messages, Ok(()))
    }

    fn read(stream: &[u8]) -> Outcome {
        let whole = read_pieces(&LIMITS, None, [stream].into_iter());
        assert_eq!(read_pieces(&LIMITS, None, stream.chunks(1)), whole, "{stream:02x?}");
        whole
    }

    /// Asserts that the stream fails with this reason, at its last byte and no earlier.
    fn assert_fails_at_end(stream: &[u8], reason: CloseReason) {
        assert_eq!(read(stream).1, Err(reason), "{stream:02x?}");
        let shorter = &stream[..stream.len() - 1];
        assert_eq!(read(shorter).1, Ok(()), "{stream:02x?}");
    }

    /// A masked frame with the length in the fewest bytes.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut out = vec![first];
        match payload.len() {
            length @ 0..=125 => out.push(0x80 | length as u8),
            length @ 126..=0xFFFF => {
                out.push(0x80 | 126);
                out.extend_from_slice(&(length as u16).to_be_bytes());
            }
            length => {
                out.push(0x80 | 127);
                out.extend_from_slice(&(length as u64).to_be_bytes());
            }
        }
        let mask = [0x37, 0xFA, 0x21, 0x3D];
        out.extend_from_slice(&mask);
        out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
        out
    }

    #[test]
    fn reader_is_small_and_idle_without_heap() {
        assert!(size_of::<MessageReader>() <= 16);
        assert!(size_of::<Decoder>() <= 160, "{}", size_of::<Decoder>());
        assert_eq!(MessageReader::new().held_bytes(), 0);
    }

    #[test]
    fn the_rfc_examples_are_read() {
        // RFC 6455, 5.7.
        let (messages, verdict) = read(b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58");
        assert_eq!((messages, verdict), (vec!["Text(\"Hello\")".to_owned()], Ok(())));
        let (messages, verdict) = read(b"\x8a\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58");
        assert_eq!((messages, verdict), (vec!["Pong([72, 101, 108, 108, 111])".to_owned()], Ok(())));
    }

    #[test]
    fn control_frames_may_come_between_fragments() {
        let stream = [
            frame(TEXT, b"on"),
            frame(FIN | PING, b"a"),
            frame(CONTINUATION, b""),
            frame(FIN | PONG, b""),
            frame(FIN | CONTINUATION, b"e"),
            frame(FIN | BINARY, b"\xFF"),
        ];
        let (messages, verdict) = read(&stream.concat());
        assert_eq!(messages, ["Ping([97])", "Pong([])", "Text(\"one\")", "Binary([255])"]);
        assert_eq!(verdict, Ok(()));
    }

    #[test]
    fn the_first_header_byte_is_judged_at_once() {
        for first in 0..=255_u8 {
            let is_good = matches!(first, 0x01 | 0x02 | 0x81 | 0x82 | 0x88 | 0x89 | 0x8A);
            let expected = if is_good { Ok(()) } else { Err(CloseReason::ProtocolError) };
            assert_eq!(read(&[first]).1, expected, "{first:02x}");
        }
        for first in [TEXT, BINARY, FIN | TEXT, FIN | BINARY] {
            let stream = [frame(TEXT, b"a"), vec![first]].concat();
            assert_fails_at_end(&stream, CloseReason::ProtocolError);
        }
    }

    #[test]
    fn faults_of_the_length_are_seen_at_their_byte() {
        let protocol: [&[u8]; 8] = [
            b"\x81\x05",
            b"\x89\xFE",
            b"\x89\xFF",
            b"\x88\x81",
            b"\x81\xFE\x00\x7D",
            b"\x81\xFF\x80",
            b"\x81\xFF\x00\x00\x00\x00\x00\x00",
            b"\x01\x00",
        ];
        for stream in protocol {
            assert_fails_at_end(stream, CloseReason::ProtocolError);
        }
        let too_big: [&[u8]; 5] = [
            b"\x81\xFE\x01\x2D",
            b"\x81\xFE\x02",
            b"\x81\xFF\x7F",
            b"\x81\xFF\x00\x00\x00\x00\x00\x01",
            b"\x82\xFF\x00\x01",
        ];
        for stream in too_big {
            assert_fails_at_end(stream, CloseReason::TooBig);
        }
        assert_eq!(read(b"\x81\xFE\x01\x2C\x00\x00\x00\x00").1, Ok(()));
        assert_eq!(read(b"\x81\xFE\x00\x7E").1, Ok(()));
    }

    #[test]
    fn the_sum_of_fragments_is_bounded_by_the_header() {
        let start = [frame(BINARY, &[0; 200]), frame(FIN | PING, &[0; 125])].concat();
        let good = [start.clone(), frame(FIN | CONTINUATION, &[0; 100])].concat();
        assert_eq!(read(&good).1, Ok(()));
        assert_fails_at_end(&[start.as_slice(), b"\x80\xE5"].concat(), CloseReason::TooBig);
        assert_fails_at_end(&[start.as_slice(), b"\x80\xFE\x01"].concat(), CloseReason::TooBig);
    }

    #[test]
    fn an_announced_length_reserves_nothing() {
        let limits = MessageLimits { message_bytes_max: 1 << 30, fragments_max: 8 };
        let mut reader = MessageReader::new();
        let mut bytes = *b"\x82\xFF\x00\x00\x00\x00\x3F\xFF\xFF\xFF\x00\x00\x00\x00ab";
        reader.read(&mut bytes, &limits, None, &mut |_| Flow::Continue).unwrap();
        assert!((1..400).contains(&reader.held_bytes()), "{}", reader.held_bytes());
    }

    #[test]
    fn held_bytes_stay_within_the_limit_and_are_released() {
        let mut reader = MessageReader::new();
        let stream = frame(FIN | TEXT, &[b'a'; 300]);
        for (place, byte) in stream.iter().enumerate() {
            reader.read(&mut [*byte], &LIMITS, None, &mut |_| Flow::Continue).unwrap();
            let is_complete = place + 1 == stream.len();
            assert_eq!(reader.held_bytes() == 0, is_complete);
            assert!(reader.held_bytes() <= 300 + size_of::<Decoder>());
        }
    }

    #[test]
    fn fragments_are_bounded() {
        let mut stream = frame(TEXT, b"");
        for _ in 1..LIMITS.fragments_max {
            stream.extend(frame(CONTINUATION, b""));
            stream.extend(frame(FIN | PING, b""));
        }
        assert_eq!(read(&stream).1, Ok(()));
        stream.push(FIN | CONTINUATION);
        assert_fails_at_end(&stream, CloseReason::Fragments);
        let mut stream = frame(TEXT, b"");
        for _ in 2..LIMITS.fragments_max {
            stream.extend(frame(CONTINUATION, b"a"));
        }
        stream.extend(frame(FIN | CONTINUATION, b"b"));
        stream.extend(frame(TEXT, b""));
        assert_eq!(read(&stream), (vec!["Text(\"aaaaaab\")".to_owned()], Ok(())));
    }

    /// The frame up to and including payload byte `count`.
    fn truncated(frame: &[u8], count: usize) -> &[u8] {
        &frame[..6 + count]
    }

    #[test]
    fn bad_utf8_is_seen_at_its_first_byte() {
        // Payload, and how many of its bytes are needed to know.
        let cases: [(&[u8], usize); 8] = [
            (b"a\xFFbc", 2),
            (b"ab\x80c", 3),
            (b"\xC0\xAF", 1),
            (b"\xE0\x80\x80", 2),
            (b"\xED\xA0\x80", 2),
            (b"\xF4\x90\x80\x80", 2),
            (b"\xF8\x88\x80\x80\x80", 1),
            (b"\xCE\xBAx\xE1\xBDx", 6),
        ];
        for (payload, count) in cases {
            for first in [TEXT, FIN | TEXT] {
                assert_fails_at_end(truncated(&frame(first, payload), count), CloseReason::BadUtf8);
            }
            // One byte a fragment: the first bad byte ends it as well.
            let mut stream = frame(TEXT, b"");
            for byte in &payload[..count] {
                stream.extend(frame(CONTINUATION, &[*byte]));
            }
            assert_fails_at_end(&stream, CloseReason::BadUtf8);
        }
    }

    #[test]
    fn characters_may_be_split_but_not_cut_off() {
        let good =
            [frame(TEXT, b"\xF0\x9F"), frame(CONTINUATION, b"\x92"), frame(FIN | CONTINUATION, b"\xA9")];
        assert_eq!(read(&good.concat()), (vec!["Text(\"💩\")".to_owned()], Ok(())));
        let cut_off = [frame(TEXT, b"a\xF0\x9F"), frame(FIN | CONTINUATION, b"\x92")].concat();
        assert_fails_at_end(&cut_off, CloseReason::BadUtf8);
        assert_fails_at_end(&frame(FIN | TEXT, b"a\xE2\x82"), CloseReason::BadUtf8);
    }

    #[test]
    fn close_bodies_are_judged() {
        assert_eq!(read(&frame(FIN | CLOSE, b"")).0, ["Close(None)"]);
        assert_eq!(read(&frame(FIN | CLOSE, b"\x03\xE8")).0, ["Close(Some(1000))"]);
        assert_eq!(read(&frame(FIN | CLOSE, b"\x0F\xA0b\xC3\xA4")).0, ["Close(Some(4000))"]);
        let bad_code = frame(FIN | CLOSE, b"\x03\xEDreason");
        assert_fails_at_end(truncated(&bad_code, 2), CloseReason::ProtocolError);
        let bad_reason = frame(FIN | CLOSE, b"\x03\xE8a\xFFb");
        assert_fails_at_end(truncated(&bad_reason, 4), CloseReason::BadUtf8);
        assert_fails_at_end(&frame(FIN | CLOSE, b"\x03\xE8a\xE2\x82"), CloseReason::BadUtf8);
    }

    #[test]
    fn close_codes_are_those_of_the_registry() {
        for code in 0..=u16::MAX {
            let is_bad = matches!(code, 0..=999 | 1004..=1006 | 1015..=2999 | 5000..);
            assert_eq!(is_close_code(code), !is_bad, "{code}");
            if code != 1014 {
                assert_eq!(is_close_code(code), CloseCode::from(code).is_allowed(), "{code}");
            }
        }
    }

    #[test]
    fn everything_after_the_end_is_ignored() {
        let close = frame(FIN | CLOSE, b"\x03\xE8");
        let stream = [close.as_slice(), b"\xFF\xFF garbage", &close].concat();
        assert_eq!(read(&stream), (vec!["Close(Some(1000))".to_owned()], Ok(())));

        let mut reader = MessageReader::new();
        let mut handled = 0;
        for _ in 0..2 {
            let mut stream = [frame(FIN | TEXT, b"a"), frame(FIN | TEXT, b"b")].concat();
            let verdict = reader.read(&mut stream, &LIMITS, None, &mut |_| {
                handled += 1;
                Flow::Stop
            });
            assert_eq!((verdict, handled), (Ok(()), 1));
        }

        let mut reader = MessageReader::new();
        let mut read = |bytes: &mut [u8]| reader.read(bytes, &LIMITS, None, &mut |_| Flow::Continue);
        assert_eq!(read(&mut [0xFF]), Err(CloseReason::ProtocolError));
        assert_eq!(read(&mut [0xFF]), Ok(()));
    }

    #[test]
    fn unmasking_equals_the_definition() {
        let mask = [1, 20, 130, 255];
        for received in 0..9 {
            for length in 0..40 {
                let plain: Vec<u8> = (0..length as u8).collect();
                let mut bytes = plain.clone();
                unmask(&mut bytes, mask, received);
                for (place, byte) in bytes.iter().enumerate() {
                    assert_eq!(*byte, plain[place] ^ mask[(place + received) % 4]);
                }
            }
        }
    }

    fn payload(random: &mut Rng, length: usize) -> Vec<u8> {
        let text: Vec<u8> = "aä€💩".bytes().cycle().skip(random.usize(..10)).take(length).collect();
        match random.usize(..3) {
            0 => (0..length).map(|_| random.u8(..)).collect(),
            1 => text,
            _ => vec![b'x'; length],
        }
    }

    /// Frames that are mostly valid, at times with one byte changed.
    fn stream(random: &mut Rng) -> Vec<u8> {
        let mut stream = Vec::new();
        let mut is_inside = false;
        for _ in 0..1 + random.usize(..6) {
            let fin = [0, FIN][random.usize(..2)];
            let length = [0, 1, 2, 3, 7, 20, 124, 125, 126, 130, 299, 300, 301][random.usize(..13)];
            let (first, length) = match random.usize(..8) {
                0 => (FIN | PING, length.min(125)),
                1 => (FIN | PONG, length.min(125)),
                _ if is_inside => (fin | CONTINUATION, length),
                2..=5 => (fin | TEXT, length),
                6 => (fin | BINARY, length),
                _ => (FIN | CLOSE, length.min(125)),
            };
            let mut payload = payload(random, length);
            if first == FIN | CLOSE && length >= 2 && random.usize(..4) > 0 {
                payload[..2].copy_from_slice(&[3, 0xE8]);
            }
            if first & 0x08 == 0 {
                is_inside = first & FIN == 0;
            }
            stream.extend(frame(first, &payload));
        }
        if random.usize(..3) == 0 {
            let place = random.usize(..stream.len());
            stream[place] = random.u8(..);
        }
        stream
    }

    #[test]
    fn every_split_of_a_stream_gives_the_same_result() {
        let mut failures = 0;
        for seed in 0..1000 {
            let mut random = Rng::with_seed(seed);
            let stream = stream(&mut random);
            let whole = read(&stream);
            failures += usize::from(whole.1.is_err());
            for place in 0..=stream.len() {
                let (front, back) = stream.split_at(place);
                assert_eq!(
                    read_pieces(&LIMITS, None, [front, back].into_iter()),
                    whole,
                    "seed {seed}, split {place}"
                );
            }
            for _ in 0..10 {
                let mut places: Vec<usize> = (0..4).map(|_| random.usize(..stream.len() + 1)).collect();
                places.extend([0, stream.len()]);
                places.sort_unstable();
                let pieces = places.windows(2).map(|pair| &stream[pair[0]..pair[1]]);
                assert_eq!(read_pieces(&LIMITS, None, pieces), whole, "seed {seed}, splits {places:?}");
            }
        }
        // Both kinds of stream must be common, or the test says little.
        assert!((200..800).contains(&failures), "{failures}");
    }

    /// A compressed "Hello" in two pieces (RFC 7692, 7.2.3.1).
    const HELLO: [&[u8]; 2] = [b"\xF2\x48\xCD", b"\xC9\xC9\x07\x00"];
    const RSV1: u8 = 0x40;

    fn read_agreed(stream: &[u8]) -> Outcome {
        let mut inflater = Inflater::default();
        let whole = read_pieces(&LIMITS, Some(&mut inflater), [stream].into_iter());
        assert_eq!(read_pieces(&LIMITS, Some(&mut inflater), stream.chunks(1)), whole, "{stream:02x?}");
        whole
    }

    #[test]
    fn compressed_messages_stand_among_plain_ones() {
        let stream = [
            frame(FIN | RSV1 | TEXT, &HELLO.concat()),
            frame(FIN | TEXT, b"plain"),
            frame(RSV1 | TEXT, HELLO[0]),
            frame(FIN | PING, b"a"),
            frame(CONTINUATION, b""),
            frame(FIN | CONTINUATION, HELLO[1]),
            frame(TEXT, b"pl"),
            frame(FIN | CONTINUATION, b"ain"),
            frame(FIN | RSV1 | BINARY, b"\x00"),
            frame(FIN | RSV1 | TEXT, b""),
        ];
        let (messages, verdict) = read_agreed(&stream.concat());
        let text = |text: &str| format!("Text({text:?})");
        let hello = text("Hello");
        let plain = text("plain");
        let expected =
            [&*hello, &*plain, "Ping([97])", &*hello, &*plain, "Binary([])", "Text(\"\")"].map(str::to_owned);
        assert_eq!((messages, verdict), (expected.to_vec(), Ok(())));
        assert_eq!(read(&stream[0]).1, Err(CloseReason::ProtocolError), "without agreement");
    }

    #[test]
    fn faults_of_compressed_messages_have_their_reasons() {
        let begun = frame(RSV1 | TEXT, HELLO[0]);
        let rows: [(&str, Vec<u8>, CloseReason); 11] = [
            ("RSV1 on a continuation", [&begun[..], &[0xC0]].concat(), CloseReason::ProtocolError),
            ("RSV1 on a ping", vec![0xC9], CloseReason::ProtocolError),
            ("RSV1 on a close", vec![0xC8], CloseReason::ProtocolError),
            ("RSV2", vec![0xA1], CloseReason::ProtocolError),
            ("RSV1 and RSV3", vec![0xD1], CloseReason::ProtocolError),
            ("new data inside", [&begun[..], &[0xC1]].concat(), CloseReason::ProtocolError),
            ("garbage", frame(RSV1 | TEXT, b"\xFF"), CloseReason::BadDeflate),
            ("cut off", frame(FIN | RSV1 | TEXT, HELLO[0]), CloseReason::BadDeflate),
            // "a" and 0xFF, stored.
            ("not UTF-8", frame(RSV1 | TEXT, b"\x00\x02\x00\xFD\xFFa\xFF"), CloseReason::BadUtf8),
            (
                "half a character",
                frame(FIN | RSV1 | TEXT, b"\x00\x01\x00\xFE\xFF\xC3\x00"),
                CloseReason::BadUtf8,
            ),
            ("compressed bytes over their bound", vec![0xC1, 0xFE, 0x01, 0x92], CloseReason::TooBig),
        ];
        for (what, stream, reason) in rows {
            assert_eq!(read_agreed(&stream).1, Err(reason), "{what}");
        }
        assert_eq!(read_agreed(&[0xC1, 0xFE, 0x01, 0x91]).1, Ok(()));
        let bomb = deflated(&[b'x'; 301]);
        assert!(bomb.len() < 30);
        assert_eq!(read_agreed(&frame(FIN | RSV1 | TEXT, &bomb)).1, Err(CloseReason::TooBig));
        assert_eq!(read_agreed(&frame(RSV1 | TEXT, &bomb)).1, Err(CloseReason::TooBig));
        assert_eq!(read_agreed(&frame(FIN | RSV1 | TEXT, &deflated(&[b'x'; 300]))).1, Ok(()));
    }

    fn deflated(text: &[u8]) -> Vec<u8> {
        let mut deflate = zlib_rs::Deflate::new(6, false, 15);
        let mut out = vec![0; text.len() + 100];
        deflate.compress(text, &mut out, zlib_rs::DeflateFlush::SyncFlush).unwrap();
        out.truncate(deflate.total_out() as usize - 4);
        out
    }

    #[test]
    fn two_half_messages_of_one_thread_do_not_meet() {
        let mut inflater = Inflater::default();
        let mut readers = [MessageReader::new(), MessageReader::new()];
        let texts = [[b'a'; 200], [b'b'; 200]];
        let messages = texts.map(|text| frame(FIN | RSV1 | TEXT, &deflated(&text)));
        let mut got = Vec::new();
        for place in 0..messages[0].len() {
            for (reader, message) in readers.iter_mut().zip(&messages) {
                let verdict =
                    reader.read(&mut [message[place]], &LIMITS, Some(&mut inflater), &mut |message| {
                        got.push(format!("{message:?}"));
                        Flow::Continue
                    });
                assert_eq!(verdict, Ok(()));
                let is_complete = place + 1 == message.len();
                assert!(!is_complete || reader.held_bytes() == 0, "an idle connection holds nothing");
            }
        }
        assert_eq!(got, texts.map(|text| format!("Text({:?})", str::from_utf8(&text).unwrap())));
    }
}
