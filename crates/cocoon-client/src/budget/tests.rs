//! Limits, crashes and demands, against the real file.

mod attacks;
mod quotas;
mod twin;

use std::path::PathBuf;

use cocoon_units::{FixedClock, NanoPerToken, UnixTime};
use cocoon_wire::message::SignedPayment;

use super::*;
use crate::config::BudgetConfig;

pub(super) const CONTRACT: Address = Address::basechain([7; 32]);
/// Noon of a day.
pub(super) const NOON: u64 = 20_000 * 86_400 + 43_200;
pub(super) const DAY: u64 = 86_400;

/// A clock that a test sets.
#[derive(Default)]
pub(super) struct Hands(Mutex<u64>);

impl Hands {
    pub(super) fn at(seconds: u64) -> Arc<Self> {
        Arc::new(Self(Mutex::new(seconds)))
    }

    pub(super) fn set(&self, seconds: u64) {
        *self.0.lock().unwrap() = seconds;
    }

    pub(super) fn add(&self, seconds: u64) {
        *self.0.lock().unwrap() += seconds;
    }
}

impl Clock for Hands {
    fn unix_now(&self) -> UnixTime {
        UnixTime::from_secs_f64(*self.0.lock().unwrap() as f64)
    }
}

pub(super) fn tokens(count: u64) -> AdjustedTokens {
    AdjustedTokens::new(count)
}

pub(super) fn used(count: u64) -> TokensUsed {
    TokensUsed { completion: tokens(count), total: tokens(count), ..TokensUsed::default() }
}

/// A token costs one nanoTON, so that tokens are money.
pub(super) fn order(id: u8, most: u64) -> Order<'static> {
    Order {
        contract: Some(CONTRACT),
        key: None,
        model: "m",
        id: [id; 32],
        is_by_word: false,
        most: tokens(most),
        pricing: Pricing { price: NanoPerToken::new(1), ..Pricing::default() },
        coefficient: Coefficient::ONE,
    }
}

pub(super) fn demand(count: u64) -> PaymentStatus {
    PaymentStatus { signed_payment: SignedPayment::Empty, db_tokens: AdjustedTokens::ZERO, max_tokens: tokens(count) }
}

pub(super) fn settled(id: u8, count: u64) -> SettledRequest {
    SettledRequest { id: [id; 32], tokens: tokens(count), receipt: None, evidence: None }
}

/// A receipt check that finds a sound receipt of what the proxy says.
pub(super) fn word(request: &SettledRequest) -> Proof {
    Proof::Receipt(request.tokens)
}

/// Of an answer without receipts.
pub(super) fn no_receipt(_: &SettledRequest) -> Proof {
    Proof::Missing
}

pub(super) fn config(budget: BudgetConfig) -> ClientConfig {
    ClientConfig { budget, ..ClientConfig::default() }
}

/// Limits of so many nanoTON.
pub(super) fn limited(per_request: u64, per_day: u64) -> ClientConfig {
    let ton = |nano| Nano::new(nano).ton();
    config(BudgetConfig { per_request: ton(per_request), per_day: ton(per_day), ..BudgetConfig::default() })
}

pub(super) fn in_memory(config: &ClientConfig) -> Arc<Budget> {
    Arc::new(Budget::in_memory(config, Hands::at(NOON)))
}

/// Books in a folder.
pub(super) struct Kept {
    pub(super) budget: Arc<Budget>,
    pub(super) hands: Arc<Hands>,
    config: ClientConfig,
    folder: tempfile::TempDir,
}

impl Kept {
    pub(super) fn new(config: ClientConfig) -> Self {
        Self::open(config, Hands::at(NOON), tempfile::tempdir().unwrap())
    }

    fn open(config: ClientConfig, hands: Arc<Hands>, folder: tempfile::TempDir) -> Self {
        let clock = Arc::clone(&hands) as Arc<dyn Clock>;
        let budget = Arc::new(Budget::open(folder.path(), &config, clock).unwrap());
        Self { budget, hands, config, folder }
    }

    pub(super) fn file(&self) -> PathBuf {
        self.folder.path().join(FILE)
    }

