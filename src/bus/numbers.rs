//! Event numbers of a stream that all daemons share: from a message's sequence and a line's place in it, and back.
//!
//! Each daemon computes the same numbers, and nobody hands them out.

use crate::stream::numbers::{SEQ_END, SEQ_MIN};

/// Bits of a number that tell the line's place in its message. It is a part of the stream's format, for ever.
const PLACE_BITS: u32 = 10;

/// Numbers of one message, and so the most lines that one may have.
pub const PLACES: usize = 1 << PLACE_BITS;

/// Epochs of one stream, at most: an operator makes each by hand.
const EPOCHS_MAX: usize = 1_024;

/// How many numbers a daemon may be behind another one: 67 million messages. A new epoch begins so far above the numbers
/// that were seen, for one that was not asked and goes on with the old ones. There is room for 100,000 epochs.
pub const LAG_MAX: u64 = 1 << 36;

/// Why numbers cannot be computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NumbersError {
    /// The text is not what `luxcast bus` writes.
    Malformed,
    /// An epoch begins with numbers that may have been used.
    OutOfOrder,
    /// A number would not have sixteen digits, or not be below 2^53.
    OutOfRange,
}

/// From message `from` on, line `i` of message S is `base + S * 1024 + i`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Epoch {
    /// The first message of the epoch; at least 1.
    from: u64,
    base: u64,
}

impl Epoch {
    fn number(self, message: u64, place: u64) -> Option<u64> {
        let messages = message.checked_mul(PLACES as u64)?;
        let number = self.base.checked_add(messages)?.checked_add(place)?;
        (SEQ_MIN..SEQ_END).contains(&number).then_some(number)
    }
}

/// Where a number stands in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// Below the numbers of the stream.
    Before,
    At {
        message: u64,
        place: usize,
    },
    /// It was given in an epoch that has ended, to a message that the stream has lost. `next` is the first message of
    /// the next epoch.
    Lost {
        next: u64,
    },
}

/// The epochs of a stream. Most have one: a second begins where an operator says that the stream has lost its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Epochs {
    /// As they were made; the first is from message 1 on. The numbers grow; a later epoch holds for all messages from
    /// its `from` on, also where an earlier one began behind that.
    epochs: Vec<Epoch>,
}

impl Epochs {
    /// The one epoch of a new stream.
    ///
    /// # Errors
    ///
    /// If the first number is out of range.
    pub fn new(base: u64) -> Result<Self, NumbersError> {
        let epoch = Epoch { from: 1, base };
        epoch.number(1, 0).ok_or(NumbersError::OutOfRange)?;
        Ok(Self { epochs: vec![epoch] })
    }

    /// What the stream's metadata say: `luxcast.base`, and `luxcast.epochs` if it is there.
    ///
    /// # Errors
    ///
    /// If that is not what [`Epochs::base_text`] and [`Epochs::later_text`] write.
    pub fn parse(base: &str, later: &str) -> Result<Self, NumbersError> {
        let mut epochs = Self::new(number(base)?)?;
        for text in later.split(' ').filter(|text| !text.is_empty()) {
            let (from, base) = text.split_once(':').ok_or(NumbersError::Malformed)?;
            epochs.begin(number(from)?, number(base)?)?;
        }
        Ok(epochs)
    }

    /// The value of `luxcast.base`.
    pub fn base_text(&self) -> String {
        self.epochs[0].base.to_string()
    }

    /// The value of `luxcast.epochs`: `FROM:BASE` of each epoch behind the first. Empty: there is none.
    pub fn later_text(&self) -> String {
        let texts: Vec<String> =
            self.epochs[1..].iter().map(|epoch| format!("{}:{}", epoch.from, epoch.base)).collect();
        texts.join(" ")
    }

    /// From message `from` on, the base is `base`.
    ///
    /// # Errors
    ///
    /// If its numbers are not greater than those of the last one, or out of range.
    pub fn begin(&mut self, from: u64, base: u64) -> Result<(), NumbersError> {
        let last = self.epochs[self.epochs.len() - 1];
        let epoch = Epoch { from, base };
        let first = epoch.number(from, 0).ok_or(NumbersError::OutOfRange)?;
        if from == 0 || base <= last.base || Some(first) <= last.number(last.from, 0) {
            return Err(NumbersError::OutOfOrder);
        }
        if self.epochs.len() == EPOCHS_MAX {
            return Err(NumbersError::OutOfRange);
        }
        self.epochs.push(epoch);
        Ok(())
    }

