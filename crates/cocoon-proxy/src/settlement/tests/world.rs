//! A devnet, a proxy's node wallet, a client and workers, and a hub that is nothing but the ledger on a disk in memory.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use cocoon_ledger::{Commit, Journal, Ledger, RolledBack};
use cocoon_ton::chain::watch::RootConfig;
use cocoon_ton::chain::{Chain, ChainPolicy, Head, MessageKind, Transaction};
use cocoon_ton::contract::message::client;
use cocoon_ton::contract::{
    ClientState, Params, ProxyState, RootState, StateInit, WorkerState, client_state_init, codes, worker_state_init,
};
use cocoon_ton::devnet::{Devnet, Genesis, Options, Order, puppet};
use cocoon_ton::keys::SigningKey;
use cocoon_ton::wallet::{Sender, WalletKind};
use cocoon_ton::{Address, Cell};
use cocoon_units::{AdjustedTokens, Nano};
use redb::StorageBackend;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::books::{Books, BooksInput, CURSOR_NOTE, Position, Report, Side};
use crate::config::SettlementConfig;
use crate::hub::Input;
use crate::settlement::act::Till;
use crate::settlement::instance::Instance;
use crate::settlement::{Control, Desk, Means, Settlement, SettlementError};
use crate::terms::ProxyTerms;

pub(super) const TON: u64 = 1_000_000_000;
/// Nano of one token: a thousand tokens are a TON.
pub(super) const PRICE: u64 = 1_000_000;
pub(super) const FEE: u64 = 900_000;
pub(super) const CLIENT_DELAY_S: u32 = 3_600;
pub(super) const PROXY_DELAY_S: u32 = 7_200;
const ROOT: Address = Address::basechain([0x77; 32]);

/// People.
pub(super) const PROXY_OWNER: u32 = 1;
pub(super) const CLIENT_OWNER: u32 = 2;
pub(super) const WORKER_OWNER: u32 = 3;
pub(super) const STRANGER: u32 = 4;

pub(super) fn payment_key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

pub(super) fn person(number: u32) -> Address {
    puppet::address(number)
}

pub(super) struct World {
    pub(super) devnet: Devnet,
    pub(super) wallet: Sender,
    pub(super) params: Params,
    pub(super) hub: Arc<Mutex<Hub>>,
    pub(super) control: Control,
    pub(super) config: SettlementConfig,
    terms: watch::Sender<Arc<ProxyTerms>>,
    nonce: AtomicU64,
    _blocks: JoinSet<()>,
}

/// A running settlement.
pub(super) struct Running {
    pub(super) desk: Desk,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

/// The books and nothing else.
pub(super) struct Hub {
    pub(super) ledger: Ledger,
    journal: Journal,
    pub(super) open: BTreeMap<Address, bool>,
    pub(super) owners: BTreeMap<Address, Address>,
    pub(super) refused: Option<RolledBack>,
    pub(super) closed_accounts: Vec<Address>,
    /// How often settlement said what a client holds.
    pub(super) told: u64,
    pub(super) old_sessions: usize,
    reports: watch::Sender<Report>,
}

/// A disk whose image can be kept and put back.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk(Arc<Mutex<Vec<u8>>>);

impl Disk {
    pub(super) fn copy(&self) -> Self {
        Self(Arc::new(Mutex::new(self.0.lock().unwrap().clone())))
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().unwrap().len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let offset = usize::try_from(offset).unwrap();
        out.copy_from_slice(&self.0.lock().unwrap()[offset..offset + out.len()]);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.lock().unwrap().resize(usize::try_from(len).unwrap(), 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let offset = usize::try_from(offset).unwrap();
        self.0.lock().unwrap()[offset..offset + data.len()].copy_from_slice(data);
        Ok(())
    }
}

impl Hub {
    pub(super) fn on(disk: &Disk) -> Arc<Mutex<Self>> {
        let mut salt = 0_u64;
        let salts = Box::new(move || {
            salt += 1;
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&salt.to_le_bytes());
            bytes
        });
        let (journal, state) = Journal::open(disk.clone(), &[9; 32], salts).unwrap();
        let (reports, _) = watch::channel(Report::default());
        Arc::new(Mutex::new(Self {
            ledger: Ledger::restore(state),
            journal,
            open: BTreeMap::new(),
            owners: BTreeMap::new(),
            refused: None,
            closed_accounts: Vec::new(),
            told: 0,
            old_sessions: 0,
            reports,
        }))
    }

