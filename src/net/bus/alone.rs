//! Messages that are asked for alone, without a consumer. The server answers in JSON, which no message can spoil.

use std::fmt::Display;

use async_nats::datetime::{DateTime, parse_rfc3339};
use async_nats::jetstream::Context;
use data_encoding::BASE64;
use serde_json::{Value, json};

use crate::bus::header_block::HeaderBlock;
use crate::net::bus::stream_info::error_of;

/// "no message found"
const NO_MESSAGE: u64 = 10_037;

/// A message of the stream.
pub(super) struct Alone {
    pub message: u64,
    pub time: DateTime,
    /// None: no client can read them.
    pub headers: Option<HeaderBlock>,
    pub payload: Vec<u8>,
    /// Of its headers and its payload.
    pub bytes: u64,
}

/// Which message is asked for: the first one that is not before.
pub(super) enum From {
    Message(u64),
    /// What the stream took at that time.
    Time(DateTime),
}

/// The right that this needs.
pub(super) fn right(stream: &str) -> String {
    format!("$JS.API.STREAM.MSG.GET.{stream}")
}

/// None: the stream has no such message.
///
/// # Errors
/// In words, why the server does not hand it out.
pub(super) async fn read(jetstream: &Context, stream: &str, from: From) -> Result<Option<Alone>, String> {
    let request = match from {
        From::Message(message) => json!({"seq": message, "next_by_subj": ">"}),
        From::Time(time) => json!({"start_time": rfc3339(time), "next_by_subj": ">"}),
    };
    let answer: Result<Value, _> = jetstream.request(format!("STREAM.MSG.GET.{stream}"), &request).await;
    // A server that forbids something does not answer.
    let answer =
        answer.map_err(|error| format!("{error}; it needs the right to publish to {}", right(stream)))?;
    match error_of(&answer) {
        Some((NO_MESSAGE, _)) => Ok(None),
        Some((_, words)) => Err(words),
        None => decode(&answer["message"]).map(Some),
    }
}

fn decode(message: &Value) -> Result<Alone, String> {
    let wrong = |error: &dyn Display| format!("the answer is not understood: {error}");
    let bytes = |name: &str| {
        BASE64.decode(message[name].as_str().unwrap_or_default().as_bytes()).map_err(|error| wrong(&error))
    };
    let (block, payload) = (bytes("hdrs")?, bytes("data")?);
    Ok(Alone {
        message: message["seq"].as_u64().ok_or_else(|| wrong(&"it has no seq"))?,
        time: parse_rfc3339(message["time"].as_str().unwrap_or_default()).map_err(|error| wrong(&error))?,
        headers: HeaderBlock::read(&block),
        bytes: (block.len() + payload.len()) as u64,
        payload,
    })
}

/// Written out by hand, since the library does not hand out its way.
fn rfc3339(time: DateTime) -> String {
    let (date, clock) = (time.date(), time.time());
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:09}Z",
        date.year(),
        u8::from(date.month()),
        date.day(),
        clock.hour(),
        clock.minute(),
        clock.second(),
        clock.nanosecond()
    )
}

#[cfg(test)]
mod tests {
    use async_nats::datetime::parse_rfc3339;
    use serde_json::json;

    use super::{decode, rfc3339};

    #[test]
    fn times_are_written_as_they_are_read() {
        for text in ["2026-11-30T09:08:07.000000012Z", "1999-01-02T23:59:00.123456789Z"] {
            assert_eq!(rfc3339(parse_rfc3339(text).unwrap()), text);
        }
        let later = parse_rfc3339("2026-03-01T00:00:00.5Z").unwrap() - std::time::Duration::from_secs(1);
        assert_eq!(rfc3339(later), "2026-02-28T23:59:59.500000000Z");
    }

    #[test]
    fn an_answer_has_the_bytes_as_they_are() {
        let answer = json!({"seq": 7, "time": "2026-11-30T09:08:07.1Z", "hdrs": "TkFUUy8xLjANCkE6IP8NCg0K", "data": "/w=="});
        let alone = decode(&answer).unwrap();
        assert_eq!((alone.message, alone.headers, &*alone.payload, alone.bytes), (7, None, &[0xff][..], 19));
        assert_eq!(alone.time.unix_timestamp_nanos() % 1_000_000_000, 100_000_000);
        let alone = decode(&json!({"seq": 7, "time": "2026-11-30T09:08:07.1Z"})).unwrap();
        assert!(alone.headers.is_some() && alone.payload.is_empty());
        for wrong in
            [json!({}), json!({"seq": 7}), json!({"seq": 7, "time": "2026-11-30T09:08:07.1Z", "data": "?"})]
        {
            assert!(decode(&wrong).is_err(), "{wrong}");
        }
    }
}
