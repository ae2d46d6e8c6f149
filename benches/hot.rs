//! Measures the hot pieces on this machine, without sockets: `cargo bench --bench hot [-- PART OF A NAME]`.
//!
//! Criterion compares with its last run. On a noisy machine rely on `tools/instructions` instead.

mod pieces;

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput};

use crate::pieces::Piece;

macro_rules! measure_all {
    ($($module:ident::$name:ident)*) => {
        fn measure_all(criterion: &mut Criterion) {
            $(measure(criterion, stringify!($module), stringify!($name), pieces::$module::$name);)*
        }
    };
}
pieces::each_piece!(measure_all);

fn measure(criterion: &mut Criterion, module: &str, name: &str, set_up: fn() -> Piece) {
    let mut piece = set_up();
    let mut group = criterion.benchmark_group(module);
    group.throughput(Throughput::Elements(piece.elements));
    group.bench_function(name, |bencher| {
        bencher.iter_custom(|runs| {
            let mut spent = Duration::ZERO;
            for _ in 0..runs {
                piece.ready();
                let started = Instant::now();
                black_box(piece.run());
                spent += started.elapsed();
            }
            spent
        });
    });
    group.finish();
}

fn main() {
    let criterion = Criterion::default().warm_up_time(Duration::from_millis(500));
    let mut criterion = criterion.measurement_time(Duration::from_secs(2)).configure_from_args();
    measure_all(&mut criterion);
    criterion.final_summary();
}
