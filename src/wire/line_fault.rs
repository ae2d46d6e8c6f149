//! Finds the fault in a refused line: which member, which character. For the log; the publisher gets the code.

use std::fmt::{self, Write};

use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::wire::line::{ID_BYTES_MAX, LINE_NUMBER_MAX, LineError, TYPE_NAME_BYTES_MAX, is_id};

/// Most characters that are shown of a publisher's text.
const SHOWN_CHARACTERS_MAX: usize = 40;

const IDS: [&str; 2] = ["job_id", "flow_id"];

/// What a line may be, as far as it depends on the daemon and on the publisher.
pub struct Rules<'a> {
    pub depth_max: usize,
    /// Whether lines for a job or flow with this id are allowed.
    pub covers: &'a dyn Fn(&str) -> bool,
}

impl Rules<'_> {
    /// For whoever cannot know which ids are allowed.
    pub fn of_depth(depth_max: usize) -> Self {
        Self { depth_max, covers: &|_| false }
    }
}

/// Describes the fault of a trimmed line that was refused with this error; empty if the error says it all. Bytes and
/// characters are counted from 1. Text from the line is shortened and escaped.
pub fn describe(line: &[u8], error: LineError, rules: &Rules<'_>) -> String {
    let described = match error {
        LineError::BadUtf8 => std::str::from_utf8(line).err().map(|error| at(line, error.valid_up_to())),
        LineError::BadJson => bad_json(line),
        LineError::TooDeep => too_deep(line, rules.depth_max).map(|byte| at(line, byte)),
        LineError::NotAnObject => {
            line.first().map(|first| format!("it begins with '{}'", first.escape_ascii()))
        }
        LineError::BadType => first_of(line, &["type"], |value| bad_word(value, TYPE_NAME_BYTES_MAX)),
        LineError::BadId => {
            first_of(line, &IDS, |value| is_there(value).then(|| bad_word(value, ID_BYTES_MAX))?)
        }
        LineError::DuplicateKey => twice(line),
        LineError::Reserved => reserved(line),
        LineError::BadOp => bad_op(line),
        LineError::TooManyJobs | LineError::TooManyTopics => {
            first_of(line, &IDS, |value| is_there(value).then(|| value.to_owned()))
        }
        LineError::Forbidden => forbidden(line, rules.covers),
        LineError::NoType
        | LineError::NoId
        | LineError::TooLong
        | LineError::Truncated
        | LineError::BadLineNumber => None,
    };
    described.unwrap_or_default()
}

/// A byte, and the top-level member that holds it.
fn at(line: &[u8], byte: usize) -> String {
    match member_at(line, byte) {
        Some(key) => format!("byte {}, in {}", byte + 1, shown(&String::from_utf8_lossy(key))),
        None => format!("byte {}", byte + 1),
    }
}

fn bad_json(line: &[u8]) -> Option<String> {
    let byte = match serde_json::from_slice::<IgnoredAny>(line) {
        Err(error) => error.column().saturating_sub(1).min(line.len()),
        // A skipped string may hold an escaped half of a surrogate pair.
        Ok(_) => lone_surrogate(line)?,
    };
    Some(at(line, byte))
}

/// The place of an escaped half of a surrogate pair without its other half.
fn lone_surrogate(line: &[u8]) -> Option<usize> {
    let unit = |at: usize| {
        let digits = line.get(at..at + 6)?.strip_prefix(b"\\u")?;
        u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    };
    let mut byte = 0;
    while byte < line.len() {
        match unit(byte) {
            Some(0xd800..=0xdbff) if matches!(unit(byte + 6), Some(0xdc00..=0xdfff)) => byte += 12,
            Some(0xd800..=0xdfff) => return Some(byte),
            _ if line[byte] == b'\\' => byte += 2,
            _ => byte += 1,
        }
    }
    None
}

