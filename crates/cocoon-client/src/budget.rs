//! The client's own books: what it owes each proxy by its own count, and what it may still spend.
//!
//! 1. [`Budget::hold`] takes what a request can cost at most, before it is sent; a limit of the owner or of the API key
//!    that it does not fit refuses it. The hold is in the file before the call returns.
//! 2. [`Hold::settled`] puts what was used in its place; [`Hold::nothing`] gives it back, for a request that never left.
//!    A hold that is dropped stays open: its end was not heard, and it counts in full until it is.
//! 3. [`Budget::heard`] compares what a proxy demands with the count and the open holds. Tolerance is 0.
//! 4. [`Budget::open_requests`] are asked for by `client.getSettledRequests`; [`Budget::resolve`] takes the answer, of
//!    which a charge counts as far as its receipt proves it. One whose receipt is lost stays open at its most, and is
//!    settled by the proxy's word, up to that, once the request has long been over.
//!
//! Accounts are named by the *client's* contract with the proxy, as signed payments are. Without a contract (no chain)
//! everything is counted in memory, and the limits hold all the same.
//! It fails closed: what cannot be written is not sent. It knows no HTTP and asks nobody anything.
//!
//! A hold survives this process at once, an end within some milliseconds, both the machine within a second. An end that is
//! lost leaves its hold, which is asked for again. A machine that dies takes up to a
//! second of holds with it, so that an honest proxy may demand what the file does not explain; it is refused until the
//! owner sets `budget.insecure_accept_demands` for one start.

mod books;
mod day;
mod demand;
pub(crate) mod desk;
mod limit;
mod record;
mod report;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    fs::File,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use cocoon_ton::Address;
use cocoon_units::{AdjustedTokens, Clock, Coefficient, Nano, Pricing, Ton, Usage};
use cocoon_wal::{Wal, WalError};
use cocoon_wire::message::{PaymentStatus, SettledRequest, TokensUsed};
use tokio::sync::Notify;

pub use self::report::BudgetStatus;
pub(crate) use self::{
    books::Taken,
    demand::DemandDiffers,
    limit::OverLimit,
    report::{Today, UsageRow},
};
use self::{
    books::{Books, Ended, Entry, OpenState},
    day::Day,
    limit::Limits,
    record::Record,
};
use crate::{
    config::ClientConfig,
    error::RequestError,
    keys::{Access, Quota},
    limits,
};

/// The file in the folder of money.
const FILE: &str = "budget.wal";

/// The books of one client.
pub(crate) struct Budget {
    clock: Arc<dyn Clock>,
    limits: Limits,
    accepts_demands: bool,
    /// None without money.
    path: Option<PathBuf>,
    /// An end was written down, and is not in the file yet.
    ends: Notify,
    state: Mutex<State>,
}

/// The books, and where they are kept.
struct State {
    books: Books,
    /// None without money: then nothing is owed to anybody, and nothing must survive.
    wal: Option<Wal>,
    /// The file's length that makes a rewrite worth it.
    rewrite_at: u64,
    /// Whether something was written that may not be on the disk yet.
    is_ahead: bool,
    /// A disk that once failed to say that it has what was written is not believed again.
    is_closed: bool,
}

/// A request that is about to be sent: who pays for it, to whom, and how much at most.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Order<'a> {
    /// The client's contract with the proxy; none without a chain.
    pub(crate) contract: Option<Address>,
    /// The name of the API key; none where there are no keys.
    pub(crate) key: Option<&'a str>,
    /// For `/v1/usage`.
    pub(crate) model: &'a str,
    /// The receipt's id, random, also where no receipt is asked for.
    pub(crate) id: [u8; 32],
    /// Whether nothing will prove what it came to, since no receipt is asked for.
    pub(crate) is_by_word: bool,
    /// What it can cost at most: [`cocoon_units::most_tokens`].
    pub(crate) most: AdjustedTokens,
    /// What the proxy charges by.
    pub(crate) pricing: Pricing,
    /// The dearest worker that the request accepts.
    pub(crate) coefficient: Coefficient,
}

