//! Runs the schedules of a simulation, each from a seed of its own, on all cores.

use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// A variable of the environment that is a number.
pub fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text}")))
}

/// Runs so many schedules of the test target `target`; returns the sum of what they say. Fails if one of them does.
pub fn run_all<T: Debug + Default + Send>(
    target: &str,
    schedules: u64,
    run: impl Fn(u64) -> T + Sync,
    add: impl Fn(&mut T, T) + Sync,
) -> T {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970");
    let base = number("SIMULATION_BASE").unwrap_or(since_epoch.as_nanos() as u64 % 1_000_000_000_000);
    println!("{target}: {schedules} schedules from seed {base}");
    let goes_on = number("SIMULATION_GOES_ON").is_some();
    let started = Instant::now();
    let next = AtomicU64::new(base);
    let has_failed = AtomicBool::new(false);
    let threads = thread::available_parallelism().map_or(2, |count| count.get());
    let sums: Vec<T> = thread::scope(|scope| {
        let work = || {
            let mut sum = T::default();
            while goes_on || !has_failed.load(Ordering::Relaxed) {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= base + schedules {
                    break;
                }
                match catch_unwind(AssertUnwindSafe(|| run(seed))) {
                    Ok(tally) => add(&mut sum, tally),
                    Err(_) => {
                        has_failed.store(true, Ordering::Relaxed);
                        eprintln!(
                            "{target}: FAILED; replay: SIMULATION_SEED={seed} cargo test --test {target}"
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
    let mut sum = T::default();
    sums.into_iter().for_each(|one| add(&mut sum, one));
    let seconds = started.elapsed().as_secs_f64();
    println!("{target}: {sum:?} in {seconds:.1} s, {:.0} schedules a second", schedules as f64 / seconds);
    sum
}
