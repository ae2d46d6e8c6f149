//! One topic as one client sees it: which of its events must come next, and which a gap has reported lost.

use std::collections::VecDeque;

use crate::join::{ExpectedGap, Join};
use crate::oracle::{ALL, Event, Oracle, TopicId};
use crate::wish::Wish;

/// A filter, in force from some number on that is at most `limit`.
pub struct Phase {
    pub wish: Wish,
    pub limit: u64,
}

/// What a check may look at.
pub struct Sight<'a> {
    pub oracle: &'a Oracle,
    pub phases: &'a [Phase],
    pub client: usize,
    pub may_fail_to_keep: bool,
    /// The client never asked for a filter.
    pub had_no_filter: bool,
}

/// A `stream:gap` as it came.
#[derive(Clone, Debug)]
pub struct GapMessage {
    pub from: u64,
    pub to: u64,
    pub missed: Option<u64>,
    pub reason: String,
}

struct OpenGap {
    message: GapMessage,
    /// The filter under which it was counted.
    wish: Wish,
    was_always_all: bool,
    /// Kept events from inside the gap.
    delivered: Vec<u64>,
    /// The filter in force when it came.
    phase: usize,
    /// The end of the last hole that it covers, 0 if it covers none.
    hole_to: u64,
}

pub struct Stream {
    pub topic: TopicId,
    /// The oldest filter that may have left out the next events.
    pub phase: usize,
    pub past_to: u64,
    /// How many events of the merged order had come when this was subscribed.
    pub live_count: u64,
    /// Place in the topic's list: all events before it are accounted for.
    next: usize,
    /// The next event must have a greater number.
    floor: u64,
    expected_gap: Option<ExpectedGap>,
    /// Losses up to this number are settled: the join's gap reports them, or they were not asked for.
    settled_to: u64,
    kept_due: VecDeque<u64>,
    excused: Vec<u64>,
    /// See [`Join::earlier_to`].
    earlier_to: Option<u64>,
    open_gap: Option<OpenGap>,
    /// Place in the oracle's list of the first hole that no gap has covered.
    next_hole: usize,
    /// Holes that ended here or before need no gap: one without a count has covered their place already.
    told_to: u64,
    /// Where it began.
    began_at: u64,
    /// The newest number then.
    newest: u64,
    /// See [`Join::doubt`].
    doubt: Option<u64>,
    /// It stood at a number that had not come. How many events it misses may not be known.
    pub has_stood: bool,
    /// Gaps that came for holes alone.
    pub hole_gaps: u64,
    /// Terminal events said to be lost: none may be one that is kept.
    lost_terminals: Vec<u64>,
}

impl Stream {
    pub fn new(topic: TopicId, join: Join, phase: usize, live_count: u64, oracle: &Oracle) -> Self {
        Self {
            topic,
            phase,
            past_to: join.past_to,
            live_count,
            next: oracle.place_after(topic, join.after),
            floor: if join.is_standing { join.after } else { 0 },
            next_hole: oracle.hole_after(join.holes_after),
            told_to: 0,
            began_at: join.holes_after,
            newest: join.shown,
            doubt: join.doubt,
            has_stood: join.is_standing,
            hole_gaps: 0,
            settled_to: join.settled_to,
            expected_gap: join.gap,
            kept_due: join.kept.into(),
            excused: join.excused,
            earlier_to: join.earlier_to,
            open_gap: None,
            lost_terminals: Vec::new(),
        }
    }

