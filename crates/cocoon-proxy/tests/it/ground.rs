//! A devnet under the proxy: its wallet, a root's terms, a disk in memory, and peers whose contracts are real.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use cocoon_ledger::{Journal, Salts};
use cocoon_net::memory::{LinkOptions, MemoryNetwork};
use cocoon_net::{Connection, Dialer as _, QueryError};
use cocoon_proxy::{Money, Proxy, ProxyConfig, ProxyError, ProxyHandle, ProxyTerms, SettlementConfig};
use cocoon_receipt::{BodyDigest, ModelHashes, Outcome, Receipt};
use cocoon_ton::Address;
use cocoon_ton::chain::watch::RootConfig;
use cocoon_ton::chain::{Chain, ChainPolicy, Head};
use cocoon_ton::contract::message::client;
use cocoon_ton::contract::signed::{self, Envelope, Kind};
use cocoon_ton::contract::{ClientState, Params, RootState, client_state_init, codes, worker_state_init};
use cocoon_ton::devnet::{Devnet, Genesis, Options, Order, puppet};
use cocoon_ton::keys::SigningKey;
use cocoon_ton::wallet::{Sender, WalletKind};
use cocoon_units::{AdjustedTokens, FixedClock, Multipliers, Nano, UnixTime, Usage};
use cocoon_wire::http::HttpRequest;
use cocoon_wire::message::{
    Answer, AuthChallenge, ClientAnswer, ClientParams, ClientQuery, CompareBalance, FinalInfo, HandedReceipt, Proof,
    ProxyToWorker, SignedPayment, TokensUsed, WorkerAnswer, WorkerParams, WorkerQuery, WorkerRun, encode_handover,
};
use cocoon_wire::{Sealed, Version, VersionRange};
use redb::StorageBackend;
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use crate::peers::{Client, MODEL, Peer, SECRET, Worker, config, params};

pub(crate) const TON: u64 = 1_000_000_000;
/// Nano of one token, and the worker's part of it.
pub(crate) const PRICE: u64 = 1_000;
pub(crate) const FEE: u64 = 900;
const ROOT: Address = Address::basechain([0x77; 32]);
const PROXY_OWNER: u32 = 1;
pub(crate) const CLIENT_OWNER: u32 = 2;
pub(crate) const OTHER_OWNER: u32 = 3;
const WORKER_OWNER: u32 = 4;

pub(crate) fn person(number: u32) -> Address {
    puppet::address(number)
}

pub(crate) fn payment_key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

pub(crate) fn receipt_key() -> SigningKey {
    SigningKey::from_bytes(&[8; 32])
}

/// A chain and what is on it. It outlives the proxies that run on it.
pub(crate) struct Ground {
    pub(crate) devnet: Devnet,
    wallet: Sender,
    params: Params,
    terms: watch::Sender<Arc<ProxyTerms>>,
    /// The clock of the next proxy.
    pub(crate) unix_s: f64,
    nonce: u64,
    _blocks: JoinSet<()>,
}

/// A running proxy.
pub(crate) struct Serving {
    network: MemoryNetwork,
    pub(crate) handle: ProxyHandle,
    pub(crate) proxy: JoinSet<Result<(), ProxyError>>,
    /// What its clock says.
    unix_ms: u64,
    disk: Disk,
}

/// A disk in memory: it can be copied, and it can fail.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    bytes: Arc<Mutex<Vec<u8>>>,
    fails: Arc<Mutex<bool>>,
    /// How many have it open.
    open: Arc<AtomicUsize>,
}

impl Disk {
    pub(crate) fn copy(&self) -> Self {
        Self { bytes: Arc::new(Mutex::new(self.bytes.lock().unwrap().clone())), ..Self::default() }
    }

    pub(crate) fn fail(&self) {
        *self.fails.lock().unwrap() = true;
    }

