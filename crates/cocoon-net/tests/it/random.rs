//! Whatever the transport does to the byte stream, the messages arrive whole and in order.

use std::time::Duration;

use cocoon_net::memory::{Chunking, LinkOptions, memory_pair_with};
use proptest::prelude::*;
use tokio::task::JoinSet;

use crate::support::{drive, encoded, next_message};

#[derive(Debug, Clone)]
struct Case {
    options: LinkOptions,
    lengths: Vec<usize>,
    cancel_after_ms: u64,
}

fn cases() -> impl Strategy<Value = Case> {
    let length = prop_oneof![6 => 0..300_usize, 2 => 3_000..10_000_usize, 1 => 60_000..65_536_usize];
    let chunk = prop_oneof![1..16_usize, 1000..100_000_usize];
    (any::<u64>(), chunk, 1..100_000_usize, 0..20_u64, proptest::collection::vec(length, 1..40), 1..50_u64).prop_map(
        |(seed, max, capacity, latency_ms, lengths, cancel_after_ms)| Case {
            options: LinkOptions {
                latency: Duration::from_millis(latency_ms),
                capacity: capacity.max(max),
                chunking: Chunking::Random { seed, max },
            },
            lengths,
            cancel_after_ms,
        },
    )
}

fn content(n: usize, len: usize) -> Vec<u8> {
    (0..len).map(|at| (n.wrapping_mul(31) ^ at).to_le_bytes()[0]).collect()
}

async fn deliver(case: Case) {
    let (near, mut far, _link) = memory_pair_with("random", case.options);
    let outbox = near.outbox();
    let mut tasks = JoinSet::new();
    tasks.spawn(drive(near));
    for (n, len) in case.lengths.iter().enumerate() {
        outbox.send(encoded(content(n, *len))).unwrap();
    }
    let mut expected = case.lengths.iter().enumerate();
    while expected.len() > 0 {
        tokio::select! {
            biased;
            data = next_message(&mut far) => {
                let (n, len) = expected.next().unwrap();
                assert!(data == content(n, *len), "message {n}");
            }
            () = tokio::time::sleep(Duration::from_millis(case.cancel_after_ms)) => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn random_chunks_deliver_the_same_sequence(case in cases()) {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap()
            .block_on(deliver(case));
    }
}
