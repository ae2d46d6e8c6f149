//! A daemon that knows very many jobs.

use crate::Outcome;
use crate::lab::{BYTES_PER_TOPIC, CPU_PER_MESSAGE, Contestant, Findings, Lab};
use crate::load::Pace;
use crate::result::Scenario;
use crate::scenario::Options;
use crate::scenario::setting::{Size, begin, scenario, target_at_most, target_times};
use crate::server::Server;

const ABOUT: &str = "A hundred thousand jobs have had events and are remembered. What each costs beyond the history, \
    and whether delivering to the watchers of one of them costs more than if it were the only one.";

const FEW: &str = "luxcast, 1 job known";
const MANY: &str = "luxcast, all jobs known";
const WATCHERS: usize = 1_000;
/// Small, so that it is full before and after.
const HISTORY_BYTES: u64 = 16 << 20;

pub fn run(lab: &Lab, options: &Options) -> Outcome<Scenario> {
    let jobs = options.topics.unwrap_or(100_000);
    let size = Size { watchers: WATCHERS, ..Size::new(options, WATCHERS, 1, 1_024)? }.check(lab)?;
    let size = Size { topics: 1, ..size };
    let events = options.events.unwrap_or(20_000);
    let (history, jobs_max) = (HISTORY_BYTES.to_string(), jobs.max(2).to_string());
    let flags = ["--history-bytes", history.as_str(), "--jobs-max", jobs_max.as_str()];
    let contestants = [lab.luxcast(FEW, events, &flags), lab.luxcast(MANY, events, &flags)];
    let results = lab.compare("many", &contestants, |contestant, watch| {
        measure(contestant, if contestant.name == MANY { jobs } else { 1 }, size, lab, watch)
    });
    let targets = [
        target_at_most(BYTES_PER_TOPIC, &results, MANY, 600.0),
        target_times(CPU_PER_MESSAGE, &results, MANY, FEW, 1.05),
    ];
    let number = |count: u64| crate::format::number(count as f64);
    let parameters =
        vec![("jobs known".to_owned(), number(jobs)), ("watchers".to_owned(), number(WATCHERS as u64))];
    let title = format!("{} jobs known", number(jobs));
    let mut found = scenario("many", &title, ABOUT, parameters, BYTES_PER_TOPIC, results);
    found.targets.extend(targets.into_iter().flatten());
    Ok(found)
}

fn measure(
    contestant: &Contestant,
    jobs: u64,
    size: Size,
    lab: &Lab,
    watch: &mut dyn FnMut(f64),
) -> Outcome<Findings> {
    let server = Server::start(&contestant.which, &lab.pinning)?;
    let mut load = begin(&server, size, lab)?;
    // The history is full before the jobs come, so that later growth is not history.
    load.pace = Pace::Window(size.window);
    load.run(&server, 2 * HISTORY_BYTES / size.shape.frame_bytes as u64, watch)?;
    let before = server.usage()?.resident_bytes;
    load.introduce(&server, jobs - 1, size.shape)?;
    let mut figures = Vec::new();
    if jobs > 1 {
        let grown = server.usage()?.resident_bytes.saturating_sub(before);
        figures.push((BYTES_PER_TOPIC, grown as f64 / (jobs - 1) as f64));
    }
    let sample = load.run(&server, contestant.events, watch)?;
    figures.push((CPU_PER_MESSAGE, sample.cpu_micros_per_message()));
    Ok(Findings { figures, latency: None, complaint: load.crowd.tally.complaint() })
}
