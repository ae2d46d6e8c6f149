//! Tests that nothing is allocated per event or delivery in the steady state. The real sequencer, the real watchers and
//! a null sink run under a counting allocator, from the line read to the bytes handed to the socket. A looser test runs
//! the whole daemon with its sockets.
//!
//! Steady state: buffers have grown to what the load needs, and the history is full and evicts.

use std::alloc::{GlobalAlloc, Layout, System};
use std::backtrace::Backtrace;
use std::cell::Cell;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use std::{fs, thread};

use parking_lot::{RwLock, RwLockReadGuard};

use luxcast::access::address_limits::{AddressCounts, AddressLimits};
use luxcast::config::{Config, HttpPublish, Overrun};
use luxcast::delivery::filter::Filter;
use luxcast::delivery::keys::WatcherKey;
use luxcast::delivery::sink::Sink;
use luxcast::delivery::watchers::{WatchRequest, Watchers};
use luxcast::server::{self, Server};
use luxcast::stream::directory::Directory;
use luxcast::stream::link::{Arrival, Inlet, link};
use luxcast::stream::now::Now;
use luxcast::stream::numbers::SEQ_MIN;
use luxcast::stream::sequencer::{Limits, Sequencer, Step, Taken};
use luxcast::stream::topic::TopicKind;
use luxcast::wire::client_action::Since;
use luxcast::wire::frame;
use luxcast::wire::framing::Framing;
use luxcast::wire::line::PADDING;
use luxcast::wire::stamp::Stamp;
use luxcast::wire::watcher_message;

const FRAMINGS: [Framing; 5] =
    [Framing::WebSocket, Framing::Deflate, Framing::DeflateAlone, Framing::Sse, Framing::Ndjson];

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations of all threads.
static ALL_THREADS: AtomicU64 = AtomicU64::new(0);

/// Tests run side by side in one process. Those that count their own thread's allocations share it. The one that counts
/// all threads has it alone, or it would count what its neighbours allocate to warm up.
static PROCESS: RwLock<()> = RwLock::new(());

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
    /// The next allocation of this thread shows where it comes from.
    static IS_TRAP: Cell<bool> = const { Cell::new(false) };
}

fn note() {
    ALL_THREADS.fetch_add(1, Ordering::Relaxed);
    let count = COUNT.try_with(|count| {
        count.set(count.get() + 1);
        count.get()
    });
    let is_trapped = IS_TRAP.try_with(|is_trap| is_trap.replace(false));
    if let (Ok(count), Ok(true)) = (count, is_trapped) {
        eprintln!("an allocation in the steady state:\n{}", Backtrace::force_capture());
        // What the report allocated does not count.
        COUNT.set(count);
    }
}

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: as the caller promises.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note();
        // SAFETY: as the caller promises.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Allocations of this thread while `work` runs.
fn allocations(work: impl FnOnce()) -> u64 {
    let before = COUNT.get();
    work();
    COUNT.get() - before
}

/// What the sockets do.
#[derive(Clone, Copy, PartialEq)]
enum Sockets {
    TakeAll,
    /// Every third write stops somewhere in the middle of the bytes, every fifth takes nothing.
    TakeParts,
}

/// Sockets that forget what they are given.
struct Null {
    inlet: Inlet,
    directory: Arc<Directory>,
    sockets: Sockets,
    can_stage: bool,
    staged: usize,
    writes: u64,
    bytes: u64,
}

impl Null {
    fn take(&mut self, bytes: usize) -> io::Result<usize> {
        self.writes += 1;
        let taken = match self.sockets {
            Sockets::TakeAll => bytes,
            Sockets::TakeParts if self.writes.is_multiple_of(5) => return Err(ErrorKind::WouldBlock.into()),
            Sockets::TakeParts if self.writes.is_multiple_of(3) => bytes * (self.writes as usize % 7) / 7,
            Sockets::TakeParts => bytes,
        };
        self.bytes += taken as u64;
        Ok(taken)
    }
}

impl Sink for Null {
    fn write(&mut self, _: WatcherKey, bytes: &[u8]) -> io::Result<usize> {
        self.take(bytes.len())
    }

    fn write_vectored(&mut self, _: WatcherKey, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.take(slices.iter().map(|slice| slice.len()).sum())
    }

