//! What an app asks and is answered is in no log, status or metric of any role, whatever goes wrong.

use cocoon_sim::{Behaviour, Ending, Event};
use serde_json::json;
use tracing_subscriber::filter::LevelFilter;

use super::log::Log;
use super::rig::{Chain, SECRET, Setup, chat_body};

const QUESTION: &str = "MarkerOfTheQuestion";
const ANSWER: &str = "MarkerOfTheAnswer";

fn body(fields: &str) -> String {
    chat_body(fields).replace("\"hi\"", &format!("\"{QUESTION}\""))
}

/// Answers and failures that carry the marker in every place that an engine can put it.
fn behaviours() -> Vec<Behaviour> {
    let raw = |content_type: &str, data: String| Behaviour::Raw {
        status: 200,
        content_type: content_type.to_owned(),
        headers: vec![("x-marker".to_owned(), ANSWER.to_owned())],
        events: vec![Event::now(data)],
        ending: Ending::Cut,
    };
    vec![
        Behaviour::json(200, json!({"choices": [{"message": {"content": ANSWER}}]})),
        Behaviour::Sse {
            events: vec![Event::now(json!({"choices": [{"delta": {"content": ANSWER}}]}).to_string())],
            done: true,
            ending: Ending::Finish,
        },
        raw("text/event-stream", format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"{ANSWER}")),
        raw(&format!("text/{ANSWER}"), ANSWER.to_owned()),
        raw("application/json", ANSWER.to_owned()),
        Behaviour::json(200, json!({"usage": {"prompt_tokens": ANSWER, "completion_tokens": {ANSWER: -1}}})),
        Behaviour::json(
            200,
            json!({"usage": {"prompt_tokens": 1, "prompt_tokens_details": {"cached_tokens": 5}, "completion_tokens": 1}, "x": ANSWER}),
        ),
        Behaviour::error(400, &format!("bad: {QUESTION} {ANSWER}")),
        Behaviour::error(401, &format!("bad: {QUESTION} {ANSWER}")),
        Behaviour::error(500, &format!("bad: {QUESTION} {ANSWER}")),
        Behaviour::error(429, &format!("bad: {QUESTION} {ANSWER}")),
        Behaviour::Close,
    ]
}

/// Bodies that are refused on the way, each with the marker where the fault is.
fn bad_bodies() -> Vec<String> {
    vec![
        format!("{{\"model\":\"scripted\",\"{QUESTION}"),
        format!("{{\"model\":\"scripted\",\"{QUESTION}\":1,\"{QUESTION}\":2}}"),
        format!("{{\"model\":\"scripted\",\"n\":\"{QUESTION}\"}}"),
        format!("{{\"model\":\"scripted\",\"model\":\"{QUESTION}\"}}"),
        format!("{QUESTION}"),
        body(r#""max_tokens":"MarkerOfTheQuestion""#),
        body(r#""request_guid":"MarkerOfTheQuestion""#),
        chat_body("").replace(
            "\"hi\"",
            &format!("[{{\"type\":\"image_url\",\"image_url\":{{\"url\":\"http://{QUESTION}/\"}}}}]"),
        ),
        body("").replace("\"scripted\"", &format!("\"{QUESTION}\"")),
    ]
}

async fn everything(chain: &mut Chain) -> String {
    for behaviour in behaviours() {
        for fields in ["", r#""stream":true"#, r#""stream":true,"enable_debug":true"#] {
            chain.workers.iter().for_each(|worker| worker.engine.set_default(behaviour.clone()));
            chain.ask(&body(fields)).await;
        }
    }
    for bad in bad_bodies() {
        let status = chain.ask(&bad).await.status;
        assert!((400..500).contains(&status) || bad.contains("request_guid"), "{status}: {bad}");
    }
    let event = Event::now(json!({"choices": [{"delta": {"content": ANSWER}}]}).to_string());
    let stall = Behaviour::Sse { events: vec![event], done: false, ending: Ending::Stall };
    for place in [0, 1] {
        chain.workers.iter().for_each(|worker| worker.engine.set_default(stall.clone()));
        let mut app = chain.app().await;
        let mut answer = app.open(&body(r#""stream":true"#)).await;
        answer.next().await.unwrap().unwrap();
        match place {
            0 => drop(answer),
            _ => {
                for worker in &mut chain.workers {
                    worker.die().await;
                }
                answer.rest().await;
            }
        }
    }
    chain.ask(&body("")).await;
    chain.restart_proxy();
    chain.ask(&body("")).await;
    chain.until_idle().await;
    told(chain)
}

/// Everything that the roles tell about themselves.
fn told(chain: &Chain) -> String {
    let mut told = serde_json::to_string(&chain.client.status()).unwrap();
    told += &serde_json::to_string(&chain.proxy.status()).unwrap();
    told += &format!("{:?} {:?} {}", chain.client, chain.proxy, chain.client.metrics() + &chain.proxy.metrics());
    for worker in &chain.workers {
        told += &serde_json::to_string(&worker.handle.status()).unwrap();
        told += &format!("{:?} {}", worker.handle, worker.handle.metrics());
    }
    told
}

#[tokio::test(start_paused = true)]
async fn prompt_never_in_logs() {
    let (log, _guard) = Log::begin(LevelFilter::TRACE);
    let mut chain = Setup::with_workers(2).start().await;
    let told = everything(&mut chain).await;
    let log = log.text();
    for role in ["cocoon_client", "cocoon_proxy", "cocoon_worker"] {
        assert!(log.contains(role), "{role} logs nothing, so this test would prove nothing");
    }
    for marker in [QUESTION, ANSWER, SECRET] {
        assert!(!told.contains(marker), "{marker} in a status");
        let line = log.lines().find(|line| line.contains(marker));
        assert_eq!(line, None, "{marker} in a log");
    }
}
