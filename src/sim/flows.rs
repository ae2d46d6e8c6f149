//! The flows that the engine runs: their routines, who feeds whom, and what each does to a record.

use std::fmt;

use fastrand::Rng;

use super::moment::Moment;

/// A graph of routines. The first one is the entry, which makes the records.
pub struct Flow {
    pub id: &'static str,
    pub source: Source,
    pub routines: &'static [Routine],
}

pub struct Routine {
    pub id: &'static str,
    /// The routine's class, for texts of errors and data.
    pub class: &'static str,
    pub work: Work,
    /// The routines that get what it emits: indices in the flow's routines.
    pub targets: &'static [usize],
}

/// The form of a flow's records when they are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// A data set, with text beyond ASCII and a fraction in each record.
    DataSet,
    /// A few records that say where they come from.
    Tracked,
    /// Numbered blocks.
    Blocks,
}

/// What a routine does to a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Makes records; never called.
    Make,
    Pass,
    Validate,
    Uppercase,
    Transform,
    Multiply,
    Count,
    Quicken,
    Risk,
    /// Takes them and emits nothing.
    Store,
}

/// What passes from one routine to the next.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// A JSON object.
    pub json: String,
    /// The record's text, for the next routine to work on.
    pub text: String,
    /// As written in the JSON.
    pub index: u64,
    /// The place of the record within its job, from 0.
    pub record: u64,
}

pub static FLOWS: [Flow; 10] = [
    Flow { id: "etl_flow", source: Source::DataSet, routines: &ETL },
    Flow { id: "etl_flow_2", source: Source::DataSet, routines: &ETL },
    Flow { id: "ingest_flow", source: Source::Blocks, routines: &INGEST },
    Flow { id: "branching_flow", source: Source::Tracked, routines: &BRANCHING },
    Flow { id: "etl_flow_3", source: Source::DataSet, routines: &ETL },
    Flow { id: "linear_flow", source: Source::Tracked, routines: &LINEAR },
    Flow { id: "conditional_flow", source: Source::Tracked, routines: &CONDITIONAL },
    Flow { id: "performance_flow", source: Source::Tracked, routines: &PERFORMANCE },
    Flow { id: "error_flow", source: Source::Tracked, routines: &RISKY },
    Flow { id: "complex_flow", source: Source::Tracked, routines: &COMPLEX },
];

const ETL: [Routine; 4] = [
    routine("source", "DataSource", Work::Make, &[1]),
    routine("validator", "DataValidator", Work::Pass, &[2]),
    routine("transformer", "DataTransformer", Work::Uppercase, &[3]),
    routine("sink", "DataSink", Work::Store, &[]),
];

const INGEST: [Routine; 3] = [
    routine("process_data", "DataProcessor", Work::Make, &[1]),
    routine("validator", "DataValidator", Work::Pass, &[2]),
    routine("sink", "DataSink", Work::Store, &[]),
];

const LINEAR: [Routine; 4] = [
    routine("source", "LinearSource", Work::Make, &[1]),
    routine("validator", "LinearValidator", Work::Validate, &[2]),
    routine("transformer", "LinearTransformer", Work::Transform, &[3]),
    routine("sink", "LinearSink", Work::Store, &[]),
];

const BRANCHING: [Routine; 4] = [
    routine("source", "Source", Work::Make, &[1, 2]),
    routine("transformer", "DataTransformer", Work::Transform, &[3]),
    routine("multiplier", "DataMultiplier", Work::Multiply, &[3]),
    routine("sink", "DataSink", Work::Store, &[]),
];

const CONDITIONAL: [Routine; 3] = [
    routine("source", "Source", Work::Make, &[1]),
    routine("counter", "Counter", Work::Count, &[2]),
    routine("processor", "ConditionalProcessor", Work::Store, &[]),
];

const PERFORMANCE: [Routine; 3] = [
    routine("source", "PerfSource", Work::Make, &[1]),
    routine("fast1", "FastProcessor", Work::Quicken, &[2]),
    routine("fast2", "FastProcessor", Work::Quicken, &[]),
];

const RISKY: [Routine; 3] = [
    routine("source", "ErrorSource", Work::Make, &[1]),
    routine("error_gen", "ErrorGenerator", Work::Risk, &[2]),
    routine("sink", "DataSink", Work::Store, &[]),
];

const COMPLEX: [Routine; 6] = [
    routine("main_source", "MainSource", Work::Make, &[1]),
    routine("validator", "Validator", Work::Validate, &[2]),
    routine("transformer", "Transformer", Work::Transform, &[3, 4]),
    routine("counter", "Counter", Work::Count, &[5]),
    routine("multiplier", "DataMultiplier", Work::Multiply, &[]),
    routine("conditional", "ConditionalProcessor", Work::Store, &[]),
];

