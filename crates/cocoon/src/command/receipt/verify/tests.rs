//! A receipt with everything beside it, and one thing changed at a time.
#![cfg(feature = "dev")]

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;

use cocoon_attest::policy::Mode;
use cocoon_attest::policy::template::{self, Images, Simulated};
use cocoon_attest::{
    Attester as _, Binding, ChannelBinding, Collateral, CollateralSource as _, Exhibit, Expected, PublicKeys, appraise,
    verify as evidence,
};
use cocoon_receipt::{BodyDigest, Hash, How, ModelHashes, Outcome};
use cocoon_simtee::{Platform, SimImage, TdOptions};
use cocoon_units::{Coefficient, Multipliers, Usage};
use cocoon_wire::message::TokensUsed;
use cocoon_wire::openai::{Edits, edit_request};
use cocoon_wire::usage::{Cost, CostSplicer};
use ed25519_dalek::SigningKey;
use serde_json::json;

use super::*;

/// 2026-11-22, in seconds since the Unix epoch.
const NOW_S: u64 = 1_795_305_600;
const SALT: [u8; 32] = [2; 32];
const MODEL: &str = "smol@c1899de";
const REQUEST: &[u8] = br#"{"model":"smol","messages":[{"role":"user","content":"hi"}]}"#;
const ANSWER: &[u8] = br#"{"choices":[{"message":{"content":"hello"}}],"usage":{"total_tokens":39}}"#;

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

fn key() -> SigningKey {
    SigningKey::from_bytes(&[3; 32])
}

/// An appraisal of a simulated node, and the policy that it was made by.
fn document(role: Role, receipt_key: [u8; 32], model: &str) -> (String, Policy) {
    let platform = Platform::from_seed([1; 32], NOW_S);
    let td = platform.td(TdOptions::new(SimImage::for_role(role)));
    let manifests = [Role::Proxy, Role::Worker].map(|role| SimImage::for_role(role).manifest().sha256());
    let policy = Policy::from_toml(&template::simulated(&Simulated {
        name: "test",
        tdx_root_pem: Some(&platform.root_pem()),
        sev_snp_root_pem: None,
        gpu_root_pem: None,
        images: Images::Of(&manifests),
        roles: &[Role::Proxy, Role::Worker],
        mode: Mode::Strict,
    }))
    .unwrap();
    let claims = Claims {
        version: 1,
        role,
        instance: [7; 16],
        boot: [8; 16],
        time_unix_s: NOW_S,
        config_sha256: [9; 32],
        model: (role == Role::Worker).then(|| model.to_owned()),
        contract: None,
        keys: PublicKeys {
            tls: [0x11; 32],
            session: [12; 32],
            receipt: receipt_key,
            payment: [14; 32],
            wallet: [15; 32],
        },
        gpu_sha256: None,
    }
    .encode();
    let channel = ChannelBinding {
        role,
        attester_spki: [&hex::decode("302a300506032b6570032100").unwrap()[..], &[0x11; 32]].concat(),
        verifier_certificate_sha256: [3; 32],
        nonce: [4; 32],
        exporter: [5; 32],
    };
    let shown = wait(td.evidence(channel.report_data(claims.as_bytes()))).unwrap();
    let need = evidence::collateral_need(&shown.platform).unwrap();
    let collateral: Arc<Collateral> = wait(platform.collateral_source().collateral(&need, NOW_S)).unwrap();
    let binding = Binding::AttestedV2(channel);
    let exhibit = Exhibit { evidence: &shown, claims: claims.as_bytes(), binding: &binding, collateral: &collateral };
    let expected = Expected { role: Some(role), ..Expected::default() };
    let verdict = appraise(&policy, exhibit, &expected, NOW_S).unwrap();
    (Document::record(&policy, exhibit, &expected, &verdict).unwrap().encode(), policy)
}

fn digest(mut digest: BodyDigest, body: &[u8]) -> [u8; 32] {
    digest.update(body);
    digest.finish()
}

fn receipt() -> Receipt {
    let usage = Usage { prompt: 34, cached: 0, completion: 5, reasoning: 0 };
    Receipt {
        id: [1; 32],
        proxy: format!("0:{}", "1f".repeat(32)),
        model: MODEL.to_owned(),
        hashes: ModelHashes { weights: Some(Hash { sha256: [4; 32], how: How::Measured }), ..ModelHashes::default() },
        status: 200,
        outcome: Outcome::Complete,
        usage,
        adjusted: usage.adjust(Coefficient::ONE, &Multipliers::default()).unwrap(),
        coefficient: Coefficient::ONE,
        multipliers: Multipliers::default(),
        started_unix_ms: NOW_S * 1_000,
        ended_unix_ms: NOW_S * 1_000 + 250,
        request_hmac: digest(BodyDigest::request(&SALT), REQUEST),
        answer_hmac: digest(BodyDigest::answer(&SALT), ANSWER),
    }
}

