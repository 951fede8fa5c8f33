//! What to do next on the chain: a pure function of what accounts stand at, what contracts hold, what a transaction
//! costs, and the rules.
//!
//! While the proxy serves:
//!
//! 1. A client is charged once it owes `charge_at`, or half of what its contract secures, since its credit ends soon
//!    after, or as soon as it is worth the fee where workers wait for money. Never above what is committed.
//! 2. A worker is paid once it is owed `payout_at`, and only from funds that are there: neither the stake nor what
//!    other payouts take. What the contract once could not pay is claimed again when it can.
//! 3. The commission is withdrawn once it is `withdraw_at`, and the funds pay all of it beside all that workers are
//!    owed: the contract pays what there is of it, not what we ask for.
//! 4. None of it when the fee is more than `fee_percent_max` percent of the amount. What is left is dust: claimable,
//!    and shown. A client whose contract secures less than such an amount is charged by command or when it leaves; until
//!    then what it owes is secured, and once that is all it has, nothing more is sold to it.
//! 5. A client that closes is charged before its delay is over, as soon as nothing of it runs, where that brings more
//!    than it costs; afterwards nothing can be charged any more.
//!
//! An instance that is left (another one took its place, or the owner closes the proxy): the close begins at once, and its delay runs while
//! clients are charged for the last time; when none is left, workers are paid for the last time; when the delay is over,
//! the close completes, and what is left of the commission is withdrawn. As long as not all accounts were read
//! ([`Scene::incomplete`]), none of them may be the last.

use std::collections::BTreeMap;

use cocoon_ton::Address;
use cocoon_ton::contract::Lifecycle;
use cocoon_units::Nano;

use super::fees::{Fees, Kind};
use super::limits::CLOSE_MARGIN_S;
use crate::config::SettlementConfig;

#[cfg(test)]
mod tests;

/// All that a plan depends on.
#[derive(Debug, Clone)]
pub(super) struct Scene<'a> {
    pub(super) rules: &'a SettlementConfig,
    pub(super) fees: Fees,
    /// Time of the newest block that was read.
    pub(super) chain_unix_s: u32,
    pub(super) proxies: Vec<ProxyView>,
    pub(super) clients: Vec<ClientView>,
    pub(super) workers: Vec<WorkerView>,
    /// There are accounts whose contracts were not read yet: somebody may still owe, or be owed.
    pub(super) incomplete: bool,
    /// Contracts that are left alone, since an action on them is under way or has just failed, with what it takes from
    /// the proxy's funds.
    pub(super) busy: BTreeMap<Address, Nano>,
    /// The owner asked for all there is: thresholds and fees count for nothing.
    pub(super) collect: bool,
}

/// An instance of the proxy's contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ProxyView {
    pub(super) contract: Address,
    /// `None`: it serves.
    pub(super) leaving: Option<Leaving>,
    pub(super) lifecycle: Lifecycle,
    pub(super) balance: u64,
    pub(super) stake: u64,
    pub(super) funds: u64,
    pub(super) unlock_unix_s: u32,
    pub(super) price: u64,
    pub(super) worker_fee: u64,
}

/// Why an instance is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leaving {
    /// Another one took its place.
    Moved,
    /// The owner said so: fees count less than being done.
    ByCommand,
}

/// A client's account and contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ClientView {
    pub(super) contract: Address,
    pub(super) proxy: Address,
    /// Counted.
    pub(super) known: u64,
    /// Seen on the chain: signatures go up to here.
    pub(super) committed: u64,
    /// Requests that run.
    pub(super) in_flight: u64,
    /// The hub begins nothing new for it, and `in_flight` was counted after it was told so.
    pub(super) shut: bool,
    pub(super) lifecycle: Lifecycle,
    pub(super) balance: u64,
    pub(super) stake: u64,
    pub(super) charged: u64,
    pub(super) due: u64,
    pub(super) unlock_unix_s: u32,
}

/// A worker's account and contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WorkerView {
    pub(super) contract: Address,
    pub(super) proxy: Address,
    pub(super) known: u64,
    pub(super) committed: u64,
    pub(super) deployed: bool,
    /// Who deploys to: needed where it is not deployed.
    pub(super) owner: Option<Address>,
    pub(super) lifecycle: Lifecycle,
    pub(super) paid: u64,
    pub(super) unpaid_worker: u64,
    pub(super) unpaid_proxy: u64,
}

