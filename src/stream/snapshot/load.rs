//! Reads a snapshot: takes what is whole, and counts the rest as lost.

use std::io::Read;

use super::MAGIC;
use super::parts::{
    BatchPart, EventPart, Kept, LogPart, PublisherPart, RunPart, SnapshotHead, TopicPart, Topics, Unsaved,
};
use super::record::{Kind, Next, Records};
use crate::event::{OVERFLOW_BIT, TypeTable};
use crate::stream::holes;
use crate::stream::numbers::{SEQ_END, SEQ_MIN};
use crate::stream::silence::Standing;
use crate::stream::topic::Lost;

/// Topics in a snapshot, at most: as many as `topics_max` allows.
const TOPICS_MAX: u32 = 100_000_000;

/// Why nothing of a snapshot can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// It is not a snapshot.
    Foreign,
    /// It has another version of the format.
    Version,
    /// Its head is damaged.
    Head,
}

impl Unusable {
    pub fn text(self) -> &'static str {
        match self {
            Self::Foreign => "it is no snapshot of luxcast",
            Self::Version => "it is from another version of luxcast",
            Self::Head => "its head is damaged",
        }
    }
}

/// What was missing. Watchers get gaps for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Damage {
    /// Bytes were changed or cut off.
    pub is_damaged: bool,
    /// Jobs and flows that could not be read.
    pub topics: usize,
    /// Events of the history that were not saved or could not be read.
    pub events: u64,
}

/// A batch as it was read, with its frames back to back in `bytes`.
#[derive(Debug)]
pub(super) struct BatchRead {
    pub part: BatchPart,
    pub bytes: Vec<u8>,
}

/// All that was read, free of contradictions.
pub struct Restored {
    pub(super) head: SnapshotHead,
    /// By place, from 1 on. None: it could not be read.
    pub(super) topics: Vec<Option<TopicPart>>,
    /// Newest first, without a hole.
    pub(super) batches: Vec<BatchRead>,
    /// The last number of the history that is not in `batches`, 0 if there is none.
    pub(super) missing_to: u64,
    pub damage: Damage,
}

impl Restored {
    /// The newest number.
    pub fn seq(&self) -> u64 {
        self.head.seq
    }

    pub fn events(&self) -> u64 {
        self.batches.iter().map(|batch| batch.part.ends.len() as u64).sum()
    }

    /// How many jobs, and how many flows.
    pub fn jobs_and_flows(&self) -> (usize, usize) {
        let topics = self.topics.iter().flatten();
        let (flows, jobs): (Vec<_>, Vec<_>) = topics.partition(|topic| topic.standing == Standing::Flow);
        (jobs.len(), flows.len())
    }

    /// The publishers, with the time they have been silent at `unix_micros`.
    pub fn publishers(&self, unix_micros: i64) -> impl Iterator<Item = PublisherPart> {
        let away_millis = self.away_millis(unix_micros);
        self.head.publishers.iter().map(move |publisher| {
            let silent_millis = publisher.silent_millis.saturating_add(away_millis);
            PublisherPart { silent_millis, ..publisher.clone() }
        })
    }

    /// Milliseconds since the snapshot was saved; 0 if the clock went back.
    pub(super) fn away_millis(&self, unix_micros: i64) -> u64 {
        unix_micros.saturating_sub(self.head.unix_micros).max(0) as u64 / 1000
    }
}

/// Reads a snapshot of at most `length` bytes.
///
/// # Errors
/// Why nothing of it can be used.
pub fn load(from: impl Read, length: u64) -> Result<Restored, Unusable> {
    let mut records = Records::new(from, length);
    let mut magic = [0; MAGIC.len()];
    records.read_exact(&mut magic).map_err(|_| Unusable::Foreign)?;
    let version = MAGIC.len() - 2;
    if magic[..version] != MAGIC[..version] {
        return Err(Unusable::Foreign);
    }
    if magic != *MAGIC {
        return Err(Unusable::Version);
    }
    let Next::Record(Kind::Head, payload) = records.next() else {
        return Err(Unusable::Head);
    };
    let head: SnapshotHead = postcard::from_bytes(payload).map_err(|_| Unusable::Head)?;
    if !is_head_possible(&head) {
        return Err(Unusable::Head);
    }
    let mut reading = Reading {
        heads: vec![head.all.head],
        topics: Vec::new(),
        batches: Vec::new(),
        kept: Vec::new(),
        unsaved: None,
        has_hole: false,
        damage: Damage::default(),
        head,
    };
    while reading.take(records.next()) {}
    Ok(reading.finish())
}

