//! What is known of the money from one proxy's contract. Pure: no disk, no chain, no clock.
//!
//! ```text
//!   cashed ≤ signed ≤ committed by the proxy ≤ told ≤ made
//!     │        │                                 │      └ told, and what was sent to the proxy since
//!     │        └ we hold a signature for it      └ the most that the proxy said it counts
//!     └ the contract counts it
//! ```
//!
//! **Receipts** are kept until a signed payment covers them. Which one does, nobody says; it follows from the order of
//! messages. The proxy tells its counts every commit. A receipt that left before the last telling arrived was counted
//! when the proxy made the next one, since there is half a minute between two; so the next telling's count is its *mark*,
//! and a payment up to the mark covers it. What is thrown away too early would be lost in a crash of the proxy; what is
//! kept too long costs memory only, and a proxy knows an id that it has settled.
//!
//! **What is not paid.** A proxy rightly pays nothing for what was not delivered, and less than was claimed for what is
//! cut to a reservation; it does not say which that is. It follows from the same marks: what was sent before a mark and
//! is left when a payment reaches it is not paid. It is shown, and is no reason to stop; a proxy that signs nothing
//! reaches no mark.
//!
//! All workers of one owner share the contract with a proxy, so what is told may be other workers' too.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use cocoon_ton::Address;
use cocoon_ton::contract::{Lifecycle, StateError, StateInit, Unpaid, WorkerState};
use cocoon_units::{AdjustedTokens, Nano, NanoPerToken};
use cocoon_wire::message::{CompareBalance, HandedReceipt};

use super::payment::{PaymentError, Payout};
use super::record::Record;
use crate::limits::{KEPT_RECEIPT_BYTES_MAX, UNSIGNED_SPANS_MAX};

/// What a proxy says its books hold for us.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Told {
    /// On its disk.
    pub(crate) db: AdjustedTokens,
    /// Counted at all.
    pub(crate) max: AdjustedTokens,
}

/// A receipt, and the proxy's own seal on whose request it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) tokens: AdjustedTokens,
    pub(crate) receipt: Bytes,
    pub(crate) tag: Bytes,
}

impl Kept {
    fn len(&self) -> usize {
        self.receipt.len().saturating_add(self.tag.len())
    }
}

/// Why a proxy is left for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Forgot {
    /// What it said that its disk holds.
    Told(AdjustedTokens),
    /// What it signed.
    Signed(AdjustedTokens),
}

/// What the chain shows, and when.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) at_unix_s: u64,
    /// None while our contract is not deployed.
    pub(crate) worker: Option<SeenWorker>,
    /// None while the proxy's contract is not deployed.
    pub(crate) proxy: Option<Lifecycle>,
    /// What the proxy's contract can pay now.
    pub(crate) payable: Nano,
}

/// Our contract on the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SeenWorker {
    pub(crate) state: Lifecycle,
    pub(crate) tokens: u64,
    pub(crate) unpaid: Unpaid,
}

/// A kind of trouble; there is one text of each at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Trouble {
    /// The proxy broke a rule of money.
    Proxy,
    /// It has signed too little for what was made.
    Exposure,
    /// What is signed cannot be cashed.
    Cash,
    /// The chain cannot be asked.
    Chain,
}

/// The account with one proxy.
#[derive(Debug, Clone)]
pub(crate) struct Account {
    init: StateInit,
    contract: Address,
    owner: Address,
    proxy: Address,
    proxy_key: [u8; 32],
    fee: NanoPerToken,
    signed: Option<Payout>,
    /// The latest payment as it came, to know it again without a look at its signature.
    signed_bytes: Bytes,
    told: Told,
    /// Tokens of requests that ended since the proxy told its counts.
    since_told: AdjustedTokens,
    /// By our own count alone, the oldest first: what was sent, less what was signed since. It catches a proxy that tells
    /// too little.
    own_unsigned: VecDeque<(AdjustedTokens, Phase)>,
    /// Of our own count, what payments passed over.
    not_paid: AdjustedTokens,
    /// How often the proxy has told.
    tellings: u64,
    receipts: VecDeque<(Kept, Phase)>,
    receipt_bytes: usize,
    pub(crate) paid_at_unix_s: Option<u64>,
    pub(crate) cashed_at_unix_s: Option<u64>,
    pub(crate) seen: Option<Seen>,
    pub(crate) troubles: BTreeMap<Trouble, String>,
}

