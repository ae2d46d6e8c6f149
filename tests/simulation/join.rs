//! What a watcher must see first when it joins a topic: a gap, kept events, and where it goes on from.

use luxcast::stream::numbers::SEQ_MIN;
use luxcast::stream::topic::TopicKind;
use luxcast::stream::topic_key::TopicKey;
use luxcast::wire::client_action::Since;

use crate::oracle::{ALL, Event, Oracle, TopicId};
use crate::wish::Wish;

/// The state of a topic at the moment at which a watcher found its place in it.
pub struct Moment {
    pub newest: u64,
    /// Up to here, other daemons may have given numbers.
    pub newest_possible: u64,
    /// Number of the oldest event that the history has.
    pub horizon: u64,
    pub key: TopicKey,
    pub is_complete: bool,
    /// Number of the first event ever appended to its log.
    pub first_seq: Option<u64>,
    /// Numbers of the kept events.
    pub kept: Vec<u64>,
}

/// A gap that must come.
#[derive(Clone, Debug)]
pub struct ExpectedGap {
    pub from: u64,
    pub to: u64,
    /// The last lost number of overflowing types: the daemon cannot know whether it matches.
    pub to_unsure: u64,
    pub reason: &'static str,
    /// None: it must be null.
    pub missed: Option<u64>,
    /// `missed` must not be null.
    pub is_exact: bool,
}

/// What a joining watcher must see first.
#[derive(Clone, Debug)]
pub struct Join {
    pub gap: Option<ExpectedGap>,
    pub kept: Vec<u64>,
    /// Then every matching event beyond this.
    pub after: u64,
    /// Losses up to this number are settled: the gap reports them, or they were not asked for.
    pub settled_to: u64,
    /// On a connection for many jobs: the past up to here comes before everything else.
    pub past_to: u64,
    /// Events of earlier lives of the topic, dropped before they were published. They need not come: a gap reports
    /// them, or the topic is complete from its start where that was asked for.
    pub excused: Vec<u64>,
    /// An earlier life of the job had numbers up to here. A gap reports that before the job's next event, unless the
    /// life of that event is complete from its start.
    pub earlier_to: Option<u64>,
    /// Holes beyond this are passed, each with a gap.
    pub holes_after: u64,
    /// The number in the greeting, none of which is below where the watcher stands.
    pub shown: u64,
    /// It stands at a number beyond the newest: nothing up to there ever comes.
    pub is_standing: bool,
    /// A gap with `restart` for this number alone may come.
    pub doubt: Option<u64>,
}

impl Oracle {
    pub fn join(&self, topic: TopicId, moment: &Moment, since: Since, wish: &Wish) -> Join {
        let past_to = if since == Since::Now { 0 } else { moment.newest };
        let newest = moment.newest;
        let is_gone =
            |event: &&Event| event.seq > newest && topic != ALL && event.seq < self.log_start(topic, moment);
        let excused = self.events_of(topic).filter(is_gone).map(|event| event.seq).collect();
        let now = Join {
            gap: None,
            kept: Vec::new(),
            after: newest,
            settled_to: 0,
            past_to,
            excused,
            earlier_to: None,
            holes_after: newest,
            shown: newest,
            is_standing: false,
            doubt: None,
        };
        // It may have been dropped before its newest events were published.
        let to = self.earlier_to(topic, moment);
        let early = (to > newest).then(|| gap(newest + 1, to, "expired", None));
        let join = match since {
            Since::Now => Join { gap: early, ..now },
            Since::Last(count) => {
                Join { gap: early, ..self.join_last(topic, moment, count as usize, wish, now) }
            }
            Since::Start => self.join_start(topic, moment, wish, now),
            Since::After(seq) if seq > newest && seq <= moment.newest_possible => Join {
                gap: (to > seq).then(|| gap(seq + 1, to, "expired", None)),
                after: seq,
                holes_after: seq,
                shown: seq,
                is_standing: true,
                ..now
            },
            Since::After(seq) if seq > newest => {
                let start = self.join_start(topic, moment, wish, now);
                let gap = gap(seq + 1, seq + 1, "restart", None);
                match self.is_whole(topic, moment) && start.gap.is_none() {
                    // If the history has moved past a hole, it is not known to be whole any more.
                    true => Join { doubt: Some(seq + 1), ..start },
                    false => Join { gap: Some(gap), earlier_to: None, ..start },
                }
            }
            Since::After(seq) => {
                // No run can have given a number of less than sixteen digits.
                let was_never_given = seq < SEQ_MIN && self.is_whole(topic, moment);
                let unknown_to = if was_never_given { 0 } else { self.unknown_to(seq) };
                let earlier_to = self.earlier_to(topic, moment);
                self.join_after(topic, moment, seq, earlier_to, unknown_to, wish, now)
            }
        };
        let is_beyond = matches!(since, Since::After(seq) if seq > newest) && !join.is_standing;
        let settled_to = match (since, &join.gap) {
            (Since::Last(_), _) => join.after,
            (_, gap) if !is_beyond => gap.as_ref().map_or(0, |gap| gap.to.max(gap.to_unsure)),
            _ => join.settled_to,
        };
        Join { settled_to, ..join }
    }

    fn is_whole(&self, topic: TopicId, moment: &Moment) -> bool {
        self.topics[topic].kind == TopicKind::Job && moment.is_complete
    }

