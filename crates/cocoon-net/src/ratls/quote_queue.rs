//! One quote at a time. A quoting enclave answers one request after the other and takes up to a second for each, so
//! whoever asks more often only makes everybody wait: callers stand in line here, and the line has an end.
//!
//! A client shows no evidence and may have ours, so strangers choose how often we are asked. Each source that dialled us
//! has a share of the line, and what it does beyond that is refused: it cannot keep everybody else from their turn.
//!
//! A quote that was begun is finished even when nobody waits for it any more; otherwise connections that come and go
//! would put any number of requests into the platform's own queue.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use cocoon_attest::EvidenceError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::admission::source::Source;
use crate::limits::{QUOTE_TIMEOUT, QUOTES_PER_SOURCE_MAX, QUOTES_WAITING_MAX};

/// The line in front of the platform.
#[derive(Debug)]
pub(super) struct QuoteQueue {
    places: Arc<Semaphore>,
    turn: Arc<Semaphore>,
    running: Mutex<JoinSet<()>>,
    shares: Shares,
}

/// Places that each source holds; sources that hold none are not in it.
type Shares = Arc<Mutex<HashMap<Source, usize>>>;

/// One place of a source's share, given back when this is dropped.
struct Share {
    shares: Shares,
    source: Source,
}

impl QuoteQueue {
    pub(super) fn new() -> Self {
        Self {
            // Those who wait, and the one whose turn it is.
            places: Arc::new(Semaphore::new(QUOTES_WAITING_MAX.saturating_add(1))),
            turn: Arc::new(Semaphore::new(1)),
            running: Mutex::new(JoinSet::new()),
            shares: Shares::default(),
        }
    }

    /// Runs `work` when its turn comes; refuses when too many wait, or too many of the source that asks.
    pub(super) async fn run<T, F>(&self, source: Option<Source>, work: F) -> Result<T, EvidenceError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, EvidenceError>> + Send + 'static,
    {
        let share = source.map(|source| Share::take(&self.shares, source)).transpose()?;
        let full = |_| EvidenceError::Platform(format!("{QUOTES_WAITING_MAX} quotes are waited for already"));
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(full)?;
        let closed = |_| EvidenceError::Platform("the node is stopping".to_owned());
        let turn = Arc::clone(&self.turn).acquire_owned().await.map_err(closed)?;
        let (answer_in, answer) = oneshot::channel();
        self.spawn(place, turn, async move {
            let _share = share;
            let late = |_| Err(EvidenceError::Platform(format!("no quote within {QUOTE_TIMEOUT:?}")));
            // Nobody may be waiting any more.
            let _ = answer_in.send(timeout(QUOTE_TIMEOUT, work).await.unwrap_or_else(late));
        });
        answer.await.unwrap_or_else(|_| Err(EvidenceError::Platform("the quote was interrupted".to_owned())))
    }

    fn spawn(
        &self,
        place: OwnedSemaphorePermit,
        turn: OwnedSemaphorePermit,
        work: impl Future<Output = ()> + Send + 'static,
    ) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        while running.try_join_next().is_some() {}
        running.spawn(async move {
            let (_place, _turn) = (place, turn);
            work.await;
        });
    }
}

