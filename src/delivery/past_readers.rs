//! Who of a shard reads what is older than memory, and what each reads.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use foldhash::fast::RandomState;

use crate::delivery::cursor::Cursor;
use crate::delivery::keys::WatcherKey;
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

/// A watcher that reads the past, or waits for it.
#[derive(Default)]
pub(super) struct Reader {
    /// What it reads, if the pass has come to its place.
    pub hold: Option<Hold>,
    /// It has asked for all that there is, and has got nothing yet.
    pub is_from_start: bool,
}

/// The watchers of a shard that read the past, or wait for it.
#[derive(Default)]
pub(super) struct PastReaders {
    pub past: Arc<Past>,
    /// Each of them.
    pub readers: HashMap<WatcherKey, Reader, RandomState>,
    /// Those of them who may have something to get, beside what their outboxes have.
    pub queue: VecDeque<WatcherKey>,
    /// What can be read in this turn, and up to which number.
    pub window: Option<Arc<Window>>,
    pub tail: u64,
    /// The moves of the past that its readers have heard of.
    pub moves: u64,
    /// What was reported last.
    pub reported: Demand,
}

/// Where a watcher begins in the past, if memory has lost what it asks for.
pub(super) fn begin(
    past: &Past,
    kind: TopicKind,
    whole_from: u64,
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
    (loses && start.cursor.seq < whole_from && seq < whole_from).then_some(start)
}
