//! A topic (a job, a flow, or everything) and its log: the ring of handles to frames that were serialised once. A
//! watcher is a cursor into it.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::event::{Meaning, TypeMask};
use crate::stream::batch::{Batch, Run};
use crate::stream::jobs::JobFold;
use crate::stream::topic_key::TopicKey;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TopicKind {
    /// Every event of the daemon. There is one, in slot 0.
    All,
    Job,
    Flow,
}

/// A topic's log entry: names a run of adjacent events in a batch.
#[derive(Clone, Debug)]
pub struct Handle {
    pub batch: Arc<Batch>,
    pub run: u32,
}

impl Handle {
    pub fn run(&self) -> &Run {
        &self.batch.runs()[self.run as usize]
    }

    pub fn last_seq(&self) -> u64 {
        let run = self.run();
        self.batch.seq(run.first + run.count - 1)
    }
}

/// What a topic's log has lost of one type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    pub bit: u8,
    pub count: u64,
    pub last_seq: u64,
}

/// Handles in a chunk, at most: a few KiB, so that a log never moves much memory under its lock.
const CHUNK_HANDLES_MAX: usize = 256;
const CHUNK_HANDLES_MIN: usize = 4;

#[derive(Debug)]
struct Chunk {
    types: TypeMask,
    handles: VecDeque<Handle>,
}

/// Emptied chunks for reuse, in one list for each size; and the emptied rings that held the chunks of a log.
#[derive(Default)]
pub struct ChunkPool {
    spare: [Vec<VecDeque<Handle>>; CHUNK_SIZES],
    spare_rings: Vec<VecDeque<Chunk>>,
}

/// Chunks of 4, 16, 64 and 256 handles.
const CHUNK_SIZES: usize = 4;
/// Handles in spare chunks of one size, at most: 256 KiB.
const SPARE_HANDLES_MAX: usize = 16 << 10;
/// Spare rings, and the chunks that one has room for, at most: 192 KiB.
const SPARE_RINGS_MAX: usize = 256;
const RING_CHUNKS_MAX: usize = 16;

impl ChunkPool {
    fn take(&mut self, capacity: usize) -> VecDeque<Handle> {
        let spare = size_class(capacity).and_then(|class| self.spare[class].pop());
        spare.unwrap_or_else(|| VecDeque::with_capacity(capacity))
    }

    fn give(&mut self, handles: VecDeque<Handle>) {
        if let Some(class) = size_class(handles.capacity())
            && self.spare[class].len() * handles.capacity() < SPARE_HANDLES_MAX
        {
            self.spare[class].push(handles);
        }
    }

    /// Most logs that are not empty have one chunk.
    fn take_ring(&mut self) -> VecDeque<Chunk> {
        self.spare_rings.pop().unwrap_or_else(|| VecDeque::with_capacity(1))
    }

    fn give_ring(&mut self, ring: VecDeque<Chunk>) {
        if self.spare_rings.len() < SPARE_RINGS_MAX && ring.capacity() <= RING_CHUNKS_MAX {
            self.spare_rings.push(ring);
        }
    }
}

fn size_class(capacity: usize) -> Option<usize> {
    (0..CHUNK_SIZES).find(|&class| CHUNK_HANDLES_MIN << (2 * class) == capacity)
}

/// The events that a topic has, by absolute index: `base..head`. There are as many logs as jobs, and most are empty: an
/// empty log owns no memory for events.
#[derive(Debug, Default)]
pub struct Log {
    /// No chunk is empty.
    chunks: VecDeque<Chunk>,
    /// Index of the first event that is still in the log; `base <= head`.
    pub(super) base: u64,
    /// Number of the event before that one, 0 if there was none.
    pub(super) base_seq: u64,
    /// Index right behind the newest event.
    pub(super) head: u64,
    /// Number of the event with index 0, 0 before there is one.
    pub(super) first_seq: u64,
    pub(super) last_seq: u64,
    /// What the log has lost, by type, without the kept events.
    pub(super) lost: Box<[Lost]>,
    /// The kept events: a job's first `job_started` and latest terminal event, each in a batch of its own, once the log
    /// has lost them.
    pub(super) kept: [Option<Arc<Batch>>; 2],
    pub job: JobFold,
}

