//! One client: cuts what its socket took into frames and checks each one at once against all that the stream ever had.

use luxcast::wire::client_action::Since;
use serde_json::Value;

use crate::stream::{Event, Stream};
use crate::wish::{TopicId, Wish};

pub struct Client {
    pub id: usize,
    topic: TopicId,
    /// Its filters, each for the numbers beyond the one beside it.
    phases: Vec<(u64, Wish)>,
    /// All up to this number has come, or was told in a gap, or was not asked for.
    floor: u64,
    /// Place of the first event beyond it.
    place: usize,
    /// It asked for what memory has: events up to this number may be left out, or be in a gap.
    loose_to: u64,
    /// A gap for losses up to this number may come with the first event that shows them.
    late_to: u64,
    /// A gap may begin with the first number.
    is_from_start: bool,
    /// The number that it asked for: it may be named before all events up to there were published.
    stood_at: u64,
    /// It was beyond the newest one.
    is_ahead: bool,
    is_greeted: bool,
    /// The last position it knows, which `since=` may name.
    pub position: Option<u64>,
    /// The close frame has come.
    pub is_closed: bool,
    buffer: Vec<u8>,
    pub events: u64,
    pub gaps: u64,
}

/// What there is while a client looks.
pub struct Sight<'a> {
    pub stream: &'a Stream,
    /// The newest number of the daemon.
    pub published: u64,
    /// Events with numbers below this one were not read again, though the stream had them (`bus_replay_bytes`).
    pub replay_from: u64,
}

impl Client {
    pub fn new(id: usize, topic: TopicId, wish: Wish) -> Self {
        Self {
            id,
            topic,
            phases: vec![(0, wish)],
            floor: 0,
            place: 0,
            loose_to: 0,
            late_to: 0,
            is_from_start: false,
            stood_at: 0,
            is_ahead: false,
            is_greeted: false,
            position: None,
            is_closed: false,
            buffer: Vec::new(),
            events: 0,
            gaps: 0,
        }
    }

    /// It asked for `since`, and was given `newest`. The daemon's memory had lost nothing behind `whole_from` then.
    pub fn expect(&mut self, since: Since, newest: u64, whole_from: u64, stream: &Stream) {
        let is_of_all = self.topic == TopicId::All;
        (self.floor, self.loose_to) = match since {
            Since::Now => (newest, newest),
            Since::After(seq) => (seq, seq),
            Since::Start if is_of_all => (0, whole_from),
            Since::Start => (0, 0),
            Since::Last(_) => (0, newest),
        };
        self.is_from_start = self.floor == 0;
        self.late_to = if self.is_from_start && whole_from < stream.first_number() { newest } else { 0 };
        self.stood_at = self.floor;
        self.is_ahead = self.floor > newest;
        self.place = stream.place_after(self.floor);
    }

    pub fn wish(&self) -> &Wish {
        &self.phases.last().expect("there is one").1
    }

    /// It wants this of the events beyond the number `limit`.
    pub fn change(&mut self, limit: u64, wish: Wish) {
        self.phases.push((limit, wish));
    }

    fn wants(&self, event: &Event) -> bool {
        let is_in_force = |phase: &&(u64, Wish)| phase.0 < event.number;
        let phase = self.phases.iter().rev().find(is_in_force).expect("the first is in force from 0 on");
        self.topic.has(event) && phase.1.wants(event)
    }

    /// The socket took these bytes.
    pub fn receive(&mut self, bytes: &[u8], sight: &Sight<'_>, trace: impl Fn(String)) {
        self.buffer.extend_from_slice(bytes);
        let buffer = std::mem::take(&mut self.buffer);
        let mut rest = &buffer[..];
        while let Some((opcode, payload, length)) = first_frame(rest) {
            assert!(!self.is_closed, "client {}: a frame after the close frame", self.id);
            match opcode {
                8 => self.is_closed = true,
                1 => {
                    let text = std::str::from_utf8(payload).expect("it is text");
                    trace(format!("        client {} gets {text:.160}", self.id));
                    self.take(text, sight);
                }
                9 | 10 => {}
                _ => panic!("client {}: the frame border is lost", self.id),
            }
            rest = &rest[length..];
        }
        self.buffer = rest.to_vec();
    }

    fn take(&mut self, text: &str, sight: &Sight<'_>) {
        if let Some(rest) = text.strip_prefix("{\"stream_seq\":") {
            let number = rest[..16].parse().expect("a number of sixteen digits");
            return self.event(number, text, sight);
        }
        let value: Value = serde_json::from_str(text).expect("a notice is JSON");
        match (value["type"].as_str(), value["status"].as_str()) {
            (Some("connection:status"), Some("connected")) => self.is_greeted = true,
            (Some("connection:status" | "ping"), _) => {
                self.check_position(number(&value, "stream_seq"), sight);
            }
            (Some("stream:gap"), _) => self.gap(&value, sight),
            (Some("metrics" | "subscription:confirmed" | "pong"), _) => {}
            _ => panic!("client {}: unknown notice {text}", self.id),
        }
    }

