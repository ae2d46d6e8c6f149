//! What every end-to-end test stands on: a real daemon process, real sockets, and waiting for readiness instead
//! of time.

pub mod client;
pub mod daemon;
pub mod deflated;
pub mod feed;
pub mod http_feed;
pub mod http_stream;
pub mod middle;
pub mod oracle;
pub mod stage;
pub mod tls;
pub mod tool;
pub mod transcript;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

pub use client::{Client, Raw};
pub use daemon::{Daemon, Setup, luxcast};
pub use feed::Feed;

/// How long a test waits for what must come. Far more than a loaded machine needs: it only bounds hanging.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A directory for one test, removed with it. Its path is short, since socket paths are bounded.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let name = format!("luxcast-e2e-{}-{}", process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = env::temp_dir().join(name);
        fs::create_dir(&path).expect("the directory for temporary files can be written");
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Waits until `is_so`, and fails naming `what` if it never is.
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < until, "waited in vain: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// An event as the daemon sends it: the publisher's object with the number first.
pub fn numbered(line: &str, stream_seq: u64) -> String {
    format!("{{\"stream_seq\":{stream_seq},{}", line.strip_prefix('{').expect("an object"))
}

/// The number at the start of an event; none for the daemon's own messages.
pub fn seq_of(text: &str) -> Option<u64> {
    let digits = text.strip_prefix("{\"stream_seq\":")?;
    digits[..digits.find(',')?].parse().ok()
}
