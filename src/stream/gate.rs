//! `overrun = wait`: for whom the feed waits before the history drops something.
//!
//! Watchers that read are waited for as long as they do. Whether one reads shows only when it has taken more than the
//! kernel's buffers hold; until then it is a newcomer, and all newcomers together have a bounded credit: whoever comes
//! again and again and never reads does not stop the feed.

use std::sync::Arc;

use crate::config::Overrun;
use crate::stream::link::{Link, NOTHING_NEEDED};

/// The feed waits for newcomers alone at most so long at once...
const CREDIT_MILLIS_MAX: u64 = 3_000;
/// ...and in the long run for one part in so many.
const CREDIT_SHARE: u64 = 10;
/// Counted at once at most: a daemon that was stopped has not waited for anybody.
const CHARGE_MILLIS_MAX: u64 = 100;

pub struct Gate {
    is_on: bool,
    links: Vec<Arc<Link>>,
    /// How long newcomers may still be waited for.
    credit_millis: u64,
    /// Of the next millisecond of credit, the part that has been earned.
    earned: u64,
    since_millis: u64,
    /// The feed waits now, and for newcomers alone.
    is_credit_in_use: bool,
}

impl Gate {
    pub fn new(overrun: Overrun, links: Vec<Arc<Link>>) -> Self {
        Self {
            is_on: overrun == Overrun::Wait,
            links,
            credit_millis: CREDIT_MILLIS_MAX,
            earned: 0,
            since_millis: 0,
            is_credit_in_use: false,
        }
    }

    pub fn is_on(&self) -> bool {
        self.is_on
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
    pub fn readers_need(&self) -> u64 {
        self.min(Link::needed)
    }

    fn min(&self, needed: fn(&Link) -> u64) -> u64 {
        self.links.iter().map(|link| needed(link)).min().unwrap_or(NOTHING_NEEDED)
    }

    /// Says for whom the feed waits from now on, if it does.
    pub fn note(&mut self, waits_for_newcomers: bool, now_millis: u64) {
        let span = now_millis.saturating_sub(self.since_millis);
        self.since_millis = now_millis;
        if self.is_credit_in_use {
            self.credit_millis = self.credit_millis.saturating_sub(span.min(CHARGE_MILLIS_MAX));
        } else {
            let earned = self.earned + span;
            self.earned = earned % CREDIT_SHARE;
            self.credit_millis = (self.credit_millis + earned / CREDIT_SHARE).min(CREDIT_MILLIS_MAX);
        }
        self.is_credit_in_use = waits_for_newcomers;
    }
}

#[cfg(test)]
mod tests {
    use super::Gate;
    use crate::config::Overrun;
    use crate::stream::link::{NOTHING_NEEDED, Needs, link};

    #[test]
    fn newcomers_are_waited_for_three_seconds_in_thirty_and_readers_always() {
        let (link, _inlet) = link();
        let mut gate = Gate::new(Overrun::Wait, vec![link.clone()]);
        link.say(Needs { served: None, readers: 70, newcomers: 50 });
        assert_eq!((gate.keep_from(), gate.readers_need()), (50, 70));
        for now in (0..=3_000).step_by(5) {
            assert_eq!(gate.keep_from(), 50, "{now}");
            gate.note(true, now);
        }
        assert_eq!(gate.keep_from(), 70, "no credit is left");
        gate.note(false, 3_005);
        gate.note(false, 13_005);
        assert_eq!(gate.credit_millis, 1_000);
        assert_eq!(gate.keep_from(), 50);
        gate.note(false, 90_000);
        assert_eq!(gate.credit_millis, 3_000);
        // A daemon that was stopped.
        gate.note(true, 90_000);
        gate.note(true, 190_000);
        assert_eq!(gate.credit_millis, 2_900);
    }

    #[test]
    fn under_gap_nobody_is_waited_for() {
        let (link, _inlet) = link();
        link.say(Needs { served: None, readers: 1, newcomers: 1 });
        assert_eq!(Gate::new(Overrun::Gap, vec![link]).keep_from(), NOTHING_NEEDED);
    }
}