    pub fn event(&mut self, event: &Event, sight: &Sight<'_>) {
        let (client, seq) = (sight.client, event.seq);
        assert!(
            seq > self.floor,
            "client {client}: event {seq} came at {}: again, or out of order",
            self.floor
        );
        let list = &sight.oracle.topics[self.topic].events;
        let is_member =
            list.binary_search_by_key(&seq, |&place| sight.oracle.events[place as usize].seq).is_ok();
        assert!(is_member, "client {client}: event {seq} is of another topic");
        let newest = sight.phases.last().expect("there is a filter");
        assert!(
            newest.wish.wants(event),
            "client {client}: event {seq}, {:?}, is not wanted: {:?}",
            event.kind,
            newest.wish
        );
        assert!(
            self.expected_gap.is_none(),
            "client {client}: {:?} did not come before {seq}",
            self.expected_gap
        );
        if let Some(earlier_to) = self.earlier_to.take() {
            assert!(
                self.is_next_life_whole(earlier_to, sight),
                "client {client}: no gap for the earlier life up to {earlier_to} before {seq}"
            );
        }
        self.check_holes(seq - 1, sight);
        self.floor = seq;
        if self.kept_due.contains(&seq) {
            self.pass_kept(seq, sight);
            self.kept_due.pop_front();
            self.phase = sight.phases.len() - 1;
            return;
        }
        self.pass_kept(u64::MAX, sight);
        if let Some(gap) = &mut self.open_gap
            && seq <= gap.message.to
        {
            let is_kind_kept = event.is_terminal() || event.kind == "job_started";
            assert!(
                is_kind_kept && event.job == Some(self.topic),
                "client {client}: event {seq} came after its gap"
            );
            gap.delivered.push(seq);
            self.phase = sight.phases.len() - 1;
            gap.phase = self.phase;
            return;
        }
        self.close_gap(sight);
        self.advance(seq, sight);
        let place = list.get(self.next).map(|&place| sight.oracle.events[place as usize].seq);
        assert_eq!(place, Some(seq), "client {client}: event {seq} came again");
        self.next += 1;
        self.phase = sight.phases.len() - 1;
    }

    /// Whether an event need not come, though it is behind what was accounted for.
    fn is_excused(&self, seq: u64) -> bool {
        self.excused.contains(&seq) || self.has_stood && seq <= self.began_at
    }

    /// Checks that a gap has covered every hole up to `seq`.
    fn check_holes(&mut self, seq: u64, sight: &Sight<'_>) {
        while let Some(&(from, to)) = sight.oracle.holes.get(self.next_hole).filter(|&&(_, to)| to <= seq) {
            assert!(
                to <= self.told_to.max(self.began_at),
                "client {}: no gap for the hole from {from} to {to}, and it is beyond {seq}",
                sight.client
            );
            self.next_hole += 1;
        }
    }

    /// Passes the holes up to the number `until` that a gap covers. Returns the end of the last one, 0 if there is none.
    fn cover_holes(&mut self, message: &GapMessage, until: u64, sight: &Sight<'_>) -> u64 {
        let (mut last, mut due) = (0, 0);
        let until = until.min(message.to);
        let before = self.floor.max(self.began_at) + 1;
        while let Some(&(from, to)) = sight.oracle.holes.get(self.next_hole).filter(|&&(_, to)| to <= until) {
            self.next_hole += 1;
            if to <= self.began_at {
                continue;
            }
            let is_due = to > self.told_to;
            assert!(
                !is_due || due > 0 || message.from <= from.max(before),
                "client {}: {message:?} begins within the hole from {from} to {to}",
                sight.client
            );
            last = to;
            due = if is_due { to } else { due };
        }
        assert!(
            due == 0 || message.missed.is_none(),
            "client {}: {message:?} counts what a hole had",
            sight.client
        );
        last
    }

    /// A new filter holds from the first kept event on that has not come yet. Losses from there on count again, except
    /// those that a gap has reported.
    pub fn change(&mut self, oracle: &Oracle) {
        let Some(first) = self.kept_due.front() else { return };
        let position = self.settled_to.max(first - 1);
        self.next = self.next.min(oracle.place_after(self.topic, position));
        self.kept_due.retain(|&seq| seq <= position);
    }

    /// Every stream has the newest filter: it is the only one now.
    pub fn forget_older_filters(&mut self) {
        self.phase = 0;
        if let Some(gap) = &mut self.open_gap {
            gap.phase = 0;
        }
    }

    /// Checks that a filter has left out the kept events that were due before `seq` and have not come.
    fn pass_kept(&mut self, seq: u64, sight: &Sight<'_>) {
        while let Some(&due) = self.kept_due.front().filter(|&&due| due < seq) {
            let event = sight.oracle.event(due).expect("kept events were events");
            let is_left_out = sight.phases[self.phase..].iter().any(|phase| !phase.wish.wants(event));
            assert!(is_left_out, "client {}: the kept event {due} did not come", sight.client);
            self.kept_due.pop_front();
        }
    }

