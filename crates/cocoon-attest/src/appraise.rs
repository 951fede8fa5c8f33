//! Appraisal: evidence, collateral and policy in, a verdict or a refusal out. **Fails closed.**
//!
//! The order (attestation.md, section 4.4(4)); the first check that refuses names itself:
//!
//! 1. sizes, and whether the policy has a root for the format at all;
//! 2. signatures and certificates, under the policy's roots ([`crate::verify`]), and the collateral's window;
//! 3. attributes of the VM;
//! 4. report data, compared in constant time: from here on the claims are the attester's own;
//! 5. measurements, event log, image manifest;
//! 6. patch level;
//! 7. which machine;
//! 8. role, keys, identity, model and time of the claims;
//! 9. GPUs.
//!
//! [`appraise`] takes only evidence that is bound to a connection. Evidence from a file goes through
//! [`appraise_unbound`], which no role calls.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

use crate::binding::{Binding, ChannelBinding};
use crate::claims::{Claims, Role, gpu_digest};
use crate::collateral::Collateral;
use crate::evidence::{Evidence, Format, PlatformEvidence};
use crate::facts::{GpuFacts, PlatformFacts, Tcb, TcbStatus};
use crate::limits::{
    CERTIFICATES_BYTES_MAX, CLAIMS_BYTES_MAX, COLLATERAL_BYTES_MAX, EVENT_LOG_BYTES_MAX, GPU_REPORT_BYTES_MAX,
    GPUS_MAX, MANIFEST_BYTES_MAX, QUOTE_BYTES_MAX,
};
use crate::policy::Policy;
use crate::refusal::{Check, Refusal, shown};
use crate::rim::{NoRims, RimStore, compare};
use crate::verdict::{GpuVerdict, Provenance, Verdict};
use crate::verify::{self, IntelRules, Roots};

/// What is appraised.
#[derive(Debug, Clone, Copy)]
pub struct Exhibit<'a> {
    /// The evidence.
    pub evidence: &'a Evidence,
    /// The exact bytes of the claims; empty in `cocoon-v1` and for files without claims.
    pub claims: &'a [u8],
    /// What the evidence has to be bound to.
    pub binding: &'a Binding,
    /// The vendor's endorsements.
    pub collateral: &'a Collateral,
}

/// What this verifier expects of this very peer, beyond its policy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    /// The role the peer must play.
    pub role: Option<Role>,
    /// The model a worker must serve.
    pub model: Option<String>,
    /// The payment key the peer must have: whom the caller meant to reach.
    #[serde(default, with = "crate::claims::hex_option")]
    pub payment_key: Option<[u8; 32]>,
    /// The contract the peer must name.
    pub contract: Option<String>,
    /// The highest TCB evaluation number seen so far: older collateral is a roll-back.
    pub tcb_evaluation_number_min: u32,
}

/// Appraises evidence that is bound to a connection.
///
/// # Errors
/// The first check that refuses.
pub fn appraise(
    policy: &Policy,
    exhibit: Exhibit<'_>,
    expected: &Expected,
    now_unix_s: u64,
) -> Result<Verdict, Refusal> {
    appraise_with(policy, exhibit, expected, &NoRims, now_unix_s)
}

/// [`appraise`], with reference values for GPUs.
///
/// # Errors
/// The first check that refuses.
pub fn appraise_with(
    policy: &Policy,
    exhibit: Exhibit<'_>,
    expected: &Expected,
    rims: &dyn RimStore,
    now_unix_s: u64,
) -> Result<Verdict, Refusal> {
    let appraisal = Appraisal { policy, exhibit, expected, rims, now_unix_s };
    match exhibit.binding {
        Binding::AttestedV2(channel) => appraisal.attested_v2(channel),
        Binding::CocoonV1 { .. } => appraisal.cocoon_v1(),
        Binding::Unbound => Err(Refusal::new(
            Check::Profile,
            "evidence that is bound to this connection",
            "evidence that is bound to nothing",
            "evidence from a file proves nothing about a peer; look at it with `cocoon attest verify`",
        )),
    }
}

