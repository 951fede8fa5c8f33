//! Settlement: what was counted becomes money on the chain, and what contracts hold becomes credit.
//!
//! ```text
//!        sessions ──ask──▶ Desk ◀──reads── task ──plans──▶ Till ──▶ wallet ──▶ chain
//!                                           │  ▲                                │
//!                   hub ◀──BooksInput───────┘  └── Report (commit to send)      │
//!                                              └── logs of wallet and contract ◀┘
//! ```
//!
//! 1. [`start`]: the ledger is compared with the commits that left the node's wallet ([`history`]), before anything is
//!    served or spent; then the proxy's contract is deployed and staked from that wallet, if it is not there.
//! 2. The task commits the journal's head every 30 to 60 seconds: asks the hub to begin a commit, sends it once it is
//!    durable, and reports it once the wallet's history shows it. Payments are signed up to there.
//! 3. The log of the proxy's contract says which accounts may have changed; those are read again, and the hub hears what
//!    they hold.
//! 4. [`plan`] says which transactions to make, and [`act`] makes them.
//! 5. New parameters make a new instance of the contract; the old one is settled for the last time and closed. The same
//!    happens to all when the owner closes the proxy ([`Control::close`]).
//!
//! Pauses are by the monotonic clock, delays of contracts by the chain's time, so that a clock that jumps moves neither.
//! A chain that does not answer stops nothing but settlement: workers' exposure ends the service by itself. Spec: `ton.md` 1.5 to 1.10.

mod act;
mod desk;
mod fees;
mod history;
mod instance;
mod limits;
mod log;
mod plan;
mod problems;
mod round;
mod start;
mod status;
mod task;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cocoon_ledger::Ledger;
use cocoon_ton::Chain;
use cocoon_ton::chain::ChainPolicy;
use cocoon_ton::contract::Lifecycle;
use cocoon_ton::keys::SigningKey;
use cocoon_ton::wallet::Sender;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::act::Till;
use self::instance::Instance;
use self::task::Task;
use crate::books::Books;
use crate::config::SettlementConfig;
use crate::terms::ProxyTerms;

pub(crate) use self::desk::{Desk, DeskError};
pub use self::fees::Kind as SettlementKind;
pub use self::start::SettlementError;
pub use self::status::{NextAction, Phase, SettlementStatus};

/// What settlement works with.
#[derive(Clone)]
pub(crate) struct Means {
    pub(crate) chain: Arc<dyn Chain>,
    pub(crate) policy: ChainPolicy,
    /// The node's wallet, which pays fees and the stake.
    pub(crate) wallet: Sender,
    /// Signs payments.
    pub(crate) payment_key: SigningKey,
}

/// Settlement that has compared the ledger with the chain, and has not begun its work.
#[derive(Debug)]
pub(crate) struct Settlement {
    task: Task,
    desk: Desk,
}

/// Watches and closes a proxy's settlement, from before its start until after its end. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Control {
    shared: Arc<ControlShared>,
}

#[derive(Debug, Default)]
struct ControlShared {
    close: CancellationToken,
    closed: CancellationToken,
    collect: AtomicBool,
    status: Mutex<SettlementStatus>,
}

impl Settlement {
    /// Compares the ledger with the chain, then deploys and stakes the proxy's contract if it is not there. Nothing may
    /// be served before.
    ///
    /// # Errors
    ///
    /// [`SettlementError`], with which the proxy must not serve.
    pub(crate) async fn start(
        means: Means,
        config: SettlementConfig,
        terms: watch::Receiver<Arc<ProxyTerms>>,
        control: Control,
        ledger: &Ledger,
    ) -> Result<Self, SettlementError> {
        let contracts = terms.borrow().contracts.clone().ok_or(SettlementError::NoRoot)?;
        let Means { chain, policy, wallet, payment_key } = means;
        let desk = Desk::new(Arc::clone(&chain), policy, payment_key.verifying_key().to_bytes());
        let till = Till { chain, policy, wallet, payment_key };
        let found = start::start(&desk, &till, Instance::of(&contracts), ledger).await?;
        if found.state.state == Lifecycle::Closing {
            // The owner closed it, and the last process did not live to see the end.
            control.close();
        }
        let task = Task::new(desk.clone(), till, config, terms, control, found);
        Ok(Self { task, desk })
    }

    /// What sessions ask.
    pub(crate) fn desk(&self) -> Desk {
        self.desk.clone()
    }

    /// Settles until `stop`, or until the hub is gone. After [`Control::close`] it also ends once all is closed.
    pub(crate) async fn run(self, books: Books, stop: CancellationToken) {
        self.task.run(books, stop).await;
    }
}

impl Control {
    /// Takes nothing new, settles what there is for the last time, and closes the proxy's contract.
    pub(crate) fn close(&self) {
        self.shared.close.cancel();
    }

    /// Once charges, pays and withdraws all there is, whatever the thresholds and the fees.
    pub(crate) fn collect(&self) {
        self.shared.collect.store(true, Ordering::Relaxed);
    }

    /// Ends once all is done that can be done after [`Self::close`].
    pub(crate) async fn closed(&self) {
        self.shared.closed.cancelled().await;
    }

    /// Settlement at this moment.
    pub(crate) fn status(&self) -> SettlementStatus {
        self.lock().clone()
    }

    fn is_closing(&self) -> bool {
        self.shared.close.is_cancelled()
    }

    fn is_collecting(&self) -> bool {
        self.shared.collect.load(Ordering::Relaxed)
    }

    fn collected(&self) {
        self.shared.collect.store(false, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, SettlementStatus> {
        self.shared.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Means {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Means").field("chain", &self.chain).field("wallet", &self.wallet).finish_non_exhaustive()
    }
}
