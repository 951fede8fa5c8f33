//! The desk's loop: each contract in its turn, several at once, none twice at once.

use std::collections::BTreeSet;

use cocoon_ton::{Address, chain::watch::RootConfig, contract::Lifecycle};
use cocoon_units::AdjustedTokens;
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tokio::time::{Instant, sleep_until};

use super::{
    Account, Desk, DeskError, Standing, Wanted, grant,
    plan::{Found, Leave, Look, Own, Step, Unusable, leave, serve},
    report::ExitStep,
};
use crate::{
    budget::Budget,
    limits,
    terms::{Parties, Terms},
};

/// What the desk judges by, beside the chain.
#[derive(Clone, Copy)]
pub(crate) struct By<'a> {
    pub(crate) budget: &'a Budget,
    pub(crate) terms: &'a Terms,
}

/// When a contract is looked at again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// Something was done: at once.
    Now,
    /// Something is under way.
    Soon,
    /// As usual.
    Usual,
    /// It failed for good: after a pause that grows.
    Later,
    /// Never: it is over.
    Never,
}

impl Next {
    const fn after(error: &DeskError) -> Self {
        if error.is_passing() {
            Self::Soon
        } else if error.is_the_owners() {
            Self::Usual
        } else {
            Self::Later
        }
    }
}

impl Desk {
    /// Tends all contracts, for ever; whoever runs it drops it. What is under way then is seen through by the next process.
    pub(crate) async fn run(&self, by: By<'_>) {
        let mut root = by.terms.root();
        let mut busy = BTreeSet::new();
        let mut running = FuturesUnordered::new();
        loop {
            let (due, next) = self.due(&busy);
            for contract in due {
                busy.insert(contract);
                running.push(async move { (contract, self.tend(contract, by).await) });
            }
            tokio::select! {
                Some((contract, next)) = running.next() => {
                    busy.remove(&contract);
                    self.schedule(&contract, next);
                }
                () = sleep_until(next) => {}
                () = self.wake.notified() => {}
                Ok(()) = root.changed() => self.hurry_all(),
            }
        }
    }

    /// Which are due now, and when the next one is.
    fn due(&self, busy: &BTreeSet<Address>) -> (Vec<Address>, Instant) {
        let now = Instant::now();
        let state = self.lock();
        let idle = || state.accounts.iter().filter(|(contract, _)| !busy.contains(contract));
        let due = idle().filter(|(_, account)| account.due <= now).map(|(contract, _)| *contract).collect();
        let next = idle().map(|(_, account)| account.due).filter(|due| *due > now).min();
        (due, next.unwrap_or(now + limits::DESK_LOOK))
    }

    fn hurry_all(&self) {
        let now = Instant::now();
        self.lock().accounts.values_mut().for_each(|account| account.due = now);
    }

    fn schedule(&self, contract: &Address, next: Next) {
        let now = Instant::now();
        let mut state = self.lock();
        let Some(account) = state.accounts.get_mut(contract) else { return };
        let due = match next {
            Next::Now => now,
            Next::Soon => now + limits::DESK_LOOK_BUSY,
            Next::Usual => now + limits::DESK_LOOK,
            Next::Later => now + account.pause,
            Next::Never => {
                state.accounts.remove(contract);
                return;
            }
        };
        account.pause = if next == Next::Later {
            account.pause.saturating_mul(2).min(limits::DESK_PAUSE_MAX)
        } else {
            limits::DESK_PAUSE
        };
        account.due = due;
    }

    /// Does the next thing about one contract.
    async fn tend(&self, contract: Address, by: By<'_>) -> Next {
        let looked = self.teller.ready_to_send(contract).await;
        let look = match looked {
            Ok(look) => look,
            Err(error) => return self.failed(&contract, &error),
        };
        let Some((parties, wanted)) = self.seen(&contract, &look) else { return Next::Never };
        let outcome = match wanted {
            Wanted::Leave => self.tend_leave(&parties, &look, by).await,
            Wanted::Serve => self.tend_serve(&parties, &look, by).await,
        };
        outcome.unwrap_or_else(|error| self.failed(&contract, &error))
    }