    /// The same with one more epoch: from message `from` on, with numbers [`LAG_MAX`] above `seen`. Until a daemon
    /// hears of it, that one goes on with the old numbers, and they must stay below the new ones.
    ///
    /// # Errors
    ///
    /// If its numbers would be out of range.
    pub fn with_epoch_above(&self, from: u64, seen: u64) -> Result<Self, NumbersError> {
        let last = self.epochs[self.epochs.len() - 1];
        let used = from.checked_mul(PLACES as u64).ok_or(NumbersError::OutOfRange)?;
        let seen = seen.max(last.number(last.from, 0).unwrap_or(seen));
        // A base may be small where the sequence is large.
        let base = seen.saturating_add(LAG_MAX).saturating_sub(used).max(last.base + 1);
        let mut more = self.clone();
        more.begin(from, base)?;
        Ok(more)
    }

    /// Whether these are the epochs of `earlier`, and perhaps more.
    pub fn continues(&self, earlier: &Self) -> bool {
        self.epochs.starts_with(&earlier.epochs)
    }

    /// The first message of the epochs that `earlier` does not have.
    pub fn first_new(&self, earlier: &Self) -> Option<u64> {
        self.epochs.iter().skip(earlier.epochs.len()).map(|epoch| epoch.from).min()
    }

    /// The first message of the first epoch whose numbers are all greater than `number`.
    pub fn first_above(&self, number: u64) -> Option<u64> {
        let is_above = |epoch: &&Epoch| epoch.number(epoch.from, 0).is_some_and(|first| first > number);
        self.epochs.iter().find(is_above).map(|epoch| epoch.from)
    }

    fn epoch_of(&self, message: u64) -> Epoch {
        let newest = self.epochs.iter().rev().find(|epoch| epoch.from <= message);
        *newest.unwrap_or(&self.epochs[0])
    }

    /// The number of a line. `place < PLACES`.
    ///
    /// # Errors
    ///
    /// If it is not below 2^53: this stream is full.
    pub fn number(&self, message: u64, place: usize) -> Result<u64, NumbersError> {
        assert!(place < PLACES, "a message has no such place");
        self.epoch_of(message).number(message, place as u64).ok_or(NumbersError::OutOfRange)
    }

    /// Whether numbers jump between message `message` and the one ahead of it.
    pub fn begins_at(&self, message: u64) -> bool {
        message > 1 && self.epoch_of(message) != self.epoch_of(message - 1)
    }

    /// Where the number stands. It may be that of a message which the stream does not have yet.
    pub fn position(&self, number: u64) -> Position {
        let first = |epoch: &Epoch| epoch.number(epoch.from, 0).unwrap_or(SEQ_END);
        let later = self.epochs.partition_point(|epoch| first(epoch) <= number);
        let Some(epoch) = later.checked_sub(1).map(|index| self.epochs[index]) else {
            return Position::Before;
        };
        let offset = number - epoch.base;
        let (message, place) = (offset >> PLACE_BITS, offset as usize % PLACES);
        match self.epochs[later..].iter().map(|epoch| epoch.from).min() {
            Some(next) if message >= next => Position::Lost { next },
            _ => Position::At { message, place },
        }
    }
}

/// Digits alone, without a zero in front.
fn number(text: &str) -> Result<u64, NumbersError> {
    let number: u64 = text.parse().map_err(|_| NumbersError::Malformed)?;
    if number.to_string() == text { Ok(number) } else { Err(NumbersError::Malformed) }
}

#[cfg(test)]
mod tests {
    use super::{Epochs, NumbersError, PLACES, Position};
    use crate::stream::numbers::{SEQ_END, SEQ_MIN};

    const BASE: u64 = 1_700_000_000_000_000;

