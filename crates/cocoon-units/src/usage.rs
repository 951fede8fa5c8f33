//! Usage: what an engine reports, and the adjusted form that is billed.
//!
//! An engine counts cached tokens inside prompt tokens and reasoning tokens inside completion
//! tokens; the billed kinds are disjoint. A report in which a part exceeds its whole is the
//! reporter's fault and is refused, never rounded to zero.

use thiserror::Error;

use crate::amount::AdjustedTokens;
use crate::rate::{Coefficient, Multiplier, Multipliers};

/// Thousandths of the coefficient times ten-thousandths of the multiplier.
const SCALE: u128 = 10_000_000;

/// Raw tokens as an engine reports them: `prompt` includes `cached`, `completion` includes `reasoning`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Usage {
    /// Tokens of the prompt, cached ones included.
    pub prompt: u64,
    /// Those of the prompt that came from a cache.
    pub cached: u64,
    /// Tokens of the answer, reasoning included.
    pub completion: u64,
    /// Those of the answer that were reasoning.
    pub reasoning: u64,
}

impl Usage {
    /// Weighs each disjoint kind on its own: `floor(n · coefficient · multiplier / 10^7)`.
    ///
    /// # Errors
    ///
    /// When a part exceeds its whole, or a weight does not fit 64 bits; both are the reporter's fault.
    pub fn adjust(&self, coefficient: Coefficient, multipliers: &Multipliers) -> Result<AdjustedUsage, UsageError> {
        let fresh = self.prompt.checked_sub(self.cached).ok_or(UsageError::CachedAbovePrompt)?;
        let answered = self.completion.checked_sub(self.reasoning).ok_or(UsageError::ReasoningAboveCompletion)?;
        AdjustedUsage::new(
            weigh(fresh, coefficient, multipliers.prompt)?,
            weigh(self.cached, coefficient, multipliers.cached)?,
            weigh(answered, coefficient, multipliers.completion)?,
            weigh(self.reasoning, coefficient, multipliers.reasoning)?,
        )
    }
}

/// Tokens that a chat template and its default system prompt may add to the bytes of a prompt.
/// The recorded template adds 30; templates that describe tools add a few hundred.
pub const TEMPLATE_TOKENS_MARGIN: u64 = 512;

/// The most that a request can cost: `ceil((prompt bytes + template margin) · largest prompt multiplier + completion
/// tokens · largest completion multiplier) · coefficient`. No prompt has more tokens than bytes, and usage is floored
/// kind by kind, so honest usage never exceeds it. `None` when it does not fit 64 bits.
#[must_use]
pub fn most_tokens(
    prompt_bytes: u64,
    completion_tokens: u64,
    multipliers: &Multipliers,
    coefficient: Coefficient,
) -> Option<AdjustedTokens> {
    let prompt = u128::from(prompt_bytes).checked_add(u128::from(TEMPLATE_TOKENS_MARGIN))?;
    let weighed = prompt.checked_mul(u128::from(multipliers.largest_prompt().ten_thousandths()))?.checked_add(
        u128::from(completion_tokens).checked_mul(u128::from(multipliers.largest_completion().ten_thousandths()))?,
    )?;
    let priced = weighed.checked_mul(u128::from(coefficient.thousandths()))?;
    u64::try_from(priced.div_ceil(SCALE)).ok().map(AdjustedTokens::new)
}

/// Four disjoint kinds of adjusted tokens, whose sum is known to fit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AdjustedUsage {
    /// Of prompt tokens that were not cached.
    pub prompt: AdjustedTokens,
    /// Of cached prompt tokens.
    pub cached: AdjustedTokens,
    /// Of completion tokens that were not reasoning.
    pub completion: AdjustedTokens,
    /// Of reasoning tokens.
    pub reasoning: AdjustedTokens,
    total: AdjustedTokens,
}

impl AdjustedUsage {
    /// Joins four kinds.
    ///
    /// # Errors
    ///
    /// When their sum does not fit.
    pub fn new(
        prompt: AdjustedTokens,
        cached: AdjustedTokens,
        completion: AdjustedTokens,
        reasoning: AdjustedTokens,
    ) -> Result<Self, UsageError> {
        let total = prompt
            .checked_add(cached)
            .and_then(|sum| sum.checked_add(completion))
            .and_then(|sum| sum.checked_add(reasoning))
            .ok_or(UsageError::TooLarge)?;
        Ok(Self { prompt, cached, completion, reasoning, total })
    }

    /// The sum of the four kinds when this value was made.
    #[must_use]
    pub const fn total(&self) -> AdjustedTokens {
        self.total
    }
}

