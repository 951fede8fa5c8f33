//! The sums themselves: pure, and changed by [`Books::apply`] only, so that a file that is read again gives the same.
//!
//! An account has a count and open requests; a row has what one key used of one model on one day. Every request is in
//! one account and one row from its hold to its end, and belongs to the day on which it began, whenever it ends.
//! What is not in the file: what a proxy last demanded, and which open requests it says cost nothing. Both are asked
//! again.

use std::collections::BTreeMap;

use cocoon_ton::Address;
use cocoon_units::{AdjustedTokens, Nano, NanoPerToken, Usage};
use cocoon_wire::limits::SETTLED_MAX;
use serde::{Deserialize, Serialize};

use super::{AccountView, day::Day, demand::DemandDiffers, record::Record, report::UsageRow};
use crate::limits;

/// What further models of a day are counted as, once there are too many.
const OTHER: &str = "other";

/// Everything that is counted.
#[derive(Debug, Default)]
pub(super) struct Books {
    accounts: BTreeMap<Option<Address>, Account>,
    rows: BTreeMap<RowKey, Row>,
    /// The latest day that was seen.
    today: Day,
    /// Since this process began.
    demands_refused: u64,
    settled_by_word: u64,
}

/// What we owe one proxy.
#[derive(Debug, Default)]
struct Account {
    counted: AdjustedTokens,
    open: BTreeMap<[u8; 32], Entry>,
    demanded: Option<AdjustedTokens>,
    /// Grows whenever the demand does.
    demand: u64,
    /// What that was when the proxy was last asked what became of requests: its answer says nothing of a later demand.
    asked_at: u64,
    /// The part of it that the chain has taken from us already, which no later word makes undone.
    charged: AdjustedTokens,
    differs: Option<DemandDiffers>,
    /// What requests of the latest day cost.
    spent: (Day, Nano),
    /// Whether the file says anything of it.
    is_known: bool,
}

/// A request whose end is not known.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    pub(super) day: Day,
    pub(super) began_s: u64,
    /// Empty where there are no keys.
    pub(super) key: String,
    pub(super) model: String,
    pub(super) most: AdjustedTokens,
    pub(super) price: NanoPerToken,
    /// Nothing proves what it came to: no receipt was asked for.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) is_by_word: bool,
    #[serde(skip)]
    pub(super) state: OpenState,
}

/// Who knows what of an open request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum OpenState {
    /// Somebody waits for its end.
    Live,
    /// Nobody does: the app hung up, or this process began later.
    #[default]
    Lost,
    /// The proxy was asked, and says that it cost nothing so far. That settles the demand of this number, and not a later
    /// one: a worker may hand a receipt over to a proxy that lost it in a crash.
    Denied { demand: u64 },
    /// The proxy was asked, and says that it cost so much, without a proof.
    Claimed { tokens: AdjustedTokens },
}

/// Of which open requests a proxy's word is taken, once nothing can change any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// Of those for which no receipt was asked.
    Unreceipted,
    /// Of all: the proxy cannot be asked for any.
    All,
}

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ended {
    #[serde(with = "cocoon_units::hex_text")]
    pub(super) id: [u8; 32],
    pub(super) tokens: AdjustedTokens,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) raw: Option<Usage>,
}

/// Of what a row counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RowKey {
    pub(super) day: Day,
    pub(super) key: String,
    pub(super) model: String,
}

/// What one key used of one model on one day.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Row {
    pub(super) requests: u64,
    /// Of requests with a receipt.
    pub(super) raw: Usage,
    pub(super) total: Total,
}

/// What was used, and what is held for open requests; held sums follow from those and are not kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Total {
    pub(super) adjusted: AdjustedTokens,
    pub(super) spent: Nano,
    #[serde(skip)]
    pub(super) held_tokens: AdjustedTokens,
    #[serde(skip)]
    pub(super) held: Nano,
}

impl Total {
    /// Spent or held.
    pub(super) fn money(&self) -> Nano {
        add_nano(self.spent, self.held)
    }

    /// Used or held.
    pub(super) fn tokens(&self) -> AdjustedTokens {
        add(self.adjusted, self.held_tokens)
    }

    fn hold(&mut self, entry: &Entry) {
        self.held_tokens = add(self.held_tokens, entry.most);
        self.held = add_nano(self.held, entry.cost(entry.most));
    }

