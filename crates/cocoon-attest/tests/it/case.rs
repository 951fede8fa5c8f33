//! A connection between a verifier and a simulated peer, as it is and as attackers make it.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use cocoon_attest::collateral::CollateralNeed;
use cocoon_attest::policy::Mode;
use cocoon_attest::policy::template::{self, Images, Simulated};
use cocoon_attest::provider::{Attester as _, CollateralSource as _};
use cocoon_attest::{
    Binding, ChannelBinding, Check, Claims, Collateral, Evidence, Exhibit, Expected, Policy, PublicKeys, Refusal, Role,
    Verdict, appraise, verify,
};
use cocoon_simtee::{Platform, SimImage, SimTd, TdOptions};

/// 2026-11-22, in seconds since the Unix epoch: the time of these tests.
pub(crate) const NOW: u64 = 1_795_305_600;

pub(crate) const DAY_S: u64 = 86_400;

/// Everything that goes into one appraisal.
pub(crate) struct Case {
    pub(crate) platform: Platform,
    pub(crate) td: SimTd,
    pub(crate) claims: Claims,
    pub(crate) channel: ChannelBinding,
    pub(crate) policy: String,
    pub(crate) expected: Expected,
    pub(crate) now_unix_s: u64,
}

impl Case {
    /// An honest node of this role, before a verifier that expects it.
    pub(crate) fn honest(role: Role) -> Self {
        let platform = Platform::from_seed([1; 32], NOW);
        let td = platform.td(TdOptions::new(SimImage::for_role(role)));
        let channel = ChannelBinding {
            role,
            attester_spki: spki([0x11; 32]),
            verifier_certificate_sha256: [3; 32],
            nonce: [4; 32],
            exporter: [5; 32],
        };
        let manifests = [Role::Proxy, Role::Worker].map(|role| SimImage::for_role(role).manifest().sha256());
        let policy = template::simulated(&Simulated {
            name: "test",
            tdx_root_pem: Some(&platform.root_pem()),
            sev_snp_root_pem: None,
            gpu_root_pem: None,
            images: Images::Of(&manifests),
            roles: &[Role::Proxy, Role::Worker],
            mode: Mode::Strict,
        });
        let expected = Expected { role: Some(role), ..Expected::default() };
        Self { platform, td, claims: claims(role), channel, policy, expected, now_unix_s: NOW }
    }

    /// Replaces a part of the policy that is there once.
    #[track_caller]
    pub(crate) fn change_policy(&mut self, from: &str, to: &str) {
        assert_eq!(self.policy.matches(from).count(), 1, "{from:?} once in\n{}", self.policy);
        self.policy = self.policy.replace(from, to);
    }

    pub(crate) fn policy(&self) -> Policy {
        Policy::from_toml(&self.policy).unwrap()
    }

    pub(crate) fn binding(&self) -> Binding {
        Binding::AttestedV2(self.channel.clone())
    }

    /// Fresh evidence for this connection and these claims.
    pub(crate) fn evidence(&self) -> Evidence {
        now(self.td.evidence(self.channel.report_data(self.claims.encode().as_bytes()))).unwrap()
    }

    pub(crate) fn collateral(&self) -> Arc<Collateral> {
        let need: CollateralNeed = verify::collateral_need(&self.evidence().platform).unwrap();
        now(self.platform.collateral_source().collateral(&need, self.now_unix_s)).unwrap()
    }

    pub(crate) fn appraise(&self) -> Result<Verdict, Refusal> {
        self.appraise_evidence(&self.evidence())
    }

    pub(crate) fn appraise_evidence(&self, evidence: &Evidence) -> Result<Verdict, Refusal> {
        self.appraise_bound(evidence, self.claims.encode().as_bytes(), &self.binding())
    }

    pub(crate) fn appraise_bound(
        &self,
        evidence: &Evidence,
        claims: &[u8],
        binding: &Binding,
    ) -> Result<Verdict, Refusal> {
        let exhibit = Exhibit { evidence, claims, binding, collateral: &self.collateral() };
        appraise(&self.policy(), exhibit, &self.expected, self.now_unix_s)
    }

    #[track_caller]
    pub(crate) fn accepted(&self) -> Verdict {
        self.appraise().unwrap_or_else(|refusal| panic!("{refusal}"))
    }

    #[track_caller]
    pub(crate) fn refused(&self, check: Check) -> Refusal {
        refused(self.appraise(), check)
    }
}

/// Asserts which check refused.
#[track_caller]
pub(crate) fn refused<T: std::fmt::Debug>(result: Result<T, Refusal>, check: Check) -> Refusal {
    let refusal = result.expect_err("refused");
    assert_eq!(refusal.check, check, "{refusal}");
    assert!(!refusal.remedy.is_empty() && !refusal.expected.is_empty(), "{refusal}");
    refusal
}

/// The claims of a node in order.
pub(crate) fn claims(role: Role) -> Claims {
    Claims {
        version: 1,
        role,
        instance: [6; 16],
        boot: [7; 16],
        time_unix_s: NOW,
        config_sha256: [8; 32],
        model: (role == Role::Worker).then(|| "acme/small@1a2b:3c4d".to_owned()),
        contract: (role == Role::Proxy).then(|| format!("0:{}", "ab".repeat(32))),
        keys: PublicKeys {
            tls: [0x11; 32],
            session: [0x12; 32],
            receipt: [0x13; 32],
            payment: [0x14; 32],
            wallet: [0x15; 32],
        },
        gpu_sha256: None,
    }
}

/// The SubjectPublicKeyInfo of an Ed25519 key.
pub(crate) fn spki(key: [u8; 32]) -> Vec<u8> {
    let mut spki = vec![0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
    spki.extend_from_slice(&key);
    spki
}

/// The simulated platform answers at once, so no runtime is needed.
pub(crate) fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("the simulated platform waits for nothing"),
    }
}
