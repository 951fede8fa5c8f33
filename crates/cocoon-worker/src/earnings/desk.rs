//! The part of a worker that talks to the chain: looks at contracts, and presents what is worth it.
//!
//! 1. A look reads our contract and the proxy's: what is counted, what is unpaid, what the proxy can pay.
//! 2. [`rules`](super::rules) decide. What proxies should pay out by themselves is left to them for a while.
//! 3. One message goes to the contract, from this node's wallet, with the contract's code where it is not deployed yet. The
//!    money goes from the proxy's contract to the owner, the change of the fees back to the wallet.
//! 4. Only another look shows that it worked. A message that changed nothing doubles the wait for the next.
//!
//! Nothing here is trusted to be on time: a payment is good until the contract closes, and grows old without harm.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cocoon_ton::chain::{Account as OnChain, ChainPolicy, Status};
use cocoon_ton::contract::message::worker::{Claim, Close};
use cocoon_ton::contract::signed::Envelope;
use cocoon_ton::contract::{Lifecycle, ProxyState, WorkerState, codes};
use cocoon_ton::wallet::{Outgoing, Sender};
use cocoon_ton::{Address, Chain};
use cocoon_units::Nano;
use tokio::time::{Instant, sleep};

use super::account::{Account, Seen, SeenWorker, Trouble};
use super::books::Books;
use super::errand::{self, Errand};
use super::rules::{Occasion, Prospect, Step};
use super::{EarningsError, Money};
use crate::limits::{CASH_GRACE, CASH_INTERVAL, CASH_RETRY_MAX, CASH_SETTLE, ERRAND_INTERVAL};

/// What a message to our contract carries. Fees take some hundredths; the contract asks for more than 0.1 TON, and the
/// rest comes back.
const CALL_VALUE: Nano = Nano::new(200_000_000);

/// The same with the floor of 0.11 TON that the contract keeps while it is open.
const DEPLOY_VALUE: Nano = Nano::new(350_000_000);

/// One worker's desk.
#[derive(Debug)]
pub(crate) struct Desk {
    books: Arc<Books>,
    chain: Arc<dyn Chain>,
    policy: ChainPolicy,
    sender: Sender,
    folder: PathBuf,
    pace: HashMap<Address, Pace>,
}

/// When something may be done for an account.
#[derive(Debug, Default)]
struct Pace {
    look_at: Option<Instant>,
    /// Since when it has been worth cashing.
    due_since: Option<Instant>,
    not_before: Option<Instant>,
    /// How many messages changed nothing.
    failures: u32,
    /// What was uncashed and unpaid when the last message left.
    sent: Option<Prospect>,
}

impl Desk {
    pub(crate) fn new(books: Arc<Books>, money: Money) -> Self {
        let Money { chain, policy, sender, folder } = money;
        Self { books, chain, policy, sender, folder, pace: HashMap::new() }
    }

    /// Works until it is dropped. What was handed to the wallet is seen through by it.
    pub(crate) async fn run(mut self) {
        let books = Arc::clone(&self.books);
        // The file is kept also while a message waits for the chain.
        tokio::join!(books.keep(), self.work());
    }

    async fn work(&mut self) {
        loop {
            match errand::take(&self.folder).await {
                Some(errand) => {
                    // What came of it is logged and shown with the account.
                    self.command(errand).await;
                }
                None => self.keep_rules().await,
            }
            tokio::select! {
                () = sleep(ERRAND_INTERVAL) => {}
                () = self.books.news() => {}
            }
        }
    }

    /// Cashes what the rules say.
    async fn keep_rules(&mut self) {
        let contracts = self.books.each(|account| is_of_interest(account).then(|| account.contract()));
        for contract in contracts.into_iter().flatten() {
            let now = Instant::now();
            let pace = self.pace.entry(contract).or_default();
            if pace.look_at.is_some_and(|at| now < at) {
                continue;
            }
            pace.look_at = Some(now + CASH_INTERVAL);
            if let Some(account) = self.books.copy(&contract) {
                self.keep_rule(&account).await;
            }
        }
    }

    async fn keep_rule(&mut self, account: &Account) {
        let Some(prospect) = self.look(account).await else { return };
        let occasion = Occasion::Rule { is_idle: self.is_idle(account) };
        let step = prospect.step(occasion, self.books.config());
        let pace = self.pace.entry(account.contract()).or_default();
        let Some(step) = pace.next(step, prospect, Instant::now()) else { return };
        // An error is logged and shown with the account.
        let _ = self.take(account, step, prospect).await;
    }

