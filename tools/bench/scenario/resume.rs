//! Many watchers return at once and catch up, beside others that are live.

use std::time::Instant;

use crate::Outcome;
use crate::crowd::PROMPT_GROUP;
use crate::lab::{CATCH_UP, Contestant, Findings, Kind, Lab, P99, P99_BEFORE, latency_figures};
use crate::load::{Load, Pace};
use crate::result::Scenario;
use crate::scenario::Options;
use crate::scenario::setting::{Size, begin_in, scenario, target_at_most, target_times_within};

const ABOUT: &str = "A network fault cuts half of the watchers off while events go on. They come back at the same \
    moment, each with the number it had (since=), and get what they missed, without loss or repetition, while the \
    other half keeps watching live.";

/// Events a second while they are away, and while they return.
const RATE: f64 = 1_000.0;
const FAST_WINDOW: u64 = 1_024;
/// For the latency before and after.
const STEADY_EVENTS: u64 = 3_000;
const LUXCAST: &str = "luxcast";

pub fn run(lab: &Lab, options: &Options) -> Outcome<Scenario> {
    let size = Size::new(options, 1_000, 1, FAST_WINDOW)?;
    let both = Size { watchers: 2 * size.watchers, ..size }.check(lab)?;
    let missed = options.events.unwrap_or(10_000);
    let mut contestants = vec![lab.luxcast(LUXCAST, missed, &[])];
    contestants.extend(options.streams().map(|transport| lab.luxcast(LUXCAST, missed, &[]).over(transport)));
    let results = lab.compare("resume", &contestants, |contestant, _| measure(contestant, both, lab));
    let targets = contestants.iter().flat_map(|contestant| {
        [
            target_at_most(CATCH_UP, &results, &contestant.name, 2.0),
            target_times_within(P99, P99_BEFORE, &results, &contestant.name, 2.0),
        ]
    });
    let targets: Vec<_> = targets.flatten().collect();
    let number = |count: u64| crate::format::number(count as f64);
    let parameters = vec![
        ("watchers that come back".to_owned(), number(size.watchers as u64)),
        ("watchers that stay".to_owned(), number(size.watchers as u64)),
        ("events missed".to_owned(), number(missed)),
        ("events a second meanwhile".to_owned(), number(RATE as u64)),
    ];
    let mut found = scenario("resume", "All return at once", ABOUT, parameters, CATCH_UP, results);
    found.targets.extend(targets);
    Ok(found)
}

fn measure(contestant: &Contestant, size: Size, lab: &Lab) -> Outcome<Findings> {
    let server = contestant.start(&lab.pinning)?;
    let mut load = begin_in(&server, size, lab, PROMPT_GROUP)?;
    let half = size.watchers / 2;
    // Before: the latency of live watchers when nothing happens.
    load.pace = Pace::PerSecond(RATE);
    load.time_messages(0, PROMPT_GROUP);
    load.run(&server, STEADY_EVENTS, &mut |_| {})?;
    let before: Vec<(Kind, f64)> = latency_figures(&load.latency()?);
    // The first half is away while events continue.
    let since = load.crowd.stream_seq;
    (0..half).for_each(|watcher| load.crowd.cut(watcher));
    load.listeners = vec![(size.watchers - half) as u64];
    load.pace = Pace::Window(FAST_WINDOW);
    load.run(&server, contestant.events, &mut |_| {})?;
    // All return within one turn of the load's loop.
    load.time_messages(0, PROMPT_GROUP);
    load.pace = Pace::PerSecond(RATE);
    // The returning watchers have much to read; the live ones are timed.
    (0..half).for_each(|watcher| load.crowd.set_group(watcher, 0));
    for watcher in 0..half {
        let request = server.request(0, &format!("?since={since}"));
        load.crowd.reopen(watcher, server.address, request)?;
    }
    let seconds = catch_up(&mut load, half)?;
    let histogram = load.latency()?;
    let mut figures = vec![(CATCH_UP, seconds)];
    figures.extend(latency_figures(&histogram));
    figures.extend(before.iter().filter(|(kind, _)| *kind == P99).map(|(_, value)| (P99_BEFORE, *value)));
    Ok(Findings { figures, latency: Some(histogram), complaint: load.crowd.tally.complaint() })
}

/// Publishes at the steady rate until the returning watchers have everything published by then; returns how long that
/// took.
fn catch_up(load: &mut Load, half: usize) -> Outcome<f64> {
    let begin = Instant::now();
    load.keep_pace(begin, RATE, |crowd, next| {
        (0..half).all(|watcher| crowd.is_open(watcher) && crowd.next_of(watcher) + 20 >= next)
    })?;
    Ok(begin.elapsed().as_secs_f64())
}
