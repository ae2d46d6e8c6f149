//! Ten thousand idle connections: what they cost, and when their heartbeats come.

use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::crowd::{Crowd, Member, cpu};
use crate::harness::Setup;

const CONNECTIONS: usize = 10_000;
/// Descriptors of this process for other purposes: other tests run beside this one.
const DESCRIPTORS_RESERVED: u64 = 4_000;
const HEARTBEAT_SECONDS: u64 = 10;
/// The aim is half of this.
const BYTES_PER_CONNECTION_MAX: f64 = 512.0;

/// How many connections this process may hold, after raising its limit.
fn connections() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    setrlimit(Resource::Nofile, raised).expect("a soft limit can be raised to the hard one");
    let room = limit.maximum.map_or(usize::MAX, |files| files.saturating_sub(DESCRIPTORS_RESERVED) as usize);
    if room < CONNECTIONS {
        println!("the file limit leaves room for {room} connections");
    }
    CONNECTIONS.min(room)
}

/// Seconds of the day, out of `2026-11-23T07:35:32.390Z`.
fn seconds(stamp: &str) -> f64 {
    let part = |from: usize, to: usize| stamp[from..to].parse::<f64>().expect("digits");
    part(11, 13) * 3600.0 + part(14, 16) * 60.0 + part(17, 23)
}

/// From one time of day to a later one, perhaps past midnight.
fn between(earlier: &str, later: &str) -> f64 {
    (seconds(later) - seconds(earlier)).rem_euclid(86_400.0)
}

fn pings(members: &[Member]) -> usize {
    members.iter().map(|member| member.pings.len()).sum()
}

#[test]
fn ten_thousand_idle_connections() {
    let connections = connections();
    let flags = ["--heartbeat-seconds", &HEARTBEAT_SECONDS.to_string(), "--silent-heartbeats", "1000"];
    let daemon = Setup::default().flags(&flags).start();
    let mut crowd = Crowd::new();
    // Memory that every daemon allocates once does not count for a connection.
    crowd.join(daemon.address, "/api/ws/events", 64);
    let resident_before = daemon.memory_bytes("VmRSS");
    let begin = Instant::now();
    crowd.join(daemon.address, "/api/ws/events", connections - 64);
    println!("{connections} connections in {:.2?}", begin.elapsed());
    // The first interval: it determines when each connection is pinged.
    let interval = Duration::from_secs(HEARTBEAT_SECONDS);
    crowd.read_until("a ping for everybody", |members| members.iter().all(|member| !member.pings.is_empty()));
    let (cpu_before, pings_before, begin) = (cpu(&daemon), pings(&crowd.members), Instant::now());
    crowd.read_for(2 * interval, |_| false);
    let (spent, span) = (cpu(&daemon) - cpu_before, begin.elapsed());
    let beats = pings(&crowd.members) - pings_before;
    let resident = daemon.memory_bytes("VmRSS");
    let bytes = resident.saturating_sub(resident_before) as f64 / (connections - 64) as f64;
    println!("{bytes:.0} bytes of resident memory for each idle connection");
    println!(
        "{:.2} µs of CPU for each heartbeat; {:.3} % of one core for {beats} of them in {span:.1?}",
        spent.as_secs_f64() * 1e6 / beats as f64,
        spent.as_secs_f64() / span.as_secs_f64() * 100.0,
    );
    assert!(bytes < BYTES_PER_CONNECTION_MAX, "{bytes} bytes");
    assert!(spent < span / 4, "{spent:?} of {span:?}");
    assert_on_time(&crowd.members);
    assert_spread(&crowd.members);
    assert!(crowd.members.iter().all(|member| member.end.is_none() && member.received == 0));
}

/// Checks that the pings of each connection come once an interval.
fn assert_on_time(members: &[Member]) {
    let mut latest: f64 = 0.0;
    for member in members {
        assert!(member.pings.len() >= 2, "{:?}", member.pings);
        for pair in member.pings.windows(2) {
            let off = between(&pair[0].0, &pair[1].0) - HEARTBEAT_SECONDS as f64;
            latest = latest.max(off.abs());
        }
    }
    println!("intervals of {HEARTBEAT_SECONDS} s, at most {latest:.3} s off");
    // A daemon that gets no processor for a while is late; it does not skip beats.
    assert!(latest < HEARTBEAT_SECONDS as f64 / 2.0, "{latest}");
}

/// Checks that no part of the interval has much more than its share of the last round.
fn assert_spread(members: &[Member]) {
    const PARTS: usize = 20;
    let mut parts = [0; PARTS];
    for member in members {
        let (at, _) = member.pings.last().expect("everybody had one");
        let phase = seconds(at) % HEARTBEAT_SECONDS as f64 / HEARTBEAT_SECONDS as f64;
        parts[(phase * PARTS as f64) as usize % PARTS] += 1;
    }
    println!("pings in each twentieth of the interval: {parts:?}");
    let share = members.len() / PARTS;
    assert!(parts.iter().all(|&part| part < share * 3), "{parts:?}");
}
