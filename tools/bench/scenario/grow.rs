//! How the cost of a message grows.

use crate::Outcome;
use crate::lab::{CPU_PER_MESSAGE, Contestant, Findings, Lab};
use crate::load::Pace;
use crate::result::Scenario;
use crate::scenario::Options;
use crate::scenario::setting::{Size, begin, measure_fanout, scenario, target_times};
use crate::server::Server;

const ABOUT: &str = "The same work with more watchers of one job, with more jobs of ten watchers each, and with two \
    shards in place of one on the same core at the same fixed rate: what a message costs should stay.";

/// Ten watchers a job; the number of jobs depends on the file limit of both processes.
const WATCHERS_PER_JOB: usize = 10;
/// Messages of one run for one job, whatever the number of watchers; and events of each job if there are many, so
/// that the first, cold ones do not dominate.
const MESSAGES: u64 = 80_000_000;
const EVENTS_PER_JOB: u64 = 300;
const EVENTS_MIN: u64 = 150_000;
const SHARD_RATE: f64 = 2_000.0;
const SHARD_WATCHERS: usize = 1_000;

pub fn run(lab: &Lab, options: &Options) -> Outcome<Scenario> {
    let jobs_most = 1_900.min(lab.room / WATCHERS_PER_JOB);
    let sizes = |watchers: usize, topics: usize, window: u64| Size::new(options, watchers, topics, window);
    let mut rows: Vec<(Contestant, Size, Option<f64>)> = Vec::new();
    let mut add = |name: &str, size: Size, flags: &[&str], rate: Option<f64>| {
        let each = (size.watchers / size.topics) as u64;
        let usual = match size.topics as u64 {
            1 => (MESSAGES / each).min(400_000),
            jobs => (EVENTS_PER_JOB * jobs).max(EVENTS_MIN),
        };
        rows.push((lab.luxcast(name, options.events.unwrap_or(usual), flags), size, rate));
    };
    for watchers in [100, 1_000, 10_000] {
        let name = format!("{} watchers of one job", crate::format::number(watchers as f64));
        add(&name, sizes(watchers, 1, 1_024)?.check(lab)?, &[], None);
    }
    for jobs in [190, 1_900.min(jobs_most)] {
        let size = sizes(jobs * WATCHERS_PER_JOB, jobs, 16 * jobs as u64)?.check(lab)?;
        add(&format!("{} jobs of ten watchers", crate::format::number(jobs as f64)), size, &[], None);
    }
    let paced = sizes(SHARD_WATCHERS, 1, 1_024)?;
    add("one shard, fixed rate", paced, &[], Some(SHARD_RATE));
    add("two shards, fixed rate", paced, &["--shards", "2"], Some(SHARD_RATE));
    let contestants: Vec<Contestant> = rows.iter().map(|(contestant, ..)| contestant.clone()).collect();
    let results = lab.compare("grow", &contestants, |contestant, watch| {
        let row = rows.iter().find(|(other, ..)| other.name == contestant.name);
        let (_, size, rate) = row.ok_or("who is that?")?;
        match rate {
            None => measure_fanout(contestant, *size, lab, watch),
            Some(rate) => measure_paced(contestant, *rate, *size, lab, watch),
        }
    });
    let name = |place: usize| contestants[place].name.clone();
    let targets = [
        target_times(CPU_PER_MESSAGE, &results, &name(2), &name(0), 1.3),
        target_times(CPU_PER_MESSAGE, &results, &name(4), &name(3), 1.3),
        target_times(CPU_PER_MESSAGE, &results, &name(6), &name(5), 1.15),
    ];
    let parameters = vec![("events a second, for shards".to_owned(), crate::format::number(SHARD_RATE))];
    let mut found =
        scenario("grow", "How the cost of a message grows", ABOUT, parameters, CPU_PER_MESSAGE, results);
    found.targets.extend(targets.into_iter().flatten());
    found.notes.push(
        "The jobs are as many as the file limit allows at ten connections each. Two shards share one core here: \
         this shows what sharding costs, not what it gains."
            .to_owned(),
    );
    Ok(found)
}

/// The cost at a fixed rate.
fn measure_paced(
    contestant: &Contestant,
    rate: f64,
    size: Size,
    lab: &Lab,
    watch: &mut dyn FnMut(f64),
) -> Outcome<Findings> {
    let server = Server::start(&contestant.which, &lab.pinning)?;
    let mut load = begin(&server, size, lab)?;
    load.pace = Pace::PerSecond(rate);
    let sample = load.run(&server, (rate * 4.0) as u64, watch)?;
    let figures = vec![(CPU_PER_MESSAGE, sample.cpu_micros_per_message())];
    Ok(Findings { figures, latency: None, complaint: load.crowd.tally.complaint() })
}
