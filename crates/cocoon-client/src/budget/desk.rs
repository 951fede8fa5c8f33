//! The part of a client that talks to the chain: each funded proxy has a contract with enough in it, and what is left
//! comes back.
//!
//! 1. A session asks to be let in ([`Desk::admit`]): the proxy gets a seat ([`seats`]), and its contract is looked at.
//! 2. [`Desk::run`] tends each contract: [`plan`] decides from the chain alone what it needs, [`teller`] does that once.
//! 3. A contract that shall end, by the owner's word or since the network's parameters changed, is asked back: at once
//!    where the proxy signs a refund that is right by our count, else by force after the contract's delay, with nobody's
//!    help. Every step begins from what the chain says, so a restart resumes it.
//!
//! It decides nothing about requests: that is the [budget](crate::budget)'s. It fails closed: a contract that cannot be
//! looked at, or was charged for more than was used, serves no request and gets no money.
//! Spec: `ton.md` 1.5 to 1.13; `contracts/DIFFERENCES.md`.

mod book;
mod error;
mod grant;
mod plan;
mod report;
mod seats;
mod secret;
mod teller;
mod tend;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use cocoon_ton::{Address, Chain, chain::ChainPolicy, contract::Lifecycle, wallet::Sender};
use cocoon_units::Nano;
use serde::Serialize;
use tokio::{
    sync::{Notify, watch},
    time::{Instant, timeout_at},
};
use zeroize::Zeroizing;

pub(crate) use self::tend::By;
pub use self::{
    error::{DeskError, MoneyError},
    report::{ContractReport, ExitStep},
    teller::{Teller, contracts},
};
use self::{
    plan::{Look, Rules},
    seats::Seats,
};
use crate::{config::BudgetConfig, limits, session::link::Link, terms::Parties};

/// What a client pays with.
pub struct Money {
    /// The chain that its contracts are on.
    pub chain: Arc<dyn Chain>,
    /// Which of the chain's answers decide about money.
    pub policy: ChainPolicy,
    /// The wallet, whose address owns the contracts: `owner_address` of the configuration.
    pub sender: Sender,
    /// Where this client keeps what it must not forget. It is there already.
    pub folder: PathBuf,
    /// Of which the secrets derive that proxies know this client by. Whoever has it can spend what was deposited.
    pub secret_seed: Zeroizing<[u8; 32]>,
}

impl fmt::Debug for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Money").field("sender", &self.sender).field("folder", &self.folder).finish_non_exhaustive()
    }
}

/// The desk of one client.
pub(crate) struct Desk {
    teller: Teller,
    config: BudgetConfig,
    state: Mutex<State>,
    /// Somebody wants something looked at.
    wake: Notify,
    /// Grows whenever an account's standing changes.
    changes: watch::Sender<u64>,
    since: Instant,
}

struct State {
    seats: Seats,
    accounts: BTreeMap<Address, Account>,
}

/// One contract, as the desk sees it.
struct Account {
    parties: Parties,
    number: Option<u32>,
    wanted: Wanted,
    look: Option<Look>,
    seen_at: Option<Instant>,
    standing: Standing,
    /// When it is looked at next.
    due: Instant,
    /// After the last thing that failed for good.
    pause: Duration,
    /// When its proxy last wanted a session, or had one.
    asked_at: Option<Instant>,
    registered_at: Option<Instant>,
    link: Weak<Link>,
    /// Asked for the refund already: not again in this process.
    is_grant_asked: bool,
}

/// What shall become of a contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    Serve,
    Leave,
}

/// How a contract stands.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Standing {
    /// Not looked at yet.
    Unknown,
    Ready,
    /// Something is being done, or waited for: in words.
    Busy(String),
    /// It cannot serve now, and perhaps later: in words.
    Trouble(String),
    /// It can serve no more: in words.
    Over(String),
}

/// How a session is authorized, once its contract is funded.
pub(crate) enum Admitted {
    /// By the secret whose hash is in the contract.
    Secret(Zeroizing<[u8; 32]>),
    /// By a registration on chain: the contract has no secret.
    Registration,
}

/// Why there is no session with a proxy, as far as money is concerned.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct NotReady(pub(crate) String);

/// A contract in the client's status.
#[derive(Clone, Debug, Serialize)]
pub struct DeskRow {
    /// What the chain said when it was last looked at.
    #[serde(flatten)]
    pub report: ContractReport,
    /// What is being done about it.
    pub doing: String,
    /// Whether sessions may use it.
    pub ready: bool,
}

