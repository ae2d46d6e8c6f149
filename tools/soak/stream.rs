//! What happened: the events as one watcher of `/events` received them, each checked against what was published.

use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasher;

use foldhash::quality::FixedState;

use crate::lines::{ALL, JobId, KINDS, METRICS, Mask, is_good, next_good, write_line};

/// Events remembered: far more than the daemon's history holds, so that the slowest watcher can be judged.
const RECORDS_MAX: usize = 600_000;

pub struct Record {
    pub seq: u64,
    pub hash: u64,
    pub job: JobId,
    pub kind: u8,
}

#[derive(Default)]
pub struct Stream {
    /// In the order of their numbers, which may jump: the publishers' own line numbers show that nothing is missing.
    records: VecDeque<Record>,
    /// Every event beyond this number has a record.
    known_after: u64,
    /// The newest number, of an event or at the end of a hole; before the first that of the greeting.
    newest: u64,
    /// The numbers `from..=to` of each hole: events lost before they came to the daemon, a gap for everybody.
    holes: Vec<(u64, u64)>,
    /// How many events there were.
    taken: u64,
    /// The last line seen of each publisher, and its number.
    last_lines: HashMap<u32, (u64, u64)>,
    expected: String,
}

/// The same number for the same text.
pub fn hash_of(text: &[u8]) -> u64 {
    FixedState::default().hash_one(text)
}

/// The number at the start of an event; none at the start of the daemon's own messages.
pub fn seq_of(text: &[u8]) -> Option<u64> {
    let digits = text.strip_prefix(b"{\"stream_seq\":")?;
    number(digits)
}

fn number(text: &[u8]) -> Option<u64> {
    let length = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(&text[..length]).ok()?.parse().ok()
}

/// The text after the first `start`, up to the next quotation mark.
pub fn quoted<'a>(text: &'a [u8], start: &str) -> Option<&'a str> {
    let at = memchr::memmem::find(text, start.as_bytes())? + start.len();
    let end = memchr::memchr(b'"', &text[at..])?;
    std::str::from_utf8(&text[at..at + end]).ok()
}