/// What shows that a request cost what a proxy charges for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Proof {
    /// A receipt that holds, of so much.
    Receipt(AdjustedTokens),
    /// A receipt that does not hold: nothing is owed.
    Refused,
    /// Nothing, for now. Honest proxies forget receipts, too, and may not have the evidence for one at hand.
    Missing,
}

/// How an account stands, for the desk and the status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct AccountView {
    /// Everything that was ever used, by our own count: what a proxy may demand.
    pub(crate) counted: AdjustedTokens,
    /// What open requests can still add at most.
    pub(crate) open: AdjustedTokens,
    /// How many those are; requests in flight are among them.
    pub(crate) open_requests: usize,
    /// How many of them have nobody who waits for their end.
    pub(crate) unheard: usize,
    /// What the proxy demanded when it was last heard.
    pub(crate) demanded: Option<AdjustedTokens>,
    /// Why the proxy is refused, if it is.
    pub(crate) differs: Option<DemandDiffers>,
    /// What requests of today cost, of this account.
    pub(crate) spent_today: Nano,
}

impl Budget {
    /// Books in memory, for a client without money.
    pub(crate) fn in_memory(config: &ClientConfig, clock: Arc<dyn Clock>) -> Self {
        Self::with(config, clock, Books::default(), None)
    }

    /// The books of a folder, as they were left; requests that were open then are open now.
    pub(crate) fn open(folder: &Path, config: &ClientConfig, clock: Arc<dyn Clock>) -> Result<Self, BudgetError> {
        let path = folder.join(FILE);
        let (wal, records) = Wal::open(&path)?;
        let mut books = Books::default();
        for record in &records {
            books.apply(Record::decode(record).map_err(BudgetError::Record)?);
        }
        books.lose_all();
        books.warn_of_clock(Day::of(clock.unix_now().as_secs()));
        let budget = Self::with(config, clock, books, Some((path, wal)));
        budget.maintain();
        Ok(budget)
    }

    fn with(config: &ClientConfig, clock: Arc<dyn Clock>, books: Books, file: Option<(PathBuf, Wal)>) -> Self {
        let (path, wal) = file.unzip();
        let rewrite_at = limits::BUDGET_REWRITE_BYTES;
        let state = Mutex::new(State { books, wal, rewrite_at, is_ahead: false, is_closed: false });
        let accepts_demands = config.budget.insecure_accept_demands;
        Self { clock, limits: Limits::new(config), accepts_demands, path, ends: Notify::new(), state }
    }

    /// Takes what a request can cost at most. It may be sent once this returned, and not before.
    pub(crate) fn hold(self: &Arc<Self>, order: &Order<'_>) -> Result<Hold, RequestError> {
        let mut state = self.lock();
        let now_s = self.now_s();
        let day = state.books.today(Day::of(now_s));
        if let Some(differs) = state.books.differs(order.contract) {
            return Err(RequestError::ProxyRefused(differs));
        }
        if let Some(oldest) = state.books.crowded_out(order.contract, now_s) {
            state.end(order.contract, oldest)?;
        }
        if state.books.is_full(order.contract) {
            return Err(RequestError::TooManyOpen);
        }
        self.limits.check(order, &state.books, day, now_s)?;
        let entry = Entry {
            day,
            began_s: now_s,
            key: order.key.unwrap_or_default().to_owned(),
            model: state.books.model_name(day, order.key.unwrap_or_default(), order.model),
            most: order.most,
            price: order.pricing.price,
            is_by_word: order.is_by_word,
            state: OpenState::Live,
        };
        state.write(Record::Hold { contract: order.contract, id: order.id, entry })?;
        Ok(Hold { budget: Arc::clone(self), contract: order.contract, id: order.id, is_over: false })
    }

    /// Checks what a proxy demands: a status, an authorization. Whatever it demands beyond our count and what open
    /// requests may still add is refused, and so is every request to it until it demands less.
    pub(crate) fn heard(&self, contract: Address, demand: &PaymentStatus) -> Result<(), DemandDiffers> {
        let demanded = demand::of(contract, demand);
        let mut state = self.lock();
        let outcome = state.books.heard(contract, demanded);
        if let (Err(DemandDiffers::Above { demanded, .. }), true) = (outcome, self.accepts_demands) {
            return state.accept(contract, demanded);
        }
        outcome
    }

