//! Asks a running client, which has the wallet, at its own endpoint.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use cocoon_client::ClientConfig;
use cocoon_ton::Address;
use serde_json::{Value, json};
use ureq::Agent;

use super::super::ton::Said;
use crate::limits;
use crate::words::safe;

/// Has it withdraw.
pub(super) async fn withdraw(config: &ClientConfig, key: Option<&str>, contract: Option<Address>) -> Result<Said> {
    Ok(super::said(&post(config, key, "withdraw", contract).await?, super::NOTHING_ABOVE))
}

/// Has it close.
pub(super) async fn close(config: &ClientConfig, key: Option<&str>, contract: Option<Address>) -> Result<Said> {
    Ok(super::said(&post(config, key, "close", contract).await?, super::NONE_OPEN))
}

/// Why a running client sends no requests to some of its proxies, in words; nothing where none runs.
pub(super) async fn doubts(config: &ClientConfig) -> Option<Vec<String>> {
    let url = format!("http://{}/readyz", reachable(config.listen));
    let asked = tokio::task::spawn_blocking(move || {
        let mut answer = agent(limits::CLIENT_CONNECT_TIMEOUT).get(&url).call().ok()?;
        let text = answer.body_mut().with_config().limit(limits::CLIENT_READY_BYTES_MAX).read_to_string().ok()?;
        let told: Value = serde_json::from_str(&text).ok()?;
        let doubts = told.get("proxies_in_doubt")?.as_array()?;
        Some(doubts.iter().filter_map(|words| words.as_str().map(safe)).collect())
    });
    asked.await.ok()?
}

fn agent(response_timeout: Duration) -> Agent {
    Agent::config_builder()
        .timeout_connect(Some(limits::CLIENT_CONNECT_TIMEOUT))
        .timeout_recv_response(Some(response_timeout))
        .http_status_as_error(false)
        // The endpoint is a local one.
        .proxy(None)
        .build()
        .into()
}

async fn post(config: &ClientConfig, key: Option<&str>, command: &str, contract: Option<Address>) -> Result<Value> {
    let url = format!("http://{}/v1/budget/{command}", reachable(config.listen));
    let body = contract.map_or_else(|| json!({}), |contract| json!({ "contract": contract }));
    let key = key.map(|key| format!("Bearer {key}"));
    let asked = tokio::task::spawn_blocking(move || ask(&url, key.as_deref(), &body));
    asked.await.context("the question was interrupted")?
}

fn ask(url: &str, key: Option<&str>, body: &Value) -> Result<Value> {
    let mut request = agent(limits::CLIENT_COMMAND_TIMEOUT).post(url).content_type("application/json");
    if let Some(key) = key {
        request = request.header("authorization", key);
    }
    let answer = request.send(body.to_string());
    let mut answer = answer.with_context(|| {
        format!("the wallet is in use, by a client it seems, and none answers at {url}: stop whatever uses it")
    })?;
    let text = answer.body_mut().read_to_string().unwrap_or_default();
    let value: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
    if answer.status().is_success() {
        return Ok(value);
    }
    let words = value.pointer("/error/message").and_then(Value::as_str).unwrap_or("it gave no reason");
    let hint = match answer.status().as_u16() {
        401 | 403 => ": give an owner's key with --api-key or COCOON_API_KEY, or stop the client and call this again",
        _ => "",
    };
    Err(anyhow!("the running client refused: {words}{hint}"))
}

/// The address at which this host reaches a listener.
fn reachable(listen: SocketAddr) -> SocketAddr {
    match listen.ip() {
        ip if !ip.is_unspecified() => listen,
        IpAddr::V4(_) | IpAddr::V6(_) => SocketAddr::new(Ipv4Addr::LOCALHOST.into(), listen.port()),
    }
}
