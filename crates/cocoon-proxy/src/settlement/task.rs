//! The task of settlement: waits for whatever may change something, then makes a round ([`super::round`]).
//!
//! Work that takes blocks (transactions, commits, deployments) runs beside it, bounded, and reports here. So a slow
//! chain delays what waits for it and nothing else.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use cocoon_ledger::Commit;
use cocoon_ton::Address;
use cocoon_ton::chain::TxId;
use cocoon_ton::contract::ProxyState;
use cocoon_units::Nano;
use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use super::Control;
use super::act::{ActError, Till};
use super::desk::Desk;
use super::fees::Fees;
use super::history::Cursor;
use super::instance::Instance;
use super::limits::{
    ACTION_RETRY_FIRST, ACTION_RETRY_MAX, ACTIONS_MAX, CHAIN_RETRY, COMMIT_RESEND, INSTANCES_MAX, LOG_POLL, ROUND_MAX,
    ROUND_MIN,
};
use super::log::LogReader;
use super::plan::Action;
use super::problems::{Problems, Trouble};
use super::start::{Found, INSTANCES_NOTE, deployed};
use super::status::Phase;
use crate::books::{Books, BooksInput, Side};
use crate::config::SettlementConfig;
use crate::terms::ProxyTerms;

/// See the module.
pub(super) struct Task {
    pub(super) desk: Desk,
    pub(super) till: Till,
    pub(super) config: SettlementConfig,
    pub(super) terms: watch::Receiver<Arc<ProxyTerms>>,
    pub(super) control: Control,
    /// The instance of the moment.
    pub(super) current: Instance,
    /// Instances that are not closed to the end.
    pub(super) old: Vec<Instance>,
    /// The last known state of each; none while it is being deployed.
    pub(super) proxies: BTreeMap<Address, ProxyState>,
    pub(super) proxies_dirty: bool,
    pub(super) proxies_read_at: Option<Instant>,
    pub(super) logs: Vec<LogReader>,
    /// Of the node's wallet.
    pub(super) history: LogReader,
    pub(super) fees: Fees,
    pub(super) fees_faded_at: Instant,
    pub(super) closing: bool,
    /// Accounts to read, and since when.
    pub(super) dirty: BTreeMap<Address, (Side, Instant)>,
    /// When reading an account last failed or found nothing.
    pub(super) vain: BTreeMap<Address, Instant>,
    /// Accounts for which the hub begins nothing new.
    pub(super) shut: BTreeSet<Address>,
    pub(super) busy: BTreeMap<Address, Busy>,
    /// Actions that failed in a row.
    failures: BTreeMap<Address, u32>,
    pub(super) commits: Commits,
    pub(super) works: JoinSet<Done>,
    /// What each of these holds, which it must give back however it ends.
    jobs: HashMap<Id, Job>,
    /// The newest own commit that the start found.
    start_seen: Option<Cursor>,
    log_changes: Option<(Address, watch::Receiver<Option<TxId>>)>,
    deploying: bool,
    deploy_at: Option<Instant>,
    pub(super) problems: Problems,
}

/// A contract that is left alone.
#[derive(Debug, Clone, Copy)]
pub(super) struct Busy {
    /// What the action takes from the proxy's funds.
    pub(super) takes: Nano,
    /// `None` while it is under way.
    pub(super) ended: Option<Ended>,
}

/// How an action ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ended {
    /// Only a state that was read later counts.
    pub(super) at: Instant,
    /// When the contract may be acted on again.
    pub(super) until: Instant,
}

/// Where commits are.
#[derive(Debug, Default)]
pub(super) struct Commits {
    /// The newest that was seen.
    pub(super) seen: u32,
    pub(super) seen_at: Option<Instant>,
    /// When the hub was last asked to begin one.
    pub(super) asked_at: Option<Instant>,
    /// The newest that was sent, and when that succeeded.
    sent: Option<(u32, Instant)>,
    sending: bool,
    /// When one that could not be sent is tried again.
    retry_at: Option<Instant>,
    /// An earlier process may have sent the first one.
    asked_past: bool,
}

/// What runs beside the task, and what it holds until it ends, however that is.
#[derive(Debug, Clone, Copy)]
enum Job {
    /// Its contract.
    Act(Action),
    /// The sending of commits.
    Commit(u32),
    /// The deployment.
    Deploy(Address),
}

/// What ran beside the task, and has ended.
pub(super) enum Done {
    Acted { action: Action, result: Result<Option<Nano>, ActError> },
    Committed { number: u32, result: Result<(), ActError> },
    Deployed { contract: Address, result: Result<Box<ProxyState>, String> },
}

