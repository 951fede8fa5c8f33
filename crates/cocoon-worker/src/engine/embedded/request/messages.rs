//! The messages of a chat, checked before the model's template sees them.
//!
//! Templates are lenient: a role they do not know, or text that is missing, would silently give
//! another prompt than the app meant.

use serde_json::Value;

use super::Refusal;

const MISSING: &str = "missing";
const INVALID: &str = "invalid_value";

/// The messages with roles that templates know.
pub(super) fn checked(messages: &Value) -> Result<Value, Refusal> {
    let list = messages
        .as_array()
        .filter(|list| !list.is_empty())
        .ok_or_else(|| Refusal::new("`messages` must be a list of at least one message", Some("messages"), INVALID))?;
    list.iter().enumerate().map(|(index, message)| checked_message(index, message)).collect()
}

fn checked_message(index: usize, message: &Value) -> Result<Value, Refusal> {
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
    let calls_tools = message.get("tool_calls").and_then(Value::as_array).is_some_and(|calls| !calls.is_empty());
    match message.get("content") {
        Some(Value::String(_) | Value::Array(_)) => {}
        None | Some(Value::Null) if role == "assistant" && calls_tools => {}
        None | Some(Value::Null) => return refused(".content", "is missing", MISSING),
        Some(_) => return refused(".content", "must be a string or a list of parts", "invalid_type"),
    }
    message.insert("role".to_owned(), role.into());
    Ok(message.into())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

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
            (json!({"role": "user", "content": 7}), "messages[1].content"),
        ] {
            let refusal = checked(&json!([{"role": "user", "content": "x"}, message])).unwrap_err();
            assert_eq!(refusal.param.as_deref(), Some(param), "{message}");
        }
        for messages in [json!({}), json!([]), json!("x")] {
            assert_eq!(checked(&messages).unwrap_err().param.as_deref(), Some("messages"), "{messages}");
        }
    }

    #[test]
    fn every_role_of_the_api_passes_and_developers_are_the_system() {
        let messages = json!([
            {"role": "developer", "content": "a"},
            {"role": "system", "content": ""},
            {"role": "user", "content": [{"type": "text", "text": "b"}], "name": "kept"},
            {"role": "assistant", "content": null, "tool_calls": [{"id": "1"}]},
            {"role": "tool", "content": "c"},
        ]);
        let mut expected = messages.clone();
        expected[0]["role"] = "system".into();
        assert_eq!(checked(&messages).unwrap(), expected);
    }
}
