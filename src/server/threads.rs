//! The threads of the daemon: how each begins and ends.

use std::io;
use std::thread::{self, JoinHandle};

/// Stacks: shards and ingest call nothing deep but the JSON parser, which is bounded.
const STACK_BYTES: usize = 512 << 10;

pub(super) type Handle<T> = JoinHandle<io::Result<T>>;

/// Starts a thread of the daemon. One that cannot go on ends the program.
pub(super) fn spawn<T: Send + 'static>(
    name: String,
    run: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<Handle<T>> {
    thread::Builder::new().name(name).stack_size(STACK_BYTES).spawn(move || {
        let result = run();
        if let Err(error) = &result {
            // Half a server would deceive its users.
            panic!("a thread of the daemon cannot go on: {error}");
        }
        result
    })
}

/// What a thread has left at its end.
pub(super) fn join<T>(thread: Handle<T>) -> io::Result<T> {
    thread.join().unwrap_or_else(|_| Err(io::Error::other("a thread of the daemon panicked")))
}
