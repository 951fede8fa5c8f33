//! The recorded proxy of the original (`vectors/wire`, connection 1) played against this client.
//!
//! The client must ask with the same constructors in the same order (ids, times and polls aside),
//! and give the app the recorded bodies. One difference is on purpose: the original passed the
//! usage event of the server-sent stream on although the app had not asked for it; this client
//! drops it. The `*_total_cost` fields are the original worker's, and pass untouched.

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
};

use bytes::{Bytes, BytesMut};
use cocoon_client::ClientConfig;
use cocoon_net::Event;
use cocoon_wire::{
    Encoded, Version,
    http::HttpRequest,
    message::{Answer, ClientMessage, ClientQuery, ProxyToClient},
    packet::{FrameDecoder, Packet},
};
use http::HeaderMap;

use crate::rig::{Rig, body, envelope};

/// Requests and answers of one connection, as its packets carried them.
struct Recording {
    queries: Vec<Bytes>,
    runs: Vec<Bytes>,
    query_answers: VecDeque<Bytes>,
    messages: VecDeque<Bytes>,
}

fn folder() -> Option<PathBuf> {
    let folder = std::env::var_os("COCOON_VECTORS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/vectors"), PathBuf::from);
    let folder = folder.join("wire");
    if folder.is_dir() {
        return Some(folder);
    }
    eprintln!("skipped: 5 vectors are not at {}", folder.display());
    None
}

fn packets(path: &Path) -> Vec<Packet> {
    let mut decoder = FrameDecoder::new();
    let mut bytes = BytesMut::from(std::fs::read(path).unwrap().as_slice());
    std::iter::from_fn(|| decoder.read_from(&mut bytes).unwrap()).collect()
}

impl Recording {
    fn read(folder: &Path) -> Self {
        let mut recording =
            Self { queries: Vec::new(), runs: Vec::new(), query_answers: VecDeque::new(), messages: VecDeque::new() };
        for packet in packets(&folder.join("conn1-port11002-to_proxy.bin")) {
            match packet {
                Packet::Query { data, .. } => recording.queries.push(data),
                Packet::Message { data } => recording.runs.push(data),
                _ => {}
            }
        }
        for packet in packets(&folder.join("conn1-port11002-from_proxy.bin")) {
            match packet {
                Packet::QueryAnswer { data, .. } => recording.query_answers.push_back(data),
                Packet::Message { data } => recording.messages.push_back(data),
                _ => {}
            }
        }
        recording
    }
}

fn constructor(data: &Bytes) -> [u8; 4] {
    data[..4].try_into().unwrap()
}

fn is_poll(data: &Bytes) -> bool {
    let query = ClientQuery::decode(data.clone()).unwrap();
    matches!(query, ClientQuery::GetWorkerTypesV2 | ClientQuery::UpdatePaymentStatus)
}

/// The recorded bytes with the id of our request in place of the recorded one.
fn with_id(data: &Bytes, recorded: &[u8; 32], ours: &[u8; 32]) -> Encoded {
    let mut data = data.to_vec();
    let at = data.windows(32).position(|window| window == recorded).expect("each message names its request");
    data[at..at + 32].copy_from_slice(ours);
    Encoded::from(Bytes::from(data))
}

fn run(data: Bytes) -> cocoon_wire::message::ClientRun {
    match ClientMessage::decode(Version::V2, data).unwrap() {
        ClientMessage::Run(run) => run,
        other => panic!("not a request: {other:?}"),
    }
}

/// The recorded answer of one request: from its head to the payment note after its end.
fn answer_of(messages: &mut VecDeque<Bytes>) -> Vec<Bytes> {
    let mut answer = Vec::new();
    loop {
        let data = messages.pop_front().expect("every answer is followed by a payment");
        let message = ProxyToClient::decode(Version::V2, data.clone()).unwrap();
        answer.push(data);
        if matches!(message, ProxyToClient::Payment(_)) {
            return answer;
        }
    }
}

fn without_usage_event(body: &str) -> String {
    body.split_inclusive("\n\n").filter(|event| !event.contains("\"usage\":{")).collect()
}

