//! An event as one line for people: time, job, type, and what matters of its shape.

use std::borrow::Cow;

use anstyle::{AnsiColor, Style};

use crate::wire::members::members;
use crate::wire::stamp::{Stamp, parse_unix_micros};

/// Longest value shown, in characters; the rest is cut off.
const VALUE_CHARS_MAX: usize = 160;

/// A label and where its value stands in the event.
type Detail = (&'static str, &'static [&'static str]);

/// What is shown of each type; an `execution_event` goes by its inner type.
const SHAPES: &[(&str, &[Detail])] = &[
    (
        "job_started",
        &[("flow", &["flow_id"]), ("entry", &["data", "entry_routine"]), ("params", &["data", "params"])],
    ),
    ("job_completed", &[("duration", &["data", "duration"]), ("events", &["data", "total_events"])]),
    ("job_failed", &[("routine", &["data", "routine_id"]), ("error", &["data", "error"])]),
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
            ("duration", &["metrics", "duration"]),
            ("events", &["metrics", "total_events"]),
            ("slot_calls", &["metrics", "total_slot_calls"]),
            ("event_emits", &["metrics", "total_event_emits"]),
        ],
    ),
];

/// What is shown of a type that is not among the shapes.
const OTHER: &[Detail] = &[("routine", &["routine_id"]), ("event", &["event"]), ("data", &["data"])];

/// How the parts of a line look.
pub struct Palette {
    faint: Style,
    begun: Style,
    good: Style,
    bad: Style,
    held: Style,
}

impl Palette {
    pub fn plain() -> Self {
        let [faint, begun, good, bad, held] = [Style::new(); 5];
        Self { faint, begun, good, bad, held }
    }

    pub fn coloured() -> Self {
        Self {
            faint: Style::new().dimmed(),
            begun: Style::new().bold(),
            good: AnsiColor::Green.on_default(),
            bad: AnsiColor::Red.on_default().bold(),
            held: AnsiColor::Yellow.on_default(),
        }
    }

    fn of_type(&self, kind: &str) -> Style {
        match kind {
            "job_started" => self.begun,
            "job_completed" => self.good,
            "job_failed" | "routine_failed" | "error" => self.bad,
            "job_paused" | "job_cancelled" | "breakpoint_hit" => self.held,
            _ => Style::new(),
        }
    }
}

/// The line, without its end. None if `event` is not a JSON object with a type.
pub fn event_line(event: &str, palette: &Palette) -> Option<String> {
    let names = ["type", "job_id", "flow_id", "timestamp", "event"];
    let [kind, job_id, flow_id, timestamp, inner_event] = members(event, &names)?;
    let kind = decode(kind?)?;
    let inner = inner_event
        .filter(|_| kind == "execution_event")
        .and_then(|inner_event| members(inner_event, &["event_type"])?[0])
        .and_then(decode);

    let faint = palette.faint;
    let time = time(timestamp.and_then(decode).as_deref());
    let mut line = format!("{faint}{time}{faint:#} ");
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
    let shape = match &inner {
        Some(inner) => inner.as_ref(),
        None => kind.as_ref(),
    };
    let is_inner_name = matches!(shape, "slot_call" | "event_emit" | "error");
    let details = SHAPES
        .iter()
        .find(|(name, _)| *name == shape && is_inner_name == inner.is_some())
        .map_or(OTHER, |(_, details)| details);
    for (label, path) in details {
        if let Some(value) = find(event, path).filter(|value| *value != "null") {
            line.push_str(&format!(" {faint}{label}={faint:#}"));
            push_value(&mut line, value);
        }
    }
    Some(line)
}

/// In UTC where it can be read; else as it is, and `-` where there is none.
fn time(timestamp: Option<&str>) -> String {
    let Some(text) = timestamp else {
        return "-".to_owned();
    };
    match parse_unix_micros(text) {
        Some(unix_micros) => Stamp::from_unix_millis(unix_micros.div_euclid(1000)).to_string(),
        None => visible(text),
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

/// Text bare where that is one word, else in quotes; anything else as JSON.
fn push_value(line: &mut String, json: &str) {
    let text = decode(json);
    let shown = text.as_deref().unwrap_or(json);
    let cut = match shown.char_indices().nth(VALUE_CHARS_MAX) {
        Some((end, _)) => &shown[..end],
        None => shown,
    };
    let is_quoted = text.is_some()
        && (cut.is_empty() || cut.contains(|c: char| c.is_whitespace() || c == '"' || c == '='));
    if is_quoted {
        line.push('"');
    }
    push_visible(line, cut);
    if cut.len() < shown.len() {
        line.push('…');
    }
    if is_quoted {
        line.push('"');
    }
}

/// Text from elsewhere, such that it cannot steer a terminal: what does not print is escaped.
pub fn visible(text: &str) -> String {
    let mut shown = String::new();
    push_visible(&mut shown, text);
    shown
}

fn push_visible(line: &mut String, text: &str) {
    for character in text.chars() {
        match character {
            '"' | '\'' | '\\' => line.push(character),
            _ => line.extend(character.escape_debug()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Palette, SHAPES, VALUE_CHARS_MAX};

    fn event_line(event: &str) -> Option<String> {
        super::event_line(event, &Palette::plain())
    }

    #[test]
    fn colours_tell_good_from_bad() {
        let event = r#"{"type":"job_failed","job_id":"j","data":{"routine_id":"p"}}"#;
        let line = super::event_line(event, &Palette::coloured()).unwrap();
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
                "noon flow:f custom data=[1]",
            ),
            (r#"{"type":"slot_call","job_id":"j","data":{}}"#, "- j slot_call data={}"),
            (r#"{"type":"job_resumed","job_id":"j"}"#, "- j job_resumed"),
        ];
        for (event, line) in table {
            assert_eq!(event_line(event).as_deref(), Some(line));
        }
        assert_eq!(event_line(r#"{"job_id":"j"}"#), None);
        assert_eq!(event_line("[]"), None);
        assert_eq!(SHAPES.len(), 14);
    }

    #[test]
    fn nothing_steers_the_terminal() {
        let event = r#"{"type":"job_paused","job_id":"j","timestamp":"\u001b[2J","data":{"reason":"a\nb\u001b]0;x\u0007\u202e\u009b é"}}"#;
        assert_eq!(
            event_line(event).unwrap(),
            r#"\u{1b}[2J j job_paused reason="a\nb\u{1b}]0;x\u{7}\u{202e}\u{9b} é""#
        );
        let raw = "{\"type\":\"x\",\"job_id\":\"j\",\"data\":{\"k\":\"\u{9b}\u{7f}\"}}";
        assert_eq!(event_line(raw).unwrap(), r#"- j x data={"k":"\u{9b}\u{7f}"}"#);
    }

    #[test]
    fn long_values_are_cut_between_characters() {
        let long = "ä".repeat(VALUE_CHARS_MAX + 1);
        let event = format!(r#"{{"type":"job_paused","job_id":"j","data":{{"reason":"{long}"}}}}"#);
        let expected = format!("- j job_paused reason={}…", "ä".repeat(VALUE_CHARS_MAX));
        assert_eq!(event_line(&event), Some(expected));
    }
}
