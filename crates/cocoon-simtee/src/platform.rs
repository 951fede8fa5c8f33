//! A simulated platform: its keys, its switches, and the guests and services it has.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use cocoon_attest::collateral::{Collateral, CollateralNeed, PckCa};
use cocoon_attest::facts::RootId;
use cocoon_attest::provider::{CollateralError, CollateralSource};
use sha2::{Digest as _, Sha384};

use crate::amd::{self, Amd, AmdRootKeys, SimSnp};
use crate::clock::SimClock;
use crate::faults::{FaultSwitches, Faults};
use crate::gpu::Nvidia;
use crate::image::SimImage;
use crate::intel::{FMSPC, Intel, collateral};
use crate::issuing::Window;
use crate::seed::Seed;
use crate::state::{State, StateError, cached_root_keys};
use crate::td::{SimTd, TdOptions};
use crate::td_report::{self, TD_REPORT_BYTES};

/// A simulated platform. Clones are the same platform, and so are platforms opened from the same directory.
#[derive(Debug, Clone)]
pub struct Platform {
    inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) seed: Seed,
    pub(crate) made_unix_s: u64,
    pub(crate) clock: SimClock,
    pub(crate) faults: FaultSwitches,
    pub(crate) intel: Intel,
    /// Where slow keys are kept, for platforms that have a directory.
    directory: Option<PathBuf>,
    amd: OnceLock<Amd>,
    nvidia: OnceLock<Nvidia>,
}

impl Platform {
    /// A new platform that lives as long as this process. `now` is a second or a clock: see [`SimClock`].
    ///
    /// # Panics
    /// When the system has no randomness.
    #[must_use]
    pub fn generate(now: impl Into<SimClock>) -> Self {
        let seed = Seed::random().expect("the system has randomness, or nothing else of it works either");
        let clock = now.into();
        Self::new(State { seed, made_unix_s: clock.unix_s() }, clock, None)
    }

    /// The same platform each time, for tests whose bytes must not change. Nobody's secret.
    #[must_use]
    pub fn from_seed(seed: [u8; 32], now: impl Into<SimClock>) -> Self {
        let clock = now.into();
        Self::new(State { seed: Seed::from_bytes(seed), made_unix_s: clock.unix_s() }, clock, None)
    }

    /// The platform of this directory, made at first use. Any number of processes may open it at once.
    ///
    /// # Errors
    /// When the directory cannot be used, or holds something else.
    pub fn open(directory: impl AsRef<Path>, now: impl Into<SimClock>) -> Result<Self, StateError> {
        let clock = now.into();
        let state = State::open(directory.as_ref(), clock.unix_s())?;
        Ok(Self::new(state, clock, Some(directory.as_ref().to_owned())))
    }

    fn new(state: State, clock: SimClock, directory: Option<PathBuf>) -> Self {
        let State { seed, made_unix_s } = state;
        let intel = Intel::new(&seed, made_unix_s);
        Self {
            inner: Arc::new(Inner {
                seed,
                made_unix_s,
                clock,
                faults: FaultSwitches::default(),
                intel,
                directory,
                amd: OnceLock::new(),
                nvidia: OnceLock::new(),
            }),
        }
    }

    /// The switches.
    #[must_use]
    pub fn faults(&self) -> &FaultSwitches {
        &self.inner.faults
    }

    /// The root of TDX evidence, as DER.
    #[must_use]
    pub fn root_der(&self) -> &[u8] {
        &self.inner.intel.root.certificate.der
    }

    /// The root of TDX evidence, as PEM: what a policy names as `{ simulated = "…" }`.
    #[must_use]
    pub fn root_pem(&self) -> String {
        self.inner.intel.root.certificate.pem()
    }

    /// The root of TDX evidence by its key.
    #[must_use]
    pub fn root_id(&self) -> RootId {
        RootId(
            Sha384::new()
                .chain_update([0x04]) // An uncompressed point.
                .chain_update(self.inner.intel.root.key.raw_point())
                .finalize()
                .into(),
        )
    }

