//! The time of one turn.

/// The readings of both clocks, taken once a turn.
#[derive(Clone, Copy, Debug, Default)]
pub struct Now {
    /// Milliseconds since the daemon began; never goes back.
    pub millis: u64,
    /// Unix time.
    pub unix_micros: i64,
}
