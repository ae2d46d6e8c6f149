//! Whether watchers were told everything once and in order, or that something is missing.

use serde_json::Value;

use crate::desk::Truth;
use crate::harness::seq_of;
use crate::watchers::position_of;

/// What one connection was told.
#[derive(Clone, Debug)]
pub struct Visit {
    /// Where it asked to begin, if that was a number.
    pub since: Option<u64>,
    pub texts: Vec<String>,
}

impl Visit {
    /// Where a client that has handled all of it stands; None: it knows no number yet.
    pub fn position(&self) -> Option<u64> {
        self.texts.iter().rev().find_map(|text| position_of(text)).or(self.since)
    }
}

/// A `stream:gap`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    pub from: u64,
    pub to: u64,
    pub reason: String,
}

/// Compares the visits of one watcher with all that was in the stream. It began with `start`, or with a number. Returns
/// the gaps that it was told of.
///
/// # Errors
/// What it was told, or not told.
pub fn judge(visits: &[Visit], truth: &Truth) -> Result<Vec<Gap>, String> {
    let mut gaps = Vec::new();
    for (place, visit) in visits.iter().enumerate() {
        let of = |error| format!("visit {place} of {}, since {:?}: {error}", visits.len(), visit.since);
        check_visit(visit, truth, &mut gaps).map_err(of)?;
    }
    Ok(gaps)
}

/// The same where nothing may be wrong.
pub fn check(visits: &[Visit], truth: &Truth) -> Vec<Gap> {
    judge(visits, truth).unwrap_or_else(|error| panic!("{error}"))
}

fn check_visit(visit: &Visit, truth: &Truth, gaps: &mut Vec<Gap>) -> Result<(), String> {
    let mut position = visit.since.unwrap_or(0);
    // The end of the newest gap.
    let mut told = 0;
    for (place, text) in visit.texts.iter().enumerate() {
        let seq = seq_of(text);
        if let Some(seq) = seq
            && truth.get(&seq) != Some(text)
        {
            let body = &text[text.find(',').expect("a number is followed by more")..];
            let there = truth.iter().find(|(_, other)| other.ends_with(body)).map(|(number, _)| number);
            return Err(format!("{text} is not in the stream: it has that at {there:?}"));
        }
        match position_of(text) {
            Some(next) if next < position || (seq.is_some() && next == position) => {
                return Err(format!("{text} comes behind {position}"));
            }
            Some(next) => {
                let until = next + u64::from(seq.is_none());
                let missed = truth.range(position + 1..until).find(|(number, _)| **number > told);
                if let Some((_, missed)) = missed {
                    return Err(format!("{text} comes without {missed}"));
                }
                position = next;
            }
            None => {
                let message: Value = serde_json::from_str(text).expect("JSON");
                match message["type"].as_str() {
                    Some("stream:gap") => {
                        let gap = gap_of(&message);
                        if gap.from > gap.to || gap.to < position {
                            return Err(format!("{text} comes behind {position}"));
                        }
                        told = told.max(gap.to);
                        gaps.push(gap);
                    }
                    Some("connection:status") => {
                        let number = message["stream_seq"].as_u64();
                        let is_greeting = place == 0;
                        if number < Some(position) || (is_greeting && message["status"] == "disconnected") {
                            return Err(format!("{text} comes behind {position}"));
                        }
                    }
                    // How the job is; it has no number.
                    Some("metrics") if place == 1 => {}
                    _ => return Err(format!("unexpected {text}")),
                }
            }
        }
    }
    Ok(())
}

fn gap_of(message: &Value) -> Gap {
    let number = |name: &str| message[name].as_u64().expect("a number");
    let reason = message["reason"].as_str().expect("a word").to_owned();
    Gap { from: number("from"), to: number("to"), reason }
}

/// Whether the lines of each publisher came once and in order: 1, 2, 3. `last` has how many each wrote.
pub fn check_publishers<'a>(truth: &Truth, last: impl IntoIterator<Item = (&'a str, u64)>) {
    for (name, last) in last {
        let mark = format!("\"by\":\"{name}\",\"n\":");
        let numbers: Vec<u64> = truth.values().filter_map(|text| number_behind(text, &mark)).collect();
        let wanted: Vec<u64> = (1..=last).collect();
        assert!(
            numbers == wanted,
            "{name}: {} lines instead of {last}; first difference at {:?}",
            numbers.len(),
            numbers.iter().zip(&wanted).find(|(found, wanted)| found != wanted)
        );
    }
}

pub fn number_behind(text: &str, mark: &str) -> Option<u64> {
    let rest = &text[text.find(mark)? + mark.len()..];
    rest[..rest.find(|letter: char| !letter.is_ascii_digit())?].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{Visit, judge};
    use crate::desk::Truth;

    fn text(number: u64) -> String {
        format!("{{\"stream_seq\":{number},\"type\":\"x\"}}")
    }

    fn is_good(since: Option<u64>, texts: &[String]) -> bool {
        let truth: Truth = [10, 11, 20, 30].map(|number| (number, text(number))).into();
        let visit = Visit { since, texts: texts.to_vec() };
        judge(&[visit], &truth).is_ok()
    }

    #[test]
    fn the_judge_finds_losses_and_doubles() {
        let ping = |number: u64| format!("{{\"type\":\"ping\",\"stream_seq\":{number}}}");
        let gap = |from: u64, to: u64| {
            format!(
                "{{\"type\":\"stream:gap\",\"from\":{from},\"to\":{to},\"missed\":null,\"reason\":\"expired\"}}"
            )
        };
        assert!(is_good(None, &[10, 11, 20, 30].map(text)));
        assert!(is_good(Some(11), &[text(20), ping(25), text(30)]));
        assert!(is_good(Some(10), &[gap(11, 25), text(30)]) && is_good(Some(10), &[gap(11, 25), text(20)]));
        assert!(!is_good(None, &[10, 20].map(text)), "one is missing");
        assert!(!is_good(Some(10), &[gap(11, 15), text(30)]), "a gap does not cover all");
        assert!(!is_good(Some(11), &[20, 20].map(text)) && !is_good(Some(20), &[text(20)]), "twice");
        assert!(!is_good(Some(11), &[30, 20].map(text)), "another order");
        assert!(!is_good(Some(11), &[ping(20), text(30)]), "a position passes over an event");
        assert!(!is_good(Some(25), &[ping(24)]) && !is_good(None, &[text(12)]), "a position goes back");
    }
}