    fn stage(&mut self, _: &[IoSlice<'_>], bytes: usize) -> bool {
        self.staged = bytes;
        self.can_stage
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

/// The daemon's data path in one thread.
struct Rig {
    directory: Arc<Directory>,
    sequencer: Sequencer,
    watchers: Watchers,
    sink: Null,
    /// The buffer for a publisher's lines.
    block: Vec<u8>,
    now: Now,
    /// Watchers whose sockets were found full.
    laggards: Vec<WatcherKey>,
    /// An allocation in the steady state shows where it comes from.
    is_trapped: bool,
    _shared: RwLockReadGuard<'static, ()>,
}

const HISTORY_BYTES: usize = 4 << 20;

impl Rig {
    fn new(history_bytes: usize) -> Self {
        let shared = PROCESS.read();
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
            sink: Null {
                inlet,
                directory: directory.clone(),
                sockets: Sockets::TakeAll,
                can_stage: true,
                staged: 0,
                writes: 0,
                bytes: 0,
            },
            block: vec![0; 512 << 10],
            now: Now { millis: 1, unix_micros: 1_800_000_000_000_000 },
            laggards: Vec::new(),
            is_trapped: true,
            directory,
            _shared: shared,
        }
    }

    fn watch(&mut self, kind: TopicKind, name: &str, events: Option<&[&str]>) -> WatcherKey {
        let key = self.watchers.add();
        let filter = Filter::all(false, false);
        let filter = match events {
            None => filter,
            Some(names) => {
                let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
                filter.only(&names).expect("few names")
            }
        };
        let framing = FRAMINGS[key.index() % FRAMINGS.len()];
        let request = WatchRequest { kind, name, filter, since: Since::Now, framing };
        let directory = self.directory.clone();
        let watched = self.watchers.watch(key, request, |_| (), || directory.published(), |_, _, _, _| ());
        watched.expect("there is room for topics");
        key
    }

    fn watch_jobs(&mut self, names: impl Iterator<Item = String>) -> WatcherKey {
        let key = self.watchers.add();
        self.watchers.watch_many(key, Filter::all(false, true), FRAMINGS[key.index() % 3]);
        let directory = self.directory.clone();
        for name in names {
            let subscribed =
                self.watchers.subscribe_job(key, &name, Since::Now, || directory.published(), |_, _| ());
            subscribed.expect("there is room for topics");
        }
        key
    }

    /// One turn of the ingest thread, then one of the shard.
    fn turn<'a>(&mut self, lines: impl Iterator<Item = &'a [u8]> + Clone) {
        let bytes = lines.clone().map(|line| line.len() + 1).sum();
        self.now.millis += 1;
        self.now.unix_micros += 1_000;
        self.watchers.now = Stamp::from_unix_millis(self.now.unix_micros / 1000);
        self.sequencer.begin_turn(self.now, bytes);
        for line in lines {
            let block = &mut self.block[..line.len() + PADDING];
            block[..line.len()].copy_from_slice(line);
            let taken = self.sequencer.take_line(block, line.len());
            assert!(matches!(taken, Ok(Taken::Event(_))), "{}", String::from_utf8_lossy(line));
        }
        // Now and then numbers jump, as where they come from elsewhere.
        if self.now.millis.is_multiple_of(3) {
            let next = self.sequencer.seq() + 1_000;
            assert_eq!(self.sequencer.begin_at(next), Ok(()));
        }
        self.sequencer.end_turn();
        while self.sequencer.step() != Step::Done {}
        self.serve();
    }

    /// Turns of the shard until every watcher has everything.
    fn serve(&mut self) {
        loop {
            self.watchers.flush(&mut self.sink);
            self.laggards.append(&mut self.watchers.blocked);
            for &key in &self.laggards {
                self.watchers.handle_writable(key);
            }
            let watchers = &mut self.watchers;
            self.laggards.retain(|&key| watchers.stays_reviewed(key));
            if self.laggards.is_empty() && !self.watchers.is_busy() {
                return;
            }
        }
    }

    /// A heartbeat, as a shard sends it.
    fn beat(&mut self, key: WatcherKey) {
        self.watchers.flush_one(key, &mut self.sink);
        let (at, position) = (self.watchers.now, self.watchers.position(key));
        self.watchers.enqueue_control(key, |out| {
            watcher_message::ping(out, &at, position);
            frame::write_ping(out, b"");
        });
        self.serve();
    }

    fn is_evicting(&self) -> bool {
        self.directory.all.log.lock().base() > 0
    }

    /// Runs `work` until the history has been filled and emptied a few times, then counts.
    fn steady(&mut self, mut work: impl FnMut(&mut Self, u64)) -> Figures {
        let mut warm = 0;
        while !self.is_evicting() {
            work(self, warm);
            warm += 1;
        }
        let warm = (warm * 4).max(ROUNDS);
        for round in 0..warm {
            work(self, round);
        }
        let (events, messages) = (self.sequencer.events(), self.watchers.counts.messages);
        IS_TRAP.set(self.is_trapped);
        let allocations = allocations(|| {
            for round in warm..warm + ROUNDS {
                work(self, round);
            }
        });
        IS_TRAP.set(false);
        Figures {
            events: self.sequencer.events() - events,
            deliveries: self.watchers.counts.messages - messages,
            allocations,
        }
    }
}

/// Counted turns.
const ROUNDS: u64 = 2_000;

#[derive(Debug)]
struct Figures {
    events: u64,
    deliveries: u64,
    allocations: u64,
}

impl Figures {
    fn assert_none(&self, deliveries_per_event: u64) {
        println!("{self:?}");
        assert!(self.events > 0);
        assert_eq!(self.deliveries, self.events * deliveries_per_event);
        assert_eq!(self.allocations, 0);
    }
}

fn line(kind: &str, job: &str, bytes: usize) -> Vec<u8> {
    let mut line = format!(r#"{{"type":"{kind}","job_id":"{job}","data":{{"x":""#);
    while line.len() + 3 < bytes {
        line.push('x');
    }
    line.push_str(r#""}}"#);
    line.into_bytes()
}

fn repeat(line: &[u8], count: usize) -> impl Iterator<Item = &[u8]> + Clone {
    std::iter::repeat_n(line, count)
}

#[test]
fn one_job_with_many_watchers() {
    for can_stage in [true, false] {
        let mut rig = Rig::new(HISTORY_BYTES);
        rig.sink.can_stage = can_stage;
        for _ in 0..100 {
            rig.watch(TopicKind::Job, "j", None);
        }
        let line = line("routine_completed", "j", 260);
        rig.steady(|rig, _| rig.turn(repeat(&line, 100))).assert_none(100);
    }
}

#[test]
fn short_lines_one_event_a_turn() {
    let mut rig = Rig::new(HISTORY_BYTES);
    for _ in 0..20 {
        rig.watch(TopicKind::Job, "j", None);
    }
    let line = line("tick", "j", 45);
    assert_eq!(line.len(), 45);
    rig.steady(|rig, _| rig.turn(repeat(&line, 1))).assert_none(20);
}

#[test]
fn turns_of_all_sizes() {
    let mut rig = Rig::new(4 * HISTORY_BYTES);
    rig.watch(TopicKind::Job, "j", None);
    let short = line("tick", "j", 45);
    let usual = line("routine_completed", "j", 260);
    let long = line("routine_completed", "j", 100_000);
    let figures = rig.steady(|rig, round| match round % 4 {
        0 => rig.turn(repeat(&short, 1)),
        1 => rig.turn(repeat(&usual, 30)),
        2 => rig.turn(repeat(&usual, 600)),
        _ => rig.turn(repeat(&long, 1)),
    });
    figures.assert_none(1);
}

#[test]
fn many_jobs_in_turn() {
    let mut rig = Rig::new(HISTORY_BYTES);
    let lines: Vec<Vec<u8>> =
        (0..200).map(|job| line("routine_completed", &format!("j{job}"), 260)).collect();
    for job in 0..200 {
        for _ in 0..3 {
            rig.watch(TopicKind::Job, &format!("j{job}"), None);
        }
    }
    let figures = rig.steady(|rig, _| rig.turn(lines.iter().map(Vec::as_slice)));
    figures.assert_none(3);
}

#[test]
fn more_jobs_than_the_history_has_events() {
    let mut rig = Rig::new(HISTORY_BYTES / 2);
    let lines: Vec<Vec<u8>> =
        (0..10_000).map(|job| line("routine_completed", &format!("j{job}"), 260)).collect();
    for job in 0..10_000 {
        rig.watch(TopicKind::Job, &format!("j{job}"), None);
    }
    let figures = rig.steady(|rig, round| {
        let first = round as usize * 100 % lines.len();
        rig.turn(lines[first..first + 100].iter().map(Vec::as_slice));
    });
    figures.assert_none(1);
}

#[test]
fn flows() {
    let mut rig = Rig::new(HISTORY_BYTES);
    let lines: Vec<Vec<u8>> = (0..20)
        .map(|job| {
            let flow = job % 4;
            format!(r#"{{"type":"slot_called","job_id":"j{job}","flow_id":"f{flow}","data":{{"n":1}}}}"#)
        })
        .map(String::into_bytes)
        .collect();
    for flow in 0..4 {
        rig.watch(TopicKind::Flow, &format!("f{flow}"), None);
    }
    rig.watch(TopicKind::All, "", None);
    let figures = rig.steady(|rig, _| rig.turn(lines.iter().map(Vec::as_slice)));
    figures.assert_none(2);
}

#[test]
fn filtered_watchers() {
    let mut rig = Rig::new(HISTORY_BYTES);
    let kinds = ["job_started", "routine_completed", "slot_called", "custom_a", "custom_b"];
    let lines: Vec<Vec<u8>> = kinds.iter().map(|kind| line(kind, "j", 200)).collect();
    for kind in kinds {
        for _ in 0..10 {
            rig.watch(TopicKind::Job, "j", Some(&[kind]));
        }
    }
    rig.watch(TopicKind::All, "", Some(&["nothing_of_the_kind"]));
    let figures = rig.steady(|rig, _| rig.turn(lines.iter().cycle().take(50).map(Vec::as_slice)));
    figures.assert_none(10);
}

#[test]
fn types_beyond_the_table() {
    let mut rig = Rig::new(HISTORY_BYTES);
    let lines: Vec<Vec<u8>> = (0..300).map(|kind| line(&format!("custom_{kind}"), "j", 200)).collect();
    rig.watch(TopicKind::Job, "j", Some(&["custom_0", "custom_299"]));
    rig.watch(TopicKind::Job, "j", None);
    let before = rig.watchers.counts.messages;
    let figures = rig.steady(|rig, _| rig.turn(lines.iter().map(Vec::as_slice)));
    println!("{figures:?}");
    assert!(rig.watchers.counts.messages > before);
    assert_eq!(figures.deliveries, figures.events + figures.events / 150);
    assert_eq!(figures.allocations, 0);
}

#[test]
fn numbers_that_take_the_second_way() {
    let mut rig = Rig::new(HISTORY_BYTES);
    rig.watch(TopicKind::Job, "j", None);
    let line =
        br#"{"type":"tick","job_id":"j","data":{"n":1e400,"m":-0,"k":123456789012345678901234567890}}"#;
    rig.steady(|rig, _| rig.turn(repeat(line, 10))).assert_none(1);
}

#[test]
fn short_writes_and_full_sockets() {
    let mut rig = Rig::new(HISTORY_BYTES);
    rig.sink.sockets = Sockets::TakeParts;
    for _ in 0..60 {
        rig.watch(TopicKind::Job, "j", None);
    }
    rig.watch(TopicKind::Job, "j", Some(&["routine_completed"]));
    let line = line("routine_completed", "j", 260);
    rig.steady(|rig, _| rig.turn(repeat(&line, 40))).assert_none(61);
}

#[test]
fn heartbeats() {
    let mut rig = Rig::new(HISTORY_BYTES);
    let keys: Vec<WatcherKey> = (0..100).map(|_| rig.watch(TopicKind::Job, "j", None)).collect();
    let line = line("routine_completed", "j", 260);
    let figures = rig.steady(|rig, round| {
        rig.turn(repeat(&line, 5));
        for beat in 0..10 {
            rig.beat(keys[(round as usize * 10 + beat) % keys.len()]);
        }
    });
    figures.assert_none(100);
}

#[test]
fn all_heartbeats_at_once() {
    let mut rig = Rig::new(HISTORY_BYTES);
    let keys: Vec<WatcherKey> = (0..200).map(|_| rig.watch(TopicKind::All, "", None)).collect();
    let line = line("routine_completed", "j", 260);
    let figures = rig.steady(|rig, _| {
        rig.turn(repeat(&line, 1));
        let at = rig.watchers.now;
        for &key in &keys {
            rig.watchers.flush_one(key, &mut rig.sink);
            let position = rig.watchers.position(key);
            rig.watchers.enqueue_control(key, |out| watcher_message::ping(out, &at, position));
        }
        rig.serve();
    });
    figures.assert_none(200);
}

/// The other dialect is made once a batch, which allocates as often for one connection as for fifty.
#[test]
fn many_job_connections_allocate_per_batch_alone() {
    let of = |connections: usize| {
        let mut rig = Rig::new(HISTORY_BYTES);
        rig.is_trapped = false;
        for _ in 0..connections {
            rig.watch_jobs((0..20).map(|job| format!("j{job}")));
        }
        let lines: Vec<Vec<u8>> = (0..20)
            .map(|job| {
                format!(
                    r#"{{"type":"execution_event","job_id":"j{job}","event":{{"event_id":"e","routine_id":"r","event_type":"slot_call","data":{{"slot_name":"s"}}}}}}"#
                )
            })
            .map(String::into_bytes)
            .collect();
        let figures = rig.steady(|rig, _| rig.turn(lines.iter().cycle().take(100).map(Vec::as_slice)));
        println!("{connections} connections: {figures:?}");
        assert_eq!(figures.deliveries, figures.events * connections as u64);
        figures.allocations
    };
    let (one, fifty) = (of(1), of(50));
    assert_eq!(one, fifty, "something is allocated per delivery");
}

#[test]
fn handshakes_of_addresses_that_are_known() {
    let _shared = PROCESS.read();
    let limits = AddressLimits { connections_max: 10, handshakes_per_second: 1 };
    let mut addresses = AddressCounts::new(limits);
    let mut turn = |tick: u32| {
        let entered = (0..5_000).filter(|number| {
            let address = IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + number));
            let is_in = addresses.enter(address, tick).is_ok();
            if is_in && tick > 0 {
                addresses.leave(address);
            }
            is_in
        });
        entered.count()
    };
    assert_eq!(turn(0), 5_000);
    let mut entered = 0;
    assert_eq!(allocations(|| entered = (1..=100).map(&mut turn).sum()), 0);
    assert_eq!(entered, 2 * 5_000, "one a second in two seconds");
}

/// All threads of a daemon with its sockets, a publisher with acks, and heartbeats: allocations grow with time and with
/// buffers, not with events.
#[test]
fn the_whole_daemon() {
    in_a_whole_daemon(|server| {
        let mut feed = UnixStream::connect(server.ingest()).expect("the daemon takes lines");
        feed.write_all(b"{\"op\":\"hello\",\"publisher\":\"p\",\"ack\":true}\n").expect("the daemon reads");
        let mut answers = feed.try_clone().expect("a second handle");
        // It ends with the daemon.
        thread::spawn(move || {
            let mut block = vec![0; 4096];
            while let Ok(1..) = answers.read(&mut block) {}
        });
        // Small and large writes.
        move |lines: &[u8], line_bytes: usize| {
            for block in lines.chunks(65 * line_bytes) {
                let (most, last) = block.split_at(block.len() - line_bytes);
                feed.write_all(most).expect("the daemon reads");
                feed.write_all(last).expect("the daemon reads");
            }
        }
    });
}

/// The same with a publisher over HTTP: a request costs something, and its lines nothing.
#[test]
fn the_whole_daemon_with_bodies_over_http() {
    in_a_whole_daemon(|server| {
        let mut feed = TcpStream::connect(server.listening()[0]).expect("the daemon listens");
        let mut answer = [0; 4096];
        move |lines: &[u8], _: usize| {
            let mut head = [0; 200];
            let mut room = &mut head[..];
            write!(
                room,
                "POST /api/v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n\
                 Content-Length: {}\r\n\r\n",
                lines.len()
            )
            .expect("there is room");
            let unused = room.len();
            feed.write_all(&head[..head.len() - unused]).expect("the daemon reads");
            feed.write_all(lines).expect("the daemon reads");
            let mut length = 0;
            while !answer[..length].ends_with(b"}\n") {
                length += feed.read(&mut answer[length..]).expect("the daemon answers");
            }
            assert!(answer.starts_with(b"HTTP/1.1 200 "));
        }
    });
}

/// Watchers of a whole daemon, and a publisher that `connect` makes: it is given lines of equal length, many at once.
fn in_a_whole_daemon<P: FnMut(&[u8], usize)>(connect: impl FnOnce(&Server) -> P) {
    const WATCHERS: usize = 20;
    const EVENTS: usize = 400_000;
    static STARTED: AtomicU64 = AtomicU64::new(0);
    let _alone = PROCESS.write();
    let number = STARTED.fetch_add(1, Ordering::Relaxed);
    let directory = std::env::temp_dir().join(format!("luxcast-no-alloc-{}-{number}", std::process::id()));
    fs::create_dir_all(&directory).expect("a temporary directory");
    let config = Config {
        listen: vec!["127.0.0.1:0".parse().expect("an address")],
        admin: None,
        ingest: Some(directory.join("ingest.sock")),
        http_publish: HttpPublish::Anyone,
        shards: 1,
        history_bytes: 32 << 20,
        heartbeat_seconds: Duration::from_millis(100),
        silent_heartbeats: 1_000,
        overrun: Overrun::Wait,
        ..Config::default()
    };
    let live_config = server::live_config(&config).expect("no file is named");
    let server = Server::start(config, live_config, || false).expect("the daemon starts");
    let sockets: Vec<TcpStream> = (0..WATCHERS).map(|_| open(&server)).collect();
    let publish = connect(&server);
    let (half, counts) = run_feed(sockets, EVENTS, publish);
    println!("{half} events twice, {WATCHERS} watchers: {} and {} allocations", counts[0], counts[1]);
    server.drain();
    server.wait().expect("a clean end");
    fs::remove_dir_all(&directory).expect("the directory can be removed");
    // A read may have any length, and the pool may have no batch of that size: some buffers grow.
    assert!(counts[1] < half as u64 / 20, "{} allocations for {half} events", counts[1]);
}

fn open(server: &Server) -> TcpStream {
    let address = server.listening()[0];
    let mut socket = TcpStream::connect(address).expect("the daemon listens");
    let request = format!(
        "GET /api/ws/jobs/j/monitor?events=tick HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    socket.write_all(request.as_bytes()).expect("the daemon reads");
    let mut seen = Vec::new();
    let mut byte = [0];
    while !seen.ends_with(b"}") {
        socket.read_exact(&mut byte).expect("the daemon answers");
        seen.push(byte[0]);
    }
    socket
}

/// Publishes `events` in two halves while every socket is read. Returns the number of events in one half, and the
/// allocations of the whole process during each half.
fn run_feed(
    sockets: Vec<TcpStream>,
    events: usize,
    mut publish: impl FnMut(&[u8], usize),
) -> (usize, [u64; 2]) {
    /// A multiple of what the publisher on the socket writes at once.
    const LINES: usize = 65 * 40;
    let bytes_of_events = Arc::new(AtomicU64::new(0));
    let readers: Vec<_> = sockets
        .iter()
        .map(|socket| {
            let mut socket = socket.try_clone().expect("a second handle");
            let received = bytes_of_events.clone();
            thread::spawn(move || {
                let mut block = vec![0; 64 << 10];
                while let Ok(count @ 1..) = socket.read(&mut block) {
                    received.fetch_add(count as u64, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let mut one = line("tick", "j", 200);
    one.push(b'\n');
    let lines = one.repeat(LINES);
    let mut counts = [0; 2];
    let half = events / 2 / LINES * LINES;
    // Header of 4 bytes, and the member in front.
    let frame = (one.len() - 1 + 4 + 30) as u64;
    for (place, count) in counts.iter_mut().enumerate() {
        let before = ALL_THREADS.load(Ordering::Relaxed);
        (0..half / LINES).for_each(|_| publish(&lines, one.len()));
        let expected = frame * (half * (place + 1) * readers.len()) as u64;
        let until = Instant::now() + Duration::from_secs(120);
        while bytes_of_events.load(Ordering::Relaxed) < expected {
            assert!(Instant::now() < until, "the watchers did not get everything");
            thread::sleep(Duration::from_millis(5));
        }
        *count = ALL_THREADS.load(Ordering::Relaxed) - before;
    }
    sockets.iter().for_each(|socket| socket.shutdown(Shutdown::Both).expect("it is open"));
    readers.into_iter().for_each(|reader| reader.join().expect("a reader ends with its socket"));
    (half, counts)
}
