//! The scripted engine's answers on the endpoints beside chat: embeddings, reranking, transcripts, images.
//!
//! Each follows from the request alone, so that a test can compute it: vectors and scores are digests of texts, a
//! transcript spells the digest of the file that arrived, and an image is a digest, too. Forms are read by a reader of
//! its own, lenient on purpose: it is what the network's strict one is checked against.

use bytes::Bytes;
use memchr::memmem;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{Ending, Event, Script, hex, json_script, sse, step, stream};
use crate::base64;

/// Numbers of an embedding that names no `dimensions`.
const DIMENSIONS: u64 = 8;
/// Bytes of audio that count as a second: 16 kHz, 16 bits, one channel.
const BYTES_PER_SECOND: f64 = 32_000.0;
/// What every PNG begins with.
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";

/// The built-in answer of an endpoint, if it has one of its own.
pub(crate) fn answer(path: &str, content_type: &str, body: &Bytes) -> Option<Script> {
    let json = || serde_json::from_slice::<Value>(body).unwrap_or(Value::Null);
    match path {
        "/v1/embeddings" => Some(embeddings(&json())),
        "/v1/rerank" => Some(rerank(&json())),
        "/v1/images/generations" => Some(images(&json())),
        "/v1/images/edits" => Some(edited_images(&Form::read(content_type, body))),
        "/v1/audio/transcriptions" | "/v1/audio/translations" => Some(transcript(&Form::read(content_type, body))),
        _ => None,
    }
}

/// A body of `length` bytes, in which every byte value occurs, and words that look like usage.
pub(crate) fn binary(content_type: &str, length: usize) -> Script {
    let trap = b"\ndata: {\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":1}}\n\n";
    let bytes: Vec<u8> = trap.iter().copied().chain((0..=255u8).cycle()).take(length).collect();
    let mut script = stream(content_type, Vec::new(), Ending::Finish);
    let pieces = bytes.chunks(10_000).map(|piece| step_of(Bytes::copy_from_slice(piece)));
    script.steps = pieces.collect();
    script
}

fn step_of(bytes: Bytes) -> super::Step {
    super::Step { bytes, ..step(0, String::new()) }
}

fn embeddings(asked: &Value) -> Script {
    let inputs = match asked.get("input") {
        Some(Value::Array(inputs)) if inputs.iter().all(|input| !input.is_number()) => inputs.clone(),
        Some(one) => vec![one.clone()],
        None => Vec::new(),
    };
    let dimensions = asked.get("dimensions").and_then(Value::as_u64).unwrap_or(DIMENSIONS);
    let wants_base64 = asked.get("encoding_format").and_then(Value::as_str) == Some("base64");
    let data = inputs.iter().enumerate().map(|(index, input)| {
        let vector = vector(&plain(input), dimensions);
        let embedding = match wants_base64 {
            true => json!(base64::encode(&vector.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<_>>())),
            false => json!(vector),
        };
        json!({"object": "embedding", "index": index, "embedding": embedding})
    });
    let tokens: usize = inputs.iter().map(|input| plain(input).split_whitespace().count()).sum();
    let body = json!({"object": "list", "model": asked.get("model"), "data": data.collect::<Vec<_>>(),
                      "usage": {"prompt_tokens": tokens, "total_tokens": tokens}});
    json_script(200, &body, 0)
}

/// Numbers between 0 and 1: the bytes of digests of the text.
fn vector(text: &str, dimensions: u64) -> Vec<f32> {
    let numbers = (0u32..).flat_map(|block| {
        let digest = Sha256::new().chain_update(block.to_le_bytes()).chain_update(text).finalize();
        digest.into_iter().map(|byte| f32::from(byte) / 256.0).collect::<Vec<_>>()
    });
    numbers.take(usize::try_from(dimensions.min(65_536)).unwrap_or(0)).collect()
}

fn rerank(asked: &Value) -> Script {
    let query = asked.get("query").map(plain).unwrap_or_default();
    let documents: Vec<String> =
        asked.get("documents").and_then(Value::as_array).map(|all| all.iter().map(plain).collect()).unwrap_or_default();
    let mut results: Vec<_> = documents
        .iter()
        .enumerate()
        .map(|(index, document)| (index, vector(&format!("{query}\n{document}"), 1)[0], document))
        .collect();
    results.sort_by(|one, other| other.1.total_cmp(&one.1));
    let top = asked.get("top_n").and_then(Value::as_u64).and_then(|top| usize::try_from(top).ok());
    results.truncate(top.unwrap_or(usize::MAX));
    let results: Vec<Value> = results
        .into_iter()
        .map(|(index, score, text)| json!({"index": index, "relevance_score": score, "document": {"text": text}}))
        .collect();
    let words = |text: &String| text.split_whitespace().count();
    let tokens: usize = documents.iter().map(|document| words(document).saturating_add(words(&query))).sum();
    // As vLLM says it: the sum only.
    let body =
        json!({"id": "rerank-sim", "model": asked.get("model"), "usage": {"total_tokens": tokens}, "results": results});
    json_script(200, &body, 0)
}

