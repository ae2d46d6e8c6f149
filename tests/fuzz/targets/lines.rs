//! See `checks::lines`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    luxcast_fuzz::checks::lines::check(bytes);
});
