//! Who may ask: programs of this machine, and pages that this server gave out itself.
//!
//! The socket listens on loopback only, but a browser of this machine opens any page. Two ways lead from such a page to
//! a server that can mint money, and both end here:
//! 1. A name of the attacker's that resolves to 127.0.0.1 (DNS rebinding): the `Host` header names it, and is refused.
//! 2. A request across origins, which the browser sends even where it hides the answer: `Origin` or `Sec-Fetch-Site`
//!    names it, and is refused.

use axum::http::header::{HOST, HeaderName, ORIGIN};
use axum::http::{HeaderMap, HeaderValue};

use super::reply::Refusal;

/// Refuses what a page of somebody else's sent.
pub(super) fn check(headers: &HeaderMap) -> Result<(), Refusal> {
    let host = only(headers, &HOST)?.ok_or_else(|| Refusal::forbidden("the request names no host"))?;
    if !is_local(host) {
        return Err(Refusal::forbidden("this server answers to localhost, 127.0.0.1 and [::1] only"));
    }
    let origin = only(headers, &ORIGIN)?;
    if origin.is_some_and(|origin| origin.strip_prefix("http://") != Some(host)) {
        return Err(Refusal::forbidden("pages of other origins may not use this server"));
    }
    let site = only(headers, &HeaderName::from_static("sec-fetch-site"))?;
    if site.is_some_and(|site| !matches!(site, "same-origin" | "none")) {
        return Err(Refusal::forbidden("pages of other sites may not use this server"));
    }
    Ok(())
}

/// The value of a header that may come once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Refusal> {
    let mut values = headers.get_all(name).iter().map(HeaderValue::to_str);
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(Ok(value)), None) => Ok(Some(value)),
        (Some(_), _) => Err(Refusal::forbidden(&format!("the header {name} comes twice, or is no text"))),
    }
}

/// Whether `name[:port]` can only be this machine.
fn is_local(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|digit| digit.is_ascii_digit()) => name,
        _ => host,
    };
    name.eq_ignore_ascii_case("localhost") || matches!(name, "127.0.0.1" | "[::1]")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(pairs: &[(&'static str, &'static str)]) -> bool {
        let pairs = pairs.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name, value);
        }
        check(&headers).is_ok()
    }

    #[test]
    fn programs_of_this_machine_are_answered() {
        for host in ["localhost", "LOCALHOST:8545", "127.0.0.1:1", "[::1]", "[::1]:8080"] {
            assert!(allowed(&[("host", host)]), "{host}");
        }
        let own_page = [("host", "127.0.0.1:1"), ("origin", "http://127.0.0.1:1"), ("sec-fetch-site", "same-origin")];
        assert!(allowed(&own_page));
    }

    #[test]
    fn a_name_that_was_rebound_to_loopback_is_refused() {
        for host in ["", "evil.example", "evil.example:80", "localhost.evil.example", "127.0.0.1.nip.example:1", "::1"]
        {
            assert!(!allowed(&[("host", host)]), "{host}");
        }
        assert!(!allowed(&[]));
        assert!(!allowed(&[("host", "localhost"), ("host", "evil.example")]));
    }

    #[test]
    fn a_page_of_another_origin_is_refused() {
        for origin in
            ["null", "https://evil.example", "http://localhost:2", "http://127.0.0.1:1", "https://localhost:1"]
        {
            assert!(!allowed(&[("host", "localhost:1"), ("origin", origin)]), "{origin}");
        }
        for site in ["cross-site", "same-site"] {
            assert!(!allowed(&[("host", "localhost:1"), ("sec-fetch-site", site)]), "{site}");
        }
    }
}