/// A usage report that cannot be true. The peer that sent it is to blame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum UsageError {
    /// More cached tokens than prompt tokens.
    #[error("usage reports more cached tokens than prompt tokens")]
    CachedAbovePrompt,
    /// More reasoning tokens than completion tokens.
    #[error("usage reports more reasoning tokens than completion tokens")]
    ReasoningAboveCompletion,
    /// A weighed count beyond 64 bits.
    #[error("usage is too large to count")]
    TooLarge,
}

fn weigh(tokens: u64, coefficient: Coefficient, multiplier: Multiplier) -> Result<AdjustedTokens, UsageError> {
    // 64 + 32 + 32 bits: the product always fits 128.
    let product = u128::from(tokens) * u128::from(coefficient.thousandths()) * u128::from(multiplier.ten_thousandths());
    u64::try_from(product / SCALE).map(AdjustedTokens::new).map_err(|_| UsageError::TooLarge)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(usage: [u64; 4], coefficient: u32, multipliers: [u32; 4], expected: Result<[u64; 4], UsageError>) {
        let [prompt, cached, completion, reasoning] = usage;
        let [m_prompt, m_cached, m_completion, m_reasoning] = multipliers.map(Multiplier::from_ten_thousandths);
        let weights =
            Multipliers { prompt: m_prompt, cached: m_cached, completion: m_completion, reasoning: m_reasoning };
        let adjusted = Usage { prompt, cached, completion, reasoning }
            .adjust(Coefficient::from_thousandths(coefficient), &weights)
            .map(|a| [a.prompt, a.cached, a.completion, a.reasoning].map(AdjustedTokens::get));
        assert_eq!(adjusted, expected);
    }

    #[test]
    fn recorded_request_is_adjusted_as_the_original_did() {
        check([34, 0, 5, 0], 1_000, [10_000; 4], Ok([34, 0, 5, 0]));
    }

    #[test]
    fn each_kind_is_floored_on_its_own() {
        // 3 x 0.5 floors to 1 four times; a floor of the sum would give 6.
        check([6, 3, 6, 3], 500, [10_000; 4], Ok([1, 1, 1, 1]));
        check([10, 4, 8, 2], 1_500, [10_000, 1_000, 20_000, 30_000], Ok([9, 0, 18, 9]));
    }

    #[test]
    fn a_part_above_its_whole_is_the_reporters_fault() {
        check([1, 2, 0, 0], 1_000, [10_000; 4], Err(UsageError::CachedAbovePrompt));
        check([0, 0, 1, 2], 1_000, [10_000; 4], Err(UsageError::ReasoningAboveCompletion));
        check([u64::MAX, 0, 0, 0], 1_001, [10_000; 4], Err(UsageError::TooLarge));
        check([u64::MAX, 0, 1, 0], 1_000, [10_000; 4], Err(UsageError::TooLarge));
    }

    proptest! {
        #[test]
        fn adjustment_matches_the_definition(
            fresh in 0..1u64 << 40, cached in 0..1u64 << 40, answered in 0..1u64 << 40, reasoning in 0..1u64 << 40,
            coefficient in 0..100_000u32, weights in proptest::array::uniform4(0..200_000u32),
        ) {
            let multipliers = Multipliers {
                prompt: Multiplier::from_ten_thousandths(weights[0]),
                cached: Multiplier::from_ten_thousandths(weights[1]),
                completion: Multiplier::from_ten_thousandths(weights[2]),
                reasoning: Multiplier::from_ten_thousandths(weights[3]),
            };
            let usage = Usage { prompt: fresh + cached, cached, completion: answered + reasoning, reasoning };
            let adjusted = usage.adjust(Coefficient::from_thousandths(coefficient), &multipliers).unwrap();
            let kinds = [(fresh, adjusted.prompt), (cached, adjusted.cached), (answered, adjusted.completion), (reasoning, adjusted.reasoning)];
            for ((raw, result), weight) in kinds.into_iter().zip(weights) {
                // q is the floor when q*10^7 <= product < (q+1)*10^7.
                let product = u128::from(raw) * u128::from(coefficient) * u128::from(weight);
                let q = u128::from(result.get());
                prop_assert!(q * SCALE <= product && product < (q + 1) * SCALE);
            }
            prop_assert_eq!(
                kinds.iter().map(|(_, kind)| u128::from(kind.get())).sum::<u128>(),
                u128::from(adjusted.total().get())
            );
        }

        #[test]
        fn the_originals_doubles_agree(raw in 0..1u64 << 24, coefficient in 0..10_000u32, weight in 0..50_000u32) {
            // The original computes in doubles; below 2^53 the integer floor gives the same tokens.
            let exact = weigh(raw, Coefficient::from_thousandths(coefficient), Multiplier::from_ten_thousandths(weight)).unwrap();
            let product = u64::from(coefficient) * u64::from(weight) * raw;
            prop_assume!(product < 1 << 53);
            #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "below 2^53")]
            let double = (product as f64 / 1e7).floor() as u64;
            prop_assert_eq!(exact.get(), double);
        }
    }
}
