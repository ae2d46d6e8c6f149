//! The thread of the past: the real passes, and the connections to the stream that they make.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, Weak};

use luxcast::bus::chunk::Bounds;
use luxcast::bus::verdict::{Standing, Stop};
use luxcast::metrics::Counters;
use luxcast::net::bus::handle::{Beginning, Command, Outlet, Report, ends};
use luxcast::net::ingest::handle::IngestWaker;
use luxcast::net::passes::{PassParts, Passes};
use luxcast::stream::directory::Directory;
use luxcast::stream::now::Now;
use luxcast::stream::past::{Demand, Past, Window};
use mio::{Poll, Token, Waker};

use crate::consumer::{Consumer, Told};
use crate::memory::{DEPTH_MAX, LINE_BYTES_MAX};
use crate::plan::Plan;
use crate::simulated::rng::Rng;
use crate::stream::Stream;

/// Nobody waits for it.
static WAKER: LazyLock<(Poll, Arc<IngestWaker>)> = LazyLock::new(|| {
    let poll = Poll::new().expect("there is a descriptor");
    let waker = Waker::new(poll.registry(), Token(0)).expect("there is a descriptor");
    (poll, Arc::new(IngestWaker::new(waker, 0)))
});
static COUNTERS: LazyLock<Arc<Counters>> = LazyLock::new(|| Arc::new(Counters::new(1)));

/// Messages before those that are passed on, which are only folded, at most.
const FOLDED: u64 = 3;

/// The stream's end of a pass.
struct Connection {
    asked: u64,
    outlet: Option<Outlet>,
    /// Bytes that were dealt with. The other end holds it too.
    released: Arc<Mutex<u64>>,
    sent: u64,
    consumer: Option<Consumer>,
}

impl Connection {
    fn is_dropped(&self) -> bool {
        Arc::strong_count(&self.released) == 1
    }

    fn report(&self, report: Report) {
        if let Some(outlet) = &self.outlet {
            outlet.report(report);
        }
    }
}

pub struct PastThread {
    pub past: Arc<Past>,
    passes: Passes,
    connections: Vec<Connection>,
    made: Arc<Mutex<Vec<Connection>>>,
    pub is_woken: bool,
    /// The shards that it has woken.
    pub woken_shards: Arc<[AtomicBool]>,
    is_in_turn: bool,
    /// When it looks by itself.
    look_at: Option<u64>,
    /// The windows that there were.
    windows: Vec<Weak<Window>>,
    watch: Watch,
    /// Events with numbers below this one were not read again (`bus_replay_bytes`).
    pub replay_from: u64,
    pub passes_made: u64,
    pub failures: u64,
    pub steps_ahead: u64,
}

/// What a turn may drop.
#[derive(Default)]
struct Watch {
    demand: Demand,
    /// The pass, and where its history began before the turn.
    window: Option<(Arc<Window>, u64)>,
    /// The last pass in which somebody starved: it may leave others behind.
    starved_in: u64,
}

impl PastThread {
    pub fn new(plan: &Plan, stream: &Stream, directory: Arc<Directory>) -> Self {
        let past = Arc::new(Past::default());
        past.open(stream.first_number());
        let made: Arc<Mutex<Vec<Connection>>> = Arc::default();
        let woken_shards: Arc<[AtomicBool]> = (0..plan.shards).map(|_| AtomicBool::new(false)).collect();
        let (of_connect, of_wake) = (made.clone(), woken_shards.clone());
        let connect = move |asked| {
            let released = Arc::new(Mutex::new(0));
            let of_handle = released.clone();
            let (handle, outlet) = ends(WAKER.1.clone(), move |command| {
                if let Command::Release(bytes) = command {
                    *of_handle.lock().unwrap() += bytes;
                }
            });
            let outlet = Some(outlet);
            of_connect.lock().unwrap().push(Connection { asked, outlet, released, sent: 0, consumer: None });
            Ok(handle)
        };
        let passes = Passes::new(PassParts {
            past: past.clone(),
            directory,
            counters: COUNTERS.clone(),
            connect: Box::new(connect),
            wake_shard: Box::new(move |shard| of_wake[shard].store(true, Ordering::Relaxed)),
            epochs: stream.epochs.clone(),
            window_bytes: plan.window_bytes,
            line_bytes_max: LINE_BYTES_MAX,
            depth_max: DEPTH_MAX,
        });
        Self {
            past,
            passes,
            connections: Vec::new(),
            made,
            is_woken: false,
            woken_shards,
            is_in_turn: false,
            look_at: None,
            windows: Vec::new(),
            watch: Watch::default(),
            replay_from: 0,
            passes_made: 0,
            failures: 0,
            steps_ahead: 0,
        }
    }

    /// Whether it would do something now.
    pub fn is_runnable(&self, now: u64) -> bool {
        self.is_in_turn || self.is_woken || self.look_at.is_some_and(|at| at <= now)
    }

    /// It only waits to be woken.
    pub fn is_asleep(&self) -> bool {
        !self.is_in_turn && !self.is_woken && self.look_at.is_none()
    }