    /// What a process finds that begins after this one was killed, with what `tear` does to the end of the file.
    pub(super) fn killed(&self, tear: impl FnOnce(&mut Vec<u8>)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut content = std::fs::read(self.file()).unwrap();
        tear(&mut content);
        std::fs::write(folder.path().join(FILE), content).unwrap();
        Self::open(self.config.clone(), Arc::clone(&self.hands), folder)
    }
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(FixedClock::at(UnixTime::from_secs_f64(NOON as f64)))
}

#[test]
fn a_request_is_held_then_counted() {
    let kept = Kept::new(ClientConfig::default());
    let budget = &kept.budget;
    let hold = budget.hold(&order(1, 100)).unwrap();
    let view = budget.account(CONTRACT);
    assert_eq!((view.counted, view.open, view.open_requests, view.unheard), (tokens(0), tokens(100), 1, 0));
    assert_eq!(budget.status().held_today_nano, 100);
    hold.settled(&used(40), Some(Usage { prompt: 30, completion: 10, ..Usage::default() }));
    let view = budget.account(CONTRACT);
    assert_eq!((view.counted, view.open, view.spent_today), (tokens(40), tokens(0), Nano::new(40)));
    budget.hold(&order(2, 100)).unwrap().nothing();
    budget.flush();
    assert_eq!(kept.killed(|_| ()).budget.account(CONTRACT), view, "the file says the same");
}

#[test]
fn an_end_that_a_crash_takes_leaves_its_hold_which_is_asked_for() {
    let kept = Kept::new(ClientConfig::default());
    kept.budget.hold(&order(1, 100)).unwrap().settled(&used(40), None);
    assert_eq!(kept.budget.account(CONTRACT).counted, tokens(40));
    let again = kept.killed(|_| ()).budget;
    let view = again.account(CONTRACT);
    assert_eq!((view.counted, view.open, view.unheard), (tokens(0), tokens(100), 1));
    assert_eq!(again.open_requests(CONTRACT), [order(1, 100).id]);
}

#[test]
fn a_rewritten_file_says_the_same() {
    let kept = Kept::new(ClientConfig::default());
    kept.budget.charged(CONTRACT, tokens(5)).unwrap();
    kept.budget.hold(&order(1, 100)).unwrap().settled(&used(40), None);
    drop(kept.budget.hold(&order(2, 100)).unwrap());
    let before = (kept.budget.account(CONTRACT), kept.budget.usage(None), kept.budget.status());
    kept.budget.lock().rewrite_at = 0;
    kept.budget.maintain();
    assert_eq!((kept.budget.account(CONTRACT), kept.budget.usage(None), kept.budget.status()), before);
    let again = kept.killed(|_| ()).budget;
    assert_eq!((again.account(CONTRACT), again.usage(None), again.status()), before);
}

#[test]
fn a_file_of_a_newer_version_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (mut wal, _) = Wal::open(&folder.path().join(FILE)).unwrap();
    wal.append(br#"{"grant":{}}"#).unwrap();
    drop(wal);
    let outcome = Budget::open(folder.path(), &ClientConfig::default(), clock());
    assert!(matches!(outcome, Err(BudgetError::Record(_))));
}

#[test]
fn what_cannot_be_written_is_not_sent() {
    let kept = Kept::new(ClientConfig::default());
    let open = kept.budget.hold(&order(1, 100)).unwrap();
    kept.budget.lock().is_closed = true;
    assert_eq!(kept.budget.hold(&order(2, 100)).unwrap_err(), BooksClosed.into());
    open.settled(&used(1), None);
    let view = kept.budget.account(CONTRACT);
    assert_eq!((view.counted, view.open), (tokens(0), tokens(100)), "an end that was not written did not happen");
}

fn id(number: usize) -> [u8; 32] {
    <[u8; 32]>::try_from([&number.to_le_bytes()[..], &[0; 24]].concat()).unwrap()
}

