//! A network in memory: a root, a proxy that is only keys, an owner's wallet, and a desk.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use cocoon_ton::address::Address;
use cocoon_ton::chain::watch::RootConfig;
use cocoon_ton::chain::{Chain, ChainPolicy, Head, MessageKind, Transaction};
use cocoon_ton::contract::signed::SignedPayment;
use cocoon_ton::contract::{ClientState, Params, RootState, client_address, codes, proxy_state_init};
use cocoon_ton::devnet::{Devnet, Genesis, Options};
use cocoon_ton::wallet::{JournalError, Network, Outgoing, Sender, WalletKind};
use cocoon_units::{FixedClock, Nano, UnixTime};
use ed25519_dalek::SigningKey;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::time::sleep;
use zeroize::Zeroizing;

use crate::budget::Budget;
use crate::budget::desk::{By, Desk, Money};
use crate::config::{BudgetConfig, ClientConfig};
use crate::terms::{Parties, Terms};

pub(super) const TON: u64 = 1_000_000_000;
pub(super) const DELAY_S: u32 = 86_400;
pub(super) const PRICE: u64 = 20;
/// What the owner's wallet begins with.
pub(super) const PURSE: u64 = 100 * TON;
const OWNER_KEY: [u8; 32] = [1; 32];
const STRANGER_KEY: [u8; 32] = [2; 32];
const ROOT: Address = Address::basechain([0x40; 32]);

pub(super) struct Stage {
    pub(super) devnet: Devnet,
    pub(super) folder: TempDir,
    pub(super) terms: Terms,
    pub(super) root: watch::Sender<Arc<RootConfig>>,
    pub(super) budget: Arc<Budget>,
    pub(super) config: BudgetConfig,
    pub(super) stranger: Sender,
}

/// A proxy that signs, and needs no process for it.
pub(super) struct Proxy {
    pub(super) key: SigningKey,
    pub(super) parties: Parties,
}

pub(super) fn params(version: u32) -> Params {
    Params {
        params_version: version,
        is_test: true,
        price_per_token: Nano::new(PRICE),
        worker_fee_per_token: Nano::new(15),
        client_delay_s: DELAY_S,
        proxy_delay_s: 2 * DELAY_S,
        min_client_stake: Nano::new(TON),
        codes: Some(codes().published()),
        ..Params::default()
    }
}

fn root_of(params: Params, at_unix_s: u32) -> RootConfig {
    let state = RootState::initial(Address::basechain([3; 32]), params);
    RootConfig { address: ROOT, state, at: Head { seqno: 1, unix_s: at_unix_s, lt: 1 } }
}

pub(super) fn kind() -> WalletKind {
    WalletKind::V5R1 { network: Network::TESTNET }
}

impl Stage {
    pub(super) async fn new() -> Self {
        Self::with(PURSE, BudgetConfig::default()).await
    }

    pub(super) async fn with(purse: u64, config: BudgetConfig) -> Self {
        let devnet = Devnet::memory(&Options { genesis: Genesis::default(), ..Options::default() }).unwrap();
        let chain: Arc<dyn Chain> = Arc::new(devnet.clone());
        let now = chain.head().await.unwrap().for_display().unix_s;
        let stranger = SigningKey::from_bytes(&STRANGER_KEY);
        let stranger = Sender::new(Arc::clone(&chain), stranger, kind(), None, ChainPolicy::Proved).unwrap();
        let owner = cocoon_ton::wallet::Wallet::new(SigningKey::from_bytes(&OWNER_KEY), kind()).address();
        devnet.faucet(owner, Nano::new(purse)).await.unwrap();
        devnet.faucet(stranger.address(), Nano::new(PURSE)).await.unwrap();
        let (root, receiver) = watch::channel(Arc::new(root_of(params(1), now)));
        let clock = Arc::new(FixedClock::at(UnixTime::from_secs_f64(f64::from(now))));
        let client = ClientConfig { budget: config.clone(), ..ClientConfig::default() };
        let budget = Arc::new(Budget::in_memory(&client, clock));
        let (terms, folder) = (Terms::new(owner, receiver), tempfile::tempdir().unwrap());
        Self { devnet, folder, terms, root, budget, config, stranger }
    }

    /// What a process of this client would pay with; the next one begins where the last one ended.
    pub(super) async fn money(&self) -> Money {
        let chain: Arc<dyn Chain> = Arc::new(self.devnet.clone());
        let journal = self.folder.path().join("wallet.journal");
        let sender = loop {
            let key = SigningKey::from_bytes(&OWNER_KEY);
            match Sender::new(Arc::clone(&chain), key, kind(), Some(journal.clone()), ChainPolicy::Proved) {
                Ok(sender) => break sender,
                // The last process is still letting go of it.
                Err(JournalError::InUse { .. }) => sleep(Duration::from_millis(10)).await,
                Err(error) => panic!("{error}"),
            }
        };
        Money {
            chain,
            policy: ChainPolicy::Proved,
            sender,
            folder: self.folder.path().to_owned(),
            secret_seed: Zeroizing::new([9; 32]),
        }
    }

    pub(super) async fn desk(&self) -> Desk {
        Desk::open(self.money().await, &self.config).unwrap()
    }

