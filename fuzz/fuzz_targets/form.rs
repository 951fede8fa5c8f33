//! See `cocoon_wire::fuzzing::form` for what is checked.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cocoon_wire::fuzzing::form(data));
