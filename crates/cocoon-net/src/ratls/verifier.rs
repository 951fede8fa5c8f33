//! The door: evidence of strangers comes in here, and an accepted appraisal or a refusal comes out.
//!
//! 1. A frame becomes evidence; sizes were bounded while it was read, and are bounded again by the appraisal.
//! 2. Collateral comes from this verifier's own source; what the peer stapled only where there is no such thing
//!    (`collateral.rs`).
//! 3. [`appraise`] judges, on a blocking thread, a few at a time: milliseconds of signatures must not make tokens wait.
//! 4. What was accepted is remembered as far as the policy allows: [`Sessions`], [`Verdicts`]. A new policy forgets all
//!    of it, and makes every open connection prove itself again.
//!
//! It fails closed: no collateral, no clock, no answer is a refusal. It does not decide whom the caller meant to reach;
//! that is in [`Expected`].

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use cocoon_attest::{
    Binding, ChannelBinding, Check, Collateral, CollateralSource, Document, Evidence, Exhibit, Expected, GpuEvidence,
    PlatformEvidence, Policy, Refusal, Verdict, appraise,
};
use cocoon_units::Clock;
use cocoon_wire::attestation::{AttestEvidence, AttestPlatform};
use ed25519_dalek::{Signature, VerifyingKey};
use tokio::sync::{Semaphore, watch};

use super::collateral::{Floors, Supply};
use super::sessions::{Remembered, Sessions};
use super::verdicts::{VerdictKey, Verdicts};
use crate::limits::APPRAISALS_MAX;

/// The verifying side of a node: its policy, where its collateral comes from, and what it remembers.
pub struct Verifier {
    memory: Mutex<Memory>,
    generation: watch::Sender<u64>,
    collateral: Supply,
    clock: Arc<dyn Clock>,
    turns: Arc<Semaphore>,
}

struct Memory {
    policy: Policy,
    /// Grows with each policy.
    generation: u64,
    sessions: Sessions,
    verdicts: Verdicts,
    floors: Floors,
}

/// The policy that one appraisal goes by, whatever is set meanwhile.
#[derive(Debug, Clone)]
pub(crate) struct Terms {
    pub(crate) policy: Policy,
    pub(crate) generation: u64,
}

/// What a peer showed.
#[derive(Debug)]
pub(crate) struct Shown {
    pub(crate) evidence: Evidence,
    pub(crate) claims: Vec<u8>,
    pub(crate) staple: Option<Collateral>,
}

/// An appraisal that ended well.
#[derive(Debug, Clone)]
pub(crate) struct Accepted {
    pub(crate) verdict: Arc<Verdict>,
    pub(crate) document: Arc<Document>,
}

impl Verifier {
    /// A verifier that judges by `policy`.
    #[must_use]
    pub fn new(policy: Policy, collateral: Arc<dyn CollateralSource>, clock: Arc<dyn Clock>) -> Self {
        let memory = Memory {
            policy,
            generation: 0,
            sessions: Sessions::default(),
            verdicts: Verdicts::default(),
            floors: Floors::default(),
        };
        Self {
            memory: Mutex::new(memory),
            generation: watch::Sender::new(0),
            collateral: Supply::new(collateral),
            clock,
            turns: Arc::new(Semaphore::new(APPRAISALS_MAX)),
        }
    }

    /// Judges by another policy from now on. Everything remembered is forgotten, and the peers of open connections have
    /// to prove themselves again at once.
    pub fn set_policy(&self, policy: Policy) {
        let mut memory = self.memory();
        memory.policy = policy;
        memory.generation = memory.generation.saturating_add(1);
        memory.sessions.clear();
        memory.verdicts.clear();
        // Under the lock: of two new policies, the one that counts is told last.
        self.generation.send_replace(memory.generation);
    }

    /// The policy of the moment.
    #[must_use]
    pub fn policy(&self) -> Policy {
        self.memory().policy.clone()
    }

    pub(super) fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    pub(crate) fn terms(&self) -> Terms {
        let memory = self.memory();
        Terms { policy: memory.policy.clone(), generation: memory.generation }
    }

    /// Tells when a new policy is set.
    pub(super) fn generations(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }

