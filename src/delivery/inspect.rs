//! Questions about a shard's watchers: the position of each, whether it lags, its description for operators.

use std::sync::Arc;

use crate::delivery::cursor::Cursor;
use crate::delivery::filter::Filter;
use crate::delivery::keys::{LocalTopicSlot, WatcherKey};
use crate::delivery::sink::Sink;
use crate::delivery::slow_consumers::SlowConsumers;
use crate::delivery::watcher::{Flags, Watched, Watcher};
use crate::delivery::watchers::Watchers;
use crate::event::ALL_TYPES;
use crate::stream::batch::Batch;
use crate::stream::dialect;
use crate::stream::link::{NOTHING_NEEDED, Needs};
use crate::stream::topic::{Handle, Topic, TopicKind};
use crate::wire::framing::Framing;

/// Behind every event: nothing is missing.
const UP_TO_DATE: u64 = u64::MAX;
/// Chunks and handles of a log that are looked at under its lock, at most.
const LOOKS_MAX: u32 = 4096;
/// Handles copied under a log's lock at once, at most.
const HANDLES_MAX: usize = 256;

/// Handles searched for recently sent events: more than can be on their way to a client that closes.
const SENT_LATELY_MAX: usize = 512;

/// A watcher's state, as far as only its shard knows it. The rest is computed elsewhere.
pub struct Description {
    /// Its topics, each with the log index before which everything was sent.
    pub places: Vec<(Arc<Topic>, u64)>,
    pub filter: Option<Arc<Filter>>,
    pub framing: Framing,
    pub position: u64,
    /// Unsent bytes of control messages and of an unfinished frame.
    pub waiting_bytes: usize,
    pub bytes_out: u64,
    pub is_blocked: bool,
}

/// Whether a watcher that was found behind still is.
fn is_behind(watcher: &Watcher) -> bool {
    match watcher.watched {
        // Queued: its socket has room again, and it waits for its turn.
        Watched::MultiJob(_) => watcher.is(Flags::BLOCKED | Flags::QUEUED),
        // One that waits for a pass over the past is not behind through its own doing.
        _ => watcher.is(Flags::BLOCKED) || watcher.is(Flags::LAGS) && !watcher.is(Flags::IN_PAST),
    }
}

impl Watchers {
    /// Number up to which this watcher was sent all its events; exact after [`Watchers::flush_one`].
    pub fn position(&self, key: WatcherKey) -> u64 {
        let watcher = &self.watchers[key];
        match &watcher.watched {
            // It misses nothing.
            Watched::Nothing => self.tail,
            Watched::MultiJob(many) => many.position(self.tail),
            Watched::Cohort { .. } => watcher.cursor().seq,
        }
    }

    /// The cursor of a watcher of one topic: its own, or its cohort's if it does not lag. None: it watches many or none.
    pub fn cursor_of(&self, key: WatcherKey) -> Option<Cursor> {
        let watcher = &self.watchers[key];
        let Watched::Cohort { cohort, .. } = watcher.watched else {
            return None;
        };
        let start = self.audience.cohorts[cohort].start;
        Some(if watcher.is(Flags::LAGS) { watcher.cursor() } else { watcher.cursor().max(start) })
    }

    /// Deliveries go up to this number.
    pub fn tail(&self) -> u64 {
        self.tail
    }

    /// Whether this shard has a watcher of anything.
    pub fn is_watching(&self) -> bool {
        !self.audience.is_empty()
    }

    /// The lowest position of lone watchers that have events to get: those in `watcher_queue`, and those whose sockets
    /// were just found full.
    fn oldest_unserved(&self) -> Option<u64> {
        let unserved = self.watcher_queue.iter().chain(&self.blocked).filter(|&&key| {
            let watcher = self.watchers.get(key);
            watcher.is_some_and(|watcher| match &watcher.watched {
                Watched::Nothing => false,
                Watched::Cohort { .. } => watcher.is(Flags::LAGS),
                Watched::MultiJob(many) => {
                    watcher.is(Flags::BLOCKED | Flags::REVIEWED) || many.is_replaying()
                }
            })
        });
        unserved.map(|&key| self.position(key)).min()
    }

