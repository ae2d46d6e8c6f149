//! What can be asked of a shard's watchers: where each stands, whether it lags, how it looks to an operator.

use std::sync::Arc;

use crate::delivery::cursor::Cursor;
use crate::delivery::filter::Filter;
use crate::delivery::keys::{LocalTopicSlot, WatcherKey};
use crate::delivery::progress::SlowConsumer;
use crate::delivery::sink::Sink;
use crate::delivery::watcher::{Flags, Watched, Watcher};
use crate::delivery::watchers::Watchers;
use crate::event::ALL_TYPES;
use crate::stream::batch::Batch;
use crate::stream::dialect;
use crate::stream::link::{NOTHING_NEEDED, Needs};
use crate::stream::topic::{Handle, Topic, TopicKind};

/// Behind every event: nothing is missing.
const UP_TO_DATE: u64 = u64::MAX;
/// Chunks and handles of a log that are looked at under its lock.
const LOOKS_MAX: u32 = 4096;
/// Handles copied under a log's lock at once.
const HANDLES_MAX: usize = 256;

/// Handles looked back at for what a client was sent of late: more than is on its way to one that closes.
const SENT_LATELY_MAX: usize = 512;

/// Where a watcher stands, as far as its shard has to say it. The rest can be worked out elsewhere.
pub struct Description {
    /// Its topics, and the place in each log's index up to which everything went out.
    pub places: Vec<(Arc<Topic>, u64)>,
    pub filter: Option<Arc<Filter>>,
    pub position: u64,
    /// Bytes of control messages and of the frame it stopped in.
    pub waiting_bytes: usize,
    pub bytes_out: u64,
    pub is_blocked: bool,
}

/// Of one that was found behind: it is still.
fn is_behind(watcher: &Watcher) -> bool {
    match watcher.watched {
        // It has room again, and waits for its turn.
        Watched::MultiJob(_) => watcher.is(Flags::BLOCKED | Flags::QUEUED),
        _ => watcher.is(Flags::BLOCKED | Flags::LAGS),
    }
}

impl Watchers {
    /// Number up to which all events of this watcher went out; exact once it is [`Watchers::flush_one`]d.
    pub fn position(&self, key: WatcherKey) -> u64 {
        let watcher = &self.watchers[key];
        match &watcher.watched {
            // It misses nothing.
            Watched::Nothing => self.tail,
            Watched::MultiJob(many) => many.position(self.tail),
            Watched::Cohort { .. } => watcher.cursor.seq,
        }
    }

    /// Where a watcher of one topic stands: at its own place, or where its cohort stands.
    pub fn standing(&self, key: WatcherKey) -> Option<Cursor> {
        let watcher = &self.watchers[key];
        let Watched::Cohort { cohort, .. } = watcher.watched else {
            return None;
        };
        let start = self.audience.cohorts[cohort].start;
        Some(if watcher.is(Flags::LAGS) { watcher.cursor } else { watcher.cursor.max(start) })
    }

    /// The newest number that is delivered.
    pub fn tail(&self) -> u64 {
        self.tail
    }

    /// Somebody watches something here.
    pub fn is_watching(&self) -> bool {
        !self.audience.is_empty()
    }

    /// The lowest position of those who stand at a place of their own and are served one by one, or whose sockets have
    /// just been found full.
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

    /// What must not be dropped yet for those who watch here (`overrun = wait`). To be asked with everybody under review
    /// whose socket was found full: `laggards` may have more.
    pub fn needs(&self, laggards: &[SlowConsumer], now_millis: u64) -> Needs {
        let served = (!self.is_busy()).then_some(self.arrived);
        if !self.is_watching() {
            return Needs { served, readers: NOTHING_NEEDED, newcomers: NOTHING_NEEDED };
        }
        // Whoever has room in its socket is behind for no fault of its own.
        let readers = self.oldest_unserved().map_or(NOTHING_NEEDED, |position| position + 1);
        let mut needs = Needs { served, readers, newcomers: NOTHING_NEEDED };
        for laggard in laggards.iter().filter(|laggard| laggard.is_reading(now_millis)) {
            // One that has caught up is served with the others.
            if !self.watchers.get(laggard.key).is_some_and(is_behind) {
                continue;
            }
            let of = if laggard.has_read() { &mut needs.readers } else { &mut needs.newcomers };
            *of = (*of).min(self.position(laggard.key) + 1);
        }
        needs
    }

    pub fn is_blocked(&self, key: WatcherKey) -> bool {
        self.watchers[key].is(Flags::BLOCKED)
    }

    /// The last bytes of an ending watcher have gone out.
    pub fn is_ended(&self, key: WatcherKey) -> bool {
        self.watchers.get(key).is_some_and(|watcher| watcher.is(Flags::ENDED))
    }

    /// Whether its progress is looked at.
    pub fn is_reviewed(&self, key: WatcherKey) -> bool {
        self.watchers[key].is(Flags::REVIEWED)
    }

    /// Whether a watcher still lags; one that does not is off the list of those whose progress is looked at.
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

    /// Nobody has anything left to get up to the newest number.
    pub fn is_served(&mut self, sink: &mut impl Sink) -> bool {
        self.refresh(sink);
        !self.is_busy() && !self.watchers.iter().any(|(_, watcher)| watcher.is(Flags::BLOCKED))
    }

    /// The edge-trigger law: a watcher with bytes to send waits for an edge or is in line.
    pub fn assert_nobody_forgotten(&self) {
        for (key, watcher) in self.watchers.iter() {
            let has_bytes = watcher.waiting() > 0
                || (watcher.is(Flags::LAGS) && matches!(watcher.watched, Watched::Cohort { .. }));
            let is_in_line = watcher.is(Flags::QUEUED | Flags::BLOCKED | Flags::BROKEN | Flags::ENDED);
            assert!(!has_bytes || is_in_line, "watcher {key:?} is forgotten");
        }
    }

    /// Bytes of the largest message that this watcher was sent of late, as far as the history has it; none: it was sent no
    /// event.
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

    /// The same message in the dialect of the multi-job endpoint. It was sent, and so it is made already.
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
                // What its filter lets through is marked when it comes.
                let is_up_to_date = !watcher.is(Flags::LAGS) && !cohort.is_marked && !cohort.is_served;
                let index = match is_up_to_date {
                    true => UP_TO_DATE,
                    false => self.standing(key).map_or(watcher.cursor.index, |cursor| cursor.index),
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
            position,
            waiting_bytes: watcher.waiting(),
            bytes_out: watcher.bytes_out,
            is_blocked: watcher.is(Flags::BLOCKED),
        }
    }
}

/// Bytes of the frames in a topic's log from the place `index` on. None: more than `handles_left` handles, which are
/// used up then.
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

/// A topic as operators read it.
pub fn name_of(topic: &Topic) -> String {
    match topic.kind {
        TopicKind::All => "all".to_owned(),
        TopicKind::Job => format!("job:{}", topic.name),
        TopicKind::Flow => format!("flow:{}", topic.name),
    }
}
