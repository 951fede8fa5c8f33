//! A proxy whose books turn out to be old while it serves.

use cocoon_ledger::RolledBack;
use cocoon_proxy::ProxyError;

use crate::ground::{Disk, Ground, often};

#[tokio::test(start_paused = true)]
async fn a_worker_that_was_paid_above_the_books_ends_the_service() {
    let mut ground = Ground::new().await;
    let disk = Disk::default();
    let mut serving = ground.serve(&disk, often());
    let _worker = serving.worker().await;
    // Only this proxy's key signs, and its books have committed nothing.
    ground.pay_worker(5).await;
    let error = serving.ended().await;
    let ProxyError::RolledBack(RolledBack::Overpaid { on_chain: 5, ours: 0 }) = error else { panic!("{error}") };
    assert!(error.to_string().contains("Put the newest database back"), "{error}");
}
