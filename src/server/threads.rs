//! Starts and ends the threads of the daemon.

use std::io;
use std::thread::{self, JoinHandle};

/// Stack size. Only the JSON parser recurses, and its depth is bounded.
const STACK_BYTES: usize = 512 << 10;

pub(super) type ThreadHandle<T> = JoinHandle<io::Result<T>>;

/// Starts a thread of the daemon. If it fails, the program ends.
pub(super) fn spawn<T: Send + 'static>(
    name: String,
    run: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<ThreadHandle<T>> {
    thread::Builder::new().name(name).stack_size(STACK_BYTES).spawn(move || {
        let result = run();
        if let Err(error) = &result {
            // A daemon with a missing thread would deceive its users.
            panic!("a thread of the daemon failed: {error}");
        }
        result
    })
}

/// The result of a thread at its end.
pub(super) fn join<T>(thread: ThreadHandle<T>) -> io::Result<T> {
    thread.join().unwrap_or_else(|_| Err(io::Error::other("a thread of the daemon panicked")))
}
