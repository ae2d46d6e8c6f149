//! Random numbers from a seed, the same on every machine: splitmix64. Or choices from given bytes, as a fuzzer makes
//! them, and from a seed once they are used up.

pub struct Rng {
    state: u64,
    choices: Vec<u8>,
}

impl Rng {
    pub fn new(seed: u64) -> Self {
        Self { state: seed, choices: Vec::new() }
    }

    /// What is chosen first is what the first bytes say.
    pub fn of_choices(choices: &[u8]) -> Self {
        let state =
            choices.iter().fold(choices.len() as u64, |state, byte| state.rotate_left(5) ^ u64::from(*byte));
        Self { state, choices: choices.iter().rev().copied().collect() }
    }

    /// Another one: of the other half of the choices, if this has some.
    pub fn split(&mut self) -> Self {
        let state = self.next();
        let half = self.choices.len() / 2;
        Self { state, choices: self.choices.drain(..half).collect() }
    }

    pub fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, which is at least 1.
    pub fn below(&mut self, end: usize) -> usize {
        if let Some(choice) = self.choices.pop() {
            // Of what does not fit in a byte, evenly spread parts.
            return if end <= 256 { usize::from(choice) % end } else { usize::from(choice) * (end / 256) };
        }
        (self.next() % end as u64) as usize
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
