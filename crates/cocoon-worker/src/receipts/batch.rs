//! When receipts are signed: together with those that end at about the same time.
//!
//! A signature costs a worker, the proxy and the client more than anything else about a short request, and one signature
//! can stand for many receipts. Whoever is first of a batch waits for the others and signs for all:
//!
//! - not at all, if no other request is running here, or receipts come seldom: a lone answer is never held up;
//! - else until all that run here wait for their signature, or [`SIGNING_WINDOW`] has passed.
//!
//! If the first one's request is dropped, its batch is signed then and there.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use cocoon_receipt::limits::BATCH_MAX;
use cocoon_receipt::{Receipt, sign_all};
use ed25519_dalek::SigningKey;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, timeout};

use crate::limits::SIGNING_WINDOW;

/// Signs the receipts of one worker.
pub(super) struct Batches {
    key: SigningKey,
    open: Arc<AtomicUsize>,
    waiting: Mutex<Waiting>,
    /// Everybody who could come has come.
    full: Notify,
}

/// Never shows the key.
impl fmt::Debug for Batches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batches").field("open", &self.open).finish_non_exhaustive()
    }
}

/// The batch that is being gathered.
#[derive(Default)]
struct Waiting {
    receipts: Vec<Receipt>,
    told: Vec<oneshot::Sender<Bytes>>,
    pace: Pace,
}

/// How fast receipts come: the mean time between them.
#[derive(Default)]
struct Pace {
    last: Option<Instant>,
    mean: Option<Duration>,
}

/// A request that will want a signature.
pub(super) struct Turn(Arc<AtomicUsize>);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Batches {
    pub(super) fn new(key: SigningKey) -> Self {
        Self { key, open: Arc::default(), waiting: Mutex::default(), full: Notify::new() }
    }

    /// Counts a request among those that a batch may wait for.
    pub(super) fn enter(&self) -> Turn {
        self.open.fetch_add(1, Ordering::Relaxed);
        Turn(Arc::clone(&self.open))
    }

    /// The signed receipt, as it travels.
    pub(super) async fn sign(&self, receipt: Receipt, turn: Turn) -> Bytes {
        let (tell, told) = oneshot::channel();
        let joined = self.join(receipt, tell);
        match joined {
            Joined::First { waits } => {
                let leader = Leader(self);
                if waits {
                    // Whoever comes last ends it sooner.
                    let _ = timeout(SIGNING_WINDOW, self.full.notified()).await;
                }
                drop(leader);
            }
            Joined::Last => self.full.notify_one(),
            Joined::Other => {}
        }
        drop(turn);
        // A batch is always signed, by whoever was first in it.
        told.await.unwrap_or_default()
    }

    fn join(&self, receipt: Receipt, tell: oneshot::Sender<Bytes>) -> Joined {
        let mut waiting = self.lock();
        let is_dense = waiting.pace.is_dense(Instant::now());
        waiting.receipts.push(receipt);
        waiting.told.push(tell);
        let gathered = waiting.receipts.len();
        let is_whole = gathered >= self.open.load(Ordering::Relaxed).min(BATCH_MAX);
        match gathered {
            1 => Joined::First { waits: is_dense && !is_whole },
            _ if is_whole => Joined::Last,
            _ => Joined::Other,
        }
    }

