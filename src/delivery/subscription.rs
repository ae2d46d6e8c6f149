//! One job of a watcher of many jobs: its cursor, and what it is sent first.

use std::mem;

use arrayvec::ArrayVec;

use crate::delivery::cursor::{Cursor, Missed};
use crate::delivery::filter::Selector;
use crate::delivery::keys::{LocalTopicSlot, SubscriptionTag};
use crate::delivery::past_readers::Reader;
use crate::delivery::start::{Pending, Start, earlier_gap, find};
use crate::delivery::table::Entry;
use crate::stream::directory::Directory;
use crate::stream::holes::{Hole, Holes};
use crate::stream::topic::{Handle, Log};
use crate::wire::watcher_message::{Gap, GapReason};

pub struct Subscription {
    pub local: LocalTopicSlot,
    /// Its index in the topic's list of watchers of many jobs.
    pub holder: u32,
    pub cursor: Cursor,
    pub is_marked: bool,
    /// Its past up to this number is sent before anything else.
    pub replay_to: Option<u64>,
    /// Kept events to send, if they are still wanted, before the log's events: the two current ones, and a terminal
    /// event that a later one has replaced since.
    pub ahead: ArrayVec<Handle, 3>,
    /// Losses up to this number are settled: a gap has reported them, or they were not asked for.
    pub settled_to: u64,
    /// What has to be found out before its first event.
    pub pending: Option<Box<Pending>>,
    /// It is read from what is older than memory, or waits for it: its cursor has only a number.
    pub past: Option<Box<Reader>>,
    pub generation: u32,
}

impl Entry for Subscription {
    type Tag = SubscriptionTag;

    fn generation(&self) -> u32 {
        self.generation
    }
}

/// Memory may have lost what is behind this number.
pub struct LostBehind(pub u64);

impl Subscription {
    /// All that is wanted of it up to this number was sent, but for what is ahead. The merged order was sent up to `passed`,
    /// which may be further than its last event.
    pub fn sent_to(&self, passed: u64) -> u64 {
        if self.replay_to.is_none() { self.cursor.seq.max(passed) } else { self.cursor.seq }
    }

    /// All of the past that was asked for was sent.
    pub fn has_replayed(&self) -> bool {
        self.replay_to.is_none_or(|to| self.cursor.seq >= to)
    }

    /// Where it goes on in what is older than memory. Kept events are read there as well, except those that a gap has let
    /// stay: they are still ahead.
    pub fn place_in_past(&mut self, passed: u64) -> u64 {
        self.step_back();
        self.sent_to(passed).max(self.settled_to)
    }

    /// Marks it: it may have new events. False: it is marked, or memory is not what it reads.
    pub fn mark(&mut self) -> bool {
        self.past.is_none() && !mem::replace(&mut self.is_marked, true)
    }

    /// Moves on to the number `passed`: everything wanted so far was sent up to there. False: it stays, since what is
    /// beyond may be lost.
    pub fn move_to(&mut self, passed: u64, log: &Log) -> bool {
        let index = log.index_after(passed);
        let is_there = index > log.base() || self.cursor.index >= log.base();
        if is_there {
            self.cursor = Cursor { index: index.max(self.cursor.index), seq: passed };
        }
        is_there
    }

    /// Moves on to what the log still has behind the number `seq`, whose index is `index` where that is known. Returns
    /// the gap for what is lost.
    pub fn miss(
        &mut self,
        index: Option<u64>,
        seq: u64,
        selector: &Selector,
        log: &Log,
        holes: &Holes,
    ) -> Option<Gap> {
        let missed = Missed::of(log, holes, index, seq, selector);
        let Cursor { index, seq: to } =
            missed.place_after(Cursor { seq: seq.max(self.cursor.seq), ..self.cursor });
        // The log may still have events up to there, which it did not want.
        self.cursor = Cursor { index: index.max(log.index_after(to)), seq: to };
        let gap = missed.gap(seq, GapReason::Overrun);
        self.take_ahead(missed.kept, gap.map_or(0, |gap| gap.to));
        gap
    }

