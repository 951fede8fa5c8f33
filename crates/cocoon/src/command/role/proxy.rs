//! `cocoon proxy`: routes requests of clients to workers, and meters them.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use cocoon_attest::Role;
use cocoon_net::Acceptor;
use cocoon_proxy::{Proxy, ProxyConfig};
use cocoon_units::Clock;
use serde::Deserialize;

use super::ConfigArgs;
use crate::attestation::{Links, ListedBy, NodeSettings};
use crate::chain::{ChainSettings, Followed, network};
use crate::config::Read;
use crate::{runtime, terminal, wiring};

/// Run a proxy: routing and metering between clients and workers
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    config: ConfigArgs,
}

const SAMPLE: &str = include_str!("../../../config/proxy.toml");

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    threads: usize,
    listen: Listen,
    attestation: NodeSettings,
    chain: ChainSettings,
    proxy: ProxyConfig,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Listen {
    clients: SocketAddr,
    workers: SocketAddr,
    pow_difficulty_bits: i32,
}

impl Default for File {
    fn default() -> Self {
        Self {
            threads: 1,
            listen: Listen::default(),
            attestation: NodeSettings::default(),
            chain: ChainSettings::default(),
            proxy: ProxyConfig::default(),
        }
    }
}

impl Default for Listen {
    fn default() -> Self {
        Self { clients: wiring::PROXY_FOR_CLIENTS, workers: wiring::PROXY_FOR_WORKERS, pow_difficulty_bits: 0 }
    }
}

/// Carries the command out.
pub(crate) fn run(args: &Args) -> Result<()> {
    let Some(Read { file, sha256 }) = args.config.read(SAMPLE)? else { return Ok(()) };
    let File { threads, listen, attestation, chain, proxy } = file;
    runtime::check(threads)?;
    let plan = chain.plan()?;
    let links = Links::of_node(Role::Proxy, attestation, sha256, ListedBy::of(plan.as_ref()))?;
    super::run_role(threads, |stop| async move {
        let bits = listen.pow_difficulty_bits;
        let bind = async |addr, peers, setting| wiring::bind_sessions(links.listen(addr, peers), bits, setting).await;
        let (clients, for_clients) = bind(listen.clients, Role::Client, "`clients` under [listen]").await?;
        let (workers, for_workers) = bind(listen.workers, Role::Worker, "`workers` under [listen]").await?;
        let (proxy, beside, followed) = match plan {
            None => (Proxy::new(proxy, wiring::clock(), clients, workers), None, None),
            Some(plan) => {
                let followed = Followed::open(&plan, proxy.is_test).await?;
                let (proxy, beside) = by_root(proxy, wiring::clock(), clients, workers, &links, followed.clone())?;
                (proxy, Some(beside), Some(followed))
            }
        };
        terminal::line(&format!("proxy: {for_clients} for clients, {for_workers} for workers"));
        let beside = async {
            match beside {
                Some(beside) => tokio::join!(links.keep_time(), beside),
                None => tokio::join!(links.keep_time(), std::future::pending()),
            }
        };
        let stale = async {
            match followed {
                Some(followed) => followed.stale(links.clock()).await,
                None => std::future::pending().await,
            }
        };
        let serving = async { tokio::join!(proxy.run(stop.clone()), stop.run_until_cancelled(beside)) };
        tokio::pin!(serving);
        tokio::select! {
            _ = &mut serving => Ok(()),
            () = stale => {
                // What runs may finish; nothing new is sold at prices that may no longer be the network's.
                stop.cancel();
                serving.await;
                anyhow::bail!("the root contract could not be read for two hours: see that the chain under [chain] answers")
            }
        }
    })
}

/// A proxy that follows a root, and what keeps it so.
pub(crate) fn by_root(
    config: ProxyConfig,
    clock: Arc<dyn Clock>,
    clients: Arc<dyn Acceptor>,
    workers: Arc<dyn Acceptor>,
    links: &Links,
    followed: Followed,
) -> Result<(Proxy, impl Future<Output = ()> + use<>)> {
    let owner = config.owner_address.parse().context(
        "`owner_address` under [proxy]: with [chain], it is the wallet that the proxy's contract belongs to",
    )?;
    let (Some(payment_key), Some(prover)) = (links.payment_key(), links.prover()) else {
        anyhow::bail!(
            "a proxy on a chain needs a key for payments, which its TEE derives: set `tee` or, for development, \
             `insecure_simulated_tee` under [attestation]"
        );
    };
    let policy = followed.fill(links);
    let root = followed.root();
    let (terms, receiver) = network::Terms::new(owner, payment_key, prover, &root.borrow())?;
    let proxy = Proxy::new(config, clock, clients, workers).with_terms(receiver);
    let beside = async move {
        tokio::join!(policy, terms.follow(root), followed.tell());
    };
    Ok((proxy, beside))
}

#[cfg(test)]
mod tests {
    use cocoon_units::{Multipliers, Pricing};

    use super::*;
    use crate::config::samples::shows_every_key;

    #[test]
    fn the_sample_shows_the_defaults() {
        let sample: File = crate::config::parse(SAMPLE).unwrap();
        assert_eq!(format!("{sample:?}"), format!("{:?}", File::default()));
    }

    #[test]
    fn the_sample_shows_every_key() {
        shows_every_key::<File>(SAMPLE, &[], &[]);
        shows_every_key::<ChainSettings>(SAMPLE, &["chain"], &["root", "devnet", "toncenter", "api_key_file"]);
        shows_every_key::<Listen>(SAMPLE, &["listen"], &[]);
        let optional = [
            "manifest",
            "runtime_event_log",
            "policy",
            "pccs",
            "cache_dir",
            "insecure_simulated_tee",
            "insecure_file_keys",
        ];
        shows_every_key::<NodeSettings>(SAMPLE, &["attestation"], &optional);
        shows_every_key::<ProxyConfig>(SAMPLE, &["proxy"], &["client_secret_hash"]);
        shows_every_key::<Pricing>(SAMPLE, &["proxy", "pricing"], &[]);
        shows_every_key::<Multipliers>(SAMPLE, &["proxy", "pricing", "multipliers"], &[]);
    }
}
