use std::slice;

use cocoon_receipt::{ModelHashes, Outcome};
use cocoon_units::{AdjustedTokens, Coefficient, FixedClock, Pricing, UnixTime, Usage};
use cocoon_wire::message::{ReceiptAsk, SettledRequest};
use ed25519_dalek::SigningKey;
use serde_json::Value;

use super::*;
use crate::{
    budget::{Budget, Order, Proof},
    config::ClientConfig,
};

const NOW_MS: u64 = 1_795_335_274_000;
const ID: [u8; 32] = [1; 32];
const PROVEN: Proof = Proof::Receipt(AdjustedTokens::new(39));
const DOCUMENT: [u8; 32] = [8; 32];

fn clock() -> Arc<dyn Clock> {
    Arc::new(FixedClock::at(UnixTime::from_secs_f64(1_795_335_274.0)))
}

fn asked() -> Arc<Asked> {
    Arc::new(Asked {
        ask: ReceiptAsk { id: ID, salt: [2; 32] },
        proxy: "0:1f".to_owned(),
        model: "m".into(),
        max_coefficient: Coefficient::ONE,
        pricing: Pricing::default(),
        most: AdjustedTokens::new(1_000),
        request_hmac: check::request_hmac(&[2; 32], b"{}"),
        at_unix_ms: NOW_MS,
    })
}

fn receipt() -> Receipt {
    let usage = Usage { prompt: 30, completion: 9, ..Usage::default() };
    Receipt {
        id: ID,
        proxy: "0:1f".to_owned(),
        model: "m@1".to_owned(),
        hashes: ModelHashes::default(),
        status: 200,
        outcome: Outcome::Stopped,
        usage,
        adjusted: usage.adjust(Coefficient::ONE, &Pricing::default().multipliers).unwrap(),
        coefficient: Coefficient::ONE,
        multipliers: Pricing::default().multipliers,
        started_unix_ms: NOW_MS,
        ended_unix_ms: NOW_MS,
        request_hmac: check::request_hmac(&[2; 32], b"{}"),
        answer_hmac: [9; 32],
    }
}

fn settled(receipt: &Receipt) -> SettledRequest {
    let signed = receipt.sign(&SigningKey::from_bytes(&[7; 32])).to_bytes();
    SettledRequest { id: ID, tokens: receipt.adjusted.total(), receipt: Some(signed.into()), evidence: None }
}

/// The answer of a proxy on a link with attestation, or without.
async fn proof(receipts: &Receipts, settled: &SettledRequest, is_attested: bool) -> Proof {
    receipts.proofs(slice::from_ref(settled), &Weak::new(), is_attested).await[&settled.id]
}

/// What the books say after a request ended without a receipt that charged something.
fn charged_without_a_receipt(receipts: &Receipts) -> Value {
    let budget = Arc::new(Budget::in_memory(&ClientConfig::default(), clock()));
    let order = Order {
        contract: None,
        key: None,
        model: "m",
        id: ID,
        is_by_word: false,
        most: AdjustedTokens::new(100),
        pricing: Pricing::default(),
        coefficient: Coefficient::ONE,
    };
    let hold = budget.hold(&order).unwrap();
    let tokens = TokensUsed::from(receipt().adjusted);
    receipts.end_without_receipt(hold, &asked(), &FinalInfo { tokens, ..FinalInfo::default() });
    assert_eq!(receipts.status().refused["missing"], 1);
    serde_json::to_value(budget.usage(None)).unwrap()[0]["adjusted_tokens"].clone()
}

#[test]
fn charge_without_a_receipt_is_not_owed_where_money_is_paid() {
    let receipts = Receipts::new(clock());
    assert_eq!(charged_without_a_receipt(&receipts), 39, "without money it is only counted");
    let folder = tempfile::tempdir().unwrap();
    let receipts = Receipts::new(clock());
    receipts.open(folder.path()).unwrap();
    assert_eq!(charged_without_a_receipt(&receipts), 0);
}

#[tokio::test]
async fn a_receipt_that_comes_late_is_checked_and_kept() {
    let receipts = Receipts::new(clock());
    receipts.note(asked(), None);
    assert_eq!(proof(&receipts, &settled(&receipt()), false).await, PROVEN);
    let Found::Here { file, verdict } = receipts.find(&ID, &Access::OWNER).await else { panic!("it is kept") };
    assert_eq!((verdict.as_str(), file.answer_hmac), ("accepted; key by nobody", None));
    // After a restart nothing is known of the request but its hold.
    assert_eq!(proof(&Receipts::new(clock()), &settled(&receipt()), false).await, PROVEN);
}

#[tokio::test]
async fn late_receipt_of_another_request() {
    let receipts = Receipts::new(clock());
    receipts.note(asked(), None);
    let none = SettledRequest { receipt: None, ..settled(&receipt()) };
    assert_eq!(proof(&receipts, &none, false).await, Proof::Missing, "what is not shown proves nothing");
    let other_model = Receipt { model: "dear".to_owned(), ..receipt() };
    assert_eq!(proof(&receipts, &settled(&other_model), false).await, Proof::Refused);
    let other_id = Receipt { id: [3; 32], ..receipt() };
    assert_eq!(proof(&receipts, &settled(&other_id), false).await, Proof::Refused);
    assert_eq!(receipts.status().refused["model"], 1);
}

fn worker_key() -> [u8; 32] {
    SigningKey::from_bytes(&[7; 32]).verifying_key().to_bytes()
}

