//! Puts what was read into the sequencer and the directory, before other threads use them.

use std::sync::Arc;

use super::RUNS_MAX;
use super::load::{BatchRead, Restored};
use super::parts::{EventPart, LogPart, RunPart, RunSpan, TopicPart};
use crate::stream::batch::{Batch, Overflow, Run};
use crate::stream::directory::EarlierRuns;
use crate::stream::dropped::Dropped;
use crate::stream::holes::{Hole, Holes};
use crate::stream::now::Now;
use crate::stream::sequencer::Sequencer;
use crate::stream::silence::Standing;
use crate::stream::topic::{Handle, Keep, Log, Topic, TopicKind};
use crate::stream::topic_key::{FlowKey, JobKey, TopicKey};

impl Restored {
    /// What the directory has to know of earlier runs. This run begins behind the number `run_start`.
    pub fn earlier_runs(&self, run_start: u64) -> EarlierRuns {
        let mut runs = self.head.runs.clone();
        if let Some(last) = runs.last_mut() {
            last.end = self.head.seq;
        }
        runs.push(RunSpan::begun(run_start, self.head.all.head));
        runs.drain(..runs.len().saturating_sub(RUNS_MAX));
        let dropped = Dropped::restore(self.head.dropped_floor, &self.head.dropped);
        let holes = Holes::restore(self.head.holes.clone());
        EarlierRuns { runs, holes, dropped, missing_to: self.missing_to, is_shared: false }
    }
}

impl Sequencer {
    /// Continues where the run before ended. Nothing has been taken in yet, and there are no watchers. `now.millis` is
    /// well beyond any time that topics may have been silent.
    pub fn restore(&mut self, restored: Restored, now: Now) {
        for (kind, inner) in &restored.head.types {
            self.directory.types.bit(kind, inner.as_deref());
        }
        let away_millis = restored.away_millis(now.unix_micros);
        let Restored { head, topics, batches, .. } = restored;
        let mut keys = vec![TopicKey::ALL];
        let is_staying = self.choose(&topics);
        for (topic, is_staying) in topics.into_iter().zip(is_staying) {
            let key = topic.map(|topic| match is_staying {
                true => self.restore_topic(topic, away_millis, now, &keys),
                false => {
                    let kind = if is_flow(&topic) { TopicKind::Flow } else { TopicKind::Job };
                    self.directory.dropped.note(kind, &topic.name, topic.last_seq);
                    TopicKey::NONE
                }
            });
            keys.push(key.unwrap_or(TopicKey::NONE));
        }
        self.all_next_at = head.all.head;
        self.history.add(head.holes.holes.len() * size_of::<Hole>());
        self.history.sub(self.directory.holes.forget(head.all.base_seq));
        restore_log(&mut self.directory.all.log.lock(), head.all);
        for batch in batches.into_iter().rev() {
            self.restore_batch(batch, &keys);
        }
        while self.history.is_over(0) {
            self.evict();
        }
    }

    /// Which topics there is room for: flows first, then the jobs silent for the shortest time.
    fn choose(&self, topics: &[Option<TopicPart>]) -> Vec<bool> {
        let topics_max = self.directory.topics_max();
        let flows = topics.iter().flatten().filter(|&topic| is_flow(topic)).count().min(topics_max);
        let jobs = self.limits.jobs_max.min(topics_max - flows);
        let mut by_silence: Vec<usize> = (0..topics.len()).filter(|&place| topics[place].is_some()).collect();
        by_silence.sort_by_key(|&place| topics[place].as_ref().map(|topic| topic.silent_millis));
        let mut is_staying = vec![false; topics.len()];
        let mut left = [jobs, flows];
        for place in by_silence {
            let left = &mut left[usize::from(topics[place].as_ref().is_some_and(is_flow))];
            is_staying[place] = *left > 0;
            *left = left.saturating_sub(1);
        }
        is_staying
    }

