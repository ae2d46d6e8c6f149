//! The simulation: checks the real sequencer and the real flush, without sockets, against a naive oracle. It runs
//! random schedules of short writes, evictions, filter changes, joins with `since` and restarts, interleaved at each
//! lock and publish step.
//!
//! `SIMULATION_SCHEDULES` sets how many, and `SIMULATION_BASE` the first seed. `SIMULATION_SEED` runs one seed alone
//! and traces what happens. `SIMULATION_GOES_ON=1` goes on after a failure.

mod client;
mod feed;
mod oracle;
mod plan;
mod rng;
mod schedule;
mod shard;
mod stream;
mod wait;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use schedule::Tally;

const SCHEDULES: u64 = if cfg!(debug_assertions) { 2_000 } else { 100_000 };

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text}")))
}

#[test]
fn random_schedules_lose_nothing_without_a_gap() {
    if let Some(seed) = number("SIMULATION_SEED") {
        schedule::run(seed, true);
        return;
    }
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970");
    let base = number("SIMULATION_BASE").unwrap_or(since_epoch.as_nanos() as u64 % 1_000_000_000_000);
    let schedules = number("SIMULATION_SCHEDULES").unwrap_or(SCHEDULES);
    println!("simulation: {schedules} schedules from seed {base}");
    let goes_on = number("SIMULATION_GOES_ON").is_some();
    let started = Instant::now();
    let next = AtomicU64::new(base);
    let has_failed = AtomicBool::new(false);
    let threads = thread::available_parallelism().map_or(2, |count| count.get());
    let tallies: Vec<Tally> = thread::scope(|scope| {
        let work = || {
            let mut sum = Tally::default();
            while goes_on || !has_failed.load(Ordering::Relaxed) {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= base + schedules {
                    break;
                }
                match catch_unwind(AssertUnwindSafe(|| schedule::run(seed, false))) {
                    Ok(tally) => sum.add(tally),
                    Err(_) => {
                        has_failed.store(true, Ordering::Relaxed);
                        eprintln!(
                            "simulation: FAILED; replay: SIMULATION_SEED={seed} cargo test --test simulation"
                        );
                    }
                }
            }
            sum
        };
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join().expect("a worker catches its panics")).collect()
    });
    assert!(!has_failed.into_inner(), "a schedule failed");
    let mut sum = Tally::default();
    tallies.into_iter().for_each(|tally| sum.add(tally));
    let seconds = started.elapsed().as_secs_f64();
    println!("simulation: {sum:?} in {seconds:.1} s, {:.0} schedules a second", schedules as f64 / seconds);
    assert!(
        sum.gaps > 0
            && sum.events > sum.gaps
            && sum.restarts > 0
            && sum.waits > 0
            && sum.own > 0
            && sum.hole_gaps > 0
            && sum.stood > 0,
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
    assert!(sum.events > 0, "the lists did nothing: {sum:?}");
}
