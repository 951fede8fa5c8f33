//! A root that changes, and chains that lie about it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use cocoon_units::Nano;
use tycho_types::cell::{Cell, CellBuilder};
use tycho_types::models::BlockchainConfig;

use super::*;
use crate::chain::{Account, Proof, Proved, Status, Transaction};
use crate::contract::{ContractCodes, Params};

const ADDRESS: Address = Address::basechain([3; 32]);
const POLL: Duration = Duration::from_secs(30);

/// A chain with one account, as a test sets it.
#[derive(Debug)]
struct OneAccount {
    answer: Mutex<Result<(Option<Cell>, u32), String>>,
    proof: Mutex<Proof>,
    changes: watch::Sender<Option<TxId>>,
    asked: AtomicUsize,
}

impl OneAccount {
    fn new(state: &RootState) -> Arc<Self> {
        let (changes, _) = watch::channel(None);
        let this = Self {
            answer: Mutex::new(Ok((Some(state.to_cell()), 1_000))),
            proof: Mutex::new(Proof::Local),
            changes,
            asked: AtomicUsize::new(0),
        };
        Arc::new(this)
    }

    fn show(&self, state: &RootState, unix_s: u32) {
        self.answer(Ok((Some(state.to_cell()), unix_s)));
    }

    fn answer(&self, answer: Result<(Option<Cell>, u32), String>) {
        *self.answer.lock().unwrap() = answer;
    }

    fn tell(&self, lt: u64) {
        self.changes.send_replace(Some(TxId { lt, hash: [0; 32] }));
    }
}

#[async_trait]
impl Chain for OneAccount {
    async fn head(&self) -> Result<Proved<Head>, ChainError> {
        Err(ChainError::Stopped("not asked here".to_owned()))
    }

    async fn account(&self, address: &Address) -> Result<Proved<Account>, ChainError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let answer = self.answer.lock().unwrap().clone();
        let (data, unix_s) =
            answer.map_err(|reason| ChainError::Unreachable { endpoint: "the test".to_owned(), reason })?;
        let account = Account {
            address: *address,
            status: if data.is_some() { Status::Active } else { Status::Missing },
            balance: Nano::ZERO,
            code: data.as_ref().map(|_| Cell::default()),
            data,
            last: None,
            at: Head { seqno: 1, unix_s, lt: 1 },
        };
        Ok(Proved::new(account, *self.proof.lock().unwrap()))
    }

    async fn transactions(
        &self,
        _: &Address,
        _: Option<TxId>,
        _: usize,
    ) -> Result<Proved<Vec<Transaction>>, ChainError> {
        Err(ChainError::Stopped("not asked here".to_owned()))
    }

    async fn send(&self, _: &Cell) -> Result<[u8; 32], ChainError> {
        Err(ChainError::Stopped("not asked here".to_owned()))
    }

    async fn subscribe(&self, _: &Address) -> Result<watch::Receiver<Option<TxId>>, ChainError> {
        Ok(self.changes.subscribe())
    }

    async fn config(&self) -> Result<Proved<Arc<BlockchainConfig>>, ChainError> {
        Err(ChainError::Stopped("not asked here".to_owned()))
    }
}

fn root(version: u32) -> RootState {
    let code = Cell::default();
    let codes = ContractCodes { proxy: code.clone(), worker: code.clone(), client: code };
    let params = Params { unique_id: 17, is_test: true, codes: Some(codes), ..Params::default() };
    RootState { version, ..RootState::initial(Address::basechain([1; 32]), params) }
}

async fn start(chain: &Arc<OneAccount>) -> Result<RootWatch, RootError> {
    let chain: Arc<dyn Chain> = Arc::<OneAccount>::clone(chain);
    RootWatch::start(chain, ADDRESS, true, POLL, ChainPolicy::Proved).await
}

async fn start_cached(chain: &Arc<OneAccount>, cache: &std::path::Path) -> Result<RootWatch, RootError> {
    let chain: Arc<dyn Chain> = Arc::<OneAccount>::clone(chain);
    RootWatch::start_cached(chain, ADDRESS, true, POLL, ChainPolicy::Proved, cache.to_owned()).await
}