    /// What the contract says on chain, or nothing where there is none yet. The first word on an account that these books
    /// do not know is taken as it is: so it must be told before the proxy is first heard, and before the first request.
    /// Later it is a demand like any other.
    pub(crate) fn charged(&self, contract: Address, tokens: AdjustedTokens) -> Result<(), BooksError> {
        let mut state = self.lock();
        if state.books.knows(contract) {
            return Ok(state.books.charged(contract, tokens)?);
        }
        Ok(state.set_count(contract, tokens)?)
    }

    /// Requests whose end was not heard, oldest first, to be asked for; at most as many as one question may hold.
    pub(crate) fn open_requests(&self, contract: Address) -> Vec<[u8; 32]> {
        self.lock().books.unheard(contract)
    }

    /// Takes the answer to a question for `asked`. `proven` gives what a request's receipt proves. A charge without a
    /// proof is a claim: the hold stays, until the request is so old that the claim is taken, and counted in the status.
    /// What the answer does not name cost nothing so far, and a proxy that still demands it is refused.
    pub(crate) fn resolve(
        &self,
        contract: Address,
        asked: &[[u8; 32]],
        settled: &[SettledRequest],
        proven: impl Fn(&SettledRequest) -> Proof,
    ) -> Result<(), BooksError> {
        let named = settled.iter().filter(|request| asked.contains(&request.id));
        let proofs: Vec<_> = named.map(|request| (request.id, request.tokens, proven(request))).collect();
        let now_s = self.now_s();
        let mut state = self.lock();
        for (id, claimed, proof) in proofs {
            let tokens = match proof {
                Proof::Receipt(proven) => proven.min(claimed),
                Proof::Refused => AdjustedTokens::ZERO,
                Proof::Missing => {
                    state.books.claim(contract, id, claimed);
                    continue;
                }
            };
            state.end(Some(contract), Ended { id, tokens, raw: None })?;
        }
        state.settle_claims(contract, now_s)?;
        state.flush_or_close()?;
        Ok(state.books.deny_rest(contract, asked)?)
    }

    /// Takes the word of a proxy for requests whose end was not heard and of which there is no receipt, as far as they were
    /// held, once they are so old that nothing can change any more.
    pub(crate) fn settle_by_word(&self, contract: Address, taken: Taken) -> Result<(), BooksClosed> {
        let mut state = self.lock();
        for ended in state.books.by_word(contract, taken, self.now_s()) {
            state.end(Some(contract), ended)?;
        }
        state.flush_or_close()
    }

    /// The end of a request that nobody waits for any more, as a proxy tells it late. False when it is not open.
    fn ended(&self, contract: Option<Address>, id: [u8; 32], tokens: &TokensUsed, raw: Option<Usage>) -> bool {
        let ended = Ended { id, tokens: demand::used(tokens), raw };
        let is_open = self.lock().end_or_log(contract, ended);
        self.ends.notify_one();
        is_open
    }

    /// Resolves when a request ended that is not in the file yet.
    pub(crate) async fn news(&self) {
        self.ends.notified().await;
    }

    /// Writes what the file lacks, in one write.
    pub(crate) fn flush(&self) {
        // What is wrong with the file is in the log, and the next request is refused for it.
        let _ = self.lock().flush_or_close();
    }

    /// How an account stands.
    pub(crate) fn account(&self, contract: Address) -> AccountView {
        let mut state = self.lock();
        let day = state.books.today(Day::of(self.now_s()));
        state.books.view(contract, day)
    }

    /// What the caller used of today's quota.
    pub(crate) fn today(&self, access: &Access) -> Today {
        let key = access.key.as_deref();
        let mut state = self.lock();
        let day = state.books.today(Day::of(self.now_s()));
        let total = state.books.total(day, key);
        let quota = key.map_or_else(Quota::default, |key| self.limits.quota(key));
        let money = if key.is_some() { quota.ton_per_day.map(Ton::nano) } else { Some(self.limits.per_day()) };
        Today {
            date: day.date(),
            key: key.map(str::to_owned),
            adjusted_tokens: total.adjusted.get(),
            held_tokens: total.held_tokens.get(),
            cost_nano: total.spent.get(),
            held_nano: total.held.get(),
            tokens_limit: quota.tokens_per_day,
            nano_limit: money.map(Nano::get),
        }
    }

