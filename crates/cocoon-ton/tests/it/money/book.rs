//! The oracle: what each party is owed, from the messages that contracts took and sent, and by rules that fit a page.

use std::collections::{BTreeMap, BTreeSet};

use cocoon_ton::chain::{Message, MessageKind, Transaction};
use cocoon_ton::contract::message::{client, op_of, proxy};
use cocoon_ton::contract::note::Note;
use cocoon_ton::contract::signed::Envelope;
use cocoon_ton::contract::{Lifecycle, op};
use cocoon_ton::{Address, Cell};

use super::world::{CLIENT_DELAY_S, Kind, Party, World};

/// The books of one contract. Which columns it uses depends on its kind.
#[derive(Debug, Clone, Default)]
struct Page {
    /// Deposits of a client; stake of a proxy.
    deposited: u128,
    /// Payments to its owner: refunds, commission and stake, or payouts of a worker by its proxy.
    paid_to_owner: u128,
    /// Charges that arrived: at a proxy from anybody, or from this client.
    charges: u128,
    /// A client's tokens as charged, a worker's as claimed.
    tokens: u128,
    /// A client's charges that bounced and wait, and those that its owner got in the end.
    due: u128,
    due_refunded: u128,
    /// A worker's claims for the proxy's part that arrived there.
    proxy_part: u128,
    /// When a client's delay is over, once it began.
    unlock_unix_s: Option<u32>,
}

#[derive(Debug, Clone)]
pub(crate) struct Book {
    price: u128,
    fee: u128,
    pages: Vec<Page>,
    /// Queries of messages that no contract may act on.
    pub(crate) forged: BTreeSet<u64>,
    /// How often something rare happened: a test in which it never does shows nothing.
    pub(crate) seen: Seen,
}

pub(crate) type Seen = BTreeMap<&'static str, u64>;

/// What must happen in any five hundred cases.
pub(crate) const RARE: [&str; 12] = [
    "a charge in full",
    "a charge in part, since the balance has no more",
    "a charge that bounced",
    "a charge that took along what had bounced",
    "a final charge",
    "a refund after the delay",
    "a refund with charges that had bounced",
    "a charge after the delay, refused",
    "a forgery, refused",
    "a claim that bounced",
    "a claim paid in part or not at all",
    "a proxy closed",
];

impl Book {
    pub(crate) fn new(price: u128, fee: u128, parties: usize) -> Self {
        Self { price, fee, pages: vec![Page::default(); parties], forged: BTreeSet::new(), seen: Seen::new() }
    }

    // What happened.

    pub(crate) fn read(&mut self, parties: &[Party], index: usize, transaction: &Transaction) -> Result<(), String> {
        let message = transaction.in_message.as_ref().expect("nothing runs by itself here");
        let MessageKind::Internal { from, bounced, .. } = &message.kind else {
            return Err(format!("{} took an external message", transaction.account));
        };
        let ran = transaction.outcome.exit_code.is_some();
        if transaction.outcome.aborted {
            // A message of 1 nano, or a refusal. What bounces must always be taken.
            let of_proxy = *from == parties[parties[index].proxy].address;
            let lost = ran && (*bounced || (of_proxy && op_of(&message.body) == Ok(op::PAYOUT_REMAINDER)));
            self.note_refusal(index, transaction, &message.body);
            return if lost {
                Err(format!("{} lost a claim: {:?}", transaction.account, transaction.outcome))
            } else {
                Ok(())
            };
        }
        self.read_payments(parties, index, transaction)?;
        if *bounced {
            return self.read_bounce(parties, index, &message.body);
        }
        match parties[index].kind {
            Kind::Proxy => self.read_proxy(parties, index, from, &message.body),
            Kind::Client => self.read_client(index, transaction, &message.body),
            Kind::Worker => self.read_worker(index, transaction, &message.body),
        }
    }

