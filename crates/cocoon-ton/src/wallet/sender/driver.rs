//! The task behind a sender: fetches, waits and journals. What it sees is judged in [`flight`](super::super::flight).

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::sync::Arc;

use cocoon_units::Nano;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, timeout_at};

use super::super::flight::{Earlier, Flight, Verdict, departed, external_body};
use super::super::journal::{End, Entry, Journal, JournalError};
use super::super::message::Outgoing;
use super::super::{Deploy, Wallet, WalletError, WalletView};
use super::{Job, Made, Past, PastState, SendError, Sent};
use crate::chain::{Chain, ChainError, ChainPolicy, Head, Proof, Transaction, TxId};
use crate::limits::{
    WALLET_ATTEMPTS_MAX, WALLET_CHAIN_DOWN_MAX, WALLET_LOOK_MAX, WALLET_LOOK_PAUSE, WALLET_PAGE, WALLET_PAGES_MAX,
    WALLET_RESEND_EVERY, WALLET_VALID_S,
};

/// Exit code of the Cocoon wallet when its owner blocked it.
const EXIT_BLOCKED: i32 = 1031;
/// Exit codes of the Cocoon wallet and of v5r1 for an external that came after its time.
const EXIT_EXPIRED: [i32; 2] = [1030, 136];

pub(super) struct Driver {
    pub(super) chain: Arc<dyn Chain>,
    pub(super) wallet: Wallet,
    pub(super) policy: ChainPolicy,
    pub(super) journal: Option<Arc<Journal>>,
    pub(super) jobs: mpsc::Receiver<Job>,
    /// Taken from the queue, and not under way yet.
    pub(super) waiting: VecDeque<Job>,
    /// The last flight that expired, while calls of it wait and its seqno is not known to have moved.
    pub(super) given_up: Option<Flight>,
    pub(super) settled: watch::Sender<PastState>,
}

/// A look at the wallet.
struct Look {
    view: WalletView,
    at: Head,
    last: Option<TxId>,
    proof: Proof,
}

/// Why a look showed nothing.
enum LookError {
    /// It may work later.
    Chain(ChainError),
    /// It will not.
    Wallet(WalletError),
}

/// How a flight ended.
enum Landing {
    Landed(Box<Transaction>),
    /// The seqno went to an external that none of these calls knows.
    Superseded,
    Expired,
    Refused(Option<i32>),
}

impl Driver {
    pub(super) async fn run(mut self, past: Option<Entry>) {
        let past = match past {
            Some(entry) => Some(self.settle_past(entry).await),
            None => None,
        };
        self.settled.send_replace(PastState::Settled(past.as_ref().and_then(Past::of)));
        while self.gather().await {
            self.turn().await;
        }
    }

    /// Finishes what an earlier process began: hands the same bytes in until they landed or cannot any more.
    async fn settle_past(&mut self, entry: Entry) -> Entry {
        if entry.end != End::Open {
            return entry;
        }
        let landing = self.settle(&entry.flight, &mut Vec::new(), Tried::Before).await;
        let entry = landing.entry(entry.flight);
        self.note(&entry).await;
        entry
    }

    /// Waits for work and takes all there is. `false` when nobody is left who could bring any.
    async fn gather(&mut self) -> bool {
        if self.waiting.is_empty() {
            match self.jobs.recv().await {
                Some(job) => self.waiting.push_back(job),
                None => return false,
            }
        }
        while self.waiting.len() < self.wallet.kind().messages_max() {
            match self.jobs.try_recv() {
                Ok(job) => self.waiting.push_back(job),
                Err(_) => break,
            }
        }
        // Whoever went away before anything was made does not want it any more.
        self.waiting.retain(|job| !job.reply.is_closed());
        true
    }