    fn seen(&self, contract: &Address, look: &Look) -> Option<(Parties, Wanted)> {
        let mut state = self.lock();
        let account = state.accounts.get_mut(contract)?;
        let (now, is_first) = (Instant::now(), account.seen_at.is_none());
        account.look = Some(look.clone());
        account.seen_at = Some(now);
        let (parties, wanted, is_used) = (account.parties, account.wanted, account.link.strong_count() > 0);
        // What an earlier process funded has the first claim to a seat.
        if wanted == Wanted::Serve && (is_used || is_first && look.holds_money()) {
            state.seats.seat(*contract, now);
        }
        Some((parties, wanted))
    }

    fn failed(&self, contract: &Address, error: &DeskError) -> Next {
        let is_passing = error.is_passing();
        let is_serving = self.lock().accounts.get(contract).is_some_and(|account| account.standing == Standing::Ready);
        // A chain that is silent for a moment takes no funded proxy away; what was seen soon counts as too old.
        if !(is_passing && is_serving) {
            self.stand(contract, Standing::Trouble(error.to_string()));
        }
        Next::after(error)
    }

    /// Says how a contract stands, once, when that is news.
    fn stand(&self, contract: &Address, standing: Standing) {
        let mut state = self.lock();
        let Some(account) = state.accounts.get_mut(contract) else { return };
        let is_news = account.standing != standing;
        if is_news {
            match &standing {
                Standing::Trouble(words) | Standing::Over(words) => tracing::warn!(%contract, "{words}"),
                Standing::Unknown | Standing::Ready | Standing::Busy(_) => {
                    tracing::info!(%contract, "{}", standing.words());
                }
            }
            account.standing = standing;
        }
        drop(state);
        // Also when it is no news: a session may wait for the look itself.
        self.changes.send_modify(|changes| *changes = changes.wrapping_add(1));
    }

    // Contracts that serve.

    async fn tend_serve(&self, parties: &Parties, look: &Look, by: By<'_>) -> Result<Next, DeskError> {
        let contract = parties.contract;
        let root = by.terms.root_now();
        if !is_current(parties, by.terms, &root) {
            return self.tend_old(parties, look, &root);
        }
        if look.holds_money() && self.is_superseded(&contract) {
            tracing::warn!(%contract, "its proxy shows another contract by now: this one is closed");
            self.leave(&contract)?;
            return Ok(Next::Now);
        }
        if let Some(charged) = look.state().map(|state| AdjustedTokens::new(state.tokens_used))
            && let Err(error) = by.budget.charged(contract, charged)
        {
            tracing::warn!(%contract, %error, "what was charged on chain is not what was used");
        }
        let view = by.budget.account(contract);
        let own = Own { counted: view.counted, open: view.open };
        let rules = self.rules(parties);
        let step = serve(look, own, &rules);
        // A proxy that demands what was not used is told so in its session; here it only gets nothing more.
        if let Some(next) = self.instead_of(&step, parties, look, view.differs.is_some())? {
            return Ok(next);
        }
        if !can_serve(look) {
            self.stand(&contract, Standing::Busy(words_of(&step).to_owned()));
        }
        tracing::info!(%contract, ?step, "this client's contract is tended");
        // In the list before anything is sent: what is sent must be followed.
        self.teller.book().note(parties, self.number(&contract))?;
        match self.teller.carry_out(parties, |look| serve(look, own, &rules), &rules, &root.state.params).await {
            Ok(()) => Ok(Next::Now),
            // What is in the contract goes on serving, whatever keeps more from coming.
            Err(error) if can_serve(look) => {
                tracing::warn!(%contract, %error, "this client's contract could not be tended");
                self.stand(&contract, Standing::Ready);
                Ok(Next::after(&error))
            }
            Err(error) => Err(error),
        }
    }

