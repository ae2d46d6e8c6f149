//! Reads one line of the feed: a line of newline-delimited JSON becomes the few values that route it. It neither
//! splits lines nor answers them. The event itself is forwarded from the caller's own copy, byte for byte.
//!
//! This is the hottest code of the ingest thread. simd-json does the work and is as strict as RFC 8259: it refuses
//! bad UTF-8, control characters, lone surrogates and trailing bytes. It also refuses numbers that it cannot hold;
//! those lines are parsed a second, slower way.

use std::ops::Range;

use simd_json::{Buffers, ErrorType, Node, StaticNode, Tape, fill_tape_padded};

use crate::wire::members::members;
use crate::wire::number::narrow_numbers;
use crate::wire::stamp;

pub use crate::wire::publisher_answer::{LineError, write_ack, write_error, write_welcome};

/// Bytes of any content that must follow a line in its block: simd-json reads in strides and may look that far beyond
/// the end.
pub const PADDING: usize = simd_json::INPUT_PADDING;

/// The initial size of the buffers; they grow.
const USUAL_LINE_BYTES: usize = 4096;

/// Longest `job_id`, `flow_id` or publisher's name.
pub const ID_BYTES_MAX: usize = 128;
/// Greatest number of a line: every JSON reader holds it exactly, and the next one as well. A line behind it is refused.
pub const LINE_NUMBER_MAX: u64 = (1 << 53) - 1;
/// Longest event type.
pub const TYPE_NAME_BYTES_MAX: usize = 64;
/// Bytes that are kept of an inner type: more than the longest name in a filter, so that a cut one never matches.
pub const INNER_BYTES_MAX: usize = TYPE_NAME_BYTES_MAX + 1;
/// The inner type of an `execution_event` whose `event_type` is an object or an array, or comes twice and once as a
/// breakpoint's. A reader may take it for anything, so watchers that may not see breakpoints do not get it.
pub const UNREADABLE_INNER: &str = "breakpoint_ ";

/// One parsed line. Its text is borrowed from the block or from the reader.
#[derive(Debug, Clone, PartialEq)]
pub enum Line<'a> {
    Event(EventFields<'a>),
    /// A line with `op` and without `type`: for the daemon, not for watchers.
    Control(Control<'a>),
}

/// The fields of an event that the daemon reads. At least one of `job_id` and `flow_id` is there.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EventFields<'a> {
    /// `type`; a valid type name and not one of the daemon's own.
    pub kind: &'a str,
    /// The `event.event_type` of an `execution_event`, if it is a string: at most [`INNER_BYTES_MAX`] bytes of it. An
    /// object or an array becomes [`UNREADABLE_INNER`].
    pub inner: Option<&'a str>,
    pub job_id: Option<&'a str>,
    pub flow_id: Option<&'a str>,
    /// `data.flow_id`, if it is a valid id; only read if there is no `flow_id`.
    pub data_flow_id: Option<&'a str>,
    pub timestamp: Option<Timestamp<'a>>,
}

/// The value of an event's `timestamp`, readable or not.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Timestamp<'a> {
    Text(&'a str),
    Whole(i64),
    Fractional(f64),
    /// In Unix microseconds, already read; `None`: it cannot be read.
    Read(Option<i64>),
}

impl Timestamp<'_> {
    /// In Unix microseconds, if it can be read.
    pub fn unix_micros(self) -> Option<i64> {
        match self {
            Self::Text(text) => stamp::parse_unix_micros(text),
            Self::Whole(number) => stamp::read_json(&number.to_string()),
            Self::Fractional(number) => stamp::read_json(&number.to_string()),
            Self::Read(micros) => micros,
        }
    }
}

/// A publisher's control line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control<'a> {
    /// `publisher` is a valid id; `dedupe` only comes with a `publisher`.
    Hello { publisher: Option<&'a str>, ack: bool, dedupe: bool },
    /// The number of the next line, from 1 to [`LINE_NUMBER_MAX`].
    From { line: u64 },
}

/// Reads lines with buffers that it keeps, so that the steady state allocates nothing. They grow with the longest
/// line so far: at worst to about 30 bytes for each of its bytes.
pub struct LineReader {
    buffers: Buffers,
    tape: Tape<'static>,
    /// A second copy of a line whose numbers are too wide for simd-json; empty until one comes.
    scratch: Vec<u8>,
}

impl LineReader {
    /// `depth_max`: how deep objects and arrays may nest; the line's own object is 1.
    pub fn new(depth_max: usize) -> Self {
        Self {
            buffers: Buffers::with_max_depth(USUAL_LINE_BYTES, depth_max),
            tape: Tape(Vec::new()),
            scratch: Vec::new(),
        }
    }

    /// Reads the trimmed line `block[..length]`, which at least `PADDING` bytes of any content must follow. The line
    /// may be edited in place (strings are unescaped there); the bytes behind it stay unchanged.
    /// `original_after_brace` is an untouched copy of the line without its first byte. It is read only if the line
    /// begins with `{`.
    pub fn read<'a>(
        &'a mut self,
        block: &'a mut [u8],
        length: usize,
        original_after_brace: &[u8],
    ) -> Result<Line<'a>, LineError> {
        assert!(block.len() >= length + PADDING, "padding behind the line");
        if length == 0 || block[0] != b'{' {
            return Err(self.refuse_other_value(block, length));
        }
        debug_assert_eq!(original_after_brace.len() + 1, length);
        let mut tape: Tape<'a> = std::mem::replace(&mut self.tape, Tape(Vec::new()));
        let mut parsed = fill_tape_padded(block, length, &mut self.buffers, &mut tape);
        let mut is_narrowed = false;
        if let Err(error) = &parsed
            && *error.error() == ErrorType::InvalidNumber
        {
            tape = tape.reset();
            self.scratch.clear();
            self.scratch.push(b'{');
            self.scratch.extend_from_slice(original_after_brace);
            is_narrowed = true;
            narrow_numbers(&mut self.scratch);
            self.scratch.resize(length + PADDING, b' ');
            parsed = fill_tape_padded(&mut self.scratch, length, &mut self.buffers, &mut tape);
        }
        let line = match parsed {
            Ok(()) if is_narrowed => interpret(&tape.0).map(|line| with_wide(line, original_after_brace)),
            Ok(()) => interpret(&tape.0),
            Err(error) => Err(why_refused(error.error(), original_after_brace)),
        };
        self.tape = tape.reset();
        line
    }

    /// A line that does not begin with `{` is always refused; this finds the reason.
    #[cold]
    fn refuse_other_value(&mut self, block: &mut [u8], length: usize) -> LineError {
        if std::str::from_utf8(&block[..length]).is_err() {
            return LineError::BadUtf8;
        }
        narrow_numbers(&mut block[..length]);
        let mut tape = Tape(Vec::new());
        match fill_tape_padded(block, length, &mut self.buffers, &mut tape) {
            Ok(()) => LineError::NotAnObject,
            Err(error) => why_refused(error.error(), &[]),
        }
    }
}