    /// One external, from looking to its end.
    async fn turn(&mut self) {
        let look = match self.look_patiently().await {
            Ok(look) => look,
            Err(error) => return self.refuse_waiting(&error),
        };
        if look.view.blocked {
            return self.refuse_waiting(&SendError::Blocked { wallet: self.wallet.address() });
        }
        let mut batch = self.take_batch(look.view);
        if batch.is_empty() {
            return;
        }
        let flight = match self.depart(&look, &batch).await {
            Ok(flight) => flight,
            Err(error) => return refuse(batch, &error),
        };
        let made = Made { body_hash: flight.body_hash, after: look.last };
        batch.iter_mut().for_each(|job| job.made.push(made));
        let landing = self.settle(&flight, &mut batch, Tried::Never).await;
        self.note(&landing.entry(flight.clone())).await;
        self.finish(flight, batch, landing);
    }

    /// The calls that go together: in order, as many as fit one external and the wallet's money.
    fn take_batch(&mut self, view: WalletView) -> Vec<Job> {
        let mut batch = Vec::new();
        let mut messages: Vec<Outgoing> = Vec::new();
        while let Some(job) = self.waiting.pop_front() {
            let before = messages.len();
            messages.extend(job.messages.iter().cloned());
            let needs = self.wallet.needs(&messages);
            let fits = messages.len() <= self.wallet.kind().messages_max() && needs <= view.balance;
            if fits {
                batch.push(job);
                continue;
            }
            messages.truncate(before);
            if !batch.is_empty() {
                self.waiting.push_front(job);
                break;
            }
            let error = self.too_little_money(view, needs);
            refuse(vec![job], &error);
        }
        batch
    }

    /// Makes the external and journals it. Nothing was handed in yet when this fails.
    async fn depart(&self, look: &Look, batch: &[Job]) -> Result<Flight, SendError> {
        let messages: Vec<Outgoing> = batch.iter().flat_map(|job| job.messages.iter().cloned()).collect();
        let valid_until = look.at.unix_s.saturating_add(WALLET_VALID_S);
        let deploy = if look.view.deployed { Deploy::No } else { Deploy::Yes };
        let (external, body) = self.wallet.external(look.view.seqno, valid_until, &messages, deploy)?;
        let flight = Flight {
            external,
            body_hash: body.repr_hash().0,
            seqno: look.view.seqno,
            valid_until,
            after: made(batch).map(|made| made.after).fold(look.last, Option::min),
            messages: messages.iter().map(|message| (message.to, message.body_hash())).collect(),
            earlier: earlier(batch),
        };
        let entry = Entry { flight, end: End::Open };
        self.write(&entry).await.map_err(|error| SendError::Journal(error.to_string()))?;
        Ok(entry.flight)
    }

    /// Hands the external in, again and again, until its end is known. Callers hear in between when the chain is
    /// silent for long; their reply is used up then.
    async fn settle(&mut self, flight: &Flight, batch: &mut Vec<Job>, tried: Tried) -> Landing {
        let mut attempt = Attempt { tried, refused: None };
        let mut changes = self.chain.subscribe(&self.wallet.address()).await.ok();
        let mut silent_since = Instant::now();
        loop {
            attempt.note(self.chain.send(&flight.external).await);
            let resend_at = Instant::now() + WALLET_RESEND_EVERY;
            loop {
                match self.judge(flight, &attempt).await {
                    Ok(Some(landing)) => return landing,
                    Ok(None) => silent_since = Instant::now(),
                    Err(error) if silent_since.elapsed() >= WALLET_CHAIN_DOWN_MAX => {
                        refuse(
                            std::mem::take(batch),
                            &SendError::ChainDown { in_flight: true, reason: error.to_string() },
                        );
                        while let Ok(job) = self.jobs.try_recv() {
                            self.waiting.push_back(job);
                        }
                        self.refuse_waiting(&SendError::ChainDown { in_flight: false, reason: error.to_string() });
                    }
                    Err(error) => tracing::debug!(%error, "the chain does not say what became of a message"),
                }
                if timeout_at(resend_at, changed(&mut changes)).await.is_err() {
                    break;
                }
            }
        }
    }