impl Share {
    fn take(shares: &Shares, source: Source) -> Result<Self, EvidenceError> {
        let mut held = shares.lock().unwrap_or_else(PoisonError::into_inner);
        let places = held.entry(source).or_default();
        if *places >= QUOTES_PER_SOURCE_MAX {
            let why = format!("{QUOTES_PER_SOURCE_MAX} quotes for the same source are waited for already");
            return Err(EvidenceError::Platform(why));
        }
        *places = places.saturating_add(1);
        Ok(Self { shares: Arc::clone(shares), source })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut held = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(places) = held.get_mut(&self.source) {
            *places = places.saturating_sub(1);
            if *places == 0 {
                held.remove(&self.source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    const QUOTE: Duration = Duration::from_millis(100);

    #[derive(Default)]
    struct Platform {
        now: AtomicUsize,
        most: AtomicUsize,
        done: AtomicUsize,
    }

    async fn quote(platform: Arc<Platform>) -> Result<usize, EvidenceError> {
        let now = platform.now.fetch_add(1, Ordering::SeqCst) + 1;
        platform.most.fetch_max(now, Ordering::SeqCst);
        tokio::time::sleep(QUOTE).await;
        platform.now.fetch_sub(1, Ordering::SeqCst);
        Ok(platform.done.fetch_add(1, Ordering::SeqCst))
    }

    #[tokio::test(start_paused = true)]
    async fn one_at_a_time_and_the_line_has_an_end() {
        let (queue, platform) = (Arc::new(QuoteQueue::new()), Arc::new(Platform::default()));
        let mut tasks = JoinSet::new();
        for _ in 0..QUOTES_WAITING_MAX + 10 {
            let (queue, platform) = (Arc::clone(&queue), Arc::clone(&platform));
            tasks.spawn(async move { queue.run(None, quote(platform)).await });
        }
        let results = tasks.join_all().await;
        let refused = results.iter().filter(|result| result.is_err()).count();
        assert_eq!((refused, platform.most.load(Ordering::SeqCst)), (9, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn callers_that_leave_do_not_put_a_second_quote_into_the_platform() {
        let (queue, platform) = (QuoteQueue::new(), Arc::new(Platform::default()));
        for _ in 0..5 {
            let left = timeout(QUOTE / 2, queue.run(None, quote(Arc::clone(&platform)))).await;
            assert!(left.is_err(), "the caller left");
        }
        queue.run(None, quote(Arc::clone(&platform))).await.unwrap();
        assert_eq!(platform.most.load(Ordering::SeqCst), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_platform_that_hangs_gives_its_turn_back() {
        let queue = QuoteQueue::new();
        let hung = queue.run(None, std::future::pending::<Result<(), _>>()).await;
        assert!(matches!(hung, Err(EvidenceError::Platform(_))));
        assert!(queue.run(None, async { Ok(()) }).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn strangers_of_one_source_do_not_fill_the_line() {
        let (queue, platform) = (Arc::new(QuoteQueue::new()), Arc::new(Platform::default()));
        let [stranger, honest] = ["192.0.2.1", "192.0.2.2"].map(|ip| Source::far(ip.parse().unwrap()));
        let mut strangers = JoinSet::new();
        for _ in 0..10 * QUOTES_WAITING_MAX {
            let (queue, platform) = (Arc::clone(&queue), Arc::clone(&platform));
            strangers.spawn(async move { queue.run(stranger, quote(platform)).await });
        }
        tokio::task::yield_now().await;
        assert_eq!(queue.run(honest, quote(Arc::clone(&platform))).await.unwrap(), QUOTES_PER_SOURCE_MAX);
        let served = strangers.join_all().await.into_iter().filter(Result::is_ok).count();
        assert_eq!(served, QUOTES_PER_SOURCE_MAX);
        assert!(queue.shares.lock().unwrap().is_empty(), "every place was given back");
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_gets_its_share_back_when_it_leaves_and_when_the_line_is_full() {
        let queue = QuoteQueue::new();
        let source = Source::far("2001:db8::1".parse().unwrap());
        let hung = queue.run(None, std::future::pending::<Result<(), _>>());
        assert!(timeout(QUOTE, hung).await.is_err());
        assert!(timeout(QUOTE, queue.run(source, async { Ok(()) })).await.is_err(), "it left the line");
        assert!(queue.shares.lock().unwrap().is_empty());
        let _others = queue.places.acquire_many(u32::try_from(QUOTES_WAITING_MAX).unwrap()).await.unwrap();
        assert!(queue.run(source, async { Ok(()) }).await.is_err(), "the line is full");
        assert!(queue.shares.lock().unwrap().is_empty());
    }
}