    fn check(&self) -> io::Result<()> {
        match *self.fails.lock().unwrap() {
            true => Err(io::ErrorKind::StorageFull.into()),
            false => Ok(()),
        }
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.bytes.lock().unwrap().len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let offset = usize::try_from(offset).unwrap();
        out.copy_from_slice(&self.bytes.lock().unwrap()[offset..offset + out.len()]);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.check()?;
        self.bytes.lock().unwrap().resize(usize::try_from(len).unwrap(), 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.check()
    }

    fn close(&self) -> io::Result<()> {
        self.open.fetch_sub(1, Ordering::SeqCst);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.check()?;
        let offset = usize::try_from(offset).unwrap();
        self.bytes.lock().unwrap()[offset..offset + data.len()].copy_from_slice(data);
        Ok(())
    }
}

/// Commits every few seconds; nothing is ever worth a charge.
pub(crate) fn often() -> SettlementConfig {
    SettlementConfig { commit_min_s: 2, commit_max_s: 4, recovery_s: 0, ..SettlementConfig::default() }
}

/// Commits hardly ever.
pub(crate) fn seldom() -> SettlementConfig {
    SettlementConfig { commit_min_s: 100_000, commit_max_s: 100_000, recovery_s: 0, ..SettlementConfig::default() }
}

impl Ground {
    pub(crate) async fn new() -> Self {
        let genesis = Genesis { puppets: 4, puppet: Nano::new(10_000 * TON), ..Genesis::default() };
        let devnet = Devnet::memory(&Options { genesis, ..Options::default() }).unwrap();
        let kind = WalletKind::Cocoon { owner: person(PROXY_OWNER) };
        let chain: Arc<dyn Chain> = Arc::new(devnet.clone());
        let wallet = Sender::new(chain, SigningKey::from_bytes(&[3; 32]), kind, None, ChainPolicy::Proved).unwrap();
        devnet.faucet(wallet.address(), Nano::new(100 * TON)).await.unwrap();
        let params = Params {
            params_version: 1,
            unique_id: 17,
            is_test: true,
            price_per_token: Nano::new(PRICE),
            worker_fee_per_token: Nano::new(FEE),
            proxy_delay_s: 7_200,
            client_delay_s: 3_600,
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
        let (terms, _) = watch::channel(terms_of(&params));
        Self { devnet, wallet, params, terms, unix_s: 1_700_000_000.5, nonce: 0, _blocks: blocks }
    }

    /// A proxy with these books.
    pub(crate) fn serve(&self, disk: &Disk, settlement: SettlementConfig) -> Serving {
        self.serve_with_tags(disk, settlement, 5)
    }

    /// The same, that seals its tags with another key.
    pub(crate) fn serve_with_tags(&self, disk: &Disk, settlement: SettlementConfig, tag_key: u8) -> Serving {
        disk.open.fetch_add(1, Ordering::SeqCst);
        let network = MemoryNetwork::new();
        let clients = network.listen("clients", LinkOptions::default());
        let workers = network.listen("workers", LinkOptions::default());
        let config = ProxyConfig { settlement, client_secret_hash: None, ..config() };
        let clock = FixedClock::at(UnixTime::from_secs_f64(self.unix_s));
        let money = Money {
            chain: Arc::new(self.devnet.clone()),
            policy: ChainPolicy::Proved,
            wallet: self.wallet.clone(),
            payment_key: payment_key(),
            journal: Journal::open(disk.clone(), &[9; 32], salts()).unwrap(),
            tag_key: Zeroizing::new([tag_key; 32]),
        };
        let proxy = Proxy::new(config, Arc::new(clock), Arc::new(clients), Arc::new(workers))
            .with_terms(self.terms.subscribe())
            .with_money(money);
        let handle = proxy.handle();
        let mut tasks = JoinSet::new();
        tasks.spawn(proxy.run(CancellationToken::new()));
        let since_epoch = Duration::try_from_secs_f64(self.unix_s).unwrap();
        let unix_ms = u64::try_from(since_epoch.as_millis()).unwrap();
        Serving { network, handle, proxy: tasks, unix_ms, disk: disk.clone() }
    }

    /// New parameters of the root: another contract of the proxy.
    pub(crate) fn change_params(&mut self, change: impl FnOnce(&mut Params)) {
        self.params.params_version += 1;
        change(&mut self.params);
        self.terms.send_replace(terms_of(&self.params));
    }

    pub(crate) fn client_at(&self, owner: u32) -> Address {
        self.terms.borrow().contracts.as_ref().unwrap().client(&person(owner).raw()).unwrap()
    }

    pub(crate) fn worker_at(&self) -> Address {
        self.terms.borrow().contracts.as_ref().unwrap().worker(&person(WORKER_OWNER).raw()).unwrap()
    }

    /// A worker's contract that its owner brought this payout to: what the proxy's key signed, whatever its books say.
    pub(crate) async fn pay_worker(&mut self, tokens: u64) {
        let proxy = self.terms.borrow().contracts.as_ref().unwrap().proxy();
        let key = payment_key().verifying_key().to_bytes();
        let init = worker_state_init(person(WORKER_OWNER), proxy, &key, &self.params).unwrap();
        let payout = signed::payout(init.address(), 1, tokens).sign(&payment_key());
        let order = Order::call(init.address(), Nano::new(TON), payout.envelope(person(WORKER_OWNER)));
        self.order(WORKER_OWNER, order.deploying(init.into())).await;
    }

    /// A client's contract with this secret and this much in it.
    pub(crate) async fn deploy_client(&mut self, owner: u32, secret_hash: [u8; 32], amount: u64) {
        let proxy = self.terms.borrow().contracts.as_ref().unwrap().proxy();
        let key = payment_key().verifying_key().to_bytes();
        let init = client_state_init(person(owner), proxy, &key, &self.params).unwrap();
        let at = init.address();
        let body = client::ChangeSecretHashAndTopUp {
            query_id: 1,
            amount: Nano::new(amount),
            secret_hash,
            excesses_to: person(owner),
        };
        let order = Order::call(at, Nano::new(amount + TON), body.to_cell()).deploying(init.into());
        self.order(owner, order).await;
        while self.client(at).await.is_none() {
            sleep(Duration::from_millis(500)).await;
        }
    }

    /// A client's contract that nobody has to say more of.
    pub(crate) async fn fund(&mut self, owner: u32) {
        self.deploy_client(owner, Sha256::digest(SECRET).into(), 10 * TON).await;
    }

    pub(crate) async fn order(&mut self, from: u32, order: Order) {
        self.nonce += 1;
        let external = puppet::command(person(from), &order, self.nonce).unwrap();
        self.devnet.send(&external).await.unwrap();
    }

    pub(crate) async fn client(&self, at: Address) -> Option<ClientState> {
        let data = self.devnet.account(&at).await.unwrap().for_display().data?;
        Some(ClientState::parse(&data).unwrap())
    }
}

fn terms_of(params: &Params) -> Arc<ProxyTerms> {
    let state = RootState { version: params.params_version.max(3), ..RootState::initial(ROOT, params.clone()) };
    let at = Head { seqno: 1, unix_s: 1_800_000_000, lt: 1 };
    let key = payment_key().verifying_key().to_bytes();
    Arc::new(ProxyTerms::by_root(&RootConfig { address: ROOT, state, at }, person(PROXY_OWNER), key).unwrap())
}

fn salts() -> Salts {
    Box::new(|| {
        let mut salt = [0; 32];
        getrandom::fill(&mut salt).unwrap();
        salt
    })
}

/// What a client heard in its handshake.
pub(crate) struct Joined {
    pub(crate) client: Client,
    pub(crate) signed: SignedPayment,
    pub(crate) durable: u64,
    pub(crate) known: u64,
}

impl Serving {
    async fn connect(&self, name: &str) -> Connection {
        self.network.dialer(name).dial().await.unwrap()
    }

