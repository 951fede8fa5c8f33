//! Integration tests: a tiny model made on the spot, and, where `COCOON_TEST_MODEL` names it,
//! SmolLM2-135M-Instruct.

mod batch;
mod chat;
mod engine;
mod fixture;
mod hostile;
mod smollm;
