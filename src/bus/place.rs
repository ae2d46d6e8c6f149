//! The reader's place in the stream: which stream it is, what was passed on of it, and whether it is still the same.

use std::collections::VecDeque;

use crate::bus::numbers::{Epochs, LAG_MAX, PLACES};
use crate::bus::verdict::{Arrival, Hole, HoleReason, Info, Stop, Verdict};
use crate::stream::numbers::SEQ_END;

/// Marks of the past that may have to be folded again.
const MARKS: u64 = 16;

/// A hole, and the last message in it.
pub(super) type Skipped = Option<(Hole, u64)>;

#[derive(Debug, Default)]
pub(super) struct Place {
    /// The stream, as it was when it was asked about last.
    known: Option<Info>,
    /// The last message that was passed on, folded, or passed over.
    pub message: u64,
    /// When the stream took it. None: it was not seen, so another one cannot be told from it.
    time_nanos: Option<u64>,
    /// The greatest number that may have been used; 0: nobody was told any, since the end was not reached yet.
    pub number: u64,
    /// The messages from the first of these on, up to before the second, were missing once.
    doubted: Option<(u64, u64)>,
    /// Messages before this one are only folded.
    fold_before: u64,
    /// How much of the past, in nanoseconds of the stream's time, decides what is known of publishers.
    fold_nanos: u64,
    /// Times and messages, some apart, of the last `fold_nanos`.
    marks: VecDeque<(u64, u64)>,
    /// Since when the stream has been shorter than what was passed on.
    pub short_since: Option<u64>,
    /// It was shorter for too long. Only the message that was passed on last can prove that it is whole again.
    pub has_lost_tail: bool,
}

impl Place {
    pub fn new(from: u64, passed_from: u64, fold_millis: u64) -> Self {
        Self {
            message: from.max(1) - 1,
            fold_before: passed_from,
            fold_nanos: fold_millis.saturating_mul(1_000_000),
            ..Self::default()
        }
    }

    pub fn epochs(&self) -> Option<&Epochs> {
        self.known.as_ref().map(|info| &info.epochs)
    }

    /// Whether it is the stream that was asked about last.
    pub fn is_in(&self, info: &Info) -> bool {
        let is_same = |known: &Info| known.created_nanos == info.created_nanos && known.epochs == info.epochs;
        self.known.as_ref().is_some_and(is_same)
    }

    /// Whether the last message can be compared with what the stream has in its place.
    pub fn can_match(&self, info: &Info) -> bool {
        self.time_nanos.is_some() && info.first <= self.message
    }

    /// None: it is another message than the last one. Else whether that is still the same.
    pub fn matches(&self, arrival: &Arrival) -> Option<bool> {
        let is_there = arrival.message == self.message;
        is_there.then_some(self.time_nanos == Some(arrival.time_nanos))
    }

    /// Message `missing` should have come, and `next` came. True: another consumer may find what is between them. What two
    /// of them have not found is not there.
    pub fn doubt(&mut self, missing: u64, next: u64) -> bool {
        let before = self.doubted.replace((missing, next));
        before.is_none_or(|(first, end)| first != missing || next > end)
    }

    pub fn is_next(&self, arrival: &Arrival) -> bool {
        arrival.message == self.message + 1
    }

    /// Passes a message on that comes behind the last one.
    pub fn take(&mut self, arrival: &Arrival) -> Result<Verdict, Stop> {
        let epochs = self.epochs().expect("a consumer was made for them");
        let ends = [0, PLACES - 1].map(|place| epochs.number(arrival.message, place));
        let [Ok(first), Ok(last)] = ends else { return Err(Stop::Full) };
        let is_new_epoch = epochs.begins_at(arrival.message);
        let is_next = self.is_next(arrival);
        self.mark(arrival);
        (self.message, self.time_nanos) = (arrival.message, Some(arrival.time_nanos));
        if arrival.message < self.fold_before {
            return Ok(Verdict::Fold);
        }
        let before = self.told();
        let is_hole = (is_new_epoch || !is_next) && before + 1 < first;
        let why = if is_new_epoch { HoleReason::Restart } else { HoleReason::Expired };
        let hole = is_hole.then_some(Hole { from: before + 1, to: first - 1, why });
        self.number = last;
        Ok(Verdict::Take(hole))
    }

