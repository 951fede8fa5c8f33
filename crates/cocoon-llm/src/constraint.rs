//! Answers that are JSON of a given shape: a schema becomes a grammar, and the grammar says before
//! every token which ones may follow. Both by `llguidance`, whose work is bounded by fuel.
//!
//! A schema is written by a stranger, so:
//!
//! 1. its size and depth are bounded before the library sees it, and so are patterns that hold together ([`patterns`]);
//! 2. it is compiled on a thread of its own, with a stack for the deepest schema; few at a time;
//! 3. the library's limits bound the grammar, and later the work of every step;
//! 4. whoever waits, waits for a bounded time.
//!
//! Numbers, names and separators are written in one way, `{"a": 1, "b": [2, 3]}`: a small model that
//! may choose its white space may choose nothing else. Why this library: `docs/decisions/0022-schemas-become-masks.md`.

mod patterns;

use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use llguidance::api::{ParserLimits, TopLevelGrammar};
use llguidance::toktrie::{ApproximateTokEnv, InferenceCapabilities, TokEnv, TokRxInfo, TokTrie};
use llguidance::{Matcher, ParserFactory};
use serde_json::{Value, json};

use crate::error::{ConstraintError, Reason};
use crate::limits::{
    CONSTRAINT_FUEL, CONSTRAINT_ITEMS_MAX, CONSTRAINT_LEXER_STATES_MAX, CONSTRAINT_ROW_ITEMS_MAX, CONSTRAINT_STEP_FUEL,
    CONSTRAINT_STEP_ITEMS_MAX, SCHEMA_BYTES_MAX, SCHEMA_DEPTH_MAX, SCHEMA_STACK_BYTES, SCHEMA_TIME_MAX,
    SCHEMAS_COMPILING_MAX, TRIE_BYTES_MAX, TRIE_TOKEN_BYTES_MAX,
};
use crate::tokenizer::Tokenizer;

/// What to do about words of a schema that the engine cannot enforce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnknownKeywords {
    /// The schema is refused: an answer always keeps all of it (the API's `strict`).
    Refused,
    /// They are left out of account.
    Ignored,
}

/// A compiled schema, for one model. Clones share it.
///
/// `Debug` shows nothing of the schema.
#[derive(Clone)]
pub struct Constraint {
    start: Arc<Mutex<Matcher>>,
}

impl Constraint {
    /// The state of one answer, at its beginning.
    pub(crate) fn begin(&self) -> Constrained {
        let start = self.start.lock().unwrap_or_else(PoisonError::into_inner);
        // With caches of its own: what one answer costs does not depend on another.
        Constrained { matcher: start.deep_clone() }
    }
}

impl PartialEq for Constraint {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.start, &other.start)
    }
}

impl std::fmt::Debug for Constraint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Constraint").finish_non_exhaustive()
    }
}

/// An answer under way.
pub(crate) struct Constrained {
    matcher: Matcher,
}

/// One step would take more work than a step may.
#[derive(Debug)]
pub(crate) struct TooComplex;

impl Constrained {
    /// Makes the tokens that cannot follow impossible.
    pub(crate) fn mask(&mut self, logits: &mut [f32]) -> Result<(), TooComplex> {
        let allowed = self.matcher.compute_mask().map_err(|_| TooComplex)?;
        for (token, logit) in (0..).zip(logits) {
            if !allowed.is_allowed(token) {
                *logit = f32::NEG_INFINITY;
            }
        }
        Ok(())
    }

    /// Takes the token that was chosen; says whether the answer is complete.
    pub(crate) fn advance(&mut self, token: u32) -> Result<bool, TooComplex> {
        self.matcher.consume_token(token).map_err(|_| TooComplex)?;
        Ok(self.matcher.is_stopped())
    }
}

/// The compiler of one model's schemas.
pub(crate) struct Constraints {
    /// Made when the first schema comes: it takes memory, and a share of a second. `None` if the
    /// vocabulary does not fit the library.
    factory: OnceLock<Option<ParserFactory>>,
    slots: Slots,
}

