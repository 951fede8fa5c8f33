//! Tokens counted again.
//!
//! The prompt is rendered and tokenised as the embedded engine does it, so its count is exact: one token more in the
//! receipt is refused. Where the answer was stopped before the engine told its usage, the worker estimates the prompt from
//! its bytes, and only more tokens than there are are refused.
//! An answer's text does not determine its tokens, since several sequences spell the same text and some tokens spell none;
//! so the receipt may exceed the text's count by [`TOLERANCE_PERCENT`] percent and [`TOKENS_BESIDE_TEXT`] a choice, and is
//! refused beyond.

use std::path::Path;

#[cfg(feature = "engine-embedded")]
pub(super) use counted::check;

use anyhow::Result;

use super::report::Report;

#[cfg(not(feature = "engine-embedded"))]
pub(super) fn check(_: &Path, _: &[u8], _: Option<&[u8]>, _: &mut Report) -> Result<()> {
    anyhow::bail!("this build has no tokenizer: use one with the feature `engine-embedded` for --recount")
}

/// How far an answer's count may exceed that of its text, in percent.
///
/// A model writes a text in the shortest sequence of tokens nearly always: of 60 answers that were counted again none
/// differed by more than the [`TOKENS_BESIDE_TEXT`].
#[cfg(feature = "engine-embedded")]
const TOLERANCE_PERCENT: u64 = 5;

/// Tokens of a choice that spell nothing: the end of the turn, and one that was cut at a limit or a stop string.
#[cfg(feature = "engine-embedded")]
const TOKENS_BESIDE_TEXT: u64 = 2;

#[cfg(feature = "engine-embedded")]
mod counted {
    use std::collections::BTreeMap;
    use std::fs::File;

    use anyhow::{Context as _, anyhow};
    use cocoon_llm::{Llm, LlmOptions, ParseSpecial};
    use cocoon_receipt::{ModelHashes, Outcome};
    use cocoon_worker::engine::Route;
    use cocoon_worker::engine::embedded::count_prompt;
    use serde_json::Value;
    use sha2::{Digest as _, Sha256};

    use super::super::report::Refused;
    use super::*;
    use crate::words::safe;

    /// Counts prompt and, where there is an answer, completion.
    pub(in super::super) fn check(
        model: &Path,
        request: &[u8],
        answer: Option<&[u8]>,
        report: &mut Report,
    ) -> Result<()> {
        check_model(model, report)?;
        let options = LlmOptions { sequences_max: 1, queue_max: 1, ..LlmOptions::default() };
        let llm = Llm::load(model, &options).with_context(|| format!("cannot use {}", model.display()))?;
        check_prompt(&llm, request, report)?;
        match answer {
            Some(answer) => check_completion(&llm, answer, report)?,
            None => report.unpinned.push("the completion was not counted (use --answer)".to_owned()),
        }
        Ok(())
    }

    /// The file is the one that the receipt names, where it names one.
    fn check_model(model: &Path, report: &mut Report) -> Result<()> {
        let mut hasher = Sha256::new();
        let mut file = File::open(model).with_context(|| format!("cannot open {}", model.display()))?;
        std::io::copy(&mut file, &mut hasher).with_context(|| format!("cannot read {}", model.display()))?;
        let found: [u8; 32] = hasher.finalize().into();
        let ModelHashes { weights, tokenizer, .. } = report.receipt.hashes;
        match tokenizer.into_iter().chain(weights).map(|hash| hash.sha256).find(|sha256| *sha256 == found) {
            Some(_) => report.passed.push(("model", format!("{}, as the receipt says", hex::encode(found)))),
            None => match weights.or(tokenizer) {
                Some(hash) => {
                    return Err(Refused::new(
                        "model",
                        hex::encode(hash.sha256),
                        hex::encode(found),
                        "the file is not the one that the receipt names: count with that one",
                    )
                    .into());
                }
                None => {
                    report.unpinned.push("the receipt names no files of the model: you say which one it was".to_owned())
                }
            },
        }
        Ok(())
    }

    fn check_prompt(llm: &Llm, request: &[u8], report: &mut Report) -> Result<()> {
        let body: Value = serde_json::from_slice(request).context("the request is no JSON")?;
        let route = if body.get("messages").is_some() { Route::ChatCompletions } else { Route::Completions };
        let counted = count_prompt(llm, route, request.to_vec().into())
            .map_err(|error| anyhow!("the embedded engine cannot count this request: {}", safe(&error)))?;
        let row = compare_prompt(report.receipt.outcome, report.receipt.usage.prompt, counted)?;
        report.passed.push(("prompt", row));
        Ok(())
    }