    fn release(&mut self, entry: &Entry) {
        self.held_tokens = self.held_tokens.checked_sub(entry.most).unwrap_or_default();
        self.held = self.held.checked_sub(entry.cost(entry.most)).unwrap_or_default();
    }

    fn spend(&mut self, tokens: AdjustedTokens, cost: Nano) {
        self.adjusted = add(self.adjusted, tokens);
        self.spent = add_nano(self.spent, cost);
    }

    fn with(mut self, other: &Self) -> Self {
        self.held_tokens = add(self.held_tokens, other.held_tokens);
        self.held = add_nano(self.held, other.held);
        self.spend(other.adjusted, other.spent);
        self
    }
}

impl Entry {
    fn cost(&self, tokens: AdjustedTokens) -> Nano {
        self.price.cost(tokens).unwrap_or(Nano::MAX)
    }

    fn is_unheard(&self) -> bool {
        self.state != OpenState::Live
    }

    /// Whether it is over at every node, whoever heard of it.
    const fn is_certain(&self, now_s: u64) -> bool {
        now_s.saturating_sub(self.began_s) >= limits::OPEN_CERTAIN_S
    }

    fn is_denied(&self) -> bool {
        matches!(self.state, OpenState::Denied { .. })
    }

    /// Whether the proxy is to be asked what it came to, or asked again.
    const fn is_asked_for(&self) -> bool {
        !self.is_by_word && matches!(self.state, OpenState::Lost | OpenState::Claimed { .. })
    }

    fn is_over(&self, now_s: u64) -> bool {
        self.is_unheard() && self.is_certain(now_s)
    }

    const fn claimed(&self) -> Option<AdjustedTokens> {
        match self.state {
            OpenState::Claimed { tokens } => Some(tokens),
            OpenState::Live | OpenState::Lost | OpenState::Denied { .. } => None,
        }
    }

    fn row(&self) -> RowKey {
        RowKey { day: self.day, key: self.key.clone(), model: self.model.clone() }
    }
}

impl Books {
    /// Makes a change. It cannot fail, and is the same whenever it is made.
    pub(super) fn apply(&mut self, record: Record) {
        match record {
            Record::Hold { contract, id, entry } => self.take(contract, id, entry),
            Record::End { contract, ended } => self.end(contract, ended),
            Record::Account { contract, counted, spent } => {
                let account = self.accounts.entry(contract).or_default();
                (account.counted, account.spent, account.is_known) = (counted, spent, true);
            }
            Record::Row { key, row } => {
                self.today = self.today.max(key.day);
                self.rows.insert(key, row);
            }
        }
    }

    fn take(&mut self, contract: Option<Address>, id: [u8; 32], entry: Entry) {
        self.today = self.today.max(entry.day);
        self.rows.entry(entry.row()).or_default().total.hold(&entry);
        let account = self.accounts.entry(contract).or_default();
        account.is_known = true;
        account.open.insert(id, entry);
    }

    fn end(&mut self, contract: Option<Address>, ended: Ended) {
        let account = self.accounts.entry(contract).or_default();
        let Some(entry) = account.open.remove(&ended.id) else { return };
        let cost = entry.cost(ended.tokens);
        account.counted = add(account.counted, ended.tokens);
        account.spend(entry.day, cost);
        let row = self.rows.entry(entry.row()).or_default();
        if !entry.is_denied() {
            row.total.release(&entry);
        }
        row.total.spend(ended.tokens, cost);
        row.count(&ended);
    }

    /// The latest day that was ever seen, by a clock that may go back.
    pub(super) fn today(&mut self, by_clock: Day) -> Day {
        self.today = self.today.max(by_clock);
        self.today
    }

    /// Tells the owner of a file from the future: its last day goes on until then.
    pub(super) fn warn_of_clock(&self, by_clock: Day) {
        if self.today > by_clock {
            let date = self.today.date();
            tracing::warn!(%date, "the budget was used on a later day than this: its limit of that day lasts until then");
        }
    }

    pub(super) fn knows(&self, contract: Address) -> bool {
        self.accounts.get(&Some(contract)).is_some_and(|account| account.is_known)
    }

    /// The model's own name, while there are few enough.
    pub(super) fn model_name(&self, day: Day, key: &str, model: &str) -> String {
        let model: String = model.chars().take(limits::USAGE_MODEL_CHARS).collect();
        let mine = RowKey { day, key: key.to_owned(), model };
        let is_room = || self.rows_of(day).count() < limits::USAGE_ROWS_PER_DAY;
        if self.rows.contains_key(&mine) || is_room() { mine.model } else { OTHER.to_owned() }
    }