    /// Payments of exact amounts go to owners, and to nobody else.
    fn read_payments(&mut self, parties: &[Party], index: usize, transaction: &Transaction) -> Result<(), String> {
        for (to, value, _) in sent(transaction, op::PAYOUT) {
            let payee = parties.iter().position(|party| party.owner == to && party.proxy == parties[index].proxy);
            let payee = payee.filter(|payee| *payee == index || parties[*payee].kind == Kind::Worker);
            let payee = payee.ok_or_else(|| format!("{} paid {value} to a stranger", transaction.account))?;
            self.pages[payee].paid_to_owner += value;
        }
        Ok(())
    }

    fn saw(&mut self, what: &'static str) {
        debug_assert!(RARE.contains(&what), "{what}");
        *self.seen.entry(what).or_default() += 1;
    }

    fn note_refusal(&mut self, index: usize, transaction: &Transaction, body: &Cell) {
        if self.refuse_forged(body).is_err() {
            self.saw("a forgery, refused");
        } else if op_of(body) == Ok(op::CLIENT_CHARGE)
            && self.pages[index].unlock_unix_s.is_some_and(|unlock| transaction.unix_s > unlock)
        {
            self.saw("a charge after the delay, refused");
        }
    }

    fn read_bounce(&mut self, parties: &[Party], index: usize, body: &Cell) -> Result<(), String> {
        let mut slice = body.as_slice().map_err(|e| e.to_string())?;
        if slice.load_u32() != Ok(0xffff_fffe) {
            return Err("something bounced that cannot be restored".to_owned());
        }
        let original = slice.load_reference_cloned().map_err(|e| e.to_string())?;
        if parties[index].kind == Kind::Client {
            let charge = proxy::ChargePaid::parse(&original).map_err(|e| e.to_string())?;
            self.pages[index].due += u128::from(charge.amount.get());
            self.saw("a charge that bounced");
        } else {
            self.saw("a claim that bounced");
        }
        Ok(())
    }

    fn read_proxy(&mut self, parties: &[Party], index: usize, from: &Address, body: &Cell) -> Result<(), String> {
        match op_of(body) {
            Ok(op::CHARGE_PAID) => {
                let amount = proxy::ChargePaid::parse(body).map_err(|e| e.to_string())?.amount.get();
                self.pages[index].charges += u128::from(amount);
                if let Some(client) = parties.iter().position(|party| party.address == *from) {
                    self.pages[client].charges += u128::from(amount);
                }
            }
            Ok(op::PROXY_INCREASE_STAKE) => {
                let amount = proxy::IncreaseStake::parse(body).map_err(|e| e.to_string())?.amount.get();
                self.pages[index].deposited += u128::from(amount);
            }
            Ok(op::WORKER_NOTE) => {
                let Ok(Note::Worker(note)) = Note::parse(body) else { return Err("a bad note was taken".to_owned()) };
                let worker = parties.iter().position(|party| party.address == *from);
                let worker = worker.ok_or("a stranger claimed a payout")?;
                if let Some(claim) = note.claim {
                    self.pages[worker].proxy_part += u128::from(claim.proxy_part.get());
                }
            }
            Ok(op::COMPLETE_CLOSE | op::PROXY_CLOSE_COMPLETE_SIGNED) => {
                self.refuse_forged(body)?;
                self.saw("a proxy closed");
            }
            Ok(_) | Err(_) => self.refuse_forged(body)?,
        }
        Ok(())
    }

    fn read_client(&mut self, index: usize, transaction: &Transaction, body: &Cell) -> Result<(), String> {
        match op_of(body) {
            Ok(op::CLIENT_TOP_UP) => {
                let amount = client::TopUp::parse(body).map_err(|e| e.to_string())?.amount.get();
                self.pages[index].deposited += u128::from(amount);
            }
            Ok(op::CLIENT_CHANGE_SECRET_HASH_TOP_UP) => {
                let message = client::ChangeSecretHashAndTopUp::parse(body).map_err(|e| e.to_string())?;
                self.pages[index].deposited += u128::from(message.amount.get());
            }
            Ok(op::CLIENT_REQUEST_REFUND) => self.read_refund_request(index, transaction)?,
            Ok(op::CLIENT_CHARGE | op::CLIENT_GRANT_REFUND) => self.read_charge(index, transaction, body)?,
            Ok(_) | Err(_) => {}
        }
        Ok(())
    }

