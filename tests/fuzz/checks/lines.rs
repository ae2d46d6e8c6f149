//! Lines of the feed, against what serde_json makes of them: what is taken, what is forwarded, why one is refused.

use std::collections::BTreeSet;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use luxcast::stream::dialect;
use luxcast::stream::directory::Directory;
use luxcast::stream::now::Now;
use luxcast::stream::numbers::SEQ_MIN;
use luxcast::stream::sequencer::{Limits, Sequencer, Step, Taken};
use luxcast::wire::line::{EventFields, INNER_BYTES_MAX, Line, LineReader, PADDING, UNREADABLE_INNER, trim};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

const DEPTH_MAX: usize = 64;
const OWN_TYPES: [&str; 11] = [
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
];

/// Panics where something does not hold for these lines.
pub fn check(feed: &[u8]) {
    let directory = Arc::new(Directory::new(SEQ_MIN, 1 << 20));
    let limits = Limits {
        history_bytes: 64 << 20,
        history_millis: 1 << 40,
        job_idle_millis: 1 << 40,
        metrics_millis: 0,
        jobs_max: 1 << 20,
        depth_max: DEPTH_MAX,
    };
    let mut sequencer = Sequencer::new(directory.clone(), Vec::new(), limits);
    sequencer.begin_turn(Now { millis: 1, unix_micros: SEQ_MIN as i64 }, feed.len());
    let mut reader = LineReader::new(DEPTH_MAX);
    let mut taken = Vec::new();
    for line in
        feed.split(|byte| *byte == b'\n').map(|line| &line[trim(line)]).filter(|line| !line.is_empty())
    {
        let oracle = Oracle::of(line);
        check_line(&mut reader, line, &oracle);
        let mut block = padded(line);
        match sequencer.take_line(&mut block, line.len()) {
            Ok(Taken::Event(seq)) => taken.push((seq, line)),
            Ok(Taken::Control(_)) => assert!(oracle.is_control, "{}", line.escape_ascii()),
            Err(error) => oracle.assert_refused(line, error.code()),
        }
    }
    sequencer.end_turn();
    while sequencer.step() != Step::Done {}
    check_frames(&directory, &taken);
}

/// With something behind it that must not be looked at.
fn padded(line: &[u8]) -> Vec<u8> {
    let mut block = line.to_vec();
    block.resize(line.len() + PADDING, b'"');
    block
}

fn check_line(reader: &mut LineReader, line: &[u8], oracle: &Oracle) {
    let mut block = padded(line);
    match reader.read(&mut block, line.len(), &line[1..]) {
        Ok(Line::Event(fields)) => oracle.assert_taken(line, &fields),
        Ok(Line::Control(_)) => assert!(oracle.is_control, "{}", line.escape_ascii()),
        Err(error) => oracle.assert_refused(line, error.code()),
    }
    assert!(block[line.len()..].iter().all(|byte| *byte == b'"'), "written behind the line");
}

/// Each taken line went out once, in order, byte for byte, as a whole text frame of valid UTF-8 and valid JSON.
fn check_frames(directory: &Directory, taken: &[(u64, &[u8])]) {
    let mut expected = Vec::new();
    for (seq, line) in taken {
        let mut object = format!("{{\"stream_seq\":{seq},").into_bytes();
        object.extend_from_slice(&line[1..]);
        let text = std::str::from_utf8(&object).expect("only UTF-8 is forwarded");
        check_dialect(text);
        expected.extend(unmasked(&object));
    }
    let log = directory.all.log.lock();
    let sent: Vec<u8> = log.handles().flat_map(|handle| handle.batch.bytes().to_vec()).collect();
    assert!(sent == expected, "{}\nnot {}", sent.escape_ascii(), expected.escape_ascii());
}

