//! The cache on a clock of ours, before a source that answers as it is told.

use std::path::Path;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use cocoon_attest::collateral::TdxCollateral;
use cocoon_attest::{Collateral, CollateralError, CollateralNeed, CollateralSource};
use cocoon_tee::limits::{CACHE_ENTRIES_MAX, FETCHES_MAX, FETCHES_QUEUED_MAX, REFRESH_RETRY_S, RETRY_AFTER_FAILURE_S};
use cocoon_tee::{CollateralCache, Fallback};
use tokio::sync::Semaphore;

use crate::vectors::{NOW, edition, need, tdx, tdx_need};

const DAY: u64 = 24 * 3600;

/// Hands out its answer each time it is let to.
#[derive(Debug)]
struct Source {
    answer: Mutex<Option<TdxCollateral>>,
    calls: Mutex<usize>,
    gate: Semaphore,
}

#[async_trait]
impl CollateralSource for Source {
    async fn collateral(&self, _: &CollateralNeed, _: u64) -> Result<Arc<Collateral>, CollateralError> {
        *self.calls.lock().unwrap() += 1;
        self.gate.acquire().await.unwrap().forget();
        let answer = self.answer.lock().unwrap().clone();
        answer
            .map(|intel| Arc::new(Collateral::Intel(intel)))
            .ok_or_else(|| CollateralError::Service { service: "a test".into(), why: "it is down".into() })
    }
}

impl Source {
    fn new(answer: Option<TdxCollateral>) -> Arc<Self> {
        Arc::new(Self { answer: Mutex::new(answer), calls: Mutex::new(0), gate: Semaphore::new(1000) })
    }

    fn set(&self, answer: Option<TdxCollateral>) {
        *self.answer.lock().unwrap() = answer;
    }

    fn calls(&self) -> usize {
        *self.calls.lock().unwrap()
    }
}

fn cache(source: &Arc<Source>, folder: Option<&Path>) -> CollateralCache {
    CollateralCache::new(Arc::<Source>::clone(source), folder.map(Path::to_owned)).unwrap()
}

async fn get(cache: &CollateralCache, now: u64) -> Result<TdxCollateral, String> {
    let collateral = cache.collateral(&tdx_need(), now).await.map_err(|error| error.to_string())?;
    let Collateral::Intel(intel) = &*collateral else { panic!("{collateral:?}") };
    Ok(intel.clone())
}

