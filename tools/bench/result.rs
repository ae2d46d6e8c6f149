//! The result of a run of the tool: the one structure behind the table, `--json` and `--report`.

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// Version of luxcast.
    pub version: String,
    /// RFC 3339, UTC.
    pub begun: String,
    /// The command line.
    pub command: String,
    pub machine: Machine,
    /// Runs of each measurement; figures are their medians.
    pub runs: usize,
    pub scenarios: Vec<Scenario>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Machine {
    pub processor: String,
    pub cores: usize,
    pub memory_bytes: u64,
    pub kernel: String,
    /// The cores of server and load, in words.
    pub pinning: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Scenario {
    /// Its name on the command line.
    pub name: String,
    /// A few words: "1,000 watchers of one job".
    pub title: String,
    /// What happens in it and why that matters, for people who have never seen the project.
    pub about: String,
    /// Its parameters, in order: ("watchers", "1,000").
    pub parameters: Vec<(String, String)>,
    /// The figure by which servers are compared.
    pub primary: String,
    pub servers: Vec<ServerResult>,
    pub targets: Vec<Target>,
    /// What else a reader must know to judge the figures.
    pub notes: Vec<String>,
}

/// The kind of server that a result belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    Luxcast,
    /// The least that any server could do.
    Floor,
    Peer,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ServerResult {
    /// `luxcast`, `luxcast, 300 a job`, `floor, 1 event a send`, `uWebSockets`, ...
    pub name: String,
    pub role: Role,
    pub figures: Vec<Figure>,
    /// From publish to receive, if it was measured.
    pub latency: Option<Latency>,
    /// Why there is no result, or what was lost, repeated or out of order.
    pub error: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Figure {
    /// For programs: `cpu_micros_per_message`.
    pub name: String,
    /// For people: "CPU per message".
    pub label: String,
    /// `µs`, `B`, `/s`, `ms`, `×` or empty.
    pub unit: String,
    pub better: Better,
    /// One value for each run.
    pub values: Vec<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    Lower,
    Higher,
    /// It shows what was done, not how well.
    Neither,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Latency {
    pub count: u64,
    pub max_ms: f64,
    /// (percentile from 0 to 100, milliseconds), ascending, denser towards 100, as in an HdrHistogram plot.
    pub curve: Vec<(f64, f64)>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Target {
    /// "at most 1/60 of floor, 1 event a send".
    pub text: String,
    /// What was measured, in the same words: "1/84".
    pub measured: String,
    pub is_met: bool,
}

impl Figure {
    /// The middle value of the runs.
    pub fn median(&self) -> f64 {
        let mut values = self.values.clone();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
    }
}

impl ServerResult {
    pub fn figure(&self, name: &str) -> Option<&Figure> {
        self.figures.iter().find(|figure| figure.name == name)
    }

    /// The median of a figure.
    pub fn median(&self, name: &str) -> Option<f64> {
        self.figure(name).map(Figure::median)
    }
}
