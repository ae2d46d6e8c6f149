//! See `checks::bodies`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    luxcast_fuzz::checks::bodies::check(bytes);
});
