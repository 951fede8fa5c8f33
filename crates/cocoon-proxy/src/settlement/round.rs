//! One round of settlement: hear what happened, read what may have changed, tell the hub, plan, act, show.
//!
//! Nothing here is urgent: whatever fails (the chain does not answer) is tried in the next round, and what a round did
//! not get to, too. Reads are bounded per round and per account, so that notes of strangers cost them more than us.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cocoon_ledger::Commit;
use cocoon_ton::Address;
use cocoon_ton::chain::Transaction;
use cocoon_ton::contract::{ClientState, Lifecycle, ProxyState, WorkerState};
use cocoon_units::AdjustedTokens;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::desk::{DeskError, Entry, Holding};
use super::history::{Cursor, commits};
use super::instance::Instance;
use super::limits::{FEES_FADE, READS_MAX, REFETCH_ANYWAY, REFETCH_PAUSE, REFETCH_ROUND_MAX};
use super::log::{self, Heard};
use super::plan::{self, ClientView, Leaving, Plan, ProxyView, Scene, WorkerView};
use super::problems::Trouble;
use super::status::Phase;
use super::task::{HubGone, Task};
use crate::books::{Books, BooksInput, Position, Side, credit};

impl Task {
    /// One round. True once all is closed that can be closed.
    pub(super) async fn round(&mut self, books: &Books) -> Result<bool, HubGone> {
        if self.control.is_closing() && !self.closing {
            info!("the proxy closes: nothing new is taken, and what there is is settled");
            self.closing = true;
            self.tell_desk();
        }
        self.problems.begin_round();
        self.fade_fees();
        self.deploy_if_due();
        self.read_history(books).await?;
        self.read_logs().await;
        self.read_proxies().await;
        // What was shut before the count is not counted too low.
        let shut_before = self.shut.clone();
        let positions = books.positions().await?;
        self.find_unknown(&positions);
        self.read_accounts(books).await?;
        self.shut_and_open(books, &positions).await?;
        let has_deadline = self.pass_time(&positions).await;
        self.end_pauses();
        let plan = plan::plan(&self.scene(&positions, &shut_before));
        let wanted = plan.actions.iter().map(|action| action.contract).chain(self.busy.keys().copied());
        self.problems.retain_actions(&wanted.collect());
        self.commit_if_due(books, plan.sums.unsigned_max, has_deadline).await?;
        self.show(books, &positions, &plan);
        self.begin_actions(&plan.actions);
        if self.control.is_collecting() && plan.actions.is_empty() && self.works.is_empty() {
            self.control.collected();
        }
        self.clean_up(books, &positions, &plan).await
    }

    // ---- hear -----------------------------------------------------------------------------------

    /// Commits of our wallet, also those that we did not send: the ledger judges whether it may go on.
    async fn read_history(&mut self, books: &Books) -> Result<(), HubGone> {
        let wallet = self.history.account;
        let mut found = Vec::new();
        let hear = |transaction: &Transaction| {
            found.extend(commits(transaction).map(|commit| Cursor { wallet, at: transaction.id, commit }));
        };
        if let Err(error) = self.history.read(self.till.chain.as_ref(), self.till.policy, hear).await {
            self.failed_here(format!("the history of the node's wallet cannot be read: {error}"));
        }
        for cursor in found {
            let Commit { number, digest } = cursor.commit;
            if number > self.commits.seen {
                self.commits.seen = number;
                self.commits.seen_at = Some(Instant::now());
                self.problems.solved(Trouble::Commit);
            }
            debug!(number, "a commit is on the chain");
            books.tell(BooksInput::CommitSeen { number, digest, cursor: cursor.to_bytes() }).await?;
        }
        Ok(())
    }