/// Why the task ends.
#[derive(Debug)]
pub(super) struct HubGone;

impl<E> From<tokio::sync::mpsc::error::SendError<E>> for HubGone {
    fn from(_: tokio::sync::mpsc::error::SendError<E>) -> Self {
        Self
    }
}

impl Task {
    pub(super) fn new(
        desk: Desk,
        till: Till,
        config: SettlementConfig,
        terms: watch::Receiver<Arc<ProxyTerms>>,
        control: Control,
        found: Found,
    ) -> Self {
        let Found { current, state, old, logs, history, seen } = found;
        let mut proxies = BTreeMap::from([(current.contract, state)]);
        proxies.extend(old.iter().map(|(instance, state)| (instance.contract, state.clone())));
        let commits = Commits { seen: seen.map_or(0, |seen| seen.commit.number), ..Commits::default() };
        let task = Self {
            desk,
            till,
            config,
            terms,
            control,
            current,
            old: old.into_iter().map(|(instance, _)| instance).collect(),
            proxies,
            proxies_dirty: false,
            proxies_read_at: None,
            logs,
            history,
            fees: Fees::default(),
            fees_faded_at: Instant::now(),
            closing: false,
            dirty: BTreeMap::new(),
            vain: BTreeMap::new(),
            shut: BTreeSet::new(),
            busy: BTreeMap::new(),
            failures: BTreeMap::new(),
            commits,
            works: JoinSet::new(),
            jobs: HashMap::new(),
            // The hub hears of it before the first round, since it may not know yet that its last commit arrived.
            start_seen: seen,
            log_changes: None,
            deploying: false,
            deploy_at: None,
            problems: Problems::default(),
        };
        task.tell_desk();
        task
    }

    pub(super) async fn run(mut self, books: Books, stop: CancellationToken) {
        let contract = self.current.contract;
        info!(contract = %contract.raw(), "settlement began");
        tokio::select! {
            () = stop.cancelled() => {}
            ended = self.work(books) => {
                if ended.is_ok() {
                    info!("the proxy's contract is closed");
                }
            }
        }
        // What is under way is the wallet's: its journal finishes it, or the next start finds it on the chain.
        self.works.shutdown().await;
    }

    async fn work(&mut self, mut books: Books) -> Result<(), HubGone> {
        self.begin(&books).await?;
        let control = self.control.clone();
        loop {
            let round_at = Instant::now();
            if self.round(&books).await? {
                control.lock().phase = Phase::Closed;
                control.shared.closed.cancel();
                return Ok(());
            }
            self.send_commit(&books);
            let least = round_at + ROUND_MIN;
            let latest = round_at + self.pause();
            self.wait(&mut books, latest).await?;
            sleep_until(least).await;
        }
    }

    /// What the hub must know before the first round.
    async fn begin(&mut self, books: &Books) -> Result<(), HubGone> {
        if let Some(seen) = self.start_seen.take() {
            let Cursor { commit: Commit { number, digest }, .. } = seen;
            books.tell(BooksInput::CommitSeen { number, digest, cursor: seen.to_bytes() }).await?;
        }
        self.keep_instances(books).await
    }

    /// How long a round may be waited for.
    fn pause(&self) -> Duration {
        let commit = Duration::from_secs(self.config.commit_min_s.max(1));
        let retry = if self.works.is_empty() { ROUND_MAX } else { CHAIN_RETRY };
        ROUND_MAX.min(LOG_POLL).min(commit).min(retry)
    }

    /// Waits until something may have changed, and takes note of what did.
    async fn wait(&mut self, books: &mut Books, latest: Instant) -> Result<(), HubGone> {
        let contract = self.current.contract;
        if self.log_changes.as_ref().is_none_or(|(of, _)| *of != contract) {
            self.log_changes = self.till.chain.subscribe(&contract).await.ok().map(|changes| (contract, changes));
        }
        let read = self.logs.iter().find(|log| log.account == contract).and_then(|log| log.after);
        let log_changes = self.log_changes.as_mut().map(|(_, changes)| changes);
        let log_changed = async {
            // A subscription that ended, or none, leaves it to the pause.
            let Some(changes) = log_changes else { return std::future::pending().await };
            let last = *changes.borrow_and_update();
            if !is_newer(last, read) && changes.changed().await.is_err() {
                std::future::pending().await
            }
        };
        tokio::select! {
            () = log_changed => {}
            () = sleep_until(latest) => {}
            changed = books.reports.changed() => changed.map_err(|_| HubGone)?,
            changed = self.terms.changed() => match changed {
                Ok(()) => self.follow_terms(books).await?,
                // Nobody says anything new any more.
                Err(_) => sleep_until(latest).await,
            },
            Some(done) = self.works.join_next_with_id(), if !self.works.is_empty() => self.hear_done(done),
            () = self.control.shared.close.cancelled(), if !self.closing => {}
        }
        while let Some(done) = self.works.try_join_next_with_id() {
            self.hear_done(done);
        }
        Ok(())
    }

