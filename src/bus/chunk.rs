//! A chunk: some lines of one publisher, as one message of the stream. It is read here; [`crate::bus::lane`] makes it.
//!
//! The payload is what the feed takes: lines of JSON with a newline between them, as the publisher wrote them. Anybody
//! may have put a message into the stream, with any payload and any headers. Reading one never fails: what is wrong is
//! left out and counted.

use std::borrow::Cow;
use std::ops::Range;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::bus::flows::read_flows;
use crate::bus::line_ranges::{LineRanges, line};
use crate::bus::numbers::PLACES;
use crate::stream::told::Flow;
use crate::wire::line::{ID_BYTES_MAX, trim};

/// `TOKEN:LINE`: whose lines these are, and the first of them. The server takes each id once within its window.
pub const MESSAGE_ID: &str = "Nats-Msg-Id";
/// The numbers of the lines: `11-13,15-25`.
pub const LINES: &str = "Luxcast-Lines";
/// `HOST.NONCE` of the daemon that sent it, for people.
pub const FROM: &str = "Luxcast-From";
/// Keeps a message out of every other stream.
pub const EXPECTED_STREAM: &str = "Nats-Expected-Stream";

/// Bytes of a payload, at most, unless it is one line that is longer.
pub const CHUNK_BYTES_MAX: usize = 256 << 10;

/// What a message needs beside its lines, at most: headers, and the flow of a single line.
pub const OVERHEAD_BYTES_MAX: usize = 4 << 10;

/// Every byte of a name may have to be escaped. In front of it may stand which ids its publisher may publish for.
const TOKEN_BYTES_MAX: usize = 3 * ID_BYTES_MAX + SPACE_BYTES_MAX;
const SPACE_BYTES_MAX: usize = 64;

const FROM_BYTES_MAX: usize = 128;

/// What stands in a token as it is.
const PLAIN: AsciiSet = NON_ALPHANUMERIC.remove(b'_').remove(b'.').remove(b':').remove(b'-');

/// The bounds of the lines of a feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    pub line_bytes_max: usize,
    /// Of the JSON of a line.
    pub depth_max: usize,
}

/// Headers of a message, as they came. None: there is none of that name.
#[derive(Clone, Copy, Debug, Default)]
pub struct Headers<'a> {
    pub message_id: Option<&'a str>,
    pub lines: Option<&'a str>,
    pub from: Option<&'a str>,
}

/// Whose lines a chunk has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source<'a> {
    /// Names the publisher, see [`token_of_name`] and [`token_of_connection`].
    pub token: &'a str,
    /// The lines, one for each place of the chunk.
    pub lines: LineRanges,
}

/// A message of the stream, read.
#[derive(Debug, Default)]
pub struct Chunk<'a> {
    /// None: some other program published it, and its lines have no numbers.
    pub source: Option<Source<'a>>,
    /// Which daemon sent it; printable.
    pub from: Option<&'a str>,
    /// The flows of jobs whose lines do not all say.
    pub flows: Vec<Flow>,
    payload: &'a [u8],
    /// The first line was read, the only one that may have flows.
    has_begun: bool,
    /// Where each line is in the payload, without blanks around it. Empty: it is too long.
    places: Vec<Range<usize>>,
    /// What was left out: lines that are too long, and flows that are malformed.
    pub refused: u64,
    /// There were more lines than a chunk may have. The last place is theirs: it has no line, and its number is lost.
    pub is_cut: bool,
    /// How many lines were cut off.
    pub cut: u64,
}

impl<'a> Chunk<'a> {
    /// Reads a message. Lines of more than `line_bytes_max` bytes are left out.
    pub fn read(headers: Headers<'a>, payload: &'a [u8], line_bytes_max: usize) -> Self {
        let mut chunk = Self { payload, ..Self::default() };
        let mut start = 0;
        while start < payload.len() {
            let end = memchr::memchr(b'\n', &payload[start..]).map_or(payload.len(), |at| start + at);
            let text = trim(&payload[start..end]);
            let place = start + text.start..start + text.end;
            if !place.is_empty() {
                chunk.take(place, line_bytes_max);
            }
            start = end + 1;
        }
        if chunk.is_cut {
            chunk.places.pop();
            chunk.cut += 1;
        }
        chunk.source = source(headers).filter(|source| source.lines.count() == chunk.places.len() as u64);
        chunk.from = headers.from.filter(|from| is_printable(from));
        chunk
    }

