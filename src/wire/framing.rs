//! How messages stand on a watcher's connection: as WebSocket frames, or in the chunks of an HTTP answer (RFC 9112, 7.1),
//! each a Server-Sent Event or a line of JSON.
//!
//! Everything is written as frames first. For plain HTTP an event's object is put into a chunk, and the daemon's own
//! messages are taken out of their frames again.

use std::ops::Range;

use memchr::{memchr, memmem};

use crate::wire::frame::{CLOSE, TEXT};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    #[default]
    WebSocket,
    /// The same with events compressed, and what stood before each as its dictionary (RFC 7692).
    Deflate,
    /// The same with each event compressed by itself.
    DeflateAlone,
    /// Server-Sent Events, as browsers' `EventSource` reads them (HTML, 9.2).
    Sse,
    /// A JSON text in each line.
    Ndjson,
}

/// The end of an answer that came in chunks.
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";
/// Before the message in an SSE, and behind it.
const DATA: &[u8] = b"data: ";
const SSE_END: &[u8] = b"\n\n";
const LINE_END: &[u8] = b"\n";
/// How the object of an event begins.
const EVENT: &[u8] = b"{\"stream_seq\":";

impl Framing {
    pub fn is_http(self) -> bool {
        matches!(self, Framing::Sse | Framing::Ndjson)
    }

    pub fn is_compressed(self) -> bool {
        matches!(self, Framing::Deflate | Framing::DeflateAlone)
    }

    /// As operators and clients call it.
    pub fn name(self) -> &'static str {
        match self {
            Framing::WebSocket | Framing::Deflate | Framing::DeflateAlone => "websocket",
            Framing::Sse => "sse",
            Framing::Ndjson => "ndjson",
        }
    }

    /// Of an answer in this form.
    pub fn content_type(self) -> &'static str {
        match self {
            Framing::WebSocket | Framing::Deflate | Framing::DeflateAlone => "",
            Framing::Sse => "text/event-stream",
            Framing::Ndjson => "application/x-ndjson",
        }
    }

    /// Appends the chunk of an event. Returns where in `out` its object is.
    pub fn write_event(self, object: &[u8], out: &mut Vec<u8>) -> Range<usize> {
        self.write_chunk(object, Fields { retry: None, id: number_at(object, EVENT.len()) }, out)
    }

    fn write_chunk(self, json: &[u8], fields: Fields<'_>, out: &mut Vec<u8>) -> Range<usize> {
        match self {
            Framing::Sse => {
                let length = fields.length() + DATA.len() + json.len() + SSE_END.len();
                write_hex(length, out);
                out.extend_from_slice(b"\r\n");
                fields.write(out);
                out.extend_from_slice(DATA);
            }
            _ => {
                write_hex(json.len() + LINE_END.len(), out);
                out.extend_from_slice(b"\r\n");
            }
        }
        let start = out.len();
        out.extend_from_slice(json);
        let text = start..out.len();
        if memchr(b'\r', json).is_some() {
            change_returns(&mut out[text.clone()]);
        }
        out.extend_from_slice(if self == Framing::Sse { SSE_END } else { LINE_END });
        out.extend_from_slice(b"\r\n");
        text
    }

    /// Appends the messages of some whole WebSocket frames of the daemon in this form. Protocol pings have none; a close
    /// frame ends the answer. `is_at_newest`: the greeting's number is the watcher's position.
    pub fn reframe(self, mut frames: &[u8], is_at_newest: bool, out: &mut Vec<u8>) {
        while let Some((opcode, payload, rest)) = split_frame(frames) {
            match opcode {
                TEXT => {
                    self.write_chunk(payload, Fields::of(payload, is_at_newest), out);
                }
                CLOSE => out.extend_from_slice(LAST_CHUNK),
                _ => {}
            }
            frames = rest;
        }
    }
}

/// Makes carriage returns of JSON blanks. In an SSE they would end a line, and so they do to many readers of lines; in JSON
/// they only ever stand between two tokens.
pub fn change_returns(json: &mut [u8]) {
    json.iter_mut().filter(|byte| **byte == b'\r').for_each(|byte| *byte = b' ');
}

