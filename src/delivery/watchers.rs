//! All watchers of one shard: how they come, change what they want, wait to be served, and go.

use std::collections::{HashMap, VecDeque};
use std::mem;
use std::ops::Range;
use std::sync::Arc;

use foldhash::fast::RandomState;

use crate::delivery::audience::Audience;
use crate::delivery::compressor::Compressor;
use crate::delivery::copy_or_sendfile::SendMethods;
use crate::delivery::counts::DeliveryCounts;
use crate::delivery::cursor::Gathered;
use crate::delivery::effort::Effort;
use crate::delivery::filter::{Filter, Selector};
use crate::delivery::framed::{Framed, FramedBlocks};
use crate::delivery::keys::{CohortKey, LocalTopicSlot, WatcherKey};
use crate::delivery::masks::Masks;
use crate::delivery::merge::Merge;
use crate::delivery::outbox::{Outbox, OutboxPool, RestForm, SPARE_OUTBOX_BYTES_MAX};
use crate::delivery::owned_body::Body;
use crate::delivery::past_readers::PastReaders;
use crate::delivery::run_queue::RunQueue;
use crate::delivery::start::{self, Pending};
use crate::delivery::table::Table;
use crate::delivery::watcher::{Flags, Watched, Watcher};
use crate::event::METRICS_BIT;
use crate::stream::batch::Batch;
use crate::stream::directory::{Directory, DirectoryFull};
use crate::stream::topic::{Handle, Topic, TopicKind};
use crate::wire::client_action::Since;
use crate::wire::framing::{Framing, change_returns};
use crate::wire::stamp::Stamp;
use crate::wire::watcher_message::{self, Gap};

/// The rest of a frame holds its batch only if it is at least one part in this many of it.
const REST_SHARE: usize = 4;

/// What a new watcher of one topic asks for.
pub struct WatchRequest<'a> {
    pub kind: TopicKind,
    pub name: &'a str,
    pub filter: Filter,
    pub since: Since,
    pub framing: Framing,
}

pub struct Watchers {
    pub shard: usize,
    pub directory: Arc<Directory>,
    pub watchers: Table<Watcher>,
    pub(super) audience: Audience,
    /// The run queue: marked cohorts.
    pub(super) cohort_queue: RunQueue<CohortKey>,
    /// Lone watchers, to be served one by one.
    pub(super) watcher_queue: VecDeque<WatcherKey>,
    /// Deliveries go up to this number. Never older than a batch that was marked.
    pub(super) tail: u64,
    /// Up to this number, every event of a topic watched here is marked. A merge of many jobs goes no further, or
    /// events of a job not yet marked would come too late. `arrived <= tail`.
    pub(super) arrived: u64,
    /// The end of the last hole that every watcher stands before, alone, or is beyond; 0 if there was none.
    pub(super) holes_to: u64,
    pub(super) masks: Masks,
    /// What watchers flagged `PENDING` wait for.
    pub(super) pending: HashMap<WatcherKey, Pending, RandomState>,
    pub(super) past: PastReaders,
    pub(super) gathered: Gathered,
    pub(super) framed: Framed,
    /// The same for those that are served alone.
    pub(super) framed_alone: FramedBlocks,
    pub(super) compressor: Compressor,
    pub(super) flat: Vec<u8>,
    pub(super) send_methods: SendMethods,
    pub(super) merge: Merge,
    /// The usual filter for tokens without `debug`, shared by all: it costs a connection nothing.
    without_breakpoints: Arc<Filter>,
    pub(super) effort: Effort,
    pub(super) outboxes: OutboxPool,
    /// Watchers whose socket broke, or whose last bytes were sent: the caller looks at them after a flush.
    pub gone: Vec<WatcherKey>,
    /// Watchers whose sockets were found full and that are not under review yet.
    pub blocked: Vec<WatcherKey>,
    pub counts: DeliveryCounts,
    /// The time in control messages of this turn.
    pub now: Stamp,
}

