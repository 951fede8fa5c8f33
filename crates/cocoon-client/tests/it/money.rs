//! A client that pays, with a scripted proxy and a devnet: how a session is funded, authorized, refused, and left.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use cocoon_client::{Client, ClientConfig, Money};
use cocoon_net::{Acceptor, Event};
use cocoon_ton::{
    Address, Chain,
    chain::{ChainPolicy, Head, MessageKind, watch::RootConfig},
    contract::{
        ClientState, Lifecycle, Params, RootState, client_state_init, codes,
        message::{self, client as to_client},
        note::{ClientPayload, Note},
        op, proxy_address,
        signed::{self, Envelope},
    },
    devnet::{Devnet, Options},
    wallet::{Network, Outgoing, Sender, Wallet, WalletKind},
};
use cocoon_units::{AdjustedTokens, Coefficient, FixedClock, Nano, UnixTime};
use cocoon_wire::message::{
    AuthChallenge, ClientAnswer, ClientQuery, ProxyParams, SignedPayment, WorkerInstance, WorkerType,
};
use ed25519_dalek::SigningKey;
use http_body_util::Full;
use sha2::{Digest, Sha256};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use super::rig::{MODEL, NOW, Rig, body, request};

const TON: u64 = 1_000_000_000;
const DELAY_S: u32 = 86_400;
const ROOT: Address = Address::basechain([0x40; 32]);
const PROXY_OWNER: Address = Address::basechain([0x50; 32]);
const PROXY_KEY: [u8; 32] = [0x51; 32];
const OWNER_KEY: [u8; 32] = [0x52; 32];
const STANDARD: WalletKind = WalletKind::V5R1 { network: Network::TESTNET };

/// How a proxy behaves that is not honest.
#[derive(Clone, Copy, Default)]
struct Manners {
    /// What it says to be owed.
    demands: u64,
    /// It takes the empty secret.
    empty_secret: bool,
    /// It signs no refund.
    keeps_the_money: bool,
    /// What it wants for the refund.
    last_charge: u64,
}

/// Everything.
struct Scene {
    devnet: Devnet,
    rig: Rig,
    heard: Arc<Heard>,
    contract: Address,
    owner: Address,
    _folder: tempfile::TempDir,
    _root: watch::Sender<Arc<RootConfig>>,
}

/// What the proxy heard.
#[derive(Default)]
struct Heard {
    secrets: Mutex<Vec<Vec<u8>>>,
    registered: AtomicBool,
    asked_for_refund: AtomicBool,
}

fn params() -> Params {
    Params {
        is_test: true,
        price_per_token: Nano::new(20),
        worker_fee_per_token: Nano::new(15),
        client_delay_s: DELAY_S,
        proxy_delay_s: 2 * DELAY_S,
        min_client_stake: Nano::new(TON),
        codes: Some(codes().published()),
        ..Params::default()
    }
}

fn key() -> SigningKey {
    SigningKey::from_bytes(&PROXY_KEY)
}

fn proxy_contract() -> Address {
    proxy_address(PROXY_OWNER, &key().verifying_key().to_bytes(), ROOT, &params()).unwrap()
}

impl Scene {
    async fn new(manners: Manners) -> Self {
        let clock = FixedClock::at(UnixTime::from_secs_f64(NOW));
        let options =
            Options { clock: Some(Arc::new(clock)), auto_tick: Some(Duration::from_secs(1)), ..Options::default() };
        Self::on(Devnet::memory(&options).unwrap(), manners).await
    }