const fn routine(id: &'static str, class: &'static str, work: Work, targets: &'static [usize]) -> Routine {
    Routine { id, class, work, targets }
}

impl Source {
    /// How many records a job makes.
    pub fn records(self, random: &mut Rng) -> u64 {
        match self {
            Source::DataSet => 10 + random.u64(..30),
            Source::Tracked => 1 + random.u64(..4),
            Source::Blocks => 4 + random.u64(..12),
        }
    }

    /// The text that all records of a job share.
    pub fn label(self, random: &mut Rng) -> String {
        match self {
            Source::DataSet => format!("rec{}-{}", random.u64(..4), random.u64(..100)),
            Source::Tracked => {
                ["hello", "b", "c", "p", "value_error", "INVALID rec"][random.usize(..6)].to_string()
            }
            Source::Blocks => "d".to_string(),
        }
    }

    /// The `params` of `job_started`, a JSON object.
    pub fn params(self, label: &str, records: u64) -> String {
        match self {
            Source::DataSet => format!(r#"{{"data": "{label}", "n": {records}, "delay": 0.001}}"#),
            Source::Tracked => format!(r#"{{"data": "{label}", "index": 1}}"#),
            Source::Blocks => format!(r#"{{"n": {records}, "boom": 0}}"#),
        }
    }

    pub fn make(self, label: &str, record: u64, class: &str, now: Moment) -> Message {
        match self {
            Source::DataSet => {
                let (text, ratio) = (format!("{label}_{record}"), record as f64 / 7.0);
                let json = format_args!(
                    r#"{{"data": "{text}", "index": {record}, "meta": {{"user": "jürgen", "tags": ["日本", "π"], "ratio": {ratio:?}}}}}"#
                );
                message(&text, record, record, json)
            }
            Source::Tracked => {
                let index = record + 1;
                let json = format_args!(
                    r#"{{"data": "{label}", "index": {index}, "timestamp": "{}", "metadata": {{"source": "{class}", "counter": {index}}}}}"#,
                    now.naive()
                );
                message(label, index, record, json)
            }
            Source::Blocks => {
                let text = format!("{label}{record}");
                let json = format_args!(r#"{{"data": "{text}", "index": {record}}}"#);
                message(&text, record, record, json)
            }
        }
    }
}

impl Work {
    /// The event that results from this message, and what it carries; `None` if nothing is emitted.
    pub fn perform(self, input: &Message, class: &str, now: Moment) -> Option<(&'static str, Message)> {
        let Message { text, index, record, .. } = input;
        let output =
            |text: &str, json: fmt::Arguments| Some(("output", message(text, *index, *record, json)));
        match self {
            Work::Make | Work::Store => None,
            Work::Pass => output(text, format_args!(r#"{{"data": "{text}", "index": {index}}}"#)),
            Work::Validate if text.starts_with("INVALID") => {
                let json = format_args!(
                    r#"{{"error": "Validation failed", "index": {index}, "original_data": "{text}"}}"#
                );
                Some(("invalid", message(text, *index, *record, json)))
            }
            Work::Validate => {
                let json = format_args!(
                    r#"{{"data": "{text}", "index": {index}, "validation_details": {{"timestamp": "{}", "validator": "{class}", "data_length": {}}}}}"#,
                    now.naive(),
                    text.len()
                );
                Some(("valid", message(text, *index, *record, json)))
            }
            Work::Uppercase => {
                let upper = text.to_uppercase();
                output(&upper, format_args!(r#"{{"result": "{upper}", "index": {index}}}"#))
            }
            Work::Transform => {
                let upper = text.to_uppercase();
                let json = format_args!(
                    r#"{{"result": "{upper}", "index": {index}, "transformation_type": "uppercase"}}"#
                );
                output(&upper, json)
            }
            Work::Multiply => {
                let twice = format!("{text} {text}");
                let json = format_args!(r#"{{"result": "{twice}", "index": {index}, "multiplier": 2}}"#);
                output(&twice, json)
            }
            Work::Count => {
                output(text, format_args!(r#"{{"count": {index}, "message": "Count is now {index}"}}"#))
            }
            Work::Quicken => output(text, format_args!(r#"{{"result": "Fast: {text}", "count": {index}}}"#)),
            Work::Risk => output(text, format_args!(r#"{{"result": "Success: {text}"}}"#)),
        }
    }
}

fn message(text: &str, index: u64, record: u64, json: fmt::Arguments) -> Message {
    Message { json: json.to_string(), text: text.to_string(), index, record }
}