/// Calls `look` for each byte outside strings and once for each whole string, with start, end and the depth behind
/// it. It ends when `look` returns false.
fn scan(line: &[u8], mut look: impl FnMut(usize, usize, usize) -> bool) {
    let (mut byte, mut depth) = (0_usize, 0_usize);
    while byte < line.len() {
        let start = byte;
        match line[byte] {
            b'"' => {
                byte += 1;
                while byte < line.len() && line[byte] != b'"' {
                    byte += if line[byte] == b'\\' { 2 } else { 1 };
                }
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        byte = (byte + 1).min(line.len());
        if !look(start, byte, depth) {
            return;
        }
    }
}

/// The raw key of the top-level member that holds `byte`.
fn member_at(line: &[u8], byte: usize) -> Option<&[u8]> {
    let (mut key, mut is_key_next) = (None, false);
    scan(line, |start, end, depth| {
        if start >= byte {
            return false;
        }
        match line[start] {
            b'{' | b',' if depth == 1 => (key, is_key_next) = (None, true),
            b'}' if depth == 0 => key = None,
            b'"' if depth == 1 && is_key_next => {
                is_key_next = false;
                key = line.get(start + 1..end.max(start + 2) - 1);
            }
            _ => {}
        }
        true
    });
    key
}

fn too_deep(line: &[u8], depth_max: usize) -> Option<usize> {
    let mut found = None;
    scan(line, |start, _, depth| {
        found = (depth > depth_max).then_some(start);
        found.is_none()
    });
    found
}

/// The first verdict that `judge` has on one of these members, with the member's name.
fn first_of(line: &[u8], names: &[&str], judge: impl Fn(&str) -> Option<String>) -> Option<String> {
    let members = Members::of(line)?;
    let judged = names.iter().find_map(|name| {
        let (_, value) = members.0.iter().find(|(key, _)| key == name)?;
        Some((name, judge(value)?))
    });
    judged.map(|(name, verdict)| format!("{name}: {}", shown(&verdict)))
}

/// The ids that are not allowed. A flow in `data` counts if there is no other.
fn forbidden(line: &[u8], covers: &dyn Fn(&str) -> bool) -> Option<String> {
    let id = |members: &Members<'_>, name: &str| {
        let (_, value) = members.0.iter().rfind(|(key, _)| key == name)?;
        serde_json::from_str::<String>(value).ok()
    };
    let members = Members::of(line)?;
    let data =
        members.0.iter().rfind(|(key, _)| key == "data").and_then(|(_, value)| Members::of(value.as_bytes()));
    let [job, flow] = IDS.map(|name| id(&members, name));
    let of_data = data.filter(|_| flow.is_none()).and_then(|data| id(&data, "flow_id"));
    let named = [("job_id", job), ("flow_id", flow), ("flow_id in data", of_data)];
    let at_fault = named.into_iter().filter_map(|(name, id)| {
        let id = id.filter(|id| is_id(id) && !covers(id))?;
        Some(format!("{name}: \"{}\"", shown(&id)))
    });
    Some(at_fault.collect::<Vec<_>>().join(", "))
}

/// null counts as absent.
fn is_there(id: &str) -> bool {
    id != "null"
}

/// Why a value cannot name a type, a job or a flow.
fn bad_word(value: &str, characters_max: usize) -> Option<String> {
    let Ok(text) = serde_json::from_str::<String>(value) else {
        return Some(format!("not text but {value}"));
    };
    let bad = (1..).zip(text.chars()).find(|(_, character)| !is_id(character.encode_utf8(&mut [0; 4])));
    match bad {
        Some((place, character)) => Some(format!("character {place} is {character:?}")),
        None if text.is_empty() => Some("empty".to_owned()),
        None if text.len() > characters_max => Some(format!("{} characters", text.len())),
        None => None,
    }
}

fn twice(line: &[u8]) -> Option<String> {
    let members = Members::of(line)?.0;
    let is_routed = |key: &str| matches!(key, "type" | "job_id" | "flow_id");
    let again = members.iter().enumerate().find(|(place, (key, _))| {
        is_routed(key) && members[..*place].iter().any(|(before, _)| before == key)
    });
    again.map(|(_, (key, _))| format!("{key} comes twice"))
}

fn reserved(line: &[u8]) -> Option<String> {
    let members = Members::of(line)?.0;
    if members.iter().any(|(key, _)| key == "stream_seq") {
        return Some("it has stream_seq".to_owned());
    }
    first_of(line, &["type"], |value| Some(value.to_owned()))
}

/// The member at fault in a control line, or that it came at the wrong time.
fn bad_op(line: &[u8]) -> Option<String> {
    let members = Members::of(line)?.0;
    let value_of = |name: &str| members.iter().find(|(key, _)| key == name).map(|(_, value)| *value);
    let op = value_of("op")?;
    let known: &[&str] = match serde_json::from_str::<String>(op).as_deref() {
        Ok("hello") => &["op", "publisher", "ack", "dedupe"],
        Ok("from") => &["op", "line"],
        _ => return Some(format!("op: {}", shown(op))),
    };
    let is_twice = |name: &&&str| members.iter().filter(|(key, _)| key == **name).count() > 1;
    if let Some(name) = known.iter().find(is_twice) {
        return Some(format!("{name} comes twice"));
    }
    if known.contains(&"line") {
        let is_number = |value: &str| value.parse().is_ok_and(|line| (1..=LINE_NUMBER_MAX).contains(&line));
        return Some(match value_of("line") {
            None => "from needs line".to_owned(),
            Some(value) if is_number(value) => {
                "from is allowed only right after hello with dedupe".to_owned()
            }
            Some(value) => {
                format!("line: not a whole number from 1 to {LINE_NUMBER_MAX} but {}", shown(value))
            }
        });
    }
    if let Some(bad) = first_of(line, &["publisher"], |value| bad_word(value, ID_BYTES_MAX)) {
        return Some(bad);
    }
    let is_switch = |value: &str| matches!(value, "true" | "false");
    let other = |value: &str| (!is_switch(value)).then(|| format!("not true or false but {value}"));
    first_of(line, &["ack", "dedupe"], other).or_else(|| {
        let is_unnamed = value_of("dedupe") == Some("true") && value_of("publisher").is_none();
        Some(if is_unnamed { "dedupe needs publisher" } else { "hello is not the first line" }.to_owned())
    })
}

/// A publisher's text, shortened and escaped.
fn shown(text: &str) -> String {
    let mut shown = String::new();
    for character in text.chars().take(SHOWN_CHARACTERS_MAX) {
        match character {
            ' '..='~' => shown.push(character),
            other => write!(shown, "{}", other.escape_default()).expect("a String takes everything"),
        }
    }
    if text.chars().nth(SHOWN_CHARACTERS_MAX).is_some() {
        shown.push_str("...");
    }
    shown
}

/// All members of an object in their order: decoded keys, raw values.
struct Members<'a>(Vec<(String, &'a str)>);

