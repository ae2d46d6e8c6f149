//! What the flush of a shard meets outside: its sockets, and all others, who do something whenever they can.

use std::cell::RefCell;
use std::io::{self, IoSlice};

use luxcast::delivery::keys::WatcherKey;
use luxcast::delivery::sink::Sink;
use luxcast::stream::link::{Arrival, Inlet};

use super::others::Others;
use super::socket::{Client, Socket};

/// Calls of the sink in one turn, at most: a turn with more never ends.
const CALLS_MAX: usize = 200_000;

/// Slices of one write, at most (`IOV_MAX` of Linux).
const SLICES_MAX: usize = 1024;

pub struct Port<'a, C: Client> {
    others: &'a RefCell<C::Others>,
    inlet: &'a Inlet,
    sockets: &'a mut [Option<Socket<C>>],
    staged: Vec<u8>,
    calls: usize,
    /// The last answer to [`Sink::published`].
    pub newest: u64,
}

impl<'a, C: Client> Port<'a, C> {
    pub fn new(
        others: &'a RefCell<C::Others>,
        inlet: &'a Inlet,
        sockets: &'a mut [Option<Socket<C>>],
    ) -> Self {
        Self { others, inlet, sockets, staged: Vec::new(), calls: 0, newest: 0 }
    }

    fn pass(&mut self) {
        self.calls += 1;
        assert!(self.calls < CALLS_MAX, "a turn that never ends");
        self.others.borrow_mut().interleave();
    }

    fn take(&mut self, key: WatcherKey, slices: &[&[u8]]) -> io::Result<usize> {
        self.pass();
        let socket = self.sockets[key.index()].as_mut().expect("only a watcher's socket is written to");
        let result = socket.take(slices, &mut self.others.borrow_mut());
        self.pass();
        result
    }
}

impl<C: Client> Sink for Port<'_, C> {
    fn write(&mut self, watcher: WatcherKey, bytes: &[u8]) -> io::Result<usize> {
        self.take(watcher, &[bytes])
    }

    fn write_vectored(&mut self, watcher: WatcherKey, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        assert!(slices.len() <= SLICES_MAX);
        let slices: Vec<&[u8]> = slices.iter().map(|slice| &**slice).collect();
        self.take(watcher, &slices)
    }

    fn stage(&mut self, slices: &[IoSlice<'_>], bytes: usize) -> bool {
        self.pass();
        let others = &mut *self.others.borrow_mut();
        let stage_percent = others.sockets().stage_percent;
        let can = others.rng().chance(stage_percent);
        if can {
            self.staged = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
            assert_eq!(self.staged.len(), bytes);
        }
        can
    }

    fn write_staged(&mut self, watcher: WatcherKey) -> io::Result<usize> {
        let staged = std::mem::take(&mut self.staged);
        let result = self.take(watcher, &[&staged]);
        self.staged = staged;
        result
    }

    fn cpu_nanos(&mut self) -> u64 {
        // Either method may seem cheaper at any time.
        self.others.borrow_mut().rng().below(1_000_000) as u64
    }

    fn published(&mut self) -> u64 {
        self.pass();
        self.newest = self.others.borrow().published();
        self.pass();
        self.newest
    }

    fn hold_history(&mut self) {
        self.inlet.link.hold();
        self.pass();
    }

    fn next_arrival(&mut self) -> Option<Arrival> {
        self.pass();
        self.inlet.next()
    }

    fn is_time_up(&mut self) -> bool {
        self.pass();
        let others = &mut *self.others.borrow_mut();
        let time_up_percent = others.sockets().time_up_percent;
        others.rng().chance(time_up_percent)
    }
}
