//! The stream behind the daemon, as it is at each moment, and all events that it has ever had.

use luxcast::bus::numbers::{Epochs, PLACES};

use crate::plan::Plan;
use crate::simulated::rng::Rng;
use crate::topic::{flow_name, job_name};

/// `luxcast.base` of the stream.
const BASE: u64 = 1_700_000_000_000_000;

pub struct Event {
    pub number: u64,
    pub kind: String,
    pub job: Option<usize>,
    pub flow: Option<usize>,
    /// What its watchers get.
    pub object: String,
    /// The stream has it no more.
    pub is_lost: bool,
}

pub struct Message {
    /// The number of its first line.
    pub first: u64,
    pub payload: Vec<u8>,
    /// Places of its events.
    pub events: std::ops::Range<usize>,
    pub is_lost: bool,
}

pub struct Stream {
    pub epochs: Epochs,
    /// Message 1 and on.
    messages: Vec<Message>,
    /// The oldest message that retention has left.
    pub first: u64,
    /// All that it ever had, by number.
    pub events: Vec<Event>,
    /// Numbers that no event has and none will get, since a new epoch began behind the first of each pair.
    pub jumps: Vec<(u64, u64)>,
    new_types: usize,
    /// The job names its flow in each event, if it has one.
    flows: Vec<Option<usize>>,
}

impl Stream {
    pub fn new(plan: &Plan, rng: &mut Rng) -> Self {
        let flow = |rng: &mut Rng| (plan.flows > 0 && rng.chance(60)).then(|| rng.below(plan.flows));
        Self {
            epochs: Epochs::new(BASE).expect("it has sixteen digits"),
            messages: Vec::new(),
            first: 1,
            events: Vec::new(),
            jumps: Vec::new(),
            new_types: 0,
            flows: (0..plan.jobs).map(|_| flow(rng)).collect(),
        }
    }

    pub fn last(&self) -> u64 {
        self.messages.len() as u64
    }

    /// None: there is no such message, or none any more.
    pub fn message(&self, message: u64) -> Option<&Message> {
        let place = usize::try_from(message.checked_sub(1)?).ok()?;
        self.messages.get(place).filter(|found| !found.is_lost)
    }

    pub fn number(&self, message: u64, place: usize) -> u64 {
        self.epochs.number(message, place).expect("numbers are in range")
    }

    /// The greatest number that may have been given by now.
    pub fn newest(&self) -> u64 {
        self.number(self.last(), PLACES - 1)
    }

    /// The least number that an event can have.
    pub fn first_number(&self) -> u64 {
        self.number(1, 0).min(BASE + PLACES as u64)
    }

    /// None: no event ever had this number.
    pub fn find(&self, number: u64) -> Option<&Event> {
        let place = self.events.binary_search_by_key(&number, |event| event.number);
        place.ok().map(|place| &self.events[place])
    }

    /// Place of the first event beyond a number.
    pub fn place_after(&self, number: u64) -> usize {
        self.events.partition_point(|event| event.number <= number)
    }

    /// Someone publishes a message.
    pub fn publish(&mut self, plan: &Plan, rng: &mut Rng) {
        let message = self.last() + 1;
        let first = self.number(message, 0);
        let begin = self.events.len();
        let mut lines = Vec::new();
        for place in 0..rng.between(1, plan.lines_max) {
            if rng.chance(3) {
                lines.push("no event".to_owned());
                continue;
            }
            let (event, line) = self.event(first + place as u64, plan, rng);
            self.events.push(event);
            lines.push(line);
        }
        let events = begin..self.events.len();
        self.messages.push(Message { first, payload: lines.join("\n").into_bytes(), events, is_lost: false });
        if rng.chance(plan.hole_percent) {
            self.lose(message);
        }
    }

    fn event(&mut self, number: u64, plan: &Plan, rng: &mut Rng) -> (Event, String) {
        let kind = plan.kind(rng, &mut self.new_types);
        let is_of_job = plan.flows == 0 || rng.chance(90);
        let job = is_of_job.then(|| rng.below(plan.jobs));
        let flow = job.map_or_else(|| Some(rng.below(plan.flows)), |job| self.flows[job]);
        let mut rest = format!("\"type\":\"{kind}\"");
        if let Some(job) = job {
            rest += &format!(",\"job_id\":\"{}\"", job_name(job));
        }
        if let Some(flow) = flow {
            rest += &format!(",\"flow_id\":\"{}\"", flow_name(flow));
        }
        if rng.chance(plan.pad_percent) {
            // A CR is a blank of JSON.
            let blank = if rng.chance(30) { "\r" } else { "" };
            rest += &format!(",{blank}\"pad\":\"{}\"{blank}", "x".repeat(rng.below(plan.pad_max)));
        }
        let object = format!("{{\"stream_seq\":{number},{rest}}}");
        (Event { number, kind, job, flow, object, is_lost: false }, format!("{{{rest}}}"))
    }

    fn lose(&mut self, message: u64) {
        let message = &mut self.messages[message as usize - 1];
        message.is_lost = true;
        self.events[message.events.clone()].iter_mut().for_each(|event| event.is_lost = true);
    }

    /// Retention drops the oldest messages.
    pub fn drop_oldest(&mut self, count: u64) {
        let until = (self.first + count).min(self.last() + 1);
        (self.first..until).for_each(|message| self.lose(message));
        self.first = until;
    }

    /// It loses its end, and an operator begins a new epoch.
    pub fn begin_epoch(&mut self, lost: u64) {
        let seen = self.newest();
        let from = (self.last() + 1).saturating_sub(lost).max(self.first);
        if from == 1 {
            // No daemon has begun with a stream that is another one from its first message on.
            return;
        }
        (from..=self.last()).for_each(|message| self.lose(message));
        self.messages.truncate(from as usize - 1);
        let before = self.number(from, 0);
        self.epochs = self.epochs.with_epoch_above(from, seen).expect("there is room for one more");
        self.jumps.push((before, self.number(from, 0) - 1));
    }

    /// Whether the stream lacks something between two numbers, both included.
    pub fn lacks_any(&self, from: u64, to: u64) -> bool {
        let is_in = |first: u64, last: u64| first <= to && from <= last;
        let is_lost =
            |message: &Message| message.is_lost && is_in(message.first, message.first + PLACES as u64 - 1);
        from < self.first_number()
            || self.messages.iter().any(is_lost)
            || self.jumps.iter().any(|&(first, last)| is_in(first, last))
    }
}
