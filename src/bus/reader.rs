//! The reader: the messages of the stream, each once and in order, or a word about what is missing.
//!
//! It asks the server about the stream, has it make a consumer, and pulls. At the slightest doubt it begins again behind
//! the last message that it passed on: a consumer of its own costs nothing. It never gives a number twice. Where the
//! stream is not the one that it was, the reader stops, and says so.

use std::collections::VecDeque;

use crate::bus::care::Care;
use crate::bus::credit::Credit;
use crate::bus::numbers::Epochs;
use crate::bus::place::{Place, Skipped};
use crate::bus::verdict::{Action, Arrival, Info, Restart, Standing, Stop, Verdict};

/// How long the server has for an answer.
pub(super) const ANSWER_MILLIS: u64 = 3_000;
/// Between two questions, if nobody answers.
const PAUSE_MILLIS: u64 = 1_000;
/// The server says that it is there each second while a pull waits; that it does not for so long is no accident.
const SILENCE_MILLIS: u64 = 3_000;
/// Between two looks at the stream.
pub(super) const LOOK_MILLIS: u64 = 5_000;
/// A server that has just become the leader may lag, and gets so long.
const LAG_MILLIS: u64 = 10_000;
/// Every so many questions that nobody answers, the connection is made anew.
const UNANSWERED_MAX: u32 = 4;
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Nothing is asked: there is no connection, or there was no answer.
    Resting {
        until: Option<u64>,
    },
    /// The stream was asked about.
    Asking {
        until: u64,
    },
    /// A consumer is being made.
    Creating {
        until: u64,
    },
    /// A message is asked for alone; None: as soon as there is room for it.
    Alone {
        until: Option<u64>,
    },
    /// The consumer is there; the message that was passed on last is asked for alone, and compared.
    Matching {
        until: u64,
    },
    Following,
}

/// What is known of the consumer in use.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Consumer {
    /// Messages that it had to deliver when it was made; those that it has delivered; of these, without repeated ones.
    pub pending: u64,
    delivered: u64,
    pub useful: u64,
    /// Messages that it has left, as it said last.
    pub remaining: u64,
    /// The newest message of the stream, asked for before.
    pub end: u64,
    /// The first message must be the last one that was passed on, as it was.
    pub must_match: bool,
    /// It does not come through the consumer, which begins behind it.
    pub is_matched_alone: bool,
    /// What was passed on at the last look.
    pub looked_at: Option<u64>,
}

/// The reader of one stream. After each call, and after what a [`Verdict`] says, [`Reader::next_action`] is to be
/// asked until it has nothing more.
pub struct Reader {
    pub(super) state: State,
    standing: Standing,
    /// Counts consumers and tries to make one; what comes of an earlier one is of no use.
    pub(super) attempt: u64,
    /// The last question that was asked.
    question: u64,
    pub(super) place: Place,
    pub(super) consumer: Consumer,
    pub(super) credit: Credit,
    pub(super) care: Care,
    heard_at: u64,
    /// When the stream is looked at again, while following.
    pub(super) look_at: u64,
    /// The look that is under way: since when, and what was passed on by then.
    pub(super) looking: Option<(u64, u64)>,
    /// Another one is to follow.
    pub(super) looks_again: bool,
    /// When the stream was asked about, to make a consumer.
    asked_at: u64,
    /// The ends of the stream that are to be reached: when each was asked for, and the last message.
    pub(super) ends: VecDeque<(u64, u64)>,
    unanswered: u32,
    pub(super) actions: VecDeque<Action>,
}

impl Reader {
    /// Reads from message `from` on, or from the oldest behind it. What comes before message `passed_from` is folded, not
    /// passed on. After a loss it folds `fold_millis` of what is left.
    pub fn new(from: u64, passed_from: u64, fold_millis: u64) -> Self {
        Self {
            state: State::Resting { until: None },
            standing: Standing::Away,
            attempt: 0,
            question: 0,
            place: Place::new(from, passed_from, fold_millis),
            consumer: Consumer::default(),
            credit: Credit::default(),
            care: Care::default(),
            heard_at: 0,
            look_at: 0,
            looking: None,
            looks_again: false,
            asked_at: 0,
            ends: VecDeque::new(),
            unanswered: 0,
            actions: VecDeque::new(),
        }
    }

    pub fn next_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    pub fn standing(&self) -> Standing {
        self.standing
    }

