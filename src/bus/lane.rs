//! One publisher's lines on their way into the stream: those that wait, and the one chunk that is on its way.
//!
//! One at a time keeps the lines in order, whatever gets lost, and makes chunks larger the busier it is.

use std::collections::{HashMap, VecDeque};
use std::mem;
use std::sync::Arc;

use crate::bus::chunk::OVERHEAD_BYTES_MAX;
use crate::bus::flight::{Flight, cut};
use crate::bus::flows::{EMPTY_BYTES, flow_bytes, write_flows};
use crate::bus::line_ranges::LineRanges;
use crate::bus::numbers::PLACES;
use crate::stream::told::Flow;
use crate::wire::line::ID_BYTES_MAX;

const _: () = assert!(EMPTY_BYTES + 3 * ID_BYTES_MAX < OVERHEAD_BYTES_MAX / 2);

/// A line of an event that was found to be good.
#[derive(Clone, Copy, Debug)]
pub struct NewLine<'a> {
    /// Its number, as its publisher counts.
    pub number: u64,
    /// The object as it was written, without blanks around it and without a newline in it.
    pub text: &'a [u8],
    pub job: Option<&'a str>,
    /// The flow that it names itself, if it has a job.
    pub flow: Option<&'a str>,
}

/// What the lines of a chunk say of a job's flow.
struct Named {
    /// The first that one names.
    flow: Option<Box<str>>,
    /// All say the same.
    is_same: bool,
}

/// A chunk that has not been sent yet: lines can be added to the last of them.
#[derive(Default)]
struct Waiting {
    lines: LineRanges,
    /// The lines with a newline between them.
    bytes: Vec<u8>,
    /// Where each ends in `bytes`.
    ends: Vec<usize>,
    jobs: HashMap<Box<str>, Named, foldhash::fast::RandomState>,
    /// The bytes that their flows may take.
    flow_bytes: usize,
}

impl Waiting {
    fn has_room(&self, line: &NewLine<'_>, chunk_bytes_max: usize) -> bool {
        let bytes = self.bytes.len() + 1 + line.text.len() + self.flow_bytes + flow_bytes_of(line);
        self.ends.is_empty() || (self.ends.len() < PLACES && bytes <= chunk_bytes_max)
    }

    /// Adds a line. False: its number makes one range too many.
    fn push(&mut self, line: &NewLine<'_>) -> bool {
        if !self.lines.push(line.number) {
            return false;
        }
        if !self.ends.is_empty() {
            self.bytes.push(b'\n');
        }
        self.bytes.extend_from_slice(line.text);
        self.ends.push(self.bytes.len());
        let Some(job) = line.job else { return true };
        match self.jobs.get_mut(job) {
            Some(named) => {
                named.is_same &= named.flow.as_deref() == line.flow;
                if named.flow.is_none() {
                    named.flow = line.flow.map(Into::into);
                }
            }
            None => {
                self.flow_bytes += flow_bytes_of(line);
                self.jobs.insert(job.into(), Named { flow: line.flow.map(Into::into), is_same: true });
            }
        }
        true
    }

    /// Takes away the lines that are in the stream already.
    fn remove_through(&mut self, seen: u64) {
        let count = self.lines.count_through(seen) as usize;
        self.lines.remove_through(seen);
        cut(&mut self.bytes, &mut self.ends, 0, count);
    }

    /// The flows that its lines do not all name. What `flow_of` knows of a job was named first.
    fn flows(&mut self, flow_of: &mut dyn FnMut(&str) -> Option<Box<str>>) -> Vec<Flow> {
        let mut flows = Vec::new();
        for (job, Named { flow: named, is_same }) in mem::take(&mut self.jobs) {
            let is_told = |flow: &str| is_same && named.as_deref() == Some(flow);
            let flow = flow_of(&job).or_else(|| named.clone()).filter(|flow| !is_told(flow));
            flows.extend(flow.map(|flow| Flow { job, flow }));
        }
        // The same bytes for the same lines, whatever the map's order.
        flows.sort_unstable_by(|one, other| one.job.cmp(&other.job));
        flows
    }

    /// `seen`: the last line of the publisher that the stream has.
    fn seal(
        mut self,
        token: &str,
        seen: u64,
        serial: u64,
        flow_of: &mut dyn FnMut(&str) -> Option<Box<str>>,
    ) -> Flight {
        let flows = self.flows(flow_of);
        let mut payload = Vec::with_capacity(self.bytes.len() + self.flow_bytes);
        if !flows.is_empty() {
            write_flows(&flows, &mut payload);
            payload.push(b'\n');
        }
        let flow_bytes = payload.len();
        payload.append(&mut self.bytes);
        Flight::new(token, seen + 1, self.lines, serial, Arc::new(payload), flow_bytes, self.ends)
    }
}