    fn take(&mut self, place: Range<usize>, line_bytes_max: usize) {
        let may_be_flows = !std::mem::replace(&mut self.has_begun, true);
        if may_be_flows && let Some((flows, refused)) = read_flows(&self.payload[place.clone()]) {
            (self.flows, self.refused) = (flows, self.refused + refused);
            return;
        }
        if self.places.len() == PLACES {
            self.is_cut = true;
            self.cut += 1;
            return;
        }
        let is_too_long = place.len() > line_bytes_max;
        self.refused += u64::from(is_too_long);
        self.places.push(if is_too_long { place.start..place.start } else { place });
    }

    /// Numbers that the chunk uses up: its lines, those left out included.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// No line is in it.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The lines from place `first` on, each with its place, unchecked. Of one that is too long nothing is left.
    pub fn lines(&self, first: usize) -> impl Iterator<Item = (usize, &'a [u8])> {
        let places = self.places.iter().enumerate().skip(first);
        places.map(|(place, range)| (place, &self.payload[range.clone()]))
    }
}

/// None: another program chose the id, or the headers are no good.
fn source(headers: Headers<'_>) -> Option<Source<'_>> {
    let (token, first) = headers.message_id?.rsplit_once(':')?;
    let lines = LineRanges::parse(headers.lines?)?;
    let is_good = is_token(token) && line(first).is_some_and(|first| lines.first_after(0) >= Some(first));
    is_good.then_some(Source { token, lines })
}

/// Names a publisher that gave its name and wants its lines taken once: `name`, with all but `[A-Za-z0-9_.:-]` escaped
/// as in addresses.
pub fn token_of_name(name: &str) -> String {
    utf8_percent_encode(name, &PLAIN).to_string()
}

/// Names any other connection of the daemon `nonce`. No name has a `~`.
pub fn token_of_connection(nonce: &str, connection: u64) -> String {
    format!("~{}.{connection}", token_of_name(nonce))
}

/// The name behind a token, if it has one.
pub fn name_of_token(token: &str) -> Option<Cow<'_, str>> {
    let is_name = !token.starts_with('~');
    is_name.then(|| percent_decode_str(token).decode_utf8().ok()).flatten()
}

fn is_token(token: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.:-%~".contains(&byte);
    (1..=TOKEN_BYTES_MAX).contains(&token.len()) && token.bytes().all(is_plain)
}

