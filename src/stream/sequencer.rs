//! The sequencer: numbers lines, makes frames of them, appends these to the logs, publishes, evicts.
//!
//! One thread runs it, the only writer. All that other threads can see happens in [`Sequencer::step`], one lock or one
//! store a step, so that a test can put other threads' work between any two steps.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::access::patterns::Patterns;
use crate::event::{METRICS_BIT, TypeLookup};
use crate::stream::batch::Batch;
use crate::stream::directory::Directory;
use crate::stream::history::History;
use crate::stream::holes::Hole;
use crate::stream::link::{Link, NOTHING_NEEDED, Shard};
use crate::stream::metrics_schedule::MetricsSchedule;
use crate::stream::now::Now;
use crate::stream::numbers::{DIGITS, SEQ_END, SEQ_MIN, digits_of};
use crate::stream::routing::{Finding, LifeMark, OpenRuns, Placing, release, time_of};
use crate::stream::silence::Standing;
use crate::stream::told::Told;
use crate::stream::topic::{Handle, Keep, TopicKind};
use crate::stream::topic_index::{SweepTimes, TopicIndex};
use crate::stream::topic_key::{JobKey, TopicKey};
use crate::wire::frame;
use crate::wire::line::{Control, Line, LineError, LineReader};

/// `{"stream_seq":`, the number, and a comma.
const MEMBER: &[u8] = b"{\"stream_seq\":";

/// Refused lines up to this length are kept, to report where they are at fault.
const REFUSED_BYTES_MAX: usize = 1 << 20;

pub struct Limits {
    pub history_bytes: usize,
    pub history_millis: u64,
    pub job_idle_millis: u64,
    /// 0: no `metrics` of the daemon's own.
    pub metrics_millis: u64,
    pub jobs_max: usize,
    pub depth_max: usize,
}

/// A line that was not refused.
pub enum Taken<'a> {
    /// It has the newest number now. Watchers see it once it is published.
    Event(u64),
    Control(Control<'a>),
}

/// What [`Sequencer::step`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Appended,
    Published,
    /// A batch was offered to a shard. If that sleeps, the caller wakes it.
    Offered {
        shard: usize,
        is_asleep: bool,
    },
    Evicted,
    /// All that was taken is published.
    Done,
}

/// What is to be published, in the order of numbers.
pub(super) enum Sealed {
    Batch(Arc<Batch>),
    Hole(Hole),
}

pub(super) enum Phase {
    Append { run: usize },
    Offer { shards: u64 },
    Evict,
}

pub struct Sequencer {
    pub(super) directory: Arc<Directory>,
    pub(super) links: Vec<Arc<Link>>,
    pub(super) reader: LineReader,
    pub(super) types: TypeLookup,
    pub topic_index: TopicIndex,
    pub(super) history: History,
    pub(super) metrics_schedule: MetricsSchedule,
    pub(super) limits: Limits,
    /// Index of the next event in the log of all.
    pub(super) all_next_at: u64,
    /// The newest number given, to an event or as the end of a hole.
    pub(super) seq: u64,
    /// The number before the next event's: `before >= seq`, and greater only where numbers jump.
    pub(super) before: u64,
    /// Its digits.
    pub(super) digits: [u8; DIGITS],
    /// Events published since the start.
    events: u64,
    /// The batch being filled: nobody else holds it yet.
    open: Option<Arc<Batch>>,
    open_runs: OpenRuns,
    pub(super) sealed: VecDeque<Sealed>,
    marks: Vec<LifeMark>,
    /// From this number on, the events of this turn are the daemon's own.
    pub(super) own_from: u64,
    /// All numbers come from a stream that daemons share: this one makes no events of its own.
    pub is_shared: bool,
    pub(super) told: Told,
    /// Jobs that were called lost and whose `metrics` are still to be made.
    pub(super) lost: Vec<JobKey>,
    pub(super) phase: Phase,
    now: Now,
    /// When the lines taken in were read, in microseconds since the daemon began, by the clock of all threads.
    pub read_micros: u64,
    /// At the last publishing, a shard was awake.
    pub met_awake_shard: bool,
    /// Events from this number on are not dropped, however large the history is (`overrun = wait`).
    pub keep_from: u64,
    /// The line refused last, as it came; empty if it was too long to keep.
    pub refused: Vec<u8>,
}