/// Appraises evidence from a file, which is bound to nothing: it says that such a VM ran once, not who answers where.
/// Role, identity, model, freshness and the GPUs' nonces stay unchecked. No role may call this.
///
/// # Errors
/// The first check that refuses.
pub fn appraise_unbound(
    policy: &Policy,
    evidence: &Evidence,
    collateral: &Collateral,
    now_unix_s: u64,
) -> Result<Verdict, Refusal> {
    let exhibit = Exhibit { evidence, claims: &[], binding: &Binding::Unbound, collateral };
    Appraisal { policy, exhibit, expected: &Expected::default(), rims: &NoRims, now_unix_s }.unbound()
}

/// One appraisal under way.
#[derive(Clone, Copy)]
struct Appraisal<'a> {
    policy: &'a Policy,
    exhibit: Exhibit<'a>,
    expected: &'a Expected,
    rims: &'a dyn RimStore,
    now_unix_s: u64,
}

/// What the profile adds to what the platform's evidence says.
struct Profile {
    name: &'static str,
    role: Option<Role>,
    image_sha256: Option<[u8; 32]>,
    claims: Option<Claims>,
    gpus: Vec<GpuVerdict>,
}

impl Appraisal<'_> {
    fn attested_v2(self, channel: &ChannelBinding) -> Result<Verdict, Refusal> {
        self.check_is_a_vm()?;
        let (facts, provenance) = self.proved()?;
        self.check_report_data(&facts)?;
        let claims = Claims::decode(self.exhibit.claims).map_err(|error| {
            Refusal::new(Check::Format, "claims of version 1", shown(&error.to_string()), "upgrade the older side")
        })?;
        let image_sha256 = self.image(&facts, Some(claims.role))?;
        self.check_platform(&facts)?;
        self.check_claims(&claims, channel)?;
        let gpus = self.gpus(Some(&channel.gpu_nonce()))?;
        let profile =
            Profile { name: "attested-v2", role: Some(claims.role), image_sha256, claims: Some(claims), gpus };
        Ok(self.verdict(&facts, provenance, profile))
    }

    /// The original's profile: a key and an image, nothing about role, time, model or GPU.
    fn cocoon_v1(self) -> Result<Verdict, Refusal> {
        self.policy.rules().link.check_cocoon_v1()?;
        self.check_is_a_vm()?;
        self.check_expects_no_claims()?;
        self.check_shows_a_quote_alone()?;
        let (facts, provenance) = self.proved()?;
        self.check_report_data(&facts)?;
        self.policy.rules().image.check_original(&facts)?;
        self.check_platform(&facts)?;
        self.policy.rules().gpu.check_present(0)?;
        let profile = Profile { name: "cocoon-v1", role: None, image_sha256: None, claims: None, gpus: Vec::new() };
        Ok(self.verdict(&facts, provenance, profile))
    }

    fn unbound(self) -> Result<Verdict, Refusal> {
        let (facts, provenance) = self.proved()?;
        let image_sha256 = self.image(&facts, None)?;
        self.check_platform(&facts)?;
        let gpus = self.gpus(None)?;
        let profile = Profile { name: "unbound", role: None, image_sha256, claims: None, gpus };
        Ok(self.verdict(&facts, provenance, profile))
    }

    /// Steps 1 to 3.
    fn proved(&self) -> Result<(PlatformFacts, Provenance), Refusal> {
        check_sizes(self.exhibit)?;
        let rules = self.policy.rules();
        let format = self.exhibit.evidence.platform.format();
        rules.roots.check_format(format)?;
        let anchors = rules.roots.anchors(format);
        let roots = match format {
            Format::Tdx | Format::Sgx => Roots { intel: &anchors, amd: &[], nvidia: &[] },
            Format::SevSnp => Roots { intel: &[], amd: &anchors, nvidia: &[] },
        };
        let (facts, provenance) = verify::platform(
            &self.exhibit.evidence.platform,
            self.exhibit.collateral,
            roots,
            &self.intel_rules(),
            self.now_unix_s,
        )?;
        rules.freshness.check_collateral(&facts, self.now_unix_s)?;
        rules.attributes.check(&facts)?;
        Ok((facts, provenance))
    }

    fn intel_rules(&self) -> IntelRules {
        let rules = self.policy.rules();
        rules.tcb.intel_rules(&rules.platform, self.expected.tcb_evaluation_number_min)
    }

    /// Step 5.
    fn image(&self, facts: &PlatformFacts, role: Option<Role>) -> Result<Option<[u8; 32]>, Refusal> {
        let rules = self.policy.rules();
        rules.image.check(facts, self.exhibit.evidence, role, rules.root.as_ref())
    }

    /// Steps 6 and 7.
    fn check_platform(&self, facts: &PlatformFacts) -> Result<(), Refusal> {
        let rules = self.policy.rules();
        rules.tcb.check(facts, self.exhibit.collateral, self.expected.tcb_evaluation_number_min)?;
        rules.platform.check(&facts.identity)
    }

    fn check_is_a_vm(&self) -> Result<(), Refusal> {
        match self.exhibit.evidence.platform {
            PlatformEvidence::Tdx { .. } | PlatformEvidence::SevSnp { .. } => Ok(()),
            PlatformEvidence::Sgx { .. } => Err(Refusal::new(
                Check::Format,
                "evidence of a confidential VM",
                "a quote of an SGX enclave, which is never a peer",
                "the peer has to show its TDX quote or SEV-SNP report",
            )),
        }
    }

    fn check_report_data(&self, facts: &PlatformFacts) -> Result<(), Refusal> {
        let wanted = self.exhibit.binding.report_data(self.exhibit.claims);
        let equal = wanted.is_some_and(|wanted| bool::from(wanted.ct_eq(&facts.report_data)));
        if equal {
            return Ok(());
        }
        Err(Refusal::new(
            Check::ReportData,
            wanted.map_or_else(String::new, hex::encode),
            hex::encode(facts.report_data),
            "this evidence was made for another connection or other claims; if nobody is in between, the peer is broken",
        ))
    }

    /// `cocoon-v1` cannot prove what a caller may expect: a caller that does expect it must not be told "accepted".
    fn check_expects_no_claims(&self) -> Result<(), Refusal> {
        let wanted = [
            (self.expected.model.is_some(), Check::Model, "model"),
            (self.expected.payment_key.is_some(), Check::Identity, "payment key"),
            (self.expected.contract.is_some(), Check::Identity, "contract"),
        ];
        match wanted.into_iter().find(|(wanted, ..)| *wanted) {
            None => Ok(()),
            Some((_, check, what)) => Err(Refusal::new(
                check,
                format!("evidence that covers the peer's {what}"),
                "cocoon-v1, whose evidence covers its TLS key alone",
                "reach this peer with attested-v2",
            )),
        }
    }

    /// `cocoon-v1` covers a key. Whatever else came along would be passed on, and saved, as if it had been checked.
    fn check_shows_a_quote_alone(&self) -> Result<(), Refusal> {
        let Evidence { platform: _, event_log, manifest, gpus } = self.exhibit.evidence;
        if self.exhibit.claims.is_empty() && event_log.is_none() && manifest.is_none() && gpus.is_empty() {
            return Ok(());
        }
        Err(Refusal::new(
            Check::Profile,
            "a quote alone, since cocoon-v1 covers nothing else",
            "claims, a log, a manifest or GPUs beside it",
            "reach this peer with attested-v2",
        ))
    }

    /// Step 8.
    fn check_claims(&self, claims: &Claims, channel: &ChannelBinding) -> Result<(), Refusal> {
        let rules = self.policy.rules();
        let expected = self.expected;
        rules.role.check(claims.role, channel.role, expected.role)?;
        check_tls_key(claims, channel)?;
        rules.identity.check(claims, expected.payment_key.as_ref(), expected.contract.as_deref())?;
        rules.model.check(claims, expected.model.as_deref(), rules.root.as_ref())?;
        rules.freshness.check_claims(claims, self.now_unix_s)?;
        check_gpu_digest(claims, self.exhibit.evidence)
    }

    /// Step 9. Without a connection there is no nonce to compare.
    fn gpus(&self, nonce: Option<&[u8; 32]>) -> Result<Vec<GpuVerdict>, Refusal> {
        let rules = self.policy.rules();
        let gpus = &self.exhibit.evidence.gpus;
        rules.gpu.check_present(gpus.len())?;
        let anchors = rules.roots.gpu_anchors();
        if anchors.is_empty() && !gpus.is_empty() {
            return Err(Refusal::new(
                Check::Gpu,
                "no GPU evidence, since the policy has no root for it",
                format!("evidence of {} GPUs", gpus.len()),
                "add `gpu` to [roots] of the policy",
            ));
        }
        let mut devices = BTreeSet::new();
        gpus.iter()
            .map(|gpu| {
                let (facts, provenance) = verify::nvidia::gpu(gpu, &anchors, self.now_unix_s)?;
                check_is_another(&mut devices, &facts)?;
                if let Some(nonce) = nonce {
                    rules.gpu.check_nonce(&facts, nonce)?;
                }
                rules.gpu.check_mode(&facts)?;
                let stored = |id: &str| self.rims.reference_values(id).is_some();
                let reference_values = stored(&facts.rim_ids.0) && stored(&facts.rim_ids.1);
                rules.gpu.check_reference_values(reference_values, &facts)?;
                if reference_values {
                    compare(&facts, self.rims)?;
                }
                Ok(GpuVerdict {
                    provenance,
                    architecture: facts.architecture,
                    driver_version: facts.driver_version,
                    vbios_version: facts.vbios_version,
                    cc_mode: facts.cc_mode,
                    reference_values,
                })
            })
            .collect()
    }

    fn verdict(&self, facts: &PlatformFacts, provenance: Provenance, profile: Profile) -> Verdict {
        let (tcb_status, advisories, tcb_evaluation_number) = tcb(&facts.tcb);
        // A verdict is worth what the weakest of its roots is.
        let simulated_gpu = profile.gpus.iter().any(|gpu| gpu.provenance == Provenance::Simulated);
        let provenance = if simulated_gpu { Provenance::Simulated } else { provenance };
        Verdict {
            format: facts.format,
            provenance,
            root: facts.root,
            profile: profile.name.to_owned(),
            role: profile.role,
            image_sha256: profile.image_sha256,
            tcb_status,
            advisories,
            tcb_evaluation_number,
            platform: facts.identity.id(),
            claims: profile.claims,
            gpus: profile.gpus,
            policy_sha256: self.policy.sha256(),
            appraised_unix_s: self.now_unix_s,
            valid_until_unix_s: self.policy.rules().freshness.valid_until_unix_s(facts, self.now_unix_s),
        }
    }
}

