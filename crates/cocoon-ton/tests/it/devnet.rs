//! The embedded devnet: its rules, its faults, and that it forgets nothing.

mod engine;
mod service;
mod support;
