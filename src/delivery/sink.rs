//! What the flush needs from outside: sockets and the sequencer in the daemon, a model of both in the simulation.

use std::io::{self, IoSlice};

use crate::delivery::keys::WatcherKey;
use crate::stream::link::Arrival;

pub trait Sink {
    /// Writes to a watcher's socket without blocking; may take less than all.
    fn write(&mut self, watcher: WatcherKey, bytes: &[u8]) -> io::Result<usize>;

    fn write_vectored(&mut self, watcher: WatcherKey, slices: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Puts `bytes` bytes where [`Sink::write_staged`] sends them from without a copy per socket. False: it cannot, and
    /// they have to be written.
    fn stage(&mut self, slices: &[IoSlice<'_>], bytes: usize) -> bool;

    /// Writes what was staged last.
    fn write_staged(&mut self, watcher: WatcherKey) -> io::Result<usize>;

    /// CPU time of this thread so far, in nanoseconds.
    fn cpu_nanos(&mut self) -> u64;

    /// The newest number that watchers may see.
    fn published(&mut self) -> u64;

    /// A watcher is about to begin in the past: the history drops nothing before the end of this turn (`overrun =
    /// wait`).
    fn hold_history(&mut self);

    /// The next batch that the sequencer has handed to this shard.
    fn next_arrival(&mut self) -> Option<Arrival>;

    /// Whether the shard has to look after its sockets again.
    fn is_time_up(&mut self) -> bool;
}
