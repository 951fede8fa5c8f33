//! Every pair of protocol versions of the two legs gives apps the same answers.

use cocoon_net::memory::{Chunking, LinkOptions};
use cocoon_sim::{Behaviour, Ending};
use cocoon_wire::Version;
use cocoon_worker::WorkerConfig;

use super::rig::{Chain, Setup, chat_body, stream_body};

const VERSIONS: [Version; 4] = [Version::V0, Version::V1, Version::V2, Version::Extended];

async fn check_pair(client_leg: Version, worker_leg: Version) -> Vec<(u16, String)> {
    let number = worker_leg.number();
    let worker = WorkerConfig { proto_version_min: number, proto_version_max: number, ..WorkerConfig::default() };
    let links = LinkOptions { chunking: Chunking::Random { seed: 3, max: 999 }, ..LinkOptions::default() };
    let chain = Setup { client_leg, workers: vec![worker], links, ..Setup::default() }.start().await;
    assert_eq!(chain.client.status().proxies[0].version, Some(client_leg.number()));
    assert_eq!(chain.workers[0].handle.status().proxies[0].proto_version, Some(number));
    let answers = answers(&chain).await;
    chain.until_idle().await;
    assert_eq!(chain.client.status().tokens_total, chain.charged(), "{client_leg:?} {worker_leg:?}");
    answers
}

async fn answers(chain: &Chain) -> Vec<(u16, String)> {
    let long = |count, delay_ms| Behaviour::Tokens { count, delay_ms, force_usage: true, ending: Ending::Finish };
    let mut answers = Vec::new();
    for (behaviour, body) in [
        (Behaviour::Complete, chat_body("")),
        (Behaviour::Echo, chat_body(r#""tools":[],"seed":7,"x":{"y":[1,2]}"#)),
        (Behaviour::Complete, stream_body("", false)),
        (Behaviour::Complete, stream_body("", true)),
        // More than the credit of an answer, and more than one part.
        (long(3_000, 1), stream_body(r#""max_tokens":3000"#, true)),
        (long(20_000, 0), chat_body(r#""max_tokens":20000"#)),
        (Behaviour::error(400, "no such thing"), chat_body("")),
        (Behaviour::error(422, "no such thing"), stream_body("", false)),
    ] {
        chain.engine().push(behaviour);
        let reply = chain.ask(&body).await;
        answers.push((reply.status, reply.text()));
    }
    answers
}

#[tokio::test(start_paused = true)]
async fn every_pair_of_versions_gives_the_same_bodies() {
    let newest = check_pair(Version::Extended, Version::Extended).await;
    let statuses: Vec<_> = newest.iter().map(|(status, _)| *status).collect();
    assert_eq!(statuses, [200, 200, 200, 200, 200, 200, 400, 422]);
    assert!(newest[4].1.contains("\" t2999\"") && newest[5].1.contains(" t19999"));
    for client_leg in VERSIONS {
        for worker_leg in VERSIONS {
            assert!(check_pair(client_leg, worker_leg).await == newest, "{client_leg:?} and {worker_leg:?} differ");
        }
    }
}
