//! How an answer, or its failure, is put to the proxy.
//!
//! The one place in this crate where the protocol version shows: [`Version::Extended`] takes an answer
//! in one message and failures with blame. Original nodes get a head without a body first, as their
//! own worker sends it, and failures as HTTP responses, because the typed ones crash their clients.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use cocoon_net::SendError;
use cocoon_receipt::Outcome;
use cocoon_units::{AdjustedUsage, Coefficient, Multipliers, UnixTime, Usage};
use cocoon_wire::failure::{Failure, openai_error_body};
use cocoon_wire::http::HttpResponse;
use cocoon_wire::message::{Answer, FinalInfo, Proof, WorkerMessage, WorkerRun};
use cocoon_wire::{RequestId, Sealed, Version};

use super::{Leg, Stop};
use crate::error::EngineError;
use crate::receipts::{Ending, Open};
use crate::worker::Shared;

/// Status and headers of an answer.
pub(super) struct Head {
    pub(super) status: u16,
    pub(super) content_type: Option<String>,
    pub(super) streamed: bool,
}

/// The messages of one answer. Consumed by its last.
pub(super) struct Reply<'a> {
    shared: &'a Shared,
    leg: Leg,
    id: RequestId,
    coefficient: Coefficient,
    /// As they were when the request came: its reservation was made by them.
    multipliers: Multipliers,
    started: UnixTime,
    debug: bool,
    sent: Sent,
    /// Of the head that was sent.
    status: Option<u16>,
    /// As this worker registered it.
    model: Option<Arc<str>>,
    receipt: Option<Open>,
    /// The proxy's seal on whose request it is, kept with the receipt.
    tag: Option<Bytes>,
}

/// What the proxy has got so far.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sent {
    Nothing,
    Head,
    HeadOfEventStream,
}

impl<'a> Reply<'a> {
    pub(super) fn new(
        shared: &'a Shared,
        leg: Leg,
        run: &WorkerRun,
        model: Option<Arc<str>>,
        receipt: Option<Open>,
    ) -> Self {
        Self {
            shared,
            leg,
            id: run.request_id,
            coefficient: run.coefficient,
            multipliers: shared.multipliers(),
            started: shared.clock.unix_now(),
            debug: run.enable_debug,
            sent: Sent::Nothing,
            status: None,
            model,
            receipt,
            // As a slice it would keep the buffer that it was read into.
            tag: run.account_tag.as_deref().map(Bytes::copy_from_slice),
        }
    }

    /// Takes the request's body for the receipt, before anything is changed in it.
    pub(super) fn read_request(&mut self, body: &Bytes) {
        if let Some(receipt) = &mut self.receipt {
            receipt.read_request(body);
        }
    }

    pub(super) fn id(&self) -> RequestId {
        self.id
    }

    pub(super) fn queued_bytes(&self) -> usize {
        self.leg.outbox.queued_bytes()
    }

    /// Whether a whole answer may travel in the head.
    pub(super) fn takes_whole_answers(&self) -> bool {
        self.leg.version == Version::Extended
    }

    /// The envelope of a head. The end time is known only if nothing more will be computed.
    pub(super) fn head(&mut self, head: &Head, payload: Bytes) -> Result<Sealed, Stop> {
        let mut headers = Vec::with_capacity(3);
        if let Some(content_type) = &head.content_type {
            headers.push(("content-type".to_owned(), content_type.clone()));
        }
        headers.push(("X-Cocoon-Worker-Start".to_owned(), timestamp(self.started)));
        if !head.streamed {
            headers.push(("X-Cocoon-Worker-End".to_owned(), timestamp(self.shared.clock.unix_now())));
        }
        let is_event_stream = head.content_type.as_deref().is_some_and(|value| value.starts_with("text/event-stream"));
        self.status = Some(head.status);
        self.sent = if is_event_stream { Sent::HeadOfEventStream } else { Sent::Head };
        let reason = http::StatusCode::from_u16(head.status).ok().and_then(|status| status.canonical_reason());
        HttpResponse { status: head.status, reason: reason.unwrap_or_default().to_owned(), headers, payload }
            .encode()
            .map_err(|_| Stop::Engine(EngineError::EngineAnswer("a head that cannot be passed on")))
    }

    pub(super) fn send_head(&mut self, response: Sealed) -> Result<(), Stop> {
        self.send(Answer::Head { request_id: self.id, response, end: None })
    }

    pub(super) fn part(&mut self, body: Bytes) -> Result<(), Stop> {
        self.read_answer(&body);
        self.send(Answer::Part { request_id: self.id, body: Sealed::new(body), end: None })
    }

    /// The last message, which is the only one; `payload` is the body in the envelope.
    pub(super) async fn finish_with_head(mut self, response: Sealed, payload: &[u8], usage: Usage) -> Result<(), Stop> {
        self.read_answer(payload);
        let end = Some(self.final_info(usage, self.status.unwrap_or_default(), Outcome::Complete).await);
        self.send(Answer::Head { request_id: self.id, response, end })
    }