    /// Whether to ask peers for collateral.
    pub(super) fn wants_staple(&self) -> bool {
        self.collateral.wants_staple()
    }

    /// What is remembered of a peer, when the policy lets a session key stand for evidence.
    pub(super) fn remembered(&self, terms: &Terms, tls_key: &[u8; 32], expected: &Expected) -> Option<Remembered> {
        let link = terms.policy.link();
        let mut memory = self.memory();
        if !link.session_key || memory.generation != terms.generation {
            return None;
        }
        memory.sessions.find(tls_key, expected, self.clock.unix_now().as_secs(), link.session_max_age_s)
    }

    /// Whether a remembered peer signed for this connection.
    pub(super) fn accept_session(
        &self,
        terms: &Terms,
        tls_key: &[u8; 32],
        channel: &ChannelBinding,
        expected: &Expected,
        signature: &[u8; 64],
    ) -> Result<Accepted, Refusal> {
        // Asked again: the memory may have ended while the peer answered.
        let Some(remembered) = self.remembered(terms, tls_key, expected) else {
            return Err(Refusal::new(
                Check::Freshness,
                "a session key that was attested a short time ago",
                "one that is no longer remembered",
                "dial again: the next handshake asks for evidence",
            ));
        };
        let key = VerifyingKey::from_bytes(&remembered.session_key);
        let verified =
            key.and_then(|key| key.verify_strict(&channel.session_message(), &Signature::from_bytes(signature)));
        if verified.is_err() {
            self.memory().sessions.remove(tls_key);
            return Err(Refusal::new(
                Check::Signature,
                "this connection signed with the attested session key",
                "a signature that is not that",
                "dial again: the next handshake asks for evidence",
            ));
        }
        Ok(remembered.accepted)
    }

    /// Appraises evidence that is bound to a connection, and remembers the session key that it attests.
    pub(super) async fn accept_evidence(
        &self,
        terms: &Terms,
        tls_key: [u8; 32],
        channel: ChannelBinding,
        expected: &Expected,
        evidence: AttestEvidence,
    ) -> Result<Accepted, Refusal> {
        let shown = from_wire(evidence);
        let accepted = self.appraise(terms, shown, Binding::AttestedV2(channel), expected).await?;
        let claimed = accepted.verdict.claims.as_ref().map(|claims| claims.keys);
        let Some(keys) = claimed.filter(|keys| keys.tls == tls_key) else {
            return Err(Refusal::new(
                Check::Identity,
                "claims that name the TLS key of this connection",
                "others",
                "the node's identity and its claims come from different keys: restart it",
            ));
        };
        let remembered = Remembered { session_key: keys.session, accepted: accepted.clone() };
        let mut memory = self.memory();
        if memory.generation == terms.generation && terms.policy.link().session_key {
            memory.sessions.insert(tls_key, remembered, expected.clone(), self.clock.unix_now().as_secs());
        }
        Ok(accepted)
    }

    /// Appraises, whatever the binding. Nothing is remembered but verdicts of evidence that may come again.
    pub(crate) async fn appraise(
        &self,
        terms: &Terms,
        shown: Shown,
        binding: Binding,
        expected: &Expected,
    ) -> Result<Accepted, Refusal> {
        let now_unix_s = self.clock.unix_now().as_secs();
        check_format(&terms.policy, &shown.evidence.platform)?;
        let need = cocoon_attest::verify::collateral_need(&shown.evidence.platform)?;
        let (collateral, origin) = self.collateral.find(&need, shown.staple, now_unix_s).await?;
        let mut expected = expected.clone();
        let floor = self.memory().floors.of(&need, origin);
        expected.tcb_evaluation_number_min = expected.tcb_evaluation_number_min.max(floor);
        let case = Case {
            policy: terms.policy.clone(),
            evidence: shown.evidence,
            claims: shown.claims,
            binding,
            collateral,
            expected,
            now_unix_s,
        };
        let key = case.key();
        if let Some(key) = key
            && let Some(accepted) = self.memory().verdicts.find(key, now_unix_s)
        {
            return Ok(accepted);
        }
        let accepted = self.judge(case).await?;
        let mut memory = self.memory();
        if let Some(number) = accepted.verdict.tcb_evaluation_number {
            memory.floors.raise(need, origin, number);
        }
        if let Some(key) = key.filter(|_| memory.generation == terms.generation) {
            let for_s = terms.policy.link().verdict_cache_s;
            memory.verdicts.insert(key, accepted.clone(), now_unix_s, for_s);
        }
        Ok(accepted)
    }

