//! One inference request, parsed once at the edge.
//!
//! Everything that the network needs is read here from the body and from `x-cocoon-*` headers; the
//! rest of the body travels on byte for byte. Of the app's headers only `accept` does.

use std::{borrow::Cow, sync::Arc, time::Duration};

use bytes::Bytes;
use cocoon_units::{AdjustedTokens, Coefficient, Pricing, most_tokens};
use cocoon_wire::{
    Sealed, Version,
    http::HttpRequest,
    openai::{BodyKind, Edits, RequestFacts, edit_body, multipart_type},
};
use http::{HeaderMap, header};

use crate::{config::ClientConfig, error::RequestError, limits};

pub(crate) use cocoon_wire::openai::Endpoint;

/// The content type of every body that is no form.
const JSON: &str = "application/json";

/// A request that is ready to go to a proxy.
#[derive(Debug)]
pub(crate) struct InferenceRequest {
    endpoint: Endpoint,
    body: Sealed,
    content_type: Cow<'static, str>,
    accept: String,
    pub(crate) model: Arc<str>,
    pub(crate) max_coefficient: Coefficient,
    /// Completion tokens of one answer at most.
    pub(crate) max_tokens: u32,
    /// Answers that are made at once.
    choices: u32,
    /// Prompt tokens at most, less the margin for a template.
    prompt_tokens_max: u64,
    pub(crate) timeout: Duration,
    pub(crate) enable_debug: bool,
    /// Whether the app wants the answer as it is made.
    pub(crate) streamed: bool,
    /// Whether the app asked for the usage event of a stream itself.
    pub(crate) usage_wanted: bool,
    /// The app's own name for the request.
    pub(crate) guid: Option<String>,
}

impl InferenceRequest {
    /// Reads a request.
    ///
    /// # Errors
    ///
    /// The app's fault: a body that is no JSON object or no form, without a model, with a field of the wrong
    /// type or one that cannot be served, or a value that header and body give differently.
    pub(crate) fn read(
        endpoint: Endpoint,
        headers: &HeaderMap,
        body: &Bytes,
        config: &ClientConfig,
    ) -> Result<Self, RequestError> {
        let content_type = content_type(endpoint, headers)?;
        let facts = RequestFacts::read(endpoint, Some(&content_type), body)?;
        let wishes = HeaderWishes::read(headers)?;
        let max_coefficient = agree(facts.fields.max_coefficient, wishes.max_coefficient, "max_coefficient")?;
        let timeout_ms = agree(facts.fields.timeout_ms, wishes.timeout_ms, "timeout")?.unwrap_or(config.timeout_ms);
        let timeout = Duration::from_millis(timeout_ms);
        if timeout.is_zero() || timeout > limits::REQUEST_TIMEOUT_MAX {
            return Err(RequestError::bad_request(
                "`timeout` must be above 0 and at most 3600 seconds",
                Some("timeout"),
            ));
        }
        let edits = Edits {
            strip_cocoon_fields: true,
            max_tokens_if_missing: Some(config.max_tokens),
            include_usage: true,
            ..Edits::default()
        };
        let body = edit_body(endpoint, Some(&content_type), body, &edits)?;
        // As the proxy and the worker read it.
        let facts = facts.of_edited(&body);
        let (max_tokens, choices) = (facts.token_limit(config.max_tokens), facts.choices());
        let prompt_tokens_max = facts.prompt_tokens_max();
        let fields = facts.fields;
        let model = fields.model.filter(|model| !model.is_empty());
        Ok(Self {
            endpoint,
            body: Sealed::new(body),
            content_type,
            accept: accept(headers),
            model: model.ok_or_else(|| RequestError::bad_request("`model` is required", Some("model")))?.into(),
            max_coefficient: max_coefficient.unwrap_or(config.max_coefficient),
            max_tokens,
            choices,
            prompt_tokens_max,
            timeout,
            enable_debug: fields.enable_debug || wishes.enable_debug,
            streamed: fields.stream,
            usage_wanted: fields.include_usage,
            guid: agree(fields.request_guid, wishes.request_guid, "request_guid")?,
        })
    }

    /// The most that it can cost, as the proxy reserves it; `None` when that does not fit 64 bits.
    pub(crate) fn most_tokens(&self, pricing: &Pricing) -> Option<AdjustedTokens> {
        let completion = u64::from(self.choices).saturating_mul(self.max_tokens.into());
        most_tokens(self.prompt_tokens_max, completion, &pricing.multipliers, self.max_coefficient)
    }

