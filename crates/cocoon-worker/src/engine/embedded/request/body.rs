//! The fields of a request body, each of its type.
//!
//! They are read one by one, so that a refusal can name the one that is wrong.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::Refusal;

/// The fields that mean something here. Others are ignored, as the API's servers do.
pub(super) struct Body {
    pub(super) model: Option<String>,
    pub(super) messages: Option<Value>,
    pub(super) prompt: Option<Prompt>,
    pub(super) stream: Option<bool>,
    pub(super) stream_options: Option<StreamOptions>,
    pub(super) max_tokens: Option<u32>,
    pub(super) max_completion_tokens: Option<u32>,
    pub(super) temperature: Option<f32>,
    pub(super) top_p: Option<f32>,
    pub(super) top_k: Option<i64>,
    pub(super) seed: Option<i64>,
    pub(super) stop: Option<Stop>,
    pub(super) presence_penalty: Option<f32>,
    pub(super) frequency_penalty: Option<f32>,
    pub(super) logit_bias: Option<BTreeMap<String, f32>>,
    pub(super) n: Option<u32>,
    pub(super) best_of: Option<u32>,
    pub(super) logprobs: Option<Logprobs>,
    pub(super) top_logprobs: Option<u8>,
    pub(super) ignore_eos: Option<bool>,
    pub(super) response_format: Option<Value>,
    pub(super) tools: Option<Vec<Value>>,
    pub(super) functions: Option<Vec<Value>>,
    pub(super) tool_choice: Option<Value>,
    pub(super) echo: Option<bool>,
    pub(super) suffix: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct StreamOptions {
    pub(super) include_usage: Option<bool>,
}

#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Stop {
    One(String),
    Many(Vec<String>),
}

#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Prompt {
    Text(String),
    Texts(Vec<String>),
    Tokens(Vec<u32>),
}

/// A switch for chat, a number for plain completions.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Logprobs {
    Switch(bool),
    Count(u8),
}

impl Body {
    pub(super) fn read(body: &[u8]) -> Result<Self, Refusal> {
        let mut fields: Map<String, Value> = serde_json::from_slice(body)
            .map_err(|_| Refusal::new("the body is no JSON object", None, "invalid_type"))?;
        Ok(Self {
            model: field(&mut fields, "model")?,
            messages: field(&mut fields, "messages")?,
            prompt: field(&mut fields, "prompt")?,
            stream: field(&mut fields, "stream")?,
            stream_options: field(&mut fields, "stream_options")?,
            max_tokens: field(&mut fields, "max_tokens")?,
            max_completion_tokens: field(&mut fields, "max_completion_tokens")?,
            temperature: field(&mut fields, "temperature")?,
            top_p: field(&mut fields, "top_p")?,
            top_k: field(&mut fields, "top_k")?,
            seed: field(&mut fields, "seed")?,
            stop: field(&mut fields, "stop")?,
            presence_penalty: field(&mut fields, "presence_penalty")?,
            frequency_penalty: field(&mut fields, "frequency_penalty")?,
            logit_bias: field(&mut fields, "logit_bias")?,
            n: field(&mut fields, "n")?,
            best_of: field(&mut fields, "best_of")?,
            logprobs: field(&mut fields, "logprobs")?,
            top_logprobs: field(&mut fields, "top_logprobs")?,
            ignore_eos: field(&mut fields, "ignore_eos")?,
            response_format: field(&mut fields, "response_format")?,
            tools: field(&mut fields, "tools")?,
            functions: field(&mut fields, "functions")?,
            tool_choice: field(&mut fields, "tool_choice")?,
            echo: field(&mut fields, "echo")?,
            suffix: field(&mut fields, "suffix")?,
        })
    }
}

/// Takes one field out; null is as good as absent.
pub(super) fn field<T: DeserializeOwned>(
    fields: &mut Map<String, Value>,
    name: &'static str,
) -> Result<Option<T>, Refusal> {
    // The reason is left out: it may quote the request.
    let wrong = |_| Refusal::new(&format!("`{name}` has the wrong type"), Some(name), "invalid_type");
    fields.remove(name).map_or(Ok(None), |value| Option::deserialize(value).map_err(wrong))
}

/// A request is never shown.
impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body").field("model", &self.model).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_field_of_the_wrong_type_is_named() {
        for (name, value) in [
            ("model", json!(1)),
            ("prompt", json!({"text": "x"})),
            ("stream", json!("yes")),
            ("stream_options", json!([true, 1])),
            ("max_tokens", json!(-1)),
            ("temperature", json!("hot")),
            ("top_p", json!([])),
            ("seed", json!(1.5)),
            ("stop", json!([1])),
            ("logit_bias", json!({"1": "x"})),
            ("n", json!("two")),
            ("logprobs", json!("many")),
            ("tools", json!({})),
        ] {
            let refusal = Body::read(json!({name: value}).to_string().as_bytes()).unwrap_err();
            assert_eq!((refusal.param.as_deref(), refusal.code), (Some(name), "invalid_type"), "{name}");
            assert!(Body::read(json!({name: null}).to_string().as_bytes()).is_ok(), "{name}");
        }
        assert!(Body::read(b"[]").unwrap_err().param.is_none());
    }
}
