//! What a file is, told by its first bytes. Nothing in it is believed.
//!
//! Evidence may be raw, as a platform hands it out, or hexadecimal digits, as tools print it.

use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, Result, anyhow, bail};
use cocoon_attest::evidence::event_log::EventLog;
use cocoon_attest::limits::{DOCUMENT_BYTES_MAX, GPU_REPORT_BYTES_MAX};
use cocoon_attest::{Collateral, Document, ImageManifest, PlatformEvidence, Policy, SnpCollateral, TdxCollateral};
use hex::FromHexError;

use super::words::{safe, safe_lines};
use crate::config;

/// What a file turned out to be.
#[derive(Debug)]
pub(super) enum Artefact {
    /// A saved appraisal.
    Document(Box<Document>),
    /// CPU evidence.
    Evidence(PlatformEvidence),
    /// Evidence of a GPU.
    Gpu(Vec<u8>),
    /// A boot's event log.
    EventLog(EventLog),
    /// A policy.
    Policy(Policy),
    /// A vendor's endorsements.
    Collateral(Collateral),
    /// What an image measures to.
    Manifest(ImageManifest),
}

/// The beginning of an SPDM 1.1 GET_MEASUREMENTS request, which precedes a GPU's answer.
const SPDM_REQUEST: [u8; 2] = [0x11, 0xe0];

/// The type of the first event of every log, `EV_NO_ACTION`, after its register.
const EV_NO_ACTION: [u8; 4] = 3_u32.to_le_bytes();

const SNP_REPORT_BYTES: usize = 1184;

impl Artefact {
    /// Reads a file and tells what it is.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let bytes = read_bounded(path)?;
        Self::of(&bytes).with_context(|| format!("cannot read {} as anything that is known here", path.display()))
    }

    fn of(bytes: &[u8]) -> Result<Self> {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::of_text(text.trim()),
            Err(_) => Self::of_bytes(bytes),
        }
    }

    fn of_text(text: &str) -> Result<Self> {
        if text.starts_with('{') {
            return Self::of_json(text);
        }
        let digits: String = text.trim_start_matches("0x").split_ascii_whitespace().collect();
        match hex::decode(&digits) {
            Ok(bytes) => return Self::of_bytes(&bytes),
            Err(FromHexError::OddLength) if digits.bytes().all(|digit| digit.is_ascii_hexdigit()) => {
                bail!("{} hexadecimal digits, which is odd, so one is missing: copy it again, whole", digits.len())
            }
            Err(_) => {}
        }
        let policy = Policy::from_toml(text).map_err(|error| anyhow!(safe_lines(&error.to_string())));
        Ok(Self::Policy(policy.context("a text that is neither JSON nor hexadecimal digits; as a policy")?))
    }

    fn of_json(text: &str) -> Result<Self> {
        let fields: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(text).context("it begins like JSON and is none")?;
        if fields.contains_key("evidence") {
            return Ok(Self::Document(Box::new(document(text.as_bytes())?)));
        }
        if fields.contains_key("tcb_info") || fields.contains_key("chain") || fields.contains_key("vendor") {
            return collateral(text).map(Self::Collateral);
        }
        let manifest = ImageManifest::parse(text.as_bytes()).context("JSON; as an image manifest")?;
        Ok(Self::Manifest(manifest))
    }

    fn of_bytes(bytes: &[u8]) -> Result<Self> {
        let owned = || bytes.to_vec();
        // Intel: version, key type 2, TEE type.
        match bytes {
            [3, 0, 2, 0, ..] => return Ok(Self::Evidence(PlatformEvidence::Sgx { quote: owned() })),
            [4 | 5, 0, 2, 0, ..] => return Ok(Self::Evidence(PlatformEvidence::Tdx { quote: owned() })),
            _ => {}
        }
        if bytes.len() == SNP_REPORT_BYTES {
            return Ok(Self::Evidence(PlatformEvidence::SevSnp { report: owned(), certificates: Vec::new() }));
        }
        if bytes.starts_with(&SPDM_REQUEST) && bytes.len() <= GPU_REPORT_BYTES_MAX {
            return Ok(Self::Gpu(owned()));
        }
        if bytes.get(4..8) == Some(&EV_NO_ACTION) {
            let log = EventLog::used(bytes).and_then(EventLog::parse).context("an event log")?;
            return Ok(Self::EventLog(log));
        }
        let first: String = hex::encode(bytes.get(..8).unwrap_or(bytes));
        bail!(
            "{} bytes that begin with {first}: neither a TDX or SGX quote, an SNP report, a GPU report, an event log, a \
             policy, nor a document of /v1/attestation",
            bytes.len()
        )
    }
}

/// A saved appraisal.
pub(super) fn document(bytes: &[u8]) -> Result<Document> {
    Document::decode(bytes).map_err(|error| anyhow!("{}", safe(&error.to_string())))
}

/// A vendor's endorsements, with or without the vendor's name beside them.
pub(super) fn collateral(text: &str) -> Result<Collateral> {
    let as_told = serde_json::from_str::<Collateral>(text);
    let as_intel = || serde_json::from_str::<TdxCollateral>(text).map(Collateral::Intel);
    let as_amd = || serde_json::from_str::<SnpCollateral>(text).map(Collateral::Amd);
    let collateral = as_told.or_else(|told| as_intel().or_else(|_| as_amd()).map_err(|_| told));
    collateral.map_err(|error| anyhow!("unreadable collateral: {}", safe(&error.to_string())))
}

/// A file, unless it is longer than anything that is read here.
pub(super) fn read_bounded(path: &Path) -> Result<Vec<u8>> {
    let file = config::open(path)?;
    let mut bytes = Vec::new();
    let read = file.take(DOCUMENT_BYTES_MAX as u64 + 1).read_to_end(&mut bytes);
    read.with_context(|| format!("cannot read {}", path.display()))?;
    if bytes.len() > DOCUMENT_BYTES_MAX {
        bail!("{} is longer than {DOCUMENT_BYTES_MAX} bytes", path.display());
    }
    if bytes.trim_ascii().is_empty() {
        bail!("{} is empty: save it again", path.display());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cut_short_is_said() {
        let cut = Artefact::of(b"0x04000").unwrap_err().to_string();
        assert!(cut.contains("5 hexadecimal digits, which is odd"), "{cut}");
        let folder = tempfile::tempdir().unwrap();
        let refused = |path: &Path| format!("{:#}", Artefact::read(path).unwrap_err());
        assert!(refused(folder.path()).contains("is a directory"));
        let empty = folder.path().join("quote.bin");
        std::fs::write(&empty, "\n").unwrap();
        assert!(refused(&empty).contains("is empty"));
    }
}
