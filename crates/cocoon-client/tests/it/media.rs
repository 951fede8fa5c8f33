//! Forms and binary answers: what travels on of them, what is held for them, and what is refused.

use bytes::Bytes;
use cocoon_client::{ClientConfig, LimitsConfig};
use cocoon_wire::Version;
use http::Request;
use http_body_util::Full;

use crate::rig::{MODEL, Rig, body, check_error, end, envelope, request};

const TYPE: &str = "multipart/form-data; boundary=XX";

fn field(name: &str, value: &str) -> String {
    format!("--XX\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
}

fn file(len: usize) -> String {
    let head =
        "--XX\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\nContent-Type: audio/wav\r\n\r\n";
    format!("{head}{}\r\n", "\0".repeat(len))
}

fn transcription(content_type: &str, form: impl Into<Bytes>) -> Request<Full<Bytes>> {
    let request = request("POST", "/v1/audio/transcriptions").header("content-type", content_type);
    request.body(Full::new(form.into())).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_form_travels_byte_for_byte_but_for_our_own_fields() {
    let (rig, mut proxy) = Rig::ready(ClientConfig::default(), Version::Extended).await;
    let mut app = rig.app().await;
    let kept = field("model", MODEL) + &file(1_600) + &field("language", "en") + "--XX--\r\n";
    let own = field("timeout", "60") + &field("max_coefficient", "1200") + &field("request_guid", "app-1");
    let answering = async {
        let run = proxy.next_run().await;
        proxy.head(run.request_id, "application/json", b"{}", end());
        run
    };
    let sent = transcription("Multipart/Form-Data;boundary=\"XX\"", own + &kept);
    let (response, run) = tokio::join!(app.send(sent), answering);
    assert_eq!(response.headers()["x-request-id"], "app-1");
    let travelled = envelope(&run);
    assert_eq!(travelled.payload, kept.as_bytes());
    assert_eq!((travelled.url.as_str(), travelled.header("content-type")), ("/v1/audio/transcriptions", Some(TYPE)));
    // A token of the transcript for 16 bytes of the file at most.
    assert_eq!((run.max_tokens, run.max_coefficient.thousandths(), run.timeout_ms), (100, 1_200, 60_000));
}

#[tokio::test(start_paused = true)]
async fn the_largest_file_travels() {
    let (rig, mut proxy) = Rig::ready(ClientConfig::default(), Version::Extended).await;
    let mut app = rig.app().await;
    let form = field("model", MODEL) + &file(25 << 20) + "--XX--\r\n";
    let len = form.len();
    let answering = async {
        let run = proxy.next_run().await;
        proxy.head(run.request_id, "application/json", b"{}", end());
        envelope(&run).payload.len()
    };
    let (response, travelled) = tokio::join!(app.send(transcription(TYPE, form)), answering);
    assert_eq!((response.status().as_u16(), travelled), (200, len));
}

#[tokio::test(start_paused = true)]
async fn a_form_that_is_too_large_is_refused() {
    let limits = LimitsConfig { upload_bytes: 1_000, ..LimitsConfig::default() };
    let (rig, mut proxy) = Rig::ready(ClientConfig { limits, ..ClientConfig::default() }, Version::Extended).await;
    let announced = format!(
        "POST /v1/audio/transcriptions HTTP/1.1\r\nhost: localhost\r\ncontent-type: {TYPE}\r\ncontent-length: 1001\r\n\r\n"
    );
    assert!(rig.raw(announced.as_bytes()).await.starts_with("HTTP/1.1 413 "));
    assert!(proxy.heard().is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_served_is_named() {
    let (rig, mut proxy) = Rig::ready(ClientConfig::default(), Version::Extended).await;
    let mut app = rig.app().await;
    let model = field("model", MODEL);
    for (form, code, param) in [
        (model.clone() + &field("response_format", "srt") + &file(9), "unsupported_parameter", "response_format"),
        (model.clone() + &field("stream", "perhaps") + &file(9), "bad_request", "stream"),
        (file(9), "bad_request", "model"),
        (model.clone(), "bad_request", "file"),
        (field("Model", MODEL) + &file(9), "bad_request", "model"),
    ] {
        let response = app.send(transcription(TYPE, form + "--XX--\r\n")).await;
        assert_eq!(check_error(response, 400, code).await["error"]["param"], param);
    }
    let twice = model.clone() + &model + &file(9) + "--XX--";
    check_error(app.send(transcription(TYPE, twice)).await, 400, "bad_request").await;
    check_error(app.send(transcription("application/json", "{}")).await, 415, "unsupported_media_type").await;
    assert!(proxy.heard().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_binary_answer_passes_untouched() {
    let (rig, mut proxy) = Rig::ready(ClientConfig::default(), Version::Extended).await;
    let mut app = rig.app().await;
    let picture = b"\x89PNG\r\n\x1a\n\0\xff data: {\"usage\":{\"prompt_tokens\":1}}\n\n".as_slice();
    let answering = async {
        let run = proxy.next_run().await;
        proxy.head(run.request_id, "image/png", picture, end());
    };
    let form = field("model", MODEL) + &file(9) + "--XX--\r\n";
    let (response, ()) = tokio::join!(app.send(transcription(TYPE, form)), answering);
    assert_eq!(response.headers()["content-type"], "image/png");
    assert_eq!(body(response).await, picture);
}