impl Sequencer {
    pub fn new(directory: Arc<Directory>, links: Vec<Arc<Link>>, limits: Limits) -> Self {
        let seq = directory.run_start;
        assert!((SEQ_MIN..SEQ_END).contains(&seq), "numbers have sixteen digits");
        Self {
            links,
            reader: LineReader::new(limits.depth_max),
            types: TypeLookup::new(),
            topic_index: TopicIndex::new(limits.jobs_max),
            history: History::new(limits.history_bytes),
            metrics_schedule: MetricsSchedule::new(limits.metrics_millis),
            all_next_at: 0,
            seq,
            before: seq,
            digits: digits_of(seq),
            events: 0,
            open: None,
            open_runs: OpenRuns::default(),
            sealed: VecDeque::new(),
            marks: Vec::new(),
            own_from: u64::MAX,
            is_shared: directory.is_shared,
            told: Told::default(),
            lost: Vec::new(),
            phase: Phase::Append { run: 0 },
            now: Now::default(),
            read_micros: 0,
            met_awake_shard: false,
            keep_from: NOTHING_NEEDED,
            refused: Vec::new(),
            limits,
            directory,
        }
    }

    /// The newest number that watchers may see.
    pub fn published(&self) -> u64 {
        self.directory.published()
    }

    /// The newest number given, to an event or as the end of a hole.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// How many events were published since the start. Their numbers do not tell that, since they may jump.
    pub fn events(&self) -> u64 {
        self.events
    }

    pub fn history(&self) -> &History {
        &self.history
    }

    /// What the whole history costs, in bytes, with the frames in the other dialect.
    pub fn history_bytes(&self) -> usize {
        self.history.used() + self.directory.dialect_bytes()
    }

    /// Events in the history, of all topics.
    pub fn history_events(&self) -> u64 {
        self.history.events()
    }

    /// When the oldest of them was read, in microseconds since the daemon began; 1 if that was in an earlier run. None:
    /// the history is empty.
    pub fn oldest_read_micros(&self) -> Option<u64> {
        let log = self.directory.all.log.lock();
        log.oldest().map(|handle| handle.batch.read_micros().unwrap_or(1))
    }

    /// Begins a turn that reads about `bytes` of lines.
    pub fn begin_turn(&mut self, now: Now, bytes: usize) {
        self.now = now;
        self.topic_index.now_millis = now.millis;
        if self.open.is_none() {
            // A frame is about 40 bytes longer than its line; lines shorter than 64 bytes are rare.
            let frames = bytes + (bytes / 64 + 1) * 40;
            self.open_batch(frames.min(self.history.batch_bytes_max()));
        }
    }

    fn open_batch(&mut self, bytes: usize) {
        let mut batch = self.history.take(bytes);
        let empty = Arc::get_mut(&mut batch).expect("nobody else holds a batch from the pool");
        empty.begin(self.before + 1);
        empty.set_read_at(self.read_micros, self.now.unix_micros.max(0) as u64 / 1000);
        self.open = Some(batch);
        self.open_runs = OpenRuns::default();
    }

    /// Closes the open batch and gives its runs their places in the logs.
    pub(super) fn seal(&mut self) {
        let Some(mut batch) = self.open.take() else {
            return;
        };
        if batch.is_empty() {
            self.history.give_back(batch);
            return;
        }
        let open = Arc::get_mut(&mut batch).expect("nobody else holds an open batch");
        for run in open.runs_mut() {
            let next_at = match self.topic_index.find_mut(run.topic) {
                _ if run.topic == TopicKey::ALL => &mut self.all_next_at,
                Some(entry) => &mut entry.next_at,
                None => continue,
            };
            run.at = *next_at;
            *next_at += u64::from(run.count);
        }
        self.sealed.push_back(Sealed::Batch(batch));
    }

    /// Takes one trimmed line, `block[..length]`, with [`crate::wire::line::PADDING`] bytes behind it. The block may be
    /// edited.
    pub fn take_line<'a>(&'a mut self, block: &'a mut [u8], length: usize) -> Result<Taken<'a>, LineError> {
        self.take_line_for(block, length, None)
    }

