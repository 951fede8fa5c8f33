//! Image manifests: the reference values of one image, by whose hash the root contract and policies name it.
//!
//! A manifest is canonical JSON: keys sorted, no whitespace, lower-case hex, lists in ascending order. Its hash is
//! SHA-256 over exactly those bytes, so anyone can host it; bytes in another form are refused although they may mean
//! the same. Evidence carries a manifest as a convenience, and only its hash makes it count: it is never trusted by
//! itself.
//!
//! ```json
//! {"name":"cocoon-worker 0.1.0","snp":{"launch":["…"]},
//!  "tdx":{"mr_td":"…","rtmr0":["…","…"],"rtmr1":"…","rtmr2":"…","rtmr3":[{"name":"config"},{"name":"inited"}]},
//!  "version":1}
//! ```
//!
//! (In one line.) What is compared:
//!
//! 1. TDX: MRTD, RTMR1 and RTMR2 are equal. RTMR0 depends on the machine's shape (memory, processors, devices) and is
//!    one of a list.
//! 2. TDX: the event log replays to the quote's four registers, and its RTMR3 events are **exactly** the required ones,
//!    in their order, each with the data that its digest covers. A required event without a value takes any value:
//!    `config` differs from node to node. Exactly one `config` comes before exactly one `inited`, which is the last.
//!    It fails closed: without a log, or with any event more, less or after `inited`, the image is refused. What runs
//!    after `inited` is code of the measured image and has no cause to extend RTMR3.
//! 3. SEV-SNP: the launch measurement is one of a list: it depends on the number and model of processors. It covers
//!    kernel, command line and initial disk, and so the root hash of everything else. There are no runtime registers.
//!
//! ton.md, section 1.13; attestation.md, section 6.1.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::evidence::event_log::EventLog;
use crate::facts::{Measurements, SnpMeasurements, TdxMeasurements};
use crate::limits::MANIFEST_BYTES_MAX;
use crate::refusal::{Check, Refusal, shown};

/// The event that measures a node's configuration into RTMR3.
pub const CONFIG_EVENT: &str = "config";

/// The event that closes the boot in RTMR3.
pub const INITED_EVENT: &str = "inited";

/// What the data of every runtime event begins with.
const EVENT_PREFIX: &str = "cocoon:";

/// RTMR3, counted from zero.
const RTMR3: u8 = 3;

/// A manifest. One may cover an image on both platforms.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageManifest {
    // Fields stand in the order of their names: this is the order in which they are written.
    /// For people: what it is and which version. Printable ASCII without quotes and backslashes.
    pub name: String,
    /// The image on SEV-SNP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snp: Option<SnpImage>,
    /// The image on TDX.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tdx: Option<TdxImage>,
    /// 1.
    pub version: u32,
}

/// Reference values on SEV-SNP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnpImage {
    /// Launch measurements, one for each shape of machine, ascending.
    pub launch: Vec<Digest48>,
}

/// Reference values on TDX.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TdxImage {
    /// The firmware.
    pub mr_td: Digest48,
    /// The machine, one for each shape, ascending.
    pub rtmr0: Vec<Digest48>,
    /// The boot loader.
    pub rtmr1: Digest48,
    /// Kernel, command line and initial disk.
    pub rtmr2: Digest48,
    /// What user space measures, in order.
    pub rtmr3: Vec<RequiredEvent>,
}

/// An event that RTMR3 has to have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequiredEvent {
    /// Its name.
    pub name: String,
    /// Its value; any where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

/// A measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Digest48(#[serde(with = "hex::serde")] pub [u8; 48]);