fn write_hex(number: usize, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let places = (usize::BITS - number.leading_zeros()).div_ceil(4).max(1);
    for place in (0..places).rev() {
        out.push(DIGITS[number >> (4 * place) & 15]);
    }
}

/// The first frame's opcode and payload, and what is behind it. The daemon writes them, so they are whole and unmasked.
fn split_frame(frames: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&first, &second) = (frames.first()?, frames.get(1)?);
    let (header, length) = match second {
        126 => (4, usize::from(u16::from_be_bytes([frames[2], frames[3]]))),
        127 => (10, u64::from_be_bytes(frames[2..10].try_into().expect("eight bytes")) as usize),
        length => (2, usize::from(length)),
    };
    let (payload, rest) = frames[header..].split_at(length);
    Some((first & 0x0F, payload, rest))
}

/// What goes before a message in an SSE, in digits.
struct Fields<'a> {
    /// After how many milliseconds the reader is to come back.
    retry: Option<&'a [u8]>,
    /// The position that the message stands for.
    id: Option<&'a [u8]>,
}

impl<'a> Fields<'a> {
    fn of(json: &'a [u8], is_at_newest: bool) -> Self {
        if json.starts_with(EVENT) {
            return Self { retry: None, id: number_at(json, EVENT.len()) };
        }
        let is_status = json.starts_with(br#"{"type":"connection:status""#);
        let is_end = is_status && memmem::find(json, br#""status":"disconnected""#).is_some();
        let is_position = json.starts_with(br#"{"type":"ping""#) || is_status && is_at_newest || is_end;
        Self {
            retry: number_behind(json, br#""retry_after_ms":"#).filter(|_| is_end),
            id: number_behind(json, br#""stream_seq":"#).filter(|_| is_position),
        }
    }

    fn all(&self) -> impl Iterator<Item = (&'static [u8], &'a [u8])> {
        let named = |name: &'static [u8], digits: Option<&'a [u8]>| digits.map(|digits| (name, digits));
        [named(b"retry: ", self.retry), named(b"id: ", self.id)].into_iter().flatten()
    }

    fn length(&self) -> usize {
        self.all().map(|(name, digits)| name.len() + digits.len() + 1).sum()
    }

    fn write(&self, out: &mut Vec<u8>) {
        for (name, digits) in self.all() {
            out.extend_from_slice(name);
            out.extend_from_slice(digits);
            out.push(b'\n');
        }
    }
}

/// The digits behind the first place of `name`.
fn number_behind<'a>(json: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    number_at(json, memmem::find(json, name)? + name.len())
}

/// The digits from this place on.
fn number_at(json: &[u8], place: usize) -> Option<&[u8]> {
    let rest = json.get(place..)?;
    let length = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    (length > 0).then(|| &rest[..length])
}

#[cfg(test)]
mod tests {
    use super::Framing;
    use crate::wire::frame::{self, TEXT, write_header};
    use crate::wire::stamp::Stamp;
    use crate::wire::watcher_message::{self, Gap, GapReason};

    fn reframed(framing: Framing, is_at_newest: bool, write: impl FnOnce(&mut Vec<u8>)) -> String {
        let (mut frames, mut out) = (Vec::new(), Vec::new());
        write(&mut frames);
        framing.reframe(&frames, is_at_newest, &mut out);
        String::from_utf8(out).unwrap()
    }

    /// The contents of the chunks; `None` is the end of the answer.
    fn contents(mut text: &str) -> Vec<Option<String>> {
        let mut found = Vec::new();
        while !text.is_empty() {
            let (length, rest) = text.split_once("\r\n").unwrap();
            let length = usize::from_str_radix(length, 16).unwrap();
            let (content, rest) = rest.split_at(length);
            found.push((length > 0).then(|| content.to_owned()));
            text = rest.strip_prefix("\r\n").unwrap();
        }
        found
    }

    #[test]
    fn an_event_is_a_chunk_of_its_own() {
        let object = br#"{"stream_seq":1700000000000001,"type":"t"}"#;
        let mut out = Vec::new();
        let text = Framing::Sse.write_event(object, &mut out);
        assert_eq!(&out[text], object);
        let expected =
            "47\r\nid: 1700000000000001\ndata: {\"stream_seq\":1700000000000001,\"type\":\"t\"}\n\n\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
        let mut out = Vec::new();
        let text = Framing::Ndjson.write_event(object, &mut out);
        assert_eq!(&out[text], object);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "2b\r\n{\"stream_seq\":1700000000000001,\"type\":\"t\"}\n\r\n"
        );
    }

    #[test]
    fn chunks_of_any_length_say_their_length() {
        for length in [0, 1, 14, 15, 16, 250, 4_093, 65_530, 70_000] {
            let json = vec![b' '; length];
            for framing in [Framing::Sse, Framing::Ndjson] {
                let mut out = Vec::new();
                framing.write_event(&json, &mut out);
                framing.reframe(&[0x88, 0], true, &mut out);
                let found = contents(str::from_utf8(&out).unwrap());
                assert_eq!(found.len(), 2, "{length}");
                assert!(found[0].as_ref().unwrap().len() >= length && found[1].is_none());
            }
        }
    }

    #[test]
    fn a_blank_that_would_end_a_line_of_an_event_is_another_blank() {
        let json = b"{\"stream_seq\":7,\r\"type\":\"a\\r\"}";
        for framing in [Framing::Sse, Framing::Ndjson] {
            let mut out = Vec::new();
            let text = framing.write_event(json, &mut out);
            assert_eq!(&out[text], b"{\"stream_seq\":7, \"type\":\"a\\r\"}");
        }
    }

    #[test]
    fn ids_are_there_where_a_number_is_a_position() {
        let at = Stamp::from_unix_millis(0);
        let id_of = |is_at_newest: bool, write: &dyn Fn(&mut Vec<u8>)| {
            let text = reframed(Framing::Sse, is_at_newest, write);
            let content = contents(&text).remove(0).unwrap();
            let (fields, data) = content.split_once("data: ").unwrap();
            assert!(data.ends_with("}\n\n") && !data[..data.len() - 2].contains('\n'), "{content}");
            fields.to_owned()
        };
        let event = |out: &mut Vec<u8>| {
            let object = br#"{"stream_seq":12,"type":"ping","data":{"stream_seq":3}}"#;
            write_header(out, TEXT, object.len());
            out.extend_from_slice(object);
        };
        assert_eq!(id_of(true, &event), "id: 12\n");
        assert_eq!(id_of(false, &event), "id: 12\n");
        assert_eq!(id_of(false, &|out| watcher_message::ping(out, &at, 7)), "id: 7\n");
        assert_eq!(id_of(true, &|out| watcher_message::connected(out, &at, 8)), "id: 8\n");
        assert_eq!(id_of(false, &|out| watcher_message::connected(out, &at, 8)), "");
        assert_eq!(id_of(true, &|out| watcher_message::standing(out, &at, 9, true)), "id: 9\n");
        let goodbye = |out: &mut Vec<u8>| watcher_message::disconnected(out, &at, 5, "draining", 1_500);
        assert_eq!(id_of(true, &goodbye), "retry: 1500\nid: 5\n");
        let gap = Gap { from: 1, to: 2, missed: None, reason: GapReason::Expired };
        assert_eq!(id_of(true, &|out| watcher_message::gap(out, &at, &gap, None)), "");
        let metrics = |out: &mut Vec<u8>| watcher_message::metrics(out, &at, "j", &Default::default());
        assert_eq!(id_of(true, &metrics), "");
    }

    #[test]
    fn messages_leave_their_frames_and_a_close_frame_ends_the_answer() {
        let at = Stamp::from_unix_millis(0);
        let text = reframed(Framing::Ndjson, true, |out| {
            watcher_message::ping(out, &at, 7);
            frame::write_ping(out, b"");
            let long = vec![b'x'; 70_000];
            write_header(out, TEXT, long.len());
            out.extend_from_slice(&long);
            watcher_message::disconnected(out, &at, 5, "draining", 1_500);
            frame::write_close(out, 1012, "draining");
        });
        let found = contents(&text);
        assert_eq!(found.len(), 4);
        assert!(found[0].as_ref().unwrap().starts_with("{\"type\":\"ping\""));
        assert_eq!(found[1].as_ref().unwrap().len(), 70_001);
        assert!(found[2].as_ref().unwrap().ends_with("\"retry_after_ms\":1500}\n") && found[3].is_none());
    }
}