    /// Writes down what is new, and shows it.
    pub(super) fn write(&mut self) {
        while let Some(batch) = self.ledger.take_batch() {
            let written = self.journal.append(batch).unwrap();
            self.ledger.written(written);
        }
        let report = Report { commit: self.ledger.commit_to_send(), old_sessions: self.old_sessions };
        self.reports.send_if_modified(|shown| std::mem::replace(shown, report.clone()) != report);
    }

    fn hear(&mut self, input: BooksInput) {
        match input {
            BooksInput::Client { contract, credit, open } => {
                self.told += 1;
                self.open.insert(contract, open);
                if let Some(payer) = self.ledger.find_payer(&contract.raw()) {
                    self.ledger.set_credit(payer, credit);
                }
            }
            BooksInput::Worker { .. } => {}
            BooksInput::BeginCommit => drop(self.ledger.begin_commit()),
            BooksInput::CommitSeen { number, digest, cursor } => {
                match self.ledger.check_chain(Some(Commit { number, digest })) {
                    Ok(()) => {
                        self.ledger.committed(number);
                        self.ledger.set_note(CURSOR_NOTE, Some(cursor)).unwrap();
                    }
                    Err(refused) => self.refused = Some(refused),
                }
            }
            BooksInput::Position { reply } => drop(reply.send(self.positions())),
            BooksInput::SetNote { key, value } => self.ledger.set_note(&key, value).unwrap(),
            BooksInput::CloseAccount { contract } => {
                self.closed_accounts.push(contract);
                let name = contract.raw();
                if let Some(payer) = self.ledger.find_payer(&name) {
                    self.ledger.close_payer(payer);
                }
                if let Some(payee) = self.ledger.find_payee(&name) {
                    self.ledger.close_payee(payee);
                }
            }
        }
        self.write();
    }

    fn positions(&self) -> Vec<Position> {
        let clients = self.ledger.payers().map(|(payer, name)| {
            let view = self.ledger.payer(payer);
            let contract = name.parse().unwrap();
            let (reserved, in_flight) = (view.reserved, view.open);
            Position { side: Side::Client, contract, owner: None, marks: view.marks, reserved, in_flight }
        });
        let workers = self.ledger.payees().map(|(payee, name)| {
            let contract = name.parse().unwrap();
            let owner = self.owners.get(&contract).map(Address::raw);
            let marks = self.ledger.payee(payee);
            Position { side: Side::Worker, contract, owner, marks, reserved: AdjustedTokens::ZERO, in_flight: 0 }
        });
        clients.chain(workers).collect()
    }

    /// A request from beginning to end.
    pub(super) fn serve(&mut self, client: &ClientState, client_at: Address, worker: Address, tokens: u64) {
        let payer = self.ledger.open_payer(&client_at.raw(), crate::books::credit(client)).unwrap();
        let payee = self.ledger.open_payee(&worker.raw()).unwrap();
        let reservation = self.ledger.reserve(payer, AdjustedTokens::new(tokens)).unwrap();
        self.ledger.settle(reservation, payee, AdjustedTokens::new(tokens), None);
        self.write();
    }
}

impl World {
    pub(super) async fn new() -> Self {
        Self::on(&Disk::default()).await
    }

    pub(super) async fn on(disk: &Disk) -> Self {
        let genesis = Genesis { puppets: 4, puppet: Nano::new(10_000 * TON), ..Genesis::default() };
        let devnet = Devnet::memory(&Options { genesis, ..Options::default() }).unwrap();
        let wallet = wallet_of(&devnet, PROXY_OWNER).await;
        let params = Params {
            params_version: 1,
            unique_id: 17,
            is_test: true,
            price_per_token: Nano::new(PRICE),
            worker_fee_per_token: Nano::new(FEE),
            proxy_delay_s: PROXY_DELAY_S,
            client_delay_s: CLIENT_DELAY_S,
            min_proxy_stake: Nano::new(TON),
            min_client_stake: Nano::new(5 * TON),
            codes: Some(codes().published()),
            ..Params::default()
        };
        let mut blocks = JoinSet::new();
        let ticking = devnet.clone();
        blocks.spawn(async move {
            loop {
                sleep(Duration::from_secs(1)).await;
                ticking.advance(Duration::from_secs(1)).await.unwrap();
            }
        });
        let config = SettlementConfig { commit_min_s: 2, commit_max_s: 4, ..SettlementConfig::default() };
        let (terms, _) = watch::channel(terms_of(&params, PROXY_OWNER));
        Self {
            devnet,
            wallet,
            params,
            hub: Hub::on(disk),
            control: Control::default(),
            config,
            terms,
            nonce: AtomicU64::new(1),
            _blocks: blocks,
        }
    }

