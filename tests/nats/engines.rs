//! Publishers that go on until all their lines are in the stream, through whichever daemon takes them.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::Value;

use crate::harness::{PATIENCE, wait_until};
use crate::watchers::Places;

/// It moves to another daemon after so many portions.
const PORTIONS: u64 = 25;
const LINES_MAX: u64 = 12;
/// Between two portions, so that an outage of seconds meets some thousands of events and no more.
const PAUSE: Duration = Duration::from_millis(15);

pub struct Engine {
    pub name: String,
    accepted: Arc<AtomicU64>,
    is_over: Arc<AtomicBool>,
    /// The test has failed: nobody waits for the rest.
    has_failed: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Engine {
    /// Begins to publish lines 1, 2, 3 under this name, with `dedupe`.
    pub fn start(name: &str, places: Places<PathBuf>) -> Self {
        let accepted = Arc::new(AtomicU64::new(0));
        let (is_over, has_failed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let parts = Run {
            name: name.to_owned(),
            places,
            accepted: accepted.clone(),
            is_over: is_over.clone(),
            has_failed: has_failed.clone(),
        };
        let thread = Some(thread::spawn(move || parts.run()));
        Self { name: name.to_owned(), accepted, is_over, has_failed, thread }
    }

    /// How many lines are acknowledged.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Waits until some more are.
    pub fn wait_for_progress(&self) {
        let before = self.accepted();
        wait_until(&format!("{} goes on behind line {before}", self.name), || {
            self.accepted() > before + LINES_MAX
        });
    }

    /// Ends it once all that it wrote is acknowledged; returns how many lines that are.
    pub fn end(mut self) -> u64 {
        self.join();
        self.accepted()
    }

    fn join(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        self.has_failed.store(thread::panicking(), Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let result = thread.join();
            assert!(result.is_ok() || thread::panicking());
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.join();
    }
}

/// The line of a publisher with this number.
pub fn line(name: &str, number: u64) -> String {
    format!("{{\"type\":\"step\",\"job_id\":\"{name}-{}\",\"by\":\"{name}\",\"n\":{number}}}", number % 7)
}

struct Run {
    name: String,
    places: Places<PathBuf>,
    accepted: Arc<AtomicU64>,
    is_over: Arc<AtomicBool>,
    has_failed: Arc<AtomicBool>,
}

impl Run {
    fn run(&self) {
        let mut next = self.name.len();
        // Written, and perhaps not acknowledged.
        let mut written = 0;
        loop {
            let path = {
                let places = self.places.lock();
                next += 1;
                places[next % places.len()].clone()
            };
            let is_done = path.and_then(|path| self.publish(&path, &mut written));
            if is_done == Some(true) || self.has_failed.load(Ordering::Relaxed) {
                return;
            }
            thread::sleep(PAUSE);
        }
    }

    /// Through one daemon for a while. Whether all is done; None: the daemon has gone.
    fn publish(&self, path: &Path, written: &mut u64) -> Option<bool> {
        let mut stream = UnixStream::connect(path).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        stream.set_write_timeout(Some(PATIENCE)).ok()?;
        let mut answers = BufReader::new(stream.try_clone().ok()?);
        writeln!(stream, "{{\"op\":\"hello\",\"publisher\":\"{}\",\"ack\":true,\"dedupe\":true}}", self.name)
            .ok()?;
        let welcome = answer(&mut answers)?;
        assert_eq!(welcome["op"], "welcome", "{welcome}");
        let mut accepted = welcome["accepted"].as_u64().expect("a number");
        self.pass(accepted, *written);
        for _ in 0..PORTIONS {
            let is_over = self.is_over.load(Ordering::Relaxed);
            if is_over && accepted == *written {
                return Some(true);
            }
            if !is_over {
                *written = (*written).max(accepted + fastrand::u64(1..=LINES_MAX));
            }
            let lines: String =
                (accepted + 1..=*written).map(|number| line(&self.name, number) + "\n").collect();
            stream.write_all(lines.as_bytes()).ok()?;
            while accepted < *written {
                let answer = answer(&mut answers)?;
                assert_eq!(answer["op"], "ack", "{answer}");
                accepted = answer["line"].as_u64().expect("a number");
            }
            self.pass(accepted, *written);
            thread::sleep(PAUSE);
        }
        Some(false)
    }

    fn pass(&self, accepted: u64, written: u64) {
        let before = self.accepted.load(Ordering::Relaxed);
        assert!(before <= accepted, "{}: {accepted} lines are in the stream, of {before} before", self.name);
        assert!(accepted <= written, "{}: line {accepted} was not written yet", self.name);
        self.accepted.store(accepted, Ordering::Relaxed);
    }
}

/// None: the daemon has ended.
fn answer(answers: &mut BufReader<UnixStream>) -> Option<Value> {
    let mut text = String::new();
    match answers.read_line(&mut text) {
        Ok(1..) => Some(serde_json::from_str(&text).expect("answers are JSON")),
        _ => None,
    }
}
