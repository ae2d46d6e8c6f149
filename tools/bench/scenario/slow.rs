//! A few watchers that never read, beside many that do.

use crate::Outcome;
use crate::lab::{Contestant, Findings, Lab, MEMORY_GROWN, MESSAGES_PER_SECOND, P99, latency_figures};
use crate::load::Pace;
use crate::result::Scenario;
use crate::scenario::Options;
use crate::scenario::setting::{
    Size, begin, scenario, target_at_least_times, target_at_most_more, target_times,
};
use crate::server::Server;

const ABOUT: &str = "Ten of the watchers stop reading for good: a laptop that was shut, a browser tab that hangs. The \
    others should not notice, and the server should not buffer for those ten.";

const SLOW: usize = 10;
const NONE: &str = "luxcast, all read";
const SOME: &str = "luxcast, 10 never read";
/// For the latency of the watchers that read.
const RATE: u64 = 2_000;
/// Small, so that it is full before the run begins and what grows then is not history.
const HISTORY_BYTES: u64 = 16 << 20;
/// A queue for each of ten would hold all that they miss: tens of megabytes each. The allocator alone varies by this
/// much.
const MEMORY_NOISE_MB: f64 = 2.0;

pub fn run(lab: &Lab, options: &Options) -> Outcome<Scenario> {
    let size = Size::new(options, 1_000, 1, 1_024)?.check(lab)?;
    let events = options.events.unwrap_or(100_000);
    let seconds = options.seconds.unwrap_or(4);
    let history = HISTORY_BYTES.to_string();
    let flags = ["--overrun", "gap", "--history-bytes", history.as_str()];
    let contestants = [lab.luxcast(NONE, events, &flags), lab.luxcast(SOME, events, &flags)];
    let results = lab.compare("slow", &contestants, |contestant, watch| {
        let slow = if contestant.name == SOME { SLOW } else { 0 };
        measure(contestant, slow, seconds, size, lab, watch)
    });
    let targets = [
        target_at_least_times(MESSAGES_PER_SECOND, &results, SOME, NONE, 0.95),
        target_times(P99, &results, SOME, NONE, 1.1),
        target_at_most_more(MEMORY_GROWN, &results, SOME, NONE, MEMORY_NOISE_MB),
    ];
    let mut parameters = size.parameters();
    parameters.push(("events a second, for latency".to_owned(), crate::format::number(RATE as f64)));
    let mut found = scenario("slow", "Some never read", ABOUT, parameters, MESSAGES_PER_SECOND, results);
    found.targets.extend(targets.into_iter().flatten());
    Ok(found)
}

fn measure(
    contestant: &Contestant,
    slow: usize,
    seconds: u64,
    size: Size,
    lab: &Lab,
    watch: &mut dyn FnMut(f64),
) -> Outcome<Findings> {
    let server = Server::start(&contestant.which, &lab.pinning)?;
    let mut load = begin(&server, size, lab)?;
    let fill = 2 * HISTORY_BYTES / size.shape.frame_bytes as u64;
    load.run(&server, fill, watch)?;
    let before = server.usage()?.resident_bytes;
    (0..slow).try_for_each(|watcher| load.crowd.mute(watcher))?;
    load.listeners = vec![(size.watchers - slow) as u64];
    let sample = load.run(&server, contestant.events, watch)?;
    load.pace = Pace::PerSecond(RATE as f64);
    load.time_messages(0, 0);
    load.run(&server, RATE * seconds, watch)?;
    let histogram = load.latency()?;
    let mut figures = vec![(MESSAGES_PER_SECOND, sample.messages_per_second())];
    figures.extend(latency_figures(&histogram));
    let after = server.usage()?.resident_bytes;
    figures.push((MEMORY_GROWN, (after as f64 - before as f64) / 1e6));
    Ok(Findings { figures, latency: Some(histogram), complaint: load.crowd.tally.complaint() })
}
