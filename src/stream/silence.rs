//! The order in which topics fell silent, and the search for those that may be dropped.
//!
//! Each list is sorted by the time of the last event. A search for topics to drop meets many that have to stay: they
//! have watchers, or are flows with jobs. Such a topic is passed once, not in every search. It is looked at again after
//! [`Silence::reconsider`].

use std::collections::BTreeSet;
use std::iter;

use serde::{Deserialize, Serialize};

use crate::stream::jobs::JobFold;

/// No slot.
const NONE: u32 = u32::MAX;

/// The kind of a silent topic: each has its own list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Standing {
    Running,
    /// A job that was silent for `job_idle_seconds`.
    Lost,
    Ended,
    Flow,
}

impl Standing {
    /// The standings of jobs.
    pub const OF_JOBS: [Standing; 3] = [Self::Running, Self::Lost, Self::Ended];

    /// Of a job that has just had an event.
    pub fn of(job: &JobFold) -> Self {
        if job.status().is_over() { Self::Ended } else { Self::Running }
    }
}

#[derive(Clone, Copy)]
struct Link {
    standing: Standing,
    /// Milliseconds of the daemon's clock at the last event.
    stamp: u64,
    previous: u32,
    next: u32,
}

struct List {
    oldest: u32,
    newest: u32,
    /// The oldest topic that was not passed yet.
    unseen: u32,
    /// Topics that were passed and may be dropped now, by stamp and slot.
    again: BTreeSet<(u64, u32)>,
}

/// The order of silence of all topics, by slot.
pub struct Silence {
    links: Vec<Link>,
    lists: [List; 4],
}

/// The verdict on a topic that a search meets.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// It may be dropped.
    Goes,
    /// It has to stay until [`Silence::reconsider`] names it.
    Stays,
    /// It has to stay for now.
    StaysNow,
}

impl Default for Silence {
    fn default() -> Self {
        let empty = || List { oldest: NONE, newest: NONE, unseen: NONE, again: BTreeSet::new() };
        Self { links: Vec::new(), lists: [empty(), empty(), empty(), empty()] }
    }
}

impl Silence {
    /// Adds a topic with an event at `stamp`, which is not before any other's.
    pub fn enter(&mut self, slot: u32, standing: Standing, stamp: u64) {
        if self.links.len() <= slot as usize {
            let vacant = Link { standing, stamp: 0, previous: NONE, next: NONE };
            self.links.resize(slot as usize + 1, vacant);
        }
        self.links[slot as usize] = Link { standing, stamp, previous: NONE, next: NONE };
        self.link_newest(slot);
    }

    /// Notes that the topic has an event at `stamp`, which is not before any other's.
    pub fn touch(&mut self, slot: u32, standing: Standing, stamp: u64) {
        let link = &mut self.links[slot as usize];
        if link.standing == standing && link.next == NONE {
            let before = std::mem::replace(&mut link.stamp, stamp);
            if before != stamp {
                self.renew(slot, before);
            }
            return;
        }
        self.leave(slot);
        let link = &mut self.links[slot as usize];
        (link.standing, link.stamp) = (standing, stamp);
        self.link_newest(slot);
    }

    /// Notes that the newest of its list is newer now, and so unseen again.
    fn renew(&mut self, slot: u32, before: u64) {
        let list = &mut self.lists[self.links[slot as usize].standing as usize];
        list.again.remove(&(before, slot));
        if list.unseen == NONE {
            list.unseen = slot;
        }
    }

    /// Moves the topic, silent for longest of its list, to another list.
    pub fn change(&mut self, slot: u32, standing: Standing) {
        self.leave(slot);
        self.links[slot as usize].standing = standing;
        self.link_newest(slot);
    }

    /// Removes the topic.
    pub fn leave(&mut self, slot: u32) {
        let Link { standing, stamp, previous, next } = self.links[slot as usize];
        let list = &mut self.lists[standing as usize];
        list.again.remove(&(stamp, slot));
        if list.unseen == slot {
            list.unseen = next;
        }
        match previous {
            NONE => list.oldest = next,
            previous => self.links[previous as usize].next = next,
        }
        match next {
            NONE => self.lists[standing as usize].newest = previous,
            next => self.links[next as usize].previous = previous,
        }
    }

    fn link_newest(&mut self, slot: u32) {
        let list = &mut self.lists[self.links[slot as usize].standing as usize];
        let previous = std::mem::replace(&mut list.newest, slot);
        if list.unseen == NONE {
            list.unseen = slot;
        }
        match previous {
            NONE => list.oldest = slot,
            previous => self.links[previous as usize].next = slot,
        }
        let link = &mut self.links[slot as usize];
        (link.previous, link.next) = (previous, NONE);
    }

    pub fn standing(&self, slot: u32) -> Standing {
        self.links[slot as usize].standing
    }

    /// Milliseconds of the daemon's clock at the last event.
    pub fn stamp(&self, slot: u32) -> u64 {
        self.links[slot as usize].stamp
    }

    /// The topics of a list, silent for longest first.
    pub fn slots(&self, standing: Standing) -> impl Iterator<Item = u32> {
        let follow = |slot: u32| (slot != NONE).then_some(slot);
        let oldest = follow(self.lists[standing as usize].oldest);
        iter::successors(oldest, move |&slot| follow(self.links[slot as usize].next))
    }

