//! The recorded sessions of the original nodes: every packet decodes and re-encodes to its bytes.

use std::path::PathBuf;

use bytes::{Bytes, BytesMut};
use cocoon_wire::http::{HttpRequest, HttpResponse};
use cocoon_wire::message::{
    Answer, ClientAnswer, ClientMessage, ClientQuery, ProxyToClient, ProxyToWorker, WorkerAnswer, WorkerMessage,
    WorkerQuery,
};
use cocoon_wire::openai::RequestFields;
use cocoon_wire::packet::{FrameDecoder, Packet, PacketOut, encode_frame};
use cocoon_wire::router_record::{RouterRecord, UnverifiedReport};
use cocoon_wire::usage::{SseFilter, UsageReader};
use cocoon_wire::{DecodeError, Encoded, RequestId, Version};

fn vector(name: &str) -> Bytes {
    let folder = std::env::var_os("COCOON_VECTORS")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors")), PathBuf::from);
    let path = folder.join("wire").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).into()
}

fn packets(name: &str) -> Vec<Packet> {
    let mut buffer = BytesMut::from(vector(name).as_ref());
    let mut decoder = FrameDecoder::new();
    let mut packets = Vec::new();
    while let Some(packet) = decoder.read_from(&mut buffer).unwrap() {
        packets.push(packet);
    }
    assert!(buffer.is_empty(), "{name} ends within a frame");
    packets
}

/// What a packet's data are, through the message enums and back.
#[derive(Clone, Copy)]
struct Direction {
    message: fn(Bytes) -> Result<Encoded, DecodeError>,
    query: fn(Bytes) -> Result<Encoded, DecodeError>,
    answer: fn(Bytes) -> Result<Encoded, DecodeError>,
}

const V: Version = Version::V2;

fn nothing(_: Bytes) -> Result<Encoded, DecodeError> {
    panic!("a packet of this kind does not travel this way")
}

const WORKER_TO_PROXY: Direction = Direction {
    message: |data| Ok(WorkerMessage::decode(V, data)?.encode(V)),
    query: |data| Ok(WorkerQuery::decode(data)?.encode()),
    answer: nothing,
};
const PROXY_TO_WORKER: Direction = Direction {
    message: |data| Ok(ProxyToWorker::decode(V, data)?.encode(V)),
    query: nothing,
    answer: |data| Ok(WorkerAnswer::decode(data)?.encode()),
};
const CLIENT_TO_PROXY: Direction = Direction {
    message: |data| Ok(ClientMessage::decode(V, data)?.encode(V)),
    query: |data| Ok(ClientQuery::decode(data)?.encode()),
    answer: nothing,
};
const PROXY_TO_CLIENT: Direction = Direction {
    message: |data| Ok(ProxyToClient::decode(V, data)?.encode(V)),
    query: nothing,
    answer: |data| Ok(ClientAnswer::decode(data)?.encode()),
};

fn check_round_trip(name: &str, direction: Direction) {
    let mut out = BytesMut::new();
    for (seqno, packet) in packets(name).into_iter().enumerate() {
        let seqno = u32::try_from(seqno).unwrap();
        let encode = |packet: PacketOut<'_>, out: &mut BytesMut| {
            encode_frame(seqno, &packet, out).unwrap();
        };
        match packet.clone() {
            Packet::Ping { id } => encode(PacketOut::Ping { id }, &mut out),
            Packet::Pong { id } => encode(PacketOut::Pong { id }, &mut out),
            Packet::Connect { id } => encode(PacketOut::Connect { id }, &mut out),
            Packet::Connected { id } => encode(PacketOut::Connected { id }, &mut out),
            Packet::Message { data } => {
                let data = &(direction.message)(data).unwrap();
                encode(PacketOut::Message { data }, &mut out);
            }
            Packet::Query { id, data } => {
                let data = &(direction.query)(data).unwrap();
                encode(PacketOut::Query { id, data }, &mut out);
            }
            Packet::QueryAnswer { id, data } => {
                let data = &(direction.answer)(data).unwrap();
                encode(PacketOut::QueryAnswer { id, data }, &mut out);
            }
            Packet::QueryError { .. } | Packet::Fragment { .. } => panic!("unexpected {packet:?}"),
        }
    }
    assert_eq!(out, vector(name), "{name}");
}

#[test]
fn every_recorded_packet_round_trips() {
    check_round_trip("conn0-port11001-to_proxy.bin", WORKER_TO_PROXY);
    check_round_trip("conn0-port11001-from_proxy.bin", PROXY_TO_WORKER);
    check_round_trip("conn1-port11002-to_proxy.bin", CLIENT_TO_PROXY);
    check_round_trip("conn1-port11002-from_proxy.bin", PROXY_TO_CLIENT);
}