    async fn on(devnet: Devnet, manners: Manners) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let chain: Arc<dyn Chain> = Arc::new(devnet.clone());
        let owner_key = SigningKey::from_bytes(&OWNER_KEY);
        let owner = Wallet::new(owner_key.clone(), STANDARD).address();
        devnet.faucet(owner, Nano::new(50 * TON)).await.unwrap();
        let state = RootState::initial(Address::basechain([3; 32]), params());
        let at = devnet.head().await.unwrap().for_display();
        let config = RootConfig { address: ROOT, state, at: Head { seqno: 1, unix_s: at.unix_s, lt: 1 } };
        let (root, receiver) = watch::channel(Arc::new(config));
        let contract = init(owner).address();
        let sender = Sender::new(Arc::clone(&chain), owner_key, STANDARD, None, ChainPolicy::Proved).unwrap();
        let money = Money {
            chain,
            policy: ChainPolicy::Proved,
            sender,
            folder: folder.path().to_owned(),
            secret_seed: [7; 32].into(),
        };
        let rig = Rig::of(&["proxy"], |dialers| {
            let config = ClientConfig { owner_address: owner.raw(), ..ClientConfig::default() };
            let clock = Arc::new(FixedClock::at(UnixTime::from_secs_f64(NOW)));
            Client::by_root(config, clock, dialers, receiver).unwrap().with_money(money).unwrap()
        });
        let scene = Self { devnet, rig, heard: Arc::default(), contract, owner, _folder: folder, _root: root };
        scene.play(manners).await;
        scene
    }

    /// A proxy that answers whoever comes, again and again.
    async fn play(&self, manners: Manners) {
        let acceptor = self.rig.acceptor(0);
        let script =
            Script { devnet: self.devnet.clone(), contract: self.contract, heard: Arc::clone(&self.heard), manners };
        let tasks = self.rig.tasks.clone();
        self.rig.tasks.spawn(async move {
            while let Ok(pending) = acceptor.accept().await {
                let Ok(mut connection) = pending.handshake().await else { continue };
                let outbox = connection.outbox();
                outbox.enable_extended();
                let (script, questions) = (script.clone(), tasks.clone());
                tasks.spawn(async move {
                    while let Ok(event) = connection.next().await {
                        if let Event::Query(query) = event {
                            let asked = ClientQuery::decode(query.data).unwrap();
                            let (script, outbox) = (script.clone(), outbox.clone());
                            questions.spawn(async move {
                                if let Some(answer) = script.word(asked).await {
                                    let _ = outbox.answer(query.id, answer.encode());
                                }
                            });
                        }
                    }
                });
            }
        });
    }

    async fn until(&self, what: &str, is_so: impl AsyncFn() -> bool) {
        let wait = async {
            while !is_so().await {
                sleep(Duration::from_secs(1)).await;
            }
        };
        let status = || self.rig.handle.status();
        timeout(Duration::from_secs(1_200), wait)
            .await
            .unwrap_or_else(|_| panic!("not {what}: {:?}", status().proxies));
    }

    async fn until_ready(&self) {
        self.until("ready", async || self.rig.handle.status().ready).await;
    }

    async fn state(&self) -> Option<ClientState> {
        let account = self.devnet.account(&self.contract).await.unwrap().for_display();
        account.data.map(|data| ClientState::parse(&data).unwrap())
    }

    async fn is(&self, state: Lifecycle) -> bool {
        self.state().await.is_some_and(|found| found.state == state)
    }

    async fn post(&self, path: &str) -> serde_json::Value {
        let request = request("POST", path).body(Full::new(Bytes::new())).unwrap();
        let response = self.rig.app().await.send(request).await;
        assert!(response.status().is_success(), "{}", response.status());
        serde_json::from_slice(&body(response).await).unwrap()
    }

    /// What the contract paid the owner.
    async fn paid_back(&self) -> u64 {
        let history = self.devnet.transactions(&self.owner, None, 1_000).await.unwrap().for_display();
        let paid = history.into_iter().filter_map(|transaction| {
            let message = transaction.in_message?;
            let MessageKind::Internal { from, value, .. } = message.kind else { return None };
            let is_payout = message::op_of(&message.body).is_ok_and(|found| found == op::PAYOUT);
            (from == self.contract && is_payout).then_some(value.get())
        });
        paid.sum()
    }
}

fn init(owner: Address) -> cocoon_ton::contract::StateInit {
    client_state_init(owner, proxy_contract(), &key().verifying_key().to_bytes(), &params()).unwrap()
}

#[derive(Clone)]
struct Script {
    devnet: Devnet,
    contract: Address,
    heard: Arc<Heard>,
    manners: Manners,
}

