//! Writes a snapshot, a record at a time, while shards still read what is saved. The sequencer has stopped, so nothing
//! written here changes meanwhile.

use std::collections::BTreeMap;
use std::mem;
use std::sync::Arc;

use serde::Serialize;

use super::MAGIC;
use super::parts::{
    BatchPart, EventPart, Kept, LogPart, PublisherPart, RunPart, SnapshotHead, TopicPart, Topics, Unsaved,
};
use super::record::{Kind, write};
use crate::event::OVERFLOW_BIT;
use crate::stream::batch::{Batch, Run};
use crate::stream::now::Now;
use crate::stream::sequencer::Sequencer;
use crate::stream::silence::Standing;
use crate::stream::topic::Log;
use crate::stream::topic_key::TopicKey;

/// Beyond this many bytes, topics go to a new record: this bounds what one flipped bit costs.
const TOPICS_BYTES: usize = 64 << 10;

pub struct Saver<'a> {
    sequencer: &'a Sequencer,
    publishers: Vec<PublisherPart>,
    now: Now,
    /// The topics in the order of their places from 1 on, each with the time of its last event: flows first, then jobs
    /// by standing, silent for longest first.
    topics: Vec<(TopicKey, u64)>,
    /// By slot: the topic's place, 0 if there is none.
    places: Vec<u32>,
    /// Newest first.
    pub(super) batches: Vec<Arc<Batch>>,
    left_out: usize,
    /// By place and type: the last number in the batches left out.
    lasts: BTreeMap<(u32, u8), u64>,
    stage: SavePart,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum SavePart {
    Head,
    Topics { next: usize },
    Batches { next: usize },
    Kept { next: usize },
    End,
    Over,
}

impl<'a> Saver<'a> {
    /// Begins a snapshot. Everything taken in is published.
    pub fn new(sequencer: &'a Sequencer, publishers: Vec<PublisherPart>, now: Now) -> Self {
        let standings = [Standing::Flow].into_iter().chain(Standing::OF_JOBS);
        let topics: Vec<(TopicKey, u64)> =
            standings.flat_map(|standing| sequencer.topic_index.silent_keys(standing)).collect();
        let mut places = vec![0; topics.iter().map(|(key, _)| key.slot as usize + 1).max().unwrap_or(0)];
        for (place, (key, _)) in (1..).zip(&topics) {
            places[key.slot as usize] = place;
        }
        let log = sequencer.directory.all.log.lock();
        let mut batches: Vec<Arc<Batch>> = log.handles().map(|handle| handle.batch.clone()).collect();
        batches.reverse();
        drop(log);
        Self {
            sequencer,
            publishers,
            now,
            topics,
            places,
            batches,
            left_out: 0,
            lasts: BTreeMap::new(),
            stage: SavePart::Head,
        }
    }

    /// Adds the next record to `out`. Once `is_time_up`, no further batch is saved. False: that was the last record.
    pub fn write_next(&mut self, out: &mut Vec<u8>, is_time_up: bool) -> bool {
        self.stage = match self.stage {
            SavePart::Head => {
                out.extend_from_slice(MAGIC);
                self.write_head(out);
                SavePart::Topics { next: 0 }
            }
            SavePart::Topics { next } if next < self.topics.len() => {
                SavePart::Topics { next: self.write_topics(out, next) }
            }
            SavePart::Topics { .. } => SavePart::Batches { next: 0 },
            SavePart::Batches { next } if is_time_up || next == self.batches.len() => {
                self.left_out = self.batches.len() - next;
                SavePart::Kept { next }
            }
            SavePart::Batches { next } => {
                self.write_batch(out, &self.batches[next]);
                SavePart::Batches { next: next + 1 }
            }
            SavePart::Kept { next } if next < self.batches.len() => {
                let batch = self.batches[next].clone();
                self.write_kept(out, &batch);
                SavePart::Kept { next: next + 1 }
            }
            SavePart::Kept { .. } => {
                self.write_unsaved(out);
                SavePart::End
            }
            SavePart::End => {
                write(out, Kind::End, |_| {});
                SavePart::Over
            }
            SavePart::Over => SavePart::Over,
        };
        self.stage != SavePart::Over
    }

    /// How many batches there was no time for.
    pub fn batches_left_out(&self) -> usize {
        self.left_out
    }

    fn write_head(&self, out: &mut Vec<u8>) {
        let directory = &self.sequencer.directory;
        let (dropped_floor, dropped) = directory.dropped.save();
        let head = SnapshotHead {
            unix_micros: self.now.unix_micros,
            seq: self.sequencer.seq(),
            runs: directory.runs.to_vec(),
            holes: directory.holes.save(),
            dropped_floor,
            dropped,
            types: directory.types.names(),
            publishers: self.publishers.clone(),
            all: log_part(&directory.all.log.lock()),
            topics: self.topics.len() as u32,
        };
        write(out, Kind::Head, |out| add(out, &head));
    }

    /// Writes topics from index `first` of `topics` on. Returns the index of the first one left.
    fn write_topics(&self, out: &mut Vec<u8>, first: usize) -> usize {
        let mut topics = Topics { first: first as u32 + 1, topics: Vec::new() };
        let mut bytes = 0;
        for &(key, stamp) in &self.topics[first..] {
            let topic = self.topic_part(key, stamp);
            bytes += size_of::<TopicPart>() + topic.name.len();
            bytes += topic.kept.iter().flatten().map(|event| event.frame.len()).sum::<usize>();
            topics.topics.push(topic);
            if bytes > TOPICS_BYTES {
                break;
            }
        }
        write(out, Kind::Topics, |out| add(out, &topics));
        first + topics.topics.len()
    }