    /// Up to this number, nothing can be lost of what is passed on: before the first message, nobody is told anything.
    fn told(&self) -> u64 {
        let first = || self.epochs()?.number(self.fold_before, 0).ok();
        if self.number > 0 { self.number } else { first().map_or(u64::MAX - 1, |first| first - 1) }
    }

    /// The end of the stream is reached: from now on watchers come, and are told the number of the last message at least.
    pub fn settle(&mut self) {
        let Some(Ok(last)) = self.epochs().map(|epochs| epochs.number(self.message, PLACES - 1)) else {
            return;
        };
        if self.number == 0 {
            self.number = last;
            self.fold_before = self.fold_before.min(self.message + 1);
        }
    }

    /// The greatest number that another daemon may have given by now. It may know of one more epoch than this one.
    pub fn newest_possible(&self) -> u64 {
        let newest = self.known.as_ref().and_then(|Info { epochs, last, .. }| {
            epochs.number(self.message.max(*last), PLACES - 1).ok()?.checked_add(2 * LAG_MAX)
        });
        newest.unwrap_or(SEQ_END).min(SEQ_END - 1)
    }

    pub fn newest_given(&self, info: &Info) -> Option<u64> {
        let newest = info.last.max(self.message).max(1);
        self.is_in(info).then(|| info.epochs.number(newest, PLACES - 1).ok()).flatten()
    }

    /// Notes where `fold_nanos` before the newest message begin.
    fn mark(&mut self, arrival: &Arrival) {
        let time = arrival.time_nanos;
        let apart = self.fold_nanos / MARKS;
        if self.marks.back().is_none_or(|mark| mark.0.saturating_add(apart) <= time) {
            self.marks.push_back((time, arrival.message));
        }
        while self.marks.get(1).is_some_and(|mark| mark.0.saturating_add(self.fold_nanos) <= time) {
            self.marks.pop_front();
        }
    }

    /// Takes the stream for the one to be read, or says why it cannot be.
    pub fn identify(&mut self, info: &Info) -> Result<Skipped, Stop> {
        let known = self.known.get_or_insert_with(|| info.clone());
        let is_other = known.created_nanos != info.created_nanos;
        let begins_before = |from: u64| from <= self.message;
        let why = match info.epochs.first_new(&known.epochs) {
            _ if is_other => Stop::OtherStream,
            _ if !info.epochs.continues(&known.epochs) => return Err(Stop::OtherNumbers),
            Some(from) if begins_before(from) => Stop::OtherNumbers,
            _ if self.has_lost_tail => Stop::LostTail,
            first_new => {
                // It may begin where messages are only folded.
                self.fold_before = first_new.unwrap_or(u64::MAX).min(self.fold_before);
                known.clone_from(info);
                return Ok(None);
            }
        };
        if self.number == 0 {
            // Nobody was told of the numbers before those that are to be passed on.
            let told = known.epochs.number(self.fold_before.saturating_sub(1), PLACES - 1);
            self.number = told.map_err(|_| Stop::Full)?;
        }
        // What was passed on or folded is lost, or the end of it. What has greater numbers can follow.
        let Some(next) = info.epochs.first_above(self.number + 1) else {
            return if why == Stop::LostTail { Ok(None) } else { Err(why) };
        };
        known.clone_from(info);
        let first = info.epochs.number(next, 0).map_err(|_| Stop::Full)?;
        let hole = Hole { from: self.number + 1, to: first - 1, why: HoleReason::Restart };
        self.number = first - 1;
        let mark = self.marks.front().filter(|mark| !is_other && mark.1 < next);
        let fold_from = mark.map_or(if is_other { 1 } else { next }, |mark| mark.1);
        self.marks.clear();
        self.fold_before = next;
        (self.message, self.time_nanos) = (fold_from - 1, None);
        (self.has_lost_tail, self.short_since) = (false, None);
        Ok(Some((hole, next - 1)))
    }

