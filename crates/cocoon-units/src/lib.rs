//! Amounts, tokens, prices, and the one rounding rule that ties them together.
//!
//! Everything that is counted or paid in Cocoon has its own type here, so that raw tokens never
//! meet adjusted ones and neither is mistaken for money.
//! The crate is pure and tiny on purpose: it is read line by line in an audit.
//! It is not a ledger (see `cocoon-ledger`) and knows no wire format.
//!
//! The rule, from the public network: each of four disjoint kinds of tokens is adjusted on its own,
//! `floor(n · coefficient · multiplier / 10^7)` in 128 bits, then the kinds are summed;
//! cost is adjusted tokens times the price of one.
//!
//! ```
//! use cocoon_units::{Coefficient, Multipliers, NanoPerToken, Usage};
//!
//! let usage = Usage { prompt: 34, cached: 10, completion: 5, reasoning: 0 };
//! let adjusted = usage.adjust(Coefficient::from_thousandths(1_500), &Multipliers::default())?;
//! assert_eq!(adjusted.prompt.get(), 36); // (34 - 10) x 1.5
//! assert_eq!(adjusted.total().get(), 36 + 15 + 7);
//! let price = NanoPerToken::new(20);
//! assert_eq!(price.cost(adjusted.total()).map(|nano| nano.get()), Some(1_160));
//! # Ok::<(), cocoon_units::UsageError>(())
//! ```

mod amount;
mod clock;
#[cfg(feature = "serde")]
pub mod hex_text;
mod rate;
mod usage;

pub use amount::{AdjustedTokens, Nano, RawTokens, Ton, TonError};
pub use clock::{Clock, FixedClock, UnixTime};
pub use rate::{Coefficient, Multiplier, Multipliers, NanoPerToken, Pricing};
pub use usage::{AdjustedUsage, TEMPLATE_TOKENS_MARGIN, Usage, UsageError, most_tokens};
