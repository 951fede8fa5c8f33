//! A `/v1/responses` request as a chat body.

use std::borrow::Cow;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Echo, Frame};
use crate::dialect::{
    Birth, DialectError,
    conversation::{Content, Conversation, File, Function, ImageUrl, Part, Tool},
    members::{ChatBody, List, Members, is_text, read},
};

const KEEPS_NOTHING: &str =
    "a confidential network keeps no answers and no conversations; send the whole conversation as `input`";
const NO_BUILT_IN: &str = "it concerns built-in tools, which this network does not have";

pub(super) fn translate(body: &[u8], birth: Birth) -> Result<(Bytes, Frame), DialectError> {
    let mut members = Members::read(body)?;
    refuse_what_is_kept(&mut members)?;
    refuse_what_is_not_done(&mut members)?;
    let mut chat = ChatBody::new();
    let model = members.take("model");
    chat.put_some("model", model);
    let instructions = members.take("instructions");
    chat.put("messages", &conversation(instructions, members.take("input"))?.messages());
    let echo = put_settings(&mut members, &mut chat, instructions)?;
    let frame = Frame { birth, model: model.and_then(text_of).unwrap_or_default(), echo };
    Ok((chat.put_rest(members)?.into(), frame))
}

fn refuse_what_is_kept(members: &mut Members<'_>) -> Result<(), DialectError> {
    for field in ["previous_response_id", "conversation"] {
        members.refuse(field, KEEPS_NOTHING)?;
    }
    members.refuse_but("store", "false", "a confidential network keeps no answers; leave it out or set it to false")?;
    members.refuse_but("background", "false", "a confidential network keeps no answers to be fetched later")?;
    members.refuse("prompt", "a confidential network keeps no prompt templates; send the text itself")
}

fn refuse_what_is_not_done(members: &mut Members<'_>) -> Result<(), DialectError> {
    members.refuse_but(
        "truncation",
        "\"disabled\"",
        "only `disabled` is: the tokens of a prompt are counted by the worker, after it was sent",
    )?;
    for field in ["n", "best_of", "n_cmpl"] {
        members.refuse_but(field, "1", "an answer of this API is one; send several requests")?;
    }
    for field in ["max_tool_calls", "background_options", "image"] {
        members.refuse(field, NO_BUILT_IN)?;
    }
    members.refuse("context_management", "nothing compacts a conversation but the app")?;
    members.refuse("moderation", "nobody here reads what is asked and answered")?;
    // It hides lengths by padding; what it asks for beside that, the network always does.
    members.take("stream_options");
    Ok(())
}

/// Puts everything beside the conversation; gives what the answer repeats.
fn put_settings<'a>(
    members: &mut Members<'a>,
    chat: &mut ChatBody,
    instructions: Option<&'a RawValue>,
) -> Result<Echo, DialectError> {
    let max_output_tokens = members.take("max_output_tokens");
    chat.put_some("max_tokens", max_output_tokens);
    let tools = members.take("tools");
    let translated = tools.map(translate_tools).transpose()?.filter(|tools| !tools.is_empty());
    chat.put_some("tools", translated.as_ref());
    let tool_choice = members.take("tool_choice");
    chat.put_some("tool_choice", tool_choice.map(translate_choice).transpose()?.as_ref());
    let text = members.take("text");
    put_text(text, chat)?;
    let reasoning = members.take("reasoning");
    put_reasoning(reasoning, chat)?;
    let top_logprobs = members.take("top_logprobs");
    put_logprobs(members, top_logprobs, chat)?;
    let mut same = |name: &str| {
        let value = members.take(name);
        chat.put_some(name, value);
        kept(value)
    };
    Ok(Echo {
        instructions: kept(instructions),
        max_output_tokens: kept(max_output_tokens),
        parallel_tool_calls: same("parallel_tool_calls"),
        prompt_cache_key: same("prompt_cache_key"),
        reasoning: kept(reasoning),
        safety_identifier: same("safety_identifier"),
        temperature: same("temperature"),
        text: kept(text),
        tool_choice: kept(tool_choice),
        tools: kept(tools),
        top_logprobs: kept(top_logprobs),
        top_p: same("top_p"),
        user: same("user"),
        // It is for the app's own books, and no worker needs it.
        metadata: kept(members.take("metadata")),
    })
}

