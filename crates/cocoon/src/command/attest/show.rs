//! `cocoon attest show`: what a file or a live peer says, in words. Nothing is verified here.

use std::path::Path;

use anyhow::Result;
use cocoon_attest::evidence::event_log::EventLog;
use cocoon_attest::evidence::sgx::SgxQuote;
use cocoon_attest::evidence::snp::SnpReport;
use cocoon_attest::evidence::spdm::{SpdmReport, opaque};
use cocoon_attest::evidence::tdx::TdxQuote;
use cocoon_attest::facts::{Attributes, Measurements};
use cocoon_attest::{Collateral, Document, PlatformEvidence};

use super::artefact::Artefact;
use super::words::{self, Sheet, moment, safe, safe_lines};
use super::{peer, policy};
use crate::limits::ATTEST_EVENTS_SHOWN;
use crate::terminal;

/// Say in words what a file of evidence, or a running proxy, says of itself
///
/// It knows TDX, SGX and SNP evidence and GPU reports, raw or in hexadecimal, event logs (CCEL), policies, collateral,
/// image manifests and the documents of /v1/attestation. What a file says is not verified: `verify` does that.
/// A proxy is asked as a client would ask it; `cocoon attest peer` verifies what it shows.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A file, or the address of a proxy as HOST:PORT
    #[arg(value_name = "FILE|HOST:PORT")]
    what: String,
}

const UNVERIFIED: &str = "nothing of this is verified yet";

/// Carries the command out.
pub(super) fn run(args: &Args) -> Result<()> {
    if !Path::new(&args.what).exists()
        && args.what.contains(':')
        && let Ok(addr) = peer::address(&args.what)
    {
        return peer::show(addr);
    }
    match Artefact::read(Path::new(&args.what))? {
        Artefact::Document(document) => self::document(&document),
        Artefact::Evidence(evidence) => platform(&evidence),
        Artefact::Gpu(report) => gpu(&report),
        Artefact::EventLog(log) => {
            event_log(&log);
            Ok(())
        }
        Artefact::Policy(policy) => {
            policy::tell(&policy);
            Ok(())
        }
        Artefact::Collateral(collateral) => {
            terminal::line(&self::collateral(&collateral));
            Ok(())
        }
        Artefact::Manifest(manifest) => {
            terminal::line(&format!("image manifest, SHA-256 {}", hex::encode(manifest.sha256())));
            terminal::line(&safe_lines(&manifest.encode()));
            Ok(())
        }
    }
}

fn document(document: &Document) -> Result<()> {
    terminal::line(&format!("a saved appraisal of {}, id {}", moment(document.recorded_unix_s()), safe(document.id())));
    terminal::line("\nwhat it says was proved (`cocoon attest verify` checks it):");
    terminal::line(&words::verdict(document.unverified_verdict()).text());
    terminal::line("");
    platform(&document.evidence().platform)
}

/// What CPU evidence says.
pub(super) fn platform(evidence: &PlatformEvidence) -> Result<()> {
    let (title, sheet) = match evidence {
        PlatformEvidence::Tdx { quote } => tdx(quote)?,
        PlatformEvidence::Sgx { quote } => sgx(quote)?,
        PlatformEvidence::SevSnp { report, certificates } => snp(report, certificates.len())?,
        _ => anyhow::bail!("evidence of a kind that this program does not know"),
    };
    terminal::line(&format!("{title}; {UNVERIFIED}"));
    terminal::line(&sheet.text());
    Ok(())
}

fn tdx(quote: &[u8]) -> Result<(String, Sheet)> {
    let TdxQuote { version, report, .. } = TdxQuote::parse(quote)?;
    let mut sheet = Sheet::default();
    let attributes = Attributes::Tdx {
        td_attributes: report.td_attributes,
        xfam: report.xfam,
        seam_attributes: report.seam_attributes,
    };
    words::attributes(&mut sheet, &attributes);
    sheet.bytes("TEE TCB SVN", &report.tee_tcb_svn);
    if let Some(now) = report.tee_tcb_svn_now {
        sheet.bytes("TEE TCB SVN now", &now);
    }
    sheet.bytes("report data", &report.report_data);
    words::measurements(&mut sheet, &Measurements::Tdx(Box::new(report.measurements)));
    Ok((format!("an Intel TDX quote, version {version}, {} bytes", quote.len()), sheet))
}