/// Checks what checksums cannot: that the types are those of this version, and that numbers are in order.
fn is_head_possible(head: &SnapshotHead) -> bool {
    let table = TypeTable::new();
    let mut rows = (0..).zip(&head.types);
    let are_types_possible = head.types.len() <= usize::from(OVERFLOW_BIT)
        && rows.all(|(row, (kind, inner))| table.bit(kind, inner.as_deref()).0 == row);
    are_types_possible
        && head.all.base <= head.all.head
        && (SEQ_MIN..SEQ_END).contains(&head.seq)
        && head.runs.is_sorted_by(|run, next| run.seq <= next.seq && run.index <= next.index)
        && head.runs.iter().all(|run| run.seq <= run.end)
        && head.runs.first().is_some_and(|run| run.seq <= head.seq)
        && are_holes_possible(&head.holes, head.seq)
        && head.topics <= TOPICS_MAX
}

fn are_holes_possible(kept: &holes::Kept, newest: u64) -> bool {
    let ends = kept.holes.iter().flat_map(|hole| [hole.from, hole.to]);
    ends.clone().is_sorted() && ends.chain([kept.forgotten_to]).all(|seq| seq <= newest)
}

struct Reading {
    head: SnapshotHead,
    topics: Vec<Option<TopicPart>>,
    /// By place: index of the oldest event read so far; at first, the head of the log.
    heads: Vec<u64>,
    batches: Vec<BatchRead>,
    kept: Vec<(u32, bool, EventPart)>,
    unsaved: Option<Unsaved>,
    /// A batch is missing, so older ones cannot be used.
    has_hole: bool,
    damage: Damage,
}

impl Reading {
    /// Takes one record in. False: there are no more.
    fn take(&mut self, next: Next<'_>) -> bool {
        let is_taken = match next {
            Next::Record(Kind::Topics, payload) => self.take_topics(payload),
            Next::Record(Kind::Batch, payload) => {
                let is_taken = !self.has_hole && self.take_batch(payload);
                self.has_hole |= !is_taken;
                is_taken
            }
            Next::Record(Kind::Kept, payload) => self.take_kept(payload),
            Next::Record(Kind::Unsaved, payload) => {
                self.unsaved = postcard::from_bytes(payload).ok();
                self.unsaved.is_some()
            }
            Next::Record(Kind::End, _) => return false,
            Next::Record(Kind::Head, _) => false,
            Next::Damaged(kind) => {
                self.has_hole |= kind == Kind::Batch;
                false
            }
            Next::Nothing => {
                self.damage.is_damaged = true;
                return false;
            }
        };
        self.damage.is_damaged |= !is_taken;
        true
    }

    fn take_topics(&mut self, payload: &[u8]) -> bool {
        let Ok(Topics { first, topics }) = postcard::from_bytes(payload) else {
            return false;
        };
        let place = first.saturating_sub(1) as usize;
        if !self.batches.is_empty()
            || place < self.topics.len()
            || place + topics.len() > self.head.topics as usize
            || !topics.iter().all(is_topic_possible)
        {
            return false;
        }
        self.topics.resize_with(place, || None);
        self.topics.extend(topics.into_iter().map(Some));
        true
    }

    fn topic(&self, place: u32) -> Option<&TopicPart> {
        self.topics.get((place as usize).checked_sub(1)?)?.as_ref()
    }