    fn event(&mut self, number: u64, text: &str, sight: &Sight<'_>) {
        let id = self.id;
        assert!(self.is_greeted, "client {id}: event {number} comes before the greeting");
        assert!(number > self.floor, "client {id}: event {number} comes after {}", self.floor);
        assert!(number <= sight.published, "client {id}: event {number} is not published");
        self.settle(number - 1, sight, |_| false);
        let event = sight.stream.events.get(self.place).filter(|event| event.number == number);
        let event = event.unwrap_or_else(|| panic!("client {id}: there is no event {number}"));
        assert!(event.object == text, "client {id}: event {number} came as {text}");
        assert!(self.wants(event), "client {id}: it did not ask for {number}, {text}");
        self.place += 1;
        self.floor = number;
        self.is_from_start = false;
        self.position = Some(number);
        self.events += 1;
    }

    fn gap(&mut self, value: &Value, sight: &Sight<'_>) {
        let id = self.id;
        let (from, to) = (number(value, "from"), number(value, "to"));
        if self.is_ahead && value["reason"] == "restart" && from == self.stood_at + 1 && from == to {
            return self.begin_anew(sight);
        }
        if from == 1 && to <= self.late_to.min(self.floor) {
            self.gaps += 1;
            return;
        }
        assert!(from <= to && to > self.floor, "client {id}: {value} comes after {}", self.floor);
        assert!(from > self.floor || from == 1 && self.is_from_start, "client {id}: {value} overlaps");
        assert!(value["reason"] != "overrun", "client {id}: {value}, though the stream has that");
        if from > 1 {
            self.settle(from - 1, sight, |_| false);
        }
        let is_lost = |event: &Event| event.is_lost || event.number < sight.replay_from;
        self.settle(to, sight, is_lost);
        // What is known of a loss may grow while it is told.
        let is_caused = from <= self.loose_to
            || from < sight.replay_from
            || sight.stream.lacks_any(from.max(self.floor + 1), to + 1);
        assert!(is_caused, "client {id}: {value}, but nothing is lost there");
        let first = sight.stream.place_after((from - 1).max(self.loose_to));
        // Where it is unknown what was lost, what lies between its own events may be in the gap.
        let within = sight.stream.events[first..].iter().take_while(|event| event.number <= to);
        let there =
            within.filter(|event| self.topic.has(event) && !is_lost(event)).map(|event| event.number).next();
        assert!(there.is_none(), "client {id}: {value}, but the stream has {there:?}");
        self.floor = to;
        self.is_from_start = false;
        self.position = Some(to);
        self.gaps += 1;
    }

    /// The number that it named is in no stream any more: it begins with what memory has.
    fn begin_anew(&mut self, sight: &Sight<'_>) {
        let is_other =
            sight.stream.jumps.iter().any(|&(first, last)| (first..=last).contains(&self.stood_at));
        assert!(is_other, "client {}: its number {} is known", self.id, self.stood_at);
        (self.floor, self.place, self.loose_to) = (0, 0, sight.published);
        (self.is_from_start, self.is_ahead) = (true, false);
        self.gaps += 1;
    }

    /// The daemon says that everything up to `seq` was sent.
    fn check_position(&mut self, seq: u64, sight: &Sight<'_>) {
        let id = self.id;
        assert!(seq >= self.floor, "client {id}: its position is {seq}, but {} has come", self.floor);
        let is_possible = seq <= sight.published.max(self.stood_at).max(self.floor);
        assert!(is_possible, "client {id}: its position {seq} is not published");
        self.settle(seq, sight, |_| false);
        self.floor = seq;
        self.position = Some(seq);
    }

    /// Nothing that it wants is up to the number `to`, unless that is excused.
    fn settle(&mut self, to: u64, sight: &Sight<'_>, is_excused: impl Fn(&Event) -> bool) {
        while let Some(event) = sight.stream.events.get(self.place).filter(|event| event.number <= to) {
            let is_told_later = event.is_lost && event.number <= self.late_to;
            let is_due = self.wants(event) && event.number > self.loose_to && !is_excused(event);
            assert!(
                !is_due || is_told_later,
                "client {}: event {} is left out, before {to}",
                self.id,
                event.number
            );
            self.place += 1;
        }
    }

    /// Checks that nothing is missing, once everything is published and every socket read.
    pub fn finish(&mut self, sight: &Sight<'_>) {
        assert!(self.buffer.is_empty(), "client {}: half a frame came", self.id);
        assert!(self.is_greeted, "client {}: it was not greeted", self.id);
        self.settle(sight.published, sight, |_| false);
    }
}

fn number(value: &Value, name: &str) -> u64 {
    value[name].as_u64().unwrap_or_else(|| panic!("{name} is a number in {value}"))
}

/// Opcode, payload and length of the first frame, as in RFC 6455, section 5.2. None: it is not whole.
fn first_frame(bytes: &[u8]) -> Option<(u8, &[u8], usize)> {
    let (header, length) = match *bytes.get(1)? {
        length @ ..126 => (2, usize::from(length)),
        126 => (4, usize::from(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?]))),
        _ => panic!("a frame of more than 64 KiB, or a masked one: the frame border is lost"),
    };
    assert!(bytes[0] & 0xf0 == 0x80, "a part of a message: the frame border is lost");
    Some((bytes[0] & 15, bytes.get(header..header + length)?, header + length))
}
