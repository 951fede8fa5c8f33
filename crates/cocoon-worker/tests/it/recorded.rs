//! Our worker against the recorded proxy of the original network (wire.md; `conn0` of the vectors).
//!
//! The recorded queries are sent to our worker, whose engine answers what the recorded engine did;
//! what our worker sends must be the recorded constructors in the recorded order. Ids, times, polls and
//! where parts are cut are aside; JSON values must be equal but for the original's `*_total_cost`.

use std::path::PathBuf;

use bytes::BytesMut;
use cocoon_net::Event as NetEvent;
use cocoon_sim::{Behaviour, Ending, Event};
use cocoon_wire::Version;
use cocoon_wire::http::{HttpRequest, HttpResponse};
use cocoon_wire::message::{Answer, ProxyToWorker, WorkerMessage, WorkerQuery};
use cocoon_wire::packet::{FrameDecoder, Packet};
use cocoon_worker::WorkerConfig;
use serde_json::Value;

use crate::harness::{Bench, TestProxy};

fn vectors() -> Option<PathBuf> {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors");
    #[expect(clippy::disallowed_methods, reason = "the one input of tests that read vectors")]
    let folder = PathBuf::from(std::env::var("COCOON_VECTORS").unwrap_or_else(|_| default.to_owned())).join("wire");
    if folder.is_dir() {
        return Some(folder);
    }
    eprintln!("skipped 2 vectors: {} is missing", folder.display());
    None
}

fn packets(folder: &std::path::Path, name: &str) -> Vec<Packet> {
    let mut bytes = BytesMut::from(&std::fs::read(folder.join(name)).unwrap()[..]);
    let mut decoder = FrameDecoder::new();
    let mut packets = Vec::new();
    while let Some(packet) = decoder.read_from(&mut bytes).unwrap() {
        packets.push(packet);
    }
    packets
}

fn queries(packets: &[Packet]) -> Vec<WorkerQuery> {
    let data = packets.iter().filter_map(|packet| match packet {
        Packet::Query { data, .. } => Some(data.clone()),
        _ => None,
    });
    data.map(|data| WorkerQuery::decode(data).unwrap())
        .filter(|query| *query != WorkerQuery::UpdatePaymentStatus)
        .collect()
}

fn answers(packets: &[Packet]) -> Vec<Answer> {
    let messages = packets.iter().filter_map(|packet| match packet {
        Packet::Message { data } => Some(WorkerMessage::decode(Version::V2, data.clone()).unwrap()),
        _ => None,
    });
    messages
        .map(|message| match message {
            WorkerMessage::Answer(answer) => answer,
            other => panic!("{other:?}"),
        })
        .collect()
}

/// One answer with what is aside left out.
#[derive(Debug, PartialEq)]
struct Summary {
    constructors: Vec<&'static str>,
    status: u16,
    content_type: Option<String>,
    has_times: bool,
    values: Vec<Value>,
    tokens: Option<[u64; 5]>,
}

fn summary(answers: &[Answer], tokens_counted: bool) -> Summary {
    let (mut constructors, mut body, mut head, mut end) = (Vec::new(), Vec::new(), None, None);
    for answer in answers {
        end = answer.end().cloned();
        let name = match answer {
            Answer::Head { response, .. } => {
                let response = HttpResponse::decode(response).unwrap();
                body.extend_from_slice(&response.payload);
                head = Some(response);
                "proxy.queryAnswerEx"
            }
            Answer::Part { body: part, .. } => {
                body.extend_from_slice(part.expose());
                "proxy.queryAnswerPartEx"
            }
            other => panic!("{other:?}"),
        };
        if constructors.last() != Some(&name) {
            constructors.push(name);
        }
    }
    let (head, end) = (head.unwrap(), end.unwrap());
    let tokens = [end.tokens.prompt, end.tokens.cached, end.tokens.completion, end.tokens.reasoning, end.tokens.total];
    Summary {
        constructors,
        status: head.status,
        content_type: head.header("content-type").map(str::to_owned),
        has_times: head.header("x-cocoon-worker-start").is_some()
            && end.worker_start.is_some()
            && end.worker_end.is_some(),
        values: values(&String::from_utf8(body).unwrap()),
        tokens: tokens_counted.then(|| tokens.map(cocoon_units::AdjustedTokens::get)),
    }
}

