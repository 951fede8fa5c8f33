//! From `[chain]` to roles that follow the root contract: which chain, how far its answers count, what changes with it.
//!
//! 1. [`ChainSettings`] says where the chain is and which root is meant. Without the section there is no chain, and a
//!    role works by its configuration alone.
//! 2. [`Followed::open`] reads the root once, so that no role begins without, and goes on reading it.
//! 3. With each new version: [`policy`] fills the policies that leave images and models to the root, [`registered`] says
//!    which proxies there are, [`network`] makes the terms of a proxy. What changed is logged, once.
//!
//! No decision about trust or money is made here. It fails closed: a root that cannot be read for too long counts as
//! one that lists nothing, and a proxy, which would go on selling by its prices, stops.

#[cfg(feature = "proxy")]
pub(crate) mod network;
pub(crate) mod policy;
#[cfg(any(feature = "client", feature = "worker"))]
pub(crate) mod registered;
mod told;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use cocoon_ton::chain::ChainPolicy;
use cocoon_ton::chain::toncenter::{self, Toncenter};
use cocoon_ton::chain::watch::{RootConfig, RootWatch};
use cocoon_ton::keys::Secret;
use cocoon_ton::{Address, Chain};
#[cfg(feature = "proxy")]
use cocoon_units::Clock;
use serde::Deserialize;
use tokio::sync::watch;

use crate::attestation::Links;
use crate::{config, limits};

/// The section `[chain]` of a role.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ChainSettings {
    /// The root contract.
    root: Option<Address>,
    /// A devnet of this project on this machine.
    devnet: Option<String>,
    /// A server that speaks toncenter v2.
    toncenter: Option<String>,
    /// A file with the server's API key.
    api_key_file: Option<PathBuf>,
    /// Takes a server's word for what decides about money and trust.
    insecure_reported: bool,
    /// Seconds between two looks at the root.
    poll_s: u64,
}

impl Default for ChainSettings {
    fn default() -> Self {
        Self {
            root: None,
            devnet: None,
            toncenter: None,
            api_key_file: None,
            insecure_reported: false,
            poll_s: limits::ROOT_POLL_S_DEFAULT,
        }
    }
}

/// A chain that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ChainPlan {
    root: Address,
    server: Server,
    url: String,
    api_key_file: Option<PathBuf>,
    poll: Duration,
}

/// What answers for a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Server {
    Devnet,
    Toncenter,
}

impl ChainSettings {
    /// What to follow, or which key is missing; none where no chain was asked for.
    pub(crate) fn plan(self) -> Result<Option<ChainPlan>> {
        let (server, url) = match (self.devnet, self.toncenter) {
            (None, None) if self.root.is_none() => return Ok(None),
            (None, None) => bail!(
                "[chain] names a root and no chain: write `toncenter = \"https://toncenter.com\"`, or, for development, \
                 `devnet = \"http://127.0.0.1:8081\"`"
            ),
            (Some(_), Some(_)) => bail!("[chain] names two chains: leave out `devnet` or `toncenter`"),
            (Some(url), None) => (Server::Devnet, loopback(url)?),
            (None, Some(url)) => (Server::Toncenter, url),
        };
        let Some(root) = self.root else {
            bail!(
                "`root` under [chain] is missing: the address of the network's root contract; `cocoon root show` tells it"
            )
        };
        if !self.insecure_reported {
            bail!(
                "{url} only reports what the chain says, and proves nothing: whoever runs it, or stands in between, could \
                 name images and proxies of their own. For development, set `insecure_reported = true` under [chain]"
            );
        }
        if !(1..=limits::ROOT_POLL_S_MAX).contains(&self.poll_s) {
            bail!("`poll_s` under [chain] is {}: it must lie between 1 and {}", self.poll_s, limits::ROOT_POLL_S_MAX);
        }
        let poll = Duration::from_secs(self.poll_s);
        Ok(Some(ChainPlan { root, server, url, api_key_file: self.api_key_file, poll }))
    }
}

/// A devnet is on this machine; anything else by that name is a mistake.
fn loopback(url: String) -> Result<String> {
    let rest = url.strip_prefix("http://").unwrap_or_default();
    let authority = rest.split('/').next().unwrap_or_default();
    let is_here = authority.parse::<std::net::SocketAddr>().is_ok_and(|addr| addr.ip().is_loopback());
    if is_here || authority.split(':').next() == Some("localhost") {
        return Ok(url);
    }
    bail!("`devnet` under [chain] is {url:?}: a devnet is on this machine, such as http://127.0.0.1:8081")
}

/// A root that is followed, for as long as this or a clone of it lives.
#[derive(Debug, Clone)]
pub(crate) struct Followed {
    chain: Arc<dyn Chain>,
    policy: ChainPolicy,
    watch: RootWatch,
    is_told: bool,
}

impl Followed {
    /// Opens the chain of a plan and reads the root.
    pub(crate) async fn open(plan: &ChainPlan, is_test: bool) -> Result<Self> {
        let api_key = plan.api_key_file.as_deref().map(read_api_key).transpose()?;
        let requests_per_second = match (&plan.server, &api_key) {
            (Server::Devnet, _) => limits::DEVNET_REQUESTS_PER_SECOND,
            (Server::Toncenter, Some(_)) => limits::TONCENTER_REQUESTS_PER_SECOND_WITH_KEY,
            (Server::Toncenter, None) => 1,
        };
        let config = toncenter::Config { url: api(&plan.url), api_key, requests_per_second };
        let chain = Toncenter::new(config).with_context(|| format!("cannot use the chain at {}", plan.url))?;
        Self::on(Arc::new(chain), plan.root, is_test, plan.poll, ChainPolicy::InsecureReported).await
    }

