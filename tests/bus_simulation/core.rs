//! What one daemon makes of the stream: its real sequencer, which gets its numbers from there, and its real watchers.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{self, ErrorKind, IoSlice};
use std::sync::Arc;

use luxcast::access::rights::Permit;
use luxcast::delivery::keys::WatcherKey;
use luxcast::delivery::sink::Sink;
use luxcast::delivery::watchers::Watchers;
use luxcast::session::context::SessionContext;
use luxcast::session::conversation::Session;
use luxcast::session::endpoint::{Endpoint, Opening};
use luxcast::session::limits::SessionLimits;
use luxcast::stream::directory::Directory;
use luxcast::stream::link::{Arrival, Inlet, link};
use luxcast::stream::now::Now;
use luxcast::stream::sequencer::{Limits, Sequencer, Step, Taken};
use luxcast::stream::told::Flow;
use luxcast::stream::topic::TopicKind;
use luxcast::wire::client_action::Since;
use luxcast::wire::framing::Framing;
use luxcast::wire::line::PADDING;

/// Bytes that a socket takes at once, so that some frames come in two parts.
const WRITE_BYTES_MAX: usize = 700;

/// The flows of events, by number.
pub type Placed = BTreeMap<u64, BTreeSet<String>>;

struct Socket {
    session: Option<Session>,
    received: Vec<u8>,
    is_full: bool,
}

pub struct Core {
    directory: Arc<Directory>,
    sequencer: Sequencer,
    watchers: Watchers,
    inlet: Inlet,
    sockets: HashMap<WatcherKey, Socket>,
}

struct Port<'a> {
    directory: &'a Directory,
    inlet: &'a Inlet,
    sockets: &'a mut HashMap<WatcherKey, Socket>,
}

impl Port<'_> {
    fn take(&mut self, key: WatcherKey, slices: &[&[u8]]) -> io::Result<usize> {
        let socket = self.sockets.get_mut(&key).expect("each watcher has a socket");
        if socket.is_full {
            return Err(ErrorKind::WouldBlock.into());
        }
        let before = socket.received.len();
        for slice in slices {
            let room = WRITE_BYTES_MAX - (socket.received.len() - before);
            socket.received.extend_from_slice(&slice[..slice.len().min(room)]);
        }
        let taken = socket.received.len() - before;
        // Who is sent more than it takes at once pauses.
        socket.is_full = taken == WRITE_BYTES_MAX;
        Ok(taken)
    }
}

impl Sink for Port<'_> {
    fn write(&mut self, watcher: WatcherKey, bytes: &[u8]) -> io::Result<usize> {
        self.take(watcher, &[bytes])
    }

    fn write_vectored(&mut self, watcher: WatcherKey, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let slices: Vec<&[u8]> = slices.iter().map(|slice| &**slice).collect();
        self.take(watcher, &slices)
    }

    fn stage(&mut self, _: &[IoSlice<'_>], _: usize) -> bool {
        false
    }

    fn write_staged(&mut self, _: WatcherKey) -> io::Result<usize> {
        panic!("nothing is staged")
    }

    fn cpu_nanos(&mut self) -> u64 {
        0
    }

    fn published(&mut self) -> u64 {
        self.directory.published()
    }

    fn hold_history(&mut self) {
        self.inlet.link.hold();
    }

    fn next_arrival(&mut self) -> Option<Arrival> {
        self.inlet.next()
    }

    fn is_time_up(&mut self) -> bool {
        false
    }
}

macro_rules! port {
    ($core:ident) => {
        &mut Port { directory: &$core.directory, inlet: &$core.inlet, sockets: &mut $core.sockets }
    };
}

macro_rules! context {
    ($core:ident, $key:expr) => {
        &mut SessionContext {
            key: $key,
            watchers: &mut $core.watchers,
            sink: port!($core),
            limits: &session_limits(),
            tick: 0,
            unix_micros: 0,
        }
    };
}

fn session_limits() -> SessionLimits {
    SessionLimits {
        messages: SessionLimits::message_limits(1 << 20),
        head_bytes_max: 8192,
        messages_per_second: 1_000_000,
        messages_burst: 1_000_000,
        jobs_max: 1000,
        heartbeat: 1000,
        silent_heartbeats: 3,
        handshake: 100,
        stalled: 3_000,
    }
}

impl Core {
    /// What has the numbers up to `run_start` is not here. With more than `jobs_max` jobs, it forgets some.
    pub fn new(run_start: u64, jobs_max: usize) -> Self {
        let limits = Limits {
            history_bytes: 64 << 20,
            history_millis: 1 << 40,
            job_idle_millis: 1 << 40,
            metrics_millis: 0,
            jobs_max,
            depth_max: 8,
        };
        let directory = Arc::new(Directory::new(run_start, 1 << 20));
        let (link, inlet) = link();
        let mut sequencer = Sequencer::new(directory.clone(), vec![link], limits);
        sequencer.is_shared = true;
        Self {
            sequencer,
            watchers: Watchers::new(0, directory.clone()),
            directory,
            inlet,
            sockets: HashMap::new(),
        }
    }

    pub fn run_start(&self) -> u64 {
        self.directory.run_start
    }

