//! One shard's watchers: cohorts that get a batch, replay, sessions that open, heartbeats, the wheel.

use std::hint::black_box;

use luxcast::access::rights::Permit;
use luxcast::delivery::keys::WatcherKey;
use luxcast::session::context::SessionContext;
use luxcast::session::conversation::Session;
use luxcast::session::endpoint::{Offer, find};
use luxcast::session::limits::SessionLimits;
use luxcast::session::timer_wheel::Wheel;
use luxcast::stream::topic::TopicKind;
use luxcast::tick::Tick;
use luxcast::wire::client_action::Since;
use luxcast::wire::http::{HeadLimits, HeadResult, parse_head};
use luxcast::wire::watcher_message;
use luxcast::wire::{frame, handshake};

use crate::pieces::Piece;
use crate::pieces::rig::{COUNT, Rig, USUAL_BYTES, WATCHERS, usual_line};

const HISTORY_BYTES: usize = 4 << 20;

fn lines(count: usize) -> Vec<Vec<u8>> {
    vec![usual_line("routine_completed", "j", USUAL_BYTES); count]
}

/// A shard whose watchers are at the end of job `j`.
fn watched(lines: Vec<Vec<u8>>, watchers: usize, events: Option<&str>) -> Rig {
    let mut rig = Rig::new(HISTORY_BYTES, lines);
    for _ in 0..watchers {
        rig.watch(TopicKind::Job, "j", events, Since::Now);
    }
    rig.flush();
    rig
}

/// One event: one slice, gathered once.
pub fn flush_one_slice() -> Piece {
    Piece::new(WATCHERS as u64, watched(lines(1), WATCHERS, None), Rig::publish, Rig::flush)
}

/// An event in each of two batches: copied once into one slice.
pub fn flush_two_slices() -> Piece {
    let ready = |rig: &mut Rig| {
        rig.publish();
        rig.publish();
    };
    Piece::new(2 * WATCHERS as u64, watched(lines(1), WATCHERS, None), ready, Rig::flush)
}

/// Enough bytes that they may be staged.
pub fn flush_large_portion() -> Piece {
    Piece::new(100 * WATCHERS as u64, watched(lines(100), WATCHERS, None), Rig::publish, Rig::flush)
}

/// A thousand jobs with ten watchers each, one event of each job.
pub fn flush_many_topics() -> Piece {
    const JOBS: usize = 1_000;
    let name = |job: usize| format!("job-{job}");
    let lines = (0..JOBS).map(|job| usual_line("routine_completed", &name(job), USUAL_BYTES)).collect();
    let mut rig = Rig::new(HISTORY_BYTES, lines);
    for watcher in 0..WATCHERS {
        rig.watch(TopicKind::Job, &name(watcher % JOBS), None, Since::Now);
    }
    rig.flush();
    Piece::new(WATCHERS as u64, rig, Rig::publish, Rig::flush)
}

/// A hundred batches that no watcher wants: no watcher is touched.
pub fn flush_no_match() -> Piece {
    const BATCHES: usize = 100;
    let ready = |rig: &mut Rig| {
        rig.read();
        rig.sequence(1);
    };
    let rig = watched(lines(BATCHES), WATCHERS, Some("job_failed"));
    Piece::new(BATCHES as u64, rig, ready, |rig| {
        assert_eq!(rig.flush(), 0);
        BATCHES as u64
    })
}

/// Every tenth event is wanted: a hundred slices to a thousand watchers.
pub fn flush_some_match() -> Piece {
    const WANTED: usize = COUNT / 10;
    let kind = |place: usize| if place.is_multiple_of(10) { "job_paused" } else { "routine_completed" };
    let lines = (0..COUNT).map(|place| usual_line(kind(place), "j", USUAL_BYTES)).collect();
    let rig = watched(lines, WATCHERS / 10, Some("job_paused"));
    Piece::new((WANTED * WATCHERS / 10) as u64, rig, Rig::publish, Rig::flush)
}

/// A hundred watchers of the same hundred jobs, merged by number, in the other dialect.
pub fn flush_merged_jobs() -> Piece {
    const JOBS: usize = 100;
    let names: Vec<String> = (0..JOBS).map(|job| format!("job-{job}")).collect();
    let lines = names.iter().map(|name| usual_line("routine_completed", name, USUAL_BYTES)).collect();
    let mut rig = Rig::new(HISTORY_BYTES, lines);
    for _ in 0..WATCHERS / 100 {
        rig.watch_jobs(&names);
    }
    rig.flush();
    Piece::new(WATCHERS as u64, rig, Rig::publish, Rig::flush)
}

