//! Shows this node's evidence: claims filled in, GPUs asked, a quote over this very connection, collateral stapled.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use cocoon_attest::claims::gpu_digest;
use cocoon_attest::{
    Attester, ChannelBinding, Claims, CollateralSource, Evidence, EvidenceError, Format, GpuEvidence, PlatformEvidence,
};
use cocoon_units::Clock;
use cocoon_wire::attestation::{AttestEvidence, AttestGpu, AttestPlatform};
use ed25519_dalek::{Signer, SigningKey};
use tokio::time::timeout;

use super::quote_queue::QuoteQueue;
use crate::admission::source::Source;
use crate::limits::STAPLE_TIMEOUT;

/// The attesting side of a node. Its quotes come one at a time, whatever link asks.
pub struct Prover {
    attester: Arc<dyn Attester>,
    claims: Mutex<Claims>,
    session: SigningKey,
    staple: Option<Arc<dyn CollateralSource>>,
    clock: Arc<dyn Clock>,
    queue: Arc<QuoteQueue>,
}

/// What the verifier asked for beside the quote.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    pub(super) gpu: bool,
    pub(super) staple: bool,
}

impl Prover {
    /// A prover that claims `claims`; time, GPU digest and session key are filled in.
    #[must_use]
    pub fn new(
        attester: Arc<dyn Attester>,
        mut claims: Claims,
        session_seed: &[u8; 32],
        staple: Option<Arc<dyn CollateralSource>>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let session = SigningKey::from_bytes(session_seed);
        claims.keys.session = session.verifying_key().to_bytes();
        Self { attester, claims: Mutex::new(claims), session, staple, clock, queue: Arc::new(QuoteQueue::new()) }
    }

    /// Claims another model from now on; peers hear of it when they ask for evidence again.
    pub fn set_model(&self, model: Option<String>) {
        self.claims.lock().unwrap_or_else(PoisonError::into_inner).model = model;
    }

    /// Claims another contract from now on; peers hear of it when they ask for evidence again.
    pub fn set_contract(&self, contract: Option<String>) {
        self.claims.lock().unwrap_or_else(PoisonError::into_inner).contract = contract;
    }

    pub(super) fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    /// The attester for others than links, in the same line for the platform.
    pub(super) fn attester_in_turn(&self) -> Arc<dyn Attester> {
        Arc::new(InTurn { attester: Arc::clone(&self.attester), queue: Arc::clone(&self.queue) })
    }

    pub(super) fn format(&self) -> Format {
        self.attester.format()
    }

    /// The signature that a peer which remembers our session key takes for evidence; `None` when it remembers another.
    pub(super) fn session_signature(&self, remembered: &[u8; 32], channel: &ChannelBinding) -> Option<[u8; 64]> {
        let ours = self.session.verifying_key().to_bytes() == *remembered;
        ours.then(|| self.session.sign(&channel.session_message()).to_bytes())
    }

    /// Fresh evidence for one connection. `asker` is who dialled us, when somebody from afar did.
    pub(super) async fn evidence(
        &self,
        channel: &ChannelBinding,
        wanted: Wanted,
        asker: Option<Source>,
    ) -> Result<AttestEvidence, EvidenceError> {
        let attester = Arc::clone(&self.attester);
        let nonce = wanted.gpu.then(|| channel.gpu_nonce());
        let mut claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner).clone();
        claims.time_unix_s = self.clock.unix_now().as_secs();
        let channel = channel.clone();
        let (evidence, claims) = self
            .queue
            .run(asker, async move {
                let gpus = match nonce {
                    Some(nonce) => attester.gpu_evidence(nonce).await?,
                    None => Vec::new(),
                };
                claims.gpu_sha256 = gpu_digest(&gpus);
                let claims = claims.encode();
                let evidence = attester.evidence(channel.report_data(claims.as_bytes())).await?;
                Ok((Evidence { gpus, ..evidence }, claims))
            })
            .await?;
        let collateral = if wanted.staple { self.stapled(&evidence.platform).await } else { None };
        to_wire(evidence, claims, collateral)
    }

    /// Collateral as the peer reads it. Whoever gets none asks its own source.
    async fn stapled(&self, platform: &PlatformEvidence) -> Option<Bytes> {
        let source = self.staple.as_ref()?;
        let need = cocoon_attest::verify::collateral_need(platform).ok()?;
        let found = timeout(STAPLE_TIMEOUT, source.collateral(&need, self.clock.unix_now().as_secs())).await;
        let collateral = found.ok()?.inspect_err(|error| tracing::debug!(%error, "no collateral to staple")).ok()?;
        serde_json::to_vec(&*collateral).map(Bytes::from).ok()
    }
}

impl fmt::Debug for Prover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prover").field("attester", &self.attester).field("staple", &self.staple).finish_non_exhaustive()
    }
}

/// An attester whose quotes stand in line.
#[derive(Debug)]
struct InTurn {
    attester: Arc<dyn Attester>,
    queue: Arc<QuoteQueue>,
}

#[async_trait]
impl Attester for InTurn {
    fn format(&self) -> Format {
        self.attester.format()
    }

    async fn gpu_evidence(&self, nonce: [u8; 32]) -> Result<Vec<GpuEvidence>, EvidenceError> {
        self.attester.gpu_evidence(nonce).await
    }

    async fn evidence(&self, report_data: [u8; 64]) -> Result<Evidence, EvidenceError> {
        let attester = Arc::clone(&self.attester);
        self.queue.run(None, async move { attester.evidence(report_data).await }).await
    }
}

fn to_wire(evidence: Evidence, claims: String, collateral: Option<Bytes>) -> Result<AttestEvidence, EvidenceError> {
    let platform = match evidence.platform {
        PlatformEvidence::Tdx { quote } => AttestPlatform::Tdx { quote: quote.into() },
        PlatformEvidence::SevSnp { report, certificates } => AttestPlatform::SevSnp {
            report: report.into(),
            certificates: certificates.into_iter().map(Bytes::from).collect(),
        },
        PlatformEvidence::Sgx { .. } | _ => {
            return Err(EvidenceError::NotATee("no link carries evidence of this format".to_owned()));
        }
    };
    let gpus = evidence.gpus.into_iter();
    let gpus = gpus.map(|gpu| AttestGpu { report: gpu.report.into(), certificate_chain: gpu.certificate_chain });
    Ok(AttestEvidence {
        platform,
        claims: claims.into(),
        gpus: gpus.collect(),
        event_log: evidence.event_log.map(Bytes::from),
        manifest: evidence.manifest.map(Bytes::from),
        collateral,
    })
}
