//! The Intel side of a platform: root, PCK Platform CA, PCK certificate, TCB signing certificate, quoting enclave.
//!
//! ```text
//! Simulated SGX Root CA ─┬─ PCK Platform CA ── PCK certificate ── QE report ── attestation key ── TDX quotes
//!                        └─ TCB Signing ── TCB info, QE identity
//! ```
//!
//! Serial numbers, extensions and flags are as on real multi-package hosts (attestation.md, section 3.1): dynamic platform
//! and SMT are true, or a policy that refuses every real machine would pass all tests.

pub(crate) mod collateral;
pub(crate) mod pck;
pub(crate) mod quote;

use sha2::{Digest as _, Sha256};

use crate::pki::{Certificate, Holder, Key, Kind, Profile};
use crate::seed::Seed;

/// Family and model of simulated platforms: no real processor has it.
pub const FMSPC: [u8; 6] = [0xff, 0xc0, 0xc0, 0x00, 0x00, 0x00];

/// CPUSVN of simulated platforms.
pub(crate) const CPU_SVN: [u8; 16] = [2, 2, 2, 2, 4, 1, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0];
/// Version of the simulated provisioning enclave.
pub(crate) const PCE_SVN: u8 = 11;
/// TEE_TCB_SVN: SVN of the TDX module, its major version, SVN of the microcode.
pub(crate) const TEE_TCB_SVN: [u8; 16] = [5, 1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
/// Version of the simulated quoting enclave.
pub(crate) const QE_ISV_SVN: u16 = 4;
/// The product number of TD quoting enclaves.
pub(crate) const TD_QE_PRODUCT: u16 = 2;
/// The product number of SGX quoting enclaves.
pub(crate) const SGX_QE_PRODUCT: u16 = 1;
/// ATTRIBUTES of quoting enclaves: INIT and PROVISION_KEY.
pub(crate) const QE_ATTRIBUTES: u8 = 0x11;

const ROOT_CRL_URL: &str = "https://simulated.invalid/RootCA.der";
const PCK_CRL_URL: &str = "https://simulated.invalid/sgx/certification/v4/pckcrl?ca=platform&encoding=der";

/// All keys of the Intel side.
#[derive(Debug)]
pub(crate) struct Intel {
    pub(crate) root: Holder,
    pub(crate) platform_ca: Holder,
    pub(crate) pck: Holder,
    pub(crate) tcb_signing: Holder,
    pub(crate) attestation_key: Key,
    /// What the quoting enclave adds to the hash of its key.
    pub(crate) qe_auth_data: [u8; 32],
    pub(crate) ppid: [u8; 16],
}

impl Intel {
    pub(crate) fn new(seed: &Seed, created_unix_s: u64) -> Self {
        let profile =
            |common_name, kind, crl_url| Profile { common_name, kind, crl_url, extensions: Vec::new(), created_unix_s };
        let authority = |path_len| Kind::Authority { path_len: Some(path_len) };
        let ppid = *seed.derive("ppid");

        let root =
            Holder::root(seed.p256("intel root"), &profile("Simulated SGX Root CA", authority(1), Some(ROOT_CRL_URL)));
        let platform_ca = root.issue(
            seed.p256("pck platform ca"),
            &profile("Simulated SGX PCK Platform CA", authority(0), Some(ROOT_CRL_URL)),
        );
        let mut pck_profile = profile("Simulated SGX PCK Certificate", Kind::Leaf, Some(PCK_CRL_URL));
        pck_profile.extensions =
            vec![(pck::SGX_EXTENSION, pck::sgx_extension(&ppid, &seed.derive("platform instance")))];
        let pck = platform_ca.issue(seed.p256("pck"), &pck_profile);
        let tcb_signing =
            root.issue(seed.p256("tcb signing"), &profile("Simulated SGX TCB Signing", Kind::Leaf, Some(ROOT_CRL_URL)));
        let attestation_key = seed.p256("attestation key");
        Self { root, platform_ca, pck, tcb_signing, attestation_key, qe_auth_data: *seed.derive("qe auth data"), ppid }
    }

    /// Leaf first, root last: what quotes carry.
    pub(crate) fn pck_chain(&self) -> String {
        chain([&self.pck.certificate, &self.platform_ca.certificate, &self.root.certificate])
    }

    /// What comes with the PCK revocation list.
    pub(crate) fn platform_ca_chain(&self) -> String {
        chain([&self.platform_ca.certificate, &self.root.certificate])
    }

    /// What comes with TCB info and QE identity.
    pub(crate) fn tcb_signing_chain(&self) -> String {
        chain([&self.tcb_signing.certificate, &self.root.certificate])
    }
}

/// Who signed the simulated quoting enclaves.
pub(crate) fn qe_signer() -> [u8; 32] {
    Sha256::digest(b"simulated quoting enclave signer").into()
}

fn chain<'a>(certificates: impl IntoIterator<Item = &'a Certificate>) -> String {
    certificates.into_iter().map(Certificate::pem).collect()
}
