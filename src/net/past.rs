//! The thread of the past ([`crate::stream::past`]): it makes passes over the shared stream for watchers that ask for more
//! than memory has. Without such watchers it sleeps.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mio::{Events, Poll};

use crate::net::clock::Clock;
use crate::net::ingest::handle::IngestWaker;
use crate::net::passes::Passes;
use crate::stream::past::Past;

/// What shards know of the thread.
#[derive(Clone)]
pub struct PastHandle {
    pub past: Arc<Past>,
    /// Wakes it.
    pub waker: Arc<IngestWaker>,
}

pub struct PastThread {
    pub poll: Poll,
    pub clock: Clock,
    pub passes: Passes,
    pub is_stopping: Arc<AtomicBool>,
}

impl PastThread {
    /// Runs until `is_stopping` is set.
    ///
    /// # Errors
    /// There is no thread to be had for a pass.
    pub fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(8);
        while !self.is_stopping.load(Ordering::Acquire) {
            match self.poll.poll(&mut events, self.passes.until_look()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                result => result?,
            }
            self.passes.begin_turn(self.clock.read().now)?;
            while self.passes.step() {}
        }
        Ok(())
    }
}