    // ---- instances ------------------------------------------------------------------------------

    /// Another contract takes the place of this one.
    async fn follow_terms(&mut self, books: &Books) -> Result<(), HubGone> {
        let Some(contracts) = self.terms.borrow_and_update().contracts.clone() else { return Ok(()) };
        let new = Instance::of(&contracts);
        if new.contract == self.current.contract {
            return Ok(());
        }
        info!(contract = %new.contract.raw(), "new parameters: the proxy moves to another contract");
        let old = std::mem::replace(&mut self.current, new);
        self.old.retain(|instance| instance.contract != self.current.contract);
        self.old.push(old);
        if self.old.len() > INSTANCES_MAX {
            let forgotten = self.old.remove(0);
            error!(contract = %forgotten.contract.raw(), "too many instances are open at once; the oldest is left alone");
        }
        self.logs.push(LogReader { account: self.current.contract, after: None });
        self.tell_desk();
        self.deploy_at = Some(Instant::now());
        self.keep_instances(books).await
    }

    /// What the desk serves new sessions by.
    pub(super) fn tell_desk(&self) {
        let instances = std::iter::once(&self.current).chain(&self.old).cloned().collect();
        let current = (!self.closing).then_some(self.current.contract);
        self.desk.set_instances(current, instances);
    }

    /// All instances that are not closed to the end, for the next process.
    pub(super) async fn keep_instances(&self, books: &Books) -> Result<(), HubGone> {
        let all = std::iter::once(&self.current).chain(&self.old);
        let bytes: Vec<u8> = all.flat_map(|instance| instance.contract.account).collect();
        let note = BooksInput::SetNote { key: INSTANCES_NOTE.to_owned(), value: Some(bytes.into()) };
        Ok(books.tell(note).await?)
    }

    /// Deploys the current instance if it has to be.
    pub(super) fn deploy_if_due(&mut self) {
        if self.deploying || self.deploy_at.is_none_or(|at| at > Instant::now()) {
            return;
        }
        self.deploying = true;
        let (desk, till, instance) = (self.desk.clone(), self.till.clone(), self.current.clone());
        let contract = instance.contract;
        self.begin_job(Job::Deploy(contract), async move {
            let result = deployed(&desk, &till, &instance).await;
            Done::Deployed { contract, result: result.map(Box::new).map_err(|error| error.to_string()) }
        });
    }

    // ---- work beside ----------------------------------------------------------------------------

    /// Begins as many of these as may run at once.
    pub(super) fn begin_actions(&mut self, actions: &[Action]) {
        for action in actions {
            if self.busy.values().filter(|busy| busy.ended.is_none()).count() >= ACTIONS_MAX {
                return;
            }
            let instance = std::iter::once(&self.current).chain(&self.old).find(|known| known.contract == action.proxy);
            let Some(instance) = instance.cloned() else { continue };
            let takes = if action.kind.is_paid_by_proxy() { action.amount } else { Nano::ZERO };
            self.busy.insert(action.contract, Busy { takes, ended: None });
            info!(kind = ?action.kind, amount = %action.amount.ton(), contract = %action.contract.raw(), "settling");
            let (till, action) = (self.till.clone(), *action);
            self.begin_job(Job::Act(action), async move {
                let result = till.act(&action, &instance).await;
                Done::Acted { action, result }
            });
        }
    }

    fn begin_job(&mut self, job: Job, work: impl Future<Output = Done> + Send + 'static) {
        let started = self.works.spawn(work);
        self.jobs.insert(started.id(), job);
    }

