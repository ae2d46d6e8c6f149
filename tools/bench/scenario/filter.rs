//! One job whose watchers mostly want other events.

use crate::Outcome;
use crate::crowd::Crowd;
use crate::feed::Feed;
use crate::lab::{CPU_PER_EVENT, Contestant, EVENTS_PER_SECOND, Findings, Lab};
use crate::load::{Load, Pace};
use crate::result::Scenario;
use crate::scenario::Options;
use crate::scenario::setting::{Size, scenario, target_at_most, target_times};
use crate::server::Server;
use crate::wire::{OTHER_TYPE, TYPE};

const ABOUT: &str = "All watch one job, but only ten want the type of event that comes; the others asked for another \
    type. A server that looks at each watcher for each event pays for all of them.";

const MATCHING: usize = 10;
const SMALL: &str = "luxcast, 990 do not match";
const LARGE: &str = "luxcast, 9,990 do not match";

pub fn run(lab: &Lab, options: &Options) -> Outcome<Scenario> {
    let size = Size::new(options, 1_000, 1, 4_096)?.check(lab)?;
    let events = options.events.unwrap_or(1_000_000);
    let contestants = [lab.luxcast(SMALL, events, &[]), lab.luxcast(LARGE, events, &[])];
    let results = lab.compare("filter", &contestants, |contestant, watch| {
        let watchers = if contestant.name == SMALL { 1_000 } else { 10_000 };
        measure(contestant, Size { watchers, ..size }.check(lab)?, lab, watch)
    });
    let targets = [
        target_at_most(CPU_PER_EVENT, &results, SMALL, 0.75),
        target_times(CPU_PER_EVENT, &results, LARGE, SMALL, 1.2),
    ];
    let parameters = vec![
        ("watchers that match".to_owned(), MATCHING.to_string()),
        ("events on their way, at most".to_owned(), crate::format::number(size.window as f64)),
    ];
    let mut found =
        scenario("filter", "Ten of many want the event", ABOUT, parameters, CPU_PER_EVENT, results);
    found.targets.extend(targets.into_iter().flatten());
    found.notes.push("The peers have no filters: each would deliver everything to every watcher.".to_owned());
    Ok(found)
}

fn measure(contestant: &Contestant, size: Size, lab: &Lab, watch: &mut dyn FnMut(f64)) -> Outcome<Findings> {
    let server = Server::start(&contestant.which, &lab.pinning)?;
    let mut crowd = Crowd::new(size.shape, lab.spins())?;
    let wants = |watcher: usize| if watcher < MATCHING { TYPE } else { OTHER_TYPE };
    crowd.gather(size.watchers, server.address, 0, |watcher| {
        server.request(0, &format!("?events={}", wants(watcher)))
    })?;
    let feed = Feed::open(server.inlet.clone(), size.shape, 1, &crowd.poll)?;
    let mut load = Load::new(crowd, feed, vec![MATCHING as u64], Pace::Window(size.window));
    load.warm_up()?;
    let sample = load.run(&server, contestant.events, watch)?;
    let figures = vec![
        (CPU_PER_EVENT, sample.cpu_micros_per_event()),
        (EVENTS_PER_SECOND, sample.events as f64 / sample.seconds),
    ];
    Ok(Findings { figures, latency: None, complaint: load.crowd.tally.complaint() })
}
