//! What a VCEK or VLEK was made for: AMD writes the chip and its security versions into the certificate.
//!
//! Specification: AMD 57230, VCEK certificate format.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use x509_parser::der_parser::{Oid, oid};
use x509_parser::prelude::X509Certificate;

use crate::evidence::snp::{Product, SigningKey, SnpReport};
use crate::facts::SnpTcb;
use crate::refusal::{Check, Refusal};

const PRODUCT: Oid<'_> = oid!(1.3.6.1.4.1.3704.1.2);
const BOOT_LOADER: Oid<'_> = oid!(1.3.6.1.4.1.3704.1.3.1);
const TEE: Oid<'_> = oid!(1.3.6.1.4.1.3704.1.3.2);
const SNP: Oid<'_> = oid!(1.3.6.1.4.1.3704.1.3.3);
const MICROCODE: Oid<'_> = oid!(1.3.6.1.4.1.3704.1.3.8);
const FMC: Oid<'_> = oid!(1.3.6.1.4.1.3704.1.3.9);
const CHIP: Oid<'_> = oid!(1.3.6.1.4.1.3704.1.4);
const PROVIDER: Oid<'_> = oid!(1.3.6.1.4.1.3704.1.5);

const TAG_INTEGER: u8 = 0x02;
const TAG_OCTET_STRING: u8 = 0x04;
const TAG_IA5_STRING: u8 = 0x16;

/// AMD's extensions.
pub(super) struct Extensions {
    pub(super) product: Product,
    tcb: SnpTcb,
    key: SigningKey,
    /// Of a VCEK; short ids are padded with zeros, as in reports.
    chip_id: Option<[u8; 64]>,
}

impl Extensions {
    pub(super) fn read(leaf: &X509Certificate<'_>) -> Result<Self, Refusal> {
        let name = required(leaf, &PRODUCT, "product name")?;
        let product = string(name)
            .and_then(Product::from_certificate)
            .ok_or_else(|| malformed("a product name among Milan, Genoa and Turin", name))?;
        let tcb = SnpTcb {
            fmc: match product {
                Product::Turin => Some(version(leaf, &FMC, "FMC version")?),
                Product::Milan | Product::Genoa => None,
            },
            boot_loader: version(leaf, &BOOT_LOADER, "boot loader version")?,
            tee: version(leaf, &TEE, "TEE version")?,
            snp: version(leaf, &SNP, "SNP version")?,
            microcode: version(leaf, &MICROCODE, "microcode version")?,
        };
        let chip_id = optional(leaf, &CHIP)?
            .map(|value| chip(value).ok_or_else(|| malformed("a chip id of 8 or 64 bytes", value)))
            .transpose()?;
        // A VCEK is bound to a chip, a VLEK to a cloud provider.
        let provider = optional(leaf, &PROVIDER)?.is_some();
        let key = match (chip_id.is_some(), provider) {
            (true, false) => SigningKey::Vcek,
            (false, true) => SigningKey::Vlek,
            (true, true) | (false, false) => return Err(malformed("either a chip id or a provider id", &[])),
        };
        Ok(Self { product, tcb, key, chip_id })
    }

    /// Compares with what the report says of itself, and returns the chip that it is from; zero with a VLEK.
    pub(super) fn check(&self, report: &SnpReport) -> Result<[u8; 64], Refusal> {
        if self.key != report.signing_key {
            let found = format!("a certificate of a {:?}", self.key);
            return Err(mismatch(Check::Signature, format!("a certificate of a {:?}", report.signing_key), found));
        }
        if report.product.is_some_and(|product| product != self.product) {
            let expected = format!("a certificate of {:?}", report.product);
            return Err(mismatch(Check::Platform, expected, format!("one of {:?}", self.product)));
        }
        let reported = SnpTcb::from_raw(report.reported_tcb, self.product);
        if reported != self.tcb {
            return Err(mismatch(
                Check::Tcb,
                format!("a certificate of {reported:?}"),
                format!("one of {:?}", self.tcb),
            ));
        }
        match self.chip_id {
            None => Ok([0; 64]),
            // The host hides the chip, but the key that signed belongs to one.
            Some(chip_id) if report.chip_is_masked() => Ok(chip_id),
            Some(chip_id) if chip_id == report.chip_id => Ok(chip_id),
            Some(chip_id) => {
                let expected = format!("a certificate of chip {}", hex::encode(report.chip_id));
                Err(mismatch(Check::Platform, expected, format!("one of chip {}", hex::encode(chip_id))))
            }
        }
    }
}

fn version(leaf: &X509Certificate<'_>, oid: &Oid<'_>, what: &'static str) -> Result<u8, Refusal> {
    let value = required(leaf, oid, what)?;
    match value {
        [TAG_INTEGER, 1, byte @ 0..=0x7f] => Ok(*byte),
        [TAG_INTEGER, 2, 0, byte @ 0x80..=0xff] => Ok(*byte),
        _ => Err(malformed(what, value)),
    }
}

fn string(value: &[u8]) -> Option<&str> {
    match value {
        [TAG_IA5_STRING, len, text @ ..] if usize::from(*len) == text.len() => std::str::from_utf8(text).ok(),
        _ => None,
    }
}

/// Older certificates have the bare bytes, newer ones an octet string of them.
fn chip(value: &[u8]) -> Option<[u8; 64]> {
    let bytes = match value {
        [TAG_OCTET_STRING, len @ (8 | 64), bytes @ ..] if usize::from(*len) == bytes.len() => bytes,
        bytes => bytes,
    };
    let mut chip_id = [0; 64];
    match bytes.len() {
        8 | 64 => {
            chip_id.get_mut(..bytes.len())?.copy_from_slice(bytes);
            Some(chip_id)
        }
        _ => None,
    }
}

fn required<'a>(leaf: &X509Certificate<'a>, oid: &Oid<'_>, what: &'static str) -> Result<&'a [u8], Refusal> {
    optional(leaf, oid)?.ok_or_else(|| malformed(what, &[]))
}

fn optional<'a>(leaf: &X509Certificate<'a>, oid: &Oid<'_>) -> Result<Option<&'a [u8]>, Refusal> {
    match leaf.get_extension_unique(oid) {
        Ok(extension) => Ok(extension.map(|extension| extension.value)),
        Err(_) => Err(malformed("each extension once", &[])),
    }
}

fn malformed(expected: &'static str, found: &[u8]) -> Refusal {
    let found = if found.is_empty() { "nothing of the kind".to_owned() } else { hex::encode(found) };
    let remedy = "fetch the certificate from AMD's key distribution service";
    Refusal::new(Check::Format, format!("in the signing key's certificate: {expected}"), found, remedy)
}

fn mismatch(check: Check, expected: String, found: String) -> Refusal {
    let remedy = "give the certificate for the platform's current firmware: it changes with every update";
    Refusal::new(check, expected, found, remedy)
}
