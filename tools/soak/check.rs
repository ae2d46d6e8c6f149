//! Checks one watcher's stream against what happened: nothing lost without a gap, nothing repeated, nothing out of
//! order, nothing that it did not ask for.

use crate::lines::{ALL, DEBUG, JobId, Mask, STARTED};
use crate::stream::Stream;

/// Names that watchers filter by, and the kinds that each matches.
pub const NAMES: [(&str, Mask); 12] = [
    ("job_started", 1 << 0),
    ("job_completed", 1 << 1),
    ("job_failed", 1 << 2),
    ("routine_started", 1 << 3),
    ("routine_completed", 1 << 4),
    ("execution_event", 1 << 5 | 1 << 6),
    ("slot_call", 1 << 5),
    ("event_emit", 1 << 6),
    ("breakpoint_hit", 1 << 7),
    ("log_line", 1 << 8),
    ("metrics", 1 << 9),
    ("nobody_has_seen_this", 0),
];

/// What a watcher asked for by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Names {
    pub is_only: bool,
    /// A bit for each of [`NAMES`].
    pub listed: u16,
}

impl Names {
    pub const ALL: Self = Self { is_only: false, listed: 0 };

    pub fn subscribe(self, names: u16) -> Self {
        let before = if self.is_only { self.listed } else { 0 };
        Self { is_only: true, listed: before | names }
    }

    pub fn unsubscribe(self, names: u16) -> Self {
        let listed = if self.is_only { self.listed & !names } else { self.listed | names };
        Self { listed, ..self }
    }

    fn mask(self) -> Mask {
        let listed = NAMES.iter().enumerate().filter(|(bit, _)| self.listed >> bit & 1 == 1);
        let mask = listed.fold(0, |mask, (_, (_, kinds))| mask | kinds);
        if self.is_only { mask } else { ALL & !mask }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    Job(JobId),
    Debug(JobId),
    Flow(u64),
    All,
}

impl Topic {
    pub fn path(self) -> String {
        match self {
            Topic::Job(job) => format!("/api/ws/jobs/{job}/monitor"),
            Topic::Debug(job) => format!("/api/v1/ws/jobs/{job}/debug"),
            Topic::Flow(flow) => format!("/api/ws/flows/f{flow}/monitor"),
            Topic::All => "/api/v1/ws/events".to_owned(),
        }
    }

    fn has(self, job: JobId) -> bool {
        match self {
            Topic::Job(id) | Topic::Debug(id) => job == id,
            Topic::Flow(flow) => job.flow() == flow,
            Topic::All => true,
        }
    }

    fn mask(self) -> Mask {
        if matches!(self, Topic::Debug(_)) { DEBUG } else { ALL }
    }
}

/// Where a watcher asked to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    Now,
    Start,
    After(u64),
    Last(u64),
}

/// The content of an event: its text, or its kind if the dialect changes the text.
#[derive(Clone, Copy, Debug)]
pub enum Look {
    Text(u64),
    Kind(usize),
}

/// What a watcher received.
#[derive(Clone, Copy, Debug)]
pub enum Said {
    Event { seq: u64, look: Look },
    Gap { from: u64, to: u64, missed: Option<u64>, is_overrun: bool },
    Filter(Names),
    Position(u64),
}

impl Said {
    /// The event that must be known before this can be judged.
    pub fn needs(&self) -> u64 {
        match *self {
            Said::Event { seq, .. } => seq,
            Said::Gap { to, .. } => to,
            Said::Filter(_) => 0,
            Said::Position(position) => position,
        }
    }
}

struct Gap {
    from: u64,
    to: u64,
    missed: Option<u64>,
    kept: u64,
    /// The filter changed while kept events from within the gap were in transit.
    is_blurred: bool,
}

pub struct Checker {
    topic: Topic,
    /// The filter at the last event, and each one confirmed since: at which event a filter changed is not visible
    /// from outside.
    filters: Vec<Mask>,
    /// Everything up to here has come, or was reported as lost.
    position: u64,
    newest: u64,
    gap: Option<Gap>,
    /// `since=-k`: up to this number at most this many come, and missing ones need no gap.
    last: Option<(u64, u64)>,
    /// `since=start` of a job, up to this number. A loss in the past must be reported before the job's next run
    /// begins, and not at all if that run is complete.
    start: Option<u64>,
    /// Live from the start and never filtered: what it misses is counted exactly.
    is_counted: bool,
}

