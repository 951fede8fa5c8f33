//! An OpenAI request body as generations of the embedded engine, or why it is refused.

mod body;
mod messages;

use std::borrow::Cow;

use bytes::Bytes;
use cocoon_llm::{GenerateRequest, Llm, ParseSpecial, Sampling, SubmitError, TemplateError, TokenizeError};
use futures_util::stream;
use serde_json::{Value, json};

use self::body::{Body, Logprobs, Prompt, Stop};
use crate::engine::{EngineAnswer, EngineRequest, Route};
use crate::limits::EMBEDDED_CHOICES_MAX;

/// What to generate and how to put it.
pub(super) struct Asked {
    pub(super) route: Route,
    pub(super) model: Option<String>,
    pub(super) stream: bool,
    pub(super) include_usage: bool,
    /// One per choice.
    pub(super) generations: Vec<GenerateRequest>,
}

/// A request that this engine does not run; the app is to blame. Never quotes the request.
#[derive(Debug)]
pub(super) struct Refusal {
    message: String,
    param: Option<Cow<'static, str>>,
    code: &'static str,
}

impl Asked {
    pub(super) fn read(llm: &Llm, request: &EngineRequest) -> Result<Self, Refusal> {
        let body = Body::read(request.body.expose())?;
        body.refuse_unsupported()?;
        let chat = request.route == Route::ChatCompletions;
        let prompt = if chat { body.chat_prompt(llm)? } else { body.plain_prompt(llm)? };
        let max_tokens = body.max_tokens(request.token_limit, llm.info().context_tokens);
        let generation = GenerateRequest {
            prompt_tokens: prompt,
            max_tokens,
            sampling: body.sampling()?,
            stop: body.stop_strings(),
            ignore_eos: body.ignore_eos.unwrap_or(false),
            logprobs: body.logprobs(chat)?,
        };
        Ok(Self {
            route: request.route,
            stream: body.stream.unwrap_or(false),
            include_usage: body.stream_options.as_ref().and_then(|options| options.include_usage).unwrap_or(false),
            generations: choices(&generation, body.n.unwrap_or(1))?,
            model: body.model,
        })
    }
}

/// The same generation once per choice; a given seed still gives different choices.
fn choices(generation: &GenerateRequest, n: u32) -> Result<Vec<GenerateRequest>, Refusal> {
    if !(1..=EMBEDDED_CHOICES_MAX).contains(&n) {
        return Err(Refusal::new("`n` must be 1 to 8", Some("n"), "invalid_value"));
    }
    let choice = |index: u32| {
        let mut one = generation.clone();
        one.sampling.seed = one.sampling.seed.map(|seed| seed.wrapping_add(u64::from(index)));
        one
    };
    Ok((0..n).map(choice).collect())
}