    /// Everything of a day, or of one key on it.
    pub(super) fn total(&self, day: Day, key: Option<&str>) -> Total {
        let rows = self.rows_of(day).filter(|(row, _)| key.is_none_or(|key| row.key == key));
        rows.fold(Total::default(), |sum, (_, row)| sum.with(&row.total))
    }

    fn rows_of(&self, day: Day) -> impl Iterator<Item = (&RowKey, &Row)> {
        let first = |day| RowKey { day, ..RowKey::default() };
        self.rows.range(first(day)..first(day.next()))
    }

    pub(super) fn usage(&self, key: Option<&str>) -> Vec<UsageRow> {
        let rows = self.rows.iter().rev().filter(|(row, _)| key.is_none_or(|key| row.key == key));
        rows.map(|(key, row)| UsageRow::new(key, row)).collect()
    }

    /// An end as it may be counted; `None` when the request is not open.
    pub(super) fn clamp(&self, contract: Option<Address>, ended: Ended) -> Option<Ended> {
        let most = self.accounts.get(&contract)?.open.get(&ended.id)?.most;
        Some(Ended { tokens: ended.tokens.min(most), ..ended })
    }

    /// Nobody waits for its end any more.
    pub(super) fn lose(&mut self, contract: Option<Address>, id: [u8; 32]) {
        if let Some(entry) = self.accounts.get_mut(&contract).and_then(|account| account.open.get_mut(&id)) {
            entry.state = OpenState::Lost;
        }
    }

    pub(super) fn lose_all(&mut self) {
        for entry in self.accounts.values_mut().flat_map(|account| account.open.values_mut()) {
            entry.state = OpenState::Lost;
        }
    }

    pub(super) fn unheard_count(&self) -> usize {
        self.accounts.values().flat_map(|account| account.open.values()).filter(|entry| entry.is_unheard()).count()
    }

    pub(super) fn differing(&self) -> usize {
        self.accounts.values().filter(|account| account.differs.is_some()).count()
    }

    pub(super) const fn demands_refused(&self) -> u64 {
        self.demands_refused
    }

    pub(super) fn differs(&self, contract: Option<Address>) -> Option<DemandDiffers> {
        self.accounts.get(&contract)?.differs
    }

    /// What a proxy demands. A demand that only requests explain which it said cost nothing makes us ask again.
    pub(super) fn heard(
        &mut self,
        contract: Address,
        demanded: Result<AdjustedTokens, DemandDiffers>,
    ) -> Result<(), DemandDiffers> {
        let Self { accounts, rows, demands_refused, .. } = self;
        let account = accounts.entry(Some(contract)).or_default();
        let demanded = demanded.map(|demanded| demanded.max(account.charged));
        account.note(demanded.ok());
        let outcome = demanded.and_then(|demanded| account.explain(demanded, rows));
        account.differs = outcome.err();
        *demands_refused = demands_refused.saturating_add(u64::from(outcome.is_err()));
        outcome
    }

    /// What the chain says was charged: a demand that has been paid.
    pub(super) fn charged(&mut self, contract: Address, tokens: AdjustedTokens) -> Result<(), DemandDiffers> {
        let Self { accounts, rows, demands_refused, .. } = self;
        let account = accounts.entry(Some(contract)).or_default();
        account.charged = account.charged.max(tokens);
        let demanded = account.demanded.max(Some(account.charged));
        account.note(demanded);
        let outcome = account.explain(demanded.unwrap_or_default(), rows);
        account.differs = outcome.err().or(account.differs);
        *demands_refused = demands_refused.saturating_add(u64::from(outcome.is_err()));
        outcome
    }

    pub(super) const fn settled_by_word(&self) -> u64 {
        self.settled_by_word
    }

    pub(super) const fn count_word(&mut self) {
        self.settled_by_word = self.settled_by_word.saturating_add(1);
    }

    /// The proxy charges so much for a request whose end was not heard, and has not proved it. A word that it gave
    /// before stands until it gives another: an honest proxy forgets charges after it forgot their receipts.
    pub(super) fn claim(&mut self, contract: Address, id: [u8; 32], tokens: AdjustedTokens) {
        let entry = self.accounts.get_mut(&Some(contract)).and_then(|account| account.open.get_mut(&id));
        if let Some(entry) = entry.filter(|entry| entry.is_asked_for()) {
            entry.state = OpenState::Claimed { tokens };
        }
    }