    /// What the watchers here still need from the history (`overrun = wait`). `slow_consumers` has every watcher whose
    /// socket was found full, and may have more.
    pub fn needs(&self, slow_consumers: &SlowConsumers, now_millis: u64) -> Needs {
        let served = (!self.is_busy()).then_some(self.arrived);
        if !self.is_watching() {
            return Needs { served, readers: NOTHING_NEEDED, newcomers: NOTHING_NEEDED };
        }
        // A watcher whose socket has room is behind through no fault of its own: it counts as a reader.
        let readers = self.oldest_unserved().map_or(NOTHING_NEEDED, |position| position + 1);
        let mut needs = Needs { served, readers, newcomers: NOTHING_NEEDED };
        for slow in slow_consumers.iter().filter(|slow| slow.is_reading(now_millis)) {
            // One that has caught up needs nothing of its own.
            if !self.watchers.get(slow.key).is_some_and(is_behind) {
                continue;
            }
            let of = if slow.has_read() { &mut needs.readers } else { &mut needs.newcomers };
            *of = (*of).min(self.position(slow.key) + 1);
        }
        needs
    }

    pub fn is_blocked(&self, key: WatcherKey) -> bool {
        self.watchers[key].is(Flags::BLOCKED)
    }

    /// Whether the last bytes of an ending watcher were sent.
    pub fn is_ended(&self, key: WatcherKey) -> bool {
        self.watchers.get(key).is_some_and(|watcher| watcher.is(Flags::ENDED))
    }

    /// Whether its progress is under review.
    pub fn is_reviewed(&self, key: WatcherKey) -> bool {
        self.watchers[key].is(Flags::REVIEWED)
    }

    /// Whether a watcher still lags. One that does not is no longer under review.
    pub fn stays_reviewed(&mut self, key: WatcherKey) -> bool {
        let Some(watcher) = self.watchers.get_mut(key) else {
            return false;
        };
        let stays = watcher.is(Flags::BLOCKED) || watcher.is(Flags::REVIEWED) && is_behind(watcher);
        if !stays {
            watcher.unset(Flags::REVIEWED);
        }
        stays
    }

    /// Whether every watcher was sent everything up to the newest number. A slow reader of a list watches nothing.
    pub fn is_served(&mut self, sink: &mut impl Sink) -> bool {
        self.refresh(sink);
        let waits =
            |watcher: &Watcher| watcher.is(Flags::BLOCKED) && !matches!(watcher.watched, Watched::Nothing);
        !self.is_busy() && !self.watchers.iter().any(|(_, watcher)| waits(watcher))
    }

    /// Asserts the edge-trigger law: a watcher with bytes to send waits for an edge or in `watcher_queue`.
    pub fn assert_nobody_forgotten(&self) {
        for (key, watcher) in self.watchers.iter() {
            let has_bytes = watcher.waiting() > 0
                || (watcher.is(Flags::LAGS)
                    && !watcher.is(Flags::IN_PAST)
                    && matches!(watcher.watched, Watched::Cohort { .. }));
            let is_waiting = watcher.is(Flags::QUEUED | Flags::BLOCKED | Flags::BROKEN | Flags::ENDED);
            assert!(!has_bytes || is_waiting, "watcher {key:?} is forgotten");
        }
    }

