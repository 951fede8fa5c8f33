//! Conversations to prompts: the model's own chat template, by `minijinja`.
//!
//! Whoever writes a message must not be able to end it and begin another one in a different role.
//! Templates paste message text between control tokens, so the steps are:
//!
//! 1. choose a *guard*, a Unicode noncharacter that occurs nowhere in the conversation;
//! 2. put it behind the first character of every control token spelled in a message;
//! 3. render;
//! 4. tokenise: guarded spellings no longer match, then the guard is taken out.
//!
//! The prompt of a conversation without such spellings is byte for byte what the template says.
//! llama.cpp differs on purpose: it lets message text form control tokens.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde, Value as TemplateValue};
use minijinja::{Environment, ErrorKind, UndefinedBehavior};
use serde::Serialize;
use serde_json::Value;

use crate::error::TemplateError;
use crate::limits::TEMPLATE_FUEL;
use crate::tokenizer::Tokenizer;

/// A rendered conversation, to be tokenised by [`crate::Llm::tokenize_prompt`].
///
/// `Debug` shows its length only: it is a prompt.
#[derive(Clone, PartialEq, Eq)]
pub struct ChatPrompt {
    pub(crate) guarded: String,
    pub(crate) guard: Option<char>,
}

impl ChatPrompt {
    /// The text as the template made it.
    ///
    /// Tokenising it with [`crate::ParseSpecial::Yes`] would honour control tokens that a user wrote.
    #[must_use]
    pub fn text(&self) -> String {
        match self.guard {
            Some(guard) => self.guarded.replace(guard, ""),
            None => self.guarded.clone(),
        }
    }
}

impl std::fmt::Debug for ChatPrompt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChatPrompt").field("bytes", &self.guarded.len()).finish_non_exhaustive()
    }
}

/// A model's compiled chat template.
pub(crate) struct ChatTemplate {
    environment: Environment<'static>,
    bos: String,
    eos: String,
    controls: Vec<String>,
}

const NAME: &str = "chat";

impl ChatTemplate {
    /// Compiles `source`; the error says where the template is wrong.
    pub(crate) fn new(source: &str, tokenizer: &Tokenizer) -> Result<Self, minijinja::Error> {
        let mut environment = Environment::new();
        environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
        environment.set_undefined_behavior(UndefinedBehavior::Lenient);
        environment.set_fuel(Some(TEMPLATE_FUEL));
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_filter("tojson", to_json);
        environment.add_function("raise_exception", raise_exception);
        // `strftime_now` stays undefined: templates that ask for the date fall back to a fixed one,
        // and a prompt does not depend on the worker's clock.
        environment.add_template_owned(NAME, source.to_owned())?;
        Ok(Self {
            environment,
            bos: tokenizer.bos_text().unwrap_or_default().to_owned(),
            eos: tokenizer.eos_text().unwrap_or_default().to_owned(),
            controls: tokenizer.control_texts().map(str::to_owned).collect(),
        })
    }

    /// Whether what the model may call is part of a prompt.
    pub(crate) fn renders_tools(&self) -> bool {
        let template = self.environment.get_template(NAME);
        template.is_ok_and(|template| template.undeclared_variables(false).contains("tools"))
    }

    /// Whether the calls in a conversation are part of a prompt.
    pub(crate) fn renders_tool_calls(&self) -> bool {
        self.environment.get_template(NAME).is_ok_and(|template| template.source().contains("tool_calls"))
    }

    /// Renders `messages`, an array of `OpenAI` chat messages.
    pub(crate) fn render(
        &self,
        messages: &Value,
        tools: Option<&Value>,
        add_generation_prompt: bool,
    ) -> Result<ChatPrompt, TemplateError> {
        let mut messages = normalised(messages)?;
        let mut tools = tools.cloned();
        let guard = self.guard(&mut messages, tools.as_mut())?;
        let context = minijinja::context! {
            messages => TemplateValue::from(Serde(messages)),
            tools => TemplateValue::from(Serde(tools)),
            add_generation_prompt => add_generation_prompt,
            bos_token => self.bos.as_str(),
            eos_token => self.eos.as_str(),
        };
        let guarded =
            self.environment.get_template(NAME).and_then(|template| template.render(context)).map_err(refused)?;
        Ok(ChatPrompt { guarded, guard })
    }

    /// Breaks up control tokens in everything the caller sent; says with which character, if any.
    fn guard(&self, messages: &mut Value, mut tools: Option<&mut Value>) -> Result<Option<char>, TemplateError> {
        let mut spelled = false;
        let mut free: Vec<char> = ('\u{FDD0}'..='\u{FDEF}').collect();
        let mut look = |text: &mut String| {
            spelled |= self.controls.iter().any(|control| text.contains(control));
            free.retain(|candidate| !text.contains(*candidate));
        };
        for value in std::iter::once(&mut *messages).chain(tools.as_deref_mut()) {
            each_text(value, &mut look);
        }
        if !spelled {
            return Ok(None);
        }
        let guard = free.first().copied().ok_or(TemplateError::Messages(
            "control tokens together with all 32 Unicode noncharacters U+FDD0 to U+FDEF",
        ))?;
        let mut break_up = |text: &mut String| *text = self.broken_up(text, guard);
        for value in std::iter::once(messages).chain(tools) {
            each_text(value, &mut break_up);
        }
        Ok(Some(guard))
    }

