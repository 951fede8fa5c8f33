//! The hub's money: books on a disk, signatures up to what the chain vouches for, and what settlement is told.
//!
//! 1. Whatever the core counts goes to the journal's task in batches ([`Hub::write_down`]).
//! 2. Settlement begins commits and reports those that it sees ([`Hub::hear_books`]), and what workers were paid. Each is
//!    compared with the books: a commit that they do not know, or a payment above what they committed, ends the service.
//! 3. After a commit everybody whose account moved gets a signed payment.
//!
//! Without money none of this is there: accounts are named by wallets, and nothing is signed.

use std::collections::HashMap;

use bytes::Bytes;
use cocoon_ledger::{Commit, Credit, Marks, Rejection, RolledBack, Written};
use cocoon_units::AdjustedTokens;
use cocoon_wire::RequestId;
use cocoon_wire::message::{PaymentStatus, ProxyToClient, ProxyToWorker, RequestPayment, SignedPayment};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tracing::{info, warn};

use super::recovery::Recovery;
use super::tell::AccountId;
use super::{Hub, Opened};
use crate::books::{BooksInput, CURSOR_NOTE, Position, Report, Side};
use crate::core::{Admits, ClientId, Event, Lost, LostOutcome, RequestKey, WorkerId};
use crate::journal_task::JournalLine;
use crate::limits::{FLUSH_TIMEOUT, OWNERS_MAX};
use crate::money::ProxyError;
use crate::payments::Payments;
use crate::tag::{SentWith, Tags};

/// What the hub has where there is money.
pub(crate) struct HubMoney {
    pub(super) payments: Payments,
    journal: JournalLine,
    tags: Tags,
    reports: watch::Sender<Report>,
    /// Wallets by account, as peers named them.
    pub(super) owners: HashMap<String, String>,
    /// What peers were told last, to tell them only what is new.
    told_clients: HashMap<ClientId, Marks>,
    told_workers: HashMap<WorkerId, AdjustedTokens>,
    pub(super) recovery: Recovery,
}

impl HubMoney {
    pub(crate) fn new(
        payments: Payments,
        journal: JournalLine,
        tags: Tags,
        reports: watch::Sender<Report>,
        recovery: Recovery,
    ) -> Self {
        Self {
            payments,
            journal,
            tags,
            reports,
            owners: HashMap::new(),
            told_clients: HashMap::new(),
            told_workers: HashMap::new(),
            recovery,
        }
    }
}

/// What the disk says next; never, without money.
pub(super) async fn written(money: Option<&mut HubMoney>) -> Result<Written, ProxyError> {
    match money {
        Some(money) => money.journal.written().await,
        None => std::future::pending().await,
    }
}

/// Accounts of peers.
impl Hub {
    pub(super) fn open_client(&mut self, account: &str, owner: String, credit: Credit) -> Result<Opened, Rejection> {
        let marks = self.core.open_payer(account, credit)?.marks;
        Ok(self.opened(Side::Client, account, owner, marks))
    }

    pub(super) fn open_worker(&mut self, account: &str, owner: String) -> Result<Opened, Rejection> {
        let marks = self.core.open_payee(account)?;
        Ok(self.opened(Side::Worker, account, owner, marks))
    }

    fn opened(&mut self, side: Side, account: &str, owner: String, marks: Marks) -> Opened {
        let Some(money) = &mut self.money else {
            // Nothing is on a disk, and nothing is signed.
            let none = AdjustedTokens::ZERO;
            let marks = Marks { durable: none, committed: none, ..marks };
            return Opened { signed: SignedPayment::Empty, marks };
        };
        let signed = money.payments.signed(side, account, Some(&owner), marks.committed);
        money.owners.insert(account.to_owned(), owner);
        if money.owners.len() > OWNERS_MAX {
            // Handshakes that came to nothing leave theirs behind.
            let ledger = self.core.ledger();
            let is_known = |account: &str| ledger.find_payer(account).is_some() || ledger.find_payee(account).is_some();
            money.owners.retain(|account, _| is_known(account));
        }
        Opened { signed, marks }
    }

