//! See `checks::chunks`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    luxcast_fuzz::checks::chunks::check(bytes);
});
