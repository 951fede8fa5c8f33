//! The contracts as people and nodes meet them: every operation by everybody, in every state, and what is paid to the
//! nano. `contracts/DIFFERENCES.md` says what of it is not v3's.

mod client;
mod client_exit;
mod proxy;
mod root;
pub(crate) mod scene;
mod stage;
mod steward;
mod wallet;
mod worker;
