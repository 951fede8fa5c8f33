//! The two things an attested session needs from outside, as traits: evidence, and collateral.
//!
//! `cocoon-tee` implements both for machines, `cocoon-simtee` for the simulated platform. Both may take seconds: a
//! quoting enclave answers one at a time, and collateral may have to be fetched.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use thiserror::Error;

use crate::collateral::{Collateral, CollateralNeed};
use crate::evidence::{Evidence, Format, GpuEvidence};

/// Produces evidence of the machine that this program runs on.
#[async_trait]
pub trait Attester: fmt::Debug + Send + Sync {
    /// The format it produces.
    fn format(&self) -> Format;

    /// Fresh evidence of every GPU for a nonce; empty where there are none.
    ///
    /// # Errors
    /// When a GPU or its driver does not answer.
    async fn gpu_evidence(&self, nonce: [u8; 32]) -> Result<Vec<GpuEvidence>, EvidenceError>;

    /// Fresh evidence with this report data, event log and manifest included, `gpus` left empty.
    /// Callers ask one at a time: see `QuoteQueue` of `cocoon-net`.
    ///
    /// # Errors
    /// When the platform does not answer, or this is no such platform.
    async fn evidence(&self, report_data: [u8; 64]) -> Result<Evidence, EvidenceError>;
}

/// Finds the vendor's endorsements for evidence.
#[async_trait]
pub trait CollateralSource: fmt::Debug + Send + Sync {
    /// Collateral for this need, from a cache where it is fresh enough at `now_unix_s`.
    ///
    /// # Errors
    /// When there is none to be had.
    async fn collateral(&self, need: &CollateralNeed, now_unix_s: u64) -> Result<Arc<Collateral>, CollateralError>;
}

/// Why there is no evidence.
#[derive(Debug, Clone, Error)]
#[non_exhaustive]
pub enum EvidenceError {
    /// This machine has no such platform.
    #[error("no TEE here: {0}")]
    NotATee(String),
    /// The platform is there and failed.
    #[error("the platform gave no evidence: {0}")]
    Platform(String),
    /// A GPU or its driver failed.
    #[error("a GPU gave no evidence: {0}")]
    Gpu(String),
}

/// Why there is no collateral.
#[derive(Debug, Clone, Error)]
#[non_exhaustive]
pub enum CollateralError {
    /// Nothing is configured to ask.
    #[error("no collateral service is configured, and the peer stapled none")]
    NoSource,
    /// Too many lookups at once. Strangers choose what is looked up, so this may be their doing, and says nothing about
    /// the platform.
    #[error("collateral services are asked too much at the moment; try again later")]
    Busy,
    /// The service failed or does not know the platform.
    #[error("the collateral service {service} failed: {why}")]
    Service {
        /// Which.
        service: String,
        /// How.
        why: String,
    },
    /// What it sent cannot be read.
    #[error("the collateral service {service} sent something unreadable: {why}")]
    Malformed {
        /// Which.
        service: String,
        /// How.
        why: String,
    },
}
