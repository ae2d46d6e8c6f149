//! The daemon's own messages. Each function appends one whole text frame, header and JSON, and allocates only if
//! `out` has to grow. The members come in the protocol's order.

use serde::Serialize;

use crate::wire::frame::{HEADER_BYTES_MAX, TEXT, header_length, write_header};
use crate::wire::stamp::Stamp;

/// A range in which something was lost: `from..=to`, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    pub from: u64,
    /// `from <= to`.
    pub to: u64,
    /// How many of this watcher's events were lost in it; `None` if that is unknown.
    pub missed: Option<u64>,
    pub reason: GapReason,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GapReason {
    /// Evicted from the history before this watcher asked for it.
    Expired,
    /// Evicted while this watcher was reading too slowly.
    Overrun,
    /// Numbered by an earlier run of the daemon whose history is gone.
    Restart,
}

impl GapReason {
    /// Every reason, in the order of declaration: `ALL[reason as usize] == reason`.
    pub const ALL: [GapReason; 3] = [GapReason::Expired, GapReason::Overrun, GapReason::Restart];

    pub fn text(self) -> &'static str {
        match self {
            GapReason::Expired => "expired",
            GapReason::Overrun => "overrun",
            GapReason::Restart => "restart",
        }
    }
}

/// What the daemon has counted for a job.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Metrics {
    pub start_unix_micros: Option<i64>,
    /// `None` while the job runs.
    pub end_unix_micros: Option<i64>,
    pub duration_seconds: Option<f64>,
    pub total_events: u64,
    pub total_slot_calls: u64,
    pub total_event_emits: u64,
    /// The job was silent for `job_idle_seconds`: this adds the member `"status":"lost"`.
    pub is_lost: bool,
}

/// The first message on every endpoint but the multi-job one.
pub fn connected(out: &mut Vec<u8>, at: &Stamp, stream_seq: u64) {
    text_frame(out, |out| {
        status(out, "connected", at, stream_seq);
        raw(out, "}");
    });
}

