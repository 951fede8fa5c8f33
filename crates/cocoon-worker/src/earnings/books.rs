//! The accounts with all proxies, and the file that keeps them.
//!
//! 1. A fact changes the account in memory and goes to the file at once: it survives this process. Receipts, of which
//!    there are many, follow some milliseconds later in one write; the proxy has them meanwhile.
//! 2. [`Books::keep`] makes the file survive the machine and shortens it, beside the event loop. What is added meanwhile
//!    waits in memory and follows.
//! 3. A file that cannot be written any more is told ([`Books::trouble`]) and stops nothing: the counts and the latest
//!    payments are in memory, and cashing goes on.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use cocoon_ton::Address;
use cocoon_ton::contract::StateInit;
use cocoon_units::{AdjustedTokens, Clock, Nano};
use cocoon_wal::{Wal, WalError};
use cocoon_wire::message::{CompareBalance, HandedReceipt, RequestPayment, SignedPayment};
use tokio::sync::Notify;
use tokio::task::spawn_blocking;
use tokio::time::{interval, sleep};

use super::EarningsError;
use super::account::{Account, Forgot, Told, Trouble};
use super::payment::PaymentError;
use super::record::Record;
use crate::config::EarningsConfig;
use crate::limits::{
    ACCOUNTS_MAX, EARNINGS_FILE_BYTES_MAX, EARNINGS_REWRITE_BYTES, KEEP_INTERVAL, RECEIPTS_FLUSH_AFTER,
    WAITING_RECORDS_MAX,
};

/// All accounts.
pub(crate) struct Books {
    inner: Mutex<Inner>,
    config: EarningsConfig,
    clock: Arc<dyn Clock>,
    /// Something may be worth cashing.
    news: Notify,
    /// Receipts are not in the file yet.
    receipts: Notify,
}

struct Inner {
    accounts: BTreeMap<Address, Account>,
    file: File,
    /// How long the file is when it is looked at again for what is not worth knowing.
    rewrite_at: u64,
    /// Whether something was added that may not survive the machine.
    is_dirty: bool,
    trouble: Option<String>,
}

/// The file, or what waits for it.
enum File {
    Here(Wal),
    /// A thread has it; these records follow.
    Away(Vec<Vec<u8>>),
}

/// One account, for the session with its proxy.
#[derive(Clone)]
pub(crate) struct Ours {
    books: Arc<Books>,
    contract: Address,
}

/// Reads accounts from their records.
pub(super) fn replay(records: Vec<Vec<u8>>) -> Result<BTreeMap<Address, Account>, EarningsError> {
    let mut accounts = BTreeMap::new();
    for bytes in records {
        let record = Record::from_bytes(&bytes).ok_or(EarningsError::Damaged("it holds a record of no known kind"))?;
        let contract = match &record {
            Record::Account { init } => {
                let account = Account::new(init.clone()).map_err(|_| EarningsError::Damaged("a contract's state"))?;
                accounts.entry(account.contract()).or_insert(account);
                continue;
            }
            Record::Payment { contract, .. }
            | Record::Told { contract, .. }
            | Record::Receipt { contract, .. }
            | Record::Cashed { contract, .. } => *contract,
        };
        let account = accounts.get_mut(&contract).ok_or(EarningsError::Damaged("a record of no account"))?;
        account.replay(record).map_err(|_| EarningsError::Damaged("a payment that does not verify"))?;
    }
    Ok(accounts)
}

impl Books {
    /// Opens the file, which only one process can have.
    pub(crate) fn open(path: &Path, config: EarningsConfig, clock: Arc<dyn Clock>) -> Result<Self, EarningsError> {
        let (wal, records) = Wal::open(path)?;
        let inner = Inner {
            accounts: replay(records)?,
            file: File::Here(wal),
            rewrite_at: EARNINGS_REWRITE_BYTES,
            is_dirty: false,
            trouble: None,
        };
        Ok(Self { inner: Mutex::new(inner), config, clock, news: Notify::new(), receipts: Notify::new() })
    }

    /// The account that is paid through the contract of this initial state; a new one is added.
    pub(crate) fn account(self: &Arc<Self>, init: StateInit) -> Result<Ours, EarningsError> {
        let contract = init.address();
        let mut inner = self.lock();
        if !inner.accounts.contains_key(&contract) {
            if inner.accounts.len() >= ACCOUNTS_MAX {
                return Err(EarningsError::TooManyAccounts);
            }
            let account = Account::new(init.clone()).map_err(|_| EarningsError::Damaged("a contract's state"))?;
            inner.accounts.insert(contract, account);
            inner.write(&Record::Account { init });
        }
        drop(inner);
        Ok(Ours { books: Arc::clone(self), contract })
    }

