//! NVIDIA GPUs: a report and a certificate chain in, facts out.
//!
//! 1. Sizes, then the parse of the report ([`crate::evidence::spdm`]) and of the five certificates: leaf, boot ROM,
//!    provisioner, architecture, root.
//! 2. The last certificate is, byte for byte, a pinned root. Nothing else is trusted because it is self-signed.
//! 3. Every certificate is within its dates, is signed by the next with ECDSA P-384 and SHA-384, and may be used so:
//!    certificate authorities sign certificates and the leaf does not.
//! 4. The leaf signed the report, request included.
//! 5. The firmware id in the report is the one that the boot ROM certified with the leaf (FWID): the key belongs to
//!    the firmware that measures.
//!
//! Not here: the comparison of the nonce, of the measurements with reference values ([`crate::rim`]), and revocation,
//! which NVIDIA answers only online (OCSP).
//!
//! **The mode of confidential computing is not in the report.** Opaque field 36 tells single from multiple GPUs and
//! protected PCIe apart, 21 protected PCIe from none; no field that NVIDIA documents tells development mode. So
//! [`GpuFacts::cc_mode`] is `None` here. What stands in for it: the driver of the measured image asks NVML and refuses
//! to serve unless the mode is `on`, and firmware in development mode measures differently from its reference values.
//!
//! attestation.md, section 6.3.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use p384::ecdsa::signature::Verifier as _;
use p384::ecdsa::{Signature, VerifyingKey};
use sha2::{Digest as _, Sha256};
use x509_parser::asn1_rs::{Any, Class, FromDer as _, Oid, Tag, oid};
use x509_parser::certificate::X509Certificate;
use x509_parser::oid_registry::{
    OID_NIST_EC_P384, OID_NIST_HASH_SHA384, OID_SIG_ECDSA_WITH_SHA384, OID_X509_EXT_BASIC_CONSTRAINTS,
    OID_X509_EXT_KEY_USAGE,
};
use x509_parser::pem::Pem;

use crate::evidence::GpuEvidence;
use crate::evidence::spdm::{SpdmReport, opaque};
use crate::facts::{GpuFacts, RootId};
use crate::limits::{CERTIFICATES_BYTES_MAX, GPU_REPORT_BYTES_MAX};
use crate::refusal::{Check, Refusal};
use crate::roots::{TrustAnchor, root_id};
use crate::verdict::Provenance;

/// Leaf, boot ROM, provisioner, architecture, root.
const CHAIN_LEN: usize = 5;
/// The TCG's DICE extensions, below which firmware ids are.
const DICE: Oid<'static> = oid!(2.23.133.5.4);
/// Hopper's: it ends with the firmware id.
const DICE_HOPPER: Oid<'static> = oid!(2.23.133.5.4.1);
/// Blackwell's: DICE `TcbInfo`, with a list of firmware ids.
const DICE_TCB_INFO: Oid<'static> = oid!(2.23.133.5.4.1.1);
/// `fwids` in DICE `TcbInfo`.
const FWIDS_TAG: u32 = 6;
/// SHA-384.
const FWID_LEN: usize = 48;
/// Texts of the report that go into facts: versions and part numbers.
const TEXT_BYTES_MAX: usize = 32;

/// Verifies the evidence of one GPU.
///
/// # Errors
/// The first step that refuses.
pub fn gpu(evidence: &GpuEvidence, roots: &[TrustAnchor], now_unix_s: u64) -> Result<(GpuFacts, Provenance), Refusal> {
    sizes(evidence)?;
    let report = SpdmReport::parse(&evidence.report).map_err(|error| unreadable(error.to_string()))?;
    let ders = pem_chain(&evidence.certificate_chain)?;
    let chain = certificates(&ders)?;
    let [leaf, boot_rom, .., root] = chain.as_slice() else {
        return Err(unreadable("no certificate"));
    };
    let anchor = pinned(root, roots)?;
    verify_chain(&chain, now_unix_s)?;
    verify_report(&report, leaf)?;
    verify_firmware_id(&report, leaf)?;
    let device = Sha256::digest(&boot_rom.public_key().subject_public_key.data).into();
    Ok((facts(&report, leaf, anchor.id, device)?, anchor.provenance))
}

