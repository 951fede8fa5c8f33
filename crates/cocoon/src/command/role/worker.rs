//! `cocoon worker`: an engine, offered to proxies.

mod watch;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use cocoon_attest::Role;
use cocoon_receipt::{Hash, How, ModelHashes};
use cocoon_ton::Address;
use cocoon_ton::wallet::{Wallet, WalletKind};
use cocoon_units::Clock;
use cocoon_worker::engine::openai_http::OpenAiHttp;
use cocoon_worker::{Engine, Money, OpenAiHttpConfig, ReceiptSigner, Worker, WorkerConfig};
use serde::Deserialize;

use super::ConfigArgs;
use crate::attestation::{Links, ListedBy, NodeSettings};
use crate::chain::registered::{Registered, Side};
use crate::chain::{ChainSettings, Followed};
use crate::config::Read;
#[cfg(feature = "engine-embedded")]
use crate::embedded::Loaded;
use crate::money::{self, Purse};
use crate::{runtime, terminal, wiring};
use watch::Watch;

/// Run a worker: an inference engine offered to proxies
#[derive(Debug, clap::Args)]
#[group(skip)]
pub(crate) struct Args {
    #[command(flatten)]
    config: ConfigArgs,
}

const SAMPLE: &str = include_str!("../../../config/worker.toml");

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    threads: usize,
    data_dir: Option<PathBuf>,
    proxies: Option<Vec<SocketAddr>>,
    attestation: NodeSettings,
    chain: ChainSettings,
    /// Kept as a table until its `kind` is known: each kind has keys of its own.
    engine: toml::Table,
    declared: Declared,
    worker: WorkerConfig,
}

impl Default for File {
    fn default() -> Self {
        Self {
            threads: 1,
            data_dir: None,
            proxies: None,
            attestation: NodeSettings::default(),
            chain: ChainSettings::default(),
            engine: toml::Table::new(),
            declared: Declared::default(),
            worker: WorkerConfig::default(),
        }
    }
}

/// The section `[declared]`: SHA-256 of what an engine elsewhere runs, which receipts repeat as declared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Declared {
    weights: Option<Sha256Hex>,
    engine: Option<Sha256Hex>,
    tokenizer: Option<Sha256Hex>,
    chat_template: Option<Sha256Hex>,
}

