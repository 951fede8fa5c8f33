//! `cocoon attest policy`: what a policy accepts, in plain sentences; and one to begin with.

use std::path::PathBuf;

use anyhow::Result;
use clap::Subcommand;
use cocoon_attest::Policy;

use super::words::safe;
use crate::{attestation, terminal};

/// Check a policy, or print one to begin with
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Say in plain sentences what a policy accepts; fails if it is none
    Check {
        /// The policy, in TOML
        file: PathBuf,
    },
    /// Print a policy for real hardware, with comments; its images and models are those of the root contract
    Example,
}

/// Carries the command out.
pub(super) fn run(args: &Args) -> Result<()> {
    match &args.action {
        Action::Check { file } => {
            tell(&attestation::read_policy(file)?);
            Ok(())
        }
        Action::Example => {
            terminal::line(Policy::production_template().trim_end());
            Ok(())
        }
    }
}

/// Which policy it is.
pub(super) fn title(policy: &Policy) -> String {
    format!("policy {:?}, SHA-256 {}", safe(policy.name()), hex::encode(policy.sha256()))
}

/// Says what a policy accepts.
pub(super) fn tell(policy: &Policy) {
    terminal::line(&title(policy));
    for sentence in policy.explain() {
        terminal::line(&format!("  {}", safe(&sentence)));
    }
}