impl Log {
    pub fn base(&self) -> u64 {
        self.base
    }

    /// Number of the last event that the log has lost, 0 if there was none.
    pub fn base_seq(&self) -> u64 {
        self.base_seq
    }

    pub fn head(&self) -> u64 {
        self.head
    }

    pub fn first_seq(&self) -> Option<u64> {
        (self.first_seq > 0).then_some(self.first_seq)
    }

    /// Number of the newest event, 0 before the first.
    pub fn last_seq(&self) -> u64 {
        self.last_seq
    }

    /// What the log's own structure costs in memory, in bytes: chunks by capacity.
    pub fn cost(&self) -> usize {
        let chunks: usize = self.chunks.iter().map(|chunk| chunk.handles.capacity()).sum();
        chunks * size_of::<Handle>()
    }

    /// Appends a run. Returns the bytes that the log grew by.
    pub fn append(&mut self, handle: Handle, pool: &mut ChunkPool) -> usize {
        let run = *handle.run();
        assert_eq!(run.at, self.head, "runs are appended in order");
        if self.first_seq == 0 {
            self.first_seq = handle.batch.seq(run.first);
        }
        self.head = run.end();
        self.last_seq = handle.last_seq();
        let mut grown = 0;
        if self.chunks.back().is_none_or(|chunk| chunk.handles.len() == chunk.handles.capacity()) {
            if self.chunks.is_empty() {
                self.chunks = pool.take_ring();
            }
            let last = self.chunks.back().map_or(0, |chunk| chunk.handles.capacity());
            let capacity = (last * 4).clamp(CHUNK_HANDLES_MIN, CHUNK_HANDLES_MAX);
            self.chunks.push_back(Chunk { types: 0, handles: pool.take(capacity) });
            grown = capacity * size_of::<Handle>();
        }
        let chunk = self.chunks.back_mut().expect("a chunk with room was just added");
        chunk.types |= run.types;
        chunk.handles.push_back(handle);
        grown
    }

    /// Drops the oldest run, which is `run` of `batch`, and notes its events as lost, except those with the numbers
    /// `kept`. Returns the bytes that the log shrank by.
    pub fn evict(&mut self, batch: &Batch, run: &Run, kept: [u64; 2], pool: &mut ChunkPool) -> usize {
        let chunk = self.chunks.front_mut().expect("the oldest batch still has its handle in the log");
        let handle = chunk.handles.pop_front().expect("no chunk is empty");
        assert_eq!(handle.batch.first_seq(), batch.first_seq(), "log and history lose the same batch");
        let last = run.first + run.count - 1;
        self.base = run.end();
        self.base_seq = batch.seq(last);
        let keeps_any = kept.iter().any(|seq| (batch.seq(run.first)..=batch.seq(last)).contains(seq));
        if run.types.is_power_of_two() && !keeps_any {
            self.note_lost(batch.bit(last), u64::from(run.count), batch.seq(last));
        } else {
            for event in (run.first..=last).filter(|&event| !kept.contains(&batch.seq(event))) {
                self.note_lost(batch.bit(event), 1, batch.seq(event));
            }
        }
        if self.chunks.front().is_some_and(|chunk| !chunk.handles.is_empty()) {
            return 0;
        }
        let chunk = self.chunks.pop_front().expect("it was just looked at");
        let bytes = chunk.handles.capacity() * size_of::<Handle>();
        pool.give(chunk.handles);
        if self.chunks.is_empty() {
            pool.give_ring(mem::take(&mut self.chunks));
        }
        bytes
    }

    pub(super) fn note_lost(&mut self, bit: u8, count: u64, last_seq: u64) {
        match self.lost.iter_mut().find(|lost| lost.bit == bit) {
            Some(lost) => {
                lost.count += count;
                lost.last_seq = lost.last_seq.max(last_seq);
            }
            None => self.note_first_lost(Lost { bit, count, last_seq }),
        }
    }

