//! `/v1/chat/completions` and `/v1/completions`: from an app's request to the worker's answer.
//!
//! A streamed answer leaves as it comes. Any other is held until its end, so that the app gets the
//! end times, the cost and a length, unless it grows too large for that.
//! Of the answer's headers only the content type and the known timing headers are kept.

use std::{collections::VecDeque, future::poll_fn, sync::Arc};

use bytes::Bytes;
use cocoon_wire::{http::HttpResponse, message::FinalInfo, usage::CostSplicer};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header, request::Parts};
use hyper::body::Incoming;
use tokio::time::{Instant, timeout_at};

use super::{
    InFlight, Labels,
    body::{self, ResponseBody},
    gate,
    stream::{AnswerBody, Form, UsageEvent},
};
use crate::{
    Shared,
    chunks::Chunks,
    error::RequestError,
    limits,
    receipts::{Bill, Metered},
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

/// Answers one inference request.
pub(super) async fn answer(
    shared: &Arc<Shared>,
    endpoint: Endpoint,
    parts: &Parts,
    body: Incoming,
    labels: &mut Labels,
    key: Option<&Arc<str>>,
) -> Result<Response<ResponseBody>, RequestError> {
    if parts.method != Method::POST {
        return Err(RequestError::WrongMethod { allow: "POST" });
    }
    gate::require_json(&parts.headers)?;
    let mut in_flight = InFlight::enter(shared)?;
    let started = shared.clock.unix_now().as_secs_f64();
    let result = begin(shared, endpoint, parts, body, labels, key, &in_flight).await;
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
    deadline: Instant,
}

async fn begin(
    shared: &Shared,
    endpoint: Endpoint,
    parts: &Parts,
    body: Incoming,
    labels: &mut Labels,
    key: Option<&Arc<str>>,
    in_flight: &InFlight,
) -> Result<Exchange, RequestError> {
    let (body, room) = body::read(body, &parts.headers, &shared.config.limits, &shared.bodies).await?;
    let mut request = InferenceRequest::read(endpoint, &parts.headers, &body, &shared.config)?;
    drop(body);
    labels.request.prefer(parts, request.guid.as_deref());
    let deadline = Instant::now() + request.timeout;
    let link = timeout_at(deadline, shared.pool.pick(&request.model)).await.map_err(|_| RequestError::Late)??;
    labels.attestation = link.attestation().and_then(|record| record.header());
    let bill = Bill::open(shared, &link, &request, key.cloned()).await?;
    let answer = link.start(&request, Arc::clone(&bill), deadline).inspect_err(|_| bill.never_sent())?;
    let mut answer = Metered::new(answer, bill);
    labels.receipt = answer.receipt_id().and_then(|id| HeaderValue::try_from(id).ok());
    request.drop_body();
    drop(room);
    let head = match answer.head(deadline).await {
        Ok(head) => head,
        Err(error) => {
            in_flight.used_by(&answer, &request.model);
            if error.is_for_want_of_a_worker() {
                link.lost_worker(&request.model);
            }
            return Err(error);
        }
    };
    Ok(Exchange { request, head, answer, deadline })
}

impl Exchange {
    async fn respond(
        mut self,
        shared: &Shared,
        mut in_flight: InFlight,
        started: f64,
    ) -> Result<Response<ResponseBody>, RequestError> {
        let held = if self.request.streamed {
            Held::default()
        } else {
            match self.hold().await {
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
            in_flight.completed();
            self.add_ends(response.headers_mut(), &info, shared.clock.unix_now().as_secs_f64());
            let pieces = self.price(response.headers_mut(), held.chunks.into_pieces());
            *response.body_mut() = ResponseBody::Whole(pieces);
        } else {
            let is_named = shared.config.budget.receipt_comment;
            let body = self.into_body(held.chunks.into_pieces(), in_flight, response.headers(), is_named);
            *response.body_mut() = ResponseBody::Answer(Box::new(body));
        }
        Ok(response)
    }

    /// Takes the answer in until its end, or until it is too long to be held.
    async fn hold(&mut self) -> Result<Held, RequestError> {
        let mut held = Held::default();
        while held.chunks.bytes() <= limits::WHOLE_ANSWER_BYTES {
            let next = timeout_at(self.deadline, poll_fn(|cx| self.answer.poll_chunk(cx))).await;
            match next.map_err(|_| RequestError::Late)?? {
                Some(chunk) => held.chunks.push(chunk),
                None => {
                    held.is_whole = true;
                    break;
                }
            }
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
        let mut splicer = CostSplicer::new();
        let mut priced: VecDeque<_> = pieces.into_iter().map(|piece| splicer.push(piece)).collect();
        priced.push_back(splicer.finish(Some(&cost)));
        priced.retain(|piece| !piece.is_empty());
        priced
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
        let form = if is_events { Form::Events } else { Form::Opaque };
        let usage = if self.request.usage_wanted { UsageEvent::Wanted } else { UsageEvent::Unwanted };
        let receipt = self.answer.receipt_id().filter(|_| is_receipt_named);
        let body = AnswerBody::new(self.answer, in_flight, self.request.model, form, usage, self.deadline);
        let body = body.with_held(held);
        if let Some(id) = receipt { body.with_receipt_comment(&id) } else { body }
    }
}

/// What was taken in of an answer that is not streamed.
#[derive(Default)]
struct Held {
    chunks: Chunks,
    is_whole: bool,
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