    pub fn published(&self) -> u64 {
        self.directory.published()
    }

    /// The flow of a job, as far as it knows.
    pub fn flow_of(&mut self, job: &str) -> Option<Box<str>> {
        self.sequencer.flow_of(job)
    }

    /// Takes the lines of one message, each with its number, and what it says of its jobs' flows. Returns the flows that
    /// the events are in.
    pub fn take(&mut self, now: u64, flows: Vec<Flow>, lines: &[(u64, String)]) -> Placed {
        self.sequencer.tell_flows(flows);
        for (number, line) in lines {
            self.sequencer.begin_at(*number).expect("numbers rise");
            self.sequencer.begin_turn(Now { millis: now, unix_micros: now as i64 * 1_000 }, line.len());
            let mut block = line.clone().into_bytes();
            block.resize(line.len() + PADDING, b' ');
            match self.sequencer.take_line(&mut block, line.len()) {
                Ok(Taken::Event(given)) => assert_eq!(given, *number),
                _ => panic!("not taken: {line}"),
            }
        }
        self.publish();
        self.placed_from(lines.first().map_or(u64::MAX, |line| line.0))
    }

    fn placed_from(&self, first: u64) -> Placed {
        let mut placed = Placed::new();
        let log = self.directory.all.log.lock();
        for handle in log.handles().filter(|handle| handle.batch.first_seq() >= first) {
            for run in handle.batch.runs() {
                let entry = self.sequencer.topic_index.find(run.topic);
                let Some(entry) = entry.filter(|entry| entry.topic.kind == TopicKind::Flow) else { continue };
                for event in run.first..run.first + run.count {
                    let flows = placed.entry(handle.batch.seq(event)).or_default();
                    assert!(flows.insert(entry.topic.name.to_string()), "an event is in a flow once");
                }
            }
        }
        placed
    }

    /// The numbers up to this one are lost.
    pub fn lose_to(&mut self, number: u64) {
        self.sequencer.lose_to(number).expect("numbers rise");
        self.publish();
        assert_eq!(self.sequencer.published(), number);
    }

    fn publish(&mut self) {
        self.sequencer.end_turn();
        while self.sequencer.step() != Step::Done {}
    }

    /// Serves the watchers. Others may have given the numbers up to `newest_possible`.
    pub fn serve(&mut self, newest_possible: u64) {
        self.directory.set_newest_possible(newest_possible);
        self.watchers.flush(port!(self));
        while self.watchers.is_busy() {
            self.watchers.flush(port!(self));
        }
        self.watchers.assert_nobody_forgotten();
        assert!(self.watchers.gone.is_empty(), "no socket breaks");
    }

    /// Lets somebody watch a job, or everything.
    pub fn join(&mut self, job: Option<&str>, since: Since) -> WatcherKey {
        let endpoint = job.map_or(Endpoint::Events, |job| Endpoint::JobMonitor(job.to_owned()));
        let framing = Framing::WebSocket;
        let opening = Opening { endpoint, events: None, since, framing, permit: Permit::Everything };
        let key = self.watchers.add();
        self.sockets.insert(key, Socket { session: None, received: Vec::new(), is_full: false });
        let Ok(session) = Session::open(&opening, context!(self, key), |_| {}) else {
            panic!("there is room")
        };
        self.sockets.get_mut(&key).expect("it was put there").session = Some(session);
        key
    }

    pub fn leave(&mut self, key: WatcherKey) {
        self.watchers.remove(key);
        self.sockets.remove(&key);
    }

    /// Sends it a heartbeat, with its position.
    pub fn beat(&mut self, key: WatcherKey) {
        let session = self.sockets.get_mut(&key).and_then(|socket| socket.session.take());
        let session = session.expect("it has one");
        session.beat(context!(self, key));
        self.sockets.get_mut(&key).expect("it is there").session = Some(session);
    }

    /// The socket has room again.
    pub fn make_room(&mut self, key: WatcherKey) {
        self.sockets.get_mut(&key).expect("it is there").is_full = false;
        self.watchers.handle_writable(key);
    }

    /// Its program reads nothing for a while.
    pub fn fill(&mut self, key: WatcherKey) {
        self.sockets.get_mut(&key).expect("it is there").is_full = true;
    }

    pub fn is_full(&self, key: WatcherKey) -> bool {
        self.sockets[&key].is_full
    }

    /// What the socket took since it was asked last.
    pub fn received(&mut self, key: WatcherKey) -> Vec<u8> {
        std::mem::take(&mut self.sockets.get_mut(&key).expect("it is there").received)
    }

    /// What its watchers can get is what was shown, each event with its number in it, and nothing else.
    pub fn check(&self, shown: &BTreeMap<u64, String>) {
        let log = self.directory.all.log.lock();
        let mut shown = shown.iter();
        for handle in log.handles() {
            for event in 0..handle.batch.len() as u32 {
                let (number, line) = shown.next().expect("no more than was shown");
                let object = format!("{{\"stream_seq\":{number},{}", &line[1..]);
                assert_eq!(String::from_utf8_lossy(handle.batch.object(event)), object);
                assert_eq!(handle.batch.seq(event), *number);
            }
        }
        assert_eq!(shown.next(), None, "all that was shown");
    }
}
