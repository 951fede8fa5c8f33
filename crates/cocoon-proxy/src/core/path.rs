//! The way of a request through the core: admission, routing, retries, cancellation, time.
//!
//! How it ends, and who pays, is `ends`.

use std::time::{Duration, Instant};

use cocoon_ledger::{PayerId, Reservation};
use cocoon_units::most_tokens;
use cocoon_wire::RequestId;
use cocoon_wire::failure::{Blame, Failure, FailureCode};
use cocoon_wire::message::TokensUsed;

use super::event::{Action, Agreed, CancelSupport, ClientId, Dispatch, RequestKey, RunQuery, Word, WorkerId};
use super::refusal;
use super::requests::{Bill, NewRequest, QueueEnd, Request, State};
use super::workers::{Choice, ModelId, Wanted};
use super::{Core, Drain};
use crate::limits::{ATTEMPTS_MAX, CANCEL_GRACE, EARLY_CANCELS_MAX, HELD_BYTES_MAX, UNCANCELLABLE_GRACE};

impl Core {
    pub(super) fn run(&mut self, now: Instant, query: RunQuery, actions: &mut Vec<Action>) {
        self.tally.received += 1;
        let key = query.key;
        let Some(client) = self.clients.get(&query.client) else {
            // Its connection ended between the read and this moment.
            return actions.push(Action::Forget { key });
        };
        let payer = client.payer;
        match self.admit(&query, payer) {
            Ok((model, reservation)) => self.accept(now, query, model, reservation, actions),
            Err(failure) => {
                self.tally.refused();
                actions.push(free_failure(key, failure));
                actions.push(Action::Forget { key });
            }
        }
    }

    /// Every reason to refuse a request, in order of cost.
    pub(super) fn admit(&mut self, query: &RunQuery, payer: PayerId) -> Result<(ModelId, Reservation), Failure> {
        if self.drain.is_some() {
            return Err(refusal::draining());
        }
        if self.is_recovering {
            return Err(refusal::recovering());
        }
        if self.closed_payers.contains(&payer) {
            return Err(refusal::account_closed());
        }
        if query.receipt.is_some_and(|id| self.requests.has_receipt(&id) || self.ledger.spent(&id).is_some()) {
            return Err(refusal::receipt_reused());
        }
        let model = self.models.find(&query.model);
        let expected = model.map_or(Duration::ZERO, |model| self.expected_wait(model));
        self.admit_client(query, expected)?;
        // Without any worker nobody can say which models the network has: workers may be about to reconnect.
        let unknown = || if self.workers.len() == 0 { refusal::no_worker() } else { refusal::model_not_found() };
        let model = model.ok_or_else(unknown)?;
        let receipt = self.insists(query.receipt);
        match self.workers.choose(model, Wanted { cap: query.max_coefficient, receipt, excluded: &[] }) {
            Choice::Now(_) => {}
            Choice::Later if self.requests.queued() < self.config.queue_max => {}
            Choice::Later if self.requests.hog(payer).is_some() => {}
            Choice::Later => return Err(refusal::overloaded(expected)),
            Choice::AbovePrice => return Err(refusal::no_worker_under_price()),
            Choice::Unsigned => return Err(refusal::no_signing_worker()),
            Choice::Nobody => return Err(refusal::no_worker()),
        }
        if self.requests.prompt_bytes().saturating_add(query.prompt_bytes) > HELD_BYTES_MAX {
            return Err(refusal::overloaded(expected));
        }
        let completion = u64::from(query.choices).saturating_mul(u64::from(query.token_limit));
        let tokens = most_tokens(query.prompt_tokens_max, completion, &self.config.multipliers, query.max_coefficient)
            .ok_or_else(refusal::unpayable)?;
        match self.ledger.reserve(payer, tokens) {
            Ok(reservation) => Ok((model, reservation)),
            Err(rejection) => Err(refusal::rejected(&rejection, expected)),
        }
    }

    /// Whether only a worker that signs receipts will do. Where there is money, an answer without the receipt that was
    /// asked for would be charged and not be counted by its client, which then finds that the proxy counts too much.
    fn insists(&self, receipt: Option<[u8; 32]>) -> bool {
        self.config.exposure.is_some() && receipt.is_some()
    }

