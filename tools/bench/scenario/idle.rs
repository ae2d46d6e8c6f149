//! Idle connections: memory, and the cost of heartbeats.

use std::time::{Duration, Instant};

use crate::Outcome;
use crate::crowd::Crowd;
use crate::lab::{BYTES_PER_CONNECTION, CPU_PER_HEARTBEAT, Contestant, Findings, Lab};
use crate::load::Pace;
use crate::result::{Role, Scenario};
use crate::scenario::Options;
use crate::scenario::setting::{
    FLOOR, Size, begin, compressing_peers, deflating, floor, luxcasts, peers, scenario, target_at_most,
    target_at_most_more, target_times,
};
use crate::server::Server;

const ABOUT: &str = "Ten thousand connections wait for a job that does nothing. What each costs in memory of the \
    process (the kernel's socket, the same for every server, is not counted), and what its heartbeats cost.";

/// A server allocates some memory once, for its first connections; that is not a cost of each.
const FIRST: usize = 64;
/// Between two heartbeats here: the default of 30 would take long to measure.
const HEARTBEAT_SECONDS: u64 = 5;
/// A heartbeat is a JSON ping and a ping frame of the protocol.
const FRAMES_PER_HEARTBEAT: u64 = 2;

const LUXCAST: &str = "luxcast";

pub fn run(lab: &Lab, options: &Options) -> Outcome<Scenario> {
    let size = Size::new(options, 10_000, 1, 1)?.check(lab)?;
    let seconds = options.seconds.unwrap_or(2 * HEARTBEAT_SECONDS).max(HEARTBEAT_SECONDS);
    let flag = HEARTBEAT_SECONDS.to_string();
    let flags = ["--heartbeat-seconds", flag.as_str(), "--silent-heartbeats", "1000"];
    let each = Size { topics: size.watchers, ..size };
    let mut contestants = luxcasts(lab, options, LUXCAST, 0, &flags);
    contestants.push(floor(each, 1, 0));
    contestants.extend(peers(lab, size.watchers, 0));
    contestants.extend(compressing_peers(lab, options, size.watchers, 0));
    let results = lab.compare("idle", &contestants, |contestant, watch| match contestant.role {
        Role::Floor => measure_floor(contestant, each, seconds, lab, watch),
        _ => measure(contestant, size, seconds, lab, watch),
    });
    let targets = [
        target_at_most(BYTES_PER_CONNECTION, &results, LUXCAST, 200.0),
        target_at_most(CPU_PER_HEARTBEAT, &results, LUXCAST, 8.0),
        target_times(CPU_PER_HEARTBEAT, &results, LUXCAST, FLOOR, 2.0),
        target_at_most_more(BYTES_PER_CONNECTION, &results, &deflating(LUXCAST), LUXCAST, 8.0),
    ];
    let title = format!("{} idle connections", crate::format::number(size.watchers as f64));
    let parameters = vec![
        ("connections".to_owned(), crate::format::number(size.watchers as f64)),
        ("seconds between heartbeats".to_owned(), HEARTBEAT_SECONDS.to_string()),
    ];
    let mut found = scenario("idle", &title, ABOUT, parameters, BYTES_PER_CONNECTION, results);
    found.targets.extend(targets.into_iter().flatten());
    found.notes.push(
        "The floor sends one frame to one socket as often as luxcast sends a heartbeat, and is woken for each, which \
         luxcast is not: it sends all that fall due in one tick. The peers send none here."
            .to_owned(),
    );
    Ok(found)
}

fn measure(
    contestant: &Contestant,
    size: Size,
    seconds: u64,
    lab: &Lab,
    watch: &mut dyn FnMut(f64),
) -> Outcome<Findings> {
    let server = contestant.start(&lab.pinning)?;
    let mut crowd = Crowd::of(&server, size.shape, lab.spins())?;
    let bytes = bytes_per_connection(&mut crowd, &server, size.watchers)?;
    let mut figures = vec![(BYTES_PER_CONNECTION, bytes)];
    if contestant.role == Role::Luxcast {
        // The first interval settles the schedule of every connection.
        wait(&mut crowd, HEARTBEAT_SECONDS, &mut |_| {})?;
        let (before, frames) = (server.usage()?, crowd.tally.others);
        wait(&mut crowd, seconds, watch)?;
        let heartbeats = (crowd.tally.others - frames) / FRAMES_PER_HEARTBEAT;
        let cpu = server.usage()?.cpu_nanos - before.cpu_nanos;
        figures.push((CPU_PER_HEARTBEAT, cpu as f64 / 1e3 / heartbeats as f64));
    }
    Ok(Findings { figures, latency: None, complaint: crowd.tally.complaint() })
}

/// Opens this many watchers; returns how much the server's memory grows with each.
pub fn bytes_per_connection(crowd: &mut Crowd, server: &Server, watchers: usize) -> Outcome<f64> {
    let first = FIRST.min(watchers / 2);
    crowd.gather(first, server.address, 0, |_| server.request(0, ""))?;
    let before = server.usage()?;
    let rest = watchers - first;
    crowd.gather(rest, server.address, 0, |_| server.request(0, ""))?;
    let resident = server.usage()?.resident_bytes.saturating_sub(before.resident_bytes);
    Ok(resident as f64 / rest as f64)
}

/// One frame to each socket in turn, as often as heartbeats are sent.
fn measure_floor(
    contestant: &Contestant,
    size: Size,
    seconds: u64,
    lab: &Lab,
    watch: &mut dyn FnMut(f64),
) -> Outcome<Findings> {
    let server = Server::start(&contestant.which, &lab.pinning)?;
    let mut load = begin(&server, size, lab)?;
    let rate = size.watchers as f64 / HEARTBEAT_SECONDS as f64;
    load.pace = Pace::PerSecond(rate);
    let sample = load.run(&server, (rate * seconds as f64) as u64, watch)?;
    let figures = vec![(CPU_PER_HEARTBEAT, sample.cpu_micros_per_message())];
    Ok(Findings { figures, latency: None, complaint: load.crowd.tally.complaint() })
}

fn wait(crowd: &mut Crowd, seconds: u64, watch: &mut dyn FnMut(f64)) -> Outcome<()> {
    let begin = Instant::now();
    let whole = Duration::from_secs(seconds);
    while begin.elapsed() < whole {
        crowd.turn(Duration::from_millis(20))?;
        watch(begin.elapsed().as_secs_f64() / whole.as_secs_f64());
    }
    Ok(())
}