    fn broken_up(&self, text: &str, guard: char) -> String {
        let mut out = String::with_capacity(text.len() + 16);
        for (index, character) in text.char_indices() {
            out.push(character);
            let rest = text.get(index..).unwrap_or_default();
            if self.controls.iter().any(|control| rest.starts_with(control)) {
                out.push(guard);
            }
        }
        out
    }
}

/// Applies `change` to every string in `value`, object keys included.
fn each_text(value: &mut Value, change: &mut impl FnMut(&mut String)) {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
        Value::String(text) => change(text),
        Value::Array(items) => items.iter_mut().for_each(|item| each_text(item, change)),
        Value::Object(fields) => {
            let old = std::mem::take(fields);
            for (mut key, mut item) in old {
                change(&mut key);
                each_text(&mut item, change);
                fields.insert(key, item);
            }
        }
    }
}

/// Messages as templates expect them: `content` is a string, made of the text parts if need be.
fn normalised(messages: &Value) -> Result<Value, TemplateError> {
    let messages = messages.as_array().ok_or(TemplateError::Messages("messages is not an array"))?;
    if messages.is_empty() {
        return Err(TemplateError::Messages("messages is empty"));
    }
    messages.iter().map(normalised_message).collect()
}

fn normalised_message(message: &Value) -> Result<Value, TemplateError> {
    let mut fields = message.as_object().ok_or(TemplateError::Messages("a message is not an object"))?.clone();
    if !fields.get("role").is_some_and(Value::is_string) {
        return Err(TemplateError::Messages("a message has no role"));
    }
    let content = match fields.get("content") {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => joined(parts)?,
        Some(Value::Bool(_) | Value::Number(_) | Value::Object(_)) => {
            return Err(TemplateError::Messages("content is neither text nor a list of parts"));
        }
    };
    fields.insert("content".to_owned(), Value::String(content));
    Ok(Value::Object(fields))
}

fn joined(parts: &[Value]) -> Result<String, TemplateError> {
    let texts: Option<Vec<&str>> =
        parts.iter().map(|part| (part.get("type")?.as_str()? == "text").then(|| part.get("text")?.as_str())?).collect();
    let texts = texts.ok_or(TemplateError::Messages("this model takes text parts only"))?;
    Ok(texts.join("\n"))
}

/// Keeps what the template said through `raise_exception`; other failures may quote the
/// conversation, so only their kind is kept.
fn refused(error: minijinja::Error) -> TemplateError {
    match (error.kind(), error.detail()) {
        (ErrorKind::InvalidOperation, Some(detail)) if detail.starts_with(RAISED) => {
            TemplateError::Refused(detail[RAISED.len()..].to_owned())
        }
        (kind, _) => TemplateError::Refused(kind.to_string()),
    }
}

const RAISED: &str = "raised: ";

fn raise_exception(message: &str) -> Result<TemplateValue, minijinja::Error> {
    Err(minijinja::Error::new(ErrorKind::InvalidOperation, format!("{RAISED}{message}")))
}

/// Python's `json.dumps(value, ensure_ascii=False)`, which templates were written against.
fn to_json(value: &TemplateValue, kwargs: Kwargs) -> Result<TemplateValue, minijinja::Error> {
    let indent: Option<usize> = kwargs.get("indent")?;
    kwargs.get::<Option<bool>>("ensure_ascii")?;
    kwargs.assert_all_used()?;
    let bad = |_| minijinja::Error::new(ErrorKind::BadSerialization, "cannot be written as JSON");
    let mut bytes = Vec::new();
    match indent {
        None => value.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, PythonJson)).map_err(bad)?,
        Some(width) => {
            let indent = " ".repeat(width.min(16));
            let pretty = serde_json::ser::PrettyFormatter::with_indent(indent.as_bytes());
            value.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, pretty)).map_err(bad)?;
        }
    }
    let text = String::from_utf8_lossy(&bytes).into_owned();
    Ok(TemplateValue::from_safe_string(text))
}

/// `{"a": 1, "b": [1, 2]}`: Python puts a blank after `,` and `:`.
struct PythonJson;

impl serde_json::ser::Formatter for PythonJson {
    fn begin_array_value<W>(&mut self, writer: &mut W, first: bool) -> std::io::Result<()>
    where
        W: ?Sized + std::io::Write,
    {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W>(&mut self, writer: &mut W, first: bool) -> std::io::Result<()>
    where
        W: ?Sized + std::io::Write,
    {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W>(&mut self, writer: &mut W) -> std::io::Result<()>
    where
        W: ?Sized + std::io::Write,
    {
        writer.write_all(b": ")
    }
}