    /// What a request wants of its worker.
    pub(super) fn wanted<'a>(&self, request: &'a Request) -> Wanted<'a> {
        let receipt = self.insists(request.receipt);
        Wanted { cap: request.max_coefficient, receipt, excluded: &request.excluded }
    }

    /// What one client may do whatever the model.
    pub(super) fn admit_client(&mut self, query: &RunQuery, expected: Duration) -> Result<(), Failure> {
        let Some(client) = self.clients.get_mut(&query.client) else { return Err(refusal::cancelled()) };
        if let Some(place) = client.early_cancels.iter().position(|id| *id == query.request_id) {
            client.early_cancels.remove(place);
            return Err(refusal::cancelled());
        }
        if client.is_outdated {
            return Err(refusal::outdated());
        }
        if client.in_flight.contains_key(&query.request_id) {
            return Err(refusal::duplicate());
        }
        if client.in_flight.len() >= self.config.client_in_flight_max {
            return Err(refusal::too_many_in_flight(expected));
        }
        Ok(())
    }

    pub(super) fn accept(
        &mut self,
        now: Instant,
        query: RunQuery,
        model: ModelId,
        reservation: Reservation,
        actions: &mut Vec<Action>,
    ) {
        let key = query.key;
        if let Some(client) = self.clients.get_mut(&query.client) {
            client.in_flight.insert(query.request_id, key);
        }
        let new = NewRequest {
            client: query.client,
            request_id: query.request_id,
            model,
            max_coefficient: query.max_coefficient,
            token_limit: query.choices.saturating_mul(query.token_limit),
            prompt_bytes: query.prompt_bytes,
            reservation,
            multipliers: self.config.multipliers,
            receipt: query.receipt,
            deadline: far(now, query.timeout),
        };
        self.requests.insert(key, new);
        self.route(now, key, actions);
    }

    /// Sends a request to the best worker, or lets it wait, or fails it when nobody is left.
    pub(super) fn route(&mut self, now: Instant, key: RequestKey, actions: &mut Vec<Action>) {
        let Some(request) = self.requests.get(key) else { return };
        match self.workers.choose(request.model, self.wanted(request)) {
            Choice::Now(worker) => self.dispatch(now, key, worker, actions),
            Choice::Later => self.wait(now, key, actions),
            Choice::AbovePrice => self.finish_unrouted(key, Some(refusal::no_worker_under_price()), actions),
            Choice::Unsigned => self.finish_unrouted(key, Some(refusal::no_signing_worker()), actions),
            Choice::Nobody => self.finish_unrouted(key, Some(refusal::no_worker()), actions),
        }
    }

    /// Lets a new request wait. Where the queue is full, the payer with most of it gives up a place.
    fn wait(&mut self, now: Instant, key: RequestKey, actions: &mut Vec<Action>) {
        let Some(request) = self.requests.get(key) else { return };
        let (payer, model) = (request.reservation.payer(), request.model);
        if self.requests.queued() >= self.config.queue_max
            && let Some(last) = self.requests.hog(payer)
        {
            let failure = refusal::overloaded(self.expected_wait(model));
            self.finish_unrouted(last, Some(failure), actions);
        }
        self.enqueue(now, key, QueueEnd::Back);
    }

    pub(super) fn enqueue(&mut self, now: Instant, key: RequestKey, end: QueueEnd) {
        self.requests.queue(key, end);
        let Some(request) = self.requests.get(key) else { return };
        let timer = request.deadline.min(far(now, self.config.queue_timeout));
        self.requests.set_timer(key, timer);
    }

    pub(super) fn dispatch(&mut self, now: Instant, key: RequestKey, id: WorkerId, actions: &mut Vec<Action>) {
        let (Some(worker), Some(request)) = (self.workers.get(id), self.requests.get_mut(key)) else { return };
        // Of the first worker: the items of all of them are forgotten together.
        request.opened_at = request.opened_at.or_else(|| Some(self.ledger.seq()));
        let receipt = request.receipt.filter(|_| worker.signs_receipts()).map(|id| Agreed {
            id,
            model: self.models.name(request.model).to_owned(),
            coefficient: worker.coefficient,
            multipliers: request.multipliers,
        });
        actions.push(Action::Dispatch(Dispatch {
            key,
            worker: id,
            reserved: request.reservation.tokens(),
            coefficient: worker.coefficient,
            token_limit: request.token_limit,
            budget: request.deadline.saturating_duration_since(now),
            receipt,
        }));
        self.workers.update(id, |worker| worker.active += 1);
        self.requests.start(key, id, now);
        self.tally.dispatched += 1;
    }

    pub(super) fn answer_started(&mut self, key: RequestKey, id: WorkerId) {
        let Some(request) = self.requests.get_mut(key) else { return };
        if let State::Running { worker, since } = request.state
            && worker == id
        {
            request.state = State::Answering { worker, since };
        }
    }

    pub(super) fn ended(&mut self, now: Instant, key: RequestKey, id: WorkerId, word: Word, actions: &mut Vec<Action>) {
        match self.state_at(key, id) {
            Some(State::Running { since, .. } | State::Answering { since, .. }) => {
                let took = now.saturating_duration_since(*since);
                self.workers.update(id, |worker| worker.succeeded(took));
                self.tally.completed += 1;
                if let Some(request) = self.take(key) {
                    self.settle(now, key, id, request, word, actions);
                }
                self.forget(now, key, id, actions);
            }
            Some(State::Ending { .. }) => {
                self.mend_bill(key, &word);
                self.close_ending(now, key, id, word, actions);
            }
            Some(State::Queued) | None => {}
        }
    }

    pub(super) fn failed(
        &mut self,
        now: Instant,
        key: RequestKey,
        id: WorkerId,
        failure: Failure,
        word: Word,
        actions: &mut Vec<Action>,
    ) {
        match self.state_at(key, id) {
            Some(State::Running { .. }) => {
                self.note_failure(now, id, &failure);
                self.retry(now, key, id, failure, actions);
            }
            Some(State::Answering { .. }) => {
                self.note_failure(now, id, &failure);
                self.fail_midway(now, key, id, failure, word, actions);
                self.forget(now, key, id, actions);
            }
            Some(State::Ending { .. }) => self.close_ending(now, key, id, word, actions),
            Some(State::Queued) | None => {}
        }
    }

    /// Tries another worker, if the failure was not the client's and trying again can help.
    pub(super) fn retry(
        &mut self,
        now: Instant,
        key: RequestKey,
        id: WorkerId,
        failure: Failure,
        actions: &mut Vec<Action>,
    ) {
        let Some(request) = self.requests.get_mut(key) else { return };
        request.excluded.push(id);
        let is_outdated = self.clients.get(&request.client).is_some_and(|client| client.is_outdated);
        let may_retry =
            is_retryable(&failure) && !is_outdated && request.excluded.len() < ATTEMPTS_MAX && now < request.deadline;
        request.last_failure = Some(failure.clone());
        let choice = match self.requests.get(key).filter(|_| may_retry) {
            Some(request) => self.workers.choose(request.model, self.wanted(request)),
            None => Choice::Nobody,
        };
        match choice {
            Choice::Now(next) => {
                self.tally.retried += 1;
                self.dispatch(now, key, next, actions);
            }
            Choice::Later => {
                self.tally.retried += 1;
                self.enqueue(now, key, QueueEnd::Front);
            }
            Choice::AbovePrice | Choice::Unsigned | Choice::Nobody => {
                self.fail(key, failure, actions);
                actions.push(Action::Forget { key });
            }
        }
        self.free_slot(now, id, actions);
    }

    pub(super) fn client_stalled(&mut self, now: Instant, key: RequestKey, id: WorkerId, actions: &mut Vec<Action>) {
        if let Some(State::Running { .. } | State::Answering { .. }) = self.state_at(key, id) {
            self.give_up(now, key, Bill::Usage, Some(refusal::slow_reader()), actions);
        }
    }

    pub(super) fn cancelled(
        &mut self,
        now: Instant,
        client: ClientId,
        request_id: RequestId,
        actions: &mut Vec<Action>,
    ) {
        let Some(client) = self.clients.get_mut(&client) else { return };
        if let Some(key) = client.in_flight.get(&request_id).copied() {
            return self.give_up(now, key, Bill::Usage, Some(refusal::cancelled()), actions);
        }
        // It overtook its request, or the answer's end overtook it; the second kind is harmless here.
        if client.early_cancels.len() == EARLY_CANCELS_MAX {
            client.early_cancels.pop_front();
        }
        client.early_cancels.push_back(request_id);
    }

    /// Stops a request. One that a worker has ends when that worker says what it used, and `tell` waits until then: a client
    /// that was told of a failure without its cost would count none.
    pub(super) fn give_up(
        &mut self,
        now: Instant,
        key: RequestKey,
        bill: Bill,
        tell: Option<Failure>,
        actions: &mut Vec<Action>,
    ) {
        let Some(request) = self.requests.get_mut(key) else { return };
        match &mut request.state {
            State::Queued => {
                self.finish_unrouted(key, tell, actions);
            }
            State::Ending { tell: earlier, .. } => *earlier = earlier.take().and(tell),
            State::Running { worker, .. } | State::Answering { worker, .. } => {
                let worker = *worker;
                let cancel = self.workers.get(worker).map_or(CancelSupport::Yes, |worker| worker.cancel);
                let grace = match cancel {
                    CancelSupport::Yes => CANCEL_GRACE,
                    CancelSupport::No => UNCANCELLABLE_GRACE,
                };
                let until = far(now, grace);
                request.state = State::Ending { worker, bill, tell, until };
                self.requests.set_timer(key, until);
                actions.push(Action::CancelAtWorker { key, worker });
            }
        }
    }

    pub(super) fn tick(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if self.exposure.next().is_some_and(|at| at <= now) {
            self.settling(now, actions);
        }
        while let Some(key) = self.requests.expired(now) {
            self.expire(now, key, actions);
        }
        if self.drain.is_some_and(|drain| drain.until <= now) {
            for key in self.requests.keys() {
                self.drop_request(now, key, Some(refusal::draining()), actions);
            }
        }
    }

    /// Moves a request on whose moment came: it is gone afterwards, or its timer lies ahead.
    pub(super) fn expire(&mut self, now: Instant, key: RequestKey, actions: &mut Vec<Action>) {
        let Some(request) = self.requests.get(key) else { return };
        let bill = match &request.state {
            State::Queued => {
                let failure = self.why_it_waited(now, request);
                return self.finish_unrouted(key, Some(failure), actions);
            }
            State::Ending { until, .. } if now < *until => return self.write_off(key, actions),
            State::Ending { .. } => return self.drop_request(now, key, None, actions),
            State::Running { worker, since } => {
                let took = now.saturating_duration_since(*since);
                self.workers.update(*worker, |worker| worker.timed_out(now, took));
                if request.receipt.is_some() { Bill::Whole } else { Bill::Nothing }
            }
            // What was delivered is paid, or short deadlines would be free answers.
            State::Answering { .. } => Bill::Usage,
        };
        self.run_out(now, key, bill, actions);
    }

    /// A worker had it when its time was over. The client is told at once if it costs nothing, else with the cost, and soon
    /// in any case: one of the original profile has no deadline of its own.
    fn run_out(&mut self, now: Instant, key: RequestKey, bill: Bill, actions: &mut Vec<Action>) {
        let failure = refusal::timeout_at_worker();
        match bill {
            Bill::Nothing => {
                self.tally.failed(&failure);
                actions.push(free_failure(key, failure));
                self.give_up(now, key, bill, None, actions);
            }
            Bill::Usage | Bill::Whole => {
                self.give_up(now, key, bill, Some(failure), actions);
                self.requests.set_timer(key, far(now, CANCEL_GRACE));
            }
        }
    }

    pub(super) fn why_it_waited(&self, now: Instant, request: &Request) -> Failure {
        if let Some(failure) = &request.last_failure {
            return failure.clone();
        }
        if request.deadline <= now {
            return refusal::timeout_in_queue();
        }
        match self.workers.choose(request.model, self.wanted(request)) {
            Choice::Nobody => refusal::no_worker(),
            Choice::AbovePrice => refusal::no_worker_under_price(),
            Choice::Unsigned => refusal::no_signing_worker(),
            Choice::Now(_) | Choice::Later => refusal::queue_timeout(self.expected_wait(request.model)),
        }
    }

    pub(super) fn drain(&mut self, until: Instant) {
        let announced = false;
        self.drain.get_or_insert(Drain { until, announced });
    }

    pub(super) fn announce_drained(&mut self, actions: &mut Vec<Action>) {
        if let Some(drain) = &mut self.drain
            && !drain.announced
            && self.requests.len() == 0
        {
            drain.announced = true;
            actions.push(Action::Drained);
        }
    }
}

/// A failure that costs nothing.
pub(super) fn free_failure(key: RequestKey, failure: Failure) -> Action {
    Action::Fail { key, failure, tokens: TokensUsed::default(), proof: None }
}

/// Whether another worker may do better: the fault is this worker's or its engine's.
pub(super) fn is_retryable(failure: &Failure) -> bool {
    let theirs = matches!(failure.blame, Blame::Worker | Blame::Engine);
    let hopeless = matches!(
        failure.code,
        FailureCode::BadRequest
            | FailureCode::Unauthorized
            | FailureCode::TooLarge
            | FailureCode::Unprocessable
            | FailureCode::Cancelled
            | FailureCode::Timeout
    );
    theirs && !hopeless
}

/// `now + by`, or a day from now for a time that does not fit: nothing here lives that long.
fn far(now: Instant, by: Duration) -> Instant {
    now.checked_add(by).or_else(|| now.checked_add(Duration::from_secs(86_400))).unwrap_or(now)
}
