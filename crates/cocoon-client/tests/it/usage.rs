//! API keys of a team: each counts for itself, and is told when its day is used up.

use cocoon_client::{ApiKey, ApiKeyConfig, BudgetConfig, ClientConfig};
use cocoon_units::{Nano, NanoPerToken, Pricing};
use cocoon_wire::Version;
use http::{Request, StatusCode};
use http_body_util::Full;
use serde_json::Value;

use crate::rig::{App, MODEL, Proxy, Rig, body, chat_body, check_error, end, request};

/// A member of the team.
struct Member(ApiKey);

impl Member {
    fn new() -> Self {
        Self(ApiKey::generate().unwrap())
    }

    fn config(&self, name: &str) -> ApiKeyConfig {
        ApiKeyConfig { name: name.to_owned(), ..self.0.hash().into() }
    }

    fn chat(&self) -> Request<Full<bytes::Bytes>> {
        let request = request("POST", "/v1/chat/completions").header("content-type", "application/json");
        let request = request.header("authorization", format!("Bearer {}", self.0.expose()));
        request.body(Full::new(chat_body(r#""max_tokens":10"#).into())).unwrap()
    }

    async fn usage(&self, app: &mut App) -> Value {
        let request = request("GET", "/v1/usage").header("authorization", format!("Bearer {}", self.0.expose()));
        let response = app.send(request.body(Full::default()).unwrap()).await;
        assert_eq!(response.status(), StatusCode::OK);
        serde_json::from_slice(&body(response).await).unwrap()
    }
}

/// One nanoTON a token, so that tokens are money.
fn priced() -> ClientConfig {
    let pricing = Pricing { price: NanoPerToken::new(1), ..Pricing::default() };
    ClientConfig { pricing, ..ClientConfig::default() }
}

/// One request, answered with 39 tokens.
async fn ask(app: &mut App, proxy: &mut Proxy, member: &Member) {
    let (response, ()) = tokio::join!(app.send(member.chat()), async {
        let run = proxy.next_run().await;
        proxy.head(run.request_id, "application/json", br#"{"usage":{"prompt_tokens":34}}"#, end());
    });
    assert_eq!(response.status(), StatusCode::OK);
    body(response).await;
}

#[tokio::test(start_paused = true)]
async fn a_team_shares_one_client() {
    let (ann, ben, owner) = (Member::new(), Member::new(), Member::new());
    let api_keys = vec![
        // The template's margin alone is 512 tokens at coefficient 4: the most that one request can cost is 2,400 or so.
        ApiKeyConfig { tokens_per_day: Some(3_000), ..ann.config("ann") },
        ben.config("ben"),
        ApiKeyConfig { is_owner: true, ..owner.config("owner") },
    ];
    let config = ClientConfig { api_keys, ..priced() };
    let (rig, mut proxy) = Rig::ready(config, Version::V2).await;
    let mut app = rig.app().await;
    ask(&mut app, &mut proxy, &ann).await;
    ask(&mut app, &mut proxy, &ben).await;
    ask(&mut app, &mut proxy, &ben).await;

    let seen = ann.usage(&mut app).await;
    assert_eq!(seen["data"].as_array().unwrap().len(), 1, "{seen}");
    let row = &seen["data"][0];
    assert_eq!((&row["key"], &row["model"], &row["date"]), (&"ann".into(), &MODEL.into(), &"2026-11-22".into()));
    assert_eq!((&row["requests"], &row["adjusted_tokens"], &row["cost_nano"]), (&1.into(), &39.into(), &39.into()));
    assert_eq!((&seen["today"]["tokens_limit"], &seen["today"]["adjusted_tokens"]), (&3_000.into(), &39.into()));
    assert!(!ben.usage(&mut app).await.to_string().contains("ann"));
    let all = owner.usage(&mut app).await;
    assert_eq!(all["data"].as_array().unwrap().len(), 2, "{all}");

    // While one request of ann's is open at its most, another does not fit.
    let mut other = rig.app().await;
    let (open, refused) = tokio::join!(app.send(ann.chat()), async {
        let run = proxy.next_run().await;
        let refused = check_error(other.send(ann.chat()).await, 429, "insufficient_quota").await;
        proxy.head(run.request_id, "application/json", b"{}", end());
        refused
    });
    assert_eq!(open.status(), StatusCode::OK);
    assert!(refused["error"]["message"].as_str().unwrap().contains("`ann`"), "{refused}");
    ask(&mut other, &mut proxy, &ann).await;
}

#[tokio::test(start_paused = true)]
async fn a_request_above_the_owners_limit_is_not_sent() {
    let budget = BudgetConfig { per_request: Nano::new(100).into(), ..BudgetConfig::default() };
    let (rig, mut proxy) = Rig::ready(ClientConfig { budget, ..priced() }, Version::Extended).await;
    let mut app = rig.app().await;
    let response = app.chat(chat_body("")).await;
    assert_eq!(response.headers()["x-should-retry"], "false");
    let error = check_error(response, 402, "request_over_limit").await;
    assert_eq!(error["error"]["type"], "insufficient_quota");
    assert!(error["error"]["message"].as_str().unwrap().contains("budget.per_request"), "{error}");
    assert!(proxy.heard().is_empty());
}

#[tokio::test(start_paused = true)]
async fn without_keys_the_caller_is_the_owner() {
    let (rig, mut proxy) = Rig::ready(priced(), Version::V2).await;
    let mut app = rig.app().await;
    let (response, ()) = tokio::join!(app.chat(chat_body("")), async {
        let run = proxy.next_run().await;
        proxy.head(run.request_id, "application/json", b"{}", end());
    });
    body(response).await;
    let usage: Value = serde_json::from_slice(&body(app.get("/v1/usage").await).await).unwrap();
    assert_eq!((&usage["data"][0]["key"], &usage["today"]["cost_nano"]), (&Value::Null, &39.into()));
    assert_eq!(usage["today"]["nano_limit"], 5_000_000_000_u64);
    assert_eq!(rig.handle.status().budget.spent_today_nano, 39);
    assert!(rig.handle.metrics().contains("cocoon_client_spent_nano 39"));
}