/// For a line with narrowed numbers: its `timestamp` may be one of them, and is read from the original.
#[cold]
fn with_wide<'a>(line: Line<'a>, original_after_brace: &[u8]) -> Line<'a> {
    let Line::Event(fields) = line else { return line };
    if !matches!(fields.timestamp, Some(Timestamp::Whole(_) | Timestamp::Fractional(_))) {
        return line;
    }
    let original = [b"{", original_after_brace].concat();
    let found = std::str::from_utf8(&original).ok().and_then(|text| members(text, &["timestamp"]));
    let micros = found.and_then(|[raw]| stamp::read_json(raw?));
    Line::Event(EventFields { timestamp: Some(Timestamp::Read(micros)), ..fields })
}

#[cold]
fn why_refused(error: &ErrorType, text: &[u8]) -> LineError {
    match error {
        ErrorType::DepthLimitExceeded => LineError::TooDeep,
        // simd-json reports an open string before bad UTF-8, and a lone escaped surrogate as either.
        _ if std::str::from_utf8(text).is_err() => LineError::BadUtf8,
        _ => LineError::BadJson,
    }
}

/// How many nodes of the tape belong to the value that begins with `node`.
#[inline]
fn node_count(node: &Node<'_>) -> usize {
    match node {
        Node::Object { count, .. } | Node::Array { count, .. } => count + 1,
        Node::String(_) | Node::Static(_) => 1,
    }
}

/// The members of an object: key, and the tape from the value's first node on.
struct Members<'tape, 'a> {
    rest: &'tape [Node<'a>],
}

impl<'tape, 'a> Members<'tape, 'a> {
    /// `value` begins with the object's node. Any other value has no members.
    #[inline]
    fn of(value: &'tape [Node<'a>]) -> Self {
        let rest = match value.first() {
            Some(Node::Object { count, .. }) => &value[1..=*count],
            _ => &[],
        };
        Self { rest }
    }
}

impl<'tape, 'a> Iterator for Members<'tape, 'a> {
    type Item = (&'a str, &'tape [Node<'a>]);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let [Node::String(key), value @ ..] = self.rest else {
            return None;
        };
        self.rest = &value[node_count(value.first()?)..];
        Some((key, value))
    }
}

/// Interprets the tape of one whole object.
#[inline]
fn interpret<'a>(tape: &[Node<'a>]) -> Result<Line<'a>, LineError> {
    let (mut kind, mut job_id, mut flow_id) = (None, None, None);
    let (mut timestamp, mut event, mut data) = (None, None, None);
    let (mut has_op, mut is_event_twice) = (false, false);
    for (key, value) in Members::of(tape) {
        let once = match key.as_bytes() {
            b"type" => &mut kind,
            b"job_id" => &mut job_id,
            b"flow_id" => &mut flow_id,
            // If one of these is repeated, the last one counts, as with JSON.parse.
            b"timestamp" => {
                timestamp = timestamp_of(&value[0]);
                continue;
            }
            b"data" => {
                data = Some(value);
                continue;
            }
            b"event" => {
                is_event_twice = event.replace(value).is_some();
                continue;
            }
            b"op" => {
                has_op = true;
                continue;
            }
            b"stream_seq" => return Err(LineError::Reserved),
            _ => continue,
        };
        if once.replace(&value[0]).is_some() {
            return Err(LineError::DuplicateKey);
        }
    }
    let kind = match kind {
        Some(kind) => type_name(kind)?,
        None if has_op => return control(tape).map(Line::Control),
        None => return Err(LineError::NoType),
    };
    let (job_id, flow_id) = (id(job_id)?, id(flow_id)?);
    if job_id.is_none() && flow_id.is_none() {
        return Err(LineError::NoId);
    }
    let inner = match event {
        Some(_) if is_event_twice && kind == "execution_event" => Members::of(tape)
            .filter(|(key, _)| *key == "event")
            .fold(None, |before, (_, event)| inner_type(before, event)),
        Some(event) if kind == "execution_event" => inner_type(None, event),
        _ => None,
    };
    let data_flow_id = match data {
        Some(data) if flow_id.is_none() => text_member(data, "flow_id").filter(|id| is_id(id)),
        _ => None,
    };
    Ok(Line::Event(EventFields { kind, inner, job_id, flow_id, data_flow_id, timestamp }))
}

#[inline]
fn text<'a>(node: &Node<'a>) -> Option<&'a str> {
    match node {
        Node::String(text) => Some(text),
        _ => None,
    }
}

#[inline]
fn timestamp_of<'a>(node: &Node<'a>) -> Option<Timestamp<'a>> {
    match node {
        Node::String(text) => Some(Timestamp::Text(text)),
        Node::Static(StaticNode::I64(number)) => Some(Timestamp::Whole(*number)),
        Node::Static(StaticNode::U64(number)) => Some(match i64::try_from(*number) {
            Ok(number) => Timestamp::Whole(number),
            Err(_) => Timestamp::Fractional(*number as f64),
        }),
        Node::Static(StaticNode::F64(number)) => Some(Timestamp::Fractional(*number)),
        _ => None,
    }
}

