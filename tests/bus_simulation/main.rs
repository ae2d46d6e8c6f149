//! The simulation of several daemons on one stream: the real writers and readers of three daemons, with a model of
//! JetStream between them that loses, delays, repeats and lies, in its own time.
//!
//! `SIMULATION_SCHEDULES` sets how many schedules, `BUS_SCHEDULES` how many for this simulation alone, and
//! `SIMULATION_BASE` the first seed. `SIMULATION_SEED` runs one seed
//! alone and traces what happens. `SIMULATION_GOES_ON=1` goes on after a failure.

mod core;
mod daemon;
mod hopper;
mod judge;
mod plan;
mod publisher;
#[allow(dead_code)]
#[path = "../simulation/rng.rs"]
mod rng;
mod server;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use judge::Tally;

const SCHEDULES: u64 = 2_000;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text}")))
}

#[test]
fn daemons_agree_and_lines_come_once() {
    if let Some(seed) = number("SIMULATION_SEED") {
        println!("{:?}", world::run(seed, true));
        return;
    }
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970");
    let base = number("SIMULATION_BASE").unwrap_or(since_epoch.as_nanos() as u64 % 1_000_000_000_000);
    let schedules = number("BUS_SCHEDULES").or(number("SIMULATION_SCHEDULES")).unwrap_or(SCHEDULES);
    println!("bus simulation: {schedules} schedules from seed {base}");
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
                match catch_unwind(AssertUnwindSafe(|| world::run(seed, false))) {
                    Ok(tally) => sum.add(&tally),
                    Err(_) => {
                        has_failed.store(true, Ordering::Relaxed);
                        eprintln!(
                            "bus simulation: FAILED; replay: SIMULATION_SEED={seed} cargo test --test bus_simulation"
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
    tallies.iter().for_each(|tally| sum.add(tally));
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "bus simulation: {sum:?} in {seconds:.1} s, {:.0} schedules a second",
        schedules as f64 / seconds
    );
    assert!(sum.is_broad() || schedules < 1_000, "the schedules did not do everything");
}