impl Body {
    fn refuse_unsupported(&self) -> Result<(), Refusal> {
        let unsupported = |param: &'static str, what: &str| {
            let message = format!("this worker's embedded engine does not support {what}");
            Err(Refusal::new(&message, Some(param), "unsupported_parameter"))
        };
        let given = |list: &Option<Vec<Value>>| list.as_ref().is_some_and(|list| !list.is_empty());
        let wants_tools = self.tool_choice.as_ref().is_none_or(|choice| choice != "none");
        if wants_tools && given(&self.tools) {
            return unsupported("tools", "`tools`");
        }
        if given(&self.functions) {
            return unsupported("functions", "`functions`");
        }
        match self.response_format.as_ref().map(|format| format.get("type").and_then(Value::as_str)) {
            None | Some(Some("text")) => {}
            Some(Some("json_schema")) => {
                return unsupported("response_format", "`response_format` of type `json_schema`");
            }
            Some(Some("json_object")) => {
                return unsupported("response_format", "`response_format` of type `json_object`");
            }
            Some(_) => return unsupported("response_format", "this `response_format`"),
        }
        if self.echo == Some(true) {
            return unsupported("echo", "`echo`");
        }
        if self.suffix.as_ref().is_some_and(|suffix| !suffix.is_empty()) {
            return unsupported("suffix", "`suffix`");
        }
        if self.best_of.is_some_and(|best_of| best_of > self.n.unwrap_or(1)) {
            return unsupported("best_of", "`best_of` above `n`");
        }
        Ok(())
    }

    fn chat_prompt(&self, llm: &Llm) -> Result<Vec<u32>, Refusal> {
        let given = self.messages.as_ref();
        let given = given.ok_or_else(|| Refusal::new("`messages` is missing", Some("messages"), "missing"))?;
        let prompt = llm.render_chat(&messages::checked(given)?, None, true)?;
        Ok(llm.tokenize_prompt(&prompt)?)
    }

    fn plain_prompt(&self, llm: &Llm) -> Result<Vec<u32>, Refusal> {
        let text = match self.prompt.as_ref() {
            Some(Prompt::Tokens(tokens)) if !tokens.is_empty() => return Ok(tokens.clone()),
            Some(Prompt::Text(text)) => text,
            Some(Prompt::Texts(texts)) => match texts.as_slice() {
                [text] => text,
                _ => {
                    return Err(Refusal::new(
                        "several prompts in one request are not supported",
                        Some("prompt"),
                        "unsupported_parameter",
                    ));
                }
            },
            Some(Prompt::Tokens(_)) | None => {
                return Err(Refusal::new("`prompt` is missing", Some("prompt"), "missing"));
            }
        };
        Ok(llm.tokenize(text, ParseSpecial::No)?)
    }

    fn max_tokens(&self, limit: Option<u32>, context: u32) -> u32 {
        let asked = [self.max_tokens, self.max_completion_tokens, limit];
        asked.into_iter().flatten().min().unwrap_or(context).min(context)
    }

    fn sampling(&self) -> Result<Sampling, Refusal> {
        let default = Sampling::default();
        let bias = self.logit_bias.iter().flatten();
        let logit_bias = bias
            .map(|(token, bias)| token.parse().map(|token: u32| (token, *bias)))
            .collect::<Result<_, _>>()
            .map_err(|_| Refusal::new("a key of `logit_bias` is no token id", Some("logit_bias"), "invalid_value"))?;
        Ok(Sampling {
            temperature: within("temperature", self.temperature, 2.0)?.unwrap_or(default.temperature),
            top_p: within("top_p", self.top_p, 1.0)?.unwrap_or(default.top_p),
            // As elsewhere, zero and below mean all.
            top_k: self.top_k.and_then(|k| u32::try_from(k).ok()).filter(|&k| k > 0),
            seed: self.seed.map(i64::cast_unsigned),
            presence_penalty: self.presence_penalty.unwrap_or(0.0),
            frequency_penalty: self.frequency_penalty.unwrap_or(0.0),
            logit_bias,
        })
    }

    fn stop_strings(&self) -> Vec<String> {
        match &self.stop {
            None => Vec::new(),
            Some(Stop::One(stop)) => vec![stop.clone()],
            Some(Stop::Many(stops)) => stops.clone(),
        }
    }

    fn logprobs(&self, chat: bool) -> Result<Option<u8>, Refusal> {
        match (&self.logprobs, self.top_logprobs) {
            (None | Some(Logprobs::Switch(false)), None) => Ok(None),
            (Some(Logprobs::Switch(true)), top) if chat => Ok(Some(top.unwrap_or(0))),
            (Some(Logprobs::Count(count)), None) if !chat => Ok(Some(*count)),
            _ => Err(Refusal::new(
                "`logprobs` and `top_logprobs` do not fit this endpoint",
                Some("logprobs"),
                "invalid_value",
            )),
        }
    }
}

/// The API's range of a number: zero to `max`.
fn within(field: &'static str, given: Option<f32>, max: f32) -> Result<Option<f32>, Refusal> {
    match given {
        Some(value) if !(0.0..=max).contains(&value) => {
            Err(Refusal::new(&format!("`{field}` must be 0 to {max}"), Some(field), "invalid_value"))
        }
        given => Ok(given),
    }
}

