//! Workers on attested links: what vouches for their receipts, for as long as their connections are open.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cocoon_attest::policy::Mode;
use cocoon_attest::policy::template::{self, Images, Simulated};
use cocoon_attest::{Claims, Document, Expected, Policy, PublicKeys, Role};
use cocoon_net::memory::{LinkOptions, MemoryNetwork};
use cocoon_net::{Dialer as _, Identity, Link, Prover, Verifier};
use cocoon_proxy::Proxy;
use cocoon_simtee::{Platform, SimImage};
use cocoon_units::{Clock, UnixTime};
use cocoon_wire::VersionRange;
use cocoon_wire::failure::FailureCode;
use cocoon_wire::message::{ClientAnswer, ClientQuery, FinalInfo};
use sha2::{Digest, Sha256};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::ground::{Signing, receipt_key};
use crate::money::{PAID, ask, end_of};
use crate::peers::{Client, MODEL, Peer, Worker, World, config};

const NOW_S: u64 = 1_790_000_000;
const DAY_S: u64 = 86_400;
const PROXY: &str = "0:aa";

/// A clock that the test sets.
#[derive(Debug)]
struct TestClock(AtomicU64);

impl Clock for TestClock {
    fn unix_now(&self) -> UnixTime {
        let since = Duration::from_secs(self.0.load(Ordering::SeqCst));
        UnixTime::from_secs_f64(since.as_secs_f64())
    }
}

/// One simulated platform, and a proxy and its peers on it.
struct Site {
    _world: World,
    clock: Arc<TestClock>,
    prover: Arc<Prover>,
    client: Client,
    worker: Signing,
}

/// A node's identity and its evidence.
fn node(platform: &Platform, clock: &Arc<TestClock>, role: Role) -> (Arc<Identity>, Arc<Prover>) {
    let name = u8::from(role == Role::Worker);
    let identity = Arc::new(Identity::new(&[name; 32], NOW_S).unwrap());
    let receipt = receipt_key().verifying_key().to_bytes();
    let claims = Claims {
        version: 1,
        role,
        instance: [name; 16],
        boot: [1; 16],
        time_unix_s: 0,
        config_sha256: [0; 32],
        model: (role == Role::Worker).then(|| format!("{MODEL}@abc:00")),
        contract: None,
        keys: PublicKeys { tls: identity.public_key(), session: [0; 32], receipt, payment: [3; 32], wallet: [0; 32] },
        gpu_sha256: None,
    };
    let attester = Arc::new(platform.td(SimImage::for_role(role)));
    let collateral = Arc::new(platform.collateral_source());
    let prover = Prover::new(attester, claims, &[name + 50; 32], Some(collateral), Arc::clone(clock) as Arc<dyn Clock>);
    (identity, Arc::new(prover))
}

/// Accepts the image of a role on this platform.
fn verifier(platform: &Platform, clock: &Arc<TestClock>, role: Role) -> Arc<Verifier> {
    let text = template::simulated(&Simulated {
        name: "test",
        tdx_root_pem: Some(&platform.root_pem()),
        sev_snp_root_pem: None,
        gpu_root_pem: None,
        images: Images::Of(&[SimImage::for_role(role).manifest().sha256()]),
        roles: &[],
        mode: Mode::Strict,
    });
    let policy = Policy::from_toml(&text).unwrap();
    let clock = Arc::clone(clock) as Arc<dyn Clock>;
    Arc::new(Verifier::new(policy, Arc::new(platform.collateral_source()), clock))
}

