//! The daemon's data path in one thread, without sockets and clocks.

use std::io::{self, IoSlice};
use std::sync::Arc;

use luxcast::delivery::filter::Filter;
use luxcast::delivery::keys::WatcherKey;
use luxcast::delivery::sink::Sink;
use luxcast::delivery::watchers::{WatchRequest, Watchers};
use luxcast::stream::directory::Directory;
use luxcast::stream::link::{Arrival, Inlet, link};
use luxcast::stream::now::Now;
use luxcast::stream::numbers::SEQ_MIN;
use luxcast::stream::sequencer::{Limits, Sequencer, Step, Taken};
use luxcast::stream::topic::TopicKind;
use luxcast::wire::client_action::Since;
use luxcast::wire::framing::Framing;
use luxcast::wire::line::PADDING;
use luxcast::wire::stamp::Stamp;

/// Lines or frames of one run, unless a piece says otherwise.
pub const COUNT: usize = 1_000;

/// Watchers, unless a piece says otherwise.
pub const WATCHERS: usize = 10_000;

/// Events of real jobs, one a line.
const CORPUS: &str = include_str!("../../tests/fixtures/events.ndjson");

pub fn corpus() -> impl Iterator<Item = &'static [u8]> {
    CORPUS.lines().map(str::as_bytes)
}