fn is_printable(text: &str) -> bool {
    (1..=FROM_BYTES_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::{Chunk, Headers, name_of_token, token_of_connection, token_of_name};

    const LINE_BYTES_MAX: usize = 64;

    fn read<'a>(id: &'a str, lines: &'a str, payload: &'a [u8]) -> Chunk<'a> {
        let headers = Headers { message_id: Some(id), lines: Some(lines), from: Some("host.1") };
        Chunk::read(headers, payload, LINE_BYTES_MAX)
    }

    #[test]
    fn lines_have_places_and_numbers() {
        let chunk = read("engine:9", "11-12,14", b"{\"a\":1}\n{\"b\":2}\n{}");
        let source = chunk.source.as_ref().unwrap();
        assert_eq!((source.token, source.lines.to_string()), ("engine", "11-12,14".to_owned()));
        assert_eq!((chunk.from, chunk.len(), chunk.refused, chunk.is_cut), (Some("host.1"), 3, 0, false));
        let lines: Vec<_> = chunk.lines(0).collect();
        assert_eq!(lines, [(0, &b"{\"a\":1}"[..]), (1, b"{\"b\":2}"), (2, b"{}")]);
        assert_eq!(chunk.lines(2).collect::<Vec<_>>(), [(2, &b"{}"[..])]);
    }

    #[test]
    fn any_program_may_publish_lines() {
        let chunk = Chunk::read(Headers::default(), b"\n {\"a\":1} \r\n\n\t\n{\"b\":2}\n", LINE_BYTES_MAX);
        assert_eq!((&chunk.source, chunk.from, chunk.len()), (&None, None, 2));
        assert_eq!(chunk.lines(0).collect::<Vec<_>>(), [(0, &b"{\"a\":1}"[..]), (1, b"{\"b\":2}")]);
        for payload in [&b""[..], b"\n", b" \r\n \n"] {
            assert!(Chunk::read(Headers::default(), payload, LINE_BYTES_MAX).is_empty());
        }
    }

    #[test]
    fn headers_that_are_no_good_are_as_if_they_were_not_there() {
        let payload = b"{}\n{}";
        assert!(read("a:b:3", "3-4", payload).source.is_some());
        for (id, lines) in [
            ("engine:3", "3-5"),
            ("engine:3", "3"),
            ("engine:4", "3-4"),
            ("engine:0", "3-4"),
            ("engine:x", "3-4"),
            ("engine", "3-4"),
            (":3", "3-4"),
            ("3f2504e0-4f89-11d3-9a0c-0305e82c3301", "3-4"),
            ("en gine:3", "3-4"),
            ("en\u{e4}:3", "3-4"),
            ("engine:3", ""),
            ("engine:3", "4,3"),
        ] {
            let chunk = read(id, lines, payload);
            assert_eq!((&chunk.source, chunk.len()), (&None, 2), "{id} {lines}");
        }
        let long = format!("{}:3", "x".repeat(449));
        assert_eq!(read(&long, "3-4", payload).source, None);
        for from in ["", "a b", "a\u{1b}", &"x".repeat(129)] {
            let headers = Headers { from: Some(from), ..Headers::default() };
            assert_eq!(Chunk::read(headers, payload, LINE_BYTES_MAX).from, None, "{from:?}");
        }
    }

    #[test]
    fn a_line_that_is_too_long_keeps_its_place() {
        let payload = format!("{{}}\n{}\n{{}}", "x".repeat(LINE_BYTES_MAX + 1));
        let chunk = read("engine:3", "3-5", payload.as_bytes());
        assert_eq!((chunk.len(), chunk.refused), (3, 1));
        assert_eq!(chunk.lines(0).collect::<Vec<_>>(), [(0, &b"{}"[..]), (1, b""), (2, b"{}")]);
        assert!(chunk.source.is_some());
    }

    #[test]
    fn of_too_many_lines_the_last_number_is_lost() {
        for (lines, kept, cut) in [(1023, 1023, 0), (1024, 1024, 0), (1025, 1023, 2), (5000, 1023, 3977)] {
            let payload = "{}\n".repeat(lines);
            let chunk = Chunk::read(Headers::default(), payload.as_bytes(), LINE_BYTES_MAX);
            assert_eq!((chunk.len(), chunk.cut, chunk.is_cut), (kept, cut, cut > 0), "{lines}");
        }
    }

    #[test]
    fn flows_stand_in_the_first_line_alone() {
        let flows = br#"{"op":"flows","flows":{"job-1":"flow-9","job 2":"x"}}"#;
        let payload = [flows, &b"\n{}\n"[..], flows].concat();
        let chunk = read("engine:3", "3-4", &payload);
        assert_eq!((chunk.flows.len(), chunk.refused, chunk.len()), (1, 1, 2));
        assert_eq!((&*chunk.flows[0].job, &*chunk.flows[0].flow), ("job-1", "flow-9"));
        assert!(chunk.source.is_some());
    }

    #[test]
    fn tokens_are_safe_in_headers_and_name_one_publisher() {
        for name in ["engine", "a:b.c_d-e", "\u{e4}\u{f6} \u{1f600}", "~x.1", "a\r\nb", "100%", "%41"] {
            let token = token_of_name(name);
            assert!(super::is_token(&token) && !token.contains('~'), "{token}");
            assert_eq!(name_of_token(&token).as_deref(), Some(name));
        }
        let longest = token_of_name(&"\u{e4}".repeat(64));
        assert!(super::is_token(&longest));
        let connection = token_of_connection("host.1f", 7);
        assert_eq!(connection, "~host.1f.7");
        assert!(super::is_token(&connection) && name_of_token(&connection).is_none());
        assert_eq!(name_of_token("%ff"), None);
    }
}
