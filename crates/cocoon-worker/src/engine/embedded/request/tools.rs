//! `tools` and `tool_choice`: what the model may call, how it is told so, and what binds its answer.
//!
//! A call that is demanded (`required`, or a named function) is an answer bound to a schema: the JSON
//! object `{"name": …, "arguments": …}` of one of the functions. A model whose template shows it no
//! tools is told in the system message. A call that is left to the model (`auto`) takes a model that
//! has learnt its own form of one: its template shows it the tools, and its answer is searched for
//! `<tool_call>`.

use cocoon_llm::{ModelInfo, UnknownKeywords};
use serde_json::{Map, Value, json};

use super::Refusal;
use super::body::Body;
use super::format::{Schema, strictness};
use crate::engine::embedded::answer::Reading;
use crate::limits::{EMBEDDED_TOOL_NAME_MAX, EMBEDDED_TOOLS_MAX};

const CHOICE: &str = "tool_choice";
const INVALID: &str = "invalid_value";

/// The tools of a request that its answer may use.
pub(super) struct Tools {
    functions: Vec<Function>,
    is_demanded: bool,
}

struct Function {
    name: String,
    /// As it was sent, for templates.
    tool: Value,
    description: Option<String>,
    parameters: Value,
    unknown: UnknownKeywords,
}

impl Tools {
    /// The tools that count: none if there are none, or if none may be called.
    pub(super) fn read(body: &Body, info: &ModelInfo) -> Result<Option<Self>, Refusal> {
        if body.functions.as_ref().is_some_and(|list| !list.is_empty()) {
            let message = "`functions` is not supported: use `tools`";
            return Err(Refusal::new(message, Some("functions"), "unsupported_parameter"));
        }
        let tools = body.tools.as_deref().unwrap_or_default();
        let choice = body.tool_choice.as_ref();
        if tools.is_empty() {
            return match choice.map(Value::as_str) {
                None | Some(Some("none" | "auto")) => Ok(None),
                Some(_) => Err(Refusal::new("`tool_choice` needs `tools`", Some(CHOICE), INVALID)),
            };
        }
        let functions = read_functions(tools)?;
        match choice.map_or(Some("auto"), Value::as_str) {
            Some("none") => Ok(None),
            Some("auto") if info.renders_tools => Ok(Some(Self { functions, is_demanded: false })),
            Some("auto") => Err(Self::no_auto(body)),
            Some("required") => Ok(Some(Self { functions, is_demanded: true })),
            Some(_) => Err(Refusal::new(
                "`tool_choice` must be `none`, `auto`, `required` or a function",
                Some(CHOICE),
                INVALID,
            )),
            None => named(functions, choice).map(Some),
        }
    }

    fn no_auto(body: &Body) -> Refusal {
        // The name is the one that this worker serves: others never come this far.
        let model = body.model.as_ref().map_or_else(|| "this model".to_owned(), |model| format!("`{model}`"));
        let message = format!(
            "{model} has not learnt to choose tools (its chat template does not show it any): `tool_choice` can be \
             `required`, a function or `none`"
        );
        Refusal::new(&message, Some(CHOICE), "unsupported_value")
    }

    /// How the answer is to be read.
    pub(super) fn reading(&self) -> Reading {
        match self.is_demanded {
            true => Reading::Call,
            false => Reading::Tagged { names: self.functions.iter().map(|one| one.name.clone()).collect() },
        }
    }

    /// What a demanded call must be.
    pub(super) fn schema(&self) -> Option<Schema> {
        let calls = self.functions.iter().enumerate().map(|(index, function)| function.call(index));
        let lax = self.functions.iter().any(|function| function.unknown == UnknownKeywords::Ignored);
        let unknown = if lax { UnknownKeywords::Ignored } else { UnknownKeywords::Refused };
        let value = json!({"anyOf": calls.collect::<Vec<_>>()});
        self.is_demanded.then_some(Schema { value, unknown, field: "tools" })
    }

    /// For a template that shows the model its tools.
    pub(super) fn for_template(&self) -> Value {
        self.functions.iter().map(|function| function.tool.clone()).collect()
    }

    /// Tells a model whose template shows it no tools, in the system message.
    pub(super) fn tell(&self, messages: &mut Value) {
        let Some(messages) = messages.as_array_mut() else { return };
        let text = self.instruction();
        match messages.first_mut().filter(|first| first.get("role").is_some_and(|role| role == "system")) {
            Some(system) => match system.get_mut("content") {
                Some(Value::String(content)) => *content = format!("{content}\n\n{text}"),
                Some(Value::Array(parts)) => parts.push(json!({"type": "text", "text": text})),
                _ => {}
            },
            None => messages.insert(0, json!({"role": "system", "content": text})),
        }
    }

    fn instruction(&self) -> String {
        let mut text = String::from(
            "Call one of these functions. Answer with JSON only: {\"name\": FUNCTION, \"arguments\": ARGUMENTS}.",
        );
        for Function { name, description, parameters, .. } in &self.functions {
            let function = json!({"name": name, "description": description, "parameters": parameters});
            text.push_str(&format!("\n{function}"));
        }
        text
    }
}

