//! Whether a watcher whose socket is full still reads.

use std::time::Duration;

use crate::delivery::keys::WatcherKey;
use crate::wire::framing::Framing;

/// Publishers wait for a watcher only if it pauses no longer than this, and takes at least so much over the window.
#[derive(Clone, Copy, Debug)]
struct Pace {
    pause_max_millis: u64,
    bytes_per_second_min: u64,
}

const READING_WINDOW_MILLIS: u64 = 10_000;
const PACE: Pace = Pace { pause_max_millis: 3_000, bytes_per_second_min: 64 << 10 };
/// The same where messages are compressed: most shrink to an eighth, short ones that are alike to a sixteenth. As the peer's
/// kernel has room again only for tens of KiB at a time, the pauses are longer.
const PACE_COMPRESSED: Pace =
    Pace { pause_max_millis: READING_WINDOW_MILLIS, bytes_per_second_min: PACE.bytes_per_second_min / 16 };

/// A socket that takes more this long after it was found full has a reader. By then the peer's kernel has all that was
/// in flight, and what the first window probe adds (RFC 9293, 3.8.6.1).
const SETTLED_MILLIS: u64 = 500;
/// A peer that has taken more than this has read: Linux holds less for a program that does not read, even with the
/// largest buffer that it may ask for (net.core.rmem_max).
const KERNEL_BYTES_MAX: u64 = 512 << 10;

/// Checks within `stalled_seconds`. They are counted, not timed, so that a pause of the whole process is one check.
const CHECKS: u32 = 8;
/// Time between two checks, at most, so that a pause in reading is seen in time.
const CHECK_MILLIS_MAX: u64 = 1_000;

/// When to check, and after how many checks without a byte a watcher is ended.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    pub check_millis: u64,
    pub idle_checks_max: u32,
}

impl Patience {
    pub fn new(stalled: Duration) -> Self {
        let stalled = stalled.as_millis() as u64;
        let check_millis = (stalled / u64::from(CHECKS)).clamp(10, CHECK_MILLIS_MAX);
        Self { check_millis, idle_checks_max: stalled.div_ceil(check_millis).max(1) as u32 }
    }
}

/// One lagging watcher under review.
#[derive(Clone, Copy, Debug)]
pub struct SlowConsumer {
    pub key: WatcherKey,
    /// Bytes that its peer has acknowledged.
    taken: u64,
    moved_at: u64,
    idle_checks: u32,
    window_at: u64,
    window_taken: u64,
    is_slow: bool,
    pace: Pace,
    reads: Reads,
}

/// Whether a program at the other end reads, not only its kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reads {
    /// Not known: the socket was found full at this moment.
    Unknown {
        full_at: u64,
    },
    /// Not known either: this much was taken when everything in flight had arrived.
    Settled {
        taken: u64,
    },
    Yes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    Reads,
    Pauses,
    Stalled,
}

impl SlowConsumer {
    /// `has_read`: the watcher is known to read.
    pub fn new(key: WatcherKey, taken: u64, now_millis: u64, has_read: bool, framing: Framing) -> Self {
        Self {
            key,
            taken,
            moved_at: now_millis,
            idle_checks: 0,
            window_at: now_millis,
            window_taken: taken,
            is_slow: false,
            pace: if framing.is_compressed() { PACE_COMPRESSED } else { PACE },
            reads: match has_read || taken > KERNEL_BYTES_MAX {
                true => Reads::Yes,
                false => Reads::Unknown { full_at: now_millis },
            },
        }
    }

    /// Judges whether it has read by the bytes that the peer has acknowledged by now.
    pub fn probe(&mut self, taken: u64, now_millis: u64) {
        self.reads = match self.reads {
            _ if taken > KERNEL_BYTES_MAX => Reads::Yes,
            Reads::Unknown { full_at } if now_millis >= full_at + SETTLED_MILLIS => Reads::Settled { taken },
            Reads::Settled { taken: before } if taken > before => Reads::Yes,
            same => same,
        };
    }

    /// Whether it has taken more than kernel buffers hold: publishers wait for it while it goes on reading.
    pub fn has_read(&self) -> bool {
        self.reads == Reads::Yes
    }

