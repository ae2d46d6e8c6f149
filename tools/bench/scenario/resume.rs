//! Many watchers return at once and catch up, beside others that are live.

use std::time::Instant;

use crate::Outcome;
use crate::crowd::PROMPT_GROUP;
use crate::lab::{
    BYTES_PER_MESSAGE, CATCH_UP, CPU_PER_MESSAGE, Contestant, Findings, Kind, Lab, P99, P99_BEFORE,
    latency_figures,
};
use crate::load::{Load, Pace, Sample};
use crate::result::Scenario;
use crate::scenario::Options;
use crate::scenario::setting::{
    Size, begin_in, bytes_of, deflating, luxcasts, note_checks, scenario, target_at_most, target_part,
    target_times, target_times_within,
};
use crate::server::Server;

const ABOUT: &str = "A network fault cuts half of the watchers off while events go on. They come back at the same \
    moment, each with the number it had (since=), and get what they missed, without loss or repetition, while the \
    other half keeps watching live.";

/// Events a second while they are away, and while they return.
const RATE: f64 = 1_000.0;
const FAST_WINDOW: u64 = 1_024;
/// For the latency before and after.
const STEADY_EVENTS: u64 = 3_000;
const LUXCAST: &str = "luxcast";
/// Behind the name of who comes back to many places, evenly spread over the events missed.
const APART: &str = ", each to its own place";

pub fn run(lab: &Lab, options: &Options) -> Outcome<Scenario> {
    let size = Size::new(options, 1_000, 1, FAST_WINDOW)?;
    let both = Size { watchers: 2 * size.watchers, ..size }.check(lab)?;
    let missed = options.events.unwrap_or(10_000);
    let mut contestants = luxcasts(lab, options, LUXCAST, missed, &[]);
    if options.deflate {
        // Beside all that come back to one place.
        let apart = contestants.clone().into_iter();
        contestants.extend(apart.map(|one| Contestant { name: format!("{}{APART}", one.name), ..one }));
    }
    contestants.extend(options.streams().map(|transport| lab.luxcast(LUXCAST, missed, &[]).over(transport)));
    let results = lab.compare("resume", &contestants, |contestant, _| measure(contestant, both, lab));
    let targets = contestants.iter().flat_map(|contestant| {
        [
            target_at_most(CATCH_UP, &results, &contestant.name, 2.0),
            target_times_within(P99, P99_BEFORE, &results, &contestant.name, 2.0),
        ]
    });
    let of_compression = [
        target_part(BYTES_PER_MESSAGE, &results, &deflating(LUXCAST), LUXCAST, 6.0),
        target_times(CPU_PER_MESSAGE, &results, &deflating(LUXCAST), LUXCAST, 0.7),
    ];
    let targets: Vec<_> = targets.chain(of_compression).flatten().collect();
    let number = |count: u64| crate::format::number(count as f64);
    let parameters = vec![
        ("watchers that come back".to_owned(), number(size.watchers as u64)),
        ("watchers that stay".to_owned(), number(size.watchers as u64)),
        ("events missed".to_owned(), number(missed)),
        ("events a second meanwhile".to_owned(), number(RATE as u64)),
    ];
    let mut found = scenario("resume", "All return at once", ABOUT, parameters, CATCH_UP, results);
    found.targets.extend(targets);
    note_checks(&mut found, options);
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
    let (since, number) = (load.crowd.stream_seq, load.feed.next_of(0));
    (0..half).for_each(|watcher| load.crowd.cut(watcher));
    load.listeners = vec![(size.watchers - half) as u64];
    load.pace = Pace::Window(FAST_WINDOW);
    load.run(&server, contestant.events, &mut |_| {})?;
    let places = Places { since, number, missed: contestant.events, count: half as u64 };
    let is_apart = contestant.name.ends_with(APART);
    if is_apart && load.crowd.stream_seq != since + contestant.events {
        return Err("the numbers of one job's events are not in a row".into());
    }
    // All return within one turn of the load's loop.
    load.time_messages(0, PROMPT_GROUP);
    load.pace = Pace::PerSecond(RATE);
    // The returning watchers have much to read; the live ones are timed.
    (0..half).for_each(|watcher| load.crowd.set_group(watcher, 0));
    for watcher in 0..half {
        let (since, next) = places.of(if is_apart { watcher as u64 } else { 0 });
        load.crowd.expect(watcher, next);
        let request = server.request(0, &format!("?since={since}"));
        load.crowd.reopen(watcher, server.address, request)?;
    }
    let sample = catch_up(&mut load, &server, half)?;
    let histogram = load.latency()?;
    if size.shape.has_text() {
        load.settle(0..size.watchers)?;
    }
    let mut figures = vec![(CATCH_UP, sample.seconds)];
    if let Some(bytes) = bytes_of(&sample, size.shape) {
        figures.extend([bytes, (CPU_PER_MESSAGE, sample.cpu_micros_per_message())]);
    }
    figures.extend(latency_figures(&histogram));
    figures.extend(before.iter().filter(|(kind, _)| *kind == P99).map(|(_, value)| (P99_BEFORE, *value)));
    Ok(Findings { figures, latency: Some(histogram), complaint: load.crowd.tally.complaint() })
}

/// The places in the events missed to which watchers come back.
struct Places {
    /// Of the last event before: luxcast's number, and the load's number of the next.
    since: u64,
    number: u64,
    missed: u64,
    count: u64,
}

impl Places {
    /// Whose number a watcher has, and the load's number that it must get first.
    fn of(&self, watcher: u64) -> (u64, u64) {
        let had = self.missed * watcher / self.count;
        (self.since + had, self.number + had)
    }
}

/// Publishes at the steady rate until the returning watchers have everything published by then; returns what came
/// meanwhile, to those who stayed as well.
fn catch_up(load: &mut Load, server: &Server, half: usize) -> Outcome<Sample> {
    let (usage, tally) = (server.usage()?, load.crowd.tally);
    let begin = Instant::now();
    load.keep_pace(begin, RATE, |crowd, next| {
        (0..half).all(|watcher| crowd.is_open(watcher) && crowd.next_of(watcher) + 20 >= next)
    })?;
    Ok(Sample {
        seconds: begin.elapsed().as_secs_f64(),
        messages: load.crowd.tally.messages - tally.messages,
        bytes: load.crowd.tally.bytes - tally.bytes,
        cpu_nanos: server.usage()?.cpu_nanos - usage.cpu_nanos,
        ..Sample::default()
    })
}

#[cfg(test)]
mod tests {
    use super::Places;

    #[test]
    fn places_are_spread_over_what_was_missed() {
        let places = Places { since: 500, number: 21, missed: 10, count: 4 };
        assert_eq!([0, 1, 3].map(|watcher| places.of(watcher)), [(500, 21), (502, 23), (507, 28)]);
    }
}