    /// What happens instead of a step that sends money: there is none, or something is in its way.
    fn instead_of(
        &self,
        step: &Step,
        parties: &Parties,
        look: &Look,
        is_refused: bool,
    ) -> Result<Option<Next>, DeskError> {
        let contract = parties.contract;
        let standing = match step {
            Step::Unusable(why) => return self.unusable(parties, why).map(Some),
            Step::Ready => self.ready(look, parties),
            Step::Deploy { .. } | Step::TopUp { .. } | Step::SetSecret | Step::RaiseStake if is_refused => {
                self.ready(look, parties)
            }
            Step::Deploy { .. } | Step::TopUp { .. } | Step::SetSecret | Step::RaiseStake => {
                match self.may_fund(parties, look) {
                    Ok(true) => return Ok(None),
                    Ok(false) => return Ok(Some(Next::Soon)),
                    // One that has something left may use it up.
                    Err(_) if can_serve(look) => Standing::Ready,
                    // A proxy that came and went left nothing to remember.
                    Err(_) if look.found == Found::Nothing && !self.is_wanted(&contract) => {
                        return Ok(Some(Next::Never));
                    }
                    Err(why) => Standing::Trouble(why),
                }
            }
        };
        self.stand(&contract, standing);
        Ok(Some(Next::Usual))
    }

    /// How a contract stands that needs nothing, or gets nothing.
    fn ready(&self, look: &Look, parties: &Parties) -> Standing {
        if can_serve(look) {
            return Standing::Ready;
        }
        // A deposit so small that refilling it would go on fees.
        let deposit = self.config.stake.nano();
        let words = format!(
            "the contract {} is used up, and a deposit of {} TON would go on fees to more than {} %: raise `stake` under [client.budget]",
            parties.contract,
            deposit.ton(),
            limits::TOP_UP_FEE_PERCENT_MAX
        );
        Standing::Trouble(words)
    }

    /// Whether the proxy of a contract has a seat, or gets one; false while that cannot be said. Or why not.
    fn may_fund(&self, parties: &Parties, look: &Look) -> Result<bool, String> {
        let contract = parties.contract;
        let mut state = self.lock();
        if !state.accounts.get(&contract).is_some_and(Account::is_wanted) {
            return Err("its proxy has not been heard of for a while".to_owned());
        }
        if state.accounts.values().any(|account| account.seen_at.is_none()) {
            return Ok(false);
        }
        let holds_money = |account: &Account| account.look.as_ref().is_some_and(Look::holds_money);
        let others =
            state.accounts.iter().filter(|(other, account)| **other != contract && holds_money(account)).count();
        let seat = state.seats.take(contract, look.holds_money(), others, Instant::now());
        seat.map(|()| true).map_err(|why| why.to_string())
    }

    fn is_wanted(&self, contract: &Address) -> bool {
        self.lock().accounts.get(contract).is_some_and(Account::is_wanted)
    }

    fn number(&self, contract: &Address) -> Option<u32> {
        self.lock().accounts.get(contract).and_then(|account| account.number)
    }

    /// Whether the proxy of a contract has another one by now: it has a new key, or another has its number.
    fn is_superseded(&self, contract: &Address) -> bool {
        let state = self.lock();
        let Some(account) = state.accounts.get(contract) else { return false };
        let is_newer = |other: &Account| other.number == account.number && other.asked_at > account.asked_at;
        account.number.is_some()
            && !account.is_wanted()
            && self.since.elapsed() >= limits::DESK_SEAT_LOST
            && state.accounts.values().any(is_newer)
    }

    fn unusable(&self, parties: &Parties, why: &Unusable) -> Result<Next, DeskError> {
        let contract = parties.contract;
        match why {
            // Whoever began it: it goes on to its end.
            Unusable::Closed(Lifecycle::Closing) => {
                self.leave(&contract)?;
                Ok(Next::Now)
            }
            Unusable::Closed(_) | Unusable::Foreign(_) | Unusable::Overcharged { .. } => {
                self.lock().seats.leave(&contract);
                self.stand(&contract, Standing::Over(why.to_string()));
                Ok(Next::Usual)
            }
        }
    }

