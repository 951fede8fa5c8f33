//! Which chain a command talks to, and what is known about the network on it.
//!
//! 1. `--chain URL` or `COCOON_CHAIN`: a `cocoon devnet`, the devnet of a running `cocoon up`, or toncenter.
//! 2. Without it, `network.json` in the data folder: what `cocoon up` or `cocoon root deploy` left there.
//!
//! Whatever a server answers is only reported. These commands show it, and send what a person asked for; a person is
//! told so once per command. Roles, which decide about money by themselves, have a policy of their own.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use cocoon_ton::chain::Proof;
use cocoon_ton::chain::toncenter::{Config, Toncenter};
use cocoon_ton::keys::Secret;
use cocoon_ton::{Address, Chain};
use serde::{Deserialize, Serialize};

use crate::{config, environment, limits};

/// Where the chain is.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct NetworkArgs {
    /// The chain: a `cocoon devnet`, the devnet of `cocoon up`, or toncenter [default: what `cocoon up` left in the data folder]
    #[arg(long, global = true, env = "COCOON_CHAIN", value_name = "URL")]
    chain: Option<String>,

    /// The chain is a test network, where money is play money; known by itself for devnets and testnet.toncenter.com
    #[arg(long, global = true)]
    testnet: bool,

    /// A file with an API key for the chain's server, which raises its limits
    #[arg(long, global = true, env = "COCOON_CHAIN_KEY_FILE", value_name = "FILE")]
    chain_key_file: Option<PathBuf>,

    /// Folder for wallets and what is known about the network [default: $XDG_DATA_HOME/cocoon or ~/.local/share/cocoon]
    #[arg(long, global = true, env = "COCOON_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

/// What kind of network a chain is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// TON itself.
    Main,
    /// TON's test network.
    Test,
    /// A devnet of this project.
    Devnet,
}

impl Kind {
    /// Whether money is play money there, and addresses are marked so.
    pub(crate) const fn is_test(self) -> bool {
        match self {
            Self::Main => false,
            Self::Test | Self::Devnet => true,
        }
    }

    /// How often it is worth looking whether something happened there.
    pub(crate) const fn poll(self) -> Duration {
        match self {
            Self::Main | Self::Test => limits::ARRIVAL_POLL,
            Self::Devnet => limits::ARRIVAL_POLL_DEVNET,
        }
    }

    /// As it is called.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Main => "TON's main network",
            Self::Test => "a test network",
            Self::Devnet => "a devnet",
        }
    }
}

/// What a network left for the commands: `network.json` in the data folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Where its chain answers.
    pub(crate) chain: String,
    /// Its root contract.
    pub(crate) root: Address,
    /// The contract that owns the root, when there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) steward: Option<Address>,
    /// The key file of the wallet that may change it, as a path from the data folder or from the file system's root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) wallet: Option<PathBuf>,
}

impl Record {
    /// The file's name in the data folder.
    pub(crate) const FILE: &str = "network.json";

    /// Reads it, if it is there.
    pub(crate) fn read(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join(Self::FILE);
        if !path.exists() {
            return Ok(None);
        }
        let text = config::read_text(&path, limits::CONFIG_BYTES_MAX)?;
        let record = serde_json::from_str(&text).with_context(|| {
            format!("{} cannot be read; `cocoon up` writes it anew, or name the chain with --chain", path.display())
        })?;
        Ok(Some(record))
    }

    /// Writes it whole or not at all.
    pub(crate) fn write(&self, folder: &Path) -> Result<()> {
        let path = folder.join(Self::FILE);
        let half = folder.join("network.json.new");
        let text = serde_json::to_string_pretty(self)?;
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        std::fs::write(&half, text + "\n").with_context(|| format!("cannot write {}", half.display()))?;
        std::fs::rename(&half, &path).with_context(|| format!("cannot write {}", path.display()))
    }
}

/// A chain to talk to, and what is known about the network on it.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    /// The chain.
    pub(crate) chain: Arc<dyn Chain>,
    /// Where it answers, for messages and for the faucet.
    pub(crate) endpoint: String,
    /// What kind of network it is.
    pub(crate) kind: Kind,
    /// The data folder.
    pub(crate) folder: PathBuf,
    /// What the network on this chain left in the data folder.
    pub(crate) record: Option<Record>,
}

impl NetworkArgs {
    /// The data folder.
    pub(crate) fn folder(&self) -> Result<PathBuf> {
        let folder = self.data_dir.clone().map_or_else(environment::data_dir, Ok)?;
        std::path::absolute(&folder).with_context(|| format!("{} is no path", folder.display()))
    }

