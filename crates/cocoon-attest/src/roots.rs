//! Roots of trust: the vendors' certificates, and those that a policy names for simulated platforms.
//!
//! A root is known by [`RootId`], the SHA-384 of its raw public key: the same number as in the original's
//! `allowed_collateral_root_hashes`. Which roots count is the policy's to say; nothing here is trusted by being here.

use sha2::{Digest, Sha384};
use thiserror::Error;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::evidence::snp::Product;
use crate::facts::RootId;
use crate::limits::CERTIFICATES_BYTES_MAX;
use crate::verdict::Provenance;

/// `Intel SGX Root CA`, as published with Intel's provisioning certification service.
const INTEL: &str = include_str!("roots/intel-sgx-root.pem");

/// `NVIDIA Device Identity CA`, as published with NVIDIA's verifier.
const NVIDIA: &str = include_str!("roots/nvidia-device-identity.pem");

/// AMD's keys that sign VLEKs, as published by its key distribution service.
const AMD_ASVKS: [&str; 3] = [
    include_str!("roots/amd-asvk-milan.pem"),
    include_str!("roots/amd-asvk-genoa.pem"),
    include_str!("roots/amd-asvk-turin.pem"),
];

/// A self-signed certificate that chains may end at.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TrustAnchor {
    /// The certificate.
    pub certificate_der: Vec<u8>,
    /// Whether a vendor or a simulator keeps its key.
    pub provenance: Provenance,
    /// Its key.
    pub id: RootId,
}

/// Why a root cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AnchorError {
    /// Not PEM, or not exactly one certificate.
    #[error("a root is one certificate in PEM: {0}")]
    Pem(String),
    /// Not a certificate.
    #[error("the root is no X.509 certificate: {0}")]
    Certificate(String),
    /// A certificate that somebody else issued.
    #[error("the root is not self-issued: its subject is {subject}, its issuer {issuer}")]
    NotSelfIssued {
        /// Whose it is.
        subject: String,
        /// Who issued it.
        issuer: String,
    },
}

impl TrustAnchor {
    /// The root of a simulated platform: whatever chains to it proves nothing about any machine.
    ///
    /// # Errors
    /// When the text is not one self-issued certificate in PEM.
    pub fn simulated_pem(text: &str) -> Result<Self, AnchorError> {
        Self::from_der(single_pem(text)?, Provenance::Simulated)
    }

    /// A root from its certificate.
    ///
    /// # Errors
    /// When the bytes are not a self-issued certificate.
    pub fn from_der(certificate_der: Vec<u8>, provenance: Provenance) -> Result<Self, AnchorError> {
        let id = {
            let (rest, certificate) = X509Certificate::from_der(&certificate_der)
                .map_err(|error| AnchorError::Certificate(error.to_string()))?;
            if !rest.is_empty() {
                return Err(AnchorError::Certificate(format!("{} bytes follow it", rest.len())));
            }
            if certificate.subject().as_raw() != certificate.issuer().as_raw() {
                return Err(AnchorError::NotSelfIssued {
                    subject: certificate.subject().to_string(),
                    issuer: certificate.issuer().to_string(),
                });
            }
            root_id(&certificate)
        };
        Ok(Self { certificate_der, provenance, id })
    }

    fn vendor(pem: &str) -> Self {
        single_pem(pem)
            .and_then(|der| Self::from_der(der, Provenance::Vendor))
            .expect("the embedded roots are certificates, as the tests of this file check")
    }
}

/// Intel's root, for TDX and SGX.
#[must_use]
pub fn intel() -> TrustAnchor {
    TrustAnchor::vendor(INTEL)
}

/// AMD's root key (ARK) of a product; it signs both the ASK of VCEKs and the ASVK of VLEKs.
#[must_use]
pub fn amd(product: Product) -> TrustAnchor {
    use sev::certs::snp::builtin;

    let pem = match product {
        Product::Milan => builtin::milan::ARK,
        Product::Genoa => builtin::genoa::ARK,
        Product::Turin => builtin::turin::ARK,
    };
    TrustAnchor::vendor(std::str::from_utf8(pem).expect("PEM is ASCII"))
}

/// AMD's roots of all products.
#[must_use]
pub fn amd_all() -> Vec<TrustAnchor> {
    Product::ALL.into_iter().map(amd).collect()
}