/// What the watch says after the chain began to show something else.
async fn after_showing(show: impl FnOnce(&OneAccount)) -> (RootWatch, Option<String>) {
    let chain = OneAccount::new(&root(5));
    let watch = start(&chain).await.unwrap();
    show(&chain);
    sleep(POLL * 2).await;
    assert_eq!(watch.config().state, root(5), "the last good one stays");
    let problem = watch.problem();
    // And it recovers.
    chain.show(&root(6), 2_000);
    sleep(POLL * 2).await;
    assert_eq!((watch.config().state.version, watch.problem()), (6, None));
    (watch, problem)
}

#[tokio::test(start_paused = true)]
async fn a_higher_version_is_taken_within_a_poll() {
    let chain = OneAccount::new(&root(5));
    let watch = start(&chain).await.unwrap();
    let mut receiver = watch.receiver();
    chain.show(&root(7), 1_010);
    let began = tokio::time::Instant::now();
    receiver.changed().await.unwrap();
    assert_eq!((receiver.borrow().state.version, receiver.borrow().at.unix_s), (7, 1_010));
    assert!(began.elapsed() <= POLL + ROOT_PAUSE);
}

#[tokio::test(start_paused = true)]
async fn a_change_that_is_told_is_read_at_once() {
    let chain = OneAccount::new(&root(5));
    let watch = start(&chain).await.unwrap();
    let mut receiver = watch.receiver();
    sleep(Duration::from_secs(1)).await;
    let began = tokio::time::Instant::now();
    chain.show(&root(6), 1_010);
    chain.tell(1);
    receiver.changed().await.unwrap();
    assert!(began.elapsed() <= ROOT_PAUSE);
}

#[tokio::test(start_paused = true)]
async fn strangers_cannot_make_us_read_without_end() {
    let chain = OneAccount::new(&root(5));
    let _watch = start(&chain).await.unwrap();
    for lt in 0..1_000 {
        chain.tell(lt);
        sleep(Duration::from_millis(1)).await;
    }
    assert!(chain.asked.load(Ordering::Relaxed) <= 8);
}

#[tokio::test(start_paused = true)]
async fn an_older_root_that_is_replayed_is_refused() {
    let (_, problem) = after_showing(|chain| chain.show(&root(4), 1_100)).await;
    assert!(problem.unwrap().contains("version 4"));
}

#[tokio::test(start_paused = true)]
async fn two_roots_of_one_version_are_refused() {
    let mut other = root(5);
    other.worker_hashes.insert([1; 32]);
    let (_, problem) = after_showing(|chain| chain.show(&other, 1_100)).await;
    assert!(problem.unwrap().contains("two roots of version 5"));
}

#[tokio::test(start_paused = true)]
async fn a_root_of_another_network_is_refused() {
    let mut other = root(6);
    other.params.unique_id = 18;
    let (_, problem) = after_showing(|chain| chain.show(&other, 1_100)).await;
    assert!(problem.unwrap().contains("network 18"));

    let mut other = root(6);
    other.params.is_test = false;
    let (_, problem) = after_showing(|chain| chain.show(&other, 1_100)).await;
    assert!(problem.unwrap().contains("production"));

    let error = start(&OneAccount::new(&other)).await.unwrap_err();
    assert!(matches!(error, RootError::TestMode { found: false, .. }));
}