    /// The kind of network that these options name, without asking it.
    pub(crate) fn kind(&self) -> Result<Kind> {
        let url = match &self.chain {
            Some(url) => Some(url.clone()),
            None => Record::read(&self.folder()?)?.map(|record| record.chain),
        };
        Ok(if self.testnet { Kind::Test } else { url.map_or(Kind::Main, |url| kind_of(&url)) })
    }

    /// Opens the chain. Nothing is asked of it yet.
    pub(crate) fn open(&self) -> Result<Session> {
        let folder = self.folder()?;
        let record = Record::read(&folder)?;
        let endpoint = match (&self.chain, &record) {
            (Some(url), _) => url.clone(),
            (None, Some(record)) => record.chain.clone(),
            (None, None) => bail!(
                "which chain? No network is noted in {}: if `cocoon up` runs with another folder, name it with \
                 --data-dir; for a `cocoon devnet`, name its address with --chain http://127.0.0.1:PORT or COCOON_CHAIN; \
                 toncenter is --chain https://toncenter.com",
                folder.display()
            ),
        };
        let endpoint = base(&endpoint).to_owned();
        // What is known about another network must not be mixed with this one.
        let record = record.filter(|record| base(&record.chain) == endpoint);
        let kind = if self.testnet { Kind::Test } else { kind_of(&endpoint) };
        let chain = Arc::new(self.connect(&endpoint, kind)?);
        Ok(Session { chain, endpoint, kind, folder, record })
    }

    fn connect(&self, endpoint: &str, kind: Kind) -> Result<Toncenter> {
        let api_key = match &self.chain_key_file {
            Some(path) => {
                let text = Secret::new(config::read_text(path, limits::CONFIG_BYTES_MAX)?);
                Some(Secret::new(text.expose().trim()))
            }
            None => None,
        };
        let requests_per_second = match kind {
            Kind::Devnet => limits::DEVNET_REQUESTS_PER_SECOND,
            Kind::Main | Kind::Test if api_key.is_some() => limits::TONCENTER_REQUESTS_PER_SECOND_WITH_KEY,
            Kind::Main | Kind::Test => 1,
        };
        let config = Config { url: format!("{endpoint}/api/v2"), api_key, requests_per_second };
        Toncenter::new(config).with_context(|| format!("cannot use the chain at {endpoint}"))
    }
}

/// An address of a server without the path of its API, which is the same everywhere.
fn base(url: &str) -> &str {
    let url = url.trim_end_matches('/').trim_end_matches("/jsonRPC");
    url.trim_end_matches("/api/v2").trim_end_matches('/')
}

/// The address of toncenter's test network.
const TESTNET_HOST: &str = "testnet.toncenter.com";

/// The kind of network behind an address: loopback is a devnet.
fn kind_of(url: &str) -> Kind {
    match host(url) {
        "127.0.0.1" | "localhost" | "[::1]" => Kind::Devnet,
        TESTNET_HOST => Kind::Test,
        _ => Kind::Main,
    }
}

fn host(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    }
}

/// How an answer is to be read, where that has to be said.
pub(crate) fn proof_words(session: &Session, proof: Proof) -> String {
    match proof {
        Proof::Local => "this process runs the chain".to_owned(),
        Proof::Verified { seqno } => format!("checked up to block {seqno} of the masterchain"),
        Proof::Reported => format!("reported by {}, not proved", session.endpoint),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_of_a_network_is_told_by_its_address() {
        for (url, kind) in [
            ("http://127.0.0.1:8081", Kind::Devnet),
            ("http://localhost:1/api/v2", Kind::Devnet),
            ("http://[::1]:8081", Kind::Devnet),
            ("https://toncenter.com", Kind::Main),
            ("https://testnet.toncenter.com/api/v2/", Kind::Test),
            ("https://127.0.0.1.example.com", Kind::Main),
        ] {
            assert_eq!(kind_of(url), kind, "{url}");
        }
        for url in ["https://toncenter.com/", "https://toncenter.com/api/v2/", "https://toncenter.com/api/v2/jsonRPC"] {
            assert_eq!(base(url), "https://toncenter.com");
        }
    }

    #[test]
    fn a_record_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Record::read(folder.path()).unwrap(), None);
        let record = Record {
            chain: "http://127.0.0.1:8081".to_owned(),
            root: Address::basechain([1; 32]),
            steward: Some(Address::basechain([2; 32])),
            wallet: Some("wallets/steward.key".into()),
        };
        record.write(folder.path()).unwrap();
        assert_eq!(Record::read(folder.path()).unwrap(), Some(record));
        std::fs::write(folder.path().join(Record::FILE), "{").unwrap();
        let error = Record::read(folder.path()).unwrap_err().to_string();
        assert!(error.contains("network.json") && error.contains("--chain"), "{error}");
    }
}