fn sizes(evidence: &GpuEvidence) -> Result<(), Refusal> {
    let checks = [
        ("report", evidence.report.len(), GPU_REPORT_BYTES_MAX),
        ("certificate chain", evidence.certificate_chain.len(), CERTIFICATES_BYTES_MAX),
    ];
    for (what, len, max) in checks {
        if len > max {
            let expected = format!("a GPU {what} of at most {max} bytes");
            return Err(Refusal::new(Check::Size, expected, format!("{len} bytes"), COLLECT));
        }
    }
    Ok(())
}

/// The certificates as DER, leaf first. Text between them is ignored, as PEM has it.
fn pem_chain(text: &str) -> Result<Vec<Vec<u8>>, Refusal> {
    let mut ders = Vec::new();
    for pem in Pem::iter_from_buffer(text.as_bytes()) {
        let pem = pem.map_err(|error| unreadable(format!("PEM: {error}")))?;
        if pem.label != "CERTIFICATE" || ders.len() == CHAIN_LEN {
            return Err(unreadable("something else than five certificates"));
        }
        ders.push(pem.contents);
    }
    if ders.len() != CHAIN_LEN {
        return Err(unreadable(format!("{} certificates instead of five", ders.len())));
    }
    Ok(ders)
}

fn certificates(ders: &[Vec<u8>]) -> Result<Vec<X509Certificate<'_>>, Refusal> {
    ders.iter()
        .map(|der| match X509Certificate::from_der(der) {
            Ok(([], certificate)) => Ok(certificate),
            Ok(_) => Err(unreadable("bytes after a certificate")),
            Err(error) => Err(unreadable(format!("a certificate: {error}"))),
        })
        .collect()
}

fn pinned<'a>(root: &X509Certificate<'_>, roots: &'a [TrustAnchor]) -> Result<&'a TrustAnchor, Refusal> {
    roots.iter().find(|anchor| anchor.certificate_der == root.as_raw()).ok_or_else(|| {
        Refusal::new(
            Check::Root,
            "a GPU certificate chain that ends in a root of the policy",
            root_id(root).to_string(),
            "add the root to the policy if its GPUs shall be accepted",
        )
    })
}

