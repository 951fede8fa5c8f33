//! What a role pays with, and where it keeps what money needs to survive a restart.
//!
//! 1. [`Purse`]: a chain, a wallet on it, and a folder. A node's wallet is one that its owner can block, with the key
//!    that its TEE derives; a client's is the person's own, with a key in a file.
//! 2. [`WalletSettings`]: the client's wallet, by its key file. The secret that proves the client to its proxies is derived
//!    from the same key, so that there is one thing to back up.
//! 3. [`journal`] opens the proxy's books in that folder, sealed with a key that its TEE derives.
//!
//! No money is moved here, and no amount decided: that is each role's.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
#[cfg(feature = "client")]
use cocoon_tee::keys::{KEY_VERSION, expand};
#[cfg(any(feature = "proxy", feature = "worker"))]
use cocoon_ton::Address;
use cocoon_ton::Chain;
use cocoon_ton::chain::ChainPolicy;
use cocoon_ton::keys::SigningKey;
#[cfg(feature = "client")]
use cocoon_ton::keys::{KeyFile, KeyFileError, Secret};
#[cfg(feature = "client")]
use cocoon_ton::wallet::Network;
use cocoon_ton::wallet::{Sender, WalletKind};
#[cfg(feature = "client")]
use serde::Deserialize;
#[cfg(feature = "client")]
use zeroize::Zeroizing;

use crate::chain::Followed;
#[cfg(feature = "client")]
use crate::{config, limits};

/// The journal of a wallet, in the folder of its role.
const WALLET_JOURNAL: &str = "wallet.journal";

/// A wallet on a chain, and a folder.
#[derive(Debug, Clone)]
pub(crate) struct Purse {
    pub(crate) chain: Arc<dyn Chain>,
    pub(crate) policy: ChainPolicy,
    pub(crate) sender: Sender,
    pub(crate) folder: PathBuf,
}

impl Purse {
    /// The purse of a role whose things are in `folder`, which is made if it is not there. Within a runtime.
    pub(crate) fn open(followed: &Followed, folder: &Path, key: SigningKey, kind: WalletKind) -> Result<Self> {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let (chain, policy) = followed.chain();
        let journal = Some(folder.join(WALLET_JOURNAL));
        let sender = Sender::new(Arc::clone(&chain), key, kind, journal, policy)?;
        Ok(Self { chain, policy, sender, folder: folder.to_owned() })
    }

    /// The purse of a node in a TEE.
    #[cfg(any(feature = "proxy", feature = "worker"))]
    pub(crate) fn of_node(followed: &Followed, folder: &Path, key: &SigningKey, owner: Address) -> Result<Self> {
        Self::open(followed, folder, key.clone(), WalletKind::Cocoon { owner })
    }
}

/// The section `[wallet]` of a client.
#[cfg(feature = "client")]
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct WalletSettings {
    /// The key of the wallet that pays.
    key_file: Option<PathBuf>,
    /// The passphrase of a sealed one, in the first line.
    passphrase_file: Option<PathBuf>,
}

/// A person's purse.
#[cfg(feature = "client")]
#[derive(Debug)]
pub(crate) struct OwnPurse {
    pub(crate) purse: Purse,
    /// What the secrets for proxies are derived from.
    pub(crate) secret_seed: Zeroizing<[u8; 32]>,
}

#[cfg(feature = "client")]
impl OwnPurse {
    /// The purse of a key. Within a runtime.
    pub(crate) fn open(followed: &Followed, folder: &Path, key: &SigningKey, is_test: bool) -> Result<Self> {
        let network = if is_test { Network::TESTNET } else { Network::MAINNET };
        let secret_seed = expand(key.as_bytes(), "client-secret", KEY_VERSION)?;
        let purse = Purse::open(followed, folder, key.clone(), WalletKind::V5R1 { network })?;
        Ok(Self { purse, secret_seed })
    }
}

#[cfg(feature = "client")]
impl WalletSettings {
    /// The key of the wallet that pays.
    pub(crate) fn key(&self) -> Result<SigningKey> {
        let path = self.key_file.as_deref().context(
            "`key_file` under [wallet] is missing: the wallet that pays; `cocoon wallet new --wallet FILE` makes one",
        )?;
        let passphrase = match &self.passphrase_file {
            None => None,
            Some(path) => {
                let text = Secret::new(config::read_text(path, limits::CONFIG_BYTES_MAX)?);
                Some(Secret::new(text.expose().lines().next().unwrap_or_default()))
            }
        };
        match KeyFile::open(path, passphrase.as_ref()) {
            Err(KeyFileError::PassphraseNeeded { path }) => bail!(
                "{} is sealed: name a file with its passphrase as `passphrase_file` under [wallet]",
                path.display()
            ),
            opened => Ok(opened?.signing_key().clone()),
        }
    }

    /// Opens the purse. Within a runtime.
    pub(crate) fn open(&self, followed: &Followed, folder: &Path, is_test: bool) -> Result<OwnPurse> {
        OwnPurse::open(followed, folder, &self.key()?, is_test)
    }
}

/// The books of a proxy.
#[cfg(feature = "proxy")]
const BOOKS: &str = "books.redb";

/// Opens the proxy's books in a folder: what was written there with this key, or empty ones.
#[cfg(feature = "proxy")]
pub(crate) fn journal(folder: &Path, key: &[u8; 32]) -> Result<(cocoon_ledger::Journal, cocoon_ledger::State)> {
    let path = folder.join(BOOKS);
    let shown = path.display();
    let file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .with_context(|| format!("cannot open {shown}"))?;
    let backend = redb::backends::FileBackend::new(file).with_context(|| format!("cannot lock {shown}"))?;
    let salts = Box::new(|| {
        let mut salt = [0; 32];
        getrandom::fill(&mut salt).expect("the system gave random numbers at the start of this process");
        salt
    });
    cocoon_ledger::Journal::open(backend, key, salts).with_context(|| format!("the proxy's books in {shown}"))
}

/// The folder that a role on a chain must have.
pub(crate) fn with_folder<Plan>(plan: Option<Plan>, data_dir: Option<PathBuf>) -> Result<Option<(Plan, PathBuf)>> {
    match (plan, data_dir) {
        (None, _) => Ok(None),
        (Some(plan), Some(folder)) => Ok(Some((plan, std::path::absolute(folder)?))),
        (Some(_), None) => bail!(
            "`data_dir` is missing: a role on a chain keeps there what it must not forget about money; name a folder on \
             a disk that survives a restart"
        ),
    }
}
