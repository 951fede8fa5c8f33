//! Who may speak to this client at all, decided before anything of the request is read.
//!
//! 1. `Host` (or HTTP/2's `:authority`) must be a name of ours: a hostile page can point its own
//!    name at this machine (DNS rebinding), and the browser then takes us for its origin.
//! 2. A foreign `Origin` is refused: browsers send cross-origin POSTs before they ask.
//! 3. When there are API keys, one must be shown.
//!
//! Everything is refused unless it is allowed.

use std::net::SocketAddr;

use cocoon_wire::openai::BodyKind;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header, request::Parts, uri::Authority};

use super::body::ResponseBody;
use crate::{
    config::ClientConfig,
    error::RequestError,
    keys::{Access, Keys},
};

/// How long a browser may remember what a preflight said, in seconds.
const PREFLIGHT_MAX_AGE: HeaderValue = HeaderValue::from_static("600");

/// Where a key is shown without a scheme.
const API_KEY: header::HeaderName = header::HeaderName::from_static("x-api-key");

/// Answer headers that a page may read.
const EXPOSED: HeaderValue = HeaderValue::from_static(
    "x-request-id, request-id, retry-after, x-cocoon-attestation, x-cocoon-receipt, x-cocoon-cost-nano, x-cocoon-client-start, x-cocoon-client-end, x-cocoon-proxy-start, \
     x-cocoon-proxy-end, x-cocoon-worker-start, x-cocoon-worker-end",
);

/// The rules of one client.
#[derive(Debug)]
pub(super) struct Gate {
    hosts: Vec<String>,
    origins: Vec<String>,
    keys: Keys,
}

/// A web page's origin that was let in, and must be named in the answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Caller {
    /// Not a page, or a page of our own origin: nothing to name.
    Same,
    /// A page of a configured origin.
    Page(HeaderValue),
}

impl Gate {
    pub(super) fn new(config: &ClientConfig, bound: Option<SocketAddr>) -> Self {
        let mut hosts = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "[::1]".to_owned()];
        hosts.extend(config.allowed_hosts.iter().map(|host| host.to_ascii_lowercase()));
        // The address itself is no name that somebody else could point here.
        for address in bound.iter().chain([&config.listen]).filter(|address| !address.ip().is_unspecified()) {
            hosts.push(match address {
                SocketAddr::V4(address) => address.ip().to_string(),
                SocketAddr::V6(address) => format!("[{}]", address.ip()),
            });
        }
        Self { hosts, origins: config.cors_origins.clone(), keys: Keys::new(&config.api_keys) }
    }

    /// Refuses foreign hosts and origins.
    pub(super) fn admit(&self, request: &Parts) -> Result<Caller, RequestError> {
        let host = self.host(request)?;
        let Some(origin) = single(&request.headers, header::ORIGIN)? else {
            return Ok(Caller::Same);
        };
        let origin_text = origin.to_str().map_err(|_| RequestError::ForeignOrigin)?;
        if self.origins.iter().any(|known| known == origin_text) {
            return Ok(Caller::Page(origin.clone()));
        }
        // A page that this client itself served: same host and same port.
        let own = origin_text.strip_prefix("http://").or_else(|| origin_text.strip_prefix("https://"));
        if own.is_some_and(|own| own.eq_ignore_ascii_case(host.as_str())) {
            return Ok(Caller::Same);
        }
        Err(RequestError::ForeignOrigin)
    }

    /// Refuses callers without a key, when there are keys; says whose it is.
    pub(super) fn authorize(&self, headers: &HeaderMap) -> Result<Access, RequestError> {
        if self.keys.is_empty() {
            return Ok(Access::OWNER);
        }
        let Some(value) = single(headers, header::AUTHORIZATION)? else {
            // Anthropic's SDKs show the key alone.
            let key = single(headers, API_KEY)?.ok_or(RequestError::KeyMissing)?;
            return key.to_str().ok().and_then(|key| self.keys.find(key)).ok_or(RequestError::KeyWrong);
        };
        let value = value.to_str().map_err(|_| RequestError::KeyWrong)?;
        let (scheme, key) = value.split_once(' ').ok_or(RequestError::KeyMissing)?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(RequestError::KeyMissing);
        }
        self.keys.find(key.trim()).ok_or(RequestError::KeyWrong)
    }

    /// The name that the request was sent to, if it is one of ours.
    fn host(&self, request: &Parts) -> Result<Authority, RequestError> {
        let target = request.uri.authority().cloned();
        let header = match single(&request.headers, header::HOST)? {
            Some(host) => Some(Authority::try_from(host.as_bytes()).map_err(|_| RequestError::ForeignHost)?),
            None => None,
        };
        let host = match (target, header) {
            (Some(target), Some(header)) if target != header => {
                return Err(RequestError::bad_request("the request names two different hosts", None));
            }
            (Some(host), _) | (None, Some(host)) => host,
            (None, None) => return Err(RequestError::bad_request("the request names no host", None)),
        };
        let name = host.host().trim_end_matches('.');
        let is_ours = self.hosts.iter().any(|known| known.eq_ignore_ascii_case(name));
        // `user@host` is no way to call a server; refused so that nobody has to think about it.
        if is_ours && !host.as_str().contains('@') { Ok(host) } else { Err(RequestError::ForeignHost) }
    }
}