    /// Notes that a topic that had to stay may be dropped now.
    pub fn reconsider(&mut self, slot: u32) {
        let Link { standing, stamp, .. } = self.links[slot as usize];
        self.lists[standing as usize].again.insert((stamp, slot));
    }

    /// Whether no topic was ever passed, so that none has to be reconsidered.
    pub fn is_all_unseen(&self) -> bool {
        self.lists.iter().all(|list| list.unseen == list.oldest)
    }

    /// Of these lists, the topic silent for longest that may be dropped and had its last event before `before`. Topics
    /// that have to stay are passed.
    pub fn oldest(
        &mut self,
        standings: &[Standing],
        before: u64,
        mut look: impl FnMut(u32) -> Look,
    ) -> Option<u32> {
        let mut found: Option<u32> = None;
        for &standing in standings {
            let passed = self.oldest_again(standing, before, &mut look);
            let unseen = self.oldest_unseen(standing, before, &mut look);
            found = found.into_iter().chain(passed).chain(unseen).min_by_key(|&slot| self.stamp(slot));
        }
        found
    }

    fn oldest_again(
        &mut self,
        standing: Standing,
        before: u64,
        look: &mut impl FnMut(u32) -> Look,
    ) -> Option<u32> {
        let again = &mut self.lists[standing as usize].again;
        let mut from = (0, 0);
        while let Some(&(stamp, slot)) = again.range(from..(before, 0)).next() {
            from = (stamp, slot + 1);
            match look(slot) {
                Look::Goes => return Some(slot),
                Look::Stays => drop(again.remove(&(stamp, slot))),
                Look::StaysNow => {}
            }
        }
        None
    }

    fn oldest_unseen(
        &mut self,
        standing: Standing,
        before: u64,
        look: &mut impl FnMut(u32) -> Look,
    ) -> Option<u32> {
        loop {
            let slot = self.lists[standing as usize].unseen;
            if slot == NONE || self.stamp(slot) >= before {
                return None;
            }
            match look(slot) {
                Look::Goes => return Some(slot),
                Look::Stays => {}
                Look::StaysNow => self.reconsider(slot),
            }
            self.lists[standing as usize].unseen = self.links[slot as usize].next;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Look, Silence, Standing};

    /// Slots 0 to 9, each silent since its own number.
    fn ten() -> Silence {
        let mut silence = Silence::default();
        (0..10).for_each(|slot| silence.enter(slot, Standing::Running, u64::from(slot)));
        silence
    }

    fn oldest(silence: &mut Silence, staying: &[u32], looks: &mut usize) -> Option<u32> {
        silence.oldest(&[Standing::Running], u64::MAX, |slot| {
            *looks += 1;
            if staying.contains(&slot) { Look::Stays } else { Look::Goes }
        })
    }

    #[test]
    fn a_topic_that_has_to_stay_is_looked_at_once() {
        let mut silence = ten();
        let mut looks = 0;
        let staying = [0, 1, 2, 3, 5];
        assert_eq!(oldest(&mut silence, &staying, &mut looks), Some(4));
        assert_eq!(oldest(&mut silence, &staying, &mut looks), Some(4));
        assert_eq!(looks, 6);
        silence.leave(4);
        assert_eq!(oldest(&mut silence, &staying, &mut looks), Some(6));
        silence.reconsider(2);
        assert_eq!(oldest(&mut silence, &staying[3..], &mut looks), Some(2));
        silence.leave(2);
        assert_eq!(oldest(&mut silence, &staying, &mut looks), Some(6));
    }

    #[test]
    fn an_event_makes_a_passed_topic_unseen() {
        let mut silence = ten();
        let mut looks = 0;
        let all: Vec<u32> = (0..10).collect();
        assert_eq!(oldest(&mut silence, &all, &mut looks), None);
        silence.touch(3, Standing::Running, 20);
        assert_eq!(oldest(&mut silence, &[], &mut looks), Some(3));
        assert_eq!(oldest(&mut silence, &all, &mut looks), None);
        // The newest keeps its place.
        silence.touch(3, Standing::Running, 30);
        assert_eq!(oldest(&mut silence, &[], &mut looks), Some(3));
        silence.touch(4, Standing::Ended, 40);
        assert_eq!(silence.slots(Standing::Ended).collect::<Vec<_>>(), [4]);
    }

    #[test]
    fn nothing_found_is_younger_than_asked_for() {
        let mut silence = ten();
        let goes = |_: u32| Look::Goes;
        assert_eq!(silence.oldest(&[Standing::Running], 0, goes), None);
        assert_eq!(silence.oldest(&[Standing::Running], 1, goes), Some(0));
        assert_eq!(silence.oldest(&[Standing::Running], 5, |_| Look::Stays), None);
        silence.reconsider(3);
        silence.reconsider(4);
        assert_eq!(silence.oldest(&[Standing::Running], 3, goes), None);
        assert_eq!(silence.oldest(&[Standing::Running], 4, goes), Some(3));
        assert_eq!(silence.oldest(&[Standing::Ended], u64::MAX, goes), None);
    }
}
