//! The messages of a chat, checked before the model's template sees them.
//!
//! Templates are lenient: a role they do not know, or text that is missing, would silently give
//! another prompt than the app meant. So:
//!
//! - calls that an assistant made go to a template that shows them as it expects them, arguments as an
//!   object; for any other they become the text that this engine's models write for a call;
//! - results of tools must be found in the prompt: [`check_results`].

use serde_json::{Map, Value, json};

use super::Refusal;

const MISSING: &str = "missing";
const INVALID: &str = "invalid_value";

/// Whether a template shows the calls of an assistant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Calls {
    Shown,
    AsText,
}

/// The messages with roles that templates know.
pub(super) fn checked(messages: &Value, calls: Calls) -> Result<Value, Refusal> {
    let list = messages
        .as_array()
        .filter(|list| !list.is_empty())
        .ok_or_else(|| Refusal::new("`messages` must be a list of at least one message", Some("messages"), INVALID))?;
    list.iter().enumerate().map(|(index, message)| checked_message(index, message, calls)).collect()
}

/// Makes sure that results of tools are in the prompt, each after the one before.
pub(super) fn check_results(messages: &Value, prompt: &str) -> Result<(), Refusal> {
    let mut rest = prompt;
    for (index, message) in messages.as_array().into_iter().flatten().enumerate() {
        if message.get("role").is_none_or(|role| role != "tool") {
            continue;
        }
        let content = message.get("content").and_then(Value::as_str).unwrap_or_default().trim();
        let Some((_, after)) = rest.split_once(content) else {
            let problem = "cannot be `tool`: this model's chat template does not show it the results of tools";
            return Err(Refusal::at(format!("messages[{index}].role"), problem, "unsupported_value"));
        };
        rest = after;
    }
    Ok(())
}

fn checked_message(index: usize, message: &Value, calls: Calls) -> Result<Value, Refusal> {
    let refused =
        |field: &str, problem: &str, code| Err(Refusal::at(format!("messages[{index}]{field}"), problem, code));
    let Some(mut message) = message.as_object().cloned() else {
        return refused("", "must be an object", "invalid_type");
    };
    let role = match message.get("role").and_then(Value::as_str) {
        // The API's newer name for the same thing.
        Some("system" | "developer") => "system",
        Some("user") => "user",
        Some("assistant") => "assistant",
        Some("tool") => "tool",
        Some(_) => return refused(".role", "must be system, developer, user, assistant or tool", INVALID),
        None => return refused(".role", "is missing", MISSING),
    };
    let made = message.remove("tool_calls");
    let made = made.as_ref().and_then(Value::as_array).filter(|made| !made.is_empty() && role == "assistant");
    match message.get("content") {
        Some(Value::String(_) | Value::Array(_)) => {}
        None | Some(Value::Null) if made.is_some() => {}
        None | Some(Value::Null) => return refused(".content", "is missing", MISSING),
        Some(_) => return refused(".content", "must be a string or a list of parts", "invalid_type"),
    }
    message.insert("role".to_owned(), role.into());
    if let Some(made) = made {
        insert_calls(&mut message, made, calls)
            .map_err(|problem| Refusal::at(format!("messages[{index}].tool_calls"), problem, INVALID))?;
    }
    Ok(message.into())
}

fn insert_calls(message: &mut Map<String, Value>, made: &[Value], calls: Calls) -> Result<(), &'static str> {
    let mut texts = Vec::new();
    let mut shown = Vec::new();
    for call in made {
        let function = call.get("function").ok_or("must be calls of functions")?;
        let name = function.get("name").and_then(Value::as_str).ok_or("must name their functions")?;
        let arguments = function.get("arguments").and_then(Value::as_str).ok_or("must have arguments, as text")?;
        texts.push(format!("{{\"name\": {}, \"arguments\": {arguments}}}", Value::from(name)));
        let parsed = serde_json::from_str(arguments).unwrap_or_else(|_| Value::from(arguments));
        let mut call = call.clone();
        call["function"]["arguments"] = parsed;
        shown.push(call);
    }
    if calls == Calls::Shown {
        message.insert("tool_calls".to_owned(), shown.into());
        return Ok(());
    }
    let mut parts = match message.remove("content") {
        Some(Value::Array(parts)) => parts,
        Some(Value::String(text)) if !text.is_empty() => vec![text_part(&text)],
        _ => Vec::new(),
    };
    parts.extend(texts.iter().map(|text| text_part(text)));
    message.insert("content".to_owned(), parts.into());
    Ok(())
}