fn kept(value: Option<&RawValue>) -> Option<Box<RawValue>> {
    value.map(ToOwned::to_owned)
}

fn text_of(value: &RawValue) -> Option<String> {
    serde_json::from_str(value.get()).ok()
}

#[derive(Deserialize)]
struct TextOptions<'a> {
    #[serde(borrow)]
    format: Option<Format<'a>>,
    #[serde(borrow)]
    verbosity: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Format<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    name: Option<&'a RawValue>,
    #[serde(borrow)]
    description: Option<&'a RawValue>,
    #[serde(borrow)]
    schema: Option<&'a RawValue>,
    #[serde(borrow)]
    strict: Option<&'a RawValue>,
}

#[derive(Serialize)]
struct ResponseFormat<'a> {
    r#type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    json_schema: Option<JsonSchema<'a>>,
}

#[derive(Serialize)]
struct JsonSchema<'a> {
    name: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a RawValue>,
    schema: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    strict: Option<&'a RawValue>,
}

fn put_text(text: Option<&RawValue>, chat: &mut ChatBody) -> Result<(), DialectError> {
    let Some(text) = text else { return Ok(()) };
    let options: TextOptions<'_> = read(text, "text", "must be an object with a `format`")?;
    chat.put_some("verbosity", options.verbosity);
    let Some(format) = options.format else { return Ok(()) };
    let json_schema = match &*format.kind {
        "text" => return Ok(()),
        "json_object" => None,
        "json_schema" => Some(JsonSchema {
            name: format.name.ok_or_else(|| DialectError::bad("text.format.name", "is required"))?,
            description: format.description,
            schema: format.schema.ok_or_else(|| DialectError::bad("text.format.schema", "is required"))?,
            strict: format.strict,
        }),
        _ => return Err(DialectError::bad("text.format.type", "must be text, json_object or json_schema")),
    };
    chat.put("response_format", &ResponseFormat { r#type: &format.kind, json_schema });
    Ok(())
}

fn put_reasoning(reasoning: Option<&RawValue>, chat: &mut ChatBody) -> Result<(), DialectError> {
    #[derive(Deserialize)]
    struct Reasoning<'a> {
        #[serde(borrow)]
        effort: Option<&'a RawValue>,
    }
    let Some(reasoning) = reasoning else { return Ok(()) };
    // A summary is not made: engines give the reasoning itself.
    let reasoning: Reasoning<'_> = read(reasoning, "reasoning", "must be an object")?;
    chat.put_some("reasoning_effort", reasoning.effort);
    Ok(())
}

fn put_logprobs(
    members: &mut Members<'_>,
    top_logprobs: Option<&RawValue>,
    chat: &mut ChatBody,
) -> Result<(), DialectError> {
    let include: Option<List<'_>> = members.take_as("include", "must be a list of strings")?;
    let mut are_wanted = top_logprobs.is_some();
    for each in include.map(|list| list.0).unwrap_or_default() {
        let each: Cow<'_, str> = read(each, "include", "must be a list of strings")?;
        match &*each {
            "message.output_text.logprobs" => are_wanted = true,
            // Reasoning comes as it is, so there is nothing to give in encrypted form.
            "reasoning.encrypted_content" => {}
            // What does not exist here cannot be left out either.
            "message.input_image.image_url" => {}
            _ => return Err(DialectError::unsupported("include", NO_BUILT_IN)),
        }
    }
    if are_wanted {
        chat.put("logprobs", &true);
    }
    chat.put_some("top_logprobs", top_logprobs);
    Ok(())
}

#[derive(Deserialize)]
struct ToolDefinition<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    name: Option<&'a RawValue>,
    #[serde(borrow)]
    description: Option<&'a RawValue>,
    #[serde(borrow)]
    parameters: Option<&'a RawValue>,
    #[serde(borrow)]
    strict: Option<&'a RawValue>,
}

fn translate_tools(tools: &RawValue) -> Result<Vec<Tool<'_>>, DialectError> {
    let List(tools) = read(tools, "tools", "must be a list of tools")?;
    tools.into_iter().enumerate().map(|(at, tool)| translate_tool(tool, at)).collect()
}