    /// From the first message to the challenge.
    pub(crate) async fn introduce(&self, owner: u32) -> (Peer, AuthChallenge, Version) {
        let peer = Peer::new(self.connect("clients").await);
        let owner_address = person(owner).raw();
        let params = ClientParams { owner_address, is_test: true, versions: Some(VersionRange::ALL) };
        let answer = peer.ask(ClientQuery::Connect { params, min_config_version: 3 }.encode()).await.unwrap();
        let ClientAnswer::Connected { params, auth, .. } = ClientAnswer::decode(answer).unwrap() else {
            panic!("not connected")
        };
        (peer, auth, Version::from_number(params.proto_version.unwrap()).unwrap())
    }

    /// The second message; the refusal where there is one.
    pub(crate) async fn authorize(&self, peer: Peer, query: ClientQuery) -> Result<Joined, (i32, String)> {
        let answer = peer.ask(query.encode()).await.unwrap();
        match ClientAnswer::decode(answer).unwrap() {
            ClientAnswer::Authorized { signed_payment, tokens_committed_to_db, max_tokens } => {
                peer.outbox.enable_extended();
                let client = Client { peer, version: Version::Extended };
                let (durable, known) = (tokens_committed_to_db.get(), max_tokens.get());
                Ok(Joined { client, signed: signed_payment, durable, known })
            }
            ClientAnswer::AuthorizationFailed { code, error } => Err((code, error)),
            other => panic!("unexpected {other:?}"),
        }
    }