fn tcb(tcb: &Tcb) -> (Option<TcbStatus>, Vec<String>, Option<u32>) {
    match tcb {
        Tcb::Intel { status, advisories, evaluation_number, .. } => {
            (Some(*status), advisories.clone(), Some(*evaluation_number))
        }
        Tcb::Amd { .. } => (None, Vec::new(), None),
    }
}

/// The same GPU twice would be counted, and shown, as two.
fn check_is_another(devices: &mut BTreeSet<[u8; 32]>, facts: &GpuFacts) -> Result<(), Refusal> {
    if devices.insert(facts.device) {
        return Ok(());
    }
    Err(Refusal::new(
        Check::Gpu,
        "evidence of each GPU once",
        format!("the GPU {} twice", hex::encode(facts.device)),
        "the peer's host shows it one GPU as several: restart the VM with GPUs of its own",
    ))
}

/// DER of an Ed25519 SubjectPublicKeyInfo, up to its key (RFC 8410).
const ED25519_SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

fn check_tls_key(claims: &Claims, channel: &ChannelBinding) -> Result<(), Refusal> {
    if channel.attester_spki.strip_prefix(&ED25519_SPKI_PREFIX) == Some(&claims.keys.tls) {
        return Ok(());
    }
    Err(Refusal::new(
        Check::Identity,
        "claims with the key of this TLS connection",
        format!("claims with TLS key {}", hex::encode(claims.keys.tls)),
        "the peer's program is broken, or somebody uses its evidence with another key",
    ))
}