/// With the document of a worker of this key, recorded at that time.
fn with_document(key: [u8; 32], recorded_unix_s: u64) -> Receipts {
    let receipts = Receipts::new(clock());
    receipts.evidence.keep(Arc::new(Judged::of_worker(DOCUMENT, key, recorded_unix_s)));
    receipts
}

/// The proxy withholds the end of a request, and then shows a receipt for all that was held, by a key of its own.
#[tokio::test]
async fn receipt_signed_by_the_proxy_itself() {
    let all = settled(&receipt());
    let receipts = Receipts::new(clock());
    assert_eq!(proof(&receipts, &all, true).await, Proof::Missing, "nobody vouches for the key");
    let named = SettledRequest { evidence: Some(DOCUMENT), ..all.clone() };
    assert_eq!(proof(&receipts, &named, true).await, Proof::Missing, "the document cannot be had");
    assert!(receipts.status().accepted.is_empty());

    let receipts = with_document([5; 32], NOW_MS / 1_000);
    receipts.note(asked(), None);
    assert_eq!(proof(&receipts, &named, true).await, Proof::Refused, "the document is an honest worker's");
    assert_eq!(receipts.status().refused["foreign_key"], 1);
}

#[tokio::test]
async fn an_honest_workers_receipt_that_comes_late_is_vouched_for() {
    let named = SettledRequest { evidence: Some(DOCUMENT), ..settled(&receipt()) };
    let receipts = with_document(worker_key(), NOW_MS / 1_000);
    receipts.note(asked(), None);
    assert_eq!(proof(&receipts, &named, true).await, PROVEN);
    assert_eq!(receipts.status().accepted["self"], 1);
    let receipts = with_document(worker_key(), NOW_MS / 1_000);
    assert_eq!(proof(&receipts, &settled(&receipt()), true).await, PROVEN, "its key is known");

    // The proxy has crashed since, and knows the document that the worker brought when it came back.
    let two_hours_ago = NOW_MS - 7_200_000;
    let before = Receipt { started_unix_ms: two_hours_ago, ended_unix_ms: two_hours_ago, ..receipt() };
    let named = SettledRequest { evidence: Some(DOCUMENT), ..settled(&before) };
    assert_eq!(proof(&with_document(worker_key(), NOW_MS / 1_000), &named, true).await, PROVEN);
}

#[tokio::test]
async fn receipts_and_their_evidence_are_read_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let receipts = Receipts::new(clock());
    receipts.open(folder.path()).unwrap();
    let heard = Heard { tokens: TokensUsed::from(receipt().adjusted), answer_hmac: None, at_unix_ms: NOW_MS };
    let signed = receipt().sign(&SigningKey::from_bytes(&[7; 32]));
    let row = Kept::new(&asked(), None, &heard, &signed, Some([8; 32]), None, words(&Ok(Vouched::Policy)));
    receipts.lock().keep(row, Some(b"{}"));
    drop(receipts);
    let receipts = Receipts::new(clock());
    receipts.open(folder.path()).unwrap();
    let Found::Here { file, verdict } = receipts.find(&ID, &Access::OWNER).await else { panic!("it is kept") };
    assert_eq!((verdict.as_str(), file.evidence.as_deref()), ("accepted; key by policy", Some("{}")));
    assert_eq!(ReceiptFile::decode(file.encode().as_bytes()).unwrap(), *file);
}

#[test]
fn usage_above_the_reservation_is_charged_up_to_it() {
    let signed = receipt().sign(&SigningKey::from_bytes(&[7; 32]));
    let dear = |most| Asked { most: AdjustedTokens::new(most), ..Arc::into_inner(asked()).unwrap() };
    let charged = |most: u64, prompt: u64, completion: u64| {
        let [prompt, completion] = [prompt, completion].map(AdjustedTokens::new);
        let total = prompt.checked_add(completion).unwrap();
        let tokens = TokensUsed { prompt, completion, total, ..TokensUsed::default() };
        let heard = Heard { tokens, answer_hmac: None, at_unix_ms: NOW_MS };
        check(&signed, &dear(most), &heard, None, &VerifiedRoots::default()).map(drop).map_err(|fault| fault.code())
    };
    assert_eq!(charged(1_000, 30, 9), Ok(()), "30 and 9 are signed");
    assert_eq!(charged(35, 30, 5), Ok(()), "the request can cost no more than 35");
    assert_eq!(charged(20, 20, 0), Ok(()));
    for (most, prompt, completion) in [(35, 30, 6), (35, 26, 9 + 1), (1_000, 30, 5), (35, 30, 4)] {
        assert_eq!(charged(most, prompt, completion), Err("counts"), "{prompt} and {completion} of {most}");
    }
}

#[test]
fn a_change_of_weights_makes_no_liar_of_a_proxy_that_hears_of_it_first() {
    let weights =
        Multipliers { prompt: cocoon_units::Multiplier::from_ten_thousandths(20_000), ..Multipliers::default() };
    let newer = Receipt {
        multipliers: weights,
        adjusted: receipt().usage.adjust(Coefficient::ONE, &weights).unwrap(),
        ..receipt()
    };
    let signed = newer.sign(&SigningKey::from_bytes(&[7; 32]));
    let heard = Heard { tokens: TokensUsed::from(newer.adjusted), answer_hmac: None, at_unix_ms: NOW_MS };
    let fault = check(&signed, &asked(), &heard, None, &VerifiedRoots::default()).unwrap_err();
    assert!(fault.may_be_news() && fault.code() == "multipliers", "{fault}");
    assert_eq!(check(&signed, &asked(), &heard, Some(weights), &VerifiedRoots::default()), Ok(newer));
    assert!(!Fault::RequestChanged.may_be_news());
}