    /// What the chain says of a flight; `None` while it is open.
    async fn judge(&self, flight: &Flight, attempt: &Attempt) -> Result<Option<Landing>, ChainError> {
        let look = match self.look().await {
            Ok(look) => look,
            Err(LookError::Chain(error)) => return Err(error),
            Err(LookError::Wallet(error)) => return Err(ChainError::BadAnswer(error.to_string())),
        };
        match flight.judge(look.view.seqno, look.at) {
            Verdict::Moved => {
                let found = self.find(flight, look.last).await?;
                Ok(Some(found.map_or(Landing::Superseded, |transaction| Landing::Landed(Box::new(transaction)))))
            }
            Verdict::Expired => Ok(Some(attempt.refused.map_or(Landing::Expired, Landing::Refused))),
            // A chain in this process refuses for good. From any other, a refusal is a server's word: what it says it
            // did not pass on may still land, so only the expiry ends the flight.
            Verdict::Open if look.proof == Proof::Local => Ok(match (attempt.tried, attempt.refused) {
                (Tried::Never, Some(_)) if look.at.unix_s > flight.valid_until => Some(Landing::Expired),
                (Tried::Never, Some(code)) => Some(Landing::Refused(code)),
                (_, _) => None,
            }),
            Verdict::Open => Ok(None),
        }
    }

    /// The transaction of a flight whose seqno moved, or of what was given up before it. `None` only when all
    /// transactions were read up to the wallet's last, or up to a time at which none of them could land any more, and it
    /// is not among them.
    async fn find(&self, flight: &Flight, last: Option<TxId>) -> Result<Option<Transaction>, ChainError> {
        let (mut after, address) = (flight.after, self.wallet.address());
        for _ in 0..WALLET_PAGES_MAX {
            let page = self.chain.transactions(&address, after, WALLET_PAGE).await?.for_money(self.policy)?;
            for transaction in &page {
                if flight.landed_in(transaction).is_some() {
                    return Ok(Some(transaction.clone()));
                }
                if flight.is_too_late(transaction.unix_s) {
                    return Ok(None);
                }
            }
            match page.last() {
                Some(transaction) => after = Some(transaction.id),
                None => break,
            }
        }
        if after.map(|id| id.lt) < last.map(|id| id.lt) {
            // A server that lags behind its own account. Concluding now could pay twice.
            return Err(ChainError::BadAnswer("transactions end before the account's last".to_owned()));
        }
        Ok(None)
    }

    fn finish(&mut self, flight: Flight, batch: Vec<Job>, landing: Landing) {
        match landing {
            Landing::Landed(transaction) => self.moved_on(batch, Some(&transaction)),
            Landing::Refused(code) => refuse(batch, &self.refusal(code)),
            Landing::Superseded => {
                tracing::warn!(wallet = %self.wallet.address(), "somebody else sends from this wallet");
                self.moved_on(batch, None);
            }
            Landing::Expired => {
                self.given_up = Some(flight);
                self.retry(batch);
            }
        }
    }

    /// The seqno moved, and all externals that carried it were looked for: `landed` is the one of them that landed. Calls
    /// that it served are done. What was made for the others can land no more, so they are made anew.
    fn moved_on(&mut self, batch: Vec<Job>, landed: Option<&Transaction>) {
        self.given_up = None;
        let body = landed.and_then(external_body);
        let is_served = |job: &Job| job.made.iter().any(|made| Some(made.body_hash) == body);
        let (mut served, unserved): (Vec<Job>, Vec<Job>) = batch.into_iter().partition(is_served);
        let (waiting_served, waiting): (Vec<Job>, Vec<Job>) = self.waiting.drain(..).partition(is_served);
        served.extend(waiting_served);
        self.waiting.extend(waiting);
        if let Some(transaction) = landed {
            answer(served, transaction);
        }
        self.retry(unserved);
        self.waiting.iter_mut().for_each(|job| job.made.clear());
    }

