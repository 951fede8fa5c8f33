//! How many patterns of a schema must hold of one text at once.
//!
//! The library makes one automaton of the patterns that must all hold (`allOf`, `$ref` or `anyOf` beside other words,
//! `pattern` beside `format`). A step of it has a case for every combination of their cases, and the library's fuel is
//! counted only when all combinations are there: forty patterns of fourteen letters would take days and all memory. So
//! schemas whose combinations could be too many are refused before the library sees them.
//!
//! A pattern counts for as many cases as it has bytes, which are more than it has. What is estimated is an upper bound: a
//! schema in which nothing is combined passes whatever its patterns are, and so does one whose different patterns would be
//! few if all of them held at once.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::limits::{FORMAT_CASES, PATTERN_CASES_MAX, PATTERN_REFERENCES_MAX, PATTERN_VISITS_MAX};

/// Whether the patterns of a schema can be combined.
pub(super) fn are_few(schema: &Value) -> bool {
    if !combines(schema) || all_at_once(schema) <= PATTERN_CASES_MAX {
        return true;
    }
    let mut cases = Cases { root: schema, open: Vec::new(), visits: 0 };
    cases.of(schema, 0).is_some_and(|cases| cases <= PATTERN_CASES_MAX)
}

/// Combinations of all patterns that there are; the same one twice is one.
fn all_at_once(schema: &Value) -> u64 {
    let mut found = BTreeSet::new();
    collect(schema, &mut found);
    found.iter().map(|pattern| cases_of(pattern).max(FORMAT_CASES)).fold(1, u64::saturating_mul)
}

/// Patterns, formats, and patterns of names, also where they are data. Recursion ends: depth was checked before.
fn collect<'a>(schema: &'a Value, found: &mut BTreeSet<&'a str>) {
    match schema {
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
        Value::Object(fields) => {
            let texts = ["pattern", "format"].into_iter().filter_map(|keyword| fields.get(keyword)?.as_str());
            found.extend(texts);
            let names = fields.get("patternProperties").and_then(Value::as_object);
            found.extend(names.into_iter().flatten().map(|(name, _)| name.as_str()));
            fields.values().for_each(|value| collect(value, found));
        }
    }
}

/// Whether a schema demands several things of one value, here or further in. Recursion ends: depth was checked before.
fn combines(schema: &Value) -> bool {
    match schema {
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
        Value::Array(items) => items.iter().any(combines),
        Value::Object(fields) => combines_here(fields) || fields.values().any(combines),
    }
}

fn combines_here(fields: &Map<String, Value>) -> bool {
    let demands = fields.iter().map(|(keyword, value)| match keyword.as_str() {
        "allOf" => value.as_array().map_or(1, Vec::len),
        "anyOf" | "oneOf" | "$ref" => 1,
        _ => 0,
    });
    let demands: usize = demands.sum();
    let has_own = fields.keys().any(|keyword| !is_silent(keyword));
    let has = |keyword: &str| fields.contains_key(keyword);
    let keys = fields.get("patternProperties").and_then(Value::as_object).map_or(0, Map::len);
    demands.saturating_add(usize::from(has_own)) > 1 || (has("pattern") && has("format")) || keys > 1
}

/// Whether a keyword demands nothing of a text, or is one of those that combine.
fn is_silent(keyword: &str) -> bool {
    matches!(
        keyword,
        "allOf" | "anyOf" | "oneOf" | "$ref" | "type" | "title" | "description" | "default" | "examples" | "deprecated"
    ) || is_definition(keyword)
        || matches!(keyword, "$schema" | "$id" | "$anchor" | "$comment" | "readOnly" | "writeOnly" | "x-guidance")
}

fn is_definition(keyword: &str) -> bool {
    matches!(keyword, "$defs" | "definitions")
}

/// Counts combinations; `None` where that would take too long itself.
struct Cases<'a> {
    root: &'a Value,
    /// References that are being followed: what holds twice holds once.
    open: Vec<&'a str>,
    visits: usize,
}

