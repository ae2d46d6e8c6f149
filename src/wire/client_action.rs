//! Reads a client's message: its text becomes an [`Action`], or the error that answers it.

use std::collections::HashSet;
use std::fmt;

use serde_json::{Map, Value};

use crate::wire::frame::cut;
use crate::wire::line::is_id;
use crate::wire::text::digits;

/// Bytes of one event name: as long as a publisher's `type` can be.
pub const NAME_BYTES_MAX: usize = 64;
/// Most different names in one list, and in force on one connection: several times the documented types.
pub const NAMES_MAX: usize = 128;
/// The greatest event number: `stream_seq` stays below 2^53, so that JavaScript reads it exactly.
pub const SEQ_MAX: u64 = (1 << 53) - 1;

/// Most bytes of the client's text that an error message or its `job_id` repeats: as long as an id can be.
const ECHO_BYTES_MAX: usize = 128;

/// A message that can be obeyed.
#[derive(Debug, PartialEq, Eq)]
pub enum Action {
    Subscribe(EventNames),
    /// Without a list it has no effect, but is confirmed.
    Unsubscribe(Option<EventNames>),
    SubscribeAll,
    Ping,
    Pong,
    /// Only on the multi-job endpoint, like the next one; `job_id` is a valid id.
    SubscribeJob {
        job_id: String,
        since: Since,
    },
    UnsubscribeJob {
        job_id: String,
    },
}

/// A list of event names.
#[derive(Debug, PartialEq, Eq)]
pub struct EventNames {
    /// At most [`NAMES_MAX`] different names of at most [`NAME_BYTES_MAX`] bytes, in the order of the list.
    pub names: Vec<String>,
    /// The client's list as compact JSON, for the confirmation. It is not longer than the message.
    pub echo: String,
}

/// Where in the stream a watcher starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Since {
    /// Only live events.
    #[default]
    Now,
    /// Everything retained.
    Start,
    /// Events with a greater number; at most [`SEQ_MAX`].
    After(u64),
    /// This many of the last events that match; 1 to [`SEQ_MAX`].
    Last(u64),
}

impl Since {
    /// Reads `now`, `start`, a number, or a minus and a number; `None` for anything else.
    pub fn parse(text: &str) -> Option<Since> {
        match text {
            "now" => Some(Since::Now),
            "start" => Some(Since::Start),
            _ => match text.strip_prefix('-') {
                Some(count) => parse_number(count).filter(|count| *count > 0).map(Since::Last),
                None => parse_number(text).map(Since::After),
            },
        }
    }

    /// The same as text or as a JSON integer; null counts as absent.
    fn from_json(value: &Value) -> Option<Since> {
        match value {
            Value::Null => Some(Since::Now),
            Value::String(text) => Since::parse(text),
            Value::Number(number) => Since::parse(&number.to_string()),
            Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
        }
    }
}

/// Written in the form that [`Since::parse`] reads.
impl fmt::Display for Since {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Since::Now => formatter.write_str("now"),
            Since::Start => formatter.write_str("start"),
            Since::After(stream_seq) => write!(formatter, "{stream_seq}"),
            Since::Last(count) => write!(formatter, "-{count}"),
        }
    }
}

fn parse_number(text: &str) -> Option<u64> {
    digits(text).filter(|number| *number <= SEQ_MAX)
}

/// Why a message was not obeyed, as the client gets it. Nothing has changed.
#[derive(Debug, PartialEq, Eq)]
pub struct ActionError {
    /// The stable word for programs.
    pub code: &'static str,
    /// For people.
    pub message: String,
    /// The client's `job_id`, if it sent a string: unescaped, cut to at most 128 bytes.
    pub job_id: Option<String>,
}

impl ActionError {
    /// Every `code`, each once.
    pub const CODES: [&str; 10] = [
        "bad_json",
        "not_an_object",
        "unknown_action",
        "bad_events",
        "too_many_names",
        "bad_job_id",
        "bad_since",
        "too_many_jobs",
        "forbidden",
        "binary",
    ];

    /// The place of its code in [`ActionError::CODES`].
    pub fn place(&self) -> usize {
        let place = Self::CODES.iter().position(|&known| known == self.code);
        place.expect("every code is in the table")
    }

    fn new(code: &'static str, message: impl Into<String>) -> Self {
        debug_assert!(Self::CODES.contains(&code), "{code}");
        ActionError { code, message: message.into(), job_id: None }
    }

    /// The answer to a binary message.
    pub fn binary() -> Self {
        ActionError::new("binary", "binary messages mean nothing here: send JSON as text")
    }

