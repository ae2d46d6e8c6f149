//! The simulation of the past: watchers of one daemon on a shared stream ask for more than memory has. The real flush, the
//! real memory and the real passes over the stream run against a model of the stream, interleaved at each lock, each
//! publication and each write, and an oracle that knows all events ever made.
//!
//! Nobody does anything here unless it is woken, or its own time has come. So what is forgotten stays undone, and shows when
//! all is at rest.
//!
//! `SIMULATION_SCHEDULES` sets how many schedules, `PAST_SCHEDULES` how many for this simulation alone, and
//! `SIMULATION_BASE` the first seed. `SIMULATION_SEED` runs one seed alone and traces what happens.
//! `SIMULATION_GOES_ON=1` goes on after a failure.

mod client;
mod consumer;
mod filters;
mod memory;
mod plan;
mod schedule;
#[path = "../simulated/seeds.rs"]
mod seeds;
mod shard;
#[path = "../simulated/mod.rs"]
mod simulated;
mod stream;
mod thread;
mod topic;
mod track;
mod world;

use schedule::Tally;
use seeds::{number, run_all};

const SCHEDULES: u64 = if cfg!(debug_assertions) { 1_000 } else { 10_000 };

#[test]
fn what_the_stream_has_comes_once_and_in_order() {
    if let Some(seed) = number("SIMULATION_SEED") {
        println!("{:?}", schedule::run(seed, true));
        return;
    }
    let schedules = number("PAST_SCHEDULES").or(number("SIMULATION_SCHEDULES")).unwrap_or(SCHEDULES);
    let run = |seed| schedule::run(seed, false);
    let sum = run_all("past_simulation", schedules, run, |sum: &mut Tally, tally| sum.add(tally));
    assert!(sum.is_broad() || schedules < 500, "the schedules did not do everything");
}