    /// Finds out what became of the flight that was given up, once its seqno moved: it may have landed between the look
    /// that said that it cannot and this one.
    async fn reclaim(&mut self, look: &Look) -> Result<(), ChainError> {
        if self.waiting.iter().all(|job| job.made.is_empty()) {
            self.given_up = None;
        }
        let Some(flight) = self.given_up.clone() else { return Ok(()) };
        match look.view.seqno.cmp(&flight.seqno) {
            Ordering::Equal => return Ok(()),
            // A server that lags. What is made with an old seqno cannot tell what became of a newer one.
            Ordering::Less => return Err(ChainError::BadAnswer("the wallet's seqno went back".to_owned())),
            Ordering::Greater => {}
        }
        let found = self.find(&flight, look.last).await?;
        if let Some(transaction) = &found {
            self.note(&Landing::Landed(Box::new(transaction.clone())).entry(flight)).await;
        }
        self.moved_on(Vec::new(), found.as_ref());
        Ok(())
    }

    /// Puts calls back in front, in their order. It is safe while they remember what was made for them: it carries the
    /// seqno that the next one will carry, too, or is looked for before another seqno is used ([`Self::reclaim`]).
    fn retry(&mut self, batch: Vec<Job>) {
        for mut job in batch.into_iter().rev() {
            job.attempts = job.attempts.saturating_add(1);
            if job.attempts >= WALLET_ATTEMPTS_MAX {
                let attempts = job.attempts;
                refuse(vec![job], &SendError::Expired { attempts });
            } else {
                self.waiting.push_front(job);
            }
        }
    }

    fn refusal(&self, exit_code: Option<i32>) -> SendError {
        let wallet = self.wallet.address();
        match exit_code {
            Some(EXIT_BLOCKED) => SendError::Blocked { wallet },
            Some(_) | None => SendError::Refused { wallet, exit_code },
        }
    }

    fn too_little_money(&self, view: WalletView, needs: Nano) -> SendError {
        SendError::TooLittleMoney {
            wallet: self.wallet.address(),
            has: view.balance,
            needs,
            missing: needs.checked_sub(view.balance).unwrap_or(Nano::ZERO),
            floor: self.wallet.kind().floor(),
        }
    }

    fn refuse_waiting(&mut self, error: &SendError) {
        for job in self.waiting.drain(..) {
            let mut error = error.clone();
            // Given up is not undone: only a chain that answers can say that nothing of it landed.
            if let SendError::ChainDown { in_flight, .. } = &mut error {
                *in_flight |= !job.made.is_empty();
            }
            reply(job.reply, Err(error));
        }
    }

    async fn look_patiently(&mut self) -> Result<Look, SendError> {
        let give_up = Instant::now() + WALLET_LOOK_MAX;
        loop {
            match self.look_before_departure().await {
                Ok(look) => return Ok(look),
                Err(LookError::Wallet(error)) => return Err(error.into()),
                Err(LookError::Chain(error @ ChainError::Unproved)) => {
                    return Err(SendError::Unproved(error.to_string()));
                }
                Err(LookError::Chain(error)) if Instant::now() >= give_up => {
                    return Err(SendError::ChainDown { in_flight: false, reason: error.to_string() });
                }
                Err(LookError::Chain(_)) => sleep(WALLET_LOOK_PAUSE).await,
            }
        }
    }

    /// A look after which whatever is made cannot double what was made before.
    async fn look_before_departure(&mut self) -> Result<Look, LookError> {
        let look = self.look().await?;
        self.reclaim(&look).await.map_err(LookError::Chain)?;
        Ok(look)
    }

    async fn look(&self) -> Result<Look, LookError> {
        let answer = self.chain.account(&self.wallet.address()).await.map_err(LookError::Chain)?;
        let proof = answer.proof();
        let account = answer.for_money(self.policy).map_err(LookError::Chain)?;
        let view = self.wallet.view(&account).map_err(LookError::Wallet)?;
        Ok(Look { view, at: account.at, last: account.last, proof })
    }

    /// Journals an end. That it cannot be written loses nothing: the chain will be asked again after a restart.
    async fn note(&self, entry: &Entry) {
        if let Err(error) = self.write(entry).await {
            tracing::warn!(%error, "the end of a message could not be journaled");
        }
    }

