//! One connection to one proxy, from the handshake to its end.
//!
//! 1. [`handshake`](self::handshake): who we are, what balance we know, ready.
//! 2. Then this file: requests come in and each gets a task; cancellations and credit are handed to the
//!    running request; changes of price and readiness, and load reports, go out.
//! 3. On shutdown the proxy is told first, what runs may finish, and the connection is closed in order.
//!
//! When the session ends for any other reason its requests are aborted, and with them the engine's work:
//! nobody is left to read the answers.

mod handshake;
mod price;

use std::collections::{HashMap, VecDeque};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cocoon_net::{Connection, Event};
use cocoon_wire::failure::{Blame, Failure, FailureCode};
use cocoon_wire::message::{LoadReport, ProxyToWorker, WorkerMessage, WorkerRun};
use cocoon_wire::{RequestId, Version};
use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use crate::earnings::books::Ours;
use crate::error::SessionError;
use crate::limits::{EARLY_CANCELS_MAX, LOAD_REPORT_INTERVAL, OVERLOADED_RETRY_MS, SLOTS_SLACK};
use crate::request::{Control, Leg, Stop, refuse, serve};
use crate::worker::{Offer, Shared};

use self::price::Price;

pub(crate) use self::handshake::{Agreed, Watermark, shake_hands};

/// A session after its handshake.
pub(crate) struct Session<'a> {
    shared: Arc<Shared>,
    connection: Connection,
    leg: Leg,
    slots: u32,
    watermark: &'a mut Watermark,
    offer: watch::Receiver<Offer>,
    /// What the proxy was last told.
    told: Offer,
    /// Whether it was told that requests are taken.
    told_open: bool,
    price: Price,
    running: HashMap<RequestId, Running>,
    /// Cancelled before they arrived: control messages overtake requests, which are large.
    early_cancels: VecDeque<RequestId>,
    tasks: JoinSet<RequestId>,
    load: LoadMeter,
    draining: bool,
}

struct Running {
    control: Arc<Control>,
    task: Id,
}

impl<'a> Session<'a> {
    pub(crate) fn new(
        shared: Arc<Shared>,
        connection: Connection,
        agreed: Agreed,
        watermark: &'a mut Watermark,
        slots: u32,
    ) -> Self {
        let (version, ours) = (agreed.version, watermark.ours().cloned());
        let leg = Leg { outbox: connection.outbox(), version, proxy: agreed.proxy, ours };
        if agreed.version == Version::Extended {
            leg.outbox.enable_extended();
        }
        let offer = shared.offer.subscribe();
        let load = LoadMeter::new(&shared);
        Self {
            shared,
            connection,
            leg,
            slots,
            watermark,
            offer,
            price: Price::new(agreed.told.coefficient),
            told: agreed.told,
            told_open: agreed.told_open,
            running: HashMap::new(),
            early_cancels: VecDeque::new(),
            tasks: JoinSet::new(),
            load,
            draining: false,
        }
    }

    /// Serves until the connection ends, or until what ran at shutdown has finished.
    pub(crate) async fn run(mut self, early: Vec<Event>, shutdown: &CancellationToken) -> SessionError {
        let ended = self.serve(early, shutdown).await;
        self.shared.metrics.add_active(-i64::try_from(self.running.len()).unwrap_or(i64::MAX));
        match ended {
            Ok(()) => self.close().await,
            Err(error) => error,
        }
    }

    async fn serve(&mut self, early: Vec<Event>, shutdown: &CancellationToken) -> Result<(), SessionError> {
        // The engine's state may have changed while hands were shaken.
        self.announce()?;
        for event in early {
            self.handle_event(event)?;
        }
        let mut ticks = load_ticks();
        let mut asked_to_stop = pin!(shutdown.cancelled());
        let mut drained = pin!(drain_timeout(shutdown, self.shared.config.drain_timeout()));
        loop {
            if self.draining && self.tasks.is_empty() {
                return Ok(());
            }
            tokio::select! {
                event = self.connection.next() => self.handle_event(event?)?,
                Some(done) = self.tasks.join_next() => self.handle_done(done)?,
                Ok(()) = self.offer.changed() => self.announce()?,
                _ = ticks.tick(), if self.leg.version == Version::Extended => self.report_load()?,
                () = &mut asked_to_stop, if !self.draining => self.begin_drain()?,
                () = &mut drained => return Ok(()),
            }
        }
    }