    async fn read_logs(&mut self) {
        let mut heard = Vec::new();
        let wallet = self.till.wallet.address();
        for at in 0..self.logs.len() {
            let Some(log) = self.logs.get_mut(at) else { break };
            let hear = |transaction: &Transaction| log::hear(transaction, wallet, &mut heard);
            let read = log.read(self.till.chain.as_ref(), self.till.policy, hear).await;
            for heard in heard.drain(..) {
                self.hear(heard);
            }
            if let Err(error) = read {
                self.failed_here(format!("the log of the proxy's contract cannot be read: {error}"));
            }
        }
    }

    fn hear(&mut self, heard: Heard) {
        match heard {
            Heard::Registered { contract, nonce } => self.desk.hear_registration(contract, nonce),
            Heard::Proxy => self.proxies_dirty = true,
            Heard::Account { from } => {
                // A note of an address that nobody asked for is a stranger's.
                if let Some(entry) = self.desk.remembered(from) {
                    self.dirty.entry(from).or_insert_with(|| (entry.side(), Instant::now()));
                }
            }
        }
    }

    // ---- read -----------------------------------------------------------------------------------

    async fn read_proxies(&mut self) {
        let is_old = self.proxies_read_at.is_none_or(|at| at.elapsed() >= REFETCH_ANYWAY);
        if !self.proxies_dirty && !is_old {
            return;
        }
        self.proxies_dirty = false;
        let contracts: Vec<_> = self.instances().map(|instance| instance.contract).collect();
        for contract in contracts {
            let read_at = Instant::now();
            match self.desk.proxy(contract).await {
                Ok(Some((_, state))) => {
                    self.proxies.insert(contract, state);
                    self.proxies_read_at = Some(read_at);
                }
                Ok(None) => {}
                Err(error) => {
                    self.proxies_dirty = true;
                    self.failed_here(format!("the proxy's contract cannot be read: {error}"));
                }
            }
        }
    }

    /// Accounts of the ledger that were never read, or not for long.
    fn find_unknown(&mut self, positions: &[Position]) {
        let now = Instant::now();
        for position in positions {
            let is_fresh = match self.desk.remembered(position.contract) {
                Some(entry) => entry.read_at.elapsed() < REFETCH_ANYWAY,
                None => self.vain.get(&position.contract).is_some_and(|at| at.elapsed() < REFETCH_ANYWAY),
            };
            if !is_fresh {
                self.dirty.entry(position.contract).or_insert((position.side, now));
            }
        }
    }

    /// Reads the dirty ones, the longest dirty first, each at most once in [`REFETCH_PAUSE`], and tells the hub.
    async fn read_accounts(&mut self, books: &Books) -> Result<(), HubGone> {
        let is_ripe = |contract: &Address| {
            self.desk.remembered(*contract).is_none_or(|entry| entry.read_at.elapsed() >= REFETCH_PAUSE)
        };
        let mut ripe: Vec<_> = self.dirty.iter().filter(|(contract, _)| is_ripe(contract)).collect();
        ripe.sort_by_key(|(_, (_, since))| *since);
        let mut ripe: Vec<_> =
            ripe.into_iter().take(REFETCH_ROUND_MAX).map(|(contract, (side, _))| (*contract, *side)).collect();
        let mut reads = JoinSet::new();
        loop {
            while reads.len() < READS_MAX
                && let Some((contract, side)) = ripe.pop()
            {
                let desk = self.desk.clone();
                reads.spawn(async move { (contract, desk.read(contract, side).await) });
            }
            match reads.join_next().await {
                None => return Ok(()),
                Some(Ok((contract, read))) => self.hear_read(contract, read, books).await?,
                Some(Err(error)) => warn!(%error, "reading an account failed"),
            }
        }
    }