/// The first events of one type.
pub fn corpus_of(kind: &str) -> Vec<Vec<u8>> {
    let start = format!(r#"{{"type": "{kind}""#);
    let lines = corpus().filter(|line| line.starts_with(start.as_bytes()));
    lines.take(COUNT).map(<[u8]>::to_vec).collect()
}

/// A line of `bytes` bytes. With 226 its frame has 260, as in all figures of the project.
pub fn usual_line(kind: &str, job: &str, bytes: usize) -> Vec<u8> {
    let start = format!(r#"{{"type":"{kind}","job_id":"{job}","data":{{"x":""#);
    format!("{start}{}\"}}}}", "x".repeat(bytes - start.len() - 3)).into_bytes()
}

pub const USUAL_BYTES: usize = 226;

/// Sockets that take everything and count the writes.
pub struct Counter {
    inlet: Inlet,
    directory: Arc<Directory>,
    staged: usize,
    pub writes: u64,
}

impl Counter {
    fn take(&mut self, bytes: usize) -> io::Result<usize> {
        self.writes += 1;
        Ok(bytes)
    }
}

impl Sink for Counter {
    fn write(&mut self, _: WatcherKey, bytes: &[u8]) -> io::Result<usize> {
        self.take(bytes.len())
    }

    fn write_vectored(&mut self, _: WatcherKey, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.take(slices.iter().map(|slice| slice.len()).sum())
    }

    fn stage(&mut self, _: &[IoSlice<'_>], bytes: usize) -> bool {
        self.staged = bytes;
        true
    }

    fn write_staged(&mut self, _: WatcherKey) -> io::Result<usize> {
        self.take(self.staged)
    }

    fn cpu_nanos(&mut self) -> u64 {
        0
    }

    fn published(&mut self) -> u64 {
        self.directory.published()
    }

    fn hold_history(&mut self) {}

    fn next_arrival(&mut self) -> Option<Arrival> {
        self.inlet.next()
    }

    fn is_time_up(&mut self) -> bool {
        false
    }
}

pub struct Rig<O = Counter> {
    directory: Arc<Directory>,
    pub sequencer: Sequencer,
    pub watchers: Watchers,
    pub sink: O,
    /// The lines that a turn takes in.
    pub lines: Vec<Vec<u8>>,
    /// The same as read from a publisher's socket, each line with its padding; parsing edits it.
    block: Vec<u8>,
    now: Now,
}

impl Rig {
    pub fn new(history_bytes: usize, lines: Vec<Vec<u8>>) -> Self {
        Self::over(history_bytes, lines, |inlet, directory| Counter {
            inlet,
            directory,
            staged: 0,
            writes: 0,
        })
    }
}

impl<O: Sink> Rig<O> {
    /// A rig that writes into what `sink` makes.
    pub fn over(
        history_bytes: usize,
        lines: Vec<Vec<u8>>,
        sink: impl FnOnce(Inlet, Arc<Directory>) -> O,
    ) -> Self {
        let directory = Arc::new(Directory::new(SEQ_MIN, 100_000));
        let (link, inlet) = link();
        let limits = Limits {
            history_bytes,
            history_millis: 600_000,
            job_idle_millis: 86_400_000,
            metrics_millis: 5_000,
            jobs_max: 100_000,
            depth_max: 64,
        };
        Self {
            sequencer: Sequencer::new(directory.clone(), vec![link], limits),
            watchers: Watchers::new(0, directory.clone()),
            sink: sink(inlet, directory.clone()),
            block: vec![0; lines.iter().map(|line| line.len() + PADDING).sum()],
            lines,
            now: Now { millis: 1, unix_micros: 1_800_000_000_000_000 },
            directory,
        }
    }

    /// Reads the lines again.
    pub fn read(&mut self) {
        let mut rest = &mut self.block[..];
        for line in &self.lines {
            rest[..line.len()].copy_from_slice(line);
            rest = &mut rest[line.len() + PADDING..];
        }
    }

    /// Sequences the lines that were read, `count` per turn, each turn published to its end. Returns how many there
    /// are.
    pub fn sequence(&mut self, count: usize) -> u64 {
        let before = self.sequencer.events();
        let mut rest = &mut self.block[..];
        for turn in self.lines.chunks(count) {
            self.now.millis += 1;
            self.now.unix_micros += 1_000;
            self.sequencer.begin_turn(self.now, turn.iter().map(|line| line.len() + 1).sum());
            for line in turn {
                let (block, behind) = rest.split_at_mut(line.len() + PADDING);
                rest = behind;
                let taken = self.sequencer.take_line(block, line.len());
                assert!(matches!(taken, Ok(Taken::Event(_))), "{}", String::from_utf8_lossy(line));
            }
            self.sequencer.end_turn();
            while self.sequencer.step() != Step::Done {}
        }
        self.watchers.now = Stamp::from_unix_millis(self.now.unix_micros / 1000);
        self.sequencer.events() - before
    }

    /// Reads and publishes all lines in one turn.
    pub fn publish(&mut self) {
        self.read();
        self.sequence(self.lines.len());
    }

    pub fn is_evicting(&self) -> bool {
        self.directory.all.log.lock().base() > 0
    }

    pub fn watch(&mut self, kind: TopicKind, name: &str, events: Option<&str>, since: Since) -> WatcherKey {
        let key = self.watchers.add();
        let filter = Filter::all(false, false);
        let filter = match events {
            None => filter,
            Some(names) => filter.only(&[names.to_owned()]).expect("one name"),
        };
        let directory = self.directory.clone();
        let wish = WatchRequest { kind, name, filter, since, framing: Framing::WebSocket };
        let watched = self.watchers.watch(key, wish, |_| (), || directory.published(), |_, _, _, _| ());
        watched.expect("there is room for topics");
        key
    }

    pub fn watch_jobs(&mut self, names: &[String]) {
        let key = self.watchers.add();
        self.watchers.watch_many(key, Filter::all(false, true), Framing::WebSocket);
        let directory = self.directory.clone();
        for name in names {
            let subscribed =
                self.watchers.subscribe_job(key, name, Since::Now, || directory.published(), |_, _| ());
            subscribed.expect("there is room for topics");
        }
    }

    /// Flushes until no watcher has anything left to get. Returns how many messages were delivered.
    pub fn flush(&mut self) -> u64 {
        let before = self.watchers.counts.messages;
        self.watchers.flush(&mut self.sink);
        while self.watchers.is_busy() {
            self.watchers.flush(&mut self.sink);
        }
        self.watchers.counts.messages - before
    }
}
