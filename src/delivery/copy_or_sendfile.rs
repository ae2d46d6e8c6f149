//! How gathered bytes go out, and which of two ways is cheaper on this machine.
//!
//! Large portions can be copied into each socket, or written once to a memory file from which `sendfile` hands each
//! socket the same pages. The first pays for each byte, the second for each page; which one is cheaper depends on
//! the processor and the kernel: of two machines measured, one took 0.024 µs a message with `sendfile` and 0.042
//! with copies, the other 0.052 and 0.033. So both are tried now and then, and the one that took less CPU time lately
//! is used. A trial costs a clock reading before and after a portion.

/// How the bytes of a gather go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendMethod {
    /// From a memory file.
    Staged,
    /// From one buffer that the slices were copied to.
    Flat,
    /// As they stand in their batches.
    Slices,
}

/// Portions of similar length are compared: up to 64 KiB, up to 256 KiB, beyond.
const CLASSES: usize = 3;
/// One portion in so many goes the way that is thought to be dearer.
const TRIAL_EVERY: u32 = 64;
/// Each way is taken so often before the first judgement.
const FIRST_TRIALS: u32 = 8;
/// A measurement counts for one part in so many.
const WEIGHT: u64 = 8;

#[derive(Clone, Copy, Debug, Default)]
struct Cost {
    /// CPU nanoseconds for a mebibyte, averaged; 0: not known yet.
    nanos: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Class {
    copied: Cost,
    staged: Cost,
    portions: u32,
}

/// What both ways have cost lately.
#[derive(Debug, Default)]
pub struct SendMethods {
    classes: [Class; CLASSES],
}

impl SendMethods {
    /// Whether the next portion of `bytes` bytes is better staged than copied.
    pub fn is_staged(&mut self, bytes: usize) -> bool {
        let class = &mut self.classes[class_of(bytes)];
        class.portions = class.portions.wrapping_add(1);
        if class.portions <= 2 * FIRST_TRIALS {
            return class.portions.is_multiple_of(2);
        }
        let is_cheaper = class.staged.nanos < class.copied.nanos;
        is_cheaper != class.portions.is_multiple_of(TRIAL_EVERY)
    }

    /// A portion of `bytes` bytes that was sent to `watchers` of them took so much CPU time.
    pub fn note(&mut self, is_staged: bool, bytes: usize, watchers: u64, nanos: u64) {
        let class = &mut self.classes[class_of(bytes)];
        let cost = if is_staged { &mut class.staged } else { &mut class.copied };
        let measured = ((nanos << 20) / (bytes as u64 * watchers).max(1)).max(1);
        cost.nanos = match cost.nanos {
            0 => measured,
            // One interrupted portion must not decide.
            before => before - before / WEIGHT + measured.min(4 * before) / WEIGHT,
        };
    }
}

fn class_of(bytes: usize) -> usize {
    const BORDERS: [usize; CLASSES - 1] = [64 << 10, 256 << 10];
    BORDERS.iter().filter(|&&border| bytes > border).count()
}

#[cfg(test)]
mod tests {
    use super::{FIRST_TRIALS, SendMethods, TRIAL_EVERY};

    /// How many of `count` portions are staged where these are the costs of both ways for one.
    fn staged(ways: &mut SendMethods, count: u32, staged_nanos: u64, copied_nanos: u64) -> u32 {
        let mut sum = 0;
        for _ in 0..count {
            let is_staged = ways.is_staged(100_000);
            ways.note(is_staged, 100_000, 256, if is_staged { staged_nanos } else { copied_nanos });
            sum += u32::from(is_staged);
        }
        sum
    }

    #[test]
    fn the_cheaper_way_is_taken_but_for_trials() {
        let mut ways = SendMethods::default();
        assert_eq!(staged(&mut ways, 2 * FIRST_TRIALS, 50, 30), FIRST_TRIALS);
        let trials = staged(&mut ways, 64 * TRIAL_EVERY, 50_000, 30_000);
        assert_eq!(trials, 64);
        assert_eq!(
            staged(&mut SendMethods::default(), 100 * TRIAL_EVERY, 20_000, 30_000),
            100 * TRIAL_EVERY - 108
        );
    }

    #[test]
    fn a_machine_that_changes_is_followed() {
        let mut ways = SendMethods::default();
        staged(&mut ways, 1_000, 50_000, 30_000);
        staged(&mut ways, 100 * TRIAL_EVERY, 20_000, 30_000);
        assert!(staged(&mut ways, TRIAL_EVERY, 20_000, 30_000) > TRIAL_EVERY / 2);
    }

    #[test]
    fn lengths_are_judged_apart() {
        let mut ways = SendMethods::default();
        staged(&mut ways, 1_000, 50_000, 30_000);
        assert!(!ways.is_staged(20_000) && ways.is_staged(20_000), "not tried yet: by turns");
    }
}
