//! A `/v1/messages` request as a chat body.

use std::borrow::Cow;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Frame, Thinking};
use crate::{
    dialect::{
        Birth, DialectError,
        conversation::{Content, Conversation, Function, ImageUrl, Part, Tool},
        members::{ChatBody, List, Members, is_text, read},
    },
    limits::DIALECT_STOP_SEQUENCES,
};

const NO_SERVER_TOOLS: &str = "workers here run a model and nothing else; tools that the app runs are supported";

pub(super) fn translate(body: &[u8], birth: Birth) -> Result<(Bytes, Frame), DialectError> {
    let mut members = Members::read(body)?;
    refuse_what_is_not_done(&mut members)?;
    let mut chat = ChatBody::new();
    let model = members.take("model");
    chat.put_some("model", model);
    let max_tokens = members.take("max_tokens").ok_or_else(|| DialectError::bad("max_tokens", "is required"))?;
    chat.put("max_tokens", &max_tokens);
    chat.put("messages", &conversation(members.take("system"), members.take("messages"))?.messages());
    put_tools(&mut members, &mut chat)?;
    let stop_sequences = put_stop(&mut members, &mut chat)?;
    let thinking = put_thinking(&mut members, &mut chat)?;
    put_output(&mut members, &mut chat)?;
    put_user(&mut members, &mut chat)?;
    let model = model.and_then(|model| serde_json::from_str(model.get()).ok()).unwrap_or_default();
    Ok((chat.put_rest(members)?.into(), Frame { birth, model, thinking, stop_sequences }))
}

fn refuse_what_is_not_done(members: &mut Members<'_>) -> Result<(), DialectError> {
    for field in ["container", "mcp_servers"] {
        members.refuse(field, NO_SERVER_TOOLS)?;
    }
    members.refuse("context_management", "nothing edits a conversation but the app")?;
    for field in ["n", "best_of", "n_cmpl"] {
        members.refuse_but(field, "1", "an answer of this API is one; send several requests")?;
    }
    members.refuse_but("speed", "\"standard\"", "a worker has one speed")?;
    members.refuse("inference_geo", "a worker says nothing about where it stands")?;
    // Caches and tiers of the official servers; engines cache prefixes unasked, and a proxy has one tier.
    for field in ["cache_control", "service_tier", "diagnostics"] {
        members.take(field);
    }
    Ok(())
}

fn put_stop(members: &mut Members<'_>, chat: &mut ChatBody) -> Result<Vec<String>, DialectError> {
    const EXPECTED: &str = "must be a list of strings, not too many";
    let sequences: Option<List<'_>> = members.take_as("stop_sequences", EXPECTED)?;
    let sequences = sequences.map(|list| list.0).unwrap_or_default();
    if sequences.len() > DIALECT_STOP_SEQUENCES {
        return Err(DialectError::bad("stop_sequences", EXPECTED));
    }
    let sequences = sequences.into_iter().map(|sequence| read(sequence, "stop_sequences", EXPECTED));
    let sequences: Vec<String> = sequences.collect::<Result<_, _>>()?;
    if !sequences.is_empty() {
        chat.put("stop", &sequences);
    }
    Ok(sequences)
}

/// Engines have no common word for it: these two are of the chat templates of the models that can do without, and others
/// ignore them. How many tokens are thought is up to the model.
#[derive(Serialize)]
struct TemplateOptions {
    enable_thinking: bool,
    thinking: bool,
}

fn put_thinking(members: &mut Members<'_>, chat: &mut ChatBody) -> Result<Thinking, DialectError> {
    #[derive(Deserialize)]
    struct Wish<'a> {
        #[serde(borrow, rename = "type")]
        kind: Cow<'a, str>,
        #[serde(borrow)]
        display: Option<Cow<'a, str>>,
    }
    let wish: Option<Wish<'_>> = members.take_as("thinking", "must be an object with a `type`")?;
    let Some(wish) = wish else { return Ok(Thinking::Untold) };
    let is_wanted = match &*wish.kind {
        "enabled" | "adaptive" | "between_tools" => true,
        "disabled" => false,
        _ => return Err(DialectError::bad("thinking.type", "must be enabled, adaptive or disabled")),
    };
    let own_options = members.take("chat_template_kwargs");
    match own_options {
        Some(options) => chat.put("chat_template_kwargs", &options),
        None => chat.put("chat_template_kwargs", &TemplateOptions { enable_thinking: is_wanted, thinking: is_wanted }),
    }
    let is_told = is_wanted && wish.display.as_deref() != Some("omitted");
    Ok(if is_told { Thinking::Told } else { Thinking::Untold })
}

