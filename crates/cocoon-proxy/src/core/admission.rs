//! Admission arithmetic: the most that a request can cost.
//!
//! `ceil((prompt bytes + template margin) · largest prompt multiplier + choices · token limit ·
//! largest completion multiplier) · price cap`. Usage is floored kind by kind and each kind weighs
//! at most its side's largest multiplier, so honest usage never exceeds it.

use cocoon_ledger::Overcharge;
use cocoon_units::{AdjustedTokens, Multipliers};
use cocoon_wire::message::TokensUsed;

use super::event::RunQuery;
use crate::limits::TEMPLATE_TOKENS_MARGIN;

/// Ten-thousandths of the multiplier times thousandths of the coefficient.
const SCALE: u128 = 10_000_000;

/// The most that the request can cost, or `None` when that does not fit 64 bits.
pub(crate) fn reservation(query: &RunQuery, multipliers: &Multipliers) -> Option<AdjustedTokens> {
    let prompt = u128::from(query.prompt_bytes) + u128::from(TEMPLATE_TOKENS_MARGIN);
    let completion = u128::from(query.choices) * u128::from(query.token_limit);
    let weighed = prompt
        .checked_mul(u128::from(multipliers.largest_prompt().ten_thousandths()))?
        .checked_add(completion.checked_mul(u128::from(multipliers.largest_completion().ten_thousandths()))?)?;
    let priced = weighed.checked_mul(u128::from(query.max_coefficient.thousandths()))?;
    u64::try_from(priced.div_ceil(SCALE)).ok().map(AdjustedTokens::new)
}

/// Most tokens over all choices, as the worker enforces it.
pub(crate) fn token_limit_of_all(query: &RunQuery) -> u32 {
    query.choices.saturating_mul(query.token_limit)
}

/// The sum of the four kinds. What a peer says is the sum is not believed; a sum that does not fit
/// is the largest number, which any reservation clamps.
pub(crate) fn total(tokens: &TokensUsed) -> AdjustedTokens {
    let sum = [tokens.prompt, tokens.cached, tokens.completion, tokens.reasoning]
        .iter()
        .fold(0u64, |sum, kind| sum.saturating_add(kind.get()));
    AdjustedTokens::new(sum)
}

/// Usage as it is charged: cut to the reservation, completion kinds first, with a sum that is one.
pub(crate) fn clamp(tokens: &TokensUsed, reserved: AdjustedTokens) -> (TokensUsed, Option<Overcharge>) {
    let reported = total(tokens);
    let mut room = reserved.get();
    let mut take = |kind: AdjustedTokens| {
        let taken = kind.get().min(room);
        room -= taken;
        AdjustedTokens::new(taken)
    };
    let prompt = take(tokens.prompt);
    let cached = take(tokens.cached);
    let completion = take(tokens.completion);
    let reasoning = take(tokens.reasoning);
    let charged = TokensUsed { prompt, cached, completion, reasoning, total: reported.min(reserved) };
    let clamped = (reported > reserved).then_some(Overcharge { reported, reserved });
    (charged, clamped)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use cocoon_units::{Coefficient, Multiplier, Usage};
    use cocoon_wire::RequestId;
    use proptest::prelude::*;

    use super::super::event::{ClientId, RequestKey};
    use super::*;

    fn query(prompt_bytes: u64, choices: u32, token_limit: u32, max_coefficient: u32) -> RunQuery {
        RunQuery {
            key: RequestKey(0),
            client: ClientId(0),
            request_id: RequestId::new([0; 32]),
            model: String::new(),
            max_coefficient: Coefficient::from_thousandths(max_coefficient),
            prompt_bytes,
            choices,
            token_limit,
            timeout: Duration::ZERO,
        }
    }

    #[test]
    fn the_formula_rounds_up() {
        let plain = Multipliers::default();
        let check = |query, multipliers: &Multipliers, expected| {
            assert_eq!(reservation(&query, multipliers).map(AdjustedTokens::get), expected);
        };
        check(query(88, 1, 5, 1_000), &plain, Some(605));
        check(query(88, 2, 5, 4_000), &plain, Some(2_440));
        check(query(88, 1, 5, 1), &plain, Some(1));
        let dear = Multipliers {
            cached: Multiplier::from_ten_thousandths(20_000),
            reasoning: Multiplier::from_ten_thousandths(30_000),
            ..plain
        };
        check(query(88, 1, 5, 1_000), &dear, Some(1_215));
        check(query(u64::MAX, u32::MAX, u32::MAX, u32::MAX), &dear, None);
    }

    #[test]
    fn usage_is_clamped_from_the_completion_down_and_sums_up() {
        let of = |kinds: [u64; 4], total: u64| {
            let [prompt, cached, completion, reasoning] = kinds.map(AdjustedTokens::new);
            TokensUsed { prompt, cached, completion, reasoning, total: AdjustedTokens::new(total) }
        };
        let check = |reported, reserved, expected, clamped: bool| {
            let (charged, overcharge) = clamp(&reported, AdjustedTokens::new(reserved));
            assert_eq!((charged, overcharge.is_some()), (expected, clamped));
        };
        check(of([1, 2, 3, 4], 10), 10, of([1, 2, 3, 4], 10), false);
        check(of([1, 2, 3, 4], 10), 5, of([1, 2, 2, 0], 5), true);
        // A sum that is not one is corrected, not believed.
        check(of([1, 2, 3, 4], 1), 10, of([1, 2, 3, 4], 10), false);
        check(of([u64::MAX, u64::MAX, 0, 0], 0), 7, of([7, 0, 0, 0], 7), true);
    }

    proptest! {
        #[test]
        fn honest_usage_never_exceeds_the_reservation(
            prompt in 0..1u64 << 24, cached in 0.0..1.0f64, limit in 0..1u32 << 20, reasoning in 0.0..1.0f64,
            choices in 1..8u32, cap in 0..10_000u32, below in 0..10_000u32, weights in proptest::array::uniform4(0..50_000u32),
        ) {
            let multipliers = Multipliers {
                prompt: Multiplier::from_ten_thousandths(weights[0]),
                cached: Multiplier::from_ten_thousandths(weights[1]),
                completion: Multiplier::from_ten_thousandths(weights[2]),
                reasoning: Multiplier::from_ten_thousandths(weights[3]),
            };
            let completion = u64::from(limit) * u64::from(choices);
            #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a small number")]
            let share = |of: u64, part: f64| (of as f64 * part) as u64;
            let usage = Usage { prompt: prompt + TEMPLATE_TOKENS_MARGIN, cached: share(prompt, cached), completion, reasoning: share(completion, reasoning) };
            let price = Coefficient::from_thousandths(below.min(cap));
            let used = usage.adjust(price, &multipliers).unwrap().total();
            let reserved = reservation(&query(prompt, choices, limit, cap), &multipliers).unwrap();
            prop_assert!(used <= reserved);
        }
    }
}
