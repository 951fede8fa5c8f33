//! Whatever is done with a contract on chain, exactly once: the desk's hands, and the owner's where no client runs.
//!
//! 1. The chain is looked at before anything is sent ([`Teller::look`]); what is needed follows from that ([`super::plan`]).
//! 2. Before a message leaves, its hash is in the file ([`super::book`]); the wallet has a journal of its own. Until the
//!    contract's history shows that the message came, nothing else is sent to it: neither a crash nor a silent chain makes
//!    a deposit arrive twice.
//! 3. A message that the contract refuses is an error. Upkeep is bounded by the day, so that nobody makes this client
//!    pay fees again and again; the owner's way out is not.
//!
//! Change goes to the wallet; refunds are paid to it by the contract. Spec: `ton.md` 1.6.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use cocoon_ton::chain::{ChainPolicy, Status, Transaction};
use cocoon_ton::contract::message::client as message;
use cocoon_ton::contract::signed::Envelope;
use cocoon_ton::contract::{ClientState, Lifecycle, Params, client_state_init};
use cocoon_ton::wallet::{Outgoing, Past, PastOutcome, SendError, Sender};
use cocoon_ton::{Address, Cell, Chain};
use cocoon_units::Nano;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};
use zeroize::Zeroizing;

use super::book::{Book, Kept, Mark};
use super::plan::{Found, Leave, Look, Rules, Step, leave};
use super::report::{ContractReport, ExitStep};
use super::{DeskError, Money, secret};
use crate::limits::{
    DESK_ARRIVAL_LOOK, DESK_ARRIVAL_MAX, DESK_CALL_VALUE, DESK_DEPLOY_VALUE, DESK_LOST_AFTER_S, DESK_PAGE,
    DESK_PAGES_MAX, DESK_UNRECORDED_AFTER_S, DESK_UPKEEP_MESSAGES_PER_DAY, DESK_WITHDRAW_FEE,
};
use crate::terms::Parties;

/// Acts on this client's contracts.
pub struct Teller {
    chain: Arc<dyn Chain>,
    policy: ChainPolicy,
    sender: Sender,
    secret_seed: Zeroizing<[u8; 32]>,
    book: Book,
    /// One thing at a time: what is sent follows from a look that nobody else's message may overtake.
    turn: Mutex<()>,
}

/// How the contracts in a folder stand on chain. It only reads, so it may be asked beside a running client.
///
/// # Errors
///
/// When the list cannot be read, or the chain does not answer.
pub async fn contracts(
    folder: &Path,
    chain: &dyn Chain,
    policy: ChainPolicy,
) -> Result<Vec<ContractReport>, DeskError> {
    let mut reports = Vec::new();
    for kept in Book::open(folder)?.all() {
        let account = chain.account(&kept.contract).await?.for_money(policy)?;
        reports.push(ContractReport::of(kept.contract, Some(&kept), &Look::of(&account)));
    }
    Ok(reports)
}

/// What is sent for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    /// To keep a contract usable: bounded by the day.
    Upkeep,
    /// Because the owner wants the money: never bounded.
    Owner,
}

impl Teller {
    /// Opens the list of contracts in the folder of `money`.
    ///
    /// # Errors
    ///
    /// When the list cannot be read.
    pub fn open(money: Money) -> Result<Self, DeskError> {
        let Money { chain, policy, sender, folder, secret_seed } = money;
        let book = Book::open(&folder)?;
        Ok(Self { chain, policy, sender, secret_seed, book, turn: Mutex::new(()) })
    }

    /// The wallet that owns the contracts.
    #[must_use]
    pub fn owner(&self) -> Address {
        self.sender.address()
    }

    /// The contracts that this client ever dealt with and that were not seen to be over.
    #[must_use]
    pub fn contracts(&self) -> Vec<Address> {
        self.book.all().into_iter().map(|kept| kept.contract).collect()
    }

