//! The thread of the past, as it is started with the daemon (`bus`).

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mio::{Poll, Token, Waker};

use crate::config::Config;
use crate::metrics::Counters;
use crate::net::clock::Clock;
use crate::net::ingest::handle::IngestWaker;
use crate::net::passes::{PassParts, Passes};
use crate::net::past::{PastHandle, PastThread};
use crate::net::shard::handle::ShardHandle;
use crate::server::shared::{Joined, start_pass};
use crate::server::threads::{ThreadHandle, spawn};
use crate::stream::directory::Directory;

/// What there is of it before it runs.
pub(super) struct PastStart {
    poll: Poll,
    clock: Clock,
    handle: PastHandle,
    make: Box<dyn FnOnce(Vec<ShardHandle>) -> PassParts>,
}

impl PastStart {
    /// None: `bus_replay_bytes` is 0.
    pub fn new(
        config: &Config,
        joined: &Joined,
        directory: Arc<Directory>,
        counters: Arc<Counters>,
        clock: Clock,
    ) -> io::Result<Option<Self>> {
        if config.bus_replay_bytes == 0 {
            return Ok(None);
        }
        let poll = Poll::new()?;
        let waker = Arc::new(IngestWaker::new(Waker::new(poll.registry(), Token(0))?, 0));
        let handle = PastHandle { past: Arc::default(), waker };
        let epochs = joined.epochs().clone();
        handle.past.open(epochs.number(1, 0).expect("epochs have a first number"));
        let (of_passes, of_thread) = (config.clone(), handle.clone());
        let make = move |shards: Vec<ShardHandle>| PassParts {
            past: of_thread.past,
            directory,
            counters,
            window_bytes: of_passes.bus_past_bytes,
            line_bytes_max: of_passes.line_bytes_max,
            depth_max: of_passes.depth_max,
            connect: Box::new(move |message| start_pass(&of_passes, message, &of_thread.waker, clock)),
            wake_shard: Box::new(move |shard| shards.get(shard).into_iter().for_each(ShardHandle::wake)),
            epochs,
        };
        Ok(Some(Self { poll, clock, handle, make: Box::new(make) }))
    }

    pub fn handle(&self) -> &PastHandle {
        &self.handle
    }

    /// Starts the thread. It wakes these shards.
    pub fn run(self, shards: Vec<ShardHandle>) -> io::Result<RunningPast> {
        let Self { poll, clock, handle, make } = self;
        let is_stopping = Arc::new(AtomicBool::new(false));
        let passes = Passes::new(make(shards));
        let past = PastThread { poll, clock, passes, is_stopping: is_stopping.clone() };
        let thread = spawn("past".to_owned(), move || past.run())?;
        Ok(RunningPast { thread, waker: handle.waker, is_stopping })
    }
}

/// The thread.
pub(super) struct RunningPast {
    thread: ThreadHandle<()>,
    waker: Arc<IngestWaker>,
    is_stopping: Arc<AtomicBool>,
}

impl RunningPast {
    /// Lets it end. All shards have ended.
    pub fn stop(self) -> ThreadHandle<()> {
        self.is_stopping.store(true, Ordering::Release);
        self.waker.wake();
        self.thread
    }
}
