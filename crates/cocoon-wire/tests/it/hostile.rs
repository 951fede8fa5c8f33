//! Bytes that a hostile peer could send, by the name of the attack. None may panic, allocate beyond
//! what arrived, or be taken for something else.

use bytes::{BufMut, Bytes, BytesMut};
use cocoon_units::{AdjustedTokens, Coefficient};
use cocoon_wire::failure::{Blame, Failure, FailureCode};
use cocoon_wire::message::{
    Answer, ClientAnswer, ClientMessage, ClientQuery, FinalInfo, HandedReceipt, Proof, ProxyToClient, ProxyToWorker,
    SettledRequest, SignedPayment, WorkerMessage, WorkerQuery, WorkerRun, decode_handover, encode_handover,
};
use cocoon_wire::packet::{FrameDecoder, FrameError, Packet, PacketOut, encode_frame};
use cocoon_wire::router_record::{RouterRecord, RouterRecordError};
use cocoon_wire::{DecodeError, Encoded, RequestId, Version};

const TCP_PACKET: u32 = 0x9c17_baf8;
const TCP_PING: u32 = 0xbbe9_627c;

fn frame(len: u32, seqno: u32, body: &[u8]) -> BytesMut {
    let mut bytes = BytesMut::new();
    bytes.put_u32_le(len);
    bytes.put_u32_le(seqno);
    bytes.put_slice(body);
    bytes
}

fn words(words: &[u32]) -> Bytes {
    words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>().into()
}

fn read(bytes: &mut BytesMut) -> Result<Option<Packet>, FrameError> {
    FrameDecoder::new().read_from(bytes)
}

#[test]
fn bad_seqno() {
    let ping = words(&[TCP_PING, 1, 0]);
    let mut decoder = FrameDecoder::new();
    let mut bytes = frame(12, 0, &ping);
    bytes.extend_from_slice(&frame(12, 0, &ping));
    assert_eq!(decoder.read_from(&mut bytes), Ok(Some(Packet::Ping { id: 1 })));
    let refused = FrameError::BadSeqno { expected: 1, actual: 0 };
    assert_eq!(decoder.read_from(&mut bytes), Err(refused));
    assert!(read(&mut frame(12, u32::MAX, &ping)).is_err());
}

#[test]
fn oversize_length() {
    for len in [(1 << 24) + 1, u32::MAX, 0, 3] {
        // Refused at once: neither sequence number nor body need to come.
        let mut bytes = BytesMut::from(&len.to_le_bytes()[..]);
        let capacity = bytes.capacity();
        assert_eq!(read(&mut bytes), Err(FrameError::BadLength { len }));
        assert_eq!(bytes.capacity(), capacity);
    }
    let mut decoder = FrameDecoder::new();
    decoder.set_len_max(64);
    assert!(decoder.read_from(&mut frame(65, 0, &[])).is_err());
}

#[test]
fn announced_length_without_bytes() {
    let mut decoder = FrameDecoder::new();
    let mut bytes = frame(1 << 24, 0, &[]);
    assert_eq!(decoder.read_from(&mut bytes), Ok(None));
    assert!(bytes.capacity() <= 128 * 1024, "{}", bytes.capacity());
    bytes.extend_from_slice(&[0; 300_000]);
    assert_eq!(decoder.read_from(&mut bytes), Ok(None));
    assert!(bytes.capacity() <= 1024 * 1024, "{}", bytes.capacity());
}

#[test]
fn truncated_packet() {
    let whole = frame(12, 0, &words(&[TCP_PING, 1, 0]));
    for len in 0..whole.len() {
        let mut part = BytesMut::from(&whole[..len]);
        assert_eq!(read(&mut part), Ok(None), "{len}");
    }
    let short = words(&[TCP_PING, 1]);
    assert_eq!(read(&mut frame(8, 0, &short)), Err(DecodeError::Truncated.into()));
    assert_eq!(read(&mut frame(5, 0, &[0; 5])), Err(DecodeError::UnknownConstructor(0).into()));
}

#[test]
fn trailing_bytes() {
    let long = words(&[TCP_PING, 1, 0, 0]);
    assert_eq!(read(&mut frame(16, 0, &long)), Err(DecodeError::TrailingBytes(4).into()));
    let refused = Err(DecodeError::TrailingBytes(1));
    let mut query = ClientQuery::GetWorkerTypesV2.encode().to_bytes().to_vec();
    query.push(0);
    assert_eq!(ClientQuery::decode(query.into()), refused);
}