    fn read_refund_request(&mut self, index: usize, transaction: &Transaction) -> Result<(), String> {
        let (_, state) = client_after(transaction).ok_or("a client did not say what it is now")?;
        let page = &mut self.pages[index];
        if state == Lifecycle::Closing {
            page.unlock_unix_s = Some(transaction.unix_s + CLIENT_DELAY_S);
            return Ok(());
        }
        if page.unlock_unix_s.is_some_and(|unlock| transaction.unix_s <= unlock) {
            return Err("a client's owner took all before the delay was over".to_owned());
        }
        let due = std::mem::take(&mut page.due);
        page.due_refunded += due;
        self.saw(if due == 0 { "a refund after the delay" } else { "a refund with charges that had bounced" });
        Ok(())
    }

    fn read_charge(&mut self, index: usize, transaction: &Transaction, body: &Cell) -> Result<(), String> {
        let signed = self.genuine(body)?;
        let (after, _) = client_after(transaction).ok_or("a client did not say what it is now")?;
        let page = &mut self.pages[index];
        if page.unlock_unix_s.is_some_and(|unlock| transaction.unix_s > unlock) {
            return Err("a charge was taken after the delay".to_owned());
        }
        if after > signed || after < page.tokens {
            return Err(format!("{} tokens are charged by a signature for {signed}, before: {}", after, page.tokens));
        }
        let bounced = std::mem::take(&mut page.due);
        let due = (after - page.tokens) * self.price + bounced;
        page.tokens = after;
        self.saw(match op_of(body) {
            _ if bounced != 0 => "a charge that took along what had bounced",
            Ok(op::CLIENT_GRANT_REFUND) => "a final charge",
            _ if after < signed => "a charge in part, since the balance has no more",
            _ => "a charge in full",
        });
        let paid: u128 = sent(transaction, op::CHARGE_PAID)
            .map(|(_, _, body)| u128::from(proxy::ChargePaid::parse(body).unwrap().amount.get()))
            .sum();
        if paid == due { Ok(()) } else { Err(format!("{due} were to be charged, and {paid} were")) }
    }

    fn read_worker(&mut self, index: usize, transaction: &Transaction, body: &Cell) -> Result<(), String> {
        if op_of(body) == Ok(op::PAYOUT_REMAINDER) {
            self.saw("a claim paid in part or not at all");
        }
        if !matches!(op_of(body), Ok(op::WORKER_PAYOUT | op::WORKER_LAST_PAYOUT)) {
            return Ok(());
        }
        let signed = self.genuine(body)?;
        let claimed = sent(transaction, op::WORKER_NOTE).find_map(|(_, _, body)| match Note::parse(body) {
            Ok(Note::Worker(note)) => Some(u128::from(note.tokens)),
            Ok(_) | Err(_) => None,
        });
        let page = &mut self.pages[index];
        if claimed != Some(signed) || signed < page.tokens {
            return Err(format!("{claimed:?} tokens are claimed by a signature for {signed}, before: {}", page.tokens));
        }
        page.tokens = signed;
        Ok(())
    }

    /// The count of a signed payment that a contract acted on.
    fn genuine(&self, body: &Cell) -> Result<u128, String> {
        self.refuse_forged(body)?;
        let payment = Envelope::parse(body).map_err(|e| e.to_string())?.signed.payment;
        Ok(payment.tokens().ok_or("a payment without tokens")?.into())
    }

    fn refuse_forged(&self, body: &Cell) -> Result<(), String> {
        match Envelope::parse(body) {
            Ok(envelope) if self.forged.contains(&envelope.signed.payment.query_id()) => {
                Err("a contract acted on a forgery".to_owned())
            }
            Ok(_) | Err(_) => Ok(()),
        }
    }