#[test]
fn frames_come_out_the_same_one_byte_at_a_time() {
    let name = "conn1-port11002-from_proxy.bin";
    let mut decoder = FrameDecoder::new();
    let mut buffer = BytesMut::new();
    let mut slow = Vec::new();
    for &byte in vector(name).iter() {
        buffer.extend_from_slice(&[byte]);
        slow.extend(decoder.read_from(&mut buffer).unwrap());
    }
    assert_eq!(slow, packets(name));
}

/// Bodies of answers by request, in the order of the requests.
fn bodies() -> Vec<(HttpResponse, Vec<u8>)> {
    let mut bodies: Vec<(RequestId, HttpResponse, Vec<u8>)> = Vec::new();
    for packet in packets("conn1-port11002-from_proxy.bin") {
        let Packet::Message { data } = packet else { continue };
        match ProxyToClient::decode(V, data).unwrap() {
            ProxyToClient::Answer(Answer::Head { request_id, response, .. }) => {
                let head = HttpResponse::decode(&response).unwrap();
                let body = head.payload.to_vec();
                bodies.push((request_id, head, body));
            }
            ProxyToClient::Answer(Answer::Part { request_id, body, .. }) => {
                let (id, _, bytes) = bodies.last_mut().unwrap();
                assert_eq!(*id, request_id);
                bytes.extend_from_slice(body.expose());
            }
            ProxyToClient::Answer(Answer::Failed { .. })
            | ProxyToClient::Payment(_)
            | ProxyToClient::PaymentStatus(_)
            | ProxyToClient::Settled { .. } => {}
        }
    }
    bodies.into_iter().map(|(_, head, body)| (head, body)).collect()
}

#[test]
fn answers_are_what_the_http_caller_saw() {
    let bodies = bodies();
    assert_eq!(bodies.len(), 3);
    for ((head, body), name) in bodies.iter().zip(["nonstream", "ndjson", "sse"]) {
        assert_eq!(head.status, 200);
        assert_eq!(head.header("transfer-encoding"), None);
        assert_eq!(*body, vector(&format!("http-{name}.body")), "{name}");
    }
}

#[test]
fn usage_is_found_in_all_three_forms() {
    for (name, completion) in [("nonstream", 5), ("ndjson", 4), ("sse", 4)] {
        let mut reader = UsageReader::new();
        reader.push(&vector(&format!("http-{name}.body")));
        let usage = reader.usage().unwrap();
        assert_eq!((usage.prompt, usage.completion), (34, completion), "{name}");
    }
}

#[test]
fn the_filter_drops_one_event_of_the_recorded_stream() {
    let body = vector("http-sse.body");
    let text = std::str::from_utf8(&body).unwrap();
    let events = text.split_inclusive("\n\n");
    let expected: String = events.filter(|event| !event.contains("\"usage\"")).collect();
    let mut filter = SseFilter::new();
    let mut out = filter.push(body.clone()).to_vec();
    out.extend_from_slice(&filter.finish());
    assert_eq!(out, expected.as_bytes());
}

#[test]
fn recorded_requests_are_read() {
    let mut seen = 0;
    for packet in packets("conn1-port11002-to_proxy.bin") {
        let Packet::Message { data } = packet else { continue };
        let ClientMessage::Run(run) = ClientMessage::decode(V, data).unwrap() else {
            panic!("not a request");
        };
        assert_eq!(run.timeout_ms, 114_000);
        assert_eq!(run.max_coefficient.thousandths(), 4_000);
        let request = HttpRequest::decode(&run.query).unwrap();
        assert_eq!(request.url, "/v1/chat/completions");
        let fields = RequestFields::read(&request.payload).unwrap();
        assert_eq!(fields.model.as_deref(), Some(run.model.as_str()));
        assert_eq!(fields.max_tokens, Some(run.max_tokens));
        seen += 1;
    }
    assert_eq!(seen, 3);
}

#[test]
fn router_record_round_trips() {
    let bytes = vector("peerinfo-fake_tdx.bin");
    let (length, _) = bytes.split_first_chunk().unwrap();
    let body = bytes.slice(4..);
    assert_eq!(RouterRecord::body_len(*length), Ok(body.len()));
    let record = RouterRecord::decode_body(body).unwrap();
    assert!(matches!(record.unverified_report, Some(UnverifiedReport::Tdx(_))));
    assert_eq!(record.source_ip, "127.0.0.1");
    assert_eq!(record.destination_port, 11_002);
    assert_eq!(record.encode(), bytes);
}
