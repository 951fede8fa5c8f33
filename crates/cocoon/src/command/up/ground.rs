//! What `up` stands on: a TON network in this process, the contracts on it, and who pays for them.
//!
//! 1. The devnet lives in `devnet/` of the data folder and answers over HTTP, so that every other command can look.
//! 2. An operator's wallet, `wallets/operator.key`, gets its money from the devnet's faucet. It owns the steward, the
//!    proxy and the workers, as one person would who tries the network. The client has a wallet of its own,
//!    `wallets/client.key`, as the one who pays.
//! 3. [`plan`] compares what is on the chain with what `up` wants there and says what is missing; one message of the
//!    operator's wallet brings all of it. The same comparison serves the first start, a restart, and a change of
//!    parameters. The roles' wallets are funded; the contracts that hold stake and deposit are the roles' own business.
//! 4. [`caretaker`] goes on comparing while the network runs.
//! 5. [`costs`] reads from the chain what it cost.
//!
//! What is kept: `network.json`, which other commands read, and `up.json`, which says what was deployed before.

pub(super) mod caretaker;
mod costs;
mod kept;
mod plan;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use cocoon_attest::Role;
use cocoon_simtee::SimImage;
use cocoon_ton::chain::{Account, ChainPolicy, Status};
use cocoon_ton::contract::RootState;
use cocoon_ton::devnet::{Devnet, Options};
use cocoon_ton::keys::{KeyFile, SigningKey};
use cocoon_ton::wallet::{Network as WalletNetwork, Sender, Wallet, WalletKind};
use cocoon_ton::{Address, Chain};
use cocoon_units::{Clock, Nano};
use tokio::time::{Instant, sleep};

pub(super) use self::costs::{Costs, Measured, measure};
use self::kept::Kept;
use crate::chain::Followed;
use crate::command::ton::network::Record;
use crate::money::OwnPurse;
use crate::{limits, wiring};

/// The folder of the devnet, in the data folder.
const DEVNET: &str = "devnet";
/// Where the keys of wallets are.
const WALLETS: &str = "wallets";
/// The operator's key.
const OPERATOR: &str = "operator.key";
/// The key of the one who pays.
const CLIENT: &str = "client.key";
/// What other commands read about the client.
const CLIENT_CONFIG: &str = "client.toml";
/// What other commands read about the first worker.
const WORKER_CONFIG: &str = "worker.toml";
/// The simulated platform.
pub(super) const SIMULATED: &str = "simulated-tee";

/// What the faucet gives the operator when it has less than [`LOW`].
const GIFT: Nano = Nano::new(1_000_000_000_000);
const LOW: Nano = Nano::new(100_000_000_000);

/// A network with nothing on it yet but money.
#[derive(Debug)]
pub(super) struct Ground {
    folder: PathBuf,
    devnet: Devnet,
    chain: Arc<dyn Chain>,
    operator: Sender,
    client: SigningKey,
    kept: Kept,
}

/// A role's wallet, which the operator keeps in money.
#[derive(Debug, Clone)]
pub(super) struct Funded {
    pub(super) wallet: Wallet,
    /// What it gets to begin with, and again when it has less than half.
    pub(super) amount: Nano,
}

/// The proxies as the root shall have them, the models that workers serve, and the wallets of the roles.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) wallets: Vec<Funded>,
    pub(super) proxies: Vec<WantedProxy>,
    /// Payment keys of proxies that an earlier start had and this one does not.
    pub(super) retired: Vec<[u8; 32]>,
    pub(super) models: Vec<String>,
}

/// A proxy as the root shall have it.
#[derive(Debug, Clone, Copy)]
pub(super) struct WantedProxy {
    pub(super) payment_key: [u8; 32],
    pub(super) clients: SocketAddr,
    pub(super) workers: SocketAddr,
}

