//! A batch: the frames of one turn of the ingest thread, back to back, immutable once published.
//!
//! Adjacent frames for one watcher are one slice: a thousand events can be one write.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use crate::event::{OVERFLOW_BIT, TypeMask};
use crate::stream::topic_key::TopicKey;

/// Adjacent events of one topic in one batch.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    pub topic: TopicKey,
    /// Number of the run's first event in the batch.
    pub first: u32,
    /// `count >= 1`.
    pub count: u32,
    /// Absolute index of the first event in the topic's log.
    pub at: u64,
    /// The OR of the events' type bits.
    pub types: TypeMask,
}

impl Run {
    /// Absolute index right behind the run's last event.
    pub fn end(&self) -> u64 {
        self.at + u64::from(self.count)
    }
}

/// A batch's frames in the other dialect, made once by the first shard that needs them.
#[derive(Debug, Default)]
pub struct Dialect {
    pub bytes: Vec<u8>,
    pub ends: Vec<u32>,
}

/// Frames with consecutive numbers, and the type of each.
#[derive(Debug, Default)]
pub struct Batch {
    first_seq: u64,
    /// When its lines were read, in microseconds since the daemon began; 0: in an earlier run.
    read_micros: u64,
    /// The same in Unix milliseconds, for any run.
    arrived_millis: u64,
    bytes: Vec<u8>,
    /// End offset of each event's frame.
    ends: Vec<u32>,
    /// Type bit of each event.
    bits: Vec<u8>,
    /// `runs[0]` is the whole batch, for the topic of all events.
    runs: Vec<Run>,
    /// Type and inner type (`type\0inner`) of the events whose bit is the shared last one.
    overflow: Vec<Overflow>,
    overflow_names: String,
    dialect: OnceLock<Dialect>,
    /// The batch of one kept event. It is small, and the cost of its dialect is not counted.
    is_copy: bool,
}

/// Type and inner type of one event: they end at `end` in the names.
#[derive(Debug, Clone, Copy)]
pub(super) struct Overflow {
    pub event: u32,
    pub end: u32,
}