    /// The connection has as many names in force as it may have.
    pub fn too_many_names() -> Self {
        ActionError::new("too_many_names", format!("at most {NAMES_MAX} names in force on one connection"))
    }

    /// No further job can be watched.
    pub fn too_many_jobs(message: String, job_id: &str) -> Self {
        ActionError::new("too_many_jobs", message).for_job(job_id)
    }

    /// The connection has no right to this job.
    pub fn forbidden(job_id: &str) -> Self {
        ActionError::new("forbidden", "the token does not allow this job").for_job(job_id)
    }

    /// Whether the message made no sense. A forbidden one does not count: a page may send it in good faith, as often
    /// as it likes.
    pub fn is_garbage(&self) -> bool {
        self.code != "forbidden"
    }

    fn for_job(self, job_id: &str) -> Self {
        ActionError { job_id: Some(cut(job_id, ECHO_BYTES_MAX).to_owned()), ..self }
    }
}

/// Reads one text message. `multi_job` says whether it came to the multi-job endpoint, which has more actions.
///
/// # Errors
/// The answer to a message that cannot be obeyed.
pub fn parse_action(text: &str, multi_job: bool) -> Result<Action, ActionError> {
    // serde_json stops at 128 levels, so no nesting can overflow the stack.
    let value: Value = serde_json::from_str(text)
        .map_err(|error| ActionError::new("bad_json", format!("not JSON: {error}")))?;
    let Value::Object(object) = value else {
        return Err(ActionError::new("not_an_object", "a message must be a JSON object"));
    };
    // If both are there, `action` decides: it is the member of the published protocol.
    match (object.get("action"), object.get("type")) {
        (Some(Value::String(action)), _) => match action.as_str() {
            "subscribe" => Ok(Action::Subscribe(read_names(object.get("events"))?)),
            "unsubscribe" => match object.get("events") {
                None => Ok(Action::Unsubscribe(None)),
                events => Ok(Action::Unsubscribe(Some(read_names(events)?))),
            },
            "subscribe_all" => Ok(Action::SubscribeAll),
            "ping" => Ok(Action::Ping),
            "pong" => Ok(Action::Pong),
            other => Err(unknown_action("action", other, multi_job)),
        },
        (None, Some(Value::String(kind))) => match kind.as_str() {
            "ping" => Ok(Action::Ping),
            "pong" => Ok(Action::Pong),
            "subscribe" if multi_job => read_subscribe_job(&object),
            "unsubscribe" if multi_job => {
                Ok(Action::UnsubscribeJob { job_id: read_job_id(&object)?.to_owned() })
            }
            other => Err(unknown_action("type", other, multi_job)),
        },
        _ => Err(ActionError::new("unknown_action", "a message needs \"action\" or \"type\", a string")),
    }
}

fn unknown_action(member: &str, name: &str, multi_job: bool) -> ActionError {
    let jobs = if multi_job { ", or \"type\" subscribe, unsubscribe with a job_id" } else { "" };
    let name = cut(name, ECHO_BYTES_MAX);
    let message = format!(
        "unknown {member} {name:?}: send \"action\" subscribe, unsubscribe, subscribe_all, ping, pong{jobs}"
    );
    ActionError::new("unknown_action", message)
}

fn read_names(events: Option<&Value>) -> Result<EventNames, ActionError> {
    let bad = |message: &str| Err(ActionError::new("bad_events", message));
    let Some(events @ Value::Array(items)) = events else {
        return bad("\"events\" must be a list of event names");
    };
    let mut names = Vec::new();
    let mut seen = HashSet::new();
    for item in items {
        let Value::String(name) = item else {
            return bad("each item of \"events\" must be a string");
        };
        if name.len() > NAME_BYTES_MAX {
            return bad(&format!("an event name has at most {NAME_BYTES_MAX} bytes"));
        }
        if seen.insert(name.as_str()) {
            names.push(name.clone());
        }
        if names.len() > NAMES_MAX {
            let message = format!("at most {NAMES_MAX} event names at a time");
            return Err(ActionError::new("too_many_names", message));
        }
    }
    Ok(EventNames { names, echo: events.to_string() })
}

fn read_subscribe_job(object: &Map<String, Value>) -> Result<Action, ActionError> {
    let job_id = read_job_id(object)?;
    match object.get("since").map_or(Some(Since::Now), Since::from_json) {
        Some(since) => Ok(Action::SubscribeJob { job_id: job_id.to_owned(), since }),
        None => {
            let message = "\"since\" must be now, start, an event number, or minus a count";
            Err(ActionError::new("bad_since", message).for_job(job_id))
        }
    }
}

