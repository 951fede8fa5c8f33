//! The two signatures from an accepted root key to the key that signed a report.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use x509_parser::certificate::BasicExtension;
use x509_parser::oid_registry::{OID_NIST_HASH_SHA384, OID_PKCS1_RSASSAPSS};
use x509_parser::prelude::{
    AlgorithmIdentifier, BasicConstraints, CertificateRevocationList, FromDer, Validity, X509Certificate,
};
use x509_parser::signature_algorithm::RsaSsaPssParams;

use super::x509;
use crate::refusal::{Check, Refusal};
use crate::roots::{TrustAnchor, root_id};

const FETCH: &str = "fetch the certificates from AMD's key distribution service again";

/// A chain whose signatures were verified.
pub(super) struct Chain<'a> {
    pub(super) root: &'a TrustAnchor,
    ark: X509Certificate<'a>,
    ask: X509Certificate<'a>,
    leaf: Validity,
}

impl<'a> Chain<'a> {
    pub(super) fn find(
        leaf: &X509Certificate<'_>,
        intermediates: &'a [Vec<u8>],
        roots: &'a [TrustAnchor],
    ) -> Result<Self, Refusal> {
        let others = intermediates
            .iter()
            .map(|der| x509::certificate("AMD's certificates", der))
            .collect::<Result<Vec<_>, _>>()?;
        let ask = others
            .iter()
            .find(|ask| issued(ask, leaf) && !is_root(ask))
            .ok_or_else(|| no_issuer("the signing key's certificate", leaf))?;
        check_issuer_of_leaf(ask)?;
        if !signed_by(ask, leaf) {
            return Err(bad_signature("the signing key's certificate", leaf));
        }
        let (root, ark) = find_root(ask, &others, roots)?;
        Ok(Self { root, ark, ask: ask.clone(), leaf: leaf.validity().clone() })
    }

    /// Checks dates and revocation, and returns from when to when all of it holds.
    pub(super) fn check_validity(&self, crl: Option<&[u8]>, now_unix_s: u64) -> Result<(u64, u64), Refusal> {
        let mut window = (0, u64::MAX);
        for (what, validity) in [
            ("root key's certificate", self.ark.validity()),
            ("ASK's certificate", self.ask.validity()),
            ("signing key's certificate", &self.leaf),
        ] {
            x509::check_dates(what, validity, now_unix_s)?;
            narrow(&mut window, (x509::unix_s(validity.not_before), x509::unix_s(validity.not_after)));
        }
        if let Some(der) = crl {
            narrow(&mut window, self.check_revocation(der, now_unix_s)?);
        }
        Ok(window)
    }

    /// The root key's list, which is about the keys that the root key signed.
    fn check_revocation(&self, der: &[u8], now_unix_s: u64) -> Result<(u64, u64), Refusal> {
        let crl = match CertificateRevocationList::from_der(der) {
            Ok(([], crl)) => crl,
            Ok((rest, _)) => return Err(bad_list(Check::Collateral, format!("{} bytes after it", rest.len()))),
            Err(error) => return Err(bad_list(Check::Collateral, error.to_string())),
        };
        if crl.issuer().as_raw() != self.ark.subject().as_raw() {
            return Err(bad_list(Check::Collateral, format!("one of {}", crl.issuer())));
        }
        if !is_pss(&crl.signature_algorithm) || crl.verify_signature(self.ark.public_key()).is_err() {
            return Err(bad_list(Check::Signature, "one that the root key did not sign".to_owned()));
        }
        let from = x509::unix_s(crl.last_update());
        let until = crl.next_update().map_or(0, x509::unix_s);
        if !(from..=until).contains(&now_unix_s) {
            let until = crl.next_update().map_or_else(|| "no date".to_owned(), |time| time.to_string());
            let found = format!("one from {} to {until}", crl.last_update());
            return Err(bad_list(Check::Collateral, found));
        }
        for entry in crl.iter_revoked_certificates() {
            if [&self.ask, &self.ark].iter().any(|certificate| certificate.raw_serial() == entry.raw_serial()) {
                return Err(Refusal::new(
                    Check::Revocation,
                    "an ASK that AMD has not revoked",
                    format!("serial {} revoked at {}", hex::encode(entry.raw_serial()), entry.revocation_date),
                    "have the host get certificates from AMD's current key",
                ));
            }
        }
        Ok((from, until))
    }
}