#[test]
fn unknown_constructor() {
    let refused = DecodeError::UnknownConstructor(0xdead_beef);
    let data = words(&[0xdead_beef]);
    assert_eq!(read(&mut frame(4, 0, &data)), Err(refused.into()));
    for version in [Version::V0, Version::V1, Version::V2, Version::Extended] {
        assert_eq!(ClientMessage::decode(version, data.clone()), Err(refused));
        assert_eq!(ProxyToClient::decode(version, data.clone()), Err(refused));
        assert_eq!(ProxyToWorker::decode(version, data.clone()), Err(refused));
        assert_eq!(WorkerMessage::decode(version, data.clone()), Err(refused));
    }
    assert_eq!(ClientQuery::decode(data.clone()), Err(refused));
    assert_eq!(ClientAnswer::decode(data.clone()), Err(refused));
    assert_eq!(WorkerQuery::decode(data), Err(refused));
}

#[test]
fn wrong_nesting() {
    let part = Answer::Part { request_id: RequestId::new([1; 32]), body: b"body".to_vec().into(), end: None };
    let to_client = ProxyToClient::Answer(part.clone()).encode(Version::V2).to_bytes();
    let to_proxy = WorkerMessage::Answer(part).encode(Version::V2).to_bytes();
    // Each leg has its own constructors: neither passes for the other, or for a query.
    assert!(WorkerMessage::decode(Version::V2, to_client.clone()).is_err());
    assert!(ProxyToClient::decode(Version::V2, to_proxy.clone()).is_err());
    assert!(ClientQuery::decode(to_client.clone()).is_err());
    assert!(ClientMessage::decode(Version::V2, to_client.clone()).is_err());
    // A packet within a packet is no message.
    let mut framed = BytesMut::new();
    let data = &Encoded::from(to_client);
    encode_frame(0, &PacketOut::Message { data }, &mut framed).unwrap();
    assert!(ProxyToClient::decode(Version::V2, framed.freeze().slice(8..)).is_err());
    // The …Ex forms do not exist at version 0, nor extended forms at version 2.
    assert!(WorkerMessage::decode(Version::V0, to_proxy).is_err());
    let cancel = ClientMessage::Cancel { request_id: RequestId::new([1; 32]) };
    let cancel = cancel.encode(Version::Extended).to_bytes();
    assert!(ClientMessage::decode(Version::V2, cancel).is_err());
}

#[test]
fn vector_of_2_pow_31() {
    const WORKER_TYPES_V2: u32 = 0x0cf0_dc67;
    for count in [1, 1 << 16, 1 << 31, u32::MAX] {
        let refused = Err(DecodeError::VectorTooLong(count));
        assert_eq!(ClientAnswer::decode(words(&[WORKER_TYPES_V2, count])), refused);
    }
}

#[test]
fn string_length_bomb() {
    // Three bytes of length, seven bytes of length, and no string behind either.
    let medium = words(&[TCP_PACKET, 0xffff_fffe]);
    let refused = Err(DecodeError::Truncated.into());
    assert_eq!(read(&mut frame(8, 0, &medium)), refused);
    let huge = words(&[TCP_PACKET, u32::MAX, u32::MAX]);
    assert_eq!(read(&mut frame(12, 0, &huge)), refused);
    // Lengths that could have been shorter.
    let refused = Err(DecodeError::NonCanonicalLength.into());
    let medium = words(&[TCP_PACKET, 0x0000_01fe, 0]);
    assert_eq!(read(&mut frame(12, 0, &medium)), refused);
    let huge = words(&[TCP_PACKET, 0x0000_01ff, 0, 0]);
    assert_eq!(read(&mut frame(16, 0, &huge)), refused);
}

#[test]
fn hidden_bytes_in_padding() {
    let hidden = words(&[TCP_PACKET, 0x0001_0000]);
    assert_eq!(read(&mut frame(8, 0, &hidden)), Err(DecodeError::NonZeroPadding.into()));
}