    /// Runs one appraisal on a blocking thread.
    async fn judge(&self, case: Case) -> Result<Accepted, Refusal> {
        let stopping = || Refusal::new(Check::Format, "an appraisal", "a node that is stopping", "dial again later");
        let turn = Arc::clone(&self.turns).acquire_owned().await.map_err(|_| stopping())?;
        let work = move || {
            // The turn ends with the work, not with the caller's patience.
            let _turn = turn;
            case.judge()
        };
        tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| Err(stopping()))
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        // Each change under the lock is one assignment or one map operation.
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier")
            .field("policy", &self.policy())
            .field("collateral", &self.collateral)
            .finish_non_exhaustive()
    }
}

/// Everything that one appraisal looks at.
struct Case {
    policy: Policy,
    evidence: Evidence,
    claims: Vec<u8>,
    binding: Binding,
    collateral: Arc<Collateral>,
    expected: Expected,
    now_unix_s: u64,
}

impl Case {
    fn exhibit(&self) -> Exhibit<'_> {
        Exhibit { evidence: &self.evidence, claims: &self.claims, binding: &self.binding, collateral: &self.collateral }
    }

    /// The key to keep the verdict under. Evidence that covers a nonce never comes again.
    fn key(&self) -> Option<VerdictKey> {
        match self.binding {
            Binding::CocoonV1 { .. } => VerdictKey::new(&self.policy, self.exhibit(), &self.expected),
            Binding::AttestedV2(_) | Binding::Unbound | _ => None,
        }
    }

    fn judge(self) -> Result<Accepted, Refusal> {
        let verdict = appraise(&self.policy, self.exhibit(), &self.expected, self.now_unix_s)?;
        let document = Document::record(&self.policy, self.exhibit(), &self.expected, &verdict).map_err(|error| {
            Refusal::new(Check::Document, "an appraisal that can be saved", error.to_string(), "update the peer")
        })?;
        Ok(Accepted { verdict: Arc::new(verdict), document: Arc::new(document) })
    }
}

/// Before anything is looked up: strangers must not make us ask a vendor whose evidence is refused in any case.
fn check_format(policy: &Policy, platform: &PlatformEvidence) -> Result<(), Refusal> {
    let format = platform.format();
    if policy.formats().contains(&format) {
        return Ok(());
    }
    let known: Vec<_> = policy.formats().iter().map(|format| format.name()).collect();
    let expected = format!("evidence of the format {}", known.join(" or "));
    Err(Refusal::new(Check::Format, expected, format.name(), "the policy has no root for this platform"))
}

pub(super) fn from_wire(evidence: AttestEvidence) -> Shown {
    let platform = match evidence.platform {
        AttestPlatform::Tdx { quote } => PlatformEvidence::Tdx { quote: quote.into() },
        AttestPlatform::SevSnp { report, certificates } => PlatformEvidence::SevSnp {
            report: report.into(),
            certificates: certificates.into_iter().map(Vec::from).collect(),
        },
    };
    let gpus = evidence.gpus.into_iter();
    let gpus = gpus.map(|gpu| GpuEvidence { report: gpu.report.into(), certificate_chain: gpu.certificate_chain });
    Shown {
        staple: evidence.collateral.as_ref().and_then(read_staple),
        claims: evidence.claims.into(),
        evidence: Evidence {
            platform,
            event_log: evidence.event_log.map(Vec::from),
            manifest: evidence.manifest.map(Vec::from),
            gpus: gpus.collect(),
        },
    }
}

/// Stapled collateral; what cannot be read was not stapled.
fn read_staple(bytes: &Bytes) -> Option<Collateral> {
    if bytes.len() > cocoon_attest::limits::COLLATERAL_BYTES_MAX {
        return None;
    }
    serde_json::from_slice(bytes).ok()
}
