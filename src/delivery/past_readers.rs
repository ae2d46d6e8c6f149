//! Who of a shard reads what is older than memory, and what each reads.

use std::collections::{HashMap, VecDeque};
use std::mem;
use std::sync::Arc;

use foldhash::fast::RandomState;

use crate::delivery::cursor::{Cursor, gap_of};
use crate::delivery::keys::{SubscriptionSlot, WatcherKey};
use crate::delivery::start::{Pending, Start};
use crate::stream::past::{Demand, Past, Window};
use crate::stream::topic::{Topic, TopicKind};
use crate::wire::client_action::Since;
use crate::wire::watcher_message::{Gap, GapReason};

/// A topic of a window, which is not dropped while somebody reads it.
pub(super) struct Hold {
    pub window: Arc<Window>,
    pub topic: Arc<Topic>,
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.window.directory.unwatch(&self.topic);
    }
}

/// A watcher, or one job of a watcher of many, that reads the past or waits for it.
#[derive(Default)]
pub struct Reader {
    /// What it reads, once it was served from the pass.
    pub(super) hold: Option<Hold>,
    /// The pass that has dropped its topic before it was served; 0: none. It waits for the next one.
    pub(super) lost_in: u64,
    /// It has asked for all that there is, and has got nothing yet.
    pub(super) is_from_start: bool,
}

/// What comes next for somebody who reads a window.
pub(super) enum Next {
    Gap(Gap),
    /// What it wants up to this number.
    Events(u64),
    /// Nothing yet.
    Nothing,
    /// The pass has just gone on without it.
    Elsewhere,
}

impl Reader {
    /// Finds what somebody at the number `seq` reads of `topic`. None: it waits for a pass that comes to its place.
    pub(super) fn find(
        &mut self,
        window: Option<&Arc<Window>>,
        topic: &Topic,
        seq: u64,
    ) -> Option<(Arc<Window>, Arc<Topic>)> {
        let window = window.filter(|window| seq >= window.covered_from())?;
        if self.hold.as_ref().is_none_or(|hold| !Arc::ptr_eq(&hold.window, window)) {
            self.lost_in = window.pass;
            let topic = window.directory.watch(topic.kind, &topic.name).ok()?;
            self.lost_in = 0;
            self.hold = Some(Hold { window: window.clone(), topic });
        }
        let topic = self.hold.as_ref().expect("it was just set").topic.clone();
        // It may have been dropped before it was held.
        let is_whole =
            topic.kind == TopicKind::All || window.directory.dropped.last(topic.kind, &topic.name) <= seq;
        if !is_whole {
            self.lost_in = window.pass;
            return None;
        }
        Some((window.clone(), topic))
    }

    /// Lets go of all windows but this one.
    pub(super) fn release_others(&mut self, window: Option<&Arc<Window>>) {
        let is_other = |hold: &mut Hold| window.is_none_or(|window| !Arc::ptr_eq(window, &hold.window));
        drop(self.hold.take_if(is_other));
    }

    /// What comes behind the number `seq`. The window is there up to `tail`, and memory has all behind `memory_from`.
    pub(super) fn next(&mut self, window: &Window, seq: u64, tail: u64, memory_from: u64) -> Next {
        let is_from_start = mem::take(&mut self.is_from_start);
        if seq < window.begins {
            let from = if is_from_start { 1 } else { seq + 1 };
            let to = window.begins.min(memory_from);
            let reason = if window.is_restart { GapReason::Restart } else { GapReason::Expired };
            return Next::Gap(Gap { from, to, missed: None, reason });
        }
        match window.directory.holes.ahead(seq, tail) {
            Some(hole) if hole.from == 0 => Next::Elsewhere,
            Some(hole) if hole.from <= seq + 1 => Next::Gap(gap_of(hole, seq)),
            Some(hole) => Next::Events(hole.from - 1),
            None if tail <= seq => Next::Nothing,
            None => Next::Events(tail),
        }
    }
}

/// The watchers of a shard that read the past, or wait for it.
#[derive(Default)]
pub(super) struct PastReaders {
    pub past: Arc<Past>,
    /// Each of them. A watcher of many jobs has a reader for each job instead.
    pub readers: HashMap<WatcherKey, Reader, RandomState>,
    /// Jobs of the watcher that is served, again and again.
    pub places: Vec<SubscriptionSlot>,
    /// Those of them who may have something to get, beside what their outboxes have.
    pub queue: VecDeque<WatcherKey>,
    /// What can be read in this turn, and up to which number.
    pub window: Option<Arc<Window>>,
    pub tail: u64,
    /// The moves of the past that its readers have heard of, and the newest number of memory then.
    pub moves: u64,
    pub shown_to: u64,
    /// What was reported last.
    pub reported: Demand,
}

/// Where a watcher begins in the past, if memory has lost what it asks for.
pub(super) fn begin(
    past: &Past,
    kind: TopicKind,
    memory_from: u64,
    since: Since,
    start: &Start,
) -> Option<Start> {
    let before_all = past.first()? - 1;
    let loses = start.gap.is_some() || matches!(start.pending, Some(Pending::Earlier { .. }));
    let seq = match since {
        Since::After(seq) => seq,
        Since::Start if kind != TopicKind::All => before_all,
        _ => return None,
    };
    // The number is of another stream, or of none: what this one has follows.
    let gap = Gap { from: seq + 1, to: before_all, missed: None, reason: GapReason::Restart };
    let gap = Some(gap).filter(|gap| gap.from <= gap.to);
    let start = Start { gap, ..Start::at(Cursor::by_number(seq.max(before_all))) };
    (loses && start.cursor.seq < memory_from && seq < memory_from).then_some(start)
}
