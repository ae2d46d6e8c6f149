//! From publish to receive, at fixed rates.

use crate::Outcome;
use crate::lab::{
    BYTES_PER_MESSAGE, CPU_PER_MESSAGE, CPU_SHARE, Contestant, Findings, Lab, P99, latency_figures,
};
use crate::layout::Transport;
use crate::load::Pace;
use crate::result::{Role, Scenario};
use crate::scenario::Options;
use crate::scenario::setting::{
    FLOOR, Size, begin, bytes_of, compressing_peers, deflating, floor, luxcasts, note_checks, peers,
    peers_over, scenario, target_at_most, target_part, target_times,
};

const ABOUT: &str = "Events come at a steady rate; each message's way from the publisher's write to the watcher's \
    read is timed. At low rates the order in which watchers are served decides: the last of a thousand waits for \
    the others.";

/// One `send` for each message and watcher takes 2 to 5 µs: the floor and most peers cannot reach more than this.
const UNBATCHED_MAX: u64 = 100_000;
const LUXCAST: &str = "luxcast";
/// At this rate nothing gathers, so that compression costs the most.
const SLOW: u64 = 50;
const RATES: [u64; 4] = [SLOW, 500, 2_000, 10_000];

pub fn run(lab: &Lab, options: &Options) -> Outcome<Scenario> {
    let size = Size::new(options, 1_000, 1, 1)?.check(lab)?;
    let seconds = options.seconds.unwrap_or(4);
    let rates = options.rates.clone().unwrap_or_else(|| RATES.to_vec());
    let mut contestants = Vec::new();
    for &rate in &rates {
        let at = |mut contestant: Contestant| {
            contestant.name = named(&contestant.name, rate);
            contestant.events = rate * seconds;
            (contestant, rate)
        };
        let able =
            |peer: &Contestant| rate * size.watchers as u64 <= UNBATCHED_MAX || peer.name == "uWebSockets";
        contestants.extend(luxcasts(lab, options, LUXCAST, 0, &[]).into_iter().map(at));
        if options.has(Transport::WebSocket) {
            contestants.extend(Some(floor(size, 1, 0)).filter(able).map(at));
            contestants.extend(peers(lab, size.watchers, 0).into_iter().filter(able).map(at));
        }
        contestants
            .extend(compressing_peers(lab, options, size.watchers, 0).into_iter().filter(able).map(at));
        for transport in options.streams() {
            contestants.push(at(lab.luxcast(LUXCAST, 0, &[]).over(transport)));
            contestants.extend(peers_over(transport, lab, size.watchers, 0).into_iter().filter(able).map(at));
        }
    }
    let (contestants, paces): (Vec<_>, Vec<_>) = contestants.into_iter().unzip();
    let results = lab.compare("latency", &contestants, |contestant, watch| {
        let place = contestants.iter().position(|other| other.name == contestant.name);
        let rate = paces[place.ok_or("who is that?")?];
        measure(contestant, rate as f64, size, lab, watch)
    });
    let (plain, deflating) = (named(LUXCAST, SLOW), named(&deflating(LUXCAST), SLOW));
    let targets = [
        target_times(P99, &results, &plain, &named(FLOOR, SLOW), 1.15),
        target_at_most(P99, &results, &named(LUXCAST, 10_000), 12.0),
        target_part(BYTES_PER_MESSAGE, &results, &deflating, &plain, 6.0),
        target_times(CPU_PER_MESSAGE, &results, &deflating, &plain, 1.1),
        target_times(P99, &results, &deflating, &plain, 1.1),
    ];
    let mut found = scenario(
        "latency",
        "Publish to receive, at fixed rates",
        ABOUT,
        parameters(size, seconds),
        P99,
        results,
    );
    found.targets.extend(targets.into_iter().flatten());
    note_checks(&mut found, options);
    if contestants.iter().all(|contestant| contestant.role != Role::Peer) {
        return Ok(found);
    }
    found.notes.push(format!(
        "Servers that make a system call for each message cannot reach {} messages a second on one core, so they \
         are left out above that.",
        crate::format::number(UNBATCHED_MAX as f64)
    ));
    Ok(found)
}

fn named(name: &str, rate: u64) -> String {
    format!("{name}, {}/s", crate::format::number(rate as f64))
}

fn parameters(size: Size, seconds: u64) -> Vec<(String, String)> {
    let mut parameters = size.parameters();
    parameters.pop();
    parameters.push(("seconds".to_owned(), seconds.to_string()));
    parameters
}

fn measure(
    contestant: &Contestant,
    rate: f64,
    size: Size,
    lab: &Lab,
    watch: &mut dyn FnMut(f64),
) -> Outcome<Findings> {
    let server = contestant.start(&lab.pinning)?;
    let mut load = begin(&server, size, lab)?;
    load.pace = Pace::PerSecond(rate);
    load.time_messages(0, 0);
    let sample = load.run(&server, contestant.events, watch)?;
    let histogram = load.latency()?;
    let mut figures = latency_figures(&histogram);
    figures.push((CPU_PER_MESSAGE, sample.cpu_micros_per_message()));
    figures.extend(bytes_of(&sample, size.shape));
    figures.push((CPU_SHARE, sample.cpu_nanos as f64 / 1e7 / sample.seconds));
    Ok(Findings { figures, latency: Some(histogram), complaint: load.crowd.tally.complaint() })
}