/// The accepted root key that signed this certificate.
fn find_root<'a>(
    ask: &X509Certificate<'_>,
    others: &[X509Certificate<'_>],
    roots: &'a [TrustAnchor],
) -> Result<(&'a TrustAnchor, X509Certificate<'a>), Refusal> {
    let mut named = false;
    for root in roots {
        let ark = x509::certificate("the root", &root.certificate_der)?;
        if issued(&ark, ask) {
            named = true;
            if signed_by(&ark, ask) {
                return Ok((root, ark));
            }
        }
    }
    // A root that came along and did sign it is not accepted; if none did, the certificate is not what it claims.
    let foreign = others.iter().find(|ark| is_root(ark) && issued(ark, ask) && signed_by(ark, ask));
    if named && foreign.is_none() {
        return Err(bad_signature("the ASK's certificate", ask));
    }
    let found = foreign.map_or_else(|| ask.issuer().to_string(), |ark| format!("{} {}", ark.subject(), root_id(ark)));
    Err(Refusal::new(
        Check::Root,
        "the report's certificates to end at a root that the policy accepts",
        format!("the root {found}"),
        "compare the roots in the policy with the kind of platform: real, or which simulated one",
    ))
}

fn issued(issuer: &X509Certificate<'_>, subject: &X509Certificate<'_>) -> bool {
    issuer.subject().as_raw() == subject.issuer().as_raw()
}

fn is_root(certificate: &X509Certificate<'_>) -> bool {
    certificate.subject().as_raw() == certificate.issuer().as_raw()
}

/// An ASK must be allowed to issue certificates, or any VCEK could be one.
fn check_issuer_of_leaf(ask: &X509Certificate<'_>) -> Result<(), Refusal> {
    let constraints: Option<BasicExtension<&BasicConstraints>> = ask.basic_constraints().ok().flatten();
    let is_ca = constraints.is_some_and(|constraints| constraints.value.ca);
    let signs = match ask.key_usage() {
        Ok(usage) => usage.is_none_or(|usage| usage.value.key_cert_sign()),
        Err(_) => false,
    };
    if is_ca && signs {
        return Ok(());
    }
    let found = format!("{}, which may not issue certificates", ask.subject());
    Err(Refusal::new(Check::Signature, "an ASK or ASVK between the signing key and the root key", found, FETCH))
}

fn signed_by(issuer: &X509Certificate<'_>, subject: &X509Certificate<'_>) -> bool {
    is_pss(&subject.signature_algorithm)
        && subject.signature_algorithm == subject.tbs_certificate.signature
        && subject.verify_signature(Some(issuer.public_key())).is_ok()
}

/// RSA-PSS with SHA-384 for message and mask, 48 bytes of salt: AMD uses nothing else, so nothing else is accepted.
fn is_pss(algorithm: &AlgorithmIdentifier<'_>) -> bool {
    let parameters = algorithm.parameters.as_ref().and_then(|any| RsaSsaPssParams::try_from(any).ok());
    algorithm.algorithm == OID_PKCS1_RSASSAPSS
        && parameters.is_some_and(|parameters| {
            let mask = parameters.mask_gen_algorithm();
            *parameters.hash_algorithm_oid() == OID_NIST_HASH_SHA384
                && mask.is_ok_and(|mask| mask.hash == OID_NIST_HASH_SHA384)
                && parameters.salt_length() == 48
        })
}

fn narrow(window: &mut (u64, u64), (from, until): (u64, u64)) {
    *window = (window.0.max(from), window.1.min(until));
}

fn no_issuer(what: &str, certificate: &X509Certificate<'_>) -> Refusal {
    Refusal::new(
        Check::Collateral,
        format!("the issuer of {what}"),
        format!("none named {}", certificate.issuer()),
        FETCH,
    )
}

fn bad_signature(what: &str, certificate: &X509Certificate<'_>) -> Refusal {
    let expected = format!("{what} signed by {} with RSA-PSS and SHA-384", certificate.issuer());
    Refusal::new(Check::Signature, expected, "a signature that does not verify", FETCH)
}

fn bad_list(check: Check, found: String) -> Refusal {
    Refusal::new(check, "a revocation list of the root key, in date", found, FETCH)
}
