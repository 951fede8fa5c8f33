//! `cocoon client`: the OpenAI endpoint on the host of the one who asks and pays.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use cocoon_client::{Client, ClientConfig, Money};
use cocoon_units::Clock;
use serde::Deserialize;

use super::ConfigArgs;
use crate::attestation::{Links, ListedBy, VerifierSettings};
use crate::chain::policy::for_workers;
use crate::chain::registered::{Registered, Side};
use crate::chain::{ChainSettings, Followed};
use crate::config::Read;
use crate::money::{self, OwnPurse, Purse, WalletSettings};
use crate::{runtime, terminal, wiring};

/// Run the client: an OpenAI endpoint for your apps
#[derive(Debug, clap::Args)]
#[group(skip)]
pub(crate) struct Args {
    #[command(flatten)]
    config: ConfigArgs,
}

const SAMPLE: &str = include_str!("../../../config/client.toml");

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    threads: usize,
    data_dir: Option<PathBuf>,
    proxies: Option<Vec<SocketAddr>>,
    attestation: VerifierSettings,
    chain: ChainSettings,
    wallet: WalletSettings,
    client: ClientConfig,
}

impl Default for File {
    fn default() -> Self {
        Self {
            threads: 1,
            data_dir: None,
            proxies: None,
            attestation: VerifierSettings::default(),
            chain: ChainSettings::default(),
            wallet: WalletSettings::default(),
            client: ClientConfig::default(),
        }
    }
}

/// Carries the command out.
pub(crate) fn run(args: &Args) -> Result<()> {
    let Some(Read { file, .. }) = args.config.read::<File>(SAMPLE)? else { return Ok(()) };
    runtime::check(file.threads)?;
    let plan = money::with_folder(file.chain.plan()?, file.data_dir)?;
    let links = Links::of_client(file.attestation, ListedBy::of(plan.as_ref()))?;
    let proxies = wiring::proxies(file.proxies, plan.is_some(), wiring::PROXY_FOR_CLIENTS, &links)?;
    super::run_role(file.threads, |stop| async move {
        let listen = file.client.listen;
        let (client, beside) = match plan {
            None => {
                let dialers = wiring::dialers(&proxies.unwrap_or_default(), &links);
                (Client::new(file.client, wiring::clock(), dialers)?, None)
            }
            Some((plan, folder)) => {
                let followed = Followed::open(&plan, file.client.is_test).await?;
                let purse = file.wallet.open(&followed, &folder, file.client.is_test)?;
                let (client, beside) = by_root(file.client, wiring::clock(), proxies, &links, followed, purse)?;
                (client, Some(beside))
            }
        };
        let listener = wiring::bind_http(listen, "`listen` under [client]")?;
        // Only now is it true.
        terminal::line(&format!("client: http://{}/v1", listener.local_addr()?));
        let beside = async move {
            match beside {
                Some(beside) => beside.await,
                None => std::future::pending().await,
            }
        };
        let (served, _) = tokio::join!(client.serve(listener, stop.clone()), stop.run_until_cancelled(beside));
        Ok(served?)
    })
}

/// A client that follows a root, and what keeps it so. Without proxies of its own it takes those that are registered.
pub(crate) fn by_root(
    mut config: ClientConfig,
    clock: Arc<dyn Clock>,
    proxies: Option<Vec<SocketAddr>>,
    links: &Links,
    followed: Followed,
    OwnPurse { purse, secret_seed }: OwnPurse,
) -> Result<(Client, impl Future<Output = ()> + use<>)> {
    let policy = followed.fill(links);
    let root = followed.root();
    let (directory, registered) = match proxies {
        Some(proxies) => (wiring::dialers(&proxies, links).into(), None),
        None => {
            let (registered, directory) = Registered::new(links.clone(), Side::Clients, &root.borrow());
            (directory, Some(registered))
        }
    };
    let Purse { chain, policy: proof, sender, folder } = purse;
    // The contract belongs to the wallet that funds it, so that what comes out of it goes where it came from.
    config.owner_address = sender.address().raw();
    let money = Money { chain, policy: proof, sender, folder, secret_seed };
    let client = Client::by_root(config, clock, directory, root.clone())?.with_money(money)?;
    let judged = links.worker_policy().map(|policy| for_workers(policy, root.clone()));
    let (client, workers) = match judged {
        Some((policy, follow)) => (client.with_worker_policy(policy), Some(follow)),
        None => (client, None),
    };
    let beside = async move {
        let workers = async {
            match workers {
                Some(follow) => follow.await,
                None => std::future::pending().await,
            }
        };
        let registered = async {
            if let Some(registered) = registered {
                registered.follow(root).await;
            }
        };
        tokio::join!(policy, registered, workers, followed.tell());
    };
    Ok((client, beside))
}

#[cfg(test)]
mod tests {
    use cocoon_client::{BudgetConfig, LimitsConfig};
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
        shows_every_key::<File>(SAMPLE, &[], &["data_dir", "proxies"]);
        shows_every_key::<WalletSettings>(SAMPLE, &["wallet"], &["key_file", "passphrase_file"]);
        shows_every_key::<ChainSettings>(SAMPLE, &["chain"], &["root", "devnet", "toncenter", "api_key_file"]);
        let optional = ["policy", "worker_policy", "pccs", "cache_dir", "insecure_simulated_tee"];
        shows_every_key::<VerifierSettings>(SAMPLE, &["attestation"], &optional);
        shows_every_key::<ClientConfig>(SAMPLE, &["client"], &[]);
        shows_every_key::<BudgetConfig>(SAMPLE, &["client", "budget"], &["top_up_below", "price_max"]);
        shows_every_key::<LimitsConfig>(SAMPLE, &["client", "limits"], &[]);
        shows_every_key::<Pricing>(SAMPLE, &["client", "pricing"], &[]);
        shows_every_key::<Multipliers>(SAMPLE, &["client", "pricing", "multipliers"], &[]);
    }

    #[test]
    fn an_unknown_key_is_named() {
        let error = crate::config::parse::<File>("[client]\nlisten_on = 1\n").unwrap_err().to_string();
        assert!(error.contains("listen_on"), "{error}");
    }
}