fn unmasked(payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x81];
    match payload.len() {
        length @ 0..126 => frame.push(length as u8),
        length @ 126..0x1_0000 => {
            frame.push(126);
            frame.extend((length as u16).to_be_bytes());
        }
        length => {
            frame.push(127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(payload);
    frame
}

/// In the other dialect: an object of the same members but for `type` and `data`, the latter an object.
fn check_dialect(object: &str) {
    let mut out = Vec::new();
    dialect::translate(object.as_bytes(), &mut out);
    let text = std::str::from_utf8(&out).expect("the dialect is UTF-8");
    let (Ok(original), Ok(translated)) =
        (serde_json::from_str::<Value>(&narrow(object)), serde_json::from_str::<Value>(&narrow(text)))
    else {
        panic!("not JSON: {text}\nof {object}");
    };
    assert!(translated["data"].is_object() && translated["type"].is_string(), "{text}");
    let members = original.as_object().expect("an event is an object");
    for (name, value) in members.iter().filter(|(name, _)| !["type", "data"].contains(&name.as_str())) {
        assert_eq!(translated.get(name), Some(value), "{name} of {object}\nin {text}");
    }
}

/// What a line is, found out the naive way.
#[derive(Debug, Default)]
struct Oracle {
    /// Each fault that it has; any may be told.
    faults: BTreeSet<&'static str>,
    is_control: bool,
    kind: Option<String>,
    inner: Option<String>,
    job_id: Option<String>,
    flow_id: Option<String>,
    data_flow_id: Option<String>,
}

/// The inner type of a line, as its readers may take it: the last of all, but a breakpoint's if any may be one.
fn inner_type(line: &str) -> Option<String> {
    let events = parse::<Members<Box<RawValue>>>(line).expect("it was an object").0;
    let events = events.iter().filter(|member| member.0 == "event");
    let types_of = |event: &RawValue| match parse::<Members<Value>>(event.get()) {
        Ok(members) => members.0.into_iter().filter(|it| it.0 == "event_type").map(|it| it.1).collect(),
        // What is no object may be taken for its type.
        Err(_) => match parse::<Value>(event.get()) {
            Ok(Value::String(text)) if !text.starts_with("breakpoint_") => vec![],
            Ok(Value::Array(_) | Value::String(_)) => vec![Value::Array(vec![])],
            _ => vec![],
        },
    };
    let types: Vec<Value> = events.flat_map(|member| types_of(&member.1)).collect();
    let (last, before) = types.split_last()?;
    let may_hide = |value: &Value| {
        value.is_object()
            || value.is_array()
            || value.as_str().is_some_and(|text| text.starts_with("breakpoint_"))
    };
    if before.iter().any(may_hide) || last.is_object() || last.is_array() {
        return Some(UNREADABLE_INNER.to_owned());
    }
    let text = last.as_str()?;
    Some(text[..text.floor_char_boundary(INNER_BYTES_MAX)].to_owned())
}

impl Oracle {
    fn of(line: &[u8]) -> Self {
        let mut oracle = Self::default();
        if depth(line) > DEPTH_MAX {
            oracle.faults.insert("too_deep");
        }
        let Ok(text) = std::str::from_utf8(line) else {
            oracle.faults.insert("bad_utf8");
            return oracle;
        };
        let narrow = narrow(text);
        let Ok(value) = parse::<Value>(&narrow) else {
            oracle.faults.insert("bad_json");
            return oracle;
        };
        if !value.is_object() {
            oracle.faults.insert("not_an_object");
            return oracle;
        }
        oracle.look_at(parse::<Members<Value>>(&narrow).expect("it was an object").0);
        if oracle.kind.as_deref() == Some("execution_event") {
            oracle.inner = inner_type(&narrow);
        }
        oracle
    }

    fn look_at(&mut self, members: Vec<(String, Value)>) {
        let all = |name: &str| {
            members.iter().filter(|member| member.0 == name).map(|member| &member.1).collect::<Vec<_>>()
        };
        let last = |name: &str| all(name).pop().cloned().unwrap_or_default();
        let is_word = |text: &&str, bytes_max: usize| {
            let is_good = |letter: char| letter.is_ascii_alphanumeric() || "_.:-".contains(letter);
            (1..=bytes_max).contains(&text.len()) && text.chars().all(is_good)
        };
        let word = |value: &Value, bytes_max| {
            value.as_str().filter(|text| is_word(text, bytes_max)).map(str::to_owned)
        };
        let mut faults = BTreeSet::new();
        if !all("stream_seq").is_empty() {
            faults.insert("reserved");
        }
        if ["type", "job_id", "flow_id"].into_iter().any(|name| all(name).len() > 1) {
            faults.insert("duplicate_key");
        }
        if all("type").is_empty() && !all("op").is_empty() {
            self.is_control = faults.is_empty();
            // What a control line needs is for other tests.
            faults.insert("bad_op");
            self.faults.extend(faults);
            return;
        }
        self.kind = word(&last("type"), 64);
        match &self.kind {
            None if all("type").is_empty() => drop(faults.insert("no_type")),
            None => drop(faults.insert("bad_type")),
            Some(kind) if OWN_TYPES.contains(&kind.as_str()) => drop(faults.insert("reserved")),
            Some(_) => {}
        }
        (self.job_id, self.flow_id) = (word(&last("job_id"), 128), word(&last("flow_id"), 128));
        if last("job_id").is_null() && last("flow_id").is_null() {
            faults.insert("no_id");
        }
        let is_bad = |name: &str, id: &Option<String>| id.is_none() && !last(name).is_null();
        if is_bad("job_id", &self.job_id) || is_bad("flow_id", &self.flow_id) {
            faults.insert("bad_id");
        }
        if self.flow_id.is_none() {
            self.data_flow_id = word(&last("data")["flow_id"], 128);
        }
        self.faults.extend(faults);
    }

    fn assert_taken(&self, line: &[u8], fields: &EventFields<'_>) {
        assert!(self.faults.is_empty(), "taken in spite of {:?}: {}", self.faults, line.escape_ascii());
        let expected = (self.kind.as_deref(), self.inner.as_deref(), self.job_id.as_deref());
        assert_eq!((Some(fields.kind), fields.inner, fields.job_id), expected, "{}", line.escape_ascii());
        let expected = (self.flow_id.as_deref(), self.data_flow_id.as_deref());
        assert_eq!((fields.flow_id, fields.data_flow_id), expected, "{}", line.escape_ascii());
    }

    fn assert_refused(&self, line: &[u8], code: &str) {
        assert!(self.faults.contains(code), "{code}, not one of {:?}: {}", self.faults, line.escape_ascii());
    }
}

/// Deepest nesting, as far as brackets outside of strings tell.
fn depth(line: &[u8]) -> usize {
    let (mut depth, mut deepest, mut is_string, mut is_escaped) = (0_usize, 0, false, false);
    for byte in line {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_string => is_escaped = true,
            b'"' => is_string = !is_string,
            b'{' | b'[' if !is_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !is_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// Each number outside of strings that is well-formed, as 0: they are legal in any size, which serde_json does not hold.
fn narrow(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    let (mut is_string, mut is_escaped) = (false, false);
    while let Some(letter) = rest.chars().next() {
        let is_number = |letter: char| letter.is_ascii_digit() || "+-.eE".contains(letter);
        if !is_string && (letter.is_ascii_digit() || letter == '-') {
            let end = rest.find(|letter| !is_number(letter)).unwrap_or(rest.len());
            out.push_str(if is_json_number(&rest[..end]) { "0" } else { &rest[..end] });
            rest = &rest[end..];
            continue;
        }
        match letter {
            _ if is_escaped => is_escaped = false,
            '\\' if is_string => is_escaped = true,
            '"' => is_string = !is_string,
            _ => {}
        }
        out.push(letter);
        rest = &rest[letter.len_utf8()..];
    }
    out
}

/// RFC 8259, 6.
fn is_json_number(text: &str) -> bool {
    let text = text.strip_prefix('-').unwrap_or(text);
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let whole = digits(text);
    if whole == 0 || (whole > 1 && text.starts_with('0')) {
        return false;
    }
    let mut rest = &text[whole..];
    if let Some(fraction) = rest.strip_prefix('.') {
        let count = digits(fraction);
        if count == 0 {
            return false;
        }
        rest = &fraction[count..];
    }
    if let Some(exponent) = rest.strip_prefix(['e', 'E']) {
        let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        let count = digits(exponent);
        return count > 0 && count == exponent.len();
    }
    rest.is_empty()
}

/// Without serde_json's own limit on the depth, which is above ours but not above what is tried here.
fn parse<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, ()> {
    serde_json::from_str(text).map_err(drop)
}

/// An object's members in order, also those whose names come again.
struct Members<V>(Vec<(String, V)>);

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Members<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder<V>(PhantomData<V>);

        impl<'de, V: Deserialize<'de>> Visitor<'de> for InOrder<V> {
            type Value = Members<V>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<V>, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(InOrder(PhantomData))
    }
}