fn translate_tool(tool: &RawValue, at: usize) -> Result<Tool<'_>, DialectError> {
    let tool: ToolDefinition<'_> = read(tool, &format!("tools[{at}]"), "must be an object with a `type`")?;
    if tool.kind != "function" {
        let reason = format!(
            "`{}` is a tool of the official servers; workers here run a model and nothing else. Tools of the type \
             `function`, which the app runs, are supported",
            short(&tool.kind)
        );
        return Err(DialectError::unsupported(format!("tools[{at}].type"), reason));
    }
    let name = tool.name.ok_or_else(|| DialectError::bad(format!("tools[{at}].name"), "is required"))?;
    let ToolDefinition { description, parameters, strict, .. } = tool;
    Ok(Function { name, description, parameters, strict }.into())
}

/// The beginning of a word that the app gave, to name it in an error.
fn short(word: &str) -> &str {
    word.get(..word.floor_char_boundary(64)).unwrap_or_default()
}

#[derive(Serialize)]
#[serde(untagged)]
enum ToolChoice<'a> {
    Word(&'a RawValue),
    Function { r#type: &'static str, function: NamedFunction<'a> },
}

#[derive(Serialize)]
struct NamedFunction<'a> {
    name: &'a RawValue,
}

fn translate_choice(choice: &RawValue) -> Result<ToolChoice<'_>, DialectError> {
    #[derive(Deserialize)]
    struct Named<'a> {
        #[serde(borrow, rename = "type")]
        kind: Cow<'a, str>,
        #[serde(borrow)]
        name: Option<&'a RawValue>,
    }
    if is_text(choice) {
        return Ok(ToolChoice::Word(choice));
    }
    let named: Named<'_> = read(choice, "tool_choice", "must be a word, or an object with a `type`")?;
    match (&*named.kind, named.name) {
        ("function", Some(name)) => Ok(ToolChoice::Function { r#type: "function", function: NamedFunction { name } }),
        ("function", None) => Err(DialectError::bad("tool_choice.name", "is required")),
        _ => Err(DialectError::unsupported(
            "tool_choice",
            "it can be `none`, `auto`, `required`, or an object of the type `function`",
        )),
    }
}

/// What is said, from instructions and input.
fn conversation<'a>(
    instructions: Option<&'a RawValue>,
    input: Option<&'a RawValue>,
) -> Result<Conversation<'a>, DialectError> {
    let input = input.ok_or_else(|| DialectError::bad("input", "is required"))?;
    let mut conversation = Conversation::default();
    if let Some(instructions) = instructions {
        if !is_text(instructions) {
            return Err(DialectError::bad("instructions", "must be a string"));
        }
        conversation.system(Content::Written(instructions));
    }
    if is_text(input) {
        conversation.user(Content::Written(input));
    } else {
        let List(items) = read(input, "input", "must be a string or a list of items")?;
        for (at, item) in items.into_iter().enumerate() {
            add_item(item, &format!("input[{at}]"), &mut conversation)?;
        }
    }
    conversation.close();
    if conversation.is_empty() { Err(DialectError::bad("input", "is empty")) } else { Ok(conversation) }
}

#[derive(Deserialize)]
struct Item<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow)]
    role: Option<Cow<'a, str>>,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
    #[serde(borrow)]
    summary: Option<&'a RawValue>,
    #[serde(borrow)]
    call_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    name: Option<Cow<'a, str>>,
    #[serde(borrow)]
    arguments: Option<Cow<'a, str>>,
    #[serde(borrow)]
    output: Option<&'a RawValue>,
}

fn add_item<'a>(item: &'a RawValue, field: &str, to: &mut Conversation<'a>) -> Result<(), DialectError> {
    let item: Item<'a> = read(item, field, "must be an item: an object with a `type`, or with a `role`")?;
    let missing = |name: &str| DialectError::bad(format!("{field}.{name}"), "is required");
    match item.kind.as_deref().unwrap_or("message") {
        "message" => {
            let role = item.role.ok_or_else(|| missing("role"))?;
            let content = item.content.ok_or_else(|| missing("content"))?;
            let content = translate_content(content, &format!("{field}.content"))?;
            match &*role {
                "user" => to.user(content),
                "assistant" => to.assistant(content),
                // The newer word; templates know the older one.
                "system" | "developer" => to.system(content),
                _ => {
                    let roles = "must be user, assistant, system or developer";
                    return Err(DialectError::bad(format!("{field}.role"), roles));
                }
            }
        }
        "function_call" => {
            let id = item.call_id.ok_or_else(|| missing("call_id"))?;
            let name = item.name.ok_or_else(|| missing("name"))?;
            to.tool_call(id, name, item.arguments.ok_or_else(|| missing("arguments"))?);
        }
        "function_call_output" => {
            let id = item.call_id.ok_or_else(|| missing("call_id"))?;
            let output = item.output.ok_or_else(|| missing("output"))?;
            to.tool_result(id, translate_content(output, &format!("{field}.output"))?);
        }
        "reasoning" => to.reasoning(&reasoning_text(item.content, item.summary, field)?),
        "item_reference" => return Err(DialectError::unsupported(format!("{field}.type"), KEEPS_NOTHING)),
        kind => {
            let reason = format!("`{}` is no item of a model without built-in tools", short(kind));
            return Err(DialectError::unsupported(format!("{field}.type"), reason));
        }
    }
    Ok(())
}

