//! How messages stand on a watcher's connection: the bytes around each event of the load, which have the same length in
//! every message, so that a stream can be checked where it was read. Whatever else comes is read by its own length.

use clap::ValueEnum;
use memchr::{memchr, memmem};

use crate::wire::{DIGITS, HEADER_BYTES, Shape, frame_of, seq_digits};

/// What a watcher speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Transport {
    #[default]
    #[value(name = "websocket")]
    WebSocket,
    /// WebSocket with permessage-deflate, which `--deflate` puts beside the other.
    #[value(skip)]
    Deflate,
    /// Server-Sent Events.
    Sse,
    /// A JSON text in each line.
    Ndjson,
}

impl Transport {
    /// For people.
    pub fn title(self) -> &'static str {
        match self {
            Transport::WebSocket => "WebSocket",
            Transport::Deflate => "deflate",
            Transport::Sse => "SSE",
            Transport::Ndjson => "NDJSON",
        }
    }

    /// What a request over plain HTTP asks for.
    pub fn media_type(self) -> Option<&'static str> {
        match self {
            Transport::WebSocket | Transport::Deflate => None,
            Transport::Sse => Some("text/event-stream"),
            Transport::Ndjson => Some("application/x-ndjson"),
        }
    }
}

/// A message at the start of some bytes: its text, and the length of the whole.
type Found<'a> = Option<(&'a [u8], usize)>;

pub trait Layout {
    /// A whole message that stands as an event of the load does.
    fn event<'a>(&self, bytes: &'a [u8]) -> Found<'a>;

    /// Any whole message.
    ///
    /// # Errors
    /// What no server may send.
    fn other<'a>(&self, bytes: &'a [u8]) -> Result<Found<'a>, String>;
}

/// WebSocket frames.
pub struct Frames {
    pub shape: Shape,
}

/// The chunks of luxcast's answers, one for each message.
pub struct Chunks {
    payload_bytes: usize,
    /// The chunk's length, and what follows it up to the number of an SSE.
    head: Vec<u8>,
    is_sse: bool,
    /// Behind the payload.
    end: &'static [u8],
}

/// Server-Sent Events of other servers, with ids of any length, in an answer without chunks.
pub struct Events {
    payload_bytes: usize,
}

pub enum AnyLayout {
    Frames(Frames),
    /// Of which those of events may be compressed, and whether the server is luxcast.
    Compressed(Frames, bool),
    Chunks(Chunks),
    Events(Events),
}

/// The first byte of a text in one compressed frame.
const COMPRESSED: u8 = 0xc1;
const DATA: &[u8] = b"data: ";
const BEFORE_DATA: &[u8] = b"\ndata: ";
const EVENT_END: &[u8] = b"\n\n";
/// What browsers offer.
pub const OFFER: &str = "permessage-deflate; client_max_window_bits";
/// What luxcast answers to that.
const ANSWER: &[u8] = b"permessage-deflate; client_no_context_takeover";
/// More than the digits of any chunk's length.
const LENGTH_BYTES_MAX: usize = 10;

impl AnyLayout {
    /// Of luxcast's answers, or of another server's.
    pub fn new(transport: Transport, is_luxcast: bool, shape: Shape) -> Self {
        match transport {
            Transport::WebSocket => AnyLayout::Frames(Frames { shape }),
            Transport::Deflate => AnyLayout::Compressed(Frames { shape }, is_luxcast),
            Transport::Sse if !is_luxcast => {
                AnyLayout::Events(Events { payload_bytes: shape.payload_bytes() })
            }
            _ => AnyLayout::Chunks(Chunks::new(transport == Transport::Sse, shape.payload_bytes())),
        }
    }

    /// Checks the head of the answer that lets a watcher in, with its blank line.
    pub fn admits(&self, head: &[u8]) -> bool {
        let mut fields = [httparse::EMPTY_HEADER; 32];
        let mut answer = httparse::Response::new(&mut fields);
        if answer.parse(head).is_err() {
            return false;
        }
        let field = |name: &str| {
            let mut fields = answer.headers.iter();
            fields.find(|field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
        };
        let media = field("content-type").unwrap_or_default();
        let is_chunked =
            field("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case(b"chunked"));
        let agreed = field("sec-websocket-extensions");
        match self {
            // What was not offered must not be agreed to.
            AnyLayout::Frames(_) => answer.code == Some(101) && agreed.is_none(),
            AnyLayout::Compressed(_, true) => answer.code == Some(101) && agreed == Some(ANSWER),
            AnyLayout::Compressed(..) => {
                answer.code == Some(101)
                    && agreed.is_some_and(|agreed| {
                        agreed.split(|byte| *byte == b';').next() == Some(b"permessage-deflate")
                    })
            }
            AnyLayout::Chunks(chunks) => {
                let wanted = if chunks.is_sse { Transport::Sse } else { Transport::Ndjson }.media_type();
                answer.code == Some(200) && is_chunked && Some(media) == wanted.map(str::as_bytes)
            }
            AnyLayout::Events(_) => {
                answer.code == Some(200) && !is_chunked && media.starts_with(b"text/event-stream")
            }
        }
    }
}

impl Frames {
    /// A whole compressed message: what is in it, and the length of its frame.
    pub fn compressed<'a>(&self, bytes: &'a [u8]) -> Found<'a> {
        let (length, start) = frame_of(bytes).filter(|_| bytes[0] == COMPRESSED)?;
        Some((bytes.get(start..length)?, length))
    }
}

