//! Half lines: the received part of a line whose end has not come. A short one is always held. A long one needs one of
//! a bounded number of places; a publisher without a place is not read until one is free.

use std::collections::VecDeque;

use crate::net::ingest::publisher::{SHORT_REST_MAX, Source};

/// The share of `history_bytes` for long half lines: one eighth for those of publishers on the socket, and as much for
/// those of requests over HTTP. Each counts with the greatest length of a line. There is at least one place for either.
const SHARE_OF_HISTORY: usize = 8;

/// While others wait for a place, a long half line that has not grown for this long is given up. A publisher usually
/// writes a line at once, so its bytes wait in the socket. One that stops within a line must not stop the others.
pub const PATIENCE_MILLIS: u64 = 500;

/// The places of publishers of one kind.
pub struct Places {
    places_max: usize,
    /// Publishers with a place; `holders.len() <= places_max`.
    holders: Vec<usize>,
    /// Publishers that wait for a place, first come, first served.
    parked: VecDeque<usize>,
}

impl Places {
    fn new(places_max: usize) -> Self {
        Self { places_max, holders: Vec::new(), parked: VecDeque::new() }
    }

    pub fn has_room(&self) -> bool {
        self.holders.len() < self.places_max
    }

    pub fn has_parked(&self) -> bool {
        !self.parked.is_empty()
    }

    pub fn holders(&self) -> &[usize] {
        &self.holders
    }

    pub fn parked(&self) -> impl Iterator<Item = usize> {
        self.parked.iter().copied()
    }

    /// Takes a place. One must be free.
    pub fn take_place(&mut self, key: usize) {
        assert!(self.has_room(), "a place is free");
        self.holders.push(key);
    }

    pub fn free_place(&mut self, key: usize) {
        let index = self.holders.iter().position(|&holder| holder == key).expect("it has a place");
        self.holders.swap_remove(index);
    }

    pub fn park(&mut self, key: usize) {
        self.parked.push_back(key);
    }

    /// Gives a free place to the publisher that has waited longest, and returns that publisher.
    pub fn unpark(&mut self) -> Option<usize> {
        let key = if self.has_room() { self.parked.pop_front()? } else { return None };
        self.take_place(key);
        Some(key)
    }

    /// Removes a publisher that has ended, or needs no place any more.
    pub fn forget_parked(&mut self, key: usize) {
        self.parked.retain(|&parked| parked != key);
    }
}

/// Whoever stops within a line over HTTP takes no place from publishers on the socket.
pub struct HalfLines {
    of_sockets: Places,
    of_requests: Places,
    /// The capacity of all buffers of half lines.
    bytes: usize,
}

impl HalfLines {
    pub fn new(history_bytes: usize, line_bytes_max: usize) -> Self {
        let places_max = (history_bytes / SHARE_OF_HISTORY / (line_bytes_max + SHORT_REST_MAX)).max(1);
        Self { of_sockets: Places::new(places_max), of_requests: Places::new(places_max), bytes: 0 }
    }

    /// The places that a publisher from there uses.
    pub fn of(&self, source: &Source) -> &Places {
        match source {
            Source::Socket(_) => &self.of_sockets,
            Source::Posted(_) => &self.of_requests,
        }
    }

    pub fn of_mut(&mut self, source: &Source) -> &mut Places {
        match source {
            Source::Socket(_) => &mut self.of_sockets,
            Source::Posted(_) => &mut self.of_requests,
        }
    }

    pub fn each(&self) -> [&Places; 2] {
        [&self.of_sockets, &self.of_requests]
    }

    pub fn has_parked(&self) -> bool {
        self.each().into_iter().any(Places::has_parked)
    }

    /// [`Places::unpark`] of either kind.
    pub fn unpark(&mut self) -> Option<usize> {
        self.of_sockets.unpark().or_else(|| self.of_requests.unpark())
    }

    /// Counts a change in a buffer's capacity.
    pub fn note_capacity(&mut self, before: usize, after: usize) {
        self.bytes = self.bytes + after - before;
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::{HalfLines, Places};

    #[test]
    fn places_are_bounded_and_given_in_turn() {
        assert_eq!(HalfLines::new(256 << 20, 1_000_000).of_sockets.places_max, 33);
        let half_lines = HalfLines::new(65_536, 8_192);
        assert_eq!(half_lines.each().map(|places| places.places_max), [1, 1], "there is always one place");
        let mut places = Places::new(1);
        places.take_place(7);
        places.park(8);
        places.park(9);
        assert_eq!(places.unpark(), None);
        places.free_place(7);
        assert_eq!((places.unpark(), places.unpark()), (Some(8), None));
        places.forget_parked(9);
        places.free_place(8);
        assert_eq!((places.unpark(), places.has_room()), (None, true));
    }
}
