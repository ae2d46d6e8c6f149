//! The lines that publishers send: each follows from its publisher and its number, so a reader can verify it.

use std::fmt::{self, Display, Write};

use fastrand::Rng;

/// Flows that all jobs share.
pub const FLOWS: u64 = 10;
/// Publishers from here on are unknown to the daemon by name: they live once.
pub const NAMELESS: u32 = 1 << 20;
/// Events of one job, including its bad lines.
const LINES_OF_JOB: u64 = 120;
/// Running jobs of a publisher: its lines go to them in turn.
const JOBS_AT_ONCE: u64 = 3;

/// A set of kinds, by their place in [`KINDS`].
pub type Mask = u16;

/// Every `type`, and the inner type of an `execution_event`.
pub const KINDS: [(&str, Option<&str>); 10] = [
    ("job_started", None),
    ("job_completed", None),
    ("job_failed", None),
    ("routine_started", None),
    ("routine_completed", None),
    ("execution_event", Some("slot_call")),
    ("execution_event", Some("event_emit")),
    ("breakpoint_hit", None),
    ("log_line", None),
    ("metrics", None),
];

pub const STARTED: usize = 0;
const COMPLETED: usize = 1;
const FAILED: usize = 2;
/// The daemon's own.
pub const METRICS: usize = 9;
/// What `/debug` delivers.
pub const DEBUG: Mask = 0b00_1111_1111;
pub const ALL: Mask = (1 << KINDS.len()) - 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct JobId {
    pub publisher: u32,
    pub number: u32,
}

impl JobId {
    pub fn parse(text: &str) -> Option<Self> {
        let (publisher, number) = text.strip_prefix('j')?.split_once('-')?;
        Some(Self { publisher: publisher.parse().ok()?, number: number.parse().ok()? })
    }

    pub fn flow(self) -> u64 {
        mix(self.publisher, u64::from(self.number)) % FLOWS
    }
}

impl Display for JobId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "j{}-{}", self.publisher, self.number)
    }
}

/// The same pseudo-random number for the same two.
fn mix(publisher: u32, number: u64) -> u64 {
    Rng::with_seed(u64::from(publisher) << 40 ^ number).u64(..)
}

/// The job of line `n`, counted from 1, and the line's place in that job.
fn place(publisher: u32, n: u64) -> (JobId, u64) {
    let round = (n - 1) / (JOBS_AT_ONCE * LINES_OF_JOB);
    let inside = (n - 1) % (JOBS_AT_ONCE * LINES_OF_JOB);
    let number = (round * JOBS_AT_ONCE + inside % JOBS_AT_ONCE) as u32;
    (JobId { publisher, number }, inside / JOBS_AT_ONCE)
}

/// Whether line `n` is an event; others are bad on purpose.
pub fn is_good(publisher: u32, n: u64) -> bool {
    let (_, index) = place(publisher, n);
    index == 0 || index == LINES_OF_JOB - 1 || !mix(publisher, n).is_multiple_of(53)
}

/// The last good line up to `n`; 0 if there is none.
pub fn last_good(publisher: u32, n: u64) -> u64 {
    (1..=n).rev().find(|&n| is_good(publisher, n)).unwrap_or(0)
}

/// The first good line after `n`.
pub fn next_good(publisher: u32, n: u64) -> u64 {
    (n + 1..).find(|&n| is_good(publisher, n)).expect("lines do not end")
}

/// Appends line `n`, with its newline.
pub fn write_line(publisher: u32, n: u64, out: &mut String) {
    let (job, index) = place(publisher, n);
    let mixed = mix(publisher, n);
    if !is_good(publisher, n) {
        writeln!(out, r#"{{"type":"log_line","job_id":"{job}","n":{n},"bad"}}"#)
            .expect("a string takes everything");
        return;
    }
    let kind = match index {
        0 => STARTED,
        index if index == LINES_OF_JOB - 1 => [COMPLETED, FAILED][(mixed >> 8) as usize % 2],
        _ => 3 + (mixed >> 8) as usize % 6,
    };
    let (name, inner) = KINDS[kind];
    let mut add = |text: fmt::Arguments<'_>| out.write_fmt(text).expect("a string takes everything");
    add(format_args!(r#"{{"type":"{name}","job_id":"{job}","n":{n}"#));
    if kind == STARTED {
        add(format_args!(r#","flow_id":"f{}""#, job.flow()));
    }
    if let Some(inner) = inner {
        add(format_args!(r#","event":{{"event_type":"{inner}","data":{{"slot_name":"in"}}}}"#));
    }
    // Most lines are short; a few fill many reads.
    let filler = if (mixed >> 32).is_multiple_of(500) { 20_000 } else { (mixed >> 20) as usize % 300 };
    add(format_args!(",\"data\":{{\"text\":\"{:x<filler$}\"}}}}\n", ""));
}

#[cfg(test)]
mod tests {
    use super::{JobId, KINDS, is_good, last_good, next_good, place, write_line};

    #[test]
    fn good_lines_are_events_and_bad_ones_are_not() {
        let mut bad = 0;
        let mut seen = [false; KINDS.len()];
        for n in 1..2_000 {
            let mut text = String::new();
            write_line(7, n, &mut text);
            match serde_json::from_str::<serde_json::Value>(&text) {
                Ok(event) => {
                    assert!(is_good(7, n), "{text}");
                    assert_eq!(event["n"], n);
                    assert_eq!(event["job_id"], place(7, n).0.to_string());
                    let inner = event["event"]["event_type"].as_str();
                    let kind = (event["type"].as_str().unwrap_or_default(), inner);
                    seen[KINDS.iter().position(|known| *known == kind).expect("a known kind")] = true;
                }
                Err(_) => {
                    assert!(!is_good(7, n), "{text}");
                    assert!(last_good(7, n) < n && next_good(7, last_good(7, n)) > n);
                    bad += 1;
                }
            }
        }
        assert!((10..200).contains(&bad), "{bad}");
        assert_eq!(seen.iter().filter(|seen| **seen).count(), 9);
        let job = JobId { publisher: 12, number: 34 };
        assert_eq!(JobId::parse(&job.to_string()), Some(job));
    }
}
