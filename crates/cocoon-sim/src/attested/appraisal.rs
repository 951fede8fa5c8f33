//! Appraising one TDX quote, beside the bare library call with the same root, collateral and policy.

use std::sync::Arc;

use cocoon_attest::policy::Mode;
use cocoon_attest::{
    Attester as _, Binding, ChannelBinding, Collateral, CollateralSource as _, Exhibit, Expected, PlatformEvidence,
    Role, appraise,
};
use cocoon_net::Identity;
use cocoon_simtee::SimImage;
use dcap_qvl::verify::QuoteVerifier;
use dcap_qvl::{QuoteCollateralV3, QuotePolicy};

use super::stage::{NOW_UNIX_S, Stage, claims};
use super::{AppraisalCost, AttestConfig, Failure, cpu_us, median};

/// Verifications in one sample.
const BATCH: u32 = 20;

pub(super) async fn measure(stage: &Stage, config: AttestConfig) -> Result<Vec<AppraisalCost>, Failure> {
    let now_unix_s = u64::from(NOW_UNIX_S);
    let policy = stage.policy(Role::Proxy, Mode::Strict)?;
    let identity = Identity::new(&[9; 32], now_unix_s)?;
    let claims = claims(Role::Proxy, identity.public_key(), now_unix_s).encode();
    let binding = ChannelBinding {
        role: Role::Proxy,
        attester_spki: identity.spki().to_vec(),
        verifier_certificate_sha256: [1; 32],
        nonce: [2; 32],
        exporter: [3; 32],
    };
    let td = stage.platform.td(SimImage::for_role(Role::Proxy));
    let evidence = td.evidence(binding.report_data(claims.as_bytes())).await?;
    let need = cocoon_attest::verify::collateral_need(&evidence.platform)?;
    let collateral: Arc<Collateral> = stage.platform.collateral_source().collateral(&need, now_unix_s).await?;
    let binding = Binding::AttestedV2(binding);

    let (PlatformEvidence::Tdx { quote }, Collateral::Intel(intel)) = (&evidence.platform, &*collateral) else {
        return Err("the simulated platform shows TDX quotes".into());
    };
    let bare_collateral = QuoteCollateralV3::from(intel);
    let bare_policy = QuotePolicy::strict(now_unix_s).allow_dynamic_platform(true).allow_smt(true);
    let root = stage.platform.root_der().to_vec();
    let bare = || -> Result<(), Failure> {
        let verifier = QuoteVerifier::new(root.clone());
        verifier.verify_with_policy(quote, &bare_collateral, now_unix_s, &bare_policy)?;
        Ok(())
    };
    let exhibit =
        Exhibit { evidence: &evidence, claims: claims.as_bytes(), binding: &binding, collateral: &collateral };
    let expected = Expected { role: Some(Role::Proxy), ..Expected::default() };
    let ours = || -> Result<(), Failure> { Ok(appraise(&policy, exhibit, &expected, now_unix_s).map(drop)?) };

    let (mut bare_us, mut ours_us) = (Vec::new(), Vec::new());
    for _ in 0..config.rounds {
        bare_us.push(batch(bare)?);
        ours_us.push(batch(ours)?);
    }
    Ok(vec![AppraisalCost { evidence: "TDX quote, version 4", bare_us: median(bare_us), ours_us: median(ours_us) }])
}

fn batch(work: impl Fn() -> Result<(), Failure>) -> Result<f64, Failure> {
    let before = cpu_us()?;
    for _ in 0..BATCH {
        work()?;
    }
    Ok((cpu_us()? - before) / f64::from(BATCH))
}