impl Batch {
    /// An empty batch with room for `bytes` of frames.
    pub fn with_capacity(bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes), ..Self::default() }
    }

    /// Puts a saved batch together again. `overflow_names` has the names of `overflow`, each `type` or `type\0inner`.
    pub(super) fn of_parts(
        (first_seq, arrived_millis): (u64, u64),
        bytes: Vec<u8>,
        ends: Vec<u32>,
        bits: Vec<u8>,
        runs: Vec<Run>,
        (overflow, overflow_names): (Vec<Overflow>, String),
    ) -> Self {
        Self {
            first_seq,
            arrived_millis,
            bytes,
            ends,
            bits,
            runs,
            overflow,
            overflow_names,
            ..Self::default()
        }
    }

    /// Makes a used batch empty again; its buffers stay.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
        self.bits.clear();
        self.runs.clear();
        self.overflow.clear();
        self.overflow_names.clear();
        self.dialect.take();
    }

    /// Sets the number of the first event.
    pub fn begin(&mut self, first_seq: u64) {
        assert!(self.runs.is_empty(), "a batch begins empty");
        self.first_seq = first_seq;
        self.runs.push(Run { topic: TopicKey::ALL, first: 0, count: 0, at: 0, types: 0 });
    }

    /// The buffer that frames are written to; [`Batch::push`] makes an event of what was added.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Removes what was written since the last push.
    pub fn take_back(&mut self) {
        let end = self.ends.last().map_or(0, |&end| end as usize);
        self.bytes.truncate(end);
    }

    /// Makes the bytes written since the last push one event's frame.
    pub fn push(&mut self, bit: u8, kind: &str, inner: Option<&str>) {
        if bit == OVERFLOW_BIT {
            self.overflow_names.push_str(kind);
            if let Some(inner) = inner {
                self.overflow_names.push('\0');
                self.overflow_names.push_str(inner);
            }
            let end = self.overflow_names.len() as u32;
            self.overflow.push(Overflow { event: self.ends.len() as u32, end });
        }
        self.ends.push(self.bytes.len() as u32);
        self.bits.push(bit);
        self.runs[0].count += 1;
        self.runs[0].types |= 1 << bit;
    }

    /// Adds the newest event to a run of `topic`: to run `open`, if that ends right before it, else to a new one.
    /// Returns the index of its run.
    pub fn extend_run(&mut self, open: Option<u32>, topic: TopicKey) -> u32 {
        let event = self.ends.len() as u32 - 1;
        let types = 1 << self.bits[event as usize];
        if let Some(index) = open {
            let run = &mut self.runs[index as usize];
            if run.topic == topic && run.first + run.count == event {
                run.count += 1;
                run.types |= types;
                return index;
            }
        }
        self.runs.push(Run { topic, first: event, count: 1, at: 0, types });
        self.runs.len() as u32 - 1
    }

    pub fn runs_mut(&mut self) -> &mut [Run] {
        &mut self.runs
    }

    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    pub fn first_seq(&self) -> u64 {
        self.first_seq
    }

    /// Sets when its lines were read: in microseconds since the daemon began, and in Unix milliseconds.
    pub fn set_read_at(&mut self, micros: u64, unix_millis: u64) {
        (self.read_micros, self.arrived_millis) = (micros, unix_millis);
    }

    /// When its lines were read, in Unix milliseconds.
    pub fn arrived_millis(&self) -> u64 {
        self.arrived_millis
    }

    /// When its lines were read, in microseconds since the daemon began. None: in an earlier run.
    pub fn read_micros(&self) -> Option<u64> {
        (self.read_micros > 0).then_some(self.read_micros)
    }

    /// Number of the last event; the batch is not empty.
    pub fn last_seq(&self) -> u64 {
        self.first_seq + self.ends.len() as u64 - 1
    }

    /// Number of event `index`.
    pub fn seq(&self, index: u32) -> u64 {
        self.first_seq + u64::from(index)
    }

    pub fn bit(&self, index: u32) -> u8 {
        self.bits[index as usize]
    }

    /// End offset of each event's frame.
    pub fn ends(&self) -> &[u32] {
        &self.ends
    }

    pub fn bits(&self) -> &[u8] {
        &self.bits
    }

    /// The range of the frames of `events` in [`Batch::bytes`].
    pub fn span(&self, events: Range<u32>) -> Range<usize> {
        span(&self.ends, events)
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Free room for frames before the buffer would have to grow.
    pub fn room(&self) -> usize {
        self.bytes.capacity() - self.bytes.len()
    }

    pub fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// The event's JSON object, without the frame's header.
    pub fn object(&self, index: u32) -> &[u8] {
        payload(&self.bytes[self.span(index..index + 1)])
    }

    /// Type and inner type of an event whose bit is [`OVERFLOW_BIT`].
    pub fn overflow_name(&self, index: u32) -> (&str, Option<&str>) {
        let place = self.overflow.partition_point(|entry| entry.event < index);
        let start = place.checked_sub(1).map_or(0, |before| self.overflow[before].end as usize);
        let name = &self.overflow_names[start..self.overflow[place].end as usize];
        match name.split_once('\0') {
            Some((kind, inner)) => (kind, Some(inner)),
            None => (name, None),
        }
    }

    /// The frames in the other dialect. `make` runs at most once; `cost` then gets the bytes added.
    pub fn dialect(&self, make: impl FnOnce(&Batch) -> Dialect, cost: impl FnOnce(usize)) -> &Dialect {
        self.dialect.get_or_init(|| {
            let dialect = make(self);
            if !self.is_copy {
                cost(dialect.cost());
            }
            dialect
        })
    }

    /// What the other dialect costs in memory so far, in bytes.
    pub fn dialect_cost(&self) -> usize {
        self.dialect.get().map_or(0, Dialect::cost)
    }

    /// What the batch itself costs in memory, in bytes: buffers by capacity, and records.
    pub fn cost(&self) -> usize {
        size_of::<Self>()
            + 2 * size_of::<usize>()
            + self.bytes.capacity()
            + self.ends.capacity() * size_of::<u32>()
            + self.bits.capacity()
            + self.runs.capacity() * size_of::<Run>()
            + self.overflow.capacity() * size_of::<Overflow>()
            + self.overflow_names.capacity()
    }

    /// Copies one event to a batch of its own, which may outlive this one. `run` names the topic and the event's index
    /// in it.
    pub fn copy_event(&self, index: u32, run: Run) -> Arc<Batch> {
        let frame = &self.bytes[self.span(index..index + 1)];
        let name = if self.bit(index) == OVERFLOW_BIT { self.overflow_name(index) } else { ("", None) };
        Self::of_event(frame, self.seq(index), self.bit(index), name, run)
    }

    /// Makes a batch of one event from its `frame`. `name` is type and inner type, if the bit is [`OVERFLOW_BIT`].
    pub(super) fn of_event(
        frame: &[u8],
        seq: u64,
        bit: u8,
        name: (&str, Option<&str>),
        run: Run,
    ) -> Arc<Batch> {
        let mut copy = Batch::with_capacity(frame.len());
        copy.is_copy = true;
        copy.begin(seq);
        copy.bytes.extend_from_slice(frame);
        copy.push(bit, name.0, name.1);
        copy.runs = vec![Run { first: 0, count: 1, types: 1 << bit, ..run }];
        Arc::new(copy)
    }
}

/// A frame without its header.
fn payload(frame: &[u8]) -> &[u8] {
    let header = match frame[1] {
        126 => 4,
        127 => 10,
        _ => 2,
    };
    &frame[header..]
}

impl Dialect {
    /// The event's JSON object, without the frame's header.
    pub fn object(&self, index: u32) -> &[u8] {
        payload(&self.bytes[self.span(index..index + 1)])
    }

    pub fn span(&self, events: Range<u32>) -> Range<usize> {
        span(&self.ends, events)
    }

    fn cost(&self) -> usize {
        self.bytes.capacity() + self.ends.capacity() * size_of::<u32>()
    }
}

fn span(ends: &[u32], events: Range<u32>) -> Range<usize> {
    let start = events.start.checked_sub(1).map_or(0, |before| ends[before as usize] as usize);
    start..ends[events.end as usize - 1] as usize
}
