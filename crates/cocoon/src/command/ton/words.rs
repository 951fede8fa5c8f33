//! Addresses, spans of time and prices as people write and read them.
//!
//! Amounts are exact: decimal TON with all the digits that there are. Nothing here rounds.

use std::fmt::Write as _;
use std::time::Duration;

use cocoon_ton::Address;
use cocoon_units::{Multiplier, Nano};

use super::network::Kind;

/// A contract's address as people paste it.
pub(crate) fn contract(address: &Address, kind: Kind) -> String {
    address.friendly(true, kind.is_test())
}

/// A wallet's address as people paste it: messages to it do not bounce, since it may not be deployed yet.
pub(crate) fn wallet(address: &Address, kind: Kind) -> String {
    address.friendly(false, kind.is_test())
}

/// An amount with its unit.
pub(crate) fn ton(amount: Nano) -> String {
    format!("{} TON", amount.ton())
}

/// The price of one adjusted token, and of a million, which is what people compare.
pub(crate) fn price(nano_per_token: Nano) -> String {
    let million = nano_per_token.get().checked_mul(1_000_000).map(Nano::new);
    let million = million.map_or_else(|| "more TON than there are".to_owned(), ton);
    format!("{} nano per adjusted token, {million} per million", nano_per_token.get())
}

/// A multiplier as a factor: `×1.5`.
pub(crate) fn factor(multiplier: Multiplier) -> String {
    let parts = multiplier.ten_thousandths();
    let text = format!("{}.{:04}", parts / 10_000, parts % 10_000);
    format!("×{}", text.trim_end_matches('0').trim_end_matches('.'))
}

/// Parses a factor such as `1.5`, exact to four decimals.
pub(crate) fn parse_factor(text: &str) -> Result<Multiplier, String> {
    let refused = || format!("{text:?} is no factor: write a number such as 1.5, with at most four decimals");
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(whole) || !is_number(fraction) || fraction.len() > 4 {
        return Err(refused());
    }
    let parts: u64 = format!("{whole}{fraction:0<4}").parse().map_err(|_| refused())?;
    let parts = u32::try_from(parts).map_err(|_| format!("{text} is more than the contract can hold"))?;
    Ok(Multiplier::from_ten_thousandths(parts))
}

/// The units of a span of time, largest first.
const UNITS: [(&str, &str, u64); 4] =
    [("d", "day", 86_400), ("h", "hour", 3_600), ("m", "minute", 60), ("s", "second", 1)];

/// Parses a span such as `24h`, `1d12h` or plain seconds.
pub(crate) fn parse_span(text: &str) -> Result<u32, String> {
    let refused = || format!("{text:?} is no span of time: write one such as 24h, 90m or 86400 (seconds)");
    if text.is_empty() {
        return Err(refused());
    }
    let mut rest = text;
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|character: char| !character.is_ascii_digit()).unwrap_or(rest.len());
        let (number, tail) = rest.split_at(digits);
        let unit = tail.get(..tail.chars().next().map_or(0, char::len_utf8)).unwrap_or_default();
        let seconds = match unit {
            "" if number.len() == text.len() => 1,
            _ => UNITS.iter().find(|(short, ..)| *short == unit).ok_or_else(refused)?.2,
        };
        let number: u64 = number.parse().map_err(|_| refused())?;
        total = number.checked_mul(seconds).and_then(|part| total.checked_add(part)).ok_or_else(refused)?;
        rest = tail.get(unit.len()..).unwrap_or_default();
    }
    u32::try_from(total).map_err(|_| format!("{text} is longer than the contract can hold"))
}

/// A span in words, its two largest units exact, smaller ones left out: `1 day`, `2 hours 5 minutes`.
pub(crate) fn span(seconds: u64) -> String {
    let mut left = seconds;
    let mut out = String::new();
    let mut parts = 0;
    for (_, name, size) in UNITS {
        let count = left / size;
        left %= size;
        if count > 0 && parts < 2 {
            let plural = if count == 1 { "" } else { "s" };
            let blank = if parts > 0 { " " } else { "" };
            // Writing to a string cannot fail.
            let _ = write!(out, "{blank}{count} {name}{plural}");
            parts += 1;
        }
    }
    if out.is_empty() { "no time".to_owned() } else { out }
}

/// How far a moment lies from now: `in 2 hours`, `5 minutes ago`.
pub(crate) fn relative(unix_s: u64, now_unix_s: u64) -> String {
    match unix_s.checked_sub(now_unix_s) {
        Some(0) => "now".to_owned(),
        Some(ahead) => format!("in {}", span(ahead)),
        None => format!("{} ago", span(now_unix_s.saturating_sub(unix_s))),
    }
}

/// The same for a duration that a program holds.
pub(crate) fn duration(duration: Duration) -> String {
    span(duration.as_secs())
}

/// `1 image`, `2 images`.
pub(crate) fn count(number: usize, one: &str) -> String {
    format!("{number} {one}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_and_told() {
        assert_eq!(parse_span("86400"), Ok(86_400));
        assert_eq!(parse_span("24h"), Ok(86_400));
        assert_eq!(parse_span("1d12h"), Ok(129_600));
        assert_eq!(parse_span("0"), Ok(0));
        for bad in ["", "h", "24x", "24h5", "-1", "1.5h", "ü", "200000d", "99999999999999999999d"] {
            assert!(parse_span(bad).is_err(), "{bad}");
        }
        assert_eq!(span(86_400), "1 day");
        assert_eq!(span(7_500), "2 hours 5 minutes");
        assert_eq!(span(0), "no time");
        assert_eq!(relative(100, 40), "in 1 minute");
        assert_eq!(relative(40, 100), "1 minute ago");
    }

    #[test]
    fn factors_are_exact() {
        let parsed = |text| parse_factor(text).map(Multiplier::ten_thousandths);
        assert_eq!(parsed("1"), Ok(10_000));
        assert_eq!(parsed("0.1"), Ok(1_000));
        assert_eq!(parsed("1.2345"), Ok(12_345));
        for bad in ["", ".", "1.", ".5", "1.23456", "-1", "1e3", "999999999"] {
            assert!(parsed(bad).is_err(), "{bad}");
        }
        assert_eq!(factor(Multiplier::from_ten_thousandths(12_500)), "×1.25");
        assert_eq!(factor(Multiplier::ONE), "×1");
    }

    #[test]
    fn a_price_is_told_for_a_million_tokens_too() {
        assert_eq!(price(Nano::new(2)), "2 nano per adjusted token, 0.002 TON per million");
    }
}