    /// One step of its turn, if it has a reason for one. Returns whether there is another window than before.
    pub fn step(&mut self, now: Now) -> bool {
        if !self.is_runnable(now.millis) {
            return false;
        }
        let before = self.past.window();
        if self.is_in_turn {
            self.is_in_turn = self.passes.step();
        } else {
            self.is_woken = false;
            self.watch.begin(&self.past);
            self.passes.begin_turn(now).expect("a connection can always be made");
            self.is_in_turn = true;
            let made = std::mem::take(&mut *self.made.lock().unwrap());
            self.passes_made += made.len() as u64;
            self.connections.extend(made);
        }
        if !self.is_in_turn {
            self.steps_ahead += u64::from(self.watch.end());
            self.look_at = self.passes.until_look().map(|wait| now.millis + wait.as_millis() as u64);
        }
        let after = self.past.window();
        let is_other = before.as_ref().map(Arc::as_ptr) != after.as_ref().map(Arc::as_ptr);
        if is_other && let Some(window) = &after {
            self.windows.push(Arc::downgrade(window));
        }
        is_other
    }

    /// The server and the network bring a pass on by one report, or end it.
    pub fn serve(&mut self, stream: &Stream, plan: &Plan, rng: &mut Rng) {
        self.connections.retain(|connection| !connection.is_dropped());
        assert!(self.connections.len() <= 1, "there is one pass at a time");
        let Some(connection) = self.connections.first_mut() else { return };
        if connection.outlet.is_none() {
            return;
        }
        if rng.chance(plan.fail_percent) {
            self.failures += 1;
            self.is_woken = true;
            match rng.below(3) {
                0 => connection.report(Report::Standing(Standing::Stopped(Stop::LostTail))),
                1 => connection.report(Report::Unfit("it cannot be used".to_owned())),
                _ => {}
            }
            connection.outlet = None;
            return;
        }
        let Some(consumer) = &mut connection.consumer else {
            let passed_from = begin(connection, stream, plan);
            if passed_from > connection.asked {
                self.replay_from = self.replay_from.max(stream.number(passed_from, 0));
            }
            self.is_woken = true;
            return;
        };
        if connection.sent > *connection.released.lock().unwrap() + plan.credit {
            return;
        }
        let report = match consumer.next(stream) {
            None => return,
            Some(Told::Message(received)) => {
                connection.sent += received.bytes;
                Report::Message(received)
            }
            Some(Told::Skip(hole, last)) => Report::Skip { hole, last },
            Some(Told::Complete(last)) => Report::Complete { asked_at: 0, last },
        };
        connection.report(report);
        self.is_woken = true;
    }

    /// All have looked since the window changed: nobody holds another one.
    pub fn check_windows(&mut self) {
        let there = self.past.window();
        self.windows.retain(|window| window.strong_count() > 0);
        for window in self.windows.iter().filter_map(Weak::upgrade) {
            let is_there = there.as_ref().is_some_and(|there| Arc::ptr_eq(there, &window));
            assert!(is_there, "somebody holds pass {}, which has ended", window.pass);
        }
    }

    /// Nobody wants anything of the past: there is no pass.
    pub fn check_rest(&mut self) {
        assert!(self.past.window().is_none() && self.past.demand() == Demand::default(), "a pass goes on");
        self.check_windows();
        self.connections.retain(|connection| !connection.is_dropped());
        assert!(self.connections.is_empty(), "the connection of a pass goes on");
    }
}

/// The connection stands: where it begins is told, and what it only folds. Returns the first message to be passed on.
fn begin(connection: &mut Connection, stream: &Stream, plan: &Plan) -> u64 {
    let bounded = (stream.last() + 1).saturating_sub(plan.replay);
    let passed_from = connection.asked.max(bounded).min(stream.last()).max(stream.first);
    connection.report(Report::Begun(Box::new(Beginning {
        epochs: stream.epochs.clone(),
        passed_from,
        has_older: passed_from > 1,
        window_millis: 120_000,
        accounts_millis: 240_000,
        chunk_bytes_max: 1 << 20,
        bounds: Bounds { line_bytes_max: 1 << 20, depth_max: 64 },
        differences: Vec::new(),
    })));
    for message in passed_from.saturating_sub(FOLDED).max(1)..passed_from {
        if let Some(received) = Consumer::fold(message, stream) {
            connection.sent += received.bytes;
            connection.report(Report::Message(received));
        }
    }
    connection.consumer = Some(Consumer::new(passed_from, stream));
    passed_from
}

impl Watch {
    fn begin(&mut self, past: &Past) {
        self.demand = past.demand();
        self.window = past.window().map(|window| {
            let whole_from = window.directory.whole_from();
            (window, whole_from)
        });
        if self.demand.is_starving {
            self.starved_in = self.starved_in.max(self.demand.pass);
        }
    }

    /// Whether the pass went on without somebody. Nobody who reads it is left behind unless others starve, and nothing is
    /// dropped before all have looked.
    fn end(&mut self) -> bool {
        let Some((window, before)) = self.window.take() else { return false };
        let whole_from = window.directory.whole_from();
        let Demand { pass, reading, watchers, .. } = self.demand;
        if whole_from == before || watchers == 0 {
            return false;
        }
        let has_looked = pass == window.pass;
        let is_kind = has_looked && reading.is_none_or(|reading| whole_from <= reading);
        let may_leave = self.starved_in == window.pass;
        assert!(is_kind || may_leave, "pass {} drops {whole_from}, {:?}", window.pass, self.demand);
        !is_kind
    }
}