impl<'a> Cases<'a> {
    /// Combinations of cases of the patterns for one text within this schema, at most; 1 where there is no pattern.
    fn of(&mut self, schema: &'a Value, depth: usize) -> Option<u64> {
        self.visits = self.visits.checked_add(1).filter(|&visits| visits <= PATTERN_VISITS_MAX)?;
        let Value::Object(fields) = schema else { return Some(1) };
        let (mut here, mut within, mut joined) = (1_u64, 1_u64, 1_u64);
        for (keyword, value) in fields {
            match (keyword.as_str(), value) {
                ("pattern", Value::String(pattern)) => here = here.saturating_mul(cases_of(pattern)),
                ("format", Value::String(_)) => here = here.saturating_mul(FORMAT_CASES),
                ("allOf", Value::Array(all)) => {
                    for schema in all {
                        joined = joined.saturating_mul(self.of(schema, depth)?);
                    }
                }
                ("anyOf" | "oneOf", Value::Array(any)) => {
                    let mut sum = 1_u64;
                    for schema in any {
                        sum = sum.saturating_add(self.of(schema, depth)?.saturating_sub(1));
                    }
                    joined = joined.saturating_mul(sum);
                }
                ("$ref", Value::String(reference)) => {
                    joined = joined.saturating_mul(self.referred(reference, depth)?);
                }
                ("enum" | "const" | "default" | "examples", _) => {}
                (keyword, _) if is_definition(keyword) => {}
                ("patternProperties", Value::Object(schemas)) => {
                    // Names are compared with every two of them.
                    let names = schemas.keys().map(|name| cases_of(name)).fold(0, u64::saturating_add);
                    within = within.max(if schemas.len() > 1 { names.saturating_mul(names) } else { names });
                    within = within.max(self.largest(schemas.values(), depth)?);
                }
                ("properties", Value::Object(schemas)) => {
                    within = within.max(self.largest(schemas.values(), depth)?);
                }
                (_, Value::Array(schemas)) => within = within.max(self.largest(schemas.iter(), depth)?),
                (_, schema) => within = within.max(self.of(schema, depth)?),
            }
        }
        // What is demanded together of a whole is demanded together of its parts.
        Some(here.max(within).saturating_mul(joined))
    }

    fn largest(&mut self, schemas: impl Iterator<Item = &'a Value>, depth: usize) -> Option<u64> {
        let mut largest = 1;
        for schema in schemas {
            largest = self.of(schema, depth)?.max(largest);
        }
        Some(largest)
    }

    /// Of what a reference leads to. One that leads nowhere is refused by the library.
    fn referred(&mut self, reference: &'a str, depth: usize) -> Option<u64> {
        let depth = depth.checked_add(1).filter(|&depth| depth <= PATTERN_REFERENCES_MAX)?;
        let Some(schema) = self.find(reference).filter(|_| !self.open.contains(&reference)) else { return Some(1) };
        self.open.push(reference);
        let cases = self.of(schema, depth);
        self.open.pop();
        cases
    }

    /// As the library looks it up.
    fn find(&self, reference: &str) -> Option<&'a Value> {
        if matches!(reference, "#" | "#/") {
            return Some(self.root);
        }
        reference.strip_prefix("#/")?.split('/').try_fold(self.root, |schema, segment| match schema {
            Value::Array(items) => items.get(segment.parse::<usize>().ok()?),
            Value::Object(fields) => fields.get(segment),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
        })
    }
}

