//! SEV-SNP attestation reports, versions 2 to 5.
//!
//! Layout: AMD SEV-SNP Firmware ABI Specification (56860), ATTESTATION_REPORT. Reserved fields that the signature
//! covers are skipped, because later firmware fills them; bytes that it does not cover must be zero. What is returned
//! is untrusted.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::{FormatError, Reader};
use crate::facts::{SnpMeasurements, SnpTcb};

/// Bytes of a report.
pub const REPORT_BYTES: usize = 1184;

/// How many of them the signature covers.
pub const SIGNED_BYTES: usize = 0x2a0;

/// The only signature scheme: ECDSA with P-384 and SHA-384.
const ALGORITHM_ECDSA_P384_SHA384: u32 = 1;

/// A parsed report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnpReport {
    /// 2 to 5.
    pub version: u32,
    /// The guest policy.
    pub policy: u64,
    /// The privilege level that asked for the report; the host itself is `0xffff_ffff`.
    pub vmpl: u32,
    /// PLATFORM_INFO.
    pub platform_info: u64,
    /// Which key signed.
    pub signing_key: SigningKey,
    /// 64 bytes of the guest's choice.
    pub report_data: [u8; 64],
    /// Everything measured.
    pub measurements: SnpMeasurements,
    /// The security versions that the host reports and the signing key is derived from.
    pub reported_tcb: u64,
    /// The security versions that firmware can be brought back to.
    pub committed_tcb: u64,
    /// The security versions at launch.
    pub launch_tcb: u64,
    /// The product, where the report tells: by CPUID since version 3, by the length of the chip id for some of version 2.
    pub product: Option<Product>,
    /// The chip; zero when masked.
    pub chip_id: [u8; 64],
    /// Over [`SIGNED_BYTES`]: raw r and s, big-endian.
    pub signature: [u8; 96],
}

/// A generation of processors, as AMD's key distribution service names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Product {
    /// EPYC 7003.
    Milan,
    /// EPYC 9004 and 8004: Genoa, Bergamo and Siena share one root.
    Genoa,
    /// EPYC 9005.
    Turin,
}

/// The key that signed a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SigningKey {
    /// The chip's own.
    Vcek,
    /// One that AMD issued to a cloud provider.
    Vlek,
}

impl SnpReport {
    /// Reads a report; zeros may follow it.
    ///
    /// # Errors
    /// When the bytes are no such report, or nobody signed it.
    pub fn parse(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut reader = Reader::new(bytes);
        let version = reader.u32("report version")?;
        if !(2..=5).contains(&version) {
            return Err(FormatError::Field { field: "report version", expected: "2 to 5", found: version.to_string() });
        }
        let guest_svn = reader.u32("GUEST_SVN")?;
        let policy = reader.u64("POLICY")?;
        let family_id = reader.array("FAMILY_ID")?;
        let image_id = reader.array("IMAGE_ID")?;
        let vmpl = reader.u32("VMPL")?;
        let algorithm = reader.u32("SIGNATURE_ALGO")?;
        if algorithm != ALGORITHM_ECDSA_P384_SHA384 {
            let found = algorithm.to_string();
            return Err(FormatError::Field { field: "SIGNATURE_ALGO", expected: "1 (ECDSA with P-384)", found });
        }
        reader.bytes("CURRENT_TCB", 8)?;
        let platform_info = reader.u64("PLATFORM_INFO")?;
        let signing_key = SigningKey::from_key_info(reader.u32("KEY_INFO")?)?;
        reader.bytes("reserved", 4)?;
        let report_data = reader.array("REPORT_DATA")?;
        let measurements = SnpMeasurements {
            measurement: reader.array("MEASUREMENT")?,
            host_data: reader.array("HOST_DATA")?,
            id_key_digest: reader.array("ID_KEY_DIGEST")?,
            author_key_digest: reader.array("AUTHOR_KEY_DIGEST")?,
            family_id,
            image_id,
            guest_svn,
        };
        reader.bytes("REPORT_ID and REPORT_ID_MA", 64)?;
        let reported_tcb = reader.u64("REPORTED_TCB")?;
        let [family, model, _stepping] = reader.array("CPUID")?;
        reader.bytes("reserved", 21)?;
        let chip_id = reader.array("CHIP_ID")?;
        let product = if version == 2 { Product::of_chip(&chip_id) } else { Some(Product::of_cpuid(family, model)?) };
        let committed_tcb = reader.u64("COMMITTED_TCB")?;
        reader.bytes("current and committed firmware version", 8)?;
        let launch_tcb = reader.u64("LAUNCH_TCB")?;
        // Mitigation vectors since version 5, reserved before.
        reader.bytes("mitigation vectors and reserved", 168)?;
        let signature = signature(&mut reader)?;
        reader.padding("signature")?;
        Ok(Self {
            version,
            policy,
            vmpl,
            platform_info,
            signing_key,
            report_data,
            measurements,
            reported_tcb,
            committed_tcb,
            launch_tcb,
            product,
            chip_id,
            signature,
        })
    }

