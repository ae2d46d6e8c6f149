//! Holes in the numbers: ranges whose events were lost before they reached this daemon. How many there were, and of
//! which topics, nobody knows, so every watcher that passes one gets a gap. A jump between two numbers is no hole.
//!
//! A hole stays as long as the history has an event before or right behind it. Of those that went with the history the
//! end of the last is known: whoever comes from before it has passed at least one.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

/// The numbers `from..=to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hole {
    pub from: u64,
    pub to: u64,
    /// Another stream follows, or another end of it. Never in a snapshot: those who share a stream save none.
    #[serde(skip)]
    pub is_restart: bool,
}

impl Hole {
    /// These events are lost, and the stream goes on.
    pub fn new(from: u64, to: u64) -> Self {
        Self { from, to, is_restart: false }
    }
}

#[derive(Default)]
pub struct Holes {
    /// The end of the newest hole, 0 if there was none: most often that is all that anybody has to know.
    newest_to: AtomicU64,
    kept: Mutex<Kept>,
}

/// What a snapshot keeps of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Oldest first. An event is between any two, so there are no more than batches, and one.
    pub holes: VecDeque<Hole>,
    /// The end of the last hole that went with the history, 0 if none did.
    pub forgotten_to: u64,
}

impl Holes {
    pub fn restore(kept: Kept) -> Self {
        let newest_to = kept.holes.back().map_or(kept.forgotten_to, |hole| hole.to);
        Self { newest_to: AtomicU64::new(newest_to), kept: Mutex::new(kept) }
    }

    pub fn save(&self) -> Kept {
        self.kept.lock().clone()
    }

    /// Notes a hole behind the event `last_seq`, the newest of all, before its end is published. Returns how many bytes
    /// it takes: none if it goes on where the one before ended.
    pub(super) fn note(&self, hole: Hole, last_seq: u64) -> usize {
        let mut kept = self.kept.lock();
        let before = kept.holes.back_mut().filter(|before| last_seq < before.from);
        let bytes = match before {
            Some(before) => {
                before.to = hole.to;
                before.is_restart |= hole.is_restart;
                0
            }
            None => {
                kept.holes.push_back(hole);
                size_of::<Hole>()
            }
        };
        self.newest_to.store(hole.to, Ordering::SeqCst);
        bytes
    }

    /// Lets the holes go that ended before the number `base_seq`, the last that the history has lost. Returns how many
    /// bytes they took.
    pub(super) fn forget(&self, base_seq: u64) -> usize {
        if self.newest_to() == 0 {
            return 0;
        }
        let mut kept = self.kept.lock();
        let gone = kept.holes.partition_point(|hole| hole.to <= base_seq);
        let last_to = gone.checked_sub(1).map(|last| kept.holes[last].to);
        kept.forgotten_to = last_to.unwrap_or(kept.forgotten_to);
        kept.holes.drain(..gone);
        gone * size_of::<Hole>()
    }

    /// The end of the newest hole, 0 if there was none.
    #[inline]
    pub fn newest_to(&self) -> u64 {
        self.newest_to.load(Ordering::SeqCst)
    }

    /// The end of the newest hole up to the number `until`, 0 if there is none. It may have grown beyond that.
    pub fn newest_until(&self, until: u64) -> u64 {
        if self.newest_to() == 0 {
            return 0;
        }
        let kept = self.kept.lock();
        let begun = kept.holes.partition_point(|hole| hole.from <= until);
        begun.checked_sub(1).map_or(kept.forgotten_to, |last| kept.holes[last].to).min(until)
    }

    /// The first hole in front of a watcher at the number `seq`, up to the number `until`: it may have grown beyond that.
    /// Those that went with the history are one, from 0 on.
    pub fn ahead(&self, seq: u64, until: u64) -> Option<Hole> {
        if self.newest_to() <= seq {
            return None;
        }
        let kept = self.kept.lock();
        if kept.forgotten_to > seq {
            return Some(Hole::new(0, kept.forgotten_to));
        }
        let place = kept.holes.partition_point(|hole| hole.to <= seq);
        let hole = kept.holes.get(place).filter(|hole| hole.from <= until)?;
        Some(Hole { to: hole.to.min(until), ..*hole }).filter(|hole| hole.to > seq)
    }

    /// The end of the last hole that a watcher passes that moves from the number `seq` to `until`, where a log begins;
    /// 0: it passes none. Of those that went with the history, logs have nothing left: they are passed in any case.
    pub fn passed(&self, seq: u64, until: u64) -> u64 {
        if self.newest_to() <= seq {
            return 0;
        }
        let kept = self.kept.lock();
        let passed = kept.holes.partition_point(|hole| hole.to <= until);
        let last_to = passed.checked_sub(1).map_or(0, |last| kept.holes[last].to).max(kept.forgotten_to);
        if last_to > seq { last_to } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::{Hole, Holes};

    #[test]
    fn a_watcher_meets_the_holes_in_front_of_it_and_no_others() {
        let holes = Holes::default();
        assert_eq!((holes.ahead(0, 999), holes.passed(0, 999), holes.newest_until(999)), (None, 0, 0));
        assert!(holes.note(Hole::new(200, 300), 150) > 0);
        assert!(holes.note(Hole::new(500, 600), 400) > 0);
        let [first, second] = [Hole::new(200, 300), Hole::new(500, 600)];
        assert_eq!(holes.ahead(150, 700), Some(first));
        assert_eq!(holes.ahead(250, 700), Some(first), "from within it");
        assert_eq!(holes.ahead(300, 700), Some(second));
        assert_eq!(holes.ahead(300, 499), None, "it is not published yet");
        assert_eq!(holes.ahead(600, 700), None);
        assert_eq!(
            (holes.newest_until(199), holes.newest_until(499), holes.newest_until(600)),
            (0, 300, 600)
        );
        assert_eq!((holes.passed(100, 450), holes.passed(300, 450), holes.passed(300, 600)), (300, 0, 600));
    }

    #[test]
    fn holes_with_no_event_between_are_one() {
        let holes = Holes::default();
        assert!(holes.note(Hole::new(200, 300), 150) > 0);
        assert_eq!(holes.note(Hole::new(350, 400), 150), 0);
        assert_eq!(holes.ahead(150, 700), Some(Hole::new(200, 400)));
        assert_eq!(holes.save().holes.len(), 1);
        // Its second part is not published yet.
        assert_eq!(holes.ahead(150, 300), Some(Hole::new(200, 300)));
        assert_eq!((holes.ahead(300, 300), holes.newest_until(300)), (None, 300));
        assert_eq!(holes.ahead(300, 400), Some(Hole::new(200, 400)));
    }

    #[test]
    fn what_went_with_the_history_is_still_in_front_of_whoever_comes_from_before() {
        let holes = Holes::default();
        let bytes = holes.note(Hole::new(200, 300), 150) + holes.note(Hole::new(500, 600), 400);
        assert_eq!(holes.forget(299), 0);
        assert_eq!(holes.forget(700), bytes);
        let holes = Holes::restore(holes.save());
        assert_eq!(holes.ahead(100, 700), Some(Hole::new(0, 600)));
        assert_eq!((holes.passed(100, 150), holes.passed(600, 700), holes.newest_until(700)), (600, 0, 600));
        assert_eq!((holes.newest_to(), holes.ahead(600, 700)), (600, None));
    }
}
