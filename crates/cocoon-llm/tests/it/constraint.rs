//! Answers that are bound to a schema, and schemas made to hurt.

use cocoon_llm::{ConstraintError, Finish, GenerateRequest, Llm, LlmOptions, Sampling, UnknownKeywords};
use serde_json::{Value, json};

use crate::fixture::{Answer, CONTEXT, File, IM_END, load, run, text, tiny};

fn compile(llm: &Llm, schema: &Value) -> Result<cocoon_llm::Constraint, ConstraintError> {
    llm.compile_schema(schema.clone(), UnknownKeywords::Refused)
}

fn answer(llm: &Llm, schema: &Value, seed: u64) -> Answer {
    let constraint = Some(compile(llm, schema).expect("a good schema"));
    let sampling = Sampling { seed: Some(seed), ..Sampling::default() };
    run(llm, GenerateRequest { sampling, constraint, ..GenerateRequest::new(vec![65; 4], CONTEXT) })
}

fn person() -> Value {
    json!({
        "type": "object",
        "properties": {
            "size": {"type": "integer", "minimum": 0, "maximum": 250},
            "kind": {"enum": ["a", "bc"]},
            "flags": {"type": "array", "items": {"type": "boolean"}, "maxItems": 3},
            "next": {"$ref": "#/$defs/link"}
        },
        "required": ["size", "kind", "flags", "next"],
        "additionalProperties": false,
        "$defs": {"link": {"type": "object", "properties": {"id": {"const": 7}}, "required": ["id"], "additionalProperties": false}}
    })
}

/// A model with random weights writes what the schema says all the same.
#[test]
fn every_answer_keeps_its_schema() {
    let llm = tiny(&LlmOptions::default());
    for seed in 0..20 {
        let answer = answer(&llm, &person(), seed);
        assert_eq!(answer.end.finish, Finish::Stop);
        let value: Value = serde_json::from_str(&answer.text).expect("JSON");
        assert!(value["size"].as_u64().is_some_and(|size| size <= 250), "{value}");
        assert!(["a", "bc"].contains(&value["kind"].as_str().expect("text")));
        assert!(value["flags"].as_array().is_some_and(|flags| flags.len() <= 3));
        assert_eq!((value["next"]["id"].as_u64(), value.as_object().map(serde_json::Map::len)), (Some(7), Some(4)));
        // In the schema's order, written in one way.
        assert!(answer.text.starts_with("{\"size\": "), "{}", answer.text);
    }
}

#[test]
fn a_constrained_answer_ends_where_its_json_ends() {
    let llm = tiny(&LlmOptions::default());
    let yes = json!({"const": {"ok": true}});
    let eager = Sampling { logit_bias: [(IM_END, 100.0)].into(), ..Sampling::greedy() };
    for (ignore_eos, sampling) in [(false, eager), (true, Sampling::greedy())] {
        let constraint = Some(compile(&llm, &yes).expect("a good schema"));
        let request = GenerateRequest { ignore_eos, sampling, constraint, ..GenerateRequest::new(vec![65; 4], 99) };
        let answer = run(&llm, request);
        assert_eq!((answer.text.as_str(), answer.end.finish), ("{\"ok\": true}", Finish::Stop));
    }
    let constraint = Some(compile(&llm, &yes).expect("a good schema"));
    let cut = run(&llm, GenerateRequest { constraint, ..GenerateRequest::new(vec![65; 4], 5) });
    assert_eq!((cut.text.as_str(), cut.end.finish), ("{\"ok\"", Finish::Length));
}

/// Probabilities are the model's, however little of them the schema leaves.
#[test]
fn logprobs_are_those_before_the_constraint() {
    let llm = tiny(&LlmOptions::default());
    let free =
        GenerateRequest { logprobs: Some(2), sampling: Sampling::greedy(), ..GenerateRequest::new(vec![65; 4], 1) };
    let constraint = Some(compile(&llm, &json!({"const": "x"})).expect("a good schema"));
    let first = |request| {
        let (_ticket, heard) = crate::fixture::start(&llm, request);
        let tokens = heard.iter().find_map(|heard| match heard {
            crate::fixture::Heard::Text(_, tokens) => tokens.first().cloned(),
            crate::fixture::Heard::End(_) => None,
        });
        tokens.and_then(|token| token.logprobs).expect("asked for")
    };
    let (free, bound) = (first(free.clone()), first(GenerateRequest { constraint, ..free }));
    assert_eq!(free.top, bound.top);
    assert!(bound.logprob < free.logprob);
}

