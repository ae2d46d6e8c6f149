//! The text of real events, for loads that are compressed: what is made up (`xxxx`) would flatter every compressor.
//!
//! The lines are those that a workflow engine wrote (`tests/fixtures/events.ndjson`), of one type and of nearly one
//! length, in their order. Its jobs' names give way to the load's, and the events' ids to the load's numbers.

use crate::wire::{DIGITS, topic_name};

const EVENTS: &str = include_str!("../../tests/fixtures/events.ndjson");
const BEFORE_NAME: &str = r#"{"type": "execution_event", "job_id": ""#;
const BEFORE_NUMBER: &str = r#""event_id": ""#;
pub const NAME_BYTES: usize = "job-000000".len();

/// Most blanks before a line's last brace, which make all lines equally long.
const PADDING_MAX: usize = 7;
/// Different lines, after which the first comes again. They are more than any window of deflate holds (32 KiB).
const LINES: usize = 384;

/// Lines of one length, with a job's name and a number at fixed places.
#[derive(Debug)]
pub struct Text {
    lines: Vec<u8>,
    pub line_bytes: usize,
    pub name_at: usize,
    pub number_at: usize,
}

impl Text {
    /// # Errors
    /// There are too few real events of about this length.
    pub fn new(line_bytes: usize) -> Result<Self, String> {
        let name_at = BEFORE_NAME.len();
        let mut found = EVENTS.lines().filter_map(|event| line_of(event, line_bytes)).peekable();
        let number_at = found.peek().map_or(0, |(_, number_at)| *number_at);
        let alike = found.filter(|(_, place)| *place == number_at).take(LINES);
        let lines: Vec<u8> = alike.flat_map(|(line, _)| line).collect();
        match lines.len().checked_div(line_bytes).unwrap_or(0) {
            LINES => Ok(Self { lines, line_bytes, name_at, number_at }),
            count => Err(format!(
                "{count} real events have {line_bytes} bytes or up to {PADDING_MAX} less: {LINES} are needed"
            )),
        }
    }

    /// The line of an event with this number, without its name and number.
    pub fn line(&self, number: u64) -> &[u8] {
        let start = number as usize % LINES * self.line_bytes;
        &self.lines[start..start + self.line_bytes]
    }
}

/// A line made of this event, and where its number is.
fn line_of(event: &str, line_bytes: usize) -> Option<(Vec<u8>, usize)> {
    let (_, rest) = event.strip_prefix(BEFORE_NAME)?.split_once('"')?;
    let (between, rest) = rest.split_once(BEFORE_NUMBER)?;
    let (_, rest) = rest.split_once('"')?;
    let before = format!("{BEFORE_NAME}{}\"{between}{BEFORE_NUMBER}", topic_name(0));
    let body = rest.strip_suffix('}')?;
    let length = before.len() + DIGITS + "\"".len() + rest.len();
    let padding = line_bytes.checked_sub(length).filter(|blanks| *blanks <= PADDING_MAX)?;
    let line = format!("{before}{:0DIGITS$}\"{body}{:padding$}}}", 0, "");
    Some((line.into_bytes(), before.len()))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::{LINES, NAME_BYTES, Text};
    use crate::wire::topic_name;

    #[test]
    fn lines_are_real_and_differ_and_have_one_length() {
        let text = Text::new(313).expect("there are enough");
        let lines: HashSet<&[u8]> = (0..LINES as u64).map(|number| text.line(number)).collect();
        assert!(lines.len() > LINES * 9 / 10, "{} of {LINES} differ", lines.len());
        for line in lines {
            assert_eq!(line.len(), 313);
            assert_eq!(&line[text.name_at..text.name_at + NAME_BYTES], topic_name(0).as_bytes());
            assert_eq!(line[text.number_at..text.number_at + 17], *b"0000000000000000\"");
            let event: serde_json::Value = serde_json::from_slice(line).expect("it is JSON");
            assert_eq!(event["type"], "execution_event");
            assert!(event["event"]["data"].is_object(), "the rest is what the engine wrote: {event}");
        }
        assert_eq!(text.line(3), text.line(3 + LINES as u64));
        assert!(LINES * text.line_bytes > 3 << 15, "no window reaches back to the same line");
    }

    #[test]
    fn a_length_that_few_real_events_have_is_refused() {
        assert!(Text::new(260).is_err() && Text::new(5_000).is_err());
    }
}