/// The flow that its job may have is as long as an id can be.
fn flow_bytes_of(line: &NewLine<'_>) -> usize {
    line.job.map_or(0, |job| flow_bytes(job.len(), ID_BYTES_MAX))
}

pub(super) struct Lane {
    pub token: Box<str>,
    /// Connections that use it.
    pub users: u32,

    /// The last line that became an event here, or is in the stream. `taken >= seen`.
    taken: u64,
    /// All lines up to this one are in the stream, and the reader has passed them.
    pub seen: u64,
    /// The last line of which anything is known.
    noted: u64,
    /// The last line that an ack was made for.
    acked: u64,
    waiting: VecDeque<Waiting>,
    pub flight: Option<Flight>,
    /// When the flight is looked at again.
    pub due: Option<u64>,
    /// It is in line to send something.
    pub is_ready: bool,
    /// It is in line to be asked for an ack.
    pub is_changed: bool,
}

impl Lane {
    /// Of a publisher whose lines up to `accepted` are in the stream.
    pub fn new(token: Box<str>, accepted: u64) -> Self {
        Self {
            token,
            users: 1,

            taken: accepted,
            seen: accepted,
            noted: accepted,
            acked: accepted,
            waiting: VecDeque::new(),
            flight: None,
            due: None,
            is_ready: false,
            is_changed: false,
        }
    }

    /// The next line has this number; those before need no ack, if they were not taken.
    pub fn number_from(&mut self, line: u64) {
        if line > self.taken && self.is_empty() {
            self.acked = self.acked.max(line - 1);
        }
    }

    /// Takes a line. False: it was taken before, through whichever connection.
    pub fn push(&mut self, line: &NewLine<'_>, chunk_bytes_max: usize) -> bool {
        self.note(line.number);
        if line.number <= self.taken {
            return false;
        }
        let has_room = self.waiting.back().is_some_and(|last| last.has_room(line, chunk_bytes_max));
        if !has_room || !self.waiting.back_mut().expect("it has room").push(line) {
            let mut next = Waiting::default();
            next.push(line);
            self.waiting.push_back(next);
        }
        self.taken = line.number;

        true
    }

    /// This line was dealt with, whatever it was.
    pub fn note(&mut self, line: u64) {
        self.noted = self.noted.max(line);
    }

    /// All lines up to `line` are in the stream.
    pub fn see(&mut self, line: u64) {
        self.seen = self.seen.max(line);
        self.taken = self.taken.max(line);

        self.noted = self.noted.max(line);
        self.flight.take_if(|flight| flight.last() <= self.seen);
        while self.waiting.front().is_some_and(|chunk| chunk.lines.last() <= self.seen) {
            self.waiting.pop_front();
        }
    }

    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// Puts the next chunk on its way, if none is. False: none is there, or one is on its way.
    pub fn start(&mut self, serial: u64, flow_of: &mut dyn FnMut(&str) -> Option<Box<str>>) -> bool {
        if self.flight.is_some() {
            return false;
        }
        let Some(mut next) = self.waiting.pop_front() else {
            return false;
        };
        next.remove_through(self.seen);
        self.flight = Some(next.seal(&self.token, self.seen, serial, flow_of));
        true
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.waiting.iter().map(|chunk| chunk.bytes.len()).sum::<usize>()
            + self.flight.as_ref().map_or(0, Flight::bytes)
    }

    /// Bytes that are not on their way yet.
    pub fn waiting_bytes(&self) -> usize {
        self.waiting.iter().map(|chunk| chunk.bytes.len()).sum()
    }

    /// All lines up to this one are in the stream, or were no events.
    pub fn dealt(&self) -> u64 {
        // What is between the last line seen and the first one open may only be said to be in the stream.
        if self.is_empty() { self.noted } else { self.seen }
    }

    /// The same, if that is more than was told before.
    pub fn ack(&mut self) -> Option<u64> {
        let dealt = self.dealt();
        let is_more = dealt > self.acked;
        self.acked = self.acked.max(dealt);
        is_more.then_some(dealt)
    }

    /// Everything taken is in the stream.
    pub fn is_empty(&self) -> bool {
        self.flight.is_none() && self.waiting.is_empty()
    }

    pub fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }
}