    /// A contract by parameters that are no longer the network's. Its proxy settles it, or it is asked back.
    fn tend_old(&self, parties: &Parties, look: &Look, root: &RootConfig) -> Result<Next, DeskError> {
        let contract = parties.contract;
        if look.found == Found::Nothing || leave(look) == Leave::Over {
            self.teller.book().forget(&contract)?;
            return Ok(Next::Never);
        }
        let until = root.at.unix_s.saturating_add(limits::DESK_OLD_CONTRACT_S);
        if look.at_unix_s >= until {
            self.leave(&contract)?;
            return Ok(Next::Now);
        }
        let words = "the network's parameters changed: its proxy settles this contract, or it is asked back in a while";
        self.lock().seats.leave(&contract);
        self.stand(&contract, Standing::Over(words.to_owned()));
        Ok(Next::Usual)
    }

    // Contracts that end.

    async fn tend_leave(&self, parties: &Parties, look: &Look, by: By<'_>) -> Result<Next, DeskError> {
        let contract = parties.contract;
        if leave(look) == Leave::Ask
            && let Some(link) = self.grantor(&contract)
        {
            let refund = grant::ask(&link, parties, look, || {
                let view = by.budget.account(contract);
                Own { counted: view.counted, open: view.open }
            });
            match refund.await {
                Ok(refund) => {
                    self.teller.present(contract, &refund).await?;
                    return Ok(Next::Now);
                }
                Err(why) => tracing::warn!(%contract, %why, "the proxy does not sign a refund: it is taken by force"),
            }
        }
        match self.teller.step_out(contract).await? {
            ExitStep::Asked | ExitStep::Collected => Ok(Next::Now),
            ExitStep::Waits { unlock_unix_s, .. } => {
                self.stand(
                    &contract,
                    Standing::Busy(format!("it is closed once {unlock_unix_s} (chain time) has passed")),
                );
                Ok(Next::Usual)
            }
            ExitStep::Over => self.over(parties, by),
        }
    }

    /// The session of a contract whose proxy was not asked for a refund yet.
    fn grantor(&self, contract: &Address) -> Option<std::sync::Arc<crate::session::link::Link>> {
        let mut state = self.lock();
        let account = state.accounts.get_mut(contract)?;
        if std::mem::replace(&mut account.is_grant_asked, true) {
            return None;
        }
        account.link.upgrade()
    }

    /// It is closed and empty. One by the present parameters is remembered: it can never open again.
    fn over(&self, parties: &Parties, by: By<'_>) -> Result<Next, DeskError> {
        let contract = parties.contract;
        tracing::info!(%contract, "this client's contract is closed, and its money is in the wallet");
        if !is_current(parties, by.terms, &by.terms.root_now()) {
            return Ok(Next::Never);
        }
        if let Some(account) = self.lock().accounts.get_mut(&contract) {
            account.wanted = Wanted::Serve;
        }
        self.stand(&contract, Standing::Over(Unusable::Closed(Lifecycle::Closed).to_string()));
        Ok(Next::Usual)
    }
}

/// Whether a contract is the one that the present parameters give.
fn is_current(parties: &Parties, terms: &Terms, root: &RootConfig) -> bool {
    let now = terms.parties(parties.proxy, parties.payment_key, root);
    now.is_ok_and(|now| now.contract == parties.contract)
}

/// Whether a proxy would serve on what is there: an open contract with something in it.
fn can_serve(look: &Look) -> bool {
    look.state()
        .is_some_and(|state| state.state == Lifecycle::Normal && state.balance.get() > 0 && state.stake.get() > 0)
}

const fn words_of(step: &Step) -> &'static str {
    match step {
        Step::Deploy { .. } => "this client's contract with it is being made and funded",
        Step::TopUp { .. } => "this client's contract with it is being topped up",
        Step::SetSecret => "this client's secret for it is being set",
        Step::RaiseStake => "the stake of this client's contract with it is being raised",
        Step::Ready | Step::Unusable(_) => "",
    }
}
