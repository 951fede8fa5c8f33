//! Whatever our types can hold survives the wire, in each version that can carry it.

use bytes::{Bytes, BytesMut};
use cocoon_units::{AdjustedTokens, Coefficient};
use cocoon_wire::failure::{Blame, Failure, FailureCode};
use cocoon_wire::message::{
    Answer, ClientAnswer, ClientMessage, ClientQuery, ClientRun, FinalInfo, HandedReceipt, LoadReport, Proof,
    ProxyToClient, ProxyToWorker, ReceiptAsk, RequestPayment, SettledRequest, SignedPayment, TokensUsed, WorkerMessage,
    WorkerRun, decode_handover, encode_handover,
};
use cocoon_wire::packet::{FrameDecoder, Packet, PacketOut, encode_frame, frame_parts};
use cocoon_wire::{Encoded, RequestId, Sealed, Version};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

const VERSIONS: [Version; 4] = [Version::V0, Version::V1, Version::V2, Version::Extended];

fn version() -> impl Strategy<Value = Version> {
    prop::sample::select(VERSIONS.to_vec())
}

fn request_id() -> impl Strategy<Value = RequestId> {
    any::<[u8; 32]>().prop_map(RequestId::new)
}

/// Short, around the one-byte length, around the segment split, and long.
fn sealed() -> impl Strategy<Value = Sealed> {
    let len = prop_oneof![0..8_usize, 250..260_usize, 4_090..4_100_usize, Just(70_000_usize)];
    (len, any::<u8>()).prop_map(|(len, byte)| Sealed::from(vec![byte; len]))
}

fn tokens() -> impl Strategy<Value = AdjustedTokens> {
    (0..=i64::MAX.unsigned_abs()).prop_map(AdjustedTokens::new)
}

fn count() -> impl Strategy<Value = u32> {
    0..=i32::MAX.unsigned_abs()
}

fn coefficient() -> impl Strategy<Value = Coefficient> {
    count().prop_map(Coefficient::from_thousandths)
}

fn timeout_ms() -> impl Strategy<Value = u64> {
    0..=86_400_000_u64
}

fn signed_payment() -> impl Strategy<Value = SignedPayment> {
    prop_oneof![
        Just(SignedPayment::Empty),
        vec(any::<u8>(), 0..300).prop_map(|data| SignedPayment::signed(data.into()).unwrap()),
    ]
}

/// As long as there are receipts. A hash of zeros is how the wire says that there is none.
fn proof() -> impl Strategy<Value = Proof> {
    let hash = prop::option::of(any::<[u8; 32]>()).prop_map(|hash| hash.filter(|hash| *hash != [0; 32]));
    let len = prop_oneof![1..8_usize, 250..260_usize, Just(1_000_usize), Just(4_096_usize)];
    (len, hash).prop_map(|(len, evidence)| Proof { receipt: vec![7; len].into(), evidence })
}

fn receipt_ask() -> impl Strategy<Value = Option<ReceiptAsk>> {
    prop::option::of(any::<([u8; 32], [u8; 32])>().prop_map(|(id, salt)| ReceiptAsk { id, salt }))
}

prop_compose! {
    fn final_info()(
        kinds in [tokens(), tokens(), tokens(), tokens(), tokens()],
        debug in any::<bool>(),
        times in any::<bool>(),
        proof in prop::option::of(proof()),
    ) -> FinalInfo {
        let [prompt, cached, completion, reasoning, total] = kinds;
        FinalInfo {
            tokens: TokensUsed { prompt, cached, completion, reasoning, total },
            worker_debug: debug.then(|| "worker".to_owned()),
            proxy_debug: debug.then(|| "proxy".to_owned()),
            worker_start: times.then_some(1.25),
            worker_end: times.then_some(2.5),
            proxy_start: times.then_some(0.5),
            proxy_end: times.then_some(1e9),
            proof,
        }
    }
}

fn end() -> impl Strategy<Value = Option<FinalInfo>> {
    prop::option::of(final_info())
}

fn failure() -> impl Strategy<Value = Failure> {
    let code = prop::sample::select(FailureCode::ALL.to_vec());
    (1..=5_i32, code, "[ -~]{0,40}", prop::option::of(count())).prop_map(|(blame, code, message, retry_after_ms)| {
        let failure = Failure::new(Blame::from_number(blame), code, &message);
        Failure { retry_after_ms, ..failure }
    })
}