    pub(crate) async fn join(&self, owner: u32) -> Joined {
        let (peer, _, _) = self.introduce(owner).await;
        self.authorize(peer, short(SECRET)).await.unwrap_or_else(|(code, error)| panic!("{code}: {error}"))
    }

    /// A worker that knows nothing, and signs receipts.
    pub(crate) async fn worker(&self) -> Signing {
        self.worker_that_knows([0; 3], &[]).await.0
    }

    /// A worker that was told of this much (on chain, in the database, counted), and hands over these receipts if it is
    /// asked to. What the proxy says of its balance comes with it.
    pub(crate) async fn worker_that_knows(
        &self,
        told: [u64; 3],
        handed: &[HandedReceipt],
    ) -> (Signing, CompareBalance) {
        let peer = Peer::new(self.connect("workers").await);
        let owner_address = person(WORKER_OWNER).raw();
        let params = WorkerParams { owner_address, ..params(VersionRange::ALL, 8, 2_000) };
        let answer = WorkerAnswer::decode(peer.ask(WorkerQuery::Connect(params).encode()).await.unwrap()).unwrap();
        let WorkerAnswer::Connected { params, .. } = answer else { panic!("not connected") };
        let answer = WorkerAnswer::decode(peer.ask(compare(told).encode()).await.unwrap()).unwrap();
        let WorkerAnswer::CompareBalance(balance) = answer else { panic!("not compared") };
        if balance.error_code == 1 {
            hand_over(&peer, handed).await;
        }
        let complete = WorkerQuery::HandshakeComplete { is_disabled: false };
        let answer = WorkerAnswer::decode(peer.ask(complete.encode()).await.unwrap()).unwrap();
        assert_eq!(answer, WorkerAnswer::HandshakeCompleted);
        sleep(Duration::from_millis(1)).await;
        let worker = Worker::ready(peer, Version::Extended);
        (Signing { worker, proxy: params.sc_address, key: receipt_key(), unix_ms: self.unix_ms }, balance)
    }

    /// What a worker that was told of this much hears: an error code, or a refusal.
    pub(crate) async fn compare(&self, told: [u64; 3]) -> Result<i32, String> {
        let peer = Peer::new(self.connect("workers").await);
        let owner_address = person(WORKER_OWNER).raw();
        let params = WorkerParams { owner_address, ..params(VersionRange::ALL, 8, 2_000) };
        peer.ask(WorkerQuery::Connect(params).encode()).await.unwrap();
        match peer.ask(compare(told).encode()).await {
            Ok(answer) => match WorkerAnswer::decode(answer).unwrap() {
                WorkerAnswer::CompareBalance(balance) => Ok(balance.error_code),
                other => panic!("unexpected {other:?}"),
            },
            Err(QueryError::PeerRefused { message, .. }) => Err(message),
            Err(error) => panic!("{error}"),
        }
    }

    /// The end of a proxy that stops by itself.
    pub(crate) async fn ended(&mut self) -> ProxyError {
        let ended = tokio::time::timeout(Duration::from_secs(600), self.proxy.join_next()).await;
        ended.expect("it serves on").unwrap().unwrap().unwrap_err()
    }