fn kept(receipt: &Receipt) -> ReceiptFile {
    ReceiptFile {
        receipt: receipt.sign(&key()),
        salt: SALT,
        evidence: Some(document(Role::Worker, key().verifying_key().to_bytes(), MODEL).0),
        price: Some(NanoPerToken::new(20)),
        request_hmac: Some(receipt.request_hmac),
        answer_hmac: Some(receipt.answer_hmac),
    }
}

fn given(file: &ReceiptFile) -> Given<'_> {
    Given { file, key: None, policy: None, request: None, max_tokens: 1_000, answer: None, model: None }
}

#[track_caller]
fn check_refused(given: &Given<'_>, check: &str) -> Refused {
    let refused: Refused = verify(given).unwrap_err().downcast().unwrap();
    assert_eq!(refused.check, check, "{refused}");
    assert!(!refused.expected.is_empty() && !refused.found.is_empty() && !refused.remedy.is_empty(), "{refused}");
    refused
}

#[test]
fn a_sound_receipt_is_accepted_and_what_was_not_pinned_is_told() {
    let file = kept(&receipt());
    let report = verify(&given(&file)).unwrap();
    let checks: Vec<&str> = report.passed.iter().map(|(check, _)| *check).collect();
    assert_eq!(checks, ["signature", "attestation", "price", "request", "answer"]);
    for word in ["policy and roots are the document's own", "the time is the recorded one", "SIMULATED"] {
        assert!(report.unpinned.iter().any(|warning| warning.contains(word)), "{word}: {:?}", report.unpinned);
    }
    let told = report.facts().text();
    for word in [MODEL, "0404", "(measured)", "not told", "complete, HTTP 200", "34 of prompt", "0.00000078 TON"] {
        assert!(told.contains(word), "{word} is missing in:\n{told}");
    }
    let object = report.json();
    assert_eq!(
        (&object["accepted"], &object["cost_nano"], &object["usage"]["prompt"]),
        (&json!(true), &json!(780), &json!(34))
    );

    let (_, policy) = document(Role::Worker, key().verifying_key().to_bytes(), MODEL);
    let pinned = Given { policy: Some(policy), ..given(&file) };
    let report = verify(&pinned).unwrap();
    assert!(!report.unpinned.iter().any(|warning| warning.contains("policy")), "{:?}", report.unpinned);
}

#[test]
fn bodies_are_compared_as_they_are_and_as_a_client_changes_them() {
    let file = kept(&receipt());
    let cost = Cost::of(&TokensUsed::from(receipt().adjusted), NanoPerToken::new(20)).unwrap();
    let mut splicer = CostSplicer::new();
    let mut spliced = splicer.push(ANSWER.into()).to_vec();
    spliced.extend_from_slice(&splicer.finish(Some(&cost)));
    assert_ne!(spliced, ANSWER);
    for answer in [ANSWER.to_vec(), spliced] {
        let given = Given { request: Some(REQUEST.to_vec()), answer: Some(answer), ..given(&file) };
        assert!(verify(&given).is_ok());
    }
    // What the app sent, where the client put its limit and left its own fields out.
    let sent = br#"{"model":"smol","max_tokens":1000,"messages":[]}"#;
    let app = br#"{"model":"smol","max_coefficient":2,"messages":[]}"#;
    let edits =
        Edits { strip_cocoon_fields: true, max_tokens_if_missing: Some(77), include_usage: true, ..Edits::default() };
    let travelled = edit_request(&app.to_vec().into(), &edits).unwrap();
    let other = Receipt { request_hmac: digest(BodyDigest::request(&SALT), &travelled), ..receipt() };
    let file = kept(&other);
    let with = |max_tokens| Given { request: Some(app.to_vec()), max_tokens, ..given(&file) };
    assert!(verify(&with(77)).is_ok());
    check_refused(&with(1_000), "request");
    check_refused(&Given { request: Some(sent.to_vec()), ..given(&file) }, "request");
}

#[test]
fn attack_key_that_no_evidence_vouches_for() {
    let receipt = receipt();
    let swapped = ReceiptFile { receipt: receipt.sign(&SigningKey::from_bytes(&[99; 32])), ..kept(&receipt) };
    let refused = check_refused(&given(&swapped), "key");
    assert_eq!(refused.expected, hex::encode(key().verifying_key().to_bytes()));
    let bare = ReceiptFile { evidence: None, ..swapped };
    check_refused(&Given { key: Some(key().verifying_key().to_bytes()), ..given(&bare) }, "key");
    let report = verify(&given(&bare)).unwrap();
    assert!(report.unpinned.iter().any(|warning| warning.contains("whose the key is")), "{:?}", report.unpinned);
    let (_, policy) = document(Role::Worker, [1; 32], MODEL);
    check_refused(&Given { policy: Some(policy), ..given(&bare) }, "attestation");
}