    pub(super) async fn finish_with_part(mut self, body: Bytes, usage: Usage) -> Result<(), Stop> {
        self.read_answer(&body);
        let end = Some(self.final_info(usage, self.status.unwrap_or_default(), Outcome::Complete).await);
        self.send(Answer::Part { request_id: self.id, body: Sealed::new(body), end })
    }

    /// The last message of an answer that failed.
    pub(super) async fn fail(mut self, failure: &Failure, used: Usage) {
        let status = self.status.unwrap_or_else(|| failure.code.http_status());
        let end = self.final_info(used, status, Outcome::Stopped).await;
        let answer = failed(self.id, self.leg.version, self.sent, failure, end);
        // If even this does not go out, the connection is as good as lost, and its end tells the proxy.
        let _ = self.send(answer);
    }

    fn read_answer(&mut self, bytes: &[u8]) {
        if let Some(receipt) = &mut self.receipt {
            receipt.read_answer(bytes);
        }
    }

    fn send(&self, answer: Answer) -> Result<(), Stop> {
        let message = WorkerMessage::Answer(answer).encode(self.leg.version);
        self.leg.outbox.send(message).map_err(|error| match error {
            SendError::Full => Stop::SlowReader,
            SendError::Closed | SendError::UnknownQuery => Stop::PeerGone,
            SendError::TooLarge => Stop::Engine(EngineError::Internal("an answer part is too large")),
        })
    }

    /// What the last message adds. What is said here is what is owed: it is also kept for ourselves.
    async fn final_info(&mut self, usage: Usage, status: u16, outcome: Outcome) -> FinalInfo {
        let ended = self.shared.clock.unix_now();
        let (usage, adjusted) = self.adjusted(usage);
        let receipt = match (self.shared.receipts.get(), self.receipt.take()) {
            (Some(receipts), Some(open)) => {
                let ending = Ending {
                    proxy: &self.leg.proxy,
                    model: self.model.as_deref().unwrap_or_default(),
                    status,
                    outcome,
                    usage,
                    adjusted,
                    coefficient: self.coefficient,
                    multipliers: self.multipliers,
                    started: self.started,
                    ended,
                };
                Some(receipts.sign(open, ending).await)
            }
            (_, _) => None,
        };
        if let Some(ours) = &self.leg.ours {
            ours.settled(adjusted.total(), receipt.clone().zip(self.tag.take()));
        }
        FinalInfo {
            tokens: adjusted.into(),
            worker_debug: self.debug.then(|| debug_text(usage)),
            worker_start: Some(self.started.as_secs_f64()),
            worker_end: Some(ended.as_secs_f64()),
            proof: receipt.map(|receipt| Proof { receipt, evidence: None }),
            ..FinalInfo::default()
        }
    }

    /// The counts, and as they are billed. A report that cannot be true counts as nothing: the answer
    /// was delivered, and the loss is this worker's, whose engine it is.
    fn adjusted(&self, usage: Usage) -> (Usage, AdjustedUsage) {
        match usage.adjust(self.coefficient, &self.multipliers) {
            Ok(adjusted) => (usage, adjusted),
            Err(error) => {
                tracing::error!(request = %self.id, %error, "engine reported impossible usage");
                <(Usage, AdjustedUsage)>::default()
            }
        }
    }
}

/// Refuses a request that was not begun.
pub(crate) fn refuse(leg: &Leg, id: RequestId, failure: &Failure) {
    let answer = failed(id, leg.version, Sent::Nothing, failure, FinalInfo::default());
    let _ = leg.outbox.send(WorkerMessage::Answer(answer).encode(leg.version));
}

fn failed(request_id: RequestId, version: Version, sent: Sent, failure: &Failure, end: FinalInfo) -> Answer {
    match (version, sent) {
        (Version::Extended, _) => Answer::Failed { request_id, failure: failure.clone(), end: Some(end) },
        (_, Sent::Nothing) => Answer::failure_as_http(request_id, failure, end),
        (_, Sent::HeadOfEventStream) => {
            Answer::Part { request_id, body: Sealed::new(error_event(failure)), end: Some(end) }
        }
        (_, Sent::Head) => Answer::end_of_stream(request_id, end),
    }
}

/// An error as a server-sent event. The blank line before it ends an event that was cut in the middle.
fn error_event(failure: &Failure) -> Bytes {
    let mut event = BytesMut::from(&b"\n\ndata: "[..]);
    event.extend_from_slice(&openai_error_body(failure));
    event.extend_from_slice(b"\n\n");
    event.freeze()
}

fn timestamp(time: UnixTime) -> String {
    format!("{:.6}", time.as_secs_f64())
}

fn debug_text(usage: Usage) -> String {
    let Usage { prompt, cached, completion, reasoning } = usage;
    format!(
        r#"{{"prompt_tokens":{prompt},"cached_tokens":{cached},"completion_tokens":{completion},"reasoning_tokens":{reasoning}}}"#
    )
}
