//! The whole appraisal, with the policy that `cocoon up` writes.

use cocoon_attest::policy::link::Mode;
use cocoon_attest::policy::template::{Images, Simulated, simulated};
use cocoon_attest::provider::Attester;
use cocoon_attest::{
    Binding, ChannelBinding, Check, Claims, Exhibit, Expected, Policy, Provenance, PublicKeys, Refusal, Role, Verdict,
    appraise, claims::gpu_digest,
};
use cocoon_simtee::{Faults, Platform, SimImage, TdOptions};

use crate::{NOW, collateral, kept_platform, refused};

const TLS_KEY: [u8; 32] = [1; 32];
/// What comes before the key in the SubjectPublicKeyInfo of Ed25519 (RFC 8410, section 4).
const ED25519_SPKI_PREFIX: &[u8] = &[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// Who shows evidence, what is wrong with it, and the check that finds out.
type Case<'a> = (&'a dyn Attester, fn(&mut Faults), Check);

fn policy(platform: &Platform, image: &SimImage) -> Policy {
    let text = simulated(&Simulated {
        name: "test",
        tdx_root_pem: Some(&platform.root_pem()),
        sev_snp_root_pem: Some(&platform.amd_root_pem()),
        gpu_root_pem: Some(&platform.nvidia_root_pem()),
        images: Images::Of(&[image.manifest().sha256()]),
        roles: &[Role::Worker],
        mode: Mode::Strict,
    });
    Policy::from_toml(&text).unwrap()
}

async fn appraise_live(platform: &Platform, attester: &dyn Attester, policy: &Policy) -> Result<Verdict, Refusal> {
    let channel = ChannelBinding {
        role: Role::Worker,
        attester_spki: [ED25519_SPKI_PREFIX, &TLS_KEY].concat(),
        verifier_certificate_sha256: [2; 32],
        nonce: [3; 32],
        exporter: [4; 32],
    };
    let gpus = attester.gpu_evidence(channel.gpu_nonce()).await.unwrap();
    let key = [5; 32];
    let claims = Claims {
        version: 1,
        role: Role::Worker,
        instance: [6; 16],
        boot: [7; 16],
        time_unix_s: NOW,
        config_sha256: [8; 32],
        model: Some("model".to_owned()),
        contract: None,
        keys: PublicKeys { tls: TLS_KEY, session: key, receipt: key, payment: key, wallet: key },
        gpu_sha256: gpu_digest(&gpus),
    };
    let claims = claims.encode();
    let mut evidence = attester.evidence(channel.report_data(claims.as_bytes())).await.unwrap();
    evidence.gpus = gpus;
    let exhibit = Exhibit {
        evidence: &evidence,
        claims: claims.as_bytes(),
        binding: &Binding::AttestedV2(channel),
        collateral: &*collateral(platform, &evidence).await,
    };
    appraise(policy, exhibit, &Expected { role: Some(Role::Worker), ..Expected::default() }, NOW)
}

#[tokio::test]
async fn guests_of_both_kinds_pass_the_policy_of_cocoon_up() {
    let platform = kept_platform("one");
    let image = SimImage::for_role(Role::Worker);
    let policy = policy(&platform, &image);
    let td = platform.td(TdOptions::new(image.clone()).gpus(1));
    let guest = platform.snp_guest(image.clone()).gpus(1);
    for attester in [&td as &dyn Attester, &guest] {
        let verdict = appraise_live(&platform, attester, &policy).await.unwrap();
        assert_eq!(verdict.provenance, Provenance::Simulated);
        assert_eq!(verdict.image_sha256, Some(image.manifest().sha256()));
        assert_eq!(verdict.gpus.len(), 1);
    }
}

#[tokio::test]
async fn guests_with_faults_do_not() {
    let platform = kept_platform("one");
    let image = SimImage::for_role(Role::Worker);
    let policy = policy(&platform, &image);
    let td = platform.td(TdOptions::new(image.clone()).gpus(1));
    let guest = platform.snp_guest(image).gpus(1);
    let cases: [Case<'_>; 7] = [
        (&td, |faults| faults.debug_guest = true, Check::Attributes),
        (&guest, |faults| faults.debug_guest = true, Check::Attributes),
        (&guest, |faults| faults.migratable_guest = true, Check::Attributes),
        (&td, |faults| faults.pck_revoked = true, Check::Revocation),
        (&guest, |faults| faults.ask_revoked = true, Check::Revocation),
        (&td, |faults| faults.gpu_nonce_replayed = true, Check::Gpu),
        (&guest, |faults| faults.gpu_nonce_replayed = true, Check::Gpu),
    ];
    for (attester, fault, check) in cases {
        platform.faults().clear();
        platform.faults().set(fault);
        refused(appraise_live(&platform, attester, &policy).await, check);
    }
}

#[tokio::test]
async fn another_image_on_the_same_platform_is_refused() {
    let platform = kept_platform("one");
    let policy = policy(&platform, &SimImage::for_role(Role::Worker));
    let td = platform.td(TdOptions::new(SimImage::new("somebody's", b"")).gpus(1));
    refused(appraise_live(&platform, &td, &policy).await, Check::Image);
}