    pub(super) fn config(&self) -> &EarningsConfig {
        &self.config
    }

    pub(super) fn now_unix_s(&self) -> u64 {
        self.clock.unix_now().as_secs()
    }

    /// Resolves when something may be worth cashing.
    pub(super) async fn news(&self) {
        self.news.notified().await;
    }

    /// What a look at each account gives.
    pub(super) fn each<T>(&self, look: impl FnMut(&Account) -> T) -> Vec<T> {
        self.lock().accounts.values().map(look).collect()
    }

    /// A copy of an account.
    pub(super) fn copy(&self, contract: &Address) -> Option<Account> {
        self.lock().accounts.get(contract).cloned()
    }

    /// Why the file cannot be written, if it cannot.
    pub(super) fn trouble(&self) -> Option<String> {
        self.lock().trouble.clone()
    }

    /// Changes one account; a record that comes out is kept.
    pub(super) fn change<T>(
        &self,
        contract: &Address,
        change: impl FnOnce(&mut Account) -> (T, Option<Record>),
    ) -> Option<T> {
        let mut inner = self.lock();
        let (outcome, record) = change(inner.accounts.get_mut(contract)?);
        if let Some(record) = record {
            inner.write(&record);
        }
        Some(outcome)
    }

    /// Looks after the file until it is dropped.
    pub(super) async fn keep(&self) {
        let mut sync = interval(KEEP_INTERVAL);
        loop {
            tokio::select! {
                () = self.receipts.notified() => {
                    sleep(RECEIPTS_FLUSH_AFTER).await;
                    self.lock().flush();
                }
                _ = sync.tick() => {
                    self.sync().await;
                    self.shorten().await;
                }
            }
        }
    }

    /// Waits until all that was added is on the disk.
    pub(crate) async fn sync(&self) {
        if !std::mem::take(&mut self.lock().is_dirty) {
            return;
        }
        self.with_file(|mut wal| {
            let synced = wal.sync();
            (wal, synced)
        })
        .await;
    }

    /// Writes the file anew when most of it is not worth knowing any more.
    async fn shorten(&self) {
        let records = {
            let mut inner = self.lock();
            let File::Here(wal) = &inner.file else { return };
            let bytes = wal.bytes();
            if bytes < inner.rewrite_at {
                return;
            }
            let records = inner.worth_knowing();
            let needed: u64 = records.iter().map(|record| record.len() as u64).sum();
            let is_worth_it = bytes >= needed.saturating_mul(2);
            // All of it may be worth knowing: then it is not looked at again before it has doubled.
            let left = if is_worth_it { needed } else { bytes };
            inner.rewrite_at = left.saturating_mul(2).clamp(EARNINGS_REWRITE_BYTES, EARNINGS_FILE_BYTES_MAX);
            if !is_worth_it {
                return;
            }
            records
        };
        self.with_file(move |mut wal| {
            let rewritten = wal.rewrite(records.iter().map(Vec::as_slice));
            (wal, rewritten)
        })
        .await;
    }

