//! How numbers go on where they come from elsewhere: they rise, may jump, and some are said to be lost.

use crate::stream::holes::Hole;
use crate::stream::numbers::{BadNumber, DIGITS, SEQ_END, digits_of};
use crate::stream::sequencer::{Phase, Sealed, Sequencer, Step};

impl Sequencer {
    /// Gives the next event the number `number`, whatever the last one had: nothing was lost between the two. Called
    /// before the turn that takes the event in.
    ///
    /// # Errors
    /// The number is not above all that were given, or is above all that may be.
    pub fn begin_at(&mut self, number: u64) -> Result<(), BadNumber> {
        if number <= self.before || number >= SEQ_END {
            return Err(BadNumber);
        }
        if number > self.before + 1 {
            self.jump_to(number - 1);
        }
        Ok(())
    }

    /// Notes that the events with the numbers from the next one to `to` are lost, however many they were. Every watcher
    /// gets a gap for them. Like lines, the hole is published once the turn ends.
    ///
    /// # Errors
    /// As [`Sequencer::begin_at`].
    pub fn lose_to(&mut self, to: u64) -> Result<(), BadNumber> {
        self.lose(to, false)
    }

    /// The same, since another stream follows, or another end of it.
    ///
    /// # Errors
    /// As [`Sequencer::begin_at`].
    pub fn restart_at(&mut self, to: u64) -> Result<(), BadNumber> {
        self.lose(to, true)
    }

    fn lose(&mut self, to: u64, is_restart: bool) -> Result<(), BadNumber> {
        let from = self.before + 1;
        if to < from || to >= SEQ_END {
            return Err(BadNumber);
        }
        self.jump_to(to);
        self.seq = to;
        self.sealed.push_back(Sealed::Hole(Hole { from, to, is_restart }));
        Ok(())
    }

    /// Moves the numbers on: the next event's comes after `before`.
    #[cold]
    fn jump_to(&mut self, before: u64) {
        self.seal();
        self.directory.note_jump(self.seq);
        (self.before, self.digits) = (before, digits_of(before));
    }

    pub(super) fn next_digits(&self) -> [u8; DIGITS] {
        let mut digits = self.digits;
        for digit in digits.iter_mut().rev() {
            if *digit < b'9' {
                *digit += 1;
                break;
            }
            *digit = b'0';
        }
        digits
    }

