//! Rates: a worker's coefficient, the multipliers of the kinds of tokens, the price of a token.

use crate::amount::{AdjustedTokens, Nano};

/// A worker's price relative to the network's, in thousandths: 1000 is ×1.0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(transparent))]
pub struct Coefficient(u32);

impl Coefficient {
    /// ×1.0.
    pub const ONE: Self = Self(1_000);

    /// From thousandths.
    #[must_use]
    pub const fn from_thousandths(thousandths: u32) -> Self {
        Self(thousandths)
    }

    /// In thousandths.
    #[must_use]
    pub const fn thousandths(self) -> u32 {
        self.0
    }
}

impl Default for Coefficient {
    fn default() -> Self {
        Self::ONE
    }
}

/// The weight of one kind of tokens, in ten-thousandths: 10 000 is ×1.0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(transparent))]
pub struct Multiplier(u32);

impl Multiplier {
    /// ×1.0.
    pub const ONE: Self = Self(10_000);

    /// From ten-thousandths.
    #[must_use]
    pub const fn from_ten_thousandths(ten_thousandths: u32) -> Self {
        Self(ten_thousandths)
    }

    /// In ten-thousandths.
    #[must_use]
    pub const fn ten_thousandths(self) -> u32 {
        self.0
    }

    /// The larger of the two weights.
    #[must_use]
    pub fn largest(self, other: Self) -> Self {
        self.max(other)
    }
}

impl Default for Multiplier {
    fn default() -> Self {
        Self::ONE
    }
}

/// The network's weights of the four kinds of tokens. The root configuration sets them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields, default))]
pub struct Multipliers {
    /// Of prompt tokens that were not in a cache.
    pub prompt: Multiplier,
    /// Of prompt tokens that were.
    pub cached: Multiplier,
    /// Of completion tokens that are part of the answer.
    pub completion: Multiplier,
    /// Of completion tokens spent on reasoning.
    pub reasoning: Multiplier,
}

impl Multipliers {
    /// The most that one prompt token can weigh.
    #[must_use]
    pub fn largest_prompt(&self) -> Multiplier {
        self.prompt.largest(self.cached)
    }

    /// The most that one completion token can weigh.
    #[must_use]
    pub fn largest_completion(&self) -> Multiplier {
        self.completion.largest(self.reasoning)
    }
}

/// The price of one adjusted token, in nanoTON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(transparent))]
pub struct NanoPerToken(u64);

impl NanoPerToken {
    /// From nanoTON a token.
    #[must_use]
    pub const fn new(nano: u64) -> Self {
        Self(nano)
    }

    /// In nanoTON a token.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// What `tokens` cost, or `None` when that does not fit.
    #[must_use]
    pub const fn cost(self, tokens: AdjustedTokens) -> Option<Nano> {
        match self.0.checked_mul(tokens.get()) {
            Some(nano) => Some(Nano::new(nano)),
            None => None,
        }
    }
}

/// What a proxy charges by: the token's price and the four weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields, default))]
pub struct Pricing {
    /// Of one adjusted token.
    pub price: NanoPerToken,
    /// Of the four kinds.
    pub multipliers: Multipliers,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cost_is_exact_or_nothing() {
        assert_eq!(NanoPerToken::new(20).cost(AdjustedTokens::new(39)), Some(Nano::new(780)));
        assert_eq!(NanoPerToken::new(2).cost(AdjustedTokens::MAX), None);
    }

    #[test]
    fn the_largest_weight_of_each_side_is_taken() {
        let multipliers = Multipliers {
            cached: Multiplier::from_ten_thousandths(20_000),
            reasoning: Multiplier::from_ten_thousandths(500),
            ..Multipliers::default()
        };
        assert_eq!(multipliers.largest_prompt().ten_thousandths(), 20_000);
        assert_eq!(multipliers.largest_completion(), Multiplier::ONE);
    }
}