/// The `event_type` of an `execution_event`'s `event`. Any string counts: even one that is no type name may begin
/// like a breakpoint's, and a filter can list it. Of repeated ones the last counts, unless one of them may be a
/// breakpoint's.
#[inline]
fn inner_type<'a>(before: Option<&'a str>, event: &[Node<'a>]) -> Option<&'a str> {
    let found = Members::of(event).filter(|(key, _)| *key == "event_type");
    // A reader may take a value that is no object for its type.
    let before = match event[0] {
        Node::Array { .. } => Some(UNREADABLE_INNER),
        Node::String(text) if text.starts_with("breakpoint_") => Some(UNREADABLE_INNER),
        _ => before,
    };
    found.fold(before, |before, (_, value)| match value[0] {
        _ if before.is_some_and(|before| before.starts_with("breakpoint_")) => Some(UNREADABLE_INNER),
        Node::String(name) if name.len() > INNER_BYTES_MAX => {
            Some(&name[..name.floor_char_boundary(INNER_BYTES_MAX)])
        }
        Node::String(name) => Some(name),
        Node::Static(_) => None,
        Node::Object { .. } | Node::Array { .. } => Some(UNREADABLE_INNER),
    })
}

#[inline]
fn text_member<'a>(object: &[Node<'a>], name: &str) -> Option<&'a str> {
    let found = Members::of(object).filter(|(key, _)| *key == name).last();
    text(&found?.1[0])
}

#[inline]
fn type_name<'a>(node: &Node<'a>) -> Result<&'a str, LineError> {
    let name = text(node).filter(|name| is_type_name(name)).ok_or(LineError::BadType)?;
    if is_own_type(name) {
        return Err(LineError::Reserved);
    }
    Ok(name)
}

/// null counts as absent.
#[inline]
fn id<'a>(node: Option<&Node<'a>>) -> Result<Option<&'a str>, LineError> {
    match node {
        None | Some(Node::Static(StaticNode::Null)) => Ok(None),
        Some(Node::String(id)) if is_id(id) => Ok(Some(id)),
        Some(_) => Err(LineError::BadId),
    }
}

/// Unknown members are ignored, for later versions; known ones must be valid and come once.
#[cold]
fn control<'a>(tape: &[Node<'a>]) -> Result<Control<'a>, LineError> {
    let member = |name| {
        let mut found = Members::of(tape).filter(|(key, _)| *key == name);
        match (found.next(), found.next()) {
            (None, _) => Ok(None),
            (Some((_, value)), None) => Ok(Some(value[0])),
            (Some(_), Some(_)) => Err(LineError::BadOp),
        }
    };
    let is_on = |name| match member(name)? {
        None => Ok(false),
        Some(Node::Static(StaticNode::Bool(is_on))) => Ok(is_on),
        Some(_) => Err(LineError::BadOp),
    };
    match member("op")? {
        Some(Node::String("hello")) => {
            let publisher = match member("publisher")? {
                None => None,
                Some(Node::String(name)) if is_id(name) => Some(name),
                Some(_) => return Err(LineError::BadOp),
            };
            let (ack, dedupe) = (is_on("ack")?, is_on("dedupe")?);
            if dedupe && publisher.is_none() {
                return Err(LineError::BadOp);
            }
            Ok(Control::Hello { publisher, ack, dedupe })
        }
        Some(Node::String("from")) => match member("line")? {
            Some(Node::Static(StaticNode::U64(line))) if (1..=LINE_NUMBER_MAX).contains(&line) => {
                Ok(Control::From { line })
            }
            _ => Err(LineError::BadOp),
        },
        _ => Err(LineError::BadOp),
    }
}

/// The types that only the daemon itself sends. `metrics` is not among them: a publisher may
/// send its own.
#[inline]
fn is_own_type(name: &str) -> bool {
    matches!(
        name.as_bytes(),
        b"connection:status"
            | b"ping"
            | b"pong"
            | b"subscription:confirmed"
            | b"stream:gap"
            | b"error"
            | b"connected"
            | b"subscribed"
            | b"already_subscribed"
            | b"unsubscribed"
            | b"not_subscribed"
    )
}

/// Whether `text` can name a job, a flow or a publisher: `[A-Za-z0-9_.:-]{1,128}`.
#[inline]
pub fn is_id(text: &str) -> bool {
    is_word(text.as_bytes(), ID_BYTES_MAX)
}

/// Whether `text` can name a type of event: `[A-Za-z0-9_.:-]{1,64}`.
#[inline]
pub fn is_type_name(text: &str) -> bool {
    is_word(text.as_bytes(), TYPE_NAME_BYTES_MAX)
}

/// Checks every byte, without an early end: most words are good, and a UUID then takes 8 ns instead of 21.
#[inline]
fn is_word(bytes: &[u8], bytes_max: usize) -> bool {
    (1..=bytes_max).contains(&bytes.len())
        && bytes.iter().fold(true, |good, byte| good & WORD_BYTES[usize::from(*byte)])
}

/// `[A-Za-z0-9_.:-]`
const WORD_BYTES: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0_u8;
    while byte.is_ascii() {
        table[byte as usize] = byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b':' | b'-');
        byte += 1;
    }
    table
};