    /// The last message that was passed on, or passed over.
    pub fn last(&self) -> u64 {
        self.place.message
    }

    /// The greatest number that may have been used; a new epoch has to begin above it.
    pub fn newest(&self) -> u64 {
        self.place.number
    }

    /// The greatest number that another daemon may have given by now: a watcher may come from there with it, and has to
    /// be told of none below.
    pub fn newest_possible(&self) -> u64 {
        self.place.newest_possible()
    }

    /// The greatest number that any daemon can have given when the stream said this. None: it is not the one that is read.
    pub fn newest_given(&self, info: &Info) -> Option<u64> {
        self.place.newest_given(info)
    }

    /// The stream's numbers; None before the server has answered once. They hold for each message that is taken.
    pub fn epochs(&self) -> Option<&Epochs> {
        self.place.epochs()
    }

    /// When [`Reader::handle_due`] is to be called; None: not before something comes.
    pub fn due(&self) -> Option<u64> {
        match self.state {
            State::Resting { until } | State::Alone { until } => until,
            State::Asking { until } | State::Creating { until } | State::Matching { until } => Some(until),
            State::Following => {
                let silent = self.credit.is_awaited().then_some(self.heard_at + SILENCE_MILLIS);
                let pull = self.credit.due();
                [Some(self.look_at), silent, pull].into_iter().flatten().min()
            }
        }
    }

    pub fn handle_due(&mut self, now: u64) {
        match self.state {
            State::Resting { until } if until.is_some_and(|until| until <= now) => {
                self.begin(now, Restart::Gone)
            }
            State::Asking { until } | State::Creating { until } if until <= now => self.rest_unanswered(now),
            State::Alone { until: Some(until) } | State::Matching { until } if until <= now => {
                self.handle_not_alone(now, self.attempt)
            }
            State::Following if self.credit.is_awaited() && self.heard_at + SILENCE_MILLIS <= now => {
                self.begin(now, Restart::Silent)
            }
            State::Following => {
                self.pull(now);
                if self.look_at <= now {
                    self.look(now);
                }
            }
            _ => {}
        }
    }

    pub(super) fn ask(&mut self) {
        self.question += 1;
        self.actions.push_back(Action::Ask { question: self.question });
    }

    pub fn handle_connected(&mut self, now: u64) {
        self.begin(now, Restart::Reconnected);
    }

    pub fn handle_disconnected(&mut self) {
        if self.state == State::Following {
            self.care.note_end(self.place.message, self.consumer.must_match);
        }
        self.rest(None);
        // The next server may be one that lags, and has its time.
        self.place.short_since = None;
        self.stand(Standing::Away);
    }

    /// The answer to [`Action::Ask`].
    pub fn handle_info(&mut self, now: u64, question: u64, info: Info) {
        if question != self.question {
            return;
        }
        match self.state {
            State::Asking { .. } => self.prepare(now, info),
            State::Following => {
                if let Some((asked_at, passed)) = self.looking.take() {
                    self.compare(now, &info, asked_at, passed);
                }
            }
            _ => {}
        }
    }

    /// Nobody answered [`Action::Ask`], or the answer was an error.
    pub fn handle_no_info(&mut self, now: u64, question: u64) {
        match self.state {
            _ if question != self.question => {}
            State::Asking { .. } => self.rest_unanswered(now),
            // A server that has lost the others may go on saying that a consumer is there.
            State::Following if self.looking.is_some() => self.begin(now, Restart::Silent),
            _ => {}
        }
    }

    /// Nobody answered [`Action::Create`], or the answer was an error.
    pub fn handle_not_created(&mut self, now: u64, attempt: u64) {
        if attempt == self.attempt && matches!(self.state, State::Creating { .. }) {
            self.rest_unanswered(now);
        }
    }

    /// The consumer was made; `pending` messages wait for it.
    pub fn handle_created(&mut self, now: u64, attempt: u64, pending: u64) {
        if attempt != self.attempt || !matches!(self.state, State::Creating { .. }) {
            return;
        }
        self.unanswered = 0;
        let Consumer { must_match, is_matched_alone, .. } = self.consumer;
        // What is compared alone counts as if it came.
        self.consumer.pending = pending + u64::from(is_matched_alone);
        self.consumer.remaining = pending;
        let behind = pending.saturating_sub(u64::from(must_match && !is_matched_alone));
        if let Some(end) = self.ends.front_mut() {
            end.1 = end.1.max(self.place.message + behind);
        }
        match is_matched_alone {
            true => self.match_alone(now),
            false => self.follow(now),
        }
    }

