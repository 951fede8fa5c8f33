//! Between the scheme's plain numbers and types that cannot be wrong.
//!
//! Inward, whatever is negative, not finite or beyond its limit is the peer's fault.
//! Outward, values beyond the scheme's range are cut to its end.

use bytes::Bytes;
use cocoon_units::{AdjustedTokens, Coefficient};

use super::{PaymentStatus, ProxyParams, SignedPayment};
use crate::DecodeError;
use crate::limits::{ADDRESS_MAX, TIMEOUT_MS_MAX};
use crate::tl;
use crate::version::VersionRange;

pub(super) fn tokens(count: i64, field: &'static str) -> Result<AdjustedTokens, DecodeError> {
    u64::try_from(count).map(AdjustedTokens::new).map_err(|_| DecodeError::OutOfRange(field))
}

pub(super) fn tokens_out(tokens: AdjustedTokens) -> i64 {
    i64::try_from(tokens.get()).unwrap_or(i64::MAX)
}

pub(super) fn count(count: i32, field: &'static str) -> Result<u32, DecodeError> {
    u32::try_from(count).map_err(|_| DecodeError::OutOfRange(field))
}

pub(super) fn count_out(count: u32) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

pub(super) fn coefficient(thousandths: i32) -> Result<Coefficient, DecodeError> {
    count(thousandths, "coefficient").map(Coefficient::from_thousandths)
}

pub(super) fn coefficient_out(coefficient: Coefficient) -> i32 {
    count_out(coefficient.thousandths())
}

/// A timeout in seconds; more than the limit is cut to it.
pub(super) fn timeout_from_seconds(seconds: f64) -> Result<u64, DecodeError> {
    let ms = (seconds * 1_000.0).round();
    if !ms.is_finite() || ms < 0.0 {
        return Err(DecodeError::OutOfRange("timeout"));
    }
    #[expect(clippy::cast_possible_truncation, reason = "the cast saturates, then it is cut")]
    #[expect(clippy::cast_sign_loss, reason = "negative values are refused above")]
    let ms = ms as u64;
    Ok(ms.min(TIMEOUT_MS_MAX))
}

pub(super) fn timeout_to_seconds(ms: u64) -> f64 {
    // At most a day of milliseconds: exact in a double.
    ms.min(TIMEOUT_MS_MAX) as f64 / 1_000.0
}

pub(super) fn timeout_from_ms(ms: i64) -> Result<u64, DecodeError> {
    let ms = u64::try_from(ms).map_err(|_| DecodeError::OutOfRange("timeout_ms"))?;
    Ok(ms.min(TIMEOUT_MS_MAX))
}

pub(super) fn timeout_to_ms(ms: u64) -> i64 {
    i64::try_from(ms.min(TIMEOUT_MS_MAX)).unwrap_or(i64::MAX)
}

/// A unix time; 0 says that it is not known.
pub(super) fn time(seconds: Option<f64>) -> Result<Option<f64>, DecodeError> {
    match seconds {
        Some(seconds) if !seconds.is_finite() || seconds < 0.0 => Err(DecodeError::OutOfRange("time")),
        Some(seconds) if seconds > 0.0 => Ok(Some(seconds)),
        Some(_) | None => Ok(None),
    }
}

/// A text of bounded length; an empty one says nothing.
pub(super) fn debug_text(text: Option<String>, max: usize) -> Result<Option<String>, DecodeError> {
    let text = text.filter(|text| !text.is_empty());
    text.map(|text| bounded(text, "debug", max)).transpose()
}

pub(super) fn bounded(text: String, field: &'static str, max: usize) -> Result<String, DecodeError> {
    if text.len() > max { Err(DecodeError::TooLong(field)) } else { Ok(text) }
}

pub(super) fn bounded_bytes(bytes: Bytes, field: &'static str, max: usize) -> Result<Bytes, DecodeError> {
    if bytes.len() > max { Err(DecodeError::TooLong(field)) } else { Ok(bytes) }
}

pub(super) fn address(text: String) -> Result<String, DecodeError> {
    bounded(text, "address", ADDRESS_MAX)
}

pub(super) fn required<T>(value: Option<T>, field: &'static str) -> Result<T, DecodeError> {
    value.ok_or(DecodeError::Missing(field))
}

pub(super) fn versions(min: Option<i32>, max: Option<i32>) -> Result<Option<VersionRange>, DecodeError> {
    let (Some(min), Some(max)) = (min, max) else {
        return Ok(None);
    };
    if min < 0 || max < min {
        return Err(DecodeError::OutOfRange("proto_version"));
    }
    Ok(Some(VersionRange { min, max }))
}

pub(super) fn signed_payment(payment: tl::BoxedProxySignedPayment) -> Result<SignedPayment, DecodeError> {
    match payment {
        tl::BoxedProxySignedPayment::ProxySignedPayment(payment) => SignedPayment::signed(payment.data),
        tl::BoxedProxySignedPayment::ProxySignedPaymentEmpty(_) => Ok(SignedPayment::Empty),
    }
}

pub(super) fn signed_payment_out(payment: &SignedPayment) -> tl::BoxedProxySignedPayment {
    match payment {
        SignedPayment::Signed(data) => {
            tl::BoxedProxySignedPayment::ProxySignedPayment(tl::ProxySignedPayment { data: data.clone() })
        }
        SignedPayment::Empty => tl::BoxedProxySignedPayment::ProxySignedPaymentEmpty(tl::ProxySignedPaymentEmpty),
    }
}

pub(super) fn payment_status(
    payment: tl::BoxedProxySignedPayment,
    db_tokens: i64,
    max_tokens: i64,
) -> Result<PaymentStatus, DecodeError> {
    Ok(PaymentStatus {
        signed_payment: signed_payment(payment)?,
        db_tokens: tokens(db_tokens, "db_tokens")?,
        max_tokens: tokens(max_tokens, "max_tokens")?,
    })
}

pub(super) fn proxy_params(params: tl::ProxyParams) -> Result<ProxyParams, DecodeError> {
    Ok(ProxyParams {
        public_key: params.proxy_public_key,
        owner_address: address(params.proxy_owner_address)?,
        sc_address: address(params.proxy_sc_address)?,
        is_test: required(params.is_test, "is_test")?,
        proto_version: params.proto_version,
    })
}

pub(super) fn proxy_params_out(params: &ProxyParams) -> tl::ProxyParams {
    tl::ProxyParams {
        proxy_public_key: params.public_key,
        proxy_owner_address: params.owner_address.clone(),
        proxy_sc_address: params.sc_address.clone(),
        is_test: Some(params.is_test),
        proto_version: params.proto_version,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_that_are_no_time_are_refused() {
        for seconds in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, -f64::MAX, f64::MAX] {
            let refused = Err(DecodeError::OutOfRange("timeout"));
            assert_eq!(timeout_from_seconds(seconds), refused, "{seconds}");
        }
        assert_eq!(timeout_from_seconds(-0.0), Ok(0));
        assert_eq!(timeout_from_seconds(108.3), Ok(108_300));
        assert_eq!(timeout_from_seconds(1e12), Ok(TIMEOUT_MS_MAX));
        assert_eq!(timeout_to_seconds(108_300), 108.3);
    }

    #[test]
    fn negative_counts_are_refused() {
        assert_eq!(tokens(-1, "x"), Err(DecodeError::OutOfRange("x")));
        assert_eq!(count(-1, "x"), Err(DecodeError::OutOfRange("x")));
        assert!(coefficient(i32::MIN).is_err());
        assert!(timeout_from_ms(-1).is_err());
    }
}
