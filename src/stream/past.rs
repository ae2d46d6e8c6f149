//! The past beyond memory: a second, small history that slides over a stream which daemons share (`bus`), for watchers
//! that ask for more than this daemon has.
//!
//! One thread fills it, in passes over the stream. All shards read from it, so many watchers cost one pass. Each shard says
//! what its watchers need of it; the pass drops nothing that one of them is about to read, unless others starve meanwhile.
//! Whoever stands before what is there waits for the next pass.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::stream::directory::Directory;

/// What one pass has of the stream now.
pub struct Window {
    /// Counts the passes.
    pub pass: u64,
    /// The pass was made for watchers that stand behind this number, or a greater one.
    pub asked: u64,
    /// It begins behind this one: what is between the two could not be had.
    pub begins: u64,
    /// What is between the two is of a part of the stream that is another one now.
    pub is_restart: bool,
    pub directory: Arc<Directory>,
    /// All that the stream has up to this number is in the directory.
    pub complete_to: AtomicU64,
}

impl Window {
    /// It can be read up to this number.
    pub fn tail(&self) -> u64 {
        // The other way round, an event could come between the two.
        let complete_to = self.complete_to.load(Ordering::SeqCst);
        self.directory.published().max(complete_to)
    }

    /// It has, or will have, all that can be had behind this number and each greater one.
    pub fn covered_from(&self) -> u64 {
        let whole_from = self.directory.whole_from();
        if whole_from <= self.begins { self.asked } else { whole_from.max(self.asked) }
    }
}

/// What the watchers of one shard need of the past.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Demand {
    /// The pass that was looked at; 0: there was none.
    pub pass: u64,
    /// The lowest number that a watcher stands at which the pass does not cover.
    pub waiting: Option<u64>,
    /// The lowest of those that it covers.
    pub reading: Option<u64>,
    /// Somebody has room, and there is nothing to send.
    pub is_starving: bool,
    /// How many they are.
    pub watchers: u64,
}

impl Demand {
    /// What both need together.
    pub fn and(self, other: Self) -> Self {
        let lower = |one: Option<u64>, other: Option<u64>| one.into_iter().chain(other).min();
        Self {
            // Who needs nothing has nothing to look at.
            pass: if self.watchers > 0 && other.watchers > 0 {
                self.pass.min(other.pass)
            } else {
                self.pass.max(other.pass)
            },
            waiting: lower(self.waiting, other.waiting),
            reading: lower(self.reading, other.reading),
            is_starving: self.is_starving || other.is_starving,
            watchers: self.watchers + other.watchers,
        }
    }
}

/// What shards and the thread of the past share.
#[derive(Default)]
pub struct Past {
    /// The least number that the stream can have; 0: there is no past beyond memory.
    first: AtomicU64,
    window: Mutex<Option<Arc<Window>>>,
    /// Grows whenever there is more to read, or another window.
    moves: AtomicU64,
    /// By shard.
    demands: Mutex<Vec<Demand>>,
}

impl Past {
    /// From now on the past can be had, from the number `first` on.
    pub fn open(&self, first: u64) {
        self.first.store(first, Ordering::SeqCst);
    }

    /// The least number that can be asked for. None: memory is all there is.
    pub fn first(&self) -> Option<u64> {
        Some(self.first.load(Ordering::SeqCst)).filter(|first| *first > 0)
    }

    /// What can be read now.
    pub fn window(&self) -> Option<Arc<Window>> {
        self.window.lock().clone()
    }

    /// A pass begins, or there is none any more.
    pub fn set_window(&self, window: Option<Arc<Window>>) {
        *self.window.lock() = window;
        self.note_move();
    }

    /// There is more to read than before.
    pub fn note_move(&self) {
        self.moves.fetch_add(1, Ordering::SeqCst);
    }

    pub fn moves(&self) -> u64 {
        self.moves.load(Ordering::SeqCst)
    }

    /// What a shard's watchers need now.
    pub fn report(&self, shard: usize, demand: Demand) {
        let mut demands = self.demands.lock();
        if demands.len() <= shard {
            demands.resize(shard + 1, Demand::default());
        }
        demands[shard] = demand;
    }

    /// What all of them need.
    pub fn demand(&self) -> Demand {
        self.demands.lock().iter().fold(Demand::default(), |all, one| all.and(*one))
    }

    /// The shards whose watchers need something.
    pub fn shards(&self) -> Vec<usize> {
        let demands = self.demands.lock();
        (0..demands.len()).filter(|&shard| demands[shard].watchers > 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicU64;

    use super::{Demand, Past, Window};
    use crate::stream::directory::Directory;
    use crate::stream::numbers::SEQ_MIN;

    #[test]
    fn a_window_covers_whom_it_was_made_for() {
        let covered_from = |asked, begins, whole_from| {
            let window = Window {
                pass: 1,
                asked: SEQ_MIN + asked,
                begins: SEQ_MIN + begins,
                is_restart: false,
                directory: Arc::new(Directory::new(SEQ_MIN + whole_from, 10)),
                complete_to: AtomicU64::new(SEQ_MIN + 7),
            };
            assert_eq!(window.tail(), SEQ_MIN + whole_from);
            window.covered_from() - SEQ_MIN
        };
        assert_eq!(covered_from(10, 10, 10), 10);
        assert_eq!(covered_from(10, 20, 20), 10, "up to 20 it tells of a gap");
        assert_eq!(covered_from(10, 20, 30), 30, "it has gone on");
    }

    #[test]
    fn what_shards_need_is_what_the_neediest_needs() {
        let past = Past::default();
        assert_eq!(past.demand(), Demand::default());
        let reading = Demand { pass: 2, reading: Some(7), watchers: 3, ..Demand::default() };
        past.report(1, reading);
        assert_eq!((past.demand(), past.shards()), (reading, vec![1]));
        let waiting =
            Demand { pass: 1, waiting: Some(5), is_starving: true, watchers: 1, ..Demand::default() };
        past.report(0, waiting);
        let all = Demand { pass: 1, waiting: Some(5), reading: Some(7), is_starving: true, watchers: 4 };
        assert_eq!(past.demand(), all);
        past.report(0, Demand::default());
        assert_eq!(past.demand(), reading);
    }
}
