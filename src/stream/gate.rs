//! `overrun = wait`: for whom the feed waits before the history drops something.
//!
//! Watchers that read are waited for as long as they do. Whether one reads shows only when it has taken more than the
//! kernel's buffers hold; until then it is a newcomer, and all newcomers together have a bounded credit: whoever comes
//! again and again and never reads does not stop the feed.
//!
//! Whoever feeds the sequencer asks here before each read and before each turn of the daemon's own events. What is taken
//! in between two publishings is no event of the history yet, and counts all the same.

use std::sync::Arc;

use crate::config::Overrun;
use crate::stream::link::{Link, NOTHING_NEEDED};
use crate::stream::sequencer::{Sequencer, Step};

/// Read from one publisher at once: its share of a turn, and a batch. Also read from all of them before what came is
/// published.
pub const READ_BYTES_MAX: usize = 256 << 10;
/// Events of the daemon's own in one turn at most.
const OWN_EVENTS_MAX: usize = 256;

/// What a byte of lines may cost in the history: the shortest events have more records than text. Of a half line that is
/// held already, each byte is text.
const COST_PER_BYTE_MAX: usize = 8;
const COST_PER_HELD_BYTE_MAX: usize = 2;
/// The same for an event of the daemon's own.
const COST_PER_OWN_EVENT_MAX: usize = 2 << 10;

/// The feed waits for newcomers alone at most so long at once...
const CREDIT_MILLIS_MAX: u64 = 3_000;
/// ...and in the long run for one part in so many.
const CREDIT_SHARE: u64 = 10;
/// Counted at once at most: a daemon that was stopped has not waited for anybody.
const CHARGE_MILLIS_MAX: u64 = 100;

/// What comes next, as far as it is known.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ahead {
    /// Bytes of a half line that are held of the publisher that is read from next, if one is.
    pub held: Option<usize>,
    /// Events of the daemon's own are due.
    pub is_own_due: bool,
}

pub struct Gate {
    is_on: bool,
    links: Vec<Arc<Link>>,
    /// Read from one publisher at once, and from all in a turn: not more than a small history has room for.
    read_bytes: usize,
    /// Likewise.
    own_events_max: usize,
    /// What has been read since the last publishing may cost so much in the history.
    unpublished: usize,
    /// So much was found to have room since then.
    granted: usize,
    /// How long newcomers may still be waited for.
    credit_millis: u64,
    /// Of the next millisecond of credit, the part that has been earned.
    earned: u64,
    since_millis: u64,
    /// The feed waits now, and for newcomers alone.
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

    /// Read from one publisher at once at most, and from all of them before what came is published.
    pub fn read_bytes(&self) -> usize {
        self.read_bytes
    }

    /// Events of the daemon's own before they are published, at most.
    pub fn own_events_max(&self) -> usize {
        self.own_events_max
    }

    /// Whether what comes next would push out what must not be dropped yet. If it seems so, `ask` has the shards say anew
    /// what they need: those that sleep say it only when they look. Charges what is waited for newcomers to their credit.
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

    /// Whether a publisher of whom `held` bytes of a half line are held may be read from once. To be asked before each
    /// read, and [`Gate::note_read`] is to be told of each.
    pub fn may_read(&self, sequencer: &Sequencer, held: usize) -> bool {
        let cost = self.cost_of_read(held);
        self.unpublished + cost <= self.granted || self.has_room(sequencer, cost)
    }

    /// Of a publisher with `held` bytes so many more were read. If any were, a publishing follows.
    pub fn note_read(&mut self, held: usize, bytes: usize) {
        if bytes > 0 {
            self.unpublished += held * COST_PER_HELD_BYTE_MAX + bytes * COST_PER_BYTE_MAX;
        }
    }

    /// Whether [`Gate::own_events_max`] events of the daemon's own may be taken in.
    pub fn may_take_own(&self, sequencer: &Sequencer) -> bool {
        self.has_room(sequencer, self.cost_of_own())
    }

    /// A step of publishing. What is needed by now stays, whatever was let in: the history is too large for a while
    /// instead.
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

    /// Nothing that is needed would have to go for so many bytes in the history, beside those that are on their way.
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

    /// The oldest number that watchers need of whom it is known that they read.
    fn readers_need(&self) -> u64 {
        self.min(Link::needed)
    }

    fn min(&self, needed: fn(&Link) -> u64) -> u64 {
        self.links.iter().map(|link| needed(link)).min().unwrap_or(NOTHING_NEEDED)
    }

    /// Time has passed: charges it to the newcomers' credit, or adds to that. Room is judged only after this, and the credit
    /// is the same until all that was let in is published.
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
    fn newcomers_are_waited_for_three_seconds_in_thirty_and_readers_always() {
        let (link, _inlet) = link();
        let mut gate = Gate::new(Overrun::Wait, vec![link.clone()], 65_536);
        link.say(Needs { served: None, readers: 70, newcomers: 50 });
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
        // A daemon that was stopped.
        pass(&mut gate, true, 90_000);
        pass(&mut gate, true, 190_000);
        assert_eq!(gate.credit_millis, 2_900);
    }

    #[test]
    fn what_is_read_counts_until_it_is_published() {
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
    fn under_gap_nobody_is_waited_for() {
        let (link, _inlet) = link();
        link.say(Needs { served: None, readers: 1, newcomers: 1 });
        assert_eq!(Gate::new(Overrun::Gap, vec![link], 65_536).keep_from(), NOTHING_NEEDED);
    }
}
