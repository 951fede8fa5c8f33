//! Evidence and verdicts in words, one fact a row.
//!
//! Texts that a stranger wrote go through [`safe`] before a terminal sees them.

use anyhow::anyhow;
use cocoon_attest::facts::{Attributes, Measurements};
use cocoon_attest::{Provenance, Refusal, Verdict};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::limits::ATTEST_TEXT_CHARS;

/// Rows of a label and a text.
#[derive(Debug, Default)]
pub(super) struct Sheet {
    rows: Vec<(String, String)>,
}

impl Sheet {
    /// Adds a row.
    pub(super) fn row(&mut self, label: &str, text: impl AsRef<str>) -> &mut Self {
        self.rows.push((label.to_owned(), safe(text.as_ref())));
        self
    }

    /// Adds bytes in hexadecimal; all zeros say so.
    pub(super) fn bytes(&mut self, label: &str, bytes: &[u8]) -> &mut Self {
        let text = if bytes.iter().all(|byte| *byte == 0) { "zero".to_owned() } else { hex::encode(bytes) };
        self.row(label, text)
    }

    /// The rows, labels lined up.
    pub(super) fn text(&self) -> String {
        let width = self.rows.iter().map(|(label, _)| label.chars().count()).max().unwrap_or(0);
        let lines = self.rows.iter().map(|(label, text)| format!("  {label:<width$}  {text}"));
        lines.collect::<Vec<_>>().join("\n")
    }
}

/// A text that can do nothing to a terminal and does not fill it: control and invisible characters escaped, the rest
/// cut.
pub(super) fn safe(text: &str) -> String {
    let mut out = String::new();
    for (count, character) in text.chars().enumerate() {
        if count == ATTEST_TEXT_CHARS {
            out.push('…');
            break;
        }
        if is_plain(character) {
            out.push(character);
        } else {
            out.extend(character.escape_unicode());
        }
    }
    out
}

/// The same line by line, for texts whose lines are ours or harmless.
pub(super) fn safe_lines(text: &str) -> String {
    text.lines().map(safe).collect::<Vec<_>>().join("\n")
}

/// Letters, digits, signs and blanks: nothing that moves a cursor, hides or turns what stands beside it.
fn is_plain(character: char) -> bool {
    let turns =
        matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    character == ' ' || !(character.is_control() || character.is_whitespace() || turns)
}

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

/// A moment as people and tools read it.
pub(super) fn moment(unix_s: u64) -> String {
    let at = i64::try_from(unix_s).ok().and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    let text = at.and_then(|at| at.format(&Rfc3339).ok());
    text.map_or_else(|| unix_s.to_string(), |text| format!("{text} ({unix_s})"))
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
    fn texts_of_strangers_do_nothing_to_a_terminal() {
        assert_eq!(safe("plain text, ümläut"), "plain text, ümläut");
        assert_eq!(safe("a\u{1b}[31mb\nc\u{202e}"), "a\\u{1b}[31mb\\u{a}c\\u{202e}");
        let long = safe(&"x".repeat(10 * ATTEST_TEXT_CHARS));
        assert_eq!(long.chars().count(), ATTEST_TEXT_CHARS + 1);
    }

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
