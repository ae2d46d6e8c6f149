//! The simulation: checks the real sequencer and the real flush, without sockets, against a naive oracle. It runs
//! random schedules of short writes, evictions, filter changes, joins with `since` and restarts, interleaved at each
//! lock and publish step.
//!
//! `SIMULATION_SCHEDULES` sets how many, and `SIMULATION_BASE` the first seed. `SIMULATION_SEED` runs one seed alone
//! and traces what happens. `SIMULATION_GOES_ON=1` goes on after a failure.

mod client;
mod feed;
mod join;
mod oracle;
mod plan;
mod schedule;
#[path = "../simulated/seeds.rs"]
mod seeds;
mod shard;
#[path = "../simulated/mod.rs"]
mod simulated;
mod stream;
mod wait;
mod wish;

use schedule::Tally;
use seeds::{number, run_all};

const SCHEDULES: u64 = if cfg!(debug_assertions) { 2_000 } else { 100_000 };

#[test]
fn random_schedules_lose_nothing_without_a_gap() {
    if let Some(seed) = number("SIMULATION_SEED") {
        schedule::run(seed, true);
        return;
    }
    let schedules = number("SIMULATION_SCHEDULES").unwrap_or(SCHEDULES);
    let run = |seed| schedule::run(seed, false);
    let sum = run_all("simulation", schedules, run, |sum: &mut Tally, tally| sum.add(tally));
    assert!(
        sum.seen.gaps > 0
            && sum.seen.events > sum.seen.gaps
            && sum.restarts > 0
            && sum.waits > 0
            && sum.own > 0
            && sum.seen.hole_gaps > 0
            && sum.seen.stood > 0,
        "the schedules did nothing"
    );
}

/// Runs lists of operations that a fuzzer made: `tests/fuzz`.
#[test]
fn given_lists_of_operations_lose_nothing_without_a_gap() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fuzz/corpus/cursor");
    let mut sum = Tally::default();
    for entry in std::fs::read_dir(directory).expect("the target has a corpus") {
        let path = entry.expect("it can be listed").path();
        println!("{}", path.display());
        sum.add(schedule::run_choices(&std::fs::read(&path).expect("it can be read")));
    }
    assert!(sum.seen.events > 0, "the lists did nothing: {sum:?}");
}