    /// What an account stands at, as its peer is told.
    pub(super) fn status_of(&mut self, side: Side, account: AccountId) -> PaymentStatus {
        let ledger = self.core.ledger();
        let (name, marks) = match account {
            AccountId::Payer(payer) => (ledger.name_of_payer(payer), ledger.payer(payer).marks),
            AccountId::Payee(payee) => (ledger.name_of_payee(payee), ledger.payee(payee)),
        };
        let Some(money) = &mut self.money else {
            let (signed_payment, db_tokens) = (SignedPayment::Empty, AdjustedTokens::ZERO);
            return PaymentStatus { signed_payment, db_tokens, max_tokens: marks.known };
        };
        let name = name.unwrap_or_default();
        money.payments.status(side, name, money.owners.get(name).map(String::as_str), marks)
    }

    /// The latest payment that a worker can have.
    pub(super) fn latest_payout(&mut self, worker: WorkerId) -> SignedPayment {
        let payee = self.core.worker_account(worker).filter(|_| self.money.is_some());
        payee.map_or(SignedPayment::Empty, |payee| self.status_of(Side::Worker, payee.into()).signed_payment)
    }

    /// Our seal on whose request this is.
    pub(super) fn seal_tag(&mut self, key: RequestKey) -> Option<Bytes> {
        let money = self.money.as_mut()?;
        let request_hmac = self.requests.get(&key)?.body.as_ref()?.receipt?.request_hmac;
        let sent = SentWith { at_unix_ms: self.clock.unix_now().as_millis(), request_hmac };
        money.tags.seal(&self.core.account_tag(key)?, sent)
    }

    pub(super) fn settle_lost(&mut self, payee: &str, lost: Vec<Lost>) -> Vec<LostOutcome> {
        let now = Instant::now().into_std();
        let outcomes = lost.into_iter().map(|lost| self.core.settle_lost(now, payee, lost)).collect();
        self.feed(Event::Settling);
        outcomes
    }
}

/// Disk and chain.
impl Hub {
    /// Gives what is new to the disk, and shows settlement what is to be sent.
    pub(super) fn write_down(&mut self) -> Result<(), ProxyError> {
        let Some(money) = &mut self.money else { return Ok(()) };
        if let Some(written) = money.journal.try_written()? {
            self.core.ledger_mut().written(written);
        }
        money.journal.feed(self.core.ledger_mut())?;
        let report = Report { commit: self.core.ledger().commit_to_send(), old_sessions: self.leaving.len() };
        money.reports.send_if_modified(|shown| {
            let is_new = *shown != report;
            *shown = report;
            is_new
        });
        Ok(())
    }

    /// Writes what is left when the proxy stops.
    pub(super) async fn flush(&mut self) -> Result<(), ProxyError> {
        let Some(money) = &mut self.money else { return Ok(()) };
        match timeout(FLUSH_TIMEOUT, money.journal.flush(self.core.ledger_mut())).await {
            Ok(flushed) => flushed,
            Err(_) => {
                warn!("the disk did not take the last entries in time: workers will hand them over");
                Ok(())
            }
        }
    }

    /// Takes what settlement says.
    pub(super) fn hear_books(&mut self, input: BooksInput) -> Result<(), ProxyError> {
        match input {
            BooksInput::Client { contract, credit, open } => {
                let account = contract.raw();
                let admits = if open { Admits::New } else { Admits::Nothing };
                self.core.credit_changed(&account, credit, admits);
            }
            BooksInput::Worker { contract, paid, closed } => self.worker_settled(&contract.raw(), paid, closed)?,
            BooksInput::BeginCommit => self.core.begin_commit(),
            BooksInput::CommitSeen { number, digest, cursor } => {
                self.commit_seen(Commit { number, digest }, cursor)?;
            }
            BooksInput::Position { reply } => {
                // Settlement that stopped does not listen.
                let _ = reply.send(self.positions());
            }
            BooksInput::SetNote { key, value } => self.set_note(&key, value),
            BooksInput::CloseAccount { contract } => {
                let account = contract.raw();
                self.core.close_account(&account);
                if let Some(money) = &mut self.money {
                    money.payments.forget(&contract);
                    money.owners.remove(&account);
                }
            }
        }
        Ok(())
    }

