//! One job, many watchers, events as fast as the watchers get them.

use crate::Outcome;
use crate::lab::{BYTES_PER_MESSAGE, CPU_PER_MESSAGE, Lab};
use crate::layout::Transport;
use crate::result::Scenario;
use crate::scenario::Options;
use crate::scenario::setting::{
    FLOOR, Size, compressing_peers, deflating, floor, luxcasts, measure_fanout, note_checks, peers,
    peers_over, scenario, target_of_floor, target_part, target_times, targets_of_streams,
};

const ABOUT: &str = "Everybody watches the same job, and a publisher sends its events as fast as they are delivered: \
    what a dashboard with many viewers costs. Each watcher's stream is checked number by number.";

const LUXCAST: &str = "luxcast";

pub fn run(lab: &Lab, options: &Options) -> Outcome<Scenario> {
    let size = Size::new(options, 1_000, 1, 1_024)?.check(lab)?;
    let events = options.events.unwrap_or(20_000);
    // Whatever else is measured, luxcast over WebSocket is beside it.
    let mut contestants = luxcasts(lab, options, LUXCAST, events, &[]);
    if options.has(Transport::WebSocket) {
        contestants.push(floor(size, 1, (events / 20).max(100)));
        contestants.push(floor(size, 16, (events / 4).max(100)));
        contestants.extend(peers(lab, size.watchers, events));
    }
    contestants.extend(compressing_peers(lab, options, size.watchers, events));
    for transport in options.streams() {
        contestants.push(lab.luxcast(LUXCAST, events, &[]).over(transport));
        contestants.extend(peers_over(transport, lab, size.watchers, events));
    }
    let results =
        lab.compare("fanout", &contestants, |contestant, watch| measure_fanout(contestant, size, lab, watch));
    let targets = [
        target_of_floor(CPU_PER_MESSAGE, &results, LUXCAST, FLOOR, 60.0),
        target_part(BYTES_PER_MESSAGE, &results, &deflating(LUXCAST), LUXCAST, 6.0),
        target_times(CPU_PER_MESSAGE, &results, &deflating(LUXCAST), LUXCAST, 0.65),
    ];
    let targets: Vec<_> =
        targets.into_iter().chain(targets_of_streams(CPU_PER_MESSAGE, &results, LUXCAST)).flatten().collect();
    let title = format!("{} watchers of one job", crate::format::number(size.watchers as f64));
    let mut found = scenario("fanout", &title, ABOUT, size.parameters(), CPU_PER_MESSAGE, results);
    found.targets.extend(targets);
    note_checks(&mut found, options);
    Ok(found)
}