    fn restore_topic(&mut self, part: TopicPart, away_millis: u64, now: Now, keys: &[TopicKey]) -> TopicKey {
        let names = if is_flow(&part) { [None, Some(&*part.name)] } else { [Some(&*part.name), None] };
        let [job, flow] = self.directory.know(names);
        let topic = job.or(flow).expect("one of them was asked for");
        let silent_millis = part.silent_millis.saturating_add(away_millis);
        self.topic_index.now_millis = now.millis.saturating_sub(silent_millis);
        let key = self.topic_index.enter(topic.clone(), part.standing);
        let entry = self.topic_index.entry_mut(key);
        entry.next_at = part.log.head;
        entry.last_seq = part.last_seq;
        entry.has_metrics = part.has_metrics;
        let flow =
            part.flow.and_then(|place| keys.get(place as usize)).filter(|&&flow| flow != TopicKey::NONE);
        if let Some(&flow) = flow {
            self.topic_index.join_flow(JobKey::new(key), FlowKey::new(flow));
        }
        if part.is_due {
            self.metrics_schedule.note_change(self.topic_index.entry_mut(key), now.millis);
        }
        let mut log = topic.log.lock();
        log.job = part.job;
        restore_log(&mut log, part.log);
        let places = [Keep::FirstStarted, Keep::LastTerminal];
        for (place, event) in places.into_iter().zip(part.kept) {
            let Some(event) = event else { continue };
            let copy = restore_event(event, &topic);
            log.kept[place as usize] = Some(copy.clone());
            self.history.add_kept(copy.cost());
            if !self.history.has_room_to_keep(0) {
                self.history.sub_kept(log.unkeep(place));
            }
        }
        key
    }

    fn restore_batch(&mut self, read: BatchRead, keys: &[TopicKey]) {
        let BatchRead { part, bytes } = read;
        let runs = part.runs.iter().filter_map(|run| {
            let topic = keys[run.topic as usize];
            (topic != TopicKey::NONE).then(|| restore_run(run, topic, &part.bits))
        });
        let runs: Vec<Run> = runs.collect();
        let mut names = String::new();
        let overflow = part.kinds.iter().map(|(event, kind, inner)| {
            names.push_str(kind);
            if let Some(inner) = inner {
                names.push('\0');
                names.push_str(inner);
            }
            Overflow { event: *event, end: names.len() as u32 }
        });
        let overflow = overflow.collect();
        let numbers = (part.first_seq, part.arrived_millis);
        let batch = Batch::of_parts(numbers, bytes, part.ends, part.bits, runs, (overflow, names));
        let batch = Arc::new(batch);
        for (index, run) in batch.runs().iter().enumerate() {
            let handle = Handle { batch: batch.clone(), run: index as u32 };
            let topic = match index {
                0 => self.directory.all.clone(),
                _ => self.topic_index.entry(run.topic).topic.clone(),
            };
            let grown = topic.log.lock().append(handle, &mut self.history.chunks);
            self.history.add(grown);
        }
        self.history.add_batch(&batch);
        // Evicted batch by batch, or a history smaller than before would need the memory of both for a while.
        while self.history.is_over(0) {
            self.evict();
        }
    }
}

fn is_flow(topic: &TopicPart) -> bool {
    topic.standing == Standing::Flow
}

/// Restores the log up to where the batches begin that are appended next.
fn restore_log(log: &mut Log, part: LogPart) {
    log.base = part.base;
    log.base_seq = part.base_seq;
    log.head = part.base;
    log.first_seq = part.first_seq;
    log.last_seq = part.last_seq;
    log.lost = part.lost.into();
}

fn restore_run(run: &RunPart, topic: TopicKey, bits: &[u8]) -> Run {
    let of_run = &bits[run.first as usize..(run.first + run.count) as usize];
    let types = of_run.iter().fold(0, |types, bit| types | 1 << bit);
    Run { topic, first: run.first, count: run.count, at: run.at, types }
}

fn restore_event(event: EventPart, topic: &Topic) -> Arc<Batch> {
    let (kind, inner) = event.kind.unwrap_or_default();
    let run = Run { topic: topic.key, first: 0, count: 1, at: event.at, types: 0 };
    Batch::of_event(&event.frame, event.seq, event.bit, (&kind, inner.as_deref()), run)
}
