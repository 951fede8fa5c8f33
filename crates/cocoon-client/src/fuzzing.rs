//! What a fuzz target checks; kept here because it needs the private reader. Not an API.

use bytes::Bytes;
use serde::Deserialize;

use crate::dialect::{Birth, Dialect, Fault, Translation};

const BIRTH: Birth = Birth { id: [7; 16], unix_s: 1_795_335_274 };
const FAULT: Fault<'_> =
    Fault { message: "it broke", code: "proxy_lost", openai_type: "api_error", anthropic_type: "api_error" };

/// A smallest request of each dialect, which wants to hear everything.
const REQUESTS: [(Dialect, &str); 2] = [
    (Dialect::Responses, r#"{"model":"m","input":"hi","top_logprobs":1}"#),
    (
        Dialect::Messages,
        r#"{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"hi"}],"thinking":{"type":"enabled"},"stop_sequences":["x"]}"#,
    ),
];

/// Reads a worker's answer for both dialects, as a stream and as a whole: what comes out are events or a document of that
/// API, or a violation. Any split of the bytes gives the same events. The bytes are read as a request, too.
pub fn chat_answer(data: &[u8]) {
    let (cuts, answer) = data.split_at(data.len().min(4));
    for (dialect, request) in REQUESTS {
        let whole = stream(translation(dialect, request), std::iter::once(answer));
        let pieces = Pieces { rest: answer, cuts: cuts.iter().cycle() };
        assert!(whole == stream(translation(dialect, request), pieces), "a cut changes the answer");
        check_events(dialect, &whole);
        if let Ok(document) = translation(dialect, request).whole(answer) {
            assert!(serde_json::from_slice::<serde_json::Value>(&document).is_ok(), "a document is JSON");
        }
        translation(dialect, request).refusal(500, Bytes::copy_from_slice(answer));
        if let Ok((chat, _)) = dialect.translate(answer, BIRTH) {
            assert!(serde_json::from_slice::<serde::de::IgnoredAny>(&chat).is_ok(), "a chat body is JSON");
        }
    }
}

/// The answer cut into pieces of the lengths that the first bytes say.
struct Pieces<'a, C> {
    rest: &'a [u8],
    cuts: C,
}

impl<'a, C: Iterator<Item = &'a u8>> Iterator for Pieces<'a, C> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let len = usize::from(*self.cuts.next()?).clamp(1, self.rest.len().max(1));
        let (piece, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(piece)
    }
}

fn translation(dialect: Dialect, request: &str) -> Translation {
    let Ok((_, translation)) = dialect.translate(request.as_bytes(), BIRTH) else {
        unreachable!("these requests are translated");
    };
    translation
}

/// All events of a stream.
fn stream<'a>(translation: Translation, mut pieces: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut events = translation.into_events();
    let mut out = events.begin().to_vec();
    let pushed = pieces.try_for_each(|piece| events.push(piece, &mut out));
    if pushed.and_then(|()| events.finish(&mut out)).is_err() {
        events.break_off(&FAULT, &mut out);
    }
    out
}

/// Every event is a name and one line of JSON of that type, and the last one is an end.
fn check_events(dialect: Dialect, stream: &[u8]) {
    #[derive(Deserialize)]
    struct Typed {
        r#type: String,
    }
    let text = std::str::from_utf8(stream).unwrap_or_default();
    let mut last = None;
    for event in text.split_terminator("\n\n") {
        let (name, data) = event.split_once('\n').unwrap_or_default();
        let typed: Option<Typed> = data.strip_prefix("data: ").and_then(|data| serde_json::from_str(data).ok());
        let typed = typed.map(|typed| typed.r#type);
        assert!(typed.is_some() && typed.as_deref() == name.strip_prefix("event: "), "an event is torn");
        assert!(!data.contains(['\r', '\n']), "an event has one line of data");
        last = typed;
    }
    let ends: &[&str] = match dialect {
        Dialect::Responses => &["response.completed", "response.incomplete", "error"],
        Dialect::Messages => &["message_stop", "error"],
    };
    assert!(last.is_some_and(|last| ends.contains(&last.as_str())), "a stream has an end");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bytes_are_survived(data in prop::collection::vec(prop_oneof![
            Just(b"\x03\x01\x20\x7f".to_vec()), Just(b"data: ".to_vec()), Just(b"\n\n".to_vec()), Just(b"\r".to_vec()),
            Just(br#"{"choices":[{"delta":{"content":"a"},"logprobs":{"content":["#.to_vec()),
            Just(b"{}".to_vec()), Just(b"]}}]}".to_vec()), Just(b"data: [DONE]".to_vec()),
            Just(br#"{"choices":[{"finish_reason":"stop"}]}"#.to_vec()),
            prop::collection::vec(any::<u8>(), 0..9),
        ], 0..30)) {
            super::chat_answer(&data.concat());
        }
    }
}