fn cases_of(pattern: &str) -> u64 {
    u64::try_from(pattern.len()).unwrap_or(u64::MAX).saturating_add(1)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pattern(number: usize) -> Value {
        json!({"type": "string", "pattern": format!("^.*a.{{{number}}}b.*$")})
    }

    fn patterns(count: usize) -> Vec<Value> {
        (0..count).map(pattern).collect()
    }

    #[test]
    fn patterns_that_must_all_hold_in_every_way_to_say_so() {
        let defs = |count| (0..count).map(|at| (format!("p{at}"), pattern(at))).collect::<Map<_, _>>();
        let refs = |count| (0..count).map(|at| json!({"$ref": format!("#/$defs/p{at}")})).collect::<Vec<_>>();
        let nested = |count: usize| {
            patterns(count).into_iter().reduce(|inner, mut outer| {
                outer["allOf"] = json!([inner]);
                outer
            })
        };
        let chain = |count: usize| {
            let defs = (0..count).map(|at| {
                let mut link = pattern(at);
                link["$ref"] = json!(format!("#/$defs/p{}", at + 1));
                (format!("p{at}"), link)
            });
            json!({"$ref": "#/$defs/p0", "$defs": defs.collect::<Map<_, _>>()})
        };
        let property = |count| {
            let branch = |schema: Value| json!({"type": "object", "properties": {"x": schema}});
            json!({"allOf": patterns(count).into_iter().map(branch).collect::<Vec<_>>()})
        };
        let alternatives = |count| json!({"allOf": patterns(count).into_iter().map(|one| json!({"anyOf": [one]})).collect::<Vec<_>>()});
        for count in [2, 3, 5, 6, 10, 40] {
            let is_fine = count < 5;
            for schema in [
                json!({"allOf": patterns(count)}),
                json!({"allOf": refs(count), "$defs": defs(count)}),
                nested(count).unwrap(),
                chain(count),
                property(count),
                alternatives(count),
                json!({"type": "array", "items": {"allOf": patterns(count)}}),
            ] {
                assert_eq!(are_few(&schema), is_fine, "{schema}");
            }
        }
    }

    #[test]
    fn two_long_patterns_that_must_both_hold() {
        let long = |letter: &str| json!({"type": "string", "pattern": format!("^(.*{letter}|x){{3}}").repeat(500)});
        assert!(are_few(&json!({"anyOf": [long("a"), long("b")]})));
        assert!(!are_few(&json!({"allOf": [long("a"), long("b")]})));
        let mut both = long("a");
        both["format"] = json!("email");
        assert!(!are_few(&both));
        let names = json!({"a".repeat(9_000): {}, "b".repeat(9_000): {}});
        assert!(!are_few(&json!({"type": "object", "patternProperties": names})));
    }

    #[test]
    fn schemas_that_people_write() {
        let text =
            json!({"type": "string", "pattern": "^[A-Z]{2}[0-9]{2}[A-Z0-9]{1,30}$", "minLength": 4, "title": "IBAN"});
        let optional = json!({"anyOf": [text, {"type": "null"}], "default": null, "title": "Maybe"});
        let many: Map<_, _> = (0..200).map(|at| (format!("field{at}"), optional.clone())).collect();
        assert!(are_few(&json!({"type": "object", "properties": many, "required": ["field1"]})));
        // A tree of kinds that refer to each other, and inherit.
        let kinds: Map<_, _> = (0..30)
            .map(|at| {
                let next = json!({"anyOf": [{"$ref": format!("#/$defs/k{}", (at + 1) % 30)}, {"type": "null"}]});
                let own = json!({"type": "object", "properties": {"next": next, "code": text}});
                (format!("k{at}"), json!({"allOf": [{"$ref": "#/$defs/base"}, own], "description": "a kind"}))
            })
            .chain([(
                "base".to_owned(),
                json!({"type": "object", "properties": {"id": {"type": "string", "format": "uuid"}}}),
            )])
            .collect();
        let kinds_of_one = json!({"$ref": "#/$defs/k0", "$defs": kinds});
        assert!(are_few(&kinds_of_one));
        assert!(are_few(&json!({"type": "string", "pattern": "^[a-z]+$", "format": "hostname"})));
        assert!(are_few(&json!({"allOf": vec![json!({"type": "object"}); 40], "properties": {"x": text}})));
    }

    #[test]
    fn references_in_circles_and_in_thousands() {
        assert!(are_few(&json!({"$ref": "#"})));
        assert!(are_few(&json!({"allOf": [{"$ref": "#"}, {"$ref": "#/nowhere/7"}]})));
        let circle = json!({"allOf": [{"$ref": "#/$defs/a"}, {"minLength": 1}], "$defs": {
            "a": {"pattern": "a", "$ref": "#/$defs/b"}, "b": {"pattern": "b", "$ref": "#/$defs/a"}}});
        assert!(are_few(&circle));
        // Each reference doubles what follows.
        let doubled: Map<_, _> = (0..60)
            .map(|at| {
                let next = json!({"$ref": format!("#/$defs/d{}", at + 1)});
                (format!("d{at}"), json!({"allOf": [next, next]}))
            })
            .collect();
        assert!(!are_few(&json!({"$ref": "#/$defs/d0", "$defs": doubled, "prefixItems": patterns(9)})));
        let chained: Map<_, _> = (0..3_000)
            .map(|at| (format!("d{at}"), json!({"minLength": 1, "$ref": format!("#/$defs/d{}", at + 1)})))
            .collect();
        assert!(!are_few(&json!({"$ref": "#/$defs/d0", "$defs": chained, "prefixItems": patterns(9)})));
    }
}