    /// Checks that a filter has left out all events before `seq` that have not come.
    fn advance(&mut self, seq: u64, sight: &Sight<'_>) {
        let list = &sight.oracle.topics[self.topic].events;
        while let Some(&place) = list.get(self.next) {
            let event = &sight.oracle.events[place as usize];
            if event.seq >= seq {
                break;
            }
            if self.is_excused(event.seq) {
                self.next += 1;
                continue;
            }
            // A change is in force beyond its limit, and may be from some earlier place on.
            while sight.phases.get(self.phase + 1).is_some_and(|phase| event.seq > phase.limit) {
                self.phase += 1;
            }
            while sight.phases[self.phase].wish.wants(event) {
                self.phase += 1;
                assert!(
                    self.phase < sight.phases.len(),
                    "client {}: event {} ({}) of {:?} was lost before {seq}",
                    sight.client,
                    event.seq,
                    event.kind,
                    sight.oracle.topics[self.topic].name
                );
            }
            self.next += 1;
        }
    }

    /// Whether the life after the one that ended with `earlier_to` began with `job_started`. What a slow socket brings
    /// may be of a life before the present one.
    fn is_next_life_whole(&self, earlier_to: u64, sight: &Sight<'_>) -> bool {
        let next = sight.oracle.events_of(self.topic).find(|event| event.seq > earlier_to);
        next.expect("it has an event").kind == "job_started"
    }

    /// Checks a gap as it comes.
    pub fn gap(&mut self, message: GapMessage, sight: &Sight<'_>) {
        let client = sight.client;
        assert!(message.from <= message.to, "client {client}: {message:?}");
        if let Some(expected) = self.expected_gap.take() {
            // A gap that goes beyond the newest number, or is for a number beyond that, has said that anything may be
            // lost. Holes from there on may be told of again.
            let is_for_all = message.from == message.to && message.reason == "restart";
            self.told_to = if is_for_all || message.to > self.newest { message.to } else { 0 };
            let until = if is_for_all { 0 } else { self.newest };
            let hole_to = self.cover_holes(&message, until, sight);
            self.settled_to = self.settled_to.max(hole_to);
            let is_to_right = message.to == expected.to.max(hole_to)
                || message.to == expected.to_unsure.max(expected.to).max(hole_to);
            let is_missed_right = match (message.missed, expected.missed) {
                (Some(missed), Some(count)) => missed == count,
                (None, _) => !expected.is_exact || hole_to > 0,
                (Some(_), None) => false,
            };
            let is_right = message.from == expected.from
                && is_to_right
                && is_missed_right
                && message.reason == expected.reason;
            assert!(is_right, "client {client}: {message:?} came, not {expected:?}");
            return;
        }
        if let Some(doubt) = self.doubt.take()
            && (message.from, message.to, message.missed) == (doubt, doubt, None)
            && message.reason == "restart"
        {
            let is_hole_passed = self.next_hole < sight.oracle.hole_after(self.newest);
            assert!(is_hole_passed, "client {client}: {message:?}, but no hole was passed");
            self.told_to = message.to;
            return;
        }
        // What comes before the next life's first event is about something else.
        if let Some(earlier_to) = self.earlier_to
            && message.from == 1
        {
            self.earlier_to = None;
            let is_right = (message.to, message.missed) == (earlier_to, None) && message.reason == "expired";
            let is_right = is_right && !self.is_next_life_whole(earlier_to, sight);
            assert!(is_right, "client {client}: {message:?}, not up to {earlier_to}");
            return;
        }
        self.pass_kept(message.from, sight);
        self.close_gap(sight);
        let mut hole_to = self.cover_holes(&message, u64::MAX, sight);
        // Two holes with no event between are one, and so is what has come of it so far.
        let ends = [hole_to, message.to].map(|seq| sight.oracle.place_after(ALL, seq));
        if hole_to > 0 && ends[0] == ends[1] {
            hole_to = message.to;
        }
        let is_expected = message.reason == "overrun" || message.reason == "expired" && hole_to == message.to;
        assert!(is_expected, "client {client}: {message:?} was not expected");
        self.hole_gaps += u64::from(message.reason == "expired");
        if message.reason == "overrun" {
            self.pass_kept(u64::MAX, sight);
        }
        assert!(
            message.from > self.floor,
            "client {client}: {message:?}, but its position is {}",
            self.floor
        );
        self.advance(message.from, sight);
        self.phase = sight.phases.len() - 1;
        let wish = sight.phases[self.phase].wish.clone();
        self.open_gap = Some(OpenGap {
            message,
            wish,
            phase: self.phase,
            was_always_all: sight.had_no_filter && !self.has_stood,
            delivered: Vec::new(),
            hole_to,
        });
    }