    /// Lends the file to work on a thread of its own, then adds what came meanwhile.
    async fn with_file(&self, work: impl FnOnce(Wal) -> (Wal, Result<(), WalError>) + Send + 'static) {
        let taken = std::mem::replace(&mut self.lock().file, File::Away(Vec::new()));
        let File::Here(wal) = taken else {
            // It is lent already: only a shutdown asks for that, and whoever has it syncs.
            return;
        };
        let Ok((wal, outcome)) = spawn_blocking(move || work(wal)).await else {
            self.lock().trouble = Some("the thread that writes the file of earnings failed".to_owned());
            return;
        };
        let mut inner = self.lock();
        let waiting = std::mem::replace(&mut inner.file, File::Here(wal));
        inner.note(outcome);
        if let File::Away(records) = waiting {
            records.iter().for_each(|record| inner.append(record, false));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn write(&mut self, record: &Record) {
        if matches!(record, Record::Receipt { .. }) && self.is_full() {
            // It is in memory; payments must find room.
            return;
        }
        let is_receipt = matches!(record, Record::Receipt { .. });
        self.append(&record.to_bytes(), is_receipt);
    }

    fn is_full(&self) -> bool {
        match &self.file {
            File::Here(wal) => wal.bytes() > EARNINGS_FILE_BYTES_MAX,
            File::Away(waiting) => waiting.len() > WAITING_RECORDS_MAX,
        }
    }

    /// Everything, as records; of the receipts as many as find room.
    fn worth_knowing(&self) -> Vec<Vec<u8>> {
        let facts = self.accounts.values().flat_map(Account::facts).map(|record| record.to_bytes());
        let mut bytes = 0_u64;
        let receipts = self.accounts.values().flat_map(Account::kept).map(|record| record.to_bytes());
        let receipts = receipts.take_while(|record| {
            bytes = bytes.saturating_add(record.len() as u64);
            bytes <= EARNINGS_FILE_BYTES_MAX / 2
        });
        facts.chain(receipts).collect()
    }

    fn append(&mut self, record: &[u8], may_wait: bool) {
        self.is_dirty = true;
        match &mut self.file {
            File::Here(wal) => {
                let appended = if may_wait { wal.push(record) } else { wal.append(record) };
                self.note(appended);
            }
            File::Away(waiting) => waiting.push(record.to_vec()),
        }
    }

    fn flush(&mut self) {
        if let File::Here(wal) = &mut self.file {
            let flushed = wal.flush();
            self.note(flushed);
        }
    }

    fn note(&mut self, outcome: Result<(), WalError>) {
        let trouble = outcome.err().map(|error| error.to_string());
        if let Some(trouble) = trouble.as_ref().filter(|_| self.trouble.is_none()) {
            tracing::error!(%trouble, "earnings cannot be kept");
        }
        if trouble.is_some() {
            self.trouble = trouble;
        }
    }
}

impl Ours {
    #[cfg(test)]
    const fn contract(&self) -> Address {
        self.contract
    }

    /// What the proxy is asked to know: on chain, on its disk, at all.
    pub(crate) fn claims(&self) -> (AdjustedTokens, Told) {
        self.view(Account::claims).unwrap_or_default()
    }

    /// Takes the proxy's side of the comparison, unless it has forgotten something.
    pub(crate) fn compare(&self, answer: &CompareBalance) -> Result<(), Forgot> {
        self.view(|account| account.compare(answer)).unwrap_or(Ok(()))
    }

    /// The comparison is over, without a handover.
    pub(crate) fn agreed(&self, answer: &CompareBalance) {
        let told = Told { db: answer.tokens_committed_to_db, max: answer.max_tokens };
        self.change(|account| {
            account.agreed();
            ((), account.tell(told))
        });
        self.untroubled(Trouble::Proxy);
    }

    /// Receipts that the proxy may have lost.
    pub(crate) fn handover(&self) -> Vec<HandedReceipt> {
        self.view(Account::handover).unwrap_or_default()
    }

    /// The proxy has them now, beside what it knew.
    pub(crate) fn handed_over(&self, known: AdjustedTokens) {
        self.change(|account| {
            account.handed_over(known);
            ((), None)
        });
        self.untroubled(Trouble::Proxy);
    }

    /// Takes a signed payment.
    pub(crate) fn pay(&self, payment: &SignedPayment) -> Result<(), PaymentError> {
        let SignedPayment::Signed(bytes) = payment else { return Ok(()) };
        let now = self.books.now_unix_s();
        let paid = self.change(|account| match account.pay(bytes, now) {
            Ok(record) => (Ok(record.is_some()), record),
            Err(error) => (Err(error), None),
        });
        if paid.unwrap_or(Ok(false))? {
            self.books.news.notify_one();
        }
        Ok(())
    }

    /// Takes what the proxy tells after a commit.
    pub(crate) fn handle_payment(&self, payment: &RequestPayment) -> Result<(), PaymentError> {
        let told = Told { db: payment.db_tokens, max: payment.max_tokens };
        self.change(|account| ((), account.tell(told)));
        self.pay(&payment.signed_payment)
    }

    /// A request ended: what it is billed at, and the receipt with the proxy's tag where there are both.
    pub(crate) fn settled(&self, tokens: AdjustedTokens, proof: Option<(Bytes, Bytes)>) {
        self.change(|account| ((), account.settled(tokens, proof)));
        self.books.receipts.notify_one();
    }

    /// Whether the proxy has signed too little to be worked for.
    pub(crate) fn is_exposed(&self) -> bool {
        let Some(bound) = self.books.config.exposure() else { return false };
        let is_exposed = self.change(|account| {
            let unsigned = account.worth(account.unsigned());
            let is_exposed = unsigned > bound;
            if is_exposed {
                account.troubles.entry(Trouble::Exposure).or_insert_with(|| exposed(unsigned, bound));
            } else {
                account.troubles.remove(&Trouble::Exposure);
            }
            (is_exposed, None)
        });
        is_exposed.unwrap_or(false)
    }

    /// Shows what is wrong with this proxy.
    pub(crate) fn trouble(&self, trouble: Trouble, text: String) {
        self.change(|account| (account.troubles.insert(trouble, text), None));
    }

    fn untroubled(&self, trouble: Trouble) {
        self.change(|account| {
            account.troubles.remove(&trouble);
            ((), None)
        });
    }

    fn view<T>(&self, view: impl FnOnce(&Account) -> T) -> Option<T> {
        self.change(|account| (view(account), None))
    }

    fn change<T>(&self, change: impl FnOnce(&mut Account) -> (T, Option<Record>)) -> Option<T> {
        self.books.change(&self.contract, change)
    }
}

fn exposed(unsigned: Nano, bound: Nano) -> String {
    format!(
        "the proxy has not signed for {} TON, and `exposure` under [worker.earnings] allows {}: no more requests are taken \
         from it until it signs",
        unsigned.ton(),
        bound.ton()
    )
}

impl std::fmt::Debug for Books {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Books").field("config", &self.config).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Ours {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ours").field("contract", &self.contract).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use cocoon_ton::contract::signed::{self, Envelope};
    use cocoon_units::{FixedClock, Ton};

    use super::super::account::fixtures::{OWNER, init, proxy_key};
    use super::*;

    fn books(path: &Path) -> Arc<Books> {
        let config = EarningsConfig { exposure: Ton::from(Nano::new(150)), ..EarningsConfig::default() };
        Arc::new(Books::open(path, config, Arc::new(FixedClock::default())).unwrap())
    }

    fn payment(contract: Address, count: u64) -> SignedPayment {
        let signed = signed::payout(contract, 0, count).sign(&proxy_key());
        SignedPayment::Signed(Envelope { signed, excesses_to: OWNER }.to_boc().into())
    }

    fn tokens(count: u64) -> AdjustedTokens {
        AdjustedTokens::new(count)
    }

    #[tokio::test]
    async fn a_restart_knows_payments_receipts_and_what_was_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("earnings");
        {
            let ours = books(&path).account(init()).unwrap();
            ours.settled(tokens(4), Some((Bytes::from_static(b"receipt"), Bytes::from_static(b"tag"))));
            ours.pay(&payment(ours.contract(), 3)).unwrap();
            assert!(matches!(
                Books::open(&path, EarningsConfig::default(), Arc::new(FixedClock::default())),
                Err(EarningsError::InUse)
            ));
        }
        let books = books(&path);
        let ours = books.account(init()).unwrap();
        assert_eq!((ours.claims().0, ours.handover().len()), (tokens(3), 1));
        books.sync().await;
        assert_eq!(books.trouble(), None);
    }