    /// How requests ended, by the proxy's word, of which no proof is to be expected any more.
    pub(super) fn claims(&self, contract: Address, now_s: u64) -> Vec<Ended> {
        let Some(account) = self.accounts.get(&Some(contract)) else { return Vec::new() };
        let claims = account.open.iter().filter(|(_, entry)| entry.is_certain(now_s));
        let claims = claims.filter_map(|(id, entry)| Some((*id, entry.claimed()?)));
        claims.map(|(id, tokens)| Ended { id, tokens, raw: None }).collect()
    }

    /// Requests whose end was not heard, as many as one question may hold: those that were not asked for yet, and then
    /// those that are not proved yet, the oldest first.
    pub(super) fn unheard(&mut self, contract: Address) -> Vec<[u8; 32]> {
        let Some(account) = self.accounts.get_mut(&Some(contract)) else { return Vec::new() };
        account.asked_at = account.demand;
        let mut lost: Vec<_> = account.open.iter().filter(|(_, entry)| entry.is_asked_for()).collect();
        lost.sort_by_key(|(_, entry)| (entry.claimed().is_some(), entry.began_s));
        lost.into_iter().map(|(id, _)| *id).take(SETTLED_MAX).collect()
    }

    /// The proxy was asked for these, and those that are still open cost nothing when it was. A demand of that time which
    /// the rest does not explain is not ours.
    pub(super) fn deny_rest(&mut self, contract: Address, asked: &[[u8; 32]]) -> Result<(), DemandDiffers> {
        let Self { accounts, rows, .. } = self;
        let Some(account) = accounts.get_mut(&Some(contract)) else { return Ok(()) };
        let denied = OpenState::Denied { demand: account.asked_at };
        for id in asked {
            if let Some(entry) = account.open.get_mut(id).filter(|entry| entry.state == OpenState::Lost) {
                entry.state = denied;
                rows.entry(entry.row()).or_default().total.release(entry);
            }
        }
        let outcome = account.demanded.map_or(Ok(()), |demanded| account.explain(demanded, rows));
        if account.differs.is_none() {
            account.differs = outcome.err();
        }
        self.demands_refused = self.demands_refused.saturating_add(u64::from(outcome.is_err()));
        outcome
    }

    /// How open requests ended, if nothing can change any more, by the last demand: it is theirs, the oldest first.
    pub(super) fn by_word(&self, contract: Address, taken: Taken, now_s: u64) -> Vec<Ended> {
        let Some(account) = self.accounts.get(&Some(contract)) else { return Vec::new() };
        let Some(demanded) = account.demanded else { return Vec::new() };
        let is_taken = |entry: &Entry| entry.is_by_word || taken == Taken::All;
        if !account.open.values().all(|entry| is_taken(entry) && entry.is_over(now_s) || entry.is_denied()) {
            return Vec::new();
        }
        let mut left = demanded.checked_sub(account.counted).unwrap_or_default();
        let mut open: Vec<_> = account.open.iter().filter(|(_, entry)| is_taken(entry)).collect();
        open.sort_by_key(|(_, entry)| entry.began_s);
        open.into_iter()
            .map(|(id, entry)| {
                let tokens = left.min(entry.most);
                left = left.checked_sub(tokens).unwrap_or_default();
                Ended { id: *id, tokens, raw: None }
            })
            .collect()
    }

    /// What makes room for one more request in a full account, if anything does. Where nobody proves what a lost request
    /// cost, the oldest is taken as used up: at once without a chain, and else once it has long been over. One that the
    /// proxy denied is taken at its word then.
    pub(super) fn crowded_out(&self, contract: Option<Address>, now_s: u64) -> Option<Ended> {
        let account = self.accounts.get(&contract).filter(|account| account.is_full())?;
        let goes = |entry: &Entry| match contract {
            None => entry.is_unheard(),
            Some(_) => (entry.is_denied() || entry.is_by_word) && entry.is_over(now_s),
        };
        let (id, oldest) =
            account.open.iter().filter(|(_, entry)| goes(entry)).min_by_key(|(_, entry)| entry.began_s)?;
        let tokens = if oldest.is_denied() { AdjustedTokens::ZERO } else { oldest.most };
        Some(Ended { id: *id, tokens, raw: None })
    }

