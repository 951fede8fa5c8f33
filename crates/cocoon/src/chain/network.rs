//! What the root says to one proxy: its terms, and the contract that its evidence claims.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use cocoon_net::Prover;
use cocoon_proxy::ProxyTerms;
use cocoon_ton::Address;
use cocoon_ton::chain::watch::RootConfig;
use tokio::sync::watch;

/// Keeps the terms of a proxy as the root has them.
#[derive(Debug)]
pub(crate) struct Terms {
    owner: Address,
    payment_key: [u8; 32],
    prover: Arc<Prover>,
    terms: watch::Sender<Arc<ProxyTerms>>,
}

impl Terms {
    /// Terms by this root, and what keeps them so.
    pub(crate) fn new(
        owner: Address,
        payment_key: [u8; 32],
        prover: Arc<Prover>,
        root: &RootConfig,
    ) -> Result<(Self, watch::Receiver<Arc<ProxyTerms>>)> {
        let first = ProxyTerms::by_root(root, owner, payment_key).context("the root contract's parameters")?;
        claim(&prover, &first);
        let (terms, receiver) = watch::channel(Arc::new(first));
        Ok((Self { owner, payment_key, prover, terms }, receiver))
    }

    /// Follows the root. Never ends; run it beside the role.
    pub(crate) async fn follow(self, mut root: watch::Receiver<Arc<RootConfig>>) {
        loop {
            let now = Arc::clone(&*root.borrow_and_update());
            self.update(&now);
            if root.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    fn update(&self, root: &RootConfig) {
        match ProxyTerms::by_root(root, self.owner, self.payment_key) {
            Ok(terms) => {
                // Before anybody is told the contract, evidence names it.
                claim(&self.prover, &terms);
                self.terms.send_if_modified(|known| {
                    let is_new = **known != terms;
                    if is_new {
                        *known = Arc::new(terms);
                    }
                    is_new
                });
            }
            Err(error) => tracing::error!(%error, "the root contract's parameters cannot be used; the old ones stay"),
        }
    }
}

fn claim(prover: &Prover, terms: &ProxyTerms) {
    let contract = terms.contracts.as_ref().map(|contracts| contracts.proxy().raw());
    prover.set_contract(contract);
}
