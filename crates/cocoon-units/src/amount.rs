//! Counts: nanoTON, raw tokens, adjusted tokens.
//!
//! Arithmetic is checked and returns `Option`: an overflow is never a number.

use std::fmt;

macro_rules! count {
    ($(#[$doc:meta])* $name:ident, $unit:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(transparent))]
        pub struct $name(u64);

        impl $name {
            /// Nothing.
            pub const ZERO: Self = Self(0);
            /// The largest amount there is; a sum beyond it is `None`, never a smaller number.
            pub const MAX: Self = Self(u64::MAX);

            /// Wraps a plain count.
            #[must_use]
            pub const fn new(count: u64) -> Self {
                Self(count)
            }

            /// The plain count.
            #[must_use]
            pub const fn get(self) -> u64 {
                self.0
            }

            /// The sum, or `None` when it does not fit.
            #[must_use]
            pub const fn checked_add(self, other: Self) -> Option<Self> {
                match self.0.checked_add(other.0) {
                    Some(sum) => Some(Self(sum)),
                    None => None,
                }
            }

            /// The difference, or `None` when it would be negative.
            #[must_use]
            pub const fn checked_sub(self, other: Self) -> Option<Self> {
                match self.0.checked_sub(other.0) {
                    Some(difference) => Some(Self(difference)),
                    None => None,
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!("{} ", $unit), self.0)
            }
        }
    };
}

count! {
    /// Money, in nanoTON (10⁻⁹ TON).
    Nano, "nanoTON"
}

count! {
    /// Tokens as an engine counts them, before any coefficient.
    RawTokens, "tokens"
}

count! {
    /// Tokens after coefficient and multiplier: what is reserved, metered and paid.
    AdjustedTokens, "adjusted tokens"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_that_do_not_fit_are_none() {
        assert_eq!(Nano::MAX.checked_add(Nano::new(1)), None);
        assert_eq!(Nano::ZERO.checked_sub(Nano::new(1)), None);
        assert_eq!(Nano::new(2).checked_add(Nano::new(3)), Some(Nano::new(5)));
        assert_eq!(AdjustedTokens::new(7).to_string(), "7 adjusted tokens");
    }
}
