//! GPU reports, before the verifier of NVIDIA's.

use cocoon_attest::evidence::GpuEvidence;
use cocoon_attest::provider::Attester as _;
use cocoon_attest::rim::compare;
use cocoon_attest::roots::TrustAnchor;
use cocoon_attest::verify::nvidia;
use cocoon_attest::{Check, GpuFacts, Provenance, Refusal, Role, roots};
use cocoon_simtee::{Platform, SimImage, SimRims, TdOptions};

use crate::{NOW, refused};

const NONCE: [u8; 32] = [7; 32];

async fn gpus(platform: &Platform, count: usize) -> Vec<GpuEvidence> {
    let td = platform.td(TdOptions::new(SimImage::for_role(Role::Worker)).gpus(count));
    td.gpu_evidence(NONCE).await.unwrap()
}

fn verify(platform: &Platform, gpu: &GpuEvidence) -> Result<(GpuFacts, Provenance), Refusal> {
    let root = TrustAnchor::simulated_pem(&platform.nvidia_root_pem()).unwrap();
    nvidia::gpu(gpu, &[root], NOW)
}

#[tokio::test]
async fn every_gpu_is_accepted_and_matches_its_reference_values() {
    let platform = Platform::generate(NOW);
    let gpus = gpus(&platform, 2).await;
    assert_eq!(gpus.len(), 2);
    assert_ne!(gpus[0].certificate_chain, gpus[1].certificate_chain);
    for gpu in &gpus {
        let (facts, provenance) = verify(&platform, gpu).unwrap();
        assert_eq!(provenance, Provenance::Simulated);
        assert_eq!((facts.nonce, facts.architecture.as_str()), (NONCE, "GH100"));
        assert_eq!(facts.rim_ids.0, "NV_GPU_DRIVER_GH100_580.159.03");
        assert_eq!(facts.rim_ids.1, "NV_GPU_VBIOS_1010_0205_862_9600740020");
        assert_eq!(facts.measurements.len(), 64);
        compare(&facts, &SimRims).unwrap();
    }
}

#[tokio::test]
async fn a_gpu_under_another_root_is_refused() {
    let (platform, other) = (Platform::generate(NOW), Platform::generate(NOW));
    let gpus = gpus(&platform, 1).await;
    refused(verify(&other, &gpus[0]), Check::Root);
    refused(nvidia::gpu(&gpus[0], &[roots::nvidia()], NOW), Check::Root);
}

#[tokio::test]
async fn a_replayed_gpu_report_shows_another_nonce() {
    let platform = Platform::generate(NOW);
    platform.faults().set(|faults| faults.gpu_nonce_replayed = true);
    let (facts, _) = verify(&platform, &gpus(&platform, 1).await[0]).unwrap();
    assert_ne!(facts.nonce, NONCE);
}

#[tokio::test]
async fn a_gpu_in_devtools_mode_does_not_match_its_reference_values() {
    let platform = Platform::generate(NOW);
    platform.faults().set(|faults| faults.gpu_devtools = true);
    let (facts, _) = verify(&platform, &gpus(&platform, 1).await[0]).unwrap();
    refused(compare(&facts, &SimRims), Check::Gpu);
}

#[tokio::test]
async fn a_gpu_report_with_one_flipped_bit_is_refused() {
    let platform = Platform::generate(NOW);
    let mut gpu = gpus(&platform, 1).await.remove(0);
    gpu.report[10] ^= 1;
    refused(verify(&platform, &gpu), Check::Signature);
}
