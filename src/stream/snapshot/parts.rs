//! The payloads of records, as they are written and read.

use serde::{Deserialize, Serialize};

use crate::stream::jobs::JobFold;
use crate::stream::silence::Standing;
use crate::stream::topic::Lost;

/// Where one run of the daemon begins in the one order of numbers and in the log of all events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunStart {
    /// The number before the first of the run.
    pub seq: u64,
    /// Index in the log of all events of the first event of the run.
    pub index: u64,
}

/// A publisher's name, and the last line accepted under it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublisherPart {
    pub name: Box<str>,
    pub accepted: u64,
    /// Since the last connection with this name ended, in milliseconds.
    pub silent_millis: u64,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct SnapshotHead {
    pub unix_micros: i64,
    /// The newest number.
    pub seq: u64,
    pub runs: Vec<RunStart>,
    /// Any topic may have been dropped with a number up to here.
    pub dropped_floor: u64,
    /// Of the sketch of dropped topics, the cells in use.
    pub dropped: Vec<(u32, u64)>,
    /// The rows of the table of types, the documented ones too.
    pub types: Vec<(Box<str>, Option<Box<str>>)>,
    pub publishers: Vec<PublisherPart>,
    /// Of the topic of all events.
    pub all: LogPart,
    /// So many topics follow. They are known by their place from 1 on; 0 is the topic of all events.
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
    /// How many events of each type it has: what is not found again is lost.
    pub there: Vec<(u8, u64)>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct TopicPart {
    pub name: Box<str>,
    pub standing: Standing,
    /// Since its last event, in milliseconds.
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
    /// Its type and inner type, where the bit does not tell.
    pub kind: Option<(Box<str>, Option<Box<str>>)>,
    pub frame: Vec<u8>,
}

/// Events that their jobs keep, from a batch that is not in the snapshot.
#[derive(Debug, Serialize, Deserialize)]
pub struct Kept {
    /// Topic, whether it is the terminal event, the event.
    pub events: Vec<(u32, bool, EventPart)>,
}

/// What the batches that are not in the snapshot had.
#[derive(Debug, Serialize, Deserialize)]
pub struct Unsaved {
    /// They end before this number.
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

/// A batch; its frames stand behind this.
#[derive(Debug, Serialize, Deserialize)]
pub struct BatchPart {
    pub first_seq: u64,
    /// When it was read, in Unix milliseconds.
    pub arrived_millis: u64,
    pub ends: Vec<u32>,
    pub bits: Vec<u8>,
    /// The first is the whole batch, for the topic of all events.
    pub runs: Vec<RunPart>,
    /// Type and inner type of the events whose bit does not tell.
    pub kinds: Vec<(u32, Box<str>, Option<Box<str>>)>,
}
