//! The real sequencer, watchers and flush, driven by a list of operations: see `schedule::run_choices`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    luxcast_fuzz::schedule::run_choices(bytes);
});