fn put_output(members: &mut Members<'_>, chat: &mut ChatBody) -> Result<(), DialectError> {
    #[derive(Deserialize)]
    struct Output<'a> {
        #[serde(borrow)]
        effort: Option<Cow<'a, str>>,
        #[serde(borrow)]
        format: Option<Format<'a>>,
    }
    #[derive(Deserialize)]
    struct Format<'a> {
        #[serde(borrow, rename = "type")]
        kind: Cow<'a, str>,
        #[serde(borrow)]
        schema: Option<&'a RawValue>,
    }
    #[derive(Serialize)]
    struct ResponseFormat<'a> {
        r#type: &'static str,
        json_schema: JsonSchema<'a>,
    }
    #[derive(Serialize)]
    struct JsonSchema<'a> {
        name: &'static str,
        schema: &'a RawValue,
        strict: bool,
    }
    let output: Option<Output<'_>> = members.take_as("output_config", "must be an object")?;
    let Some(output) = output else { return Ok(()) };
    if let Some(effort) = output.effort {
        // Engines know three words.
        let effort = if matches!(&*effort, "xhigh" | "max") { "high" } else { &*effort };
        chat.put("reasoning_effort", &effort);
    }
    let Some(format) = output.format else { return Ok(()) };
    if format.kind != "json_schema" {
        return Err(DialectError::bad("output_config.format.type", "must be json_schema"));
    }
    let schema = format.schema.ok_or_else(|| DialectError::bad("output_config.format.schema", "is required"))?;
    let json_schema = JsonSchema { name: "answer", schema, strict: true };
    chat.put("response_format", &ResponseFormat { r#type: "json_schema", json_schema });
    Ok(())
}

fn put_user(members: &mut Members<'_>, chat: &mut ChatBody) -> Result<(), DialectError> {
    #[derive(Deserialize)]
    struct Metadata<'a> {
        #[serde(borrow)]
        user_id: Option<&'a RawValue>,
    }
    let metadata: Option<Metadata<'_>> = members.take_as("metadata", "must be an object")?;
    chat.put_some("user", metadata.and_then(|metadata| metadata.user_id));
    Ok(())
}

#[derive(Deserialize)]
struct ToolDefinition<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow)]
    name: Option<&'a RawValue>,
    #[serde(borrow)]
    description: Option<&'a RawValue>,
    #[serde(borrow)]
    input_schema: Option<&'a RawValue>,
    #[serde(borrow)]
    strict: Option<&'a RawValue>,
}

fn put_tools(members: &mut Members<'_>, chat: &mut ChatBody) -> Result<(), DialectError> {
    if let Some(tools) = members.take("tools") {
        let List(tools) = read(tools, "tools", "must be a list of tools")?;
        let tools = tools.into_iter().enumerate().map(|(at, tool)| translate_tool(tool, at));
        let tools: Vec<Tool<'_>> = tools.collect::<Result<_, _>>()?;
        if !tools.is_empty() {
            chat.put("tools", &tools);
        }
    }
    members.take("tool_choice").map_or(Ok(()), |choice| put_tool_choice(choice, chat))
}

fn translate_tool(tool: &RawValue, at: usize) -> Result<Tool<'_>, DialectError> {
    let tool: ToolDefinition<'_> = read(tool, &format!("tools[{at}]"), "must be an object")?;
    let missing = |name: &str| DialectError::bad(format!("tools[{at}].{name}"), "is required");
    if let Some(kind) = tool.kind.filter(|kind| kind != "custom") {
        let kind = kind.get(..kind.floor_char_boundary(64)).unwrap_or_default();
        let reason = format!("`{kind}` is a tool that the official models know; give a schema of your own instead");
        return Err(DialectError::unsupported(format!("tools[{at}].type"), reason));
    }
    let name = tool.name.ok_or_else(|| missing("name"))?;
    let parameters = Some(tool.input_schema.ok_or_else(|| missing("input_schema"))?);
    Ok(Function { name, description: tool.description, parameters, strict: tool.strict }.into())
}