impl Desk {
    /// Opens the desk; contracts of earlier processes are known again.
    pub(crate) fn open(money: Money, config: &BudgetConfig) -> Result<Self, DeskError> {
        let teller = Teller::open(money)?;
        let mut accounts = BTreeMap::new();
        for kept in teller.book().all() {
            if let Some(parties) = kept.parties() {
                let wanted = if kept.is_leaving { Wanted::Leave } else { Wanted::Serve };
                accounts.insert(parties.contract, Account::new(parties, kept.number, wanted));
            }
        }
        let state = State { seats: Seats::new(config.max_funded_proxies), accounts };
        Ok(Self {
            teller,
            config: config.clone(),
            state: Mutex::new(state),
            wake: Notify::new(),
            changes: watch::Sender::new(0),
            since: Instant::now(),
        })
    }

    /// The wallet that pays.
    pub(crate) fn owner(&self) -> Address {
        self.teller.owner()
    }

    /// What the wallet holds, for people.
    pub(crate) async fn wallet_balance(&self) -> Result<Nano, DeskError> {
        self.teller.wallet_balance().await
    }

    /// Lets a session in once its contract can pay. Waits a moment for a look at the chain, and for nothing longer: what
    /// must be done first is done meanwhile, and the session comes back ([`Desk::changed`]).
    pub(crate) async fn admit(&self, number: u32, parties: &Parties) -> Result<Admitted, NotReady> {
        let until = Instant::now() + limits::DESK_ADMIT_WAIT;
        let mut changes = self.changes.subscribe();
        self.ask_for(number, parties);
        loop {
            if let Some(outcome) = self.judge(parties) {
                return outcome;
            }
            self.wake.notify_one();
            if !matches!(timeout_at(until, changes.changed()).await, Ok(Ok(()))) {
                return Err(NotReady(
                    "the chain has not told yet how this client's contract with it stands".to_owned(),
                ));
            }
        }
    }

    /// Waits until the standing of some contract changes.
    pub(crate) fn changed(&self) -> impl Future<Output = ()> + use<> {
        let mut changes = self.changes.subscribe();
        async move {
            if changes.changed().await.is_err() {
                std::future::pending().await
            }
        }
    }

    /// Notes that the proxy of a contract wants to serve.
    fn ask_for(&self, number: u32, parties: &Parties) {
        let mut state = self.lock();
        let account = state
            .accounts
            .entry(parties.contract)
            .or_insert_with(|| Account::new(*parties, Some(number), Wanted::Serve));
        account.number = Some(number);
        account.asked_at = Some(Instant::now());
        let is_new = account.seen_at.is_none();
        drop(state);
        if is_new {
            self.hurry(&parties.contract);
        }
    }

    /// What a session hears; `None` while nothing is known, or what is known is too old.
    fn judge(&self, parties: &Parties) -> Option<Result<Admitted, NotReady>> {
        let mut state = self.lock();
        let account = state.accounts.get_mut(&parties.contract)?;
        let is_fresh = account.seen_at.is_some_and(|at| at.elapsed() < limits::DESK_FRESH);
        if account.wanted == Wanted::Leave {
            return Some(Err(NotReady("this client's contract with it is being closed".to_owned())));
        }
        match &account.standing {
            Standing::Ready if is_fresh => {
                let has_secret =
                    account.look.as_ref().and_then(Look::state).is_some_and(|state| state.secret_hash != [0; 32]);
                let secret = has_secret.then(|| self.teller.secret(parties.proxy));
                Some(Ok(secret.map_or(Admitted::Registration, Admitted::Secret)))
            }
            Standing::Ready | Standing::Unknown => {
                account.due = Instant::now();
                None
            }
            Standing::Busy(words) | Standing::Trouble(words) | Standing::Over(words) => {
                Some(Err(NotReady(words.clone())))
            }
        }
    }

    /// A session with the proxy of a contract has begun.
    pub(crate) fn session_began(&self, contract: &Address, link: &Arc<Link>) {
        if let Some(account) = self.lock().accounts.get_mut(contract) {
            account.link = Arc::downgrade(link);
            account.is_grant_asked = false;
            if account.wanted == Wanted::Leave {
                link.leave();
            }
        }
    }

    /// Whether a contract has begun to end on chain, or is over: a session with its proxy is of no use any more.
    pub(crate) fn has_left(&self, contract: &Address) -> bool {
        self.lock().accounts.get(contract).is_none_or(|account| account.look.is_some() && !account.is_open())
    }