fn check_gpu_digest(claims: &Claims, evidence: &Evidence) -> Result<(), Refusal> {
    let digest = gpu_digest(&evidence.gpus);
    if claims.gpu_sha256 == digest {
        return Ok(());
    }
    let text = |digest: Option<[u8; 32]>| digest.map_or_else(|| "no GPU evidence".to_owned(), hex::encode);
    Err(Refusal::new(
        Check::Gpu,
        format!("the GPU evidence that the claims name: {}", text(claims.gpu_sha256)),
        text(digest),
        "GPU evidence was added, removed or exchanged on the way",
    ))
}

/// Step 1. The caller has read all this from a peer; the bounds hold here too, so that they hold for everyone.
fn check_sizes(exhibit: Exhibit<'_>) -> Result<(), Refusal> {
    let evidence = exhibit.evidence;
    let platform = match &evidence.platform {
        PlatformEvidence::Tdx { quote } | PlatformEvidence::Sgx { quote } => quote.len(),
        PlatformEvidence::SevSnp { report, .. } => report.len(),
    };
    within("evidence", platform, QUOTE_BYTES_MAX)?;
    if let PlatformEvidence::SevSnp { certificates, .. } = &evidence.platform {
        within("certificates", total(certificates.iter().map(Vec::len)), CERTIFICATES_BYTES_MAX)?;
    }
    within("event log", evidence.event_log.as_ref().map_or(0, Vec::len), EVENT_LOG_BYTES_MAX)?;
    within("manifest", evidence.manifest.as_ref().map_or(0, Vec::len), MANIFEST_BYTES_MAX)?;
    within("claims", exhibit.claims.len(), CLAIMS_BYTES_MAX)?;
    within("collateral", collateral_bytes(exhibit.collateral), COLLATERAL_BYTES_MAX)?;
    within("list of GPUs", evidence.gpus.len(), GPUS_MAX)?;
    for gpu in &evidence.gpus {
        within("GPU report", gpu.report.len(), GPU_REPORT_BYTES_MAX)?;
        within("GPU certificate chain", gpu.certificate_chain.len(), CERTIFICATES_BYTES_MAX)?;
    }
    Ok(())
}

fn within(what: &str, found: usize, max: usize) -> Result<(), Refusal> {
    if found <= max {
        return Ok(());
    }
    Err(Refusal::new(
        Check::Size,
        format!("{what} of at most {max}"),
        found.to_string(),
        "no honest peer sends as much; if yours does, report it as a bug",
    ))
}

fn total(lengths: impl Iterator<Item = usize>) -> usize {
    lengths.fold(0, usize::saturating_add)
}

fn collateral_bytes(collateral: &Collateral) -> usize {
    match collateral {
        Collateral::Intel(intel) => total(
            [
                intel.pck_crl_issuer_chain.len(),
                intel.root_ca_crl.len(),
                intel.pck_crl.len(),
                intel.tcb_info_issuer_chain.len(),
                intel.tcb_info.len(),
                intel.tcb_info_signature.len(),
                intel.qe_identity_issuer_chain.len(),
                intel.qe_identity.len(),
                intel.qe_identity_signature.len(),
            ]
            .into_iter(),
        ),
        Collateral::Amd(amd) => total(
            [amd.leaf.as_ref().map_or(0, Vec::len), amd.chain.len(), amd.crl.as_ref().map_or(0, Vec::len)].into_iter(),
        ),
    }
}