impl Watchers {
    pub fn new(shard: usize, directory: Arc<Directory>) -> Self {
        let (tail, masks) = (directory.published(), Masks::new(&directory.types));
        Self {
            shard,
            directory,
            watchers: Table::new(),
            audience: Audience::default(),
            cohort_queue: RunQueue::default(),
            watcher_queue: VecDeque::new(),
            tail,
            arrived: tail,
            holes_to: 0,
            masks,
            pending: HashMap::default(),
            past: PastReaders::default(),
            gathered: Gathered::default(),
            framed: Framed::default(),
            framed_alone: FramedBlocks::default(),
            compressor: Compressor::default(),
            flat: Vec::new(),
            send_methods: SendMethods::default(),
            merge: Merge::default(),
            without_breakpoints: Arc::new(Filter::all(false, false).without_breakpoints()),
            effort: Effort::default(),
            outboxes: OutboxPool::default(),
            gone: Vec::new(),
            blocked: Vec::new(),
            counts: DeliveryCounts::default(),
            now: Stamp::from_unix_millis(0),
        }
    }

    /// Adds a watcher that watches nothing yet.
    pub fn add(&mut self) -> WatcherKey {
        self.watchers.insert(Watcher::new)
    }

    /// Removes a watcher. Its key finds nothing from now on.
    pub fn remove(&mut self, key: WatcherKey) {
        self.leave(key);
        let watcher = self.watchers.remove(key);
        if watcher.is(Flags::PENDING) {
            self.pending.remove(&key);
        }
        if let Some(outbox) = watcher.outbox {
            self.outboxes.take_back(outbox);
        }
    }

    /// Whether a cohort or a lone watcher waits to be served.
    pub fn is_busy(&self) -> bool {
        !self.cohort_queue.is_empty() || !self.watcher_queue.is_empty()
    }

    /// Puts frames of the daemon's own behind what the outbox already has, before all further events. Where the watcher's
    /// connection is no WebSocket, their messages go into chunks.
    pub fn enqueue_control(&mut self, key: WatcherKey, write: impl FnOnce(&mut Vec<u8>)) {
        match self.watchers[key].framing() {
            framing if framing.is_http() => self.enqueue_chunks(key, framing, true, write),
            _ => self.enqueue_bytes(key, write),
        }
    }

    /// The same with bytes that stay as they are.
    pub fn enqueue_bytes(&mut self, key: WatcherKey, write: impl FnOnce(&mut Vec<u8>)) {
        let outbox = self.outbox(key);
        debug_assert!(!outbox.has_body(), "nothing follows an answer's body");
        write(&mut outbox.bytes);
        self.enqueue(key);
    }

    /// `is_at_newest`: the number in the greeting is the watcher's position.
    fn enqueue_chunks(
        &mut self,
        key: WatcherKey,
        framing: Framing,
        is_at_newest: bool,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        let mut frames = mem::take(&mut self.flat);
        frames.clear();
        write(&mut frames);
        self.enqueue_bytes(key, |out| framing.reframe(&frames, is_at_newest, out));
        self.flat = frames;
    }

    /// Queues the rest of a frame, which is sent next; the outbox is empty. A large rest stays in its batch, unless
    /// that is mostly something else: one batch serves all watchers that stopped in it. A small rest is copied.
    pub(super) fn enqueue_rest(
        &mut self,
        key: WatcherKey,
        batch: &Arc<Batch>,
        rest: Range<u32>,
        form: RestForm,
    ) {
        let is_mostly_this = rest.len() >= batch.capacity() / REST_SHARE;
        let held = |held: fn(Arc<Batch>, Range<u32>) -> Body| held(batch.clone(), rest.clone());
        let body = if form == RestForm::Dialect { held(Body::Dialect) } else { held(Body::Frames) };
        let changes_returns = form == RestForm::WithoutReturns;
        let outbox = self.outbox(key);
        debug_assert_eq!(outbox.waiting(), 0, "nothing waits before the rest of a frame");
        match is_mostly_this && rest.len() > SPARE_OUTBOX_BYTES_MAX {
            true => outbox.set_rest(body, changes_returns),
            false => {
                outbox.bytes.extend_from_slice(&body);
                if changes_returns {
                    change_returns(&mut outbox.bytes);
                }
            }
        }
        self.enqueue(key);
    }