/// Dates, signatures and uses of every certificate, the root's own included.
fn verify_chain(chain: &[X509Certificate<'_>], now_unix_s: u64) -> Result<(), Refusal> {
    for (position, certificate) in chain.iter().enumerate() {
        verify_dates(certificate, now_unix_s)?;
        verify_use(certificate, position)?;
        // The root is pinned, and its own issuer.
        let issuer = chain.get(position.saturating_add(1)).unwrap_or(certificate);
        verify_issued(certificate, issuer)?;
    }
    Ok(())
}

fn verify_dates(certificate: &X509Certificate<'_>, now_unix_s: u64) -> Result<(), Refusal> {
    let validity = certificate.validity();
    let now = i64::try_from(now_unix_s).unwrap_or(i64::MAX);
    if validity.not_before.timestamp() <= now && now <= validity.not_after.timestamp() {
        return Ok(());
    }
    Err(Refusal::new(
        Check::Signature,
        "a GPU certificate within its dates",
        format!("one from {} to {} at {now_unix_s} s", validity.not_before, validity.not_after),
        "check the clock on both sides",
    ))
}

/// An authority signs certificates, and no more of them below it than it may; a leaf signs reports.
fn verify_use(certificate: &X509Certificate<'_>, position: usize) -> Result<(), Refusal> {
    let usage = certificate.key_usage().map_err(|error| unreadable(format!("key usage: {error}")))?;
    let constraints = certificate.basic_constraints().map_err(|error| unreadable(format!("constraints: {error}")))?;
    let is_authority = constraints.as_ref().is_some_and(|constraints| constraints.value.ca);
    let fits = match position.checked_sub(1) {
        None => !is_authority && usage.is_some_and(|usage| usage.value.digital_signature()),
        Some(authorities_below) => {
            let path_len = constraints.and_then(|constraints| constraints.value.path_len_constraint);
            let path_fits = path_len.is_none_or(|max| usize::try_from(max).is_ok_and(|max| authorities_below <= max));
            is_authority && path_fits && usage.is_some_and(|usage| usage.value.key_cert_sign())
        }
    };
    if !fits {
        return Err(chain_refused("certificates used as they may be", format!("certificate {position} is not")));
    }
    let unknown =
        certificate.extensions().iter().find(|extension| extension.critical && !is_understood(&extension.oid));
    match unknown {
        None => Ok(()),
        Some(extension) => {
            Err(chain_refused("no unknown critical extension", format!("{} in certificate {position}", extension.oid)))
        }
    }
}

fn is_understood(extension: &Oid<'_>) -> bool {
    *extension == OID_X509_EXT_BASIC_CONSTRAINTS
        || *extension == OID_X509_EXT_KEY_USAGE
        || extension.as_bytes().starts_with(DICE.as_bytes())
}

fn verify_issued(certificate: &X509Certificate<'_>, issuer: &X509Certificate<'_>) -> Result<(), Refusal> {
    if certificate.issuer().as_raw() != issuer.subject().as_raw() {
        return Err(chain_refused("each certificate issued by the next", "another issuer's name"));
    }
    let algorithm = &certificate.signature_algorithm.algorithm;
    if *algorithm != OID_SIG_ECDSA_WITH_SHA384 || certificate.signature != certificate.signature_algorithm {
        return Err(chain_refused("certificates signed with ECDSA and SHA-384", algorithm.to_string()));
    }
    let signature = Signature::from_der(&certificate.signature_value.data);
    let verified = signature.is_ok_and(|signature| {
        public_key(issuer).is_some_and(|key| key.verify(certificate.tbs_certificate.as_ref(), &signature).is_ok())
    });
    if verified {
        return Ok(());
    }
    Err(chain_refused("each certificate signed by the next", "a signature that does not verify"))
}

/// The P-384 key of a certificate; `None` where it has another.
fn public_key(certificate: &X509Certificate<'_>) -> Option<VerifyingKey> {
    let spki = certificate.public_key();
    let curve = spki.algorithm.parameters.as_ref()?.as_oid().ok()?;
    if curve != OID_NIST_EC_P384 {
        return None;
    }
    VerifyingKey::from_sec1_bytes(&spki.subject_public_key.data).ok()
}

fn verify_report(report: &SpdmReport<'_>, leaf: &X509Certificate<'_>) -> Result<(), Refusal> {
    let signature = Signature::from_slice(&report.signature);
    let verified = signature
        .is_ok_and(|signature| public_key(leaf).is_some_and(|key| key.verify(report.signed, &signature).is_ok()));
    if verified {
        return Ok(());
    }
    Err(Refusal::new(
        Check::Signature,
        "a GPU report signed by its leaf certificate",
        "a signature that does not verify",
        COLLECT,
    ))
}

fn verify_firmware_id(report: &SpdmReport<'_>, leaf: &X509Certificate<'_>) -> Result<(), Refusal> {
    let reported = report.opaque(opaque::FWID).filter(|fwid| fwid.len() == FWID_LEN);
    let certified = firmware_ids(leaf).ok_or_else(|| unreadable("a leaf certificate without a firmware id"))?;
    match reported {
        Some(reported) if certified.contains(&reported) => Ok(()),
        reported => Err(Refusal::new(
            Check::Gpu,
            "a report of the firmware that the leaf certificate was made for",
            reported.map_or_else(|| "no firmware id".to_owned(), hex::encode),
            COLLECT,
        )),
    }
}

/// What the boot ROM certified: DICE `TcbInfo` where it is there, else the end of Hopper's extension.
fn firmware_ids<'a>(leaf: &'a X509Certificate<'_>) -> Option<Vec<&'a [u8]>> {
    if let Some(extension) = leaf.get_extension_unique(&DICE_TCB_INFO).ok()? {
        return tcb_info_firmware_ids(extension.value);
    }
    let extension = leaf.get_extension_unique(&DICE_HOPPER).ok()??;
    let (_, fwid) = extension.value.split_last_chunk::<FWID_LEN>()?;
    Some(vec![fwid])
}

/// `TcbInfo ::= SEQUENCE { … fwids [6] IMPLICIT SEQUENCE OF SEQUENCE { hashAlg OID, digest OCTET STRING } … }`
fn tcb_info_firmware_ids(extension: &[u8]) -> Option<Vec<&[u8]>> {
    let (rest, info) = Any::from_der(extension).ok()?;
    info.tag().assert_eq(Tag::Sequence).ok()?;
    if !rest.is_empty() {
        return None;
    }
    let mut fields = info.data;
    let mut ids = Vec::new();
    while !fields.is_empty() {
        let (rest, field) = Any::from_der(fields).ok()?;
        if field.class() == Class::ContextSpecific && field.tag().0 == FWIDS_TAG {
            ids.extend(sha384_digests(field.data)?);
        }
        fields = rest;
    }
    Some(ids)
}

fn sha384_digests(mut list: &[u8]) -> Option<Vec<&[u8]>> {
    let mut digests = Vec::new();
    while !list.is_empty() {
        let (rest, fwid) = Any::from_der(list).ok()?;
        fwid.tag().assert_eq(Tag::Sequence).ok()?;
        let (digest, algorithm) = Oid::from_der(fwid.data).ok()?;
        let (after, digest) = Any::from_der(digest).ok()?;
        digest.tag().assert_eq(Tag::OctetString).ok()?;
        if !after.is_empty() {
            return None;
        }
        if algorithm == OID_NIST_HASH_SHA384 {
            digests.push(digest.data);
        }
        list = rest;
    }
    Some(digests)
}

fn facts(
    report: &SpdmReport<'_>,
    leaf: &X509Certificate<'_>,
    root: RootId,
    device: [u8; 32],
) -> Result<GpuFacts, Refusal> {
    let architecture = architecture(leaf)?;
    let driver_version = text(report, opaque::DRIVER_VERSION, "driver version")?;
    let vbios_version = vbios_version(report)?;
    let rim_ids = (
        driver_rim_id(report, &architecture, &driver_version)?,
        format!(
            "NV_GPU_VBIOS_{}_{}_{}_{vbios_version}",
            text(report, opaque::PROJECT, "project")?.to_ascii_uppercase(),
            text(report, opaque::PROJECT_SKU, "project SKU")?.to_ascii_uppercase(),
            text(report, opaque::CHIP_SKU, "chip SKU")?.to_ascii_uppercase(),
        ),
    );
    Ok(GpuFacts {
        root,
        device,
        architecture,
        nonce: report.request_nonce,
        driver_version,
        vbios_version,
        rim_ids,
        cc_mode: None,
        nvdec0_disabled: report.opaque(opaque::NVDEC0_STATUS) == Some(&[0x55]),
        measurements: report.measurements.iter().map(|block| (block.index, block.value.to_vec())).collect(),
    })
}

/// The chip that the leaf's name begins with: `GH100 A01 GSP FMC LF`.
fn architecture(leaf: &X509Certificate<'_>) -> Result<String, Refusal> {
    let name = leaf.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
    let chip = name.and_then(gpu_chip).ok_or_else(|| unreadable("a leaf certificate whose name begins with no GPU"))?;
    Ok(chip.to_owned())
}

/// The same root certifies switches (`LS10`), which show reports of this form and compute nothing.
fn gpu_chip(name: &str) -> Option<&str> {
    let chip = name.split(' ').next()?;
    let plain = chip.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
    (chip.starts_with('G') && chip.len() <= TEXT_BYTES_MAX && plain).then_some(chip)
}

/// NVIDIA names the driver's RIMs of later chips by the report's chip family, and by `GB100` where it has none.
fn driver_rim_id(report: &SpdmReport<'_>, architecture: &str, driver_version: &str) -> Result<String, Refusal> {
    if architecture.starts_with("GH") {
        return Ok(format!("NV_GPU_DRIVER_{architecture}_{driver_version}"));
    }
    let family = match report.opaque(opaque::CHIP_INFO) {
        Some(_) => text(report, opaque::CHIP_INFO, "chip")?,
        None => "GB100".to_owned(),
    };
    Ok(format!("NV_GPU_CC_DRIVER_{family}_{driver_version}"))
}

/// As RIM ids have it: ten digits, from the first four bytes, last first, and the fifth.
fn vbios_version(report: &SpdmReport<'_>) -> Result<String, Refusal> {
    let version = report.opaque(opaque::VBIOS_VERSION).and_then(|version| <[u8; 8]>::try_from(version).ok());
    let Some([d, c, b, a, last, _, _, _]) = version else {
        return Err(unreadable("no VBIOS version of eight bytes"));
    };
    Ok(hex::encode_upper([a, b, c, d, last]))
}

/// A short text of the report, without the NUL bytes that end it.
fn text(report: &SpdmReport<'_>, id: u16, what: &str) -> Result<String, Refusal> {
    let bytes = report.opaque(id).unwrap_or_default();
    let text = std::str::from_utf8(bytes).unwrap_or_default().trim_end_matches('\0').trim();
    let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-'));
    if text.is_empty() || text.len() > TEXT_BYTES_MAX || !plain {
        return Err(unreadable(format!("no readable {what}")));
    }
    Ok(text.to_owned())
}

const COLLECT: &str = "collect the GPU's report and chain again, unchanged, with NVIDIA's own library";

fn unreadable(found: impl Into<String>) -> Refusal {
    Refusal::new(Check::Format, "an SPDM 1.1 report of an NVIDIA GPU and its five certificates", found, COLLECT)
}

fn chain_refused(expected: impl Into<String>, found: impl Into<String>) -> Refusal {
    Refusal::new(Check::Signature, expected, found, COLLECT)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A DER value of less than 128 bytes, or of less than 256.
    fn der(tag: u8, content: &[u8]) -> Vec<u8> {
        let len = u8::try_from(content.len()).unwrap();
        let head = if len < 128 { vec![tag, len] } else { vec![tag, 0x81, len] };
        [&head, content].concat()
    }

    fn fwid(algorithm: &[u8], digest: &[u8]) -> Vec<u8> {
        der(0x30, &[der(0x06, algorithm), der(0x04, digest)].concat())
    }

    const SHA384: [u8; 9] = [0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02];
    const SHA256: [u8; 9] = [0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01];

    /// As Blackwell has it: vendor, model, version, layer, firmware ids, flags.
    fn tcb_info(fwids: &[u8]) -> Vec<u8> {
        let fields = [
            der(0x80, b"NVIDIA"),
            der(0x81, b"GB100"),
            der(0x82, b"1"),
            der(0x84, &[2]),
            der(0xa6, fwids),
            der(0x87, &[0, 1]),
        ];
        der(0x30, &fields.concat())
    }

    #[test]
    fn the_firmware_ids_of_blackwell_are_read_from_their_field() {
        let fwids = [fwid(&SHA256, &[1; 32]), fwid(&SHA384, &[7; 48])].concat();
        let info = tcb_info(&fwids);
        assert_eq!(tcb_info_firmware_ids(&info), Some(vec![&[7; 48][..]]));
        // Bytes that only end like a firmware id are none.
        let behind = [info.as_slice(), &[7; 48]].concat();
        assert_eq!(tcb_info_firmware_ids(&behind), None);
        assert_eq!(tcb_info_firmware_ids(&der(0x30, &der(0x88, &[7; 48]))), Some(vec![]));
    }

    #[test]
    fn a_switch_is_no_gpu() {
        assert_eq!(gpu_chip("GH100 A01 GSP FMC LF"), Some("GH100"));
        assert_eq!(gpu_chip("GB202 A01 FSP FMC LF"), Some("GB202"));
        for name in ["LS10 A01 SOE FMC LF", "", " GH100", "gh100 A01", "G\u{1b}[2J", &"G".repeat(99)] {
            assert_eq!(gpu_chip(name), None, "{name:?}");
        }
    }

    #[test]
    fn a_cut_or_altered_tcb_info_is_refused_without_panic() {
        let info = tcb_info(&fwid(&SHA384, &[7; 48]));
        for len in 0..info.len() {
            assert_eq!(tcb_info_firmware_ids(info.get(..len).unwrap()), None, "{len} bytes");
        }
        for (position, byte) in (0..info.len()).flat_map(|position| [(position, 0x00), (position, 0xff)]) {
            let mut altered = info.clone();
            *altered.get_mut(position).unwrap() = byte;
            let _ = tcb_info_firmware_ids(&altered);
        }
    }
}
