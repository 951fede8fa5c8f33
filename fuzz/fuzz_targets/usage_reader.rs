//! See `cocoon_wire::fuzzing::usage_reader` for what is checked.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cocoon_wire::fuzzing::usage_reader(data));
