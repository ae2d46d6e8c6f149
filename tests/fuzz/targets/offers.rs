//! See `checks::offers`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    luxcast_fuzz::checks::offers::check(bytes);
});
