//! The real corpus through the daemon: several publishers at once, clients of all kinds, and a naive oracle.

use std::fs;

use serde_json::Value;

/// One line of the corpus.
#[derive(Clone)]
pub struct Line {
    pub text: String,
    pub job_id: String,
}

/// Events of real Routilux runs.
pub fn corpus() -> Vec<Line> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/events.ndjson");
    let text = fs::read_to_string(path).expect("the corpus is part of the project");
    let lines = text.lines().map(|line| {
        let event: Value = serde_json::from_str(line).expect("the corpus is JSON");
        Line { text: line.to_owned(), job_id: event["job_id"].as_str().expect("a job").to_owned() }
    });
    lines.collect()
}
