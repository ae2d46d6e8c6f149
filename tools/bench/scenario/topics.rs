//! Many jobs with a few watchers each, events round robin: next to nothing can be shared.

use crate::Outcome;
use crate::lab::{BYTES_PER_MESSAGE, CPU_PER_MESSAGE, Lab};
use crate::result::Scenario;
use crate::scenario::Options;
use crate::scenario::setting::{
    FLOOR, Size, compressing_peers, deflating, floor, luxcasts, measure_fanout, note_checks, peers, scenario,
    target_of_floor, target_part, target_times,
};

const ABOUT: &str = "Many jobs run at once and each has a few watchers; events come round robin, so that a server \
    finds the least to share. This is the hardest load for a server that batches.";

const LUXCAST: &str = "luxcast";

pub fn run(lab: &Lab, options: &Options) -> Outcome<Scenario> {
    let size = Size::new(options, 10_000, 1_000, 16_384)?.check(lab)?;
    let events = options.events.unwrap_or(400_000);
    let mut contestants = luxcasts(lab, options, LUXCAST, events, &[]);
    contestants.push(floor(size, 1, (events / 8).max(1_000)));
    contestants.extend(peers(lab, size.watchers, events));
    contestants.extend(compressing_peers(lab, options, size.watchers, events));
    let results =
        lab.compare("topics", &contestants, |contestant, watch| measure_fanout(contestant, size, lab, watch));
    let targets = [
        target_of_floor(CPU_PER_MESSAGE, &results, LUXCAST, FLOOR, 9.0),
        target_part(BYTES_PER_MESSAGE, &results, &deflating(LUXCAST), LUXCAST, 5.0),
        target_times(CPU_PER_MESSAGE, &results, &deflating(LUXCAST), LUXCAST, 1.3),
    ];
    let targets: Vec<_> = targets.into_iter().flatten().collect();
    let number = |count: usize| crate::format::number(count as f64);
    let title = format!("{} watchers of {} jobs", number(size.watchers), number(size.topics));
    let mut found = scenario("topics", &title, ABOUT, size.parameters(), CPU_PER_MESSAGE, results);
    found.targets.extend(targets);
    note_checks(&mut found, options);
    Ok(found)
}
