//! Settlement on the embedded devnet: the real contracts decide, a small hub keeps the real ledger.

mod attacks;
mod close;
mod faulty;
mod rollback;
mod serve;
mod world;