    pub(super) fn follow(&mut self, now: u64) {
        self.state = State::Following;
        self.look_at = now + LOOK_MILLIS;
        self.pull(now);
        self.check_end();
    }

    /// Whether the consumer of this attempt is in use.
    pub fn has_consumer(&self, attempt: u64) -> bool {
        attempt == self.attempt && matches!(self.state, State::Matching { .. } | State::Following)
    }

    /// A sign of life from the consumer.
    pub fn handle_alive(&mut self, now: u64, attempt: u64) {
        if attempt == self.attempt {
            self.heard_at = now;
        }
    }

    /// A pull has ended with `left` bytes of it unused. `is_too_large`: since the next message needs more.
    pub fn handle_pull_ended(&mut self, now: u64, attempt: u64, left: u64, is_too_large: bool) {
        if attempt != self.attempt || self.state != State::Following {
            return;
        }
        self.heard_at = now;
        self.credit.handle_end(now, left, is_too_large);
        self.pull(now);
    }

    /// The server says that the consumer is not there any more.
    pub fn handle_gone(&mut self, now: u64, attempt: u64) {
        if attempt == self.attempt && self.state == State::Following {
            self.begin(now, Restart::Gone);
        }
    }

    /// Those who take the messages are done with so many bytes.
    pub fn handle_released(&mut self, now: u64, bytes: u64) {
        self.credit.release(bytes);
        match self.state {
            State::Alone { until: None } => self.read_alone(now),
            _ => self.pull(now),
        }
    }

    /// A message has come.
    pub fn handle_message(&mut self, now: u64, arrival: Arrival) -> Verdict {
        if arrival.attempt != self.attempt || self.state != State::Following {
            return Verdict::Drop;
        }
        self.heard_at = now;
        self.credit.handle_message(arrival.bytes);
        self.consumer.delivered += 1;
        self.consumer.remaining = arrival.pending;
        if arrival.delivery != self.consumer.delivered {
            self.begin(now, Restart::Skipped);
            return Verdict::Drop;
        }
        let verdict = self.take_next(now, &arrival);
        self.pull(now);
        self.check_end();
        verdict
    }

    /// What becomes of the message that comes next. The reader may begin again, or stop.
    pub(super) fn take_next(&mut self, now: u64, arrival: &Arrival) -> Verdict {
        let is_first = std::mem::take(&mut self.consumer.must_match);
        let expected = self.place.message + u64::from(!is_first);
        match self.place.matches(arrival) {
            Some(true) if is_first => {
                self.consumer.useful += 1;
                self.place.has_lost_tail = false;
                self.stand(Standing::CatchingUp);
            }
            Some(false) if is_first => return self.stop(now, Stop::LostTail),
            _ if self.place.has_lost_tail => return self.stop(now, Stop::LostTail),
            _ if arrival.message <= self.place.message => {}
            _ if arrival.message != expected && self.place.doubt(expected, arrival.message) => {
                self.begin(now, Restart::Skipped);
            }
            _ => match self.place.take(arrival) {
                Ok(taken) => {
                    self.consumer.useful += 1;
                    self.credit.hold(arrival.bytes);
                    return taken;
                }
                Err(why) => return self.stop(now, why),
            },
        }
        Verdict::Drop
    }
}

/// The parts of a consumer's life.
impl Reader {
    /// Gives up the consumer, if there is one, and asks about the stream for another one.
    pub(super) fn begin(&mut self, now: u64, why: Restart) {
        if matches!(self.state, State::Creating { .. } | State::Matching { .. } | State::Following) {
            self.actions.push_back(Action::Remove { attempt: self.attempt, why });
        }
        self.rest(None);
        if self.standing == Standing::Following {
            self.stand(Standing::CatchingUp);
        }
        self.state = State::Asking { until: now + ANSWER_MILLIS };
        self.asked_at = now;
        self.ask();
    }

    fn rest(&mut self, until: Option<u64>) {
        self.attempt += 1;
        self.credit.reset();
        (self.looking, self.looks_again) = (None, false);
        self.state = State::Resting { until };
    }

