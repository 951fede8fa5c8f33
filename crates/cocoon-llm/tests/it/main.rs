//! Integration tests: tiny models made on the spot, and, where `COCOON_TEST_MODEL` and
//! `COCOON_TEST_EMBEDDING_MODEL` name them, SmolLM2-135M-Instruct and all-MiniLM-L6-v2.

mod batch;
mod bert;
mod chat;
mod choices;
mod constraint;
mod embedding;
mod engine;
mod fairness;
mod fixture;
mod hostile;
mod hostile_embedding;
mod minilm;
mod smollm;
