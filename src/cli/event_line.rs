//! Formats an event as one line for people: time, job, type, and the main members of its shape.

use std::borrow::Cow;

use anstyle::Style;

use crate::cli::palette::Palette;
use crate::wire::members::{all_members, members};
use crate::wire::stamp::{Stamp, read_json};

/// Longest value shown, in characters. A longer one is shown by its head and tail: a traceback names its error last.
const VALUE_CHARS_MAX: usize = 240;
const HEAD_CHARS: usize = 80;

/// A label, and the path of its value in the event.
type Detail = (&'static str, &'static [&'static str]);

/// What is shown of each type; an `execution_event` goes by its inner type.
const SHAPES: &[(&str, &[Detail])] = &[
    (
        "job_started",
        &[("flow", &["flow_id"]), ("entry", &["data", "entry_routine"]), ("params", &["data", "params"])],
    ),
    ("job_completed", &[("duration", &["data", "duration"]), ("events", &["data", "total_events"])]),
    ("job_failed", &[("routine", &["data", "routine_id"]), ("error", &["data", "error"])]),
    (
        "output",
        &[
            ("stream", &["data", "stream"]),
            ("text", &["data", "text"]),
            ("dropped", &["data", "dropped_lines"]),
        ],
    ),
    ("job_paused", &[("reason", &["data", "reason"])]),
    ("job_cancelled", &[("reason", &["data", "reason"])]),
    (
        "routine_started",
        &[
            ("routine", &["routine_id"]),
            ("slot", &["data", "slot_name"]),
            ("event_data", &["data", "event_data"]),
        ],
    ),
    (
        "routine_completed",
        &[
            ("routine", &["routine_id"]),
            ("duration", &["data", "duration"]),
            ("emitted", &["data", "events_emitted"]),
        ],
    ),
    (
        "routine_failed",
        &[("routine", &["routine_id"]), ("slot", &["data", "slot_name"]), ("error", &["data", "error"])],
    ),
    (
        "breakpoint_hit",
        &[
            ("breakpoint", &["breakpoint", "breakpoint_id"]),
            ("routine", &["breakpoint", "routine_id"]),
            ("slot", &["breakpoint", "slot_name"]),
            ("event", &["breakpoint", "event_name"]),
            ("variables", &["context", "variables"]),
        ],
    ),
    ("breakpoint_resumed", &[("breakpoint", &["breakpoint_id"]), ("step", &["data", "step_mode"])]),
    (
        "slot_call",
        &[
            ("routine", &["event", "routine_id"]),
            ("slot", &["event", "data", "slot_name"]),
            ("arguments", &["event", "data", "arguments"]),
        ],
    ),
    (
        "event_emit",
        &[
            ("routine", &["event", "routine_id"]),
            ("event", &["event", "data", "event_name"]),
            ("data", &["event", "data", "data"]),
        ],
    ),
    ("error", &[("routine", &["event", "routine_id"]), ("error", &["event", "data", "error"])]),
    (
        "metrics",
        &[
            ("status", &["metrics", "status"]),
            ("duration", &["metrics", "duration"]),
            ("events", &["metrics", "total_events"]),
            ("slot_calls", &["metrics", "total_slot_calls"]),
            ("event_emits", &["metrics", "total_event_emits"]),
        ],
    ),
];

/// Shown first for a type that has no shape, before all its other members.
const OTHER: &[Detail] = &[("routine", &["routine_id"])];

/// Members that begin the line and are not repeated.
const ENVELOPE: &[&str] = &["stream_seq", "type", "job_id", "flow_id", "timestamp"];

/// The line, without its end. `arrival` gives the arrival in Unix milliseconds, for an event without a time of its
/// own. `None` if `event` is not a JSON object with a type.
pub fn event_line(event: &str, palette: &Palette, arrival: impl FnOnce() -> Option<i64>) -> Option<String> {
    let names = ["type", "job_id", "flow_id", "timestamp", "event"];
    let [kind, job_id, flow_id, timestamp, inner_event] = members(event, &names)?;
    let kind = decode(kind?)?;
    let inner = inner_event
        .filter(|_| kind == "execution_event")
        .and_then(|inner_event| members(inner_event, &["event_type"])?[0])
        .and_then(decode);

    let faint = palette.faint;
    let own_time = timestamp.and_then(read_json).map(|micros| micros.div_euclid(1000));
    let time = own_time.or_else(arrival).map(Stamp::from_unix_millis);
    let mut line = format!("{faint}{}{faint:#} ", time.as_ref().map_or("-", Stamp::as_str));
    match (job_id.and_then(decode), flow_id.and_then(decode)) {
        (Some(job_id), _) => push_visible(&mut line, &job_id),
        (None, Some(flow_id)) => {
            line.push_str("flow:");
            push_visible(&mut line, &flow_id);
        }
        (None, None) => line.push('-'),
    }
    let style = palette.of_type(inner.as_deref().unwrap_or(&kind));
    line.push_str(&format!(" {style}"));
    push_visible(&mut line, &kind);
    if let Some(inner) = &inner {
        line.push('/');
        push_visible(&mut line, inner);
    }
    line.push_str(&format!("{style:#}"));
    let shape = inner.as_deref().unwrap_or(&kind);
    let details = details_of(shape, inner.is_some());
    // An invalid timestamp is worth showing.
    let is_odd = own_time.is_none() && timestamp.is_some_and(|timestamp| timestamp != "null");
    let is_shown = |key: &str| ENVELOPE.contains(&key) && !(is_odd && key == "timestamp");
    push_details(&mut line, event, details, is_shown, faint);
    Some(line)
}

fn details_of(shape: &str, is_inner: bool) -> &'static [Detail] {
    let is_inner_name = matches!(shape, "slot_call" | "event_emit" | "error");
    let found = SHAPES.iter().find(|(name, _)| *name == shape && is_inner_name == is_inner);
    found.map_or(OTHER, |(_, details)| details)
}

/// The members of the shape, then all others. Nothing that a publisher wrote is left out, except deeper parts of a
/// member that the shape shows in part.
fn push_details(
    line: &mut String,
    event: &str,
    details: &[Detail],
    is_shown: impl Fn(&str) -> bool,
    faint: Style,
) {
    let mut parts_shown = Vec::new();
    for (label, path) in details {
        let value = find(event, path).filter(|value| *value != "null");
        if let Some(value) = value {
            line.push_str(&format!(" {faint}{label}={faint:#}"));
            push_value(line, value);
        }
        if value.is_some() || path.len() == 1 {
            parts_shown.push(path[0]);
        }
    }
    for (key, value) in all_members(event).unwrap_or_default() {
        if !is_shown(&key) && !parts_shown.contains(&key.as_ref()) {
            line.push_str(&format!(" {faint}"));
            push_text(line, &key);
            line.push_str(&format!("={faint:#}"));
            push_value(line, value);
        }
    }
}

fn find<'a>(object: &'a str, path: &[&'static str]) -> Option<&'a str> {
    path.iter().try_fold(object, |value, name| members(value, &[name])?[0])
}

fn decode(json: &str) -> Option<Cow<'_, str>> {
    let bare = json.strip_prefix('"')?.strip_suffix('"')?;
    if bare.contains('\\') {
        return serde_json::from_str(json).ok().map(Cow::Owned);
    }
    Some(Cow::Borrowed(bare))
}

/// A string as text, anything else as JSON.
fn push_value(line: &mut String, json: &str) {
    match decode(json) {
        Some(text) => push_text(line, &text),
        // Unprintable characters occur only inside strings, where JSON has an escape for them.
        None => push_cut(line, json, |line, part| {
            for character in part.chars() {
                match is_hidden(character) {
                    true => line.push_str(&format!("\\u{:04x}", u32::from(character))),
                    false => line.push(character),
                }
            }
        }),
    }
}

/// Bare if it is one word, else in quotes.
fn push_text(line: &mut String, text: &str) {
    let is_quoted = text.is_empty() || text.contains(|c: char| c.is_whitespace() || matches!(c, '"' | '='));
    let quote = if is_quoted { "\"" } else { "" };
    line.push_str(quote);
    push_cut(line, text, |line, part| escape(line, part, is_quoted));
    line.push_str(quote);
}

/// Only the head and the tail of a long text.
fn push_cut(line: &mut String, text: &str, push: impl Fn(&mut String, &str)) {
    let place = |index| text.char_indices().nth(index).map(|(place, _)| place);
    if place(VALUE_CHARS_MAX).is_none() {
        return push(line, text);
    }
    let head = &text[..place(HEAD_CHARS).expect("the text is longer")];
    let mut tail = text.char_indices().rev().skip(VALUE_CHARS_MAX - HEAD_CHARS - 1);
    let (start, _) = tail.next().expect("the text is longer");
    push(line, head);
    line.push('…');
    push(line, &text[start..]);
}

/// Whether a character would steer a terminal, reorder text or break lines: controls, bidirectional controls
/// (Unicode's Bidi_Control), and the separators of lines and paragraphs.
fn is_hidden(character: char) -> bool {
    let is_bidi_control = matches!(
        character,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    );
    character.is_control() || is_bidi_control || matches!(character, '\u{2028}' | '\u{2029}')
}

/// Escapes foreign text so that it cannot steer a terminal. Text in any script stays as it is.
pub fn visible(text: &str) -> String {
    let mut shown = String::new();
    push_visible(&mut shown, text);
    shown
}

fn push_visible(line: &mut String, text: &str) {
    escape(line, text, false);
}

/// Escapes hidden characters. A backslash is doubled where it could be read as the start of an escape, so that
/// different texts never look the same.
fn escape(line: &mut String, text: &str, is_quoted: bool) {
    let mut rest = text.chars();
    while let Some(character) = rest.next() {
        match character {
            '\n' => line.push_str("\\n"),
            '\r' => line.push_str("\\r"),
            '\t' => line.push_str("\\t"),
            '"' if is_quoted => line.push_str("\\\""),
            '\\' => {
                let is_harmless = rest.clone().next().is_some_and(|next| {
                    !is_hidden(next) && !matches!(next, '\\' | '"' | 'n' | 'r' | 't' | 'u')
                });
                line.push_str(if is_harmless { "\\" } else { "\\\\" });
            }
            _ if is_hidden(character) => line.push_str(&format!("\\u{{{:x}}}", u32::from(character))),
            _ => line.push(character),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{HEAD_CHARS, SHAPES, VALUE_CHARS_MAX, visible};
    use crate::cli::palette::Palette;

    fn event_line(event: &str) -> Option<String> {
        super::event_line(event, &Palette::plain(), || None)
    }

    #[test]
    fn colours_tell_good_from_bad() {
        let event = r#"{"type":"job_failed","job_id":"j","data":{"routine_id":"p"}}"#;
        let line = super::event_line(event, &Palette::coloured(), || None).unwrap();
        let expected =
            "\u{1b}[2m-\u{1b}[0m j \u{1b}[1m\u{1b}[31mjob_failed\u{1b}[0m \u{1b}[2mroutine=\u{1b}[0mp";
        assert_eq!(line, expected);
    }

    #[test]
    fn each_shape_shows_what_matters() {
        let table = [
            (
                r#"{"stream_seq":1,"type":"job_started","job_id":"j","flow_id":"f","timestamp":"2025-01-15T10:30:00Z","data":{"entry_routine":"start","params":{"n":1}}}"#,
                r#"2025-01-15T10:30:00.000Z j job_started flow=f entry=start params={"n":1}"#,
            ),
            (
                r#"{"stream_seq":1,"type":"job_failed","job_id":"j","timestamp":"2025-01-15T11:30:00+01:00","data":{"error":"ValueError: bad","error_type":"ValueError","routine_id":"p"}}"#,
                r#"2025-01-15T10:30:00.000Z j job_failed routine=p error="ValueError: bad""#,
            ),
            (
                r#"{"type":"execution_event","job_id":"j","timestamp":"2025-01-15T10:30:06","event":{"event_id":"e","routine_id":"p","event_type":"slot_call","data":{"slot_name":"input","arguments":{"v":1e400}}}}"#,
                r#"2025-01-15T10:30:06.000Z j execution_event/slot_call routine=p slot=input arguments={"v":1e400}"#,
            ),
            (
                r#"{"type":"execution_event","job_id":"j","event":{"event_type":"odd","x":1}}"#,
                r#"- j execution_event/odd event={"event_type":"odd","x":1}"#,
            ),
            (
                r#"{"type":"breakpoint_hit","job_id":"j","breakpoint":{"breakpoint_id":"b","routine_id":"r","slot_name":null,"event_name":"o"},"context":{"variables":{}}}"#,
                r#"- j breakpoint_hit breakpoint=b routine=r event=o variables={}"#,
            ),
            (
                r#"{"type":"metrics","job_id":"j","metrics":{"end_time":null,"duration":60.0,"total_events":3,"total_slot_calls":2,"total_event_emits":1}}"#,
                r#"- j metrics duration=60.0 events=3 slot_calls=2 event_emits=1"#,
            ),
            (
                r#"{"type":"custom","flow_id":"f","timestamp":"noon","data":[1]}"#,
                "- flow:f custom timestamp=noon data=[1]",
            ),
            (
                r#"{"type":"output","job_id":"j","data":{"stream":"stderr","text":"a b"}}"#,
                r#"- j output stream=stderr text="a b""#,
            ),
            (r#"{"type":"slot_call","job_id":"j","data":{}}"#, "- j slot_call data={}"),
            (r#"{"type":"job_resumed","job_id":"j"}"#, "- j job_resumed"),
            (r#"{"type":"progress","job_id":"t","percent":42}"#, "- t progress percent=42"),
            (
                r#"{"stream_seq":5,"type":"odd","job_id":"t","flow_id":"f","timestamp":1736937000,"routine_id":"r","a b":null,"c":[1, 2],"event":"x y"}"#,
                r#"2025-01-15T10:30:00.000Z t odd routine=r "a b"=null c=[1, 2] event="x y""#,
            ),
            (
                r#"{"type":"job_failed","job_id":"j","data":"out of memory","host":"h-7"}"#,
                r#"- j job_failed data="out of memory" host=h-7"#,
            ),
            (
                r#"{"type":"execution_event","job_id":"j","event":{"event_type":"slot_call","routine_id":"p"},"n":1}"#,
                "- j execution_event/slot_call routine=p n=1",
            ),
            (
                r#"{"type":"metrics","job_id":"j","metrics":{"end_time":null,"status":"lost","duration":1}}"#,
                "- j metrics status=lost duration=1",
            ),
        ];
        for (event, line) in table {
            assert_eq!(event_line(event).as_deref(), Some(line));
        }
        assert_eq!(event_line(r#"{"job_id":"j"}"#), None);
        assert_eq!(event_line("[]"), None);
        assert_eq!(SHAPES.len(), 15);
    }

    #[test]
    fn nothing_steers_the_terminal() {
        let event = r#"{"type":"job_paused","job_id":"j","timestamp":"\u001b[2J","data":{"reason":"a\nb\u001b]0;x\u0007\u202e\u009b é"}}"#;
        assert_eq!(
            event_line(event).unwrap(),
            r#"- j job_paused reason="a\nb\u{1b}]0;x\u{7}\u{202e}\u{9b} é" timestamp=\u{1b}[2J"#
        );
        let raw = "{\"type\":\"x\",\"job_id\":\"j\",\"data\":{\"k\":\"\u{9b}\u{7f}\"}}";
        assert_eq!(event_line(raw).unwrap(), r#"- j x data={"k":"\u009b\u007f"}"#);
    }

    #[test]
    fn any_writing_is_text() {
        for text in [
            "ราคา",
            "नमस्ते",
            "e\u{301}cole",
            "数据",
            "👩\u{200d}💻",
            "\u{feff}",
            "‘quoted’",
            "C:\\data",
            "a\u{a0}b",
        ] {
            assert_eq!(visible(text), text);
        }
        let hidden =
            "\u{0}\u{7f}\u{85}\u{61c}\u{200e}\u{200f}\u{202a}\u{202e}\u{2066}\u{2069}\u{2028}\u{2029}";
        for character in hidden.chars() {
            let shown = visible(&character.to_string());
            assert_eq!(shown, format!("\\u{{{:x}}}", u32::from(character)));
        }
    }

    #[test]
    fn different_texts_never_look_the_same() {
        let pieces = [
            "\\", "\\\\", "u{1b}", "\u{1b}", "n", "\n", "d", "\"", "\t", "t", " ", "r", "\r", "\u{202e}", "u",
        ];
        let mut seen = std::collections::HashMap::new();
        for first in pieces {
            for second in pieces {
                for third in pieces {
                    let text = [first, second, third].concat();
                    for shown in [visible(&text), {
                        let mut line = String::new();
                        super::push_text(&mut line, &text);
                        line + " quoted"
                    }] {
                        assert!(!shown.contains(|c: char| super::is_hidden(c)));
                        let other = seen.entry(shown).or_insert_with(|| text.clone());
                        assert_eq!(*other, text);
                    }
                }
            }
        }
    }

    #[test]
    fn an_event_without_a_time_has_that_of_its_arrival() {
        for (timestamp, time) in [
            (r#""2025-01-15T10:30:00Z""#, "2025-01-15T10:30:00.000Z"),
            ("1736937000123", "2025-01-15T10:30:00.123Z"),
            (r#""step 3""#, "1970-01-01T00:00:01.500Z"),
            ("null", "1970-01-01T00:00:01.500Z"),
            ("[1]", "1970-01-01T00:00:01.500Z"),
        ] {
            let event = format!(r#"{{"type":"x","job_id":"j","timestamp":{timestamp}}}"#);
            let line = super::event_line(&event, &Palette::plain(), || Some(1_500)).unwrap();
            assert!(line.starts_with(&format!("{time} j x")), "{line}");
        }
    }

    #[test]
    fn long_values_show_their_head_and_their_tail() {
        let whole = "ä".repeat(VALUE_CHARS_MAX);
        let reason = |text: &str| {
            let event = serde_json::json!({"type": "job_paused", "job_id": "j", "data": {"reason": text}});
            event_line(&event.to_string()).unwrap()
        };
        assert_eq!(reason(&whole), format!("- j job_paused reason={whole}"));
        let tail = "ö".repeat(VALUE_CHARS_MAX - HEAD_CHARS);
        let head = "ä".repeat(HEAD_CHARS);
        assert_eq!(reason(&format!("{head}é{tail}")), format!("- j job_paused reason={head}…{tail}"));
        let traceback = format!("Traceback\n{}ValueError: no rows\n", "  File \"x.py\", line 7\n".repeat(50));
        let line = reason(&traceback);
        assert!(
            line.contains("reason=\"Traceback\\n") && line.ends_with("ValueError: no rows\\n\""),
            "{line}"
        );
        let list = format!("[{}9]", "1,".repeat(500));
        let event = format!(r#"{{"type":"x","job_id":"j","list":{list}}}"#);
        assert!(event_line(&event).unwrap().ends_with(",1,9]"));
    }
}
