//! Many jobs with a few watchers each, events round robin: next to nothing can be shared.

use crate::Outcome;
use crate::lab::{CPU_PER_MESSAGE, Lab};
use crate::result::Scenario;
use crate::scenario::Options;
use crate::scenario::setting::{FLOOR, Size, floor, measure_fanout, peers, scenario, target_of_floor};

const ABOUT: &str = "Many jobs run at once and each has a few watchers; events come round robin, so that a server \
    finds the least to share. This is the hardest load for a server that batches.";

pub fn run(lab: &Lab, options: &Options) -> Outcome<Scenario> {
    let size = Size::new(options, 10_000, 1_000, 16_384)?.check(lab)?;
    let events = options.events.unwrap_or(400_000);
    let mut contestants = vec![lab.luxcast("luxcast", events, &[]), floor(size, 1, (events / 8).max(1_000))];
    contestants.extend(peers(lab, size.watchers, events));
    let results =
        lab.compare("topics", &contestants, |contestant, watch| measure_fanout(contestant, size, lab, watch));
    let target = target_of_floor(CPU_PER_MESSAGE, &results, "luxcast", FLOOR, 9.0);
    let number = |count: usize| crate::format::number(count as f64);
    let title = format!("{} watchers of {} jobs", number(size.watchers), number(size.topics));
    let mut found = scenario("topics", &title, ABOUT, size.parameters(), CPU_PER_MESSAGE, results);
    found.targets.extend(target);
    Ok(found)
}
