//! The gate of `overrun = wait`: decides when the feed waits for watchers, so that the history drops nothing they need.
//!
//! The feed waits for watchers as long as they read. Whether one reads shows only when it has taken more than the
//! kernel's buffers hold. Until then it is a newcomer. All newcomers together have a bounded credit, so that a client
//! that comes again and again and never reads does not stop the feed.
//!
//! The ingest thread asks here before each read and before each turn of the daemon's own events. What was taken in
//! since the last publishing is not in the history yet, but counts as well.

use std::sync::Arc;

use crate::config::Overrun;
use crate::stream::link::{Link, NOTHING_NEEDED};
use crate::stream::sequencer::{Sequencer, Step};

/// Read from one publisher at once, at most: its share of a turn, and a batch. Also the limit for all publishers
/// between two publishings.
pub const READ_BYTES_MAX: usize = 256 << 10;
/// Events of the daemon's own in one turn, at most.
const OWN_EVENTS_MAX: usize = 256;

/// What a byte read may cost in the history: the shortest events have more records than text. In a half line that is
/// held already, each byte is text.
const COST_PER_BYTE_MAX: usize = 8;
const COST_PER_HELD_BYTE_MAX: usize = 2;
/// The same for an event of the daemon's own.
const COST_PER_OWN_EVENT_MAX: usize = 2 << 10;

/// For newcomers alone, the feed waits this long at once, at most...
const CREDIT_MILLIS_MAX: u64 = 3_000;
/// ...and in the long run one part in this many of the time.
const CREDIT_SHARE: u64 = 10;
/// Charged at once, at most: a daemon that was paused has not waited.
const CHARGE_MILLIS_MAX: u64 = 100;

/// What the feed takes in next, as far as it is known.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ahead {
    /// Bytes of a half line that are held for the publisher to be read next. None: no publisher is.
    pub held: Option<usize>,
    /// Events of the daemon's own are due.
    pub is_own_due: bool,
}

pub struct Gate {
    is_on: bool,
    links: Vec<Arc<Link>>,
    /// Read from one publisher at once, and from all in a turn, at most: no more than a small history has room for.
    read_bytes: usize,
    /// The same for events of the daemon's own.
    own_events_max: usize,
    /// What the lines read since the last publishing may cost in the history.
    unpublished: usize,
    /// What was found to have room since then.
    granted: usize,
    /// How long the feed may still wait for newcomers.
    credit_millis: u64,
    /// The part earned of the next millisecond of credit, in `CREDIT_SHARE`ths.
    earned: u64,
    since_millis: u64,
    /// The feed is waiting, and for newcomers alone.
    is_credit_in_use: bool,
}

impl Gate {
    pub fn new(overrun: Overrun, links: Vec<Arc<Link>>, history_bytes: usize) -> Self {
        let read_bytes = READ_BYTES_MAX.min(history_bytes / (2 * COST_PER_BYTE_MAX));
        Self {
            is_on: overrun == Overrun::Wait,
            links,
            read_bytes,
            own_events_max: (read_bytes / COST_PER_OWN_EVENT_MAX).clamp(1, OWN_EVENTS_MAX),
            unpublished: 0,
            granted: 0,
            credit_millis: CREDIT_MILLIS_MAX,
            earned: 0,
            since_millis: 0,
            is_credit_in_use: false,
        }
    }

    /// Read from one publisher at once, and from all between two publishings, at most.
    pub fn read_bytes(&self) -> usize {
        self.read_bytes
    }

    /// Events of the daemon's own between two publishings, at most.
    pub fn own_events_max(&self) -> usize {
        self.own_events_max
    }

    /// Whether what comes next would push out what watchers still need. If it seems so, `ask` has the shards report
    /// again what they need, since sleeping shards do not. Charges the time spent waiting for newcomers to their
    /// credit.
    pub fn must_wait(
        &mut self,
        sequencer: &Sequencer,
        ahead: Ahead,
        now_millis: u64,
        ask: impl FnOnce(),
    ) -> bool {
        self.charge(now_millis);
        let read = ahead.held.map(|held| self.cost_of_read(held));
        let own = ahead.is_own_due.then(|| self.cost_of_own());
        let Some(cost) = read.max(own).filter(|_| self.is_on) else {
            self.is_credit_in_use = false;
            return false;
        };
        let mut has_room = self.has_room(sequencer, cost);
        if !has_room {
            ask();
            has_room = self.has_room(sequencer, cost);
        }
        self.is_credit_in_use = !has_room && !sequencer.would_drop(self.readers_need(), cost);
        self.granted = if has_room { self.unpublished + cost } else { 0 };
        !has_room
    }

    /// Whether to read once from a publisher with `held` bytes of a half line. Asked before each read;
    /// [`Gate::note_read`] follows each.
    pub fn may_read(&self, sequencer: &Sequencer, held: usize) -> bool {
        let cost = self.cost_of_read(held);
        self.unpublished + cost <= self.granted || self.has_room(sequencer, cost)
    }

    /// Notes that `bytes` were read from a publisher with `held` bytes. If any were, a publishing follows.
    pub fn note_read(&mut self, held: usize, bytes: usize) {
        if bytes > 0 {
            self.unpublished += held * COST_PER_HELD_BYTE_MAX + bytes * COST_PER_BYTE_MAX;
        }
    }

    /// Whether there is room for [`Gate::own_events_max`] events of the daemon's own.
    pub fn may_take_own(&self, sequencer: &Sequencer) -> bool {
        self.has_room(sequencer, self.cost_of_own())
    }