    fn take_batch(&mut self, payload: &[u8]) -> bool {
        let Ok((mut part, bytes)) = postcard::take_from_bytes::<BatchPart>(payload) else {
            return false;
        };
        // From here on, each topic's head is the index where its next older run has to end.
        if self.heads.len() == 1 {
            let heads = self.topics.iter().map(|topic| topic.as_ref().map_or(0, |topic| topic.log.head));
            self.heads.extend(heads);
        }
        let before = self.batches.last().map_or(self.head.seq + 1, |newer| newer.part.first_seq);
        if !is_batch_possible(&part, bytes, before) {
            return false;
        }
        part.runs.retain(|run| run.topic == 0 || self.topic(run.topic).is_some());
        if !self.step_back(&part.runs) {
            return false;
        }
        self.batches.push(BatchRead { part, bytes: bytes.to_vec() });
        true
    }

    /// Moves each topic's head back to the beginning of its run. False, and nothing is moved: a run does not end at its
    /// topic's head.
    fn step_back(&mut self, runs: &[RunPart]) -> bool {
        let mut before = Vec::with_capacity(runs.len());
        for run in runs.iter().rev() {
            let base = self.topic(run.topic).map_or(self.head.all.base, |topic| topic.log.base);
            let head = &mut self.heads[run.topic as usize];
            let is_next = run.at.checked_add(u64::from(run.count)) == Some(*head) && run.at >= base;
            if !is_next {
                before.into_iter().rev().for_each(|(topic, head)| self.heads[topic as usize] = head);
                return false;
            }
            before.push((run.topic, std::mem::replace(head, run.at)));
        }
        true
    }

    fn take_kept(&mut self, payload: &[u8]) -> bool {
        let Ok(Kept { events }) = postcard::from_bytes(payload) else {
            return false;
        };
        self.kept.extend(events.into_iter().filter(|(_, _, event)| is_event_possible(event)));
        true
    }

    fn finish(mut self) -> Restored {
        self.damage.is_damaged |= self.topics.len() != self.head.topics as usize;
        self.topics.resize_with(self.head.topics as usize, || None);
        let heads = std::mem::take(&mut self.heads);
        let oldest = self.batches.last().map_or(self.head.seq + 1, |batch| batch.part.first_seq);
        let missing = heads[0] - self.head.all.base;
        let missing_to = if missing > 0 { oldest - 1 } else { 0 };
        let mut counts = if missing > 0 { self.counts() } else { vec![Vec::new(); self.topics.len() + 1] };
        for (place, is_terminal, event) in std::mem::take(&mut self.kept) {
            self.keep(place, is_terminal, event, missing_to, &mut counts);
        }
        // It holds only if nothing but what was left out on purpose is missing.
        let unsaved =
            self.unsaved.take().filter(|unsaved| unsaved.before == oldest && !self.damage.is_damaged);
        let mut lasts = vec![Vec::new(); self.topics.len() + 1];
        for (place, bit, seq) in unsaved.map(|unsaved| unsaved.lasts).unwrap_or_default() {
            if let Some(lasts) = lasts.get_mut(place as usize) {
                lasts.push((bit, seq));
            }
        }
        let all = std::iter::once(&mut self.head.all);
        let of_topics = self.topics.iter_mut().map(|topic| topic.as_mut().map(|topic| &mut topic.log));
        for (place, log) in all.map(Some).chain(of_topics).enumerate() {
            let Some(log) = log else { continue };
            let base = heads.get(place).copied().unwrap_or(log.head);
            lose(log, base, missing_to, &counts[place], &lasts[place]);
        }
        let missing_topics = self.topics.iter().filter(|topic| topic.is_none()).count();
        if missing_topics > 0 {
            self.head.dropped_floor = self.head.seq;
        }
        Restored {
            head: self.head,
            topics: self.topics,
            batches: self.batches,
            missing_to,
            damage: Damage { topics: missing_topics, events: missing, ..self.damage },
        }
    }