    /// Once for each type and log, so the room is exact.
    #[cold]
    fn note_first_lost(&mut self, lost: Lost) {
        self.lost = self.lost.iter().copied().chain([lost]).collect();
    }

    /// The oldest run.
    pub fn oldest(&self) -> Option<&Handle> {
        self.chunks.front()?.handles.front()
    }

    /// Handles from the oldest on.
    pub fn handles(&self) -> impl Iterator<Item = &Handle> {
        self.chunks.iter().flat_map(|chunk| &chunk.handles)
    }

    /// Drops every handle. Returns the bytes that the log shrank by.
    pub fn clear(&mut self) -> usize {
        let bytes = self.cost();
        self.chunks.clear();
        self.base = self.head;
        self.base_seq = self.last_seq;
        self.kept = [None, None];
        bytes
    }

    /// What the log has lost, by type, without the kept events.
    pub fn lost(&self) -> &[Lost] {
        &self.lost
    }

    /// Index of the first event still in the log with a number greater than `seq`; `head` if there is none.
    pub fn index_after(&self, seq: u64) -> u64 {
        let Some(handle) = self.first_handle(|handle| handle.last_seq() <= seq) else { return self.head };
        let run = handle.run();
        run.at + (seq + 1).saturating_sub(handle.batch.seq(run.first))
    }

    /// The greatest number up to `seq` that no batch begins before and ends behind.
    pub fn whole_to(&self, seq: u64) -> u64 {
        let next = self.first_handle(|handle| handle.last_seq() <= seq);
        next.map_or(seq, |handle| seq.min(handle.batch.first_seq() - 1))
    }

    /// Number of the event at `index`, if the log has it.
    pub fn seq_at(&self, index: u64) -> Option<u64> {
        if index < self.base {
            return None;
        }
        let handle = self.first_handle(|handle| handle.run().end() <= index)?;
        let run = handle.run();
        Some(handle.batch.seq(run.first + (index - run.at) as u32))
    }

    fn first_handle(&self, passed: impl Fn(&Handle) -> bool) -> Option<&Handle> {
        let chunk = self.chunks.get(self.first_chunk(&passed))?;
        chunk.handles.get(chunk.handles.partition_point(passed))
    }

    /// The first chunk whose last handle is not `passed`.
    fn first_chunk(&self, passed: impl Fn(&Handle) -> bool) -> usize {
        let passed = |chunk: &Chunk| chunk.handles.back().is_none_or(&passed);
        match self.chunks.len().checked_sub(2) {
            // A watcher is nearly always near the head.
            Some(near) if passed(&self.chunks[near]) => near + 1,
            _ => self.chunks.partition_point(passed),
        }
    }

    /// Copies at most `max` handles with a bit of `types`, in order: from the event at `index` (`base <= index`) up to
    /// the number `tail`. Looks at a bounded number of handles.
    pub fn copy(&self, index: u64, tail: u64, types: TypeMask, max: usize, into: &mut Vec<Handle>) -> Copied {
        let mut copied = Copied { index, seq: 0, is_all: true };
        if index >= self.head {
            return copied;
        }
        let mut looks = 0;
        let first_chunk = self.first_chunk(|handle| handle.run().end() <= index);
        for chunk in self.chunks.range(first_chunk..) {
            let last = &chunk.handles[chunk.handles.len() - 1];
            if chunk.types & types == 0 && last.last_seq() <= tail {
                copied.pass(last);
                continue;
            }
            for handle in chunk.handles.range(first_handle_beyond(chunk, index)..) {
                if handle.batch.first_seq() > tail {
                    return copied;
                }
                looks += 1;
                if into.len() == max || looks > LOOKS_MAX {
                    copied.is_all = false;
                    return copied;
                }
                copied.pass(handle);
                if handle.run().types & types != 0 {
                    into.push(handle.clone());
                }
            }
        }
        copied
    }