    /// Looks for contracts of this wallet that the list does not know, among those that the root's pinned proxies give:
    /// for an owner who lost the folder. Says how many were found.
    ///
    /// # Errors
    ///
    /// When the chain does not answer, or the list cannot be kept.
    pub async fn search(&self, root: &cocoon_ton::chain::watch::RootConfig) -> Result<usize, DeskError> {
        let mut found = 0;
        for (number, record) in &root.state.registered_proxies {
            let Some(pin) = record.pinned() else { continue };
            let (owner, params) = (self.owner(), &root.state.params);
            let address = cocoon_ton::contract::client_address(owner, pin.contract, &pin.payment_key, params);
            let Ok(contract) = address else { continue };
            if self.book.get(&contract).is_none() && self.look(contract).await?.state().is_some() {
                let parties = Parties { contract, proxy: pin.contract, payment_key: pin.payment_key };
                self.book.note(&parties, Some(*number))?;
                found += 1;
            }
        }
        Ok(found)
    }

    /// How a contract stands.
    ///
    /// # Errors
    ///
    /// When the chain does not answer, or the contract is none of this wallet.
    pub async fn report(&self, contract: Address) -> Result<ContractReport, DeskError> {
        let look = self.look(contract).await?;
        let kept = self.book.get(&contract);
        match (look.state(), &kept) {
            (Some(state), _) if state.owner == self.owner() => {}
            (None, Some(_)) => {}
            (Some(_) | None, _) => return Err(DeskError::NotOurs { contract }),
        }
        Ok(ContractReport::of(contract, kept.as_ref(), &look))
    }

    /// Pays the owner what exceeds the contract's stake; says how much that is.
    ///
    /// # Errors
    ///
    /// When there is nothing above the stake that is worth the fees, the contract is not open, or it cannot be sent.
    pub async fn withdraw(&self, contract: Address) -> Result<Nano, DeskError> {
        let _turn = self.turn.lock().await;
        let look = self.ready_to_send(contract).await?;
        let state = self.ours(contract, &look)?;
        if state.state != Lifecycle::Normal {
            return Err(DeskError::NotOpen { contract, state: state.state.to_string() });
        }
        let (balance, stake) = (state.balance, state.stake);
        let above = balance.checked_sub(stake).filter(|above| *above > DESK_WITHDRAW_FEE);
        let above = above.ok_or(DeskError::NothingToWithdraw { contract, balance, stake, fees: DESK_WITHDRAW_FEE })?;
        let body = message::Withdraw { query_id: rand::random(), excesses_to: self.owner() }.to_cell();
        self.call(contract, &look, vec![body], Purpose::Owner).await?;
        Ok(above)
    }

    /// Does the next thing on a contract's way out, and says what is left to do. Called again and again it ends with
    /// [`ExitStep::Over`]; each call begins from what the chain says, so it does not matter who made the calls before.
    ///
    /// # Errors
    ///
    /// When the contract is none of this wallet, or it cannot be sent.
    pub async fn step_out(&self, contract: Address) -> Result<ExitStep, DeskError> {
        let _turn = self.turn.lock().await;
        let look = self.ready_to_send(contract).await?;
        if look.state().is_some() {
            self.ours(contract, &look)?;
        }
        match leave(&look) {
            Leave::Wait { unlock_unix_s } => Ok(ExitStep::Waits { unlock_unix_s, now_unix_s: look.at_unix_s }),
            Leave::Over => {
                self.book.forget(&contract)?;
                Ok(ExitStep::Over)
            }
            Leave::Ask | Leave::Collect => {
                self.book.change(&contract, |kept| kept.is_leaving = true)?;
                let body = message::RequestRefund { query_id: rand::random(), excesses_to: self.owner() }.to_cell();
                self.call(contract, &look, vec![body], Purpose::Owner).await?;
                Ok(if leave(&look) == Leave::Ask { ExitStep::Asked } else { ExitStep::Collected })
            }
        }
    }

