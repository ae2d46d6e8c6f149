//! Chunks of an HTTP answer (RFC 9112, 7.1), each with one line of JSON or one Server-Sent Event (HTML, 9.2).

use std::borrow::Cow;

use serde_json::Value;

use super::decoder::{LENGTH_MAX, Piece};

/// The first chunk, with the message that `message_of` finds in it, and its length. None: it is not whole.
pub fn first<'a>(bytes: &'a [u8], message_of: impl Fn(&'a str) -> &'a str) -> Option<(Piece<'a>, usize)> {
    let digits = bytes.windows(2).position(|two| two == b"\r\n");
    let Some(digits) = digits else {
        assert!(bytes.len() < 10, "the border of the chunks is lost: {bytes:?}");
        return None;
    };
    let text = std::str::from_utf8(&bytes[..digits]).expect("it is text");
    let length = usize::from_str_radix(text, 16).unwrap_or_else(|_| panic!("{text:?} is no chunk's length"));
    assert!(length < LENGTH_MAX, "the border of the chunks is lost: one of {length} bytes");
    let start = digits + 2;
    let chunk = bytes.get(start..start + length + 2)?;
    let content = chunk.strip_suffix(b"\r\n").expect("a chunk has an end");
    let content = std::str::from_utf8(content).expect("it is text");
    let piece = if content.is_empty() { Piece::End } else { Piece::Message(message_of(content)) };
    Some((piece, start + length + 2))
}

/// The JSON of a line.
pub fn line(content: &str) -> &str {
    let json = content.strip_suffix('\n').expect("it is a line");
    assert!(!json.contains(['\n', '\r']), "more than a line: {json}");
    json
}

/// The JSON of an event in a chunk: no line ends within it.
pub fn in_one_line(object: &str) -> Cow<'_, str> {
    match object.contains('\r') {
        true => object.replace('\r', " ").into(),
        false => object.into(),
    }
}

/// The JSON of a Server-Sent Event. Its id is there where its number is a position, which the number of a greeting is not
/// for who asks for the past.
pub fn data(event: &str, asks_for_past: bool) -> &str {
    let (fields, rest) = event.split_once("data: ").expect("an event has data");
    let json = rest.strip_suffix("\n\n").expect("an event ends with an empty line");
    assert!(!json.contains(['\n', '\r']), "more than a line: {json}");
    let value: Value = serde_json::from_str(json).expect("it is JSON");
    let is_greeting = value["status"] == "connected" && asks_for_past;
    let is_position =
        value["type"] == "ping" || value["type"] == "connection:status" || json.starts_with("{\"stream_seq");
    let mut expected = String::new();
    if value["status"] == "disconnected" {
        expected = format!("retry: {}\n", value["retry_after_ms"]);
    }
    if is_position && !is_greeting {
        expected.push_str(&format!("id: {}\n", value["stream_seq"]));
    }
    assert_eq!(fields, expected, "{json}");
    json
}
