//! Evidence and verdicts in words, one fact a row.

use anyhow::anyhow;
use cocoon_attest::facts::{Attributes, Measurements};
use cocoon_attest::{Provenance, Refusal, Verdict};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

pub(super) use crate::words::{Sheet, moment, safe, safe_lines};

/// A refusal as an error of four lines.
pub(super) fn refused(refusal: &Refusal) -> anyhow::Error {
    let Refusal { check, expected, found, remedy } = refusal;
    anyhow!(
        "refused by the {check} check\n  expected    {}\n  found       {}\n  what to do  {}",
        safe(expected),
        safe(found),
        safe(remedy)
    )
}

/// A moment that a person wrote: Unix seconds, or RFC 3339.
pub(super) fn parse_moment(text: &str) -> Result<u64, String> {
    if let Ok(seconds) = text.parse() {
        return Ok(seconds);
    }
    let at = OffsetDateTime::parse(text, &Rfc3339)
        .map_err(|_| "write Unix seconds, or a time like 2026-11-22T10:00:00Z".to_owned())?;
    u64::try_from(at.unix_timestamp()).map_err(|_| "it lies before 1970".to_owned())
}

/// Whose word something rests on.
pub(super) const fn provenance(provenance: Provenance) -> &'static str {
    match provenance {
        Provenance::Vendor => "the vendor's root",
        Provenance::Simulated => "a SIMULATED root: proves nothing about any machine",
    }
}

/// What a verdict says.
pub(super) fn verdict(verdict: &Verdict) -> Sheet {
    let mut sheet = Sheet::default();
    sheet
        .row("rests on", provenance(verdict.provenance))
        .row("root", verdict.root.to_string())
        .row("format", verdict.format.name())
        .row("link profile", &verdict.profile);
    if let Some(role) = verdict.role {
        sheet.row("role", role.name());
    }
    match verdict.image_sha256 {
        Some(hash) => sheet.row("image manifest", hex::encode(hash)),
        None => sheet.row("image manifest", "any: the policy accepts every image"),
    };
    if let Some(status) = verdict.tcb_status {
        sheet.row("patch level", format!("{status:?}"));
    }
    if !verdict.advisories.is_empty() {
        sheet.row("advisories", verdict.advisories.join(", "));
    }
    sheet.row("platform", &verdict.platform);
    if let Some(claims) = &verdict.claims {
        sheet
            .bytes("instance", &claims.instance)
            .bytes("TLS key", &claims.keys.tls)
            .bytes("payment key", &claims.keys.payment);
        if let Some(model) = &claims.model {
            sheet.row("model", model);
        }
        if let Some(contract) = &claims.contract {
            sheet.row("contract", contract);
        }
    }
    for gpu in &verdict.gpus {
        let compared = if gpu.reference_values { "compared with" } else { "not compared with" };
        sheet.row(
            "GPU",
            format!(
                "{}, driver {}, VBIOS {}, confidential computing {}, {compared} reference values, {}",
                gpu.architecture,
                gpu.driver_version,
                gpu.vbios_version,
                gpu.cc_mode.map_or("not told", cc_mode),
                provenance(gpu.provenance),
            ),
        );
    }
    sheet
        .bytes("policy", &verdict.policy_sha256)
        .row("appraised", moment(verdict.appraised_unix_s))
        .row("good until", moment(verdict.valid_until_unix_s));
    sheet
}

const fn cc_mode(mode: cocoon_attest::facts::CcMode) -> &'static str {
    use cocoon_attest::facts::CcMode;

    match mode {
        CcMode::On => "on",
        CcMode::DevTools => "in DevTools mode, which protects nothing",
        CcMode::Off => "off",
    }
}

