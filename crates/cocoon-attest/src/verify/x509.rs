//! Certificates of untrusted origin: read whole, named, dated. Signatures are the callers' business.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use x509_parser::prelude::{ASN1Time, FromDer, Validity, X509Certificate};

use crate::limits::CERTIFICATES_BYTES_MAX;
use crate::refusal::{Check, Refusal};

/// Certificates in one chain: leaf, intermediate, root, and two to spare.
pub(super) const CHAIN_MAX: usize = 5;

/// Reads one certificate; nothing may follow it.
pub(super) fn certificate<'a>(what: &str, der: &'a [u8]) -> Result<X509Certificate<'a>, Refusal> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok((rest, _)) => Err(unreadable(what, format!("{} bytes after it", rest.len()))),
        Err(error) => Err(unreadable(what, error)),
    }
}

/// Reads a PEM chain. Intel's quotes end theirs with a NUL.
pub(super) fn pem_chain(what: &str, pem: &[u8]) -> Result<Vec<Vec<u8>>, Refusal> {
    if pem.len() > CERTIFICATES_BYTES_MAX {
        return Err(unreadable(what, format!("{} bytes", pem.len())));
    }
    let pem = pem.strip_suffix(b"\0").unwrap_or(pem).trim_ascii();
    let mut chain = Vec::new();
    for block in x509_parser::pem::Pem::iter_from_buffer(pem) {
        let block = block.map_err(|error| unreadable(what, error))?;
        if chain.len() == CHAIN_MAX {
            return Err(unreadable(what, format!("more than {CHAIN_MAX} certificates")));
        }
        chain.push(block.contents);
    }
    if chain.is_empty() {
        return Err(unreadable(what, "no certificate"));
    }
    Ok(chain)
}

/// Refuses a certificate outside its dates.
pub(super) fn check_dates(what: &str, validity: &Validity, now_unix_s: u64) -> Result<(), Refusal> {
    let (not_before, not_after) = (unix_s(validity.not_before), unix_s(validity.not_after));
    if (not_before..=not_after).contains(&now_unix_s) {
        return Ok(());
    }
    Err(Refusal::new(
        Check::Collateral,
        format!("a {what} valid at {now_unix_s}"),
        format!("one valid from {} to {}", validity.not_before, validity.not_after),
        "fetch the certificates again, and compare this machine's clock",
    ))
}

/// Seconds since the Unix epoch; times before it count as the epoch.
pub(super) fn unix_s(time: ASN1Time) -> u64 {
    u64::try_from(time.timestamp()).unwrap_or(0)
}

fn unreadable(what: &str, why: impl ToString) -> Refusal {
    Refusal::new(
        Check::Format,
        format!("{what} as X.509 certificates"),
        why.to_string(),
        "have the sender fetch the certificates again",
    )
}