fn read_functions(tools: &[Value]) -> Result<Vec<Function>, Refusal> {
    if tools.len() > EMBEDDED_TOOLS_MAX {
        return Err(Refusal::new("`tools` has more than 128 entries", Some("tools"), INVALID));
    }
    let functions = tools.iter().enumerate().map(|(index, tool)| Function::read(index, tool));
    let functions = functions.collect::<Result<Vec<_>, _>>()?;
    let mut names: Vec<&str> = functions.iter().map(|function| function.name.as_str()).collect();
    names.sort_unstable();
    if names.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(Refusal::new("two functions in `tools` have the same name", Some("tools"), INVALID));
    }
    Ok(functions)
}

/// The one function that `{"type": "function", "function": {"name": …}}` names.
fn named(mut functions: Vec<Function>, choice: Option<&Value>) -> Result<Tools, Refusal> {
    let is_function = choice.and_then(|choice| choice.get("type")).is_some_and(|kind| kind == "function");
    let name = choice.filter(|_| is_function).and_then(|choice| choice.get("function")?.get("name")?.as_str());
    let name = name.ok_or_else(|| {
        let message = "`tool_choice` must be `none`, `auto`, `required` or name a function";
        Refusal::new(message, Some(CHOICE), INVALID)
    })?;
    functions.retain(|function| function.name == name);
    if functions.is_empty() {
        return Err(Refusal::new("`tool_choice` names a function that `tools` has not", Some(CHOICE), INVALID));
    }
    Ok(Tools { functions, is_demanded: true })
}

impl Function {
    fn read(index: usize, tool: &Value) -> Result<Self, Refusal> {
        let refused =
            |field: &str, problem: &str, code| Err(Refusal::at(format!("tools[{index}]{field}"), problem, code));
        match tool.get("type").and_then(Value::as_str) {
            Some("function") => {}
            Some(_) => {
                return refused(".type", "must be `function`: this engine has no other tools", "unsupported_value");
            }
            None => return refused(".type", "is missing", "missing"),
        }
        let Some(function) = tool.get("function").and_then(Value::as_object) else {
            return refused(".function", "is missing", "missing");
        };
        let name = function.get("name").and_then(Value::as_str).unwrap_or_default();
        if !is_name(name) {
            return refused(".function.name", "must be 1 to 64 letters, digits, `_` or `-`", INVALID);
        }
        let parameters = match function.get("parameters") {
            None | Some(Value::Null) => json!({"type": "object", "properties": {}, "additionalProperties": false}),
            Some(Value::Object(schema)) => Value::Object(schema.clone()),
            Some(_) => return refused(".function.parameters", "must be a schema", "invalid_type"),
        };
        Ok(Self {
            name: name.to_owned(),
            tool: tool.clone(),
            description: function.get("description").and_then(Value::as_str).map(str::to_owned),
            parameters,
            unknown: strictness(function.get("strict"))?,
        })
    }

    /// The schema of a call, the `index`th of an `anyOf`.
    fn call(&self, index: usize) -> Value {
        let mut arguments = self.parameters.clone();
        rebase(&mut arguments, &format!("#/anyOf/{index}/properties/arguments"));
        json!({
            "type": "object",
            "properties": {"name": {"const": self.name}, "arguments": arguments},
            "required": ["name", "arguments"],
            "additionalProperties": false,
        })
    }
}

/// The API's names of functions; none needs quoting in JSON.
fn is_name(name: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    (1..=EMBEDDED_TOOL_NAME_MAX).contains(&name.len()) && name.bytes().all(known)
}