    /// The stream does not have the messages up to `last`.
    pub fn skip_to(&mut self, last: u64) -> Result<Skipped, Stop> {
        let epochs = self.epochs().expect("the server has answered");
        let to = epochs.number(last, PLACES - 1).map_err(|_| Stop::Full)?;
        (self.message, self.time_nanos) = (last, None);
        if last < self.fold_before {
            return Ok(None);
        }
        let hole = Hole { from: self.told() + 1, to, why: HoleReason::Expired };
        self.number = to;
        Ok(Some((hole, last)))
    }
}

#[cfg(test)]
mod tests {
    use super::Place;
    use crate::bus::numbers::{Epochs, LAG_MAX};
    use crate::bus::verdict::{Arrival, Hole, HoleReason, Info, Stop, Verdict};
    use crate::stream::numbers::SEQ_END;

    const BASE: u64 = 1_700_000_000_000_000;

    fn info(epochs: &Epochs, first: u64, last: u64) -> Info {
        Info { created_nanos: 1, epochs: epochs.clone(), first, last }
    }

    /// Each message came a second after the one before.
    fn arrival(message: u64) -> Arrival {
        let time_nanos = message * 1_000_000_000;
        Arrival { attempt: 1, delivery: 1, message, time_nanos, pending: 0, bytes: 1 }
    }

    fn number(message: u64, place: u64) -> u64 {
        BASE + 1_024 * message + place
    }

    fn place(from: u64, passed_from: u64) -> Place {
        let mut place = Place::new(from, passed_from, 16_000);
        assert_eq!(place.identify(&info(&Epochs::new(BASE).unwrap(), 1, 100)), Ok(None));
        place
    }

    #[test]
    fn a_hole_is_from_the_last_number_to_the_next() {
        let mut place = place(2, 3);
        let hole = Hole { from: number(3, 0), to: number(5, 0) - 1, why: HoleReason::Expired };
        assert_eq!(place.take(&arrival(5)), Ok(Verdict::Take(Some(hole))), "they were wanted from 3 on");
        assert_eq!(place.take(&arrival(6)), Ok(Verdict::Take(None)));
        let hole = Hole { from: number(6, 1_023) + 1, to: number(9, 0) - 1, why: HoleReason::Expired };
        assert_eq!(place.take(&arrival(9)), Ok(Verdict::Take(Some(hole))));
        let hole = Hole { from: number(10, 0), to: number(20, 1_023), why: HoleReason::Expired };
        assert_eq!(place.skip_to(20), Ok(Some((hole, 20))));
        assert_eq!(place.take(&arrival(21)), Ok(Verdict::Take(None)), "that was told");
    }

    #[test]
    fn a_hole_is_what_two_consumers_have_not_found() {
        let mut place = place(3, 3);
        assert!(place.doubt(7, 8) && !place.doubt(7, 8));
        assert!(place.doubt(10, 11) && place.doubt(10, 13), "the first one has found the last of these");
        assert!(!place.doubt(10, 12), "it may find more");
        assert!(place.doubt(20, 30) && place.doubt(21, 30));
    }

    #[test]
    fn a_past_may_reach_beyond_all_times() {
        let mut place = Place::new(1, 1, u64::MAX);
        assert_eq!(place.identify(&info(&Epochs::new(BASE).unwrap(), 1, 3)), Ok(None));
        for message in 1..=3 {
            let late = Arrival { time_nanos: u64::MAX - 4 + message, ..arrival(message) };
            assert_eq!(place.take(&late), Ok(Verdict::Take(None)));
        }
    }

    #[test]
    fn what_is_lost_behind_the_end_is_told_though_nothing_came_before() {
        let mut place = place(4, 9);
        assert_eq!(place.take(&arrival(4)), Ok(Verdict::Fold));
        // The stream ends here now, and watchers come.
        place.settle();
        assert_eq!(place.number, number(4, 1_023));
        let hole = Hole { from: number(5, 0), to: number(6, 1_023), why: HoleReason::Expired };
        assert_eq!(place.skip_to(6), Ok(Some((hole, 6))));
        assert_eq!(place.take(&arrival(7)), Ok(Verdict::Take(None)), "it is not folded any more");
    }

