//! What a receipt costs: `cargo run --release -p cocoon-receipt --example receipt_cost`.
//!
//! One thread's time on a CPU (from Linux' scheduler statistics), the median of several rounds: making and signing a receipt, verifying one with everything that
//! a reader checks, the bare Ed25519 operations beside them, the digests of bodies, and the bytes that travel.
//! `--json` prints one object for `cargo xtask bench ledger`.
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a tool for developers")]

use std::hint::black_box;

use cocoon_receipt::{BodyDigest, Receipt, SignedReceipt};
use ed25519_dalek::{Signer, SigningKey};

const ROUNDS: usize = 9;
const OPERATIONS: u32 = 2_000;
const MEBIBYTE: usize = 1 << 20;

fn main() {
    let key = SigningKey::from_bytes(&[3; 32]);
    let verifying = key.verifying_key();
    let receipt = Receipt::example();
    let bytes = receipt.sign(&key).to_bytes();
    let message = &bytes[96..];
    let signature = key.sign(message);
    let block = vec![b'x'; MEBIBYTE];

    let sign = median_us(OPERATIONS, || black_box(receipt.sign(&key).to_bytes()).len());
    let verify = median_us(OPERATIONS, || {
        let read = SignedReceipt::from_bytes(black_box(&bytes)).unwrap();
        read.verify(Some(verifying.as_bytes())).unwrap().model.len()
    });
    let bare_sign = median_us(OPERATIONS, || black_box(key.sign(black_box(message))).to_bytes().len());
    let bare_verify = median_us(OPERATIONS, || {
        verifying.verify_strict(black_box(message), &signature).unwrap();
        0
    });
    let digest = median_us(20, || {
        let mut digest = BodyDigest::answer(&[2; 32]);
        digest.update(black_box(&block));
        usize::from(digest.finish()[0])
    });

    if std::env::args().any(|argument| argument == "--json") {
        println!(
            "{{\"sign_us\":{sign:.2},\"verify_us\":{verify:.2},\"bare_sign_us\":{bare_sign:.2},\
             \"bare_verify_us\":{bare_verify:.2},\"digest_us_per_mib\":{digest:.1},\"bytes\":{}}}",
            bytes.len()
        );
    } else {
        println!("make and sign          {sign:8.2} µs   (Ed25519 alone {bare_sign:.2} µs)");
        println!("read and verify        {verify:8.2} µs   (Ed25519 alone {bare_verify:.2} µs)");
        println!("digest of a body       {digest:8.1} µs a MiB");
        println!("bytes that travel      {:8}", bytes.len());
    }
}

/// Microseconds of one operation: the median of the rounds.
fn median_us(operations: u32, mut operation: impl FnMut() -> usize) -> f64 {
    let mut rounds: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let start = cpu_ns();
            for _ in 0..operations {
                black_box(operation());
            }
            (cpu_ns() - start) / 1e3 / f64::from(operations)
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    rounds[ROUNDS / 2]
}

/// Nanoseconds that this thread has spent on a CPU.
fn cpu_ns() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split_whitespace().next().unwrap().parse().unwrap()
}