impl Refusal {
    fn new(message: &str, param: Option<&'static str>, code: &'static str) -> Self {
        Self { message: message.to_owned(), param: param.map(Cow::Borrowed), code }
    }

    /// What is wrong, without anything of the request.
    pub(super) fn message(&self) -> &str {
        &self.message
    }

    /// About a part of a field, named by its path.
    fn at(path: String, problem: &str, code: &'static str) -> Self {
        Self { message: format!("`{path}` {problem}"), param: Some(Cow::Owned(path)), code }
    }
}

impl From<TemplateError> for Refusal {
    fn from(error: TemplateError) -> Self {
        Self::new(&error.to_string(), Some("messages"), "invalid_value")
    }
}

impl From<TokenizeError> for Refusal {
    fn from(error: TokenizeError) -> Self {
        Self::new(&error.to_string(), None, "context_length_exceeded")
    }
}

impl From<SubmitError> for Refusal {
    fn from(error: SubmitError) -> Self {
        let too_long = matches!(error, SubmitError::PromptTooLong { .. });
        let code = if too_long { "context_length_exceeded" } else { "invalid_value" };
        Self::new(&error.to_string(), None, code)
    }
}

/// An answer of the engine, as its HTTP siblings give one: it passes to the app as it is.
impl From<Refusal> for EngineAnswer {
    fn from(refusal: Refusal) -> Self {
        let Refusal { message, param, code } = refusal;
        let error = json!({"message": message, "type": "invalid_request_error", "param": param, "code": code});
        let body = Bytes::from(json!({"error": error}).to_string());
        Self {
            status: 400,
            content_type: Some("application/json".to_owned()),
            body: Box::pin(stream::once(async move { Ok(body) })),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn param(refusal: Refusal) -> String {
        refusal.param.unwrap().into_owned()
    }

    fn refusal(body: Value) -> Option<String> {
        Body::read(body.to_string().as_bytes()).unwrap().refuse_unsupported().err().map(param)
    }

    #[test]
    fn what_would_change_the_answer_is_refused_by_name_and_the_rest_is_ignored() {
        assert_eq!(refusal(json!({"tools": [{}]})), Some("tools".to_owned()));
        assert_eq!(refusal(json!({"tools": [{}], "tool_choice": "none"})), None);
        assert_eq!(refusal(json!({"tools": [], "user": "x", "unknown": {"a": [1]}})), None);
        assert_eq!(refusal(json!({"response_format": {"type": "json_schema"}})), Some("response_format".to_owned()));
        assert_eq!(refusal(json!({"response_format": {"type": "text"}})), None);
        assert_eq!(refusal(json!({"best_of": 3, "n": 2})), Some("best_of".to_owned()));
        assert_eq!(refusal(json!({"echo": true})), Some("echo".to_owned()));
    }

    #[test]
    fn a_number_outside_the_apis_range_is_named() {
        for (body, expected) in [
            (json!({"temperature": -0.1}), Some("temperature")),
            (json!({"temperature": 2.1}), Some("temperature")),
            (json!({"temperature": 1e300}), Some("temperature")),
            (json!({"top_p": -1}), Some("top_p")),
            (json!({"top_p": 1.01}), Some("top_p")),
            (json!({"temperature": 0, "top_p": 0}), None),
            (json!({"temperature": 2, "top_p": 1}), None),
        ] {
            let sampling = Body::read(body.to_string().as_bytes()).unwrap().sampling();
            assert_eq!(sampling.err().map(param).as_deref(), expected, "{body}");
        }
    }

    #[test]
    fn choices_have_seeds_of_their_own() {
        let mut generation = GenerateRequest::new(vec![1], 4);
        generation.sampling.seed = Some(u64::MAX);
        let seeds: Vec<_> =
            choices(&generation, 3).ok().unwrap().iter().map(|one| one.sampling.seed.unwrap()).collect();
        assert_eq!(seeds, [u64::MAX, 0, 1]);
        assert!(choices(&generation, 0).is_err() && choices(&generation, 9).is_err());
    }
}
