//! A kernel of our own behind the four operations: its attributes are real files in a folder.

use std::cell::RefCell;

use super::*;
use crate::attester::certificate_table::tests::{VCEK_GUID, table};

/// What the platform does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    /// Another writer touches the entry before we read its answer, this many times.
    Interference(u32),
    Busy(u32),
    Refuses,
    NoAnswer,
    HugeAnswer,
    GenerationGoesBack,
    NoGeneration,
    WildTable,
}

struct Kernel {
    provider: &'static str,
    fault: RefCell<Fault>,
    generation: RefCell<u64>,
}

impl Kernel {
    fn new(provider: &'static str, fault: Fault) -> Self {
        Self { provider, fault: RefCell::new(fault), generation: RefCell::new(41) }
    }

    /// Uses up one of a fault's times.
    fn strikes(&self, make: impl Fn(u32) -> Fault) -> bool {
        let mut fault = self.fault.borrow_mut();
        for left in 1..10 {
            if *fault == make(left) {
                *fault = if left == 1 { Fault::None } else { make(left - 1) };
                return true;
            }
        }
        false
    }

    fn touch(&self, entry: &Path) {
        *self.generation.borrow_mut() += 1;
        std::fs::write(entry.join("generation"), format!("{}\n", self.generation.borrow())).unwrap();
    }
}

impl Tsm for Kernel {
    fn create(&self, entry: &Path) -> io::Result<()> {
        Configfs.create(entry)?;
        std::fs::write(entry.join("provider"), format!("{}\n", self.provider))?;
        self.touch(entry);
        Ok(())
    }

    fn read(&self, attribute: &Path, max: usize) -> io::Result<Vec<u8>> {
        Configfs.read(attribute, max)
    }

    fn write(&self, attribute: &Path, bytes: &[u8]) -> io::Result<()> {
        let entry = attribute.parent().unwrap();
        let fault = *self.fault.borrow();
        if self.strikes(Fault::Busy) {
            return Err(io::ErrorKind::ResourceBusy.into());
        }
        if fault == Fault::Refuses {
            return Err(io::Error::from_raw_os_error(5));
        }
        assert_eq!(attribute.file_name().unwrap(), "inblob");
        self.touch(entry);
        let answer = if fault == Fault::NoAnswer {
            Vec::new()
        } else if fault == Fault::HugeAnswer {
            vec![0; OUTBLOB_BYTES_MAX + 1]
        } else {
            [b"signed: ", bytes].concat()
        };
        std::fs::write(entry.join("outblob"), answer)?;
        if self.provider == "sev_guest" {
            let mut certificates = table(&[(VCEK_GUID, b"0vcek")]);
            if fault == Fault::WildTable {
                certificates[16..20].copy_from_slice(&u32::MAX.to_le_bytes());
            }
            std::fs::write(entry.join("auxblob"), certificates)?;
        }
        if self.strikes(Fault::Interference) {
            self.touch(entry);
        }
        if fault == Fault::GenerationGoesBack {
            std::fs::write(entry.join("generation"), "1\n")?;
        }
        if fault == Fault::NoGeneration {
            std::fs::write(entry.join("generation"), "many\n")?;
        }
        Ok(())
    }

    fn remove(&self, entry: &Path) -> io::Result<()> {
        std::fs::remove_dir_all(entry)
    }
}

/// Asks a kernel for evidence, and checks that no entry stays behind.
fn ask(provider: &'static str, fault: Fault) -> Result<PlatformEvidence, EvidenceError> {
    let folder = tempfile::tempdir().unwrap();
    let kernel = Kernel::new(provider, fault);
    let tsm = ConfigfsTsm::open_with(folder.path().to_owned(), &kernel);
    let evidence = tsm.and_then(|tsm| tsm.evidence_with([7; 64], &kernel));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "{provider}, {fault:?}: an entry stays behind");
    evidence
}

fn signed() -> Vec<u8> {
    [&b"signed: "[..], &[7; 64]].concat()
}

#[test]
fn tdx_gives_a_quote_and_snp_a_report_with_certificates() {
    assert_eq!(ask("tdx_guest", Fault::None).unwrap(), PlatformEvidence::Tdx { quote: signed() });
    let expected = PlatformEvidence::SevSnp { report: signed(), certificates: vec![b"0vcek".to_vec()] };
    assert_eq!(ask("sev_guest", Fault::None).unwrap(), expected);
}

#[test]
fn interference_is_tried_again_and_not_for_ever() {
    for times in 1..QUOTE_ATTEMPTS_MAX {
        assert!(ask("tdx_guest", Fault::Interference(times)).is_ok(), "{times} times");
        assert!(ask("tdx_guest", Fault::Busy(times)).is_ok(), "{times} times busy");
    }
    for fault in [Fault::Interference(9), Fault::Busy(9), Fault::GenerationGoesBack] {
        let error = ask("tdx_guest", fault).unwrap_err();
        assert!(error.to_string().contains("interfered"), "{fault:?}: {error}");
    }
}

#[test]
fn a_platform_that_fails_is_said_to() {
    for fault in [Fault::Refuses, Fault::NoAnswer, Fault::HugeAnswer, Fault::NoGeneration] {
        assert!(matches!(ask("tdx_guest", fault), Err(EvidenceError::Platform(_))), "{fault:?}");
    }
}

#[test]
fn a_host_whose_certificate_table_points_elsewhere_is_refused() {
    let error = ask("sev_guest", Fault::WildTable).unwrap_err();
    assert!(error.to_string().contains("points outside"), "{error}");
}

#[test]
fn a_machine_without_configfs_or_with_another_provider_is_no_tee_of_ours() {
    assert!(matches!(ask("arm_cca_guest", Fault::None), Err(EvidenceError::NotATee(_))));
    let missing = ConfigfsTsm::open("/nonexistent/tsm/report").unwrap_err();
    assert!(matches!(missing, EvidenceError::NotATee(_)), "{missing}");
}

#[test]
fn a_plain_folder_is_not_taken_for_configfs() {
    let folder = tempfile::tempdir().unwrap();
    assert!(ConfigfsTsm::open(folder.path()).is_err());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