#[test]
fn bad_bool_and_unknown_flags() {
    const HANDSHAKE_COMPLETE: u32 = 0xf843_b066;
    const RUN_QUERY_EX: u32 = 0xf54c_b74b;
    let refused = Err(DecodeError::BadBool(1));
    assert_eq!(WorkerQuery::decode(words(&[HANDSHAKE_COMPLETE, 1])), refused);
    let mut run = vec![RUN_QUERY_EX, 0, 0, 0, 0];
    run.extend([0; 2 + 8 + 1]);
    run.push(0x8000_0001);
    let refused = Err(DecodeError::UnknownFlags(0x8000_0001));
    assert_eq!(ClientMessage::decode(Version::V2, words(&run)), refused);
}

#[test]
fn negative_counts_and_times_that_are_none() {
    const RUN_QUERY_EX: u32 = 0xf54c_b74b;
    let run = |coefficient: i32, max_tokens: i32, timeout: f64| {
        let mut data = BytesMut::new();
        data.put_u32_le(RUN_QUERY_EX);
        data.put_u64_le(0);
        data.put_i32_le(coefficient);
        data.put_i32_le(max_tokens);
        data.put_f64_le(timeout);
        data.put_slice(&[0; 32 + 4 + 4]);
        ClientMessage::decode(Version::V2, data.freeze())
    };
    assert!(run(1_000, 1, 1.0).is_ok());
    assert_eq!(run(-1, 1, 1.0), Err(DecodeError::OutOfRange("coefficient")));
    assert_eq!(run(1_000, -1, 1.0), Err(DecodeError::OutOfRange("max_tokens")));
    for timeout in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.001, f64::MIN] {
        assert_eq!(run(1_000, 1, timeout), Err(DecodeError::OutOfRange("timeout")));
    }
}

#[test]
fn negative_balance() {
    const COMPARE_BALANCE: u32 = 0xdb38_6501;
    let data = words(&[COMPARE_BALANCE, u32::MAX, u32::MAX, 0, 0, 0, 0]);
    let refused = Err(DecodeError::OutOfRange("blockchain_tokens"));
    assert_eq!(WorkerQuery::decode(data), refused);
}

#[test]
fn oversize_fragment() {
    let data = Encoded::from(Bytes::from(vec![0; 64 * 1024 + 1]));
    let mut bytes = BytesMut::new();
    let fragment = PacketOut::Fragment { message_id: 1, last: true, data: &data };
    encode_frame(0, &fragment, &mut bytes).unwrap();
    assert_eq!(read(&mut bytes), Err(DecodeError::TooLong("data").into()));
}

#[test]
fn a_packet_of_ours_that_is_too_large_is_refused_here() {
    let data = Encoded::from(Bytes::from(vec![0; 1 << 24]));
    let mut bytes = BytesMut::from(&b"before"[..]);
    let refused = encode_frame(0, &PacketOut::Message { data: &data }, &mut bytes);
    assert!(matches!(refused, Err(FrameError::TooLarge { .. })));
    assert_eq!(bytes, &b"before"[..]);
}

/// A last message of each kind, with a receipt of that length.
fn ends(receipt_len: usize) -> [Answer; 3] {
    let request_id = RequestId::new([1; 32]);
    let proof = Proof { receipt: vec![7; receipt_len].into(), evidence: None };
    let end = Some(FinalInfo { proof: Some(proof), ..FinalInfo::default() });
    let failure = Failure::new(Blame::Worker, FailureCode::Cancelled, "no");
    [
        Answer::Head { request_id, response: Bytes::new().into(), end: end.clone() },
        Answer::Part { request_id, body: Bytes::new().into(), end: end.clone() },
        Answer::Failed { request_id, failure, end },
    ]
}