    fn sign_waiting(&self) {
        let (receipts, told) = {
            let mut waiting = self.lock();
            (std::mem::take(&mut waiting.receipts), std::mem::take(&mut waiting.told))
        };
        for (signed, tell) in sign_all(&receipts, &self.key).iter().zip(told) {
            // One whose request was dropped meanwhile is nobody's.
            let _ = tell.send(signed.to_bytes().into());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Receipts and senders are pushed and taken in pairs, and neither can panic between.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a receipt is to the batch that it joined.
enum Joined {
    First { waits: bool },
    Last,
    Other,
}

/// Signs the batch when it goes, however that comes about.
struct Leader<'a>(&'a Batches);

impl Drop for Leader<'_> {
    fn drop(&mut self) {
        self.0.sign_waiting();
    }
}

impl Pace {
    /// Whether another receipt is to be expected within the window, going by those of late.
    fn is_dense(&mut self, now: Instant) -> bool {
        let gap = self.last.replace(now).map(|last| now.saturating_duration_since(last));
        let Some(gap) = gap.map(|gap| gap.min(SIGNING_WINDOW.saturating_mul(8))) else { return false };
        let mean = self.mean.map_or(gap, |mean| (mean.saturating_mul(7).saturating_add(gap)) / 8);
        self.mean = Some(mean);
        mean <= SIGNING_WINDOW / 2
    }
}

#[cfg(test)]
mod tests {
    use cocoon_receipt::SignedReceipt;
    use futures_util::FutureExt as _;
    use futures_util::future::join_all;

    use super::*;

    fn batches() -> Batches {
        Batches::new(SigningKey::from_bytes(&[3; 32]))
    }

    fn receipt(number: u8) -> Receipt {
        Receipt { id: [number; 32], ..Receipt::example() }
    }

    fn signed(bytes: &[u8]) -> (SignedReceipt, Receipt) {
        let signed = SignedReceipt::from_bytes(bytes).unwrap();
        let receipt = signed.verify(None).unwrap();
        (signed, receipt)
    }

    /// Receipts that follow each other closely.
    async fn warm_up(batches: &Batches) {
        for number in 0..16 {
            batches.sign(receipt(number), batches.enter()).await;
            tokio::time::advance(Duration::from_micros(100)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_lone_request_never_waits() {
        let batches = batches();
        let began = Instant::now();
        warm_up(&batches).await;
        assert_eq!(began.elapsed(), Duration::from_micros(1_600));
    }

    #[tokio::test(start_paused = true)]
    async fn seldom_receipts_do_not_wait_for_long_streams() {
        let batches = batches();
        let _streams = [batches.enter(), batches.enter()];
        for number in 0..16 {
            let began = Instant::now();
            batches.sign(receipt(number), batches.enter()).await;
            assert_eq!(began.elapsed(), Duration::ZERO, "{number}");
            tokio::time::advance(SIGNING_WINDOW).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn those_that_end_together_share_a_signature() {
        let batches = batches();
        warm_up(&batches).await;
        let began = Instant::now();
        let turns: Vec<_> = (0..20).map(|number| (number, batches.enter())).collect();
        let all = join_all(turns.into_iter().map(|(number, turn)| batches.sign(receipt(number), turn))).await;
        assert_eq!(began.elapsed(), Duration::ZERO, "all that run have come");
        let signatures: Vec<_> = all.iter().map(|bytes| *signed(bytes).0.signature()).collect();
        assert!(signatures.iter().all(|signature| *signature == signatures[0]));
        for (number, bytes) in (0_u8..).zip(&all) {
            assert_eq!(signed(bytes).1, receipt(number));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_longer_than_the_window() {
        let batches = batches();
        warm_up(&batches).await;
        let _stream = batches.enter();
        let began = Instant::now();
        signed(&batches.sign(receipt(1), batches.enter()).await);
        // The timer counts whole milliseconds.
        assert!(began.elapsed() <= SIGNING_WINDOW + Duration::from_millis(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_first_one_that_is_dropped_leaves_nobody_waiting() {
        let batches = batches();
        warm_up(&batches).await;
        let _stream = batches.enter();
        let mut first = Box::pin(batches.sign(receipt(1), batches.enter()));
        let mut second = Box::pin(batches.sign(receipt(2), batches.enter()));
        assert!(first.as_mut().now_or_never().is_none() && second.as_mut().now_or_never().is_none());
        drop(first);
        assert_eq!(signed(&second.await).1, receipt(2));
    }
}