    fn handle_event(&mut self, event: Event) -> Result<(), SessionError> {
        match event {
            Event::Message(data) => self.handle_message(data),
            Event::Query(query) => {
                // Proxies ask workers nothing; an original one would expect no more than this.
                let _ = self.leg.outbox.refuse(query.id, 404, "workers answer no queries");
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn handle_message(&mut self, data: Bytes) -> Result<(), SessionError> {
        match ProxyToWorker::decode(self.leg.version, data)? {
            ProxyToWorker::Run(run) => self.handle_run(run)?,
            ProxyToWorker::Cancel { request_id } => self.handle_cancel(request_id),
            ProxyToWorker::Credit { request_id, bytes } => {
                // None runs if its end and this message crossed. Credit does not overtake its request:
                // it is given for what was read of the answer.
                if let Some(running) = self.running.get(&request_id) {
                    running.control.add_credit(bytes);
                }
            }
            ProxyToWorker::Payment { payment, .. } => {
                self.watermark.handle_payment(&payment)?;
                self.announce()?;
            }
        }
        Ok(())
    }

    fn handle_cancel(&mut self, id: RequestId) {
        if let Some(running) = self.running.get(&id) {
            return running.control.cancel();
        }
        // It overtook its request, or the answer's end overtook it; the second kind is harmless here.
        if self.early_cancels.len() == EARLY_CANCELS_MAX {
            self.early_cancels.pop_front();
        }
        self.early_cancels.push_back(id);
    }

    fn handle_run(&mut self, run: WorkerRun) -> Result<(), SessionError> {
        let id = run.request_id;
        if self.running.contains_key(&id) {
            // Any answer would be taken for the other request's.
            return Err(SessionError::PeerReusedRequestId);
        }
        self.watermark.pay(&run.signed_payment)?;
        if let Some(failure) = self.refusal(&run) {
            self.shared.metrics.count_failure(failure.code);
            refuse(&self.leg, id, &failure);
            return Ok(());
        }
        let control = Arc::new(Control::new(run.answer_credit));
        let task = self.tasks.spawn(serve(Arc::clone(&self.shared), self.leg.clone(), run, Arc::clone(&control)));
        self.running.insert(id, Running { control, task: task.id() });
        self.shared.metrics.add_active(1);
        Ok(())
    }

    fn refusal(&mut self, run: &WorkerRun) -> Option<Failure> {
        if let Some(place) = self.early_cancels.iter().position(|id| *id == run.request_id) {
            self.early_cancels.remove(place);
            return Stop::Cancelled.failure();
        }
        if !self.price.pays(run.coefficient, Instant::now()) {
            let message = "the proxy offers less than the worker's price";
            return Some(Failure::new(Blame::Proxy, FailureCode::ProtocolViolation, message));
        }
        let worker =
            |code, message| Failure::new(Blame::Worker, code, message).with_retry_after_ms(OVERLOADED_RETRY_MS);
        let allowed = usize::try_from(self.slots).unwrap_or(usize::MAX).saturating_add(SLOTS_SLACK);
        if self.draining {
            return Some(worker(FailureCode::Draining, "the worker is shutting down"));
        }
        if self.is_exposed() {
            return Some(worker(FailureCode::Overloaded, "the worker waits for the proxy to sign what it owes"));
        }
        (self.running.len() >= allowed).then(|| worker(FailureCode::Overloaded, "every slot of the worker is taken"))
    }

    fn handle_done(&mut self, done: Result<RequestId, JoinError>) -> Result<(), SessionError> {
        let id = match done {
            Ok(id) => Some(id),
            Err(error) => self.handle_panic(&error),
        };
        if id.is_some_and(|id| self.running.remove(&id).is_some()) {
            self.shared.metrics.add_active(-1);
        }
        // It may have been the one request too many on trust.
        if self.told_open && self.is_exposed() { self.announce() } else { Ok(()) }
    }

    /// Whether the proxy owes more than this worker trusts it with.
    fn is_exposed(&self) -> bool {
        self.leg.ours.as_ref().is_some_and(Ours::is_exposed)
    }

    /// A bug of ours in one request must not leave its caller without an end.
    fn handle_panic(&self, error: &JoinError) -> Option<RequestId> {
        let (&id, _) = self.running.iter().find(|(_, running)| running.task == error.id())?;
        tracing::error!(request = %id, "request task panicked");
        refuse(&self.leg, id, &Failure::new(Blame::Worker, FailureCode::Internal, "the worker failed"));
        Some(id)
    }

    /// Tells the proxy what changed since it was last told.
    fn announce(&mut self) -> Result<(), SessionError> {
        let offer = self.offer.borrow_and_update().clone();
        if offer.coefficient != self.told.coefficient {
            self.send(&WorkerMessage::NewCoefficient(offer.coefficient))?;
            self.price.change(offer.coefficient, Instant::now());
        }
        let is_open = offer.is_open() && !self.is_exposed();
        if is_open != self.told_open && !self.draining {
            self.send(&WorkerMessage::EnabledDisabled { disabled: !is_open })?;
            self.told_open = is_open;
        }
        self.told = offer;
        Ok(())
    }

    fn begin_drain(&mut self) -> Result<(), SessionError> {
        self.draining = true;
        if self.told_open {
            self.send(&WorkerMessage::EnabledDisabled { disabled: true })?;
        }
        Ok(())
    }

    fn report_load(&mut self) -> Result<(), SessionError> {
        let engine = self.shared.engine.load();
        let report = LoadReport {
            active: u32::try_from(self.shared.metrics.active()).unwrap_or(0),
            queued: engine.queued,
            slots: engine.slots.unwrap_or(self.slots),
            tokens_per_s: self.load.tokens_per_s(&self.shared),
        };
        if self.load.last.replace(report) == Some(report) {
            return Ok(());
        }
        self.send(&WorkerMessage::Load(report))
    }

    fn send(&self, message: &WorkerMessage) -> Result<(), SessionError> {
        self.leg.outbox.send(message.encode(self.leg.version)).map_err(|error| SessionError::Query(error.into()))
    }

    /// Ends the connection so that what is queued still arrives.
    async fn close(mut self) -> SessionError {
        self.tasks.shutdown().await;
        self.leg.outbox.close();
        while self.connection.next().await.is_ok() {}
        SessionError::Shutdown
    }
}

/// Resolves when running requests have had their time after shutdown began.
async fn drain_timeout(shutdown: &CancellationToken, allowed: Duration) {
    shutdown.cancelled().await;
    sleep(allowed).await;
}

fn load_ticks() -> Interval {
    let mut ticks = interval(LOAD_REPORT_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Turns the count of completion tokens into a rate.
struct LoadMeter {
    last: Option<LoadReport>,
    tokens: u64,
    since: Instant,
}

impl LoadMeter {
    fn new(shared: &Shared) -> Self {
        Self { last: None, tokens: shared.metrics.completion_tokens(), since: Instant::now() }
    }

    fn tokens_per_s(&mut self, shared: &Shared) -> u32 {
        let (tokens, now) = (shared.metrics.completion_tokens(), Instant::now());
        let elapsed_ms = now.duration_since(self.since).as_millis().max(1);
        let made = u128::from(tokens.saturating_sub(self.tokens));
        (self.tokens, self.since) = (tokens, now);
        u32::try_from(made.saturating_mul(1000) / elapsed_ms).unwrap_or(u32::MAX)
    }
}
