//! Every endpoint that a worker answers: from an app's request to the worker's answer.
//!
//! Which proxy answers, and what happens when one dies before it does, is [`attempts`]' business.
//! A streamed answer leaves as it comes. Any other is held until its end, so that the app gets the
//! end times, the cost and a length, unless it grows too large for that.
//! Of the answer's headers only the content type and the known timing headers are kept.

mod attempts;

use std::{collections::VecDeque, future::poll_fn, sync::Arc};

use bytes::Bytes;
use cocoon_wire::{http::HttpResponse, message::FinalInfo, usage::CostSplicer};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header, request::Parts};
use hyper::body::Incoming;
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, timeout_at},
};

use self::attempts::{Attempts, Begun};
use super::{
    InFlight, Labels,
    body::{self, ResponseBody},
    gate,
    stream::{AnswerBody, Form, UsageEvent},
};
use crate::{
    Shared,
    chunks::Chunks,
    dialect::{Birth, Dialect, Translation, Violation},
    error::RequestError,
    limits,
    receipts::Metered,
    request::{Endpoint, InferenceRequest},
};

/// Timing headers of the other roles that are passed on when the answer has begun.
const STARTS: [HeaderName; 2] =
    [HeaderName::from_static("x-cocoon-proxy-start"), HeaderName::from_static("x-cocoon-worker-start")];
const CLIENT_START: HeaderName = HeaderName::from_static("x-cocoon-client-start");
const CLIENT_END: HeaderName = HeaderName::from_static("x-cocoon-client-end");
const PROXY_START: HeaderName = HeaderName::from_static("x-cocoon-proxy-start");
const PROXY_END: HeaderName = HeaderName::from_static("x-cocoon-proxy-end");
const WORKER_START: HeaderName = HeaderName::from_static("x-cocoon-worker-start");
const WORKER_END: HeaderName = HeaderName::from_static("x-cocoon-worker-end");
const COST: HeaderName = HeaderName::from_static("x-cocoon-cost-nano");

/// Where a request goes, and in whose words it is.
#[derive(Clone, Copy)]
pub(super) struct Target {
    pub(super) endpoint: Endpoint,
    /// None where they are the endpoint's own.
    pub(super) dialect: Option<Dialect>,
}

impl From<Endpoint> for Target {
    fn from(endpoint: Endpoint) -> Self {
        Self { endpoint, dialect: None }
    }
}

/// Answers one inference request.
pub(super) async fn answer(
    shared: &Arc<Shared>,
    target: Target,
    parts: &Parts,
    body: Incoming,
    labels: &mut Labels,
    key: Option<&Arc<str>>,
) -> Result<Response<ResponseBody>, RequestError> {
    if parts.method != Method::POST {
        return Err(RequestError::WrongMethod { allow: "POST" });
    }
    gate::require_kind(target.endpoint.body(), &parts.headers)?;
    let mut in_flight = InFlight::enter(shared)?;
    let started = shared.clock.unix_now().as_secs_f64();
    let result = begin(shared, target, parts, body, labels, key, &in_flight).await;
    let exchange = match result {
        Ok(exchange) => exchange,
        Err(error) => {
            in_flight.failed(&error);
            return Err(error);
        }
    };
    exchange.respond(shared, in_flight, started).await
}

/// A request whose answer has begun.
struct Exchange {
    request: InferenceRequest,
    head: HttpResponse,
    answer: Metered,
    translation: Option<Translation>,
    /// The share of what that keeps of the room for all bodies.
    kept: Option<OwnedSemaphorePermit>,
    deadline: Instant,
}

async fn begin(
    shared: &Shared,
    target: Target,
    parts: &Parts,
    body: Incoming,
    labels: &mut Labels,
    key: Option<&Arc<str>>,
    in_flight: &InFlight,
) -> Result<Exchange, RequestError> {
    let Target { endpoint, dialect } = target;
    let kind = endpoint.body();
    let (mut body, mut room) =
        body::read_kind(kind, body, &parts.headers, &shared.config.limits, &shared.bodies).await?;
    let mut translation = None;
    if let Some(dialect) = dialect {
        let (chat, back) = dialect.translate(&body, birth(shared))?;
        (body, translation) = (chat, Some(back));
    }
    let kept = translation.as_ref().and_then(|translation| room.split(translation.kept_bytes()));
    let mut request = InferenceRequest::read(endpoint, &parts.headers, &body, &shared.config)?;
    drop(body);
    labels.request.prefer(parts, request.guid.as_deref());
    let deadline = Instant::now() + request.timeout;
    let attempts = Attempts { shared, request: &mut request, room: Some(room), key, deadline, in_flight };
    let Begun { head, answer } = attempts.run(labels).await?;
    Ok(Exchange { request, head, answer, translation, kept, deadline })
}

