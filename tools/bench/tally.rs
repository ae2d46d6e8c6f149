//! What has come: every message of a watcher's stream is counted, checked against the one before, and may be timed.

use std::time::Instant;

use hdrhistogram::Histogram;

use crate::layout::Layout;
use crate::wire::{Shape, stream_seq};

/// Times remembered for latencies.
pub const NUMBERS_MAX: usize = 1 << 17;

/// What has come so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    pub messages: u64,
    pub bytes: u64,
    /// Numbers that were skipped.
    pub lost: u64,
    /// Messages that came twice or out of order.
    pub repeated: u64,
    /// Frames other than the published events: greetings, heartbeats, metrics.
    pub others: u64,
    pub gaps: u64,
    pub closed: u64,
    pub opened: u64,
}

/// When each number was published, and how long it took to reach one group of watchers.
pub struct Times {
    published: Vec<u64>,
    start: Instant,
    pub group: u8,
    pub histogram: Histogram<u64>,
}

impl Times {
    /// Remembers the last `numbers` numbers.
    pub fn new(numbers: usize, group: u8) -> Self {
        Self {
            published: vec![0; numbers.next_power_of_two()],
            start: Instant::now(),
            group,
            histogram: Histogram::new_with_bounds(1_000, 600_000_000_000, 3).expect("the bounds are valid"),
        }
    }

    pub fn publish(&mut self, number: u64, at: Instant) {
        let place = number as usize & (self.published.len() - 1);
        self.published[place] = at.duration_since(self.start).as_nanos() as u64;
    }

    fn arrive(&mut self, number: u64, now: u64) {
        let place = number as usize & (self.published.len() - 1);
        // The histogram clamps values outside its bounds.
        self.histogram.saturating_record(now.saturating_sub(self.published[place]));
    }
}

/// The stream of one watcher.
pub struct Stream<'a> {
    pub shape: &'a Shape,
    pub tally: &'a mut Tally,
    pub times: Option<&'a mut Times>,
    /// The next number expected; 0: any number may be first.
    pub next: &'a mut u64,
    /// The number that luxcast gave to the newest message read.
    pub stream_seq: &'a mut u64,
}

impl Stream<'_> {
    /// Checks the whole messages of `bytes`; returns their length.
    ///
    /// # Errors
    /// What no server may send.
    pub fn take(mut self, layout: &impl Layout, bytes: &[u8]) -> Result<usize, String> {
        let now = self.times.as_ref().map_or(0, |times| times.start.elapsed().as_nanos() as u64);
        let mut next = *self.next;
        let mut messages = 0;
        let (mut at, mut last) = (0, None);
        loop {
            let left = &bytes[at..];
            if let Some((payload, length)) = layout.event(left)
                && self.shape.is_event(payload)
            {
                let number = self.shape.number(payload);
                if number != next && next != 0 {
                    self.tally.lost += number.saturating_sub(next);
                    self.tally.repeated += u64::from(number < next);
                }
                next = next.max(number + 1);
                if let Some(times) = &mut self.times {
                    times.arrive(number, now);
                }
                messages += 1;
                last = Some(payload);
                at += length;
                continue;
            }
            let Some((text, length)) = layout.other(left)? else { break };
            self.tally.gaps += u64::from(text.starts_with(br#"{"type":"stream:gap""#));
            self.tally.others += 1;
            at += length;
        }
        *self.next = next;
        if let Some(payload) = last {
            *self.stream_seq = stream_seq(payload);
        }
        self.tally.messages += messages;
        Ok(at)
    }
}

impl Tally {
    /// Says what went wrong.
    pub fn complaint(&self) -> Option<String> {
        let Self { lost, repeated, gaps, closed, .. } = self;
        (lost + repeated + gaps + closed > 0).then(|| {
            format!(
                "{lost} messages lost, {repeated} doubled or out of order, {gaps} gaps reported, {closed} connections lost"
            )
        })
    }
}
