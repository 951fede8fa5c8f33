//! A worker that is paid: a devnet with one proxy's contract, a wallet, and a proxy played by the test.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use cocoon_net::{Acceptor as _, Connection, Event};
use cocoon_sim::ScriptedEngine;
use cocoon_ton::chain::watch::RootConfig;
use cocoon_ton::chain::{Chain, ChainPolicy, Head};
use cocoon_ton::contract::message::proxy::{ChargePaid, Close, IncreaseStake};
use cocoon_ton::contract::signed::{self, Envelope, Payment};
use cocoon_ton::contract::{Params, RootState, StateInit, WorkerState, codes, proxy_state_init, worker_state_init};
use cocoon_ton::devnet::{Devnet, Genesis, Options, Order, puppet};
use cocoon_ton::wallet::{Sender, WalletKind};
use cocoon_ton::{Address, Cell};
use cocoon_units::{AdjustedTokens, Clock, Nano, UnixTime};
use cocoon_wire::Version;
use cocoon_wire::message::{
    CompareBalance, HandedReceipt, ProxyParams, ProxyToWorker, RequestPayment, SignedPayment, WorkerAnswer,
    WorkerQuery, decode_handover,
};
use cocoon_worker::{Earned, EarningsConfig, Money, OpenAiHttpConfig, ReceiptSigner, Worker, WorkerConfig};
use ed25519_dalek::SigningKey;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::harness::{Bench, InMemory, TestProxy, config, id};

pub(crate) const TON: u64 = 1_000_000_000;
/// One adjusted token is worth this much to the worker, so that small counts are much money.
pub(crate) const FEE: u64 = TON / 1000;
/// What a contract that works keeps.
pub(crate) const FLOOR: u64 = TON / 10;

const NOW: u64 = 1_800_000_000;
const PROXY_OWNER: u32 = 1;
/// An account without code takes what it gets.
pub(crate) const OWNER: Address = Address::basechain([0x44; 32]);
const ROOT: Address = Address::basechain([0x77; 32]);

/// A clock that the test moves.
#[derive(Debug, Default)]
struct TestClock(AtomicU64);

impl Clock for TestClock {
    fn unix_now(&self) -> UnixTime {
        let seconds = self.0.load(Ordering::Relaxed);
        UnixTime::from_secs_f64(Duration::from_secs(seconds).as_secs_f64())
    }
}

/// The chain and who is on it.
pub(crate) struct Ground {
    pub(crate) devnet: Devnet,
    pub(crate) folder: tempfile::TempDir,
    pub(crate) proxy: Address,
    /// The worker's contract.
    pub(crate) contract: Address,
    pub(crate) key: SigningKey,
    clock: Arc<TestClock>,
    params: Params,
    nonce: AtomicU64,
    _blocks: JoinSet<()>,
}

/// What a proxy says in the comparison of balances.
#[derive(Debug, Clone, Default)]
pub(crate) struct Says {
    pub(crate) db: u64,
    pub(crate) max: u64,
    pub(crate) code: i32,
    pub(crate) payment: SignedPayment,
}

/// What a worker said in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Heard {
    pub(crate) on_chain: u64,
    pub(crate) db: u64,
    pub(crate) max: u64,
    pub(crate) handed: Vec<HandedReceipt>,
    pub(crate) messages: usize,
    pub(crate) completed: bool,
}

