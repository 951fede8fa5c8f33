use cocoon_receipt::{ModelHashes, Outcome};
use cocoon_units::{Coefficient, FixedClock, Pricing, UnixTime, Usage};
use cocoon_wire::message::ReceiptAsk;
use ed25519_dalek::SigningKey;
use serde_json::Value;

use super::*;
use crate::{
    budget::{Budget, Order},
    config::ClientConfig,
};

const NOW_MS: u64 = 1_795_335_274_000;
const ID: [u8; 32] = [1; 32];

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
    SettledRequest { id: ID, tokens: receipt.adjusted.total(), receipt: Some(signed.into()) }
}

/// What the books say after a request ended without a receipt that charged something.
fn charged_without_a_receipt(receipts: &Receipts) -> Value {
    let budget = Arc::new(Budget::in_memory(&ClientConfig::default(), clock()));
    let order = Order {
        contract: None,
        key: None,
        model: "m",
        id: ID,
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
    assert_eq!(receipts.proven(&settled(&receipt())), Some(AdjustedTokens::new(39)));
    let Found::Here { file, verdict } = receipts.find(&ID, &Access::OWNER).await else { panic!("it is kept") };
    assert_eq!((verdict.as_str(), file.answer_hmac), ("accepted; key by nobody", None));
    // After a restart nothing is known of the request but its hold.
    assert_eq!(Receipts::new(clock()).proven(&settled(&receipt())), Some(AdjustedTokens::new(39)));
}

#[tokio::test]
async fn late_receipt_of_another_request() {
    let receipts = Receipts::new(clock());
    receipts.note(asked(), None);
    let none = SettledRequest { receipt: None, ..settled(&receipt()) };
    assert_eq!(receipts.proven(&none), None);
    let other_id = Receipt { id: [3; 32], ..receipt() };
    assert_eq!(receipts.proven(&settled(&other_id)), None);
    let other_model = Receipt { model: "dear".to_owned(), ..receipt() };
    assert_eq!(receipts.proven(&settled(&other_model)), None);
    assert_eq!(receipts.status().refused["model"], 1);
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
    let fault = check(&signed, &asked(), &heard, None).unwrap_err();
    assert!(fault.may_be_news() && fault.code() == "multipliers", "{fault}");
    assert_eq!(check(&signed, &asked(), &heard, Some(weights)), Ok(newer));
    assert!(!Fault::RequestChanged.may_be_news());
}
