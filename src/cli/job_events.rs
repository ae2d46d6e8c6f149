//! The events of a program that runs as a job.

use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};

use crate::wire::stamp::Stamp;

/// Of the command, as much is told.
const COMMAND_BYTES_MAX: usize = 4 << 10;

/// Whose events they are.
#[derive(Clone, Debug)]
pub struct JobEvents {
    pub job: String,
    pub flow: Option<String>,
    pub routine: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    Stdout,
    Stderr,
}

/// How the program ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    Exit(i32),
    /// The signal's number.
    Killed(i32),
    /// Why it could not be started.
    NotStarted(String),
}

#[derive(Serialize)]
struct Event<'a> {
    r#type: &'a str,
    job_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    flow_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    routine_id: Option<&'a str>,
    timestamp: &'a str,
    data: Value,
}

impl JobEvents {
    /// It begins to run this command.
    pub fn started(&self, command: &[String], unix_millis: i64) -> Vec<String> {
        let mut command = command.join(" ");
        command.truncate(command.floor_char_boundary(COMMAND_BYTES_MAX));
        let job = self.of_job("job_started", json!({"command": command}), unix_millis);
        let routine =
            self.routine.as_ref().map(|_| self.of_routine("routine_started", json!({}), unix_millis));
        [job].into_iter().chain(routine).collect()
    }

    /// A line of output, without its end.
    pub fn output(&self, stream: Stream, text: &str, unix_millis: i64) -> String {
        let stream = match stream {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        };
        self.of_routine("output", json!({"stream": stream, "text": text}), unix_millis)
    }

    /// So many lines of output were not told.
    pub fn dropped(&self, lines: u64, unix_millis: i64) -> String {
        self.of_routine("output", json!({"dropped_lines": lines}), unix_millis)
    }

    pub fn ended(&self, ending: &Ending, duration: Duration, unix_millis: i64) -> Vec<String> {
        let duration = duration.as_millis() as f64 / 1e3;
        let (is_good, data) = match ending {
            Ending::Exit(0) => (true, json!({"duration": duration, "exit_code": 0})),
            Ending::Exit(code) => (
                false,
                json!({"error": format!("exit code {code}"), "error_type": "ExitCode", "duration": duration,
                       "exit_code": code}),
            ),
            Ending::Killed(signal) => (
                false,
                json!({"error": format!("killed by {}", signal_name(*signal)), "error_type": "Signal",
                       "duration": duration}),
            ),
            Ending::NotStarted(why) => (false, json!({"error": why, "error_type": "NotStarted"})),
        };
        let kinds =
            if is_good { ["routine_completed", "job_completed"] } else { ["routine_failed", "job_failed"] };
        let routine = self.routine.as_ref().map(|_| self.of_routine(kinds[0], data.clone(), unix_millis));
        routine.into_iter().chain([self.of_job(kinds[1], data, unix_millis)]).collect()
    }

    fn of_job(&self, kind: &str, data: Value, unix_millis: i64) -> String {
        self.line(kind, None, data, unix_millis)
    }

    fn of_routine(&self, kind: &str, data: Value, unix_millis: i64) -> String {
        self.line(kind, self.routine.as_deref(), data, unix_millis)
    }

    fn line(&self, kind: &str, routine_id: Option<&str>, data: Value, unix_millis: i64) -> String {
        let timestamp = Stamp::from_unix_millis(unix_millis);
        let (job_id, flow_id) = (self.job.as_str(), self.flow.as_deref());
        let event = Event { r#type: kind, job_id, flow_id, routine_id, timestamp: timestamp.as_str(), data };
        serde_json::to_string(&event).expect("an event is plain data") + "\n"
    }
}

fn signal_name(signal: i32) -> String {
    let name = signal_hook::low_level::signal_name(signal);
    name.map_or_else(|| format!("signal {signal}"), str::to_owned)
}

/// Longer lines of output become several events.
const LINE_BYTES_MAX: usize = 16 << 10;

/// Cuts output into lines, however it comes. What a carriage return has overwritten on a terminal is left out.
#[derive(Debug, Default)]
pub struct LineCutter {
    held: Vec<u8>,
}

impl LineCutter {
    /// Takes more output, and tells of each line that is complete.
    pub fn take(&mut self, mut bytes: &[u8], mut tell: impl FnMut(&str)) {
        while let Some(end) = memchr::memchr(b'\n', bytes) {
            self.hold(&bytes[..end], &mut tell);
            self.cut(&mut tell);
            bytes = &bytes[end + 1..];
        }
        self.hold(bytes, &mut tell);
    }

    /// The output has ended: tells of a line without an end.
    pub fn finish(mut self, mut tell: impl FnMut(&str)) {
        if !self.held.is_empty() {
            self.cut(&mut tell);
        }
    }

    fn hold(&mut self, mut bytes: &[u8], tell: &mut impl FnMut(&str)) {
        while self.held.len() + bytes.len() > LINE_BYTES_MAX {
            let fits = bytes.len().min(LINE_BYTES_MAX - self.held.len());
            self.held.extend_from_slice(&bytes[..fits]);
            bytes = &bytes[fits..];
            self.cut_part(tell);
        }
        self.held.extend_from_slice(bytes);
    }

    /// Tells of what is held, but for a character at its end that is not whole.
    fn cut_part(&mut self, tell: &mut impl FnMut(&str)) {
        let rest = self.held.split_off(whole_to(&self.held));
        self.cut(tell);
        self.held = rest;
    }

