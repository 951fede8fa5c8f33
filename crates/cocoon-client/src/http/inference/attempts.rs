//! A request at one proxy after another, until the head of an answer is here.
//!
//! 1. The pool picks a proxy that was not tried yet; a [`Bill`] of its own holds what the request can cost there, with an id
//!    and a receipt of its own.
//! 2. It is sent, and its head is waited for. When the proxy dies, refuses, or gives no sign of life, and another one can
//!    take the request, it goes there at once ([`Setback`] says which failures that are).
//! 3. The body is kept for that until the head is here, and so is its room among all bodies.
//!
//! Money: an attempt that may have reached a worker may cost, also when its answer never came. So its hold stays until its
//! proxy says, with a receipt, what it came to; the next attempt has a hold beside it, and both count in the day's limits.
//! Where they do not fit, there is no next attempt. What the app is told of cost is of the answer that it gets.

use std::sync::Arc;

use cocoon_wire::http::HttpResponse;
use http::HeaderValue;
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, sleep, timeout_at},
};

use super::super::{InFlight, Labels};
use crate::{
    Shared,
    error::RequestError,
    limits,
    pool::{Fault, Kind, Picked, Setback, Wish},
    receipts::{Bill, Metered},
    request::InferenceRequest,
};

/// One request on its way.
pub(super) struct Attempts<'a> {
    pub(super) shared: &'a Shared,
    pub(super) request: &'a mut InferenceRequest,
    /// The share of the request's body of the room for all bodies.
    pub(super) room: Option<OwnedSemaphorePermit>,
    pub(super) key: Option<&'a Arc<str>>,
    pub(super) deadline: Instant,
    pub(super) in_flight: &'a InFlight,
}

/// An answer that has begun.
pub(super) struct Begun {
    pub(super) head: HttpResponse,
    pub(super) answer: Metered,
}

/// Why an attempt is over without a head.
enum Over {
    Failed(RequestError),
    /// The proxy gives no sign of life, and another one can take the request.
    Left,
}

impl Attempts<'_> {
    pub(super) async fn run(mut self, labels: &mut Labels) -> Result<Begun, RequestError> {
        let kind = Kind { model: Arc::clone(&self.request.model), is_streamed: self.request.streamed };
        let mut tried = Vec::new();
        let mut last: Option<(Setback, RequestError)> = None;
        loop {
            let wish = Wish { kind: &kind, cap: self.request.max_coefficient, tried: &tried };
            let picked = timeout_at(self.deadline, self.shared.pool.pick(&wish)).await;
            let picked = match picked.map_err(|_| RequestError::Late).flatten() {
                Ok(picked) => picked,
                // What became of the request says more than that there is nobody else to ask.
                Err(error) => return Err(last.map_or(error, |(_, error)| error)),
            };
            if let Some((setback, _)) = &last {
                self.shared.metrics.retried(*setback);
            }
            let began = Instant::now();
            let over = match self.attempt(&picked, &wish, labels).await {
                Ok(begun) => {
                    picked.proxy.answered(&kind, began.elapsed());
                    return Ok(begun);
                }
                Err(over) => over,
            };
            let (setback, error) = match over {
                Over::Left => (Setback::Proxy(Fault::Silent), RequestError::ProxyLost),
                // Its own limits may not allow a second hold beside the first one.
                Over::Failed(RequestError::OverLimit(over)) => {
                    return Err(last.map_or(RequestError::OverLimit(over), |(_, error)| error));
                }
                Over::Failed(error) => (Setback::of(&error), error),
            };
            picked.proxy.failed(&kind, setback, error.retry_after());
            if error.is_for_want_of_a_worker() {
                picked.link.lost_worker(&kind.model);
            }
            tried.push(picked.link);
            // Without its room the body is gone, too: there was nobody else to send it to then, and there may be now.
            let is_gone = self.room.is_none();
            if is_gone || !setback.may_move() || tried.len() >= limits::ATTEMPTS_MAX {
                return Err(error);
            }
            last = Some((setback, error));
        }
    }

    async fn attempt(&mut self, picked: &Picked, wish: &Wish<'_>, labels: &mut Labels) -> Result<Begun, Over> {
        let Self { shared, request, room, key, deadline, in_flight } = self;
        let link = &picked.link;
        labels.attestation = link.attestation().and_then(|record| record.header());
        labels.receipt = None;
        let bill = Bill::open(shared, link, request, key.cloned()).await?;
        let answer = link.start(request, Arc::clone(&bill), *deadline).inspect_err(|_| bill.never_sent())?;
        let mut answer = Metered::new(answer, bill);
        labels.receipt = answer.receipt_id().and_then(|id| HeaderValue::try_from(id).ok());
        if shared.pool.is_alone() {
            request.drop_body();
            drop(room.take());
        }
        let leaves = wish.tried.len() + 1 < limits::ATTEMPTS_MAX && !shared.pool.is_alone();
        let head = tokio::select! {
            biased;
            head = answer.head(*deadline) => head,
            () = forsaken(shared, picked, wish), if leaves => {
                answer.give_up();
                return Err(Over::Left);
            }
        };
        match head {
            Ok(head) => {
                request.drop_body();
                drop(room.take());
                Ok(Begun { head, answer })
            }
            Err(error) => {
                in_flight.used_by(&answer, &request.model);
                Err(error.into())
            }
        }
    }
}

/// Waits until a proxy gives no sign of life and another one can take its request.
async fn forsaken(shared: &Shared, picked: &Picked, wish: &Wish<'_>) {
    let mut tried = wish.tried.to_vec();
    tried.push(Arc::clone(&picked.link));
    let wish = Wish { tried: &tried, ..*wish };
    loop {
        picked.link.until_silent().await;
        if shared.pool.has_other(&wish) {
            return;
        }
        sleep(limits::SILENT_LOOK).await;
    }
}

impl From<RequestError> for Over {
    fn from(error: RequestError) -> Self {
        Self::Failed(error)
    }
}
