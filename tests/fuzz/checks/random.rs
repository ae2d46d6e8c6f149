//! Random choices that can be made again: changes of bytes, and cuts.

use std::hash::{DefaultHasher, Hasher};

use fastrand::Rng;

/// The same bytes make the same choices.
pub fn of(bytes: &[u8]) -> Rng {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    Rng::with_seed(hasher.finish())
}

/// The bytes in a few pieces, cut anywhere, some of them empty.
pub fn cut<'a>(random: &mut Rng, bytes: &'a [u8]) -> Vec<&'a [u8]> {
    let mut places: Vec<usize> = (0..random.usize(1..=6)).map(|_| random.usize(..=bytes.len())).collect();
    places.extend([0, bytes.len()]);
    places.sort_unstable();
    places.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
}

/// Changes, adds, removes or repeats a few bytes.
pub fn mutate(random: &mut Rng, bytes: &mut Vec<u8>) {
    for _ in 0..random.usize(..4) {
        let place = random.usize(..=bytes.len());
        match random.usize(..6) {
            0 | 1 if place < bytes.len() => bytes[place] = random.u8(..),
            2 if place < bytes.len() => bytes[place] ^= 1 << random.usize(..8),
            3 => bytes.insert(place, random.u8(..)),
            4 => bytes.truncate(place),
            _ => {
                let end = (place + random.usize(1..=8)).min(bytes.len());
                let part = bytes[place..end].to_vec();
                match random.bool() {
                    true => drop(bytes.drain(place..end)),
                    false => drop(bytes.splice(place..place, part)),
                }
            }
        }
    }
}
