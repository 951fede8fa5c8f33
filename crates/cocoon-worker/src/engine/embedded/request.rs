//! An OpenAI request body as generations of the embedded engine, or why it is refused.

mod body;
mod embeddings;
mod format;
mod messages;
mod tools;

use std::borrow::Cow;

use bytes::Bytes;
use cocoon_llm::{GenerateRequest, Llm, ParseSpecial, Sampling, SubmitError, TemplateError, TokenizeError};
use futures_util::stream;
use serde_json::json;

use self::body::{Body, Logprobs, Prompt, Stop};
pub(super) use self::embeddings::{Encoding, Wanted};
use self::format::Schema;
use self::messages::Calls;
use self::tools::Tools;
use super::answer::Reading;
use crate::engine::{EngineAnswer, EngineRequest, Route};
use crate::limits::EMBEDDED_CHOICES_MAX;

/// What to generate and how to put it.
pub(super) struct Asked {
    pub(super) route: Route,
    pub(super) model: Option<String>,
    pub(super) stream: bool,
    pub(super) include_usage: bool,
    pub(super) generation: GenerateRequest,
    /// How many answers to the one prompt.
    pub(super) choices: usize,
    /// What the answer must be; it is compiled off the event loop.
    pub(super) schema: Option<Schema>,
    pub(super) reading: Reading,
}

/// A request that this engine does not run; the app is to blame. It quotes names of fields, of functions and within
/// schemas at most, never what anybody wrote to the model.
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
        let tools = if chat { Tools::read(&body, llm.info())? } else { None };
        let schema = if chat { body.schema(tools.as_ref())? } else { None };
        let reading = tools.as_ref().map_or(Reading::Text, Tools::reading);
        let prompt_tokens =
            if chat { body.chat_prompt(llm, tools.as_ref(), &reading)? } else { body.plain_prompt(llm)? };
        // Neither stop strings nor probabilities are about the arguments of a call.
        let is_call = reading == Reading::Call;
        let generation = GenerateRequest {
            prompt_tokens,
            max_tokens: body.max_tokens(request.token_limit, llm.info().context_tokens),
            sampling: body.sampling()?,
            stop: if is_call { Vec::new() } else { body.stop_strings() },
            ignore_eos: body.ignore_eos.unwrap_or(false),
            logprobs: body.logprobs(chat)?.filter(|_| !is_call),
            constraint: None,
        };
        Ok(Self {
            route: request.route,
            stream: body.stream.unwrap_or(false),
            include_usage: body.stream_options.as_ref().and_then(|options| options.include_usage).unwrap_or(false),
            generation,
            choices: choices(body.n.unwrap_or(1))?,
            schema,
            reading,
            model: body.model,
        })
    }
}

fn choices(n: u32) -> Result<usize, Refusal> {
    match usize::try_from(n) {
        Ok(choices) if (1..=EMBEDDED_CHOICES_MAX).contains(&n) => Ok(choices),
        _ => Err(Refusal::new("`n` must be 1 to 8", Some("n"), "invalid_value")),
    }
}

impl Body {
    fn refuse_unsupported(&self) -> Result<(), Refusal> {
        let unsupported = |param: &'static str, what: &str| {
            let message = format!("this worker's embedded engine does not support {what}");
            Err(Refusal::new(&message, Some(param), "unsupported_parameter"))
        };
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

    /// What a chat's answer must be.
    fn schema(&self, tools: Option<&Tools>) -> Result<Option<Schema>, Refusal> {
        let format = Schema::of_format(self)?;
        match (tools.map(|tools| (tools, tools.schema())), format) {
            // A demanded call is no content, so the format does not apply to it.
            (Some((_, Some(call))), _) => Ok(Some(call)),
            (Some((_, None)), Some(_)) => Err(Refusal::new(
                "`response_format` cannot be combined with tools that the model may choose",
                Some("response_format"),
                "unsupported_value",
            )),
            (_, format) => Ok(format),
        }
    }

    fn chat_prompt(&self, llm: &Llm, tools: Option<&Tools>, reading: &Reading) -> Result<Vec<u32>, Refusal> {
        let given = self.messages.as_ref();
        let given = given.ok_or_else(|| Refusal::new("`messages` is missing", Some("messages"), "missing"))?;
        let (shows_tools, shows_calls) = (llm.info().renders_tools, llm.info().renders_tool_calls);
        let mut messages = messages::checked(given, if shows_calls { Calls::Shown } else { Calls::AsText })?;
        if let (Some(tools), Reading::Call, false) = (tools, reading, shows_tools) {
            tools.tell(&mut messages);
        }
        let for_template = tools.filter(|_| shows_tools).map(Tools::for_template);
        let prompt = llm.render_chat(&messages, for_template.as_ref(), true)?;
        if !shows_calls {
            messages::check_results(&messages, &prompt.text())?;
        }
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

    /// Of a route that `model` has no part for; it is `kind`, which `serves` another.
    pub(super) fn wrong_model(model: &str, kind: &str, serves: &str, route: Route) -> Self {
        let message = format!("`{model}` is {kind}: it serves {serves}, not {}", route.path());
        Self::new(&message, Some("model"), "unsupported_endpoint")
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
    use serde_json::Value;

    use super::*;

    fn param(refusal: Refusal) -> String {
        refusal.param.unwrap().into_owned()
    }

    fn refusal(body: Value) -> Option<String> {
        Body::read(body.to_string().as_bytes()).unwrap().refuse_unsupported().err().map(param)
    }

    #[test]
    fn what_would_change_the_answer_is_refused_by_name_and_the_rest_is_ignored() {
        assert_eq!(refusal(json!({"user": "x", "unknown": {"a": [1]}})), None);
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
    fn absurd_numbers_of_choices_are_refused() {
        assert_eq!(choices(8).ok(), Some(8));
        for n in [0, 9, u32::MAX] {
            assert_eq!(choices(n).err().map(param).as_deref(), Some("n"));
        }
    }
}
