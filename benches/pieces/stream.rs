//! Lines to numbered frames in batches and logs, with and without eviction; batches to the other dialect.

use luxcast::stream::dialect::translate;

use crate::pieces::Piece;
use crate::pieces::rig::{COUNT, Rig, USUAL_BYTES, corpus, usual_line};

/// At this size the growing history starts over, before it evicts anything.
const GROWN_BYTES: usize = 64 << 20;
/// So small that it evicts as much as it takes in.
const FULL_BYTES: usize = 512 << 10;

fn growing(lines: Vec<Vec<u8>>) -> Piece {
    Piece::new(
        COUNT as u64,
        Rig::new(4 * GROWN_BYTES, lines),
        |rig| {
            if rig.sequencer.history().used() > GROWN_BYTES {
                *rig = Rig::new(4 * GROWN_BYTES, std::mem::take(&mut rig.lines));
            }
            rig.read();
        },
        |rig| rig.sequence(COUNT),
    )
}

pub fn sequence_one_job() -> Piece {
    growing(vec![usual_line("routine_completed", "j", USUAL_BYTES); COUNT])
}

/// No two adjacent lines belong to one job.
pub fn sequence_many_jobs() -> Piece {
    growing(
        (0..COUNT).map(|job| usual_line("routine_completed", &format!("job-{job}"), USUAL_BYTES)).collect(),
    )
}

/// Real events of a few jobs and their flows, into a history that is full.
pub fn sequence_and_evict() -> Piece {
    let mut rig = Rig::new(FULL_BYTES, corpus().take(COUNT).map(<[u8]>::to_vec).collect());
    for _ in 0..10 {
        rig.publish();
    }
    assert!(rig.is_evicting());
    Piece::new(COUNT as u64, rig, Rig::read, |rig| rig.sequence(COUNT))
}

/// The cost of a turn with one event, when the history is full.
pub fn sequence_one_a_turn() -> Piece {
    let mut rig = Rig::new(FULL_BYTES, vec![usual_line("routine_completed", "j", USUAL_BYTES); COUNT]);
    for _ in 0..10 {
        rig.read();
        rig.sequence(1);
    }
    assert!(rig.is_evicting());
    Piece::new(COUNT as u64, rig, Rig::read, |rig| rig.sequence(1))
}

/// Translates events of all kinds, as the first shard does that needs a batch in the dialect.
pub fn translate_dialect() -> Piece {
    struct Batch {
        objects: Vec<Vec<u8>>,
        out: Vec<u8>,
    }
    let numbered = |line: &[u8]| [br#"{"stream_seq":1800000000000000,"#.as_slice(), &line[1..]].concat();
    let objects = corpus().take(COUNT).map(numbered).collect();
    Piece::new(
        COUNT as u64,
        Batch { objects, out: Vec::new() },
        |batch| batch.out.clear(),
        |batch| {
            let mut longer = 0;
            for object in &batch.objects {
                let before = batch.out.len();
                translate(object, &mut batch.out);
                longer += u64::from(batch.out.len() > before);
            }
            longer
        },
    )
}