fn read_job_id(object: &Map<String, Value>) -> Result<&str, ActionError> {
    let error =
        ActionError::new("bad_job_id", "\"job_id\" must be 1 to 128 of the characters A-Z a-z 0-9 _ . : -");
    match object.get("job_id") {
        Some(Value::String(job_id)) if is_id(job_id) => Ok(job_id),
        Some(Value::String(job_id)) => Err(error.for_job(job_id)),
        _ => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::{Action, ActionError, EventNames, SEQ_MAX, Since, parse_action};

    fn code(text: &str) -> &'static str {
        let single = parse_action(text, false).unwrap_err();
        assert!(!single.message.is_empty());
        single.code
    }

    fn names(names: &[&str], echo: &str) -> EventNames {
        EventNames { names: names.iter().map(|name| name.to_string()).collect(), echo: echo.to_owned() }
    }

    #[test]
    fn the_documented_actions_are_read_everywhere() {
        for multi_job in [false, true] {
            let read = |text: &str| parse_action(text, multi_job);
            let list = || names(&["job_started", "x"], r#"["job_started","x"]"#);
            assert_eq!(
                read(r#" {"action":"subscribe","events":[ "job_started", "x" ]} "#),
                Ok(Action::Subscribe(list()))
            );
            assert_eq!(
                read(r#"{"action":"unsubscribe","events":["job_started","x"],"other":1}"#),
                Ok(Action::Unsubscribe(Some(list())))
            );
            assert_eq!(read(r#"{"action":"unsubscribe"}"#), Ok(Action::Unsubscribe(None)));
            assert_eq!(
                read(r#"{"action":"subscribe","events":[]}"#),
                Ok(Action::Subscribe(names(&[], "[]")))
            );
            assert_eq!(read(r#"{"action":"subscribe_all","events":5}"#), Ok(Action::SubscribeAll));
            for member in ["action", "type"] {
                assert_eq!(read(&format!(r#"{{"{member}":"ping"}}"#)), Ok(Action::Ping));
                assert_eq!(read(&format!(r#"{{"{member}":"pong"}}"#)), Ok(Action::Pong));
            }
            assert_eq!(read(r#"{"type":"subscribe","action":"pong"}"#), Ok(Action::Pong));
        }
    }

    #[test]
    fn a_list_is_echoed_unchanged_and_each_name_counts_once() {
        let read = parse_action(r#"{"action":"subscribe","events":["a","\u0041","a","\"\n","é",""]}"#, false);
        let expected = names(&["a", "A", "\"\n", "é", ""], r#"["a","A","a","\"\n","é",""]"#);
        assert_eq!(read, Ok(Action::Subscribe(expected)));
    }

    #[test]
    fn bad_lists_are_refused() {
        for action in ["subscribe", "unsubscribe"] {
            let with = |events: &str| code(&format!(r#"{{"action":"{action}","events":{events}}}"#));
            let long = format!(r#"["{}"]"#, "a".repeat(65));
            for events in ["null", "\"a\"", "{}", "5", "[\"a\",5]", "[null]", "[[\"a\"]]", &long] {
                assert_eq!(with(events), "bad_events", "{events}");
            }
            let many = |count: usize| {
                serde_json::to_string(&Vec::from_iter((0..count).map(|n| n.to_string()))).unwrap()
            };
            assert_eq!(with(&many(129)), "too_many_names");
            let fitting = format!(r#"{{"action":"{action}","events":{}}}"#, many(128));
            assert!(parse_action(&fitting, false).is_ok());
            let repeated = format!(r#"{{"action":"{action}","events":[{}"a"]}}"#, "\"a\",".repeat(500));
            assert!(parse_action(&repeated, false).is_ok());
            // 32 characters of two bytes fit, 33 do not: the bound is in bytes.
            assert!(
                parse_action(&format!(r#"{{"action":"{action}","events":["{}"]}}"#, "ä".repeat(32)), false)
                    .is_ok()
            );
            assert_eq!(with(&format!(r#"["{}"]"#, "ä".repeat(33))), "bad_events");
        }
        assert_eq!(code(r#"{"action":"subscribe"}"#), "bad_events");
    }

    #[test]
    fn each_kind_of_bad_message_has_its_code() {
        for text in
            ["", "{", "subscribe", "{'a':1}", "{} {}", "\u{FEFF}{}", "{\"a\":\"\\ud800\"}", "{\"a\":1e999}"]
        {
            assert_eq!(code(text), "bad_json", "{text:?}");
        }
        for text in ["[]", "5", "null", "\"subscribe\"", "[{\"action\":\"ping\"}]"] {
            assert_eq!(code(text), "not_an_object", "{text:?}");
        }
        let unknown = [
            "{}",
            r#"{"action":"foo"}"#,
            r#"{"action":5}"#,
            r#"{"action":null,"type":"ping"}"#,
            r#"{"type":["ping"]}"#,
            r#"{"type":"subscribe","job_id":"a"}"#,
            r#"{"type":"subscribe","events":[]}"#,
            r#"{"action":"Subscribe","events":[]}"#,
            r#"{"type":"subscribe_all"}"#,
        ];
        for text in unknown {
            assert_eq!(code(text), "unknown_action", "{text:?}");
        }
        assert_eq!(ActionError::binary().code, "binary");
    }

    #[test]
    fn deep_nesting_is_an_error_and_not_an_overflow() {
        let deep = format!("{}{}", "[".repeat(60_000), "]".repeat(5_000));
        assert_eq!(code(&deep), "bad_json");
        assert_eq!(code(&"{\"a\":".repeat(10_000)), "bad_json");
    }

    #[test]
    fn long_names_are_not_repeated_in_full() {
        let text = format!(r#"{{"action":"{}"}}"#, "ä".repeat(20_000));
        let error = parse_action(&text, false).unwrap_err();
        assert!(error.message.len() < 400, "{}", error.message.len());
    }

    #[test]
    fn jobs_are_subscribed_on_the_multi_job_endpoint() {
        let read = |text: &str| parse_action(text, true);
        let subscribe = |since| Ok(Action::SubscribeJob { job_id: "j.1".to_owned(), since });
        assert_eq!(read(r#"{"type":"subscribe","job_id":"j.1"}"#), subscribe(Since::Now));
        let cases = [
            ("null", Since::Now),
            ("\"now\"", Since::Now),
            ("\"start\"", Since::Start),
            ("17", Since::After(17)),
            ("\"17\"", Since::After(17)),
            ("0", Since::After(0)),
            ("-100", Since::Last(100)),
            ("\"-100\"", Since::Last(100)),
            ("9007199254740991", Since::After(SEQ_MAX)),
        ];
        for (since, expected) in cases {
            let text = format!(r#"{{"type":"subscribe","job_id":"j.1","since":{since}}}"#);
            assert_eq!(read(&text), subscribe(expected), "{since}");
        }
        let unsubscribe = Ok(Action::UnsubscribeJob { job_id: "j.1".to_owned() });
        assert_eq!(read(r#"{"type":"unsubscribe","job_id":"j.1"}"#), unsubscribe);
    }

    #[test]
    fn bad_jobs_and_starts_are_answered_with_the_job() {
        let error = |text: &str| parse_action(text, true).unwrap_err();
        for kind in ["subscribe", "unsubscribe"] {
            for job_id in ["", "a b", "ä", "a/b", &"a".repeat(129)] {
                let error = error(&format!(r#"{{"type":"{kind}","job_id":"{job_id}"}}"#));
                assert_eq!(error.code, "bad_job_id");
                assert_eq!(error.job_id.as_deref(), Some(&job_id[..job_id.len().min(128)]));
            }
            for rest in ["", r#","job_id":5"#, r#","job_id":null"#] {
                let error = error(&format!(r#"{{"type":"{kind}"{rest}}}"#));
                assert_eq!((error.code, error.job_id), ("bad_job_id", None));
            }
        }
        for since in [
            "1.5",
            "1e3",
            "-0",
            "true",
            "[]",
            "\"\"",
            "\"+5\"",
            "\"5 \"",
            "\"never\"",
            "\"-\"",
            "9007199254740992",
        ] {
            let error = error(&format!(r#"{{"type":"subscribe","job_id":"j","since":{since}}}"#));
            assert_eq!((error.code, error.job_id.as_deref()), ("bad_since", Some("j")), "{since}");
        }
    }

    #[test]
    fn since_is_read_strictly() {
        let cases = [
            ("now", Some(Since::Now)),
            ("start", Some(Since::Start)),
            ("0", Some(Since::After(0))),
            ("007", Some(Since::After(7))),
            ("9007199254740991", Some(Since::After(SEQ_MAX))),
            ("9007199254740992", None),
            ("99999999999999999999999", None),
            ("-1", Some(Since::Last(1))),
            ("-0", None),
            ("-9007199254740992", None),
            ("", None),
            ("-", None),
            ("--1", None),
            ("+1", None),
            ("-+1", None),
            ("1.0", None),
            ("NOW", None),
            (" 1", None),
        ];
        for (text, expected) in cases {
            assert_eq!(Since::parse(text), expected, "{text:?}");
        }
    }
}
