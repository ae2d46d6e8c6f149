//! See `checks::frames`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    luxcast_fuzz::checks::frames::check(bytes);
    luxcast_fuzz::checks::deflate::check(bytes);
});