/// The kind of an event, in either dialect, and its job.
pub fn kind_and_job(text: &[u8]) -> Option<(usize, JobId)> {
    let job = JobId::parse(quoted(text, r#""job_id":""#)?)?;
    let kind = match quoted(text, r#""type":""#)? {
        "execution_event" => {
            let inner = quoted(text, r#""event_type":""#);
            KINDS.iter().position(|known| *known == ("execution_event", inner))
        }
        "slot_called" => KINDS.iter().position(|known| known.1 == Some("slot_call")),
        "event_emitted" => KINDS.iter().position(|known| known.1 == Some("event_emit")),
        name => KINDS.iter().position(|known| known.0 == name),
    };
    Some((kind?, job))
}

impl Stream {
    /// Begins after the number in the reference's greeting.
    pub fn new(newest: u64) -> Self {
        Self { known_after: newest, newest, ..Self::default() }
    }

    pub fn newest(&self) -> u64 {
        self.newest
    }

    /// Takes the gap that `/events` has for a hole behind all that came.
    pub fn lose(&mut self, from: u64, to: u64) -> Result<(), String> {
        if from != self.newest + 1 || to < from {
            return Err(format!("a hole from {from} to {to} after number {}", self.newest));
        }
        self.holes.push((from, to));
        self.newest = to;
        Ok(())
    }

    /// Whether some number in `after + 1..=until` is in a hole.
    pub fn has_hole(&self, after: u64, until: u64) -> bool {
        self.holes.iter().any(|&(from, to)| from <= until && to > after)
    }

    /// How many holes there were.
    pub fn holes(&self) -> usize {
        self.holes.len()
    }

    /// How many events there were.
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// The number beyond which every event is remembered.
    pub fn known_after(&self) -> u64 {
        self.known_after
    }

    pub fn get(&self, seq: u64) -> Option<&Record> {
        let place = self.records.binary_search_by_key(&seq, |record| record.seq).ok()?;
        self.records.get(place)
    }

    /// The event that `count` others followed, or the oldest that is remembered.
    pub fn back(&self, count: u64) -> Option<&Record> {
        self.records.get(self.records.len().saturating_sub(count as usize + 1))
    }

    /// A number behind which there are `count` events, or as many as are remembered.
    pub fn before_last(&self, count: u64) -> u64 {
        let before = self.records.len().checked_sub(count as usize + 1);
        before.map_or(self.known_after, |place| self.records[place].seq)
    }

    /// The last line seen of a publisher.
    pub fn last_line(&self, publisher: u32) -> u64 {
        self.last_lines.get(&publisher).map_or(0, |(line, _)| *line)
    }

    /// The numbers in `after + 1..=until` of events that are of one of these kinds and for which `has` is true.
    pub fn matching(
        &self,
        after: u64,
        until: u64,
        mask: Mask,
        has: impl Fn(JobId) -> bool,
    ) -> impl Iterator<Item = u64> {
        let from = self.records.partition_point(|record| record.seq <= after);
        let end = self.records.partition_point(|record| record.seq <= until);
        let matches = move |record: &&Record| mask >> record.kind & 1 == 1 && has(record.job);
        self.records.range(from..end.max(from)).filter(matches).map(|record| record.seq)
    }

    /// Takes what one daemon's `/events` has behind `position`. The first daemon to have it makes it known; from all
    /// others it must be the same.
    pub fn follow(&mut self, position: u64, text: &[u8]) -> Result<(), String> {
        let seq = seq_of(text).unwrap_or(0);
        if self.has_hole(position, seq) {
            return Err(format!("event {seq} behind {position}, and no gap for the hole between them"));
        }
        let next = self.matching(position, u64::MAX, ALL, |_| true).next();
        match next {
            None => self.take(text),
            Some(next) if next == seq && self.get(seq).is_some_and(|known| known.hash == hash_of(text)) => {
                Ok(())
            }
            Some(next) => {
                let known = self.get(next).map(|known| (known.job, KINDS[usize::from(known.kind)]));
                let shown = String::from_utf8_lossy(&text[..text.len().min(200)]);
                Err(format!("{shown} behind {position}, where another daemon has {next}: {known:?}"))
            }
        }
    }

    /// Takes the gap that one daemon's `/events` has for a hole behind `position`, in the same way.
    pub fn follow_hole(&mut self, position: u64, from: u64, to: u64) -> Result<(), String> {
        let is_known = from > position && self.holes.contains(&(from, to));
        if is_known { Ok(()) } else { self.lose(from, to) }
    }

    /// Takes the next event of `/events`.
    pub fn take(&mut self, text: &[u8]) -> Result<(), String> {
        let shown = || String::from_utf8_lossy(&text[..text.len().min(200)]).into_owned();
        let seq = seq_of(text).ok_or_else(|| format!("not an event: {}", shown()))?;
        if seq <= self.newest() {
            return Err(format!("event {seq} came after event {}", self.newest()));
        }
        let (kind, job) = kind_and_job(text).ok_or_else(|| format!("unknown: {}", shown()))?;
        let is_published = memchr::memmem::find(&text[..text.len().min(150)], b"\",\"n\":");
        match is_published {
            Some(at) => {
                let n = number(&text[at + b"\",\"n\":".len()..]).unwrap_or(0);
                let (last, last_seq) = self.last_lines.get(&job.publisher).copied().unwrap_or_default();
                let expected = next_good(job.publisher, last);
                let may_jump = self.has_hole(last_seq, seq) && n > last && is_good(job.publisher, n);
                if n != expected && !may_jump {
                    return Err(format!(
                        "publisher {}: line {n} where {expected} was due: lost, doubled or out of order",
                        job.publisher
                    ));
                }
                self.expected.clear();
                write_line(job.publisher, n, &mut self.expected);
                let body = text.iter().position(|byte| *byte == b',').map(|comma| &text[comma + 1..]);
                if body != Some(&self.expected.trim_end().as_bytes()[1..]) {
                    return Err(format!("not the bytes that were published: {}", shown()));
                }
                self.last_lines.insert(job.publisher, (n, seq));
            }
            None if kind == METRICS => {}
            None => return Err(format!("nobody published this: {}", shown())),
        }
        self.records.push_back(Record { seq, hash: hash_of(text), job, kind: kind as u8 });
        (self.newest, self.taken) = (seq, self.taken + 1);
        if self.records.len() > RECORDS_MAX
            && let Some(oldest) = self.records.pop_front()
        {
            self.known_after = oldest.seq;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Stream, seq_of};
    use crate::lines::{ALL, is_good, write_line};

    fn event(seq: u64, publisher: u32, n: u64) -> Vec<u8> {
        let mut line = String::new();
        write_line(publisher, n, &mut line);
        format!("{{\"stream_seq\":{seq},{}", &line.trim_end()[1..]).into_bytes()
    }

    #[test]
    fn what_was_published_is_taken_once_and_in_order() {
        let mut stream = Stream::new(9);
        let publisher =
            (1..).find(|&publisher| (1..8).all(|n| is_good(publisher, n))).expect("most lines are good");
        let event = |seq, n| event(seq, publisher, n);
        for n in 1..=5 {
            stream.take(&event(9 + n, n)).expect("it is next");
        }
        assert_eq!(seq_of(&event(77, 1)), Some(77));
        assert_eq!(stream.newest(), 14);
        assert_eq!(stream.matching(11, 99, ALL, |_| true).collect::<Vec<_>>(), [12, 13, 14]);
        assert_eq!(stream.matching(0, 10, ALL, |_| true).collect::<Vec<_>>(), [10]);
        assert!(stream.take(&event(15, 5)).is_err(), "a line twice");
        assert!(stream.take(&event(15, 7)).is_err(), "a line lost");
        let mut other = event(15, 6);
        let end = other.len() - 5;
        other[end] = b'y';
        assert!(stream.take(&other).is_err(), "other bytes");
        stream
            .take(b"{\"stream_seq\":15,\"type\":\"metrics\",\"job_id\":\"j1-0\",\"x\":1}")
            .expect("the daemon's own");
        stream.take(&event(16, 6)).expect("it is next");
        assert!(stream.take(&event(16, 7)).is_err(), "a number twice");
        stream.take(&event(1 << 40, 7)).expect("a jump is no loss");
        assert!(stream.take(&event((1 << 40) + 1, 9)).is_err(), "a loss is one, with or without a jump");
        assert_eq!((stream.newest(), stream.taken()), (1 << 40, 8));
        assert_eq!(stream.matching(15, u64::MAX, ALL, |_| true).collect::<Vec<_>>(), [16, 1 << 40]);
        assert_eq!([0, 1, 2, 99].map(|count| stream.before_last(count)), [1 << 40, 16, 15, 9]);
        assert_eq!(
            [0, 1, 99].map(|count| stream.back(count).expect("there are some").seq),
            [1 << 40, 16, 10]
        );
    }

    #[test]
    fn what_one_daemon_has_is_what_all_have() {
        let mut stream = Stream::new(9);
        let publisher =
            (1..).find(|&publisher| (1..8).all(|n| is_good(publisher, n))).expect("most lines are good");
        let event = |seq, n| event(seq, publisher, n);
        stream.follow(9, &event(10, 1)).expect("it is new");
        stream.follow(10, &event(2048, 2)).expect("it is new");
        assert!(stream.follow(9, &event(2048, 2)).is_err(), "this daemon lost one");
        stream.follow(9, &event(10, 1)).expect("it is the same");
        assert!(stream.follow(10, &event(2047, 2)).is_err(), "another number");
        assert!(stream.follow(10, &event(2048, 3)).is_err(), "other bytes");
        assert!(stream.follow(2048, &event(2048, 2)).is_err(), "twice");
        stream.follow(10, &event(2048, 2)).expect("it is the same");
        stream.follow_hole(2048, 2049, 3071).expect("it is new");
        stream.follow(3071, &event(3072, 4)).expect("line 3 may have been in the hole");
        assert!(stream.follow(2048, &event(3072, 4)).is_err(), "no gap told of the hole");
        assert!(stream.follow_hole(2048, 2049, 3070).is_err(), "another hole");
        stream.follow_hole(2048, 2049, 3071).expect("it is the same");
        assert_eq!((stream.newest(), stream.taken(), stream.holes()), (3072, 3, 1));
    }

    #[test]
    fn in_a_hole_lines_may_be_lost_and_elsewhere_none() {
        let mut stream = Stream::new(9);
        let publisher =
            (1..).find(|&publisher| (1..8).all(|n| is_good(publisher, n))).expect("most lines are good");
        let event = |seq, n| event(seq, publisher, n);
        stream.take(&event(10, 1)).expect("it is next");
        assert!(stream.lose(12, 20).is_err(), "event 11 may have come");
        assert!(stream.lose(11, 10).is_err(), "it ends before it begins");
        stream.lose(11, 20).expect("it is behind the last event");
        assert_eq!((stream.newest(), stream.taken(), stream.holes()), (20, 1, 1));
        assert!(stream.take(&event(20, 2)).is_err(), "a number from the hole");
        stream.take(&event(21, 4)).expect("2 and 3 may have been in the hole");
        assert!(stream.take(&event(22, 6)).is_err(), "5 was not");
        assert!(stream.take(&event(22, 4)).is_err(), "a line twice");
        stream.take(&event(22, 5)).expect("it is next");
        assert_eq!(
            [(9, 10), (10, 11), (19, 20), (20, 99)].map(|(after, until)| stream.has_hole(after, until)),
            [false, true, true, false]
        );
    }
}
