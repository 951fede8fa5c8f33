//! One bounded GET: no redirects, no proxies from the environment, no compression, a deadline over all of it.
//!
//! HTTP without TLS only to this very machine: collateral is signed, but what a node asks for says whom it talks to.
//! TLS is rustls with ring.

use std::net::IpAddr;
use std::time::Duration;

use cocoon_attest::CollateralError;
use thiserror::Error;
use ureq::http::Uri;

use crate::limits::{FETCH_BODY_BYTES_MAX, FETCH_HEADERS_BYTES_MAX};

/// Too many requests (RFC 6585, section 4).
const TOO_MANY_REQUESTS: u16 = 429;

/// Why an address is none of a collateral service.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ServiceUrlError {
    /// Not an absolute URL without user, query or fragment.
    #[error("{0:?} is no address of a collateral service: write `https://host[:port][/path]`")]
    Form(String),
    /// HTTP to another machine.
    #[error("{0:?} would be asked without TLS: plain http is for this machine only (127.0.0.1, [::1])")]
    NotLoopback(String),
}

/// A service that is asked over HTTP.
#[derive(Debug, Clone)]
pub(super) struct Service {
    base: String,
    agent: ureq::Agent,
}

/// An answer with status 200.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) body: Vec<u8>,
    headers: ureq::http::HeaderMap,
    service: Service,
}

impl Service {
    /// A service at this address, with a deadline for each answer.
    pub(super) fn new(base: &str, timeout: Duration) -> Result<Self, ServiceUrlError> {
        let base = base.trim_end_matches('/');
        check_address(base)?;
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(timeout))
            .max_redirects(0)
            .http_status_as_error(false)
            // Neither from the environment nor at all: only the binary reads it.
            .proxy(None)
            .max_response_header_size(FETCH_HEADERS_BYTES_MAX)
            .user_agent("cocoon")
            .build();
        Ok(Self { base: base.to_owned(), agent: config.into() })
    }

    /// Its address.
    pub(super) fn base(&self) -> &str {
        &self.base
    }

    /// Fetches `path`, which begins with a slash. Blocks.
    pub(super) fn get(&self, path: &str) -> Result<Answer, CollateralError> {
        self.get_absolute(&format!("{}{path}", self.base))
    }

    /// Fetches an address of ours, never one that a service sent. Blocks.
    pub(super) fn get_absolute(&self, url: &str) -> Result<Answer, CollateralError> {
        let mut response = self.agent.get(url).call().map_err(|error| self.failed(url, error))?;
        let status = response.status().as_u16();
        if status == TOO_MANY_REQUESTS {
            // Strangers choose how much we ask, so this says nothing about the platform.
            return Err(CollateralError::Busy);
        }
        if status != 200 {
            return Err(self.failed(url, format_args!("status {status}")));
        }
        let limit = u64::try_from(FETCH_BODY_BYTES_MAX).unwrap_or(u64::MAX);
        let body = response.body_mut().with_config().limit(limit).read_to_vec();
        let body = body.map_err(|error| self.failed(url, error))?;
        Ok(Answer { body, headers: response.headers().clone(), service: self.clone() })
    }

    /// The service failed.
    pub(super) fn failed(&self, url: &str, why: impl std::fmt::Display) -> CollateralError {
        CollateralError::Service { service: self.base.clone(), why: format!("{url}: {why}") }
    }

    /// The service sent something that is not what was asked for.
    pub(super) fn malformed(&self, what: &str, why: impl std::fmt::Display) -> CollateralError {
        CollateralError::Malformed { service: self.base.clone(), why: format!("{what}: {why}") }
    }
}

impl Answer {
    /// A header of the first of these names that is there, percent-decoded: PEM certificates in our case.
    pub(super) fn pem_header(&self, names: &[&str]) -> Result<String, CollateralError> {
        let what = names.first().copied().unwrap_or_default();
        let value = names.iter().find_map(|name| self.headers.get(*name));
        let value = value.ok_or_else(|| self.service.malformed(what, "this header is missing"))?;
        let text = percent_decode(value.as_bytes());
        let text = text.ok_or_else(|| self.service.malformed(what, "not percent-encoded text"))?;
        if !text.trim_start().starts_with("-----BEGIN CERTIFICATE-----") {
            return Err(self.service.malformed(what, "not a PEM certificate"));
        }
        Ok(text)
    }

    /// The body as text.
    pub(super) fn text(&self, what: &str) -> Result<&str, CollateralError> {
        std::str::from_utf8(&self.body).map_err(|_| self.service.malformed(what, "not UTF-8"))
    }
}

fn check_address(base: &str) -> Result<(), ServiceUrlError> {
    let form = || ServiceUrlError::Form(base.to_owned());
    let uri: Uri = base.parse().map_err(|_| form())?;
    let authority = uri.authority().ok_or_else(form)?;
    if authority.as_str().contains('@') || base.contains(['?', '#']) {
        return Err(form());
    }
    match uri.scheme_str() {
        Some("https") => Ok(()),
        Some("http") if is_loopback(authority.host()) => Ok(()),
        Some("http") => Err(ServiceUrlError::NotLoopback(base.to_owned())),
        Some(_) | None => Err(form()),
    }
}

/// By address: a name could be resolved to any machine.
fn is_loopback(host: &str) -> bool {
    host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// RFC 3986, section 2.1. A plus sign stays one: base64 is full of them.
fn percent_decode(bytes: &[u8]) -> Option<String> {
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut rest = bytes.iter().copied();
    while let Some(byte) = rest.next() {
        decoded.push(match byte {
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                let mut value = [0];
                hex::decode_to_slice(digits, &mut value).ok()?;
                value[0]
            }
            other => other,
        });
    }
    String::from_utf8(decoded).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_only_to_this_machine() {
        let check = |base| Service::new(base, Duration::from_secs(1)).map(|service| service.base);
        for good in ["https://pccs.example/api", "http://127.0.0.1:8081", "http://[::1]:8081/", "http://127.9.9.9"] {
            assert_eq!(check(good).unwrap(), good.trim_end_matches('/'));
        }
        for far in ["http://pccs.example", "http://10.0.0.1:8081", "http://localhost.evil.example", "http://localhost"]
        {
            assert_eq!(check(far), Err(ServiceUrlError::NotLoopback(far.into())));
        }
        for odd in
            ["", "pccs.example", "ftp://127.0.0.1", "https://user@host", "https://host/?a=b", "file:///etc/passwd"]
        {
            assert_eq!(check(odd), Err(ServiceUrlError::Form(odd.trim_end_matches('/').into())), "{odd}");
        }
    }

    #[test]
    fn percent_encoding() {
        let decoded = |text: &str| percent_decode(text.as_bytes());
        assert_eq!(decoded("a%0Ab%2b+%2F"), Some("a\nb++/".into()));
        for odd in ["%", "%1", "%zz", "%ff"] {
            assert_eq!(decoded(odd), None, "{odd}");
        }
    }
}
