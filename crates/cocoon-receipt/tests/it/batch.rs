//! Many receipts under one signature.

use cocoon_receipt::limits::{BATCH_MAX, RECEIPT_BYTES_MAX};
use cocoon_receipt::{Receipt, ReceiptError, ReceiptFile, SignedReceipt, VerifiedRoots, sign_all};
use proptest::prelude::*;

use crate::fixture::{key, receipt};

/// Where the place in the batch stands, and where the neighbours begin.
const PLACE: usize = 96;
const NEIGHBOURS: usize = 98;

fn receipts(count: usize) -> Vec<Receipt> {
    let with_id = |number: usize| Receipt { id: [u8::try_from(number).unwrap(); 32], ..receipt() };
    (0..count).map(with_id).collect()
}

fn signed(count: usize) -> Vec<Vec<u8>> {
    sign_all(&receipts(count), &key()).iter().map(SignedReceipt::to_bytes).collect()
}

fn verify(bytes: &[u8]) -> Result<Receipt, ReceiptError> {
    SignedReceipt::from_bytes(bytes)?.verify(Some(key().verifying_key().as_bytes()))
}

#[test]
fn each_receipt_of_a_batch_verifies_by_itself() {
    for count in [1, 2, 3, 5, BATCH_MAX, BATCH_MAX + 3] {
        let receipts = receipts(count);
        for (receipt, bytes) in receipts.iter().zip(signed(count)) {
            assert!(bytes.len() < RECEIPT_BYTES_MAX / 2);
            assert_eq!(verify(&bytes).as_ref(), Ok(receipt), "of {count}");
        }
    }
    assert!(sign_all(&[], &key()).is_empty());
}

#[test]
fn a_batch_of_one_is_what_is_signed_alone() {
    assert_eq!(sign_all(&[receipt()], &key()), [receipt().sign(&key())]);
}

#[test]
fn a_receipt_of_a_batch_survives_a_file() {
    let receipt = sign_all(&receipts(5), &key()).remove(4);
    let file = ReceiptFile {
        receipt: receipt.clone(),
        salt: [2; 32],
        evidence: None,
        price: None,
        request_hmac: None,
        answer_hmac: None,
    };
    let text = file.encode();
    assert_eq!(ReceiptFile::decode(text.as_bytes()).unwrap(), file);
    assert_eq!(receipt.verify(None), Ok(receipts(5).remove(4)));
    for (from, to) in
        [("\"index\": 4", "\"index\": 5"), ("\"size\": 5", "\"size\": 65"), ("\"size\": 5", "\"size\": 7")]
    {
        assert!(text.contains(from));
        assert!(ReceiptFile::decode(text.replace(from, to).as_bytes()).is_err(), "{to}");
    }
}

#[test]
fn attack_another_body_at_a_signed_place() {
    let batch = signed(4);
    let body = |bytes: &[u8]| bytes[NEIGHBOURS + 64..].to_vec();
    for (at, from) in [(0, 1), (1, 2), (3, 0)] {
        let swapped = [&batch[at][..NEIGHBOURS + 64], &body(&batch[from])].concat();
        assert_eq!(verify(&swapped), Err(ReceiptError::Signature));
    }
}

#[test]
fn attack_a_place_in_no_batch() {
    let mut bytes = signed(4).remove(1);
    for place in [[4, 4], [0, 0], [1, 65], [255, 255]] {
        bytes[PLACE..NEIGHBOURS].copy_from_slice(&place);
        assert_eq!(verify(&bytes), Err(ReceiptError::Place { index: place[0], size: place[1] }));
    }
    // A place with more neighbours than bytes.
    let short = &signed(1).remove(0)[..NEIGHBOURS + 40];
    let mut short = short.to_vec();
    short[PLACE..NEIGHBOURS].copy_from_slice(&[0, 64]);
    assert_eq!(verify(&short), Err(ReceiptError::Length { len: short.len() }));
}

#[test]
fn attack_a_verified_root_vouches_for_nothing_else() {
    let roots = VerifiedRoots::default();
    let batch = sign_all(&receipts(3), &key());
    let with = |bytes: &[u8]| SignedReceipt::from_bytes(bytes)?.verify_with(None, &roots);
    let bytes: Vec<_> = batch.iter().map(SignedReceipt::to_bytes).collect();
    assert_eq!(with(&bytes[0]), Ok(receipts(3).remove(0)));
    assert_eq!(with(&bytes[1]), Ok(receipts(3).remove(1)));
    // What it keeps would not verify for whoever reads it next.
    for index in [0, 40, PLACE, NEIGHBOURS, NEIGHBOURS + 70] {
        let mut forged = bytes[2].clone();
        forged[index] ^= 1;
        assert!(with(&forged).is_err(), "byte {index}");
    }
    // Nor does a key that the root was not signed with pass for the one that is expected.
    let other = [9; 32];
    assert!(matches!(batch[2].verify_with(Some(&other), &roots), Err(ReceiptError::Key { .. })));
}

proptest! {
    #[test]
    fn any_change_to_a_batched_receipt_is_noticed(count in 1_usize..=BATCH_MAX, pick: prop::sample::Index, at: prop::sample::Index, bit in 0_u8..8) {
        let mut batch = signed(count);
        let mut bytes = batch.swap_remove(pick.index(count));
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        prop_assert!(verify(&bytes).is_err(), "byte {at}");
    }
}