    /// The body as it travels, for the receipt's digest.
    pub(crate) fn body(&self) -> &Bytes {
        self.body.expose()
    }

    /// Frees the body, of which the connection's queue has a copy once it was sent: an answer may take an hour.
    pub(crate) fn drop_body(&mut self) {
        self.body = Sealed::default();
    }

    /// The `http.request` that travels. The engine behind an original worker gets these headers as
    /// they are, and HTTP/1.1 servers want a host and a length; both say nothing about the app.
    pub(crate) fn envelope(&self, version: Version) -> Result<Sealed, RequestError> {
        let mut headers = vec![
            ("content-type".to_owned(), self.content_type.clone().into_owned()),
            ("accept".to_owned(), self.accept.clone()),
        ];
        if version != Version::Extended {
            headers.push(("host".to_owned(), "cocoon".to_owned()));
            headers.push(("content-length".to_owned(), self.body.len().to_string()));
        }
        let request = HttpRequest {
            method: "POST".to_owned(),
            url: self.endpoint.path().to_owned(),
            headers,
            payload: self.body.expose().clone(),
        };
        request.encode().map_err(|_| RequestError::TooLargeForProxy)
    }
}

/// The content type that travels: of a form the boundary, and nothing else that the app may have written there.
fn content_type(endpoint: Endpoint, headers: &HeaderMap) -> Result<Cow<'static, str>, RequestError> {
    match endpoint.body() {
        BodyKind::None | BodyKind::Json => Ok(Cow::Borrowed(JSON)),
        BodyKind::Multipart => {
            let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
            Ok(Cow::Owned(multipart_type(given.unwrap_or_default())?))
        }
    }
}

/// What `x-cocoon-*` headers can say instead of body fields, for apps that cannot add fields.
#[derive(Default)]
struct HeaderWishes {
    max_coefficient: Option<Coefficient>,
    timeout_ms: Option<u64>,
    enable_debug: bool,
    request_guid: Option<String>,
}

impl HeaderWishes {
    fn read(headers: &HeaderMap) -> Result<Self, RequestError> {
        let max_coefficient = text(headers, "x-cocoon-max-coefficient")?
            .map(|value| {
                value.parse().map_err(|_| bad_header("x-cocoon-max-coefficient must be a whole number of thousandths"))
            })
            .transpose()?;
        let timeout_ms = text(headers, "x-cocoon-timeout")?.map(millis_of_seconds).transpose()?;
        let enable_debug = match text(headers, "x-cocoon-enable-debug")? {
            None | Some("false" | "0") => false,
            Some("true" | "1") => true,
            Some(_) => return Err(bad_header("x-cocoon-enable-debug must be true or false")),
        };
        let request_guid = text(headers, "x-cocoon-request-guid")?.map(str::to_owned);
        let max_coefficient = max_coefficient.map(Coefficient::from_thousandths);
        Ok(Self { max_coefficient, timeout_ms, enable_debug, request_guid })
    }
}

/// The one value of a wish. Two different ones are refused: whichever won, somebody would pay for
/// or wait for something else than they wrote.
fn agree<T: PartialEq>(body: Option<T>, header: Option<T>, field: &'static str) -> Result<Option<T>, RequestError> {
    match (body, header) {
        (Some(body), Some(header)) if body != header => Err(RequestError::bad_request(
            format!("`{field}` is given in the body and in a header, and they differ"),
            Some(field),
        )),
        (body, header) => Ok(body.or(header)),
    }
}

fn millis_of_seconds(text: &str) -> Result<u64, RequestError> {
    let seconds: f64 = text
        .parse()
        .ok()
        .filter(|seconds: &f64| *seconds > 0.0 && seconds.is_finite())
        .ok_or_else(|| bad_header("x-cocoon-timeout must be a number of seconds above 0"))?;
    let duration = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
    Ok(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

fn text<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<Option<&'a str>, RequestError> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).map_err(|_| bad_header("an x-cocoon header is not plain text")),
        (Some(_), Some(_)) => Err(bad_header("an x-cocoon header is given twice")),
    }
}

fn bad_header(message: impl Into<Cow<'static, str>>) -> RequestError {
    RequestError::bad_request(message, None)
}

/// What the app accepts, if it is short and plain; otherwise anything.
fn accept(headers: &HeaderMap) -> String {
    let value = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    value.filter(|value| value.len() <= limits::HEADER_VALUE_BYTES).unwrap_or("*/*").to_owned()
}