    pub(super) fn rest_unanswered(&mut self, now: u64) {
        self.rest(Some(now + PAUSE_MILLIS));
        self.stand(Standing::Away);
        if self.unanswered.is_multiple_of(UNANSWERED_MAX) {
            self.actions.push_back(Action::Reconnect);
        }
        self.unanswered += 1;
    }

    /// Nothing more is passed on.
    pub(super) fn stop(&mut self, now: u64, why: Stop) -> Verdict {
        if self.has_consumer(self.attempt) {
            self.actions.push_back(Action::Remove { attempt: self.attempt, why: Restart::Changed });
        }
        self.place.has_lost_tail |= why == Stop::LostTail;
        self.rest(Some(now + LOOK_MILLIS));
        self.stand(Standing::Stopped(why));
        Verdict::Drop
    }

    /// A reader that has stopped says nothing else before it goes on.
    fn stand(&mut self, standing: Standing) {
        let is_kept = matches!(self.standing, Standing::Stopped(_)) && standing == Standing::Away;
        if self.standing != standing && !is_kept {
            self.standing = standing;
            self.actions.push_back(Action::Stand(standing));
        }
    }

    /// Has a consumer made, if the stream is the one that was read so far.
    fn prepare(&mut self, now: u64, info: Info) {
        if let Err(why) = self.check(now, &info) {
            self.stop(now, why);
        } else if self.place.short_since.is_some() {
            self.rest(Some(now + PAUSE_MILLIS));
        } else {
            if !self.place.has_lost_tail {
                self.stand(Standing::CatchingUp);
            }
            let must_match = self.place.can_match(&info);
            self.consumer = Consumer { end: info.last, must_match, ..Consumer::default() };
            self.ends = VecDeque::from([(self.asked_at, info.last)]);
            if self.care.is_needed(self.place.message, info.last, must_match) {
                self.read_alone(now);
            } else {
                self.create(now);
            }
        }
    }

    pub(super) fn create(&mut self, now: u64) {
        self.consumer.useful = 0;
        self.state = State::Creating { until: now + ANSWER_MILLIS };
        let from = self.next_from() + u64::from(self.consumer.is_matched_alone);
        self.actions.push_back(Action::Create { attempt: self.attempt, from });
    }

    /// The message that is to come next.
    pub(super) fn next_from(&self) -> u64 {
        self.place.message + u64::from(!self.consumer.must_match)
    }

    /// Whether the stream goes on where this reader is.
    fn check(&mut self, now: u64, info: &Info) -> Result<(), Stop> {
        let skipped = self.place.identify(info)?;
        self.skip(skipped);
        if info.last < self.place.message {
            let since = *self.place.short_since.get_or_insert(now);
            return if now - since >= LAG_MILLIS { Err(Stop::LostTail) } else { Ok(()) };
        }
        self.place.short_since = None;
        if self.place.has_lost_tail && !self.place.can_match(info) {
            return Err(Stop::LostTail);
        }
        if info.first > self.place.message + 1 {
            let skipped = self.place.skip_to(info.first - 1)?;
            self.skip(skipped);
        }
        Ok(())
    }

    pub(super) fn skip(&mut self, skipped: Skipped) {
        self.actions.extend(skipped.map(|(hole, last)| Action::Skip { hole, last }));
    }

    pub(super) fn check_end(&mut self) {
        if self.consumer.must_match || self.state != State::Following {
            return;
        }
        while let Some(&(asked_at, last)) = self.ends.front()
            && last <= self.place.message
        {
            self.ends.pop_front();
            self.place.settle();
            self.stand(Standing::Following);
            self.actions.push_back(Action::Complete { asked_at, last: self.place.message });
        }
    }