    /// The last number in an earlier life of the topic, in this run or one that it knows.
    fn earlier_to(&self, topic: TopicId, moment: &Moment) -> u64 {
        let start = self.log_start(topic, moment);
        let is_earlier = |event: &&Event| event.seq < start && event.seq > self.run_start;
        let last = self.events_of(topic).filter(is_earlier).last().filter(|_| topic != ALL);
        last.map_or(0, |event| event.seq)
    }

    fn join_start(&self, topic: TopicId, moment: &Moment, wish: &Wish, now: Join) -> Join {
        let is_whole = self.is_whole(topic, moment);
        let earlier_to = if is_whole { 0 } else { self.earlier_to(topic, moment) };
        let is_unsure = self.topics[topic].kind == TopicKind::Job && moment.first_seq.is_none();
        if is_unsure {
            // A hole may have had an earlier life, too.
            let passed = self.holes[..self.hole_after(moment.newest)].last();
            let earlier_to = earlier_to.max(passed.map_or(0, |&(_, to)| to));
            return Join { earlier_to: (earlier_to > 0).then_some(earlier_to), ..now };
        }
        let join = self.join_after(topic, moment, 0, earlier_to, 0, wish, now);
        // What a hole had before a whole job is not missed by it.
        let before = moment.first_seq.filter(|_| is_whole).map_or(0, |first| first - 1);
        Join { holes_after: before.min(moment.newest), ..join }
    }

    /// Number of the first event that the topic's own log can have.
    fn log_start(&self, topic: TopicId, moment: &Moment) -> u64 {
        if topic == ALL {
            return self.run_start + 1;
        }
        let life = self.topics[topic].life.filter(|life| life.key == moment.key);
        life.map_or(u64::MAX, |life| life.first_seq)
    }

    fn join_last(&self, topic: TopicId, moment: &Moment, count: usize, wish: &Wish, now: Join) -> Join {
        let oldest = self.log_start(topic, moment).max(moment.horizon);
        let wanted = |event: &&Event| wish.wants(event) && event.seq <= moment.newest;
        let is_there = |event: &&Event| event.seq >= oldest || moment.kept.contains(&event.seq);
        let all: Vec<u64> =
            self.events_of(topic).filter(wanted).filter(is_there).map(|event| event.seq).collect();
        let last = &all[all.len().saturating_sub(count)..];
        let (kept, rest): (Vec<u64>, Vec<u64>) = last.iter().partition(|&&seq| seq < oldest);
        // If fewer match than are asked for, the whole log was searched.
        let is_all = last.len() < count || !kept.is_empty();
        let first = if is_all { Some(oldest) } else { rest.first().copied() };
        let after = first.map_or(moment.newest, |first| moment.newest.min(first - 1));
        // Nothing older than what it begins with was asked for.
        let begins = self.events_of(topic).find(|event| event.seq > after && event.seq >= oldest);
        let holes_after = begins.map_or(moment.newest, |event| moment.newest.min(event.seq - 1));
        Join { kept, after, holes_after, ..now }
    }

    /// What a watcher at `seq` must see, where an earlier life had numbers up to `earlier_to` and nothing is known up
    /// to `unknown_to`.
    #[allow(clippy::too_many_arguments)]
    fn join_after(
        &self,
        topic: TopicId,
        moment: &Moment,
        seq: u64,
        earlier_to: u64,
        unknown_to: u64,
        wish: &Wish,
        now: Join,
    ) -> Join {
        let log_start = self.log_start(topic, moment);
        let oldest = log_start.max(moment.horizon);
        let mut lost = Vec::new();
        let mut unsure = 0;
        for event in self
            .events_of(topic)
            .filter(|event| event.seq > seq && event.seq >= log_start && event.seq < oldest)
        {
            if !moment.kept.contains(&event.seq) && event.seq <= moment.newest {
                if wish.wants(event) {
                    lost.push(event.seq);
                } else if event.is_overflow {
                    unsure = event.seq;
                }
            }
        }
        let last_lost = lost.last().copied().unwrap_or(0);
        let gap = if unknown_to > 0 || seq < earlier_to {
            let reason = if unknown_to > 0 { "restart" } else { "expired" };
            let to = last_lost.max(earlier_to).max(unknown_to);
            Some(ExpectedGap { to_unsure: unsure, ..gap(seq + 1, to, reason, None) })
        } else {
            let count = lost.len() as u64;
            // Nothing of the topic can be missing before what was lost.
            let is_exact = wish.is_all() && (log_start > seq || topic == ALL && self.is_counted(seq));
            let reason = if seq < self.missing_to && seq > 0 { "restart" } else { "expired" };
            let expected =
                ExpectedGap { to_unsure: unsure, is_exact, ..gap(seq + 1, last_lost, reason, Some(count)) };
            (count > 0 || unsure > 0).then_some(expected)
        };
        let kept = |event: &&Event| event.seq > seq && moment.kept.contains(&event.seq) && wish.wants(event);
        let kept = self.events_of(topic).filter(kept).map(|event| event.seq).collect();
        let after =
            if log_start == u64::MAX { moment.newest } else { seq.max(oldest - 1).min(moment.newest) };
        let settled_to = last_lost.max(unsure).max(earlier_to);
        Join { gap, kept, after, settled_to, holes_after: seq, ..now }
    }
}

fn gap(from: u64, to: u64, reason: &'static str, missed: Option<u64>) -> ExpectedGap {
    ExpectedGap { from, to, to_unsure: 0, reason, missed, is_exact: false }
}