impl Site {
    async fn new() -> Self {
        let clock = Arc::new(TestClock(AtomicU64::new(NOW_S)));
        let platform = Platform::from_seed([7; 32], Arc::clone(&clock));
        let link = |role, peer| {
            let (identity, prover) = node(&platform, &clock, role);
            let expected = Expected { role: Some(peer), ..Expected::default() };
            let verifier = Some(verifier(&platform, &clock, peer));
            Arc::new(Link { role, identity, prover: Some(prover), verifier, expected })
        };
        let (of_proxy, of_worker) = (link(Role::Proxy, Role::Worker), link(Role::Worker, Role::Proxy));
        let prover = of_worker.prover.clone().unwrap();
        let network = MemoryNetwork::new();
        let clients = network.listen("clients", LinkOptions::default());
        let workers = network.listen_attested("workers", LinkOptions::default(), of_proxy);
        let config = cocoon_proxy::ProxyConfig { contract_address: PROXY.into(), ..config() };
        let proxy = Proxy::new(config, Arc::clone(&clock) as _, Arc::new(clients), Arc::new(workers));
        let handle = proxy.handle();
        let mut tasks = JoinSet::new();
        tasks.spawn(proxy.run(CancellationToken::new()));
        let world = World { network, handle, proxy: tasks };
        let connection = world.network.dialer_attested("workers", of_worker).dial().await.unwrap();
        let worker = Worker::join(Peer::new(connection), VersionRange::ALL, 8, 2_000).await;
        let worker = Signing { worker, proxy: PROXY.into(), key: receipt_key(), unix_ms: NOW_S * 1_000 };
        let client = world.client(VersionRange::ALL).await;
        Self { _world: world, clock, prover, client, worker }
    }

    /// Time passes, of which connections notice a little more than is between two attestations.
    async fn pass(&mut self, seconds: u64) {
        let now_s = self.clock.0.fetch_add(seconds, Ordering::SeqCst) + seconds;
        self.worker.unix_ms = now_s * 1_000;
        sleep(Duration::from_secs(3_700)).await;
    }

    async fn asked(&mut self, id: u8) -> FinalInfo {
        ask(&self.client, id);
        let run = self.worker.worker.request().await;
        self.worker.worker.head(run.request_id);
        self.worker.say_end(&run, self.worker.end(&self.worker.receipt(&run, 5)));
        end_of(&mut self.client).await
    }

    /// The document that the proxy named, as a client gets it.
    async fn document(&self, sha256: [u8; 32]) -> Document {
        let answer = self.client.peer.ask(ClientQuery::GetEvidence { sha256 }.encode()).await.unwrap();
        let ClientAnswer::Evidence(text) = ClientAnswer::decode(answer).unwrap() else { panic!("no document") };
        assert_eq!(<[u8; 32]>::from(Sha256::digest(&text)), sha256);
        Document::decode(&text).unwrap()
    }
}

/// Evidence of the first day, for ever: every client would refuse the proxy from the second on.
#[tokio::test(start_paused = true)]
async fn a_connection_that_is_open_for_longer_than_its_evidence_is_good() {
    let mut site = Site::new().await;
    let first = site.asked(1).await;
    assert_eq!(first.tokens.total.get(), PAID);
    let first = first.proof.unwrap().evidence.unwrap();
    assert_eq!(site.document(first).await.recorded_unix_s(), NOW_S);

    site.pass(DAY_S + 7_200).await;
    let later = site.asked(2).await;
    assert_eq!(later.tokens.total.get(), PAID);
    let later = later.proof.unwrap().evidence.unwrap();
    assert_ne!(later, first);
    assert_eq!(site.document(later).await.recorded_unix_s(), NOW_S + DAY_S + 7_200);
    // The receipts of before can still be checked.
    site.document(first).await;
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_is_attested_again_for_another_model() {
    let mut site = Site::new().await;
    assert!(site.asked(1).await.proof.is_some());
    site.prover.set_model(Some("a/cheaper-one@abc:00".into()));
    site.pass(3_700).await;
    ask(&site.client, 2);
    let run = site.worker.worker.request().await;
    site.worker.worker.head(run.request_id);
    site.worker.worker.peer.ended().await;
    assert_eq!(site.client.failure().await.code, FailureCode::WorkerLost);
}
