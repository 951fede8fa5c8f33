//! The path of a request that is paid for: all three roles over a devnet. Whatever becomes of a request, the client counts
//! what the proxy charges, or it would refuse to be served any more.

use std::{sync::Arc, time::Duration};

use cocoon_client::{Client, ClientConfig, ClientHandle, Money as ClientMoney};
use cocoon_ledger::Journal;
use cocoon_net::{
    Dialer,
    memory::{LinkOptions, MemoryNetwork},
};
use cocoon_proxy::{Money as ProxyMoney, Proxy, ProxyConfig, ProxyHandle, ProxyTerms, SettlementConfig};
use cocoon_sim::{Behaviour, Ending, ScriptedEngine};
use cocoon_ton::{
    Address, Chain as TonChain,
    chain::{ChainPolicy, Head, watch::RootConfig},
    contract::{Params, RootState, codes},
    devnet::{Devnet, Options},
    wallet::{Network, Sender, WalletKind},
};
use cocoon_units::{Clock, Nano};
use cocoon_worker::{OpenAiHttpConfig, ReceiptSigner, Worker, WorkerConfig, engine::openai_http::OpenAiHttp};
use ed25519_dalek::SigningKey;
use redb::backends::InMemoryBackend;
use tokio::{
    io::DuplexStream,
    sync::{mpsc, watch},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::rig::{App, Doors, InMemory, Reply, chat_body, clock, mute_app, stream_body};

const TON: u64 = 1_000_000_000;
/// Nano of one token, and the worker's part of it.
const PRICE: u64 = 20;
const FEE: u64 = 15;
const ROOT: Address = Address::basechain([0x40; 32]);
const PROXY_OWNER: Address = Address::basechain([0x50; 32]);
const WORKER_OWNER: Address = Address::basechain([0x60; 32]);
const PATIENCE: Duration = Duration::from_secs(1_200);
/// Several commits, after each of which the client hears what it owes.
const SETTLED: Duration = Duration::from_secs(20);

/// A running network. Everything ends with it.
struct Paid {
    client: ClientHandle,
    proxy: ProxyHandle,
    engine: Arc<ScriptedEngine>,
    doors: mpsc::Sender<DuplexStream>,
    _folder: tempfile::TempDir,
    _tasks: JoinSet<()>,
}

fn key(number: u8) -> SigningKey {
    SigningKey::from_bytes(&[number; 32])
}

fn params() -> Params {
    Params {
        is_test: true,
        price_per_token: Nano::new(PRICE),
        worker_fee_per_token: Nano::new(FEE),
        client_delay_s: 86_400,
        proxy_delay_s: 2 * 86_400,
        min_client_stake: Nano::new(TON),
        min_proxy_stake: Nano::new(TON),
        codes: Some(codes().published()),
        ..Params::default()
    }
}

impl Paid {
    async fn start() -> Self {
        let devnet = Devnet::memory(&Options { clock: Some(clock()), ..Options::default() }).unwrap();
        let mut tasks = JoinSet::new();
        let blocks = devnet.clone();
        tasks.spawn(async move {
            loop {
                sleep(Duration::from_secs(1)).await;
                blocks.advance(Duration::from_secs(1)).await.unwrap();
            }
        });
        let state = RootState::initial(Address::basechain([3; 32]), params());
        let root = Arc::new(RootConfig { address: ROOT, state, at: Head { seqno: 1, unix_s: 1, lt: 1 } });
        let network = MemoryNetwork::new();
        let proxy = start_proxy(&devnet, &network, &root, &mut tasks).await;
        let engine = start_worker(&network, &root, &mut tasks);
        let folder = tempfile::tempdir().unwrap();
        let (client, doors) = start_client(&devnet, &network, &root, folder.path(), &mut tasks).await;
        let paid = Self { client, proxy, engine, doors, _folder: folder, _tasks: tasks };
        let ready = async {
            while !paid.client.status().ready || paid.proxy.status().tally.workers == 0 {
                sleep(Duration::from_millis(100)).await;
            }
        };
        timeout(PATIENCE, ready).await.expect("the network comes up");
        paid
    }

    async fn ask(&self, body: &str) -> Reply {
        App::at(&self.doors).await.ask(body).await
    }

    /// Both sides count the same once nothing runs, and the next request is served. What it came to until then comes back.
    async fn check_agreed(&self) -> u64 {
        let idle = async {
            while self.proxy.status().tally.requests > 0 || self.client.status().requests_in_flight > 0 {
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(PATIENCE, idle).await.expect("every request ends");
        let used = self.counts().await;
        let reply = self.ask(&chat_body("")).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert_eq!(self.counts().await, used + 9 + 8);
        used
    }

    /// What both count, in tokens.
    async fn counts(&self) -> u64 {
        sleep(SETTLED).await;
        // A look asks for the sums, and the next one sees them.
        let _ = self.proxy.status();
        sleep(SETTLED).await;
        let books = self.proxy.status().books.unwrap();
        let budget = self.client.status().budget;
        assert_eq!((budget.demands_refused, budget.proxies_differing), (0, 0), "{budget:?}");
        assert_eq!((budget.held_today_nano, budget.requests_unheard), (0, 0), "{budget:?}");
        assert_eq!((books.used, books.used), (budget.spent_today_nano / PRICE, books.used_committed));
        books.used
    }
}

async fn start_proxy(
    devnet: &Devnet,
    network: &MemoryNetwork,
    root: &RootConfig,
    tasks: &mut JoinSet<()>,
) -> ProxyHandle {
    let chain: Arc<dyn TonChain> = Arc::new(devnet.clone());
    let (policy, kind) = (ChainPolicy::Proved, WalletKind::Cocoon { owner: PROXY_OWNER });
    let wallet = Sender::new(Arc::clone(&chain), key(1), kind, None, policy).unwrap();
    devnet.faucet(wallet.address(), Nano::new(100 * TON)).await.unwrap();
    let journal = Journal::open(InMemoryBackend::new(), &[9; 32], Box::new(rand::random)).unwrap();
    let money = ProxyMoney { chain, policy, wallet, payment_key: key(2), journal, tag_key: [5; 32].into() };
    let terms = ProxyTerms::by_root(root, PROXY_OWNER, key(2).verifying_key().to_bytes()).unwrap();
    let settlement = SettlementConfig { commit_min_s: 2, commit_max_s: 4, ..SettlementConfig::default() };
    let config = ProxyConfig { settlement, drain_timeout_ms: 0, ..ProxyConfig::default() };
    let [clients, workers] = ["clients", "workers"].map(|name| Arc::new(network.listen(name, LinkOptions::default())));
    let (_, terms) = watch::channel(Arc::new(terms));
    let proxy = Proxy::new(config, clock(), clients, workers).with_terms(terms).with_money(money);
    let handle = proxy.handle();
    tasks.spawn(async move { proxy.run(CancellationToken::new()).await.unwrap() });
    handle
}

fn start_worker(network: &MemoryNetwork, root: &Arc<RootConfig>, tasks: &mut JoinSet<()>) -> Arc<ScriptedEngine> {
    let engine = Arc::new(ScriptedEngine::in_memory());
    let connector = Arc::new(InMemory { engine: Arc::clone(&engine), reads: usize::MAX });
    let adapter = Arc::new(OpenAiHttp::over(&OpenAiHttpConfig::default(), connector));
    let dialers: Vec<Arc<dyn Dialer>> = vec![Arc::new(network.dialer("workers"))];
    let config = WorkerConfig { owner_address: WORKER_OWNER.raw(), ..WorkerConfig::default() };
    let (_, root) = watch::channel(Arc::clone(root));
    let signer = ReceiptSigner { key: key(4), hashes: Default::default() };
    let worker = Worker::by_root(config, clock(), adapter, dialers, root).unwrap().with_receipts(signer);
    tasks.spawn(worker.run(CancellationToken::new()));
    engine
}

async fn start_client(
    devnet: &Devnet,
    network: &MemoryNetwork,
    root: &Arc<RootConfig>,
    folder: &std::path::Path,
    tasks: &mut JoinSet<()>,
) -> (ClientHandle, mpsc::Sender<DuplexStream>) {
    let chain: Arc<dyn TonChain> = Arc::new(devnet.clone());
    let (policy, kind) = (ChainPolicy::Proved, WalletKind::V5R1 { network: Network::TESTNET });
    let sender = Sender::new(Arc::clone(&chain), key(6), kind, None, policy).unwrap();
    let owner = sender.address();
    devnet.faucet(owner, Nano::new(50 * TON)).await.unwrap();
    let money = ClientMoney { chain, policy, sender, folder: folder.to_owned(), secret_seed: [7; 32].into() };
    let config = ClientConfig { owner_address: owner.raw(), ..ClientConfig::default() };
    let dialers: Vec<Arc<dyn Dialer>> = vec![Arc::new(network.dialer("clients"))];
    let (_, root) = watch::channel(Arc::clone(root));
    let clock: Arc<dyn Clock> = clock();
    let client = Client::by_root(config, clock, dialers, root).unwrap().with_money(money).unwrap();
    let (handle, (doors, listener)) = (client.handle(), mpsc::channel(64));
    tasks.spawn(async move { client.serve(Doors(listener), CancellationToken::new()).await.unwrap() });
    (handle, doors)
}

/// A thousand tokens, one in 50 ms.
fn slow() -> Behaviour {
    Behaviour::Tokens { count: 1000, delay_ms: 50, force_usage: false, ending: Ending::Finish }
}

#[tokio::test(start_paused = true)]
async fn a_deadline_in_the_middle_of_an_answer_is_counted_alike_by_client_and_proxy() {
    let paid = Paid::start().await;
    assert_eq!(paid.check_agreed().await, 0);
    paid.engine.push(slow());
    let reply = paid.ask(&stream_body(r#""timeout":2"#, true)).await;
    assert_eq!(reply.error_event_code(), "timeout");
    assert!((Duration::from_millis(1_900)..=Duration::from_secs(2)).contains(&reply.took), "{:?}", reply.took);
    let used = paid.check_agreed().await - (9 + 8);
    assert!((30..=50).contains(&used), "what was delivered is paid: {used}");
}

/// Its client does not look at the clock for it, so the proxy's deadline comes first.
#[tokio::test(start_paused = true)]
async fn a_deadline_of_an_app_that_does_not_read_is_counted_alike_by_client_and_proxy() {
    let paid = Paid::start().await;
    paid.engine.push(Behaviour::Tokens { count: 100_000, delay_ms: 0, force_usage: false, ending: Ending::Finish });
    let mute = mute_app(&paid.doors, &stream_body(r#""timeout":2,"max_tokens":100000"#, true)).await;
    sleep(Duration::from_secs(10)).await;
    drop(mute);
    assert!(paid.check_agreed().await > 100);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_before_an_answer_or_around_its_end_is_counted_alike_by_client_and_proxy() {
    let paid = Paid::start().await;
    paid.engine.push(Behaviour::Hang);
    let reply = paid.ask(&chat_body(r#""timeout":1"#)).await;
    assert_eq!((reply.status, reply.took), (504, Duration::from_secs(1)));
    assert_eq!(paid.check_agreed().await, 0);
    for delay_ms in 995..=1_005 {
        let usage = serde_json::json!({"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2});
        let body = serde_json::json!({"choices": [], "usage": usage});
        paid.engine.push(Behaviour::Json { status: 200, body, delay_ms });
        let reply = paid.ask(&chat_body(r#""timeout":1"#)).await;
        assert!(matches!(reply.status, 200 | 504), "{}", reply.text());
        paid.check_agreed().await;
    }
}
