//! What a lone watcher has to be sent before its next event, where that is not known at once: the gap for what the
//! history has lost, or what is [`Pending`].

use arrayvec::ArrayVec;

use crate::delivery::cursor::Missed;
use crate::delivery::filter::Selector;
use crate::delivery::keys::WatcherKey;
use crate::delivery::start::{Pending, earlier_gap, find, start_anew};
use crate::delivery::watcher::Flags;
use crate::delivery::watchers::{Watchers, write_gap};
use crate::stream::topic::Topic;
use crate::wire::watcher_message::GapReason;

/// What one step for a pending watcher has found.
pub(super) enum Found {
    /// Nothing to send first: events may follow.
    Nothing,
    /// A gap or kept events, now in the outbox: they are sent before any event.
    Queued,
    /// Nothing yet: the search goes on.
    NotYet,
    /// Nothing up to the tail is for it.
    Waits,
}

impl Watchers {
    /// Tells a watcher that the history has moved past its place, and moves it on. `index` is that place by index,
    /// where it is known. False: nothing that it wants is lost.
    pub(super) fn tell_missed(
        &mut self,
        key: WatcherKey,
        index: Option<u64>,
        selector: &Selector,
        topic: &Topic,
    ) -> bool {
        let from = self.watchers[key].cursor();
        let missed = Missed::of(&topic.log.lock(), &self.directory.holes, index, from.seq, selector);
        let gap = missed.gap(from.seq, GapReason::Overrun);
        self.watchers[key].jump_to(missed.place_after(from));
        if missed.is_any() {
            let now = self.now;
            self.enqueue_control(key, |out| write_gap(&now, gap.as_ref(), &missed.kept, out));
            self.counts.add_gap(gap.as_ref());
        }
        missed.is_any()
    }

    /// Looks, one step further, for what a pending watcher has to be sent first.
    pub(super) fn resolve_pending(&mut self, key: WatcherKey, selector: &Selector, topic: &Topic) -> Found {
        if self.is_of_another_stream(key) {
            self.begin_anew(key, selector, topic);
            return Found::Queued;
        }
        let pending = self.pending.get_mut(&key).expect("a watcher flagged PENDING has an entry");
        let log = topic.log.lock();
        let (gap, kept) = match pending {
            // The job has no event yet: the watcher waits for the first like all others.
            Pending::Earlier { .. } if log.first_seq().is_none() => return Found::Nothing,
            Pending::Earlier { earlier_to } => (earlier_gap(*earlier_to, &log), ArrayVec::new()),
            Pending::Last(search) => {
                self.effort.add_search();
                let Some(start) = search.step(&log, selector) else { return Found::NotYet };
                self.watchers[key].jump_to(start.cursor);
                (None, start.kept)
            }
            Pending::Stands { .. } if self.watchers[key].cursor().seq > self.tail => return Found::Waits,
            Pending::Stands { .. } => match find(&log, self.watchers[key].cursor()) {
                Some(cursor) => {
                    self.watchers[key].jump_to(cursor);
                    (None, ArrayVec::new())
                }
                None => {
                    drop(log);
                    self.pending.remove(&key);
                    self.watchers[key].unset(Flags::PENDING);
                    if self.can_read_past(self.watchers[key].cursor().seq) {
                        self.enter_past(key, false);
                        return Found::NotYet;
                    }
                    let is_told = self.tell_missed(key, None, selector, topic);
                    return if is_told { Found::Queued } else { Found::Nothing };
                }
            },
        };
        drop(log);
        self.pending.remove(&key);
        self.watchers[key].unset(Flags::PENDING);
        if gap.is_some() || !kept.is_empty() {
            let now = self.now;
            self.enqueue_control(key, |out| write_gap(&now, gap.as_ref(), &kept, out));
            self.counts.add_gap(gap.as_ref());
            return Found::Queued;
        }
        Found::Nothing
    }

    /// It stands at a number that no daemon can have given.
    fn is_of_another_stream(&self, key: WatcherKey) -> bool {
        let seq = self.watchers[key].cursor().seq;
        let Some(Pending::Stands { answers }) = self.pending.get(&key) else { return false };
        seq > self.tail && self.directory.was_never_given(seq, *answers)
    }

    fn begin_anew(&mut self, key: WatcherKey, selector: &Selector, topic: &Topic) {
        let seq = self.watchers[key].cursor().seq;
        let start = start_anew(topic, &self.directory, seq, self.tail, selector);
        self.pending.remove(&key);
        let watcher = &mut self.watchers[key];
        watcher.unset(Flags::PENDING);
        watcher.set(Flags::LAGS);
        watcher.jump_to(start.cursor);
        let now = self.now;
        self.enqueue_control(key, |out| write_gap(&now, start.gap.as_ref(), &start.kept, out));
        self.counts.add_gap(start.gap.as_ref());
    }
}
