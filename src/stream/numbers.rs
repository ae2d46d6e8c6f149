//! Between which numbers those of events are.

/// The first number: every one has sixteen digits, and as microseconds it is 2001.
pub const SEQ_MIN: u64 = 1_000_000_000_000_000;
/// Beyond the last number: JavaScript reads every smaller one exactly.
pub const SEQ_END: u64 = 1 << 53;