/// A transaction to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Action {
    pub(super) kind: Kind,
    /// The contract that it goes to.
    pub(super) contract: Address,
    /// The instance that it is of.
    pub(super) proxy: Address,
    /// The count that is signed, where the kind has one.
    pub(super) tokens: u64,
    /// What it brings, or pays.
    pub(super) amount: Nano,
    /// The owner to deploy a worker's contract for.
    pub(super) deploy_for: Option<Address>,
}

/// What to do, and what there is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) actions: Vec<Action>,
    /// Accounts of which nothing can be claimed any more.
    pub(super) done: Vec<Address>,
    /// Instances that are closed to the end.
    pub(super) over: Vec<Address>,
    pub(super) sums: Sums,
}

/// Sums over all instances, in nano.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sums {
    /// What clients owe and no action takes.
    pub(super) uncharged: u64,
    /// What workers are owed and no action pays.
    pub(super) unpaid: u64,
    /// Of these, what is not worth its fee now.
    pub(super) dust: u64,
    /// What can never be charged any more: the client's contract closed without.
    pub(super) lost: u64,
    /// What workers earned above what is committed.
    pub(super) unsigned: u64,
    /// The largest of these of one worker.
    pub(super) unsigned_max: u64,
}

/// What to do next.
pub(super) fn plan(scene: &Scene<'_>) -> Plan {
    let mut plan = Plan::default();
    for proxy in &scene.proxies {
        let clients = scene.clients.iter().filter(|client| client.proxy == proxy.contract).copied().collect();
        let workers = scene.workers.iter().filter(|worker| worker.proxy == proxy.contract).copied().collect();
        let mut turn = Turn { scene, proxy: *proxy, clients, workers, plan: &mut plan };
        turn.count_unsigned();
        match proxy.leaving {
            None => turn.serve(),
            Some(why) => turn.leave(why),
        }
    }
    plan
}

/// One instance's turn.
struct Turn<'a, 'b> {
    scene: &'a Scene<'a>,
    proxy: ProxyView,
    clients: Vec<ClientView>,
    workers: Vec<WorkerView>,
    plan: &'b mut Plan,
}

/// Whether anything of a kind is still to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rest {
    Pending,
    Over,
}

impl Turn<'_, '_> {
    // ---- while it serves ------------------------------------------------------------------------

    fn serve(&mut self) {
        let mut purse = self.free_funds();
        let wanted = self.workers.iter().map(|worker| self.due_now(worker)).fold(0, u64::saturating_add);
        for client in self.clients.clone() {
            self.serve_client(&client, wanted > purse);
        }
        self.withdraw_commission(&mut purse);
        for worker in self.workers.clone() {
            self.serve_worker(&worker, &mut purse);
        }
    }

    /// Funds that are for workers: neither the stake nor what actions under way will take.
    fn free_funds(&self) -> u64 {
        let taken = |worker: &WorkerView| self.scene.busy.get(&worker.contract).copied().unwrap_or_default().get();
        let own = self.scene.busy.get(&self.proxy.contract).copied().unwrap_or_default().get();
        let taken = self.workers.iter().map(taken).fold(own, u64::saturating_add);
        self.proxy.funds.saturating_sub(self.proxy.stake).saturating_sub(taken)
    }

    fn serve_client(&mut self, client: &ClientView, workers_wait: bool) {
        match client.lifecycle {
            Lifecycle::Normal => self.charge_by_threshold(client, workers_wait),
            Lifecycle::Closing => {
                self.charge_the_leaving(client);
            }
            Lifecycle::Closed => {
                self.after_the_close(client);
            }
        }
    }

    fn charge_by_threshold(&mut self, client: &ClientView, workers_wait: bool) {
        let amount = self.chargeable(client);
        let threshold = if workers_wait || self.scene.collect {
            0
        } else {
            let credit_ends = client.balance.min(client.stake) / 2;
            self.scene.rules.charge_at.nano().get().min(credit_ends)
        };
        if amount >= threshold && self.is_worth(amount, Kind::Charge) && !self.is_busy(client.contract) {
            return self.act(Kind::Charge, client.contract, client.committed, amount);
        }
        self.leave_uncharged(amount, Kind::Charge);
    }

