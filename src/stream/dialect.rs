//! Translates events into the dialect that today's Overseer UI reads on the multi-job endpoint: other names for some
//! types, and all that it shows in `data`. All other members keep their bytes.

use std::ops::Range;

use crate::stream::batch::{Batch, Dialect};
use crate::wire::frame;
use crate::wire::members::{is_text, members};

/// The frames of a batch in this dialect.
pub fn of_batch(batch: &Batch) -> Dialect {
    let mut made = Dialect::default();
    let mut object = Vec::new();
    for event in 0..batch.len() as u32 {
        object.clear();
        translate(batch.object(event), &mut object);
        frame::write_header(&mut made.bytes, frame::TEXT, object.len());
        made.bytes.extend_from_slice(&object);
        made.ends.push(made.bytes.len() as u32);
    }
    made
}

/// Appends the Overseer form of an event (`{"stream_seq":N,…}`), without a frame header: the same object except for
/// the values of `type` and `data`. `data` stays at its place, or comes last if it is new. Anything else than such an
/// object is copied as it is.
pub fn translate(object: &[u8], out: &mut Vec<u8>) {
    let translated = std::str::from_utf8(object).ok().and_then(|text| translate_text(text, out));
    if translated.is_none() {
        out.extend_from_slice(object);
    }
}

/// Returns None, and writes nothing, if `text` is not an object with a type.
fn translate_text(text: &str, out: &mut Vec<u8>) -> Option<()> {
    let [kind, routine_id, data, event, breakpoint, context] =
        members(text, &["type", "routine_id", "data", "event", "breakpoint", "context"])?;
    let kind = kind?;
    let routine_id = present(routine_id);
    let end = text.rfind('}')?;
    let plain = NewData { base: data, additions: [("routine_id", routine_id), NONE, NONE, NONE, NONE] };
    let (new_kind, new_data) = if is_text(kind, "execution_event") {
        of_execution_event(event, plain)
    } else if is_text(kind, "breakpoint_hit") {
        (None, of_breakpoint_hit(breakpoint, context, plain))
    } else {
        (None, plain)
    };

    let data_place = data.map_or(end..end, |data| place(text, data));
    let mut edits = [(place(text, kind), Edit::Kind), (data_place, Edit::Data)];
    edits.sort_by_key(|(place, _)| place.start);
    let mut copied = 0;
    for (place, edit) in edits {
        out.extend_from_slice(&text.as_bytes()[copied..place.start]);
        copied = place.end;
        match edit {
            Edit::Kind => out.extend_from_slice(new_kind.unwrap_or(kind).as_bytes()),
            Edit::Data => {
                if data.is_none() {
                    // It is never the first member: there is a type.
                    out.extend_from_slice(br#","data":"#);
                }
                new_data.write(out);
            }
        }
    }
    out.extend_from_slice(&text.as_bytes()[copied..]);
    Some(())
}

/// Which value is replaced.
enum Edit {
    Kind,
    Data,
}

/// The new type as JSON, if it changes, and the new data.
fn of_execution_event<'a>(event: Option<&'a str>, plain: NewData<'a>) -> (Option<&'static str>, NewData<'a>) {
    let names = ["event_type", "event_id", "routine_id", "data"];
    let Some([inner, event_id, routine_id, data]) = event.and_then(|event| members(event, &names)) else {
        return (None, plain);
    };
    let routine_id = present(routine_id).or(plain.additions[0].1);
    let is_inner = |name| inner.is_some_and(|inner| is_text(inner, name));
    let new_kind = if is_inner("slot_call") {
        Some(r#""slot_called""#)
    } else if is_inner("event_emit") {
        Some(r#""event_emitted""#)
    } else if is_inner("error") {
        None
    } else {
        // This UI does not know the inner type.
        let additions = [("routine_id", routine_id), NONE, NONE, NONE, NONE];
        return (None, NewData { additions, ..plain });
    };
    let additions = [("routine_id", routine_id), ("event_id", event_id), NONE, NONE, NONE];
    let base = data;
    (new_kind, NewData { base, additions })
}

fn of_breakpoint_hit<'a>(
    breakpoint: Option<&'a str>,
    context: Option<&'a str>,
    plain: NewData<'a>,
) -> NewData<'a> {
    let names = ["breakpoint_id", "routine_id", "slot_name", "event_name"];
    let Some([breakpoint_id, routine_id, slot_name, event_name]) =
        breakpoint.and_then(|breakpoint| members(breakpoint, &names))
    else {
        return plain;
    };
    let [variables] = context.and_then(|context| members(context, &["variables"])).unwrap_or([None]);
    NewData {
        base: None,
        additions: [
            ("breakpoint_id", breakpoint_id),
            ("routine_id", present(routine_id).or(plain.additions[0].1).or(routine_id)),
            ("slot_name", slot_name),
            ("event_name", event_name),
            ("variables", variables),
        ],
    }
}