/// Why bytes are no manifest.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// More than [`MANIFEST_BYTES_MAX`].
    #[error("a manifest of {len} bytes; at most {MANIFEST_BYTES_MAX} are read")]
    TooLong {
        /// How many there are.
        len: usize,
    },
    /// Not the JSON of a manifest.
    #[error("unreadable manifest: {0}")]
    Json(#[from] serde_json::Error),
    /// Written by a later program.
    #[error("a manifest of version {0}; this program reads version 1")]
    Version(u32),
    /// The JSON of a manifest, but not in its canonical form.
    #[error("the manifest is not canonical: keys sorted, no whitespace, lower-case hex; write it with `cocoon`")]
    NotCanonical,
    /// It would accept what it should not, or nothing at all.
    #[error("the manifest is incomplete: {0}")]
    Incomplete(&'static str),
}

impl ImageManifest {
    /// Reads a manifest.
    ///
    /// # Errors
    /// When the bytes are too many, not canonical, or leave open what they would accept.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        if bytes.len() > MANIFEST_BYTES_MAX {
            return Err(ManifestError::TooLong { len: bytes.len() });
        }
        let manifest: Self = serde_json::from_slice(bytes)?;
        if manifest.version != 1 {
            return Err(ManifestError::Version(manifest.version));
        }
        manifest.complete()?;
        if manifest.encode().as_bytes() != bytes {
            return Err(ManifestError::NotCanonical);
        }
        Ok(manifest)
    }

    /// A manifest of version 1, its lists sorted.
    ///
    /// # Errors
    /// When it leaves open what it would accept.
    pub fn new(name: &str, tdx: Option<TdxImage>, snp: Option<SnpImage>) -> Result<Self, ManifestError> {
        let mut manifest = Self { name: name.to_owned(), snp, tdx, version: 1 };
        if let Some(tdx) = &mut manifest.tdx {
            tdx.rtmr0.sort_unstable();
            tdx.rtmr0.dedup();
        }
        if let Some(snp) = &mut manifest.snp {
            snp.launch.sort_unstable();
            snp.launch.dedup();
        }
        manifest.complete()?;
        Ok(manifest)
    }

    /// Its canonical text.
    #[must_use]
    pub fn encode(&self) -> String {
        serde_json::to_string(self).expect("a manifest holds no map, float or foreign type, so it always serialises")
    }

    /// What names it: SHA-256 of [`Self::encode`].
    #[must_use]
    pub fn sha256(&self) -> [u8; 32] {
        Sha256::digest(self.encode()).into()
    }

    /// Compares measurements with these reference values.
    ///
    /// # Errors
    /// The first difference, by the name of its register.
    pub fn matches(&self, measurements: &Measurements, log: Option<&EventLog>) -> Result<(), Refusal> {
        match measurements {
            Measurements::Tdx(measured) => match &self.tdx {
                Some(image) => image.matches(measured, log),
                None => Err(refused("a manifest for TDX", format!("{:?}, which has none", self.name))),
            },
            Measurements::SevSnp(measured) => match &self.snp {
                Some(image) => image.matches(measured),
                None => Err(refused("a manifest for SEV-SNP", format!("{:?}, which has none", self.name))),
            },
            Measurements::Sgx(_) => Err(refused("a confidential VM", "an SGX enclave")),
        }
    }

    /// What a parsed manifest promises.
    fn complete(&self) -> Result<(), ManifestError> {
        let plain = |text: &str| text.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\');
        if self.name.is_empty() || !plain(&self.name) {
            return Err(ManifestError::Incomplete("its name is empty or not printable ASCII without quotes"));
        }
        match (&self.tdx, &self.snp) {
            (None, None) => return Err(ManifestError::Incomplete("it names no platform")),
            (tdx, snp) => {
                if let Some(tdx) = tdx {
                    ascending(&tdx.rtmr0, "rtmr0 is empty", "rtmr0 is not in ascending order")?;
                    closed(&tdx.rtmr3)?;
                }
                if let Some(snp) = snp {
                    ascending(&snp.launch, "launch is empty", "launch is not in ascending order")?;
                }
            }
        }
        Ok(())
    }
}

fn ascending(list: &[Digest48], empty: &'static str, unsorted: &'static str) -> Result<(), ManifestError> {
    if list.is_empty() {
        return Err(ManifestError::Incomplete(empty));
    }
    if !list.is_sorted_by(|a, b| a < b) {
        return Err(ManifestError::Incomplete(unsorted));
    }
    Ok(())
}

/// One `config` before one `inited`, which is the last; each name fit for an event.
fn closed(events: &[RequiredEvent]) -> Result<(), ManifestError> {
    let count = |name: &str| events.iter().filter(|event| event.name == name).count();
    if events.last().is_none_or(|event| event.name != INITED_EVENT) || count(INITED_EVENT) != 1 {
        return Err(ManifestError::Incomplete("rtmr3 does not end with its only `inited`"));
    }
    if count(CONFIG_EVENT) != 1 {
        return Err(ManifestError::Incomplete("rtmr3 has not exactly one `config`"));
    }
    let fits = |event: &RequiredEvent| {
        let name = !event.name.is_empty() && event.name.bytes().all(is_name);
        name && event.value.iter().all(|value| value.bytes().all(is_value))
    };
    if !events.iter().all(fits) {
        return Err(ManifestError::Incomplete("an event of rtmr3 has characters that events do not have"));
    }
    Ok(())
}

const fn is_name(byte: u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_')
}

/// Printable, and nothing that JSON would escape: there is one way to write it.
const fn is_value(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~') && byte != b'"' && byte != b'\\'
}

