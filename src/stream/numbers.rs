//! The numbers of events: their bounds and their digits.

/// The smallest number: all have sixteen digits. As microseconds of Unix time it is in 2001.
pub const SEQ_MIN: u64 = 1_000_000_000_000_000;
/// One more than the largest number: JavaScript reads every smaller one exactly.
pub const SEQ_END: u64 = 1 << 53;

pub(super) const DIGITS: usize = 16;

/// A number that cannot be the next: it would go back, or has no sixteen digits below 2^53.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadNumber;

/// The digits of a number that has sixteen.
pub(super) fn digits_of(seq: u64) -> [u8; DIGITS] {
    let mut rest = seq;
    let mut digits = [0; DIGITS];
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    digits
}