/// Makes references to the root of a schema references to where it is put. Recursion ends: parsing JSON
/// is bounded at 128 levels.
fn rebase(schema: &mut Value, root: &str) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(|item| rebase(item, root)),
        Value::Object(fields) => rebase_fields(fields, root),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn rebase_fields(fields: &mut Map<String, Value>, root: &str) {
    for (keyword, value) in fields {
        match (keyword.as_str(), value) {
            ("$ref", Value::String(reference)) => {
                if let Some(rest) = reference.strip_prefix('#') {
                    *reference = format!("{root}{}", rest.strip_suffix('/').unwrap_or(rest));
                }
            }
            // Data, whatever it looks like.
            ("enum" | "const" | "default" | "examples", _) => {}
            // Their keys are names, not keywords.
            ("properties" | "patternProperties" | "$defs" | "definitions", Value::Object(schemas)) => {
                schemas.values_mut().for_each(|schema| rebase(schema, root));
            }
            (_, value) => rebase(value, root),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(renders_tools: bool) -> ModelInfo {
        ModelInfo {
            name: Some("SmolLM2".to_owned()),
            architecture: "llama".to_owned(),
            context_tokens: 9,
            context_tokens_trained: 9,
            vocabulary: 9,
            weight_bytes: 0,
            kv_bytes_per_token: 0,
            has_chat_template: true,
            renders_tools,
            renders_tool_calls: renders_tools,
            eos_ids: vec![0],
        }
    }

    fn read(body: &Value, renders_tools: bool) -> Result<Option<Tools>, Refusal> {
        Tools::read(&Body::read(body.to_string().as_bytes()).unwrap(), &info(renders_tools))
    }

    fn function(name: &str) -> Value {
        json!({"type": "function", "function": {"name": name, "parameters": {"type": "object"}}})
    }

    fn asked(choice: &Value) -> Value {
        json!({"model": "smol", "tools": [function("add"), function("sub")], "tool_choice": choice})
    }

    #[test]
    fn a_choice_says_what_counts() {
        let count = |choice: Value| {
            read(&asked(&choice), true).unwrap().map(|tools| (tools.functions.len(), tools.is_demanded))
        };
        assert_eq!(count(json!("none")), None);
        assert_eq!(count(json!("auto")), Some((2, false)));
        assert_eq!(count(Value::Null), Some((2, false)));
        assert_eq!(count(json!("required")), Some((2, true)));
        assert_eq!(count(json!({"type": "function", "function": {"name": "sub"}})), Some((1, true)));
    }

    #[test]
    fn a_model_without_tools_names_itself_and_what_works() {
        for choice in [Value::Null, json!("auto")] {
            let refusal = read(&asked(&choice), false).err().unwrap();
            assert_eq!((refusal.param.as_deref(), refusal.code), (Some("tool_choice"), "unsupported_value"));
            assert!(
                refusal.message.contains("`smol`") && refusal.message.contains("`required`"),
                "{}",
                refusal.message
            );
        }
        assert!(read(&asked(&json!("required")), false).unwrap().is_some());
    }

    #[test]
    fn what_is_no_tool_or_no_choice_is_named() {
        let tool = |tool: Value| json!({"tools": [tool], "tool_choice": "required"});
        for (body, param) in [
            (tool(json!({})), "tools[0].type"),
            (tool(json!({"type": "web_search"})), "tools[0].type"),
            (tool(json!({"type": "function"})), "tools[0].function"),
            (tool(json!({"type": "function", "function": {}})), "tools[0].function.name"),
            (tool(function("a b")), "tools[0].function.name"),
            (tool(function("\", \"arguments\": ")), "tools[0].function.name"),
            (tool(function(&"x".repeat(65))), "tools[0].function.name"),
            (
                tool(json!({"type": "function", "function": {"name": "f", "parameters": true}})),
                "tools[0].function.parameters",
            ),
            (json!({"tools": [function("f"), function("f")], "tool_choice": "required"}), "tools"),
            (json!({"tools": vec![function("f"); 129], "tool_choice": "required"}), "tools"),
            (json!({"tool_choice": "required"}), "tool_choice"),
            (json!({"tool_choice": {"type": "function", "function": {"name": "f"}}}), "tool_choice"),
            (asked(&json!("sometimes")), "tool_choice"),
            (asked(&json!(7)), "tool_choice"),
            (asked(&json!({"type": "function", "function": {"name": "mul"}})), "tool_choice"),
            (asked(&json!({"type": "allowed_tools"})), "tool_choice"),
            (json!({"functions": [{}]}), "functions"),
        ] {
            let refusal = read(&body, true).err().unwrap();
            assert_eq!(refusal.param.as_deref(), Some(param), "{body}");
        }
    }

    #[test]
    fn references_of_parameters_follow_them_and_data_is_left_alone() {
        let parameters = json!({
            "properties": {"next": {"$ref": "#"}, "id": {"$ref": "#/$defs/id"}, "$ref": {"enum": [{"$ref": "#/x"}]}},
            "$defs": {"id": {"const": {"$ref": "#"}}},
        });
        let tool = json!({"type": "function", "function": {"name": "f", "parameters": parameters}});
        let body = json!({"tools": [function("first"), tool], "tool_choice": "required"});
        let schema = read(&body, false).unwrap().unwrap().schema().unwrap().value;
        let arguments = &schema["anyOf"][1]["properties"]["arguments"];
        assert_eq!(arguments["properties"]["next"]["$ref"], "#/anyOf/1/properties/arguments");
        assert_eq!(arguments["properties"]["id"]["$ref"], "#/anyOf/1/properties/arguments/$defs/id");
        assert_eq!(arguments["properties"]["$ref"]["enum"][0]["$ref"], "#/x");
        assert_eq!(arguments["$defs"]["id"]["const"]["$ref"], "#");
    }

    #[test]
    fn a_model_is_told_in_its_system_message_or_a_new_one() {
        let tools = read(&asked(&json!("required")), false).unwrap().unwrap();
        for (messages, count) in [
            (json!([{"role": "user", "content": "x"}]), 2),
            (json!([{"role": "system", "content": "Be kind."}, {"role": "user", "content": "x"}]), 2),
            (json!([{"role": "system", "content": [{"type": "text", "text": "Be kind."}]}]), 1),
        ] {
            let mut told = messages;
            tools.tell(&mut told);
            assert_eq!(told.as_array().map(Vec::len), Some(count));
            assert!(told[0]["role"] == "system" && told[0].to_string().contains("sub"), "{told}");
        }
    }
}
