//! The till: makes one transaction of a plan, waits for its change, and says what it cost.
//!
//! 1. A payment is signed for this one transaction; its number (query id) is drawn at random, and comes back with the change.
//! 2. The wallet's sender brings it to the chain exactly once.
//! 3. The change is looked for among the wallet's transactions. It comes after all contracts on the way have run; a
//!    message that a contract refused comes back as it was.

use std::sync::Arc;

use cocoon_ledger::Commit;
use cocoon_ton::Address;
use cocoon_ton::chain::{Chain, ChainError, ChainPolicy, Message, MessageKind, Transaction};
use cocoon_ton::contract::message::{proxy, worker};
use cocoon_ton::contract::note::{Bounced, LogEntry, Note};
use cocoon_ton::contract::{StateError, signed};
use cocoon_ton::keys::SigningKey;
use cocoon_ton::wallet::{Outgoing, Past, PastOutcome, SendError, Sender, Sent, mode};
use cocoon_units::Nano;
use tokio::time::timeout;

use super::fees::Kind;
use super::instance::Instance;
use super::limits::{
    CHANGE_PAGES_MAX, CHANGE_POLL, CHANGE_TIMEOUT, COMMIT_VALUE, DEPLOY_VALUE, FORWARD_REST, LOG_PAGE, MESSAGE_VALUE,
};
use super::plan::Action;

/// What settlement pays and signs with. Clones are the same.
#[derive(Clone)]
pub(super) struct Till {
    pub(super) chain: Arc<dyn Chain>,
    pub(super) policy: ChainPolicy,
    pub(super) wallet: Sender,
    pub(super) payment_key: SigningKey,
}