    /// As by kill -9.
    pub(crate) async fn kill(mut self) {
        self.proxy.shutdown().await;
        sleep(Duration::from_millis(10)).await;
        // A write that has begun ends on its own thread, and closes the file then.
        while self.disk.open.load(Ordering::SeqCst) > 0 {
            tokio::task::yield_now().await;
        }
    }
}

/// On chain, in the database, counted.
fn compare(told: [u64; 3]) -> WorkerQuery {
    let [on_chain, in_db, max_tokens] = told.map(AdjustedTokens::new);
    WorkerQuery::CompareBalance { tokens_committed_to_blockchain: on_chain, tokens_committed_to_db: in_db, max_tokens }
}

async fn hand_over(peer: &Peer, handed: &[HandedReceipt]) {
    let ask = async |other: Bytes| {
        let query = WorkerQuery::ExtendedCompareBalance { tokens_committed_to_db: AdjustedTokens::ZERO, other };
        match WorkerAnswer::decode(peer.ask(query.encode()).await.unwrap()).unwrap() {
            WorkerAnswer::ExtendedCompareBalance { error_code } => error_code,
            other => panic!("unexpected {other:?}"),
        }
    };
    for chunk in handed.chunks(2) {
        assert_eq!(ask(encode_handover(chunk).to_bytes()).await, 1, "there may be more");
    }
    assert_eq!(ask(encode_handover(&[]).to_bytes()).await, 0);
}

pub(crate) fn short(secret: &'static [u8]) -> ClientQuery {
    ClientQuery::AuthorizeShort { secret: Sealed::new(Bytes::from_static(secret)) }
}

/// A worker that signs receipts.
pub(crate) struct Signing {
    pub(crate) worker: Worker,
    pub(crate) proxy: String,
    pub(crate) key: SigningKey,
    /// The time by its clock.
    pub(crate) unix_ms: u64,
}

impl Signing {
    /// An honest receipt for a request: 34 prompt tokens and these of the answer as far as it was said.
    pub(crate) fn receipt(&self, run: &WorkerRun, completion: u64) -> Receipt {
        let ask = run.receipt.as_ref().expect("a receipt is asked for");
        let digest = |mut digest: BodyDigest, body: &[u8]| {
            digest.update(body);
            digest.finish()
        };
        let request = HttpRequest::decode(&run.query).unwrap().payload;
        let answer = self.worker.said(run.request_id);
        let usage = Usage { prompt: 34, cached: 0, completion, reasoning: 0 };
        let (coefficient, multipliers) = (run.coefficient, Multipliers::default());
        Receipt {
            id: ask.id,
            proxy: self.proxy.clone(),
            model: format!("{MODEL}@abc:00"),
            hashes: ModelHashes::default(),
            status: 200,
            outcome: Outcome::Complete,
            usage,
            adjusted: usage.adjust(coefficient, &multipliers).unwrap(),
            coefficient,
            multipliers,
            started_unix_ms: self.unix_ms,
            ended_unix_ms: self.unix_ms + 1,
            request_hmac: digest(BodyDigest::request(&ask.salt), &request),
            answer_hmac: digest(BodyDigest::answer(&ask.salt), &answer),
        }
    }

    pub(crate) fn end(&self, receipt: &Receipt) -> FinalInfo {
        let receipt_bytes = receipt.sign(&self.key).to_bytes().into();
        FinalInfo {
            tokens: TokensUsed::from(receipt.adjusted),
            proof: Some(Proof { receipt: receipt_bytes, evidence: None }),
            ..FinalInfo::default()
        }
    }

    /// Ends an answer with this.
    pub(crate) fn say_end(&self, run: &WorkerRun, end: FinalInfo) {
        self.worker.say(Answer::Part { request_id: run.request_id, body: Sealed::default(), end: Some(end) });
    }

    /// Takes a request and answers it honestly; what it keeps comes back.
    pub(crate) async fn answer(&mut self, completion: u64) -> (WorkerRun, HandedReceipt) {
        let run = self.worker.request().await;
        self.worker.head(run.request_id);
        self.worker.part(run.request_id, "data: some text\n\n");
        let end = self.end(&self.receipt(&run, completion));
        let receipt = end.proof.as_ref().unwrap().receipt.clone();
        let account_tag = run.account_tag.clone().expect("a tag comes with it");
        self.say_end(&run, end);
        (run, HandedReceipt { receipt, account_tag })
    }

    /// The next payment that is not for a request.
    pub(crate) async fn payment(&mut self) -> (SignedPayment, u64, u64) {
        match self.worker.next().await {
            ProxyToWorker::Payment { payment, .. } => {
                assert_eq!(*payment.request_id.as_bytes(), [0; 32]);
                (payment.signed_payment, payment.db_tokens.get(), payment.max_tokens.get())
            }
            other => panic!("unexpected {other:?}"),
        }
    }
}

/// The tokens of a payment that the proxy's key signed for this contract.
pub(crate) fn signed_tokens(signed: &SignedPayment, kind: Kind, contract: Address) -> u64 {
    let SignedPayment::Signed(boc) = signed else { return 0 };
    let Envelope { signed, .. } = Envelope::from_boc(boc).unwrap();
    signed.verify(payment_key().verifying_key().as_bytes()).unwrap();
    assert_eq!((signed.payment.kind(), signed.payment.contract()), (kind, contract));
    signed.payment.tokens().unwrap()
}
