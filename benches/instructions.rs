//! Counts the instructions of the hot pieces with callgrind; `tools/instructions` runs it and compares.

mod pieces;

use std::hint::black_box;

use gungraun::{library_benchmark, library_benchmark_group, main};

use crate::pieces::Piece;

macro_rules! count_all {
    ($($module:ident::$name:ident)*) => {
        #[library_benchmark]
        $(#[bench::$name(pieces::$module::$name())])*
        fn hot(mut piece: Piece) -> Piece {
            assert_eq!(black_box(piece.run()), piece.elements);
            // Its memory is freed outside the measurement.
            piece
        }
    };
}
pieces::each_piece!(count_all);

library_benchmark_group!(name = pieces_group, benchmarks = [hot]);
main!(library_benchmark_groups = pieces_group);
