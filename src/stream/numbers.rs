//! The bounds of event numbers.

/// The smallest number: all have sixteen digits. As microseconds of Unix time it is in 2001.
pub const SEQ_MIN: u64 = 1_000_000_000_000_000;
/// One more than the largest number: JavaScript reads every smaller one exactly.
pub const SEQ_END: u64 = 1 << 53;