    #[test]
    fn behind_a_loss_what_is_left_of_the_past_is_folded_and_the_new_epoch_passed_on() {
        let mut place = place(1, 1);
        for message in 1..=50 {
            place.take(&arrival(message)).unwrap();
        }
        let first = Epochs::new(BASE).unwrap();
        let second = first.with_epoch_above(41, number(50, 1_023)).unwrap();
        let begin = second.number(41, 0).unwrap();
        let hole = Hole { from: number(51, 0), to: begin - 1, why: HoleReason::Restart };
        assert_eq!(place.identify(&info(&second, 1, 45)), Ok(Some((hole, 40))));
        // Sixteen seconds before the newest, or a little more.
        assert!((33..=34).contains(&(place.message + 1)), "{}", place.message);
        assert_eq!(place.take(&arrival(40)), Ok(Verdict::Fold));
        assert_eq!(place.take(&arrival(41)), Ok(Verdict::Take(None)), "the hole was told");
        // Who has lost nothing only learns of it.
        let third = second.with_epoch_above(43, begin).unwrap();
        place.take(&arrival(42)).unwrap();
        assert_eq!(place.identify(&info(&third, 1, 45)), Ok(None));
        let Ok(Verdict::Take(Some(hole))) = place.take(&arrival(43)) else { panic!("numbers jump") };
        assert_eq!(hole.why, HoleReason::Restart);
    }

    #[test]
    fn what_was_folded_is_folded_anew_where_the_stream_is_not_the_same() {
        let mut place = place(1, 9);
        (1..=8).for_each(|message| assert_eq!(place.take(&arrival(message)), Ok(Verdict::Fold)));
        let epochs = Epochs::new(BASE).unwrap().with_epoch_above(6, number(8, 1_023)).unwrap();
        let first = epochs.number(6, 0).unwrap();
        // Nobody was told of any number, but what is known of publishers has to be forgotten.
        let hole = Hole { from: number(9, 0), to: first - 1, why: HoleReason::Restart };
        assert_eq!(place.identify(&info(&epochs, 1, 7)), Ok(Some((hole, 5))));
        (1..=5).for_each(|message| assert_eq!(place.take(&arrival(message)), Ok(Verdict::Fold)));
        assert_eq!(place.take(&arrival(6)), Ok(Verdict::Take(None)));
    }

    #[test]
    fn another_stream_has_to_have_greater_numbers() {
        let mut place = place(1, 1);
        place.take(&arrival(1)).unwrap();
        let other = |base| Info { created_nanos: 2, ..info(&Epochs::new(base).unwrap(), 1, 9) };
        assert_eq!(place.identify(&other(BASE)), Err(Stop::OtherStream));
        let (Ok(Some((hole, last))), 0) = (place.identify(&other(BASE + 9_999)), place.message) else {
            panic!("it is read from its first message on")
        };
        assert_eq!((hole.from, hole.to, last), (number(2, 0), BASE + 9_999 + 1_023, 0));
        let mut numbers = place.epochs().unwrap().clone();
        numbers = Epochs::parse(&(BASE - 1).to_string(), &numbers.later_text()).unwrap();
        let same = Info { created_nanos: 2, ..info(&numbers, 1, 9) };
        assert_eq!(place.identify(&same), Err(Stop::OtherNumbers), "numbers that were given never change");
    }

    #[test]
    fn others_may_be_ahead_by_an_epoch() {
        assert_eq!(Place::default().newest_possible(), SEQ_END - 1, "nothing is known");
        let mut place = place(1, 1);
        assert_eq!(place.newest_possible(), number(100, 1_023) + 2 * LAG_MAX);
        let next = place.epochs().unwrap().with_epoch_above(101, number(100, 1_023)).unwrap();
        assert!(next.number(1_000, 0).unwrap() < place.newest_possible());
        place.message = 5_000;
        assert_eq!(place.newest_possible(), number(5_000, 1_023) + 2 * LAG_MAX);
    }
}