#[test]
fn oversize_receipt() {
    let v = Version::Extended;
    let too_long = Err(DecodeError::TooLong("receipt"));
    for answer in ends(4_097) {
        assert_eq!(
            WorkerMessage::decode(v, WorkerMessage::Answer(answer.clone()).encode(v).to_bytes()).map(drop),
            too_long
        );
        assert_eq!(ProxyToClient::decode(v, ProxyToClient::Answer(answer).encode(v).to_bytes()).map(drop), too_long);
    }
    let [Answer::Head { request_id, end: Some(info), .. }, ..] = ends(4_097) else { panic!("the first is a head") };
    let settled = ProxyToClient::Settled { request_id, info };
    assert_eq!(ProxyToClient::decode(v, settled.encode(v).to_bytes()).map(drop), too_long);
    let receipt = Some(Bytes::from(vec![7; 4_097]));
    let settled = vec![SettledRequest { id: [1; 32], tokens: Default::default(), receipt, evidence: None }];
    let answer = ClientAnswer::SettledRequests(settled).encode().to_bytes();
    assert_eq!(ClientAnswer::decode(answer).map(drop), too_long);
    let handed = HandedReceipt { receipt: vec![7; 4_097].into(), account_tag: Bytes::new() };
    assert_eq!(decode_handover(encode_handover(&[handed]).to_bytes()).map(drop), too_long);
}

#[test]
fn receipt_on_an_original_leg() {
    for answer in ends(9) {
        let data = WorkerMessage::Answer(answer).encode(Version::Extended).to_bytes();
        for version in [Version::V0, Version::V1, Version::V2] {
            let refused = WorkerMessage::decode(version, data.clone());
            assert!(matches!(refused, Err(DecodeError::UnknownConstructor(_))), "{version:?}");
        }
    }
}

#[test]
fn oversize_account_tag() {
    let too_long = Err(DecodeError::TooLong("account_tag"));
    let handed = HandedReceipt { receipt: Bytes::new(), account_tag: vec![7; 513].into() };
    assert_eq!(decode_handover(encode_handover(&[handed]).to_bytes()).map(drop), too_long);
    let run = ProxyToWorker::Run(WorkerRun {
        request_id: RequestId::new([1; 32]),
        query: Bytes::new().into(),
        signed_payment: SignedPayment::Empty,
        coefficient: Coefficient::ONE,
        timeout_ms: 1,
        enable_debug: false,
        token_limit: None,
        answer_credit: None,
        receipt: None,
        account_tag: Some(vec![7; 513].into()),
    });
    let v = Version::Extended;
    assert_eq!(ProxyToWorker::decode(v, run.encode(v).to_bytes()).map(drop), too_long);
}

#[test]
fn more_settled_requests_than_anybody_asks_for() {
    let settled = SettledRequest { id: [1; 32], tokens: AdjustedTokens::new(1), receipt: None, evidence: None };
    let decoded =
        |count| ClientAnswer::decode(ClientAnswer::SettledRequests(vec![settled.clone(); count]).encode().to_bytes());
    assert!(decoded(256).is_ok());
    assert!(decoded(257).is_err());
}

#[test]
fn too_many_requests_asked_about() {
    let query = ClientQuery::GetSettledRequests { ids: vec![[1; 32]; 257] };
    assert_eq!(ClientQuery::decode(query.encode().to_bytes()), Err(DecodeError::TooLong("ids")));
}

#[test]
fn oversize_evidence() {
    let answer = ClientAnswer::Evidence(vec![b' '; (1 << 20) + 1].into());
    assert_eq!(ClientAnswer::decode(answer.encode().to_bytes()), Err(DecodeError::TooLong("document")));
}

#[test]
fn vectors_of_receipts_and_ids_of_2_pow_31() {
    for encoded in [encode_handover(&[]), ClientQuery::GetSettledRequests { ids: Vec::new() }.encode()] {
        let mut bytes = encoded.to_bytes().to_vec();
        for count in [1, 0x7fff_ffff, u32::MAX] {
            let at = bytes.len() - 4;
            bytes[at..].copy_from_slice(&u32::to_le_bytes(count));
            assert!(decode_handover(bytes.clone().into()).is_err(), "{count}");
            assert!(ClientQuery::decode(bytes.clone().into()).is_err(), "{count}");
        }
    }
}

#[test]
fn trailing_bytes_behind_a_handover() {
    let mut bytes = encode_handover(&[]).to_bytes().to_vec();
    assert_eq!(decode_handover(bytes.clone().into()), Ok(Vec::new()));
    bytes.extend_from_slice(&[0; 4]);
    assert!(decode_handover(bytes.into()).is_err());
}

#[test]
fn router_record_bomb() {
    assert_eq!(RouterRecord::body_len([0xff; 4]), Err(RouterRecordError::TooLong(u32::MAX)));
    for len in 0..64 {
        assert!(RouterRecord::decode_body(vec![0; len].into()).is_err());
    }
}
