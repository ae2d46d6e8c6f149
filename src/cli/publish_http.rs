//! `luxcast publish --url`: publishes over HTTP, and reports the lines that the daemon refuses.

use std::io::Read;
use std::path::Path;
use std::thread;

use indicatif::ProgressBar;

use crate::cli::connection::Way;
use crate::cli::earlier::Earlier;
use crate::cli::input_lines::{Block, InputLines, LINE_BYTES_MAX};
use crate::cli::posting::{Posting, Settled, Unsettled, events, name_of_run};
use crate::cli::summary::Summary;
use crate::cli::unjudged::place;
use crate::wire::line::LineError;
use crate::wire::members::is_control_line;

pub struct OverHttp<'a> {
    pub way: Way,
    /// Lines that were accepted under this name are not sent again.
    pub dedupe_as: Option<String>,
    pub retries: bool,
    /// Where the lines come from.
    pub file: &'a Path,
}

/// Sends all lines but the earlier ones and waits for their answers.
///
/// # Errors
/// Why not all lines are settled, and up to which they are.
pub fn publish(
    args: OverHttp<'_>,
    input: impl Read,
    say: &dyn Fn(&str),
    bar: &ProgressBar,
) -> Result<Summary, String> {
    let OverHttp { way, dedupe_as, retries, file } = args;
    let skips_earlier = dedupe_as.is_some();
    let name = dedupe_as.or_else(|| retries.then(|| name_of_run("publish")));
    let mut posting = Posting::new(way, name, retries, say, &thread::sleep);
    let accepted_before = posting.greet().map_err(|unsettled| unsettled.reason)?;
    let mut publishing = Publishing {
        posting,
        say,
        earlier: Earlier::new(if skips_earlier { accepted_before } else { 0 }),
        unanswered: Earlier::new(0),
        settled_to: 0,
        sent: 0,
        refused: 0,
        unnamed: 0,
    };
    let mut lines = InputLines::new(input);
    let mut bytes = 0;
    loop {
        match lines.next().map_err(|error| format!("{}: {error}", file.display()))? {
            None => return Ok(publishing.summary()),
            Some(block) => {
                bytes += block.lines.len() as u64;
                publishing.publish(&block).map_err(|unsettled| publishing.problem(&unsettled))?;
            }
        }
        bar.set_position(bytes);
        bar.set_message(format!("{} refused", publishing.refused));
    }
}

struct Publishing<'a> {
    posting: Posting<'a>,
    say: &'a dyn Fn(&str),
    earlier: Earlier,
    /// Judges lines that were taken without an answer.
    unanswered: Earlier,
    /// Lines up to this one have an answer, or need none.
    settled_to: u64,
    /// Lines that are not blank and were not accepted earlier.
    sent: u64,
    /// Of these; and of the refused ones those that were not named.
    refused: u64,
    unnamed: u64,
}

impl Publishing<'_> {
    fn publish(&mut self, block: &Block<'_>) -> Result<(), Unsettled> {
        let (first, lines) = self.prepare(block);
        let settled = self.posting.send(first, &lines)?;
        self.settled_to = block.first + block.lines.iter().filter(|byte| **byte == b'\n').count() as u64 - 1;
        self.note(settled, first, &lines);
        Ok(())
    }

    /// The lines to send, and the number of the first: without the earlier ones, and with an empty line for each that
    /// the daemon must not get, so that the numbers stay those of the input.
    fn prepare(&mut self, block: &Block<'_>) -> (u64, Vec<u8>) {
        let mut prepared = Vec::with_capacity(block.lines.len());
        let (mut first, mut number) = (block.first, block.first);
        for line in block.lines.split_inclusive(|byte| *byte == b'\n') {
            let text = &line[..line.len() - 1];
            let is_too_long = block.is_first_too_long && number == block.first;
            let is_event = is_too_long || events(line).next().is_some();
            if self.earlier.has(number) {
                first = number + 1;
                if is_event && let Some(news) = self.earlier.note(number, text, !is_too_long) {
                    (self.say)(&news);
                }
            } else {
                self.sent += u64::from(is_event);
                let is_withheld = if is_too_long {
                    self.withhold(number, &format!("too_long: longer than {} MiB", LINE_BYTES_MAX >> 20))
                } else {
                    // The daemon would take it for `hello` or `from`: a file made for `socat` may begin with one.
                    is_control_line(line) && self.withhold(number, "bad_op: a control line, not an event")
                };
                prepared.extend_from_slice(if is_withheld { b"\n" } else { line });
            }
            number += 1;
        }
        (first, prepared)
    }

    fn withhold(&mut self, number: u64, why: &str) -> bool {
        let (code, message) = why.split_once(": ").unwrap_or((why, ""));
        (self.say)(&format!("line {number}: {code}: not sent: {message}"));
        self.refused += 1;
        true
    }

    /// Reports what became of these lines.
    fn note(&mut self, settled: Settled, first: u64, lines: &[u8]) {
        let Settled { refused, refused_total, unanswered_to } = settled;
        let before = self.unanswered.never_accepted;
        let mut events = events(lines).map(|(place, line)| (first + place, line)).peekable();
        while let Some((number, line)) = events.next_if(|(number, _)| *number <= unanswered_to) {
            if let Some(news) = self.unanswered.note(number, line, true) {
                (self.say)(&news);
            }
        }
        self.refused += refused_total + self.unanswered.never_accepted - before;
        self.unnamed += refused_total - refused.len() as u64;
        for refused in refused {
            let mut found = events.by_ref().skip_while(|(number, _)| *number < refused.line);
            let line = found.next().filter(|(number, _)| *number == refused.line).map(|(_, line)| line);
            // The deepest nesting is a setting of the daemon.
            let known = LineError::ALL.into_iter().find(|error| error.code() == refused.code);
            let fault = line.zip(known.filter(|error| *error != LineError::TooDeep));
            let place = fault.map_or_else(String::new, |(line, error)| place(line, error, 0));
            (self.say)(&format!("line {}: {}: {}{place}", refused.line, refused.code, refused.message));
        }
    }

    fn summary(&self) -> Summary {
        let Self { earlier, say, .. } = self;
        if earlier.unnamed() > 0 {
            say(&format!("{} more lines never accepted, not named", earlier.unnamed()));
        }
        Summary {
            accepted: self.sent.saturating_sub(self.refused),
            refused: self.refused,
            unnamed: self.unnamed + self.unanswered.unnamed(),
            accepted_earlier: earlier.skipped - earlier.never_accepted,
            never_accepted: earlier.never_accepted,
        }
    }

    fn problem(&self, unsettled: &Unsettled) -> String {
        let Unsettled { reason, is_in_doubt } = unsettled;
        let sure = format!("lines up to {} are acknowledged, {} refused", self.settled_to, self.refused);
        let doubt = if *is_in_doubt { "; lines behind them may have been taken" } else { "" };
        format!("{reason}; {sure}{doubt}")
    }
}
