//! Quotes and reports through configfs-tsm (Linux `Documentation/ABI/testing/configfs-tsm-report`).
//!
//! 1. Make a folder under the report root; the kernel fills it with attributes.
//! 2. Read `generation`, write the report data to `inblob`, read `outblob` and, for SNP, `auxblob`: the host's
//!    certificate table.
//! 3. Read `generation` again: it must have moved by exactly one, our own write. Otherwise somebody else wrote to the
//!    entry in between, and the answer may be for them: try again, at most [`QUOTE_ATTEMPTS_MAX`] times.
//! 4. Remove the folder, on every path.
//!
//! Each call has an entry of its own under a random name, so two processes of one VM do not meet by accident.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use cocoon_attest::evidence::PlatformEvidence;
use cocoon_attest::{EvidenceError, Format};

use super::certificate_table;
use crate::files;
use crate::limits::{CERTIFICATE_TABLE_BYTES_MAX, OUTBLOB_BYTES_MAX, QUOTE_ATTEMPTS_MAX};

/// An attribute of one line.
const LINE_BYTES_MAX: usize = 64;

/// TDX or SNP through configfs-tsm.
#[derive(Debug, Clone)]
pub struct ConfigfsTsm {
    root: PathBuf,
    provider: Provider,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Provider {
    TdxGuest,
    SevGuest,
}

impl ConfigfsTsm {
    /// Looks which provider is behind this report folder, `/sys/kernel/config/tsm/report` on a real machine. Blocks.
    ///
    /// # Errors
    /// [`EvidenceError::NotATee`] when there is no such folder or none of our providers.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, EvidenceError> {
        Self::open_with(root.into(), &Configfs)
    }

    /// The format of its evidence.
    #[must_use]
    pub const fn format(&self) -> Format {
        match self.provider {
            Provider::TdxGuest => Format::Tdx,
            Provider::SevGuest => Format::SevSnp,
        }
    }

    /// Evidence with this report data. Blocks while the platform signs.
    ///
    /// # Errors
    /// When the kernel or the platform refuses, or other writers keep interfering.
    pub fn evidence(&self, report_data: [u8; 64]) -> Result<PlatformEvidence, EvidenceError> {
        self.evidence_with(report_data, &Configfs)
    }

    fn open_with(root: PathBuf, system: &dyn Tsm) -> Result<Self, EvidenceError> {
        if !root.is_dir() {
            return Err(EvidenceError::NotATee(format!("{} is not there", root.display())));
        }
        let entry = Entry::create(&root, system)?;
        let name = entry.read_line("provider")?;
        let provider = match name.as_str() {
            "tdx_guest" => Provider::TdxGuest,
            "sev_guest" => Provider::SevGuest,
            other => return Err(EvidenceError::NotATee(format!("no support for the provider {other:?}"))),
        };
        Ok(Self { root: root.clone(), provider })
    }

    fn evidence_with(&self, report_data: [u8; 64], system: &dyn Tsm) -> Result<PlatformEvidence, EvidenceError> {
        for _ in 0..QUOTE_ATTEMPTS_MAX {
            if let Some(evidence) = self.attempt(report_data, system)? {
                return Ok(evidence);
            }
        }
        Err(EvidenceError::Platform(format!("other writers interfered {QUOTE_ATTEMPTS_MAX} times")))
    }

    /// One attempt; `None` when somebody else wrote to the entry meanwhile, or the platform was busy.
    fn attempt(&self, report_data: [u8; 64], system: &dyn Tsm) -> Result<Option<PlatformEvidence>, EvidenceError> {
        let entry = Entry::create(&self.root, system)?;
        let before = entry.generation()?;
        match entry.write("inblob", &report_data) {
            Err(error) if is_busy(&error) => return Ok(None),
            written => written.map_err(|error| entry.failed("inblob", &error))?,
        }
        let blob = match entry.read("outblob", OUTBLOB_BYTES_MAX) {
            Err(error) if is_busy(&error) => return Ok(None),
            read => read.map_err(|error| entry.failed("outblob", &error))?,
        };
        let certificates = match self.provider {
            Provider::TdxGuest => Vec::new(),
            Provider::SevGuest => entry.certificates()?,
        };
        if before.checked_add(1) != Some(entry.generation()?) {
            return Ok(None);
        }
        if blob.is_empty() {
            return Err(EvidenceError::Platform("outblob is empty".into()));
        }
        Ok(Some(match self.provider {
            Provider::TdxGuest => PlatformEvidence::Tdx { quote: blob },
            Provider::SevGuest => PlatformEvidence::SevSnp { report: blob, certificates },
        }))
    }
}