/// Takes null as absent.
fn present(json: Option<&str>) -> Option<&str> {
    json.filter(|json| *json != "null")
}

/// No member to add.
const NONE: (&str, Option<&str>) = ("", None);

/// A `data` object to write: one that the event has, with additions.
#[derive(Clone, Copy)]
struct NewData<'a> {
    /// JSON; anything but an object counts as an empty object.
    base: Option<&'a str>,
    /// Names, with values as JSON. A name that the base has already is not added.
    additions: [(&'static str, Option<&'a str>); 5],
}

impl NewData<'_> {
    fn write(&self, out: &mut Vec<u8>) {
        let names = self.additions.map(|(name, _)| name);
        let present = self.base.and_then(|base| members(base, &names));
        let base = match present {
            Some(_) => self.base.unwrap_or("{}"),
            None => "{}",
        };
        let open = base.strip_suffix('}').unwrap_or("{");
        let mut is_empty = open.trim_end().len() == 1;
        out.extend_from_slice(open.as_bytes());
        for (index, (name, value)) in self.additions.iter().enumerate() {
            let Some(value) = value else { continue };
            if present.is_some_and(|present| present[index].is_some()) {
                continue;
            }
            out.extend_from_slice(if is_empty { b"\"" } else { b",\"" });
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b"\":");
            out.extend_from_slice(value.as_bytes());
            is_empty = false;
        }
        out.push(b'}');
    }
}

/// The range in `text` of its part `part`.
fn place(text: &str, part: &str) -> Range<usize> {
    let start = part.as_ptr() as usize - text.as_ptr() as usize;
    start..start + part.len()
}

#[cfg(test)]
mod tests {
    use super::translate;

    fn translated(object: &str) -> String {
        // What `out` has already stays.
        let mut out = b"before".to_vec();
        translate(object.as_bytes(), &mut out);
        let text = String::from_utf8(out).unwrap();
        text.strip_prefix("before").unwrap().to_owned()
    }

    fn assert_table(table: &[(&str, &str)]) {
        for (object, expected) in table {
            let translated = translated(object);
            assert_eq!(translated, *expected);
            serde_json::from_str::<serde::de::IgnoredAny>(&translated).unwrap();
        }
    }