    /// The root of SEV-SNP evidence (ARK), as PEM. The first call makes two RSA keys: see [`Self::snp_guest`].
    #[must_use]
    pub fn amd_root_pem(&self) -> String {
        self.inner.amd().ark.certificate.pem()
    }

    /// The root of GPU evidence, as PEM.
    #[must_use]
    pub fn nvidia_root_pem(&self) -> String {
        self.inner.nvidia().root.certificate.pem()
    }

    /// The number of this platform in verdicts and allow lists.
    #[must_use]
    pub fn ppid(&self) -> [u8; 16] {
        self.inner.intel.ppid
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }

    /// Whether this machine made this TDREPORT: what a sealing enclave asks its processor.
    #[must_use]
    pub fn verify_td_report(&self, report: &[u8; TD_REPORT_BYTES]) -> bool {
        td_report::verify(&self.inner.seed, report)
    }

    /// Starts a TD.
    #[must_use]
    pub fn td(&self, options: impl Into<TdOptions>) -> SimTd {
        SimTd::boot(Arc::clone(&self.inner), options.into())
    }

    /// Launches an SNP guest.
    ///
    /// A platform makes its two RSA keys when it first needs them, which blocks for up to some seconds; one with a
    /// directory keeps them there.
    #[must_use]
    pub fn snp_guest(&self, image: SimImage) -> SimSnp {
        SimSnp::boot(Arc::clone(&self.inner), image)
    }

    /// Its own vendor service, without HTTP.
    #[must_use]
    pub fn collateral_source(&self) -> SimCollateral {
        SimCollateral { inner: Arc::clone(&self.inner) }
    }
}

impl Inner {
    pub(crate) fn faults_and_window(&self) -> (Faults, Window) {
        let faults = self.faults.snapshot();
        let window = Window::at(self.clock.unix_s(), self.made_unix_s, &faults);
        (faults, window)
    }

    pub(crate) fn amd(&self) -> &Amd {
        self.amd.get_or_init(|| {
            let keys = match &self.directory {
                Some(directory) => cached_root_keys(directory, &self.seed),
                None => AmdRootKeys::new(&self.seed),
            };
            Amd::new(&self.seed, keys, self.made_unix_s)
        })
    }

    pub(crate) fn nvidia(&self) -> &Nvidia {
        self.nvidia.get_or_init(|| Nvidia::new(&self.seed, self.made_unix_s))
    }

    /// Endorsements for this platform's own evidence; `None` for all other. The need is from a stranger's evidence, so the
    /// chip is compared before the AMD keys are made.
    fn collateral(&self, need: &CollateralNeed) -> Option<Collateral> {
        let (faults, window) = self.faults_and_window();
        if let CollateralNeed::Intel { fmspc: FMSPC, ca: PckCa::Platform, tee } = need {
            return Some(Collateral::Intel(collateral::collateral(&self.intel, *tee, &faults, window)));
        }
        if let CollateralNeed::Amd { product, chip_id, reported_tcb, vlek: false } = need
            && product == amd::PRODUCT
            && *chip_id == amd::chip_id(&self.seed)
            && *reported_tcb == amd::reported_tcb()
        {
            return Some(self.amd().collateral(&faults, window));
        }
        None
    }
}

/// The vendor services of one platform as a [`CollateralSource`]. Issues anew at each call: nothing is cached.
#[derive(Debug, Clone)]
pub struct SimCollateral {
    inner: Arc<Inner>,
}

#[async_trait]
impl CollateralSource for SimCollateral {
    async fn collateral(&self, need: &CollateralNeed, _now_unix_s: u64) -> Result<Arc<Collateral>, CollateralError> {
        self.inner.collateral(need).map(Arc::new).ok_or_else(|| unknown(need))
    }
}

fn unknown(need: &CollateralNeed) -> CollateralError {
    CollateralError::Service {
        service: "of the simulated platform".to_owned(),
        why: format!("it knows nothing of {need:?}"),
    }
}