#[test]
fn open_requests_are_bounded() {
    let hands = Hands::at(NOON);
    let budget = Arc::new(Budget::in_memory(&ClientConfig::default(), Arc::clone(&hands) as Arc<dyn Clock>));
    for n in 0..limits::OPEN_REQUESTS_MAX {
        drop(budget.hold(&Order { id: id(n), ..order(0, 1) }).unwrap());
    }
    assert_eq!(budget.hold(&order(255, 1)).unwrap_err(), RequestError::TooManyOpen);
    let asked = budget.open_requests(CONTRACT);
    budget.resolve(CONTRACT, &asked, &[], word).unwrap();
    assert_eq!(budget.hold(&order(255, 1)).unwrap_err(), RequestError::TooManyOpen, "a worker may still have them");
    hands.add(limits::OPEN_CERTAIN_S);
    drop(budget.hold(&order(255, 1)).unwrap());
    assert_eq!(budget.account(CONTRACT).counted, tokens(0));
    // Without a chain nobody could ever say what they cost: the oldest is taken as used up.
    for n in 0..=limits::OPEN_REQUESTS_MAX {
        drop(budget.hold(&Order { id: id(n), contract: None, ..order(0, 1) }).unwrap());
    }
    assert_eq!(budget.status().spent_today_nano, 1);
}

#[test]
fn a_word_for_old_requests_is_taken_as_far_as_they_were_held() {
    let hands = Hands::at(NOON);
    let budget = Arc::new(Budget::in_memory(&ClientConfig::default(), Arc::clone(&hands) as Arc<dyn Clock>));
    drop(budget.hold(&order(1, 100)).unwrap());
    hands.add(1);
    drop(budget.hold(&order(2, 100)).unwrap());
    budget.heard(CONTRACT, &demand(130)).unwrap();
    budget.settle_by_word(CONTRACT, Taken::All).unwrap();
    assert_eq!(budget.account(CONTRACT).open_requests, 2, "they may still be running");
    hands.add(limits::OPEN_CERTAIN_S);
    budget.settle_by_word(CONTRACT, Taken::All).unwrap();
    let view = budget.account(CONTRACT);
    assert_eq!((view.counted, view.open_requests), (tokens(130), 0));
}

/// Nothing could be asked about them, so nothing may be concluded from an answer.
#[test]
fn requests_without_receipts_that_a_crash_left_are_owed_as_far_as_they_were_held() {
    let kept = Kept::new(ClientConfig::default());
    let unreceipted = |id, most| Order { is_by_word: true, ..order(id, most) };
    drop(kept.budget.hold(&unreceipted(1, 100)).unwrap());
    let again = kept.killed(|_| ());
    let budget = &again.budget;
    assert!(budget.open_requests(CONTRACT).is_empty(), "the proxy knows no id of them");
    budget.heard(CONTRACT, &demand(70)).unwrap();
    assert!(budget.heard(CONTRACT, &demand(101)).is_err(), "no more than was held");
    budget.heard(CONTRACT, &demand(70)).unwrap();
    again.hands.add(limits::OPEN_CERTAIN_S);
    let live = budget.hold(&unreceipted(2, 100)).unwrap();
    budget.settle_by_word(CONTRACT, Taken::Unreceipted).unwrap();
    assert_eq!(budget.account(CONTRACT).open_requests, 2, "the demand may be for the one that runs");
    live.nothing();
    budget.settle_by_word(CONTRACT, Taken::Unreceipted).unwrap();
    let view = budget.account(CONTRACT);
    assert_eq!((view.counted, view.open_requests), (tokens(70), 0));
}

#[test]
fn requests_without_receipts_that_fill_an_account_give_way_as_used_up() {
    let hands = Hands::at(NOON);
    let budget = Arc::new(Budget::in_memory(&ClientConfig::default(), Arc::clone(&hands) as Arc<dyn Clock>));
    let unreceipted = |n: usize| Order { id: id(n), is_by_word: true, ..order(0, 1) };
    for n in 0..limits::OPEN_REQUESTS_MAX {
        drop(budget.hold(&unreceipted(n)).unwrap());
    }
    assert_eq!(budget.hold(&unreceipted(limits::OPEN_REQUESTS_MAX)).unwrap_err(), RequestError::TooManyOpen);
    hands.add(limits::OPEN_CERTAIN_S);
    drop(budget.hold(&unreceipted(limits::OPEN_REQUESTS_MAX)).unwrap());
    assert_eq!(budget.account(CONTRACT).counted, tokens(1));
}
