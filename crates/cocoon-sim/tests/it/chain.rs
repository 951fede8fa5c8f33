//! The whole path of a request: app, client, proxy, worker, engine, with nothing scripted but the engine.
//!
//! All of it runs in one task tree over memory with tokio's paused clock, so times are exact and no test sleeps.

mod drip;
mod relay;
mod rig;
mod streams;