#[tokio::test(start_paused = true)]
async fn reported_answers_do_not_decide_whom_to_trust() {
    let chain = OneAccount::new(&root(5));
    *chain.proof.lock().unwrap() = Proof::Reported;
    assert!(matches!(start(&chain).await, Err(RootError::Chain(ChainError::Unproved))));
    let insecure: Arc<dyn Chain> = Arc::<OneAccount>::clone(&chain);
    RootWatch::start(insecure, ADDRESS, true, POLL, ChainPolicy::InsecureReported).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_root_that_is_not_there_is_an_error_and_later_a_problem() {
    let chain = OneAccount::new(&root(5));
    chain.answer(Ok((None, 1_000)));
    assert!(matches!(start(&chain).await, Err(RootError::NotThere(ADDRESS))));
    let (_, problem) = after_showing(|chain| chain.answer(Ok((None, 1_100)))).await;
    assert!(problem.unwrap().contains("no root contract"));
}

#[tokio::test(start_paused = true)]
async fn garbage_and_an_unknown_generation_are_refused() {
    let (_, problem) = after_showing(|chain| chain.answer(Ok((Some(Cell::default()), 1_100)))).await;
    assert!(problem.unwrap().contains("cannot be read as a root"));

    let (_, problem) = after_showing(|chain| chain.answer(Ok((Some(generation_four()), 1_100)))).await;
    assert!(problem.unwrap().contains("version 4"));
}

/// A root whose parameters say that they are of the next generation.
fn generation_four() -> Cell {
    let data = root(9).to_cell();
    let mut params = CellBuilder::new();
    params.store_u8(4).unwrap();
    let old = data.reference_cloned(1).unwrap();
    let mut rest = old.as_slice().unwrap();
    rest.skip_first(8, 0).unwrap();
    params.store_slice(rest).unwrap();
    let mut builder = CellBuilder::new();
    let mut bits = data.as_slice().unwrap();
    bits.only_first(bits.size_bits(), 0).unwrap();
    builder.store_slice(bits).unwrap();
    builder.store_reference(data.reference_cloned(0).unwrap()).unwrap();
    builder.store_reference(params.build().unwrap()).unwrap();
    builder.build().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_frozen_or_silent_chain_makes_the_root_stale() {
    let now = |unix_s: u32| UnixTime::from_secs_f64(f64::from(unix_s));
    let chain = OneAccount::new(&root(5));
    let watch = start(&chain).await.unwrap();
    assert!(!watch.is_stale(now(1_000 + ROOT_STALE_S)));
    assert!(watch.is_stale(now(1_001 + ROOT_STALE_S)));

    // The same answer again and again confirms nothing; one of a later block does.
    sleep(POLL * 10).await;
    assert!(watch.is_stale(now(1_001 + ROOT_STALE_S)));
    chain.show(&root(5), 1_500);
    sleep(POLL * 2).await;
    assert!(!watch.is_stale(now(1_001 + ROOT_STALE_S)));

    // Nor does one that is replayed from before.
    chain.show(&root(5), 900);
    sleep(POLL * 2).await;
    assert_eq!(watch.seen_unix_s(), 1_500);
    chain.answer(Err("cut off".to_owned()));
    sleep(POLL * 2).await;
    assert!(watch.problem().unwrap().contains("cut off"));
    assert!(watch.is_stale(now(1_501 + ROOT_STALE_S)));
}

#[tokio::test(start_paused = true)]
async fn a_restart_begins_with_the_cached_root_and_takes_no_older_one() {
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("root.json");
    let chain = OneAccount::new(&root(5));
    drop(start_cached(&chain, &cache).await.unwrap());

    chain.answer(Err("cut off".to_owned()));
    let watch = start_cached(&chain, &cache).await.unwrap();
    assert_eq!((watch.config().state.clone(), watch.seen_unix_s()), (root(5), 1_000));
    assert!(watch.problem().is_some());
    chain.show(&root(8), 2_000);
    sleep(POLL * 2).await;
    assert_eq!(watch.config().state.version, 8);
    drop(watch);

    chain.show(&root(7), 3_000);
    let error = start_cached(&chain, &cache).await.unwrap_err();
    assert!(matches!(error, RootError::Older { known: 8, found: 7, .. }), "{error}");
    std::fs::write(&cache, "{").unwrap();
    assert!(matches!(start_cached(&chain, &cache).await, Err(RootError::Cache { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_chain_that_never_answers_fails_the_start() {
    let chain = OneAccount::new(&root(5));
    chain.answer(Err("cut off".to_owned()));
    assert!(matches!(start(&chain).await, Err(RootError::Chain(ChainError::Unreachable { .. }))));
}
