//! An answer and its bill: bytes are digested as the app takes them, and the end, however it comes, is told.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use cocoon_receipt::BodyDigest;
use cocoon_wire::{http::HttpResponse, message::FinalInfo, usage::Cost};
use tokio::time::Instant;

use super::bill::Bill;
use crate::{error::RequestError, session::AnswerStream};

/// An answer that is paid for. Dropping it before the end cancels the request.
#[derive(Debug)]
pub(crate) struct Metered {
    answer: AnswerStream,
    bill: Arc<Bill>,
    /// Of the bytes so far; none when no receipt was asked for.
    digest: Option<BodyDigest>,
}

impl Metered {
    pub(crate) fn new(answer: AnswerStream, bill: Arc<Bill>) -> Self {
        let digest = bill.ask().map(|ask| BodyDigest::answer(&ask.salt));
        Self { answer, bill, digest }
    }

    /// The first message: status, headers, maybe the first bytes of the body.
    pub(crate) async fn head(&mut self, deadline: Instant) -> Result<HttpResponse, RequestError> {
        let head = self.answer.head(deadline).await;
        if head.is_err() {
            self.cut_off();
        }
        head
    }

    /// The next bytes of the body; `None` at its end, when the bill is settled.
    pub(crate) fn poll_chunk(&mut self, cx: &Context<'_>) -> Poll<Result<Option<Bytes>, RequestError>> {
        let polled = self.answer.poll_chunk(cx);
        match &polled {
            Poll::Ready(Ok(Some(chunk))) => {
                if let Some(digest) = &mut self.digest {
                    digest.update(chunk);
                }
            }
            Poll::Ready(Ok(None)) => self.complete(),
            Poll::Ready(Err(_)) => self.cut_off(),
            Poll::Pending => {}
        }
        polled
    }

    /// Whether nothing more is to come but what waits here.
    pub(crate) fn has_ended(&self) -> bool {
        self.answer.has_ended()
    }

    /// What the proxy said at the end, if it came to one.
    pub(crate) fn final_info(&self) -> Option<FinalInfo> {
        self.answer.final_info()
    }

    /// What the answer costs, once its end is here.
    pub(crate) fn cost(&self) -> Option<Cost> {
        self.final_info().and_then(|info| self.bill.cost(&info.tokens))
    }

    /// Whether its cost will be known at its end.
    pub(crate) fn is_priced(&self) -> bool {
        self.bill.price().is_some()
    }

    /// The receipt's id, in hex, if one was asked for.
    pub(crate) fn receipt_id(&self) -> Option<String> {
        self.bill.ask().map(|ask| hex::encode(ask.id))
    }

    /// Cancels what is still to come. What the request came to, the session hears from the proxy.
    pub(crate) fn give_up(&mut self) {
        self.answer.give_up();
        self.cut_off();
    }

    fn complete(&mut self) {
        if let Some(info) = self.answer.final_info() {
            self.bill.completed(&info, self.digest.take().map(BodyDigest::finish));
        }
    }

    fn cut_off(&self) {
        if let Some(info) = self.answer.final_info() {
            self.bill.heard(&info);
        }
    }
}

impl Drop for Metered {
    fn drop(&mut self) {
        // In this order: an end that comes before the cancellation is in the answer, one that comes after it goes from
        // the session to the bill.
        self.give_up();
    }
}
