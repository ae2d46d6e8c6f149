//! Careful reading: messages that no consumer can bring.
//!
//! Anybody may have put a message into the stream that ends the connection of whoever gets it. If the connection ends
//! again and again before the same message, the reader asks for the next ones alone, one by one, in a form that is safe.
//! Behind them it follows the stream with a consumer as before.

use crate::bus::reader::{ANSWER_MILLIS, Reader, State};
use crate::bus::verdict::{Action, Arrival, Restart, Verdict};

impl Reader {
    /// Asks for the next message alone, as soon as there is room for it.
    pub(super) fn read_alone(&mut self, now: u64) {
        let has_room = self.credit.due().is_some();
        self.state = State::Alone { until: has_room.then_some(now + ANSWER_MILLIS) };
        if has_room {
            let from = self.next_from();
            self.actions.push_back(Action::ReadAlone { attempt: self.attempt, from });
        }
    }

    /// Compares the message that was passed on last once the consumer is there: so nothing can change in between.
    pub(super) fn match_alone(&mut self, now: u64) {
        self.state = State::Matching { until: now + ANSWER_MILLIS };
        let from = self.next_from();
        self.actions.push_back(Action::ReadAlone { attempt: self.attempt, from });
    }

    fn is_alone(&self, attempt: u64) -> bool {
        let is_asked = matches!(self.state, State::Alone { until: Some(_) } | State::Matching { .. });
        attempt == self.attempt && is_asked
    }

    /// The answer to [`Action::ReadAlone`]. `is_odd`: no consumer can bring it.
    pub fn handle_read_alone(&mut self, now: u64, arrival: Arrival, is_odd: bool) -> Verdict {
        if !self.is_alone(arrival.attempt) {
            return Verdict::Drop;
        }
        let verdict = self.take_next(now, &arrival);
        // It may have begun again or stopped.
        if self.is_alone(arrival.attempt) {
            let goes_on = self.care.note_read(arrival.message, is_odd);
            match self.state {
                State::Matching { .. } => self.follow(now),
                _ if goes_on || verdict == Verdict::Drop => self.read_alone(now),
                _ => self.begin(now, Restart::Gone),
            }
        }
        verdict
    }

    /// The answer to [`Action::ReadAlone`]: the stream has no message there, or not yet.
    pub fn handle_none_alone(&mut self, now: u64, attempt: u64) {
        if !self.is_alone(attempt) {
            return;
        }
        let (is_odd, must_match) = (self.care.is_odd(self.place.message), self.consumer.must_match);
        self.care.give_up();
        match self.state {
            State::Alone { .. } if must_match => self.create(now),
            State::Alone { .. } if is_odd => {
                (self.consumer.must_match, self.consumer.is_matched_alone) = (true, true);
                self.create(now);
            }
            _ => self.begin(now, Restart::Gone),
        }
    }

    /// Nobody answered [`Action::ReadAlone`], or the answer was an error.
    pub fn handle_not_alone(&mut self, now: u64, attempt: u64) {
        if !self.is_alone(attempt) {
            return;
        }
        self.care.give_up();
        if matches!(self.state, State::Matching { .. }) {
            self.actions.push_back(Action::Remove { attempt, why: Restart::Silent });
        }
        self.rest_unanswered(now);
    }
}

#[cfg(test)]
mod tests {
    use crate::bus::numbers::Epochs;
    use crate::bus::reader::Reader;
    use crate::bus::verdict::{Action, Arrival, Info, Standing, Verdict};

    fn info(last: u64) -> Info {
        Info { created_nanos: 1, epochs: Epochs::new(1_700_000_000_000_000).unwrap(), first: 1, last }
    }

    /// A reader, what it wants done next, and its client, which these messages kill.
    struct Desk {
        reader: Reader,
        odd: Vec<u64>,
        last: u64,
        ends: u32,
        read_alone: Vec<u64>,
        passed: Vec<u64>,
    }

    impl Desk {
        fn new(last: u64, odd: &[u64]) -> Self {
            let reader = Reader::new(1, 1, 1_000);
            Self { reader, odd: odd.to_vec(), last, ends: 0, read_alone: Vec::new(), passed: Vec::new() }
        }

        fn arrival(&self, attempt: u64, delivery: u64, message: u64) -> Arrival {
            let pending = self.last - message;
            Arrival { attempt, delivery, message, time_nanos: message * 1_000, pending, bytes: 10 }
        }

        fn note(&mut self, message: u64, verdict: Verdict) {
            if verdict != Verdict::Drop {
                assert_eq!(verdict, Verdict::Take(None));
                self.passed.push(message);
            }
        }

