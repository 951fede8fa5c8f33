//! The ends of a request. Each consumes its reservation: settled, or released.

use std::time::Instant;

use cocoon_wire::failure::Failure;
use cocoon_wire::message::TokensUsed;

use super::Core;
use super::admission::{self, clamp};
use super::event::{Action, RequestKey, Settlement, WorkerId};
use super::requests::{Bill, Request, State};

impl Core {
    /// Charges what was used. The worker that claims more than was reserved is to blame.
    pub(super) fn settle(
        &mut self,
        now: Instant,
        key: RequestKey,
        id: WorkerId,
        request: Request,
        tokens: &TokensUsed,
        actions: &mut Vec<Action>,
    ) {
        let Some(worker) = self.workers.get_mut(id) else { return self.ledger.release(request.reservation) };
        let (payer, payee) = (request.reservation.payer(), worker.payee);
        let settled = self.ledger.settle(request.reservation, payee, admission::total(tokens));
        if settled.clamped.is_some() {
            worker.misbehaved(now);
            self.tally.overcharges += 1;
        }
        self.tally.tokens_charged = self.tally.tokens_charged.saturating_add(settled.charged.get());
        actions.push(Action::Settled(Settlement {
            key,
            client: request.client,
            worker: id,
            charged: settled.charged,
            payer_used: self.ledger.balance(payer).used,
            payee_earned: self.ledger.earned(payee),
            clamped: settled.clamped,
        }));
    }

    /// The worker's last word on a request that ended early.
    pub(super) fn close_ending(
        &mut self,
        now: Instant,
        key: RequestKey,
        id: WorkerId,
        tokens: &TokensUsed,
        actions: &mut Vec<Action>,
    ) {
        let Some(mut request) = self.take(key) else { return };
        let State::Ending { bill, tell, .. } = std::mem::replace(&mut request.state, State::Queued) else { return };
        let (charged, _) = match bill {
            Bill::Usage => clamp(tokens, request.reservation.tokens()),
            Bill::Nothing => (TokensUsed::default(), None),
        };
        if let Some(failure) = tell {
            self.tally.failed(&failure);
            actions.push(Action::Fail { key, failure, tokens: charged });
        }
        match bill {
            Bill::Usage => self.settle(now, key, id, request, tokens, actions),
            Bill::Nothing => self.ledger.release(request.reservation),
        }
        self.forget(now, key, id, actions);
    }

    /// Ends a request without the worker's word: nothing is charged.
    pub(super) fn drop_request(
        &mut self,
        now: Instant,
        key: RequestKey,
        failure: Option<Failure>,
        actions: &mut Vec<Action>,
    ) {
        let Some(request) = self.requests.get_mut(key) else { return };
        let (worker, tell) = match &mut request.state {
            State::Queued => return self.finish_unrouted(key, failure, actions),
            // The client has been told already, or is told now what it waits for.
            State::Ending { worker, tell, .. } => (*worker, tell.take()),
            State::Running { worker, .. } | State::Answering { worker, .. } => (*worker, failure),
        };
        actions.push(Action::AbandonAtWorker { key, worker });
        self.finish_unrouted(key, tell, actions);
        self.free_slot(now, worker, actions);
    }

    /// Ends a request that no worker has.
    pub(super) fn finish_unrouted(&mut self, key: RequestKey, failure: Option<Failure>, actions: &mut Vec<Action>) {
        match failure {
            Some(failure) => self.fail(key, failure, actions),
            None => {
                if let Some(request) = self.take(key) {
                    self.ledger.release(request.reservation);
                }
            }
        }
        actions.push(Action::Forget { key });
    }

    /// Tells the client, if it is still there, and charges nothing.
    pub(super) fn fail(&mut self, key: RequestKey, failure: Failure, actions: &mut Vec<Action>) {
        let Some(request) = self.take(key) else { return };
        self.tally.failed(&failure);
        self.ledger.release(request.reservation);
        if self.clients.contains_key(&request.client) {
            actions.push(Action::Fail { key, failure, tokens: TokensUsed::default() });
        }
    }

    /// Takes a request out of every table but the worker's count.
    pub(super) fn take(&mut self, key: RequestKey) -> Option<Request> {
        let request = self.requests.remove(key)?;
        if let Some(client) = self.clients.get_mut(&request.client) {
            client.in_flight.remove(&request.request_id);
        }
        Some(request)
    }

    pub(super) fn forget(&mut self, now: Instant, key: RequestKey, id: WorkerId, actions: &mut Vec<Action>) {
        actions.push(Action::Forget { key });
        self.free_slot(now, id, actions);
    }
}