    /// Presents a refund that the proxy signed: pays everything at once. Whoever calls has checked what it charges.
    pub(super) async fn present(&self, contract: Address, grant: &Envelope) -> Result<(), DeskError> {
        let _turn = self.turn.lock().await;
        let look = self.ready_to_send(contract).await?;
        self.ours(contract, &look)?;
        self.call(contract, &look, vec![grant.signed.envelope(self.owner())], Purpose::Owner).await
    }

    /// Tells the proxy on chain that this client is the one of a connection.
    pub(super) async fn register(&self, contract: Address, nonce: u64) -> Result<(), DeskError> {
        let _turn = self.turn.lock().await;
        let look = self.ready_to_send(contract).await?;
        self.ours(contract, &look)?;
        let body = message::Register { query_id: rand::random(), nonce, excesses_to: self.owner() }.to_cell();
        self.call(contract, &look, vec![body], Purpose::Upkeep).await
    }

    /// Does what a contract needs to serve, as `decide` says of how it stands now. `params` are the root's.
    pub(super) async fn carry_out(
        &self,
        parties: &Parties,
        decide: impl Fn(&Look) -> Step,
        rules: &Rules,
        params: &Params,
    ) -> Result<(), DeskError> {
        let _turn = self.turn.lock().await;
        let contract = parties.contract;
        let look = &self.ready_to_send(contract).await?;
        match decide(look) {
            Step::Ready | Step::Unusable(_) => Ok(()),
            Step::Deploy { deposit } => self.deploy(parties, look, deposit, rules, params).await,
            Step::TopUp { amount, set_secret } => {
                let body = if set_secret { self.funded_secret(amount, rules) } else { self.top_up(amount) };
                let value = plus(amount, DESK_CALL_VALUE);
                self.send(contract, look, vec![Outgoing::call(contract, value, body)], Purpose::Upkeep).await
            }
            Step::SetSecret => {
                let secret_hash = rules.secret_hash;
                let excesses_to = self.owner();
                let body = message::ChangeSecretHash { query_id: rand::random(), secret_hash, excesses_to }.to_cell();
                self.call(contract, look, vec![body], Purpose::Upkeep).await
            }
            Step::RaiseStake => self.call(contract, look, vec![self.raised_stake(rules.stake)], Purpose::Upkeep).await,
        }
    }

    /// Code, deposit, secret and stake, in one external.
    async fn deploy(
        &self,
        parties: &Parties,
        look: &Look,
        deposit: Nano,
        rules: &Rules,
        params: &Params,
    ) -> Result<(), DeskError> {
        let contract = parties.contract;
        let init = client_state_init(self.owner(), parties.proxy, &parties.payment_key, params);
        let init = init.ok().filter(|init| init.address() == contract).ok_or(DeskError::NotOurs { contract })?;
        let value = plus(deposit, DESK_DEPLOY_VALUE);
        let first = Outgoing::call(contract, value, self.funded_secret(deposit, rules)).with_state_init(init);
        let mut messages = vec![first];
        if rules.stake > params.min_client_stake {
            messages.push(Outgoing::call(contract, DESK_CALL_VALUE, self.raised_stake(rules.stake)));
        }
        self.send(contract, look, messages, Purpose::Upkeep).await
    }

    fn top_up(&self, amount: Nano) -> Cell {
        message::TopUp { query_id: rand::random(), amount, excesses_to: self.owner() }.to_cell()
    }

    fn funded_secret(&self, amount: Nano, rules: &Rules) -> Cell {
        let (query_id, secret_hash, excesses_to) = (rand::random(), rules.secret_hash, self.owner());
        message::ChangeSecretHashAndTopUp { query_id, amount, secret_hash, excesses_to }.to_cell()
    }

    fn raised_stake(&self, stake: Nano) -> Cell {
        message::IncreaseStake { query_id: rand::random(), stake, excesses_to: self.owner() }.to_cell()
    }