    #[test]
    fn slot_calls_and_emits_get_their_own_type_and_data() {
        assert_table(&[
            (
                r#"{"stream_seq":7,"type": "execution_event", "job_id": "j", "event": {"event_id": "e1", "routine_id": "r", "event_type": "slot_call", "data": {"slot_name": "input", "arguments": {"n": 1e400}}}}"#,
                r#"{"stream_seq":7,"type": "slot_called", "job_id": "j", "event": {"event_id": "e1", "routine_id": "r", "event_type": "slot_call", "data": {"slot_name": "input", "arguments": {"n": 1e400}}},"data":{"slot_name": "input", "arguments": {"n": 1e400},"routine_id":"r","event_id":"e1"}}"#,
            ),
            (
                r#"{"stream_seq":8,"event":{"data":{ },"event_type":"event_emit"},"job_id":"j","type":"execution_event"}"#,
                r#"{"stream_seq":8,"event":{"data":{ },"event_type":"event_emit"},"job_id":"j","type":"event_emitted","data":{ }}"#,
            ),
            (
                r#"{"stream_seq":8,"data":5,"event":{"event_type":"event_emit","event_id":"e","routine_id":"r"},"type":"execution_event","z":1}"#,
                r#"{"stream_seq":8,"data":{"routine_id":"r","event_id":"e"},"event":{"event_type":"event_emit","event_id":"e","routine_id":"r"},"type":"event_emitted","z":1}"#,
            ),
            (
                r#"{"stream_seq":8,"type":"execution_event","event":{"event_type":"slot_call","data":{"routine_id":"mine","a":1},"routine_id":"r","event_id":"e"}}"#,
                r#"{"stream_seq":8,"type":"slot_called","event":{"event_type":"slot_call","data":{"routine_id":"mine","a":1},"routine_id":"r","event_id":"e"},"data":{"routine_id":"mine","a":1,"event_id":"e"}}"#,
            ),
        ]);
    }

    #[test]
    fn an_inner_error_keeps_its_type() {
        assert_table(&[(
            r#"{"stream_seq":7,"type":"execution_event","event":{"event_type":"error","routine_id":"r","data":{"error":"x"}}}"#,
            r#"{"stream_seq":7,"type":"execution_event","event":{"event_type":"error","routine_id":"r","data":{"error":"x"}},"data":{"error":"x","routine_id":"r"}}"#,
        )]);
    }

    #[test]
    fn other_execution_events_keep_type_and_data() {
        assert_table(&[
            (
                r#"{"stream_seq":7,"type":"execution_event","event":{"event_type":"odd","routine_id":"r","data":{"x":1}},"data":{"y":2}}"#,
                r#"{"stream_seq":7,"type":"execution_event","event":{"event_type":"odd","routine_id":"r","data":{"x":1}},"data":{"y":2,"routine_id":"r"}}"#,
            ),
            (
                r#"{"stream_seq":7,"type":"execution_event","event":"slot_call","routine_id":"r"}"#,
                r#"{"stream_seq":7,"type":"execution_event","event":"slot_call","routine_id":"r","data":{"routine_id":"r"}}"#,
            ),
            (
                r#"{"stream_seq":7,"type":"execution_event"}"#,
                r#"{"stream_seq":7,"type":"execution_event","data":{}}"#,
            ),
        ]);
    }

    #[test]
    fn breakpoint_members_become_data() {
        assert_table(&[
            (
                r#"{"stream_seq":7,"type":"breakpoint_hit","job_id":"j","breakpoint":{"breakpoint_id":"b","type":"event","routine_id":"v","slot_name":null,"event_name":"output"},"context":{"routine_id":"v","variables":{"i":0}}}"#,
                r#"{"stream_seq":7,"type":"breakpoint_hit","job_id":"j","breakpoint":{"breakpoint_id":"b","type":"event","routine_id":"v","slot_name":null,"event_name":"output"},"context":{"routine_id":"v","variables":{"i":0}},"data":{"breakpoint_id":"b","routine_id":"v","slot_name":null,"event_name":"output","variables":{"i":0}}}"#,
            ),
            (
                r#"{"stream_seq":7,"data":{"old":1},"type":"breakpoint_hit","breakpoint":{},"context":[],"routine_id":"r"}"#,
                r#"{"stream_seq":7,"data":{"routine_id":"r"},"type":"breakpoint_hit","breakpoint":{},"context":[],"routine_id":"r"}"#,
            ),
            (
                r#"{"stream_seq":7,"type":"breakpoint_hit","data":{"old":1}}"#,
                r#"{"stream_seq":7,"type":"breakpoint_hit","data":{"old":1}}"#,
            ),
        ]);
    }