impl<'a> Members<'a> {
    fn of(line: &'a [u8]) -> Option<Self> {
        serde_json::Deserializer::from_slice(line).deserialize_map(MembersVisitor).ok()
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
        let mut members = Vec::new();
        while let Some((key, value)) = map.next_entry::<String, &'de RawValue>()? {
            members.push((key, value.get()));
        }
        Ok(Members(members))
    }
}

#[cfg(test)]
mod tests {
    use super::{Rules, describe};
    use crate::wire::line::LineError;

    #[test]
    fn it_names_member_and_character() {
        let long_id = format!(r#"{{"type":"x","job_id":"{}"}}"#, "i".repeat(129));
        let table = [
            (LineError::BadJson, r#"{"type":"x","job_id":nonsense}"#, "byte 23, in job_id"),
            (LineError::BadJson, r#"{"type":"x","job_id":"j"} x"#, "byte 27"),
            (LineError::BadJson, "nonsense", "byte 2"),
            (LineError::BadJson, r#"{"type":"x","a":"\ud83d\ude00","b":["\ud800"]}"#, "byte 38, in b"),
            (LineError::BadJson, r#"{"type":"x"#, "byte 10, in type"),
            (LineError::TooDeep, r#"{"type":"x","d":[[[1]]]}"#, "byte 19, in d"),
            (LineError::NotAnObject, "[1]", "it begins with '['"),
            (LineError::BadType, r#"{"type":"a b","job_id":"j"}"#, "type: character 2 is ' '"),
            (LineError::BadType, r#"{"type":null,"job_id":"j"}"#, "type: not text but null"),
            (LineError::BadId, r#"{"type":"x","job_id":"etl/7"}"#, "job_id: character 4 is '/'"),
            (LineError::BadId, r#"{"type":"x","job_id":null,"flow_id":7}"#, "flow_id: not text but 7"),
            (LineError::BadId, r#"{"type":"x","job_id":""}"#, "job_id: empty"),
            (LineError::BadId, &long_id, "job_id: 129 characters"),
            (LineError::BadId, r#"{"type":"x","job_id":"\n"}"#, r"job_id: character 1 is '\n'"),
            (LineError::DuplicateKey, r#"{"type":"x","job_id":"j","\u006aob_id":"k"}"#, "job_id comes twice"),
            (LineError::Reserved, r#"{"type":"x","job_id":"j","stream_seq":1}"#, "it has stream_seq"),
            (LineError::Reserved, r#"{"type":"ping","job_id":"j"}"#, r#"type: "ping""#),
            (LineError::BadOp, r#"{"op":"dance"}"#, r#"op: "dance""#),
            (LineError::BadOp, r#"{"op":"hello","op":"hello"}"#, "op comes twice"),
            (LineError::BadOp, r#"{"op":"hello","dedupe":true}"#, "dedupe needs publisher"),
            (LineError::BadOp, r#"{"op":"hello","publisher":null}"#, "publisher: not text but null"),
            (LineError::BadOp, r#"{"op":"hello","publisher":"a b"}"#, "publisher: character 2 is ' '"),
            (LineError::BadOp, r#"{"op":"hello","ack":1}"#, "ack: not true or false but 1"),
            (LineError::BadOp, r#"{"op":"hello","ack":true,"ack":false}"#, "ack comes twice"),
            (LineError::BadOp, r#"{"op":"hello","ack":true}"#, "hello is not the first line"),
            (LineError::BadOp, r#"{"op":"from"}"#, "from needs line"),
            (
                LineError::BadOp,
                r#"{"op":"from","line":"1"}"#,
                r#"line: not a whole number from 1 to 9007199254740991 but "1""#,
            ),
            (
                LineError::BadOp,
                r#"{"op":"from","line":1}"#,
                "from is allowed only right after hello with dedupe",
            ),
            (LineError::TooManyJobs, r#"{"type":"x","job_id":"j"}"#, r#"job_id: "j""#),
            (LineError::NoType, "{}", ""),
        ];
        for (error, line, expected) in table {
            assert_eq!(describe(line.as_bytes(), error, &Rules::of_depth(3)), expected, "{error:?} {line}");
        }
        let bad =
            describe(b"{\"type\":\"x\",\"t\xc3\xa4\":\"\xff\"}", LineError::BadUtf8, &Rules::of_depth(64));
        assert_eq!(bad, r"byte 20, in t\u{e4}");
    }

    #[test]
    fn a_forbidden_line_shows_the_ids_that_are_not_allowed() {
        for (line, expected) in [
            (r#"{"type":"x","job_id":"a","flow_id":"b"}"#, r#"flow_id: "b""#),
            (r#"{"type":"x","job_id":"b","flow_id":"a"}"#, r#"job_id: "b""#),
            (r#"{"type":"x","job_id":"b","flow_id":"c"}"#, r#"job_id: "b", flow_id: "c""#),
            (r#"{"type":"x","job_id":"a","data":{"flow_id":"b"}}"#, r#"flow_id in data: "b""#),
            (r#"{"type":"x","job_id":"b","flow_id":"a","data":{"flow_id":"c"}}"#, r#"job_id: "b""#),
        ] {
            let rules = Rules { depth_max: 3, covers: &|id| id == "a" };
            assert_eq!(describe(line.as_bytes(), LineError::Forbidden, &rules), expected, "{line}");
        }
        let line = br#"{"type":"x","job_id":"a"}"#;
        let unknown = describe(line, LineError::Forbidden, &Rules::of_depth(3));
        assert_eq!(unknown, r#"job_id: "a""#, "which are allowed is not known everywhere");
    }

    #[test]
    fn what_it_shows_is_short_and_escaped_wherever_the_line_is_cut() {
        let hostile = format!(r#"{{"type":"x","job_id":"j","{}\u001b":"\"#, "é\u{1b}".repeat(500));
        for end in 0..hostile.len() {
            for error in LineError::ALL {
                let said = describe(&hostile.as_bytes()[..end], error, &Rules::of_depth(2));
                assert!(said.len() < 600 && said.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{said}");
            }
        }
    }
}