/// Lets background work run; everything here is in this one thread, but for files.
async fn settle(mut done: impl FnMut() -> bool) {
    for _ in 0..100_000 {
        if done() {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("background work did not settle");
}

/// Holds from the first to the tenth of July 2025.
fn july(evaluation: u32) -> TdxCollateral {
    edition(evaluation, "2025-07-01T00:00:00Z", "2025-07-10T00:00:00Z")
}

fn later(evaluation: u32) -> TdxCollateral {
    edition(evaluation, "2025-07-06T00:00:00Z", "2025-07-20T00:00:00Z")
}

/// 2025-07-01T00:00:00Z.
const FIRST: u64 = 1_751_328_000;

#[tokio::test]
async fn fetched_once_and_then_from_memory() {
    let source = Source::new(Some(july(17)));
    let cache = cache(&source, None);
    for _ in 0..3 {
        assert_eq!(get(&cache, FIRST + DAY).await.unwrap(), july(17));
    }
    assert_eq!(source.calls(), 1);
    assert_eq!(cache.evaluation_number(&tdx_need()), Some(17));
}

#[tokio::test]
async fn refreshed_in_the_background_at_half_life() {
    let source = Source::new(Some(july(17)));
    let cache = cache(&source, None);
    get(&cache, FIRST + DAY).await.unwrap();
    source.set(Some(later(18)));
    assert_eq!(get(&cache, FIRST + 4 * DAY).await.unwrap(), july(17), "not due yet");
    assert_eq!(source.calls(), 1);
    assert_eq!(get(&cache, FIRST + 6 * DAY).await.unwrap(), july(17), "due: the old one at once");
    settle(|| cache.evaluation_number(&tdx_need()) == Some(18)).await;
    assert_eq!(get(&cache, FIRST + 6 * DAY).await.unwrap(), later(18));
    assert_eq!(source.calls(), 2);
}

#[tokio::test]
async fn a_refresh_that_fails_is_not_hammered_and_the_old_one_serves_until_it_expires() {
    let source = Source::new(Some(july(17)));
    let cache = cache(&source, None);
    get(&cache, FIRST + DAY).await.unwrap();
    source.set(None);
    let due = FIRST + 6 * DAY;
    for second in 0..10 {
        assert_eq!(get(&cache, due + second).await.unwrap(), july(17));
        settle(|| source.calls() == 2).await;
    }
    get(&cache, due + REFRESH_RETRY_S).await.unwrap();
    settle(|| source.calls() == 3).await;
    assert!(get(&cache, FIRST + 9 * DAY).await.unwrap_err().contains("it is down"), "expired is never handed out");
}

#[tokio::test]
async fn a_service_that_lags_is_not_asked_again_at_once() {
    let source = Source::new(Some(july(17)));
    let cache = cache(&source, None);
    let due = FIRST + 6 * DAY;
    for second in 0..10 {
        assert_eq!(get(&cache, due + second).await.unwrap(), july(17));
    }
    assert_eq!(source.calls(), 1);
    get(&cache, due + REFRESH_RETRY_S).await.unwrap();
    settle(|| source.calls() == 2).await;
}

#[tokio::test]
async fn expired_collateral_from_the_service_is_refused() {
    let source = Source::new(Some(july(17)));
    let error = get(&cache(&source, None), FIRST + 30 * DAY).await.unwrap_err();
    assert!(error.contains("expired"), "{error}");
}

#[tokio::test]
async fn a_failure_is_remembered_for_a_moment() {
    let source = Source::new(None);
    let cache = cache(&source, None);
    for second in 0..RETRY_AFTER_FAILURE_S {
        assert!(get(&cache, NOW + second).await.unwrap_err().contains("it is down"));
    }
    assert_eq!(source.calls(), 1);
    source.set(Some(tdx()));
    assert_eq!(get(&cache, NOW + RETRY_AFTER_FAILURE_S).await.unwrap(), tdx());
}

#[tokio::test]
async fn one_fetch_for_many_callers() {
    let source = Source::new(Some(tdx()));
    source.gate.forget_permits(1000);
    let cache = Arc::new(cache(&source, None));
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let cache = Arc::clone(&cache);
        callers.spawn(async move { get(&cache, NOW).await.is_ok() });
    }
    settle(|| source.calls() == 1).await;
    source.gate.add_permits(20);
    assert!(callers.join_all().await.into_iter().all(|ok| ok));
    assert_eq!(source.calls(), 1);
}

#[tokio::test]
async fn a_caller_that_hangs_up_does_not_start_the_fetch_again() {
    let source = Source::new(Some(tdx()));
    source.gate.forget_permits(1000);
    let cache = cache(&source, None);
    for _ in 0..5 {
        let mut caller = Box::pin(get(&cache, NOW));
        tokio::select! {
            biased;
            _ = &mut caller => panic!("the gate is shut"),
            () = settle(|| source.calls() == 1) => {}
        }
    }
    source.gate.add_permits(1);
    assert_eq!(get(&cache, NOW).await.unwrap(), tdx());
    assert_eq!(source.calls(), 1);
}

#[tokio::test]
async fn a_service_that_rolls_back_the_evaluation_number_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let source = Source::new(Some(july(18)));
    let first = cache(&source, Some(folder.path()));
    get(&first, FIRST + DAY).await.unwrap();
    source.set(Some(later(17)));
    assert_eq!(get(&first, FIRST + 6 * DAY).await.unwrap(), july(18));
    settle(|| source.calls() == 2).await;
    assert_eq!(get(&first, FIRST + 6 * DAY + 1).await.unwrap(), july(18), "the old one stays");
    let error = get(&first, FIRST + 10 * DAY).await.unwrap_err();
    assert!(error.contains("evaluation number went back from 18 to 17"), "also once it has expired: {error}");
    drop(first);
    let restarted = cache(&source, Some(folder.path()));
    let error = get(&restarted, FIRST + 10 * DAY).await.unwrap_err();
    assert!(error.contains("went back from 18 to 17"), "and after a restart: {error}");
}

