//! A quiet job beside a busy one.

use std::time::{Duration, Instant};

use crate::Outcome;
use crate::crowd::{Crowd, PROMPT_GROUP};
use crate::feed::Feed;
use crate::lab::{Contestant, Findings, Lab, MESSAGES_PER_SECOND, P99, latency_figures};
use crate::load::{Load, Pace};
use crate::result::Scenario;
use crate::scenario::Options;
use crate::scenario::setting::{Size, scenario, target_at_most};
use crate::server::Server;

const ABOUT: &str = "One job has ten thousand watchers and sends as fast as they read; another has a single watcher \
    and an event every 20 ms. How long do the quiet job's events take?";

const QUIET: usize = 1;
const QUIET_PAUSE: Duration = Duration::from_millis(20);

pub fn run(lab: &Lab, options: &Options) -> Outcome<Scenario> {
    let size = Size::new(options, 10_000, 2, 64)?.check(lab)?;
    let seconds = options.seconds.unwrap_or(5);
    let contestants = [lab.luxcast("luxcast", 0, &[])];
    let results =
        lab.compare("fair", &contestants, |contestant, watch| measure(contestant, seconds, size, lab, watch));
    let target = target_at_most(P99, &results, "luxcast", 3.0);
    let mut parameters = size.parameters();
    parameters.push(("seconds".to_owned(), seconds.to_string()));
    let mut found = scenario("fair", "A quiet job beside a busy one", ABOUT, parameters, P99, results);
    found.targets.extend(target);
    Ok(found)
}

fn measure(
    contestant: &Contestant,
    seconds: u64,
    size: Size,
    lab: &Lab,
    watch: &mut dyn FnMut(f64),
) -> Outcome<Findings> {
    let server = Server::start(&contestant.which, &lab.pinning)?;
    let mut crowd = Crowd::new(size.shape, lab.spins())?;
    crowd.gather(size.watchers, server.address, 0, |_| server.request(0, ""))?;
    crowd.gather(1, server.address, PROMPT_GROUP, |_| server.request(QUIET, ""))?;
    let feed = Feed::open(server.inlet.clone(), size.shape, 2, &crowd.poll)?;
    let mut load = Load::new(crowd, feed, vec![size.watchers as u64, 1], Pace::Window(size.window));
    load.warm_up()?;
    load.listeners = vec![size.watchers as u64];
    load.time_messages(QUIET, PROMPT_GROUP);
    let (begin, whole) = (Instant::now(), Duration::from_secs(seconds));
    let mut quiet_at = begin;
    let before = load.crowd.tally.messages;
    while begin.elapsed() < whole {
        let now = Instant::now();
        let is_time = now >= quiet_at;
        if is_time {
            quiet_at += QUIET_PAUSE;
        }
        load.keep_busy(is_time.then_some(QUIET))?;
        watch(begin.elapsed().as_secs_f64() / whole.as_secs_f64());
    }
    let messages = load.crowd.tally.messages - before;
    let histogram = load.latency()?;
    let mut figures = latency_figures(&histogram);
    figures.push((MESSAGES_PER_SECOND, messages as f64 / begin.elapsed().as_secs_f64()));
    Ok(Findings { figures, latency: Some(histogram), complaint: load.crowd.tally.complaint() })
}
