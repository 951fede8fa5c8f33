//! What `chat` knows of the endpoint's address, and of who is missing behind it.

use std::net::IpAddr;

use anyhow::{Result, anyhow, bail};
use serde_json::Value;
use ureq::http::Uri;

use crate::command::up::PORT;

/// The base address of the OpenAI API: `/v1` is added where nothing but a host is given.
pub(super) fn base_url(given: &str) -> Result<String> {
    let trimmed = given.trim_end_matches('/');
    let Some((_, rest)) = trimmed.split_once("://") else {
        bail!("--url {given} is not a web address: write http://{trimmed}");
    };
    Ok(if rest.contains('/') { trimmed.to_owned() } else { format!("{trimmed}/v1") })
}

/// Where a client says what it is waiting for; it is beside the OpenAI API, not below it.
pub(super) fn ready_url(base: &str) -> String {
    format!("{}/readyz", base.trim_end_matches("/v1"))
}

/// What an operator of a client without a proxy can look at; the sentence is about the client.
pub(super) const NO_PROXY: &str = "has no proxy: does one run at an address under the client's `proxies`, does the \
    proxy's `client_secret_hash` match the client's `auth_secret` (`cocoon key secret` makes the pair), and does the \
    client's `policy` accept it (`cocoon attest peer` tries one)?";

/// Reads what `/readyz` says; the sentence is about the client.
pub(super) fn who_is_missing(readyz: &str) -> &'static str {
    let told: Value = serde_json::from_str(readyz).unwrap_or(Value::Null);
    match (told["proxies_ready"].as_u64(), told["models"].as_u64()) {
        (Some(0), _) => NO_PROXY,
        (Some(_), Some(0)) => {
            "has a proxy, which has no worker: does a worker run with that proxy under its `proxies`, and is its \
             engine ready?"
        }
        _ => "offers no model",
    }
}

/// What to do when the connection is refused.
pub(super) fn nobody_listens(base: &str) -> anyhow::Error {
    let uri: Uri = base.parse().unwrap_or_default();
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let is_local = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    match uri.port_u16() {
        _ if !is_local => anyhow!("nothing listens at {base}: is the client running there?"),
        Some(PORT) | None => anyhow!("nothing listens at {base}: start it with: cocoon up"),
        Some(port) => anyhow!("nothing listens at {base}: start it with: cocoon up --port {port}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_completed() {
        for given in ["http://127.0.0.1:18500", "http://127.0.0.1:18500/", "http://127.0.0.1:18500/v1/"] {
            assert_eq!(base_url(given).unwrap(), "http://127.0.0.1:18500/v1");
        }
        assert_eq!(base_url("https://host/openai/v1").unwrap(), "https://host/openai/v1");
        let error = base_url("127.0.0.1:18500").unwrap_err().to_string();
        assert!(error.contains("write http://127.0.0.1:18500"), "{error}");
        assert_eq!(ready_url("http://127.0.0.1:18500/v1"), "http://127.0.0.1:18500/readyz");
    }

    #[test]
    fn the_right_party_is_blamed() {
        let check = |told: &str, word: &str| assert!(who_is_missing(told).contains(word), "{told}");
        check(r#"{"ready":false,"proxies_ready":0,"models":0}"#, "has no proxy");
        check(r#"{"ready":false,"proxies_ready":1,"models":0}"#, "no worker:");
        check(r#"{"error":{}}"#, "offers no model");
        check("", "offers no model");
    }

    #[test]
    fn the_port_is_part_of_the_advice() {
        let advice = |base: &str| nobody_listens(base).to_string();
        assert!(advice("http://127.0.0.1:10000/v1").ends_with("cocoon up"));
        assert!(advice("http://[::1]:18500/v1").ends_with("cocoon up --port 18500"));
        assert!(!advice("http://192.0.2.1:80/v1").contains("cocoon up"));
    }
}