#[test]
fn company_changes_no_constrained_answer() {
    let alone: Vec<_> = (0..4).map(|seed| answer(&tiny(&LlmOptions::default()), &person(), seed).ids).collect();
    let llm = tiny(&LlmOptions::default());
    let constraint = compile(&llm, &person()).expect("a good schema");
    let started: Vec<_> = (0..4)
        .map(|seed| {
            let sampling = Sampling { seed: Some(seed), ..Sampling::default() };
            let constraint = Some(constraint.clone());
            crate::fixture::start(
                &llm,
                GenerateRequest { sampling, constraint, ..GenerateRequest::new(vec![65; 4], CONTEXT) },
            )
        })
        .collect();
    let together: Vec<_> = started.into_iter().map(|started| crate::fixture::finish(started).ids).collect();
    assert_eq!(together, alone);
}

#[test]
fn keywords_that_cannot_be_enforced_are_named_or_left_out_as_asked() {
    let llm = tiny(&LlmOptions::default());
    let schema = json!({"type": "array", "items": {"type": "null"}, "uniqueItems": true, "maxItems": 1});
    let error = compile(&llm, &schema).expect_err("not enforced").to_string();
    assert!(error.contains("uniqueItems"), "{error}");
    llm.compile_schema(schema, UnknownKeywords::Ignored).expect("left out");
}

fn nested(levels: usize) -> Value {
    (0..levels).fold(json!({"type": "null"}), |inner, _| json!({"properties": {"a": inner}}))
}

/// Each is refused or compiled, soon, and what is compiled generates; nothing panics or grows without end.
#[test]
fn hostile_schemas_are_bounded() {
    let llm = tiny(&LlmOptions::default());
    let many = |n: usize, value: &dyn Fn(usize) -> Value| Value::Array((0..n).map(value).collect());
    let wide =
        |n: usize| (0..n).map(|i| (format!("p{i}"), json!({"type": "number"}))).collect::<serde_json::Map<_, _>>();
    let pattern = |pattern: &str| json!({"type": "string", "pattern": pattern});
    let cases = [
        ("nested deeper than the stack", nested(200)),
        ("as deep as is allowed", nested(31)),
        ("a huge enumeration", json!({"enum": many(6000, &|i| json!(format!("value{i}")))})),
        ("thousands of properties", json!({"type": "object", "properties": wide(1500)})),
        ("a repetition of repetitions", pattern("^((a{1,1000}){1,1000}){1,1000}$")),
        ("an exponential automaton", pattern("^(.*a.{24}|.*b.{23}|.*c.{22})$")),
        ("an expression that explodes on the way", pattern("^(a|b|ab)*(a|ab|ba)*c(.*d.{40}){3}$")),
        ("an expression that looks back", pattern("^(a)\\1$")),
        ("a broken expression", pattern("((((")),
        ("a text that never ends", json!({"type": "string", "minLength": 2_000_000_000})),
        ("a text of exact length", json!({"type": "string", "minLength": 100_000, "maxLength": 100_000})),
        ("a list that never ends", json!({"type": "array", "minItems": 4_000_000_000_u64})),
        ("a list of every length", json!({"type": "array", "items": {"type": "null"}, "maxItems": 1_000_000_000})),
        (
            "lists of lists",
            json!({"type": "array", "maxItems": 9999, "items": {"type": "array", "maxItems": 9999, "items": {"type": "array", "maxItems": 9999}}}),
        ),
        ("steps of nothing", json!({"type": "number", "multipleOf": 1e-300})),
        (
            "steps without a common multiple",
            json!({"allOf": many(40, &|i| json!({"type": "integer", "multipleOf": 1_000_003 + 2 * i}))}),
        ),
        (
            "a product of alternatives",
            json!({"allOf": many(20, &|i| json!({"oneOf": many(20, &|j| json!({"properties": {format!("k{i}"): {"const": j}}}))}))}),
        ),
        ("itself", json!({"$ref": "#"})),
        (
            "itself by a detour",
            json!({"allOf": [{"$ref": "#/$defs/a"}], "$defs": {"a": {"anyOf": [{"$ref": "#/$defs/b"}]}, "b": {"allOf": [{"$ref": "#/$defs/a"}]}}}),
        ),
        (
            "a tree without leaves",
            json!({"type": "object", "properties": {"next": {"$ref": "#"}}, "required": ["next"]}),
        ),
        ("a file of this host", json!({"$ref": "file:///etc/passwd"})),
        ("another host", json!({"$ref": "http://169.254.169.254/latest"})),
        ("nowhere", json!({"$ref": "#/$defs/none"})),
        ("nothing that exists", json!({"not": {}})),
        ("types of the wrong type", json!({"type": 7, "properties": [1], "enum": {}})),
        ("too long", json!({"const": "x".repeat(70_000)})),
        ("a contradiction", json!({"type": "integer", "minimum": 5, "maximum": 4})),
        ("thirty thousand options in a row", pattern(&format!("^{}$", "a?b?".repeat(15_000)))),
        ("thousands of choices in a row", pattern(&format!("^{}$", "([ab]c|d)".repeat(7_000)))),
        ("choices within choices", pattern(&format!("^{}b{}$", "(a|".repeat(240), ")*".repeat(240)))),
        ("letters of every script", pattern("^(\\p{L}{1,500}\\p{N}{1,500}\\p{Lu}?){1,500}$")),
        ("patterns that must all hold", json!({"allOf": many(40, &|i| pattern(&format!("^.*a.{{{i}}}b.*$")))})),
        ("as many of them as are allowed", json!({"allOf": many(4, &|i| pattern(&format!("^.*a.{{{i}}}b.*$")))})),
        (
            "two long patterns that must both hold",
            json!({"allOf": many(2, &|i| pattern(&format!("(.*{i}|a)").repeat(31)))}),
        ),
        ("thousands of alternatives", json!({"anyOf": many(1500, &|i| pattern(&format!("^[a-z]{{{i}}}$")))})),
        (
            "hundreds of optional members of patterns",
            json!({"type": "object", "patternProperties": {"^a.{200}$": {}, "^.{200}b$": {}, "^(c|d){300}$": {}}}),
        ),
    ];
    for (what, schema) in cases {
        for unknown in [UnknownKeywords::Refused, UnknownKeywords::Ignored] {
            match llm.compile_schema(schema.clone(), unknown) {
                Ok(constraint) => {
                    let request =
                        GenerateRequest { constraint: Some(constraint), ..GenerateRequest::new(vec![65; 4], 24) };
                    let end = run(&llm, request).end;
                    assert!(matches!(end.finish, Finish::Stop | Finish::Length), "{what}: {end:?}");
                }
                Err(ConstraintError::TooSlow | ConstraintError::Busy) => panic!("{what} takes too long"),
                Err(error) => assert!(error.to_string().len() < 300, "{what}: {error}"),
            }
        }
    }
}