    /// Reads a root on a chain and follows it.
    pub(crate) async fn on(
        chain: Arc<dyn Chain>,
        root: Address,
        is_test: bool,
        poll: Duration,
        policy: ChainPolicy,
    ) -> Result<Self> {
        let watch = RootWatch::start(Arc::clone(&chain), root, is_test, poll, policy).await;
        let watch = watch.context("cannot read the root contract that [chain] names")?;
        Ok(Self { chain, policy, watch, is_told: true })
    }

    /// The chain that the root is on, and how far its answers count for money.
    pub(crate) fn chain(&self) -> (Arc<dyn Chain>, ChainPolicy) {
        (Arc::clone(&self.chain), self.policy)
    }

    /// Fills the policy of these links now, and keeps it filled by the future that this gives, which never ends. Nobody is
    /// dialled or answered before.
    pub(crate) fn fill(&self, links: &Links) -> impl Future<Output = ()> + use<> {
        let (watch, filler, clock) = (self.watch.clone(), links.filler(), links.clock());
        if let Some(filler) = &filler {
            filler.fill(&watch.config());
        }
        async move {
            match filler {
                Some(filler) => filler.follow(watch, clock).await,
                None => std::future::pending().await,
            }
        }
    }

    /// The same root for another role of this process, whose log has heard of changes already.
    #[cfg(feature = "dev")]
    pub(crate) fn untold(&self) -> Self {
        Self { is_told: false, ..self.clone() }
    }

    /// Tells the log what changes. Never ends, and keeps the root followed; run it beside the role.
    pub(crate) async fn tell(self) {
        if !self.is_told {
            return std::future::pending().await;
        }
        let mut root = self.root();
        let mut before = Arc::clone(&*root.borrow_and_update());
        tracing::info!(root = %before.address, version = before.state.version, "following the root contract");
        while root.changed().await.is_ok() {
            let after = Arc::clone(&*root.borrow_and_update());
            for change in told::changes(&before.state, &after.state) {
                tracing::info!(version = after.state.version, "root contract: {change}");
            }
            before = after;
        }
        std::future::pending().await
    }

    /// Completes once the root was not read for too long.
    #[cfg(feature = "proxy")]
    pub(crate) async fn stale(self, clock: Arc<dyn Clock>) {
        let mut looks = 0_u32;
        while looks < policy::STALE_LOOKS_MAX {
            tokio::time::sleep(policy::STALE_LOOK).await;
            looks = if self.watch.is_stale(clock.unix_now()) { looks.saturating_add(1) } else { 0 };
        }
    }

    /// What it says, version by version.
    pub(crate) fn root(&self) -> watch::Receiver<Arc<RootConfig>> {
        self.watch.receiver()
    }
}

/// The address of the API behind that of a server.
fn api(url: &str) -> String {
    let url = url.trim_end_matches('/');
    if url.ends_with("/api/v2") { url.to_owned() } else { format!("{url}/api/v2") }
}

fn read_api_key(path: &Path) -> Result<Secret> {
    let text = config::read_text(path, limits::CONFIG_BYTES_MAX).context("`api_key_file` under [chain]")?;
    Ok(Secret::new(text.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: &str = "root = \"0:e4d954ef9f4e1250a26b5bbad76a1cdd17cfd08babad6f4c23e372270aef6f76\"\n";

    fn plan_of(text: &str) -> Result<Option<ChainPlan>> {
        config::parse::<ChainSettings>(text).unwrap().plan()
    }

    #[track_caller]
    fn refused(text: &str, word: &str) {
        let error = plan_of(text).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }

    #[test]
    fn nothing_is_followed_unasked() {
        assert_eq!(plan_of("").unwrap(), None);
    }

    #[test]
    fn what_is_missing_is_named() {
        refused(ROOT, "no chain");
        refused("devnet = \"http://127.0.0.1:1\"", "`root`");
        let both = format!("{ROOT}devnet = \"http://127.0.0.1:1\"\ntoncenter = \"https://toncenter.com\"");
        refused(&both, "two chains");
        refused(&format!("{ROOT}devnet = \"http://127.0.0.1:1\"\ninsecure_reported = true\npoll_s = 0"), "`poll_s`");
    }

    #[test]
    fn a_servers_word_does_not_count_unless_that_is_written_out() {
        refused(&format!("{ROOT}toncenter = \"https://toncenter.com\""), "insecure_reported");
        refused(&format!("{ROOT}devnet = \"http://127.0.0.1:8081\""), "insecure_reported");
        let plan = plan_of(&format!("{ROOT}devnet = \"http://127.0.0.1:8081\"\ninsecure_reported = true")).unwrap();
        assert_eq!(plan.unwrap().poll, Duration::from_secs(30));
    }

    #[test]
    fn a_devnet_elsewhere_is_no_devnet() {
        for url in ["http://10.0.0.1:8081", "https://127.0.0.1:8081", "http://127.0.0.1.example.com:80", "8081"] {
            refused(&format!("{ROOT}devnet = {url:?}\ninsecure_reported = true"), "on this machine");
        }
    }
}
