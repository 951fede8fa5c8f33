//! Simulated NVIDIA GPUs: a device chain of five P-384 certificates, signed SPDM reports, and their reference values.
//!
//! ```text
//! Device Identity CA ── GH100 Identity ── GH100 Provisioner ICA 1 ── GSP BROM ── GSP FMC LF ── reports
//! ```
//!
//! The report is Hopper's: SPDM 1.1 request and response with 64 measurements of 48 bytes (attestation.md, section 6.3;
//! DMTF DSP0274 1.1). It has no field for the mode of confidential computing. A GPU in DevTools mode is told by its
//! firmware, which measures differently from the reference values, and so is this one.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use cocoon_attest::evidence::GpuEvidence;
use cocoon_attest::rim::{ReferenceValues, RimStore};
use sha2::{Digest as _, Sha256, Sha384};

use crate::limits::GPUS_MAX;
use crate::pki::{Certificate, Holder, Kind, Profile, oid};
use crate::platform::Inner;
use crate::seed::Seed;

const DRIVER_VERSION: &str = "580.159.03";
const VBIOS_VERSION: [u8; 8] = [0x00, 0x74, 0x00, 0x96, 0x20, 0, 0, 0];
/// The same as RIM ids write it.
const VBIOS_VERSION_TEXT: &str = "9600740020";
const PROJECT: &str = "1010";
const PROJECT_SKU: &str = "0205";
const CHIP_SKU: &str = "862";
const NVDEC0_ENABLED: u8 = 0xaa;

/// Measurements of a Hopper report.
const MEASUREMENTS: u8 = 64;
/// Indices with a value, as reports count, that the driver's reference values have; the others are zero.
const DRIVER_INDICES: [u8; 4] = [10, 22, 26, 30];
/// The same for the VBIOS.
const VBIOS_INDICES: [u8; 8] = [2, 3, 4, 5, 6, 7, 8, 12];
/// The one that development firmware changes.
const DEVTOOLS_INDEX: u8 = 7;

/// TCG's DICE CompositeDeviceID, in Hopper's leaf certificates.
const DICE_DEVICE_ID: &[u64] = &[2, 23, 133, 5, 4, 1];
const SHA384_OID: &[u64] = &[2, 16, 840, 1, 101, 3, 4, 2, 2];
const CRL_URL: &str = "http://simulated.invalid/crl/l1-root.crl";

/// Authorities of all GPUs of a platform.
#[derive(Debug)]
pub(crate) struct Nvidia {
    pub(crate) root: Holder,
    identity: Holder,
    provisioner: Holder,
}

impl Nvidia {
    pub(crate) fn new(seed: &Seed, created_unix_s: u64) -> Self {
        let profile = |common_name| profile(common_name, Kind::Authority { path_len: None }, created_unix_s);
        let root = Holder::root(seed.p384("nvidia root"), &profile("Simulated NVIDIA Device Identity CA"));
        let identity = root.issue(seed.p384("nvidia identity"), &profile("GH100 Identity"));
        let provisioner = identity.issue(seed.p384("nvidia provisioner"), &profile("GH100 Provisioner ICA 1"));
        Self { root, identity, provisioner }
    }
}

/// One GPU with the key of its firmware.
#[derive(Debug)]
struct Device {
    boot_rom: Certificate,
    firmware: Holder,
    board: u8,
}

/// The GPUs of one machine.
#[derive(Clone)]
pub(crate) struct SimGpus {
    platform: Arc<Inner>,
    devices: Arc<[Device]>,
}

impl fmt::Debug for SimGpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimGpus").field("count", &self.devices.len()).finish_non_exhaustive()
    }
}

impl SimGpus {
    pub(crate) fn new(platform: Arc<Inner>, count: usize) -> Self {
        let devices = (0..u8::MAX).take(count.min(GPUS_MAX)).map(|board| Device::new(&platform, board)).collect();
        Self { platform, devices }
    }

    pub(crate) fn len(&self) -> usize {
        self.devices.len()
    }

    /// Every GPU's answer to a nonce.
    pub(crate) fn evidence(&self, nonce: [u8; 32]) -> Vec<GpuEvidence> {
        let faults = self.platform.faults.snapshot();
        let nonce = if faults.gpu_nonce_replayed { Sha256::digest(b"an earlier nonce").into() } else { nonce };
        self.devices
            .iter()
            .map(|device| GpuEvidence {
                report: device.report(nonce, faults.gpu_devtools),
                certificate_chain: self.chain(device),
            })
            .collect()
    }

    fn chain(&self, device: &Device) -> String {
        let nvidia = self.platform.nvidia();
        [
            &device.firmware.certificate,
            &device.boot_rom,
            &nvidia.provisioner.certificate,
            &nvidia.identity.certificate,
            &nvidia.root.certificate,
        ]
        .into_iter()
        .map(Certificate::pem)
        .collect()
    }
}

impl Device {
    fn new(platform: &Inner, board: u8) -> Self {
        let seed = &platform.seed;
        let boot_rom_profile = profile("GH100 A01 GSP BROM", Kind::Authority { path_len: None }, platform.made_unix_s);
        let boot_rom =
            platform.nvidia().provisioner.issue(seed.p384(&format!("gpu {board} boot rom")), &boot_rom_profile);
        let key = seed.p384(&format!("gpu {board} firmware"));
        let mut firmware_profile = profile("GH100 A01 GSP FMC LF", Kind::Leaf, platform.made_unix_s);
        firmware_profile.extensions = vec![(DICE_DEVICE_ID, composite_device_id(&key.spki()))];
        let firmware = boot_rom.issue(key, &firmware_profile);
        Self { boot_rom: boot_rom.certificate, firmware, board }
    }