/// Why an action was not done, or is not known to be.
#[derive(Debug, thiserror::Error)]
pub(super) enum ActError {
    /// The wallet did not send.
    #[error(transparent)]
    Wallet(#[from] SendError),
    /// The chain does not answer.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// No contract can be made of these parameters.
    #[error(transparent)]
    Parameters(#[from] StateError),
    /// It came back.
    #[error("the contract {} refused the message", .0.raw())]
    Refused(Address),
    /// Neither change nor refusal came.
    #[error("nothing came back of a message to {} in time", .0.raw())]
    NoChange(Address),
    /// Ours: a bug. Whether anything was sent is not known; what is on the chain says it.
    #[error("it panicked: see the log, and report it")]
    Panicked,
    /// The system gives no random numbers.
    #[error("the system gives no random numbers")]
    NoRandomness,
}

impl Till {
    /// Makes the transaction, and says what it cost; `None` where that says nothing of the next one.
    pub(super) async fn act(&self, action: &Action, instance: &Instance) -> Result<Option<Nano>, ActError> {
        let query_id = query_id()?;
        let message = self.message(action, instance, query_id)?;
        let deploys = message.state_init.is_some();
        let cost = self.send(message, query_id, instance.contract).await?;
        // What a deployment leaves in the contract is no fee.
        Ok((!deploys).then_some(cost))
    }

    /// Sends one message to a contract of this proxy, which returns its change, and says what it cost.
    async fn send(&self, message: Outgoing, query_id: u64, proxy: Address) -> Result<Nano, ActError> {
        let (to, value) = (message.to, message.value);
        let sent = self.wallet.send(vec![message]).await?;
        let (change, fees) = match timeout(CHANGE_TIMEOUT, self.change(&sent, [to, proxy], query_id)).await {
            Ok(change) => change?,
            Err(_) => return Err(ActError::NoChange(to)),
        };
        let messages = u64::try_from(sent.transaction.out_messages.len()).unwrap_or(u64::MAX).max(1);
        let share = sent.transaction.fees.get().div_ceil(messages);
        let cost = value.get().saturating_sub(change.get()).saturating_add(share).saturating_add(fees.get());
        Ok(Nano::new(cost.saturating_add(FORWARD_REST.get())))
    }

    fn message(&self, action: &Action, instance: &Instance, query_id: u64) -> Result<Outgoing, StateError> {
        let (contract, tokens, back) = (action.contract, action.tokens, self.wallet.address());
        let sign = |payment: signed::Payment| payment.sign(&self.payment_key).envelope(back);
        let body = match action.kind {
            Kind::Charge => sign(signed::charge(contract, query_id, tokens)),
            Kind::Grant => sign(signed::grant_refund(contract, query_id, tokens)),
            Kind::Payout => sign(signed::payout(contract, query_id, tokens)),
            Kind::LastPayout => sign(signed::last_payout(contract, query_id, tokens)),
            Kind::Claim => worker::Claim { query_id, excesses_to: back }.to_cell(),
            Kind::Withdraw => proxy::PayoutRequest { query_id, excesses_to: back }.to_cell(),
            Kind::CloseRequest => sign(signed::close_request(contract, query_id)),
            Kind::CloseComplete => sign(signed::close_complete(contract, query_id)),
        };
        match action.deploy_for {
            None => Ok(Outgoing::call(contract, MESSAGE_VALUE, body)),
            Some(owner) => {
                let init = instance.worker_init(owner)?;
                Ok(Outgoing::call(contract, DEPLOY_VALUE, body).with_state_init(init))
            }
        }
    }

    /// The change of what was sent, and what receiving it cost.
    async fn change(&self, sent: &Sent, from: [Address; 2], query_id: u64) -> Result<(Nano, Nano), ActError> {
        let wallet = self.wallet.address();
        let mut changes = self.chain.subscribe(&wallet).await?;
        let (mut after, mut pages) = (Some(sent.transaction.id), 0);
        while pages < CHANGE_PAGES_MAX {
            changes.mark_unchanged();
            let page = self.chain.transactions(&wallet, after, LOG_PAGE).await?.for_money(self.policy)?;
            for transaction in &page {
                match came_back(transaction, from, query_id) {
                    Some(CameBack::Change(value)) => return Ok((value, transaction.fees)),
                    Some(CameBack::Refused(by)) => return Err(ActError::Refused(by)),
                    None => after = Some(transaction.id),
                }
            }
            if page.len() == LOG_PAGE {
                pages += 1;
            } else {
                // A poll that is late is only a late answer.
                let _ = timeout(CHANGE_POLL, changes.changed()).await;
            }
        }
        Err(ActError::NoChange(from[0]))
    }

    /// Sends a commit to this contract. Nothing comes back of it; the wallet's history shows it.
    pub(super) async fn commit(&self, commit: Commit, contract: Address) -> Result<(), ActError> {
        let message = commit_message(commit, contract);
        self.wallet.send(vec![message]).await?;
        Ok(())
    }

    /// Whether an earlier process sent this commit, and it left.
    pub(super) async fn sent_before(&self, commit: Commit, contract: Address) -> bool {
        let body = commit_message(commit, contract).body.map(|body| body.repr_hash().0);
        let Some(Past { messages, outcome: PastOutcome::Landed(_) }) = self.wallet.past().await else { return false };
        messages.into_iter().any(|(to, hash)| to == contract && Some(hash) == body)
    }

    /// Deploys the instance's contract, or adds to its stake.
    pub(super) async fn stake(&self, instance: &Instance, amount: Nano, deploy: bool) -> Result<(), ActError> {
        let query_id = query_id()?;
        let body = proxy::IncreaseStake { query_id, amount, excesses_to: self.wallet.address() }.to_cell();
        let value = Nano::new(amount.get().saturating_add(DEPLOY_VALUE.get()));
        let call = Outgoing::call(instance.contract, value, body);
        let call = if deploy { call.with_state_init(instance.state_init()?) } else { call };
        self.send(call, query_id, instance.contract).await.map(|_| ())
    }
}

/// The number of a commit is that of its message: sent twice, it is the same message.
fn commit_message(commit: Commit, contract: Address) -> Outgoing {
    let Commit { number, digest } = commit;
    let entry = LogEntry::ProxyState { query_id: u64::from(number), seqno: number, unique_hash: digest };
    Outgoing {
        to: contract,
        value: COMMIT_VALUE,
        bounce: false,
        mode: mode::PAY_FEES_SEPARATELY,
        body: Some(Note::DoNotProcess(entry).to_cell()),
        state_init: None,
    }
}

enum CameBack {
    Change(Nano),
    Refused(Address),
}

/// Whether a transaction of the wallet is the end of what was sent: it comes from the contract that got the message, or
/// from the last one on the way. Anybody else who writes this number wants to spoil what we learn of fees.
fn came_back(transaction: &Transaction, senders: [Address; 2], query_id: u64) -> Option<CameBack> {
    let message = transaction.in_message.as_ref()?;
    let MessageKind::Internal { from, value, bounced, .. } = message.kind else { return None };
    if !senders.contains(&from) {
        return None;
    }
    if bounced {
        return (bounced_query(message) == Some(query_id)).then_some(CameBack::Refused(from));
    }
    matches!(Note::parse(&message.body), Ok(Note::Excesses { query_id: found }) if found == query_id)
        .then_some(CameBack::Change(value))
}

/// The number of a message that came back: it begins as it was sent, `op:32 query_id:64`.
fn bounced_query(message: &Message) -> Option<u64> {
    let Bounced { body, .. } = Bounced::parse(&message.body).ok()?;
    let mut body = body.as_slice().ok()?;
    body.skip_first(32, 0).ok()?;
    body.load_u64().ok()
}

fn query_id() -> Result<u64, ActError> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|_| ActError::NoRandomness)?;
    Ok(u64::from_le_bytes(bytes))
}