    /// A client in its delay: charged once nothing of it runs, or when time runs out.
    fn charge_the_leaving(&mut self, client: &ClientView) -> Rest {
        let amount = self.chargeable(client);
        let now = self.scene.chain_unix_s;
        if now > client.unlock_unix_s {
            // The owner alone decides now; what was not charged is gone with the refund.
            self.plan.sums.lost = self.plan.sums.lost.saturating_add(amount);
            return Rest::Over;
        }
        if self.is_busy(client.contract) {
            return Rest::Pending;
        }
        if client.is_idle() {
            if amount > self.fee(Kind::Grant) {
                self.act(Kind::Grant, client.contract, client.committed, amount);
                return Rest::Pending;
            }
            self.leave_uncharged(amount, Kind::Grant);
            return Rest::Over;
        }
        if client.unlock_unix_s.saturating_sub(now) < CLOSE_MARGIN_S && amount > self.fee(Kind::Charge) {
            self.act(Kind::Charge, client.contract, client.committed, amount);
        }
        Rest::Pending
    }

    /// A closed client: only what bounced off a dead proxy may still be here.
    fn after_the_close(&mut self, client: &ClientView) -> Rest {
        if self.is_busy(client.contract) {
            return Rest::Pending;
        }
        let may_sign = client.committed >= client.charged;
        if may_sign && client.due > self.fee(Kind::Grant) && self.scene.chain_unix_s <= client.unlock_unix_s {
            self.act(Kind::Grant, client.contract, client.committed, client.due);
            return Rest::Pending;
        }
        if client.in_flight > 0 || client.known > client.committed {
            return Rest::Pending;
        }
        let lost = u64::try_from(owed(client.known, client.charged, self.proxy.price)).unwrap_or(u64::MAX);
        self.plan.sums.lost = self.plan.sums.lost.saturating_add(lost);
        self.plan.done.push(client.contract);
        Rest::Over
    }

    fn serve_worker(&mut self, worker: &WorkerView, purse: &mut u64) {
        let owed = self.owed(worker);
        if !self.is_busy(worker.contract) {
            let is_new = worker.committed > worker.paid && worker.lifecycle != Lifecycle::Closed;
            let is_due = is_new && self.is_due(owed) && self.is_worth(owed, Kind::Payout);
            if is_due && owed <= *purse && worker.can_be_paid() {
                *purse -= owed;
                return self.pay(Kind::Payout, worker, owed);
            }
            let unpaid = worker.unpaid_worker;
            if unpaid > 0 && unpaid <= *purse && self.is_worth(unpaid, Kind::Claim) {
                *purse -= unpaid;
                self.act(Kind::Claim, worker.contract, worker.paid, unpaid);
                return;
            }
        }
        self.leave_unpaid(owed, Kind::Payout);
        let owes_nothing = worker.unpaid_worker == 0 && worker.unpaid_proxy == 0 && worker.known <= worker.committed;
        if worker.lifecycle == Lifecycle::Closed && owes_nothing {
            self.plan.done.push(worker.contract);
        }
    }

    /// The contract pays all of its commission, as far as the funds above the stake go, whatever was planned. So it is
    /// asked only where these pay workers as well, for all that is counted. It comes before payouts, which add to the
    /// commission.
    fn withdraw_commission(&mut self, purse: &mut u64) {
        let known = |worker: &WorkerView| {
            let owed = owed(worker.known, worker.paid, self.proxy.worker_fee);
            u64::try_from(owed).unwrap_or(u64::MAX).saturating_add(worker.unpaid_worker)
        };
        let workers = self.workers.iter().map(known).fold(0, u64::saturating_add);
        let amount = self.proxy.balance;
        let is_enough = self.scene.collect || amount >= self.scene.rules.withdraw_at.nano().get();
        let is_covered = !self.scene.incomplete && purse.saturating_sub(workers) >= amount;
        if is_enough && is_covered && self.is_worth(amount, Kind::Withdraw) && !self.is_busy(self.proxy.contract) {
            *purse -= amount;
            self.act(Kind::Withdraw, self.proxy.contract, 0, amount);
        }
    }

    // ---- while it is left -----------------------------------------------------------------------