    async fn write(&self, entry: &Entry) -> Result<(), JournalError> {
        let Some(journal) = self.journal.clone() else { return Ok(()) };
        let entry = entry.clone();
        // Syncing takes milliseconds, for which other tasks must not wait.
        let written = tokio::task::spawn_blocking(move || journal.write(&entry)).await;
        written.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
    }
}

/// What the network said to the externals of a flight.
struct Attempt {
    tried: Tried,
    refused: Option<Option<i32>>,
}

/// Whether a flight may be on its way already.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tried {
    /// No attempt of any process can have arrived.
    Never,
    /// One may have.
    Before,
}

impl Attempt {
    fn note(&mut self, said: Result<[u8; 32], ChainError>) {
        match said {
            Ok(_) => self.tried = Tried::Before,
            // Its time is over: it is made anew, once the chain's own time says so, too.
            Err(ChainError::Refused { exit_code: Some(code), .. }) if EXIT_EXPIRED.contains(&code) => {}
            Err(ChainError::Refused { exit_code, .. }) => self.refused = Some(exit_code),
            Err(error) => {
                // An answer that was lost may have been a yes.
                self.tried = Tried::Before;
                tracing::debug!(%error, "a message could not be handed in");
            }
        }
    }
}

impl Landing {
    const fn end(&self) -> End {
        match self {
            Self::Landed(transaction) => End::Landed(transaction.id),
            Self::Superseded | Self::Expired | Self::Refused(_) => End::Never,
        }
    }

    /// What the journal keeps: of a flight whose place an earlier external took, only what that one carried.
    fn entry(&self, mut flight: Flight) -> Entry {
        if let Self::Landed(transaction) = self {
            let carried = flight.landed_in(transaction).unwrap_or_default();
            flight.messages.truncate(carried);
        }
        Entry { flight, end: self.end() }
    }
}

/// What was made for these calls before.
fn made(batch: &[Job]) -> impl Iterator<Item = &Made> {
    batch.iter().flat_map(|job| &job.made)
}

/// The same, each once, with how much of the new external it carried already.
fn earlier(batch: &[Job]) -> Vec<Earlier> {
    let mut all: Vec<Earlier> = Vec::new();
    for job in batch {
        for &Made { body_hash, .. } in &job.made {
            let carried = job.messages.len();
            match all.iter_mut().find(|earlier| earlier.body_hash == body_hash) {
                Some(earlier) => earlier.carried = earlier.carried.saturating_add(carried),
                None => all.push(Earlier { body_hash, carried }),
            }
        }
    }
    all
}

fn answer(batch: Vec<Job>, transaction: &Transaction) {
    let messages: Vec<Outgoing> = batch.iter().flat_map(|job| job.messages.iter().cloned()).collect();
    let mut left = departed(&messages, transaction).into_iter();
    for job in batch {
        let left: Vec<_> = left.by_ref().take(job.messages.len()).collect();
        let result = if left.iter().all(Option::is_some) {
            Ok(Sent { transaction: transaction.clone(), messages: left.into_iter().flatten().collect() })
        } else {
            let left = left.iter().map(Option::is_some).collect();
            Err(SendError::NotAllLeft { transaction: Box::new(transaction.clone()), left })
        };
        reply(job.reply, result);
    }
}

fn refuse(jobs: impl IntoIterator<Item = Job>, error: &SendError) {
    for job in jobs {
        reply(job.reply, Err(error.clone()));
    }
}

/// A caller that went away is no error: the journal has the result.
fn reply(to: oneshot::Sender<Result<Sent, SendError>>, result: Result<Sent, SendError>) {
    drop(to.send(result));
}

async fn changed(changes: &mut Option<watch::Receiver<Option<TxId>>>) {
    if let Some(receiver) = changes {
        if receiver.changed().await.is_ok() {
            return;
        }
        *changes = None;
    }
    std::future::pending().await
}
