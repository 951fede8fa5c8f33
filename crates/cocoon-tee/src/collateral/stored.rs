//! Collateral as a file: one need, one JSON. The same format in a cache and in an offline folder.

use std::sync::Arc;

use cocoon_attest::Collateral;
use cocoon_attest::collateral::{CollateralNeed, IntelTee, PckCa, TdxCollateral};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::intel::subject;
use super::window::Edition;

/// Collateral with what is known about it.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub(super) collateral: Arc<Collateral>,
    pub(super) edition: Edition,
    pub(super) fetched_unix_s: u64,
}

/// The file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredFile {
    version: u32,
    need: String,
    fetched_unix_s: u64,
    collateral: Collateral,
}

const VERSION: u32 = 1;

impl Stored {
    /// Takes what a source sent, if it can be read.
    pub(super) fn new(collateral: Arc<Collateral>, fetched_unix_s: u64) -> Result<Self, String> {
        let edition = Edition::of(&collateral)?;
        Ok(Self { collateral, edition, fetched_unix_s })
    }

    /// The file's content.
    pub(super) fn encode(&self, need: &CollateralNeed) -> Vec<u8> {
        let file = StoredFile {
            version: VERSION,
            need: need_text(need),
            fetched_unix_s: self.fetched_unix_s,
            collateral: Collateral::clone(&self.collateral),
        };
        serde_json::to_vec(&file).expect("collateral holds no map, float or foreign type, so it always serialises")
    }

    /// Reads a file, and says which need it is for.
    pub(super) fn decode(bytes: &[u8]) -> Result<(String, Self), String> {
        let file: StoredFile = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if file.version != VERSION {
            return Err(format!("version {}; this program reads version {VERSION}", file.version));
        }
        let stored = Self::new(Arc::new(file.collateral), file.fetched_unix_s)?;
        if let Collateral::Intel(intel) = &*stored.collateral
            && need_text(&subject(intel)?) != file.need
        {
            return Err(format!("it is filed under {:?}, but is about another platform", file.need));
        }
        Ok((file.need, stored))
    }

    /// Reads a file of [`decode`](Self::decode)'s kind, or Intel collateral as other tools write it.
    pub(super) fn decode_any(bytes: &[u8]) -> Result<(String, Self), String> {
        let Ok(intel) = serde_json::from_slice::<TdxCollateral>(bytes) else {
            return Self::decode(bytes);
        };
        let need = need_text(&subject(&intel)?);
        Ok((need, Self::new(Arc::new(Collateral::Intel(intel)), 0)?))
    }
}

/// A need in words, for files and logs.
pub(super) fn need_text(need: &CollateralNeed) -> String {
    match need {
        CollateralNeed::Intel { fmspc, ca, tee } => {
            let tee = match tee {
                IntelTee::Sgx => "sgx",
                IntelTee::Tdx => "tdx",
            };
            let ca = match ca {
                PckCa::Processor => "processor",
                PckCa::Platform => "platform",
            };
            format!("intel {tee} {} {ca}", hex::encode(fmspc))
        }
        CollateralNeed::Amd { product, chip_id, reported_tcb, vlek } => {
            let key = if *vlek { "vlek" } else { "vcek" };
            format!("amd {key} {product} {} {reported_tcb:016x}", hex::encode(chip_id))
        }
        other => format!("{other:?}"),
    }
}

/// The name of a need's file. A hash: a need comes from a stranger's evidence.
pub(super) fn file_name(need: &CollateralNeed) -> String {
    let digest = Sha256::digest(need_text(need));
    format!("{}.json", hex::encode(&digest[..16]))
}