impl Script {
    async fn word(&self, asked: ClientQuery) -> Option<ClientAnswer> {
        Some(match asked {
            ClientQuery::Connect { .. } => ClientAnswer::Connected {
                params: ProxyParams {
                    public_key: key().verifying_key().to_bytes(),
                    owner_address: PROXY_OWNER.raw(),
                    sc_address: proxy_contract().raw(),
                    is_test: true,
                    proto_version: Some(100),
                },
                client_sc_address: self.contract.raw(),
                auth: self.challenge().await,
                signed_payment: SignedPayment::Empty,
            },
            ClientQuery::AuthorizeShort { secret } => {
                self.heard.secrets.lock().unwrap().push(secret.expose().to_vec());
                self.welcome()
            }
            ClientQuery::AuthorizeLong => {
                self.registration().await;
                self.heard.registered.store(true, Ordering::Relaxed);
                self.welcome()
            }
            ClientQuery::RequestRefund => {
                self.heard.asked_for_refund.store(true, Ordering::Relaxed);
                if self.manners.keeps_the_money {
                    return None;
                }
                let signed = signed::grant_refund(self.contract, 9, self.manners.last_charge).sign(&key());
                ClientAnswer::Refund { data: Envelope { signed, excesses_to: PROXY_OWNER }.to_boc().into() }
            }
            ClientQuery::GetSettledRequests { .. } => ClientAnswer::SettledRequests(Vec::new()),
            ClientQuery::GetWorkerTypesV2 => {
                let coefficient = Coefficient::from_thousandths(1000);
                let worker = WorkerInstance { coefficient, active_requests: 0, max_active_requests: 4 };
                ClientAnswer::WorkerTypesV2(vec![WorkerType { name: MODEL.to_owned(), workers: vec![worker] }])
            }
            other => panic!("the script has no answer to {other:?}"),
        })
    }

    async fn challenge(&self) -> AuthChallenge {
        let hash = self.state().await.map_or([0; 32], |state| state.secret_hash);
        match (self.manners.empty_secret, hash) {
            (true, _) => AuthChallenge::Short { secret_hash: Sha256::digest(b"").into(), nonce: 5 },
            (false, hash) if hash == [0; 32] => AuthChallenge::Long { nonce: 5 },
            (false, secret_hash) => AuthChallenge::Short { secret_hash, nonce: 5 },
        }
    }

    fn welcome(&self) -> ClientAnswer {
        let owed = AdjustedTokens::new(self.manners.demands);
        ClientAnswer::Authorized {
            signed_payment: SignedPayment::Empty,
            tokens_committed_to_db: owed,
            max_tokens: owed,
        }
    }

    /// Waits for the note with the nonce in the log of the proxy's contract.
    async fn registration(&self) {
        loop {
            let log = self.devnet.transactions(&proxy_contract(), None, 100).await.unwrap().for_display();
            let is_it = |body| matches!(Note::parse(body), Ok(Note::Client(note)) if note.payload == Some(ClientPayload::Register { nonce: 5 }));
            if log.iter().filter_map(|transaction| transaction.in_message.as_ref()).any(|message| is_it(&message.body))
            {
                return;
            }
            sleep(Duration::from_secs(1)).await;
        }
    }

