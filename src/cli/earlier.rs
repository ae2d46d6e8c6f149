//! Lines that `publish --dedupe` does not send again: the daemon has accepted lines up to there.

use crate::cli::unjudged::place;
use crate::wire::line::{Line, LineError, LineReader, PADDING, trim};

/// The greatest value of the setting `depth_max`: no daemon accepts deeper lines.
const DEPTH_MAX: usize = 100;

/// How many are named; the others are only counted.
const NAMED_MAX: u64 = 64;

/// What is known here of those lines. A line before an accepted one may itself have been refused.
pub struct Earlier {
    /// The last line accepted under this name.
    accepted_to: u64,
    /// Lines up to there that are not blank.
    pub skipped: u64,
    /// Skipped lines that no daemon accepts, so this one never did.
    pub never_accepted: u64,
    reader: LineReader,
    block: Vec<u8>,
}

impl Earlier {
    pub fn new(accepted_to: u64) -> Self {
        let reader = LineReader::new(DEPTH_MAX);
        Self { accepted_to, skipped: 0, never_accepted: 0, reader, block: Vec::new() }
    }

    /// Whether this line is skipped.
    pub fn has(&self, number: u64) -> bool {
        number <= self.accepted_to
    }

    /// Counts a line and returns what to say about it, if anything. A line that is not whole is left for the daemon
    /// to judge.
    pub fn note(&mut self, number: u64, line: &[u8], is_whole: bool) -> Option<String> {
        self.skipped += 1;
        let line = &line[trim(line)];
        let error = Some(line).filter(|_| is_whole).and_then(|line| self.error_of(line))?;
        self.never_accepted += 1;
        let (code, message, place) = (error.code(), error.message(), place(line, error, DEPTH_MAX));
        let text = format!("line {number}: {code}: {message}{place} (never accepted)");
        (self.never_accepted <= NAMED_MAX).then_some(text)
    }

    /// Why no daemon accepts this line, whatever its settings.
    fn error_of(&mut self, line: &[u8]) -> Option<LineError> {
        self.block.clear();
        self.block.extend_from_slice(line);
        self.block.resize(line.len() + PADDING, b' ');
        match self.reader.read(&mut self.block, line.len(), line.get(1..).unwrap_or_default()) {
            Ok(Line::Event(_)) => None,
            // A control line is never sent.
            Ok(Line::Control(_)) => Some(LineError::BadOp),
            Err(error) => Some(error),
        }
    }

    /// How many of the lines never accepted have not been named.
    pub fn unnamed(&self) -> u64 {
        self.never_accepted.saturating_sub(NAMED_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::Earlier;

    #[test]
    fn lines_that_no_daemon_takes_were_never_accepted() {
        let mut earlier = Earlier::new(9);
        assert!(earlier.has(9) && !earlier.has(10));
        for good in [r#"{"type":"x","job_id":"j","n":1e400}"#, " {\"type\":\"x\",\"flow_id\":\"f\"} \r\n"] {
            assert_eq!(earlier.note(1, good.as_bytes(), true), None, "{good}");
        }
        for (bad, code) in [
            (&br#"{"type":"x","job_id":"etl/7"}"#[..], "bad_id"),
            (b"nonsense\n", "bad_json"),
            (b"[]", "not_an_object"),
            (br#"{"op":"hello"}"#, "bad_op"),
            (b"{\"type\":\"\xff\"}", "bad_utf8"),
        ] {
            let said = earlier.note(7, bad, true).expect(code);
            assert!(
                said.starts_with(&format!("line 7: {code}: ")) && said.ends_with("(never accepted)"),
                "{said}"
            );
        }
        assert_eq!(earlier.note(8, b"{\"half", false), None);
        assert_eq!((earlier.skipped, earlier.never_accepted, earlier.unnamed()), (8, 5, 0));
        let said = (0..1_000).filter(|_| earlier.note(9, b"x", true).is_some()).count();
        assert_eq!((said, earlier.unnamed()), (59, 1_005 - 64));
    }
}