    pub(super) fn by(&self) -> By<'_> {
        By { budget: &self.budget, terms: &self.terms }
    }

    pub(super) fn owner(&self) -> Address {
        self.terms.owner()
    }

    /// A proxy by the present parameters. Its contract may never be deployed: nothing of ours needs it.
    pub(super) fn proxy(&self, byte: u8) -> Proxy {
        let key = SigningKey::from_bytes(&[byte; 32]);
        let payment_key = key.verifying_key().to_bytes();
        let root = self.terms.root_now();
        let params = &root.state.params;
        let proxy = proxy_state_init(Address::basechain([byte; 32]), &payment_key, ROOT, params).unwrap().address();
        let contract = client_address(self.owner(), proxy, &payment_key, params).unwrap();
        Proxy { key, parties: Parties { contract, proxy, payment_key } }
    }

    pub(super) async fn deploy_proxy(&self, byte: u8) {
        let key = SigningKey::from_bytes(&[byte; 32]);
        let root = self.terms.root_now();
        let owner = Address::basechain([byte; 32]);
        let init = proxy_state_init(owner, &key.verifying_key().to_bytes(), ROOT, &root.state.params).unwrap();
        let deploy =
            Outgoing { bounce: false, ..Outgoing::pay(init.address(), Nano::new(TON / 2)) }.with_state_init(init);
        self.blocks(self.stranger.send(vec![deploy])).await.unwrap();
    }

    /// A new version of the root's parameters.
    pub(super) async fn change_params(&self, version: u32) {
        let now = self.now().await;
        self.root.send_replace(Arc::new(root_of(params(version), now)));
    }

    pub(super) async fn now(&self) -> u32 {
        self.devnet.head().await.unwrap().for_display().unix_s
    }

    /// Does something while the network makes blocks.
    pub(super) async fn blocks<T>(&self, work: impl Future<Output = T>) -> T {
        let blocks = async {
            loop {
                sleep(Duration::from_secs(1)).await;
                self.devnet.tick().await.unwrap();
            }
        };
        tokio::select! {
            done = work => done,
            () = blocks => unreachable!("blocks are made for ever"),
        }
    }

    /// Lets a desk work until a session of this proxy is let in.
    pub(super) async fn admitted(&self, desk: &Desk, proxy: &Proxy) {
        let session = async {
            while desk.admit(1, &proxy.parties).await.is_err() {
                sleep(Duration::from_secs(1)).await;
            }
        };
        self.run(desk, session).await;
    }

    /// Lets a desk work while something else is done.
    pub(super) async fn run<T>(&self, desk: &Desk, work: impl Future<Output = T>) -> T {
        let both = async {
            tokio::select! {
                done = work => done,
                () = desk.run(self.by()) => unreachable!("the desk works for ever"),
            }
        };
        tokio::time::timeout(Duration::from_secs(10 * 86_400), self.blocks(both)).await.unwrap()
    }

    pub(super) async fn passes(&self, desk: &Desk, seconds: u64) {
        self.run(desk, sleep(Duration::from_secs(seconds))).await;
    }

    pub(super) async fn contract(&self, proxy: &Proxy) -> Option<ClientState> {
        let account = self.devnet.account(&proxy.parties.contract).await.unwrap().for_display();
        account.data.map(|data| ClientState::parse(&data).unwrap())
    }

    pub(super) async fn coins(&self, address: Address) -> u64 {
        self.devnet.account(&address).await.unwrap().for_display().balance.get()
    }

    /// Whoever holds a signature presents it; here a stranger, who pays the fees.
    pub(super) async fn present(&self, proxy: &Proxy, payment: &SignedPayment) {
        let body = payment.envelope(self.stranger.address());
        let call = Outgoing::call(proxy.parties.contract, Nano::new(TON / 2), body);
        self.blocks(self.stranger.send(vec![call])).await.unwrap();
        self.blocks(sleep(Duration::from_secs(5))).await;
    }

    pub(super) async fn history(&self, address: Address) -> Vec<Transaction> {
        self.devnet.transactions(&address, None, 1_000).await.unwrap().for_display()
    }

    /// What the contract paid the owner, message by message.
    pub(super) async fn payouts(&self, proxy: &Proxy) -> Vec<u64> {
        let op = cocoon_ton::contract::op::PAYOUT;
        let of = |transaction: Transaction| {
            let message = transaction.in_message?;
            let MessageKind::Internal { from, value, .. } = message.kind else { return None };
            let is_payout = cocoon_ton::contract::message::op_of(&message.body).is_ok_and(|found| found == op);
            (from == proxy.parties.contract && is_payout).then_some(value.get())
        };
        self.history(self.owner()).await.into_iter().filter_map(of).collect()
    }

    /// Messages that the owner's wallet sent to the contract.
    pub(super) async fn messages(&self, proxy: &Proxy) -> usize {
        let owner = self.owner();
        let is_ours = |transaction: &Transaction| {
            transaction
                .in_message
                .as_ref()
                .is_some_and(|message| matches!(message.kind, MessageKind::Internal { from, .. } if from == owner))
        };
        self.history(proxy.parties.contract).await.iter().filter(|transaction| is_ours(transaction)).count()
    }
}