fn images(asked: &Value) -> Script {
    let prompt = asked.get("prompt").map(plain).unwrap_or_default();
    let n = asked.get("n").and_then(Value::as_u64).unwrap_or(1);
    let data: Vec<Value> = (0..n.min(16)).map(|index| image(format!("{index}\n{prompt}").as_bytes())).collect();
    let mut body = json!({"created": 1_700_000_000, "data": data});
    // Engines of old say nothing of usage, those of now do: both can be asked for.
    if asked.get("quality").and_then(Value::as_str) == Some("high") {
        body["usage"] = json!({"input_tokens": 5, "output_tokens": 77, "total_tokens": 82});
    }
    json_script(200, &body, 0)
}

fn edited_images(form: &Form) -> Script {
    let data: Vec<Value> = form.fields.iter().filter(|field| field.is_file).map(|field| image(&field.value)).collect();
    json_script(200, &json!({"created": 1_700_000_000, "data": data}), 0)
}

fn image(of: &[u8]) -> Value {
    json!({"b64_json": base64::encode(&[PNG, &Sha256::digest(of)].concat())})
}

fn transcript(form: &Form) -> Script {
    let Some(file) = form.fields.iter().find(|field| field.is_file) else {
        return json_script(400, &json!({"error": {"message": "no file", "type": "invalid_request_error"}}), 0);
    };
    let text = format!("sha256 {}", hex(&Sha256::digest(&file.value)));
    #[expect(clippy::cast_precision_loss, reason = "files are far smaller than 2^52 bytes")]
    let duration = file.value.len() as f64 / BYTES_PER_SECOND;
    if form.text("stream") == Some("true") {
        return streamed_transcript(&text, form.text("stream_include_usage") == Some("true"));
    }
    let body = match form.text("response_format") {
        // As vLLM writes it: seconds in a string, and no usage.
        Some("verbose_json") => json!({"task": "transcribe", "language": "en", "duration": duration.to_string(),
                                       "text": text, "segments": []}),
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a length in seconds")]
        _ => json!({"text": text, "usage": {"type": "duration", "seconds": duration.ceil() as u64}}),
    };
    json_script(200, &body, 0)
}

fn streamed_transcript(text: &str, tells_usage: bool) -> Script {
    let (head, tail) = text.split_at(text.len() / 2);
    let mut done = json!({"type": "transcript.text.done", "text": text});
    if tells_usage {
        done["usage"] = json!({"type": "tokens", "input_tokens": 14, "output_tokens": 9, "total_tokens": 23});
    }
    let delta = |text: &str| Event::now(json!({"type": "transcript.text.delta", "delta": text}).to_string());
    sse(vec![delta(head), delta(tail), Event::now(done.to_string())], false, Ending::Finish)
}

/// A text as it is, anything else as JSON.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// A form, read leniently.
struct Form {
    fields: Vec<Field>,
}

struct Field {
    name: String,
    is_file: bool,
    value: Vec<u8>,
}

impl Form {
    fn read(content_type: &str, body: &[u8]) -> Self {
        let boundary = content_type.split("boundary=").nth(1).unwrap_or_default().trim_matches('"');
        let delimiter = format!("--{boundary}");
        let starts: Vec<usize> = memmem::find_iter(body, delimiter.as_bytes()).collect();
        let parts = starts.windows(2).filter_map(|ends| body.get(ends[0] + delimiter.len()..ends[1]));
        Self { fields: parts.filter_map(Field::read).collect() }
    }

    fn text(&self, name: &str) -> Option<&str> {
        let field = self.fields.iter().find(|field| field.name == name)?;
        std::str::from_utf8(&field.value).ok()
    }
}

impl Field {
    fn read(part: &[u8]) -> Option<Self> {
        let part = part.strip_prefix(b"\r\n")?;
        let head = memmem::find(part, b"\r\n\r\n")?;
        let (head, value) = part.split_at_checked(head)?;
        let head = String::from_utf8_lossy(head);
        let name = head.split("name=\"").nth(1)?.split('"').next()?.to_owned();
        let value = value.strip_prefix(b"\r\n\r\n")?;
        let value = value.strip_suffix(b"\r\n").unwrap_or(value);
        Some(Self { name, is_file: head.contains("filename"), value: value.to_vec() })
    }
}