/// The kernel says so while another request of the same entry is under way.
fn is_busy(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ResourceBusy | io::ErrorKind::WouldBlock)
}

/// The four operations on configfs; tests put a kernel of their own here.
trait Tsm {
    fn create(&self, entry: &Path) -> io::Result<()>;
    fn read(&self, attribute: &Path, max: usize) -> io::Result<Vec<u8>>;
    fn write(&self, attribute: &Path, bytes: &[u8]) -> io::Result<()>;
    fn remove(&self, entry: &Path) -> io::Result<()>;
}

/// The real one.
struct Configfs;

impl Tsm for Configfs {
    fn create(&self, entry: &Path) -> io::Result<()> {
        std::fs::create_dir(entry)
    }

    fn read(&self, attribute: &Path, max: usize) -> io::Result<Vec<u8>> {
        files::read_bounded(attribute, u64::try_from(max).unwrap_or(u64::MAX))
    }

    fn write(&self, attribute: &Path, bytes: &[u8]) -> io::Result<()> {
        // One write call: the kernel takes a blob as a whole.
        OpenOptions::new().write(true).open(attribute)?.write_all(bytes)
    }

    fn remove(&self, entry: &Path) -> io::Result<()> {
        // The kernel removes the attributes with the folder.
        std::fs::remove_dir(entry)
    }
}

/// One report entry, removed when dropped.
struct Entry<'a> {
    path: PathBuf,
    system: &'a dyn Tsm,
}

impl<'a> Entry<'a> {
    fn create(root: &Path, system: &'a dyn Tsm) -> Result<Self, EvidenceError> {
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(|error| EvidenceError::Platform(error.to_string()))?;
        let path = root.join(format!("cocoon-{}", hex::encode(random)));
        match system.create(&path) {
            Ok(()) => Ok(Self { path, system }),
            // The folder is there without a TEE too, when the module is loaded; the kernel then refuses entries so.
            Err(error) if matches!(error.raw_os_error(), Some(ENXIO | ENODEV)) => {
                Err(EvidenceError::NotATee(format!("{}: {error}", root.display())))
            }
            Err(error) => Err(EvidenceError::Platform(format!("{}: {error}", path.display()))),
        }
    }

    fn read(&self, attribute: &str, max: usize) -> io::Result<Vec<u8>> {
        self.system.read(&self.path.join(attribute), max)
    }

    fn write(&self, attribute: &str, bytes: &[u8]) -> io::Result<()> {
        self.system.write(&self.path.join(attribute), bytes)
    }

    fn read_line(&self, attribute: &str) -> Result<String, EvidenceError> {
        let bytes = self.read(attribute, LINE_BYTES_MAX).map_err(|error| self.failed(attribute, &error))?;
        let line = std::str::from_utf8(&bytes).map_err(|error| self.failed(attribute, &io::Error::other(error)))?;
        Ok(line.trim_end().to_owned())
    }

    fn generation(&self) -> Result<u64, EvidenceError> {
        let line = self.read_line("generation")?;
        line.parse().map_err(|_| EvidenceError::Platform(format!("the generation {line:?} is no number")))
    }

    /// Certificates that the host gave; none when it gave no table.
    fn certificates(&self) -> Result<Vec<Vec<u8>>, EvidenceError> {
        match self.read("auxblob", CERTIFICATE_TABLE_BYTES_MAX) {
            Ok(table) => certificate_table::parse(&table).map_err(|why| EvidenceError::Platform(why.to_string())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(self.failed("auxblob", &error)),
        }
    }

    fn failed(&self, attribute: &str, error: &io::Error) -> EvidenceError {
        EvidenceError::Platform(format!("{attribute} of configfs-tsm: {error}"))
    }
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.system.remove(&self.path) {
            tracing::warn!(%error, entry = %self.path.display(), "a report entry stays behind");
        }
    }
}

/// "No such device or address", on Linux.
const ENXIO: i32 = 6;
/// "No such device", on Linux.
const ENODEV: i32 = 19;

#[cfg(test)]
mod tests;