fn sgx(quote: &[u8]) -> Result<(String, Sheet)> {
    let report = SgxQuote::parse(quote)?.report;
    let mut sheet = Sheet::default();
    words::attributes(&mut sheet, &Attributes::Sgx { flags: report.flags, xfrm: report.xfrm });
    sheet.bytes("CPU SVN", &report.cpu_svn).bytes("report data", &report.report_data);
    words::measurements(&mut sheet, &Measurements::Sgx(report.measurements));
    Ok((format!("an Intel SGX quote, version 3, {} bytes", quote.len()), sheet))
}

fn snp(report: &[u8], certificates: usize) -> Result<(String, Sheet)> {
    let report = SnpReport::parse(report)?;
    let mut sheet = Sheet::default();
    let SnpReport { policy, platform_info, vmpl, .. } = report;
    words::attributes(&mut sheet, &Attributes::SevSnp { policy, platform_info, vmpl });
    sheet
        .bytes("chip", &report.chip_id)
        .row("reported TCB", format!("{:#018x}", report.reported_tcb))
        .bytes("report data", &report.report_data)
        .row("certificates", format!("{certificates} came with it"));
    words::measurements(&mut sheet, &Measurements::SevSnp(Box::new(report.measurements.clone())));
    Ok((format!("an AMD SEV-SNP report, version {}", report.version), sheet))
}

fn gpu(bytes: &[u8]) -> Result<()> {
    let report = SpdmReport::parse(bytes)?;
    let text = |id| {
        let bytes = report.opaque(id).unwrap_or_default();
        String::from_utf8_lossy(bytes).trim_end_matches('\0').to_owned()
    };
    let mut sheet = Sheet::default();
    sheet
        .row("driver", text(opaque::DRIVER_VERSION))
        .bytes("VBIOS", report.opaque(opaque::VBIOS_VERSION).unwrap_or_default())
        .row("project", format!("{} {}", text(opaque::PROJECT), text(opaque::PROJECT_SKU)))
        .row("chip", text(opaque::CHIP_SKU))
        .bytes("nonce asked", &report.request_nonce)
        .bytes("nonce answered", &report.response_nonce)
        .bytes("firmware id", report.opaque(opaque::FWID).unwrap_or_default());
    for measurement in &report.measurements {
        sheet.bytes(&format!("measurement {}", measurement.index), measurement.value);
    }
    terminal::line(&format!("an NVIDIA GPU report (SPDM 1.1), {} bytes; {UNVERIFIED}", bytes.len()));
    terminal::line(&sheet.text());
    Ok(())
}

fn event_log(log: &EventLog) {
    let mut sheet = Sheet::default();
    for (index, register) in log.replay().iter().enumerate() {
        sheet.bytes(&format!("RTMR{index}"), register);
    }
    for event in log.all().iter().take(ATTEST_EVENTS_SHOWN) {
        let register = event.register.map_or_else(|| "-".to_owned(), |register| format!("RTMR{register}"));
        let kind = event.kind_name().map_or_else(|| format!("{:#x}", event.kind), str::to_owned);
        sheet.row(&format!("{register} {kind}"), printable(&event.data));
    }
    let left = log.all().len().saturating_sub(ATTEST_EVENTS_SHOWN);
    terminal::line(&format!(
        "an event log of {} events, which replay to these registers; only a quote with the same ones proves it",
        log.all().len()
    ));
    terminal::line(&sheet.text());
    if left > 0 {
        terminal::line(&format!("  and {left} more"));
    }
}

/// Data that reads as text, as text; else its digits.
fn printable(data: &[u8]) -> String {
    match std::str::from_utf8(data) {
        Ok(text) if text.chars().all(|character| !character.is_control()) => text.to_owned(),
        _ => hex::encode(data),
    }
}

fn collateral(collateral: &Collateral) -> String {
    match collateral {
        Collateral::Intel(intel) => format!(
            "Intel's collateral: TCB info of {} bytes, QE identity of {} bytes, revocation lists of {} and {} bytes; {UNVERIFIED}",
            intel.tcb_info.len(),
            intel.qe_identity.len(),
            intel.root_ca_crl.len(),
            intel.pck_crl.len(),
        ),
        Collateral::Amd(amd) => format!(
            "AMD's collateral: {} leaf, chain of {} bytes, {} revocation list; {UNVERIFIED}",
            if amd.leaf.is_some() { "a" } else { "no" },
            amd.chain.len(),
            if amd.crl.is_some() { "a" } else { "no" },
        ),
        _ => "collateral of a vendor that this program does not know".to_owned(),
    }
}
