//! A cursor into a topic's log: a watcher's place, what it is sent next and what it has missed. Its first place is
//! found in `start`.

use std::ops::Range;
use std::sync::Arc;

use arrayvec::ArrayVec;

use crate::delivery::filter::Selector;
use crate::stream::batch::Batch;
use crate::stream::holes::{Hole, Holes};
use crate::stream::topic::{Handle, Log, Topic};
use crate::wire::watcher_message::{Gap, GapReason};

/// A place between two events of a topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// Absolute index in the topic's log of the next event.
    pub index: u64,
    /// Every event of the topic with a number up to this one is before this place.
    pub seq: u64,
}

impl Cursor {
    /// A place of which only the number is known. Its index is 0, which skips no event.
    pub fn by_number(seq: u64) -> Self {
        Self { index: 0, seq }
    }

    /// The later of two places.
    pub fn max(self, other: Self) -> Self {
        if other.index > self.index { Self { seq: self.seq.max(other.seq), ..other } } else { self }
    }
}

/// Adjacent events of one handle, sent as one slice.
#[derive(Clone, Copy, Debug)]
pub struct Piece {
    /// Index in [`Gathered::handles`].
    pub handle: u32,
    pub first: u32,
    /// The last event of the piece, included.
    pub last: u32,
    /// Byte range `start..end` in the batch's frames.
    pub start: u32,
    pub end: u32,
}

impl Piece {
    pub fn bytes(&self) -> usize {
        (self.end - self.start) as usize
    }
}

/// What one gather may take at most.
#[derive(Clone, Copy, Debug)]
pub struct Portion {
    pub handles: usize,
    pub pieces: usize,
    pub bytes: usize,
    /// It ends before the next index of the log that is a multiple of this.
    pub block: u64,
}

impl Portion {
    /// The border after the event at `index`.
    fn border(&self, index: u64) -> u64 {
        (index / self.block + 1).saturating_mul(self.block)
    }
}

/// The history has moved past the cursor: wanted events are gone, or may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Behind;

/// Slices gathered from a log. The buffers serve the next gather too.
#[derive(Default)]
pub struct Gathered {
    pub handles: Vec<Handle>,
    pub pieces: Vec<Piece>,
    pub bytes: usize,
    pub messages: u64,
    /// Where it begins: the cursor, or the beginning of the log if nothing wanted was before that.
    pub from: Cursor,
    /// A watcher's place once all pieces are sent.
    pub next: Cursor,
    /// Nothing is left up to the tail.
    pub is_all: bool,
}

impl Gathered {
    /// Gathers what `selector` wants from `cursor` up to the number `tail`, a portion at most.
    pub fn gather(
        &mut self,
        (topic, holes): (&Topic, &Holes),
        cursor: Cursor,
        selector: &Selector,
        tail: u64,
        portion: Portion,
    ) -> Result<(), Behind> {
        self.clear();
        let mut from = cursor;
        let copied = {
            let log = topic.log.lock();
            if from.index < log.base() {
                if Missed::of(&log, holes, Some(cursor.index), cursor.seq, selector).is_any() {
                    return Err(Behind);
                }
                from = from.max(beginning(&log));
            }
            log.copy(from.index, tail, selector.mask, portion.handles, &mut self.handles)
        };
        self.from = from;
        self.is_all = copied.is_all;
        self.next.index = copied.index.max(from.index);
        self.next.seq = if copied.is_all { tail.max(from.seq) } else { copied.seq.max(from.seq) };
        for handle in 0..self.handles.len() {
            if self.pieces.len() >= portion.pieces || self.bytes >= portion.bytes {
                let previous = self.handles[handle - 1].clone();
                self.stop_behind(&previous, previous.run().first + previous.run().count - 1);
                break;
            }
            if !self.add_handle(handle as u32, from.index, selector, portion) {
                break;
            }
        }
        Ok(())
    }

