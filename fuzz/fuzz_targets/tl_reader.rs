//! See `cocoon_wire::fuzzing::tl_reader` for what is checked.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cocoon_wire::fuzzing::tl_reader(data));
