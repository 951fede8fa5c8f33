//! The vendors' endorsements: certificates, revocation lists and patch levels that evidence is judged by.

use dcap_qvl::QuoteCollateralV3;
use serde::{Deserialize, Serialize};

/// What collateral a piece of evidence needs. Derived from untrusted evidence: good for a lookup, for nothing else.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum CollateralNeed {
    /// TCB info, QE identity and revocation lists from a PCCS.
    Intel {
        /// Family, model, stepping, platform and custom SKU.
        fmspc: [u8; 6],
        /// Who issued the PCK certificate.
        ca: PckCa,
        /// Whose TCB info.
        tee: IntelTee,
    },
    /// Certificate chain and revocation list from AMD's key distribution service.
    Amd {
        /// `Milan`, `Genoa` (Bergamo and Siena too), `Turin`.
        product: String,
        /// All 64 bytes.
        chip_id: [u8; 64],
        /// The reported TCB, as the report has it.
        reported_tcb: u64,
        /// The report was signed by a VLEK, whose certificate only its host has.
        vlek: bool,
    },
}

/// An intermediate of Intel's that issues PCK certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PckCa {
    /// `processor`.
    Processor,
    /// `platform`.
    Platform,
}

/// The two kinds of TCB info.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IntelTee {
    /// `sgx`.
    Sgx,
    /// `tdx`.
    Tdx,
}

/// Collateral of either vendor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "vendor", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Collateral {
    /// For TDX and SGX.
    Intel(TdxCollateral),
    /// For SEV-SNP.
    Amd(SnpCollateral),
}

/// Intel's, in the JSON that other tools write too: PEM chains, JSON bodies as text, the rest as hex.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TdxCollateral {
    /// PEM, the issuer of the PCK CRL first.
    pub pck_crl_issuer_chain: String,
    /// DER.
    #[serde(with = "hex::serde")]
    pub root_ca_crl: Vec<u8>,
    /// DER.
    #[serde(with = "hex::serde")]
    pub pck_crl: Vec<u8>,
    /// PEM, the TCB signing certificate first.
    pub tcb_info_issuer_chain: String,
    /// The signed text of the TCB info.
    pub tcb_info: String,
    /// Raw r and s.
    #[serde(with = "hex::serde")]
    pub tcb_info_signature: Vec<u8>,
    /// PEM, the TCB signing certificate first.
    pub qe_identity_issuer_chain: String,
    /// The signed text of the QE identity.
    pub qe_identity: String,
    /// Raw r and s.
    #[serde(with = "hex::serde")]
    pub qe_identity_signature: Vec<u8>,
}

/// AMD's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnpCollateral {
    /// The VCEK or VLEK as DER, where the evidence does not carry it.
    #[serde(default, with = "crate::evidence::hex_option", skip_serializing_if = "Option::is_none")]
    pub leaf: Option<Vec<u8>>,
    /// ASK or ASVK, then ARK, as PEM. May be empty where they are the ones that AMD publishes.
    pub chain: String,
    /// The revocation list of the ARK, as DER; a policy says whether it may be absent.
    #[serde(default, with = "crate::evidence::hex_option", skip_serializing_if = "Option::is_none")]
    pub crl: Option<Vec<u8>>,
}

impl From<&TdxCollateral> for QuoteCollateralV3 {
    fn from(collateral: &TdxCollateral) -> Self {
        let collateral = collateral.clone();
        Self {
            pck_crl_issuer_chain: collateral.pck_crl_issuer_chain,
            root_ca_crl: collateral.root_ca_crl,
            pck_crl: collateral.pck_crl,
            tcb_info_issuer_chain: collateral.tcb_info_issuer_chain,
            tcb_info: collateral.tcb_info,
            tcb_info_signature: collateral.tcb_info_signature,
            qe_identity_issuer_chain: collateral.qe_identity_issuer_chain,
            qe_identity: collateral.qe_identity,
            qe_identity_signature: collateral.qe_identity_signature,
            // The platform's certificates are those in the quote, so that one statement has one set of them.
            pck_certificate_chain: None,
        }
    }
}