    /// The same, if its publisher may publish for its job and flow. `covered`: those that it may publish for; None: all.
    pub fn take_line_for<'a>(
        &'a mut self,
        block: &'a mut [u8],
        length: usize,
        covered: Option<&Patterns>,
    ) -> Result<Taken<'a>, LineError> {
        let object = MEMBER.len() + DIGITS + length;
        let frame = frame::header_length(object) + object;
        self.make_room(frame);
        let next = self.next_digits();
        let batch = Arc::get_mut(self.open.as_mut().expect("room was made"))
            .expect("nobody else holds an open batch");
        let buffer = batch.buffer();
        frame::write_header(buffer, frame::TEXT, object);
        buffer.extend_from_slice(MEMBER);
        buffer.extend_from_slice(&next);
        buffer.push(b',');
        let (text, first) = (buffer.len(), block[..length].first().copied());
        buffer.extend_from_slice(&block[1.min(length)..length]);
        let line = match self.reader.read(block, length, &buffer[text..]) {
            Ok(Line::Event(fields)) => fields,
            Ok(Line::Control(control)) => {
                // The caller may still refuse it.
                note_refused(&mut self.refused, first, &buffer[text..]);
                batch.take_back();
                return Ok(Taken::Control(control));
            }
            Err(error) => {
                note_refused(&mut self.refused, first, &buffer[text..]);
                batch.take_back();
                return Err(error);
            }
        };
        let place = Placing {
            finding: Finding {
                directory: &self.directory,
                topic_index: &mut self.topic_index,
                history: &mut self.history,
                told: if self.is_shared { Some(&mut self.told) } else { None },
                seq: self.before + 1,
            },
            types: &mut self.types,
            marks: &mut self.marks,
            runs: &mut self.open_runs,
            now: self.now,
            covered,
        };
        if let Err(error) = place.place(batch, &line) {
            note_refused(&mut self.refused, first, &batch.buffer()[text..]);
            batch.take_back();
            return Err(error);
        }
        self.before += 1;
        self.seq = self.before;
        self.digits = next;
        Ok(Taken::Event(self.seq))
    }

    fn make_room(&mut self, frame: usize) {
        let has_room = self.open.as_ref().is_some_and(|batch| batch.room() >= frame);
        if has_room {
            return;
        }
        // The rest of this turn is likely as long as what came so far.
        let used = self.open.as_ref().map_or(0, |batch| batch.bytes().len());
        self.seal();
        self.open_batch(frame.max(used.min(self.history.batch_bytes_max())));
    }

    /// Ends the turn: what it took in can be published, step by step.
    pub fn end_turn(&mut self) {
        self.seal();
        // A turn that took nothing may evict too: it may have filled the pool, and shards add frames in the other
        // dialect.
        self.phase = Phase::Evict;
        self.met_awake_shard = false;
    }

    /// Takes the next step of publishing what was taken in: one lock or one store.
    pub fn step(&mut self) -> Step {
        match self.phase {
            Phase::Append { run } => {
                let batch = match self.sealed.front() {
                    Some(Sealed::Batch(batch)) => batch.clone(),
                    Some(&Sealed::Hole(hole)) => return self.publish_hole(hole),
                    None => return self.finish(),
                };
                if run == batch.runs().len() {
                    self.directory.publish(batch.last_seq());
                    self.events += batch.len() as u64;
                    self.history.add_batch(&batch);
                    self.phase = Phase::Offer { shards: self.interested(&batch) };
                    return Step::Published;
                }
                self.append(&batch, run as u32);
                self.phase = Phase::Append { run: run + 1 };
                Step::Appended
            }
            Phase::Offer { shards: 0 } => {
                self.sealed.pop_front();
                self.phase = Phase::Evict;
                self.step()
            }
            Phase::Offer { shards } => {
                let shard = shards.trailing_zeros() as usize;
                self.phase = Phase::Offer { shards: shards & (shards - 1) };
                let is_asleep = match self.sealed.front() {
                    Some(Sealed::Batch(batch)) => self.links[shard].offer(batch),
                    Some(Sealed::Hole(_)) => self.links[shard].ask_for_scan(),
                    None => panic!("it is offered before it leaves the queue"),
                } == Shard::Asleep;
                self.met_awake_shard |= !is_asleep;
                Step::Offered { shard, is_asleep }
            }
            Phase::Evict => {
                if !self.history.is_over(self.directory.dialect_bytes()) || self.is_oldest_needed() {
                    self.phase = Phase::Append { run: 0 };
                    return self.step();
                }
                self.evict();
                Step::Evicted
            }
        }
    }

    /// Whether the next step may drop something.
    pub(super) fn may_evict_next(&self) -> bool {
        matches!(self.phase, Phase::Evict | Phase::Offer { shards: 0 })
    }

    fn finish(&mut self) -> Step {
        self.marks.clear();
        self.own_from = u64::MAX;
        self.directory.sub_dialect_bytes(self.history.take_dialect_freed());
        Step::Done
    }

    /// The shards that watch one of the batch's topics. Read after the number is published, see
    /// `Topic::set_interest`.
    fn interested(&self, batch: &Batch) -> u64 {
        let shards = batch.runs()[1..].iter().filter_map(|run| {
            let entry = self.topic_index.find(run.topic)?;
            Some(entry.topic.shards())
        });
        shards.fold(self.directory.all.shards(), |all, shards| all | shards)
    }

    fn append(&mut self, batch: &Arc<Batch>, index: u32) {
        let run = batch.runs()[index as usize];
        let handle = Handle { batch: batch.clone(), run: index };
        if run.topic == TopicKey::ALL {
            let grown = self.directory.all.log.lock().append(handle, &mut self.history.chunks);
            self.history.add(grown);
            return;
        }
        // A topic may have been dropped between its line and now, to make room for others.
        let Some(entry) = self.topic_index.find_mut(run.topic) else {
            return;
        };
        let topic = entry.topic.clone();
        if topic.kind == TopicKind::Job && run.types != 1 << METRICS_BIT {
            self.metrics_schedule.note_change(entry, self.now.millis);
        }
        let mut log = topic.log.lock();
        let grown = log.append(handle, &mut self.history.chunks);
        self.history.add(grown);
        if batch.seq(run.first) >= self.own_from {
            // The daemon's own events are no sign of life of the job.
            return;
        }
        let standing = match topic.kind {
            TopicKind::Job => {
                let mut job = log.job;
                for event in run.first..run.first + run.count {
                    let meaning = self.types.meaning(batch.bit(event));
                    if meaning.is_terminal() {
                        self.history.sub_kept(log.unkeep(Keep::LastTerminal));
                    }
                    let seq = batch.seq(event);
                    let is_first = run.at == 0 && event == run.first;
                    job.fold(meaning, seq, is_first, time_of(&self.marks, seq, self.now));
                }
                log.job = job;
                Standing::of(&job)
            }
            _ => Standing::Flow,
        };
        drop(log);
        self.topic_index.touch(run.topic, standing);
    }

    /// Drops the oldest batch from every log that has it.
    pub(super) fn evict(&mut self) {
        let all = self.directory.all.clone();
        let oldest = all.log.lock().oldest().expect("the history has batches").clone();
        let batch = oldest.batch;
        for (index, run) in batch.runs().iter().enumerate() {
            if index == 0 {
                let shrunk = all.log.lock().evict(&batch, run, [0, 0], &mut self.history.chunks);
                self.history.sub(shrunk);
                continue;
            }
            let Some(entry) = self.topic_index.find(run.topic) else {
                continue;
            };
            let mut log = entry.topic.log.lock();
            let mut kept = [0, 0];
            if entry.topic.kind == TopicKind::Job {
                kept = [
                    (Keep::FirstStarted, log.job.first_started_seq),
                    (Keep::LastTerminal, log.job.last_terminal_seq),
                ]
                .map(|(place, seq)| self.history.keep(&mut log, &batch, run, place, seq));
            }
            let shrunk = log.evict(&batch, run, kept, &mut self.history.chunks);
            self.history.sub(shrunk);
        }
        self.history.sub(self.directory.holes.forget(batch.last_seq()));
        self.history.remove_batch(batch);
        self.directory.sub_dialect_bytes(self.history.take_dialect_freed());
    }

    /// Drops the topics whose time is over, and calls jobs lost that were silent for too long.
    pub fn sweep(&mut self, now: Now) {
        let ended_before = now.millis.saturating_sub(self.limits.history_millis);
        let idle_before = now.millis.saturating_sub(self.limits.job_idle_millis);
        let lost_before = ended_before.saturating_sub(self.limits.job_idle_millis);
        let history = &mut self.history;
        let times = SweepTimes { ended_before, idle_before, lost_before };
        let lost = self.topic_index.sweep(&self.directory, times, &mut |topic| release(history, topic));
        for key in lost {
            if let Some(entry) = self.topic_index.find(key.into()) {
                entry.topic.log.lock().job.lose(now.unix_micros);
                // With numbers from elsewhere, there is none for an event that says so.
                if !self.is_shared {
                    self.lost.push(key);
                }
            }
        }
    }
}

/// Keeps a refused line, to be reported.
#[cold]
fn note_refused(refused: &mut Vec<u8>, first: Option<u8>, rest: &[u8]) {
    refused.clear();
    if rest.len() < REFUSED_BYTES_MAX {
        refused.extend(first);
        refused.extend_from_slice(rest);
    }
}