impl Constraints {
    pub(crate) fn new() -> Self {
        Self { factory: OnceLock::new(), slots: Slots::default() }
    }

    fn compile(
        &self,
        tokenizer: &Tokenizer,
        schema: Value,
        unknown: UnknownKeywords,
    ) -> Result<Constraint, ConstraintError> {
        let factory = self.factory.get_or_init(|| factory(tokenizer)).as_ref();
        let factory = factory.ok_or(ConstraintError::Vocabulary)?;
        let grammar = TopLevelGrammar::from_json_schema(with_style(schema, unknown));
        let mut matcher = Matcher::new(factory.create_parser(grammar));
        // What the first token may be is computed here too: work that fails on it fails before the prompt.
        if let Err(error) = matcher.compute_mask() {
            return Err(ConstraintError::Schema(Reason::new(&error.to_string())));
        }
        Ok(Constraint { start: Arc::new(Mutex::new(matcher)) })
    }
}

/// What compiling needs of a model, for a thread that may outlive the wait for it.
pub(crate) trait HasConstraints: Send + Sync + 'static {
    fn constraints(&self) -> &Constraints;
    fn tokenizer(&self) -> &Tokenizer;
}

/// Compiles a schema for the model of `shared`.
pub(crate) fn compile<S: HasConstraints>(
    shared: &Arc<S>,
    schema: Value,
    unknown: UnknownKeywords,
) -> Result<Constraint, ConstraintError> {
    check(&schema)?;
    let on_thread = Arc::clone(shared);
    let work = move || on_thread.constraints().compile(on_thread.tokenizer(), schema, unknown);
    shared.constraints().slots.run(work, SCHEMA_TIME_MAX)
}

/// Bounds on what the library is given.
fn check(schema: &Value) -> Result<(), ConstraintError> {
    if !schema.is_object() {
        return Err(ConstraintError::NotAnObject);
    }
    if depth(schema) > SCHEMA_DEPTH_MAX {
        return Err(ConstraintError::TooDeep);
    }
    if schema.to_string().len() > SCHEMA_BYTES_MAX {
        return Err(ConstraintError::TooLong);
    }
    if !patterns::are_few(schema) {
        return Err(ConstraintError::TooManyPatterns);
    }
    Ok(())
}

/// Levels of nesting. Recursion ends: parsing JSON is bounded at 128 levels.
fn depth(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
    }
}

/// The library reads its options from this member of a schema; one that was sent is replaced.
fn with_style(mut schema: Value, unknown: UnknownKeywords) -> Value {
    schema["x-guidance"] = json!({
        "item_separator": ", ",
        "key_separator": ": ",
        "whitespace_flexible": false,
        "lenient": unknown == UnknownKeywords::Ignored,
    });
    schema
}

fn factory(tokenizer: &Tokenizer) -> Option<ParserFactory> {
    let vocabulary = u32::try_from(tokenizer.vocabulary_len()).ok()?;
    let eos = *tokenizer.eos_ids().first()?;
    // A token that is too long for the library is one that no constrained answer contains.
    let word = |id| Some(tokenizer.bytes(id)).filter(|word| word.len() <= TRIE_TOKEN_BYTES_MAX).unwrap_or_default();
    let words: Vec<Vec<u8>> = (0..vocabulary).map(|id| word(id).to_vec()).collect();
    if words.iter().map(Vec::len).sum::<usize>() > TRIE_BYTES_MAX {
        return None;
    }
    let trie = TokTrie::from(&TokRxInfo::new(vocabulary, eos), &words).with_eos_tokens(tokenizer.eos_ids());
    let environment: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
    let slices = llguidance::earley::SlicedBiasComputer::json_slices();
    let mut factory = ParserFactory::new(&environment, InferenceCapabilities::default(), &slices).ok()?;
    *factory.limits_mut() = limits();
    // It would write to standard error, and schemas belong in no log.
    factory.quiet();
    Some(factory)
}