    pub(super) fn hub(&self) -> MutexGuard<'_, Hub> {
        self.hub.lock().unwrap()
    }

    pub(super) fn proxy_at(&self) -> Address {
        self.terms.borrow().contracts.as_ref().unwrap().proxy()
    }

    /// Starts settlement, as the proxy does before it serves.
    pub(super) async fn start(&self) -> Result<Running, SettlementError> {
        self.start_on(Arc::new(self.devnet.clone())).await
    }

    /// The same, with a chain that the wallet's sender does not see.
    pub(super) async fn start_on(&self, chain: Arc<dyn Chain>) -> Result<Running, SettlementError> {
        let means =
            Means { chain, policy: ChainPolicy::Proved, wallet: self.wallet.clone(), payment_key: payment_key() };
        // The hub is not running yet, so nobody else wants it.
        let ledger = std::mem::take(&mut self.hub().ledger);
        let terms = self.terms.subscribe();
        let started = Settlement::start(means, self.config.clone(), terms, self.control.clone(), &ledger).await;
        self.hub().ledger = ledger;
        let settlement = started?;
        let desk = settlement.desk();
        let (inputs, mut received) = mpsc::channel(16);
        let hub = Arc::clone(&self.hub);
        let reports = hub.lock().unwrap().reports.subscribe();
        hub.lock().unwrap().write();
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            while let Some(input) = received.recv().await {
                if let Input::Books(input) = input {
                    hub.lock().unwrap().hear(input);
                }
            }
        });
        let stopped = stop.clone();
        tasks.spawn(async move { settlement.run(Books { inputs, reports }, stopped).await });
        Ok(Running { desk, stop, tasks })
    }

    pub(super) fn till(&self) -> Till {
        let (chain, policy): (Arc<dyn Chain>, _) = (Arc::new(self.devnet.clone()), ChainPolicy::Proved);
        Till { chain, policy, wallet: self.wallet.clone(), payment_key: payment_key() }
    }

    pub(super) fn instance(&self) -> Instance {
        Instance::of(self.terms.borrow().contracts.as_ref().unwrap())
    }

    /// New parameters of the root.
    pub(super) fn change_params(&mut self, change: impl FnOnce(&mut Params)) {
        self.params.params_version += 1;
        change(&mut self.params);
        self.terms.send_replace(terms_of(&self.params, PROXY_OWNER));
    }

    /// Another owner of the proxy, for its next start.
    pub(super) async fn change_owner(&mut self, owner: u32) {
        self.wallet = wallet_of(&self.devnet, owner).await;
        self.terms.send_replace(terms_of(&self.params, owner));
    }

    // ---- contracts ------------------------------------------------------------------------------

    pub(super) fn client_init(&self, owner: Address) -> StateInit {
        let key = payment_key().verifying_key().to_bytes();
        client_state_init(owner, self.proxy_at(), &key, &self.params).unwrap()
    }

    pub(super) fn worker_init(&self, owner: Address) -> StateInit {
        let key = payment_key().verifying_key().to_bytes();
        worker_state_init(owner, self.proxy_at(), &key, &self.params).unwrap()
    }

    /// A client's contract with this much in it.
    pub(super) async fn deploy_client(&self, owner: Address, amount: u64) -> Address {
        let init = self.client_init(owner);
        let at = init.address();
        let top_up = client::TopUp { query_id: 1, amount: Nano::new(amount), excesses_to: person(CLIENT_OWNER) };
        let order = Order::call(at, Nano::new(amount + TON), top_up.to_cell()).deploying(init.into());
        self.order(CLIENT_OWNER, order).await;
        self.until("the client's contract", async || self.client(at).await.is_some()).await;
        at
    }

    /// Where a worker's contract will be; the hub knows its owner.
    pub(super) fn worker_of(&self, owner: Address) -> Address {
        let at = self.worker_init(owner).address();
        self.hub().owners.insert(at, owner);
        at
    }

    pub(super) async fn call(&self, from: u32, to: Address, value: u64, body: Cell) {
        self.order(from, Order::call(to, Nano::new(value), body)).await;
    }

    pub(super) async fn order(&self, from: u32, order: Order) {
        let nonce = self.nonce.fetch_add(1, Ordering::Relaxed);
        let external = puppet::command(person(from), &order, nonce).unwrap();
        self.devnet.send(&external).await.unwrap();
    }

    pub(super) async fn client(&self, at: Address) -> Option<ClientState> {
        let data = self.devnet.account(&at).await.unwrap().for_display().data?;
        Some(ClientState::parse(&data).unwrap())
    }

    pub(super) async fn worker(&self, at: Address) -> Option<WorkerState> {
        let data = self.devnet.account(&at).await.unwrap().for_display().data?;
        Some(WorkerState::parse(&data).unwrap())
    }

    pub(super) async fn proxy(&self, at: Address) -> Option<ProxyState> {
        let data = self.devnet.account(&at).await.unwrap().for_display().data?;
        Some(ProxyState::parse(&data).unwrap())
    }

    pub(super) async fn coins(&self, at: Address) -> u64 {
        self.devnet.account(&at).await.unwrap().for_display().balance.get()
    }

    /// Serves tokens of a client by a worker.
    pub(super) async fn serve(&self, client: Address, worker: Address, tokens: u64) {
        let state = self.client(client).await.unwrap();
        self.hub().serve(&state, client, worker, tokens);
    }

    pub(super) fn committed_of(&self, client: Address) -> u64 {
        let hub = self.hub();
        let payer = hub.ledger.find_payer(&client.raw()).unwrap();
        hub.ledger.payer(payer).marks.committed.get()
    }

    /// What an account received in payouts of exact amounts from `from`.
    pub(super) async fn paid(&self, from: Address, to: Address) -> u64 {
        let history = self.devnet.transactions(&to, None, 100_000).await.unwrap().for_display();
        history.iter().filter_map(|transaction| payout(transaction, from)).sum()
    }

    // ---- time -----------------------------------------------------------------------------------

    /// Waits until something holds, for a quarter of an hour at most.
    pub(super) async fn until(&self, what: &str, holds: impl AsyncFn() -> bool) {
        let began = Instant::now();
        while !holds().await {
            assert!(began.elapsed() < Duration::from_secs(900), "never: {what}; {:#?}", self.control.status());
            sleep(Duration::from_millis(500)).await;
        }
    }

    pub(super) async fn devnet_time(&self) -> u32 {
        self.devnet.head().await.unwrap().for_display().unix_s
    }

    pub(super) async fn pass(&self, seconds: u64) {
        sleep(Duration::from_secs(seconds)).await;
    }
}

