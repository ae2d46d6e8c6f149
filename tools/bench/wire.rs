//! The bytes of the load: an event as a publisher writes it, and as every server delivers it.
//!
//! Each delivered frame has the event's number within its topic at a fixed place, so that a watcher's stream can be
//! checked number by number without parsing JSON. luxcast puts `stream_seq` first; for the others the publisher
//! writes one, so that all deliver the same bytes. What else an event says is filler, or the text of real events.

use crate::text::{NAME_BYTES, Text};

/// Header of a frame of 126 to 65,535 bytes, unmasked.
pub const HEADER_BYTES: usize = 4;
/// `{"stream_seq":`, sixteen digits, a comma; it replaces the opening brace of the publisher's object.
pub const MEMBER_BYTES: usize = 31;
pub const DIGITS: usize = 16;
/// The `stream_seq` of messages that are no luxcast's.
const SEQ: u64 = 1_000_000_000_000_000;
/// A frame with the text of a real event, unless `--bytes` says otherwise: most are nearly that long.
pub const TEXT_FRAME_BYTES: u64 = 347;

/// The type of the events, and one that is never published: both are documented, so both have a bit from the start.
pub const TYPE: &str = "routine_completed";
pub const OTHER_TYPE: &str = "breakpoint_resumed";

/// The form of all events of a run.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// The whole frame, header included.
    pub frame_bytes: usize,
    /// Where the number is in the payload.
    number_at: usize,
    /// What the payload has behind `type`, and where: by that an event of the load is known.
    mark: ([u8; 8], usize),
    text: Option<&'static Text>,
}

