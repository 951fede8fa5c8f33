//! NVIDIA's management library by `dlopen`, with the structures of its header `nvml.h`.

use std::ffi::{OsStr, c_int, c_uint, c_void};
use std::fmt;

use libloading::Library;

/// `NVML_SUCCESS`.
pub(crate) const SUCCESS: c_int = 0;

const NONCE_BYTES: usize = 0x20;
const REPORT_BYTES: usize = 0x2000;
const CEC_REPORT_BYTES: usize = 0x1000;
const CERT_CHAIN_BYTES: usize = 0x1000;
const ATTESTATION_CERT_CHAIN_BYTES: usize = 0x1400;

/// `nvmlConfComputeGpuAttestationReport_t`.
#[repr(C)]
pub(crate) struct AttestationReport {
    is_cec_present: c_uint,
    pub(crate) report_size: c_uint,
    cec_size: c_uint,
    nonce: [u8; NONCE_BYTES],
    pub(crate) report: [u8; REPORT_BYTES],
    cec_report: [u8; CEC_REPORT_BYTES],
}

/// `nvmlConfComputeGpuCertificate_t`.
#[repr(C)]
pub(crate) struct Certificate {
    chain_size: c_uint,
    pub(crate) attestation_chain_size: c_uint,
    chain: [u8; CERT_CHAIN_BYTES],
    pub(crate) attestation_chain: [u8; ATTESTATION_CERT_CHAIN_BYTES],
}

/// `nvmlConfComputeSystemState_t`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct SystemState {
    pub(crate) environment: c_uint,
    pub(crate) feature: c_uint,
    pub(crate) dev_tools: c_uint,
}

const _: () = assert!(size_of::<AttestationReport>() == 12 + NONCE_BYTES + REPORT_BYTES + CEC_REPORT_BYTES);
const _: () = assert!(size_of::<Certificate>() == 8 + CERT_CHAIN_BYTES + ATTESTATION_CERT_CHAIN_BYTES);

/// `nvmlDevice_t`: an address that only the library follows.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct Device(*mut c_void);

type Init = unsafe extern "C" fn() -> c_int;
type DeviceCount = unsafe extern "C" fn(*mut c_uint) -> c_int;
type DeviceByIndex = unsafe extern "C" fn(c_uint, *mut Device) -> c_int;
type GetReport = unsafe extern "C" fn(Device, *mut AttestationReport) -> c_int;
type GetCertificate = unsafe extern "C" fn(Device, *mut Certificate) -> c_int;
type GetState = unsafe extern "C" fn(*mut SystemState) -> c_int;

/// Why the library is not there.
#[derive(Debug)]
pub(crate) enum LoadError {
    /// No such library.
    Absent(String),
    /// It lacks a function: a driver older than confidential computing.
    Incomplete(String),
    /// It does not start.
    Init(c_int),
}

/// The library, initialised. NVIDIA documents its functions as thread-safe.
pub(crate) struct Nvml {
    device_count: DeviceCount,
    device_by_index: DeviceByIndex,
    get_report: GetReport,
    get_certificate: GetCertificate,
    get_state: GetState,
    shutdown: Init,
    // The functions above are in it, so it is unloaded last.
    _library: Library,
}

impl Nvml {
    pub(crate) fn load(name: &OsStr) -> Result<Self, LoadError> {
        // SAFETY: loading runs the library's constructors. It is part of the measured image, like this program, and the
        // binary chose its name.
        let library = unsafe { Library::new(name) }.map_err(|error| LoadError::Absent(error.to_string()))?;
        // SAFETY: each type is the function's prototype in nvml.h, which NVIDIA keeps for all versions.
        let (init, nvml) = unsafe {
            let init: Init = symbol(&library, "nvmlInit_v2")?;
            let nvml = Self {
                device_count: symbol(&library, "nvmlDeviceGetCount_v2")?,
                device_by_index: symbol(&library, "nvmlDeviceGetHandleByIndex_v2")?,
                get_report: symbol(&library, "nvmlDeviceGetConfComputeGpuAttestationReport")?,
                get_certificate: symbol(&library, "nvmlDeviceGetConfComputeGpuCertificate")?,
                get_state: symbol(&library, "nvmlSystemGetConfComputeState")?,
                shutdown: symbol(&library, "nvmlShutdown")?,
                _library: library,
            };
            (init, nvml)
        };
        // SAFETY: the library is loaded, and this function has no parameters. Should it fail, dropping `nvml` shuts down
        // what was not started, which the library answers with an error.
        match unsafe { init() } {
            SUCCESS => Ok(nvml),
            code => Err(LoadError::Init(code)),
        }
    }

    pub(crate) fn device_count(&self) -> Result<c_uint, c_int> {
        let mut count = 0;
        // SAFETY: the library is initialised, and `count` is writable.
        checked(unsafe { (self.device_count)(&raw mut count) }).map(|()| count)
    }

    pub(crate) fn state(&self) -> Result<SystemState, c_int> {
        let mut state = SystemState::default();
        // SAFETY: the library is initialised, and `state` is the structure it writes.
        checked(unsafe { (self.get_state)(&raw mut state) }).map(|()| state)
    }

    pub(crate) fn device(&self, index: c_uint) -> Result<Device, c_int> {
        let mut device = Device(std::ptr::null_mut());
        // SAFETY: the library is initialised, and `device` is writable. It checks the index.
        checked(unsafe { (self.device_by_index)(index, &raw mut device) }).map(|()| device)
    }

    pub(crate) fn report(&self, device: Device, nonce: [u8; 32]) -> Result<Box<AttestationReport>, c_int> {
        let mut report = Box::new(AttestationReport {
            is_cec_present: 0,
            report_size: 0,
            cec_size: 0,
            nonce,
            report: [0; REPORT_BYTES],
            cec_report: [0; CEC_REPORT_BYTES],
        });
        // SAFETY: `device` came from this library, and `report` is the structure it reads and writes.
        checked(unsafe { (self.get_report)(device, &raw mut *report) }).map(|()| report)
    }

    pub(crate) fn certificate(&self, device: Device) -> Result<Box<Certificate>, c_int> {
        let mut certificate = Box::new(Certificate {
            chain_size: 0,
            attestation_chain_size: 0,
            chain: [0; CERT_CHAIN_BYTES],
            attestation_chain: [0; ATTESTATION_CERT_CHAIN_BYTES],
        });
        // SAFETY: `device` came from this library, and `certificate` is the structure it writes.
        checked(unsafe { (self.get_certificate)(device, &raw mut *certificate) }).map(|()| certificate)
    }
}

impl Drop for Nvml {
    fn drop(&mut self) {
        // SAFETY: the library is initialised and still loaded; no call is under way, since we are its only user.
        let _ = unsafe { (self.shutdown)() };
    }
}

impl fmt::Debug for Nvml {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nvml").finish_non_exhaustive()
    }
}

/// A function of the library.
///
/// # Safety
/// `T` must be the type of a pointer to the function of this name.
unsafe fn symbol<T: Copy>(library: &Library, name: &str) -> Result<T, LoadError> {
    // SAFETY: the caller answers for the type. The copy lives no longer than the library, which is kept beside it.
    let found = unsafe { library.get::<T>(name.as_bytes()) };
    found.map(|symbol| *symbol).map_err(|_| LoadError::Incomplete(name.to_owned()))
}

fn checked(code: c_int) -> Result<(), c_int> {
    if code == SUCCESS { Ok(()) } else { Err(code) }
}