    /// Notes the bytes that the peer has acknowledged by now.
    pub fn check(&mut self, taken: u64, now_millis: u64, patience: Patience) -> Progress {
        let span = now_millis.saturating_sub(self.window_at);
        if span >= READING_WINDOW_MILLIS {
            let per_second = taken.saturating_sub(self.window_taken) * 1000 / span;
            self.is_slow = per_second < self.pace.bytes_per_second_min;
            (self.window_at, self.window_taken) = (now_millis, taken);
        }
        if taken > self.taken {
            self.taken = taken;
            self.moved_at = now_millis;
            self.idle_checks = 0;
            return Progress::Reads;
        }
        self.idle_checks += 1;
        match self.idle_checks >= patience.idle_checks_max {
            true => Progress::Stalled,
            false => Progress::Pauses,
        }
    }

    /// Whether a publisher waits for it (`overrun = wait`).
    pub fn is_reading(&self, now_millis: u64) -> bool {
        !self.is_slow && now_millis.saturating_sub(self.moved_at) <= self.pace.pause_max_millis
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Patience, Progress, SlowConsumer};
    use crate::delivery::keys::WatcherKey;
    use crate::wire::framing::Framing;

    fn slow(taken: u64, now_millis: u64, has_read: bool) -> SlowConsumer {
        SlowConsumer::new(key(), taken, now_millis, has_read, Framing::WebSocket)
    }

    fn key() -> WatcherKey {
        WatcherKey::from_bits(1)
    }

    #[test]
    fn a_watcher_that_takes_nothing_is_stalled_after_its_time_not_after_one_late_check() {
        let patience = Patience::new(Duration::from_secs(8));
        assert_eq!((patience.check_millis, patience.idle_checks_max), (1000, 8));
        let mut laggard = slow(500, 0, false);
        assert_eq!(laggard.check(500, 60_000, patience), Progress::Pauses, "the process was stopped");
        for check in 2..8 {
            assert_eq!(laggard.check(500, 60_000 + check, patience), Progress::Pauses);
        }
        assert_eq!(laggard.check(501, 61_000, patience), Progress::Reads);
        for _ in 1..8 {
            assert_eq!(laggard.check(501, 62_000, patience), Progress::Pauses);
        }
        assert_eq!(laggard.check(501, 63_000, patience), Progress::Stalled);
    }

    #[test]
    fn publishers_wait_for_readers_but_not_for_a_trickle() {
        let patience = Patience::new(Duration::from_secs(30));
        let mut laggard = slow(0, 0, false);
        assert!(laggard.is_reading(3_000) && !laggard.is_reading(3_001));
        for second in 1..=20 {
            laggard.check(second * 100_000, second * 1000, patience);
            assert!(laggard.is_reading(second * 1000));
        }
        for second in 21..=40 {
            laggard.check(2_000_000 + second, second * 1000, patience);
        }
        assert!(!laggard.is_reading(40_000), "a byte a second");
    }

    #[test]
    fn publishers_wait_for_whoever_reads_as_many_events_compressed() {
        let patience = Patience::new(Duration::from_secs(30));
        for (framing, bytes_a_second, is_reading) in [
            (Framing::WebSocket, 66_000, true),
            (Framing::Sse, 65_000, false),
            (Framing::WebSocket, 65_000, false),
            (Framing::Deflate, 5_000, true),
            (Framing::DeflateAlone, 5_000, true),
            (Framing::Deflate, 4_000, false),
        ] {
            let mut laggard = SlowConsumer::new(key(), 0, 0, true, framing);
            (1..=20).for_each(|second| {
                laggard.check(second * bytes_a_second, second * 1000, patience);
            });
            assert_eq!(
                laggard.is_reading(20_000),
                is_reading,
                "{framing:?}, {bytes_a_second} bytes a second"
            );
        }
    }

    #[test]
    fn a_watcher_that_takes_no_more_than_kernels_hold_has_not_read() {
        let mut laggard = slow(60_000, 1_000, false);
        // What was in flight arrives.
        laggard.probe(90_000, 1_050);
        laggard.probe(120_000, 1_500);
        for now in 1_550..20_000 {
            laggard.probe(120_000, now);
            assert!(!laggard.has_read());
        }
        laggard.probe(120_001, 20_000);
        assert!(laggard.has_read());
        assert!(slow(2 << 20, 0, false).has_read(), "it kept up until now");
        assert!(slow(5, 0, true).has_read());
    }
}