impl Ground {
    /// Opens the network of a data folder, or begins one.
    pub(super) async fn open(folder: &Path) -> Result<Self> {
        let options = Options { clock: Some(wiring::clock()), auto_tick: Some(limits::UP_BLOCK), ..Options::default() };
        let devnet = Devnet::open(&folder.join(DEVNET), &options).context("the devnet in the data folder")?;
        let wallets = folder.join(WALLETS);
        std::fs::create_dir_all(&wallets).with_context(|| format!("cannot make {}", wallets.display()))?;
        let key = key(&wallets.join(OPERATOR))?;
        let kind = WalletKind::V5R1 { network: WalletNetwork::TESTNET };
        let chain: Arc<dyn Chain> = Arc::new(devnet.clone());
        let journal = wallets.join("operator.journal");
        let operator = Sender::new(Arc::clone(&chain), key, kind, Some(journal), ChainPolicy::Proved)?;
        let client = self::key(&wallets.join(CLIENT))?;
        Ok(Self { folder: folder.to_owned(), devnet, chain, operator, client, kept: Kept::read(folder)? })
    }

    /// The network itself.
    pub(super) const fn devnet(&self) -> &Devnet {
        &self.devnet
    }

    /// Its time, which every role goes by.
    pub(super) fn clock(&self) -> Arc<dyn Clock> {
        self.devnet.clock()
    }

    /// The wallet that owns the network and its nodes.
    pub(super) fn operator(&self) -> Address {
        self.operator.address()
    }

    /// The wallet that pays.
    pub(super) fn client(&self) -> Wallet {
        Wallet::new(self.client.clone(), WalletKind::V5R1 { network: WalletNetwork::TESTNET })
    }

    /// Leaves the configuration of the client that runs here, so that `cocoon client status` and its like find it.
    pub(super) fn leave_client_config(
        &self,
        root: Address,
        url: &str,
        api: SocketAddr,
        proxies: usize,
    ) -> Result<PathBuf> {
        let key = shown(self.folder.join(WALLETS).join(CLIENT));
        let of_role = format!(
            "[wallet]\nkey_file = {key}\n\n[client]\nlisten = \"{api}\"\nis_test = {IS_TEST}\n\n[client.budget]\n\
             max_funded_proxies = {proxies}\n"
        );
        self.leave_config(CLIENT_CONFIG, "client", root, url, &of_role)
    }

    /// Leaves the configuration of the first worker, so that `cocoon worker earnings` and its like find it.
    pub(super) fn leave_worker_config(&self, root: Address, url: &str) -> Result<PathBuf> {
        let owner = self.operator().raw();
        let of_role = format!("[worker]\nowner_address = \"{owner}\"\nis_test = {IS_TEST}\n");
        self.leave_config(WORKER_CONFIG, "worker-0", root, url, &of_role)
    }

    fn leave_config(&self, file: &str, instance: &str, root: Address, url: &str, of_role: &str) -> Result<PathBuf> {
        let path = self.folder.join(file);
        let text = format!(
            "# Of `cocoon up`, written anew at each start: for commands that look after money, such as `cocoon client \
             status`.\ndata_dir = {data_dir}\n\n[attestation]\ninsecure_simulated_tee = {tee}\n\n[chain]\n\
             root = \"{root}\"\ndevnet = \"{url}\"\ninsecure_reported = true\npoll_s = 1\n\n{of_role}",
            data_dir = shown(self.role_folder(instance)),
            tee = shown(self.folder.join(SIMULATED)),
            root = root.raw(),
        );
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }

    /// The purse of the one who pays.
    pub(super) fn client_purse(&self, followed: &Followed) -> Result<OwnPurse> {
        OwnPurse::open(followed, &self.role_folder("client"), &self.client, IS_TEST)
    }

    /// The network's chain.
    pub(super) fn chain(&self) -> Arc<dyn Chain> {
        Arc::clone(&self.chain)
    }

    /// Where a role keeps what it must not forget.
    pub(super) fn role_folder(&self, instance: &str) -> PathBuf {
        self.folder.join("roles").join(instance)
    }

    /// Deploys what is missing, registers the proxies as they are now, and leaves `network.json` for other commands. `url` is
    /// where the devnet answers.
    pub(super) async fn establish(&mut self, wanted: &Wanted, url: &str) -> Result<Address> {
        let purse = self.account(&self.operator()).await?;
        if purse.balance < LOW {
            self.devnet.faucet(self.operator(), GIFT).await.context("the faucet")?;
        }
        let root = match self.kept.root {
            Some(root) if self.account(&root).await?.status == Status::Active => root,
            Some(_) | None => self.deploy(wanted).await?,
        };
        self.reconcile(root, wanted, When::Start).await?;
        let steward = self.root(root).await?.owner;
        let wallet = Some(Path::new(WALLETS).join(OPERATOR));
        Record { chain: url.to_owned(), root, steward: Some(steward), wallet }.write(&self.folder)?;
        Ok(root)
    }