    async fn state(&self) -> Option<ClientState> {
        let account = self.devnet.account(&self.contract).await.unwrap().for_display();
        account.data.map(|data| ClientState::parse(&data).unwrap())
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_begins_once_its_contract_is_funded() {
    let scene = Scene::new(Manners::default()).await;
    scene.until_ready().await;
    let state = scene.state().await.unwrap();
    assert_eq!((state.balance, state.stake), (Nano::new(2 * TON), Nano::new(2 * TON)));
    let secrets = scene.heard.secrets.lock().unwrap().clone();
    assert!(!secrets.is_empty());
    for secret in secrets {
        assert_eq!(secret.len(), 32);
        assert_eq!(<[u8; 32]>::from(Sha256::digest(&secret)), state.secret_hash);
    }
    let response = scene.rig.app().await.get("/v1/budget").await;
    let budget: serde_json::Value = serde_json::from_slice(&body(response).await).unwrap();
    assert_eq!(budget["contracts"][0]["balance_nano"], 2 * TON, "{budget}");
    assert_eq!(budget["contracts"][0]["ready"], true, "{budget}");
}

#[tokio::test(start_paused = true)]
async fn empty_secret() {
    let scene = Scene::new(Manners { empty_secret: true, ..Manners::default() }).await;
    scene.until("funded", async || scene.is(Lifecycle::Normal).await).await;
    sleep(Duration::from_secs(300)).await;
    assert!(scene.heard.secrets.lock().unwrap().is_empty(), "no secret was sent, empty or not");
    assert!(!scene.rig.handle.status().ready);
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_demands_what_was_not_used_gets_no_session() {
    let scene = Scene::new(Manners { demands: 1_000, ..Manners::default() }).await;
    let refuses = async || scene.rig.handle.status().proxies[0].state.contains("demands more");
    scene.until("refused", refuses).await;
    assert!(!scene.rig.handle.status().ready);
}

#[tokio::test(start_paused = true)]
async fn a_refund_that_the_proxy_signs_pays_at_once() {
    let scene = Scene::new(Manners::default()).await;
    scene.until_ready().await;
    let said = scene.post("/v1/budget/close").await;
    assert_eq!(said["contracts"][0]["closing"], true, "{said}");
    scene.until("closed", async || scene.is(Lifecycle::Closed).await).await;
    sleep(Duration::from_secs(10)).await;
    assert_eq!(scene.paid_back().await, 2 * TON, "everything, to the nano");
    scene.until("left", async || !scene.rig.handle.status().ready).await;
}

#[tokio::test(start_paused = true)]
async fn a_refund_that_charges_too_much_is_not_presented() {
    let scene = Scene::new(Manners { last_charge: 50_000_000, ..Manners::default() }).await;
    forced(&scene).await;
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_refuses_to_close_is_left_by_force() {
    let scene = Scene::new(Manners { keeps_the_money: true, ..Manners::default() }).await;
    forced(&scene).await;
}

async fn forced(scene: &Scene) {
    scene.until_ready().await;
    scene.post("/v1/budget/close").await;
    scene.until("closing", async || scene.is(Lifecycle::Closing).await).await;
    assert!(scene.heard.asked_for_refund.load(Ordering::Relaxed), "the proxy was asked first");
    scene.devnet.advance(Duration::from_secs(u64::from(DELAY_S) + 1)).await.unwrap();
    scene.until("closed", async || scene.is(Lifecycle::Closed).await).await;
    sleep(Duration::from_secs(10)).await;
    assert_eq!(scene.paid_back().await, 2 * TON, "everything, to the nano");
}

#[tokio::test(start_paused = true)]
async fn a_contract_without_a_secret_is_registered_on_chain() {
    let clock = FixedClock::at(UnixTime::from_secs_f64(NOW));
    let options =
        Options { clock: Some(Arc::new(clock)), auto_tick: Some(Duration::from_secs(1)), ..Options::default() };
    let devnet = Devnet::memory(&options).unwrap();
    // Somebody else made the contract and filled it: it has no secret.
    let chain: Arc<dyn Chain> = Arc::new(devnet.clone());
    let friend = Sender::new(chain, SigningKey::from_bytes(&[0x60; 32]), STANDARD, None, ChainPolicy::Proved).unwrap();
    devnet.faucet(friend.address(), Nano::new(10 * TON)).await.unwrap();
    let owner = Wallet::new(SigningKey::from_bytes(&OWNER_KEY), STANDARD).address();
    let init = init(owner);
    let fill = to_client::TopUp { query_id: 1, amount: Nano::new(2 * TON), excesses_to: friend.address() }.to_cell();
    let call = Outgoing::call(init.address(), Nano::new(3 * TON), fill).with_state_init(init);
    friend.send(vec![call]).await.unwrap();

    let scene = Scene::on(devnet, Manners::default()).await;
    scene.until_ready().await;
    assert!(scene.heard.registered.load(Ordering::Relaxed));
    assert!(scene.heard.secrets.lock().unwrap().is_empty());
    assert_eq!(scene.state().await.unwrap().secret_hash, [0; 32]);
}