impl TdxImage {
    fn matches(&self, measured: &TdxMeasurements, log: Option<&EventLog>) -> Result<(), Refusal> {
        let [rtmr0, rtmr1, rtmr2, _] = &measured.rtmr;
        equal("MRTD", &self.mr_td, &measured.mr_td)?;
        equal("RTMR1", &self.rtmr1, rtmr1)?;
        equal("RTMR2", &self.rtmr2, rtmr2)?;
        listed("RTMR0", &self.rtmr0, rtmr0)?;
        let Some(log) = log else {
            return Err(refused("an event log that explains RTMR3", "none"));
        };
        for (register, (replayed, measured)) in log.replay().iter().zip(&measured.rtmr).enumerate() {
            equal(&format!("the event log to replay to RTMR{register}"), &Digest48(*measured), replayed)?;
        }
        self.runtime_events(log)
    }

    /// RTMR3 is what its events make it, so comparing the events compares the register.
    fn runtime_events(&self, log: &EventLog) -> Result<(), Refusal> {
        let mut required = self.rtmr3.iter();
        for event in runtime_events(log)? {
            let Some(expected) = required.next() else {
                return Err(refused(
                    format!("no event in RTMR3 after `{INITED_EVENT}`"),
                    format!("`{}`", shown(event.name)),
                ));
            };
            if event.name != expected.name || expected.value.as_deref().is_some_and(|value| value != event.value) {
                let value = expected.value.as_deref().unwrap_or("any value");
                return Err(refused(
                    format!("event `{}` with {value} in RTMR3", expected.name),
                    format!("`{}` with `{}`", shown(event.name), shown(event.value)),
                ));
            }
        }
        match required.next() {
            None => Ok(()),
            Some(missing) => Err(refused(format!("event `{}` in RTMR3", missing.name), "the end of the event log")),
        }
    }
}

impl SnpImage {
    fn matches(&self, measured: &SnpMeasurements) -> Result<(), Refusal> {
        listed("the launch measurement", &self.launch, &measured.measurement)
    }
}

/// An event of RTMR3 in words: its data is `cocoon:NAME` or `cocoon:NAME=VALUE`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RuntimeEvent<'a> {
    /// Which.
    pub name: &'a str,
    /// Empty where it has none.
    pub value: &'a str,
}

/// The data of an event, for whoever extends RTMR3; [`crate::evidence::event_log::runtime_event`] puts it into a log.
#[must_use]
pub fn runtime_event_data(name: &str, value: Option<&str>) -> String {
    match value {
        Some(value) => format!("{EVENT_PREFIX}{name}={value}"),
        None => format!("{EVENT_PREFIX}{name}"),
    }
}

/// The events of RTMR3. What they say is true only when the log replays to the quote's RTMR3.
///
/// # Errors
/// When an event's digest is not that of its data, or the data is not of this form: then RTMR3 holds what nobody here
/// can read, and the image is refused.
pub fn runtime_events(log: &EventLog) -> Result<Vec<RuntimeEvent<'_>>, Refusal> {
    log.events(RTMR3)
        .map(|event| {
            if !event.data_is_measured() {
                return Err(refused("RTMR3 events with the data that they measure", "one with other data"));
            }
            let text = std::str::from_utf8(&event.data).ok().and_then(|text| text.strip_prefix(EVENT_PREFIX));
            let Some(text) = text else {
                return Err(refused("RTMR3 events named `cocoon:…`", "an event of another form"));
            };
            let (name, value) = text.split_once('=').unwrap_or((text, ""));
            Ok(RuntimeEvent { name, value })
        })
        .collect()
}

/// The original's name of an image: SHA-256 over the registers of the quote, with its report data as zeros. Serves the
/// `cocoon-v1` profile only (attestation.md, section 4.1).
#[must_use]
pub fn original_image_hash(measured: &TdxMeasurements) -> [u8; 32] {
    let mut hash = Sha256::new();
    for register in [&measured.mr_td, &measured.mr_config_id, &measured.mr_owner, &measured.mr_owner_config] {
        hash.update(register);
    }
    for register in &measured.rtmr {
        hash.update(register);
    }
    hash.update([0; 64]);
    hash.finalize().into()
}

fn equal(what: &str, expected: &Digest48, found: &[u8; 48]) -> Result<(), Refusal> {
    if &expected.0 == found {
        return Ok(());
    }
    Err(refused(format!("{what}: {}", hex::encode(expected.0)), hex::encode(found)))
}

fn listed(what: &str, expected: &[Digest48], found: &[u8; 48]) -> Result<(), Refusal> {
    if expected.iter().any(|expected| &expected.0 == found) {
        return Ok(());
    }
    Err(refused(format!("{what}: one of the {} in the manifest", expected.len()), hex::encode(found)))
}

fn refused(expected: impl Into<String>, found: impl Into<String>) -> Refusal {
    Refusal::new(
        Check::Image,
        expected,
        found,
        "run an image that the policy names, on a machine shape that its manifest lists, or add its manifest",
    )
}
