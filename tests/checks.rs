//! Checks what must check_corpus for any input: with the fuzzer's corpora, random changes of them, and random streams
//! of frames. It calls the same functions as the fuzz targets.

#[path = "fuzz/checks/mod.rs"]
mod checks;

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use checks::frames::Agreement;
use checks::random;
use fastrand::Rng;

/// Random changes of each input of a corpus.
const CHANGES: usize = 300;
const STREAMS: u64 = if cfg!(debug_assertions) { 2_000 } else { 100_000 };

/// The inputs that the fuzzer begins with, including each that has ever failed.
fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(target);
    let entries = fs::read_dir(&directory).expect("each target has a corpus");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("it can be listed").path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{} is empty", directory.display());
    let read = |file: PathBuf| {
        let bytes = fs::read(&file).expect("it can be read");
        (file, bytes)
    };
    files.into_iter().map(read).collect()
}

fn check_corpus(target: &str, check: impl Fn(&[u8])) {
    for (file, bytes) in corpus(target) {
        println!("{}", file.display());
        check(&bytes);
        let mut random = random::of(&bytes);
        for _ in 0..CHANGES {
            let mut changed = bytes.clone();
            random::mutate(&mut random, &mut changed);
            println!("changed: {}", changed.escape_ascii());
            check(&changed);
        }
    }
}

#[test]
fn request_heads_are_judged_alike_however_they_are_cut_and_never_laxer_than_elsewhere() {
    check_corpus("head", checks::head::check);
}

#[test]
fn frames_are_read_alike_however_they_are_cut() {
    check_corpus("frames", |stream| {
        checks::frames::check(stream);
    });
}

#[test]
fn compressed_frames_are_read_alike_however_they_are_cut_and_as_zlib_reads_them() {
    check_corpus("frames", |stream| {
        checks::deflate::check(stream);
    });
    let compressed = (0..STREAMS).map(|seed| {
        let stream = checks::deflate::stream(&mut Rng::with_seed(seed));
        checks::deflate::check(&stream) as u64
    });
    let compressed: u64 = compressed.sum();
    println!("{STREAMS} streams: {compressed} compressed messages");
    assert!(compressed > STREAMS / 2, "{compressed} compressed messages in {STREAMS} streams");
}

#[test]
fn offers_of_compression_are_read_as_a_naive_reader_reads_them() {
    check_corpus("offers", checks::offers::check);
}

#[test]
fn client_messages_are_read_as_serde_json_reads_them() {
    check_corpus("actions", checks::actions::check);
}

#[test]
fn lines_are_taken_as_serde_json_reads_them_and_forwarded_as_they_are() {
    check_corpus("lines", checks::lines::check);
}

#[test]
fn messages_of_a_shared_stream_are_read_whatever_is_in_them() {
    check_corpus("chunks", checks::chunks::check);
}

#[test]
fn bodies_are_read_alike_however_they_are_cut_and_never_laxer_than_elsewhere() {
    check_corpus("bodies", checks::bodies::check);
}

#[test]
fn settings_are_the_same_after_writing_and_reading() {
    check_corpus("settings", checks::settings::check);
}

/// Both readers give the same messages and the same end, or ours is stricter by a rule of [`Agreement`].
#[test]
fn random_streams_of_frames_are_read_as_tungstenite_reads_them() {
    let mut counts: HashMap<Agreement, u64> = HashMap::new();
    for seed in 0..STREAMS {
        let stream = checks::frames::stream(&mut Rng::with_seed(seed));
        *counts.entry(checks::frames::check(&stream)).or_default() += 1;
    }
    println!("{STREAMS} streams: {counts:?}");
    let count = |agreement| counts.get(&agreement).copied().unwrap_or(0);
    assert!(count(Agreement::Same) > STREAMS / 3, "most streams are the same for both: {counts:?}");
    for rule in Agreement::ALL {
        assert!(count(rule) > 0, "no stream needs the rule {rule:?}: {counts:?}");
    }
}