/// What was measured.
pub(super) fn measurements(sheet: &mut Sheet, measurements: &Measurements) {
    match measurements {
        Measurements::Tdx(tdx) => {
            sheet.bytes("MRTD", &tdx.mr_td);
            for (index, register) in tdx.rtmr.iter().enumerate() {
                sheet.bytes(&format!("RTMR{index}"), register);
            }
            sheet
                .bytes("MRCONFIGID", &tdx.mr_config_id)
                .bytes("MROWNER", &tdx.mr_owner)
                .bytes("MROWNERCONFIG", &tdx.mr_owner_config)
                .bytes("MRSEAM", &tdx.mr_seam)
                .bytes("MRSIGNERSEAM", &tdx.mr_signer_seam)
                .bytes("MRSERVICETD", &tdx.mr_service_td);
        }
        Measurements::Sgx(sgx) => {
            sheet
                .bytes("MRENCLAVE", &sgx.mr_enclave)
                .bytes("MRSIGNER", &sgx.mr_signer)
                .row("product", format!("{}, security version {}", sgx.isv_prod_id, sgx.isv_svn));
        }
        Measurements::SevSnp(snp) => {
            sheet
                .bytes("launch", &snp.measurement)
                .bytes("host data", &snp.host_data)
                .bytes("id key", &snp.id_key_digest)
                .bytes("author key", &snp.author_key_digest)
                .bytes("family", &snp.family_id)
                .bytes("image", &snp.image_id)
                .row("guest SVN", snp.guest_svn.to_string());
        }
        _ => {
            sheet.row("measurements", "of a kind that this program does not know");
        }
    }
}

/// How the VM or enclave is configured, with what of it gives its memory away.
pub(super) fn attributes(sheet: &mut Sheet, attributes: &Attributes) {
    match *attributes {
        Attributes::Tdx { td_attributes, xfam, seam_attributes } => {
            let names = [
                (0, "DEBUG: the host reads its memory"),
                (27, "LASS"),
                (28, "SEPT_VE_DISABLE"),
                (29, "MIGRATABLE"),
                (30, "PKS"),
                (31, "KL"),
                (63, "PERFMON"),
            ];
            sheet
                .row("attributes", flags(td_attributes, &names))
                .row("XFAM", format!("{xfam:#x}"))
                .row("SEAM attributes", format!("{seam_attributes:#x}"));
        }
        Attributes::Sgx { flags: bits, xfrm } => {
            let names = [
                (0, "INIT"),
                (1, "DEBUG: the host reads its memory"),
                (2, "64 bit"),
                (4, "PROVISION_KEY"),
                (5, "EINITTOKEN_KEY"),
            ];
            sheet.row("attributes", flags(bits, &names)).row("XFRM", format!("{xfrm:#x}"));
        }
        Attributes::SevSnp { policy, platform_info, vmpl } => {
            let names = [
                (16, "SMT allowed"),
                (18, "MIGRATE_MA"),
                (19, "DEBUG: the host reads its memory"),
                (20, "SINGLE_SOCKET"),
            ];
            sheet
                .row("guest policy", flags(policy, &names))
                .row("platform info", flags(platform_info, &[(0, "SMT on"), (1, "TSME on")]))
                .row("VMPL", vmpl.to_string());
        }
        _ => {
            sheet.row("attributes", "of a kind that this program does not know");
        }
    }
}

fn flags(bits: u64, names: &[(u32, &str)]) -> String {
    let set: Vec<_> = names.iter().filter(|(bit, _)| bits >> bit & 1 == 1).map(|(_, name)| *name).collect();
    if set.is_empty() { format!("{bits:#x}") } else { format!("{bits:#x}: {}", set.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_back() {
        assert_eq!(moment(1_795_335_274), "2026-11-22T08:14:34Z (1795335274)");
        assert_eq!(parse_moment("2026-11-22T08:14:34Z"), Ok(1_795_335_274));
        assert_eq!(parse_moment("1795335274"), Ok(1_795_335_274));
        assert!(parse_moment("yesterday").is_err());
    }

    #[test]
    fn dangerous_bits_are_named() {
        assert_eq!(flags(0x1000_0001, &[(0, "DEBUG"), (28, "SEPT_VE_DISABLE")]), "0x10000001: DEBUG, SEPT_VE_DISABLE");
        assert_eq!(flags(0x4, &[(0, "DEBUG")]), "0x4");
    }
}
