//! One ready connection to a proxy, as requests see it: send, be answered, cancel.
//!
//! The connection's task puts answers in by request id; ids are fresh per connection, so two apps
//! never share one. A cancelled id is remembered for a while, since its answer may be on its way;
//! any other unknown id is the proxy's fault.
//! The table's lock is held for one lookup at a time, never while a chunk is handled.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use cocoon_net::{Outbox, QueryError, Ticket, Withdrawal};
use cocoon_ton::Address;
use cocoon_units::Pricing;
use cocoon_wire::{
    RequestId, Version,
    message::{Answer, ClientAnswer, ClientMessage, ClientQuery, ClientRun, FinalInfo},
};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep},
};

use super::{
    answer::{AnswerStream, Intake, Slot},
    violation::Violation,
};
use crate::{
    attestations::Record,
    error::RequestError,
    limits,
    models::{Models, Served},
    receipts::Bill,
    request::InferenceRequest,
    terms::Parties,
};

/// A ready connection.
pub(crate) struct Link {
    outbox: Outbox,
    version: Version,
    /// The version of the root that the session was made by.
    config_version: i32,
    /// Between whom money passes; none without a chain.
    parties: Option<Parties>,
    /// What the proxy charges by.
    pricing: Pricing,
    /// The proxy's name in receipts.
    proxy_name: String,
    table: Mutex<Table>,
    in_flight: AtomicUsize,
    /// Requests wait, and none did before.
    awaited: Notify,
    /// Bytes of all requests that were sent.
    sent: AtomicU64,
    /// What the last question took, in milliseconds.
    round_trip_ms: AtomicU64,
    /// Whether it owes us a sign of life.
    silent: watch::Sender<bool>,
    /// Our contract with the proxy ends: what runs may finish, and nothing else is sent.
    is_leaving: AtomicBool,
    /// What was verified of the proxy, if it is attested.
    attestation: Mutex<Option<Arc<Record>>>,
    pub(super) models: watch::Sender<Option<Arc<Models>>>,
    pub(super) models_wanted: Notify,
}

#[derive(Default)]
struct Table {
    requests: HashMap<RequestId, Entry>,
    cancelled: VecDeque<RequestId>,
    closed: bool,
}

/// A request whose end was not heard. Its bill is told the end here when its app is gone; else the app's side does so.
enum Entry {
    Live(Arc<Slot>, Arc<Bill>),
    Cancelled(Arc<Bill>),
}

/// Why a question got no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoAnswer {
    /// The proxy refused, said nothing, or nonsense.
    Peer,
    /// It was not asked: the session is lost, or too much is on its way.
    Unasked,
}

impl Link {
    pub(super) fn new(
        outbox: Outbox,
        version: Version,
        config_version: i32,
        parties: Option<Parties>,
        proxy_owner: String,
        pricing: Pricing,
    ) -> Self {
        let proxy_name = parties.as_ref().map_or(proxy_owner, |parties| parties.proxy.raw());
        Self {
            outbox,
            version,
            config_version,
            parties,
            pricing,
            proxy_name,
            table: Mutex::default(),
            in_flight: AtomicUsize::new(0),
            awaited: Notify::new(),
            sent: AtomicU64::new(0),
            round_trip_ms: AtomicU64::new(0),
            silent: watch::Sender::new(false),
            is_leaving: AtomicBool::new(false),
            attestation: Mutex::default(),
            models: watch::Sender::new(None),
            models_wanted: Notify::new(),
        }
    }

    pub(crate) fn version(&self) -> Version {
        self.version
    }