#[test]
fn what_is_no_schema_is_refused_by_name() {
    let llm = tiny(&LlmOptions::default());
    for schema in [json!(true), json!(null), json!("string"), json!([{}])] {
        assert!(matches!(compile(&llm, &schema), Err(ConstraintError::NotAnObject)), "{schema}");
    }
    assert!(matches!(compile(&llm, &nested(70)), Err(ConstraintError::TooDeep)));
    assert!(matches!(compile(&llm, &json!({"title": "x".repeat(66_000)})), Err(ConstraintError::TooLong)));
}

/// What an error quotes is for the sender; a log gets its kind only.
#[test]
fn a_schema_is_in_no_debug_output() {
    let llm = tiny(&LlmOptions::default());
    let error = compile(&llm, &json!({"$ref": "#/secret"})).expect_err("nowhere");
    assert!(error.to_string().contains("secret") && !format!("{error:?}").contains("secret"), "{error:?}");
    let constraint = compile(&llm, &json!({"const": "secret"})).expect("a good schema");
    assert!(!format!("{constraint:?}").contains("secret"));
}

#[test]
fn a_model_whose_answers_never_end_cannot_be_constrained() {
    let mut file = File::tiny();
    file.metadata.retain(|(key, _)| key != "tokenizer.ggml.eos_token_id");
    let tokens: Vec<String> = (0..260).map(|i| format!("t{i}")).collect();
    file.set("tokenizer.ggml.tokens", crate::fixture::texts(&tokens));
    file.set("tokenizer.chat_template", text("x"));
    let llm = load(&file, &LlmOptions::default()).expect("valid");
    assert!(matches!(compile(&llm, &json!({})), Err(ConstraintError::Vocabulary)));
}