    /// Moves on behind a hole.
    pub fn pass(&mut self, hole: Hole, log: &Log) {
        let Cursor { index, seq } = self.cursor;
        // Events that it did not want may be between its place and the hole: its index is found anew, if it can be.
        let is_exact = index >= log.base() || seq + 1 >= hole.from;
        self.cursor = match log.base_seq() <= hole.to {
            true => Cursor { index: index.max(log.index_after(hole.to)), seq: hole.to },
            false if is_exact => Cursor { index, seq: hole.to },
            false => Cursor::by_number(hole.to),
        };
    }

    /// Something is still to be sent or to be found from before its place.
    pub fn has_older(&self) -> bool {
        !self.ahead.is_empty() || self.is_searching()
    }

    /// It stands at a number beyond `tail`: nothing up to there is for it.
    pub fn stands_beyond(&self, tail: u64) -> bool {
        matches!(self.pending.as_deref(), Some(Pending::Stands { .. })) && self.cursor.seq > tail
    }

    /// Takes the kept events to send, and the number up to which losses are settled.
    pub fn take_ahead(&mut self, kept: ArrayVec<Handle, 2>, settled_to: u64) {
        self.ahead = kept.into_iter().collect();
        self.settled_to = settled_to;
    }

    /// It stands at a number that no daemon can have given.
    pub fn is_of_another_stream(&self, directory: &Directory, tail: u64) -> bool {
        let Some(&Pending::Stands { answers }) = self.pending.as_deref() else { return false };
        self.cursor.seq > tail && directory.was_never_given(self.cursor.seq, answers)
    }

    /// Begins here, as if it came now: what is kept up to `tail` is sent before anything else.
    pub fn begin_anew(&mut self, start: Start, tail: u64) {
        self.cursor = start.cursor;
        self.take_ahead(start.kept, start.settled_to);
        self.pending = start.pending.map(Box::new);
        self.replay_to = Some(tail);
    }

    pub fn is_searching(&self) -> bool {
        matches!(self.pending.as_deref(), Some(Pending::Last(_)))
    }

    /// Looks, one step further, for what it has to be sent first. The merged order was sent up to `passed`, and goes on
    /// to `tail`. Returns the gap, if there is one.
    ///
    /// # Errors
    /// It stood at a number that has come, and memory may have lost what is behind that.
    pub fn resolve_pending(
        &mut self,
        selector: &Selector,
        log: &Log,
        (passed, tail): (u64, u64),
    ) -> Result<Option<Gap>, LostBehind> {
        let Some(pending) = self.pending.as_deref_mut() else { return Ok(None) };
        let gap = match pending {
            Pending::Earlier { .. } if log.first_seq().is_none() => None,
            Pending::Stands { .. } if self.cursor.seq > tail => None,
            Pending::Stands { .. } => {
                self.pending = None;
                if self.past.is_none() {
                    let seq = self.sent_to(passed);
                    self.cursor = find(log, Cursor { seq, ..self.cursor }).ok_or(LostBehind(seq))?;
                }
                None
            }
            Pending::Earlier { earlier_to } => {
                let gap = earlier_gap(*earlier_to, log);
                self.pending = None;
                gap
            }
            Pending::Last(search) => {
                if let Some(start) = search.step(log, selector) {
                    self.cursor = start.cursor;
                    self.take_ahead(start.kept, start.settled_to);
                    self.pending = None;
                }
                None
            }
        };
        Ok(gap)
    }

    /// Before a change of the selector: steps back to the first kept event still to send, if there is one. Losses from
    /// there on are judged again, except those that a gap has reported.
    pub fn step_back(&mut self) {
        let Some(first) = self.ahead.first() else { return };
        let seq = self.settled_to.max(first.batch.first_seq() - 1);
        self.ahead.retain(|handle| handle.batch.first_seq() <= seq);
        self.cursor = Cursor::by_number(seq);
    }
}
