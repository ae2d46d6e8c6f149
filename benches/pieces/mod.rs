//! The hot pieces without sockets and clocks; their set-up is not measured.
//!
//! They use the same bytes each time: no seeds, no time of day. Each piece does a thousand of something or more, so
//! that the overhead around it does not show.

pub mod delivery;
pub mod rig;
pub mod stream;
pub mod wire;

/// Passes the list of all pieces to a macro. Each row is a module, and the name of a piece and of the function that
/// sets it up.
macro_rules! each_piece {
    ($callback:ident) => {
        $callback! {
            wire::parse_short_lines
            wire::parse_routine_events
            wire::parse_execution_events
            wire::parse_wide_numbers
            wire::decode_subscribes
            wire::decode_pongs
            wire::decode_pings
            wire::decode_byte_by_byte
            wire::read_actions
            wire::parse_heads
            wire::answer_handshakes
            stream::sequence_one_job
            stream::sequence_many_jobs
            stream::sequence_and_evict
            stream::sequence_one_a_turn
            stream::translate_dialect
            delivery::flush_one_slice
            delivery::flush_two_slices
            delivery::flush_large_portion
            delivery::flush_many_topics
            delivery::flush_no_match
            delivery::flush_some_match
            delivery::flush_merged_jobs
            delivery::replay_history
            delivery::open_sessions
            delivery::beat_idle_watchers
            delivery::turn_wheel
        }
    };
}
pub(crate) use each_piece;

/// What a piece does over and over.
struct Work<S> {
    state: S,
    ready: fn(&mut S),
    run: fn(&mut S) -> u64,
}

trait Runs {
    fn ready(&mut self);
    fn run(&mut self) -> u64;
}

impl<S> Runs for Work<S> {
    fn ready(&mut self) {
        (self.ready)(&mut self.state);
    }

    fn run(&mut self) -> u64 {
        (self.run)(&mut self.state)
    }
}

/// One piece, warmed up and ready to run.
pub struct Piece {
    /// Lines, frames, deliveries or connections of one run: the cost is divided by them.
    pub elements: u64,
    work: Box<dyn Runs>,
}

/// Runs before anything is measured: then buffers have grown, and a small history is full.
const WARM_RUNS: usize = 3;

impl Piece {
    /// `ready` prepares one run; `run` is measured and returns how many elements it did.
    pub fn new<S: 'static>(elements: u64, state: S, ready: fn(&mut S), run: fn(&mut S) -> u64) -> Self {
        let mut piece = Self { elements, work: Box::new(Work { state, ready, run }) };
        for _ in 0..WARM_RUNS {
            piece.ready();
            let done = piece.run();
            assert_eq!(done, elements, "a piece does what it says");
        }
        piece.ready();
        piece
    }

    pub fn ready(&mut self) {
        self.work.ready();
    }

    pub fn run(&mut self) -> u64 {
        self.work.run()
    }
}