    /// The whole, for the client's status.
    pub(crate) fn status(&self) -> BudgetStatus {
        let mut state = self.lock();
        let day = state.books.today(Day::of(self.now_s()));
        let total = state.books.total(day, None);
        BudgetStatus {
            spent_today_nano: total.spent.get(),
            held_today_nano: total.held.get(),
            per_day_nano: self.limits.per_day().get(),
            requests_unheard: state.books.unheard_count(),
            proxies_differing: state.books.differing(),
            demands_refused: state.books.demands_refused(),
            settled_by_word: state.books.settled_by_word(),
            writable: !state.is_closed,
        }
    }

    /// What was used, by day, key and model, newest day first; of one key or of all.
    pub(crate) fn usage(&self, key: Option<&str>) -> Vec<UsageRow> {
        self.lock().books.usage(key)
    }

    /// Whether there is a file.
    pub(crate) const fn is_kept(&self) -> bool {
        self.path.is_some()
    }

    /// Brings what was written to the disk, and replaces a long file by what is still worth knowing. Blocks. Where the
    /// disk fails, no further request is sent until the client is started again.
    pub(crate) fn maintain(&self) {
        let mut state = self.lock();
        let oldest = state.books.today(Day::of(self.now_s())).before(limits::USAGE_DAYS_KEPT);
        let was_ahead = std::mem::take(&mut state.is_ahead);
        let outcome = if state.is_long() {
            state.rewrite(oldest)
        } else {
            state.books.forget_before(oldest);
            let flushed = state.flush();
            drop(state);
            // Requests need not wait for the disk: it is the same file by another handle.
            flushed.and_then(|()| if was_ahead { self.sync() } else { Ok(()) })
        };
        if let Err(error) = outcome {
            self.lock().close(&error);
        }
    }

    fn sync(&self) -> Result<(), WalError> {
        let Some(path) = &self.path else { return Ok(()) };
        File::open(path).and_then(|file| file.sync_data()).map_err(|error| WalError::Io { path: path.clone(), error })
    }

    /// As if so many tokens of an account had been used.
    #[cfg(test)]
    pub(crate) fn count_for_tests(&self, contract: Address, tokens: AdjustedTokens) {
        self.lock().set_count(contract, tokens).unwrap();
    }