fn put_tool_choice(choice: &RawValue, chat: &mut ChatBody) -> Result<(), DialectError> {
    #[derive(Deserialize)]
    struct Choice<'a> {
        #[serde(borrow, rename = "type")]
        kind: Cow<'a, str>,
        #[serde(borrow)]
        name: Option<&'a RawValue>,
        disable_parallel_tool_use: Option<bool>,
    }
    #[derive(Serialize)]
    struct Named<'a> {
        r#type: &'static str,
        function: Function<'a>,
    }
    let choice: Choice<'_> = read(choice, "tool_choice", "must be an object with a `type`")?;
    match &*choice.kind {
        "auto" => chat.put("tool_choice", &"auto"),
        "any" => chat.put("tool_choice", &"required"),
        "none" => chat.put("tool_choice", &"none"),
        "tool" => {
            let name = choice.name.ok_or_else(|| DialectError::bad("tool_choice.name", "is required"))?;
            let function = Function { name, description: None, parameters: None, strict: None };
            chat.put("tool_choice", &Named { r#type: "function", function });
        }
        _ => return Err(DialectError::bad("tool_choice.type", "must be auto, any, tool or none")),
    }
    if let Some(is_disabled) = choice.disable_parallel_tool_use {
        chat.put("parallel_tool_calls", &!is_disabled);
    }
    Ok(())
}

fn conversation<'a>(
    system: Option<&'a RawValue>,
    messages: Option<&'a RawValue>,
) -> Result<Conversation<'a>, DialectError> {
    #[derive(Deserialize)]
    struct Message<'a> {
        #[serde(borrow)]
        role: Cow<'a, str>,
        #[serde(borrow)]
        content: &'a RawValue,
    }
    let messages = messages.ok_or_else(|| DialectError::bad("messages", "is required"))?;
    let List(messages) = read(messages, "messages", "must be a list of messages")?;
    let mut conversation = Conversation::default();
    if let Some(system) = system {
        add_system(system, "system", &mut conversation)?;
    }
    let mut is_assistants_turn = true;
    for (at, message) in messages.into_iter().enumerate() {
        let field = format!("messages[{at}]");
        let message: Message<'a> = read(message, &field, "must be an object with `role` and `content`")?;
        let content = format!("{field}.content");
        match &*message.role {
            "user" => add_user(message.content, &content, &mut conversation)?,
            "assistant" => add_assistant(message.content, &content, &mut conversation)?,
            "system" => add_system(message.content, &content, &mut conversation)?,
            _ => return Err(DialectError::bad(format!("{field}.role"), "must be user or assistant")),
        }
        is_assistants_turn = message.role != "assistant";
    }
    if !is_assistants_turn {
        let reason =
            "the last message is the assistant's own, which not every worker goes on with; end with the user's";
        return Err(DialectError::unsupported("messages", reason));
    }
    conversation.close();
    if conversation.is_empty() { Err(DialectError::bad("messages", "is empty")) } else { Ok(conversation) }
}

/// A block of any kind; what belongs to no kind here, such as `cache_control`, is ignored.
#[derive(Deserialize)]
struct Block<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    text: Option<&'a RawValue>,
    #[serde(borrow)]
    thinking: Option<Cow<'a, str>>,
    #[serde(borrow)]
    source: Option<Source<'a>>,
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    name: Option<Cow<'a, str>>,
    #[serde(borrow)]
    input: Option<&'a RawValue>,
    #[serde(borrow)]
    tool_use_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
    is_error: Option<bool>,
}

#[derive(Deserialize)]
struct Source<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    media_type: Option<Cow<'a, str>>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

fn blocks<'a>(
    content: &'a RawValue,
    field: &str,
) -> Result<impl Iterator<Item = Result<(String, Block<'a>), DialectError>>, DialectError> {
    let List(blocks) = read(content, field, "must be a string or a list of blocks")?;
    let field = field.to_owned();
    Ok(blocks.into_iter().enumerate().map(move |(at, block)| {
        let field = format!("{field}[{at}]");
        let block = read(block, &field, "must be an object with a `type`")?;
        Ok((field, block))
    }))
}

fn add_system<'a>(system: &'a RawValue, field: &str, to: &mut Conversation<'a>) -> Result<(), DialectError> {
    if is_text(system) {
        to.system(Content::Written(system));
        return Ok(());
    }
    for block in blocks(system, field)? {
        let (field, block) = block?;
        to.system(Content::of(vec![text(&block, &field)?]));
    }
    Ok(())
}

