//! What the fuzz targets check; kept here because it needs the private reader. Not an API.

use bytes::{Bytes, BytesMut};
use cocoon_units::{AdjustedTokens, NanoPerToken};

use crate::message::{
    ClientAnswer, ClientMessage, ClientQuery, ProxyToClient, ProxyToWorker, TokensUsed, WorkerAnswer, WorkerMessage,
    WorkerQuery, decode_handover, encode_handover,
};
use crate::openai::{Edits, Endpoint, RequestFacts, RequestFields, edit_body, edit_request};
use crate::packet::{FrameDecoder, PacketOut, encode_frame};
use crate::reader::Reader;
use crate::usage::{Cost, CostSplicer, SseFilter, UsageReader};
use crate::{DecodeError, Encoded, Version, tl};

/// Reads TL values in an order that the first bytes choose.
pub fn tl_reader(data: &[u8]) {
    let (script, rest) = data.split_at(data.len().min(16));
    let mut reader = Reader::new(Bytes::copy_from_slice(rest));
    for step in script {
        if read_one(&mut reader, *step).is_err() {
            return;
        }
    }
    let left = reader.remaining();
    assert_eq!(reader.finish().is_ok(), left == 0);
}

fn read_one(reader: &mut Reader, step: u8) -> Result<(), DecodeError> {
    let before = reader.remaining();
    match step % 11 {
        0 => reader.u32().map(drop)?,
        1 => reader.long().map(drop)?,
        2 => reader.double().map(drop)?,
        3 => reader.int256().map(drop)?,
        4 => reader.bool().map(drop)?,
        5 => reader.flags(u32::from(step)).map(drop)?,
        6 => assert!(reader.bytes()?.len() < before),
        7 => assert!(reader.string()?.len() < before),
        8 => assert!(reader.vector::<tl::HttpHeader>()?.len() <= before),
        9 => assert!(reader.vector::<tl::ClientWorkerTypeV2>()?.len() <= before),
        _ => reader.int().map(drop)?,
    }
    assert!(reader.remaining() < before, "every value takes bytes");
    Ok(())
}

/// Cuts frames, and reads every message enum at every version; what is read is written and read
/// again to the same value.
pub fn packets(data: &[u8]) {
    frames(data);
    let data = Bytes::copy_from_slice(data);
    for version in [Version::V0, Version::V1, Version::V2, Version::Extended] {
        let d = || data.clone();
        stable(d(), |d| ClientMessage::decode(version, d), |m| m.encode(version));
        stable(d(), |d| ProxyToWorker::decode(version, d), |m| m.encode(version));
        stable_answer(d(), |d| WorkerMessage::decode(version, d), |m| m.encode(version));
        stable_answer(d(), |d| ProxyToClient::decode(version, d), |m| m.encode(version));
    }
    stable(data.clone(), ClientQuery::decode, ClientQuery::encode);
    stable(data.clone(), ClientAnswer::decode, ClientAnswer::encode);
    stable(data.clone(), WorkerQuery::decode, WorkerQuery::encode);
    stable(data.clone(), WorkerAnswer::decode, WorkerAnswer::encode);
    stable(data, decode_handover, |receipts| encode_handover(receipts));
}

fn frames(data: &[u8]) {
    let mut whole = BytesMut::from(data);
    let mut decoder = FrameDecoder::new();
    let mut packets = Vec::new();
    while let Ok(Some(packet)) = decoder.read_from(&mut whole) {
        packets.push(packet);
    }
    let mut decoder = FrameDecoder::new();
    let mut buffer = BytesMut::new();
    let mut one_by_one = Vec::new();
    for byte in data {
        buffer.extend_from_slice(&[*byte]);
        match decoder.read_from(&mut buffer) {
            Ok(packet) => one_by_one.extend(packet),
            Err(_) => break,
        }
    }
    assert_eq!(packets, one_by_one);
    let message = Encoded::from(Bytes::copy_from_slice(data));
    let mut framed = BytesMut::new();
    if encode_frame(0, &PacketOut::Message { data: &message }, &mut framed).is_ok() {
        assert!(matches!(FrameDecoder::new().read_from(&mut framed), Ok(Some(_))));
    }
}

/// What was read survives the wire.
fn stable<T: PartialEq>(data: Bytes, decode: impl Fn(Bytes) -> Result<T, DecodeError>, encode: impl Fn(&T) -> Encoded) {
    let Ok(message) = decode(data) else { return };
    let Ok(again) = decode(encode(&message).to_bytes()) else {
        unreachable!("what was written cannot be read");
    };
    assert!(message == again, "a message changed on the wire");
}

