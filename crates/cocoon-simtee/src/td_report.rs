//! Local reports: what the TDX module tells about a TD to somebody on the same machine, authenticated by a MAC that only
//! the machine can make.
//!
//! A TDREPORT is 1024 bytes: REPORTMACSTRUCT (256), TEE_TCB_INFO (239), reserved (17), TDINFO (512). The MAC covers
//! the first part, which holds the hashes of the others (Intel TDX Module ABI specification, TDREPORT_STRUCT).

use hmac::{Hmac, Mac as _};
use sha2::{Digest as _, Sha256, Sha384};
use subtle::ConstantTimeEq as _;

use crate::intel::quote::{QuoteVersion, TdReport};
use crate::intel::{CPU_SVN, TEE_TCB_SVN};
use crate::seed::Seed;

/// Bytes of a TDREPORT.
pub const TD_REPORT_BYTES: usize = 1024;

const MAC_STRUCT: usize = 256;
const MACED: usize = 224;
const TCB_INFO: usize = 239;
const TD_INFO_AT: usize = 512;
/// What the body of a quote has of TEE_TCB_INFO: TEE_TCB_SVN, MRSEAM, MRSIGNERSEAM, SEAMATTRIBUTES.
const BODY_TCB_INFO: usize = 16 + 48 + 48 + 8;
const BODY_TD_INFO_END: usize = 520;
/// TDX, subtype 0, version 0: no service TD is bound.
const REPORT_TYPE: [u8; 4] = [0x81, 0, 0, 0];

/// A TDREPORT with its MAC.
pub(crate) fn issue(seed: &Seed, report: &TdReport) -> [u8; TD_REPORT_BYTES] {
    let body = report.body(QuoteVersion::V4);
    let part = |from: usize, to: usize| body.get(from..to).unwrap_or_default();
    let mut tcb_info = [0xff, 0x01, 0, 0, 0, 0, 0, 0].to_vec(); // VALID: TEE_TCB_SVN to ATTRIBUTES.
    tcb_info.extend_from_slice(part(0, BODY_TCB_INFO));
    tcb_info.resize(TCB_INFO, 0);
    debug_assert_eq!(part(0, 16), TEE_TCB_SVN, "the body of a quote begins with TEE_TCB_SVN");
    let mut td_info = part(BODY_TCB_INFO, BODY_TD_INFO_END).to_vec();
    td_info.resize(TD_REPORT_BYTES - TD_INFO_AT, 0);

    let mut bytes = Vec::with_capacity(TD_REPORT_BYTES);
    bytes.extend_from_slice(&REPORT_TYPE);
    bytes.extend_from_slice(&[0; 12]);
    bytes.extend_from_slice(&CPU_SVN);
    bytes.extend_from_slice(&Sha384::digest(&tcb_info));
    bytes.extend_from_slice(&Sha384::digest(&td_info));
    bytes.extend_from_slice(&report.report_data);
    bytes.resize(MACED, 0);
    let mac = mac(seed, &bytes);
    bytes.extend_from_slice(&mac);
    bytes.extend_from_slice(&tcb_info);
    bytes.resize(TD_INFO_AT, 0);
    bytes.extend_from_slice(&td_info);
    bytes.try_into().expect("256, 239 and 17, and 512 bytes make 1024")
}

/// Whether a report was made on this machine, and by it.
pub(crate) fn verify(seed: &Seed, report: &[u8; TD_REPORT_BYTES]) -> bool {
    let part = |from: usize, to: usize| report.get(from..to).unwrap_or_default();
    let mac_fits = mac(seed, part(0, MACED)).ct_eq(part(MACED, MAC_STRUCT));
    let tcb_info_fits = Sha384::digest(part(MAC_STRUCT, MAC_STRUCT + TCB_INFO)).ct_eq(part(32, 80));
    let td_info_fits = Sha384::digest(part(TD_INFO_AT, TD_REPORT_BYTES)).ct_eq(part(80, 128));
    (mac_fits & tcb_info_fits & td_info_fits).into()
}

fn mac(seed: &Seed, bytes: &[u8]) -> [u8; 32] {
    let key = seed.derive::<32>("td report mac");
    let mac = Hmac::<Sha256>::new_from_slice(key.as_slice()).expect("HMAC takes keys of any length");
    mac.chain_update(bytes).finalize().into_bytes().into()
}