impl Running {
    pub(super) async fn stop(mut self) {
        self.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
    }
}

/// The proxy's wallet, with money in it.
async fn wallet_of(devnet: &Devnet, owner: u32) -> Sender {
    let kind = WalletKind::Cocoon { owner: person(owner) };
    let chain: Arc<dyn Chain> = Arc::new(devnet.clone());
    let wallet = Sender::new(chain, SigningKey::from_bytes(&[3; 32]), kind, None, ChainPolicy::Proved).unwrap();
    devnet.faucet(wallet.address(), Nano::new(100 * TON)).await.unwrap();
    wallet
}

fn terms_of(params: &Params, owner: u32) -> Arc<ProxyTerms> {
    let state = RootState { version: params.params_version, ..RootState::initial(ROOT, params.clone()) };
    let at = Head { seqno: 1, unix_s: 1_800_000_000, lt: 1 };
    let root = RootConfig { address: ROOT, state, at };
    let key = payment_key().verifying_key().to_bytes();
    Arc::new(ProxyTerms::by_root(&root, person(owner), key).unwrap())
}

fn payout(transaction: &Transaction, wanted: Address) -> Option<u64> {
    let message = transaction.in_message.as_ref()?;
    match message.kind {
        MessageKind::Internal { from, value, bounced: false, .. } if from == wanted => {
            let note = cocoon_ton::contract::note::Note::parse(&message.body).ok()?;
            matches!(note, cocoon_ton::contract::note::Note::Payout { .. }).then_some(value.get())
        }
        MessageKind::Internal { .. }
        | MessageKind::ExternalIn { .. }
        | MessageKind::ExternalOut { .. }
        | MessageKind::Unreadable => None,
    }
}