/// POST bodies must say that they are JSON: a page cannot send that to a foreign origin unasked.
pub(super) fn require_json(headers: &HeaderMap) -> Result<(), RequestError> {
    let value = single(headers, header::CONTENT_TYPE)?.and_then(|value| value.to_str().ok());
    let essence = value.and_then(|value| value.split(';').next()).map(str::trim);
    if essence.is_some_and(|essence| essence.eq_ignore_ascii_case("application/json")) {
        Ok(())
    } else {
        Err(RequestError::NotJson)
    }
}

/// POST bodies must say that they are what the endpoint takes.
///
/// Pages can send forms to foreign origins unasked. Their origin was looked at before ([`Gate::admit`]), if the browser
/// said it; one that says only that the page is a foreign one is believed, too.
pub(super) fn require_kind(kind: BodyKind, headers: &HeaderMap) -> Result<(), RequestError> {
    if kind != BodyKind::Multipart {
        return require_json(headers);
    }
    let value = single(headers, header::CONTENT_TYPE)?.and_then(|value| value.to_str().ok());
    let essence = value.and_then(|value| value.split(';').next()).map(str::trim);
    if !essence.is_some_and(|essence| essence.eq_ignore_ascii_case("multipart/form-data")) {
        return Err(RequestError::NotMultipart);
    }
    let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
    let is_foreign = site.is_some_and(|site| site == b"cross-site" || site == b"same-site");
    if is_foreign && !headers.contains_key(header::ORIGIN) { Err(RequestError::ForeignOrigin) } else { Ok(()) }
}

/// Whether this is a browser asking what a page may send.
pub(super) fn is_preflight(request: &Parts) -> bool {
    request.method == Method::OPTIONS && request.headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// The answer to a preflight of a page that was let in.
pub(super) fn preflight(request: &Parts) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST"));
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, PREFLIGHT_MAX_AGE);
    // SDKs send many headers of their own (`x-stainless-…`); none of them travels on.
    if let Some(asked) = request.headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, asked.clone());
    }
    if request.headers.contains_key("access-control-request-private-network") {
        headers.insert("access-control-allow-private-network", HeaderValue::from_static("true"));
    }
    response
}

/// Names the page's origin in the answer, so that its browser lets it read it.
pub(super) fn name_caller(caller: Caller, headers: &mut HeaderMap) {
    if let Caller::Page(origin) = caller {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
        headers.insert(header::VARY, HeaderValue::from_static("origin"));
    }
}

