//! One job of a watcher of many: where it stands, what it has to be told first.

use arrayvec::ArrayVec;

use crate::delivery::cursor::{Cursor, Missed};
use crate::delivery::filter::Selector;
use crate::delivery::keys::{LocalTopicSlot, SubscriptionTag};
use crate::delivery::start::{Pending, earlier_gap};
use crate::delivery::table::Entry;
use crate::stream::topic::{Handle, Log};
use crate::wire::notice::{Gap, GapReason};

pub struct Subscription {
    pub local: LocalTopicSlot,
    /// Its place among those who hold the topic in this shard.
    pub holder: u32,
    pub cursor: Cursor,
    pub is_marked: bool,
    /// It sends its past up to this number before anything else goes out.
    pub replay_to: Option<u64>,
    /// Kept events to go out, if they are still wanted, before what the log has: two of now, and an end that a later
    /// one has replaced since.
    pub ahead: ArrayVec<Handle, 3>,
    /// What was lost up to here has been told of, or was not asked for.
    pub told: u64,
    /// Has to be found out before its first event.
    pub pending: Option<Box<Pending>>,
    pub generation: u32,
}

impl Entry for Subscription {
    type Tag = SubscriptionTag;

    fn generation(&self) -> u32 {
        self.generation
    }
}

impl Subscription {
    /// Goes on to the number `passed`: nothing that was wanted so far is left before it. Returns the gap, if
    /// something that `selector` wants is lost behind it.
    pub fn move_to(&mut self, passed: u64, selector: &Selector, log: &Log) -> Option<Gap> {
        let index = log.index_after(passed);
        if index > log.base() || self.cursor.index >= log.base() {
            self.cursor = Cursor { index: index.max(self.cursor.index), seq: passed };
            return None;
        }
        let missed = Missed::of(log, None, passed, selector);
        self.cursor = Cursor { seq: passed.max(missed.behind.seq), ..missed.behind };
        let gap = missed.gap(passed, GapReason::Overrun);
        self.take_ahead(missed.kept, gap.map_or(0, |gap| gap.to));
        gap
    }

    pub fn take_ahead(&mut self, kept: ArrayVec<Handle, 2>, told: u64) {
        self.ahead = kept.into_iter().collect();
        self.told = told;
    }

    pub fn is_searching(&self) -> bool {
        matches!(self.pending.as_deref(), Some(Pending::Last(_)))
    }

    /// Finds out what it waits for, as far as one step goes. Returns the gap, if there is one to tell of.
    pub fn find_out(&mut self, selector: &Selector, log: &Log) -> Option<Gap> {
        match self.pending.as_deref_mut()? {
            Pending::Earlier { .. } if log.first_seq().is_none() => None,
            Pending::Earlier { earlier_to } => {
                let gap = earlier_gap(*earlier_to, log);
                self.pending = None;
                gap
            }
            Pending::Last(search) => {
                if let Some(start) = search.step(log, selector) {
                    self.cursor = start.cursor;
                    self.take_ahead(start.kept, start.told);
                    self.pending = None;
                }
                None
            }
        }
    }

    /// Something else is wanted from the first event ahead on, if there is one: what the log has lost there is looked
    /// at again, but for what a gap has told of.
    pub fn step_back(&mut self) {
        let Some(first) = self.ahead.first() else { return };
        let seq = self.told.max(first.batch.first_seq() - 1);
        self.ahead.retain(|handle| handle.batch.first_seq() <= seq);
        self.cursor = Cursor::by_number(seq);
    }
}