fn birth(shared: &Shared) -> Birth {
    Birth { id: rand::random(), unix_s: shared.clock.unix_now().as_secs() }
}

impl Exchange {
    async fn respond(
        mut self,
        shared: &Shared,
        mut in_flight: InFlight,
        started: f64,
    ) -> Result<Response<ResponseBody>, RequestError> {
        let held = if self.leaves_as_it_comes() {
            Held::default()
        } else {
            match self.hold(shared).await {
                Ok(held) => held,
                Err(error) => {
                    self.answer.give_up();
                    in_flight.used_by(&self.answer, &self.request.model);
                    in_flight.failed(&error);
                    return Err(error);
                }
            }
        };
        let mut response = match self.bare_response(started) {
            Ok(response) => response,
            Err(error) => {
                in_flight.failed(&error);
                return Err(error);
            }
        };
        if held.is_whole {
            let info = self.answer.final_info().unwrap_or_default();
            in_flight.used_by(&self.answer, &self.request.model);
            self.add_ends(response.headers_mut(), &info, shared.clock.unix_now().as_secs_f64());
            let pieces = self.price(response.headers_mut(), held.chunks.into_pieces());
            let pieces = match self.translate(response.headers_mut(), pieces) {
                Ok(pieces) => pieces,
                Err(violation) => {
                    let error = violation.into();
                    in_flight.failed(&error);
                    return Err(error);
                }
            };
            in_flight.completed();
            *response.body_mut() = ResponseBody::Whole(pieces);
        } else {
            let is_named = shared.config.budget.receipt_comment;
            if self.translation.is_some() {
                response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
            }
            let body = self.into_body(held.chunks.into_pieces(), in_flight, response.headers(), is_named);
            *response.body_mut() = ResponseBody::Answer(Box::new(body));
        }
        Ok(response)
    }

    /// Whether nothing of the answer is held. An error is translated as a whole, also where a stream was asked for.
    fn leaves_as_it_comes(&self) -> bool {
        self.request.streamed && (self.translation.is_none() || is_success(self.head.status))
    }

    /// Takes the answer in until its end, or until it is too long to be held. One that is translated must come to its end.
    async fn hold(&mut self, shared: &Shared) -> Result<Held, RequestError> {
        let mut held = Held::default();
        let is_translated = self.translation.is_some();
        let limit = if is_translated { limits::DIALECT_ANSWER_BYTES } else { limits::WHOLE_ANSWER_BYTES };
        while held.chunks.bytes() <= limit {
            let next = timeout_at(self.deadline, poll_fn(|cx| self.answer.poll_chunk(cx))).await;
            match next.map_err(|_| RequestError::Late)?? {
                Some(chunk) => {
                    if held.chunks.bytes() > limits::WHOLE_ANSWER_BYTES {
                        held.take_room(shared, chunk.len())?;
                    }
                    held.chunks.push(chunk);
                }
                None => {
                    held.is_whole = true;
                    break;
                }
            }
        }
        if is_translated && !held.is_whole {
            return Err(RequestError::AnswerTooLong { limit });
        }
        Ok(held)
    }

    /// Status and headers, as far as they are known when the answer begins.
    fn bare_response(&self, started: f64) -> Result<Response<ResponseBody>, RequestError> {
        // 1xx, 204 and 304 have no place here, and would let the body be read as something else.
        let status = StatusCode::from_u16(self.head.status).ok();
        let status = status.filter(|status| !status.is_informational() && *status != 204 && *status != 304);
        let mut response = Response::new(ResponseBody::empty());
        *response.status_mut() = status.ok_or(RequestError::BadAnswer)?;
        let headers = response.headers_mut();
        let content_type = self.head.header("content-type").filter(|value| value.len() <= limits::HEADER_VALUE_BYTES);
        let content_type = content_type.and_then(|value| HeaderValue::from_str(value).ok());
        headers.insert(header::CONTENT_TYPE, content_type.unwrap_or(HeaderValue::from_static("application/json")));
        if let Some(retry_after) = retry_after(self.head.status) {
            headers.insert(header::RETRY_AFTER, retry_after);
        }
        insert_time(headers, CLIENT_START, Some(started));
        for name in STARTS {
            insert_time(headers, name.clone(), self.told_time(&name));
        }
        Ok(response)
    }