    /// Adds the pieces of one handle, from the event at `index` on. False: the portion was full before its end.
    fn add_handle(&mut self, place: u32, index: u64, selector: &Selector, portion: Portion) -> bool {
        let handle = self.handles[place as usize].clone();
        let run = handle.run();
        let start = run.first + index.saturating_sub(run.at) as u32;
        let border = portion.border(index);
        if border <= run.at {
            self.stop_before(&handle, run.first);
            return false;
        }
        let end = run.first + u64::from(run.count).min(border - run.at) as u32;
        let is_whole = end == run.first + run.count;
        if !is_whole {
            self.stop_before(&handle, end);
        }
        if selector.is_all() {
            self.add_piece(place, &handle, start, end - 1);
            return is_whole;
        }
        let mut event = start;
        while event < end {
            if !selector.wants(&handle.batch, event) {
                event += 1;
                continue;
            }
            if self.pieces.len() >= portion.pieces {
                self.stop_before(&handle, event);
                return false;
            }
            let first = event;
            while event < end && selector.wants(&handle.batch, event) {
                event += 1;
            }
            self.add_piece(place, &handle, first, event - 1);
        }
        is_whole
    }

    fn add_piece(&mut self, place: u32, handle: &Handle, first: u32, last: u32) {
        let span = handle.batch.span(first..last + 1);
        self.bytes += span.len();
        self.messages += u64::from(last - first + 1);
        self.pieces.push(Piece {
            handle: place,
            first,
            last,
            start: span.start as u32,
            end: span.end as u32,
        });
    }

    fn stop_behind(&mut self, handle: &Handle, event: u32) {
        self.next = place_behind(handle, event);
        self.is_all = false;
    }

    fn stop_before(&mut self, handle: &Handle, event: u32) {
        let behind = place_behind(handle, event);
        self.next = Cursor { index: behind.index - 1, seq: behind.seq - 1 };
        self.is_all = false;
    }

    pub fn clear(&mut self) {
        self.handles.clear();
        self.pieces.clear();
        self.bytes = 0;
        self.messages = 0;
    }

    pub fn slice_of(&self, piece: &Piece) -> &[u8] {
        &self.handles[piece.handle as usize].batch.bytes()[piece.start as usize..piece.end as usize]
    }

    /// The number of the first event; there is one.
    pub fn first_seq(&self) -> u64 {
        let (handle, event) = self.event_at(0);
        handle.batch.seq(event)
    }

    /// The event at this place of all pieces: its handle, and its index in the batch.
    pub fn event_at(&self, mut place: usize) -> (&Handle, u32) {
        for piece in &self.pieces {
            let count = (piece.last - piece.first) as usize + 1;
            if place < count {
                return (&self.handles[piece.handle as usize], piece.first + place as u32);
            }
            place -= count;
        }
        panic!("so many events were gathered");
    }

    /// The new place of a watcher at `cursor` whose socket took only `taken < bytes` bytes.
    pub fn stopped_at(&self, cursor: Cursor, taken: usize) -> Stopped<'_> {
        let mut stopped = Stopped { cursor, rest: None, messages: 0 };
        let mut left = taken;
        for piece in &self.pieces {
            let handle = &self.handles[piece.handle as usize];
            if left >= piece.bytes() {
                left -= piece.bytes();
                stopped.cursor = place_behind(handle, piece.last);
                stopped.messages += u64::from(piece.last - piece.first + 1);
                continue;
            }
            let stop = piece.start as usize + left;
            for event in piece.first..=piece.last {
                let span = handle.batch.span(event..event + 1);
                if span.start == stop {
                    break;
                }
                stopped.cursor = place_behind(handle, event);
                stopped.messages += 1;
                if span.end > stop {
                    stopped.rest = Some((&handle.batch, stop as u32..span.end as u32));
                    break;
                }
            }
            break;
        }
        stopped
    }
}

/// Where a short write left a watcher.
pub struct Stopped<'a> {
    /// Behind the frame in which the write stopped.
    pub cursor: Cursor,
    /// The rest of that frame: its batch, and the byte range in it.
    pub rest: Option<(&'a Arc<Batch>, Range<u32>)>,
    /// Frames sent, the one in which the write stopped included.
    pub messages: u64,
}

