//! What an answer costs and what proves it: receipts asked for, checked, kept, and read by those who may.

use std::sync::{Arc, Mutex, atomic::Ordering};

use bytes::Bytes;
use cocoon_client::{ApiKey, ApiKeyConfig, BudgetConfig, ClientConfig};
use cocoon_receipt::{Receipt, ReceiptFile};
use cocoon_units::{AdjustedTokens, Coefficient, Multiplier, Multipliers, NanoPerToken, Pricing, Usage};
use cocoon_wire::{
    Version,
    failure::FailureCode,
    message::{ClientMessage, ClientRun, FinalInfo, ProxyToClient, TokensUsed},
};
use ed25519_dalek::SigningKey;
use http::{Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use serde_json::Value;
use tokio::time::{Duration, Instant, sleep, timeout};

use crate::rig::{App, Evidence, MODEL, Proxy, Rig, Script, body, chat_body, check_error, end, request};
use crate::worker::{Attested, answer_hmac, end_with, key, receipt};

const PRICE: u64 = 20;
const ANSWER: &[u8] =
    br#"{"choices":[{"message":{"content":"a"}}],"usage":{"prompt_tokens":34,"completion_tokens":15}}"#;

fn config() -> ClientConfig {
    let pricing = Pricing { price: NanoPerToken::new(PRICE), ..Pricing::default() };
    ClientConfig { pricing, ..ClientConfig::default() }
}

/// A client whose proxy has this evidence.
async fn ready(rig: Rig, evidence: &Arc<Evidence>) -> (Rig, Proxy) {
    let script = Script { evidence: Arc::clone(evidence), ..Script::default() };
    let proxy = rig.proxy(script).await;
    rig.until_ready().await;
    (rig, proxy)
}

fn evidence_of(documents: &[([u8; 32], Bytes)]) -> Arc<Evidence> {
    Arc::new(Evidence { documents: Mutex::new(documents.to_vec()), ..Evidence::default() })
}

/// One whole answer, with whatever end the proxy makes of the request.
async fn exchange(
    app: &mut App,
    proxy: &mut Proxy,
    payload: &[u8],
    end: impl FnOnce(&ClientRun) -> FinalInfo,
) -> (ClientRun, Response<Incoming>) {
    let answering = async {
        let run = proxy.next_run().await;
        proxy.head(run.request_id, "application/json", payload, Some(end(&run)));
        run
    };
    let (response, run) = tokio::join!(app.chat(chat_body("")), answering);
    (run, response)
}

/// The receipt that the answer names, and what the client makes of it.
async fn kept(app: &mut App, id: &str) -> (ReceiptFile, String) {
    let response = app.get(&format!("/v1/receipts/{id}")).await;
    assert_eq!(response.status(), StatusCode::OK);
    let verdict = response.headers()["x-cocoon-receipt-verdict"].to_str().unwrap().to_owned();
    (ReceiptFile::decode(&body(response).await).unwrap(), verdict)
}

fn id_of(response: &Response<Incoming>) -> String {
    response.headers()["x-cocoon-receipt"].to_str().unwrap().to_owned()
}

async fn used_tokens(app: &mut App) -> u64 {
    let usage: Value = serde_json::from_slice(&body(app.get("/v1/usage").await).await).unwrap();
    assert_eq!(usage["today"]["held_nano"], 0, "{usage}");
    usage["today"]["adjusted_tokens"].as_u64().unwrap()
}

#[tokio::test(start_paused = true)]
async fn an_answer_comes_with_a_receipt_that_anyone_can_check() {
    let (rig, mut proxy) = ready(Rig::new(config()), &Arc::default()).await;
    let mut app = rig.app().await;
    let (run, response) = exchange(&mut app, &mut proxy, ANSWER, |run| end_with(&receipt(run, ANSWER), None)).await;
    let id = id_of(&response);
    assert_eq!(id, hex::encode(run.receipt.unwrap().id));
    let (file, verdict) = kept(&mut app, &id).await;
    assert_eq!(verdict, "accepted; key by nobody");
    let checked = file.receipt.verify(Some(key().verifying_key().as_bytes())).unwrap();
    assert_eq!(checked, receipt(&run, ANSWER));
    assert_eq!((file.salt, file.price), (run.receipt.unwrap().salt, Some(NanoPerToken::new(PRICE))));
    assert_eq!(file.request_hmac, Some(checked.request_hmac));
    assert_eq!(file.answer_hmac, Some(checked.answer_hmac));
    let status = rig.handle.status();
    assert_eq!(status.receipts.accepted["nobody"], 1);
    assert!(status.receipts.refused.is_empty());
    assert_eq!(used_tokens(&mut app).await, checked.adjusted.total().get());
    assert!(rig.handle.metrics().contains("cocoon_client_receipts_accepted_total{key_by=\"nobody\"} 1"));
}

#[tokio::test(start_paused = true)]
async fn each_workers_evidence_is_fetched_and_judged_once() {
    let attested = Attested::new(1);
    let document = attested.document(&key(), &format!("{MODEL}@1a2b:3c4d"));
    for (policy, word) in [(None, "self"), (Some(attested.policy.clone()), "policy")] {
        let evidence = evidence_of(std::slice::from_ref(&document));
        let rig = match policy {
            None => Rig::new(config()),
            Some(policy) => Rig::with_worker_policy(config(), policy),
        };
        let (rig, mut proxy) = ready(rig, &evidence).await;
        let mut app = rig.app().await;
        for n in 1..=3 {
            let (_, response) =
                exchange(&mut app, &mut proxy, ANSWER, |run| end_with(&receipt(run, ANSWER), Some(document.0))).await;
            let (file, verdict) = kept(&mut app, &id_of(&response)).await;
            assert_eq!(verdict, format!("accepted; key by {word}"));
            assert_eq!(file.evidence.unwrap().as_bytes(), &document.1);
            assert_eq!(rig.handle.status().receipts.accepted[word], n);
        }
        assert_eq!(evidence.asked.load(Ordering::Relaxed), 1);
        assert_eq!(used_tokens(&mut app).await, 3 * 73);
    }
}

/// A receipt that must be refused by this check, for which nothing is owed.
async fn check_refused(code: &str, end: impl FnOnce(&ClientRun) -> FinalInfo) {
    check_refused_by(Rig::new(config()), &Arc::default(), code, end).await;
}

async fn check_refused_by(rig: Rig, evidence: &Arc<Evidence>, code: &str, end: impl FnOnce(&ClientRun) -> FinalInfo) {
    let (rig, mut proxy) = ready(rig, evidence).await;
    let mut app = rig.app().await;
    let (_, response) = exchange(&mut app, &mut proxy, ANSWER, end).await;
    // The answer was delivered before anyone could check.
    assert_eq!(response.status(), StatusCode::OK);
    let id = id_of(&response);
    assert!(body(response).await.starts_with(&ANSWER[..40]));
    let (_, verdict) = kept(&mut app, &id).await;
    assert_eq!(verdict, format!("refused; {code}"));
    let status = rig.handle.status();
    assert_eq!(status.receipts.refused.get(code), Some(&1), "{:?}", status.receipts);
    assert!(status.receipts.accepted.is_empty());
    assert_eq!(used_tokens(&mut app).await, 0, "nothing is owed for it");
}

/// The receipt with one thing changed before the worker signed it.
fn but(run: &ClientRun, change: impl FnOnce(&mut Receipt)) -> FinalInfo {
    let mut changed = receipt(run, ANSWER);
    change(&mut changed);
    end_with(&changed, None)
}

#[tokio::test(start_paused = true)]
async fn reused_receipt_id() {
    let (rig, mut proxy) = ready(Rig::new(config()), &Arc::default()).await;
    let mut app = rig.app().await;
    let (first, _) = exchange(&mut app, &mut proxy, ANSWER, |run| end_with(&receipt(run, ANSWER), None)).await;
    let (_, response) = exchange(&mut app, &mut proxy, ANSWER, |_| end_with(&receipt(&first, ANSWER), None)).await;
    let (_, verdict) = kept(&mut app, &id_of(&response)).await;
    assert_eq!(verdict, "refused; id");
    assert_eq!(used_tokens(&mut app).await, 73, "once, not twice");
}

#[tokio::test(start_paused = true)]
async fn receipt_of_another_model() {
    check_refused("model", |run| but(run, |receipt| receipt.model = "cheap/small".to_owned())).await;
}

#[tokio::test(start_paused = true)]
async fn receipt_of_another_proxy() {
    check_refused("proxy", |run| but(run, |receipt| receipt.proxy = "another".to_owned())).await;
}

#[tokio::test(start_paused = true)]
async fn receipt_for_another_salt() {
    check_refused("request_changed", |run| {
        let mut salted = run.clone();
        salted.receipt.as_mut().unwrap().salt = [9; 32];
        end_with(&receipt(&salted, ANSWER), None)
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn answer_changed_by_the_proxy() {
    check_refused("answer_changed", |run| end_with(&receipt(run, b"what the worker said"), None)).await;
}

#[tokio::test(start_paused = true)]
async fn receipt_dearer_than_the_request_allows() {
    check_refused("coefficient", |run| {
        but(run, |receipt| {
            receipt.coefficient = Coefficient::from_thousandths(1_000_000);
            receipt.adjusted = receipt.usage.adjust(receipt.coefficient, &receipt.multipliers).unwrap();
        })
    })
    .await;
    check_refused("multipliers", |run| {
        but(run, |receipt| {
            receipt.multipliers =
                Multipliers { prompt: Multiplier::from_ten_thousandths(20_000), ..Multipliers::default() };
            receipt.adjusted = receipt.usage.adjust(receipt.coefficient, &receipt.multipliers).unwrap();
        })
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn proxy_charging_beyond_the_receipt() {
    check_refused("counts", |run| {
        let mut info = end_with(&receipt(run, ANSWER), None);
        info.tokens.total = AdjustedTokens::new(info.tokens.total.get() + 1);
        info
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn receipt_signed_in_another_week() {
    check_refused("times", |run| {
        but(run, |receipt| {
            receipt.started_unix_ms -= 7 * 86_400_000;
            receipt.ended_unix_ms = receipt.started_unix_ms;
        })
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn forged_receipt() {
    check_refused("signature", |run| {
        let mut info = end_with(&receipt(run, ANSWER), None);
        let proof = info.proof.as_mut().unwrap();
        // The last digit of a digest inside the signed text.
        let mut bytes = proof.receipt.to_vec();
        let at = bytes.len() - 4;
        bytes[at] = if bytes[at] == b'0' { b'1' } else { b'0' };
        proof.receipt = bytes.into();
        info
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn receipt_key_not_in_the_evidence() {
    let attested = Attested::new(1);
    let document = attested.document(&SigningKey::from_bytes(&[0x55; 32]), MODEL);
    let evidence = evidence_of(std::slice::from_ref(&document));
    let end = |run: &ClientRun| end_with(&receipt(run, ANSWER), Some(document.0));
    check_refused_by(Rig::new(config()), &evidence, "foreign_key", end).await;
}

#[tokio::test(start_paused = true)]
async fn evidence_of_a_worker_of_another_model() {
    let document = Attested::new(1).document(&key(), "cheap/small");
    let evidence = evidence_of(std::slice::from_ref(&document));
    let end = |run: &ClientRun| end_with(&receipt(run, ANSWER), Some(document.0));
    check_refused_by(Rig::new(config()), &evidence, "model", end).await;
}

#[tokio::test(start_paused = true)]
async fn evidence_that_the_policy_does_not_accept() {
    let document = Attested::new(1).document(&key(), MODEL);
    let evidence = evidence_of(std::slice::from_ref(&document));
    let end = |run: &ClientRun| end_with(&receipt(run, ANSWER), Some(document.0));
    let rig = Rig::with_worker_policy(config(), Attested::new(2).policy);
    check_refused_by(rig, &evidence, "evidence", end).await;
    // With a policy, no evidence is no evidence.
    let rig = Rig::with_worker_policy(config(), Attested::new(1).policy);
    check_refused_by(rig, &evidence, "no_evidence", |run| end_with(&receipt(run, ANSWER), None)).await;
}

#[tokio::test(start_paused = true)]
async fn evidence_of_another_content_address() {
    let document = Attested::new(1).document(&key(), MODEL);
    let evidence = evidence_of(&[([1; 32], document.1)]);
    let end = |run: &ClientRun| end_with(&receipt(run, ANSWER), Some([1; 32]));
    check_refused_by(Rig::new(config()), &evidence, "evidence", end).await;
}

#[tokio::test(start_paused = true)]
async fn false_evidence_under_a_true_name_spoils_nothing_for_later() {
    let document = Attested::new(1).document(&key(), MODEL);
    let evidence = evidence_of(&[(document.0, Bytes::from_static(b"{}"))]);
    let (rig, mut proxy) = ready(Rig::new(config()), &evidence).await;
    let mut app = rig.app().await;
    for (text, expected) in [(Bytes::from_static(b"{}"), "refused; evidence"), (document.1, "accepted; key by self")] {
        *evidence.documents.lock().unwrap() = vec![(document.0, text)];
        let end = |run: &ClientRun| end_with(&receipt(run, ANSWER), Some(document.0));
        let (_, response) = exchange(&mut app, &mut proxy, ANSWER, end).await;
        assert_eq!(kept(&mut app, &id_of(&response)).await.1, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn another_apps_receipt_is_not_readable() {
    let keys: Vec<_> = (0..3).map(|_| ApiKey::generate().unwrap()).collect();
    let entry = |key: &ApiKey, name: &str, is_owner| ApiKeyConfig { name: name.into(), is_owner, ..key.hash().into() };
    let api_keys = vec![entry(&keys[0], "a", false), entry(&keys[1], "b", false), entry(&keys[2], "o", true)];
    let (rig, mut proxy) = ready(Rig::new(ClientConfig { api_keys, ..config() }), &Arc::default()).await;
    let mut app = rig.app().await;
    let with_key = |method: &str, path: &str, key: &ApiKey| {
        request(method, path).header("authorization", format!("Bearer {}", key.expose()))
    };
    let sent = with_key("POST", "/v1/chat/completions", &keys[0]).header("content-type", "application/json");
    let answering = async {
        let run = proxy.next_run().await;
        proxy.head(run.request_id, "application/json", ANSWER, Some(end_with(&receipt(&run, ANSWER), None)));
    };
    let (response, ()) = tokio::join!(app.send(sent.body(Full::from(chat_body(""))).unwrap()), answering);
    let path = format!("/v1/receipts/{}", id_of(&response));
    drop(body(response).await);
    for (key, status) in [(&keys[0], 200), (&keys[1], 404), (&keys[2], 200)] {
        let response = app.send(with_key("GET", &path, key).body(Full::default()).unwrap()).await;
        assert_eq!(response.status(), status);
    }
    check_error(app.get(&path).await, 401, "missing_api_key").await;
    // An id that nobody has looks the same as one of somebody else.
    let unknown = format!("/v1/receipts/{}", "0".repeat(64));
    let response = app.send(with_key("GET", &unknown, &keys[1]).body(Full::default()).unwrap()).await;
    check_error(response, 404, "receipt_not_found").await;
}

#[tokio::test(start_paused = true)]
async fn a_receipt_is_pending_until_the_end() {
    let (rig, mut proxy) = ready(Rig::new(config()), &Arc::default()).await;
    let (mut app, mut other) = (rig.app().await, rig.app().await);
    let (response, run) = tokio::join!(app.chat(chat_body(r#""stream":true"#)), async {
        let run = proxy.next_run().await;
        proxy.head(run.request_id, "text/event-stream", b"", None);
        run
    });
    let path = format!("/v1/receipts/{}", id_of(&response));
    let pending = other.get(&path).await;
    assert_eq!((pending.status(), &pending.headers()["retry-after"]), (StatusCode::ACCEPTED, &"1".parse().unwrap()));
    proxy.part(run.request_id, "", Some(end_with(&receipt(&run, b""), None)));
    drop(body(response).await);
    assert_eq!(other.get(&path).await.status(), StatusCode::OK);
    for bad in ["", "zz", "00", &"g".repeat(64)] {
        check_error(other.get(&format!("/v1/receipts/{bad}")).await, 404, "receipt_not_found").await;
    }
}

#[tokio::test(start_paused = true)]
async fn client_hanging_up_before_the_end_to_avoid_paying() {
    let (rig, mut proxy) = ready(Rig::new(config()), &Arc::default()).await;
    let mut app = rig.app().await;
    let (response, run) = tokio::join!(app.chat(chat_body(r#""stream":true"#)), async {
        let run = proxy.next_run().await;
        proxy.head(run.request_id, "text/event-stream", b"data: 1\n\n", None);
        run
    });
    let id = id_of(&response);
    drop((response, app));
    assert_eq!(proxy.next().await, ClientMessage::Cancel { request_id: run.request_id });
    // The worker said more than the app took: its receipt covers all of it.
    let info = end_with(&receipt(&run, b"data: 1\n\ndata: 2\n\n"), None);
    proxy.end_late(run.request_id, info);
    sleep(Duration::from_secs(1)).await;
    let mut app = rig.app().await;
    let (file, verdict) = kept(&mut app, &id).await;
    assert_eq!((verdict.as_str(), file.answer_hmac), ("accepted; key by nobody", None));
    assert_eq!(used_tokens(&mut app).await, 73);
    assert!(rig.handle.status().ready);
}

/// The app is told at its own deadline, however long the proxy takes to say what it came to.
#[tokio::test(start_paused = true)]
async fn deadline_in_the_middle_of_an_answer_to_avoid_paying() {
    for fields in [r#""stream":true,"timeout":3"#, r#""timeout":3"#] {
        let (rig, mut proxy) = ready(Rig::new(config()), &Arc::default()).await;
        let mut app = rig.app().await;
        let began = Instant::now();
        let (received, run) = tokio::join!(async { body(app.chat(chat_body(fields)).await).await }, async {
            let run = proxy.next_run().await;
            proxy.head(run.request_id, "text/event-stream", b"data: 1\n\n", None);
            run
        });
        assert!(String::from_utf8_lossy(&received).contains(r#""code":"timeout""#));
        assert_eq!(began.elapsed(), Duration::from_secs(3));
        sleep(Duration::from_secs(4)).await;
        proxy.end_late(run.request_id, end_with(&receipt(&run, b"data: 1\n\n"), None));
        sleep(Duration::from_secs(1)).await;
        assert_eq!(used_tokens(&mut app).await, 73);
        assert_eq!(rig.handle.status().receipts.accepted["nobody"], 1);
    }
}

/// The first word on a request counts: what was said to be free is not owed later, whoever signs it.
#[tokio::test(start_paused = true)]
async fn proxy_charging_for_what_it_said_was_free() {
    let (rig, mut proxy) = ready(Rig::new(config()), &Arc::default()).await;
    let mut app = rig.app().await;
    let answering = async {
        let run = proxy.next_run().await;
        proxy.fail(run.request_id, FailureCode::Timeout, "it took too long");
        let info = end_with(&receipt(&run, b""), None);
        let settled = ProxyToClient::Settled { request_id: run.request_id, info };
        proxy.outbox.send(settled.encode(Version::Extended)).unwrap();
    };
    let (response, ()) = tokio::join!(app.chat(chat_body("")), answering);
    check_error(response, 504, "timeout").await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(used_tokens(&mut app).await, 0);
    assert!(rig.handle.status().receipts.accepted.is_empty());
    exchange(&mut app, &mut proxy, ANSWER, |run| end_with(&receipt(run, ANSWER), None)).await;
    assert_eq!(used_tokens(&mut app).await, 73);
}

#[tokio::test(start_paused = true)]
async fn charges_without_a_receipt_are_counted() {
    let (rig, mut proxy) = ready(Rig::new(config()), &Arc::default()).await;
    let mut app = rig.app().await;
    let (_, response) = exchange(&mut app, &mut proxy, ANSWER, |_| end().unwrap()).await;
    assert_eq!(rig.handle.status().receipts.refused["missing"], 1);
    check_error(app.get(&format!("/v1/receipts/{}", id_of(&response))).await, 404, "receipt_not_found").await;
}

#[tokio::test(start_paused = true)]
async fn no_receipt_is_asked_for_where_none_can_come() {
    let budget = BudgetConfig { receipts: false, ..BudgetConfig::default() };
    for (config, version) in [(ClientConfig { budget, ..config() }, Version::Extended), (config(), Version::V2)] {
        let (rig, mut proxy) = Rig::ready(config, version).await;
        let mut app = rig.app().await;
        let (run, response) = exchange(&mut app, &mut proxy, ANSWER, |_| end().unwrap()).await;
        assert_eq!(run.receipt, None);
        assert!(!response.headers().contains_key("x-cocoon-receipt"));
        assert_eq!(response.headers()["x-cocoon-cost-nano"], (39 * PRICE).to_string().as_str());
        assert_eq!(used_tokens(&mut app).await, 39);
    }
}

#[tokio::test(start_paused = true)]
async fn the_cost_of_an_answer_is_what_is_charged() {
    let (rig, mut proxy) = ready(Rig::new(config()), &Arc::default()).await;
    let mut app = rig.app().await;
    let mut charged = 0;
    for (prompt, cached, completion, reasoning, coefficient) in
        [(34, 4, 15, 5, 1_500), (1, 1, 0, 0, 999), (7, 3, 11, 11, 1_333), (0, 0, 0, 0, 1_000), (501, 77, 703, 9, 777)]
    {
        let usage = Usage { prompt, cached, completion, reasoning };
        let make = |run: &ClientRun| {
            but(run, |receipt| {
                receipt.usage = usage;
                receipt.coefficient = Coefficient::from_thousandths(coefficient);
                receipt.adjusted = usage.adjust(receipt.coefficient, &receipt.multipliers).unwrap();
            })
        };
        let mut info = FinalInfo::default();
        let (_, response) = exchange(&mut app, &mut proxy, ANSWER, |run| {
            info = make(run);
            info.clone()
        })
        .await;
        let total = info.tokens.total.get() * PRICE;
        charged += total;
        assert_eq!(response.headers()["x-cocoon-cost-nano"], total.to_string().as_str());
        let answer: Value = serde_json::from_slice(&body(response).await).unwrap();
        let usage = &answer["usage"];
        let prompt_cost = (info.tokens.prompt.get() + info.tokens.cached.get()) * PRICE;
        assert_eq!((&usage["total_cost"], &usage["prompt_total_cost"]), (&total.into(), &prompt_cost.into()));
        assert_eq!(usage["completion_total_cost"], total - prompt_cost);
    }
    // What the client's own books say is the same, to the nano.
    let usage: Value = serde_json::from_slice(&body(app.get("/v1/usage").await).await).unwrap();
    assert_eq!(usage["today"]["cost_nano"], charged);
}

#[tokio::test(start_paused = true)]
async fn only_the_usage_event_and_what_follows_waits_for_the_end() {
    const EVENT: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n";
    const USAGE: &str = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":34,\"total_cost\":1}}\n\n";
    const DONE: &str = "data: [DONE]\n\n";
    let (rig, mut proxy) = ready(Rig::new(config()), &Arc::default()).await;
    let mut app = rig.app().await;
    let wishes = r#""stream":true,"stream_options":{"include_usage":true}"#;
    let (response, run) = tokio::join!(app.chat(chat_body(wishes)), async {
        let run = proxy.next_run().await;
        proxy.head(run.request_id, "text/event-stream", b"", None);
        run
    });
    assert!(!response.headers().contains_key("x-cocoon-cost-nano"));
    let mut received = response.into_body();
    for _ in 0..3 {
        proxy.part(run.request_id, EVENT, None);
        let frame = timeout(Duration::from_millis(1), received.frame()).await.expect("it leaves at once");
        assert_eq!(frame.unwrap().unwrap().into_data().unwrap(), EVENT);
    }
    proxy.part(run.request_id, [USAGE, DONE].concat(), None);
    let mut rest = Vec::new();
    while let Ok(Some(frame)) = timeout(Duration::from_secs(1), received.frame()).await {
        rest.extend_from_slice(&frame.unwrap().into_data().unwrap());
    }
    assert_eq!(rest, b"data: {\"choices\":[],\"usage\":{");
    let whole = [EVENT, EVENT, EVENT, USAGE, DONE].concat();
    let info = end_with(&receipt(&run, whole.as_bytes()), None);
    let total = info.tokens.total.get() * PRICE;
    let prompt = (info.tokens.prompt.get() + info.tokens.cached.get()) * PRICE;
    proxy.part(run.request_id, "", Some(info));
    rest.extend_from_slice(&received.collect().await.unwrap().to_bytes());
    let expected = format!(
        "data: {{\"choices\":[],\"usage\":{{\"prompt_tokens\":34,\"total_cost\":{total},\"prompt_total_cost\":{prompt},\
         \"completion_total_cost\":{}}}}}\n\n{DONE}",
        total - prompt
    );
    assert_eq!(String::from_utf8(rest).unwrap(), expected);
    // The digest is of the bytes as they travelled, not of those with the cost in them.
    assert_eq!(rig.handle.status().receipts.accepted["nobody"], 1);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_breaks_off_loses_nothing_that_waited_for_its_cost() {
    const EVENT: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}],\"usage\":{\"prompt_tokens\":3}}\n\n";
    let (rig, mut proxy) = ready(Rig::new(config()), &Arc::default()).await;
    let mut app = rig.app().await;
    let (response, ()) = tokio::join!(app.chat(chat_body(r#""stream":true"#)), async {
        let run = proxy.next_run().await;
        proxy.head(run.request_id, "text/event-stream", [EVENT, EVENT].concat().as_bytes(), None);
        proxy.fail(run.request_id, FailureCode::WorkerLost, "");
    });
    let received = String::from_utf8(body(response).await.to_vec()).unwrap();
    let free = EVENT.replace("3}", r#"3,"prompt_total_cost":0,"completion_total_cost":0,"total_cost":0}"#);
    let error = received.strip_prefix(&format!("{EVENT}{free}")).expect("both events, the last with its cost");
    assert!(error.starts_with("data: {\"error\":") && error.contains("worker_lost"), "{error}");
    assert_eq!(used_tokens(&mut app).await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_stream_names_its_receipt_where_that_is_wanted() {
    let budget = BudgetConfig { receipt_comment: true, ..BudgetConfig::default() };
    let (rig, mut proxy) = ready(Rig::new(ClientConfig { budget, ..config() }), &Arc::default()).await;
    let mut app = rig.app().await;
    let (response, run) = tokio::join!(app.chat(chat_body(r#""stream":true"#)), async {
        let run = proxy.next_run().await;
        let info = end_with(&receipt(&run, b"data: [DONE]\n\n"), None);
        proxy.head(run.request_id, "text/event-stream", b"data: [DONE]\n\n", Some(info));
        run
    });
    let id = hex::encode(run.receipt.unwrap().id);
    assert_eq!(body(response).await, format!(": cocoon-receipt {id}\n\ndata: [DONE]\n\n"));
    assert_eq!(rig.handle.status().receipts.accepted["nobody"], 1);
}

#[tokio::test(start_paused = true)]
async fn ids_and_salts_are_never_used_twice() {
    let (rig, mut proxy) = ready(Rig::new(config()), &Arc::default()).await;
    let mut app = rig.app().await;
    let mut seen = std::collections::HashSet::new();
    for _ in 0..20 {
        let (run, _) = exchange(&mut app, &mut proxy, ANSWER, |_| FinalInfo::default()).await;
        let ask = run.receipt.unwrap();
        assert!(seen.insert(ask.id) && seen.insert(ask.salt) && ask.id != *run.request_id.as_bytes());
        assert_ne!(answer_hmac(&ask, b""), [0; 32]);
    }
    // A request that came to nothing has no receipt, and nothing stays held for it.
    assert_eq!(used_tokens(&mut app).await, 0);
    assert_eq!(TokensUsed::default(), FinalInfo::default().tokens);
}

/// A request with a receipt whose evidence the proxy does not hand out.
async fn waiting_for_evidence() -> (Rig, Proxy, String) {
    let script = Script { evidence: Arc::default(), withholds_evidence: true, ..Script::default() };
    let rig = Rig::new(config());
    let mut proxy = rig.proxy(script).await;
    rig.until_ready().await;
    let mut app = rig.app().await;
    let end = |run: &ClientRun| end_with(&receipt(run, ANSWER), Some([1; 32]));
    let (_, response) = exchange(&mut app, &mut proxy, ANSWER, end).await;
    let id = id_of(&response);
    assert_eq!(app.get(&format!("/v1/receipts/{id}")).await.status(), StatusCode::ACCEPTED);
    (rig, proxy, id)
}

/// It counts in full, until the proxy says what became of it.
async fn check_left_open(rig: &Rig, id: &str) {
    let mut app = rig.app().await;
    let usage: Value = serde_json::from_slice(&body(app.get("/v1/usage").await).await).unwrap();
    assert!(usage["today"]["held_tokens"].as_u64().unwrap() > 73, "{usage}");
    assert_eq!(app.get(&format!("/v1/receipts/{id}")).await.status(), StatusCode::ACCEPTED);
    assert_eq!(rig.handle.status().receipts.refused.get("unchecked"), Some(&1));
}

/// Nothing is owed for it yet, but an honest proxy that forgot the document is not refused for good.
#[tokio::test(start_paused = true)]
async fn evidence_withheld() {
    let (rig, _proxy, id) = waiting_for_evidence().await;
    sleep(Duration::from_secs(90)).await;
    check_left_open(&rig, &id).await;
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_lost_before_the_evidence_came_proves_nobody_guilty() {
    let (rig, proxy, id) = waiting_for_evidence().await;
    proxy.outbox.close();
    sleep(Duration::from_secs(90)).await;
    check_left_open(&rig, &id).await;
}
