//! One topic as one client sees it: which of its events must come next, and which may be lost.

use luxcast::wire::client_action::Since;

use crate::client::Sight;
use crate::filters::Filters;
use crate::stream::{Event, Stream};
use crate::topic::TopicId;

#[derive(Clone, Copy)]
pub struct Track {
    pub topic: TopicId,
    /// All up to this number has come, or was told in a gap, or was not asked for.
    pub floor: u64,
    /// Place of the first event beyond it.
    place: usize,
    /// The oldest filter that may have judged the next events.
    phase: usize,
    /// It asked for what memory has: events up to this number may be left out, or be in a gap.
    loose_to: u64,
    /// A gap for losses up to this number may come with the first event that shows them.
    late_to: u64,
    /// A gap may begin with the first number.
    is_from_start: bool,
    /// The number that it asked for: it may be named before all events up to there were published.
    pub stood_at: u64,
    /// The newest number when it asked.
    newest: u64,
    /// What it asked for was beyond that.
    is_ahead: bool,
    /// On a connection for many jobs: the past that was asked for ends here, and other jobs wait until it has come.
    pub past_to: u64,
    /// How many events of the merged order had come when it was asked for.
    pub live_count: u64,
}

/// What a check may look at.
pub struct Eye<'a> {
    pub id: usize,
    pub filters: &'a Filters,
    pub sight: &'a Sight<'a>,
}

impl Track {
    /// The client asks for `since`, and is given `newest`. The daemon's memory has lost nothing behind `whole_from` then.
    pub fn new(topic: TopicId, since: Since, newest: u64, whole_from: u64, stream: &Stream) -> Self {
        let (floor, loose_to) = match since {
            Since::Now => (newest, newest),
            Since::After(seq) => (seq, seq),
            Since::Start if topic == TopicId::All => (0, whole_from),
            Since::Start => (0, 0),
            Since::Last(_) => (0, newest),
        };
        let is_from_start = floor == 0;
        Self {
            topic,
            floor,
            place: stream.place_after(floor),
            phase: 0,
            loose_to,
            late_to: if is_from_start && whole_from < stream.first_number() { newest } else { 0 },
            is_from_start,
            stood_at: floor,
            newest,
            is_ahead: floor > newest,
            past_to: if since == Since::Now { 0 } else { newest },
            live_count: 0,
        }
    }

    /// The daemon says where it is, and nobody is told of less than what it named and may have been given elsewhere.
    pub fn check_shown(&self, shown: u64, client: usize) {
        let is_right = shown == self.newest || self.is_ahead && shown == self.stood_at;
        assert!(is_right, "client {client}: it is shown {shown}, not {} or {}", self.newest, self.stood_at);
    }

    /// The daemon has answered: the newest filter and all later ones judge its events.
    pub fn begin(self, phase: usize, live_count: u64) -> Self {
        Self { phase, live_count, ..self }
    }

    /// `text`: as it must come, and as it came.
    pub fn event(&mut self, number: u64, text: &str, expected: impl Fn(&Event) -> String, eye: &Eye<'_>) {
        let (id, sight) = (eye.id, eye.sight);
        assert!(number > self.floor, "client {id}: event {number} comes after {}", self.floor);
        assert!(number <= sight.published, "client {id}: event {number} is not published");
        self.settle(number - 1, eye, |_| false);
        let event = sight.stream.events.get(self.place).filter(|event| event.number == number);
        let event = event.unwrap_or_else(|| panic!("client {id}: there is no event {number}"));
        assert!(expected(event) == text, "client {id}: event {number} came as {text}");
        let is_wanted = self.topic.has(event) && eye.filters.want(event);
        assert!(is_wanted, "client {id}: it did not ask for {number}, {text}");
        self.place += 1;
        self.floor = number;
        self.phase = eye.filters.newest();
        self.is_from_start = false;
    }

    /// A gap with these ends. Returns whether it moves the client on.
    pub fn gap(&mut self, (from, to): (u64, u64), reason: &str, eye: &Eye<'_>) -> bool {
        let (id, sight) = (eye.id, eye.sight);
        if self.is_ahead && reason == "restart" && from == self.stood_at + 1 && from == to {
            self.begin_anew(eye);
            return false;
        }
        if from == 1 && to <= self.late_to.min(self.floor) {
            return false;
        }
        let gap = format!("client {id}: the gap from {from} to {to}, {reason}, of {:?}", self.topic);
        assert!(from <= to && to > self.floor, "{gap} comes after {}", self.floor);
        assert!(from > self.floor || from == 1 && self.is_from_start, "{gap} overlaps");
        assert!(reason != "overrun", "{gap}, though the stream has that");
        if from > 1 {
            self.settle(from - 1, eye, |_| false);
        }
        let is_lost = |event: &Event| event.is_lost || event.number < sight.replay_from;
        self.settle(to, eye, is_lost);
        // What is known of a loss may grow while it is told.
        let is_caused = from <= self.loose_to
            || from < sight.replay_from
            || sight.stream.lacks_any(from.max(self.floor + 1), to + 1);
        assert!(is_caused, "{gap}, but nothing is lost there");
        let first = sight.stream.place_after((from - 1).max(self.loose_to));
        // Where it is unknown what was lost, what lies between its own events may be in the gap.
        let within = sight.stream.events[first..].iter().take_while(|event| event.number <= to);
        let there =
            within.filter(|event| self.topic.has(event) && !is_lost(event)).map(|event| event.number).next();
        assert!(there.is_none(), "{gap}, but the stream has {there:?}");
        self.floor = to;
        self.is_from_start = false;
        true
    }

    /// The number that it named is in no stream any more: it begins with what memory has.
    fn begin_anew(&mut self, eye: &Eye<'_>) {
        let is_in = |&(first, last): &(u64, u64)| (first..=last).contains(&self.stood_at);
        let is_other = eye.sight.stream.jumps.iter().any(is_in);
        assert!(is_other, "client {}: its number {} is known", eye.id, self.stood_at);
        (self.floor, self.place, self.loose_to) = (0, 0, eye.sight.published);
        (self.is_from_start, self.is_ahead, self.past_to) = (true, false, 0);
    }

    /// The daemon says that everything up to `to` was sent.
    pub fn pass(&mut self, to: u64, eye: &Eye<'_>) {
        self.settle(to, eye, |_| false);
        self.floor = self.floor.max(to);
    }

    /// Nothing that it wants is up to the number `to`, unless that is excused.
    fn settle(&mut self, to: u64, eye: &Eye<'_>, is_excused: impl Fn(&Event) -> bool) {
        while let Some(event) = eye.sight.stream.events.get(self.place).filter(|event| event.number <= to) {
            let is_told_later = event.is_lost && event.number <= self.late_to;
            let is_due = self.topic.has(event)
                && event.number > self.loose_to
                && eye.filters.need(self.phase, event)
                && !is_excused(event);
            assert!(
                !is_due || is_told_later,
                "client {}: event {} is left out, before {to}",
                eye.id,
                event.number
            );
            self.place += 1;
        }
    }
}
