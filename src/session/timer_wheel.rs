//! A timer wheel: one shard's deadlines, in ticks. `K` names what a deadline belongs to.
//!
//! Entries are never cancelled one by one: the owner compares an entry that is due with its present deadline. When most
//! entries are outdated, the owner calls [`Wheel::retain`].

use crate::tick::{Tick, is_reached};

/// 2,048 ticks are 41 s: the usual heartbeat needs one round.
const SLOTS: usize = 2048;
const WORDS: usize = SLOTS / 64;

#[derive(Clone, Copy, Debug)]
struct Entry<K> {
    key: K,
    due: Tick,
}

pub struct Wheel<K> {
    slots: Vec<Vec<Entry<K>>>,
    /// One bit per slot that has entries.
    occupied: [u64; WORDS],
    /// Every tick before this one is done.
    next: Tick,
    entries: usize,
}

impl<K: Copy> Wheel<K> {
    pub fn new(now: Tick) -> Self {
        Self { slots: (0..SLOTS).map(|_| Vec::new()).collect(), occupied: [0; WORDS], next: now, entries: 0 }
    }

    /// Reports `key` at tick `due`, or with the next turn if that is past.
    pub fn schedule(&mut self, key: K, due: Tick) {
        let at = if is_reached(self.next, due) { due } else { self.next };
        let slot = at as usize % SLOTS;
        self.slots[slot].push(Entry { key, due });
        self.occupied[slot / 64] |= 1 << (slot % 64);
        self.entries += 1;
    }

    /// Number of entries, including outdated ones.
    pub fn len(&self) -> usize {
        self.entries
    }

    pub fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// Removes the entries that are outdated.
    pub fn retain(&mut self, mut is_current: impl FnMut(K, Tick) -> bool) {
        self.entries = 0;
        for (slot, entries) in self.slots.iter_mut().enumerate() {
            entries.retain(|entry| is_current(entry.key, entry.due));
            entries.shrink_to(2 * entries.len());
            self.entries += entries.len();
            if entries.is_empty() {
                self.occupied[slot / 64] &= !(1 << (slot % 64));
            }
        }
    }

    /// Moves what is due at `now` into `due`, as (key, deadline).
    pub fn advance(&mut self, now: Tick, due: &mut Vec<(K, Tick)>) {
        let ticks = (now.wrapping_sub(self.next) as i32 + 1).clamp(0, SLOTS as i32) as usize;
        let first = self.next as usize;
        let before = due.len();
        for slot in (first..first + ticks).map(|tick| tick % SLOTS) {
            if self.occupied[slot / 64] >> (slot % 64) & 1 == 0 {
                continue;
            }
            self.slots[slot].retain(|entry| {
                let is_due = is_reached(entry.due, now);
                if is_due {
                    due.push((entry.key, entry.due));
                }
                !is_due
            });
            if self.slots[slot].is_empty() {
                self.occupied[slot / 64] &= !(1 << (slot % 64));
            }
        }
        self.entries -= due.len() - before;
        if ticks > 0 {
            self.next = now.wrapping_add(1);
        }
    }

    /// Ticks from `now` until something may be due. None: nothing is scheduled.
    pub fn until_next(&self, now: Tick) -> Option<u32> {
        let start = self.next as usize % SLOTS;
        let waited = self.next.wrapping_sub(now) as i32;
        for step in 0..=WORDS {
            let word = (start / 64 + step) % WORDS;
            let mut bits = self.occupied[word];
            if step == 0 {
                bits &= !0 << (start % 64);
            }
            if bits != 0 {
                let slot = word * 64 + bits.trailing_zeros() as usize;
                let ahead = (slot + SLOTS - start) % SLOTS;
                return Some((ahead as i32 + waited).max(0) as u32);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::Wheel;

    fn due(wheel: &mut Wheel<u32>, now: u32) -> Vec<u32> {
        let mut due = Vec::new();
        wheel.advance(now, &mut due);
        due.iter().map(|&(key, _)| key).collect()
    }

    #[test]
    fn entries_come_at_their_tick_and_not_before() {
        let mut wheel = Wheel::new(100);
        wheel.schedule(1, 105);
        wheel.schedule(2, 103);
        wheel.schedule(3, 105 + 4096);
        assert_eq!(wheel.until_next(100), Some(3));
        assert!(due(&mut wheel, 102).is_empty());
        assert_eq!(due(&mut wheel, 104), [2]);
        assert_eq!(due(&mut wheel, 105), [1]);
        assert!(due(&mut wheel, 4200).is_empty());
        assert_eq!(due(&mut wheel, 4201), [3]);
        assert_eq!(wheel.until_next(4201), None);
    }

    #[test]
    fn past_entries_come_with_the_next_turn_and_a_long_sleep_skips_none() {
        let mut wheel = Wheel::new(10);
        assert!(due(&mut wheel, 20).is_empty());
        wheel.schedule(1, 15);
        assert_eq!(wheel.until_next(20), Some(1));
        for key in 2..50 {
            wheel.schedule(key, 21 + key * 100);
        }
        assert_eq!(due(&mut wheel, 1_000_000).len(), 49);
    }

    #[test]
    fn outdated_entries_are_removed() {
        let mut wheel = Wheel::new(0);
        (0..1000).for_each(|key| wheel.schedule(key, key * 7));
        wheel.retain(|key, due| key % 100 == 0 && due == key * 7);
        assert_eq!(wheel.len(), 10);
        assert_eq!(due(&mut wheel, 10_000).len(), 10);
        assert!(wheel.is_empty());
        assert_eq!(wheel.until_next(10_000), None);
    }

    #[test]
    fn ticks_may_wrap_around() {
        let mut wheel = Wheel::new(u32::MAX - 2);
        wheel.schedule(1, 3);
        assert!(due(&mut wheel, u32::MAX).is_empty());
        assert_eq!(wheel.until_next(u32::MAX), Some(4));
        assert_eq!(due(&mut wheel, 3), [1]);
    }
}