    /// By place and type: how many events were read.
    fn counts(&self) -> Vec<Vec<(u8, u64)>> {
        let mut counts: Vec<Vec<(u8, u64)>> = vec![Vec::new(); self.topics.len() + 1];
        for batch in &self.batches {
            for run in &batch.part.runs {
                let counts = &mut counts[run.topic as usize];
                for &bit in &batch.part.bits[run.first as usize..(run.first + run.count) as usize] {
                    count(counts, bit);
                }
            }
        }
        counts
    }

    /// Takes in an event that its job keeps: it is not lost with its batch.
    fn keep(
        &mut self,
        place: u32,
        is_terminal: bool,
        event: EventPart,
        missing_to: u64,
        counts: &mut [Vec<(u8, u64)>],
    ) {
        let place = place as usize;
        let topic = place.checked_sub(1).and_then(|at| self.topics.get_mut(at)).and_then(Option::as_mut);
        let Some(topic) = topic.filter(|_| event.seq <= missing_to) else {
            return;
        };
        let kept = &mut topic.kept[usize::from(is_terminal)];
        if kept.is_none() {
            count(&mut counts[place], event.bit);
            *kept = Some(event);
        }
    }
}

fn count(counts: &mut Vec<(u8, u64)>, bit: u8) {
    match counts.iter_mut().find(|(of, _)| *of == bit) {
        Some((_, count)) => *count += 1,
        None => counts.push((bit, 1)),
    }
}

/// Makes the log begin at `base`, and counts as lost what it had and was not `found` again. The last number lost of
/// each type is in `lasts`; else it is the last possible one.
fn lose(log: &mut LogPart, base: u64, missing_to: u64, found: &[(u8, u64)], lasts: &[(u8, u64)]) {
    if base == log.base {
        return;
    }
    let last_possible = missing_to.min(log.last_seq);
    log.base = base;
    log.base_seq = last_possible;
    for &(bit, there) in &log.there {
        let found = found.iter().find(|(of, _)| *of == bit).map_or(0, |&(_, count)| count);
        let count = there.saturating_sub(found);
        if count == 0 {
            continue;
        }
        let last = lasts.iter().find(|(of, _)| *of == bit);
        let last_seq = last.map_or(last_possible, |&(_, seq)| seq.min(last_possible));
        match log.lost.iter_mut().find(|lost| lost.bit == bit) {
            Some(lost) => {
                lost.count += count;
                lost.last_seq = lost.last_seq.max(last_seq);
            }
            None => log.lost.push(Lost { bit, count, last_seq }),
        }
    }
}

fn is_topic_possible(topic: &TopicPart) -> bool {
    let log = &topic.log;
    log.base <= log.head && topic.kept.iter().flatten().all(is_event_possible)
}

fn is_event_possible(event: &EventPart) -> bool {
    event.bit < OVERFLOW_BIT || (event.bit == OVERFLOW_BIT && event.kind.is_some())
}

/// Whether the batch is free of contradictions and ends before the number `before`.
fn is_batch_possible(part: &BatchPart, bytes: &[u8], before: u64) -> bool {
    let count = part.ends.len();
    let events = count as u32;
    let is_run_possible =
        |run: &RunPart| run.count > 0 && run.first.checked_add(run.count).is_some_and(|end| end <= events);
    let is_whole = part.runs.first().is_some_and(|run| (run.topic, run.first, run.count) == (0, 0, events));
    let overflowing = part.bits.iter().enumerate().filter(|&(_, &bit)| bit == OVERFLOW_BIT);
    count > 0
        && part.bits.len() == count
        && part.bits.iter().all(|&bit| bit <= OVERFLOW_BIT)
        && part.ends.is_sorted_by(|end, next| end < next)
        && part.ends[0] >= 2
        && part.ends[count - 1] as usize == bytes.len()
        && part.first_seq.checked_add(count as u64).is_some_and(|end| end <= before)
        && is_whole
        && part.runs[1..].iter().all(|run| run.topic != 0 && is_run_possible(run))
        && overflowing.map(|(event, _)| event as u32).eq(part.kinds.iter().map(|(event, ..)| *event))
}
