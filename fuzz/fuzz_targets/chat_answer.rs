//! See `cocoon_client::fuzzing::chat_answer` for what is checked.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cocoon_client::fuzzing::chat_answer(data));
