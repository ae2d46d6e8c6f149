//! The payloads of a snapshot's records.

use serde::{Deserialize, Serialize};

use crate::stream::holes;
use crate::stream::jobs::JobFold;
use crate::stream::silence::Standing;
use crate::stream::topic::Lost;

/// Where one run of the daemon begins and ends, by number, and where it begins in the log of all events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunSpan {
    /// The number before the first of the run.
    pub seq: u64,
    /// The last number of the run; all numbers are below that of a run that goes on.
    pub end: u64,
    /// Index in the log of all events of the first event of the run.
    pub index: u64,
}

impl RunSpan {
    /// A run that begins behind the number `seq`, and goes on.
    pub fn begun(seq: u64, index: u64) -> Self {
        Self { seq, end: u64::MAX, index }
    }
}

/// A publisher's name, and the last line accepted under it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublisherPart {
    pub name: Box<str>,
    pub accepted: u64,
    /// Milliseconds since the last connection with this name ended.
    pub silent_millis: u64,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct SnapshotHead {
    pub unix_micros: i64,
    /// The newest number.
    pub seq: u64,
    pub runs: Vec<RunSpan>,
    pub holes: holes::Kept,
    /// Any topic may have been dropped with a number up to here.
    pub dropped_floor: u64,
    /// The cells in use of the sketch of dropped topics.
    pub dropped: Vec<(u32, u64)>,
    /// The rows of the table of types, including the documented ones.
    pub types: Vec<(Box<str>, Option<Box<str>>)>,
    pub publishers: Vec<PublisherPart>,
    /// The log of all events.
    pub all: LogPart,
    /// How many topics follow. A topic is referred to by its place, from 1 on; 0 is the topic of all events.
    pub topics: u32,
}

/// A log without its handles.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct LogPart {
    pub base: u64,
    pub base_seq: u64,
    pub head: u64,
    pub first_seq: u64,
    pub last_seq: u64,
    pub lost: Vec<Lost>,
    /// How many events of each type it has. Those not found again are lost.
    pub there: Vec<(u8, u64)>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct TopicPart {
    pub name: Box<str>,
    pub standing: Standing,
    /// Milliseconds since its last event.
    pub silent_millis: u64,
    /// A job's flow; flows come before jobs.
    pub flow: Option<u32>,
    pub last_seq: u64,
    pub has_metrics: bool,
    pub is_due: bool,
    pub job: JobFold,
    pub log: LogPart,
    pub kept: [Option<EventPart>; 2],
}

/// Topics that follow each other, from the place `first` on.
#[derive(Debug, Serialize, Deserialize)]
pub struct Topics {
    pub first: u32,
    pub topics: Vec<TopicPart>,
}

/// One event that outlives its batch.
#[derive(Debug, Serialize, Deserialize)]
pub struct EventPart {
    pub seq: u64,
    /// Its index in its job's log.
    pub at: u64,
    pub bit: u8,
    /// Its type and inner type, if the bit is the shared last one.
    pub kind: Option<(Box<str>, Option<Box<str>>)>,
    pub frame: Vec<u8>,
}

/// Events that their jobs keep, from a batch that is not in the snapshot.
#[derive(Debug, Serialize, Deserialize)]
pub struct Kept {
    /// Topic, whether it is the terminal event, the event.
    pub events: Vec<(u32, bool, EventPart)>,
}

/// What is known of the batches that are not in the snapshot.
#[derive(Debug, Serialize, Deserialize)]
pub struct Unsaved {
    /// All their numbers are below this one.
    pub before: u64,
    /// Topic, type, and the number of the last such event that is not kept.
    pub lasts: Vec<(u32, u8, u64)>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct RunPart {
    pub topic: u32,
    pub first: u32,
    pub count: u32,
    pub at: u64,
}

/// A batch without its frames, which follow it.
#[derive(Debug, Serialize, Deserialize)]
pub struct BatchPart {
    pub first_seq: u64,
    /// When it was read, in Unix milliseconds.
    pub arrived_millis: u64,
    pub ends: Vec<u32>,
    pub bits: Vec<u8>,
    /// The first is the whole batch, for the topic of all events.
    pub runs: Vec<RunPart>,
    /// Event, type and inner type, for the events whose bit is the shared last one.
    pub kinds: Vec<(u32, Box<str>, Option<Box<str>>)>,
}
