//! The filters of one client, one after the other, and which of them judge an event.

use std::collections::VecDeque;

use crate::simulated::filter::Filter;
use crate::stream::Event;

pub struct Filters {
    /// Each with a number: all beyond that is judged by it, or by a later one.
    phases: Vec<(u64, Filter)>,
    /// Asked for, and not confirmed yet.
    asked: VecDeque<(u64, Filter)>,
    /// Each is in force from that very number on.
    is_exact: bool,
}

impl Filters {
    pub fn new(filter: Filter, is_exact: bool) -> Self {
        Self { phases: vec![(0, filter)], asked: VecDeque::new(), is_exact }
    }

    /// What it wants now.
    pub fn asked(&self) -> &Filter {
        let last = self.asked.back().or(self.phases.last());
        &last.expect("there is one").1
    }

    /// The place of the newest one.
    pub fn newest(&self) -> usize {
        self.phases.len() - 1
    }

    /// It wants this of the events beyond the number `limit`, or of some before that.
    pub fn change(&mut self, limit: u64, filter: Filter) {
        match self.is_exact {
            true => self.phases.push((limit, filter)),
            false => self.asked.push_back((limit, filter)),
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
        wants(&self.phases[place].1, event)
    }

    /// Whether an event must have come: all that may have judged it let it through. `oldest` may have.
    pub fn need(&self, oldest: usize, event: &Event) -> bool {
        let place = self.in_force(event);
        match self.is_exact {
            true => wants(&self.phases[place].1, event),
            false => self.phases[place.max(oldest)..].iter().all(|phase| wants(&phase.1, event)),
        }
    }
}

fn wants(filter: &Filter, event: &Event) -> bool {
    filter.lets_through(filter.names.contains(&event.kind))
}
