//! A policy that leaves images and models to the root contract, kept filled with what that lists.
//!
//! A new list is a new policy, and [`Verifier::set_policy`] makes every open peer prove itself again at once: one whose
//! image was removed loses its connection then. A root that only changed its prices changes no policy.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use cocoon_attest::Policy;
use cocoon_attest::policy::RootValues;
use cocoon_net::Verifier;
use cocoon_ton::chain::watch::{RootConfig, RootWatch};
use cocoon_units::Clock;
use tokio::time::timeout;

/// Fills the policy of one verifier.
#[derive(Debug, Clone)]
pub(crate) struct Filler {
    verifier: Arc<Verifier>,
    /// As its author wrote it.
    unfilled: Policy,
}

impl Filler {
    /// For a verifier whose policy was not filled yet.
    pub(crate) fn new(verifier: Arc<Verifier>) -> Self {
        let unfilled = verifier.policy();
        Self { verifier, unfilled }
    }

    /// Judges by what this root lists from now on. One that lists more than a policy holds lists nothing.
    pub(crate) fn fill(&self, root: &RootConfig) {
        match self.unfilled.with_root(&values(root)) {
            Ok(policy) => self.set(policy),
            Err(error) => {
                tracing::error!(%error, "the root contract's lists cannot be used: no peer is accepted");
                self.set(self.unfilled.clone());
            }
        }
    }

    /// Accepts nothing until the root is read again.
    fn empty(&self) {
        self.set(self.unfilled.clone());
    }

    /// Another policy ends the rest of those who prove themselves by the present one; the same one must not.
    fn set(&self, policy: Policy) {
        if policy != self.verifier.policy() {
            self.verifier.set_policy(policy);
        }
    }

    /// Follows the root. Never ends; run it beside the role.
    pub(crate) async fn follow(self, watch: RootWatch, clock: Arc<dyn Clock>) {
        let mut root = watch.receiver();
        let mut stale_looks = 0_u32;
        loop {
            let now = Arc::clone(&*root.borrow_and_update());
            stale_looks = if watch.is_stale(clock.unix_now()) { stale_looks.saturating_add(1) } else { 0 };
            if stale_looks < STALE_LOOKS_MAX {
                self.fill(&now);
            } else {
                tracing::error!("the root contract was not read for too long: no peer is accepted until it is");
                self.empty();
            }
            if let Ok(Err(_)) = timeout(STALE_LOOK, root.changed()).await {
                // Nobody reads the root any more, as at the end of the process.
                return std::future::pending().await;
            }
        }
    }
}

/// How often it is looked whether the root was read lately; it may be two hours old.
const STALE_LOOK: Duration = Duration::from_secs(10);

/// So many looks in a row find an old root before it counts for nothing: a clock that jumps must not end every session
/// before the next reading.
const STALE_LOOKS_MAX: u32 = 3;

/// What a root lists.
fn values(root: &RootConfig) -> RootValues {
    RootValues {
        proxy_manifests: root.state.proxy_hashes.clone(),
        worker_manifests: root.state.worker_hashes.clone(),
        models: root.state.model_hashes.clone(),
    }
}

/// Refuses a policy that waits for a root which nobody reads.
pub(crate) fn needs_no_root(policy: &Policy) -> Result<()> {
    if policy.follows_root() {
        bail!(
            "the policy {:?} leaves images or models to the root contract (\"root\"), and nothing says where that is: \
             set `root` and a chain under [chain], or list them in the policy",
            policy.name()
        );
    }
    Ok(())
}
