//! The ends of a request. Each consumes its reservation: settled, or released.
//!
//! | the worker's word | charged |
//! |---|---|
//! | a receipt that fits | what it says |
//! | a claim, where nobody asked for a receipt | the claim, cut to the reservation |
//! | no valid receipt, though one was asked for | nothing; the worker is to blame |
//! | nothing | nothing |
//!
//! A failure in the middle of an answer is paid by receipt only: it says what was delivered until then.
//! An answer that was whole when its time ran out is paid by its receipt, too: it may have reached the client before the
//! core heard of it, and a deadline around its end would make it free.
//!
//! A client counts what the end of an answer says. So it is told of an end only when the cost is known, by one message; and
//! what it was told to be free stays free.
//!
//! A request that a worker had and that costs nothing takes its receipt's id with it: a receipt of that id is void,
//! whoever presents it later.

use std::time::Instant;

use cocoon_ledger::{Run, Spent};
use cocoon_wire::failure::Failure;
use cocoon_wire::message::{Proof, TokensUsed};

use super::Core;
use super::admission::{self, clamp};
use super::event::{Action, RequestKey, Settlement, Word, WorkerId};
use super::path::free_failure;
use super::requests::{Bill, Request, State};

impl Core {
    /// Charges what was used. The worker that claims more than was reserved is to blame.
    pub(super) fn settle(
        &mut self,
        now: Instant,
        key: RequestKey,
        id: WorkerId,
        request: Request,
        word: Word,
        actions: &mut Vec<Action>,
    ) {
        let Some((tokens, proof)) = self.heard(now, id, word) else { return self.release(request) };
        let Some(worker) = self.workers.get(id) else { return self.release(request) };
        let (payer, payee) = (request.reservation.payer(), worker.payee);
        let (tokens, clamped) = clamp(&tokens, request.reservation.tokens());
        if clamped.is_some() {
            self.workers.update(id, |worker| worker.misbehaved(now));
            self.tally.overcharges += 1;
        }
        let spent = spent(&request, self.ledger.run(), proof.as_ref());
        let settled = self.ledger.settle(request.reservation, payee, admission::total(&tokens), spent);
        self.exposure.earned(now, payee);
        self.hold_back(now, payee);
        self.tally.tokens_charged = self.tally.tokens_charged.saturating_add(settled.charged.get());
        // An id that was spent before is refused at admission; should one come through, nobody pays twice. Nor does anybody
        // pay into an account that was closed.
        let is_whole = settled.charged == admission::total(&tokens);
        let (tokens, proof) = if is_whole { (tokens, proof) } else { (TokensUsed::default(), None) };
        actions.push(Action::Settled(Settlement {
            key,
            client: request.client,
            worker: id,
            charged: settled.charged,
            tokens,
            proof,
            payer,
            payee,
            clamped,
        }));
    }

    /// What a word is worth, and who is to blame for it. None: nothing.
    fn heard(&mut self, now: Instant, id: WorkerId, word: Word) -> Option<(TokensUsed, Option<Proof>)> {
        match word {
            Word::Nothing => None,
            Word::Claimed(tokens) => Some((tokens, None)),
            Word::Proved { tokens, proof } => Some((tokens, Some(proof))),
            Word::Unproved => {
                self.workers.update(id, |worker| worker.misbehaved(now));
                self.tally.unproved += 1;
                None
            }
        }
    }

    /// A whole answer with its receipt is paid although its time ran out before the core heard of it, unless its client was
    /// told otherwise.
    pub(super) fn mend_bill(&mut self, key: RequestKey, word: &Word) {
        if let (Word::Proved { .. }, Some(request)) = (word, self.requests.get_mut(key))
            && let State::Ending { bill: bill @ Bill::Whole, .. } = &mut request.state
        {
            *bill = Bill::Usage;
        }
    }

    /// Tells a client that it waited long enough. What its worker has not said by now costs nothing; the worker, which does
    /// not understand that it shall stop, may be busy for longer.
    pub(super) fn write_off(&mut self, key: RequestKey, actions: &mut Vec<Action>) {
        let Some(request) = self.requests.get_mut(key) else { return };
        let State::Ending { bill, tell, until, .. } = &mut request.state else { return };
        let (told, until) = (tell.take(), *until);
        if let Some(failure) = told {
            *bill = Bill::Nothing;
            self.tally.failed(&failure);
            actions.push(free_failure(key, failure));
        }
        self.requests.set_timer(key, until);
    }

    /// The worker's last word on a request that ended early.
    pub(super) fn close_ending(
        &mut self,
        now: Instant,
        key: RequestKey,
        id: WorkerId,
        word: Word,
        actions: &mut Vec<Action>,
    ) {
        let Some(mut request) = self.take(key) else { return };
        let State::Ending { bill, tell, .. } = std::mem::replace(&mut request.state, State::Queued) else { return };
        let word = if bill == Bill::Usage { word } else { Word::Nothing };
        if let Some(failure) = tell {
            self.tally.failed(&failure);
            actions.push(self.failure(key, failure, &request, &word));
        }
        self.settle(now, key, id, request, word, actions);
        self.forget(now, key, id, actions);
    }

    /// Ends an answer that failed when the client had some of it.
    pub(super) fn fail_midway(
        &mut self,
        now: Instant,
        key: RequestKey,
        id: WorkerId,
        failure: Failure,
        word: Word,
        actions: &mut Vec<Action>,
    ) {
        let word = match word {
            // What an original worker had delivered nobody can prove, so it is not paid.
            Word::Claimed(_) => Word::Nothing,
            Word::Nothing | Word::Proved { .. } | Word::Unproved => word,
        };
        let Some(request) = self.take(key) else { return };
        self.tally.failed(&failure);
        if self.clients.contains_key(&request.client) {
            actions.push(self.failure(key, failure, &request, &word));
        }
        self.settle(now, key, id, request, word, actions);
    }

    /// A failure and what it costs.
    fn failure(&self, key: RequestKey, failure: Failure, request: &Request, word: &Word) -> Action {
        let reserved = request.reservation.tokens();
        match word {
            Word::Nothing | Word::Unproved => free_failure(key, failure),
            Word::Claimed(tokens) => Action::Fail { key, failure, tokens: clamp(tokens, reserved).0, proof: None },
            Word::Proved { tokens, proof } => {
                Action::Fail { key, failure, tokens: clamp(tokens, reserved).0, proof: Some(proof.clone()) }
            }
        }
    }

    /// Charges nothing, and voids the receipt of a request that a worker had.
    pub(super) fn release(&mut self, request: Request) {
        let dispatched = request.receipt.zip(request.opened_at);
        self.ledger.release(request.reservation, dispatched);
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
                    self.release(request);
                }
            }
        }
        actions.push(Action::Forget { key });
    }

    /// Tells the client, if it is still there, and charges nothing.
    pub(super) fn fail(&mut self, key: RequestKey, failure: Failure, actions: &mut Vec<Action>) {
        let Some(request) = self.take(key) else { return };
        self.tally.failed(&failure);
        if self.clients.contains_key(&request.client) {
            actions.push(free_failure(key, failure));
        }
        self.release(request);
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

/// What the ledger remembers of a request that is paid for, where it has an id.
fn spent(request: &Request, run: Run, proof: Option<&Proof>) -> Option<Spent> {
    let receipt = proof.map(|proof| proof.receipt.clone()).unwrap_or_default();
    Some(Spent { id: request.receipt?, run, opened_at: request.opened_at?, receipt })
}