    /// Does what a person asked for, for every account from which something is to be had.
    pub(crate) async fn command(&mut self, errand: Errand) -> Vec<Done> {
        let mut done = Vec::new();
        for account in self.books.each(Account::clone) {
            let Some(prospect) = self.look(&account).await else { continue };
            if let Some(step) = prospect.step(Occasion::Command, self.books.config()) {
                let sent = self.take(&account, step, prospect).await;
                done.push(Done { contract: account.contract(), collectable: prospect.collectable, error: sent.err() });
            }
            if errand == Errand::Close
                && let Some(sent) = self.close(&account).await
            {
                done.push(Done { contract: account.contract(), collectable: Nano::ZERO, error: sent.err() });
            }
        }
        done
    }

    /// Looks at the chain, and shows what stands against it.
    async fn look(&self, account: &Account) -> Option<Prospect> {
        match see(self.chain.as_ref(), self.policy, account, self.books.now_unix_s()).await {
            Ok(seen) => {
                let prospect = Prospect::of(account, &seen);
                self.books.change(&account.contract(), |account| {
                    account.troubles.remove(&Trouble::Chain);
                    show_closed(account, &seen);
                    ((), account.look(seen))
                });
                Some(prospect)
            }
            Err(error) => {
                self.trouble(
                    account,
                    Trouble::Chain,
                    format!("the chain does not tell how the contract stands: {error}"),
                );
                None
            }
        }
    }

    async fn take(&mut self, account: &Account, step: Step, prospect: Prospect) -> Result<(), String> {
        let message = self.message(account, step).ok_or_else(|| "there is nothing to present".to_owned())?;
        let (contract, amount) = (account.contract(), prospect.collectable.ton());
        let sent = self.sender.send(vec![message]).await;
        let pace = self.pace.entry(contract).or_default();
        pace.sent(prospect, Instant::now());
        match sent {
            Ok(_) => {
                tracing::info!(%contract, %amount, ?step, "earnings are being cashed");
                self.books.change(&contract, |account| (account.troubles.remove(&Trouble::Cash), None));
                Ok(())
            }
            Err(error) => {
                tracing::warn!(%contract, %amount, %error, "earnings cannot be cashed");
                self.trouble(account, Trouble::Cash, format!("{amount} TON cannot be cashed: {error}"));
                Err(error.to_string())
            }
        }
    }

    fn message(&self, account: &Account, step: Step) -> Option<Outgoing> {
        let (contract, excesses_to) = (account.contract(), self.sender.address());
        match step {
            Step::Claim => {
                let body = Claim { query_id: 0, excesses_to }.to_cell();
                Some(Outgoing::call(contract, CALL_VALUE, body))
            }
            Step::Present => {
                let signed = account.signed()?.envelope.signed;
                let body = Envelope { signed, excesses_to }.to_cell();
                if self.is_deployed(&contract) {
                    return Some(Outgoing::call(contract, CALL_VALUE, body));
                }
                Some(Outgoing::call(contract, DEPLOY_VALUE, body).with_state_init(account.init().clone()))
            }
        }
    }

    /// Closes our contract, if this wallet is its owner's.
    async fn close(&self, account: &Account) -> Option<Result<(), String>> {
        let is_open = self.seen(&account.contract())?.worker?.state != Lifecycle::Closed;
        let owner = self.sender.address();
        if !is_open || owner != account.owner() {
            return None;
        }
        let body = Close { query_id: 0, excesses_to: owner }.to_cell();
        let sent = self.sender.send(vec![Outgoing::call(account.contract(), CALL_VALUE, body)]).await;
        Some(sent.map(|_| ()).map_err(|error| error.to_string()))
    }

    /// As of the last look, which may be newer than a copy of the account.
    fn is_deployed(&self, contract: &Address) -> bool {
        self.seen(contract).is_some_and(|seen| seen.worker.is_some())
    }

    fn seen(&self, contract: &Address) -> Option<Seen> {
        self.books.change(contract, |account| (account.seen, None)).flatten()
    }

    fn is_idle(&self, account: &Account) -> bool {
        let quiet_s = self.books.now_unix_s().saturating_sub(account.paid_at_unix_s.unwrap_or_default());
        quiet_s >= self.books.config().idle_s
    }

    fn trouble(&self, account: &Account, trouble: Trouble, text: String) {
        self.books.change(&account.contract(), |account| (account.troubles.insert(trouble, text), None));
    }
}

/// What a command did for one contract.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) contract: Address,
    pub(crate) collectable: Nano,
    pub(crate) error: Option<String>,
}

