//! `cocoon proxy`: routes requests of clients to workers, and meters them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use cocoon_attest::Role;
use cocoon_net::{Acceptor, ListenConfig, ListenLimits};
use cocoon_proxy::{Money, Proxy, ProxyConfig};
use cocoon_tee::NodeKeys;
use cocoon_tee::keys::{KEY_VERSION, expand};
use cocoon_ton::Address;
use cocoon_ton::contract::proxy_address;
use cocoon_ton::wallet::{Wallet, WalletKind};
use cocoon_units::Clock;
use serde::Deserialize;

use super::ConfigArgs;
use crate::attestation::{Links, ListedBy, NodeSettings};
use crate::chain::{ChainSettings, Followed, network};
use crate::config::Read;
use crate::money::{self, Purse};
use crate::{runtime, terminal, wiring};

/// Run a proxy: routing and metering between clients and workers
#[derive(Debug, clap::Args)]
#[group(skip)]
pub(crate) struct Args {
    #[command(flatten)]
    config: ConfigArgs,
}

const SAMPLE: &str = include_str!("../../../config/proxy.toml");

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    threads: usize,
    data_dir: Option<PathBuf>,
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
    /// Connections at once, of clients and of workers each.
    connections: usize,
    /// Of these, how many may come from one address (or IPv6 /64) off this machine.
    connections_per_source: usize,
}

impl Default for File {
    fn default() -> Self {
        Self {
            threads: 1,
            data_dir: None,
            listen: Listen::default(),
            attestation: NodeSettings::default(),
            chain: ChainSettings::default(),
            proxy: ProxyConfig::default(),
        }
    }
}

impl Default for Listen {
    fn default() -> Self {
        let limits = ListenLimits::default();
        Self {
            clients: wiring::PROXY_FOR_CLIENTS,
            workers: wiring::PROXY_FOR_WORKERS,
            pow_difficulty_bits: 0,
            connections: limits.connections_max,
            connections_per_source: limits.per_source.connections_max,
        }
    }
}

impl Listen {
    fn limits(&self) -> ListenLimits {
        let mut limits = ListenLimits { connections_max: self.connections, ..ListenLimits::default() };
        limits.per_source.connections_max = self.connections_per_source;
        // Peers behind a tunnel or a reverse proxy look like this host.
        limits.loopback.connections_max = self.connections;
        limits
    }
}

/// Carries the command out.
pub(crate) fn run(args: &Args) -> Result<()> {
    let Some(Read { file, sha256 }) = args.config.read(SAMPLE)? else { return Ok(()) };
    let File { threads, data_dir, listen, attestation, chain, proxy } = file;
    runtime::check(threads)?;
    let plan = money::with_folder(chain.plan()?, data_dir)?;
    let links = Links::of_node(Role::Proxy, attestation, sha256, ListedBy::of(plan.as_ref()))?;
    super::run_role(threads, |stop| async move {
        let bits = listen.pow_difficulty_bits;
        let bind = async |addr, peers, setting| {
            let config = ListenConfig { limits: listen.limits(), ..links.listen(addr, peers) };
            wiring::bind_sessions(config, bits, setting).await
        };
        let (clients, for_clients) = bind(listen.clients, Role::Client, "`clients` under [listen]").await?;
        let (workers, for_workers) = bind(listen.workers, Role::Worker, "`workers` under [listen]").await?;
        // The links' time, which the host cannot set: receipts are judged by it.
        let (proxy, beside, followed) = match plan {
            None => (Proxy::new(proxy, links.clock(), clients, workers), None, None),
            Some((plan, folder)) => {
                let followed = Followed::open(&plan, proxy.is_test).await?;
                terminal::line(&identity(&proxy, &links, &followed)?);
                let (proxy, beside) =
                    by_root(proxy, links.clock(), clients, workers, &links, followed.clone(), &folder)?;
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
        let serving = async {
            // A proxy that ends by itself ends what runs beside it.
            let served = async {
                let served = proxy.run(stop.clone()).await;
                stop.cancel();
                served
            };
            tokio::join!(served, stop.run_until_cancelled(beside)).0
        };
        tokio::pin!(serving);
        tokio::select! {
            served = &mut serving => Ok(served?),
            () = stale => {
                // What runs may finish; nothing new is sold at prices that may no longer be the network's.
                stop.cancel();
                serving.await?;
                anyhow::bail!("the root contract could not be read for two hours: see that the chain under [chain] answers")
            }
        }
    })
}

/// What an operator needs to register and fund the proxy.
fn identity(config: &ProxyConfig, links: &Links, followed: &Followed) -> Result<String> {
    let (owner, keys) = (owner(config)?, links.lasting_keys()?);
    let payment_key = keys.public().payment;
    let root = Arc::clone(&*followed.root().borrow());
    let contract = proxy_address(owner, &payment_key, root.address, &root.state.params)?;
    let wallet = Wallet::new(keys.wallet().clone(), WalletKind::Cocoon { owner }).address();
    Ok(format!(
        "proxy: contract {contract}\n       payment key {}\n       its wallet, which stakes and pays fees: {}",
        hex::encode(payment_key),
        wallet.friendly(false, config.is_test)
    ))
}

/// Whom the proxy's contract belongs to.
fn owner(config: &ProxyConfig) -> Result<Address> {
    config
        .owner_address
        .parse()
        .context("`owner_address` under [proxy]: with [chain], it is the wallet that the proxy's contract belongs to")
}

/// A proxy that follows a root, and what keeps it so.
pub(crate) fn by_root(
    config: ProxyConfig,
    clock: Arc<dyn Clock>,
    clients: Arc<dyn Acceptor>,
    workers: Arc<dyn Acceptor>,
    links: &Links,
    followed: Followed,
    folder: &Path,
) -> Result<(Proxy, impl Future<Output = ()> + use<>)> {
    let owner = owner(&config)?;
    let keys = links.lasting_keys()?;
    let prover = links.prover().context("a node with keys and without evidence")?;
    let money = money(&followed, folder, keys, owner)?;
    let policy = followed.fill(links);
    let root = followed.root();
    let (terms, receiver) = network::Terms::new(owner, keys.public().payment, prover, &root.borrow())?;
    let proxy = Proxy::new(config, clock, clients, workers).with_terms(receiver).with_money(money);
    let beside = async move {
        tokio::join!(policy, terms.follow(root), followed.tell());
    };
    Ok((proxy, beside))
}

/// The books and the wallet of a proxy.
fn money(followed: &Followed, folder: &Path, keys: &NodeKeys, owner: Address) -> Result<Money> {
    let Purse { chain, policy, sender, folder } = Purse::of_node(followed, folder, keys.wallet(), owner)?;
    Ok(Money {
        chain,
        policy,
        wallet: sender,
        payment_key: keys.payment().clone(),
        journal: money::journal(&folder, keys.journal())?,
        tag_key: expand(keys.journal(), "account-tag", KEY_VERSION)?,
    })
}

#[cfg(test)]
mod tests {
    use cocoon_proxy::SettlementConfig;
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
        shows_every_key::<File>(SAMPLE, &[], &["data_dir"]);
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
        shows_every_key::<SettlementConfig>(SAMPLE, &["proxy", "settlement"], &[]);
        shows_every_key::<Pricing>(SAMPLE, &["proxy", "pricing"], &[]);
        shows_every_key::<Multipliers>(SAMPLE, &["proxy", "pricing", "multipliers"], &[]);
    }
}
