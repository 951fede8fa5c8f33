//! The link profile `cocoon-v1`, the original's: a quote in the TLS certificate, and nothing after the handshake.
//!
//! **It is weak, and off unless a policy says `insecure_cocoon_v1`.** The quote covers the TLS key and nothing else
//! (attestation.md, section 4.1), so:
//!
//! - whoever steals the key writes fresh certificates around the same quote for as long as the collateral lasts, and
//!   relays to nobody knows where: [`tests`] show that it works;
//! - role, model, payment key, GPU and time are not attested; a caller that expects them is refused;
//! - there is no nonce: a quote proves that its TD existed, not that it does.
//!
//! What it still does better than the original: attributes are checked, so a DEBUG TD is refused; a verdict is kept for
//! no longer than the policy and the collateral allow; lists have no "empty means any"; claims have to equal the key
//! (the original never reads them).
//!
//! This file writes the node's own certificate and judges a peer's. Steps of the latter:
//!
//! 1. the policy allows the profile;
//! 2. the certificate was read by [`certificate`], and has quote and claims, both critical;
//! 3. the claims are the certificate's own key;
//! 4. the quote is appraised like any other, bound to that key ([`Binding::CocoonV1`]).

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::fmt;
use std::sync::Arc;

use cocoon_attest::policy::Mode;
use cocoon_attest::{Attester, Binding, Check, Evidence, EvidenceError, Expected, PlatformEvidence, Refusal};
use ed25519_dalek::SigningKey;
use rustls::pki_types::CertificateDer;
use thiserror::Error;
use tokio::sync::Mutex;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::certificate::{self, CocoonV1, IssueError, PeerCertificate};
use super::peer::AttestedPeer;
use super::verifier::{Shown, Verifier};
use crate::limits::{CERTIFICATE_LIFETIME_S, CERTIFICATE_RENEWED_AFTER_S, QUOTE_TIMEOUT};

/// Why this node has no certificate of this profile to show.
#[derive(Debug, Error)]
#[non_exhaustive]
pub(crate) enum ShowError {
    /// The platform gave no quote.
    #[error(transparent)]
    Evidence(#[from] EvidenceError),
    /// The certificate could not be written.
    #[error(transparent)]
    Certificate(#[from] IssueError),
    /// The TLS library does not take the key.
    #[error("the TLS key cannot be used: {0}")]
    Key(#[source] rustls::Error),
}

/// Writes this node's certificates, with a new quote every hour as the original does.
pub(crate) struct QuotedCertificates {
    seed: Zeroizing<[u8; 32]>,
    public_key: [u8; 32],
    attester: Arc<dyn Attester>,
    /// Held while a quote is made, so that there is one at a time.
    shown: Mutex<Option<Quoted>>,
}

#[derive(Debug, Clone)]
struct Quoted {
    der: CertificateDer<'static>,
    issued_unix_s: u64,
}

impl Quoted {
    fn age_s(&self, now_unix_s: u64) -> Option<u64> {
        // One from the future was written before the clock was set back.
        now_unix_s.checked_sub(self.issued_unix_s)
    }
}

impl QuotedCertificates {
    /// Certificates for the key of this seed, with quotes of this attester.
    pub(crate) fn new(tls_seed: &[u8; 32], attester: Arc<dyn Attester>) -> Self {
        let public_key = SigningKey::from_bytes(tls_seed).verifying_key().to_bytes();
        Self { seed: Zeroizing::new(*tls_seed), public_key, attester, shown: Mutex::new(None) }
    }

    /// The certificate to show now. When there is no new quote to be had, the last certificate serves while it is valid.
    pub(crate) async fn shown_at(&self, now_unix_s: u64) -> Result<CertificateDer<'static>, ShowError> {
        let mut shown = self.shown.lock().await;
        let last = shown.as_ref().and_then(|quoted| Some((quoted.der.clone(), quoted.age_s(now_unix_s)?)));
        if let Some((der, age_s)) = &last
            && *age_s <= CERTIFICATE_RENEWED_AFTER_S
        {
            return Ok(der.clone());
        }
        match (self.issue(now_unix_s).await, last) {
            (Ok(der), _) => Ok(shown.insert(Quoted { der, issued_unix_s: now_unix_s }).der.clone()),
            (Err(error), Some((der, age_s))) if age_s < CERTIFICATE_LIFETIME_S => {
                tracing::warn!(%error, "no new quote; the last certificate is shown");
                Ok(der)
            }
            (Err(error), _) => Err(error),
        }
    }

    async fn issue(&self, now_unix_s: u64) -> Result<CertificateDer<'static>, ShowError> {
        let binding = Binding::CocoonV1 { public_key: self.public_key };
        let no_binding = || EvidenceError::Platform("the profile has no report data".to_owned());
        let report_data = binding.report_data(&[]).ok_or_else(no_binding)?;
        let late = |_| EvidenceError::Platform(format!("no quote within {QUOTE_TIMEOUT:?}"));
        let evidence = timeout(QUOTE_TIMEOUT, self.attester.evidence(report_data)).await.map_err(late)??;
        let PlatformEvidence::Tdx { quote } = evidence.platform else {
            return Err(EvidenceError::NotATee("the profile cocoon-v1 carries TDX quotes only".to_owned()).into());
        };
        let extensions = CocoonV1 { quote: &quote, claims: self.public_key };
        Ok(certificate::issue(&self.seed, now_unix_s, Some(extensions))?)
    }
}

/// Shows the public key only.
impl fmt::Debug for QuotedCertificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QuotedCertificates").field("attester", &self.attester).finish_non_exhaustive()
    }
}

/// Judges the certificate that a peer showed in TLS, **after** the handshake proved that the peer has its key.
///
/// # Errors
/// The check that refuses it.
pub(crate) async fn accept(
    verifier: &Verifier,
    certificate: &PeerCertificate,
    expected: &Expected,
) -> Result<AttestedPeer, Refusal> {
    let terms = verifier.terms();
    if !terms.policy.link().insecure_cocoon_v1 {
        return Err(Refusal::new(
            Check::Profile,
            "the link profile attested-v2",
            "cocoon-v1, whose evidence can be relayed and replayed",
            "upgrade the peer; to accept it all the same, set insecure_cocoon_v1 in [link]",
        ));
    }
    let quote = quote_of(certificate)?;
    let evidence = Evidence {
        platform: PlatformEvidence::Tdx { quote: quote.to_vec() },
        event_log: None,
        manifest: None,
        gpus: Vec::new(),
    };
    let shown = Shown { evidence, claims: Vec::new(), staple: None };
    let binding = Binding::CocoonV1 { public_key: certificate.public_key };
    let accepted = verifier.appraise(&terms, shown, binding, expected).await?;
    Ok(AttestedPeer::new(accepted, Mode::Strict))
}

/// The quote of a certificate whose claims are its own key.
fn quote_of(certificate: &PeerCertificate) -> Result<&[u8], Refusal> {
    let remedy = "the peer is no original node, or runs without a TEE";
    let (Some(quote), Some(claims)) = (&certificate.quote_extension, certificate.claims_extension) else {
        let expected = "a certificate with a quote and claims";
        return Err(Refusal::new(Check::Profile, expected, "one that lacks them", remedy));
    };
    if claims != certificate.public_key {
        let expected = "claims that are the certificate's own key";
        return Err(Refusal::new(Check::ReportData, expected, "those of another key", remedy));
    }
    Ok(quote)
}

#[cfg(test)]
mod tests;
