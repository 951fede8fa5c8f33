//! Probabilities of tokens in the API's words.
//!
//! They are the model's own: before penalties, bias, temperature and schema, which is what the API's
//! `logprobs` mean.

use cocoon_llm::{Llm, PieceToken, TokenLogprobs};
use serde_json::{Map, Value, json};

/// Those of a chat; null when no token reports them.
pub(super) fn of_chat(llm: &Llm, tokens: &[PieceToken]) -> Value {
    let token = |id: u32, logprob: f32| json!({"token": text(llm, id), "logprob": finite(logprob), "bytes": llm.token_bytes(id)});
    let content = reported(tokens).map(|(id, one)| {
        let top: Vec<Value> = one.top.iter().map(|&(id, logprob)| token(id, logprob)).collect();
        let mut token = token(id, one.logprob);
        token["top_logprobs"] = top.into();
        token
    });
    let content: Vec<Value> = content.collect();
    if content.is_empty() { Value::Null } else { json!({"content": content, "refusal": null}) }
}

/// Those of a plain completion; null when no token reports them. `offset` counts the characters of the
/// choice's text before each token.
pub(super) fn of_completion(llm: &Llm, tokens: &[PieceToken], offset: &mut usize) -> Value {
    let (mut texts, mut logprobs, mut top, mut offsets) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (id, one) in reported(tokens) {
        texts.push(text(llm, id));
        logprobs.push(finite(one.logprob));
        // The token itself is always among them.
        let entries = one.top.iter().copied().chain([(id, one.logprob)]);
        let entries = entries.map(|(id, logprob)| (text(llm, id), Value::from(finite(logprob))));
        top.push(Value::Object(entries.collect::<Map<_, _>>()));
        offsets.push(*offset);
        *offset = offset.saturating_add(characters(llm.token_bytes(id)));
    }
    if texts.is_empty() {
        return Value::Null;
    }
    json!({"tokens": texts, "token_logprobs": logprobs, "top_logprobs": top, "text_offset": offsets})
}

fn reported(tokens: &[PieceToken]) -> impl Iterator<Item = (u32, &TokenLogprobs)> {
    tokens.iter().filter_map(|token| Some((token.id, token.logprobs.as_ref()?)))
}

fn text(llm: &Llm, id: u32) -> String {
    String::from_utf8_lossy(llm.token_bytes(id)).into_owned()
}

/// Characters that begin in these bytes; one that several tokens share is its first token's.
fn characters(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| (**byte & 0xc0) != 0x80).count()
}

/// JSON has no infinity; the API's word for "practically impossible" is -9999.
fn finite(logprob: f32) -> f32 {
    if logprob.is_finite() { logprob } else { -9999.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_are_counted_once_however_tokens_cut_them() {
        let text = "aé🦀z".as_bytes();
        for cut in 0..=text.len() {
            let (first, second) = text.split_at(cut);
            assert_eq!(characters(first) + characters(second), 4);
        }
    }
}
