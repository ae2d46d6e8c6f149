//! Random choices: from a seed, or first from given bytes, as a fuzzer makes them.

use std::hash::{DefaultHasher, Hasher};

pub struct Rng {
    random: fastrand::Rng,
    choices: Vec<u8>,
}

impl Rng {
    pub fn new(seed: u64) -> Self {
        Self { random: fastrand::Rng::with_seed(seed), choices: Vec::new() }
    }

    /// Takes choices from these bytes first, and from a seed once they are used up.
    pub fn of_choices(choices: &[u8]) -> Self {
        let mut hasher = DefaultHasher::new();
        hasher.write(choices);
        Self {
            random: fastrand::Rng::with_seed(hasher.finish()),
            choices: choices.iter().rev().copied().collect(),
        }
    }

    /// A second generator, which takes half of the choices left, if there are any.
    pub fn split(&mut self) -> Self {
        let half = self.choices.len() / 2;
        Self { random: self.random.fork(), choices: self.choices.drain(..half).collect() }
    }

    /// A number below `end`, which is at least 1.
    pub fn below(&mut self, end: usize) -> usize {
        if let Some(choice) = self.choices.pop() {
            // A byte cannot reach all of a larger range: it picks evenly spread numbers.
            return if end <= 256 { usize::from(choice) % end } else { usize::from(choice) * (end / 256) };
        }
        self.random.usize(..end)
    }

    pub fn between(&mut self, first: usize, last: usize) -> usize {
        first + self.below(last - first + 1)
    }

    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len())]
    }
}