    /// Lets watchers know of a hole. All shards are told, whatever they watch.
    #[cold]
    pub(super) fn publish_hole(&mut self, hole: Hole) -> Step {
        let last_seq = self.directory.all.log.lock().last_seq();
        self.history.add(self.directory.holes.note(hole, last_seq));
        self.directory.publish(hole.to);
        self.phase = Phase::Offer { shards: u64::MAX.checked_shr(64 - self.links.len() as u32).unwrap_or(0) };
        Step::Published
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{BadNumber, SEQ_END, digits_of};
    use crate::stream::directory::Directory;
    use crate::stream::holes::Hole;
    use crate::stream::now::Now;
    use crate::stream::numbers::SEQ_MIN;
    use crate::stream::sequencer::{Limits, Sequencer, Step, Taken};
    use crate::wire::line::PADDING;

    fn sequencer() -> Sequencer {
        let limits = Limits {
            history_bytes: 1 << 20,
            history_millis: 1 << 40,
            job_idle_millis: 1 << 40,
            metrics_millis: 0,
            jobs_max: 10,
            depth_max: 8,
        };
        Sequencer::new(Arc::new(Directory::new(SEQ_MIN, 10)), Vec::new(), limits)
    }

    fn take(sequencer: &mut Sequencer) -> u64 {
        let mut block = br#"{"type":"tick","job_id":"j"}"#.to_vec();
        let length = block.len();
        block.resize(length + PADDING, 0);
        sequencer.begin_turn(Now { millis: 1, unix_micros: 1 }, length);
        match sequencer.take_line(&mut block, length) {
            Ok(Taken::Event(seq)) => seq,
            _ => panic!("it is an event"),
        }
    }

    fn publish(sequencer: &mut Sequencer) {
        sequencer.end_turn();
        while sequencer.step() != Step::Done {}
    }

    /// It would have a number that others give to something else.
    #[test]
    fn a_shared_stream_has_no_event_that_says_that_a_job_is_lost() {
        for is_shared in [false, true] {
            let mut sequencer = sequencer();
            sequencer.is_shared = is_shared;
            take(&mut sequencer);
            publish(&mut sequencer);
            sequencer.sweep(Now { millis: (1 << 40) + 10, unix_micros: 2 });
            assert_eq!(sequencer.metrics_due_at().is_none(), is_shared);
        }
    }

    #[test]
    fn numbers_jump_ahead_and_never_back() {
        let mut sequencer = sequencer();
        assert_eq!(take(&mut sequencer), SEQ_MIN + 1);
        for number in [0, SEQ_MIN, SEQ_MIN + 1, SEQ_END, u64::MAX] {
            assert_eq!(sequencer.begin_at(number), Err(BadNumber), "{number}");
        }
        // The next one anyway: no new batch for it.
        assert_eq!(sequencer.begin_at(SEQ_MIN + 2), Ok(()));
        assert_eq!(take(&mut sequencer), SEQ_MIN + 2);
        assert_eq!(sequencer.begin_at(SEQ_MIN + 999), Ok(()));
        assert_eq!(sequencer.begin_at(SEQ_MIN + 998), Err(BadNumber));
        assert_eq!(sequencer.seq(), SEQ_MIN + 2, "it is not given yet");
        assert_eq!([take(&mut sequencer), take(&mut sequencer)], [SEQ_MIN + 999, SEQ_MIN + 1000]);
        publish(&mut sequencer);
        assert_eq!((sequencer.events(), sequencer.published()), (4, SEQ_MIN + 1000));
        let log = sequencer.directory.all.log.lock();
        let batches: Vec<(u64, usize)> =
            log.handles().map(|handle| (handle.batch.first_seq(), handle.batch.len())).collect();
        assert_eq!(batches, [(SEQ_MIN + 1, 2), (SEQ_MIN + 999, 2)]);
        for handle in log.handles() {
            for event in 0..handle.batch.len() as u32 {
                let start = format!("{{\"stream_seq\":{},", handle.batch.seq(event));
                assert!(handle.batch.object(event).starts_with(start.as_bytes()));
            }
        }
        assert_eq!(log.index_after(SEQ_MIN + 500), 2, "a number that no event has is a place too");
    }

    #[test]
    fn the_last_number_of_all_can_be_given() {
        let mut sequencer = sequencer();
        assert_eq!(sequencer.begin_at(SEQ_END - 1), Ok(()));
        assert_eq!(take(&mut sequencer), SEQ_END - 1);
        assert_eq!(digits_of(SEQ_END - 1), *b"9007199254740991");
    }

    #[test]
    fn a_hole_is_published_between_the_events_around_it() {
        let mut sequencer = sequencer();
        take(&mut sequencer);
        assert_eq!(sequencer.lose_to(SEQ_MIN + 1), Err(BadNumber));
        assert_eq!(sequencer.lose_to(SEQ_MIN + 50), Ok(()));
        assert_eq!(take(&mut sequencer), SEQ_MIN + 51);
        sequencer.end_turn();
        let mut published = Vec::new();
        loop {
            match sequencer.step() {
                Step::Published => published.push(sequencer.published() - SEQ_MIN),
                Step::Done => break,
                _ => {}
            }
        }
        assert_eq!(published, [1, 50, 51]);
        let hole = Hole::new(SEQ_MIN + 2, SEQ_MIN + 50);
        assert_eq!(sequencer.directory.holes.ahead(SEQ_MIN + 1, SEQ_END), Some(hole));
        assert_eq!(sequencer.events(), 2);
        assert_eq!(sequencer.lose_to(SEQ_MIN + 60), Ok(()));
        assert_eq!(sequencer.seq(), SEQ_MIN + 60);
        publish(&mut sequencer);
        assert_eq!(sequencer.published(), SEQ_MIN + 60, "with no event behind it, too");
    }

    #[test]
    fn numbers_count_events_only_up_to_the_first_jump() {
        let mut sequencer = sequencer();
        let first = [(); 3].map(|()| take(&mut sequencer));
        assert_eq!(first, [1, 2, 3].map(|n| SEQ_MIN + n));
        sequencer.begin_at(SEQ_MIN + 100).unwrap();
        assert_eq!([take(&mut sequencer), take(&mut sequencer)], [100, 101].map(|n| SEQ_MIN + n));
        publish(&mut sequencer);
        let directory = &sequencer.directory;
        assert_eq!([0, 2, 3].map(|n| directory.index_of_all(SEQ_MIN + n)), [0, 2, 3].map(Some));
        assert_eq!([4, 99, 100].map(|n| directory.index_of_all(SEQ_MIN + n)), [None; 3]);
        assert_eq!([1, 3, 50, 100, 101].map(|n| directory.events_beyond(SEQ_MIN + n)), [4, 2, 2, 1, 0]);
    }
}