fn answer() -> impl Strategy<Value = Answer> {
    prop_oneof![
        (request_id(), sealed(), end()).prop_map(|(request_id, response, end)| Answer::Head {
            request_id,
            response,
            end
        }),
        (request_id(), sealed(), end()).prop_map(|(request_id, body, end)| Answer::Part { request_id, body, end }),
        (request_id(), failure(), end()).prop_map(|(request_id, failure, end)| Answer::Failed {
            request_id,
            failure,
            end
        }),
    ]
}

prop_compose! {
    fn client_run()(
        request_id in request_id(),
        model in "[a-zA-Z0-9/@:._-]{0,80}",
        query in sealed(),
        max_coefficient in coefficient(),
        max_tokens in count(),
        timeout_ms in timeout_ms(),
        min_config_version in any::<i32>(),
        enable_debug in any::<bool>(),
        answer_credit in prop::option::of(count()),
        receipt in receipt_ask(),
    ) -> ClientRun {
        ClientRun {
            request_id, model, query, max_coefficient, max_tokens, timeout_ms,
            min_config_version, enable_debug, answer_credit, receipt,
        }
    }
}

prop_compose! {
    fn worker_run()(
        request_id in request_id(),
        query in sealed(),
        signed_payment in signed_payment(),
        coefficient in coefficient(),
        timeout_ms in timeout_ms(),
        enable_debug in any::<bool>(),
        token_limit in prop::option::of(count()),
        answer_credit in prop::option::of(count()),
        receipt in receipt_ask(),
        account_tag in prop::option::of((0..=512_usize).prop_map(|len| Bytes::from(vec![9; len]))),
    ) -> WorkerRun {
        WorkerRun {
            request_id, query, signed_payment, coefficient, timeout_ms, enable_debug,
            token_limit, answer_credit, receipt, account_tag,
        }
    }
}

prop_compose! {
    fn payment()(
        request_id in request_id(),
        signed_payment in signed_payment(),
        amounts in [tokens(), tokens(), tokens()],
    ) -> RequestPayment {
        let [db_tokens, max_tokens, request_tokens] = amounts;
        RequestPayment { request_id, signed_payment, db_tokens, max_tokens, request_tokens }
    }
}

#[test]
fn large_bodies_are_never_copied() {
    let body = Bytes::from(vec![7; 50_000]);
    let part = Answer::Part { request_id: RequestId::new([1; 32]), body: body.clone().into(), end: None };
    for version in VERSIONS {
        let encoded = ProxyToClient::Answer(part.clone()).encode(version);
        let [_, shared, _] = encoded.segments();
        assert_eq!(shared.as_ptr(), body.as_ptr());
        let data = encoded.to_bytes();
        let Ok(ProxyToClient::Answer(Answer::Part { body, .. })) = ProxyToClient::decode(version, data.clone()) else {
            panic!("not a part");
        };
        assert!(data.as_ptr_range().contains(&body.expose().as_ptr()));
    }
}