/// Results of tools are messages of their own in a chat; what the user says around them stays in its place.
fn add_user<'a>(content: &'a RawValue, field: &str, to: &mut Conversation<'a>) -> Result<(), DialectError> {
    if is_text(content) {
        to.user(Content::Written(content));
        return Ok(());
    }
    let mut said = Vec::new();
    for block in blocks(content, field)? {
        let (field, block) = block?;
        if block.kind != "tool_result" {
            said.push(user_part(&block, &field)?);
            continue;
        }
        if !said.is_empty() {
            to.user(Content::of(std::mem::take(&mut said)));
        }
        let id = block.tool_use_id.clone();
        let id = id.ok_or_else(|| DialectError::bad(format!("{field}.tool_use_id"), "is required"))?;
        to.tool_result(id, tool_result(&block, &field)?);
    }
    if !said.is_empty() {
        to.user(Content::of(said));
    }
    Ok(())
}

fn user_part<'a>(block: &Block<'a>, field: &str) -> Result<Part<'a>, DialectError> {
    match &*block.kind {
        "text" => text(block, field),
        "image" => image(block, field),
        "document" => document(block, field),
        kind => Err(unknown_block(kind, field)),
    }
}

fn text<'a>(block: &Block<'a>, field: &str) -> Result<Part<'a>, DialectError> {
    match block.text.filter(|text| is_text(text)) {
        Some(text) if block.kind == "text" => Ok(Part::Text { text }),
        Some(_) | None => Err(DialectError::bad(field, "must be a block of text")),
    }
}

fn image<'a>(block: &Block<'a>, field: &str) -> Result<Part<'a>, DialectError> {
    let source = block.source.as_ref().filter(|source| source.kind == "base64");
    let source = source.ok_or_else(|| {
        let reason = "a worker fetches nothing and keeps nothing; send the image itself, as base64";
        DialectError::unsupported(format!("{field}.source"), reason)
    })?;
    let data: Option<Cow<'_, str>> = source.data.and_then(|data| serde_json::from_str(data.get()).ok());
    let (Some(media_type), Some(data)) = (source.media_type.as_deref(), data) else {
        return Err(DialectError::bad(format!("{field}.source"), "must have `media_type` and `data`"));
    };
    let url = format!("data:{media_type};base64,{data}").into();
    Ok(Part::ImageUrl { image_url: ImageUrl { url, detail: None } })
}

fn document<'a>(block: &Block<'a>, field: &str) -> Result<Part<'a>, DialectError> {
    let source = block.source.as_ref().filter(|source| source.kind == "text");
    let text = source.and_then(|source| source.data).filter(|data| is_text(data));
    text.map(|text| Part::Text { text }).ok_or_else(|| {
        DialectError::unsupported(format!("{field}.source"), "documents of plain text are; for others, send their text")
    })
}

fn tool_result<'a>(block: &Block<'a>, field: &str) -> Result<Content<'a>, DialectError> {
    let mut parts = Vec::new();
    if block.is_error == Some(true) {
        // A chat has no other place for it, and the model should know.
        parts.push(Part::Said { text: "The tool failed:" });
    }
    match block.content {
        None => {}
        Some(content) if is_text(content) => parts.push(Part::Text { text: content }),
        Some(content) => {
            for block in blocks(content, &format!("{field}.content"))? {
                let (field, block) = block?;
                parts.push(user_part(&block, &field)?);
            }
        }
    }
    Ok(if parts.is_empty() { Content::Text("".into()) } else { Content::of(parts) })
}

fn add_assistant<'a>(content: &'a RawValue, field: &str, to: &mut Conversation<'a>) -> Result<(), DialectError> {
    if is_text(content) {
        to.assistant(Content::Written(content));
        return Ok(());
    }
    let mut said = Vec::new();
    for block in blocks(content, field)? {
        let (field, block) = block?;
        let missing = |name: &str| DialectError::bad(format!("{field}.{name}"), "is required");
        match &*block.kind {
            "text" => said.push(text(&block, &field)?),
            "thinking" => to.reasoning(&block.thinking.ok_or_else(|| missing("thinking"))?),
            // Of another service, and readable only there.
            "redacted_thinking" => {}
            "tool_use" => {
                if !said.is_empty() {
                    to.assistant(Content::of(std::mem::take(&mut said)));
                }
                let arguments = block.input.map_or("{}", RawValue::get).into();
                let name = block.name.ok_or_else(|| missing("name"))?;
                to.tool_call(block.id.ok_or_else(|| missing("id"))?, name, arguments);
            }
            kind => return Err(unknown_block(kind, &field)),
        }
    }
    if !said.is_empty() {
        to.assistant(Content::of(said));
    }
    Ok(())
}

fn unknown_block(kind: &str, field: &str) -> DialectError {
    let kind = kind.get(..kind.floor_char_boundary(64)).unwrap_or_default();
    DialectError::unsupported(format!("{field}.type"), format!("`{kind}` is no block that a chat has"))
}
