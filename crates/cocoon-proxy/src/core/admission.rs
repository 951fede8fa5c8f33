//! Arithmetic of claims: what a peer says it used, and what of it can be charged.
//!
//! What a request can cost at most is [`cocoon_units::most_tokens`], which client and proxy share.

use cocoon_ledger::Overcharge;
use cocoon_units::AdjustedTokens;
use cocoon_wire::message::TokensUsed;

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
    use super::*;

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
}