    fn worker_settled(&mut self, account: &str, paid: AdjustedTokens, is_closed: bool) -> Result<(), ProxyError> {
        if is_closed {
            // An account that ended may be opened anew by its worker, and has forgotten what it was paid.
            self.core.payee_closed(Instant::now().into_std(), account);
            self.feed(Event::Settling);
            return Ok(());
        }
        let ledger = self.core.ledger();
        let ours = ledger.find_payee(account).map(|payee| ledger.payee(payee).committed);
        match ours {
            // Only our key signs payouts, and it signs what is committed: other books of this proxy have committed more.
            Some(ours) if paid > ours => Err(RolledBack::Overpaid { on_chain: paid.get(), ours: ours.get() }.into()),
            Some(_) | None => Ok(()),
        }
    }

    fn commit_seen(&mut self, commit: Commit, cursor: Bytes) -> Result<(), ProxyError> {
        self.core.ledger().check_chain(Some(commit))?;
        self.core.committed(commit.number);
        self.set_note(CURSOR_NOTE, Some(cursor));
        info!(commit = commit.number, "the chain has our books up to here");
        self.feed(Event::Settling);
        self.tell_workers();
        self.tell_clients();
        Ok(())
    }

    pub(super) fn set_note(&mut self, key: &str, value: Option<Bytes>) {
        if self.core.ledger_mut().set_note(key, value).is_err() {
            warn!(key, "the books have no room for a note of settlement");
        }
    }

    /// A signed payment to every worker that has one coming.
    fn tell_workers(&mut self) {
        for worker in self.workers.keys().copied().collect::<Vec<_>>() {
            let Some(payee) = self.core.worker_account(worker) else { continue };
            let committed = self.core.ledger().payee(payee).committed;
            let Some(money) = &mut self.money else { return };
            if money.told_workers.insert(worker, committed).unwrap_or_default() == committed {
                continue;
            }
            let status = self.status_of(Side::Worker, payee.into());
            let PaymentStatus { signed_payment, db_tokens, max_tokens } = status;
            let (request_id, request_tokens) = (RequestId::new([0; 32]), AdjustedTokens::ZERO);
            let payment = RequestPayment { request_id, signed_payment, db_tokens, max_tokens, request_tokens };
            let message = ProxyToWorker::Payment { payment, request_client_owner: String::new() };
            if let Some(link) = self.workers.get(&worker) {
                // A full outbox ends with its connection; a payment told late is told by the next one.
                let _ = link.outbox.send(message.encode(link.version));
            }
        }
    }

    /// What it stands at to every client whose account moved.
    fn tell_clients(&mut self) {
        for client in self.clients.keys().copied().collect::<Vec<_>>() {
            let Some((payer, view)) = self.core.client_account(client) else { continue };
            let Some(money) = &mut self.money else { return };
            if money.told_clients.insert(client, view.marks).unwrap_or_default() == view.marks {
                continue;
            }
            let status = self.status_of(Side::Client, payer.into());
            if let Some(link) = self.clients.get(&client) {
                let _ = link.outbox.send(ProxyToClient::PaymentStatus(status).encode(link.version));
            }
        }
    }

    /// A session ended.
    pub(super) fn forget_told(&mut self, client: Option<ClientId>, worker: Option<WorkerId>) {
        let Some(money) = &mut self.money else { return };
        client.map(|client| money.told_clients.remove(&client));
        worker.map(|worker| money.told_workers.remove(&worker));
    }

    fn positions(&self) -> Vec<Position> {
        let ledger = self.core.ledger();
        let owners = self.money.as_ref().map(|money| &money.owners);
        let owner = |account: &str| owners?.get(account).cloned();
        let payers = ledger.payers().filter_map(|(payer, account)| {
            let view = ledger.payer(payer);
            Some(Position {
                side: Side::Client,
                contract: account.parse().ok()?,
                owner: owner(account),
                marks: view.marks,
                reserved: view.reserved,
                in_flight: view.open,
            })
        });
        let payees = ledger.payees().filter_map(|(payee, account)| {
            Some(Position {
                side: Side::Worker,
                contract: account.parse().ok()?,
                owner: owner(account),
                marks: ledger.payee(payee),
                // What workers have running is counted when it is settled.
                reserved: AdjustedTokens::ZERO,
                in_flight: 0,
            })
        });
        payers.chain(payees).collect()
    }
}
