//! The line of the cohorts that have something to get: who is served next.
//!
//! A busy job's cohort is served in portions and is in the line nearly always. Whoever has just been marked goes before
//! those: a quiet job waits for the portion under way, not for one of each busy job. So that nobody waits for ever, those
//! that have begun have their turn again after at most a portion's effort for new ones.

use std::collections::VecDeque;

#[derive(Debug)]
pub struct RunQueue<K> {
    /// Marked, nothing sent yet; first in first out.
    new: VecDeque<K>,
    /// Served in part, or marked again while they were being served; first in first out.
    begun: VecDeque<K>,
    /// From this effort on those that have begun go first.
    until: u64,
}

impl<K> Default for RunQueue<K> {
    fn default() -> Self {
        Self { new: VecDeque::new(), begun: VecDeque::new(), until: 0 }
    }
}

impl<K> RunQueue<K> {
    pub fn is_empty(&self) -> bool {
        self.new.is_empty() && self.begun.is_empty()
    }

    pub fn push_new(&mut self, cohort: K) {
        self.new.push_back(cohort);
    }

    pub fn push_begun(&mut self, cohort: K) {
        self.begun.push_back(cohort);
    }

    /// The next one, where so much effort was spent so far and a portion takes at most `portion`.
    pub fn pop(&mut self, effort: u64, portion: u64) -> Option<K> {
        let is_turn_of_new = effort < self.until || self.begun.is_empty();
        if is_turn_of_new && let Some(cohort) = self.new.pop_front() {
            return Some(cohort);
        }
        // Its own portion, and then as much for new ones.
        self.until = effort + 2 * portion;
        self.begun.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::RunQueue;

    fn line(begun: &[u32], new: &[u32]) -> RunQueue<u32> {
        let mut line = RunQueue::default();
        begun.iter().for_each(|&cohort| line.push_begun(cohort));
        new.iter().for_each(|&cohort| line.push_new(cohort));
        line
    }

    #[test]
    fn new_ones_go_before_those_that_have_begun() {
        let mut line = line(&[1, 2], &[]);
        assert_eq!(line.pop(0, 100), Some(1));
        line.push_new(3);
        line.push_new(4);
        line.push_begun(1);
        let order: Vec<_> = std::iter::from_fn(|| line.pop(150, 100)).collect();
        assert_eq!(order, [3, 4, 2, 1]);
        assert!(line.is_empty());
    }

    #[test]
    fn those_that_have_begun_have_their_turn_again() {
        let mut line = line(&[1], &[10, 11, 12]);
        assert_eq!(line.pop(0, 100), Some(1));
        line.push_begun(1);
        assert_eq!(line.pop(100, 100), Some(10));
        assert_eq!(line.pop(199, 100), Some(11));
        assert_eq!(line.pop(200, 100), Some(1), "new ones had as much as a portion");
        assert_eq!((line.pop(300, 100), line.pop(301, 100)), (Some(12), None));
    }
}