    /// An SPDM request and the signed response to it.
    fn report(&self, nonce: [u8; 32], devtools: bool) -> Vec<u8> {
        let mut report = vec![0x11, 0xe0, 0x01, 0xff]; // SPDM 1.1, GET_MEASUREMENTS, signed, all of them.
        report.extend_from_slice(&nonce);
        report.push(0); // Slot.
        report.extend_from_slice(&[0x11, 0x60, 0, 0, MEASUREMENTS]);
        let record: Vec<u8> = (1..=MEASUREMENTS).flat_map(|index| measurement_block(index, devtools)).collect();
        let [a, b, c, _] = len32(&record);
        report.extend_from_slice(&[a, b, c]);
        report.extend_from_slice(&record);
        report.extend_from_slice(&Sha256::digest(nonce)); // The responder's nonce: the simulator needs no randomness.
        let opaque = self.opaque();
        report.extend_from_slice(&len16(&opaque));
        report.extend_from_slice(&opaque);
        let signature = self.firmware.key.sign_raw(&report);
        report.extend_from_slice(&signature);
        report
    }

    fn opaque(&self) -> Vec<u8> {
        let text = |text: &str| [text.as_bytes(), &[0]].concat();
        let fields: [(u16, Vec<u8>); 9] = [
            (6, VBIOS_VERSION.to_vec()),
            (14, vec![self.board, 4, 0, 0]),
            (15, text(CHIP_SKU)),
            (17, text(PROJECT)),
            (18, text(PROJECT_SKU)),
            (3, text(DRIVER_VERSION)),
            (11, vec![NVDEC0_ENABLED]),
            (20, firmware_id().to_vec()),
            (36, vec![0, 0]), // A single GPU.
        ];
        fields.iter().flat_map(|(id, value)| [id.to_le_bytes().as_slice(), &len16(value), value].concat()).collect()
    }
}

/// Reference values of simulated GPUs, as a verifier would take them from NVIDIA's RIMs.
#[derive(Debug, Clone, Copy, Default)]
pub struct SimRims;

impl RimStore for SimRims {
    fn reference_values(&self, rim_id: &str) -> Option<ReferenceValues> {
        let driver = format!("NV_GPU_DRIVER_GH100_{DRIVER_VERSION}");
        let vbios = format!("NV_GPU_VBIOS_{PROJECT}_{PROJECT_SKU}_{CHIP_SKU}_{VBIOS_VERSION_TEXT}");
        let indices: &[u8] = match rim_id {
            id if id == driver => &DRIVER_INDICES,
            id if id == vbios => &VBIOS_INDICES,
            _ => return None,
        };
        // RIMs count from 0, reports from 1.
        let values = indices.iter().map(|index| (index.saturating_sub(1), vec![measurement(*index, false).to_vec()]));
        Some(ReferenceValues { active: values.collect::<BTreeMap<_, _>>() })
    }
}

fn profile(common_name: &str, kind: Kind, created_unix_s: u64) -> Profile<'_> {
    let crl_url = match kind {
        Kind::Authority { .. } => Some(CRL_URL),
        Kind::Leaf => None,
    };
    Profile { common_name, kind, crl_url, extensions: Vec::new(), created_unix_s }
}

fn measurement(index: u8, devtools: bool) -> [u8; 48] {
    if !DRIVER_INDICES.contains(&index) && !VBIOS_INDICES.contains(&index) {
        return [0; 48];
    }
    let firmware = if devtools && index == DEVTOOLS_INDEX { "development" } else { "production" };
    Sha384::digest(format!("simulated GPU, {firmware} firmware, measurement {index}")).into()
}

/// DMTF's form of a digest of mutable firmware.
fn measurement_block(index: u8, devtools: bool) -> Vec<u8> {
    const DMTF: u8 = 1;
    const MUTABLE_FIRMWARE: u8 = 1;
    let value = measurement(index, devtools);
    let block = [[MUTABLE_FIRMWARE].as_slice(), &len16(&value), &value].concat();
    [[index, DMTF].as_slice(), &len16(&block), &block].concat()
}

fn firmware_id() -> [u8; 48] {
    Sha384::digest(b"simulated GPU firmware").into()
}

/// Version, public key, and the firmware's digest at the end.
fn composite_device_id(spki: &[u8]) -> Vec<u8> {
    yasna::construct_der(|w| {
        w.write_sequence(|w| {
            w.next().write_u8(1);
            w.next().write_der(spki);
            w.next().write_sequence(|w| {
                w.next().write_oid(&oid(SHA384_OID));
                w.next().write_bytes(&firmware_id());
            });
        });
    })
}

fn len16(bytes: &[u8]) -> [u8; 2] {
    u16::try_from(bytes.len()).expect("fields of a GPU report are below 64 KiB").to_le_bytes()
}

fn len32(bytes: &[u8]) -> [u8; 4] {
    u32::try_from(bytes.len()).expect("a GPU report has some KiB").to_le_bytes()
}