    /// Checks the open gap, once everything that follows it has come.
    fn close_gap(&mut self, sight: &Sight<'_>) {
        let Some(gap) = self.open_gap.take() else { return };
        let (client, message, wish, hole_to) = (sight.client, gap.message, gap.wish, gap.hole_to);
        let life = sight.oracle.topics[self.topic].life.unwrap_or_default();
        let list = &sight.oracle.topics[self.topic].events;
        // Newer filters may have left out kept events that would have followed the gap.
        let newer = &sight.phases[gap.phase.min(sight.phases.len() - 1)..];
        let mut left_out = 0;
        let (mut count, mut last, mut unsure) = (0, 0, 0);
        while let Some(&place) = list.get(self.next) {
            let event = &sight.oracle.events[place as usize];
            if event.seq > message.to {
                break;
            }
            self.next += 1;
            if gap.delivered.contains(&event.seq) || self.is_excused(event.seq) {
                continue;
            }
            if !wish.wants(event) {
                unsure = if event.is_overflow { event.seq } else { unsure };
                continue;
            }
            let is_left_out = newer.iter().any(|phase| !phase.wish.wants(event));
            if is_left_out && (event.is_terminal() || event.kind == "job_started") {
                left_out += 1;
                continue;
            }
            (count, last) = (count + 1, event.seq);
            let is_first_started = event.seq == life.first_started && event.job == Some(self.topic);
            assert!(
                !is_first_started || sight.may_fail_to_keep,
                "client {client}: the job's start is lost in {message:?}"
            );
            if event.is_terminal() && event.job == Some(self.topic) {
                self.lost_terminals.push(event.seq);
            }
        }
        let is_to_right = message.to == last.max(hole_to)
            || message.to == unsure.max(hole_to) && !wish.is_all()
            || left_out > 0 && message.to > last;
        assert!(is_to_right, "client {client}: {message:?}, but {last} was the last lost");
        let is_missed_right =
            message.missed.is_none_or(|missed| (count..=count + left_out).contains(&missed));
        assert!(is_missed_right, "client {client}: {message:?}, but {count} were lost");
        let is_of_hole = message.reason == "expired";
        assert!(count == 0 || !is_of_hole, "client {client}: {message:?} does not say that events were lost");
        let must_know = wish.is_all() && gap.was_always_all && hole_to == 0;
        assert!(
            message.missed.is_some() || !must_know,
            "client {client}: {message:?} must say that {count} were lost"
        );
    }

    /// Checks a position: the daemon says that everything up to `seq` was sent.
    pub fn check_position(&mut self, seq: u64, is_exact: bool, sight: &Sight<'_>) {
        let client = sight.client;
        assert!(
            !is_exact || seq >= self.floor,
            "client {client}: its position is {seq}, but {} has come",
            self.floor
        );
        assert!(
            self.expected_gap.is_none(),
            "client {client}: {:?} did not come before {seq}",
            self.expected_gap
        );
        self.check_holes(seq, sight);
        self.pass_kept(seq + 1, sight);
        match &self.open_gap {
            Some(gap) if seq < gap.message.to => {
                assert!(
                    !is_exact || seq + 1 >= gap.message.from,
                    "client {client}: its position is before its gap"
                );
            }
            Some(_) => self.close_gap(sight),
            None => {}
        }
        if self.open_gap.is_none() {
            self.advance(seq + 1, sight);
        }
        self.floor = self.floor.max(seq);
    }

    pub fn finish(&mut self, published: u64, sight: &Sight<'_>) {
        assert!(self.expected_gap.is_none(), "client {}: {:?} never came", sight.client, self.expected_gap);
        self.check_holes(published, sight);
        self.pass_kept(u64::MAX, sight);
        self.close_gap(sight);
        self.advance(published + 1, sight);
        let life = sight.oracle.topics[self.topic].life.unwrap_or_default();
        assert!(
            sight.may_fail_to_keep || !self.lost_terminals.contains(&life.last_terminal),
            "client {}: the job's end {} is in a gap",
            sight.client,
            life.last_terminal
        );
    }
}