    /// The secret for a proxy contract.
    pub(super) fn secret(&self, proxy: Address) -> Zeroizing<[u8; 32]> {
        secret::secret(&self.secret_seed, proxy)
    }

    pub(super) const fn book(&self) -> &Book {
        &self.book
    }

    // Looking.

    /// How a contract stands on chain.
    pub(super) async fn look(&self, contract: Address) -> Result<Look, DeskError> {
        let account = self.chain.account(&contract).await?.for_money(self.policy)?;
        Ok(Look::of(&account))
    }

    /// What the wallet holds, for people.
    ///
    /// # Errors
    ///
    /// When the chain does not answer.
    pub async fn wallet_balance(&self) -> Result<Nano, DeskError> {
        let account = self.chain.account(&self.owner()).await?.for_display();
        Ok(if account.status == Status::Missing { Nano::ZERO } else { account.balance })
    }

    /// The state of a contract of ours, which is noted if it was not: an owner may name one by hand.
    fn ours<'a>(&self, contract: Address, look: &'a Look) -> Result<&'a ClientState, DeskError> {
        match &look.found {
            Found::Contract(state) if state.owner == self.owner() => {
                if self.book.get(&contract).is_none() {
                    let parties = Parties { contract, proxy: state.proxy, payment_key: state.proxy_key };
                    self.book.note(&parties, None)?;
                }
                Ok(state)
            }
            Found::Contract(_) | Found::Nothing | Found::Unreadable(_) => Err(DeskError::NotOurs { contract }),
        }
    }

    /// Looks at a contract to which nothing is on its way any more.
    pub(super) async fn ready_to_send(&self, contract: Address) -> Result<Look, DeskError> {
        if let Some(Kept { sent: Some(mark), .. }) = self.book.get(&contract) {
            self.settle(contract, &mark).await?;
        }
        self.look(contract).await
    }

    /// What became of what was sent before; whatever the contract said to it counts as come.
    async fn settle(&self, contract: Address, mark: &Mark) -> Result<(), DeskError> {
        let now = self.look(contract).await?.at_unix_s;
        let age = now.saturating_sub(mark.at_unix_s);
        let is_over = match self.arrival(contract, mark).await? {
            Arrival::Taken | Arrival::Refused(_) => true,
            Arrival::OnItsWay if age > DESK_LOST_AFTER_S => true,
            Arrival::OnItsWay => match self.sender.past().await {
                Some(past) if is_of(&past, mark) => past.outcome == PastOutcome::Never,
                // The process ended before the wallet had it, or the wallet has done something else since; then it came
                // or went long ago.
                Some(_) | None => age > DESK_UNRECORDED_AFTER_S,
            },
        };
        if !is_over {
            return Err(DeskError::OnItsWay { contract });
        }
        self.book.change(&contract, |kept| kept.sent = None)
    }

    /// Whether all of it came.
    async fn arrival(&self, contract: Address, mark: &Mark) -> Result<Arrival, DeskError> {
        let (mut after, mut missing) = (mark.after(), mark.len());
        for _ in 0..DESK_PAGES_MAX {
            let page = self.chain.transactions(&contract, after, DESK_PAGE).await?.for_money(self.policy)?;
            for transaction in page.iter().filter(|transaction| is_answer(transaction, mark)) {
                if transaction.outcome.aborted {
                    return Ok(Arrival::Refused(transaction.outcome.exit_code));
                }
                missing = missing.saturating_sub(1);
            }
            match page.last() {
                Some(last) if missing > 0 => after = Some(last.id),
                Some(_) | None => break,
            }
        }
        Ok(if missing == 0 { Arrival::Taken } else { Arrival::OnItsWay })
    }

    // Sending.

    /// Calls that carry no money but for fees.
    async fn call(&self, contract: Address, look: &Look, bodies: Vec<Cell>, purpose: Purpose) -> Result<(), DeskError> {
        let calls = bodies.into_iter().map(|body| Outgoing::call(contract, DESK_CALL_VALUE, body)).collect();
        self.send(contract, look, calls, purpose).await
    }

    /// Sends and waits until it came.
    async fn send(
        &self,
        contract: Address,
        look: &Look,
        messages: Vec<Outgoing>,
        purpose: Purpose,
    ) -> Result<(), DeskError> {
        self.admit(contract, look, &messages, purpose)?;
        let bodies: Vec<[u8; 32]> =
            messages.iter().filter_map(|message| Some(message.body.as_ref()?.repr_hash().0)).collect();
        let mark = Mark::new(&bodies, look.last, look.at_unix_s);
        self.book.change(&contract, |kept| kept.sent = Some(mark.clone()))?;
        match self.sender.send(messages).await {
            Ok(_) => self.arrived(contract, &mark).await,
            Err(error) => {
                if nothing_left(&error) {
                    self.book.change(&contract, |kept| kept.sent = None)?;
                }
                Err(error.into())
            }
        }
    }

    /// Counts upkeep before it is sent.
    fn admit(&self, contract: Address, look: &Look, messages: &[Outgoing], purpose: Purpose) -> Result<(), DeskError> {
        if purpose == Purpose::Owner {
            return Ok(());
        }
        let sent = self.book.get(&contract).map_or(0, |kept| kept.upkeep.sent(look.at_unix_s));
        if sent >= DESK_UPKEEP_MESSAGES_PER_DAY {
            return Err(DeskError::TooManyMessages { contract, sent });
        }
        let more = u32::try_from(messages.len()).unwrap_or(u32::MAX);
        self.book.change(&contract, |kept| kept.upkeep = kept.upkeep.and(more, look.at_unix_s))
    }

    async fn arrived(&self, contract: Address, mark: &Mark) -> Result<(), DeskError> {
        let until = Instant::now() + DESK_ARRIVAL_MAX;
        loop {
            let arrival = self.arrival(contract, mark).await;
            match arrival {
                Ok(Arrival::OnItsWay) | Err(_) if Instant::now() < until => sleep(DESK_ARRIVAL_LOOK).await,
                Ok(Arrival::OnItsWay) => return Err(DeskError::OnItsWay { contract }),
                Ok(Arrival::Taken) => return self.book.change(&contract, |kept| kept.sent = None),
                Ok(Arrival::Refused(exit_code)) => {
                    self.book.change(&contract, |kept| kept.sent = None)?;
                    return Err(DeskError::Refused { contract, exit_code });
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// Whether messages have come to a contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Arrival {
    Taken,
    Refused(Option<i32>),
    OnItsWay,
}

/// Whether a transaction of the contract was caused by one of these messages.
fn is_answer(transaction: &Transaction, mark: &Mark) -> bool {
    transaction.in_message.as_ref().is_some_and(|message| mark.is_of(&message.body.repr_hash().0))
}

fn is_of(past: &Past, mark: &Mark) -> bool {
    past.messages.iter().any(|(_, body)| mark.is_of(body))
}

/// Whether it is certain that no message of the call is on its way.
const fn nothing_left(error: &SendError) -> bool {
    match error {
        SendError::Wallet(_)
        | SendError::TooLittleMoney { .. }
        | SendError::Blocked { .. }
        | SendError::Refused { .. }
        | SendError::Expired { .. }
        | SendError::Unproved(_)
        | SendError::Journal(_)
        | SendError::ChainDown { in_flight: false, .. } => true,
        // Of several some may have left, or nobody knows.
        SendError::NotAllLeft { .. } | SendError::ChainDown { .. } | SendError::Stopped | _ => false,
    }
}

fn plus(amount: Nano, more: Nano) -> Nano {
    amount.checked_add(more).unwrap_or(Nano::MAX)
}

impl fmt::Debug for Teller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Teller").field("owner", &self.owner()).finish_non_exhaustive()
    }
}