impl Ground {
    /// With a proxy's contract that holds this much for workers.
    pub(crate) async fn new(funds: u64) -> Self {
        let options = Options { genesis: Genesis { puppets: 2, ..Genesis::default() }, ..Options::default() };
        let devnet = Devnet::memory(&options).unwrap();
        let key = SigningKey::from_bytes(&[7; 32]);
        let public = key.verifying_key().to_bytes();
        let params = Params {
            price_per_token: Nano::new(FEE + FEE / 5),
            worker_fee_per_token: Nano::new(FEE),
            is_test: true,
            proxy_delay_s: 100,
            codes: Some(codes().published()),
            ..Params::default()
        };
        let init = proxy_state_init(puppet::address(PROXY_OWNER), &public, ROOT, &params).unwrap();
        let proxy = init.address();
        let contract = worker_state_init(OWNER, proxy, &public, &params).unwrap().address();
        let clock = Arc::new(TestClock(AtomicU64::new(NOW)));
        let mut ground = Self {
            devnet: devnet.clone(),
            folder: tempfile::tempdir().unwrap(),
            proxy,
            contract,
            key,
            clock,
            params,
            nonce: AtomicU64::new(0),
            _blocks: JoinSet::new(),
        };
        let stake = IncreaseStake { query_id: 0, amount: Nano::ZERO, excesses_to: ROOT };
        ground.order(TON / 2, stake.to_cell(), Some(init)).await;
        if funds > 0 {
            ground.fund(funds).await;
        }
        ground._blocks.spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_secs(3)).await;
                devnet.tick().await.unwrap();
            }
        });
        ground
    }

    /// Clients were charged.
    pub(crate) async fn fund(&self, amount: u64) {
        let charge = ChargePaid { query_id: 0, amount: Nano::new(amount), excesses_to: ROOT };
        self.order(amount + TON / 2, charge.to_cell(), None).await;
    }

    /// The owner of the proxy leaves.
    pub(crate) async fn close_proxy(&self) {
        self.order(TON / 2, Close { query_id: 0, excesses_to: ROOT }.to_cell(), None).await;
    }

    async fn order(&self, value: u64, body: Cell, init: Option<StateInit>) {
        let mut order = Order::call(self.proxy, Nano::new(value), body);
        if let Some(init) = init {
            order = order.deploying(init.into());
        }
        let nonce = self.nonce.fetch_add(1, Ordering::Relaxed);
        let from = puppet::address(PROXY_OWNER);
        self.devnet.send(&puppet::command(from, &order, nonce).unwrap()).await.unwrap();
        for _ in 0..3 {
            self.devnet.tick().await.unwrap();
        }
    }

    /// Money for fees, in a wallet of its own; journaled where `folder` says.
    pub(crate) async fn money(&self) -> Money {
        let chain: Arc<dyn Chain> = Arc::new(self.devnet.clone());
        let key = SigningKey::from_bytes(&[5; 32]);
        let kind = WalletKind::Cocoon { owner: OWNER };
        let policy = ChainPolicy::Proved;
        let sender = Sender::new(Arc::clone(&chain), key, kind, None, policy).unwrap();
        if self.balance(sender.address()).await == 0 {
            self.devnet.faucet(sender.address(), Nano::new(10 * TON)).await.unwrap();
        }
        Money { chain, policy, sender, folder: self.folder().to_owned() }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn clock(&self) -> Arc<dyn Clock> {
        Arc::<TestClock>::clone(&self.clock)
    }

    /// A worker with money and receipts; nobody has answered it yet.
    pub(crate) async fn worker(&self, earnings: EarningsConfig) -> Bench {
        let money = self.money().await;
        self.worker_with(earnings, money)
    }

    pub(crate) fn worker_with(&self, earnings: EarningsConfig, money: Money) -> Bench {
        let state = RootState::initial(Address::basechain([1; 32]), self.params.clone());
        let at = Head { seqno: 1, unix_s: 1, lt: 1 };
        let (_, root) = watch::channel(Arc::new(RootConfig { address: ROOT, state, at }));
        let config = WorkerConfig { owner_address: OWNER.raw(), earnings, ..config() };
        let engine = Arc::new(ScriptedEngine::in_memory());
        let connector = Arc::new(InMemory(Arc::clone(&engine)));
        Bench::of(OpenAiHttpConfig::default(), connector, engine, |adapter, proxies| {
            let signer = ReceiptSigner { key: SigningKey::from_bytes(&[3; 32]), hashes: Default::default() };
            let worker = Worker::by_root(config, self.clock(), adapter, proxies, root).unwrap();
            worker.with_receipts(signer).with_money(money).unwrap()
        })
    }

    /// Answers the worker's next connection.
    pub(crate) async fn accept(&self, bench: &Bench, says: Says) -> (TestProxy, Heard) {
        let (proxy, heard) = self.try_accept(bench, says).await;
        (proxy.expect("the worker left"), heard)
    }

    /// The same; none when the worker leaves.
    pub(crate) async fn try_accept(&self, bench: &Bench, says: Says) -> (Option<TestProxy>, Heard) {
        // The worker may have given up on connections that nobody took.
        let mut connection = loop {
            if let Ok(connection) = bench.acceptor.accept().await.unwrap().handshake().await {
                break connection;
            }
        };
        let mut heard = Heard::default();
        let mut joined = None;
        while let Ok(Event::Query(query)) = connection.next().await {
            let answer = match WorkerQuery::decode(query.data).unwrap() {
                WorkerQuery::Connect(params) => {
                    joined = Some(params);
                    self.connected()
                }
                WorkerQuery::CompareBalance { tokens_committed_to_blockchain, tokens_committed_to_db, max_tokens } => {
                    heard.on_chain = tokens_committed_to_blockchain.get();
                    (heard.db, heard.max) = (tokens_committed_to_db.get(), max_tokens.get());
                    compared(&says)
                }
                WorkerQuery::ExtendedCompareBalance { other, .. } => {
                    heard.messages += 1;
                    let error_code = i32::from(!other.is_empty());
                    if !other.is_empty() {
                        heard.handed.extend(decode_handover(other).unwrap());
                    }
                    WorkerAnswer::ExtendedCompareBalance { error_code }
                }
                WorkerQuery::HandshakeComplete { is_disabled } => {
                    heard.completed = true;
                    connection.outbox().answer(query.id, WorkerAnswer::HandshakeCompleted.encode()).unwrap();
                    return (Some(self.drive(connection, joined.unwrap(), is_disabled).await), heard);
                }
                other => panic!("{other:?}"),
            };
            connection.outbox().answer(query.id, answer.encode()).unwrap();
        }
        (None, heard)
    }

    async fn drive(
        &self,
        connection: Connection,
        params: cocoon_wire::message::WorkerParams,
        is_disabled: bool,
    ) -> TestProxy {
        connection.outbox().enable_extended();
        let mut proxy = TestProxy::driven(connection, Version::Extended, params);
        (proxy.disabled, proxy.enabled_seen) = (is_disabled, !is_disabled);
        proxy
    }

    fn connected(&self) -> WorkerAnswer {
        let params = ProxyParams {
            public_key: self.key.verifying_key().to_bytes(),
            owner_address: puppet::address(PROXY_OWNER).raw(),
            sc_address: self.proxy.raw(),
            is_test: true,
            proto_version: Some(Version::Extended.number()),
        };
        WorkerAnswer::Connected { params, worker_sc_address: self.contract.raw() }
    }

    /// A payment as the proxy sends it.
    pub(crate) fn signed(&self, payment: Payment) -> SignedPayment {
        Self::signed_by(&self.key, payment)
    }

    pub(crate) fn signed_by(key: &SigningKey, payment: Payment) -> SignedPayment {
        let envelope = Envelope { signed: payment.sign(key), excesses_to: ROOT };
        SignedPayment::Signed(Bytes::from(envelope.to_boc()))
    }

    pub(crate) fn payout(&self, tokens: u64) -> SignedPayment {
        self.signed(signed::payout(self.contract, 0, tokens))
    }

    /// Lets time pass, on every clock.
    pub(crate) async fn pass(&self, seconds: u64) {
        let step = 10;
        for _ in 0..seconds.div_ceil(step) {
            tokio::time::sleep(Duration::from_secs(step)).await;
            self.clock.0.fetch_add(step, Ordering::Relaxed);
        }
    }

    pub(crate) async fn balance(&self, address: Address) -> u64 {
        self.devnet.account(&address).await.unwrap().for_display().balance.get()
    }

    /// The worker's contract as it is on the chain.
    pub(crate) async fn on_chain(&self) -> Option<WorkerState> {
        let account = self.devnet.account(&self.contract).await.unwrap().for_display();
        account.data.map(|data| WorkerState::parse(&data).unwrap())
    }
}

pub(crate) fn earned(bench: &Bench) -> Earned {
    bench.handle.earnings().unwrap().proxies.remove(0)
}

fn compared(says: &Says) -> WorkerAnswer {
    WorkerAnswer::CompareBalance(CompareBalance {
        signed_payment: says.payment.clone(),
        tokens_committed_to_db: AdjustedTokens::new(says.db),
        max_tokens: AdjustedTokens::new(says.max),
        error_code: says.code,
    })
}

/// What a proxy tells after a commit.
pub(crate) fn telling(signed_payment: SignedPayment, tokens: u64) -> ProxyToWorker {
    let payment = RequestPayment {
        request_id: id(0),
        signed_payment,
        db_tokens: AdjustedTokens::new(tokens),
        max_tokens: AdjustedTokens::new(tokens),
        request_tokens: AdjustedTokens::ZERO,
    };
    ProxyToWorker::Payment { payment, request_client_owner: String::new() }
}
