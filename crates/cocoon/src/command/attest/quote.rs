//! `cocoon attest quote`: evidence of this machine, for looking at or for showing to somebody.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use cocoon_attest::PlatformEvidence;

use super::show;
use crate::attestation::{self, EvidenceFrom, OnMachine};
use crate::{runtime, terminal};

/// Ask this machine for evidence
///
/// Prints what it says, and the evidence itself in hexadecimal.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// 64 bytes for the evidence to cover, as hexadecimal digits; fewer are filled up with zeros
    #[arg(long, value_name = "HEX", default_value = "", value_parser = report_data, hide_default_value = true)]
    report_data: ReportData,

    /// Write the evidence to a file, raw, instead of printing it
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,

    /// Ask the simulated platform in this folder, which proves nothing about this machine
    #[cfg(feature = "dev")]
    #[arg(long, value_name = "DIR")]
    insecure_simulated_tee: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy)]
struct ReportData([u8; 64]);

fn report_data(text: &str) -> Result<ReportData, String> {
    let bytes = hex::decode(text).map_err(|error| error.to_string())?;
    let mut data = [0; 64];
    let place = data.get_mut(..bytes.len()).ok_or_else(|| format!("{} bytes; at most 64 fit", bytes.len()))?;
    place.copy_from_slice(&bytes);
    Ok(ReportData(data))
}

/// Carries the command out.
pub(super) fn run(args: &Args) -> Result<()> {
    let attester = attestation::attester(&args.source())?;
    let evidence = runtime::build(1)?.block_on(attester.evidence(args.report_data.0))?;
    let raw = match &evidence.platform {
        PlatformEvidence::Tdx { quote } | PlatformEvidence::Sgx { quote } => quote,
        PlatformEvidence::SevSnp { report, .. } => report,
        _ => anyhow::bail!("evidence of a kind that this program does not know"),
    };
    match &args.out {
        Some(path) => {
            std::fs::write(path, raw).with_context(|| format!("cannot write {}", path.display()))?;
            show::platform(&evidence.platform)?;
            terminal::note(&format!("written to {}", path.display()));
        }
        None => {
            show::platform(&evidence.platform)?;
            terminal::line(&hex::encode(raw));
        }
    }
    if args.is_simulated() {
        terminal::note(attestation::PROVES_NOTHING);
    }
    Ok(())
}

impl Args {
    #[cfg(feature = "dev")]
    fn source(&self) -> EvidenceFrom {
        let simulated = self.insecure_simulated_tee.clone().map(EvidenceFrom::InsecureSimulated);
        simulated.unwrap_or_else(|| EvidenceFrom::Machine(OnMachine::default()))
    }

    #[cfg(not(feature = "dev"))]
    fn source(&self) -> EvidenceFrom {
        EvidenceFrom::Machine(OnMachine::default())
    }

    fn is_simulated(&self) -> bool {
        matches!(self.source(), EvidenceFrom::InsecureSimulated(_))
    }
}
