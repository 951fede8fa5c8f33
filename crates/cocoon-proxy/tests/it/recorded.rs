//! The recorded session of the original nodes, played against this proxy: it must answer with the
//! same constructors in the same order (ids, times, polls and part boundaries aside), and pass the
//! same bodies.

use std::collections::HashMap;
use std::path::PathBuf;

use bytes::{Bytes, BytesMut};
use cocoon_proxy::{Hex32, ProxyConfig};
use cocoon_wire::message::{Answer, ClientMessage, ProxyToClient, ProxyToWorker, WorkerMessage};
use cocoon_wire::packet::{FrameDecoder, Packet};
use cocoon_wire::{RequestId, Version};

use crate::peers::{Peer, World};

fn packets(file: &str) -> Option<Vec<Packet>> {
    let default = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/vectors");
    #[expect(clippy::disallowed_methods, reason = "the folder of vectors is told by the environment")]
    let folder = std::env::var("COCOON_VECTORS").map_or(default, PathBuf::from);
    let bytes = match std::fs::read(folder.join("wire").join(file)) {
        Ok(bytes) => bytes,
        Err(error) => {
            println!("skipped 1 vector: {file}: {error}");
            return None;
        }
    };
    let mut buffer = BytesMut::from(&bytes[..]);
    let mut decoder = FrameDecoder::default();
    let mut packets = Vec::new();
    while let Some(packet) = decoder.read_from(&mut buffer).unwrap() {
        packets.push(packet);
    }
    assert!(buffer.is_empty());
    Some(packets)
}

/// The constructor of a message or an answer.
fn constructor(data: &Bytes) -> u32 {
    u32::from_le_bytes(data[..4].try_into().unwrap())
}

fn queries(packets: &[Packet]) -> Vec<Bytes> {
    packets.iter().filter_map(|p| if let Packet::Query { data, .. } = p { Some(data.clone()) } else { None }).collect()
}

fn messages(packets: &[Packet]) -> Vec<Bytes> {
    packets.iter().filter_map(|p| if let Packet::Message { data } = p { Some(data.clone()) } else { None }).collect()
}

fn answers(packets: &[Packet]) -> Vec<u32> {
    let data = |p: &Packet| if let Packet::QueryAnswer { data, .. } = p { Some(constructor(data)) } else { None };
    packets.iter().filter_map(data).collect()
}

fn body_of(answer: &Answer) -> Bytes {
    match answer {
        Answer::Head { response, .. } => cocoon_wire::http::HttpResponse::decode(response).unwrap().payload,
        Answer::Part { body, .. } => body.expose().clone(),
        other => panic!("unexpected {other:?}"),
    }
}

/// The concatenated bodies of the answers in a list of messages, in order.
fn bodies(messages: &[Bytes]) -> Vec<u8> {
    let mut all = Vec::new();
    for data in messages {
        if let ProxyToClient::Answer(answer) = ProxyToClient::decode(Version::V2, data.clone()).unwrap() {
            all.extend_from_slice(&body_of(&answer));
        }
    }
    all
}

/// Constructors without repeated parts, whose boundaries may differ.
fn shape(messages: &[Bytes]) -> Vec<u32> {
    let mut shape: Vec<u32> = messages.iter().map(constructor).collect();
    shape.dedup();
    shape
}

/// The recorded answers of the worker, by request in the order of the requests.
fn recorded_answers(to_proxy: &[Packet]) -> Vec<Vec<Answer>> {
    let mut places: HashMap<RequestId, usize> = HashMap::new();
    let mut answers: Vec<Vec<Answer>> = Vec::new();
    for data in messages(to_proxy) {
        let WorkerMessage::Answer(answer) = WorkerMessage::decode(Version::V2, data).unwrap() else { continue };
        let place = *places.entry(answer.request_id()).or_insert(answers.len());
        if place == answers.len() {
            answers.push(Vec::new());
        }
        answers[place].push(answer);
    }
    answers
}