    fn cut(&mut self, tell: &mut impl FnMut(&str)) {
        let line = self.held.strip_suffix(b"\r").unwrap_or(&self.held);
        let shown = memchr::memrchr(b'\r', line).map_or(line, |place| &line[place + 1..]);
        tell(&String::from_utf8_lossy(shown));
        self.held.clear();
    }
}

/// Where the last character begins, if it is not whole; else the end.
fn whole_to(bytes: &[u8]) -> usize {
    for back in 1..=bytes.len().min(3) {
        let place = bytes.len() - back;
        let length = match bytes[place] {
            0x80..0xc0 => continue,
            0xc0..0xe0 => 2,
            0xe0..0xf0 => 3,
            0xf0.. => 4,
            _ => 1,
        };
        return if length > back { place } else { bytes.len() };
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};

    use super::{Ending, JobEvents, LINE_BYTES_MAX, LineCutter, Stream};

    fn events(routine: Option<&str>) -> JobEvents {
        JobEvents { job: "j".to_owned(), flow: None, routine: routine.map(str::to_owned) }
    }

    fn parsed(lines: &[String]) -> Vec<Value> {
        lines.iter().map(|line| serde_json::from_str(line.strip_suffix('\n').unwrap()).unwrap()).collect()
    }

    #[test]
    fn a_program_is_a_job_from_its_start_to_its_end() {
        let events = events(None);
        assert_eq!(
            events.output(Stream::Stderr, "a \"b\"", 1_000),
            "{\"type\":\"output\",\"job_id\":\"j\",\"timestamp\":\"1970-01-01T00:00:01.000Z\",\
             \"data\":{\"stream\":\"stderr\",\"text\":\"a \\\"b\\\"\"}}\n"
        );
        let started = parsed(&events.started(&["ls".to_owned(), "-l".to_owned()], 0));
        assert_eq!((started.len(), &started[0]["data"]), (1, &json!({"command": "ls -l"})));
        let long = events.started(&["ü".repeat(9_000)], 0);
        assert!(long[0].len() < 5_000);
        for (ending, kind, error) in [
            (Ending::Exit(0), "job_completed", Value::Null),
            (Ending::Exit(3), "job_failed", json!("exit code 3")),
            (Ending::Killed(15), "job_failed", json!("killed by SIGTERM")),
            (Ending::NotStarted("no such file".to_owned()), "job_failed", json!("no such file")),
        ] {
            let ended = parsed(&events.ended(&ending, Duration::from_millis(1_500), 0));
            assert_eq!(
                (ended.len(), &ended[0]["type"], &ended[0]["data"]["error"]),
                (1, &json!(kind), &error)
            );
        }
    }

    #[test]
    fn a_routine_begins_and_ends_within_the_job() {
        let events = events(Some("load"));
        let kinds = |lines: Vec<String>| -> Vec<(Value, Value)> {
            parsed(&lines)
                .into_iter()
                .map(|line| (line["type"].clone(), line["routine_id"].clone()))
                .collect()
        };
        let pair = |kind: &str, routine: Option<&str>| (json!(kind), json!(routine));
        assert_eq!(
            kinds(events.started(&[], 0)),
            [pair("job_started", None), pair("routine_started", Some("load"))]
        );
        assert_eq!(
            kinds(events.ended(&Ending::Exit(1), Duration::ZERO, 0)),
            [pair("routine_failed", Some("load")), pair("job_failed", None)]
        );
        assert_eq!(kinds(vec![events.dropped(7, 0)]), [pair("output", Some("load"))]);
    }

    /// The lines of this output, which comes in pieces of this length.
    fn lines(output: &[u8], piece: usize) -> Vec<String> {
        let (mut cutter, mut lines) = (LineCutter::default(), Vec::new());
        output.chunks(piece).for_each(|piece| cutter.take(piece, |line| lines.push(line.to_owned())));
        cutter.finish(|line| lines.push(line.to_owned()));
        lines
    }

    #[test]
    fn output_is_cut_alike_however_it_comes() {
        let output = "one\n\ntwo\r\n 10 %\r 99 %\rdone\nü\nlast".as_bytes();
        for piece in 1..=output.len() {
            assert_eq!(lines(output, piece), ["one", "", "two", "done", "ü", "last"], "{piece}");
        }
        assert_eq!(lines(b"", 1), [""; 0]);
        assert_eq!(lines(b"\xffa\n", 1), ["\u{fffd}a"]);
    }

    #[test]
    fn a_character_that_is_not_whole_is_kept_for_later() {
        for (bytes, whole) in [
            ("aü".as_bytes(), 3),
            (b"a\xc3", 1),
            (b"a\xe2\x82", 1),
            (b"\xbca\xf0\x9f\x98", 2),
            (b"a\x80\x80\x80\x80", 5),
            (b"", 0),
        ] {
            assert_eq!(super::whole_to(bytes), whole, "{bytes:?}");
        }
    }

    #[test]
    fn a_long_line_becomes_several_and_no_character_is_cut() {
        let long = "ü".repeat(LINE_BYTES_MAX) + "\nend\n";
        for piece in [1, 7, LINE_BYTES_MAX, long.len()] {
            let lines = lines(&long.as_bytes()[1..], piece);
            // It begins within a character.
            assert!(lines[0].starts_with('\u{fffd}'));
            let whole: String = lines[..lines.len() - 1].concat();
            assert_eq!(whole.trim_start_matches('\u{fffd}').chars().count(), LINE_BYTES_MAX - 1, "{piece}");
            assert!(whole.trim_start_matches('\u{fffd}').chars().all(|letter| letter == 'ü'));
            assert_eq!(lines.last().unwrap(), "end");
            assert!(lines.len() <= 4 && lines.iter().all(|line| line.len() <= LINE_BYTES_MAX + 2));
        }
    }
}