    /// Takes no further request: our contract with the proxy ends.
    pub(crate) fn leave(&self) {
        self.is_leaving.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_leaving(&self) -> bool {
        self.is_leaving.load(Ordering::Relaxed)
    }

    /// Between whom money passes; none without a chain.
    pub(super) const fn parties(&self) -> Option<&Parties> {
        self.parties.as_ref()
    }

    /// This client's contract with the proxy, which names the account between them; none without a chain.
    pub(crate) fn client_contract(&self) -> Option<Address> {
        self.parties.as_ref().map(|parties| parties.contract)
    }

    /// What the proxy charges by: as the root said when the session began, since a contract keeps its price.
    pub(crate) const fn pricing(&self) -> Pricing {
        self.pricing
    }

    /// The proxy's name in receipts: its contract, or without a chain its owner.
    pub(crate) fn proxy_name(&self) -> &str {
        &self.proxy_name
    }

    /// Asks the proxy something; `None` when it refuses, does not answer, or answers with nonsense.
    pub(crate) async fn ask(&self, query: &ClientQuery) -> Option<ClientAnswer> {
        self.question(query).await.ok()
    }

    /// The same, with whose fault it is that there is no answer.
    pub(crate) async fn question(&self, query: &ClientQuery) -> Result<ClientAnswer, NoAnswer> {
        let answer = self.outbox.query(query.encode(), limits::POLL_TIMEOUT).await.map_err(|error| match error {
            QueryError::PeerRefused { .. } | QueryError::PeerTimeout(_) => NoAnswer::Peer,
            QueryError::TooManyInFlight | QueryError::Send(_) => NoAnswer::Unasked,
        })?;
        ClientAnswer::decode(answer).map_err(|_| NoAnswer::Peer)
    }

    /// What was verified of the proxy; `None` on a link without attestation.
    pub(crate) fn attestation(&self) -> Option<Arc<Record>> {
        self.attestation.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_attestation(&self, record: Option<Arc<Record>>) {
        // Replaced in one assignment, so it is whole even after a panic.
        *self.attestation.lock().unwrap_or_else(PoisonError::into_inner) = record;
    }

    pub(super) fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// Requests that wait for the rest of their answer.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Bytes of all requests that were sent.
    pub(super) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// How long the proxy took to answer a question.
    pub(super) fn round_trip(&self) -> Duration {
        Duration::from_millis(self.round_trip_ms.load(Ordering::Relaxed))
    }

    pub(super) fn note_round_trip(&self, took: Duration) {
        self.round_trip_ms.store(millis(took), Ordering::Relaxed);
    }

    /// Whether the proxy owes a sign of life, and what has not begun should not wait for it.
    pub(crate) fn is_silent(&self) -> bool {
        *self.silent.borrow()
    }

    /// Waits until it does.
    pub(crate) async fn until_silent(&self) {
        let mut silent = self.silent.subscribe();
        // Its sender is ours.
        let _ = silent.wait_for(|is_silent| *is_silent).await;
    }

    pub(super) fn set_silent(&self, is_silent: bool) {
        self.silent.send_replace(is_silent);
    }

    /// The next moment to look whether the proxy is there: never while nothing waits for it, unless it is missed.
    pub(super) async fn look(&self) {
        if self.in_flight() == 0 && !self.is_silent() {
            self.awaited.notified().await;
        }
        sleep(limits::LIVENESS_LOOK).await;
    }

    /// What the proxy last said about its models.
    pub(crate) fn models(&self) -> watch::Ref<'_, Option<Arc<Models>>> {
        self.models.borrow()
    }

    /// Asks the proxy for its models, unless that was done a moment ago, and waits for the answer.
    pub(crate) async fn refresh_models(&self) {
        let mut told = self.models.subscribe();
        let is_fresh =
            told.borrow_and_update().as_ref().is_some_and(|models| models.told_at.elapsed() < limits::MODELS_STALE);
        if !is_fresh {
            self.models_wanted.notify_one();
            // A late answer or a lost connection leaves what was known before.
            let _ = tokio::time::timeout(limits::MODELS_REFRESH_WAIT, told.changed()).await;
        }
    }

    /// Heeds that the proxy has no worker for a model: until it says otherwise, the model is not offered as its own.
    pub(crate) fn lost_worker(&self, model: &str) {
        let is_changed = self.models.send_if_modified(|models| {
            let offered = models.as_ref().filter(|models| models.served(model) == Served::Now);
            let Some(without) = offered.map(|models| models.without(model)) else { return false };
            *models = Some(Arc::new(without));
            true
        });
        if is_changed {
            self.models_wanted.notify_one();
        }
    }

    /// Sends a request; its answer comes out of the stream.
    pub(crate) fn start(
        self: &Arc<Self>,
        request: &InferenceRequest,
        bill: Arc<Bill>,
        deadline: Instant,
    ) -> Result<AnswerStream, RequestError> {
        let id = RequestId::new(rand::random());
        let run = ClientMessage::Run(self.run(id, request, &bill, deadline)?);
        let slot = Arc::new(Slot::new());
        self.register(id, &slot, bill)?;
        let run = run.encode(self.version);
        self.sent.fetch_add(u64::try_from(run.len()).unwrap_or(u64::MAX), Ordering::Relaxed);
        match self.outbox.send_tracked(run) {
            Ok(ticket) => Ok(AnswerStream::new(id, slot, Arc::clone(self), ticket)),
            Err(error) => {
                self.forget(id);
                Err(error.into())
            }
        }
    }

    fn run(
        &self,
        id: RequestId,
        request: &InferenceRequest,
        bill: &Bill,
        deadline: Instant,
    ) -> Result<ClientRun, RequestError> {
        let left = deadline.saturating_duration_since(Instant::now());
        let is_extended = self.version == Version::Extended;
        Ok(ClientRun {
            request_id: id,
            model: request.model.to_string(),
            query: request.envelope(self.version)?,
            max_coefficient: request.max_coefficient,
            max_tokens: request.max_tokens,
            timeout_ms: millis(if is_extended { left } else { left * limits::ORIGINAL_TIMEOUT_PERCENT / 100 }),
            min_config_version: self.config_version,
            enable_debug: request.enable_debug,
            answer_credit: is_extended.then_some(limits::ANSWER_CREDIT),
            receipt: bill.ask(),
        })
    }

    fn register(&self, id: RequestId, slot: &Arc<Slot>, bill: Arc<Bill>) -> Result<(), RequestError> {
        let mut table = self.lock();
        if table.closed || self.is_leaving() {
            return Err(RequestError::ProxyLost);
        }
        if self.in_flight() >= limits::REQUESTS_PER_PROXY {
            return Err(RequestError::Busy);
        }
        table.requests.insert(id, Entry::Live(Arc::clone(slot), bill));
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        self.awaited.notify_one();
        Ok(())
    }

    /// Takes one message of the proxy to the request that waits for it.
    pub(super) fn handle_answer(&self, answer: Answer) -> Result<(), Violation> {
        let id = answer.request_id();
        let slot = match self.entry_for(id, answer.is_last())? {
            Entry::Live(slot, _) => slot,
            Entry::Cancelled(bill) => {
                if let Some(info) = answer.end() {
                    bill.heard(info);
                }
                return Ok(());
            }
        };
        match slot.handle_answer(answer, self.version) {
            Ok(Intake::Queued) => Ok(()),
            Ok(Intake::Overrun) => {
                self.remember_cancelled(id);
                Ok(())
            }
            Err(violation) => {
                slot.break_off(RequestError::BadAnswer);
                Err(violation)
            }
        }
    }

    /// What a request came to, apart from its answer. One that is not in the table has had its end, of which the first word
    /// counts: whoever said that it was free must not charge for it. Or it was forgotten among many cancelled ones, and is
    /// asked for.
    pub(super) fn handle_settled(&self, id: RequestId, info: &FinalInfo) {
        let entry = self.lock().requests.remove(&id);
        match entry {
            None => {}
            Some(Entry::Cancelled(bill)) => bill.heard(info),
            Some(Entry::Live(slot, bill)) => {
                self.in_flight.fetch_sub(1, Ordering::Relaxed);
                bill.heard(info);
                slot.break_off(RequestError::ProxyLost);
            }
        }
    }

    /// Who waits for an answer, if anybody still does.
    fn entry_for(&self, id: RequestId, is_last: bool) -> Result<Entry, Violation> {
        let mut table = self.lock();
        let entry = match table.requests.get(&id) {
            None => return Err(Violation::UnknownRequest),
            Some(Entry::Cancelled(bill)) => Entry::Cancelled(Arc::clone(bill)),
            Some(Entry::Live(slot, bill)) => Entry::Live(Arc::clone(slot), Arc::clone(bill)),
        };
        if is_last {
            table.requests.remove(&id);
            if let Entry::Live(..) = entry {
                self.in_flight.fetch_sub(1, Ordering::Relaxed);
            }
        }
        Ok(entry)
    }

    /// Stops a request whose app is gone. A request that has not left yet is taken back; original
    /// proxies cannot be told, so their answers are dropped as they come.
    pub(super) fn cancel(&self, id: RequestId, ticket: Ticket) {
        if self.outbox.withdraw(ticket) == Withdrawal::NeverDelivered {
            if let Some(bill) = self.forget(id) {
                bill.never_sent();
            }
            return;
        }
        if self.remember_cancelled(id) && self.version == Version::Extended {
            let cancel = ClientMessage::Cancel { request_id: id }.encode(self.version);
            // Refused only when the connection is stuck or closed, which ends the request too.
            let _ = self.outbox.send_control(cancel);
        }
    }

    pub(super) fn grant(&self, id: RequestId, bytes: u32) {
        let credit = ClientMessage::Credit { request_id: id, bytes }.encode(self.version);
        // Refused only when the connection is stuck or closed, which ends the request too.
        let _ = self.outbox.send_control(credit);
    }

    /// Marks a request as cancelled; false when it is over already.
    fn remember_cancelled(&self, id: RequestId) -> bool {
        let mut table = self.lock();
        match table.requests.get(&id) {
            Some(Entry::Live(_, bill)) => {
                let bill = Arc::clone(bill);
                table.requests.insert(id, Entry::Cancelled(bill));
            }
            Some(Entry::Cancelled(_)) | None => return false,
        }
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        table.cancelled.push_back(id);
        if table.cancelled.len() > limits::CANCELLED_REMEMBERED
            && let Some(oldest) = table.cancelled.pop_front()
        {
            // Often its answer has ended meanwhile, and there is nothing to forget.
            table.requests.remove(&oldest);
        }
        true
    }

    fn forget(&self, id: RequestId) -> Option<Arc<Bill>> {
        let entry = self.lock().requests.remove(&id)?;
        match entry {
            Entry::Live(_, bill) => {
                self.in_flight.fetch_sub(1, Ordering::Relaxed);
                Some(bill)
            }
            Entry::Cancelled(bill) => Some(bill),
        }
    }

    /// Ends every request, and refuses further ones.
    pub(super) fn close(&self) {
        let mut table = self.lock();
        table.closed = true;
        let requests = std::mem::take(&mut table.requests);
        drop(table);
        for entry in requests.into_values() {
            if let Entry::Live(slot, _) = entry {
                self.in_flight.fetch_sub(1, Ordering::Relaxed);
                slot.break_off(RequestError::ProxyLost);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // Every update is one insertion or removal, so the table is whole even after a panic.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("version", &self.version)
            .field("in_flight", &self.in_flight())
            .finish_non_exhaustive()
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
