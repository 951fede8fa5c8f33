//! SEV-SNP reports.
//!
//! 1. Read the report.
//! 2. Take the certificate that signed it (VCEK or VLEK), the one that signed that (ASK or ASVK), and the accepted root
//!    key (ARK) that signed the second. A root key that came along is never used, only named when it is not accepted.
//! 3. Check names, uses, dates and the revocation list.
//! 4. Check the report's signature over its raw bytes.
//! 5. Check that the certificate was made for this chip and these security versions: AMD derives the key from them, and
//!    a report that states others was not made by the firmware that is certified.
//!
//! The signatures of certificates are RSA-PSS with SHA-384 and nothing else. Whether a revocation list may be absent,
//! and which versions are new enough, the policy says. Specification: AMD 57230 (certificates), 56860 (reports).
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use p384::ecdsa::signature::Verifier as _;
use p384::ecdsa::{Signature, VerifyingKey};
use x509_parser::prelude::X509Certificate;

use self::chain::Chain;
use self::extensions::Extensions;
use super::x509;
use crate::collateral::{CollateralNeed, SnpCollateral};
use crate::evidence::Format;
use crate::evidence::snp::{Product, SIGNED_BYTES, SigningKey, SnpReport};
use crate::facts::{Attributes, Measurements, PlatformFacts, PlatformIdentity, SnpTcb, Tcb};
use crate::refusal::{Check, Refusal};
use crate::roots::{TrustAnchor, amd_intermediates};
use crate::verdict::Provenance;

mod chain;
mod extensions;

pub(super) fn verify(
    bytes: &[u8],
    certificates: &[Vec<u8>],
    collateral: &SnpCollateral,
    roots: &[TrustAnchor],
    now_unix_s: u64,
) -> Result<(PlatformFacts, Provenance), Refusal> {
    let report = parse(bytes)?;
    let leaf = certificates.first().or(collateral.leaf.as_ref()).ok_or_else(|| no_leaf(report.signing_key))?;
    let leaf = x509::certificate("the signing key's certificate", leaf)?;
    let intermediates = intermediates(certificates, collateral)?;
    let chain = Chain::find(&leaf, &intermediates, roots)?;
    let window = chain.check_validity(collateral.crl.as_deref(), now_unix_s)?;
    check_signature(bytes, &report, &leaf)?;
    let certified = Extensions::read(&leaf)?;
    let chip_id = certified.check(&report)?;
    let product = certified.product;
    let facts = PlatformFacts {
        format: Format::SevSnp,
        root: chain.root.id,
        report_data: report.report_data,
        attributes: Attributes::SevSnp {
            policy: report.policy,
            platform_info: report.platform_info,
            vmpl: report.vmpl,
        },
        tcb: Tcb::Amd {
            reported: SnpTcb::from_raw(report.reported_tcb, product),
            committed: SnpTcb::from_raw(report.committed_tcb, product),
            launch: SnpTcb::from_raw(report.launch_tcb, product),
        },
        identity: PlatformIdentity::Amd {
            chip_id,
            product: product.name().to_owned(),
            vlek: report.signing_key == SigningKey::Vlek,
        },
        measurements: Measurements::SevSnp(Box::new(report.measurements)),
        collateral_window: window,
    };
    Ok((facts, chain.root.provenance))
}

pub(super) fn need(bytes: &[u8], certificates: &[Vec<u8>]) -> Result<CollateralNeed, Refusal> {
    let report = parse(bytes)?;
    // Reports of version 2 do not name the product. Their certificate does; without one, Milan is the one that had
    // such firmware for years.
    let product = report.product.or_else(|| product_of(certificates)).unwrap_or(Product::Milan);
    Ok(CollateralNeed::Amd {
        product: product.name().to_owned(),
        chip_id: report.chip_id,
        reported_tcb: report.reported_tcb,
        vlek: report.signing_key == SigningKey::Vlek,
    })
}

fn product_of(certificates: &[Vec<u8>]) -> Option<Product> {
    let leaf = x509::certificate("the signing key's certificate", certificates.first()?).ok()?;
    Some(Extensions::read(&leaf).ok()?.product)
}

fn parse(bytes: &[u8]) -> Result<SnpReport, Refusal> {
    SnpReport::parse(bytes).map_err(|error| error.refusal(Format::SevSnp))
}

/// Candidates for ASK or ASVK, and root keys that came along: untrusted, as DER.
fn intermediates(certificates: &[Vec<u8>], collateral: &SnpCollateral) -> Result<Vec<Vec<u8>>, Refusal> {
    let mut found: Vec<Vec<u8>> = certificates.iter().skip(1).take(x509::CHAIN_MAX).cloned().collect();
    if !collateral.chain.trim().is_empty() {
        found.extend(x509::pem_chain("AMD's certificates", collateral.chain.as_bytes())?);
    }
    found.extend(amd_intermediates());
    Ok(found)
}

fn check_signature(bytes: &[u8], report: &SnpReport, leaf: &X509Certificate<'_>) -> Result<(), Refusal> {
    let signed = bytes.get(..SIGNED_BYTES).unwrap_or_default();
    let key = VerifyingKey::from_sec1_bytes(&leaf.public_key().subject_public_key.data);
    let verified = key
        .and_then(|key| Signature::from_slice(&report.signature).map(|signature| (key, signature)))
        .and_then(|(key, signature)| key.verify(signed, &signature));
    verified.map_err(|_| {
        Refusal::new(
            Check::Signature,
            "a report signed by the certified key",
            "a signature that does not verify",
            "have the attester ask its platform for a new report, with the certificate of its current firmware",
        )
    })
}

fn no_leaf(key: SigningKey) -> Refusal {
    let (name, remedy) = match key {
        SigningKey::Vcek => ("VCEK", "fetch it from AMD's key distribution service, or have the host provide it"),
        SigningKey::Vlek => ("VLEK", "have the cloud provider's host provide it: nobody else can"),
    };
    Refusal::new(Check::Collateral, format!("the certificate of the {name}"), "none", remedy)
}