/// How far a kept receipt is from being covered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Sent after that many tellings.
    Sent(u64),
    /// Counted by the proxy; a payment up to this covers it.
    Marked(AdjustedTokens),
}

impl Account {
    /// The account that is paid through the contract of this initial state.
    pub(crate) fn new(init: StateInit) -> Result<Self, StateError> {
        let state = WorkerState::parse(&init.data)?;
        Ok(Self {
            contract: init.address(),
            init,
            owner: state.owner,
            proxy: state.proxy,
            proxy_key: state.proxy_key,
            fee: NanoPerToken::new(state.params.worker_fee_per_token.get()),
            signed: None,
            signed_bytes: Bytes::new(),
            told: Told::default(),
            since_told: AdjustedTokens::ZERO,
            own_unsigned: VecDeque::new(),
            not_paid: AdjustedTokens::ZERO,
            tellings: 0,
            receipts: VecDeque::new(),
            receipt_bytes: 0,
            paid_at_unix_s: None,
            cashed_at_unix_s: None,
            seen: None,
            troubles: BTreeMap::new(),
        })
    }

    // What is known.

    pub(crate) const fn contract(&self) -> Address {
        self.contract
    }

    pub(crate) const fn proxy(&self) -> Address {
        self.proxy
    }

    pub(crate) const fn owner(&self) -> Address {
        self.owner
    }

    pub(crate) const fn init(&self) -> &StateInit {
        &self.init
    }

    pub(crate) const fn signed(&self) -> Option<&Payout> {
        self.signed.as_ref()
    }

    pub(crate) fn signed_tokens(&self) -> AdjustedTokens {
        self.signed.map_or(AdjustedTokens::ZERO, |signed| signed.tokens)
    }

    /// What a count of tokens is worth to us; more than there can be counts as all there is.
    pub(crate) fn worth(&self, tokens: AdjustedTokens) -> Nano {
        self.fee.cost(tokens).unwrap_or(Nano::MAX)
    }

    /// All that was made, as far as this worker knows.
    pub(crate) fn made(&self) -> AdjustedTokens {
        add(self.told.max, self.since_told).max(self.signed_tokens())
    }

    /// What was made and is not signed: of all workers of this owner as the proxy tells, and no less than our own.
    pub(crate) fn unsigned(&self) -> AdjustedTokens {
        let told = self.made().checked_sub(self.signed_tokens()).unwrap_or_default();
        told.max(self.own_unsigned.iter().fold(AdjustedTokens::ZERO, |sum, (tokens, _)| add(sum, *tokens)))
    }

    /// What this worker sent since it started, and the proxy passed over in its payments.
    pub(crate) const fn not_paid(&self) -> AdjustedTokens {
        self.not_paid
    }

    /// What was signed, and is not counted by the contract as it was seen.
    pub(crate) fn uncashed(&self, seen: &Seen) -> AdjustedTokens {
        let cashed = AdjustedTokens::new(seen.worker.map_or(0, |worker| worker.tokens));
        self.signed_tokens().checked_sub(cashed).unwrap_or_default()
    }

    pub(crate) fn seen_worker(&self) -> Option<SeenWorker> {
        self.seen.and_then(|seen| seen.worker)
    }

    pub(crate) fn receipts(&self) -> usize {
        self.receipts.len()
    }

    // The comparison of balances.

    /// What the proxy is asked to know: on chain (what it signed was committed there), on its disk, at all.
    ///
    /// With receipts in hand it is asked for more than it can know, so that it asks for them. From counts alone nobody
    /// could tell that it lost some: those of other workers of the same owner would hide it. It knows what it has already.
    pub(crate) fn claims(&self) -> (AdjustedTokens, Told) {
        let may_be_lost = self.receipts.iter().any(|(_, phase)| matches!(phase, Phase::Sent(_)));
        let max = if may_be_lost { MOST_TOKENS } else { self.made() };
        (self.signed_tokens(), Told { db: self.told.db, max })
    }

    /// Whether the proxy knows what it must.
    pub(crate) fn compare(&self, answer: &CompareBalance) -> Result<(), Forgot> {
        let known = answer.tokens_committed_to_db;
        if known < self.signed_tokens() {
            return Err(Forgot::Signed(self.signed_tokens()));
        }
        if known < self.told.db { Err(Forgot::Told(self.told.db)) } else { Ok(()) }
    }