/// The one value of a header; two are an attempt to be read in two ways.
pub(super) fn single(headers: &HeaderMap, name: header::HeaderName) -> Result<Option<&HeaderValue>, RequestError> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    if values.next().is_some() {
        return Err(RequestError::bad_request("a header is given twice", None));
    }
    Ok(first)
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn gate() -> Gate {
        let config = ClientConfig {
            allowed_hosts: vec!["AI.example".to_owned()],
            cors_origins: vec!["https://app.example".to_owned()],
            ..ClientConfig::default()
        };
        Gate::new(&config, None)
    }

    fn admit(uri: &str, headers: &[(&str, &str)]) -> Result<Caller, RequestError> {
        let mut request = Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        gate().admit(&request.body(()).unwrap().into_parts().0)
    }

    #[test]
    fn hosts_of_ours_pass_with_any_port() {
        for host in ["localhost", "LocalHost:10000", "127.0.0.1:1", "[::1]:10000", "localhost.", "ai.example:443"] {
            assert_eq!(admit("/v1/models", &[("host", host)]), Ok(Caller::Same), "{host}");
        }
        assert_eq!(admit("http://localhost:10000/v1/models", &[]), Ok(Caller::Same));
    }

    #[test]
    fn dns_rebinding_is_refused() {
        for host in
            ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "x@localhost", "", "[::2]", "0.0.0.0"]
        {
            assert_eq!(admit("/", &[("host", host)]), Err(RequestError::ForeignHost), "{host}");
        }
        // HTTP/2 carries the host in `:authority`.
        assert_eq!(admit("http://evil.example/", &[]), Err(RequestError::ForeignHost));
        assert!(admit("http://localhost/", &[("host", "evil.example")]).is_err());
        assert!(admit("http://evil.example/", &[("host", "localhost")]).is_err());
        assert!(admit("/", &[("host", "localhost"), ("host", "evil.example")]).is_err());
        assert!(admit("/", &[]).is_err());
    }

    #[test]
    fn only_configured_origins_and_our_own_pass() {
        let with = |origin| admit("/", &[("host", "localhost:10000"), ("origin", origin)]);
        assert!(matches!(with("https://app.example"), Ok(Caller::Page(_))));
        assert_eq!(with("http://localhost:10000"), Ok(Caller::Same));
        for origin in [
            "null",
            "http://localhost:3000",
            "http://localhost",
            "https://app.example.evil",
            "https://app.example:8443",
            "",
        ] {
            assert_eq!(with(origin), Err(RequestError::ForeignOrigin), "{origin}");
        }
    }

    #[test]
    fn a_key_is_shown_in_either_header() {
        let key = crate::ApiKey::generate().unwrap();
        let config = ClientConfig { api_keys: vec![key.hash().into()], ..ClientConfig::default() };
        let gate = Gate::new(&config, None);
        let authorize = |fields: &[(&'static str, &str)]| {
            let headers = fields.iter().map(|(name, value)| ((*name).parse().unwrap(), value.parse().unwrap()));
            gate.authorize(&headers.collect::<HeaderMap>()).map(drop)
        };
        let bearer = format!("Bearer {}", key.expose());
        assert_eq!(authorize(&[("authorization", &bearer)]), Ok(()));
        assert_eq!(authorize(&[("x-api-key", key.expose())]), Ok(()));
        assert_eq!(authorize(&[("x-api-key", "sk-cocoon-0")]), Err(RequestError::KeyWrong));
        assert_eq!(authorize(&[]), Err(RequestError::KeyMissing));
        // The one that counts is the first of them, whatever the other one says.
        assert_eq!(
            authorize(&[("authorization", "Bearer x"), ("x-api-key", key.expose())]),
            Err(RequestError::KeyWrong)
        );
    }

    #[test]
    fn json_must_be_said() {
        let check = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, value.parse().unwrap());
            require_json(&headers).is_ok()
        };
        assert!(check("application/json"));
        assert!(check("Application/JSON; charset=utf-8"));
        assert!(!check("text/plain"));
        assert!(!check("text/plain; application/json"));
        assert!(require_json(&HeaderMap::new()).is_err());
    }

    #[test]
    fn a_form_of_a_foreign_page_is_refused() {
        let check = |fields: &[(&'static str, &str)]| {
            let headers = fields.iter().map(|(name, value)| ((*name).parse().unwrap(), value.parse().unwrap()));
            require_kind(BodyKind::Multipart, &headers.collect::<HeaderMap>())
        };
        let form = ("content-type", "multipart/form-data; boundary=x");
        assert_eq!(check(&[form]), Ok(()));
        assert_eq!(check(&[("content-type", "application/json")]), Err(RequestError::NotMultipart));
        assert_eq!(check(&[("content-type", "text/plain")]), Err(RequestError::NotMultipart));
        assert_eq!(check(&[form, ("sec-fetch-site", "same-origin")]), Ok(()));
        for site in ["cross-site", "same-site"] {
            assert_eq!(check(&[form, ("sec-fetch-site", site)]), Err(RequestError::ForeignOrigin));
            // The origin was let in before.
            assert_eq!(check(&[form, ("sec-fetch-site", site), ("origin", "https://app.example")]), Ok(()));
        }
    }
}
