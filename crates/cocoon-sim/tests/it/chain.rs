//! The whole path of a request: app, client, proxy, worker, engine, with nothing scripted but the engine.
//!
//! All of it runs over memory on one thread with tokio's paused clock, so times are exact and no test sleeps.

mod drip;
mod failures;
mod load;
mod log;
mod logs;
mod money;
mod paid;
mod prompts;
mod relay;
mod rig;
mod storm;
mod streams;
mod versions;