    /// Follows the root; nothing reaches a role past it.
    pub(super) async fn follow(&self, root: Address) -> Result<Followed> {
        let chain = Arc::clone(&self.chain);
        Followed::on(chain, root, IS_TEST, limits::UP_ROOT_POLL, ChainPolicy::Proved).await
    }

    /// A root, its steward and wallets for nodes, all in one message of the operator's wallet.
    async fn deploy(&mut self, wanted: &Wanted) -> Result<Address> {
        let genesis = plan::genesis(self.operator(), wanted)?;
        let root = genesis.root;
        self.operator.send(genesis.messages).await.context("the contracts of the network could not be deployed")?;
        let patience = Patience::new("the root contract");
        while self.owner_of(root).await? != Some(genesis.steward) {
            patience.pause().await?;
        }
        self.kept = Kept { root: Some(root) };
        self.kept.write(&self.folder)?;
        Ok(root)
    }

    /// Brings what is missing onto the chain, and waits until it is there.
    async fn reconcile(&mut self, root: Address, wanted: &Wanted, when: When) -> Result<Vec<String>> {
        let plan = plan::compare(self, root, wanted, when).await?;
        if plan.messages.is_empty() {
            return Ok(Vec::new());
        }
        self.operator.send(plan.messages).await.context("the operator's wallet could not send")?;
        // Until its effects are seen they would be asked for again.
        let patience = Patience::new("what the operator's wallet sent");
        while !plan::compare(self, root, wanted, when).await?.messages.is_empty() {
            patience.pause().await?;
        }
        Ok(plan.words)
    }

    async fn root(&self, root: Address) -> Result<RootState> {
        let account = self.account(&root).await?;
        let data = account.data.context("the root contract has no data")?;
        Ok(RootState::parse(&data)?)
    }

    async fn owner_of(&self, root: Address) -> Result<Option<Address>> {
        let account = self.account(&root).await?;
        Ok(account.data.map(|data| RootState::parse(&data)).transpose()?.map(|state| state.owner))
    }

    async fn account(&self, address: &Address) -> Result<Account> {
        Ok(self.chain.account(address).await?.for_money(ChainPolicy::Proved)?)
    }
}

/// Waits for something on the chain. Blocks come by themselves.
struct Patience {
    what: &'static str,
    until: Instant,
}

impl Patience {
    fn new(what: &'static str) -> Self {
        Self { what, until: Instant::now() + limits::UP_CHAIN_TIMEOUT }
    }

    /// A pause before the next look.
    async fn pause(&self) -> Result<()> {
        if Instant::now() >= self.until {
            bail!("{} did not come about on the devnet within {:?}", self.what, limits::UP_CHAIN_TIMEOUT);
        }
        sleep(limits::UP_READY_POLL).await;
        Ok(())
    }
}

/// The networks of `up` are for trying: their money is play money.
pub(super) const IS_TEST: bool = true;

/// When a plan is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    /// At the start: what `up` brings is registered, whatever somebody removed before.
    Start,
    /// While it runs: what somebody removes stays removed.
    Running,
}

/// The manifest hash of what a role runs here.
fn image(role: Role) -> [u8; 32] {
    SimImage::for_role(role).manifest().sha256()
}

/// The key of a file, which is made if it is not there.
fn key(path: &Path) -> Result<SigningKey> {
    if !path.exists() {
        let mut seed = zeroize::Zeroizing::new([0; 32]);
        getrandom::fill(seed.as_mut()).context("the system has no randomness")?;
        KeyFile::from_key(SigningKey::from_bytes(&seed)).create(path, None)?;
    }
    Ok(KeyFile::open(path, None)?.signing_key().clone())
}

/// A path as TOML wants it.
fn shown(path: PathBuf) -> toml::Value {
    toml::Value::from(path.display().to_string())
}