    /// Whether the host hides which chip it is.
    #[must_use]
    pub fn chip_is_masked(&self) -> bool {
        self.chip_id.iter().all(|byte| *byte == 0)
    }
}

/// Two little-endian numbers of 72 bytes, of which P-384 uses 48, in 512 bytes.
fn signature(reader: &mut Reader<'_>) -> Result<[u8; 96], FormatError> {
    let mut signature = [0; 96];
    let (r, s) = signature.split_at_mut(48);
    for (name, out) in [("signature r", r), ("signature s", s)] {
        let mut little: [u8; 48] = reader.array(name)?;
        reader.zeros(name, 24)?;
        little.reverse();
        out.copy_from_slice(&little);
    }
    reader.zeros("signature padding", 368)?;
    Ok(signature)
}

impl SigningKey {
    /// Bits 4:2 of KEY_INFO; bit 1 (MASK_CHIP_KEY) means that nothing signed.
    fn from_key_info(key_info: u32) -> Result<Self, FormatError> {
        let masked = key_info & 0b10 != 0;
        match (masked, (key_info >> 2) & 0b111) {
            (false, 0) => Ok(Self::Vcek),
            (false, 1) => Ok(Self::Vlek),
            _ => {
                let found = format!("{key_info:#x}");
                Err(FormatError::Field { field: "KEY_INFO", expected: "a report signed by a VCEK or VLEK", found })
            }
        }
    }
}

impl Product {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Milan, Self::Genoa, Self::Turin];

    /// The name, as in AMD's certificates and addresses.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Milan => "Milan",
            Self::Genoa => "Genoa",
            Self::Turin => "Turin",
        }
    }

    /// The product of a certificate's product name, such as `Milan-B0`.
    #[must_use]
    pub fn from_certificate(name: &str) -> Option<Self> {
        let name = name.split('-').next()?;
        match name {
            "Bergamo" | "Siena" => Some(Self::Genoa),
            _ => Self::ALL.into_iter().find(|product| product.name() == name),
        }
    }

    /// By combined family and model.
    fn of_cpuid(family: u8, model: u8) -> Result<Self, FormatError> {
        match (family, model) {
            (0x19, 0x00..=0x0f) => Ok(Self::Milan),
            (0x19, 0x10..=0x1f | 0xa0..=0xaf) => Ok(Self::Genoa),
            (0x1a, 0x00..=0x11) => Ok(Self::Turin),
            _ => {
                let found = format!("family {family:#x} model {model:#x}");
                Err(FormatError::Field { field: "CPUID", expected: "Milan, Genoa or Turin", found })
            }
        }
    }

    /// Chip ids have 8 bytes since Turin and 64 before; a report of version 2 says nothing else.
    fn of_chip(chip_id: &[u8; 64]) -> Option<Self> {
        let (short, rest) = chip_id.split_first_chunk::<8>()?;
        let turin = rest.iter().all(|byte| *byte == 0) && short.iter().any(|byte| *byte != 0);
        turin.then_some(Self::Turin)
    }
}

impl SnpTcb {
    /// The components of a TCB version, whose places changed with Turin.
    #[must_use]
    pub const fn from_raw(raw: u64, product: Product) -> Self {
        let bytes = raw.to_le_bytes();
        match (product, bytes) {
            (Product::Milan | Product::Genoa, [boot_loader, tee, _, _, _, _, snp, microcode]) => {
                Self { fmc: None, boot_loader, tee, snp, microcode }
            }
            (Product::Turin, [fmc, boot_loader, tee, snp, _, _, _, microcode]) => {
                Self { fmc: Some(fmc), boot_loader, tee, snp, microcode }
            }
        }
    }
}