/// One watcher comes back and gets all that the history has of its job.
pub fn replay_history() -> Piece {
    struct Replay {
        rig: Rig,
        key: Option<WatcherKey>,
    }
    let mut rig = Rig::new(4 * HISTORY_BYTES, lines(COUNT / 10));
    for _ in 0..100 {
        rig.publish();
    }
    assert!(!rig.is_evicting());
    Piece::new(
        10 * COUNT as u64,
        Replay { rig, key: None },
        |replay| {
            if let Some(key) = replay.key.take() {
                replay.rig.watchers.remove(key);
            }
        },
        |replay| {
            replay.key = Some(replay.rig.watch(TopicKind::Job, "j", None, Since::Start));
            replay.rig.flush()
        },
    )
}

/// Clients open a job that is known (request head, handshake, greeting, all its events), and close.
pub fn open_sessions() -> Piece {
    const HEAD: &[u8] =
        b"GET /api/ws/jobs/j/monitor HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    struct Door {
        rig: Rig,
        limits: SessionLimits,
        keys: Vec<WatcherKey>,
    }
    let mut rig = watched(lines(1), 0, None);
    rig.publish();
    let door = Door { rig, limits: limits(), keys: Vec::new() };
    Piece::new(
        COUNT as u64,
        door,
        |door| door.keys.drain(..).for_each(|key| door.rig.watchers.remove(key)),
        |door| {
            let before = door.rig.sink.writes;
            for _ in 0..COUNT {
                door.keys.push(open(&mut door.rig, &door.limits, HEAD));
            }
            door.rig.flush();
            door.rig.sink.writes - before
        },
    )
}

fn limits() -> SessionLimits {
    SessionLimits {
        messages: SessionLimits::message_limits(64 << 10),
        head_bytes_max: 8192,
        messages_per_second: 50,
        messages_burst: 100,
        jobs_max: 1024,
        heartbeat: INTERVAL,
        silent_heartbeats: 3,
        handshake: 500,
        stalled: 500,
    }
}

fn open(rig: &mut Rig, limits: &SessionLimits, head: &[u8]) -> WatcherKey {
    let head_limits = HeadLimits { head_bytes_max: limits.head_bytes_max };
    let Ok(HeadResult::Complete { request, .. }) = parse_head(black_box(head), head_limits) else {
        panic!("a good request");
    };
    let permit = Permit::Everything;
    let opening =
        find(Offer::Watchers, &request).and_then(|place| place.open(&request, permit)).expect("a good path");
    let accept = handshake::accept_key(&request).expect("a good key");
    let key = rig.watchers.add();
    let mut context = SessionContext {
        key,
        watchers: &mut rig.watchers,
        sink: &mut rig.sink,
        limits,
        tick: 1,
        unix_micros: 1_800_000_000_000_000,
    };
    let session =
        Session::open(&opening, &mut context, |out| handshake::write_switching(out, &accept, false, None));
    assert!(black_box(session).is_ok());
    key
}

/// A heartbeat to each of many idle watchers, a few in each turn of the shard.
pub fn beat_idle_watchers() -> Piece {
    // As many as are due at one tick.
    const TURN: usize = WATCHERS / INTERVAL as usize;
    let mut rig = watched(lines(1), WATCHERS, None);
    rig.publish();
    rig.flush();
    let keys: Vec<WatcherKey> = rig.watchers.watchers.iter().map(|(key, _)| key).collect();
    Piece::new(
        WATCHERS as u64,
        (rig, keys),
        |_| (),
        |(rig, keys)| {
            let before = rig.sink.writes;
            for turn in keys.chunks(TURN) {
                turn.iter().for_each(|&key| beat(rig, key));
                rig.flush();
            }
            rig.sink.writes - before
        },
    )
}

/// As a shard sends it.
fn beat(rig: &mut Rig, key: WatcherKey) {
    rig.watchers.flush_one(key, &mut rig.sink);
    let (at, position) = (rig.watchers.now, rig.watchers.position(key));
    rig.watchers.enqueue_control(key, |out| {
        watcher_message::ping(out, &at, position);
        frame::write_ping(out, b"");
    });
}

/// The usual heartbeat: 30 s in ticks.
const INTERVAL: Tick = 1_500;

/// Connections that are due once in an interval; the wheel turns through one, tick by tick.
pub fn turn_wheel() -> Piece {
    struct Turning {
        wheel: Wheel<u32>,
        now: Tick,
        due: Vec<(u32, Tick)>,
    }
    let mut wheel = Wheel::new(0);
    for key in 0..WATCHERS as u32 {
        wheel.schedule(key, 1 + key % INTERVAL);
    }
    Piece::new(
        WATCHERS as u64,
        Turning { wheel, now: 0, due: Vec::new() },
        |_| (),
        |Turning { wheel, now, due }| {
            let mut beats = 0;
            for _ in 0..INTERVAL {
                *now += 1;
                wheel.advance(*now, due);
                beats += due.len() as u64;
                for (key, tick) in due.drain(..) {
                    wheel.schedule(key, tick + INTERVAL);
                }
                black_box(wheel.until_next(*now));
            }
            beats
        },
    )
}