    async fn hear_read(
        &mut self,
        contract: Address,
        read: Result<Entry, DeskError>,
        books: &Books,
    ) -> Result<(), HubGone> {
        match read {
            Ok(entry) => {
                self.dirty.remove(&contract);
                self.vain.remove(&contract);
                self.tell(contract, &entry, books).await
            }
            Err(
                error @ (DeskError::Chain(_)
                | DeskError::ProxyBusy
                | DeskError::ProxyCloses
                | DeskError::PeerDidNotRegister(_)),
            ) => {
                // It stays dirty.
                self.failed_here(format!("the account {} cannot be read: {error}", contract.raw()));
                Ok(())
            }
            Err(error @ (DeskError::PeerMissing(_) | DeskError::PeerNotOurs(..))) => {
                debug!(contract = %contract.raw(), %error, "an account of the ledger is not what it was");
                self.dirty.remove(&contract);
                self.vain.insert(contract, Instant::now());
                Ok(())
            }
        }
    }

    // ---- tell -----------------------------------------------------------------------------------

    async fn tell(&mut self, contract: Address, entry: &Entry, books: &Books) -> Result<(), HubGone> {
        let input = match &entry.holding {
            Holding::Client(state) => {
                let open = self.is_open(state.state, entry.proxy, books);
                if open {
                    self.shut.remove(&contract);
                } else {
                    self.shut.insert(contract);
                }
                BooksInput::Client { contract, credit: credit(state), open }
            }
            Holding::Worker(None) => return Ok(()),
            Holding::Worker(Some(state)) => {
                let closed = state.state == Lifecycle::Closed;
                BooksInput::Worker { contract, paid: AdjustedTokens::new(state.tokens), closed }
            }
        };
        Ok(books.tell(input).await?)
    }

    /// Whether anything new may begin for a client. One that closes could leave before it is charged.
    fn is_open(&self, state: Lifecycle, proxy: Address, books: &Books) -> bool {
        let is_served = proxy == self.current.contract || books.reports.borrow().old_sessions > 0;
        state == Lifecycle::Normal && !self.closing && is_served
    }

    /// Tells the hub of clients whose turn it is to be shut, though nothing of them changed on the chain.
    async fn shut_and_open(&mut self, books: &Books, positions: &[Position]) -> Result<(), HubGone> {
        for position in positions.iter().filter(|position| position.side == Side::Client) {
            let Some(entry) = self.desk.remembered(position.contract) else { continue };
            let Holding::Client(state) = &entry.holding else { continue };
            let open = self.is_open(state.state, entry.proxy, books);
            if open == self.shut.contains(&position.contract) {
                self.tell(position.contract, &entry, books).await?;
            }
        }
        Ok(())
    }

    async fn commit_if_due(&mut self, books: &Books, unsigned_max: u64, has_deadline: bool) -> Result<(), HubGone> {
        if books.reports.borrow().commit.is_some() {
            return Ok(());
        }
        let is_pressing = unsigned_max >= self.config.exposure.nano().get() / 2 && unsigned_max > 0;
        let is_ending = self.closing || !self.old.is_empty();
        let pause =
            if is_pressing || is_ending || has_deadline { self.config.commit_min_s } else { self.config.commit_max_s };
        let is_due = self.commits.asked_at.is_none_or(|at| at.elapsed() >= Duration::from_secs(pause));
        if is_due {
            self.commits.asked_at = Some(Instant::now());
            books.tell(BooksInput::BeginCommit).await?;
        }
        Ok(())
    }

    // ---- plan -----------------------------------------------------------------------------------

    /// Whether something waits for a time of the chain: that is asked for, since nothing else may move.
    async fn pass_time(&mut self, positions: &[Position]) -> bool {
        let is_closing = |position: &Position| match self.desk.remembered(position.contract).map(|entry| entry.holding)
        {
            Some(Holding::Client(state)) => state.state == Lifecycle::Closing,
            Some(Holding::Worker(_)) | None => false,
        };
        let waits =
            self.proxies.values().any(|proxy| proxy.state == Lifecycle::Closing) || positions.iter().any(is_closing);
        if waits && let Err(error) = self.desk.read_time().await {
            self.failed_here(format!("the chain's time cannot be read: {error}"));
        }
        waits
    }