#[tokio::test]
async fn a_node_starts_without_the_service() {
    let folder = tempfile::tempdir().unwrap();
    get(&cache(&Source::new(Some(tdx())), Some(folder.path())), NOW).await.unwrap();
    let down = Source::new(None);
    assert_eq!(get(&cache(&down, Some(folder.path())), NOW).await.unwrap(), tdx());
}

#[tokio::test]
async fn a_corrupted_file_is_fetched_again() {
    let folder = tempfile::tempdir().unwrap();
    get(&cache(&Source::new(Some(tdx())), Some(folder.path())), NOW).await.unwrap();
    let file = std::fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
    let honest = std::fs::read_to_string(&file).unwrap();
    let moved = honest.replace("b0c06f000000 platform", "000000000001 platform");
    for odd in ["", "{", &honest[..honest.len() / 2], &moved, &honest.replacen("\"version\":1", "\"version\":2", 1)] {
        std::fs::write(&file, odd).unwrap();
        let source = Source::new(Some(tdx()));
        assert_eq!(get(&cache(&source, Some(folder.path())), NOW).await.unwrap(), tdx());
        assert_eq!(source.calls(), 1);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), honest, "and written anew");
    }
}

#[tokio::test]
async fn needs_that_strangers_make_up_do_not_push_out_what_is_known() {
    let source = Source::new(Some(july(17)));
    let cache = cache(&source, None);
    get(&cache, FIRST + DAY).await.unwrap();
    source.set(None);
    for made_up in 0..CACHE_ENTRIES_MAX as u64 + 10 {
        assert!(cache.collateral(&need(made_up), FIRST + DAY).await.is_err());
    }
    assert_eq!(cache.evaluation_number(&tdx_need()), Some(17), "what a roll-back is told by");
    assert_eq!(get(&cache, FIRST + DAY).await.unwrap(), july(17));
}

#[tokio::test]
async fn junk_from_the_future_does_not_shut_out_the_genuine_edition() {
    let source = Source::new(Some(edition(17, "2099-07-01T00:00:00Z", "2100-07-10T00:00:00Z")));
    let cache = cache(&source, None);
    assert!(get(&cache, FIRST + DAY).await.is_err());
    source.set(Some(july(17)));
    assert_eq!(get(&cache, FIRST + DAY + RETRY_AFTER_FAILURE_S).await.unwrap(), july(17));
}

#[tokio::test]
async fn strangers_that_fill_the_line_of_fetches_make_us_busy_and_not_without_a_source() {
    let source = Source::new(Some(july(17)));
    let cache = Arc::new(cache(&source, None));
    get(&cache, FIRST + DAY).await.unwrap();
    source.gate.forget_permits(1000);
    let mut strangers = tokio::task::JoinSet::new();
    for made_up in 0..FETCHES_QUEUED_MAX as u64 {
        let cache = Arc::clone(&cache);
        strangers.spawn(async move { cache.collateral(&need(made_up), FIRST + DAY).await.is_ok() });
    }
    // Four have their turn; the rest of the line stands as soon as everything in this thread ran once.
    settle(|| source.calls() == 1 + FETCHES_MAX).await;
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    let error = cache.collateral(&need(FETCHES_QUEUED_MAX as u64), FIRST + DAY).await.err();
    assert!(matches!(error, Some(CollateralError::Busy)), "{error:?}");
    assert_eq!(get(&cache, FIRST + DAY).await.unwrap(), july(17), "what is known is handed out all the same");
}

/// A source that fails in its own way.
#[derive(Debug)]
struct Fails(CollateralError);

#[async_trait]
impl CollateralSource for Fails {
    async fn collateral(&self, _: &CollateralNeed, _: u64) -> Result<Arc<Collateral>, CollateralError> {
        Err(self.0.clone())
    }
}

#[tokio::test]
async fn a_busy_source_is_not_hidden_by_another_that_fails() {
    let down = || CollateralError::Service { service: "a test".into(), why: "it is down".into() };
    for errors in [[CollateralError::Busy, down()], [down(), CollateralError::Busy]] {
        let sources = errors.map(|error| Arc::new(Fails(error)) as Arc<dyn CollateralSource>);
        let error = Fallback(sources.into()).collateral(&tdx_need(), NOW).await.unwrap_err();
        assert!(matches!(error, CollateralError::Busy), "{error}");
    }
}