/// The place right behind an event.
pub fn place_behind(handle: &Handle, event: u32) -> Cursor {
    let run = handle.run();
    Cursor { index: run.at + u64::from(event - run.first) + 1, seq: handle.batch.seq(event) }
}

/// The gap for a hole, for a watcher at the number `seq`.
pub(super) fn gap_of(hole: Hole, seq: u64) -> Gap {
    let reason = if hole.is_restart { GapReason::Restart } else { GapReason::Expired };
    Gap { from: seq + 1, to: hole.to, missed: None, reason }
}

/// What a watcher at some place can no longer get.
pub struct Missed {
    /// The last matching number lost. None: nothing that matches was lost.
    pub to: Option<u64>,
    /// How many matching events were lost, where that is known.
    pub count: Option<u64>,
    /// Nothing that matches is known to be lost, but a hole was passed.
    pub is_hole: bool,
    /// Matching events that were kept when the log lost the rest.
    pub kept: ArrayVec<Handle, 2>,
    /// Where the log begins now, behind all of these.
    pub behind: Cursor,
}

impl Missed {
    /// Looks at the events beyond `seq`. `index` is the same place by index, where it is known.
    pub fn of(log: &Log, holes: &Holes, index: Option<u64>, seq: u64, selector: &Selector) -> Self {
        Self::beside(log, holes.passed(seq, log.base_seq()), index, seq, selector)
    }

    /// The same where the last hole passed ended with `hole_to`; 0: none was passed.
    pub fn beside(log: &Log, hole_to: u64, index: Option<u64>, seq: u64, selector: &Selector) -> Self {
        let beyond = || log.lost().iter().filter(|lost| lost.last_seq > seq);
        let matching = || beyond().filter(|lost| selector.mask >> lost.bit & 1 == 1);
        let to = matching().map(|lost| lost.last_seq).max();
        let kept_all = log.kept_after(seq).count() as u64;
        let kept = log.kept_after(seq).filter(|handle| selector.wants(&handle.batch, 0)).collect();
        let is_uniform = beyond().all(|lost| selector.wants_all_of(lost.bit));
        let is_from_start = log.first_seq().is_some_and(|first| first > seq);
        let count = match index {
            _ if hole_to > 0 => None,
            // Everything lost matches, so the indexes count it.
            Some(index) if is_uniform => Some(log.base().saturating_sub(index + kept_all)),
            // The topic has lost nothing before this place.
            _ if is_from_start && matching().all(|lost| selector.wants_all_of(lost.bit)) => {
                Some(matching().map(|lost| lost.count).sum())
            }
            _ => None,
        };
        let Cursor { index, seq } = beginning(log);
        let behind = Cursor { index, seq: seq.max(hole_to) };
        let last_to = to.max((hole_to > 0).then_some(hole_to));
        Self { to: last_to, count, is_hole: to.is_none(), kept, behind }
    }

    pub fn is_any(&self) -> bool {
        self.to.is_some() || !self.kept.is_empty()
    }

    /// The gap for a watcher at `seq`, if matching events were lost.
    pub fn gap(&self, seq: u64, reason: GapReason) -> Option<Gap> {
        let reason = if self.is_hole { GapReason::Expired } else { reason };
        self.to.map(|to| Gap { from: seq + 1, to, missed: self.count, reason })
    }

    /// The place of a watcher at `from` once it was told.
    pub fn place_after(&self, from: Cursor) -> Cursor {
        let Cursor { index, seq } = self.behind;
        Cursor { index: from.index.max(index), seq: from.seq.max(seq) }
    }
}

/// The place right behind the last event that the log has lost. It is not moved up to the first event left: numbers
/// between the two may be other topics', and not published yet.
pub fn beginning(log: &Log) -> Cursor {
    Cursor { index: log.base(), seq: log.base_seq() }
}