    #[test]
    fn numbers_lead_back_to_their_lines() {
        let epochs = Epochs::new(BASE).unwrap();
        assert_eq!(epochs.number(1, 0), Ok(BASE + 1024));
        assert_eq!(epochs.number(7, 1023), Ok(BASE + 7 * 1024 + 1023));
        for (message, place) in [(1, 0), (1, 1023), (2, 0), (1_000_000_000, 512)] {
            let number = epochs.number(message, place).unwrap();
            assert_eq!(epochs.position(number), Position::At { message, place });
        }
        for before in [0, BASE, BASE + 1023] {
            assert_eq!(epochs.position(before), Position::Before);
        }
    }

    #[test]
    fn all_numbers_have_sixteen_digits_and_fit_into_a_double() {
        assert_eq!(Epochs::new(SEQ_MIN - 1025), Err(NumbersError::OutOfRange));
        assert!(Epochs::new(SEQ_MIN - 1024).is_ok());
        let last = (SEQ_END - BASE) / PLACES as u64 - 1;
        let epochs = Epochs::new(BASE).unwrap();
        assert!(epochs.number(last, 1023).unwrap() < SEQ_END);
        for message in [last + 1, 1 << 54, u64::MAX] {
            assert_eq!(epochs.number(message, 1023), Err(NumbersError::OutOfRange), "{message}");
        }
        assert_eq!(Epochs::new(u64::MAX), Err(NumbersError::OutOfRange));
    }

    #[test]
    fn a_new_epoch_gives_no_number_again() {
        let first = Epochs::new(BASE).unwrap();
        let seen = first.number(1_000, 5).unwrap();
        let epochs = first.with_epoch_above(901, seen).unwrap();
        let begin = epochs.number(901, 0).unwrap();
        assert!(begin > seen);
        assert_eq!(epochs.number(900, 3), first.number(900, 3));
        assert!(epochs.begins_at(901) && !epochs.begins_at(900) && !epochs.begins_at(1));
        assert_eq!(epochs.position(seen), Position::Lost { next: 901 });
        assert_eq!(epochs.position(begin - 1), Position::Lost { next: 901 });
        assert_eq!(epochs.position(begin), Position::At { message: 901, place: 0 });
        assert_eq!(
            epochs.position(first.number(900, 1023).unwrap()),
            Position::At { message: 900, place: 1023 }
        );
        assert!(epochs.continues(&first) && !first.continues(&epochs));
        assert_eq!((epochs.first_new(&first), first.first_new(&epochs)), (Some(901), None));
        let above = [0, BASE + 1023, BASE + 1024, seen, begin].map(|number| epochs.first_above(number));
        assert_eq!(above, [Some(1), Some(1), Some(901), Some(901), None]);
        // This epoch loses its end too, to where it had not begun yet.
        let seen = epochs.number(950, 0).unwrap();
        let third = epochs.with_epoch_above(851, seen).unwrap();
        let begin = third.number(851, 0).unwrap();
        assert!(begin > seen && third.number(950, 0).unwrap() > third.number(949, 1023).unwrap());
        assert_eq!(third.number(850, 0), first.number(850, 0));
        for lost in [first.number(851, 0), first.number(950, 0), epochs.number(905, 7)] {
            assert_eq!(third.position(lost.unwrap()), Position::Lost { next: 851 });
        }
        assert!(third.begins_at(851) && !third.begins_at(901));
    }

    #[test]
    fn metadata_are_read_as_they_are_written() {
        let epochs = Epochs::new(BASE).unwrap().with_epoch_above(901, BASE + 2_000_000).unwrap();
        assert_eq!(Epochs::parse(&epochs.base_text(), &epochs.later_text()), Ok(epochs.clone()));
        let base = epochs.base_text();
        assert_eq!(Epochs::parse(&base, ""), Epochs::new(BASE));
        for (base, later) in [
            ("", ""),
            ("+1700000000000000", ""),
            ("x", ""),
            (&base, "901"),
            (&base, "901:x"),
            (&base, "01:2"),
        ] {
            assert_eq!(Epochs::parse(base, later), Err(NumbersError::Malformed), "{base} {later}");
        }
        let same = format!("901:{base}");
        assert_eq!(Epochs::parse(&base, &same), Err(NumbersError::OutOfOrder));
        assert_eq!(Epochs::parse(&base, "901:9999999999999999"), Err(NumbersError::OutOfRange));
    }
}