    // What must hold when nothing is on its way.

    pub(crate) fn check(&self, world: &World) -> Result<(), String> {
        world.engine.check_conservation().map_err(|e| e.to_string())?;
        for index in 0..world.parties.len() {
            match world.parties[index].kind {
                Kind::Proxy => self.check_proxy(world, index)?,
                Kind::Client => self.check_client(world, index)?,
                Kind::Worker => self.check_worker(world, index)?,
            }
        }
        Ok(())
    }

    fn check_client(&self, world: &World, index: usize) -> Result<(), String> {
        let (page, state) = (&self.pages[index], world.client(index));
        let (balance, due) = (u128::from(state.balance.get()), u128::from(state.due.get()));
        let what = |what| format!("client {index}: {what}");
        equal(page.deposited, balance + due + page.charges + page.paid_to_owner, &what("deposits"))?;
        equal(page.tokens * self.price, page.charges + due + page.due_refunded, &what("charges"))?;
        equal(page.due, due, &what("charges that bounced"))?;
        equal(page.tokens, state.tokens_used.into(), &what("tokens"))
    }

    fn check_worker(&self, world: &World, index: usize) -> Result<(), String> {
        let (page, state) = (&self.pages[index], world.worker(index));
        let unpaid = (u128::from(state.unpaid.worker.get()), u128::from(state.unpaid.proxy.get()));
        let what = |what| format!("worker {index}: {what}");
        equal(page.tokens * self.fee, page.paid_to_owner + unpaid.0, &what("the worker's part"))?;
        equal(
            page.tokens * self.price.saturating_sub(self.fee),
            page.proxy_part + unpaid.1,
            &what("the proxy's part"),
        )?;
        equal(page.tokens, state.tokens.into(), &what("tokens"))
    }

    fn check_proxy(&self, world: &World, index: usize) -> Result<(), String> {
        let page = &self.pages[index];
        let state = world.proxy(index);
        let field =
            |read: fn(&cocoon_ton::contract::ProxyState) -> u64| state.as_ref().map_or(0, |s| u128::from(read(s)));
        let (funds, owed) = (field(|s| s.funds.get()), field(|s| s.stake.get()) + field(|s| s.balance.get()));
        let workers = || world.indices(Kind::Worker).into_iter().filter(|worker| world.parties[*worker].proxy == index);
        let parts: u128 = workers().map(|worker| self.pages[worker].proxy_part).sum();
        let payouts: u128 = workers().map(|worker| self.pages[worker].paid_to_owner).sum();
        let what = |what| format!("proxy {index}: {what}");
        equal(parts + page.deposited, owed + page.paid_to_owner, &what("what the owner is owed"))?;
        equal(page.charges + page.deposited, funds + payouts + page.paid_to_owner, &what("funds"))
    }
}

fn equal(left: u128, right: u128, what: &str) -> Result<(), String> {
    if left == right { Ok(()) } else { Err(format!("{what}: {left} came, {right} are there or were paid")) }
}

/// What a contract sent with this operation: to whom, with how much, and the body.
fn sent(transaction: &Transaction, wanted: u32) -> impl Iterator<Item = (Address, u128, &Cell)> {
    transaction.out_messages.iter().filter_map(move |message| {
        let Message { kind: MessageKind::Internal { to, value, bounced: false, .. }, body, .. } = message else {
            return None;
        };
        (op_of(body) == Ok(wanted)).then(|| (*to, u128::from(value.get()), body))
    })
}

/// Tokens and state of a client, as its note says.
fn client_after(transaction: &Transaction) -> Option<(u128, Lifecycle)> {
    sent(transaction, op::CLIENT_NOTE).find_map(|(_, _, body)| match Note::parse(body) {
        Ok(Note::Client(note)) => Some((note.tokens_used.into(), note.state)),
        Ok(_) | Err(_) => None,
    })
}