/// AMD's published keys between its roots and those that sign reports: ASK for VCEKs, ASVK for VLEKs, as DER. They are
/// there for chains that leave them out, and are trusted no more than any other: an accepted root must have signed them.
pub(crate) fn amd_intermediates() -> Vec<Vec<u8>> {
    use sev::certs::snp::builtin;

    let asks = [builtin::milan::ASK, builtin::genoa::ASK, builtin::turin::ASK];
    asks.into_iter()
        .map(|pem| std::str::from_utf8(pem).expect("PEM is ASCII"))
        .chain(AMD_ASVKS)
        .map(|pem| single_pem(pem).expect("the embedded certificates are PEM, as the tests of this file check"))
        .collect()
}

/// NVIDIA's root of device identities.
#[must_use]
pub fn nvidia() -> TrustAnchor {
    TrustAnchor::vendor(NVIDIA)
}

/// The id of a certificate's key.
pub(crate) fn root_id(certificate: &X509Certificate<'_>) -> RootId {
    RootId(Sha384::digest(&certificate.public_key().subject_public_key.data).into())
}

fn single_pem(text: &str) -> Result<Vec<u8>, AnchorError> {
    if text.len() > CERTIFICATES_BYTES_MAX {
        return Err(AnchorError::Pem(format!("{} bytes are too many", text.len())));
    }
    let mut blocks = x509_parser::pem::Pem::iter_from_buffer(text.trim().as_bytes());
    let first = blocks.next().ok_or_else(|| AnchorError::Pem("there is none".to_owned()))?;
    let first = first.map_err(|error| AnchorError::Pem(error.to_string()))?;
    if blocks.next().is_some() {
        return Err(AnchorError::Pem("there are several".to_owned()));
    }
    Ok(first.contents)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vendor_roots_are_the_pinned_keys() {
        let roots = [intel(), amd(Product::Milan), amd(Product::Genoa), amd(Product::Turin), nvidia()];
        let listed: String = roots.iter().map(|root| format!("{:?} {}\n", root.provenance, root.id)).collect();
        expect_test::expect![[r#"
            Vendor 46e403bd34f05a3f2817ab9badcaacc7ffc98e0f261008cd30dae936cace18d5dcf58eef31463613de1570d516200993
            Vendor 3c8bb5367040589d496a2c5e91d5377ee50ad2aef4552ea394afb8de65a6daa5ea736cd3225356639a6d305b2f2e2eb3
            Vendor b9b8b4414140e1efbe8feb3c40d558607a48b4224ddae85151a4b7e14ad8432c264e5f7e895b9c25237163dff22348d8
            Vendor 02fb29af729a9cd8692403d81dd988e579275476dcf2e04d9632813b43a67639d852415cb1018310fe9c717ac9bbcb17
            Vendor caf2995c609f0c5f443308d6c9b5ca90138c3adee0f0c7076cec3fed65c1b6c2c7b7dc8425843e799af7b07dcbaeba52
        "#]]
        .assert_eq(&listed);
    }

    #[test]
    fn amd_intermediates_are_signed_by_amd_roots() {
        let roots = amd_all();
        let intermediates = amd_intermediates();
        assert_eq!(intermediates.len(), 6);
        for der in intermediates {
            let (_, key) = X509Certificate::from_der(&der).unwrap();
            let signed = roots.iter().any(|root| {
                let (_, ark) = X509Certificate::from_der(&root.certificate_der).unwrap();
                key.verify_signature(Some(ark.public_key())).is_ok()
            });
            assert!(signed, "{}", key.subject());
        }
    }

    #[test]
    fn certificates_that_others_issued_are_no_roots() {
        let ask = std::str::from_utf8(sev::certs::snp::builtin::milan::ASK).unwrap();
        assert!(matches!(TrustAnchor::simulated_pem(ask), Err(AnchorError::NotSelfIssued { .. })));
    }

    #[test]
    fn two_certificates_are_no_root() {
        let two = format!("{INTEL}{NVIDIA}");
        assert!(matches!(TrustAnchor::simulated_pem(&two), Err(AnchorError::Pem(_))));
        assert!(matches!(TrustAnchor::simulated_pem("hello"), Err(AnchorError::Pem(_))));
    }
}