    #[test]
    fn data_is_an_object_with_the_routine() {
        assert_table(&[
            (
                r#"{"stream_seq":7,"type":"routine_started","routine_id":"r","data":{"slot_name":"input"},"t":1}"#,
                r#"{"stream_seq":7,"type":"routine_started","routine_id":"r","data":{"slot_name":"input","routine_id":"r"},"t":1}"#,
            ),
            (
                r#"{"stream_seq":7,"type":"routine_started","routine_id":"r","data":{"routine_id":"own"}}"#,
                r#"{"stream_seq":7,"type":"routine_started","routine_id":"r","data":{"routine_id":"own"}}"#,
            ),
            (
                r#"{"stream_seq":7,"type":"slot_called","routine_id":"r"}"#,
                r#"{"stream_seq":7,"type":"slot_called","routine_id":"r","data":{"routine_id":"r"}}"#,
            ),
            (
                r#"{"stream_seq":7,"type":"job_resumed","routine_id":null,"data":null}"#,
                r#"{"stream_seq":7,"type":"job_resumed","routine_id":null,"data":{}}"#,
            ),
            (r#"{"stream_seq":7,"type":"x","data":[{"a":1}]}"#, r#"{"stream_seq":7,"type":"x","data":{}}"#),
            (
                r#"{"stream_seq":7,"type":"x","data":"}" , "z":"}"}"#,
                r#"{"stream_seq":7,"type":"x","data":{} , "z":"}"}"#,
            ),
        ]);
    }

    #[test]
    fn other_bytes_stay_as_they_are() {
        assert_table(&[
            (
                r#"{"stream_seq":7, "n" : 1E+400,"s":"\u00e4\/", "type":"x" , "a":[ 1 ,-0 ], "data" : {"k" : 0.10 } }"#,
                r#"{"stream_seq":7, "n" : 1E+400,"s":"\u00e4\/", "type":"x" , "a":[ 1 ,-0 ], "data" : {"k" : 0.10 } }"#,
            ),
            // Escaped names are names; of repeated names the last one counts.
            (
                r#"{"stream_seq":7,"t\u0079pe":"execution\u005fevent","event":1,"\u0065vent":{"event_type":"slot_call","d\u0061ta":{"\u0072outine_id":"q"},"routine_id":"r"}}"#,
                r#"{"stream_seq":7,"t\u0079pe":"slot_called","event":1,"\u0065vent":{"event_type":"slot_call","d\u0061ta":{"\u0072outine_id":"q"},"routine_id":"r"},"data":{"\u0072outine_id":"q"}}"#,
            ),
            (
                r#"{"stream_seq":7,"type":"x","data":{"a":1},"data":2,"routine_id":"r"}"#,
                r#"{"stream_seq":7,"type":"x","data":{"a":1},"data":{"routine_id":"r"},"routine_id":"r"}"#,
            ),
        ]);
    }

    #[test]
    fn deep_objects_pass() {
        let deep = format!("{}0{}", "[".repeat(1000), "]".repeat(1000));
        let object = format!(r#"{{"type":"x","v":{deep},"data":{{"v":{deep}}},"routine_id":"r"}}"#);
        let expected =
            format!(r#"{{"type":"x","v":{deep},"data":{{"v":{deep},"routine_id":"r"}},"routine_id":"r"}}"#);
        assert_eq!(translated(&object), expected);
    }

    #[test]
    fn anything_but_an_event_is_copied() {
        for text in ["", "{", "[]", "{}", r#"{"a":1}"#, r#"{"type":"x"} x"#] {
            assert_eq!(translated(text), text);
        }
        let mut out = Vec::new();
        translate(b"\xff", &mut out);
        assert_eq!(out, b"\xff");
    }
}