    /// Takes a step of publishing. What is needed now is not dropped, whatever was let in: the history exceeds its
    /// limit for a while instead.
    pub fn step(&mut self, sequencer: &mut Sequencer) -> Step {
        if self.is_on && sequencer.may_evict_next() {
            sequencer.keep_from = self.keep_from();
        }
        let step = sequencer.step();
        if step == Step::Done {
            (self.unpublished, self.granted) = (0, 0);
        }
        step
    }

    /// Whether the history has room for `bytes` beside what is unpublished, without dropping what is needed.
    fn has_room(&self, sequencer: &Sequencer, bytes: usize) -> bool {
        !self.is_on || !sequencer.would_drop(self.keep_from(), self.unpublished + bytes)
    }

    /// What reading from a publisher once may cost in the history.
    fn cost_of_read(&self, held: usize) -> usize {
        held * COST_PER_HELD_BYTE_MAX + self.read_bytes * COST_PER_BYTE_MAX
    }

    fn cost_of_own(&self) -> usize {
        self.own_events_max * COST_PER_OWN_EVENT_MAX
    }

    /// The oldest number that must not be dropped now.
    pub fn keep_from(&self) -> u64 {
        if !self.is_on {
            return NOTHING_NEEDED;
        }
        let newcomers =
            if self.credit_millis > 0 { self.min(Link::newcomers_needed) } else { NOTHING_NEEDED };
        self.readers_need().min(newcomers)
    }

    /// The oldest number that watchers known to read need.
    fn readers_need(&self) -> u64 {
        self.min(Link::needed)
    }

    fn min(&self, needed: fn(&Link) -> u64) -> u64 {
        self.links.iter().map(|link| needed(link)).min().unwrap_or(NOTHING_NEEDED)
    }

    /// Charges the time that has passed to the newcomers' credit, or adds to the credit. Room is judged only after
    /// this, and the credit stays the same until all that was let in is published.
    fn charge(&mut self, now_millis: u64) {
        let span = now_millis.saturating_sub(self.since_millis);
        self.since_millis = now_millis;
        if self.is_credit_in_use {
            self.credit_millis = self.credit_millis.saturating_sub(span.min(CHARGE_MILLIS_MAX));
        } else {
            let earned = self.earned + span;
            self.earned = earned % CREDIT_SHARE;
            self.credit_millis = (self.credit_millis + earned / CREDIT_SHARE).min(CREDIT_MILLIS_MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Ahead, Gate};
    use crate::config::Overrun;
    use crate::stream::directory::Directory;
    use crate::stream::link::{NOTHING_NEEDED, Needs, link};
    use crate::stream::numbers::SEQ_MIN;
    use crate::stream::sequencer::{Limits, Sequencer, Step};

    #[test]
    fn the_feed_waits_for_newcomers_three_seconds_in_thirty_and_for_readers_always() {
        let (link, _inlet) = link();
        let mut gate = Gate::new(Overrun::Wait, vec![link.clone()], 65_536);
        link.report_needs(Needs { served: None, readers: 70, newcomers: 50 });
        assert_eq!((gate.keep_from(), gate.readers_need()), (50, 70));
        let pass = |gate: &mut Gate, is_in_use, now| {
            gate.charge(now);
            gate.is_credit_in_use = is_in_use;
        };
        for now in (0..=3_000).step_by(5) {
            assert_eq!(gate.keep_from(), 50, "{now}");
            pass(&mut gate, true, now);
        }
        assert_eq!(gate.keep_from(), 70, "no credit is left");
        pass(&mut gate, false, 3_005);
        pass(&mut gate, false, 13_005);
        assert_eq!(gate.credit_millis, 1_000);
        assert_eq!(gate.keep_from(), 50);
        pass(&mut gate, false, 90_000);
        assert_eq!(gate.credit_millis, 3_000);
        // The daemon was paused.
        pass(&mut gate, true, 90_000);
        pass(&mut gate, true, 190_000);
        assert_eq!(gate.credit_millis, 2_900);
    }

    #[test]
    fn what_was_read_counts_until_it_is_published() {
        let (link, _inlet) = link();
        let mut gate = Gate::new(Overrun::Wait, vec![link.clone()], 65_536);
        let limits = Limits {
            history_bytes: 65_536,
            history_millis: 0,
            job_idle_millis: 0,
            metrics_millis: 0,
            jobs_max: 1,
            depth_max: 8,
        };
        let directory = Arc::new(Directory::new(SEQ_MIN, 10));
        let mut sequencer = Sequencer::new(directory, vec![link.clone()], limits);
        link.hold();
        let ahead = |held| Ahead { held: Some(held), is_own_due: false };
        assert!(!gate.must_wait(&sequencer, ahead(0), 0, || panic!("there is room")));
        assert!(gate.may_read(&sequencer, 0));
        gate.note_read(16_000, 0);
        assert_eq!(gate.unpublished, 0, "nothing came of it");
        gate.note_read(16_000, 10);
        assert_eq!(gate.unpublished, 32_080);
        sequencer.end_turn();
        assert_eq!(gate.step(&mut sequencer), Step::Done);
        assert_eq!((gate.unpublished, gate.granted, sequencer.keep_from), (0, 0, 0));
    }

    #[test]
    fn under_gap_the_feed_waits_for_nobody() {
        let (link, _inlet) = link();
        link.report_needs(Needs { served: None, readers: 1, newcomers: 1 });
        assert_eq!(Gate::new(Overrun::Gap, vec![link], 65_536).keep_from(), NOTHING_NEEDED);
    }
}
