//! `cocoon attest quote`: evidence of this machine, for looking at or for showing to somebody.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use cocoon_attest::{Attester, PlatformEvidence};

use super::show;
#[cfg(feature = "dev")]
use crate::attestation::simulated;
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
    let attester = args.attester()?;
    let evidence = runtime::build(1)?.block_on(attester.evidence(args.report_data.0))?;
    let raw = match &evidence.platform {
        PlatformEvidence::Tdx { quote } | PlatformEvidence::Sgx { quote } => quote,
        PlatformEvidence::SevSnp { report, .. } => report,
        _ => bail!("evidence of a kind that this program does not know"),
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
    /// What is asked. A simulated platform is asked where it is, and never made for the question: the evidence of a new
    /// one is evidence that nobody's policy accepts.
    #[cfg(feature = "dev")]
    fn attester(&self) -> Result<Arc<dyn Attester>> {
        let Some(folder) = &self.insecure_simulated_tee else {
            return attestation::attester(&EvidenceFrom::Machine(OnMachine::default())).context(
                "this machine shows no evidence: run this in a TEE, or, for development, ask a simulated platform with \
                 --insecure-simulated-tee DIR",
            );
        };
        if !simulated::is_there(folder) {
            bail!(
                "{} holds no simulated platform: `cocoon up` makes one as `simulated-tee` in its data folder, and a role \
                 makes one where `insecure_simulated_tee` under [attestation] says",
                folder.display()
            );
        }
        attestation::attester(&EvidenceFrom::InsecureSimulated(folder.clone()))
    }

    #[cfg(not(feature = "dev"))]
    fn attester(&self) -> Result<Arc<dyn Attester>> {
        attestation::attester(&EvidenceFrom::Machine(OnMachine::default()))
            .context("this machine shows no evidence: run this in a TEE")
    }

    #[cfg(feature = "dev")]
    const fn is_simulated(&self) -> bool {
        self.insecure_simulated_tee.is_some()
    }

    #[cfg(not(feature = "dev"))]
    #[expect(clippy::unused_self, reason = "the other build looks at it")]
    const fn is_simulated(&self) -> bool {
        false
    }
}