    fn add_ends(&self, headers: &mut HeaderMap, info: &FinalInfo, ended: f64) {
        insert_time(headers, CLIENT_END, Some(ended));
        insert_time(headers, PROXY_START, info.proxy_start);
        insert_time(headers, WORKER_START, info.worker_start);
        insert_time(headers, PROXY_END, info.proxy_end.or_else(|| self.told_time(&PROXY_END)));
        insert_time(headers, WORKER_END, info.worker_end.or_else(|| self.told_time(&WORKER_END)));
    }

    /// Says what a whole answer cost, in a header and in its usage.
    fn price(&self, headers: &mut HeaderMap, pieces: VecDeque<Bytes>) -> VecDeque<Bytes> {
        let Some(cost) = self.answer.cost() else { return pieces };
        headers.insert(COST, cost.total().get().into());
        if !can_name_usage(headers) {
            return pieces;
        }
        let mut splicer = CostSplicer::new();
        let mut priced: VecDeque<_> = pieces.into_iter().map(|piece| splicer.push(piece)).collect();
        priced.push_back(splicer.finish(Some(&cost)));
        priced.retain(|piece| !piece.is_empty());
        priced
    }

    /// Puts a whole answer in the app's own words.
    fn translate(&self, headers: &mut HeaderMap, pieces: VecDeque<Bytes>) -> Result<VecDeque<Bytes>, Violation> {
        let Some(translation) = &self.translation else { return Ok(pieces) };
        let body = Bytes::from(Vec::from(pieces).concat());
        let status = self.head.status;
        let told = if is_success(status) { translation.whole(&body)? } else { translation.refusal(status, body) };
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok(VecDeque::from([told]))
    }

    /// A time that the answer's headers tell, if it is one.
    fn told_time(&self, name: &HeaderName) -> Option<f64> {
        self.head.header(name.as_str())?.parse().ok().filter(|time: &f64| time.is_finite())
    }

    fn into_body(
        self,
        held: VecDeque<Bytes>,
        in_flight: InFlight,
        headers: &HeaderMap,
        is_receipt_named: bool,
    ) -> AnswerBody {
        let is_events =
            headers.get(header::CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"text/event-stream"));
        let form = match is_events || self.translation.is_some() {
            true => Form::Events,
            false if can_name_usage(headers) => Form::Opaque,
            false => Form::Binary,
        };
        let usage = if self.request.usage_wanted || self.translation.is_some() {
            UsageEvent::Wanted
        } else {
            UsageEvent::Unwanted
        };
        let receipt = self.answer.receipt_id().filter(|_| is_receipt_named);
        let body = AnswerBody::new(self.answer, in_flight, self.request.model, form, usage, self.deadline);
        let body = body.with_held(held).in_words_of(self.translation, self.kept);
        if let Some(id) = receipt { body.with_receipt_comment(&id) } else { body }
    }
}

/// Whether an answer is JSON or events, so that there may be usage in it; sound and pictures pass untouched.
fn can_name_usage(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = value.split(['/', ';']).next().unwrap_or_default().trim();
    let is_media = ["audio", "image", "video"].iter().any(|media| media.eq_ignore_ascii_case(kind));
    !is_media && !value.get(..24).unwrap_or_default().eq_ignore_ascii_case("application/octet-stream")
}

/// What was taken in of an answer that is not streamed.
#[derive(Default)]
struct Held {
    chunks: Chunks,
    is_whole: bool,
    /// For what is beyond [`limits::WHOLE_ANSWER_BYTES`], a share of the room for all bodies.
    room: Option<OwnedSemaphorePermit>,
}

impl Held {
    fn take_room(&mut self, shared: &Shared, bytes: usize) -> Result<(), RequestError> {
        let bytes = u32::try_from(bytes).map_err(|_| RequestError::Busy)?;
        let more = Arc::clone(&shared.bodies).try_acquire_many_owned(bytes).map_err(|_| RequestError::Busy)?;
        match &mut self.room {
            Some(room) => room.merge(more),
            None => self.room = Some(more),
        }
        Ok(())
    }
}

const fn is_success(status: u16) -> bool {
    matches!(status, 200..=299)
}

/// Engines that are busy seldom say for how long; apps want to know.
fn retry_after(status: u16) -> Option<HeaderValue> {
    let pause = match status {
        429 => limits::RETRY_AFTER_BUSY,
        503 => limits::RETRY_AFTER_UNAVAILABLE,
        _ => return None,
    };
    Some(pause.as_secs().into())
}

/// Unix seconds with six decimals, as the original writes them.
fn insert_time(headers: &mut HeaderMap, name: HeaderName, time: Option<f64>) {
    let value = time.filter(|time| time.is_finite()).and_then(|time| HeaderValue::try_from(format!("{time:.6}")).ok());
    if let Some(value) = value {
        headers.insert(name, value);
    }
}
