//! On SmolLM2-135M-Instruct Q4_1, whose path `COCOON_TEST_MODEL` gives. Without it these tests say
//! that they were skipped. llama.cpp is the referee in `tests/llama_cpp/compare.py`.

use std::path::PathBuf;

use cocoon_llm::{Finish, GenerateRequest, Llm, LlmOptions, ParseSpecial, Sampling};
use serde_json::json;

use crate::fixture::{Answer, finish, run, start};

#[expect(clippy::disallowed_methods, reason = "a test finds its optional model this way")]
#[expect(clippy::print_stdout, reason = "a skipped test says so")]
fn model() -> Option<PathBuf> {
    let path = std::env::var("COCOON_TEST_MODEL").ok().map(PathBuf::from);
    if path.is_none() {
        println!("skipped: COCOON_TEST_MODEL names no SmolLM2-135M-Instruct Q4_1 GGUF");
    }
    path
}

fn ask(llm: &Llm, content: &str, sampling: Sampling) -> GenerateRequest {
    let messages = json!([{"role": "user", "content": content}]);
    let prompt = llm.render_chat(&messages, None, true).expect("a chat model");
    let prompt_tokens = llm.tokenize_prompt(&prompt).expect("short");
    GenerateRequest { sampling, ..GenerateRequest::new(prompt_tokens, 24) }
}

#[test]
fn the_capital_of_france() {
    let Some(path) = model() else { return };
    let llm = Llm::load(&path, &LlmOptions::default()).expect("valid");
    assert_eq!((llm.info().vocabulary, llm.info().context_tokens), (49_152, 8_192));
    assert_eq!(llm.info().eos_ids, [2, 0]);
    let question = ask(&llm, "What is the capital of France?", Sampling::greedy());
    // Ids given by llama.cpp for the same file and template.
    assert_eq!(question.prompt_tokens.len(), 37);
    assert_eq!(question.prompt_tokens[..6], [1, 9690, 198, 2683, 359, 253]);
    // A plain completion: the model's answer to the question hangs on a near tie.
    let prompt_tokens = llm.tokenize("The capital of France is", ParseSpecial::No).expect("short");
    let sampling = Sampling::greedy();
    let answer = run(&llm, GenerateRequest { sampling, ..GenerateRequest::new(prompt_tokens, 4) });
    assert!(answer.text.starts_with(" Paris"), "{}", answer.text);
    assert_eq!(answer.end.finish, Finish::Length);
}

#[test]
fn company_changes_nothing_on_a_real_model() {
    let Some(path) = model() else { return };
    let llm = Llm::load(&path, &LlmOptions::default()).expect("valid");
    let questions = ["Name a colour.", "Write a poem about rain.", "What is 2 + 2?"];
    let request = |index: usize| {
        let sampling = Sampling { seed: Some(index as u64), top_p: 0.9, ..Sampling::default() };
        ask(&llm, questions[index], sampling)
    };
    let alone: Vec<Answer> = (0..3).map(|index| run(&llm, request(index))).collect();
    let started: Vec<_> = (0..3).map(|index| start(&llm, request(index))).collect();
    for (started, alone) in started.into_iter().zip(alone) {
        assert_eq!(finish(started).ids, alone.ids);
    }
}
