//! What has come: every message of a watcher's stream is counted, checked against the one before, and may be timed.

use std::time::Instant;

use hdrhistogram::Histogram;

use crate::layout::{Frames, Layout};
use crate::wire::{Shape, stream_seq};
use crate::witness::Witness;

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
    /// Messages that said something else than what was published; only witnesses look.
    pub garbled: u64,
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
    /// Reads every byte, if it is one of those that do.
    pub witness: Option<&'a mut Witness>,
    /// The number that luxcast gave to the newest message read.
    pub stream_seq: &'a mut u64,
}

impl Stream<'_> {
    /// Checks the whole messages of `bytes`; returns their length.
    ///
    /// # Errors
    /// What no server may send.
    pub fn take(mut self, layout: &impl Layout, bytes: &[u8]) -> Result<usize, String> {
        let now = self.now();
        let mut next = *self.next;
        let mut messages = 0;
        let (mut at, mut last) = (0, None);
        loop {
            let left = &bytes[at..];
            if let Some((payload, length)) = layout.event(left)
                && self.shape.is_event(payload)
            {
                let number = self.shape.number(payload);
                next = self.arrive(number, next, now);
                if let Some(witness) = &mut self.witness {
                    self.tally.garbled += u64::from(!witness.knows(payload, number));
                }
                messages += 1;
                last = Some(payload);
                at += length;
                continue;
            }
            let Some((text, length)) = layout.other(left)? else { break };
            self.pass(text);
            at += length;
        }
        *self.next = next;
        if let Some(payload) = last {
            *self.stream_seq = stream_seq(payload);
        }
        self.tally.messages += messages;
        Ok(at)
    }

    /// The same where events come compressed, each in a frame of its own. A watcher that is no witness takes each for
    /// the expected event; [`Crowd::compare_counts`] checks the count later.
    ///
    /// [`Crowd::compare_counts`]: crate::crowd::Crowd::compare_counts
    pub fn take_compressed(mut self, frames: &Frames, bytes: &[u8]) -> Result<usize, String> {
        let now = self.now();
        let mut at = 0;
        loop {
            let left = &bytes[at..];
            let expected = *self.next;
            if let Some((payload, length)) = frames.compressed(left) {
                let number = match &mut self.witness {
                    None => expected,
                    Some(witness) => {
                        let seen = witness.read(payload, self.shape)?;
                        self.tally.garbled += u64::from(!seen.as_ref().is_some_and(|seen| seen.is_right));
                        if let Some(seen) = &seen {
                            *self.stream_seq = seen.stream_seq;
                        }
                        seen.map_or(expected, |seen| seen.number)
                    }
                };
                // Before the first number is known, there is nothing to count from.
                if number > 0 {
                    *self.next = self.arrive(number, expected, now);
                }
                self.tally.messages += 1;
                at += length;
            } else if let Some((payload, length)) = frames.event(left)
                && self.shape.is_event(payload)
            {
                // A server may send as it is what would not become shorter.
                *self.next = self.arrive(self.shape.number(payload), expected, now);
                *self.stream_seq = stream_seq(payload);
                self.tally.messages += 1;
                at += length;
            } else {
                let Some((text, length)) = frames.other(left)? else { break };
                self.pass(text);
                at += length;
            }
        }
        Ok(at)
    }

    fn now(&self) -> u64 {
        self.times.as_ref().map_or(0, |times| times.start.elapsed().as_nanos() as u64)
    }

    /// Checks the number of an event against the one expected; returns which comes next.
    fn arrive(&mut self, number: u64, next: u64, now: u64) -> u64 {
        if number != next && next != 0 {
            self.tally.lost += number.saturating_sub(next);
            self.tally.repeated += u64::from(number < next);
        }
        if let Some(times) = &mut self.times {
            times.arrive(number, now);
        }
        next.max(number + 1)
    }

    /// A message that is no event of the load.
    fn pass(&mut self, text: &[u8]) {
        self.tally.gaps += u64::from(text.starts_with(br#"{"type":"stream:gap""#));
        self.tally.others += 1;
    }
}

impl Tally {
    /// Says what went wrong.
    pub fn complaint(&self) -> Option<String> {
        let Self { lost, repeated, garbled, gaps, closed, .. } = self;
        (lost + repeated + garbled + gaps + closed > 0).then(|| {
            format!(
                "{lost} messages lost, {repeated} doubled or out of order, {garbled} with another text, {gaps} gaps \
                 reported, {closed} connections lost"
            )
        })
    }

    /// Notes that a watcher expects another number than the one that comes next.
    pub fn note_count(&mut self, expected: u64, next: u64) {
        self.lost += next.saturating_sub(expected);
        self.repeated += expected.saturating_sub(next);
    }
}

#[cfg(test)]
mod tests {
    use super::{Stream, Tally};
    use crate::layout::Frames;
    use crate::wire::{Shape, TEXT_FRAME_BYTES};

    fn of_bytes(bytes: &[u8], next: &mut u64) -> (usize, Tally) {
        let shape = Shape::of_text(TEXT_FRAME_BYTES as usize).expect("most events are that long");
        let (mut tally, mut stream_seq) = (Tally::default(), 0);
        let stream = Stream {
            shape: &shape,
            tally: &mut tally,
            times: None,
            next,
            witness: None,
            stream_seq: &mut stream_seq,
        };
        let used = stream.take_compressed(&Frames { shape }, bytes).expect("all are frames");
        (used, tally)
    }

    #[test]
    fn compressed_frames_are_counted_and_the_servers_own_are_not() {
        let ping = b"\x81\x0f{\"type\":\"ping\"}";
        let stream = [&b"\xc1\x03abc"[..], ping, b"\x89\x00", b"\xc1\x01x", b"\xc1\x05ab"].concat();
        let mut next = 41;
        let (used, tally) = of_bytes(&stream, &mut next);
        assert_eq!((used, tally.messages, tally.others, next), (stream.len() - 4, 2, 2, 43));
        assert!(tally.complaint().is_none());
        let mut unknown = 0;
        assert_eq!((of_bytes(&stream, &mut unknown).1.messages, unknown), (2, 0));
    }

    #[test]
    fn an_event_that_came_as_it_is_counts_with_its_number() {
        let shape = Shape::of_text(TEXT_FRAME_BYTES as usize).expect("most events are that long");
        let mut template = shape.template(3);
        template.set(44);
        let mut stream = b"\xc1\x03abc".to_vec();
        template.write_frame(&shape, &mut stream);
        let mut next = 41;
        let (used, tally) = of_bytes(&stream, &mut next);
        assert_eq!((used, tally.messages, next), (stream.len(), 2, 45));
        assert_eq!(tally.lost, 2, "42 and 43");
    }

    #[test]
    fn a_count_that_is_short_or_long_is_a_loss_or_a_repetition() {
        let mut tally = Tally::default();
        tally.note_count(7, 7);
        assert!(tally.complaint().is_none());
        tally.note_count(7, 9);
        tally.note_count(7, 4);
        assert_eq!((tally.lost, tally.repeated), (2, 3));
    }
}
