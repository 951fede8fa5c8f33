//! One bounded request after the other: no redirects, no proxy from the environment, a deadline over each.
//!
//! Reads are repeated when the server is busy or down, after a pause that grows. Sends are not: whoever sends knows
//! whether the same bytes may be handed in again.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, sleep_until};
use tycho_types::cell::Cell;
use tycho_types::models::BlockchainConfig;
use ureq::http::Uri;

use super::Config;
use super::answer::{self, Envelope};
use crate::address::Address;
use crate::chain::{Account, ChainError, TxId};
use crate::keys::Secret;
use crate::limits::{
    TONCENTER_BACKOFF, TONCENTER_BODY_BYTES_MAX, TONCENTER_HEADERS_BYTES_MAX, TONCENTER_READS_MAX, TONCENTER_TIMEOUT,
    TONCENTER_WORDS_MAX,
};

const TOO_MANY_REQUESTS: u16 = 429;

/// Why an address is none of an API.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UrlError {
    /// Not an absolute URL without user, query or fragment.
    #[error("{0:?} is no address of toncenter's API: write `https://host[:port]/api/v2`")]
    Form(String),
    /// HTTP to another machine.
    #[error("{0:?} would be asked without TLS: plain http is for this machine only (127.0.0.1, [::1])")]
    NotLoopback(String),
}

/// The server, and when it may be asked next.
pub(super) struct Http {
    wire: Arc<Wire>,
    interval: Duration,
    next: Mutex<Instant>,
}

struct Wire {
    base: String,
    agent: ureq::Agent,
    api_key: Option<Secret>,
}

/// What the server said, as far as it decides what to do next.
enum Said {
    Result(Value),
    /// Asked too often.
    Busy,
    /// No answer, or none that is about the question; it may be different next time.
    Down(String),
    /// An answer to the question: no.
    No(String),
}

impl Http {
    pub(super) fn new(config: Config) -> Result<Self, UrlError> {
        Self::with_timeout(config, TONCENTER_TIMEOUT)
    }

    pub(super) fn with_timeout(config: Config, timeout: Duration) -> Result<Self, UrlError> {
        let base = config.url.trim_end_matches('/').trim_end_matches("/jsonRPC").to_owned();
        check_url(&base)?;
        let agent = ureq::Agent::config_builder()
            .timeout_global(Some(timeout))
            .max_redirects(0)
            .http_status_as_error(false)
            .proxy(None)
            .max_response_header_size(TONCENTER_HEADERS_BYTES_MAX)
            .user_agent("cocoon")
            .build();
        let interval = Duration::from_secs(1) / config.requests_per_second.max(1);
        let wire = Arc::new(Wire { base, agent: agent.into(), api_key: config.api_key });
        Ok(Self { wire, interval, next: Mutex::new(Instant::now()) })
    }

    /// Its address, for errors.
    pub(super) fn endpoint(&self) -> &str {
        &self.wire.base
    }

    pub(super) async fn account(&self, address: &Address) -> Result<Account, ChainError> {
        let value = self.read("getAddressInformation", vec![("address", address.raw())]).await?;
        answer::account(*address, value)
    }

    /// Cells of transactions from `from` (itself among them) back, unchecked.
    pub(super) async fn transactions(
        &self,
        address: &Address,
        from: TxId,
        limit: usize,
    ) -> Result<Vec<Cell>, ChainError> {
        let parameters = vec![
            ("address", address.raw()),
            ("lt", from.lt.to_string()),
            ("hash", hex::encode(from.hash)),
            ("limit", limit.to_string()),
            ("archival", "true".to_owned()),
        ];
        answer::transactions(self.read("getTransactions", parameters).await?)
    }

    pub(super) async fn config(&self) -> Result<BlockchainConfig, ChainError> {
        answer::config(self.read("getConfigAll", Vec::new()).await?)
    }

    /// Hands a message in, once.
    pub(super) async fn send(&self, to: Address, boc: String) -> Result<(), ChainError> {
        self.turn().await;
        match self.ask(move |wire| wire.post("sendBoc", &json!({ "boc": boc }))).await {
            Said::Result(_) => Ok(()),
            Said::Busy => Err(self.busy()),
            Said::Down(reason) | Said::No(reason) => match answer::refusal(&reason) {
                Some(exit_code) => Err(ChainError::Refused { address: to, exit_code }),
                None => Err(self.down(reason)),
            },
        }
    }