    pub(super) fn is_full(&self, contract: Option<Address>) -> bool {
        self.accounts.get(&contract).is_some_and(Account::is_full)
    }

    pub(super) fn view(&self, contract: Address, today: Day) -> AccountView {
        let Some(account) = self.accounts.get(&Some(contract)) else { return AccountView::default() };
        let (day, spent) = account.spent;
        AccountView {
            counted: account.counted,
            open: account.open_tokens(|entry| !entry.is_denied()),
            open_requests: account.open.len(),
            unheard: account.open.values().filter(|entry| entry.is_unheard()).count(),
            demanded: account.demanded,
            differs: account.differs,
            spent_today: if day == today { spent } else { Nano::ZERO },
        }
    }

    /// Drops days that nobody asks for any more, and requests of them that no proxy ever demanded.
    pub(super) fn forget_before(&mut self, oldest: Day) {
        for account in self.accounts.values_mut() {
            account.open.retain(|_, entry| entry.day >= oldest || !entry.is_denied());
        }
        self.rows.retain(|key, row| key.day >= oldest || row.total.held_tokens > AdjustedTokens::ZERO);
    }

    /// Everything that is worth knowing, in the order in which it can be applied.
    pub(super) fn records(&self) -> impl Iterator<Item = Record> {
        let accounts = self.accounts.iter().map(|(contract, account)| Record::Account {
            contract: *contract,
            counted: account.counted,
            spent: account.spent,
        });
        let rows = self.rows.iter().map(|(key, row)| Record::Row { key: key.clone(), row: row.clone() });
        let open = self.accounts.iter().flat_map(|(contract, account)| {
            let hold =
                |(id, entry): (&[u8; 32], &Entry)| Record::Hold { contract: *contract, id: *id, entry: entry.clone() };
            account.open.iter().map(hold)
        });
        accounts.chain(rows).chain(open)
    }
}

impl Account {
    fn note(&mut self, demanded: Option<AdjustedTokens>) {
        if demanded > self.demanded {
            self.demand = self.demand.saturating_add(1);
        }
        self.demanded = demanded;
    }

    /// Whether the count and open requests explain a demand. One that needs requests which the proxy denied before it made
    /// the demand makes those worth a question again.
    fn explain(&mut self, demanded: AdjustedTokens, rows: &mut BTreeMap<RowKey, Row>) -> Result<(), DemandDiffers> {
        if demanded <= add(self.counted, self.open_tokens(|entry| !entry.is_denied())) {
            return Ok(());
        }
        let settled = OpenState::Denied { demand: self.demand };
        let (counted, open) = (self.counted, self.open_tokens(|entry| entry.state != settled));
        if demanded > add(counted, open) {
            return Err(DemandDiffers::Above { demanded, counted, open });
        }
        for entry in self.open.values_mut().filter(|entry| entry.is_denied() && entry.state != settled) {
            entry.state = OpenState::Lost;
            rows.entry(entry.row()).or_default().total.hold(entry);
        }
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.open.len() >= limits::OPEN_REQUESTS_MAX
    }

    fn open_tokens(&self, which: impl Fn(&Entry) -> bool) -> AdjustedTokens {
        let which = self.open.values().filter(|entry| which(entry));
        which.fold(AdjustedTokens::ZERO, |sum, entry| add(sum, entry.most))
    }

    fn spend(&mut self, day: Day, cost: Nano) {
        let (latest, spent) = &mut self.spent;
        if day > *latest {
            self.spent = (day, cost);
        } else if day == *latest {
            *spent = add_nano(*spent, cost);
        }
    }
}

impl Row {
    fn count(&mut self, ended: &Ended) {
        self.requests = self.requests.saturating_add(1);
        let Some(raw) = ended.raw else { return };
        self.raw.prompt = self.raw.prompt.saturating_add(raw.prompt);
        self.raw.cached = self.raw.cached.saturating_add(raw.cached);
        self.raw.completion = self.raw.completion.saturating_add(raw.completion);
        self.raw.reasoning = self.raw.reasoning.saturating_add(raw.reasoning);
    }
}

/// A sum that does not fit is the most there is: over every limit.
fn add(a: AdjustedTokens, b: AdjustedTokens) -> AdjustedTokens {
    a.checked_add(b).unwrap_or(AdjustedTokens::MAX)
}

fn add_nano(a: Nano, b: Nano) -> Nano {
    a.checked_add(b).unwrap_or(Nano::MAX)
}