impl Layout for Frames {
    fn event<'a>(&self, bytes: &'a [u8]) -> Found<'a> {
        let whole = bytes.get(..self.shape.frame_bytes)?;
        (whole[..HEADER_BYTES] == self.shape.header()).then_some((&whole[HEADER_BYTES..], whole.len()))
    }

    fn other<'a>(&self, bytes: &'a [u8]) -> Result<Found<'a>, String> {
        let Some((length, start)) = frame_of(bytes).filter(|(length, _)| *length <= bytes.len()) else {
            return Ok(None);
        };
        // Pings and closes have no text for the load.
        let text = if bytes[0] == 0x81 { &bytes[start..length] } else { &[] };
        Ok(Some((text, length)))
    }
}

impl Chunks {
    fn new(is_sse: bool, payload_bytes: usize) -> Self {
        let before = if is_sse { b"id: ".len() + DIGITS + BEFORE_DATA.len() } else { 0 };
        let end: &[u8] = if is_sse { b"\n\n\r\n" } else { b"\n\r\n" };
        let length = before + payload_bytes + end.len() - b"\r\n".len();
        let id = if is_sse { "id: " } else { "" };
        Self { payload_bytes, head: format!("{length:x}\r\n{id}").into_bytes(), is_sse, end }
    }
}

impl Layout for Chunks {
    fn event<'a>(&self, bytes: &'a [u8]) -> Found<'a> {
        let id_at = self.head.len();
        let text_at = if self.is_sse { id_at + DIGITS + BEFORE_DATA.len() } else { id_at };
        let whole = bytes.get(..text_at + self.payload_bytes + self.end.len())?;
        let (before, rest) = whole.split_at(text_at);
        let (text, end) = rest.split_at(self.payload_bytes);
        let has_its_id = || {
            let (id, between) = before[id_at..].split_at(DIGITS);
            id == seq_digits(text) && between == BEFORE_DATA
        };
        let is_event = before.starts_with(&self.head) && end == self.end && (!self.is_sse || has_its_id());
        is_event.then_some((text, whole.len()))
    }

    fn other<'a>(&self, bytes: &'a [u8]) -> Result<Found<'a>, String> {
        let said = &bytes[..bytes.len().min(LENGTH_BYTES_MAX)];
        let wrong = || {
            format!("not a chunk of one message: {}", String::from_utf8_lossy(&bytes[..bytes.len().min(80)]))
        };
        let Some(line) = memchr(b'\n', said) else {
            return if bytes.len() < LENGTH_BYTES_MAX { Ok(None) } else { Err(wrong()) };
        };
        let digits = said[..line].strip_suffix(b"\r").and_then(|digits| str::from_utf8(digits).ok());
        let length = digits.and_then(|digits| usize::from_str_radix(digits, 16).ok()).ok_or_else(wrong)?;
        let start = line + 1;
        let Some(rest) = bytes.get(start..start + length + 2) else { return Ok(None) };
        let content = rest.strip_suffix(b"\r\n").ok_or_else(wrong)?;
        let text = match self.is_sse {
            // The end of the answer.
            _ if content.is_empty() => content,
            true => {
                let event = content.strip_suffix(EVENT_END).ok_or_else(wrong)?;
                &event[memmem::find(event, DATA).ok_or_else(wrong)? + DATA.len()..]
            }
            false => content.strip_suffix(b"\n").ok_or_else(wrong)?,
        };
        if memchr(b'\n', text).is_some() {
            return Err(wrong());
        }
        Ok(Some((text, start + length + 2)))
    }
}

impl Layout for Events {
    fn event<'a>(&self, bytes: &'a [u8]) -> Found<'a> {
        let mut start = 0;
        while !bytes[start..].starts_with(DATA) {
            match memchr(b'\n', &bytes[start..])? {
                0 => return None,
                length => start += length + 1,
            }
        }
        start += DATA.len();
        let text = bytes.get(start..start + self.payload_bytes)?;
        let rest = &bytes[start + self.payload_bytes..];
        rest.starts_with(EVENT_END).then_some((text, start + self.payload_bytes + EVENT_END.len()))
    }

    fn other<'a>(&self, bytes: &'a [u8]) -> Result<Found<'a>, String> {
        let Some(end) = memmem::find(bytes, EVENT_END) else { return Ok(None) };
        Ok(Some((&bytes[..end], end + EVENT_END.len())))
    }
}

#[cfg(test)]
mod tests {
    use super::{AnyLayout, Chunks, Events, Layout, Transport};
    use crate::wire::Shape;