    /// Bytes of the largest event that this watcher was sent lately, as far as the history still has it. None: it was
    /// sent no event.
    pub fn largest_sent_lately(&self, key: WatcherKey) -> Option<usize> {
        let watcher = &self.watchers[key];
        let is_translated = matches!(watcher.watched, Watched::MultiJob(_));
        let selector = self.selector(watcher.filter.as_ref());
        let mut handles: Vec<(Handle, u64)> = Vec::new();
        let mut looks = LOOKS_MAX;
        for (topic, index) in self.describe(key).places {
            let is_enough = |handles: &Vec<_>| handles.len() >= SENT_LATELY_MAX;
            topic.log.lock().walk_back(index, selector.mask, &mut looks, |handle, _| {
                handles.push((handle.clone(), index));
                !is_enough(&handles)
            });
            if is_enough(&handles) || looks == 0 {
                break;
            }
        }
        let sizes = handles.iter().flat_map(|(Handle { batch, run }, index)| {
            let run = &batch.runs()[*run as usize];
            let sent = run.first..run.first + index.saturating_sub(run.at).min(u64::from(run.count)) as u32;
            sent.filter(|&event| selector.wants(batch, event)).map(|event| {
                if is_translated { self.translated_bytes(batch, event) } else { batch.object(event).len() }
            })
        });
        sizes.max()
    }

    /// Bytes of an event in the dialect of the multi-job endpoint. It was sent, so this form exists already.
    fn translated_bytes(&self, batch: &Batch, event: u32) -> usize {
        let dialect = batch.dialect(dialect::of_batch, |bytes| self.directory.add_dialect_bytes(bytes));
        dialect.object(event).len()
    }

    pub fn describe(&self, key: WatcherKey) -> Description {
        let watcher = &self.watchers[key];
        let topic = |local: LocalTopicSlot| self.audience.topics[local].topic.clone();
        let mut position = self.position(key);
        let places = match &watcher.watched {
            Watched::Nothing => Vec::new(),
            Watched::Cohort { cohort, .. } => {
                let cohort = &self.audience.cohorts[*cohort];
                // No mark: nothing that its filter lets through has come since.
                let is_up_to_date = !watcher.is(Flags::LAGS) && !cohort.is_marked && !cohort.is_served;
                let index = match is_up_to_date {
                    true => UP_TO_DATE,
                    false => self.cursor_of(key).map_or(watcher.cursor().index, |cursor| cursor.index),
                };
                if is_up_to_date {
                    position = position.max(self.arrived);
                }
                vec![(topic(cohort.topic), index)]
            }
            Watched::MultiJob(many) => many.places().map(|(local, index)| (topic(local), index)).collect(),
        };
        Description {
            places,
            filter: watcher.filter.clone(),
            framing: watcher.framing(),
            position,
            waiting_bytes: watcher.waiting(),
            bytes_out: watcher.bytes_out,
            is_blocked: watcher.is(Flags::BLOCKED),
        }
    }
}

/// Bytes of the frames in a topic's log from `index` on. The handles read are taken off `handles_left`. None: there
/// are more handles than that.
pub fn bytes_beyond(topic: &Topic, index: u64, handles_left: &mut usize) -> Option<u64> {
    let mut handles = Vec::new();
    let (mut from, mut bytes) = (index, 0);
    loop {
        handles.clear();
        let copied = {
            let log = topic.log.lock();
            from = from.max(log.base());
            log.copy(from, u64::MAX, ALL_TYPES, HANDLES_MAX, &mut handles)
        };
        for handle in &handles {
            let run = handle.run();
            let first = run.first + from.saturating_sub(run.at) as u32;
            bytes += handle.batch.span(first..run.first + run.count).len() as u64;
        }
        if copied.is_all {
            return Some(bytes);
        }
        *handles_left = handles_left.saturating_sub(handles.len().max(1));
        if *handles_left == 0 {
            return None;
        }
        from = copied.index;
    }
}

/// A topic's name for operators.
pub fn name_of(topic: &Topic) -> String {
    match topic.kind {
        TopicKind::All => "all".to_owned(),
        TopicKind::Job => format!("job:{}", topic.name),
        TopicKind::Flow => format!("flow:{}", topic.name),
    }
}