/// The range of the object in a raw line, without the blanks of JSON (and the CR of a CRLF) around it. An empty range
/// for an empty line.
#[inline]
pub fn trim(line: &[u8]) -> Range<usize> {
    let is_text = |byte: &u8| !matches!(byte, b' ' | b'\t' | b'\r');
    let end = line.iter().rposition(is_text).map_or(0, |last| last + 1);
    let start = line[..end].iter().position(is_text).unwrap_or(0);
    start..end
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::fmt;

    use fastrand::Rng;
    use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
    use serde_json::value::RawValue;

    use super::{
        Control, EventFields, LINE_NUMBER_MAX, Line, LineError, LineReader, PADDING, is_id, is_own_type,
        is_type_name, trim, write_ack, write_error, write_welcome,
    };
    use super::{INNER_BYTES_MAX, UNREADABLE_INNER};
    use crate::wire::publisher_answer::write_full;

    const DEPTH_MAX: usize = 64;

    /// Reads one line as the ingest thread does and passes the result to `check`.
    fn with_line<T>(
        reader: &mut LineReader,
        line: &[u8],
        check: impl FnOnce(Result<Line<'_>, LineError>) -> T,
    ) -> T {
        // Another line follows, not blanks.
        let mut block = line.to_vec();
        block.extend_from_slice(b"\n{\"type\":\"x\",\"n\":1234567890,\"job_id\":\"behind\",\"text\":\"......................\"}\n");
        assert!(block.len() >= line.len() + PADDING);
        let behind = block[line.len()..].to_vec();
        let checked = check(reader.read(&mut block, line.len(), line.get(1..).unwrap_or(&[])));
        assert_eq!(block[line.len()..], behind, "the bytes behind the line are unchanged");
        checked
    }

    fn error_of(line: impl AsRef<[u8]>) -> Option<LineError> {
        let mut reader = LineReader::new(DEPTH_MAX);
        with_line(&mut reader, line.as_ref(), |line| line.err())
    }

    fn with_event(line: &str, check: impl FnOnce(EventFields<'_>)) {
        let mut reader = LineReader::new(DEPTH_MAX);
        with_line(&mut reader, line.as_bytes(), |read| match read {
            Ok(Line::Event(fields)) => check(fields),
            other => panic!("{line}: {other:?}"),
        });
    }

    fn assert_control(line: &str, expected: Result<Control<'_>, LineError>) {
        let mut reader = LineReader::new(DEPTH_MAX);
        with_line(&mut reader, line.as_bytes(), |read| {
            assert_eq!(read, expected.map(Line::Control), "{line}");
        });
    }

    #[test]
    fn finds_the_fields_of_an_event() {
        with_event(
            r#"{"type": "job_started", "job_id": "e252-97", "flow_id": "etl_flow", "timestamp": "2026-11-23T07:35:32.390Z", "data": {"flow_id": "not_asked"}}"#,
            |fields| {
                assert_eq!(
                    fields,
                    EventFields {
                        kind: "job_started",
                        inner: None,
                        job_id: Some("e252-97"),
                        flow_id: Some("etl_flow"),
                        data_flow_id: None,
                        timestamp: Some(super::Timestamp::Text("2026-11-23T07:35:32.390Z")),
                    }
                );
            },
        );
        with_event(r#"{"flow_id":"f","type":"x"}"#, |fields| {
            assert_eq!((fields.job_id, fields.flow_id, fields.timestamp), (None, Some("f"), None));
        });
    }

    #[test]
    fn keys_inside_other_objects_do_not_count() {
        with_event(
            r#"{"a":{"type":"no","job_id":"no","stream_seq":1},"b":[{"flow_id":"no"}],"type":"yes","job_id":"j","c":[[],{}]}"#,
            |fields| {
                assert_eq!((fields.kind, fields.job_id, fields.flow_id), ("yes", Some("j"), None));
            },
        );
    }

    #[test]
    fn finds_the_inner_type_of_an_execution_event_only() {
        let inner_of = |line: &str, expected: Option<&str>| {
            with_event(line, |fields| assert_eq!(fields.inner, expected, "{line}"));
        };
        inner_of(
            r#"{"type":"execution_event","job_id":"j","event":{"event_id":"e","data":{"event_type":"no"},"event_type":"slot_call"}}"#,
            Some("slot_call"),
        );
        inner_of(r#"{"event":{"event_type":"error"},"job_id":"j","type":"execution_event"}"#, Some("error"));
        for none in [
            r#"{"type":"other","job_id":"j","event":{"event_type":"slot_call"}}"#,
            r#"{"type":"execution_event","job_id":"j"}"#,
            r#"{"type":"execution_event","job_id":"j","event_type":"slot_call"}"#,
            r#"{"type":"execution_event","job_id":"j","event":"slot_call"}"#,
            r#"{"type":"execution_event","job_id":"j","event":{}}"#,
            r#"{"type":"execution_event","job_id":"j","event":{"event_type":1}}"#,
            r#"{"type":"execution_event","job_id":"j","event":{"event_type":null}}"#,
        ] {
            inner_of(none, None);
        }
    }

    #[test]
    fn an_inner_type_that_is_no_type_name_keeps_its_prefix() {
        let inner_of = |event: &str, expected: &str| {
            let line = format!(r#"{{"type":"execution_event","job_id":"j","event":{event}}}"#);
            with_event(&line, |fields| assert_eq!(fields.inner, Some(expected), "{line}"));
        };
        inner_of(r#"{"event_type":"slot call"}"#, "slot call");
        inner_of(r#"{"event_type":"breakpoint_hit "}"#, "breakpoint_hit ");
        inner_of(r#"{"event_type":"breakpoint_hit\u0000"}"#, "breakpoint_hit\0");
        inner_of(r#"{"event_type":"\u0062reakpoint_hit"}"#, "breakpoint_hit");
        inner_of(r#"{"event_type":""}"#, "");
        let long = format!("breakpoint_{}", "x".repeat(60));
        inner_of(&format!(r#"{{"event_type":"{long}"}}"#), &long[..INNER_BYTES_MAX]);
        inner_of(&format!(r#"{{"event_type":"{}"}}"#, "ä".repeat(40)), &"ä".repeat(32));
        // Readers may take these for anything.
        inner_of(r#"{"event_type":["breakpoint_hit"]}"#, UNREADABLE_INNER);
        inner_of(r#"{"event_type":{"a":1}}"#, UNREADABLE_INNER);
        inner_of(r#"[{"event_type":"breakpoint_hit"}]"#, UNREADABLE_INNER);
        inner_of(r#""breakpoint_hit""#, UNREADABLE_INNER);
        inner_of(r#"{"event_type":"breakpoint_hit","event_type":"slot_call"}"#, UNREADABLE_INNER);
        inner_of(r#"{"event_type":"a","event_type":"slot_call"}"#, "slot_call");
        inner_of(r#"{"event_type":"breakpoint_hit"},"event":{"event_type":"slot_call"}"#, UNREADABLE_INNER);
        inner_of(r#"{"event_type":"slot_call"},"event":{"event_type":"breakpoint_hit"}"#, "breakpoint_hit");
        inner_of(r#"{"event_type":"breakpoint_hit"},"event":{"event_type":7}"#, UNREADABLE_INNER);
    }

    #[test]
    fn a_timestamp_is_read_as_all_readers_read_it() {
        let table: Vec<serde_json::Value> =
            serde_json::from_str(include_str!("../../tests/cases/timestamps.json")).unwrap();
        for row in table {
            let line = format!(r#"{{"type":"x","job_id":"j","timestamp":{}}}"#, row["value"]);
            let micros = row["micros"].as_i64();
            with_event(&line, |fields| {
                assert_eq!(fields.timestamp.and_then(super::Timestamp::unix_micros), micros, "{line}");
            });
            // Next to a number that is too wide for the first parser.
            let line = line.replace("}", r#","n":1e400}"#);
            if !row["value"].is_object() {
                with_event(&line, |fields| {
                    assert_eq!(fields.timestamp.and_then(super::Timestamp::unix_micros), micros, "{line}");
                });
            }
        }
    }

    #[test]
    fn finds_the_flow_in_data_where_there_is_no_other() {
        let flow_of = |line: &str, expected: Option<&str>| {
            with_event(line, |fields| {
                assert_eq!(fields.data_flow_id, expected, "{line}");
            });
        };
        flow_of(r#"{"type":"x","job_id":"j","data":{"a":[1,{"flow_id":"no"}],"flow_id":"f"}}"#, Some("f"));
        flow_of(r#"{"type":"x","job_id":"j","flow_id":null,"data":{"flow_id":"f"}}"#, Some("f"));
        flow_of(r#"{"type":"x","job_id":"j","flow_id":"g","data":{"flow_id":"f"}}"#, None);
        flow_of(r#"{"type":"x","job_id":"j","data":{"flow_id":"a b"}}"#, None);
        flow_of(r#"{"type":"x","job_id":"j","data":{"flow_id":7}}"#, None);
        flow_of(r#"{"type":"x","job_id":"j","data":["flow_id","f"]}"#, None);
    }

    #[test]
    fn escaped_text_is_decoded() {
        with_event(
            r#"{"\u0074ype":"job\u005fstarted","\u006aob_id":"\u006a1","note":"\ud83d\ude00 \"quoted\" \\ \u0000"}"#,
            |fields| assert_eq!((fields.kind, fields.job_id), ("job_started", Some("j1"))),
        );
        assert_eq!(error_of(r#"{"type":"x","job_id":"a","\u006aob_id":"b"}"#), Some(LineError::DuplicateKey));
        assert_eq!(error_of(r#"{"type":"x","job_id":"a","stream\u005fseq":1}"#), Some(LineError::Reserved));
    }

    #[test]
    fn refuses_what_is_not_json() {
        let with = |rest: &str| format!(r#"{{"type":"x","job_id":"j","v":{rest}"#);
        for rest in [
            r#""\ud800"}"#,
            r#""\udc00"}"#,
            r#""\ud800\ud800"}"#,
            r#""\ud800x"}"#,
            r#""\udc00\ud800"}"#,
            r#"{"\ud83d":1}}"#,
            r#""\u12g4"}"#,
            r#""\x41"}"#,
            "\"tab\there\"}",
            "\"nul\0\"}",
            "1}\0",
            "1} x",
            "1}}",
            "1}{",
            "1},",
            "1,}",
            "[1,]}",
            "01}",
            "-}",
            "+1}",
            ".5}",
            "1.}",
            "1e}",
            "1e+}",
            "0x10}",
            "NaN}",
            "Infinity}",
            "nul}",
            "truE}",
            "'a'}",
            "1",
            "\"a}",
            "\u{feff}1}",
            "\u{a0}1}",
            "\u{c}1}",
            "1e400 2}",
            "1e400,\"\\ud800\"}",
            "[1e400,01]}",
        ] {
            assert_eq!(error_of(with(rest)), Some(LineError::BadJson), "{rest}");
        }
        assert_eq!(error_of("{"), Some(LineError::BadJson));
        assert_eq!(error_of("\u{feff}{\"type\":\"x\",\"job_id\":\"j\"}"), Some(LineError::BadJson));
        assert_eq!(error_of(""), Some(LineError::BadJson));
    }

    #[test]
    fn refuses_what_is_not_utf8() {
        for bad in [&b"\xff"[..], b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82", b"\x80"] {
            for (before, after) in [
                (&br#"{"type":"x","job_id":"j","v":""#[..], &br#""}"#[..]),
                (br#"{"type":"x","job_id":"j","v":""#, b"never closed"),
                (br#"{"type":"x","job_id":"j","v":"#, b"}"),
                (br#"{"type":"x","job_id":"j","n":1e999,"v":""#, br#""}"#),
                (b"[\"", b"\"]"),
                (b"", b""),
            ] {
                let line = [before, bad, after].concat();
                assert_eq!(error_of(&line), Some(LineError::BadUtf8), "{line:?}");
            }
        }
    }

    #[test]
    fn depth_is_counted_from_the_lines_own_object() {
        let nested = |open: &str, close: &str, times: usize, number: &str| {
            format!(
                r#"{{"type":"x","job_id":"j","n":{number},"v":{}0{}}}"#,
                open.repeat(times),
                close.repeat(times)
            )
        };
        for number in ["1", "1e999"] {
            for (open, close) in [("[", "]"), (r#"{"k":"#, "}")] {
                assert_eq!(error_of(nested(open, close, 63, number)), None);
                for times in [64, 65, 200, 5000] {
                    let error = error_of(nested(open, close, times, number));
                    assert_eq!(error, Some(LineError::TooDeep), "{open} {times}");
                }
            }
        }
        assert_eq!(error_of("[".repeat(100)), Some(LineError::TooDeep));
        let mut shallow = LineReader::new(1);
        let line = br#"{"type":"x","job_id":"j","v":[]}"#;
        with_line(&mut shallow, line, |read| {
            assert_eq!(read, Err(LineError::TooDeep));
        });
        with_line(&mut shallow, br#"{"type":"x","job_id":"j","v":1}"#, |read| {
            assert!(read.is_ok());
        });
    }

    #[test]
    fn refuses_json_that_is_no_object() {
        for line in ["[]", "[1,{}]", "1", "\"a\"", "null", "true", "-1e999"] {
            assert_eq!(error_of(line), Some(LineError::NotAnObject), "{line}");
        }
        for line in ["[", "1 2", "nul", "hello", "]", "-", "01", "\"\\ud800\""] {
            assert_eq!(error_of(line), Some(LineError::BadJson), "{line}");
        }
    }

    #[test]
    fn refuses_events_that_cannot_be_routed() {
        let long_type = format!(r#"{{"type":"{}","job_id":"j"}}"#, "t".repeat(65));
        let long_id = format!(r#"{{"type":"x","job_id":"{}"}}"#, "j".repeat(129));
        let table = [
            (r#"{}"#, LineError::NoType),
            (r#"{"job_id":"j"}"#, LineError::NoType),
            (r#"{"type":null,"job_id":"j"}"#, LineError::BadType),
            (r#"{"type":5,"job_id":"j"}"#, LineError::BadType),
            (r#"{"type":["x"],"job_id":"j"}"#, LineError::BadType),
            (r#"{"type":"","job_id":"j"}"#, LineError::BadType),
            (r#"{"type":"a b","job_id":"j"}"#, LineError::BadType),
            (r#"{"type":"größe","job_id":"j"}"#, LineError::BadType),
            (r#"{"type":"a\u0000","job_id":"j"}"#, LineError::BadType),
            (&long_type, LineError::BadType),
            (r#"{"type":"x"}"#, LineError::NoId),
            (r#"{"type":"x","job_id":null}"#, LineError::NoId),
            (r#"{"type":"x","job_id":null,"flow_id":null}"#, LineError::NoId),
            (r#"{"type":"x","data":{"flow_id":"f"}}"#, LineError::NoId),
            (r#"{"type":"x","job_id":5}"#, LineError::BadId),
            (r#"{"type":"x","job_id":{}}"#, LineError::BadId),
            (r#"{"type":"x","job_id":""}"#, LineError::BadId),
            (r#"{"type":"x","job_id":"a/b"}"#, LineError::BadId),
            (r#"{"type":"x","job_id":"j","flow_id":"a b"}"#, LineError::BadId),
            (r#"{"type":"x","job_id":false,"flow_id":"f"}"#, LineError::BadId),
            (&long_id, LineError::BadId),
            (r#"{"type":"x","type":"x","job_id":"j"}"#, LineError::DuplicateKey),
            (r#"{"type":"x","job_id":"j","job_id":"j"}"#, LineError::DuplicateKey),
            (r#"{"type":"x","job_id":null,"job_id":"j"}"#, LineError::DuplicateKey),
            (r#"{"type":"x","flow_id":"f","flow_id":null}"#, LineError::DuplicateKey),
            (r#"{"stream_seq":1,"type":"x","job_id":"j"}"#, LineError::Reserved),
            (r#"{"type":"x","job_id":"j","stream_seq":null}"#, LineError::Reserved),
        ];
        for (line, error) in table {
            assert_eq!(error_of(line), Some(error), "{line}");
        }
        for own in [
            "connection:status",
            "ping",
            "pong",
            "subscription:confirmed",
            "stream:gap",
            "error",
            "connected",
            "subscribed",
            "already_subscribed",
            "unsubscribed",
            "not_subscribed",
        ] {
            let line = format!(r#"{{"type":"{own}","job_id":"j"}}"#);
            assert_eq!(error_of(&line), Some(LineError::Reserved), "{own}");
        }
        let longest = format!(r#"{{"type":"{}","job_id":"{}"}}"#, "t".repeat(64), "j".repeat(128));
        for good in [
            &longest,
            r#"{"type":"metrics","job_id":"j"}"#,
            r#"{"type":"x","job_id":null,"flow_id":"f"}"#,
            r#"{"type":"Ping","job_id":"j"}"#,
            r#"{"type":"x","job_id":"j","data":1,"data":2}"#,
        ] {
            assert_eq!(error_of(good), None, "{good}");
        }
    }

    #[test]
    fn numbers_of_any_size_are_json() {
        let digits = "7".repeat(400);
        for number in [
            "0",
            "-0",
            "1e400",
            "-1E+400",
            "1e-400",
            "1.5e9999",
            "0e99999999999",
            "-0.0",
            "18446744073709551615",
            "18446744073709551616",
            "-9223372036854775809",
            "123456789012345678901234567890",
            &digits,
            &format!("0.{digits}e{digits}"),
        ] {
            let line = format!(
                r#"{{"text":"1e400 \" 1e400","type":"x","v":{number},"w":[{number},{{"k":{number}}}],"\u006aob_id":"j\u0031"}}"#
            );
            with_event(&line, |fields| {
                assert_eq!((fields.kind, fields.job_id), ("x", Some("j1")), "{number}");
            });
        }
        assert_eq!(
            error_of(r#"{"type":"x","job_id":"j","v":1e400,"job_id":"j"}"#),
            Some(LineError::DuplicateKey)
        );
        assert_eq!(error_of(r#"{"type":"x","job_id":1e400}"#), Some(LineError::BadId));
        assert_control(r#"{"op":"from","line":7,"v":1e400}"#, Ok(Control::From { line: 7 }));
        assert_control(r#"{"op":"from","line":1e400}"#, Err(LineError::BadOp));
        assert_control(r#"{"op":"from","line":99999999999999999999}"#, Err(LineError::BadOp));
    }

    #[test]
    fn control_lines() {
        let hello = |publisher, ack, dedupe| Ok(Control::Hello { publisher, ack, dedupe });
        let table = [
            (r#"{"op":"hello"}"#, hello(None, false, false)),
            (r#"{"op":"hello","ack":true,"job_id":7}"#, hello(None, true, false)),
            (
                r#"{"publisher":"engine-1","ack":true,"dedupe":true,"op":"hello","version":3}"#,
                hello(Some("engine-1"), true, true),
            ),
            (r#"{"op":"hello","publisher":"p","ack":false}"#, hello(Some("p"), false, false)),
            (r#"{"op":"hello","dedupe":true}"#, Err(LineError::BadOp)),
            (r#"{"op":"hello","publisher":"a b"}"#, Err(LineError::BadOp)),
            (r#"{"op":"hello","publisher":null}"#, Err(LineError::BadOp)),
            (r#"{"op":"hello","ack":1}"#, Err(LineError::BadOp)),
            (r#"{"op":"hello","ack":true,"ack":false}"#, Err(LineError::BadOp)),
            (r#"{"op":"hello","op":"hello"}"#, Err(LineError::BadOp)),
            (r#"{"op":"from","line":1}"#, Ok(Control::From { line: 1 })),
            (r#"{"op":"from","line":9007199254740991}"#, Ok(Control::From { line: LINE_NUMBER_MAX })),
            (r#"{"op":"from","line":9007199254740992}"#, Err(LineError::BadOp)),
            (r#"{"op":"from","line":18446744073709551615}"#, Err(LineError::BadOp)),
            (r#"{"op":"from","line":18446744073709551616}"#, Err(LineError::BadOp)),
            (r#"{"op":"from","line":36893488147419103233}"#, Err(LineError::BadOp)),
            (r#"{"op":"from","line":0}"#, Err(LineError::BadOp)),
            (r#"{"op":"from","line":-1}"#, Err(LineError::BadOp)),
            (r#"{"op":"from","line":1.0}"#, Err(LineError::BadOp)),
            (r#"{"op":"from","line":"1"}"#, Err(LineError::BadOp)),
            (r#"{"op":"from"}"#, Err(LineError::BadOp)),
            (r#"{"op":"ack","line":1}"#, Err(LineError::BadOp)),
            (r#"{"op":null}"#, Err(LineError::BadOp)),
            (r#"{"op":{"op":"hello"}}"#, Err(LineError::BadOp)),
        ];
        for (line, expected) in table {
            assert_control(line, expected);
        }
        with_event(r#"{"op":"hello","type":"x","job_id":"j"}"#, |fields| {
            assert_eq!(fields.kind, "x");
        });
        assert_eq!(error_of(r#"{"op":"hello","type":7}"#), Some(LineError::BadType));
    }

    /// The results that the clients and Python share, also for a line of the feed, where `job_id: null` is no id.
    #[test]
    fn every_case_of_the_table_of_ids_has_its_result() {
        #[derive(serde::Deserialize)]
        struct Case {
            value: serde_json::Value,
            is_id: bool,
        }
        let cases: Vec<Case> = serde_json::from_str(include_str!("../../tests/cases/ids.json")).unwrap();
        assert!(cases.len() > 40);
        for Case { value, is_id: is_good } in cases {
            assert_eq!(value.as_str().is_some_and(is_id), is_good, "{value}");
            let line = serde_json::json!({"type": "note", "job_id": value}).to_string();
            assert_eq!(error_of(&line).is_none(), is_good, "{line}");
        }
    }

    #[test]
    fn ids_and_type_names() {
        for byte in 0..=127_u8 {
            let is_good = byte.is_ascii_alphanumeric() || b"_.:-".contains(&byte);
            let text = format!("a{}z", char::from(byte));
            assert_eq!(is_id(&text), is_good, "{text:?}");
            assert_eq!(is_type_name(&text), is_good, "{text:?}");
        }
        for length in 1..=64 {
            for bad in 0..length {
                let mut text = "a".repeat(length);
                assert!(is_type_name(&text));
                text.replace_range(bad..=bad, "/");
                assert!(!is_type_name(&text), "{length} {bad}");
            }
        }
        assert!(!is_id("é") && !is_id("") && !is_type_name(""));
        assert!(is_id(&"a".repeat(128)) && !is_id(&"a".repeat(129)));
        assert!(is_type_name(&"a".repeat(64)) && !is_type_name(&"a".repeat(65)));
    }

    #[test]
    fn trims_blanks_and_the_carriage_return() {
        for (line, text) in [
            (&b"{}"[..], &b"{}"[..]),
            (b"{}\r", b"{}"),
            (b" \t{ }\t \r", b"{ }"),
            (b"\r", b""),
            (b"  ", b""),
            (b"", b""),
            (b"\x0c{}", b"\x0c{}"),
        ] {
            assert_eq!(&line[trim(line)], text, "{line:?}");
        }
    }

    #[test]
    fn answers_are_json_lines() {
        let mut out = Vec::new();
        write_welcome(&mut out, 17, None);
        write_welcome(&mut out, 17, Some(0));
        write_ack(&mut out, 3, u64::MAX, 2);
        write_full(&mut out);
        write_error(&mut out, 12, LineError::BadUtf8);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            concat!(
                "{\"op\":\"welcome\",\"stream_seq\":17}\n",
                "{\"op\":\"welcome\",\"stream_seq\":17,\"accepted\":0}\n",
                "{\"op\":\"ack\",\"line\":3,\"stream_seq\":18446744073709551615,\"refused\":2}\n",
                "{\"op\":\"error\",\"line\":0,\"code\":\"too_many_publishers\",",
                "\"message\":\"publishers_max publishers are connected: try again later\"}\n",
                "{\"op\":\"error\",\"line\":12,\"code\":\"bad_utf8\",\"message\":\"the line is not valid UTF-8\"}\n",
            )
        );
        let mut codes = HashSet::new();
        for error in LineError::ALL {
            let mut out = Vec::new();
            write_error(&mut out, 1, error);
            assert_eq!(out.iter().filter(|byte| **byte == b'\n').count(), 1);
            let answer: serde_json::Value = serde_json::from_slice(&out).unwrap();
            assert_eq!(answer["code"], error.code());
            assert_eq!(answer["message"], error.message());
            assert!(codes.insert(error.code()));
        }
    }

    /// The members of one object, repeated keys kept, values unread.
    struct Pairs<'a>(Vec<(String, &'a RawValue)>);

    impl<'de> serde::Deserialize<'de> for Pairs<'de> {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct PairsVisitor;
            impl<'de> Visitor<'de> for PairsVisitor {
                type Value = Pairs<'de>;
                fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                    formatter.write_str("an object")
                }
                fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                    let mut pairs = Vec::new();
                    while let Some(pair) = map.next_entry()? {
                        pairs.push(pair);
                    }
                    Ok(Pairs(pairs))
                }
            }
            deserializer.deserialize_map(PairsVisitor)
        }
    }

    /// The depth of a JSON text, found a second way: every string decoded, no number read. None: not JSON.
    fn depth_of(text: &str) -> Option<usize> {
        match text.trim_start_matches([' ', '\t', '\r', '\n']).bytes().next()? {
            b'"' => serde_json::from_str::<String>(text).ok().map(|_| 0),
            b'[' => {
                let items: Vec<&RawValue> = serde_json::from_str(text).ok()?;
                let depths: Option<Vec<usize>> = items.iter().map(|item| depth_of(item.get())).collect();
                Some(1 + depths?.into_iter().max().unwrap_or(0))
            }
            b'{' => {
                let pairs: Pairs<'_> = serde_json::from_str(text).ok()?;
                let depths: Option<Vec<usize>> =
                    pairs.0.iter().map(|(_, value)| depth_of(value.get())).collect();
                Some(1 + depths?.into_iter().max().unwrap_or(0))
            }
            _ => serde_json::from_str::<IgnoredAny>(text).ok().map(|_| 0),
        }
    }

    /// The same rules, written a second time, slowly.
    fn expected(line: &[u8]) -> Result<(String, Option<String>, Option<String>), LineError> {
        let text = std::str::from_utf8(line).map_err(|_| LineError::BadUtf8)?;
        let depth = depth_of(text).ok_or(LineError::BadJson)?;
        if depth > DEPTH_MAX {
            return Err(LineError::TooDeep);
        }
        let Ok(Pairs(pairs)) = serde_json::from_str(text) else {
            return Err(LineError::NotAnObject);
        };
        if pairs.iter().any(|(key, _)| key == "stream_seq") {
            return Err(LineError::Reserved);
        }
        let only = |name: &str| {
            let mut found = pairs.iter().filter(|(key, _)| key == name);
            match (found.next(), found.next()) {
                (first, None) => Ok(first.map(|(_, value)| value.get())),
                _ => Err(LineError::DuplicateKey),
            }
        };
        let (kind, job_id, flow_id) = (only("type")?, only("job_id")?, only("flow_id")?);
        let kind = match kind {
            Some(kind) => serde_json::from_str::<String>(kind)
                .ok()
                .filter(|kind| is_type_name(kind))
                .ok_or(LineError::BadType)?,
            None => return Err(LineError::NoType),
        };
        if is_own_type(&kind) {
            return Err(LineError::Reserved);
        }
        let id = |id: Option<&str>| match id {
            None | Some("null") => Ok(None),
            Some(id) => serde_json::from_str::<String>(id)
                .ok()
                .filter(|id| is_id(id))
                .map(Some)
                .ok_or(LineError::BadId),
        };
        let (job_id, flow_id) = (id(job_id)?, id(flow_id)?);
        if job_id.is_none() && flow_id.is_none() {
            return Err(LineError::NoId);
        }
        Ok((kind, job_id, flow_id))
    }

    fn mutate(line: &mut Vec<u8>, random: &mut Rng) {
        const PIECES: &[&[u8]] = &[
            b"\"",
            b"\\",
            b"\\\"",
            b"{",
            b"}",
            b"[",
            b"]",
            b",",
            b":",
            b" ",
            b"\t",
            b"\r",
            b"\0",
            b"\x0c",
            b"\x1f",
            b"\x7f",
            b"\xff",
            b"\xc3",
            b"\xa4",
            "ä".as_bytes(),
            "😀".as_bytes(),
            b"\xed\xa0\x80",
            b"\xef\xbb\xbf",
            b"\\ud800",
            b"\\udc00",
            b"\\ud83d\\ude00",
            b"\\u0000",
            b"\\u006a",
            b"\\n",
            b"\\x",
            b"0",
            b"-",
            b"+",
            b".",
            b"e",
            b"1e400",
            b"-0",
            b"18446744073709551616",
            b"1e-999",
            b"01",
            b"null",
            b"true",
            b"false",
            b"\"type\":\"x\",",
            b"\"job_id\":\"j\",",
            b",\"v\":1e999",
            b",\"v\":[[{}]]",
            b"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
            b"]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]",
            b"\"stream_seq\":1,",
            b"\"flow_id\":null,",
            b"/",
            b"'",
            b"//",
            b"NaN",
        ];
        for _ in 0..=random.usize(..4) / 3 {
            let at = random.usize(..line.len() + 1);
            let piece = PIECES[random.usize(..PIECES.len())];
            match random.usize(..6) {
                0 | 1 => drop(line.splice(at..at, piece.iter().copied())),
                2 => {
                    let end = (at + piece.len()).min(line.len());
                    drop(line.splice(at..end, piece.iter().copied()));
                }
                3 if at < line.len() => line[at] ^= 1 << random.usize(..8),
                4 => drop(line.drain(at..(at + 1 + random.usize(..4)).min(line.len()))),
                _ => {
                    let end = (at + random.usize(..40)).min(line.len());
                    let copy = line[at..end].to_vec();
                    let to = random.usize(..line.len() + 1);
                    drop(line.splice(to..to, copy));
                }
            }
        }
        line.retain(|byte| *byte != b'\n');
    }

    /// Compares simd-json and the narrowing of numbers with serde_json, on lines that are nearly right.
    #[test]
    fn agrees_with_a_second_parser_on_mutated_lines() {
        const SEEDS: &[&str] = &[
            r#"{"type": "execution_event", "job_id": "e8b0d261-c105-4e0e-8e4b-ac3c52c2dbbe", "timestamp": "2026-11-23T07:35:32.391Z", "event": {"event_id": "evt_000001", "event_type": "event_emit", "data": {"meta": {"user": "jürgen", "tags": ["日本", "π"], "ratio": 0.14285714285714285}}}}"#,
            r#"{"type":"x","job_id":"j","flow_id":null,"a":[1,-2.5,3e10,true,false,null,"\u00e4\n\"\\"],"b":{}}"#,
            r#"{"type":"x","job_id":"j","v":1e400,"w":[18446744073709551616,{"k":-1E+999}]}"#,
            r#"{"a":[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[0]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]],"type":"x","job_id":"j"}"#,
            r#"{"type":"x","job_id":"j"}"#,
            r#"[1,2]"#,
        ];
        const ROUNDS: usize = 100_000;
        let mut reader = LineReader::new(DEPTH_MAX);
        let mut random = Rng::with_seed(1);
        let (mut accepted, mut refused) = (0, 0);
        for round in 0..ROUNDS {
            let mut line = SEEDS[round % SEEDS.len()].as_bytes().to_vec();
            mutate(&mut line, &mut random);
            let line = &line[trim(&line)];
            if line.is_empty() {
                continue;
            }
            let expected = expected(line);
            let shown = String::from_utf8_lossy(line);
            with_line(&mut reader, line, |read| match (&read, &expected) {
                (Ok(Line::Event(fields)), Ok((kind, job_id, flow_id))) => {
                    accepted += 1;
                    assert_eq!(fields.kind, kind, "{shown}");
                    assert_eq!(fields.job_id, job_id.as_deref(), "{shown}");
                    assert_eq!(fields.flow_id, flow_id.as_deref(), "{shown}");
                }
                // Two faults in one line: which of them is named may differ.
                (Err(LineError::TooDeep), Err(LineError::BadJson))
                | (Err(LineError::Reserved), Err(LineError::DuplicateKey))
                | (Err(LineError::DuplicateKey), Err(LineError::Reserved)) => refused += 1,
                (Err(error), Err(expected)) => {
                    refused += 1;
                    assert_eq!(error, expected, "{shown}");
                }
                _ => panic!("{shown}: {read:?}, expected {expected:?}"),
            });
        }
        assert!(accepted > 10_000 && refused > 10_000, "{accepted} {refused}");
    }
}