/// The JSON values of a document, of lines, or of events.
fn values(body: &str) -> Vec<Value> {
    let lines = body.lines().map(|line| line.strip_prefix("data: ").unwrap_or(line)).filter(|line| !line.is_empty());
    lines.map(|line| without_costs(serde_json::from_str(line).unwrap_or_else(|_| Value::from(line)))).collect()
}

fn without_costs(mut value: Value) -> Value {
    if let Some(usage) = value.get_mut("usage").and_then(Value::as_object_mut) {
        usage.retain(|key, _| !key.ends_with("total_cost"));
    }
    value
}

/// What the recorded engine said, made from what the recorded worker passed on.
fn behaviour(answers: &[Answer], streamed: bool) -> Behaviour {
    let head = match &answers[0] {
        Answer::Head { response, .. } => HttpResponse::decode(response).unwrap(),
        other => panic!("{other:?}"),
    };
    let body: Vec<u8> = answers[1..]
        .iter()
        .flat_map(|answer| match answer {
            Answer::Part { body, .. } => body.expose().to_vec(),
            other => panic!("{other:?}"),
        })
        .collect();
    let body = String::from_utf8(body).unwrap();
    if !streamed {
        return Behaviour::json(200, Value::String(body));
    }
    Behaviour::Raw {
        status: 200,
        content_type: head.header("content-type").unwrap().to_owned(),
        headers: Vec::new(),
        events: body.split_inclusive('\n').map(|line| Event::after(30, line)).collect(),
        ending: Ending::Finish,
    }
}

#[tokio::test(start_paused = true)]
async fn our_worker_answers_the_recorded_proxy_as_the_original_did() {
    let Some(folder) = vectors() else { return };
    let from_proxy = packets(&folder, "conn0-port11001-from_proxy.bin");
    let to_proxy = packets(&folder, "conn0-port11001-to_proxy.bin");

    let recorded_queries = queries(&to_proxy);
    let WorkerQuery::Connect(params) = &recorded_queries[0] else { panic!("{recorded_queries:?}") };
    let config = WorkerConfig {
        owner_address: params.owner_address.clone(),
        model: Some(params.model.clone()),
        coefficient: params.coefficient,
        max_active_requests: params.max_active_requests,
        is_test: params.is_test,
        proto_version_min: params.versions.unwrap().min,
        proto_version_max: params.versions.unwrap().max,
        ..WorkerConfig::default()
    };
    let bench = Bench::new(config);
    bench.engine.wait_for(|_| true).await;
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;

    // The recorded answers to the recorded queries, one by one.
    let mut connection = bench.connection().await;
    let outbox = connection.outbox();
    let recorded_answers = from_proxy.iter().filter_map(|packet| match packet {
        Packet::QueryAnswer { data, .. } => Some(data.clone()),
        _ => None,
    });
    let mut asked = Vec::new();
    for answer in recorded_answers.take(recorded_queries.len()) {
        let NetEvent::Query(query) = connection.next().await.unwrap() else { panic!("no query") };
        asked.push(WorkerQuery::decode(query.data).unwrap());
        outbox.answer(query.id, answer.into()).unwrap();
    }
    assert_eq!(asked, recorded_queries);

    let mut proxy = TestProxy::driven(connection, Version::V2, params.clone());
    let recorded_answers = answers(&to_proxy);
    let mut runs = 0;
    for packet in &from_proxy {
        let Packet::Message { data } = packet else { continue };
        let ProxyToWorker::Run(run) = ProxyToWorker::decode(Version::V2, data.clone()).unwrap() else {
            outbox.send(data.clone().into()).unwrap();
            continue;
        };
        let expected: Vec<Answer> =
            recorded_answers.iter().filter(|answer| answer.request_id() == run.request_id).cloned().collect();
        let body = HttpRequest::decode(&run.query).unwrap().payload;
        let streamed = serde_json::from_slice::<Value>(&body).unwrap()["stream"] == true;
        let sse = String::from_utf8_lossy(&body).contains("f=sse");
        bench.engine.push(behaviour(&expected, streamed));
        outbox.send(data.clone().into()).unwrap();
        let mut got = Vec::new();
        while got.last().is_none_or(|answer: &Answer| !answer.is_last()) {
            got.push(proxy.answer().await);
            assert_eq!(got[0].request_id(), run.request_id);
        }
        // The original cannot count the tokens of server-sent events and bills nothing for them.
        assert_eq!(summary(&got, !sse), summary(&expected, !sse));
        if sse {
            assert_eq!(got.last().unwrap().end().unwrap().tokens.total.get(), 38);
        }
        runs += 1;
    }
    assert_eq!(runs, 3);
}
