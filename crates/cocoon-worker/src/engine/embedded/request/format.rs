//! `response_format`: which JSON an answer must be.

use cocoon_llm::{ConstraintError, UnknownKeywords};
use serde_json::{Value, json};

use super::Refusal;
use super::body::Body;

const FIELD: &str = "response_format";

/// A schema that an answer must keep, not compiled yet.
pub(in crate::engine::embedded) struct Schema {
    pub(in crate::engine::embedded) value: Value,
    pub(in crate::engine::embedded) unknown: UnknownKeywords,
    /// The field of the request that gave it.
    pub(in crate::engine::embedded) field: &'static str,
}

impl Schema {
    /// The schema that a body asks its answer to keep.
    pub(super) fn of_format(body: &Body) -> Result<Option<Self>, Refusal> {
        let Some(format) = &body.response_format else { return Ok(None) };
        let member = |name: &str| format.get("json_schema").and_then(|schema| schema.get(name));
        match format.get("type").and_then(Value::as_str) {
            Some("text") => Ok(None),
            Some("json_object") => {
                let unknown = UnknownKeywords::Refused;
                Ok(Some(Self { value: json!({"type": "object"}), unknown, field: FIELD }))
            }
            Some("json_schema") => {
                let value = member("schema").cloned().ok_or_else(|| {
                    Refusal::new("`response_format.json_schema.schema` is missing", Some(FIELD), "missing")
                })?;
                Ok(Some(Self { value, unknown: strictness(member("strict"))?, field: FIELD }))
            }
            Some(_) | None => Err(Refusal::new(
                "`response_format.type` must be `text`, `json_object` or `json_schema`",
                Some(FIELD),
                "invalid_value",
            )),
        }
    }

    /// Why it is refused.
    pub(in crate::engine::embedded) fn refusal(&self, error: &ConstraintError) -> Refusal {
        Refusal::new(&format!("`{}`: {error}", self.field), Some(self.field), "invalid_json_schema")
    }
}

/// The API's `strict`: off unless it is asked for.
pub(super) fn strictness(strict: Option<&Value>) -> Result<UnknownKeywords, Refusal> {
    match strict {
        Some(Value::Bool(true)) => Ok(UnknownKeywords::Refused),
        None | Some(Value::Null | Value::Bool(false)) => Ok(UnknownKeywords::Ignored),
        Some(Value::Number(_) | Value::String(_) | Value::Array(_) | Value::Object(_)) => {
            Err(Refusal::new("`strict` must be true or false", None, "invalid_type"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(format: Value) -> Result<Option<Schema>, Refusal> {
        Schema::of_format(&Body::read(json!({"response_format": format}).to_string().as_bytes()).unwrap())
    }

    #[test]
    fn a_format_is_a_schema_or_is_refused_by_name() {
        assert!(read(json!({"type": "text"})).unwrap().is_none());
        assert_eq!(read(json!({"type": "json_object"})).unwrap().unwrap().value, json!({"type": "object"}));
        let strict = read(json!({"type": "json_schema", "json_schema": {"strict": true, "schema": {"a": 1}}}));
        let strict = strict.unwrap().unwrap();
        assert_eq!((strict.value, strict.unknown), (json!({"a": 1}), UnknownKeywords::Refused));
        let lax = read(json!({"type": "json_schema", "json_schema": {"schema": {}}})).unwrap().unwrap();
        assert_eq!(lax.unknown, UnknownKeywords::Ignored);
        for format in [
            json!({}),
            json!("json_object"),
            json!({"type": "xml"}),
            json!({"type": 1}),
            json!({"type": "json_schema"}),
            json!({"type": "json_schema", "json_schema": 7}),
            json!({"type": "json_schema", "json_schema": {"strict": true}}),
            json!({"type": "json_schema", "json_schema": {"schema": {}, "strict": "very"}}),
        ] {
            assert!(read(format.clone()).is_err(), "{format}");
        }
    }
}