    fn payload(shape: &Shape) -> Vec<u8> {
        let mut template = shape.template(3);
        template.set(77);
        let mut payload = Vec::new();
        template.write_payload(&mut payload);
        payload
    }

    #[test]
    fn a_chunk_is_an_event_only_as_a_whole_and_with_its_own_id() {
        let shape = Shape::new(260).expect("260 bytes hold an event");
        let payload = payload(&shape);
        let text = str::from_utf8(&payload).expect("it is text");
        let sse = format!("11d\r\nid: 1000000000000000\ndata: {text}\n\n\r\n");
        let layout = Chunks::new(true, shape.payload_bytes());
        let (found, length) = layout.event(sse.as_bytes()).expect("it is one");
        assert_eq!((found, length), (&payload[..], sse.len()));
        assert_eq!(layout.other(sse.as_bytes()), Ok(Some((&payload[..], sse.len()))));
        for bad in [
            sse.replace("id: 1000000000000000", "id: 1000000000000001"),
            sse.replace("11d\r", "11e\r"),
            sse.replace("\n\n\r\n", "\n\n\n\n"),
            sse[..sse.len() - 1].to_owned(),
        ] {
            assert_eq!(layout.event(bad.as_bytes()), None, "{bad}");
        }
        let line = format!("101\r\n{text}\n\r\n");
        let layout = Chunks::new(false, shape.payload_bytes());
        assert_eq!(layout.event(line.as_bytes()), Some((&payload[..], line.len())));
    }

    #[test]
    fn other_chunks_have_their_text_and_what_is_none_is_an_error() {
        let layout = Chunks::new(true, 256);
        let ping = b"1d\r\nid: 7\ndata: {\"type\":\"ping\"}\n\n\r\n";
        assert_eq!(layout.other(ping), Ok(Some((&b"{\"type\":\"ping\"}"[..], ping.len()))));
        assert_eq!(layout.other(b"0\r\n\r\n"), Ok(Some((&b""[..], 5))));
        assert_eq!(layout.other(&ping[..ping.len() - 1]), Ok(None));
        assert_eq!(layout.other(b"1"), Ok(None));
        for bad in ["x\r\n", "3\r\nabc\r\n", "1\r\naX\n", "12345678901234567890\r\n", "4\n\n\n\n\n\r\n"] {
            assert!(layout.other(bad.as_bytes()).is_err(), "{bad:?}");
        }
        let lines = Chunks::new(false, 256);
        assert_eq!(lines.other(b"3\r\n{}\n\r\n"), Ok(Some((&b"{}"[..], 8))));
        assert!(lines.other(b"5\r\n{}\n{}\r\n").is_err());
    }

    #[test]
    fn events_of_other_servers_have_any_id() {
        let layout = Events { payload_bytes: 4 };
        assert_eq!(layout.event(b"data: {11}\n\nx"), Some((&b"{11}"[..], 12)));
        assert_eq!(layout.event(b"id: 17:0\ndata: {11}\n\n"), Some((&b"{11}"[..], 21)));
        assert_eq!(layout.event(b": hi\n\ndata: {11}\n\n"), None);
        assert_eq!(layout.other(b": hi\n\ndata: {11}\n\n"), Ok(Some((&b": hi"[..], 6))));
        assert_eq!(layout.event(b"id: 17"), None);
    }

    #[test]
    fn an_answer_must_be_what_was_asked_for() {
        let shape = Shape::new(260).expect("260 bytes hold an event");
        let admits = |transport, is_luxcast, head: &str| {
            AnyLayout::new(transport, is_luxcast, shape).admits(format!("HTTP/1.1 {head}\r\n\r\n").as_bytes())
        };
        let chunked = "200 OK\r\ncontent-type: text/event-stream\r\nTransfer-Encoding: chunked";
        assert!(admits(Transport::Sse, true, chunked) && !admits(Transport::Ndjson, true, chunked));
        assert!(!admits(Transport::Sse, false, chunked), "its chunks are not read");
        let bare = "200 OK\r\nContent-Type: text/event-stream; charset=utf-8";
        assert!(admits(Transport::Sse, false, bare) && !admits(Transport::Sse, true, bare));
        assert!(admits(Transport::WebSocket, true, "101 Switching Protocols"));
        let agreed = |parameters: &str| {
            format!("101 Switching Protocols\r\nSec-WebSocket-Extensions: permessage-deflate{parameters}")
        };
        let takes = |transport, is_luxcast, parameters| admits(transport, is_luxcast, &agreed(parameters));
        assert!(takes(Transport::Deflate, true, "; client_no_context_takeover"));
        assert!(!takes(Transport::Deflate, true, "") && takes(Transport::Deflate, false, ""));
        assert!(takes(Transport::Deflate, false, "; server_no_context_takeover"));
        assert!(!takes(Transport::Deflate, false, "d") && !takes(Transport::WebSocket, false, ""));
        assert!(!admits(Transport::Deflate, false, "101 Switching Protocols"), "it was refused");
        assert!(!admits(Transport::WebSocket, true, "503 Full"));
    }
}