fn limits() -> ParserLimits {
    ParserLimits {
        max_items_in_row: CONSTRAINT_ROW_ITEMS_MAX,
        initial_lexer_fuel: CONSTRAINT_FUEL,
        step_lexer_fuel: CONSTRAINT_STEP_FUEL,
        step_max_items: CONSTRAINT_STEP_ITEMS_MAX,
        max_lexer_states: CONSTRAINT_LEXER_STATES_MAX,
        max_grammar_size: CONSTRAINT_ITEMS_MAX,
        precompute_large_lexemes: false,
        // They would quote the answer.
        verbose_errors: false,
    }
}

/// Room for work that cannot be interrupted: what nobody waits for any more still takes a slot.
#[derive(Default)]
struct Slots {
    state: Arc<SlotState>,
}

#[derive(Default)]
struct SlotState {
    taken: Mutex<usize>,
    freed: Condvar,
}

/// Given back when dropped.
struct Slot(Arc<SlotState>);

impl Slots {
    /// Runs `work` on a thread of its own and waits for a slot and for the result, for each `patience`.
    fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, ConstraintError> + Send + 'static,
        patience: Duration,
    ) -> Result<T, ConstraintError> {
        let slot = self.take(patience).ok_or(ConstraintError::Busy)?;
        let (sender, result) = sync_channel(1);
        let body = move || {
            let done = work();
            drop(slot);
            // Nobody may be waiting any more.
            let _ = sender.send(done);
        };
        let thread = std::thread::Builder::new().name("schema".to_owned()).stack_size(SCHEMA_STACK_BYTES);
        thread.spawn(body).map_err(|_| ConstraintError::Busy)?;
        match result.recv_timeout(patience) {
            Ok(done) => done,
            Err(RecvTimeoutError::Timeout) => Err(ConstraintError::TooSlow),
            // The library panicked outside of what it guards itself.
            Err(RecvTimeoutError::Disconnected) => Err(ConstraintError::Schema(Reason::new("it cannot be compiled"))),
        }
    }

    fn take(&self, patience: Duration) -> Option<Slot> {
        let taken = self.state.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let full = |taken: &mut usize| *taken >= SCHEMAS_COMPILING_MAX;
        let waited = self.state.freed.wait_timeout_while(taken, patience, full);
        let (mut taken, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        if waited.timed_out() {
            return None;
        }
        *taken += 1;
        Some(Slot(Arc::clone(&self.state)))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut taken = self.0.taken.lock().unwrap_or_else(PoisonError::into_inner);
        *taken = taken.saturating_sub(1);
        self.0.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The wait ends, the work does not: so it keeps its slot, and there are only so many.
    #[test]
    fn schemas_that_never_end_take_the_slots_and_nothing_more() {
        let slots = Slots::default();
        let held: Vec<_> = (0..SCHEMAS_COMPILING_MAX)
            .map(|_| {
                let (release, released) = sync_channel::<()>(0);
                let endless = move || {
                    let _ = released.recv();
                    Ok(())
                };
                assert!(matches!(slots.run(endless, Duration::ZERO), Err(ConstraintError::TooSlow)));
                release
            })
            .collect();
        assert!(matches!(slots.run(|| Ok(()), Duration::ZERO), Err(ConstraintError::Busy)));
        drop(held);
        assert!(slots.run(|| Ok(7), Duration::from_secs(600)).is_ok_and(|result| result == 7));
    }

    #[test]
    fn a_panic_in_the_library_is_a_refusal() {
        let slots = Slots::default();
        let broken = || -> Result<(), ConstraintError> { panic!("on purpose") };
        assert!(matches!(slots.run(broken, Duration::from_secs(600)), Err(ConstraintError::Schema(_))));
        assert!(slots.run(|| Ok(()), Duration::from_secs(600)).is_ok());
    }

    #[test]
    fn a_schema_cannot_choose_the_librarys_options() {
        let sent = json!({"type": "object", "x-guidance": {"lenient": true, "whitespace_flexible": true}});
        let styled = with_style(sent, UnknownKeywords::Refused);
        assert_eq!(styled["x-guidance"]["lenient"], false);
        assert_eq!(styled["x-guidance"]["whitespace_flexible"], false);
    }
}
