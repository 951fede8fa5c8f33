//! Counts: nanoTON, raw tokens, adjusted tokens; and TON as people write it.
//!
//! Arithmetic is checked and returns `Option`: an overflow is never a number. Text becomes money digit by digit, never
//! by way of a float, and what cannot be represented exactly is refused instead of rounded.

use std::fmt;
use std::str::FromStr;

/// Digits after the point of a TON.
const DECIMALS: usize = 9;
/// nanoTON in a TON.
const NANO_PER_TON: u64 = 1_000_000_000;

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

impl Nano {
    /// The same amount as people write it: `nano.ton().to_string()` is `"1.25"`.
    #[must_use]
    pub const fn ton(self) -> Ton {
        Ton(self)
    }
}

/// An amount that is written and read in whole TON, `"1.25"`, with up to nine decimals.
///
/// ```
/// use cocoon_units::{Nano, Ton};
///
/// let amount: Ton = "1.25".parse()?;
/// assert_eq!(amount.nano(), Nano::new(1_250_000_000));
/// assert_eq!(Nano::new(2_000_000_001).ton().to_string(), "2.000000001");
/// # Ok::<(), cocoon_units::TonError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ton(Nano);

impl Ton {
    /// The amount.
    #[must_use]
    pub const fn nano(self) -> Nano {
        self.0
    }
}

impl From<Ton> for Nano {
    fn from(ton: Ton) -> Self {
        ton.0
    }
}

impl From<Nano> for Ton {
    fn from(nano: Nano) -> Self {
        Self(nano)
    }
}

impl fmt::Display for Ton {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, nano) = (self.0.get() / NANO_PER_TON, self.0.get() % NANO_PER_TON);
        if nano == 0 {
            return f.pad(&whole.to_string());
        }
        f.pad(format!("{whole}.{nano:09}").trim_end_matches('0'))
    }
}

/// Text that is no amount of TON.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TonError {
    /// Nothing, or a point without digits on both sides.
    #[error("an amount needs digits before the point, and after it where there is one: write 0.5, or 3")]
    NoDigits,
    /// A sign.
    #[error("an amount has no sign: write 1.25")]
    Sign,
    /// A comma, a letter, a space.
    #[error("{found:?} is no digit: write an amount such as 1.25, with a point and without a unit")]
    Digit {
        /// The first character that does not belong.
        found: char,
    },
    /// Finer than a nanoTON.
    #[error("the smallest amount is 0.000000001 TON: at most nine digits may follow the point")]
    TooFine,
    /// More than there can be.
    #[error("the amount is larger than 18446744073.709551615 TON, the most that can be held")]
    TooLarge,
}

impl FromStr for Ton {
    type Err = TonError;

    fn from_str(text: &str) -> Result<Self, TonError> {
        let (whole, fraction) = match text.split_once('.') {
            Some((whole, fraction)) => (whole, Some(fraction)),
            None => (text, None),
        };
        if whole.starts_with(['-', '+']) {
            return Err(TonError::Sign);
        }
        let whole = digits(whole)?;
        let fraction = match fraction {
            Some(text) => fraction_nano(text)?,
            None => 0,
        };
        let nano = whole.checked_mul(NANO_PER_TON).and_then(|nano| nano.checked_add(fraction));
        nano.map(|nano| Self(Nano::new(nano))).ok_or(TonError::TooLarge)
    }
}

fn fraction_nano(text: &str) -> Result<u64, TonError> {
    let mut nano = digits(text.get(..DECIMALS).unwrap_or(text))?;
    if let Some(rest) = text.get(DECIMALS..).filter(|rest| !rest.is_empty()) {
        digits(rest)?;
        return Err(TonError::TooFine);
    }
    for _ in text.len()..DECIMALS {
        nano = nano.checked_mul(10).ok_or(TonError::TooLarge)?;
    }
    Ok(nano)
}

fn digits(text: &str) -> Result<u64, TonError> {
    if text.is_empty() {
        return Err(TonError::NoDigits);
    }
    if let Some(found) = text.chars().find(|c| !c.is_ascii_digit()) {
        return Err(TonError::Digit { found });
    }
    text.bytes()
        .try_fold(0_u64, |sum, digit| {
            let digit = u64::from(digit.saturating_sub(b'0'));
            sum.checked_mul(10)?.checked_add(digit)
        })
        .ok_or(TonError::TooLarge)
}

#[cfg(feature = "serde")]
impl serde::Serialize for Ton {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// From a string only: a number in JSON or TOML may already have gone through a float.
#[cfg(feature = "serde")]
impl<'de> serde::Deserialize<'de> for Ton {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str> as serde::Deserialize>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
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

    #[test]
    fn ton_is_read_and_written_exactly() {
        for (text, nano, canonical) in [
            ("0", 0, "0"),
            ("1.25", 1_250_000_000, "1.25"),
            ("0.000000001", 1, "0.000000001"),
            ("007.500", 7_500_000_000, "7.5"),
            ("18446744073.709551615", u64::MAX, "18446744073.709551615"),
        ] {
            let ton: Ton = text.parse().unwrap();
            assert_eq!(ton.nano(), Nano::new(nano), "{text}");
            assert_eq!(ton.to_string(), canonical);
        }
        assert_eq!(format!("{:>6}|", Nano::new(500_000_000).ton()), "   0.5|");
    }

    #[test]
    fn text_that_is_no_amount_says_what_is_wrong() {
        for (text, error) in [
            ("", TonError::NoDigits),
            (".5", TonError::NoDigits),
            ("5.", TonError::NoDigits),
            (".", TonError::NoDigits),
            ("-1", TonError::Sign),
            ("+1", TonError::Sign),
            ("1,25", TonError::Digit { found: ',' }),
            ("1.2.3", TonError::Digit { found: '.' }),
            ("1e9", TonError::Digit { found: 'e' }),
            ("1 TON", TonError::Digit { found: ' ' }),
            ("1.12345678é", TonError::Digit { found: 'é' }),
            ("1.123456789x", TonError::Digit { found: 'x' }),
            ("0.0000000001", TonError::TooFine),
            ("18446744073.709551616", TonError::TooLarge),
            ("99999999999999999999999999", TonError::TooLarge),
        ] {
            assert_eq!(text.parse::<Ton>(), Err(error), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn every_amount_survives_its_text(nano: u64) {
            let nano = Nano::new(nano);
            proptest::prop_assert_eq!(nano.ton().to_string().parse::<Ton>(), Ok(nano.ton()));
        }
    }
}