#[test]
fn attack_evidence_of_something_else() {
    let receipt = receipt();
    let key = key().verifying_key().to_bytes();
    let with = |evidence: String| ReceiptFile { evidence: Some(evidence), ..kept(&receipt) };
    check_refused(&given(&with(document(Role::Proxy, key, MODEL).0)), "role");
    let refused = check_refused(&given(&with(document(Role::Worker, key, "large@c1899de").0)), "model");
    assert_eq!((refused.expected.as_str(), refused.found.as_str()), ("large@c1899de", MODEL));
    check_refused(&given(&with("{}".to_owned())), "attestation");
    let (text, _) = document(Role::Worker, key, MODEL);
    let id = Document::decode(text.as_bytes()).unwrap().id().to_owned();
    check_refused(&given(&with(text.replace(&id, &"0".repeat(32)))), "document");
}

#[test]
fn attack_receipt_changed_or_dearer_than_its_counts() {
    let file = kept(&receipt());
    let text = file.encode();
    for (from, to, check) in [
        ("\\\"prompt\\\":34", "\\\"prompt\\\":33", "signature"),
        (&hex::encode(file.receipt.signature())[..], &"00".repeat(64)[..], "signature"),
    ] {
        let changed = ReceiptFile::decode(text.replacen(from, to, 1).as_bytes()).unwrap();
        check_refused(&given(&changed), check);
    }
    let dear = Usage { prompt: 35, ..receipt().usage }.adjust(Coefficient::ONE, &Multipliers::default()).unwrap();
    let inflated = kept(&Receipt { adjusted: dear, ..receipt() });
    let refused = check_refused(&given(&inflated), "price");
    assert_eq!(refused.expected, "34 + 0 + 5 + 0 = 39");
    let absurd = ReceiptFile { price: Some(NanoPerToken::new(u64::MAX)), ..file };
    check_refused(&given(&absurd), "price");
}

#[test]
fn attack_another_request_or_answer_than_the_clients() {
    let file = kept(&receipt());
    check_refused(&given(&ReceiptFile { request_hmac: Some([0; 32]), ..file.clone() }), "request");
    check_refused(&given(&ReceiptFile { answer_hmac: Some([0; 32]), ..file.clone() }), "answer");
    let other = b"{}".to_vec();
    check_refused(&Given { request: Some(other.clone()), ..given(&file) }, "request");
    let refused = check_refused(&Given { answer: Some(other), ..given(&file) }, "answer");
    let object = refused.json();
    assert_eq!((&object["accepted"], &object["refused"]["check"]), (&json!(false), &json!("answer")));
}

/// The default model, where `COCOON_TEST_MODEL` names it.
fn model() -> Option<PathBuf> {
    let path = std::env::var_os("COCOON_TEST_MODEL");
    if path.is_none() {
        eprintln!("skipped: COCOON_TEST_MODEL names no model file");
    }
    path.map(PathBuf::from)
}

#[cfg(feature = "engine-embedded")]
#[test]
fn tokens_are_counted_again() {
    use sha2::{Digest as _, Sha256};

    let Some(model) = model() else { return };
    let sha256 = Sha256::digest(std::fs::read(&model).unwrap()).into();
    let hashes = ModelHashes { weights: Some(Hash { sha256, how: How::Measured }), ..ModelHashes::default() };
    let counted = |prompt, completion, hashes| {
        let usage = Usage { prompt, cached: 0, completion, reasoning: 0 };
        let adjusted = usage.adjust(Coefficient::ONE, &Multipliers::default()).unwrap();
        let file = kept(&Receipt { usage, adjusted, hashes, ..receipt() });
        let given = Given {
            request: Some(REQUEST.to_vec()),
            answer: Some(ANSWER.to_vec()),
            model: Some(&model),
            ..given(&file)
        };
        verify(&given).map(|report| report.passed.iter().map(|(check, _)| *check).collect::<Vec<_>>())
    };
    let refused = |result: Result<Vec<&'static str>>| result.unwrap_err().downcast::<Refused>().unwrap();
    let found = refused(counted(0, 1, hashes));
    assert_eq!(found.check, "prompt", "{found}");
    let exact: u64 = found.expected.split(' ').next().unwrap().parse().unwrap();
    let checks = counted(exact, 2, hashes).unwrap();
    assert_eq!(checks, ["signature", "attestation", "price", "request", "answer", "model", "prompt", "completion"]);
    assert_eq!(refused(counted(exact + 1, 2, hashes)).check, "prompt");
    assert_eq!(refused(counted(exact - 1, 2, hashes)).check, "prompt");
    let found = refused(counted(exact, 100, hashes));
    assert!(found.check == "completion" && found.expected.contains("5 % and 2 tokens a choice"), "{found}");
    assert_eq!(refused(counted(exact, 2, receipt().hashes)).check, "model");
}