    /// What the proxy may have lost.
    pub(crate) fn handover(&self) -> Vec<HandedReceipt> {
        let handed =
            |(kept, _): &(Kept, Phase)| HandedReceipt { receipt: kept.receipt.clone(), account_tag: kept.tag.clone() };
        self.receipts.iter().map(handed).collect()
    }

    /// The proxy has taken or refused each of them. What it knew before is what it tells; what was made stays what it is
    /// until it tells more.
    pub(crate) fn handed_over(&mut self, known: AdjustedTokens) {
        let made = self.made();
        self.told.max = known;
        self.since_told = made.checked_sub(known).unwrap_or_default();
        self.next_telling_counts_all();
    }

    /// The proxy knows no less than we do.
    pub(crate) fn agreed(&mut self) {
        self.next_telling_counts_all();
    }

    fn next_telling_counts_all(&mut self) {
        let before = self.tellings.saturating_sub(1);
        let own = self.own_unsigned.iter_mut().map(|(_, phase)| phase);
        for phase in self.receipts.iter_mut().map(|(_, phase)| phase).chain(own) {
            if let Phase::Sent(sent) = phase {
                *sent = (*sent).min(before);
            }
        }
    }

    // What happens. What must outlive this process comes back as a record.

    /// A request ended that cost this much.
    #[must_use]
    pub(crate) fn settled(&mut self, tokens: AdjustedTokens, proof: Option<(Bytes, Bytes)>) -> Option<Record> {
        self.since_told = add(self.since_told, tokens);
        self.count_own(tokens);
        let (receipt, tag) = proof.filter(|_| tokens > AdjustedTokens::ZERO)?;
        let kept = Kept { tokens, receipt, tag };
        self.keep(kept.clone(), Phase::Sent(self.tellings));
        Some(Record::Receipt { contract: self.contract, kept })
    }

    /// The proxy told its counts.
    #[must_use]
    pub(crate) fn tell(&mut self, told: Told) -> Option<Record> {
        self.tellings = self.tellings.saturating_add(1);
        self.since_told = AdjustedTokens::ZERO;
        let before = self.told;
        self.told = Told { db: told.db.max(before.db), max: told.max.max(before.max) };
        let own = self.own_unsigned.iter_mut().map(|(_, phase)| phase);
        for phase in self.receipts.iter_mut().map(|(_, phase)| phase).chain(own) {
            match *phase {
                Phase::Sent(sent) if sent.saturating_add(2) <= self.tellings => *phase = Phase::Marked(told.max),
                Phase::Sent(_) | Phase::Marked(_) => {}
            }
        }
        (self.told != before).then_some(Record::Told { contract: self.contract, told: self.told })
    }

    /// The proxy sent a payment, maybe the same as before.
    pub(crate) fn pay(&mut self, bytes: &Bytes, now_unix_s: u64) -> Result<Option<Record>, PaymentError> {
        if *bytes == self.signed_bytes {
            return Ok(None);
        }
        let payout = Payout::verify(bytes, self.contract, &self.proxy_key)?;
        if !payout.supersedes(self.signed.as_ref()) {
            return Ok(None);
        }
        let more = payout.tokens.checked_sub(self.signed_tokens()).unwrap_or_default();
        self.signed = Some(payout);
        self.pay_own(more);
        self.signed_bytes = bytes.clone();
        self.paid_at_unix_s = Some(now_unix_s);
        self.forget_covered();
        Ok(Some(Record::Payment { contract: self.contract, at_unix_s: now_unix_s, envelope: bytes.clone() }))
    }

    /// The contract was looked at.
    #[must_use]
    pub(crate) fn look(&mut self, seen: Seen) -> Option<Record> {
        let count = |seen: Option<Seen>| seen.and_then(|seen| seen.worker).map_or(0, |worker| worker.tokens);
        let (before, tokens) = (self.seen.map(|seen| count(Some(seen))), count(Some(seen)));
        self.seen = Some(seen);
        // The first look after a start finds what was cashed before, which has its record.
        let is_new = before.is_some_and(|before| before < tokens);
        if !is_new {
            return None;
        }
        self.cashed_at_unix_s = Some(seen.at_unix_s);
        Some(Record::Cashed { contract: self.contract, at_unix_s: seen.at_unix_s, tokens })
    }