fn text_part(text: &str) -> Value {
    json!({"type": "text", "text": text})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_that_cannot_be_meant_is_named() {
        for (message, param) in [
            (json!("hello"), "messages[1]"),
            (json!({"content": "x"}), "messages[1].role"),
            (json!({"role": 1, "content": "x"}), "messages[1].role"),
            (json!({"role": "User", "content": "x"}), "messages[1].role"),
            (json!({"role": "function", "content": "x"}), "messages[1].role"),
            (json!({"role": "user"}), "messages[1].content"),
            (json!({"role": "system", "content": null}), "messages[1].content"),
            (json!({"role": "tool", "tool_calls": [{}]}), "messages[1].content"),
            (json!({"role": "assistant"}), "messages[1].content"),
            (json!({"role": "assistant", "tool_calls": []}), "messages[1].content"),
            (json!({"role": "assistant", "tool_calls": [{"id": "1"}]}), "messages[1].tool_calls"),
            (json!({"role": "assistant", "tool_calls": [{"function": {"name": "f"}}]}), "messages[1].tool_calls"),
            (json!({"role": "assistant", "tool_calls": [{"function": {"arguments": "{}"}}]}), "messages[1].tool_calls"),
            (json!({"role": "user", "content": 7}), "messages[1].content"),
        ] {
            let refusal = checked(&json!([{"role": "user", "content": "x"}, message]), Calls::Shown).unwrap_err();
            assert_eq!(refusal.param.as_deref(), Some(param), "{message}");
        }
        for messages in [json!({}), json!([]), json!("x")] {
            assert_eq!(checked(&messages, Calls::Shown).unwrap_err().param.as_deref(), Some("messages"), "{messages}");
        }
    }

    #[test]
    fn every_role_of_the_api_passes_and_developers_are_the_system() {
        let call = |arguments: Value| json!([{"id": "1", "type": "function", "function": {"name": "f", "arguments": arguments}}]);
        let messages = json!([
            {"role": "developer", "content": "a"},
            {"role": "system", "content": ""},
            {"role": "user", "content": [{"type": "text", "text": "b"}], "name": "kept"},
            {"role": "assistant", "content": null, "tool_calls": call(json!("{\"x\":1}"))},
            {"role": "tool", "content": "c"},
        ]);
        let mut expected = messages.clone();
        expected[0]["role"] = "system".into();
        expected[3]["tool_calls"] = call(json!({"x": 1}));
        assert_eq!(checked(&messages, Calls::Shown).unwrap(), expected);
        // As the engine itself writes a call.
        let text = r#"{"name": "f", "arguments": {"x":1}}"#;
        expected[3] = json!({"role": "assistant", "content": [{"type": "text", "text": text}]});
        assert_eq!(checked(&messages, Calls::AsText).unwrap(), expected);
    }

    #[test]
    fn a_result_that_a_template_drops_is_named() {
        let messages = json!([
            {"role": "user", "content": "x"},
            {"role": "tool", "content": " 4\n"},
            {"role": "tool", "content": "4"},
        ]);
        assert!(check_results(&messages, "user x tool 4 tool 4").is_ok());
        let refusal = check_results(&messages, "user x tool 4").unwrap_err();
        assert_eq!(refusal.param.as_deref(), Some("messages[2].role"));
    }
}