    /// Calls `visit` with handles that have a bit of `types`, from the event before `index` backwards, while it returns
    /// true and `looks` are left. Passing a chunk or a handle costs a look. Returns the index from which on all handles
    /// were passed; a handle for which `visit` returned false was not.
    pub fn walk_back(
        &self,
        index: u64,
        types: TypeMask,
        looks: &mut u32,
        mut visit: impl FnMut(&Handle, &mut u32) -> bool,
    ) -> u64 {
        let mut passed = index;
        let is_before = |handle: &Handle| handle.run().at < index;
        let chunks = self.chunks.partition_point(|chunk| chunk.handles.front().is_some_and(is_before));
        for chunk in self.chunks.range(..chunks).rev() {
            if *looks == 0 {
                return passed;
            }
            *looks -= 1;
            if chunk.types & types == 0 {
                passed = chunk.handles[0].run().at;
                continue;
            }
            let handles = chunk.handles.partition_point(is_before);
            for handle in chunk.handles.range(..handles).rev() {
                if *looks == 0 {
                    return passed;
                }
                *looks -= 1;
                if handle.run().types & types != 0 && !visit(handle, looks) {
                    return passed;
                }
                passed = handle.run().at;
            }
        }
        passed
    }

    /// Keeps a copy of an event that the log is about to lose. Returns the bytes of the kept event that it replaces.
    pub fn keep(&mut self, place: Keep, copy: Arc<Batch>) -> usize {
        let freed = self.unkeep(place);
        self.kept[place as usize] = Some(copy);
        freed
    }

    /// Drops a kept event, which counts as lost from now on. Returns the bytes that it cost.
    pub fn unkeep(&mut self, place: Keep) -> usize {
        let Some(copy) = self.kept[place as usize].take() else {
            return 0;
        };
        self.note_lost(copy.bit(0), 1, copy.first_seq());
        copy.cost()
    }

    /// The kept events with a number beyond `seq`, oldest first.
    pub fn kept_after(&self, seq: u64) -> impl Iterator<Item = Handle> {
        let [first, last] =
            self.kept.each_ref().map(|copy| copy.as_ref().map_or(u64::MAX, |copy| copy.first_seq()));
        let order = if first <= last { [0, 1] } else { [1, 0] };
        let kept = order.into_iter().filter_map(|place| self.kept[place].as_ref());
        let beyond = kept.filter(move |copy| copy.first_seq() > seq);
        beyond.map(|copy| Handle { batch: copy.clone(), run: 0 })
    }

    /// What the kept events cost in bytes.
    pub fn kept_cost(&self) -> usize {
        self.kept.iter().flatten().map(|copy| copy.cost()).sum()
    }
}

/// Which of a job's events stays as long as the job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    FirstStarted = 0,
    LastTerminal = 1,
}

impl Keep {
    pub fn of(meaning: Meaning) -> Option<Keep> {
        match meaning {
            Meaning::Started => Some(Keep::FirstStarted),
            meaning if meaning.is_terminal() => Some(Keep::LastTerminal),
            _ => None,
        }
    }
}

/// How far [`Log::copy`] came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copied {
    /// Index right behind the last event passed.
    pub index: u64,
    /// Number of the last event passed, 0 if there was none.
    pub seq: u64,
    /// Nothing is left up to the tail.
    pub is_all: bool,
}

impl Copied {
    fn pass(&mut self, handle: &Handle) {
        self.index = handle.run().end();
        self.seq = handle.last_seq();
    }
}

/// Handles that one search under the lock looks at, at most: some microseconds.
const LOOKS_MAX: usize = 2048;

fn first_handle_beyond(chunk: &Chunk, index: u64) -> usize {
    let count = chunk.handles.len();
    // Near the head a few steps back are cheaper than a search.
    let mut place = count;
    for _ in 0..8 {
        if place == 0 || chunk.handles[place - 1].run().end() <= index {
            return place;
        }
        place -= 1;
    }
    chunk.handles.partition_point(|handle| handle.run().end() <= index)
}

