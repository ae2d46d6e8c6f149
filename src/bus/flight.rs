//! A chunk on its way into the stream: sent, and sent again with the same bytes and the same id until the reader has
//! seen its lines.

use std::sync::Arc;

use crate::bus::line_ranges::LineRanges;

/// The server had this long to answer.
const ANSWER_MILLIS: u64 = 2_000;
/// Between two tries; the pause doubles.
const PAUSE_MILLIS: u64 = 100;
const PAUSE_MILLIS_MAX: u64 = 2_000;
/// The reader has passed the place where the chunk should be, and it was not there: it may still come.
const PATIENCE_MILLIS: u64 = 2_000;
/// The server remembers ids for a while. A chunk is begun within a third of that time after the reader has seen that its id
/// is free, and sent again within another third. The last third is for what is late on its way.
pub(super) const WINDOW_SHARE: u64 = 3;
/// The second time it is no late copy.
const LOCKED_OUT_MISSES: u32 = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It is to be sent.
    Ready,
    /// The server has not answered.
    Sent { until: u64 },
    /// It failed, or nobody answered.
    Paused { until: u64 },
    /// The server says that it is message `message`; it may be wrong about that.
    Stored { message: u64, is_duplicate: bool, at: u64 },
    /// The reader has been there, and has not seen it.
    Missed { until: u64 },
    /// The server may have forgotten the id. What it has must be read first.
    Doubted { since: u64 },
}

pub(super) struct Flight {
    /// Answers name it.
    pub serial: u64,
    pub message_id: Arc<str>,
    /// The header with the lines' numbers.
    pub numbers: Arc<str>,
    pub payload: Arc<Vec<u8>>,
    /// The line of its id: when it was made, the stream had all before.
    first: u64,
    lines: LineRanges,
    /// Bytes of the payload before the first line.
    flow_bytes: usize,
    /// Where each line ends behind these.
    ends: Vec<usize>,
    state: State,
    /// Since then the server may have it.
    first_sent_at: Option<u64>,
    pause: u64,
    /// How often it was sent.
    pub tries: u64,
    /// How often the server named a message that it was not in.
    misses: u32,
    /// That was said.
    is_told: bool,
}

impl Flight {
    pub fn new(
        token: &str,
        first: u64,
        lines: LineRanges,
        serial: u64,
        payload: Arc<Vec<u8>>,
        flow_bytes: usize,
        ends: Vec<usize>,
    ) -> Self {
        Self {
            serial,
            message_id: format!("{token}:{first}").into(),
            numbers: lines.to_string().into(),
            payload,
            first,
            lines,
            flow_bytes,
            ends,
            state: State::Ready,
            first_sent_at: None,
            pause: PAUSE_MILLIS,
            tries: 0,
            misses: 0,
            is_told: false,
        }
    }

    pub fn last(&self) -> u64 {
        self.lines.last()
    }

    pub fn bytes(&self) -> usize {
        self.payload.len()
    }

    pub fn is_ready(&self) -> bool {
        self.state == State::Ready
    }

    /// The server does not know the id, as far as this daemon knows: another one may have used it, long ago.
    pub fn is_new(&self) -> bool {
        self.first_sent_at.is_none()
    }

    /// When it is to be looked at again.
    pub fn due(&self) -> Option<u64> {
        match self.state {
            State::Sent { until } | State::Paused { until } | State::Missed { until } => Some(until),
            State::Ready | State::Stored { .. } | State::Doubted { .. } => None,
        }
    }

    pub fn handle_sent(&mut self, now: u64) {
        self.tries += 1;
        self.first_sent_at.get_or_insert(now);
        self.state = State::Sent { until: now + ANSWER_MILLIS };
    }

    pub fn handle_failed(&mut self, now: u64) {
        if matches!(self.state, State::Sent { .. }) {
            self.state = State::Paused { until: now + self.pause };
            self.pause = (2 * self.pause).min(PAUSE_MILLIS_MAX);
        }
    }

