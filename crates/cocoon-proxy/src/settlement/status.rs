//! What settlement shows: sums and what comes next; no wallet, no key, no peer.

use cocoon_units::{Nano, Ton};
use serde::Serialize;

use super::fees::Kind;
use super::plan::Plan;

/// Settlement at one moment. Amounts are in TON.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[non_exhaustive]
pub struct SettlementStatus {
    /// Whether the contract is deployed, staked, and new requests are taken.
    pub phase: Phase,
    /// The proxy's contract.
    pub contract: String,
    /// What its owner staked.
    pub stake: Ton,
    /// The owner's commission that was not withdrawn.
    pub commission: Ton,
    /// Coins in the contract for stake, commission and workers.
    pub funds: Ton,
    /// Time of the newest block that was read.
    pub chain_unix_s: u32,
    /// The newest commit that was seen on the chain; 0 before the first.
    pub commit_seen: u32,
    /// The commit that is on disk and was not seen on the chain yet; none when all is committed.
    pub commit_pending: Option<u32>,
    /// Seconds since the last one was seen.
    pub commit_age_s: Option<u64>,
    /// Accounts of clients.
    pub clients: usize,
    /// Accounts of workers.
    pub workers: usize,
    /// What clients owe and no transaction takes yet.
    pub uncharged: Ton,
    /// What workers are owed and no transaction pays yet.
    pub unpaid: Ton,
    /// What of these is not worth its fee: claimable by those who pay the fee themselves, or by command.
    pub dust: Ton,
    /// What clients took with them: their contracts closed before it was charged.
    pub lost: Ton,
    /// What workers earned that no signature covers yet.
    pub unsigned: Ton,
    /// The same of the worker that has most of it.
    pub unsigned_max: Ton,
    /// Transactions under way and planned, with their amounts.
    pub next: Vec<NextAction>,
    /// Earlier instances of the contract that are not closed to the end.
    pub old_instances: usize,
    /// What went wrong and has not been put right: the gravest, and how many more.
    pub problem: Option<String>,
}

/// Where settlement is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Phase {
    /// The chain is compared with the ledger, and the contract is deployed.
    #[default]
    Starting,
    /// It settles what is served.
    Serving,
    /// Nothing new is taken; what there is is settled for the last time.
    Closing,
    /// All is done that can be done.
    Closed,
}

/// A transaction to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct NextAction {
    /// What it does.
    pub kind: Kind,
    /// What it brings, or pays.
    pub amount: Ton,
}

impl SettlementStatus {
    pub(super) fn take_plan(&mut self, plan: &Plan) {
        let ton = |nano: u64| Nano::new(nano).ton();
        let sums = plan.sums;
        self.uncharged = ton(sums.uncharged);
        self.unpaid = ton(sums.unpaid);
        self.dust = ton(sums.dust);
        self.lost = ton(sums.lost);
        self.unsigned = ton(sums.unsigned);
        self.unsigned_max = ton(sums.unsigned_max);
        let next = plan.actions.iter().map(|action| NextAction { kind: action.kind, amount: action.amount.ton() });
        self.next = next.collect();
    }
}