    fn now_s(&self) -> u64 {
        self.clock.unix_now().as_secs()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A change is made in the file first and cannot fail in memory, so the books are whole even after a panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// In the file first: what is not there, did not happen.
    fn write(&mut self, record: Record) -> Result<(), BooksClosed> {
        self.append(&record)?;
        self.books.apply(record);
        Ok(())
    }

    fn append(&mut self, record: &Record) -> Result<(), BooksClosed> {
        let Some(wal) = &mut self.wal else { return Ok(()) };
        let is_open = !self.is_closed && wal.bytes() < limits::BUDGET_FILE_BYTES_MAX;
        let bytes = record.encode().filter(|_| is_open).ok_or(BooksClosed)?;
        // An end that a crash forgets leaves its hold in full, which is asked for again.
        let added = if matches!(record, Record::End { .. }) { wal.push(&bytes) } else { wal.append(&bytes) };
        if let Err(error) = added {
            self.close(&error);
            return Err(BooksClosed);
        }
        self.is_ahead = true;
        Ok(())
    }

    fn set_count(&mut self, contract: Address, counted: AdjustedTokens) -> Result<(), BooksClosed> {
        self.write(Record::Account { contract: Some(contract), counted, spent: <(Day, Nano)>::default() })
    }

    /// What the owner asked for: the proxy's word for our count.
    fn accept(&mut self, contract: Address, demanded: AdjustedTokens) -> Result<(), DemandDiffers> {
        tracing::warn!(%contract, %demanded, "a demand above our own count is accepted: `insecure_accept_demands` is set");
        // A count that cannot be written is not taken, so the demand differs.
        let _ = self.set_count(contract, demanded);
        self.books.heard(contract, Ok(demanded))
    }

    fn end(&mut self, contract: Option<Address>, ended: Ended) -> Result<bool, BooksClosed> {
        let Some(ended) = self.books.clamp(contract, ended) else { return Ok(false) };
        self.write(Record::End { contract, ended }).map(|()| true)
    }

    /// Takes a proxy's word for what it charged and cannot prove, of requests that have long been over.
    fn settle_claims(&mut self, contract: Address, now_s: u64) -> Result<(), BooksClosed> {
        let claims = self.books.claims(contract, now_s);
        if claims.is_empty() {
            return Ok(());
        }
        let requests = claims.len();
        tracing::warn!(%contract, requests, "requests without a receipt are paid for by the proxy's word");
        for claim in claims {
            self.end(Some(contract), claim)?;
            self.books.count_word();
        }
        Ok(())
    }

    /// One that cannot be written stays open, at its most.
    fn end_or_log(&mut self, contract: Option<Address>, ended: Ended) -> bool {
        self.end(contract, ended).unwrap_or(true)
    }

    fn close(&mut self, error: &WalError) {
        tracing::error!(%error, "the budget cannot be written: no request is sent until this is mended");
        self.is_closed = true;
    }

    fn flush_or_close(&mut self) -> Result<(), BooksClosed> {
        self.flush().map_err(|error| {
            self.close(&error);
            BooksClosed
        })
    }

    fn flush(&mut self) -> Result<(), WalError> {
        self.wal.as_mut().map_or(Ok(()), Wal::flush)
    }

    fn is_long(&self) -> bool {
        self.wal.as_ref().is_some_and(|wal| wal.bytes() >= self.rewrite_at)
    }

    fn rewrite(&mut self, oldest: Day) -> Result<(), WalError> {
        self.books.forget_before(oldest);
        let Some(wal) = &mut self.wal else { return Ok(()) };
        let records: Vec<_> = self.books.records().filter_map(|record| record.encode()).collect();
        wal.rewrite(records.iter().map(Vec::as_slice))?;
        self.rewrite_at = wal.bytes().saturating_mul(2).max(limits::BUDGET_REWRITE_BYTES);
        Ok(())
    }
}

/// What one request can cost at most, taken out of the budget until its end is known.
///
/// Dropped, it stays open: whoever holds it must say how the request ended, or leave it to
/// [`Budget::open_requests`].
#[must_use = "a hold that is dropped counts in full until the proxy proves what the request cost"]
pub(crate) struct Hold {
    budget: Arc<Budget>,
    contract: Option<Address>,
    id: [u8; 32],
    is_over: bool,
}

impl Hold {
    /// Puts what the request used in its place, at most what was held. `raw` is what the engine counted.
    pub(crate) fn settled(mut self, tokens: &TokensUsed, raw: Option<Usage>) {
        self.is_over = true;
        self.budget.ended(self.contract, self.id, tokens, raw);
    }

    /// Gives it back: the request never left, or it is certain that it costs nothing.
    pub(crate) fn nothing(mut self) {
        self.is_over = true;
        let nothing = Ended { id: self.id, tokens: AdjustedTokens::ZERO, raw: None };
        self.budget.lock().end_or_log(self.contract, nothing);
        self.budget.ends.notify_one();
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if !self.is_over {
            self.budget.lock().books.lose(self.contract, self.id);
        }
    }
}

impl fmt::Debug for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hold")
    }
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Budget")
    }
}

/// Why there are no books.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BudgetError {
    /// The file cannot be used.
    #[error(transparent)]
    File(#[from] WalError),
    /// The file is whole, and says what this version does not know.
    #[error("the budget holds a record that this version does not understand: was it written by a newer one?")]
    Record(#[source] serde_json::Error),
}

/// Why what a proxy or the chain says did not become part of the books.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BooksError {
    #[error(transparent)]
    PeerDiffers(#[from] DemandDiffers),
    #[error(transparent)]
    Closed(#[from] BooksClosed),
}

/// The file cannot be written; the log says why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the client's budget cannot be written")]
pub(crate) struct BooksClosed;