    /// The server has it, or one with its id, as message `message`.
    pub fn handle_stored(&mut self, now: u64, message: u64, is_duplicate: bool) {
        if !matches!(self.state, State::Missed { .. }) {
            self.state = State::Stored { message, is_duplicate, at: now };
        }
    }

    /// The reader has passed message `passed`.
    pub fn handle_passed(&mut self, now: u64, passed: u64) {
        if let State::Stored { message, is_duplicate, .. } = self.state
            && message <= passed
        {
            self.miss(now, is_duplicate);
        }
    }

    fn miss(&mut self, now: u64, is_duplicate: bool) {
        self.misses += u32::from(is_duplicate);
        self.state = State::Missed { until: now + PATIENCE_MILLIS };
    }

    /// The server knows its id, and the stream does not have it: it has to wait until the server has forgotten the id. A
    /// late copy would have come by now. True once.
    pub fn take_locked_out(&mut self) -> bool {
        let is_locked_out = self.misses == LOCKED_OUT_MISSES && !self.is_told;
        self.is_told |= is_locked_out;
        is_locked_out
    }

    /// The reader has seen all that the stream had at `asked_at`.
    pub fn handle_complete(&mut self, now: u64, asked_at: u64) {
        match self.state {
            // The server has lost it since: its messages do not reach as far any more.
            State::Stored { at, is_duplicate, .. } if at < asked_at => self.miss(now, is_duplicate),
            State::Doubted { .. } if self.is_doubted_at(asked_at) => {
                self.first_sent_at = None;
                self.state = State::Ready;
            }
            _ => {}
        }
    }

    /// Its time has come. `window`: the server remembers ids for so long.
    pub fn handle_due(&mut self, now: u64, window: u64) {
        match self.state {
            State::Sent { until } if until <= now => self.handle_failed(now),
            State::Paused { until } | State::Missed { until } if until <= now => {
                let is_old =
                    self.first_sent_at.is_some_and(|at| now.saturating_sub(at) > window / WINDOW_SHARE);
                self.state = if is_old { State::Doubted { since: now } } else { State::Ready };
            }
            _ => {}
        }
    }

    /// The server says that a message up to `passed` has its id, perhaps another one.
    pub fn is_duplicate_at(&self, passed: u64) -> bool {
        matches!(self.state, State::Stored { message, is_duplicate: true, .. } if message <= passed)
    }

    /// It waits for the reader to have seen all that the stream had, and at `asked_at` that was so.
    pub fn is_doubted_at(&self, asked_at: u64) -> bool {
        matches!(self.state, State::Doubted { since } if since < asked_at)
    }

    /// The line of its id is in the stream, and came with another chunk: the stream has the lines up to `seen`.
    pub fn is_overtaken(&self, seen: u64) -> bool {
        self.first <= seen
    }

    /// The lines behind `seen`, as another chunk.
    pub fn cut(mut self, token: &str, seen: u64, serial: u64) -> Self {
        let count = self.lines.count_through(seen) as usize;
        let mut payload = Arc::unwrap_or_clone(self.payload);
        cut(&mut payload, &mut self.ends, self.flow_bytes, count);
        self.lines.remove_through(seen);
        Self::new(token, seen + 1, self.lines, serial, Arc::new(payload), self.flow_bytes, self.ends)
    }
}

/// Removes the first `count` lines of `bytes[skipped..]`. `ends` are counted from `skipped` on.
pub(super) fn cut(bytes: &mut Vec<u8>, ends: &mut Vec<usize>, skipped: usize, count: usize) {
    let Some(index) = count.checked_sub(1) else { return };
    let removed = (ends[index] + 1).min(bytes.len() - skipped);
    bytes.drain(skipped..skipped + removed);
    ends.drain(..count);
    ends.iter_mut().for_each(|end| *end -= removed);
}