    /// Queues an HTTP answer: the head, and a body that is not copied. Nothing follows it.
    pub fn answer(&mut self, key: WatcherKey, head: &[u8], body: Body) {
        let outbox = self.outbox(key);
        outbox.bytes.extend_from_slice(head);
        outbox.set_body(body);
        self.end(key);
    }

    fn outbox(&mut self, key: WatcherKey) -> &mut Outbox {
        self.outboxes.outbox_in(&mut self.watchers[key].outbox)
    }

    /// Ends a watcher: it gets no more events, only the rest of its outbox.
    pub fn end(&mut self, key: WatcherKey) {
        self.leave(key);
        self.watchers[key].set(Flags::ENDING);
        self.enqueue(key);
    }

    /// The socket has room again.
    pub fn handle_writable(&mut self, key: WatcherKey) {
        if self.watchers[key].is(Flags::BLOCKED) {
            self.watchers[key].unset(Flags::BLOCKED);
            self.enqueue(key);
            if self.watchers[key].is(Flags::READS_PAST) {
                self.enqueue_reader(key);
            }
        }
    }

    /// The socket is full: the watcher waits for room, and its progress is reviewed.
    pub(super) fn block(&mut self, key: WatcherKey) {
        let watcher = &mut self.watchers[key];
        watcher.set(Flags::BLOCKED | Flags::LAGS);
        if !watcher.is(Flags::REVIEWED) {
            watcher.set(Flags::REVIEWED);
            self.blocked.push(key);
        }
    }

    /// Puts the watcher into `watcher_queue`, to be served alone in the next flush, unless its socket is full.
    pub(super) fn enqueue(&mut self, key: WatcherKey) {
        let watcher = &mut self.watchers[key];
        if watcher.is(Flags::QUEUED | Flags::BLOCKED) {
            return;
        }
        watcher.set(Flags::QUEUED);
        match watcher.is(Flags::IN_PAST) && watcher.outbox.is_none() {
            false => self.watcher_queue.push_back(key),
            true => self.past.queue.push_back(key),
        }
    }

    /// Lets the masks learn new types. Those of published events are in the table by now.
    pub(super) fn renew_masks(&mut self) {
        if self.masks.are_stale(&self.directory.types) {
            self.masks.renew(&self.directory.types, &mut self.audience.cohorts, &mut self.watchers);
        }
    }

    /// Begins to watch one topic. `accept` writes the head of the HTTP answer. `published` is called once the shard's
    /// interest is set: newer events will be offered to the shard, all others are in the log. Returns its answer.
    pub fn watch(
        &mut self,
        key: WatcherKey,
        request: WatchRequest<'_>,
        accept: impl FnOnce(&mut Vec<u8>),
        published: impl FnOnce() -> u64,
        greet: impl FnOnce(&Topic, u64, bool, &mut Vec<u8>),
    ) -> Result<u64, DirectoryFull> {
        let WatchRequest { kind, name, filter, since, framing } = request;
        let topic = self.directory.watch(kind, name)?;
        let local = self.audience.find_or_add(&topic);
        topic.set_interest(self.shard);
        let newest = published();
        // A type that is in a published event is in the table by now.
        self.renew_masks();
        let filter = self.share(filter);
        let selector = self.selector(filter.as_ref());
        let start = start::start(&topic, &self.directory, since, newest, &selector);
        let in_past = self.begin_in_past(&topic, since, &start);
        let (is_in_past, start) = (in_past.is_some(), in_past.unwrap_or(start));
        let watcher = &mut self.watchers[key];
        watcher.filter = filter;
        watcher.jump_to(start.cursor);
        watcher.set(Flags::LAGS);
        watcher.set_framing(framing);
        if let Some(pending) = start.pending {
            watcher.set(Flags::PENDING);
            self.pending.insert(key, pending);
        }
        if is_in_past {
            self.enter_past(key, since == Since::Start);
        }
        let is_metrics_wanted = selector.mask >> METRICS_BIT & 1 == 1;
        self.audience.join(&mut self.watchers, key, local, selector);
        let now = self.now;
        let greet = |out: &mut Vec<u8>| {
            // Who stands at a number that has not come yet is told of none below it.
            greet(&topic, newest.max(start.cursor.seq), is_metrics_wanted, out);
            write_gap(&now, start.gap.as_ref(), &start.kept, out);
        };
        self.enqueue_bytes(key, accept);
        match framing.is_http() {
            true => self.enqueue_chunks(key, framing, since == Since::Now, greet),
            false => self.enqueue_bytes(key, greet),
        }
        self.counts.add_gap(start.gap.as_ref());
        Ok(newest)
    }

