//! One watcher of one job: what an event costs where nobody shares it.

use crate::Outcome;
use crate::lab::{BYTES_PER_MESSAGE, CPU_PER_MESSAGE, CPU_SHARE, Contestant, Findings, Lab, latency_figures};
use crate::load::Pace;
use crate::result::Scenario;
use crate::scenario::Options;
use crate::scenario::setting::{
    Size, begin, bytes_of, compressing_peers, deflating, floor, luxcasts, note_checks, peers, scenario,
    target_part,
};

const ABOUT: &str = "One watcher follows one job, and the server has nothing else to do: each event is taken in, sent and \
    received by itself. What luxcast saves by sharing, it cannot save here.";

const RATE: u64 = 100;
const LUXCAST: &str = "luxcast";

pub fn run(lab: &Lab, options: &Options) -> Outcome<Scenario> {
    let size = Size { watchers: 1, topics: 1, ..Size::new(options, 1, 1, 1)? };
    let seconds = options.seconds.unwrap_or(10);
    let rate = options.rates.as_ref().and_then(|rates| rates.first().copied()).unwrap_or(RATE);
    let mut contestants = luxcasts(lab, options, LUXCAST, 0, &[]);
    contestants.push(floor(size, 1, 0));
    contestants.extend(peers(lab, 1, 0));
    contestants.extend(compressing_peers(lab, options, 1, 0));
    let results = lab.compare("single", &contestants, |contestant, watch| {
        measure(contestant, rate as f64, rate * seconds, size, lab, watch)
    });
    let target = target_part(BYTES_PER_MESSAGE, &results, &deflating(LUXCAST), LUXCAST, 5.0);
    let number = |count: u64| crate::format::number(count as f64);
    let title = format!("One watcher of one job, {} events a second", number(rate));
    let mut parameters = size.parameters();
    parameters.pop();
    parameters.push(("seconds".to_owned(), seconds.to_string()));
    let mut found = scenario("single", &title, ABOUT, parameters, CPU_PER_MESSAGE, results);
    found.targets.extend(target);
    note_checks(&mut found, options);
    Ok(found)
}

fn measure(
    contestant: &Contestant,
    rate: f64,
    events: u64,
    size: Size,
    lab: &Lab,
    watch: &mut dyn FnMut(f64),
) -> Outcome<Findings> {
    let server = contestant.start(&lab.pinning)?;
    let mut load = begin(&server, size, lab)?;
    load.pace = Pace::PerSecond(rate);
    load.time_messages(0, 0);
    let sample = load.run(&server, events, watch)?;
    let histogram = load.latency()?;
    let mut figures = vec![(CPU_PER_MESSAGE, sample.cpu_micros_per_message())];
    figures.extend(bytes_of(&sample, size.shape));
    figures.push((CPU_SHARE, sample.cpu_nanos as f64 / 1e7 / sample.seconds));
    figures.extend(latency_figures(&histogram));
    Ok(Findings { figures, latency: Some(histogram), complaint: load.crowd.tally.complaint() })
}