/// As [`stable`], for answers: failures take the form that the peer can read, and keep it.
fn stable_answer<T: PartialEq>(
    data: Bytes,
    decode: impl Fn(Bytes) -> Result<T, DecodeError>,
    encode: impl Fn(&T) -> Encoded,
) {
    let Ok(message) = decode(data) else { return };
    stable(encode(&message).to_bytes(), decode, encode);
}

/// Reads usage, filters and edits; any split of the bytes gives the same result.
pub fn usage_reader(data: &[u8]) {
    let (cuts, body) = data.split_at(data.len().min(4));
    let mut whole = UsageReader::new();
    whole.push(body);
    let mut filter = SseFilter::new();
    let mut filtered = filter.push(Bytes::copy_from_slice(body)).to_vec();
    filtered.extend_from_slice(&filter.finish());

    let mut split = UsageReader::new();
    let mut split_filter = SseFilter::new();
    let mut split_filtered = Vec::new();
    let mut rest = body;
    for cut in cuts.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (chunk, after) = rest.split_at(usize::from(*cut).clamp(1, rest.len()));
        split.push(chunk);
        split_filtered.extend_from_slice(&split_filter.push(Bytes::copy_from_slice(chunk)));
        rest = after;
    }
    split_filtered.extend_from_slice(&split_filter.finish());
    assert_eq!(whole.told(), split.told());
    assert_eq!(filtered, split_filtered);
    assert!(filtered.len() <= body.len());
    edits(&Bytes::copy_from_slice(body));
    costs(cuts, body);
}

/// Without a cost every byte passes; with one, any split gives the same.
fn costs(cuts: &[u8], body: &[u8]) {
    let tokens = TokensUsed { total: AdjustedTokens::new(39), ..TokensUsed::default() };
    let cost = Cost::of(&tokens, NanoPerToken::new(2));
    let whole = |cost: Option<&Cost>| {
        let mut splicer = CostSplicer::new();
        let mut out = splicer.push(Bytes::copy_from_slice(body)).to_vec();
        out.extend_from_slice(&splicer.finish(cost));
        out
    };
    assert_eq!(whole(None), body);
    let mut splicer = CostSplicer::new();
    let mut out = Vec::new();
    let mut rest = body;
    for cut in cuts.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (chunk, after) = rest.split_at(usize::from(*cut).clamp(1, rest.len()));
        out.extend_from_slice(&splicer.push(Bytes::copy_from_slice(chunk)));
        rest = after;
    }
    out.extend_from_slice(&splicer.finish(cost.as_ref()));
    assert_eq!(out, whole(cost.as_ref()));
}

fn edits(body: &Bytes) {
    let Ok(before) = RequestFields::read(body) else { return };
    let edits = Edits {
        strip_cocoon_fields: true,
        max_tokens_if_missing: Some(7),
        max_tokens_cap: Some(9),
        include_usage: true,
    };
    let edited = edit_request(body, &edits);
    let Some(after) = edited.as_ref().ok().and_then(|edited| RequestFields::read(edited).ok()) else {
        unreachable!("an edited body can be read");
    };
    assert_eq!(before.model, after.model);
    assert!(after.has_max_tokens && after.max_tokens.is_some_and(|limit| limit <= 9));
    assert!(!after.stream || after.include_usage);
    assert_eq!((after.timeout_ms, after.max_coefficient), (None, None));
}

/// Reads a form whose boundary is `XX`; one that was edited is read as the same, without what was taken out.
pub fn form(body: &[u8]) {
    const TYPE: Option<&str> = Some("multipart/form-data; boundary=XX");
    let body = Bytes::copy_from_slice(body);
    let edits = Edits { strip_cocoon_fields: true, include_usage: true, ..Edits::default() };
    for endpoint in [Endpoint::Transcriptions, Endpoint::ImageEdits] {
        let Ok(before) = RequestFacts::read(endpoint, TYPE, &body) else { continue };
        let edited = edit_body(endpoint, TYPE, &body, &edits);
        let Some(edited) = edited.ok() else { unreachable!("a form that can be read can be edited") };
        let Ok(after) = RequestFacts::read(endpoint, TYPE, &edited) else {
            unreachable!("an edited form can be read");
        };
        assert_eq!(before.fields.model, after.fields.model);
        assert_eq!((after.fields.timeout_ms, after.fields.max_coefficient), (None, None));
        assert!(!after.fields.stream || after.fields.include_usage || endpoint == Endpoint::ImageEdits);
        let before = before.of_edited(&edited);
        let bounds = |facts: &RequestFacts| (facts.prompt_tokens_max(), facts.token_limit(0), facts.choices());
        assert_eq!(bounds(&before), bounds(&after), "an edit changes nothing but the length");
    }
}