    fn topic_part(&self, key: TopicKey, stamp: u64) -> TopicPart {
        let entry = self.sequencer.topic_index.entry(key);
        let log = entry.topic.log.lock();
        let kept =
            log.kept.each_ref().map(|copy| copy.as_ref().map(|copy| event_part(copy, 0, &copy.runs()[0])));
        TopicPart {
            name: entry.topic.name.clone(),
            standing: self.sequencer.topic_index.standing(key),
            silent_millis: self.now.millis.saturating_sub(stamp),
            flow: entry.flow.map(|flow| self.places[TopicKey::from(flow).slot as usize]),
            last_seq: entry.last_seq,
            has_metrics: entry.has_metrics,
            is_due: entry.is_due,
            job: log.job,
            log: log_part(&log),
            kept,
        }
    }

    fn write_batch(&self, out: &mut Vec<u8>, batch: &Batch) {
        let events = 0..batch.len() as u32;
        let kinds = events.filter(|&event| batch.bit(event) == OVERFLOW_BIT).map(|event| {
            let (kind, inner) = batch.overflow_name(event);
            (event, kind.into(), inner.map(Into::into))
        });
        let runs = batch.runs().iter().filter_map(|run| {
            Some(RunPart { topic: self.place_of(run)?, first: run.first, count: run.count, at: run.at })
        });
        let part = BatchPart {
            first_seq: batch.first_seq(),
            arrived_millis: batch.arrived_millis(),
            ends: batch.ends().to_vec(),
            bits: batch.bits().to_vec(),
            runs: runs.collect(),
            kinds: kinds.collect(),
        };
        write(out, Kind::Batch, |out| {
            add(out, &part);
            out.extend_from_slice(batch.bytes());
        });
    }

    /// The place of a run's topic. None: it was dropped.
    fn place_of(&self, run: &Run) -> Option<u32> {
        if run.topic == TopicKey::ALL {
            return Some(0);
        }
        self.sequencer.topic_index.find(run.topic)?;
        Some(self.places[run.topic.slot as usize])
    }

    /// Writes what jobs keep of a batch that is not saved, and notes the rest as lost.
    fn write_kept(&mut self, out: &mut Vec<u8>, batch: &Batch) {
        let mut kept = Kept { events: Vec::new() };
        for run in batch.runs() {
            let Some(place) = self.place_of(run) else { continue };
            let mut keeps = [0, 0];
            if place > 0 {
                let topic = &self.sequencer.topic_index.entry(run.topic).topic;
                let job = topic.log.lock().job;
                keeps = [job.first_started_seq, job.last_terminal_seq];
            }
            for event in (run.first..run.first + run.count).rev() {
                let seq = batch.seq(event);
                match keeps.iter().position(|&keep| keep == seq) {
                    Some(which) => kept.events.push((place, which == 1, event_part(batch, event, run))),
                    // Events come from the newest to the oldest, except between runs of one batch.
                    None => {
                        let last = self.lasts.entry((place, batch.bit(event))).or_default();
                        *last = seq.max(*last);
                    }
                }
            }
        }
        if !kept.events.is_empty() {
            write(out, Kind::Kept, |out| add(out, &kept));
        }
    }

    fn write_unsaved(&self, out: &mut Vec<u8>) {
        if self.left_out == 0 {
            return;
        }
        let saved = self.batches.len() - self.left_out;
        let before = saved.checked_sub(1).map_or(self.sequencer.seq() + 1, |at| self.batches[at].first_seq());
        let lasts = self.lasts.iter().map(|(&(place, bit), &seq)| (place, bit, seq)).collect();
        write(out, Kind::Unsaved, |out| add(out, &Unsaved { before, lasts }));
    }
}

fn add(out: &mut Vec<u8>, part: &impl Serialize) {
    *out = postcard::to_extend(part, mem::take(out)).expect("a vector takes everything");
}

fn log_part(log: &Log) -> LogPart {
    let mut there = BTreeMap::new();
    for handle in log.handles() {
        let run = handle.run();
        if run.types.is_power_of_two() {
            *there.entry(handle.batch.bit(run.first)).or_default() += u64::from(run.count);
        } else {
            for event in run.first..run.first + run.count {
                *there.entry(handle.batch.bit(event)).or_default() += 1;
            }
        }
    }
    LogPart {
        base: log.base,
        base_seq: log.base_seq,
        head: log.head,
        first_seq: log.first_seq,
        last_seq: log.last_seq,
        lost: log.lost.to_vec(),
        there: there.into_iter().collect(),
    }
}

/// Event `index` of a batch, in the run `run` of its job.
fn event_part(batch: &Batch, index: u32, run: &Run) -> EventPart {
    let bit = batch.bit(index);
    let kind = (bit == OVERFLOW_BIT).then(|| {
        let (kind, inner) = batch.overflow_name(index);
        (kind.into(), inner.map(Into::into))
    });
    EventPart {
        seq: batch.seq(index),
        at: run.at + u64::from(index - run.first),
        bit,
        kind,
        frame: batch.bytes()[batch.span(index..index + 1)].to_vec(),
    }
}