    /// What an earlier process kept.
    pub(crate) fn replay(&mut self, record: Record) -> Result<(), PaymentError> {
        match record {
            Record::Account { .. } => {}
            Record::Payment { at_unix_s, envelope, .. } => {
                self.pay(&envelope, at_unix_s)?;
            }
            Record::Told { told, .. } => (self.told, self.since_told) = (told, AdjustedTokens::ZERO),
            Record::Receipt { kept, .. } => {
                self.since_told = add(self.since_told, kept.tokens);
                self.keep(kept, Phase::Sent(0));
            }
            Record::Cashed { at_unix_s, .. } => self.cashed_at_unix_s = Some(at_unix_s),
        }
        Ok(())
    }

    /// All that is worth knowing, as records, but for receipts.
    pub(crate) fn facts(&self) -> Vec<Record> {
        let contract = self.contract;
        let mut records = vec![Record::Account { init: self.init.clone() }, Record::Told { contract, told: self.told }];
        if let (Some(_), Some(at_unix_s)) = (&self.signed, self.paid_at_unix_s) {
            records.push(Record::Payment { contract, at_unix_s, envelope: self.signed_bytes.clone() });
        }
        if let (Some(worker), Some(at_unix_s)) = (self.seen_worker(), self.cashed_at_unix_s) {
            records.push(Record::Cashed { contract, at_unix_s, tokens: worker.tokens });
        }
        records
    }

    /// The receipts, as records.
    pub(crate) fn kept(&self) -> impl Iterator<Item = Record> {
        let contract = self.contract;
        self.receipts.iter().map(move |(kept, _)| Record::Receipt { contract, kept: kept.clone() })
    }

    fn keep(&mut self, kept: Kept, phase: Phase) {
        self.receipt_bytes = self.receipt_bytes.saturating_add(kept.len());
        self.receipts.push_back((kept, phase));
        while self.receipt_bytes > KEPT_RECEIPT_BYTES_MAX {
            let Some((oldest, _)) = self.receipts.pop_front() else { return };
            self.receipt_bytes = self.receipt_bytes.saturating_sub(oldest.len());
        }
    }

    /// Notes what was sent since the last telling.
    fn count_own(&mut self, tokens: AdjustedTokens) {
        let phase = Phase::Sent(self.tellings);
        match self.own_unsigned.back_mut() {
            Some((sent, last)) if *last == phase => *sent = add(*sent, tokens),
            _ if tokens == AdjustedTokens::ZERO => {}
            _ => self.own_unsigned.push_back((tokens, phase)),
        }
        // The proxy tells and does not pay: the oldest wait for the mark of the next ones.
        if self.own_unsigned.len() > UNSIGNED_SPANS_MAX
            && let Some((oldest, _)) = self.own_unsigned.pop_front()
            && let Some((next, _)) = self.own_unsigned.front_mut()
        {
            *next = add(*next, oldest);
        }
    }

    /// Takes `more` that was signed off what was sent, the oldest first. What is left before a mark that was reached is
    /// not paid.
    fn pay_own(&mut self, more: AdjustedTokens) {
        if more == AdjustedTokens::ZERO {
            return;
        }
        let mut left = more;
        for (tokens, _) in &mut self.own_unsigned {
            let paid = left.min(*tokens);
            *tokens = tokens.checked_sub(paid).unwrap_or_default();
            left = left.checked_sub(paid).unwrap_or_default();
        }
        let signed = self.signed_tokens();
        let mut not_paid = self.not_paid;
        self.own_unsigned.retain(|(tokens, phase)| match phase {
            Phase::Marked(mark) if *mark <= signed => {
                not_paid = add(not_paid, *tokens);
                false
            }
            Phase::Marked(_) | Phase::Sent(_) => *tokens > AdjustedTokens::ZERO,
        });
        self.not_paid = not_paid;
    }

    fn forget_covered(&mut self) {
        let signed = self.signed_tokens();
        self.receipts.retain(|(_, phase)| match phase {
            Phase::Marked(mark) => *mark > signed,
            Phase::Sent(_) => true,
        });
        self.receipt_bytes = self.receipts.iter().map(|(kept, _)| kept.len()).sum();
    }
}

/// The most that a message can say.
const MOST_TOKENS: AdjustedTokens = AdjustedTokens::new(i64::MAX.unsigned_abs());

/// Counts of different workers can only be added as far as they fit; no honest sum comes near.
fn add(one: AdjustedTokens, other: AdjustedTokens) -> AdjustedTokens {
    one.checked_add(other).unwrap_or(AdjustedTokens::MAX)
}