/// The first message on the multi-job endpoint.
pub fn multi_connected(out: &mut Vec<u8>, stream_seq: u64) {
    text_frame(out, |out| {
        raw(out, r#"{"type":"connected","message":"connected to luxcast","stream_seq":"#);
        json(out, &stream_seq);
        raw(out, "}");
    });
}

/// The last message before the daemon closes a connection because it drains; `stream_seq` is this
/// connection's own position.
pub fn disconnected(out: &mut Vec<u8>, at: &Stamp, stream_seq: u64, reason: &str, retry_after_ms: u64) {
    text_frame(out, |out| {
        status(out, "disconnected", at, stream_seq);
        raw(out, r#","reason":"#);
        json(out, reason);
        raw(out, r#","retry_after_ms":"#);
        json(out, &retry_after_ms);
        raw(out, "}");
    });
}

/// The stream that daemons share (`bus`) is away for a while, or there again; the connection stays. `stream_seq` is this
/// connection's own position.
pub fn standing(out: &mut Vec<u8>, at: &Stamp, stream_seq: u64, is_away: bool) {
    text_frame(out, |out| {
        status(out, if is_away { "reconnecting" } else { "connected" }, at, stream_seq);
        raw(out, "}");
    });
}

/// The heartbeat, sent with a protocol ping; `stream_seq` is this connection's own position.
pub fn ping(out: &mut Vec<u8>, at: &Stamp, stream_seq: u64) {
    text_frame(out, |out| {
        raw(out, r#"{"type":"ping","timestamp":"#);
        stamp(out, at);
        raw(out, r#","stream_seq":"#);
        json(out, &stream_seq);
        raw(out, "}");
    });
}

/// The answer to a client's JSON ping, and the heartbeat of the multi-job endpoint.
pub fn pong(out: &mut Vec<u8>) {
    text_frame(out, |out| raw(out, r#"{"type":"pong"}"#));
}

/// Confirms a filter change; `events_echo` is the client's list as JSON, `[]` where it sent none.
pub fn confirmed(out: &mut Vec<u8>, action: &str, events_echo: &str) {
    text_frame(out, |out| {
        raw(out, r#"{"type":"subscription:confirmed","action":"#);
        json(out, action);
        raw(out, r#","events":"#);
        raw(out, events_echo);
        raw(out, "}");
    });
}

/// Answers a message that could not be obeyed. The texts may hold the client's own words.
pub fn error(out: &mut Vec<u8>, code: &str, message: &str, job_id: Option<&str>) {
    text_frame(out, |out| {
        raw(out, r#"{"type":"error","code":"#);
        json(out, code);
        raw(out, r#","message":"#);
        json(out, message);
        job_id_and_end(out, job_id);
    });
}

/// Reports what was lost, on the multi-job endpoint with the job.
pub fn gap(out: &mut Vec<u8>, at: &Stamp, gap: &Gap, job_id: Option<&str>) {
    debug_assert!(gap.from <= gap.to);
    text_frame(out, |out| {
        raw(out, r#"{"type":"stream:gap","from":"#);
        json(out, &gap.from);
        raw(out, r#","to":"#);
        json(out, &gap.to);
        raw(out, r#","missed":"#);
        json(out, &gap.missed);
        raw(out, r#","reason":"#);
        json(out, gap.reason.text());
        raw(out, r#","timestamp":"#);
        stamp(out, at);
        job_id_and_end(out, job_id);
    });
}

/// The snapshot for a new watcher of a job.
pub fn metrics(out: &mut Vec<u8>, at: &Stamp, job_id: &str, metrics: &Metrics) {
    text_frame(out, |out| metrics_line(out, at, job_id, metrics));
}

/// The same as a bare JSON object without a frame, which the daemon's own sequencer takes as an event.
pub fn metrics_line(out: &mut Vec<u8>, at: &Stamp, job_id: &str, metrics: &Metrics) {
    raw(out, r#"{"type":"metrics","job_id":"#);
    json(out, job_id);
    raw(out, r#","timestamp":"#);
    stamp(out, at);
    raw(out, r#","metrics":{"start_time":"#);
    time(out, metrics.start_unix_micros);
    raw(out, r#","end_time":"#);
    time(out, metrics.end_unix_micros);
    raw(out, r#","duration":"#);
    json(out, &metrics.duration_seconds);
    raw(out, r#","total_events":"#);
    json(out, &metrics.total_events);
    raw(out, r#","total_slot_calls":"#);
    json(out, &metrics.total_slot_calls);
    raw(out, r#","total_event_emits":"#);
    json(out, &metrics.total_event_emits);
    raw(out, if metrics.is_lost { r#","status":"lost"}}"# } else { "}}" });
}

/// Multi-job endpoint: the job is watched from `stream_seq` on.
pub fn subscribed(out: &mut Vec<u8>, job_id: &str, subscriber_id: &str, stream_seq: u64) {
    text_frame(out, |out| {
        raw(out, r#"{"type":"subscribed","job_id":"#);
        json(out, job_id);
        raw(out, r#","subscriber_id":"#);
        json(out, subscriber_id);
        raw(out, r#","stream_seq":"#);
        json(out, &stream_seq);
        raw(out, "}");
    });
}

/// Multi-job endpoint: the job was watched already.
pub fn already_subscribed(out: &mut Vec<u8>, job_id: &str) {
    job_notice(out, "already_subscribed", job_id);
}

/// Multi-job endpoint: the job is no longer watched.
pub fn unsubscribed(out: &mut Vec<u8>, job_id: &str) {
    job_notice(out, "unsubscribed", job_id);
}

/// Multi-job endpoint: the job was not watched.
pub fn not_subscribed(out: &mut Vec<u8>, job_id: &str) {
    job_notice(out, "not_subscribed", job_id);
}

fn job_notice(out: &mut Vec<u8>, kind: &str, job_id: &str) {
    text_frame(out, |out| {
        raw(out, r#"{"type":"#);
        json(out, kind);
        job_id_and_end(out, Some(job_id));
    });
}

/// A `connection:status` without its closing brace; `status` needs no escapes.
fn status(out: &mut Vec<u8>, status: &str, at: &Stamp, stream_seq: u64) {
    raw(out, r#"{"type":"connection:status","status":""#);
    raw(out, status);
    raw(out, r#"","timestamp":""#);
    out.extend_from_slice(at.as_bytes());
    raw(out, r#"","server_time":""#);
    out.extend_from_slice(at.as_bytes());
    raw(out, r#"","stream_seq":"#);
    json(out, &stream_seq);
}

fn job_id_and_end(out: &mut Vec<u8>, job_id: Option<&str>) {
    if let Some(job_id) = job_id {
        raw(out, r#","job_id":"#);
        json(out, job_id);
    }
    raw(out, "}");
}

fn time(out: &mut Vec<u8>, unix_micros: Option<i64>) {
    match unix_micros {
        // Rounded down, also before 1970: no time is reported before it has come.
        Some(micros) => stamp(out, &Stamp::from_unix_millis(micros.div_euclid(1000))),
        None => raw(out, "null"),
    }
}

/// Appends a time as JSON text.
fn stamp(out: &mut Vec<u8>, at: &Stamp) {
    out.push(b'"');
    out.extend_from_slice(at.as_bytes());
    out.push(b'"');
}

/// Appends what is JSON already.
fn raw(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

/// Appends a value as JSON, text with its quotes and escapes; numbers that JSON cannot write become
/// null.
fn json<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    serde_json::to_writer(out, value).expect("strings and numbers are JSON, and a Vec takes every byte");
}

/// Appends one text frame around what `write` appends. The header's length is known only afterwards: room is left for
/// the longest one, and the surplus is closed up. For a few hundred bytes that costs next to nothing.
fn text_frame(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER_BYTES_MAX]);
    write(out);
    let end = out.len();
    let length = end - start - HEADER_BYTES_MAX;
    // The header is written behind the body and copied to the front: no allocation beyond `out` itself.
    write_header(out, TEXT, length);
    out.copy_within(end.., start);
    out.copy_within(start + HEADER_BYTES_MAX..end, start + header_length(length));
    out.truncate(start + header_length(length) + length);
}

#[cfg(test)]
mod tests {
    use super::{Gap, GapReason, Metrics};
    use crate::wire::stamp::Stamp;
    use serde_json::{Value, json};

    const AT: &str = "2026-11-23T07:35:32.390Z";
    const AT_MICROS: i64 = 1_795_419_332_390_000;

    fn at() -> Stamp {
        Stamp::from_unix_millis(AT_MICROS / 1000)
    }

    /// The JSON text of the one frame that `write` appends after other bytes.
    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = b"before".to_vec();
        write(&mut out);
        let frame = out.strip_prefix(b"before").unwrap();
        assert_eq!(frame[0], 0x81);
        let (length, body) = match frame[1] {
            126 => (usize::from(u16::from_be_bytes([frame[2], frame[3]])), &frame[4..]),
            127 => (u64::from_be_bytes(frame[2..10].try_into().unwrap()) as usize, &frame[10..]),
            length => (usize::from(length), &frame[2..]),
        };
        assert_eq!(body.len(), length);
        String::from_utf8(body.to_vec()).unwrap()
    }

    fn assert_reads(text: &str, expected: Value) {
        assert_eq!(serde_json::from_str::<Value>(text).unwrap(), expected, "{text}");
    }

    #[test]
    fn a_frame_is_literal_bytes() {
        let mut out = Vec::new();
        super::pong(&mut out);
        assert_eq!(out, b"\x81\x0F{\"type\":\"pong\"}");
        out.clear();
        super::ping(&mut out, &at(), 1_795_419_332_390_001);
        let expected = b"\x81\x54{\"type\":\"ping\",\"timestamp\":\"2026-11-23T07:35:32.390Z\",\"stream_seq\":1795419332390001}";
        assert_eq!(out, expected);
    }

    #[test]
    fn connection_status_has_its_exact_shape() {
        let text = written(|out| super::connected(out, &at(), 7));
        let expected = format!(
            r#"{{"type":"connection:status","status":"connected","timestamp":"{AT}","server_time":"{AT}","stream_seq":7}}"#
        );
        assert_eq!(text, expected);
        let text = written(|out| super::disconnected(out, &at(), 7, "drain", 512));
        let expected = format!(
            r#"{{"type":"connection:status","status":"disconnected","timestamp":"{AT}","server_time":"{AT}","stream_seq":7,"reason":"drain","retry_after_ms":512}}"#
        );
        assert_eq!(text, expected);
    }

    #[test]
    fn confirmation_repeats_the_list() {
        let text = written(|out| super::confirmed(out, "subscribe", r#"["a","\"b"]"#));
        assert_eq!(text, r#"{"type":"subscription:confirmed","action":"subscribe","events":["a","\"b"]}"#);
        for length in [10, 125, 126, 200, 65_535, 65_536, 70_000] {
            let echo = format!("[\"{}\"]", "x".repeat(length));
            let text = written(|out| super::confirmed(out, "unsubscribe", &echo));
            assert_reads(
                &text,
                json!({"type": "subscription:confirmed", "action": "unsubscribe", "events": ["x".repeat(length)]}),
            );
        }
    }

    #[test]
    fn frames_are_whole_at_each_boundary_of_the_length() {
        for length in (0..300).chain(65_400..65_600) {
            let text = written(|out| super::error(out, "c", &"m".repeat(length), None));
            assert_eq!(text.len(), 40 + length);
            assert!(text.ends_with("\"}"));
        }
    }

    #[test]
    fn errors_escape_what_came_from_a_client() {
        let message = "bad \"x\\\"\r\n\u{1}\u{7F}\u{2028}é";
        let text = written(|out| super::error(out, "bad_job_id", message, Some("a\"b")));
        assert_reads(
            &text,
            json!({"type": "error", "code": "bad_job_id", "message": message, "job_id": "a\"b"}),
        );
        let text = written(|out| super::error(out, "binary", "no", None));
        assert_eq!(text, r#"{"type":"error","code":"binary","message":"no"}"#);
    }

    #[test]
    fn gaps_have_their_exact_shape() {
        let gap = Gap { from: 1, to: 9, missed: None, reason: GapReason::Expired };
        let text = written(|out| super::gap(out, &at(), &gap, None));
        let expected = format!(
            r#"{{"type":"stream:gap","from":1,"to":9,"missed":null,"reason":"expired","timestamp":"{AT}"}}"#
        );
        assert_eq!(text, expected);
        for (reason, word) in [(GapReason::Overrun, "overrun"), (GapReason::Restart, "restart")] {
            let gap = Gap { from: 5, to: 5, missed: Some(0), reason };
            let text = written(|out| super::gap(out, &at(), &gap, Some("j")));
            let expected = json!({"type": "stream:gap", "from": 5, "to": 5, "missed": 0, "reason": word, "timestamp": AT, "job_id": "j"});
            assert_reads(&text, expected);
        }
    }

    #[test]
    fn metrics_have_their_exact_shape() {
        let metrics = Metrics {
            start_unix_micros: Some(AT_MICROS + 999),
            end_unix_micros: None,
            duration_seconds: Some(60.0),
            total_events: 150,
            total_slot_calls: 75,
            total_event_emits: 74,
            is_lost: false,
        };
        let expected = format!(
            r#"{{"type":"metrics","job_id":"j","timestamp":"{AT}","metrics":{{"start_time":"{AT}","end_time":null,"duration":60.0,"total_events":150,"total_slot_calls":75,"total_event_emits":74}}}}"#
        );
        assert_eq!(written(|out| super::metrics(out, &at(), "j", &metrics)), expected);
        let mut line = Vec::new();
        super::metrics_line(&mut line, &at(), "j", &metrics);
        assert_eq!(String::from_utf8(line).unwrap(), expected);
        let lost = written(|out| super::metrics(out, &at(), "j", &Metrics { is_lost: true, ..metrics }));
        assert_eq!(lost, expected.replace(":74}}", r#":74,"status":"lost"}}"#));
    }

    #[test]
    fn unknown_values_are_null() {
        let metrics =
            Metrics { end_unix_micros: Some(-1), duration_seconds: Some(f64::NAN), ..Metrics::default() };
        let text = written(|out| super::metrics(out, &at(), "j", &metrics));
        let read: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(read["metrics"]["start_time"], Value::Null);
        assert_eq!(read["metrics"]["end_time"], json!("1969-12-31T23:59:59.999Z"));
        assert_eq!(read["metrics"]["duration"], Value::Null);
    }

    #[test]
    fn the_multi_job_notices_have_their_exact_shape() {
        let text = written(|out| super::multi_connected(out, 3));
        assert_eq!(text, r#"{"type":"connected","message":"connected to luxcast","stream_seq":3}"#);
        let text = written(|out| super::subscribed(out, "j", "s-1", 3));
        assert_eq!(text, r#"{"type":"subscribed","job_id":"j","subscriber_id":"s-1","stream_seq":3}"#);
        let text = written(|out| super::already_subscribed(out, "j"));
        assert_eq!(text, r#"{"type":"already_subscribed","job_id":"j"}"#);
        let text = written(|out| super::unsubscribed(out, "j"));
        assert_eq!(text, r#"{"type":"unsubscribed","job_id":"j"}"#);
        let text = written(|out| super::not_subscribed(out, "j"));
        assert_eq!(text, r#"{"type":"not_subscribed","job_id":"j"}"#);
    }
}
