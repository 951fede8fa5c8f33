//! A policy that leaves images and models to the root contract, kept filled with what that lists.
//!
//! A new list is a new policy, and [`Verifier::set_policy`] ends every connection whose image was removed and makes the
//! others prove themselves again. A root that only changed its prices changes no policy.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use cocoon_attest::policy::RootValues;
use cocoon_attest::{Policy, Role};
use cocoon_net::Verifier;
use cocoon_ton::chain::watch::{RootConfig, RootWatch};
use cocoon_units::Clock;
#[cfg(feature = "client")]
use tokio::sync::watch;
use tokio::time::timeout;

use crate::attestation::ListedBy;

/// Fills the policy of one verifier.
#[derive(Debug, Clone)]
pub(crate) struct Filler {
    verifier: Arc<Verifier>,
    /// The role that judges by it.
    role: Role,
    /// As its author wrote it.
    unfilled: Policy,
}

impl Filler {
    /// For the verifier of a role, whose policy was not filled yet.
    pub(crate) fn new(verifier: Arc<Verifier>, role: Role) -> Self {
        let unfilled = verifier.policy();
        Self { verifier, role, unfilled }
    }

    /// Judges by what this root lists from now on. One that lists more than a policy holds lists nothing.
    pub(crate) fn fill(&self, root: &RootConfig) {
        match self.unfilled.with_root(&values(root, self.role)) {
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

/// Fills a client's policy for workers with what the root lists, for as long as somebody judges by it.
#[cfg(feature = "client")]
pub(crate) fn for_workers(
    unfilled: Policy,
    mut root: watch::Receiver<Arc<RootConfig>>,
) -> (watch::Receiver<Arc<Policy>>, impl Future<Output = ()>) {
    let fill = move |root: &RootConfig| {
        // One that lists more than a policy holds lists nothing.
        Arc::new(unfilled.with_root(&values(root, Role::Proxy)).unwrap_or_else(|_| unfilled.clone()))
    };
    let (filled, policy) = watch::channel(fill(&root.borrow()));
    let follow = async move {
        while root.changed().await.is_ok() {
            let now = fill(&root.borrow_and_update());
            filled.send_if_modified(|known| {
                let is_new = *known != now;
                *known = now;
                is_new
            });
        }
        std::future::pending().await
    };
    (policy, follow)
}

/// How often it is looked whether the root was read lately; it may be two hours old.
pub(super) const STALE_LOOK: Duration = Duration::from_secs(10);

/// So many looks in a row find an old root before it counts for nothing: a clock that jumps must not end every session
/// before the next reading.
pub(super) const STALE_LOOKS_MAX: u32 = 3;

/// What a root lists, as far as a role judges by it: a list that it does not need must not make its peers prove
/// themselves again.
fn values(root: &RootConfig, role: Role) -> RootValues {
    match role {
        Role::Proxy => RootValues {
            worker_manifests: root.state.worker_hashes.clone(),
            models: root.state.model_hashes.clone(),
            ..RootValues::default()
        },
        Role::Client | Role::Worker | _ => {
            RootValues { proxy_manifests: root.state.proxy_hashes.clone(), ..RootValues::default() }
        }
    }
}

/// Refuses a policy that waits for a root which nobody reads, one that carries the lists of another time, and one for
/// production that a server's word would fill.
pub(crate) fn is_fit(policy: &Policy, images: ListedBy) -> Result<()> {
    let name = policy.name();
    if policy.is_filled() {
        bail!(
            "the policy {name:?} has a section [root], with what the root contract listed at some time: remove it, since \
             the lists are read anew"
        );
    }
    match images {
        ListedBy::Policy if policy.follows_root() => bail!(
            "the policy {name:?} leaves images or models to the root contract (\"root\"), and nothing says where that is: \
             set `root` and a chain under [chain], or list them in the policy"
        ),
        // Every chain that can be configured today reports and proves nothing.
        ListedBy::Root if policy.follows_root() && policy.is_for_production() => bail!(
            "the policy {name:?} is for production and leaves images or models to the root contract (\"root\"), which is \
             only reported by a server here: list them in the policy; a chain with proofs cannot be configured yet"
        ),
        ListedBy::Policy | ListedBy::Root => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn production() -> Policy {
        Policy::from_toml(&Policy::production_template()).unwrap()
    }

    fn refused(policy: &Policy, images: ListedBy) -> String {
        is_fit(policy, images).unwrap_err().to_string()
    }

    #[test]
    fn a_servers_word_does_not_fill_a_policy_for_production() {
        assert!(production().follows_root());
        assert!(refused(&production(), ListedBy::Root).contains("reported"));
        assert!(refused(&production(), ListedBy::Policy).contains("[chain]"));
    }

    #[test]
    fn lists_of_another_time_are_not_taken_along() {
        let filled = production().with_root(&RootValues::default()).unwrap();
        assert!(refused(&filled, ListedBy::Root).contains("[root]"));
        // However the section is written.
        let spaced = filled.text().replace("[root]", "[ root ]");
        assert!(refused(&Policy::from_toml(&spaced).unwrap(), ListedBy::Root).contains("[root]"));
    }

    #[test]
    fn a_development_policy_may_be_filled_by_a_server() {
        let text = Policy::production_template().replace("\"production\"", "\"development\"");
        is_fit(&Policy::from_toml(&text).unwrap(), ListedBy::Root).unwrap();
    }
}