    fn leave(&mut self, why: Leaving) {
        if self.proxy.lifecycle == Lifecycle::Normal && !self.is_busy(self.proxy.contract) {
            self.act(Kind::CloseRequest, self.proxy.contract, 0, 0);
        }
        let mut rest = if self.scene.incomplete { Rest::Pending } else { Rest::Over };
        for client in self.clients.clone() {
            rest = rest.and(self.leave_client(&client, why));
        }
        if rest == Rest::Over {
            for worker in self.workers.clone() {
                rest = rest.and(self.leave_worker(&worker, why));
            }
        }
        if rest == Rest::Over && !self.is_busy(self.proxy.contract) {
            self.finish();
        }
    }

    fn leave_client(&mut self, client: &ClientView, why: Leaving) -> Rest {
        match client.lifecycle {
            Lifecycle::Closed => return self.after_the_close(client),
            Lifecycle::Closing if why == Leaving::Moved => return self.charge_the_leaving(client),
            Lifecycle::Closing if self.scene.chain_unix_s > client.unlock_unix_s => {
                return self.charge_the_leaving(client);
            }
            Lifecycle::Closing | Lifecycle::Normal => {}
        }
        if !client.is_idle() || self.is_busy(client.contract) {
            return Rest::Pending;
        }
        let amount = self.chargeable(client);
        if why == Leaving::ByCommand || amount > self.fee(Kind::Grant) {
            self.act(Kind::Grant, client.contract, client.committed, amount);
            return Rest::Pending;
        }
        self.leave_uncharged(amount, Kind::Grant);
        if amount == 0 && self.proxy.lifecycle == Lifecycle::Closed {
            self.plan.done.push(client.contract);
        }
        Rest::Over
    }

    fn leave_worker(&mut self, worker: &WorkerView, why: Leaving) -> Rest {
        if worker.known > worker.committed || self.is_busy(worker.contract) {
            return Rest::Pending;
        }
        let (owed, commission) = (self.owed(worker), self.commission(worker));
        let brings = owed.saturating_add(commission);
        let is_wanted =
            brings > self.fee(Kind::LastPayout) || (why == Leaving::ByCommand && (worker.deployed || brings > 0));
        if worker.lifecycle != Lifecycle::Closed && is_wanted && worker.can_be_paid() {
            self.pay(Kind::LastPayout, worker, owed);
            return Rest::Pending;
        }
        let unpaid = worker.unpaid_worker.min(self.proxy.funds);
        if unpaid > self.fee(Kind::Claim) {
            self.act(Kind::Claim, worker.contract, worker.paid, unpaid);
            return Rest::Pending;
        }
        self.leave_unpaid(owed, Kind::LastPayout);
        let is_final = worker.lifecycle == Lifecycle::Closed || self.proxy.lifecycle == Lifecycle::Closed;
        if is_final && brings == 0 {
            self.plan.done.push(worker.contract);
        }
        Rest::Over
    }

    /// Everybody had their turn: the close completes, then what is left of the commission is withdrawn.
    fn finish(&mut self) {
        match self.proxy.lifecycle {
            Lifecycle::Normal => {}
            Lifecycle::Closing => {
                if self.scene.chain_unix_s > self.proxy.unlock_unix_s {
                    let amount = self.proxy.stake.saturating_add(self.proxy.balance).min(self.proxy.funds);
                    self.act(Kind::CloseComplete, self.proxy.contract, 0, amount);
                }
            }
            Lifecycle::Closed => {
                let amount = self.proxy.balance.min(self.proxy.funds);
                if amount > self.fee(Kind::Withdraw) {
                    self.act(Kind::Withdraw, self.proxy.contract, 0, amount);
                } else {
                    self.plan.over.push(self.proxy.contract);
                }
            }
        }
    }

    // ---- amounts --------------------------------------------------------------------------------

    /// What a charge of all that is committed takes now: whole tokens that the balance pays for, and what bounced.
    fn chargeable(&self, client: &ClientView) -> u64 {
        let price = u128::from(self.proxy.price);
        let affordable = u128::from(client.balance).checked_div(price).unwrap_or(0);
        let tokens = u128::from(client.committed.saturating_sub(client.charged)).min(affordable);
        // At most the balance, so it fits.
        u64::try_from(tokens.saturating_mul(price)).unwrap_or(u64::MAX).saturating_add(client.due)
    }

    /// What the chain owes a worker once all that is committed is presented. A closed contract counts nothing new.
    fn owed(&self, worker: &WorkerView) -> u64 {
        let new = match worker.lifecycle {
            Lifecycle::Normal | Lifecycle::Closing => owed(worker.committed, worker.paid, self.proxy.worker_fee),
            Lifecycle::Closed => 0,
        };
        u64::try_from(new).unwrap_or(u64::MAX).saturating_add(worker.unpaid_worker)
    }