#[tokio::test(start_paused = true)]
async fn the_recorded_proxy_is_answered_as_the_original_did() {
    let Some(folder) = folder() else { return };
    let recording = Recording::read(&folder);
    let config = ClientConfig {
        owner_address: "UQCdj43bBDyeJlfe6FVSpWLfsDMp4YHbmz5lca5-tNz-fx20".to_owned(),
        is_test: true,
        min_config_version: 3,
        ..ClientConfig::default()
    };
    let rig = Rig::new(config);
    let mut connection = rig.pending().await;
    let outbox = connection.outbox();
    let (ours_in, mut ours) = tokio::sync::mpsc::channel(64);
    let mut query_answers = recording.query_answers.clone();
    let (mut messages, runs) = (recording.messages.clone(), recording.runs.clone());
    rig.tasks.spawn(async move {
        let mut runs = runs.into_iter();
        let polled = query_answers[2].clone();
        while let Ok(event) = connection.next().await {
            match event {
                Event::Query(query) => {
                    let answer = if is_poll(&query.data) { polled.clone() } else { query_answers.pop_front().unwrap() };
                    outbox.answer(query.id, Encoded::from(answer)).unwrap();
                    ours_in.send(query.data).await.unwrap();
                }
                Event::Message(data) => {
                    let (recorded, own) = (run(runs.next().unwrap()).request_id, run(data.clone()).request_id);
                    for message in answer_of(&mut messages) {
                        outbox.send(with_id(&message, recorded.as_bytes(), own.as_bytes())).unwrap();
                    }
                    ours_in.send(data).await.unwrap();
                }
                _ => {}
            }
        }
    });
    rig.until_ready().await;

    let mut app = rig.app().await;
    for (recorded, name) in recording.runs.iter().zip(["nonstream", "ndjson", "sse"]) {
        let recorded = run(recorded.clone());
        let response = app.chat(envelope(&recorded).payload).await;
        assert_eq!(response.status(), 200);
        check_headers(response.headers(), name);
        let expected = std::fs::read_to_string(folder.join(format!("http-{name}.body"))).unwrap();
        let expected = if name == "sse" { without_usage_event(&expected) } else { expected };
        assert_eq!(body(response).await, expected.as_bytes(), "{name}");
    }

    ours.close();
    let (mut queries, mut own_runs) = (Vec::new(), Vec::new());
    while let Some(data) = ours.recv().await {
        if ClientQuery::decode(data.clone()).is_ok() { queries.push(data) } else { own_runs.push(data) }
    }
    let order = |all: &[Bytes]| all.iter().filter(|data| !is_poll(data)).map(constructor).collect::<Vec<_>>();
    assert_eq!(order(&queries), order(&recording.queries));
    assert!(queries.iter().any(is_poll));
    assert_eq!(own_runs.len(), recording.runs.len());
    for (own, recorded) in own_runs.iter().zip(&recording.runs) {
        assert_eq!(constructor(own), constructor(recorded));
        check_run(run(own.clone()), run(recorded.clone()));
    }
}

/// Equal but for what is ours on purpose: fresh id, our headers, usage asked for in streams.
fn check_run(mut own: cocoon_wire::message::ClientRun, recorded: cocoon_wire::message::ClientRun) {
    let (own_http, recorded_http) = (envelope(&own), envelope(&recorded));
    own.request_id = recorded.request_id;
    own.query = recorded.query.clone();
    assert_eq!(own, recorded);
    let line = |http: &HttpRequest| (http.method.clone(), http.url.clone());
    assert_eq!(line(&own_http), line(&recorded_http));
    let mut sent: serde_json::Value = serde_json::from_slice(&own_http.payload).unwrap();
    let recorded: serde_json::Value = serde_json::from_slice(&recorded_http.payload).unwrap();
    if recorded["stream"] == true {
        let options = sent.as_object_mut().unwrap().remove("stream_options");
        assert_eq!(options.unwrap()["include_usage"], true);
    }
    assert_eq!(sent, recorded);
}

/// The recorded times pass; end times only where the whole answer was there before its head left.
fn check_headers(headers: &HeaderMap, name: &str) {
    let is_whole = name == "nonstream";
    for role in ["client", "proxy", "worker"] {
        assert!(headers.contains_key(format!("x-cocoon-{role}-start")), "{name}: {role}");
        assert_eq!(headers.contains_key(format!("x-cocoon-{role}-end")), is_whole, "{name}: {role}");
    }
    let expected = if name == "sse" { "text/event-stream" } else { "application/json" };
    assert_eq!(headers["content-type"], expected);
    assert!(!headers.contains_key("connection"));
}

#[tokio::test(start_paused = true)]
async fn version_zero_errors_are_accepted_at_every_version() {
    for version in [Version::V1, Version::V2, Version::Extended] {
        let (rig, mut proxy) = Rig::ready(ClientConfig::default(), version).await;
        let mut app = rig.app().await;
        let refusing = async {
            let run = proxy.next_run().await;
            let failure = cocoon_wire::failure::Failure::new(
                cocoon_wire::failure::Blame::Proxy,
                cocoon_wire::failure::FailureCode::Overloaded,
                "no capacity",
            );
            let end = Some(cocoon_wire::message::FinalInfo::default());
            let refusal = ProxyToClient::Answer(Answer::Failed { request_id: run.request_id, failure, end });
            proxy.outbox.send(refusal.encode(Version::V0)).unwrap();
        };
        let (response, ()) = tokio::join!(app.chat(crate::rig::chat_body("")), refusing);
        let status = response.status().as_u16();
        assert!((400..600).contains(&status), "{version:?}: {status}");
        crate::rig::check_error(response, 429, "overloaded").await;
        assert!(rig.handle.status().ready);
    }
}