impl Checker {
    /// `greeting` is the newest event when it was accepted.
    pub fn new(topic: Topic, names: Names, since: Since, greeting: u64) -> Self {
        let position = match since {
            Since::Now | Since::Last(_) => greeting,
            Since::Start => 0,
            Since::After(seq) => seq,
        };
        Self {
            topic,
            filters: vec![names.mask() & topic.mask()],
            position,
            newest: 0,
            gap: None,
            last: if let Since::Last(count) = since { Some((greeting, count)) } else { None },
            start: (since == Since::Start && matches!(topic, Topic::Job(_) | Topic::Debug(_)))
                .then_some(greeting),
            is_counted: since == Since::Now && names == Names::ALL && !matches!(topic, Topic::Debug(_)),
        }
    }

    fn filter(&self) -> Mask {
        *self.filters.last().expect("there is always one")
    }

    fn matching<'a>(
        &self,
        stream: &'a Stream,
        after: u64,
        until: u64,
        mask: Mask,
    ) -> impl Iterator<Item = u64> + 'a {
        let topic = self.topic;
        stream.matching(after, until, mask, move |job| topic.has(job))
    }

    pub fn take(&mut self, said: Said, stream: &Stream) -> Result<(), String> {
        match said {
            Said::Event { seq, look } => self.take_event(seq, look, stream),
            Said::Gap { from, to, missed, is_overrun } => self.take_gap(from, to, missed, is_overrun, stream),
            Said::Filter(names) => {
                self.filters.push(names.mask() & self.topic.mask());
                self.is_counted = false;
                if let Some(gap) = &mut self.gap {
                    gap.is_blurred = true;
                }
                Ok(())
            }
            Said::Position(position) => {
                if position > self.position && self.gap.as_ref().is_none_or(|gap| position >= gap.to) {
                    self.close_gap(stream)?;
                    self.advance(position, stream)
                        .map_err(|error| format!("at position {position}: {error}"))?;
                }
                Ok(())
            }
        }
    }

    fn take_event(&mut self, seq: u64, look: Look, stream: &Stream) -> Result<(), String> {
        let record = stream.get(seq).ok_or_else(|| format!("event {seq} is not in the stream"))?;
        let is_same = match look {
            Look::Text(hash) => record.hash == hash,
            Look::Kind(kind) => usize::from(record.kind) == kind,
        };
        if !is_same {
            return Err(format!("event {seq} is not what others got"));
        }
        if !self.topic.has(record.job) || self.filter() >> record.kind & 1 == 0 {
            return Err(format!("event {seq} was not asked for"));
        }
        if seq <= self.newest {
            return Err(format!("event {seq} after event {}", self.newest));
        }
        self.newest = seq;
        if let Some((greeting, left)) = &mut self.last
            && seq <= *greeting
        {
            *left = left.checked_sub(1).ok_or("more of the past than was asked for")?;
            if let Some(gap) = self.gap.as_mut().filter(|gap| (gap.from..=gap.to).contains(&seq)) {
                gap.kept += 1;
            }
            return Ok(());
        }
        if let Some(gap) = &mut self.gap
            && seq <= gap.to
        {
            gap.kept += 1;
            return if seq >= gap.from {
                Ok(())
            } else {
                Err(format!("event {seq} after a gap from {}", gap.from))
            };
        }
        self.close_gap(stream)?;
        self.advance(seq - 1, stream).map_err(|error| format!("before event {seq}: {error}"))?;
        self.position = seq;
        Ok(())
    }

    fn take_gap(
        &mut self,
        from: u64,
        to: u64,
        missed: Option<u64>,
        is_overrun: bool,
        stream: &Stream,
    ) -> Result<(), String> {
        if from > to || from <= self.newest {
            return Err(format!("a gap from {from} to {to} after event {}", self.newest));
        }
        let has_hole = stream.has_hole(from - 1, to);
        if missed.is_none() && is_overrun && self.is_counted && !has_hole {
            return Err(format!("a gap from {from} to {to} without a count"));
        }
        if missed.is_some() && has_hole {
            return Err(format!("a gap from {from} to {to} with a count, though it has a hole"));
        }
        self.close_gap(stream)?;
        // The last k are the last ones that still exist.
        if self.last.is_none_or(|(greeting, _)| from > greeting + 1) {
            self.advance(from - 1, stream).map_err(|error| format!("before a gap from {from}: {error}"))?;
        }
        self.gap = Some(Gap { from, to, missed, kept: 0, is_blurred: self.filters.len() > 1 });
        Ok(())
    }

    /// Nothing from an earlier gap can come any more: checks its count.
    fn close_gap(&mut self, stream: &Stream) -> Result<(), String> {
        let Some(gap) = self.gap.take() else {
            return Ok(());
        };
        let Gap { from, to, missed, kept, is_blurred } = gap;
        // The last k may have a gap among them, if they were dropped in transit: what is live begins later.
        self.position = self.position.max(to);
        let is_known =
            from > stream.known_after() || self.matching(stream, 0, to, 1 << STARTED).next().is_some();
        let is_of_job = matches!(self.topic, Topic::Job(_) | Topic::Debug(_));
        if is_blurred || !is_known || (from <= stream.known_after() && !is_of_job) {
            return Ok(());
        }
        let lost = self.matching(stream, from - 1, to, self.filter()).count() as u64;
        if lost < kept || missed.is_some_and(|missed| missed != lost - kept) {
            return Err(format!(
                "a gap from {from} to {to} says {missed:?}; {lost} were there, {kept} still came"
            ));
        }
        Ok(())
    }

    /// Everything that matches up to `until` must have come.
    fn advance(&mut self, until: u64, stream: &Stream) -> Result<(), String> {
        if let Some(greeting) = self.start.filter(|_| self.newest == 0) {
            self.position = self.position.max(greeting.min(until));
        }
        let mut position = self.position;
        if stream.has_hole(position, until) {
            return Err(format!("a hole was passed without a gap between {position} and {until}"));
        }
        let (current, earlier) = self.filters.split_last().expect("there is always one");
        for mask in earlier {
            // The next filter took effect before the first event that this one would have let pass.
            position = self.matching(stream, position, until, *mask).next().map_or(until, |seq| seq - 1);
        }
        if let Some(lost) = self.matching(stream, position, until, *current).next() {
            return Err(format!("event {lost} did not come; the one before was {}", self.newest));
        }
        self.filters.drain(..self.filters.len() - 1);
        self.position = self.position.max(until);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Checker, Look, NAMES, Names, Said, Since, Topic};
    use crate::lines::{ALL, JobId, is_good, write_line};
    use crate::stream::Stream;

    /// Lines 1 to 300 of publisher 1; if all are good, line n is event n.
    fn stream() -> Stream {
        stream_of(|before| before + 1)
    }

    /// The same with other numbers: `next` makes each from the one before.
    fn stream_of(next: impl Fn(u64) -> u64) -> Stream {
        let mut stream = Stream::new(0);
        for n in (1..=300).filter(|&n| is_good(1, n)) {
            let mut line = String::new();
            write_line(1, n, &mut line);
            let text = format!("{{\"stream_seq\":{},{}", next(stream.newest()), &line.trim_end()[1..]);
            stream.take(text.as_bytes()).expect("it is next");
        }
        stream
    }

    fn event(stream: &Stream, seq: u64) -> Said {
        Said::Event { seq, look: Look::Text(stream.get(seq).expect("it is there").hash) }
    }

    fn gap(from: u64, to: u64, missed: Option<u64>) -> Said {
        Said::Gap { from, to, missed, is_overrun: true }
    }

    fn judge(checker: Checker, stream: &Stream, said: &[Said]) -> Result<(), String> {
        let mut checker = checker;
        said.iter().try_for_each(|said| checker.take(*said, stream))
    }

    #[test]
    fn what_is_whole_passes_and_what_is_lost_doubled_or_foreign_does_not() {
        let stream = &stream();
        let all = || Checker::new(Topic::All, Names::ALL, Since::Now, 10);
        let e = |seq| event(stream, seq);
        assert_eq!(judge(all(), stream, &[e(11), e(12), Said::Position(12)]), Ok(()));
        assert!(judge(all(), stream, &[e(11), e(13)]).is_err(), "lost");
        assert!(judge(all(), stream, &[e(11), e(11)]).is_err(), "doubled");
        assert!(judge(all(), stream, &[e(11), Said::Position(12)]).is_err(), "not yet there");
        assert!(judge(all(), stream, &[e(11), gap(12, 20, Some(9)), e(21)]).is_ok());
        assert!(judge(all(), stream, &[e(11), gap(12, 20, Some(9)), e(20), e(21)]).is_err(), "one was kept");
        assert!(judge(all(), stream, &[e(11), gap(12, 20, Some(8)), e(20), e(21)]).is_ok());
        assert!(judge(all(), stream, &[e(11), gap(12, 20, None)]).is_err(), "it can be counted");
        assert!(judge(all(), stream, &[e(11), gap(13, 20, Some(8))]).is_err(), "12 is in no gap");
        let look = Look::Text(1);
        assert!(judge(all(), stream, &[Said::Event { seq: 11, look }]).is_err(), "other bytes");
        let of_job =
            Checker::new(Topic::Job(JobId { publisher: 1, number: 1 }), Names::ALL, Since::Start, 10);
        assert!(judge(of_job, stream, &[e(1)]).is_err(), "another job's");
        let last = || Checker::new(Topic::All, Names::ALL, Since::Last(2), 10);
        assert!(judge(last(), stream, &[e(9), e(10), e(11)]).is_ok());
        assert!(judge(last(), stream, &[e(8), e(9), e(10)]).is_err(), "three of two");
        let late = || Checker::new(Topic::All, Names::ALL, Since::Last(5), 10);
        assert!(judge(late(), stream, &[gap(6, 8, Some(3)), e(9), e(10), e(11)]).is_ok());
        assert!(judge(late(), stream, &[gap(6, 8, Some(2)), e(7), e(9), e(10), e(11)]).is_ok(), "7 was kept");
        assert!(judge(late(), stream, &[gap(6, 8, Some(3)), e(9), e(10), e(12)]).is_err(), "11 is live");
        assert!(judge(late(), stream, &[gap(6, 12, Some(7)), e(13)]).is_ok());
        assert!(judge(late(), stream, &[gap(6, 12, Some(7)), e(14)]).is_err(), "13 is in no gap");
    }

    #[test]
    fn a_jump_between_two_numbers_is_no_loss_and_hides_none() {
        let stream = &stream_of(|before| before + if before % 3 == 0 { 1 } else { 1 << 30 });
        let numbers: Vec<u64> = stream.matching(0, u64::MAX, ALL, |_| true).take(5).collect();
        let all = || Checker::new(Topic::All, Names::ALL, Since::Now, 0);
        let e = |place: usize| event(stream, numbers[place]);
        assert_eq!(judge(all(), stream, &[e(0), e(1), e(2), Said::Position(numbers[3] - 1)]), Ok(()));
        assert!(judge(all(), stream, &[e(0), e(2)]).is_err(), "lost");
        assert!(judge(all(), stream, &[e(0), Said::Position(numbers[1])]).is_err(), "not yet there");
        let (from, to) = (numbers[0] + 1, numbers[2]);
        assert_eq!(judge(all(), stream, &[e(0), gap(from, to, Some(2)), e(3)]), Ok(()));
        assert!(
            judge(all(), stream, &[e(0), gap(from, to, Some(to - from + 1)), e(3)]).is_err(),
            "a difference"
        );
    }

    #[test]
    fn a_hole_is_a_gap_without_a_count_also_behind_the_last_event() {
        let mut stream = stream();
        let last = stream.newest();
        stream.lose(last + 1, last + 50).expect("it is behind the last event");
        let stream = &stream;
        let all = || Checker::new(Topic::All, Names::ALL, Since::Now, last - 1);
        let hole = |missed| Said::Gap { from: last + 1, to: last + 50, missed, is_overrun: false };
        let (event, end) = (event(stream, last), Said::Position(last + 50));
        assert!([hole(None), end].iter().all(|said| said.needs() <= stream.newest()), "it can be judged");
        assert_eq!(judge(all(), stream, &[event, hole(None), end]), Ok(()));
        assert!(judge(all(), stream, &[event, hole(Some(0)), end]).is_err(), "nobody can count it");
        assert!(judge(all(), stream, &[event, end]).is_err(), "no gap told of it");
        assert!(judge(all(), stream, &[hole(None), end]).is_err(), "the event before it did not come");
        let both = Said::Gap { from: last, to: last + 50, missed: None, is_overrun: true };
        assert_eq!(judge(all(), stream, &[both, end]), Ok(()));
        let quiet = JobId { publisher: 9, number: 9 };
        let of_job = |said: &[Said]| {
            judge(Checker::new(Topic::Job(quiet), Names::ALL, Since::Now, last), stream, said)
        };
        assert_eq!(of_job(&[hole(None), end]), Ok(()));
        assert!(of_job(&[end]).is_err(), "it may have been in the hole");
    }

    #[test]
    fn a_filter_may_change_anywhere_between_two_events_and_holds_then() {
        let stream = &stream();
        let kind = |seq: u64| usize::from(stream.get(seq).expect("it is there").kind);
        let bit =
            |kind: usize| 1 << NAMES.iter().position(|name| name.1 == 1 << kind).expect("a single kind");
        // An event, and the next two of other kinds.
        let first = (20..250).find(|&seq| kind(seq) < 5 && kind(seq + 1) > 6 && kind(seq + 2) < 5);
        let first = first.expect("there is such a place");
        let only = |seq: u64| Names { is_only: true, listed: bit(kind(seq)) };
        let checker = || Checker::new(Topic::All, Names::ALL, Since::Now, first - 1);
        let filter = Said::Filter(only(first + 1));
        assert_eq!(
            judge(checker(), stream, &[event(stream, first), filter, event(stream, first + 1)]),
            Ok(())
        );
        assert!(judge(checker(), stream, &[filter, event(stream, first)]).is_err(), "filtered away");
        // From all to "only the second's": the third need not come before the change is known.
        let third = Said::Filter(only(first + 2));
        assert_eq!(
            judge(checker(), stream, &[event(stream, first), filter, third, event(stream, first + 2)]),
            Ok(())
        );
        assert!(
            judge(checker(), stream, &[event(stream, first), filter, Said::Position(first + 2)]).is_err(),
            "all wanted the second before the change, the new filter after it"
        );
    }
}
