//! One quote at a time. A quoting enclave answers one request after the other and takes up to a second for each, so
//! whoever asks more often only makes everybody wait: callers stand in line here, and the line has an end.
//!
//! A quote that was begun is finished even when nobody waits for it any more; otherwise connections that come and go
//! would put any number of requests into the platform's own queue.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use cocoon_attest::EvidenceError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::limits::{QUOTE_TIMEOUT, QUOTES_WAITING_MAX};

/// The line in front of the platform.
#[derive(Debug)]
pub(super) struct QuoteQueue {
    places: Arc<Semaphore>,
    turn: Arc<Semaphore>,
    running: Mutex<JoinSet<()>>,
}

impl QuoteQueue {
    pub(super) fn new() -> Self {
        Self {
            // Those who wait, and the one whose turn it is.
            places: Arc::new(Semaphore::new(QUOTES_WAITING_MAX.saturating_add(1))),
            turn: Arc::new(Semaphore::new(1)),
            running: Mutex::new(JoinSet::new()),
        }
    }

    /// Runs `work` when its turn comes; refuses when too many wait.
    pub(super) async fn run<T, F>(&self, work: F) -> Result<T, EvidenceError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, EvidenceError>> + Send + 'static,
    {
        let full = |_| EvidenceError::Platform(format!("{QUOTES_WAITING_MAX} quotes are waited for already"));
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(full)?;
        let closed = |_| EvidenceError::Platform("the node is stopping".to_owned());
        let turn = Arc::clone(&self.turn).acquire_owned().await.map_err(closed)?;
        let (answer_in, answer) = oneshot::channel();
        self.spawn(place, turn, async {
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
            tasks.spawn(async move { queue.run(quote(platform)).await });
        }
        let results = tasks.join_all().await;
        let refused = results.iter().filter(|result| result.is_err()).count();
        assert_eq!((refused, platform.most.load(Ordering::SeqCst)), (9, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn callers_that_leave_do_not_put_a_second_quote_into_the_platform() {
        let (queue, platform) = (QuoteQueue::new(), Arc::new(Platform::default()));
        for _ in 0..5 {
            let left = timeout(QUOTE / 2, queue.run(quote(Arc::clone(&platform)))).await;
            assert!(left.is_err(), "the caller left");
        }
        queue.run(quote(Arc::clone(&platform))).await.unwrap();
        assert_eq!(platform.most.load(Ordering::SeqCst), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_platform_that_hangs_gives_its_turn_back() {
        let queue = QuoteQueue::new();
        let hung = queue.run(std::future::pending::<Result<(), _>>()).await;
        assert!(matches!(hung, Err(EvidenceError::Platform(_))));
        assert!(queue.run(async { Ok(()) }).await.is_ok());
    }
}
