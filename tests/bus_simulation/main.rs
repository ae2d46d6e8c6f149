//! The simulation of several daemons on one stream: the real writers and readers of three daemons, with a model of
//! JetStream between them that loses, delays, repeats and lies, in its own time.
//!
//! `SIMULATION_SCHEDULES` sets how many schedules, `BUS_SCHEDULES` how many for this simulation alone, and
//! `SIMULATION_BASE` the first seed. `SIMULATION_SEED` runs one seed alone and traces what happens.
//! `SIMULATION_GOES_ON=1` goes on after a failure.

mod core;
mod daemon;
mod hopper;
mod judge;
mod plan;
mod publisher;
#[allow(dead_code)]
#[path = "../simulated/rng.rs"]
mod rng;
#[path = "../simulated/seeds.rs"]
mod seeds;
mod server;
mod world;

use judge::Tally;
use seeds::{number, run_all};

const SCHEDULES: u64 = 2_000;

#[test]
fn daemons_agree_and_lines_come_once() {
    if let Some(seed) = number("SIMULATION_SEED") {
        println!("{:?}", world::run(seed, true));
        return;
    }
    let schedules = number("BUS_SCHEDULES").or(number("SIMULATION_SCHEDULES")).unwrap_or(SCHEDULES);
    let run = |seed| world::run(seed, false);
    let sum = run_all("bus_simulation", schedules, run, |sum: &mut Tally, tally| sum.add(&tally));
    assert!(sum.is_broad() || schedules < 1_000, "the schedules did not do everything");
}