/// A job, a flow, or everything.
pub struct Topic {
    pub key: TopicKey,
    pub kind: TopicKind,
    pub name: Box<str>,
    /// An event has named it; until then it exists for its watchers only. Changed under the directory's lock.
    is_known: AtomicBool,
    /// One bit per shard that has watchers. The sequencer reads it after storing the published number; a shard sets it
    /// before loading that number. So one of the two always sees the other.
    shards: AtomicU64,
    /// Watchers, over all shards. Changed under the directory's lock.
    pub watchers: AtomicU32,
    pub log: Mutex<Log>,
}

impl Topic {
    pub fn new(key: TopicKey, kind: TopicKind, name: Box<str>) -> Self {
        Self {
            key,
            kind,
            name,
            is_known: AtomicBool::new(kind == TopicKind::All),
            shards: AtomicU64::new(0),
            watchers: AtomicU32::new(0),
            log: Mutex::default(),
        }
    }

    pub fn is_known(&self) -> bool {
        self.is_known.load(Ordering::Relaxed)
    }

    pub(super) fn set_known(&self) {
        self.is_known.store(true, Ordering::Relaxed);
    }

    pub fn shards(&self) -> u64 {
        self.shards.load(Ordering::SeqCst)
    }

    pub fn set_interest(&self, shard: usize) {
        self.shards.fetch_or(1 << shard, Ordering::SeqCst);
    }

    pub fn clear_interest(&self, shard: usize) {
        self.shards.fetch_and(!(1 << shard), Ordering::SeqCst);
    }

    pub fn watcher_count(&self) -> u32 {
        self.watchers.load(Ordering::Acquire)
    }

    pub fn is_watched(&self) -> bool {
        self.watcher_count() > 0
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{ChunkPool, Handle, Log, Topic};
    use crate::stream::batch::{Batch, Run};
    use crate::stream::topic_key::TopicKey;

    /// A batch with the event at index `at` of a topic.
    fn batch(at: u64) -> Arc<Batch> {
        let mut batch = Batch::default();
        batch.begin(100 + at);
        batch.push(0, "tick", None);
        let run = batch.extend_run(None, TopicKey { slot: 1, generation: 1 });
        batch.runs_mut()[run as usize].at = at;
        Arc::new(batch)
    }

    #[test]
    fn no_batch_is_cut_in_two() {
        let (mut log, mut pool) = (Log::default(), ChunkPool::default());
        assert_eq!(log.whole_to(150), 150);
        let mut batch = Batch::default();
        batch.begin(200);
        (0..3).for_each(|_| batch.push(0, "tick", None));
        log.append(Handle { batch: Arc::new(batch), run: 0 }, &mut pool);
        assert_eq!([199, 200, 201, 202, 300].map(|seq| log.whole_to(seq)), [199, 199, 199, 202, 300]);
    }

    #[test]
    fn a_log_without_events_owns_nothing_for_them() {
        let mut pool = ChunkPool::default();
        let mut log = Log::default();
        for at in 0..3 {
            let batch = batch(at);
            log.append(Handle { batch: batch.clone(), run: 1 }, &mut pool);
            assert_eq!(log.chunks.capacity(), 1, "one chunk is enough for a few events");
            assert_eq!(pool.spare_rings.len(), 0);
            let run: Run = batch.runs()[1];
            log.evict(&batch, &run, [0, 0], &mut pool);
            assert_eq!(log.chunks.capacity(), 0);
            assert_eq!(pool.spare_rings.len(), 1, "the next event reuses it");
        }
        assert_eq!(log.lost().len(), 1);
        assert_eq!(log.lost()[0].count, 3);
    }

    /// A busy daemon knows a hundred thousand jobs. With the counts of an `Arc` and the allocator's own eight bytes, a
    /// topic takes 240 bytes; the next size is sixteen more.
    #[test]
    fn a_topic_is_small() {
        assert!(size_of::<Topic>() <= 216, "{} bytes", size_of::<Topic>());
    }
}
