//! The filters of one client, one after the other, and which of them judge an event.

use std::collections::VecDeque;

use crate::stream::Event;
use crate::wish::Wish;

pub struct Filters {
    /// Each with a number: all beyond that is judged by it, or by a later one.
    phases: Vec<(u64, Wish)>,
    /// Asked for, and not confirmed yet.
    asked: VecDeque<(u64, Wish)>,
    /// Each is in force from that very number on.
    is_exact: bool,
}

impl Filters {
    pub fn new(wish: Wish, is_exact: bool) -> Self {
        Self { phases: vec![(0, wish)], asked: VecDeque::new(), is_exact }
    }

    /// What it wants now.
    pub fn wish(&self) -> &Wish {
        let last = self.asked.back().or(self.phases.last());
        &last.expect("there is one").1
    }

    /// The place of the newest one.
    pub fn newest(&self) -> usize {
        self.phases.len() - 1
    }

    /// It wants this of the events beyond the number `limit`, or of some before that.
    pub fn change(&mut self, limit: u64, wish: Wish) {
        match self.is_exact {
            true => self.phases.push((limit, wish)),
            false => self.asked.push_back((limit, wish)),
        }
    }

    /// The daemon says that the next one holds from here on.
    pub fn confirm(&mut self) {
        if !self.is_exact {
            self.phases.push(self.asked.pop_front().expect("a change is confirmed once"));
        }
    }

    pub fn has_asked(&self) -> bool {
        !self.asked.is_empty()
    }

    fn in_force(&self, event: &Event) -> usize {
        let place = self.phases.iter().rposition(|phase| phase.0 < event.number);
        place.expect("the first is in force from 0 on")
    }

    /// Whether an event may come now.
    pub fn want(&self, event: &Event) -> bool {
        let place = if self.is_exact { self.in_force(event) } else { self.newest() };
        self.phases[place].1.wants(event)
    }

    /// Whether an event must have come: all that may have judged it let it through. `oldest` may have.
    pub fn need(&self, oldest: usize, event: &Event) -> bool {
        let place = self.in_force(event);
        match self.is_exact {
            true => self.phases[place].1.wants(event),
            false => self.phases[place.max(oldest)..].iter().all(|phase| phase.1.wants(event)),
        }
    }
}