/// An event of one topic with room for its number.
pub struct Template {
    line: Vec<u8>,
    number_at: usize,
    /// The `stream_seq` for those that are no luxcast.
    seq: u64,
    text: Option<(&'static Text, String)>,
}

/// The name of topic `index`; all have the same length.
pub fn topic_name(index: usize) -> String {
    format!("job-{index:06}")
}

impl Shape {
    pub fn new(frame_bytes: usize) -> Result<Self, String> {
        let (_, number_at, least) = object(0, 0);
        let least = HEADER_BYTES + MEMBER_BYTES - 1 + least;
        if !(least..=65_000).contains(&frame_bytes) {
            return Err(format!("a frame has {least} to 65000 bytes here, not {frame_bytes}"));
        }
        let mark = (*b"routine_", MEMBER_BYTES + br#""type":""#.len());
        Ok(Self { frame_bytes, number_at: MEMBER_BYTES - 1 + number_at, mark, text: None })
    }

    /// The same with the text of real events, which stays in memory for good.
    pub fn of_text(frame_bytes: usize) -> Result<Self, String> {
        let least = HEADER_BYTES + MEMBER_BYTES;
        let text = Text::new(frame_bytes.saturating_sub(least - 1));
        let text = Box::leak(Box::new(text.map_err(|error| format!("--bytes {frame_bytes}: {error}"))?));
        let mark = (*b"executio", MEMBER_BYTES + br#""type": ""#.len());
        Ok(Self { frame_bytes, number_at: MEMBER_BYTES - 1 + text.number_at, mark, text: Some(text) })
    }

    /// Events have the text of real ones.
    pub fn has_text(&self) -> bool {
        self.text.is_some()
    }

    pub fn payload_bytes(&self) -> usize {
        self.frame_bytes - HEADER_BYTES
    }

    /// The event as a publisher of luxcast writes it, without a newline.
    pub fn template(&self, topic: usize) -> Template {
        if let Some(text) = self.text {
            let text_of_topic = Some((text, topic_name(topic)));
            let mut template =
                Template { line: Vec::new(), number_at: text.number_at, seq: SEQ, text: text_of_topic };
            template.set(0);
            return template;
        }
        let (_, _, least) = object(topic, 0);
        let (line, number_at, _) = object(topic, self.payload_bytes() - (MEMBER_BYTES - 1) - least);
        Template { line, number_at, seq: SEQ, text: None }
    }

    /// The frame's header.
    pub fn header(&self) -> [u8; HEADER_BYTES] {
        let [high, low] = (self.payload_bytes() as u16).to_be_bytes();
        [0x81, 126, high, low]
    }

    /// Whether a payload of this length is an event of the load, and not one of the server's own.
    pub fn is_event(&self, payload: &[u8]) -> bool {
        let (mark, at) = self.mark;
        payload[at..at + mark.len()] == mark
    }

    /// The number in a payload of this shape.
    pub fn number(&self, payload: &[u8]) -> u64 {
        sixteen(&payload[self.number_at..self.number_at + DIGITS])
    }
}

/// The number that luxcast gave to the event with this payload.
pub fn stream_seq(payload: &[u8]) -> u64 {
    sixteen(seq_digits(payload))
}

/// Its digits.
pub fn seq_digits(payload: &[u8]) -> &[u8] {
    let start = br#"{"stream_seq":"#.len();
    &payload[start..start + DIGITS]
}

fn sixteen(digits: &[u8]) -> u64 {
    eight(&digits[..8]) * 100_000_000 + eight(&digits[8..])
}

/// Parses eight decimal digits at once.
fn eight(digits: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(digits);
    let pairs = (u64::from_le_bytes(bytes) & 0x0f0f_0f0f_0f0f_0f0f).wrapping_mul(10 << 8 | 1) >> 8;
    let fours = (pairs & 0x00ff_00ff_00ff_00ff).wrapping_mul(100 << 16 | 1) >> 16;
    (fours & 0x0000_ffff_0000_ffff).wrapping_mul(10_000 << 32 | 1) >> 32
}

/// An object with `filler` bytes of text, the place of its number, and its length.
fn object(topic: usize, filler: usize) -> (Vec<u8>, usize, usize) {
    let name = topic_name(topic);
    let mut line = format!(r#"{{"type":"{TYPE}","job_id":"{name}","number":""#).into_bytes();
    let number_at = line.len();
    line.extend_from_slice(&[b'0'; DIGITS]);
    line.extend_from_slice(
        br#"","timestamp":"2026-11-25T10:00:00.000Z","routine_id":"load","data":{"text":""#,
    );
    line.extend(std::iter::repeat_n(b'x', filler));
    line.extend_from_slice(br#""}}"#);
    let length = line.len();
    (line, number_at, length)
}

impl Template {
    /// Writes the number into it.
    pub fn set(&mut self, number: u64) {
        if let Some((text, name)) = &self.text {
            self.line.clear();
            self.line.extend_from_slice(text.line(number));
            self.line[text.name_at..text.name_at + NAME_BYTES].copy_from_slice(name.as_bytes());
            // It counts as that of luxcast does, since digits that change cost a compressor something.
            self.seq = SEQ + number;
        }
        write_number(&mut self.line[self.number_at..], number);
    }

    /// Where its number is in its line.
    pub fn number_at(&self) -> usize {
        self.number_at
    }

    pub fn line(&self) -> &[u8] {
        &self.line
    }

    /// Appends the payload as luxcast would deliver it.
    pub fn write_payload(&self, out: &mut Vec<u8>) {
        let start = out.len() + br#"{"stream_seq":"#.len();
        out.extend_from_slice(b"{\"stream_seq\":0000000000000000,");
        write_number(&mut out[start..], self.seq);
        out.extend_from_slice(&self.line[1..]);
    }

    /// Appends the frame as luxcast would deliver it.
    pub fn write_frame(&self, shape: &Shape, out: &mut Vec<u8>) {
        out.extend_from_slice(&shape.header());
        self.write_payload(out);
    }

    /// Appends the payload as a client's frame, masked with zeros, which are a valid mask.
    pub fn write_masked(&self, shape: &Shape, out: &mut Vec<u8>) {
        let mut header = shape.header();
        header[1] |= 0x80;
        out.extend_from_slice(&header);
        out.extend_from_slice(&[0; 4]);
        self.write_payload(out);
    }
}

/// Writes the digits of a number at the start of `bytes`.
pub fn write_number(bytes: &mut [u8], mut number: u64) {
    for digit in bytes[..DIGITS].iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

/// Parses any frame from a server: its length, and where its payload begins. None: the header is incomplete.
pub fn frame_of(bytes: &[u8]) -> Option<(usize, usize)> {
    let (start, length) = match bytes.get(1)? & 0x7f {
        126 => (4, usize::from(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?]))),
        127 => {
            let length: [u8; 8] = bytes.get(2..10)?.try_into().ok()?;
            (10, u64::from_be_bytes(length) as usize)
        }
        length => (2, usize::from(length)),
    };
    Some((start + length, start))
}

#[cfg(test)]
mod tests {
    use super::{HEADER_BYTES, Shape, TEXT_FRAME_BYTES, frame_of, stream_seq};

    #[test]
    fn a_frame_has_the_length_asked_for_and_its_number() {
        let shape = Shape::new(260).expect("260 bytes hold an event");
        let mut template = shape.template(17);
        template.set(1_234_567_890_123_456);
        let mut frame = Vec::new();
        template.write_frame(&shape, &mut frame);
        assert_eq!(frame.len(), 260);
        assert!(shape.is_event(&frame[HEADER_BYTES..]));
        assert_eq!(shape.number(&frame[HEADER_BYTES..]), 1_234_567_890_123_456);
        assert_eq!(stream_seq(&frame[HEADER_BYTES..]), 1_000_000_000_000_000);
        assert_eq!(frame_of(&frame), Some((260, HEADER_BYTES)));
        let payload: serde_json::Value = serde_json::from_slice(&frame[HEADER_BYTES..]).expect("it is JSON");
        assert_eq!(payload["job_id"], "job-000017");
        assert!(Shape::new(100).is_err());
    }

    #[test]
    fn the_text_of_real_events_keeps_length_name_and_number_at_their_places() {
        let shape = Shape::of_text(TEXT_FRAME_BYTES as usize).expect("most events are that long");
        let mut template = shape.template(17);
        for number in [0, 5, 1_234_567] {
            template.set(number);
            let mut frame = Vec::new();
            template.write_frame(&shape, &mut frame);
            assert_eq!(frame_of(&frame), Some((shape.frame_bytes, HEADER_BYTES)));
            let payload = &frame[HEADER_BYTES..];
            assert!(shape.is_event(payload));
            assert_eq!(shape.number(payload), number);
            assert_eq!(stream_seq(payload), 1_000_000_000_000_000 + number);
            let payload: serde_json::Value = serde_json::from_slice(payload).expect("it is JSON");
            assert_eq!(payload["job_id"], "job-000017");
        }
        assert!(Shape::of_text(260).is_err_and(|error| error.contains("--bytes 260")));
        assert!(Shape::of_text(1).is_err());
    }
}