    /// What the report says of a prompt of so many tokens, or why it is refused.
    fn compare_prompt(outcome: Outcome, signed: u64, counted: u64) -> Result<String, Refused> {
        if counted == signed {
            return Ok(format!("{counted} tokens, counted again: exact"));
        }
        if outcome == Outcome::Stopped && signed < counted {
            return Ok(format!(
                "{signed} tokens, {counted} counted again: the answer was stopped before the engine told them"
            ));
        }
        Err(Refused::new(
            "prompt",
            format!("{counted} tokens, counted again"),
            format!("{signed} tokens in the receipt"),
            "the count is exact: if the worker ran this model with this tokenizer and chat template, it lies",
        ))
    }

    fn check_completion(llm: &Llm, answer: &[u8], report: &mut Report) -> Result<()> {
        let texts = texts(answer);
        let mut counted = 0_u64;
        for text in &texts {
            let tokens =
                llm.tokenize(text, ParseSpecial::No).context("an answer that no model of this context wrote")?;
            counted = counted.saturating_add(u64::try_from(tokens.len())?);
        }
        let beside = TOKENS_BESIDE_TEXT.saturating_mul(u64::try_from(texts.len())?);
        let most =
            counted.saturating_add(counted.saturating_mul(TOLERANCE_PERCENT).div_ceil(100)).saturating_add(beside);
        let signed = report.receipt.usage.completion;
        let tolerance = format!("{TOLERANCE_PERCENT} % and {TOKENS_BESIDE_TEXT} tokens a choice");
        if signed > most {
            return Err(Refused::new(
                "completion",
                format!("at most {most} tokens: {counted} by the text, and a tolerance of {tolerance}"),
                format!("{signed} tokens in the receipt"),
                "the text does not account for the tokens: if this was the whole answer, the worker counts too many",
            )
            .into());
        }
        let row = format!("{signed} tokens, {counted} by the text: within the tolerance of {tolerance}");
        report.passed.push(("completion", row));
        Ok(())
    }

    /// The text of each choice, of a document or of events.
    fn texts(answer: &[u8]) -> Vec<String> {
        let mut texts = BTreeMap::<u64, String>::new();
        let documents: Vec<Value> = match serde_json::from_slice(answer) {
            Ok(document) => vec![document],
            Err(_) => String::from_utf8_lossy(answer)
                .lines()
                .filter_map(|line| serde_json::from_str(line.strip_prefix("data:").unwrap_or(line)).ok())
                .collect(),
        };
        for choice in documents.iter().filter_map(|document| document.get("choices")?.as_array()).flatten() {
            let index = choice.get("index").and_then(Value::as_u64).unwrap_or(0);
            let text = texts.entry(index).or_default();
            let message = choice.get("message").or_else(|| choice.get("delta"));
            let parts = [
                message.and_then(|message| message.get("reasoning_content")),
                message.and_then(|message| message.get("content")),
                choice.get("text"),
            ];
            for part in parts.into_iter().flatten().filter_map(Value::as_str) {
                text.push_str(part);
            }
        }
        texts.into_values().collect()
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_prompt_counts_as_many_tokens_as_it_has_and_fewer_only_where_the_answer_was_stopped() {
            for outcome in [Outcome::Complete, Outcome::Stopped] {
                assert!(compare_prompt(outcome, 34, 34).unwrap().ends_with("exact"));
                assert_eq!(compare_prompt(outcome, 35, 34).unwrap_err().check, "prompt", "one token too many");
            }
            assert!(compare_prompt(Outcome::Complete, 33, 34).is_err(), "a whole answer's prompt was counted");
            assert!(compare_prompt(Outcome::Stopped, 9, 34).unwrap().contains("was stopped"));
        }

        #[test]
        fn the_text_of_each_choice_is_found_in_documents_and_events() {
            let document =
                br#"{"choices":[{"index":1,"message":{"content":"b"}},{"index":0,"message":{"content":"a"}}]}"#;
            assert_eq!(texts(document), ["a", "b"]);
            let events = b"data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n\
                data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\n\
                data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"b\"}}]}\n\ndata: {\"choices\":[]}\n\ndata: [DONE]\n\n";
            assert_eq!(texts(events), ["ab"]);
            assert_eq!(texts(br#"{"choices":[{"text":"x"}]}"#), ["x"]);
            assert!(texts(b"no").is_empty());
        }
    }
}
