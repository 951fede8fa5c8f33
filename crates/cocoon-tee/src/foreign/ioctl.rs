//! The ioctls of `/dev/sev-guest`, as in Linux's `include/uapi/linux/sev-guest.h`.
//!
//! Written here rather than taken from the `sev` crate: that one follows offsets of the certificate table with raw
//! pointers, and the table is written by the host, which is whom we defend against.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;

use zeroize::Zeroize;

use crate::limits::CERTIFICATE_TABLE_BYTES_MAX;

/// `struct snp_report_req`.
#[repr(C)]
struct ReportRequest {
    user_data: [u8; 64],
    vmpl: u32,
    reserved: [u8; 28],
}

/// `struct snp_ext_report_req`.
#[repr(C)]
struct ExtendedReportRequest {
    data: ReportRequest,
    certs_address: u64,
    certs_len: u32,
}

/// `struct snp_derived_key_req`.
#[repr(C)]
struct DerivedKeyRequest {
    root_key_select: u32,
    reserved: u32,
    guest_field_select: u64,
    vmpl: u32,
    guest_svn: u32,
    tcb_version: u64,
}

/// `struct snp_guest_request_ioctl`.
#[repr(C)]
struct GuestRequest {
    msg_version: u8,
    req_data: u64,
    resp_data: u64,
    exitinfo2: u64,
}

/// Bytes of `struct snp_report_resp`.
pub(crate) const REPORT_RESPONSE_BYTES: usize = 4000;
/// Bytes of `struct snp_derived_key_resp`.
pub(crate) const DERIVED_KEY_RESPONSE_BYTES: usize = 64;

const _: () = assert!(size_of::<ReportRequest>() == 96);
const _: () = assert!(size_of::<ExtendedReportRequest>() == 112);
const _: () = assert!(size_of::<DerivedKeyRequest>() == 32);
const _: () = assert!(size_of::<GuestRequest>() == 32);

/// `_IOWR('S', 1, struct snp_guest_request_ioctl)`.
const SNP_GET_DERIVED_KEY: u32 = 0xc020_5301;
/// `_IOWR('S', 2, struct snp_guest_request_ioctl)`.
const SNP_GET_EXT_REPORT: u32 = 0xc020_5302;

/// The version of the messages that every firmware understands.
const MSG_VERSION: u8 = 1;

/// Asks for a report and the host's certificate table. The first buffer is a `struct snp_report_resp`, the second the
/// table, followed by zeros.
pub(crate) fn extended_report(
    device: &File,
    report_data: [u8; 64],
) -> io::Result<(Box<[u8; REPORT_RESPONSE_BYTES]>, Vec<u8>)> {
    let mut response = Box::new([0u8; REPORT_RESPONSE_BYTES]);
    let mut table = vec![0u8; CERTIFICATE_TABLE_BYTES_MAX];
    let request = ExtendedReportRequest {
        data: ReportRequest { user_data: report_data, vmpl: 0, reserved: [0; 28] },
        certs_address: table.as_mut_ptr() as u64,
        certs_len: u32::try_from(table.len()).map_err(io::Error::other)?,
    };
    // SAFETY: `request` is the structure that this ioctl reads, and what it points to, `table`, is writable for
    // `certs_len` bytes and not touched while the call lasts. `response` has the size that the kernel writes.
    unsafe { call(device, SNP_GET_EXT_REPORT, (&raw const request).cast(), response.as_mut_ptr())? };
    Ok((response, table))
}

/// Asks for a key that is bound to the fields that `guest_field_select` names.
pub(crate) fn derived_key(device: &File, guest_field_select: u64) -> io::Result<[u8; DERIVED_KEY_RESPONSE_BYTES]> {
    let mut response = [0u8; DERIVED_KEY_RESPONSE_BYTES];
    let request = DerivedKeyRequest {
        root_key_select: 0,
        reserved: 0,
        guest_field_select,
        vmpl: 0,
        guest_svn: 0,
        tcb_version: 0,
    };
    // SAFETY: `request` is the structure that this ioctl reads, and `response` has the size that the kernel writes.
    let asked = unsafe { call(device, SNP_GET_DERIVED_KEY, (&raw const request).cast(), response.as_mut_ptr()) };
    if let Err(error) = asked {
        response.zeroize();
        return Err(error);
    }
    Ok(response)
}

/// One guest request.
///
/// # Safety
/// `request` must point to the structure that `number` reads, and everything that structure points to must be valid for
/// what it says; `response` must be writable for the size of the structure that `number` writes.
unsafe fn call(device: &File, number: u32, request: *const u8, response: *mut u8) -> io::Result<()> {
    let mut guest_request =
        GuestRequest { msg_version: MSG_VERSION, req_data: request as u64, resp_data: response as u64, exitinfo2: 0 };
    // SAFETY: the descriptor is open as long as `device` is borrowed; `guest_request` is the structure of this ioctl,
    // and the caller answers for what it points to. Another device would refuse the number.
    let status = unsafe { libc::ioctl(device.as_raw_fd(), libc::Ioctl::from(number), &raw mut guest_request) };
    if status == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    let (vmm, firmware) = (guest_request.exitinfo2 >> 32, guest_request.exitinfo2 & 0xffff_ffff);
    Err(io::Error::new(error.kind(), format!("{error} (host's code {vmm}, firmware's code {firmware:#x})")))
}