    /// Contracts of which enough time has passed, and a later state was read, may be acted on again.
    fn end_pauses(&mut self) {
        let now = Instant::now();
        let proxies_read_at = self.proxies_read_at;
        let (desk, proxies) = (&self.desk, &self.proxies);
        self.busy.retain(|contract, busy| {
            let Some(ended) = busy.ended else { return true };
            let read_at = match proxies.contains_key(contract) {
                true => proxies_read_at,
                false => desk.remembered(*contract).map(|entry| entry.read_at),
            };
            now < ended.until || read_at.is_none_or(|at| at < ended.at)
        });
    }

    /// What was dear once is tried again some time later.
    fn fade_fees(&mut self) {
        if self.fees_faded_at.elapsed() >= FEES_FADE {
            self.fees_faded_at = Instant::now();
            self.fees.fade();
        }
    }

    fn scene(&self, positions: &[Position], shut: &BTreeSet<Address>) -> Scene<'_> {
        let mut scene = Scene {
            rules: &self.config,
            fees: self.fees,
            chain_unix_s: self.desk.chain_unix_s(),
            proxies: self.instances().filter_map(|instance| self.proxy_view(instance)).collect(),
            clients: Vec::new(),
            workers: Vec::new(),
            incomplete: false,
            collect: self.control.is_collecting(),
            busy: self.busy.iter().map(|(contract, busy)| (*contract, busy.takes)).collect(),
        };
        for position in positions {
            let Some(Entry { holding, proxy, .. }) = self.desk.remembered(position.contract) else {
                // Where reading found no contract there is nothing to settle. What was not read yet may be anything.
                scene.incomplete |= !self.vain.contains_key(&position.contract);
                continue;
            };
            match (position.side, holding) {
                (Side::Client, Holding::Client(state)) => {
                    let is_shut = shut.contains(&position.contract);
                    scene.clients.push(client_view(position, &state, proxy, is_shut));
                }
                (Side::Worker, Holding::Worker(Some(state))) => {
                    scene.workers.push(worker_view(position, Some(&state), proxy, None));
                }
                (Side::Worker, Holding::Worker(None)) => {
                    let (of, owner) = self.undeployed(position).unzip();
                    scene.workers.push(worker_view(position, None, of.unwrap_or(proxy), owner));
                }
                // It was read for the other side, which an address cannot be of.
                (Side::Client, Holding::Worker(_)) | (Side::Worker, Holding::Client(_)) => scene.incomplete = true,
            }
        }
        scene
    }

    /// The instance that a worker's contract would be of, and the owner that makes it so.
    fn undeployed(&self, position: &Position) -> Option<(Address, Address)> {
        let owner = position.owner.as_ref()?.parse().ok()?;
        let is_of =
            |instance: &&Instance| instance.worker_init(owner).is_ok_and(|init| init.address() == position.contract);
        self.instances().find(is_of).map(|instance| (instance.contract, owner))
    }

    fn proxy_view(&self, instance: &Instance) -> Option<ProxyView> {
        let state = self.proxies.get(&instance.contract)?;
        let leaving = match (self.closing, instance.contract == self.current.contract) {
            (true, _) => Some(Leaving::ByCommand),
            (false, false) => Some(Leaving::Moved),
            (false, true) => None,
        };
        let ProxyState { balance, stake, funds, unlock_unix_s, .. } = state;
        Some(ProxyView {
            contract: instance.contract,
            leaving,
            lifecycle: state.state,
            balance: balance.get(),
            stake: stake.get(),
            funds: funds.get(),
            unlock_unix_s: *unlock_unix_s,
            price: instance.params.price_per_token.get(),
            worker_fee: instance.params.worker_fee_per_token.get(),
        })
    }

    pub(super) fn instances(&self) -> impl Iterator<Item = &Instance> {
        std::iter::once(&self.current).chain(&self.old)
    }

    // ---- after ----------------------------------------------------------------------------------

    /// Accounts and instances that ended. True when, after a command to close, nothing is left to do.
    async fn clean_up(&mut self, books: &Books, positions: &[Position], plan: &Plan) -> Result<bool, HubGone> {
        for contract in &plan.done {
            books.tell(BooksInput::CloseAccount { contract: *contract }).await?;
            self.desk.forget(*contract);
            self.shut.remove(contract);
        }
        if self.closing {
            let is_over = |instance: &Instance| {
                plan.over.contains(&instance.contract) || !self.proxies.contains_key(&instance.contract)
            };
            return Ok(plan.actions.is_empty() && self.works.is_empty() && self.instances().all(is_over));
        }
        let mut open = BTreeMap::<Address, usize>::new();
        for position in positions.iter().filter(|position| !plan.done.contains(&position.contract)) {
            // Of an account that was not read, it is not known whose it is.
            let proxy = self.desk.remembered(position.contract).map(|entry| entry.proxy);
            let Some(proxy) = proxy.or_else(|| self.old.first().map(|old| old.contract)) else { continue };
            *open.entry(proxy).or_default() += 1;
        }
        let over: Vec<_> = plan.over.iter().filter(|contract| !open.contains_key(*contract)).copied().collect();
        if over.is_empty() {
            return Ok(false);
        }
        for contract in over {
            info!(contract = %contract.raw(), "an earlier contract of the proxy is closed to the end");
            self.old.retain(|instance| instance.contract != contract);
            self.logs.retain(|log| log.account != contract);
            self.proxies.remove(&contract);
        }
        self.tell_desk();
        self.keep_instances(books).await?;
        Ok(false)
    }

    fn show(&mut self, books: &Books, positions: &[Position], plan: &Plan) {
        let count = |side| positions.iter().filter(|position| position.side == side).count();
        let commit_pending = books.reports.borrow().commit.map(|commit| commit.number);
        let commit_age_s = self.commits.seen_at.map(|at| at.elapsed().as_secs());
        let mut status = self.control.lock();
        status.phase = if self.closing { Phase::Closing } else { Phase::Serving };
        status.contract = self.current.contract.raw();
        if let Some(proxy) = self.proxies.get(&self.current.contract) {
            status.stake = proxy.stake.ton();
            status.commission = proxy.balance.ton();
            status.funds = proxy.funds.ton();
        }
        status.chain_unix_s = self.desk.chain_unix_s();
        status.commit_seen = self.commits.seen;
        status.commit_pending = commit_pending.filter(|number| *number > self.commits.seen);
        status.commit_age_s = commit_age_s;
        status.clients = count(Side::Client);
        status.workers = count(Side::Worker);
        status.old_instances = self.old.len();
        status.problem = self.problems.shown();
        status.take_plan(plan);
    }

    /// Something that the next round tries again.
    fn failed_here(&mut self, problem: String) {
        self.problems.in_round(problem);
    }
}

fn client_view(position: &Position, state: &ClientState, proxy: Address, shut: bool) -> ClientView {
    ClientView {
        contract: position.contract,
        proxy,
        known: position.marks.known.get(),
        committed: position.marks.committed.get(),
        in_flight: position.in_flight.max(u64::from(position.reserved != AdjustedTokens::ZERO)),
        shut,
        lifecycle: state.state,
        balance: state.balance.get(),
        stake: state.stake.get(),
        charged: state.tokens_used,
        due: state.due.get(),
        unlock_unix_s: state.unlock_unix_s,
    }
}

fn worker_view(position: &Position, state: Option<&WorkerState>, proxy: Address, owner: Option<Address>) -> WorkerView {
    WorkerView {
        contract: position.contract,
        proxy,
        known: position.marks.known.get(),
        committed: position.marks.committed.get(),
        deployed: state.is_some(),
        owner,
        lifecycle: state.map_or(Lifecycle::Normal, |state| state.state),
        paid: state.map_or(0, |state| state.tokens),
        unpaid_worker: state.map_or(0, |state| state.unpaid.worker.get()),
        unpaid_proxy: state.map_or(0, |state| state.unpaid.proxy.get()),
    }
}