    #[tokio::test]
    async fn what_is_added_while_the_file_is_away_follows() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("earnings");
        let first = books(&path);
        let ours = first.account(init()).unwrap();
        let inside = ours.clone();
        first
            .with_file(move |wal| {
                inside.pay(&payment(inside.contract(), 3)).unwrap();
                (wal, Ok(()))
            })
            .await;
        drop((ours, first));
        assert_eq!(books(&path).account(init()).unwrap().claims().0, tokens(3));
    }

    #[test]
    fn a_proxy_that_signs_too_little_is_exposed_until_it_signs() {
        let folder = tempfile::tempdir().unwrap();
        let ours = books(&folder.path().join("earnings")).account(init()).unwrap();
        ours.settled(tokens(10), None);
        assert!(!ours.is_exposed());
        ours.settled(tokens(1), None);
        assert!(ours.is_exposed());
        ours.pay(&payment(ours.contract(), 11)).unwrap();
        assert!(!ours.is_exposed());
    }

    #[tokio::test]
    async fn a_crash_at_any_record_forgets_no_payment_before_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("earnings");
        let books = books(&path);
        let ours = books.account(init()).unwrap();
        for count in 1..=8 {
            ours.settled(tokens(1), Some((Bytes::from_static(b"receipt"), Bytes::from_static(b"tag"))));
            ours.pay(&payment(ours.contract(), count)).unwrap();
        }
        let records = Wal::read(&path).unwrap();
        let paid = |records: &[Vec<u8>]| records.iter().filter(|record| record.first() == Some(&2)).count() as u64;
        for length in 1..=records.len() {
            let accounts = replay(records[..length].to_vec()).unwrap();
            let signed = accounts[&ours.contract()].signed_tokens();
            assert_eq!(signed, tokens(paid(&records[..length])), "after {length} records");
        }
        assert_eq!(paid(&records), 8);
        // Written anew, one payment is left, and it is the latest.
        let shorter = books.lock().worth_knowing();
        assert_eq!(paid(&shorter), 1);
        assert_eq!(replay(shorter).unwrap()[&ours.contract()].signed_tokens(), tokens(8));
    }

    #[test]
    fn a_file_of_something_else_is_not_taken() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("earnings");
        Wal::open(&path).unwrap().0.append(b"something else").unwrap();
        let opened = Books::open(&path, EarningsConfig::default(), Arc::new(FixedClock::default()));
        assert!(matches!(opened, Err(EarningsError::Damaged(_))));
    }
}