    /// The owner's part of the same.
    fn commission(&self, worker: &WorkerView) -> u64 {
        let share = self.proxy.price.saturating_sub(self.proxy.worker_fee);
        let new = match worker.lifecycle {
            Lifecycle::Normal | Lifecycle::Closing => owed(worker.committed, worker.paid, share),
            Lifecycle::Closed => 0,
        };
        u64::try_from(new).unwrap_or(u64::MAX).saturating_add(worker.unpaid_proxy)
    }

    /// What a worker waits for, where it is enough to be paid.
    fn due_now(&self, worker: &WorkerView) -> u64 {
        let owed = self.owed(worker);
        if self.is_due(owed) { owed } else { worker.unpaid_worker }
    }

    fn is_due(&self, owed: u64) -> bool {
        self.scene.collect || owed >= self.scene.rules.payout_at.nano().get()
    }

    fn count_unsigned(&mut self) {
        for worker in &self.workers {
            let unsigned = owed(worker.known, worker.committed, self.proxy.worker_fee);
            let unsigned = u64::try_from(unsigned).unwrap_or(u64::MAX);
            let sums = &mut self.plan.sums;
            sums.unsigned = sums.unsigned.saturating_add(unsigned);
            sums.unsigned_max = sums.unsigned_max.max(unsigned);
        }
    }

    // ---- rules ----------------------------------------------------------------------------------

    fn fee(&self, kind: Kind) -> u64 {
        self.scene.fees.of(kind).get()
    }

    /// Whether the fee is at most so many percent of the amount.
    fn is_worth(&self, amount: u64, kind: Kind) -> bool {
        let allowed = u128::from(amount) * u128::from(self.scene.rules.fee_percent_max);
        amount > 0 && (self.scene.collect || u128::from(self.fee(kind)) * 100 <= allowed)
    }

    fn is_busy(&self, contract: Address) -> bool {
        self.scene.busy.contains_key(&contract)
    }

    fn act(&mut self, kind: Kind, contract: Address, tokens: u64, amount: u64) {
        let amount = Nano::new(amount);
        let proxy = self.proxy.contract;
        self.plan.actions.push(Action { kind, contract, proxy, tokens, amount, deploy_for: None });
    }

    fn pay(&mut self, kind: Kind, worker: &WorkerView, amount: u64) {
        let deploy_for = worker.owner.filter(|_| !worker.deployed);
        let (contract, proxy) = (worker.contract, self.proxy.contract);
        let (tokens, amount) = (worker.committed, Nano::new(amount));
        self.plan.actions.push(Action { kind, contract, proxy, tokens, amount, deploy_for });
    }

    fn leave_uncharged(&mut self, amount: u64, kind: Kind) {
        let is_dust = !self.is_worth(amount, kind);
        let sums = &mut self.plan.sums;
        sums.uncharged = sums.uncharged.saturating_add(amount);
        sums.dust = sums.dust.saturating_add(if is_dust { amount } else { 0 });
    }

    fn leave_unpaid(&mut self, amount: u64, kind: Kind) {
        let is_dust = !self.is_worth(amount, kind);
        let sums = &mut self.plan.sums;
        sums.unpaid = sums.unpaid.saturating_add(amount);
        sums.dust = sums.dust.saturating_add(if is_dust { amount } else { 0 });
    }
}

impl ClientView {
    /// Nothing runs, nothing new begins, and all that was counted may be signed.
    const fn is_idle(&self) -> bool {
        self.shut && self.in_flight == 0 && self.known <= self.committed
    }
}

impl WorkerView {
    /// There is a contract, or can be one, and it takes what may be signed.
    const fn can_be_paid(&self) -> bool {
        (self.deployed || self.owner.is_some()) && self.committed >= self.paid
    }
}

impl Rest {
    const fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Over, Self::Over) => Self::Over,
            (Self::Pending, Self::Over | Self::Pending) | (Self::Over, Self::Pending) => Self::Pending,
        }
    }
}

/// What tokens from `paid` to `counted` cost.
fn owed(counted: u64, paid: u64, price: u64) -> u128 {
    u128::from(counted.saturating_sub(paid)) * u128::from(price)
}
