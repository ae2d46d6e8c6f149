//! The run queue: the cohorts that may have events to get, and which one is served next.
//!
//! A busy job's cohort is served in portions and is queued nearly always. A newly marked cohort goes first: a quiet job
//! waits for the portion under way, not for one of each busy job. So that none waits for ever, cohorts that have begun
//! have their turn again after at most a portion's effort for new ones.

use std::collections::VecDeque;

#[derive(Debug)]
pub struct RunQueue<K> {
    /// Marked, and nothing sent yet; first in, first out.
    new: VecDeque<K>,
    /// Served in part, or marked again while being served; first in, first out.
    begun: VecDeque<K>,
    /// From this effort on, cohorts that have begun go first.
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

    /// The next cohort. `effort` was spent so far; a turn takes `portion` at most.
    pub fn pop(&mut self, effort: u64, portion: u64) -> Option<K> {
        let is_turn_of_new = effort < self.until || self.begun.is_empty();
        if is_turn_of_new && let Some(cohort) = self.new.pop_front() {
            return Some(cohort);
        }
        // Its own portion, and then as much again for new cohorts.
        self.until = effort + 2 * portion;
        self.begun.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::RunQueue;

    fn queue_of(begun: &[u32], new: &[u32]) -> RunQueue<u32> {
        let mut queue = RunQueue::default();
        begun.iter().for_each(|&cohort| queue.push_begun(cohort));
        new.iter().for_each(|&cohort| queue.push_new(cohort));
        queue
    }

    #[test]
    fn new_cohorts_go_before_those_that_have_begun() {
        let mut queue = queue_of(&[1, 2], &[]);
        assert_eq!(queue.pop(0, 100), Some(1));
        queue.push_new(3);
        queue.push_new(4);
        queue.push_begun(1);
        let order: Vec<_> = std::iter::from_fn(|| queue.pop(150, 100)).collect();
        assert_eq!(order, [3, 4, 2, 1]);
        assert!(queue.is_empty());
    }

    #[test]
    fn cohorts_that_have_begun_get_their_turn_again() {
        let mut queue = queue_of(&[1], &[10, 11, 12]);
        assert_eq!(queue.pop(0, 100), Some(1));
        queue.push_begun(1);
        assert_eq!(queue.pop(100, 100), Some(10));
        assert_eq!(queue.pop(199, 100), Some(11));
        assert_eq!(queue.pop(200, 100), Some(1), "new ones had as much as a portion");
        assert_eq!((queue.pop(300, 100), queue.pop(301, 100)), (Some(12), None));
    }
}