impl Pace {
    /// The step that is taken now, if any.
    fn next(&mut self, step: Option<Step>, prospect: Prospect, now: Instant) -> Option<Step> {
        if self.sent.is_some_and(|sent| (sent.uncashed, sent.unpaid) != (prospect.uncashed, prospect.unpaid)) {
            self.failures = 0;
            self.sent = None;
        }
        let Some(step) = step else {
            self.due_since = None;
            return None;
        };
        let due_since = *self.due_since.get_or_insert(now);
        let is_free = self.not_before.is_none_or(|not_before| now >= not_before);
        (is_free && now.duration_since(due_since) >= CASH_GRACE).then_some(step)
    }

    /// Something left, or could not.
    fn sent(&mut self, prospect: Prospect, now: Instant) {
        let wait = CASH_SETTLE.saturating_mul(1_u32.checked_shl(self.failures).unwrap_or(u32::MAX)).min(CASH_RETRY_MAX);
        self.not_before = now.checked_add(wait);
        self.failures = self.failures.saturating_add(1).min(16);
        self.sent = Some(prospect);
        self.look_at = now.checked_add(wait.min(Duration::from_secs(u64::from(u32::MAX))));
    }
}

/// Whether a look could lead to anything.
fn is_of_interest(account: &Account) -> bool {
    let Some(seen) = account.seen else { return account.signed().is_some() };
    Prospect::of(account, &seen).is_something()
}

/// Reads both contracts.
pub(super) async fn see(
    chain: &dyn Chain,
    policy: ChainPolicy,
    account: &Account,
    at_unix_s: u64,
) -> Result<Seen, EarningsError> {
    let ours = chain.account(&account.contract()).await?.for_money(policy)?;
    let theirs = chain.account(&account.proxy()).await?.for_money(policy)?;
    let worker = match active(&ours) {
        Some(data) => {
            let WorkerState { state, tokens, unpaid, .. } = WorkerState::parse(data)?;
            Some(SeenWorker { state, tokens, unpaid })
        }
        None => None,
    };
    let proxy = active(&theirs).map(ProxyState::parse).transpose()?;
    let payable = proxy.as_ref().map_or(Nano::ZERO, |proxy| payable(&theirs, proxy));
    Ok(Seen { at_unix_s, worker, proxy: proxy.map(|proxy| proxy.state), payable })
}

fn active(account: &OnChain) -> Option<&cocoon_ton::Cell> {
    (account.status == Status::Active).then_some(account.data.as_ref()).flatten()
}

/// Our proxies' contracts say how much is there to pay with; the original's pay from what they hold.
fn payable(account: &OnChain, proxy: &ProxyState) -> Nano {
    let is_ours = account.code.as_ref() == Some(&codes().published().proxy);
    if is_ours { proxy.funds } else { account.balance }
}

fn show_closed(account: &mut Account, seen: &Seen) {
    let lost = account.worth(account.uncashed(seen));
    let is_closed = seen.worker.is_some_and(|worker| worker.state == Lifecycle::Closed);
    if is_closed && lost > Nano::ZERO {
        let text = format!("our contract is closed, and takes no payment for {} TON any more", lost.ton());
        account.troubles.insert(Trouble::Cash, text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sends_that_change_nothing_come_ever_more_rarely() {
        let prospect = Prospect::default();
        let mut pace = Pace::default();
        let start = Instant::now();
        assert_eq!(pace.next(Some(Step::Present), prospect, start), None);
        let mut now = start + CASH_GRACE;
        let mut waits = Vec::new();
        for _ in 0..14 {
            assert_eq!(pace.next(Some(Step::Present), prospect, now), Some(Step::Present));
            pace.sent(prospect, now);
            let wait = pace.not_before.unwrap() - now;
            waits.push(wait.as_secs());
            assert_eq!(pace.next(Some(Step::Present), prospect, now + wait / 2), None);
            now += wait;
        }
        assert_eq!((waits[0], waits[1], waits[13]), (60, 120, CASH_RETRY_MAX.as_secs()));
        let mut other = prospect;
        other.uncashed = Nano::new(1);
        assert_eq!(pace.next(Some(Step::Present), other, now), Some(Step::Present));
        pace.sent(other, now);
        assert_eq!(pace.not_before.unwrap() - now, CASH_SETTLE);
    }

    #[test]
    fn what_a_proxy_pays_out_by_itself_is_left_to_it() {
        let mut pace = Pace::default();
        let start = Instant::now();
        assert_eq!(pace.next(Some(Step::Present), Prospect::default(), start), None);
        assert_eq!(pace.next(None, Prospect::default(), start + CASH_GRACE), None);
        assert_eq!(pace.next(Some(Step::Present), Prospect::default(), start + CASH_GRACE), None);
    }
}
