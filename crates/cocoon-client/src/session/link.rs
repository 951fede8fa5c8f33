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
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use cocoon_net::{Outbox, Ticket, Withdrawal};
use cocoon_wire::{
    RequestId, Version,
    message::{Answer, ClientMessage, ClientRun},
};
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use super::{
    answer::{AnswerStream, Intake, Slot},
    violation::Violation,
};
use crate::{attestations::Record, error::RequestError, limits, models::Models, request::InferenceRequest};

/// A ready connection.
pub(crate) struct Link {
    outbox: Outbox,
    version: Version,
    /// The version of the root that the session was made by.
    config_version: i32,
    table: Mutex<Table>,
    in_flight: AtomicUsize,
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

enum Entry {
    Live(Arc<Slot>),
    Cancelled,
}

impl Link {
    pub(super) fn new(outbox: Outbox, version: Version, config_version: i32) -> Self {
        Self {
            outbox,
            version,
            config_version,
            table: Mutex::default(),
            in_flight: AtomicUsize::new(0),
            attestation: Mutex::default(),
            models: watch::Sender::new(None),
            models_wanted: Notify::new(),
        }
    }

    pub(crate) fn version(&self) -> Version {
        self.version
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

    /// Sends a request; its answer comes out of the stream.
    pub(crate) fn start(
        self: &Arc<Self>,
        request: &InferenceRequest,
        deadline: Instant,
    ) -> Result<AnswerStream, RequestError> {
        let id = RequestId::new(rand::random());
        let run = ClientMessage::Run(self.run(id, request, deadline)?);
        let slot = Arc::new(Slot::new());
        self.register(id, &slot)?;
        match self.outbox.send_tracked(run.encode(self.version)) {
            Ok(ticket) => Ok(AnswerStream::new(id, slot, Arc::clone(self), ticket)),
            Err(error) => {
                self.forget(id);
                Err(error.into())
            }
        }
    }

    fn run(&self, id: RequestId, request: &InferenceRequest, deadline: Instant) -> Result<ClientRun, RequestError> {
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
            receipt: None,
        })
    }

    fn register(&self, id: RequestId, slot: &Arc<Slot>) -> Result<(), RequestError> {
        let mut table = self.lock();
        if table.closed {
            return Err(RequestError::ProxyLost);
        }
        if self.in_flight() >= limits::REQUESTS_PER_PROXY {
            return Err(RequestError::Busy);
        }
        table.requests.insert(id, Entry::Live(Arc::clone(slot)));
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Takes one message of the proxy to the request that waits for it.
    pub(super) fn handle_answer(&self, answer: Answer) -> Result<(), Violation> {
        let id = answer.request_id();
        let Some(slot) = self.slot_for(id, answer.is_last())? else {
            return Ok(());
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

    /// Who waits for an answer; `None` when nobody does any more.
    fn slot_for(&self, id: RequestId, is_last: bool) -> Result<Option<Arc<Slot>>, Violation> {
        let mut table = self.lock();
        let slot = match table.requests.get(&id) {
            None => return Err(Violation::UnknownRequest),
            Some(Entry::Cancelled) => None,
            Some(Entry::Live(slot)) => Some(Arc::clone(slot)),
        };
        if is_last {
            table.requests.remove(&id);
            if slot.is_some() {
                self.in_flight.fetch_sub(1, Ordering::Relaxed);
            }
        }
        Ok(slot)
    }

    /// Stops a request whose app is gone. A request that has not left yet is taken back; original
    /// proxies cannot be told, so their answers are dropped as they come.
    pub(super) fn cancel(&self, id: RequestId, ticket: Ticket) {
        if self.outbox.withdraw(ticket) == Withdrawal::NeverDelivered {
            return self.forget(id);
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
        match table.requests.get_mut(&id) {
            Some(entry @ Entry::Live(_)) => *entry = Entry::Cancelled,
            Some(Entry::Cancelled) | None => return false,
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

    fn forget(&self, id: RequestId) {
        if let Some(Entry::Live(_)) = self.lock().requests.remove(&id) {
            self.in_flight.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Ends every request, and refuses further ones.
    pub(super) fn close(&self) {
        let mut table = self.lock();
        table.closed = true;
        let requests = std::mem::take(&mut table.requests);
        drop(table);
        for entry in requests.into_values() {
            if let Entry::Live(slot) = entry {
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