    /// Changes a watcher's filter from the next event on; the confirmation is already in the outbox. The caller has
    /// called [`Watchers::flush_one`], so the watcher is at the place where the change takes effect.
    pub fn set_filter(&mut self, key: WatcherKey, filter: Filter) {
        let filter = self.share(filter);
        match self.watchers[key].watched {
            Watched::Nothing => {}
            Watched::MultiJob(_) => {
                let selector = self.selector(filter.as_ref());
                self.watchers[key].filter = filter;
                self.select(key, selector);
            }
            Watched::Cohort { cohort, .. } => {
                let local = self.audience.cohorts[cohort].topic;
                let selector = self.selector(filter.as_ref());
                self.detach(key);
                self.audience.leave(&mut self.watchers, key);
                self.watchers[key].filter = filter;
                self.watchers[key].forget_window();
                self.audience.join(&mut self.watchers, key, local, selector);
            }
        }
        self.enqueue(key);
    }

    /// A filter as a watcher stores it. None: it lets everything through.
    pub(super) fn share(&self, filter: Filter) -> Option<Arc<Filter>> {
        if filter.is_all() {
            None
        } else if filter == *self.without_breakpoints {
            Some(self.without_breakpoints.clone())
        } else {
            Some(Arc::new(filter))
        }
    }

    pub(super) fn selector(&self, filter: Option<&Arc<Filter>>) -> Selector {
        filter.map_or(Selector::ALL, |filter| Selector::new(filter, &self.directory.types))
    }

    /// The selector in force for a watcher of one topic, and the topic.
    pub(super) fn wanted(&self, key: WatcherKey) -> (Selector, Arc<Topic>) {
        let Watched::Cohort { cohort, .. } = self.watchers[key].watched else {
            panic!("only a watcher of one topic has a cohort");
        };
        let cohort = &self.audience.cohorts[cohort];
        (cohort.selector.clone(), self.audience.topics[cohort.topic].topic.clone())
    }

    /// Releases one watcher's hold on a topic.
    pub(super) fn release(&mut self, local: LocalTopicSlot) {
        let topic = self.audience.topics[local].topic.clone();
        if self.audience.forget_if_empty(local) {
            topic.clear_interest(self.shard);
        }
        self.directory.unwatch(&topic);
    }

    /// Ends all that a watcher watches.
    fn leave(&mut self, key: WatcherKey) {
        if self.watchers[key].is(Flags::IN_PAST | Flags::READS_PAST) {
            self.leave_past(key);
        }
        match mem::replace(&mut self.watchers[key].watched, Watched::Nothing) {
            Watched::Nothing => {}
            Watched::MultiJob(many) => self.leave_many(*many),
            place @ Watched::Cohort { cohort, .. } => {
                let local = self.audience.cohorts[cohort].topic;
                self.watchers[key].watched = place;
                self.audience.leave(&mut self.watchers, key);
                self.release(local);
            }
        }
    }

    /// From now on the watcher's place is its own cursor, whatever its cohort's `start`.
    pub(super) fn detach(&mut self, key: WatcherKey) {
        let watcher = &mut self.watchers[key];
        if let Watched::Cohort { cohort, .. } = watcher.watched
            && !watcher.is(Flags::LAGS)
        {
            watcher.go_on_to(watcher.cursor().max(self.audience.cohorts[cohort].start));
            watcher.set(Flags::LAGS);
        }
    }
}

/// Writes a gap and the kept events that follow it.
pub(super) fn write_gap(now: &Stamp, gap: Option<&Gap>, kept: &[Handle], out: &mut Vec<u8>) {
    if let Some(gap) = gap {
        watcher_message::gap(out, now, gap, None);
    }
    for handle in kept {
        out.extend_from_slice(handle.batch.bytes());
    }
}
