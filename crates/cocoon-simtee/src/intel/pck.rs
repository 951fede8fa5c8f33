//! The SGX extension of PCK certificates (Intel's "SGX PCK Certificate and CRL Profile Specification", section 1.3.5).

use yasna::DERWriter;

use super::{CPU_SVN, FMSPC, PCE_SVN};
use crate::pki::oid;

/// `1.2.840.113741.1.13.1`.
pub(crate) const SGX_EXTENSION: &[u64] = &[1, 2, 840, 113_741, 1, 13, 1];

const PPID: u64 = 1;
const TCB: u64 = 2;
const PCE_ID: u64 = 3;
const FMSPC_ARC: u64 = 4;
const SGX_TYPE: u64 = 5;
const PLATFORM_INSTANCE_ID: u64 = 6;
const CONFIGURATION: u64 = 7;
const TCB_PCE_SVN: u64 = 17;
const TCB_CPU_SVN: u64 = 18;

/// `Scalable with Integrity`, as servers that run TDX have.
const SCALABLE_WITH_INTEGRITY: i64 = 2;

/// Dynamic platform, cached keys, SMT: what real virtual hosts show.
const CONFIGURATION_FLAGS: [(u64, bool); 3] = [(1, true), (2, false), (3, true)];

pub(crate) fn sgx_extension(ppid: &[u8; 16], platform_instance: &[u8; 16]) -> Vec<u8> {
    yasna::construct_der(|writer| {
        writer.write_sequence(|w| {
            entry(w.next(), &[PPID], |w| w.write_bytes(ppid));
            entry(w.next(), &[TCB], write_tcb);
            entry(w.next(), &[PCE_ID], |w| w.write_bytes(&[0, 0]));
            entry(w.next(), &[FMSPC_ARC], |w| w.write_bytes(&FMSPC));
            entry(w.next(), &[SGX_TYPE], |w| w.write_enum(SCALABLE_WITH_INTEGRITY));
            entry(w.next(), &[PLATFORM_INSTANCE_ID], |w| w.write_bytes(platform_instance));
            entry(w.next(), &[CONFIGURATION], |w| {
                w.write_sequence(|w| {
                    for (arc, set) in CONFIGURATION_FLAGS {
                        entry(w.next(), &[CONFIGURATION, arc], |w| w.write_bool(set));
                    }
                });
            });
        });
    })
}

fn write_tcb(writer: DERWriter<'_>) {
    writer.write_sequence(|w| {
        for (arc, svn) in (1..).zip(CPU_SVN) {
            entry(w.next(), &[TCB, arc], |w| w.write_u8(svn));
        }
        entry(w.next(), &[TCB, TCB_PCE_SVN], |w| w.write_u8(PCE_SVN));
        entry(w.next(), &[TCB, TCB_CPU_SVN], |w| w.write_bytes(&CPU_SVN));
    });
}

/// `SEQUENCE { OID, value }`.
fn entry(writer: DERWriter<'_>, arcs: &[u64], value: impl FnOnce(DERWriter<'_>)) {
    writer.write_sequence(|w| {
        w.next().write_oid(&oid(&[SGX_EXTENSION, arcs].concat()));
        value(w.next());
    });
}
