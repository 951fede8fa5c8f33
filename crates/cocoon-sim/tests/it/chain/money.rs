//! Engines that lie about usage: nobody is charged more than was reserved.

use cocoon_sim::{Behaviour, Event};
use cocoon_units::Coefficient;
use cocoon_wire::Version;
use cocoon_worker::WorkerConfig;
use serde_json::{Value, json};

use super::rig::{Chain, Setup, chat_body, stream_body};

/// Tokens that the proxy allows a chat template.
const TEMPLATE_TOKENS: u64 = 512;
const PRICE_CAP: u64 = 3;
const MAX_TOKENS: u64 = 7;

fn wishes() -> String {
    format!(r#""max_tokens":{MAX_TOKENS},"max_coefficient":{}"#, PRICE_CAP * 1000)
}

fn plain(usage: &Value) -> Behaviour {
    Behaviour::json(200, json!({"choices": [], "usage": usage}))
}

fn streamed(usage: &Value) -> Behaviour {
    let events = [json!({"choices": [{"delta": {"content": "x"}}]}), json!({"choices": [], "usage": usage})];
    let events = events.map(|event| Event::now(event.to_string())).to_vec();
    Behaviour::Sse { events, done: true, ending: Default::default() }
}

/// Asks once plain and once streamed, and gives what each was charged.
async fn charged(chain: &Chain, usage: &Value) -> [u64; 2] {
    let mut charged = [0; 2];
    for (place, body, behaviour) in
        [(0, chat_body(&wishes()), plain(usage)), (1, stream_body(&wishes(), true), streamed(usage))]
    {
        let before = chain.charged();
        chain.engine().push(behaviour);
        let reply = chain.ask(&body).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        chain.until_idle().await;
        charged[place] = chain.charged() - before;
        let told = chain.client.status().tokens_total;
        assert_eq!(told, chain.charged(), "the client is told what it is charged");
    }
    charged
}

/// The most that the last two requests may cost.
fn reserved(chain: &Chain) -> [u64; 2] {
    let records = chain.engine().requests();
    let cost = |back: usize| {
        let body = &records[records.len() - back].body;
        (u64::try_from(body.len()).unwrap() + TEMPLATE_TOKENS + MAX_TOKENS) * PRICE_CAP
    };
    [cost(2), cost(1)]
}

fn legs() -> [(Version, WorkerConfig); 4] {
    let dear = WorkerConfig { coefficient: Coefficient::from_thousandths(2_000), ..WorkerConfig::default() };
    let old = WorkerConfig { proto_version_min: 1, proto_version_max: 2, ..dear.clone() };
    [(Version::Extended, dear.clone()), (Version::V2, dear), (Version::Extended, old.clone()), (Version::V1, old)]
}

#[tokio::test(start_paused = true)]
async fn usage_above_the_reservation_is_charged_at_the_reservation() {
    let lies = [
        json!({"prompt_tokens": 1_000_000_000, "completion_tokens": 1_000_000_000}),
        json!({"prompt_tokens": 1_000_000_000, "completion_tokens": 7}),
        json!({"prompt_tokens": 9, "completion_tokens": 1_000_000_000}),
        json!({"prompt_tokens": u32::MAX, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": u32::MAX}}),
    ];
    for (client_leg, worker) in legs() {
        let chain = Setup { client_leg, workers: vec![worker], ..Setup::default() }.start().await;
        for lie in &lies {
            assert_eq!(charged(&chain, lie).await, reserved(&chain), "{client_leg:?} {lie}");
        }
        assert_eq!(chain.proxy.status().tally.overcharges, 2 * 4);
    }
}

#[tokio::test(start_paused = true)]
async fn honest_usage_is_charged_as_it_is() {
    for (client_leg, worker) in legs() {
        let chain = Setup { client_leg, workers: vec![worker], ..Setup::default() }.start().await;
        let usage = json!({
            "prompt_tokens": 20, "prompt_tokens_details": {"cached_tokens": 5},
            "completion_tokens": 7, "completion_tokens_details": {"reasoning_tokens": 2},
        });
        assert_eq!(charged(&chain, &usage).await, [2 * 27; 2]);
        assert_eq!(chain.proxy.status().tally.overcharges, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn impossible_usage_never_breaks_the_chain() {
    let chain = Setup::default().start().await;
    for lie in [
        json!({"prompt_tokens": u64::MAX, "completion_tokens": u64::MAX}),
        json!({"prompt_tokens": 1, "prompt_tokens_details": {"cached_tokens": 2}, "completion_tokens": 1}),
        json!({"prompt_tokens": -1, "completion_tokens": -1}),
        json!({"prompt_tokens": 1e300, "completion_tokens": "7"}),
        json!([]),
        json!(null),
    ] {
        let [plain, streamed] = charged(&chain, &lie).await;
        let [plain_most, streamed_most] = reserved(&chain);
        assert!(plain <= plain_most && streamed <= streamed_most, "{lie}: {plain} and {streamed}");
    }
}
