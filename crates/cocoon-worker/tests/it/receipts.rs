//! Receipts: what is signed is what was delivered and billed, whatever became of the request.

use std::sync::Arc;
use std::time::Duration;

use cocoon_receipt::{BodyDigest, Hash, How, ModelHashes, Outcome, Receipt, SignedReceipt};
use cocoon_sim::{Behaviour, Ending, Event, ScriptedEngine};
use cocoon_units::{FixedClock, UnixTime};
use cocoon_wire::RequestId;
use cocoon_wire::failure::{Blame, FailureCode};
use cocoon_wire::message::{ProxyToWorker, ReceiptAsk, WorkerRun};
use cocoon_worker::{OpenAiHttpConfig, ReceiptSigner, Worker, WorkerConfig};
use ed25519_dalek::SigningKey;

use crate::harness::{Bench, InMemory, NOW, TestProxy, Whole, chat, config, id, original, request};

const SALT: [u8; 32] = [8; 32];
const PLAIN: &str = r#"{"model":"scripted","messages":[],"max_tokens":8}"#;
const STREAM: &str = r#"{"model":"scripted","messages":[],"max_tokens":1000,"stream":true}"#;

fn key() -> SigningKey {
    SigningKey::from_bytes(&[3; 32])
}

fn hashes() -> ModelHashes {
    let weights = Some(Hash { sha256: [1; 32], how: How::Measured });
    ModelHashes { weights, ..ModelHashes::default() }
}

async fn connected(config: WorkerConfig) -> (Bench, TestProxy) {
    let engine = Arc::new(ScriptedEngine::in_memory());
    let connector = Arc::new(InMemory(Arc::clone(&engine)));
    let bench = Bench::of(OpenAiHttpConfig::default(), connector, engine, |adapter, proxies| {
        let clock = Arc::new(FixedClock::at(UnixTime::from_secs_f64(NOW)));
        let signer = ReceiptSigner { key: key(), hashes: hashes() };
        Worker::new(config, clock, adapter, proxies).unwrap().with_receipts(signer)
    });
    let mut proxy = bench.accept().await;
    proxy.until_enabled().await;
    (bench, proxy)
}

fn asking(number: u8, run: WorkerRun) -> WorkerRun {
    WorkerRun { receipt: Some(ReceiptAsk { id: [number; 32], salt: SALT }), ..run }
}

/// The verified receipt of an answer, which must say what the final information says, of these bodies.
#[track_caller]
fn receipt(whole: &Whole, number: u8, asked: &str) -> Receipt {
    let end = whole.end.as_ref().unwrap();
    let proof = end.proof.as_ref().expect("no receipt");
    assert_eq!(proof.evidence, None);
    let signed = SignedReceipt::from_bytes(&proof.receipt).unwrap();
    let receipt = signed.verify(Some(key().verifying_key().as_bytes())).unwrap();
    assert_eq!((receipt.id, receipt.proxy.as_str(), receipt.model.as_str()), ([number; 32], "owner", "scripted@c:0"));
    assert_eq!(receipt.hashes, hashes());
    assert_eq!(end.tokens, receipt.adjusted.into());
    let mut request = BodyDigest::request(&SALT);
    request.update(asked.as_bytes());
    assert_eq!(receipt.request_hmac, request.finish());
    let mut answer = BodyDigest::answer(&SALT);
    answer.update(&whole.body());
    assert_eq!(receipt.answer_hmac, answer.finish());
    receipt
}

#[tokio::test(start_paused = true)]
async fn a_whole_answer_and_a_stream() {
    let (bench, mut proxy) = connected(config()).await;
    proxy.run(asking(1, chat(1, PLAIN)));
    let whole = proxy.whole().await;
    let one = receipt(&whole, 1, PLAIN);
    assert_eq!((one.status, one.outcome, one.coefficient.thousandths()), (200, Outcome::Complete, 2000));
    assert_eq!(one.started_unix_ms, 1_700_000_000_500);

    bench.engine.push(Behaviour::tokens(100));
    // The worker adds `include_usage`; the digest is of what the client sent.
    proxy.run(asking(2, chat(2, STREAM)));
    let whole = proxy.whole().await;
    let two = receipt(&whole, 2, STREAM);
    assert_eq!((two.usage.completion, two.outcome), (100, Outcome::Complete));
    assert!(whole.messages > 1);
}