async fn ask_all(peer: &Peer, queries: &[Bytes]) -> Vec<u32> {
    let mut constructors = Vec::new();
    for query in queries {
        constructors.push(constructor(&peer.ask(query.clone().into()).await.unwrap()));
    }
    constructors
}

#[tokio::test(start_paused = true)]
async fn the_recorded_session_is_answered_as_the_original_did() {
    let Some(worker_says) = packets("conn0-port11001-to_proxy.bin") else { return };
    let Some(worker_heard) = packets("conn0-port11001-from_proxy.bin") else { return };
    let Some(client_says) = packets("conn1-port11002-to_proxy.bin") else { return };
    let Some(client_heard) = packets("conn1-port11002-from_proxy.bin") else { return };
    let secret = Some(Hex32::sha256(b""));
    let world = World::new(ProxyConfig { config_version: 3, client_secret_hash: secret, ..ProxyConfig::default() });

    // Handshakes and polls: three queries of the worker, four of the client.
    let mut worker = Peer::new(world.connect("workers").await);
    let mut worker_answers = ask_all(&worker, &queries(&worker_says)[..3]).await;
    let mut client = Peer::new(world.connect("clients").await);
    let mut client_answers = ask_all(&client, &queries(&client_says)[..4]).await;

    // Three requests, one after the other.
    let (mut to_client, mut to_worker) = (Vec::new(), Vec::new());
    let scripts = recorded_answers(&worker_says);
    let runs = messages(&client_says);
    assert_eq!((runs.len(), scripts.len()), (3, 3));
    for (run, script) in runs.into_iter().zip(scripts) {
        let ClientMessage::Run(sent) = ClientMessage::decode(Version::V2, run.clone()).unwrap() else {
            panic!("no run")
        };
        client.outbox.send(run.into()).unwrap();
        let data = worker.next().await.unwrap();
        to_worker.push(data.clone());
        let ProxyToWorker::Run(received) = ProxyToWorker::decode(Version::V2, data).unwrap() else { panic!("no run") };
        assert_eq!(received.query, sent.query, "the request passes byte for byte");
        assert_eq!(received.timeout_ms, 108_300);
        for answer in script {
            let answer = WorkerMessage::Answer(answer.with_request_id(received.request_id));
            worker.outbox.send(answer.encode(Version::V2)).unwrap();
        }
        to_worker.push(worker.next().await.unwrap());
        loop {
            let data = client.next().await.unwrap();
            let message = ProxyToClient::decode(Version::V2, data.clone()).unwrap();
            to_client.push(data);
            if matches!(message, ProxyToClient::Payment(_)) {
                break;
            }
        }
    }
    worker_answers.extend(ask_all(&worker, &queries(&worker_says)[3..]).await);
    client_answers.extend(ask_all(&client, &queries(&client_says)[4..]).await);

    assert_eq!(worker_answers, answers(&worker_heard));
    assert_eq!(client_answers, answers(&client_heard));
    assert_eq!(shape(&to_worker), shape(&messages(&worker_heard)));
    assert_eq!(shape(&to_client), shape(&messages(&client_heard)));
    assert_eq!(bodies(&to_client), bodies(&messages(&client_heard)));
    let head = |list: &[Bytes]| list[..2].iter().map(constructor).collect::<Vec<_>>();
    assert_eq!(head(&to_client), head(&messages(&client_heard)));
    let tokens = |list: &[Bytes]| payments(list);
    assert_eq!(tokens(&to_client), tokens(&messages(&client_heard)));
}

/// What each request came to: tokens of the request, and of all so far.
fn payments(messages: &[Bytes]) -> Vec<(u64, u64)> {
    let payment = |data: &Bytes| match ProxyToClient::decode(Version::V2, data.clone()).unwrap() {
        ProxyToClient::Payment(payment) => Some((payment.request_tokens.get(), payment.max_tokens.get())),
        _ => None,
    };
    messages.iter().filter_map(payment).collect()
}