/// The text of a reasoning item, or else of its summary; an encrypted one has none.
fn reasoning_text(content: Option<&RawValue>, summary: Option<&RawValue>, field: &str) -> Result<String, DialectError> {
    #[derive(Deserialize)]
    struct Thought<'a> {
        #[serde(borrow)]
        text: Cow<'a, str>,
    }
    let mut all = String::new();
    for list in [content, summary].into_iter().flatten() {
        let List(parts) = read(list, field, "must have lists of parts as `content` and `summary`")?;
        for part in parts {
            let thought: Thought<'_> = read(part, field, "must have parts with a `text`")?;
            all.push_str(&thought.text);
        }
        if !all.is_empty() {
            break;
        }
    }
    Ok(all)
}

#[derive(Deserialize)]
struct InputPart<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    text: Option<&'a RawValue>,
    #[serde(borrow)]
    refusal: Option<&'a RawValue>,
    #[serde(borrow)]
    image_url: Option<Cow<'a, str>>,
    #[serde(borrow)]
    detail: Option<&'a RawValue>,
    #[serde(borrow)]
    filename: Option<&'a RawValue>,
    #[serde(borrow)]
    file_data: Option<&'a RawValue>,
    #[serde(borrow)]
    input_audio: Option<&'a RawValue>,
}

fn translate_content<'a>(content: &'a RawValue, field: &str) -> Result<Content<'a>, DialectError> {
    if is_text(content) {
        return Ok(Content::Written(content));
    }
    let List(parts) = read(content, field, "must be a string or a list of parts")?;
    let translated = parts.into_iter().enumerate().map(|(at, part)| translate_part(part, &format!("{field}[{at}]")));
    Ok(Content::of(translated.collect::<Result<_, _>>()?))
}

fn translate_part<'a>(part: &'a RawValue, field: &str) -> Result<Part<'a>, DialectError> {
    let part: InputPart<'a> = read(part, field, "must be an object with a `type`")?;
    let missing = |name: &str| DialectError::bad(format!("{field}.{name}"), "is required");
    let text = |value: Option<&'a RawValue>, name: &str| match value {
        Some(text) if is_text(text) => Ok(Part::Text { text }),
        Some(_) => Err(DialectError::bad(format!("{field}.{name}"), "must be a string")),
        None => Err(missing(name)),
    };
    match &*part.kind {
        "input_text" | "output_text" | "text" => text(part.text, "text"),
        "refusal" => text(part.refusal, "refusal"),
        "input_image" => {
            let unkept =
                || DialectError::unsupported(format!("{field}.file_id"), "files are not kept; send a data: URL");
            let url = part.image_url.ok_or_else(unkept)?;
            if !url.starts_with("data:") {
                let reason = "a worker fetches nothing from elsewhere; send the image itself as a data: URL";
                return Err(DialectError::unsupported(format!("{field}.image_url"), reason));
            }
            Ok(Part::ImageUrl { image_url: ImageUrl { url, detail: part.detail } })
        }
        "input_file" => {
            let unkept = || DialectError::unsupported(field, "files are neither kept nor fetched; send `file_data`");
            Ok(Part::File { file: File { filename: part.filename, file_data: part.file_data.ok_or_else(unkept)? } })
        }
        "input_audio" => Ok(Part::InputAudio { input_audio: part.input_audio.ok_or_else(|| missing("input_audio"))? }),
        kind => {
            let reason = format!("`{}` is no kind of content that a chat has", short(kind));
            Err(DialectError::unsupported(format!("{field}.type"), reason))
        }
    }
}