    /// Sends the commit that the hub shows, unless it is on its way.
    fn send_commit(&mut self, books: &Books) {
        let Some(commit) = books.reports.borrow().commit.filter(|commit| commit.number > self.commits.seen) else {
            return;
        };
        let is_sent =
            self.commits.sent.is_some_and(|(number, at)| number == commit.number && at.elapsed() < COMMIT_RESEND);
        let is_paused = self.commits.retry_at.is_some_and(|at| at > Instant::now());
        if self.commits.sending || is_sent || is_paused {
            return;
        }
        self.commits.sending = true;
        let ask_past = !std::mem::replace(&mut self.commits.asked_past, true);
        let (till, contract) = (self.till.clone(), self.current.contract);
        self.begin_job(Job::Commit(commit.number), async move {
            let result = match ask_past && till.sent_before(commit, contract).await {
                true => Ok(()),
                false => till.commit(commit, contract).await,
            };
            Done::Committed { number: commit.number, result }
        });
    }

    fn hear_done(&mut self, done: Result<(Id, Done), JoinError>) {
        match done {
            Ok((id, done)) => {
                self.jobs.remove(&id);
                match done {
                    Done::Acted { action, result } => self.hear_acted(&action, result),
                    Done::Committed { number, result } => self.hear_committed(number, result),
                    Done::Deployed { contract, result } => self.hear_deployed(contract, result),
                }
            }
            Err(error) => self.hear_panicked(&error),
        }
    }

    /// A job that panicked has failed like any other: what it held is free again, and is tried later.
    fn hear_panicked(&mut self, error: &JoinError) {
        error!(%error, "a part of settlement panicked");
        match self.jobs.remove(&error.id()) {
            Some(Job::Act(action)) => self.hear_acted(&action, Err(ActError::Panicked)),
            Some(Job::Commit(number)) => self.hear_committed(number, Err(ActError::Panicked)),
            Some(Job::Deploy(contract)) => self.hear_deployed(contract, Err(ActError::Panicked.to_string())),
            None => {}
        }
    }

    fn hear_committed(&mut self, number: u32, result: Result<(), ActError>) {
        self.commits.sending = false;
        match result {
            Ok(()) => {
                self.commits.sent = Some((number, Instant::now()));
                self.problems.solved(Trouble::Commit);
            }
            Err(error) => {
                self.commits.retry_at = Some(Instant::now() + ACTION_RETRY_FIRST);
                self.problems.keep(Trouble::Commit, format!("commit {number} was not sent: {error}"));
            }
        }
    }

    fn hear_deployed(&mut self, contract: Address, result: Result<Box<ProxyState>, String>) {
        self.deploying = false;
        match result {
            Ok(state) => {
                self.proxies.insert(contract, *state);
                self.problems.solved(Trouble::Deploy);
                // The parameters may have changed again meanwhile.
                if contract == self.current.contract {
                    self.deploy_at = None;
                }
            }
            Err(error) => {
                self.deploy_at = Some(Instant::now() + ACTION_RETRY_FIRST);
                self.problems.keep(Trouble::Deploy, error);
            }
        }
    }

    fn hear_acted(&mut self, action: &Action, result: Result<Option<Nano>, ActError>) {
        let now = Instant::now();
        // Whatever came of it, what is there now decides what comes next.
        self.proxies_dirty = true;
        if let Some(side) = action.kind.side() {
            self.vain.remove(&action.contract);
            self.dirty.insert(action.contract, (side, now));
        }
        let (takes, until) = match result {
            Ok(cost) => {
                if let Some(cost) = cost {
                    self.fees.measured(action.kind, cost);
                }
                self.failures.remove(&action.contract);
                self.problems.solved(Trouble::Action(action.contract));
                let cost = cost.map(|cost| cost.ton().to_string());
                info!(kind = ?action.kind, amount = %action.amount.ton(), cost, "settled");
                let takes = if action.kind.is_paid_by_proxy() { action.amount } else { Nano::ZERO };
                (takes, now)
            }
            Err(error) => {
                let failures = self.failures.entry(action.contract).or_default();
                let pause = ACTION_RETRY_FIRST.saturating_mul(1 << (*failures).min(10)).min(ACTION_RETRY_MAX);
                *failures = failures.saturating_add(1);
                let problem = format!("{:?} of {}: {error}; again in {pause:?}", action.kind, action.contract.raw());
                self.problems.keep(Trouble::Action(action.contract), problem);
                (Nano::ZERO, now + pause)
            }
        };
        self.busy.insert(action.contract, Busy { takes, ended: Some(Ended { at: now, until }) });
    }
}

/// Whether the account's last transaction is one that was not read.
fn is_newer(last: Option<TxId>, read: Option<TxId>) -> bool {
    last.is_some_and(|last| read.is_none_or(|read| last.lt > read.lt))
}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task").field("current", &self.current.contract).finish_non_exhaustive()
    }
}