    /// Registers a connection on chain, by the proxy's nonce.
    pub(crate) async fn register(&self, contract: Address, nonce: u64) -> Result<(), NotReady> {
        {
            let mut state = self.lock();
            let unknown = || NotReady("this client has no contract with it".to_owned());
            let account = state.accounts.get_mut(&contract).ok_or_else(unknown)?;
            if account.registered_at.is_some_and(|at| at.elapsed() < limits::REGISTER_PAUSE) {
                let minutes = limits::REGISTER_PAUSE.as_secs() / 60;
                let words = format!(
                    "it asks for an on-chain registration again, and each costs fees: at most one in {minutes} minutes"
                );
                return Err(NotReady(words));
            }
            account.registered_at = Some(Instant::now());
        }
        self.teller.register(contract, nonce).await.map_err(|error| NotReady(error.to_string()))
    }

    /// Has a contract closed, to the end. Done in the background; the status says how far it is.
    pub(crate) fn close(&self, contract: &Address) -> Result<(), DeskError> {
        if !self.lock().accounts.contains_key(contract) {
            return Err(DeskError::NotOurs { contract: *contract });
        }
        self.leave(contract)
    }

    fn leave(&self, contract: &Address) -> Result<(), DeskError> {
        self.teller.book().change(contract, |kept| kept.is_leaving = true)?;
        let mut state = self.lock();
        state.seats.leave(contract);
        if let Some(account) = state.accounts.get_mut(contract) {
            account.wanted = Wanted::Leave;
            account.standing = Standing::Busy("it is being closed".to_owned());
            if let Some(link) = account.link.upgrade() {
                link.leave();
            }
        }
        drop(state);
        self.hurry(contract);
        Ok(())
    }

    /// Pays the owner what exceeds a contract's stake.
    pub(crate) async fn withdraw(&self, contract: Address) -> Result<Nano, DeskError> {
        let paid = self.teller.withdraw(contract).await;
        self.hurry(&contract);
        paid
    }

    /// How all contracts stand.
    pub(crate) fn rows(&self) -> Vec<DeskRow> {
        let state = self.lock();
        state.accounts.values().filter_map(|account| self.row(account)).collect()
    }

    fn row(&self, account: &Account) -> Option<DeskRow> {
        let kept = self.teller.book().get(&account.parties.contract);
        let report = ContractReport::of(account.parties.contract, kept.as_ref(), account.look.as_ref()?);
        let report = ContractReport { proxy: Some(account.parties.proxy), number: account.number, ..report };
        Some(DeskRow {
            report,
            doing: account.standing.words().to_owned(),
            ready: account.standing == Standing::Ready && account.wanted == Wanted::Serve,
        })
    }

    /// Looks at a contract at once.
    fn hurry(&self, contract: &Address) {
        if let Some(account) = self.lock().accounts.get_mut(contract) {
            account.due = Instant::now();
        }
        self.wake.notify_one();
        self.changes.send_modify(|changes| *changes = changes.wrapping_add(1));
    }

    fn rules(&self, parties: &Parties) -> Rules {
        let stake = self.config.stake.nano();
        Rules {
            deposit: stake,
            low: self.config.top_up_below().min(stake),
            stake,
            secret_hash: secret::hash(&self.teller.secret(parties.proxy)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Fields are replaced one by one, each whole; the next look mends what a panic left between two.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Account {
    fn new(parties: Parties, number: Option<u32>, wanted: Wanted) -> Self {
        Self {
            parties,
            number,
            wanted,
            look: None,
            seen_at: None,
            standing: Standing::Unknown,
            due: Instant::now(),
            pause: limits::DESK_PAUSE,
            asked_at: None,
            registered_at: None,
            link: Weak::new(),
            is_grant_asked: false,
        }
    }

    /// Whether its proxy was heard of lately.
    fn is_wanted(&self) -> bool {
        self.link.strong_count() > 0 || self.asked_at.is_some_and(|at| at.elapsed() < limits::DESK_SEAT_LOST)
    }

    fn is_open(&self) -> bool {
        let state = self.look.as_ref().and_then(Look::state);
        state.is_some_and(|state| state.state == Lifecycle::Normal)
    }
}

impl Standing {
    fn words(&self) -> &str {
        match self {
            Self::Unknown => "it was not looked at yet",
            Self::Ready => "it is funded",
            Self::Busy(words) | Self::Trouble(words) | Self::Over(words) => words,
        }
    }
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk").field("teller", &self.teller).finish_non_exhaustive()
    }
}
