//! The feed alone.

use std::time::{Duration, Instant};

use crate::Outcome;
use crate::crowd::{Crowd, PATIENCE};
use crate::feed::Feed;
use crate::lab::{CPU_PER_EVENT, Contestant, EVENTS_PER_SECOND, Findings, Kind, Lab};
use crate::result::Scenario;
use crate::scenario::setting::{scenario, shape, target_at_least};
use crate::scenario::{Options, ingest_http};
use crate::server::Server;
use crate::wire::Shape;

const ABOUT: &str = "A publisher writes lines into the Unix socket as fast as they are taken, and nobody watches: what \
    reading, checking, numbering and keeping an event costs. The daemon acknowledges the last line when all are \
    numbered.";

/// Lines that wait in the load until the socket has room again.
pub const LINES_AT_ONCE: u64 = 2_048;

pub fn run(lab: &Lab, options: &Options) -> Outcome<Scenario> {
    if options.http {
        return ingest_http::run(lab, options);
    }
    let events = options.events.unwrap_or(4_000_000);
    let contestants = [lab.luxcast("luxcast", events, &[])];
    let results =
        lab.compare("ingest", &contestants, |contestant, watch| measure(contestant, options, lab, watch));
    let target = target_at_least(EVENTS_PER_SECOND, &results, "luxcast", 2_200_000.0);
    let parameters = lines(events, shape(options)?);
    let mut found = scenario("ingest", "The feed alone", ABOUT, parameters, EVENTS_PER_SECOND, results);
    found.targets.extend(target);
    Ok(found)
}

/// The parameters of such a load.
pub fn lines(events: u64, shape: Shape) -> Vec<(String, String)> {
    let line = shape.template(0).line().len() + 1;
    vec![
        ("events".to_owned(), crate::format::number(events as f64)),
        ("bytes a line".to_owned(), crate::format::number(line as f64)),
    ]
}

fn measure(
    contestant: &Contestant,
    options: &Options,
    lab: &Lab,
    watch: &mut dyn FnMut(f64),
) -> Outcome<Findings> {
    let server = Server::start(&contestant.which, &lab.pinning)?;
    let figures = feed_alone(&server, contestant.events, 1, shape(options)?, lab, watch)?;
    Ok(Findings { figures, latency: None, complaint: None })
}

/// Some publishers write lines, each of a job of its own, until all are acknowledged.
pub fn feed_alone(
    server: &Server,
    events: u64,
    publishers: usize,
    shape: Shape,
    lab: &Lab,
    watch: &mut dyn FnMut(f64),
) -> Outcome<Vec<(Kind, f64)>> {
    let mut crowd = Crowd::new(shape, lab.spins())?;
    let mut feed = Feed::of_publishers(publishers, server.inlet.clone(), shape, &crowd.poll)?;
    feed.ask_for_acks();
    let (before, begin) = (server.usage()?, Instant::now());
    let mut progress = (0, begin);
    let lines = events + publishers as u64;
    while feed.acknowledged() < lines {
        for publisher in 0..publishers {
            let share = share(events, publisher, publishers);
            while feed.next_of(publisher) <= share
                && feed.waiting_bytes_of(publisher) < LINES_AT_ONCE as usize * 256
            {
                feed.publish(publisher);
            }
        }
        feed.flush()?;
        crowd.turn(Duration::from_millis(1))?;
        while let Some(token) = crowd.feed_tokens.pop() {
            feed.listen(token)?;
        }
        let acknowledged = feed.acknowledged();
        if acknowledged > progress.0 {
            progress = (acknowledged, Instant::now());
            watch(acknowledged as f64 / lines as f64);
        } else if progress.1.elapsed() > PATIENCE {
            return Err(format!("{acknowledged} of {lines} lines were acknowledged").into());
        }
    }
    let seconds = begin.elapsed().as_secs_f64();
    let cpu = server.usage()?.cpu_nanos - before.cpu_nanos;
    Ok(vec![(EVENTS_PER_SECOND, events as f64 / seconds), (CPU_PER_EVENT, cpu as f64 / 1e3 / events as f64)])
}

/// How many of the events one publisher has. Together they have all.
fn share(events: u64, publisher: usize, publishers: usize) -> u64 {
    let (publisher, publishers) = (publisher as u64, publishers as u64);
    events / publishers + u64::from(publisher < events % publishers)
}
