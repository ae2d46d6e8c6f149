//! Chooses how gathered bytes are sent: which of two methods is cheaper on this machine.
//!
//! A large portion can be copied into each socket, or written once to a memory file from which `sendfile` gives each
//! socket the same pages. The first costs CPU time per byte, the second per page. Which one is cheaper depends on the
//! processor and the kernel. Of two machines measured, one took 0.024 µs a message with `sendfile` and 0.042 with
//! copies, the other 0.052 and 0.033. So both are tried now and then, and the one that took less CPU time lately is
//! used. A trial reads a clock before and after a portion.

/// How the bytes of a gather are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendMethod {
    /// From a memory file.
    Staged,
    /// From one buffer that the slices were copied to.
    Flat,
    /// From their batches, without a copy.
    Slices,
}

/// Only portions of similar length are compared: up to 64 KiB, up to 256 KiB, longer.
const CLASSES: usize = 3;
/// One portion in this many uses the method that seems to cost more.
const TRIAL_EVERY: u32 = 64;
/// Each method is used this often before the first choice.
const FIRST_TRIALS: u32 = 8;
/// A new measurement is one part in this many of the average.
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

/// What both methods have cost lately.
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

    /// Notes that a portion of `bytes` bytes, sent to `watchers` watchers, took `nanos` of CPU time.
    pub fn note(&mut self, is_staged: bool, bytes: usize, watchers: u64, nanos: u64) {
        let class = &mut self.classes[class_of(bytes)];
        let cost = if is_staged { &mut class.staged } else { &mut class.copied };
        let measured = ((nanos << 20) / (bytes as u64 * watchers).max(1)).max(1);
        cost.nanos = match cost.nanos {
            0 => measured,
            // Capped, so that one interrupted portion does not decide.
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

    /// How many of `count` portions are staged, given what one costs with each method.
    fn staged(methods: &mut SendMethods, count: u32, staged_nanos: u64, copied_nanos: u64) -> u32 {
        let mut sum = 0;
        for _ in 0..count {
            let is_staged = methods.is_staged(100_000);
            methods.note(is_staged, 100_000, 256, if is_staged { staged_nanos } else { copied_nanos });
            sum += u32::from(is_staged);
        }
        sum
    }

    #[test]
    fn the_cheaper_method_is_used_except_for_trials() {
        let mut methods = SendMethods::default();
        assert_eq!(staged(&mut methods, 2 * FIRST_TRIALS, 50, 30), FIRST_TRIALS);
        let trials = staged(&mut methods, 64 * TRIAL_EVERY, 50_000, 30_000);
        assert_eq!(trials, 64);
        assert_eq!(
            staged(&mut SendMethods::default(), 100 * TRIAL_EVERY, 20_000, 30_000),
            100 * TRIAL_EVERY - 108
        );
    }

    #[test]
    fn the_choice_follows_a_machine_that_changes() {
        let mut methods = SendMethods::default();
        staged(&mut methods, 1_000, 50_000, 30_000);
        staged(&mut methods, 100 * TRIAL_EVERY, 20_000, 30_000);
        assert!(staged(&mut methods, TRIAL_EVERY, 20_000, 30_000) > TRIAL_EVERY / 2);
    }

    #[test]
    fn each_class_of_lengths_is_judged_apart() {
        let mut methods = SendMethods::default();
        staged(&mut methods, 1_000, 50_000, 30_000);
        assert!(!methods.is_staged(20_000) && methods.is_staged(20_000), "not tried yet: by turns");
    }
}
