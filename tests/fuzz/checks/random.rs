//! Random choices that can be made again: splitmix64.

pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The same bytes make the same choices.
    pub fn of(bytes: &[u8]) -> Self {
        // FNV-1a.
        Self(bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        }))
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// 0 up to `bound`, that excluded.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    pub fn choose<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }

    /// The bytes in a few pieces, cut anywhere, some of them empty.
    pub fn cut<'a>(&mut self, bytes: &'a [u8]) -> Vec<&'a [u8]> {
        let mut places: Vec<usize> =
            (0..1 + self.below(6)).map(|_| self.below(bytes.len() + 1)).chain([0, bytes.len()]).collect();
        places.sort_unstable();
        places.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
    }

    /// Changes, adds, removes or repeats a few bytes.
    pub fn mutate(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..self.below(4) {
            let place = self.below(bytes.len() + 1);
            match self.below(6) {
                0 | 1 if place < bytes.len() => bytes[place] = self.next() as u8,
                2 if place < bytes.len() => bytes[place] ^= 1 << self.below(8),
                3 => bytes.insert(place, self.next() as u8),
                4 => bytes.truncate(place),
                _ => {
                    let end = (place + 1 + self.below(8)).min(bytes.len());
                    let part = bytes[place..end].to_vec();
                    match self.below(2) {
                        0 => drop(bytes.drain(place..end)),
                        _ => drop(bytes.splice(place..place, part)),
                    }
                }
            }
        }
    }
}