/// What a version leaves of an answer.
fn carried(answer: Answer, version: Version, is_client_leg: bool) -> Answer {
    let carry = |end: Option<FinalInfo>| {
        end.map(|mut end| {
            if !is_client_leg {
                (end.proxy_debug, end.proxy_start, end.proxy_end) = (None, None, None);
            }
            if version == Version::V0 {
                return FinalInfo { tokens: end.tokens, ..FinalInfo::default() };
            }
            if version != Version::Extended {
                end.proof = None;
            }
            if version == Version::V1 {
                (end.worker_start, end.worker_end) = (None, None);
                (end.proxy_start, end.proxy_end) = (None, None);
            }
            end
        })
    };
    match answer {
        Answer::Head { request_id, response, end } => Answer::Head { request_id, response, end: carry(end) },
        Answer::Part { request_id, body, end } => Answer::Part { request_id, body, end: carry(end) },
        Answer::Failed { request_id, failure, end } if version == Version::Extended => {
            Answer::Failed { request_id, failure, end: carry(end) }
        }
        Answer::Failed { request_id, failure, end } if is_client_leg && version != Version::V0 => {
            Answer::failure_as_http(request_id, &failure, carry(end).unwrap_or_default())
        }
        Answer::Failed { request_id, failure, end } => {
            let blame = if is_client_leg { Blame::Proxy } else { Blame::Worker };
            let status = i32::from(failure.code.http_status());
            let failure = Failure::from_original(blame, status, &failure.message);
            let end = if version == Version::V0 { Some(carry(end).unwrap_or_default()) } else { carry(end) };
            Answer::Failed { request_id, failure, end }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, rng_seed: RngSeed::Fixed(1), ..ProptestConfig::default() })]

    #[test]
    fn answers_on_the_client_leg(answer in answer(), version in version()) {
        let data = ProxyToClient::Answer(answer.clone()).encode(version).to_bytes();
        let expected = ProxyToClient::Answer(carried(answer, version, true));
        prop_assert_eq!(ProxyToClient::decode(version, data), Ok(expected));
    }

    #[test]
    fn answers_on_the_worker_leg(answer in answer(), version in version()) {
        let data = WorkerMessage::Answer(answer.clone()).encode(version).to_bytes();
        let expected = WorkerMessage::Answer(carried(answer, version, false));
        prop_assert_eq!(WorkerMessage::decode(version, data), Ok(expected));
    }

    #[test]
    fn requests_of_clients(run in client_run(), version in version()) {
        let data = ClientMessage::Run(run.clone()).encode(version).to_bytes();
        let mut expected = run;
        if version != Version::Extended {
            (expected.answer_credit, expected.receipt) = (None, None);
        }
        if version == Version::V0 {
            expected.enable_debug = false;
        }
        prop_assert_eq!(ClientMessage::decode(version, data), Ok(ClientMessage::Run(expected)));
    }

    #[test]
    fn requests_to_workers(run in worker_run(), version in version()) {
        let data = ProxyToWorker::Run(run.clone()).encode(version).to_bytes();
        let mut expected = run;
        if version != Version::Extended {
            (expected.answer_credit, expected.token_limit) = (None, None);
            (expected.receipt, expected.account_tag) = (None, None);
        }
        if version == Version::V0 {
            expected.enable_debug = false;
        }
        prop_assert_eq!(ProxyToWorker::decode(version, data), Ok(ProxyToWorker::Run(expected)));
    }

    #[test]
    fn control_messages(request_id in request_id(), bytes in count(), payment in payment()) {
        let v = Version::Extended;
        for message in [ClientMessage::Cancel { request_id }, ClientMessage::Credit { request_id, bytes }] {
            prop_assert_eq!(ClientMessage::decode(v, message.encode(v).to_bytes()), Ok(message.clone()));
            prop_assert!(message.encode(Version::V2).is_empty());
        }
        for message in [ProxyToWorker::Cancel { request_id }, ProxyToWorker::Credit { request_id, bytes }] {
            prop_assert_eq!(ProxyToWorker::decode(v, message.encode(v).to_bytes()), Ok(message.clone()));
            prop_assert!(message.encode(Version::V2).is_empty());
        }
        let load = LoadReport { active: bytes, queued: 1, slots: 2, tokens_per_s: 3 };
        let load = WorkerMessage::Load(load);
        prop_assert_eq!(WorkerMessage::decode(v, load.encode(v).to_bytes()), Ok(load));
        for version in VERSIONS {
            let message = ProxyToClient::Payment(payment.clone());
            let data = message.encode(version).to_bytes();
            prop_assert_eq!(ProxyToClient::decode(version, data), Ok(message));
            let owner = "owner".to_owned();
            let message = ProxyToWorker::Payment { payment: payment.clone(), request_client_owner: owner };
            let data = message.encode(version).to_bytes();
            prop_assert_eq!(ProxyToWorker::decode(version, data), Ok(message));
        }
    }

    #[test]
    fn what_settles_a_request(
        request_id in request_id(), info in final_info(), ids in vec(any::<[u8; 32]>(), 0..=256),
        sha256 in any::<[u8; 32]>(), tokens in tokens(), len in 0..=4_096_usize,
    ) {
        let message = ProxyToClient::Settled { request_id, info };
        let data = message.encode(Version::Extended).to_bytes();
        for version in [Version::V0, Version::V1, Version::V2] {
            prop_assert!(ProxyToClient::decode(version, data.clone()).is_err(), "an original leg knows no such message");
        }
        prop_assert_eq!(ProxyToClient::decode(Version::Extended, data), Ok(message));

        for query in [ClientQuery::GetSettledRequests { ids: ids.clone() }, ClientQuery::GetEvidence { sha256 }] {
            prop_assert_eq!(ClientQuery::decode(query.encode().to_bytes()), Ok(query));
        }
        let receipt = (len > 0).then(|| Bytes::from(vec![7; len]));
        let evidence = receipt.is_some().then_some([8; 32]);
        let settled = |id| SettledRequest { id, tokens, receipt: receipt.clone(), evidence };
        for answer in [
            ClientAnswer::SettledRequests(ids.into_iter().map(settled).collect()),
            ClientAnswer::Evidence(Bytes::from(vec![b'{'; len])),
        ] {
            prop_assert_eq!(ClientAnswer::decode(answer.encode().to_bytes()), Ok(answer));
        }
    }

    #[test]
    fn handed_receipts(lens in vec((0..=4_096_usize, 0..=512_usize), 0..20)) {
        let receipts: Vec<HandedReceipt> = lens
            .into_iter()
            .map(|(receipt, tag)| HandedReceipt { receipt: vec![1; receipt].into(), account_tag: vec![2; tag].into() })
            .collect();
        prop_assert_eq!(decode_handover(encode_handover(&receipts).to_bytes()), Ok(receipts));
    }

    #[test]
    fn messages_do_not_panic_on_any_bytes(version in version(), data in vec(any::<u8>(), 0..200)) {
        let data = Bytes::from(data);
        let _ = ClientMessage::decode(version, data.clone());
        let _ = ProxyToClient::decode(version, data.clone());
        let _ = ProxyToWorker::decode(version, data.clone());
        let _ = WorkerMessage::decode(version, data.clone());
        let _ = ClientQuery::decode(data.clone());
        let _ = ClientAnswer::decode(data.clone());
        let _ = decode_handover(data);
    }

    #[test]
    fn frames(seqno_skew in Just(0_u32), id in any::<i64>(), data in sealed(), last in any::<bool>()) {
        let data = Encoded::from(data.into_bytes());
        let fragment = Encoded::from(data.slice(0, 65_536));
        let packets = [
            PacketOut::Message { data: &data },
            PacketOut::Query { id, data: &data },
            PacketOut::QueryAnswer { id, data: &data },
            PacketOut::QueryError { id, code: 7, message: "no" },
            PacketOut::Fragment { message_id: id.unsigned_abs(), last, data: &fragment },
        ];
        let mut whole = BytesMut::new();
        let mut parts = Vec::new();
        for (seqno, packet) in (seqno_skew..).zip(&packets) {
            encode_frame(seqno, packet, &mut whole).unwrap();
            let around = frame_parts(seqno, packet).unwrap();
            parts.extend_from_slice(&around.head);
            let inner = match packet {
                PacketOut::QueryError { .. }
                | PacketOut::Ping { .. }
                | PacketOut::Pong { .. }
                | PacketOut::Connect { .. }
                | PacketOut::Connected { .. } => Bytes::new(),
                PacketOut::Fragment { .. } => fragment.to_bytes(),
                PacketOut::Message { .. } | PacketOut::Query { .. } | PacketOut::QueryAnswer { .. } => data.to_bytes(),
            };
            parts.extend_from_slice(&inner);
            parts.extend_from_slice(around.padding);
        }
        prop_assert_eq!(&whole[..], &parts[..]);
        let mut decoder = FrameDecoder::new();
        let mut next = || decoder.read_from(&mut whole).unwrap().unwrap();
        let data = data.to_bytes();
        prop_assert_eq!(next(), Packet::Message { data: data.clone() });
        prop_assert_eq!(next(), Packet::Query { id, data: data.clone() });
        prop_assert_eq!(next(), Packet::QueryAnswer { id, data });
        prop_assert_eq!(next(), Packet::QueryError { id, code: 7, message: "no".to_owned() });
        let data = fragment.to_bytes();
        prop_assert_eq!(next(), Packet::Fragment { message_id: id.unsigned_abs(), last, data });
    }
}