/// 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
struct Sha256Hex(#[serde(with = "hex::serde")] [u8; 32]);

impl Declared {
    /// What is measured stays so; the rest is as it was declared.
    fn beside(self, measured: ModelHashes) -> ModelHashes {
        let known = |measured: Option<Hash>, declared: Option<Sha256Hex>| {
            measured.or_else(|| declared.map(|Sha256Hex(sha256)| Hash { sha256, how: How::Declared }))
        };
        ModelHashes {
            weights: known(measured.weights, self.weights),
            engine: known(measured.engine, self.engine),
            tokenizer: known(measured.tokenizer, self.tokenizer),
            chat_template: known(measured.chat_template, self.chat_template),
        }
    }
}

impl File {
    /// Refuses what could only fail later, and name the key.
    fn check(&self) -> Result<()> {
        runtime::check(self.threads)?;
        if self.proxies.as_ref().is_some_and(Vec::is_empty) {
            bail!(wiring::NO_PROXIES);
        }
        let WorkerConfig { proto_version_min: min, proto_version_max: max, .. } = self.worker;
        if min > max {
            bail!("`proto_version_min` under [worker] is {min}, above `proto_version_max`, {max}");
        }
        Ok(())
    }
}

/// Carries the command out.
pub(crate) fn run(args: &Args) -> Result<()> {
    let Some(Read { mut file, sha256 }) = args.config.read::<File>(SAMPLE)? else { return Ok(()) };
    file.check()?;
    let plan = money::with_folder(file.chain.plan()?, file.data_dir)?;
    let links = Links::of_node(Role::Worker, file.attestation, sha256, ListedBy::of(plan.as_ref()))?;
    let proxies = wiring::proxies(file.proxies, plan.is_some(), wiring::PROXY_FOR_WORKERS, &links)?;
    let (engine, place, measured) = engine(file.engine).context("the engine under [engine]")?;
    let hashes = file.declared.beside(measured);
    wiring::fit_slots(&mut file.worker, engine.as_ref(), 1);
    super::run_role(file.threads, |stop| async move {
        let shown = proxies.clone().unwrap_or_default();
        // Receipts carry the links' time, which the host cannot set: one of another time pays nobody.
        let (worker, follow) = match plan {
            None => {
                let dialers = wiring::dialers(&shown, &links);
                let worker = Worker::new(file.worker, links.clock(), Arc::clone(&engine), dialers)?;
                (worker, None)
            }
            Some((plan, folder)) => {
                let followed = Followed::open(&plan, file.worker.is_test).await?;
                terminal::line(&identity(&file.worker, &links)?);
                let (worker, follow) =
                    by_root(file.worker, links.clock(), Arc::clone(&engine), proxies, &links, followed, &folder)?;
                (worker, Some(follow))
            }
        };
        let worker = proven(worker, &links, hashes);
        let watch = Watch::new(worker.handle(), engine, place, shown);
        let follow = async {
            match follow {
                Some(follow) => follow.await,
                None => std::future::pending().await,
            }
        };
        let beside = async { tokio::join!(watch.run(), links.keep_time(), follow) };
        tokio::join!(worker.run(stop.clone()), stop.run_until_cancelled(beside));
        Ok(())
    })
}

/// What an operator needs to fund the worker's wallet.
fn identity(config: &WorkerConfig, links: &Links) -> Result<String> {
    let kind = WalletKind::Cocoon { owner: owner(config)? };
    let wallet = Wallet::new(links.lasting_keys()?.wallet().clone(), kind).address();
    Ok(format!("worker: its wallet, which pays the fees of cashing: {}", wallet.friendly(false, config.is_test)))
}

/// Who gets what the worker earns.
fn owner(config: &WorkerConfig) -> Result<Address> {
    config
        .owner_address
        .parse()
        .context("`owner_address` under [worker]: with [chain], it is the wallet that gets what the worker earns")
}

/// A worker that follows a root, and what keeps it so. Without proxies of its own it takes those that are registered.
pub(crate) fn by_root(
    config: WorkerConfig,
    clock: Arc<dyn Clock>,
    engine: Arc<dyn Engine>,
    proxies: Option<Vec<SocketAddr>>,
    links: &Links,
    followed: Followed,
    folder: &Path,
) -> Result<(Worker, impl Future<Output = ()> + use<>)> {
    let owner = owner(&config)?;
    let keys = links.lasting_keys()?;
    let Purse { chain, policy: proof, sender, folder } = Purse::of_node(&followed, folder, keys.wallet(), owner)?;
    let money = Money { chain, policy: proof, sender, folder };
    let policy = followed.fill(links);
    let root = followed.root();
    let (directory, registered) = match proxies {
        Some(proxies) => (wiring::dialers(&proxies, links).into(), None),
        None => {
            let (registered, directory) = Registered::new(links.clone(), Side::Workers, &root.borrow());
            (directory, Some(registered))
        }
    };
    let worker = Worker::by_root(config, clock, engine, directory, root.clone())?.with_money(money)?;
    let beside = async move {
        let registered = async {
            if let Some(registered) = registered {
                registered.follow(root).await;
            }
        };
        tokio::join!(policy, registered, followed.tell());
    };
    Ok((worker, beside))
}

/// A worker that shows what it is, and signs receipts with a key that its evidence names; one without a TEE does neither.
pub(crate) fn proven(worker: Worker, links: &Links, hashes: ModelHashes) -> Worker {
    let (Some(prover), Some(keys)) = (links.prover(), links.keys()) else { return worker };
    worker.with_prover(prover).with_receipts(ReceiptSigner { key: keys.receipt().clone(), hashes })
}

/// The engine that `[engine]` describes, where it is, and what was measured of its model; over HTTP if the table does not
/// say otherwise.
fn engine(mut table: toml::Table) -> Result<(Arc<dyn Engine>, String, ModelHashes)> {
    let kind = table.remove("kind").unwrap_or_else(|| "openai-http".into());
    match kind.as_str() {
        Some("openai-http") => {
            let config: OpenAiHttpConfig = table.try_into()?;
            Ok((Arc::new(OpenAiHttp::new(&config)?), config.url, ModelHashes::default()))
        }
        #[cfg(feature = "engine-embedded")]
        Some("embedded") => {
            let Loaded { engine, hashes } = crate::embedded::load(&table.try_into()?)?;
            Ok((engine, "in this process".to_owned(), hashes))
        }
        _ => bail!("`kind` is {kind}: it must be \"openai-http\" or, in a build with it, \"embedded\""),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use cocoon_units::Multipliers;
    use cocoon_worker::EarningsConfig;

    use super::*;
    use crate::config::samples::{keys_of, shows_every_key};

    fn parse(text: &str) -> File {
        crate::config::parse(text).unwrap()
    }

    #[test]
    fn the_sample_shows_the_defaults() {
        let mut sample = parse(SAMPLE);
        assert_eq!(sample.engine.remove("kind"), Some("openai-http".into()));
        let shown: OpenAiHttpConfig = sample.engine.try_into().unwrap();
        assert_eq!(shown, OpenAiHttpConfig::default());
        let expected = File::default();
        assert_eq!(sample.worker, expected.worker);
        assert_eq!((sample.threads, sample.proxies), (expected.threads, expected.proxies));
    }

    #[test]
    fn the_sample_shows_every_key() {
        shows_every_key::<File>(SAMPLE, &[], &["data_dir", "proxies"]);
        shows_every_key::<ChainSettings>(SAMPLE, &["chain"], &["root", "devnet", "toncenter", "api_key_file"]);
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
        shows_every_key::<WorkerConfig>(SAMPLE, &["worker"], &["model"]);
        shows_every_key::<EarningsConfig>(SAMPLE, &["worker", "earnings"], &[]);
        shows_every_key::<Declared>(SAMPLE, &["declared"], &["weights", "engine", "tokenizer", "chat_template"]);
        shows_every_key::<Multipliers>(SAMPLE, &["worker", "multipliers"], &[]);
        let table = parse(SAMPLE).engine;
        let shown: BTreeSet<&str> = table.keys().map(String::as_str).filter(|key| *key != "kind").collect();
        assert_eq!(shown, keys_of::<OpenAiHttpConfig>());
    }

    #[cfg(feature = "engine-embedded")]
    #[test]
    fn the_sample_shows_the_embedded_engine() {
        use crate::embedded::EmbeddedConfig;

        let line = |key: &&str| SAMPLE.lines().find_map(|line| line.strip_prefix(&format!("# {key} = "))).unwrap();
        for key in &keys_of::<EmbeddedConfig>() {
            line(key);
        }
        let EmbeddedConfig { threads, sequences_max, context_tokens_max, model_name, .. } = EmbeddedConfig::default();
        assert_eq!((line(&"threads"), line(&"sequences_max")), (&*threads.to_string(), &*sequences_max.to_string()));
        assert!(context_tokens_max.is_none() && model_name.is_none(), "the sample calls them optional");
    }

    #[test]
    fn values_that_can_never_work_are_named() {
        let refused = |text: &str| parse(text).check().unwrap_err().to_string();
        assert!(refused("[worker]\nproto_version_min = 3\nproto_version_max = 2").contains("proto_version_min"));
        assert!(refused("threads = 0").contains("`threads`"));
        assert!(refused("proxies = []").contains("`proxies`"));
        parse(SAMPLE).check().unwrap();
    }

    #[test]
    fn engines_are_told_apart_and_their_unknown_keys_named() {
        assert!(engine(parse("[engine]\nurl = \"http://127.0.0.1:1\"").engine).is_ok());
        let refused = |text: &str| format!("{:#}", engine(parse(text).engine).err().unwrap());
        assert!(refused("[engine]\nurll = \"x\"").contains("urll"));
        assert!(refused("[engine]\nkind = \"magic\"").contains("magic"));
    }
}