        /// Connects, and does what the reader wants until it has nothing to do.
        fn run(&mut self) {
            self.reader.handle_connected(1);
            let mut from = 0;
            while let Some(action) = self.reader.next_action() {
                match action {
                    Action::Ask { question } => self.reader.handle_info(1, question, info(self.last)),
                    Action::Create { attempt, from: first } => {
                        from = first;
                        self.reader.handle_created(1, attempt, (self.last + 1).saturating_sub(first));
                    }
                    Action::ReadAlone { attempt, from } if from > self.last => {
                        self.reader.handle_none_alone(1, attempt);
                    }
                    Action::ReadAlone { attempt, from } => {
                        self.read_alone.push(from);
                        let arrival = self.arrival(attempt, 1, from);
                        let verdict = self.reader.handle_read_alone(1, arrival, self.odd.contains(&from));
                        self.note(from, verdict);
                        self.reader.handle_released(1, 10);
                    }
                    Action::Pull { attempt, .. } => self.deliver(attempt, from),
                    _ => {}
                }
            }
        }

        fn deliver(&mut self, attempt: u64, from: u64) {
            for (delivery, message) in (1..).zip(from..=self.last) {
                if self.odd.contains(&message) {
                    self.ends += 1;
                    self.reader.handle_disconnected();
                    return self.reader.handle_connected(1);
                }
                let arrival = self.arrival(attempt, delivery, message);
                let verdict = self.reader.handle_message(1, arrival);
                self.note(message, verdict);
            }
        }

        fn check(&mut self) {
            self.run();
            assert_eq!(self.reader.standing(), Standing::Following);
            assert!(self.passed.iter().copied().eq(1..=self.last), "{:?}", self.passed);
        }
    }

    #[test]
    fn what_ends_the_connection_twice_is_read_alone_wherever_it_stands() {
        for odd in [&[1][..], &[4], &[9], &[4, 5, 6], &[1, 2, 3, 4, 5, 6, 7, 8, 9]] {
            let mut desk = Desk::new(9, odd);
            desk.check();
            // The one before is compared, and one behind is read too.
            let expected: Vec<u64> =
                (odd[0] - 1..=odd[odd.len() - 1] + 1).filter(|n| (1..=9).contains(n)).collect();
            let last = odd.contains(&9).then_some(9);
            let expected: Vec<u64> = expected.into_iter().chain(last).collect();
            assert_eq!((desk.ends, &desk.read_alone), (2, &expected), "{odd:?}");
        }
    }

    #[test]
    fn the_last_message_is_compared_alone_if_no_consumer_can_bring_it() {
        let mut desk = Desk::new(9, &[9]);
        desk.check();
        desk.reader.handle_disconnected();
        desk.read_alone.clear();
        desk.check();
        // Once before the consumer is made, to see what is behind it, and once after that.
        assert_eq!((desk.ends, &*desk.read_alone), (2, &[9, 9][..]), "it is still the same");
        desk.last = 12;
        desk.reader.handle_disconnected();
        desk.read_alone.clear();
        desk.check();
        assert_eq!((desk.ends, &*desk.read_alone), (2, &[9, 10][..]));
    }

    #[test]
    fn a_connection_that_ends_for_other_reasons_costs_nothing() {
        let mut desk = Desk::new(9, &[]);
        for _ in 0..5 {
            desk.check();
            desk.reader.handle_disconnected();
        }
        assert!(desk.read_alone.is_empty() && desk.passed.len() == 9);
    }

    #[test]
    fn where_no_answer_comes_a_consumer_is_tried_again() {
        /// Answers what is asked; returns what is wanted of the first message.
        fn connect(reader: &mut Reader, now: u64) -> Action {
            reader.handle_connected(now);
            while let Some(action) = reader.next_action() {
                match action {
                    Action::Ask { question } => reader.handle_info(now, question, info(3)),
                    Action::Create { .. } | Action::ReadAlone { .. } => return action,
                    _ => {}
                }
            }
            panic!("it wants nothing");
        }
        let mut reader = Reader::new(1, 1, 1_000);
        for now in 1..=2 {
            let Action::Create { attempt, .. } = connect(&mut reader, now) else { panic!("in no need") };
            reader.handle_created(now, attempt, 3);
            reader.handle_disconnected();
        }
        assert!(matches!(connect(&mut reader, 3), Action::ReadAlone { from: 1, .. }));
        reader.handle_due(reader.due().unwrap());
        assert_eq!(reader.standing(), Standing::Away);
        assert!(matches!(connect(&mut reader, 9_000), Action::Create { from: 1, .. }));
    }
}