    fn pull(&mut self, now: u64) {
        if self.state != State::Following {
            return;
        }
        let was_awaited = self.credit.is_awaited();
        if let Some(bytes) = self.credit.pull(now) {
            if !was_awaited {
                self.heard_at = now;
            }
            self.actions.push_back(Action::Pull { attempt: self.attempt, bytes });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Reader;
    use crate::bus::numbers::Epochs;
    use crate::bus::verdict::{Action, Arrival, Hole, HoleReason, Info, Restart, Standing, Stop, Verdict};

    const BASE: u64 = 1_700_000_000_000_000;

    fn info(first: u64, last: u64) -> Info {
        Info { created_nanos: 1, epochs: Epochs::new(BASE).unwrap(), first, last }
    }

    fn actions(reader: &mut Reader) -> Vec<Action> {
        std::iter::from_fn(|| reader.next_action()).collect()
    }

    /// Connects a reader to a stream with these messages, and has a consumer made. Returns where that begins.
    fn connect(reader: &mut Reader, now: u64, first: u64, last: u64) -> u64 {
        reader.handle_connected(now);
        reader.handle_info(now, reader.question, info(first, last));
        let created = actions(reader).into_iter().find_map(|action| match action {
            Action::Create { from, .. } => Some(from),
            _ => None,
        });
        let from = created.expect("a consumer is made");
        reader.handle_created(now, reader.attempt, last + 1 - from);
        from
    }

    fn arrival(reader: &Reader, delivery: u64, message: u64) -> Arrival {
        let time_nanos = message * 1_000;
        Arrival { attempt: reader.attempt, delivery, message, time_nanos, pending: 0, bytes: 10 }
    }

    fn take(reader: &mut Reader, delivery: u64, message: u64) -> Verdict {
        let arrival = arrival(reader, delivery, message);
        reader.handle_message(7, arrival)
    }

    #[test]
    fn messages_are_passed_on_once_and_in_order() {
        let mut reader = Reader::new(1, 1, 1_000);
        assert_eq!(connect(&mut reader, 5, 1, 3), 1);
        for message in 1..=3 {
            assert_eq!(take(&mut reader, message, message), Verdict::Take(None));
        }
        let said = actions(&mut reader);
        assert!(said.contains(&Action::Stand(Standing::Following)));
        assert!(said.contains(&Action::Complete { asked_at: 5, last: 3 }));
        assert_eq!(take(&mut reader, 4, 3), Verdict::Drop, "it was passed on");
        let old = Arrival { attempt: reader.attempt - 1, ..arrival(&reader, 5, 4) };
        assert_eq!(reader.handle_message(8, old), Verdict::Drop, "it is an earlier consumer's");
        assert_eq!(take(&mut reader, 5, 4), Verdict::Take(None));
    }

    #[test]
    fn a_new_consumer_begins_with_the_last_message_and_finds_it_as_it_was() {
        let mut reader = Reader::new(1, 1, 1_000);
        connect(&mut reader, 5, 1, 2);
        (1..=2).for_each(|message| assert_eq!(take(&mut reader, message, message), Verdict::Take(None)));
        assert_eq!(connect(&mut reader, 9, 1, 3), 2);
        assert_eq!(take(&mut reader, 1, 2), Verdict::Drop);
        assert_eq!(take(&mut reader, 2, 3), Verdict::Take(None));
        assert_eq!(connect(&mut reader, 10, 1, 4), 3);
        let other = Arrival { time_nanos: 5, ..arrival(&reader, 1, 3) };
        assert_eq!(reader.handle_message(11, other), Verdict::Drop);
        assert_eq!(reader.standing(), Standing::Stopped(Stop::LostTail));
        // Other servers have it as it was.
        assert_eq!(connect(&mut reader, 20, 1, 4), 3);
        assert_eq!((take(&mut reader, 1, 3), take(&mut reader, 2, 4)), (Verdict::Drop, Verdict::Take(None)));
    }

    #[test]
    fn a_message_that_two_consumers_do_not_have_is_a_hole() {
        let mut reader = Reader::new(1, 1, 1_000);
        connect(&mut reader, 5, 1, 3);
        take(&mut reader, 1, 1);
        let attempt = reader.attempt;
        actions(&mut reader);
        assert_eq!(take(&mut reader, 2, 3), Verdict::Drop);
        assert_eq!(actions(&mut reader)[0], Action::Remove { attempt, why: Restart::Skipped });
        assert_eq!(connect(&mut reader, 8, 1, 3), 1);
        assert_eq!(take(&mut reader, 1, 1), Verdict::Drop);
        let hole = Hole { from: BASE + 2 * 1_024, to: BASE + 3 * 1_024 - 1, why: HoleReason::Expired };
        assert_eq!(take(&mut reader, 2, 3), Verdict::Take(Some(hole)));
        // What the consumer has sent and has not come is no hole.
        assert_eq!(take(&mut reader, 4, 5), Verdict::Drop);
        connect(&mut reader, 9, 1, 5);
        let came = [3, 4, 5].map(|message| take(&mut reader, message - 2, message));
        assert_eq!(came, [Verdict::Drop, Verdict::Take(None), Verdict::Take(None)]);
    }

    #[test]
    fn what_the_stream_has_dropped_is_a_hole() {
        let mut reader = Reader::new(1, 1, 1_000);
        connect(&mut reader, 5, 1, 1);
        take(&mut reader, 1, 1);
        reader.handle_connected(8);
        reader.handle_info(8, reader.question, info(7, 9));
        let hole = Hole { from: BASE + 2 * 1_024, to: BASE + 7 * 1_024 - 1, why: HoleReason::Expired };
        assert!(actions(&mut reader).contains(&Action::Skip { hole, last: 6 }));
    }

    #[test]
    fn a_stream_that_is_shorter_than_what_was_read_has_ten_seconds() {
        let mut reader = Reader::new(1, 1, 1_000);
        connect(&mut reader, 5, 1, 2);
        (1..=2).for_each(|message| assert_eq!(take(&mut reader, message, message), Verdict::Take(None)));
        let ask = |reader: &mut Reader, now: u64| {
            reader.handle_due(now);
            reader.handle_info(now, reader.question, info(1, 1));
            reader.standing()
        };
        reader.handle_connected(1_000);
        for now in [1_000, 3_000, 10_999] {
            assert_eq!(ask(&mut reader, now), Standing::CatchingUp);
        }
        reader.handle_disconnected();
        reader.handle_connected(60_000);
        assert_eq!(ask(&mut reader, 60_000), Standing::Away, "this may be another server");
        assert_eq!(ask(&mut reader, 69_000), Standing::Away);
        let stopped = Standing::Stopped(Stop::LostTail);
        assert_eq!((ask(&mut reader, 70_000), reader.last()), (stopped, 2));
        // An operator begins a new epoch.
        let epochs = Epochs::new(BASE).unwrap().with_epoch_above(2, reader.newest()).unwrap();
        let (first, from) = (epochs.number(2, 0).unwrap(), reader.newest() + 1);
        reader.handle_due(75_000);
        actions(&mut reader);
        reader.handle_info(75_000, reader.question, Info { epochs, ..info(1, 1) });
        let hole = Hole { from, to: first - 1, why: HoleReason::Restart };
        assert_eq!(actions(&mut reader)[0], Action::Skip { hole, last: 1 });
        assert_eq!(reader.standing(), Standing::CatchingUp);
    }

    #[test]
    fn a_server_that_makes_no_consumer_is_left_now_and_then() {
        let mut reader = Reader::new(1, 1, 1_000);
        let mut left = Vec::new();
        reader.handle_connected(0);
        for now in (0..20_000).step_by(100) {
            reader.handle_due(now);
            reader.handle_info(now, reader.question, info(1, 2));
            reader.handle_not_created(now, reader.attempt);
            if actions(&mut reader).contains(&Action::Reconnect) {
                left.push(now);
                reader.handle_disconnected();
                reader.handle_connected(now + 50);
            }
        }
        assert_eq!(left, [0, 3_100, 6_200, 9_300, 12_400, 15_500, 18_600]);
    }

    #[test]
    fn a_consumer_that_is_silent_or_delivers_nothing_is_given_up() {
        let why_given_up = |reader: &mut Reader| {
            actions(reader).into_iter().find_map(|action| match action {
                Action::Remove { why, .. } => Some(why),
                _ => None,
            })
        };
        let mut reader = Reader::new(1, 1, 1_000);
        connect(&mut reader, 0, 1, 2);
        reader.handle_alive(2_000, reader.attempt);
        reader.handle_due(4_999);
        assert_eq!(why_given_up(&mut reader), None);
        reader.handle_due(5_000);
        assert_eq!(why_given_up(&mut reader), Some(Restart::Silent));
        connect(&mut reader, 10_000, 1, 2);
        for now in [15_000, 20_000] {
            reader.handle_alive(now, reader.attempt);
            assert_eq!(why_given_up(&mut reader), None);
            reader.handle_due(now);
            reader.handle_info(now, reader.question, info(1, 2));
        }
        assert_eq!(why_given_up(&mut reader), Some(Restart::Stalled));
        connect(&mut reader, 30_000, 1, 2);
        reader.handle_alive(35_000, reader.attempt);
        reader.handle_due(35_000);
        assert_eq!(why_given_up(&mut reader), None);
        reader.handle_no_info(37_000, reader.question);
        assert_eq!(why_given_up(&mut reader), Some(Restart::Silent), "it says that it is there, and no more");
    }
}