    async fn read(&self, method: &'static str, parameters: Vec<(&'static str, String)>) -> Result<Value, ChainError> {
        let mut pause = TONCENTER_BACKOFF;
        let mut attempt = 1;
        loop {
            self.turn().await;
            let parameters = parameters.clone();
            let error = match self.ask(move |wire| wire.get(method, &parameters)).await {
                Said::Result(value) => return Ok(value),
                Said::No(reason) => return Err(answer::bad(method, reason)),
                Said::Busy => self.busy(),
                Said::Down(reason) => self.down(reason),
            };
            if attempt >= TONCENTER_READS_MAX {
                return Err(error);
            }
            attempt += 1;
            sleep(pause).await;
            pause *= 2;
        }
    }

    /// Waits until the next request is allowed. Turns are given in the order of asking.
    async fn turn(&self) {
        let mut next = self.next.lock().await;
        let at = (*next).max(Instant::now());
        *next = at + self.interval;
        drop(next);
        sleep_until(at).await;
    }

    async fn ask(&self, ask: impl FnOnce(&Wire) -> Said + Send + 'static) -> Said {
        let wire = Arc::clone(&self.wire);
        tokio::task::spawn_blocking(move || ask(&wire)).await.unwrap_or_else(|error| Said::Down(error.to_string()))
    }

    fn busy(&self) -> ChainError {
        ChainError::RateLimited { endpoint: self.wire.base.clone() }
    }

    fn down(&self, reason: String) -> ChainError {
        ChainError::Unreachable { endpoint: self.wire.base.clone(), reason }
    }
}

impl Wire {
    fn get(&self, method: &str, parameters: &[(&'static str, String)]) -> Said {
        let mut request = self.agent.get(format!("{}/{method}", self.base));
        for (name, value) in parameters {
            request = request.query(name, value);
        }
        if let Some(key) = &self.api_key {
            request = request.header("X-API-Key", key.expose());
        }
        self.said(request.call())
    }

    fn post(&self, method: &str, body: &Value) -> Said {
        let mut request = self.agent.post(format!("{}/{method}", self.base)).header("Content-Type", "application/json");
        if let Some(key) = &self.api_key {
            request = request.header("X-API-Key", key.expose());
        }
        self.said(request.send(body.to_string()))
    }

    fn said(&self, response: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Said {
        let mut response = match response {
            Ok(response) => response,
            Err(error) => return Said::Down(error.to_string()),
        };
        let status = response.status().as_u16();
        if status == TOO_MANY_REQUESTS {
            return Said::Busy;
        }
        let body = match response.body_mut().with_config().limit(TONCENTER_BODY_BYTES_MAX).read_to_vec() {
            Ok(body) => body,
            Err(error) => return Said::Down(error.to_string()),
        };
        match serde_json::from_slice::<Envelope>(&body) {
            Ok(envelope) if envelope.ok && status == 200 => Said::Result(envelope.result),
            Ok(envelope) if (400..500).contains(&status) || status == 200 => Said::No(words(status, envelope.error)),
            Ok(envelope) => Said::Down(words(status, envelope.error)),
            Err(_) => Said::Down(words(status, None)),
        }
    }
}

/// The server's words, as far as they fit an error message.
fn words(status: u16, said: Option<String>) -> String {
    let said = said.unwrap_or_default();
    let said: String = said.chars().filter(|c| !c.is_control()).take(TONCENTER_WORDS_MAX).collect();
    if said.is_empty() { format!("status {status}") } else { format!("status {status}: {said}") }
}

fn check_url(base: &str) -> Result<(), UrlError> {
    let form = || UrlError::Form(base.to_owned());
    let uri: Uri = base.parse().map_err(|_| form())?;
    let authority = uri.authority().ok_or_else(form)?;
    if authority.as_str().contains('@') || base.contains(['?', '#']) {
        return Err(form());
    }
    match uri.scheme_str() {
        Some("https") => Ok(()),
        Some("http") if is_loopback(authority.host()) => Ok(()),
        Some("http") => Err(UrlError::NotLoopback(base.to_owned())),
        Some(_) | None => Err(form()),
    }
}

/// By address: a name could be resolved to any machine.
fn is_loopback(host: &str) -> bool {
    host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}
