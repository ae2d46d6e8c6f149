//! A client's message, against what serde_json makes of it.

use std::collections::BTreeSet;

use luxcast::wire::client_action::{
    Action, ActionError, EventNames, NAME_BYTES_MAX, NAMES_MAX, parse_action,
};
use luxcast::wire::watcher_message;
use serde_json::{Value, json};

/// What `parse_action` may answer; src/wire/README.md, "From the client".
const CODES: [&str; 6] =
    ["bad_json", "not_an_object", "unknown_action", "bad_events", "too_many_names", "bad_job_id"];
/// What of the client's own text an error repeats, escaped at worst as `\u0000`, and the rest of it.
const ERROR_BYTES_MAX: usize = 6 * (128 + 128) + 1024;

/// Panics where something does not hold for this message.
pub fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    for is_multi_job in [false, true] {
        match parse_action(text, is_multi_job) {
            Ok(action) => check_action(text, &action, is_multi_job),
            Err(error) => check_error(text, &error, is_multi_job),
        }
    }
}

fn check_action(text: &str, action: &Action, is_multi_job: bool) {
    let value: Value = serde_json::from_str(text).expect("what is obeyed is JSON");
    let said =
        value.get("action").or(value.get("type")).and_then(Value::as_str).expect("it says what it wants");
    let again = match action {
        Action::Subscribe(names) => {
            check_names(&value["events"], names, text);
            json!({"action": "subscribe", "events": value["events"]})
        }
        Action::Unsubscribe(None) => {
            assert!(value.get("events").is_none());
            json!({"action": "unsubscribe"})
        }
        Action::Unsubscribe(Some(names)) => {
            check_names(&value["events"], names, text);
            json!({"action": "unsubscribe", "events": value["events"]})
        }
        Action::SubscribeAll => json!({"action": "subscribe_all"}),
        Action::Ping => json!({"type": "ping"}),
        Action::Pong => json!({"action": "pong"}),
        Action::SubscribeJob { job_id, since } => {
            assert!(is_multi_job && value.get("action").is_none());
            check_job_id(&value, job_id);
            json!({"type": "subscribe", "job_id": job_id, "since": since.to_string()})
        }
        Action::UnsubscribeJob { job_id } => {
            assert!(is_multi_job && value.get("action").is_none());
            check_job_id(&value, job_id);
            json!({"type": "unsubscribe", "job_id": job_id})
        }
    };
    let word = again.get("action").or(again.get("type")).and_then(Value::as_str);
    assert_eq!(word, Some(said), "{action:?} of {text:?}");
    assert_eq!(parse_action(&again.to_string(), is_multi_job).as_ref(), Ok(action), "{again}");
}

fn check_names(events: &Value, names: &EventNames, text: &str) {
    let listed: Vec<&str> = events.as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    assert_eq!(listed.len(), events.as_array().map_or(0, Vec::len), "all are strings");
    let mut seen = BTreeSet::new();
    let once: Vec<&str> = listed.iter().copied().filter(|name| seen.insert(*name)).collect();
    assert_eq!(names.names, once);
    assert!(once.len() <= NAMES_MAX && once.iter().all(|name| name.len() <= NAME_BYTES_MAX));
    assert!(names.echo.len() <= text.len(), "an echo longer than the message");
    let mut out = Vec::new();
    watcher_message::confirmed(&mut out, "subscribe", &names.echo);
    let confirmed = object(&out);
    assert_eq!(&confirmed["events"], events);
}

fn check_job_id(value: &Value, job_id: &str) {
    assert_eq!(value["job_id"].as_str(), Some(job_id));
    let is_word = |letter: char| letter.is_ascii_alphanumeric() || "_.:-".contains(letter);
    assert!((1..=128).contains(&job_id.len()) && job_id.chars().all(is_word));
}

fn check_error(text: &str, error: &ActionError, is_multi_job: bool) {
    let code = error.code;
    let is_known = CODES.contains(&code) || (is_multi_job && code == "bad_since");
    assert!(is_known && (is_multi_job || code != "bad_job_id"), "{code} for {text:?}");
    let parsed = serde_json::from_str::<Value>(text);
    assert_eq!(code == "bad_json", parsed.is_err(), "{code} for {text:?}");
    let is_object = parsed.as_ref().is_ok_and(Value::is_object);
    assert_eq!(code == "not_an_object", parsed.is_ok() && !is_object, "{code} for {text:?}");
    let mut out = Vec::new();
    watcher_message::error(&mut out, code, &error.message, error.job_id.as_deref());
    assert!(out.len() <= ERROR_BYTES_MAX, "{} bytes in answer to {}", out.len(), text.len());
    let told = object(&out);
    assert_eq!((&told["type"], &told["code"]), (&json!("error"), &json!(code)));
    if let (Some(job_id), Some(sent)) =
        (&error.job_id, parsed.ok().as_ref().and_then(|sent| sent["job_id"].as_str()))
    {
        assert!(sent.starts_with(job_id.as_str()) && told["job_id"] == **job_id);
    }
}

/// The object in a whole text frame.
fn object(frame: &[u8]) -> Value {
    assert_eq!(frame[0], 0x81);
    let header = match frame[1] {
        126 => 4,
        127 => 10,
        _ => 2,
    };
    serde_json::from_slice(&frame[header..]).expect("the daemon sends JSON")
}
