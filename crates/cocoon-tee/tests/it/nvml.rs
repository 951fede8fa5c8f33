//! NVIDIA's management library: ours in C, compiled here, and the real one where there is a GPU.

use std::path::{Path, PathBuf};
use std::process::Command;

use cocoon_attest::EvidenceError;
use cocoon_attest::facts::CcMode;
use cocoon_tee::attester::{GpuMode, Nvml};

/// Builds the fake library; `None` on a machine without a C compiler, where these tests have nothing to say.
fn build(folder: &Path, defines: &[&str]) -> Option<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/fake_nvml.c");
    let library = folder.join("libfake-nvml.so");
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(source);
    let status = compiler.args(defines.iter().map(|define| format!("-D{define}"))).status().ok()?;
    assert!(status.success(), "the fake library does not compile");
    Some(library)
}

fn load(defines: &[&str]) -> Option<Result<Option<Nvml>, EvidenceError>> {
    let folder = tempfile::tempdir().unwrap();
    build(folder.path(), defines).map(Nvml::load)
}

#[test]
fn every_gpu_answers_for_the_nonce() {
    let Some(loaded) = load(&[]) else { return };
    let nvml = loaded.unwrap().unwrap();
    assert_eq!(nvml.mode().unwrap(), GpuMode { count: 2, mode: CcMode::On });
    let evidence = nvml.evidence([7; 32]).unwrap();
    assert_eq!(evidence.len(), 2);
    for (index, gpu) in evidence.iter().enumerate() {
        assert_eq!(gpu.report[..32], [7; 32]);
        assert_eq!(gpu.report[32..37], *format!("gpu {index}").as_bytes());
        assert_eq!(gpu.certificate_chain, "-----BEGIN CERTIFICATE-----", "without the terminator");
    }
}

#[test]
fn no_library_no_driver_or_no_gpu_means_no_gpus() {
    assert!(Nvml::load("/nonexistent/libnvidia-ml.so.1").unwrap().is_none());
    for defines in [&["INIT=9"][..], &["COUNT=0"]] {
        let Some(loaded) = load(defines) else { return };
        assert!(loaded.unwrap().is_none(), "{defines:?}");
    }
}

#[test]
fn a_library_that_does_not_work_is_not_taken_for_no_gpus() {
    for (defines, expected) in [
        (&["TOO_OLD"][..], "too old"),
        (&["INIT=999"], "nvmlInit answers 999"),
        (&["COUNT=17"], "17 GPUs"),
        (&["COUNT=0xffffffffu"], "4294967295 GPUs"),
    ] {
        let Some(loaded) = load(defines) else { return };
        let error = loaded.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_size_beyond_the_buffer_is_refused() {
    for (define, expected) in
        [("REPORT_SIZE=0x2001", "8193 bytes"), ("REPORT_SIZE=0xffffffff", "in a buffer"), ("REPORT_SIZE=0", "empty")]
    {
        let Some(loaded) = load(&[define]) else { return };
        let error = loaded.unwrap().unwrap().evidence([0; 32]).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
#[ignore = "needs an NVIDIA driver"]
fn the_real_library_answers() {
    let nvml = Nvml::load("libnvidia-ml.so.1").unwrap().expect("a GPU");
    println!("{:?}", nvml.mode());
    match nvml.evidence([7; 32]) {
        Ok(evidence) => {
            for gpu in &evidence {
                println!("report {} bytes, chain {} bytes", gpu.report.len(), gpu.certificate_chain.len());
                assert!(gpu.report.windows(32).any(|window| window == [7; 32]));
            }
        }
        Err(error) => println!("{error}"),
    }
}