#[tokio::test(start_paused = true)]
async fn bodies_of_any_size_are_digested() {
    let (bench, mut proxy) = connected(config()).await;
    let asked = format!(r#"{{"model":"scripted","messages":[{{"role":"user","content":"{}"}}]}}"#, "x".repeat(300_000));
    let text = "y".repeat(300_000);
    bench.engine.push(Behaviour::json(200, serde_json::json!({"text": text})));
    proxy.run(asking(1, chat(1, &asked)));
    let whole = proxy.whole().await;
    assert!(whole.messages > 4);
    receipt(&whole, 1, &asked);
}

#[tokio::test(start_paused = true)]
async fn a_stopped_stream_counts_what_was_delivered() {
    let (bench, mut proxy) = connected(config()).await;
    bench.engine.push(Behaviour::Tokens { count: 1000, delay_ms: 100, force_usage: false, ending: Ending::Finish });
    proxy.run(asking(1, chat(1, STREAM)));
    tokio::time::sleep(Duration::from_millis(1_050)).await;
    proxy.send(&ProxyToWorker::Cancel { request_id: id(1) });
    let whole = proxy.whole().await;
    assert_eq!(whole.failure.as_ref().unwrap().code, FailureCode::Cancelled);
    let stopped = receipt(&whole, 1, STREAM);
    assert_eq!((stopped.status, stopped.outcome, stopped.usage.prompt), (200, Outcome::Stopped, 0));
    assert!((5..12).contains(&stopped.usage.completion), "{:?}", stopped.usage);
}

#[tokio::test(start_paused = true)]
async fn an_error_answer_has_a_receipt_for_nothing() {
    let (bench, mut proxy) = connected(config()).await;
    bench.engine.push(Behaviour::error(422, "no"));
    bench.engine.push(Behaviour::error(500, "no"));
    for (number, asked, status, outcome) in
        [(1, PLAIN, 422, Outcome::Complete), (2, PLAIN, 502, Outcome::Stopped), (3, "{", 400, Outcome::Stopped)]
    {
        proxy.run(asking(number, chat(number, asked)));
        let receipt = receipt(&proxy.whole().await, number, asked);
        assert_eq!((receipt.status, receipt.outcome), (status, outcome), "{asked}");
        assert_eq!(receipt.adjusted.total().get(), 0);
    }
    bench.engine.push(Behaviour::Raw {
        status: 200,
        content_type: "text/event-stream".to_owned(),
        headers: Vec::new(),
        events: vec![Event::after(1, "data: {\"a\":1}\n\n")],
        ending: Ending::Cut,
    });
    proxy.run(asking(4, chat(4, STREAM)));
    let whole = proxy.whole().await;
    let cut = receipt(&whole, 4, STREAM);
    assert_eq!((cut.status, cut.outcome, cut.adjusted.total().get()), (200, Outcome::Stopped, 0));
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_counts_the_impossible_is_paid_nothing() {
    let (bench, mut proxy) = connected(config()).await;
    for (number, cached) in [(1, 99_u64), (2, u64::MAX)] {
        let usage = serde_json::json!({"prompt_tokens": 9, "completion_tokens": u64::MAX,
            "prompt_tokens_details": {"cached_tokens": cached}});
        bench.engine.push(Behaviour::json(200, serde_json::json!({ "usage": usage })));
        proxy.run(asking(number, chat(number, PLAIN)));
        assert_eq!(receipt(&proxy.whole().await, number, PLAIN).adjusted.total().get(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn reused_receipt_id() {
    let (bench, mut proxy) = connected(config()).await;
    proxy.run(asking(1, chat(1, PLAIN)));
    assert_eq!(proxy.whole().await.status, 200);
    let seen = bench.engine.requests().len();
    proxy.run(asking(1, chat(2, PLAIN)));
    let whole = proxy.whole().await;
    let failure = whole.failure.unwrap();
    assert_eq!((failure.blame, failure.code), (Blame::Client, FailureCode::BadRequest));
    assert_eq!(whole.end.unwrap().proof, None);
    assert_eq!(bench.engine.requests().len(), seen, "the engine saw it");
}

#[tokio::test(start_paused = true)]
async fn nobody_gets_a_receipt_who_did_not_ask() {
    let (_bench, mut proxy) = connected(config()).await;
    proxy.run(chat(1, PLAIN));
    assert_eq!(proxy.whole().await.end.unwrap().proof, None);
    let (_bench, mut proxy) = connected(original()).await;
    proxy.run(WorkerRun { request_id: RequestId::new([9; 32]), ..chat(9, PLAIN) });
    assert_eq!(proxy.whole().await.end.unwrap().proof, None);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_was_never_begun_leaves_its_id_unused() {
    let (bench, mut proxy) = connected(config()).await;
    let cheap = WorkerRun { coefficient: cocoon_units::Coefficient::from_thousandths(1), ..chat(1, PLAIN) };
    proxy.run(asking(1, cheap));
    let whole = proxy.whole().await;
    assert!(whole.failure.is_some() && whole.end.unwrap().proof.is_none());
    proxy.run(asking(1, request(2, "GET", "/v1/models", &[], "")));
    let whole = proxy.whole().await;
    assert_eq!(receipt(&whole, 1, "").adjusted.total().get(), 0);
    drop(bench);
}
