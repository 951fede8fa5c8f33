//! All `unsafe` of the workspace: two ioctls of `/dev/sev-guest` and the calls into NVIDIA's management library.
//!
//! Nothing here judges, retries or allocates by what it is told: structures of fixed size go in and come out. What the
//! bytes mean is the business of [`attester`](crate::attester), which is safe code.

#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "an ioctl takes addresses")]
pub(crate) mod ioctl;
#[expect(unsafe_code, reason = "a shared library is called through its C interface")]
pub(crate) mod nvml;