#[cfg(test)]
pub(crate) mod fixtures {
    use cocoon_ton::contract::{Params, codes, worker_state_init};
    use ed25519_dalek::SigningKey;

    use super::*;

    pub(crate) const PROXY: Address = Address::basechain([9; 32]);
    pub(crate) const OWNER: Address = Address::basechain([4; 32]);

    pub(crate) fn proxy_key() -> SigningKey {
        SigningKey::from_bytes(&[7; 32])
    }

    /// A worker's contract with a fee of 15 nano.
    pub(crate) fn init() -> StateInit {
        let params = Params {
            price_per_token: Nano::new(20),
            worker_fee_per_token: Nano::new(15),
            codes: Some(codes().published()),
            ..Params::default()
        };
        worker_state_init(OWNER, PROXY, proxy_key().verifying_key().as_bytes(), &params).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use cocoon_ton::contract::signed::{self, Envelope};
    use cocoon_wire::message::SignedPayment;

    use super::fixtures::{OWNER, init, proxy_key};
    use super::*;

    fn tokens(count: u64) -> AdjustedTokens {
        AdjustedTokens::new(count)
    }

    fn account() -> Account {
        Account::new(init()).unwrap()
    }

    fn payment(account: &Account, count: u64) -> Bytes {
        let signed = signed::payout(account.contract(), 0, count).sign(&proxy_key());
        Envelope { signed, excesses_to: OWNER }.to_boc().into()
    }

    fn told(db: u64, max: u64) -> Told {
        Told { db: tokens(db), max: tokens(max) }
    }

    fn proof(number: u8) -> Option<(Bytes, Bytes)> {
        Some((Bytes::from(vec![number; 8]), Bytes::from(vec![number; 4])))
    }

    fn answer(db: u64) -> CompareBalance {
        CompareBalance {
            signed_payment: SignedPayment::Empty,
            tokens_committed_to_db: tokens(db),
            max_tokens: tokens(db),
            error_code: 0,
        }
    }

    #[test]
    fn what_is_made_and_not_signed_is_shown() {
        let mut account = account();
        let _ = account.settled(tokens(10), None);
        assert_eq!((account.unsigned(), account.worth(account.unsigned())), (tokens(10), Nano::new(150)));
        let _ = account.tell(told(5, 12));
        assert_eq!(account.unsigned(), tokens(12), "the proxy counts another worker of the same owner, too");
        account.pay(&payment(&account, 7), 1).unwrap().unwrap();
        let _ = account.settled(tokens(1), None);
        assert_eq!((account.unsigned(), account.made()), (tokens(6), tokens(13)));
    }

    #[test]
    fn a_proxy_that_tells_too_little_hides_nothing() {
        let mut account = account();
        let _ = account.settled(tokens(10), None);
        let _ = account.tell(told(0, 0));
        let _ = account.settled(tokens(10), None);
        let _ = account.tell(told(1, 1));
        account.pay(&payment(&account, 1), 1).unwrap().unwrap();
        assert_eq!((account.unsigned(), account.not_paid()), (tokens(10), tokens(9)), "all of it is shown");
        account.pay(&payment(&account, 11), 1).unwrap().unwrap();
        assert_eq!((account.unsigned(), account.not_paid()), (tokens(0), tokens(9)));
    }

    #[test]
    fn what_is_rightly_not_paid_does_not_stop_the_worker() {
        let mut account = account();
        // Of what is sent between two tellings, 40 is never paid; each payment lags behind its telling by one.
        for round in 1..=100 {
            let _ = account.settled(tokens(50), None);
            let _ = account.tell(told(10 * round, 10 * round));
            if round > 1 {
                account.pay(&payment(&account, 10 * (round - 1)), round).unwrap().unwrap();
            }
            assert!(account.unsigned() <= tokens(250), "{} in round {round}", account.unsigned());
        }
        let all = account.not_paid().get() + account.unsigned().get() + account.signed_tokens().get();
        assert!(account.not_paid() >= tokens(3_700) && all >= 5_000, "{} not paid", account.not_paid());
    }

    #[test]
    fn a_proxy_that_tells_and_signs_nothing_stops_the_worker() {
        let mut account = account();
        for _ in 0..1_000 {
            let _ = account.settled(tokens(50), None);
            let _ = account.tell(told(0, 0));
        }
        assert_eq!((account.unsigned(), account.not_paid()), (tokens(50_000), tokens(0)));
        assert!(account.own_unsigned.len() <= UNSIGNED_SPANS_MAX);
        // Nor does one that signs and tells no more.
        account.pay(&payment(&account, 1), 1).unwrap().unwrap();
        let before = account.unsigned();
        for _ in 0..10 {
            let _ = account.settled(tokens(50), None);
            let _ = account.tell(told(1, 1));
            account.pay(&payment(&account, 1), 1).unwrap();
        }
        assert_eq!(account.unsigned(), add(before, tokens(500)));
    }

    #[test]
    fn a_receipt_is_kept_until_a_payment_surely_covers_it() {
        let mut account = account();
        account.settled(tokens(10), proof(1)).unwrap();
        // This telling may have crossed the receipt.
        let _ = account.tell(told(10, 10));
        account.pay(&payment(&account, 10), 1).unwrap().unwrap();
        assert_eq!(account.receipts(), 1);
        account.settled(tokens(10), proof(2)).unwrap();
        // This one was made after the first receipt had arrived.
        let _ = account.tell(told(10, 20));
        account.pay(&payment(&account, 15), 2).unwrap().unwrap();
        assert_eq!(account.receipts(), 2);
        let _ = account.tell(told(20, 20));
        account.pay(&payment(&account, 20), 3).unwrap().unwrap();
        assert_eq!(account.receipts(), 0);
        assert_eq!(account.receipt_bytes, 0);
    }

    #[test]
    fn requests_that_cost_nothing_leave_no_receipt() {
        let mut account = account();
        assert_eq!(account.settled(tokens(0), proof(1)), None);
        assert_eq!(account.receipts(), 0);
    }

    #[test]
    fn a_proxy_that_knows_less_than_it_signed_or_told() {
        let mut account = account();
        account.pay(&payment(&account, 7), 1).unwrap().unwrap();
        assert_eq!(account.compare(&answer(6)), Err(Forgot::Signed(tokens(7))));
        assert_eq!(account.compare(&answer(7)), Ok(()));
        let _ = account.tell(told(9, 12));
        assert_eq!(account.compare(&answer(8)), Err(Forgot::Told(tokens(9))));
        assert_eq!(account.compare(&answer(9)), Ok(()));
        assert_eq!(account.claims(), (tokens(7), told(9, 12)));
    }

    #[test]
    fn a_handover_ends_the_argument_about_counts() {
        let mut account = account();
        let _ = account.tell(told(5, 10));
        account.settled(tokens(3), proof(1)).unwrap();
        assert_eq!((account.made(), account.claims().1), (tokens(13), Told { db: tokens(5), max: MOST_TOKENS }));
        let handed = account.handover();
        assert_eq!(handed.len(), 1);
        account.handed_over(tokens(6));
        assert_eq!(account.made(), tokens(13), "it may have refused some, and will tell");
        let _ = account.tell(told(9, 9));
        account.pay(&payment(&account, 9), 1).unwrap().unwrap();
        assert_eq!(account.receipts(), 0);
        assert_eq!(account.claims().1, told(9, 9));
    }

    #[test]
    fn a_loss_that_another_worker_of_the_owner_hides() {
        let mut account = account();
        let _ = account.tell(told(10, 10));
        account.settled(tokens(3), proof(1)).unwrap();
        // The proxy lost our three, and kept five of another worker: it knows more than we could say that was made.
        assert!(account.made() < tokens(15) && account.claims().1.max > tokens(15));
    }

    #[test]
    fn everything_survives_its_records() {
        let mut account = account();
        account.settled(tokens(3), proof(1)).unwrap();
        let _ = account.tell(told(1, 3));
        account.pay(&payment(&account, 2), 11).unwrap().unwrap();
        let mut again = Account::new(init()).unwrap();
        for record in account.facts().into_iter().chain(account.kept()) {
            again.replay(Record::from_bytes(&record.to_bytes()).unwrap()).unwrap();
        }
        assert_eq!(again.claims().0, tokens(2));
        assert_eq!((again.receipts(), again.told, again.paid_at_unix_s), (1, told(1, 3), Some(11)));
    }

    #[test]
    fn receipts_are_bounded() {
        let mut account = account();
        for _ in 0..3 {
            let receipt = Bytes::from(vec![0; KEPT_RECEIPT_BYTES_MAX / 2]);
            account.settled(tokens(1), Some((receipt, Bytes::new()))).unwrap();
        }
        assert_eq!(account.receipts(), 2);
    }
}
